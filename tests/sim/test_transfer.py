"""Whole transfers between two stacks over a link that loses, doubles, delays and reorders, by seed."""

from __future__ import annotations

import random

import pytest

from appliance.stack.tcp.config import TcpConfig
from appliance.stack.timebase import MILLISECOND, SECOND
from tests.support.simulation import PERFECT, ROUGH, LinkFaults, Simulation, Transfer

MEGABYTE = random.Random(1).randbytes(1_000_000)
SEEDS_A_BATCH = 20


def both_ways(sim: Simulation, forth: bytes, back: bytes, **options: object) -> tuple[Transfer, Transfer]:
    """Send `forth` and `back` over one connection, run to the end, and check that all of it came."""
    client, server = sim.connect()
    one = Transfer(sim, client, forth, **options)  # type: ignore[arg-type]
    two = Transfer(sim, server, back, **options)  # type: ignore[arg-type]
    sim.run(until=sim.finished)
    assert one.failure is None, f"seed {sim.seed}: {one.failure!r}"
    assert two.failure is None, f"seed {sim.seed}: {two.failure!r}"
    assert one.received == back, f"seed {sim.seed}"
    assert two.received == forth, f"seed {sim.seed}"
    return one, two


@pytest.mark.parametrize("first_seed", range(0, 200, SEEDS_A_BATCH))
def test_sim_loss_5pct_delivers_a_megabyte_each_way(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + SEEDS_A_BATCH):
        sim = Simulation(seed, ROUGH)
        both_ways(sim, MEGABYTE, MEGABYTE[::-1])
        assert sim.lost > 0
        sim.check_all_gone()


@pytest.mark.parametrize("vnet_header", [False, True])
def test_sim_same_seed_gives_the_same_packets(vnet_header: bool) -> None:
    traces = []
    for seed in (3, 3, 4):
        sim = Simulation(seed, ROUGH, vnet_header=vnet_header)
        both_ways(sim, MEGABYTE[:200_000], MEGABYTE[:100_000])
        traces.append((sim.trace, sim.now, sim.frames))
    assert traces[0] == traces[1]
    assert traces[0][0] != traces[2][0]


@pytest.mark.parametrize("seed", range(10))
def test_sim_super_segments_survive_loss(seed: int) -> None:
    sim = Simulation(seed, ROUGH, vnet_header=True)
    both_ways(sim, MEGABYTE * 2, MEGABYTE)
    sim.check_all_gone()


def test_sim_perfect_link_needs_no_retransmission() -> None:
    sim = Simulation(1, PERFECT)
    both_ways(sim, MEGABYTE, MEGABYTE)
    for stack in sim.stacks:
        counters = stack.counters.as_dict()
        assert counters["segments_retransmitted"] == 0
        assert counters["segments_duplicate"] == 0
        assert counters["segments_out_of_order"] == 0
        assert counters["challenge_acks"] == 0
        assert counters["dropped_malformed"] == 0


def test_sim_long_fat_link_fills_the_pipe() -> None:
    """100 ms of round trip, no limit of rate: slow start must open the window, not crawl."""
    sim = Simulation(1, LinkFaults(delay_us=50 * MILLISECOND))
    both_ways(sim, MEGABYTE * 4, b"")
    assert sim.now < 3 * SECOND


@pytest.mark.parametrize("seed", range(5))
def test_sim_rate_limited_link_is_used_well(seed: int) -> None:
    sim = Simulation(seed, LinkFaults(delay_us=10 * MILLISECOND, rate=1_000_000))
    both_ways(sim, MEGABYTE, b"")
    # 1 MB at 1 MB/s, headers, handshake and slow start on top.
    assert sim.now < 1.5 * SECOND


