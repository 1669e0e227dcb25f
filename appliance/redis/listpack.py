"""Listpacks: the compact sequence of strings and integers of which Redis makes its small collections.

A listpack is one block of bytes: a header (total length, number of elements), the elements, 0xFF. An element
is

    encoding and data                                             its length, to be read from behind
    0xxxxxxx                     integer 0 .. 127                 1 to 5 bytes, 7 bits each, the lowest last;
    10llllll data                text of up to 63 bytes           all but the first carry the top bit
    110xxxxx xxxxxxxx            integer of 13 bits
    1110llll llllllll data       text of up to 4095 bytes
    0xF0 length:32 data          longer text
    0xF1 .. 0xF4 integer         16, 24, 32, 64 bits

A text that is the canonical decimal of a 64-bit integer is kept as an integer. Streams keep their entries in
this form (types/streams.py), DUMP writes small collections in it (dump.py).

Source:     https://github.com/antirez/listpack/blob/master/listpack.md; who keeps what as an integer, and how
            long an encoding is, from the dumps of redis-server.
Units:      bytes; positions are offsets into the block.
Invariants: `element_size` of what was written equals the bytes written. Integers are signed, 64 bits.
Errors:     `elements_untrusted` raises ListpackError. All else trusts its input: it was written here or has
            passed that function.
"""

from __future__ import annotations

from typing import Final

from librt.strings import (
    BytesWriter,
    read_i16_le,
    read_i32_le,
    read_i64_le,
    write_i16_le,
    write_i32_le,
    write_i64_le,
)
from librt.vecs import append, vec
from mypy_extensions import i32, i64, u8

from appliance.errors import ApplianceError
from appliance.redis.integers import parse_integer
from appliance.redis.replies import integer_text

HEADER_SIZE: Final = 6
END: Final = 0xFF
# The header counts elements up to here, and says "unknown" with this number.
UNKNOWN_COUNT: Final = 0xFFFF

_NINE: Final = 57
_LONGEST_INTEGER: Final = 20  # len("-9223372036854775808")


class ListpackError(ApplianceError):
    """Bytes that are no listpack."""


# Sizes --------------------------------------------------------------------------------------------


def integer_size(value: int) -> i64:
    """Bytes that an integer takes, the length behind it included."""
    if 0 <= value <= 127:
        return 2
    if -4096 <= value <= 4095:
        return 3
    if -32768 <= value <= 32767:
        return 4
    if -8388608 <= value <= 8388607:
        return 5
    if -2147483648 <= value <= 2147483647:
        return 6
    return 10


def _back_length_size(length: i64) -> i64:
    """Bytes in which the length of an element is written behind it.

    The limits are the server's: one less than seven bits hold, from the second on.
    """
    if length <= 127:
        return 1
    if length < 16383:
        return 2
    if length < 2097151:
        return 3
    if length < 268435455:
        return 4
    return 5


# Writing ------------------------------------------------------------------------------------------


def write_integer(out: BytesWriter, value: int) -> None:
    """Append an integer as an element."""
    if 0 <= value <= 127:
        out.append(value)
        out.append(1)
    elif -4096 <= value <= 4095:
        bits = value & 0x1FFF
        out.append(0xC0 | (bits >> 8))
        out.append(bits & 0xFF)
        out.append(2)
    elif -32768 <= value <= 32767:
        out.append(0xF1)
        out.append(value & 0xFF)
        out.append((value >> 8) & 0xFF)
        out.append(3)
    elif -8388608 <= value <= 8388607:
        out.append(0xF2)
        out.append(value & 0xFF)
        out.append((value >> 8) & 0xFF)
        out.append((value >> 16) & 0xFF)
        out.append(4)
    elif -2147483648 <= value <= 2147483647:
        out.append(0xF3)
        narrow: i64 = value
        write_i32_le(out, i32(narrow))
        out.append(5)
    else:
        out.append(0xF4)
        wide: i64 = value
        write_i64_le(out, wide)
        out.append(9)


def _write_back_length(out: BytesWriter, length: i64) -> None:
    if length <= 127:
        out.append(length)
        return
    shift = 7 * (_back_length_size(length) - 1)
    out.append((length >> shift) & 0x7F)
    while shift > 0:
        shift -= 7
        out.append(((length >> shift) & 0x7F) | 0x80)


