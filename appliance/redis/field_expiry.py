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

from appliance.redis.types.hashes import NEVER, Hash

# Keys of the slow walk per call of housekeeping.
SWEEP: Final = 200


class _Due:
    def __init__(self, key: bytes, due_ms: i64) -> None:
        self.key = key
        self.due_ms: i64 = due_ms
        self.place: i64 = -1


class FieldSchedule:
    """The keys of one database whose hashes have fields that expire, by time: a binary heap."""

    def __init__(self) -> None:
        self._heap: list[_Due] = []
        self._by_key: dict[bytes, _Due] = {}
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
            item = _Due(key, due_ms)
            self._by_key[key] = item
            self._heap.append(item)
            self._up(len(self._heap) - 1, item)
        elif due_ms < item.due_ms:
            item.due_ms = due_ms
            self._up(item.place, item)

    def reschedule(self, key: bytes, due_ms: i64) -> None:
        """Look at a key at that time, NEVER for not again."""
        item = self._by_key.get(key)
        if item is None:
            return
        if due_ms == NEVER:
            self._remove(item)
        elif due_ms < item.due_ms:
            item.due_ms = due_ms
            self._up(item.place, item)
        else:
            item.due_ms = due_ms
            self._down(item.place, item)

    def first_due(self, now_ms: i64) -> bytes | None:
        """The key that has waited longest among those whose time is past, or None."""
        if len(self._heap) > 0 and self._heap[0].due_ms < now_ms:
            return self._heap[0].key
        return None

    def next_to_check(self) -> bytes:
        """The next key of the walk over all of them; there must be one."""
        self._walk = (self._walk + 1) % len(self._heap)
        return self._heap[self._walk].key

    def clear(self) -> None:
        self._heap = []
        self._by_key = {}

    def swap_with(self, other: FieldSchedule) -> None:
        """Exchange with the schedule of another database."""
        self._heap, other._heap = other._heap, self._heap
        self._by_key, other._by_key = other._by_key, self._by_key

    def _remove(self, item: _Due) -> None:
        del self._by_key[item.key]
        last = self._heap.pop()
        if last is item:
            return
        at = item.place
        if at > 0 and last.due_ms < self._heap[(at - 1) >> 1].due_ms:
            self._up(at, last)
        else:
            self._down(at, last)

    def _up(self, at: i64, item: _Due) -> None:
        heap = self._heap
        while at > 0:
            above = (at - 1) >> 1
            parent = heap[above]
            if parent.due_ms <= item.due_ms:
                break
            heap[at] = parent
            parent.place = at
            at = above
        heap[at] = item
        item.place = at

    def _down(self, at: i64, item: _Due) -> None:
        heap = self._heap
        size: i64 = len(heap)
        while True:
            below = at * 2 + 1
            if below >= size:
                break
            child = heap[below]
            if below + 1 < size and heap[below + 1].due_ms < child.due_ms:
                below += 1
                child = heap[below]
            if item.due_ms <= child.due_ms:
                break
            heap[at] = child
            child.place = at
            at = below
        heap[at] = item
        item.place = at
