"""The arithmetic of INCRBYFLOAT: C's long double of x86-64, so that digits agree with the server's.

An x87 extended number has 64 bits of significand and 15 of exponent. Here it is an exact Fraction rounded
to that after every operation; text is `%.17Lf` with trailing zeros dropped, which is how the server prints
it.

Source:     IEEE 754 round-half-even; strtold(3) for what is accepted (decimal and hexadecimal, `inf`).
Invariants: `LongDouble.value` has at most 64 significant bits.
Errors:     ValueError for a text that is no number, or out of range.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_PRECISION: Final = 64
_MAX_EXPONENT: Final = 16384  # the largest value is just below 2**16384
_MIN_EXPONENT: Final = -16445  # of the lowest bit of the smallest denormal
_LONGEST_TEXT: Final = 5 * 1024  # MAX_LONG_DOUBLE_CHARS

_DECIMAL: Final = re.compile(rb"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")
_HEXADECIMAL: Final = re.compile(rb"([+-]?)0[xX]([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?\d+))?")
_INFINITY: Final = re.compile(rb"[+-]?inf(inity)?", re.IGNORECASE)


class LongDouble:
    """A finite extended number, or an infinity."""

    def __init__(self, value: Fraction, is_infinite: bool = False) -> None:
        self.value = value
        self.is_infinite = is_infinite

    def __repr__(self) -> str:
        return "LongDouble(inf)" if self.is_infinite else f"LongDouble({self.text().decode()})"

    def plus(self, other: LongDouble) -> LongDouble:
        if self.is_infinite or other.is_infinite:
            return LongDouble(Fraction(0), True)
        return _rounded(self.value + other.value)

    def times(self, factor: int) -> LongDouble:
        if self.is_infinite:
            return self
        return _rounded(self.value * factor)

    def text(self) -> bytes:
        """Up to 17 decimals, without trailing zeros."""
        scaled = _round_half_even(self.value * 10**17)
        digits = _decimal_text(abs(scaled)).rjust(18, "0")
        whole, decimals = digits[:-17], digits[-17:].rstrip("0")
        shown = whole + "." + decimals if decimals else whole
        return ("-" + shown if scaled < 0 else shown).encode("ascii")


def parse_long_double(text: bytes) -> LongDouble:
    """The number that the whole of `text` spells.

    Raises:
        ValueError: it is no number, not a number (`nan`), or too big or too small for a long double.
    """
    if not 0 < len(text) < _LONGEST_TEXT:
        raise ValueError("not a number")
    if _INFINITY.fullmatch(text):
        return LongDouble(Fraction(0), True)
    match = _HEXADECIMAL.fullmatch(text)
    base, shift = 16, 4
    if match is None:
        match = _DECIMAL.fullmatch(text)
        base, shift = 10, 1
    if match is None:
        raise ValueError("not a number")
    sign, whole, decimals, exponent_text = match.groups()
    digits = whole + (decimals or b"")
    if not digits:
        raise ValueError("not a number")
    mantissa = int(digits, 16) if base == 16 else _decimal_value(digits)
    if mantissa == 0:
        return LongDouble(Fraction(0))
    exponent = int(exponent_text or b"0") if len(exponent_text or b"") < 12 else None
    if exponent is None:
        raise ValueError("out of range")
    exponent -= len(decimals or b"") * shift
    # Bound the power before computing it: an exponent is a few bytes, its power is not.
    if abs(exponent) > 40_000:
        raise ValueError("out of range")
    power = Fraction(2 if base == 16 else 10) ** exponent
    number = _rounded(-mantissa * power if sign == b"-" else mantissa * power)
    if number.is_infinite or number.value == 0:
        raise ValueError("out of range")
    return number


# Python refuses to convert more than 4300 digits at once; a long double has up to 4933, and 17 decimals.
_DIGITS_AT_ONCE: Final = 4000
_CHUNK: Final[int] = 10**_DIGITS_AT_ONCE


def _decimal_text(value: int) -> str:
    high, low = divmod(value, _CHUNK)
    return str(low) if high == 0 else _decimal_text(high) + str(low).rjust(_DIGITS_AT_ONCE, "0")


def _decimal_value(digits: bytes) -> int:
    if len(digits) <= _DIGITS_AT_ONCE:
        return int(digits)
    return _decimal_value(digits[:-_DIGITS_AT_ONCE]) * _CHUNK + int(digits[-_DIGITS_AT_ONCE:])


def _round_half_even(value: Fraction) -> int:
    numerator: int = value.numerator
    denominator: int = value.denominator
    whole = numerator // denominator
    rest = numerator - whole * denominator
    if rest * 2 > denominator or (rest * 2 == denominator and whole % 2 == 1):
        return whole + 1
    return whole


def _rounded(value: Fraction) -> LongDouble:
    """The nearest extended number, ties to even."""
    if value == 0:
        return LongDouble(value)
    magnitude = abs(value)
    # floor(log2): bit lengths give it within one.
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    lowest = max(exponent - _PRECISION + 1, _MIN_EXPONENT)
    unit = Fraction(2) ** lowest
    rounded = _round_half_even(magnitude / unit) * unit
    if rounded >= Fraction(2) ** _MAX_EXPONENT:
        return LongDouble(Fraction(0), True)
    return LongDouble(-rounded if value < 0 else rounded)
