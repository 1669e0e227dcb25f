"""Redis over TCP: sessions of the engine, driven inside the pump's step.

For a connection of our own stack there is no task per client and no wake-up per request: the pump calls the
connection itself (redis_connection.py). `serve_redis_stream` runs the same session over any trio stream.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, Protocol

import trio

from appliance.errors import LocalProtocolError
from appliance.shell.addresses import format_address
from appliance.shell.clock import trio_time
from appliance.shell.debug_fork import DebugForks
from appliance.shell.logs import get_logger
from appliance.shell.memory import Collector, give_back
from appliance.shell.migrator import Migrator
from appliance.shell.redis_connection import INPUT_LIMIT, OUTPUT_LIMIT, RedisAcceptor, RedisConnection
from appliance.shell.waiting import Waiter

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session
    from appliance.shell.clock import Clock
    from appliance.shell.network import Network
    from appliance.shell.pump import ConnectionPort

__all__ = [
    "OUTPUT_LIMIT",
    "RedisService",
    "dispatch_pending",
    "run_cron",
    "serve_redis_stream",
    "serve_session",
]

_log = get_logger("redis")

_READ_SIZE: Final = 65_536
_HOUSEKEEPING_S: Final = 0.1
_MANY_PIECES: Final = 50
"""Of housekeeping, from which on freed pages go back to the system."""


class _SessionOwner(Protocol):
    """What the shell puts into `Session.owner`."""

    def on_session_output(self) -> None:
        """The session got output, or an end, from outside its own `data_received`."""


def dispatch_pending(engine: Engine) -> None:
    """Tell the owners of sessions that have something to say on their own account.

    Call it after anything that ran commands.
    """
    sessions = engine.take_pending_sessions()
    while sessions:
        for session in sessions:
            owner: _SessionOwner | None = session.owner  # type: ignore[assignment]
            if owner is not None:
                owner.on_session_output()
        # They may have read on, and executed what concerns others again.
        sessions = engine.take_pending_sessions()


async def run_cron(engine: Engine, clock: Clock) -> None:
    """The engine's time, until a SHUTDOWN.

    Housekeeping as often as `hz` says, ten times a second by default, and the deadlines of commands that
    wait. What is much (a million keys that expire at once, a dropped database) goes in pieces, and clients
    have their turn between two of them.
    """
    await _EngineTime(engine, clock).run()


class _EngineTime:
    """Sleeps until the engine's next deadline, which a command may move to be earlier."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.nap = trio.CancelScope()

    async def run(self) -> None:
        engine = self.engine
        clock = self.clock
        collector = Collector(clock.now())
        pieces = 0  # of work since there was none
        next_cron = trio.current_time() + engine.cron_period_us() / 1_000_000
        engine.on_earlier_timeout = self._wake_earlier
        engine.client_limits.on_close = _log_closed
        try:
            while not engine.shutdown_requested:
                with trio.CancelScope(deadline=min(next_cron, self._next_timeout())) as self.nap:
                    await trio.sleep_forever()
                if trio.current_time() >= next_cron:
                    clock.resync()
                    engine.cron(clock.unix_now())
                    collector.look(clock.now(), engine.ops_per_second == 0)
                    # Not from the last one's time: after a long pause one is enough.
                    next_cron = trio.current_time() + engine.cron_period_us() / 1_000_000
                if self._next_timeout() <= trio.current_time():
                    engine.handle_timeouts(clock.unix_now())
                dispatch_pending(engine)
                if engine.is_busy:
                    pieces += 1
                    if pieces % _MANY_PIECES == 0 and not engine.releases.is_empty():
                        give_back()  # the more there is, the longer it takes: 4 ms for two million keys
                else:
                    if pieces >= _MANY_PIECES:
                        give_back()  # a large table was resized or dropped, or many keys went
                    pieces = 0
        finally:
            engine.on_earlier_timeout = None
            engine.client_limits.on_close = None

    def _next_timeout(self) -> float:
        """On trio's clock."""
        return trio_time(self.engine.next_timeout_us() - self.clock.unix_offset)

    def _wake_earlier(self) -> None:
        deadline = self._next_timeout()
        if deadline < self.nap.deadline:
            self.nap.deadline = deadline


