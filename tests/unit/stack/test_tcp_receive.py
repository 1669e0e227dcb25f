"""Receiving: order, overlap, the window, delayed acknowledgment (RFC 9293 §3.8.6, RFC 5681 §4.2)."""

from __future__ import annotations

import pytest

from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import EVENT_READABLE
from appliance.stack.tcp.state import State
from tests.support.peer import MS, Peer, established

FULL = 1460  # what our MSS option allows the peer


def pattern(start: int, length: int) -> bytes:
    return bytes((start + index) % 251 for index in range(length))


# -- order ---------------------------------------------------------------------------------------


def test_data_in_order_is_readable_and_tells() -> None:
    peer = established()
    peer.inject("P.", data=b"hello")
    connection = peer.connection
    assert connection.take_events() == EVENT_READABLE
    assert connection.receivable() == 5
    assert connection.receive(2) == b"he"
    assert connection.receive(0) == b""
    assert connection.receive(100) == b"llo"


@pytest.mark.rfc("9293", "SHLD-31")
@pytest.mark.parametrize("iss", [1000, 0xFFFF_FC00])
def test_out_of_order_data_is_held_until_the_gap_is_filled(iss: int) -> None:
    peer = established(iss=iss)
    peer.inject(".", seq=1001, data=pattern(1000, 1000))
    peer.expect(".", ack=1)  # MAY-13, RFC 5681: at once
    assert peer.connection.take_events() == 0
    peer.inject(".", seq=1, data=pattern(0, 1000))
    peer.expect(".", ack=2001)
    assert peer.receive() == pattern(0, 2000)


def test_filling_a_part_of_a_gap_is_acknowledged_at_once() -> None:
    peer = established()
    peer.inject(".", seq=201, data=bytes(100))
    peer.expect(".", ack=1)
    peer.inject(".", seq=1, data=bytes(100))
    peer.expect(".", ack=101)


def test_many_islands_in_any_order() -> None:
    peer = established()
    for start in (800, 200, 600, 400, 900, 300, 700, 500, 100, 0):
        peer.inject(".", seq=1 + start, data=pattern(start, 100))
    assert peer.receive() == pattern(0, 1000)


def test_overlap_keeps_the_byte_that_came_first() -> None:
    peer = established()
    peer.inject(".", seq=101, data=b"1" * 100)
    peer.inject(".", seq=51, data=b"2" * 200)
    peer.inject(".", seq=1, data=b"3" * 300)
    assert peer.receive() == b"3" * 50 + b"2" * 50 + b"1" * 100 + b"2" * 50 + b"3" * 50


def test_reassembly_is_bounded() -> None:
    peer = established(tcp=TcpConfig(reassembly_limit=3))
    for start in (100, 300, 500, 700):
        peer.inject(".", seq=1 + start, data=pattern(start, 100))
    assert peer.counter("dropped_reassembly_full") == 1
    for start in (0, 200, 400, 600):
        peer.inject(".", seq=1 + start, data=pattern(start, 100))
    assert peer.receive() == pattern(0, 700)


def test_big_received_segment_is_taken_whole() -> None:
    peer = established(partial=True, window=65535)
    peer.inject("P.", data=pattern(0, 60_000))
    peer.expect(".", ack=60_001)
    assert peer.receive() == pattern(0, 60_000)


def test_duplicate_is_acknowledged_and_not_delivered() -> None:
    peer = established()
    peer.inject(".", seq=1, data=b"abc")
    assert peer.receive() == b"abc"
    peer.inject(".", seq=1, data=b"xyz")
    peer.expect(".", ack=4)
    assert peer.receive() == b""
    assert peer.counter("segments_duplicate") == 1


# -- acknowledging -------------------------------------------------------------------------------


@pytest.mark.rfc("9293", "MUST-40")
def test_one_small_segment_is_acknowledged_by_the_timer() -> None:
    peer = established()
    peer.inject(".", data=b"x" * 100)
    peer.expect_nothing()
    start = peer.now
    peer.advance(500 * MS)
    assert peer.expect(".", ack=101).at - start == 40 * MS
    peer.expect_nothing()


@pytest.mark.rfc("9293", "SHLD-18")
def test_acknowledgment_rides_on_the_reply() -> None:
    peer = established()
    peer.inject(".", data=b"PING")
    peer.send(b"+PONG")
    peer.expect(".", ack=5, data=b"+PONG")
    peer.advance(200 * MS)
    assert all(packet.data for packet in peer.drain())


@pytest.mark.rfc("9293", "SHLD-19")
def test_second_full_segment_is_acknowledged_at_once() -> None:
    peer = established(tcp=TcpConfig(quick_acks=0))
    peer.inject(".", data=bytes(FULL))
    peer.expect_nothing()
    peer.inject(".", data=bytes(FULL))
    peer.expect(".", ack=2 * FULL + 1)


@pytest.mark.rfc("9293", "MUST-58")
def test_batch_of_segments_gets_one_ack() -> None:
    peer = established()
    for _ in range(8):
        peer.inject(".", data=bytes(1000), flush=False)
    peer.flush()
    peer.expect(".", ack=8001)
    peer.expect_nothing()


def test_acks_draw_no_acks() -> None:
    peer = established()
    for _ in range(10):
        peer.inject(".")
    peer.inject(".", window=5)
    peer.expect_nothing()


# -- the window ----------------------------------------------------------------------------------


