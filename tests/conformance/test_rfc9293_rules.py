"""Rules of RFC 9293 that Appendix B does not number: the states, what is acceptable, how connections end."""

from __future__ import annotations

import pytest

from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import EVENT_CLOSED, EVENT_PEER_CLOSED
from appliance.stack.tcp.state import State
from tests.support import packets as pk
from tests.support.est import Est, est, pattern, plain
from tests.support.packets import Packet, mss_option
from tests.support.peer import MS, S


def send_to(peer: Est, flags: str, *, port: int, **more: object) -> list[Packet]:
    """A segment from a port that no connection knows; returns the answers."""
    peer.other.clear()
    peer.datagram(pk.tcp(flags, source_port=41_000, destination_port=port, **more))
    return peer.other


# -- CLOSED and LISTEN ---------------------------------------------------------------------------------


@pytest.mark.row("R9293-1")
@pytest.mark.parametrize(
    ("flags", "data", "ack"), [("S", b"", 6), ("F", b"0123456789", 16), ("-", b"abc", 8), ("SF", b"abc", 10)]
)
def test_closed_segment_without_ack_gets_rst_ack(flags: str, data: bytes, ack: int) -> None:
    (answer,) = send_to(Est(), flags, port=81, seq=5, data=data)
    assert (answer.flags, answer.seq, answer.ack, answer.data) == ("R.", 0, ack, b"")
    assert (answer.source_port, answer.destination_port) == (81, 41_000)


@pytest.mark.row("R9293-2")
@pytest.mark.parametrize(("flags", "data"), [(".", b""), ("S.", b""), ("F.", b"abc"), ("P.", b"x")])
def test_closed_segment_with_ack_gets_rst(flags: str, data: bytes) -> None:
    (answer,) = send_to(Est(), flags, port=81, seq=5, ack=77, data=data)
    assert (answer.flags, answer.seq, answer.ack, answer.data) == ("R", 77, 0, b"")


@pytest.mark.row("R9293-3")
@pytest.mark.parametrize("flags", ["R", "R.", "SR", "FR."])
def test_rst_is_never_answered_with_a_rst(flags: str) -> None:
    assert send_to(Est(), flags, port=81, seq=5, ack=77, data=b"abc") == []


@pytest.mark.row("R9293-4")
@pytest.mark.parametrize(
    ("flags", "rst"),
    [("R", None), ("SR", None), ("R.", None), (".", 9), ("S.", 9), ("F.", 9), ("-", None), ("F", None)],
)
def test_listen_answers_ack_alone(flags: str, rst: int | None) -> None:
    peer = Est()
    peer.listen()
    answers = send_to(peer, flags, port=peer.port, seq=5, ack=9)
    assert [(answer.flags, answer.seq) for answer in answers] == ([] if rst is None else [("R", rst)])
    assert peer.interface.connections() == []
    assert [answer.flags for answer in send_to(peer, "S", port=peer.port, seq=5)] == ["S."]


# -- SYN-RECEIVED --------------------------------------------------------------------------------------


def syn_received() -> Est:
    peer = Est()
    peer.listen()
    peer.inject("S", seq=0, options=mss_option(1000))
    peer.expect("S.", seq=0, ack=1)
    return peer


@pytest.mark.row("R9293-5")
def test_data_on_a_syn_waits_for_the_handshake() -> None:
    peer = Est()
    peer.listen()
    data = pattern(100)
    peer.inject("S", seq=0, data=data)
    answer = peer.expect("S.", seq=0)
    acked = answer.ack - peer.iss
    assert acked in (1, 101)
    assert peer.connection.receivable() == 0
    assert peer.listener.accept() is None
    peer.inject(".", seq=1, data=data, ack=1)  # the peer sends again what was not acknowledged
    assert peer.listener.accept() is peer.connection
    assert peer.receive() == data
    peer.inject(".", seq=1, data=data)
    assert peer.connection.receivable() == 0, "once"


@pytest.mark.row("R9293-6")
@pytest.mark.parametrize("ack", [2, 0, -1, 1_000, 1 << 31])
def test_syn_received_unacceptable_ack_gets_rst_and_changes_nothing(ack: int) -> None:
    peer = syn_received()
    peer.inject(".", seq=1, ack=ack)
    peer.expect("R", seq=ack)
    assert peer.state == State.SYN_RECEIVED
    peer.inject(".", seq=1, ack=1)
    peer.expect_nothing()
    assert peer.state == State.ESTABLISHED


