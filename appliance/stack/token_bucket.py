"""A token bucket: so many events a second in the long run, so many at once.

Units:      microseconds; tokens are counted in millionths, so a rate per second needs no division.
Invariants: 0 <= tokens <= capacity.
"""

from mypy_extensions import i64

from appliance.stack.timebase import SECOND

__all__ = ["TokenBucket"]


class TokenBucket:
    """Starts full. A rate of 0 lets nothing through once the burst is spent."""

    def __init__(self, per_second: int, burst: int) -> None:
        self._rate: i64 = per_second
        self._capacity: i64 = burst * SECOND
        self._tokens: i64 = self._capacity
        # The time in which an empty bucket fills; a longer one must not be multiplied by the rate (i64).
        self._fill_us: i64 = self._capacity // self._rate + 1 if per_second > 0 else 0
        self._filled_at: i64 = 0

    def take(self, now: i64) -> bool:
        """Whether one more event may happen now."""
        elapsed = now - self._filled_at
        if elapsed > 0 and self._rate > 0:
            self._filled_at = now
            if elapsed >= self._fill_us:
                self._tokens = self._capacity
            else:
                tokens = self._tokens + elapsed * self._rate
                self._tokens = min(tokens, self._capacity)
        if self._tokens < SECOND:
            return False
        self._tokens -= SECOND
        return True
