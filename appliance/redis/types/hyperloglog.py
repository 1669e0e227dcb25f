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

from librt.strings import read_i64_le
from librt.vecs import vec
from mypy_extensions import i64

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
# How many runs around a change are looked at for joining.
_JOIN_REACH: Final = 5


class Corrupted(Exception):
    """A sparse string whose runs do not make 16384 registers."""


# The hash -----------------------------------------------------------------------------------------

_MULTIPLIER: Final = 0xC6A4_A793_5BD1_E995 - (1 << 64)
_SEED: Final = 0xADC8_3B19
_LOW_17: Final = (1 << 17) - 1


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
    if at < length:
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
    data.extend(_packed(found))


def _packed(found: vec[i64]) -> bytes:
    """Registers in the dense form."""
    packed = bytearray(DENSE_SIZE - HEADER)
    at: i64 = 0
    index: i64 = 0
    while index < REGISTERS:
        three = found[index] | found[index + 1] << 6 | found[index + 2] << 12 | found[index + 3] << 18
        if three != 0:
            packed[at] = three & 255
            packed[at + 1] = three >> 8 & 255
            packed[at + 2] = three >> 16
        at += 3
        index += 4
    return bytes(packed)


def write_registers(data: bytearray, found: vec[i64], sparse_max: i64) -> None:
    """Raise the registers of a string to those of a merge that it was part of.

    Raises:
        Corrupted: a sparse string's runs do not make 16384 registers.
    """
    index: i64 = 0
    if data[4] == DENSE:
        data[HEADER:] = _packed(found)
        return
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
