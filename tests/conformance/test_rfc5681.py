"""Congestion control as every algorithm must do it (RFC 5681; RFC 3042, 3465, 6928)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from appliance.stack.tcp.config import TcpConfig
from tests.support.peer import MS, S
from tests.support.talker import Talker, segments, span, start_of

RTT = 100 * MS
BOTH = pytest.mark.parametrize("algorithm", ["cubic", "newreno"])


def sender(algorithm: str = "newreno", *, window: int = 10, sack: bool = False, **more: Any) -> Talker:
    """Open, cwnd of `window` segments. The tail loss probe is off."""
    config = TcpConfig(
        congestion_control=algorithm,
        initial_window=window,
        tail_loss_probe=False,
        send_buffer_initial=1 << 20,
        nodelay=True,
    )
    return Talker(sack=sack, rtt=RTT, tcp=config, **more)


def flight_of(talker: Talker) -> int:
    return talker.info("flight_size")


def round_trip(talker: Talker, *, every: int = 1) -> int:
    """One RTT later ACKs for all that is out, one for each `every` segments; how many segments left."""
    talker.advance(RTT)
    first = talker.info("delivered") // 1000
    last = (talker.seen - 1) // 1000
    sent = 0
    for number in range(first + every, last, every):
        sent += len(talker.ack_segments(number))
    sent += len(talker.ack_segments(last))
    return sent


def after_timeout(algorithm: str, *, window: int = 10, **more: Any) -> Talker:
    """`window` segments in flight, all lost; the timer has resent the first."""
    talker = sender(algorithm, window=window, **more)
    talker.write(100_000)
    _, sent = talker.next_sent()
    assert sent == [1]
    return talker


# -- the first flight ---------------------------------------------------------------------------------------


@pytest.mark.row("R5681-1")
@pytest.mark.parametrize(
    ("mss", "expected"),
    [(1000, 10_000), (1460, 14_600), (536, 5360), (8960, 17_920), (2000, 14_600), (100, 1000)],
)
def test_initial_window(mss: int, expected: int) -> None:
    talker = Talker(mss=mss, rtt=RTT, mtu=9000, tcp=TcpConfig(send_buffer_initial=1 << 20))
    sent = talker.write(100_000)
    flight = sum(len(packet.data) for packet in talker.taken)
    assert flight <= expected
    assert flight > expected - mss
    assert len(sent) >= 2


@pytest.mark.row("R5681-2")
def test_handshake_does_not_grow_the_window() -> None:
    flights = []
    for extra in (0, 3):
        talker = sender()
        for _ in range(extra):
            talker.ack(1)
        flights.append(len(talker.write(100_000)))
    assert flights == [10, 10]


@pytest.mark.row("R5681-3")
@pytest.mark.parametrize(("resent", "expected"), [(0, 10), (1, 10), (2, 1)])
def test_first_flight_after_a_lost_syn_ack(resent: int, expected: int) -> None:
    talker = Talker(is_open=False)
    talker.syn()
    answer = talker.syn_ack()
    for _ in range(resent):
        talker.next_sent_time()
        answer = talker.syn_ack()
    talker.finish(answer)
    assert len(talker.write(50_000)) == expected


# -- growth -------------------------------------------------------------------------------------------------


@pytest.mark.row("R5681-4")
@BOTH
def test_slow_start_doubles_the_flight_in_a_round_trip(algorithm: str) -> None:
    talker = sender(algorithm)
    assert len(talker.write(200_000)) == 10
    assert round_trip(talker) == 20
    assert round_trip(talker) == 40
    assert flight_of(talker) == 40_000


@pytest.mark.row("R5681-4")
@BOTH
def test_slow_start_adds_no_more_than_was_acknowledged(algorithm: str) -> None:
    talker = sender(algorithm)
    talker.write(200_000)
    talker.advance(RTT)
    cwnd = talker.info("cwnd")
    for position in range(2, 502):  # an attacker divides its ACKs
        talker.ack(position)
    assert talker.info("cwnd") - cwnd <= 500


@pytest.mark.row("R5681-5")
def test_congestion_avoidance_adds_a_segment_in_a_round_trip() -> None:
    talker = after_timeout("newreno", window=20)
    talker.ack_segments(20)
    while talker.info("cwnd") < talker.info("ssthresh"):
        round_trip(talker)
    windows = []
    for _ in range(6):
        talker.send(bytes(min(20_000, talker.connection.send_space())))
        round_trip(talker)
        windows.append(talker.info("cwnd"))
    steps = [after - before for before, after in pairwise(windows)]
    assert steps == [1000] * 5


@pytest.mark.row("R5681-6")
@BOTH
@pytest.mark.parametrize("sack", [True, False])
def test_flight_is_within_cwnd_and_the_peers_window(algorithm: str, sack: bool) -> None:
    talker = sender(algorithm, sack=sack, window=16)
    room = 24_000
    talker.peer_window = room
    talker.ack(1)
    talker.write(150_000)
    lost = {3, 17, 18, 40, 55}
    received: set[int] = set()
    order: list[int] = talker.take() or segments(1, 16)
    edge = 0
    for _ in range(400):
        if not order and talker.info("flight_size"):
            _, order = talker.next_sent()
        if not order:
            break
        first = order.pop(0)
        number = (first - 1) // 1000 + 1
        talker.advance(2 * MS)
        if number in lost:
            lost.remove(number)
            order += talker.take()
            continue
        received.add(number)
        while edge + 1 in received:
            edge += 1
        island = [n for n in sorted(received) if n > edge]
        blocks = []
        if sack and island:
            low = high = number
            if number > edge:
                while low - 1 in received:
                    low -= 1
                while high + 1 in received:
                    high += 1
                blocks = [span(low, high)]
        order += talker.ack_segments(edge, sack=blocks)
        assert talker.info("pipe") <= max(talker.info("cwnd"), 1000)
        assert flight_of(talker) <= (room >> 7 << 7)
    assert edge == 150
    assert not lost


# -- losses -------------------------------------------------------------------------------------------------


@pytest.mark.row("R5681-7")
@pytest.mark.row("R9438-7")
@pytest.mark.parametrize(("algorithm", "ssthresh"), [("newreno", 5), ("cubic", 7)])
def test_timeout_restarts_with_one_segment(algorithm: str, ssthresh: int) -> None:
    talker = after_timeout(algorithm)
    assert talker.info("cwnd") == 1000
    assert talker.info("ssthresh") == ssthresh * 1000
    talker.advance(RTT)
    assert talker.ack_segments(1) == segments(2, 3)
    windows = []
    for number in range(2, 12):
        talker.advance(RTT // 4)
        talker.ack_segments(number)
        windows.append(talker.info("cwnd"))
    # One segment for each that was acknowledged up to ssthresh, and slowly from there.
    steps = [after - before for before, after in pairwise(windows)]
    assert windows[0] == 3000
    grown = [step for step, window in zip(steps, windows, strict=False) if window < ssthresh * 1000]
    slow = [step for step, window in zip(steps, windows, strict=False) if window >= ssthresh * 1000]
    assert grown == [1000] * len(grown)
    assert len(grown) == ssthresh - 3
    assert sum(slow) <= 1000


@pytest.mark.row("R5681-8")
@BOTH
@pytest.mark.parametrize("sack", [True, False])
def test_second_timeout_of_a_segment_leaves_ssthresh_alone(algorithm: str, sack: bool) -> None:
    talker = after_timeout(algorithm, sack=sack)
    ssthresh = talker.info("ssthresh")
    assert talker.next_sent()[1] == [1]
    assert talker.counter("retransmission_timeouts") == 2
    assert talker.info("ssthresh") == ssthresh
    assert talker.info("cwnd") == 1000


@pytest.mark.row("R5681-9")
@BOTH
def test_third_duplicate_ack_resends_at_once(algorithm: str) -> None:
    talker = sender(algorithm)
    talker.write(10_000)
    talker.advance(RTT)
    now = talker.now
    assert talker.ack(1) == []
    assert talker.ack(1) == []
    assert talker.ack(1) == [1]
    assert talker.now == now
    talker.inject(".", ack=1)
    assert talker.take() == []


@pytest.mark.row("R5681-10")
@BOTH
def test_first_two_duplicates_release_a_new_segment_each(algorithm: str) -> None:
    talker = sender(algorithm)
    assert talker.write(20_000) == segments(1, 10)
    talker.advance(RTT)
    cwnd = talker.info("cwnd")
    assert talker.ack(1) == segments(11, 11)
    assert talker.ack(1) == segments(12, 12)
    assert talker.info("cwnd") == cwnd
    assert talker.ack(1) == [1]


@pytest.mark.row("R5681-10")
def test_duplicate_without_new_sack_data_releases_nothing() -> None:
    talker = sender(sack=True)
    talker.write(20_000)
    talker.advance(RTT)
    assert talker.ack(1) == []
    assert talker.ack(1, sack=[span(3, 3)]) == segments(11, 11)
    assert talker.ack(1, sack=[span(3, 3)]) == []
    assert talker.ack(1, sack=[span(3, 4)]) == segments(12, 12)


@pytest.mark.row("R5681-10")
@pytest.mark.row("R5681-11")
@pytest.mark.parametrize(("algorithm", "factor"), [("newreno", 0.5), ("cubic", 0.7)])
def test_fast_recovery_sends_on_duplicates_and_ends_at_ssthresh(algorithm: str, factor: float) -> None:
    talker = sender(algorithm, window=20)
    talker.write(100_000)
    talker.advance(RTT)
    sent: list[int] = []
    for _ in range(19):
        sent += talker.ack(1)
    ssthresh = talker.info("ssthresh")
    assert ssthresh == 20_000 * factor  # limited transmit's two segments do not count
    # The second half of the duplicates is paid out in new data.
    assert start_of(23) in sent
    talker.advance(RTT)
    talker.ack_segments((talker.seen - 1) // 1000)
    assert talker.info("cwnd") == ssthresh
    assert flight_of(talker) <= ssthresh
    assert flight_of(talker) > ssthresh - 1000


@pytest.mark.row("R5681-12")
def test_what_is_no_duplicate_ack() -> None:
    talker = sender()
    talker.write(10_000)
    talker.advance(RTT)
    for step in range(5):  # the window changes
        talker.inject(".", ack=1, window=talker.peer_window - 1280 * (step + 1))
    for _ in range(5):  # there are data on it
        talker.inject(".", ack=1, data=b"12345", window=talker.peer_window - 1280 * 5)
    assert 1 not in talker.take()
    assert talker.info("retransmissions") == 0
    for _ in range(3):
        talker.inject(".", ack=1, window=talker.peer_window - 1280 * 5)
    assert talker.take() == [1]


@pytest.mark.row("R5681-12")
def test_without_data_outstanding_nothing_is_a_duplicate() -> None:
    talker = sender()
    for _ in range(5):
        talker.ack(1)
    talker.write(5000)
    talker.advance(RTT)
    assert talker.ack(1) == []
    assert talker.ack(1) == []
    assert talker.ack(1) == [1]


@pytest.mark.row("R5681-13")
@BOTH
def test_restart_after_idle_is_from_the_initial_window(algorithm: str) -> None:
    talker = sender(algorithm)
    talker.write(110_000)
    while flight_of(talker):
        round_trip(talker)
    assert talker.info("cwnd") >= 30_000
    talker.advance(3 * talker.info("rto_us"))
    assert len(talker.write(40_000)) <= 10
    assert talker.info("cwnd") == 10_000


@pytest.mark.row("R5681-13")
@BOTH
def test_pause_below_one_timeout_keeps_the_window(algorithm: str) -> None:
    talker = sender(algorithm)
    talker.write(110_000)
    while flight_of(talker):
        round_trip(talker)
    cwnd = talker.info("cwnd")
    assert cwnd >= 30_000
    talker.advance(RTT)
    assert len(talker.write(30_000)) == 30


# -- acknowledging ------------------------------------------------------------------------------------------


@pytest.mark.row("R5681-14")
def test_out_of_order_and_filling_segments_are_acknowledged_at_once() -> None:
    talker = Talker()
    talker.inject(".", seq=1001, data=bytes(1000))
    talker.expect(".", ack=1)
    talker.inject(".", seq=3001, data=bytes(1000))
    talker.expect(".", ack=1)
    talker.inject(".", seq=1, data=bytes(1000))
    talker.expect(".", ack=2001)
    talker.inject(".", seq=2001, data=bytes(500))  # a part of the gap
    talker.expect(".", ack=2501)
    talker.inject(".", seq=2501, data=bytes(500))
    talker.expect(".", ack=4001)
    talker.expect_nothing()


@pytest.mark.row("R5681-15")
def test_at_most_one_ack_for_a_segment() -> None:
    talker = Talker(sack=True)
    order = [1, 3, 2, 2, 5, 4, 9, 8, 7, 6, 10, 11, 12, 1, 1, 13, 20]
    for count, number in enumerate(order, 1):
        talker.inject(".", seq=start_of(number), data=bytes(1000))
        talker.advance(1 * MS)
        assert len(talker.sent) <= count
    talker.advance(1 * S)
    assert len(talker.sent) <= len(order)
    assert talker.sent[-1].ack == talker.iss + start_of(14)
