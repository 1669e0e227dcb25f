"""Opening: passive, active, simultaneous; SYN-SENT, SYN-RECEIVED check by check (RFC 9293 §3.5, §3.10.7)."""

from __future__ import annotations

import pytest

from appliance.errors import Refused, TimedOut, Unreachable
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import EVENT_CLOSED, EVENT_OPENED, EVENT_PEER_CLOSED, EVENT_READABLE
from appliance.stack.tcp.state import State
from tests.support.packets import PEER, mss_option, window_scale_option
from tests.support.peer import MS, Peer, S, established, syn_received, syn_received_active, syn_sent

# -- passive -------------------------------------------------------------------------------------


def test_passive_open_reaches_established_and_tells() -> None:
    peer = syn_received()
    assert peer.interface.take_ready() == []
    peer.inject(".")
    peer.expect_nothing()
    assert peer.state == State.ESTABLISHED
    (connection,) = peer.interface.take_ready()
    assert connection.take_events() == EVENT_OPENED
    assert connection.take_events() == 0


def test_syn_received_data_with_the_ack_is_delivered() -> None:
    peer = syn_received()
    peer.inject("P.", data=b"PING")
    assert peer.state == State.ESTABLISHED
    assert peer.connection.take_events() == EVENT_OPENED | EVENT_READABLE
    assert peer.receive() == b"PING"


def test_syn_received_fin_with_the_ack_goes_to_close_wait() -> None:
    peer = syn_received()
    peer.inject("F.", data=b"bye")
    assert peer.state == State.CLOSE_WAIT
    peer.expect(".", seq=1, ack=5)
    assert peer.connection.take_events() == EVENT_OPENED | EVENT_READABLE | EVENT_PEER_CLOSED


def test_syn_with_data_is_not_delivered_before_established() -> None:
    peer = Peer()
    peer.listen()
    peer.inject("S", seq=0, data=b"early")
    peer.expect("S.", seq=0, ack=1)
    assert peer.connection.receivable() == 0
    peer.inject(".", seq=1, data=b"early")
    assert peer.receive() == b"early"


@pytest.mark.parametrize("ack", [0, 2, 1000, -5])
def test_syn_received_unacceptable_ack_gets_rst_and_keeps_the_state(ack: int) -> None:
    peer = syn_received()
    peer.inject(".", seq=1, ack=ack)
    peer.expect("R", seq=ack)
    assert peer.state == State.SYN_RECEIVED
    peer.inject(".", seq=1, ack=1)
    assert peer.state == State.ESTABLISHED


def test_syn_received_without_ack_is_dropped() -> None:
    peer = syn_received()
    peer.inject("-", seq=1, data=b"x")
    peer.expect_nothing()
    assert peer.state == State.SYN_RECEIVED


@pytest.mark.parametrize("data", [b"", b"tfo"])
def test_syn_received_same_syn_again_repeats_the_syn_ack(data: bytes) -> None:
    peer = Peer()
    peer.listen()
    peer.inject("S", seq=0, data=data)
    peer.expect("S.", seq=0, ack=1)
    peer.inject("S", seq=0, data=data)
    peer.expect("S.", seq=0, ack=1)
    peer.expect_nothing()
    assert len(peer.interface.connections()) == 1
    peer.inject(".", seq=1)
    assert peer.state == State.ESTABLISHED


@pytest.mark.rfc("9293", "MUST-11")
def test_syn_received_passive_rst_returns_to_listen_silently() -> None:
    peer = syn_received()
    connection = peer.connection
    peer.inject("R", seq=1)
    peer.expect_nothing()
    assert connection.is_closed
    assert connection.failure() is None
    assert peer.listener is not None
    assert peer.listener.accept() is None
    peer.seen = peer.next = 0
    peer.inject("S", seq=0)
    peer.expect("S.", seq=0)


def test_syn_received_passive_other_syn_in_window_returns_to_listen() -> None:
    peer = syn_received()
    connection = peer.connection
    peer.inject("S", seq=100)
    peer.expect_nothing()
    assert connection.is_closed


def test_syn_received_rst_in_window_is_challenged_outside_dropped() -> None:
    peer = syn_received()
    peer.inject("R", seq=100)
    peer.expect(".", seq=1, ack=1)
    peer.inject("R", seq=0)
    peer.inject("R", seq=70_000)
    peer.expect_nothing()
    assert peer.state == State.SYN_RECEIVED


