"""The MAY rows of RFC 9293 Appendix B: what was chosen, shown on the wire (see tests/support/est.py for EST).

MAY-1 (half-duplex close) is with SHLD-3, MAY-7 (resending beyond a shrunk window) with SHLD-16.
"""

from __future__ import annotations

import pytest

from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import State
from tests.support import packets as pk
from tests.support.est import Est, est, pattern, plain
from tests.support.packets import mss_option
from tests.support.peer import MS, S


def in_time_wait() -> Est:
    """TIME-WAIT after 1000 bytes each way, without timestamps; SND.NXT is 1002, RCV.NXT 1002."""
    peer = est()
    peer.send(pattern(1_000))
    peer.inject(".", data=pattern(1_000))
    peer.receive()
    peer.call("shutdown")
    peer.inject("F.")
    assert peer.state == State.TIME_WAIT
    assert (peer.seen, peer.next) == (1_002, 1_002)
    peer.drain()
    return peer


@pytest.mark.row("MAY-2")
@pytest.mark.parametrize("ahead", [1, 1_000, 100_000_000])
def test_higher_syn_reopens_from_time_wait(ahead: int) -> None:
    peer = in_time_wait()
    peer.datagram(peer.segment("S", seq=1_002 + ahead, options=mss_option(1000)))
    (answer,) = peer.drain()
    assert answer.flags == "S."
    assert answer.ack - peer.iss == 1_002 + ahead + 1
    assert 0 < (answer.seq - peer.stack_iss - 1_002) & 0xFFFF_FFFF < 1 << 31
    assert peer.state == State.SYN_RECEIVED


@pytest.mark.row("MAY-2")
@pytest.mark.parametrize("seq", [0, 1, 1_001, 1_002, -5_000])
def test_lower_syn_in_time_wait_is_challenged(seq: int) -> None:
    peer = in_time_wait()
    peer.datagram(peer.segment("S", seq=seq, options=mss_option(1000)))
    peer.expect(".", seq=1_002, ack=1_002, length=0)
    peer.expect_nothing()
    assert peer.state == State.TIME_WAIT


@pytest.mark.row("MAY-3")
@pytest.mark.parametrize("options", [b"", mss_option(1460), pk.SACK_PERMITTED, pk.window_scale_option(0)])
@pytest.mark.parametrize("mtu", [1500, 576])
def test_mss_is_always_sent(options: bytes, mtu: int) -> None:
    """Even when it is the default of 536, and whatever the peer has sent."""
    peer = Est(mtu=mtu)
    peer.listen()
    peer.inject("S", seq=0, options=options)
    assert peer.expect("S.").mss == mtu - 40
    peer.advance(S)
    assert peer.expect("S.").mss == mtu - 40, "and again when it is repeated"


@pytest.mark.row("MAY-4")
def test_retransmission_is_an_atomic_datagram() -> None:
    """DF is set, so the identification means nothing (RFC 6864 §4.1); it need not be the same again."""
    peer = plain(rtt=100 * MS)
    peer.send(b"hello")
    peer.advance(S)
    first, second = peer.drain()[:2]
    assert (first.seq, first.data) == (second.seq, second.data)
    assert first.dont_fragment
    assert second.dont_fragment


@pytest.mark.row("MAY-5")
def test_keepalives_exist() -> None:
    peer = est()
    peer.call("set_keepalive", True, 10 * S)
    peer.advance(10 * S)
    peer.expect(".", seq=0, length=0)


@pytest.mark.row("MAY-6")
@pytest.mark.parametrize("octets", [0, 1])
def test_probe_of_either_kind_is_answered_and_ours_has_no_octet(octets: int) -> None:
    """Our own probes carry no garbage octet, and there is no setting for one: no peer of today needs it."""
    peer = est()
    peer.inject(".", data=b"hello")
    peer.receive()
    peer.advance(S)
    peer.drain()
    for _ in range(3):
        peer.datagram(peer.segment(".", seq=5, data=b"\x00" * octets))
        peer.expect(".", seq=1, ack=6, length=0)
        peer.expect_nothing()
        peer.advance(75 * S)
    assert peer.connection.receivable() == 0
    peer.call("set_keepalive", True, 10 * S)
    peer.advance(10 * S)
    peer.expect(".", seq=0, length=0)


@pytest.mark.row("MAY-8")
@pytest.mark.parametrize("octets", [0, 1])
def test_own_window_may_stay_closed(octets: int) -> None:
    peer = plain(tcp=TcpConfig(receive_buffer_initial=4_000, receive_buffer_limit=4_000))
    for _ in range(4):
        peer.inject(".", data=pattern(1_000))
    peer.advance(S)
    assert peer.drain()[-1].window == 0
    for _ in range(120):
        peer.advance(5 * S)
        peer.expect_nothing()
        # A window probe: the next octet (Linux: none, one below).
        peer.datagram(peer.segment(".", seq=4_001 if octets else 4_000, data=b"!" * octets))
        peer.expect(".", ack=4_001, window=0, length=0)
    assert peer.receive() == pattern(1_000) * 4
    peer.expect(".", ack=4_001, window=4_000)


