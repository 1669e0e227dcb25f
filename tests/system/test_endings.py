"""How clients go away, badly and well, and how the appliance does."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netns.inside import RUN_NETNS
from tests.support.links import DEVICE, PEER_LINK
from tests.support.running import (
    RunningAppliance,
    ask,
    receive_exactly,
    receive_to_end,
    request,
    running_appliance,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.system

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PING = request("PING")
_PONG = b"+PONG\r\n"
_GRACE_S = 2.0
"""How long the appliance waits for its clients when it ends."""


def _state_of(appliance: RunningAppliance, client_port: int) -> str | None:
    for one in appliance.connections():
        if one["remote"].endswith(f":{client_port}"):
            return str(one["state"])
    return None


def _clients(appliance: RunningAppliance) -> int:
    """Connected sessions as the engine counts them, without the one that asks."""
    reply = appliance.control("INFO", "clients")
    assert isinstance(reply, str)
    return int(reply.split("connected_clients:")[1].split()[0]) - 1


# -- clients ---------------------------------------------------------------------------------------------


def test_client_reset_ends_connection_and_session(appliance: RunningAppliance) -> None:
    before = appliance.counters()["resets_in"]
    client = appliance.connect()
    ask(client, _PING, _PONG)
    port = client.getsockname()[1]
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    client.close()
    until(lambda: _state_of(appliance, port) is None, what="the connection is gone")
    until(lambda: _clients(appliance) == 0, what="the session is gone")
    assert appliance.counters()["resets_in"] == before + 1


def test_client_reset_in_the_middle_of_a_large_request(appliance: RunningAppliance) -> None:
    client = appliance.connect()
    port = client.getsockname()[1]
    client.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$50000000\r\n" + b"x" * 5_000_000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    client.close()
    until(lambda: _state_of(appliance, port) is None, what="the connection is gone")
    until(lambda: _clients(appliance) == 0, what="the session is gone")
    with appliance.connect() as other:
        ask(other, request("EXISTS", "k"), b":0\r\n")


def test_client_half_closes_and_still_gets_every_reply(appliance: RunningAppliance) -> None:
    with appliance.connect() as client:
        client.sendall(request("SET", "half", "x" * 100_000) + request("GET", "half") * 50 + _PING)
        client.shutdown(socket.SHUT_WR)
        expected = b"+OK\r\n" + (b"$100000\r\n" + b"x" * 100_000 + b"\r\n") * 50 + _PONG
        assert receive_to_end(client) == expected
        port = client.getsockname()[1]
    until(lambda: _state_of(appliance, port) is None, what="LAST-ACK ends with the kernel's ACK")


def test_client_closes_with_half_a_request(appliance: RunningAppliance) -> None:
    with appliance.connect() as client:
        client.sendall(b"*2\r\n$3\r\nGET\r\n$100\r\nabc")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    until(lambda: _clients(appliance) == 0)


def test_quit_is_answered_and_followed_by_fin(appliance: RunningAppliance) -> None:
    with appliance.connect() as client:
        client.sendall(_PING + request("QUIT") + _PING)
        assert receive_to_end(client) == _PONG + b"+OK\r\n"


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"*1\r\n+PING\r\n", b"-ERR Protocol error: expected '$', got '+'\r\n"),
        (b"*2147483648\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$536870913\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*" + b"1" * 70_000, b"-ERR Protocol error: too big mbulk count string\r\n"),
        (b"*1\r\n$" + b"1" * 70_000, b"-ERR Protocol error: too big bulk count string\r\n"),
        (b"x" * 70_000, b"-ERR Protocol error: too big inline request\r\n"),
        (b'SET a "unbalanced\r\n', b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    ],
    ids=[
        "not-a-bulk",
        "too-many-arguments",
        "no-number",
        "negative-bulk",
        "too-big-bulk",
        "endless-count",
        "endless-length",
        "endless-inline",
        "unbalanced-quotes",
    ],
)
def test_bad_resp_gets_the_exact_error_then_the_end(
    appliance: RunningAppliance, sent: bytes, reply: bytes
) -> None:
    with appliance.connect() as client:
        client.sendall(_PING + sent)
        # More of it may still be under way when the answer comes: no RST may take the answer away.
        assert receive_to_end(client) == _PONG + reply
    until(lambda: _clients(appliance) == 0)


def test_client_that_never_reads_stops_only_itself(appliance: RunningAppliance, is_compiled: bool) -> None:
    size = 1_000_000
    count = 30
    with appliance.connect(receive_buffer=4096) as greedy, appliance.connect() as other:
        greedy.sendall(request("SET", "large", b"v" * size))
        assert greedy.recv(5, socket.MSG_WAITALL) == b"+OK\r\n"
        greedy.sendall(request("GET", "large") * count)
        port = greedy.getsockname()[1]

        def snd_wnd() -> int:
            return next(
                int(c["snd_wnd"]) for c in appliance.connections() if c["remote"].endswith(f":{port}")
            )

        probes = appliance.counters()["zero_window_probes"]
        until(lambda: snd_wnd() < 1460, what="its window is closed")
        for _ in range(200):
            ask(other, _PING, _PONG)
        until(lambda: appliance.counters()["zero_window_probes"] > probes, what="the window is probed")
        # And back: it reads everything, in order, and goes on.
        one = b"$%d\r\n" % size + b"v" * size + b"\r\n"
        for _ in range(count):
            assert receive_exactly(greedy, len(one)) == one
        ask(greedy, _PING, _PONG)


def test_client_that_never_reads_is_not_read_either(own_appliance: RunningAppliance) -> None:
    size = 4_000_000
    with own_appliance.connect() as other, own_appliance.connect() as greedy:
        ask(other, request("SET", "large", b"v" * size), b"+OK\r\n")
        before = own_appliance.resident_bytes()
        greedy.settimeout(0.5)
        # Many more replies than the appliance is willing to keep; each request is padded, so that the
        # kernel's own buffers do not hold all of them.
        asked = 0
        padded = b"*3\r\n$4\r\nMGET\r\n$5\r\nlarge\r\n$20000\r\n" + b"n" * 20_000 + b"\r\n"
        with pytest.raises(TimeoutError):
            for _ in range(5_000):
                greedy.sendall(padded)
                asked += 1
        assert asked < 5_000
        ask(other, _PING, _PONG)
        # The value is kept by reference, however often it was asked for.
        assert own_appliance.resident_bytes() - before < 64 * 1024 * 1024
        port = greedy.getsockname()[1]
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        greedy.close()
        until(lambda: _state_of(own_appliance, port) is None, what="the connection is gone")
        ask(other, _PING, _PONG)


def test_receive_window_closes_and_reopens_for_a_slow_reader(appliance: RunningAppliance) -> None:
    with appliance.connect(receive_buffer=2048) as client:
        value = os.urandom(300_000)
        ask(client, request("SET", "slow", value), b"+OK\r\n")
        client.sendall(request("GET", "slow"))
        assert receive_exactly(client, 9) == b"$300000\r\n"
        # Sips of less than a segment: every window update is a small one.
        assert b"".join(receive_exactly(client, 1_000) for _ in range(300)) == value
        assert receive_exactly(client, 2) == b"\r\n"


def test_client_kill_reaches_a_kernel_client_as_fin(appliance: RunningAppliance) -> None:
    with appliance.connect() as victim, appliance.connect() as killer:
        victim.sendall(request("CLIENT", "ID"))
        number = victim.recv(100)[1:-2]
        ask(killer, request("CLIENT", "KILL", "ID", number), b":1\r\n")
        assert victim.recv(100) == b""


# -- the appliance ---------------------------------------------------------------------------------------


def _sigterm(appliance: RunningAppliance, client: socket.socket) -> None:
    appliance.process.send_signal(signal.SIGTERM)


def _sigint(appliance: RunningAppliance, client: socket.socket) -> None:
    appliance.process.send_signal(signal.SIGINT)


def _shutdown(appliance: RunningAppliance, client: socket.socket) -> None:
    client.sendall(request("SHUTDOWN", "NOSAVE"))


def _stop(appliance: RunningAppliance, client: socket.socket) -> None:
    assert appliance.control("REDTAP", "STOP") == "OK"


@pytest.mark.parametrize(
    "how", [_sigterm, _sigint, _shutdown, _stop], ids=["sigterm", "sigint", "SHUTDOWN", "STOP"]
)
def test_end_gives_every_client_fin_and_leaves_nothing(
    tmp_path: Path, how: Callable[[RunningAppliance, socket.socket], None]
) -> None:
    with running_appliance(tmp_path) as appliance, ExitStack() as stack:
        clients = [stack.enter_context(appliance.connect()) for _ in range(50)]
        for client in clients:
            ask(client, _PING, _PONG)
        how(appliance, clients[0])
        for client in clients:
            assert client.recv(100) == b""  # FIN: RST would raise
            client.close()
        assert appliance.wait() == 0
        appliance.assert_nothing_left()
        assert not os.path.exists(f"{RUN_NETNS}/{appliance.namespace}")


def test_end_ends_the_copies_in_which_scripts_are_debugged(tmp_path: Path) -> None:
    with running_appliance(tmp_path) as running, running.connect() as client:
        ask(client, request("SCRIPT", "DEBUG", "YES"), b"+OK\r\n")
        stopped = b"*2\r\n+* Stopped at 1, stop reason = step over\r\n+-> 1   return 1\r\n"
        ask(client, request("EVAL", "return 1", 0), stopped)
        copies = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        assert len(copies) == 1
        assert running.stop() == 0
        assert not Path("/proc", copies[0]).exists()
        running.assert_nothing_left()


def test_end_waits_for_replies_that_are_under_way(tmp_path: Path) -> None:
    # On a machine that does not get through with it in time, less has to do.
    for size in (8_000_000, 1_000_000, 100_000):
        with running_appliance(tmp_path) as appliance, appliance.connect() as client:
            ask(client, request("SET", "large", b"v" * size), b"+OK\r\n")
            client.sendall(request("GET", "large"))
            head = b"$%d\r\n" % size
            assert receive_exactly(client, len(head)) == head
            began = time.monotonic()
            appliance.process.send_signal(signal.SIGTERM)
            with suppress(ConnectionResetError):
                rest = receive_to_end(client)
            is_late = time.monotonic() - began >= _GRACE_S
            client.close()
            assert appliance.wait() == 0
        if not is_late:
            assert rest == b"v" * size + b"\r\n"
            return
    pytest.skip("the machine stood still again and again")


def test_end_does_not_wait_for_ever_for_a_client_that_never_reads(tmp_path: Path) -> None:
    with running_appliance(tmp_path) as appliance, appliance.connect(receive_buffer=4096) as client:
        ask(client, request("SET", "large", b"v" * 8_000_000), b"+OK\r\n")
        client.sendall(request("GET", "large"))
        receive_exactly(client, 10)
        appliance.process.send_signal(signal.SIGTERM)
        # The grace ends with RST, which the client sees once it has read what it has.
        assert appliance.wait() == 0
        appliance.assert_nothing_left()


def test_second_signal_ends_it_too(tmp_path: Path) -> None:
    """How soon is for a test with a clock of its own, and there is one."""
    with running_appliance(tmp_path) as appliance, appliance.connect(receive_buffer=4096) as client:
        ask(client, request("SET", "large", b"v" * 8_000_000), b"+OK\r\n")
        client.sendall(request("GET", "large"))
        receive_exactly(client, 10)
        appliance.process.send_signal(signal.SIGTERM)
        until(lambda: appliance.control_map("REDTAP", "STATUS")["is_stopping"] == 1, what="it is stopping")
        appliance.process.send_signal(signal.SIGTERM)
        assert appliance.wait() == 0


def test_new_clients_are_refused_while_it_ends(tmp_path: Path) -> None:
    for _ in range(5):
        with running_appliance(tmp_path) as appliance, appliance.connect(receive_buffer=4096) as client:
            ask(client, request("SET", "large", b"v" * 8_000_000), b"+OK\r\n")
            client.sendall(request("GET", "large"))
            receive_exactly(client, 10)
            began = time.monotonic()
            appliance.process.send_signal(signal.SIGTERM)
            try:
                until(lambda: appliance.control_map("REDTAP", "STATUS")["is_stopping"] == 1)
                outcome: object = appliance.connect()
            except Exception as error:
                outcome = error
            is_late = time.monotonic() - began >= _GRACE_S
            assert appliance.wait() == 0
        if not is_late:
            assert isinstance(outcome, ConnectionRefusedError)
            return
    pytest.skip("the machine stood still again and again")


def test_end_under_load_leaves_nothing(tmp_path: Path) -> None:
    """Requests keep coming while it stops: every client sees the end, and in order."""
    with running_appliance(tmp_path) as appliance, ExitStack() as stack:
        clients = [stack.enter_context(appliance.connect()) for _ in range(8)]
        answered = [0] * len(clients)
        failures: list[BaseException] = []

        def hammer(number: int) -> None:
            client = clients[number]
            try:
                while True:
                    client.sendall(_PING * 10)
                    data = client.recv(1000)
                    if not data:
                        return
                    assert data.strip(b"+PONG\r\n") == b""
                    answered[number] += len(data)
            except (BrokenPipeError, ConnectionResetError):
                return  # it wrote once more after the FIN
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=hammer, args=(number,)) for number in range(len(clients))]
        for thread in threads:
            thread.start()
        until(lambda: min(answered) > 1_000, what="all are being served")
        appliance.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert failures == []
        assert appliance.wait() == 0


# -- the link -----------------------------------------------------------------------------------------------


def test_link_down_and_up_again_goes_on_where_it_was(own_appliance: RunningAppliance) -> None:
    with own_appliance.connect() as client:
        ask(client, _PING, _PONG)
        own_appliance.run("ip", "link", "set", PEER_LINK, "down")
        # Nothing gets through, and the control socket does not care.
        assert own_appliance.control("PING") == "PONG"
        client.sendall(_PING)
        own_appliance.run("ip", "link", "set", PEER_LINK, "up")
        # Both sides' timers bring back what was lost.
        assert receive_exactly(client, len(_PONG)) == _PONG
    own_appliance.ping()


def test_link_that_is_taken_away_ends_the_appliance_with_one_line(tmp_path: Path) -> None:
    appliance = RunningAppliance.start(tmp_path)
    try:
        appliance.ping()
        appliance.run("ip", "link", "del", PEER_LINK)
        assert appliance.wait() == 1
        appliance.assert_nothing_left()
        lines = [line for line in appliance.log.read_text().splitlines() if line.startswith("redtap:")]
        assert len(lines) == 1
        assert f"the network device {DEVICE} is gone" in lines[0]
        assert "Traceback" not in appliance.log.read_text()
    finally:
        appliance.discard()


def test_namespace_whose_name_is_taken_away_serves_on_and_ends_well(tmp_path: Path) -> None:
    # The appliance holds the namespace; only its name has gone, and with it the way in for new clients.
    with running_appliance(tmp_path) as appliance, appliance.connect() as client:
        subprocess.run(["ip", "netns", "del", appliance.namespace], check=True, timeout=60)
        ask(client, _PING, _PONG)
        assert appliance.control("PING") == "PONG"


@pytest.mark.parametrize("busy_poll", ["50", "20000"])
def test_busy_poll_leaves_the_control_socket_and_the_timers_alive(tmp_path: Path, busy_poll: str) -> None:
    with running_appliance(tmp_path, "--busy-poll", busy_poll) as appliance, appliance.connect() as client:
        for number in range(50):
            ask(client, b"INCR n\r\n", b":%d\r\n" % (number + 1))
            if number % 10 == 0:
                assert len(appliance.connections()) == 1
