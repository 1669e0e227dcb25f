"""The pump, the timer tasks and the life of a network."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from appliance.errors import HostError
from appliance.shell.link import MemoryLink, memory_link_pair
from appliance.shell.network import open_network
from appliance.stack.tcp.config import TcpConfig
from tests.shell.support import (
    SERVER,
    connect,
    interface_config,
    lose_all,
    receive_exactly,
    two_networks,
    until,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from appliance.shell.network import Network
    from appliance.shell.tcp_stream import TcpStream


def child_tasks(network: Network) -> int:
    """Timer tasks that trio really has, not what the pump counted."""
    return sum(task.name == "tcp timer" for task in network.pump.nursery.child_tasks)


_FIRST_DEADLINE = 1.1
"""Seconds by when the deadline has come up that a connection had after its SYN (RFC 6298: 1 s)."""


async def test_connection_that_is_closed_at_once_needs_no_task(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        listener = server.listen_tcp(7)
        for _ in range(20):
            near, far = await connect(client, server, listener)
            await near.send_all(b"PING")
            await receive_exactly(far, 4)
            await far.send_all(b"PONG")
            await receive_exactly(near, 4)
            await near.aclose()
            await trio.sleep(0.001)
            await far.aclose()
            assert child_tasks(server) == 0
        await trio.sleep(0.1)
        assert server.interface.connections() == []
        await trio.sleep(_FIRST_DEADLINE)
        assert child_tasks(server) == 0
        assert child_tasks(client) == 20, "TIME-WAIT has to end"


async def test_each_connection_has_one_task_and_none_stays_behind(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        listener = server.listen_tcp(7)
        pairs = [await connect(client, server, listener) for _ in range(20)]
        await trio.sleep(_FIRST_DEADLINE)
        assert child_tasks(client) == child_tasks(server) == 20
        for near, far in pairs:
            await near.aclose()
            await trio.sleep(0.001)  # or both would close at the same time, and both have a TIME-WAIT
            await far.aclose()
        await trio.sleep(0.1)
        # The side that closed first is in TIME-WAIT, for 2 MSL, and its tasks with it.
        assert (child_tasks(client), child_tasks(server)) == (20, 0)
        await trio.sleep(61)
        assert child_tasks(client) == client.pump.timer_tasks == 0
        assert client.interface.connections() == server.interface.connections() == []


@pytest.mark.parametrize("who", ["near", "far"])
async def test_reset_ends_the_task_on_both_sides_at_once(autojump_clock: MockClock, who: str) -> None:
    async with two_networks() as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))
        (near if who == "near" else far).abort()
        await trio.sleep(0.001)
        assert child_tasks(client) == child_tasks(server) == 0


async def test_half_open_connection_has_a_task_until_it_is_given_up(autojump_clock: MockClock) -> None:
    near_link, far_link = memory_link_pair()
    config = TcpConfig(syn_ack_retries=1)
    async with two_networks(links=(near_link, far_link), tcp=config) as (client, server):
        server.listen_tcp(7)
        (await client.open_tcp_stream(SERVER, 7)).abort()
        await trio.sleep(0.001)
        far_link.on_write = lose_all  # no SYN,ACK arrives
        with trio.move_on_after(_FIRST_DEADLINE):
            await client.open_tcp_stream(SERVER, 7)
        assert child_tasks(server) == 1
        near_link.on_write = lose_all
        await trio.sleep(10)
        assert child_tasks(server) == 0


async def test_frames_come_in_beside_the_link_until_that_way_is_gone(autojump_clock: MockClock) -> None:
    near_link, far_link = memory_link_pair()
    far_link.beside, outside = memory_link_pair()
    mac, address = b"\2\0\0\0\0\x99", bytes((10, 0, 0, 1))
    announcement = b"\0\1\x08\0\6\4\0\1" + mac + address + bytes(6) + address
    async with two_networks(links=(near_link, far_link)) as (client, server):
        await connect(client, server, server.listen_tcp(7))
        outside.write_batch([bytes(10) + b"\xff" * 6 + mac + b"\x08\x06" + announcement])
        await trio.sleep(0.001)
        assert [mac for _, mac, _ in server.interface.neighbors()] == [mac]
        assert "pump beside" in {task.name for task in server.pump.nursery.child_tasks}
        far_link.beside.close()
        await trio.sleep(0.001)
        assert "pump beside" not in {task.name for task in server.pump.nursery.child_tasks}


async def test_lost_segment_is_sent_again_after_the_rto(autojump_clock: MockClock) -> None:
    near_link, far_link = memory_link_pair()
    async with two_networks(links=(near_link, far_link)) as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))
        await near.send_all(b"measured")
        await receive_exactly(far, 8)
        await trio.sleep(0.1)  # until its delayed ACK has come
        near_link.on_write = lose_all
        await near.send_all(b"lost")
        near_link.on_write = None
        sent_at = trio.current_time()
        await receive_exactly(far, 4)
        assert trio.current_time() - sent_at == pytest.approx(0.2, abs=0.05)  # the floor of the RTO
        assert client.interface.counters.as_dict()["segments_retransmitted"] == 1


async def test_deadline_that_moves_later_does_not_wake_the_child(autojump_clock: MockClock) -> None:
    """Each ACK restarts the retransmission timer: nobody wakes for it, and nothing piles up."""
    async with two_networks() as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))
        near.set_nodelay(True)
        await trio.sleep(_FIRST_DEADLINE)
        (task,) = (task for task in client.pump.nursery.child_tasks if task.name == "tcp timer")
        await trio.sleep(0.01)
        schedulings = task._schedule_points
        for _ in range(1000):
            await near.send_all(b"x")
            await receive_exactly(far, 1)
            await trio.sleep(0.001)
        assert task._schedule_points == schedulings
        assert len(client.pump._deadlines) <= 2


class BusyLink(MemoryLink):
    """A link whose reader finds no time while `is_busy`."""

    is_busy = False

    async def wait_readable(self) -> None:
        await super().wait_readable()
        while self.is_busy:  # noqa: ASYNC110  it is what being busy looks like
            await trio.sleep(1)


async def test_ack_in_the_queue_is_read_before_the_deadline_counts(autojump_clock: MockClock) -> None:
    near_link, far_link = (BusyLink(vnet_header=True, mtu=1500, capacity=100) for _ in range(2))
    near_link._peer, far_link._peer = far_link, near_link
    async with two_networks(links=(near_link, far_link)) as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))
        await near.send_all(b"measured")
        await receive_exactly(far, 8)
        await trio.sleep(1)
        near_link.is_busy = True
        await near.send_all(b"x")
        await receive_exactly(far, 1)
        await trio.sleep(0.9)  # the ACK waits since 40 ms, the RTO is 200 ms
        counters = client.interface.counters.as_dict()
        assert (counters["retransmission_timeouts"], client.interface.connections()[0].flight_size()) == (
            0,
            0,
        )


async def test_heap_does_not_keep_the_deadlines_of_the_dead(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        listener = server.listen_tcp(7)
        for _ in range(1500):
            near, far = await connect(client, server, listener)
            near._connection.set_keepalive(True)  # two hours away
            client.pump.flush()
            near.abort()
            far.abort()
            await trio.sleep(0.001)  # initial sequence numbers advance with time
        assert len(client.pump._deadlines) <= 1025


async def test_time_spent_idle_costs_no_wakeups(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        await connect(client, server, server.listen_tcp(7))
        await trio.sleep(5)
        steps = client.pump.steps, server.pump.steps
        await trio.sleep(3600)
        assert (client.pump.steps, server.pump.steps) == steps


async def test_flood_of_frames_leaves_other_tasks_their_turn(autojump_clock: MockClock) -> None:
    """A link that always has one more batch, 0.1 ms apart: a timer must not wait until it has none."""
    noise = bytes(10) + b"\xff" * 6 + bytes(6) + b"\x88\xb5" + bytes(50)
    batches = 0
    ran_at_batch = 0

    class EndlessLink(MemoryLink):
        async def wait_readable(self) -> None:
            await trio.lowlevel.checkpoint()

        def read_batch(self, limit: int) -> list[bytes]:
            nonlocal batches
            batches += 1
            autojump_clock.jump(0.0001)
            return [noise] * limit if batches < 1000 else []

    async def timer() -> None:
        nonlocal ran_at_batch
        await trio.sleep(0.005)
        ran_at_batch = batches

    link = EndlessLink(vnet_header=True, mtu=1500, capacity=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer)
        async with open_network(link, interface_config(1)):
            while batches < 1000:
                await trio.lowlevel.checkpoint()
    assert 50 <= ran_at_batch <= 100


async def test_link_that_vanishes_is_one_host_error(autojump_clock: MockClock) -> None:
    near_link, _far_link = memory_link_pair()
    with pytest.raises(HostError, match="gone"):
        async with open_network(near_link, interface_config(1)):
            await trio.sleep(1)
            near_link.close()
            await trio.sleep_forever()


async def test_leaving_the_block_resets_the_peers(autojump_clock: MockClock) -> None:
    near_link, far_link = memory_link_pair()
    async with open_network(near_link, interface_config(1)) as client:
        async with open_network(far_link, interface_config(2)) as server:
            listener = server.listen_tcp(7)
            stream = await client.open_tcp_stream(SERVER, 7)
            await listener.accept()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_link_without_the_header_is_refused(autojump_clock: MockClock) -> None:
    near_link, _far_link = memory_link_pair(vnet_header=False)
    with pytest.raises(ValueError, match="virtio"):
        async with open_network(near_link, interface_config(1, vnet_header=True)):
            pass


async def test_drain_waits_for_peers_that_finish_and_resets_the_rest(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        listener = server.listen_tcp(7)
        polite, its_end = await connect(client, server, listener)
        stubborn, other_end = await connect(client, server, listener)
        await its_end.aclose()
        await other_end.aclose()

        async def finish_later() -> None:
            await trio.sleep(0.3)
            await polite.aclose()

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish_later)
            await server.drain(1.0)
        assert trio.current_time() - started == pytest.approx(1.0, abs=0.02)
        # Its FIN came with the first close, the RST with the drain.
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stubborn.send_all(b"x")
                await trio.sleep(0.01)


async def test_drain_returns_as_soon_as_all_have_finished(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))
        await far.aclose()
        await near.aclose()
        started = trio.current_time()
        await server.drain(5.0)
        assert trio.current_time() - started < 0.1


async def test_pool_cap_the_next_connection_is_reset(autojump_clock: MockClock) -> None:
    async with two_networks(max_connections=3) as (client, server):
        server.listen_tcp(7)
        streams: list[TcpStream] = [await client.open_tcp_stream(SERVER, 7) for _ in range(3)]
        with pytest.raises(trio.BrokenResourceError):
            await client.open_tcp_stream(SERVER, 7)
        streams.pop().abort()
        await wait_all_tasks_blocked()
        await client.open_tcp_stream(SERVER, 7)
        await until(lambda: server.pump.timer_tasks == 3)


async def test_shell_needs_little_memory_for_an_idle_connection(autojump_clock: MockClock) -> None:
    """What trio and the shell allocate per connection; the core's share is not in it."""
    count = 200
    async with two_networks() as (client, server):
        server.listen_tcp(7)
        await client.open_tcp_stream(SERVER, 7)
        filters = [tracemalloc.Filter(True, pattern) for pattern in ("*/trio/*", "*/shell/*", "<attrs*")]
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(count):
                client.interface.connect(client.interface.config.address + 1, 7, client.clock.now())
                client.pump.flush()
                await trio.sleep(0.001)
            await trio.sleep(5)
            gc.collect()
            snapshot = tracemalloc.take_snapshot().filter_traces(filters)
        finally:
            tracemalloc.stop()
        assert server.pump.timer_tasks == count + 1
        used = sum(trace.size for trace in snapshot.traces)
    # Both ends are in this process. The core's objects are made in calls from here and count too, compiled.
    assert used / (2 * count) < 6 * 1024
