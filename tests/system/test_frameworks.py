"""What is built on Redis clients: job queues, rate limits, messages, a web framework.

Each framework runs in a process of its own inside the namespace; one that is not installed skips its test. What it says
and what it leaves on the server is compared with redis-server, which is at the other end of the link, if there is one.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.machine import environment
from tests.support.redis_inside import OTHER_PORT, redis_server
from tests.support.redis_pair import find_redis_server
from tests.support.running import ADDRESS, CLIENT_ADDRESS, PORT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

URL = f"redis://{ADDRESS}:{PORT}"
REFERENCE_URL = f"redis://{CLIENT_ADDRESS}:{OTHER_PORT}"


def use(appliance: RunningAppliance, framework: str, program: str, *words: str, url: str = URL) -> Any:
    """Run one of tests/support/frameworks; what it says."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"needs the package {framework}")
    said = appliance.run(
        sys.executable,
        *("-m", f"tests.support.frameworks.{program}", url, *words),
        env=environment() | {"FRAMEWORK_REDIS_URL": url, "PYTHONWARNINGS": "ignore"},
        seconds=120,
    )
    return json.loads(said.splitlines()[-1])


def test_celery_runs_a_thousand_jobs_and_retries_those_that_fail(own_appliance: RunningAppliance) -> None:
    said = use(own_appliance, "celery", "celery_jobs", "1000")
    assert said == {"attempts": 1100, "hopeless": 3, "workers": 1}


def test_rq_runs_a_thousand_jobs_and_retries_those_that_fail(own_appliance: RunningAppliance) -> None:
    said = use(own_appliance, "rq", "rq_jobs", "1000")
    assert said == {"attempts": 1100, "failed": 1, "left": 0}


def test_django_keeps_its_cache_and_its_sessions(own_appliance: RunningAppliance) -> None:
    said = use(own_appliance, "django", "django_site")
    assert said == {"visits": [number for number in range(1, 21) for _ in range(5)]}


@pytest.mark.parametrize(
    ("framework", "program", "words"),
    [
        ("bullmq", "bullmq_jobs", ["300"]),
        ("dramatiq", "dramatiq_jobs", ["300"]),
        ("huey", "huey_jobs", ["300"]),
        ("limits", "limiters", []),
        ("channels_redis", "messages", []),
    ],
)
def test_a_framework_does_and_leaves_what_it_does_on_redis_server(
    own_appliance: RunningAppliance, tmp_path: Path, framework: str, program: str, words: list[str]
) -> None:
    ours = use(own_appliance, framework, program, *words)
    assert ours["left"] if "left" in ours else ours["list"]["left"]
    if find_redis_server() is not None:
        with redis_server(own_appliance, tmp_path):
            assert ours == use(own_appliance, framework, program, *words, url=REFERENCE_URL)
