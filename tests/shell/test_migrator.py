"""MIGRATE through our own stack: targets that answer, late, never, wrongly, or go away half way."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from structlog.testing import capture_logs

from appliance.redis.engine import Engine, EngineSettings
from appliance.redis.resp import RequestParser, ValueParser
from appliance.shell.migrator import Migrator
from appliance.shell.redis_service import RedisService, run_cron
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import TIME_WAIT
from tests.shell.support import CLIENT, SERVER, ask, receive_exactly, two_networks, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from appliance.shell.network import Network
    from appliance.shell.tcp_stream import TcpListener, TcpStream

PORT = 6380
OK = b"+OK\r\n"
READING = b"-IOERR error or timeout reading to target instance\r\n"
WRITING = b"-IOERR error or timeout writing to target instance\r\n"
CONNECTING = b"-IOERR error or timeout connecting to the client\r\n"


class Target:
    """A server in the client's network that plays a script for each connection in turn.

    A script is a list: bytes are sent when one more request has come, a number lets so many seconds pass before
    anything else is read, None closes the connection. What comes after its end is answered OK.
    """

    def __init__(self, network: Network, scripts: list[list[bytes | float | None]]) -> None:
        self.network = network
        self.listener: TcpListener = network.listen_tcp(PORT)
        self.scripts = scripts
        self.connections = 0
        self.requests: list[list[bytes]] = []

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                stream = await self.listener.accept()
                script = self.scripts[self.connections] if self.connections < len(self.scripts) else []
                self.connections += 1
                nursery.start_soon(self._serve, stream, list(script))

    async def _serve(self, stream: TcpStream, script: list[bytes | float | None]) -> None:
        parser = RequestParser(1 << 30)
        try:
            while True:
                step = script[0] if script else OK
                if isinstance(step, float):
                    del script[0]
                    await trio.sleep(step)
                    continue
                if step is None:
                    return
                request = parser.next_request()
                if request is None:
                    data = await stream.receive_some()
                    if not data:
                        return
                    parser.feed(data)
                    continue
                self.requests.append(request)
                del script[:1]
                await stream.send_all(step)
        except trio.BrokenResourceError:
            pass
        finally:
            await stream.aclose()

    def names(self) -> list[bytes]:
        return [b" ".join(request[:2]) for request in self.requests]


@asynccontextmanager
async def appliance(
    *scripts: list[bytes | float | None], tcp: TcpConfig | None = None
) -> AsyncIterator[tuple[TcpStream, Target, Engine, Network]]:
    """A client of an appliance, and a target beside it."""
    engine = Engine(EngineSettings(), random.Random(7).randbytes)
    async with two_networks(tcp=tcp) as (client, server), trio.open_nursery() as nursery:
        target = Target(client, list(scripts))
        service = RedisService(server, engine)
        nursery.start_soon(target.run)
        nursery.start_soon(service.run)
        nursery.start_soon(run_cron, engine, server.clock)
        stream = await client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"MSET a 1 b 2 c 3\r\n", OK)
        yield stream, target, engine, server
        nursery.cancel_scope.cancel()


def migrate(*words: str, host: str = CLIENT, port: int = PORT, timeout_ms: int = 500) -> bytes:
    """A request for keys, and options."""
    return f"MIGRATE {host} {port} '' 0 {timeout_ms} {' '.join(words)}\r\n".encode()


async def call(stream: TcpStream, request: bytes) -> object:
    """The value of the reply to a request."""
    await stream.send_all(request)
    parser = ValueParser()
    while True:
        value = parser.next_value()
        if parser.has_value:
            return value
        parser.feed(await stream.receive_some())


async def keys_left(stream: TcpStream) -> bytes:
    """The values of those of a, b and c that are there."""
    values = await call(stream, b"MGET a b c\r\n")
    assert isinstance(values, list)
    return b"".join([value for value in values if value is not None])


def open_connections(network: Network) -> int:
    return len([one for one in network.interface.connections() if one.state != TIME_WAIT])


async def test_keys_go_and_the_connection_is_kept_for_ten_seconds(autojump_clock: MockClock) -> None:
    async with appliance() as (stream, target, engine, server):
        await ask(stream, migrate("KEYS", "a", "nosuch", "b"), OK)
        assert target.names() == [b"SELECT 0", b"RESTORE a", b"RESTORE b"]
        assert await keys_left(stream) == b"3"
        info = await call(stream, b"INFO stats\r\n")
        assert isinstance(info, bytes)
        assert b"\r\nmigrate_cached_sockets:1\r\n" in info
        await trio.sleep(9)
        await ask(stream, migrate("KEYS", "c"), OK)
        assert target.names()[3:] == [b"RESTORE c"]
        assert target.connections == 1
        await trio.sleep(9.8)
        assert engine.migrations.cached_connections == 1
        await trio.sleep(0.5)
        assert engine.migrations.cached_connections == 0
        await until(lambda: open_connections(server) == 1)


async def test_a_kept_connection_that_was_closed_is_replaced(autojump_clock: MockClock) -> None:
    async with appliance([OK, OK, None]) as (stream, target, _, _):
        await ask(stream, migrate("KEYS", "a"), OK)
        await trio.sleep(1)
        await ask(stream, migrate("KEYS", "b"), OK)
        assert target.connections == 2
        assert target.names() == [b"SELECT 0", b"RESTORE a", b"SELECT 0", b"RESTORE b"]
        assert await keys_left(stream) == b"3"


async def test_a_target_that_always_closes_is_tried_twice(autojump_clock: MockClock) -> None:
    async with appliance([OK, None], [OK, None]) as (stream, target, engine, _):
        await ask(stream, migrate("KEYS", "a"), READING)
        assert target.connections == 2
        assert engine.migrations.cached_connections == 0
        assert await keys_left(stream) == b"123"


async def test_a_late_target_is_waited_for_up_to_the_timeout(autojump_clock: MockClock) -> None:
    """Which begins anew with each answer."""
    async with appliance([OK, 0.4, OK, 0.4, OK, 0.4, OK]) as (stream, _, _, _):
        began = trio.current_time()
        await ask(stream, migrate("KEYS", "a", "b", "c"), OK)
        assert 1.2 <= trio.current_time() - began < 1.5
        assert await keys_left(stream) == b""


async def test_a_target_that_falls_silent_keeps_what_it_acknowledged(autojump_clock: MockClock) -> None:
    async with appliance([OK, OK, 3600.0]) as (stream, target, _, server):
        began = trio.current_time()
        await ask(stream, migrate("KEYS", "a", "b", "c"), READING)
        assert 0.5 <= trio.current_time() - began < 0.6
        assert target.connections == 1
        assert await keys_left(stream) == b"23"
        await until(lambda: open_connections(server) == 1)


async def test_a_target_that_closes_half_way_keeps_what_it_acknowledged(autojump_clock: MockClock) -> None:
    async with appliance([OK, OK, None]) as (stream, target, _, _):
        await ask(stream, migrate("KEYS", "a", "b", "c"), READING)
        assert target.connections == 1
        assert await keys_left(stream) == b"23"


async def test_what_the_target_refuses_stays(autojump_clock: MockClock) -> None:
    async with appliance([OK, b"-BUSYKEY there\r\n", OK, b"-ERR no\r\n"]) as (stream, target, _, _):
        with capture_logs() as logs:
            await ask(
                stream,
                migrate("KEYS", "a", "b", "c"),
                b"-ERR Target instance replied with error: BUSYKEY there\r\n",
            )
        assert await keys_left(stream) == b"13"
        assert [(each["event"], each["keys"], each["taken"]) for each in logs] == [
            ("keys did not leave", 3, 1)
        ]
        await ask(stream, migrate("KEYS", "a"), OK)
        # Kept, but nobody knows which database it has selected.
        assert target.connections == 1
        assert target.names()[4:] == [b"SELECT 0", b"RESTORE a"]


async def test_large_values_go_in_pieces_and_a_target_that_does_not_read_is_given_up(
    autojump_clock: MockClock,
) -> None:
    value = random.Random(1).randbytes(1 << 20)
    small = TcpConfig(send_buffer_limit=1 << 17, receive_buffer_limit=1 << 17)
    async with appliance([], [3600.0], tcp=small) as (stream, target, engine, _):
        engine.databases[0].put(b"large", value)
        await ask(stream, migrate("COPY", "KEYS", "large"), OK)
        assert value in target.requests[1][3]
        await ask(stream, b"STRLEN large\r\n", b":%d\r\n" % len(value))
        await trio.sleep(11)  # the connection is closed
        await ask(stream, migrate("KEYS", "large"), WRITING)
        assert target.connections == 2
        await ask(stream, b"EXISTS large\r\n", b":1\r\n")


async def test_nobody_there(autojump_clock: MockClock) -> None:
    async with appliance() as (stream, target, _, _):
        await ask(stream, migrate("KEYS", "a", port=PORT + 1), WRITING)
        await ask(stream, migrate("KEYS", "a", port=0), WRITING)
        await ask(stream, migrate("KEYS", "a", host=SERVER), CONNECTING)
        await ask(stream, migrate("KEYS", "a", host="''"), CONNECTING)
        await ask(stream, migrate("KEYS", "a", host="\\xff"), CONNECTING)
        began = trio.current_time()
        await ask(stream, migrate("KEYS", "a", host="10.0.0.77"), CONNECTING)
        assert 0.5 <= trio.current_time() - began < 0.6
        assert target.connections == 0
        assert await keys_left(stream) == b"123"


async def test_names_are_asked_of_the_resolver(autojump_clock: MockClock) -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(  # type: ignore[override]
            self, host: bytes, *_rest: object
        ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
            if host == b"slow":
                await trio.sleep(60)
            if host != b"target":
                raise OSError("no such host")
            return [(2, 1, 6, "", (CLIENT, 0))]

        async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Resolver())
    async with appliance() as (stream, target, _, _):
        await ask(stream, migrate("KEYS", "a", host="target"), OK)
        await ask(stream, migrate("KEYS", "b", host="nosuch"), CONNECTING)
        await ask(stream, migrate("KEYS", "b", host="slow"), CONNECTING)
        assert target.names() == [b"SELECT 0", b"RESTORE a"]


async def test_others_read_meanwhile_and_what_they_write_waits(autojump_clock: MockClock) -> None:
    async with appliance([0.3, OK, OK]) as (stream, target, _, _):
        await stream.send_all(migrate("KEYS", "a") + b"GET a\r\n")
        other = await target.network.open_tcp_stream(SERVER, 6379)
        await ask(other, b"GET a\r\n", b"$1\r\n1\r\n")
        began = trio.current_time()
        await ask(other, b"SET a new\r\n", OK)
        assert trio.current_time() - began > 0.2
        assert await receive_exactly(stream, 5) == OK
        await ask(other, b"GET a\r\n", b"$3\r\nnew\r\n")


async def test_in_a_transaction(autojump_clock: MockClock) -> None:
    async with appliance([0.3, OK, OK, OK]) as (stream, target, engine, _):
        await stream.send_all(
            b"MULTI\r\n" + migrate("KEYS", "a") + migrate("KEYS", "b") + b"EXISTS a b\r\nEXEC\r\n"
        )
        other = await target.network.open_tcp_stream(SERVER, 6379)
        began = trio.current_time()
        await ask(other, b"EXISTS a b\r\n", b":0\r\n")
        assert trio.current_time() - began > 0.2
        expected = OK + b"+QUEUED\r\n" * 3 + b"*3\r\n+OK\r\n+OK\r\n:0\r\n"
        assert await receive_exactly(stream, len(expected)) == expected
        assert engine.mode == 0


async def test_in_a_script(autojump_clock: MockClock) -> None:
    async with appliance([OK, 0.3, OK, b"-ERR no\r\n"]) as (stream, _, engine, _):
        call = f"redis.pcall('MIGRATE', '{CLIENT}', {PORT}, KEYS[%d], 0, 500)"
        script = f"return {{{call % 1}, {call % 2}, redis.call('EXISTS', 'a', 'b')}}"
        error = b"-ERR Target instance replied with error: ERR no\r\n"
        await ask(stream, f'EVAL "{script}" 2 a b\r\n'.encode(), b"*3\r\n+OK\r\n" + error + b":1\r\n")
        assert engine.mode == 0


async def test_the_client_goes_away_and_the_keys_all_the_same(autojump_clock: MockClock) -> None:
    async with appliance([0.3, OK, OK]) as (stream, target, engine, _):
        await stream.send_all(migrate("KEYS", "a"))
        other = await target.network.open_tcp_stream(SERVER, 6379)
        await ask(other, b"EXISTS a\r\n", b":1\r\n")
        await stream.aclose()
        await until(lambda: engine.mode == 0)
        await ask(other, b"EXISTS a\r\n", b":0\r\n")


async def test_between_two_appliances(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server), trio.open_nursery() as nursery:
        engines = []
        for network in (client, server):
            engine = Engine(EngineSettings(requirepass="pw"), random.Random(7).randbytes)
            service = RedisService(network, engine)
            nursery.start_soon(service.run)
            nursery.start_soon(run_cron, engine, network.clock)
            engines.append(engine)
        target, source = engines
        stream = await client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"AUTH pw\r\n", OK)
        await ask(stream, b"SET k v PX 60000\r\nRPUSH l a b c\r\n", OK + b":3\r\n")
        request = f"MIGRATE {CLIENT} 6379 '' 2 500 AUTH {{}} KEYS k l\r\n"
        await ask(
            stream,
            request.format("wrong").encode(),
            b"-ERR Target instance replied with error: "
            b"WRONGPASS invalid username-password pair or user is disabled.\r\n",
        )
        await ask(stream, request.format("pw").encode(), OK)
        assert source.databases[0].live_keys() == []
        moved = target.databases[2]
        assert moved.find_value(b"k") == b"v"
        left_ms = moved.find_expire_time(b"k") - target.clock.now_ms
        assert 59_000 < left_ms <= 60_000
        assert sorted(moved.live_keys()) == [b"k", b"l"]
        nursery.cancel_scope.cancel()


async def test_the_end_of_the_service_leaves_no_connection_and_no_port(autojump_clock: MockClock) -> None:
    engine = Engine(EngineSettings(), random.Random(7).randbytes)
    async with two_networks() as (client, server), trio.open_nursery() as nursery:
        target = Target(client, [[OK, OK, 3600.0]])
        nursery.start_soon(target.run)
        migrator = Migrator(engine, server, lambda: None)
        async with trio.open_nursery() as inner:
            session = engine.create_session(remote="", local="", now_us=server.clock.unix_now())
            session.data_received(b"MSET a 1 b 2\r\n" + migrate("KEYS", "a"), server.clock.unix_now())
            inner.start_soon(migrator.run)  # which is in time for what has come before it
            await until(lambda: engine.mode == 0)
            assert b"".join(session.take_output()).endswith(OK + OK)
            session.data_received(migrate("KEYS", "b", port=PORT), server.clock.unix_now())
            inner.cancel_scope.cancel()
        assert engine.migrations.port is None
        await until(lambda: open_connections(server) == 0)
        session.data_received(migrate("KEYS", "b"), server.clock.unix_now())
        nursery.cancel_scope.cancel()
