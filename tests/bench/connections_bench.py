"""What a request costs while other connections are open, and what ten times a second costs then: instructions.

    .venv/bin/python -m tests.bench.connections_bench [--connections 10 1000 3000]

Both ends are stacks of ours in one process, joined in memory under a virtual clock; ten clients ask in turn while
the others are idle. Each figure is the difference of two runs under `valgrind --tool=callgrind`, with few requests
and with many (or few virtual seconds and many), so that opening the connections is not in it.

A percent or two between numbers of connections are the interpreter's: which of its method cache's entries share a
place depends on addresses. The server alone, without the client's tasks, is counted by `instructions.py`.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys

import trio
from trio.testing import MockClock

from appliance._build import build_kind
from appliance.redis.engine import Engine, EngineSettings
from appliance.shell.redis_service import RedisService, run_cron
from tests.shell.support import SERVER, ask, two_networks

REQUESTS = 2000
SECONDS = 60.0


async def play(connections: int, requests: int, seconds: float) -> None:
    """One run, to be counted."""
    async with two_networks() as (client, server), trio.open_nursery() as nursery:
        engine = Engine(EngineSettings(), random.Random(7).randbytes)
        service = RedisService(server, engine, 6379)
        nursery.start_soon(service.run)
        nursery.start_soon(run_cron, engine, server.clock)
        streams = [await client.open_tcp_stream(SERVER, 6379) for _ in range(connections)]
        for number in range(requests):
            await ask(streams[number % 10], b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()


def instructions(connections: int, requests: int, seconds: float) -> int:
    command = [sys.executable, "-m", "tests.bench.connections_bench", "--play"]
    command += [str(connections), str(requests), str(seconds)]
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "0", "PYTHONPATH": "."},
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found.group(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--connections", type=int, nargs="+", default=[10, 1000, 3000])
    parser.add_argument("--play", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        connections, requests, seconds = options.play
        trio.run(play, int(connections), int(requests), float(seconds), clock=MockClock(autojump_threshold=0))
        return
    for connections in options.connections:
        base = instructions(connections, 100, 1.0)
        request = (instructions(connections, 100 + REQUESTS, 1.0) - base) / REQUESTS
        second = (instructions(connections, 100, 1.0 + SECONDS) - base) / SECONDS
        print(
            f"{connections} connections: {request:.0f} instructions a request (both ends), "
            f"{second:.0f} a second of idleness ({build_kind()})"
        )


if __name__ == "__main__":
    main()
