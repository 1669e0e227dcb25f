"""A connection as the conformance table means it by *EST*, and other starts of its tests.

`est()` is a passive open by a peer with `mss 1000, sackOK, wscale 7, win 65535` and no timestamps; `ts()` is
the same with timestamps. The link takes bare Ethernet frames without offloads, so that each frame is one
segment with all its checksums. Numbers are relative to both sides' ISNs, windows are in bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support import packets as pk
from tests.support.packets import PEER, STACK
from tests.support.peer import MS, PORT, Peer

if TYPE_CHECKING:
    from appliance.stack.tcp.connection import Connection
    from tests.support.packets import Packet

HOUR = 3_600_000 * MS


class Est(Peer):
    """A `Peer` on a link without offloads, with a window of its own and, once agreed, timestamps.

    window: what its segments advertise unless told otherwise. ts_offset: added to its clock of milliseconds.
    """

    def __init__(self, **settings: Any) -> None:
        self.window = 65535
        self.has_timestamps = False
        self.ts_offset = 5_000_000
        self.ts_recent = 0
        super().__init__(**({"vnet_header": False, "gso": False} | settings))

    def timestamps(self) -> bytes:
        return pk.timestamps_option((self.now // MS + self.ts_offset) & 0xFFFF_FFFF, self.ts_recent)

    def segment(self, flags: str, **more: Any) -> bytes:
        if "S" not in flags:
            more.setdefault("window", self.window)
        if self.has_timestamps and "options" not in more:
            more["options"] = self.timestamps()
        return super().segment(flags, **more)

    def flush(self) -> list[Packet]:
        new = super().flush()
        for packet in new:
            if 8 in packet.options:
                self.ts_recent = int.from_bytes(packet.options[8][:4], "big")
        return new

    def open(
        self,
        *,
        mss: int | None = 1000,
        sack: bool = True,
        shift: int | None = 7,
        timestamps: bool = False,
        window: int = 65535,
        rtt: int = 0,
    ) -> Connection:
        """The handshake of a passive open; the connection is accepted, and nothing is left in `sent`."""
        self.window = window
        if self.listener is None:
            self.listen()
        assert self.listener is not None
        options = self.syn_options(mss, shift)
        options += pk.SACK_PERMITTED if sack else b""
        options += self.timestamps() if timestamps else b""
        self.inject("S", seq=0, window=min(window, 65535), options=options)
        self.agree(self.expect("S.", seq=0, ack=1), shift)
        self.has_timestamps = timestamps
        self.advance(rtt)
        self.expect_nothing()
        self.inject(".")
        self.expect_nothing()
        connection = self.listener.accept()
        assert connection is not None
        connection.take_events()
        self.interface.take_ready()
        self._connection = connection
        return connection

    def open_second(self, peer_port: int, port: int = PORT) -> Connection:
        """One more connection to the same listener; its segments are found in `other`."""
        assert self.listener is not None
        ports = {"source_port": peer_port, "destination_port": port}
        self.datagram(pk.tcp("S", seq=5_000, options=pk.mss_option(1000), **ports))
        syn_ack = self.other.pop()
        assert syn_ack.flags == "S."
        self.datagram(pk.tcp(".", seq=5_001, ack=syn_ack.seq + 1, **ports))
        connection = self.listener.accept()
        assert connection is not None
        assert connection.remote_port == peer_port
        return connection

    def report(self, kind: int, code: int, *, seq: int, rest: int = 0, peer_port: int | None = None) -> None:
        """An ICMP error from a router, that quotes our segment with the relative number `seq`."""
        segment = pk.tcp(
            ".",
            seq=self.stack_iss + seq,
            source_port=self.port,
            destination_port=self.peer_port if peer_port is None else peer_port,
            source=STACK,
            destination=PEER,
        )
        quote = pk.ipv4(segment, source=STACK, destination=PEER, fragment=0x4000, total_length=1040)[:28]
        self.datagram(pk.icmp(kind, code, rest, quote), 1, source=pk.ip("10.77.0.254"))

    def take(self) -> list[tuple[int, int]]:
        """(seq, length) of the segments with data that were sent since the last time, in order."""
        return [((p.seq - self.stack_iss) & 0xFFFF_FFFF, len(p.data)) for p in self.drain() if p.data]

    def events(self) -> int:
        return self.connection.take_events()


def est(
    *,
    mss: int | None = 1000,
    sack: bool = True,
    shift: int | None = 7,
    timestamps: bool = False,
    window: int = 65535,
    rtt: int = 0,
    **settings: Any,
) -> Est:
    """*EST*: ESTABLISHED by a passive open; settings go to `Est`."""
    peer = Est(**settings)
    peer.open(mss=mss, sack=sack, shift=shift, timestamps=timestamps, window=window, rtt=rtt)
    return peer


def plain(**more: Any) -> Est:
    """EST with a peer that offers nothing but its MSS: no tail loss probes, windows exact to the byte."""
    return est(**({"sack": False, "shift": None} | more))


def ts(**more: Any) -> Est:
    """EST with timestamps."""
    return est(timestamps=True, **more)


def pattern(count: int) -> bytes:
    """Bytes that show where they were cut or swapped."""
    return bytes((index * 7 + index // 251) & 0xFF for index in range(count))


def sum_of(raw: bytes) -> int:
    """The Internet checksum's sum over a frame's segment and pseudo-header: 0xFFFF is right."""
    datagram = raw[14:]
    header = (datagram[0] & 15) * 4
    segment = datagram[header:]
    covered = datagram[12:20] + bytes((0, 6)) + len(segment).to_bytes(2, "big") + segment
    return pk.internet_checksum(covered) ^ 0xFFFF
