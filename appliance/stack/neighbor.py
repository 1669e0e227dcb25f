"""Neighbours: IPv4 addresses on the link and their MAC addresses, found by ARP.

Source:     RFC 826 (merge, then answer); RFC 1122 §2.3.2.1 (time out, limit the rate of requests),
            §2.3.2.2 (save at least one packet while resolving); states after RFC 4861 §7.3.2, which
            Linux uses for IPv4 as well.
Units:      microseconds.
Invariants: INCOMPLETE and PROBE have a deadline; a neighbour with a MAC address has a link header; an entry
            that left the cache is FORGOTTEN, never again REACHABLE, and its users ask for the new one.
Not here:   address probing and conflict defence (RFC 5227).

A REACHABLE entry becomes STALE after REACHABLE_US without news; a STALE one is still used, and its first
use starts a unicast PROBE. So a peer that moved to another MAC costs seconds, not for ever, and a quiet
link carries no ARP at all.
"""

from typing import Final

from mypy_extensions import i64

from appliance.stack.counters import Counters
from appliance.stack.timebase import NEVER, SECOND
from appliance.wire import arp, ethernet, virtio
from appliance.wire.ethernet import BROADCAST, ETHERTYPE_ARP, ETHERTYPE_IPV4

__all__ = [
    "FAILED",
    "FORGOTTEN",
    "INCOMPLETE",
    "PROBE",
    "REACHABLE",
    "STALE",
    "STATE_NAMES",
    "Neighbor",
    "NeighborCache",
]

INCOMPLETE: Final = 0
REACHABLE: Final = 1
STALE: Final = 2
PROBE: Final = 3
FAILED: Final = 4
FORGOTTEN: Final = 5  # no longer in the cache; connections may still hold it
STATE_NAMES: Final = ("INCOMPLETE", "REACHABLE", "STALE", "PROBE", "FAILED", "FORGOTTEN")

REACHABLE_US: Final = 60 * SECOND
REQUEST_INTERVAL_US: Final = 1 * SECOND  # RFC 1122 §2.3.2.1: at most one request a second
MAX_REQUESTS: Final = 3
MAX_QUEUED_FRAMES: Final = 16
MAX_NEIGHBORS: Final = 1024
FAILED_HOLD_US: Final = 3 * SECOND


class Neighbor:
    """One address on the link. link_header: the 14 bytes of Ethernet header to it, b"" while unknown."""

    def __init__(self, address: i64) -> None:
        self.address = address
        self.mac: bytes = b""
        self.link_header: bytes = b""
        self.state: i64 = INCOMPLETE
        self.confirmed_at: i64 = 0
        self.requests: i64 = 0
        self.deadline: i64 = NEVER
        self.queue: list[bytes] = []


