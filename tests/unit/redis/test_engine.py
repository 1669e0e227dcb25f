"""The engine as the shell drives it: expiry, housekeeping, INFO, CONFIG."""

from __future__ import annotations

import pytest

from appliance.redis import EngineSettings
from tests.support.redis_client import START_US, Client, make_engine


def test_cron_removes_expired_keys_that_nobody_asks_for() -> None:
    client = Client(make_engine())
    for number in range(1000):
        client.send("SET", f"k{number}", "v", "PX", 100)
    client.send("SET", "stays", "v")
    now_us = START_US
    for _ in range(5):
        now_us += 100_000
        client.engine.cron(now_us)
        while client.engine.has_work:
            client.engine.work(now_us)
    assert len(client.engine.databases[0]) == 1
    client.now_us = now_us
    assert client.info("stats")["expired_keys"] == "1000"


def test_cron_looks_at_a_bounded_number_of_keys() -> None:
    """50,000 keys expired at once are removed in small pieces, so that none of them stalls the shell."""
    engine = make_engine()
    client = Client(engine)
    for number in range(50_000):
        client.session.data_received(b"SET k%d v PX 1\r\n" % number, START_US)
    client.session.take_output()
    engine.cron(START_US + 1_000_000)
    left = len(engine.databases[0])
    assert left < 50_000
    calls = 1
    while engine.has_work:
        assert left - len(engine.databases[0]) <= 100
        left = len(engine.databases[0])
        engine.work(START_US + 1_000_000)
        calls += 1
        assert calls < 2000
    assert left < 100


def test_cron_leaves_keys_alone_whose_time_has_not_come() -> None:
    client = Client(make_engine())
    for number in range(100):
        client.send("SET", f"k{number}", "v", "EX", 100)
    for step in range(10):
        client.engine.cron(START_US + step * 100_000)
    assert len(client.engine.databases[0]) == 100
    keyspace = client.info("keyspace")["db0"]
    assert keyspace.startswith("keys=100,expires=100,avg_ttl=99")


def test_time_is_fixed_within_one_call() -> None:
    client = Client(make_engine())
    assert (
        client.raw(b"SET k v PX 1\r\nGET k\r\nTIME\r\n")
        == b"+OK\r\n$1\r\nv\r\n*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n"
    )
    client.now_us += 2000
    assert client.raw(b"GET k\r\n") == b"$-1\r\n"


def test_info_has_the_sections_and_real_numbers() -> None:
    client = Client(make_engine(port=7000))
    client.raw(b"SET a 1\r\nGET a\r\nGET b\r\nSELECT 2\r\nSET c 1 EX 10\r\n")
    client.now_us += 90_000_000
    text = str(client.ask("INFO"), "ascii")  # type: ignore[call-overload]
    titles = [line[2:] for line in text.split("\r\n") if line.startswith("# ")]
    assert titles == (
        [
            "Server",
            "Clients",
            "Memory",
            "Persistence",
            "Threads",
            "Stats",
            "Replication",
            "CPU",
            "Modules",
            "Errorstats",
            "Cluster",
            "Keyspace",
            "Keysizes",
            "Redtap",
        ]
    )
    server, stats = client.info("server"), client.info("stats")
    assert (server["tcp_port"], server["uptime_in_seconds"], server["redis_version"]) == (
        "7000",
        "90",
        "8.2.3",
    )
    assert (stats["keyspace_hits"], stats["keyspace_misses"]) == ("1", "1")
    assert client.info("clients")["connected_clients"] == "1"
    assert client.info("persistence")["rdb_changes_since_last_save"] == "2"
    assert set(client.info("keyspace")) == {"db0", "db2"}
    assert client.info("nosuch") == {}
    assert "cmdstat_get" in client.info("all")
    assert int(stats["total_net_input_bytes"]) > 0 < int(stats["total_net_output_bytes"])


def test_info_providers_add_sections_and_override_facts() -> None:
    engine = make_engine()
    engine.set_info_provider("Stack", lambda: {"frames_in": 7})
    engine.set_info_provider("memory", lambda: {"used_memory": 1000, "mem_allocator": "libc"})
    client = Client(engine)
    assert client.info("stack") == {"frames_in": "7"}
    assert client.info("memory")["mem_allocator"] == "libc"
    assert client.info("default")["frames_in"] == "7"


def test_resetstat_sets_counters_back() -> None:
    client = Client(make_engine())
    client.raw(b"GET a\r\nFOO\r\nCONFIG RESETSTAT\r\n")
    assert client.info("errorstats") == {}
    stats = client.info("stats")
    assert (stats["keyspace_misses"], stats["total_commands_processed"]) == ("0", "2")


