"""SLOWLOG: the requests that took longer than `slowlog-log-slower-than`, newest first.

An entry keeps at most 32 arguments of at most 128 bytes; what was left out is said in their place.

Source:     redis-server 8.2.
Units:      microseconds for durations, seconds of Unix time for moments.
Errors:     none.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mypy_extensions import i64

_MOST_ARGUMENTS: Final = 32
_MOST_BYTES: Final = 128


def trimmed(args: list[bytes]) -> list[bytes]:
    """The arguments of a request as an entry keeps them."""
    kept = args
    if len(args) > _MOST_ARGUMENTS:
        kept = args[: _MOST_ARGUMENTS - 1]
    shown: list[bytes] = []
    for argument in kept:
        over = len(argument) - _MOST_BYTES
        # bytes(): the argument may be a piece of a request that is better not kept alive.
        shown.append(bytes(argument) if over <= 0 else argument[:_MOST_BYTES] + b"... (%d more bytes)" % over)
    if len(args) > _MOST_ARGUMENTS:
        shown.append(b"... (%d more arguments)" % (len(args) - _MOST_ARGUMENTS + 1))
    return shown


class SlowRequest:
    """One entry."""

    def __init__(
        self, number: int, now_s: int, took_us: int, args: list[bytes], remote: bytes, name: bytes
    ) -> None:
        self.number = number
        self.now_s = now_s
        self.took_us = took_us
        self.args = trimmed(args)
        self.remote = remote
        self.name = name


class Slowlog:
    """The entries and when a request becomes one."""

    def __init__(self) -> None:
        self.threshold_us: i64 = -1  # negative: none
        self.limit: i64 = 0
        self.entries: deque[SlowRequest] = deque()
        self._next: int = 0

    def configure(self, threshold_us: int, limit: int) -> None:
        self.threshold_us = threshold_us
        self.limit = limit

    def add(self, now_s: int, took_us: int, args: list[bytes], remote: bytes, name: bytes) -> None:
        self.entries.appendleft(SlowRequest(self._next, now_s, took_us, args, remote, name))
        self._next += 1
        # A limit that was made lower takes effect here, as there.
        while len(self.entries) > self.limit:
            self.entries.pop()

    def clear(self) -> None:
        self.entries.clear()
