"""A key with its value, and what every key has besides: the time at which it expires, the access clock.

Units:      milliseconds of the wall clock for expiry (int, Unix time); the access clock is 24 bits, seconds
            of Unix time modulo 2**24 as redis-server keeps them (194 days; `idle_s` takes the difference).
            Under an -lfu policy the same bits are a counter of uses (frequency.py).
Errors:     none.
Not here:   the table of entries (hash_table.py), and what becomes of those that expire (keyspace.py).
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

NO_EXPIRY: Final = -1
CLOCK_MASK: Final = 0xFF_FFFF


@mypyc_attr(acyclic=True)
class Entry:
    """One key with its value. Never hold one across commands: the key may have gone, or been packed.

    One that came from `scan`, `entries` or `random_entry` is for reading only: it may be a copy.
    """

    def __init__(self, key: bytes, value: object) -> None:
        self.key = key
        self.value = value
        self.expire_at_ms: i64 = NO_EXPIRY
        self.expire_index: i64 = -1  # place in Database._expiring
        self.access: i64 = 0  # the access clock, or what frequency.py keeps: 24 bits

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {self.value!r})"


PACKED: Final = Entry(b"", None)
"""Stands for an entry that is packed, where what it holds is not asked for."""


def idle_s(now_s: i64, access: i64) -> i64:
    """Seconds since a key was used, from its access clock; right up to 194 days."""
    return (now_s - access) & CLOCK_MASK
