"""Sets against Python's, in every encoding; fair chance; the choices without repetition; sizes and ends."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from appliance.redis.chance import Chance
from appliance.redis.commands.sampling import chosen_places, drawn_places
from appliance.redis.types.collection import EncodingLimits
from appliance.redis.types.hashes import Hash
from appliance.redis.types.sets import HASHTABLE, INTSET, LISTPACK, Set, set_for

if TYPE_CHECKING:
    from collections.abc import Callable

members = st.one_of(
    st.integers(-5, 20).map(lambda number: b"%d" % number),
    st.sampled_from(
        [b"a", b"b", b"", b"007", b"-0", b"x" * 70, b"9223372036854775807", b"9223372036854775808"]
    ),
)


def chance(seed: int = 1) -> Callable[[], int]:
    random = Random(seed)
    return lambda: random.getrandbits(32)


def small_limits(intset: int, listpack: int) -> EncodingLimits:
    limits = EncodingLimits()
    limits.set_max_intset_entries = intset
    limits.set_max_listpack_entries = listpack
    return limits


def made(encoding: int, count: int) -> Set:
    value = Set(EncodingLimits(), INTSET if encoding == INTSET else LISTPACK)
    for number in range(count):
        value.add(b"%d" % number if encoding == INTSET else b"member %d" % number)
    if encoding == HASHTABLE:
        value.convert(HASHTABLE)
    assert value.encoding_id == encoding
    return value


@given(st.lists(st.tuples(st.booleans(), members), max_size=60), st.integers(0, 12), st.integers(0, 12))
def test_set_agrees_with_pythons(steps: list[tuple[bool, bytes]], intset: int, listpack: int) -> None:
    value = set_for(small_limits(intset, listpack), steps[0][1] if steps else b"1", 1)
    model: set[bytes] = set()
    for is_added, member in steps:
        if is_added:
            assert value.add(member) == (member not in model)
            model.add(member)
        else:
            assert value.remove(member) == (member in model)
            model.discard(member)
        assert len(value) == len(model)
        assert (member in value) == (member in model)
        found = value.members()
        assert set(found) == model
        assert len(found) == len(model)
        if value.encoding() == b"intset":
            assert found == sorted(model, key=int)
            assert len(found) <= intset
        elif value.encoding() == b"listpack":
            assert len(found) <= listpack
    assert set(value.copy().members()) == model  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", [INTSET, LISTPACK, HASHTABLE])
def test_each_member_has_the_same_chance(encoding: int) -> None:
    value = made(encoding, 50)
    random = chance()
    drawn = Counter(value.random_member(random) for _ in range(50_000))
    assert set(drawn) == set(value.members())
    # Each count is binomial(50000, 1/50): mean 1000, standard deviation 31.
    assert all(850 < count < 1150 for count in drawn.values())


@pytest.mark.parametrize("encoding", [INTSET, LISTPACK, HASHTABLE])
def test_popping_gives_every_member_once(encoding: int) -> None:
    value = made(encoding, 120)
    everything = set(value.members())
    source = Chance(48271)
    popped = [value.pop_random(source) for _ in range(120)]
    assert set(popped) == everything
    assert len(value) == 0


def test_choices_without_repetition_are_uniform() -> None:
    random = chance()
    counts = Counter(bytes(chosen_places(6, 3, random)) for _ in range(20_000))
    # 20 subsets, each expected 1000 times with a standard deviation of 31.
    assert len(counts) == 20
    assert all(850 < count < 1150 for count in counts.values())
    for few in (2, 4):
        counts = Counter(bytes(drawn_places(6, few, random)) for _ in range(15_000))
        assert len(counts) == 15
        assert all(sum(places) == few for places in counts)
        assert all(850 < count < 1150 for count in counts.values())
    assert sum(drawn_places(1000, 999, random)) == 999


@pytest.mark.parametrize("encoding", [INTSET, LISTPACK, HASHTABLE])
def test_a_dead_set_is_let_go_of_in_pieces(encoding: int) -> None:
    value = made(encoding, 120)
    left = [value.release(30)]
    while left[-1] > 0:
        left.append(value.release(30))
        assert left[-1] < left[-2]
    assert len(left) >= 4


def test_memory_grows_with_the_members_and_a_sample_is_near_the_whole() -> None:
    small = made(HASHTABLE, 100)
    large = made(HASHTABLE, 10_000)
    assert 20 * small.memory_usage(0) < large.memory_usage(0)
    assert 60 * 10_000 < large.memory_usage(0) < 400 * 10_000
    assert abs(large.memory_usage(5) - large.memory_usage(0)) < large.memory_usage(0) * 0.2
    assert made(INTSET, 100).memory_usage(0) < made(LISTPACK, 100).memory_usage(0)
    value = Hash(EncodingLimits())
    before = value.memory_usage(0)
    value.set(b"field", b"v" * 1000)
    assert value.memory_usage(0) > before + 1000
