"""Path MTU: how large a datagram may be on its way to each destination.

Source:     RFC 1191 §3 (lowering), §5, §7 (routers that do not say how far), §6.3 (aging); RFC 4821 §7.7
            (black holes); RFC 8899 §4.6, RFC 5927 §7 (whom to believe: the caller has checked).
Units:      bytes of IP datagram; microseconds.
Invariants: MIN_PATH_MTU, or the link's MTU when that is smaller, <= every estimate < the link's MTU.
            Nothing but age or a new link MTU raises an estimate.
Not here:   probing for a larger size (RFC 4821's search). An estimate that has aged is forgotten, and the
            next full-sized segments find out.

Nothing below MIN_PATH_MTU is believed: RFC 1191 would go down to 68, where a forged message could make us
send forty bytes of header for each 28 of data. Linux draws the line at the same 552 (ip_rt_min_pmtu).
"""

from typing import Final

from mypy_extensions import i64

from appliance.stack.counters import Counters
from appliance.stack.timebase import NEVER

__all__ = ["BLACK_HOLE_SIZES", "MIN_PATH_MTU", "PLATEAUS", "PathMtuCache"]

MIN_PATH_MTU: Final = 552
# RFC 1191 §7 Table 7-1, down to our floor: MTUs that occur, for routers that send 0.
PLATEAUS: Final = (32000, 17914, 8166, 4352, 2002, 1492, 1006, MIN_PATH_MTU)
# What is tried when large segments vanish without a word: RFC 8899 §5.1.2 BASE_PLPMTU, then the floor.
BLACK_HOLE_SIZES: Final = (1200, MIN_PATH_MTU)
_MAX_ESTIMATES: Final = 1024


class _Estimate:
    def __init__(self, mtu: i64, expires_at: i64) -> None:
        self.mtu = mtu
        self.expires_at = expires_at


class PathMtuCache:
    """Estimates per destination.

    changed: destinations whose estimate is another than their connections know; the interface takes them.
    """

    def __init__(self, link_mtu: i64, timeout_us: i64, counters: Counters) -> None:
        self._link_mtu = link_mtu
        self._timeout_us = timeout_us
        self._counters = counters
        self._estimates: dict[int, _Estimate] = {}  # the one that expires first stands first
        self.changed: list[int] = []

    def get(self, destination: i64) -> i64:
        """The largest datagram for that destination, as far as we know."""
        if self._estimates:
            estimate = self._estimates.get(destination)
            if estimate is not None:
                return estimate.mtu
        return self._link_mtu

    def too_big(self, destination: i64, reported_mtu: i64, quoted_length: i64, now: i64) -> None:
        """A router said "fragmentation needed" about a datagram of ours of quoted_length bytes.

        reported_mtu: what it says fits; 0 from routers that do not know RFC 1191.
        """
        current = self.get(destination)
        mtu = reported_mtu
        if mtu == 0:
            # §5: some quote a Total Length that is not what we sent, so it counts only when it is smaller.
            mtu = self._next_plateau(min(quoted_length, current))
        floor = self._floor()
        if mtu < floor:
            mtu = floor
        if mtu <= current:
            # An equal one confirms: without it the estimate would age while routers still insist on it.
            self._set(destination, mtu, now)

    def on_black_hole_suspected(self, destination: i64, now: i64) -> bool:
        """Full-sized segments vanish and no router says why: go down to the next size.

        Returns False when the estimate is at the floor already, so size is not what is wrong.
        """
        current = self.get(destination)
        floor = self._floor()
        for size in BLACK_HOLE_SIZES:
            mtu: i64 = size
            if mtu < floor:
                mtu = floor
            if mtu < current:
                self._counters.path_mtu_black_holes += 1
                self._set(destination, mtu, now)
                return True
        return False

    def set_link_mtu(self, mtu: i64) -> None:
        """The link carries other datagrams now; estimates that are no news any more are dropped."""
        self._link_mtu = mtu
        for destination in list(self._estimates):
            if self._estimates[destination].mtu >= mtu:
                del self._estimates[destination]

    def next_deadline(self) -> int:
        for estimate in self._estimates.values():
            return estimate.expires_at
        return NEVER

    def handle_deadline(self, now: i64) -> None:
        """Forget what is too old (§6.3)."""
        for destination in list(self._estimates):
            if self._estimates[destination].expires_at > now:
                return
            del self._estimates[destination]
            self.changed.append(destination)

    def estimates(self) -> list[tuple[int, int]]:
        """(destination, bytes) of every path that is known to be narrower than the link."""
        return [(destination, estimate.mtu) for destination, estimate in self._estimates.items()]

    def _floor(self) -> i64:
        return min(MIN_PATH_MTU, self._link_mtu)

    def _next_plateau(self, length: i64) -> i64:
        for plateau in PLATEAUS:
            if plateau < length:
                return plateau
        return MIN_PATH_MTU

    def _set(self, destination: i64, mtu: i64, now: i64) -> None:
        estimate = self._estimates.pop(destination, None)
        if estimate is None:
            if mtu >= self._link_mtu:
                return
            if len(self._estimates) >= _MAX_ESTIMATES:
                del self._estimates[next(iter(self._estimates))]
        if estimate is None or mtu < estimate.mtu:
            self._counters.path_mtu_lowered += 1
            self.changed.append(destination)
        self._estimates[destination] = _Estimate(mtu, now + self._timeout_us)
