"""MIGRATE: the same arguments, and the same targets that misbehave, for us and for redis-server."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.migration_target import CLOSE, OK, SILENCE, KernelPort, MigrationTarget
from tests.support.redis_pair import OurClient, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.migration_target import Script
    from tests.support.redis_pair import Argument, RealServer

PATIENCE_MS = 60_000


@pytest.fixture
def migrating(pair: Pair) -> Iterator[Pair]:
    """A pair whose engine has the kernel's sockets."""
    port = KernelPort()
    pair.engine.migrations.port = port
    yield pair
    port.close()


class Targets:
    """The same target twice, one for each side."""

    def __init__(self, pair: Pair, *scripts: Script) -> None:
        self.pair = pair
        self._stack = ExitStack()
        self.ours = self._stack.enter_context(MigrationTarget(*scripts))
        self.theirs = self._stack.enter_context(MigrationTarget(*scripts))

    def __enter__(self) -> Targets:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def migrate(
        self, *rest: Argument, key: str = "k", database: int | str = 0, timeout_ms: int = PATIENCE_MS
    ) -> bytes:
        """What both answer."""
        requests: list[tuple[Argument, ...]] = [
            ("MIGRATE", "127.0.0.1", target.port, key, database, timeout_ms, *rest)
            for target in (self.ours, self.theirs)
        ]
        ours, theirs = self.pair.each(*requests)
        assert ours == theirs
        assert self.ours.told() == self.theirs.told()
        return ours

    def eval(self, script: str, *keys: str) -> bytes:
        """EVAL with the port as its argument."""
        requests: list[tuple[Argument, ...]] = [
            ("EVAL", script, len(keys), *keys, target.port) for target in (self.ours, self.theirs)
        ]
        ours, theirs = self.pair.each(*requests)
        assert ours == theirs
        return ours


ARGUMENTS = [
    "MIGRATE",
    "MIGRATE h 1 k 0",
    "MIGRATE h 1 nosuch 0 10",
    "MIGRATE h 1 nosuch x y",
    "MIGRATE h 1 nosuch 0 1.5",
    "MIGRATE h 1 nosuch 99999999999999999999 1",
    "MIGRATE h 1 nosuch 0 9223372036854775808",
    "MIGRATE h 1 nosuch -1 -1",
    "MIGRATE h 1 nosuch 9223372036854775807 9223372036854775807",
    "MIGRATE h 1 nosuch z 1 BAD",
    "MIGRATE h x nosuch 0 1",
    "MIGRATE h 1 nosuch 0 1 AUTH",
    "MIGRATE h 1 nosuch 0 1 AUTH KEYS",
    "MIGRATE h 1 nosuch 0 1 AUTH a AUTH b auth2 c d",
    "MIGRATE h 1 nosuch 0 1 AUTH2",
    "MIGRATE h 1 nosuch 0 1 AUTH2 a",
    "MIGRATE h 1 nosuch 0 1 AUTH2 a b",
    "MIGRATE h 1 nosuch 0 1 AUTH a b",
    "MIGRATE h 1 nosuch 0 1 COPY copy REPLACE replace",
    "MIGRATE h 1 nosuch 0 1 KEYS",
    "MIGRATE h 1 nosuch 0 1 KEYS a",
    "MIGRATE h 1 nosuch 0 1 KEYS a BAD",
    "MIGRATE h 1 nosuch x 1 KEYS a",
    "MIGRATE h 1 nosuch 0 1 BAD KEYS a",
    "MIGRATE h 1  0 1",
    "MIGRATE h 1  0 1 KEYS",
    "MIGRATE h 1  0 1 keys a b",
    "MIGRATE h 1  0 1 COPY AUTH x KEYS a COPY",
    "MIGRATE h 1  x 1 KEYS a",
    "MIGRATE  1 k 0 100",
    "EVAL_RO return(redis.call('migrate','h',1,'k',0,1)) 0",
    "COMMAND GETKEYS MIGRATE",
    "COMMAND GETKEYS MIGRATE h 1 k 0",
    "COMMAND GETKEYSANDFLAGS MIGRATE h 1 k 0 5",
    "COMMAND GETKEYSANDFLAGS MIGRATE h 1  0 5 COPY AUTH2 KEYS KEYS keys b c",
    "COMMAND GETKEYS MIGRATE h 1  0 5",
    "COMMAND GETKEYS MIGRATE h 1  0 5 KEYS",
    "COMMAND GETKEYS MIGRATE h 1  0 5 KEYS a b",
    "COMMAND GETKEYS MIGRATE h 1  0 5 REPLACE BAD KEYS a",
    "COMMAND GETKEYS MIGRATE h 1  0 5 AUTH KEYS KEYS a b",
    "COMMAND GETKEYS MIGRATE h 1  0 5 AUTH KEYS a b",
    "COMMAND GETKEYS MIGRATE h 1  0 5 AUTH2 KEYS a",
    "COMMAND GETKEYS MIGRATE h 1  0 5 AUTH2 x KEYS a",
    "COMMAND GETKEYS MIGRATE h 1 k 0 5 KEYS a b",
    "COMMAND GETKEYS MIGRATE h 1 k 0 5 KEYS",
    "COMMAND GETKEYS MIGRATE h 1 k 0 5 AUTH",
    "COMMAND GETKEYS MIGRATE h 1 k 0 5 AUTH KEYS",
    "COMMAND GETKEYS MIGRATE h 1 k 0 5 AUTH KEYS KEYS a",
]


