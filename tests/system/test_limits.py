"""A kernel's client that never reads, and what becomes of it and of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.running import ask, receive_exactly, request, until

if TYPE_CHECKING:
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
