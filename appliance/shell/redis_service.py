"""Redis over TCP: sessions of the engine, driven inside the pump's step.

For a connection of our own stack there is no task per client and no wake-up per request: when the pump
says that bytes are there, they go through the session and the replies into the send buffer, and the step's
one flush carries them, with the ACK. `serve_redis_stream` runs the same session over any trio stream.

Back-pressure: replies that the send buffer does not take are kept by reference, in order. While more than
`OUTPUT_LIMIT` bytes are kept the connection is not read, its receive window closes, and the client's
kernel makes it wait. The limit is high on purpose: a client that writes a long pipeline before it reads any
reply works with redis-server, which does not stop reading at all, and must work here.

Closing: after QUIT, a protocol error or CLIENT KILL the replies go out, then FIN, and what the peer still
sends is read and thrown away for `_LINGER_US`, because data that meets a closed connection is answered by
RST and a RST can take the last reply out of the peer's receive buffer.

Invariants: a session is closed once, when its connection is over or has been let go.
Errors:     one from inside a session is a bug of ours: it is logged with its traceback and ends that
            connection only.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

from appliance.shell.addresses import format_endpoint
from appliance.shell.logs import get_logger
from appliance.shell.pump import DETACHED
from appliance.shell.waiting import Waiter
from appliance.stack.tcp.buffers import WORTH_KEEPING_WHOLE
from appliance.stack.tcp.connection import EVENT_PEER_CLOSED, EVENT_READABLE

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session
    from appliance.shell.clock import Clock
    from appliance.shell.network import Network
    from appliance.shell.pump import ConnectionPort
    from appliance.stack.tcp.connection import Connection

__all__ = [
    "OUTPUT_LIMIT",
    "RedisService",
    "dispatch_pending",
    "run_cron",
    "serve_redis_stream",
    "serve_session",
]

OUTPUT_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of replies kept for one client before it is not read any more."""

_READ_SIZE: Final = 65_536
"""Bytes given to a session at once: the replies to them are the most that can pile up between two looks at
the output limit."""

_LINGER_US: Final = 2_000_000
_CRON_S: Final = 0.1

_log = get_logger("redis")


class _SessionOwner(Protocol):
    """What the shell puts into `Session.owner`."""

    def on_session_output(self) -> None:
        """The session got output, or an end, from outside its own `data_received`."""


def dispatch_pending(engine: Engine) -> None:
    """Tell the owners of sessions that have something to say on their own account.

    Call it after anything that ran commands.
    """
    for session in engine.take_pending_sessions():
        owner: _SessionOwner | None = session.owner  # type: ignore[assignment]
        if owner is not None:
            owner.on_session_output()


async def run_cron(engine: Engine, clock: Clock) -> None:
    """The engine's housekeeping ten times a second, as redis-server's `hz 10`, until a SHUTDOWN."""
    while not engine.shutdown_requested:
        await trio.sleep(_CRON_S)
        clock.resync()
        engine.cron(clock.unix_now())
        dispatch_pending(engine)


class RedisService:
    """The Redis port of an appliance.

    Args:
        network: Where to listen.
        engine: Shared with everything else that serves it.
        port: TCP port.
        output_limit: Bytes of replies kept for one client before it is not read any more.

    Raises:
        LocalProtocolError: The port is taken.
    """

    def __init__(
        self, network: Network, engine: Engine, port: int = 6379, *, output_limit: int = OUTPUT_LIMIT
    ) -> None:
        self.network = network
        self.engine = engine
        self.clock = network.clock
        self.pump = network.pump
        self.output_limit = output_limit
        self.lingering: set[_RedisConnection] = set()
        """Said all, waiting for the peer's FIN or for the end of its patience."""
        self._listener = network.listen(port)
        self._listener.owner = self
        self.pump.add_step_hook(self._after_handlers)

    async def run(self) -> None:
        """Housekeeping of the connections; `run_cron` is the engine's."""
        while True:
            await trio.sleep(_CRON_S)
            if self.lingering:
                now = self.clock.now()
                expired = [one for one in self.lingering if one.linger_until <= now]
                for one in expired:
                    one.end()
                if expired:
                    self.pump.flush()

    def stop(self) -> None:
        """No new connections; FIN to every client after the replies it is owed."""
        self._listener.close()
        for connection in self.network.interface.connections():
            port: ConnectionPort | None = connection.owner  # type: ignore[assignment]
            if port is not None and isinstance(port.handler, _RedisConnection):
                port.handler.finish()
        self.pump.flush()

    def on_opened(self, port: ConnectionPort) -> None:
        """Accept whoever waits; called by the pump."""
        accept = self._listener.accept
        connection = accept()
        while connection is not None:
            one = _RedisConnection(self, connection)
            self.pump.port_of(connection).handler = one
            # Bytes may have come with the handshake's last ACK, before anyone could be told.
            one.on_events(connection)
            connection = accept()

    def _after_handlers(self) -> None:
        dispatch_pending(self.engine)


