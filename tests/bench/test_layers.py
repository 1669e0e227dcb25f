"""Every operation that `make bench-micro` times does what it says, twice in a row."""

from __future__ import annotations

import pytest

from tests.bench.layers import OPERATIONS, Pair


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_runs_again_and_again(name: str) -> None:
    operation = OPERATIONS[name]()
    operation()
    operation()


def test_the_pair_carries_what_it_is_given() -> None:
    pair = Pair(gso=False)
    pair.transfer(bytes(200_000))
    assert pair.server.counters.as_dict()["segments_in"] > 100
    pair.round_trip(b"question", b"answer")
