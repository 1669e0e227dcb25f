"""The request parser and the value parser: every state, every bad input, any split of the stream."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, strategies as st

from appliance.redis.replies import (
    NULL_ARRAY,
    BigNumber,
    Map,
    Push,
    SetReply,
    SimpleError,
    SimpleString,
    Verbatim,
    encode_reply,
)
from appliance.redis.resp import (
    MAX_DEPTH,
    MAX_LINE,
    RequestParser,
    RespError,
    ValueParser,
    split_arguments,
)


def encode_request(args: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args)


def parse_pieces(
    pieces: list[bytes], parser: RequestParser | None = None
) -> tuple[list[list[bytes]], bytes | None]:
    """All requests in the pieces of a stream, and the error that ended it."""
    parser = parser if parser is not None else RequestParser()
    requests: list[list[bytes]] = []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.next_request()) is not None:
            requests.append(request)
        if parser.error is not None:
            break
    return requests, parser.error


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in pieces, none empty."""
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:stop] for start, stop in itertools.pairwise(places)]


def whole_and_byte_by_byte(stream: bytes) -> tuple[list[list[bytes]], bytes | None]:
    """Parse in one piece, in single bytes, and with each cut in two; all must agree."""
    whole = parse_pieces([stream])
    assert parse_pieces([stream[at : at + 1] for at in range(len(stream))]) == whole
    for at in range(1, min(len(stream), 200)):
        assert parse_pieces([stream[:at], stream[at:]]) == whole, at
    return whole


# Requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "requests"),
    [
        (b"*1\r\n$4\r\nPING\r\n", [[b"PING"]]),
        (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", [[b"GET", b""]]),
        (b"*2\r\n$3\r\nGET\r\n$12\r\nkey:\r\n:value\r\n", [[b"GET", b"key:\r\n:value"]]),
        (b"*0\r\n*-1\r\n*1\r\n$1\r\nx\r\n", [[b"x"]]),
        (b"*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", [[b"a"], [b"b"]]),
        (b"PING\r\n", [[b"PING"]]),
        (b"  GET   a \t b\n", [[b"GET", b"a", b"b"]]),
        (b"\r\n\n \r\nPING\r\n", [[b"PING"]]),
        (b"PING\r\n*1\r\n$4\r\nPING\r\nPING x\r\n", [[b"PING"], [b"PING"], [b"PING", b"x"]]),
        (b"*11\r\n" + b"$1\r\nx\r\n" * 11, [[b"x"] * 11]),
        (b"*1\r\n$10\r\n0123456789\r\n", [[b"0123456789"]]),
        (b"*1\r\n$100\r\n" + b"y" * 100 + b"\r\n", [[b"y" * 100]]),
        (b"*1\r\n$12345\r\n" + b"y" * 12345 + b"\r\n", [[b"y" * 12345]]),
        (b"*1\r\n$4\r\nPINGxx*1\r\n$1\r\na\r\n", [[b"PING"], [b"a"]]),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else "",
)
def test_requests_are_found_at_any_split(stream: bytes, requests: list[list[bytes]]) -> None:
    assert parse_pieces([stream]) == (requests, None)
    if len(stream) < 500:
        assert whole_and_byte_by_byte(stream) == (requests, None)
    else:
        assert parse_pieces([stream[at : at + 7] for at in range(0, len(stream), 7)]) == (requests, None)


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"*x\r\n", b"invalid multibulk length"),
        (b"*\r\n", b"invalid multibulk length"),
        (b"*01\r\n", b"invalid multibulk length"),
        (b"*2147483648\r\n", b"invalid multibulk length"),
        (b"*9223372036854775808\r\n", b"invalid multibulk length"),
        (b"*1\r\n$x\r\n", b"invalid bulk length"),
        (b"*1\r\n$\r\n", b"invalid bulk length"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n$01\r\n", b"invalid bulk length"),
        (b"*1\r\n$1x\r\n", b"invalid bulk length"),
        (b"*1\r\n$536870913\r\n", b"invalid bulk length"),
        (b"*1\r\n$9223372036854775807\r\n", b"invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n", b"invalid bulk length"),
        (b"*2\r\n$1\r\na\r\n:1\r\n", b"expected '$', got ':'"),
        (b"*1\r\nPING\r\n", b"expected '$', got 'P'"),
        (b'"a\r\n', b"unbalanced quotes in request"),
        (b"'a\r\n", b"unbalanced quotes in request"),
        (b'"a"b\r\n', b"unbalanced quotes in request"),
        (b"'a'b\r\n", b"unbalanced quotes in request"),
        (b"PING\r\n*x\r\n*1\r\n$4\r\nPING\r\n", b"invalid multibulk length"),
    ],
)
def test_bad_requests_fail_alike_at_any_split(stream: bytes, error: bytes) -> None:
    requests, found = whole_and_byte_by_byte(stream)
    assert found == b"Protocol error: " + error
    assert requests == ([[b"PING"]] if stream.startswith(b"PING") else [])


