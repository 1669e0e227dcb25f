"""An application on streams, through our TCP: four workers share the entries out, and one of them dies."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis

from netns.inside import spawn
from tests.support.running import ADDRESS, PORT, until
from tests.support.stream_worker import BATCH, GROUP, IDLE_MS, STREAM

if TYPE_CHECKING:
    import subprocess

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

VICTIM = "worker-0"


def start_worker(appliance: RunningAppliance, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.stream_worker", ADDRESS, str(PORT), name, *arguments]
    return spawn(appliance.namespace, command)


def test_consumer_group_loses_and_duplicates_nothing_when_a_worker_dies(
    appliance: RunningAppliance, is_compiled: bool
) -> None:
    jobs = 4000 if is_compiled else 1000

    def connect() -> Any:
        client = redis.Redis(ADDRESS, PORT, socket_timeout=60)
        client.ping()
        return client

    with appliance.inside(connect) as client:
        client.flushall()
        client.xgroup_create(STREAM, GROUP, id=0, mkstream=True)
        # At first it is alone, so that it gets as many as it needs.
        workers = [start_worker(appliance, VICTIM, "50")]
        try:
            for first in range(0, jobs, 100):
                with client.pipeline(transaction=False) as pipeline:
                    for job in range(first, first + 100):
                        pipeline.xadd(STREAM, {"job": job})
                    pipeline.execute()
                if first == 0:
                    until(lambda: client.exists("stuck"), 60, "a worker hangs with a batch")
                    workers += [start_worker(appliance, f"worker-{number}") for number in range(1, 4)]
            left = int(client.get("stuck"))
            assert 1 <= left <= BATCH
            owned = {each["name"]: each["pending"] for each in client.xinfo_consumers(STREAM, GROUP)}
            assert owned[VICTIM.encode()] == left
            workers[0].kill()
            workers[0].wait(60)
            pending = client.xpending_range(STREAM, GROUP, "-", "+", BATCH, VICTIM)
            ids = [each["message_id"] for each in pending]
            assert len(client.xclaim(STREAM, GROUP, VICTIM, 0, ids, idle=2 * IDLE_MS, justid=True)) == left
            client.set("closed", 1)
            for worker in workers[1:]:
                assert worker.wait(60) == 0
        finally:
            for worker in workers:
                worker.kill()
                worker.wait(60)
        handled = client.hgetall("handled")
        assert {int(job) for job in handled} == set(range(jobs))
        assert set(handled.values()) == {b"1"}
        assert client.xpending(STREAM, GROUP)["pending"] == 0
        group = client.xinfo_groups(STREAM)[0]
        assert (group["lag"], group["entries-read"]) == (0, jobs)
        assert client.xlen(STREAM) == jobs
