"""The benchmark's other servers, as processes of their own on the loopback."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port: int = other.getsockname()[1]
        return port


@contextmanager
def server(name: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    argv = [sys.executable, "-m", f"appliance.bench.{name}", "--port", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().endswith(f"ready on 127.0.0.1:{port}\n")
            yield process, port
        finally:
            process.kill()


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


def talk(client: socket.socket, request: bytes, reply: bytes) -> None:
    client.sendall(request)
    got = b""
    while len(got) < len(reply):
        part = client.recv(1 << 16)
        assert part, f"the end after {got[:100]!r}"
        got += part
    assert got == reply


SET = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
GET = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"


@needs("uvloop")
def test_uvloop_serves_the_engine_and_ends_on_sigterm() -> None:
    large = b"x" * 1_000_000
    with server("uvloop_server") as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            talk(client, SET + GET * 3, b"+OK\r\n" + b"$1\r\n1\r\n" * 3)
            talk(client, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\n%b\r\n" % large, b"+OK\r\n")
            talk(client, GET * 4, (b"$1000000\r\n%b\r\n" % large) * 4)
            with socket.create_connection(("127.0.0.1", port), timeout=60) as other:
                talk(other, b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n", b":2\r\n")
                kill = b"*4\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n$2\r\nID\r\n$1\r\n1\r\n"
                talk(other, kill, b":1\r\n")
            assert client.recv(10) == b""
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@needs("uvloop")
def test_uvloop_ends_on_shutdown() -> None:
    with server("uvloop_server") as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"SHUTDOWN NOSAVE\r\n")
            assert client.recv(100) == b""
        assert process.wait(60) == 0


@needs("fakeredis")
def test_fakeredis_answers() -> None:
    with server("fakeredis_server") as (_, port):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            talk(client, SET, b"+OK\r\n")
            # It tells simple strings from bulk strings by what is in them.
            talk(client, GET, b"+1\r\n")
