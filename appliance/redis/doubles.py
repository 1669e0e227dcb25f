"""Texts of doubles: what the server accepts as a score, and the digits in which it gives one back.

Reading. A score is what strtod(3) accepts: decimal or hexadecimal, with infinities, without space around it.
The bounds of a range are read by a decimal reader that stops at a NUL, to which nothing at all is zero and a
number too large infinity.

Writing. The server prints a double with Grisu2, which finds the shortest decimal that reads back as the same
double in 999 of 1000 cases and a longer one in the others; so `repr`, which always finds the shortest, will
not do. Grisu2 multiplies the number and the two midpoints to its neighbours by a power of ten kept in 64
bits, then makes digits of the upper midpoint until what is left lies within the interval, which it narrows by
one unit at each end for the error of the product. A 64-bit number is two halves here: compiled integers are
signed.

Source:     F. Loitsch, "Printing floating-point numbers quickly and accurately with integers", PLDI 2010.
            Where fixed notation ends is what comparison with redis-server 8.2 shows.
Invariants: `parse_double(double_text(x)) == x` for every double but a NaN.
Errors:     none; a text that is no number gives a NaN, which no text may spell.
"""

from __future__ import annotations

import re
from typing import Final

from librt.strings import BytesWriter, read_i64_le, write_f64_le
from mypy_extensions import i64

NAN: Final = float("nan")

_ZERO: Final = 48
_NINE: Final = 57
_PLUS: Final = 43
_MINUS: Final = 45
_POINT: Final = 46
_LOWER: Final = 32  # the bit by which a small letter differs from its capital
_E: Final = 101
_X: Final = 120

_LOW_32: Final = 0xFFFF_FFFF
_LOW_28: Final = 0xFFF_FFFF
_LOW_60: Final = (1 << 60) - 1


# Reading ------------------------------------------------------------------------------------------

# As many decimal digits always fit 53 bits; powers of ten up to here are exact.
_EXACT_DIGITS: Final = 15
_EXACT_POWERS: Final[list[float]] = [float(10**k) for k in range(23)]
_EXACT_POWER: Final = 22
_I64_DIGITS: Final = 18

_HEXADECIMAL: Final = re.compile(
    rb"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?\d+)?"
)
_INFINITIES: Final = (b"inf", b"infinity")
# An exponent of more digits is out of every range, whatever the mantissa's length in one request.
_LONGEST_EXPONENT: Final = 11


def parse_double(text: bytes) -> float:
    """The double that the whole of `text` spells, for a score or a weight.

    Returns:
        A NaN when it spells none: also for a number too large, or so small that it became zero.
    """
    value = _decimal(text)
    if value == value:
        if value - value != 0.0:  # an infinity, spelled or by overflow
            return value if text.lstrip(b"+-").lower() in _INFINITIES else NAN
        if value == 0.0 and not _spells_zero(text):
            return NAN
        return value
    if len(text) > 2 and _HEXADECIMAL.fullmatch(text) is not None:
        return _hexadecimal(text)
    return NAN


def parse_bound(text: bytes) -> float:
    """The double before the first NUL, for the bound of a range; nothing is zero.

    Returns:
        A NaN when it is no number.
    """
    at: i64 = text.find(b"\0")
    if at >= 0:
        text = text[:at]
    if len(text) == 0:
        return 0.0
    return _decimal(text)


def _decimal(text: bytes) -> float:
    length: i64 = len(text)
    pos: i64 = 0
    if length == 0:
        return NAN
    first: i64 = text[0]
    negative = first == _MINUS
    if negative or first == _PLUS:
        pos = 1
    mantissa: i64 = 0
    digits: i64 = 0  # seen, with leading zeros
    significant: i64 = 0
    exponent: i64 = 0
    seen_point = False
    byte: i64 = 0
    while pos < length:
        byte = text[pos]
        if _ZERO <= byte <= _NINE:
            digits += 1
            if significant != 0 or byte != _ZERO:
                significant += 1
            if significant <= _I64_DIGITS:
                mantissa = mantissa * 10 + (byte - _ZERO)
            if seen_point:
                exponent -= 1
        elif byte == _POINT and not seen_point:
            seen_point = True
        else:
            break
        pos += 1
    if digits == 0:
        return _infinity(text, pos)
    if pos < length:
        if byte | _LOWER != _E:
            return NAN
        pos += 1
        sign: i64 = 1
        if pos < length:
            byte = text[pos]
            if byte == _MINUS or byte == _PLUS:  # noqa: SIM109 -- `in` makes a tuple of objects when compiled
                pos += 1
                if byte == _MINUS:
                    sign = -1
        if pos == length:
            return NAN
        power: i64 = 0
        while pos < length:
            byte = text[pos]
            if byte < _ZERO or byte > _NINE:
                return NAN
            if power < 1_000_000_000:
                power = power * 10 + (byte - _ZERO)
            pos += 1
        exponent += sign * power
    if significant <= _EXACT_DIGITS and -_EXACT_POWER <= exponent <= _EXACT_POWER:
        # Both are exact, so the quotient or product is rounded once, as it has to be.
        value = float(mantissa)
        if exponent < 0:
            value /= _EXACT_POWERS[-exponent]
        elif exponent > 0:
            value *= _EXACT_POWERS[exponent]
        return -value if negative else value
    if significant <= _I64_DIGITS and exponent == 0:
        value = float(mantissa)
        return -value if negative else value
    return float(text)


