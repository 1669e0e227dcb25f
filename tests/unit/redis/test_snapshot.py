"""Snapshots of an engine that goes on: what a client gets is what there was at its SYNC, whatever others do."""

from __future__ import annotations

import random
import re

import pytest

from appliance.redis import Engine, EngineSettings, Session
from appliance.redis.blocking import NEVER_US
from appliance.redis.digest import value_digest
from appliance.redis.dump import dump
from appliance.redis.entry import NO_EXPIRY, Entry
from appliance.redis.rdb import ABOUT, END, KEY, LIBRARY, RdbReader
from appliance.redis.types.collection import Collection
from appliance.redis.types.streams import Stream

NOW_US = 1_700_000_000_000_000
S = 1_000_000
CODE = "#!lua name=l\nredis.register_function('f', function() return 1 end)"

Picture = dict[tuple[int, bytes], tuple[bytes, int]]


def encoded(*words: str | bytes | int) -> bytes:
    texts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)


class Server:
    """An engine, sessions by name, and a clock."""

    def __init__(self) -> None:
        source = random.Random(1)
        self.engine = Engine(EngineSettings(), source.randbytes)
        self.now_us = NOW_US
        self.sessions: dict[str, Session] = {}

    def session(self, name: str) -> Session:
        if name not in self.sessions:
            self.sessions[name] = self.engine.create_session(
                remote="10.0.0.1:1", local="10.0.0.2:2", now_us=self.now_us
            )
        return self.sessions[name]

    def say(self, name: str, *words: str | bytes | int) -> bytes:
        session = self.session(name)
        session.data_received(encoded(*words), self.now_us)
        output = b"".join(session.take_output())
        self.engine.take_pending_sessions()
        return output

    def do(self, *words: str | bytes | int) -> bytes:
        return self.say("writer", *words)

    def advance(self, span_us: int) -> None:
        self.now_us += span_us
        self.engine.handle_timeouts(self.now_us)
        self.engine.take_pending_sessions()

    def sync(self, name: str = "client", *words: str) -> bytes:
        """Ask for a snapshot; what comes at once."""
        assert self.say(name, "REPLCONF", "rdb-only", 1, "capa", "eof", *words) == b"+OK\r\n"
        return self.say(name, "SYNC")

    def rest(self, name: str = "client") -> bytes:
        """All that comes until the client is disconnected."""
        session = self.sessions[name]
        got = b""
        for _ in range(100_000):
            got += b"".join(session.take_output())
            if session.is_closing:
                return got
            self.advance(2_000)
        raise AssertionError("no end")

    def picture(self) -> Picture:
        """What there is now."""
        now_ms = self.now_us // 1000
        found: Picture = {}
        for database in self.engine.databases:
            for entry in database.entries():
                if entry.expire_at_ms == NO_EXPIRY or entry.expire_at_ms >= now_ms:
                    found[database.index, entry.key] = pictured(entry.value, entry.expire_at_ms)
        return found


def pictured(value: object, expire_at_ms: int) -> tuple[bytes, int]:
    """What a value is, but for the order of what has none."""
    digest = dump(value) if isinstance(value, Stream) else value_digest(Entry(b"k", value), 0)
    return digest, expire_at_ms


def payload(sent: bytes) -> bytes:
    """The file in what a client got."""
    match = re.fullmatch(rb"\n*\$EOF:([0-9a-f]{40})\r\n(.*)\1", sent, re.DOTALL)
    if match is not None:
        return match[2]
    match = re.fullmatch(rb"\n*\$(\d+)\r\n(.*)", sent, re.DOTALL)
    assert match is not None, sent[:80]
    assert len(match[2]) == int(match[1])
    return match[2]


def shown(data: bytes, engine: Engine) -> Picture:
    """What a file shows; a key twice is an error."""
    reader = RdbReader(data)
    found: Picture = {}
    while (kind := reader.next()) != END:
        if kind == KEY:
            name = (reader.database, reader.key)
            assert name not in found
            found[name] = pictured(reader.value(engine.limits), reader.expire_at_ms)
    return found


@pytest.fixture
def server() -> Server:
    return Server()


