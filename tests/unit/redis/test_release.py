"""What is large goes piece by piece, and the end of it slowly."""

from __future__ import annotations

import random

import pytest

from appliance.redis.blocking import NEVER_US
from appliance.redis.engine import Engine, EngineSettings
from appliance.redis.types.sets import Set, set_for

BUDGET = 2000


def an_engine() -> Engine:
    engine = Engine(EngineSettings(), random.Random(5).randbytes)
    engine.clock.set_us(1_000_000)
    return engine


def a_set(engine: Engine, members: int) -> Set:
    value = set_for(engine.limits, b"member", members)
    for number in range(members):
        value.add(b"member:%d" % number)
    return value


def pieces(engine: Engine) -> int:
    """How many it takes until nothing waits."""
    count = 0
    while not engine.releases.is_empty():
        more = engine.releases.work(BUDGET)
        assert more == (not engine.releases.is_empty())
        count += 1
        assert count < 10_000
    return count


def test_the_end_of_a_dropped_database_goes_slowly() -> None:
    engine = an_engine()
    database = engine.databases[0]
    for number in range(60_000):
        database.put(b"key:%d" % number, b"value")
    while database.work(100_000):
        pass
    slots = database.slots_allocated()
    tail = slots // 1024
    assert database.clear() == 60_000
    # The last 1024th in pieces of 16 and all before in pieces of BUDGET, of which one ends where the tail begins.
    assert pieces(engine) == -(-(slots - tail) // BUDGET) + -(-tail // 16)


def test_the_end_of_a_large_value_goes_slowly() -> None:
    engine = an_engine()
    engine.releases.add(a_set(engine, 60_000))
    count = pieces(engine)
    assert 60_000 // BUDGET + 4 < count < 200


def test_values_that_are_not_large_share_a_piece() -> None:
    engine = an_engine()
    for _ in range(40):
        engine.releases.add(a_set(engine, 100))
    assert len(engine.releases) == 40
    assert pieces(engine) <= 5


def test_what_is_small_does_not_wait() -> None:
    engine = an_engine()
    engine.releases.add(a_set(engine, 64))
    engine.releases.add(b"x" * 100_000)
    assert engine.releases.is_empty()


@pytest.mark.parametrize(
    ("fill", "cut"),
    [
        (b"XADD k %d-1 f v", b"XTRIM k MAXLEN 100"),
        (b"RPUSH k %d", b"LTRIM k 10 20"),
        (b"SADD k %d", b"DEL k"),
    ],
)
def test_what_a_command_leaves_is_freed_without_another_one(fill: bytes, cut: bytes) -> None:
    engine = an_engine()
    session = engine.create_session(remote="10.0.0.1:1", local="10.0.0.2:2", now_us=1_000_000)
    lines = [fill % number for number in range(1, 40_001)]
    session.data_received(b"\r\n".join([*lines, cut, b""]), 1_000_000)
    assert not engine.releases.is_empty()
    while not engine.releases.is_empty():
        assert engine.next_timeout_us() < NEVER_US
        engine.handle_timeouts(engine.next_timeout_us())
