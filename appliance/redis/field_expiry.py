"""Which hashes have fields that will expire, and when to look at each: one schedule per database.

A hash is scheduled by its key, so nothing has to be told when the key is deleted, overwritten or renamed:
what housekeeping finds at the key decides. A key that is gone, or holds no field that expires, leaves the
schedule at its time, or before by a slow walk over all that is scheduled.

Units:      milliseconds of Unix time. Invariants: a hash with fields that expire is scheduled no later than
            its first field's time, if `note` was called for its key since it got there. Every key is in the
            schedule at most once.
Errors:     none.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from appliance.redis.entry import Entry
from appliance.redis.types.expiry_heap import ExpiryHeap
from appliance.redis.types.hashes import NEVER, Hash

# Keys of the slow walk per call of housekeeping.
SWEEP: Final = 200


class FieldSchedule:
    """The keys of one database whose hashes have fields that expire, by time."""

    def __init__(self) -> None:
        self._heap = ExpiryHeap()
        self._by_key: dict[bytes, Entry] = {}  # without values
        self._walk: i64 = 0

    def __len__(self) -> int:
        return len(self._heap)

    def note(self, key: bytes, value: object) -> None:
        """Schedule what is at the key now, if it is a hash with fields that expire."""
        if isinstance(value, Hash) and value.next_expiry_ms != NEVER:
            self.schedule(key, value.next_expiry_ms)

    def schedule(self, key: bytes, due_ms: i64) -> None:
        """Look at a key no later than that."""
        item = self._by_key.get(key)
        if item is None:
            item = Entry(key, None)
            self._by_key[key] = item
            self._heap.set(item, due_ms)
        elif due_ms < item.expire_at_ms:
            self._heap.set(item, due_ms)

    def reschedule(self, key: bytes, due_ms: i64) -> None:
        """Look at a key at that time, NEVER for not again."""
        item = self._by_key.get(key)
        if item is None:
            return
        if due_ms == NEVER:
            del self._by_key[key]
            self._heap.remove(item)
        else:
            self._heap.set(item, due_ms)

    def first_due(self, now_ms: i64) -> bytes | None:
        """The key that has waited longest among those whose time is past, or None."""
        first = self._heap.first()
        return first.key if first is not None and first.expire_at_ms < now_ms else None

    def next_to_check(self) -> bytes:
        """The next key of the walk over all of them; there must be one."""
        self._walk = (self._walk + 1) % len(self._heap)
        return self._heap.entries[self._walk].key

    def clear(self) -> None:
        self._heap = ExpiryHeap()
        self._by_key = {}

    def swap_with(self, other: FieldSchedule) -> None:
        """Exchange with the schedule of another database."""
        self._heap, other._heap = other._heap, self._heap
        self._by_key, other._by_key = other._by_key, self._by_key
