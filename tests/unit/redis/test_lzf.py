"""LZF and CRC-64: known values, any bytes there and back, and nothing that breaks the reader."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.redis.crc64 import crc64
from appliance.redis.lzf import LzfError, compress, decompress_untrusted

repetitive = st.tuples(st.binary(min_size=1, max_size=60), st.integers(1, 40)).map(
    lambda pair: pair[0] * pair[1]
)


def test_crc_of_the_check_string_is_the_catalogues() -> None:
    assert crc64(b"123456789", 9) & (1 << 64) - 1 == 0xE9C6_D914_C4B8_D9CA


@given(st.binary(max_size=200))
def test_crc_eight_bytes_at_a_time_is_the_bitwise_one(data: bytes) -> None:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC_9329_AC4B_C9B5 if crc & 1 else 0)
    assert crc64(data, len(data)) & (1 << 64) - 1 == crc


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_crc_goes_on_from_that_of_what_is_before(first: bytes, second: bytes) -> None:
    assert crc64(second, len(second), crc64(first, len(first))) == crc64(first + second, len(first + second))


def test_crc_is_of_the_first_bytes_alone() -> None:
    assert crc64(b"123456789 and more", 9) == crc64(b"123456789", 9)


@given(st.one_of(repetitive, st.binary(max_size=3000)))
def test_any_bytes_come_back(data: bytes) -> None:
    packed = compress(data, len(data) + len(data) // 16 + 16)
    if packed is not None:
        assert decompress_untrusted(packed, len(data)) == data


@given(repetitive, st.integers(0, 300))
def test_compressed_is_no_longer_than_asked_for(data: bytes, limit: int) -> None:
    packed = compress(data, limit)
    assert packed is None or len(packed) <= limit + 1


@pytest.mark.parametrize("size", [131_000, 131_072, 400_000])
def test_any_length_comes_back(size: int) -> None:
    data = b"".join([b"%d," % (number * 7919) for number in range(size // 8)])[:size]
    for _ in range(2):
        packed = compress(data, len(data))
        assert packed is not None
        assert decompress_untrusted(packed, len(data)) == data
        assert compress(b"a short one" * 5, 50) is not None


def test_repetition_is_short() -> None:
    packed = compress(b"ab" * 5000, 10_000)
    assert packed is not None
    assert len(packed) < 150


def test_match_beyond_the_window_is_not_found() -> None:
    noise = b"".join(number.to_bytes(4, "big") for number in range(3000))
    packed = compress(b"needle and thread" + noise + b"needle and thread", 20_000)
    assert packed is not None
    assert decompress_untrusted(packed, 12_034).endswith(b"needle and thread")


@given(st.binary(max_size=200), st.integers(0, 5000))
def test_any_bytes_are_lzf_or_an_error(data: bytes, size: int) -> None:
    try:
        assert len(decompress_untrusted(data, size)) == size
    except LzfError:
        return


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 1),
        (b"\x00a", 2),
        (b"\x00", 1),
        (b"\x00a\x20\x01", 4),
        (b"\x00a\x20", 4),
        (b"\x00a\xe0", 10),
        (b"\x05ab", 6),
        (b"\x00a", 1 << 60),
    ],
)
def test_what_is_no_lzf_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(LzfError):
        decompress_untrusted(data, size)
