"""The command `redtap bench`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from appliance import __version__
from appliance._build import build_kind
from appliance.bench.cases import CASES, SETS, missing_commands, select
from appliance.bench.congestion import DEFAULT, SYSTEM
from appliance.bench.cores import choose, described
from appliance.bench.echo_bench import echo_table, measure_echo
from appliance.bench.flood_bench import measure_flood, table as flood_table
from appliance.bench.links_bench import LINK_CASES, links_table, measure_links
from appliance.bench.machine import Steadiness, machine_facts, system_congestion
from appliance.bench.measure import measure_rounds, participants
from appliance.bench.memory import measure_memory
from appliance.bench.peers import LABELS, Peers, why_unavailable
from appliance.bench.picture import check_picture, draw
from appliance.bench.report import case_row, memory_table, table, target_table
from appliance.bench.targets import check
from appliance.bench.wire_bench import WIRE_CASES, measure_wire, wire_table
from appliance.errors import ConfigError
from appliance.redis.engine import Engine, EngineSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from rich.table import Table

    from appliance.bench.cases import Case, CaseSet
    from appliance.bench.cores import Cores
    from appliance.bench.peers import Peer

_C = TypeVar("_C")

__all__ = ["bench"]


def _split(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """`a,b` and `a` given twice are the same."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


