"""Random sequences of commands on HyperLogLogs: after any history the strings are redis-server's, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_machine import KEY, KEYS, VALUE, Draw, Machine, command, numbers, one, some, words

if TYPE_CHECKING:
    from random import Random

    from tests.support.redis_pair import RealServer

pytestmark = [pytest.mark.conformance, pytest.mark.machine]

ELEMENT = one(numbers(0, 100), numbers(0, 10**9), VALUE, words("", "\x00" * 8, "x" * 1000))
HEADER = b"HYLL\x01\0\0\0" + b"\0" * 7
# Valid, with a cached count, with too few registers, with too many, with no runs at all.
# (Not one whose last run is cut short: see NOT_DRAWN in tests/support/redis_differences.py.)
STRINGS = words(
    *[
        HEADER + cache + runs
        for cache in (b"\0", b"\x80")
        for runs in (
            b"\x7f\xff",
            b"\x7f\xfe",
            b"\x7f\xff\0",
            b"",
            b"\x80" * 9,
            b"\x7f\xfb\x83",
            b"\x3f" * 256,
        )
    ],
    b"HYLL\0\0\0\0" + b"\0" * 7 + b"\x80" + b"\x41\x10\x04" * 4096,
    b"HYLL\0\0\0\0" + b"\0" * 8 + b"\0" * 12287,
    b"HYLL\2\0\0\0" + b"\0" * 8 + b"\x7f\xff",
    b"HYLL",
)


def many(low: int, high: int) -> Draw:
    """Different elements, enough to fill runs."""

    def drawn(random: Random) -> list[bytes]:
        return [b"%d" % random.getrandbits(40) for _ in range(random.randint(low, high))]

    return drawn


COMMANDS = [
    command("pfadd", KEY, some(ELEMENT, 0, 4), weight=3),
    command("pfadd", KEY, many(10, 100)),
    command("pfadd", KEY, many(100, 1000), weight=0.3),
    command("pfcount", KEY),
    command("pfcount", some(KEY, 2, 4)),
    command("pfmerge", KEY, some(KEY, 0, 3)),
    command("pfdebug", words("ENCODING", "DECODE", "TODENSE", "decode", "foo"), KEY),
    command("pfdebug", "GETREG", KEY, weight=0.05),
    command("pfdebug", "SIMD", words("ON", "OFF", "on"), weight=0.1, mutate=False),
    command("get", KEY),
    command("strlen", KEY),
    command("set", KEY, STRINGS, weight=0.5),
    command("set", KEY, VALUE, weight=0.1),
    command("append", KEY, words("\x00", "\x7f\x7f"), weight=0.2, mutate=False),
    command("setrange", KEY, numbers(0, 15), words("\x00", "\x01", "\x80"), weight=0.2, mutate=False),
    command("copy", KEY, KEY, "REPLACE"),
    command("sadd", KEY, "a", weight=0.1),
    command("del", KEY, weight=0.3),
]
OPENING = [command("pfadd", key, many(0, 100)) for key in KEYS]
CONFIGS = [
    {},
    {"hll-sparse-max-bytes": "100"},
    {"hll-sparse-max-bytes": "16000"},
    {"hll-sparse-max-bytes": "0"},
]

MACHINE = Machine("hyperloglog", COMMANDS, opening=OPENING, configs=CONFIGS, length=60)


def test_any_sequence_is_answered_as_the_server_does(real_server: RealServer) -> None:
    outcome = MACHINE.run(real_server)
    assert set(outcome.by_name) == {each.name.decode() for each in COMMANDS}