def _infinity(text: bytes, pos: i64) -> float:
    if text[pos:].lower() in _INFINITIES:
        return float("-inf") if text[0] == _MINUS else float("inf")
    return NAN


def _spells_zero(text: bytes) -> bool:
    """Whether a decimal or hexadecimal number is zero as written."""
    for byte in text.lstrip(b"+-"):
        if byte | _LOWER == _E:
            return True
        if byte not in b"0.":
            return False
    return True


def _hexadecimal(text: bytes) -> float:
    digits, mark, power = text.lower().partition(b"p")
    if mark and len(power.lstrip(b"+-").lstrip(b"0")) > _LONGEST_EXPONENT:
        return 0.0 if not digits.lstrip(b"+-")[2:].strip(b"0.") else NAN
    try:
        value = float.fromhex(text.decode("ascii"))
    except OverflowError:
        return NAN
    if value == 0.0 and digits.lstrip(b"+-")[2:].strip(b"0."):
        return NAN
    return value


# Writing ------------------------------------------------------------------------------------------

_FRACTION_BITS: Final = 52
_HIDDEN_BIT: Final = 1 << _FRACTION_BITS
_BIAS: Final = 1023 + _FRACTION_BITS
# Up to here the server prints integers with all their digits.
_LARGEST_INTEGER: Final = 4611686018427387904.0  # 2**62

# Powers of ten, each eighth from 10**-348: 64 bits of significand, rounded, and the exponent of the lowest.
_FIRST_POWER: Final = -348
_POWER_STEP: Final = 8
_POWER_COUNT: Final = 87
# Where the binary exponent of a product must lie: its integer part has up to 32 bits.
_LOWEST_EXPONENT: Final = -60
_HIGHEST_EXPONENT: Final = -32
_LOG10_OF_2: Final = 0.30102999566398114


def _scaled_power(power: int) -> tuple[int, int]:
    """10**power as 64 bits of significand, the highest set, and a binary exponent."""
    if power >= 0:
        whole: int = 10**power
        shift = whole.bit_length() - 64
        if shift <= 0:
            return whole << -shift, shift
        return (whole + (1 << (shift - 1))) >> shift, shift
    divisor: int = 10**-power
    shift = divisor.bit_length() + 64
    quotient = (1 << shift) // divisor
    excess = quotient.bit_length() - 64
    return (quotient + (1 << (excess - 1))) >> excess, excess - shift


_POWERS: Final = [_scaled_power(_FIRST_POWER + _POWER_STEP * k) for k in range(_POWER_COUNT)]
_POWER_HIGH: Final[list[int]] = [significand >> 32 for significand, _ in _POWERS]
_POWER_LOW: Final[list[int]] = [significand & _LOW_32 for significand, _ in _POWERS]
_POWER_EXPONENT: Final[list[int]] = [exponent for _, exponent in _POWERS]


_PREBUILT: Final = 1024
_WHOLE: Final[list[bytes]] = [b"%d" % n for n in range(_PREBUILT)]


def double_text(value: float) -> bytes:
    """The text of a double as the server writes it: `3`, `0.1`, `1e+20`, `-0`, `inf`, `nan`."""
    if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        whole: i64 = int(value)
        if float(whole) == value and (whole != 0 or not _is_negative(value)):
            if 0 <= whole < _PREBUILT:
                return _WHOLE[whole]
            return str(whole).encode("ascii")
        if whole == 0 and value == 0.0:
            return b"-0"
    elif value - value != 0.0:
        if value != value:
            return b"nan"
        return b"inf" if value > 0.0 else b"-inf"
    return _grisu2(value)


