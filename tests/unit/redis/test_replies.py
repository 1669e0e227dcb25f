"""Each type of reply in RESP2 and RESP3, and how output is cut."""

from __future__ import annotations

import pytest

from appliance.redis.replies import (
    BIG_BULK,
    NO_REPLY,
    NULL_ARRAY,
    OK,
    BigNumber,
    Map,
    Push,
    ReplyBuffer,
    SetReply,
    SimpleError,
    SimpleString,
    Verbatim,
    encode_reply,
)


@pytest.mark.parametrize(
    ("reply", "resp2", "resp3"),
    [
        (b"abc", b"$3\r\nabc\r\n", b"$3\r\nabc\r\n"),
        (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
        (b"x" * 2000, b"$2000\r\n" + b"x" * 2000 + b"\r\n", b"$2000\r\n" + b"x" * 2000 + b"\r\n"),
        (0, b":0\r\n", b":0\r\n"),
        (1023, b":1023\r\n", b":1023\r\n"),
        (1024, b":1024\r\n", b":1024\r\n"),
        (1_000_007, b":1000007\r\n", b":1000007\r\n"),
        (1_023_999, b":1023999\r\n", b":1023999\r\n"),
        (1_024_000, b":1024000\r\n", b":1024000\r\n"),
        (-1, b":-1\r\n", b":-1\r\n"),
        (-(2**63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
        (NO_REPLY, b"", b""),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (OK, b"+OK\r\n", b"+OK\r\n"),
        (SimpleString(b"x"), b"+x\r\n", b"+x\r\n"),
        (SimpleError(b"ERR a\r\nb\r\n"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        ([1, [b"a", None]], b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n", b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n"),
        ((1, 2), b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:1\r\n:2\r\n"),
        (Map([b"a", 1]), b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        (SetReply([1]), b"*1\r\n:1\r\n", b"~1\r\n:1\r\n"),
        (Push([1]), b"*1\r\n:1\r\n", b">1\r\n:1\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (
            [b"a", None, 1.5, True, -7, 5000, [b"b", [], 2.0], OK, b"y" * 1500, Map([b"k", 1])],
            b"*10\r\n$1\r\na\r\n$-1\r\n$3\r\n1.5\r\n:1\r\n:-7\r\n:5000\r\n*3\r\n$1\r\nb\r\n*0\r\n$1\r\n2\r\n"
            b"+OK\r\n$1500\r\n" + b"y" * 1500 + b"\r\n*2\r\n$1\r\nk\r\n:1\r\n",
            b"*10\r\n$1\r\na\r\n_\r\n,1.5\r\n#t\r\n:-7\r\n:5000\r\n*3\r\n$1\r\nb\r\n*0\r\n,2\r\n"
            b"+OK\r\n$1500\r\n" + b"y" * 1500 + b"\r\n%1\r\n$1\r\nk\r\n:1\r\n",
        ),
        (Verbatim(b"ab"), b"$2\r\nab\r\n", b"=6\r\ntxt:ab\r\n"),
        (BigNumber(10**20), b"$21\r\n100000000000000000000\r\n", b"(100000000000000000000\r\n"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_reply_is_encoded(reply: object, resp2: bytes, resp3: bytes) -> None:
    assert encode_reply(reply) == resp2
    assert encode_reply(reply, resp3=True) == resp3


def test_value_of_no_reply_type_is_a_bug_of_the_handler() -> None:
    with pytest.raises(TypeError):
        encode_reply({"a": 1})


def test_take_joins_small_replies_and_then_has_none() -> None:
    buffer = ReplyBuffer()
    assert buffer.take() == []
    for reply in (OK, 1, b"abc", [b"x"]):
        buffer.reply(reply, resp3=False)
    assert buffer.take() == [b"+OK\r\n:1\r\n$3\r\nabc\r\n*1\r\n$1\r\nx\r\n"]
    assert buffer.take() == []


def test_big_bulk_goes_out_by_reference_between_the_small_ones() -> None:
    big = b"x" * BIG_BULK
    buffer = ReplyBuffer()
    for reply in (OK, big, 7, [big, b"y"]):
        buffer.reply(reply, resp3=False)
    output = buffer.take()
    head = b"$%d\r\n" % BIG_BULK
    assert output == [b"+OK\r\n" + head, big, b"\r\n:7\r\n*2\r\n" + head, big, b"\r\n$1\r\ny\r\n"]
    assert output[1] is big
    assert output[3] is big


def test_bulk_just_below_the_limit_is_joined() -> None:
    buffer = ReplyBuffer()
    buffer.reply(b"x" * (BIG_BULK - 1), resp3=False)
    assert len(buffer.take()) == 1


def test_a_big_bulk_string_inside_a_long_array_is_passed_by_reference() -> None:
    big = b"z" * BIG_BULK
    buffer = ReplyBuffer()
    buffer.reply([b"a", b"b", big, [b"c", big], b"d"], False)
    output = buffer.take()
    assert [part for part in output if part is big] == [big, big]
    assert b"".join(output) == (
        b"*5\r\n$1\r\na\r\n$1\r\nb\r\n$16384\r\n"
        + big
        + b"\r\n*2\r\n$1\r\nc\r\n$16384\r\n"
        + big
        + b"\r\n$1\r\nd\r\n"
    )


def test_a_long_array_of_small_strings_is_one_piece() -> None:
    buffer = ReplyBuffer()
    buffer.reply([b"abc"] * 10_000, False)
    output = buffer.take()
    assert b"".join(output) == b"*10000\r\n" + b"$3\r\nabc\r\n" * 10_000
    assert len(output) == 1
