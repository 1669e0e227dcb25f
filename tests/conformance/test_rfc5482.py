"""The user timeout, and the option that a peer may send about its own (RFC 5482). We do not send it."""

from __future__ import annotations

import struct

import pytest

from appliance.errors import TimedOut
from appliance.stack.tcp.config import TcpConfig
from tests.support.peer import MS, S
from tests.support.talker import Talker


def user_timeout_option(seconds: int) -> bytes:
    return struct.pack("!BBH", 28, 4, seconds)


def time_of_abort(talker: Talker, limit: int = 3600 * S) -> int:
    """How long data stay unacknowledged until the connection is given up."""
    start = talker.now
    talker.write(1000)
    while not talker.connection.is_closed:
        assert talker.now - start < limit
        talker.next_sent()
    assert isinstance(talker.connection.failure(), TimedOut)
    return talker.now - start


@pytest.mark.row("R5482-1")
def test_option_on_syn_and_data_is_ignored() -> None:
    talker = Talker(is_open=False)
    talker.inject("S", seq=0, options=talker.syn_bytes() + user_timeout_option(5))
    answer = talker.expect("S.", ack=1)
    assert 28 not in answer.options
    talker.finish(answer)
    talker.inject(".", data=b"x" * 10, options=user_timeout_option(1))
    assert talker.receive() == b"x" * 10
    talker.write(1000)
    talker.advance(20 * S)
    assert not talker.connection.is_closed
    assert 28 not in talker.sent[-1].options


@pytest.mark.row("R5482-2")
@pytest.mark.parametrize("of_peer", [600, 1])
def test_timeout_of_the_application_is_not_overridden_by_the_peer(of_peer: int) -> None:
    talker = Talker(rtt=100 * MS)
    talker.connection.set_user_timeout(30 * S)
    talker.inject(".", ack=1, options=user_timeout_option(of_peer))
    assert time_of_abort(talker) == pytest.approx(30 * S, abs=10 * MS)


@pytest.mark.row("R5482-2")
def test_without_one_the_peer_cannot_shorten_it_below_100_seconds() -> None:
    talker = Talker(rtt=100 * MS, tcp=TcpConfig(rto_max_us=60 * S))
    talker.inject(".", ack=1, options=user_timeout_option(5))
    assert time_of_abort(talker) >= 100 * S
