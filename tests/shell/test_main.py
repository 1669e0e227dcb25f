"""The whole appliance on a wire in memory: ready, serving, and every way to stop."""

from __future__ import annotations

import os
import random
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from appliance.errors import HostError
from appliance.redis.engine import EngineSettings
from appliance.shell.link import MemoryLink, memory_link_pair
from appliance.shell.main import Ready, serve
from appliance.shell.network import Network, open_network
from tests.shell.support import SERVER, ask, interface_config, lose_all, receive_exactly

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

    from appliance.redis.process_end import ProcessEnd


class Appliance:
    """What `running` gives: the client's network, and how to see and end what it talks to."""

    def __init__(self, client: Network, told: list[Ready], scope: trio.CancelScope, near: MemoryLink) -> None:
        self.client = client
        self.told = told
        self.ready = told[0]
        self.end: ProcessEnd | None = None
        self.scope = scope
        self.near = near
        self.ended = trio.Event()
        self.ended_at = 0.0

    async def control(self, *words: str) -> bytes:
        async with await trio.open_unix_socket(self.ready.control_path) as stream:
            await stream.send_all(" ".join(words).encode() + b"\r\n")
            return bytes(await stream.receive_some())


@asynccontextmanager
async def running(
    path: Path, *, settings: EngineSettings | None = None, **options: Any
) -> AsyncIterator[Appliance]:
    """`serve` on one end of a wire and a network on the other; fails unless `serve` ends by itself."""
    near, far = memory_link_pair()
    settings = settings or EngineSettings()
    ready_now = trio.Event()
    told: list[Ready] = []

    def on_ready(ready: Ready) -> None:
        told.append(ready)
        ready_now.set()

    options = {"catch_signals": False, "grace_s": 2.0, **options}
    scope = trio.CancelScope()
    async with open_network(near, interface_config(1)) as client, trio.open_nursery() as nursery:
        appliance: Appliance | None = None

        async def run() -> None:
            end: ProcessEnd | None = None
            with scope:
                end = await serve(
                    far,
                    interface_config(2),
                    settings,
                    control_path=path / "control.sock",
                    random_bytes=random.Random(3).randbytes,
                    on_ready=on_ready,
                    **options,
                )
            assert appliance is not None
            appliance.end = end
            appliance.ended_at = trio.current_time()
            appliance.ended.set()

        nursery.start_soon(run)
        await ready_now.wait()
        appliance = Appliance(client, told, scope, near)
        yield appliance
        with trio.fail_after(30):
            await appliance.ended.wait()
    assert not (path / "control.sock").exists()


async def serve_alone(
    far: MemoryLink, path: Path, settings: EngineSettings | None = None, **options: Any
) -> None:
    """`serve` on a link with nobody at its other end; it leaves no file, however it ends."""
    control_path = path / "c.sock"
    try:
        await serve(
            far,
            interface_config(2),
            settings or EngineSettings(),
            control_path=control_path,
            catch_signals=False,
            **options,
        )
    finally:
        assert not control_path.exists()


async def test_ready_line_and_a_first_session(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, name="lab", capture_path=tmp_path / "x.pcapng") as appliance:
        assert appliance.ready.line() == (
            f"redtap: ready on 10.0.0.2:6379, control socket {tmp_path}/control.sock"
        )
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"SET a 1\r\n", b"+OK\r\n")
        await ask(stream, b"GET a\r\n", b"$1\r\n1\r\n")
        status = await appliance.control("REDTAP", "STATUS")
        assert b"$4\r\nname\r\n$3\r\nlab\r\n" in status
        assert b"$7\r\naddress\r\n$11\r\n10.0.0.2/24\r\n" in status
        await stream.aclose()
        appliance.scope.cancel()
    assert (tmp_path / "x.pcapng").stat().st_size > 500


async def test_info_tells_of_process_and_stack(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path) as appliance:
        info = (await appliance.control("INFO", "everything")).decode()
        assert f"process_id:{os.getpid()}\r\n" in info
        assert "\r\nsegments_in:0\r\n" in info
        rss = next(line for line in info.splitlines() if line.startswith("used_memory_rss:"))
        assert int(rss.split(":")[1]) > 1 << 20
        appliance.scope.cancel()


async def test_echo_port_returns_20_mib(autojump_clock: MockClock, tmp_path: Path) -> None:
    payload = random.Random(5).randbytes(20 << 20)
    async with running(tmp_path, echo_port=7) as appliance:
        async with await appliance.client.open_tcp_stream(SERVER, 7) as stream, trio.open_nursery() as both:

            async def send() -> None:
                await stream.send_all(payload)
                await stream.send_eof()

            both.start_soon(send)
            assert await receive_exactly(stream, len(payload)) == payload
            assert await stream.receive_some() == b""
        appliance.scope.cancel()


