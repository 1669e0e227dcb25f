"""Any schedule of loss and timing: every byte once and in order, or an error at both ends; and nothing lives on."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

from appliance.stack.tcp.config import TcpConfig
from appliance.stack.timebase import MILLISECOND
from tests.support.simulation import LinkFaults, Simulation, Transfer

DATA = random.Random(2).randbytes(120_000)
NUMBERS = st.frozensets(st.integers(0, 60), max_size=20)


def transfer(sim: Simulation, forth: bytes, back: bytes) -> tuple[Transfer, Transfer]:
    client, server = sim.connect()
    one = Transfer(sim, client, forth)
    two = Transfer(sim, server, back)
    sim.run(until=sim.finished)
    return one, two


def check_outcome(one: Transfer, two: Transfer, forth: bytes, back: bytes) -> None:
    if one.failure is None and two.failure is None:
        assert one.received == back
        assert two.received == forth
    else:
        # Whoever got less than all was told, and what it got is the beginning of it.
        assert back.startswith(bytes(one.received))
        assert forth.startswith(bytes(two.received))
        assert one.failure is not None or one.received == back
        assert two.failure is not None or two.received == forth


@settings(deadline=None)
@given(
    forth=st.integers(0, 60_000),
    back=st.integers(0, 60_000),
    lost=NUMBERS,
    lost_back=NUMBERS,
    delay_us=st.integers(1, 300_000),
    jitter_us=st.integers(0, 50_000),
    reorder=st.sampled_from([0.0, 0.1, 0.5]),
    sack=st.booleans(),
    timestamps=st.booleans(),
    control=st.sampled_from(["cubic", "newreno"]),
    buffer=st.sampled_from([1_000, 20_000, 65_536]),
)
def test_any_schedule_delivers_once_and_in_order_or_fails_at_both_ends(
    forth: int,
    back: int,
    lost: frozenset[int],
    lost_back: frozenset[int],
    delay_us: int,
    jitter_us: int,
    reorder: float,
    sack: bool,
    timestamps: bool,
    control: str,
    buffer: int,
) -> None:
    # The handshake is spared: who never heard of a connection cannot be told of its end.
    link = LinkFaults(
        delay_us=delay_us,
        jitter_us=jitter_us,
        reorder=reorder,
        faults_arp=False,
        lose_numbers=frozenset(number + 2 for number in lost),
        lose_numbers_back=frozenset(number + 1 for number in lost_back),
    )
    tcp = TcpConfig(
        sack=sack,
        timestamps=timestamps,
        congestion_control=control,
        receive_buffer_initial=buffer,
        receive_buffer_limit=2 * buffer,
    )
    sim = Simulation(7, link, tcp=tcp)
    one, two = transfer(sim, DATA[:forth], DATA[forth : forth + back])
    check_outcome(one, two, DATA[:forth], DATA[forth : forth + back])
    sim.check_all_gone()


@pytest.mark.parametrize("seed", range(20))
def test_bursts_and_a_short_queue_are_survived(seed: int) -> None:
    link = LinkFaults(
        burst_begins=0.02,
        burst_ends=0.3,
        rate=1_000_000,
        queue_bytes=15_000,
        delay_us=10 * MILLISECOND,
        faults_arp=False,
    )
    sim = Simulation(seed, link, tcp=TcpConfig(syn_ack_retries=20))
    one, two = transfer(sim, DATA, DATA[::-1])
    assert (one.failure, two.failure) == (None, None)
    check_outcome(one, two, DATA, DATA[::-1])
    assert sim.lost > 0
    sim.check_all_gone()


def test_frame_that_is_to_be_lost_is_the_one() -> None:
    sim = Simulation(1, LinkFaults(lose_numbers=frozenset({2}), faults_arp=False))
    one, two = transfer(sim, DATA[:3000], b"")
    check_outcome(one, two, DATA[:3000], b"")
    assert sim.lost == 1
    assert sim.stacks[0].counters.segments_retransmitted >= 1
