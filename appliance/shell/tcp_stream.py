"""TCP of our own behind trio's interfaces: anything written for `trio.abc.Stream` runs over it.

Invariants: a method looks at the connection's state, not at events; events only wake it. So an event that
            came before the stream existed, or that woke a task too early, loses nothing.
Errors:     mapped here and nowhere else. `ConnectionFailed` becomes `trio.BrokenResourceError` and stays its
            cause; use after `aclose` (or after `send_eof`, for sending) is `trio.ClosedResourceError`; two
            tasks doing the same is `trio.BusyResourceError`.
Flushing:   sending flushes at once, since the caller has said all it wanted to. Reading flushes at the
            next scheduler round: the ACK or window update it may cause then rides on the reply, if any.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

import trio

from appliance.shell.addresses import format_address
from appliance.shell.pump import DETACHED
from appliance.shell.waiting import Waiter
from appliance.stack.tcp.connection import (
    EVENT_CLOSED,
    EVENT_OPENED,
    EVENT_PEER_CLOSED,
    EVENT_READABLE,
    EVENT_WRITABLE,
)
from appliance.stack.tcp.state import SYN_RECEIVED, SYN_SENT, rfc_name

if TYPE_CHECKING:
    from appliance.shell.pump import ConnectionPort, Pump
    from appliance.stack.listener import Listener
    from appliance.stack.tcp.connection import Connection

__all__ = ["TcpListener", "TcpStream"]

_DEFAULT_READ: Final = 65_536
_WAKES_RECEIVE: Final = EVENT_READABLE | EVENT_PEER_CLOSED | EVENT_CLOSED
_WAKES_SEND: Final = EVENT_OPENED | EVENT_WRITABLE | EVENT_CLOSED
_OPENING: Final = (SYN_SENT, SYN_RECEIVED)


class TcpStream(trio.abc.HalfCloseableStream):
    """One TCP connection as a stream; `Network.open_tcp_stream` and `TcpListener.accept` make it."""

    __slots__ = (
        "_connection",
        "_is_closed",
        "_is_receiving",
        "_is_sending",
        "_may_receive",
        "_may_send",
        "_pump",
        "_sent_eof",
    )

    def __init__(self, pump: Pump, connection: Connection) -> None:
        self._pump = pump
        self._connection = connection
        self._is_closed = False
        self._sent_eof = False
        self._is_sending = False
        self._is_receiving = False
        self._may_send = Waiter()
        self._may_receive = Waiter()
        pump.port_of(connection).handler = self

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else rfc_name(self._connection.state)
        return f"<TcpStream {self.local} - {self.remote} {state}>"

    @property
    def local(self) -> tuple[str, int]:
        """Our address and port."""
        return format_address(self._connection.local_address), self._connection.local_port

    @property
    def remote(self) -> tuple[str, int]:
        """The peer's address and port."""
        return format_address(self._connection.remote_address), self._connection.remote_port

    def statistics(self) -> dict[str, int | str]:
        """What the connection knows of itself, like Linux's `tcp_info`: state, cwnd, srtt_us …"""
        return self._connection.info()

    def set_nodelay(self, on: bool) -> None:
        """Switch Nagle's algorithm off (True) or on."""
        self._connection.set_nodelay(on)

    # ---- the pump's side

    def on_events(self, connection: Connection) -> None:
        """Wake whoever waits for this; called by the pump."""
        events = connection.take_events()
        woken = False
        if events & _WAKES_RECEIVE:
            woken = self._may_receive.wake()
        if events & _WAKES_SEND and self._may_send.wake():
            woken = True
        if woken:
            self._pump.has_woken = True

    # ---- trio.abc.SendStream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to TCP, waiting while its buffer is full."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._is_sending = True
        try:
            self._check_sendable()
            await trio.lowlevel.checkpoint_if_cancelled()
            # The connection keeps a reference until the bytes are acknowledged: they must not change.
            chunk = data if type(data) is bytes else bytes(memoryview(data))
            size = len(chunk)
            sent = 0
            waited = False
            connection = self._connection
            while True:
                self._check_sendable()
                if sent < size:
                    taken = connection.send(chunk, sent)
                    if taken:
                        sent += taken
                        self._pump.flush()
                if sent >= size:
                    break
                await self._may_send.wait()
                waited = True
            if not waited:
                await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the send buffer has space, or when sending would fail."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._is_sending = True
        try:
            self._check_sendable()
            await trio.lowlevel.checkpoint()
            while True:
                self._check_sendable()
                # A byte for which there is no room is not taken: it asks to be told when there is some.
                if self._connection.send_space() > 0 or self._connection.send(b"\0"):
                    return
                await self._may_send.wait()
        finally:
            self._is_sending = False

    async def send_eof(self) -> None:
        """Half-close: FIN after what has been sent; receiving goes on."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._is_closed:
            raise trio.ClosedResourceError("this stream is closed")
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._sent_eof:
            self._check_sendable()
            self._sent_eof = True
            self._connection.shutdown()
            self._pump.flush()
        await trio.lowlevel.cancel_shielded_checkpoint()

    # ---- trio.abc.ReceiveStream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """1 to `max_bytes` bytes (default 64 KiB) as soon as there are any; `b""` after the peer's FIN."""
        if max_bytes is None:
            max_bytes = _DEFAULT_READ
        else:
            max_bytes = operator.index(max_bytes)
            if max_bytes < 1:
                raise ValueError("max_bytes must be at least 1")
        if self._is_receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._is_receiving = True
        try:
            if self._is_closed:
                raise trio.ClosedResourceError("this stream is closed")
            await trio.lowlevel.checkpoint_if_cancelled()
            connection = self._connection
            waited = False
            while True:
                if self._is_closed:
                    raise trio.ClosedResourceError("this stream was closed by another task")
                data = connection.receive(max_bytes)
                if data:
                    self._pump.flush_soon()
                    break
                if connection.at_eof():
                    break
                if connection.is_closed:
                    raise self._broken()
                await self._may_receive.wait()
                waited = True
            if not waited:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        finally:
            self._is_receiving = False

    # ---- the end

    async def aclose(self) -> None:
        """`close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close both ways. What was sent is still delivered, by TCP, after this returns; a peer that sends
        more, or whose data was not read, gets RST (RFC 9293 SHLD-3). Does not block."""
        if self._let_go():
            if not self._connection.is_closed:
                self._connection.close()
            self._pump.flush()

    def abort(self) -> None:
        """RST, and forget what was not yet delivered. Does not block."""
        if self._let_go():
            if not self._connection.is_closed:
                self._connection.abort()
            self._pump.flush()

    def _let_go(self) -> bool:
        if self._is_closed:
            return False
        self._is_closed = True
        port: ConnectionPort = self._connection.owner  # type: ignore[assignment]
        port.handler = DETACHED
        self._connection.take_events()
        self._may_send.wake()
        self._may_receive.wake()
        return True

    async def _wait_opened(self) -> None:
        """For the active open: until ESTABLISHED or failed."""
        connection = self._connection
        while connection.state in _OPENING and not connection.is_closed:
            await self._may_send.wait()
        if connection.is_closed:
            raise self._broken()
        await trio.lowlevel.checkpoint()

    def _check_sendable(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream is closed")
        if self._sent_eof:
            raise trio.ClosedResourceError("this stream's sending side is closed (send_eof)")
        if self._connection.is_closed:
            raise self._broken()

    def _broken(self) -> trio.BrokenResourceError:
        failure = self._connection.failure()
        if failure is None:
            return trio.BrokenResourceError("the connection is closed")
        error = trio.BrokenResourceError(str(failure) or type(failure).__name__)
        error.__cause__ = failure
        return error


class TcpListener(trio.abc.Listener[TcpStream]):
    """Accepts connections; `Network.listen_tcp` makes it."""

    def __init__(self, pump: Pump, listener: Listener) -> None:
        self._pump = pump
        self._listener = listener
        self._waiting = trio.lowlevel.ParkingLot()
        listener.owner = self

    def __repr__(self) -> str:
        return f"<TcpListener {format_address(self._listener.address)}:{self._listener.port}>"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.port

    def on_opened(self, port: ConnectionPort) -> None:
        """Wake one accepting task; called by the pump."""
        if self._waiting:
            self._waiting.unpark()
            self._pump.has_woken = True

    async def accept(self) -> TcpStream:
        """The oldest connection not yet accepted, waiting for one. Several tasks may wait."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            if self._listener.is_closed:
                raise trio.ClosedResourceError("this listener is closed")
            connection = self._listener.accept()
            if connection is not None:
                break
            await self._waiting.park()
            waited = True
        stream = TcpStream(self._pump, connection)
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return stream

    async def aclose(self) -> None:
        """Stop listening. Connections that nobody accepted are reset."""
        if not self._listener.is_closed:
            self._listener.close()
            self._waiting.unpark_all()
            self._pump.flush()
        await trio.lowlevel.checkpoint()
