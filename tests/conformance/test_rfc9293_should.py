"""The SHLD and REC rows of RFC 9293 Appendix B, each shown on the wire (see tests/support/est.py for EST).

SHLD-6 is with path MTU. SHLD-24 (a later source route overrides) is waived with MUST-53: datagrams with a
source route are dropped.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from appliance.errors import Refused, Reset, TimedOut
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import EVENT_ADVICE, EVENT_CLOSED, EVENT_OPENED
from appliance.stack.tcp.state import State
from tests.support import packets as pk
from tests.support.est import HOUR, Est, est, pattern, plain, ts
from tests.support.packets import mss_option
from tests.support.peer import MS, S


@pytest.mark.row("SHLD-1")
def test_isns_of_one_instant_look_random() -> None:
    peer = Est()
    peer.listen()
    numbers = []
    for port in range(50_000, 50_100):
        peer.datagram(pk.tcp("S", seq=1, source_port=port))
        numbers.append(peer.other.pop().seq)
    assert len(set(numbers)) == 100
    for bit in range(32):
        assert 25 <= sum(number >> bit & 1 for number in numbers) <= 75, f"bit {bit} is not random"
    steps = {(b - a) & 0xFFFF_FFFF for a, b in pairwise(numbers)}
    assert len(steps) == 99, "the next one can be computed from two"
    assert min(min(step, (1 << 32) - step) for step in steps) > 10_000


@pytest.mark.row("SHLD-2")
@pytest.mark.parametrize("flags", ["R", "R."])
def test_reset_may_carry_data(flags: str) -> None:
    peer = est()
    peer.inject(flags, data=b"why I am resetting it")
    assert isinstance(peer.connection.failure(), Reset)
    assert peer.connection.receivable() == 0
    peer.expect_nothing()


@pytest.mark.row("SHLD-3")
def test_close_with_unread_data_resets() -> None:
    peer = est()
    peer.inject("P.", data=pattern(100))
    peer.call("close")
    peer.expect("R.", seq=1, ack=101)
    assert peer.interface.connections() == []


@pytest.mark.row("SHLD-3", "MAY-1")
def test_data_after_a_full_close_resets() -> None:
    """`close` closes both ways: what comes later nobody would read, and the peer must learn of it.

    `shutdown` is the half-close of the RFC's CLOSE; it goes on receiving.
    """
    peer = est()
    peer.call("close")
    peer.expect("F.", seq=1, ack=1)
    peer.inject(".")
    assert peer.state == State.FIN_WAIT_2
    peer.inject("P.", data=b"too late")
    peer.expect("R.", seq=2)
    assert peer.connection.is_closed
    half = est()
    half.call("shutdown")
    half.inject("P.", data=b"welcome")
    assert half.receive() == b"welcome"


@pytest.mark.row("SHLD-4")
@pytest.mark.parametrize("seq", [5, 100_000, 0x8000_0000, 0xFFFF_0000])
def test_later_timestamps_reopen_time_wait_from_any_number(seq: int) -> None:
    peer = ts()
    peer.call("shutdown")
    peer.inject("F.", ack=2)
    assert peer.state == State.TIME_WAIT
    old = peer.drain()[-1].seq
    peer.advance(2 * MS)
    options = mss_option(1000) + peer.timestamps()
    peer.datagram(peer.segment("S", seq=seq, options=options))
    (answer,) = peer.drain()
    assert answer.flags == "S."
    assert answer.ack == (peer.iss + seq + 1) & 0xFFFF_FFFF
    assert 0 < (answer.seq - old) & 0xFFFF_FFFF < 1 << 31, "our numbers go on above the old ones"
    assert peer.state == State.SYN_RECEIVED


@pytest.mark.row("SHLD-5")
@pytest.mark.parametrize(("mtu", "mss"), [(1500, 1460), (576, 536), (9000, 8960)])
def test_mss_stands_on_every_syn(mtu: int, mss: int) -> None:
    peer = Est(mtu=mtu)
    peer.listen()
    peer.inject("S", seq=0)
    assert peer.expect("S.").mss == mss
    client = Est(mtu=mtu)
    client.connect()
    assert client.expect("S").mss == mss


@pytest.mark.row("SHLD-7")
def test_nagle_joins_small_writes_while_data_is_in_flight() -> None:
    peer = est()
    peer.send(b"0123456789")
    peer.expect(".", seq=1, data=b"0123456789")
    peer.send(b"abcdefghij")
    peer.send(b"ABCDEFGHIJ")
    peer.expect_nothing()
    peer.inject(".", ack=11)
    peer.expect(".", seq=11, data=b"abcdefghijABCDEFGHIJ")
    peer.send(pattern(1_005))
    assert peer.take() == [(31, 1000)], "a full segment does not wait"


@pytest.mark.row("SHLD-8")
def test_ecn_is_agreed_on_echoed_and_answered() -> None:
    peer = Est()
    peer.listen()
    peer.inject("SEW", seq=0, options=mss_option(1000))
    peer.expect("S.E", seq=0, ack=1)
    peer.inject(".")
    peer.listener.accept()
    peer.send(b"hello")
    assert peer.expect(".", data=b"hello").tos & 3 == 2, "ECT(0)"
    peer.datagram(peer.segment(".", data=b"marked"), tos=3)
    peer.next += 6
    peer.expect(".E", ack=7)
    peer.inject(".", data=b"more")
    peer.advance(S)
    peer.expect(".E", ack=11)
    peer.inject(".W", data=b"heard")
    peer.advance(S)
    peer.expect(".", ack=16)
    # And the other way: an echo makes the window smaller, which CWR says once.
    peer.send(pattern(30_000))
    peer.drain()
    cwnd = int(peer.connection.info()["cwnd"])
    answers = []
    for ack in range(1_006, 20_006, 1_000):
        peer.inject(".E" if ack == 1_006 else ".", ack=ack)
        answers += [packet for packet in peer.drain() if packet.data]
    assert int(peer.connection.info()["ssthresh"]) < cwnd
    assert [bool(packet.bits & pk.FLAG_BITS["W"]) for packet in answers] == [True] + [False] * (
        len(answers) - 1
    )
    plain_peer = est()
    plain_peer.send(b"hello")
    assert plain_peer.expect(".").tos == 0


@pytest.mark.row("SHLD-9", "SHLD-10")
def test_advice_comes_after_three_retransmissions_and_before_the_end() -> None:
    peer = plain(rtt=100 * MS)
    peer.send(b"hello")
    peer.drain()
    for timeout in (300 * MS, 600 * MS):
        peer.advance(timeout)
        assert len(peer.drain()) == 1
        assert not peer.events() & EVENT_ADVICE
    peer.advance(1200 * MS)
    assert len(peer.drain()) == 1
    assert peer.connection in peer.interface.take_ready()
    assert peer.events() & (EVENT_ADVICE | EVENT_CLOSED) == EVENT_ADVICE
    assert peer.connection.soft_error
    peer.advance(HOUR)
    assert isinstance(peer.connection.failure(), TimedOut)
    assert peer.events() & EVENT_CLOSED


@pytest.mark.row("SHLD-11")
@pytest.mark.parametrize("rtt", [0, 100 * MS, S])
def test_data_is_sent_again_for_100_seconds(rtt: int) -> None:
    peer = plain(rtt=rtt * 9 // 10)
    start = peer.now
    peer.send(b"hello")
    peer.advance(HOUR)
    assert peer.connection.is_closed
    assert [packet for packet in peer.drain() if packet.data][-1].at - start >= 100 * S


@pytest.mark.row("SHLD-12")
def test_keepalive_probe_has_no_data() -> None:
    peer = est()
    peer.send(b"hello")
    peer.inject(".")
    peer.drain()
    peer.call("set_keepalive", True, 10 * S)
    peer.advance(10 * S)
    probe = peer.expect(".", seq=5, ack=1, length=0)  # SND.NXT is 6
    assert probe.bits == pk.FLAG_BITS["."]


@pytest.mark.row("SHLD-13", "SHLD-23")
def test_neither_urgent_data_nor_a_dscp_of_its_own() -> None:
    peer = Est()
    peer.listen()
    peer.inject("S", seq=0, options=mss_option(1000))
    peer.inject(".")
    peer.listener.accept()
    peer.datagram(peer.segment("U.", data=pattern(500), urgent=100), tos=0xB8)
    peer.next += 500
    for size in (10, 5_000, 10_000, 20_000):
        peer.send(pattern(size))
        peer.advance(3 * S)
        peer.inject(".")
    peer.call("shutdown")
    peer.inject("F.")
    sent = peer.drain()
    assert len(sent) > 20
    assert not any(packet.bits & pk.FLAG_BITS["U"] or packet.urgent for packet in sent)
    assert {packet.tos for packet in sent} == {0}


@pytest.mark.row("SHLD-14")
@pytest.mark.parametrize("shift", [None, 7])
def test_right_edge_never_moves_left(shift: int | None) -> None:
    peer = est(shift=shift, tcp=TcpConfig(receive_buffer_initial=20_000, receive_buffer_limit=200_000))
    edges = []
    for turn in range(120):
        room = int(peer.connection.info()["rcv_wnd"])
        for _ in range(turn % 7):
            size = min(room, 137 + 97 * (turn % 9))
            if size:
                peer.inject(".", data=bytes(size))
                room -= size
        if turn % 5 == 3:
            peer.receive(1_000 * (turn % 11))
        if turn % 13 == 5:
            peer.send(b"hello")
        peer.advance(50 * MS)
        peer.inject(".")
        scale = peer.stack_window_shift
        edges += [
            ((packet.ack - peer.iss) & 0xFFFF_FFFF) + (packet.window << scale) for packet in peer.drain()
        ]
    assert len(edges) > 60
    assert edges[-1] > edges[0]
    rounding = (1 << peer.stack_window_shift) - 1
    assert all(later >= earlier - rounding for earlier, later in pairwise(edges))


def shrunk(**more: object) -> Est:
    """4000 bytes are in flight when the window falls to 1024."""
    peer = plain(rtt=100 * MS, **more)
    peer.send(pattern(4_000))
    peer.drain()
    peer.window = 1024
    peer.inject(".", ack=1)
    return peer


@pytest.mark.row("SHLD-15")
def test_no_new_data_when_the_window_shrank_below_the_flight() -> None:
    peer = shrunk()
    peer.send(pattern(4_000))
    peer.advance(250 * MS)
    assert peer.take() == []
    peer.inject(".", ack=2_001)
    assert peer.take() == []


@pytest.mark.row("SHLD-16", "MAY-7")
def test_old_data_inside_the_shrunk_window_is_sent_again() -> None:
    """What lies beyond the window's edge is not sent again while the first segment is (MAY-7: it may be)."""
    peer = shrunk()
    peer.advance(300 * MS)
    assert peer.take() == [(1, 1000)]
    peer.advance(10 * S)
    assert peer.state == State.ESTABLISHED
    peer.window = 65535
    peer.inject(".", ack=4_001)
    assert peer.connection.unsent_and_unacked() == 0


