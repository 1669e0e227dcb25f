"""Datagrams that are no segment of a connection: answers to what came, cut to size where they must be.

Source:     RFC 791 §3.2 (fragmentation); RFC 6864 §4 (identification); RFC 1122 §3.2.1.4, §3.3.3.
Units:      bytes; microseconds.
Invariants: every fragment fits the path as far as it is known; an identification is never used twice for
            datagrams that may be cut, within a datagram's lifetime.

An answer goes back to the MAC address that the question came from: no ARP, no route, no state for whoever
asks.

Small answers are atomic (DF, RFC 6864 §4.1): no path is narrower than MIN_PATH_MTU, and they need no
identification. Larger ones leave DF clear, since nobody would hear the "fragmentation needed" of a router.
TCP's segments do not come this way; they are always atomic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.stack.identification import EXHAUSTED
from appliance.stack.path_mtu import MIN_PATH_MTU
from appliance.wire import ethernet, ipv4

if TYPE_CHECKING:
    from appliance.stack.counters import Counters
    from appliance.stack.identification import Identifications
    from appliance.stack.neighbor import NeighborCache
    from appliance.stack.path_mtu import PathMtuCache

__all__ = ["IpOutput"]

_MAX_PAYLOAD: Final = 65535 - ipv4.HEADER_LENGTH


class IpOutput:
    def __init__(
        self,
        mac: bytes,
        address: i64,
        ttl: i64,
        frame_prefix: bytes,
        neighbors: NeighborCache,
        path_mtus: PathMtuCache,
        identifications: Identifications,
        counters: Counters,
    ) -> None:
        self._mac = mac
        self._address = address
        self._ttl = ttl
        self._frame_prefix = frame_prefix
        self._neighbors = neighbors
        self._path_mtus = path_mtus
        self._identifications = identifications
        self._counters = counters

    def answer(self, mac: bytes, destination: i64, protocol: i64, payload: bytes, tos: i64, now: i64) -> None:
        """Send one datagram to the MAC address `mac`, in fragments when it is larger than the path takes."""
        count: i64 = len(payload)
        # A group address is nobody's own: whoever claims to be one wants us to shout (RFC 1812 §4.3.2.7).
        if i64(mac[0]) & 1 or count > _MAX_PAYLOAD:
            self._counters.dropped_bad_source += 1
            return
        link = self._frame_prefix + ethernet.header(mac, self._mac, ethernet.ETHERTYPE_IPV4)
        mtu = self._path_mtus.get(destination)
        length = ipv4.HEADER_LENGTH + count
        if length <= mtu:
            word: i64 = ipv4.DONT_FRAGMENT
            identification: i64 = 0
            if length > MIN_PATH_MTU:
                identification = self._identifications.take(now)
                if identification == EXHAUSTED:
                    identification = 0  # too many at once: better whole or not at all than mixed up
                else:
                    word = 0
            self._emit(link, destination, protocol, payload, identification, word, tos)
            return
        identification = self._identifications.take(now)
        if identification == EXHAUSTED:
            self._counters.dropped_no_identification += 1
            return
        size = (mtu - ipv4.HEADER_LENGTH) & ~7
        start: i64 = 0
        while start < count:
            end = start + size
            word = start >> 3
            if end < count:
                word |= ipv4.MORE_FRAGMENTS
            else:
                end = count
            self._counters.fragments_out += 1
            self._emit(link, destination, protocol, payload[start:end], identification, word, tos)
            start = end

    def _emit(
        self,
        link: bytes,
        destination: i64,
        protocol: i64,
        payload: bytes,
        identification: i64,
        word: i64,
        tos: i64,
    ) -> None:
        header = ipv4.build_header(
            self._address, destination, protocol, len(payload), identification, self._ttl, word, tos
        )
        self._neighbors.frames.append(link + header + payload)
