"""Paths that drop what is too long without a word, and what the MSS leaves to the data (RFC 4821, RFC 6691)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.peer import MS, S
from tests.support.talker import Talker


class BlackHole(Talker):
    """A path on which segments of more than `limit` bytes of data vanish, and no ICMP tells."""

    def __init__(self, limit: int, **more: Any) -> None:
        super().__init__(mss=1460, rtt=50 * MS, **more)
        self.limit = limit
        self.edge = 1  # received in order up to here
        self.held: dict[int, int] = {}  # first byte -> byte behind, out of order

    def pass_on(self) -> None:
        """What the stack sent arrives, or not; one ACK for all of it half an RTT later."""
        arrived = False
        for packet in self.drain():
            self.taken.append(packet)
            if packet.data and len(packet.data) <= self.limit:
                first = (packet.seq - self.stack_iss) & 0xFFFF_FFFF
                self.held[first] = max(self.held.get(first, 0), first + len(packet.data))
                arrived = True
        while (first := min(self.held, default=self.edge + 1)) <= self.edge:
            self.edge = max(self.edge, self.held.pop(first))
        if arrived:
            self.advance(25 * MS)
            self.inject(".", ack=self.edge)


@pytest.mark.row("R4821-1")
@pytest.mark.parametrize("sack", [True, False])
def test_transfer_completes_on_a_path_that_drops_long_segments_silently(sack: bool) -> None:
    path = BlackHole(1200 - 40, sack=sack)
    start = path.now
    path.send(bytes(50_000))
    for _ in range(500):
        path.pass_on()
        if path.edge == 50_001:
            break
        if not path.sent:
            path.next_sent_time()
    assert path.edge == 50_001
    assert path.now - start < 60 * S
    assert path.info("smss") <= 1160
    # And a path that takes them all never sees a smaller one.
    wide = BlackHole(1460, sack=sack)
    wide.send(bytes(29_200))
    for _ in range(20):
        wide.pass_on()
    assert wide.edge == 29_201
    assert {len(packet.data) for packet in wide.taken if packet.data} == {1460}


@pytest.mark.row("R6691-1")
@pytest.mark.parametrize(("ts", "length"), [(False, 1460), (True, 1448)])
def test_mss_is_without_options_and_the_sender_takes_them_off_the_data(ts: bool, length: int) -> None:
    talker = Talker(sack=True, ts=ts, mss=1460, is_open=False)
    talker.syn()
    answer = talker.syn_ack()
    assert answer.mss == 1460
    talker.finish(answer)
    talker.write(10_000)
    assert {len(packet.data) for packet in talker.taken[:-1]} == {length}
    # Beside a SACK block (8 bytes, and 4 of kind, length and padding) there is less room.
    talker.ack(talker.seen)
    talker.inject(".", seq=1001, data=bytes(100))
    talker.take()
    talker.taken.clear()
    talker.write(10_000)
    with_blocks = [packet for packet in talker.taken if 5 in packet.options]
    assert with_blocks
    assert max(len(packet.data) for packet in with_blocks) == length - 12
