"""INFO: the sections are redis-server's, and in each the fields are, in its order and form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from appliance.redis.replies import Verbatim
from tests.support.redis_pair import parse_one

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

# Names of our own, and the server's module.
OURS = {"redtap", "stack"}
NOT_COMPARED = re.compile(r"listener\d|module:")


def sections(raw: bytes) -> dict[str, dict[str, str]]:
    """Section -> field -> value, all in order."""
    reply = parse_one(raw)
    text = reply.text if isinstance(reply, Verbatim) else reply
    assert isinstance(text, bytes)
    found: dict[str, dict[str, str]] = {}
    for block in text.decode().split("\r\n\r\n"):
        if block.strip():
            title, *lines = block.strip("\r\n").split("\r\n")
            fields = [line.partition(":")[::2] for line in lines if not NOT_COMPARED.match(line)]
            found[title.removeprefix("# ").lower()] = dict(fields)
    return found


def both(pair: Pair, *words: str) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Ours less what only we have, and the server's."""
    ours, theirs = (sections(raw) for raw in pair.both("INFO", *words))
    return {name: fields for name, fields in ours.items() if name not in OURS}, theirs


def fill(pair: Pair) -> None:
    pair.exchange(b"CONFIG RESETSTAT\r\n", 1)
    for line in (
        "SET a 1",
        "SET b x EX 1000",
        "RPUSH l a b c",
        "SADD s a",
        "ZADD z 1 a 2 b",
        "HSET h f v",
        "HEXPIRE h 1000 FIELDS 1 f",
        "XADD x 1-1 f v",
        "INCR l",
    ):
        pair.both(*line.split())


@pytest.mark.parametrize(
    "words",
    ["", "default", "all", "everything", "server clients", "MEMORY", "debug", "nosuch", "cluster all"],
)
def test_sections_and_their_fields_are_the_servers(pair: Pair, words: str) -> None:
    fill(pair)
    ours, theirs = both(pair, *words.split())
    assert list(ours) == list(theirs)
    for name, fields in theirs.items():
        if name in ("commandstats", "latencystats"):  # in the order of a hash table
            continue
        assert list(ours[name]) == list(fields), name


# How a value is written: digits, a fraction, a text.
_FORMS = [
    r"-?\d+",
    r"\d+\.\d\d",
    r"\d+\.\d{6}",
    r"\d+(\.\d\d[KMGT]|B)",
    r"\d+\.\d\d%",
    r"[0-9a-f]{40}",
    r"[0-9a-f]{16}",
    r"\w+=.*",
    r".*",
]


def form(value: str) -> str:
    return next(each for each in _FORMS if re.fullmatch(each, value))


def test_values_have_the_servers_form(pair: Pair) -> None:
    fill(pair)
    ours, theirs = both(pair, "everything")
    for name in ("memory", "persistence", "stats", "replication", "cpu", "cluster", "threads"):
        for field, value in theirs[name].items():
            assert form(ours[name][field]) == form(value), f"{field}: {ours[name][field]} or {value}"


# What depends on nothing but the commands.
SAME = {
    "clients": ["blocked_clients", "pubsub_clients", "watching_clients", "total_blocking_keys"],
    "memory": ["maxmemory", "maxmemory_human", "maxmemory_policy", "lazyfree_pending_objects"],
    "persistence": ["loading", "aof_enabled", "rdb_bgsave_in_progress", "rdb_last_bgsave_status"],
    "stats": ["keyspace_hits", "keyspace_misses", "expired_keys", "evicted_keys", "total_error_replies"],
    "replication": ["role", "connected_slaves", "repl_backlog_size"],
}


def test_what_only_the_commands_decide_is_the_same(pair: Pair) -> None:
    fill(pair)
    for line in ("GET a", "GET nosuch", "EXISTS a nosuch", "GET l", "NOSUCH", "LLEN l"):
        pair.both(*line.split())
    ours, theirs = both(pair, "everything")
    for name, fields in SAME.items():
        assert {field: ours[name][field] for field in fields} == {
            field: theirs[name][field] for field in fields
        }
    assert ours["errorstats"] == theirs["errorstats"]
    calls = re.compile(
        r"calls=(\d+),usec=\d+,usec_per_call=\d+\.\d\d,rejected_calls=(\d+),failed_calls=(\d+)"
    )
    counted = [
        {
            name: calls.fullmatch(value).groups()  # type: ignore[union-attr]
            for name, value in side["commandstats"].items()
            if name not in ("cmdstat_config|resetstat", "cmdstat_info")
        }
        for side in (ours, theirs)
    ]
    assert counted[0] == counted[1]


def test_keyspace_and_sizes_are_the_servers(pair: Pair) -> None:
    for size in (0, 1, 2, 3, 4, 7, 8, 1000, 1023, 1024, 5000, 1 << 20):
        pair.same("SET", f"s{size}", "x" * size)
    pair.same("SET", "int", 12345)
    pair.same("SET", "expires", "x", "EX", 1000)
    pair.same("RPUSH", "l", *range(1000))
    pair.same("SADD", "se", 1)
    pair.same("ZADD", "z", 1, "a")
    pair.same("HSET", "h", "a", "b", "c", "d")
    pair.same("HEXPIRE", "h", 1000, "FIELDS", 1, "a")
    pair.same("XADD", "x", "1-1", "a", 1)
    pair.same("SELECT", 3)
    pair.same("SETRANGE", "grown", 600, "x")
    ours, theirs = both(pair, "keyspace", "keysizes")
    for side in (ours, theirs):
        for name, value in side["keyspace"].items():
            side["keyspace"][name] = re.sub(r"avg_ttl=\d+", "avg_ttl=n", value)
    assert ours == theirs


def test_modules_of_the_server_are_the_only_difference_of_that_section(pair: Pair) -> None:
    ours, theirs = both(pair, "modules")
    assert ours == theirs == {"modules": {}}
