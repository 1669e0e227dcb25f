"""Scripts debugged in a copy of a server: what is kept, who else is served, and that no copy outlives its use."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from trio.testing import wait_all_tasks_blocked

from appliance.redis import Engine, EngineSettings
from appliance.redis.resp import ValueParser
from appliance.shell.debug_fork import DebugForks
from tests.shell.test_kernel_server import kernel_server
from tests.support.redis_pair import PATIENCE_S, encode_request
from tests.support.running import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from tests.support.redis_pair import Argument

SCRIPT = "redis.call('incr', KEYS[1])\nredis.call('incr', KEYS[1])\nreturn redis.call('incr', KEYS[1])"


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._parser = ValueParser()

    def send(self, *args: Argument) -> object:
        self.connection.sendall(encode_request(args))
        return self.value()

    def value(self) -> object:
        while True:
            value = self._parser.next_value()
            if self._parser.has_value:
                return value
            data = self.connection.recv(1 << 16)
            assert data, "the server has gone"
            self._parser.feed(data)


@contextmanager
def client_of(port: int) -> Iterator[Client]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        yield Client(connection)


def debug(client: Client, script: str = SCRIPT) -> None:
    """Let a script stand at its first line, in a copy."""
    client.send("SCRIPT", "DEBUG", "YES")
    assert "Stopped at 1" in repr(client.send("EVAL", script, 1, "k"))


def copies_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    """Or a zombie, whose parent does not look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_a_copy_writes_is_lost_and_others_are_served() -> None:
    with kernel_server() as (process, port), client_of(port) as client, client_of(port) as other:
        other.send("SET", "k", 5)
        debug(client)
        other.send("INCR", "k")
        assert "<reply> 6" in repr(client.send("s"))
        assert other.send("GET", "k") == b"6"
        assert "<endsession>" in repr(client.send("c"))
        assert client.value() == 8
        assert client.connection.recv(1) == b""
        assert other.send("GET", "k") == b"6"
        until(lambda: copies_of(process.pid) == [])


def test_two_copies_at_once() -> None:
    with kernel_server() as (process, port), client_of(port) as one, client_of(port) as two:
        debug(one)
        debug(two)
        assert len(copies_of(process.pid)) == 2
        for client in (one, two):
            client.send("c")
            assert client.value() == 3


def test_a_copy_holds_nothing_but_its_socket() -> None:
    with kernel_server() as (process, port), client_of(port) as client:
        debug(client)
        (copy,) = copies_of(process.pid)
        opened = sorted(int(name) for name in os.listdir(f"/proc/{copy}/fd"))
        assert opened[:3] == [0, 1, 2]
        assert len(opened) == 4
        assert os.readlink(f"/proc/{copy}/fd/{opened[3]}").startswith("socket:")


def test_a_copy_ends_when_its_client_goes() -> None:
    with kernel_server() as (process, port), client_of(port) as other:
        with client_of(port) as client:
            debug(client)
            client.connection.sendall(encode_request(("e", "while true do end")))
        until(lambda: copies_of(process.pid) == [])
        assert other.send("EXISTS", "k") == 0


def test_a_copy_ends_when_its_client_is_killed() -> None:
    with kernel_server() as (process, port), client_of(port) as client, client_of(port) as other:
        number = client.send("CLIENT", "ID")
        debug(client)
        assert isinstance(number, int)
        assert other.send("CLIENT", "KILL", "ID", number) == 1
        until(lambda: copies_of(process.pid) == [])
        assert client.connection.recv(1) == b""


def test_copies_end_with_the_server() -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with kernel_server() as (process, port), client_of(port) as client:
            debug(client)
            client.connection.sendall(encode_request(("e", "while true do end")))
            (copy,) = copies_of(process.pid)
            process.send_signal(number)
            assert process.wait(PATIENCE_S) == (0 if number == signal.SIGTERM else -number)
            until(partial(is_gone, copy))


def test_a_copy_takes_no_signal_of_the_terminal() -> None:
    # Ctrl-C goes to all processes of the terminal: the server ends its copies itself.
    with kernel_server() as (process, port), client_of(port) as client:
        debug(client)
        (copy,) = copies_of(process.pid)
        os.kill(copy, signal.SIGINT)
        os.kill(copy, signal.SIGTERM)
        client.send("c")
        assert client.value() == 3


def test_a_copy_that_dies_ends_the_connection() -> None:
    with kernel_server() as (process, port), client_of(port) as client, client_of(port) as other:
        debug(client)
        (copy,) = copies_of(process.pid)
        os.kill(copy, signal.SIGKILL)
        assert client.connection.recv(1) == b""
        assert other.send("PING") is not None
        until(lambda: copies_of(process.pid) == [])


def test_long_answers_come_whole() -> None:
    with kernel_server() as (_process, port), client_of(port) as client:
        debug(client, "local s = string.rep('x', 3000000)\nreturn s")
        client.send("s")
        client.send("maxlen", 0)
        assert len(repr(client.send("p", "s"))) > 3_000_000
        client.send("c")
        assert client.value() == b"x" * 3_000_000


async def test_a_client_may_go_while_its_copy_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(EngineSettings(), os.urandom)
    session = engine.create_session(remote="127.0.0.1:1", local="127.0.0.1:2", now_us=1)

    gone = trio.Event()

    async def wait_and_lose_the_client(wait: Callable[..., object], *arguments: int) -> object:
        status = wait(*arguments)
        session.close()
        gone.set()
        return status

    program = shutil.which("true")
    assert program is not None
    monkeypatch.setattr(os, "fork", lambda: os.posix_spawn(program, ["true"], os.environ))
    monkeypatch.setattr(trio.to_thread, "run_sync", wait_and_lose_the_client)
    async with trio.open_nursery() as nursery:
        forks = DebugForks(engine, lambda: None)
        nursery.start_soon(forks.run)
        assert engine.scripts.fork is not None
        assert engine.scripts.fork(session) is None
        with trio.fail_after(PATIENCE_S):
            await gone.wait()
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert session.dialogue is None
