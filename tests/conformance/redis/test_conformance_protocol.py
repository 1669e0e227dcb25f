"""The request form itself: limits, errors and odd input are answered, and closed, as redis-server does."""

from __future__ import annotations

import pytest

from tests.support.redis_pair import Pair, encode_request

pytestmark = pytest.mark.conformance

MIB = 1024 * 1024

# Bytes after which the server answers an error and closes.
FATAL: dict[str, bytes] = {
    "multibulk length is no number": b"*abc\r\n",
    "multibulk length is empty": b"*\r\n",
    "multibulk length has a plus": b"*+1\r\n$4\r\nPING\r\n",
    "multibulk length has a zero before it": b"*01\r\n$4\r\nPING\r\n",
    "multibulk length has a space": b"* 1\r\n",
    "multibulk length is beyond int": b"*2147483648\r\n",
    "multibulk length is beyond 64 bits": b"*99999999999999999999\r\n",
    "multibulk length is minus zero": b"*-0\r\n",
    "bulk length is no number": b"*1\r\n$abc\r\n",
    "bulk length is empty": b"*1\r\n$\r\n",
    "bulk length is negative": b"*1\r\n$-1\r\n",
    "bulk length is too big": b"*1\r\n$536870913\r\n",
    "bulk length is beyond 64 bits": b"*1\r\n$99999999999999999999\r\n",
    "bulk length has a zero before it": b"*1\r\n$04\r\nPING\r\n",
    "second bulk length is no number": b"*2\r\n$3\r\nGET\r\n$x\r\n",
    "integer where a bulk should be": b"*1\r\n:4\r\nPING\r\n",
    "letter where a bulk should be": b"*1\r\nPING\r\n",
    "CR where a bulk should be": b"*1\r\n\r\n",
    "LF where a bulk should be": b"*1\r\n\n\r\n",
    "high byte where a bulk should be": b"*1\r\n\xff\r\n",
    "nested array": b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "unbalanced double quote": b'GET "abc\r\n',
    "unbalanced single quote": b"GET 'abc\r\n",
    "text behind a closing quote": b'GET "abc"def\r\n',
    "text behind a closing single quote": b"GET 'abc'def\r\n",
    "inline request too long": b"x" * (64 * 1024 + 1),
    "multibulk length too long": b"*" + b"1" * (64 * 1024 + 1),
    "bulk length too long": b"*1\r\n$" + b"1" * (64 * 1024 + 1),
    "a request before the error": b"PING\r\n*x\r\n",
}


@pytest.mark.parametrize("name", FATAL)
def test_protocol_error_is_the_servers_and_closes(pair: Pair, name: str) -> None:
    ours, theirs = pair.exchange(FATAL[name], 99)  # until the server closes
    assert ours == theirs
    assert ours.splitlines()[-1].startswith(b"-ERR Protocol error: ")
    assert pair.ours.session.is_closing
    assert pair.ours.send(b"PING\r\n") == b""


# Bytes that are odd, and yet no error: the number of replies they make.
TOLERATED: dict[str, tuple[bytes, int]] = {
    "empty and null arrays are passed over": (b"*0\r\n*-1\r\n*-100\r\nPING\r\n", 1),
    "blank lines are passed over": (b"\r\n\n \r\n\t\r\nPING\r\n", 1),
    "LF alone ends an inline request": (b"PING\nPING a\n", 2),
    "inline white space": (b"  PING \t hello \r\n", 1),
    "the bytes behind a bulk are not looked at": (b"*1\r\n$4\r\nPINGxy*1\r\n$4\r\nPING\r\n", 2),
    "the byte behind a CR is not looked at": (b"*1\rx$4\ryPING\r\n", 1),
    "an empty argument": (b"*2\r\n$4\r\nPING\r\n$0\r\n\r\n", 1),
    "an empty command": (b"*1\r\n$0\r\n\r\n", 1),
    "double quotes": (b'PING "a\\x41\\n\\r\\t\\b\\a\\\\\\"\\q b"\r\n', 1),
    "short hex escape": (b'PING "\\x4"\r\n', 1),
    "single quotes": (b"PING 'a\\'b\\n c'\r\n", 1),
    "empty quotes": (b'PING ""\r\n', 1),
    "quote inside a word": (b'PING a"b"\r\n', 1),
    "both forms mixed": (b"PING\r\n*1\r\n$4\r\nPING\r\nPING x\r\n*2\r\n$4\r\nECHO\r\n$1\r\ny\r\n", 4),
    "a bulk length with many digits": (b"*2\r\n$4\r\nPING\r\n$1000\r\n" + b"x" * 1000 + b"\r\n", 1),
    "ten arguments and more": (encode_request(("MGET", *(f"k{n}" for n in range(100)))), 1),
    "an inline request as long as may be": (b"PING " + b"x" * 60000 + b"\r\n", 1),
    "a pipeline": (encode_request(("INCR", "k")) * 1000, 1000),
}


@pytest.mark.parametrize("name", TOLERATED)
def test_odd_input_is_taken_as_the_server_takes_it(pair: Pair, name: str) -> None:
    data, replies = TOLERATED[name]
    ours, theirs = pair.exchange(data, replies)
    assert ours == theirs
    assert not pair.ours.session.is_closing


def test_values_of_megabytes_come_back(pair: Pair) -> None:
    value = bytes(range(256)) * (4 * MIB // 256)
    pair.same("SET", "k", value)
    assert pair.same("GET", "k") == b"$%d\r\n%s\r\n" % (len(value), value)
    pair.same("APPEND", "k", value)
    pair.same("GETRANGE", "k", 4 * MIB - 3, 4 * MIB + 3)


def test_max_bulk_follows_the_configuration(pair: Pair) -> None:
    pair.same("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    try:
        pair.same("SETRANGE", "k", MIB - 1, "x")
        pair.same("APPEND", "k", "x")
        pair.same("SETRANGE", "k", MIB, "x")
        ours, theirs = pair.exchange(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (MIB + 1), 99)
        assert ours == theirs
    finally:
        pair.reset()
        pair.same("CONFIG", "SET", "proto-max-bulk-len", "512mb")
