"""What a turn through trio's scheduler costs, beside what waiting without it costs: microseconds, best of rounds.

    python -m tests.bench.trials.trio_costs [--tasks 10 1000 10000]

The pump comes back to trio once in a turn (2 ms) under load, and whenever it waits longer than a nap. Sleeping
tasks, one a connection, stand beside, as in the appliance.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

COUNT = 2000
ROUNDS = 7


async def best(action: Callable[[], Awaitable[object]]) -> float:
    """Microseconds of the quickest round of COUNT."""
    least = 1e18
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(COUNT):
            await action()
        least = min(least, (time.perf_counter() - begin) / COUNT * 1e6)
    return least


async def measure(tasks: int, fd: int) -> None:
    async def nap() -> None:
        select.select([fd], (), (), 0.0005)

    async def wait() -> None:
        await trio.lowlevel.wait_readable(fd)

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(trio.sleep_forever)
        await trio.lowlevel.checkpoint()
        print(
            f"{tasks} sleeping tasks: checkpoint {await best(trio.lowlevel.checkpoint):.2f} us, wait_readable of "
            f"what is readable {await best(wait):.2f} us, select in the thread "
            f"{await best(nap):.2f} us",
            flush=True,
        )
        nursery.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[10, 1000, 10_000])
    fd = os.eventfd(1, os.EFD_NONBLOCK)
    for tasks in parser.parse_args().tasks:
        trio.run(measure, tasks, fd)
    os.close(fd)


if __name__ == "__main__":
    main()
