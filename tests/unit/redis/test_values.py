"""Texts of numbers, the forms of strings, glob patterns."""

from __future__ import annotations

import fnmatch
from decimal import Decimal, localcontext

import pytest
from hypothesis import given, strategies as st

from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.integers import parse_integer
from appliance.redis.longdouble import parse_long_double
from appliance.redis.replies import integer_text
from appliance.redis.values import (
    StringBuffer,
    copied,
    encoding_name,
    string_length,
    string_text,
    string_value,
    type_name,
)

# Integers ---------------------------------------------------------------------------------------------


@given(st.integers(-(2**63), 2**63 - 1))
def test_integer_text_reads_back(value: int) -> None:
    assert parse_integer(integer_text(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-",
        b"+1",
        b"01",
        b"-0",
        b"-01",
        b" 1",
        b"1 ",
        b"1.0",
        b"1e3",
        b"0x1",
        b"--1",
        b"a",
        b"1a",
        b"\xb2",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"99999999999999999999",
        b"1" * 21,
        b"1" * 19 + b"a",
        b"-" * 20,
        b"1-2",
        b"1" * 18 + b"-",
    ],
)
def test_text_that_is_no_canonical_integer_is_none(text: bytes) -> None:
    assert parse_integer(text) is None


@given(st.binary(max_size=22))
def test_parse_integer_accepts_exactly_what_it_would_print(text: bytes) -> None:
    value = parse_integer(text)
    assert value is None or integer_text(value) == text


# Long doubles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        (b"0.1", b"0.2", b"0.3"),
        (b"10.50", b"0.1", b"10.6"),
        (b"3.0e3", b"200", b"3200"),
        (b"5e-1", b"-.5", b"0"),
        (b"1", b"-1.00000000000000000000001", b"0"),
        (b"0x10", b"0x1.8p1", b"19"),
        (b"9007199254740993", b"0", b"9007199254740993"),  # a double would lose the 3
        (b"18446744073709551617", b"0", b"18446744073709551616"),  # 65 bits: half to even
        (b"36893488147419103235", b"0", b"36893488147419103236"),
        (b"-2.5", b"-0", b"-2.5"),
        (b"1e-30", b"0", b"0"),
    ],
)
def test_long_double_sum(left: bytes, right: bytes, text: bytes) -> None:
    assert parse_long_double(left).plus(parse_long_double(right)).text() == text


def test_long_double_of_thousands_of_digits_is_printed_whole() -> None:
    """More digits than Python converts at once."""
    text = parse_long_double(b"1" + b"0" * 4900).text()
    assert len(text) in (4900, 4901)  # the nearest extended number lies on either side
    assert parse_long_double(text).text() == text


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" 1",
        b"1 ",
        b"abc",
        b".",
        b"e5",
        b"1e",
        b"nan",
        b"1e5000",
        b"1e-5000",
        b"0x",
        b"--1",
        b"1_0",
        b"1e99999999999999",
        b"1" * 6000,
        b"infinit",
        b"1\x00",
    ],
)
def test_text_that_is_no_long_double_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_long_double(text)


def test_infinity_is_kept_apart() -> None:
    assert parse_long_double(b"inf").is_infinite
    big = parse_long_double(b"1.1897314953572317649e4932")
    assert big.plus(big).is_infinite
    assert not big.is_infinite


@given(st.decimals(-(10**15), 10**15, places=3), st.decimals(-(10**15), 10**15, places=3))
def test_sums_of_short_decimals_are_exact_to_the_third_place(left: Decimal, right: Decimal) -> None:
    result = parse_long_double(f"{left:f}".encode()).plus(parse_long_double(f"{right:f}".encode())).text()
    with localcontext() as context:
        context.prec = 60
        assert abs(Decimal(result.decode()) - (left + right)) < Decimal("0.0005")


# Forms of strings -------------------------------------------------------------------------------------


@given(st.one_of(st.binary(max_size=30), st.integers(-(2**70), 2**70).map(lambda n: b"%d" % n)))
def test_string_value_keeps_the_text(text: bytes) -> None:
    value = string_value(text)
    assert string_text(value) == text
    assert string_length(value) == len(text)
    assert string_text(copied(value)) == text
    assert type_name(value) == b"string"


def test_canonical_integers_are_kept_as_such() -> None:
    assert string_value(b"-5") == -5
    assert string_value(b"05") == b"05"
    assert string_value(b"9223372036854775808") == b"9223372036854775808"


def test_encoding_follows_form_and_size() -> None:
    assert encoding_name(b"k", 5, False) == b"int"
    assert encoding_name(b"k", b"x" * 40, False) == b"embstr"
    assert encoding_name(b"k", b"x" * 41, False) == b"raw"
    assert encoding_name(b"k", b"x" * 33, True) == b"raw"
    assert encoding_name(b"k", StringBuffer(b"x"), False) == b"raw"


def test_copy_of_a_buffer_is_independent() -> None:
    original = StringBuffer(b"ab")
    twin = copied(original)
    assert isinstance(twin, StringBuffer)
    twin.data.extend(b"c")
    assert original.data == b"ab"


def test_value_of_another_type_is_wrongtype() -> None:
    with pytest.raises(CommandError) as caught:
        string_text([1])
    assert caught.value.message.startswith(b"WRONGTYPE ")
    with pytest.raises(TypeError):
        type_name([1])


# Glob -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (b"", b"", True),
        (b"", b"a", False),
        (b"*", b"", True),
        (b"**", b"abc", True),
        (b"?", b"", False),
        (b"a*c", b"abbbc", True),
        (b"a*c", b"abbb", False),
        (b"*a*b", b"xaxaxb", True),
        (b"[a-c]", b"b", True),
        (b"[c-a]", b"b", True),
        (b"[^a]", b"b", True),
        (b"[^a]", b"a", False),
        (b"[]", b"a", False),
        (b"[^]", b"a", True),
        (b"[a", b"a", True),
        (b"[a-", b"-", True),
        (b"[a-]", b"b", False),
        (b"[a-]", b"]", True),
        (b"\\*", b"*", True),
        (b"\\*", b"a", False),
        (b"\\", b"\\", True),
        (b"[\\]]", b"]", True),
        (b"a\\", b"a\\", True),
        (b"?*?", b"ab", True),
        (b"?*?", b"a", False),
    ],
)
def test_glob(pattern: bytes, text: bytes, matches: bool) -> None:
    assert glob_match(pattern, text) is matches


@given(
    st.text("ab*?", max_size=10).map(str.encode),
    st.text("ab", max_size=12).map(str.encode),
)
def test_stars_and_question_marks_agree_with_fnmatch(pattern: bytes, text: bytes) -> None:
    assert glob_match(pattern, text) == fnmatch.fnmatchcase(text.decode(), pattern.decode())


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_any_pattern_ends(pattern: bytes, text: bytes) -> None:
    assert glob_match(pattern, text) in (True, False)


def test_glob_ignores_case_when_asked() -> None:
    assert glob_match(b"MAX*", b"maxmemory", ignore_case=True)
    assert not glob_match(b"MAX*", b"maxmemory")


def test_pattern_of_many_stars_costs_no_more_than_their_product() -> None:
    """A matcher that goes back to every star would not come back from this one before the universe ends."""
    assert not glob_match(b"a*" * 50 + b"b", b"a" * 2000)
