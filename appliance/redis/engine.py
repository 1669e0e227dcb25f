"""The engine: databases, sessions, configuration and counters behind one Redis endpoint.

It is sans-IO: the shell gives it bytes through sessions, calls `cron` ten times a second (`hz`), and
`handle_timeouts` when `next_timeout_us` has come. Nothing here reads a clock or makes randomness; both come
in as arguments.

What a command leaves to do for others (messages to send, sessions that wait for a key it changed) sets
`attention`, and `settle` does it when the command is over: the whole EXEC, the whole script.

Units:      microseconds of Unix time (now_us).
Invariants: `databases[i].index == i`; a session is in `sessions` from create_session to Session.close.
Errors:     ValueError for settings out of range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.blocking import NEVER_US, BlockedSessions
from appliance.redis.chance import Chance
from appliance.redis.client_limits import ClientLimits
from appliance.redis.commands import all_commands
from appliance.redis.commands.connection import client_capa, client_import_source
from appliance.redis.commands.scripting import show as script_show
from appliance.redis.config import Configuration
from appliance.redis.counters import Counters, Traffic
from appliance.redis.denials import Denials
from appliance.redis.direct import IS_FASTER
from appliance.redis.engine_modes import MEMORY_LIMITED, PAUSED, SCRIPT_BUSY, STALLED, TRACKING
from appliance.redis.eviction import Memory
from appliance.redis.field_expiry import SWEEP as FIELD_SWEEP, FieldSchedule
from appliance.redis.frequency import Frequency
from appliance.redis.holding import Holding
from appliance.redis.keyspace import (
    TOUCH_CLOCK,
    TOUCH_COUNT,
    TOUCH_NOT,
    Clock,
    Database,
    KeyspaceObserver,
    KeyspaceStats,
)
from appliance.redis.migration import Migrations
from appliance.redis.monitor import Monitors
from appliance.redis.notifications import NOTIFY_GENERIC, NOTIFY_HASH, NOTIFY_KEYEVENT, NOTIFY_KEYSPACE
from appliance.redis.pubsub import PubSub
from appliance.redis.registry import Command, Registry
from appliance.redis.release import ReleaseQueue
from appliance.redis.scripting.scripts import Scripts
from appliance.redis.session import BEHIND, PARKED, Session
from appliance.redis.snapshot import Snapshots
from appliance.redis.timing import Timing
from appliance.redis.tracking import Tracking
from appliance.redis.types.collection import EncodingLimits
from appliance.redis.types.hashes import NEVER, Hash
from appliance.redis.watch import WatchRegistry

if TYPE_CHECKING:
    from appliance.redis.config_file import ConfigStore
    from appliance.redis.entry import Entry
    from appliance.redis.hash_table import Table
    from appliance.redis.process_end import ProcessEnd

REDIS_VERSION: Final = "8.2.3"  # the server whose behaviour the conformance tests compare with

# One piece of housekeeping looks at no more keys, and at no more slots of tables, than this: each about a
# quarter of a millisecond.
_EXPIRE_BUDGET: Final = 80
_EXPIRE_SAMPLE: Final = 20
_FIELD_EXPIRY_BUDGET: Final = 300  # fields removed, and hashes looked at
_SLOTS_BUDGET: Final = 1024
# Elements of released values let go at once, about half a millisecond's worth, and how soon the next follow.
_RELEASE_BUDGET: Final = 2_000
_RELEASE_EVERY_US: Final = 1_500
_WORK_EVERY_US: Final = 1_500
_ERROR_CODES: Final = 128  # told apart by INFO errorstats
_LONGEST_CODE: Final = 30

# What `attention` says is left to do.
_MESSAGES: Final = 1
_READY_KEYS: Final = 2

InfoProvider = Callable[[], dict[str, str | int]]


class EngineSettings:
    """What the engine is started with; CONFIG SET may change most of it later."""

    def __init__(
        self,
        *,
        port: int = 6379,
        databases: int = 16,
        requirepass: str = "",
        maxclients: int = 10_000,
        maxmemory: int = 0,
        proto_max_bulk_len: int = 512 * 1024 * 1024,
        server_name: str = "redis",
        version: str = REDIS_VERSION,
        redtap_version: str = "",
        configuration: Configuration | None = None,
        config_store: ConfigStore | None = None,
        renamed: list[tuple[bytes, bytes]] | None = None,
        script_memory: int = 256 * 1024 * 1024,
    ) -> None:
        """What an engine is made of.

        Args:
            redtap_version: what INFO's section `redtap` says, and what its redis_build_id is made from.
            configuration: what was read from redis.conf; the other settings go before what it says.
            config_store: the file itself, for CONFIG REWRITE.
            renamed: commands and their new names, empty for none at all.
        """
        if not 1 <= databases <= 1 << 16:
            raise ValueError(f"databases: {databases} is not in 1..65536")
        self.port = port
        self.databases = databases
        self.requirepass = requirepass
        self.maxclients = maxclients
        self.maxmemory = maxmemory
        self.proto_max_bulk_len = proto_max_bulk_len
        self.server_name = server_name
        self.version = version
        self.redtap_version = redtap_version
        self.configuration = configuration
        self.config_store = config_store
        self.renamed: list[tuple[bytes, bytes]] = renamed or []
        self.script_memory = script_memory  # bytes Lua may take


class _Observer(KeyspaceObserver):
    """Passes on what the keyspace tells."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def event(self, database: int, event_class: i64, name: bytes, key: bytes) -> None:
        places = self.engine.event_places
        pubsub = self.engine.pubsub
        if places & NOTIFY_KEYSPACE:
            pubsub.publish(b"__keyspace@%d__:%b" % (database, key), name)
        if places & NOTIFY_KEYEVENT:
            pubsub.publish(b"__keyevent@%d__:%b" % (database, name), key)

    def removed(self, database: int, key: bytes) -> None:
        if self.engine.interest != 0:
            self.engine.key_changed(database, key)

    def released(self, value: object) -> None:
        self.engine.releases.add(value)
        self.engine.release_soon()

    def emptied(self, table: Table, expiring: list[Entry]) -> None:
        if not self.engine.snapshots.keep(table, expiring):
            self.engine.releases.add_table(table, expiring)
            self.engine.release_soon()