@pytest.mark.parametrize("how", ["cancel", "stop", "shutdown by client", "shutdown by control"])
async def test_every_way_to_stop_sends_fin_to_clients(
    autojump_clock: MockClock, tmp_path: Path, how: str
) -> None:
    async with running(tmp_path) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"PING\r\n", b"+PONG\r\n")
        started = trio.current_time()
        if how == "cancel":
            appliance.scope.cancel()
        elif how == "stop":
            assert await appliance.control("REDTAP", "STOP") == b"+OK\r\n"
        elif how == "shutdown by client":
            killer = await appliance.client.open_tcp_stream(SERVER, 6379)
            await killer.send_all(b"SHUTDOWN NOSAVE\r\n")
            assert await killer.receive_some() == b""
            await killer.aclose()
        else:
            assert await appliance.control("SHUTDOWN", "NOSAVE") == b""
        assert await stream.receive_some() == b""  # FIN, not RST
        await stream.aclose()
        await appliance.ended.wait()
        assert appliance.ended_at - started < 0.5  # a polite client is not waited for


async def test_silent_clients_are_reset_after_the_grace(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, grace_s=3.0) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"PING\r\n", b"+PONG\r\n")
        started = trio.current_time()
        appliance.scope.cancel()
        assert await stream.receive_some() == b""
        # It does not close its side.
        await appliance.ended.wait()
        assert appliance.ended_at - started == pytest.approx(3.0, abs=0.2)


async def test_unreachable_clients_do_not_hold_up_the_shutdown(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path, grace_s=1.0) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"PING\r\n", b"+PONG\r\n")
        appliance.near.on_write = lose_all
        started = trio.current_time()
        assert await appliance.control("REDTAP", "STOP") == b"+OK\r\n"
        await appliance.ended.wait()
        assert appliance.ended_at - started == pytest.approx(1.0, abs=0.2)


async def test_no_new_connections_during_the_grace(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, grace_s=3.0) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        appliance.scope.cancel()
        assert await stream.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await appliance.client.open_tcp_stream(SERVER, 6379)
        # The control socket is there until the end.
        assert b"is_stopping\r\n:1\r\n" in await appliance.control("REDTAP", "STATUS")


async def test_end_of_beside_ends_the_appliance(autojump_clock: MockClock, tmp_path: Path) -> None:
    seen: list[Ready] = []

    async def beside(ready: Ready) -> None:
        seen.append(ready)
        await trio.sleep(5)

    async with running(tmp_path, beside=beside) as appliance:
        await appliance.ended.wait()
    assert len(seen) == 1


async def test_stop_cancels_beside(autojump_clock: MockClock, tmp_path: Path) -> None:
    was_cancelled = False

    async def beside(_ready: Ready) -> None:
        nonlocal was_cancelled
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            was_cancelled = True
            raise

    async with running(tmp_path, beside=beside) as appliance:
        assert await appliance.control("REDTAP", "STOP") == b"+OK\r\n"
    assert was_cancelled


async def test_error_of_beside_comes_out_bare(autojump_clock: MockClock, tmp_path: Path) -> None:
    async def beside(_ready: Ready) -> None:
        raise FileNotFoundError("no such program")

    _near, far = memory_link_pair()
    with pytest.raises(FileNotFoundError, match="no such program"):
        await serve_alone(far, tmp_path, beside=beside)


async def test_lost_link_ends_with_one_host_error(autojump_clock: MockClock, tmp_path: Path) -> None:
    _near, far = memory_link_pair()
    with pytest.raises(HostError, match="gone"):
        await serve_alone(far, tmp_path, on_ready=lambda _ready: far.close())


async def test_taken_control_socket_is_a_host_error(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path) as appliance:
        _near, far = memory_link_pair()
        with pytest.raises(HostError, match="already running"):
            await serve(
                far,
                interface_config(2),
                EngineSettings(),
                control_path=tmp_path / "control.sock",
                catch_signals=False,
            )
        appliance.scope.cancel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_gracefully_and_a_second_one_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """In real time: signals know no mock clock. The second one must cut a grace of ten minutes short."""

    async def run() -> None:
        async with running(tmp_path, catch_signals=True, grace_s=600.0) as appliance:
            stream = await appliance.client.open_tcp_stream(SERVER, 6379)
            await ask(stream, b"PING\r\n", b"+PONG\r\n")
            os.kill(os.getpid(), number)
            assert await stream.receive_some() == b""
            assert not appliance.ended.is_set()
            os.kill(os.getpid(), number)

    trio.run(run)


async def test_nothing_is_left_after_many_runs(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Tasks and files: as many after as before."""
    before = len(os.listdir("/proc/self/fd"))
    tasks = trio.lowlevel.current_statistics().tasks_living
    for _ in range(3):
        async with running(tmp_path, capture_path=tmp_path / "x.pcapng", echo_port=7) as appliance:
            await appliance.client.open_tcp_stream(SERVER, 6379)
            await appliance.client.open_tcp_stream(SERVER, 7)
            appliance.scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert len(os.listdir("/proc/self/fd")) == before