def fill(server: Server, keys: int) -> None:
    """Strings, most of them, and some of every type; in three databases; some expire."""
    for at in range(keys):
        server.do("SELECT", (0, 0, 0, 3, 15)[at % 5])
        key = f"key:{at}"
        kind = at % 40
        if kind == 0:
            server.do("RPUSH", key, *range(at % 200 + 1))
        elif kind == 1:
            server.do("SADD", key, *[f"m{number}" for number in range(at % 300 + 1)])
        elif kind == 2:
            server.do(
                "ZADD", key, *[word for number in range(at % 200 + 1) for word in (number, f"m{number}")]
            )
        elif kind == 3:
            server.do(
                "HSET", key, *[word for number in range(at % 300 + 1) for word in (f"f{number}", "v" * 9)]
            )
        elif kind == 4:
            server.do("XADD", key, f"{at + 1}-1", "f", at)
            server.do("XGROUP", "CREATE", key, "g", 0)
        elif kind == 5:
            server.do("SET", key, at, "PX", at * 10 + 5)
        elif kind == 6:
            server.do("SETRANGE", key, 9, "x" * at)
        elif kind == 7:
            server.do("HSET", key, "a", 1, "b", 2)
            server.do("HPEXPIRE", key, at * 10 + 5, "FIELDS", 1, "a")
        else:
            server.do("SET", key, f"value {at}")


def churn(server: Server, source: random.Random, keys: int) -> None:
    """One command of somebody who writes."""
    at = source.randrange(keys * 2)
    key = f"key:{at}"
    kind = source.randrange(40)
    server.do("SELECT", (0, 0, 0, 3, 15)[at % 5])
    if kind < 10:
        server.do("SET", key, "changed")
    elif kind < 16:
        server.do("DEL", key)
    elif kind < 18:
        server.do("APPEND", key, "more")
    elif kind < 22:
        server.do("RPUSH", key, "more")
        server.do("SADD", key, "more")
        server.do("ZADD", key, 5, "more")
        server.do("HSET", key, "more", 5)
    elif kind < 24:
        server.do("XREADGROUP", "GROUP", "g", "me", "STREAMS", key, ">")
        server.do("XADD", key, "*", "f", 1)
    elif kind < 26:
        server.do("EXPIRE", key, 1)
        server.do("HPEXPIRE", key, 1, "FIELDS", 1, "b")
    elif kind < 27:
        server.do("RENAME", key, f"key:{source.randrange(keys)}")
    elif kind < 28:
        server.do("COPY", key, f"key:{source.randrange(keys)}", "REPLACE")
    elif kind < 29:
        server.do("MOVE", key, 3)
    elif kind < 30:
        server.do("INCR", f"number:{at}")
    elif kind < 31:
        server.do("SETRANGE", key, 3, "changed")
    elif kind < 32:
        server.do("LPOP", key)
        server.do("SPOP", key)
    elif kind < 33:
        server.do("XACK", key, "g", "1-1")
        server.do("XGROUP", "DESTROY", key, "g")
    elif kind < 34:
        server.do("GETSET", key, "got")
        server.do("PERSIST", key)
    else:
        server.do("MSET", key, 1, f"new:{at}", 2)


@pytest.mark.parametrize("seed", range(6))
def test_what_changes_meanwhile_is_not_in_it(server: Server, seed: int) -> None:
    source = random.Random(seed)
    keys = 3000
    fill(server, keys)
    if seed % 3 == 1:
        server.do("CONFIG", "SET", "notify-keyspace-events", "KEA")
    before = server.picture()
    sent = server.sync()
    client = server.session("client")
    pieces = 0
    while not client.is_closing:
        for _ in range(source.randrange(30)):
            churn(server, source, keys)
        if pieces == 4:
            if seed == 2:
                server.do("FLUSHALL")
            elif seed == 3:
                server.do("SWAPDB", 0, 3)
            elif seed == 4:
                server.do("SELECT", 0)
                for at in range(keys):  # so that the table becomes a small one
                    server.do("DEL", f"key:{at}")
            elif seed == 5:
                server.do("SELECT", 0)
                for at in range(4 * keys):  # so that it grows
                    server.do("SET", f"grown:{at}", "v")
        server.advance(1_500)
        server.engine.cron(server.now_us)
        part = b"".join(client.take_output())
        pieces += len(part) > 0
        sent += part
    assert pieces > 8
    assert shown(payload(sent), server.engine) == before
    assert server.engine.snapshots.next_us == NEVER_US
    for database in server.engine.databases:
        database.check_invariants()
        assert database._table.walk is None


