"""limits (the engine of slowapi and Flask-Limiter) and pottery: rate limits and Redlock by Lua, under many threads.

python -m tests.support.frameworks.limiters redis://10.77.0.2:6379
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from limits import RateLimitItemPerHour
from limits.aio.storage import RedisStorage as AsyncRedisStorage
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow
from limits.storage import storage_from_string
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)
from pottery import NextID, RedisDeque, RedisDict, Redlock

from tests.support.frameworks.left import left_by

_THREADS = 8


def rate_limits(url: str) -> dict[str, Any]:
    storage: Any = storage_from_string(url)
    assert storage.check()
    said: dict[str, Any] = {}
    # A window of so many hours does not end while this runs.
    limit = RateLimitItemPerHour(50, 1_000_000)
    for strategy in (FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter):
        limiter = strategy(storage)
        name = strategy.__name__

        def hit(number: int, limiter: Any = limiter, name: str = name) -> bool:
            return bool(limiter.hit(limit, name, cost=1 + number % 2))

        with ThreadPoolExecutor(_THREADS) as pool:
            tally = sum(pool.map(hit, range(200)))
        assert 25 <= tally <= 50
        stats = limiter.get_window_stats(limit, name)
        said[name] = {"left": stats.remaining, "again": limiter.test(limit, name)}
        limiter.clear(limit, f"{name}, not there")

    async def by_asyncio() -> int:
        storage = AsyncRedisStorage(f"async+{url}", implementation="redispy")
        limiter = AsyncMovingWindow(storage)
        return sum(await asyncio.gather(*(limiter.hit(limit, "asyncio") for _ in range(100))))

    said["asyncio"] = asyncio.run(by_asyncio())
    return said


def redlocks(url: str) -> dict[str, Any]:
    masters: Any = {redis.Redis.from_url(f"{url}/{database}") for database in (1, 2, 3)}
    inside = most_inside = 0
    guard = threading.Lock()
    tries: Counter[str] = Counter()

    def work(_number: int) -> None:
        nonlocal inside, most_inside
        with Redlock(key="lock", masters=masters, auto_release_time=100):
            with guard:
                inside += 1
                most_inside = max(inside, most_inside)
                tries["locked"] += 1
            with guard:
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(40)))
    for master in masters:  # who was late for the majority may have left its key, which would expire
        master.delete("redlock:lock")
    lock = Redlock(key="other", masters=masters, auto_release_time=100)
    assert lock.acquire()
    assert not Redlock(key="other", masters=masters).acquire(blocking=False)
    lock.extend()
    assert lock.locked() > 0
    lock.release()
    ids = NextID(key="ids", masters=masters)
    client = redis.Redis.from_url(url)
    things = RedisDict({str(number): number for number in range(100)}, redis=client, key="dict")
    del things["7"]
    deque = RedisDeque(range(10), maxlen=5, redis=client, key="deque")
    deque.rotate(2)
    return {
        "most": most_inside,
        "tries": tries,
        "ids": [next(ids) for _ in range(5)],
        "things": len(things),
        "deque": list(deque),
    }


def main(url: str) -> None:
    print(
        json.dumps(
            {"limits": rate_limits(url), "redlock": redlocks(url), "left": left_by(url)}, sort_keys=True
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
