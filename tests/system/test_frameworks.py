"""What is built on Redis clients: job queues, rate limits, messages, a web framework, dashboards, exporters.

Each framework runs in a process of its own inside the namespace; one that is not installed skips its test. What it says
and what it leaves on the server is compared with redis-server, which is at the other end of the link, if there is one.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis

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


# What RedisInsight sends when a database is opened and its pages are visited, one request a line.
REDIS_INSIGHT = """
CLIENT SETNAME redisinsight-common-01
CLIENT SETINFO LIB-NAME redisinsight
INFO
INFO server
INFO keyspace
INFO everything
COMMAND
COMMAND COUNT
COMMAND DOCS
COMMAND INFO get set json.get
COMMAND LIST FILTERBY ACLCAT dangerous
COMMAND GETKEYS mset a 1 b 2
CONFIG GET databases
CONFIG GET maxmemory-policy
CONFIG GET *
MODULE LIST
ACL WHOAMI
ACL LIST
ACL GETUSER default
ACL CAT
DBSIZE
CLIENT LIST
CLIENT INFO
CLIENT GETNAME
CLIENT ID
CLIENT TRACKINGINFO
MEMORY STATS
MEMORY DOCTOR
MEMORY MALLOC-STATS
MEMORY USAGE text SAMPLES 0
SLOWLOG GET 50
SLOWLOG LEN
CONFIG GET slowlog*
LATENCY LATEST
LATENCY DOCTOR
LATENCY HISTOGRAM get set
LATENCY HISTORY command
FUNCTION LIST
FUNCTION STATS
SCRIPT EXISTS 0000000000000000000000000000000000000000
PUBSUB CHANNELS *
PUBSUB NUMPAT
PUBSUB SHARDCHANNELS
SCAN 0 MATCH * COUNT 500
TYPE text
TTL text
OBJECT ENCODING text
OBJECT FREQ text
OBJECT IDLETIME text
STRLEN text
HSCAN hash 0 COUNT 500
XINFO STREAM stream FULL
XINFO GROUPS stream
ROLE
LASTSAVE
TIME
LOLWUT
"""

# redis_exporter, at each scrape.
EXPORTER = """
CLIENT SETNAME redis_exporter
CONFIG GET *
INFO ALL
SLOWLOG LEN
SLOWLOG GET 1
LATENCY LATEST
LATENCY HISTOGRAM
CLIENT LIST
MODULE LIST
SCRIPT EXISTS 0000000000000000000000000000000000000000
CONFIG GET maxclients
DBSIZE
"""

# What they send as well, and what redis-server as it comes out of the box answers it.
REFUSED = {
    "CLUSTER INFO": "cluster support disabled",
    "CLUSTER NODES": "cluster support disabled",
    "FT._LIST": "unknown command",
    "SENTINEL masters": "unknown command",
    "OBJECT FREQ text": "maxmemory policy",
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("lines", [REDIS_INSIGHT, EXPORTER], ids=["redisinsight", "redis_exporter"])
def test_a_dashboard_gets_an_answer_to_each_of_its_questions(
    own_appliance: RunningAppliance, lines: str, protocol: int
) -> None:
    def work() -> None:
        with redis.Redis(ADDRESS, PORT, socket_timeout=60, protocol=protocol) as client:
            client.response_callbacks.clear()
            client.set("text", "x" * 100)
            client.hset("hash", "field", "value")
            client.xadd("stream", {"field": "value"})
            client.xgroup_create("stream", "group")
            for line in lines.strip().splitlines():
                if line not in REFUSED:
                    assert client.execute_command(*line.split(" ")) is not None or line == "CLIENT GETNAME"
            for line, reason in REFUSED.items():
                with pytest.raises(redis.ResponseError, match=reason):
                    client.execute_command(*line.split(" "))

    own_appliance.inside(work)


def test_what_a_dashboard_computes_from_info_is_there(own_appliance: RunningAppliance) -> None:
    def work() -> None:
        with redis.Redis(ADDRESS, PORT, socket_timeout=60) as client:
            for number in range(200):
                client.set(f"key{number}", "x" * number, ex=1000)
                client.get(f"key{number}")
            client.get("nosuch")
            info = client.info("everything")
        assert info["keyspace_hits"] / (info["keyspace_hits"] + info["keyspace_misses"]) > 0.99
        assert info["db0"]["keys"] == info["db0"]["expires"] == 200
        assert 0 < info["used_memory_dataset"] < info["used_memory"] <= info["used_memory_peak"]
        assert info["used_memory_startup"] < info["used_memory_overhead"]
        assert info["mem_clients_normal"] > 0
        assert info["cmdstat_set"]["calls"] == 200
        assert info["cmdstat_set"]["usec"] > 0
        assert info["latency_percentiles_usec_set"]["p99"] > 0
        assert info["total_reads_processed"] >= 400
        assert info["total_writes_processed"] >= 400
        assert info["io_thread_0"]["reads"] == info["total_reads_processed"]
        assert info["eventloop_cycles"] > 0
        # Not which of them is more: one command in 64 is timed, and stands for the others.
        assert info["eventloop_duration_sum"] > 0
        assert info["eventloop_duration_cmd_sum"] > 0
        assert float(info["used_cpu_user_main_thread"]) > 0
        assert info["used_memory_peak_time"] >= info["server_time_usec"] // 1_000_000 - 60
        assert info["executable"]
        assert info["os"].startswith("Linux")
        assert info["listener0"] == {"name": "tcp", "bind": ADDRESS, "port": PORT}
        assert sum(info["db0_distrib_strings_sizes"].values()) == 200

    own_appliance.inside(work)
