"""The same appliance under several interpreters, in turn: what another Python would give.

    python -m tests.bench.trials.interpreters NAME=PYTHON:TREE [NAME=PYTHON:TREE ...] [--cases 'GET -c 50 -P 1']

TREE is a checkout with the build for PYTHON in it (`setup.py build_ext --inplace`). Ratios are the first one's to
each other's, so above 1 the first is faster. Needs root and redis-benchmark.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from appliance.bench.cases import case_named
from appliance.bench.cores import choose
from appliance.bench.machine import Steadiness
from appliance.bench.measure import measure_rounds
from appliance.bench.peers import Peers
from appliance.bench.report import format_ratio, ratio

if TYPE_CHECKING:
    from appliance.bench.peers import Peer


def started(stack: ExitStack, name: str, python: str, tree: str) -> Peer:
    """`redtap serve` of `tree` under `python`."""
    here, executable = os.getcwd(), sys.executable
    os.chdir(tree)
    sys.executable = python
    try:
        (peer,) = stack.enter_context(Peers(["redtap"], cores=choose())).peers
    finally:
        os.chdir(here)
        sys.executable = executable
    return replace(peer, name=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("interpreters", nargs="+", metavar="NAME=PYTHON:TREE")
    parser.add_argument("--cases", nargs="+", default=["GET -c 50 -P 1", "GET -c 50 -P 16", "GET -c 1"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4)
    options = parser.parse_args()
    steadiness = Steadiness()
    with ExitStack() as stack:
        peers = []
        for word in options.interpreters:
            name, _, place = word.partition("=")
            python, _, tree = place.partition(":")
            peers.append(started(stack, name, python, tree))
        for case in map(case_named, options.cases):
            _, measured = measure_rounds(
                case,
                peers,
                rounds=options.rounds,
                seconds=options.seconds,
                steadiness=steadiness,
                progress=lambda _: None,
            )
            first = [run.rps for run in measured[peers[0].name]]
            for peer in peers:
                rates = [run.rps for run in measured[peer.name]]
                user = median(run.server_us.user for run in measured[peer.name])
                system = median(run.server_us.system for run in measured[peer.name])
                print(
                    f"{case.name:16} {peer.name:12} {median(rates):12,.0f}/s  server {user:.2f}+{system:.2f} us  "
                    f"{format_ratio(ratio(first, rates, best=max))}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
