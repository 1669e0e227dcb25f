"""A peer that speaks the TCP options: SACK, timestamps, ECN; made for tests about loss and congestion.

    talker = Talker(sack=True, rtt=100 * MS)
    talker.write(10_000)
    assert talker.take() == segments(1, 10)
    talker.ack(1, sack=[(1001, 4001)])

Offloads are off, so every segment is a frame of its own, of 1000 bytes unless told otherwise. Numbers are
relative, as with `Peer`. Where timestamps were agreed on, the peer's clock ticks in milliseconds and every
segment of its own echoes the latest of the stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support import packets as pk
from tests.support.peer import MASK, MS, Peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.stack.tcp.connection import Connection
    from tests.support.packets import Packet

MSS = 1000
PEER_TS_BASE = 5_000_000
ECT_1, ECT_0, CE = 1, 2, 3


def start_of(number: int) -> int:
    """The first byte of the n-th segment, n from 1."""
    return 1 + (number - 1) * MSS


def segments(first: int, last: int) -> list[int]:
    """The first bytes of segments first .. last."""
    return [start_of(number) for number in range(first, last + 1)]


def span(first: int, last: int) -> tuple[int, int]:
    """A SACK block over segments first .. last."""
    return start_of(first), start_of(last + 1)


class Talker(Peer):
    """The peer opens to port 6379 and the stack is in ESTABLISHED, unless `is_open` is False.

    Args:
        sack, ts, ecn: what the peer's SYN offers. shift: its window scale, None for no option.
        rtt: what passes between the SYN,ACK and its ACK, and so the stack's first sample.
    """

    def __init__(
        self,
        *,
        sack: bool = False,
        ts: bool = False,
        ecn: bool = False,
        mss: int | None = MSS,
        shift: int | None = 7,
        window: int = 1 << 22,
        rtt: int = 0,
        is_open: bool = True,
        **settings: Any,
    ) -> None:
        settings.setdefault("gso", False)
        super().__init__(**settings)
        self.offers_sack = sack
        self.offers_ts = ts
        self.offers_ecn = ecn
        self.offered_mss = mss
        self.offered_shift = shift
        self.peer_window = window if shift is not None else min(window, 65535)
        self.has_ts = False
        self.stack_ts = 0  # the latest TSval of the stack
        self.taken: list[Packet] = []  # all that `take` has taken
        self.listen()
        if is_open:
            self.syn()
            self.finish(self.syn_ack(), rtt)

    # -- the handshake ---------------------------------------------------------------------------------------

    def syn_bytes(self) -> bytes:
        """The options of the peer's SYN, timestamps aside."""
        options = self.syn_options(self.offered_mss, self.offered_shift)
        return options + (pk.SACK_PERMITTED if self.offers_sack else b"")

    def syn(self) -> None:
        options = self.syn_bytes()
        if self.offers_ts:
            options += pk.timestamps_option(self.clock(), 0)
        self.inject(
            "SEW" if self.offers_ecn else "S", seq=0, window=min(self.peer_window, 65535), options=options
        )

    def syn_ack(self) -> Packet:
        return self.expect("SE." if self.offers_ecn else "S.", seq=0, ack=1)

    def finish(self, answer: Packet, rtt: int = 0) -> Connection:
        """The last ACK of the handshake, `rtt` after the SYN,ACK `answer`."""
        self.agree(answer, self.offered_shift)
        self.has_ts = 8 in answer.options
        if rtt:
            self.advance(rtt)
        self.inject(".", ack=1)
        self.expect_nothing()
        assert self.listener is not None
        connection = self.listener.accept()
        assert connection is not None
        connection.set_nodelay(True)
        connection.take_events()
        self.interface.take_ready()
        self._connection = connection
        self.flush()
        return connection

    # -- the peer's side -------------------------------------------------------------------------------------

    def clock(self) -> int:
        """The peer's TSval now."""
        return (PEER_TS_BASE + self.now // MS) & MASK

    def flush(self) -> list[Packet]:
        new = super().flush()
        for packet in new:
            if 8 in packet.options:
                self.stack_ts = int.from_bytes(packet.options[8][:4], "big")
        return new

    def inject(  # type: ignore[override]
        self,
        flags: str,
        *,
        seq: int | None = None,
        ack: int | None = None,
        data: bytes = b"",
        flush: bool = True,
        sack: Sequence[tuple[int, int]] = (),
        ts: tuple[int, int] | None = None,
        without_ts: bool = False,
        tos: int = 0,
        options: bytes = b"",
        **more: Any,
    ) -> None:
        """A segment with the agreed options. ts: (TSval, TSecr), not the usual; sack: relative blocks."""
        if self.has_ts and not without_ts and "S" not in flags:
            value, echo = (self.clock(), self.stack_ts) if ts is None else ts
            options = pk.NOP * 2 + pk.timestamps_option(value & MASK, echo & MASK) + options
        if sack:
            blocks = [((self.stack_iss + a) & MASK, (self.stack_iss + b) & MASK) for a, b in sack]
            options += pk.NOP * 2 + pk.sack_option(*blocks)
        more.setdefault("window", min(self.peer_window, 65535 << (0 if "S" in flags else self.window_shift)))
        payload = self.segment(flags, seq=seq, ack=ack, data=data, options=options, **more)
        bits = pk.flag_bits(flags)
        end = (self.next if seq is None else seq) + len(data) + bool(bits & 1) + bool(bits & 2)
        if not bits & pk.FLAG_BITS["R"] and end - self.next < 1 << 31:
            self.next = max(self.next, end)
        header = pk.vnet_header(1, 0, 0, 0, 34, 16) if self.partial else None
        self.frame(pk.ethernet(pk.ipv4(payload, tos=tos)), header, flush=flush)

    def ack(self, number: int, sack: Sequence[tuple[int, int]] = (), **more: Any) -> list[int]:
        """A pure ACK; returns the first bytes of what the stack sends upon it."""
        self.inject(more.pop("flags", "."), ack=number, sack=sack, **more)
        return self.take()

    def ack_segments(self, last: int, sack: Sequence[tuple[int, int]] = (), **more: Any) -> list[int]:
        """A pure ACK for everything up to the n-th segment."""
        return self.ack(start_of(last + 1), sack, **more)

    # -- the stack's side ------------------------------------------------------------------------------------

    def write(self, count: int) -> list[int]:
        """The application sends so many bytes; returns the first bytes of the segments that leave at once."""
        taken = self.send(bytes(count))
        assert taken == count, f"the stack took {taken} of {count} bytes"
        return self.take()

    def take(self) -> list[int]:
        """The first bytes of the segments with data that wait in `sent`; pure ACKs are dropped."""
        packets = self.drain()
        self.taken += packets
        return [(packet.seq - self.stack_iss) & MASK for packet in packets if packet.data]

    def wait(self, microseconds: int) -> list[int]:
        """Let time pass; returns the first bytes of the segments with data that were sent meanwhile."""
        self.advance(microseconds)
        return self.take()

    def next_sent(self, limit: int = 600_000 * MS) -> tuple[int, list[int]]:
        """Let time pass until the stack sends; how long that took, and the first bytes of the data."""
        start = self.now
        while self.now - start < limit:
            self.advance(max(self.time_to_deadline(), 0) if self.time_to_deadline() < limit else limit)
            if self.sent:
                return self.now - start, self.take()
        return limit, []

    def next_sent_time(self) -> int:
        """Like `next_sent`, but what was sent stays for `expect`."""
        start = self.now
        while not self.sent:
            assert self.time_to_deadline() < 600_000 * MS
            self.advance(self.time_to_deadline())
        return self.now - start

    def info(self, name: str) -> int:
        value = self.connection.info()[name]
        assert isinstance(value, int)
        return value

    def blocks(self, packet: Packet) -> list[tuple[int, int]]:
        """The SACK blocks of a packet of the stack, relative to the peer's numbers; [] without the option."""
        words = packet.options.get(5, b"")
        edges = [
            (int.from_bytes(words[index : index + 4], "big") - self.iss) & MASK
            for index in range(0, len(words), 4)
        ]
        return list(zip(edges[::2], edges[1::2], strict=True))
