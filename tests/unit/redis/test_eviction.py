"""maxmemory: who is refused, and which keys go; maxclients."""

from __future__ import annotations

import pytest

from tests.support.redis_client import START_US, Client, make_engine

SECOND = 1_000_000


def limited(policy: str, room: int = 100_000) -> Client:
    client = Client(make_engine())
    client.send("CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", 1_000_000 + room)
    return client


def test_without_a_limit_nothing_is_counted_and_nobody_refused() -> None:
    client = Client(make_engine())
    client.send("SET", "a", "x" * 100_000)
    assert (client.engine.mode, client.engine.interest) == (0, 0)


def test_noeviction_refuses_what_needs_memory_and_nothing_else() -> None:
    client = limited("noeviction", 20_000)
    assert client.send("SET", "big", "x" * 30_000) == b"+OK\r\n"
    refused = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
    assert client.send("SET", "a", "1") == refused
    assert client.send("GET", "big").startswith(b"$30000\r\n")
    assert client.raw(b"MULTI\r\nSET a 1\r\nEXEC\r\n").startswith(b"+OK\r\n" + refused + b"-EXECABORT ")
    assert client.send("DEL", "big") == b":1\r\n"
    assert client.send("SET", "a", "1") == b"+OK\r\n"
    client.send("CONFIG", "SET", "maxmemory", 1)
    assert client.send("SET", "a", "1") == refused
    client.send("CONFIG", "SET", "maxmemory", 0)
    assert client.send("SET", "a", "1") == b"+OK\r\n"
    assert client.engine.interest == 0


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "allkeys-random", "allkeys-lfu", "volatile-ttl", "volatile-lru"]
)
@pytest.mark.parametrize("size", [10, 5000])
def test_the_data_stays_within_the_limit(policy: str, size: int) -> None:
    client = limited(policy, 200_000)
    for number in range(200_000 // size * 3 if size > 100 else 3000):
        assert client.send("SET", f"k{number}", "x" * size, "EX", 100 + number) == b"+OK\r\n"
    engine = client.engine
    assert int(client.info("stats")["evicted_keys"]) > 0
    # The last command may have gone over it by what it wrote.
    assert engine.memory.used() <= 1_200_000 + size + 300
    engine.memory._count_everything()
    assert 1_100_000 < engine.memory.used() < 1_260_000
    engine.databases[0].check_invariants()


def test_the_longest_unused_go_first() -> None:
    client = limited("allkeys-lru", 250_000)
    for number in range(100):
        client.send("SET", f"old{number}", "x" * 1000)
    client.now_us = START_US + 100 * SECOND
    for number in range(100):
        client.send("SET", f"new{number}", "x" * 1000)
        client.send("GET", f"old{number % 10}")
    for number in range(80):
        client.send("SET", f"newest{number}", "x" * 1000)
    left = {number for number in range(100) if client.send("EXISTS", f"old{number}") == b":1\r\n"}
    assert len(left & set(range(10))) >= 9
    assert sum(client.send("EXISTS", f"new{number}") == b":1\r\n" for number in range(100)) > 90
    assert len(left) < 60


def test_only_keys_that_expire_go_under_a_volatile_policy() -> None:
    client = limited("volatile-random", 60_000)
    for number in range(30):
        client.send("SET", f"stays{number}", "x" * 1000)
    for number in range(100):
        client.send("SET", f"may{number}", "x" * 1000, "EX", 100)
    assert all(client.send("EXISTS", f"stays{number}") == b":1\r\n" for number in range(30))
    for number in range(100):
        client.send("PERSIST", f"may{number}")
    answers = {client.send("SET", f"more{number}", "x" * 1000) for number in range(100)}
    assert b"-OOM command not allowed when used memory > 'maxmemory'.\r\n" in answers


def test_the_soonest_to_expire_go_first_under_volatile_ttl() -> None:
    client = limited("volatile-ttl", 100_000)
    client.send("CONFIG", "SET", "maxmemory-samples", 64)
    for number in range(100):
        client.send("SET", f"k{number}", "x" * 1000, "EX", 1000 - number)
    gone = [number for number in range(100) if client.send("EXISTS", f"k{number}") == b":0\r\n"]
    assert len(gone) >= 5
    assert min(gone) >= 60


def test_eviction_is_told_and_touches_watchers() -> None:
    client = limited("allkeys-lru", 50_000)
    listener, watcher = Client(client.engine), Client(client.engine)
    client.send("CONFIG", "SET", "notify-keyspace-events", "Ee")
    listener.send("PSUBSCRIBE", "__keyevent@*__:evicted")
    client.send("SET", "first", "x" * 1000)
    watcher.raw(b"WATCH first\r\nMULTI\r\nPING\r\n")
    client.now_us = START_US + SECOND
    for number in range(300):
        client.send("SET", f"k{number}", "x" * 1000)
    assert client.send("EXISTS", "first") == b":0\r\n"
    assert b"".join(listener.session.take_output()).count(b"__keyevent@0__:evicted") == int(
        client.info("stats")["evicted_keys"]
    )
    assert watcher.raw(b"EXEC\r\n") == b"*-1\r\n"


def test_flush_and_swap_are_counted() -> None:
    client = limited("noeviction", 50_000)
    client.send("SET", "big", "x" * 60_000)
    assert client.send("SET", "a", "1").startswith(b"-OOM")
    client.send("SWAPDB", 0, 1)
    assert client.send("SET", "a", "1").startswith(b"-OOM")
    client.send("SELECT", 1)
    client.send("FLUSHDB")
    assert client.send("SET", "a", "1") == b"+OK\r\n"


def test_too_many_clients_are_refused() -> None:
    engine = make_engine(maxclients=2)
    clients = [Client(engine), Client(engine)]
    third = Client(engine)
    assert third.session.is_closing
    assert third.session.take_output() == [b"-ERR max number of clients reached\r\n"]
    third.session.close()
    assert clients[0].info("stats")["rejected_connections"] == "1"
    privileged = engine.create_session(remote="c", local="c", now_us=START_US, is_privileged=True)
    assert not privileged.is_closing
    clients[1].session.close()
    # The privileged one is still there, and is in nobody's way.
    assert not Client(engine).session.is_closing
    assert Client(engine).session.is_closing
    privileged.close()
    assert Client(engine).session.is_closing
