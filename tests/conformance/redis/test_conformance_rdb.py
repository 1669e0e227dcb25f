"""Files of Redis: ours are loaded by redis-server, its files and those of other servers by us; SYNC and REPLCONF."""

from __future__ import annotations

import fcntl
import re
import shlex
import struct
import termios
from typing import TYPE_CHECKING, Any

import pytest

from appliance.redis.dump import PayloadError
from appliance.redis.rdb import END, KEY, LIBRARY, RdbReader
from appliance.redis.reload import file_of, load
from tests.conformance.redis.test_conformance_other_servers import other_server
from tests.support.redis_machine import plain
from tests.support.redis_pair import (
    NO_SERVER,
    OurClient,
    Pair,
    RealServer,
    encode_request,
    find_redis_server,
    make_engine,
    now_us,
    parse_one,
    read_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.redis import Engine
    from tests.support.redis_pair import Argument

__all__ = ["other_server"]

pytestmark = pytest.mark.conformance

LIBRARY_CODE = """#!lua name=l
redis.register_function{function_name='f', callback=function() return 1 end, flags={'no-writes'}}"""
FAR_MS = 2_000_000_000_000


def requests(*, with_field_expiry: bool = True) -> list[tuple[Argument, ...]]:
    """What makes a key of every type and encoding, in several databases."""
    numbers = [str(number) for number in range(600)]
    made: list[tuple[Argument, ...]] = [
        ("FUNCTION", "LOAD", LIBRARY_CODE),
        ("SET", "text", "hello"),
        ("SET", "empty", ""),
        ("SET", "", "at no name"),
        ("SET", b"\x00\xff", b"\xff\x00"),
        *[
            ("SET", f"number {value}", value)
            for value in (0, -1, 127, -129, 32768, 1 << 31, -(1 << 31), 12345678901)
        ],
        ("SET", "long", "abcd" * 5000),
        ("SET", "expires", "v", "PXAT", FAR_MS),
        ("SETRANGE", "changed", 5, "x"),
        ("RPUSH", "list", *numbers[:5]),
        ("RPUSH", "nodes", *numbers, "x" * 10_000, "y" * 70_000, *numbers),
        ("SADD", "intset 16", 1, -2, 3),
        ("SADD", "intset 32", 1, 70_000),
        ("SADD", "intset 64", 1, 1 << 40),
        ("SADD", "set", "a", "b", "1"),
        ("SADD", "table", *numbers, "a"),
        ("ZADD", "zset", 1, "a", 2.5, "b", "-inf", "c", "1e10", "d"),
        ("ZADD", "skiplist", *[word for n in numbers for word in (str(int(n) / 4), n)]),
        ("HSET", "hash", "f", "v", "n", 5),
        ("HSET", "fields", *[word for n in numbers for word in (n, "v" + n)]),
        ("PFADD", "counter", *numbers),
        *[("XADD", "stream", f"{n + 1}-{n}", "f", n, "g" * (n % 5), "v") for n in range(300)],
        ("XDEL", "stream", "5-4", "100-99"),
        ("XGROUP", "CREATE", "stream", "group", 0),
        ("XGROUP", "CREATE", "stream", "idle", "50-0"),
        ("XGROUP", "CREATECONSUMER", "stream", "group", "nobody"),
        ("XREADGROUP", "GROUP", "group", "me", "COUNT", 20, "STREAMS", "stream", ">"),
        ("XACK", "stream", "group", "3-2"),
        ("XGROUP", "CREATE", "no entries", "group", 0, "MKSTREAM"),
        ("SELECT", 9),
        ("SET", "text", "elsewhere"),
        ("RPUSH", "list", "a"),
        ("PEXPIREAT", "list", FAR_MS + 5),
        ("SELECT", 15),
        *[("SET", f"key {n}", f"value {n}") for n in numbers],
    ]
    if with_field_expiry:
        made += [
            ("HSET", "some expire", "a", 1, "b", 2, "c", 3),
            ("HPEXPIREAT", "some expire", FAR_MS, "FIELDS", 2, "a", "c"),
            ("HSET", "many expire", *[word for n in numbers for word in (n, "v")]),
            ("HPEXPIREAT", "many expire", FAR_MS + 7, "FIELDS", 300, *numbers[:300]),
            ("HPEXPIREAT", "many expire", FAR_MS + 9, "FIELDS", 100, *numbers[200:300]),
        ]
    return made


def large_requests() -> list[tuple[Argument, ...]]:
    """What makes values that a snapshot writes in pieces."""
    numbers = [str(number) for number in range(3_000)]
    return [
        ("SET", "long", bytes(range(256)) * 2_000),
        ("SETRANGE", "long and changed", 600_000, "x"),
        ("RPUSH", "list", *numbers, "x" * 10_000),
        ("SADD", "set", *numbers, "a"),
        ("ZADD", "zset", *[word for n in numbers for word in (str(int(n) / 4), n)]),
        ("HSET", "hash", *[word for n in numbers for word in (n, "v" + n)]),
        ("HSET", "expiring", *[word for n in numbers for word in (n, "v")]),
        ("HPEXPIREAT", "expiring", FAR_MS + 7, "FIELDS", 300, *numbers[:300]),
        ("HPEXPIREAT", "expiring", FAR_MS, "FIELDS", 100, *numbers[200:300]),
        ("PEXPIREAT", "expiring", FAR_MS),
        *[("XADD", "stream", f"{n + 1}-{n}", "f", n, "g" * (n % 5), "v") for n in range(3_000)],
        ("XDEL", "stream", "5-4", "100-99"),
        ("XGROUP", "CREATE", "stream", "group", 0),
        ("XGROUP", "CREATE", "stream", "idle", "50-0"),
        ("XGROUP", "CREATECONSUMER", "stream", "group", "nobody"),
        ("XREADGROUP", "GROUP", "group", "me", "COUNT", 1_000, "STREAMS", "stream", ">"),
        ("XREADGROUP", "GROUP", "group", "you", "COUNT", 5, "STREAMS", "stream", ">"),
        ("XACK", "stream", "group", "3-2"),
        ("SELECT", 9),
        ("SADD", "set", *numbers, "b"),
        ("SET", "text", "elsewhere"),
    ]


class Side:
    """One server to talk to: ours, or one behind a socket."""

    def ask(self, *args: Argument) -> Any:
        raise NotImplementedError

    def fill(self, made: list[tuple[Argument, ...]]) -> None:
        for request in made:
            answer = self.ask(*request)
            assert not hasattr(answer, "text") or not answer.text.startswith(b"ERR"), (request, answer)

    def picture(self) -> dict[str, Any]:
        """All that can be asked about the data."""
        seen: dict[str, Any] = {"functions": plain(self.ask("FUNCTION", "LIST", "WITHCODE"))}
        seen["digest"] = plain(self.ask("DEBUG", "DIGEST"))
        for database in range(16):
            self.ask("SELECT", database)
            keys = sorted(self.ask("KEYS", "*"))
            for key in keys:
                facts = [plain(self.ask(*words, key)) for words in (("TYPE",), ("PEXPIRETIME",))]
                facts += [
                    plain(self.ask(*words, key))
                    for words in (("OBJECT", "ENCODING"), ("DEBUG", "DIGEST-VALUE"))
                ]
                if facts[0] == b"stream":
                    facts.append(plain(self.ask("XINFO", "STREAM", key, "FULL", "COUNT", 0)))
                elif facts[0] == b"hash":
                    fields = sorted(self.ask("HKEYS", key))
                    facts.append(plain(self.ask("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)))
                seen[f"{database} {key!r}"] = facts
        self.ask("SELECT", 0)
        return seen


class Ours(Side):
    def __init__(self, engine: Engine) -> None:
        self.client = OurClient(engine)

    def ask(self, *args: Argument) -> Any:
        return parse_one(self.client.send(encode_request(args)))


class Theirs(Side):
    def __init__(self, server: RealServer) -> None:
        self.connection = server.connect()

    def __enter__(self) -> Theirs:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(self, *args: Argument) -> Any:
        return read_value(self.connection, encode_request(args))


def binary() -> str:
    found = find_redis_server()
    if found is None:
        pytest.skip(NO_SERVER)
    return found


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[RealServer]:
    """A redis-server of this test alone, which does not wait for more replicas."""
    server = RealServer(binary(), tmp_path)
    with Theirs(server) as client:
        client.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    yield server
    server.close()


def snapshot(engine: Engine, *words: str) -> bytes:
    """What a client gets that asks our engine for a snapshot."""
    session = engine.create_session(remote="1.1.1.1:1", local="1.1.1.2:2", now_us=now_us())
    session.data_received(encode_request(("REPLCONF", "rdb-only", 1, "capa", "eof", *words)), now_us())
    assert session.take_output() == [b"+OK\r\n"]
    session.data_received(b"SYNC\r\n", now_us())
    sent = b""
    while not session.is_closing:
        engine.handle_timeouts(max(now_us(), engine.next_timeout_us()))
        sent += b"".join(session.take_output())
    match = re.fullmatch(rb"\$EOF:([0-9a-f]{40})\r\n(.*)\1", sent, re.DOTALL)
    assert match is not None
    return match[2]


@pytest.mark.parametrize("way", ["sync", "reload", "sync in pieces"])
def test_redis_server_starts_with_our_file(tmp_path: Path, way: str) -> None:
    ours = Ours(make_engine())
    ours.fill(large_requests() if way == "sync in pieces" else requests())
    engine = ours.client.engine
    (tmp_path / "dump.rdb").write_bytes(file_of(engine) if way == "reload" else snapshot(engine))
    server = RealServer(binary(), tmp_path)
    try:
        with Theirs(server) as theirs:
            expected = ours.picture()
            # What a command of long ago left as a table, a restart makes a listpack: a reload of ours does too.
            assert ours.ask("DEBUG", "RELOAD").text == b"OK"
            assert theirs.picture() == ours.picture()
            assert plain(theirs.ask("DEBUG", "DIGEST")) == expected["digest"]
    finally:
        server.close()


def test_redis_server_starts_with_our_functions(tmp_path: Path) -> None:
    ours = Ours(make_engine())
    ours.fill(requests())
    (tmp_path / "dump.rdb").write_bytes(snapshot(ours.client.engine, "rdb-filter-only", "functions"))
    server = RealServer(binary(), tmp_path)
    try:
        with Theirs(server) as theirs:
            assert theirs.ask("DBSIZE") == 0
            assert plain(theirs.ask("FUNCTION", "LIST", "WITHCODE")) == plain(
                ours.ask("FUNCTION", "LIST", "WITHCODE")
            )
            assert theirs.ask("FCALL", "f", 0) == 1
    finally:
        server.close()


def test_we_load_what_redis_server_saves(reference: RealServer, tmp_path: Path) -> None:
    with Theirs(reference) as theirs:
        theirs.fill(requests())
        assert theirs.ask("SAVE").text == b"OK"
        engine = make_engine()
        engine.clock.set_us(now_us())
        load(engine, (tmp_path / "dump.rdb").read_bytes())
        assert theirs.ask("DEBUG", "RELOAD").text == b"OK"
        assert Ours(engine).picture() == theirs.picture()


def test_we_load_what_other_servers_save(other_server: RealServer) -> None:
    with Theirs(other_server) as theirs:
        version = theirs.ask("INFO", "server")
        theirs.ask("FLUSHALL")
        theirs.ask("FUNCTION", "FLUSH")
        theirs.fill(requests(with_field_expiry=b"valkey" in version))
        assert theirs.ask("SAVE").text == b"OK"
        directory = theirs.ask("CONFIG", "GET", "dir")[1].decode()
        with open(f"{directory}/dump.rdb", "rb") as file:
            data = file.read()
        engine = make_engine()
        engine.clock.set_us(now_us())
        load(engine, data)
        ours = Ours(engine)
        for database in (0, 9, 15):
            ours.ask("SELECT", database)
            theirs.ask("SELECT", database)
            keys = sorted(theirs.ask("KEYS", "*"))
            assert sorted(ours.ask("KEYS", "*")) == keys
            for key in keys:
                kind = theirs.ask("TYPE", key).text
                asked: list[tuple[Argument, ...]] = [("PEXPIRETIME", key)]
                asked += {
                    b"string": [("GET", key)],
                    b"list": [("LRANGE", key, 0, -1)],
                    b"set": [("SORT", key, "ALPHA")],
                    b"zset": [("ZRANGE", key, 0, -1, "WITHSCORES")],
                    b"hash": [("HLEN", key)],
                    b"stream": [("XRANGE", key, "-", "+"), ("XINFO", "STREAM", key, "FULL", "COUNT", 0)],
                }[kind]
                if kind == b"hash":
                    fields = sorted(theirs.ask("HKEYS", key))
                    asked.append(("HMGET", key, *fields))
                    if b"valkey" in version:
                        asked.append(("HPEXPIRETIME", key, "FIELDS", len(fields), *fields))
                for words in asked:
                    expected = plain(theirs.ask(*words))
                    found = plain(ours.ask(*words))
                    if words[0] == "XINFO":  # 7.0 does not know when a consumer was active; nodes may differ
                        expected, found = (str(each[:2]) for each in (expected, found))
                    assert found == expected, words
        assert ours.ask("FCALL", "f", 0) == 1


def bytes_of(file: bytes) -> bytes:
    """A file without what is never the same."""
    reader = RdbReader(file)
    names = set()
    while reader.next() not in (END, KEY, LIBRARY):
        names.add(reader.name)
    assert {b"redis-ver", b"redis-bits", b"ctime", b"used-mem", b"repl-id", b"aof-base"} <= names
    head = re.match(
        rb"(REDIS0012\xfa\tredis-ver\x058.2.3\xfa\nredis-bits\xc0@\xfa\x05ctime\xc2).{4}(\xfa\x08used-mem)"
        rb"(?:\xc0.|\xc1..|\xc2....)(\xfa\x0erepl-stream-db\xc0\x00\xfa\x07repl-id\()[0-9a-f]{40}"
        rb"(\xfa\x0brepl-offset)(?:\xc0.|\xc1..|\xc2....)(\xfa\x08aof-base\xc0\x00)",
        file,
        re.DOTALL,
    )
    assert head is not None, file[:300]
    return b"".join(head.groups()) + file[head.end() : -8]


@pytest.mark.parametrize("words", [(), ("rdb-filter-only", "functions"), ("rdb-filter-only", "")])
def test_snapshots_are_redis_servers_byte_for_byte(reference: RealServer, words: tuple[str, ...]) -> None:
    ours = Ours(make_engine())
    with Theirs(reference) as theirs:
        made: list[tuple[Argument, ...]] = [
            ("FUNCTION", "LOAD", LIBRARY_CODE),
            # One key in each, since tables differ in their order.
            ("SET", "k", "v", "PXAT", FAR_MS),
            ("SELECT", 2),
            ("RPUSH", "list", 1, 2, "x" * 100),
            ("SELECT", 7),
            ("HSET", "h", "f", "v" * 30, "g", 2),
            ("HPEXPIREAT", "h", FAR_MS, "FIELDS", 1, "g"),
            ("SELECT", 15),
            ("ZADD", "z", 1.5, "a", 2, "b"),
        ]
        ours.fill(made)
        theirs.fill(made)
        with reference.connect() as client:
            assert (
                read_value(client, encode_request(("REPLCONF", "rdb-only", 1, "capa", "eof", *words)))
                is not None
            )
            client.sendall(b"SYNC\r\n")
            sent = b""
            while part := client.recv(65536):  # it closes afterwards, as we do
                sent += part
        match = re.fullmatch(rb"\n*\$EOF:([0-9a-f]{40})\r\n(.*)\1", sent, re.DOTALL)
        assert match is not None
        assert bytes_of(snapshot(ours.client.engine, *words)) == bytes_of(match[2])


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lfu"])
def test_how_keys_were_used_is_told_alike(reference: RealServer, policy: str) -> None:
    ours = Ours(make_engine())
    with Theirs(reference) as theirs:
        made: list[tuple[Argument, ...]] = [("CONFIG", "SET", "maxmemory-policy", policy), ("SET", "k", "v")]
        ours.fill(made)
        theirs.fill(made)
        theirs.ask("SAVE")
        directory = theirs.ask("CONFIG", "GET", "dir")[1].decode()
        with open(f"{directory}/dump.rdb", "rb") as file:
            saved = file.read()
        # Idle for less than 64 seconds, or of the same frequency: then the bytes are as many.
        ending = re.compile(rb"\xfe\x00\xfb\x01\x00([\xf8\xf9])(.)\x00\x01k\x01v\xff.{8}\Z", re.DOTALL)
        found = [
            ending.search(file) for file in (saved, file_of(ours.client.engine), snapshot(ours.client.engine))
        ]
        assert all(match is not None for match in found)
        assert {match[1] for match in found if match is not None} == {b"\xf8" if "lru" in policy else b"\xf9"}


LONG = "a" * 256
CASES = f"""
REPLCONF|REPLCONF a|REPLCONF a b|REPLCONF capa|REPLCONF capa eof capa|REPLCONF capa foo|REPLCONF CAPA EOF Capa Psync2
REPLCONF version 7.0.0|REPLCONF fack 1|REPLCONF capa rdb-channel-repl|REPLCONF rdb-only 1 bogus 2|REPLCONF a b rdb-only x
REPLCONF listening-port 1|REPLCONF listening-port x|REPLCONF listening-port -1|REPLCONF listening-port 70000
REPLCONF listening-port 99999999999999999999|REPLCONF ip-address 1.2.3.4|REPLCONF ip-address x|REPLCONF ip-address {LONG}
REPLCONF rdb-only 1|REPLCONF rdb-only 0|REPLCONF rdb-only 2|REPLCONF rdb-only x|REPLCONF rdb-only ""|REPLCONF rdb-only " 1"
REPLCONF rdb-only 18446744073709551617|REPLCONF rdb-filter-only functions|REPLCONF rdb-filter-only ""
REPLCONF rdb-filter-only FUNCTIONS|REPLCONF rdb-filter-only keys|REPLCONF rdb-filter-only "functions functions"
REPLCONF rdb-filter-only "functions x"|REPLCONF rdb-filter-only "'"|REPLCONF rdb-filter-only " functions "
REPLCONF getack|REPLCONF ack|REPLCONF ack 5 capa|REPLCONF rdb-channel 1|REPLCONF rdb-channel x|REPLCONF rdb-channel 2
REPLCONF main-ch-client-id 5|REPLCONF main-ch-client-id -5|REPLCONF main-ch-client-id x
SYNC 1|PSYNC|PSYNC ?|PSYNC ? x|PSYNC ? -1 failover|PSYNC x 5 FAILOVER|PSYNC x y failover
REPLCONF rdb-filter-only functions/SYNC|REPLCONF rdb-filter-only functions/PSYNC ? x
REPLCONF rdb-filter-only ""/PSYNC ? -1|REPLCONF rdb-filter-only functions/PSYNC ? 1 failover
MULTI/REPLCONF capa eof/SYNC/PSYNC ? -1/EXEC|MULTI/REPLCONF rdb-only 5/EXEC|EVAL "return redis.call('SYNC')" 0
EVAL "return redis.call('REPLCONF','capa','eof')" 0|EVAL "return redis.pcall('PSYNC','?','-1').err" 0
COMMAND INFO sync psync replconf|COMMAND GETKEYS sync
""".replace("\n", "|").strip("|").split("|")  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_replies_are_the_servers(pair: Pair, case: str) -> None:
    for line in case.split("/"):
        pair.same(*shlex.split(line))


@pytest.mark.parametrize(
    "line", ["REPLCONF ack 1", "REPLCONF ack x", "REPLCONF GETACK *", "REPLCONF ack 1 fack 2"]
)
def test_what_masters_and_replicas_tell_each_other_has_no_reply(pair: Pair, line: str) -> None:
    ours, theirs = pair.exchange(encode_request(tuple(shlex.split(line))) + b"PING\r\n", 1)
    assert ours == theirs == b"+PONG\r\n"


@pytest.mark.parametrize("sync", ["SYNC", "PSYNC ? -1"])
def test_sync_behind_a_reply_that_has_not_left_is_refused(pair: Pair, sync: str) -> None:
    pair.same("REPLCONF", "rdb-only", 1)
    ours, theirs = pair.exchange(b"PING\r\n" + sync.encode() + b"\r\n", 2)
    assert ours == theirs


def test_sync_of_a_client_that_monitors_is_ignored(pair: Pair) -> None:
    pair.same("MONITOR")
    ours, theirs = pair.exchange(b"SYNC\r\nPSYNC ? -1\r\nREPLCONF capa eof\r\n", 1)
    assert ours == theirs == b"+OK\r\n"


def test_a_client_that_listens_may_not_sync_in_resp2(pair: Pair) -> None:
    pair.same("REPLCONF", "rdb-only", 5)
    pair.same("SUBSCRIBE", "channel")
    ours, theirs = pair.exchange(b"SYNC 1\r\n", 1)
    assert ours == theirs


def test_a_file_with_a_key_twice_is_no_file() -> None:
    ours = Ours(make_engine())
    ours.ask("SET", "k", "v")
    with pytest.raises(PayloadError, match="twice"):
        load(ours.client.engine, file_of(ours.client.engine))


class Replica:
    """One client that gets a snapshot of redis-server which does not end by itself, and one of ours."""

    def __init__(self, reference: RealServer, words: tuple[Argument, ...]) -> None:
        self.theirs = reference.connect()
        engine = make_engine()
        self.ours = OurClient(engine)
        self.our_admin = OurClient(engine)
        self.their_admin = reference.connect()
        for request in (
            # A second for each key; nobody waits for the end.
            ("CONFIG", "SET", "repl-diskless-sync-delay", 0, "rdb-key-save-delay", 1_000_000),
            ("MSET", *[f"key:{number}" for number in range(2_000)]),
        ):
            self.ask(*request)
        for request in (("REPLCONF", "rdb-only", 1, "capa", "eof"), words):
            self.ours.send(encode_request(request))
            read_value(self.theirs, encode_request(request))
        self.ours.send(b"SYNC\r\n")
        self.theirs.sendall(b"SYNC\r\n")
        while b"connected_slaves:1" not in read_value(self.their_admin, b"INFO replication\r\n"):  # type: ignore[operator]
            pass

    def ask(self, *request: Argument) -> tuple[Any, Any]:
        """What the two answer to somebody else."""
        data = encode_request(request)
        return parse_one(self.our_admin.send(data)), read_value(self.their_admin, data)

    def close(self) -> None:
        self.theirs.close()
        self.their_admin.close()


@pytest.fixture
def replica(reference: RealServer) -> Iterator[Replica]:
    made = Replica(reference, ("REPLCONF", "listening-port", 7777))
    yield made
    made.close()


def test_who_gets_a_snapshot_is_shown_as_there(replica: Replica) -> None:
    for section in ("replication", "clients"):
        ours, theirs = replica.ask("INFO", section)
        wanted = rb"(?m)^(?:role|connected_\w+|slave\d+|master_failover_state|blocked_clients):.*$"
        told = [
            [re.sub(rb"ip=[^,]*", b"", line) for line in re.findall(wanted, each)] for each in (ours, theirs)
        ]
        assert told[0] == told[1]
    for kind in ("normal", "replica", "slave", "pubsub"):
        ours, theirs = replica.ask("CLIENT", "LIST", "TYPE", kind)
        assert ours.count(b"\n") == theirs.count(b"\n")
        told = [
            re.findall(rb" flags=[^U ]+| cmd=\S+", each.replace(b"=U ", b"=N ")) for each in (ours, theirs)
        ]
        assert told[0] == told[1]


@pytest.mark.parametrize(
    ("request_line", "is_answered"),
    [
        ("PING", True),
        ("GET key:1", True),
        ("SET new v", True),
        ("NONE", True),
        ("SUBSCRIBE c", True),
        ("MULTI", True),
        ("EXEC", True),
        ("REPLCONF capa eof", True),
        ("REPLCONF GETACK *", False),
        ("REPLCONF ACK 5", False),
        ("SYNC", False),
        ("PSYNC ? -1", False),
        ("CLIENT REPLY OFF", False),
        ("CLIENT REPLY SKIP", False),
    ],
)
def test_who_is_answered_during_a_snapshot_is_disconnected(
    replica: Replica, request_line: str, is_answered: bool
) -> None:
    request = encode_request(tuple(request_line.split(" ")))
    replica.ours.send(request)
    replica.theirs.sendall(request)
    assert replica.ours.session.is_closing == is_answered
    if is_answered:
        while replica.theirs.recv(1 << 16):
            pass
        replica.our_admin.engine.handle_timeouts(now_us() + 10_000)
    else:
        # When it has been read, and others were answered since, it has been seen to.
        while struct.unpack("i", fcntl.ioctl(replica.theirs, termios.TIOCOUTQ, bytes(4)))[0]:
            pass
        for _ in range(3):
            replica.ask("PING")
    ours, theirs = replica.ask("INFO", "replication")
    count = b"connected_slaves:%d\r\n" % (not is_answered)
    assert count in ours
    assert count in theirs
    ours, theirs = replica.ask("GET", "new")
    assert ours == theirs