@pytest.mark.row("MAY-9")
def test_received_dscp_can_be_asked_for() -> None:
    peer = est()
    assert peer.connection.received_dscp() == 0
    for tos, dscp in ((0xB8, 46), (0x23, 8), (0x00, 0)):
        peer.datagram(peer.segment("."), tos=tos)
        assert peer.connection.received_dscp() == dscp, "without the ECN bits"
    peer.listener.close()
    again = Est()
    again.listen()
    again.datagram(again.segment("S", seq=0), tos=0x28)
    assert again.connection.received_dscp() == 10


@pytest.mark.row("MAY-10", "MAY-11")
@pytest.mark.parametrize(
    "options",
    [
        b"\x44\x0c\x05\x00" + bytes(8),
        b"\x44\x0c\x0d\xf1" + bytes(8),
        b"\x07\x0b\x04" + bytes(8) + b"\x00",
        b"\x07\x07\x08\x0a\x4d\x00\x01\x00",
    ],
    ids=["timestamp", "timestamp, full", "record route", "record route, full"],
)
def test_ip_timestamp_and_record_route_are_passed_over(options: bytes) -> None:
    """Neither is filled in or answered; the segment behind them counts (RFC 9293 §3.9.2)."""
    peer = est()
    peer.datagram(peer.segment("P.", data=b"hello"), options=options)
    assert peer.receive() == b"hello"
    peer.advance(S)
    assert peer.state == State.ESTABLISHED
    assert all(packet.raw[14] == 0x45 for packet in peer.drain())


@pytest.mark.row("MAY-12")
@pytest.mark.parametrize(
    ("ack", "is_taken"), [(0, True), (-1_000, True), (-64_534, True), (-64_535, False), (-(1 << 30), False)]
)
def test_data_with_an_impossibly_old_ack_is_challenged(ack: int, is_taken: bool) -> None:
    """RFC 5961 §5: SND.UNA - MAX.SND.WND =< SEG.ACK =< SND.NXT; here SND.UNA is 1001, the window 65535."""
    peer = plain()
    peer.send(pattern(1_000))
    peer.inject(".")
    peer.drain()
    peer.datagram(peer.segment(".", data=b"hello", ack=ack))
    assert peer.connection.receivable() == (5 if is_taken else 0)
    if not is_taken:
        peer.expect(".", seq=1_001, ack=1, length=0)


@pytest.mark.row("MAY-13")
def test_out_of_order_segment_is_acknowledged_at_once() -> None:
    peer = est()
    for start in (1_001, 2_001, 4_001):
        peer.inject(".", seq=start, data=pattern(1_000))
        peer.expect(".", ack=1, length=0, at=peer.now)
        peer.expect_nothing()


@pytest.mark.row("MAY-14")
def test_there_is_no_flush_call() -> None:
    """Nothing could be gained by one: what SEND took is sent as soon as the windows let it."""
    peer = est()
    assert not hasattr(peer.connection, "flush")
    peer.send(pattern(3_000))
    assert peer.take() == [(1, 1000), (1001, 1000), (2001, 1000)]


@pytest.mark.row("MAY-15")
def test_there_is_no_push_flag_and_none_is_needed() -> None:
    """`send` takes bytes and an offset, no flag; the last segment of what is queued has PSH by itself."""
    peer = est()
    with pytest.raises(TypeError):
        peer.connection.send(b"hello", push=True)
    for _ in range(3):
        peer.send(b"hello")
        assert peer.expect(".", data=b"hello").has_push
        peer.inject(".")


@pytest.mark.row("MAY-16")
def test_small_writes_are_joined_while_the_application_holds_them_back() -> None:
    """By `set_cork`; without it only Nagle's algorithm joins them."""
    peer = plain()
    peer.call("set_cork", True)
    start = peer.now
    for _ in range(12):
        peer.send(pattern(100))
        peer.advance(MS)
    assert peer.take() == [(1, 1000)], "a full segment goes, the rest waits"
    peer.inject(".")
    peer.expect_nothing()
    peer.call("set_cork", False)
    assert peer.take() == [(1001, 200)]
    peer.inject(".")
    peer.call("set_cork", True)
    peer.send(b"forgotten")
    peer.advance(S)
    forgotten = peer.expect(".", data=b"forgotten")
    assert forgotten.at - start <= 500 * MS, "nothing is held back without limit (MUST-60)"


@pytest.mark.row("MAY-17")
@pytest.mark.parametrize("flags", [".", "P."])
def test_data_is_delivered_with_push_or_without(flags: str) -> None:
    """PSH is not passed up: a `receive` returns whatever has come."""
    peer = est()
    peer.inject(flags, data=b"hello")
    assert peer.connection in peer.interface.take_ready()
    assert peer.receive() == b"hello"


@pytest.mark.row("MAY-18")
@pytest.mark.parametrize(("name", "share"), [("cubic", 70), ("newreno", 50)])
def test_congestion_control_can_be_chosen(name: str, share: int) -> None:
    """CUBIC (RFC 9438) unless told otherwise: a loss leaves 70 % of the flight, NewReno's leaves a half."""
    peer = plain(rtt=100 * MS, tcp=None if name == "cubic" else TcpConfig(congestion_control=name))
    assert peer.connection.info()["congestion_control"] == name
    peer.send(pattern(30_000))
    assert len(peer.take()) == 10
    for _ in range(3):
        peer.inject(".", ack=1)
    assert (1, 1000) in peer.take(), "fast retransmit"
    assert peer.connection.info()["ssthresh"] in (share * 100, share * 110, share * 120)
