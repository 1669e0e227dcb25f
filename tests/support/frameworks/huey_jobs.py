"""Huey: jobs with retries, delays, priorities, locks, a pipeline and a chord of results.

python -m tests.support.frameworks.huey_jobs redis://10.77.0.2:6379 300
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from typing import Any

import redis
from huey import PriorityRedisExpireHuey, RedisHuey
from huey.exceptions import TaskLockedException

from tests.support.frameworks.left import left_by

_PATIENCE_S = 100


def run(huey: Any, url: str, count: int) -> dict[str, Any]:
    client = redis.Redis.from_url(url)
    tries: Counter[str] = Counter()
    guard = threading.Lock()
    huey.immediate = False

    @huey.task(retries=2, retry_delay=0, context=True)
    def square(number: int, task: Any = None) -> int:
        with guard:
            tries["square"] += 1
        if number % 10 == 0 and task.retries == 2:
            raise ValueError("not the first time")
        return number * number

    @huey.task(retries=2)
    def hopeless() -> None:
        with guard:
            tries["hopeless"] += 1
        raise ValueError("no hope")

    @huey.task()
    def add(one: int, other: int) -> int:
        return one + other

    results = [square.schedule((number,), delay=-1 if number % 3 else 1) for number in range(count)]
    failing = hopeless()
    pipeline = huey.enqueue(add.s(1, 2).then(add, 3).then(add, 4))
    revoked = square.schedule((7,), delay=1000)
    revoked.revoke()
    consumer = huey.create_consumer(workers=4, initial_delay=0.01, max_delay=0.01, scheduler_interval=1)
    consumer.start()
    try:
        values = [result.get(blocking=True, timeout=_PATIENCE_S) for result in results]
        sums = pipeline.get(blocking=True, timeout=_PATIENCE_S)
        give_up_at = time.monotonic() + _PATIENCE_S
        while tries["hopeless"] < 3:
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        assert failing.get(blocking=True, timeout=_PATIENCE_S, preserve=True) is None
    except Exception as error:
        said = repr(error)
    finally:
        consumer.stop(graceful=True)
    assert values == [number * number for number in range(count)]
    with huey.lock_task("lock"):
        try:
            with huey.lock_task("lock"):
                said += "twice"
        except TaskLockedException:
            said += ", locked"
    left = left_by(url)
    client.flushdb()
    return {"tries": tries, "sums": sums, "said": said, "scheduled": huey.scheduled_count(), "left": left}


def main(url: str, count: int) -> None:
    said = {
        "list": run(RedisHuey("list", url=f"{url}/0"), url, count),
        "priority": run(PriorityRedisExpireHuey("priority", url=f"{url}/0"), url, count),
    }
    print(json.dumps(said, sort_keys=True))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
