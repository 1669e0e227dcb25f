"""DUMP and RESTORE: our dumps are redis-server's, each side restores the other's, the errors are the same."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from appliance.redis.crc64 import crc64
from tests.support.redis_machine import pairs_of, plain
from tests.support.redis_pair import encode_request, parse_one

if TYPE_CHECKING:
    from tests.support.redis_pair import Argument, Pair

pytestmark = [pytest.mark.conformance]

Requests = list[tuple["Argument", ...]]

FAR_MS = 2_000_000_000_000
VALUES = [
    "", "a", "hello", "12", "-5", "127", "128", "-129", "32768", "-70000", "2147483648", "-2147483649",
    "9999999999", "12345678901", "123456789012", "9223372036854775807", "-9223372036854775808", "007", "1.5",
    "x" * 20, "x" * 21, "ab" * 30, "x" * 63, "x" * 64, "abcdefghij" * 40, "x" * 5000, "\x00\xff" * 9,
]  # fmt: skip


def sealed(body: bytes, version: int = 12) -> bytes:
    """A payload with version and CRC behind it."""
    whole = body + version.to_bytes(2, "little")
    return whole + crc64(whole, len(whole)).to_bytes(8, "little", signed=True)


def dumps(pair: Pair, key: str = "k") -> tuple[bytes, bytes]:
    """The dumps of a key on both sides."""
    ours, theirs = (parse_one(raw) for raw in pair.both("DUMP", key))
    assert isinstance(ours, bytes)
    assert isinstance(theirs, bytes)
    return ours, theirs


def content(pair: Pair, key: str) -> tuple[Any, Any]:
    """What both sides hold at a key, so that it compares."""
    kind = parse_one(pair.same("TYPE", key))
    name = kind.text  # type: ignore[attr-defined]
    request: tuple[Argument, ...] = {
        b"string": ("GET", key),
        b"list": ("LRANGE", key, 0, -1),
        b"set": ("SMEMBERS", key),
        b"zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
        b"hash": ("HGETALL", key),
        b"stream": ("XINFO", "STREAM", key, "FULL", "COUNT", 0),
    }[name]
    ours, theirs = (plain(parse_one(raw)) for raw in pair.both(*request))
    is_hashtable = parse_one(pair.both("OBJECT", "ENCODING", key)[0]) == b"hashtable"
    if is_hashtable and name == b"hash":
        fields = [field for field, _ in pairs_of(theirs)[1]]
        pair.same("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
        return pairs_of(ours), pairs_of(theirs)
    if name == b"set":
        return sorted(members_of(ours)), sorted(members_of(theirs))
    return ours, theirs


def members_of(value: Any) -> Any:
    return value["set"] if isinstance(value, dict) else value


def check_both_ways(pair: Pair, *, byte_equal: bool = True) -> None:
    """The key `k` is dumped alike, and restored alike on both sides from either dump."""
    ours, theirs = dumps(pair)
    if byte_equal:
        assert ours == theirs
    for key, payload in (("from ours", ours), ("from theirs", theirs)):
        assert pair.same("RESTORE", key, 0, payload) == b"+OK\r\n"
        pair.same("OBJECT", "ENCODING", key)
        mine, reference = content(pair, key)
        assert mine == reference
        if byte_equal:
            again = dumps(pair, key)
            assert again[0] == again[1] == theirs


def send(pair: Pair, requests: Requests) -> None:
    for request in requests:
        pair.same(*request)


@pytest.mark.parametrize("value", VALUES)
def test_string_dump_is_the_servers(pair: Pair, value: str) -> None:
    pair.same("SET", "k", value)
    check_both_ways(pair)


def test_changed_string_dump_is_the_servers(pair: Pair) -> None:
    send(pair, [("SET", "k", "abc"), ("APPEND", "k", "def" * 10), ("SETRANGE", "k", 100, "x")])
    check_both_ways(pair)


SEQUENCES: dict[str, Requests] = {
    "short list": [("RPUSH", "k", *VALUES[:20])],
    "list of nodes": [("RPUSH", "k", value * 3) for value in VALUES for _ in range(30)],
    "list with a plain node": [("RPUSH", "k", "a", "y" * 9000, "b"), ("LPUSH", "k", "1")],
    "intset of 16 bits": [("SADD", "k", 5, -3, 32767, -32768)],
    "intset of 32 bits": [("SADD", "k", 5, -3, 32768)],
    "intset of 64 bits": [("SADD", "k", 5, -3, 2**40, -(2**63), 2**63 - 1)],
    "listpack set": [("SADD", "k", *VALUES[:20])],
    "listpack sorted set": [
        ("ZADD", "k", score, f"m{at}")
        for at, score in enumerate(
            ["0", "-0", "1", "-1.5", "inf", "-inf", "1e20", "1e-7", "3.0000000000000004", "12345678901234567", "1e17"]
        )
    ],
    "skiplist": [("ZADD", "k", at * 7 % 301 / 8, f"member {at % 9} {at}") for at in range(300)],
    "listpack hash": [("HSET", "k", value, VALUES[19 - at]) for at, value in enumerate(VALUES[:20])],
    "hash with a time": [
        ("HSET", "k", "a", 1, "b", 2, "c", 3),
        ("HPEXPIREAT", "k", FAR_MS, "FIELDS", 1, "b"),
    ],
    "empty stream": [("XADD", "k", "1-1", "a", "b"), ("XDEL", "k", "1-1")],
    "stream": [
        *[("XADD", "k", f"{at // 3 + 1}-{at % 3}", "f", VALUES[at % 25]) for at in range(250)],
        ("XADD", "k", "9000000000000-1", "other", "fields", "and", "more"),
        ("XADD", "k", "18446744073709551614-18446744073709551615", "f", "v"),
        ("XDEL", "k", "3-1", "7-0", "9000000000000-1"),
        ("XTRIM", "k", "MAXLEN", 240),
        ("XGROUP", "CREATE", "k", "g", "5-1"),
        ("XGROUP", "CREATE", "k", "h", "$", "ENTRIESREAD", 10),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SEQUENCES)
def test_collection_dump_is_the_servers(pair: Pair, name: str) -> None:
    send(pair, SEQUENCES[name])
    check_both_ways(pair)


@pytest.mark.parametrize(
    "requests",
    [
        [("SADD", "k", f"member {at}") for at in range(200)],
        [("HSET", "k", f"field {at}", "v" * (at % 30)) for at in range(600)],
        [
            ("HSET", "k", *[word for at in range(600) for word in (f"f{at}", at)]),
            ("HPEXPIREAT", "k", FAR_MS + 5, "FIELDS", 2, "f1", "f2"),
            ("HPEXPIREAT", "k", FAR_MS, "FIELDS", 1, "f3"),
        ],
        # The header of redis-server's listpackex holds a bound on the times, which it does not keep tight.
        [
            ("HSET", "k", "a", 1, "b", 2, "c", 3, "d", 4),
            ("HPEXPIREAT", "k", FAR_MS + 5, "FIELDS", 2, "b", "c"),
            ("HPEXPIREAT", "k", FAR_MS, "FIELDS", 1, "a"),
        ],
    ],
    ids=["set", "hash", "hash with times", "small hash with times"],
)
def test_dump_without_defined_bytes_is_restored_alike(pair: Pair, requests: Requests) -> None:
    send(pair, requests)
    check_both_ways(pair, byte_equal=False)


def test_pending_entries_come_along(pair: Pair) -> None:
    """Times of delivery are of each side's own clock; so only one side's dump is compared."""
    for request in (
        *[("XADD", "k", f"1-{at}", "f", at) for at in range(1, 8)],
        ("XGROUP", "CREATE", "k", "g", 0),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", 3, "STREAMS", "k", ">"),
        ("XREADGROUP", "GROUP", "g", "d", "COUNT", 2, "STREAMS", "k", ">"),
        ("XREADGROUP", "GROUP", "g", "e", "STREAMS", "k", 0),
        ("XCLAIM", "k", "g", "c", 0, "1-2", "RETRYCOUNT", 300),
        ("XDEL", "k", "1-1"),
    ):
        pair.both(*request)
    for payload in dumps(pair):
        pair.same("RESTORE", "r", 0, payload, "REPLACE")
        mine, reference = content(pair, "r")
        assert mine == reference
        assert dumps(pair, "r") == (payload, payload)
        pair.same("XPENDING", "r", "g")
        pair.same("XAUTOCLAIM", "r", "g", "f", 0, 0)
        pair.same("DEL", "r")


def ziplist(*entries: bytes) -> bytes:
    """A ziplist of entries given as encoding and data."""
    body = b""
    previous = 0
    last = 10
    for entry in entries:
        last = 10 + len(body)
        back = bytes((previous,)) if previous < 254 else b"\xfe" + previous.to_bytes(4, "little")
        body += back + entry
        previous = len(back) + len(entry)
    size = 11 + len(body)
    header = size.to_bytes(4, "little") + last.to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    return header + body + b"\xff"


def text(data: bytes) -> bytes:
    """A string in a payload."""
    if len(data) < 64:
        return bytes((len(data),)) + data
    return b"\x80" + len(data).to_bytes(4, "big") + data


def entry(data: bytes) -> bytes:
    """A string in a ziplist."""
    if len(data) < 64:
        return bytes((len(data),)) + data
    if len(data) < 16384:
        return bytes((0x40 | len(data) >> 8, len(data) & 0xFF)) + data
    return b"\x80" + len(data).to_bytes(4, "big") + data


INTEGERS = [
    b"\xc0\x39\x30", b"\xd0\xff\xff\xff\x7f", b"\xe0" + (2**63 - 1).to_bytes(8, "little"), b"\xf0\xff\xff\xff",
    b"\xfe\x80", b"\xf1", b"\xfd",
]  # fmt: skip
STREAM_NODE = (
    b"\x10"
    + bytes(7)
    + b"\x01"
    + bytes(7)
    + b"\x01\x1d\x1d\x00\x00\x00\n\x00\x01\x01\x00\x01\x01\x01\x81a\x02\x00\x01"
    b"\x02\x01\x00\x01\x00\x01\x81b\x02\x04\x01\xff"
)
OLD = {
    "linked list": b"\x01\x03" + text(b"a") + text(b"bc") + b"\xc0\x05",
    "list of a ziplist": b"\x0a" + text(ziplist(entry(b"a"), entry(b"x" * 300), *INTEGERS, entry(b"z"))),
    "quicklist of ziplists": b"\x0e\x02" + text(ziplist(entry(b"a"), entry(b""))) + text(ziplist(*INTEGERS)),
    "set": b"\x02\x03" + text(b"a") + text(b"b") + b"\xc1\x39\x30",
    "set of integers": b"\x02\x02" + b"\xc0\x05" + b"\xc0\x06",
    "sorted set with scores as text": b"\x03\x03" + text(b"a") + b"\x031.5" + text(b"b") + b"\xfe" + text(b"c") + b"\xff",
    "sorted set of a ziplist": b"\x0c" + text(ziplist(entry(b"a"), entry(b"1.5"), entry(b"b"), b"\xf3")),
    "hash": b"\x04\x02" + text(b"a") + text(b"1") + text(b"b") + text(b"x" * 70),
    "hash of a zipmap": b"\x09" + text(b"\x02\x01a\x01\x001\x02bc\x03\x02xyz--\xff"),
    "hash of a ziplist": b"\x0d" + text(ziplist(entry(b"a"), b"\xf2", entry(b"b"), entry(b"y" * 100))),
    "stream 1": b"\x0f\x01" + STREAM_NODE + b"\x01\x01\x01" + b"\x01\x01g\x01\x01\x00\x00",
    "stream 2": b"\x13\x01" + STREAM_NODE + b"\x01\x01\x01" + b"\x01\x01\x00\x00\x01" + b"\x01\x01g\x01\x01\x01\x01"
    + bytes(7) + b"\x01" + bytes(7) + b"\x01" + bytes(8) + b"\x02" + b"\x01\x01c" + b"\x00" * 8 + b"\x01"
    + bytes(7) + b"\x01" + bytes(7) + b"\x01",
    "release candidate's hash with times": b"\x16\x02" + b"\x00\x01a\x011" + b"\x81" + FAR_MS.to_bytes(8, "big") + b"\x01b\x012",
    "release candidate's small hash with times": b"\x17\x1e\x1e\x00\x00\x00\x06\x00\x81a\x02\x01\x01\xf4"
    + FAR_MS.to_bytes(8, "little") + b"\x09\x81b\x02\x02\x01\x00\x01\xff",
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_what_older_servers_wrote_is_restored_alike(pair: Pair, name: str) -> None:
    reply = pair.same("RESTORE", "k", 0, sealed(OLD[name], 6))
    if reply == b"+OK\r\n":
        pair.same("OBJECT", "ENCODING", "k")
        mine, reference = content(pair, "k")
        assert without_seen(mine) == without_seen(reference)
    else:
        assert name.startswith("release candidate"), reply


def without_seen(value: Any) -> Any:
    """Without consumers' times, which old streams do not all hold."""
    if isinstance(value, list):
        return [
            without_seen(each) for at, each in enumerate(value) if at == 0 or value[at - 1] != b"active-time"
        ]
    return value


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("REPLACE",),
        ("replace", "ABSTTL"),
        ("IDLETIME", 100),
        ("FREQ", 5),
        ("IDLETIME", -1),
        ("FREQ", -1),
        ("FREQ", 256),
        ("IDLETIME", 1, "FREQ", 1),
        ("FREQ", 1, "IDLETIME", 1),
        ("IDLETIME",),
        ("FREQ",),
        ("FREQ", "x"),
        ("FOO",),
    ],
)
@pytest.mark.parametrize("ttl", [0, 100_000, -1, "x", 2**63 - 1, FAR_MS])
@pytest.mark.parametrize("key", ["new", "old"])
def test_restore_checks_as_the_server_does(
    pair: Pair, options: tuple[Argument, ...], ttl: Argument, key: str
) -> None:
    send(pair, [("SET", "old", "x"), ("SET", "k", "value")])
    payload, _ = dumps(pair)
    pair.same("RESTORE", key, ttl, payload, *options)
    pair.same("EXISTS", key)
    pair.same("GET", key)
    pair.same("PTTL", key)
    pair.same("OBJECT", "IDLETIME", key)


