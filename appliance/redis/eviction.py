"""maxmemory: how much the data takes, and which keys go when it is too much.

What is counted are the keys and their values, not the interpreter: a limit of 10 MB means about as much data
as it would with redis-server, whose own share `_BASE` stands for. While there is no limit nothing is counted.

    used = _BASE  +  keys x average of min(size, BIG)  +  what each big value has beyond BIG, exactly

The average is a running one over random keys, looked at again after some hundred changes, so it costs no
memory per key; big values, of which a few may outweigh all others, are known one by one. With few keys the
average is exact.

Victims are found as redis-server finds them: `maxmemory-samples` random keys of each database, the best of
them into a pool that is kept between calls, the best of the pool goes (Redis's approximated LRU).
The -lfu policies choose by the counters of frequency.py in the same way.

Source:     https://redis.io/docs/latest/develop/reference/eviction/; events and counters from redis-server
            8.2.
Units:      bytes; seconds for idle times.
Invariants: the pool is sorted, best victim last; `_big` holds no key that is gone.
Not here:   telling a client: the session refuses commands that need memory when `make_room` fails.
"""

from __future__ import annotations

import sys
from bisect import insort
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.entry import NO_EXPIRY, idle_s
from appliance.redis.frequency import HIGHEST
from appliance.redis.types.collection import Collection
from appliance.redis.values import StringBuffer

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.entry import Entry
    from appliance.redis.keyspace import Database

# A key with its entry, its slot and the slot's share of those that are empty; less for a string, which as a
# rule is packed into one record with its key.
_KEY_BYTES: Final = 160
_PACKED_BYTES: Final = 88
BIG: Final = 1024
# What an empty redis-server says it uses: so that a limit of one byte refuses everything here too.
_BASE: Final = 1_000_000
_FEW_KEYS: Final = 256
_LOOK_AGAIN: Final = 256  # changes
_SAMPLE: Final = 32
_POOL_SIZE: Final = 16
# What maxmemory-eviction-tenacity gives one command in microseconds, as the server has it, and what a key
# takes of that. Fewer than 16 keys the server does not stop for.
_STEP_US: Final = 50
_USUAL_TENACITY: Final = 10
_GROWTH: Final = 1.15
_NO_BOUND: Final = 100
_KEY_US: Final = 8
_FEWEST_AT_ONCE: Final = 16
_MEMBERS_SAMPLED: Final = 5
# Subtracted from: the sooner a key expires the better a victim it is.
_FAR_FUTURE_MS: Final = 1 << 62


def size_of(key: bytes, value: object) -> int:
    """Bytes that a key and its value take, about."""
    if isinstance(value, bytes):
        return _PACKED_BYTES + len(key) + len(value)
    size = _KEY_BYTES + len(key)
    if isinstance(value, Collection):
        return size + value.memory_usage(_MEMBERS_SAMPLED)
    if isinstance(value, StringBuffer):
        return size + sys.getsizeof(value.data)
    return size + 32


