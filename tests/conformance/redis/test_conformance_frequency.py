"""OBJECT FREQ and IDLETIME, RESTORE FREQ: counters of use as redis-server keeps them.

With lfu-log-factor 0 each use counts, so chance is out of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_pair import RealServer

pytestmark = pytest.mark.conformance

PARAMETERS = {"maxmemory-policy": "noeviction", "lfu-log-factor": "10", "lfu-decay-time": "1"}


@pytest.fixture
def counting(real_server: RealServer) -> Iterator[Pair]:
    """Both sides under allkeys-lfu, where every use counts and nothing decays."""
    pair = Pair(real_server)
    pair.reset()
    pair.same("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu", "lfu-log-factor", 0, "lfu-decay-time", 0)
    yield pair
    for name, value in PARAMETERS.items():
        pair.same("CONFIG", "SET", name, value)
    pair.close()


KEYS = ["s", "n", "l", "h", "t", "z", "x", "other", "renamed", "copied"]
MADE = [
    "SET s text", "SET n 5", "RPUSH l 1 2 3", "HSET h f v", "SADD t a b", "ZADD z 1 a 2 b", "XADD x 1-1 f v",
]  # fmt: skip
USES = [
    "GET s", "GET n", "MGET s n none", "STRLEN s", "GETRANGE s 0 1", "EXISTS s s", "TYPE s", "TTL s", "TOUCH s l",
    "OBJECT ENCODING s", "OBJECT FREQ s", "OBJECT REFCOUNT s", "DUMP s", "MEMORY USAGE s", "SCAN 0", "KEYS *",
    "RANDOMKEY", "SETRANGE s 0 x", "APPEND s y", "INCR n", "INCRBYFLOAT n 1", "GETSET s z", "SET s again",
    "SET s kept KEEPTTL", "SET s got GET", "SET s 1 XX", "SET s 1 NX", "SETEX s 1000 v", "GETEX s", "GETEX s EX 1000",
    "GETEX s PERSIST", "SETNX s v", "MSET s 1 n 2", "MSETNX s 1 other 2", "SETBIT s 1 1", "GETBIT s 1", "BITCOUNT s",
    "BITPOS s 1", "BITOP NOT other s", "EXPIRE s 1000", "PERSIST s", "COPY s copied", "RENAME s renamed",
    "RENAMENX s l", "GETDEL s", "DEL s", "UNLINK s", "MOVE s 1", "RESTORE s 0 broken", "LRANGE l 0 -1", "LLEN l",
    "LINDEX l 0", "LSET l 0 x", "LPUSH l 4", "RPUSHX l 4", "LPOP l", "LMOVE l l LEFT RIGHT", "LMOVE l other LEFT RIGHT",
    "LREM l 0 1", "LTRIM l 0 1", "LPOS l 1", "LINSERT l BEFORE 1 0", "SORT l", "SORT l STORE other", "HGET h f",
    "HSET h f w", "HMGET h f g", "HGETALL h", "HINCRBY h n 1", "HDEL h g", "HEXISTS h f", "HLEN h", "HSCAN h 0",
    "HEXPIRE h 100 FIELDS 1 f", "HRANDFIELD h", "SADD t c", "SISMEMBER t a", "SMEMBERS t", "SCARD t", "SREM t c",
    "SINTER t t", "SUNIONSTORE other t t", "SMOVE t other a", "SRANDMEMBER t", "ZADD z 3 c", "ZSCORE z a", "ZRANGE z 0 -1",
    "ZRANK z a", "ZINCRBY z 1 a", "ZREM z c", "ZPOPMIN z", "ZUNIONSTORE other 1 z", "ZRANGESTORE other z 0 -1",
    "ZCARD z", "ZCOUNT z 0 1", "XADD x 2-1 f v", "XLEN x", "XRANGE x - +", "XREAD STREAMS x 0", "XINFO STREAM x",
    "XGROUP CREATE x g 0", "XDEL x 1-1", "XTRIM x MAXLEN 1", "PFADD other a", "GEOADD other 1 1 a",
]  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_a_command_counts_as_the_server_counts_it(counting: Pair, use: str) -> None:
    for line in MADE:
        counting.same(*line.split())
    for _ in range(2):
        counting.both(*use.split())
        for key in KEYS:
            counting.same("OBJECT", "FREQ", key)


def test_no_touch_leaves_the_counter_alone(counting: Pair) -> None:
    counting.same("SET", "s", "v")
    counting.same("CLIENT", "NO-TOUCH", "ON")
    for request in (("GET", "s"), ("SET", "s", "w"), ("APPEND", "s", "x"), ("GET", "s")):
        counting.same(*request)
        counting.same("OBJECT", "FREQ", "s")
    counting.same("TOUCH", "s")
    counting.same("OBJECT", "FREQ", "s")
    counting.same("CLIENT", "NO-TOUCH", "OFF")
    counting.same("GET", "s")
    assert counting.same("OBJECT", "FREQ", "s") != b":5\r\n"


def test_the_counter_ends_at_255(counting: Pair) -> None:
    counting.same("SET", "s", "v")
    for _ in range(260):
        counting.both("GET", "s")
    assert counting.same("OBJECT", "FREQ", "s") == b":255\r\n"


@pytest.mark.parametrize("frequency", [0, 1, 5, 100, 255, 256, -1, "x"])
def test_restore_freq(counting: Pair, frequency: int | str) -> None:
    counting.same("SET", "s", "v")
    payload = _dump(counting, "s")
    counting.both("RESTORE", "other", 0, payload, "FREQ", frequency)
    counting.same("OBJECT", "FREQ", "other")
    counting.both("RESTORE", "s", 0, payload, "REPLACE", "FREQ", frequency)
    counting.same("OBJECT", "FREQ", "s")
    counting.both("RESTORE", "s", 0, payload, "REPLACE", "IDLETIME", 1000)
    counting.same("OBJECT", "FREQ", "s")
    counting.same("GET", "other")
    counting.same("OBJECT", "FREQ", "other")


def _dump(pair: Pair, key: str) -> bytes:
    raw = pair.same("DUMP", key)
    return raw[raw.index(b"\n") + 1 : -2]


@pytest.mark.parametrize(
    "policy", ["noeviction", "allkeys-lru", "volatile-ttl", "allkeys-lfu", "volatile-lfu"]
)
def test_freq_or_idletime_by_policy(counting: Pair, policy: str) -> None:
    counting.same("CONFIG", "SET", "maxmemory-policy", policy)
    counting.same("SET", "s", "v")
    for about in ("FREQ", "IDLETIME"):
        for key in ("s", "none"):
            counting.same("OBJECT", about, key)


def test_restore_idletime_without_lfu(counting: Pair) -> None:
    counting.same("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    counting.same("SET", "s", "v")
    payload = _dump(counting, "s")
    for seconds in (0, 1000, 10_000_000):
        counting.same("RESTORE", "s", 0, payload, "REPLACE", "IDLETIME", seconds)
        assert int(counting.same("OBJECT", "IDLETIME", "s")[1:]) >= max(seconds - 1, 0)
    counting.same("RESTORE", "s", 0, payload, "REPLACE", "FREQ", 200)
    counting.same("OBJECT", "FREQ", "s")
