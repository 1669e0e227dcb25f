"""A pair of connections for each test, to us and to the real redis-server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_pair import RealServer


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def pair(real_server: RealServer, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both sides empty, speaking RESP2, then RESP3."""
    made = Pair(real_server)
    made.reset(resp3=request.param == 3)
    yield made
    made.close()