@pytest.mark.row("R9293-7")
def test_syn_received_same_syn_again_is_harmless() -> None:
    peer = syn_received()
    first = peer.connection
    for _ in range(2):
        peer.inject("S", seq=0, options=mss_option(1000))
        peer.expect("S.", seq=0, ack=1)
    assert peer.interface.connections() == [first]
    peer.inject(".")
    assert peer.listener.accept() is first
    assert peer.listener.accept() is None


# -- first: the sequence number ------------------------------------------------------------------------


@pytest.mark.row("R9293-8")
@pytest.mark.parametrize(("seq", "length"), [(1, 500), (501, 500), (0, 1), (66_536, 1), (66_536, 0), (0, 0)])
def test_unacceptable_segment_gets_an_ack(seq: int, length: int) -> None:
    """RCV.NXT is 1001; the window is 65535 when all was read and told."""
    peer = plain()
    peer.inject(".", data=pattern(1_000))
    peer.receive()
    peer.send(b"x")  # carries ACK and window
    edge = (peer.sent[-1].ack - peer.iss) + peer.sent[-1].window
    peer.inject(".")
    peer.drain()
    assert edge <= 66_536
    peer.datagram(peer.segment(".", seq=edge if seq == 66_536 else seq, data=bytes(length)))
    peer.expect(".", seq=2, ack=1_001, length=0)
    peer.expect_nothing()
    assert peer.connection.receivable() == 0


@pytest.mark.row("R9293-8")
def test_zero_window_takes_an_ack_and_no_byte() -> None:
    peer = plain(tcp=TcpConfig(receive_buffer_initial=2_000, receive_buffer_limit=2_000))
    peer.send(b"hello")
    for _ in range(2):
        peer.inject(".", data=pattern(1_000), ack=1)
    peer.advance(50 * MS)
    assert peer.drain()[-1].window == 0
    peer.datagram(peer.segment(".", data=b"!", ack=1))
    peer.expect(".", seq=6, ack=2_001, length=0)
    assert peer.connection.receivable() == 2_000
    peer.datagram(peer.segment(".", ack=6))
    assert peer.connection.unsent_and_unacked() == 0


@pytest.mark.row("R9293-9")
def test_straddling_segment_is_trimmed_on_the_left() -> None:
    peer = est()
    data = pattern(1_000)
    peer.inject(".", data=data[:500])
    peer.receive()
    peer.drain()
    peer.inject(".", seq=1, data=data)
    peer.expect(".", ack=1_001)
    assert peer.receive() == data[500:]


@pytest.mark.row("R9293-9")
def test_straddling_segment_is_trimmed_on_the_right() -> None:
    peer = plain(tcp=TcpConfig(receive_buffer_initial=2_500, receive_buffer_limit=2_500))
    data = pattern(3_000)
    for start in (0, 1_000, 2_000):
        peer.inject(".", seq=1 + start, data=data[start : start + 1_000])
    last = peer.drain()[-1]
    assert (last.ack - peer.iss, last.window) == (2_501, 0)
    assert peer.receive() == data[:2_500]


# -- fifth: the acknowledgment -------------------------------------------------------------------------


@pytest.mark.row("R9293-10")
@pytest.mark.parametrize("ahead", [1, 1_000, (1 << 31) - 10])
def test_ack_of_unsent_data_is_challenged_and_the_segment_dropped(ahead: int) -> None:
    peer = est()
    peer.send(b"hello")
    peer.drain()
    peer.datagram(peer.segment(".", data=b"0123456789", ack=6 + ahead))
    peer.expect(".", seq=6, ack=1, length=0)
    assert peer.connection.receivable() == 0
    assert peer.connection.unsent_and_unacked() == 5


@pytest.mark.row("R9293-11")
@pytest.mark.parametrize("flags", ["-", "P", "F", "U"])
def test_segment_without_ack_is_dropped(flags: str) -> None:
    peer = est()
    peer.datagram(peer.segment(flags, data=pattern(100)))
    assert peer.advance(S) == []
    assert peer.connection.receivable() == 0
    assert peer.state == State.ESTABLISHED


