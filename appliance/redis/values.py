"""What a key may hold.

A string is kept in one of three forms, which OBJECT ENCODING tells apart:

    int             the text is the canonical decimal of a 64-bit integer   "int"
    bytes           as it came                                               "embstr" when short, else "raw"
    StringBuffer    changed in place (APPEND, SETRANGE)                      "raw"

Every other type is a Collection (types/collection.py), one module per type.

Invariants: an int is within 64 bits, signed. A StringBuffer belongs to one key: COPY makes a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.integers import parse_integer
from appliance.redis.replies import integer_text
from appliance.redis.types.collection import Collection

if TYPE_CHECKING:
    from appliance.redis.entry import Entry

# The server puts key, string and expire time into one block of 64 bytes when they fit: its own
# headers leave 41.
_EMBSTR_ROOM: Final = 41
_EXPIRE_TIME_SIZE: Final = 8
INTEGER_TEXT_LIMIT: Final = 20
_SMALL_GROWTH: Final = 64 * 1024


class StringBuffer:
    """A string that is being changed: appending costs amortized O(appended)."""

    def __init__(self, text: bytes) -> None:
        self.data = bytearray(text)

    def __repr__(self) -> str:
        return f"StringBuffer({bytes(self.data)!r})"

    def grow(self, size: i64) -> bool:
        """Pad with zero bytes up to that many; whether there were fewer."""
        have: i64 = len(self.data)
        if size <= have:
            return False
        if size - have <= _SMALL_GROWTH:
            self.data.extend(bytes(size - have))  # amortized, as an append
        else:
            # Zeros of a fresh block are the system's: 512 MiB of them cost next to nothing until written.
            data = bytearray(size)
            data[:have] = self.data
            self.data = data
        return True


def string_value(text: bytes) -> object:
    """The form in which a string that a client sent is kept."""
    length: i64 = len(text)
    if length > INTEGER_TEXT_LIMIT or length == 0:
        return text
    first: i64 = text[0]
    if first > 57 or first < 45:  # neither digit nor minus: most values leave here
        return text
    number = parse_integer(text)
    return text if number is None else number


def string_text(value: object) -> bytes:
    """The bytes of a string value.

    Raises:
        CommandError: WRONGTYPE, the value is no string.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return integer_text(value)
    if isinstance(value, StringBuffer):
        return bytes(value.data)
    raise CommandError(errors.WRONG_TYPE)


def string_length(value: object) -> int:
    """The length of a string value in bytes; WRONGTYPE for others."""
    if isinstance(value, StringBuffer):
        return len(value.data)
    return len(string_text(value))


def writable_buffer(entry: Entry) -> StringBuffer:
    """The string of an entry in the form that can be changed in place.

    Raises:
        CommandError: WRONGTYPE, the value is no string.
    """
    value = entry.value
    if isinstance(value, StringBuffer):
        return value
    buffer = StringBuffer(string_text(value))
    entry.value = buffer
    return buffer


def is_string(value: object) -> bool:
    return isinstance(value, (bytes, int, StringBuffer))


def type_name(value: object) -> bytes:
    """What TYPE says."""
    if is_string(value):
        return b"string"
    if isinstance(value, Collection):
        return value.type_name()
    raise TypeError(f"{type(value).__name__} is no value of a key")


def encoding_name(key: bytes, value: object, expires: bool) -> bytes:
    """What OBJECT ENCODING says of a key and its value."""
    if isinstance(value, int):
        return b"int"
    if isinstance(value, bytes):
        size = len(key) + len(value) + (_EXPIRE_TIME_SIZE if expires else 0)
        return b"embstr" if size <= _EMBSTR_ROOM else b"raw"
    if isinstance(value, StringBuffer):
        return b"raw"
    if isinstance(value, Collection):
        return value.encoding()
    raise TypeError(f"{type(value).__name__} is no value of a key")


def copied(value: object) -> object:
    """A value for another key: immutable forms are shared."""
    if isinstance(value, StringBuffer):
        return StringBuffer(bytes(value.data))
    if isinstance(value, Collection):
        return value.copy()
    return value