def write_text(out: BytesWriter, text: bytes) -> None:
    """Append a string as an element that is a string, whatever it spells."""
    length: i64 = len(text)
    if length < 64:
        out.append(0x80 | length)
        out.write(text)
        out.append(length + 1)
        return
    if length < 4096:
        out.append(0xE0 | (length >> 8))
        out.append(length & 0xFF)
        out.write(text)
        _write_back_length(out, length + 2)
        return
    out.append(0xF0)
    out.append(length & 0xFF)
    out.append((length >> 8) & 0xFF)
    out.append((length >> 16) & 0xFF)
    out.append((length >> 24) & 0xFF)
    out.write(text)
    _write_back_length(out, length + 5)


def write_string(out: BytesWriter, text: bytes) -> None:
    """Append a string as an element: as an integer if it spells one."""
    length: i64 = len(text)
    if 0 < length <= _LONGEST_INTEGER:
        first: i64 = text[0]
        if 45 <= first <= 57:  # a digit, or the minus (and two others that parse_integer refuses)
            number = parse_integer(text)
            if number is not None:
                write_integer(out, number)
                return
    write_text(out, text)


def listpack(body: bytes, count: int) -> bytes:
    """A whole listpack of elements that are written already.

    Args:
        body: the elements.
        count: how many they are.
    """
    total = HEADER_SIZE + len(body) + 1
    return (
        total.to_bytes(4, "little") + min(count, UNKNOWN_COUNT).to_bytes(2, "little") + body + bytes((END,))
    )


class _Scratch:
    """What listpacks are put together in, kept from one to the next."""

    def __init__(self) -> None:
        self.out = BytesWriter()


_SCRATCH: Final = _Scratch()
_SCRATCH_KEPT: Final = 1 << 17


def pack(elements: list[bytes], start: i64 = 0) -> bytes:
    """A listpack of these strings, from the one at `start` on."""
    out = _SCRATCH.out
    out.truncate(0)
    write_i32_le(out, 0)
    write_i16_le(out, 0)
    count: i64 = len(elements)
    at = start
    while at < count:
        text = elements[at]
        length: i64 = len(text)
        if 0 < length < 64 and text[0] > _NINE:  # no integer: the ordinary case
            out.append(u8(0x80 | length))
            out.write(text)
            out.append(u8(length + 1))
        else:
            write_string(out, text)
        at += 1
    out.append(END)
    size: i64 = len(out)
    count = min(count - start, UNKNOWN_COUNT)
    out[0] = u8(size & 0xFF)
    out[1] = u8((size >> 8) & 0xFF)
    out[2] = u8((size >> 16) & 0xFF)
    out[3] = u8((size >> 24) & 0xFF)
    out[4] = u8(count & 0xFF)
    out[5] = u8(count >> 8)
    if size > _SCRATCH_KEPT:
        _SCRATCH.out = BytesWriter()
    return out.getvalue()


# Reading ------------------------------------------------------------------------------------------


def _data_size(data: bytes, at: i64) -> i64:
    """Bytes of the element at `at` without the length behind it."""
    mark: i64 = data[at]
    if mark < 0x80:
        return 1
    if mark < 0xC0:
        return 1 + (mark & 0x3F)
    if mark < 0xE0:
        return 2
    if mark < 0xF0:
        low: i64 = data[at + 1]
        return 2 + ((mark & 0x0F) << 8 | low)
    if mark == 0xF0:
        length: i64 = i64(read_i32_le(data, at + 1))
        return 5 + (length & 0xFFFF_FFFF)
    if mark == 0xF1:
        return 3
    if mark == 0xF2:
        return 4
    if mark == 0xF3:
        return 5
    return 9


def element_size(data: bytes, at: i64) -> i64:
    """Bytes of the element at `at`: the next one begins behind them."""
    size = _data_size(data, at)
    if size <= 127:
        return size + 1
    return size + _back_length_size(size)


def is_integer_at(data: bytes, at: i64) -> bool:
    mark: i64 = data[at]
    return mark < 0x80 or 0xC0 <= mark < 0xE0 or mark > 0xF0


def integer_at(data: bytes, at: i64) -> int:
    """The integer that the element at `at` is."""
    mark: i64 = data[at]
    if mark < 0x80:
        return mark
    if mark < 0xE0:
        second: i64 = data[at + 1]
        bits: i64 = (mark & 0x1F) << 8 | second
        return bits - 8192 if bits >= 4096 else bits
    if mark == 0xF1:
        short: i64 = i64(read_i16_le(data, at + 1))
        return short
    if mark == 0xF2:
        low: i64 = i64(read_i16_le(data, at + 1))
        high: i64 = data[at + 3]
        number: i64 = (low & 0xFFFF) | high << 16
        return number - 0x100_0000 if number >= 0x80_0000 else number
    if mark == 0xF3:
        narrow: i64 = i64(read_i32_le(data, at + 1))
        return narrow
    return read_i64_le(data, at + 1)