@pytest.mark.parametrize(
    ("start", "error"),
    [
        (b"x", b"too big inline request"),
        (b"*1", b"too big mbulk count string"),
        (b"*1\r\n$1", b"too big bulk count string"),
    ],
)
@pytest.mark.parametrize("piece", [1, 1000, 10**6])
def test_line_without_end_fails_beyond_64_kib(start: bytes, error: bytes, piece: int) -> None:
    line = start.rpartition(b"\n")[2]
    fits = start + b"1" * (MAX_LINE - len(line))
    pieces = [fits[at : at + piece] for at in range(0, len(fits), piece)]
    parser = RequestParser()
    assert parse_pieces(pieces, parser) == ([], None)
    assert parse_pieces([b"1"], parser) == ([], b"Protocol error: " + error)


def test_inline_line_of_64_kib_passes_and_longer_fails_even_with_its_end() -> None:
    assert parse_pieces([b"x" * (MAX_LINE - 1) + b"\r\n"]) == ([[b"x" * (MAX_LINE - 1)]], None)
    assert parse_pieces([b"x" * (MAX_LINE + 1) + b"\n"]) == ([], b"Protocol error: too big inline request")


def test_nothing_follows_an_error() -> None:
    parser = RequestParser()
    assert parse_pieces([b"*x\r\n"], parser)[1] is not None
    parser.feed(b"PING\r\n")
    assert parser.next_request() is None


def test_multibulk_of_the_largest_count_costs_nothing_until_it_comes() -> None:
    parser = RequestParser()
    assert parse_pieces([b"*2147483647\r\n$1\r\na\r\n"], parser) == ([], None)


def test_max_bulk_is_a_limit_that_can_be_reached() -> None:
    parser = RequestParser(max_bulk=20_000)
    assert parse_pieces([b"*1\r\n$20000\r\n" + b"x" * 20000 + b"\r\n"], parser) == ([[b"x" * 20000]], None)
    assert parse_pieces([b"*1\r\n$20001\r\n"], parser) == ([], b"Protocol error: invalid bulk length")


def test_restricted_client_has_smaller_limits() -> None:
    for stream, error in [
        (b"*11\r\n", b"Protocol error: unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", b"Protocol error: unauthenticated bulk length"),
        (b"*10\r\n", None),
        (b"*1\r\n$16384\r\n", None),
    ]:
        parser = RequestParser()
        parser.is_restricted = True
        assert parse_pieces([stream], parser) == ([], error)


def test_pending_bytes_counts_what_no_request_was_made_of() -> None:
    parser = RequestParser()
    parser.feed(b"PING\r\n*1\r\n$5\r\nab")
    assert parser.next_request() == [b"PING"]
    assert parser.next_request() is None
    assert parser.pending_bytes() == 2


arguments = st.lists(st.binary(max_size=40), min_size=1, max_size=5)
streams = st.lists(
    st.one_of(
        arguments.map(encode_request),
        st.sampled_from(
            [b"PING\r\n", b"\r\n", b"GET a\n", b"*0\r\n", b"SET \"a b\" 'c'\r\n", b"*x\r\n", b"$4\r\n"]
        ),
        st.binary(max_size=20),
        st.integers(0, 70_000).map(lambda size: encode_request([b"SET", b"k", b"v" * size])),
    ),
    max_size=6,
).map(b"".join)


@given(streams, st.lists(st.integers(0, 1 << 20), max_size=30))
def test_any_split_of_stream_parses_alike(stream: bytes, cuts: list[int]) -> None:
    assert parse_pieces(split(stream, cuts)) == parse_pieces([stream])


@given(st.lists(arguments, max_size=20))
def test_requests_come_out_as_they_went_in(requests: list[list[bytes]]) -> None:
    assert parse_pieces([b"".join(map(encode_request, requests))]) == (requests, None)


