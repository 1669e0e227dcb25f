"""MIGRATE's connections: out through our own stack, kept for a while, and closed.

A task for each migration connects, or takes a connection that is kept; says what the engine has to say, in
pieces; reads until all is answered; and hands the outcome to the engine. Each of these steps may take the
command's timeout, as with redis-server: a target that is slow but goes on is waited for.

A connection that went well is kept for ten seconds, since keys mostly leave in many commands. It may have
been closed at the other end: then the engine's `failed` asks for a second attempt, on a new one.

Source:     redis-server 8.2: how long, how many, what is an error of connecting and what of writing.
Errors:     none; the client is told.
Not here:   what is said and what the answers mean (`redis/migration.py`).
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from appliance.errors import LocalProtocolError
from appliance.redis.migration import CONNECTING, PIECE, READING, UNSELECTED, WRITING
from appliance.shell.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.redis.engine import Engine
    from appliance.redis.migration import Migration
    from appliance.shell.network import Network
    from appliance.shell.tcp_stream import TcpStream

__all__ = ["Migrator"]

_KEPT: Final = 64
"""Connections at once, of which the one that was used least lately goes for a new one."""

_KEPT_US: Final = 10_000_000
"""Since its last use."""

_log = get_logger("migrate")


class _Target:
    """A connection to another server."""

    __slots__ = ("selected", "stream", "used_us")

    def __init__(self, stream: TcpStream) -> None:
        self.stream = stream
        self.selected = UNSELECTED
        self.used_us = 0


class _FailedError(Exception):
    """A part of the talk came to nothing."""

    def __init__(self, part: bytes, *, timed_out: bool) -> None:
        super().__init__(part.decode())
        self.part = part
        self.timed_out = timed_out


@contextmanager
def _step(part: bytes, timeout_s: float) -> Iterator[None]:
    """One step of the talk: what breaks it, or takes too long, becomes `_FailedError`."""
    try:
        with trio.fail_after(timeout_s):
            yield
    except trio.TooSlowError:
        raise _FailedError(part, timed_out=True) from None
    except trio.BrokenResourceError:
        raise _FailedError(part, timed_out=False) from None


class Migrator:
    """Carries out the migrations of one engine, from `run` on; what comes earlier waits for that.

    Args:
        engine: Whose `migrations.port` this is, until `run` ends.
        network: The way out.
        after: Called when the engine was told of an outcome: sessions may have something to say.
    """

    def __init__(self, engine: Engine, network: Network, after: Callable[[], None]) -> None:
        self._engine = engine
        self._network = network
        self._after = after
        self._nursery: trio.Nursery | None = None
        # By host and port as clients wrote them, in the order of their last use.
        self._kept: dict[tuple[bytes, int], _Target] = {}
        # A client may be quicker than the task that `run` is in.
        self._early: list[Migration] = []
        engine.migrations.port = self

    @property
    def cached_connections(self) -> int:
        """Those that are kept."""
        return len(self._kept)

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                for migration in self._early:
                    self.start(migration)
                self._early.clear()
                await trio.sleep_forever()
        finally:
            self._engine.migrations.port = None
            self.close_kept()

    def start(self, migration: Migration) -> None:
        """Called by the engine, inside a command."""
        if self._nursery is None:
            self._early.append(migration)
            return
        self._nursery.start_soon(self._carry_out, migration, name="migration")

    def close_idle(self) -> None:
        """Close what was kept long enough; to be called now and then."""
        too_old = self._network.clock.now() - _KEPT_US
        while self._kept:
            name, target = next(iter(self._kept.items()))
            if target.used_us > too_old:
                break
            self._kept.pop(name).stream.close()

    def close_kept(self) -> None:
        """Close all that are kept."""
        for target in self._kept.values():
            target.stream.close()
        self._kept.clear()

    # One migration --------------------------------------------------------------------------------

    async def _carry_out(self, migration: Migration) -> None:
        while True:
            try:
                await self._attempt(migration)
            except _FailedError as failure:
                if migration.failed(failure.part, timed_out=failure.timed_out):
                    continue
            break
        if migration.error:
            _log.info(
                "keys did not leave",
                host=migration.host.decode("utf-8", "backslashreplace"),
                port=migration.port,
                keys=len(migration.keys),
                taken=len(migration.taken),
                error=migration.error.decode("utf-8", "backslashreplace"),
            )
        self._engine.migrations.over(migration, self._network.clock.unix_now())
        self._after()

    async def _attempt(self, migration: Migration) -> None:
        """Say all and hear all, on one connection.

        Raises:
            _FailedError: something went wrong; the connection is closed.
        """
        name = (migration.host, migration.port)
        timeout_s = migration.timeout_us / 1_000_000
        target = self._kept.pop(name, None)
        if target is None:
            target = _Target(await self._connect(migration, timeout_s))
        stream = target.stream
        try:
            migration.begin(target.selected)
            while output := migration.next_output():
                for start in range(0, len(output), PIECE):
                    with _step(WRITING, timeout_s):
                        await stream.send_all(output[start : start + PIECE])
            while not migration.is_answered:
                with _step(READING, timeout_s):
                    data = await stream.receive_some()
                if not data:
                    raise _FailedError(READING, timed_out=False)
                migration.receive(data)
        except BaseException:
            # What the target has not got yet is not to reach it after the client was told of a failure.
            stream.abort()
            raise
        if migration.is_reusable:
            self._keep(name, target, migration.selected)
        else:
            stream.close()

    async def _connect(self, migration: Migration, timeout_s: float) -> TcpStream:
        # A refusal is for redis-server one of writing: it does not look before it writes.
        if migration.port == 0:  # where nobody can be
            raise _FailedError(WRITING, timed_out=False)
        try:
            with trio.fail_after(timeout_s):
                address = await _address(migration.host)
                stream = await self._network.open_tcp_stream(address, migration.port)
                stream.set_nodelay(True)
                return stream
        except trio.BrokenResourceError:
            raise _FailedError(WRITING, timed_out=False) from None
        except (trio.TooSlowError, OSError, ValueError, LocalProtocolError):
            # Nor does it try these twice: a name that means nothing, or no room for a connection.
            raise _FailedError(CONNECTING, timed_out=True) from None

    def _keep(self, name: tuple[bytes, int], target: _Target, selected: int) -> None:
        target.selected = selected
        target.used_us = self._network.clock.now()
        self._kept[name] = target
        if len(self._kept) > _KEPT:
            self._kept.pop(next(iter(self._kept))).stream.close()


async def _address(host: bytes) -> str:
    """The IPv4 address of a host; a name is asked of the system's resolver, which may take its time.

    Raises:
        OSError, ValueError: It has none.
    """
    name = host.decode("ascii")
    if not name:
        raise ValueError("no host")
    found = await trio.socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    return str(found[0][4][0])