class Engine:
    """One Redis endpoint."""

    def __init__(self, settings: EngineSettings, random_bytes: Callable[[int], bytes]) -> None:
        """An empty engine.

        Args:
            settings: sizes, limits and names.
            random_bytes: gives that many random bytes; seeds the keyed hash, the run id and sampling.
        """
        self.settings = settings
        self.clock = Clock()
        self.touching: i64 = TOUCH_CLOCK  # what sessions put into Clock.touching, unless NO-TOUCH
        self.stats = KeyspaceStats()
        self.limits = EncodingLimits()
        self.observer: KeyspaceObserver = _Observer(self)
        self.mode: i64 = 0  # bits of engine_modes
        # What the commands so far have left to do: see `settle`.
        self.attention: i64 = 0
        # Keys that somebody watches or waits for, and one if keyspace events are wanted: at 0 a change
        # concerns nobody.
        self.interest: i64 = 0
        self.event_places: i64 = 0  # NOTIFY_KEYSPACE, NOTIFY_KEYEVENT
        self.blocked = BlockedSessions(self, settings.databases)
        self.watches = WatchRegistry(self, settings.databases)
        self.pubsub = PubSub(self)
        self.releases = ReleaseQueue()
        # Nanoseconds of any clock that only goes forward, to time commands with; the shell puts one here.
        self.stopwatch: Callable[[], int] = _no_stopwatch
        self.timing = Timing(self)
        self.monitors = Monitors(self)
        self.tracking = Tracking(self)
        self.holding = Holding(self)
        self.migrations = Migrations(self)
        self.snapshots = Snapshots(self)
        # What DEBUG switches: expiry without being looked at, housekeeping, RESTORE's look at the checksum,
        # and what scripts may call.
        self.expires_actively = True
        self.is_cron_paused = False
        self.checks_dumps = True
        self.allows_denied = False  # scripts may call some of what is denied to them
        self.on_earlier_timeout: Callable[[], None] | None = None
        self._messages: list[tuple[Session, bytes]] = []
        self.random_bytes = random_bytes
        secret = random_bytes(16)
        self.limits.hash_secret = secret
        self.databases: list[Database] = [
            Database(index, secret, self.clock, self.stats, self.observer)
            for index in range(settings.databases)
        ]
        self.field_schedules: list[FieldSchedule] = [FieldSchedule() for _ in self.databases]
        self.registry = Registry(all_commands())
        # Of Valkey's.
        plain = ["noscript", "loading", "stale"]
        self.registry.add_unlisted("client|capa", -3, client_capa, ["fast", "no_auth", *plain])
        self.registry.add_unlisted("client|import-source", 3, client_import_source, plain)
        self.registry.add_unlisted("script|show", 3, script_show, ["noscript"])
        self.get_command: Command = self.registry.commands[b"get"]
        self.set_command: Command = self.registry.commands[b"set"]
        # Whether plain GET and SET take the short way of direct.py; not where the names mean something else.
        self.is_direct: bool = IS_FASTER
        self.config_store: ConfigStore | None = settings.config_store
        for name, new_name in settings.renamed:
            self.registry.rename(name, new_name)
            if name.lower() in (b"get", b"set"):
                self.is_direct = False
        configuration = settings.configuration
        self.configuration = Configuration({}) if configuration is None else configuration
        self.configuration.override(settings_overrides(settings))
        self.max_bulk: i64 = settings.proto_max_bulk_len
        self.run_id: str = random_bytes(20).hex()
        self.replication_id: str = self.run_id
        self.sessions: dict[int, Session] = {}
        self._privileged_sessions: i64 = 0  # of those: they take nobody's place
        self.dirty: i64 = 0  # changes since the start; what would have to be saved or replicated
        self.shutdown_requested = False
        # What the shell does when DEBUG ends the process; None where that is not for us to do.
        self.on_process_end: Callable[[ProcessEnd], None] | None = None
        self.process_end: ProcessEnd | None = None
        # EXEC, or what runs a script, with those inside of it: they are counted, and not over.
        self.enclosing: list[Command] = []
        self.started_us: i64 = 0
        self.counters = Counters()
        self.denials = Denials()
        self.traffic = Traffic()
        self.error_counts: dict[bytes, int] = {}
        self.counts_errors_apart = True
        self.connections_received: i64 = 0
        self.commands_executed: i64 = 0  # by all sessions, so that no cron has to ask ten thousand of them
        self.bytes_in_by_closed: i64 = 0
        self.bytes_out_by_closed: i64 = 0
        self.reset_commands: i64 = 0  # totals at the last CONFIG RESETSTAT
        self.reset_bytes_in: i64 = 0
        self.reset_bytes_out: i64 = 0
        self.ops_per_second: i64 = 0
        self.peak_sessions: i64 = 0
        self._info_providers: dict[str, list[InfoProvider]] = {}
        self._pending: dict[int, Session] = {}
        self._next_session_id = 1
        self.chance = Chance(int.from_bytes(random_bytes(4), "little") | 1)
        self.clock.frequency = Frequency(self.random)
        self._sampled_us: i64 = 0
        self._sampled_commands: i64 = 0
        self._cron_db: i64 = 0
        # Housekeeping has not come to its end: call `work` soon.
        self.has_work = False
        self._work_at_us: i64 = NEVER_US
        self._release_at_us: i64 = NEVER_US
        self.memory = Memory(self)
        self.scripts = Scripts(self, settings.script_memory)
        # What redis.log is called with: a level (0 debug .. 3 warning) and a text.
        self.on_script_log: Callable[[int, bytes], None] | None = None
        self.max_sessions: i64 = settings.maxclients
        self.rejected_connections: i64 = 0
        self.client_limits = ClientLimits(self)
        self._follow_configuration()

    # Sessions -------------------------------------------------------------------------------------

    def create_session(self, *, remote: str, local: str, now_us: int, is_privileged: bool = False) -> Session:
        """A session for a new connection.

        Args:
            remote: the peer as CLIENT LIST shows it, `10.77.0.1:4711`.
            local: our end, in the same form.
            now_us: wall clock, Unix microseconds.
            is_privileged: `maxclients` is not for this one, nor does it count towards it. Others get a
                session that has the refusal as its output and is closing already.
        """
        self.clock.set_us(now_us)
        if self.started_us == 0:
            self.started_us = now_us
        session_id = self._next_session_id
        self._next_session_id += 1
        session = Session(self, session_id, remote, local, now_us, self.configuration.requirepass != b"")
        self.connections_received += 1
        if is_privileged:
            session.is_privileged = True
            self._privileged_sessions += 1
        elif len(self.sessions) - self._privileged_sessions >= self.max_sessions:
            self.rejected_connections += 1
            session.refuse(b"ERR max number of clients reached")
            return session
        self.sessions[session_id] = session
        if len(self.sessions) > self.peak_sessions:
            self.peak_sessions = len(self.sessions)
        return session

    def number_sessions_from(self, first: int) -> None:
        """The id of the next session; they never repeat, so no lower than it would be."""
        self._next_session_id = max(first, self._next_session_id)

    def forget_session(self, session: Session) -> None:
        """Drop a closed session, keeping what it counted."""
        if self.sessions.pop(session.id, None) is not None:
            if session.is_privileged:
                self._privileged_sessions -= 1
            self.client_limits.forget(session)
            self.bytes_in_by_closed += session.bytes_in
            self.bytes_out_by_closed += session.bytes_out

    def mark_pending(self, session: Session) -> None:
        """The session has output, or must be closed, without having received anything itself."""
        self._pending[session.id] = session

    def take_pending_sessions(self) -> list[Session]:
        """Sessions marked since the last call, each once: send their output, close those that are closing.

        Sessions that were parked and have been answered go on with their input first; that may add others.
        """
        if self.tracking.has_broadcasts:
            self.tracking.broadcast()
            self.settle(None)
        if len(self._pending) == 0:
            return []
        pending: dict[int, Session] = {}
        while len(self._pending) > 0:
            marked = self._pending
            self._pending = {}
            for session in marked.values():
                pending[session.id] = session
                if session.mode & (BEHIND | PARKED) == BEHIND and not session.is_closing:
                    session.go_on()
        return list(pending.values())

    def end_process(self, end: ProcessEnd) -> None:
        """Execute nothing any more, and tell the shell; there must be one that can do it."""
        assert self.on_process_end is not None
        self.process_end = end
        self.holding.stall_for_ever()
        self.on_process_end(end)

    def close(self) -> None:
        """Another engine takes this one's place: end its clients, and leave its data to `releases`."""
        for session in list(self.sessions.values()):
            session.kill()
        self.scripts.close()
        for database in self.databases:
            database.clear()

    def set_mode(self, bit: i64, is_on: bool) -> None:
        """Enter or leave a special state, one of `engine_modes`."""
        self.mode = self.mode | bit if is_on else self.mode & ~bit

    # What commands leave to do --------------------------------------------------------------------

    def push(self, session: Session, wire: bytes) -> None:
        """Send a session a message, in wire form, when the command being executed is over."""
        self._messages.append((session, wire))
        self.attention |= _MESSAGES

    def attend(self) -> None:
        """There is something to `settle`."""
        self.attention |= _MESSAGES

    def key_changed(self, database: int, key: bytes) -> None:
        """Tell those who watch a key, or wait for it."""
        if self.mode & MEMORY_LIMITED:
            self.memory.key_changed(database, key)
        if len(self.watches.sessions) > 0:
            self.watches.key_changed(database, key)
        if self.tracking.is_interested:
            self.tracking.key_changed(key)
        self.key_ready(database, key)

    def key_ready(self, database: int, key: bytes) -> None:
        """Let those who wait for a key look again."""
        if self.blocked.key_changed(database, key):
            self.attention |= _READY_KEYS

    def database_replaced(self, database: int, new: Database | None) -> None:
        """To be called before all keys of a database go; `new` is what takes their place."""
        if self.interest == 0:
            return
        if self.mode & MEMORY_LIMITED:
            if new is None:
                self.memory.database_emptied(database)
            elif database < new.index:  # of a swap one hears twice
                self.memory.databases_swapped(database, new.index)
        self.watches.database_replaced(database, new)
        if self.blocked.database_changed(database):
            self.attention |= _READY_KEYS

    def settle(self, current: Session | None) -> None:
        """A command is over: send the messages it caused, serve those who wait for keys it changed.

        Args:
            current: the session whose command it was; its output is being fetched anyway.
        """
        if self.mode & SCRIPT_BUSY:
            return  # the command is not over
        while self.attention != 0:
            attention = self.attention
            self.attention = 0
            if self.mode & TRACKING:
                self.tracking.tell_current()
            if attention & _MESSAGES:
                messages = self._messages
                self._messages = []
                for session, wire in messages:
                    session.push(wire)
                    if session is not current:
                        self.mark_pending(session)
            if attention & _READY_KEYS:
                self.blocked.serve()

    # Time -----------------------------------------------------------------------------------------

    def cron(self, now_us: int) -> None:
        """Housekeeping, to be called every `cron_period_us`: rates, clients, the first piece of `work`."""
        self.clock.set_us(now_us)
        self.tracking.current = None
        if self.started_us == 0:
            self.started_us = now_us
        self._sample_rate(now_us)
        if self.is_cron_paused:
            return
        self.client_limits.cron(now_us)
        if self.mode & SCRIPT_BUSY:
            return  # no key may go under its feet
        self._sweep_schedules()
        self.work(now_us)

    def cron_period_us(self) -> int:
        """From the parameter `hz`."""
        return 1_000_000 // int(self.client_limits.hz)

    def work(self, now_us: int) -> bool:
        """A piece, about half a millisecond, of active expiry, resizing and packing.

        Returns:
            Whether there is more that should not wait for the next `cron`.
        """
        self.clock.set_us(now_us)
        self.tracking.current = None
        if self.mode & (STALLED | SCRIPT_BUSY):
            self._work_at_us = NEVER_US
            return False
        start: i64 = self.stopwatch()
        self.has_work = self._active_expiry()
        if self._expire_fields():
            self.has_work = True
        took_ns: i64 = self.stopwatch() - start
        self.counters.expiring_ns += took_ns
        self.timing.event(b"expire-cycle", took_ns)
        left: i64 = _SLOTS_BUDGET
        for database in self.databases:
            if database.has_work and left > 0:
                database.work(left)
                left -= _SLOTS_BUDGET // 4
                if database.has_work:
                    self.has_work = True
        if self.memory.is_behind and self.mode & PAUSED == 0:
            # What `maxmemory-eviction-tenacity` put off.
            self.memory.make_room()
            self.has_work = self.has_work or self.memory.is_behind
        self._work_at_us = now_us + _WORK_EVERY_US if self.has_work else NEVER_US
        if self.attention != 0:
            self.settle(None)
        return self.has_work

    @property
    def is_busy(self) -> bool:
        """Whether there is housekeeping that does not wait for the next `cron`."""
        return self.has_work or not self.releases.is_empty()

    def next_timeout_us(self) -> int:
        """When `handle_timeouts` wants to be called, in Unix microseconds; NEVER_US if nothing is due."""
        return min(self._next_timeout_us(), self.snapshots.next_us)

    def _next_timeout_us(self) -> i64:
        if self.mode & STALLED:
            return min(self.holding.next_us, self._release_at_us)
        if self.mode & SCRIPT_BUSY:
            return min(self.scripts.resume_at_us, self._release_at_us)
        if self.mode & PAUSED:
            return min(self.holding.next_us, self.blocked.earliest_us, self._release_at_us, self._work_at_us)
        return min(self.blocked.earliest_us, self._release_at_us, self._work_at_us)

    def handle_timeouts(self, now_us: int) -> None:
        """Answer the sessions that have waited long enough, and let go of a piece of what is to be freed."""
        self.clock.set_us(now_us)
        self.tracking.current = None
        if self.mode & (PAUSED | STALLED) != 0:
            self.holding.handle_timeouts(now_us)
        if self.mode & STALLED:
            pass
        elif self.mode & SCRIPT_BUSY:
            self.scripts.resume(now_us)
        elif self.blocked.earliest_us <= now_us:
            self.blocked.expire(now_us)
        if self._release_at_us <= now_us:
            more = self.releases.work(_RELEASE_BUDGET)
            self._release_at_us = now_us + _RELEASE_EVERY_US if more else NEVER_US
        if self._work_at_us <= now_us and self.mode & SCRIPT_BUSY == 0:
            self.work(now_us)
        if self.snapshots.next_us <= now_us:
            self.snapshots.work(now_us)

    def evict_soon(self) -> None:
        """There are keys that must go, more than one command was to wait for."""
        if self._work_at_us == NEVER_US:
            self._work_at_us = self.clock.now_us + _WORK_EVERY_US
            self.timeout_came_earlier()

    def release_soon(self) -> None:
        """There is something to be let go of."""
        if self._release_at_us == NEVER_US and not self.releases.is_empty():
            self._release_at_us = self.clock.now_us + _RELEASE_EVERY_US
            self.timeout_came_earlier()

    def timeout_came_earlier(self) -> None:
        """`next_timeout_us` is earlier than it was: tell the shell, if it wants to know."""
        if self.on_earlier_timeout is not None:
            self.on_earlier_timeout()

    def _active_expiry(self) -> bool:
        """Sample keys with an expire time; go on with a database while a quarter of its sample had expired.

        The databases take turns at being first, so a busy one cannot use up the budget of all for ever.

        Returns:
            Whether the budget ended it.
        """
        if self.mode & PAUSED or not self.expires_actively:
            return False
        budget: i64 = _EXPIRE_BUDGET
        count: i64 = len(self.databases)
        step: i64 = 0
        seen: i64 = 0
        stale: i64 = 0
        while step < count and budget > 0:
            database = self.databases[(self._cron_db + step) % count]
            step += 1
            while budget > 0 and database.expiring_count > 0:
                looked, expired = database.expire_sample(_EXPIRE_SAMPLE, self.random)
                budget -= looked
                seen += looked
                stale += expired
                if expired * 4 <= looked:
                    break
        self._cron_db = (self._cron_db + 1) % count
        counters = self.counters
        share = int(stale) / int(seen) if seen > 0 else 0.0
        counters.stale_share += (share - counters.stale_share) * 0.05  # the server's running average
        if budget <= 0:
            counters.expire_budget_reached += 1
            return True
        return False

    def _sweep_schedules(self) -> None:
        """Forget keys that are scheduled though nothing there expires any more."""
        for database in self.databases:
            schedule = self.field_schedules[database.index]
            sweep: i64 = FIELD_SWEEP
            while sweep > 0 and len(schedule) > 0:
                sweep -= 1
                key = schedule.next_to_check()
                if _hash_with_times(database, key) is None:
                    schedule.reschedule(key, NEVER)

    def _expire_fields(self) -> bool:
        """Remove fields of hashes whose time is past, those of a database in the order of their times.

        Returns:
            Whether the budget ended it.
        """
        if self.mode & PAUSED or not self.expires_actively:
            return False
        budget: i64 = _FIELD_EXPIRY_BUDGET
        for database in self.databases:
            schedule = self.field_schedules[database.index]
            while budget > 0:
                due = schedule.first_due(self.clock.now_ms)
                if due is None:
                    break
                budget -= 1 + self._expire_fields_at(database, schedule, due, budget)
        return budget <= 0

    def _expire_fields_at(self, database: Database, schedule: FieldSchedule, key: bytes, budget: i64) -> i64:
        """Remove up to `budget` expired fields of the hash at a scheduled key; how many."""
        value = _hash_with_times(database, key)
        if value is None:
            schedule.reschedule(key, NEVER)
            return 0
        expired = value.pop_expired(self.clock.now_ms, budget)
        schedule.reschedule(key, value.next_expiry_ms)
        if expired > 0:
            self.stats.expired_fields += expired
            self._event(database, NOTIFY_HASH, b"hexpired", key)
            if len(value) == 0:
                database.delete(key)
                self._event(database, NOTIFY_GENERIC, b"del", key)
            if self.interest != 0:
                self.key_changed(database.index, key)
        return expired

    def _event(self, database: Database, event_class: i64, name: bytes, key: bytes) -> None:
        """A keyspace event that no command has caused."""
        if self.observer.event_classes & event_class:
            self.observer.event(database.index, event_class, name, key)

    def _sample_rate(self, now_us: i64) -> None:
        elapsed = now_us - self._sampled_us
        if elapsed < 100_000:
            return
        total = self.commands_processed()
        if self._sampled_us != 0:
            self.ops_per_second = (total - self._sampled_commands) * 1_000_000 // elapsed
        self._sampled_us = now_us
        self._sampled_commands = total
        if self.traffic.is_due(now_us):
            self.traffic.sample(now_us, self.total_bytes_in(), self.total_bytes_out())

    # Services to handlers -------------------------------------------------------------------------

    def random(self) -> int:
        """A number in 1 .. 2**32 - 1: for sampling, not for secrets."""
        return self.chance.draw()

    def count_error(self, message: bytes) -> None:
        """An error reply was made. What it counts under is its first word, when that ends soon enough."""
        end = message.find(b" ", 0, _LONGEST_CODE + 1)
        code = message[:end] if end >= 0 else b"ERR"
        self.counters.error_replies += 1
        counts = self.error_counts
        if code in counts:
            counts[code] += 1
        elif self.counts_errors_apart:
            if len(counts) < _ERROR_CODES:
                counts[code] = 1
            else:  # scripts make any number of codes: the server gives up on all of them
                self.counts_errors_apart = False
                self.error_counts = {b"ERRORSTATS_DISABLED": 1}

    def commands_under_way(self) -> list[Command]:
        """Those round the command being executed which have been counted already, unlike in redis-server."""
        # One that was interrupted is counted when it is over.
        return self.enclosing if self.scripts.job is None else self.enclosing[1:]

    def commands_processed(self) -> i64:
        return self.commands_executed

    def total_bytes_in(self) -> i64:
        total = self.bytes_in_by_closed
        for session in self.sessions.values():
            total += session.bytes_in
        return total

    def total_bytes_out(self) -> i64:
        total = self.bytes_out_by_closed
        for session in self.sessions.values():
            total += session.bytes_out
        return total

    def has_room(self) -> bool:
        """Whether the memory limit allows commands that need more memory; keys may go for it."""
        if self.mode & PAUSED:
            return True  # nothing may go now, and nobody who writes gets here
        counters = self.counters
        start = self.stopwatch() if self.timing.latency.threshold_ms != 0 else 0
        has_room = self.memory.make_room()
        if self.timing.latency.threshold_ms != 0:
            self.timing.event(b"eviction-cycle", self.stopwatch() - start)
        if has_room:
            if counters.refusing_since_us != 0:
                counters.refusing_us += self.clock.now_us - counters.refusing_since_us
                counters.refusing_since_us = 0
            return True
        if counters.refusing_since_us == 0:
            counters.refusing_since_us = self.clock.now_us
        return False

    def reset_stats(self) -> None:
        """CONFIG RESETSTAT."""
        self.stats.reset()
        self.counters.reset()
        self.client_limits.reset_stats()
        self.error_counts = {}
        self.counts_errors_apart = True
        self.connections_received = 0
        counted = self.commands_under_way()
        # The one that does it comes after, as do those that it is part of.
        self.reset_commands = self.commands_processed() - 1 - len(counted)
        self.reset_bytes_in = self.total_bytes_in()
        self.reset_bytes_out = self.total_bytes_out()
        for command in self.registry.every():
            command.reset_counters()
        for command in counted:
            command.calls += 1

    def configuration_changed(self) -> None:
        """Apply CONFIG SET to what keeps a copy of a parameter."""
        self._follow_configuration()
        self.max_bulk = self.configuration.integer("proto-max-bulk-len")
        for session in self.sessions.values():
            session.parser.max_bulk = self.max_bulk
        if self.configuration.requirepass == b"":
            for session in self.sessions.values():
                session.set_authenticated(True)

    def _follow_configuration(self) -> None:
        configuration = self.configuration
        follow_limits(self.limits, configuration)
        self.client_limits.configure(configuration)
        flags = configuration.event_flags
        self.event_places = flags & (NOTIFY_KEYSPACE | NOTIFY_KEYEVENT)
        # Without a place nothing is published: then nobody needs to make events.
        limit = configuration.integer("maxmemory")
        policy = configuration.text("maxmemory-policy")
        self.memory.configure(
            limit,
            policy,
            configuration.integer("maxmemory-samples"),
            configuration.integer("maxmemory-eviction-tenacity"),
        )
        self._follow_policy(policy)
        self.interest += (limit != 0) - (self.mode & MEMORY_LIMITED != 0)
        self.set_mode(MEMORY_LIMITED, limit != 0)
        self.timing.configure(configuration)
        self.tracking.max_keys = configuration.integer("tracking-table-max-keys")
        self.max_sessions = configuration.integer("maxclients")
        classes = flags & ~(NOTIFY_KEYSPACE | NOTIFY_KEYEVENT) if self.event_places else 0
        self.interest += (classes != 0) - (self.observer.event_classes != 0)
        self.observer.event_classes = classes

    def _follow_policy(self, policy: bytes) -> None:
        """Count how often keys are used, if the policy of `maxmemory` wants to know."""
        frequency = self.clock.frequency
        frequency.log_factor = self.configuration.integer("lfu-log-factor")
        frequency.decay_minutes = self.configuration.integer("lfu-decay-time")
        is_counting = policy.endswith(b"-lfu")
        if is_counting != self.clock.is_counting:
            self.clock.is_counting = is_counting
            self.touching = TOUCH_COUNT if is_counting else TOUCH_CLOCK
            for session in self.sessions.values():
                session.follow_touching()
            # That of the command being executed.
            if self.clock.touching != TOUCH_NOT:
                self.clock.touching = self.touching

    def set_info_provider(self, section: str, fn: InfoProvider) -> None:
        """Add facts to a section of INFO, a new one if need be; they override ours of the same name.

        Args:
            section: as a client asks for it (`memory`, `stack`), in any case.
            fn: called at each INFO; field name to value, in order.
        """
        self._info_providers.setdefault(section.lower(), []).append(fn)

    def provided_info(self, section: str) -> dict[str, str | int]:
        """What the providers say of a section."""
        facts: dict[str, str | int] = {}
        for provider in self._info_providers.get(section, []):
            facts.update(provider())
        return facts

    def provided_sections(self) -> list[str]:
        return list(self._info_providers)


