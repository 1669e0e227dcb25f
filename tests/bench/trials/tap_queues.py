"""One queue of a TAP or several (IFF_MULTI_QUEUE), read by one thread or by one each: requests a second.

    python -m tests.bench.trials.tap_queues [--rounds 5] [--seconds 0.4]

What answers is the benchmark's floor, a loop with canned replies, so whatever queues can give shows here more
than it could behind a whole stack. Needs root and redis-benchmark.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

import pytun

from appliance.bench.canned import Canned
from appliance.bench.cases import case_named
from appliance.bench.cores import choose, on_core, placed
from appliance.bench.floor import ADDRESS, answer_all, serve
from appliance.bench.machine import Steadiness
from appliance.bench.measure import measure_rounds
from appliance.bench.peers import Peer, ready_line, stop
from appliance.bench.report import format_ratio, ratio
from appliance.shell.addresses import parse_address
from netns.build import build
from netns.inside import inside, spawn
from netns.tap import open_tap
from netns.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable

MAC = b"\x02\x52\0\0\0\x0f"
REPLY = b"$3\r\nxxx\r\n"
WAYS = {"1 queue": (1, 0), "2 queues": (2, 0), "4 queues": (4, 0), "2 queues, 2 threads": (2, 1)}
"""Queues, and whether each has a thread. Those with threads may use every core, the others one."""


def serve_all(descriptors: list[int], canned: Canned) -> None:
    """`floor.serve` for several descriptors."""
    poll = select.epoll()
    for fd in descriptors:
        poll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            answer_all(fd, canned)


def run_server(place: str, queues: int, has_threads: bool) -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if queues > 1:
        pytun.IFF_NO_PI |= (
            pytun.IFF_MULTI_QUEUE
        )  # the one way into `open_tap` for a flag that nobody else needs
    address = parse_address(ADDRESS)
    with build(Topology(place, "queues0", "10.76.0.1/24")) as built:
        taps = [built.tap]
        while len(taps) < queues:
            taps.append(inside(place, lambda: open_tap("queues0", vnet_header=True, offloads=True)))
        descriptors = [tap.fd for tap in taps]
        print("ready", flush=True)
        if has_threads:
            for fd in descriptors[1:]:
                threading.Thread(target=serve, args=(fd, Canned(MAC, address, REPLY)), daemon=True).start()
            serve(descriptors[0], Canned(MAC, address, REPLY))
        elif queues == 1:
            serve(descriptors[0], Canned(MAC, address, REPLY))
        else:
            serve_all(descriptors, Canned(MAC, address, REPLY))


def spawner(place: str, core: int | None) -> Callable[..., subprocess.Popen[bytes]]:
    return on_core(core, lambda argv, **options: spawn(place, argv, **options))


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        place, queues, threads = options.serve
        run_server(place, int(queues), bool(int(threads)))
        return
    cores = choose()
    with ExitStack() as stack:
        peers = []
        for number, (name, (queues, threads)) in enumerate(WAYS.items()):
            place = f"queues-{os.getpid()}-{number}"
            argv = [sys.executable, "-m", "tests.bench.trials.tap_queues", "--serve", place]
            with placed(cores.server if cores and not threads else None):
                process = subprocess.Popen([*argv, str(queues), str(threads)], stdout=subprocess.PIPE)
            stack.callback(stop, process)
            ready_line(process, name)
            run = spawner(place, cores.client if cores else None)
            peers.append(Peer(name, "", ADDRESS, 6379, run, place, process.pid, commands=("get",)))
        for case in map(case_named, ("GET -c 50 -P 1", "GET -c 50 -P 16")):
            _, measured = measure_rounds(
                case,
                peers,
                rounds=options.rounds,
                seconds=options.seconds,
                steadiness=Steadiness(),
                progress=lambda _: None,
            )
            one = [run.rps for run in measured["1 queue"]]
            for name, runs in measured.items():
                rates = [run.rps for run in runs]
                print(
                    f"{case.name:18}{name:22}{median(rates):12,.0f}/s  to one queue "
                    f"{format_ratio(ratio(rates, one, best=max))}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
