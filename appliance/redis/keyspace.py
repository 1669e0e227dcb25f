"""The keyspace: a Robin Hood hash table per database, and the times at which keys expire.

One flat list of entries, open addressing, linear probing. An entry sits at or behind its home slot
`hash & mask`, and along a run the homes never decrease; an insertion takes the place of the first entry that
is nearer to its home (Celis, "Robin Hood Hashing", 1986) and a deletion shifts the rest of the run back by
one, so there are no tombstones and a lookup may stop at the first entry nearer to its home than the key
would be.

A second flat list with the hashes alone would save cache misses (random GETs among a million keys took 12 %
less time), but a `librt.vecs.vec` of the next size is cleared when it is made: 8 ms at that size, in one
write. So the hash is kept in the entry, and a list of entries grows without such a pause.

Resizing is incremental. The list of the next size is grown by a bounded number of slots per write
(PREPARING), then every write moves a bounded number of slots over (MOVING); the old list shrinks as it
drains, so neither allocation nor release of a large list ever happens at once. While moving, new entries go
to the new list and lookups try both.

The old list is drained downwards, from the end of a run: its last entry can leave without shifting any other.

SCAN walks *home slots* in reversed-binary order (Pieter Noordhuis's cursor in Redis): a cursor is a home
slot with its bits carried from the top down, so growing and shrinking split and merge home slots the walk
has either wholly passed or wholly before it. All entries of a home slot lie in one run, in order, so they
are found in O(run).

Hash:       keyed. Python's hash of bytes is SipHash-1-3 under a key drawn per process, unless
            PYTHONHASHSEED pins it; so its halves go through a multiply-add by two secret odd numbers of
            this table (a universal family), and flooding a slot needs full 64-bit collisions of SipHash
            instead of equal low bits.
Units:      milliseconds of the wall clock for expiry (int, Unix time), seconds for the access clock.
Invariants: `Table.check_invariants`, `Database.check_invariants`. A key is bytes and never changes.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from appliance.redis.notifications import (
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

MIN_SLOTS: Final = 16
# Up to here a list is allocated in one go.
_AT_ONCE: Final = 1024
# Slots prepared per write: growing starts at 5/8 full; 2n slots are ready after n/32 writes, at 21/32.
_PREPARE_PER_WRITE: Final = 64
# Old slots visited per write while moving: n writes / 16, by when the new list is less than half full.
_MOVE_PER_WRITE: Final = 16

_PREPARED: Final[list[Entry | None]] = [None] * _PREPARE_PER_WRITE

NO_EXPIRY: Final = -1
# A sum of as many times to live as a cron samples must stay within 64 bits.
_LONGEST_AVERAGED_MS: Final = 1 << 48


@mypyc_attr(acyclic=True)
class Entry:
    """One key with its value. Never hold one across commands: the key may have gone."""

    def __init__(self, key: bytes, value: object, hash_: i64) -> None:
        self.key = key
        self.value = value
        self.hash: i64 = hash_
        self.expire_at_ms: i64 = NO_EXPIRY
        self.expire_index: i64 = -1  # place in Database._expiring
        self.accessed_s: i64 = 0

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {self.value!r})"


class Table:
    """The hash table alone: no expiry, no clock."""

    def __init__(self, secret: bytes) -> None:
        """An empty table.

        Args:
            secret: at least 8 random bytes; the key of the hash.
        """
        # 30 bits each: products with 32 bits of a hash, and their sum, stay within a signed 64-bit integer.
        self._secret_low: i64 = (int.from_bytes(secret[0:4], "little") & 0x3FFF_FFFF) | 1
        self._secret_high: i64 = (int.from_bytes(secret[4:8], "little") & 0x3FFF_FFFF) | 1
        self._slots: list[Entry | None] = [None] * MIN_SLOTS
        self._mask: i64 = MIN_SLOTS - 1
        self._used: i64 = 0  # entries in _slots
        # While moving: the list being drained. It was _old_mask + 1 long and loses its tail.
        self._is_moving = False
        self._old: list[Entry | None] = []
        self._old_mask: i64 = 0
        self._old_used: i64 = 0
        self._head: i64 = -1  # slots _head, _head - 1 … 0 of the old list are drained first
        # While preparing: the list to come.
        self._next_size: i64 = 0
        self._next: list[Entry | None] = []

    def __len__(self) -> int:
        return self._used + self._old_used

    def hash_of(self, key: bytes) -> i64:
        """32 bits, keyed."""
        h: i64 = hash(key)
        mixed = (h & 0xFFFF_FFFF) * self._secret_low + ((h >> 32) & 0xFFFF_FFFF) * self._secret_high
        return (mixed >> 30) & 0xFFFF_FFFF

    def find(self, key: bytes) -> Entry | None:
        h = self.hash_of(key)
        slots = self._slots
        mask = self._mask
        at = h & mask
        distance: i64 = 0
        while True:
            entry = slots[at]
            if entry is None:
                break
            if entry.hash == h and entry.key == key:
                return entry
            if (at - entry.hash) & mask < distance:
                break
            at = (at + 1) & mask
            distance += 1
        if self._is_moving:
            at = self._find_old(key, h)
            if at >= 0:
                return self._old[at]
        return None

    def _find_old(self, key: bytes, h: i64) -> i64:
        """The slot of the old list that holds key, or -1."""
        old = self._old
        mask = self._old_mask
        length: i64 = len(old)
        at = h & mask
        distance: i64 = 0
        while at < length:
            entry = old[at]
            if entry is None:
                break
            if entry.hash == h and entry.key == key:
                return at
            if (at - entry.hash) & mask < distance:
                break
            # Once the tail is gone the run cannot go on at 0: slots 0 … _head were drained before it.
            at = (at + 1) & mask if length > mask else at + 1
            distance += 1
        return -1

    def insert(self, key: bytes, value: object) -> Entry:
        """Add a key that is not in the table."""
        entry = Entry(key, value, self.hash_of(key))
        size = self._mask + 1
        used = self._used
        if self._is_moving or self._next_size != 0:
            self._work(_MOVE_PER_WRITE)
            # Never seen, by the arithmetic at the constants; the table stays correct if it is wrong.
            while self._is_moving and (self._used + 1) * 8 > (self._mask + 1) * 7:
                self._move(self._mask + 1)
            if (self._used + 1) * 8 > (self._mask + 1) * 7:
                self._prepare((self._mask + 1) * 2)
                while self._next_size != 0:
                    self._work(_MOVE_PER_WRITE)
        elif (used + 1) * 8 > size * 5:
            self._prepare(size * 2)
        self._place(entry)
        return entry

    def _place(self, entry: Entry) -> None:
        slots = self._slots
        mask = self._mask
        at = entry.hash & mask
        distance: i64 = 0
        while True:
            other = slots[at]
            if other is None:
                slots[at] = entry
                self._used += 1
                return
            if (at - other.hash) & mask < distance:
                break
            at = (at + 1) & mask
            distance += 1
        # The rest of the run moves back by one.
        carried: Entry = entry
        while True:
            other = slots[at]
            slots[at] = carried
            if other is None:
                break
            carried = other
            at = (at + 1) & mask
        self._used += 1

    def remove(self, key: bytes) -> Entry | None:
        """Take the key out; its entry, or None when there was none."""
        h = self.hash_of(key)
        slots = self._slots
        mask = self._mask
        at = h & mask
        distance: i64 = 0
        removed: Entry | None = None
        while True:
            entry = slots[at]
            if entry is None:
                break
            if entry.hash == h and entry.key == key:
                removed = entry
                break
            if (at - entry.hash) & mask < distance:
                break
            at = (at + 1) & mask
            distance += 1
        if removed is not None:
            self._close_gap(at)
            self._used -= 1
        elif self._is_moving:
            at = self._find_old(key, h)
            if at < 0:
                return None
            removed = self._old[at]
            self._close_old_gap(at)
            self._old_used -= 1
        else:
            return None
        if self._is_moving or self._next_size != 0:
            self._work(_MOVE_PER_WRITE)
        else:
            self._shrink_if_sparse()
        return removed

    def _close_gap(self, at: i64) -> None:
        slots = self._slots
        mask = self._mask
        while True:
            following = (at + 1) & mask
            entry = slots[following]
            if entry is None or (following - entry.hash) & mask == 0:
                slots[at] = None
                return
            slots[at] = entry
            at = following

    def _close_old_gap(self, at: i64) -> None:
        old = self._old
        mask = self._old_mask
        length: i64 = len(old)
        while True:
            following = (at + 1) & mask if length > mask else at + 1
            if following >= length:
                old[at] = None
                return
            entry = old[following]
            if entry is None or (following - entry.hash) & mask == 0:
                old[at] = None
                return
            old[at] = entry
            at = following

    # Resizing -------------------------------------------------------------------------------------

    @property
    def is_resizing(self) -> bool:
        return self._is_moving or self._next_size != 0

    def work(self, slots: int) -> bool:
        """Do a bounded piece of a resize, begun here if the table is sparse; whether there is more to do."""
        if self._next_size == 0 and not self._is_moving:
            self._shrink_if_sparse()
        if self._next_size != 0 or self._is_moving:
            left: i64 = slots
            while left > 0 and self._next_size != 0:
                self._work(_MOVE_PER_WRITE)
                left -= _PREPARE_PER_WRITE
            if left > 0 and self._is_moving:
                self._move(left)
        return self._is_moving or self._next_size != 0

    def _work(self, slots: i64) -> None:
        if self._next_size != 0:
            self._next.extend(_PREPARED)
            if len(self._next) >= self._next_size:
                self._begin_move()
        elif self._is_moving:
            self._move(slots)

    def _shrink_if_sparse(self) -> None:
        """Begin to shrink a table less than 1/8 full, to a quarter at most.

        A larger step could let the new list fill up before the old one is drained; as it is, at most
        1/8 + 1/16 of the old size comes into a new list of 1/4. What is still too large shrinks again.
        """
        current = self._mask + 1
        if current <= MIN_SLOTS or self._used * 8 >= current:
            return
        size: i64 = MIN_SLOTS
        while size < self._used * 2 or size * 4 < current:
            size *= 2
        self._prepare(size)

    def _prepare(self, size: i64) -> None:
        self._next_size = size
        if size <= _AT_ONCE:
            self._next = [None] * size
            self._begin_move()
        else:
            self._next = []

    def _begin_move(self) -> None:
        size = self._next_size
        incoming = self._next
        self._next_size = 0
        self._next = []
        self._old = self._slots
        self._old_mask = self._mask
        self._old_used = self._used
        self._slots = incoming
        self._mask = size - 1
        self._used = 0
        self._is_moving = True
        # A run that wraps round the end goes on in slots 0 … _head.
        old = self._old
        mask = self._old_mask
        head: i64 = -1
        while head < mask:
            entry = old[head + 1]
            if entry is None or (head + 1 - entry.hash) & mask == 0:
                break
            head += 1
        self._head = head

    def _move(self, slots: i64) -> None:
        """Drain up to `slots` slots of the old list into the new one."""
        old = self._old
        left = slots
        while left > 0 and self._head >= 0:
            entry = old[self._head]
            if entry is not None:
                old[self._head] = None
                self._old_used -= 1
                self._place(entry)
            self._head -= 1
            left -= 1
        while left > 0 and self._old_used > 0:
            entry = old.pop()
            if entry is not None:
                self._old_used -= 1
                self._place(entry)
            left -= 1
        if self._old_used == 0:
            # What is left of the list is empty: give its tail back in pieces too.
            keep: i64 = len(old) - left * 64
            if keep > 0:
                del old[keep:]
            else:
                self._old = []
                self._is_moving = False
                self._head = -1

    # Looking at everything ------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All entries, in no order."""
        found = [entry for entry in self._slots if entry is not None]
        found.extend([entry for entry in self._old if entry is not None])
        return found

    def random_entry(self, random: Callable[[], int]) -> Entry | None:
        """An entry chosen uniformly: slots are drawn until one is taken, about twice on average.

        Args:
            random: gives a non-negative int below 2**31 or larger at each call.
        """
        if self._used + self._old_used == 0:
            return None
        size: i64 = len(self._slots)
        total: i64 = size + len(self._old)
        while True:
            drawn: i64 = random()
            at = drawn % total
            entry = self._slots[at] if at < size else self._old[at - size]
            if entry is not None:
                return entry

    def scan(self, cursor: int, out: list[Entry]) -> int:
        """Append the entries of one step of a SCAN to out; the next cursor, 0 at the end.

        An entry that is in the table from the step with cursor 0 to the step that gives 0 is seen at
        least once.
        """
        state: i64 = cursor & 0xFFFF_FFFF
        mask = self._mask
        if not self._is_moving:
            self._emit_home(state & mask, out)
            return _advance(state & mask, mask)
        small = mask
        large = self._old_mask
        small_is_new = mask <= self._old_mask
        if not small_is_new:
            small = self._old_mask
            large = mask
        if small_is_new:
            self._emit_home(state & small, out)
        else:
            self._emit_old_home(state & small, out)
        state &= large
        # Every home of the larger list that the smaller one folds into the one just seen.
        while True:
            if small_is_new:
                self._emit_old_home(state, out)
            else:
                self._emit_home(state, out)
            state = _advance(state, large)
            if state & (small ^ large) == 0:
                return state

    def _emit_home(self, home: i64, out: list[Entry]) -> None:
        slots = self._slots
        mask = self._mask
        at = home
        distance: i64 = 0
        while True:
            entry = slots[at]
            if entry is None:
                return
            actual = (at - entry.hash) & mask
            if actual < distance:
                return
            if actual == distance:
                out.append(entry)
            at = (at + 1) & mask
            distance += 1

    def _emit_old_home(self, home: i64, out: list[Entry]) -> None:
        old = self._old
        mask = self._old_mask
        length: i64 = len(old)
        at = home
        distance: i64 = 0
        while at < length:
            entry = old[at]
            if entry is None:
                return
            actual = (at - entry.hash) & mask
            if actual < distance:
                return
            if actual == distance:
                out.append(entry)
            at = (at + 1) & mask if length > mask else at + 1
            distance += 1

    def dismantle(self, budget: int, leaving: Callable[[object], None]) -> int:
        """Drop up to about `budget` slots of a table that nobody uses any more.

        Args:
            budget: slots to look at.
            leaving: called with each value that is no string; it may be big itself.

        Returns:
            Slots left.
        """
        left: i64 = budget
        for slots in (self._slots, self._old):
            while left > 0 and len(slots) > 0:
                entry = slots.pop()
                left -= 1
                if entry is not None and not isinstance(entry.value, bytes):
                    leaving(entry.value)
        return len(self._slots) + len(self._old)

    def release(self, slots: int) -> int:
        """Let go of up to `slots` slots of a table that nobody uses any more; how many are left."""
        self._next = []
        self._next_size = 0
        left = slots - min(slots, len(self._old))
        del self._old[-slots:]
        if left > 0:
            del self._slots[-left:]
        return len(self._slots) + len(self._old)

    def slots_allocated(self) -> int:
        """Slots of all lists, for INFO and tests."""
        return len(self._slots) + len(self._old) + len(self._next)

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        mask = self._mask
        assert len(self._slots) == mask + 1
        assert (mask + 1) & mask == 0
        used: i64 = 0
        for index in range(len(self._slots)):
            entry = self._slots[index]
            if entry is None:
                continue
            used += 1
            at: i64 = index
            distance = (at - entry.hash) & mask
            previous = self._slots[(at - 1) & mask]
            if distance > 0:
                assert previous is not None, "a gap between an entry and its home"
                assert (at - 1 - previous.hash) & mask >= distance - 1, "homes decrease along a run"
            assert self.find(entry.key) is entry
        assert used == self._used
        old_used: i64 = 0
        for entry in self._old:
            if entry is not None:
                old_used += 1
                assert self.find(entry.key) is entry
        assert old_used == self._old_used
        assert self._is_moving or (self._old_used == 0 and len(self._old) == 0)
        assert not (self._is_moving and self._next_size != 0)


