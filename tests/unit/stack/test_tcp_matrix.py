"""Every state against every kind of segment: nothing raises or contradicts itself, every wait has an end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from appliance.stack.tcp import state as states
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import State
from appliance.stack.timebase import NEVER
from tests.support.packets import flag_text
from tests.support.peer import IN_STATE, Peer, S, in_state

STATES = list(IN_STATE)
ALL_FLAGS = range(256)
OFFSETS = (-1_000_000, -70_000, -1, 0, 1, 100, 65_534, 65_535, 70_000)


def reachable(before: int, after: int) -> bool:
    """Whether Figure 5 leads from one state to the other, in any number of steps."""
    seen, front = {before}, [before]
    while front:
        for step in states.TRANSITIONS[front.pop()]:
            if step not in seen:
                seen.add(step)
                front.append(step)
    return after in seen


def settled(peer: Peer) -> None:
    """What must hold after a flush; `Peer.flush` has checked the invariants."""
    assert peer.interface.frames_to_send(peer.now) == [], "a second flush had more to say"
    for connection in peer.interface.connections():
        assert connection.state != State.CLOSED
        if connection.flight_size() and connection.state != State.TIME_WAIT:
            assert connection.next_deadline() < NEVER, "in flight without a timer"
        if connection.send_buffer.size:
            assert connection.next_deadline() < NEVER, "data wait without a timer"
        if connection.unacked_bytes:
            assert connection.ack_deadline < NEVER, "an ACK is owed without a timer"


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_every_flag_combination_at_every_offset(state: State) -> None:
    for bits in ALL_FLAGS:
        for offset in OFFSETS:
            peer = in_state(state)
            connection = peer.connection
            peer.inject(flag_text(bits), seq=peer.next + offset, data=b"xyz" if bits % 3 else b"")
            settled(peer)
            assert reachable(state, connection.state), (
                f"{state.name} {flag_text(bits)} -> {connection.state_name()}"
            )
            if bits & 4 == 0 and connection.state == State.CLOSED:
                # A SYN sends half open back to LISTEN, or takes over TIME-WAIT; or it was the last ACK.
                assert state in (State.LAST_ACK, State.SYN_RECEIVED, State.TIME_WAIT)


SEGMENTS = st.fixed_dictionaries(
    {
        "flags": st.integers(0, 255).map(flag_text)
        | st.sampled_from([".", "P.", "F.", "S", "S.", "R", "R."]),
        "seq": st.sampled_from(OFFSETS) | st.integers(-(1 << 31), 1 << 31),
        "ack": st.sampled_from((-70_000, -1, 0, 1, 100, 70_000)) | st.integers(-(1 << 31), 1 << 31),
        "window": st.integers(0, 65535),
        "length": st.sampled_from((0, 0, 1, 10, 1460, 3000)),
    }
)
CALLS = st.sampled_from(
    ["send", "send much", "receive", "shutdown", "close", "abort", "nodelay", "keepalive"]
)
STEPS = st.lists(st.one_of(SEGMENTS, CALLS, st.integers(0, 200 * S)), max_size=15)


@given(
    state=st.sampled_from(STATES),
    steps=STEPS,
    iss=st.sampled_from((0, 1_000_000, 0xFFFF_FFF0)),
    stack_iss=st.sampled_from((None, 0xFFFF_FFFF, 0xFFFF_FFF0)),
    small=st.booleans(),
)
def test_any_sequence_of_segments_calls_and_time(
    state: State, steps: list[Any], iss: int, stack_iss: int | None, small: bool
) -> None:
    settings = (
        {"receive_buffer_initial": 2000, "receive_buffer_limit": 4000, "send_buffer_initial": 3000}
        if small
        else {}
    )
    peer = in_state(state, iss=iss, stack_iss=stack_iss, tcp=TcpConfig(keepalive_idle_us=50 * S, **settings))
    connection = peer.connection
    for step in steps:
        if isinstance(step, int):
            peer.advance(step)  # asserts that time never stands still
        elif isinstance(step, dict):
            peer.datagram(
                peer.segment(
                    step["flags"],
                    seq=peer.next + step["seq"],
                    ack=peer.seen + step["ack"],
                    window=step["window"],
                    data=bytes(step["length"]),
                )
            )
        elif step.startswith("send"):
            if connection.state in (State.ESTABLISHED, State.CLOSE_WAIT) and not connection.is_fin_queued:
                space = connection.send_space()
                taken = connection.send(bytes(100_000 if "much" in step else 10))
                assert 0 <= taken <= max(0, space)
        elif step == "receive":
            amount = connection.receivable()
            assert len(connection.receive(1500)) == min(amount, 1500)
        elif step in ("shutdown", "close", "abort"):
            getattr(connection, step)()
        elif step == "nodelay":
            connection.set_nodelay(True)
        else:
            connection.set_keepalive(True)
        peer.flush()
        settled(peer)
        peer.drain()
    # Whatever happened: once the user lets go and the peer is silent, everything ends.
    for each in peer.interface.connections():
        each.close()
    peer.flush()
    peer.answers_arp = False
    peer.advance(4000 * S)
    assert peer.interface.connections() == []
    assert peer.interface.next_deadline() >= NEVER
