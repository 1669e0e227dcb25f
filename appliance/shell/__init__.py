"""The trio side: links, the pump, streams, the Redis service, the control socket, captures, assembly.

Nothing below this package knows trio, sockets or clocks; nothing in it decides protocol questions.
"""

__all__: list[str] = []
