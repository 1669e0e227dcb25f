"""The trio face of one interface: listen, connect, flush, shut down.

`open_network` runs the pump, one timer task per connection and the link's own timers in one nursery, and
gives a `Network` to use. Leaving the block ends all of it: connections still open are reset, so that no
peer is left waiting for us, and after that nothing of it runs.

Errors:     `HostError` out of the block when the link is gone; `LocalProtocolError` for a port that is taken.
Not here:   what a stream is (`tcp_stream`), what a batch is (`pump`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from appliance.errors import HostError
from appliance.shell.addresses import parse_address
from appliance.shell.clock import Clock
from appliance.shell.groups import ungrouped
from appliance.shell.pump import Pump
from appliance.shell.tcp_stream import TcpListener, TcpStream
from appliance.stack.interface import Interface
from appliance.stack.tcp.state import CLOSED, TIME_WAIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from appliance.shell.link import Link
    from appliance.stack.interface import InterfaceConfig
    from appliance.stack.listener import Listener

__all__ = ["Network", "open_network"]

_DRAIN_POLL_S: Final = 0.01
"""How often `Network.drain` looks whether the peers have finished; only at shutdown."""

_FINISHED: Final = (CLOSED, TIME_WAIT)


class Network:
    """One interface with its pump; `open_network` makes it."""

    def __init__(
        self,
        link: Link,
        interface: Interface,
        clock: Clock,
        nursery: trio.Nursery,
        *,
        busy_poll_us: int = 0,
    ) -> None:
        self.link = link
        self.interface = interface
        self.clock = clock
        self.pump = Pump(link, interface, clock, nursery, busy_poll_us=busy_poll_us)

    def listen(self, port: int, *, address: int = 0, backlog: int = 512) -> Listener:
        """A listener of the core, for a service that is driven from the pump.

        Raises:
            LocalProtocolError: The port is taken.
        """
        return self.interface.listen(port, address, backlog)

    def listen_tcp(self, port: int, *, address: int = 0, backlog: int = 512) -> TcpListener:
        """A `trio.abc.Listener`; `trio.serve_listeners` takes it.

        Raises:
            LocalProtocolError: The port is taken.
        """
        return TcpListener(self.pump, self.listen(port, address=address, backlog=backlog))

    async def open_tcp_stream(self, host: str | int, port: int, *, local_port: int = 0) -> TcpStream:
        """Connect actively. Put `trio.fail_after` round it for a timeout: cancelling aborts the attempt.

        Args:
            host: A dotted quad or a u32.
            local_port: 0 picks one.

        Raises:
            trio.BrokenResourceError: No connection; its cause is the `ConnectionFailed` that says why.
            LocalProtocolError: No port or no place in the pool is free.
        """
        pump = self.pump
        connection = self.interface.connect(parse_address(host), port, self.clock.now(), local_port)
        stream = TcpStream(pump, connection)
        pump.flush()
        try:
            await stream._wait_opened()
        except BaseException:
            stream.abort()
            raise
        return stream

    async def drain(self, grace_s: float) -> None:
        """Wait up to `grace_s` seconds for the connections to finish (TIME-WAIT is), then abort the rest.

        Close the listeners and the streams first: this only waits. When it is cancelled it aborts at once.
        """
        try:
            with trio.move_on_after(grace_s):
                # An event here would be a check on the hot path for something that happens once.
                while any(one.state not in _FINISHED for one in self.interface.connections()):  # noqa: ASYNC110
                    await trio.sleep(_DRAIN_POLL_S)
        finally:
            self.abort_all()

    def abort_all(self) -> None:
        """RST to every peer; TIME-WAIT just ends."""
        for connection in self.interface.connections():
            if not connection.is_closed:
                connection.abort()
        self.pump.flush()


@asynccontextmanager
async def open_network(
    link: Link, config: InterfaceConfig, *, clock: Clock | None = None, busy_poll_us: int = 0
) -> AsyncIterator[Network]:
    """Run one interface on `link` for the length of the block.

    Args:
        link: Stays the caller's to close.
        clock: Its wall clock matters only to services; None is the system's.
        busy_poll_us: How long the pump asks the link again and again before it sleeps.

    Raises:
        HostError: The link is gone. It comes out of the block alone, not in an exception group, when nothing
            else failed.
    """
    if config.vnet_header != link.vnet_header:
        raise ValueError("the interface and the link must agree about the virtio header")
    if config.vnet_header and config.gso and not link.gso:
        raise ValueError("the interface would hand over segments that the link cannot cut")
    interface = Interface(config, link.gathers)
    with ungrouped():
        async with trio.open_nursery() as nursery:
            network = Network(link, interface, clock or Clock(), nursery, busy_poll_us=busy_poll_us)
            pump = network.pump
            nursery.start_soon(pump.run, name="pump")
            if link.beside is not None:
                nursery.start_soon(pump.run_beside, link.beside, name="pump beside")
            nursery.start_soon(pump.run_flusher, name="flusher")
            nursery.start_soon(pump.run_keeper, name="keeper")
            interface.bring_up(network.clock.now())
            pump.flush()
            try:
                yield network
            finally:
                for listener in interface.listeners():
                    listener.close()
                # When the link is gone the pump has said so, or will not get to: nobody can be told anything.
                with suppress(HostError):
                    network.abort_all()
                nursery.cancel_scope.cancel()
