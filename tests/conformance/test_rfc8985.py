"""Loss detection by SACK and by time, and the tail loss probe (RFC 6675, RFC 8985).

Unless a test says otherwise the RTT is 100 ms, and min RTT/4, the reordering window, 25 ms.
"""

from __future__ import annotations

from typing import Any

import pytest

from appliance.stack.tcp.config import TcpConfig
from tests.support.peer import MS
from tests.support.talker import Talker, segments, span, start_of

RTT = 100 * MS
QUARTER = RTT // 4


def sender(count: int, *, wait: int = RTT, **more: Any) -> Talker:
    """A sender with SACK, `count` segments in flight for `wait`."""
    more.setdefault("sack", True)
    more.setdefault("rtt", RTT)
    talker = Talker(**more)
    assert talker.write(count * 1000) == segments(1, count)
    assert talker.wait(wait) == []
    return talker


def reordered(count: int) -> Talker:
    """A sender that has seen reordering: segment 2 was SACKed before segment 1 arrived, never sent twice.

    Then `count` new segments, 3 .. count + 2, have been in flight for one RTT.
    """
    talker = sender(2)
    assert talker.ack(1, sack=[span(2, 2)]) == []
    talker.advance(5 * MS)
    assert talker.ack_segments(2) == []
    assert talker.info("reordering_seen") == 1
    assert talker.info("retransmissions") == 0
    assert talker.write(count * 1000) == segments(3, count + 2)
    assert talker.wait(RTT) == []
    return talker


# -- RFC 6675 ------------------------------------------------------------------------------------------------


@pytest.mark.row("R6675-1")
def test_three_segments_sacked_above_are_a_loss() -> None:
    talker = sender(6)
    assert talker.ack(1, sack=[span(2, 4)])[0] == 1


@pytest.mark.row("R6675-1")
def test_three_separate_ranges_sacked_above_are_a_loss() -> None:
    talker = sender(8)
    assert talker.ack(1, sack=[span(3, 3)]) == []
    assert talker.ack(1, sack=[span(5, 5), span(3, 3)]) == []
    assert talker.ack(1, sack=[span(7, 7), span(5, 5), span(3, 3)])[0] == 1


@pytest.mark.row("R6675-1")
def test_two_segments_sacked_above_are_not_yet_a_loss() -> None:
    talker = sender(6)
    assert talker.ack(1, sack=[span(2, 2)]) == []
    assert talker.ack(1, sack=[span(2, 3)]) == []
    assert talker.info("lost") == 0


@pytest.mark.row("R6675-2")
def test_pipe_limits_what_recovery_sends() -> None:
    talker = sender(10)
    talker.write(20_000)
    # 1 to 5 are lost. Two SACKs release new data (limited transmit), the third shows the losses.
    assert talker.ack(1, sack=[span(6, 6)]) == segments(11, 11)
    assert talker.ack(1, sack=[span(6, 7)]) == segments(12, 12)
    sent: list[int] = []
    for last in range(8, 13):
        talker.advance(1 * MS)
        before = len(sent)
        sent += talker.ack(1, sack=[span(6, last)])
        assert talker.info("pipe") <= talker.info("cwnd") <= 7000
        assert len(sent) - before <= 1  # as many as were delivered
    assert sent == segments(1, 5)


# -- RACK -------------------------------------------------------------------------------------------------


@pytest.mark.row("R8985-1")
def test_without_sack_three_duplicates_and_no_timer_find_a_loss() -> None:
    talker = sender(6, sack=False, wait=0)
    talker.advance(RTT)
    assert talker.ack(1) == []
    assert talker.ack(1) == []
    # No reordering timer, no probe: silence until the retransmission timer.
    deadline = talker.time_to_deadline()
    assert deadline >= 200 * MS
    assert talker.ack(1) == [1]


@pytest.mark.row("R8985-2")
def test_without_reordering_three_sacked_segments_are_a_loss_at_once() -> None:
    talker = sender(10)
    before = talker.now
    assert talker.ack(1, sack=[span(2, 4)]) == [1]
    assert talker.now == before


