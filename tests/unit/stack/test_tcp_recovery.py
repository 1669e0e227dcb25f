"""Losses: retransmission timer, Karn, slow start, fast retransmit, NewReno (RFC 6298, 5681, 6582, 6928)."""

from __future__ import annotations

import pytest

from appliance.errors import TimedOut
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import State
from appliance.stack.tcp.tcb import LOSS, OPEN, RECOVERY
from tests.support.peer import MS, Peer, S, established

MSS = 500  # below what a suspected black hole leaves (RFC 4821), so that nothing is cut smaller


def sender(
    segments: int, *, rtt: int = 100 * MS, iw: int = 10, stack_iss: int | None = None, **settings: object
) -> Peer:
    """An application that has `segments` full segments to send; the first flight waits in `sent`."""
    peer = established(
        gso=False,
        mss=MSS,
        rtt=rtt,
        stack_iss=stack_iss,
        shift=7,
        window=1 << 22,
        tcp=TcpConfig(initial_window=iw, send_buffer_initial=1 << 22, congestion_control="newreno"),
        **settings,  # type: ignore[arg-type]
    )
    peer.send(bytes(segments * MSS))
    return peer


def starts(peer: Peer) -> list[int]:
    """Which segments were sent since the last look, as indices from 0."""
    found = []
    for packet in peer.drain():
        offset = ((packet.seq - peer.stack_iss) & 0xFFFF_FFFF) - 1
        assert offset % MSS == 0
        assert len(packet.data) <= MSS
        found.append(offset // MSS)
    return found


def ack(peer: Peer, segments: int) -> None:
    """The peer has everything below segment `segments`."""
    peer.inject(".", ack=1 + segments * MSS, window=1 << 22)


# -- the timer -----------------------------------------------------------------------------------


@pytest.mark.rfc("6298", "2.1")
def test_without_a_sample_the_timeout_is_one_second() -> None:
    peer = established()  # the handshake took no time at all: a sample of 1 us
    assert peer.connection.info()["srtt_us"] == 1


@pytest.mark.rfc("6298", "2.2")
def test_first_sample_sets_the_timeout() -> None:
    peer = sender(1, rtt=400 * MS)
    info = peer.connection.info()
    assert (info["srtt_us"], info["rttvar_us"], info["rto_us"]) == (400 * MS, 200 * MS, 1200 * MS)
    start = peer.now
    peer.drain()
    peer.advance(2 * S)
    assert peer.expect(".", seq=1).at - start == 1200 * MS


@pytest.mark.rfc("6298", "2.3")
def test_later_samples_follow_the_formula() -> None:
    peer = sender(1, rtt=400 * MS)
    peer.advance(400 * MS)
    ack(peer, 1)
    assert peer.connection.info()["rttvar_us"] == 150 * MS
    peer.send(bytes(MSS))
    peer.advance(800 * MS)
    ack(peer, 2)
    info = peer.connection.info()
    assert (info["srtt_us"], info["rttvar_us"]) == (450 * MS, 212_500)
    assert info["rto_us"] == 450 * MS + 4 * 212_500


@pytest.mark.rfc("6298", "5.5")
def test_timeout_resends_the_first_segment_alone_at_doubling_intervals() -> None:
    peer = sender(5, rtt=100 * MS)
    rto, start = int(peer.connection.info()["rto_us"]), peer.now
    assert starts(peer) == [0, 1, 2, 3, 4]
    peer.advance(15 * rto)
    assert [packet.at - start for packet in peer.sent] == [rto, 3 * rto, 7 * rto, 15 * rto]
    assert starts(peer) == [0, 0, 0, 0]


@pytest.mark.rfc("6298", "5.3")
def test_ack_of_new_data_restarts_the_timer() -> None:
    peer = sender(2, rtt=100 * MS)
    peer.drain()
    peer.advance(250 * MS)
    ack(peer, 1)
    rto, start = int(peer.connection.info()["rto_us"]), peer.now
    peer.advance(2 * S)
    assert peer.sent[0].at - start == rto
    assert starts(peer)[0] == 1


def test_everything_acknowledged_stops_the_timer() -> None:
    peer = sender(2)
    ack(peer, 2)
    assert peer.connection.next_deadline() > 1 << 60


@pytest.mark.rfc("6298", "3")
def test_retransmitted_segment_gives_no_sample_and_keeps_the_back_off() -> None:
    peer = sender(1, rtt=100 * MS)
    before = peer.connection.info()
    peer.advance(2 * int(before["rto_us"]))
    assert len(peer.drain()) == 2
    peer.advance(S)
    ack(peer, 1)
    info = peer.connection.info()
    assert info["srtt_us"] == before["srtt_us"]
    assert info["rto_us"] >= 2 * int(before["rto_us"])
    # A segment that is sent once and acknowledged ends the back-off.
    peer.send(bytes(MSS))
    peer.advance(100 * MS)
    ack(peer, 2)
    assert int(peer.connection.info()["rto_us"]) < 2 * int(before["rto_us"])


def test_path_slower_than_the_timeout_is_learnt() -> None:
    """Each segment takes 1 s, the timeout begins at a fifth of that: it must not be resent for ever."""
    peer = sender(0, rtt=MS)
    resent = []
    for turn in range(6):
        peer.send(bytes(MSS))
        sent_at = peer.now
        while peer.now < sent_at + S:
            peer.advance(50 * MS)
        resent.append(len(peer.drain()) - 1)
        ack(peer, turn + 1)
    assert resent[-1] == 0, resent


@pytest.mark.rfc("9293", "SHLD-11")
def test_connection_is_given_up_after_r2_and_not_before_100_seconds() -> None:
    peer = sender(1)
    connection = peer.connection
    peer.advance(100 * S)
    assert peer.state == State.ESTABLISHED
    peer.advance(2000 * S)
    assert connection.is_closed
    assert isinstance(connection.failure(), TimedOut)
    flags = [packet.flags for packet in peer.drain()]
    assert flags == ["."] * 16 + ["R."]
    peer.inject(".")
    peer.expect("R")


def test_interval_is_capped() -> None:
    peer = sender(1)
    peer.advance(900 * S)
    times = [packet.at for packet in peer.drain()]
    assert times[-1] - times[-2] == 120 * S


@pytest.mark.parametrize("stack_iss", [None, 0xFFFF_F000, 0xFFFF_FFFF])
def test_go_back_after_a_timeout_across_the_wrap(stack_iss: int | None) -> None:
    peer = sender(10, stack_iss=stack_iss)
    peer.drain()
    peer.advance(S)
    peer.drain()
    ack(peer, 1)
    assert starts(peer) == [1, 2]
    ack(peer, 3)
    assert starts(peer)[0] == 3
    ack(peer, 10)
    assert peer.connection.unsent_and_unacked() == 0


def test_retransmission_carries_no_new_data_beyond_the_window() -> None:
    peer = established(window=10)
    peer.send(b"x" * 10)
    peer.drain()
    peer.send(b"y" * 500)
    peer.advance(S)
    assert peer.expect(".", seq=1).data == b"x" * 10


# -- congestion window ---------------------------------------------------------------------------


@pytest.mark.rfc("6928", "2")
@pytest.mark.parametrize(("mss", "segments"), [(1460, 10), (1000, 10), (536, 10), (4000, 3), (9000, 2)])
def test_initial_window(mss: int, segments: int) -> None:
    peer = established(
        gso=False, mss=mss, mtu=9040, shift=7, window=1 << 20, tcp=TcpConfig(send_buffer_initial=1 << 20)
    )
    peer.send(bytes(200_000))
    assert sum(1 for packet in peer.drain() if len(packet.data) == mss) == segments


@pytest.mark.rfc("5681", "3.1")
def test_slow_start_doubles_per_round_trip() -> None:
    peer = sender(1000)
    flights, acked = [], 0
    for _ in range(4):
        flight = starts(peer)
        flights.append(len(flight))
        for _ in flight:
            acked += 1
            ack(peer, acked)
    assert flights == [10, 20, 40, 80]


def test_slow_start_adds_at_most_what_was_acknowledged() -> None:
    peer = sender(100)
    peer.drain()
    cwnd = int(peer.connection.info()["cwnd"])
    for index in range(1, 11):
        peer.inject(".", ack=1 + index, window=1 << 22)
    assert int(peer.connection.info()["cwnd"]) <= cwnd + 10


def test_window_that_is_not_used_does_not_grow() -> None:
    peer = sender(0)
    cwnd = peer.connection.info()["cwnd"]
    for turn in range(100):
        peer.send(bytes(MSS))
        ack(peer, turn + 1)
    assert peer.connection.info()["cwnd"] == cwnd


@pytest.mark.rfc("5681", "3.1")
def test_timeout_halves_and_restarts_with_one_segment() -> None:
    peer = sender(1000)
    assert len(starts(peer)) == 10
    peer.advance(int(peer.connection.info()["rto_us"]))
    assert starts(peer) == [0]
    assert peer.connection.info()["ssthresh"] == 5 * MSS
    assert peer.connection.info()["cwnd"] == MSS
    flights, acked = [1], 0
    for _ in range(6):
        for _ in range(flights[-1]):
            acked += 1
            ack(peer, acked)
        flights.append(len(starts(peer)))
    assert flights == [1, 2, 4, 5, 6, 7, 8]  # doubling up to ssthresh, then one more each round trip


@pytest.mark.rfc("5681", "3.1")
def test_second_timeout_of_a_segment_leaves_ssthresh_alone() -> None:
    peer = sender(1000, iw=20)
    peer.advance(10 * S)
    assert peer.counter("retransmission_timeouts") > 2
    assert peer.connection.info()["ssthresh"] == 10 * MSS


def test_jump_of_the_ack_after_a_timeout_does_not_open_the_window_at_once() -> None:
    """The whole flight had arrived but the first segment: its ACK says nothing about now."""
    peer = sender(1000, iw=100)
    peer.drain()
    peer.advance(int(peer.connection.info()["rto_us"]))
    assert starts(peer) == [0]
    ack(peer, 100)
    assert len(starts(peer)) <= 2


def test_congestion_avoidance_adds_a_segment_a_round_trip() -> None:
    peer = sender(4000, iw=20)
    peer.drain()
    peer.connection.congestion.ssthresh = 20 * MSS
    acked, flights = 0, []
    pending = 20
    for _ in range(5):
        for _ in range(pending):
            acked += 1
            ack(peer, acked)
        pending = len(starts(peer))
        flights.append(pending)
    assert flights == [20, 21, 22, 23, 24] or flights == [21, 22, 23, 24, 25]


@pytest.mark.parametrize("segments", [10, 12])
def test_flight_that_cwnd_cut_short_or_just_filled_lets_it_grow_by_one_segment_more(segments: int) -> None:
    """A reply of a window or a little more: its tail leaves with the first ACKs, and hides what held it up."""
    peer = sender(0)
    peer.connection.congestion.ssthresh = 10 * MSS
    acked = 0
    for _ in range(12):
        peer.send(bytes(segments * MSS))
        for _ in range(segments):
            acked += 1
            ack(peer, acked)
    assert peer.connection.info()["cwnd"] == (segments + 1) * MSS


@pytest.mark.rfc("5681", "4.1")
def test_idle_restarts_from_the_initial_window() -> None:
    peer = sender(200)
    acked = 0
    while peer.sent:
        for _ in starts(peer):
            acked += 1
            ack(peer, acked)
    assert int(peer.connection.info()["cwnd"]) > 30 * MSS
    peer.advance(10 * S)
    peer.send(bytes(100 * MSS))
    assert len(starts(peer)) == 10


# -- fast retransmit, fast recovery --------------------------------------------------------------


@pytest.mark.rfc("5681", "3.2")
def test_third_duplicate_ack_resends_at_once() -> None:
    peer = sender(20, iw=10)
    assert len(starts(peer)) == 10
    for _ in range(2):
        ack(peer, 0)
        assert 0 not in starts(peer)
    ack(peer, 0)
    assert starts(peer)[0] == 0
    info = peer.connection.info()
    assert info["ssthresh"] == 5 * MSS
    assert peer.counter("fast_retransmits") == 1


def test_window_updates_and_data_are_no_duplicates() -> None:
    peer = sender(20)
    peer.drain()
    for step in range(1, 4):
        peer.inject(".", ack=1, window=(1 << 22) - 1000 * step)
    for _ in range(4):
        peer.inject(".", ack=1, data=b"x", window=(1 << 22) - 3000)
    assert peer.counter("fast_retransmits") == 0


def test_duplicates_without_data_outstanding_do_nothing() -> None:
    peer = established()
    for _ in range(5):
        peer.inject(".")
    peer.expect_nothing()
    assert peer.counter("fast_retransmits") == 0


@pytest.mark.rfc("5681", "3.2")
def test_more_duplicates_release_new_data() -> None:
    peer = sender(40, iw=10)
    peer.drain()
    for _ in range(3):
        ack(peer, 0)
    assert starts(peer) == [10, 11, 0]  # limited transmit (RFC 3042), then the first hole
    released = []
    for _ in range(8):
        ack(peer, 0)
        released += starts(peer)
    # RFC 9937: about half as many go out as arrive.
    assert released == list(range(12, 12 + len(released)))
    assert 3 <= len(released) <= 5


@pytest.mark.rfc("6582", "3.2")
def test_partial_ack_resends_the_next_hole_and_stays_in_recovery() -> None:
    peer = sender(10)
    peer.drain()
    for _ in range(8):  # the first and the fourth of ten are lost
        ack(peer, 0)
    assert starts(peer) == [0]
    ack(peer, 3)
    assert starts(peer) == [3]
    assert peer.connection.recovery == RECOVERY
    ack(peer, 10)
    info = peer.connection.info()
    assert peer.connection.recovery == OPEN
    assert int(info["cwnd"]) <= 5 * MSS
    assert info["ssthresh"] == 5 * MSS
    assert peer.counter("fast_retransmits") == 1


def test_full_ack_ends_recovery_without_a_burst() -> None:
    peer = sender(100, iw=20)
    peer.drain()
    for _ in range(19):
        ack(peer, 0)
    peer.drain()
    flight = peer.connection.flight_size()
    ack(peer, 20)
    assert len(starts(peer)) <= 3
    assert int(peer.connection.info()["cwnd"]) <= 10 * MSS
    assert flight > 0


@pytest.mark.rfc("6582", "3.2")
def test_duplicates_of_old_data_after_a_timeout_start_no_fast_retransmit() -> None:
    peer = sender(10)
    peer.drain()
    peer.advance(int(peer.connection.info()["rto_us"]))
    assert starts(peer) == [0]
    for _ in range(5):
        ack(peer, 0)
    assert starts(peer) == []
    assert peer.counter("fast_retransmits") == 0


def test_timeout_during_recovery_ends_it() -> None:
    peer = sender(10)
    for _ in range(3):
        ack(peer, 0)
    peer.drain()
    peer.advance(5 * S)
    assert peer.connection.recovery == LOSS
    assert set(starts(peer)) == {0}
    ack(peer, 10)
    assert peer.connection.unsent_and_unacked() == 0


@pytest.mark.parametrize("stack_iss", [0xFFFF_FFFF - 3 * MSS, 0xFFFF_FFFF])
def test_fast_retransmit_across_the_wrap(stack_iss: int) -> None:
    peer = sender(10, stack_iss=stack_iss)
    assert len(starts(peer)) == 10
    ack(peer, 2)
    for _ in range(3):
        ack(peer, 2)
    assert starts(peer) == [2]
    ack(peer, 10)
    assert peer.connection.recovery == OPEN


def test_lost_fin_is_resent_by_fast_recovery_with_its_data() -> None:
    peer = sender(5)
    peer.call("shutdown")
    peer.drain()
    for _ in range(4):
        ack(peer, 0)
    peer.drain()
    ack(peer, 4)
    peer.expect(".", seq=1 + 4 * MSS, length=MSS)
    ack(peer, 5)
    peer.expect("F.", seq=1 + 5 * MSS, length=0)
    peer.inject(".", ack=2 + 5 * MSS)
    assert peer.state == State.FIN_WAIT_2
