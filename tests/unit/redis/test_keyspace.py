"""Databases against a model under a moving clock: values, expire times, access clocks, packing."""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.redis.entry import NO_EXPIRY, idle_s
from appliance.redis.keyspace import TOUCH_CLOCK, TOUCH_NOT, Clock, Database, KeyspaceStats

SECRET = bytes(range(8))


def key(number: int) -> bytes:
    return b"key:%d" % number


class DatabaseMachine(RuleBasedStateMachine):
    """Values and expire times under a moving clock, against a dict of (value, expire time)."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.stats = KeyspaceStats()
        self.database = Database(0, SECRET, self.clock, self.stats)
        self.model: dict[bytes, tuple[object, int]] = {}
        self.random = count(0, 7919)

    keys = st.integers(0, 30).map(key)

    def _live(self, name: bytes) -> tuple[object, int] | None:
        found = self.model.get(name)
        if found is not None and found[1] != NO_EXPIRY and found[1] < self.clock.now_ms:
            del self.model[name]
            return None
        return found

    @rule(name=keys, value=st.integers(0, 9))
    def set_value(self, name: bytes, value: int) -> None:
        self.database.set_value(name, value)
        self.model[name] = (value, NO_EXPIRY)

    @rule(name=keys, value=st.sampled_from([b"", b"text", b"t" * 500, 5]))
    def put(self, name: bytes, value: object) -> None:
        self.database.put(name, value)
        self.model[name] = (value, NO_EXPIRY)

    @rule(slots=st.integers(1, 100))
    def work(self, slots: int) -> None:
        self.database.work(slots)

    @rule(name=keys)
    def look(self, name: bytes) -> None:
        live = self._live(name)
        assert self.database.peek_value(name) == (None if live is None else live[0])
        assert self.database.expire_time(name) == (-2 if live is None else live[1])

    @rule(name=keys, left_ms=st.integers(0, 50))
    def set_expiry(self, name: bytes, left_ms: int) -> None:
        entry = self.database.find(name)
        live = self._live(name)
        assert (entry is None) == (live is None)
        if entry is not None and live is not None:
            self.database.set_expiry(entry, self.clock.now_ms + left_ms)
            self.model[name] = (live[0], self.clock.now_ms + left_ms)

    @rule(name=keys)
    def clear_expiry(self, name: bytes) -> None:
        entry = self.database.find(name)
        live = self._live(name)
        if entry is not None and live is not None:
            self.database.clear_expiry(entry)
            self.model[name] = (live[0], NO_EXPIRY)

    @rule(name=keys)
    def delete(self, name: bytes) -> None:
        assert self.database.delete(name) == (self._live(name) is not None)
        self.model.pop(name, None)

    @rule(name=keys)
    def lookup(self, name: bytes) -> None:
        live = self._live(name)
        assert self.database.lookup_read(name) == (None if live is None else live[0])

    @rule(passed_ms=st.integers(1, 40))
    def time_passes(self, passed_ms: int) -> None:
        self.clock.set_us(self.clock.now_us + passed_ms * 1000)

    @rule(looks=st.integers(1, 40))
    def sample(self, looks: int) -> None:
        before = len(self.database)
        looked, expired = self.database.expire_sample(looks, lambda: next(self.random))
        assert expired <= looked <= looks
        assert len(self.database) == before - expired

    @rule()
    def random_key(self) -> None:
        name = self.database.random_key(lambda: next(self.random))
        live = {each for each in list(self.model) if self._live(each) is not None}
        assert (name in live) if live else name is None

    @rule()
    def clear(self) -> None:
        self.database.clear()
        self.model.clear()

    @invariant()
    def structure_holds(self) -> None:
        self.database.check_invariants()
        live = {name: found for name in list(self.model) if (found := self._live(name)) is not None}
        mine = {
            entry.key: (entry.value, entry.expire_at_ms)
            for entry in self.database.entries()
            if not self.database.is_expired(entry)
        }
        assert mine == live


TestDatabaseMachine = DatabaseMachine.TestCase


def database_at(now_ms: int = 1000) -> tuple[Database, Clock, KeyspaceStats]:
    clock = Clock()
    clock.set_us(now_ms * 1000)
    stats = KeyspaceStats()
    return Database(0, SECRET, clock, stats), clock, stats


def test_key_lives_through_its_last_millisecond() -> None:
    database, clock, stats = database_at(1000)
    database.set_expiry(database.set_value(b"k", b"v"), 1005)
    clock.set_us(1_005_999)
    assert database.lookup_read(b"k") == b"v"
    clock.set_us(1_006_000)
    assert database.lookup_read(b"k") is None
    assert (stats.expired_keys, stats.hits, stats.misses, len(database)) == (1, 1, 1, 0)


def test_setting_a_value_takes_the_expire_time_off() -> None:
    database, _, _ = database_at()
    database.set_expiry(database.set_value(b"k", b"v"), 5000)
    assert database.expiring_count == 1
    database.set_value(b"k", b"w")
    assert database.expiring_count == 0


def test_deleting_an_expired_key_is_no_deletion() -> None:
    database, clock, stats = database_at()
    database.set_expiry(database.set_value(b"k", b"v"), 1001)
    clock.set_us(2_000_000)
    assert database.delete(b"k") is False
    assert stats.expired_keys == 1


def test_swap_exchanges_keys_and_expire_times_but_not_numbers() -> None:
    clock, stats = Clock(), KeyspaceStats()
    one, other = Database(0, SECRET, clock, stats), Database(1, SECRET, clock, stats)
    one.set_expiry(one.set_value(b"a", b"1"), 5000)
    one.swap_with(other)
    assert (len(one), len(other), one.expiring_count, other.expiring_count) == (0, 1, 0, 1)
    assert (one.index, other.index) == (0, 1)
    one.check_invariants()
    other.check_invariants()


def test_access_clock_is_touched_by_reads_packed_or_not_and_left_by_no_touch() -> None:
    database, clock, _ = database_at(5_000_000)
    database.put(b"packed", b"v")
    database.add(b"entry", 10**6)
    for name in (b"packed", b"entry"):
        assert database.access_clock(name) == 5000
    clock.set_us(6_000_000_000)
    clock.touching = TOUCH_NOT
    for name in (b"packed", b"entry"):
        database.lookup_read(name)
        assert database.access_clock(name) == 5000
    clock.touching = TOUCH_CLOCK
    for name in (b"packed", b"entry"):
        database.lookup_read(name)
        assert idle_s(clock.now_s, database.access_clock(name)) == 0
        database.set_access_clock(name, 17)
        assert database.access_clock(name) == 17
    assert database.access_clock(b"none") == -1
    assert idle_s((1 << 24) + 5, (1 << 24) - 3) == 8


def test_put_over_an_expired_key_counts_it_as_expired() -> None:
    database, clock, stats = database_at()
    database.set_expiry(database.set_value(b"k", b"v"), 1001)
    clock.set_us(2_000_000)
    database.put(b"k", b"w")
    assert (stats.expired_keys, database.expiring_count, database.expire_time(b"k")) == (1, 0, NO_EXPIRY)
    database.check_invariants()


def test_unpacked_keys_are_packed_again_by_later_commands_when_they_are_many() -> None:
    database, clock, _ = database_at()
    for number in range(20_000):
        database.put(key(number), b"v")
    for number in range(20_000):
        clock.set_us(clock.now_us + 1)
        entry = database.find(key(number))
        assert entry is not None
        entry.value = b"w"
    packed = sum(1 for number in range(20_000) if database._table.read(key(number), -1) == b"w")
    assert packed >= 20_000 - 4097
    assert {entry.value for entry in database.entries()} == {b"w"}
