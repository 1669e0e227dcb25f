"""Dumps of any bytes: a value or a PayloadError, nothing else; what was restored can be dumped and restored again."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.redis.crc64 import crc64
from appliance.redis.dump import PayloadError, dump, is_intact, restore
from appliance.redis.types.collection import Collection, EncodingLimits
from appliance.redis.types.hashes import Hash
from appliance.redis.types.lists import ListValue
from appliance.redis.types.sets import HASHTABLE, INTSET, LISTPACK, Set
from appliance.redis.types.sorted_sets import SortedSet
from appliance.redis.types.streams import Consumer, Group, Stream, make_id
from appliance.redis.values import StringBuffer

LIMITS = EncodingLimits()
LIMITS.hash_secret = b"12345678"


def sealed(body: bytes) -> bytes:
    whole = body + b"\x0c\x00"
    return whole + crc64(whole, len(whole)).to_bytes(8, "little", signed=True)


def values() -> list[object]:
    """A value of each form."""
    buffer = StringBuffer(b"changed " * 5)
    items = ListValue(LIMITS)
    for word in (b"a", b"12", b"x" * 100, b"y" * 9000):
        items.before_growth(len(word), 1)
        items.push_tail(word)
    sets = []
    for encoding, members in (
        (INTSET, [b"1", b"70000"]),
        (LISTPACK, [b"a", b"1"]),
        (HASHTABLE, [b"a", b"b"]),
    ):
        made = Set(LIMITS, encoding)
        for member in members:
            made.add(member)
        sets.append(made)
    small, big = SortedSet(LIMITS), SortedSet(LIMITS)
    big.add(b"long " * 20, 9.5)  # so that it is no listpack
    for sorted_set in (small, big):
        for at in range(5):
            sorted_set.add(b"m%d" % at, at / 2)
    hashes = []
    for convert in (False, True):
        for expire in (False, True):
            made_hash = Hash(LIMITS)
            for at in range(4):
                made_hash.set(b"f%d" % at, b"v%d" % at)
            if convert:
                made_hash.convert()
            if expire:
                made_hash.allow_expiry()
                made_hash.set_expiry(b"f1", 2_000_000_000_000)
            hashes.append(made_hash)
    stream = Stream(LIMITS)
    for ms in range(1, 120):
        stream.append(ms, 0, [b"f", b"v%d" % ms, b"g", b"w"][: 2 + ms % 2 * 2], 0)
    stream.delete(make_id(7, 0))
    group = Group(make_id(9, 0), 9)
    group.consumers[b"c"] = Consumer(b"c", 5)
    for ms in range(1, 10):
        group.deliver(make_id(ms, 0), group.consumers[b"c"], 77)
    stream.groups[b"g"] = group
    return [b"text", b"12", b"x" * 90, 5, -(2**63), buffer, items, *sets, small, big, *hashes, stream]


DUMPS = [dump(value) for value in values()]


@pytest.mark.parametrize("payload", DUMPS, ids=range(len(DUMPS)))
def test_dump_of_what_was_restored_is_the_dump(payload: bytes) -> None:
    assert is_intact(payload)
    value = restore(payload, LIMITS, 0)
    if not isinstance(value, (Set, Hash)):  # a hash table has no order
        assert dump(value) == payload
    check(value)


def check(value: object) -> None:
    """A restored value is sound."""
    if not isinstance(value, Collection):
        assert isinstance(value, (bytes, int))
        return
    assert len(value) > 0 or isinstance(value, Stream)
    if isinstance(value, (Stream, SortedSet, ListValue)):
        value.check_invariants()


def try_to_restore(body: bytes) -> None:
    payload = sealed(body)
    assert is_intact(payload)
    try:
        value = restore(payload, LIMITS, 0)
    except PayloadError:
        return
    check(value)
    check(restore(dump(value), LIMITS, 0))


@given(st.sampled_from(DUMPS), st.data())
def test_damaged_dump_is_a_value_or_an_error(payload: bytes, data: st.DataObject) -> None:
    body = bytearray(payload[:-10])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(len(body) - 1, 0)))
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            body[at : at + data.draw(st.integers(1, 4))] = b""
        elif kind == 1:
            body[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        elif len(body) > 0:
            body[at] = data.draw(
                st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0x81, 0xC3, 0xF0, 0xFF]), st.integers(0, 255))
            )
    try_to_restore(bytes(body))


@given(st.integers(0, 30), st.binary(max_size=120))
def test_any_bytes_are_a_value_or_an_error(kind: int, body: bytes) -> None:
    try_to_restore(bytes((kind,)) + body)


@pytest.mark.parametrize("kind", range(31))
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x81" + b"\xff" * 8,
        b"\x80" + b"\xff" * 4,
        b"\xc3\x81" + b"\xff" * 8 + b"\x81" + b"\xff" * 8,
        b"\xc3\x05\x81" + b"\x00\x00\x00\xff\xff\xff\xff\xff" + b"\x00a\x00b\x00",
        b"\x01\x81" + b"\xff" * 8,
        b"\x01\x02\x81" + b"\x7f" * 8,
    ],
)
def test_lengths_beyond_all_measure_take_no_memory(kind: int, body: bytes) -> None:
    try_to_restore(bytes((kind,)) + body)


@given(st.binary(max_size=40))
def test_bytes_without_a_checksum_are_not_intact(data: bytes) -> None:
    assert not is_intact(data + b"\x01")
    assert not is_intact(sealed(data)[:-1])


def test_dump_of_no_value_is_a_bug() -> None:
    with pytest.raises(TypeError):
        dump(object())
