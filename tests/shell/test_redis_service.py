"""Redis sessions on our TCP, driven from the pump, and on other streams."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from appliance.redis.engine import Engine, EngineSettings
from appliance.shell.clock import Clock
from appliance.shell.link import MemoryLink
from appliance.shell.redis_service import RedisService, dispatch_pending, run_cron, serve_redis_stream
from appliance.stack.timebase import NEVER
from tests.shell.support import EPOCH_US, SERVER, ask, lose_all, receive_exactly, two_networks, until
from tests.support.packets import Packet, parse

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


async def receive_until(stream: trio.abc.ReceiveStream, end: bytes) -> None:
    received = b""
    while not received.endswith(end):
        received += await stream.receive_some()


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


async def test_session_that_fails_ends_its_own_connection_only(autojump_clock: MockClock) -> None:
    def broken(_session: object, _args: list[bytes]) -> object:
        raise ZeroDivisionError

    async with redis_at_6379() as (client, _server, service):
        echo = service.engine.registry.find(b"ECHO")
        assert echo is not None
        echo.function = broken
        good = await open_client(client)
        bad = await open_client(client)
        await ask(bad, b"PING\r\n", b"+PONG\r\n")
        with capture_logs() as logs:
            await bad.send_all(b"ECHO x\r\n")
            with pytest.raises(trio.BrokenResourceError):
                await bad.receive_some()
        await ask(good, b"PING\r\n", b"+PONG\r\n")
    assert [(log["log_level"], log["exc_info"]) for log in logs] == [("error", True)]


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


@asynccontextmanager
async def redis_over(*streams: trio.abc.Stream, has_cron: bool = False) -> AsyncIterator[Engine]:
    """An engine behind these ends of streams; no session is left of it."""
    engine = new_engine()
    clock = Clock(EPOCH_US)
    async with trio.open_nursery() as nursery:
        if has_cron:
            nursery.start_soon(run_cron, engine, clock)
        for stream in streams:
            nursery.start_soon(serve_redis_stream, engine, stream, clock)
        yield engine
        if has_cron:
            nursery.cancel_scope.cancel()
    assert engine.sessions == {}


async def test_redis_over_a_memory_stream(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    async with redis_over(far):
        await ask(near, b"SET a 1\r\n", b"+OK\r\n")
        await near.send_all(b"GET a\r\nQUIT\r\n")
        assert await rest_of(near) == b"$1\r\n1\r\n+OK\r\n"


async def test_redis_over_a_stream_ends_with_its_peer(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    async with redis_over(far):
        await ask(near, b"PING\r\n", b"+PONG\r\n")
        await near.aclose()


async def test_messages_that_come_while_one_is_being_sent_follow_it(autojump_clock: MockClock) -> None:
    near, far = lockstep_stream_pair()
    async with redis_over(far) as engine:
        await ask(near, b"PING\r\n", b"+PONG\r\n")
        (session,) = engine.sessions.values()
        for message in (b"+one\r\n", b"+two\r\n", b"+three\r\n"):
            session.push(message)
            engine.mark_pending(session)
            dispatch_pending(engine)
            await wait_all_tasks_blocked()  # in the middle of sending the first one
        session.is_closing = True
        engine.mark_pending(session)
        dispatch_pending(engine)
        assert await rest_of(near) == b"+one\r\n+two\r\n+three\r\n"


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


# ---- commands that wait, and messages


async def test_blpop_is_served_by_another_client(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        waiting, other = await open_client(client), await open_client(client)
        await waiting.send_all(b"BLPOP l 0\r\nECHO behind\r\n")
        await until(lambda: service.engine.blocked.count == 1)
        await ask(other, b"RPUSH l x\r\n", b":1\r\n")
        expected = b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n$6\r\nbehind\r\n"
        assert await receive_exactly(waiting, len(expected)) == expected
        await ask(waiting, b"PING\r\n", b"+PONG\r\n")


async def test_blpop_gives_up_on_time(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, _service):
        stream, later = await open_client(client), await open_client(client)
        begin = trio.current_time()
        await later.send_all(b"BLPOP l 20\r\n")
        await ask(stream, b"BLPOP l 2.5\r\n", b"*-1\r\n")
        assert 2.5 <= trio.current_time() - begin < 2.51
        assert await receive_exactly(later, 5) == b"*-1\r\n"
        assert 20 <= trio.current_time() - begin < 20.01


async def test_client_pause_holds_others_for_its_time(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, _service):
        one, other = await open_client(client), await open_client(client)
        await ask(one, b"CLIENT PAUSE 2500 WRITE\r\n", b"+OK\r\n")
        begin = trio.current_time()
        await ask(one, b"GET k\r\n", b"$-1\r\n")
        assert trio.current_time() - begin < 0.1
        await ask(other, b"SET k 1\r\nGET k\r\n", b"+OK\r\n$1\r\n1\r\n")
        assert 2.5 <= trio.current_time() - begin < 2.51
        await ask(one, b"CLIENT PAUSE 60000 WRITE\r\n", b"+OK\r\n")
        await other.send_all(b"SET k 2\r\n")
        await trio.sleep(1)
        await ask(one, b"CLIENT UNPAUSE\r\n", b"+OK\r\n")
        await ask(other, b"", b"+OK\r\n")
        assert trio.current_time() - begin < 5


async def test_debug_sleep_stops_clients_but_not_the_pump(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        service.engine.configuration.override({"enable-debug-command": "yes"})
        one, other = await open_client(client), await open_client(client)
        begin = trio.current_time()
        await one.send_all(b"DEBUG SLEEP 1.5\r\nINCR n\r\n")
        await trio.sleep(0.5)
        # A handshake is packets alone; what the client says waits.
        late = await open_client(client)
        assert trio.current_time() - begin < 0.6
        await other.send_all(b"INCR n\r\n")
        await ask(late, b"INCR n\r\n", b":3\r\n")
        assert 1.5 <= trio.current_time() - begin < 1.51
        await ask(one, b"", b"+OK\r\n:1\r\n")
        await ask(other, b"", b":2\r\n")


async def test_a_cache_is_told_of_changes_in_the_same_step(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, _service):
        cache, writer = await open_client(client), await open_client(client)
        await cache.send_all(b"HELLO 3\r\nCLIENT TRACKING ON BCAST PREFIX k\r\n")
        await receive_until(cache, b"+OK\r\n")
        await ask(writer, b"SET k2 1\r\nSET other 1\r\nSET k1 1\r\n", b"+OK\r\n" * 3)
        told = b">2\r\n$10\r\ninvalidate\r\n*2\r\n$2\r\nk1\r\n$2\r\nk2\r\n"
        assert await receive_exactly(cache, len(told)) == told


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_client_that_leaves_while_it_waits_leaves_the_queue_at_once(
    autojump_clock: MockClock, how: str
) -> None:
    async with redis_at_6379() as (client, _server, service):
        gone, other = await open_client(client), await open_client(client)
        await gone.send_all(b"BLPOP l 0\r\nSET never 1\r\n")
        await until(lambda: service.engine.blocked.count == 1)
        if how == "fin":
            await gone.aclose()
        else:
            gone.abort()
        await until(lambda: service.engine.blocked.count == 0, 0.01)
        await ask(other, b"RPUSH l x\r\n", b":1\r\n")
        await ask(other, b"LLEN l\r\n", b":1\r\n")
        await ask(other, b"EXISTS never\r\n", b":0\r\n")
        assert len(service.engine.sessions) == 1


async def test_input_behind_a_waiting_command_is_bounded(
    autojump_clock: MockClock,
) -> None:
    limit = 1 << 20
    async with redis_at_6379(input_limit=limit) as (client, server, service):
        stream, other = await open_client(client), await open_client(client)
        count = 300_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"BLPOP l 0\r\n" + b"INCR n\r\n" * count)
            await trio.sleep(5)
            kept = max(session.kept_bytes for session in service.engine.sessions.values())
            assert kept <= limit + 65_536
            assert any(one.receivable() > 0 for one in server.interface.connections())
            await ask(other, b"RPUSH l x\r\n", b":1\r\n")
            replies = b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n" + b"".join(b":%d\r\n" % (n + 1) for n in range(count))
            assert await receive_exactly(stream, len(replies)) == replies


async def test_client_kill_and_unblock_reach_one_who_waits(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        waiting, other = await open_client(client), await open_client(client)
        await ask(waiting, b"CLIENT ID\r\n", b":1\r\n")
        await waiting.send_all(b"BLPOP l 0\r\n")
        await until(lambda: service.engine.blocked.count == 1)
        await ask(other, b"CLIENT UNBLOCK 1\r\n", b":1\r\n")
        assert await receive_exactly(waiting, 5) == b"*-1\r\n"
        await waiting.send_all(b"BLPOP l 0\r\n")
        await until(lambda: service.engine.blocked.count == 1)
        await ask(other, b"CLIENT KILL ID 1\r\n", b":1\r\n")
        assert await rest_of(waiting) == b""
        assert service.engine.blocked.count == 0


async def test_a_message_reaches_all_who_listen(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, _service):
        listeners = [await open_client(client) for _ in range(20)]
        for stream in listeners:
            await ask(stream, b"SUBSCRIBE c\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        other = await open_client(client)
        await ask(other, b"PUBLISH c hello\r\n", b":20\r\n")
        message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhello\r\n"
        for stream in listeners:
            assert await receive_exactly(stream, len(message)) == message


async def test_too_many_clients_are_told_and_closed(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        first = await open_client(client)
        await ask(first, b"CONFIG SET maxclients 1\r\n", b"+OK\r\n")
        second = await open_client(client)
        assert await rest_of(second) == b"-ERR max number of clients reached\r\n"
        await second.aclose()
        await ask(first, b"PING\r\n", b"+PONG\r\n")
        assert service.engine.rejected_connections == 1


async def test_waiting_over_another_stream(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    other, others_end = memory_stream_pair()
    async with redis_over(far, others_end, has_cron=True) as engine:
        begin = trio.current_time()
        await ask(near, b"BLPOP l 1\r\n", b"*-1\r\n")
        assert 1 <= trio.current_time() - begin < 1.01
        await near.send_all(b"BLPOP l 0\r\nPING\r\n")
        await wait_all_tasks_blocked()
        await ask(other, b"RPUSH l x\r\n", b":1\r\n")
        expected = b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n+PONG\r\n"
        assert await receive_exactly(near, len(expected)) == expected
        await near.send_all(b"BLPOP l 0\r\n")
        await wait_all_tasks_blocked()
        await near.aclose()
        await wait_all_tasks_blocked()
        assert engine.blocked.count == 0


async def test_a_subscriber_that_never_reads_is_closed_at_its_hard_limit(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, service):
        deaf = await open_client(client)
        await ask(deaf, b"SUBSCRIBE c\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        speaker = await open_client(client)
        await ask(speaker, b"CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'\r\n", b"+OK\r\n")
        message = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1000000\r\n" + bytes(1_000_000) + b"\r\n"
        heard = 0
        for _ in range(60):
            await speaker.send_all(message)
            heard += (await receive_exactly(speaker, 4)) == b":1\r\n"
        # 32 MiB are kept for it, and what the two ends of the connection hold.
        assert 33 <= heard < 50
        limits = service.engine.client_limits
        assert limits.output_buffer_disconnections == 1
        assert len(service.engine.sessions) == 1
        # What nobody takes is not kept for ever.
        await trio.sleep(3)
        assert len(server.interface.connections()) == 1
        await ask(speaker, b"PING\r\n", b"+PONG\r\n")


async def test_a_subscriber_is_closed_after_its_time_above_the_soft_limit(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        deaf = await open_client(client)
        await ask(deaf, b"SUBSCRIBE c\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        speaker = await open_client(client)
        message = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1000000\r\n" + bytes(1_000_000) + b"\r\n"
        for _ in range(16):
            await speaker.send_all(message)
            assert await receive_exactly(speaker, 4) == b":1\r\n"
        await trio.sleep(58)
        assert len(service.engine.sessions) == 2
        await trio.sleep(4)
        assert len(service.engine.sessions) == 1
        assert service.engine.client_limits.output_buffer_disconnections == 1


async def test_a_client_below_its_limits_gets_all_it_is_owed(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        listener = await open_client(client)
        await ask(listener, b"SUBSCRIBE c\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        speaker = await open_client(client)
        message = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1000000\r\n" + bytes(1_000_000) + b"\r\n"
        for _ in range(16):
            await speaker.send_all(message)
            await receive_exactly(speaker, 4)
        expected = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1000000\r\n" + bytes(1_000_000) + b"\r\n"
        for _ in range(16):
            assert await receive_exactly(listener, len(expected)) == expected
        await trio.sleep(120)
        assert len(service.engine.sessions) == 2
        assert all(session.unsent_bytes == 0 for session in service.engine.sessions.values())


async def test_an_idle_client_is_closed_over_our_tcp(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, service):
        idle = await open_client(client)
        await ask(idle, b"CONFIG SET timeout 10\r\n", b"+OK\r\n")
        begin = trio.current_time()
        assert await rest_of(idle) == b""
        assert 10 <= trio.current_time() - begin < 11.2
        await idle.aclose()
        await until(lambda: server.pump.timer_tasks <= 1)
        assert service.engine.sessions == {}


async def test_keep_alive_is_that_of_the_time_a_client_came(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, _service):
        first = await open_client(client)
        await ask(first, b"CONFIG SET tcp-keepalive 30\r\n", b"+OK\r\n")
        second = await open_client(client)
        await ask(second, b"PING\r\n", b"+PONG\r\n")
        await ask(second, b"CONFIG SET tcp-keepalive 0\r\n", b"+OK\r\n")
        third = await open_client(client)
        await ask(third, b"PING\r\n", b"+PONG\r\n")
        connections = server.interface.connections()
        assert sorted(one.keepalive_idle_us for one in connections if one.keepalive_deadline != NEVER) == [
            30_000_000,
            300_000_000,
        ]


async def test_a_silent_client_is_probed_and_a_vanished_one_is_let_go_of(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, service):
        stream = await open_client(client)
        await ask(stream, b"CONFIG SET tcp-keepalive 30\r\n", b"+OK\r\n")
        silent = await open_client(client)
        await ask(silent, b"CLIENT SETNAME silent\r\n", b"+OK\r\n")
        await stream.aclose()
        await until(lambda: len(service.engine.sessions) == 1)
        server_link, client_link = server.link, client.link
        assert isinstance(server_link, MemoryLink)
        assert isinstance(client_link, MemoryLink)
        sent: list[Packet] = []
        answers: list[Packet] = []

        def seen(kept: list[Packet], frame: bytes) -> list[bytes]:
            packet = parse(frame)
            if packet.kind == "tcp":
                kept.append(packet)
            return [frame]

        server_link.on_write = lambda frame: seen(sent, frame)
        client_link.on_write = lambda frame: seen(answers, frame)
        await trio.sleep(29)
        assert sent == []
        answers.clear()
        await trio.sleep(2)
        (probe,) = sent
        (answer,) = answers
        assert probe.data == b""
        assert (
            probe.seq == (answer.ack - 1) & 0xFFFF_FFFF
        )  # RFC 9293 3.8.4: a byte that has been acknowledged
        await trio.sleep(100)
        assert len(sent) == len(answers) == 4
        assert len(service.engine.sessions) == 1
        client_link.on_write = lose_all
        await trio.sleep(45)  # three probes, ten seconds apart
        assert len(service.engine.sessions) == 1
        await trio.sleep(30)
        assert len(service.engine.sessions) == 0


async def test_what_a_client_is_told_ends_its_idleness(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, _server, service):
        listening, speaking = await open_client(client), await open_client(client)
        await ask(listening, b"SUBSCRIBE c\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        await ask(speaking, b"PING\r\n", b"+PONG\r\n")
        await trio.sleep(50)
        await ask(speaking, b"PUBLISH c x\r\n", b":1\r\n")
        first, second = service.engine.sessions.values()
        assert first.last_interaction_us == second.last_interaction_us


async def test_no_more_clients_can_be_asked_for_than_there_is_room_for(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, service):
        stream = await open_client(client)
        most = server.interface.config.max_connections
        refusal = (
            b"-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not "
            b"able to handle the specified number of clients, try with %d\r\n" % most
        )
        await ask(stream, b"CONFIG SET maxclients %d\r\n" % (most + 1), refusal)
        await ask(stream, b"CONFIG SET maxclients 1\r\n", b"+OK\r\n")
        other = await open_client(client)
        assert await rest_of(other) == b"-ERR max number of clients reached\r\n"
        assert service.engine.rejected_connections == 1
        await ask(stream, b"CONFIG SET maxclients %d\r\n" % most, b"+OK\r\n")
        third = await open_client(client)
        await ask(third, b"PING\r\n", b"+PONG\r\n")


async def test_a_stream_that_does_not_take_its_messages_is_closed_too(autojump_clock: MockClock) -> None:
    near, far = lockstep_stream_pair()
    other, others_end = memory_stream_pair()
    async with redis_over(far, others_end, has_cron=True) as engine:
        await ask(near, b"SUBSCRIBE c\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        await ask(other, b"CONFIG SET client-output-buffer-limit 'pubsub 1mb 0 0'\r\n", b"+OK\r\n")
        message = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$900000\r\n" + bytes(900_000) + b"\r\n"
        for _ in range(3):
            await other.send_all(message)
            assert await receive_exactly(other, 4) == b":1\r\n"
            await wait_all_tasks_blocked()
        await trio.sleep(1.5)
        assert len(engine.sessions) == 1
        assert engine.client_limits.output_buffer_disconnections == 1


async def test_config_set_port_moves_the_listener_and_leaves_clients_alone(autojump_clock: MockClock) -> None:
    async with redis_at_6379() as (client, server, service):
        old = await open_client(client)
        await ask(old, b"CONFIG SET port 7000\r\n", b"+OK\r\n")
        await ask(old, b"PING\r\n", b"+PONG\r\n")
        new = await client.open_tcp_stream(SERVER, 7000)
        await ask(new, b"PING\r\n", b"+PONG\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await open_client(client)
        server.listen(7001)
        refused = (
            b"-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. "
        )
        await ask(old, b"CONFIG SET timeout 9 port 7001\r\n", refused + b"Check server logs.\r\n")
        await ask(old, b"CONFIG GET port\r\n", b"*2\r\n$4\r\nport\r\n$4\r\n7000\r\n")
        await ask(old, b"CONFIG SET port 0\r\n", b"+OK\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await client.open_tcp_stream(SERVER, 7000)
        await ask(old, b"CONFIG SET port 6379\r\n", b"+OK\r\n")
        again = await open_client(client)
        await ask(again, b"PING\r\n", b"+PONG\r\n")
        assert service.engine.settings.port == 6379


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [
        ("*", True),
        ("10.0.0.2", True),
        ("'10.0.0.2 -::1'", True),
        ("10.0.0.9", False),
        ("-10.0.0.9", True),
        ("-x", False),
    ],
)
async def test_bind_takes_the_address_there_is(value: str, is_taken: bool, autojump_clock: MockClock) -> None:
    refused = b"-ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.\r\n"
    async with redis_at_6379() as (client, _server, _service):
        stream = await open_client(client)
        await ask(stream, f"CONFIG SET bind {value}\r\n".encode(), b"+OK\r\n" if is_taken else refused)
