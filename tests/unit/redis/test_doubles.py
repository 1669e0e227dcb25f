"""Texts of doubles, both ways. That the digits are redis-server's own is compared in tests/conformance."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from appliance.redis.doubles import double_text, parse_bound, parse_double


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, b"0"),
        (-0.0, b"-0"),
        (3.0, b"3"),
        (-17.0, b"-17"),
        (0.1, b"0.1"),
        (1.5e-07, b"1.5e-7"),
        (0.0001, b"0.0001"),
        (1.25e-05, b"1.25e-5"),
        (2e-06, b"0.000002"),
        (123456789.125, b"123456789.125"),
        (float(2**62), b"4611686018427387904"),
        (4.611686018427389e18, b"4611686018427389000"),
        (-9.2e18, b"-9.2e+18"),
        (1e20, b"1e+20"),
        (1e300, b"1e+300"),
        (1.7976931348623157e308, b"1.7976931348623157e+308"),
        (5e-324, b"5e-324"),
        (2.2250738585072014e-308, b"2.2250738585072014e-308"),
        (float("inf"), b"inf"),
        (float("-inf"), b"-inf"),
        (float("nan"), b"nan"),
    ],
)
def test_double_text(value: float, text: bytes) -> None:
    assert double_text(value) == text


@given(st.floats(allow_nan=False))
def test_double_text_reads_back_with_its_sign(value: float) -> None:
    text = double_text(value)
    assert float(text) == value
    for parse in (parse_double, parse_bound):
        assert parse(text) == value
        assert math.copysign(1.0, parse(text)) == math.copysign(1.0, value)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 20))
def test_any_decimal_reads_as_python_reads_it(value: float, decimals: int) -> None:
    for text in (repr(value), f"{value:.{decimals}f}", f"{value:+.{decimals}e}"):
        assert parse_bound(text.encode()) == float(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"+1", 1.0),
        (b"1.", 1.0),
        (b".5", 0.5),
        (b"-.5e1", -5.0),
        (b"00012", 12.0),
        (b"1E5", 1e5),
        (b"123456789012345678", 123456789012345678.0),
        (b"123456789012345678901234567890", 123456789012345678901234567890.0),
        (b"0." + b"0" * 400 + b"1e401", 1.0),
        (b"0e99999999999999999999", 0.0),
        (b"4.9e-324", 5e-324),
        (b"INF", math.inf),
        (b"-Infinity", -math.inf),
        (b"+inf", math.inf),
        (b"0x10", 16.0),
        (b"-0x1.8p-1", -0.75),
        (b"0X.8", 0.5),
        (b"0x0p99999999999999999999", 0.0),
    ],
)
def test_a_score_is_what_strtod_accepts(text: bytes, value: float) -> None:
    assert parse_double(text) == value


@pytest.mark.parametrize(
    "text",
    (
        b"| 1|1 |\t1|nan|-nan|infinit|.|-|+-1|1e|1e+|1_0|1\0|1d5|1e400|-1e400|1e-400|1e99999999999999999999|"
        b"1e-99999999999999999999|0x|0xg|0x1p|0x1p9999|0x1p-9999|0x1p99999999999999999999|\xb2|\xa01"
    ).split(b"|"),
)
def test_what_is_no_score_is_not_a_number(text: bytes) -> None:
    assert math.isnan(parse_double(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"", 0.0),
        (b"\0", 0.0),
        (b"1\0x", 1.0),
        (b"1e400", math.inf),
        (b"-1e400", -math.inf),
        (b"1e-400", 0.0),
    ],
)
def test_a_bound_stops_at_nul_and_may_be_out_of_range(text: bytes, value: float) -> None:
    assert parse_bound(text) == value


@pytest.mark.parametrize("text", [b" 0", b"0 ", b"nan", b"0x10", b"+", b"-+1", b"1e", b".e", b"infx"])
def test_what_is_no_bound_is_not_a_number(text: bytes) -> None:
    assert math.isnan(parse_bound(text))