@pytest.mark.row("R9293-12")
def test_older_segment_does_not_move_the_window() -> None:
    peer = plain()
    peer.inject(".", data=pattern(10), window=3_000)
    assert peer.connection.info()["snd_wnd"] == 3_000
    peer.datagram(peer.segment(".", seq=1, ack=1, window=9_000))
    assert peer.connection.info()["snd_wnd"] == 3_000
    peer.drain()
    peer.send(pattern(10_000))
    assert sum(length for _, length in peer.take()) == 3_000
    # An older ACK in a segment with a later number does not count either, a newer one does.
    peer.inject(".", ack=2_001, window=3_000)
    peer.drain()
    peer.datagram(peer.segment(".", ack=1_001, window=60_000))
    assert peer.connection.info()["snd_wnd"] == 3_000
    peer.inject(".", ack=3_001, window=4_000)
    assert peer.connection.info()["snd_wnd"] == 4_000


# -- closing -------------------------------------------------------------------------------------------


@pytest.mark.row("R9293-13")
def test_passive_close() -> None:
    peer = est()
    peer.inject("F.", seq=1)
    peer.expect(".", seq=1, ack=2)
    assert peer.state == State.CLOSE_WAIT
    assert peer.events() & EVENT_PEER_CLOSED
    assert peer.connection.at_eof()
    peer.call("close")
    peer.expect("F.", seq=1, ack=2)
    assert peer.state == State.LAST_ACK
    peer.inject(".", ack=2)
    peer.expect_nothing()
    assert peer.connection.is_closed
    assert peer.connection.failure() is None
    assert peer.events() & EVENT_CLOSED
    peer.inject(".", ack=2)
    peer.expect("R", seq=2)


@pytest.mark.row("R9293-14")
def test_fin_counts_after_all_data() -> None:
    peer = est()
    data = pattern(100)
    peer.inject("F.", seq=101)
    peer.expect(".", ack=1)
    assert peer.state == State.ESTABLISHED
    assert not peer.connection.at_eof()
    assert not peer.events() & EVENT_PEER_CLOSED
    peer.inject(".", seq=1, data=data)
    peer.expect(".", ack=102)
    assert not peer.connection.at_eof(), "the data first"
    assert peer.receive() == data
    assert peer.connection.at_eof()
    assert peer.state == State.CLOSE_WAIT


@pytest.mark.row("R9293-15")
@pytest.mark.parametrize("is_fin_acked", [False, True])
def test_half_closed_connection_still_receives(is_fin_acked: bool) -> None:
    peer = est()
    peer.call("shutdown")
    peer.expect("F.", seq=1, ack=1)
    ack = 2 if is_fin_acked else 1
    peer.inject(".", ack=ack)
    assert peer.state == (State.FIN_WAIT_2 if is_fin_acked else State.FIN_WAIT_1)
    peer.inject(".", data=pattern(1_000), ack=ack)
    peer.advance(100 * MS)
    assert peer.drain()[-1].ack - peer.iss == 1_001
    assert peer.receive() == pattern(1_000)
    peer.inject("F.", ack=2)
    assert peer.state == State.TIME_WAIT
    assert peer.drain()[-1].ack - peer.iss == 1_002


@pytest.mark.row("R9293-16")
def test_simultaneous_close() -> None:
    peer = est()
    peer.call("shutdown")
    peer.expect("F.", seq=1, ack=1)
    peer.inject("F.", ack=1)
    peer.expect(".", seq=2, ack=2)
    assert peer.state == State.CLOSING
    peer.inject(".", ack=2)
    peer.expect_nothing()
    assert peer.state == State.TIME_WAIT
    peer.advance(60 * S)
    assert peer.connection.is_closed


@pytest.mark.row("R9293-17")
@pytest.mark.parametrize("state", [State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK])
def test_own_fin_is_sent_until_acknowledged(state: State) -> None:
    peer = plain(rtt=100 * MS)
    if state == State.LAST_ACK:
        peer.inject("F.")
    peer.drain()
    peer.call("shutdown")
    at = peer.expect("F.", seq=1).at
    if state == State.CLOSING:
        peer.inject("F.", ack=1)
        peer.drain()
    assert peer.state == state
    for timeout in (300 * MS, 600 * MS, 1200 * MS, 2400 * MS):
        peer.advance(timeout)
        at = peer.expect("F.", seq=1, length=0, at=at + timeout).at
        peer.expect_nothing()
    peer.inject(".", ack=2)
    peer.advance(50 * S)
    peer.expect_nothing()


@pytest.mark.row("R9293-18")
def test_time_wait_restarts_with_a_repeated_fin() -> None:
    """MSL is 30 s."""
    peer = est()
    peer.call("shutdown")
    peer.inject("F.", ack=2)
    peer.drain()
    assert peer.state == State.TIME_WAIT
    peer.advance(45 * S)
    peer.inject("F.", seq=1, ack=2)
    peer.expect(".", seq=2, ack=2)
    peer.advance(30 * S)
    assert peer.state == State.TIME_WAIT
    peer.advance(30 * S)
    assert peer.connection.is_closed


