"""`redtap bench --wire`: our TCP and the kernel's CUBIC, each to a kernel receiver over the same bad wire.

    redtap    our stack with its defaults, MTU-sized frames, no offloads
    kernel    Linux with TCP_CONGESTION cubic and no memory of earlier connections, on a TAP

Each pair of runs has the same seed, so the n-th frame with data meets the same fate, and runs at the same
time, so a busy machine slows both. Faults meet the data; acknowledgments are only delayed.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from appliance.bench.peers import ready_line, stop
from appliance.errors import HostError
from netns.build import build
from netns.inside import inside
from netns.topology import Topology
from netns.wire import Impairments, Wire, frame_pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["WIRE_CASES", "WireCase", "measure_wire", "wire_table"]

_RATE_BPS: Final = 50_000_000
_RECEIVER: Final = "10.79.0.1/24"
_SENDER: Final = "10.79.0.2/24"
_HOST: Final = "10.79.0.2"
_PORT: Final = 7000
_REPLY_BYTES: Final = 10_000
_REPLY_CLIENTS: Final = 8
_ENDLESS: Final = 1 << 40
_TIMEOUT_S: Final = 30.0
_SIDES: Final = ("redtap", "kernel")


@dataclass(frozen=True)
class WireCase:
    """One kind of weather, and what is measured in it.

    Attributes:
        name: for the table and `--case`.
        rtt_ms: without queues.
        loss: of data.
        reorder: part of the frames with data that come `reorder_ms` late.
        is_replies: completion times of replies of 10 kB instead of the goodput of one transfer.
    """

    name: str
    rtt_ms: int
    loss: float = 0.0
    reorder: float = 0.0
    reorder_ms: int = 0
    is_replies: bool = False

    def impairments(self) -> tuple[Impairments, Impairments]:
        """For the direction of the data and for that of the acknowledgments."""
        queue = _RATE_BPS // 8 * self.rtt_ms // 1000  # one product of bandwidth and delay
        delay_us = self.rtt_ms * 500
        return (
            Impairments(
                rate_bps=_RATE_BPS,
                delay_us=delay_us,
                queue_bytes=queue,
                loss=self.loss,
                reorder=self.reorder,
                reorder_us=self.reorder_ms * 1000,
            ),
            Impairments(rate_bps=_RATE_BPS, delay_us=delay_us),
        )


WIRE_CASES: Final = (
    *(
        WireCase(f"goodput, {loss:g} % loss, {rtt} ms", rtt, loss / 100)
        for rtt in (20, 100)
        for loss in (0, 0.1, 1, 3)
    ),
    WireCase("goodput, 2 % reordered by 10 ms, 20 ms", 20, 0.0, 0.02, 10),
    WireCase("10 kB replies, 2 % loss, 20 ms", 20, 0.02, is_replies=True),
)


class _Lane:
    """A receiver in a namespace and one sender, with a wire between them for each run."""

    def __init__(self, stack: ExitStack, side: str, number: int) -> None:
        name = f"wire{os.getpid()}-{side}{number}"
        self.place = f"{name}-to"
        receiver = _end(stack, self.place, _RECEIVER)
        self._right = receiver
        argv = [sys.executable, "-m", "appliance.bench.wire_peer", side]
        argv += ["--address", _HOST, "--port", str(_PORT)]
        if side == "kernel":
            topology = Topology(f"{name}-from", "wire0", _SENDER, vnet_header=False, offloads=False)
            built = stack.enter_context(build(topology))
            _set(built.place, "tcp_no_metrics_save", "1")
            self._left = built.tap.fd
            process = built.spawn(argv, stdout=subprocess.PIPE)
        else:
            ours, theirs = frame_pipe(self.place)
            stack.enter_context(theirs)
            self._left = theirs.fileno()
            with ours:
                argv += ["--fd", str(ours.fileno())]
                process = subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=(ours.fileno(),))
        stack.callback(stop, process)
        ready_line(process, f"the {side} sender")

    def measure(self, case: WireCase, seed: int, seconds: float) -> list[float]:
        """Goodput in Mbit/s (one number), or completion times in milliseconds."""
        forth, back = case.impairments()
        with Wire(self._left, self._right, forth, back, seed=seed):
            try:
                if case.is_replies:
                    return self._replies(seconds)
                return [self._goodput(seconds)]
            finally:
                # The resets that end the connections are under way: the sender must hear of them.
                time.sleep(case.rtt_ms / 1000 + 0.1)

    def _connect(self) -> socket.socket:
        def connect() -> socket.socket:
            client = socket.socket()
            client.settimeout(_TIMEOUT_S)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.connect((_HOST, _PORT))
            return client

        return inside(self.place, connect)

    def _goodput(self, seconds: float) -> float:
        with self._connect() as client:
            client.sendall(b"%d\n" % _ENDLESS)
            began = time.monotonic()
            ends = began + seconds
            got = 0
            room = bytearray(1 << 20)
            while (now := time.monotonic()) < ends:
                client.settimeout(ends - now)
                try:
                    count = client.recv_into(room)
                except TimeoutError:
                    break
                if count == 0:
                    raise HostError("the sender ended the connection")
                got += count
            return got * 8 / 1e6 / seconds

    def _replies(self, seconds: float) -> list[float]:
        with ThreadPoolExecutor(_REPLY_CLIENTS) as pool:
            times = [pool.submit(self._ask_again_and_again, seconds) for _ in range(_REPLY_CLIENTS)]
            return [one for each in times for one in each.result()]

    def _ask_again_and_again(self, seconds: float) -> list[float]:
        times = []
        with self._connect() as client:
            ends = time.monotonic() + seconds
            while (began := time.monotonic()) < ends:
                client.sendall(b"%d\n" % _REPLY_BYTES)
                left = _REPLY_BYTES
                while left:
                    count = len(client.recv(left))
                    if count == 0:
                        raise HostError("the sender ended the connection")
                    left -= count
                times.append((time.monotonic() - began) * 1000)
        return times


def _end(stack: ExitStack, namespace: str, address: str) -> int:
    topology = Topology(namespace, "wire0", address, vnet_header=False, offloads=False)
    built = stack.enter_context(build(topology))
    _set(built.place, "tcp_no_metrics_save", "1")
    return built.tap.fd


def _set(place: str | None, name: str, value: str) -> None:
    try:
        inside(place, lambda: Path("/proc/sys/net/ipv4", name).write_text(value))
    except OSError as error:
        raise HostError(f"cannot set net.ipv4.{name} to {value}: {error.strerror}") from error


def measure_wire(
    cases: Sequence[WireCase],
    *,
    seeds: int,
    seconds: float,
    jobs: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Run every case with every seed on both senders; everything measured, and what it comes to.

    Args:
        jobs: seeds that run at the same time, each on two wires of its own.

    Raises:
        HostError: a sender fails. TopologyError: no namespaces or TAPs.
    """
    rows = []
    with ExitStack() as stack:
        lanes = [{side: _Lane(stack, _transport(side), number) for side in _SIDES} for number in range(jobs)]
        pool = stack.enter_context(ThreadPoolExecutor(2 * jobs))
        for case in cases:
            results: dict[str, list[list[float]]] = {side: [] for side in _SIDES}
            for first in range(0, seeds, jobs):
                progress(f"{case.name}, seed {first + 1} of {seeds}")
                started = [
                    (side, pool.submit(lanes[seed - first][side].measure, case, seed, seconds))
                    for seed in range(first, min(first + jobs, seeds))
                    for side in _SIDES
                ]
                for side, one in started:
                    results[side].append(one.result())
            rows.append(_row(case, results))
    ratios = [row["ratio"] for row in rows if "goodput_mbps" in row]
    return {
        "rate_mbps": _RATE_BPS / 1e6,
        "queue": "one bandwidth-delay product",
        "seeds": seeds,
        "seconds": seconds,
        "cases": rows,
        "median_goodput_ratio": median(ratios) if ratios else None,
        "least_goodput_ratio": min(ratios) if ratios else None,
    }


