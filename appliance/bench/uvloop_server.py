"""The same engine on the kernel's TCP, under asyncio with uvloop: the fastest way there from Python.

    python -m appliance.bench.uvloop_server --host 127.0.0.1 --port 6400

A `Protocol` per connection, whose `data_received` runs the session and writes the replies at once: no task
and no stream between the socket and the engine, so that the comparison is with the best that can be had.
Prints one ready line; ends on SIGINT, SIGTERM or SHUTDOWN.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Final, cast

import uvloop

from appliance.redis.engine import Engine, EngineSettings
from appliance.shell.redis_service import dispatch_pending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.redis.session import Session

__all__ = ["main"]

_CRON_S: Final = 0.1
_BACKLOG: Final = 4096


class _Clock:
    """Unix time, read once per batch at most: reading it costs as much as it does the others."""

    def unix_now(self) -> int:
        return time.time_ns() // 1000


class _Client(asyncio.Protocol):
    """One connection and its session."""

    def __init__(self, engine: Engine, clock: _Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self._session = self._engine.create_session(
            remote=f"{peer[0]}:{peer[1]}", local=f"{own[0]}:{own[1]}", now_us=self._clock.unix_now()
        )
        self._session.owner = self

    def data_received(self, data: bytes) -> None:
        assert self._session is not None
        self._session.data_received(data, self._clock.unix_now())
        self.on_session_output()
        dispatch_pending(self._engine)

    def on_session_output(self) -> None:
        """Write what the session has to say; `dispatch_pending` calls it for what others caused."""
        session, transport = self._session, self._transport
        assert session is not None
        assert transport is not None
        output = session.take_output()
        if output:
            transport.write(output[0] if len(output) == 1 else b"".join(output))
        if session.is_closing:
            transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        assert self._session is not None
        self._session.owner = None
        self._session.close()

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()


async def _run(host: str, port: int) -> None:
    engine = Engine(EngineSettings(port=port), os.urandom)
    engine.stopwatch = time.perf_counter_ns
    clock = _Clock()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: _Client(engine, clock), host, port, backlog=_BACKLOG)
    sys.stdout.write(f"uvloop-server: ready on {host}:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while not stop.is_set() and not engine.shutdown_requested:
        try:
            await asyncio.wait_for(stop.wait(), _CRON_S)
        except TimeoutError:
            engine.cron(clock.unix_now())
            dispatch_pending(engine)
    server.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m appliance.bench.uvloop_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    options = parser.parse_args(arguments)
    try:
        uvloop.run(_run(options.host, options.port))
    except OSError as error:
        sys.stderr.write(f"uvloop-server: cannot listen on {options.host}:{options.port}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
