"""Closing: CLOSE, ABORT and half-close in each state, and how long an end may take (RFC 9293 §3.6, §3.10)."""

from __future__ import annotations

import itertools

import pytest

from appliance.errors import LocalProtocolError, TimedOut
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import EVENT_CLOSED, EVENT_PEER_CLOSED
from appliance.stack.tcp.state import State
from tests.support.peer import SYNCHRONIZED, S, established, fin_wait_2, in_state, last_ack

every_state = pytest.mark.parametrize("state", SYNCHRONIZED, ids=lambda state: state.name)


def test_passive_close_goes_by_close_wait_and_last_ack() -> None:
    peer = established()
    connection = peer.connection
    peer.inject("F.")
    peer.expect(".", seq=1, ack=2)
    assert peer.state == State.CLOSE_WAIT
    assert connection.take_events() == EVENT_PEER_CLOSED
    assert connection.at_eof()
    peer.send(b"still")
    peer.expect(".", seq=1, data=b"still")
    peer.inject(".")
    peer.call("close")
    peer.expect("F.", seq=6, ack=2)
    assert peer.state == State.LAST_ACK
    peer.inject(".")
    peer.expect_nothing()
    assert connection.is_closed
    assert connection.failure() is None
    assert connection.take_events() == EVENT_CLOSED
    peer.inject(".")
    peer.expect("R")


def test_active_close_goes_by_fin_wait_and_time_wait() -> None:
    peer = established()
    peer.call("close")
    peer.expect("F.", seq=1, ack=1)
    assert peer.state == State.FIN_WAIT_1
    peer.inject(".", ack=2)
    assert peer.state == State.FIN_WAIT_2
    peer.inject("F.")
    peer.expect(".", seq=2, ack=2)
    assert peer.state == State.TIME_WAIT


def test_fin_follows_the_queued_data() -> None:
    peer = established(gso=False, window=2000)
    peer.send(b"x" * 2500)
    peer.call("shutdown")
    assert [packet.flags for packet in peer.drain()] == [".", "."]
    peer.inject(".", ack=2001)
    packet = peer.expect("F.", seq=2001, length=500)
    assert packet.has_push
    peer.inject(".", ack=2501)
    assert peer.state == State.FIN_WAIT_1
    peer.inject(".", ack=2502)
    assert peer.state == State.FIN_WAIT_2


def test_fin_rides_on_the_last_data() -> None:
    peer = established()
    peer.connection.send(b"reply")
    peer.call("shutdown")
    peer.expect("F.", seq=1, data=b"reply")
    peer.expect_nothing()


@pytest.mark.parametrize(
    "state", [State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK], ids=lambda state: state.name
)
def test_own_fin_is_retransmitted_at_doubling_intervals(state: State) -> None:
    peer = in_state(state)
    start = peer.now
    peer.advance(4 * S)
    assert {packet.flags for packet in peer.sent} == {"F."}
    assert {packet.seq for packet in peer.sent} == {peer.stack_iss + 1 & 0xFFFF_FFFF}
    times = [start] + [packet.at for packet in peer.sent]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert all(after == 2 * before for before, after in itertools.pairwise(gaps)), gaps


@pytest.mark.rfc("9293", "3.6.1")
def test_half_closed_connection_goes_on_receiving() -> None:
    peer = fin_wait_2()
    for _ in range(100):
        peer.inject(".", data=b"x" * 1000)
    assert len(peer.receive()) == 100_000 or peer.connection.received == 65535
    peer.advance(1000 * S)
    assert peer.state == State.FIN_WAIT_2, "a half-close has no time limit"


# -- SHLD-3 --------------------------------------------------------------------------------------


@pytest.mark.rfc("9293", "SHLD-3")
@pytest.mark.parametrize(
    "state", [State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2], ids=lambda state: state.name
)
def test_close_with_unread_data_resets(state: State) -> None:
    peer = in_state(state)
    peer.inject(".", data=b"unread", ack=1)
    peer.drain()
    peer.call("close")
    peer.expect("R.")
    assert peer.connection.is_closed


@pytest.mark.parametrize(
    "state", [State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK], ids=lambda state: state.name
)
def test_close_with_unread_data_resets_after_the_peers_fin_too(state: State) -> None:
    peer = established()
    if state == State.CLOSING:
        peer.call("shutdown")
    peer.inject("F.", data=b"unread", ack=1)
    if state == State.LAST_ACK:
        peer.call("shutdown")
    peer.drain()
    assert peer.state == state
    peer.call("close")
    peer.expect("R.")
    assert peer.connection.is_closed


@pytest.mark.rfc("9293", "SHLD-3")
def test_data_after_close_draws_a_reset() -> None:
    peer = established()
    peer.call("close")
    peer.expect("F.")
    peer.inject(".", data=b"more", ack=2)
    peer.expect("R.", seq=2)
    assert peer.connection.is_closed
    peer.inject(".")
    peer.expect("R")