def test_restore_of_what_has_expired_deletes(pair: Pair) -> None:
    send(pair, [("SET", "old", "x"), ("SET", "k", "value")])
    payload, _ = dumps(pair)
    for key in ("new", "old"):
        assert pair.same("RESTORE", key, 1, payload, "ABSTTL", "REPLACE") == b"+OK\r\n"
        assert pair.same("EXISTS", key) == b":0\r\n"


def test_bad_payloads_are_refused_alike(pair: Pair) -> None:
    pair.same("SET", "k", "value")
    payload, _ = dumps(pair)
    for bad in (
        b"",
        payload[:5],
        payload[:-1],
        payload + b"x",
        payload[:-8] + bytes(8),
        b"\x01" + payload[1:],
        sealed(payload[:-10], 13),
        sealed(payload[:-10], 0xFFFF),
        sealed(b""),
        sealed(b"\x00"),
        sealed(b"\x00\xc4x"),
        sealed(b"\x00\xc3\x01\x02x"),
        sealed(b"\x06abc"),
        sealed(b"\x1aabc"),
        sealed(b"\xffabc"),
        sealed(b"\x02\x00"),
        sealed(b"\x02\x02\x01a\x01a"),
        sealed(b"\x10\x03abc"),
        sealed(b"\x81" + bytes(8)),
    ):
        assert pair.same("RESTORE", "new", 0, bad).startswith(b"-")
        pair.same("RESTORE", "k", -1, bad)
        pair.same("RESTORE", "new", "x", bad)
    pair.same("RESTORE", "new", 0)
    pair.same("DUMP", "nokey")
    pair.same("DUMP")


