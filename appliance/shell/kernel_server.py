"""The same engine on the kernel's TCP, under trio: the benchmark's measure of what our own stack gains.

    python -m appliance.shell.kernel_server --port 6400

Prints one ready line; ends on SIGINT, SIGTERM or SHUTDOWN. It is meant to be as good as trio's sockets
allow (no delay, no needless task switch), so that the comparison is fair.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance import __version__
from appliance.errors import HostError
from appliance.redis.engine import Engine, EngineSettings
from appliance.shell.clock import Clock
from appliance.shell.debug_fork import DebugForks
from appliance.shell.groups import ungrouped
from appliance.shell.redis_service import dispatch_pending, run_cron, serve_redis_stream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main", "serve_on_kernel"]


async def serve_on_kernel(
    engine: Engine,
    clock: Clock,
    *,
    host: str,
    port: int,
    on_ready: Callable[[int], None],
) -> None:
    """Serve `engine` on a kernel socket until cancelled or SHUTDOWN.

    Args:
        port: 0 takes a free one.
        on_ready: Called with the port it got.

    Raises:
        HostError: The port cannot be had.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise HostError(f"cannot listen on {host}:{port}: {error.strerror}") from error

    async def serve_client(stream: trio.SocketStream) -> None:
        # trio has switched Nagle off already.
        peer = stream.socket.getpeername()
        own = stream.socket.getsockname()
        await serve_redis_stream(
            engine, stream, clock, remote=f"{peer[0]}:{peer[1]}", local=f"{own[0]}:{own[1]}"
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(DebugForks(engine, partial(dispatch_pending, engine)).run)
        nursery.start_soon(partial(trio.serve_listeners, serve_client, listeners))
        on_ready(listeners[0].socket.getsockname()[1])
        await run_cron(engine, clock)
        nursery.cancel_scope.cancel()


async def _run(host: str, port: int) -> None:
    engine = Engine(EngineSettings(port=port, redtap_version=__version__), os.urandom)
    engine.stopwatch = time.perf_counter_ns
    with ungrouped(), trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await serve_on_kernel(engine, Clock(), host=host, port=port, on_ready=announce)
                nursery.cancel_scope.cancel()

            def announce(got: int) -> None:
                sys.stdout.write(f"kernel-server: ready on {host}:{got}\n")
                sys.stdout.flush()

            nursery.start_soon(serve)
            async for _ in signals:
                nursery.cancel_scope.cancel()


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m appliance.shell.kernel_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    options = parser.parse_args(arguments)
    try:
        trio.run(_run, options.host, options.port)
    except HostError as error:
        sys.stderr.write(f"kernel-server: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