@pytest.mark.parametrize("request_", ARGUMENTS)
def test_arguments(migrating: Pair, request_: str) -> None:
    migrating.same("SET", "k", "v")
    migrating.same(*request_.split(" "))


# Options, and how often the key k is sent to one target: options, database, what is done before.
TALKS: dict[str, tuple[list[Script], list[tuple[str, int]]]] = {
    "plain": ([], [("", 0), ("", 0), ("", 3), ("", 0)]),
    "copy": ([], [("COPY", 0), ("COPY REPLACE", 0), ("replace", 1)]),
    "password": ([], [("AUTH p", 0), ("AUTH p", 0), ("", 0), ("AUTH2 u p COPY", 2), ("AUTH a AUTH2 b c", 2)]),
    "no database": ([], [("", -1), ("", 0), ("", -1)]),
    "a wrong database": ([[b"-ERR DB index is out of range\r\n"]], [("", 99), ("", 99)]),
    "a wrong password": (
        [[b"-WRONGPASS no\r\n", b"-NOAUTH\r\n", b"-NOAUTH\r\n"]],
        [("AUTH p", 3), ("AUTH p", 3)],
    ),
    "not selected": ([[OK, b"-ERR one\r\n", b"-ERR two\r\n"]], [("AUTH p", 3), ("", 3)]),
    "there already": ([[OK, b"-BUSYKEY there\r\n"]], [("", 0), ("", 0), ("", 0)]),
    "an empty error": ([[OK, b"-\r\n"]], [("", 0)]),
    "a long error": ([[OK, b"-" + b"x" * 1022 + b"\r\n"]], [("", 0)]),
    "no error": ([[OK, b":1\r\n"], []], [("", 0)]),
    "an empty answer": ([[OK, b"\r\n"]], [("", 0), ("", 0)]),
    "lines as on a terminal": ([[b"+OK\n", b"-ERR no\n"]], [("", 0)]),
    "closed at once": ([[CLOSE], [CLOSE]], [("", 0), ("", 0)]),
    "closed once": ([[CLOSE]], [("", 0), ("", 0)]),
    "closed before the key": ([[OK, CLOSE], [OK, CLOSE]], [("", 0)]),
    "closed when kept": ([[OK, OK, CLOSE]], [("", 0), ("", 0), ("", 0)]),
    "closed when kept, and then": ([[OK, OK, CLOSE], [OK, CLOSE]], [("", 0), ("", 0), ("", 0)]),
    "closed after a refused password": (
        [[b"-ERR no\r\n", OK, CLOSE], [b"-ERR no\r\n", CLOSE]],
        [("AUTH p", 0)],
    ),
}


@pytest.mark.parametrize("name", TALKS)
def test_a_talk(migrating: Pair, name: str) -> None:
    scripts, requests = TALKS[name]
    with Targets(migrating, *scripts) as targets:
        for options, database in requests:
            migrating.same("SET", "k", "v")
            targets.migrate(*options.split(), database=database)
            migrating.same("EXISTS", "k")