def test_syn_received_out_of_window_gets_ack() -> None:
    peer = syn_received()
    peer.inject(".", seq=70_000, ack=1)
    peer.expect(".", seq=1, ack=1)
    assert peer.state == State.SYN_RECEIVED


@pytest.mark.rfc("9293", "MUST-22")
def test_syn_ack_is_repeated_at_doubling_intervals_and_then_given_up() -> None:
    peer = syn_received()
    start, connection = peer.now, peer.connection
    peer.advance(200 * S)
    assert [(packet.at - start) // S for packet in peer.sent[:-1]] == [1, 3, 7, 15, 31]
    assert {packet.flags for packet in peer.sent[:-1]} == {"S."}
    assert peer.sent[-1].flags == "R."
    assert connection.is_closed
    assert isinstance(connection.failure(), TimedOut)
    peer.drain()
    peer.inject(".", seq=1, ack=1)
    peer.expect("R", seq=1)


def test_syn_received_shutdown_waits_for_established() -> None:
    peer = syn_received()
    peer.call("shutdown")
    peer.expect_nothing()
    assert peer.state == State.SYN_RECEIVED
    peer.inject(".")
    peer.expect("F.", seq=1, ack=1)
    assert peer.state == State.FIN_WAIT_1


def test_syn_received_abort_sends_rst() -> None:
    peer = syn_received()
    peer.call("abort")
    peer.expect("R.", seq=1, ack=1)
    assert peer.connection.is_closed


# -- active --------------------------------------------------------------------------------------


def test_active_open_sends_syn_with_mss_and_window_scale() -> None:
    peer = Peer(mtu=1400)
    peer.connect()
    syn = peer.expect("S", seq=0)
    assert syn.mss == 1360  # SHLD-6, MUST-67
    assert syn.window_shift == 7
    assert syn.window == 65535
    assert syn.ack == 0


def test_syn_sent_syn_ack_establishes() -> None:
    peer = syn_sent()
    peer.inject("S.", seq=0)
    peer.expect(".", seq=1, ack=1)
    peer.expect_nothing()
    assert peer.state == State.ESTABLISHED
    (connection,) = peer.interface.take_ready()
    assert connection.take_events() == EVENT_OPENED


def test_syn_sent_syn_ack_with_data_and_fin() -> None:
    peer = syn_sent()
    peer.inject("SF.", seq=0, data=b"hello")
    peer.expect(".", seq=1, ack=7)
    assert peer.state == State.CLOSE_WAIT
    assert peer.receive() == b"hello"
    assert peer.connection.at_eof()


@pytest.mark.parametrize("ack", [0, 2, 70_000, -1])
@pytest.mark.parametrize("flags", [".", "S.", "F."])
def test_syn_sent_unacceptable_ack_gets_rst(flags: str, ack: int) -> None:
    peer = syn_sent()
    peer.inject(flags, seq=0, ack=ack)
    peer.expect("R", seq=ack)
    assert peer.state == State.SYN_SENT


@pytest.mark.parametrize("flags", ["R", "FR"])
def test_syn_sent_rst_without_ack_is_dropped(flags: str) -> None:
    peer = syn_sent()
    peer.inject(flags, seq=0)
    peer.expect_nothing()
    assert peer.state == State.SYN_SENT


def test_syn_sent_rst_with_wrong_ack_is_dropped() -> None:
    peer = syn_sent()
    peer.inject("R.", seq=0, ack=2)
    peer.expect_nothing()
    assert peer.state == State.SYN_SENT


def test_syn_sent_rst_with_right_ack_refuses() -> None:
    peer = syn_sent()
    peer.inject("R.", seq=0, ack=1)
    peer.expect_nothing()
    connection = peer.connection
    assert connection.is_closed
    assert isinstance(connection.failure(), Refused)
    assert connection.take_events() == EVENT_CLOSED


@pytest.mark.parametrize("flags", [".", "F.", "P.", "-", "F"])
def test_syn_sent_without_syn_is_dropped(flags: str) -> None:
    peer = syn_sent()
    peer.inject(flags, seq=0, ack=1)
    peer.expect_nothing()
    assert peer.state == State.SYN_SENT


@pytest.mark.rfc("9293", "MUST-23")
def test_syn_is_repeated_for_three_minutes_and_then_times_out() -> None:
    peer = syn_sent()
    start, connection = peer.now, peer.connection
    peer.advance(400 * S)
    assert [(packet.at - start) // S for packet in peer.sent] == [1, 3, 7, 15, 31, 63, 127, 247]
    assert {packet.flags for packet in peer.sent} == {"S"}
    assert len({packet.seq for packet in peer.sent}) == 1
    assert connection.is_closed
    assert isinstance(connection.failure(), TimedOut)


@pytest.mark.parametrize("method", ["close", "shutdown", "abort"])
def test_syn_sent_close_ends_silently(method: str) -> None:
    peer = syn_sent()
    peer.call(method)
    peer.expect_nothing()
    assert peer.connection.is_closed
    assert peer.connection.failure() is None


# -- simultaneous --------------------------------------------------------------------------------


@pytest.mark.rfc("9293", "MUST-10")
def test_simultaneous_open_by_syn_ack() -> None:
    peer = syn_sent()
    peer.inject("S", seq=0)
    peer.expect("S.", seq=0, ack=1)
    assert peer.state == State.SYN_RECEIVED
    peer.inject("S.", seq=0, ack=1)
    peer.expect(".", seq=1, ack=1)
    peer.expect_nothing()
    assert peer.state == State.ESTABLISHED


def test_simultaneous_open_by_ack() -> None:
    peer = syn_received_active()
    peer.inject(".", seq=1, ack=1)
    peer.expect_nothing()
    assert peer.state == State.ESTABLISHED


def test_simultaneous_open_ignores_the_scale_in_the_window_of_the_syn_ack() -> None:
    """RFC 7323 §2.2: the window beside a SYN is never scaled."""
    options = mss_option(1000) + window_scale_option(7)
    peer = syn_sent()
    peer.inject("S", seq=0, window=5000, options=options)
    peer.expect("S.")
    peer.inject("S.", seq=0, ack=1, window=5000, options=options)
    peer.expect(".")
    assert peer.connection.snd_wnd <= 5000
    assert peer.connection.max_snd_wnd <= 5000


def test_syn_received_active_rst_refuses() -> None:
    peer = syn_received_active()
    peer.inject("R", seq=1)
    assert peer.connection.is_closed
    assert isinstance(peer.connection.failure(), Refused)


def test_syn_received_active_other_syn_is_challenged() -> None:
    peer = syn_received_active()
    peer.inject("S", seq=100)
    peer.expect(".", seq=1, ack=1)
    assert peer.state == State.SYN_RECEIVED


def test_simultaneous_open_takes_no_sample_from_the_repeated_number() -> None:
    peer = syn_sent()
    peer.advance(500 * MS)
    peer.inject("S", seq=0)
    peer.expect("S.")
    peer.inject("S.", seq=0, ack=1)
    assert peer.connection.info()["srtt_us"] == 0


# -- options -------------------------------------------------------------------------------------


def flight(peer: Peer, amount: int = 100_000) -> list[int]:
    """The sizes of the segments of the first flight."""
    peer.send(bytes(amount))
    return [len(packet.data) for packet in peer.drain()]


@pytest.mark.rfc("9293", "MUST-15")
def test_no_mss_option_means_536() -> None:
    peer = established(mss=None, gso=False)
    assert set(flight(peer)) == {536}


@pytest.mark.rfc("9293", "MUST-16")
@pytest.mark.parametrize(("mss", "used"), [(9000, 1460), (1460, 1460), (500, 500), (1, 64), (0, 64)])
def test_mss_is_the_lesser_of_the_peers_and_the_links(mss: int, used: int) -> None:
    peer = established(mss=mss, gso=False)
    assert set(flight(peer, used * 10)) == {used}


@pytest.mark.rfc("9293", "MUST-65")
def test_mss_outside_syn_changes_nothing() -> None:
    peer = established(mss=1000, gso=False)
    peer.inject(".", options=mss_option(100))
    assert set(flight(peer, 10_000)) == {1000}


@pytest.mark.parametrize("shift", [0, 7, 14, 20])
def test_window_scale_is_used_both_ways(shift: int) -> None:
    peer = established(shift=shift, window=65535 << min(shift, 14))
    assert peer.connection.snd_wnd == 65535 << min(shift, 14)
    assert peer.connection.rcv_wind_shift == 7
    peer.inject(".", data=b"x" * 1460)
    peer.inject(".", data=b"x" * 1460)
    assert peer.connection.rcv_wnd() > 60_000
    packet = peer.drain()[-1]
    assert packet.window << 7 <= 65536 - 2920


def test_no_window_scale_option_no_scaling() -> None:
    peer = established(shift=None)
    assert peer.connection.snd_wind_shift == peer.connection.rcv_wind_shift == 0
    assert peer.connection.receive_limit <= 65535


def test_syn_ack_offers_window_scale_even_when_our_shift_is_zero() -> None:
    """Or the peer would not scale its windows, and we would."""
    small = TcpConfig(receive_buffer_initial=8192, receive_buffer_limit=65535)
    peer = Peer(tcp=small)
    peer.listen()
    peer.inject("S", seq=0, options=window_scale_option(7))
    assert peer.expect("S.").window_shift == 0


def test_window_scale_outside_syn_is_ignored() -> None:
    peer = established(shift=2, window=4000)
    peer.inject(".", window=8000, options=window_scale_option(9))
    assert peer.connection.snd_wnd == 8000


@pytest.mark.rfc("9293", "MUST-7")
@pytest.mark.parametrize(
    "options",
    [
        b"\x02\x00",
        b"\x02\x01",
        b"\x08\xff\0\0",
        b"\x01\x01\x01\x02",
        b"\x02\x05\0\0\0\0\0\0",
        b"\x03\x04\0\0",
        b"\x05\x02\x01\x01",
    ],
)
def test_option_with_an_illegal_length_drops_the_segment_only(options: bytes) -> None:
    peer = Peer()
    peer.listen()
    peer.inject("S", seq=0, options=options)
    peer.expect_nothing()
    assert peer.counter("dropped_malformed") == 1
    peer.inject("S", seq=0)
    peer.expect("S.")


@pytest.mark.rfc("9293", "MUST-4")
@pytest.mark.parametrize(
    "options",
    [
        b"\x01\x01" + mss_option(900) + b"\x00\xff\xff",
        b"\xfd\x06abcd" + mss_option(900),
        mss_option(900) + b"\x03\x03\x07" + b"\x04\x02" + b"\x08\x0a" + bytes(8),
    ],
    ids=["junk behind EOL", "unknown kind first", "nothing aligned"],
)
def test_options_in_any_order_and_alignment(options: bytes) -> None:
    peer = Peer()
    peer.listen()
    peer.inject("S", seq=0, options=options)
    peer.expect("S.")
    assert peer.connection.peer_mss == 900


@pytest.mark.rfc("9293", "MUST-5")
@pytest.mark.parametrize("flags", [".", "P.", "F."])
def test_option_may_come_in_any_segment(flags: str) -> None:
    peer = established()
    peer.inject(flags, data=b"x", options=b"\x01\x01\x01\x01")
    assert peer.receive() == b"x"


# -- the timeout after the handshake -------------------------------------------------------------


@pytest.mark.rfc("6298", "5.7")
def test_lost_syn_ack_gives_data_a_timeout_of_three_seconds() -> None:
    peer = syn_received()
    peer.advance(1500 * MS)
    peer.drain()
    peer.inject(".")
    start = peer.now
    peer.send(b"x")
    peer.drain()
    peer.advance(10 * S)
    assert peer.sent[0].at - start == 3 * S


@pytest.mark.rfc("6928", "2")
@pytest.mark.parametrize(("resends", "segments"), [(0, 10), (1, 10), (2, 1)])
def test_initial_window_after_lost_syn_acks(resends: int, segments: int) -> None:
    peer = syn_received(gso=False)
    peer.advance([500 * MS, 1500 * MS, 3500 * MS][resends])
    assert len(peer.drain()) == resends
    peer.inject(".")
    assert len(flight(peer)) == segments


def test_lost_syn_ack_does_not_force_data_into_a_closed_window() -> None:
    peer = syn_received()
    peer.advance(1500 * MS)
    peer.drain()
    peer.inject(".", window=0)
    peer.send(b"x" * 10)
    peer.expect_nothing()


def test_peer_that_no_arp_finds_is_unreachable_and_not_merely_slow() -> None:
    peer = Peer(resolve=False)
    peer.answers_arp = False
    connection = peer.interface.connect(PEER, 80, peer.now)
    peer.flush()
    peer.advance(10 * S)
    assert connection.is_closed
    failure = connection.failure()
    assert isinstance(failure, Unreachable)
    assert "ARP" in str(failure)
