"""Values whose keys are gone, let go of a piece at a time.

To free a collection of a million elements takes tens of milliseconds, during which nobody is served. So what
is big waits here, and the engine works through it between requests. What is small is freed on the spot.

What is freed lies all over the heap, so nearly every block of it that Python could give back to the system
(an arena, 1 MiB) holds something to the last. Then all of them go within some thousand elements, each by a
system call of 40 us: 9 ms in two pieces for two million keys. From there on an element frees one arena at
most, however many there were. So the last thousandth goes in pieces of a few.

Units:      elements; slots of tables count as elements.
Invariants: nothing in here is reachable from a key.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.types.collection import NOTHING_LEFT, Collection

if TYPE_CHECKING:
    from appliance.redis.entry import Entry
    from appliance.redis.hash_table import Table

# Redis's lazy freeing draws the same line: below it the detour costs more than it saves.
WORTH_DELAYING: Final = 64

_TAIL_SHARE: Final = 1024
"""The last part of so many goes slowly. An arena has room for about 9,000 records of small keys, so when a
share f of all is left, about e^(-9000 f) of the arenas are empty: of a thousandth, one in ten thousand."""

_TAIL_BUDGET: Final = 16


class _Flushed:
    """The keys of a database that was emptied."""

    def __init__(self, table: Table, expiring: list[Entry]) -> None:
        self.table = table
        self.expiring = expiring
        self.tail: i64 = table.slots_allocated() // _TAIL_SHARE


class _Released:
    """A value whose key is gone."""

    def __init__(self, value: Collection) -> None:
        self.value = value
        self.left: i64 = 0
        """As the value told it; 0 before the first piece."""
        self.tail: i64 = 0


class ReleaseQueue:
    """What is to be let go of, oldest first."""

    def __init__(self) -> None:
        self._collections: deque[_Released] = deque()
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
        if isinstance(value, Collection) and len(value) > WORTH_DELAYING and not _is_walked(value):
            self._collections.append(_Released(value))
            self._taken += 1

    def _keep(self, value: object) -> None:
        """A large value of a flushed database, which has been counted with it, has a turn of its own."""
        if isinstance(value, Collection) and len(value) > WORTH_DELAYING and not _is_walked(value):
            self._collections.append(_Released(value))

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
            released = self._collections[0]
            left -= self._work_released(released, left)
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
        piece = _piece(before, flushed.tail, budget)
        remaining: i64 = flushed.table.dismantle(piece, self._keep)
        if remaining == 0:
            self._flushed.popleft()
        return _charge(piece, budget, before - remaining)

    def _work_released(self, released: _Released, budget: i64) -> i64:
        """One piece of a value; how much of the budget it took."""
        value = released.value
        before: i64 = released.left
        if before == 0:
            before = len(value)
        piece = _piece(before, released.tail, budget)
        remaining: i64 = value.release(piece)
        if remaining == NOTHING_LEFT:
            self._collections.popleft()
            return _charge(piece, budget, before)
        if released.left == 0:
            released.tail = remaining // _TAIL_SHARE
        released.left = remaining
        # What makes no progress by its own account is charged as if it had used up the budget.
        return _charge(piece, budget, before - remaining) if remaining < before else budget


def _is_walked(value: Collection) -> bool:
    """Whether somebody goes through a value, who will then give it to be released."""
    walk = value.walk
    if walk is None:
        return False
    walk.is_let_go = True
    return True


def _piece(left: i64, tail: i64, budget: i64) -> i64:
    """How much of what is left to let go of now."""
    if tail == 0:
        return budget
    if left > tail:
        return min(budget, left - tail)
    return min(budget, _TAIL_BUDGET)


def _charge(piece: i64, budget: i64, done: i64) -> i64:
    """How much of the budget a piece took: all of it when the piece was cut short for the tail's sake."""
    return budget if piece < budget else max(done, 1)
