"""A broad session of each data type by redis-py, synchronous and under asyncio, with its own and hiredis' parser.

One table of calls and of what they give serves all of them, so that the clients differ in nothing but themselves.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from tests.support.running import ADDRESS, PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_pair import RealServer
    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

FAR = 33177117420  # a Unix time in seconds, in the year 3021


@dataclass
class Call:
    """One method of the client, and what it returns; a function judges what is not always the same."""

    method: str
    arguments: tuple[Any, ...]
    expected: Any
    options: dict[str, Any] = field(default_factory=dict)

    def check(self, value: Any) -> None:
        right = self.expected(value) if callable(self.expected) else value == self.expected
        assert right, f"{self.method}{self.arguments} {self.options}: {value!r}"


def call(method: str, *arguments: Any, gives: Any, **options: Any) -> Call:
    return Call(method, arguments, gives, options)


def as_set(*items: Any) -> Callable[[Any], bool]:
    return lambda value: set(value) == set(items) and len(value) == len(items)


def as_pairs(*pairs: tuple[Any, Any]) -> Callable[[Any], bool]:
    """Name and number, in order, as tuples (RESP2) or lists (RESP3)."""
    return lambda value: [tuple(item) for item in value] == list(pairs)


def about(number: float, distance: float) -> Callable[[Any], bool]:
    return lambda value: abs(float(value) - number) <= distance


LISTS = [
    call("rpush", "l", "a", "b", "c", gives=3),
    call("lpush", "l", "z", gives=4),
    call("lpushx", "nosuch", "z", gives=0),
    call("lrange", "l", 0, -1, gives=[b"z", b"a", b"b", b"c"]),
    call("linsert", "l", "BEFORE", "b", "x", gives=5),
    call("lindex", "l", 2, gives=b"x"),
    call("lset", "l", 2, "y", gives=True),
    call("lpos", "l", "y", gives=2),
    call("lrem", "l", 0, "y", gives=1),
    call("lmove", "l", "m", "LEFT", "RIGHT", gives=b"z"),
    call("rpoplpush", "l", "m", gives=b"c"),
    call("lpop", "m", 5, gives=[b"c", b"z"]),
    call("lmpop", 2, "nosuch", "l", direction="RIGHT", count=1, gives=lambda v: list(v) == [b"l", [b"b"]]),
    call("llen", "l", gives=1),
    call("ltrim", "l", 1, -1, gives=True),
    call("exists", "l", gives=0),
    call("rpush", "numbers", 3, 10, 2, gives=3),
    call("sort", "numbers", desc=True, gives=[b"10", b"3", b"2"]),
    call("mset", {"w_3": 1, "w_10": 0, "w_2": 2}, gives=True),
    call("sort", "numbers", by="w_*", get=["#", "w_*"], gives=[b"10", b"0", b"3", b"1", b"2", b"2"]),
    call("sort", "numbers", store="sorted", gives=3),
    call("object", "encoding", "sorted", gives=lambda v: v in (b"listpack", "listpack")),
]
HASHES = [
    call("hset", "h", mapping={"a": 1, "b": "two", "c": 3.5}, gives=3),
    call("hset", "h", "a", 2, gives=0),
    call("hget", "h", "b", gives=b"two"),
    call("hmget", "h", "a", "nosuch", "c", gives=[b"2", None, b"3.5"]),
    call("hgetall", "h", gives={b"a": b"2", b"b": b"two", b"c": b"3.5"}),
    call("hincrby", "h", "a", 40, gives=42),
    call("hincrbyfloat", "h", "c", 0.25, gives=3.75),
    call("hkeys", "h", gives=[b"a", b"b", b"c"]),
    call("hvals", "h", gives=[b"42", b"two", b"3.75"]),
    call("hlen", "h", gives=3),
    call("hstrlen", "h", "b", gives=3),
    call("hsetnx", "h", "a", 1, gives=lambda v: not v),
    call("hexists", "h", "nosuch", gives=lambda v: not v),
    call("hrandfield", "h", 10, gives=as_set(b"a", b"b", b"c")),
    call("hexpireat", "h", FAR, "a", gives=[1]),
    call("hexpiretime", "h", "a", "b", "nosuch", gives=[FAR, -1, -2]),
    call("hpersist", "h", "a", gives=[1]),
    call("httl", "h", "a", gives=[-1]),
    call("hexpire", "h", 0, "c", gives=[2]),
    call("hscan", "h", gives=(0, {b"a": b"42", b"b": b"two"})),
    call("hgetdel", "h", "b", gives=[b"two"]),
    call("hdel", "h", "a", "nosuch", gives=1),
    call("exists", "h", gives=0),
]
SETS = [
    call("sadd", "s", 1, 2, 3, gives=3),
    call("sadd", "t", 2, 3, 4, "x", gives=4),
    call("smembers", "s", gives=as_set(b"1", b"2", b"3")),
    call("sismember", "s", 2, gives=lambda v: bool(v)),
    call("smismember", "s", [2, 9], gives=[1, 0]),
    call("sinter", "s", "t", gives=as_set(b"2", b"3")),
    call("sunion", "s", "t", gives=as_set(b"1", b"2", b"3", b"4", b"x")),
    call("sdiff", "t", "s", gives=as_set(b"4", b"x")),
    call("sintercard", 2, ["s", "t"], gives=2),
    call("sdiffstore", "d", "t", "s", gives=2),
    call("smove", "t", "d", 2, gives=lambda v: bool(v)),
    call("scard", "d", gives=3),
    call("srandmember", "d", -5, gives=lambda v: len(v) == 5 and set(v) <= {b"4", b"x", b"2"}),
    call("spop", "d", 9, gives=as_set(b"4", b"x", b"2")),
    call("srem", "t", "x", "y", gives=1),
    call("sscan", "t", gives=lambda v: v[0] == 0 and set(v[1]) == {b"3", b"4"}),
]
SORTED_SETS = [
    call("zadd", "z", {"a": 1, "b": 2, "c": 3}, gives=3),
    call("zadd", "z", {"a": 5, "n": 1}, xx=True, ch=True, gt=True, gives=1),
    call("zincrby", "z", 1.5, "b", gives=3.5),
    call("zscore", "z", "b", gives=3.5),
    call("zmscore", "z", ["a", "nosuch"], gives=[5.0, None]),
    call("zrange", "z", 0, -1, withscores=True, gives=as_pairs((b"c", 3.0), (b"b", 3.5), (b"a", 5.0))),
    call("zrange", "z", "(3", "+inf", byscore=True, gives=[b"b", b"a"]),
    call("zrevrangebyscore", "z", "+inf", "-inf", start=0, num=1, gives=[b"a"]),
    call("zrank", "z", "b", gives=1),
    call("zrevrank", "z", "b", withscore=True, gives=lambda v: list(v) in ([1, 3.5], [1, b"3.5"])),
    call("zcount", "z", 3, 4, gives=2),
    call("zadd", "y", {"b": 10, "q": 1}, gives=2),
    call("zunionstore", "u", {"z": 2, "y": 1}, aggregate="MAX", gives=4),
    call("zinter", ["z", "y"], withscores=True, gives=as_pairs((b"b", 13.5))),
    call("zdiff", ["z", "y"], gives=[b"c", b"a"]),
    call("zintercard", 2, ["z", "y"], gives=1),
    call("zrangestore", "top", "u", 0, 1, gives=2),
    call("zremrangebyscore", "u", "-inf", 6, gives=2),
    call("zpopmax", "u", gives=lambda v: v in ([(b"b", 10.0)], [b"b", 10.0])),
    call("zmpop", 2, ["nosuch", "top"], min=True, count=1, gives=lambda v: v[0] == b"top"),
    call("zadd", "lex", dict.fromkeys("abcd", 0), gives=4),
    call("zrangebylex", "lex", "[b", "(d", gives=[b"b", b"c"]),
    call("zlexcount", "lex", "-", "+", gives=4),
    call("zrandmember", "lex", 4, gives=as_set(b"a", b"b", b"c", b"d")),
    call("zscan", "lex", match="[ab]", gives=lambda v: v[0] == 0 and {i[0] for i in v[1]} == {b"a", b"b"}),
    call("geoadd", "geo", [13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"], gives=2),
    call("geodist", "geo", "Palermo", "Catania", unit="km", gives=about(166.2742, 0.001)),
    call("geohash", "geo", "Palermo", gives=lambda v: v in ([b"sqc8b49rny0"], ["sqc8b49rny0"])),
    call("geosearch", "geo", longitude=15, latitude=37, radius=100, unit="km", gives=[b"Catania"]),
]
STREAMS = [
    call("xadd", "st", {"n": 1}, id="1-1", gives=b"1-1"),
    call("xadd", "st", {"n": 2, "m": "x"}, id="2-1", gives=b"2-1"),
    call("xadd", "st", {"n": 3}, id="3-*", gives=b"3-0"),
    call("xlen", "st", gives=3),
    call("xrange", "st", min="2", max="+", count=1, gives=[(b"2-1", {b"n": b"2", b"m": b"x"})]),
    call("xrevrange", "st", count=1, gives=[(b"3-0", {b"n": b"3"})]),
    call("xgroup_create", "st", "g", id="0", gives=True),
    call(
        "xreadgroup", "g", "alice", {"st": ">"}, count=2, gives=lambda v: _entries(v, b"st", [b"1-1", b"2-1"])
    ),
    call("xreadgroup", "g", "bob", {"st": ">"}, gives=lambda v: _entries(v, b"st", [b"3-0"])),
    call("xack", "st", "g", "1-1", gives=1),
    call("xpending", "st", "g", gives=lambda v: v["pending"] == 2 and v["min"] == b"2-1"),
    call("xclaim", "st", "g", "bob", 0, ["2-1"], justid=True, gives=[b"2-1"]),
    call("xautoclaim", "st", "g", "carol", 0, gives=lambda v: [i for i, _ in v[1]] == [b"2-1", b"3-0"]),
    call("xinfo_groups", "st", gives=lambda v: v[0]["consumers"] == 3 and v[0]["pending"] == 2),
    call("xinfo_stream", "st", gives=lambda v: v["length"] == 3 and v["groups"] == 1),
    call("xread", {"st": "2-1"}, gives=lambda v: _entries(v, b"st", [b"3-0"])),
    call("xtrim", "st", maxlen=1, approximate=False, gives=2),
    call("xdel", "st", "3-0", gives=1),
    call("xgroup_destroy", "st", "g", gives=True),
]
OTHERS = [
    call("pfadd", "p", *range(1000), gives=1),
    call("pfadd", "q", *range(500, 1500), gives=1),
    call("pfcount", "p", "q", gives=about(1500, 30)),
    call("pfmerge", "r", "p", "q", gives=True),
    call("setbit", "bits", 7, 1, gives=0),
    call("getbit", "bits", 7, gives=1),
    call("bitcount", "bits", gives=1),
    call("bitpos", "bits", 1, gives=7),
    call("bitop", "NOT", "inverse", "bits", gives=1),
    call("get", "inverse", gives=b"\xfe"),
    call("type", "p", gives=b"string"),
    call("memory_usage", "p", gives=lambda v: v > 100),
    call("dump", "nosuch", gives=None),
    call("object", "refcount", "p", gives=1),
]  # fmt: skip

TYPES = {
    "lists": LISTS,
    "hashes": HASHES,
    "sets": SETS,
    "sorted sets": SORTED_SETS,
    "streams": STREAMS,
    "others": OTHERS,
}


def _entries(reply: Any, stream: bytes, ids: list[bytes]) -> bool:
    """XREAD's reply: pairs of a list (RESP2) or a dictionary (RESP3)."""
    if isinstance(reply, dict):
        found = reply[stream]
        entries = found[0] if len(found) == 1 and isinstance(found[0], list) else found
    else:
        entries = dict(tuple(pair) for pair in reply)[stream]
    return [entry[0] for entry in entries] == ids


