"""Initial sequence numbers, and surviving a flood of SYNs (RFC 6528, RFC 4987)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import State
from tests.support import packets as pk
from tests.support.packets import ip
from tests.support.peer import MASK, MS, PEER_PORT, S, make_interface
from tests.support.talker import Talker

BACKLOG = 16


class Flooded(Talker):
    """A listener with a short backlog that half-open connections of other ports have filled."""

    def __init__(self, half_open: int = BACKLOG, **more: Any) -> None:
        super().__init__(is_open=False, resolve=True, **more)
        assert self.listener is not None
        self.listener.close()
        self.listen(BACKLOG)
        self.flood(half_open)

    def flood(self, count: int, first: int = 20_000) -> list[pk.Packet]:
        """SYNs from so many ports, which nobody follows up; what the stack answers."""
        before = len(self.other)
        for port in range(first, first + count):
            segment = pk.tcp(
                "S",
                seq=port * 7919,
                source_port=port,
                destination_port=self.port,
                options=pk.mss_option(1000),
            )
            self.datagram(segment)
        return self.other[before:]

    def cookie(self) -> pk.Packet:
        self.syn()
        return self.syn_ack()


def isn_of(talker: Talker) -> int:
    talker.syn()
    isn = talker.expect("S.").seq
    talker.inject("R", seq=1)
    talker.next = talker.seen = 0
    return isn


def isns(ports: range, *, seed: int = 1, start: int = 1000 * S) -> list[int]:
    numbers = []
    talker = Talker(is_open=False, seed=seed, start=start)
    for port in ports:
        talker.peer_port = port
        talker.stack_iss = 0
        numbers.append(isn_of(talker))
    return numbers


@pytest.mark.row("R6528-1")
def test_isn_of_one_four_tuple_follows_a_clock_of_4_us() -> None:
    talker = Talker(is_open=False)
    first = isn_of(talker)
    talker.advance(10 * S)
    assert (isn_of(talker) - first) & MASK == 2_500_000


@pytest.mark.row("R6528-1")
@pytest.mark.row("SHLD-1")
def test_isns_of_different_four_tuples_are_unrelated() -> None:
    numbers = isns(range(PEER_PORT, PEER_PORT + 128))
    assert len(set(numbers)) == 128
    # Every bit is set in about half of them (within five standard deviations).
    for bit in range(32):
        assert abs(sum(number >> bit & 1 for number in numbers) - 64) < 5 * 128**0.5 / 2
    steps = {(after - before) & MASK for before, after in pairwise(numbers)}
    assert len(steps) == 127


@pytest.mark.row("R6528-1")
def test_isns_depend_on_a_key_of_128_random_bits() -> None:
    ports = range(PEER_PORT, PEER_PORT + 20)
    assert isns(ports, seed=1) == isns(ports, seed=1)
    assert not set(isns(ports, seed=1)) & set(isns(ports, seed=2))
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    make_interface(random_bytes=random_bytes)
    assert max(asked) >= 16


@pytest.mark.row("R4987-1")
@pytest.mark.parametrize("cookies", [True, False])
def test_half_open_connections_are_bounded(cookies: bool) -> None:
    talker = Flooded(0, tcp=TcpConfig(syn_cookies=cookies))
    answers = talker.flood(2000)
    assert len(talker.interface.connections()) == BACKLOG
    assert len(answers) == (2000 if cookies else BACKLOG)


@pytest.mark.row("R4987-1")
def test_established_connection_works_during_a_flood() -> None:
    talker = Talker()
    for port in range(10_000, 11_000):
        talker.datagram(
            pk.tcp("S", seq=port, source_port=port, destination_port=talker.port, source=ip("10.77.0.9")),
            source=ip("10.77.0.9"),
        )
    talker.inject(".", data=b"ping")
    assert talker.receive() == b"ping"
    assert talker.write(3000) != []
    assert len(talker.interface.connections()) <= 512 + 1


@pytest.mark.row("R4987-2")
def test_honest_peer_connects_during_the_flood_and_is_served() -> None:
    talker = Flooded()
    before = len(talker.interface.connections())
    answer = talker.cookie()
    assert len(talker.interface.connections()) == before  # no state
    talker.flood(100, first=30_000)
    talker.advance(1 * S)
    talker.finish(answer)
    talker.inject(".", data=b"echo" * 100)
    assert talker.receive() == b"echo" * 100
    talker.send(b"echo" * 100)
    assert talker.expect(".", length=400).data == b"echo" * 100


@pytest.mark.row("R4987-2")
def test_without_cookies_the_syn_is_dropped() -> None:
    talker = Flooded(tcp=TcpConfig(syn_cookies=False))
    talker.syn()
    talker.expect_nothing()


@pytest.mark.row("R4987-3")
@pytest.mark.parametrize("mss", [1460, 1000, 600, 8960, 536])
def test_segments_fit_the_mss_that_the_peer_offered(mss: int) -> None:
    talker = Flooded(mss=mss, mtu=9000)
    talker.finish(talker.cookie())
    talker.write(20_000)
    largest = max(len(packet.data) for packet in talker.taken)
    assert mss // 2 < largest <= mss


@pytest.mark.row("R4987-3")
def test_data_on_the_ack_are_taken() -> None:
    talker = Flooded()
    talker.cookie()
    talker.inject(".", ack=1, data=b"at once")
    assert talker.listener is not None
    connection = talker.listener.accept()
    assert connection is not None
    assert connection.state == State.ESTABLISHED
    assert connection.receive(100) == b"at once"


@pytest.mark.row("R4987-4")
@pytest.mark.parametrize("ack", [2, 0, 1000, 1 << 24, 1 << 27])
def test_wrong_cookie_makes_no_connection(ack: int) -> None:
    talker = Flooded()
    before = len(talker.interface.connections())
    talker.cookie()
    talker.inject(".", ack=ack)
    assert [packet.flags for packet in talker.drain()] == ["R"]
    assert len(talker.interface.connections()) == before


@pytest.mark.row("R4987-4")
@pytest.mark.parametrize(("age", "is_valid"), [(30 * S, True), (600 * S, False), (64 * 32 * S, False)])
def test_stale_cookie_makes_no_connection(age: int, is_valid: bool) -> None:
    talker = Flooded()
    talker.cookie()
    waited = 0
    while waited < age:  # the flood goes on, so cookies stay in use
        talker.advance(30 * S)
        waited += 30 * S
        talker.flood(BACKLOG + 1, first=30_000 + waited // S % 20_000)
    talker.inject(".", ack=1)
    state = [c for c in talker.interface.connections() if c.remote_port == talker.peer_port]
    assert bool(state) is is_valid
    assert [packet.flags for packet in talker.drain()] == ([] if is_valid else ["R"])


@pytest.mark.row("R4987-4")
def test_cookie_is_for_its_own_four_tuple_only() -> None:
    talker = Flooded()
    talker.cookie()
    talker.peer_port += 1
    talker.inject(".", ack=1)
    assert [packet.flags for packet in talker.drain()] == ["R"]


@pytest.mark.row("R4987-5")
def test_without_timestamps_options_that_a_cookie_cannot_hold_are_not_used() -> None:
    talker = Flooded(sack=True, shift=7, window=3000)
    answer = talker.cookie()
    assert answer.window_shift is None
    assert 4 not in answer.options
    talker.finish(answer)
    assert talker.info("snd_wind_shift") == 0
    talker.inject(".", seq=1001, data=bytes(100))
    assert talker.blocks(talker.expect(".", ack=1)) == []


@pytest.mark.row("R4987-5")
def test_with_timestamps_options_come_back() -> None:
    talker = Flooded(sack=True, ts=True, shift=9, rtt=0)
    answer = talker.cookie()
    assert answer.window_shift is not None
    assert 4 in answer.options
    talker.stack_ts = int.from_bytes(answer.options[8][:4], "big")
    talker.advance(20 * MS)
    talker.finish(answer)
    assert talker.info("snd_wind_shift") == 9
    assert talker.info("rcv_wind_shift") == answer.window_shift
    talker.inject(".", seq=1001, data=bytes(100))
    packet = talker.expect(".", ack=1)
    assert talker.blocks(packet) == [(1001, 1101)]
    assert 8 in packet.options


@pytest.mark.row("R4987-6")
def test_while_there_is_room_there_are_no_cookies() -> None:
    talker = Flooded(BACKLOG - 1)
    talker.syn()
    talker.syn_ack()
    assert talker.state == State.SYN_RECEIVED
    assert talker.counter("syn_cookies_sent") == 0


@pytest.mark.row("R4987-6")
def test_stray_ack_to_an_idle_listener_gets_a_rst() -> None:
    flooded = Flooded()
    answer = flooded.cookie()
    # The very ACK that the flooded stack would take: the same key, the same clock.
    talker = Flooded(0)
    talker.inject(".", seq=1, ack=answer.seq + 1)
    assert [packet.flags for packet in talker.drain()] == ["R"]
    assert talker.interface.connections() == []
    flooded.inject(".", ack=1)
    assert len(flooded.interface.connections()) == BACKLOG + 1
