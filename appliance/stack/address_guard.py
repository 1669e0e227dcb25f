"""Is our address ours? Probing it before use, announcing it, defending it.

Source:     RFC 5227 §2.1 (probe), §2.3 (announce), §2.4 (defend), §1.1 (times).
Units:      microseconds.
Invariants: the address is used exactly in the states ANNOUNCING and READY; between two defences lie at least
            DEFEND_INTERVAL.

A server gives its address up only when probing finds another host with it. Later it keeps it and
defends it, once in an interval, RFC 5227 §2.4 (c): a box that others rely on must not vanish because
a second one was set up wrongly, and a forged packet must not be enough to switch it off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.stack.timebase import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.counters import Counters
    from appliance.stack.ip_config import NeighborConfig
    from appliance.stack.neighbor import NeighborCache
    from appliance.wire import arp

__all__ = ["ABANDONED", "ANNOUNCING", "GUARD_STATE_NAMES", "PROBING", "READY", "AddressGuard"]

READY: Final = 0
PROBING: Final = 1
ANNOUNCING: Final = 2
ABANDONED: Final = 3
GUARD_STATE_NAMES: Final = ("READY", "PROBING", "ANNOUNCING", "ABANDONED")

_LONG_AGO: Final = -(1 << 61)


class AddressGuard:
    def __init__(
        self,
        mac: bytes,
        address: i64,
        config: NeighborConfig,
        random_bytes: Callable[[int], bytes],
        neighbors: NeighborCache,
        counters: Counters,
    ) -> None:
        self._mac = mac
        self._address = address
        self._config = config
        self._random_bytes = random_bytes
        self._neighbors = neighbors
        self._counters = counters
        self.state: i64 = READY
        self._deadline: i64 = NEVER
        self._sent: i64 = 0  # probes or announcements of the present round
        self._defended_at: i64 = _LONG_AGO

    def is_usable(self) -> bool:
        """Whether the address is ours to use."""
        return self.state == READY or self.state == ANNOUNCING

    def probe(self, now: i64) -> None:
        """Ask whether anybody has the address; it is not ours until `is_usable`."""
        self.state = PROBING
        self._sent = 0
        self._deadline = now + self._random_up_to(self._config.probe_wait_us)

    def announce(self, now: i64) -> None:
        """Tell the link that the address is ours: now, and again after an interval (caches miss one)."""
        self.state = ANNOUNCING
        self._sent = 0
        self._announce_once(now)

    def packet_arrives(self, packet: arp.ArpPacket, now: i64) -> None:
        """Look at every ARP packet for somebody else with our address."""
        if packet.sha == self._mac:
            return  # our own, come back
        if self.state == PROBING:
            # §2.1.1: anybody who uses it, or who is probing for it at the same time.
            if packet.spa == self._address or (packet.spa == 0 and packet.tpa == self._address):
                self._counters.address_conflicts += 1
                self.state = ABANDONED
                self._deadline = NEVER
        elif packet.spa == self._address and self.state != ABANDONED:
            self._counters.address_conflicts += 1
            if now - self._defended_at >= self._config.defend_interval_us:
                self._defended_at = now
                self._neighbors.announce()

    def next_deadline(self) -> int:
        return self._deadline

    def handle_deadline(self, now: i64) -> None:
        if now < self._deadline:
            return
        if self.state == ANNOUNCING:
            self._announce_once(now)
        elif self._sent >= self._config.probe_count:
            self.announce(now)
        else:
            self._neighbors.probe()
            self._sent += 1
            if self._sent < self._config.probe_count:
                spread = self._config.probe_max_us - self._config.probe_min_us
                self._deadline = now + self._config.probe_min_us + self._random_up_to(spread)
            else:
                self._deadline = now + self._config.announce_wait_us

    def _announce_once(self, now: i64) -> None:
        self._neighbors.announce()
        self._sent += 1
        if self._sent < self._config.announce_count:
            self._deadline = now + self._config.announce_interval_us
        else:
            self.state = READY
            self._deadline = NEVER

    def _random_up_to(self, limit: i64) -> i64:
        return int.from_bytes(self._random_bytes(4), "big") % (limit + 1)
