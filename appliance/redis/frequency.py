"""How often keys are used: the counter behind the -lfu policies of `maxmemory`.

While such a policy is on, the 24 bits that a key has for its access clock hold

    16 bits   minutes of Unix time modulo 2**16, when the counter was last brought up to date
     8 bits   the counter, logarithmic: the higher it is the less likely one more use makes it grow

so that neither a record nor a lookup under another policy has anything to carry for it. As in redis-server,
what a key has from before a change of policy is read as the other thing until the key is used again.

Source:     https://redis.io/docs/latest/develop/reference/eviction/ (LFU); numbers as OBJECT FREQ of
            redis-server 8.2 shows them.
Units:      minutes for `decay_minutes`; the growth's odds are 1 in (counter - FRESH) * log_factor + 1.
Invariants: a counter is in 0..255.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

if TYPE_CHECKING:
    from collections.abc import Callable

# The counter of a new key: not the first to go, before anybody could use it.
FRESH: Final = 5
HIGHEST: Final = 255
_MINUTES_MASK: Final = 0xFFFF
# Odds beyond 1 in 2**31 are as good as none, and their product with a 32-bit random number fits 64 bits.
_LONGEST_ODDS: Final = (1 << 31) - 1


def _minutes(now_s: i64) -> i64:
    return now_s // 60 & _MINUTES_MASK


class Frequency:
    """The rules by which counters grow and decay."""

    def __init__(self, random: Callable[[], int]) -> None:
        """The rules of the server's defaults.

        Args:
            random: gives a number in 1 .. 2**32 - 1 at each call.
        """
        self._random = random
        self.log_factor: i64 = 10
        self.decay_minutes: i64 = 1  # by one for each of these; 0: never

    def made(self, now_s: i64, counter: i64 = FRESH) -> i64:
        """The 24 bits of a key whose counter is set now."""
        return _minutes(now_s) << 8 | counter

    def counter(self, access: i64, now_s: i64) -> i64:
        """The counter in the 24 bits of a key, less what has decayed until now."""
        counter = access & HIGHEST
        if self.decay_minutes > 0:
            idle = (_minutes(now_s) - (access >> 8)) & _MINUTES_MASK
            counter -= min(idle // self.decay_minutes, counter)
        return counter

    def used(self, access: i64, now_s: i64) -> i64:
        """The 24 bits of a key after one more use."""
        counter = self.counter(access, now_s)
        if counter < HIGHEST:
            odds = min(max(counter - FRESH, 0) * self.log_factor + 1, _LONGEST_ODDS)
            drawn: i64 = self._random()
            if drawn * odds <= 0xFFFF_FFFF:
                counter += 1
        return _minutes(now_s) << 8 | counter
