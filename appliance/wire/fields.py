"""Access to integer fields in network byte order: the one place that knows how.

Compiled, these are `librt` primitives: a load and a byte swap. Interpreted, `librt` calls are slower
than `struct`, so the last lines put the twins of `_fields_struct` in their place. Everything else in
`wire/` and `stack/` reads and writes fields through this module and runs alike on both builds.

Errors: reading past the end raises IndexError or struct.error; callers check lengths first.
"""

from librt.strings import (
    BytesWriter,
    read_i16_be,
    read_i16_le,
    read_i32_be,
    read_i64_be,
    write_i16_be,
    write_i16_le,
    write_i32_be,
)
from mypy_extensions import i16, i32, i64

__all__ = [
    "BytesWriter",
    "put_u16",
    "put_u16_le",
    "put_u32",
    "read_u16",
    "read_u16_le",
    "read_u32",
    "sum_words",
]


def read_u16(data: bytes, index: i64) -> i64:
    return i64(read_i16_be(data, index)) & 0xFFFF


def read_u16_le(data: bytes, index: i64) -> i64:
    return i64(read_i16_le(data, index)) & 0xFFFF


def read_u32(data: bytes, index: i64) -> i64:
    return i64(read_i32_be(data, index)) & 0xFFFF_FFFF


def put_u16(writer: BytesWriter, value: i64) -> None:
    write_i16_be(writer, i16(value))


def put_u16_le(writer: BytesWriter, value: i64) -> None:
    write_i16_le(writer, i16(value))


def put_u32(writer: BytesWriter, value: i64) -> None:
    write_i32_be(writer, i32(value))


def sum_words(data: bytes, start: i64, end: i64) -> i64:
    """Sum of the 16-bit words of data[start:end], an odd last byte padded with zero (RFC 1071 §1).

    Returns a partial sum that is only meaningful modulo 0xFFFF; it fits in 48 bits for up to 64 KiB.
    """
    total: i64 = 0
    index: i64 = start
    while index + 8 <= end:
        word: i64 = read_i64_be(data, index)
        total += ((word >> 32) & 0xFFFF_FFFF) + (word & 0xFFFF_FFFF)
        index += 8
    while index + 2 <= end:
        total += i64(read_i16_be(data, index)) & 0xFFFF
        index += 2
    if index < end:
        total += i64(data[index]) << 8
    return total


def _is_compiled() -> bool:
    return not __file__.endswith(".py")


if not _is_compiled():
    from appliance.wire import _fields_struct

    globals().update({name: getattr(_fields_struct, name) for name in _fields_struct.__all__})
