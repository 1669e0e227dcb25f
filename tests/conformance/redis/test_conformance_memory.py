"""MEMORY, ROLE, LASTSAVE: the forms are redis-server's, the numbers are our own and have to be true."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from appliance._build import build_kind
from appliance.redis.replies import Map, Verbatim
from tests.support.redis_machine import plain
from tests.support.redis_pair import OurClient, encode_request, make_engine, parse_one

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

LINES = (
    """
MEMORY|MEMORY foo|MEMORY USAGE|MEMORY USAGE k SAMPLES|MEMORY USAGE nosuch SAMPLES 0|MEMORY USAGE k SAMPLES -1
MEMORY USAGE k SAMPLES x|MEMORY USAGE k foo 3|MEMORY USAGE k SAMPLES 5 SAMPLES x|MEMORY USAGE nosuch SAMPLES x
MEMORY USAGE nosuch|MEMORY DOCTOR x|MEMORY PURGE|MEMORY PURGE x|MEMORY STATS x|MEMORY MALLOC-STATS x|ROLE x
LASTSAVE x|COMMAND GETKEYS MEMORY USAGE k|LOLWUT VERSION abc
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize("line", LINES)
def test_replies_without_numbers_are_the_servers(pair: Pair, line: str) -> None:
    pair.same("SET", "k", "v")
    pair.same(*line.split(" "))


def test_role_is_that_of_a_master(pair: Pair) -> None:
    # The offset counts the questions of WAIT too, so the server's depends on what others have asked it.
    ours, theirs = (parse_one(raw) for raw in pair.both("ROLE"))
    assert isinstance(ours, list)
    assert isinstance(theirs, list)
    assert (ours[0], ours[2:]) == (theirs[0], theirs[2:])
    assert isinstance(theirs[1], int)
    assert ours[1] == 0


def _names_and_types(reply: object) -> list[tuple[object, str]]:
    flat = reply.flat if isinstance(reply, Map) else reply
    assert isinstance(flat, list)
    return [(name, type(value).__name__) for name, value in zip(flat[::2], flat[1::2], strict=True)]


def test_memory_stats_has_the_servers_fields(pair: Pair) -> None:
    for database in (0, 3):
        pair.same("SELECT", database)
        pair.same("SET", "k", "v", "EX", 100)
    ours, theirs = (_names_and_types(parse_one(raw)) for raw in pair.both("MEMORY", "STATS"))
    assert ours == theirs


@pytest.mark.parametrize("command", ["DOCTOR", "MALLOC-STATS"])
def test_reports_are_texts(pair: Pair, command: str) -> None:
    ours, theirs = (parse_one(raw) for raw in pair.both("MEMORY", command))
    assert type(ours) is type(theirs) in (bytes, Verbatim)


def test_lastsave_is_the_start(pair: Pair) -> None:
    ours, theirs = (parse_one(raw) for raw in pair.both("LASTSAVE"))
    assert isinstance(ours, int)
    assert isinstance(theirs, int)
    assert 0 <= time.time() - ours < 600


MEMBERS = 3000
# What makes one key of about 3000 members, or 3000 keys.
FILL = {
    "set": [("SET", f"key:{n}", "x" * (n % 300)) for n in range(MEMBERS)],
    "append": [("APPEND", f"key:{n}", "x" * (n % 300)) for n in range(MEMBERS)] * 2,
    "setbit": [("SETBIT", "key", 8 * 1024 * 1024, 1)],
    "rpush": [("RPUSH", "key", f"element:{n}" * 5) for n in range(MEMBERS)],
    "sadd": [("SADD", "key", f"member:{n}" * 5) for n in range(MEMBERS)],
    "hset": [("HSET", "key", f"field:{n}", f"value:{n}" * 5) for n in range(MEMBERS)],
    "zadd": [("ZADD", "key", n, f"member:{n}" * 5) for n in range(MEMBERS)],
    "xadd": [("XADD", "key", f"{n + 1}-0", "field", f"value:{n}" * 5) for n in range(MEMBERS)],
}


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer makes objects of its own")
@pytest.mark.parametrize("samples", [0, 5])
@pytest.mark.parametrize("command", FILL)
def test_memory_usage_is_what_python_has_handed_out(command: str, samples: int) -> None:
    engine = make_engine()
    if command.encode() not in engine.registry.commands:
        pytest.skip(f"no {command} yet")
    client = OurClient(engine)
    requests = [encode_request(request) for request in FILL[command]]
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for request in requests:
            assert not client.send(request).startswith(b"-")
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    keys = plain(parse_one(client.send(b"KEYS *\r\n")))
    told = sum(
        plain(parse_one(client.send(encode_request(("MEMORY", "USAGE", k, "SAMPLES", samples)))))
        for k in keys
    )
    # Native objects are smaller than interpreted ones with their dictionaries; estimates are made for the former.
    low, high = (0.6, 1.7) if build_kind() == "compiled" else (0.3, 1.7)
    assert low * grown < told < high * grown, f"{told} told, {grown} handed out"