@pytest.mark.parametrize("seed", range(5))
def test_sim_round_trip_that_grows_past_the_timeout_settles(seed: int) -> None:
    """Karn's trap: without keeping the backed-off timeout, every segment is sent twice for ever."""
    sim = Simulation(seed, LinkFaults(delay_us=2 * MILLISECOND))
    client, server = sim.connect()
    one, two = Transfer(sim, client, MEGABYTE), Transfer(sim, server, b"")
    sim.run(until=lambda: len(two.received) > 50_000)
    sim.link = LinkFaults(delay_us=700 * MILLISECOND)
    sim.run(until=sim.finished, limit_us=600 * SECOND)
    assert two.received == one.data
    again = sim.stacks[0].counters.as_dict()["segments_retransmitted"]
    assert again < 150, again


@pytest.mark.parametrize("seed", range(20))
def test_sim_corruption_is_caught_by_the_checksum(seed: int) -> None:
    sim = Simulation(seed, LinkFaults(corrupt=0.1, faults_arp=False))
    both_ways(sim, MEGABYTE[:200_000], MEGABYTE[:200_000])


@pytest.mark.parametrize("seed", range(20))
def test_sim_tiny_buffers_deliver_all(seed: int) -> None:
    tiny = TcpConfig(
        send_buffer_initial=700,
        send_buffer_limit=700,
        receive_buffer_initial=900,
        receive_buffer_limit=900,
        reassembly_limit=2,
    )
    sim = Simulation(seed, ROUGH, tcp=tiny)
    both_ways(sim, MEGABYTE[:20_000], MEGABYTE[:20_000])
    sim.check_all_gone()


@pytest.mark.parametrize("seed", range(20))
def test_sim_tiny_mss_delivers_all(seed: int) -> None:
    sim = Simulation(seed, ROUGH, mtu=140)
    both_ways(sim, MEGABYTE[:50_000], MEGABYTE[:50_000])
    sim.check_all_gone()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("faults", [PERFECT, ROUGH], ids=["perfect", "rough"])
def test_sim_slow_reader_closes_and_opens_the_window(seed: int, faults: LinkFaults) -> None:
    small = TcpConfig(receive_buffer_initial=8192, receive_buffer_limit=8192)
    sim = Simulation(seed, faults, tcp=small)
    client, server = sim.connect()
    one = Transfer(sim, client, MEGABYTE[:120_000])
    two = Transfer(sim, server, b"", read_chunk=7000, read_every_us=1500 * MILLISECOND)
    sim.run(until=sim.finished)
    assert one.failure is None
    assert two.received == MEGABYTE[:120_000]
    assert sim.stacks[0].counters.as_dict()["zero_window_probes"] > 0
    sim.check_all_gone()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("write_chunk", [1, 37])
def test_sim_small_writes_are_joined(seed: int, write_chunk: int) -> None:
    sim = Simulation(seed, ROUGH)
    both_ways(sim, MEGABYTE[:5_000], MEGABYTE[:5_000], write_chunk=write_chunk)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("waits", [(False, True), (True, False)], ids=["server last", "client last"])
def test_sim_half_close_sends_after_the_peers_fin(seed: int, waits: tuple[bool, bool]) -> None:
    sim = Simulation(seed, ROUGH)
    client, server = sim.connect()
    one = Transfer(sim, client, MEGABYTE[:100_000], wait_for_eof=waits[0])
    two = Transfer(sim, server, MEGABYTE[100_000:200_000], wait_for_eof=waits[1])
    sim.run(until=sim.finished)
    assert two.received == MEGABYTE[:100_000]
    assert one.received == MEGABYTE[100_000:200_000]
    sim.check_all_gone()


@pytest.mark.parametrize("seed", range(20))
def test_sim_simultaneous_close_ends_on_both_sides(seed: int) -> None:
    sim = Simulation(seed, ROUGH)
    client, server = sim.connect()
    client.close()
    server.close()
    sim.check_all_gone()
    assert client.is_closed
    assert server.is_closed
    assert client.failure() is None or seed >= 0


