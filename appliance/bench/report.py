"""The results: medians, ratios with their spread, as tables for people and as JSON for programs.

A ratio is ours to the peer's, round by round: both ran within seconds of each other, on the same machine at
the same speed. Of the rounds' ratios the median counts, and beside it stand the least, the greatest and the
scatter (the standard deviation of their logarithms, as a percentage), and the ratio of the best rounds: what
the machine takes from a round it rarely takes from all of them.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from statistics import median, pstdev
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from appliance.bench.load import PERCENTILES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.bench.cases import Case
    from appliance.bench.load import Measurement

__all__ = [
    "as_data",
    "case_row",
    "format_ms",
    "format_rate",
    "format_ratio",
    "format_value",
    "medians_of",
    "memory_table",
    "ratio",
    "table",
    "target_table",
]

US: Final = "redtap"

_QUANTITIES: Final[dict[str, Callable[[Measurement], float]]] = {
    "rps": lambda run: run.rps,
    "p50": lambda run: run.p50_ms,
    "p99": lambda run: run.p99_ms,
    "p99.9": lambda run: run.p999_ms,
}


def ratio(ours: Sequence[float], theirs: Sequence[float], *, best: Callable[..., float]) -> dict[str, Any]:
    """Ours to theirs by rounds, with the spread.

    Args:
        best: `max` or `min`: which round is the best one.
    """
    # redis-benchmark tells latencies in steps of a microsecond; 0 would be less than one.
    values = [max(one, 1e-3) / max(other, 1e-3) for one, other in zip(ours, theirs, strict=True)]
    return {
        "rounds": values,
        "median": median(values),
        "least": min(values),
        "greatest": max(values),
        "scatter_percent": 100 * pstdev([math.log(value) for value in values]),
        "best": max(best(ours), 1e-3) / max(best(theirs), 1e-3),
    }


def case_row(case: Case, requests: dict[str, int], measured: dict[str, list[Measurement]]) -> dict[str, Any]:
    """One case: every run of every peer, their medians, and our ratios to each."""
    row: dict[str, Any] = {
        "case": case.name,
        "command": case.command,
        "clients": case.clients,
        "pipeline": case.pipeline,
        "value_bytes": case.value_bytes,
        "requests": requests,
        "rounds": {name: [as_data(run) for run in runs] for name, runs in measured.items()},
        "medians": {name: medians_of(case, runs) for name, runs in measured.items()},
        "ratios": {},
    }
    ours = measured.get(US)
    if ours:
        for name, runs in measured.items():
            if name != US:
                row["ratios"][name] = {
                    quantity: ratio(
                        [of(run) for run in ours],
                        [of(run) for run in runs],
                        best=max if quantity == "rps" else min,
                    )
                    for quantity, of in _QUANTITIES.items()
                }
    return row


def as_data(run: Measurement) -> dict[str, Any]:
    """A run as JSON has it."""
    named = {f"{part:g}": value for part, value in zip(PERCENTILES, run.percentiles_ms, strict=True)}
    return {**asdict(run), "percentiles_ms": named}


def medians_of(case: Case, runs: Sequence[Measurement]) -> dict[str, Any]:
    """Of all runs of one peer in a case."""
    rps = median(run.rps for run in runs)
    return {
        "rps": rps,
        "megabytes_per_s": rps * case.megabytes_per_request,
        **{
            f"p{part:g}_ms": median(run.percentiles_ms[index] for run in runs)
            for index, part in enumerate(PERCENTILES)
        },
        "server_user_us": median(run.server_us.user for run in runs),
        "server_system_us": median(run.server_us.system for run in runs),
        "load_user_us": median(run.load_us.user for run in runs),
        "load_system_us": median(run.load_us.system for run in runs),
    }


def format_ratio(one: dict[str, Any]) -> str:
    """Median, range and scatter."""
    return (
        f"{one['median']:.2f} ({one['least']:.2f} – {one['greatest']:.2f}, ±{one['scatter_percent']:.0f} %)"
    )


def format_ms(milliseconds: float) -> str:
    """Three digits, whatever the size."""
    return f"{milliseconds:.3f}" if milliseconds < 1 else f"{milliseconds:.3g}"


def format_rate(medians: dict[str, Any]) -> str:
    """Requests a second, and megabytes where values are large."""
    shown = f"{medians['rps']:,.0f}"
    return f"{shown}\n{medians['megabytes_per_s']:,.0f} MB/s" if medians["megabytes_per_s"] else shown


def table(summary: dict[str, Any]) -> Table:
    """Every case with every peer: rates, our ratios, latencies, processor time."""
    title = (
        f"medians of {summary['rounds']} rounds; ratios are redtap's to the peer's; "
        f"kernels use {summary['congestion_control']}; {summary['pinned']}"
    )
    made = medians_table(title, "peer", "p50 … p99.99 ms")
    for row in summary["cases"]:
        names = {name: f"{name} {summary['peers'].get(name, '')}".strip() for name in row["medians"]}
        ratios = {name: found["rps"] for name, found in row["ratios"].items()}
        add_medians(made, row, names, ratios, PERCENTILES)
    return made


def medians_table(title: str, servers: str, percentiles: str) -> Table:
    """An empty table for `add_medians`.

    Args:
        servers: what the servers that are compared are to each other.
        percentiles: which of the latencies are shown.
    """
    made = Table(title=title)
    made.add_column("case")
    made.add_column(servers)
    for name in (
        "requests/s",
        "ratio (range, scatter)",
        "of best",
        percentiles,
        "CPU µs/request\nserver + load",
    ):
        made.add_column(name, justify="right")
    return made


def add_medians(
    made: Table,
    row: dict[str, Any],
    names: dict[str, str],
    ratios: dict[str, dict[str, Any]],
    percentiles: Sequence[float],
) -> None:
    """Add one case: a line for each server.

    Args:
        row: the case's name, and the medians of each server.
        names: how each server is called.
        ratios: of requests a second, by server; the one they are to has none.
    """
    for number, (server, medians) in enumerate(row["medians"].items()):
        one = ratios.get(server)
        made.add_row(
            row["case"] if number == 0 else "",
            names[server],
            format_rate(medians),
            format_ratio(one) if one else "",
            f"{one['best']:.2f}" if one else "",
            " ".join(format_ms(medians[f"p{part:g}_ms"]) for part in percentiles),
            f"{medians['server_user_us']:.1f}+{medians['server_system_us']:.1f} + "
            f"{medians['load_user_us'] + medians['load_system_us']:.1f}",
            end_section=number == len(row["medians"]) - 1,
        )


def memory_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Bytes per connection and per key."""
    names = list(rows[0]["bytes"])
    made = Table(title="growth of the server's own memory, bytes each")
    made.add_column("")
    for name in names:
        made.add_column(name, justify="right")
    if US in names and len(names) > 1:
        made.add_column("ratio", justify="right")
    for row in rows:
        cells = [f"{row['bytes'][name]:,.0f}" for name in names]
        if US in names and len(names) > 1:
            other = next(name for name in names if name != US)
            cells.append(f"{row['bytes'][US] / row['bytes'][other]:.2f}")
        made.add_row(row["case"], *cells)
    return made


def format_value(row: dict[str, Any], key: str) -> str:
    """The median or best of a target's row, in its unit."""
    return f"{row[key] / 1024:.2f} KiB" if row["quantity"] == "bytes" else f"{row[key]:.2f}×"


def target_table(rows: Sequence[dict[str, Any]]) -> Table:
    """What is promised and what holds."""
    held = sum(row["holds"] == "yes" for row in rows)
    made = Table(title=f"targets: {held} of {len(rows)} hold")
    made.add_column("target")
    made.add_column("against")
    for name in ("wanted", "median", "best rounds", "holds"):
        made.add_column(name, justify="right")
    said = {"yes": "[green]yes[/]", "no": "[red]no[/]", "median": "median only", "best": "best only"}
    for row in rows:
        made.add_row(
            row["row"],
            row["peer"],
            row["wanted"],
            format_value(row, "median"),
            format_value(row, "best"),
            said[row["holds"]],
        )
    return made
