"""Bits of long strings: both ways of counting and combining agree with the obvious one."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.redis import bits

texts = st.one_of(
    st.binary(max_size=300),
    st.tuples(st.sampled_from([b"\0", b"\xff", b"\x80", b"\x01\xfe"]), st.integers(0, 200)).map(
        lambda pair: pair[0] * pair[1]
    ),
)


@given(texts)
def test_counts_are_the_sum_over_bytes(data: bytes) -> None:
    wanted = sum(byte.bit_count() for byte in data)
    assert bits.count_by_words(data) == bits.count_by_integer(data) == bits.count(data) == wanted


@pytest.mark.parametrize("position", range(0, 8 * 80, 7))
def test_counting_sees_every_bit(position: int) -> None:
    alone = (1 << position).to_bytes(80, "little")
    assert bits.count_by_words(alone) == 1
    assert bits.count_by_words(bytes(255 - byte for byte in alone)) == 639


BYTEWISE = {
    bits.AND: lambda a, b: a & b,
    bits.OR: lambda a, b: a | b,
    bits.XOR: lambda a, b: a ^ b,
    bits.AND_NOT: lambda a, b: a & ~b & 255,
}


@pytest.mark.parametrize("operation", BYTEWISE)
@given(texts, texts)
def test_combinations_are_those_of_the_bytes(operation: int, first: bytes, second: bytes) -> None:
    size = min(len(first), len(second))
    first, second = first[:size], second[:size]
    wanted = bytes(BYTEWISE[operation](a, b) for a, b in zip(first, second, strict=True))
    assert bits.combine_by_words(operation, first, second) == wanted
    assert bits.combine_by_integer(operation, first, second) == wanted
    assert bits.combine(operation, first, second) == wanted


@pytest.mark.parametrize("filler", [0, 255])
@pytest.mark.parametrize("at", [0, 1, 15, 16, 17, 31, 2047, 2048, 4095, 4096, 4097, 9000, 12345])
def test_the_first_byte_unlike_is_found(filler: int, at: int) -> None:
    data = bytearray([filler]) * 12346
    data[at] = 0x10
    assert bits.first_byte_unlike(data, 0, len(data), filler) == at
    assert bits.first_byte_unlike(bytes(data), at, len(data), filler) == at
    assert bits.first_byte_unlike(data, 0, at, filler) == -1
    assert bits.first_byte_unlike(data, at + 1, len(data), filler) == -1


@given(st.binary(max_size=100), st.integers(0, 100), st.integers(0, 100), st.sampled_from([0, 255]))
def test_the_first_byte_unlike_in_any_range(data: bytes, start: int, stop: int, filler: int) -> None:
    stop = min(stop, len(data))
    wanted = next((at for at in range(start, stop) if data[at] != filler), -1)
    assert bits.first_byte_unlike(data, start, stop, filler) == wanted
