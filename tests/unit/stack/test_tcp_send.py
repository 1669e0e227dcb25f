"""Sending: segments, Nagle, windows small and shut, probes, keep-alive, events (RFC 9293 §3.7.4, §3.8)."""

from __future__ import annotations

import pytest

from appliance.errors import TimedOut
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import EVENT_WRITABLE
from appliance.stack.tcp.state import State
from tests.support.peer import MS, Peer, S, established, in_state
from tests.support.talker import Talker


def sizes(peer: Peer) -> list[int]:
    return [len(packet.data) for packet in peer.drain()]


# -- segments ------------------------------------------------------------------------------------


@pytest.mark.rfc("9293", "MUST-60")
def test_one_small_write_goes_at_once() -> None:
    peer = established()
    peer.send(b"x" * 10)
    assert peer.expect(".", seq=1, length=10).has_push


@pytest.mark.rfc("9293", "MUST-61")
def test_only_the_last_segment_is_pushed() -> None:
    peer = established(gso=False, tcp=TcpConfig(nodelay=True))
    peer.send(b"x" * 2500)
    assert [packet.has_push for packet in peer.sent] == [False, False, True]
    assert sizes(peer) == [1000, 1000, 500]


def test_writes_of_one_batch_leave_as_one_segment() -> None:
    peer = established()
    for _ in range(50):
        peer.connection.send(b"+OK\r\n")
    peer.flush()
    assert peer.expect(".", length=250).data == b"+OK\r\n" * 50
    peer.expect_nothing()


@pytest.mark.parametrize("mss", [536, 1000, 1460])
def test_big_send_leaves_as_one_super_segment(mss: int) -> None:
    peer = established(mss=mss, tcp=TcpConfig(initial_window=100))
    data = bytes(range(256)) * 400
    peer.connection.send(data[:50_000])
    peer.flush()
    packet = peer.sent[0]
    assert packet.gso_size == mss
    assert len(packet.data) == 50_000 - 50_000 % mss  # Nagle keeps the tail
    assert packet.data == data[: len(packet.data)]
    assert packet.is_checksum_partial


def test_super_segment_is_at_most_a_datagram() -> None:
    peer = established(
        mss=1460, shift=7, window=1 << 22, tcp=TcpConfig(initial_window=1000, send_buffer_initial=1 << 22)
    )
    peer.send(bytes(200_000))
    for packet in peer.sent[:-1]:
        assert len(packet.data) % 1460 == 0
        assert len(packet.data) + 40 <= 65535
    assert sum(len(packet.data) for packet in peer.sent) == 200_000 - 200_000 % 1460


@pytest.mark.parametrize("length", [5, 65_481, 100_000])
def test_mss_of_a_whole_datagram_leaves_nothing_to_offload(length: int) -> None:
    """An MTU near 64 KiB: a segment and room for all options do not fit into one datagram."""
    peer = established(
        mss=65_481,
        mtu=65_521,
        shift=7,
        window=1 << 22,
        tcp=TcpConfig(nodelay=True, send_buffer_initial=1 << 22),
    )
    peer.send(bytes(length))
    assert [packet.gso_size for packet in peer.sent] == [0] * len(peer.sent)
    assert sum(sizes(peer)) == length


@pytest.mark.parametrize(
    "settings", [{"gso": False}, {"vnet_header": False}], ids=["no gso", "no virtio header"]
)
def test_without_offload_no_segment_is_larger_than_the_mss(settings: dict[str, bool]) -> None:
    peer = established(**settings)  # type: ignore[arg-type]
    peer.send(bytes(50_000))
    assert set(sizes(peer)) == {1000}


def test_segment_up_to_the_mss_has_no_gso() -> None:
    peer = established(mss=1000)
    peer.send(bytes(1000))
    assert peer.expect(".").gso_size == 0


def test_data_is_sent_from_the_offset() -> None:
    peer = established()
    assert peer.connection.send(b"0123456789", 7) == 3
    peer.flush()
    peer.expect(".", data=b"789")
    assert peer.connection.send(b"0123456789", 10) == 0
    assert peer.connection.send(b"") == 0


@pytest.mark.rfc("9293", "MUST-2")
@pytest.mark.parametrize("vnet_header", [True, False])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 9, 999, 1000])
def test_checksums_are_right_for_every_length(vnet_header: bool, length: int) -> None:
    peer = established(vnet_header=vnet_header)
    peer.send(bytes(range(length % 256)) + b"\xff" * (length - length % 256))
    if length:
        peer.expect(".", length=length)  # `parse` has verified the checksum


