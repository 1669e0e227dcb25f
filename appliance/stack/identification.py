"""Identifications for datagrams that may be cut into fragments.

Source:     RFC 6864 §4.3: not one value twice within a datagram's lifetime, for one source, destination and
            protocol; §4.1: an atomic datagram (DF, whole) may carry any.
Units:      microseconds.
Invariants: a value that `take` returned does not come again within LIFETIME_US, whatever the destination.

One counter serves all destinations, which is stricter than the RFC and needs no table. The counter goes
through a keyed permutation of the 16-bit numbers: still no repetition before all of them were used, but
nobody can count our datagrams by looking at two of them (RFC 7739 says why they should not).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.stack.timebase import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXHAUSTED", "LIFETIME_US", "Identifications"]

LIFETIME_US: Final = 120 * SECOND  # the MDL that RFC 6864 §4.3 reckons with
EXHAUSTED: Final = -1
_BLOCK: Final = 1024
_BLOCKS: Final = 64
_ROUNDS: Final = 4


class Identifications:
    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._tables: bytes = random_bytes(256 * _ROUNDS)
        self._next: i64 = 0
        # When the last value of each block was given out: the block is free again LIFETIME_US later.
        self._spent_at: list[int] = [-LIFETIME_US] * _BLOCKS

    def take(self, now: i64) -> i64:
        """A value for a datagram that may be fragmented; EXHAUSTED when all are still in use."""
        position = self._next
        block = position // _BLOCK
        if position % _BLOCK == 0 and now - self._spent_at[block] < LIFETIME_US:
            return EXHAUSTED
        if position % _BLOCK == _BLOCK - 1:
            self._spent_at[block] = now
        self._next = (position + 1) & 0xFFFF
        return self._permute(position)

    def _permute(self, value: i64) -> i64:
        """A Feistel network over two bytes: a bijection, whatever the tables hold."""
        tables = self._tables
        left = value >> 8
        right = value & 0xFF
        base: i64 = 0
        while base < 256 * _ROUNDS:
            mixed: i64 = tables[base + right]
            left, right = right, left ^ mixed
            base += 256
        return (left << 8) | right
