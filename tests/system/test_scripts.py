"""Lua as applications use it, through our TCP, and a script that does not end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support.running import ADDRESS, PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

CLIENTS = 50

# Of a bucket that fills with a token each refill_ms, up to a capacity: how many are left, or -1.
TOKEN_BUCKET = """
local key, capacity, refill_ms, now_ms = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local state = redis.call('HMGET', key, 'tokens', 'at')
local tokens, at = tonumber(state[1]) or capacity, tonumber(state[2]) or now_ms
local filled = math.floor((now_ms - at) / refill_ms)
if filled > 0 then
    tokens, at = math.min(capacity, tokens + filled), at + filled * refill_ms
end
if tokens < 1 then
    return -1
end
redis.call('HSET', key, 'tokens', tokens - 1, 'at', at)
redis.call('PEXPIRE', key, capacity * refill_ms)
return tokens - 1
"""


def in_threads(count: int, work: Callable[[Any, int], None]) -> None:
    """Run `work` with a client of its own in each of so many threads; the first failure is raised."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            with redis.Redis(ADDRESS, PORT, socket_timeout=60) as client:
                work(client, number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_redis_py_lock_holds_under_50_clients(appliance: RunningAppliance) -> None:
    def work() -> int:
        with redis.Redis(ADDRESS, PORT) as client:
            client.flushall()
        inside = 0

        def use(client: Any, _number: int) -> None:
            nonlocal inside
            for _ in range(4):
                with client.lock("lock", timeout=60, sleep=0.005, blocking_timeout=60):
                    inside += 1
                    assert inside == 1
                    seen = int(client.get("n") or 0)
                    client.set("n", seen + 1)
                    inside -= 1

        in_threads(CLIENTS, use)
        with redis.Redis(ADDRESS, PORT) as client:
            return int(client.get("n"))

    assert appliance.inside(work) == CLIENTS * 4


def test_token_bucket_gives_no_token_twice(appliance: RunningAppliance) -> None:
    def work() -> list[int]:
        with redis.Redis(ADDRESS, PORT) as client:
            client.flushall()
        granted: list[int] = []

        def use(client: Any, _number: int) -> None:
            bucket = client.register_script(TOKEN_BUCKET)
            for _ in range(10):
                # Time stands still, so the bucket does not fill again.
                left = bucket(keys=["bucket"], args=[100, 3_600_000, 1_000_000])
                if left >= 0:
                    granted.append(left)

        in_threads(CLIENTS, use)
        return sorted(granted)

    assert appliance.inside(work) == list(range(100))


def until_busy(client: Any) -> str:
    """Ask until a script has run for longer than the threshold; what is answered then."""
    while True:
        try:
            client.get("k")
        except redis.RedisError as error:
            return str(error)


def test_script_without_end_leaves_the_rest_alone(appliance: RunningAppliance) -> None:
    def work() -> tuple[str, str]:
        with (
            redis.Redis(ADDRESS, PORT, socket_timeout=60) as client,
            redis.Redis(ADDRESS, PORT, socket_timeout=60) as other,
        ):
            client.config_set("busy-reply-threshold", 200)
            client.set("k", "v")
            killed: list[str] = []

            def loop() -> None:
                try:
                    client.eval("while true do pcall(function() while true do end end) end", 0)
                except redis.ResponseError as error:
                    killed.append(str(error))

            thread = threading.Thread(target=loop)
            thread.start()
            busy = until_busy(other)
            for _ in range(20):  # new connections and commands that may run: packets come and go
                with redis.Redis(ADDRESS, PORT, socket_timeout=60) as third:
                    third.execute_command("HELLO")
            assert other.execute_command("SCRIPT KILL") in (True, b"OK")
            thread.join(60)
            assert other.get("k") == b"v"
            client.config_set("busy-reply-threshold", 5000)
            return busy, killed[0]

    busy, killed = appliance.inside(work)
    assert "Redis is busy running a script" in busy
    assert killed.startswith("Script killed by user with SCRIPT KILL")


def test_control_socket_answers_during_a_script_without_end(appliance: RunningAppliance) -> None:
    ended: list[str] = []

    def loop() -> None:
        with redis.Redis(ADDRESS, PORT, socket_timeout=60) as client:
            try:
                client.eval("while true do end", 0)
            except redis.ResponseError as error:
                ended.append(str(error))

    with redis.Redis(unix_socket_path=appliance.control_path, socket_timeout=60) as control:
        control.config_set("busy-reply-threshold", 100)
        thread = threading.Thread(target=lambda: appliance.inside(loop))
        thread.start()
        assert "busy running a script" in until_busy(control)
        assert control.execute_command("REDTAP STATUS")
        control.execute_command("SCRIPT KILL")
        thread.join(60)
        control.config_set("busy-reply-threshold", 5000)
        assert control.ping()
    assert ended[0].startswith("Script killed by user with SCRIPT KILL")
