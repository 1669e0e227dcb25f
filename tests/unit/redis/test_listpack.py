"""Listpacks: what is written can be read, sizes are foretold, and no bytes at all break the reader."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from librt.strings import BytesWriter

from appliance.redis.listpack import (
    ListpackError,
    element_size,
    elements_untrusted,
    integer_at,
    integer_size,
    is_integer_at,
    listpack,
    pack,
    string_at,
    unpack_untrusted,
    write_integer,
    write_string,
    write_text,
)

EDGES = [0, 127, 128, 4095, 4096, 32767, 32768, 8388607, 8388608, 2**31 - 1, 2**31, 2**63 - 1]
texts = st.one_of(
    st.binary(max_size=80),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
    st.sampled_from(
        [b"", b"-", b"-0", b"007", b"+1", b"1 ", b"9223372036854775808", b"x" * 4095, b"y" * 5000]
    ),
)


def written(value: int | bytes) -> bytes:
    out = BytesWriter()
    if isinstance(value, int):
        write_integer(out, value)
    else:
        write_text(out, value)
    return out.getvalue()


@pytest.mark.parametrize(
    "value", [sign * edge - shift for edge in EDGES for sign in (1, -1) for shift in (0, 1)]
)
def test_integer_is_read_back_and_its_size_foretold(value: int) -> None:
    data = written(value)
    assert integer_at(data + b"\xff" * 8, 0) == value
    assert element_size(data, 0) == integer_size(value) == len(data)
    assert is_integer_at(data, 0)


@pytest.mark.parametrize(
    "length", [0, 1, 63, 64, 125, 126, 127, 4095, 4096, 16380, 16383, 16384, 2_097_151, 2_100_000]
)
def test_text_is_read_back(length: int) -> None:
    text = b"1" * length
    data = written(text)
    assert string_at(data, 0) == text
    assert element_size(data, 0) == len(data)
    assert not is_integer_at(data, 0)


@given(st.lists(texts))
def test_any_strings_are_unpacked_as_they_were_packed(strings: list[bytes]) -> None:
    packed = pack(strings)
    assert unpack_untrusted(packed) == strings


@given(st.lists(texts, min_size=1), st.data())
def test_strings_in_front_can_be_left_out(strings: list[bytes], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(strings)))
    assert pack(strings, start) == pack(strings[start:])


@pytest.mark.parametrize("count", [65_534, 65_535, 70_000])
def test_more_strings_than_the_header_counts(count: int) -> None:
    assert unpack_untrusted(pack([b"x"] * count)) == [b"x"] * count


def test_string_that_spells_an_integer_is_one() -> None:
    out = BytesWriter()
    for text in (b"12", b"012", b"-0", b""):
        write_string(out, text)
    packed = listpack(out.getvalue(), 4)
    kinds = [is_integer_at(packed, at) for at in elements_untrusted(packed)]
    assert kinds == [True, False, False, False]


@given(st.lists(texts, max_size=5), st.data())
def test_any_damage_is_an_error_or_other_strings(strings: list[bytes], data: st.DataObject) -> None:
    packed = bytearray(pack(strings))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack_untrusted(bytes(packed))
    except ListpackError:
        return


@given(st.binary())
def test_any_bytes_are_a_listpack_or_an_error(data: bytes) -> None:
    for candidate in (data, listpack(data, 3)):
        try:
            unpack_untrusted(candidate)
        except ListpackError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x07\x00\x00\x00\x00\x00",
        b"\x08\x00\x00\x00\x00\x00\xff",
        b"\x07\x00\x00\x00\x01\x00\xff",
        b"\x07\x00\x00\x00\x00\x00\xfe",
        b"\x09\x00\x00\x00\x02\x00\x01\x01\xff",
        b"\x09\x00\x00\x00\x01\x00\x01\x02\xff",
        b"\x08\x00\x00\x00\x01\x00\x01\xff",
        b"\x0a\x00\x00\x00\x01\x00\x85ab\xff",
        b"\x0d\x00\x00\x00\x01\x00\xf0\xff\xff\xff\xff\x01\xff",
        b"\x09\x00\x00\x00\x01\x00\xf5\x01\xff",
    ],
)
def test_what_is_no_listpack_is_refused(data: bytes) -> None:
    with pytest.raises(ListpackError):
        elements_untrusted(data)
