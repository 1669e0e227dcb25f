"""hiredis' own reader and packer on a kernel socket: what it makes of our bytes, in RESP2 and RESP3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hiredis
import pytest

if TYPE_CHECKING:
    import socket

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

SESSION: list[tuple[tuple[Any, ...], Any, Any]] = [  # the request, and what it gives in RESP2 and in RESP3
    (("FLUSHALL",), b"OK", b"OK"),
    (("SET", "k", "v"), b"OK", b"OK"),
    (("GET", "nosuch"), None, None),
    (("RPUSH", "l", 1, 2, 3), 3, 3),
    (("LRANGE", "l", 0, -1), [b"1", b"2", b"3"], [b"1", b"2", b"3"]),
    (("LPOP", "nosuch", 2), None, None),
    (("HSET", "h", "a", 1), 1, 1),
    (("HGETALL", "h"), [b"a", b"1"], {b"a": b"1"}),
    (("SADD", "s", "x"), 1, 1),
    (("SMEMBERS", "s"), [b"x"], [b"x"]),
    (("ZADD", "z", 1.5, "m"), 1, 1),
    (("ZSCORE", "z", "m"), b"1.5", 1.5),
    (("ZRANGE", "z", 0, -1, "WITHSCORES"), [b"m", b"1.5"], [[b"m", 1.5]]),
    (("XADD", "st", "1-1", "f", "v"), b"1-1", b"1-1"),
    (("XREAD", "STREAMS", "st", 0), [[b"st", [[b"1-1", [b"f", b"v"]]]]], {b"st": [[b"1-1", [b"f", b"v"]]]}),
    (("XRANGE", "st", "-", "+"), [[b"1-1", [b"f", b"v"]]], [[b"1-1", [b"f", b"v"]]]),
    (("LCS", "k", "k", "IDX"), [b"matches", [[[0, 0], [0, 0]]], b"len", 1], {b"matches": [[[0, 0], [0, 0]]], b"len": 1}),
    (("GEOADD", "g", 0, 0, "o"), 1, 1),
    (("GEOPOS", "g", "nosuch"), [None], [None]),
    (("BITFIELD", "b", "INCRBY", "u8", 0, 200, "OVERFLOW", "FAIL", "INCRBY", "u8", 0, 200), [200, None], [200, None]),
    (("COMMAND", "COUNT"), int, int),
    (("OBJECT", "ENCODING", "z"), b"listpack", b"listpack"),
]  # fmt: skip


def exchange(client: socket.socket, reader: Any, requests: list[tuple[Any, ...]]) -> list[Any]:
    """All requests in one write, and their replies."""
    client.sendall(b"".join(hiredis.pack_command(tuple(map(_packable, request))) for request in requests))
    replies: list[Any] = []
    while len(replies) < len(requests):
        reply = reader.gets()
        if reply is False:
            reader.feed(client.recv(65536))
        else:
            replies.append(reply)
    return replies


def _packable(word: Any) -> Any:
    return word if isinstance(word, (str, bytes, int, float)) else str(word)


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_pipeline_of_every_type(appliance: RunningAppliance, protocol: int) -> None:
    reader = hiredis.Reader(notEnoughData=False)
    with appliance.connect() as client:
        (hello,) = exchange(client, reader, [("HELLO", protocol)])
        assert isinstance(hello, dict if protocol == 3 else list)
        replies = exchange(client, reader, [request for request, _, _ in SESSION])
        for reply, (request, resp2, resp3) in zip(replies, SESSION, strict=True):
            wanted = resp3 if protocol == 3 else resp2
            assert isinstance(reply, int) if wanted is int else reply == wanted, f"{request}: {reply!r}"


@pytest.mark.parametrize("protocol", [2, 3])
def test_errors_are_replies_and_the_connection_stays(appliance: RunningAppliance, protocol: int) -> None:
    reader = hiredis.Reader(notEnoughData=False)
    with appliance.connect() as client:
        exchange(client, reader, [("HELLO", protocol), ("DEL", "k", "l"), ("SET", "k", "v")])
        wrong = [
            ("LPUSH", "k", 1),
            ("NOSUCH",),
            ("GET",),
            ("ZADD", "z", "x", "m"),
            ("XADD", "s", "0-0", "f", "v"),
        ]
        replies = exchange(client, reader, [*wrong, ("PING",)])
        assert all(isinstance(reply, hiredis.ReplyError) for reply in replies[:-1])
        assert str(replies[0]).startswith("WRONGTYPE ")
        assert replies[-1] == b"PONG"


def test_ten_thousand_requests_in_one_write(appliance: RunningAppliance) -> None:
    reader = hiredis.Reader(notEnoughData=False)
    with appliance.connect() as client:
        exchange(client, reader, [("DEL", "many")])
        replies = exchange(client, reader, [("RPUSH", "many", number) for number in range(10_000)])
        assert replies == list(range(1, 10_001))
        (everything,) = exchange(client, reader, [("LRANGE", "many", 0, -1)])
        assert everything == [b"%d" % number for number in range(10_000)]
