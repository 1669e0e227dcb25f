"""Client-side caching inside the engine: what no command causes, limits, and what it costs those who do not track."""

from __future__ import annotations

import pytest

from appliance.redis import Engine, EngineSettings, Session
from appliance.redis.engine_modes import TRACKING

NOW_US = 1_700_000_000_000_000


class Clients:
    """Sessions by name; `cache` speaks RESP3."""

    def __init__(self) -> None:
        self.engine = Engine(EngineSettings(), lambda count: bytes(range(count)))
        self.sessions: dict[str, Session] = {}
        self.say("cache", "HELLO 3")

    def say(self, name: str, text: str) -> bytes:
        session = self.sessions.get(name)
        if session is None:
            session = self.engine.create_session(remote="10.0.0.1:1", local="", now_us=NOW_US)
            self.sessions[name] = session
        session.data_received(text.encode() + b"\r\n", NOW_US)
        self.engine.take_pending_sessions()
        self.engine.tracking.check_invariants()
        return self.got(name)

    def got(self, name: str) -> bytes:
        return b"".join(self.sessions[name].take_output())


def invalidate(*keys: str) -> bytes:
    names = b"".join(b"$%d\r\n%b\r\n" % (len(key), key.encode()) for key in keys)
    return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n" % len(keys) + names


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest.mark.parametrize("mode", ["", " NOLOOP", " BCAST", " BCAST NOLOOP"])
def test_a_key_that_expires_by_itself_is_told_of(clients: Clients, mode: str) -> None:
    clients.say("cache", f"CLIENT TRACKING ON{mode}")
    clients.say("other", "SET k 1 PX 10")
    clients.say("cache", "GET k")
    clients.got("cache")
    clients.engine.cron(NOW_US + 20_000)
    clients.engine.take_pending_sessions()
    assert clients.got("cache") == invalidate("k")


@pytest.mark.parametrize("mode", ["", " BCAST"])
def test_an_evicted_key_is_told_of(clients: Clients, mode: str) -> None:
    clients.say("cache", f"CLIENT TRACKING ON{mode}")
    clients.say("other", "SET k 1")
    clients.say("cache", "GET k")
    clients.got("cache")
    clients.say("other", "CONFIG SET maxmemory 1 maxmemory-policy allkeys-lru")
    clients.say("other", "SET l 1")
    clients.engine.take_pending_sessions()
    assert invalidate("k") in clients.got("cache")


def test_a_field_that_expires_changes_its_hash(clients: Clients) -> None:
    clients.say("cache", "CLIENT TRACKING ON")
    clients.say("other", "HSET h f 1 g 2")
    clients.say("other", "HPEXPIRE h 10 FIELDS 1 f")
    clients.say("cache", "HGETALL h")
    clients.engine.cron(NOW_US + 20_000)
    clients.engine.take_pending_sessions()
    assert clients.got("cache") == invalidate("h")


def test_the_table_keeps_to_its_limit(clients: Clients) -> None:
    clients.say("other", "CONFIG SET tracking-table-max-keys 100")
    clients.say("cache", "CLIENT TRACKING ON")
    for number in range(1000):
        clients.say("cache", f"GET k{number}")
    assert clients.engine.tracking.total_keys <= 101
    clients.say("cache", "MGET " + " ".join(f"m{number}" for number in range(500)))
    assert clients.engine.tracking.total_keys > 500
    for _ in range(5):
        clients.say("other", "PING")
    assert clients.engine.tracking.total_keys == clients.engine.tracking.total_items == 100


def test_nobody_pays_when_nobody_tracks(clients: Clients) -> None:
    engine = clients.engine
    assert engine.mode == engine.interest == 0
    clients.say("cache", "CLIENT TRACKING ON")
    clients.say("cache", "GET k")
    assert engine.mode == TRACKING
    assert engine.interest == 1
    clients.sessions["cache"].close()
    assert engine.mode == 0
    assert engine.interest == 1  # until the key has changed
    clients.say("other", "SET k 1")
    assert engine.interest == 0
    assert engine.tracking.total_keys == 0


def test_a_broadcast_goes_with_its_client(clients: Clients) -> None:
    clients.say("cache", "CLIENT TRACKING ON BCAST PREFIX a PREFIX b")
    assert clients.engine.tracking.total_prefixes == 2
    clients.sessions["cache"].kill()
    assert clients.engine.tracking.total_prefixes == 0
    assert clients.engine.mode == clients.engine.interest == 0
    assert clients.say("other", "SET a 1") == b"+OK\r\n"


def test_a_script_that_is_interrupted_tells_its_client_at_its_end(clients: Clients) -> None:
    engine = clients.engine
    ticks = iter(range(0, 1 << 60, 1_000_000))
    engine.stopwatch = lambda: next(ticks)  # every look is a millisecond later: slices are short
    clients.say("cache", "CLIENT TRACKING ON")
    clients.say("cache", "GET k")
    script = "redis.call('set', 'k', 1) for i = 1, 1000000 do local x = i end return redis.call('get', 'l')"
    request = b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(script), script.encode())
    session = clients.sessions["cache"]
    session.data_received(request, NOW_US)
    assert session.is_parked
    assert clients.got("cache") == b""
    now_us = NOW_US
    while session.is_parked:
        now_us += 1000
        engine.handle_timeouts(now_us)
    engine.take_pending_sessions()
    assert clients.got("cache") == b"_\r\n" + invalidate("k")
    clients.say("other", "SET l 1")
    assert clients.got("cache") == invalidate("l")