class _RedisConnection:
    """One client: a connection, its session, and the replies that did not fit yet."""

    __slots__ = (
        "connection",
        "is_finishing",
        "kept_bytes",
        "linger_until",
        "offset",
        "output",
        "pump",
        "service",
        "session",
    )

    def __init__(self, service: RedisService, connection: Connection) -> None:
        self.service = service
        self.pump = service.pump
        self.connection = connection
        self.session: Session = service.engine.create_session(
            remote=format_endpoint(connection.remote_address, connection.remote_port),
            local=format_endpoint(connection.local_address, connection.local_port),
            now_us=service.pump.unix_now,
        )
        self.session.owner = self
        self.output: deque[bytes] | None = None
        """Replies the send buffer has not taken; None when there are none, to keep idle clients small."""
        self.offset = 0
        """Bytes of output[0] that it has taken."""
        self.kept_bytes = 0
        self.is_finishing = False
        """No more requests are read: FIN follows the output."""
        self.linger_until = 0
        # Replies leave when the step ends, all of them in one go: Nagle could only add delay.
        connection.set_nodelay(True)

    # ---- called by the pump, by the engine's dispatcher and by the service

    def on_events(self, connection: Connection) -> None:
        """Called by the pump, once for every request of a client that does not pipeline: keep it short."""
        events = connection.take_events()
        if events != EVENT_READABLE or self.output is not None or self.is_finishing:
            self._on_rare_events(connection, events)
            return
        session = self.session
        data = connection.receive_whole(_READ_SIZE)
        try:
            session.data_received(data, self.pump.unix_now)
        except Exception:
            self._fail()
            return
        output = session.take_output()
        if len(output) == 1:
            reply = output[0]
            taken = connection.send(reply)
            if taken < len(reply):
                self._keep(reply, taken)
        elif output:
            self._write(output)
        if session.is_closing:
            self.finish()
        elif len(data) >= WORTH_KEEPING_WHOLE:
            self._read(connection)  # there may be more

    def _on_rare_events(self, connection: Connection, events: int) -> None:
        if connection.is_closed:
            self._over()
            return
        if self.output is not None:
            self._write_kept()
        if not self.is_finishing:
            self._read(connection)
        elif events & (EVENT_READABLE | EVENT_PEER_CLOSED):
            self._discard()

    def on_session_output(self) -> None:
        """Output or an end that another client caused."""
        session = self.session
        if self.is_finishing or self.connection.is_closed:
            return
        self._write(session.take_output())
        if session.is_closing:
            self.finish()
        self.service.pump.flush()

    def finish(self) -> None:
        """Read no more requests; FIN after the replies."""
        if not self.is_finishing and not self.connection.is_closed:
            self.is_finishing = True
            self._close_session()
            self.linger_until = self.service.clock.now() + _LINGER_US
            self.service.lingering.add(self)
            if self.output is None:
                self._say_goodbye()

    def end(self) -> None:
        """Let go: what comes from now on is answered by RST."""
        self._over()
        if not self.connection.is_closed:
            if self.output is None:
                self.connection.close()
            else:
                # Patience is over and the peer still has not taken its replies.
                self.output = None
                self.connection.abort()

    # ---- inside

    def _read(self, connection: Connection) -> None:
        """Serve what has been received, as far as the limit on unsent replies allows."""
        session = self.session
        limit = self.service.output_limit
        while self.kept_bytes <= limit:
            data = connection.receive_whole(_READ_SIZE)
            if not data:
                if connection.at_eof():
                    self.finish()
                return
            try:
                session.data_received(data, self.pump.unix_now)
            except Exception:
                self._fail()
                return
            self._write(session.take_output())
            if session.is_closing:
                self.finish()
                return

    def _write(self, output: list[bytes]) -> None:
        send = self.connection.send
        for chunk in output:
            if self.output is None:
                taken = send(chunk)
                if taken < len(chunk):
                    self._keep(chunk, taken)
            else:
                self.output.append(chunk)
                self.kept_bytes += len(chunk)

    def _keep(self, chunk: bytes, taken: int) -> None:
        """The send buffer is full; what follows goes behind this."""
        self.output = deque((chunk,))
        self.offset = taken
        self.kept_bytes = len(chunk) - taken

    def _write_kept(self) -> None:
        kept = self.output
        send = self.connection.send
        while kept:
            chunk = kept[0]
            taken = send(chunk, self.offset)
            self.kept_bytes -= taken
            self.offset += taken
            if self.offset < len(chunk):
                return
            kept.popleft()
            self.offset = 0
        self.output = None
        if self.is_finishing:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """All is said: FIN, then listen for the peer's, for a while."""
        connection = self.connection
        connection.shutdown()
        self._discard()

    def _discard(self) -> None:
        connection = self.connection
        while connection.receive(_READ_SIZE):
            pass
        if connection.at_eof() and self.output is None:
            self.end()

    def _over(self) -> None:
        self._close_session()
        self.service.lingering.discard(self)
        port: ConnectionPort = self.connection.owner  # type: ignore[assignment]
        port.handler = DETACHED
        if self.connection.is_closed:
            self.output = None

    def _close_session(self) -> None:
        self.session.owner = None
        self.session.close()

    def _fail(self) -> None:
        """In an exception handler: our bug costs this client its connection, and nobody else anything."""
        _log.exception("a session failed", remote=self._remote())
        self._over()
        self.connection.abort()

    def _remote(self) -> str:
        return format_endpoint(self.connection.remote_address, self.connection.remote_port)


