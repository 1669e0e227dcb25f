"""Sets: replies, errors, their order and the encodings are redis-server's. Chance has tests of its own below."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import parse_one

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

# Each script runs on empty databases; every reply must be the same.
SCRIPTS: dict[str, list[str]] = {
    "arguments": [
        "SADD",
        "SADD k",
        "SADD k 1 2 3",
        "SRANDMEMBER k x",
        "SRANDMEMBER k -9223372036854775808",
        "SRANDMEMBER k 9223372036854775808",
        "SRANDMEMBER k 1 2",
        "SRANDMEMBER none 1",
        "SRANDMEMBER none",
        "SRANDMEMBER none x",
        "SRANDMEMBER k 0",
        "SRANDMEMBER k 10",
        "SPOP k -1",
        "SPOP k x",
        "SPOP k 0",
        "SPOP none",
        "SPOP none 3",
        "SPOP k 1 2",
        "SPOP k 3",
        "EXISTS k",
        "SET s v",
        "SPOP s",
        "SPOP s 0",
        "SPOP s -1",
        "SRANDMEMBER s",
        "SRANDMEMBER s 0",
        "SINTERCARD 0 k",
        "SINTERCARD -1 k",
        "SINTERCARD x k",
        "SINTERCARD 1",
        "SINTERCARD 2 k",
        "SINTERCARD 1 k LIMIT",
        "SINTERCARD 1 k LIMIT -1",
        "SINTERCARD 1 k LIMIT x",
        "SINTERCARD 1 k LIMIT 0",
        "SINTERCARD 1 k foo",
        "SINTERCARD 1 s LIMIT 0",
        "SINTERCARD 2 none s",
        "SINTERCARD 99999999999999999999 k",
        "SINTER none s",
        "SINTER s none",
        "SUNION none s",
        "SDIFF none s",
        "SINTERSTORE d none s",
        "SINTERSTORE s none",
        "EXISTS s",
        "SET s v",
        "SUNIONSTORE s none",
        "EXISTS s",
        "SET s v",
        "SMOVE none s m",
        "SADD k 1",
        "SMOVE k s m",
        "SMOVE k s 1",
        "SMOVE s k 1",
        "SMOVE s none 1",
        "SMOVE k k 1",
        "SMOVE k k 2",
        "SMISMEMBER k 1 2",
        "SMISMEMBER none 1 2",
        "SMISMEMBER s 1 2",
        "SISMEMBER s 1",
        "SSCAN none x",
        "SSCAN none 0 foo",
        "SSCAN k 0 foo",
        "SSCAN k 0 COUNT",
        "SSCAN k 0 COUNT 0",
        "SSCAN k 0 COUNT x",
        "SSCAN k 0 TYPE set",
        "SSCAN k 0 NOVALUES",
        "SSCAN s 0 foo",
        "SSCAN k 5",
        "SSCAN k 0 MATCH 2",
        "SADD l 10 9 hello 007 8 7",
        "SMEMBERS l",
        "OBJECT ENCODING l",
        "SREM l 9 9 10",
        "SREM none a",
        "SREM s a",
        "SCARD s",
        "SCARD none",
        "SMEMBERS none",
        "SINTER none",
        "SDIFF k none",
        "SDIFF none k",
        "SUNION none none",
        "SINTERSTORE d none",
        "SDIFFSTORE d none",
        "SMOVE k d 1",
        "OBJECT ENCODING d",
    ],
}

# Under set-max-intset-entries 4, set-max-listpack-entries 6, set-max-listpack-value 5.
SMALL = {"set-max-intset-entries": 4, "set-max-listpack-entries": 6, "set-max-listpack-value": 5}
ENCODINGS = [
    "SADD a 1 2 3 4",
    "OBJECT ENCODING a",
    "SADD a 5",
    "OBJECT ENCODING a",
    "SADD b 1 2 3 4 5",
    "OBJECT ENCODING b",
    "SADD c a 2 3 4 5 6",
    "OBJECT ENCODING c",
    "SADD c b",
    "OBJECT ENCODING c",
    "SADD d a b c d e f g",
    "OBJECT ENCODING d",
    "SADD e 1",
    "SADD e a b c d e f",
    "OBJECT ENCODING e",
    "SADD e 1 2 3 4 5",
    "OBJECT ENCODING e",
    "DEL e",
    "SADD e 1",
    "SADD e 1 1 1 1 1",
    "OBJECT ENCODING e",
    "DEL e",
    "SADD e a",
    "SADD e a a a a a a a",
    "OBJECT ENCODING e",
    "SADD f 1 123456",
    "SADD f a",
    "OBJECT ENCODING f",
    "SADD g 1 12345",
    "SADD g a",
    "OBJECT ENCODING g",
    "SADD g abcdef",
    "OBJECT ENCODING g",
    "SADD h abcdef",
    "OBJECT ENCODING h",
    "SADD i 1 2 3 4 a",
    "SMEMBERS i",
    "OBJECT ENCODING i",
    "SADD j 1 2 3 4 5 a b",
    "OBJECT ENCODING j",
    "SADD h2 1 a 2 b 3 c",
    "SADD h3 1 2 3 z",
    "SINTERSTORE d1 h2 h3",
    "OBJECT ENCODING d1",
    "SMEMBERS d1",
    "SADD h4 a b c d 1 2 3 4 5 6",
    "SADD h5 1 2 3 q r s t u v w",
    "SINTERSTORE d2 h4 h5",
    "OBJECT ENCODING d2",
    "SUNIONSTORE d3 h2 h3",
    "OBJECT ENCODING d3",
    "SDIFFSTORE d3 h2 h3",
    "OBJECT ENCODING d3",
    "SDIFFSTORE d4 h4 h5",
    "OBJECT ENCODING d4",
    "SINTERSTORE d5 h4 h4",
    "OBJECT ENCODING d5",
    "SINTERSTORE d5 a",
    "OBJECT ENCODING d5",
    "SUNIONSTORE d5 a",
    "OBJECT ENCODING d5",
    "SINTERSTORE d5 h4",
    "OBJECT ENCODING d5",
    "SADD h6 0 1 2 3 4 5 6 7 8 9",
    "OBJECT ENCODING h6",
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_replies_are_those_of_redis_server(pair: Pair, name: str) -> None:
    for line in SCRIPTS[name]:
        pair.same(*shlex.split(line))


def values(reply: bytes) -> list[bytes]:
    parsed = parse_one(reply)
    items = getattr(parsed, "items", parsed)
    assert isinstance(items, list)
    return items


def configure(pair: Pair, parameters: dict[str, int]) -> dict[str, str]:
    """Set parameters on both sides; what they were."""
    before = {}
    for name, value in parameters.items():
        reply = parse_one(pair.both("CONFIG", "GET", name)[1])
        flat = getattr(reply, "flat", reply)
        assert isinstance(flat, list)
        before[name] = flat[1].decode()
        pair.same("CONFIG", "SET", name, value)
    return before


def test_encodings_change_where_the_server_changes_them(pair: Pair) -> None:
    before = configure(pair, SMALL)
    try:
        for line in ENCODINGS:
            pair.same(*shlex.split(line))
    finally:
        configure(pair, before)  # type: ignore[arg-type]


KINDS = {
    "intset": [str(number) for number in range(-20, 60)],
    "listpack": [f"member {number}" for number in range(80)],
    "hashtable": [f"member {number}" for number in range(900)],
    "hashtable of integers": [str(number) for number in range(900)],
    "long members": ["x" * 70 + str(number) for number in range(40)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0, 1, 2, 7, 13, 30, 38])
def test_spop_of_many_leaves_the_same_encoding(pair: Pair, kind: str, left: int) -> None:
    members = KINDS[kind]
    pair.same("SADD", "k", *members)
    for reply in pair.both("SPOP", "k", len(members) - left):
        popped = values(reply)
        assert len(set(popped)) == len(popped) == len(members) - left
        assert set(popped) <= {member.encode() for member in members}
    pair.same("SCARD", "k")
    pair.same("OBJECT", "ENCODING", "k")
    rest = [values(reply) for reply in pair.both("SMEMBERS", "k")]
    assert all(len(set(each)) == left for each in rest)


def test_spop_of_one_by_one_empties_the_set(pair: Pair) -> None:
    for members in KINDS.values():
        pair.same("SADD", "k", *members[:40])
        popped: list[list[bytes]] = [[], []]
        for _ in members[:40]:
            for side, reply in enumerate(pair.both("SPOP", "k")):
                member = parse_one(reply)
                assert isinstance(member, bytes)
                popped[side].append(member)
        assert sorted(popped[0]) == sorted(popped[1]) == sorted(member.encode() for member in members[:40])
        pair.same("EXISTS", "k")
        pair.same("SPOP", "k")


@pytest.mark.parametrize("count", [1, 5, 26, 27, 79, 80, 81, -1, -80, -500])
@pytest.mark.parametrize("kind", KINDS)
def test_srandmember_gives_as_many_and_only_members(pair: Pair, kind: str, count: int) -> None:
    members = KINDS[kind][:80]
    pair.same("SADD", "k", *members)
    for reply in pair.both("SRANDMEMBER", "k", count):
        chosen = values(reply)
        assert set(chosen) <= {member.encode() for member in members}
        assert len(chosen) == (-count if count < 0 else min(count, len(members)))
        assert count < 0 or len(set(chosen)) == len(chosen)
        if kind == "listpack" and count > 0:
            assert chosen == [member.encode() for member in members if member.encode() in chosen]


def whole_scan(pair: Pair, side: int, count: int) -> list[bytes]:
    found: list[bytes] = []
    cursor = b"0"
    while True:
        reply = parse_one(pair.both("SSCAN", "k", cursor, "COUNT", count)[side])
        assert isinstance(reply, list)
        found += reply[1]
        cursor = reply[0]
        if cursor == b"0":
            return found


@pytest.mark.parametrize("kind", KINDS)
def test_sscan_in_steps_gives_every_member(pair: Pair, kind: str) -> None:
    pair.same("SADD", "k", *KINDS[kind])
    members = sorted(member.encode() for member in KINDS[kind])
    assert sorted(set(whole_scan(pair, 0, 3))) == sorted(set(whole_scan(pair, 1, 3))) == members


def test_counts_beyond_all_reason_are_refused_and_cost_nothing(pair: Pair) -> None:
    """redis-server would fill its memory with these."""
    pair.same("SADD", "k", "a", "b")
    for count in (-(2**31), -(2**63) + 1):
        assert pair.ours.send(b"SRANDMEMBER k %d\r\n" % count).startswith(b"-ERR Insufficient memory")
    assert values(pair.same("SRANDMEMBER", "k", 2**63 - 1)) == [b"a", b"b"]
    assert sorted(values(pair.both("SPOP", "k", 2**63 - 1)[0])) == [b"a", b"b"]
