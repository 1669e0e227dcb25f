"""The keyspace: databases of keys with the times at which they expire, and the clock of a command.

A database is a `Table` of keys (hash_table.py), a dense list of the entries that expire, so that a sample of
them is drawn in O(1), and the rules of Redis about both: a key past its time is removed by the command that
finds it, or by the cron's samples; a lookup counts as a hit or a miss and touches the access clock; who hears
of what happens to keys is told (`KeyspaceObserver`).

A short string needs no Entry, so the lookups come in two kinds. `lookup_read`, `find_value`, `put` and the
like leave a packed key packed: GET and SET. `lookup_write`, `read_entry`, `find` give its Entry, unpacked,
which lasts until the command ends.

Units:      milliseconds of the wall clock for expiry (int, Unix time); the access clock as in entry.py.
Invariants: `Database.check_invariants`. The time is fixed while a command runs (`Clock`).
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.entry import CLOCK_MASK, NO_EXPIRY, Entry
from appliance.redis.frequency import Frequency
from appliance.redis.hash_table import ABSENT, FOUND, UNKNOWN, Table
from appliance.redis.notifications import (
    NOTIFY_EVICTED,
    NOTIFY_EXPIRED,
    NOTIFY_KEY_MISS,
    NOTIFY_NEW,
    NOTIFY_OVERWRITTEN,
    NOTIFY_TYPE_CHANGED,
    NOTIFY_WRITTEN,
)
from appliance.redis.types.collection import Collection
from appliance.redis.values import type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from librt.strings import BytesWriter

    from appliance.redis.hash_table import TableWalk

# Clock.touching: a key that is looked up stays as it was (CLIENT NO-TOUCH), gets the time, or is counted
# (-lfu).
TOUCH_NOT: Final = 0
TOUCH_CLOCK: Final = 1
TOUCH_COUNT: Final = 2

# A sum of as many times to live as a cron samples must stay within 64 bits.
_LONGEST_AVERAGED_MS: Final = 1 << 48
# Keys that a command packs when many that were unpacked wait for `work`.
_PACK_PER_COMMAND: Final = 1024


def _one() -> int:
    """A random number for a clock without an engine."""
    return 1


class Clock:
    """The time of the command being executed; every database of an engine shares one.

    Invariant: fixed while a command runs, so that a key cannot expire between two looks of one command.
    """

    def __init__(self) -> None:
        self.now_us: i64 = 0
        self.now_ms: i64 = 0
        self.now_s: i64 = 0
        self.keeps_expired = False  # CLIENT PAUSE: what is past its time is not seen, but stays
        # What becomes of the keys that the command being executed looks up.
        self.touching: i64 = TOUCH_CLOCK
        # An -lfu policy is on, and its rules, which are there in any case.
        self.is_counting = False
        self.frequency = Frequency(_one)

    def set_us(self, now_us: i64) -> None:
        self.now_us = now_us
        self.now_ms = now_us // 1000
        self.now_s = now_us // 1_000_000

    def made(self) -> i64:
        """The 24 bits of access of a key made now."""
        return self.frequency.made(self.now_s) if self.is_counting else self.now_s & CLOCK_MASK

    def used(self, access: i64) -> i64:
        """The 24 bits of access of a key that the command being executed uses."""
        if self.touching == TOUCH_CLOCK:
            return self.now_s & CLOCK_MASK
        return self.frequency.used(access, self.now_s) if self.touching == TOUCH_COUNT else access


class KeyspaceStats:
    """Counters of INFO's stats section that the keyspace itself keeps."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.hits: i64 = 0
        self.misses: i64 = 0
        self.expired_keys: i64 = 0
        self.expired_lazily: i64 = 0
        self.evicted_keys: i64 = 0
        self.expired_fields: i64 = 0


class KeyspaceObserver:
    """Who hears of what happens to keys; this one ignores it. The engine's passes it on.

    Values of any size are handed to `released` when their key lets go of them: letting the last reference to
    a collection of a million elements go in one piece would stall everybody.
    """

    def __init__(self) -> None:
        # Classes of events (notifications.py) that anybody wants to hear of; 0 for none.
        self.event_classes: i64 = 0

    def event(self, database: int, event_class: i64, name: bytes, key: bytes) -> None:
        """A keyspace event of a class in `event_classes`."""

    def removed(self, database: int, key: bytes) -> None:
        """A key that expired, or had to make room, has been removed, by no command."""

    def released(self, value: object) -> None:
        """Nothing refers to this Collection any more."""

    def emptied(self, table: Table, expiring: list[Entry]) -> None:
        """Nothing refers to this table of a database and its list of keys that expire any more."""


