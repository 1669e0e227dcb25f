"""Blind attacks on a connection (RFC 5961)."""

from __future__ import annotations

import random

import pytest

from appliance.errors import Reset
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import State
from tests.support.peer import MS, SYNCHRONIZED, S, established, in_state
from tests.support.talker import Talker

# A RST in TIME-WAIT is ignored: see the row of RFC 1337.
WITHOUT_TIME_WAIT = [state for state in SYNCHRONIZED if state != State.TIME_WAIT]
every_state = pytest.mark.parametrize("state", SYNCHRONIZED, ids=lambda state: state.name)


def window_of(talker: Talker) -> int:
    return talker.info("rcv_wnd")


@pytest.mark.row("R5961-1")
@pytest.mark.parametrize("where", ["below", "above", "far below", "far above"])
def test_rst_outside_the_window_is_dropped_silently(where: str) -> None:
    talker = Talker()
    window = window_of(talker)
    seq = {"below": 0, "above": 1 + window, "far below": -(1 << 30), "far above": 1 << 30}[where]
    talker.inject("R", seq=seq)
    talker.inject("R.", seq=seq)
    talker.expect_nothing()
    assert talker.state == State.ESTABLISHED
    talker.inject(".", seq=1, data=b"x")
    assert talker.receive() == b"x"


@pytest.mark.row("R5961-2")
@pytest.mark.parametrize("flags", ["R", "R."])
def test_exact_rst_resets(flags: str) -> None:
    talker = Talker()
    talker.inject(flags, seq=1)
    talker.expect_nothing()
    connection = talker.connection
    assert connection.is_closed
    assert isinstance(connection.failure(), Reset)
    talker.inject(".", seq=1, ack=1)
    talker.expect("R", seq=1)


@pytest.mark.row("R5961-3")
@pytest.mark.parametrize("state", WITHOUT_TIME_WAIT, ids=lambda state: state.name)
def test_rst_in_the_window_is_challenged_and_the_exact_one_then_resets(state: State) -> None:
    peer = in_state(state)
    peer.inject("R", seq=peer.next + 100)
    peer.expect(".", seq=peer.seen, ack=peer.next, length=0)
    assert peer.state == state
    peer.inject("R", seq=peer.next)
    peer.expect_nothing()
    assert peer.connection.is_closed


@pytest.mark.row("R5961-4")
@every_state
@pytest.mark.parametrize("flags", ["S", "S."])
@pytest.mark.parametrize("offset", [-1000, -1, 0, 100, 1 << 30])
def test_syn_is_challenged_wherever_it_lies(state: State, flags: str, offset: int) -> None:
    peer = in_state(state)
    if state == State.TIME_WAIT and flags == "S" and offset > 0:
        offset = -offset  # from above it may open a new connection: the row of RFC 6191
    peer.inject(flags, seq=peer.next + offset, ack=peer.seen)
    peer.expect(".", seq=peer.seen, raw_ack=peer.iss + peer.connection.info()["rcv_nxt"] - peer.iss, length=0)
    peer.expect_nothing()
    assert peer.state == state


@pytest.mark.row("R5961-5")
@pytest.mark.row("MAY-12")
def test_ack_below_the_largest_window_is_challenged_and_its_data_dropped() -> None:
    talker = Talker(shift=None, window=5000)
    talker.write(1000)
    talker.ack(1001)
    talker.inject(".", ack=1001 - 65_535 - 1, data=b"evil")  # the SYN's window was the largest: 65535
    talker.expect(".", seq=1001, ack=1, length=0)
    assert talker.receive() == b""


@pytest.mark.row("R5961-5")
def test_ack_of_what_was_never_sent_is_challenged_and_its_data_dropped() -> None:
    talker = Talker()
    for ahead in (1, 1000, 1 << 30):
        talker.inject(".", seq=1, ack=1 + ahead, data=b"evil")
        talker.expect(".", seq=1, ack=1, length=0)
        talker.expect_nothing()
    assert talker.receive() == b""


@pytest.mark.row("R5961-6")
@pytest.mark.row("MAY-12")
@pytest.mark.parametrize("back", [1, 1000, 65_535])
def test_old_ack_within_that_range_delivers_its_data(back: int) -> None:
    talker = Talker(shift=None, window=65535)
    talker.write(5000)
    talker.ack(5001)
    talker.inject(".", seq=1, ack=5001 - back, data=b"good")
    assert talker.receive() == b"good"


@pytest.mark.row("R5961-7")
def test_challenges_are_limited_and_each_connection_has_its_own_limit() -> None:
    one = Talker()
    limit = TcpConfig().challenge_acks
    for _ in range(100):
        one.inject("R", seq=1 + 100)
        one.advance(10 * MS)
    assert 1 <= len(one.drain()) <= 2 * limit
    # A second connection of the same stack.
    one.peer_port += 1
    one.next = one.seen = one.stack_iss = 0
    one.syn()
    one.finish(one.syn_ack())
    for _ in range(5):
        one.inject("R", seq=1 + 100)
        one.expect(".", seq=1, ack=1)


@pytest.mark.row("R5961-7")
@pytest.mark.parametrize("limit", [1, 3])
def test_limit_of_challenges_can_be_set(limit: int) -> None:
    talker = Talker(tcp=TcpConfig(challenge_acks=limit))
    talker.advance(5 * S - talker.now % (5 * S))
    for _ in range(20):
        talker.inject("R", seq=1 + 100)
    assert len(talker.drain()) == limit
    talker.advance(5 * S)
    for _ in range(20):
        talker.inject("R", seq=1 + 100)
    assert len(talker.drain()) == limit


@pytest.mark.row("R5961-1")
@pytest.mark.row("R5961-4")
@pytest.mark.row("R5961-5")
def test_connection_survives_a_blind_flood_and_delivers_its_bytes() -> None:
    peer = established(shift=7)
    chance = random.Random(5961)  # repeatable
    sent = bytes(range(256)) * 16
    window = int(peer.connection.info()["rcv_wnd"])
    got = b""
    for index in range(0, len(sent), 512):
        for _ in range(100):
            flags = chance.choice(["R", "R.", "S", "S.", ".", "P.", "F."])
            seq = chance.randrange(1 << 32)
            if (seq - 1 - index) % (1 << 32) < window + 2:
                continue  # a hit by chance is for the tests above
            before = peer.next
            peer.inject(flags, seq=seq, ack=chance.randrange(1 << 32), data=b"evil" if flags != "R" else b"")
            peer.next = before
        peer.inject("P.", seq=1 + index, data=sent[index : index + 512])
        got += peer.receive()
        peer.advance(20 * MS)
    assert got == sent
