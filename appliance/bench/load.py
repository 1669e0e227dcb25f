"""One run of redis-benchmark, and all that it says.

redis-benchmark keeps every latency in a histogram of three significant digits. Its long output has the
percentiles of it in steps that halve what is left (50, 75, 87.5 … 99.988 %), each with the number of requests
so far; a percentile asked for is the first step that has as many requests, so it is never told too low.

It measures a run in milliseconds; the rate of one that took none is "inf".
"""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import HostError

__all__ = ["PERCENTILES", "CpuTime", "Measurement", "children_cpu", "parse_output", "process_cpu"]

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)

_STEP: Final = re.compile(r"^([\d.]+)% <= ([\d.]+) milliseconds \(cumulative count (\d+)\)", re.MULTILINE)
_RATE: Final = re.compile(r"throughput summary: ([\d.]+|inf) requests per second")
_SUMMARY: Final = re.compile(r"avg +min +p50 +p95 +p99 +max\s+" + r"([\d.]+)\s+" * 5 + r"([\d.]+)")
_CUMULATIVE: Final = "Cumulative distribution of latencies:"


@dataclass(frozen=True)
class CpuTime:
    """Seconds of a processor, or microseconds a request; user and system apart."""

    user: float
    system: float

    def since(self, before: CpuTime) -> CpuTime:
        """What was spent from `before` to this."""
        return CpuTime(self.user - before.user, self.system - before.system)

    def per_request_us(self, requests: int) -> CpuTime:
        """Microseconds a request, when this is the seconds that `requests` took."""
        return CpuTime(self.user * 1e6 / requests, self.system * 1e6 / requests)


@dataclass(frozen=True)
class Measurement:
    """One run: requests per second, latencies in milliseconds, processor time per request.

    Attributes:
        percentiles_ms: of PERCENTILES, in that order.
        server_us, load_us: of the server and of redis-benchmark, in microseconds a request. On a TAP the
            server's system time holds the client's kernel receive path, which runs inside its writes.
    """

    rps: float
    average_ms: float
    percentiles_ms: tuple[float, ...]
    max_ms: float
    server_us: CpuTime = CpuTime(0.0, 0.0)
    load_us: CpuTime = CpuTime(0.0, 0.0)

    @property
    def p50_ms(self) -> float:
        return self.percentiles_ms[PERCENTILES.index(50.0)]

    @property
    def p99_ms(self) -> float:
        return self.percentiles_ms[PERCENTILES.index(99.0)]

    @property
    def p999_ms(self) -> float:
        return self.percentiles_ms[PERCENTILES.index(99.9)]


def parse_output(text: str, server_us: CpuTime, load_us: CpuTime) -> Measurement:
    """What redis-benchmark's long output says of its last test.

    Raises:
        ValueError: it is not such an output.
    """
    # A test may come with another that prepares for it, each under a title of its own.
    block = text.rpartition("======\n")[2] if "======\n" in text else text
    rate, summary = _RATE.search(block), _SUMMARY.search(block)
    steps = [
        (int(count), float(latency)) for _, latency, count in _STEP.findall(block.partition(_CUMULATIVE)[0])
    ]
    if rate is None or summary is None or not steps:
        raise ValueError("not an output of redis-benchmark")
    total = steps[-1][0]
    percentiles = tuple(
        next((latency for count, latency in steps if count * 100 >= part * total), steps[-1][1])
        for part in PERCENTILES
    )
    numbers = [float(number) for number in summary.groups()]
    return Measurement(float(rate[1]), numbers[0], percentiles, numbers[-1], server_us, load_us)


def process_cpu(pid: int) -> CpuTime:
    """What a process has used since it began, all its threads; in ticks of 10 ms.

    Raises:
        HostError: it is gone.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError as error:
        raise HostError(f"the server with process id {pid} is gone") from error
    # The name in parentheses may hold anything, spaces and parentheses too (proc(5)).
    fields = text.rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return CpuTime(int(fields[11]) / tick, int(fields[12]) / tick)


def children_cpu() -> CpuTime:
    """What all children that have ended used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return CpuTime(used.ru_utime, used.ru_stime)
