"""Counters under WATCH, MULTI and EXEC, incremented by fifty clients at once: no increment is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import redis

from tests.support.running import ADDRESS, PORT

if TYPE_CHECKING:
    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

CLIENTS = 50
INCREMENTS = 6
COUNTERS = ("visits", "visits:today")


def _increment(client: redis.Redis) -> int:
    """Add one to all counters in the way of the optimistic: read, then write if nobody else has; how many tries."""
    tries = 0
    with client.pipeline() as pipeline:
        while True:
            tries += 1
            try:
                pipeline.watch(*COUNTERS)
                before = [int(pipeline.get(name) or 0) for name in COUNTERS]
                pipeline.multi()
                for name, value in zip(COUNTERS, before, strict=True):
                    pipeline.set(name, value + 1)
                pipeline.rpush("log", before[0] + 1)
                pipeline.execute()
            except redis.WatchError:
                continue
            return tries


def test_fifty_clients_with_watch_lose_no_increment(appliance: RunningAppliance) -> None:
    def work() -> tuple[list[int], list[bytes], int, list[str]]:
        errors: list[str] = []
        tries = [0] * CLIENTS

        def client(number: int) -> None:
            try:
                with redis.Redis(ADDRESS, PORT, socket_timeout=60, protocol=2 + number % 2) as connection:
                    begin.wait(60)
                    tries[number] = sum(_increment(connection) for _ in range(INCREMENTS))
            except Exception as error:
                errors.append(f"{number}: {error!r}")

        begin = threading.Barrier(CLIENTS)
        with redis.Redis(ADDRESS, PORT, socket_timeout=60) as connection:
            connection.flushall()
            threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            counts = [int(connection.get(name) or 0) for name in COUNTERS]
            return counts, connection.lrange("log", 0, -1), sum(tries), errors

    counts, log, tries, errors = appliance.inside(work)
    wanted = CLIENTS * INCREMENTS
    assert errors == []
    assert counts == [wanted, wanted]
    assert log == [b"%d" % n for n in range(1, wanted + 1)]
    # They did get into each other's way; else the test would show nothing.
    assert tries > wanted
