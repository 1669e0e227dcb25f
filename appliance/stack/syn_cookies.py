"""SYN cookies: a handshake without state, for when the backlog is full.

Source:     RFC 4987 §3.6 and Appendix A (what a cookie is, what it costs); RFC 9293 §3.10.7.2.
Units:      now in microseconds; a cookie's clock ticks every PERIOD_US.
Invariants: a cookie that `open` accepts was made by `seal` with the same key for the same 4-tuple and peer
            ISN, not more than LIFETIME_PERIODS ticks ago.

The cookie is our initial sequence number:

    bits 31-27  the tick, modulo 32, so that old cookies are known as old
    bits 26-24  index into MSS_CLASSES: the largest not above the peer's MSS
    bits 23-0   a keyed hash of the 4-tuple, the peer's ISN, the full tick and the index

What does not fit (window scale, SACK, ECN) goes into the low bits of our TSval, and comes back as TSecr; a
peer without timestamps goes without those options. A guess passes once in 2**24 tries, while cookies are in
use.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.stack.timebase import SECOND

if TYPE_CHECKING:
    from appliance.wire.tcp import Segment

__all__ = ["LIFETIME_PERIODS", "MSS_CLASSES", "PERIOD_US", "SynCookies", "options_from", "options_into"]

PERIOD_US: Final = 64 * SECOND
LIFETIME_PERIODS: Final = 2
MSS_CLASSES: Final = (64, 536, 900, 1300, 1440, 1460, 4312, 8960)

_OPTION_BITS: Final = 0x3F
_NO_SHIFT: Final = 0xF
_SACK_BIT: Final = 0x10
_ECN_BIT: Final = 0x20


class SynCookies:
    """Makes and checks cookies with one key."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, four_tuple: bytes, peer_isn: i64, mss: i64, now: i64) -> i64:
        """The ISN that stands for a half-open connection."""
        index: i64 = 0
        for position in range(len(MSS_CLASSES)):
            if i64(MSS_CLASSES[position]) <= mss:
                index = position
        tick = now // PERIOD_US
        return ((tick & 0x1F) << 27) | (index << 24) | self._hash(four_tuple, peer_isn, tick, index)

    def open(self, four_tuple: bytes, peer_isn: i64, cookie: i64, now: i64) -> i64:
        """The MSS that the cookie stands for; -1 when it is not ours, or too old."""
        tick = now // PERIOD_US
        age = (tick - (cookie >> 27)) & 0x1F
        if age > LIFETIME_PERIODS or age > tick:
            return -1
        index = (cookie >> 24) & 7
        if self._hash(four_tuple, peer_isn, tick - age, index) != cookie & 0xFF_FFFF:
            return -1
        return MSS_CLASSES[index]

    def _hash(self, four_tuple: bytes, peer_isn: i64, tick: i64, index: i64) -> i64:
        message = four_tuple + int(peer_isn << 3 | index).to_bytes(5, "big") + int(tick).to_bytes(8, "big")
        return int.from_bytes(blake2b(message, key=self._secret, digest_size=3).digest(), "big")


def options_into(ts_val: i64, seg: Segment, has_ecn: bool) -> i64:
    """TSval with the options of the peer's SYN in its low bits; never ahead of the clock."""
    shift = seg.window_shift if seg.window_shift >= 0 else _NO_SHIFT
    bits = shift
    if seg.is_sack_permitted:
        bits |= _SACK_BIT
    if has_ecn:
        bits |= _ECN_BIT
    value = (ts_val & ~_OPTION_BITS) | bits
    if value > ts_val:
        value -= _OPTION_BITS + 1
    return value & 0xFFFF_FFFF


def options_from(ts_ecr: i64, seg: Segment) -> bool:
    """Put the options that our TSval carried back into `seg`; returns whether ECN was agreed on."""
    shift = ts_ecr & 0xF
    seg.window_shift = -1 if shift == _NO_SHIFT else shift
    seg.is_sack_permitted = ts_ecr & _SACK_BIT != 0
    return ts_ecr & _ECN_BIT != 0
