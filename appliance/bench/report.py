"""The results: medians, ratios with their range, as a table for people and as JSON for programs."""

from __future__ import annotations

import platform
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.bench.cases import Case
    from appliance.bench.peers import Measurement, Peer

__all__ = ["Results", "summarize", "table"]

# case name -> peer name -> one measurement a round, in order
Results = dict[str, dict[str, list["Measurement"]]]

_US = "redtap"


def _ratios(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> list[float]:
    """Ours to theirs, round by round: both ran within seconds of each other."""
    return [one.rps / other.rps for one, other in zip(ours, theirs, strict=True)]


def summarize(
    cases: Sequence[Case], peers: Sequence[Peer], results: Results, *, rounds: int, waited_s: float
) -> dict[str, Any]:
    """Everything that was measured, and what it comes to."""
    rows = []
    for case in cases:
        measured = results[case.name]
        row: dict[str, Any] = {"case": case.name, "peers": {}, "ratios": {}}
        for peer in peers:
            runs = measured[peer.name]
            row["peers"][peer.name] = {
                "rps": [run.rps for run in runs],
                "median_rps": median(run.rps for run in runs),
                "median_p50_ms": median(run.p50_ms for run in runs),
                "median_p99_ms": median(run.p99_ms for run in runs),
            }
            if peer.name != _US and _US in measured:
                ratios = _ratios(measured[_US], runs)
                row["ratios"][peer.name] = {
                    "median": median(ratios),
                    "min": min(ratios),
                    "max": max(ratios),
                    "of_best_rounds": max(run.rps for run in measured[_US]) / max(run.rps for run in runs),
                }
        rows.append(row)
    return {
        "rounds": rounds,
        "waited_for_the_machine_s": round(waited_s, 1),
        "python": platform.python_version(),
        "peers": {peer.name: peer.version for peer in peers},
        "cases": rows,
    }


def table(summary: dict[str, Any]) -> Table:
    """Medians of requests per second, and our ratio to each peer: median (least - most) of the rounds."""
    versions: dict[str, str] = summary["peers"]
    others = [name for name in versions if name != _US]
    made = Table(title=f"requests per second, medians of {summary['rounds']} rounds")
    made.add_column("case")
    for name, version in versions.items():
        made.add_column(f"{name} {version}".strip(), justify="right")
    if _US in versions:
        for name in others:
            made.add_column(f"redtap / {name}", justify="right")
    for row in summary["cases"]:
        cells = [row["case"]]
        cells += [f"{row['peers'][name]['median_rps']:,.0f}" for name in versions]
        for name in others:
            ratio = row["ratios"].get(name)
            if ratio is not None:
                cells.append(f"{ratio['median']:.2f} ({ratio['min']:.2f} - {ratio['max']:.2f})")
        made.add_row(*cells)
    return made