def test_old_data_after_close_is_only_acknowledged() -> None:
    peer = established()
    peer.inject(".", data=b"abc")
    peer.receive()
    peer.call("close")
    peer.expect("F.")
    peer.inject(".", seq=1, data=b"abc")
    peer.expect(".", ack=4)
    assert peer.state == State.FIN_WAIT_1


def test_data_after_shutdown_is_received() -> None:
    peer = established()
    peer.call("shutdown")
    peer.expect("F.")
    peer.inject(".", data=b"more", ack=2)
    assert peer.receive() == b"more"


# -- how long ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["close first", "close later"])
def test_fin_wait_2_after_close_ends_by_itself(order: str) -> None:
    tcp = TcpConfig(fin_wait_2_us=60 * S)
    if order == "close first":
        peer = established(tcp=tcp)
        peer.call("close")
        peer.expect("F.")
        peer.inject(".")
    else:
        peer = fin_wait_2(tcp=tcp)
        peer.call("close")
    assert peer.state == State.FIN_WAIT_2
    peer.advance(60 * S - 1)
    assert peer.state == State.FIN_WAIT_2
    peer.advance(1)
    assert peer.connection.is_closed
    peer.expect_nothing()
    peer.inject("F.")
    peer.expect("R")


@pytest.mark.parametrize(
    "state", [State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK], ids=lambda state: state.name
)
def test_unanswered_fin_is_given_up(state: State) -> None:
    peer = in_state(state)
    connection = peer.connection
    peer.advance(3600 * S)
    assert connection.is_closed
    assert isinstance(connection.failure(), TimedOut)


def test_closed_window_cannot_hold_a_closed_connection_for_ever() -> None:
    peer = established()
    peer.inject(".", window=0)
    peer.send(b"x" * 1000)
    peer.call("close")
    connection = peer.connection
    for _ in range(100):
        if connection.is_closed:
            break
        peer.advance(min(peer.time_to_deadline(), 1000 * S))
        if not connection.is_closed:
            peer.drain()
            peer.inject(".", window=0)  # alive, and never any room
    assert connection.is_closed
    assert isinstance(connection.failure(), TimedOut)


# -- ABORT ---------------------------------------------------------------------------------------


@every_state
def test_abort_sends_rst_where_the_peer_must_know(state: State) -> None:
    peer = in_state(state)
    peer.call("abort")
    if state <= State.CLOSE_WAIT:
        peer.expect("R.", raw_seq=peer.connection.snd_nxt, raw_ack=peer.connection.rcv_nxt)
    peer.expect_nothing()
    assert peer.connection.is_closed
    assert peer.connection.failure() is None
    assert peer.interface.connections() == []
    peer.call("abort")
    peer.expect_nothing()


def test_abort_drops_what_was_queued() -> None:
    peer = established(window=10)
    peer.send(b"x" * 1000)
    peer.drain()
    peer.call("abort")
    peer.expect("R.")
    assert peer.connection.unsent_and_unacked() == 0


# -- calls in the wrong state --------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        State.SYN_SENT,
        State.SYN_RECEIVED,
        State.FIN_WAIT_1,
        State.FIN_WAIT_2,
        State.CLOSING,
        State.LAST_ACK,
        State.TIME_WAIT,
    ],
    ids=lambda state: state.name,
)
def test_send_where_it_is_not_allowed_is_an_error(state: State) -> None:
    peer = in_state(state)
    with pytest.raises(LocalProtocolError):
        peer.connection.send(b"x")


def test_send_after_the_end_is_an_error() -> None:
    peer = established()
    peer.call("abort")
    with pytest.raises(LocalProtocolError):
        peer.connection.send(b"x")


@every_state
@pytest.mark.parametrize("method", ["shutdown", "close"])
def test_closing_twice_is_harmless(state: State, method: str) -> None:
    peer = in_state(state)
    peer.call(method)
    peer.drain()
    peer.call(method)
    peer.call(method)
    peer.expect_nothing()
    peer.interface.check_invariants()


@every_state
def test_receive_with_nothing_there_is_empty(state: State) -> None:
    assert in_state(state).connection.receive(100) == b""


@pytest.mark.parametrize("method", ["close", "shutdown", "abort"])
def test_calls_on_a_closed_connection_do_nothing(method: str) -> None:
    peer = last_ack()
    peer.inject(".")
    connection = peer.connection
    assert connection.is_closed
    peer.call(method)
    connection.set_keepalive(True)
    connection.set_nodelay(True)
    connection.handle_deadline(peer.now + 10_000 * S)
    peer.flush()
    peer.expect_nothing()
    assert peer.time_to_deadline() > 1 << 60
    assert connection.next_deadline() > 1 << 60
