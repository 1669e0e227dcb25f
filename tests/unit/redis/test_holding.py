"""CLIENT PAUSE and DEBUG SLEEP: who waits, for how long, and what does not happen meanwhile."""

from __future__ import annotations

import pytest

from appliance.redis import Engine, EngineSettings, Session

NOW_US = 1_700_000_000_000_000
MS = 1000


class Clients:
    """Sessions by name, a clock, and what each was sent."""

    def __init__(self) -> None:
        self.engine = Engine(EngineSettings(), lambda count: bytes(range(count)))
        self.now_us = NOW_US
        self.sessions: dict[str, Session] = {}

    def say(self, name: str, text: str) -> bytes:
        """What the client has got when its request has been looked at."""
        self.session(name).data_received(text.encode() + b"\r\n", self.now_us)
        self.engine.take_pending_sessions()
        return self.got(name)

    def session(self, name: str) -> Session:
        if name not in self.sessions:
            self.sessions[name] = self.engine.create_session(
                remote="10.0.0.1:1", local="10.0.0.2:2", now_us=self.now_us, is_privileged=name == "control"
            )
        return self.sessions[name]

    def got(self, name: str) -> bytes:
        return b"".join(self.sessions[name].take_output())

    def advance(self, span_us: int) -> None:
        self.now_us += span_us
        self.engine.handle_timeouts(self.now_us)
        self.engine.take_pending_sessions()


@pytest.fixture
def clients() -> Clients:
    return Clients()


def test_pause_all_holds_every_command_until_its_time(clients: Clients) -> None:
    assert clients.say("a", "CLIENT PAUSE 100") == b"+OK\r\n"
    assert clients.say("b", "SET k 1") == b""
    assert clients.say("c", "GET k") == b""
    assert clients.say("a", "CLIENT UNPAUSE") == b""
    assert clients.engine.next_timeout_us() == NOW_US + 100 * MS
    clients.advance(99 * MS)
    assert clients.got("b") == b""
    clients.advance(1 * MS)
    assert clients.got("b") == b"+OK\r\n"
    assert clients.got("c") == b"$1\r\n1\r\n"
    assert clients.got("a") == b"+OK\r\n"
    assert clients.say("b", "PING") == b"+PONG\r\n"


def test_pause_write_lets_those_that_read_go_on(clients: Clients) -> None:
    clients.say("a", "CLIENT PAUSE 100000 WRITE")
    assert clients.say("b", "GET k") == b"$-1\r\n"
    for line in ("SET k 1", "PUBLISH c m", "PFCOUNT h"):
        assert clients.say(line, line) == b"", line
    assert clients.say("a", "CLIENT UNPAUSE") == b"+OK\r\n"
    assert clients.got("SET k 1") == b"+OK\r\n"
    assert clients.got("PFCOUNT h") == b":0\r\n"


def test_a_transaction_waits_if_one_of_its_commands_would(clients: Clients) -> None:
    for name, command in (("r", "GET k"), ("w", "SET k 1")):
        clients.say(name, "MULTI")
        clients.say(name, command)
    clients.say("a", "CLIENT PAUSE 1000 WRITE")
    assert clients.say("r", "EXEC") == b"*1\r\n$-1\r\n"
    assert clients.say("w", "EXEC") == b""
    clients.advance(1000 * MS)
    assert clients.got("w") == b"*1\r\n+OK\r\n"


def test_what_a_held_client_sends_waits_behind_it_in_order(clients: Clients) -> None:
    clients.say("a", "CLIENT PAUSE 1000")
    assert clients.say("b", "SET k 1\r\nINCR k") == b""
    assert clients.say("b", "INCR k") == b""
    clients.advance(1000 * MS)
    assert clients.got("b") == b"+OK\r\n:2\r\n:3\r\n"


def test_a_pause_can_be_made_longer_and_stricter_but_not_less(clients: Clients) -> None:
    clients.say("a", "CLIENT PAUSE 1000 WRITE")
    clients.say("a", "CLIENT PAUSE 10 ALL")
    assert clients.say("b", "GET k") == b""
    clients.advance(999 * MS)
    assert clients.got("b") == b""
    clients.advance(1 * MS)
    assert clients.got("b") == b"$-1\r\n"


