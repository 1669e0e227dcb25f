"""Sessions that wait inside a command: until a key has what they want, or until their time is up.

    BLPOP k 5 --block()--> parked, in the queue of k --LPUSH k x--> k is ready --(the command ended)-->
    the handler runs again with the same arguments --> its reply, or parked again

A command that changes a key marks it ready if anyone waits for it. When the whole command is over (the whole
EXEC or script, so nobody sees half of one) the waiting sessions are served, first come, first served. What
serving changes may make other keys ready (BLMOVE), which are served next.

Source:     redis-server 8.2: order of service, what wakes whom. A session that was tried and could not be
            served goes to the end of its queues, as there.
Units:      microseconds of Unix time.
Invariants: a parked session is in the queue of each of its keys, once; `check_invariants`. Nothing here reads
            a clock: the shell asks for the earliest deadline and says when it has come.
Errors:     none.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.values import type_name

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.registry import Command
    from appliance.redis.session import Session

NEVER_US: Final = 1 << 62
"""A deadline that does not come."""

# Entries of the heap of deadlines up to which nobody counts the stale ones.
_SMALL_HEAP: Final = 64


class Waiting:
    """What one parked session waits for."""

    def __init__(self, session: Session, command: Command, args: list[bytes], deadline_us: i64) -> None:
        self.session = session
        self.command = command
        self.args = args
        self.deadline_us: i64 = deadline_us
        self.took_ns: i64 = 0  # executing it, so far
        self.keys: list[bytes] = []
        self.database: i64 = 0
        self.wanted_type: bytes = b""
        self.timeout_reply: object = None
        self.wakes_when_deleted = False

    def wants(self, value: object | None) -> bool:
        """Whether running the command again may be worth while, now that its key has this value (or none)."""
        if self.wakes_when_deleted:
            return True
        return value is not None and type_name(value) == self.wanted_type


class BlockedSessions:
    """All parked sessions of an engine, by key and by deadline."""

    def __init__(self, engine: Engine, databases: int) -> None:
        self.engine = engine
        self.count: i64 = 0
        self.earliest_us: i64 = NEVER_US
        # Per database: key to the sessions that wait for it, in the order of their coming.
        self._queues: list[dict[bytes, OrderedDict[int, Waiting]]] = [{} for _ in range(databases)]
        # How many of them wake when the key goes, for keys where anybody does.
        self._deletion_wakes: list[dict[bytes, int]] = [{} for _ in range(databases)]
        self._ready: dict[tuple[int, bytes], None] = {}
        # A heap; the second item keeps equal deadlines in order, and entries comparable.
        self._deadlines: list[tuple[int, int, Waiting]] = []
        self._entries: int = 0
        self._timed: i64 = 0  # parked sessions with a deadline

    # Parking and leaving --------------------------------------------------------------------------

    def park(self, waiting: Waiting) -> None:
        """Put a session into the queues of its keys."""
        self.count += 1
        queues = self._queues[waiting.database]
        session_id = waiting.session.id
        for key in waiting.keys:
            queue = queues.get(key)
            if queue is None:
                queue = OrderedDict()
                queues[key] = queue
                self.engine.interest += 1
            if waiting.wakes_when_deleted and session_id not in queue:
                counts = self._deletion_wakes[waiting.database]
                counts[key] = counts.get(key, 0) + 1
            queue[session_id] = waiting

    def set_deadline(self, waiting: Waiting) -> None:
        """Note when a session that has just been parked for the first time gives up."""
        if waiting.deadline_us >= NEVER_US:
            return
        self._timed += 1
        heap = self._deadlines
        if len(heap) > _SMALL_HEAP and len(heap) > 2 * self._timed:
            # Most have been served before their time.
            heap = [one for one in heap if one[2].session.waiting is one[2]]
            heapq.heapify(heap)
            self._deadlines = heap
        self._entries += 1
        heapq.heappush(heap, (waiting.deadline_us, self._entries, waiting))
        if waiting.deadline_us < self.earliest_us:
            self.earliest_us = waiting.deadline_us
            self.engine.timeout_came_earlier()

    def remove(self, waiting: Waiting) -> None:
        """Take a session out of its queues."""
        self.count -= 1
        queues = self._queues[waiting.database]
        session_id = waiting.session.id
        for key in waiting.keys:
            queue = queues.get(key)
            if queue is None or queue.pop(session_id, None) is None:
                continue  # a key named twice
            if waiting.wakes_when_deleted:
                counts = self._deletion_wakes[waiting.database]
                counts[key] -= 1
                if counts[key] == 0:
                    del counts[key]
            if len(queue) == 0:
                del queues[key]
                self.engine.interest -= 1

    def forget_deadline(self, waiting: Waiting) -> None:
        """The session was served, or is gone: its entry in the heap is stale now."""
        if waiting.deadline_us < NEVER_US:
            self._timed -= 1

    # Ready keys -----------------------------------------------------------------------------------

    def key_changed(self, database: int, key: bytes) -> bool:
        """Remember the key if anyone waits for it; whether anyone does."""
        if key not in self._queues[database]:
            return False
        self._ready[(database, key)] = None
        return True

    def database_changed(self, database: int) -> bool:
        """The same for all keys of a database that was emptied or exchanged."""
        for key in self._queues[database]:
            self._ready[(database, key)] = None
        return len(self._queues[database]) > 0

    def serve(self) -> None:
        """Run the commands of those who wait for a ready key again."""
        while len(self._ready) > 0:
            ready = list(self._ready)
            self._ready = {}
            for database, key in ready:
                self._serve_key(database, key)

    def _serve_key(self, database: int, key: bytes) -> None:
        queue = self._queues[database].get(key)
        if queue is None:
            return
        # Who cannot be served queues up behind: nobody is tried twice.
        left: i64 = len(queue)
        passed_over: list[Waiting] | None = None
        at = 0
        while left > 0 and len(queue) > 0:
            left -= 1
            if passed_over is None:
                waiting = next(iter(queue.values()))
            else:
                waiting = passed_over[at]
                at += 1
                if waiting.session.waiting is not waiting or queue.get(waiting.session.id) is not waiting:
                    continue
            entry = self.engine.databases[database].find(key)
            if not waiting.wants(None if entry is None else entry.value):
                if entry is None and key not in self._deletion_wakes[database]:
                    return
                if passed_over is None:
                    # The rare way: somebody at the front waits for something else.
                    passed_over = list(queue.values())[1:]
                continue
            self.remove(waiting)
            waiting.session.try_again(waiting)

    # Time -----------------------------------------------------------------------------------------

    def expire(self, now_us: i64) -> None:
        """Answer those whose time is up, earliest first."""
        heap = self._deadlines
        while len(heap) > 0 and heap[0][0] <= now_us:
            waiting = heapq.heappop(heap)[2]
            if waiting.session.waiting is waiting:
                waiting.session.give_up(waiting.timeout_reply)
        while len(heap) > 0 and heap[0][2].session.waiting is not heap[0][2]:
            heapq.heappop(heap)
        self.earliest_us = heap[0][0] if len(heap) > 0 else NEVER_US

    # Looking --------------------------------------------------------------------------------------

    @property
    def timed_count(self) -> int:
        """Sessions that will give up by themselves."""
        return self._timed

    def keys_count(self) -> int:
        """Keys that somebody waits for."""
        return sum([len(queues) for queues in self._queues])

    def keys_watched_for_deletion(self) -> int:
        """Those of them whose disappearance wakes somebody."""
        return sum([len(counts) for counts in self._deletion_wakes])

    def check_invariants(self, sessions: list[Session]) -> None:
        """Raise AssertionError when the queues and the sessions disagree. O(n): tests only."""
        # Those that are held (holding.py) wait for nothing of ours.
        parked = {each.id: each.waiting for each in sessions if each.is_parked and each.waiting is not None}
        assert len(parked) == self.count
        timed = 0
        for waiting in parked.values():
            assert waiting is not None
            timed += waiting.deadline_us < NEVER_US
            for key in waiting.keys:
                assert self._queues[waiting.database][key][waiting.session.id] is waiting
        assert timed == self._timed
        for database, queues in enumerate(self._queues):
            for key, queue in queues.items():
                assert len(queue) > 0
                for session_id, waiting in queue.items():
                    assert parked[session_id] is waiting
                    assert waiting.database == database
                    assert key in waiting.keys
                wakes = sum([waiting.wakes_when_deleted for waiting in queue.values()])
                assert self._deletion_wakes[database].get(key, 0) == wakes
        in_heap = {id(entry[2]) for entry in self._deadlines}
        for waiting in parked.values():
            assert waiting is not None
            assert waiting.deadline_us >= NEVER_US or id(waiting) in in_heap
            assert waiting.deadline_us >= self.earliest_us
