"""DEBUG, compared with redis-server: digests, a reload, values of every protocol type, how values look."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

VALUES = [
    "SET s abc",
    "SET empty ",
    "SET i 123",
    "SET expiring x EX 1000",
    "APPEND grown abc",
    "RPUSH l 1 2 three",
    "RPUSH quick " + " ".join(["x" * 100] * 200),
    "SADD ints 3 1 2",
    "SADD words b a 1",
    "SADD many " + " ".join(map(str, range(600))),
    "ZADD z 1 a 2.5 b -inf c +inf d 0.1 e 1e300 f 3.0000000000000004 g 100000000000000000000 h -0.0 i",
    "ZADD skip " + " ".join(f"{n}.25 m{n}" for n in range(200)),
    "HSET h a 1 b 2",
    "HSET timed a 1 b 2",
    "HEXPIRE timed 1000 FIELDS 1 a",
    "XADD x 1-1 a b c d",
    "XADD x 2-5 e f",
    "XDEL x 1-1",
    "PFADD hll a b c",
]

KEYS = [line.split(" ")[1] for line in VALUES]


def fill(pair: Pair) -> None:
    for line in VALUES:
        pair.same(*line.split(" "))
    pair.same("SELECT", 3)
    pair.same("SET", "elsewhere", 1)
    pair.same("SELECT", 0)


def test_digests_agree(pair: Pair) -> None:
    pair.same("DEBUG", "DIGEST")
    pair.same("DEBUG", "DIGEST-VALUE")
    fill(pair)
    for key in [*KEYS, "missing"]:
        pair.same("DEBUG", "DIGEST-VALUE", key)
    pair.same("DEBUG", "DIGEST-VALUE", *KEYS)
    pair.same("DEBUG", "DIGEST")


@pytest.mark.parametrize("request_", ["RELOAD", "RELOAD MERGE", "RELOAD NOSAVE NOFLUSH MERGE"])
def test_a_reload_changes_nothing(pair: Pair, request_: str) -> None:
    fill(pair)
    before = pair.same("DEBUG", "DIGEST")
    pair.same("DEBUG", "RELOAD")
    pair.same("DEBUG", *request_.split(" "))
    assert pair.same("DEBUG", "DIGEST") == before
    for key in KEYS:
        pair.same("OBJECT", "ENCODING", key)
        pair.same("TYPE", key)
    pair.same("DBSIZE")
    pair.same("HGETALL", "timed")
    for database in pair.engine.databases:
        database.check_invariants()


def test_a_reload_spoils_transactions_and_caches(pair: Pair) -> None:
    pair.same("SET", "k", 1)
    pair.same("WATCH", "k")
    pair.same("DEBUG", "RELOAD")
    pair.same("MULTI")
    pair.same("EXEC")


def test_objects_look_alike(pair: Pair) -> None:
    fill(pair)
    for key in KEYS:
        if key in ("i", "quick"):
            continue  # shared there; compressed there
        ours, theirs = pair.both("DEBUG", "OBJECT", key)
        shown = [
            re.sub(rb"0x[0-9a-f]+|lru:\d+|idle:\d+|serializedlength:\d+", b"", each)
            for each in (ours, theirs)
        ]
        assert shown[0] == shown[1]


@pytest.mark.parametrize(
    "line",
    [
        "PROTOCOL string", "PROTOCOL integer", "PROTOCOL double", "PROTOCOL bignum", "PROTOCOL null", "PROTOCOL array",
        "PROTOCOL set", "PROTOCOL map", "PROTOCOL attrib", "PROTOCOL verbatim",
        "PROTOCOL true", "PROTOCOL false", "PROTOCOL nosuch", "PROTOCOL", "SET-ACTIVE-EXPIRE", "SET-ACTIVE-EXPIRE 1",
        "SET-ACTIVE-EXPIRE 1 2", "QUICKLIST-PACKED-THRESHOLD 1k", "QUICKLIST-PACKED-THRESHOLD x",
        "QUICKLIST-PACKED-THRESHOLD -1", "QUICKLIST-PACKED-THRESHOLD 4gb", "QUICKLIST-PACKED-THRESHOLD 0",
        "QUICKLIST-PACKED-THRESHOLD", "ERROR foo", "ERROR", "LOG x", "LOG", "CHANGE-REPL-ID", "CHANGE-REPL-ID x",
        "DIGEST x", "RELOAD x", "POPULATE", "POPULATE x", "POPULATE -1", "POPULATE 3", "POPULATE 3 p", "POPULATE 3 pp 10",
        "POPULATE 3 a b c", "SLEEP", "SLEEP 0", "SLEEP -1", "SLEEP x", "OBJECT", "OBJECT missing", "OBJECT a b", "NOSUCH",
        "STRINGMATCH-LEN a b", "JMAP", "SET-SKIP-CHECKSUM-VALIDATION 0", "PAUSE-CRON 0",
    ],
)  # fmt: skip
def test_replies_agree(pair: Pair, line: str) -> None:
    pair.same("DEBUG", *line.split(" "))
    pair.same("DEBUG", "DIGEST")
    pair.same("DBSIZE")


def test_errors_may_hold_anything(pair: Pair) -> None:
    for text in ("ERR foo\r\nbar", "MY own", "", "\r\n", "-x"):
        pair.same("DEBUG", "ERROR", text)


@pytest.mark.parametrize("threshold", ["10", "100", "0"])
def test_elements_may_have_nodes_of_their_own(pair: Pair, threshold: str) -> None:
    pair.same("DEBUG", "QUICKLIST-PACKED-THRESHOLD", threshold)
    for size in (5, 20, 50, 200, 3000, 9000):
        pair.same("RPUSH", "l", *["x" * size, "y"] * 4)
        pair.same("LPUSH", "l", "z" * size)
    ours, theirs = pair.both("DEBUG", "OBJECT", "l")
    nodes = [re.findall(rb"ql_nodes:\d+ ql_avg_node:[\d.]+", each) for each in (ours, theirs)]
    assert nodes[0] == nodes[1]
    pair.same("LSET", "l", 3, "w" * 30)
    pair.same("LINSERT", "l", "BEFORE", "y", "v" * 150)
    pair.same("LREM", "l", 2, "y")
    pair.same("LRANGE", "l", 0, -1)
    pair.same("DEBUG", "QUICKLIST-PACKED-THRESHOLD", 0)


def test_a_push_follows_the_reply(pair: Pair) -> None:
    if pair.same("DEBUG", "PROTOCOL", "null") == b"_\r\n":
        ours, theirs = pair.exchange(b"DEBUG PROTOCOL push\r\nPING\r\n", 3)
        assert ours == theirs
    else:
        pair.same("DEBUG", "PROTOCOL", "push")


def test_without_the_checksum_a_dump_is_still_looked_at(pair: Pair) -> None:
    pair.same("SET", "k", "v")
    ours, theirs = pair.both("DUMP", "k")
    assert ours == theirs
    payload = bytearray(ours.split(b"\r\n", 1)[1][:-2])
    payload[-1] ^= 1
    for skip in (1, 0):
        pair.same("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", skip)
        pair.same("RESTORE", f"k{skip}", 0, bytes(payload))
        pair.same("RESTORE", "short", 0, b"abc")