class Database:
    """One numbered database: keys, values, expire times.

    Every lookup takes the time from the shared clock and removes the key it finds expired.
    """

    def __init__(
        self,
        index: int,
        secret: bytes,
        clock: Clock,
        stats: KeyspaceStats,
        observer: KeyspaceObserver | None = None,
    ) -> None:
        self.index = index
        self._secret = secret
        self._clock = clock
        self._stats = stats
        self._observer: KeyspaceObserver = KeyspaceObserver() if observer is None else observer
        self._table = Table(secret)
        # Entries with an expire time, dense, so that sampling is O(1); Entry.expire_index is the place.
        self._expiring: list[Entry] = []
        self.average_ttl_ms: i64 = 0
        self._found_us: i64 = -1  # the time of the command that last asked for an entry

    def __len__(self) -> int:
        return len(self._table)

    @property
    def expiring_count(self) -> int:
        return len(self._expiring)

    # Lookup ---------------------------------------------------------------------------------------

    def find(self, key: bytes) -> Entry | None:
        """The live entry of key, or None. Touches neither access time nor the hit counters."""
        table = self._table
        if self._found_us != self._clock.now_us:
            # Another command's time: nobody holds the entries that were unpacked before.
            self._found_us = self._clock.now_us
            if table.has_many_unpacked():
                table.pack(_PACK_PER_COMMAND)
        if table.walk is not None:
            table.walk.changing(key)
        entry = table.find(key)
        if entry is not None and entry.expire_at_ms != NO_EXPIRY and entry.expire_at_ms < self._clock.now_ms:
            self._expire(entry)
            self._stats.expired_lazily += 1
            return None
        return entry

    def _found(self, key: bytes) -> object:
        """As `find`, without unpacking: a value, an Entry, or None."""
        found = self._table.read(key, -1)
        if isinstance(found, Entry) and self.is_expired(found):
            self._expire(found)
            self._stats.expired_lazily += 1
            return None
        return found

    def find_value(self, key: bytes) -> object:
        """The live value of key, or None. Touches neither access time nor the hit counters."""
        found = self._found(key)
        return found.value if isinstance(found, Entry) else found

    def find_expire_time(self, key: bytes) -> i64:
        """As `expire_time`, leaving the hit counters alone."""
        found = self._found(key)
        if isinstance(found, Entry):
            return found.expire_at_ms
        return -2 if found is None else NO_EXPIRY

    def peek_value(self, key: bytes) -> object:
        """As lookup_read, for a command that asks about the key: the access time stays."""
        value = self.find_value(key)
        if value is None:
            self._missed(key)
        else:
            self._stats.hits += 1
        return value

    def expire_time(self, key: bytes) -> i64:
        """When key expires, in milliseconds; -1 (NO_EXPIRY): never; -2: there is no such key.

        Counts a hit or a miss; the access time stays.
        """
        when = self.find_expire_time(key)
        if when == -2:
            self._missed(key)
        else:
            self._stats.hits += 1
        return when

    def peek_raw(self, key: bytes) -> Entry | None:
        """The entry of key, expired or not, or None; nothing is removed, touched or counted."""
        return self._table.find(key)

    def _touch(self, entry: Entry) -> None:
        entry.access = self._clock.used(entry.access)

    def lookup_read(self, key: bytes) -> object:
        """The value of key for a command that reads, or None; counts a hit or a miss."""
        return self._lookup(key, False)

    def lookup_reply(self, key: bytes) -> object:
        """As lookup_read; a string may come as a `Bulk`, which is cheaper where it is only to be sent."""
        return self._lookup(key, True)

    def _lookup(self, key: bytes, as_reply: bool) -> object:
        clock = self._clock
        access_clock: i64 = -1
        if clock.touching == TOUCH_CLOCK:
            access_clock = clock.now_s & CLOCK_MASK
        elif clock.touching == TOUCH_COUNT:
            self._count_use(key)
        found = self._table.read(key, access_clock, as_reply)
        if isinstance(found, Entry):
            if found.expire_at_ms != NO_EXPIRY and found.expire_at_ms < clock.now_ms:
                self._expire(found)
                self._stats.expired_lazily += 1
                self._missed(key)
                return None
            self._stats.hits += 1
            if access_clock >= 0:
                found.access = access_clock
            walk = self._table.walk
            if walk is not None:
                walk.reading(key, found.value)
            return found.value
        if found is None:
            self._missed(key)
            return None
        self._stats.hits += 1
        return found

    def _count_use(self, key: bytes) -> None:
        access: i64 = self._table.access_clock(key)
        if access >= 0:
            self._table.set_access_clock(key, self._clock.used(access))

    def reply_part(self, data: bytes, start: i64, length: i64, out: BytesWriter) -> i64:
        """GET of the key data[start : start + length]: as `Table.reply_part`, counting a hit or a miss."""
        clock = self._clock
        access_clock: i64 = -1
        if clock.touching == TOUCH_CLOCK:
            access_clock = clock.now_s & CLOCK_MASK
        elif clock.touching == TOUCH_COUNT:
            return UNKNOWN
        found = self._table.reply_part(data, start, length, access_clock, out)
        if found == FOUND:
            self._stats.hits += 1
        elif found == ABSENT:
            if self._observer.event_classes & NOTIFY_KEY_MISS:
                return UNKNOWN
            self._stats.misses += 1
        return found

    def lookup_write(self, key: bytes) -> Entry | None:
        """The entry of key for a command that will change it, or None."""
        entry = self.find(key)
        if entry is not None:
            self._touch(entry)
        return entry

    def read_entry(self, key: bytes) -> Entry | None:
        """As lookup_read, giving the entry."""
        entry = self.find(key)
        if entry is None:
            self._missed(key)
            return None
        self._stats.hits += 1
        self._touch(entry)
        return entry

    def peek(self, key: bytes) -> Entry | None:
        """As read_entry, for a command that asks about the key (TTL, TYPE): the access time stays."""
        entry = self.find(key)
        if entry is None:
            self._missed(key)
            return None
        self._stats.hits += 1
        return entry

    def _missed(self, key: bytes) -> None:
        self._stats.misses += 1
        if self._observer.event_classes & NOTIFY_KEY_MISS:
            self._observer.event(self.index, NOTIFY_KEY_MISS, b"keymiss", key)

    # Change ---------------------------------------------------------------------------------------

    def set_value(self, key: bytes, value: object) -> Entry:
        """Give key a value whether or not it had one; an expire time it had is gone."""
        entry = self.find(key)
        if entry is None:
            return self.add(key, value)
        clock = self._clock
        entry.access = clock.used(entry.access) if clock.is_counting else clock.made()
        self.overwrite(entry, value)
        return entry

    def overwrite(self, entry: Entry, value: object) -> None:
        """Give the key of an entry that was looked up another value; an expire time it had is gone."""
        if entry.expire_at_ms != NO_EXPIRY:
            self.clear_expiry(entry)
        if isinstance(entry.value, bytes) and self._observer.event_classes == 0:
            entry.value = value
        else:
            old = entry.value
            entry.value = value
            self._replaced(entry.key, old, value)
        self._table.pack_later(entry)

    def put(self, key: bytes, value: object) -> None:
        """As set_value, in the smallest form: for whoever does not need the entry."""
        if self._observer.event_classes != 0:
            self.set_value(key, value)
            return
        walk = self._table.walk
        if walk is not None:
            walk.changing(key)
        clock = self._clock
        access = clock.now_s & CLOCK_MASK
        if clock.is_counting:
            access = self._put_access(key)
        previous = self._table.put(key, value, access)
        if previous is not None:
            old = previous.value
            if not isinstance(old, bytes) and isinstance(old, Collection):
                self._observer.released(old)
            if previous.expire_at_ms != NO_EXPIRY:
                is_expired = previous.expire_at_ms < self._clock.now_ms
                self._forget_expiry(previous)
                if is_expired:
                    self._stats.expired_lazily += 1
                    self._tell_expired(key)

    def put_part(self, data: bytes, start: i64, length: i64, end: i64) -> bool:
        """`put` as `Table.put_part`; False also when somebody wants to hear of it."""
        clock = self._clock
        table = self._table
        if self._observer.event_classes != 0 or clock.is_counting or table.walk is not None:
            return False
        return table.put_part(data, start, length, end, clock.now_s & CLOCK_MASK)

    def replace_value(self, entry: Entry, value: object) -> None:
        """Give the key of an entry another value; its expire time stays."""
        old = entry.value
        entry.value = value
        if not self._clock.is_counting:  # whoever looked the key up has counted that
            entry.access = self._clock.made()
        self._replaced(entry.key, old, value)

    def _put_access(self, key: bytes) -> i64:
        """While uses are counted: the access of a key that gets another value, or is made."""
        access: i64 = self._table.access_clock(key)
        if access < 0 or self._found(key) is None:
            return self._clock.made()
        return self._clock.used(access)

    def _replaced(self, key: bytes, old: object, new: object) -> None:
        if isinstance(old, Collection):
            self._observer.released(old)
        if self._observer.event_classes & NOTIFY_WRITTEN:
            self.tell_overwritten(key, old, new)

    def tell_overwritten(self, key: bytes, old: object, new: object) -> None:
        """The events of a key whose value gave way to another one as a whole."""
        observer = self._observer
        if observer.event_classes & NOTIFY_OVERWRITTEN:
            observer.event(self.index, NOTIFY_OVERWRITTEN, b"overwritten", key)
        if observer.event_classes & NOTIFY_TYPE_CHANGED and type_name(old) != type_name(new):
            observer.event(self.index, NOTIFY_TYPE_CHANGED, b"type_changed", key)

    def add(self, key: bytes, value: object) -> Entry:
        """Insert a key known to be absent."""
        walk = self._table.walk
        if walk is not None:
            walk.changing(key)
        entry = self._table.insert(key, value)
        entry.access = self._clock.made()
        if self._observer.event_classes & NOTIFY_NEW:
            self._observer.event(self.index, NOTIFY_NEW, b"new", key)
        self._table.pack_later(entry)
        return entry

    def delete(self, key: bytes) -> bool:
        """Remove the key; whether it was there (and alive)."""
        walk = self._table.walk
        if walk is not None:
            walk.changing(key)
        record = self._table.take(key)
        if isinstance(record, Entry):
            value = record.value
            if not isinstance(value, bytes) and isinstance(value, Collection):
                self._observer.released(value)
            if record.expire_at_ms != NO_EXPIRY:
                expired = record.expire_at_ms < self._clock.now_ms
                self._forget_expiry(record)
                if expired:
                    self._tell_expired(key)
                    return False
            return True
        return record is not None

    def take(self, key: bytes) -> Entry | None:
        """Remove a live key and give its entry, whose value goes on to live under another key.

        The entry's expire time is still to be read from it.
        """
        entry = self.find(key)
        if entry is None:
            return None
        expire_at_ms = entry.expire_at_ms
        self._table.take(key)
        self._forget_expiry(entry)
        entry.expire_at_ms = expire_at_ms
        return entry

    def set_expiry(self, entry: Entry, expire_at_ms: int) -> None:
        if entry.expire_index < 0:
            entry.expire_index = len(self._expiring)
            self._expiring.append(entry)
        entry.expire_at_ms = expire_at_ms

    def clear_expiry(self, entry: Entry) -> None:
        """The key lives for ever from now on."""
        self._forget_expiry(entry)
        self._table.pack_later(entry)

    def _forget_expiry(self, entry: Entry) -> None:
        at = entry.expire_index
        if at < 0:
            return
        last = self._expiring.pop()
        if last is not entry:
            self._expiring[at] = last
            last.expire_index = at
        entry.expire_index = -1
        entry.expire_at_ms = NO_EXPIRY

    def clear(self) -> int:
        """Remove everything; how many keys there were. The observer lets go of the table."""
        count = len(self._table)
        if count > 0:
            self._observer.emptied(self._table, self._expiring)
            self._table = Table(self._secret)
            self._expiring = []
        self.average_ttl_ms = 0
        return count

    def swap_with(self, other: Database) -> None:
        """Exchange all keys with another database; sessions keep the number they selected."""
        self._table, other._table = other._table, self._table
        self._expiring, other._expiring = other._expiring, self._expiring
        self.average_ttl_ms, other.average_ttl_ms = other.average_ttl_ms, self.average_ttl_ms

    # Expiry ---------------------------------------------------------------------------------------

    def _expire(self, entry: Entry) -> None:
        if self._clock.keeps_expired:
            return
        walk = self._table.walk
        if walk is not None:
            walk.changing(entry.key)
        self._forget_expiry(entry)
        self._table.take(entry.key)
        value = entry.value
        if not isinstance(value, bytes) and isinstance(value, Collection):
            self._observer.released(value)
        self._tell_expired(entry.key)

    def _tell_expired(self, key: bytes) -> None:
        self._stats.expired_keys += 1
        if self._observer.event_classes & NOTIFY_EXPIRED:
            self._observer.event(self.index, NOTIFY_EXPIRED, b"expired", key)
        self._observer.removed(self.index, key)

    def expire_sample(self, count: int, random: Callable[[], int]) -> tuple[int, int]:
        """Look at up to `count` random keys with an expire time and remove the expired ones.

        Returns:
            How many keys were looked at, and how many of them had expired.
        """
        now_ms = self._clock.now_ms
        looked: i64 = 0
        expired: i64 = 0
        ttl_sum: i64 = 0
        wanted: i64 = min(count, len(self._expiring))
        while looked < wanted and len(self._expiring) > 0:
            drawn: i64 = random()
            total: i64 = len(self._expiring)
            entry = self._expiring[drawn % total]
            looked += 1
            if entry.expire_at_ms < now_ms:
                self._expire(entry)
                expired += 1
            else:
                ttl_sum += min(entry.expire_at_ms - now_ms, _LONGEST_AVERAGED_MS)
        if looked > expired:
            average = ttl_sum // (looked - expired)
            # The server's running average: 2 % of each new sample.
            if self.average_ttl_ms == 0:
                self.average_ttl_ms = average
            else:
                self.average_ttl_ms = (self.average_ttl_ms * 49 + average) // 50
        return looked, expired

    # Everything -----------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All entries, expired ones not yet removed included, in no order."""
        return self._table.entries()

    def random_entry(self, random: Callable[[], int]) -> Entry | None:
        """An entry chosen uniformly, expired or not, or None when there is none."""
        return self._table.random_entry(random)

    def random_expiring(self, random: Callable[[], int]) -> Entry | None:
        """An entry with an expire time chosen uniformly, or None when there is none."""
        total: i64 = len(self._expiring)
        if total == 0:
            return None
        drawn: i64 = random()
        return self._expiring[drawn % total]

    def evict(self, key: bytes) -> None:
        """Remove a key to make room."""
        walk = self._table.walk
        if walk is not None:
            walk.changing(key)
        entry = self._table.remove(key)
        if entry is None:
            return
        self._forget_expiry(entry)
        value = entry.value
        if not isinstance(value, bytes) and isinstance(value, Collection):
            self._observer.released(value)
        self._stats.evicted_keys += 1
        self._observer.removed(self.index, key)
        if self._observer.event_classes & NOTIFY_EVICTED:
            self._observer.event(self.index, NOTIFY_EVICTED, b"evicted", key)

    def random_key(self, random: Callable[[], int]) -> bytes | None:
        """A live key chosen uniformly, or None when there is none."""
        while True:
            entry = self._table.random_entry(random)
            if entry is None:
                return None
            if entry.expire_at_ms == NO_EXPIRY or entry.expire_at_ms >= self._clock.now_ms:
                return entry.key
            if self._clock.keeps_expired:
                return entry.key  # there may be no other
            self._expire(entry)

    def begin_walk(self, walk: TableWalk | None) -> Table:
        """Let somebody know of keys before they change, or nobody any more; the table as it is now.

        The walk goes with the table when the database is emptied or swapped.
        """
        self._table.walk = walk
        return self._table

    def scan(self, cursor: int, out: list[Entry], without_packed: bool = False) -> int:
        """One step of a SCAN: see Table.scan. Entries may have expired."""
        return self._table.scan(cursor, out, without_packed)

    def is_expired(self, entry: Entry) -> bool:
        return entry.expire_at_ms != NO_EXPIRY and entry.expire_at_ms < self._clock.now_ms

    def live_keys(self) -> list[bytes]:
        """All live keys, in no order."""
        return self._table.live_keys(self._clock.now_ms)

    def access_clock(self, key: bytes) -> int:
        """The access clock of key, -1 when it is not there."""
        return self._table.access_clock(key)

    def set_access_clock(self, key: bytes, clock: i64) -> None:
        """Set the access clock of key, 24 bits, if it is there."""
        self._table.set_access_clock(key, clock)

    def work(self, slots: int) -> bool:
        """A bounded piece of what can wait: resizing and packing.

        To be called between commands only, since it packs entries.

        Returns:
            Whether there is more to do.
        """
        self._found_us = self._clock.now_us
        return self._table.work(slots)

    @property
    def has_work(self) -> bool:
        """Whether `work` would do anything."""
        return self._table.has_work()

    @property
    def is_resizing(self) -> bool:
        return self._table.is_resizing

    def slots_allocated(self) -> int:
        return self._table.slots_allocated()

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        self._table.check_invariants()
        with_expiry = 0
        for entry in self._table.entries():
            assert (entry.expire_at_ms == NO_EXPIRY) == (entry.expire_index < 0)
            if entry.expire_index >= 0:
                with_expiry += 1
                assert self._expiring[entry.expire_index] is entry
        assert with_expiry == len(self._expiring)
