"""A kernel's client that never reads, and what becomes of it and of the others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.running import ask, receive_exactly, receive_to_end, request, until

if TYPE_CHECKING:
    import socket

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

_LISTEN = request("SUBSCRIBE", "c")
_LISTENING = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"


def _fact(appliance: RunningAppliance, section: str, name: str) -> int:
    reply = appliance.control("INFO", section)
    assert isinstance(reply, str)
    return int(reply.split(f"{name}:")[1].split()[0])


def test_a_subscriber_that_never_reads_is_closed_and_others_are_served(appliance: RunningAppliance) -> None:
    deaf = appliance.connect()
    ask(deaf, _LISTEN, _LISTENING)
    hearing = appliance.connect()
    ask(hearing, _LISTEN, _LISTENING)
    speaker = appliance.connect()
    size = 1 << 20
    published = request("PUBLISH", "c", bytes(size))
    message = request("message", "c", bytes(size))
    heard_by_both = 0
    for _ in range(100):
        speaker.sendall(published)
        assert receive_exactly(hearing, len(message)) == message
        reply = receive_exactly(speaker, 4)
        if reply == b":1\r\n":
            break
        assert reply == b":2\r\n"
        heard_by_both += 1
    # The limit of 32 MiB, and what the buffers of the two ends hold.
    assert 32 <= heard_by_both <= 60
    until(lambda: _fact(appliance, "clients", "connected_clients") == 3, what="the deaf client is gone")
    mark = f":{deaf.getsockname()[1]}"
    deaf.close()
    until(
        lambda: not any(one["remote"].endswith(mark) for one in appliance.connections()),
        what="its connection is gone",
    )
    ask(speaker, request("PING"), b"+PONG\r\n")
    for client in (hearing, speaker):
        client.close()


def test_an_idle_client_is_closed_after_the_timeout(appliance: RunningAppliance) -> None:
    client = appliance.connect()
    ask(client, request("CONFIG", "SET", "timeout", 1), b"+OK\r\n")
    try:
        assert client.recv(10) == b""
    finally:
        appliance.control("CONFIG", "SET", "timeout", "0")
        client.close()


def _refused(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def test_a_request_above_the_limit_is_not_executed_and_counted(appliance: RunningAppliance) -> None:
    admin = appliance.connect()
    ask(admin, request("CONFIG", "SET", "client-query-buffer-limit", 1 << 20), b"+OK\r\n")
    with appliance.connect() as client:
        ask(client, request("SET", "k", bytes((1 << 20) - 2)), b"+OK\r\n")
        ask(admin, request("STRLEN", "k"), b":1048574\r\n")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(request("SET", "k", bytes((1 << 20) - 1)))
        assert _refused(client)
    ask(admin, request("STRLEN", "k"), b":1048574\r\n")
    assert _fact(appliance, "stats", "client_query_buffer_limit_disconnections") == 1
    admin.close()


def test_fewer_clients_than_there_are_leave_those_and_refuse_newcomers(appliance: RunningAppliance) -> None:
    clients = [appliance.connect() for _ in range(4)]
    for client in clients:
        ask(client, request("PING"), b"+PONG\r\n")
    ask(clients[0], request("CONFIG", "SET", "maxclients", 2), b"+OK\r\n")
    for client in clients:
        ask(client, request("PING"), b"+PONG\r\n")
    with appliance.connect() as late:
        assert receive_to_end(late) == b"-ERR max number of clients reached\r\n"
    assert _fact(appliance, "stats", "rejected_connections") == 1
    assert _fact(appliance, "clients", "maxclients") == 2
    for client in clients[1:]:
        client.close()
    # The control socket, which asks, is counted as connected but takes nobody's place.
    until(lambda: _fact(appliance, "clients", "connected_clients") == 2, what="the others have gone")
    with appliance.connect() as late:
        ask(late, request("PING"), b"+PONG\r\n")
    clients[0].close()


def test_an_unfinished_request_is_seen_while_it_lasts(appliance: RunningAppliance) -> None:
    admin = appliance.connect()
    with appliance.connect() as client:
        ask(client, request("CLIENT", "SETNAME", "slow"), b"+OK\r\n")
        client.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$90000\r\n" + bytes(50_000))

        def listed() -> str:
            reply = appliance.control("CLIENT", "LIST")
            assert isinstance(reply, str)
            return next(line for line in reply.splitlines() if " name=slow " in line)

        until(lambda: " qbuf=50000 " in listed())
        assert " argv-mem=6 " in listed()
        until(lambda: _fact(appliance, "clients", "client_recent_max_input_buffer") == 50_000)
        ask(client, bytes(40_000) + b"\r\n", b"+OK\r\n")
        assert " qbuf=0 qbuf-free=0 argv-mem=0 " in listed()
    admin.close()