@pytest.mark.rfc("9293", "MUST-49")
def test_ttl_is_configurable_and_dont_fragment_is_set() -> None:
    peer = established(ttl=7)
    peer.send(b"x")
    packet = peer.expect(".")
    assert packet.ttl == 7
    assert packet.dont_fragment


@pytest.mark.rfc("9293", "MUST-1")
def test_window_is_unsigned() -> None:
    peer = established(gso=False, window=40_000, tcp=TcpConfig(initial_window=100))
    peer.send(bytes(60_000))
    assert sum(sizes(peer)) == 40_000


# -- Nagle ---------------------------------------------------------------------------------------


@pytest.mark.rfc("9293", "SHLD-7")
def test_nagle_holds_small_writes_until_the_ack() -> None:
    peer = established()
    peer.send(b"x" * 10)
    peer.expect(".", length=10)
    peer.send(b"y" * 10)
    peer.send(b"z" * 10)
    peer.expect_nothing()
    peer.inject(".")
    peer.expect(".", seq=11, data=b"y" * 10 + b"z" * 10)


def test_nagle_lets_a_full_segment_go() -> None:
    peer = established(gso=False)
    peer.send(b"x" * 10)
    peer.send(b"y" * 1000)
    assert sizes(peer) == [10, 1000]


@pytest.mark.rfc("9293", "MUST-17")
def test_nodelay_sends_small_writes_at_once() -> None:
    peer = established()
    peer.connection.set_nodelay(True)
    peer.send(b"x" * 10)
    peer.send(b"y" * 10)
    assert sizes(peer) == [10, 10]


def test_turning_nodelay_on_releases_what_nagle_held() -> None:
    peer = established()
    peer.send(b"x" * 10)
    peer.send(b"y" * 10)
    assert sizes(peer) == [10]
    peer.call("set_nodelay", True)
    assert sizes(peer) == [10]


def test_shutdown_releases_what_nagle_held() -> None:
    peer = established()
    peer.send(b"x" * 10)
    peer.send(b"y" * 10)
    assert sizes(peer) == [10]
    peer.call("shutdown")
    peer.expect("F.", seq=11, length=10)


# -- silly windows: the sender -------------------------------------------------------------------


@pytest.mark.rfc("9293", "MUST-38")
def test_small_window_steps_draw_no_small_segments() -> None:
    peer = established(gso=False, window=10_000, tcp=TcpConfig(initial_window=100))
    peer.send(bytes(50_000))
    assert sizes(peer) == [1000] * 10
    peer.inject(".", window=0)
    for step in range(1, 5):
        peer.inject(".", window=200 * step)
        peer.expect_nothing()
    peer.inject(".", window=1000)
    peer.expect(".", length=1000)


@pytest.mark.rfc("9293", "MUST-38")
def test_override_timeout_sends_what_the_window_takes_and_no_more() -> None:
    peer = established(gso=False, window=10_000, tcp=TcpConfig(initial_window=100))
    peer.send(bytes(50_000))
    peer.drain()
    peer.inject(".", window=200)
    peer.expect_nothing()
    start = peer.now
    peer.advance(S)
    packet = peer.sent[0]
    assert len(packet.data) == 200
    assert 100 * MS <= packet.at - start <= S


def test_override_timeout_is_not_put_off_by_the_peers_own_data() -> None:
    peer = established(gso=False, window=10_000, tcp=TcpConfig(initial_window=100))
    peer.send(bytes(50_000))
    peer.drain()
    peer.inject(".", window=200)
    for _ in range(20):
        peer.advance(50 * MS)
        peer.inject(".", data=b"x", window=200)
    assert any(len(packet.data) == 200 for packet in peer.sent)


def test_half_of_the_largest_window_is_enough() -> None:
    peer = established(gso=False, window=600, mss=1000)
    peer.send(bytes(5_000))
    assert sizes(peer) == [600]
    peer.inject(".", window=300)
    assert sizes(peer) == [300]


# -- shut windows --------------------------------------------------------------------------------


def shut(amount: int = 100, **settings: object) -> Peer:
    """The peer's window is zero, and `amount` bytes wait."""
    peer = established(rtt=100 * MS, **settings)  # type: ignore[arg-type]
    peer.inject(".", window=0)
    peer.send(b"x" * amount)
    peer.expect_nothing()
    return peer


