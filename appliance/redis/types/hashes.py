"""Hashes, in the three encodings of redis-server, and the times at which fields expire.

    listpack      few short fields and values         dict, in the order of insertion
    listpackex    the same, where a field expires     dict, and a dict of expire times
    hashtable     everything else                     Table of hash_table.py, and a heap of what expires

A hash goes from listpack to listpackex when a command wants to set an expire time, from either to hashtable
when something is added that they have no room for, and never back.

Order:      of insertion in a listpack. In a listpackex fields that expire come first, the soonest at the head
            and of equal times the latest set; then the others, in the order in which they were inserted or
            lost their time. None in a hashtable.
Expiry:     a field is expired when its time is past. It is then still there: counted by `len`, found by
            `get`. The commands decide whether they see it, and remove it; `pop_expired` does so from
            housekeeping.
Source:     OBJECT ENCODING and the order of replies of redis-server 8.2.
Units:      milliseconds of Unix time. Invariants: `next_expiry_ms` is no later than the first expire time
            (NEVER: there is none). The heap holds exactly the entries of the table that expire;
            `expire_index` is an entry's place in it.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.entry import NO_EXPIRY, Entry
from appliance.redis.hash_table import Table
from appliance.redis.integers import I64_MAX
from appliance.redis.types.collection import Collection, EncodingLimits, MemberCollection
from appliance.redis.types.expiry_heap import ExpiryHeap
from appliance.redis.types.tables import DICT_ENTRY_BYTES, OBJECT_BYTES, bytes_size, table_size

if TYPE_CHECKING:
    from collections.abc import Callable

LISTPACK: Final = 0
LISTPACKEX: Final = 1
HASHTABLE: Final = 2

NEVER: Final = I64_MAX


class Hash(MemberCollection):
    """A map from fields to values, both bytes."""

    def __init__(self, limits: EncodingLimits) -> None:
        """An empty hash, a listpack."""
        super().__init__(limits)
        self.encoding_id: i64 = LISTPACK
        self.next_expiry_ms: i64 = NEVER
        self._small: dict[bytes, bytes] = {}
        self._times: dict[bytes, int] = {}  # of a listpackex, in the order in which they were set
        self._table: Table | None = None
        self._heap = ExpiryHeap()

    def __len__(self) -> int:
        table = self._table
        return len(self._small) if table is None else len(table)

    def type_name(self) -> bytes:
        return b"hash"

    def encoding(self) -> bytes:
        if self.encoding_id == HASHTABLE:
            return b"hashtable"
        return b"listpack" if self.encoding_id == LISTPACK else b"listpackex"

    # Fields ---------------------------------------------------------------------------------------

    def get(self, field: bytes) -> bytes | None:
        """The value of a field, expired or not, or None."""
        table = self._table
        if table is None:
            return self._small.get(field)
        entry = table.find(field)
        if entry is None:
            return None
        value = entry.value
        assert isinstance(value, bytes)
        return value

    def set(self, field: bytes, value: bytes, keep_time: bool = False) -> bool:
        """Give a field a value, and no expire time unless it keeps the one it has; whether it is new."""
        table = self._table
        if table is None:
            limit = self.limits.hash_max_listpack_value
            if len(field) <= limit and len(value) <= limit:
                small = self._small
                before = len(small)
                small[field] = value
                if len(small) == before:
                    if self.encoding_id == LISTPACKEX and not keep_time:
                        self.clear_expiry(field)
                    return False
                if len(small) > self.limits.hash_max_listpack_entries:
                    self.convert()
                return True
            table = self.convert()
        if self.walk is not None:
            self.walk.changing(field)
        entry = table.find(field)
        if entry is None:
            table.insert(field, value)
            return True
        entry.value = value
        if entry.expire_index >= 0 and not keep_time:
            self._heap_remove(entry)
        return False

    def load(self, field: bytes, value: bytes) -> bool:
        """Add a field of a listpack that was restored; whether it is new.

        redis-server takes over such a listpack whatever the length of its strings.
        """
        if self._table is None and len(self._small) < self.limits.hash_max_listpack_entries:
            if field in self._small:
                return False
            self._small[field] = value
            return True
        table = self.convert() if self._table is None else self._table
        if table.find(field) is not None:
            return False
        table.insert(field, value)
        return True

    def remove(self, name: bytes) -> bool:
        """Take a field out; whether it was there."""
        table = self._table
        if table is None:
            if name not in self._small:
                return False
            del self._small[name]
            if self._times.pop(name, None) is not None and len(self._times) == 0:
                self.next_expiry_ms = NEVER
            return True
        if self.walk is not None:
            self.walk.changing(name)
        entry = table.remove(name)
        if entry is None:
            return False
        if entry.expire_index >= 0:
            self._heap_remove(entry)
        return True

    # Encoding -------------------------------------------------------------------------------------

    def expect(self, args: list[bytes], first: i64, last: i64) -> None:
        """Make ready to set the fields and values args[first] … args[last], which may need a hashtable."""
        if self._table is not None:
            return
        if (last - first + 1) // 2 > self.limits.hash_max_listpack_entries:
            self.convert()
            return
        limit = self.limits.hash_max_listpack_value
        at = first
        while at <= last:
            if len(args[at]) > limit:
                self.convert()
                return
            at += 1

    def allow_expiry(self) -> None:
        """Make ready for expire times."""
        if self.encoding_id == LISTPACK:
            self.encoding_id = LISTPACKEX

    def convert(self) -> Table:
        """Change a small encoding to hashtable; the table."""
        table = Table(self.limits.hash_secret)
        times = self._times
        for field, value in self._small.items():
            entry = table.insert(field, value)
            when = times.get(field)
            if when is not None:
                self._heap.set(entry, when)
        self._small = {}
        self._times = {}
        self._table = table
        self.encoding_id = HASHTABLE
        self._heap_changed()
        return table

    # Expire times ---------------------------------------------------------------------------------

    def expiry_of(self, field: bytes) -> i64:
        """When a field that is there expires, NO_EXPIRY when it does not."""
        table = self._table
        if table is None:
            when = self._times.get(field)
            return NO_EXPIRY if when is None else when
        entry = table.find(field)
        return NO_EXPIRY if entry is None else entry.expire_at_ms

    def is_expired(self, field: bytes, now_ms: i64) -> bool:
        """Whether the time of a field is past; quick where no field has expired."""
        if now_ms <= self.next_expiry_ms:
            return False
        when = self.expiry_of(field)
        return when != NO_EXPIRY and when < now_ms

    def set_expiry(self, field: bytes, when_ms: i64) -> None:
        """Let a field that is there expire; `allow_expiry` has been called."""
        table = self._table
        if table is None:
            times = self._times
            times.pop(field, None)
            times[field] = when_ms
            if when_ms < self.next_expiry_ms:
                self.next_expiry_ms = when_ms
            return
        entry = table.find(field)
        if entry is None:
            return
        if self.walk is not None:
            self.walk.changing(field)
        self._heap.set(entry, when_ms)
        self._heap_changed()

    def clear_expiry(self, field: bytes) -> bool:
        """Let a field that is there stay for ever; whether it had a time."""
        table = self._table
        if table is None:
            if self._times.pop(field, None) is None:
                return False
            if len(self._times) == 0:
                self.next_expiry_ms = NEVER
            # The field is now the last of those that stay.
            self._small[field] = self._small.pop(field)
            return True
        entry = table.find(field)
        if entry is None or entry.expire_index < 0:
            return False
        if self.walk is not None:
            self.walk.changing(field)
        self._heap_remove(entry)
        return True

    def expiring_count(self) -> int:
        """How many fields have an expire time."""
        return len(self._times) if self._table is None else len(self._heap)

    def pop_expired(self, now_ms: i64, budget: i64) -> i64:
        """Remove up to `budget` fields whose time is past, the earliest first; how many.

        What `next_expiry_ms` says is exact afterwards.
        """
        removed: i64 = 0
        table = self._table
        if table is not None:
            while removed < budget:
                entry = self._heap.first()
                if entry is None or entry.expire_at_ms >= now_ms:
                    break
                if self.walk is not None:
                    self.walk.changing(entry.key)
                self._heap_remove(entry)
                table.remove(entry.key)
                removed += 1
            return removed
        for field in self._sorted_expiring():
            when: i64 = self._times[field]
            if when >= now_ms or removed >= budget:
                break
            del self._times[field]
            del self._small[field]
            removed += 1
        self.next_expiry_ms = min(self._times.values()) if len(self._times) > 0 else NEVER
        return removed

    def _sorted_expiring(self) -> list[bytes]:
        """The fields of a listpackex that expire, in order."""
        latest_first = list(self._times)
        latest_first.reverse()
        latest_first.sort(key=self._times.__getitem__)
        return latest_first

    def _heap_changed(self) -> None:
        first = self._heap.first()
        self.next_expiry_ms = NEVER if first is None else first.expire_at_ms

    def _heap_remove(self, entry: Entry) -> None:
        """An entry does not expire any more."""
        self._heap.remove(entry)
        self._heap_changed()

    # Everything, anything -------------------------------------------------------------------------

    def _live_small(self, now_ms: i64) -> dict[bytes, bytes]:
        """The fields of a small encoding that have not expired, in order."""
        if len(self._times) == 0:
            return self._small
        small = self._small
        found: dict[bytes, bytes] = {}
        for field in self._sorted_expiring():
            if self._times[field] >= now_ms:
                found[field] = small[field]
        found.update({field: value for field, value in small.items() if field not in self._times})
        return found

    def _live_entries(self, now_ms: i64) -> list[Entry]:
        table = self._table
        assert table is not None
        entries = table.entries()
        if now_ms <= self.next_expiry_ms:
            return entries
        return [entry for entry in entries if entry.expire_at_ms == NO_EXPIRY or entry.expire_at_ms >= now_ms]

    def fields(self, now_ms: i64) -> list[object]:
        """The fields that have not expired."""
        if self._table is None:
            return list(self._live_small(now_ms))
        return [entry.key for entry in self._live_entries(now_ms)]

    def values(self, now_ms: i64) -> list[object]:
        """The values of the fields that have not expired."""
        if self._table is None:
            return list(self._live_small(now_ms).values())
        return [entry.value for entry in self._live_entries(now_ms)]

    def items(self, now_ms: i64) -> list[object]:
        """Field, value, field, value … of the fields that have not expired."""
        found: list[object] = []
        if self._table is None:
            for field, value in self._live_small(now_ms).items():
                found.append(field)
                found.append(value)
            return found
        for entry in self._live_entries(now_ms):
            found.append(entry.key)
            found.append(entry.value)
        return found

    def random_entry(self, random: Callable[[], int]) -> Entry:
        """An entry of a hashtable that is not empty, for reading only, each with the same probability."""
        assert self._table is not None
        entry = self._table.random_entry(random)
        assert entry is not None
        return entry

    @property
    def table(self) -> Table:
        """Of a hashtable. Its entries may have expired."""
        table = self._table
        assert table is not None
        return table

    # The keyspace's business ----------------------------------------------------------------------

    def copy(self) -> Collection:
        other = Hash(self.limits)
        other.encoding_id = self.encoding_id
        other._small = self._small.copy()
        other._times = self._times.copy()
        if self._table is not None:
            other._table = self._table.copy(False)
            if len(self._heap) > 0:
                # Each entry's copy takes its place.
                other._heap.entries = self._heap.entries.copy()
                for entry in other._table.entries():
                    if entry.expire_index >= 0:
                        other._heap.entries[entry.expire_index] = entry
        other.next_expiry_ms = self.next_expiry_ms
        return other

    def memory_usage(self, samples: int) -> int:
        if self._table is not None:
            return OBJECT_BYTES + table_size(self._table, samples) + len(self._heap) * 8
        held = (len(self._small) + len(self._times)) * DICT_ENTRY_BYTES
        for field, value in self._small.items():
            held += bytes_size(field) + bytes_size(value)
        return OBJECT_BYTES + held

    def release(self, budget: int) -> int:
        table = self._table
        if table is not None:
            if len(self._heap) > 0:
                del self._heap.entries[-budget:]
                return len(self._heap) + table.slots_allocated()
            return table.release(budget)
        self._times = {}
        left = budget
        while left > 0 and len(self._small) > 0:
            self._small.popitem()
            left -= 1
        return len(self._small)

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        self._heap.check_invariants()
        if self._table is None:
            assert self.encoding_id != HASHTABLE
            assert len(self._heap) == 0
            assert set(self._times) <= set(self._small)
            first = min(self._times.values(), default=NEVER)
        else:
            assert self.encoding_id == HASHTABLE
            assert len(self._small) == len(self._times) == 0
            self._table.check_invariants()
            expiring = [entry for entry in self._table.entries() if entry.expire_index >= 0]
            assert len(expiring) == len(self._heap)
            first = min([entry.expire_at_ms for entry in expiring], default=NEVER)
            assert self.next_expiry_ms == first
        assert self.next_expiry_ms <= first
