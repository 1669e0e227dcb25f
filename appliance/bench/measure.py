"""The rounds: all peers in turn, as close together in time as can be, and nothing thrown away."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.bench.cases import Case, CaseSet
    from appliance.bench.load import Measurement
    from appliance.bench.machine import Steadiness
    from appliance.bench.peers import Peer

__all__ = ["Results", "measure_rounds", "participants"]

# case name -> peer name -> one measurement a round, in order
Results = dict[str, dict[str, list["Measurement"]]]

_TRIAL: Final = 1 / 20


def participants(case: Case, peers: Sequence[Peer], chosen: CaseSet | None) -> list[Peer]:
    """Who takes part in a case."""
    return [
        peer for peer in peers if peer.may_run(case) and (chosen is None or chosen.wants(case, peer.name))
    ]


def measure_rounds(
    case: Case,
    peers: Sequence[Peer],
    *,
    rounds: int,
    seconds: float,
    steadiness: Steadiness,
    progress: Callable[[str], None],
) -> tuple[dict[str, int], dict[str, list[Measurement]]]:
    """Measure one case: a short trial of each peer, then `rounds` rounds of all of them.

    Returns:
        The number of requests of each peer's runs, which is what it answers in about `seconds`, and what was
        measured, by peer and in the order of the rounds.
    """
    requests = {}
    for peer in peers:
        progress(f"{case.name}: {peer.name}, trial")
        trial = case.requests(seconds * _TRIAL)
        peer.prepare(case, trial)
        # Too quick for redis-benchmark's clock: more of them.
        while math.isinf(rps := peer.measure(case, trial).rps):
            trial *= 10
            peer.prepare(case, trial)
        requests[peer.name] = case.requests(seconds, rps)
    measured: dict[str, list[Measurement]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        steadiness.wait()
        # Another one begins each round, so that none always follows the same neighbour.
        first = number % len(peers)
        for peer in (*peers[first:], *peers[:first]):
            progress(f"{case.name}: round {number + 1} of {rounds}, {peer.name}")
            peer.prepare(case, requests[peer.name])
            measured[peer.name].append(peer.measure(case, requests[peer.name]))
    return requests, measured