def _keys_at_once(tenacity: int) -> int:
    """The keys that may go for one command, by maxmemory-eviction-tenacity."""
    if tenacity >= _NO_BOUND:
        return sys.maxsize
    if tenacity <= _USUAL_TENACITY:
        microseconds = _STEP_US * tenacity
    else:
        microseconds = int(_STEP_US * _USUAL_TENACITY * _GROWTH ** (tenacity - _USUAL_TENACITY))
    return max(microseconds // _KEY_US, _FEWEST_AT_ONCE)


class _Candidate:
    """A key that might go, and how gladly it is seen to."""

    def __init__(self, score: int, database: int, key: bytes) -> None:
        self.score = score
        self.database = database
        self.key = key

    def __lt__(self, other: _Candidate) -> bool:
        return self.score < other.score


class Memory:
    """What the data of an engine takes, and the way to make it less."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.limit: i64 = 0
        self.policy: bytes = b"noeviction"
        self.samples: i64 = 5
        self.peak: i64 = 0
        self._keys_at_once: i64 = 64
        self.is_behind = False  # too much is in use, and `make_room` has more to do
        self._average: float = 0.0
        self._changes: i64 = 0
        self._big: list[dict[bytes, int]] = [{} for _ in range(engine.settings.databases)]
        self._big_total: i64 = 0
        self._pool: list[_Candidate] = []
        self._next_database: i64 = 0

    def configure(self, limit: int, policy: bytes, samples: int, tenacity: int) -> None:
        """Follow CONFIG SET. Counting begins with the first limit: every key is looked at once."""
        if policy != self.policy:
            self._pool = []
        if limit > 0 and self.limit == 0:
            self._count_everything()
        elif limit == 0:
            for big in self._big:
                big.clear()
            self._big_total = 0
        self.limit = limit
        self.policy = policy
        self.samples = samples
        self.is_behind = False
        self._keys_at_once = _keys_at_once(tenacity)

    # Counting -------------------------------------------------------------------------------------

    def used(self) -> int:
        """Bytes in use; only while there is a limit."""
        used = _BASE + int(self._average * self._keys()) + self._big_total
        if used > self.peak:
            self.peak = used
        return used

    def _keys(self) -> int:
        keys: i64 = 0
        for database in self.engine.databases:
            keys += len(database)
        return keys

    def key_changed(self, database: i64, key: bytes) -> None:
        """A key was written or is gone; only while there is a limit."""
        entry = self.engine.databases[database].peek_raw(key)
        self._note(database, key, 0 if entry is None else size_of(key, entry.value))
        self._changes += 1
        if self._changes >= _LOOK_AGAIN or self._changes * 4 >= self._keys():
            self._look_again()

    def _note(self, database: i64, key: bytes, size: int) -> None:
        big = self._big[database]
        if size > BIG:
            self._big_total += size - BIG - big.get(key, 0)
            big[key] = size - BIG
        elif key in big:
            self._big_total -= big.pop(key)

    def database_emptied(self, database: i64) -> None:
        """All keys of a database are gone."""
        self._big_total -= sum(self._big[database].values())
        self._big[database] = {}

    def databases_swapped(self, one: i64, other: i64) -> None:
        self._big[one], self._big[other] = self._big[other], self._big[one]

    def _look_again(self) -> None:
        """Renew the average."""
        self._changes = 0
        keys = self._keys()
        if keys <= _FEW_KEYS:
            sizes = [
                min(size_of(entry.key, entry.value), BIG)
                for database in self.engine.databases
                for entry in database.entries()
            ]
            self._average = sum(sizes) / len(sizes) if sizes else 0.0
            return
        seen = 0
        total = 0
        for database in self.engine.databases:
            # Each database as often as its share of the keys.
            for _ in range((len(database) * _SAMPLE + keys - 1) // keys):
                entry = database.random_entry(self.engine.random)
                if entry is not None:
                    total += min(size_of(entry.key, entry.value), BIG)
                    seen += 1
        if seen:
            self._average += (total / seen - self._average) / 8

    def _count_everything(self) -> None:
        total = 0
        self._big_total = 0
        for database in self.engine.databases:
            self._big[database.index] = {}
            for entry in database.entries():
                size = size_of(entry.key, entry.value)
                total += min(size, BIG)
                self._note(database.index, entry.key, size)
        keys = self._keys()
        self._average = total / keys if keys else 0.0
        self._changes = 0

    # Making room ----------------------------------------------------------------------------------

    def make_room(self) -> bool:
        """Let keys go until the data is within the limit; whether it is, or will be after some more calls."""
        self.is_behind = False
        if self.used() <= self.limit:
            return True
        if self._changes > 0:
            self._look_again()
        if self.policy == b"noeviction":
            return self.used() <= self.limit
        evicted = 0
        while self.used() > self.limit:
            if evicted >= self._keys_at_once:
                # Enough for one command: housekeeping goes on.
                self.is_behind = True
                self.engine.evict_soon()
                return True
            if not self._evict_one():
                return False
            evicted += 1
            if self._keys() <= _FEW_KEYS:
                self._look_again()
        return True

    def _evict_one(self) -> bool:
        if self.policy.endswith(b"-random"):
            return self._evict_any()
        while True:
            self._fill_pool()
            if len(self._pool) == 0:
                return False
            while len(self._pool) > 0:
                best = self._pool.pop()
                database = self.engine.databases[best.database]
                entry = database.peek_raw(best.key)
                # It may have gone, or become something nobody wants to lose, since it came into the pool.
                if entry is None or (self._only_expiring and entry.expire_at_ms == NO_EXPIRY):
                    continue
                database.evict(best.key)
                return True

    @property
    def _only_expiring(self) -> bool:
        return self.policy.startswith(b"volatile-")

    def _evict_any(self) -> bool:
        """One at random, from each database in turn."""
        databases = self.engine.databases
        for _ in databases:
            database = databases[self._next_database]
            self._next_database = (self._next_database + 1) % len(databases)
            entry = self._draw(database)
            if entry is not None:
                database.evict(entry.key)
                return True
        return False

    def _draw(self, database: Database) -> Entry | None:
        random = self.engine.random
        return database.random_expiring(random) if self._only_expiring else database.random_entry(random)

    def _fill_pool(self) -> None:
        pool = self._pool
        known = {(each.database, each.key) for each in pool}
        for database in self.engine.databases:
            left = self.samples if len(database) > 0 else 0
            while left > 0:
                left -= 1
                entry = self._draw(database)
                if entry is None:
                    break
                if (database.index, entry.key) in known:
                    continue
                score = self._score(entry)
                if len(pool) >= _POOL_SIZE:
                    if score <= pool[0].score:
                        continue
                    gone = pool.pop(0)
                    known.discard((gone.database, gone.key))
                known.add((database.index, entry.key))
                insort(pool, _Candidate(score, database.index, entry.key))

    def _score(self, entry: Entry) -> int:
        """The higher the better a victim."""
        if self.policy == b"volatile-ttl":
            return _FAR_FUTURE_MS - entry.expire_at_ms
        clock = self.engine.clock
        if clock.is_counting:
            return HIGHEST - clock.frequency.counter(entry.access, clock.now_s)
        return idle_s(clock.now_s, entry.access)
