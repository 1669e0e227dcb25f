"""Texts of 64-bit integers, read as strictly as the server reads them.

Source:     Redis accepts exactly the text it would print: no sign `+`, no leading zero, no space.
Invariants: `parse_integer(integer_text(n)) == n` for every signed 64-bit n; every other text gives None.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

I64_MIN: Final = -(1 << 63)
I64_MAX: Final = (1 << 63) - 1
U64_MAX: Final = (1 << 64) - 1

_ZERO: Final = 48
_NINE: Final = 57
_MINUS: Final = 45
_LONGEST: Final = 20  # len("-9223372036854775808")


def parse_integer(text: bytes) -> int | None:
    """The signed 64-bit integer that `text` spells canonically, else None."""
    length: i64 = len(text)
    if length == 0 or length > _LONGEST:
        return None
    first: i64 = text[0]
    pos: i64 = 0
    if first == _MINUS:
        if length == 1:
            return None
        pos = 1
        first = text[1]
    if first == _ZERO:
        return 0 if length == 1 else None
    if first < _ZERO or first > _NINE:
        return None
    if length > 18:  # might not fit: let Python's own integers decide
        return _parse_long(text)
    negative = pos == 1
    value: i64 = 0
    while pos < length:
        digit: i64 = text[pos]
        if digit < _ZERO or digit > _NINE:
            return None
        value = value * 10 + (digit - _ZERO)
        pos += 1
    return -value if negative else value


def _parse_long(text: bytes) -> int | None:
    if not text.lstrip(b"-").isdigit() or text.startswith(b"--"):
        return None
    value = int(text)
    return value if I64_MIN <= value <= I64_MAX else None
