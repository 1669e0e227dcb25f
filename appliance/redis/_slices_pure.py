"""The interpreted twins of `slices`: the same functions by slices. Not compiled.

The hash is another one: Python's own of the slice, SipHash-1-3 under a key drawn per process unless
PYTHONHASHSEED pins it. So its halves go through a multiply-add by two secret odd numbers, a universal family:
flooding a slot of a table needs full 64-bit collisions of SipHash instead of equal low bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from librt.strings import BytesWriter

__all__: list[str] = ["HashKey", "copy_part", "is_part_equal", "keyed_hash"]


class HashKey:
    __slots__ = ("high", "low")

    def __init__(self, secret: bytes) -> None:
        self.low = int.from_bytes(secret[0:4], "little") | 1
        self.high = int.from_bytes(secret[4:8], "little") | 1


def keyed_hash(data: bytes, start: int, length: int, key: HashKey) -> int:
    h = hash(data if length == len(data) else data[start : start + length])
    return ((h & 0xFFFF_FFFF) * key.low + ((h >> 32) & 0xFFFF_FFFF) * key.high) >> 30 & 0xFFFF_FFFF


def is_part_equal(record: bytes, data: bytes, start: int, length: int) -> bool:
    return record.startswith(data[start : start + length])


def copy_part(writer: BytesWriter, data: bytes, start: int, end: int) -> None:
    writer.write(data[start:end])