@pytest.mark.row("SHLD-17")
def test_data_beyond_the_right_edge_does_not_time_out() -> None:
    peer = plain(rtt=100 * MS)
    peer.send(pattern(4_000))
    peer.drain()
    peer.window = 0
    peer.inject(".", ack=1_001)
    end = peer.now + 6 * HOUR
    answered = 0
    while peer.now < end:
        if peer.advance(min(max(peer.time_to_deadline(), 1), end - peer.now)):
            answered += 1
            peer.inject(".", ack=1_001)
    assert answered > 100
    assert peer.state == State.ESTABLISHED
    peer.window = 65535
    for _ in range(10):
        peer.inject(".", ack=peer.seen)
        peer.advance(S)
    assert peer.connection.unsent_and_unacked() == 0


@pytest.mark.row("SHLD-19")
@pytest.mark.parametrize("size", [1460, 730])
def test_two_full_segments_are_acknowledged_at_once(size: int) -> None:
    """A segment is full by what we said we take: 1460 bytes. Of smaller ones it takes as many bytes."""
    peer = est(mss=1460, tcp=TcpConfig(quick_acks=0))
    for index in range(2 * 1460 // size):
        peer.expect_nothing()
        peer.inject(".", data=pattern(size))
        assert index < 2 * 1460 // size
    peer.expect(".", ack=1 + 2 * 1460, at=peer.now)


@pytest.mark.row("SHLD-20")
def test_error_reports_can_be_turned_off() -> None:
    peer = est()
    peer.call("set_error_reports", False)
    peer.send(b"hello")
    peer.report(3, 1, seq=1)
    assert not peer.events() & EVENT_ADVICE
    assert peer.connection.soft_error == ""
    peer.call("set_error_reports", True)
    peer.report(3, 1, seq=1)
    assert peer.events() & EVENT_ADVICE


@pytest.mark.row("SHLD-21")
def test_dscp_can_change_during_a_connection() -> None:
    peer = est()
    seen = []
    for dscp in (0, 46, 8, 0):
        peer.call("set_dscp", dscp)
        peer.send(b"hello")
        seen.append(peer.expect(".", data=b"hello").tos)
        peer.inject(".")
    assert seen == [0, 0xB8, 0x20, 0]


@pytest.mark.row("SHLD-26")
@pytest.mark.parametrize(("code", "is_hard"), [(0, False), (1, False), (2, True), (3, True), (4, False)])
def test_unreachable_ends_an_opening_but_no_connection(code: int, is_hard: bool) -> None:
    """The choice (RFC 5927 §5.2, as Linux): protocol and port unreachable end what is not yet open; once
    synchronized all are advice; "fragmentation needed" is news about the path's MTU in every state."""
    client = Est()
    client.connect()
    client.expect("S", seq=0)
    client.report(3, code, seq=0, rest=1400)
    assert client.connection.is_closed is is_hard
    assert isinstance(client.connection.failure(), Refused) is is_hard

    server = Est()
    server.listen()
    server.inject("S", seq=0, options=mss_option(1000))
    server.expect("S.")
    connection = server.connection
    server.report(3, code, seq=0, rest=1400)
    assert connection.is_closed is is_hard
    assert connection.failure() is None
    assert not server.events() & EVENT_OPENED

    peer = est(mss=1460)
    peer.send(pattern(1_460))
    peer.drain()
    peer.report(3, code, seq=1, rest=1000)
    assert peer.state == State.ESTABLISHED
    assert peer.connection.info()["smss"] == (960 if code == 4 else 1460)


@pytest.mark.row("SHLD-27")
def test_writes_are_collapsed_into_full_segments_with_one_push() -> None:
    peer = plain(window=1_000)
    peer.send(pattern(1_000))
    peer.drain()
    for _ in range(100):
        peer.send(pattern(100))
    peer.expect_nothing()
    peer.window = 65535
    peer.inject(".")
    sent = peer.drain()
    assert [len(packet.data) for packet in sent] == [1000] * 10
    assert [packet.has_push for packet in sent] == [False] * 9 + [True]


@pytest.mark.row("SHLD-28")
def test_bulk_is_sent_in_full_segments() -> None:
    peer = est()
    peer.call("set_nodelay", True)
    data = pattern(50_300)
    peer.send(data)
    sizes = []
    while peer.connection.unsent_and_unacked():
        sizes += [length for _, length in peer.take()]
        peer.advance(10 * MS)
        peer.inject(".")
    assert sizes == [1000] * 50 + [300]


@pytest.mark.row("SHLD-30")
def test_probe_interval_doubles_up_to_a_limit_of_a_minute_or_more() -> None:
    peer = plain(window=0, rtt=100 * MS)
    start = peer.now
    peer.send(pattern(100))
    times = []
    for _ in range(14):
        while not peer.sent:
            peer.advance(peer.time_to_deadline())
        times.append(peer.expect(".", length=0).at)
        peer.inject(".", ack=1)
    gaps = [times[0] - start] + [b - a for a, b in pairwise(times)]
    assert gaps[:9] == [300 * MS << index for index in range(9)]
    assert gaps[9:] == [120 * S] * 5


@pytest.mark.row("SHLD-31")
def test_out_of_order_segments_are_kept() -> None:
    peer = est()
    data = pattern(4_000)
    for start in (1_000, 3_000, 2_000):
        peer.inject(".", seq=1 + start, data=data[start : start + 1_000])
    assert [(packet.ack - peer.iss) for packet in peer.drain()] == [1, 1, 1]
    assert peer.connection.receivable() == 0
    peer.inject(".", seq=1, data=data[:1_000])
    peer.expect(".", ack=4_001)
    peer.expect_nothing()
    assert peer.receive() == data


@pytest.mark.row("REC-1")
def test_windows_are_computed_in_32_bits() -> None:
    peer = est(shift=14, sack=False)
    peer.window = 65535 << 14
    peer.inject(".")
    assert peer.connection.info()["snd_wnd"] == 1_073_725_440
    peer.connection.send(pattern(1_000_000))
    for flight in (10, 20, 40):
        peer.flush()
        assert len(peer.take()) == flight, "cwnd alone is the limit"
        peer.advance(10 * MS)
        peer.connection.send(pattern(1_000_000))
        peer.inject(".")
