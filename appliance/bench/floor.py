"""The floor of the benchmark: a loop that reads a TAP and answers each frame with a canned one.

    python -m appliance.bench.floor --netns floor-1

It makes the namespace and the TAP as `redtap serve` does, reads in batches as that does, and waits as little
as a loop can: no trio, no timers, no connections, no Redis. What a client gets from it is what the kernel's
own work on a TAP leaves to anybody. Prints one ready line; ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from appliance.bench.canned import Canned
from appliance.errors import ApplianceError, WireError
from appliance.shell.addresses import parse_address
from netns.build import build
from netns.errors import TopologyError
from netns.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["answer_all", "main", "serve"]

ADDRESS: Final = "10.76.0.2"
_CLIENT: Final = "10.76.0.1/24"
_MAC: Final = b"\x02\x52\0\0\0\x0f"
_REPLY: Final = b"$3\r\nxxx\r\n"
_MAX_FRAME: Final = 10 + 14 + 65_535
_BATCH: Final = 256


def serve(fd: int, canned: Canned) -> None:
    """Answer what comes over `fd`, which does not block, until it is closed (OSError) or the process ends."""
    poll = select.epoll()
    poll.register(fd, select.EPOLLIN)
    while True:
        poll.poll()
        answer_all(fd, canned)


def answer_all(fd: int, canned: Canned) -> None:
    """Read and answer in batches, each as long as the one before, twice as long when that was full."""
    answer, read, write = canned.answer, os.read, os.write
    limit = 1
    while True:
        frames: list[bytes] = []
        with suppress(BlockingIOError):
            for _ in range(limit):
                frames.append(read(fd, _MAX_FRAME))  # noqa: PERF401 - the one that fails ends the batch
        if not frames:
            return
        for frame in frames:
            try:
                reply = answer(frame)
            except (WireError, IndexError, ValueError, struct.error):
                continue  # of another protocol, and short
            if reply:
                write(fd, reply)
        limit = len(frames) if len(frames) < limit else min(2 * limit, _BATCH)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; it runs until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m appliance.bench.floor", description=__doc__)
    parser.add_argument("--netns", required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with build(Topology(options.netns, "floor0", _CLIENT)) as built:
            os.set_blocking(built.tap.fd, False)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            with suppress(KeyboardInterrupt):
                serve(built.tap.fd, Canned(_MAC, parse_address(ADDRESS), _REPLY))
    except (ApplianceError, TopologyError) as error:
        sys.stderr.write(f"floor: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
