"""Reading arguments of commands, with the server's error texts."""

from __future__ import annotations

from math import ceil
from typing import Final

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.integers import I64_MAX, parse_integer
from appliance.redis.longdouble import parse_long_double

# Options that say when a key expires, as bits: SET and GETEX share them.
EX: Final = 1
PX: Final = 2
EXAT: Final = 4
PXAT: Final = 8
KEEPTTL: Final = 16
PERSIST: Final = 32
NX: Final = 64
XX: Final = 128
GET: Final = 256

RELATIVE: Final = EX | PX
SECONDS: Final = EX | EXAT


def c_string(text: bytes) -> bytes:
    """What C's string functions see of it: all before a NUL. So the texts of most errors show an argument."""
    return text.split(b"\0", 1)[0]


def integer_argument(text: bytes) -> int:
    """A signed 64-bit integer.

    Raises:
        CommandError: it is none.
    """
    value = parse_integer(text)
    if value is None:
        raise CommandError(errors.NOT_AN_INTEGER)
    return value


def range_argument(text: bytes, low: int, high: int, message: bytes | None = None) -> int:
    """An integer from low to high.

    Args:
        text: the argument.
        low: the lowest value allowed.
        high: the highest value allowed.
        message: the error for everything else; None: the server's own two.
    """
    value = parse_integer(text)
    if value is None:
        raise CommandError(errors.NOT_AN_INTEGER if message is None else message)
    if not low <= value <= high:
        if message is None:
            message = b"ERR value is out of range, value must between %d and %d" % (low, high)
        raise CommandError(message)
    return value


def positive_argument(text: bytes, message: bytes = errors.NOT_POSITIVE) -> int:
    """An integer from 0 on."""
    return range_argument(text, 0, I64_MAX, message)


def expire_argument(text: bytes, unit: int, now_ms: int, command: bytes) -> int:
    """An expire time that must be positive, as absolute milliseconds.

    Args:
        text: the argument.
        unit: one of EX, PX, EXAT, PXAT.
        now_ms: the time EX and PX count from.
        command: the name for the error text.
    """
    value = integer_argument(text)
    if value <= 0 or (unit & SECONDS and value > I64_MAX // 1000):
        raise CommandError(errors.invalid_expire(command))
    if unit & SECONDS:
        value *= 1000
    if unit & RELATIVE:
        if value > I64_MAX - now_ms:
            raise CommandError(errors.invalid_expire(command))
        value += now_ms
    return value


_TIMEOUT_RANGE: Final = b"ERR timeout is out of range"
_TIMEOUT_NEGATIVE: Final = b"ERR timeout is negative"
# Some 146,000 years: what comes to more is as good as for ever, and stays within 64 bits.
_LONGEST_TIMEOUT_US: Final = 1 << 62


def timeout_argument(text: bytes, now_ms: int) -> int:
    """How long a blocking command may wait, given in seconds and fractions; for `Session.block`.

    Returns:
        Microseconds, a multiple of 1000 as the server counts in milliseconds; 0 for ever.
    """
    whole = parse_integer(text)
    if whole is not None:  # as nearly always, and far cheaper
        return _timeout(whole * 1000, now_ms)
    try:
        seconds = parse_long_double(text)
    except ValueError:
        raise CommandError(b"ERR timeout is not a float or out of range") from None
    if seconds.is_infinite:
        raise CommandError(_TIMEOUT_NEGATIVE if text.startswith(b"-") else _TIMEOUT_RANGE)
    return _timeout(ceil(seconds.times(1000).value), now_ms)


def timeout_ms_argument(text: bytes, now_ms: int) -> int:
    """The same, given as whole milliseconds (XREAD BLOCK, WAIT)."""
    value = parse_integer(text)
    if value is None:
        raise CommandError(b"ERR timeout is not an integer or out of range")
    return _timeout(value, now_ms)


def _timeout(timeout_ms: int, now_ms: int) -> int:
    if timeout_ms > I64_MAX:
        raise CommandError(_TIMEOUT_RANGE)
    if timeout_ms < 0:
        raise CommandError(_TIMEOUT_NEGATIVE)
    if timeout_ms > I64_MAX - now_ms:
        raise CommandError(_TIMEOUT_RANGE)
    return min(timeout_ms * 1000, _LONGEST_TIMEOUT_US)