@click.command()
@click.option(
    "--set",
    "set_name",
    type=click.Choice(tuple(SETS)),
    default="quick",
    show_default=True,
    help="Which cases, and which peers: targets is what the project promises.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Rounds of each case."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.05, 60),
    default=None,
    help="About how long each run takes.  [default: 1; 8 with --wire, 10 with --flood]",
)
@click.option(
    "--cases",
    "--case",
    "wanted",
    multiple=True,
    callback=_split,
    metavar="NAMES",
    help="Only these of all cases: commands (get,set), or parts of names; may be repeated.",
)
@click.option(
    "--peers",
    "--peer",
    "peer_names",
    multiple=True,
    callback=_split,
    metavar="NAMES",
    help=f"Only these peers, of {', '.join(LABELS)}; may be repeated.",
)
@click.option(
    "--memory/--no-memory",
    "wants_memory",
    default=None,
    help="Measure memory per idle connection and per key.  [default: with targets and full]",
)
@click.option(
    "--congestion",
    default=DEFAULT,
    show_default=True,
    metavar="NAME",
    help=f"Congestion control of the kernels, the same for all peers; {SYSTEM} leaves the system's.",
)
@click.option(
    "--pin/--no-pin",
    "is_pinned",
    default=True,
    help="Servers on one core and clients on another, the same two for all peers.  [default: --pin]",
)
@click.option(
    "--json", "json_path", metavar="FILE", help="Write everything measured there; - is standard output."
)
@click.option("--picture", "picture_path", metavar="FILE", help="Draw the ratios there (.png, .svg, .pdf).")
@click.option(
    "--wire", "is_wire", is_flag=True, help="Our TCP and the kernel's as senders over a wire that loses."
)
@click.option("--flood", "is_flood", is_flag=True, help="Established clients beside a flood of forged SYNs.")
@click.option("--links", "is_links", is_flag=True, help="This appliance over each kind of link, in turn.")
@click.option("--echo", "is_echo", is_flag=True, help="Our TCP beside PyTCP's, each with an echo service.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Rounds at the same time (--wire only).",
)
def bench(
    set_name: str,
    rounds: int,
    seconds: float | None,
    wanted: tuple[str, ...],
    peer_names: tuple[str, ...],
    wants_memory: bool | None,
    congestion: str,
    is_pinned: bool,
    json_path: str | None,
    picture_path: str | None,
    is_wire: bool,
    is_flood: bool,
    is_links: bool,
    is_echo: bool,
    jobs: int,
) -> None:
    """Compare with redis-server, side by side.

    Runs redis-benchmark against this appliance, redis-server, our engine on kernel sockets and others, in
    turn, round by round, and prints requests per second, latencies, processor time, and medians of the
    ratios with their spread. Needs root, redis-benchmark and a redis-server.

    With --wire it compares TCP alone: our sender and the kernel's CUBIC, each to a kernel receiver, over
    wires in user space with the same rate, delay and seeded losses. A round is a seed. Needs root.

    With --flood it measures what clients of this appliance keep of their requests per second while forged
    SYNs come in at 20,000 and 50,000 a second, and whether new clients are served.

    With --links it compares the kinds of link that this machine has with the TAP: requests per second,
    latencies, processor time.

    With --echo it compares our TCP with PyTCP's, where that is installed: one client's round trips to an
    echo service.
    """
    console = Console(stderr=True)
    if is_wire:
        with console.status("") as status:
            measured = measure_wire(
                _select(WIRE_CASES, wanted, lambda case: case.name),
                seeds=rounds,
                seconds=seconds or 8.0,
                jobs=min(jobs, rounds),
                progress=status.update,
            )
        _show(measured, [wire_table(measured)], json_path)
        return
    if is_flood:
        with console.status("") as status:
            measured = measure_flood(rounds=rounds, seconds=seconds or 10.0, progress=status.update)
        _show(measured, [flood_table(measured)], json_path)
        return
    if is_links:
        with console.status("") as status:
            measured = measure_links(
                _select(LINK_CASES, wanted, lambda case: case.name),
                rounds=rounds,
                seconds=seconds or 1.0,
                congestion=congestion,
                cores=choose() if is_pinned else None,
                progress=status.update,
            )
        for note in measured["not_measured"]:
            console.print(f"not measured: {note}", highlight=False)
        _show(measured, [links_table(measured)], json_path)
        return
    if is_echo:
        with console.status("") as status:
            measured = measure_echo(rounds=rounds, seconds=seconds or 1.0, progress=status.update)
        for note in measured["not_measured"]:
            console.print(f"not measured: {note}", highlight=False)
        _show(measured, [echo_table(measured)], json_path)
        return
    if picture_path is not None:
        check_picture(picture_path)
    cases, chosen, names, notes = _plan(set_name, wanted, peer_names)
    if wants_memory is None:
        wants_memory = chosen is not None and chosen.has_memory
    with console.status("") as status:
        summary = _run(
            cases,
            chosen,
            names,
            rounds=rounds,
            seconds=seconds or 1.0,
            wants_memory=wants_memory,
            congestion=congestion,
            cores=choose() if is_pinned else None,
            progress=status.update,
        )
    summary["set"] = set_name if chosen is not None else ""
    summary["not_measured"] = notes
    for note in notes:
        console.print(f"not measured: {note}", highlight=False)
    if picture_path is not None:
        draw(summary, picture_path)
    _show(summary, tables(summary), json_path)


def known_commands() -> set[str]:
    """The commands that our engine has."""
    engine = Engine(EngineSettings(), bytes)
    return {command.full_name.decode() for command in engine.registry.every()}


def _plan(
    set_name: str, wanted: Sequence[str], peer_names: Sequence[str]
) -> tuple[list[Case], CaseSet | None, list[str], list[str]]:
    """What is to be measured: the cases, the set that chose them, the peers; and what is left out, and why.

    Raises:
        ConfigError: a name that nothing has, or a peer asked for that cannot take part.
    """
    notes: list[str] = []
    unknown = [name for name in peer_names if name not in LABELS]
    if unknown:
        raise ConfigError(f"--peers: no such peer: {unknown[0]}; takes some of {', '.join(LABELS)}")
    names = list(peer_names)
    for name in names:
        if reason := why_unavailable(name):
            raise ConfigError(f"--peers {name}: {reason}")
    if not names:
        for name in SETS[set_name].peers:
            if reason := why_unavailable(name):
                notes.append(f"{name}: {reason}")
            else:
                names.append(name)
    cases = select(set_name, wanted)
    if not cases:
        known = ", ".join(repr(case.name) for case in CASES)
        raise ConfigError(f"--cases: nothing matches; the cases are {known}")
    possible, missing = _possible(cases, known_commands())
    if not possible:
        raise ConfigError(f"--cases: {missing[0]}")
    # Who is asked what stands in the set only while the set decides.
    chosen = SETS[set_name] if not wanted and not peer_names else None
    return possible, chosen, names, notes + missing


