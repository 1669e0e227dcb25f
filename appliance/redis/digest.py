"""DEBUG DIGEST: one SHA-1 for a value, or for all data, that redis-server gives for the same data too.

Two ways to take something in: `xor`, for what has no order, and `mix`, for what has one.

    xor(d, x)   d = d ^ SHA1(x)
    mix(d, x)   d = SHA1(d ^ SHA1(x))

A list mixes its elements, a set xors its members; a sorted set and a hash xor a digest of each pair, which is
mixed of its two. A stream mixes IDs, fields and values. What differs from redis-server in anything but order
of tables, access times and encodings, differs here.

Source:     redis-server 8.2, compared by tests/conformance/redis/test_conformance_debug.py.
Errors:     none.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Final

from appliance.redis.doubles import shortest_text
from appliance.redis.entry import NO_EXPIRY
from appliance.redis.types.hashes import Hash
from appliance.redis.types.lists import ListValue
from appliance.redis.types.sets import Set
from appliance.redis.types.sorted_sets import SortedSet
from appliance.redis.types.streams import Stream
from appliance.redis.values import string_text

if TYPE_CHECKING:
    from appliance.redis.entry import Entry
    from appliance.redis.keyspace import Database

_SIZE: Final = 20
NOTHING: Final = bytes(_SIZE)
_LAST_ID: Final = (1 << 128) - 1
_EXPIRES: Final = b"!!expire!!"
_FIELD_EXPIRES: Final = b"!!hexpire!!"

_STRING: Final = 0
_LIST: Final = 1
_SET: Final = 2
_SORTED_SET: Final = 3
_HASH: Final = 4
_STREAM: Final = 6


def _xor(digest: bytes, text: bytes) -> bytes:
    both = int.from_bytes(digest, "big") ^ int.from_bytes(sha1(text, usedforsecurity=False).digest(), "big")
    return both.to_bytes(_SIZE, "big")


def _mix(digest: bytes, text: bytes) -> bytes:
    return sha1(_xor(digest, text), usedforsecurity=False).digest()


def _number(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _mix_value(digest: bytes, value: object, now_ms: int) -> bytes:
    if isinstance(value, ListValue):
        digest = _mix(digest, _number(_LIST))
        for item in value.everything():
            digest = _mix(digest, item)
    elif isinstance(value, Set):
        digest = _mix(digest, _number(_SET))
        for member in value.members():
            assert isinstance(member, bytes)
            digest = _xor(digest, member)
    elif isinstance(value, SortedSet):
        digest = _mix(digest, _number(_SORTED_SET))
        for scored in value.slice(0, len(value)):
            digest = _xor(digest, _mix(_mix(NOTHING, scored.name), shortest_text(scored.score)))
    elif isinstance(value, Hash):
        digest = _mix(digest, _number(_HASH))
        for field in value.fields(now_ms):
            assert isinstance(field, bytes)
            text = value.get(field)
            assert text is not None
            pair = _mix(_mix(NOTHING, field), text)
            if value.expiry_of(field) != NO_EXPIRY:
                pair = _xor(pair, _FIELD_EXPIRES)
            digest = _xor(digest, pair)
    elif isinstance(value, Stream):
        digest = _mix(digest, _number(_STREAM))
        entries: list[object] = []
        value.range(0, _LAST_ID, 0, entries)
        for entry in entries:
            assert isinstance(entry, list)
            digest = _mix(digest, entry[0].replace(b"-", b"."))
            for text in entry[1]:
                digest = _mix(digest, text)
    else:
        digest = _mix(digest, _number(_STRING))
        digest = _mix(digest, string_text(value))
    return digest


def _mix_entry(digest: bytes, entry: Entry, now_ms: int) -> bytes:
    digest = _mix_value(digest, entry.value, now_ms)
    return digest if entry.expire_at_ms == NO_EXPIRY else _xor(digest, _EXPIRES)


def value_digest(entry: Entry | None, now_ms: int) -> bytes:
    """The digest of what a key holds; zeros if it holds nothing."""
    return NOTHING if entry is None else _mix_entry(NOTHING, entry, now_ms)


def data_digest(databases: list[Database], now_ms: int) -> bytes:
    """The digest of all keys of all databases."""
    total = NOTHING
    for database in databases:
        if len(database) == 0:
            continue
        total = _mix(total, _number(database.index))
        for entry in database.entries():
            total = _xor(total, _mix_entry(_mix(NOTHING, entry.key), entry, now_ms))
    return total
