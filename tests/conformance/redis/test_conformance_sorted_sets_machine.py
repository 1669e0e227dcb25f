"""Random sequences of commands on sorted sets, and on the positions kept in them, against redis-server's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.redis_machine import (
    KEY,
    Machine,
    command,
    counted,
    maybe,
    numbers,
    one,
    options,
    same_scan,
    some,
    words,
)

if TYPE_CHECKING:
    from tests.support.redis_pair import RealServer

pytestmark = [pytest.mark.conformance, pytest.mark.machine]

MEMBER = one(
    words("a", "b", "c", "d", "e", "f"),
    words("a", "b", "c", "d", "e", "f", "", "\xff", "a\x00", "x" * 64, "x" * 65),
    lambda random: [b"m%d" % random.randrange(40)],
)
SCORE = one(
    numbers(-4, 4),
    numbers(-4, 4),
    lambda random: [b"%.*f" % (random.randrange(5), random.uniform(-5, 5))],
    lambda random: [repr(random.uniform(-1, 1) * 10 ** random.randrange(-9, 25)).encode()],
    words("inf", "-inf", "-0", "1e300", "-1e-300", "4611686018427387905", "3.3333333333333335", "5e-324"),
)
RANK = one(numbers(-12, 12), numbers(-12, 12), words(0, -1, 2**63 - 1, -(2**63)))
BOUND = one(SCORE, lambda random: [b"(" + SCORE(random)[0]], words("-inf", "+inf", "", "(1", "0x10"))
NAME_BOUND = one(
    words("-", "+"),
    lambda random: [random.choice((b"[", b"(")) + MEMBER(random)[0]],
    lambda random: [random.choice((b"[", b"(")) + MEMBER(random)[0]],
    words("-\x00x", "+x", "[", "(", "x"),
)
LIMIT = maybe("LIMIT", one(numbers(-1, 6), RANK), one(numbers(-1, 6), RANK), chance=0.3)
WITHSCORES = maybe("WITHSCORES")
SIDE = words("MIN", "MAX")
SMALL_COUNT = one(numbers(1, 3), numbers(1, 3), words(0, 100, 2**63 - 1))


def _condition(*names: str) -> Any:
    return options(words(*names), most=2)


def _weights(random: Any) -> list[bytes]:
    """`numkeys key … WEIGHTS …` with as many weights as keys, mostly."""
    keys = counted(KEY)(random)
    if random.random() < 0.4:
        wanted = int(keys[0]) - (random.random() < 0.05)
        keys = [*keys, b"WEIGHTS", *(SCORE(random)[0] for _ in range(wanted))]
    if random.random() < 0.4:
        keys += [b"AGGREGATE", random.choice((b"SUM", b"MIN", b"max"))]
    return keys


# A skiplist with several scores finds a range of names by luck: it skips by the levels of its nodes. So ranges of
# names meet sets of one score (the one that members of a plain set count as), or listpacks, which are looked through
# from one side.
SAME_SCORE = words(1)


def machine(name: str, score: Any, *, by_name: bool, configs: list[dict[str, str]]) -> Machine:
    # A score must stay what it was drawn as.
    is_free = score is not SAME_SCORE
    conditions = _condition("NX", "XX", "GT", "LT", "CH")
    commands = [
        command("zadd", KEY, conditions, some([score, MEMBER], 1, 5), weight=4, mutate=is_free),
        command("zadd", KEY, some([score, MEMBER], 6, 30), mutate=is_free),
        command("zrem", KEY, some(MEMBER)),
        command("zcard", KEY, weight=0.5),
        command("zscore", KEY, MEMBER),
        command("zmscore", KEY, some(MEMBER)),
        command("zrank", KEY, MEMBER, maybe("WITHSCORE")),
        command("zrevrank", KEY, MEMBER, maybe("WITHSCORE")),
        command("zcount", KEY, BOUND, BOUND),
        command("zrange", KEY, RANK, RANK, options("REV", "WITHSCORES")),
        command("zrange", KEY, BOUND, BOUND, "BYSCORE", maybe("REV"), LIMIT, WITHSCORES),
        command("zrevrange", KEY, RANK, RANK, WITHSCORES),
        command("zrangebyscore", KEY, BOUND, BOUND, LIMIT, WITHSCORES),
        command("zrevrangebyscore", KEY, BOUND, BOUND, WITHSCORES, LIMIT),
        command("zrangestore", KEY, KEY, RANK, RANK, maybe("REV")),
        command("zremrangebyrank", KEY, numbers(0, 6), numbers(-6, 3)),
        command("zpopmin", KEY, maybe(SMALL_COUNT)),
        command("zpopmax", KEY, maybe(SMALL_COUNT)),
        command("zmpop", counted(KEY), SIDE, maybe("COUNT", SMALL_COUNT)),
        command("zintercard", counted(KEY), maybe("LIMIT", numbers(0, 3))),
        command("zdiff", counted(KEY), WITHSCORES),
        command("zdiffstore", KEY, counted(KEY)),
        # More than there are: the server gives all, in its order. Chance is for the unit tests.
        command("zrandmember", KEY, words(0, 10**6, 2**63 - 1), WITHSCORES, mutate=False),
        command(
            "zscan",
            KEY,
            0,
            maybe("MATCH", words("*", "[a-c]", "m*")),
            "COUNT",
            100_000,
            compare=same_scan,
            mutate=False,
        ),
        command("set", KEY, "a string", weight=0.1),
        command("sadd", KEY, some(MEMBER), weight=0.3),
        command("del", KEY, weight=0.1),
        command("copy", KEY, KEY, maybe("REPLACE"), weight=0.5),
        command("object", "ENCODING", KEY),
    ]
    if by_name:
        commands += [
            command("zlexcount", KEY, NAME_BOUND, NAME_BOUND, weight=2),
            command("zrange", KEY, NAME_BOUND, NAME_BOUND, "BYLEX", maybe("REV"), LIMIT, weight=2),
            command("zrangebylex", KEY, NAME_BOUND, NAME_BOUND, LIMIT, weight=2),
            command("zrevrangebylex", KEY, NAME_BOUND, NAME_BOUND, LIMIT, weight=2),
            command("zremrangebylex", KEY, NAME_BOUND, NAME_BOUND, weight=0.5),
            command("zrangestore", KEY, KEY, NAME_BOUND, NAME_BOUND, "BYLEX", maybe("REV"), LIMIT),
        ]
    else:
        commands += [
            command("zadd", KEY, "INCR", _condition("NX", "XX", "GT", "LT"), score, MEMBER),
            command("zincrby", KEY, score, MEMBER),
            command("zrangestore", KEY, KEY, BOUND, BOUND, "BYSCORE", maybe("REV"), LIMIT),
            command("zremrangebyscore", KEY, BOUND, BOUND, weight=0.5),
            command("zunion", _weights, WITHSCORES),
            command("zinter", _weights, WITHSCORES),
            command("zunionstore", KEY, _weights),
            command("zinterstore", KEY, _weights),
        ]
    return Machine(name, commands, configs=configs)


BY_SCORE = machine(
    "sorted sets by score",
    SCORE,
    by_name=False,
    configs=[{}, {"zset-max-listpack-entries": "5"}, {"zset-max-listpack-entries": "0"}],
)
BY_NAME = machine(
    "sorted sets by name",
    SAME_SCORE,
    by_name=True,
    configs=[{}, {"zset-max-listpack-entries": "5"}, {"zset-max-listpack-value": "3"}],
)
# Never a skiplist.
BY_NAME_OF_LISTPACKS = machine(
    "listpacks by name",
    numbers(0, 3),
    by_name=True,
    configs=[{"zset-max-listpack-entries": "1000", "zset-max-listpack-value": "100"}],
)


def test_any_sequence_by_score_is_answered_as_the_server_does(real_server: RealServer) -> None:
    BY_SCORE.run(real_server)


def test_any_sequence_by_name_is_answered_as_the_server_does(real_server: RealServer) -> None:
    BY_NAME.run(real_server)


def test_any_sequence_on_listpacks_by_name_is_answered_as_the_server_does(real_server: RealServer) -> None:
    BY_NAME_OF_LISTPACKS.run(real_server)


# Positions ----------------------------------------------------------------------------------------


def _position(random: Any) -> list[bytes]:
    chance = random.random()
    if chance < 0.4:
        longitude, latitude = random.uniform(-180, 180), random.uniform(-85.05, 85.05)
    elif chance < 0.6:
        longitude, latitude = 13.3 + random.uniform(-2, 2), 38 + random.uniform(-2, 2)
    elif chance < 0.7:
        longitude, latitude = random.uniform(-180, 180), random.choice((-1, 1)) * random.uniform(66, 85.05)
    elif chance < 0.8:
        longitude, latitude = random.choice((-1, 1)) * random.uniform(178, 180), random.uniform(-85, 85)
    else:
        longitude = random.choice((0, 180, -180, 90, -90, 0.0001, 45))
        latitude = random.choice((0, 85.05112878, -85.05112878, 45, -45))
    return [repr(longitude).encode(), repr(latitude).encode()]


def _length(random: Any) -> list[bytes]:
    if random.random() < 0.05:
        return [random.choice((b"0", b"1e300", b"inf", b"1e-9"))]
    return [repr(random.choice((1, 10, 1.5)) * 10 ** random.randrange(6)).encode()]


PLACE = one(
    lambda random: [b"m%d" % random.randrange(60)],
    lambda random: [b"m%d" % random.randrange(60)],
    words("a", "b"),
)
UNIT = words("m", "km", "ft", "mi", "KM", "km", "km")
ODD_SCORE = one(
    words("inf", "-5", "1.5", "1e300", "-1e300", "9223372036854775808", "18446744073709551616"),
    lambda random: [repr(random.uniform(0, 2**53)).encode()],
)
ORDER = maybe(words("ASC", "DESC"))
COUNT = maybe("COUNT", numbers(1, 70), maybe("ANY", chance=0.3))
CENTRE = one(["FROMLONLAT", _position], ["FROMLONLAT", _position], ["FROMMEMBER", PLACE])
SHAPE = one(["BYRADIUS", _length, UNIT], ["BYBOX", _length, _length, UNIT])
SHOWN = options("WITHCOORD", "WITHDIST", "WITHHASH")

POSITIONS = Machine(
    "positions",
    [
        command("geoadd", KEY, _condition("NX", "XX", "CH"), some([_position, PLACE], 1, 8), weight=5),
        command("geoadd", KEY, some([_position, PLACE], 20, 60), weight=1),
        command("geodist", KEY, PLACE, PLACE, maybe(UNIT)),
        command("geopos", KEY, some(PLACE)),
        command("geohash", KEY, some(PLACE)),
        command("georadius", KEY, _position, _length, UNIT, SHOWN, ORDER, COUNT),
        command("georadius_ro", KEY, _position, _length, UNIT, SHOWN, ORDER, COUNT),
        command("georadiusbymember", KEY, PLACE, _length, UNIT, SHOWN, ORDER, COUNT),
        command("georadiusbymember_ro", KEY, PLACE, _length, UNIT, SHOWN, ORDER, COUNT),
        command("georadius", KEY, _position, _length, UNIT, ORDER, COUNT, words("STORE", "STOREDIST"), KEY),
        command("georadiusbymember", KEY, PLACE, _length, UNIT, COUNT, words("STORE", "STOREDIST"), KEY),
        command("geosearch", KEY, CENTRE, SHAPE, SHOWN, ORDER, COUNT, weight=4),
        command("geosearchstore", KEY, KEY, CENTRE, SHAPE, ORDER, COUNT, maybe("STOREDIST")),
        command("zrem", KEY, PLACE),
        command("zadd", KEY, ODD_SCORE, PLACE, weight=0.3),
        command("set", KEY, "a string", weight=0.05),
        command("del", KEY, weight=0.1),
        command("object", "ENCODING", KEY, weight=0.3),
    ],
)


def test_any_sequence_on_positions_is_answered_as_the_server_does(real_server: RealServer) -> None:
    POSITIONS.run(real_server)