class _StreamOwner:
    """Owner of a session over a trio stream: wakes the task that writes what others caused."""

    __slots__ = ("has_output",)

    def __init__(self) -> None:
        self.has_output = Waiter()

    def on_session_output(self) -> None:
        self.has_output.wake()


class SessionLike(Protocol):
    """What `serve_session` drives: the engine's `Session`, or something round one."""

    owner: object | None

    @property
    def is_closing(self) -> bool: ...

    def data_received(self, data: bytes, now_us: int) -> None: ...

    def take_output(self) -> list[bytes]: ...

    def close(self) -> None: ...


async def serve_redis_stream(
    engine: Engine, stream: trio.abc.Stream, clock: Clock, *, remote: str = "", local: str = ""
) -> None:
    """Run one session over any trio stream (kernel TCP, TLS, unix) until either side ends it.

    Args:
        stream: Closed at the end.
        remote: The peer, as CLIENT LIST shows it.
        local: Our end, likewise.
    """
    session = engine.create_session(remote=remote, local=local, now_us=clock.unix_now())
    await serve_session(session, engine, stream, clock)


async def serve_session(session: SessionLike, engine: Engine, stream: trio.abc.Stream, clock: Clock) -> None:
    """Run `session` over `stream` until either side ends it; both are closed then.

    A peer that vanishes (`trio.BrokenResourceError`) is a normal end. Back-pressure is the stream's: while it
    does not take the replies, nothing is read.
    """
    owner = _StreamOwner()
    session.owner = owner
    sending = trio.Lock()

    async def write_what_others_cause(scope: trio.CancelScope) -> None:
        while not session.is_closing:
            await owner.has_output.wait()
            async with sending:
                output = session.take_output()
                if output:
                    await stream.send_all(b"".join(output))
        scope.cancel()

    try:
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(write_what_others_cause, nursery.cancel_scope)
            while not session.is_closing:
                data = await stream.receive_some(_READ_SIZE)
                if not data:
                    break
                session.data_received(bytes(data), clock.unix_now())
                dispatch_pending(engine)
                output = session.take_output()
                if output:
                    # Taking a free lock by acquire() would cost a scheduler round per request.
                    if sending.locked():
                        await sending.acquire()
                    else:
                        sending.acquire_nowait()
                    try:
                        await stream.send_all(output[0] if len(output) == 1 else b"".join(output))
                    finally:
                        sending.release()
            nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError:
        pass
    finally:
        session.owner = None
        session.close()