def shortest_text(value: float) -> bytes:
    """As `double_text`, but whole numbers too have an exponent where that is shorter: `1e+10`."""
    if value == 0.0 or value - value != 0.0:
        return double_text(value)
    return _grisu2(value)


def _is_negative(value: float) -> bool:
    return _bits(value) < 0


def _bits(value: float) -> i64:
    writer = BytesWriter()
    write_f64_le(writer, value)
    return read_i64_le(writer.getvalue(), 0)


def _power_index(exponent: i64) -> i64:
    """Which power of ten brings a number with that exponent of its lowest of 64 bits into the window."""
    decimal: i64 = int(float(-(exponent + _POWER_COUNT)) * _LOG10_OF_2)
    index = (decimal - _FIRST_POWER) // _POWER_STEP
    while True:
        product: i64 = exponent + _POWER_EXPONENT[index] + 64
        if product < _LOWEST_EXPONENT:
            index += 1
        elif product > _HIGHEST_EXPONENT:
            index -= 1
        else:
            return index


def _grisu2(value: float) -> bytes:
    """Digits of a finite double that is not zero."""
    bits = _bits(value)
    negative = bits < 0
    biased = (bits >> _FRACTION_BITS) & 0x7FF
    fraction = bits & (_HIDDEN_BIT - 1)
    if biased == 0:
        return _subnormal(fraction, negative)
    fraction |= _HIDDEN_BIT
    # Of the 64-bit form of the number: fraction << 11.
    exponent = biased - _BIAS - 11
    index = _power_index(exponent)
    high: i64 = _POWER_HIGH[index]
    low: i64 = _POWER_LOW[index]
    point = -(exponent + _POWER_EXPONENT[index] + 64)  # the product's bits behind the binary point

    # Twice the number, with its midpoints at one unit: (2f + 1) << 10 and so on are the 64-bit forms.
    doubled = fraction * 2
    number_high = _product_high(doubled, high, low, 54)
    number_low = _product_low(doubled, high, low, 54)
    upper_high = _product_high(doubled + 1, high, low, 54)
    upper_low = _product_low(doubled + 1, high, low, 54)
    if fraction == _HIDDEN_BIT:  # below a power of two the doubles lie twice as dense
        lower_high = _product_high(doubled * 2 - 1, high, low, 55)
        lower_low = _product_low(doubled * 2 - 1, high, low, 55)
    else:
        lower_high = _product_high(doubled - 1, high, low, 54)
        lower_low = _product_low(doubled - 1, high, low, 54)
    # One unit of safety at each end.
    delta = ((upper_high - lower_high) << 32) + (upper_low - lower_low) - 2
    distance = ((upper_high - number_high) << 32) + (upper_low - number_low) - 1
    upper_low -= 1
    if upper_low < 0:
        upper_low = _LOW_32
        upper_high -= 1

    whole = upper_high >> (point - 32)
    scale: i64 = 1
    scale <<= point  # in two steps: compiled, `1 << point` is a shift of C's int, of 32 bits
    rest = ((upper_high & ((scale >> 32) - 1)) << 32) | upper_low
    digits: i64 = 0
    count: i64 = 0
    kappa: i64 = 0
    unit: i64 = 1
    while unit * 10 <= whole:
        unit *= 10
        kappa += 1
    # The integer part, which is not zero: of 64 bits at most 60 are behind the point.
    while True:
        digit = whole // unit
        digits = digits * 10 + digit
        count += 1
        whole -= digit * unit
        if whole == 0 and rest <= delta:
            # A unit of this digit is larger than the whole interval: there is nothing to round.
            return _notation(digits, count, kappa - (_FIRST_POWER + index * _POWER_STEP), negative)
        if kappa == 0:
            break
        kappa -= 1
        unit //= 10
    # Behind the point: times ten is times five with one bit less behind the point, which keeps 63 bits.
    while True:
        rest *= 5
        delta *= 5
        distance *= 5
        point -= 1
        scale >>= 1
        kappa -= 1
        digits = digits * 10 + (rest >> point)
        count += 1
        rest &= scale - 1
        if rest < delta:
            break
    while (
        rest < distance
        and delta - rest >= scale
        and (rest + scale < distance or distance - rest > rest + scale - distance)
    ):
        digits -= 1
        rest += scale
    return _notation(digits, count, kappa - (_FIRST_POWER + index * _POWER_STEP), negative)


