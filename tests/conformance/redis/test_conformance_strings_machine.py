"""Random sequences of commands on strings and keys: after any history our raw replies are redis-server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_machine import (
    KEY,
    KEYS,
    SECONDS,
    VALUE,
    Machine,
    Step,
    command,
    maybe,
    near,
    numbers,
    one,
    options,
    same_scan,
    some,
    unordered,
    words,
)

if TYPE_CHECKING:
    from tests.support.redis_pair import RealServer

pytestmark = [pytest.mark.conformance, pytest.mark.machine]

FAR = 33177117420  # a Unix time in seconds, in the year 3021
WORD = one(
    words("", "0", "1", "-1", "10", "9223372036854775807", "-9223372036854775808", "9223372036854775808"),
    words("1.5", "3.0e3", "abc", "hello world", "007", " 1", "-0", "0.1", "-2.25", "inf", "1e400", "ab" * 8),
    VALUE,
)
INCREMENT = one(numbers(-12, 12), numbers(-12, 12), words("x", "", "1.0", 2**63 - 1, -(2**63), 2**63))
RELATIVE = one(SECONDS, SECONDS, words(0, -5, "x", 2**63 - 1))
ABSOLUTE = one(numbers(FAR, FAR + 3), numbers(FAR, FAR + 3), words(0, 1, -5, "x", 2**63 - 1))
EXPIRY = one(
    ["EX", RELATIVE], ["PX", one(words(10**8, 2 * 10**8), RELATIVE)], ["EXAT", ABSOLUTE], ["PXAT", numbers(FAR * 1000, FAR * 1000 + 3)]
)  # fmt: skip
SET_OPTIONS = options(EXPIRY, EXPIRY, "KEEPTTL", "NX", "XX", "GET", "PERSIST", "foo")
CONDITIONS = options("NX", "XX", "GT", "LT", "foo", most=2)
DATABASE = one(words(0, 0, 1, 2, 15), words(16, -1, "x", 2**40))


def same_time(step: Step) -> bool:
    """Seconds or milliseconds, rounded at another moment."""
    return near(3 if b"P" not in step.request[0].upper()[:1] else 3000)(step)


STRINGS = [
    command("get", KEY),
    command("set", KEY, WORD, weight=2),
    command("set", KEY, WORD, SET_OPTIONS, weight=2),
    command("getex", KEY, options(EXPIRY, "PERSIST", "foo")),
    command("getdel", KEY, weight=0.5),
    command("getset", KEY, WORD),
    command("getrange", KEY, INCREMENT, INCREMENT),
    command("substr", KEY, numbers(-12, 12), numbers(-12, 12)),
    command("setrange", KEY, one(numbers(-1, 60), words(2**40, "x")), WORD),
    command("strlen", KEY),
    command("append", KEY, WORD),
    command("incr", KEY),
    command("decr", KEY),
    command("incrby", KEY, one(INCREMENT, WORD)),
    command("decrby", KEY, one(INCREMENT, WORD)),
    command("incrbyfloat", KEY, WORD),
    command("mget", some(KEY)),
    command("mset", some([KEY, WORD]), maybe(KEY, chance=0.1)),
    command("msetnx", some([KEY, WORD]), weight=0.5),
    command("setnx", KEY, WORD, weight=0.5),
    command("setex", KEY, RELATIVE, WORD),
    command("psetex", KEY, one(words(10**8, 2 * 10**8), RELATIVE), WORD),
    command("lcs", KEY, KEY, options("IDX", "LEN", "WITHMATCHLEN", ["MINMATCHLEN", numbers(-1, 4)], "foo")),
]
GENERIC = [
    command("del", some(KEY), weight=0.5),
    command("unlink", some(KEY), weight=0.3),
    command("exists", some(KEY)),
    command("touch", some(KEY)),
    command("type", KEY),
    command("expire", KEY, RELATIVE, options("NX", "XX", "foo", most=2)),
    command("pexpire", KEY, one(words(10**8, 2 * 10**8), RELATIVE), options("NX", "XX", most=1)),
    command("expireat", KEY, ABSOLUTE, CONDITIONS),
    command("pexpireat", KEY, one(numbers(FAR * 1000, FAR * 1000 + 3), words(0, "x", 2**63 - 1)), CONDITIONS),
    command("ttl", KEY, compare=same_time),
    command("pttl", KEY, compare=same_time),
    command("expiretime", KEY, compare=near(3)),
    command("pexpiretime", KEY, compare=near(3000)),
    command("persist", KEY),
    command("rename", KEY, KEY),
    command("renamenx", KEY, KEY),
    command("copy", KEY, KEY, one([], "REPLACE", ["DB", DATABASE], ["DB", "1", "REPLACE"], "DB", "x")),
    command("move", KEY, DATABASE),
    command("keys", words("*", "a", "[a-b]", "k*", "?", "[^a]", "nosuch*"), compare=unordered),
    command("dbsize"),
    command("select", DATABASE, weight=0.3),
    command("swapdb", DATABASE, DATABASE, weight=0.3),
    command("flushdb", options("SYNC", "ASYNC", "foo", most=1), weight=0.1),
    command(
        "scan", 0, "COUNT", 1000, maybe("MATCH", words("*", "a*", "k*")), compare=same_scan, mutate=False
    ),
    command("object", words("ENCODING", "REFCOUNT", "encoding", "nosuch"), KEY),
    command("client", words("GETNAME", "nosuch")),
    command("client", "SETNAME", WORD),
    command("echo", WORD),
    command("ping", maybe(WORD)),
    command("nosuch", some(WORD), weight=0.1),
]
OPENING = [command("set", key, WORD, maybe("EXAT", numbers(FAR, FAR + 3))) for key in KEYS]

MACHINE = Machine("strings", STRINGS + GENERIC, opening=OPENING, databases=(0, 1, 2, 15))


def test_any_sequence_is_answered_as_the_server_does(real_server: RealServer) -> None:
    outcome = MACHINE.run(real_server)
    assert set(outcome.by_name) == {each.name.decode() for each in STRINGS + GENERIC}
