"""CUBIC (RFC 9438), and HyStart++ in its slow start (RFC 9406)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from appliance.stack.tcp.config import TcpConfig
from tests.support.peer import MS, S
from tests.support.talker import Talker, segments, span, start_of

C = 0.4
BETA = 0.7
ALPHA = 3 * (1 - BETA) / (1 + BETA)


class Path:
    """A sender with always more to send, over a path of one RTT; every second segment is acknowledged."""

    def __init__(self, window: int, rtt: int, **more: Any) -> None:
        config = TcpConfig(initial_window=window, tail_loss_probe=False, send_buffer_initial=1 << 20)
        self.rtt = rtt
        self.talker = Talker(sack=True, rtt=min(rtt, 900 * MS), tcp=config, shift=10, window=1 << 24, **more)
        self.sent_at: dict[int, int] = {}  # segment -> when it was sent first
        self.acked = 0
        self.is_greedy = True
        self.fill()

    @property
    def cwnd(self) -> float:
        return self.talker.info("cwnd") / 1000

    @property
    def sent(self) -> int:
        return (self.talker.seen - 1) // 1000

    def fill(self) -> None:
        wanted = 3 * self.talker.info("cwnd") // 1000 * 1000 - self.talker.connection.unsent_and_unacked()
        if self.is_greedy and wanted > 0:
            self.talker.send(bytes(wanted // 1000 * 1000))
        self.talker.flush()
        self.note(self.talker.take())

    def note(self, sent: list[int]) -> None:
        for first in sent:
            self.sent_at.setdefault((first - 1) // 1000 + 1, self.talker.now)

    def wait_for(self, number: int) -> None:
        """Until the ACK of a segment is due."""
        self.talker.advance(max(self.sent_at[number] + self.rtt - self.talker.now, 0))

    def round_trip(self) -> None:
        """ACKs for all that was out at its start."""
        last = self.sent
        while self.acked < last:
            self.acked = min(self.acked + 2, last)
            self.wait_for(self.acked)
            self.talker.ack_segments(self.acked, flush=False)
            self.fill()

    def lose_one(self) -> None:
        """The first segment in flight is lost and repaired: one reduction, and recovery over."""
        talker = self.talker
        lost = self.acked + 1
        resent_at = 0
        for number in range(lost + 1, self.sent + 1):
            self.wait_for(number)
            sent = talker.ack_segments(self.acked, sack=[span(lost + 1, number)])
            self.note(sent)
            if start_of(lost) in sent:
                assert resent_at == 0
                resent_at = talker.now
        assert resent_at > 0
        talker.advance(max(resent_at + self.rtt - talker.now, 0))
        while self.acked < self.sent and self.sent_at[self.acked + 1] + self.rtt <= talker.now:
            self.acked += 1
        talker.ack_segments(self.acked, flush=False)
        assert talker.connection.info()["recovery"] == "open"
        self.fill()


def cubic_root(value: float) -> float:
    return value ** (1 / 3)


def curve(t: float, w_max: float, start: float) -> float:
    k = cubic_root((w_max - start) / C)
    return C * (t - k) ** 3 + w_max


def estimate(round_trips: float, prior: float, start: float) -> float:
    """W_est: what Reno would have (§4.3)."""
    until_prior = (prior - start) / ALPHA
    if round_trips <= until_prior:
        return start + ALPHA * round_trips
    return prior + round_trips - until_prior


@pytest.mark.row("R9438-1")
def test_loss_leaves_seven_tenths() -> None:
    talker = Talker(sack=True, rtt=100 * MS)
    talker.write(10_000)
    talker.advance(100 * MS)
    assert talker.ack(1, sack=[span(2, 10)]) == [1]
    assert talker.info("ssthresh") == 7000
    talker.advance(100 * MS)
    talker.ack_segments(10)
    assert talker.info("cwnd") == 7000
    assert talker.write(30_000) == segments(11, 17)


@pytest.mark.row("R9438-1")
def test_ssthresh_is_never_below_two_segments() -> None:
    # 0.7 of a window of two would be less; §4.6 allows the window in place of the flight.
    talker = Talker(sack=True, rtt=100 * MS, tcp=TcpConfig(initial_window=2))
    talker.write(2000)
    talker.advance(100 * MS)
    talker.ack(1, sack=[span(2, 2)])
    talker.next_sent()
    assert talker.info("ssthresh") == 2000


@pytest.mark.row("R9438-3")
def test_window_follows_the_curve() -> None:
    path = Path(100, 100 * MS)
    path.lose_one()
    assert path.cwnd == 70
    start = path.talker.now
    for second in range(1, 9):
        while path.talker.now - start < second * S:
            path.round_trip()
        # Where Reno would have more, that counts (§4.3): from t = 6.5 on, for a while.
        expected = max(curve(second, 100, 70), estimate(second * 10, 100, 70))
        assert path.cwnd == pytest.approx(expected, abs=2), second


@pytest.mark.row("R9438-4")
def test_growth_is_at_most_half_a_window_in_a_round_trip() -> None:
    # The curve runs far ahead of the window within one round trip.
    path = Path(20, 2000 * MS)
    path.lose_one()
    grown = []
    for _ in range(7):
        before = path.cwnd
        path.round_trip()
        grown.append(path.cwnd / before)
    assert max(grown) <= 1.55
    assert max(grown) > 1.45  # it was the bound that counted
    assert min(grown) >= 1  # and the target is never below cwnd


@pytest.mark.row("R9438-5")
def test_on_a_short_path_the_window_grows_as_reno_would() -> None:
    path = Path(20, 10 * MS)
    path.lose_one()
    assert path.cwnd == 14
    for count in range(1, 31):
        path.round_trip()
        assert path.cwnd == pytest.approx(estimate(count, 20, 14), abs=1.2)
    assert path.cwnd > 28  # the curve alone would still be below 16
    assert curve(0.3, 20, 14) < 16


@pytest.mark.row("R9438-6")
def test_second_loss_below_the_old_maximum_lowers_the_plateau() -> None:
    path = Path(100, 400 * MS)
    path.lose_one()
    assert path.cwnd == 70
    path.lose_one()
    assert path.cwnd == pytest.approx(49, abs=1)
    start, epoch = path.talker.now, path.cwnd
    plateau = 70 * (1 + BETA) / 2
    k = cubic_root((plateau - epoch) / C)
    while path.talker.now - start < k * S:
        path.round_trip()
    assert path.cwnd == pytest.approx(plateau, abs=1.5)
    # It is flat there: the next second makes little difference.
    before = path.cwnd
    for _ in range(2):
        path.round_trip()
    assert path.cwnd - before <= 2


@pytest.mark.row("R9438-6")
def test_loss_above_the_old_maximum_keeps_the_plateau() -> None:
    path = Path(20, 500 * MS)
    path.lose_one()
    while path.cwnd < 24:
        path.round_trip()
    top = path.cwnd
    path.lose_one()
    start, epoch = path.talker.now, path.cwnd
    k = cubic_root((top - epoch) / C)
    while path.talker.now - start < k * S:
        path.round_trip()
    assert path.cwnd == pytest.approx(top, abs=2)


@pytest.mark.row("R9438-7")
def test_first_epoch_after_a_timeout_has_no_plateau_above() -> None:
    path = Path(40, 400 * MS)
    path.lose_one()  # an epoch with K > 0 and a plateau at 40
    for _ in range(3):
        path.round_trip()
    before = path.cwnd
    timeouts = path.talker.counter("retransmission_timeouts")
    last = path.sent
    while path.talker.counter("retransmission_timeouts") == timeouts:
        path.talker.next_sent()
    assert path.talker.info("cwnd") == 1000
    assert path.talker.info("ssthresh") == pytest.approx(before * BETA * 1000, abs=1000)
    path.talker.advance(path.rtt)
    path.acked = last
    path.note(path.talker.ack_segments(last))
    path.fill()
    while path.cwnd < path.talker.info("ssthresh") / 1000:
        path.round_trip()
    start, epoch = path.talker.now, path.cwnd
    for _ in range(10):
        path.round_trip()
    # K = 0 and W_max = cwnd: at once on the rising side of the curve.
    t = (path.talker.now - start) / S
    assert C * t**3 > 20
    assert path.cwnd == pytest.approx(epoch + C * t**3, abs=6)


@pytest.mark.row("R9438-8")
def test_time_without_anything_to_send_is_not_part_of_t() -> None:
    path = Path(20, 100 * MS)
    path.lose_one()
    for _ in range(5):
        path.round_trip()
    # Ten seconds with a little now and then: never limited by cwnd, never idle for a timeout.
    path.is_greedy = False
    while path.talker.info("flight_size"):
        path.round_trip()
    drained = path.cwnd
    for _ in range(100):
        path.talker.write(1000)
        path.talker.advance(path.rtt)
        path.acked = path.sent
        path.talker.ack_segments(path.acked)
    assert path.cwnd == drained
    path.is_greedy = True
    path.fill()
    path.round_trip()
    path.round_trip()
    assert path.cwnd <= drained + 2
    assert path.talker.info("flight_size") >= 10_000


def hystart(rtts: list[int]) -> Path:
    """Slow start with the RTT of each round given."""
    path = Path(16, rtts[0])
    for rtt in rtts:
        path.rtt = rtt
        path.round_trip()
    return path


@pytest.mark.row("R9438-9")
def test_slow_start_doubles_while_the_round_trip_does_not_rise() -> None:
    path = hystart([100 * MS] * 4)
    assert path.cwnd == 16 * 2**4
    assert path.talker.info("ssthresh") > 1 << 30


@pytest.mark.row("R9438-9")
def test_rising_round_trip_ends_slow_start_without_a_loss() -> None:
    path = hystart([100 * MS, 100 * MS, 130 * MS, *[150 * MS] * 7])
    assert path.talker.info("ssthresh") < 1 << 30
    assert path.talker.info("retransmissions") == 0
    assert path.cwnd < 16 * 2**7


@pytest.mark.row("R9438-9")
def test_slow_start_runs_up_to_ssthresh() -> None:
    talker = Talker(sack=True, rtt=100 * MS)
    talker.write(10_000)
    talker.next_sent()  # the probe
    talker.next_sent()  # the timer
    assert talker.info("ssthresh") == 7000
    talker.ack_segments(10)
    talker.write(60_000)
    last = 10
    windows = [talker.info("cwnd")]
    while windows[-1] < 7000:
        talker.advance(50 * MS)
        last += 1
        talker.ack_segments(last)
        windows.append(talker.info("cwnd"))
    assert all(after - before == 1000 for before, after in pairwise(windows))
    assert talker.seen > start_of(last)
