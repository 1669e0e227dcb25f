"""The Robin Hood table against dict, and SCAN's guarantee under every kind of change."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.redis.chance import Chance
from appliance.redis.hash_table import (
    LONGEST_PACKED_KEY,
    LONGEST_PACKED_VALUE,
    MIN_SLOTS,
    SEGMENT_SLOTS,
    Table,
)

if TYPE_CHECKING:
    from appliance.redis.entry import Entry

SECRET = bytes(range(8))


def key(number: int) -> bytes:
    return b"key:%d" % number


def filled(size: int) -> Table:
    table = Table(SECRET)
    for number in range(size):
        table.insert(key(number), number)
    return table


def sizes(table: Table) -> tuple[int, int]:
    return len(table), table.slots_allocated()


class TableMachine(RuleBasedStateMachine):
    """Inserts and removes in bulk, packed and not: the table passes several sizes, with a SCAN on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(SECRET)
        self.model: dict[bytes, object] = {}
        self.cursor: int | None = None  # of the SCAN under way
        self.must_be_seen: set[bytes] = set()
        self.seen: set[bytes] = set()

    @rule(first=st.integers(0, 3000), size=st.sampled_from([1, 3, 40, 700, 1500]))
    def insert(self, first: int, size: int) -> None:
        for number in range(first, first + size):
            if key(number) not in self.model:
                self.table.insert(key(number), number)
                self.model[key(number)] = number

    @rule(
        first=st.integers(0, 3000),
        size=st.sampled_from([1, 3, 40, 700]),
        value=st.sampled_from([b"", b"short", b"x" * LONGEST_PACKED_VALUE, b"y" * 129, 7]),
        clock=st.integers(0, 2**24 - 1),
    )
    def put(self, first: int, size: int, value: object, clock: int) -> None:
        for number in range(first, first + size):
            self.table.put(key(number), value, clock)
            self.model[key(number)] = value
            assert self.table.access_clock(key(number)) == clock

    @rule(number=st.integers(0, 4000), value=st.sampled_from([b"", b"changed", 8]))
    def change_in_place(self, number: int, value: object) -> None:
        entry = self.table.find(key(number))
        if entry is not None:
            entry.value = value
            self.model[key(number)] = value

    @rule(number=st.integers(0, 4000))
    def read(self, number: int) -> None:
        assert self.table.get(key(number)) == self.model.get(key(number))
        assert self.table.has(key(number)) == (key(number) in self.model)

    @rule(first=st.integers(0, 3000), size=st.sampled_from([1, 40, 700]))
    def unpack(self, first: int, size: int) -> None:
        for number in range(first, first + size):
            self.table.find(key(number))

    @rule(keys=st.integers(1, 1000))
    def pack(self, keys: int) -> None:
        self.table.pack(keys)

    @rule(first=st.integers(0, 3000), size=st.sampled_from([1, 3, 40, 700, 4000]))
    def remove(self, first: int, size: int) -> None:
        for number in range(first, first + size):
            entry = self.table.remove(key(number))
            assert (None if entry is None else entry.value) == self.model.pop(key(number), None)
            self.must_be_seen.discard(key(number))

    @rule(number=st.integers(0, 4000))
    def find(self, number: int) -> None:
        entry = self.table.find(key(number))
        assert (None if entry is None else entry.value) == self.model.get(key(number))

    @rule(slots=st.integers(1, 5000))
    def work(self, slots: int) -> None:
        self.table.work(slots)

    @precondition(lambda self: self.cursor is None)
    @rule()
    def scan_begin(self) -> None:
        self.cursor = 0
        self.must_be_seen = set(self.model)
        self.seen = set()
        self._scan_step()

    @precondition(lambda self: self.cursor is not None)
    @rule(steps=st.integers(1, 600))
    def scan_on(self, steps: int) -> None:
        for _ in range(steps):
            if self.cursor is None:
                break
            self._scan_step()

    def _scan_step(self) -> None:
        assert self.cursor is not None
        entries: list[Entry] = []
        cursor = self.table.scan(self.cursor, entries)
        for entry in entries:
            assert self.model[entry.key] == entry.value
            self.seen.add(entry.key)
        self.cursor = cursor if cursor != 0 else None
        if self.cursor is None:
            assert self.must_be_seen <= self.seen

    @invariant()
    def structure_holds(self) -> None:
        self.table.check_invariants()
        assert len(self.table) == len(self.model)

    def teardown(self) -> None:
        assert {entry.key: entry.value for entry in self.table.entries()} == self.model
        while self.cursor is not None:
            self._scan_step()


