"""The command `redtap bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from appliance.bench.cases import CASES, Case
from appliance.bench.machine import Steadiness
from appliance.bench.peers import LABELS, Peer, Peers
from appliance.bench.report import Results, summarize, table
from appliance.errors import ConfigError

__all__ = ["bench"]


@click.command()
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Rounds of each case."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 60),
    default=1.0,
    show_default=True,
    help="About how long each run takes.",
)
@click.option("--case", "wanted", multiple=True, help="Only cases whose name contains this; may be repeated.")
@click.option(
    "--peer",
    "peer_names",
    multiple=True,
    type=click.Choice(tuple(LABELS)),
    help="Only these peers; may be repeated.",
)
@click.option(
    "--json", "json_path", metavar="FILE", help="Write everything measured there; - is standard output."
)
def bench(
    rounds: int, seconds: float, wanted: tuple[str, ...], peer_names: tuple[str, ...], json_path: str | None
) -> None:
    """Compare with redis-server, side by side.

    Runs redis-benchmark against this appliance, redis-server and our engine on kernel sockets, in turn, and
    prints medians of requests per second and of the ratios. Needs root, redis-benchmark and a redis-server.
    """
    cases = [
        case for case in CASES if not wanted or any(part.lower() in case.name.lower() for part in wanted)
    ]
    if not cases:
        names = ", ".join(repr(case.name) for case in CASES)
        raise ConfigError(f"--case: nothing matches; the cases are {names}")
    console = Console(stderr=True)
    steadiness = Steadiness()
    with Peers(peer_names or tuple(LABELS)) as started:
        results = _measure(cases, started.peers, rounds, seconds, steadiness, console)
        summary = summarize(cases, started.peers, results, rounds=rounds, waited_s=steadiness.waited_s)
    if json_path == "-":
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        console.print(table(summary))
        return
    if json_path is not None:
        Path(json_path).write_text(json.dumps(summary, indent=2) + "\n")
    Console().print(table(summary))


def _measure(
    cases: list[Case],
    peers: list[Peer],
    rounds: int,
    seconds: float,
    steadiness: Steadiness,
    console: Console,
) -> Results:
    results: Results = {case.name: {peer.name: [] for peer in peers} for case in cases}
    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(cases) * len(peers) * rounds)
        for case in cases:
            for peer in peers:
                peer.measure(case.fill(), 1)
                peer.measure(case, max(case.requests(seconds) // 10, case.clients * case.pipeline))
            for number in range(rounds):
                steadiness.wait()
                # Another one begins each round, so that none always follows the same neighbour.
                first = number % len(peers)
                for peer in peers[first:] + peers[:first]:
                    progress.update(task, description=f"{case.name}, round {number + 1}: {peer.name}")
                    results[case.name][peer.name].append(peer.measure(case, case.requests(seconds)))
                    progress.advance(task)
    return results
