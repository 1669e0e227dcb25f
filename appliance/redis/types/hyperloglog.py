"""HyperLogLog: how many different elements were added, within 0.81 %, from 16384 registers of six bits.

An element's 64-bit hash names a register by its low 14 bits; the register keeps the largest position of the
first 1 among the other 50. The registers lie in an ordinary string, which clients may GET and SET:

    0       4    5         8            16
    | HYLL | encoding | 0 0 0 | cardinality | registers …

The cardinality is the cached result of the last count, little endian; its highest bit says that it is stale.
In the dense encoding (0) the registers follow each other, six bits each, from the least significant bit up.
The sparse one (1) is a sequence of runs:

    00xxxxxx              x + 1 registers are 0
    01xxxxxx yyyyyyyy     (x << 8 | y) + 1 registers are 0
    1vvvvvxx              x + 1 registers are v + 1

Two strings with the same history are equal byte for byte, as runs are split and joined in redis-server's way.

Source:     Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog" (2007); O. Ertl, "New cardinality estimation
            algorithms for HyperLogLog sketches" (2017), algorithm 6, for the estimate; A. Appleby's
            MurmurHash64A, seed 0xadc83b19, for the hash; the strings that redis-server 8.2 makes. Invariants:
            what `add` and `merge` make is well formed; what a client SET may not be.
Errors:     Corrupted: the runs of a sparse string do not make 16384 registers.
"""

from __future__ import annotations

import math
from typing import Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i16_le, write_i32_le
from librt.vecs import vec
from mypy_extensions import i16, i32, i64

REGISTERS: Final = 16384
_INDEX_BITS: Final = 14
_VALUE_BITS: Final = 50
HEADER: Final = 16
DENSE_SIZE: Final = HEADER + REGISTERS * 6 // 8
MAGIC: Final = b"HYLL"
DENSE: Final = 0
SPARSE: Final = 1
_STALE: Final = 0x80
_NEW: Final = MAGIC + b"\x01" + b"\0" * 11 + b"\x7f\xff"

_LONGEST_ZERO: Final = 64
_LONGEST_XZERO: Final = 16384
_LONGEST_VALUE: Final = 4
_LARGEST_SPARSE: Final = 32
# So many elements are counted in faster when all registers are unpacked for them, and packed again.
_WORTH_UNPACKING: Final = 1024
# Eight registers in 48 bits: every other one, and a bit above each of these.
_CHUNK: Final = 6
_CHUNK_MASK: Final = (1 << 48) - 1
_LANES: Final = 0x03F0_3F03_F03F
_ABOVE: Final = 0x0400_4004_0040
# How many runs around a change are looked at for joining.
_JOIN_REACH: Final = 5


class Corrupted(Exception):
    """A sparse string whose runs do not make 16384 registers."""


# The hash -----------------------------------------------------------------------------------------

_MULTIPLIER: Final = 0xC6A4_A793_5BD1_E995 - (1 << 64)
_SEED: Final = 0xADC8_3B19
_LOW_17: Final = (1 << 17) - 1
_LOW_32: Final = (1 << 32) - 1
_LOW_56: Final = (1 << 56) - 1


def murmur64(data: bytes) -> i64:
    """MurmurHash64A of `data`.

    Compiled, products are modulo 2**64. Interpreted, the last lines of this module put a twin in its place.
    """
    length: i64 = len(data)
    h: i64 = _SEED ^ (length * _MULTIPLIER)
    at: i64 = 0
    while at + 8 <= length:
        k = read_i64_le(data, at) * _MULTIPLIER
        h ^= (k ^ ((k >> 47) & _LOW_17)) * _MULTIPLIER
        h *= _MULTIPLIER
        at += 8
    left = length - at
    if left > 0:
        if length >= 8:  # the last eight bytes, without those that have had their turn
            # Not `1 << n`: a small literal is an int of C, and 32 bits wide.
            h ^= (read_i64_le(data, length - 8) >> (64 - 8 * left)) & (_LOW_56 >> (56 - 8 * left))
        elif left >= 4:  # two words, which overlap
            low = i64(read_i32_le(data, 0)) & _LOW_32
            high = i64(read_i32_le(data, length - 4)) & _LOW_32
            h ^= low | high >> (64 - 8 * left) << 32
        else:
            shift: i64 = 0
            while at < length:
                byte: i64 = data[at]
                h ^= byte << shift
                shift += 8
                at += 1
        h *= _MULTIPLIER
    h = (h ^ ((h >> 47) & _LOW_17)) * _MULTIPLIER
    return h ^ ((h >> 47) & _LOW_17)