class RedisService:
    """The Redis port of an appliance.

    Args:
        network: Where to listen.
        engine: Shared with everything else that serves it.
        port: TCP port.
        output_limit: Bytes of replies kept for one client before it is not read any more.
        input_limit: The same for input behind a command that waits.
        lingering: Clients of an earlier service that have been told its end and not gone yet; see
            `RedisService.lingering`.

    Raises:
        LocalProtocolError: The port is taken.
    """

    def __init__(
        self,
        network: Network,
        engine: Engine,
        port: int = 6379,
        *,
        output_limit: int = OUTPUT_LIMIT,
        input_limit: int = INPUT_LIMIT,
        lingering: set[RedisConnection] | None = None,
    ) -> None:
        self.network = network
        self.engine = engine
        self.clock = network.clock
        self.pump = network.pump
        self._listener = network.listen(port, backlog=self._backlog())
        self._acceptor = RedisAcceptor(self.pump, engine, self._listener, output_limit, input_limit)
        self._listener.owner = self._acceptor
        if lingering is not None:
            self._acceptor.lingering = lingering
        self.lingering: set[RedisConnection] = self._acceptor.lingering
        """Said all, waiting for the peer's FIN or for the end of its patience."""
        self._migrator = Migrator(engine, network, self._after_handlers)
        self._debug_forks = DebugForks(engine, self._after_handlers)
        self.pump.add_step_hook(self._after_handlers)
        engine.configuration.on_change("port", self._move)
        engine.configuration.on_change("bind", self._check_addresses)
        engine.configuration.on_change("maxclients", self._check_clients)

    async def run(self) -> None:
        """Housekeeping of the connections, those that MIGRATE makes, and copies for debugging scripts.

        `run_cron` is the engine's.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._migrator.run, name="migrator")
            nursery.start_soon(self._debug_forks.run, name="debug forks")
            await self._keep_house()

    async def _keep_house(self) -> None:
        while True:
            await trio.sleep(_HOUSEKEEPING_S)
            self._migrator.close_idle()
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
        self._migrator.close_kept()
        for client in self._clients():
            client.finish()
        self.pump.flush()

    def crash(self) -> None:
        """No new connections; RST to every client, as when a server dies with what clients sent unread."""
        self._listener.close()
        self._migrator.close_kept()
        for client in self._clients():
            client.reset()
        self.pump.flush()

    def detach(self) -> None:
        """Be called by the pump no more; after `stop` or `crash`."""
        self.pump.remove_step_hook(self._after_handlers)

    def _clients(self) -> list[RedisConnection]:
        found = []
        for connection in self.network.interface.connections():
            port: ConnectionPort | None = connection.owner  # type: ignore[assignment]
            if port is not None and isinstance(port.handler, RedisConnection):
                found.append(port.handler)
        return found

    def _backlog(self) -> int:
        return max(1, self.engine.configuration.integer("tcp-backlog"))

    def _move(self, value: bytes) -> None:
        """CONFIG SET port: who is connected stays; at port 0 nobody listens, as with redis-server."""
        port = int(value)
        old = self._listener
        if port != 0:
            try:
                self._listener = self.network.listen(port, backlog=self._backlog())
            except LocalProtocolError:
                raise ValueError("Unable to listen on this port. Check server logs.") from None
            self._acceptor.listener = self._listener
            self._listener.owner = self._acceptor
        old.close()
        self.engine.settings.port = port

    def _check_addresses(self, value: bytes) -> None:
        """CONFIG SET bind: the appliance has one address, and cannot listen on another one."""
        ours = format_address(self.network.interface.config.address)
        for word in value.decode("latin-1").split(" ") if value else []:
            name = word.removeprefix("-")
            if name in ("*", "0.0.0.0", ours) or (name != word and _is_address(name)):
                continue
            raise ValueError("Failed to bind to specified addresses.")

    def _check_clients(self, value: bytes) -> None:
        """CONFIG SET maxclients: the pool of connections is what the limit on descriptors is elsewhere."""
        most = self.network.interface.config.max_connections
        if int(value) > most:
            raise ValueError(
                f"The operating system is not able to handle the specified number of clients, try with {most}"
            )

    def _after_handlers(self) -> None:
        dispatch_pending(self.engine)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "::*"
    return True


def _log_closed(session: Session, reason: str) -> None:
    limits = session.engine.client_limits
    _log.info(
        reason,
        client=session.remote,
        id=session.id,
        unsent=int(session.output_bytes()),
        unfinished=int(session.query_bytes()),
        bytes=limits.memory_of(session),
    )


class _StreamOwner:
    """Owner of a session over a trio stream: wakes the task that writes what others caused.

    And the one that reads, when it has stopped because the session keeps too much input.
    """

    __slots__ = ("has_output", "has_room", "scope", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.scope: trio.CancelScope | None = None
        self.has_output = Waiter()
        self.has_room = Waiter()

    def on_session_output(self) -> None:
        if self.session.is_over_limit and self.scope is not None:
            self.scope.cancel()  # the peer may never take what is being written
        self.has_output.wake()
        self.has_room.wake()


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


async def serve_session(session: Session, engine: Engine, stream: trio.abc.Stream, clock: Clock) -> None:
    """Run `session` over `stream` until either side ends it; both are closed then.

    A peer that vanishes (`trio.BrokenResourceError`) is a normal end. Back-pressure is the stream's: while it
    does not take the replies, nothing is read. While the session waits inside a command it is read on, so
    that the end of the stream is seen.
    """
    owner = _StreamOwner(session)
    session.owner = owner
    sending = trio.Lock()

    async def write_what_others_cause(scope: trio.CancelScope) -> None:
        while True:
            if session.has_output():
                async with sending:
                    await stream.send_all(b"".join(session.take_output()))
            elif session.is_closing:
                scope.cancel()
                return
            else:
                await owner.has_output.wait()  # what comes while we send is seen above

    try:
        async with stream, trio.open_nursery() as nursery:
            owner.scope = nursery.cancel_scope
            if session.is_closing:  # too many clients
                await stream.send_all(b"".join(session.take_output()))
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
                while session.kept_bytes > INPUT_LIMIT and not session.is_closing:
                    await owner.has_room.wait()
            if session.is_closing:
                async with sending:  # and not before the other task has sent what it took
                    await stream.send_all(b"".join(session.take_output()))
            nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError:
        pass
    finally:
        session.owner = None
        session.close()
