"""What the project promises of its speed, as data; and whether a run keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["TARGETS", "Target", "check"]

_REDIS: Final = "redis-server"


@dataclass(frozen=True)
class Target:
    """One promise.

    Attributes:
        row: what it is about, for people.
        case: the name of the case; of the idle connection the beginning of its title.
        bound: the number to reach.
        quantity: `rps`, `p50`, `p99` or `p99.9` as a ratio of ours to the peer's; `fall`, that of ours to
            the peer's in `case` divided by that in `against`; `bytes`, ours.
        peer: whom we are compared with.
        is_most: the bound is the most it may be; else the least.
    """

    row: str
    case: str
    bound: float
    quantity: str = "rps"
    peer: str = _REDIS
    is_most: bool = False
    against: str = ""

    def holds(self, value: float) -> bool:
        """Whether a value is on the right side of the bound."""
        return value <= self.bound if self.is_most else value >= self.bound

    def wanted(self) -> str:
        """The bound, as people write it."""
        if self.quantity == "bytes":
            return f"≤ {self.bound / 1024:g} KiB"
        return f"{'≤' if self.is_most else '≥'} {self.bound:.1f}×"


_COMMANDS: Final = ("GET", "SET")

TARGETS: Final = (
    *(
        Target(f"{command} -c 50 -P {depth}", f"{command} -c 50 -P {depth}", 1.0)
        for depth in (1, 16, 100)
        for command in _COMMANDS
    ),
    *(Target(f"{command} -c 1, p50", f"{command} -c 1", 1.3, "p50", is_most=True) for command in _COMMANDS),
    *(
        Target(f"{command} -c 50 -P 1, {part}", f"{command} -c 50 -P 1", bound, part, is_most=True)
        for part, bound in (("p99", 1.5), ("p99.9", 3.0))
        for command in _COMMANDS
    ),
    *(
        Target(f"{command} {size}, MB/s", f"{command} {size}", 0.7)
        for size in ("64 KiB", "1 MiB")
        for command in _COMMANDS
    ),
    Target("connect PING close", "connect PING close", 0.8),
    Target("EVALSHA of one call", "EVALSHA", 0.5),
    *(
        Target(
            f"{command}, fall from -c 50 to -c 5000",
            f"{command} -c 5000 -P 1",
            1.0,
            "fall",
            against=f"{command} -c 50 -P 1",
        )
        for command in _COMMANDS
    ),
    *(
        Target(f"{command} -c 50 -P 1, engine under {words}", f"{command} -c 50 -P 1", bound, peer=peer)
        for peer, words, bound in (("kernel", "trio", 2.0), ("uvloop", "asyncio+uvloop", 1.2))
        for command in _COMMANDS
    ),
    Target("idle connection", "idle connection", 6 * 1024, "bytes", is_most=True),
)


def check(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each target that the run measured: what was wanted, what there is, whether it holds.

    A ratio holds when both its figures do, the median of the rounds and the ratio of the best rounds.
    """
    rows = []
    for target in TARGETS:
        found = _measured(target, summary)
        if found is None:
            continue
        median, best = found
        holds = [target.holds(median), target.holds(best)]
        rows.append(
            {
                "row": target.row,
                "peer": "" if target.quantity == "bytes" else target.peer,
                "wanted": target.wanted(),
                "quantity": target.quantity,
                "median": median,
                "best": best,
                "holds": "yes"
                if all(holds)
                else "no"
                if not any(holds)
                else "median"
                if holds[0]
                else "best",
            }
        )
    return rows


def _measured(target: Target, summary: dict[str, Any]) -> tuple[float, float] | None:
    """The median and the best of what a target is about; None when it was not measured."""
    if target.quantity == "bytes":
        for row in summary["memory"]:
            if row["case"].startswith(target.case) and "redtap" in row["bytes"]:
                return row["bytes"]["redtap"], row["bytes"]["redtap"]
        return None
    ratio = _ratio(summary, target, target.case)
    if ratio is None:
        return None
    if target.quantity != "fall":
        return ratio["median"], ratio["best"]
    before = _ratio(summary, target, target.against)
    # Ours fall by a/b and theirs by c/d: (a/b) / (c/d) is (a/c) / (b/d), and each of those ran side by side.
    return None if before is None else (ratio["median"] / before["median"], ratio["best"] / before["best"])


def _ratio(summary: dict[str, Any], target: Target, name: str) -> dict[str, float] | None:
    quantity = "rps" if target.quantity == "fall" else target.quantity
    for case in summary["cases"]:
        if case["case"] == name:
            found: dict[str, float] | None = case["ratios"].get(target.peer, {}).get(quantity)
            return found
    return None
