"""The engine on kernel sockets, as its own process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "appliance.shell.kernel_server", "--port"]


@contextmanager
def kernel_server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen([*COMMAND, "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("kernel-server: ready on 127.0.0.1:")
            yield process, int(line.rsplit(":", 1)[1])
        finally:
            process.kill()


def test_it_serves_and_ends_on_sigterm() -> None:
    with kernel_server() as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"SET a 1\r\nGET a\r\n")
            reply = b""
            while len(reply) < len(b"+OK\r\n$1\r\n1\r\n"):
                reply += client.recv(100)
            assert reply == b"+OK\r\n$1\r\n1\r\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_it_ends_on_shutdown() -> None:
    with kernel_server() as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"SHUTDOWN NOSAVE\r\n")
            assert client.recv(100) == b""
        assert process.wait(60) == 0


def test_taken_port_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run([*COMMAND, port], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == f"kernel-server: cannot listen on 127.0.0.1:{port}: Address already in use\n"