@pytest.mark.rfc("9293", "SHLD-29")
def test_zero_window_is_probed_after_one_timeout() -> None:
    peer = shut()
    rto, start = int(peer.connection.info()["rto_us"]), peer.now
    peer.advance(rto)
    probe = peer.expect(".", seq=0, length=0)
    assert probe.at - start == rto


@pytest.mark.rfc("9293", "SHLD-30")
def test_zero_window_probes_double_up_to_the_limit() -> None:
    peer = shut()
    rto, start = int(peer.connection.info()["rto_us"]), peer.now
    gaps = []
    for _ in range(14):
        peer.advance(peer.connection.next_deadline() - peer.now)
        gaps.append(peer.expect(".", seq=0, length=0).at - start)
        start = peer.now
        peer.inject(".", window=0)
    assert gaps[:8] == [rto << shift for shift in range(8)]
    assert gaps[-1] == 120 * S


@pytest.mark.rfc("9293", "MUST-37")
def test_zero_window_is_held_open_while_probes_are_answered() -> None:
    peer = shut()
    for _ in range(100):
        peer.advance(peer.time_to_deadline())
        peer.drain()
        peer.inject(".", window=0)
    assert peer.state == State.ESTABLISHED
    peer.inject(".", window=65535)
    peer.expect(".", seq=1, length=100)


def test_unanswered_probes_end_the_connection() -> None:
    peer = shut(tcp=TcpConfig(r2=5))
    connection = peer.connection
    peer.advance(600 * S)
    assert connection.is_closed
    assert isinstance(connection.failure(), TimedOut)
    assert [packet.flags for packet in peer.sent] == ["."] * 5 + ["R."]


def test_window_that_opens_starts_the_probing_anew() -> None:
    peer = shut()
    for _ in range(5):
        peer.advance(peer.time_to_deadline())
    peer.drain()
    peer.inject(".", window=50)
    peer.drain()
    peer.inject(".", window=0)
    rto = int(peer.connection.info()["rto_us"])
    assert peer.time_to_deadline() <= 2 * rto


def test_fin_behind_a_shut_window_still_ends() -> None:
    peer = shut()
    peer.call("shutdown")
    peer.drain()
    peer.inject(".", window=65535)
    peer.expect("F.", seq=1, length=100)


def test_no_probe_without_data() -> None:
    peer = established()
    peer.inject(".", window=0)
    assert peer.time_to_deadline() > 1 << 60


# -- shrunk windows ------------------------------------------------------------------------------


def shrunk(window: int) -> Peer:
    """4000 bytes in flight, 4000 wait, and the peer has taken back all but `window`."""
    peer = established(gso=False, window=4000, rtt=10 * MS)
    peer.send(bytes(8000))
    assert sum(sizes(peer)) == 4000
    peer.inject(".", ack=1, window=window)
    return peer


@pytest.mark.rfc("9293", "SHLD-15")
@pytest.mark.parametrize("window", [0, 1, 1024, 3999])
def test_shrunk_window_gets_no_new_data(window: int) -> None:
    peer = shrunk(window)
    peer.expect_nothing()
    peer.advance(3 * S)
    assert all((packet.seq - peer.stack_iss) & 0xFFFF_FFFF <= 4000 for packet in peer.sent)
    assert all((packet.seq - peer.stack_iss) + len(packet.data) <= 4001 for packet in peer.sent)


@pytest.mark.rfc("9293", "SHLD-16")
def test_shrunk_window_old_data_is_retransmitted() -> None:
    peer = shrunk(1024)
    peer.advance(S)
    peer.expect(".", seq=1, length=1000)


@pytest.mark.rfc("9293", "MUST-35")
def test_window_shrunk_to_zero_is_probed() -> None:
    peer = shrunk(0)
    peer.advance(S)
    assert peer.sent


@pytest.mark.rfc("9293", "SHLD-17")
def test_window_shrunk_to_zero_does_not_time_out_while_the_peer_answers() -> None:
    peer = shrunk(0)
    for _ in range(60):
        peer.advance(20 * S)
        peer.drain()
        peer.inject(".", ack=1, window=0)
    assert peer.state == State.ESTABLISHED


@pytest.mark.rfc("9293", "MUST-34")
def test_shrunk_window_that_opens_again_completes() -> None:
    peer = shrunk(0)
    peer.advance(S)
    peer.drain()
    peer.inject(".", ack=1, window=65535)
    got = 1
    for _ in range(30):
        for packet in peer.drain():
            start = (packet.seq - peer.stack_iss) & 0xFFFF_FFFF
            if start <= got:
                got = max(got, start + len(packet.data))
        peer.inject(".", ack=got, window=65535)
        peer.advance(100 * MS)
    assert got == 8001