def _no_stopwatch() -> int:
    return 0


def follow_limits(limits: EncodingLimits, configuration: Configuration) -> None:
    """Set the sizes at which encodings change to what CONFIG SET says."""
    limits.hash_max_listpack_entries = configuration.integer("hash-max-listpack-entries")
    limits.hash_max_listpack_value = configuration.integer("hash-max-listpack-value")
    limits.list_max_listpack_size = configuration.integer("list-max-listpack-size")
    limits.list_compress_depth = configuration.integer("list-compress-depth")
    limits.set_max_intset_entries = configuration.integer("set-max-intset-entries")
    limits.set_max_listpack_entries = configuration.integer("set-max-listpack-entries")
    limits.set_max_listpack_value = configuration.integer("set-max-listpack-value")
    limits.zset_max_listpack_entries = configuration.integer("zset-max-listpack-entries")
    limits.zset_max_listpack_value = configuration.integer("zset-max-listpack-value")
    limits.hll_sparse_max_bytes = configuration.integer("hll-sparse-max-bytes")
    limits.stream_node_max_bytes = configuration.integer("stream-node-max-bytes")
    limits.stream_node_max_entries = configuration.integer("stream-node-max-entries")


def _hash_with_times(database: Database, key: bytes) -> Hash | None:
    """The hash at a key, if there is one that has fields that expire."""
    entry = database.find(key)
    if entry is None:
        return None
    value = entry.value
    return value if isinstance(value, Hash) and value.next_expiry_ms != NEVER else None


def settings_overrides(settings: EngineSettings) -> dict[str, str]:
    """The configuration parameters that the settings decide."""
    return {
        "port": str(settings.port),
        "databases": str(settings.databases),
        "requirepass": settings.requirepass,
        "maxclients": str(settings.maxclients),
        "maxmemory": str(settings.maxmemory),
        "proto-max-bulk-len": str(settings.proto_max_bulk_len),
    }
