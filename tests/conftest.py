"""What every test shares: the hypothesis profiles, the reasons to skip, and the line that names the build.

Profiles (`--hypothesis-profile NAME`): `dev` is the default; `ci` gives the same examples on every run, so
that a red build can be repeated; `fuzz` is for the long runs of `make fuzz`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support.links import LINK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_pair import RealServer

# No deadline: a shared machine that is throttled for a second says nothing about the code.
settings.register_profile("dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.register_profile(
    "fuzz",
    settings.get_profile("dev"),
    max_examples=5_000,
    print_blob=True,
    # Explaining a failure means running it many times more; the shrunk example is enough by night.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_report_header(config: pytest.Config) -> str:
    """The tests must pass on both builds, so every report says which of them it is about."""
    from appliance._build import build_kind

    try:
        return f"redtap: {build_kind()} build"
    except ImportError as error:
        # Half a tree, or an extension that is older than its source: let the tests that need it say so.
        return f"redtap: the stack cannot be imported ({error})"


def _why_no_system_tests() -> str | None:
    if os.geteuid() != 0:
        return "needs root: makes network namespaces and a TAP device"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("links"):
            if LINK not in marker.args:
                item.add_marker(pytest.mark.skip(reason=f"not on {LINK}: {marker.kwargs['reason']}"))
    reason = _why_no_system_tests()
    if reason is None:
        return
    skip = pytest.mark.skip(reason=reason)
    for item in items:
        if item.get_closest_marker("system") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """The redis-server that we are compared with, one for the whole run."""
    from tests.support.redis_pair import NO_SERVER, RealServer, find_redis_server

    binary = find_redis_server()
    if binary is None:
        pytest.skip(NO_SERVER)
    server = RealServer(binary, tmp_path_factory.mktemp("redis"))
    yield server
    server.close()