def _possible(cases: Sequence[Case], known: Collection[str]) -> tuple[list[Case], list[str]]:
    possible, notes = [], []
    for case in cases:
        missing = missing_commands(case, known)
        if missing:
            notes.append(f"{case.name}: our engine has no {' nor '.join(missing)} yet")
        else:
            possible.append(case)
    return possible, notes


def _run(
    cases: Sequence[Case],
    chosen: CaseSet | None,
    names: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    wants_memory: bool,
    congestion: str,
    cores: Cores | None,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Measure all of it; the summary."""
    steadiness = Steadiness()
    progress("starting the servers")
    with Peers(names, congestion, cores=cores) as started:
        versions = {peer.name: peer.version for peer in started.peers}
        rows = measure_cases(
            cases,
            started.peers,
            chosen,
            rounds=rounds,
            seconds=seconds,
            steadiness=steadiness,
            progress=progress,
        )
    memory = []
    if wants_memory:
        memory = measure_memory(
            [name for name in names if name in ("redtap", "redis-server")], progress=progress
        )
    summary: dict[str, Any] = {
        "redtap": f"{__version__}, {build_kind()} build",
        "machine": machine_facts(),
        "rounds": rounds,
        "seconds": seconds,
        "congestion_control": congestion if congestion != SYSTEM else system_congestion(),
        "pinned": described(cores),
        "cores": None if cores is None else {"server": cores.server, "client": cores.client},
        "waited_for_the_machine_s": round(steadiness.waited_s, 1),
        "peers": versions,
        "labels": {name: LABELS[name] for name in names},
        "cases": rows,
        "memory": memory,
    }
    summary["targets"] = check(summary)
    return summary


def measure_cases(
    cases: Sequence[Case],
    peers: Sequence[Peer],
    chosen: CaseSet | None,
    *,
    rounds: int,
    seconds: float,
    steadiness: Steadiness,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """A row for each case that anybody can take part in."""
    rows = []
    for number, case in enumerate(cases):
        present = participants(case, peers, chosen)
        if present:
            requests, measured = measure_rounds(
                case,
                present,
                rounds=rounds,
                seconds=seconds,
                steadiness=steadiness,
                progress=partial(_numbered, progress, f"{number + 1}/{len(cases)}"),
            )
            rows.append(case_row(case, requests, measured))
    return rows


def _numbered(progress: Callable[[str], None], number: str, text: str) -> None:
    progress(f"{number} {text}")


def tables(summary: dict[str, Any]) -> list[Table]:
    """All that there is to show."""
    shown = [table(summary)]
    if summary["memory"]:
        shown.append(memory_table(summary["memory"]))
    if summary["targets"]:
        shown.append(target_table(summary["targets"]))
    return shown


def _select(cases: Sequence[_C], wanted: tuple[str, ...], name_of: Callable[[_C], str]) -> list[_C]:
    """The cases whose name contains one of `wanted`; all without it."""
    found = [
        case for case in cases if not wanted or any(part.lower() in name_of(case).lower() for part in wanted)
    ]
    if not found:
        names = ", ".join(repr(name_of(case)) for case in cases)
        raise ConfigError(f"--cases: nothing matches; the cases are {names}")
    return found


def _show(summary: dict[str, Any], shown: Sequence[Table], json_path: str | None) -> None:
    """The tables, and the whole as JSON where it is wanted; standard output carries one of them."""
    console = Console(stderr=json_path == "-")
    if json_path == "-":
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
    elif json_path is not None:
        Path(json_path).write_text(json.dumps(summary, indent=2) + "\n")
    for one in shown:
        console.print(one)
