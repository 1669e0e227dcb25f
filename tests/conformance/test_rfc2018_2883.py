"""Selective acknowledgment, and the reports of duplicates (RFC 2018, RFC 2883)."""

from __future__ import annotations

import pytest

from tests.support.peer import MS
from tests.support.talker import Talker, segments, span, start_of

SACK = 5
SACK_OK = 4


def data(talker: Talker, number: int, count: int = 1) -> list[tuple[int, int]]:
    """The peer sends `count` segments as one, from `number` on; the blocks of the ACK drawn at once."""
    talker.inject(".", seq=start_of(number), data=bytes(1000 * count))
    answer = talker.expect(".")
    talker.expect_nothing()
    return talker.blocks(answer)


@pytest.mark.row("R2018-1")
@pytest.mark.parametrize("offered", [True, False])
def test_sack_permitted_is_answered_only_where_it_was_offered(offered: bool) -> None:
    talker = Talker(sack=offered, is_open=False)
    talker.syn()
    answer = talker.syn_ack()
    assert (SACK_OK in answer.options) is offered
    talker.finish(answer)
    talker.write(3000)
    talker.inject(".", seq=1001, data=b"x" * 1000)
    talker.take()
    assert len(talker.taken) == 4
    assert all(SACK_OK not in packet.options for packet in talker.taken)


@pytest.mark.row("R2018-2")
def test_no_blocks_for_a_peer_that_did_not_offer_sack() -> None:
    talker = Talker(sack=False)
    talker.inject(".", seq=1001, data=bytes(1000))
    answer = talker.expect(".", ack=1)
    assert SACK not in answer.options


@pytest.mark.row("R2018-3")
def test_every_ack_has_the_blocks_while_there_is_a_hole() -> None:
    talker = Talker(sack=True)
    assert data(talker, 2) == [span(2, 2)]
    # An ACK that rides on data, sent for another reason.
    talker.write(100)
    assert talker.blocks(talker.taken[-1]) == [span(2, 2)]
    # And one for old data.
    talker.inject(".", seq=-500, data=bytes(400))
    assert span(2, 2) in talker.blocks(talker.expect("."))
    # The hole is filled: no blocks any more.
    assert data(talker, 1) == []


@pytest.mark.row("R2018-4")
def test_first_block_holds_the_segment_that_triggered_the_ack() -> None:
    talker = Talker(sack=True)
    assert data(talker, 4) == [span(4, 4)]
    assert data(talker, 2) == [span(2, 2), span(4, 4)]
    assert data(talker, 6) == [span(6, 6), span(2, 2), span(4, 4)]
    # It joins an island that is there: the whole island comes first.
    assert data(talker, 5) == [span(4, 6), span(2, 2)]


@pytest.mark.row("R2018-5")
@pytest.mark.parametrize(("ts", "fit"), [(False, 4), (True, 3)])
def test_as_many_blocks_as_fit_latest_first(ts: bool, fit: int) -> None:
    talker = Talker(sack=True, ts=ts)
    for number in (2, 4, 6, 8, 10):
        blocks = data(talker, number)
    assert blocks == [span(10, 10), span(8, 8), span(6, 6), span(4, 4)][:fit]


@pytest.mark.row("R2018-6")
def test_adjacent_islands_are_one_block_with_exact_edges() -> None:
    talker = Talker(sack=True)
    assert data(talker, 2) == [span(2, 2)]
    assert data(talker, 3) == [span(2, 3)]
    assert data(talker, 6) == [span(6, 6), span(2, 3)]
    talker.inject(".", seq=4001, data=bytes(700))
    talker.drain()
    talker.inject(".", seq=4701, data=bytes(300))
    assert talker.blocks(talker.expect(".")) == [(4001, 6001), (1001, 3001)]


@pytest.mark.row("R2018-7")
def test_sacked_data_that_the_receiver_gave_up_are_sent_again() -> None:
    talker = Talker(sack=True, rtt=100 * MS)
    assert talker.write(3000) == segments(1, 3)
    talker.advance(100 * MS)
    talker.ack(1, sack=[span(2, 3)])
    # The receiver reneges: it acknowledges what was missing, and not what it had SACKed.
    talker.wait(10 * MS)
    assert talker.ack(1001) == segments(2, 2)
    assert talker.ack(2001) == segments(3, 3)


@pytest.mark.row("R2018-7")
def test_left_edge_is_resent_after_a_timeout_although_it_was_sacked() -> None:
    talker = Talker(sack=True, rtt=100 * MS)
    talker.write(3000)
    # A receiver that SACKs the left edge and does not move its ACK.
    talker.ack(1, sack=[span(1, 1)])
    talker.drain()
    sent: list[int] = []
    for _ in range(4):
        sent += talker.next_sent()[1]
    assert 1 in sent