def string_at(data: bytes, at: i64) -> bytes:
    """The string that the element at `at` is; of an integer, its text."""
    mark: i64 = data[at]
    if 0x80 <= mark < 0xC0:
        return data[at + 1 : at + 1 + (mark & 0x3F)]
    if 0xE0 <= mark < 0xF0:
        return data[at + 2 : at + _data_size(data, at)]
    if mark == 0xF0:
        return data[at + 5 : at + _data_size(data, at)]
    return integer_text(integer_at(data, at))


def elements_untrusted(data: bytes) -> vec[i64]:
    """The positions of all elements of a listpack that anybody may have made.

    After this every element can be read with the functions above.

    Raises:
        ListpackError: lengths that contradict each other, an encoding that is none, something missing.
    """
    positions: vec[i64] = vec[i64]()
    at: i64 = HEADER_SIZE
    last = _body_end_untrusted(data)
    while at < last:
        positions = append(positions, at)
        mark: i64 = data[at]
        size: i64 = 0  # of what there is most: small integers and short texts
        if mark < 0x80:
            size = 1
        elif mark < 0xC0:
            size = 1 + (mark & 0x3F)
        if size > 0 and at + size < last:
            back: i64 = data[at + size]
            if back != size:
                raise ListpackError("a length behind an element that is not its own")
            at += size + 1
        else:
            at = _checked_end(data, at, last)
    if at != last:
        raise ListpackError("an element beyond the end")
    _check_count(data, len(positions))
    return positions


def _body_end_untrusted(data: bytes) -> i64:
    """Where the elements have to end."""
    size: i64 = len(data)
    if size < HEADER_SIZE + 1:
        raise ListpackError("a listpack without a header")
    total: i64 = i64(read_i32_le(data, 0))
    if total & 0xFFFF_FFFF != size or data[size - 1] != END:
        raise ListpackError("a listpack of another length than it says")
    return size - 1


def _check_count(data: bytes, found: i64) -> None:
    count: i64 = i64(read_i16_le(data, 4))
    count &= 0xFFFF
    if count != UNKNOWN_COUNT and count != found:
        raise ListpackError("another number of elements than the header says")


def _checked_end(data: bytes, at: i64, last: i64) -> i64:
    """Where the element at `at` ends; it and the length behind it lie before `last`."""
    mark: i64 = data[at]
    if mark > 0xF4:
        raise ListpackError("an encoding that is none")
    if 0xE0 <= mark <= 0xF0 and at + (5 if mark == 0xF0 else 2) > last:
        raise ListpackError("an element beyond the end")
    size = _data_size(data, at)
    behind = at + size
    if behind >= last:
        raise ListpackError("an element beyond the end")
    back_size = _back_length_size(size)
    if behind + back_size > last:
        raise ListpackError("an element beyond the end")
    back: i64 = 0
    pos = behind + back_size - 1
    shift: i64 = 0
    while pos >= behind:
        byte: i64 = data[pos]
        back |= (byte & 0x7F) << shift
        if (byte & 0x80 != 0) != (pos > behind):
            raise ListpackError("a length behind an element that is none")
        shift += 7
        pos -= 1
    if back != size:
        raise ListpackError("a length behind an element that is not its own")
    return behind + back_size


class Unpacked:
    """The strings of a listpack."""

    def __init__(self) -> None:
        self.strings: list[bytes] = []
        self.is_usual = True
        """Whether all are short and none is a number: then it is certain that `pack` makes the same bytes."""


def unpack_untrusted(data: bytes) -> list[bytes]:
    """The strings of a listpack that anybody may have made.

    Raises:
        ListpackError: it is none.
    """
    return unpacked_untrusted(data).strings


def unpacked_untrusted(data: bytes) -> Unpacked:
    """The strings of a listpack that anybody may have made, and whether it is as we make them.

    Raises:
        ListpackError: it is none.
    """
    found = Unpacked()
    strings = found.strings
    last = _body_end_untrusted(data)
    at: i64 = HEADER_SIZE
    while at < last:
        mark: i64 = data[at]
        end = at + 1 + (mark & 0x3F)
        if 0x80 < mark < 0xC0 and end < last and data[at + 1] > _NINE:  # a short text and no number
            back: i64 = data[end]
            if back != end - at:
                raise ListpackError("a length behind an element that is not its own")
            strings.append(data[at + 1 : end])
            at = end + 1
            continue
        end = _checked_end(data, at, last)
        strings.append(string_at(data, at))
        found.is_usual = False
        at = end
    if at != last:
        raise ListpackError("an element beyond the end")
    _check_count(data, len(strings))
    return found
