"""Parts of bytes objects, hashed, compared and copied without an object made for them.

What a request names lies in the bytes that came from the network. To look it up as an object of its own would
cost two allocations and a boxed hash, which together are dearer than all the rest of a GET.

Compiled, these read eight bytes at a time. Interpreted, a slice is cheaper than any loop, so the last lines
put the twins of `_slices_pure` in their place.

Source:     Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012; with 1 and 3 rounds, as CPython has.
Invariants: the compiled hashes, here and in types/hyperloglog.py, are the only places that rely on arithmetic
            modulo 2**64: setup.py asks the C compiler for it.
Errors:     IndexError for a part that is not within its object.
"""

from __future__ import annotations

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i64_le
from mypy_extensions import i64

__all__ = ["HashKey", "copy_part", "is_part_equal", "keyed_hash"]


class HashKey:
    """The key of a hash, in the form in which SipHash begins with it."""

    def __init__(self, secret: bytes) -> None:
        """From 16 random bytes; what is missing counts as zero."""
        low = int.from_bytes(secret[0:8], "little", signed=True)
        high = int.from_bytes(secret[8:16], "little", signed=True)
        self.v0: i64 = low ^ 0x736F6D6570736575
        self.v1: i64 = high ^ 0x646F72616E646F6D
        self.v2: i64 = low ^ 0x6C7967656E657261
        self.v3: i64 = high ^ 0x7465646279746573


def keyed_hash(data: bytes, start: i64, length: i64, key: HashKey) -> i64:
    """32 bits of the keyed hash of data[start : start + length]."""
    v0 = key.v0
    v1 = key.v1
    v2 = key.v2
    v3 = key.v3
    words = length >> 3
    step: i64 = 0
    # One round for each word, one for the last bytes with the length, and three more.
    while step < words + 4:
        word: i64 = 0
        if step < words:
            word = read_i64_le(data, start + step * 8)
        elif step == words:
            word = _last_word(data, start + words * 8, start + length) | length << 56
        elif step == words + 1:
            v2 ^= 0xFF
        v3 ^= word
        v0 += v1
        v1 = (v1 << 13 | ((v1 >> 51) & 0x1FFF)) ^ v0
        v0 = v0 << 32 | ((v0 >> 32) & 0xFFFF_FFFF)
        v2 += v3
        v3 = (v3 << 16 | ((v3 >> 48) & 0xFFFF)) ^ v2
        v0 += v3
        v3 = (v3 << 21 | ((v3 >> 43) & 0x1F_FFFF)) ^ v0
        v2 += v1
        v1 = (v1 << 17 | ((v1 >> 47) & 0x1_FFFF)) ^ v2
        v2 = v2 << 32 | ((v2 >> 32) & 0xFFFF_FFFF)
        v0 ^= word
        step += 1
    return (v0 ^ v1 ^ v2 ^ v3) & 0xFFFF_FFFF


def _last_word(data: bytes, at: i64, end: i64) -> i64:
    """The bytes of data[at:end], fewer than eight, as the low ones of a word."""
    word: i64 = 0
    shift: i64 = 0
    if at + 4 <= end:
        word = i64(read_i32_le(data, at)) & 0xFFFF_FFFF
        at += 4
        shift = 32
    while at < end:
        word |= i64(data[at]) << shift
        shift += 8
        at += 1
    return word


def is_part_equal(record: bytes, data: bytes, start: i64, length: i64) -> bool:
    """Whether record[:length] == data[start : start + length]; `record` is longer than that by 8 at least."""
    at: i64 = 0
    while at + 8 <= length:
        if read_i64_le(record, at) != read_i64_le(data, start + at):
            return False
        at += 8
    if at + 4 <= length:
        if read_i32_le(record, at) != read_i32_le(data, start + at):
            return False
        at += 4
    while at < length:
        if record[at] != data[start + at]:
            return False
        at += 1
    return True


def copy_part(writer: BytesWriter, data: bytes, start: i64, end: i64) -> None:
    """Append data[start:end]; `end` is 8 at least."""
    at = start
    while at + 8 <= end:
        write_i64_le(writer, read_i64_le(data, at))
        at += 8
    rest = end - at
    if rest > 0:
        # Eight bytes once more, the last of them: the others are cut off again.
        write_i64_le(writer, read_i64_le(data, end - 8) >> (64 - rest * 8))
        writer.truncate(i64(len(writer)) - (8 - rest))


if __file__.endswith(".py"):
    from appliance.redis import _slices_pure

    globals().update({name: getattr(_slices_pure, name) for name in _slices_pure.__all__})