# -- events --------------------------------------------------------------------------------------


def test_writable_follows_a_short_send_when_a_third_is_free() -> None:
    peer = established(tcp=TcpConfig(send_buffer_initial=9000, send_buffer_limit=9000, initial_window=100))
    connection = peer.connection
    assert peer.send(bytes(10_000)) == 9000
    assert peer.connection.send_space() == 0
    assert peer.send(b"x") == 0
    connection.take_events()
    peer.inject(".", ack=2001)
    assert connection.take_events() == 0
    peer.inject(".", ack=3001)
    assert connection.take_events() == EVENT_WRITABLE
    peer.inject(".", ack=4001)
    assert connection.take_events() == 0


def test_no_writable_event_without_a_short_send() -> None:
    peer = established()
    peer.send(b"x")
    peer.inject(".")
    assert peer.connection.take_events() == 0


# -- keep-alive ----------------------------------------------------------------------------------

ALIVE = TcpConfig(keepalive_idle_us=10 * S, keepalive_interval_us=2 * S, keepalive_probes=3)


@pytest.mark.rfc("9293", "MUST-25")
def test_keepalive_is_off_by_default() -> None:
    peer = established()
    peer.advance(10_000 * S)
    peer.expect_nothing()


@pytest.mark.rfc("9293", "MUST-28")
def test_keepalive_default_is_two_hours() -> None:
    peer = established()
    peer.call("set_keepalive", True)
    peer.advance(7200 * S - 1)
    peer.expect_nothing()
    peer.advance(1)
    peer.expect(".", seq=0, length=0)


@pytest.mark.rfc("9293", "MUST-26")
def test_keepalive_probes_only_an_idle_connection() -> None:
    peer = established(tcp=ALIVE)
    peer.call("set_keepalive", True)
    for _ in range(10):
        peer.advance(9 * S)
        peer.inject(".", data=b"x")
        peer.advance(50 * MS)
        peer.expect(".", seq=1, length=0)
        peer.expect_nothing()
    peer.advance(10 * S)
    peer.expect(".", seq=0, length=0)


def test_keepalive_leaves_outstanding_data_to_retransmission() -> None:
    peer = established(tcp=ALIVE)
    peer.call("set_keepalive", True)
    peer.send(b"x")
    peer.advance(60 * S)
    assert {len(packet.data) for packet in peer.drain()} == {1}


@pytest.mark.rfc("9293", "MUST-29")
def test_keepalive_one_lost_probe_is_not_death() -> None:
    peer = established(tcp=ALIVE)
    peer.call("set_keepalive", True)
    peer.advance(12 * S)
    assert len(peer.drain()) == 2
    peer.inject(".")
    peer.advance(8 * S)
    peer.expect_nothing()
    assert peer.state == State.ESTABLISHED


def test_keepalive_gives_up() -> None:
    peer = established(tcp=ALIVE)
    peer.call("set_keepalive", True)
    connection = peer.connection
    peer.advance(20 * S)
    assert [packet.flags for packet in peer.drain()] == [".", ".", ".", "R."]
    assert isinstance(connection.failure(), TimedOut)


@pytest.mark.rfc("9293", "MUST-24")
def test_keepalive_can_be_turned_off() -> None:
    peer = established(tcp=ALIVE)
    peer.call("set_keepalive", True)
    peer.call("set_keepalive", False)
    peer.advance(100 * S)
    peer.expect_nothing()


def test_time_wait_has_no_keepalive() -> None:
    peer = in_state(State.TIME_WAIT, tcp=ALIVE)
    peer.call("set_keepalive", True)
    peer.advance(59 * S)
    peer.expect_nothing()


def test_mss_that_leaves_no_room_for_a_second_segment_is_sent_all_the_same() -> None:
    # The largest MTU of a TAP: one segment is longer than what is left of 65535 after all possible options.
    peer = established(mtu=65521, mss=65481)
    assert peer.send(b"x" * 5) == 5
    peer.expect(".", data=b"x" * 5)


def test_segment_to_be_cut_up_leaves_room_for_the_sack_option_in_each_piece() -> None:
    talker = Talker(sack=True, gso=True)
    talker.inject(".", seq=101, data=bytes(100))  # a gap: SACK goes out with whatever we send
    talker.drain()
    talker.send(bytes(4_000))
    first = talker.drain()[0]
    assert len(first.data) > first.gso_size
    assert first.gso_size == 1000 - 12  # NOP, NOP and one block
