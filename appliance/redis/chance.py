"""Chance for sampling: which key, which member. Not for secrets.

Source:     Marsaglia, Xorshift RNGs (2003): xorshift32.
Errors:     none.
"""

from __future__ import annotations

from mypy_extensions import i64

__all__ = ["Chance"]


class Chance:
    """A sequence of numbers, the same for the same seed.

    Args:
        seed: 1 .. 2**32 - 1; from 0 no number would ever follow but 0.
    """

    def __init__(self, seed: i64) -> None:
        self._state: i64 = seed

    def draw(self) -> i64:
        """A number in 1 .. 2**32 - 1."""
        x = self._state
        x ^= (x << 13) & 0xFFFF_FFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFF_FFFF
        self._state = x
        return x