def fill_large(server: Server, elements: int) -> None:
    """A key of each type that is written in pieces, among small ones; some elements of hashes expire."""
    for at in range(300):
        server.do("SET", f"small:{at}", at)
    numbers = range(elements)
    for name in ("one", "two"):
        server.do("RPUSH", f"list:{name}", *[f"element {number}" for number in numbers])
        server.do("SADD", f"set:{name}", *[f"m{number}" for number in numbers])
        server.do("ZADD", f"zset:{name}", *[word for n in numbers for word in (n % 97, f"m{n}")])
        server.do("HSET", f"hash:{name}", *[word for n in numbers for word in (f"m{n}", f"value {n}")])
        server.do("HSET", f"expiring:{name}", *[word for n in numbers for word in (f"m{n}", n)])
        for at in range(0, elements, 1000):
            fields = [f"m{number}" for number in range(at, at + 500)]
            server.do("HPEXPIRE", f"expiring:{name}", 20 + at // 50, "FIELDS", len(fields), *fields)
        for number in numbers:
            server.do("XADD", f"stream:{name}", f"{number + 1}-1", "f", number)
        server.do("XGROUP", "CREATE", f"stream:{name}", "g", 0)
        server.do("XGROUP", "CREATE", f"stream:{name}", "h", 50)
        server.do("XREADGROUP", "GROUP", "g", "me", "COUNT", elements // 2, "STREAMS", f"stream:{name}", ">")
        server.do("XREADGROUP", "GROUP", "g", "you", "COUNT", 700, "STREAMS", f"stream:{name}", ">")
        server.do("SET", f"long:{name}", "text " * 100_000)
        server.do("SETRANGE", f"changed:{name}", 700_000, "x")


def change_large(server: Server, source: random.Random, elements: int) -> None:
    """Changes of elements, and now and then of a key as a whole."""
    name = source.choice(["one", "two"])
    number = source.randrange(elements * 5 // 4)
    member = f"m{number}"
    kind = source.randrange(60)
    if kind < 8:
        server.do("HSET", f"hash:{name}", member, "changed", f"new{number}", 1)
        server.do("HDEL", f"hash:{name}", f"m{number // 2}")
    elif kind < 16:
        server.do("HSET", f"expiring:{name}", member, "changed")
        server.do("HPERSIST", f"expiring:{name}", "FIELDS", 1, f"m{number // 2}")
        server.do("HPEXPIRE", f"expiring:{name}", 3, "FIELDS", 1, f"m{number // 3}")
    elif kind < 24:
        server.do("SADD", f"set:{name}", f"new{number}")
        server.do("SREM", f"set:{name}", member)
        server.do("SPOP", f"set:{name}")
    elif kind < 32:
        server.do("ZADD", f"zset:{name}", 1000 - number, member, 5, f"new{number}")
        server.do("ZINCRBY", f"zset:{name}", "0.0001", f"m{number // 2}")
        server.do("ZREM", f"zset:{name}", f"m{number // 3}")
        server.do("ZPOPMIN", f"zset:{name}")
        server.do("ZREMRANGEBYRANK", f"zset:{name}", 5, 7)
    elif kind < 40:
        server.do("RPUSH", f"list:{name}", "new")
        server.do("LPOP", f"list:{name}", 3)
        server.do("LSET", f"list:{name}", number // 2, "changed")
        server.do("LINSERT", f"list:{name}", "BEFORE", f"element {number}", "between")
        server.do("LREM", f"list:{name}", 1, f"element {number // 2}")
    elif kind < 48:
        server.do("XADD", f"stream:{name}", "*", "f", "new")
        server.do("XDEL", f"stream:{name}", f"{number + 1}-1")
        server.do("XTRIM", f"stream:{name}", "MAXLEN", elements - number // 9)
        if source.randrange(4) == 0:
            server.do("XACK", f"stream:{name}", "g", f"{number // 3}-1")
            server.do("XREADGROUP", "GROUP", "g", "new", "COUNT", 1, "STREAMS", f"stream:{name}", ">")
    elif kind < 52:
        server.do("APPEND", f"long:{name}", "more")
        server.do("SETRANGE", f"changed:{name}", number, "changed")
        server.do("SET", f"small:{number % 400}", "changed")
    elif kind < 54 and source.randrange(8) == 0:
        of = source.choice(["list", "set", "zset", "hash", "expiring", "stream", "long"])
        way = source.randrange(5)
        if way == 0:
            server.do("DEL", f"{of}:{name}")
        elif way == 1:
            server.do("RENAME", f"{of}:{name}", f"{of}:two" if name == "one" else f"{of}:one")
        elif way == 2:
            server.do("MOVE", f"{of}:{name}", 7)
        elif way == 3:
            server.do("SET", f"{of}:{name}", "overwritten")
        else:
            server.do("COPY", f"{of}:{name}", f"{of}:copy", "REPLACE")


@pytest.mark.parametrize("seed", range(6))
def test_large_values_are_shown_as_they_were_whatever_changes_in_them(server: Server, seed: int) -> None:
    source = random.Random(seed)
    elements = 2500
    fill_large(server, elements)
    before = server.picture()
    sent = server.sync()
    client = server.session("client")
    pieces = 0
    busy = seed % 4 != 3
    while not client.is_closing:
        for _ in range(source.randrange(12) if busy else 0):
            change_large(server, source, elements)
        if pieces == 20 and seed % 4 == 1:
            server.do("FLUSHALL")
        elif pieces == 20 and seed % 4 == 2:
            server.do("SWAPDB", 0, 3)
        server.advance(1_500)
        server.engine.cron(server.now_us)
        part = b"".join(client.take_output())
        pieces += len(part) > 0
        sent += part
    assert pieces > 30
    assert shown(payload(sent), server.engine) == before
    for database in server.engine.databases:
        for entry in database.entries():
            if isinstance(entry.value, Collection):
                assert entry.value.walk is None
    for _ in range(100_000):
        if server.engine.releases.is_empty():
            break
        server.advance(2_000)
    assert server.engine.releases.is_empty()


def test_pieces_of_a_large_value_are_small(server: Server) -> None:
    fill_large(server, 2500)
    session = server.session("client")
    largest = len(server.sync())
    pieces = 1
    while not session.is_closing:
        server.advance(1_500)
        largest = max(largest, len(b"".join(session.take_output())))
        pieces += 1
    assert pieces > 60
    assert largest < 400_000  # four slices of a long string


def test_one_who_leaves_amid_a_large_value_leaves_nothing_behind(server: Server) -> None:
    fill_large(server, 2500)
    server.sync()
    for _ in range(40):
        server.advance(1_500)
    for kind in ("set", "zset", "hash", "expiring", "stream", "list"):
        for name in ("one", "two"):
            server.do("DEL", f"{kind}:{name}")
    server.session("client").close()
    server.advance(1_500)
    while not server.engine.releases.is_empty():
        server.advance(2_000)
    assert server.engine.releases.freed > 0


def test_what_a_snapshot_lets_go_of_is_freed_without_another_command(server: Server) -> None:
    for at in range(2500):
        server.do("SADD", "s", at)
    server.sync()
    server.do("DEL", "s")
    server.rest()
    while not server.engine.releases.is_empty():
        assert server.engine.next_timeout_us() < NEVER_US
        server.advance(2_000)
    assert server.engine.releases.freed == 1


def test_flushed_while_a_snapshot_is_under_way_it_is_let_go_of_afterwards(server: Server) -> None:
    for at in range(5000):
        server.do("SET", f"key:{at}", "v", "EX", 1000)
    server.sync()
    server.do("FLUSHALL")
    assert len(server.engine.releases) == 0
    server.rest()
    assert len(server.engine.releases) == 5000
    server.advance(1 * S)
    while not server.engine.releases.is_empty():
        server.advance(2_000)


def test_pieces_are_small(server: Server) -> None:
    for at in range(20_000):
        server.do("SET", f"key:{at}", "v" * 100)
    largest = len(server.sync())
    session = server.session("client")
    while not session.is_closing:
        server.advance(1_500)
        largest = max(largest, len(b"".join(session.take_output())))
    assert largest < 100_000


def test_a_client_that_does_not_read_is_waited_for_and_then_disconnected(server: Server) -> None:
    for at in range(2_000):
        server.do("SET", f"key:{at}", random.Random(at).randbytes(3_000))
    server.sync()
    session = server.session("client")
    for _ in range(1_000):
        server.advance(2_000)
    assert (1 << 20) <= session.output_bytes() < (1 << 20) + 500_000
    server.advance(57 * S)
    assert "is_closing=False" in repr(session)
    server.advance(4 * S)
    assert session.is_closing
    assert session.is_over_limit
    assert all(database._table.walk is None for database in server.engine.databases)
    assert server.engine.snapshots.next_us == NEVER_US


def test_a_slow_client_is_not_disconnected(server: Server) -> None:
    for at in range(1_000):
        server.do("SET", f"key:{at}", random.Random(at).randbytes(3_000))
    before = server.picture()
    sent = server.sync()
    session = server.session("client")
    while not session.is_closing:
        for _ in range(1_000):
            server.advance(50_000)
        sent += b"".join(session.take_output())
    assert shown(payload(sent), server.engine) == before


def test_two_clients_get_one_snapshot_after_the_other(server: Server) -> None:
    fill(server, 2000)
    before = server.picture()
    sent = {"one": server.sync("one"), "two": server.sync("two")}
    assert sent["two"] == b""
    server.do("SELECT", 0)
    server.do("SET", "late", "v")
    sent["one"] += server.rest("one")
    after = server.picture()
    sent["two"] += server.rest("two")
    assert shown(payload(sent["one"]), server.engine) == before
    assert shown(payload(sent["two"]), server.engine) == after
    assert (0, b"late") in after


def test_one_that_leaves_makes_way(server: Server) -> None:
    fill(server, 2000)
    server.sync("one")
    server.sync("two")
    server.sync("three")
    server.session("one").close()
    server.session("two").close()
    sent = server.rest("three")
    assert shown(payload(sent), server.engine) == server.picture()


def test_without_the_mark_the_length_comes_first_after_newlines(server: Server) -> None:
    for at in range(20_000):
        server.do("SET", f"key:{at}", "v" * 100)
    before = server.picture()
    server.say("client", "REPLCONF", "rdb-only", 1)
    assert server.say("client", "SYNC") == b""
    session = server.session("client")
    sent = b""
    for _ in range(6):
        server.advance(400_000)
        sent += b"".join(session.take_output())
    assert sent == b"\n\n"
    sent += server.rest()
    assert shown(payload(sent), server.engine) == before


def test_filters(server: Server) -> None:
    fill(server, 50)
    server.do("FUNCTION", "LOAD", CODE)

    def kinds(*words: str) -> set[int]:
        name = "client" + "".join(words)
        reader = RdbReader(payload(server.sync(name, *words) + server.rest(name)))
        found = set()
        while (kind := reader.next()) != END:
            found.add(kind)
            if kind == KEY:
                reader.value(server.engine.limits)
        return found

    assert kinds() == {ABOUT, LIBRARY, KEY}
    assert kinds("rdb-filter-only", "functions") == {ABOUT, LIBRARY}
    assert kinds("rdb-filter-only", "") == {ABOUT}


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "noeviction"])
def test_use_is_told_where_the_policy_asks_for_it(server: Server, policy: str) -> None:
    server.do("CONFIG", "SET", "maxmemory-policy", policy)
    server.do("SET", "k", "v")
    server.advance(30 * S)
    reader = RdbReader(payload(server.sync() + server.rest()))
    while reader.next() != KEY:
        pass
    expected = {"allkeys-lru": (30, -1), "allkeys-lfu": (-1, 5), "noeviction": (-1, -1)}[policy]
    assert (reader.idle_s, reader.frequency) == expected


def test_one_who_would_follow_is_refused(server: Server) -> None:
    reason = b" this server has no replicas, only a snapshot after REPLCONF rdb-only 1\r\n"
    assert server.say("a", "SYNC") == b"-ERR" + reason
    assert server.say("a", "REPLCONF", "listening-port", 7, "capa", "eof", "capa", "psync2") == b"+OK\r\n"
    assert server.say("a", "PSYNC", "?", -1) == b"-NOMASTERLINK" + reason
    assert server.say("a", "PING") == b"+PONG\r\n"
    server.say("a", "REPLCONF", "rdb-only", 1, "rdb-channel", 1)
    assert server.say("a", "SYNC") == b"-ERR" + reason


def test_psync_is_told_the_name_of_the_stream(server: Server) -> None:
    server.say("a", "REPLCONF", "rdb-only", 1)
    sent = server.say("a", "PSYNC", "0" * 40, 77) + server.rest("a")
    identity = server.engine.replication_id.encode()
    assert sent.startswith(b"+FULLRESYNC %b 0\r\n$" % identity)
    assert b"sync_full:1\r\nsync_partial_ok:0\r\nsync_partial_err:1\r\n" in server.do("INFO", "stats")


def test_while_it_gets_its_snapshot_a_client_is_a_replica(server: Server) -> None:
    for at in range(3000):
        server.do("SET", f"key:{at}", "v")
    server.sync()
    shown_clients = server.do("CLIENT", "LIST", "TYPE", "slave")
    assert b" flags=S " in shown_clients
    assert shown_clients.count(b"id=") == 1
    assert server.do("CLIENT", "KILL", "TYPE", "replica") == b":1\r\n"
    server.advance(2_000)
    assert all(database._table.walk is None for database in server.engine.databases)


@pytest.mark.parametrize(
    "words",
    [("PING",), ("GET", "key:1"), ("NO SUCH",), ("REPLCONF", "capa", "eof"), ("SUBSCRIBE", "c"), ("EXEC",)],
)
def test_a_client_that_is_answered_meanwhile_is_disconnected(server: Server, words: tuple[str, ...]) -> None:
    for at in range(3000):
        server.do("SET", f"key:{at}", "v")
    server.sync()
    assert server.say("client", *words) == b""
    assert server.session("client").is_closing
    server.advance(2_000)
    assert b"\r\nconnected_slaves:0\r\n" in server.do("INFO", "replication")
    assert all(database._table.walk is None for database in server.engine.databases)


def test_a_command_without_a_reply_may_come_meanwhile(server: Server) -> None:
    for at in range(3000):
        server.do("SET", f"key:{at}", "v")
    before = server.picture()
    sent = server.sync()
    for words in (
        ("REPLCONF", "ACK", 0),
        ("SYNC",),
        ("PSYNC", "?", -1),
        ("CLIENT", "REPLY", "OFF"),
        ("SET", "k", 1),
    ):
        assert server.say("client", *words) == b""
    assert server.do("GET", "k") == b"$-1\r\n"
    assert shown(payload(sent + server.rest()), server.engine) == before


def test_a_message_to_a_client_ends_its_snapshot(server: Server) -> None:
    for at in range(3000):
        server.do("SET", f"key:{at}", "v")
    server.say("client", "HELLO", 3)
    server.say("client", "SUBSCRIBE", "c")
    server.sync()
    server.do("PUBLISH", "c", "x")
    assert server.session("client").is_closing


def test_replicas_are_listed_as_long_as_they_get_their_snapshots(server: Server) -> None:
    for at in range(3000):
        server.do("SET", f"key:{at}", "v")
    server.say("one", "REPLCONF", "listening-port", 7777)
    server.sync("one")
    server.say("two", "REPLCONF", "ip-address", "replica.example", "rdb-only", 1)
    server.say("two", "SYNC")
    info = server.do("INFO", "replication")
    assert (
        b"\r\nconnected_slaves:2\r\nslave0:ip=10.0.0.1,port=7777,state=wait_bgsave,offset=0,lag=0\r\n" in info
    )
    assert b"\r\nslave1:ip=replica.example,port=0,state=wait_bgsave,offset=0,lag=0\r\nmaster_failover" in info
    assert server.do("ROLE") == b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
    assert b"\r\nconnected_clients:1\r\n" in server.do("INFO", "clients")
    server.rest("one")
    info = server.do("INFO", "replication")
    assert b"\r\nconnected_slaves:1\r\nslave0:ip=replica.example,port=0," in info
    while b"state=send_bulk" not in info:
        server.advance(2_000)
        info = server.do("INFO", "replication")
    server.rest("two")
    assert b"\r\nconnected_slaves:0\r\nmaster_failover" in server.do("INFO", "replication")
