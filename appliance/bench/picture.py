"""The picture: one glance says where we stand beside redis-server, and how much that scatters.

Needs matplotlib, which only this module imports, and only when a picture is wanted (`redtap[bench]`).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_picture", "draw"]

_FORMATS: Final = (".png", ".svg", ".pdf")
_PEER: Final = "redis-server"
_AHEAD: Final = "#1b7f5c"
_BEHIND: Final = "#b4552d"
_DOTS: Final = "#222222"
_COLORS: Final = {
    "redtap": "#1b7f5c",
    "redtap-pure": "#8cc6b0",
    "redis-server": "#5c6b8a",
    "kernel": "#c2a14d",
    "uvloop": "#d8792e",
    "fakeredis": "#a05a8c",
    "floor": "#c9c9c9",
}
_BARS_OF: Final = "GET -c 50 -P 1"


def check_picture(path: str) -> None:
    """Raise ConfigError now, before anything is measured, when no picture can be drawn there."""
    if Path(path).suffix not in _FORMATS:
        raise ConfigError(f"--picture: '{path}' should end in one of {', '.join(_FORMATS)}")
    if not Path(path).absolute().parent.is_dir():
        raise ConfigError(f"--picture: there is no directory for '{path}'")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--picture: matplotlib is not installed: pip install 'redtap[bench]'")


def draw(summary: dict[str, Any], path: str) -> None:
    """Draw a summary of `redtap bench`.

    Left our ratio to redis-server in every case, a dot for each round; right what everybody answers in one of
    the cases.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    compared = [row for row in summary["cases"] if _PEER in row["ratios"]]
    height = 1.6 + 0.34 * max(len(compared), 8)
    figure = Figure(figsize=(13, height), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    _draw_ratios(left, compared, summary)
    _draw_rates(right, summary)
    machine = summary["machine"]
    figure.suptitle(
        f"redtap {summary['redtap']}, beside redis-server {summary['peers'].get(_PEER, '')}".rstrip(),
        fontsize=13,
        fontweight="bold",
    )
    figure.supxlabel(
        f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}; "
        f"{summary['rounds']} rounds in turn, {summary['pinned']}",
        fontsize=8,
        color="#555555",
    )
    figure.savefig(path, dpi=130)


def _draw_ratios(axes: Axes, rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    axes.set_title("requests per second: redtap as a multiple of redis-server", fontsize=10)
    bounds = {
        row["row"].removesuffix(", MB/s"): float(row["wanted"].strip("≥ ×"))
        for row in summary["targets"]
        if row["peer"] == _PEER and row["quantity"] == "rps"
    }
    for place, row in enumerate(rows):
        one = row["ratios"][_PEER]["rps"]
        color = _AHEAD if one["median"] >= 1 else _BEHIND
        # From 1, so that length is distance from parity.
        axes.barh(place, one["median"] - 1, left=1, color=color, height=0.62)
        axes.plot(one["rounds"], [place] * len(one["rounds"]), ".", color=_DOTS, markersize=4, alpha=0.6)
        bound = bounds.get(row["case"])
        if bound is not None:
            axes.plot([bound, bound], [place - 0.42, place + 0.42], color="black", linewidth=1.6)
        axes.annotate(
            f"{one['median']:.2f}×",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=color,
            fontweight="bold",
        )
    axes.axvline(1, color="#5c6b8a", linewidth=1.2)
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=9)
    axes.invert_yaxis()
    if rows:
        values = [value for row in rows for value in row["ratios"][_PEER]["rps"]["rounds"]]
        axes.set_xlim(min(0.5, *values) - 0.05, max(1.5, *values) + 0.05)
    marks = "◀ redis-server ahead      1.0 = as fast      redtap ahead ▶\n"
    marks += "bars: medians; dots: rounds" + ("; black lines: targets" if bounds else "")
    axes.set_xlabel(marks, fontsize=8)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_rates(axes: Axes, summary: dict[str, Any]) -> None:
    row = next((row for row in summary["cases"] if row["case"] == _BARS_OF), summary["cases"][0])
    medians = sorted(row["medians"].items(), key=lambda item: -item[1]["rps"])
    axes.set_title(f"{row['case']}: requests per second", fontsize=10)
    for place, (name, one) in enumerate(medians):
        axes.barh(place, one["rps"], color=_COLORS.get(name, "#888888"), height=0.62)
        axes.annotate(
            f" {one['rps']:,.0f}", (one["rps"], place), va="center", fontsize=9, annotation_clip=False
        )
    labels = [f"{name}\n{_what(name)}" for name, _ in medians]
    axes.set_yticks(range(len(medians)), labels, fontsize=8)
    axes.set_xlim(0, 1.22 * max(one["rps"] for _, one in medians))
    axes.set_ylim(max(len(medians), 4) - 0.5, -0.5)
    axes.set_xticks([])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _what(name: str) -> str:
    """What a peer is, in the width of a label."""
    return {
        "redtap": "own TCP, TAP",
        "redtap-pure": "not compiled",
        "redis-server": "C, kernel TCP",
        "kernel": "our engine, trio, kernel TCP",
        "uvloop": "our engine, uvloop, kernel TCP",
        "fakeredis": "Python, kernel TCP",
        "floor": "canned replies, TAP",
    }.get(name, "")
