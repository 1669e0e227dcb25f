"""`redtap bench --flood`: what established clients keep of their speed while forged SYNs come in.

redis-benchmark runs twice in each round, without a flood and with one, against one appliance, in the
namespace that the flood comes from. Flood, clients and appliance share the machine's cores: the figure says
what is left to the clients, not what the appliance spends.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from appliance.bench.cases import CASES
from appliance.bench.peers import Peers
from appliance.errors import HostError
from netns.inside import inside

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bench.peers import Peer

__all__ = ["measure_flood", "table"]

RATES: Final = (20_000, 50_000)
_CASE: Final = CASES[0]
_NEWCOMER_EVERY_S: Final = 0.1
_TIMEOUT_S: Final = 10.0


class _Newcomers(threading.Thread):
    """Honest clients that connect one after another while the flood lasts."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(name="newcomers")
        self._peer = peer
        self._has_ended = threading.Event()
        self.times_ms: list[float] = []
        self.failures = 0

    def run(self) -> None:
        while not self._has_ended.wait(_NEWCOMER_EVERY_S):
            began = time.monotonic()
            try:
                with inside(self._peer.place, self._connect) as client:
                    client.sendall(b"PING\r\n")
                    if client.recv(7) != b"+PONG\r\n":
                        raise OSError("no PONG")
            except OSError:
                self.failures += 1
            else:
                self.times_ms.append((time.monotonic() - began) * 1000)

    def _connect(self) -> socket.socket:
        return socket.create_connection((self._peer.host, self._peer.port), _TIMEOUT_S)

    def end(self) -> None:
        self._has_ended.set()
        self.join()


def _flooded(peer: Peer, rate: int, requests: int) -> dict[str, Any]:
    """One run of the benchmark inside a flood."""
    argv = [sys.executable, "-m", "appliance.bench.syn_flood", "--interface", "redtap0"]
    argv += ["--target", peer.host, "--port", str(peer.port), "--rate", str(rate), "--seconds", "600"]
    flood = peer.run(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert flood.stdin is not None
    assert flood.stdout is not None
    newcomers = _Newcomers(peer)
    try:
        if flood.stdout.readline() != b"ready\n":
            raise HostError("the flood did not start")
        flood.stdin.write(b"\n")
        flood.stdin.flush()
        newcomers.start()
        measured = peer.measure(_CASE, requests)
        newcomers.end()
        flood.stdin.write(b"\n")
        flood.stdin.flush()
        sent, lasted = flood.stdout.readline().split()
        return {
            "rps": measured.rps,
            "p99_ms": measured.p99_ms,
            "syns_per_s": round(int(sent) / float(lasted)),
            "newcomers": len(newcomers.times_ms),
            "newcomers_failed": newcomers.failures,
            "newcomer_ms": round(median(newcomers.times_ms), 2) if newcomers.times_ms else None,
        }
    finally:
        flood.kill()
        flood.communicate()
        if newcomers.is_alive():
            newcomers.end()


def measure_flood(*, rounds: int, seconds: float, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run `rounds` pairs for each rate of RATES.

    Raises:
        HostError: a program is missing or fails.
    """
    rows = []
    with Peers(("redtap",)) as started:
        (peer,) = started.peers
        requests = _CASE.requests(seconds)
        peer.measure(_CASE, max(requests // 10, _CASE.clients))
        for rate in RATES:
            quiet: list[float] = []
            flooded: list[dict[str, Any]] = []
            for number in range(rounds):
                progress(f"{rate} SYN/s, round {number + 1} of {rounds}")
                quiet.append(peer.measure(_CASE, requests).rps)
                memory = peer.resident_bytes()
                flooded.append(_flooded(peer, rate, requests))
                flooded[-1]["grown_bytes"] = peer.resident_bytes() - memory
            ratios = [one["rps"] / other for one, other in zip(flooded, quiet, strict=True)]
            rows.append(
                {
                    "rate": rate,
                    "quiet_rps": quiet,
                    "flooded": flooded,
                    "ratios": ratios,
                    "ratio": median(ratios),
                }
            )
    return {"case": _CASE.name, "rounds": rounds, "floods": rows}


def table(summary: dict[str, Any]) -> Table:
    """For people."""
    made = Table(title=f"{summary['case']} beside a flood of forged SYNs, {summary['rounds']} rounds")
    for name in ("SYN/s", "sent", "quiet", "flooded", "kept", "newcomers", "memory"):
        made.add_column(name, justify="right")
    for row in summary["floods"]:
        runs = row["flooded"]
        failed = sum(run["newcomers_failed"] for run in runs)
        made.add_row(
            f"{row['rate']:,}",
            f"{median(run['syns_per_s'] for run in runs):,.0f}",
            f"{median(row['quiet_rps']):,.0f} rps",
            f"{median(run['rps'] for run in runs):,.0f} rps",
            f"{row['ratio']:.2f} ({min(row['ratios']):.2f} - {max(row['ratios']):.2f})",
            f"{sum(run['newcomers'] for run in runs)} served, {failed} not",
            f"{max(run['grown_bytes'] for run in runs) / 2**20:+.1f} MiB",
        )
    return made
