"""`redtap bench --links`: the same appliance over each kind of link, in turn.

The kinds are those of `redtap serve --link`, each as it makes its own: client and appliance at the two ends
of a TAP or TUN, or of a veth pair with a packet socket or an AF_XDP socket at one end. Ratios are a kind's to
the TAP's, round by round. A kind that this machine or this user cannot have is left out, and why is told.

Processor time of the server does not compare kinds by itself: on a TAP the client's receive path runs inside
of the server's write, across veth in a softirq that is charged to whoever is interrupted. So the client's
stands beside it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from appliance import __version__
from appliance._build import build_kind
from appliance.bench.cases import case_named
from appliance.bench.cores import described
from appliance.bench.machine import Steadiness, machine_facts
from appliance.bench.measure import measure_rounds
from appliance.bench.peers import LINK_PEERS, Peers
from appliance.bench.report import add_medians, as_data, medians_of, medians_table, ratio
from appliance.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from appliance.bench.cases import Case
    from appliance.bench.cores import Cores
    from appliance.bench.load import Measurement
    from appliance.bench.peers import Peer

__all__ = ["LINK_CASES", "links_row", "links_table", "measure_links"]

FIRST: Final = "tap"
"""The kind that the others are compared with."""

LINK_CASES: Final = tuple(
    case_named(name)
    for name in (
        *(f"{command} -c 50 -P {depth}" for depth in (1, 16) for command in ("GET", "SET")),
        "GET -c 1",
        *(f"{command} {size}" for size in ("64 KiB", "1 MiB") for command in ("GET", "SET")),
        "connect PING close",
    )
)


def measure_links(
    cases: Sequence[Case],
    *,
    rounds: int,
    seconds: float,
    congestion: str,
    cores: Cores | None,
    progress: Callable[[str], None],
    peers_named: Callable[..., Peers] = Peers,
) -> dict[str, Any]:
    """Measure all kinds of link that can be had here.

    Raises:
        HostError: there is no TAP to compare with, or a run failed.
    """
    steadiness = Steadiness()
    rows, notes = [], []
    peers: dict[str, Peer] = {}
    with ExitStack() as stack:
        for kind, name in LINK_PEERS.items():
            progress(f"starting redtap on {kind}")
            try:
                (peers[kind],) = stack.enter_context(peers_named([name], congestion, cores=cores)).peers
            except HostError as error:
                if kind == FIRST:
                    raise
                notes.append(f"{kind}: {error}")
        for case in cases:
            _, measured = measure_rounds(
                case,
                list(peers.values()),
                rounds=rounds,
                seconds=seconds,
                steadiness=steadiness,
                progress=progress,
            )
            rows.append(links_row(case, {kind: measured[peer.name] for kind, peer in peers.items()}))
    return {
        "redtap": f"{__version__}, {build_kind()} build",
        "machine": machine_facts(),
        "rounds": rounds,
        "seconds": seconds,
        "congestion_control": congestion,
        "pinned": described(cores),
        "links": rows,
        "not_measured": notes,
    }


def links_row(case: Case, measured: dict[str, list[Measurement]]) -> dict[str, Any]:
    """One case: every run over every kind, their medians, and each kind's ratio to the first."""
    first = [run.rps for run in measured[FIRST]]
    return {
        "case": case.name,
        "rounds": {kind: [as_data(run) for run in runs] for kind, runs in measured.items()},
        "medians": {kind: medians_of(case, runs) for kind, runs in measured.items()},
        "ratios": {
            kind: ratio([run.rps for run in runs], first, best=max)
            for kind, runs in measured.items()
            if kind != FIRST
        },
    }


def links_table(summary: dict[str, Any]) -> Table:
    """Every case over every kind."""
    title = f"medians of {summary['rounds']} rounds; ratios are to the TAP's; {summary['pinned']}"
    made = medians_table(title, "link", "p50 p99 ms")
    for row in summary["links"]:
        add_medians(made, row, {kind: kind for kind in row["medians"]}, row["ratios"], (50, 99))
    return made
