"""The shell's clock: integer microseconds for the core, unix microseconds for Redis.

Units:      microseconds (int). `now` is trio's clock, so `trio.testing.MockClock` drives everything below.
Invariants: `now` never decreases; `now() >= d` once trio has woken a sleeper whose deadline was
            `trio_time(d)`. Rounding to nearest gives that: truncation could show `d - 1`, and under a clock
            that stands still between wake-ups the sleeper would spin.
Why an offset: the wall clock is `now` plus an offset that is read again every 100 ms, so a request costs
            one addition instead of a system call, and both clocks tell the same time within one batch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from appliance.stack.timebase import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "trio_time"]

_INFINITY = float("inf")


def _system_unix_us() -> int:
    return time.time_ns() // 1000


def trio_time(deadline: int) -> float:
    """A deadline of the core (µs, perhaps `NEVER`) on trio's clock (s)."""
    return _INFINITY if deadline >= NEVER else deadline / 1_000_000


class Clock:
    """Reads trio's clock; make it inside `trio.run`.

    Args:
        unix_us: Gives the wall clock in µs. A test passes a constant: then the wall clock starts there and
            advances with trio's clock, because the offset is taken only once.
    """

    __slots__ = ("_is_fixed", "_trio_now", "_unix_us", "unix_offset")

    def __init__(self, unix_us: Callable[[], int] | int = _system_unix_us) -> None:
        # What trio.current_time() comes down to, without looking the run up each time.
        self._trio_now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self._is_fixed = isinstance(unix_us, int)
        self._unix_us: Callable[[], int] = unix_us if not isinstance(unix_us, int) else lambda: unix_us
        self.unix_offset = 0
        """Add this to `now` for unix µs; `resync` renews it."""
        self.unix_offset = self._unix_us() - self.now()

    def now(self) -> int:
        """Monotonic µs."""
        return int(self._trio_now() * 1_000_000 + 0.5)

    def unix_now(self) -> int:
        """Unix µs."""
        return self.now() + self.unix_offset

    def resync(self) -> None:
        """Follow the wall clock, which people and NTP may step."""
        if not self._is_fixed:
            self.unix_offset = self._unix_us() - self.now()
