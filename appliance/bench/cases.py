"""What is measured: one redis-benchmark call for each case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """One load.

    Attributes:
        name: for the table and `--case`.
        command: `get` or `set`.
        clients, pipeline: redis-benchmark's -c and -P.
        value_bytes: size of the value.
        nominal_rps: about what a peer does here; only scales the number of requests to the time asked for.
    """

    name: str
    command: str
    clients: int
    pipeline: int
    value_bytes: int
    nominal_rps: int

    def requests(self, seconds: float) -> int:
        """How many requests take about `seconds`; whole pipelines for every client."""
        unit = self.clients * self.pipeline
        return max(1, round(self.nominal_rps * seconds / unit)) * unit

    def arguments(self, requests: int) -> list[str]:
        """redis-benchmark's arguments, without host and port."""
        return [
            *("-t", self.command),
            *("-c", str(self.clients)),
            *("-P", str(self.pipeline)),
            *("-d", str(self.value_bytes)),
            *("-n", str(requests)),
        ]

    def fill(self) -> Case:
        """The case that puts there what this one reads."""
        return Case(self.name, "set", 1, 1, self.value_bytes, 1)


CASES: Final = (
    Case("GET -c 50 -P 1", "get", 50, 1, 3, 60_000),
    Case("SET -c 50 -P 1", "set", 50, 1, 3, 60_000),
    Case("GET -c 50 -P 16", "get", 50, 16, 3, 400_000),
    Case("SET -c 50 -P 16", "set", 50, 16, 3, 400_000),
    Case("GET -c 1", "get", 1, 1, 3, 15_000),
    Case("SET -c 1", "set", 1, 1, 3, 15_000),
    Case("GET 64 KiB -c 50", "get", 50, 1, 65_536, 8_000),
    Case("SET 64 KiB -c 50", "set", 50, 1, 65_536, 8_000),
)
