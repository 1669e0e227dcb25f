"""What the connections of one interface share: settings, the way out, and who needs attention.

A connection never calls the interface; it writes here, and the interface reads. So the arrows stay
one-way, and a connection can be driven in a test with nothing but a `TcpHost`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from mypy_extensions import i64

from appliance.stack.syn_cookies import SynCookies
from appliance.wire.tcp import MAX_WINDOW_SHIFT

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.counters import Counters
    from appliance.stack.neighbor import NeighborCache
    from appliance.stack.path_mtu import PathMtuCache
    from appliance.stack.tcp.config import TcpConfig
    from appliance.stack.tcp.tcb import Tcb

__all__ = ["TcpHost"]


class TcpHost:
    """Shared by all connections of one interface.

    ready: connections with events to report. touched: connections that may have something to send or
    a new deadline. closed: connections to take out of the table. Frames go out through `neighbors`.
    """

    def __init__(
        self,
        *,
        config: TcpConfig,
        counters: Counters,
        neighbors: NeighborCache,
        path_mtus: PathMtuCache,
        random_bytes: Callable[[int], bytes],
        mtu: int,
        ttl: int,
        has_vnet_header: bool,
        may_use_gso: bool,
        may_gather: bool,
    ) -> None:
        self.config: TcpConfig = config
        self.counters: Counters = counters
        self.neighbors: NeighborCache = neighbors
        self.path_mtus: PathMtuCache = path_mtus
        self.mtu: i64 = mtu
        self.ttl: i64 = ttl
        self.has_vnet_header: bool = has_vnet_header
        self.may_use_gso: bool = may_use_gso
        self.may_gather: bool = may_gather
        self.ready: list[Tcb] = []
        self.touched: list[Tcb] = []
        self.closed: list[Tcb] = []
        self.time_wait: dict[bytes, Tcb] = {}  # oldest first: the ones to give up when the pool is full
        self.reassembly_bytes: i64 = 0  # kept out of order by all connections
        self.now: i64 = 0  # the latest time that anybody told the interface
        self.identification: i64 = int.from_bytes(random_bytes(2), "big")
        self._isn_secret: bytes = random_bytes(16)
        self.cookies: SynCookies = SynCookies(random_bytes(16))
        self.receive_shift: i64 = _shift_for(config.receive_buffer_limit)

    def initial_numbers(self, four_tuple: bytes, now: i64) -> tuple[int, int]:
        """(ISN, timestamp offset) of a new connection.

        ISN = M + F(4-tuple, secret): RFC 6528 §3; M ticks every 4 µs (RFC 9293 MUST-8, MUST-9). The offset is
        another part of the same hash (RFC 7323 §5.4), so timestamps of one 4-tuple go on where they were.
        """
        digest = blake2b(four_tuple, key=self._isn_secret, digest_size=8).digest()
        isn = ((now >> 2) + int.from_bytes(digest[:4], "big")) & 0xFFFF_FFFF
        return isn, int.from_bytes(digest[4:], "big")


def _shift_for(limit: i64) -> i64:
    """The smallest window shift that can express `limit` bytes in 16 bits."""
    shift: i64 = 0
    while (65535 << shift) < limit and shift < MAX_WINDOW_SHIFT:
        shift += 1
    return shift
