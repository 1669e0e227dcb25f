"""Plain GET and SET by the short way: nothing but time tells it from the ordinary one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings, strategies as st
from librt.strings import BytesWriter

from appliance._build import build_kind
from appliance.redis.direct import serve_direct
from appliance.redis.slices import HashKey, copy_part, is_part_equal, keyed_hash
from tests.support.redis_client import START_US, Client, make_engine

if TYPE_CHECKING:
    from appliance.redis.engine import Engine

KEYS = [b"a", b"b", b"key:__rand_int__", b"x" * 62, b"x" * 63, b"", b"with\r\nbreak", b"7"]
VALUES = [
    b"",
    b"v",
    b"value",
    b"12",
    b"-1",
    b"-",
    b"1x",
    b"y" * 20,
    b"y" * 128,
    b"y" * 129,
    b"a\r\nb",
    b"9" * 21,
]


def request(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def engines() -> tuple[Engine, Engine]:
    """One by the short way, one by the ordinary way."""
    short, ordinary = make_engine(), make_engine()
    short.is_direct, ordinary.is_direct = True, False
    return short, ordinary


def state(client: Client) -> dict[str, object]:
    """All that a client could ask about afterwards, and the counters that INFO shows."""
    engine, session = client.engine, client.session
    database = session.db
    database.check_invariants()
    entries = sorted(
        (entry.key, entry.value, entry.expire_at_ms, entry.access)
        for entry in database.entries()
        if isinstance(entry.value, (bytes, int))
    )
    last = session.last_command
    return {
        "entries": [(key, value, type(value), *rest) for key, value, *rest in entries],
        "keys": len(database),
        "hits": engine.stats.hits,
        "misses": engine.stats.misses,
        "expired": (engine.stats.expired_keys, engine.stats.expired_lazily),
        "dirty": engine.dirty,
        "executed": (engine.commands_executed, session.commands_executed),
        "calls": {c.name: (c.calls, c.failed_calls, c.rejected_calls) for c in engine.registry.every()},
        "errors": engine.error_counts,
        "last": last.name if last is not None else None,
        "bytes": (session.bytes_in, session.bytes_out),
        "closing": session.is_closing,
        "mode": (session.mode, engine.mode, engine.interest),
    }


keys = st.sampled_from(KEYS)
values = st.sampled_from(VALUES)
names_of_get = st.sampled_from([b"GET", b"get", b"Get", b"gEt"])
names_of_set = st.sampled_from([b"SET", b"set", b"sET"])
plain = st.one_of(
    st.builds(request, names_of_get, keys),
    st.builds(request, names_of_get, keys),
    st.builds(request, names_of_set, keys, values),
    st.builds(request, names_of_set, keys, values),
)
other = st.one_of(
    st.builds(
        request, st.just(b"SET"), keys, values, st.sampled_from([b"NX", b"XX", b"GET", b"KEEPTTL", b"?"])
    ),
    st.builds(request, st.just(b"SET"), keys, values, st.just(b"PX"), st.sampled_from([b"1", b"100000"])),
    st.builds(request, st.sampled_from([b"DEL", b"INCR", b"TTL", b"GET", b"SET", b"STRLEN"]), keys),
    st.builds(request, st.just(b"APPEND"), keys, values),
    st.builds(request, st.just(b"LPUSH"), keys, values),
    st.builds(request, st.just(b"EXPIRE"), keys, st.sampled_from([b"0", b"100"])),
    st.builds(request, st.just(b"HELLO"), st.sampled_from([b"2", b"3"])),
    st.builds(request, st.just(b"SELECT"), st.sampled_from([b"0", b"1"])),
    st.builds(request, st.just(b"WATCH"), keys),
    st.builds(request, st.just(b"CLIENT"), st.just(b"REPLY"), st.sampled_from([b"ON", b"OFF", b"SKIP"])),
    st.builds(request, st.just(b"CLIENT"), st.just(b"NO-TOUCH"), st.sampled_from([b"ON", b"OFF"])),
    st.builds(request, st.just(b"CLIENT"), st.just(b"TRACKING"), st.sampled_from([b"ON", b"OFF"])),
    st.builds(
        request,
        st.just(b"CONFIG"),
        st.just(b"SET"),
        st.just(b"maxmemory-policy"),
        st.sampled_from([b"allkeys-lfu", b"noeviction"]),
    ),
    st.builds(
        request,
        st.just(b"CONFIG"),
        st.just(b"SET"),
        st.just(b"slowlog-log-slower-than"),
        st.sampled_from([b"0", b"-1", b"10000"]),
    ),
    st.builds(
        request,
        st.just(b"CONFIG"),
        st.just(b"SET"),
        st.just(b"notify-keyspace-events"),
        st.sampled_from([b"", b"KEA", b"KEmn"]),
    ),
    st.builds(
        request, st.just(b"CONFIG"), st.just(b"SET"), st.just(b"maxmemory"), st.sampled_from([b"0", b"1"])
    ),
    st.sampled_from(
        [
            request(b"MULTI"),
            request(b"EXEC"),
            request(b"DISCARD"),
            request(b"PING"),
            request(b"FLUSHDB"),
            b"GET a\r\n",
            b"SET a inline\r\n",
            b"*2\r\n$3\r\nGET\r\n$01\r\na\r\n",  # an odd but legal length
            b"*2\r\n$3\r\nGET\r\n$1\r\naXY",  # what follows a bulk string is not looked at
            b"*3\r\n$3\r\nSET\r\n$1\r\naXY$1\r\nvXY",
            b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$+1\r\nv\r\n",
            b"*2\r\n$3\r\nGET\r\n$-1\r\n",
            b"*2\r\n$3\r\nGET\r\n:1\r\na\r\n",
            b"*3\r\n$3\r\nGET\r\n$1\r\na\r\n$1\r\nb\r\n",
            b"*2\r\n$3\r\nSET\r\n$1\r\na\r\n",
        ]
    ),
)


@settings(max_examples=300)
@given(
    st.lists(st.one_of(plain, plain, plain, other), max_size=30), st.lists(st.integers(0, 3000), max_size=4)
)
@example([request(b"SET", b"k", b"v"), request(b"EXPIRE", b"k", b"0"), request(b"GET", b"k")], [])
def test_both_ways_come_to_the_same(requests: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(requests)
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    clients = [Client(engine) for engine in engines()]
    watchers = [Client(client.engine) for client in clients]
    for watcher in watchers:
        watcher.send("PSUBSCRIBE", "*")
        watcher.session.take_output()
    for number, (start, stop) in enumerate(itertools.pairwise(places)):
        answers = []
        for client, watcher in zip(clients, watchers, strict=True):
            client.session.data_received(stream[start:stop], START_US + number * 1_500_000)
            answers.append((b"".join(client.session.take_output()), b"".join(watcher.session.take_output())))
        assert answers[0] == answers[1]
        assert state(clients[0]) == state(clients[1])


def test_plain_requests_do_take_the_short_way() -> None:
    client = Client(engines()[0])
    stream = request(b"SET", b"key", b"value") + request(b"get", b"key") + request(b"Get", b"none")
    assert serve_direct(client.session, b"before" + stream, 6) == 6 + len(stream)
    assert client.session.take_output() == [b"+OK\r\n$5\r\nvalue\r\n$-1\r\n"]


@pytest.mark.parametrize("length", range(len(request(b"SET", b"key", b"value"))))
def test_part_of_a_request_is_left_alone(length: int) -> None:
    client = Client(engines()[0])
    whole = request(b"GET", b"none")
    assert serve_direct(client.session, whole + request(b"SET", b"key", b"value")[:length], 0) == len(whole)
    assert len(client.session.db) == 0


def test_many_replies_leave_in_one_piece_however_many() -> None:
    client = Client(engines()[0])
    client.raw(request(b"SET", b"k", b"v" * 128))
    client.session.data_received(request(b"GET", b"k") * 3000, START_US)
    assert client.session.take_output() == [(b"$128\r\n" + b"v" * 128 + b"\r\n") * 3000]


def test_table_that_is_being_moved_is_served_right() -> None:
    short, ordinary = engines()
    stream = b"".join(
        request(b"SET", b"key:%d" % (number * 7919 % 5000), b"value %d" % number)
        + request(b"GET", b"key:%d" % (number * 104729 % 5000))
        for number in range(20_000)
    )
    answers = [Client(engine).raw(stream) for engine in (short, ordinary)]
    assert answers[0] == answers[1]
    short.databases[0].check_invariants()
    assert short.stats.hits == ordinary.stats.hits
    assert short.stats.misses == ordinary.stats.misses


@given(st.binary(max_size=70), st.binary(max_size=9), st.binary(max_size=9))
def test_part_is_hashed_compared_and_copied_as_the_object_would_be(
    part: bytes, before: bytes, after: bytes
) -> None:
    whole = before + part + after
    start = len(before)
    key = HashKey(b"0123456789abcdef")
    assert keyed_hash(whole, start, len(part), key) == keyed_hash(part, 0, len(part), key)
    assert is_part_equal(part + b"12345678", whole, start, len(part))
    for at in range(len(part)):
        other = part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :] + b"12345678"
        assert not is_part_equal(other, whole, start, len(part))
    writer = BytesWriter()
    writer.write(b"x")
    copy_part(writer, b"12345678" + whole, 8 + start, 8 + start + len(part))
    assert writer.getvalue() == b"x" + part


def test_hash_depends_on_every_part_of_the_key() -> None:
    places = (
        (0, 7, 8, 15) if build_kind() == "compiled" else (0, 7)
    )  # the pure build's hash takes eight bytes
    secrets = [bytes(16), *(bytes(at) + b"\x40" + bytes(15 - at) for at in places)]
    assert len({keyed_hash(b"some key", 0, 8, HashKey(secret)) for secret in secrets}) == len(secrets)


@pytest.mark.skipif(
    build_kind() == "pure" or sys.hash_info.algorithm != "siphash13" or sys.hash_info.cutoff != 0,
    reason="compares our SipHash-1-3 with this interpreter's",
)
def test_compiled_hash_is_siphash_1_3() -> None:
    texts = [bytes(range(length)) for length in range(1, 80)] + [b"\xff" * length for length in range(1, 20)]
    code = f"print([hash(text) & 0xFFFFFFFF for text in {texts!r}])"
    # Hash seed 0 is the key 0.
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    key = HashKey(bytes(16))
    assert printed.strip() == str([keyed_hash(text, 0, len(text), key) for text in texts])
