"""Two interfaces joined by a wire in memory, and what tests of the shell do with them.

All of it runs under `trio.testing.MockClock(autojump_threshold=0)` (the fixture `autojump_clock`): waiting
costs no time, and the packets depend on nothing but the seeds.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from appliance.shell.clock import Clock
from appliance.shell.link import MemoryLink, memory_link_pair
from appliance.shell.network import Network, open_network
from appliance.stack.interface import InterfaceConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from appliance.shell.tcp_stream import TcpListener, TcpStream
    from appliance.stack.tcp.config import TcpConfig

CLIENT = "10.0.0.1"
SERVER = "10.0.0.2"
EPOCH_US = 1_700_000_000_000_000


def interface_config(
    last_byte: int, *, vnet_header: bool = True, max_connections: int = 10_000, tcp: TcpConfig | None = None
) -> InterfaceConfig:
    return InterfaceConfig(
        mac=bytes((2, 0, 0, 0, 0, last_byte)),
        address=(10 << 24) + last_byte,
        prefix_length=24,
        vnet_header=vnet_header,
        max_connections=max_connections,
        tcp=tcp,
        random_bytes=random.Random(last_byte).randbytes,
    )


@asynccontextmanager
async def two_networks(
    *,
    vnet_header: bool = True,
    max_connections: int = 10_000,
    tcp: TcpConfig | None = None,
    links: tuple[MemoryLink, MemoryLink] | None = None,
) -> AsyncIterator[tuple[Network, Network]]:
    """A client's and a server's network, at `CLIENT` and `SERVER`."""
    near, far = links or memory_link_pair(vnet_header=vnet_header)
    clock = Clock(EPOCH_US)
    client_config = interface_config(1, vnet_header=vnet_header, tcp=tcp)
    server_config = interface_config(2, vnet_header=vnet_header, max_connections=max_connections, tcp=tcp)
    async with open_network(near, client_config, clock=clock) as client:
        async with open_network(far, server_config, clock=clock) as server:
            yield client, server


def lose_all(_frame: bytes) -> list[bytes]:
    """For `MemoryLink.on_write`: the wire is cut."""
    return []


async def connect(client: Network, server: Network, listener: TcpListener) -> tuple[TcpStream, TcpStream]:
    """A stream of the client's and its other end."""
    near = await client.open_tcp_stream(SERVER, listener.port)
    far = await listener.accept()
    return near, far


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait, in virtual time, until `condition` holds."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  nothing tells us when
            await trio.sleep(0.001)


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """`size` bytes; fails at an earlier end of the stream."""
    data = bytearray()
    while len(data) < size:
        chunk = await stream.receive_some(size - len(data))
        assert chunk, f"the stream ended after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


async def ask(stream: trio.abc.Stream, request: bytes, reply: bytes) -> None:
    """Send `request` and expect exactly `reply`."""
    await stream.send_all(request)
    assert await receive_exactly(stream, len(reply)) == reply
