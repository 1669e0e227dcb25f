"""`redtap bench --echo`: our TCP beside PyTCP's, the other one in Python, each with an echo service.

One client on a kernel socket in the namespace, in turn: 64 bytes there and back, one after another, and
blocks of 16 KiB likewise. Where PyTCP is not installed the run says so and measures ours alone.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from appliance.bench.echo_server import ADDRESS, PORT
from appliance.bench.peers import ready_line, stop
from appliance.bench.report import format_ratio, ratio
from appliance.errors import HostError
from netns.inside import inside

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SIZES", "echo_table", "measure_echo", "round_trips", "why_no_pytcp"]

SIZES: Final = (64, 16_384)
_TIMEOUT_S: Final = 20.0
_WARM_UP: Final = 20
_STACKS: Final = {"redtap": "own", "pytcp": "pytcp"}


def why_no_pytcp() -> str:
    """Why PyTCP is not measured; empty when it is."""
    if importlib.util.find_spec("pytcp") is None:
        return "PyTCP is not installed: pip install 'PyTCP<3'"
    if importlib.util.find_spec("pytcp.lib.stack") is None:
        return "this PyTCP has another interface than 2.7: pip install 'PyTCP<3'"
    return ""


def round_trips(client: socket.socket, size: int, seconds: float) -> list[float]:
    """Milliseconds of each round trip of `size` bytes, one after another, for `seconds`.

    Raises:
        HostError: something else came back, or the end.
    """
    data = os.urandom(size)
    for _ in range(_WARM_UP):
        _there_and_back(client, data)
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while not times or time.perf_counter() < ends:
        began = time.perf_counter()
        _there_and_back(client, data)
        times.append((time.perf_counter() - began) * 1000)
    return times


def _there_and_back(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    back = b""
    while len(back) < len(data):
        try:
            part = client.recv(len(data) - len(back))
        except TimeoutError:
            raise HostError(f"no echo of {len(data)} bytes within {_TIMEOUT_S:g} s") from None
        if not part:
            raise HostError("the echo service ended the connection")
        back += part
    if back != data:
        raise HostError("the echo was not what was sent")


def measure_echo(*, rounds: int, seconds: float, progress: Callable[[str], None]) -> dict[str, Any]:
    """Both stacks in turn, `rounds` times for each size.

    Raises:
        HostError: a server fails, or does not echo.
    """
    missing = why_no_pytcp()
    names = ["redtap"] if missing else list(_STACKS)
    rows = []
    with ExitStack() as stack:
        places = {name: _start(stack, name) for name in names}
        for size in SIZES:
            measured: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for number in range(rounds):
                for name in names if number % 2 == 0 else names[::-1]:
                    progress(f"echo of {size} bytes, round {number + 1} of {rounds}: {name}")
                    measured[name].append(_run(places[name], size, seconds))
            rows.append(_row(size, measured))
    return {
        "rounds": rounds,
        "seconds": seconds,
        "not_measured": [f"pytcp: {missing}"] if missing else [],
        "echo": rows,
    }


def _start(stack: ExitStack, name: str) -> str:
    place = f"echo{os.getpid()}-{name}"
    argv = [sys.executable, *(["-O"] if name == "pytcp" else []), "-m", "appliance.bench.echo_server"]
    argv += [_STACKS[name], "--netns", place]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    stack.callback(stop, process)
    ready_line(process, f"the echo service on {name}")
    return place


def _run(place: str, size: int, seconds: float) -> dict[str, float]:
    def connect() -> socket.socket:
        client = socket.create_connection((ADDRESS, PORT), _TIMEOUT_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    with inside(place, connect) as client:
        times = sorted(round_trips(client, size, seconds))
    return {
        "rps": len(times) * 1000 / sum(times),
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[min(len(times) - 1, len(times) * 99 // 100)],
    }


def _row(size: int, measured: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"bytes": size, "rounds": measured, "ratio": None}
    if "pytcp" in measured:
        ours, theirs = ([run["rps"] for run in measured[name]] for name in _STACKS)
        row["ratio"] = ratio(ours, theirs, best=max)
    return row


def echo_table(summary: dict[str, Any]) -> Table:
    """For people."""
    made = Table(title=f"echo over a TAP, one client, medians of {summary['rounds']} rounds")
    for name in ("bytes", "stack", "round trips/s", "p50 ms", "p99 ms", "redtap / PyTCP (range, scatter)"):
        made.add_column(name, justify="right")
    for row in summary["echo"]:
        for name, runs in row["rounds"].items():
            made.add_row(
                f"{row['bytes']:,}",
                name,
                f"{median(run['rps'] for run in runs):,.0f}",
                f"{median(run['p50_ms'] for run in runs):.3f}",
                f"{median(run['p99_ms'] for run in runs):.3f}",
                format_ratio(row["ratio"]) if row["ratio"] and name == "pytcp" else "",
            )
    return made
