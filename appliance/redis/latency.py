"""How long commands take, and what took longest: latency histograms, and the samples of the latency monitor.

Two things that redis-server keeps apart:

- A histogram for each command, in the manner of HdrHistogram: buckets whose width is at most 1/128 of their
  value. INFO latencystats reads percentiles from it, LATENCY HISTOGRAM its counts at powers of two.
- For each event (`command`, `fast-command`, `expire-cycle` ...) the last 160 moments that took longer than
  `latency-monitor-threshold`, at most one per second, for LATENCY HISTORY, GRAPH and DOCTOR.

A bucket is known by a number that grows with its values: eight bits of mantissa below the count of bits that
were shifted away.

    values 0 .. 255                  bucket = value
    values 2**k .. 2**(k+1) - 1      bucket = (k - 7) << 8 | value >> (k - 7)

Source:     HdrHistogram's layout with two significant digits; LATENCY of redis-server 8.2.
Units:      nanoseconds in histograms, milliseconds in samples, seconds of Unix time for moments.
Invariants: a histogram's `total` is the sum of its counts.
Errors:     none.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mypy_extensions import i64

HISTORY_LENGTH: Final = 160
"""Samples kept for each event."""

_MANTISSA_BITS: Final = 8
_SMALLEST_NS: Final = 1
_LARGEST_NS: Final = 1_000_000_000
_FIRST_REPORTED_NS: Final = 1024


def bucket_of(value: i64) -> i64:
    """The number of the bucket that holds a value."""
    shift: i64 = 0
    while value >> shift >= 1 << _MANTISSA_BITS:
        shift += 1
    return shift << _MANTISSA_BITS | value >> shift


def largest_in(bucket: i64) -> i64:
    """The largest value of a bucket."""
    shift = bucket >> _MANTISSA_BITS
    mantissa = bucket & ((1 << _MANTISSA_BITS) - 1)
    return ((mantissa + 1) << shift) - 1


class Histogram:
    """How often which duration was seen."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total: i64 = 0

    def copy(self) -> Histogram:
        made = Histogram()
        made.counts = dict(self.counts)
        made.total = self.total
        return made

    def record(self, duration_us: i64, count: i64) -> None:
        """Count a duration `count` times; at most a second is told apart."""
        value = min(max(duration_us * 1000, _SMALLEST_NS), _LARGEST_NS)
        bucket: int = bucket_of(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total += count

    def percentile(self, wanted: float) -> int:
        """The value, in nanoseconds, that `wanted` percent of all are not above."""
        rank = max(1, int(min(wanted, 100.0) / 100.0 * float(self.total) + 0.5))
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return largest_in(bucket) if wanted > 0.0 else _smallest_in(bucket)
        return 0

    def cumulative(self) -> list[tuple[int, int]]:
        """Pairs of microseconds and how many durations were not above, at each power of two that adds any."""
        pairs: list[tuple[int, int]] = []
        level: i64 = _FIRST_REPORTED_NS
        seen = 0
        reported = 0
        for bucket in sorted(self.counts):
            while bucket > bucket_of(level):
                if seen > reported:
                    pairs.append((largest_in(bucket_of(level)) // 1000, seen))
                    reported = seen
                level *= 2
            seen += self.counts[bucket]
        if seen > reported:
            pairs.append((largest_in(bucket_of(level)) // 1000, seen))
        return pairs


def _smallest_in(bucket: i64) -> i64:
    shift = bucket >> _MANTISSA_BITS
    return (bucket & ((1 << _MANTISSA_BITS) - 1)) << shift


class Samples:
    """The moments of one event, oldest first."""

    def __init__(self) -> None:
        self.moments: deque[tuple[int, int]] = deque()  # seconds, milliseconds it took
        self.longest_ms: int = 0
        self.total: int = 0

    def add(self, now_s: int, took_ms: int) -> None:
        self.longest_ms = max(self.longest_ms, took_ms)
        self.total += 1
        if len(self.moments) > 0 and self.moments[-1][0] == now_s:
            # One per second: the worst.
            if took_ms > self.moments[-1][1]:
                self.moments[-1] = (now_s, took_ms)
            return
        if len(self.moments) == HISTORY_LENGTH:
            self.moments.popleft()
        self.moments.append((now_s, took_ms))


class LatencyMonitor:
    """What LATENCY's subcommands but HISTOGRAM tell of."""

    def __init__(self) -> None:
        self.threshold_ms: i64 = 0
        self.events: dict[bytes, Samples] = {}

    def note(self, event: bytes, now_s: i64, took_ms: i64) -> None:
        """Remember that an event took long, if it did."""
        if self.threshold_ms == 0 or took_ms < self.threshold_ms:
            return
        samples = self.events.get(event)
        if samples is None:
            samples = Samples()
            self.events[event] = samples
        samples.add(now_s, took_ms)

    def forget(self, events: list[bytes]) -> int:
        """Forget some events, or all for an empty list; how many there were."""
        names = events if len(events) > 0 else list(self.events)
        count = 0
        for name in names:
            if self.events.pop(name, None) is not None:
                count += 1
        return count