TestTableMachine = TableMachine.TestCase


def test_no_write_moves_or_allocates_more_than_a_bounded_number_of_slots() -> None:
    """The next segments come one at a time, and the old ones go one at a time."""
    table = filled(1000)
    before = table.slots_allocated()
    changed = -SEGMENT_SLOTS
    for number in range(1000, 60_000):
        table.insert(key(number), number)
        after = table.slots_allocated()
        assert abs(after - before) <= SEGMENT_SLOTS, number
        if after - before == SEGMENT_SLOTS:
            # The writes since the last one have paid for it.
            assert number - changed >= SEGMENT_SLOTS // 64
            changed = number
        before = after
    assert len(table) == 60_000


def test_growing_table_is_done_before_it_needs_to_grow_again() -> None:
    table = Table(SECRET)
    for number in range(100_000):
        table.insert(key(number), number)
        # Full to 7/8 in the worst case, and less than 7 slots in all per key while two lists exist.
        if len(table) > MIN_SLOTS:
            assert len(table) * 7 >= table.slots_allocated()


def test_shrinks_after_deletes_and_gives_its_slots_back() -> None:
    table = filled(50_000)
    while table.work(10_000):
        pass
    for number in range(50_000):
        table.remove(key(number))
    while table.work(10_000):
        pass
    assert len(table) == 0
    assert table.slots_allocated() == MIN_SLOTS


def test_sparse_table_shrinks_by_cron_alone() -> None:
    table = filled(50_000)
    for number in range(100, 50_000):
        table.remove(key(number))
    rounds = 0
    while table.work(16_384):
        rounds += 1
        assert rounds < 100
    assert table.slots_allocated() <= 8 * 100


def test_inserts_during_a_shrink_find_room() -> None:
    """Emptied to almost nothing, then filled again at once, while the large list drains."""
    table = filled(40_000)
    for number in range(39_900):
        table.remove(key(number))
    for number in range(50_000, 90_000):
        table.insert(key(number), number)
        assert len(table) * 8 <= table.slots_allocated() * 7
    table.check_invariants()


def test_cron_alone_finishes_a_resize() -> None:
    table = Table(SECRET)
    number = 0
    while not (len(table) > 5000 and table.is_resizing):
        table.insert(key(number), number)
        number += 1
    rounds = 0
    while table.work(1000):
        rounds += 1
        assert rounds < 100
    table.check_invariants()
    assert not table.is_resizing


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 640, 641, 700, 1300, 5000])
def test_scan_of_a_table_at_rest_or_resizing_sees_each_key(size: int) -> None:
    table = filled(size)
    seen: list[bytes] = []
    cursor = 0
    while True:
        entries: list[Entry] = []
        cursor = table.scan(cursor, entries)
        seen.extend(entry.key for entry in entries)
        if cursor == 0:
            break
    assert set(seen) == {key(number) for number in range(size)}
    assert len(seen) == size  # nothing changed meanwhile: no duplicates either


@pytest.mark.parametrize("size", [1, 600, 30_000, 45_000])
def test_dismantled_table_goes_in_pieces_and_hands_over_large_values(size: int) -> None:
    table = filled(size)
    large = [b"large"]
    table.insert(b"list", large)
    for number in range(50):
        table.put(b"packed:%d" % number, b"value", 0)
    values: list[object] = []
    before = table.slots_allocated()
    assert before >= size
    while before > 0:
        after = table.dismantle(1000, values.append)
        assert after == max(before - 1000, 0)
        before = after
    assert values == [large]


