"""Snapshots: all data as it was at one moment, sent to a client as a file of Redis (SYNC, PSYNC).

A snapshot is taken in pieces of about half a millisecond, while everybody goes on writing. What it shows is
the moment of the SYNC all the same (ADR 0026):

- A table is walked in the order of SCAN, in which a key's place is its hash with the bits reversed, whatever
  size the table has at the time. So "has the walk been here" is one comparison.
- A key that is about to change ahead of the walk is written first, and passed over later; one that is new is
  passed over too. `Database` tells of both (`TableWalk`).
- A table that is emptied meanwhile is kept until the walk is through.
- A large value is written in pieces itself, with the same care for what changes in it (piecewise.py).

The pieces wait for the client: no more is made while it has a megabyte to take. What changes ahead of the
walk cannot wait and is kept for it, which in the worst case is all data once, as copy-on-write is elsewhere.

One snapshot is taken at a time; whoever asks meanwhile gets the next one.

    +FULLRESYNC <id> 0          PSYNC only
    $EOF:<mark>  file  <mark>   to a client that said `REPLCONF capa eof`
    $<length>  file             to one that did not, after a newline each second: the file is made whole first

Source:     what redis-server 8.2 sends; it closes the connection afterwards, as we do.
Units:      microseconds of Unix time.
Invariants: `Table.walk` is set for the tables of the snapshot under way that are not walked through.
Errors:     none; a client that takes nothing for `repl-timeout` seconds is disconnected.
Not here:   replication: see commands/replication.py.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.blocking import NEVER_US
from appliance.redis.entry import NO_EXPIRY, Entry, idle_s
from appliance.redis.hash_table import Table, TableWalk
from appliance.redis.piecewise import Piecewise, piecewise, reversed_bits
from appliance.redis.rdb import UNKNOWN, RdbWriter
from appliance.redis.session import REPLICA
from appliance.redis.types.streams import Stream

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session

_EVERY_US: Final = 1_500
_LOOK_EVERY_US: Final = 10_000  # while the client takes what there is
_AHEAD: Final = 1 << 20
# A piece costs as much as this many places looked at; a key costs some, and its bytes.
_PIECE: Final = 1_000
_KEY_COST: Final = 2
_BYTES_SHIFT: Final = 8  # 256 bytes written cost one
_LOOK_EVERY: Final = 32  # of that much a look at the stopwatch
_LONGEST_NS: Final = 1_000_000
_SECOND_US: Final = 1_000_000
_END_OF_WALK: Final = 1 << 32


class ReplicaState:
    """What a client has said by REPLCONF."""

    def __init__(self) -> None:
        self.is_snapshot_only = False  # rdb-only: it does not want to hear of changes
        self.takes_marks = False  # capa eof: the length need not be known before
        self.is_channel = False  # rdb-channel: it has another connection for the changes
        self.port = 0  # listening-port
        self.address = b""  # ip-address
        self.wants_data = True
        self.wants_functions = True


class _Begun:
    """A large value, from when it comes up, or is about to change, until it is written."""

    def __init__(self, walk: _Walk, key: bytes, value: Piecewise) -> None:
        self.walk = walk
        self.key = key
        self.value = value
        self.expire_at_ms: i64 = NO_EXPIRY
        self.idle: i64 = UNKNOWN
        self.frequency: i64 = UNKNOWN


class _Small:
    """A key that was written while a large value was under way."""

    def __init__(self, walk: _Walk, data: bytes) -> None:
        self.walk = walk
        self.data = data


class _Walk(TableWalk):
    """The way through the table of one database."""

    def __init__(self, snapshot: Snapshot, database: int) -> None:
        self.snapshot = snapshot
        self.database = database
        self.table: Table | None = None
        self.expiring: list[Entry] | None = None  # of a table that nobody else has any more
        # As many keys it had, and so many of them with an expire time, until that has been said.
        self.keys = 0
        self.keys_expiring = 0
        self._cursor: i64 = 0
        self._place: i64 = 0  # places below this one are behind us
        self._passed_over: set[bytes] = set()
        self.begun: dict[bytes, _Begun] = {}  # values that are not written whole

    def changing(self, key: bytes) -> None:
        """Write the key now if it is still ahead."""
        table = self.table
        assert table is not None
        if len(self.begun) > 0:
            begun = self.begun.get(key)
            if begun is not None:
                begun.value.settle()
        if reversed_bits(table.hash_of(key)) < self._place or key in self._passed_over:
            return
        self._passed_over.add(key)
        found = table.read(key, -1)
        if isinstance(found, Entry):
            self.snapshot.write(self, key, found.value, found.expire_at_ms, found.access)
        elif found is not None:
            self.snapshot.write(self, key, found, NO_EXPIRY, table.access_clock(key))

    def reading(self, key: bytes, value: object) -> None:
        """The commands of consumer groups look a stream up as if they only read it."""
        if isinstance(value, Stream):
            self.changing(key)

    def step(self) -> i64:
        """Write the keys of the next place; what it has cost."""
        table = self.table
        assert table is not None
        found: list[Entry] = []
        self._cursor = table.scan(self._cursor, found)
        place = self._place
        for entry in found:
            # After the table has shrunk a step sees keys again.
            if reversed_bits(table.hash_of(entry.key)) >= place and entry.key not in self._passed_over:
                self.snapshot.write(self, entry.key, entry.value, entry.expire_at_ms, entry.access)
        self._place = _END_OF_WALK if self._cursor == 0 else reversed_bits(self._cursor)
        count: i64 = len(found)
        return 1 + count * _KEY_COST

    @property
    def is_over(self) -> bool:
        return self._place == _END_OF_WALK


class Snapshot:
    """One snapshot under way, or about to be."""

    def __init__(self, engine: Engine, session: Session, wanted: ReplicaState) -> None:
        self.engine = engine
        self.session = session
        self.takes_marks = wanted.takes_marks
        self._wants_data = wanted.wants_data
        self._wants_functions = wanted.wants_functions
        self._writer = RdbWriter(engine.configuration.text("rdbchecksum") == b"yes")
        self._mark = b""
        self._walks: list[_Walk] = []
        self._current = -1  # the database whose keys have been written last
        self._large: deque[_Begun] = deque()  # whose turn has not come
        self._writing: _Begun | None = None
        # What was written beside a large value, to follow it; of the file only keys are wanted.
        self._beside = RdbWriter(False)
        self._beside.take()
        self._small: list[_Small] = []
        self._begun_ms: i64 = 0
        self._is_lru = False
        self._is_lfu = False
        self._parts: list[bytes] = []  # of a file whose length has to be known first
        self._told_us: i64 = 0  # when a newline was sent last
        self.is_written = False
        # Whether the client takes what there is.
        self._left: i64 = 0
        self._moved_us: i64 = 0

    def line(self) -> str:
        """How INFO shows the client: as a replica that is not there yet."""
        wanted = self.session.replica
        address = "" if wanted is None else wanted.address.decode("latin-1")
        if address == "":
            address = self.session.remote.rpartition(":")[0]
        port = 0 if wanted is None else wanted.port
        state = "send_bulk" if self.is_written and not self.takes_marks else "wait_bgsave"
        return f"ip={address},port={port},state={state},offset=0,lag=0"

    def begin(self, facts: list[tuple[bytes, bytes]]) -> None:
        """The data are to be shown as they are now.

        Args:
            facts: what is said about the file.
        """
        engine = self.engine
        clock = engine.clock
        self._begun_ms = clock.now_ms
        self._moved_us = clock.now_us
        self._told_us = clock.now_us
        policy = engine.configuration.text("maxmemory-policy")
        self._is_lru = policy.endswith(b"-lru")
        self._is_lfu = policy.endswith(b"-lfu")
        if self.takes_marks:
            self._mark = engine.random_bytes(20).hex().encode()
            self.session.push_snapshot(b"$EOF:" + self._mark + b"\r\n")
        for name, text in facts:
            self._writer.about(name, text)
        if self._wants_functions:
            for library in engine.scripts.libraries.by_name.values():
                self._writer.library(library.code)
        if self._wants_data:
            for database in engine.databases:
                if len(database) > 0:
                    walk = _Walk(self, database.index)
                    walk.table = database.begin_walk(walk)
                    walk.keys = len(database)
                    walk.keys_expiring = database.expiring_count
                    self._walks.append(walk)

    def write(self, walk: _Walk, key: bytes, value: object, expire_at_ms: i64, access: i64) -> None:
        """A key of a table as it was at the beginning."""
        if expire_at_ms != NO_EXPIRY and expire_at_ms < self._begun_ms:
            return
        idle: i64 = UNKNOWN
        frequency: i64 = UNKNOWN
        clock = self.engine.clock
        if self._is_lru:
            idle = idle_s(clock.now_s, access)
        elif self._is_lfu:
            frequency = clock.frequency.counter(access, clock.now_s)
        large = piecewise(value)
        if large is not None:
            begun = _Begun(walk, key, large)
            begun.expire_at_ms = expire_at_ms
            begun.idle = idle
            begun.frequency = frequency
            walk.begun[key] = begun
            self._large.append(begun)
        elif self._writing is None:
            self._select(walk)
            self._writer.key(key, value, expire_at_ms, idle, frequency)
        else:
            self._beside.key(key, value, expire_at_ms, idle, frequency)
            self._small.append(_Small(walk, self._beside.take()))

    def _select(self, walk: _Walk) -> None:
        """What follows is of the database of a walk."""
        if self._current == walk.database:
            return
        writer = self._writer
        self._current = walk.database
        writer.select(walk.database)
        if walk.keys > 0:
            writer.sizes(walk.keys, walk.keys_expiring)
            walk.keys = 0

    def piece(self) -> None:
        """Write the next piece, and send it."""
        writer = self._writer
        stopwatch = self.engine.stopwatch
        started_ns: i64 = stopwatch()
        left: i64 = _PIECE
        look_at: i64 = _PIECE - _LOOK_EVERY
        while left > 0 and (len(self._walks) > 0 or self._writing is not None):
            if left <= look_at:
                look_at = left - _LOOK_EVERY
                if i64(stopwatch()) - started_ns >= _LONGEST_NS:
                    break  # a slow machine, or interpreted
            before = writer.size()
            writing = self._writing
            if writing is not None:
                left -= writer.piece(writing.value)
                if writing.value.is_over:
                    self._written(writing)
            elif len(self._large) > 0:
                self._begin_value(self._large.popleft())
                left -= 1
            else:
                walk = self._walks[0]
                if walk.is_over:
                    self._walks.pop(0)
                    self._leave(walk)
                else:
                    left -= walk.step()
            left -= (writer.size() - before) >> _BYTES_SHIFT
        if len(self._walks) == 0 and self._writing is None:
            writer.end()
            self.is_written = True
        self._send(writer.take())

    def _begin_value(self, begun: _Begun) -> None:
        """The turn of a large value has come: nothing comes between from here on."""
        self._writing = begun
        self._select(begun.walk)
        self._writer.about_key(begun.expire_at_ms, begun.idle, begun.frequency)
        begun.value.begin(self._writer.out, begun.key)

    def _written(self, begun: _Begun) -> None:
        """A large value is through: what came meanwhile follows."""
        self._writing = None
        self._close(begun)
        for small in self._small:
            self._select(small.walk)
            self._writer.out.write(small.data)
        self._small = []

    def _close(self, begun: _Begun) -> None:
        begun.walk.begun.pop(begun.key)
        released = begun.value.close()
        if released is not None:
            self.engine.observer.released(released)

    def _send(self, part: bytes) -> None:
        session = self.session
        if self.takes_marks:
            if len(part) > 0:
                session.push_snapshot(part)
            if self.is_written:
                session.push_snapshot(self._mark)
            return
        self._parts.append(part)
        now_us = self.engine.clock.now_us
        if self.is_written:
            size = 0
            for each in self._parts:
                size += len(each)
            session.push_snapshot(b"$%d\r\n" % size)
            for each in self._parts:
                session.push_snapshot(each)
            self._parts = []
        elif now_us - self._told_us >= _SECOND_US:
            self._told_us = now_us
            session.push_snapshot(b"\n")

    def is_stuck(self, now_us: i64) -> bool:
        """Whether the client has taken nothing for too long."""
        left = self.session.output_bytes()
        if left != self._left or left == 0:
            self._left = left
            self._moved_us = now_us
        return now_us - self._moved_us > self.engine.configuration.integer("repl-timeout") * _SECOND_US

    def keep(self, table: Table, expiring: list[Entry]) -> bool:
        """A database let go of a table: whether it is ours for now."""
        for walk in self._walks:
            if walk.table is table:
                walk.expiring = expiring
                return True
        return False

    def _leave(self, walk: _Walk) -> None:
        table = walk.table
        assert table is not None
        table.walk = None
        walk.table = None
        if walk.expiring is not None:
            self.engine.observer.emptied(table, walk.expiring)

    def abandon(self) -> None:
        """Nobody wants it any more."""
        walks = self._walks
        self._walks = []
        self._parts = []
        if self._writing is not None:
            self._large.appendleft(self._writing)
            self._writing = None
        while len(self._large) > 0:
            self._close(self._large.popleft())
        self._small = []
        for walk in walks:
            self._leave(walk)


class Snapshots:
    """The snapshots of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.next_us: i64 = NEVER_US
        self._current: Snapshot | None = None
        self._waiting: deque[Snapshot] = deque()

    def add(self, session: Session, wanted: ReplicaState) -> None:
        """Send the session a snapshot, now or when those before it have theirs, and close it then."""
        session.mode |= REPLICA
        self._waiting.append(Snapshot(self.engine, session, wanted))
        self._next()

    def _next(self) -> None:
        """Begin the next snapshot if none is under way."""
        engine = self.engine
        while self._current is None and len(self._waiting) > 0:
            snapshot = self._waiting.popleft()
            if snapshot.session.is_closing:
                continue
            self._current = snapshot
            snapshot.begin(_facts(engine))
            snapshot.piece()
            engine.mark_pending(snapshot.session)
        if self._current is None:
            self.next_us = NEVER_US
            return
        self.next_us = engine.clock.now_us + _EVERY_US
        engine.timeout_came_earlier()

    def work(self, now_us: i64) -> None:
        """Another piece of the snapshot under way; to be called when `next_us` has come."""
        snapshot = self._current
        if snapshot is None:
            self.next_us = NEVER_US
            return
        session = snapshot.session
        self.next_us = now_us + _EVERY_US
        if session.is_closing:
            self._over(snapshot)
        elif snapshot.is_written and session.output_bytes() == 0:
            session.is_closing = True
            self._over(snapshot)
        elif snapshot.is_stuck(now_us):
            self.engine.client_limits.close(session, "closing a client that takes nothing of its snapshot")
            self._over(snapshot)
        elif snapshot.is_written or session.output_bytes() >= _AHEAD:
            self.next_us = now_us + _LOOK_EVERY_US
            return
        else:
            snapshot.piece()
        self.engine.mark_pending(session)

    def _over(self, snapshot: Snapshot) -> None:
        self._current = None
        snapshot.abandon()
        self._next()

    def replicas(self) -> list[Snapshot]:
        """Those that are wanted, in the order in which they were."""
        found = list(self._waiting)
        if self._current is not None:
            found.insert(0, self._current)
        return [each for each in found if not each.session.is_closing]

    def keep(self, table: Table, expiring: list[Entry]) -> bool:
        """A database let go of a table: whether a snapshot needs it, and will let go of it later."""
        return self._current is not None and self._current.keep(table, expiring)


def _facts(engine: Engine) -> list[tuple[bytes, bytes]]:
    """What redis-server says about a file for a replica."""
    used = engine.provided_info("memory").get("used_memory", 0)
    return [
        (b"redis-ver", engine.settings.version.encode()),
        (b"redis-bits", b"64"),
        (b"ctime", b"%d" % engine.clock.now_s),
        (b"used-mem", str(used).encode()),
        (b"repl-stream-db", b"0"),
        (b"repl-id", engine.replication_id.encode()),
        (b"repl-offset", b"0"),
        (b"aof-base", b"0"),
    ]
