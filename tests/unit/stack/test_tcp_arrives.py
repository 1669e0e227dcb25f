"""SEGMENT ARRIVES in the synchronized states, check by check in the RFC's order (RFC 9293 §3.10.7.4)."""

from __future__ import annotations

import pytest

from appliance.errors import Reset
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import EVENT_CLOSED
from appliance.stack.tcp.state import State
from tests.support.peer import SYNCHRONIZED, Peer, S, established, in_state, time_wait

RECEIVING = [State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2]
TOLD_OF_RESET = [State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSE_WAIT]
every_state = pytest.mark.parametrize("state", SYNCHRONIZED, ids=lambda state: state.name)


def window_of(peer: Peer) -> int:
    return peer.connection.rcv_wnd()


def challenge(peer: Peer) -> None:
    """What the stack must have sent: an ACK of where it stands."""
    connection = peer.connection
    peer.expect(".", raw_seq=connection.snd_nxt, raw_ack=connection.rcv_nxt, length=0)
    peer.expect_nothing()


# -- first: sequence -----------------------------------------------------------------------------


@every_state
@pytest.mark.parametrize("where", ["old", "beyond"])
@pytest.mark.parametrize("length", [0, 1, 100])
def test_out_of_window_gets_ack_and_is_dropped(state: State, where: str, length: int) -> None:
    peer = in_state(state)
    seq = peer.next - 1 - length if where == "old" else peer.next + window_of(peer) + 10
    peer.inject(".", seq=seq, data=bytes(length))
    challenge(peer)
    assert peer.state == state
    assert peer.connection.receivable() == 0


@every_state
@pytest.mark.parametrize("wrap", [0, 1, 100, 0x8000_0000])
def test_out_of_window_around_the_wrap(state: State, wrap: int) -> None:
    peer = in_state(state, iss=(-wrap) & 0xFFFF_FFFF, stack_iss=(-wrap) & 0xFFFF_FFFF)
    peer.inject(".", seq=peer.next - 200, data=bytes(100))
    challenge(peer)


@every_state
def test_keepalive_probe_is_answered(state: State) -> None:
    peer = in_state(state)
    peer.inject(".", seq=peer.next - 1)
    challenge(peer)
    peer.inject(".", seq=peer.next - 1, data=b"\0")
    challenge(peer)


def closed_window(**settings: object) -> Peer:
    peer = established(tcp=TcpConfig(receive_buffer_initial=2000, receive_buffer_limit=2000), **settings)  # type: ignore[arg-type]
    peer.inject(".", data=b"x" * 2000)
    peer.advance(40_000)
    peer.expect(".", ack=2001, window=0)
    return peer


def test_zero_window_byte_is_refused_and_acked() -> None:
    peer = closed_window()
    peer.inject(".", seq=2001, data=b"y")
    peer.expect(".", ack=2001, window=0)
    assert peer.connection.receivable() == 2000


@pytest.mark.rfc("9293", "MUST-66")
def test_zero_window_ack_and_rst_count() -> None:
    peer = closed_window()
    peer.send(b"abc")
    peer.expect(".", seq=1)
    peer.inject(".", seq=2001, ack=4)
    assert peer.connection.snd_una == peer.connection.snd_nxt
    peer.inject(".", seq=2001, ack=4, data=b"zz")
    peer.expect(".", ack=2001)
    peer.inject("R", seq=2001)
    assert peer.connection.is_closed


def test_partly_old_segment_is_trimmed() -> None:
    peer = established()
    peer.inject(".", seq=1, data=b"a" * 500)
    peer.inject(".", seq=1, data=b"a" * 500 + b"b" * 500)
    assert peer.receive() == b"a" * 500 + b"b" * 500
    assert peer.drain()[-1].ack == peer.iss + 1001


def test_segment_beyond_the_right_edge_is_trimmed() -> None:
    peer = established(tcp=TcpConfig(receive_buffer_initial=1000, receive_buffer_limit=1000))
    peer.inject("F.", seq=1, data=b"a" * 1500)
    peer.expect(".", ack=1001)
    assert peer.state == State.ESTABLISHED
    assert peer.receive() == b"a" * 1000


# -- second: RST ---------------------------------------------------------------------------------


@pytest.mark.rfc("1337", "3")
def test_rst_exact_in_time_wait_is_ignored() -> None:
    """RFC 9293 would close; then an old duplicate could meet the next connection (TIME-WAIT assassination)."""
    peer = time_wait()
    peer.inject("R", seq=peer.next)
    peer.expect_nothing()
    assert peer.state == State.TIME_WAIT


