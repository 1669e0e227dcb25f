"""Random sequences of commands on hashes: after any history our raw replies are redis-server's.

Expire times of fields are absolute: the order of a listpackex is that of its times, and both sides' clocks are not
quite the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_machine import (
    KEY,
    KEYS,
    VALUE,
    Draw,
    Machine,
    Part,
    Step,
    command,
    maybe,
    near,
    numbers,
    one,
    options,
    same_kind,
    same_scan,
    some,
    unordered_if_hashtable,
    unordered_pairs,
    words,
)

if TYPE_CHECKING:
    from random import Random

    from tests.support.redis_pair import RealServer

pytestmark = [pytest.mark.conformance, pytest.mark.machine]

FAR_MS = 60_000_000_000_000  # a Unix time in milliseconds, in the year 3871

FIELD = one(words("a", "b", "c", "d", "e", "f"), words("a", "b", "c", "", "007", "hello", "x" * 6, "1"))
CONTENT = one(words("1", "2", "-7", "3.5", "abc", "", "x" * 6, "9223372036854775807", " 5", "inf"), VALUE)
WHEN_MS = one(
    numbers(FAR_MS, FAR_MS + 3), words(FAR_MS + 1000), words(2**46 - 1, 2**46, 2**63 - 1, 0, 1, -1, "x")
)
WHEN_S = one(
    numbers(FAR_MS // 1000, FAR_MS // 1000 + 2),
    words(2**46 // 1000, 2**46 // 1000 + 1, 2**63 - 1, 0, -1, "x"),
)
CONDITION = one([], [], words("NX", "XX", "GT", "LT"), words("foo", "nx"))
AMOUNT = one(
    numbers(-12, 12), words("x", "", "1.0", 2**63 - 1, -(2**63), 2**63, "1.5", "-0.25", "1e3", "inf", "nan")
)


def fields(part: Part, words_per_field: int = 1) -> Draw:
    """`FIELDS count field …`, now and then with another count."""
    draw = some(part, 1, 4)

    def drawn(random: Random) -> list[bytes]:
        names = draw(random)
        count = len(names) // words_per_field
        if random.random() < 0.04:
            count += random.choice((-1, 1, 2**31, -9))
        return [random.choice((b"FIELDS", b"FIELDS", b"fields")), b"%d" % count, *names]

    return drawn


def random_fields(step: Step) -> bool:
    """Both sides give fields of the (same) hash, as many, and in its order where that is a listpack's."""
    ours, theirs = step.values()
    if not isinstance(ours, list) or not isinstance(theirs, list) or len(ours) != len(theirs):
        return not isinstance(ours, (list, str)) and same_kind(step)
    with_values = len(step.request) > 3
    entry = step.session.db.find(step.request[1])
    assert entry is not None
    items = entry.value.items(0)
    held = dict(zip(items[::2], items[1::2], strict=True))
    places = list(held)
    for reply in (ours, theirs):
        pairs = reply
        if with_values and not (reply and isinstance(reply[0], list)):
            pairs = [reply[at : at + 2] for at in range(0, len(reply), 2)]
        names = [pair[0] for pair in pairs] if with_values else pairs
        if with_values and any(held[name] != value for name, value in pairs):
            return False
        if not set(names) <= set(held):
            return False
        if not step.request[2].startswith(b"-"):
            if len(set(names)) != len(names):
                return False
            if step.encoding() != b"hashtable" and sorted(names, key=places.index) != names:
                return False
    return True


COMMANDS = [
    command("hset", KEY, some([FIELD, CONTENT], 1, 4), weight=3),
    command("hset", KEY, some([FIELD, CONTENT], 3, 8), weight=0.7),
    command("hmset", KEY, some([FIELD, CONTENT], 1, 3)),
    command("hsetnx", KEY, FIELD, CONTENT),
    command("hget", KEY, FIELD),
    command("hmget", KEY, some(FIELD)),
    command("hgetall", KEY, compare=unordered_pairs),
    command("hkeys", KEY, compare=unordered_if_hashtable),
    command("hvals", KEY, compare=unordered_if_hashtable),
    command("hlen", KEY),
    command("hstrlen", KEY, FIELD),
    command("hexists", KEY, FIELD),
    command("hdel", KEY, some(FIELD)),
    command("hincrby", KEY, FIELD, AMOUNT),
    command("hincrbyfloat", KEY, FIELD, AMOUNT),
    command("hrandfield", KEY, compare=same_kind, mutate=False, weight=0.5),
    command(
        "hrandfield",
        KEY,
        one(numbers(-5, 7), words(100, 2**63 - 1, "x", -(2**63), 2**62)),
        one([], "WITHVALUES", "foo"),
        compare=random_fields,
        mutate=False,
    ),
    command(
        "hscan",
        KEY,
        0,
        "COUNT",
        1000,
        maybe("MATCH", words("*", "[a-c]*", "x*")),
        maybe("NOVALUES"),
        compare=same_scan,
        mutate=False,
    ),
    command("hscan", KEY, one("x", "-1", 2**64, [0, one("foo", ["COUNT", "0"], "COUNT")]), mutate=False),
    command("hexpireat", KEY, WHEN_S, CONDITION, fields(FIELD)),
    command("hpexpireat", KEY, WHEN_MS, CONDITION, fields(FIELD), weight=3),
    command("hexpire", KEY, words(0, -1, "x", 2**63 - 1, 2**40), CONDITION, fields(FIELD), weight=0.3),
    command("hpexpire", KEY, words(0, -1, "x", 2**63 - 1, 2**46), CONDITION, fields(FIELD), weight=0.3),
    command("hpersist", KEY, fields(FIELD)),
    command("hexpiretime", KEY, fields(FIELD)),
    command("hpexpiretime", KEY, fields(FIELD)),
    command("httl", KEY, fields(FIELD), compare=near(3)),
    command("hpttl", KEY, fields(FIELD), compare=near(3000)),
    command(
        "hgetex",
        KEY,
        one([], "PERSIST", ["EXAT", WHEN_S], ["PXAT", WHEN_MS], "KEEPTTL", "foo"),
        fields(FIELD),
        weight=2,
    ),
    command("hgetdel", KEY, fields(FIELD)),
    command(
        "hsetex",
        KEY,
        options("FNX", "FXX", "KEEPTTL", ["PXAT", WHEN_MS], ["EXAT", WHEN_S], "foo", most=2),
        fields([FIELD, CONTENT], 2),
        weight=3,
    ),
    command("object", "encoding", KEY),
    command("copy", KEY, KEY, maybe("REPLACE")),
    command("rename", KEY, KEY, weight=0.5),
    command("set", KEY, VALUE, weight=0.2),
    command("del", KEY, weight=0.3),
]
OPENING = [command("hset", key, some([FIELD, CONTENT], 1, 6)) for key in KEYS]
CONFIGS = [
    {},
    {"hash-max-listpack-entries": "4", "hash-max-listpack-value": "5"},
    {"hash-max-listpack-entries": "0"},
]

MACHINE = Machine("hashes", COMMANDS, opening=OPENING, configs=CONFIGS)


def test_any_sequence_is_answered_as_the_server_does(real_server: RealServer) -> None:
    outcome = MACHINE.run(real_server)
    assert set(outcome.by_name) == {each.name.decode() for each in COMMANDS}
