"""Random sequences of commands on lists, and of SORT: after any history our raw replies are redis-server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_machine import (
    COUNT,
    INDEX,
    KEY,
    KEYS,
    VALUE,
    Machine,
    command,
    counted,
    maybe,
    numbers,
    one,
    options,
    some,
    words,
)

if TYPE_CHECKING:
    from tests.support.redis_pair import RealServer

pytestmark = [pytest.mark.conformance, pytest.mark.machine]

# Integers of each width, strings around each length at which a listpack's header grows, and some that do not fit
# into a node.
ELEMENT = one(
    VALUE,
    words("a", "b", "c", "a", "b", "c"),
    numbers(-5000, 5000),
    words("127", "128", "-4096", "4096", "32767", "32768", "8388608", "2147483648", "-9223372036854775808"),
    words("x" * 63, "x" * 64, "x" * 125, "x" * 126, "y" * 1000, "z" * 4000, "z" * 4095, "z" * 4096),
)
LARGE = words("x" * 3000, "x" * 8100, "y" * 8192, "y" * 8193, "z" * 20_000)
SIDE = one(words("LEFT", "RIGHT"), words("LEFT", "RIGHT", "left", "rIGHT", "right", "up"))
RANK = one(words(1, -1, 2, -2, 3), words(0, 2**63 - 1, -(2**63), "x"))

PUSHES = [
    command("lpush", KEY, some(ELEMENT)),
    command("rpush", KEY, some(ELEMENT)),
    command("rpush", KEY, some(ELEMENT, 10, 150), weight=0.5),
    command("lpush", KEY, LARGE, weight=0.5),
    command("rpush", KEY, ELEMENT, LARGE, weight=0.5),
]
LISTS = [
    *PUSHES,
    command("lpushx", KEY, some(ELEMENT), weight=0.5),
    command("rpushx", KEY, some(ELEMENT), weight=0.5),
    command("lpop", KEY, maybe(COUNT)),
    command("rpop", KEY, maybe(COUNT)),
    command("llen", KEY, weight=0.5),
    command("lindex", KEY, INDEX),
    command("lset", KEY, INDEX, one(ELEMENT, ELEMENT, LARGE), weight=2),
    command(
        "linsert",
        KEY,
        words("BEFORE", "AFTER", "after", "x"),
        ELEMENT,
        one(ELEMENT, ELEMENT, LARGE),
        weight=2,
    ),
    command("lrem", KEY, one(numbers(-3, 3), INDEX), ELEMENT),
    command("ltrim", KEY, one(numbers(0, 3), INDEX), one(numbers(-4, -1), INDEX)),
    command("lrange", KEY, INDEX, INDEX),
    command(
        "lpos", KEY, ELEMENT, options(["RANK", RANK], ["COUNT", COUNT], ["MAXLEN", COUNT], "COUNT", "foo")
    ),
    command("lmove", KEY, KEY, SIDE, SIDE, weight=2),
    command("rpoplpush", KEY, KEY),
    command("lmpop", counted(KEY), SIDE, maybe("COUNT", COUNT)),
    command("copy", KEY, KEY, maybe("REPLACE"), weight=0.5),
    command("object", "ENCODING", KEY, weight=0.5),
    command("set", KEY, VALUE, weight=0.1),
    command("del", KEY, weight=0.2),
    command("append", KEY, VALUE, weight=0.1),
]

NAME = words("a", "b", "c", "1", "2", "10", "-5", "3.5", "", "w", "inf", "1e3", "0x10", "1\x002")
PATTERN = one(words("w_*", "w_*", "nosort", "*", "w_*->f", "#", "w_*x", "w_*->", "\x00*"), KEY)
SORT_OPTIONS = [
    "ASC", "DESC", "ALPHA", "alpha",
    ["GET", one(words("#", "#", "w_*", "w_*->f", "none", "w_"), PATTERN)],
    ["LIMIT", INDEX, INDEX], "LIMIT", "GET", "foo",
]  # fmt: skip


SORTS = [
    command("rpush", KEY, some(numbers(-20, 20), 1, 30)),
    command("rpush", KEY, some(NAME)),
    command("set", one(["w_0"], words("w_a", "w_b", "w_1", "w_2", "w_10", "w_-5", "w_3")), NAME),
    command("rpush", words("w_a", "w_1"), NAME, weight=0.2),
    command("hset", words("w_b", "w_2", "w_10", "w_-5"), "f", NAME, weight=0.3),
    command("sadd", KEY, some(numbers(-20, 20), 1, 30)),
    command("sadd", KEY, some(NAME, 1, 6)),
    command("zadd", KEY, some([numbers(-5, 5), words("a", "b", "1", "2", "10", "-5", "w")], 1, 6)),
    command("zadd", KEY, some([numbers(-5, 5), numbers(-20, 20)], 1, 30)),
    command("object", "ENCODING", KEY, weight=0.5),
    command("sort", KEY, options(*SORT_OPTIONS, ["STORE", KEY]), weight=3),
    command("sort_ro", KEY, options(*SORT_OPTIONS, ["STORE", KEY])),
    command("sort", KEY, "BY", PATTERN, options("ASC", "DESC", "ALPHA", ["GET", PATTERN], "foo"), weight=3),
    command("sort", KEY, "BY", PATTERN, "ALPHA", "LIMIT", INDEX, INDEX, options("ASC", "DESC"), mutate=False),
    command("sort", KEY, "BY", PATTERN, options("DESC", ["LIMIT", INDEX, INDEX], ["GET", PATTERN], ["STORE", KEY])),
    command("set", KEY, VALUE, weight=0.1),
    command("del", some(KEY), weight=0.3),
]  # fmt: skip

SIZES = [{"list-max-listpack-size": size} for size in ("-2", "-1", "-3", "-5", "0", "1", "2", "5", "128")]

LIST_MACHINE = Machine("lists", LISTS, configs=SIZES, opening=PUSHES)
SORT_MACHINE = Machine("sort", SORTS, configs=[{}, {"list-max-listpack-size": "3"}], opening=SORTS[:10])


@pytest.mark.parametrize("machine", [LIST_MACHINE, SORT_MACHINE], ids=lambda machine: machine.name)
def test_any_sequence_is_answered_as_the_server_does(real_server: RealServer, machine: Machine) -> None:
    outcome = machine.run(real_server)
    assert all(each.name.decode() in outcome.by_name for each in machine.commands), KEYS
