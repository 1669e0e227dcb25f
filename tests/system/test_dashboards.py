"""What dashboards, exporters and monitors ask: each gets an answer of the form that redis-server gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support.redis_inside import OTHER_PORT, redis_server
from tests.support.redis_pair import find_redis_server
from tests.support.running import ADDRESS, CLIENT_ADDRESS, PORT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

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
HELLO
CONFIG GET io-threads
ACL CAT dangerous
SCAN 0 TYPE hash COUNT 1000
SCAN 0 MATCH te* COUNT 10000 TYPE string
EXISTS text
GETRANGE text 0 10
HTTL hash FIELDS 1 field
LRANGE list 0 500
LINDEX list 0
SSCAN set 0 MATCH * COUNT 500
ZRANGE sorted 0 500 WITHSCORES
ZREVRANGE sorted 0 500 WITHSCORES
ZSCAN sorted 0 MATCH * COUNT 500
XREVRANGE stream + - COUNT 500
XINFO CONSUMERS stream group
XPENDING stream group - + 500
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
COMMAND INFO COMMANDLOG
INFO MODULES
PFCOUNT hll
MEMORY USAGE hash
XINFO STREAM stream
XINFO GROUPS stream
XINFO CONSUMERS stream group
SCRIPT EXISTS 0000000000000000000000000000000000000000
CONFIG GET maxclients
DBSIZE
"""

# redis-commander: the tree of keys, the page of a server, its terminal.
REDIS_COMMANDER = """
CLIENT SETNAME redis-commander
INFO
COMMAND
MODULE LIST
CONFIG GET databases
KEYS *
TYPE text
PTTL text
GETRANGE text 0 100
LLEN list
LRANGE list 0 19
HKEYS hash
HGETALL hash
SCARD set
SMEMBERS set
ZCARD sorted
ZREVRANGE sorted 0 19 WITHSCORES
ZCOUNT sorted -inf +inf
XLEN stream
XRANGE stream - + COUNT 20
EVAL return{redis.call('hstrlen',KEYS[1],ARGV[1])} 1 hash field
"""

# The checks of Datadog, Telegraf and Netdata, and the data source for Grafana.
MONITORS = """
PING
INFO
INFO all
INFO commandstats
INFO errorstats
INFO keyspace
CONFIG GET slowlog-max-len
CONFIG GET maxclients
CONFIG GET *
SLOWLOG GET 128
SLOWLOG GET
CLIENT LIST
CLIENT LIST TYPE normal
LASTSAVE
ROLE
TYPE list
LLEN list
SCARD set
ZCARD sorted
HLEN hash
PFCOUNT hll
XLEN stream
STRLEN text
HMGET hash field other
ZRANGE sorted 0 -1 BYSCORE
XINFO STREAM stream
SCAN 0 MATCH * COUNT 100
MEMORY USAGE list
TTL list
"""

# What they send as well, and what redis-server as it comes out of the box answers it.
REFUSED = {
    "CLUSTER INFO": "cluster support disabled",
    "CLUSTER NODES": "cluster support disabled",
    "CLUSTER SLOTS": "cluster support disabled",
    "FT._LIST": "unknown command",
    "TFUNCTION LIST": "unknown command",
    "COMMANDLOG LEN slow": "unknown command",
    "SENTINEL masters": "unknown command",
    "OBJECT FREQ text": "maxmemory policy",
}

# Of what these say only the kind is compared: commands and modules differ.
OWN = ("COMMAND", "ACL CAT", "MODULE LIST", "MEMORY STATS", "LATENCY HISTOGRAM", "SLOWLOG GET")


def make(client: Any) -> None:
    client.set("text", "x" * 100)
    client.rpush("list", *range(30))
    client.hset("hash", "field", "value")
    client.sadd("set", *range(30), "word")
    client.zadd("sorted", {"a": 1, "b": 2.5})
    client.pfadd("hll", *range(100))
    client.xadd("stream", {"field": "value"})
    client.xgroup_create("stream", "group", 0)
    client.xreadgroup("group", "consumer", {"stream": ">"})


def form(line: str, reply: Any) -> Any:
    """What is in a reply but for numbers and texts, which may differ: what a program takes apart."""
    if line.startswith(OWN):
        return type(reply)
    if line.startswith("INFO"):
        # Sections of our own follow the server's, which has a module. How long the quick commands take is looked up
        # for some of their calls only.
        rows = reply.split(b"# Redtap")[0].split(b"\r\n")
        names = [
            row.split(b":")[0] for row in rows if row and not row.startswith((b"module:", b"latency_perc"))
        ]
        statistics = [name for name in names if name.startswith(b"cmdstat_")]
        return [name for name in names if name not in statistics], sorted(statistics)
    if line.startswith("CLIENT") and isinstance(reply, bytes):
        return [pair.split(b"=")[0] for pair in reply.split()]
    if line.startswith("CONFIG GET"):
        pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return {name: value.isdigit() for name, value in pairs.items()}
    if line.startswith("HELLO"):
        return [key for key in reply if isinstance(key, bytes) and not key.isdigit()]
    return kind(reply)


def kind(reply: Any) -> Any:
    """Types, all the way down; names in maps."""
    if isinstance(reply, dict):
        return {name: kind(value) for name, value in reply.items()}
    if isinstance(reply, (list, set)):
        return type(reply), [kind(value) for value in reply]
    return type(reply)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "lines",
    [REDIS_INSIGHT, EXPORTER, REDIS_COMMANDER, MONITORS],
    ids=["redisinsight", "redis_exporter", "redis_commander", "monitors"],
)
def test_a_dashboard_gets_the_answers_that_it_can_take_apart(
    own_appliance: RunningAppliance, tmp_path: Path, lines: str, protocol: int
) -> None:
    def work(address: str, port: int) -> dict[str, Any]:
        with redis.Redis(address, port, socket_timeout=60, protocol=protocol) as client:
            client.response_callbacks.clear()
            client.config_resetstat()
            make(client)
            said = {
                line: form(line, client.execute_command(*line.split(" ")))
                for line in lines.strip().splitlines()
                if line not in REFUSED
            }
            for line, reason in REFUSED.items():
                with pytest.raises(redis.ResponseError, match=reason):
                    client.execute_command(*line.split(" "))
            return said

    ours = own_appliance.inside(lambda: work(ADDRESS, PORT))
    if find_redis_server() is not None:
        with redis_server(own_appliance, tmp_path):
            theirs = own_appliance.inside(lambda: work(CLIENT_ADDRESS, OTHER_PORT))
        for line, answer in ours.items():
            assert answer == theirs[line], line


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