def test_nothing_expires_in_a_pause_and_what_is_past_its_time_is_not_seen(clients: Clients) -> None:
    clients.say("a", "SET k 1 PX 10")
    clients.say("a", "CLIENT PAUSE 1000 WRITE")
    clients.now_us += 100 * MS
    clients.engine.cron(clients.now_us)
    assert clients.say("b", "GET k") == b"$-1\r\n"
    assert clients.say("b", "EXISTS k") == b":0\r\n"
    assert clients.say("b", "DBSIZE") == b":1\r\n"
    clients.advance(1000 * MS)
    assert clients.say("b", "GET k") == b"$-1\r\n"
    assert clients.say("b", "DBSIZE") == b":0\r\n"
    clients.engine.databases[0].check_invariants()


def test_a_blocked_client_gives_up_during_a_pause(clients: Clients) -> None:
    assert clients.say("b", "BLPOP q 0.05") == b""
    clients.say("a", "CLIENT PAUSE 1000")
    clients.advance(50 * MS)
    assert clients.got("b") == b"*-1\r\n"


def test_a_held_client_cannot_be_unblocked_and_may_go_away(clients: Clients) -> None:
    clients.say("a", "CLIENT PAUSE 1000 WRITE")
    clients.say("b", "SET k 1")
    number = clients.session("b").id
    assert clients.say("a", f"CLIENT UNBLOCK {number}") == b":0\r\n"
    assert b"flags=b" in clients.say("a", f"CLIENT LIST ID {number}")
    clients.session("b").close()
    clients.advance(1000 * MS)
    assert clients.say("a", "EXISTS k") == b":0\r\n"


def test_the_control_socket_is_not_held(clients: Clients) -> None:
    clients.say("a", "CLIENT PAUSE 1000")
    assert clients.say("control", "PING") == b"+PONG\r\n"
    assert clients.say("control", "CLIENT UNPAUSE") == b"+OK\r\n"
    assert clients.say("a", "PING") == b"+PONG\r\n"


def test_a_pause_of_no_time_is_none(clients: Clients) -> None:
    assert clients.say("a", "CLIENT PAUSE 0\r\nSET k 1") == b"+OK\r\n+OK\r\n"


def test_who_may_write_in_a_pause_finds_no_key_twice(clients: Clients) -> None:
    clients.engine.configuration.override({"enable-debug-command": "yes"})
    for name, line in (("control", "SET k 2"), ("b", "DEBUG POPULATE 1")):
        clients.say("a", "SET k 1 PX 10")
        clients.say("a", "SET key:0 1 PX 10")
        clients.say("a", "CLIENT PAUSE 1000 WRITE")
        clients.now_us += 100 * MS
        assert clients.say("b", "GET k") == b"$-1\r\n"
        assert clients.say(name, line) == b"+OK\r\n"
        clients.engine.databases[0].check_invariants()
        clients.advance(1000 * MS)
        assert clients.say("a", "FLUSHALL") == b"+OK\r\n"


@pytest.fixture
def debugged(clients: Clients) -> Clients:
    clients.engine.configuration.override({"enable-debug-command": "yes"})
    return clients


def test_debug_sleep_holds_everybody_and_is_answered_first(debugged: Clients) -> None:
    clients = debugged
    clients.say("b", "PING")
    assert clients.say("a", "DEBUG SLEEP 0.5\r\nSET k 1") == b""
    assert clients.say("b", "GET k\r\nNOSUCH") == b""
    assert clients.say("c", "NOSUCH") == b""
    assert clients.say("control", "PING") == b"+PONG\r\n"
    assert clients.engine.next_timeout_us() == NOW_US + 500 * MS
    clients.advance(499 * MS)
    assert clients.got("a") == clients.got("b") == b""
    clients.advance(1 * MS)
    # What the sleeper has sent behind it comes before what others have.
    assert clients.got("a") == b"+OK\r\n+OK\r\n"
    assert clients.got("b") == b"$1\r\n1\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n"
    assert clients.got("c").startswith(b"-ERR unknown command")
    assert clients.say("b", "GET k") == b"$1\r\n1\r\n"


def test_debug_sleep_stops_time_for_those_that_wait(debugged: Clients) -> None:
    clients = debugged
    clients.say("b", "BLPOP q 0.1")
    clients.say("c", "SET k 1 PX 100")
    clients.say("a", "DEBUG SLEEP 1")
    clients.advance(500 * MS)
    clients.engine.cron(clients.now_us)
    assert clients.got("b") == b""
    assert len(clients.engine.databases[0]) == 1
    clients.advance(500 * MS)
    assert clients.got("b") == b"*-1\r\n"
    assert clients.say("c", "GET k") == b"$-1\r\n"