@pytest.mark.parametrize("form", ["inline", "bulk"])
def test_slow_sender_costs_linear_time(form: str) -> None:
    """One byte at a time: each is put aside as it came, and they are joined at the end.

    Those of a bulk string, which may be large, are joined by the 256 before: a byte object weighs more than a byte.
    """
    size = 5_000
    stream = b"x" * size + b"\r\n" if form == "inline" else encode_request([b"x" * size])
    parser = RequestParser()
    aside = joins = 0
    request = None
    for at in range(len(stream)):
        parser.feed(stream[at : at + 1])
        request = parser.next_request()
        if len(parser._chunks) <= aside and aside > 10:  # a header line is shorter
            joins += 1
        aside = len(parser._chunks)
    assert request == [b"x" * size]
    assert joins == (1 if form == "inline" else size // 256 + 1)


# Inline arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "args"),
    [
        (b"", []),
        (b" \t\v\f ", []),
        (b"a b", [b"a", b"b"]),
        (b'"a b" c', [b"a b", b"c"]),
        (rb'"\x41\n\r\t\b\a\\\"\q"', [b'A\n\r\t\b\a\\"q']),
        (rb'"\x4"', [b"x4"]),
        (rb'"\xzz"', [b"xzz"]),
        (rb"'a\'b\n'", [rb"a'b\n"]),
        (b'""', [b""]),
        (b"''", [b""]),
        (b'a"b"', [b"ab"]),
        (b'"a', None),
        (b"'a", None),
        (b'"a\\"', None),
        (b'"a"b', None),
        (b"'a'b", None),
        (b'a"b"c', None),
        (b"a\0b", [b"a\0b"]),
    ],
)
def test_split_arguments_follows_the_quoting_rules(line: bytes, args: list[bytes] | None) -> None:
    assert split_arguments(line) == args


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_quoted_arguments_come_out_as_they_went_in(args: list[bytes]) -> None:
    quoted = [b'"' + b"".join(b"\\x%02x" % byte for byte in arg) + b'"' for arg in args]
    assert split_arguments(b" ".join(quoted)) == args


@given(st.binary(max_size=60))
def test_split_arguments_takes_any_line(line: bytes) -> None:
    args = split_arguments(line)
    assert args is None or all(isinstance(arg, bytes) for arg in args)


# Values -----------------------------------------------------------------------------------------------


def comparable(value: object) -> object:
    """Replies have no equality of their own: what they are made of."""
    if isinstance(value, (SimpleString, SimpleError)):
        return type(value).__name__, value.text
    if isinstance(value, Map):
        return "Map", [comparable(item) for item in value.flat]
    if isinstance(value, (SetReply, Push)):
        return type(value).__name__, [comparable(item) for item in value.items]
    if isinstance(value, Verbatim):
        return "Verbatim", value.kind, value.text
    if isinstance(value, BigNumber):
        return "BigNumber", value.value
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return type(value).__name__, value


def read_values(pieces: list[bytes]) -> list[object]:
    parser = ValueParser()
    values: list[object] = []
    for piece in pieces:
        parser.feed(piece)
        value = parser.next_value()
        while parser.has_value:
            values.append(comparable(value))
            value = parser.next_value()
    return values


@pytest.mark.parametrize(
    ("stream", "value"),
    [
        (b"+OK\r\n", SimpleString(b"OK")),
        (b"+\r\n", SimpleString(b"")),
        (b"-ERR x\r\n", SimpleError(b"ERR x")),
        (b":5\r\n", 5),
        (b":-5\r\n", -5),
        (b":+5\r\n", 5),
        (b"$3\r\na\r\n\r\n", b"a\r\n"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"_\r\n", None),
        (b"*0\r\n", []),
        (b"*2\r\n*1\r\n:1\r\n*0\r\n", [[1], []]),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b",1.5\r\n", 1.5),
        (b",inf\r\n", float("inf")),
        (b"(123456789012345678901234567890\r\n", BigNumber(123456789012345678901234567890)),
        (b"=6\r\ntxt:ab\r\n", Verbatim(b"ab")),
        (b"!5\r\nERR x\r\n", SimpleError(b"ERR x")),
        (b"%1\r\n+a\r\n:1\r\n", Map([SimpleString(b"a"), 1])),
        (b"%0\r\n", Map([])),
        (b"~2\r\n:1\r\n:2\r\n", SetReply([1, 2])),
        (b">1\r\n$1\r\na\r\n", Push([b"a"])),
        (b"|1\r\n+ttl\r\n:1\r\n:7\r\n", 7),
        (b"|0\r\n:7\r\n", 7),
        (b"*2\r\n|1\r\n+a\r\n*0\r\n:7\r\n:8\r\n", [7, 8]),
    ],
)
def test_value_is_read_at_any_split(stream: bytes, value: object) -> None:
    wanted = [comparable(value), comparable(1)]
    stream += b":1\r\n"
    assert read_values([stream]) == wanted
    assert read_values([stream[at : at + 1] for at in range(len(stream))]) == wanted


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n",
        b"?\r\n",
        b":\r\n",
        b":x\r\n",
        b":99999999999999999999\r\n",
        b"$-2\r\n",
        b"$x\r\n",
        b"*-2\r\n",
        b"%-1\r\n",
        b"$1\r\nabc",
        b"#x\r\n",
        b",x\r\n",
        b"(x\r\n",
        b"_x\r\n",
        b"=2\r\nab\r\n",
        b"=4\r\nabcd\r\n",
    ],
)
def test_bad_value_raises(stream: bytes) -> None:
    with pytest.raises(RespError):
        read_values([stream])