PARSERS = {
    "own": (redis._parsers._RESP2Parser, redis._parsers._RESP3Parser),
    "hiredis": (redis._parsers._HiredisParser, redis._parsers._HiredisParser),
}
ASYNC_PARSERS = {
    "own": (redis._parsers._AsyncRESP2Parser, redis._parsers._AsyncRESP3Parser),
    "hiredis": (redis._parsers._AsyncHiredisParser, redis._parsers._AsyncHiredisParser),
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("protocol", [2, 3])
def test_the_table_is_true_of_redis_server(real_server: RealServer, protocol: int, name: str) -> None:
    with redis.Redis(unix_socket_path=real_server.path, protocol=protocol) as client:
        client.flushall()
        for each in TYPES[name]:
            each.check(getattr(client, each.method)(*each.arguments, **each.options))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(appliance: RunningAppliance, protocol: int, parser: str, name: str) -> None:
    def work() -> None:
        pool = redis.ConnectionPool(
            host=ADDRESS,
            port=PORT,
            protocol=protocol,
            parser_class=PARSERS[parser][protocol - 2],
            socket_timeout=60,
        )
        with redis.Redis(connection_pool=pool) as client:
            client.flushall()
            for each in TYPES[name]:
                each.check(getattr(client, each.method)(*each.arguments, **each.options))
        pool.disconnect()

    appliance.inside(work)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("parser", ASYNC_PARSERS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_asyncio(appliance: RunningAppliance, protocol: int, parser: str, name: str) -> None:
    async def session() -> None:
        pool = redis.asyncio.ConnectionPool(
            host=ADDRESS,
            port=PORT,
            protocol=protocol,
            parser_class=ASYNC_PARSERS[parser][protocol - 2],
            socket_timeout=60,
        )
        async with redis.asyncio.Redis(connection_pool=pool) as client:
            await client.flushall()
            for each in TYPES[name]:
                each.check(await getattr(client, each.method)(*each.arguments, **each.options))
        await pool.disconnect()

    appliance.inside(lambda: asyncio.run(session()))