BOGUS = {
    "empty": [(1001, 1001)],
    "backwards": [(2001, 1001)],
    "beyond what was sent": [(3001, 6001)],
    "all of it beyond": [(100_001, 101_001)],
    "far below": [(-100_000, -99_000)],
    "far below behind a good one's place": [(-3000, -2000), (-9000, -8000)],
}


@pytest.mark.row("R2018-8")
@pytest.mark.parametrize("blocks", list(BOGUS.values()), ids=list(BOGUS))
def test_bogus_blocks_change_nothing(blocks: list[tuple[int, int]]) -> None:
    talker = Talker(sack=True, rtt=100 * MS)
    talker.write(5000)
    for _ in range(5):
        assert talker.ack(1, sack=blocks) == []
    assert talker.info("sacked") == 0
    assert talker.info("lost") == 0
    assert talker.ack_segments(5) == []
    assert talker.info("flight_size") == 0


@pytest.mark.row("R2018-8")
@pytest.mark.parametrize("length", [2, 3, 9, 11, 17])
def test_sack_option_of_odd_length_changes_nothing(length: int) -> None:
    talker = Talker(sack=True, rtt=100 * MS)
    talker.write(5000)
    left = (talker.stack_iss + 1001).to_bytes(4, "big")
    right = (talker.stack_iss + 4001).to_bytes(4, "big")
    option = bytes((SACK, length)) + (left + right + left + right)[: length - 2]
    for _ in range(4):
        talker.inject(".", ack=1, options=option)
    assert talker.info("sacked") == 0
    assert talker.ack_segments(5) == []
    assert talker.info("flight_size") == 0


@pytest.mark.row("R2883-1")
@pytest.mark.row("R2883-4")
def test_duplicate_segment_is_reported_once() -> None:
    talker = Talker(sack=True)
    assert data(talker, 1, 3) == []
    assert data(talker, 1) == [span(1, 1)]
    # The next ACK says no more of it.
    assert data(talker, 4, 3) == []


@pytest.mark.row("R2883-2")
@pytest.mark.row("R2883-4")
def test_duplicate_inside_an_island_is_reported_before_the_island() -> None:
    talker = Talker(sack=True)
    assert data(talker, 4, 2) == [span(4, 5)]
    assert data(talker, 4) == [span(4, 4), span(4, 5)]
    assert data(talker, 8) == [span(8, 8), span(4, 5)]


@pytest.mark.row("R2883-3")
def test_of_a_partial_duplicate_only_the_duplicate_part_is_reported() -> None:
    talker = Talker(sack=True)
    talker.inject(".", seq=1, data=bytes(500))
    talker.advance(1000 * MS)
    talker.drain()
    talker.inject(".", seq=1, data=bytes(1000))
    answer = talker.expect(".", ack=1001)
    assert talker.blocks(answer) == [(1, 501)]


@pytest.mark.row("R2883-3")
def test_of_a_partial_duplicate_of_an_island_only_the_duplicate_part_is_reported() -> None:
    talker = Talker(sack=True)
    assert data(talker, 4) == [span(4, 4)]
    # Segments 3 and 5 are new, segment 4 is not.
    assert data(talker, 3, 3) == [span(4, 4), span(3, 5)]
    # And in order: segments 1 and 2 are new, 3 is not.
    assert data(talker, 1, 3) == [span(3, 3)]


@pytest.mark.row("R2883-5")
def test_duplicate_report_is_judged_by_the_ack_of_its_own_packet() -> None:
    talker = Talker(sack=True, rtt=100 * MS)
    talker.write(6000)
    talker.advance(100 * MS)
    # Before this packet, 1:1001 was outstanding; with it, the block lies below the ACK.
    assert talker.ack(3001, sack=[span(1, 1)]) == []
    assert talker.info("sacked") == 0
    # Inside the second block: a report too, although it lies above the ACK.
    assert talker.ack(3001, sack=[span(5, 5), span(5, 6)]) == []
    assert talker.info("sacked") == 2000


@pytest.mark.row("R2018-6")
@pytest.mark.row("R2018-4")
@pytest.mark.parametrize("iss", [0xFFFF_F000, 0xFFFF_FFFF])
def test_blocks_across_the_wrap(iss: int) -> None:
    talker = Talker(sack=True, iss=iss)
    assert data(talker, 6) == [span(6, 6)]
    assert data(talker, 3, 2) == [span(3, 4), span(6, 6)]
    assert data(talker, 5) == [span(3, 6)]