def _transport(side: str) -> str:
    return "own" if side == "redtap" else "kernel"


def percentile(values: Sequence[float], part: float) -> float:
    """The least value that at least `part` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(part * 1000) * len(ordered) // 1000) - 1))]


def _row(case: WireCase, results: dict[str, list[list[float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case.name}
    if not case.is_replies:
        goodput = {side: [run[0] for run in runs] for side, runs in results.items()}
        ratios = [
            ours / max(theirs, 1e-9)
            for ours, theirs in zip(goodput["redtap"], goodput["kernel"], strict=True)
        ]
        row["goodput_mbps"] = goodput
        row["ratios"] = ratios
        row["ratio"] = median(ratios)
        return row
    row["completion_ms"] = {}
    for side, runs in results.items():
        times = [one for run in runs for one in run]
        row["completion_ms"][side] = {
            "replies": len(times),
            **{f"p{part}": percentile(times, part / 100) for part in (50, 90, 99)},
        }
    return row


def wire_table(summary: dict[str, Any]) -> Table:
    """Medians of goodput and of the seeds' ratios with their range; percentiles of completion times."""
    made = Table(
        title=f"{summary['rate_mbps']:g} Mbit/s, queue of one BDP, "
        f"{summary['seeds']} seeds of {summary['seconds']:g} s"
    )
    made.add_column("case")
    for name in ("redtap", "kernel cubic", "redtap / kernel"):
        made.add_column(name, justify="right")
    for row in summary["cases"]:
        if "goodput_mbps" in row:
            ours, theirs = (median(row["goodput_mbps"][side]) for side in _SIDES)
            made.add_row(
                row["case"],
                f"{ours:.2f} Mbit/s",
                f"{theirs:.2f} Mbit/s",
                f"{row['ratio']:.2f} ({min(row['ratios']):.2f} - {max(row['ratios']):.2f})",
            )
            continue
        ours, theirs = (row["completion_ms"][side] for side in _SIDES)
        for part in ("p50", "p90", "p99"):
            made.add_row(
                f"{row['case']}: {part}",
                f"{ours[part]:.1f} ms",
                f"{theirs[part]:.1f} ms",
                f"{ours[part] / theirs[part]:.2f} (less is better)",
            )
    return made
