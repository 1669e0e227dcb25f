"""Whether the machine runs at its usual speed just now.

A shared machine is throttled in bursts: the same loop takes several times longer for some seconds. A fixed
loop is timed before each round, and the round waits, for a while, until the loop is about as quick as it
ever was in this run. What is measured is not changed by it, and nothing that was measured is thrown away.
"""

from __future__ import annotations

import time

__all__ = ["Steadiness"]

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