# -- the header ----------------------------------------------------------------------------------------


@pytest.mark.row("R9293-19")
@pytest.mark.parametrize("reserved", [1, 2, 4, 8, 15])
def test_reserved_bits_are_ignored_and_sent_as_zero(reserved: int) -> None:
    peer = Est()
    peer.listen()
    peer.inject("S", seq=0, options=mss_option(1000), reserved=reserved)
    peer.inject(".", reserved=reserved)
    assert peer.listener.accept() is peer.connection
    peer.inject(".", data=b"hello", reserved=reserved)
    assert peer.receive() == b"hello"
    peer.send(b"reply")
    peer.inject("F.", reserved=reserved)
    peer.call("shutdown")
    sent = peer.drain()
    assert len(sent) >= 4
    assert all(packet.raw[14 + 20 + 12] & 0x0F == 0 for packet in sent)


@pytest.mark.row("R9293-20")
@pytest.mark.parametrize("offset", [0, 1, 4, 6, 15])
@pytest.mark.parametrize("flags", ["S", ".", "R", "F."])
def test_wrong_data_offset_is_dropped(offset: int, flags: str) -> None:
    peer = est()
    peer.datagram(peer.segment(flags, data_offset=offset))
    peer.datagram(pk.tcp(flags, seq=5, source_port=41_000, data_offset=offset))
    assert (peer.advance(S), peer.other) == ([], [])
    assert peer.counter("dropped_malformed") == 2
    assert peer.state == State.ESTABLISHED


# -- numbers that wrap ---------------------------------------------------------------------------------


def near_the_wrap(distance: int) -> Est:
    """EST with our ISN `distance` below 2^32, and the peer's at 0xFFFFFF00.

    RFC 6528's clock makes the ISN of a 4-tuple grow by one each 4 µs, so one look at it tells when it will
    be what we want.
    """
    scout = Est()
    scout.listen()
    scout.inject("S", seq=0)
    isn = scout.drain()[0].seq
    wait = (((1 << 32) - distance - isn) & 0xFFFF_FFFF) << 2
    return est(iss=0xFFFF_FF00, start=scout.now + wait, rtt=10 * MS)


@pytest.mark.row("R9293-21")
@pytest.mark.parametrize("distance", [1, 2, 100, 50_000, 99_999])
def test_echo_across_the_wrap(distance: int) -> None:
    peer = near_the_wrap(distance)
    assert peer.stack_iss == (1 << 32) - distance
    data = pattern(100_000)
    echoed = bytearray()
    for start in range(0, len(data), 1_000):
        peer.inject(".", data=data[start : start + 1_000])
        peer.connection.send(peer.receive())
        peer.flush()
        for packet in peer.drain():
            assert (packet.seq - peer.stack_iss - 1) & 0xFFFF_FFFF == len(echoed)
            echoed += packet.data
    peer.inject(".")
    assert bytes(echoed) == data
    assert peer.connection.unsent_and_unacked() == 0
    peer.call("close")
    peer.expect("F.", seq=100_001, ack=100_001)


@pytest.mark.row("R9293-21")
@pytest.mark.parametrize("distance", [1_500, 2_500, 5_001])
def test_sack_across_the_wrap(distance: int) -> None:
    peer = near_the_wrap(distance)
    # Ours: the peer's numbers wrap 255 bytes on.
    peer.inject(".", seq=201, data=pattern(200))
    (packet,) = peer.drain()
    assert packet.options[5] == (peer.iss + 201 & 0xFFFF_FFFF).to_bytes(4, "big") + (
        peer.iss + 401 & 0xFFFF_FFFF
    ).to_bytes(4, "big")
    peer.inject(".", seq=1, data=pattern(200))
    assert peer.receive() == pattern(200) * 2
    peer.drain()
    # The peer's: everything but the first segment arrived.
    peer.call("set_nodelay", True)
    peer.send(pattern(8_000))
    assert len(peer.take()) == 8
    peer.advance(10 * MS)
    edges = [(peer.stack_iss + edge) & 0xFFFF_FFFF for edge in (1_001, 8_001)]
    peer.inject(".", ack=1, options=pk.sack_option((edges[0], edges[1])))
    peer.advance(MS)
    assert peer.take() == [(1, 1000)], "only what is missing"
    peer.inject(".", ack=8_001)
    assert peer.connection.unsent_and_unacked() == 0