@pytest.mark.rfc("5961", "3.2")
@pytest.mark.parametrize("state", SYNCHRONIZED[:-1], ids=lambda state: state.name)
def test_rst_exact_closes(state: State) -> None:
    peer = in_state(state)
    connection = peer.connection
    connection.take_events()
    peer.inject("R", seq=peer.next)
    peer.expect_nothing()
    assert connection.is_closed
    assert connection.take_events() == EVENT_CLOSED
    assert isinstance(connection.failure(), Reset) == (state in TOLD_OF_RESET)
    assert peer.interface.connections() == []
    peer.inject(".")
    peer.expect("R")


@pytest.mark.rfc("9293", "SHLD-2")
def test_rst_with_data_closes() -> None:
    peer = established()
    peer.inject("R", data=b"because")
    assert peer.connection.is_closed
    assert peer.connection.receivable() == 0


@every_state
@pytest.mark.parametrize("offset", [1, 1000])
def test_rst_in_window_is_challenged(state: State, offset: int) -> None:
    peer = in_state(state)
    peer.inject("R", seq=peer.next + offset)
    challenge(peer)
    assert peer.state == state
    assert peer.counter("challenge_acks") == 1


@every_state
@pytest.mark.parametrize("where", ["old", "beyond"])
def test_rst_outside_the_window_is_dropped(state: State, where: str) -> None:
    peer = in_state(state)
    peer.inject("R", seq=peer.next - 1 if where == "old" else peer.next + window_of(peer))
    peer.expect_nothing()
    assert peer.state == state


@pytest.mark.parametrize("iss", [0xFFFF_FFFE, 0xFFFF_FFFF, 0xFFFF_FFFD])
def test_rst_check_crosses_the_wrap(iss: int) -> None:
    peer = established(iss=iss)
    peer.inject("R", seq=peer.next + 16)
    challenge(peer)
    peer.inject("R", seq=peer.next - 1)
    peer.expect_nothing()
    peer.inject("R", seq=peer.next)
    assert peer.connection.is_closed


def test_data_received_before_a_reset_can_still_be_read() -> None:
    peer = established()
    peer.inject(".", data=b"last words")
    peer.inject("R")
    assert peer.connection.receive(100) == b"last words"
    assert not peer.connection.at_eof()


# -- fourth: SYN ---------------------------------------------------------------------------------


@pytest.mark.rfc("5961", "4.2")
@pytest.mark.parametrize(
    ("state", "flags", "offset"),
    [
        pytest.param(state, flags, offset, id=f"{state.name}-{flags}-{offset}")
        for state in SYNCHRONIZED
        for flags in ("S", "S.")
        for offset in (-100, -1, 0, 100, 1_000_000)
        if not (state == State.TIME_WAIT and flags == "S" and offset > 0)  # that one opens anew
    ],
)
def test_syn_in_a_synchronized_state_is_challenged(state: State, flags: str, offset: int) -> None:
    peer = in_state(state)
    peer.inject(flags, seq=peer.next + offset)
    challenge(peer)
    assert peer.state == state


@pytest.mark.rfc("5961", "7")
def test_challenge_acks_are_limited_per_connection() -> None:
    peer = established()
    other = Peer.__new__(Peer)
    other.__dict__.update(peer.__dict__)
    other.peer_port, other.sent, other.next, other.seen, other._connection = 50_000, [], 0, 0, None
    for _ in range(100):
        peer.inject("R", seq=peer.next + 5)
    assert len(peer.drain()) == 10
    peer.interface.take_ready()
    other.open_passive()
    other.inject("R", seq=other.next + 5)
    other.expect(".")
    peer.advance(5 * S)
    peer.inject("R", seq=peer.next + 5)
    peer.expect(".")


def test_two_stacks_out_of_step_do_not_acknowledge_each_other_for_ever() -> None:
    peer = established()
    for _ in range(1000):
        peer.inject(".", seq=peer.next + 500_000)
    assert len(peer.drain()) <= 10


# -- fifth: ACK ----------------------------------------------------------------------------------


@every_state
def test_no_ack_bit_is_dropped(state: State) -> None:
    peer = in_state(state)
    peer.inject("-", seq=peer.next, data=b"x")
    peer.expect_nothing()
    assert peer.connection.receivable() == 0


