"""Redis sessions on our TCP, driven from the pump, and on other streams."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from appliance.redis.engine import Engine, EngineSettings
from appliance.shell.clock import Clock
from appliance.shell.redis_service import RedisService, run_cron, serve_redis_stream
from tests.shell.support import EPOCH_US, SERVER, ask, receive_exactly, two_networks, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from appliance.shell.network import Network
    from appliance.shell.tcp_stream import TcpStream


def new_engine() -> Engine:
    return Engine(EngineSettings(), random.Random(7).randbytes)


@asynccontextmanager
async def redis_at_6379(**options: int) -> AsyncIterator[tuple[Network, Network, RedisService]]:
    """A client's network, the server's, and its Redis service with housekeeping."""
    async with two_networks() as (client, server), trio.open_nursery() as nursery:
        service = RedisService(server, new_engine(), 6379, **options)
        nursery.start_soon(service.run)
        nursery.start_soon(run_cron, service.engine, server.clock)
        yield client, server, service
        nursery.cancel_scope.cancel()


async def open_client(client: Network) -> TcpStream:
    stream = await client.open_tcp_stream(SERVER, 6379)
    stream.set_nodelay(True)
    return stream


async def rest_of(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_set_get_over_our_tcp(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, _service):
        stream = await open_client(client)
        await ask(stream, b"SET a 1\r\n", b"+OK\r\n")
        await ask(stream, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$1\r\n1\r\n")


async def test_request_split_into_single_bytes_is_answered_once(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, _service):
        stream = await open_client(client)
        for byte in b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n":
            await stream.send_all(bytes((byte,)))
            await trio.sleep(0.001)
        assert await receive_exactly(stream, 11) == b"$5\r\nhello\r\n"
        await ask(stream, b"PING\r\n", b"+PONG\r\n")


async def test_pipeline_of_many_requests_is_answered_in_order(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, _service):
        stream = await open_client(client)
        count = 20_000
        requests = b"".join(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" for _ in range(count))
        replies = b"".join(b":%d\r\n" % (n + 1) for n in range(count))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, requests)
            assert await receive_exactly(stream, len(replies)) == replies
        # Replies to one batch leave in a few big segments, not in one each.
        assert server.interface.counters.as_dict()["segments_out"] < count / 20


async def test_requests_of_one_batch_are_answered_in_one_step(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, _service):
        stream = await open_client(client)
        await ask(stream, b"PING\r\n", b"+PONG\r\n")
        await trio.sleep(1)
        before = server.interface.counters.as_dict()["segments_out"]
        await ask(stream, b"PING\r\n", b"+PONG\r\n")
        # The reply carries the ACK; there is no segment beside it.
        assert server.interface.counters.as_dict()["segments_out"] == before + 1


async def test_value_of_8_mib_comes_back_whole(autojump_clock: MockClock) -> None:
    value = random.Random(1).randbytes(8 << 20)
    async with redis_at_6379() as (client, _server, _service):
        stream = await open_client(client)
        request = b"*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n%b\r\n" % (len(value), value)
        await ask(stream, request, b"+OK\r\n")
        await ask(stream, b"GET v\r\n", b"$%d\r\n%b\r\n" % (len(value), value))


async def test_client_that_does_not_read_is_not_read_beyond_the_limit(autojump_clock: MockClock) -> None:
    limit = 1 << 20
    value = bytes(100_000)
    async with redis_at_6379(output_limit=limit) as (client, server, service):
        stream = await open_client(client)
        await ask(stream, b"*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$100000\r\n" + value + b"\r\n", b"+OK\r\n")
        count = 200_000
        with trio.move_on_after(5):
            await stream.send_all(b"GET v\r\n" * count)
        connection = server.interface.connections()[0]
        kept = connection.owner.handler.kept_bytes  # type: ignore[union-attr]
        # One read of 64 KiB may ask for much more than the limit; after it nothing more is read.
        assert limit < kept < limit + (65536 // 7 + 1) * 100_010
        assert connection.receivable() > 0
        # Its window is shut, the client waits; another client does not notice.
        assert client.interface.connections()[0].send_space() < 7 * count
        other = await open_client(client)
        await ask(other, b"PING\r\n", b"+PONG\r\n")
        # Reading opens it again.
        reply = b"$100000\r\n" + value + b"\r\n"
        for _ in range(300):
            assert await receive_exactly(stream, len(reply)) == reply
        assert service.lingering == set()


async def test_quit_is_answered_then_closed(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, _service):
        stream = await open_client(client)
        await stream.send_all(b"QUIT\r\n")
        assert await rest_of(stream) == b"+OK\r\n"
        await stream.aclose()
        await until(lambda: server.pump.timer_tasks <= 1)


async def test_protocol_error_text_arrives_although_more_data_follows(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        stream = await open_client(client)
        await stream.send_all(b"*x\r\n")
        await trio.sleep(0.1)
        await stream.send_all(b"SET a 1\r\n" * 1000)
        await trio.sleep(0.1)
        assert await rest_of(stream) == b"-ERR Protocol error: invalid multibulk length\r\n"
        assert len(service.engine.databases[0]) == 0


async def test_peer_that_never_closes_is_let_go_after_the_linger(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        stream = await open_client(client)
        await stream.send_all(b"QUIT\r\n")
        assert await rest_of(stream) == b"+OK\r\n"
        assert len(service.lingering) == 1
        await trio.sleep(2.2)
        assert service.lingering == set()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"PING\r\n")
                await trio.sleep(0.01)


async def test_half_closed_client_gets_its_replies_then_fin(autojump_clock: MockClock) -> None:
    """`printf 'PING\\r\\n' | nc -N`: data and FIN in one segment."""
    async with redis_at_6379() as (client, server, service):
        stream = await open_client(client)
        await stream.send_all(b"PING\r\nECHO last\r\n")
        await stream.send_eof()
        assert await rest_of(stream) == b"+PONG\r\n$4\r\nlast\r\n"
        await stream.aclose()
        await until(lambda: server.interface.connections() == [], 100)
        assert service.engine.sessions == {}


async def test_reset_peer_is_forgotten(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, service):
        stream = await open_client(client)
        await ask(stream, b"PING\r\n", b"+PONG\r\n")
        assert len(service.engine.sessions) == 1
        stream.abort()
        await trio.sleep(0.01)
        assert service.engine.sessions == {}
        assert server.interface.connections() == []
        assert server.pump.timer_tasks == 0


async def test_client_kill_closes_the_other_connection(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        victim = await open_client(client)
        await ask(victim, b"PING\r\n", b"+PONG\r\n")
        host, port = victim.local
        killer = await open_client(client)
        await ask(killer, f"CLIENT KILL {host}:{port}\r\n".encode(), b"+OK\r\n")
        assert await rest_of(victim) == b""
        assert len(service.engine.sessions) == 1


async def test_session_that_fails_ends_its_own_connection_only(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_session: object, _args: list[bytes]) -> object:
        raise ZeroDivisionError

    async with redis_at_6379() as (client, _server, service):
        echo = service.engine.registry.find(b"ECHO")
        assert echo is not None
        echo.function = broken
        good = await open_client(client)
        bad = await open_client(client)
        await ask(bad, b"PING\r\n", b"+PONG\r\n")
        await bad.send_all(b"ECHO x\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await bad.receive_some()
        await ask(good, b"PING\r\n", b"+PONG\r\n")
    output = capsys.readouterr()
    assert "ZeroDivisionError" in output.out + output.err


async def test_time_of_the_engine_is_the_wall_clock(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, _service):
        stream = await open_client(client)
        await ask(stream, b"SET a 1 EX 100\r\n", b"+OK\r\n")
        await trio.sleep(40)
        await ask(stream, b"TTL a\r\n", b":60\r\n")
        await ask(stream, b"EXPIRETIME a\r\n", b":%d\r\n" % (EPOCH_US // 1_000_000 + 100))
        await trio.sleep(61)
        await ask(stream, b"EXISTS a\r\n", b":0\r\n")


async def test_cron_expires_keys_nobody_asks_for(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        stream = await open_client(client)
        await ask(stream, b"SET a 1 PX 50\r\n", b"+OK\r\n")
        await trio.sleep(2)
        assert len(service.engine.databases[0]) == 0


async def test_stop_closes_clients_after_their_replies(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, service):
        stream = await open_client(client)
        await ask(stream, b"PING\r\n", b"+PONG\r\n")
        service.stop()
        assert await rest_of(stream) == b""
        await stream.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await open_client(client)
        await server.drain(1.0)
        assert service.engine.sessions == {}


# ---- the same sessions on another stream


async def test_redis_over_a_memory_stream(autojump_clock: MockClock) -> None:
    engine = new_engine()
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_redis_stream, engine, far, Clock(EPOCH_US))
        await ask(near, b"SET a 1\r\n", b"+OK\r\n")
        await near.send_all(b"GET a\r\nQUIT\r\n")
        assert await rest_of(near) == b"$1\r\n1\r\n+OK\r\n"
    assert engine.sessions == {}


async def test_redis_over_a_stream_ends_with_its_peer(autojump_clock: MockClock) -> None:
    engine = new_engine()
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_redis_stream, engine, far, Clock(EPOCH_US))
        await ask(near, b"PING\r\n", b"+PONG\r\n")
        await near.aclose()
    assert engine.sessions == {}


async def test_client_kill_ends_a_stream_that_waits_for_requests(autojump_clock: MockClock) -> None:
    engine = new_engine()
    clock = Clock(EPOCH_US)
    victim, victims_end = memory_stream_pair()
    killer, killers_end = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_redis_stream(engine, victims_end, clock, remote="1.2.3.4:5"))
        nursery.start_soon(lambda: serve_redis_stream(engine, killers_end, clock, remote="1.2.3.4:6"))
        await ask(victim, b"PING\r\n", b"+PONG\r\n")
        await wait_all_tasks_blocked()
        await ask(killer, b"CLIENT KILL 1.2.3.4:5\r\n", b"+OK\r\n")
        assert await rest_of(victim) == b""
        await killer.send_all(b"QUIT\r\n")
        assert await rest_of(killer) == b"+OK\r\n"
    assert engine.sessions == {}
