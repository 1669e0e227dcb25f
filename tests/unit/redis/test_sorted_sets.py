"""The structures of sorted sets against a plain sorted list."""

from __future__ import annotations

import bisect
import random

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.redis.types.collection import NOTHING_LEFT, EncodingLimits
from appliance.redis.types.sorted_sets import (
    A_NAME,
    GREATEST,
    LEAF_MEMBERS,
    LEAST,
    Member,
    MemberIndex,
    NameRange,
    ScoreRange,
    SortedSet,
    sorted_set_of,
)

INF = float("inf")


def listed(zset: SortedSet) -> list[tuple[float, bytes]]:
    return [(member.score, member.name) for member in zset.slice(0, len(zset))]


def filled(count: int, score: float | None = None) -> SortedSet:
    """Members m0000000 … with their number as score, or all the same one."""
    zset = SortedSet(EncodingLimits())
    for number in range(count):
        zset.add(b"m%07d" % number, float(number) if score is None else score)
    return zset


def discard(index: MemberIndex, name: bytes) -> None:
    member = index.find(name)
    assert member is not None
    index.discard(member)
    assert index.find(name) is None


class Model(RuleBasedStateMachine):
    """Random writes; order, ranks and ranges agree with a sorted list of tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.zset = SortedSet(EncodingLimits())
        self.model: dict[bytes, float] = {}
        self.random = random.Random(5)

    def ordered(self) -> list[tuple[float, bytes]]:
        return sorted((score, name) for name, score in self.model.items())

    def put(self, name: bytes, score: float) -> None:
        member = self.zset.find(name)
        if member is None:
            self.zset.add(name, score)
        else:
            self.zset.set_score(member, score)
        self.model[name] = score

    @rule(number=st.integers(0, 400), score=st.integers(-3, 3) | st.floats(allow_nan=False))
    def put_one(self, number: int, score: float) -> None:
        self.put(b"%d" % number, float(score))

    @rule(seed=st.integers(0, 1 << 30), count=st.integers(1, 600), spread=st.sampled_from([1, 7, 10**6]))
    def put_many(self, seed: int, count: int, spread: int) -> None:
        source = random.Random(seed)
        for _ in range(count):
            self.put(b"%d" % source.randrange(3000), float(source.randrange(spread)))

    @rule(start=st.integers(0, 10**6), step=st.sampled_from([1, -1]), count=st.integers(100, 600))
    def put_in_order(self, start: int, step: int, count: int) -> None:
        for number in range(count):
            self.put(b"r%d" % (start + number), float(start + step * number))

    @rule(number=st.integers(0, 400))
    def remove_one(self, number: int) -> None:
        name = b"%d" % number
        assert self.zset.remove(name) == (self.model.pop(name, None) is not None)

    @rule(seed=st.integers(0, 1 << 30), share=st.floats(0, 1))
    def remove_many(self, seed: int, share: float) -> None:
        source = random.Random(seed)
        for name in list(self.model):
            if source.random() < share:
                assert self.zset.remove(name)
                del self.model[name]

    @rule(low=st.floats(0, 1), high=st.floats(0, 1))
    def remove_slice(self, low: float, high: float) -> None:
        total = len(self.model)
        start, stop = int(low * total), int(high * total)
        gone = self.ordered()[start:stop]
        self.zset.remove_slice(start, stop)
        for _, name in gone:
            del self.model[name]

    @rule(is_last=st.booleans(), count=st.integers(1, 300))
    def pop(self, is_last: bool, count: int) -> None:
        expected = self.ordered()
        expected = expected[::-1][:count] if is_last else expected[:count]
        popped = [self.zset.pop(is_last) for _ in expected]
        assert [(member.score, member.name) for member in popped] == expected
        for _, name in expected:
            del self.model[name]

    @rule(
        low=st.integers(-4, 20) | st.floats(allow_nan=False),
        high=st.integers(-4, 20) | st.floats(allow_nan=False),
        low_is_open=st.booleans(),
        high_is_open=st.booleans(),
    )
    def look_for_scores(self, low: float, high: float, low_is_open: bool, high_is_open: bool) -> None:
        start, stop = self.zset.ranks_of_scores(ScoreRange(low, low_is_open, high, high_is_open))
        assert listed(self.zset)[start:stop] == [
            (score, name)
            for score, name in self.ordered()
            if (low < score or (low == score and not low_is_open))
            and (score < high or (score == high and not high_is_open))
        ]

    @rule()
    def copy(self) -> None:
        other = self.zset.copy()
        assert isinstance(other, SortedSet)
        assert other.encoding() == self.zset.encoding()
        self.zset = other

    @invariant()
    def holds(self) -> None:
        self.zset.check_invariants()
        assert listed(self.zset) == self.ordered()


TestModel = Model.TestCase
TestModel.settings = settings(stateful_step_count=12)


def test_descending_members_leave_no_leaves_of_one() -> None:
    zset = filled(LEAF_MEMBERS)
    for number in range(3000):
        zset.add(b"d%d" % number, 1e6 - number)
    zset.check_invariants()
    assert len(zset._root.children) < 2 * 3000 / (LEAF_MEMBERS / 2)


def test_names_order_members_of_one_score() -> None:
    zset = SortedSet(EncodingLimits())
    for name in (b"b", b"", b"a\xff", b"a", b"\x80", b"a\0"):
        zset.add(name, 0.0)
    assert [name for _, name in listed(zset)] == [b"", b"a", b"a\0", b"a\xff", b"b", b"\x80"]


@given(
    st.sets(st.binary(max_size=3), max_size=300),
    st.binary(max_size=3),
    st.booleans(),
    st.binary(max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_ranges_of_names(
    names: set[bytes], low: bytes, low_is_open: bool, high: bytes, high_is_open: bool, backwards: bool
) -> None:
    zset = SortedSet(EncodingLimits())
    for name in names:
        zset.add(name, 1.0)
    start, stop = zset.ranks_of_names(
        NameRange(A_NAME, low, low_is_open, A_NAME, high, high_is_open), backwards
    )
    assert [name for _, name in listed(zset)[start:stop]] == [
        name
        for name in sorted(names)
        if (low < name or (low == name and not low_is_open))
        and (name < high or (name == high and not high_is_open))
    ]


@pytest.mark.parametrize("count", [0, 5, 1000])
def test_ranges_of_names_without_bounds(count: int) -> None:
    zset = filled(count, score=0.0)
    everything = NameRange(LEAST, b"", False, GREATEST, b"", False)
    assert zset.ranks_of_names(everything) == (0, count)
    nothing = NameRange(GREATEST, b"", False, LEAST, b"", False)
    assert zset.ranks_of_names(nothing) == (0, 0)
    from_first = NameRange(A_NAME, b"m", False, GREATEST, b"", False)
    assert zset.ranks_of_names(from_first) == (0, count)


def test_encoding_follows_the_limits_it_was_made_with() -> None:
    limits = EncodingLimits()
    zset = SortedSet(limits)
    for number in range(128):
        zset.add(b"%d" % number, -0.0)
    assert zset.encoding() == b"listpack"
    assert str(zset.at_rank(0).score) == "0.0"
    zset.add(b"one more", -0.0)
    assert zset.encoding() == b"skiplist"
    member = zset.find(b"one more")
    assert member is not None
    assert str(member.score) == "-0.0"
    assert zset.remove(b"one more")
    assert zset.encoding() == b"skiplist"
    long_name = SortedSet(limits)
    long_name.add(b"x" * 64, 0.0)
    assert long_name.encoding() == b"listpack"
    long_name.add(b"y" * 65, 0.0)
    assert long_name.encoding() == b"skiplist"
    assert sorted_set_of(limits, [Member(b"%d" % n, 0.0) for n in range(129)]).encoding() == b"skiplist"
    assert sorted_set_of(limits, [Member(b"%d" % n, 0.0) for n in range(128)]).encoding() == b"listpack"
    assert sorted_set_of(limits, [Member(b"y" * 65, 0.0)]).encoding() == b"skiplist"


@pytest.mark.parametrize("count", [0, 1, 96, 128, 129, 2304, 2305, 20_000])
def test_built_of_members_in_any_order(count: int) -> None:
    source = random.Random(count)
    scores = {b"%d" % number: float(source.randrange(50)) for number in range(count)}
    zset = sorted_set_of(EncodingLimits(), [Member(name, score) for name, score in scores.items()])
    zset.check_invariants()
    assert listed(zset) == sorted((score, name) for name, score in scores.items())


@pytest.mark.parametrize("budget", [1, 1000, 10**6])
@pytest.mark.parametrize("count", [0, 3, 5000])
def test_released_in_pieces(count: int, budget: int) -> None:
    zset = filled(count)
    rounds = 1
    while zset.release(budget) != NOTHING_LEFT:
        rounds += 1
        assert rounds < 3 * count + 10
    assert len(zset) == 0
    if budget == 1000 and count == 5000:
        assert 5 <= rounds <= 20


def test_no_insertion_or_removal_pays_for_a_resize() -> None:
    index = MemberIndex()
    for number in range(10_000):
        before = len(index._buckets)
        index.insert(Member(b"%d" % number, 0.0))
        assert len(index._buckets) - before <= 1
    index.check_invariants()
    for number in range(10_000):
        before = len(index._buckets)
        discard(index, b"%d" % number)
        assert before - len(index._buckets) <= 2
    index.check_invariants()
    assert len(index._buckets) < 10


@given(
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(0, 5), st.integers(-150, 150)), max_size=60),
)
def test_scan_sees_every_member_that_stays(count: int, changes: list[tuple[int, int]]) -> None:
    index = MemberIndex()
    stays = {b"s%d" % number for number in range(count)}
    for name in stays:
        index.insert(Member(name, 0.0))
    comers: list[bytes] = []
    seen: list[Member] = []
    waiting = list(changes)
    cursor = 0
    steps = 0
    while True:
        cursor = index.scan(cursor, seen)
        if cursor == 0:
            break
        steps += 1
        if waiting and steps % (waiting[0][0] + 1) == 0:
            change = waiting.pop(0)[1]
            for _ in range(change):
                comers.append(b"c%d-%d" % (steps, len(comers)))
                index.insert(Member(comers[-1], 0.0))
            for _ in range(-change):
                if comers:
                    discard(index, comers.pop())
    index.check_invariants()
    assert stays <= {member.name for member in seen}


def test_scan_of_a_set_at_rest_sees_each_member_once() -> None:
    zset = filled(5000)
    seen: list[Member] = []
    cursor = zset.scan(0, seen)
    while cursor != 0:
        cursor = zset.scan(cursor, seen)
    assert sorted(member.name for member in seen) == [b"m%07d" % number for number in range(5000)]


def test_a_score_set_in_place_keeps_the_order() -> None:
    source = random.Random(7)
    zset = filled(2000)
    model = [(float(number), b"m%07d" % number) for number in range(2000)]
    for _ in range(3000):
        at = source.randrange(2000)
        score, name = model[at]
        wanted = score + source.choice([0.25, -0.25, 1.0, -1.0, 0.0, 500.0])
        del model[at]
        bisect.insort(model, (wanted, name))
        member = zset.find(name)
        assert member is not None
        zset.set_score(member, wanted)
    zset.check_invariants()
    assert listed(zset) == model


def test_memory_usage_from_samples_is_near_that_of_all() -> None:
    zset = filled(5000)
    everything = zset.memory_usage(0)
    assert 5000 * 60 < everything < 5000 * 300
    assert abs(zset.memory_usage(5) - everything) < everything / 10
    assert SortedSet(EncodingLimits()).memory_usage(5) < 1000
