"""32-bit sequence number arithmetic: the only place that adds, subtracts or compares them.

Source:     RFC 9293 §3.4. A comparison is right while the two numbers lie less than 2**31 apart.
Invariants: every result lies in 0 .. 2**32 - 1, so compiled (i64) and interpreted (int) agree.
"""

from typing import Final

from mypy_extensions import i64

__all__ = ["MASK", "in_window", "seq_add", "seq_diff", "seq_ge", "seq_gt", "seq_le", "seq_lt", "seq_max"]

MASK: Final = 0xFFFF_FFFF
_HALF: Final = 0x8000_0000


def seq_add(seq: i64, count: i64) -> i64:
    return (seq + count) & MASK


def seq_diff(a: i64, b: i64) -> i64:
    """a - b as a signed number, -2**31 .. 2**31 - 1."""
    return ((a - b + _HALF) & MASK) - _HALF


def seq_lt(a: i64, b: i64) -> bool:
    return ((a - b) & MASK) >= _HALF


def seq_le(a: i64, b: i64) -> bool:
    return ((b - a) & MASK) < _HALF


def seq_gt(a: i64, b: i64) -> bool:
    return ((b - a) & MASK) >= _HALF


def seq_ge(a: i64, b: i64) -> bool:
    return ((a - b) & MASK) < _HALF


def seq_max(a: i64, b: i64) -> i64:
    return b if ((a - b) & MASK) >= _HALF else a


def in_window(seq: i64, first: i64, size: i64) -> bool:
    """Whether first <= seq < first + size."""
    return ((seq - first) & MASK) < size
