"""The control socket: its file, its commands, its independence."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.errors import HostError
from appliance.redis.engine import Engine, EngineSettings
from appliance.redis.replies import Map
from appliance.redis.resp import ValueParser
from appliance.shell.control import ControlServer, bound_control_socket, encode_request
from appliance.shell.redis_service import RedisService
from tests.shell.support import SERVER, ask, lose_all, memory_link_pair, two_networks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from appliance.shell.link import MemoryLink
    from appliance.shell.network import Network


class Control:
    """A client of the control socket that understands replies."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._parser = ValueParser()

    async def ask(self, *arguments: str) -> object:
        await self.stream.send_all(encode_request([argument.encode() for argument in arguments]))
        while True:
            self._parser.feed(await self.stream.receive_some())
            value = self._parser.next_value()
            if self._parser.has_value:
                return value


@asynccontextmanager
async def controlled(
    path: Path, links: tuple[MemoryLink, MemoryLink] | None = None
) -> AsyncIterator[tuple[Network, Network, Control, trio.Event]]:
    stopped = trio.Event()
    engine = Engine(EngineSettings(), random.Random(7).randbytes)
    async with two_networks(links=links) as (client, server), trio.open_nursery() as nursery:
        RedisService(server, engine, 6379)
        control = ControlServer(
            server, engine, status=lambda: {"name": "test", "port": 6379}, on_stop=stopped.set
        )
        with bound_control_socket(path) as listening:
            nursery.start_soon(control.serve, listening)
            async with await trio.open_unix_socket(os.fspath(path)) as stream:
                yield client, server, Control(stream), stopped
            nursery.cancel_scope.cancel()


def as_dict(reply: object) -> dict[bytes, object]:
    """A map, as RESP2 and as RESP3 carry it."""
    flat = reply.flat if isinstance(reply, Map) else reply
    assert isinstance(flat, list)
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def test_redis_commands_work_on_the_control_socket(tmp_path: Path) -> None:
    async with controlled(tmp_path / "c.sock") as (_client, _server, control, _stopped):
        assert await control.ask("SET", "a", "1") is not None
        assert await control.ask("GET", "a") == b"1"
        await ask(control.stream, b"PING\r\nECHO x\r\n", b"+PONG\r\n$1\r\nx\r\n")


async def test_status_is_flat_in_resp2_and_a_map_in_resp3(tmp_path: Path) -> None:
    async with controlled(tmp_path / "c.sock") as (_client, _server, control, _stopped):
        flat = await control.ask("REDTAP", "STATUS")
        assert flat == [b"name", b"test", b"port", 6379]
        await control.ask("HELLO", "3")
        mapped = await control.ask("redtap", "status")
        assert isinstance(mapped, Map)
        assert as_dict(mapped) == {b"name": b"test", b"port": 6379}


async def test_conns_listeners_neighbors_counters_tell_the_stack(tmp_path: Path) -> None:
    async with controlled(tmp_path / "c.sock") as (client, _server, control, _stopped):
        stream = await client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"PING\r\n", b"+PONG\r\n")
        connections = await control.ask("REDTAP", "CONNS")
        assert isinstance(connections, list)
        (one,) = map(as_dict, connections)
        host, port = stream.local
        assert one[b"remote"] == f"{host}:{port}".encode()
        assert (one[b"state"], one[b"bytes_in"]) == (b"ESTABLISHED", 6)
        listeners = await control.ask("REDTAP", "LISTENERS")
        assert isinstance(listeners, list)
        assert as_dict(listeners[0])[b"port"] == 6379
        neighbors = await control.ask("REDTAP", "NEIGHBORS")
        assert isinstance(neighbors, list)
        assert as_dict(neighbors[0])[b"mac"] == b"02:00:00:00:00:01"
        counters = as_dict(await control.ask("REDTAP", "COUNTERS"))
        assert counters[b"connections_accepted"] == 1
        assert counters[b"link_frames_dropped"] == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["REDTAP", "FLY"], b"ERR unknown subcommand 'FLY'. Try REDTAP HELP."),
        (["REDTAP", "STOP", "NOW"], b"ERR wrong number of arguments for 'redtap|stop' command"),
    ],
)
async def test_wrong_redtap_commands_are_errors(tmp_path: Path, arguments: list[str], error: bytes) -> None:
    async with controlled(tmp_path / "c.sock") as (_client, _server, control, stopped):
        await ask(control.stream, encode_request([x.encode() for x in arguments]), b"-" + error + b"\r\n")
        assert not stopped.is_set()


async def test_stop_is_answered_and_asks_for_the_shutdown(tmp_path: Path) -> None:
    async with controlled(tmp_path / "c.sock") as (_client, _server, control, stopped):
        await ask(control.stream, b"REDTAP STOP\r\n", b"+OK\r\n")
        assert stopped.is_set()


async def test_request_in_single_bytes_and_a_protocol_error(tmp_path: Path) -> None:
    async with controlled(tmp_path / "c.sock") as (_client, _server, control, _stopped):
        for byte in b"*2\r\n$6\r\nREDTAP\r\n$4\r\nHELP\r\nPING\r\n*x\r\n":
            await control.stream.send_all(bytes((byte,)))
        reply = b"".join([chunk async for chunk in control.stream])
        assert reply.startswith(b"*8\r\n+REDTAP")
        assert reply.endswith(b"+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n")


async def test_redtap_is_unknown_to_clients_over_tcp(tmp_path: Path) -> None:
    async with controlled(tmp_path / "c.sock") as (client, _server, _control, stopped):
        stream = await client.open_tcp_stream(SERVER, 6379)
        await stream.send_all(b"REDTAP STOP\r\n")
        assert (await stream.receive_some()).startswith(b"-ERR unknown command 'REDTAP'")
        assert not stopped.is_set()


async def test_control_answers_while_every_packet_is_dropped(tmp_path: Path) -> None:
    near, far = memory_link_pair()
    async with controlled(tmp_path / "c.sock", (near, far)) as (_client, _server, control, _stopped):
        near.on_write = far.on_write = lose_all
        assert await control.ask("GET", "a") is None
        assert as_dict(await control.ask("REDTAP", "STATUS"))[b"name"] == b"test"


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="needs redis-cli")
async def test_redis_cli_works_on_it(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with controlled(path):
        for arguments, expected in [
            (["set", "a", "1"], "OK\n"),
            (["-3", "redtap", "status"], "name test\nport 6379\n"),
        ]:
            done = await trio.run_process(["redis-cli", "-s", str(path), *arguments], capture_stdout=True)
            assert done.stdout.decode() == expected


# ---- the file


def test_socket_is_private_and_its_directory_too(tmp_path: Path) -> None:
    path = tmp_path / "redtap" / "a.sock"
    with bound_control_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    assert path.exists()
    with bound_control_socket(path), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(os.fspath(path))


def test_living_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with bound_control_socket(path):
        with pytest.raises(HostError, match="already running"), bound_control_socket(path):
            pass
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(os.fspath(path))


def test_somebody_elses_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("mine")
    with pytest.raises(HostError, match="something else"), bound_control_socket(path):
        pass
    assert path.read_text() == "mine"


def test_successor_at_the_same_path_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with bound_control_socket(path):
        path.unlink()
        path.write_text("successor")
    assert path.read_text() == "successor"


def test_path_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="too long"), bound_control_socket(tmp_path / ("x" * 120)):
        pass
