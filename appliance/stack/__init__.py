"""The host: ARP, IPv4, ICMP and TCP as pure, synchronous code. Frames and a time in; frames, ready
connections and one next deadline out. No I/O, no clock, no trio.
"""

__all__: list[str] = []
