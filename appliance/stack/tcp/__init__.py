"""TCP of RFC 9293: one connection's state, what a segment does to it, what it sends, and when."""

__all__: list[str] = []
