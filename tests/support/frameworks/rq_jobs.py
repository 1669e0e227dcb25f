"""RQ: jobs in a queue for a worker without forks, some of them retried, one that never succeeds.

python -m tests.support.frameworks.rq_jobs redis://10.77.0.2:6379 1000
"""

from __future__ import annotations

import json
import logging
import sys

import redis
from rq import Queue, Retry, SimpleWorker, get_current_job


def square(number: int) -> int:
    """Every tenth fails at first."""
    job = get_current_job()
    assert job is not None
    job.connection.incr("attempts")
    if number % 10 == 0 and job.connection.sadd("failed", number):
        raise ValueError("not the first time")
    return number * number


def hopeless() -> None:
    raise ValueError("no hope")


def main(url: str, count: int) -> None:
    logging.getLogger("rq.worker").setLevel(logging.CRITICAL)
    connection = redis.Redis.from_url(url)
    queue = Queue(connection=connection)
    from tests.support.frameworks import rq_jobs  # by its own name, as the worker knows it

    prepared = [
        Queue.prepare_data(rq_jobs.square, args=(number,), retry=Retry(max=3), result_ttl=600)
        for number in range(count)
    ]
    jobs = queue.enqueue_many(prepared)
    failing = queue.enqueue(rq_jobs.hopeless, retry=Retry(max=2))
    SimpleWorker([queue], connection=connection).work(burst=True, logging_level="CRITICAL")
    for number, job in enumerate(jobs):
        assert job.return_value() == number * number, number
    failing.refresh()
    assert failing.is_failed
    print(
        json.dumps(
            {
                "attempts": int(connection.get("attempts") or 0),
                "failed": len(queue.failed_job_registry),
                "left": len(queue),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