def test_rate_of_commands_is_measured_between_crons() -> None:
    client = Client(make_engine())
    client.engine.cron(START_US)
    for _ in range(50):
        client.send("PING")
    client.engine.cron(START_US + 100_000)
    assert client.info("stats")["instantaneous_ops_per_sec"] == "500"


def test_counters_of_closed_sessions_are_kept() -> None:
    engine = make_engine()
    one = Client(engine)
    one.send("PING")
    one.session.close()
    other = Client(engine)
    stats = other.info("stats")
    assert stats["total_connections_received"] == "2"
    assert stats["total_commands_processed"] == "1"  # PING: this INFO is not over yet


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError):
        EngineSettings(databases=0)
    with pytest.raises(ValueError):
        make_engine(port=-1)


def test_config_set_is_all_or_nothing() -> None:
    client = Client(make_engine())
    assert client.raw(b"CONFIG SET timeout 5 hz x\r\n").startswith(b"-ERR CONFIG SET failed")
    assert client.ask("CONFIG", "GET", "timeout") == [b"timeout", b"0"]


def test_the_log_of_changes_cannot_be_switched_on_as_there_is_none() -> None:
    client = Client(make_engine())
    assert b"Unable to turn on AOF" in client.raw(b"CONFIG SET timeout 5 appendonly yes\r\n")
    assert client.ask("CONFIG", "GET", "appendonly", "timeout") == [b"appendonly", b"no", b"timeout", b"0"]


def test_commands_of_two_engines_count_apart() -> None:
    one, other = Client(make_engine()), Client(make_engine())
    one.send("PING")
    assert one.engine.registry.commands[b"ping"].calls == 1
    assert other.engine.registry.commands[b"ping"].calls == 0


def test_swapdb_is_seen_by_sessions_that_selected_them() -> None:
    engine = make_engine()
    one, other = Client(engine), Client(engine)
    one.send("SET", "a", "zero")
    other.send("SELECT", 1)
    one.send("SWAPDB", 0, 1)
    assert other.ask("GET", "a") == b"zero"
    assert one.ask("GET", "a") is None


def test_random_key_skips_expired_ones() -> None:
    client = Client(make_engine())
    for number in range(50):
        client.send("SET", f"k{number}", "v", "PX", 1)
    client.send("SET", "alive", "v")
    client.now_us += 1_000_000
    assert client.ask("RANDOMKEY") == b"alive"


@pytest.mark.parametrize("pattern", ["gone", "g?ne", "*"])
def test_keys_neither_shows_nor_removes_what_has_expired(pattern: str) -> None:
    client = Client(make_engine())
    client.send("SET", "gone", "v", "PX", 1)
    assert client.ask("KEYS", pattern) == [b"gone"]
    client.now_us += 1_000_000
    assert client.ask("KEYS", pattern) == []
    assert client.ask("DBSIZE") == 1


@pytest.mark.parametrize("name", ["a", "", "a]b", "^", "-"])
def test_keys_finds_a_name_by_itself(name: str) -> None:
    client = Client(make_engine())
    client.send("MSET", name, "v", "other", "v")
    assert client.ask("KEYS", name) == [name.encode()]


def test_flushall_gives_memory_back_piece_by_piece() -> None:
    engine = make_engine()
    client = Client(engine)
    for number in range(60_000):
        client.session.data_received(b"SET k%d v\r\n" % number, START_US)
    client.send("FLUSHALL")
    left = len(engine.releases)
    pieces = 0
    while engine.is_busy:
        engine.handle_timeouts(engine.next_timeout_us())
        assert len(engine.releases) <= left
        left = len(engine.releases)
        pieces += 1
    assert left == 0
    assert pieces > 30


def test_commands_of_all_sessions_are_counted_in_one_place_however_they_run() -> None:
    engine = make_engine()
    one, other = Client(engine), Client(engine)
    for client in (one, other):
        client.session.data_received(b"PING\r\nMULTI\r\nINCR a\r\nINCR a\r\nEXEC\r\nBLPOP l 1\r\n", START_US)
    one.session.data_received(b"NOSUCH\r\n", START_US)
    other.session.data_received(b"GET\r\n", START_US)
    engine.handle_timeouts(START_US + 2_000_000)
    counted = sum(session.commands_executed for session in engine.sessions.values())
    assert engine.commands_processed() == counted > 0
