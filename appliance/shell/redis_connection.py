"""One Redis client on our own TCP, driven inside the pump's step.

When the pump says that bytes are there, they go through the session and the replies into the send buffer, and
the step's one flush carries them, with the ACK. Compiled: every request passes through it.

Back-pressure: replies that the send buffer does not take are kept by reference, in order. While more than
`OUTPUT_LIMIT` bytes are kept the connection is not read, its receive window closes, and the client's
kernel makes it wait. The limit is high on purpose: a client that writes a long pipeline before it reads any
reply works with redis-server, which does not stop reading at all, and must work here. What others send to a
client (messages) is not held up by that; client-output-buffer-limit, which redis-server has for both, ends a
client that leaves too much unread: what is kept for it goes, and so does its connection.

A session that waits inside a command (BLPOP) is read on, up to `INPUT_LIMIT` bytes, so that the end of its
connection is seen at once; a client that closes while it waits is not answered any more, as with
redis-server.

Closing: after QUIT, a protocol error or CLIENT KILL the replies go out, then FIN, and what the peer still
sends is read and thrown away for `_LINGER_US`, because data that meets a closed connection is answered by
RST and a RST can take the last reply out of the peer's receive buffer.

Invariants: a session is closed once, when its connection is over or has been let go.
Errors:     one from inside a session is a bug of ours: it is logged with its traceback and ends that
            connection only.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from appliance.shell.addresses import format_endpoint
from appliance.shell.logs import get_logger
from appliance.shell.stepper import DETACHED, StepHandler
from appliance.stack.tcp.buffers import WORTH_KEEPING_WHOLE
from appliance.stack.tcp.connection import EVENT_PEER_CLOSED, EVENT_READABLE

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session
    from appliance.shell.stepper import ConnectionPort, Stepper
    from appliance.stack.listener import Listener
    from appliance.stack.tcp.connection import Connection

__all__ = ["INPUT_LIMIT", "OUTPUT_LIMIT", "RedisAcceptor", "RedisConnection"]

INPUT_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of requests kept for one session that waits inside a command, before it is not read any more."""

OUTPUT_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of replies kept for one client before it is not read any more."""

_READ_SIZE: Final = 65_536
"""Bytes given to a session at once: the replies to them are the most that can pile up between two looks at
the output limit."""

_LINGER_US: Final = 2_000_000

# Of tcp-keepalive: so many may stay unanswered, and one third of the idle time lies between two.
_PROBES: Final = 3

_log = get_logger("redis")


class RedisAcceptor:
    """Owner of the listener of a Redis port: makes a client of each connection that opens."""

    def __init__(
        self, pump: Stepper, engine: Engine, listener: Listener, output_limit: int, input_limit: int
    ) -> None:
        """See `RedisConnection` for the limits."""
        self.pump: Stepper = pump
        self.engine: Engine = engine
        self.listener: Listener = listener
        self.output_limit: i64 = output_limit
        self.input_limit: i64 = input_limit
        self.lingering: set[RedisConnection] = set()
        """Said all, waiting for the peer's FIN or for the end of its patience."""

    def on_opened(self, port: ConnectionPort) -> None:
        """Accept whoever waits; called by the pump."""
        listener = self.listener
        connection = listener.accept()
        while connection is not None:
            one = RedisConnection(
                self.pump, self.engine, connection, self.output_limit, self.input_limit, self.lingering
            )
            self.pump.port_of(connection).handler = one
            if one.session.is_closing:  # too many clients
                one.on_session_output()
            # Bytes may have come with the handshake's last ACK, before anyone could be told.
            one.on_events(connection)
            connection = listener.accept()


