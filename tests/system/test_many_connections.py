"""Ten thousand clients at once, the one too many, and what an idle one costs."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.running import ADDRESS, PORT, receive_to_end, request, running_appliance, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

_PING = request("PING")
_PONG = b"+PONG\r\n"


@contextmanager
def _descriptors(wanted: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} file descriptors for the clients, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _open(count: int, clients: ExitStack) -> list[socket.socket]:
    """Connect `count` clients; to be called inside the namespace."""
    opened = []
    for _ in range(count):
        client = clients.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        client.settimeout(60)
        client.connect((ADDRESS, PORT))
        opened.append(client)
    return opened


def _connections(appliance: RunningAppliance) -> int:
    return int(appliance.control_map("REDTAP", "STATUS")["connections"])


def _check_all_answer(clients: list[socket.socket]) -> None:
    # All ask before the first answer is read: the appliance holds all of them in one batch or a few.
    for client in clients:
        client.sendall(_PING)
    for client in clients:
        assert client.recv(100) == _PONG


def test_10000_clients_are_open_and_answered_and_the_next_is_refused(
    tmp_path: Path, is_compiled: bool
) -> None:
    count = 10_000
    with _descriptors(count + 200), running_appliance(tmp_path) as appliance, ExitStack() as stack:
        # What the first client causes, such as imports, is nobody's cost per connection.
        appliance.ping()
        until(lambda: _connections(appliance) <= 1, what="the first client is gone but for its TIME-WAIT")
        before = appliance.resident_bytes()
        clients = appliance.inside(lambda: _open(count, stack))
        idle = appliance.resident_bytes()
        assert _connections(appliance) == count
        _check_all_answer(clients)
        after = appliance.resident_bytes()
        per_idle, per_used = (idle - before) / count, (after - before) / count
        print(f"\nbytes of memory per idle connection: {per_idle:.0f}; after a request each: {per_used:.0f}")
        if is_compiled:
            assert per_idle < 16 * 1024
            assert per_used < 16 * 1024

        # A reply whose ACK waits in the queue behind ten thousand requests is no reason to repeat it. Whether the
        # queue was emptied in time is the machine's affair; tests/shell/test_network.py has a clock of its own.
        print(f"retransmission timeouts: {appliance.counters()['retransmission_timeouts']}")

        with pytest.raises(ConnectionRefusedError):
            appliance.connect()
        assert appliance.counters()["connections_refused_pool_full"] >= 1  # a late RST has the SYN repeated
        assert appliance.control("PING") == "PONG"

        # The client closes first, so our end passes through LAST-ACK and its place is free at once.
        clients[0].close()
        until(lambda: _connections(appliance) == count - 1, what="one place is free")
        with appliance.connect() as late:
            late.sendall(_PING)
            assert late.recv(100) == _PONG
            with pytest.raises(ConnectionRefusedError):
                appliance.connect()
        _check_all_answer(clients[1:])
        stack.close()
        until(lambda: _connections(appliance) == 0, 60, "all connections are gone")
        until(
            lambda: appliance.control_map("REDTAP", "STATUS")["timer_tasks"] == 0,
            what="and so are their tasks",
        )
        appliance.ping()


def test_time_wait_gives_way_when_the_pool_is_full(tmp_path: Path) -> None:
    with running_appliance(tmp_path, "--max-connections", "8") as appliance:
        for _ in range(40):
            # QUIT: we close first, and TIME-WAIT stays with us.
            with appliance.connect() as client:
                client.sendall(request("QUIT"))
                assert client.recv(100) == b"+OK\r\n"
                assert client.recv(100) == b""
        states = {one["state"] for one in appliance.connections()}
        assert states == {"TIME-WAIT"}
        assert len(appliance.connections()) == 8
        assert appliance.counters()["connections_refused_pool_full"] == 0


def test_same_port_again_while_we_are_in_time_wait(appliance: RunningAppliance) -> None:
    """RFC 9293 §3.6.1: a SYN beyond the old sequence numbers may use the 4-tuple again."""

    def use(port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("", port))
            client.settimeout(60)
            client.connect((ADDRESS, PORT))
            client.sendall(_PING + request("QUIT"))
            # To our FIN: we close first, and TIME-WAIT is ours.
            assert receive_to_end(client) == _PONG + b"+OK\r\n"

    def is_in_time_wait() -> bool:
        states = [one["state"] for one in appliance.connections() if one["remote"].endswith(":20000")]
        return states == ["TIME-WAIT"]

    for _ in range(20):
        appliance.inside(lambda: use(20_000))
        until(is_in_time_wait)


def test_clients_that_come_and_go_leave_no_memory_behind(
    own_appliance: RunningAppliance, is_compiled: bool
) -> None:
    count = 4_000 if is_compiled else 1_500

    def come_and_go() -> None:
        for number in range(count):
            with socket.create_connection((ADDRESS, PORT), timeout=60) as client:
                client.sendall(request("SET", "k", number))
                assert client.recv(100) == b"+OK\r\n"

    def settled() -> int:
        until(lambda: _connections(own_appliance) == 0)
        return own_appliance.resident_bytes()

    # Timers of the dead are forgotten in batches, so memory grows a little at first, and then no more.
    sizes = []
    for _ in range(12):
        own_appliance.inside(come_and_go)
        sizes.append(settled())
        if len(sizes) > 1 and sizes[-1] - sizes[-2] < 256 * 1024:
            break
    else:
        raise AssertionError(f"memory after each {count} clients: {sizes}")


@pytest.mark.links(
    "tap",
    "tun",
    "packet",
    reason="RST is sent once, and before an XDP program a veth pair has room for 256 frames only",
)
def test_client_killed_with_thousands_of_sockets_leaves_no_connection(
    own_appliance: RunningAppliance, is_compiled: bool
) -> None:
    count = 2_000
    with _descriptors(count + 200):
        for _ in range(2):
            with ExitStack() as stack:
                clients = own_appliance.inside(lambda stack=stack: _open(count, stack))
                for client in clients:
                    client.sendall(_PING + _PING[:7])
                # Unread replies make the kernel send RST where it would have sent FIN.
            until(lambda: _connections(own_appliance) == 0, what="all connections are gone")
    own_appliance.ping()


def test_burst_of_connects_larger_than_the_backlog_is_served(own_appliance: RunningAppliance) -> None:
    count = 2_000

    def burst(stack: ExitStack) -> list[socket.socket]:
        opened = []
        for _ in range(count):
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            client.setblocking(False)
            client.connect_ex((ADDRESS, PORT))
            opened.append(client)
        return opened

    with _descriptors(count + 200), ExitStack() as stack:
        clients = own_appliance.inside(lambda: burst(stack))
        for client in clients:
            client.settimeout(60)
            # Blocks until the handshake is done, a repeated SYN included.
            client.sendall(_PING)
        for client in clients:
            assert client.recv(100) == _PONG