def _register_and_value(element: bytes) -> tuple[i64, i64]:
    """Which register an element concerns, and what it wants it to be at least (1 … 51)."""
    hashed = murmur64(element)
    index = hashed & (REGISTERS - 1)
    bits = ((hashed >> _INDEX_BITS) & ((1 << _VALUE_BITS) - 1)) | 1 << _VALUE_BITS
    count: i64 = 1
    while bits & 1 == 0:
        bits >>= 1
        count += 1
    return index, count


# The string ---------------------------------------------------------------------------------------


def new() -> bytearray:
    """An empty one, sparse."""
    return bytearray(_NEW)


def is_valid(data: bytearray) -> bool:
    """Whether a string has the form of a HyperLogLog; the runs are not looked at."""
    if len(data) < HEADER or not data.startswith(MAGIC) or data[4] > SPARSE:
        return False
    return data[4] == SPARSE or len(data) == DENSE_SIZE


def cached_count(data: bytearray) -> int | None:
    """The cached cardinality, None when it is stale."""
    if data[15] & _STALE:
        return None
    return int.from_bytes(data[8:16], "little")


def cache_count(data: bytearray, count: int) -> None:
    data[8:16] = (count & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")


def invalidate(data: bytearray) -> None:
    """The cached cardinality is stale from now on."""
    data[15] |= _STALE


def add(data: bytearray, element: bytes, sparse_max: i64) -> bool:
    """Count an element in; whether a register changed. It may become dense.

    Raises:
        Corrupted: the runs do not reach the register.
    """
    index, value = _register_and_value(element)
    if data[4] == DENSE:
        return _dense_set(data, index, value)
    return sparse_set(data, index, value, sparse_max)


def add_all(data: bytearray, elements: list[bytes], first: i64, sparse_max: i64) -> i64:
    """Count elements in, from the one at `first` on; how many of them have changed a register.

    Raises:
        Corrupted: the runs do not reach a register.
    """
    at = first
    end: i64 = len(elements)
    changed: i64 = 0
    while at < end and (end - at < _WORTH_UNPACKING or data[4] != DENSE):
        if add(data, elements[at], sparse_max):
            changed += 1
        at += 1
    if at == end:
        return changed
    found = registers(data)
    before = changed
    while at < end:
        index, value = _register_and_value(elements[at])
        if value > found[index]:
            found[index] = value
            changed += 1
        at += 1
    if changed > before:
        data[HEADER:] = packed(found)
    return changed


def _dense_set(data: bytearray, index: i64, value: i64) -> bool:
    """Raise a register to `value`; False when it is as large already."""
    at = HEADER + (index * 6 >> 3)
    shift = index * 6 & 7
    both: i64 = data[at]
    if shift > 2:
        both |= data[at + 1] << 8
    if both >> shift & 63 >= value:
        return False
    both = (both & ~(63 << shift)) | value << shift
    data[at] = both & 255
    if shift > 2:
        data[at + 1] = both >> 8
    return True


def _zeros(length: i64) -> bytes:
    """A run of zero registers."""
    count = length - 1
    if length > _LONGEST_ZERO:
        return bytes((0x40 | count >> 8, count & 255))
    return bytes((count,))


def _values(value: i64, length: i64) -> bytes:
    """A run of registers that are `value`."""
    return bytes((0x80 | (value - 1) << 2 | (length - 1),))


def sparse_set(data: bytearray, index: i64, value: i64, sparse_max: i64) -> bool:
    """Raise a register of a sparse string, which becomes dense if it does not fit; whether anything changed.

    Args:
        data: the whole string.
        index: the register.
        value: 1 … 51; beyond 32 only dense strings can hold it.
        sparse_max: bytes, from where on a string that has to grow becomes dense.

    Raises:
        Corrupted: the runs do not reach the register.
    """
    if value > _LARGEST_SPARSE:
        to_dense(data)
        return _dense_set(data, index, value)
    text = bytes(data)
    end: i64 = len(text)
    at: i64 = HEADER
    before: i64 = HEADER  # the run before, or this one when it is the first
    first: i64 = 0
    span: i64 = 0
    size: i64 = 1
    opcode: i64 = 0
    while at < end:
        opcode = text[at]
        size = 1
        if opcode >= 0x80:
            span = (opcode & 3) + 1
        elif opcode < 0x40:
            span = opcode + 1
        else:
            low: i64 = text[at + 1] if at + 1 < end else 0
            span = ((opcode & 63) << 8 | low) + 1
            size = 2
        if index < first + span:
            break
        before = at
        at += size
        first += span
    if at >= end:
        raise Corrupted
    current: i64 = 0
    if opcode >= 0x80:
        current = (opcode >> 2 & 31) + 1
        if current >= value:
            return False
    last = first + span - 1
    if span == 1 and size == 1:
        data[at] = 0x80 | (value - 1) << 2
    else:
        pieces = _values(value, 1)
        if index != first:
            pieces = (_zeros(index - first) if current == 0 else _values(current, index - first)) + pieces
        if index != last:
            pieces += _zeros(last - index) if current == 0 else _values(current, last - index)
        growth = len(pieces) - size
        if growth > 0 and end + growth > sparse_max:
            to_dense(data)
            return _dense_set(data, index, value)
        data[at : at + size] = pieces
        del data[end + growth :]  # only what a corrupted string lacks at its end
    _join(data, before)
    invalidate(data)
    return True


def _join(data: bytearray, start: i64) -> None:
    """Join neighbouring runs of the same value, from `start` on, a few of them."""
    at = start
    reach: i64 = _JOIN_REACH
    while at < len(data) and reach > 0:
        reach -= 1
        opcode: i64 = data[at]
        if opcode < 0x80:
            at += 2 if opcode >= 0x40 else 1
            continue
        if at + 1 < len(data):
            following: i64 = data[at + 1]
            length = (opcode & 3) + (following & 3) + 2
            if following >> 2 == opcode >> 2 and length <= _LONGEST_VALUE:
                data[at + 1] = (opcode & 0xFC) | (length - 1)
                del data[at]
                continue
        at += 1


def registers(data: bytearray) -> vec[i64]:
    """All registers.

    Raises:
        Corrupted: the runs do not make as many as there are.
    """
    found: vec[i64] = vec[i64]([0] * REGISTERS)
    raise_registers(found, data)
    return found


def raise_registers(found: vec[i64], data: bytearray) -> None:
    """Raise each register of `found` to what it is in a string.

    Raises:
        Corrupted: the runs do not make as many as there are.
    """
    text = bytes(data)
    at: i64 = HEADER
    index: i64 = 0
    if text[4] == DENSE:
        while index < REGISTERS:
            three: i64 = text[at] | text[at + 1] << 8 | text[at + 2] << 16
            at += 3
            if three != 0:
                if three & 63 > found[index]:
                    found[index] = three & 63
                if three >> 6 & 63 > found[index + 1]:
                    found[index + 1] = three >> 6 & 63
                if three >> 12 & 63 > found[index + 2]:
                    found[index + 2] = three >> 12 & 63
                if three >> 18 > found[index + 3]:
                    found[index + 3] = three >> 18
            index += 4
        return
    end: i64 = len(text)
    while at < end:
        opcode: i64 = text[at]
        at += 1
        if opcode < 0x40:
            index += opcode + 1
        elif opcode < 0x80:
            low: i64 = text[at] if at < end else 0
            at += 1
            index += ((opcode & 63) << 8 | low) + 1
        else:
            value = (opcode >> 2 & 31) + 1
            stop = index + (opcode & 3) + 1
            if stop > REGISTERS:
                raise Corrupted
            while index < stop:
                if value > found[index]:
                    found[index] = value
                index += 1
        if index > REGISTERS:
            raise Corrupted
    if index != REGISTERS:
        raise Corrupted


def to_dense(data: bytearray) -> None:
    """Change a sparse string to dense; the cached cardinality stays.

    Raises:
        Corrupted: the runs do not make 16384 registers.
    """
    if data[4] == DENSE:
        return
    found = registers(data)
    data[4] = DENSE
    del data[HEADER:]
    data.extend(packed(found))


def packed(found: vec[i64]) -> bytes:
    """Registers in the dense form."""
    out = BytesWriter()
    index: i64 = 0
    while index < REGISTERS:
        low = found[index] | found[index + 1] << 6 | found[index + 2] << 12 | found[index + 3] << 18
        high = found[index + 4] | found[index + 5] << 6 | found[index + 6] << 12 | found[index + 7] << 18
        _write_chunk(out, low | high << 24)
        index += 8
    return out.getvalue()


def _write_chunk(out: BytesWriter, chunk: i64) -> None:
    """48 bits."""
    low = chunk & 0xFFFF_FFFF
    high = chunk >> 32
    write_i32_le(out, i32((low ^ 0x8000_0000) - 0x8000_0000))
    write_i16_le(out, i16((high ^ 0x8000) - 0x8000))


def packed_registers(data: bytearray) -> bytes:
    """The registers of a dense string, as they lie in it."""
    return bytes(data[HEADER:])


def merged(one: bytes, other: bytes) -> bytes:
    """The larger one of each register of two dense strings.

    Four registers are compared at once: with a bit set above each, a subtraction leaves that bit where the
    minuend is not the smaller one.
    """
    out = BytesWriter()
    a = one + b"\0\0"  # so that eight bytes can be read at the end
    b = other + b"\0\0"
    at: i64 = 0
    end: i64 = len(one)
    while at < end:
        x = read_i64_le(a, at) & _CHUNK_MASK
        y = read_i64_le(b, at) & _CHUNK_MASK
        if x == y:
            _write_chunk(out, x)
        else:
            even = y & _LANES
            not_less = ((x & _LANES | _ABOVE) - even) & _ABOVE
            even ^= ((x ^ y) & _LANES) & (not_less - (not_less >> 6))
            odd = y >> 6 & _LANES
            not_less = ((x >> 6 & _LANES | _ABOVE) - odd) & _ABOVE
            odd ^= ((x ^ y) >> 6 & _LANES) & (not_less - (not_less >> 6))
            _write_chunk(out, even | odd << 6)
        at += _CHUNK
    return out.getvalue()


def set_dense(data: bytearray, packed: bytes) -> None:
    """Make a string dense, with these registers."""
    data[4] = DENSE
    data[HEADER:] = packed


def write_registers(data: bytearray, found: vec[i64], sparse_max: i64) -> None:
    """Raise the registers of a string to those of a merge that it was part of.

    Raises:
        Corrupted: a sparse string's runs do not make 16384 registers.
    """
    index: i64 = 0
    while index < REGISTERS:
        value = found[index]
        if value != 0:
            if data[4] == DENSE:
                _dense_set(data, index, value)
            else:
                sparse_set(data, index, value, sparse_max)
        index += 1


# The estimate -------------------------------------------------------------------------------------

_ALPHA: Final = 0.721347520444481703680  # 1 / (2 ln 2)
_LLONG_MIN: Final = -(1 << 63)


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y = 1.0
    z = x
    while True:
        x *= x
        previous = z
        z += x * y
        y += y
        if previous == z:
            return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y = 1.0
    z = 1.0 - x
    while True:
        x = math.sqrt(x)
        previous = z
        y *= 0.5
        z -= (1.0 - x) * (1.0 - x) * y
        if previous == z:
            return z / 3.0


def estimate(found: vec[i64]) -> int:
    """How many different elements make such registers."""
    histogram: vec[i64] = vec[i64]([0] * 64)
    index: i64 = 0
    while index < REGISTERS:
        value = found[index]
        histogram[value] = histogram[value] + 1
        index += 1
    m = float(REGISTERS)
    z = m * _tau((m - float(histogram[_VALUE_BITS + 1])) / m)
    for larger in range(_VALUE_BITS, 0, -1):
        z += float(histogram[larger])
        z *= 0.5
    z += m * _sigma(float(histogram[0]) / m)
    if z == 0.0:
        return _LLONG_MIN  # what C makes of an infinite number
    return math.floor(_ALPHA * m * m / z + 0.5)


def runs_text(data: bytearray) -> bytes:
    """The runs of a sparse string for people, as PFDEBUG DECODE shows them."""
    shown: list[bytes] = []
    at: i64 = HEADER
    end: i64 = len(data)
    while at < end:
        opcode: i64 = data[at]
        at += 1
        if opcode < 0x40:
            shown.append(b"z:%d" % (opcode + 1))
        elif opcode < 0x80:
            low: i64 = data[at] if at < end else 0
            at += 1
            shown.append(b"Z:%d" % (((opcode & 63) << 8 | low) + 1))
        else:
            shown.append(b"v:%d,%d" % ((opcode >> 2 & 31) + 1, (opcode & 3) + 1))
    return b" ".join(shown)


if __file__.endswith(".py"):
    from appliance.redis import _murmur_pure

    globals()["murmur64"] = _murmur_pure.murmur64
