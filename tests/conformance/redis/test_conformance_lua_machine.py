"""Random Lua programs to both sides: replies, texts of errors, and what they leave in keys and statistics."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.support.lua_programs import addresses_hidden, lua_program, shorter
from tests.support.redis_machine import DrawnCommand, Machine, Step, command, wanted_commands, words

if TYPE_CHECKING:
    from tests.support.redis_pair import RealServer

pytestmark = [pytest.mark.conformance, pytest.mark.machine]

# A program is worth ten commands.
_WORTH = 10
# Of the machine's own commands the sides get different numbers.
_OWN = rb"(?:echo|reset|info|flushall|publish|config[^:]*|script[^:]*)"


def _same_program(step: Step) -> bool:
    return addresses_hidden(step.ours) == addresses_hidden(step.theirs)


def _counts(reply: bytes) -> list[bytes]:
    rows = re.findall(rb"cmdstat_([^:]+):calls=(\d+).*rejected_calls=(\d+),failed_calls=(\d+)", reply)
    return sorted(b" ".join(row) for row in rows if not re.fullmatch(_OWN, row[0]))


def _same_counts(step: Step) -> bool:
    return _counts(step.ours) == _counts(step.theirs)


def _eval(name: str, weight: float) -> DrawnCommand:
    return command(name, lua_program, compare=_same_program, mutate=False, shorten=shorter, weight=weight)


MACHINE = Machine(
    "lua",
    [
        _eval("eval", 20),
        _eval("eval_ro", 2),
        command("set", words("k", "l", "h"), words("1", "x", "3.5")),
        command("del", words("k", "l", "h", "z", "s", "x", "p")),
        command("info", "errorstats", mutate=False),
        command("info", "commandstats", mutate=False, compare=_same_counts),
    ],
    # What a program has set in cjson, and the state of math.random, stay with the server.
    first=[command("script", "FLUSH", mutate=False), command("config", "RESETSTAT", mutate=False)],
    length=150,
)


def test_any_program_does_as_in_the_server(real_server: RealServer) -> None:
    outcome = MACHINE.run(real_server, wanted_commands() // _WORTH)
    assert set(outcome.by_name) >= {"eval", "eval_ro", "info"}


def test_drawing_is_repeatable_and_shortening_ends() -> None:
    words = lua_program(Random(3))
    assert words == lua_program(Random(3))
    request = (b"EVAL", *words)
    while any(True for _ in shorter(request)):
        request = next(iter(shorter(request)))
    assert request[1].count(b"\n") == 0
