"""What an engine counts only for INFO to show, and CONFIG RESETSTAT sets back.

Each number is counted where the thing happens, once for a step, a batch or a rare event; what every request
would have to count is not here. INFO only reads.

Source:     names of the section `stats` of redis-server 8.2's INFO.
"""

from __future__ import annotations

from mypy_extensions import i64


class Counters:
    """Plain numbers, all zero at first."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.error_replies: i64 = 0
        self.authentications_denied: i64 = 0
        # Active expiry.
        self.expire_budget_reached: i64 = 0
        self.expiring_ns: i64 = 0  # of the stopwatch
        self.stale_share: float = 0.0  # of the keys with an expire time, a running average
        # Memory limit: how long commands were refused, and since when they are (0: they are not).
        self.refusing_us: i64 = 0
        self.refusing_since_us: i64 = 0
        # SYNC, and PSYNC of those who had something already.
        self.snapshots_sent: i64 = 0
        self.resumptions_refused: i64 = 0
        # Copies of the process, for scripts that are debugged.
        self.forks: i64 = 0
        self.last_fork_us: i64 = 0


class Traffic:
    """Kilobytes a second in and out, from totals that are looked at about once a second."""

    def __init__(self) -> None:
        self.input_kbps: float = 0.0
        self.output_kbps: float = 0.0
        self._sampled_us: i64 = 0
        self._bytes_in: i64 = 0
        self._bytes_out: i64 = 0

    def is_due(self, now_us: i64) -> bool:
        return now_us - self._sampled_us >= 1_000_000

    def sample(self, now_us: i64, bytes_in: i64, bytes_out: i64) -> None:
        """The totals are these now."""
        if self._sampled_us != 0:
            elapsed_s = int(now_us - self._sampled_us) / 1_000_000
            self.input_kbps = int(bytes_in - self._bytes_in) / 1024 / elapsed_s
            self.output_kbps = int(bytes_out - self._bytes_out) / 1024 / elapsed_s
        self._sampled_us = now_us
        self._bytes_in = bytes_in
        self._bytes_out = bytes_out
