"""A worker of a consumer group, as an application has it: a process of its own, with redis-py.

    python -m tests.support.stream_worker ADDRESS PORT NAME [ENTRIES]

It takes over what others have left, reads what is new, counts each entry it handles in the hash `handled`, and
acknowledges it. It ends when the key `closed` is there and nothing is left to do. With ENTRIES it reads a batch after
that many entries, says so in the key `stuck`, and hangs until it is killed.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import redis

STREAM = "jobs"
GROUP = "workers"
BATCH = 10
# Who has not acknowledged an entry for that long is taken for dead. No living worker is ever so slow: the test says of
# the dead one's entries that they are that old.
IDLE_MS = 1_000_000


def work(client: Any, name: str, hangs_after: int) -> None:
    handled = 0
    while True:
        entries = client.xautoclaim(STREAM, GROUP, name, min_idle_time=IDLE_MS, count=BATCH)[1]
        if not entries:
            fresh = client.xreadgroup(GROUP, name, {STREAM: ">"}, count=BATCH, block=50)
            entries = fresh[0][1] if fresh else []
        if 0 < hangs_after <= handled and entries:
            client.set("stuck", len(entries))
            signal.pause()
        for entry_id, fields in entries:
            client.hincrby("handled", fields[b"job"], 1)
            assert client.xack(STREAM, GROUP, entry_id) == 1
            handled += 1
        if not entries and client.exists("closed") and client.xpending(STREAM, GROUP)["pending"] == 0:
            return


if __name__ == "__main__":
    with redis.Redis(sys.argv[1], int(sys.argv[2]), socket_timeout=60) as connection:
        work(connection, sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 0)
