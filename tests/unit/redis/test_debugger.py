"""The Lua debugger where redis-server is no guide: others, clients that go, loops, and copies of the process."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from appliance.redis.engine_modes import SCRIPT_BUSY
from tests.support.redis_pair import Argument, encode_request
from tests.support.script_engine import Client, Machine

if TYPE_CHECKING:
    from appliance.redis.session import Session

LINES = "redis.call('incr', KEYS[1])\nredis.call('incr', KEYS[1])\nreturn redis.call('incr', KEYS[1])"
STOPPED = b"*2\r\n+* Stopped at 1, stop reason = step over\r\n+-> 1   "
END = b"*1\r\n+<endsession>\r\n"


@pytest.fixture
def machine() -> Machine:
    return Machine()


def say(client: Client, *words: Argument) -> bytes:
    """Send a command of the debugger, and let the script run to its next stop."""
    answer = client.send(*words)
    run(client.machine)
    return answer + client.output()


def run(machine: Machine) -> None:
    while machine.engine.mode & SCRIPT_BUSY and not machine.engine.scripts.is_waiting:
        machine.resume()


def debugging(machine: Machine, script: str = LINES) -> Client:
    """A client whose script stands at its first line."""
    client = machine.client()
    assert client.send("SCRIPT", "DEBUG", "SYNC") == b"+OK\r\n"
    assert say(client, "EVAL", script, 1, "k").startswith(STOPPED)
    return client


def test_others_wait_for_the_end_of_the_session(machine: Machine) -> None:
    client, other = debugging(machine), machine.client()
    assert other.send("GET", "k") == b""
    say(client, "s")
    assert other.output() == b""
    assert say(client, "c") == END + b":3\r\n"
    assert client.session.is_closing
    assert other.output() == b"$1\r\n3\r\n"


def test_nothing_expires_while_a_script_stands_still(machine: Machine) -> None:
    other = machine.client()
    other.send("SET", "k", 7, "PX", 1)
    client = debugging(machine)
    machine.now_us += 10_000
    machine.engine.cron(machine.now_us)
    assert b"<reply> 8\r\n" in say(client, "s")
    assert say(client, "c") == END + b":10\r\n"
    assert other.send("GET", "k") == b"$-1\r\n"


def test_the_script_of_a_client_that_goes_runs_to_its_end(machine: Machine) -> None:
    client, other = debugging(machine), machine.client()
    say(client, "b", 2, 3)
    client.session.close()
    run(machine)
    assert not machine.engine.mode & SCRIPT_BUSY
    assert other.send("GET", "k") == b"$1\r\n3\r\n"


def test_and_if_it_has_no_end_is_ended(machine: Machine) -> None:
    machine.engine.configuration.override({"busy-reply-threshold": "50"})
    client, other = debugging(machine, "while true do end"), machine.client()
    client.session.close()
    machine.resume_to_the_end()
    assert other.send("PING") == b"+PONG\r\n"


def test_a_client_that_is_killed_is_one_that_goes(machine: Machine) -> None:
    client, control = debugging(machine), machine.client()
    control.session.is_privileged = True
    control.session.engine.sessions[client.session.id].kill()
    run(machine)
    assert control.send("GET", "k") == b"$1\r\n3\r\n"
    assert client.output() == b""


def test_a_script_that_stands_still_can_be_killed(machine: Machine) -> None:
    client, control = debugging(machine), machine.client()
    control.session.is_privileged = True
    assert control.send("SCRIPT", "KILL") == b"+OK\r\n"
    run(machine)
    assert client.output().startswith(END + b"-ERR Script killed by user with SCRIPT KILL... script: ")
    assert control.send("EXISTS", "k") == b":0\r\n"


def test_the_engine_may_go_while_a_script_stands_still(machine: Machine) -> None:
    client = debugging(machine)
    other = machine.client()
    control = machine.client()
    control.session.is_privileged = True
    assert control.send("SHUTDOWN", "NOSAVE") == b""
    assert machine.engine.shutdown_requested
    assert client.output() == other.output() == b""


def test_what_is_evaluated_lets_others_live(machine: Machine) -> None:
    client, control = debugging(machine), machine.client()
    control.session.is_privileged = True
    client.send("e", "while true do end")
    for _ in range(100):
        machine.resume()
    assert machine.engine.mode & SCRIPT_BUSY
    assert control.send("SCRIPT", "KILL") == b"+OK\r\n"
    machine.resume_to_the_end()
    assert b"+<endsession>\r\n-ERR Script killed by user" in client.output()
    assert control.send("PING") == b"+PONG\r\n"


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("redis.call('nosuch')", b"<error> ERR Unknown Redis command called from script"),
        ("redis.call('lpush', 'k')", b"<error> ERR Wrong number of args calling Redis command from script"),
        ("error({err = 'own'})", b"<error> own"),
        ("error({1})", b"<error> {1}"),
        ("string.rep('x', 2^30)", b"<error> not enough memory"),
    ],
)
def test_errors_that_are_tables_are_shown(machine: Machine, code: str, answer: bytes) -> None:
    client = debugging(machine)
    assert say(client, "e", code) == b"*1\r\n+" + answer + b"\r\n"
    assert say(client, "c") == END + b":3\r\n"


def test_a_value_that_holds_itself_very_often_is_cut(machine: Machine) -> None:
    client = debugging(machine)
    say(client, "maxlen", 0)
    code = "local t = {} for i = 1, 50 do t[i] = t end return t"
    answer = say(client, "e", code)
    assert b"..." in answer
    assert len(answer) < 10_000_000
    assert say(client, "c") == END + b":3\r\n"


def test_input_without_an_end_is_refused(machine: Machine) -> None:
    client = debugging(machine)
    client.session.data_received(b"*1024\r\n" + b"$1024\r\n" * 1 + b"x" * 1000, machine.now_us)
    run(machine)
    assert client.output() == b""
    client.session.data_received(b"x" * 24 + b"\r\n" + b"$" + b"1" * (1 << 20), machine.now_us)
    run(machine)
    assert client.output().startswith(END + b"-ERR max client buffer reached script: ")


def test_there_is_no_debugging_inside_multi(machine: Machine) -> None:
    client = machine.client()
    for mode in ("YES", "SYNC"):
        client.send("SCRIPT", "DEBUG", mode)
        client.send("MULTI")
        client.send("EVAL", "return 1", 0)
        assert client.send("EXEC") == b"*1\r\n-ERR a script cannot be debugged inside MULTI\r\n"


def test_what_a_debugged_script_sees_is_as_before_afterwards(machine: Machine) -> None:
    client = debugging(machine, "redis.breakpoint()\nreturn tostring(redis.breakpoint())")
    assert say(client, "c").startswith(b"*2\r\n+* Stopped at 2, stop reason = redis.breakpoint() called")
    assert say(client, "c") == END + b"$4\r\ntrue\r\n"
    other = machine.client()
    assert other.send("EVAL", "return {redis.breakpoint(), redis.debug(1)}", 0) == b"*1\r\n$-1\r\n"
    assert other.send("EVAL", LINES, 1, "k") == b":3\r\n"


# Copies of the process ----------------------------------------------------------------------------


class Ended(BaseException):
    """In place of the end of the process."""


class Copy:
    """The terminal in a copy, with what the client says."""

    def __init__(self, *words: str) -> None:
        self.input = [encode_request((word,)) for word in words]
        self.output: list[bytes] = []

    def read(self) -> bytes:
        return self.input.pop(0) if self.input else b""

    def write(self, data: bytes) -> None:
        self.output.append(data)

    def exit(self, failure: BaseException | None) -> NoReturn:
        raise Ended from failure


@pytest.mark.parametrize(
    ("request_", "words", "outcome"),
    [
        (("EVAL", "return 5", 0), ["c"], b":5\r\n"),
        (("EVAL", "return 5", 0), [], b":5\r\n"),
        (("EVAL", "return redis.call('nosuch')", 0), ["c"], b"-ERR Unknown Redis command called from script"),
        (("EVAL", "return 5", 7), [], b"-ERR Number of keys can't be greater than number of args\r\n"),
    ],
)
def test_in_the_copy_the_process_ends_with_the_script(
    machine: Machine, request_: tuple[Argument, ...], words: list[str], outcome: bytes
) -> None:
    copy = Copy(*words)
    machine.engine.scripts.fork = lambda _session: copy
    client = machine.client()
    client.send("SCRIPT", "DEBUG", "YES")
    with pytest.raises(Ended) as ended:
        client.send(*request_)
    assert ended.value.__cause__ is None
    assert copy.output[-2] == END
    assert copy.output[-1].startswith(outcome)


def test_in_the_original_the_session_is_held(machine: Machine) -> None:
    fed: list[bytes] = []

    class Original:
        def feed(self, data: bytes) -> None:
            fed.append(data)

    def fork(session: Session) -> None:
        session.hold_dialogue(Original())

    machine.engine.scripts.fork = fork
    client, other = machine.client(), machine.client()
    client.send("CONFIG", "SET", "latency-monitor-threshold", 1)
    client.send("SCRIPT", "DEBUG", "YES")
    assert client.send("EVAL", LINES, 1, "k") == b""
    assert other.send("EXISTS", "k") == b":0\r\n"
    assert client.send("s") == b""
    client.session.push(END)
    assert client.output() == END
    client.session.end_dialogue()
    assert client.session.is_closing
    client.session.close()
    assert fed == [encode_request(("s",))]
    # A look at the stopwatch is a millisecond.
    assert b"latest_fork_usec:1000\r\ntotal_forks:1\r\n" in other.send("INFO", "stats")
    assert b"$4\r\nfork\r\n" in other.send("LATENCY", "LATEST")
    other.send("CONFIG", "RESETSTAT")
    assert b"latest_fork_usec:0\r\ntotal_forks:0\r\n" in other.send("INFO", "stats")


def test_a_copy_that_cannot_be_made_is_an_error(machine: Machine) -> None:
    client = machine.client()
    client.send("SCRIPT", "DEBUG", "YES")
    refusal = b"-ERR Fork() failed: can't run EVAL in debugging mode: "
    assert client.send("EVAL", "return 1", 0) == refusal + b"this server cannot copy itself\r\n"

    def fork(_session: Session) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    machine.engine.scripts.fork = fork
    client.send("SCRIPT", "DEBUG", "YES")
    assert client.send("EVAL", "return 1", 0) == refusal + b"Cannot allocate memory\r\n"
    # The mode is over with that, as there.
    assert client.send("EVAL", "return 1", 0) == b":1\r\n"


def test_a_failure_of_ours_ends_the_copy_too(machine: Machine) -> None:
    class Broken(Copy):
        def read(self) -> bytes:
            raise ZeroDivisionError

    copy = Broken()
    machine.engine.scripts.fork = lambda _session: copy
    client = machine.client()
    client.send("SCRIPT", "DEBUG", "YES")
    with pytest.raises(Ended) as ended:
        client.send("EVAL", "return 5", 0)
    assert isinstance(ended.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("mode", ["YES", "SYNC"])
def test_who_debugs_is_not_idle_and_is_not_unblocked(machine: Machine, mode: str) -> None:
    class Original:
        def feed(self, data: bytes) -> None:
            pass

    machine.engine.scripts.fork = lambda session: session.hold_dialogue(Original())
    machine.engine.configuration.override({"timeout": "1"})
    client, control = machine.client(), machine.client()
    control.session.is_privileged = True
    client.send("SCRIPT", "DEBUG", mode)
    client.send("EVAL", "return 1", 0)
    if mode == "YES":
        assert control.send("CLIENT", "UNBLOCK", client.session.id) == b":0\r\n"
    for _ in range(50):
        machine.now_us += 1_000_000
        machine.engine.cron(machine.now_us)
    assert not client.session.is_closing
