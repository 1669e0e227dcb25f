"""Neighbours: IPv4 addresses on the link and their MAC addresses, found by ARP.

Source:     RFC 826 (merge, then answer); RFC 1122 §2.3.2.1 (time out, limit the rate of requests),
            §2.3.2.2 (save at least one packet while resolving); states after RFC 4861 §7.3.2, which
            Linux uses for IPv4 as well.
Units:      microseconds.
Invariants: INCOMPLETE and PROBE have a deadline; a neighbour with a MAC address has a link header; an entry
            that left the cache is FORGOTTEN, never again REACHABLE, and its users ask for the new one.
Not here:   address probing and conflict defence (RFC 5227): `address_guard`.

A REACHABLE entry is STALE after a while without news; a STALE one is still used, and its first use starts a
unicast PROBE. So a peer that moved to another MAC costs seconds, not for ever, and a quiet link carries no
ARP at all. Age is looked at when an entry is used, never by a timer: an idle interface has no deadline.
"""

from typing import Final, TypeAlias

from mypy_extensions import i64

from appliance.stack.counters import Counters
from appliance.stack.ip_config import NeighborConfig
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
    "Frame",
    "Neighbor",
    "NeighborCache",
]

Frame: TypeAlias = "bytes | list[bytes | memoryview]"
"""A frame for the link: whole, or as the parts that make it up."""

INCOMPLETE: Final = 0
REACHABLE: Final = 1
STALE: Final = 2
PROBE: Final = 3
FAILED: Final = 4
FORGOTTEN: Final = 5  # no longer in the cache; connections may still hold it
STATE_NAMES: Final = ("INCOMPLETE", "REACHABLE", "STALE", "PROBE", "FAILED", "FORGOTTEN")

# The longest age at which TCP's output uses a REACHABLE entry without asking here first.
REACHABLE_US: Final = 60 * SECOND
_NO_MAC: Final = b"\0\0\0\0\0\0"
_LONG_AGO: Final = -(1 << 61)


class Neighbor:
    """One address on the link. link_header: the 14 bytes of Ethernet header to it, b"" while unknown."""

    def __init__(self, address: i64) -> None:
        self.address = address
        self.mac: bytes = b""
        self.link_header: bytes = b""
        self.state: i64 = INCOMPLETE
        # For a shorter time than REACHABLE_US it is set back, so that one comparison serves every setting.
        self.confirmed_at: i64 = _LONG_AGO
        self.requested_at: i64 = _LONG_AGO
        self.requests: i64 = 0
        self.deadline: i64 = NEVER
        self.queue: list[bytes] = []