def small(limit: int = 4000, **settings: object) -> Peer:
    return established(tcp=TcpConfig(receive_buffer_initial=limit, receive_buffer_limit=limit), **settings)  # type: ignore[arg-type]


def test_window_shrinks_with_unread_data_and_its_edge_stays() -> None:
    peer = small()
    edge = None
    for _ in range(4):
        peer.inject(".", data=bytes(1000))
        peer.advance(40 * MS)
        packet = peer.drain()[-1]
        assert edge in (None, packet.ack + packet.window)
        edge = packet.ack + packet.window
    assert packet.window == 0


@pytest.mark.rfc("9293", "MUST-39")
def test_window_opens_by_a_segment_or_half_the_buffer_not_by_bytes() -> None:
    peer = small(limit=2000)
    peer.inject(".", data=bytes(2000))
    peer.advance(40 * MS)
    peer.expect(".", window=0)
    for _ in range(999):
        peer.receive(1)
    peer.expect_nothing()
    peer.receive(1)
    peer.expect(".", ack=2001, window=1000)


def test_window_update_needs_no_segment_of_the_peer() -> None:
    peer = small(limit=8000)
    peer.inject(".", data=bytes(8000))
    peer.expect(".", window=0)
    peer.receive()
    peer.expect(".", ack=8001, window=8000)
    peer.expect_nothing()


def test_reading_while_the_window_is_wide_sends_no_updates() -> None:
    peer = established()
    peer.inject(".", data=bytes(1000))
    peer.receive()
    peer.expect_nothing()


@pytest.mark.rfc("9293", "SHLD-14")
@pytest.mark.parametrize("shift", [None, 7])
def test_right_edge_never_moves_left(shift: int | None) -> None:
    peer = established(shift=shift)
    slack = (1 << peer.stack_window_shift) - 1
    edge = 0
    for turn in range(200):
        peer.inject(".", data=bytes(1 + turn * 7 % 700))
        if turn % 5 == 4:
            peer.receive(turn * 13)
        peer.advance(50 * MS)
        for packet in peer.drain():
            new = ((packet.ack - peer.iss) & 0xFFFF_FFFF) + (packet.window << peer.stack_window_shift)
            assert new >= edge - slack
            edge = max(edge, new)


@pytest.mark.rfc("7323", "2.4")
def test_data_inside_any_window_ever_offered_is_taken() -> None:
    peer = established(shift=7)
    peer.inject(".", data=bytes(60_001))
    edge = 65536 - 128 + 1
    packet = peer.drain()[-1]
    assert packet.window << 7 <= 65536 - 60_001
    length = edge - 60_002
    peer.inject(".", data=bytes(length))
    assert peer.connection.receivable() == 60_001 + length


@pytest.mark.rfc("9293", "MAY-8")
def test_closed_window_answers_every_probe() -> None:
    peer = small(limit=2000)
    peer.inject(".", data=bytes(2000))
    peer.advance(40 * MS)
    peer.drain()
    for _ in range(20):
        peer.advance(60_000 * MS)
        peer.inject(".", seq=2000)
        peer.expect(".", ack=2001, window=0)
        peer.inject(".", seq=2001, data=b"?")
        peer.expect(".", ack=2001, window=0)
    assert peer.state == State.ESTABLISHED


def test_buffer_grows_while_the_application_keeps_up() -> None:
    peer = established(shift=7, rtt=10 * MS)
    for _ in range(40):
        for _ in range(20):
            peer.inject(".", data=bytes(1460))
        peer.receive()
        peer.advance(MS)
    assert peer.connection.receive_limit > 65536
    assert peer.connection.rcv_wnd() > 65536


def test_buffer_does_not_grow_while_nobody_reads() -> None:
    peer = established(shift=7)
    for _ in range(60):
        peer.inject(".", data=bytes(1460))
    assert peer.connection.receive_limit == 65536
    assert peer.connection.receivable() <= 65536


def test_full_sized_segments_at_the_start_are_acknowledged_at_once_and_later_ones_are_not() -> None:
    peer = established(mss=1460, tcp=TcpConfig(quick_acks=2))
    for number in range(2):
        peer.inject(".", data=bytes(1460))
        peer.expect(".", ack=1 + 1460 * (number + 1))
        peer.receive()
    peer.inject(".", data=bytes(1460))
    peer.expect_nothing()
    peer.inject(".", data=bytes(1460))  # SHLD-19: every second one
    peer.expect(".", ack=1 + 4 * 1460)


def test_short_segments_at_the_start_wait_for_the_delayed_ack() -> None:
    peer = established(mss=1460)
    peer.inject(".", data=b"PING")
    peer.expect_nothing()


def test_memory_out_of_order_is_bounded_over_all_connections() -> None:
    peer = established(tcp=TcpConfig(reassembly_total_bytes=5_000))
    for number in range(10):
        peer.inject(".", seq=2_001 + 2_000 * number, data=bytes(1_000))
    assert peer.connection.info()["reassembly_bytes"] == 5_000
    assert peer.counter("dropped_reassembly_full") == 5
    peer.drain()
    # What was kept counts until it is delivered, and no longer.
    peer.inject(".", seq=1, data=bytes(2_000))
    assert peer.connection.info()["reassembly_bytes"] == 4_000
    peer.inject(".", seq=20_001, data=bytes(1_000))
    assert peer.connection.info()["reassembly_bytes"] == 5_000
    peer.call("abort")
