"""A redis-server at the kernel's end of an appliance's link: the reference, for clients in the same namespace."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from netns.inside import spawn
from tests.support.redis_pair import find_redis_server
from tests.support.running import CLIENT_ADDRESS, PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.running import RunningAppliance

OTHER_PORT: Final = 6390


@contextmanager
def redis_server(running: RunningAppliance, directory: Path, *options: str) -> Iterator[None]:
    """A redis-server in the namespace, for the length of the block."""
    binary = find_redis_server()
    assert binary is not None
    argv = [
        binary,
        "--bind",
        CLIENT_ADDRESS,
        "--port",
        str(OTHER_PORT),
        "--save",
        "",
        "--dir",
        str(directory),
    ]
    argv += ["--protected-mode", "no", "--enable-debug-command", "yes", *options]
    log = (directory / "redis.log").open("wb")
    process = spawn(running.namespace, argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(lambda: answers(running), what="a redis-server in the namespace")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        log.close()


def other(running: RunningAppliance) -> socket.socket:
    """A connection to the redis-server."""
    return running.inside(lambda: socket.create_connection((CLIENT_ADDRESS, OTHER_PORT), PATIENCE_S))


def answers(running: RunningAppliance) -> bool:
    try:
        with other(running) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) in (b"+PONG", b"-NOAU")
    except OSError:
        return False
