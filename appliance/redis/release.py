"""Values whose keys are gone, let go of a piece at a time.

To free a collection of a million elements takes tens of milliseconds, during which nobody is served. So what
is big waits here, and the engine works through it between requests. What is small is freed on the spot.

Units:      elements; slots of tables count as elements.
Invariants: nothing in here is reachable from a key.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.types.collection import NOTHING_LEFT, Collection

if TYPE_CHECKING:
    from appliance.redis.keyspace import Entry, Table

# Redis's lazy freeing draws the same line: below it the detour costs more than it saves.
WORTH_DELAYING: Final = 64


class _Flushed:
    """The keys of a database that was emptied."""

    def __init__(self, table: Table, expiring: list[Entry]) -> None:
        self.table = table
        self.expiring = expiring


class ReleaseQueue:
    """What is to be let go of, oldest first."""

    def __init__(self) -> None:
        self._collections: deque[Collection] = deque()
        self._flushed: deque[_Flushed] = deque()
        self._taken: i64 = 0

    def is_empty(self) -> bool:
        return len(self._collections) == 0 and len(self._flushed) == 0

    def __len__(self) -> int:
        """Values and databases that wait here (INFO's lazyfree_pending_objects counts alike)."""
        return len(self._collections) + sum([len(flushed.table) for flushed in self._flushed])

    @property
    def freed(self) -> int:
        """Values let go of so far by way of the queue (INFO's lazyfreed_objects)."""
        return max(0, self._taken - len(self))

    def add(self, value: object) -> None:
        """Take over the value of a key that is gone."""
        if isinstance(value, Collection) and len(value) > WORTH_DELAYING:
            self._collections.append(value)
            self._taken += 1

    def _keep(self, value: object) -> None:
        """A large value of a flushed database, which has been counted with it, has a turn of its own."""
        if isinstance(value, Collection) and len(value) > WORTH_DELAYING:
            self._collections.append(value)

    def add_table(self, table: Table, expiring: list[Entry]) -> None:
        """Take over all keys of a database."""
        if len(table) > WORTH_DELAYING:
            self._flushed.append(_Flushed(table, expiring))
            self._taken += len(table)
        else:
            for entry in table.entries():
                self.add(entry.value)

    def work(self, budget: int) -> bool:
        """Let go of up to about `budget` elements; whether there are more."""
        left: i64 = budget
        while left > 0 and len(self._flushed) > 0:
            flushed = self._flushed[0]
            left -= self._work_flushed(flushed, left)
        while left > 0 and len(self._collections) > 0:
            collection = self._collections[0]
            before: i64 = len(collection)
            remaining: i64 = collection.release(left)
            if remaining == NOTHING_LEFT:
                self._collections.popleft()
            # What makes no progress by its own account is charged as if it had used up the budget.
            left -= max(before - remaining, 1) if remaining == NOTHING_LEFT or remaining < before else left
        return not self.is_empty()

    def _work_flushed(self, flushed: _Flushed, budget: i64) -> i64:
        """One piece of a flushed database; how much of the budget it took."""
        expiring = flushed.expiring
        count: i64 = len(expiring)
        if count > 0:
            # The entries stay: the table refers to them too.
            cut = max(count - budget * 16, 0)
            del expiring[cut:]
            return max((count - cut) // 16, 1)
        before: i64 = flushed.table.slots_allocated()
        remaining: i64 = flushed.table.dismantle(budget, self._keep)
        if remaining == 0:
            self._flushed.popleft()
        return max(before - remaining, 1)
