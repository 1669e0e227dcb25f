"""Random sequences of commands: after any history, our raw replies are redis-server's.

Few keys and few values, so that commands meet; options right and wrong, in any order. What depends on the
clock or on chance is compared by what it means.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.redis_pair import Argument, Pair, RealServer, encode_request, parse_one

pytestmark = pytest.mark.conformance

FAR = 33177117420

KEYS = ["a", "b", "c", "key:1", ""]
keys = st.sampled_from(KEYS)
words = st.sampled_from(
    [
        "",
        "0",
        "1",
        "-1",
        "10",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1.5",
        "3.0e3",
        "abc",
        "hello world",
        "007",
        " 1",
        "-0",
        "x" * 50,
        "\x00ÿ\r\n",
        "0.1",
        "-2.25",
        "inf",
        "1e400",
        "ab" * 8,
    ]
)
small = st.integers(-12, 12)
numbers = st.one_of(small, st.sampled_from(["x", "", "1.0", 2**63 - 1, -(2**63), 2**63]))
cases = st.sampled_from([str.upper, str.lower, str.title])
expiry = st.one_of(
    st.tuples(st.sampled_from(["EX", "PX"]), st.sampled_from([100_000, 200_000, 0, -1, "x", 2**63 - 1])),
    st.tuples(st.sampled_from(["EXAT"]), st.integers(FAR, FAR + 3)),
    st.tuples(st.sampled_from(["PXAT"]), st.integers(FAR * 1000, FAR * 1000 + 3)),
    st.tuples(st.sampled_from(["KEEPTTL", "NX", "XX", "GET", "PERSIST", "foo"])),
)
options = st.lists(expiry, max_size=3).map(lambda groups: tuple(word for group in groups for word in group))
conditions = st.lists(st.sampled_from(["NX", "XX", "GT", "LT", "foo"]), max_size=2).map(tuple)
no_conditions = st.lists(st.sampled_from(["NX", "XX"]), max_size=1).map(tuple)
absolute = st.one_of(st.integers(FAR, FAR + 3), st.sampled_from([0, 1, -5, "x", 2**63 - 1]))
relative = st.sampled_from([100_000, 200_000, 0, -5, "x", 2**63 - 1])


def command(name: str, *parts: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    """A request: the name in some case, and its arguments, tuples being spread."""
    return st.tuples(cases.map(lambda case: case(name)), *parts).map(_flattened)


def _flattened(parts: tuple[object, ...]) -> tuple[object, ...]:
    flat: list[object] = []
    for part in parts:
        flat.extend(part if isinstance(part, (tuple, list)) else [part])
    return tuple(flat)


pairs = st.lists(st.tuples(keys, words), min_size=1, max_size=3).map(
    lambda items: [x for pair in items for x in pair]
)
some_keys = st.lists(keys, min_size=1, max_size=3)
databases = st.sampled_from([0, 1, 2, 15, 16, -1, "x", 2**40])

requests = st.one_of(
    command("get", keys),
    command("set", keys, words),
    command("set", keys, words, options),
    command("getex", keys, options),
    command("getdel", keys),
    command("getset", keys, words),
    command("getrange", keys, numbers, numbers),
    command("substr", keys, small, small),
    command(
        "setrange", keys, numbers.filter(lambda n: not isinstance(n, int) or n < 1000 or n > 2**40), words
    ),
    command("strlen", keys),
    command("append", keys, words),
    command("incr", keys),
    command("decr", keys),
    command("incrby", keys, words),
    command("decrby", keys, words),
    command("incrbyfloat", keys, words),
    command("mget", some_keys),
    command("mset", pairs),
    command("mset", pairs, keys),
    command("msetnx", pairs),
    command("setnx", keys, words),
    command("setex", keys, relative, words),
    command("psetex", keys, relative, words),
    command(
        "lcs",
        keys,
        keys,
        st.lists(st.sampled_from(["IDX", "LEN", "WITHMATCHLEN", "MINMATCHLEN", "2"]), max_size=3),
    ),
    command("del", some_keys),
    command("unlink", some_keys),
    command("exists", some_keys),
    command("touch", some_keys),
    command("type", keys),
    command("expire", keys, relative, no_conditions),
    command("pexpire", keys, relative, no_conditions),
    command("expireat", keys, absolute, conditions),
    command("pexpireat", keys, absolute.map(lambda n: n * 1000 if n == FAR else n), conditions),
    command("ttl", keys),
    command("pttl", keys),
    command("expiretime", keys),
    command("pexpiretime", keys),
    command("persist", keys),
    command("rename", keys, keys),
    command("set", keys, words, st.just(("EX", 100_000))),
    command("renamenx", keys, keys),
    command(
        "copy",
        keys,
        keys,
        st.sampled_from([(), ("REPLACE",), ("DB", 1), ("DB", 1, "REPLACE"), ("DB",), ("x",)]),
    ),
    command("move", keys, databases),
    command("keys", st.sampled_from(["*", "a", "[a-b]", "k*", "?", "[^a]", "nosuch*"])),
    command("dbsize"),
    command("randomkey"),
    command("select", databases),
    command("swapdb", databases, databases),
    command("flushdb", st.sampled_from([(), ("SYNC",), ("x",)])),
    command("ping", st.lists(words, max_size=2)),
    command("echo", words),
    command("object", st.sampled_from(["ENCODING", "REFCOUNT", "encoding", "nosuch"]), keys),
    command("client", st.sampled_from(["GETNAME", "SETNAME", "nosuch"]), st.lists(words, max_size=1)),
    command(
        "scan",
        st.just(0),
        st.just("COUNT"),
        st.just(1000),
        st.just("MATCH"),
        st.sampled_from(["*", "a*", "k*"]),
    ),
    st.lists(words, min_size=1, max_size=3).map(tuple),
)

# Most keys exist from the start, some of them with an expire time: a history of its own seldom gets there.
beginnings = st.tuples(
    *(
        st.one_of(
            st.just(()),
            st.tuples(st.just("set"), st.just(name), words),
            st.tuples(st.just("set"), st.just(name), words, st.just("EX"), st.just(100_000)),
            st.tuples(st.just("set"), st.just(name), words, st.just("EXAT"), st.integers(FAR, FAR + 3)),
            st.tuples(st.just("setrange"), st.just(name), st.integers(0, 5), words),
        )
        for name in KEYS
    )
).map(lambda made: [request for request in made if request])

TOLERANCE = {"ttl": 2, "expiretime": 2, "pttl": 2000, "pexpiretime": 2000}


def _same_meaning(request: tuple[Argument, ...], ours: bytes, theirs: bytes) -> bool:
    name = str(request[0]).lower()
    if ours == theirs:
        return True
    if name in TOLERANCE:
        one, other = parse_one(ours), parse_one(theirs)
        both_times = isinstance(one, int) and isinstance(other, int) and one > 0 and other > 0
        return both_times and abs(one - other) <= TOLERANCE[name]  # type: ignore[operator]
    if name == "keys":
        return sorted(parse_one(ours)) == sorted(parse_one(theirs))  # type: ignore[call-overload, no-any-return]
    if name == "scan":
        one, other = parse_one(ours), parse_one(theirs)
        return one[0] == other[0] == b"0" and sorted(one[1]) == sorted(other[1])  # type: ignore[index]
    if name == "randomkey":
        return parse_one(ours) is not None and parse_one(theirs) is not None
    if name == "object":
        # The server keeps a string in the form it had under another name or with an expire time.
        return {ours, theirs} == {b"$6\r\nembstr\r\n", b"$3\r\nraw\r\n"}
    return False


@pytest.mark.parametrize("resp3", [False, True], ids=["resp2", "resp3"])
def test_any_sequence_is_answered_as_the_server_does(real_server: RealServer, resp3: bool) -> None:
    pair = Pair(real_server)

    @given(beginnings, st.lists(requests, min_size=10, max_size=40))
    @settings(max_examples=4 * settings().max_examples)
    def run(beginning: list[tuple[Argument, ...]], sequence: list[tuple[Argument, ...]]) -> None:
        pair.reset(resp3=resp3)
        for request in [*beginning, *sequence]:
            ours, theirs = pair.exchange(encode_request(request), 1)
            assert _same_meaning(request, ours, theirs), (
                f"{request!r}: ours {ours!r}, redis-server {theirs!r}"
            )
        # What the history left behind, on both sides: keys, values and expire times.
        for index in (0, 1, 2, 15):
            pair.same("SELECT", index)
            pair.same("DBSIZE")
            for name in KEYS:
                pair.same("GET", name)
                ours, theirs = pair.both("PEXPIRETIME", name)
                assert _same_meaning(("pexpiretime",), ours, theirs), (index, name, ours, theirs)
        for database in pair.engine.databases:
            database.check_invariants()

    try:
        run()
    finally:
        pair.close()
