"""CRC-64 as Redis uses it at the end of dumps.

Source:     the polynomial of David T. Jones, 0xAD93D23594C935A9, reflected, no initial value, no final XOR
            (CRC-64/REDIS in the catalogue of parametrised CRC algorithms).
Units:      a signed 64-bit integer with the bits of the CRC: that is what a compiled i64 holds.
Errors:     none.

Eight bytes at a time: `_TABLES` are the CRCs of each byte value followed by 0 to 7 zero bytes (Kounavis and
Berry, "A Systematic Approach to Building High Performance Software-Based CRC Generators", 2005).
"""

from __future__ import annotations

from typing import Final

from librt.strings import read_i64_le
from mypy_extensions import i64

_REFLECTED: Final = 0x95AC_9329_AC4B_C9B5
_TABLE_SIZE: Final = 256 * 8


def _make_tables() -> bytes:
    """Eight tables of 256 little-endian 64-bit integers, one after the other."""
    first: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_REFLECTED if crc & 1 else 0)
        first.append(crc)
    tables = [first]
    for _ in range(7):
        last = tables[len(tables) - 1]
        tables.append([first[crc & 0xFF] ^ crc >> 8 for crc in last])
    return b"".join([crc.to_bytes(8, "little") for table in tables for crc in table])


_TABLES: Final[bytes] = _make_tables()


def crc64(data: bytes, length: i64, crc: i64 = 0) -> i64:
    """The CRC of the first `length` bytes, or of these behind others that have the CRC `crc`."""
    tables = _TABLES
    at: i64 = 0
    while at + 8 <= length:
        mixed = crc ^ read_i64_le(data, at)
        crc = (
            read_i64_le(tables, 7 * _TABLE_SIZE + (mixed & 0xFF) * 8)
            ^ read_i64_le(tables, 6 * _TABLE_SIZE + ((mixed >> 8) & 0xFF) * 8)
            ^ read_i64_le(tables, 5 * _TABLE_SIZE + ((mixed >> 16) & 0xFF) * 8)
            ^ read_i64_le(tables, 4 * _TABLE_SIZE + ((mixed >> 24) & 0xFF) * 8)
            ^ read_i64_le(tables, 3 * _TABLE_SIZE + ((mixed >> 32) & 0xFF) * 8)
            ^ read_i64_le(tables, 2 * _TABLE_SIZE + ((mixed >> 40) & 0xFF) * 8)
            ^ read_i64_le(tables, _TABLE_SIZE + ((mixed >> 48) & 0xFF) * 8)
            ^ read_i64_le(tables, ((mixed >> 56) & 0xFF) * 8)
        )
        at += 8
    while at < length:
        byte: i64 = data[at]
        crc = read_i64_le(tables, ((crc ^ byte) & 0xFF) * 8) ^ ((crc >> 8) & 0x00FF_FFFF_FFFF_FFFF)
        at += 1
    return crc
