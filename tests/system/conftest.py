"""Fixtures of the system tests: appliances that really run, on a TAP, in a namespace of their own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance._build import build_kind
from tests.support.machine import NOBODY, NOBODY_ID, another_host, why_nobody_cannot_run_python
from tests.support.running import running_appliance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.running import RunningAppliance


@pytest.fixture
def own_host() -> Iterator[None]:
    """The host's links are this test's alone."""
    with another_host():
        yield


@pytest.fixture
def nobody() -> Iterator[tuple[str, ...]]:
    """The words that run what follows as an ordinary user, who has left nothing behind."""
    reason = why_nobody_cannot_run_python()
    if reason is not None:
        pytest.skip(reason)
    yield NOBODY
    # A start that is refused leaves an empty one.
    shutil.rmtree(f"/tmp/redtap-{NOBODY_ID}", ignore_errors=True)


@pytest.fixture(scope="session")
def is_compiled() -> bool:
    """The pure build is several times slower: tests that move much move less on it."""
    return build_kind() == "compiled"


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAppliance]:
    """One appliance with the defaults for all tests of a module; none may stop it."""
    with running_appliance(tmp_path_factory.mktemp("serve")) as running:
        yield running


@pytest.fixture
def own_appliance(tmp_path: Path) -> Iterator[RunningAppliance]:
    """An appliance for one test, which may spoil it but not stop it."""
    with running_appliance(tmp_path) as running:
        yield running