def test_keys_that_look_alike_when_packed_stay_apart() -> None:
    table = Table(SECRET)
    table.put(b"ab", b"cd", 1)
    assert table.get(b"abc") is None
    assert table.get(b"a") is None
    table.put(b"abc", b"d", 2)
    assert (table.get(b"ab"), table.get(b"abc")) == (b"cd", b"d")
    for length in (0, 1, LONGEST_PACKED_KEY, LONGEST_PACKED_KEY + 1, 300):
        table.put(b"k" * length, b"%d" % length, 3)
    for length in (0, 1, LONGEST_PACKED_KEY, LONGEST_PACKED_KEY + 1, 300):
        assert table.get(b"k" * length) == b"%d" % length
    table.check_invariants()


def test_entry_of_a_packed_key_can_be_changed_and_is_packed_again_later() -> None:
    table = Table(SECRET)
    table.put(b"k", b"v", 5)
    entry = table.find(b"k")
    assert entry is not None
    assert entry.access == 5
    assert table.find(b"k") is entry
    entry.value = b"w"
    entry.access = 6
    table.work(16)
    assert table.read(b"k", -1) == b"w"
    assert table.access_clock(b"k") == 6
    assert table.find(b"k") is not entry


@given(st.integers(0, 2**64 - 1), st.sampled_from([0, 5, 700, 1300]))
def test_scan_takes_any_cursor_and_ends(cursor: int, size: int) -> None:
    table = filled(size)
    steps = 0
    while True:
        cursor = table.scan(cursor, [])
        steps += 1
        if cursor == 0:
            break
        assert steps <= table.slots_allocated() * 2


def test_random_entry_reaches_every_key_about_equally() -> None:
    table = filled(700)  # in the middle of a move
    assert table.is_resizing
    hits: dict[bytes, int] = {}
    random = count(1, 48271)
    for _ in range(70_000):
        entry = table.random_entry(lambda: (next(random) * 2654435761) % (1 << 32) >> 4)
        assert entry is not None
        hits[entry.key] = hits.get(entry.key, 0) + 1
    assert len(hits) == 700
    assert max(hits.values()) < 250
    assert Table(SECRET).random_entry(lambda: 0) is None


@pytest.mark.parametrize("size", [1, 12, 700, 1300])
def test_taking_a_random_entry_takes_the_one_that_would_have_been_drawn(size: int) -> None:
    one, other = filled(size), filled(size)
    chance, draws = Chance(48271), Chance(48271)
    for left in range(size, 0, -1):
        taken = one.take_random(chance)
        drawn = other.random_entry(draws.draw)
        assert taken is not None
        assert drawn is not None
        assert (taken.key, taken.value) == (drawn.key, drawn.value)
        assert other.discard(drawn.key)
        assert len(one) == left - 1
        assert one.find(taken.key) is None
        one.check_invariants()
    assert one.take_random(chance) is None


def test_hash_depends_on_the_secret() -> None:
    one, other = Table(SECRET), Table(SECRET[::-1])
    assert [one.hash_of(key(n)) for n in range(50)] != [other.hash_of(key(n)) for n in range(50)]
    assert all(0 <= one.hash_of(key(n)) < 1 << 32 for n in range(1000))


def test_hash_spreads_over_the_home_slots() -> None:
    table = filled(4000)
    homes = {table.hash_of(key(number)) & 4095 for number in range(4000)}
    assert 2300 < len(homes) < 2800  # 4096 * (1 - 1/e) = 2589 for a random function


@pytest.mark.parametrize("count", [0, 5, 40_000])
def test_a_copied_table_has_the_same_keys_whatever_is_under_way_and_goes_its_own_way(count: int) -> None:
    table = Table(SECRET)
    for number in range(count):
        table.insert(key(number), number)
        # In the midst of all the states of growing.
        if number % 5000 == 4999 or number == count - 1:
            other = table.copy(is_shared=False)
            other.check_invariants()
            assert {entry.key: entry.value for entry in other.entries()} == {
                key(each): each for each in range(number + 1)
            }
    other = table.copy(is_shared=False)
    for number in range(0, count, 2):
        found = other.find(key(number))
        assert found is not None
        found.value = -1
        other.discard(key(number + 1))
    for number in range(count, count + 3000):
        other.put(key(number), b"new", 0)
    other.check_invariants()
    table.check_invariants()
    assert sorted(entry.value for entry in table.entries()) == list(range(count))  # type: ignore[type-var]
