"""Proportional rate reduction (RFC 9937, which obsoletes RFC 6937)."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.stack.tcp.config import TcpConfig
from tests.support.peer import MS
from tests.support.talker import Talker, segments, span, start_of

RTT = 100 * MS


def sender(count: int, algorithm: str = "cubic", queued: int = 40, **more: Any) -> Talker:
    """`count` segments in flight for one RTT, cwnd just as large, and `queued` more in the send buffer."""
    config = TcpConfig(congestion_control=algorithm, initial_window=count, send_buffer_initial=1 << 20)
    talker = Talker(sack=True, rtt=RTT, tcp=config, **more)
    assert talker.write((count + queued) * 1000) == segments(1, count)
    assert talker.wait(RTT) == []
    return talker


def enter_recovery(talker: Talker, lost: int, trigger: int) -> list[int]:
    """Segments 1 .. lost are lost: SACKs for the next ones, each alone, up to number `trigger`."""
    sent: list[int] = []
    for last in range(lost + 1, trigger + 1):
        talker.advance(1 * MS)
        sent += talker.ack(1, sack=[span(lost + 1, last)])
    return sent


@pytest.mark.row("R6937-1")
@pytest.mark.parametrize(("algorithm", "factor"), [("cubic", 0.7), ("newreno", 0.5)])
def test_window_shrinks_in_proportion_and_evenly(algorithm: str, factor: float) -> None:
    talker = sender(20, algorithm)
    sent = enter_recovery(talker, 1, 4)
    assert sent == [*segments(21, 22), 1]  # limited transmit, limited transmit, the loss
    flight = 22
    counts: list[int] = []
    for last in range(5, 15):
        talker.advance(1 * MS)
        counts.append(len(talker.ack(1, sack=[span(2, last)])))
    expected = 10 * factor * 20 / flight
    assert expected - 2 <= sum(counts) <= expected + 2
    # Evenly: never a burst, never a pause as long as a quarter of the window.
    assert max(counts) == 1
    pauses = "".join(map(str, counts)).split("1")
    assert max(map(len, pauses)) <= 3


@pytest.mark.row("R6937-2")
def test_below_ssthresh_each_delivered_segment_releases_one() -> None:
    talker = sender(20)
    sent = enter_recovery(talker, 15, 18)
    assert sent[-1] == 1
    assert talker.info("pipe") < talker.info("ssthresh")
    for last in (19, 20):
        talker.advance(1 * MS)
        assert len(talker.ack(1, sack=[span(16, last)])) == 1
    talker.advance(RTT)
    assert len(talker.ack(1, sack=[span(16, 22)])) == 2
    # An ACK that advances and shows no new loss: what was delivered, and one more.
    number = 1
    for _ in range(3):
        talker.advance(1 * MS)
        before = talker.info("pipe")
        sent = talker.ack_segments(number, sack=[span(16, 22)])
        assert len(sent) == 2
        assert talker.info("pipe") == before + 1000
        assert talker.info("pipe") <= talker.info("ssthresh")
        number += 1


@pytest.mark.row("R6937-2")
def test_pipe_grows_to_ssthresh_and_not_beyond() -> None:
    talker = sender(20)
    enter_recovery(talker, 15, 20)
    for number in range(1, 15):
        talker.advance(RTT // 4)
        talker.ack_segments(number, sack=[span(16, 20)])
        assert talker.info("pipe") <= talker.info("ssthresh")
    assert talker.info("pipe") > talker.info("ssthresh") - 1000


@pytest.mark.row("R6937-3")
def test_first_retransmission_leaves_on_the_ack_that_shows_the_loss() -> None:
    talker = sender(20, queued=0)
    before = talker.now
    # One ACK: pipe stays far above ssthresh, so the proportion alone would not let anything go.
    assert talker.ack(1, sack=[span(2, 4)]) == [1]
    assert talker.now == before
    assert talker.info("pipe") > talker.info("ssthresh")


@pytest.mark.row("R6937-3")
def test_first_retransmission_leaves_although_pipe_is_above_the_new_window() -> None:
    talker = sender(10, "newreno")
    talker.ack(1, sack=[span(2, 2)])
    talker.ack(1, sack=[span(2, 3)])
    assert talker.ack(1, sack=[span(2, 4)]) == [1]


@pytest.mark.row("R6937-4")
@pytest.mark.parametrize(("algorithm", "ssthresh"), [("cubic", 14_000), ("newreno", 10_000)])
def test_recovery_ends_with_cwnd_at_ssthresh(algorithm: str, ssthresh: int) -> None:
    talker = sender(20, algorithm)
    assert talker.ack(1, sack=[span(2, 20)])[0] == 1
    assert talker.info("ssthresh") == ssthresh
    talker.advance(RTT)
    last = (talker.seen - 1) // 1000
    talker.ack_segments(last)
    assert talker.info("cwnd") == ssthresh
    assert talker.info("flight_size") == ssthresh
    assert talker.connection.info()["recovery"] == "open"


@pytest.mark.row("R6937-4")
def test_recovery_without_anything_queued_ends_at_ssthresh_too() -> None:
    talker = sender(20, queued=0)
    talker.ack(1, sack=[span(2, 20)])
    talker.advance(RTT)
    talker.ack_segments(20)
    assert talker.info("cwnd") == 14_000
    assert talker.write(30_000) == [start_of(number) for number in range(21, 35)]
