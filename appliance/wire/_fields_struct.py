"""The interpreted twins of `fields`: the same functions on top of `struct`. Not compiled."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from librt.strings import BytesWriter

__all__: list[str] = ["put_u16", "put_u16_le", "put_u32", "read_u16", "read_u16_le", "read_u32", "sum_words"]

_U16 = Struct("!H")
_U16_LE = Struct("<H")
_U32 = Struct("!I")
_unpack_u16 = _U16.unpack_from
_unpack_u16_le = _U16_LE.unpack_from
_unpack_u32 = _U32.unpack_from
_pack_u16 = _U16.pack
_pack_u16_le = _U16_LE.pack
_pack_u32 = _U32.pack


def read_u16(data: bytes, index: int) -> int:
    return _unpack_u16(data, index)[0]  # type: ignore[no-any-return]


def read_u16_le(data: bytes, index: int) -> int:
    return _unpack_u16_le(data, index)[0]  # type: ignore[no-any-return]


def read_u32(data: bytes, index: int) -> int:
    return _unpack_u32(data, index)[0]  # type: ignore[no-any-return]


def put_u16(writer: BytesWriter, value: int) -> None:
    writer.write(_pack_u16(value & 0xFFFF))


def put_u16_le(writer: BytesWriter, value: int) -> None:
    writer.write(_pack_u16_le(value & 0xFFFF))


def put_u32(writer: BytesWriter, value: int) -> None:
    writer.write(_pack_u32(value & 0xFFFF_FFFF))


def sum_words(data: bytes, start: int, end: int) -> int:
    # 2**16 is 1 modulo 0xFFFF, so the number itself is congruent to the sum of its 16-bit digits.
    # The remainder is 0 for 0xFFFF as well as for 0; keep the difference, a sum of real words has it.
    value = int.from_bytes(data[start:end], "big")
    if (end - start) & 1:
        value <<= 8
    if value == 0:
        return 0
    return value % 0xFFFF or 0xFFFF
