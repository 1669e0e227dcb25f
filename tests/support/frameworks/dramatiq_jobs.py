"""Dramatiq: everything its broker does is one Lua script. Retries, delays, results, a rate limiter.

python -m tests.support.frameworks.dramatiq_jobs redis://10.77.0.2:6379 300
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimiterBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from tests.support.frameworks.left import left_by

_PATIENCE_MS = 100_000


def main(url: str, count: int) -> None:
    broker = RedisBroker(url=f"{url}/0")
    backend = RedisBackend(url=f"{url}/1")
    broker.add_middleware(Results(backend=backend))
    dramatiq.set_broker(broker)
    client = redis.Redis.from_url(f"{url}/0")
    limits = LimiterBackend(url=f"{url}/2")
    alone = ConcurrentRateLimiter(limits, "alone", limit=1)
    tries: Counter[str] = Counter()
    lock = threading.Lock()
    inside = most_inside = 0

    @dramatiq.actor(store_results=True, max_retries=3, min_backoff=1, max_backoff=2)
    def square(number: int) -> int:
        with lock:
            tries["square"] += 1
        if number % 10 == 0 and client.sadd("failed", number):
            raise ValueError("not the first time")
        return number * number

    @dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=2)
    def hopeless() -> None:
        with lock:
            tries["hopeless"] += 1
        raise ValueError("no hope")

    @dramatiq.actor(max_retries=1000, min_backoff=1, max_backoff=10)
    def one_at_a_time() -> None:
        nonlocal inside, most_inside
        with alone.acquire():
            with lock:
                inside += 1
                most_inside = max(most_inside, inside)
            client.ping()
            with lock:
                inside -= 1
                tries["alone"] += 1

    messages: list[Any] = [
        square.send_with_options(args=(number,), delay=20 if number % 3 == 0 else None)
        for number in range(count)
    ]
    hopeless.send()
    for _ in range(20):
        one_at_a_time.send()
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=4)
    worker.start()
    try:
        results = [message.get_result(block=True, timeout=_PATIENCE_MS) for message in messages]
        broker.join("default", timeout=_PATIENCE_MS)
        worker.join()
    finally:
        worker.stop()
    assert results == [number * number for number in range(count)]
    window = WindowRateLimiter(limits, "window", limit=5, window=1000)
    taken = 0
    for _ in range(10):
        with window.acquire(raise_on_failure=False) as acquired:
            taken += bool(acquired)
    # One counter for each second there was, and the workers' signs of life.
    limits.client.delete(*limits.client.keys("window@*"))
    client.delete("dramatiq:__heartbeats__")
    print(
        json.dumps(
            {"tries": tries, "most": most_inside, "taken": taken, "left": left_by(url)}, sort_keys=True
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