def _advance(state: i64, mask: i64) -> i64:
    """Add one to the bits of `state` under `mask`, carrying from the highest bit down."""
    bit = (mask + 1) >> 1
    while state & bit != 0:
        state ^= bit
        bit >>= 1
    return state | bit


class Clock:
    """The time of the command being executed; every database of an engine shares one.

    Invariant: fixed while a command runs, so that a key cannot expire between two looks of one command.
    """

    def __init__(self) -> None:
        self.now_us: i64 = 0
        self.now_ms: i64 = 0
        self.now_s: i64 = 0
        # CLIENT NO-TOUCH: the command being executed does not count as use of the keys it looks up.
        self.is_touching = True

    def set_us(self, now_us: i64) -> None:
        self.now_us = now_us
        self.now_ms = now_us // 1000
        self.now_s = now_us // 1_000_000


class KeyspaceStats:
    """Counters of INFO's stats section that the keyspace itself keeps."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.hits: i64 = 0
        self.misses: i64 = 0
        self.expired_keys: i64 = 0
        self.expired_lazily: i64 = 0
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
        """A key that expired has been removed, by no command."""

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

    def __len__(self) -> int:
        return len(self._table)

    @property
    def expiring_count(self) -> int:
        return len(self._expiring)

    # Lookup ---------------------------------------------------------------------------------------

    def find(self, key: bytes) -> Entry | None:
        """The live entry of key, or None. Touches neither access time nor the hit counters."""
        entry = self._table.find(key)
        if entry is not None and entry.expire_at_ms != NO_EXPIRY and entry.expire_at_ms < self._clock.now_ms:
            self._expire(entry)
            self._stats.expired_lazily += 1
            return None
        return entry

    def peek_raw(self, key: bytes) -> Entry | None:
        """The entry of key, expired or not, or None; nothing is removed, touched or counted."""
        return self._table.find(key)

    def _touch(self, entry: Entry) -> None:
        if self._clock.is_touching:
            entry.accessed_s = self._clock.now_s

    def lookup_read(self, key: bytes) -> object:
        """The value of key for a command that reads, or None; counts a hit or a miss."""
        entry = self.find(key)
        if entry is None:
            self._missed(key)
            return None
        self._stats.hits += 1
        self._touch(entry)
        return entry.value

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
        entry.accessed_s = self._clock.now_s
        if entry.expire_at_ms != NO_EXPIRY:
            self.clear_expiry(entry)
        if isinstance(entry.value, bytes) and self._observer.event_classes == 0:
            entry.value = value
        else:
            old = entry.value
            entry.value = value
            self._replaced(key, old, value)
        return entry

    def replace_value(self, entry: Entry, value: object) -> None:
        """Give the key of an entry another value; its expire time stays."""
        old = entry.value
        entry.value = value
        entry.accessed_s = self._clock.now_s
        self._replaced(entry.key, old, value)

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
        entry = self._table.insert(key, value)
        entry.accessed_s = self._clock.now_s
        if self._observer.event_classes & NOTIFY_NEW:
            self._observer.event(self.index, NOTIFY_NEW, b"new", key)
        return entry

    def delete(self, key: bytes) -> bool:
        """Remove the key; whether it was there (and alive)."""
        entry = self._table.remove(key)
        if entry is None:
            return False
        value = entry.value
        if not isinstance(value, bytes) and isinstance(value, Collection):
            self._observer.released(value)
        if entry.expire_at_ms != NO_EXPIRY:
            expired = entry.expire_at_ms < self._clock.now_ms
            self.clear_expiry(entry)
            if expired:
                self._tell_expired(key)
                return False
        return True

    def take(self, key: bytes) -> Entry | None:
        """Remove a live key and give its entry, whose value goes on to live under another key.

        The entry's expire time is still to be read from it.
        """
        entry = self.find(key)
        if entry is None:
            return None
        expire_at_ms = entry.expire_at_ms
        self._table.remove(key)
        self.clear_expiry(entry)
        entry.expire_at_ms = expire_at_ms
        return entry

    def set_expiry(self, entry: Entry, expire_at_ms: int) -> None:
        if entry.expire_index < 0:
            entry.expire_index = len(self._expiring)
            self._expiring.append(entry)
        entry.expire_at_ms = expire_at_ms

    def clear_expiry(self, entry: Entry) -> None:
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
        """Remove everything; how many keys there were."""
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
        self.clear_expiry(entry)
        self._table.remove(entry.key)
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

    def random_key(self, random: Callable[[], int]) -> bytes | None:
        """A live key chosen uniformly, or None when there is none."""
        while True:
            entry = self._table.random_entry(random)
            if entry is None:
                return None
            if entry.expire_at_ms == NO_EXPIRY or entry.expire_at_ms >= self._clock.now_ms:
                return entry.key
            self._expire(entry)

    def scan(self, cursor: int, out: list[Entry]) -> int:
        """One step of a SCAN: see Table.scan. Entries may have expired."""
        return self._table.scan(cursor, out)

    def is_expired(self, entry: Entry) -> bool:
        return entry.expire_at_ms != NO_EXPIRY and entry.expire_at_ms < self._clock.now_ms

    def work(self, slots: int) -> bool:
        """A bounded piece of a resize under way; whether there is more to do."""
        return self._table.work(slots)

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
