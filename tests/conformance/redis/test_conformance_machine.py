"""The machine that compares random sequences: what it must find, and how short it must tell it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from appliance.redis.commands.strings import get, incr, set_
from tests.support.redis_machine import (
    KEY,
    VALUE,
    Machine,
    cli_line,
    command,
    counted,
    maybe,
    numbers,
    one,
    options,
    reply_end,
    same_kind,
    some,
    words,
)
from tests.support.redis_pair import make_engine

if TYPE_CHECKING:
    from appliance.redis import Session
    from tests.support.redis_pair import RealServer

pytestmark = pytest.mark.conformance

COMMANDS = [
    command("set", KEY, numbers(0, 9)),
    command("get", KEY),
    command("incr", KEY),
    command("append", KEY, VALUE),
    command("mget", some(KEY)),
]


def told(server: RealServer, name: str, function: object, **settings: object) -> str:
    """What the machine says of an engine in which one command is wrong."""
    engine = make_engine()
    engine.registry.commands[name.encode()].function = function  # type: ignore[assignment]
    with pytest.raises(AssertionError) as caught:
        Machine("broken", COMMANDS, **settings).run(server, 20_000, engine=engine)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_wrong_reply_is_found_and_its_script_is_minimal(real_server: RealServer) -> None:
    def wrong_at_two(session: Session, args: list[bytes]) -> object:
        reply = incr(session, args)
        return 20 if reply == 2 else reply

    script = told(real_server, "incr", wrong_at_two).lower().split("\n\n")[1].split("\n")
    assert len(script) == 2
    key = script[1].removeprefix("incr ")
    assert script[0] in (f"set {key} 1", f"incr {key}")


def test_a_wrong_state_is_found_though_no_reply_tells(real_server: RealServer) -> None:
    def forgetful(session: Session, args: list[bytes]) -> object:
        return set_(session, [*args[:2], b"0"]) if args[2:] == [b"9"] else set_(session, args)

    only_set = [command("set", KEY, numbers(0, 9))]
    engine = make_engine()
    engine.registry.commands[b"set"].function = forgetful
    engine.is_direct = False
    with pytest.raises(AssertionError) as caught:
        Machine("broken", only_set).run(real_server, 20_000, engine=engine)
    head, script, difference = str(caught.value).split("\n\n")
    assert "after 1 commands" in head
    assert script.lower().startswith("set ")
    assert difference.startswith("in the end: database 0: GET ")


def test_the_configuration_and_the_protocol_are_part_of_the_script(real_server: RealServer) -> None:
    def wrong_in_resp3(session: Session, args: list[bytes]) -> object:
        small = session.engine.configuration.integer("maxmemory-samples") == 3
        return 1 if session.resp3 and small else get(session, args)

    engine = make_engine()
    engine.registry.commands[b"get"].function = wrong_in_resp3
    engine.is_direct = False
    commands = [command("get", words("x")), command("set", KEY, VALUE)]
    machine = Machine("broken", commands, configs=[{}, {"maxmemory-samples": "3"}])
    with pytest.raises(AssertionError) as caught:
        machine.run(real_server, 20_000, engine=engine)
    assert str(caught.value).split("\n\n")[1].lower().split("\n") == [
        "config set maxmemory-samples 3",
        "hello 3",
        "get x",
    ]


def test_what_happened_once_is_said_to_be_so(real_server: RealServer) -> None:
    count = 0

    def wrong_once(session: Session, args: list[bytes]) -> object:
        nonlocal count
        count += 1
        return 0 if count == 40 else incr(session, args)

    assert "not again with the same commands" in told(real_server, "incr", wrong_once)


def test_only_errors_show_nothing(real_server: RealServer) -> None:
    machine = Machine("errors", [command("incr", KEY, "x"), command("nosuch")])
    with pytest.raises(AssertionError, match="replies are errors"):
        machine.run(real_server, 1000)


def test_a_sequence_may_end_inside_of_anything(real_server: RealServer) -> None:
    commands = [
        command("select", numbers(0, 3)),
        command("hello", words(2, 3, 4), compare=same_kind, weight=0.1),
    ]
    outcome = Machine("unfinished", [*COMMANDS, *commands], databases=(0, 1, 2, 3)).run(real_server, 2000)
    assert outcome.commands >= 2000


def test_drawing_is_repeatable_and_covers_what_it_says() -> None:
    machine = Machine("drawn", COMMANDS)
    assert machine.example(7).script() == machine.example(7).script()
    assert machine.example(7).script() != machine.example(8).script()
    chance = random.Random(1)
    seen = {tuple(counted(words("a"), 0, 2)(chance)) for _ in range(100)}
    assert seen == {(b"0",), (b"1", b"a"), (b"2", b"a", b"a")}
    seen = {tuple(one(["EX", 1], maybe("NX"))(chance)) for _ in range(100)}
    assert seen == {(b"EX", b"1"), (b"NX",), ()}
    assert max(len(options("A", "B", most=2)(chance)) for _ in range(100)) == 2


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"+OK\r\n+OK\r\n", 5),
        (b"$-1\r\nx", 5),
        (b"$3\r\na\r\n\r\nrest", 9),
        (b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n:9\r\n", 18),
        (b"%1\r\n+a\r\n~2\r\n,1\r\n_\r\n:5\r\n", 19),
        (b"*-1\r\n*0\r\n", 5),
        (b"|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", 16),
        (b"=5\r\ntxt:a\r\nrest", 11),
    ],
)
def test_reply_end(data: bytes, length: int) -> None:
    assert reply_end(data, 0) == length
    assert reply_end(b":1\r\n" + data, 4) == 4 + length


def test_cli_line_quotes_what_redis_cli_would_not_read() -> None:
    assert cli_line((b"SET", b"", b"a b", b'"\\\x00\xff\r\n')) == r'SET "" "a b" "\"\\\x00\xff\r\n"'
