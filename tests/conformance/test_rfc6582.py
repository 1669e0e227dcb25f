"""NewReno: recovery for peers without SACK (RFC 6582)."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.stack.tcp.config import TcpConfig
from tests.support.peer import MS
from tests.support.talker import Talker, segments, start_of

RTT = 100 * MS


def sender(count: int = 10, algorithm: str = "newreno", queued: int = 0, **more: Any) -> Talker:
    """`count` segments in flight for one RTT, cwnd just as large, and `queued` more in the send buffer."""
    config = TcpConfig(congestion_control=algorithm, initial_window=count)
    talker = Talker(rtt=RTT, tcp=config, **more)
    assert talker.write((count + queued) * 1000) == segments(1, count)
    assert talker.wait(RTT) == []
    return talker


def duplicates(talker: Talker, number: int, count: int) -> list[int]:
    sent: list[int] = []
    for _ in range(count):
        sent += talker.ack_segments(number)
    return sent


@pytest.mark.row("R6582-1")
@pytest.mark.row("R8985-1")
@pytest.mark.parametrize("algorithm", ["newreno", "cubic"])
def test_partial_ack_resends_the_next_hole_at_once(algorithm: str) -> None:
    talker = sender(algorithm=algorithm)
    # 1 and 4 are lost; the other eight arrive.
    assert duplicates(talker, 0, 8) == [1]
    talker.advance(RTT)
    now = talker.now
    assert talker.ack_segments(3) == [start_of(4)]
    assert talker.now == now
    assert talker.connection.info()["recovery"] == "recovery"
    talker.advance(RTT)
    assert talker.ack_segments(10) == []
    assert talker.connection.info()["recovery"] == "open"
    assert talker.info("retransmissions") == 2
    assert talker.counter("retransmission_timeouts") == 0


@pytest.mark.row("R6582-1")
def test_every_hole_is_repaired_one_a_round_trip() -> None:
    talker = sender()
    # 1, 3, 5 are lost.
    assert duplicates(talker, 0, 7) == [1]
    for acked, hole in ((2, 3), (4, 5)):
        talker.advance(RTT)
        assert talker.ack_segments(acked) == [start_of(hole)]
    talker.advance(RTT)
    assert talker.ack_segments(10) == []
    assert talker.counter("retransmission_timeouts") == 0


@pytest.mark.row("R6582-2")
def test_full_ack_ends_recovery_without_a_burst() -> None:
    talker = sender(queued=40)
    sent = duplicates(talker, 0, 9)
    assert sent.count(1) == 1
    talker.advance(RTT)
    ssthresh = talker.info("ssthresh")
    last = (talker.seen - 1) // 1000
    assert ssthresh <= 6000
    sent = talker.ack_segments(last)
    # cwnd = ssthresh, or min(ssthresh, FlightSize + SMSS).
    assert talker.info("cwnd") <= ssthresh
    assert len(sent) * 1000 <= ssthresh
    assert talker.info("flight_size") <= ssthresh
    assert talker.connection.info()["recovery"] == "open"


@pytest.mark.row("R6582-3")
@pytest.mark.parametrize(("algorithm", "ssthresh"), [("newreno", 5000), ("cubic", 7000)])
def test_two_losses_of_one_window_cost_one_reduction(algorithm: str, ssthresh: int) -> None:
    talker = sender(algorithm=algorithm)
    duplicates(talker, 0, 8)
    assert talker.info("ssthresh") == ssthresh
    talker.advance(RTT)
    assert talker.ack_segments(3) == [start_of(4)]
    # Duplicates for the second hole, more than three.
    assert duplicates(talker, 3, 5) == []
    assert talker.info("ssthresh") == ssthresh
    talker.advance(RTT)
    talker.ack_segments(10)
    assert talker.info("ssthresh") == ssthresh
    assert talker.info("cwnd") <= ssthresh
    assert talker.counter("fast_retransmits") == 1


@pytest.mark.row("R6582-4")
def test_duplicates_of_the_old_flight_after_a_timeout_resend_nothing() -> None:
    talker = sender()
    while talker.counter("retransmission_timeouts") == 0:
        _, sent = talker.next_sent()
    assert sent == [1]
    ssthresh = talker.info("ssthresh")
    # The peer had all but segment 1, and says so for each copy that arrives.
    assert duplicates(talker, 0, 6) == []
    assert talker.info("ssthresh") == ssthresh
    assert talker.counter("fast_retransmits") == 0
    # The ACK lies below recover: still no fast retransmit from the duplicates of what is resent now.
    resent = talker.ack_segments(2)
    again = duplicates(talker, 2, 5)
    assert len(set(resent + again)) == len(resent + again)
    assert talker.counter("fast_retransmits") == 0
    assert talker.info("ssthresh") == ssthresh


@pytest.mark.row("R6582-4")
def test_duplicates_beyond_recover_start_fast_retransmit_again() -> None:
    talker = sender()
    while talker.counter("retransmission_timeouts") == 0:
        talker.next_sent()
    talker.advance(RTT)
    talker.ack_segments(10)
    first = talker.write(20_000)[0]
    assert first == start_of(11)
    talker.advance(RTT)
    talker.ack_segments(12)
    talker.advance(RTT)
    sent = duplicates(talker, 12, 3)
    assert start_of(13) in sent
    assert talker.counter("fast_retransmits") == 1
