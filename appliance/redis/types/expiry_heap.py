"""What expires, the soonest first: a binary heap of entries that know their places in it.

Fields of a big hash are in one (types/hashes.py), and the hashes of a database that have such fields
(field_expiry.py).

Units:      milliseconds of Unix time.
Invariants: `entry.expire_index` is the place of each entry in the heap, -1 elsewhere; no entry expires before
            the one above it. `check_invariants`.
Errors:     none.
"""

from __future__ import annotations

from mypy_extensions import i64

from appliance.redis.entry import NO_EXPIRY, Entry


class ExpiryHeap:
    """Entries by `expire_at_ms`."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []  # in the order of the heap; for looking only

    def __len__(self) -> int:
        return len(self.entries)

    def first(self) -> Entry | None:
        """The entry that expires first."""
        return self.entries[0] if len(self.entries) > 0 else None

    def set(self, entry: Entry, when_ms: i64) -> None:
        """Let an entry expire at that time, whether or not it is in the heap."""
        before = entry.expire_at_ms
        entry.expire_at_ms = when_ms
        if entry.expire_index < 0:
            self.entries.append(entry)
            self._up(len(self.entries) - 1, entry)
        elif when_ms < before:
            self._up(entry.expire_index, entry)
        else:
            self._down(entry.expire_index, entry)

    def remove(self, entry: Entry) -> None:
        """Take an entry out: it does not expire any more."""
        entries = self.entries
        at = entry.expire_index
        entry.expire_index = -1
        entry.expire_at_ms = NO_EXPIRY
        last = entries.pop()
        if last is entry:
            return
        if at > 0 and last.expire_at_ms < entries[(at - 1) >> 1].expire_at_ms:
            self._up(at, last)
        else:
            self._down(at, last)

    def _up(self, at: i64, entry: Entry) -> None:
        entries = self.entries
        when = entry.expire_at_ms
        while at > 0:
            above = (at - 1) >> 1
            parent = entries[above]
            if parent.expire_at_ms <= when:
                break
            entries[at] = parent
            parent.expire_index = at
            at = above
        entries[at] = entry
        entry.expire_index = at

    def _down(self, at: i64, entry: Entry) -> None:
        entries = self.entries
        size: i64 = len(entries)
        when = entry.expire_at_ms
        while True:
            below = at * 2 + 1
            if below >= size:
                break
            child = entries[below]
            if below + 1 < size and entries[below + 1].expire_at_ms < child.expire_at_ms:
                below += 1
                child = entries[below]
            if when <= child.expire_at_ms:
                break
            entries[at] = child
            child.expire_index = at
            at = below
        entries[at] = entry
        entry.expire_index = at

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        for place in range(len(self.entries)):
            entry = self.entries[place]
            assert entry.expire_index == place
            assert entry.expire_at_ms >= self.entries[(place - 1) >> 1 if place > 0 else 0].expire_at_ms
