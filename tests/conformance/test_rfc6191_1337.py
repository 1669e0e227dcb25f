"""TIME-WAIT: what may end it, and who may come after it (RFC 1337, RFC 6191)."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import State
from tests.support import packets as pk
from tests.support.peer import MASK, S, time_wait
from tests.support.talker import Talker


def waiting(*, ts: bool = False, **more: Any) -> Talker:
    """In TIME-WAIT: the stack closed first."""
    talker = Talker(ts=ts, **more)
    talker.call("shutdown")
    talker.expect("F.", seq=1)
    talker.inject(".", ack=2)
    talker.inject("F.", ack=2)
    talker.expect(".", seq=2, ack=2)
    assert talker.state == State.TIME_WAIT
    return talker


def syn(talker: Talker, seq: int, ts: int | None = None) -> None:
    options = talker.syn_bytes() + (b"" if ts is None else pk.timestamps_option(ts & MASK, 0))
    talker.inject("S", seq=seq, options=options)


@pytest.mark.row("R1337-1")
def test_rst_in_time_wait_is_ignored() -> None:
    peer = time_wait()
    for flags in ("R", "R."):
        peer.inject(flags, seq=2)
    peer.expect_nothing()
    assert peer.state == State.TIME_WAIT
    # It still does its work: an old FIN is answered, old data do not come back.
    peer.inject("F.", seq=1, ack=2)
    peer.expect(".", seq=2, ack=2)


@pytest.mark.row("R1337-1")
def test_rst_ends_time_wait_where_it_was_set_so() -> None:
    peer = time_wait(tcp=TcpConfig(time_wait_ignores_reset=False))
    peer.inject("R", seq=2)
    peer.expect_nothing()
    assert peer.connection.is_closed


@pytest.mark.row("R6191-1")
@pytest.mark.row("SHLD-4")
@pytest.mark.parametrize("seq", [-1_000_000, -1, 0, 1, 500, 1 << 30])
def test_syn_with_a_later_timestamp_opens_anew_whatever_its_number(seq: int) -> None:
    talker = waiting(ts=True)
    recent = talker.clock()
    syn(talker, seq, recent + 1)
    answer = talker.drain()[0]
    assert answer.flags == "S."
    assert answer.ack == (talker.iss + seq + 1) & MASK
    # Above all that was sent before, so that nothing old fits in.
    assert 0 < (answer.seq - (talker.stack_iss + 2)) & MASK < 1 << 31


@pytest.mark.row("R6191-1")
@pytest.mark.parametrize("seq", [500, 1 << 30, -1000])
@pytest.mark.parametrize("back", [1, 100_000])
def test_syn_with_an_earlier_timestamp_is_challenged(seq: int, back: int) -> None:
    talker = waiting(ts=True)
    syn(talker, seq, talker.clock() - back)
    talker.expect(".", seq=2, ack=2)
    talker.expect_nothing()
    assert talker.state == State.TIME_WAIT


@pytest.mark.row("R6191-1")
@pytest.mark.row("MAY-2")
@pytest.mark.parametrize(("seq", "is_opened"), [(3, True), (1 << 30, True), (1, False), (-1000, False)])
def test_syn_without_timestamps_goes_by_its_number(seq: int, is_opened: bool) -> None:
    talker = waiting()
    syn(talker, seq)
    packets = talker.drain()
    assert [packet.flags for packet in packets] == ["S." if is_opened else "."]
    if is_opened:
        assert 0 < (packets[0].seq - (talker.stack_iss + 2)) & MASK < 1 << 31


@pytest.mark.row("R6191-1")
@pytest.mark.parametrize(("seq", "is_opened"), [(500, True), (-500, False)])
def test_syn_with_the_same_timestamp_goes_by_its_number(seq: int, is_opened: bool) -> None:
    talker = waiting(ts=True)
    syn(talker, seq, talker.clock())
    assert [packet.flags for packet in talker.drain()] == ["S." if is_opened else "."]


@pytest.mark.row("R6191-1")
def test_new_connection_carries_data_and_the_old_one_is_gone() -> None:
    talker = waiting(ts=True)
    talker.advance(1 * S)
    talker.iss = (talker.iss + 5000) & MASK
    talker.next = talker.seen = 0
    talker.stack_iss = 0
    talker.syn()
    talker.finish(talker.syn_ack())
    talker.inject(".", data=b"anew")
    assert talker.receive() == b"anew"
    assert len(talker.interface.connections()) == 1
