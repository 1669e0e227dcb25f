"""Bits of long strings: counting, searching and combining them faster than byte by byte.

Two ways to the same results. The interpreter is fast where Python's own C code does the work on all bytes at
once: long integers, and comparisons of blocks. Compiled code is faster still word by word (64 bits). Which
one runs is decided at import; the tests run both in either build.

Source:     Harley and Seal's carry-save adder and the summing within a word: H. S. Warren, Hacker's Delight,
            2nd edition, §5-1 and §5-2.
Units:      positions in bits, bit 0 being the highest of byte 0, as SETBIT counts them.
Invariants: no operation on i64 overflows, nor depends on the sign of a word: words are only shifted after
            being cut to 32 bits, and otherwise combined bit by bit.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i64_le, write_i64_le
from mypy_extensions import i64

# The operations of BITOP that combine two strings of one length; the others are made of them.
AND: Final = 0
OR: Final = 1
XOR: Final = 2
AND_NOT: Final = 3  # the first without the second

# Blocks that are compared with a block of one value, to pass over what cannot hold the bit.
_BLOCK: Final = 4096
_ZEROS: Final = bytes(_BLOCK)
_ONES: Final = b"\xff" * _BLOCK

_LOW_32: Final = 0xFFFF_FFFF
_PAIRS: Final = 0x5555_5555
_NIBBLES: Final = 0x3333_3333
_BYTES: Final = 0x0F0F_0F0F


def _count_word(word: i64) -> i64:
    """Set bits of a word."""
    low: i64 = word & _LOW_32
    high: i64 = (word >> 32) & _LOW_32
    low -= (low >> 1) & _PAIRS
    high -= (high >> 1) & _PAIRS
    # Sums of pairs up to 4 in each nibble: two words' nibbles together still fit.
    both: i64 = (low & _NIBBLES) + ((low >> 2) & _NIBBLES) + (high & _NIBBLES) + ((high >> 2) & _NIBBLES)
    both = (both & _BYTES) + ((both >> 4) & _BYTES)
    both += both >> 8
    return (both + (both >> 16)) & 0xFF


def count_by_words(data: bytes) -> int:
    """Set bits, sixty-four at a time; eight words are added bit by bit before anything is counted."""
    size: i64 = len(data)
    at: i64 = 0
    ones: i64 = 0
    twos: i64 = 0
    fours: i64 = 0
    eights_counted: i64 = 0
    stop: i64 = size - 64
    while at <= stop:
        # Each pair of lines is a full adder for 64 columns: sum and carry of three words.
        a: i64 = read_i64_le(data, at)
        b: i64 = read_i64_le(data, at + 8)
        half: i64 = ones ^ a
        carry_1: i64 = (ones & a) | (half & b)
        ones = half ^ b
        a = read_i64_le(data, at + 16)
        b = read_i64_le(data, at + 24)
        half = ones ^ a
        carry_2: i64 = (ones & a) | (half & b)
        ones = half ^ b
        half = twos ^ carry_1
        fours_1: i64 = (twos & carry_1) | (half & carry_2)
        twos = half ^ carry_2
        a = read_i64_le(data, at + 32)
        b = read_i64_le(data, at + 40)
        half = ones ^ a
        carry_1 = (ones & a) | (half & b)
        ones = half ^ b
        a = read_i64_le(data, at + 48)
        b = read_i64_le(data, at + 56)
        half = ones ^ a
        carry_2 = (ones & a) | (half & b)
        ones = half ^ b
        half = twos ^ carry_1
        fours_2: i64 = (twos & carry_1) | (half & carry_2)
        twos = half ^ carry_2
        half = fours ^ fours_1
        eights: i64 = (fours & fours_1) | (half & fours_2)
        fours = half ^ fours_2
        eights_counted += _count_word(eights)
        at += 64
    total: i64 = 8 * eights_counted + 4 * _count_word(fours) + 2 * _count_word(twos) + _count_word(ones)
    return total + int.from_bytes(data[at:], "little").bit_count()


def count_by_integer(data: bytes) -> int:
    """Set bits, by a long integer."""
    return int.from_bytes(data, "little").bit_count()


def combine_by_words(operation: i64, first: bytes, second: bytes) -> bytes:
    """AND, OR, XOR or AND_NOT of two strings of one length, sixty-four bits at a time."""
    size: i64 = len(first)
    writer = BytesWriter()
    at: i64 = 0
    stop: i64 = size - 8
    if operation == AND:
        while at <= stop:
            write_i64_le(writer, read_i64_le(first, at) & read_i64_le(second, at))
            at += 8
    elif operation == OR:
        while at <= stop:
            write_i64_le(writer, read_i64_le(first, at) | read_i64_le(second, at))
            at += 8
    elif operation == XOR:
        while at <= stop:
            write_i64_le(writer, read_i64_le(first, at) ^ read_i64_le(second, at))
            at += 8
    else:
        while at <= stop:
            write_i64_le(writer, read_i64_le(first, at) & ~read_i64_le(second, at))
            at += 8
    if at < size:
        writer.write(combine_by_integer(operation, first[at:], second[at:]))
    return writer.getvalue()


def combine_by_integer(operation: i64, first: bytes, second: bytes) -> bytes:
    """The same by long integers."""
    one = int.from_bytes(first, "little")
    other = int.from_bytes(second, "little")
    if operation == AND:
        result = one & other
    elif operation == OR:
        result = one | other
    elif operation == XOR:
        result = one ^ other
    else:
        result = one & ~other
    return result.to_bytes(len(first), "little")


_IS_COMPILED: Final = not __file__.endswith(".py")


def count(data: bytes) -> int:
    """Set bits."""
    return count_by_words(data) if _IS_COMPILED else count_by_integer(data)


def combine(operation: i64, first: bytes, second: bytes) -> bytes:
    """AND, OR, XOR or AND_NOT of two strings of one length."""
    if _IS_COMPILED:
        return combine_by_words(operation, first, second)
    return combine_by_integer(operation, first, second)


def first_byte_unlike(data: bytes | bytearray, start: i64, stop: i64, filler: i64) -> i64:
    """The index of the first byte in data[start:stop] that is not `filler` (0 or 255); -1 when all are."""
    block = _ZEROS if filler == 0 else _ONES
    at = start
    while at + _BLOCK <= stop and data[at : at + _BLOCK] == block:
        at += _BLOCK
    # The byte is in this block, if anywhere: halve it until it is found.
    width: i64 = _BLOCK // 2
    while width >= 16:
        if at + width <= stop and data[at : at + width] == block[:width]:
            at += width
        width //= 2
    while at < stop:
        byte: i64 = data[at]
        if byte != filler:
            return at
        at += 1
    return -1
