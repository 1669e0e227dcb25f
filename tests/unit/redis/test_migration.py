"""MIGRATE with a port that a test plays: what is said to the target, what becomes of the keys, who waits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from appliance.redis import Engine, EngineSettings, Session, dump
from appliance.redis.migration import CONNECTING, PIECE, READING, UNSELECTED, WRITING, Migration
from appliance.redis.resp import RequestParser

if TYPE_CHECKING:
    from collections.abc import Callable

NOW_US = 1_700_000_000_000_000
MS = 1000
TIMED_OUT = b"-IOERR error or timeout reading to target instance\r\n"


class Port:
    """Takes migrations, and does with them what the test says."""

    def __init__(self) -> None:
        self.started: list[Migration] = []
        self.cached_connections = 0
        self.at_once: Callable[[Migration], None] | None = None

    def start(self, migration: Migration) -> None:
        self.started.append(migration)
        if self.at_once is not None:
            self.at_once(migration)
            migration.is_over = True


class Clients:
    """Sessions by name, a clock, a port, and what each session was sent."""

    def __init__(self) -> None:
        self.engine = Engine(EngineSettings(), lambda count: bytes(range(count)))
        self.port = Port()
        self.engine.migrations.port = self.port
        self.ticks_ns = 0
        self.engine.stopwatch = lambda: self.ticks_ns
        self.now_us = NOW_US
        self.sessions: dict[str, Session] = {}

    def session(self, name: str) -> Session:
        if name not in self.sessions:
            self.sessions[name] = self.engine.create_session(
                remote="10.0.0.1:1", local="10.0.0.2:2", now_us=self.now_us, is_privileged=name == "control"
            )
        return self.sessions[name]

    def say(self, name: str, text: str) -> bytes:
        """What the client has got when its request has been looked at."""
        self.session(name).data_received(text.encode() + b"\r\n", self.now_us)
        self.engine.take_pending_sessions()
        return self.got(name)

    def got(self, name: str) -> bytes:
        return b"".join(self.sessions[name].take_output())

    def over(self) -> None:
        """The port has finished the last migration."""
        self.engine.migrations.over(self.port.started[-1], self.now_us)
        self.engine.take_pending_sessions()

    def answer(self, replies: bytes, selected: int = UNSELECTED) -> list[list[bytes]]:
        """The target gives these replies to the last migration; what it was told."""
        migration = self.port.started[-1]
        migration.begin(selected)
        said = all_said(migration)
        migration.receive(replies)
        assert migration.is_answered
        self.over()
        return said

    def asked(self) -> Migration:
        """The last migration, when all it says has been said to a new connection."""
        migration = self.port.started[-1]
        migration.begin(UNSELECTED)
        all_said(migration)
        return migration

    def advance(self, span_us: int) -> None:
        self.now_us += span_us
        self.engine.handle_timeouts(self.now_us)
        self.engine.take_pending_sessions()


def all_said(migration: Migration) -> list[list[bytes]]:
    """The requests that are left to say."""
    parser = RequestParser(1 << 30)
    said = []
    while output := migration.next_output():
        parser.feed(output)
        while (request := parser.next_request()) is not None:
            said.append(request)
    return said


def restore(key: bytes, value: bytes, ttl_ms: int = 0, *options: bytes) -> list[bytes]:
    return [b"RESTORE", key, b"%d" % ttl_ms, dump.dump(value), *options]


@pytest.fixture
def clients() -> Clients:
    return Clients()


# What is said, and what is done with the answers --------------------------------------------------


def test_a_key_is_deleted_when_the_target_has_taken_it(clients: Clients) -> None:
    clients.say("a", "SET k v")
    assert clients.say("a", "MIGRATE 10.0.0.9 6380 k 3 500") == b""
    migration = clients.port.started[0]
    assert (migration.host, migration.port, migration.timeout_us) == (b"10.0.0.9", 6380, 500 * MS)
    assert clients.say("b", "EXISTS k") == b":1\r\n"
    assert clients.answer(b"+OK\r\n+OK\r\n") == [[b"SELECT", b"3"], restore(b"k", b"v")]
    assert clients.got("a") == b"+OK\r\n"
    assert clients.say("b", "EXISTS k") == b":0\r\n"


def test_options_are_said_and_a_copy_stays(clients: Clients) -> None:
    clients.say("a", "SET k v PX 5000")
    clients.now_us += 2000 * MS
    clients.say("a", "MIGRATE h 1 k 0 0 COPY REPLACE AUTH2 user secret")
    said = clients.answer(b"+OK\r\n+OK\r\n+OK\r\n")
    assert said == [[b"AUTH", b"user", b"secret"], [b"SELECT", b"0"], restore(b"k", b"v", 3000, b"REPLACE")]
    assert clients.got("a") == b"+OK\r\n"
    assert clients.say("a", "GET k") == b"$1\r\nv\r\n"
    assert clients.port.started[0].timeout_us == 1000 * MS


def test_the_database_that_a_kept_connection_has_selected_is_not_selected_again(clients: Clients) -> None:
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 3 500 AUTH pw")
    assert clients.answer(b"+OK\r\n+OK\r\n", selected=3) == [[b"AUTH", b"pw"], restore(b"k", b"v")]
    assert clients.port.started[0].selected == 3


def test_of_several_keys_those_that_were_refused_stay(clients: Clients) -> None:
    clients.say("a", "MSET a 1 b 2 c 3 d 4")
    clients.say("a", "MIGRATE h 1 '' 0 500 KEYS a nosuch b c d")
    said = clients.answer(b"+OK\r\n+OK\r\n-BUSYKEY there\r\n+OK\r\n-ERR two\r\n")
    assert [request[1] for request in said] == [b"0", b"a", b"b", b"c", b"d"]
    assert clients.got("a") == b"-ERR Target instance replied with error: BUSYKEY there\r\n"
    assert clients.say("a", "MGET a b c d") == b"*4\r\n$-1\r\n$1\r\n2\r\n$-1\r\n$1\r\n4\r\n"
    assert clients.port.started[0].selected == UNSELECTED


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        (b"-WRONGPASS no\r\n+OK\r\n+OK\r\n", b"WRONGPASS no"),
        (b"+OK\r\n-ERR DB index is out of range\r\n+OK\r\n", b"ERR DB index is out of range"),
        (b"-ERR one\r\n-ERR two\r\n-ERR three\r\n", b"ERR one"),
        (b"+OK\n+OK\n-ERR a line\n", b"ERR a line"),
        (b"+OK\r\n+OK\r\n-" + b"x" * 5000 + b"\r\n", b"x" * 1022),
        (b"+OK\r\n+OK\r\n-\r\n", b""),
    ],
)
def test_what_the_target_refuses_stays_here(clients: Clients, replies: bytes, error: bytes) -> None:
    """Also what it restored though it refused the password, or the database: it may be elsewhere."""
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 9 500 AUTH pw")
    migration = clients.asked()
    for at in range(len(replies)):  # cut anywhere
        assert not migration.is_answered
        migration.receive(replies[at : at + 1])
    assert migration.is_answered
    clients.over()
    assert clients.got("a") == b"-ERR Target instance replied with error: " + error + b"\r\n"
    assert clients.say("a", "GET k") == b"$1\r\nv\r\n"


def test_a_key_whose_time_comes_before_it_is_sent_is_left_out(clients: Clients) -> None:
    clients.say("a", "SET k v PX 100")
    clients.say("a", "SET l v")
    clients.say("a", "MIGRATE h 1 '' 0 500 KEYS k l")
    clients.now_us += 101 * MS
    clients.engine.cron(clients.now_us)
    assert clients.answer(b"+OK\r\n+OK\r\n") == [[b"SELECT", b"0"], restore(b"l", b"v")]
    assert clients.got("a") == b"+OK\r\n"


def test_many_keys_are_said_in_pieces(clients: Clients) -> None:
    names = [f"k{number}" for number in range(100)]
    noise = hashlib.shake_128(b"not to be compressed")
    for name in names:
        clients.say("a", f"SET {name} {noise.hexdigest(2500)}")
    clients.say("a", "MIGRATE h 1 '' 0 500 COPY KEYS " + " ".join(names))
    migration = clients.port.started[0]
    migration.begin(UNSELECTED)
    pieces = []
    while piece := migration.next_output():
        pieces.append(len(piece))
    assert len(pieces) > 5
    assert min(pieces[:-1]) >= PIECE
    assert max(pieces) < PIECE + 5200
    assert not migration.is_answered


# Failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [CONNECTING, WRITING, READING])
def test_a_failure_is_tried_once_more_and_then_told(clients: Clients, part: bytes) -> None:
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 0 500")
    migration = clients.port.started[0]
    migration.begin(0)
    first = all_said(migration)
    assert migration.failed(part)
    migration.begin(UNSELECTED)
    assert all_said(migration) == [[b"SELECT", b"0"], *first]
    assert not migration.failed(part)
    assert not migration.is_reusable
    clients.over()
    assert clients.got("a") == b"-IOERR error or timeout " + part + b"\r\n"
    assert clients.say("a", "GET k") == b"$1\r\nv\r\n"


def test_a_timeout_is_not_tried_again(clients: Clients) -> None:
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 0 500")
    migration = clients.asked()
    assert not migration.failed(READING, timed_out=True)
    clients.over()
    assert clients.got("a") == TIMED_OUT


def test_a_target_that_goes_half_way_has_the_keys_it_acknowledged_and_no_other(clients: Clients) -> None:
    clients.say("a", "MSET a 1 b 2 c 3")
    clients.say("a", "MIGRATE h 1 '' 0 500 KEYS a b c")
    migration = clients.asked()
    migration.receive(b"+OK\r\n+OK\r\n+OK")  # the last line is not whole
    assert not migration.failed(READING)
    clients.over()
    assert clients.got("a") == TIMED_OUT
    assert clients.say("a", "MGET a b c") == b"*3\r\n$-1\r\n$1\r\n2\r\n$1\r\n3\r\n"


def test_a_refusal_is_told_rather_than_the_failure_after_it(clients: Clients) -> None:
    clients.say("a", "MSET a 1 b 2")
    clients.say("a", "MIGRATE h 1 '' 0 500 KEYS a b")
    migration = clients.asked()
    migration.receive(b"+OK\r\n-ERR no\r\n")
    assert not migration.failed(READING)
    clients.over()
    assert clients.got("a") == b"-ERR Target instance replied with error: ERR no\r\n"


def test_bytes_that_nobody_asked_for_spoil_the_connection(clients: Clients) -> None:
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 0 500")
    migration = clients.asked()
    migration.receive(b"+OK\r\n+OK\r\n+more")
    assert migration.is_answered
    assert not migration.is_reusable
    migration.receive(b"\r\n")
    assert not migration.is_reusable


def test_without_a_port_no_connection_can_be_made(clients: Clients) -> None:
    clients.engine.migrations.port = None
    clients.say("a", "SET k v")
    assert clients.say("a", "MIGRATE h 1 nosuch 0 500") == b"+NOKEY\r\n"
    assert clients.say("a", "MIGRATE h 1 k 0 500") == b"-IOERR error or timeout connecting to the client\r\n"
    assert clients.say("a", "SET k w") == b"+OK\r\n"


# Others, meanwhile --------------------------------------------------------------------------------


def test_who_writes_waits_and_who_reads_does_not(clients: Clients) -> None:
    clients.say("a", "SET k v")
    assert clients.say("d", "MULTI") == b"+OK\r\n"
    assert clients.say("d", "INCR n") == b"+QUEUED\r\n"
    clients.say("a", "MIGRATE h 1 k 0 500")
    assert clients.say("d", "EXEC") == b""
    assert clients.say("b", "SET k w") == b""
    assert clients.say("c", "PUBLISH c m") == b""
    assert clients.say("e", "GET k") == b"$1\r\nv\r\n"
    assert clients.say("control", "GET k") == b"$1\r\nv\r\n"
    assert clients.say("control", "FLUSHALL") == b""
    assert clients.say("e", "CLIENT UNPAUSE") == b"+OK\r\n"
    assert clients.got("b") == b""
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("b") == b"+OK\r\n"
    assert clients.got("c") == b":0\r\n"
    assert clients.got("control") == b"+OK\r\n"
    assert clients.got("d") == b"*1\r\n:1\r\n"
    assert clients.say("b", "KEYS *") == b"*0\r\n"
    assert clients.engine.mode == 0


def test_what_the_client_sent_behind_it_is_executed_after_it(clients: Clients) -> None:
    clients.say("a", "SET k v")
    assert clients.say("a", "MIGRATE h 1 k 0 500\r\nEXISTS k\r\nSET k w") == b""
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("a") == b"+OK\r\n:0\r\n+OK\r\n"


def test_migrations_are_carried_out_one_after_the_other(clients: Clients) -> None:
    clients.say("a", "MSET k v l w")
    clients.say("a", "MIGRATE h 1 k 0 500")
    assert clients.say("b", "MIGRATE h 1 l 0 500") == b""
    assert clients.say("c", "MIGRATE h 1 k 0 500") == b""
    assert len(clients.port.started) == 1
    clients.answer(b"+OK\r\n+OK\r\n")
    assert [each.keys for each in clients.port.started] == [[b"k"], [b"l"]]
    assert clients.got("c") == b""
    clients.answer(b"+OK\r\n", selected=0)
    assert clients.got("b") == b"+OK\r\n"
    assert clients.got("c") == b"+NOKEY\r\n"


def test_nothing_expires_while_keys_are_under_way(clients: Clients) -> None:
    clients.say("a", "SET k v")
    clients.say("a", "SET gone v PX 10")
    clients.say("a", "MIGRATE h 1 k 0 500")
    clients.now_us += 20 * MS
    clients.engine.cron(clients.now_us)
    assert clients.say("b", "GET gone") == b"$-1\r\n"
    assert clients.engine.stats.expired_keys == 0
    clients.answer(b"+OK\r\n+OK\r\n")
    clients.say("b", "GET gone")
    assert clients.engine.stats.expired_keys == 1


@pytest.mark.parametrize("first", ["pause", "migration"])
def test_a_pause_and_a_migration_both_have_to_be_over(clients: Clients, first: str) -> None:
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 0 500")
    clients.say("c", "CLIENT PAUSE 100 ALL")
    assert clients.say("b", "SET k w") == b""
    assert clients.say("d", "PING") == b""
    ends = ["pause", "migration"] if first == "pause" else ["migration", "pause"]

    def end(what: str) -> None:
        if what == "pause":
            clients.advance(100 * MS)
        else:
            clients.answer(b"+OK\r\n+OK\r\n")

    end(ends[0])
    assert clients.got("b") == b""
    assert clients.got("d") == (b"+PONG\r\n" if first == "pause" else b"")
    end(ends[1])
    assert clients.got("b") == b"+OK\r\n"
    assert clients.say("a", "GET k") == b"+OK\r\n$1\r\nw\r\n"
    assert clients.engine.mode == 0


def test_it_goes_on_when_its_client_has_gone(clients: Clients) -> None:
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 0 500")
    clients.say("b", "SET other 1")
    clients.session("a").close()
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("b") == b"+OK\r\n"
    assert clients.say("b", "KEYS *") == b"*1\r\n$5\r\nother\r\n"


def test_a_killed_client_is_not_answered(clients: Clients) -> None:
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 0 500")
    assert clients.say("b", f"CLIENT KILL ID {clients.session('a').id}") == b":1\r\n"
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("a") == b""
    assert clients.say("b", "EXISTS k") == b":0\r\n"


def test_watchers_and_listeners_hear_of_it_when_it_is_over(clients: Clients) -> None:
    clients.say("a", "CONFIG SET notify-keyspace-events KEA")
    clients.say("a", "SET k v")
    clients.say("w", "WATCH k")
    clients.say("w", "MULTI")
    clients.say("w", "PING")
    clients.say("e", "SUBSCRIBE __keyevent@0__:del")
    dirty = clients.engine.dirty
    clients.say("a", "MIGRATE h 1 k 0 500")
    assert clients.got("e") == b""
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("e") == b"*3\r\n$7\r\nmessage\r\n$18\r\n__keyevent@0__:del\r\n$1\r\nk\r\n"
    assert clients.say("w", "EXEC") == b"*-1\r\n"
    assert clients.engine.dirty == dirty + 1


def test_the_clients_own_cache_is_told_unless_it_said_noloop(clients: Clients) -> None:
    for name, option in (("a", "NOLOOP"), ("b", "")):
        clients.say(name, "HELLO 3")
        clients.say(name, f"CLIENT TRACKING ON {option}")
    clients.say("c", "SET k v")
    for name in ("a", "b"):
        clients.say(name, "GET k")
    clients.say("a", "MIGRATE h 1 k 0 500")
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("a") == b"+OK\r\n"
    assert clients.got("b") == b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"


def test_its_time_and_its_errors_are_counted(clients: Clients) -> None:
    clients.say("a", "CONFIG SET slowlog-log-slower-than 1000")
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 0 500 AUTH pw")
    clients.ticks_ns += 3_000_000
    clients.answer(b"-ERR no\r\n+OK\r\n+OK\r\n")
    command = clients.engine.registry.commands[b"migrate"]
    assert (command.calls, command.failed_calls) == (1, 1)
    assert clients.engine.error_counts == {b"ERR": 1}
    assert b":3000\r\n*8\r\n$7\r\nMIGRATE" in (logged := clients.say("b", "SLOWLOG GET 1"))
    assert b"$4\r\nAUTH\r\n$10\r\n(redacted)\r\n" in logged
    assert b"usec=3000," in clients.say("b", "INFO commandstats").split(b"cmdstat_migrate:")[1]


# In transactions and scripts ----------------------------------------------------------------------


def test_in_a_transaction_everybody_waits(clients: Clients) -> None:
    clients.say("a", "MSET k v l w")
    for request in ("MULTI", "INCR n", "MIGRATE h 1 k 0 500", "MIGRATE h 1 l 0 500", "INCR n"):
        clients.say("a", request)
    assert clients.say("a", "EXEC") == b""
    assert clients.say("b", "GET n") == b""
    clients.advance(100 * MS)
    assert clients.got("b") == b""
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("a") == b""
    assert len(clients.port.started) == 2
    clients.answer(b"-BUSYKEY there\r\n", selected=0)
    error = b"-ERR Target instance replied with error: BUSYKEY there\r\n"
    assert clients.got("a") == b"*4\r\n:1\r\n+OK\r\n" + error + b":2\r\n"
    assert clients.got("b") == b"$1\r\n2\r\n"
    assert clients.say("b", "EXISTS k l") == b":1\r\n"
    assert clients.engine.mode == 0


def test_in_a_script_everybody_waits(clients: Clients) -> None:
    clients.say("a", "SET k v")
    script = (
        "local r = redis.call('MIGRATE', 'h', 1, KEYS[1], 0, 500); return {r, redis.call('EXISTS', KEYS[1])}"
    )
    assert clients.say("a", f'EVAL "{script}" 1 k') == b""
    assert clients.say("b", "GET k") == b""
    assert clients.say("control", "PING") in (b"", b"+PONG\r\n")
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("a") == b"*2\r\n+OK\r\n:0\r\n"
    assert clients.got("b") == b"$-1\r\n"
    assert clients.engine.mode == 0


def test_a_port_that_is_done_at_once(clients: Clients) -> None:
    def take(migration: Migration) -> None:
        migration.begin(UNSELECTED)
        all_said(migration)
        migration.receive(b"+OK\r\n+OK\r\n")

    clients.port.at_once = take
    clients.say("a", "MSET k v l w")
    assert clients.say("a", "MIGRATE h 1 k 0 500") == b"+OK\r\n"
    clients.say("a", "MULTI")
    clients.say("a", "MIGRATE h 1 l 0 500")
    assert clients.say("a", "EXEC") == b"*1\r\n+OK\r\n"
    assert clients.say("a", "DBSIZE") == b":0\r\n"


def test_an_outcome_during_somebodys_reading_script_waits_for_its_end(clients: Clients) -> None:
    """The script has seen the key, and must see it to its end."""
    clients.say("a", "SET k v")
    clients.say("a", "MIGRATE h 1 k 0 500")
    reads = 0

    def stopwatch() -> int:
        nonlocal reads
        reads += 1
        return reads * 1_500_000 if reads < 20 else 30_000_000

    clients.engine.stopwatch = stopwatch
    script = "for i = 1, 200000 do end; return redis.call('EXISTS', KEYS[1])"
    assert clients.say("b", f'EVAL_RO "{script}" 1 k') == b""
    clients.answer(b"+OK\r\n+OK\r\n")
    assert clients.got("a") == b""
    while clients.engine.mode & 4:
        clients.advance(1)
    assert clients.got("b") == b":1\r\n"
    assert clients.got("a") == b"+OK\r\n"
    assert clients.say("b", "EXISTS k") == b":0\r\n"
    assert clients.engine.mode == 0


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "expected"),
    [("6380", 6380), ("6380x", 6380), (" 7", 7), ("abc", 0), ("-1", 65535), ("70000", 4464), ("+5", 5)],
)
def test_ports_are_read_as_c_reads_them(clients: Clients, port: str, expected: int) -> None:
    clients.say("a", "SET k v")
    clients.say("a", f"MIGRATE h '{port}' k 0 500")
    assert clients.port.started[0].port == expected