@pytest.mark.row("R8985-2")
def test_what_one_ack_reports_together_is_no_reordering() -> None:
    talker = sender(10)
    # The peer delayed its ACK for 1; then 3 came, behind a gap.
    assert talker.ack_segments(1, sack=[span(3, 3)]) == []
    assert talker.info("reordering_seen") == 0
    assert talker.ack_segments(1, sack=[span(3, 5)]) == segments(2, 2)


@pytest.mark.row("R8985-3")
@pytest.mark.row("R8985-4")
def test_overtaken_segments_are_lost_after_a_quarter_of_the_rtt() -> None:
    talker = sender(3)
    assert talker.ack(1, sack=[span(3, 3)]) == []
    elapsed, sent = talker.next_sent()
    assert QUARTER <= elapsed <= QUARTER + 2 * MS
    # Both are lost; PRR lets the first one go, and the second upon the next ACK.
    assert sent == segments(1, 1)
    assert talker.info("lost") == 1000
    assert talker.ack(1001, sack=[span(3, 3)]) == segments(2, 2)


@pytest.mark.row("R8985-3")
def test_overtaken_segment_that_arrives_in_time_is_not_resent() -> None:
    talker = sender(3)
    assert talker.ack(1, sack=[span(3, 3)]) == []
    assert talker.wait(QUARTER - 5 * MS) == []
    assert talker.ack_segments(3) == []
    assert talker.wait(10_000 * MS) == []
    assert talker.info("retransmissions") == 0


@pytest.mark.row("R8985-5")
def test_after_reordering_three_sacked_segments_wait_for_the_window() -> None:
    talker = reordered(6)
    assert talker.ack(3001 - 1000, sack=[span(4, 6)]) == []
    elapsed, sent = talker.next_sent()
    assert QUARTER - 5 * MS <= elapsed <= QUARTER + 5 * MS
    assert sent[0] == start_of(3)


@pytest.mark.row("R8985-5")
def test_window_is_never_longer_than_srtt() -> None:
    talker = reordered(6)
    for _ in range(12):  # more D-SACKs than four quarters
        next_number = talker_duplicate(talker)
    assert next_number > 0
    first = talker.write(6000)[0]
    talker.advance(RTT)
    talker.ack(first, sack=[(first + 1000, first + 4000)])
    assert talker.info("lost") == 0
    elapsed, _ = talker.next_sent()
    assert elapsed <= talker.info("srtt_us") + 2 * MS


def talker_duplicate(talker: Talker) -> int:
    """A round in which the first segment is resent for nothing and the peer says so; the next position."""
    talker.ack(talker.seen)
    first = talker.write(1000)[0]
    talker.advance(RTT)
    talker.ack(talker.seen, sack=[(first, first + 1000)])
    return talker.seen


@pytest.mark.row("R8985-6")
@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_each_round_with_a_duplicate_report_widens_the_window(rounds: int) -> None:
    talker = reordered(2)
    for _ in range(rounds):
        talker_duplicate(talker)
    talker.ack(talker.seen)
    first = talker.write(6000)[0]
    talker.advance(RTT)
    assert talker.ack(first, sack=[(first + 1000, first + 4000)]) == []
    elapsed, sent = talker.next_sent()
    assert sent[0] == first
    expected = min((1 + rounds) * QUARTER, talker.info("srtt_us"))
    assert expected - 3 * MS <= elapsed <= expected + 3 * MS


@pytest.mark.row("R8985-6")
def test_two_reports_in_one_round_count_once() -> None:
    talker = reordered(2)
    talker.ack(talker.seen)
    first = talker.write(6000)[0]
    talker.advance(RTT)
    talker.ack(first, sack=[(first - 1000, first)])
    talker.ack(first, sack=[(first - 2000, first - 1000)])
    assert talker.ack(first, sack=[(first + 1000, first + 4000)]) == []
    elapsed, sent = talker.next_sent()
    assert sent[0] == first
    assert 2 * QUARTER - 3 * MS <= elapsed <= 2 * QUARTER + 3 * MS


