"""DEBUG RESTART and what crashes, on a wire in memory: who is told what, and what is there afterwards."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
import structlog
import trio

from appliance.errors import ConfigError, Reset
from appliance.redis.config import Configuration
from appliance.redis.engine import Engine, EngineSettings
from appliance.shell.link import memory_link_pair
from tests.shell.support import SERVER, ask, until
from tests.shell.test_main import Appliance, running, serve_alone

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from appliance.shell.tcp_stream import TcpStream


@pytest.fixture(autouse=True)
def _own_log() -> None:
    """Not where an earlier test of the command line has sent it, which may be closed."""
    structlog.reset_defaults()


def settings(**given: int | str) -> EngineSettings:
    configuration = Configuration({"enable-debug-command": "yes"})
    return EngineSettings(configuration=configuration, **given)  # type: ignore[arg-type]


async def is_refused(appliance: Appliance, port: int = 6379) -> bool:
    try:
        stream = await appliance.client.open_tcp_stream(SERVER, port)
    except trio.BrokenResourceError:
        return True
    await stream.aclose()
    return False


async def is_reset(stream: TcpStream) -> None:
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some()
    assert isinstance(caught.value.__cause__, Reset)


@pytest.mark.parametrize("how", ["RESTART", "CRASH-AND-RECOVER"])
async def test_a_restart_ends_all_clients_and_the_data(
    autojump_clock: MockClock, tmp_path: Path, how: str
) -> None:
    async with running(tmp_path, settings=settings(), renew=settings, echo_port=7) as appliance:
        one = await appliance.client.open_tcp_stream(SERVER, 6379)
        other = await appliance.client.open_tcp_stream(SERVER, 6379)
        echo = await appliance.client.open_tcp_stream(SERVER, 7)
        await ask(one, b"SET a 1\r\n", b"+OK\r\n")
        await ask(other, b"INCR a\r\n", b":2\r\n")
        await one.send_all(b"PING\r\nDEBUG " + how.encode() + b"\r\nPING\r\n")
        for stream in (one, other):
            if how == "RESTART":
                assert await stream.receive_some() == b""
            else:
                await is_reset(stream)
            await stream.aclose()
        await until(lambda: len(appliance.told) == 2)
        assert appliance.told[1] == appliance.told[0]
        again = await appliance.client.open_tcp_stream(SERVER, 6379)
        await ask(again, b"GET a\r\n", b"$-1\r\n")
        await ask(echo, b"still here", b"still here")  # the machine has not been switched off
        assert b"uptime_in_seconds:0\r\n" in await appliance.control("INFO", "server")
        appliance.scope.cancel()
    assert appliance.end is None


async def test_who_connects_before_the_time_is_over_is_refused(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path, settings=settings(), renew=settings) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        started = trio.current_time()
        await stream.send_all(b"DEBUG RESTART 5000\r\n")
        assert await stream.receive_some() == b""
        # It does not close its side: that must not keep the port.
        while await is_refused(appliance):
            assert b"name\r\n" in await appliance.control("REDTAP", "STATUS")
            await trio.sleep(0.1)
        assert trio.current_time() - started == pytest.approx(5.0, abs=0.3)
        appliance.scope.cancel()


async def test_stop_ends_a_restart_that_is_under_way(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, settings=settings(), renew=settings) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        started = trio.current_time()
        await stream.send_all(b"DEBUG CRASH-AND-RECOVER 3600000\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert await appliance.control("REDTAP", "STOP") == b"+OK\r\n"
        await appliance.ended.wait()
        assert appliance.ended_at - started < 1
    assert appliance.end is None
    assert len(appliance.told) == 1


async def test_a_restart_takes_the_settings_anew(autojump_clock: MockClock, tmp_path: Path) -> None:
    def renewed() -> EngineSettings:
        return settings(port=7000, requirepass="secret")

    async with running(tmp_path, settings=settings(), renew=renewed) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        await stream.send_all(b"DEBUG RESTART\r\n")
        assert await stream.receive_some() == b""
        await stream.aclose()
        await until(lambda: len(appliance.told) == 2)
        assert appliance.told[1].port == 7000
        assert await is_refused(appliance)
        stream = await appliance.client.open_tcp_stream(SERVER, 7000)
        await ask(stream, b"GET a\r\n", b"-NOAUTH Authentication required.\r\n")
        await ask(stream, b"AUTH secret\r\n", b"+OK\r\n")
        appliance.scope.cancel()


async def test_settings_that_are_wrong_meanwhile_end_the_appliance(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    def renewed() -> EngineSettings:
        raise ConfigError("redis.conf, line 1: no")

    _near, far = memory_link_pair()

    async def crash(path: str) -> None:
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b"DEBUG CRASH-AND-RECOVER\r\n")
            await trio.sleep_forever()

    with pytest.raises(ConfigError, match="line 1"):
        await serve_alone(
            far, tmp_path, settings(), beside=lambda ready: crash(ready.control_path), renew=renewed
        )


@pytest.mark.parametrize(("how", "number"), [("SEGFAULT", "SIGSEGV"), ("PANIC", "SIGABRT")])
async def test_what_crashes_resets_all_and_says_by_which_signal_to_die(
    autojump_clock: MockClock, tmp_path: Path, how: str, number: str
) -> None:
    async with running(tmp_path, settings=settings(), renew=settings, grace_s=3600) as appliance:
        one = await appliance.client.open_tcp_stream(SERVER, 6379)
        other = await appliance.client.open_tcp_stream(SERVER, 6379)
        await ask(other, b"PING\r\n", b"+PONG\r\n")
        started = trio.current_time()
        await one.send_all(b"DEBUG " + how.encode() + b"\r\n")
        for stream in (one, other):
            await is_reset(stream)
        await appliance.ended.wait()
        assert appliance.ended_at - started < 1
    assert appliance.end is not None
    assert appliance.end.signal == number
    assert appliance.end.asked_by.startswith("10.0.0.1:")


async def test_without_a_process_of_its_own_it_is_refused(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with running(tmp_path, settings=settings()) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"DEBUG SEGFAULT\r\n", b"-ERR DEBUG SEGFAULT is not available here\r\n")
        await ask(stream, b"DEBUG RESTART\r\n", b"-ERR DEBUG RESTART is not available here\r\n")
        appliance.scope.cancel()


async def test_restarts_leave_nothing_behind(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Tasks, listeners, connections, and engines, with scripts that were being run and clients that wait."""
    before = engines()
    async with running(tmp_path, settings=settings(), renew=settings) as appliance:
        tasks = 0
        for count in range(2, 8):
            waiting = await appliance.client.open_tcp_stream(SERVER, 6379)
            await waiting.send_all(b"BLPOP q 0\r\n")
            busy = await appliance.client.open_tcp_stream(SERVER, 6379)
            await ask(busy, b"EVAL \"return redis.call('incr','k')\" 0\r\n", b":1\r\n")
            await ask(busy, b"DEBUG POPULATE 1000\r\n", b"+OK\r\n")
            await busy.send_all(b"MULTI\r\nDEBUG SLEEP 0\r\nDEBUG CRASH-AND-RECOVER 1\r\nEXEC\r\n")
            await until(lambda count=count: len(appliance.told) == count)  # type: ignore[misc]
            for stream in (waiting, busy):
                await stream.aclose()
            await trio.sleep(3)
            living = trio.lowlevel.current_statistics().tasks_living
            assert tasks in (0, living)
            tasks = living
        status = await appliance.control("REDTAP", "LISTENERS")
        assert status.count(b"port") == 1
        appliance.scope.cancel()
    gc.collect()
    assert len([each for each in engines() if each not in before]) <= 1


def engines() -> list[Engine]:
    """All there are in this process; other tests have left some."""
    gc.unfreeze()  # what is frozen is not told of
    return [each for each in gc.get_objects() if isinstance(each, Engine)]


async def test_much_data_is_freed_after_the_restart_in_pieces(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with running(tmp_path, settings=settings(), renew=settings) as appliance:
        stream = await appliance.client.open_tcp_stream(SERVER, 6379)
        await ask(stream, b"DEBUG POPULATE 20000\r\n", b"+OK\r\n")
        (old,) = (each for each in engines() if len(each.databases[0]) == 20_000)
        await stream.send_all(b"DEBUG RESTART\r\n")
        await until(lambda: len(appliance.told) == 2)
        assert len(old.releases) > 10_000  # served again before it was freed
        await until(lambda: len(old.releases) == 0)
        assert b":0\r\n" in await appliance.control("DBSIZE")
        appliance.scope.cancel()
