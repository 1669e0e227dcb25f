"""BullMQ: long Lua scripts with cmsgpack. Jobs at once, later, by priority, with retries, and parents of others.

python -m tests.support.frameworks.bullmq_jobs redis://10.77.0.2:6379 300
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from bullmq import FlowProducer, Queue, Worker

from tests.support.frameworks.left import left_by

_PATIENCE_S = 100


async def work(url: str, count: int) -> dict[str, Any]:
    options: Any = {"connection": url}
    tries: Counter[str] = Counter()

    async def process(job: Any, _token: str) -> Any:
        tries[job.name] += 1
        if job.name == "fails once" and job.attemptsMade == 0:
            raise ValueError("not the first time")
        if job.name == "hopeless":
            raise ValueError("no hope")
        await job.updateProgress(50)
        await job.log(f"at {job.data['number']}")
        return {"square": job.data["number"] ** 2}

    queue = Queue("jobs", options)
    flows = FlowProducer(url)
    names = ["plain", "fails once", "later", "urgent"]
    extra: dict[str, dict[str, Any]] = {
        "plain": {},
        "fails once": {"attempts": 3, "backoff": {"type": "fixed", "delay": 1}},
        "later": {"delay": 20},
        "urgent": {"priority": 5},
    }
    await queue.addBulk(
        [{"name": names[at % 4], "data": {"number": at}, "opts": extra[names[at % 4]]} for at in range(count)]
    )
    await queue.add("hopeless", {"number": 0}, {"attempts": 2, "backoff": {"type": "fixed", "delay": 1}})
    await queue.add("gone", {"number": 3}, {"removeOnComplete": True})
    again = [await queue.add("once", {"number": 1}, {"jobId": "the-one"}) for _ in range(3)]
    assert {job.id for job in again} == {"the-one"}
    children: Any = [
        {"name": "child", "queueName": "jobs", "data": {"number": number}} for number in range(5)
    ]
    await flows.add({"name": "parent", "queueName": "jobs", "data": {"number": 9}, "children": children})
    counts_before = await queue.getJobCounts("waiting-children", "delayed", "prioritized")
    worker = Worker("jobs", process, {**options, "concurrency": 5, "autorun": False})
    running = asyncio.ensure_future(worker.run())
    wanted = count + 1 + 5 + 1  # and "the-one", the children and their parent
    async with asyncio.timeout(_PATIENCE_S):
        while await queue.getCompletedCount() < wanted or await queue.getFailedCount() < 1:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    await worker.close()
    await running
    failed = await queue.getJobs(["failed"])
    completed = await queue.getCompleted()
    squares = sum(job.returnvalue["square"] for job in completed)
    assert squares == sum(at**2 for at in range(count)) + 1 + sum(at**2 for at in range(5)) + 81
    told = await queue.getJobLogs("the-one")
    events = Counter(fields["event"] for _, fields in await queue.client.xrange("bull:jobs:events"))
    del events["drained"]  # how often the queue was empty depends on who came first, as does what follows
    await queue.client.delete("bull:jobs:events", "bull:jobs:marker", "bull:jobs:stalled-check")
    left = left_by(url, r"(?<=bull:jobs:)[0-9]+")
    await queue.obliterate(force=1)
    counts = await queue.getJobCounts()
    for each in (queue, flows):
        await each.close()
    return {
        "tries": tries,
        "before": counts_before,
        "counts": counts,
        "failed": Counter(f"{job.name}: {job.failedReason}, {job.attemptsMade}" for job in failed),
        "events": events,
        "log": told["logs"],
        "left": left,
        "obliterated": left_by(url),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(work(sys.argv[1], int(sys.argv[2]))), sort_keys=True))