def _product_high(a: i64, high: i64, low: i64, shift: i64) -> i64:
    """Bits from 32 up of (a * power + half a unit) >> shift, for a below 2**56 and shift 54 or 55."""
    a_high = a >> 28
    a_low = a & _LOW_28
    cross = a_high * low
    other = a_low * high
    half: i64 = 1
    half <<= shift - 1
    bottom = a_low * low + ((cross & _LOW_32) << 28) + ((other & _LOW_28) << 32) + half
    top = a_high * high + (cross >> 32) + (other >> 28) + (bottom >> 60)
    return top >> (shift - 28)


def _product_low(a: i64, high: i64, low: i64, shift: i64) -> i64:
    """The 32 bits below those."""
    a_high = a >> 28
    a_low = a & _LOW_28
    cross = a_high * low
    other = a_low * high
    half: i64 = 1
    half <<= shift - 1
    bottom = a_low * low + ((cross & _LOW_32) << 28) + ((other & _LOW_28) << 32) + half
    top = a_high * high + (cross >> 32) + (other >> 28) + (bottom >> 60)
    return ((top << (60 - shift)) & _LOW_32) | ((bottom & _LOW_60) >> shift)


def _subnormal(fraction: int, negative: bool) -> bytes:
    """The same for the few numbers whose interval is wide: with integers of any size."""
    shift = 64 - (fraction * 2 + 1).bit_length()
    exponent = 1 - _BIAS - 1 - shift  # of the 64-bit form of the upper midpoint
    number_shift = 64 - fraction.bit_length()
    index: int = _power_index(exponent)
    significand: int = (int(_POWER_HIGH[index]) << 32) | _POWER_LOW[index]
    point: int = -(exponent + _POWER_EXPONENT[index] + 64)
    half = 1 << 63
    number = ((fraction << number_shift) * significand + half) >> 64
    upper = ((((fraction * 2 + 1) << shift) * significand + half) >> 64) - 1
    lower = ((((fraction * 2 - 1) << shift) * significand + half) >> 64) + 1
    delta = upper - lower
    distance = upper - number
    whole = upper >> point
    rest = upper & ((1 << point) - 1)
    digits = 0
    count = 0
    kappa = len(str(whole))
    while kappa > 0:
        kappa -= 1
        unit: int = 10**kappa
        digits = digits * 10 + whole // unit
        count += 1
        whole %= unit
        left = (whole << point) + rest
        if left <= delta:
            return _rounded(digits, count, kappa, index, negative, delta, left, unit << point, distance)
    while True:
        rest *= 10
        delta *= 10
        distance *= 10
        kappa -= 1
        digits = digits * 10 + (rest >> point)
        count += 1
        rest &= (1 << point) - 1
        if rest < delta:
            return _rounded(digits, count, kappa, index, negative, delta, rest, 1 << point, distance)


def _rounded(
    digits: int,
    count: int,
    kappa: int,
    index: int,
    negative: bool,
    delta: int,
    rest: int,
    unit: int,
    distance: int,
) -> bytes:
    while (
        rest < distance
        and delta - rest >= unit
        and (rest + unit < distance or distance - rest > rest + unit - distance)
    ):
        digits -= 1
        rest += unit
    return _notation(digits, count, kappa - (_FIRST_POWER + index * _POWER_STEP), negative)


def _notation(digits: i64, count: i64, exponent: i64, negative: bool) -> bytes:
    """digits * 10**exponent, `count` digits, in fixed or exponential notation."""
    text = str(digits)
    sign = "-" if negative else ""
    leading = exponent + count - 1  # the power of ten of the first digit
    magnitude = -leading if leading < 0 else leading
    if exponent >= 0 and magnitude < count + 7:
        return (sign + text + "0" * exponent).encode("ascii")
    if exponent < 0 and (exponent > -7 or magnitude < 4):
        whole = count + exponent
        if whole <= 0:
            return (sign + "0." + "0" * -whole + text).encode("ascii")
        return (sign + text[:whole] + "." + text[whole:]).encode("ascii")
    mantissa = text if count == 1 else text[0] + "." + text[1 : 17 if negative else 18]
    return (sign + mantissa + ("e-" if leading < 0 else "e+") + str(magnitude)).encode("ascii")
