"""Times of each layer by itself, with pytest-benchmark: `make bench-micro`. See layers.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.layers import OPERATIONS

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("name", OPERATIONS)
def test_time_of(name: str, benchmark: BenchmarkFixture) -> None:
    layer, _, _ = name.partition(":")
    benchmark.group = layer
    benchmark(OPERATIONS[name]())
