"""The results in `appliance/docs/performance.md`, from the JSON of a run.

    redtap bench --set targets --json bench.json --picture appliance/docs/performance.png
    python -m appliance.bench.document bench.json

What stands between the two marks of the page is replaced, the rest of it is written by people.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.bench.load import PERCENTILES
from appliance.bench.report import format_ms, format_ratio, format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BEGIN", "END", "PAGE", "filled", "main", "render"]

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN: Final = "<!-- results: written by python -m appliance.bench.document -->"
END: Final = "<!-- end of results -->"

_SAID: Final = {"yes": "yes", "no": "**no**", "median": "median only", "best": "best only"}


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """A table whose first `left` columns are words, the others numbers."""
    line = "|" + "---|" * left + "---:|" * (len(header) - left)
    return [_row(*header), line, *(_row(*row) for row in rows), ""]


def render(summary: dict[str, Any], picture: str = "") -> str:
    """Markdown of a run of `redtap bench`.

    Args:
        picture: a file to show, as seen from the page; empty for none.
    """
    machine = summary["machine"]
    lines = [
        f"redtap {summary['redtap']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB; {machine['kernel']}; Python {machine['python']}, "
        f"{machine['compiler']}. {summary['rounds']} rounds of about {summary['seconds']:g} s each, all "
        f"peers in turn; {summary['waited_for_the_machine_s']:g} s went into waiting for the machine to run "
        f"at full speed. The kernels' congestion control is {summary['congestion_control']}; "
        f"{summary['pinned']}.",
        "",
    ]
    if picture:
        lines += [f"![Ratios of requests per second to redis-server]({picture})", ""]
    if summary["targets"]:
        held = sum(row["holds"] == "yes" for row in summary["targets"])
        lines += [f"### Targets: {held} of {len(summary['targets'])} hold", ""]
        lines += _table(
            ("target", "against", "wanted", "median", "best rounds", "holds"),
            [
                (
                    row["row"],
                    row["peer"],
                    row["wanted"],
                    format_value(row, "median"),
                    format_value(row, "best"),
                    _SAID[row["holds"]],
                )
                for row in summary["targets"]
            ],
            left=2,
        )
    lines += ["### Every case", ""]
    names = " ".join(f"p{part:g}" for part in PERCENTILES)
    lines += _table(
        (
            "case",
            "peer",
            "requests/s",
            "MB/s",
            "redtap's ratio (range, scatter)",
            "of best",
            f"{names} ms",
            "server CPU µs",
        ),
        [cells for row in summary["cases"] for cells in _case_cells(row, summary)],
        left=2,
    )
    if summary["memory"]:
        lines += ["### Memory", ""]
        peers = list(summary["memory"][0]["bytes"])
        lines += _table(
            ("growth of the server's own memory", *(f"{name}, bytes each" for name in peers)),
            [(row["case"], *(f"{row['bytes'][name]:,.0f}" for name in peers)) for row in summary["memory"]],
        )
    for note in summary["not_measured"]:
        lines.append(f"Not measured: {note}.")
    return "\n".join(lines).rstrip() + "\n"


def _case_cells(row: dict[str, Any], summary: dict[str, Any]) -> list[tuple[str, ...]]:
    cells: list[tuple[str, ...]] = []
    for name, medians in row["medians"].items():
        one = row["ratios"].get(name, {}).get("rps")
        cells.append(
            (
                row["case"],
                f"{name} {summary['peers'].get(name, '')}".strip(),
                f"{medians['rps']:,.0f}",
                f"{medians['megabytes_per_s']:,.0f}" if medians["megabytes_per_s"] else "",
                format_ratio(one) if one else "",
                f"{one['best']:.2f}" if one else "",
                " ".join(format_ms(medians[f"p{part:g}_ms"]) for part in PERCENTILES),
                f"{medians['server_user_us']:.1f} + {medians['server_system_us']:.1f}",
            )
        )
    return cells


def filled(page: str, results: str) -> str:
    """The page with `results` between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no marks for the results")
    return f"{before}{BEGIN}\n\n{results}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m appliance.bench.document", description=__doc__)
    parser.add_argument("json", type=Path, help="what `redtap bench --json` wrote")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--picture", default="performance.png", help="beside the page; shown where it exists")
    options = parser.parse_args(arguments)
    try:
        summary = json.loads(options.json.read_text())
        picture = options.picture if (options.page.parent / options.picture).exists() else ""
        options.page.write_text(filled(options.page.read_text(), render(summary, picture)))
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"document: {options.json}: {error!r}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
