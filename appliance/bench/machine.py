"""Whether the machine runs at its usual speed just now.

A shared machine is throttled in bursts: the same loop takes several times longer for some seconds. A fixed
loop is timed before each round, and the round waits, for a while, until the loop is about as quick as it
ever was in this run. What is measured is not changed by it, and nothing that was measured is thrown away.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["Steadiness", "machine_facts", "system_congestion"]

_LOOP = 200_000
_TOLERANCE = 1.25
_PATIENCE_S = 20.0
_PAUSE_S = 0.5


class Steadiness:
    """Attributes: waited_s: all the time that rounds waited for the machine."""

    def __init__(self) -> None:
        self._best_s = min(_time_loop() for _ in range(5))
        self.waited_s = 0.0

    def wait(self) -> None:
        """Return when the machine runs at full speed again, or after `_PATIENCE_S` seconds."""
        began = time.perf_counter()
        while True:
            took = min(_time_loop() for _ in range(2))
            self._best_s = min(self._best_s, took)
            elapsed = time.perf_counter() - began
            if took <= self._best_s * _TOLERANCE or elapsed >= _PATIENCE_S:
                self.waited_s += elapsed
                return
            time.sleep(_PAUSE_S)


def _time_loop() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(_LOOP):
        total += number
    return time.perf_counter() - began


def system_congestion() -> str:
    """What the kernels use where nothing else is asked for, in words."""
    try:
        name = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    except OSError:
        return "unknown (the system's)"
    if name.startswith("bbr"):
        return f"{name} (the system's; over redtap's own links what their routes name, which does not pace)"
    return f"{name} (the system's)"


def machine_facts() -> dict[str, str | int]:
    """What a reader needs to know of the machine, as it tells it itself."""
    processor = ""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    system = os.uname()
    return {
        "processor": processor or system.machine,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": f"{system.sysname} {system.release}",
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
    }