class NeighborCache:
    """mask: with `address`, the addresses that can be neighbours. gateway: one more, 0 for none."""

    def __init__(
        self,
        mac: bytes,
        address: i64,
        has_vnet_header: bool,
        counters: Counters,
        config: NeighborConfig,
        mask: i64,
        gateway: i64,
    ) -> None:
        self._mac = mac
        self._address = address
        self._prefix = virtio.PLAIN if has_vnet_header else b""
        self._prefix_length: i64 = len(self._prefix)
        self._counters = counters
        self._mask = mask
        self._gateway = gateway
        self._max_requests: i64 = config.max_requests
        self._max_queued_frames: i64 = config.max_queued_frames
        self._max_neighbors: i64 = config.max_neighbors
        self._request_interval_us: i64 = config.request_interval_us
        self._failed_hold_us: i64 = config.failed_hold_us
        self._reachable_us: i64 = config.reachable_us
        self._set_back_us: i64 = 0  # see Neighbor.confirmed_at
        if self._reachable_us < REACHABLE_US:
            self._set_back_us = REACHABLE_US - self._reachable_us
            self._reachable_us = REACHABLE_US
        self._stale_us: i64 = config.stale_us + self._set_back_us
        self._only_mac = config.only_mac
        self._neighbors: dict[int, Neighbor] = {}
        self._flushed_at: i64 = _LONG_AGO
        self._deadline: i64 = NEVER  # never later than the earliest of the entries
        self.frames: list[Frame] = []  # all that is ready for the link, in order: the interface takes it

    def entries(self, now: i64) -> list[Neighbor]:
        """All that are known; a REACHABLE one that is too old to be believed has become STALE."""
        self._forget_unused(now)
        for neighbor in self._neighbors.values():
            if neighbor.state == REACHABLE and now - neighbor.confirmed_at > self._reachable_us:
                neighbor.state = STALE
        return list(self._neighbors.values())

    def get(self, address: i64) -> Neighbor:
        """The entry for an address on the link; a new one is INCOMPLETE and asks when first used."""
        neighbor = self._neighbors.get(address)
        if neighbor is None:
            if len(self._neighbors) >= self._max_neighbors:
                self._evict()
            neighbor = Neighbor(address)
            self._neighbors[address] = neighbor
            if self._only_mac:
                self._learn(neighbor, self._only_mac, 0)
                neighbor.confirmed_at = -_LONG_AGO  # there is nobody to ask again
        return neighbor

    def send(self, neighbor: Neighbor, frame: bytes, now: i64) -> None:
        """Send a frame whose link header has still to be filled in, or is neighbor.link_header already."""
        state = neighbor.state
        if state == FORGOTTEN:
            neighbor = self.get(neighbor.address)
            state = neighbor.state
        if state == REACHABLE:
            if now - neighbor.confirmed_at > self._reachable_us:
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
            if len(neighbor.queue) >= self._max_queued_frames:
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
        if neighbor.state == REACHABLE and not self._only_mac:
            neighbor.state = STALE

    def confirm(self, neighbor: Neighbor, now: i64) -> None:
        """The peer answered us (a TCP acknowledgment): its address works both ways (RFC 4861 §7.3.1)."""
        if neighbor.state == REACHABLE:
            if not self._only_mac:
                neighbor.confirmed_at = now - self._set_back_us
        elif neighbor.state == STALE or neighbor.state == PROBE:
            neighbor.confirmed_at = now - self._set_back_us
            neighbor.state = REACHABLE
            neighbor.deadline = NEVER

    def packet_arrives(self, packet: arp.ArpPacket, now: i64) -> None:
        """RFC 826 "packet reception": merge what we know, create only when it was for us, then answer."""
        if packet.sha[0] & 1 or packet.sha == _NO_MAC or packet.spa == self._address:
            # A sender that is no single host, or somebody else with our address: believe neither.
            self._counters.dropped_bad_source += 1
            return
        is_for_us = packet.tpa == self._address
        if self._can_be_neighbor(packet.spa):
            known = self._neighbors.get(packet.spa)
            if known is None and is_for_us:
                self._forget_unused(now)
                known = self.get(packet.spa)
            if known is not None:
                self._learn(known, packet.sha, now)
        if is_for_us and packet.op == arp.OP_REQUEST:
            reply = arp.build(arp.OP_REPLY, self._mac, self._address, packet.sha, packet.spa)
            self._emit(packet.sha, reply)

    def announce(self) -> None:
        """Gratuitous ARP: a request for our own address (RFC 5227 §2.3), so that caches are renewed."""
        self._emit(BROADCAST, arp.build(arp.OP_REQUEST, self._mac, self._address, _NO_MAC, self._address))

    def probe(self) -> None:
        """Ask for our own address from nobody's, which renews no cache (RFC 5227 §2.1.1)."""
        self._emit(BROADCAST, arp.build(arp.OP_REQUEST, self._mac, 0, _NO_MAC, self._address))

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
        neighbor.confirmed_at = now - self._set_back_us
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
        elif neighbor.requests < self._max_requests:
            self._request(neighbor, now)
        elif state == PROBE:
            # Nobody at that MAC address any more: ask everybody (RFC 4861 §7.3.3 starts anew as well).
            neighbor.mac = b""
            neighbor.link_header = b""
            neighbor.state = INCOMPLETE
            neighbor.requests = 0
            self._request(neighbor, now)
        else:
            self._counters.arp_failures += 1
            self._counters.dropped_unresolved += len(neighbor.queue)
            neighbor.queue = []
            neighbor.mac = b""
            neighbor.link_header = b""
            neighbor.state = FAILED
            neighbor.requests = 0
            neighbor.deadline = now + self._failed_hold_us

    def _request(self, neighbor: Neighbor, now: i64) -> None:
        # RFC 1122 §2.3.2.1: at most one a second, whoever had a reason to ask.
        is_too_soon = now - neighbor.requested_at < self._request_interval_us
        if not is_too_soon:
            neighbor.requests += 1
            neighbor.requested_at = now
        neighbor.deadline = neighbor.requested_at + self._request_interval_us
        if neighbor.deadline < self._deadline:
            self._deadline = neighbor.deadline
        if is_too_soon:
            return
        # RFC 1122 §2.3.2.1 (2): a known address is verified by unicast.
        to = neighbor.mac if neighbor.state == PROBE else BROADCAST
        self._emit(to, arp.build(arp.OP_REQUEST, self._mac, self._address, _NO_MAC, neighbor.address))

    def _emit(self, to: bytes, packet: bytes) -> None:
        if self._only_mac:
            return
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

    def _can_be_neighbor(self, address: i64) -> bool:
        """Whether the address is one host's, and we would send to it directly."""
        if address == self._gateway:
            return address != 0
        host = address & (self._mask ^ 0xFFFF_FFFF)
        if (address & self._mask) != (self._address & self._mask):
            return False
        # The first and the last are the network and its broadcast, but not on a link of two (RFC 3021).
        return self._mask >= 0xFFFF_FFFE or (host != 0 and host != self._mask ^ 0xFFFF_FFFF)

    def _forget_unused(self, now: i64) -> None:
        """Flush what was not confirmed for so long (RFC 1122 §2.3.2.1); done when somebody new comes."""
        if now - self._flushed_at < self._request_interval_us:
            return
        self._flushed_at = now
        for neighbor in list(self._neighbors.values()):
            is_settled = neighbor.state == REACHABLE or neighbor.state == STALE
            if is_settled and now - neighbor.confirmed_at > self._stale_us:
                self._forget(neighbor)

    def _forget(self, neighbor: Neighbor) -> None:
        del self._neighbors[neighbor.address]
        neighbor.state = FORGOTTEN
        neighbor.deadline = NEVER
        neighbor.queue = []