@pytest.mark.parametrize("seed", range(10))
def test_sim_connections_come_and_go_and_leave_nothing(seed: int) -> None:
    # An abort whose RST is lost leaves the other side half open: keep-alive finds out.
    sim = Simulation(seed, ROUGH, tcp=TcpConfig(keepalive_idle_us=5 * SECOND, keepalive_interval_us=SECOND))
    rng = random.Random(seed)
    clients: list[Transfer] = []

    def start(index: int) -> None:
        client = sim.open(client=index % 2)
        client.set_keepalive(True)
        data = MEGABYTE[: rng.randrange(30_000)]
        clients.append(Transfer(sim, client, data))
        if index % 5 == 0:
            sim.at(sim.now + rng.randrange(1, 300 * MILLISECOND), client.abort)

    for index in range(40):
        sim.at(rng.randrange(2 * SECOND), lambda index=index: start(index))  # type: ignore[misc]

    def serve() -> None:
        while sim.accepted:
            sim.accepted[-1].set_keepalive(True)
            Transfer(sim, sim.accepted.pop(), b"reply" * 100)

    for when in range(0, 20 * SECOND, 50 * MILLISECOND):
        sim.at(when, serve)
    sim.run(until=lambda: len(clients) == 40 and sim.now > 19 * SECOND and sim.finished())
    serve()
    sim.check_all_gone()


@pytest.mark.parametrize("seed", range(3))
def test_sim_link_that_goes_down_and_comes_back_resumes(seed: int) -> None:
    """Long enough for ARP to give the peer up: the connection must find it again."""
    sim = Simulation(seed, PERFECT)
    client, server = sim.connect()
    one, two = Transfer(sim, client, MEGABYTE), Transfer(sim, server, MEGABYTE)
    sim.run(until=lambda: len(two.received) > 100_000)
    sim.link = LinkFaults(loss=1.0)
    sim.run(until=lambda: sim.now > 150 * SECOND)
    sim.link = PERFECT
    sim.run(until=sim.finished, limit_us=600 * SECOND)
    assert two.received == MEGABYTE
    assert one.received == MEGABYTE


@pytest.mark.parametrize("seed", range(3))
def test_sim_peer_that_vanishes_ends_the_connection(seed: int) -> None:
    sim = Simulation(seed, PERFECT)
    client, server = sim.connect()
    one, two = Transfer(sim, client, MEGABYTE), Transfer(sim, server, MEGABYTE)
    sim.run(until=lambda: len(two.received) > 100_000)
    sim.link = LinkFaults(loss=1.0)
    sim.check_all_gone()
    assert one.failure is not None
    assert two.failure is not None


@pytest.mark.parametrize("seed", range(1000, 1100))
def test_sim_everything_at_once(seed: int) -> None:
    everything_at_once(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first_seed", range(2000, 6000, 500))
def test_sim_soak_with_everything_at_once(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 500):
        everything_at_once(seed)


def everything_at_once(seed: int) -> None:
    """A link, buffers, an MTU and an amount of data, all drawn by the seed."""
    rng = random.Random(seed)
    link = LinkFaults(
        loss=rng.random() * 0.15,
        duplicate=rng.random() * 0.1,
        reorder=rng.random() * 0.3,
        corrupt=rng.random() * 0.02,
        delay_us=rng.randrange(1, 200_000),
        jitter_us=rng.randrange(1, 20_000),
        reorder_us=rng.randrange(2, 200_000),
        rate=rng.choice([0, 100_000, 1_000_000]),
        faults_arp=False,
    )
    size = rng.randrange(500, 100_000)
    tcp = TcpConfig(
        receive_buffer_initial=size,
        receive_buffer_limit=size * 2,
        nodelay=rng.random() < 0.5,
        syn_ack_retries=20,  # one that gives up leaves an idle client that rightly waits for ever
    )
    sim = Simulation(seed, link, tcp=tcp, mtu=rng.randrange(140, 9000), vnet_header=False)
    amount = rng.randrange(1, 200_000)
    both_ways(sim, MEGABYTE[:amount], MEGABYTE[: amount // 2], write_chunk=rng.choice([0, 100, 5000]))
    sim.check_all_gone()
