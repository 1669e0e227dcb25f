"""MIGRATE between the appliance and a redis-server at the kernel's end of the link, both ways."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from appliance.redis.replies import SimpleError
from tests.support.redis_inside import OTHER_PORT, other, redis_server
from tests.support.redis_pair import encode_request, find_redis_server, read_value
from tests.support.running import (
    ADDRESS,
    CLIENT_ADDRESS,
    PATIENCE_S,
    PORT,
    needs_program,
    running_appliance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.redis_pair import Argument
    from tests.support.running import RunningAppliance

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(find_redis_server() is None, reason="needs a redis-server 8.2"),
]

_PATIENCE_MS = int(PATIENCE_S * 1000)
_EXPIRING = ("int", "list", "stream")

# Every type, small and large.
_MAKE: list[tuple[Argument, ...]] = [
    ("SET", "int", 12345),
    ("SET", "text", b"bytes \x00\r\n\xff"),
    ("SET", "large", bytes(range(256)) * 1500),
    ("SETBIT", "bits", 100_000, 1),
    ("RPUSH", "list", *range(10)),
    ("RPUSH", "long-list", *[f"element {number}" for number in range(3000)]),
    ("SADD", "ints", *range(100)),
    ("SADD", "words", "one", "two", "three"),
    ("SADD", "many-words", *[f"word {number}" for number in range(2000)]),
    ("ZADD", "sorted", 1.5, "a", "-inf", "b", 3, "c"),
    ("ZADD", "large-sorted", *[word for number in range(500) for word in (number / 7, f"m{number}")]),
    ("HSET", "hash", "f", 1, "g", "two"),
    ("HSET", "large-hash", *[word for number in range(600) for word in (f"f{number}", number)]),
    ("HSET", "fading", "stays", 1, "goes", 2),
    ("HPEXPIREAT", "fading", 4_000_000_000_000, "FIELDS", 1, "goes"),
    ("PFADD", "hll", *range(2000)),
    ("XADD", "stream", "1-1", "f", "v"),
    ("XADD", "stream", "2-1", "f", "w", "g", "x"),
    ("XGROUP", "CREATE", "stream", "group", "0"),
    ("XREADGROUP", "GROUP", "group", "consumer", "COUNT", 1, "STREAMS", "stream", ">"),
    *[("PEXPIRE", name, 1_000_000) for name in _EXPIRING],
]
KEYS = sorted({str(request[2] if request[0] == "XGROUP" else request[1]) for request in _MAKE} - {"GROUP"})


@pytest.fixture(scope="module")
def debugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAppliance]:
    """An appliance that says what its values come to (DEBUG DIGEST-VALUE)."""
    directory = tmp_path_factory.mktemp("serve")
    with running_appliance(directory, "--enable-debug-command", "yes") as running:
        yield running


def call(connection: socket.socket, *words: Argument) -> object:
    return read_value(connection, encode_request(words))


def text(reply: object) -> bytes:
    """Of a status or an error."""
    found = getattr(reply, "text", reply)
    assert isinstance(found, bytes)
    return found


def facts(connection: socket.socket) -> dict[str, object]:
    """What the values are, as both servers tell it."""
    digests = call(connection, "DEBUG", "DIGEST-VALUE", *KEYS)
    assert isinstance(digests, list)
    found: dict[str, object] = {key: text(digest) for key, digest in zip(KEYS, digests, strict=True)}
    for key in KEYS:
        found[key] = (
            found[key],
            text(call(connection, "TYPE", key)),
            call(connection, "OBJECT", "ENCODING", key),
        )
    found["fields"] = call(connection, "HPEXPIRETIME", "fading", "FIELDS", 2, "stays", "goes")
    found["pending"] = call(connection, "XPENDING", "stream", "group")
    return found


@pytest.mark.parametrize("way", ["out", "in"])
def test_every_type_arrives_whole(debugged: RunningAppliance, tmp_path: Path, way: str) -> None:
    with redis_server(debugged, tmp_path), debugged.connect() as ours, other(debugged) as theirs:
        source, target = (ours, theirs) if way == "out" else (theirs, ours)
        host, port = (CLIENT_ADDRESS, OTHER_PORT) if way == "out" else (ADDRESS, PORT)
        call(ours, "FLUSHALL")
        for request in _MAKE:
            reply = call(source, *request)
            assert not isinstance(reply, SimpleError), (request, reply)
        before = facts(source)
        times = {key: call(source, "PEXPIRETIME", key) for key in KEYS}
        began = time.monotonic()
        request = ("MIGRATE", host, port, "", 0, _PATIENCE_MS, "KEYS", *KEYS, "nosuch")
        assert text(call(source, *request)) == b"OK"
        took_ms = int((time.monotonic() - began) * 1000)
        assert call(source, "DBSIZE") == 0
        assert facts(target) == before
        for key, was in times.items():
            now = call(target, "PEXPIRETIME", key)
            assert isinstance(was, int)
            assert isinstance(now, int)
            assert (was == now == -1) if key not in _EXPIRING else was - 1000 <= now <= was + took_ms + 1000


@pytest.mark.skipif(bool(needs_program("redis-cli")), reason=needs_program("redis-cli"))
def test_redis_cli_moves_keys_by_hand(own_appliance: RunningAppliance, tmp_path: Path) -> None:
    def ours(*words: str) -> str:
        return own_appliance.run("redis-cli", "-h", ADDRESS, *words)

    def theirs(*words: str) -> str:
        return own_appliance.run("redis-cli", "-h", CLIENT_ADDRESS, "-p", str(OTHER_PORT), "-a", "pw", *words)

    with redis_server(own_appliance, tmp_path, "--requirepass", "pw"):
        target = (CLIENT_ADDRESS, str(OTHER_PORT))
        ours("mset", "a", "1", "b", "2", "c", "3")
        assert ours("migrate", *target, "nosuch", "0", "5000") == "NOKEY\n"
        error = ours("migrate", *target, "a", "0", "60000").strip()
        assert error == "ERR Target instance replied with error: NOAUTH Authentication required."
        assert ours("migrate", *target, "a", "3", "60000", "auth", "pw") == "OK\n"
        assert (
            ours("migrate", *target, "", "3", "60000", "copy", "auth2", "default", "pw", "keys", "b", "c")
            == "OK\n"
        )
        assert theirs("-n", "3", "mget", "a", "b", "c") == "1\n2\n3\n"
        assert ours("mget", "a", "b", "c") == "\n2\n3\n"
        error = ours("migrate", *target, "b", "3", "60000", "auth", "pw").strip()
        assert error == "ERR Target instance replied with error: BUSYKEY Target key name already exists."
        assert "migrate_cached_sockets:1\r\n" in ours("info", "stats").replace("\n", "\r\n").replace(
            "\r\r", "\r"
        )
        assert ours("migrate", *target, "b", "3", "60000", "replace", "auth", "pw") == "OK\n"
    # The redis-server is gone, and the connection that is kept with it.
    error = ours("migrate", *target, "c", "3", "60000").strip()
    assert error == "IOERR error or timeout writing to target instance"
    assert ours("mget", "b", "c") == "\n3\n"


def test_many_keys_while_others_write_are_moved_once_each(
    own_appliance: RunningAppliance, tmp_path: Path
) -> None:
    """A counter is somewhere whole: what was counted before it left is there, and it begins anew here."""
    names = [f"counter:{number}" for number in range(50)]
    with (
        redis_server(own_appliance, tmp_path),
        own_appliance.connect() as mover,
        own_appliance.connect() as writer,
    ):
        counted = 0
        for name in names:
            call(mover, "SET", name, 1000)
        for start in range(0, len(names), 5):
            moved = encode_request(
                (
                    "MIGRATE",
                    CLIENT_ADDRESS,
                    OTHER_PORT,
                    "",
                    0,
                    _PATIENCE_MS,
                    "KEYS",
                    *names[start : start + 5],
                )
            )
            mover.sendall(moved)  # what follows is sent before it is answered
            for name in names:
                call(writer, "INCR", name)
                counted += 1
            assert text(read_value(mover, b"")) == b"OK"
        with other(own_appliance) as target:
            there = call(target, "MGET", *names)
            here = call(mover, "MGET", *names)
    assert isinstance(there, list)
    assert isinstance(here, list)
    assert None not in there
    assert (
        sum(map(int, there)) + sum(int(each) for each in here if each is not None)
        == 1000 * len(names) + counted
    )


@pytest.mark.parametrize("place", ["alone", "in a transaction", "in a script"])
def test_the_end_does_not_wait_for_a_silent_target(tmp_path: Path, place: str) -> None:
    with running_appliance(tmp_path) as running:
        silent = running.inside(lambda: socket.create_server((CLIENT_ADDRESS, OTHER_PORT)))
        with silent, running.connect() as client:
            call(client, "SET", "k", "v")
            words = ("MIGRATE", CLIENT_ADDRESS, OTHER_PORT, "k", 0, 10 * _PATIENCE_MS)
            request = encode_request(words)
            if place == "in a transaction":
                request = encode_request(("MULTI",)) + request + encode_request(("EXEC",))
            elif place == "in a script":
                request = encode_request(("EVAL", "return redis.call(unpack(ARGV))", 0, *words))
            client.sendall(request)
            silent.settimeout(PATIENCE_S)
            target, _ = silent.accept()
            with target:
                target.settimeout(PATIENCE_S)
                assert b"RESTORE" in target.recv(1 << 16)
                assert running.stop() == 0