SEVERAL: dict[str, tuple[list[Script], str]] = {
    "all": ([], "KEYS a b c d"),
    "not there": ([], "KEYS nosuch a nosuch b"),
    "none there": ([], "KEYS nosuch no"),
    "twice": ([], "KEYS a b a"),
    "copies": ([], "COPY KEYS a b"),
    "two refused": ([[OK, OK, b"-ERR one\r\n", OK, b"-ERR two\r\n"]], "KEYS a b nosuch c d"),
    "closed half way": ([[OK, OK, CLOSE]], "KEYS a b c d"),
    "closed half way, copies": ([[OK, OK, CLOSE]], "COPY KEYS a b c d"),
    "closed after a refusal": ([[OK, b"-ERR x\r\n", CLOSE]], "KEYS a b c d"),
    "closed after a refusal and an OK": ([[OK, b"-ERR x\r\n", OK, CLOSE]], "KEYS a b c d"),
    "a wrong password": ([[b"-ERR x\r\n"]], "AUTH p KEYS a b c d"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_keys(migrating: Pair, name: str) -> None:
    """Which of them stay, and what is told and counted."""
    scripts, options = SEVERAL[name]
    migrating.same("MSET", "a", "1", "b", "2", "c", "3", "d", "4")
    ours, theirs = counts(migrating)
    with Targets(migrating, *scripts) as targets:
        targets.migrate(*options.split(), key="")
    migrating.same("MGET", "a", "b", "c", "d")
    ours_then, theirs_then = counts(migrating)
    assert {name: ours_then[name] - ours[name] for name in ours} == {
        name: theirs_then[name] - theirs[name] for name in theirs
    }


def counts(pair: Pair) -> tuple[dict[str, int], dict[str, int]]:
    """Ours and theirs."""
    found = []
    for reply in pair.both("INFO", "everything"):
        text = reply.decode()
        names = ("rdb_changes_since_last_save", "keyspace_misses", "total_error_replies")
        facts = {name: int(re.findall(rf"\n{name}:(\d+)", text)[0]) for name in names}
        calls = re.findall(r"cmdstat_migrate:calls=(\d+),.*rejected_calls=(\d+),failed_calls=(\d+)", text)
        facts["calls"], facts["rejected"], facts["failed"] = map(int, calls[0]) if calls else (0, 0, 0)
        found.append(facts)
    return found[0], found[1]


def test_silence(migrating: Pair) -> None:
    timeout_ms = 300
    while True:
        begun = time.monotonic()
        migrating.same("MSET", "a", "1", "b", "2")
        try:
            with Targets(migrating, [OK, OK, SILENCE]) as targets:
                targets.migrate("KEYS", "a", "b", key="", timeout_ms=timeout_ms)
            migrating.same("MGET", "a", "b")
        except AssertionError:
            # Each side waits that long; if it took longer, somebody else may have been late in one of them.
            if timeout_ms > 30_000 or time.monotonic() - begun < 2.1 * timeout_ms / 1000:
                raise
            timeout_ms *= 4
        else:
            return


def test_nobody_there(migrating: Pair) -> None:
    migrating.same("SET", "k", "v")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # so that nobody else gets the port
        port = deaf.getsockname()[1]
        migrating.same("MIGRATE", "127.0.0.1", port, "k", 0, PATIENCE_MS)
        migrating.same("MIGRATE", "127.0.0.1", "x", "k", 0, PATIENCE_MS)
        migrating.same("MIGRATE", "", port, "k", 0, PATIENCE_MS)
    migrating.same("GET", "k")


def test_in_a_transaction(migrating: Pair) -> None:
    migrating.same("MSET", "a", "1", "b", "2")
    with Targets(migrating, [OK, OK, b"-ERR no\r\n"]) as targets:
        migrating.same("MULTI")
        targets.migrate(key="a")
        targets.migrate(key="b")
        targets.migrate(key="b", database="x")
        migrating.same("EXISTS", "a", "b")
        migrating.same("EXEC")
        assert targets.ours.told() == targets.theirs.told()


@pytest.mark.parametrize("call", ["call", "pcall"])
@pytest.mark.parametrize("answer", [OK, b"-ERR no\r\n", CLOSE])
def test_in_a_script(migrating: Pair, call: str, answer: bytes | None) -> None:
    migrating.same("SET", "k", "v")
    script = f"return redis.{call}('MIGRATE', '127.0.0.1', ARGV[1], KEYS[1], 0, {PATIENCE_MS})"
    with Targets(migrating, [OK, answer], [OK, answer]) as targets:
        targets.eval(script, "k")
        assert targets.ours.told() == targets.theirs.told()
    migrating.same("EXISTS", "k")


def test_what_is_watched(migrating: Pair) -> None:
    for answer in (b"-ERR no\r\n", OK):
        migrating.same("SET", "k", "v")
        migrating.same("WATCH", "k")
        with Targets(migrating, [OK, answer]) as targets:
            targets.migrate()
        migrating.same("MULTI")
        migrating.same("PING")
        migrating.same("EXEC")


def test_the_time_left_is_sent(migrating: Pair) -> None:
    migrating.same("SET", "k", "v", "PX", 100_000_000)
    with Targets(migrating) as targets:
        for target, side in ((targets.ours, 0), (targets.theirs, 1)):
            request: tuple[Argument, ...] = ("MIGRATE", "127.0.0.1", target.port, "k", 0, PATIENCE_MS)
            answer = (
                migrating.each(request, ("PING",))[0] if side == 0 else migrating.each(("PING",), request)[1]
            )
            assert answer == OK
            assert 99_000_000 < int(target.told()[-1][2]) <= 100_000_000


@pytest.mark.parametrize(
    "options",
    [
        "AUTH secret",
        "AUTH2 user secret COPY",
        "COPY AUTH a AUTH b",
        "AUTH x BAD AUTH y",
        "AUTH2 x",
        "KEYS a AUTH",
    ],
)
def test_passwords_are_not_shown(migrating: Pair, options: str) -> None:
    """To MONITOR; SLOWLOG shows the same."""
    server: RealServer = migrating.server
    with server.connect() as monitor:
        monitor.sendall(b"MONITOR\r\n")
        assert monitor.recv(5) == OK
        ours = OurClient(migrating.engine)
        ours.send(b"MONITOR\r\n")
        migrating.same("MIGRATE", "h", 1, "nosuch", 0, 10, *options.split())
        migrating.engine.take_pending_sessions()
        seen = b"".join(ours.session.take_output())
        theirs = b""
        while theirs.count(b"\n") < seen.count(b"\n"):
            theirs += monitor.recv(1 << 16)
        ours.session.close()
    assert re.sub(rb"\+.*?\] ", b"", seen) == re.sub(rb"\+.*?\] ", b"", theirs)
    assert b"MIGRATE" in seen