def test_any_string_is_compressed_as_the_server_does(pair: Pair) -> None:
    random = Random(5)
    alphabets = [b"ab", b"abcdefgh", bytes(range(256))]
    values: list[bytes] = []
    for at in range(300):
        length = 20 + (at % 40 if at % 2 else random.choice((300, 1000, 9000)))
        alphabet = alphabets[at % 3]
        piece = bytes(random.choices(alphabet, k=random.choice((length, random.randint(1, 40)))))
        values.append((piece * length)[:length])
    for value in values:
        pair.both("SET", "k", value)
        ours, theirs = dumps(pair)
        assert ours == theirs, value


def test_restored_stream_goes_on_as_the_servers(pair: Pair) -> None:
    """What is full, where the next entry goes and what trimming takes away survive the dump."""
    for at in range(130):
        pair.same("XADD", "k", f"{at + 1}-0", "field", "value" * (at % 40))
    pair.same("XDEL", "k", "5-0", "130-0")
    _, payload = dumps(pair)
    pair.same("RESTORE", "r", 0, payload)
    for at in range(130, 200):
        pair.same("XADD", "r", f"{at + 1}-0", "field", "value" * (at % 40))
    pair.same("XTRIM", "r", "MAXLEN", "~", 100)
    pair.same("XINFO", "STREAM", "r")
    ours, theirs = dumps(pair, "r")
    assert ours == theirs
    assert pair.ours.send(encode_request(("XLEN", "r")))