@every_state
def test_ack_of_what_was_not_sent_gets_ack_and_is_dropped(state: State) -> None:
    peer = in_state(state)
    peer.inject(".", ack=peer.seen + 1000, data=b"x" * 10)
    challenge(peer)
    assert peer.connection.receivable() == 0
    assert peer.state == state


@pytest.mark.rfc("5961", "5.2")
def test_ack_older_than_any_window_is_dropped() -> None:
    peer = established(window=5000)
    peer.inject(".", ack=1 - 5001, data=b"x")
    challenge(peer)
    assert peer.connection.receivable() == 0


def test_old_ack_within_a_window_leaves_the_data_good() -> None:
    peer = established(window=5000)
    for _ in range(3):
        peer.send(b"y" * 1000)
        peer.drain()
        peer.inject(".")
    peer.inject(".", ack=2001, data=b"x")
    assert peer.receive() == b"x"


@pytest.mark.parametrize("stack_iss", [None, 0xFFFF_FFFF, 0xFFFF_FF00])
def test_ack_frees_the_buffer_across_the_wrap(stack_iss: int | None) -> None:
    peer = established(stack_iss=stack_iss)
    peer.send(b"x" * 900)
    peer.drain()
    peer.inject(".", ack=401)
    assert peer.connection.unsent_and_unacked() == 500
    peer.inject(".", ack=901)
    assert peer.connection.unsent_and_unacked() == 0
    assert peer.time_to_deadline() > 1000 * S


@pytest.mark.rfc("9293", "3.10.7.4")
def test_send_window_is_not_taken_from_an_older_segment() -> None:
    peer = established()
    peer.inject(".", seq=1, data=b"x" * 10, window=5000)
    assert peer.connection.snd_wnd == 5000
    peer.inject(".", seq=1, window=9000)  # old: below RCV.NXT
    assert peer.connection.snd_wnd == 5000
    peer.inject(".", seq=11, window=7000)
    assert peer.connection.snd_wnd == 7000


def test_send_window_is_not_taken_from_an_older_ack() -> None:
    peer = established(window=5000)
    peer.send(b"x" * 100)
    peer.inject(".", ack=101, window=4000)
    peer.inject(".", ack=51, window=9000)
    assert peer.connection.snd_wnd == 4000


# -- sixth, seventh: URG, text -------------------------------------------------------------------


@pytest.mark.rfc("9293", "MUST-30")
def test_urgent_data_is_delivered_in_line() -> None:
    peer = established()
    peer.inject("PU.", data=b"0123456789", urgent=5)
    assert peer.receive() == b"0123456789"


@pytest.mark.parametrize("state", RECEIVING, ids=lambda state: state.name)
def test_text_is_received_while_the_peer_may_send(state: State) -> None:
    peer = in_state(state)
    peer.inject(".", data=b"more", ack=1 if state == State.FIN_WAIT_1 else None)
    assert peer.receive() == b"more"
    assert peer.state == state


@pytest.mark.parametrize(
    "state", [State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK, State.TIME_WAIT], ids=lambda s: s.name
)
def test_text_after_the_peers_fin_is_ignored(state: State) -> None:
    peer = in_state(state)
    peer.inject(".", data=b"more", ack=1)
    assert peer.connection.receivable() == 0
    assert peer.state == state


def test_reserved_bits_and_ecn_flags_are_ignored() -> None:
    peer = established()
    peer.inject("P.EW", data=b"x", reserved=0xF)
    assert peer.receive() == b"x"


@pytest.mark.parametrize("offset", [0, 4, 6, 15])
def test_data_offset_that_does_not_fit_is_malformed(offset: int) -> None:
    peer = established()
    peer.inject(".", data_offset=offset)
    peer.expect_nothing()
    assert peer.counter("dropped_malformed") == 1


# -- eighth: FIN ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "then"),
    [
        (State.ESTABLISHED, State.CLOSE_WAIT),
        (State.FIN_WAIT_2, State.TIME_WAIT),
    ],
    ids=lambda state: state.name,
)
def test_fin_moves_on(state: State, then: State) -> None:
    peer = in_state(state)
    peer.inject("F.")
    peer.expect(".", ack=2)
    assert peer.state == then


