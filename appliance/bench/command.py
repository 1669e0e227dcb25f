"""The command `redtap bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from appliance.bench.cases import CASES, Case
from appliance.bench.flood_bench import measure_flood, table as flood_table
from appliance.bench.machine import Steadiness
from appliance.bench.peers import LABELS, Peer, Peers
from appliance.bench.report import Results, summarize, table
from appliance.bench.wire_bench import WIRE_CASES, WireCase, measure_wire, wire_table
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

_C = TypeVar("_C", Case, WireCase)

__all__ = ["bench"]


@click.command()
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Rounds of each case."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 60),
    default=None,
    help="About how long each run takes.  [default: 1; 8 with --wire, 10 with --flood]",
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
@click.option(
    "--wire", "is_wire", is_flag=True, help="Our TCP and the kernel's as senders over a wire that loses."
)
@click.option("--flood", "is_flood", is_flag=True, help="Established clients beside a flood of forged SYNs.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Rounds at the same time (--wire only).",
)
def bench(
    rounds: int,
    seconds: float | None,
    wanted: tuple[str, ...],
    peer_names: tuple[str, ...],
    json_path: str | None,
    is_wire: bool,
    is_flood: bool,
    jobs: int,
) -> None:
    """Compare with redis-server, side by side.

    Runs redis-benchmark against this appliance, redis-server and our engine on kernel sockets, in turn, and
    prints medians of requests per second and of the ratios. Needs root, redis-benchmark and a redis-server.

    With --wire it compares TCP alone: our sender and the kernel's CUBIC, each to a kernel receiver, over
    wires in user space with the same rate, delay and seeded losses. A round is a seed. Needs root.

    With --flood it measures what clients of this appliance keep of their requests per second while forged
    SYNs come in at 20,000 and 50,000 a second, and whether new clients are served.
    """
    console = Console(stderr=True)
    if is_wire:
        with console.status("") as status:
            measured = measure_wire(
                _select(WIRE_CASES, wanted),
                seeds=rounds,
                seconds=seconds or 8.0,
                jobs=min(jobs, rounds),
                progress=status.update,
            )
        _show(measured, wire_table(measured), json_path)
        return
    if is_flood:
        with console.status("") as status:
            measured = measure_flood(rounds=rounds, seconds=seconds or 10.0, progress=status.update)
        _show(measured, flood_table(measured), json_path)
        return
    seconds = seconds or 1.0
    cases = _select(CASES, wanted)
    steadiness = Steadiness()
    with Peers(peer_names or tuple(LABELS)) as started:
        results = _measure(cases, started.peers, rounds, seconds, steadiness, console)
        summary = summarize(cases, started.peers, results, rounds=rounds, waited_s=steadiness.waited_s)
    _show(summary, table(summary), json_path)


def _select(cases: Sequence[_C], wanted: tuple[str, ...]) -> list[_C]:
    """The cases that `--case` names; all without it."""
    found = [
        case for case in cases if not wanted or any(part.lower() in case.name.lower() for part in wanted)
    ]
    if not found:
        names = ", ".join(repr(case.name) for case in cases)
        raise ConfigError(f"--case: nothing matches; the cases are {names}")
    return found


def _show(summary: dict[str, Any], shown: Table, json_path: str | None) -> None:
    """The table, and the whole as JSON where it is wanted; standard output carries one of them."""
    if json_path == "-":
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        Console(stderr=True).print(shown)
        return
    if json_path is not None:
        Path(json_path).write_text(json.dumps(summary, indent=2) + "\n")
    Console().print(shown)


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