def test_arrays_nest_up_to_a_limit() -> None:
    assert read_values([b"*1\r\n" * MAX_DEPTH + b":1\r\n"]) != []
    with pytest.raises(RespError):
        read_values([b"*1\r\n" * (MAX_DEPTH + 1)])


scalars = st.one_of(
    st.none(),
    st.binary(max_size=30),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(allow_nan=False),
)
values = st.recursive(
    st.one_of(
        scalars,
        st.binary(max_size=10).map(lambda text: SimpleString(text.replace(b"\r", b"").replace(b"\n", b""))),
        st.integers().map(BigNumber),
        st.binary(max_size=10).map(Verbatim),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(SetReply),
        st.lists(inner, max_size=4).map(Push),
        st.lists(st.tuples(inner, inner), max_size=3).map(
            lambda pairs: Map([x for pair in pairs for x in pair])
        ),
    ),
    max_leaves=20,
)


@given(st.lists(values, max_size=4), st.lists(st.integers(0, 1 << 20), max_size=20))
@example([NULL_ARRAY], [])
def test_encoded_replies_read_back_at_any_split(replies: list[object], cuts: list[int]) -> None:
    stream = b"".join(encode_reply(reply, resp3=True) for reply in replies)
    wanted = [comparable(None if reply is NULL_ARRAY else reply) for reply in replies]
    assert read_values(split(stream, cuts)) == wanted


@given(st.binary(max_size=200))
def test_any_bytes_give_values_or_resp_error(stream: bytes) -> None:
    try:
        read_values([stream])
    except RespError:
        pass


_SHORT_NAMES = st.lists(st.sampled_from(b"GETgt\0\r\n\xff"), min_size=1, max_size=9).map(bytes)


@given(st.lists(_SHORT_NAMES, min_size=1, max_size=30), st.integers(0, 9))
def test_names_that_share_a_place_are_told_apart(names: list[bytes], padding: int) -> None:
    """Kept names are compared eight bytes at once, unless the input ends before."""
    # One by one, so that each is once the last thing of the input; then all in one piece.
    requests = [[name] for name in names]
    pieces = [encode_request(request) for request in requests]
    assert parse_pieces(pieces) == (requests, None)
    assert parse_pieces([b"".join(pieces) + b"\r\n" * padding]) == (requests, None)


@pytest.mark.parametrize(
    "header",
    [b"$3\r\n", b"$03\r\n", b"$+3\r\n", b"$3\rx", b"$12\r\n", b"$0\r\n", b"$00\r\n", b"$1:\r\n", b"$:1\r\n"],
)
def test_headers_of_bulk_strings_mean_the_same_alone_and_in_a_stream(header: bytes) -> None:
    """The short way for headers of one and two digits needs a few bytes more than the header."""
    body = b"abcdefghijkl"
    whole = b"*2\r\n$1\r\nx\r\n" + header + body[: 12 if header.startswith(b"$12") else 3] + b"\r\n"
    if header in (b"$0\r\n", b"$00\r\n"):
        whole = b"*2\r\n$1\r\nx\r\n" + header + b"\r\n"
    alone = parse_pieces([whole[at : at + 1] for at in range(len(whole))])
    assert parse_pieces([whole]) == alone
    requests, error = parse_pieces([whole + encode_request([b"PING"])])
    assert (requests[:1], error) == (alone[0], alone[1])
