"""Explicit congestion notification (RFC 3168)."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.stack.tcp.config import TcpConfig
from tests.support.packets import FLAG_BITS, Packet
from tests.support.peer import MS, S
from tests.support.talker import CE, ECT_0, Talker, segments, start_of

RTT = 100 * MS
ECE, CWR = FLAG_BITS["E"], FLAG_BITS["W"]


def sender(*, window: int = 10, algorithm: str = "cubic", **more: Any) -> Talker:
    config = TcpConfig(initial_window=window, congestion_control=algorithm, tail_loss_probe=False)
    return Talker(ecn=True, sack=True, rtt=RTT, tcp=config, **more)


def ecn_of(packet: Packet) -> int:
    return packet.tos & 3


@pytest.mark.row("R3168-1")
@pytest.mark.row("SHLD-8")
def test_ecn_setup_syn_is_answered_with_ece_alone() -> None:
    talker = Talker(ecn=True, is_open=False)
    talker.syn()
    answer = talker.expect("SE.")
    assert not answer.bits & CWR


@pytest.mark.row("R3168-2")
@pytest.mark.parametrize("flags", ["SE", "SW", "S"])
def test_other_syns_are_answered_with_neither(flags: str) -> None:
    talker = Talker(is_open=False)
    talker.inject(flags, seq=0, options=talker.syn_bytes())
    answer = talker.expect("S.")
    assert not answer.bits & (ECE | CWR)
    talker.finish(answer)
    talker.write(5000)
    assert [ecn_of(packet) for packet in talker.taken] == [0] * 5


@pytest.mark.row("R3168-2")
def test_ecn_that_is_switched_off_is_not_agreed_to() -> None:
    talker = Talker(ecn=True, is_open=False, tcp=TcpConfig(ecn=False))
    talker.syn()
    assert not talker.expect("S.").bits & (ECE | CWR)


@pytest.mark.row("R3168-3")
def test_only_new_data_are_ecn_capable() -> None:
    talker = Talker(ecn=True, sack=True, is_open=False)
    talker.syn()
    answer = talker.syn_ack()
    assert ecn_of(answer) == 0
    talker.finish(answer)
    talker.inject(".", seq=1001, data=bytes(1000))  # draws a pure ACK
    assert ecn_of(talker.expect(".", length=0)) == 0
    # Retransmissions: by the probe, by the timer.
    talker.write(3000)
    talker.taken.clear()
    for _ in range(4):
        talker.next_sent()
    assert [ecn_of(packet) for packet in talker.taken] == [0] * len(talker.taken)
    assert len(talker.taken) >= 4
    # Window probes.
    talker.ack(3001, window=0)
    talker.send(bytes(1000))
    talker.taken.clear()
    for _ in range(3):
        talker.next_sent()
    assert [ecn_of(packet) for packet in talker.taken] == [0] * len(talker.taken)
    assert talker.counter("zero_window_probes") == 3


@pytest.mark.row("R3168-3")
def test_fast_retransmission_is_not_ecn_capable() -> None:
    talker = sender()
    talker.write(10_000)
    talker.advance(RTT)
    talker.taken.clear()
    assert talker.ack(1, sack=[(1001, 4001)]) == [1]
    assert ecn_of(talker.taken[0]) == 0


@pytest.mark.row("R3168-4")
def test_new_data_are_ect_0() -> None:
    talker = sender()
    talker.write(10_000)
    assert [ecn_of(packet) for packet in talker.taken] == [ECT_0] * 10


@pytest.mark.row("R3168-5")
def test_mark_is_echoed_until_the_peer_says_cwr() -> None:
    talker = sender()
    talker.inject(".", data=bytes(1000), tos=ECT_0)
    talker.advance(S)
    assert not talker.drain()[-1].bits & ECE
    talker.inject(".", data=bytes(1000), tos=CE)
    talker.advance(S)
    for _ in range(3):
        talker.inject(".", data=bytes(1000), tos=ECT_0)
        talker.advance(S)
    talker.write(100)
    packets = talker.taken + talker.drain()
    assert len(packets) >= 5
    assert all(packet.bits & ECE for packet in packets)
    talker.inject("W.", data=bytes(1000), tos=ECT_0)
    talker.advance(S)
    assert not any(packet.bits & ECE for packet in talker.drain() if packet.ack == talker.iss + 6001)
    # A mark on the very segment that says CWR begins a new round.
    talker.inject("W.", data=bytes(1000), tos=CE)
    talker.advance(S)
    assert talker.drain()[-1].bits & ECE


@pytest.mark.row("R3168-5")
def test_without_ecn_marks_are_not_echoed() -> None:
    talker = Talker(sack=True)
    talker.inject(".", data=bytes(1000), tos=CE)
    talker.advance(S)
    assert not talker.drain()[-1].bits & ECE


@pytest.mark.row("R3168-6")
@pytest.mark.row("R9438-2")
@pytest.mark.parametrize(("algorithm", "target"), [("cubic", 14_000), ("newreno", 10_000)])
def test_one_cut_and_one_cwr_in_a_round_trip(algorithm: str, target: int) -> None:
    talker = sender(window=20, algorithm=algorithm)
    talker.write(60_000)
    talker.advance(RTT)
    talker.taken.clear()
    for number in range(1, 21):
        talker.ack_segments(number, flags="E.")
        assert talker.info("ssthresh") == target
    assert talker.info("retransmissions") == 0
    with_cwr = [packet for packet in talker.taken if packet.bits & CWR]
    assert len(with_cwr) == 1
    assert with_cwr[0] is next(packet for packet in talker.taken if packet.data)
    assert talker.info("flight_size") <= target


@pytest.mark.row("R3168-6")
def test_cwr_is_not_on_a_retransmission() -> None:
    talker = sender()
    talker.write(10_000)
    talker.advance(RTT)
    talker.taken.clear()
    # The echo and the loss come at once; there is nothing new to send.
    sent = talker.ack_segments(1, sack=[(2001, 5001)], flags="E.")
    assert sent == segments(2, 2)
    assert not talker.taken[0].bits & CWR
    talker.advance(RTT)
    talker.ack_segments(10)
    talker.taken.clear()
    talker.write(1000)
    assert talker.taken[0].bits & CWR


@pytest.mark.row("R3168-6")
def test_next_round_trip_may_cut_again() -> None:
    talker = sender(window=20)
    talker.write(60_000)
    talker.advance(RTT)
    talker.ack_segments(20, flags="E.")
    first = talker.info("ssthresh")
    assert first == 14_000
    talker.advance(RTT)
    talker.ack((talker.seen - 1) // 1000 * 1000 + 1, flags="E.")
    assert talker.info("ssthresh") < first


@pytest.mark.row("R3168-7")
@pytest.mark.row("R9438-2")
@pytest.mark.parametrize("algorithm", ["cubic", "newreno"])
def test_repeated_marks_shrink_to_one_segment_an_rto(algorithm: str) -> None:
    talker = sender(algorithm=algorithm)
    talker.write(60_000)
    windows = []
    for _ in range(12):
        talker.advance(RTT)
        talker.ack(talker.seen, flags="E.")
        windows.append(talker.info("cwnd"))
        if talker.info("flight_size") == 0:
            break
    assert windows[-1] == 1000
    # From here on: one segment, and nothing until the timer lets the next one go.
    for _ in range(3):
        assert talker.info("flight_size") == 0
        rto = talker.info("rto_us")
        elapsed, sent = talker.next_sent()
        assert elapsed == rto
        assert len(sent) == 1
        talker.advance(RTT)
        assert talker.ack(talker.seen, flags="E.") == []
    # An ACK without the echo sets it free.
    talker.next_sent()
    talker.advance(RTT)
    assert talker.ack(talker.seen) != []


@pytest.mark.row("R3168-8")
def test_mark_on_old_or_far_data_is_ignored() -> None:
    talker = sender()
    talker.inject(".", data=bytes(3000))
    talker.expect(".", ack=3001)
    for seq in (1, start_of(2), 1 << 30):
        talker.inject(".", seq=seq, data=bytes(1000), tos=CE)
        assert not talker.expect(".", ack=3001).bits & ECE
    talker.inject(".", seq=3001, data=bytes(3000))
    assert not talker.expect(".", ack=6001).bits & ECE