def test_debug_sleep_is_in_the_slowlog_with_its_time(debugged: Clients) -> None:
    clients = debugged
    clients.say("a", "CONFIG SET latency-monitor-threshold 10")
    clients.say("a", "DEBUG SLEEP 0.25")
    clients.advance(250 * MS)
    assert b":250000\r\n*3\r\n$5\r\nDEBUG" in clients.say("b", "SLOWLOG GET")
    assert b"command" in clients.say("b", "LATENCY LATEST")


def test_the_sleeper_may_go_away(debugged: Clients) -> None:
    clients = debugged
    clients.say("a", "DEBUG SLEEP 1")
    clients.say("b", "PING")
    clients.session("a").close()
    clients.advance(1000 * MS)
    assert clients.got("b") == b"+PONG\r\n"


def test_sleep_inside_exec_delays_its_reply_and_everybody(debugged: Clients) -> None:
    clients = debugged
    for line in ("MULTI", "SET k 1", "DEBUG SLEEP 0.2", "PUBLISH c m", "DEBUG SLEEP 0.1", "GET k"):
        clients.say("a", line)
    clients.say("s", "SUBSCRIBE c")
    assert clients.say("a", "EXEC") == b""
    assert clients.say("b", "GET k") == b""
    assert clients.engine.next_timeout_us() == NOW_US + 200 * MS
    clients.advance(200 * MS)
    assert clients.got("a") == clients.got("b") == b""
    assert clients.engine.next_timeout_us() == NOW_US + 300 * MS
    clients.advance(99 * MS)
    assert clients.got("a") == clients.got("b") == clients.got("s") == b""
    clients.advance(1 * MS)
    assert clients.got("a") == b"*5\r\n+OK\r\n+OK\r\n:1\r\n+OK\r\n$1\r\n1\r\n"
    assert clients.got("s").endswith(b"$1\r\nm\r\n")
    assert clients.got("b") == b"$1\r\n1\r\n"
    assert clients.say("a", "PING") == b"+PONG\r\n"
    assert clients.engine.mode == 0


def test_a_client_may_go_while_its_exec_sleeps(debugged: Clients) -> None:
    clients = debugged
    for line in ("MULTI", "DEBUG SLEEP 1", "SET k 1", "EXEC"):
        clients.say("a", line)
    clients.say("b", "GET k")
    clients.session("a").close()
    clients.advance(1000 * MS)
    assert clients.got("b") == b"$1\r\n1\r\n"  # the transaction was begun, and is whole
    assert clients.engine.mode == 0


def test_what_comes_behind_a_sleeping_exec_follows_it(debugged: Clients) -> None:
    clients = debugged
    assert clients.say("a", "MULTI\r\nDEBUG SLEEP 1\r\nEXEC\r\nPING") == b"+OK\r\n+QUEUED\r\n"
    clients.advance(999 * MS)
    assert clients.say("a", "ECHO x") == b""
    clients.advance(1 * MS)
    assert clients.got("a") == b"*1\r\n+OK\r\n+PONG\r\n$1\r\nx\r\n"


def test_the_end_of_the_engine_ends_an_exec_that_sleeps(debugged: Clients) -> None:
    clients = debugged
    for line in ("MULTI", "DEBUG SLEEP 1", "SET k 1", "EXEC"):
        clients.say("a", line)
    for _ in range(2):
        clients.engine.close()
        assert clients.session("a").is_closing
        assert len(clients.engine.databases[0]) == 0


def test_debug_is_refused_unless_allowed(clients: Clients) -> None:
    assert clients.say("a", "DEBUG SLEEP 0").startswith(b"-ERR DEBUG command not allowed.")
    clients.say("a", "MULTI")
    assert clients.say("a", "DEBUG SLEEP 0").startswith(b"-ERR DEBUG command not allowed.")
    assert clients.say("a", "EXEC").startswith(b"-EXECABORT")
    clients.engine.configuration.override({"enable-debug-command": "local"})
    assert clients.say("a", "DEBUG SLEEP 0").startswith(b"-ERR DEBUG command not allowed.")
    assert clients.say("control", "DEBUG SLEEP 0") == b"+OK\r\n"
    assert clients.say("control", "DEBUG SEGFAULT") == b"-ERR DEBUG SEGFAULT is not available here\r\n"