class RedisConnection(StepHandler):
    """One client: a connection, its session, and the replies that did not fit yet."""

    def __init__(
        self,
        pump: Stepper,
        engine: Engine,
        connection: Connection,
        output_limit: i64,
        input_limit: i64,
        lingering: set[RedisConnection],
    ) -> None:
        """Begin a session for an open connection.

        Args:
            output_limit: bytes of replies kept before no more requests are read.
            input_limit: bytes of input kept behind a command that waits.
            lingering: those that have said all and wait for the peer's FIN, or for the end of its patience.
        """
        self.pump: Stepper = pump
        self.connection: Connection = connection
        self.output_limit: i64 = output_limit
        self.input_limit: i64 = input_limit
        self.lingering: set[RedisConnection] = lingering
        self.session: Session = engine.create_session(
            remote=format_endpoint(connection.remote_address, connection.remote_port),
            local=format_endpoint(connection.local_address, connection.local_port),
            now_us=pump.unix_now,
        )
        self.session.owner = self
        # Replies the send buffer has not taken; None when there are none, to keep idle clients small.
        self.output: deque[bytes] | None = None
        self.offset: i64 = 0  # bytes of output[0] that it has taken
        self.kept_bytes: i64 = 0
        self.is_finishing: bool = False  # no more requests are read: FIN follows the output
        self.is_held: bool = False  # finishing, or its session waits inside a command
        self.linger_until: i64 = 0
        # Replies leave when the step ends, all of them in one go: Nagle could only add delay.
        connection.set_nodelay(True)
        idle_us: i64 = engine.client_limits.keepalive_us
        if idle_us > 0:
            connection.set_keepalive(True, idle_us, max(1_000_000, idle_us // _PROBES), _PROBES)

    # ---- called by the pump, by the engine's dispatcher and by the service

    def on_events(self, connection: Connection) -> None:
        """Called by the pump, once for every request of a client that does not pipeline: keep it short."""
        events = connection.take_events()
        if events != EVENT_READABLE or self.output is not None or self.is_held:
            self._on_rare_events(connection, events)
            return
        session = self.session
        data = connection.receive_piece(_READ_SIZE)
        try:
            session.data_received(data, self.pump.unix_now, connection.piece_start())
        except Exception:
            self._fail()
            return
        output = session.take_output()
        if len(output) == 1:
            reply = output[0]
            taken = connection.send(reply)
            if taken < len(reply):
                self._keep(reply, taken)
                self._check_output()
        elif output:
            self._write(output)
        if session.is_closing:
            self.finish()
            return
        if session.is_parked:
            self.is_held = True
        if len(data) >= WORTH_KEEPING_WHOLE:
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
        output = session.take_output()
        if output and self.output is None:
            session.last_interaction_us = self.pump.unix_now  # to be told something is no idleness either
        self._write(output)
        if session.is_closing:
            self.finish()
        elif self.is_held and not session.is_parked:
            self.is_held = False
            self._read(self.connection)
        self.pump.flush()

    def finish(self) -> None:
        """Read no more requests; FIN after the replies."""
        if not self.is_finishing and not self.connection.is_closed:
            self.is_finishing = True
            self.is_held = True
            self._close_session()
            self.linger_until = self.pump.clock.now() + _LINGER_US
            self.lingering.add(self)
            if self.session.is_over_limit:
                self.output = None
                self.kept_bytes = 0
            if self.output is None:
                self._say_goodbye()

    def end(self) -> None:
        """Let go: what comes from now on is answered by RST."""
        self._over()
        if not self.connection.is_closed:
            if self.output is None and not (
                self.session.is_over_limit and self.connection.unsent_and_unacked() > 0
            ):
                self.connection.close()
            else:
                # Patience is over and the peer still has not taken its replies.
                self.output = None
                self.connection.abort()

    def reset(self) -> None:
        """RST, and nothing of what was still to be said."""
        self._over()
        if not self.connection.is_closed:
            self.output = None
            self.connection.abort()

    # ---- inside

    def _read(self, connection: Connection) -> None:
        """Serve what has been received, as far as the limit on unsent replies allows."""
        session = self.session
        limit = self.output_limit
        while self.kept_bytes <= limit and session.kept_bytes <= self.input_limit:
            data = connection.receive_piece(_READ_SIZE)
            if not data:
                if connection.at_eof():
                    self.finish()
                return
            try:
                session.data_received(data, self.pump.unix_now, connection.piece_start())
            except Exception:
                self._fail()
                return
            self._write(session.take_output())
            if session.is_closing:
                self.finish()
                return
            if session.is_parked:
                self.is_held = True
        if session.is_parked and connection.is_fin_received:
            # It will not be answered any more, so what it had still to say does not count.
            self.finish()

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
        if self.output is not None:
            self._check_output()

    def _keep(self, chunk: bytes, taken: int) -> None:
        """The send buffer is full; what follows goes behind this."""
        self.output = deque((chunk,))
        self.offset = taken
        self.kept_bytes = len(chunk) - taken

    def _check_output(self) -> None:
        """More is kept than before: the session may have to end."""
        session = self.session
        session.unsent_bytes = self.kept_bytes
        session.engine.client_limits.check_output(session, self.pump.unix_now)

    def _write_kept(self) -> None:
        kept = self.output
        send = self.connection.send
        while kept:
            chunk = kept[0]
            taken = send(chunk, self.offset)
            self.kept_bytes -= taken
            self.offset += taken
            if self.offset < len(chunk):
                self.session.unsent_bytes = self.kept_bytes
                self.session.last_interaction_us = self.pump.unix_now
                return
            kept.popleft()
            self.offset = 0
        self.output = None
        self.session.unsent_bytes = 0
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
        self.lingering.discard(self)
        port: Any = self.connection.owner
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
