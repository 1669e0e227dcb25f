"""Celery: jobs through the broker to a worker of four threads, some of them retried, results by the backend.

python -m tests.support.frameworks.celery_jobs redis://10.77.0.2:6379 1000
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import redis
from celery import Celery, group

URL = os.environ.get("FRAMEWORK_REDIS_URL", "redis://localhost:6379")

app = Celery("jobs", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(broker_connection_retry_on_startup=True, result_expires=600, worker_prefetch_multiplier=16)
_counter = redis.Redis.from_url(f"{URL}/2")


@app.task(bind=True, max_retries=3, acks_late=True)
def square(task: Any, number: int) -> int:
    """Every tenth fails at first."""
    _counter.incr("attempts")
    if number % 10 == 0 and task.request.retries == 0:
        raise task.retry(countdown=0)
    return number * number


@app.task(bind=True, max_retries=2)
def hopeless(task: Any) -> None:
    """Fails however often it is tried."""
    _counter.incr("hopeless")
    try:
        raise ValueError("no hope")
    except ValueError as error:
        raise task.retry(exc=error, countdown=0) from error


def main(count: int) -> None:
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.support.frameworks.celery_jobs", "worker"),
            *("--pool", "threads", "--concurrency", "4", "--loglevel", "error", "--without-mingle"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        failing = hopeless.delay()
        results = group(square.s(number) for number in range(count)).apply_async()
        values = results.get(timeout=120)
        assert values == [number * number for number in range(count)]
        failing.get(timeout=60, propagate=False)
        assert repr(failing.result) == "ValueError('no hope')"
        replies = app.control.ping(timeout=60, limit=1)
        print(
            json.dumps(
                {
                    "attempts": int(_counter.get("attempts") or 0),
                    "hopeless": int(_counter.get("hopeless") or 0),
                    "workers": len(replies),
                }
            )
        )
    finally:
        worker.terminate()
        worker.wait(60)


if __name__ == "__main__":
    os.environ["FRAMEWORK_REDIS_URL"] = sys.argv[1]
    from tests.support.frameworks import celery_jobs  # by its own name, as the worker knows it

    celery_jobs.main(int(sys.argv[2]))