class NeighborCache:
    def __init__(self, mac: bytes, address: i64, has_vnet_header: bool, counters: Counters) -> None:
        self._mac = mac
        self._address = address
        self._prefix = virtio.PLAIN if has_vnet_header else b""
        self._prefix_length: i64 = len(self._prefix)
        self._counters = counters
        self._neighbors: dict[int, Neighbor] = {}
        self._deadline: i64 = NEVER  # never later than the earliest of the entries
        self.frames: list[bytes] = []  # all that is ready for the link, in order: the interface takes it

    def entries(self) -> list[Neighbor]:
        return list(self._neighbors.values())

    def get(self, address: i64) -> Neighbor:
        """The entry for an address on the link; a new one is INCOMPLETE and asks when first used."""
        neighbor = self._neighbors.get(address)
        if neighbor is None:
            if len(self._neighbors) >= MAX_NEIGHBORS:
                self._evict()
            neighbor = Neighbor(address)
            self._neighbors[address] = neighbor
        return neighbor

    def send(self, neighbor: Neighbor, frame: bytes, now: i64) -> None:
        """Send a frame whose link header has still to be filled in, or is neighbor.link_header already."""
        state = neighbor.state
        if state == FORGOTTEN:
            neighbor = self.get(neighbor.address)
            state = neighbor.state
        if state == REACHABLE:
            if now - neighbor.confirmed_at > REACHABLE_US:
                neighbor.state = PROBE
                neighbor.requests = 0
                self._request(neighbor, now)
        elif state == STALE:
            neighbor.state = PROBE
            neighbor.requests = 0
            self._request(neighbor, now)
        elif state in (INCOMPLETE, FAILED):
            if state == FAILED and now < neighbor.deadline:
                self._counters.dropped_unresolved += 1
                return
            if len(neighbor.queue) >= MAX_QUEUED_FRAMES:
                # RFC 1122 §2.3.2.2: keep the latest.
                neighbor.queue.pop(0)
                self._counters.dropped_unresolved += 1
            neighbor.queue.append(frame)
            if neighbor.requests == 0 or state == FAILED:
                neighbor.state = INCOMPLETE
                neighbor.requests = 0
                self._request(neighbor, now)
            return
        self.frames.append(self._with_link_header(neighbor, frame))

    def suspect(self, neighbor: Neighbor) -> None:
        """Repeated retransmissions: verify the address on the next use (RFC 9293 §3.8.3 R1)."""
        if neighbor.state == REACHABLE:
            neighbor.state = STALE

    def confirm(self, neighbor: Neighbor, now: i64) -> None:
        """The peer answered us (a TCP acknowledgment): its address works both ways (RFC 4861 §7.3.1)."""
        if neighbor.state == REACHABLE:
            neighbor.confirmed_at = now
        elif neighbor.state == STALE or neighbor.state == PROBE:
            neighbor.confirmed_at = now
            neighbor.state = REACHABLE
            neighbor.deadline = NEVER

    def packet_arrives(self, packet: arp.ArpPacket, now: i64) -> None:
        """RFC 826 "packet reception": merge what we know, create only when it was for us, then answer."""
        self._counters.arp_in += 1
        if packet.sha[0] & 1 or packet.spa == self._address:
            # A multicast sender, or somebody else with our address: believe neither.
            self._counters.dropped_bad_source += 1
            return
        is_for_us = packet.tpa == self._address
        if packet.spa != 0:
            known = self._neighbors.get(packet.spa)
            if known is None and is_for_us:
                known = self.get(packet.spa)
            if known is not None:
                self._learn(known, packet.sha, now)
        if is_for_us and packet.op == arp.OP_REQUEST:
            reply = arp.build(arp.OP_REPLY, self._mac, self._address, packet.sha, packet.spa)
            self._emit(packet.sha, reply)

    def announce(self) -> None:
        """Gratuitous ARP: a request for our own address (RFC 5227 §2.3), so that caches are renewed."""
        self._emit(
            BROADCAST, arp.build(arp.OP_REQUEST, self._mac, self._address, b"\0\0\0\0\0\0", self._address)
        )

    def next_deadline(self) -> int:
        return self._deadline

    def handle_deadline(self, now: i64) -> None:
        if now < self._deadline:
            return
        self._deadline = NEVER
        for neighbor in list(self._neighbors.values()):
            if neighbor.deadline <= now:
                self._expire(neighbor, now)
                if neighbor.state == FORGOTTEN:
                    continue
            if neighbor.deadline < self._deadline:
                self._deadline = neighbor.deadline

    def _learn(self, neighbor: Neighbor, mac: bytes, now: i64) -> None:
        if neighbor.mac != mac:
            neighbor.mac = mac
            neighbor.link_header = ethernet.header(mac, self._mac, ETHERTYPE_IPV4)
        neighbor.state = REACHABLE
        neighbor.confirmed_at = now
        neighbor.requests = 0
        neighbor.deadline = NEVER
        if neighbor.queue:
            waiting = neighbor.queue
            neighbor.queue = []
            for frame in waiting:
                self.frames.append(self._with_link_header(neighbor, frame))

    def _expire(self, neighbor: Neighbor, now: i64) -> None:
        state = neighbor.state
        if state == FAILED:
            self._forget(neighbor)
        elif neighbor.requests < MAX_REQUESTS:
            self._request(neighbor, now)
        else:
            self._counters.arp_failures += 1
            self._counters.dropped_unresolved += len(neighbor.queue)
            neighbor.queue = []
            neighbor.mac = b""
            neighbor.link_header = b""
            neighbor.state = FAILED
            neighbor.requests = 0
            neighbor.deadline = now + FAILED_HOLD_US

    def _request(self, neighbor: Neighbor, now: i64) -> None:
        neighbor.requests += 1
        neighbor.deadline = now + REQUEST_INTERVAL_US
        if neighbor.deadline < self._deadline:
            self._deadline = neighbor.deadline
        # RFC 1122 §2.3.2.1 (2): a known address is verified by unicast.
        to = neighbor.mac if neighbor.state == PROBE else BROADCAST
        self._emit(to, arp.build(arp.OP_REQUEST, self._mac, self._address, b"\0\0\0\0\0\0", neighbor.address))

    def _emit(self, to: bytes, packet: bytes) -> None:
        self._counters.arp_out += 1
        self.frames.append(self._prefix + ethernet.header(to, self._mac, ETHERTYPE_ARP) + packet)

    def _with_link_header(self, neighbor: Neighbor, frame: bytes) -> bytes:
        start = self._prefix_length
        if frame[start : start + 6] == neighbor.mac:
            return frame
        return frame[:start] + neighbor.link_header + frame[start + ethernet.HEADER_LENGTH :]

    def _evict(self) -> None:
        """Make room: drop the entry that was confirmed longest ago (a dict keeps the order of entry)."""
        oldest: Neighbor | None = None
        for neighbor in self._neighbors.values():
            if oldest is None or neighbor.confirmed_at < oldest.confirmed_at:
                oldest = neighbor
        if oldest is not None:
            self._counters.dropped_unresolved += len(oldest.queue)
            self._forget(oldest)

    def _forget(self, neighbor: Neighbor) -> None:
        del self._neighbors[neighbor.address]
        neighbor.state = FORGOTTEN
        neighbor.deadline = NEVER
        neighbor.queue = []