@pytest.mark.row("R8985-6")
def test_sixteen_recoveries_later_the_window_is_a_quarter_again() -> None:
    talker = reordered(2)
    for _ in range(3):
        talker_duplicate(talker)

    def recovery() -> int:
        """One recovery of one loss; returns how long the loss took to be found."""
        talker.ack(talker.seen)
        first = talker.write(2000)[0]
        talker.advance(RTT)
        talker.ack(first, sack=[(first + 1000, first + 2000)])
        elapsed, sent = talker.next_sent()
        assert sent == [first]
        talker.advance(RTT)
        talker.ack(first + 2000)
        return elapsed

    found = [recovery() for _ in range(18)]
    assert all(elapsed >= 3 * QUARTER for elapsed in found[:16])
    assert found[17] <= QUARTER + 3 * MS


@pytest.mark.row("R8985-7")
def test_lost_retransmission_is_found_without_a_timeout() -> None:
    talker = sender(10)
    talker.write(10_000)
    assert talker.ack(1, sack=[span(2, 5)])[0] == 1
    sent_before = talker.seen
    talker.advance(RTT // 2)
    talker.ack(1, sack=[span(2, 8)])
    talker.ack(1, sack=[span(2, 10)])
    assert talker.seen > sent_before  # new data behind the resent segment
    talker.advance(RTT)
    # What was sent after the second copy of segment 1 arrives, and the copy does not.
    timeouts = talker.counter("retransmission_timeouts")
    sent = talker.ack(1, sack=[(1001, talker.seen)])
    if 1 not in sent:
        elapsed, sent = talker.next_sent()
        assert elapsed <= QUARTER + 2 * MS
    assert 1 in sent
    assert talker.counter("retransmission_timeouts") == timeouts


@pytest.mark.row("R8985-8")
@pytest.mark.parametrize("ts", [False, True])
def test_ack_right_after_a_resend_is_no_sample_of_the_rtt(ts: bool) -> None:
    talker = sender(10, ts=ts, mss=1012 if ts else 1000)
    minimum = talker.info("min_rtt_us")
    stack_ts = talker.stack_ts
    assert talker.ack(1, sack=[span(2, 4)], ts=(talker.clock(), stack_ts) if ts else None)[0] == 1
    talker.advance(1 * MS)
    # The original was only late: the ACK is for it, and echoes it where there are timestamps.
    # So it says nothing of 6 to 10, which were sent before the resend.
    assert talker.ack(5001, ts=(talker.clock(), stack_ts) if ts else None) == []
    assert talker.info("lost") == 0
    assert talker.wait(QUARTER) == []
    assert talker.info("min_rtt_us") >= minimum - MS or minimum == 0
    assert talker.info("min_rtt_us") >= RTT - MS


# -- the tail loss probe -----------------------------------------------------------------------------------


@pytest.mark.row("R8985-9")
def test_probe_comes_after_two_round_trips() -> None:
    talker = sender(5, wait=0)
    elapsed, sent = talker.next_sent()
    assert elapsed == 2 * talker.info("srtt_us")
    assert sent == [start_of(5)]
    assert talker.counter("tail_loss_probes") == 1


@pytest.mark.row("R8985-9")
def test_probe_of_a_single_segment_allows_for_a_delayed_ack() -> None:
    # With an RTT of 100 ms the timeout would be no later than the probe.
    talker = sender(1, rtt=400 * MS, wait=0)
    elapsed, sent = talker.next_sent()
    assert elapsed == 2 * 400 * MS + 200 * MS
    assert sent == [1]
    assert talker.counter("tail_loss_probes") == 1


@pytest.mark.row("R8985-9")
def test_probe_is_never_later_than_the_timeout() -> None:
    talker = sender(1, wait=0)
    elapsed, sent = talker.next_sent()
    assert elapsed <= 300 * MS
    assert sent == [1]


@pytest.mark.row("R8985-9")
def test_probe_without_a_round_trip_sample_comes_after_a_second() -> None:
    talker = Talker(sack=True, is_open=False)
    talker.syn()
    talker.syn_ack()
    talker.advance(1000 * MS)  # SYN,ACK again: the handshake gives no sample (Karn)
    talker.finish(talker.syn_ack())
    assert talker.info("srtt_us") == 0
    talker.write(5000)
    elapsed, sent = talker.next_sent()
    assert elapsed == 1000 * MS
    assert sent == [start_of(5)]


@pytest.mark.row("R8985-10")
def test_probe_is_new_data_where_the_window_allows() -> None:
    talker = sender(10, wait=0)
    assert talker.write(5000) == []  # cwnd is full
    elapsed, sent = talker.next_sent()
    assert elapsed == 2 * talker.info("srtt_us")
    assert sent == [start_of(11)]
    assert talker.info("retransmissions") == 0


@pytest.mark.row("R8985-10")
def test_probe_is_the_highest_segment_where_the_peers_window_is_full() -> None:
    talker = Talker(sack=True, rtt=RTT, window=5000, shift=None)
    assert talker.write(10_000) == segments(1, 5)
    talker.advance(2 * RTT)
    assert talker.take() == [start_of(5)]


@pytest.mark.row("R8985-10")
@pytest.mark.row("R8985-11")
def test_one_probe_and_then_the_timeout() -> None:
    talker = sender(5, wait=0)
    talker.next_sent()
    elapsed, sent = talker.next_sent()
    assert elapsed == talker.info("rto_us") // 2  # doubled by now
    assert sent == [1]
    assert talker.counter("tail_loss_probes") == 1
    assert talker.counter("retransmission_timeouts") == 1


@pytest.mark.row("R8985-10")
def test_no_probe_once_something_was_sacked() -> None:
    talker = reordered(6)
    for _ in range(12):
        talker_duplicate(talker)
    first = talker.write(6000)[0]
    talker.advance(RTT + 30 * MS)  # late, so that the probe would come before the window has passed
    assert talker.ack(first, sack=[(first + 1000, first + 2000)]) == []
    probes = talker.counter("tail_loss_probes")
    talker.next_sent()
    assert talker.counter("tail_loss_probes") == probes


@pytest.mark.row("R8985-12")
@pytest.mark.parametrize("is_duplicate", [False, True])
def test_probe_that_repaired_the_tail_is_a_congestion_signal(is_duplicate: bool) -> None:
    talker = sender(5, wait=0)
    cwnd = talker.info("cwnd")
    talker.advance(RTT)
    talker.ack_segments(4)
    _, sent = talker.next_sent()
    assert sent == [start_of(5)]
    talker.advance(RTT)
    # Either only the probe arrived, or segment 5 had arrived already and its ACK was lost.
    talker.ack_segments(5, sack=[span(5, 5)] if is_duplicate else ())
    if is_duplicate:
        assert talker.info("cwnd") >= cwnd
        assert talker.info("ssthresh") > 1 << 30
    else:
        assert talker.info("cwnd") < cwnd
        assert talker.info("ssthresh") < cwnd


@pytest.mark.row("R8985-12")
def test_probe_of_new_data_that_is_acknowledged_is_no_congestion_signal() -> None:
    talker = sender(10, wait=0)
    talker.write(1000)
    talker.next_sent()
    talker.advance(RTT)
    cwnd = talker.info("cwnd")
    talker.ack_segments(11)
    assert talker.info("cwnd") >= cwnd


@pytest.mark.row("R8985-13")
def test_timeout_spares_what_was_sent_a_moment_ago() -> None:
    config = TcpConfig(tail_loss_probe=False)
    talker = sender(3, wait=0, tcp=config)
    talker.advance(talker.info("rto_us") - 20 * MS)
    assert talker.write(3000) == segments(4, 6)
    elapsed, sent = talker.next_sent()
    assert elapsed == 20 * MS
    assert talker.counter("retransmission_timeouts") == 1
    assert sent == [1]
    # 2 and 3 are as old as 1; 4, 5 and 6 may still be under way.
    assert talker.info("lost") == 2000
    talker.advance(RTT)
    assert talker.ack_segments(6) == []