def test_fin_wait_1_fin_without_our_ack_is_a_simultaneous_close() -> None:
    peer = in_state(State.FIN_WAIT_1)
    peer.inject("F.", ack=1)
    peer.expect(".", seq=2, ack=2)
    assert peer.state == State.CLOSING
    peer.inject(".", ack=2)
    peer.expect_nothing()
    assert peer.state == State.TIME_WAIT


def test_fin_wait_1_fin_with_our_ack_goes_to_time_wait() -> None:
    peer = in_state(State.FIN_WAIT_1)
    peer.inject("F.", ack=2)
    peer.expect(".", seq=2, ack=2)
    assert peer.state == State.TIME_WAIT


@pytest.mark.parametrize(
    "state", [State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK], ids=lambda state: state.name
)
def test_fin_again_is_acknowledged_and_changes_nothing(state: State) -> None:
    peer = in_state(state)
    for _ in range(20):  # more often than challenge ACKs are allowed
        peer.inject("F.", seq=1, ack=1)
        challenge(peer)
    assert peer.state == state


def test_fin_before_its_data_is_held_and_acknowledged_at_once() -> None:
    peer = established()
    peer.inject("F.", seq=101)
    peer.expect(".", ack=1)
    assert peer.state == State.ESTABLISHED
    peer.inject(".", seq=1, data=b"x" * 100)
    peer.expect(".", ack=102)
    assert peer.state == State.CLOSE_WAIT
    assert not peer.connection.at_eof()
    assert len(peer.receive()) == 100
    assert peer.connection.at_eof()


def test_fin_with_out_of_order_data_is_held() -> None:
    peer = established()
    peer.inject("F.", seq=51, data=b"b" * 50)
    peer.inject(".", seq=1, data=b"a" * 50)
    assert peer.receive() == b"a" * 50 + b"b" * 50
    assert peer.state == State.CLOSE_WAIT


# -- TIME-WAIT -----------------------------------------------------------------------------------


@pytest.mark.rfc("9293", "MUST-13")
def test_time_wait_lasts_two_msl() -> None:
    peer = time_wait(tcp=TcpConfig(msl_us=30 * S))
    peer.advance(60 * S - 1)
    assert peer.state == State.TIME_WAIT
    peer.advance(1)
    assert peer.connection.is_closed
    assert peer.connection.failure() is None
    peer.inject("F.", seq=1)
    peer.expect("R")


def test_time_wait_fin_again_restarts_the_wait() -> None:
    peer = time_wait()
    peer.advance(45 * S)
    peer.inject("F.", seq=1)
    challenge(peer)
    peer.advance(45 * S)
    assert peer.state == State.TIME_WAIT
    peer.advance(15 * S)
    assert peer.connection.is_closed


def test_time_wait_other_segments_do_not_restart_the_wait() -> None:
    peer = time_wait()
    peer.advance(45 * S)
    peer.inject(".")
    peer.inject(".", data=b"x")
    peer.inject("S", seq=0)
    peer.advance(15 * S)
    assert peer.connection.is_closed


@pytest.mark.rfc("9293", "MAY-2")
def test_time_wait_higher_syn_opens_anew_above_the_old_numbers() -> None:
    peer = Peer(tcp=TcpConfig(send_buffer_initial=20_000_000, initial_window=20_000))
    connection = peer.open_passive(shift=14, window=60_000 << 14)
    peer.send(bytes(16_000_000))  # faster than the ISN's clock
    peer.call("shutdown")
    old_end = connection.snd_nxt
    peer.drain()
    peer.inject(".")
    peer.inject("F.")
    peer.drain()
    assert connection.state == State.TIME_WAIT
    peer.inject("S", seq=peer.next + 1000)
    syn_ack = peer.expect("S.")
    assert 0 < (syn_ack.seq - old_end) & 0xFFFF_FFFF < 0x8000_0000
    assert connection.is_closed
    (new,) = peer.interface.connections()
    peer.datagram(peer.segment(".", seq=peer.next, ack=syn_ack.seq + 1 - peer.stack_iss))
    assert new.state == State.ESTABLISHED


def test_time_wait_lower_syn_is_challenged() -> None:
    peer = time_wait()
    peer.inject("S", seq=peer.next - 10)
    challenge(peer)
    assert peer.state == State.TIME_WAIT


def test_time_wait_syn_that_nobody_listens_for_is_challenged() -> None:
    peer = time_wait()
    assert peer.listener is not None
    peer.listener.close()
    peer.inject("S", seq=peer.next + 10)
    challenge(peer)
    assert peer.state == State.TIME_WAIT
