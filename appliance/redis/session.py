"""One client of the engine: request bytes in, reply bytes out.

The session is driven by four things: `data_received`, another session's command (CLIENT KILL, a message, a
key that this one waits for), a deadline of its own (`Engine.handle_timeouts`), and `close`. Sessions that
have something to say without having received anything come out of `Engine.take_pending_sessions`. It never
waits and does no I/O.

    request -> command table -> arity -> is it allowed now? -> handler -> typed reply -> reply buffer

Plain GET and SET do not come that far: see direct.py.

`mode` is zero for a session in no special state, which is what nearly all requests meet: one look at it, and
at the engine's own `mode`, replaces all the questions of `_is_admitted`.

A command that blocks parks its session: what the client sends from then on is kept, and goes on when the
command has been answered. While a script is debugged it is for the debugger instead (`dialogue`).

Source:     the order of the checks is redis-server's.
Units:      microseconds of Unix time (now_us).
Invariants: replies leave in the order of their requests; after `is_closing` no request is executed.
Errors:     a CommandError of a handler becomes an error reply; any other exception is a bug and passes
            through.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.blocking import NEVER_US, Waiting
from appliance.redis.direct import NOT_TIMED, serve_direct
from appliance.redis.engine_modes import (
    CLIENTS_LIMITED,
    MEMORY_LIMITED,
    MONITORED,
    PAUSED,
    REPLIES_LIMITED,
    SCRIPT_BUSY,
    STALLED,
    TRACKING,
)
from appliance.redis.errors import CommandError
from appliance.redis.keyspace import TOUCH_NOT
from appliance.redis.notifications import NOTIFY_GENERIC
from appliance.redis.pubsub import Subscriptions, remove_listener
from appliance.redis.registry import (
    ADMIN,
    DENYOOM,
    MAY_REPLICATE,
    NO_AUTH,
    NO_MULTI,
    READONLY,
    SKIP_MONITOR,
    WRITE,
    Command,
)
from appliance.redis.replies import NO_REPLY, QUEUED, ReplyBuffer, SimpleError
from appliance.redis.resp import RequestParser

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.keyspace import Clock, Database, KeyspaceObserver
    from appliance.redis.scripting.debugger import Dialogue
    from appliance.redis.snapshot import ReplicaState
    from appliance.redis.tracking import Tracked
    from appliance.redis.watch import WatchedKey

# The special states of a session, bits of `mode`.
# CLIENT REPLY: OFF until ON; SKIP is "not this reply", SKIP_NEXT "not the one after".
REPLY_OFF: Final = 1 << 0
REPLY_SKIP: Final = 1 << 1
REPLY_SKIP_NEXT: Final = 1 << 2
LOCKED: Final = 1 << 3  # must authenticate first
IN_MULTI: Final = 1 << 4
ABORTED: Final = 1 << 5  # a command was refused after MULTI: EXEC will fail
SPOILED: Final = 1 << 6  # a watched key was touched: EXEC will answer null
PARKED: Final = 1 << 7  # waits inside a command
BEHIND: Final = 1 << 8  # has kept input to go on with
SUBSCRIBED: Final = 1 << 9  # listens to channels
NO_BLOCKING: Final = 1 << 10  # inside EXEC or a script: a command that would block gives up at once
MONITORING: Final = 1 << 16  # is told of all commands
TRACKED: Final = 1 << 17  # CLIENT TRACKING ON
REPLICA: Final = 1 << 18  # gets a snapshot, and is closed then, or when a command of its own is answered

# What SCRIPT DEBUG has said: how EVAL runs.
NO_DEBUG: Final = 0
DEBUG_HERE: Final = 1  # SYNC
DEBUG_FORKED: Final = 2  # YES

# With a piece of input as large as this the limit on unfinished requests is looked at, with such a message
# that on unsent replies.
_LARGE_PIECE: Final = 16 * 1024

# States of the engine in which requests may have to wait, or their session to end.
_STOPPING: Final = STALLED | CLIENTS_LIMITED | REPLIES_LIMITED
_REPLY_MODES: Final = REPLY_OFF | REPLY_SKIP | REPLY_SKIP_NEXT

# Executed at once after MULTI.
_UNQUEUED: Final = frozenset([b"exec", b"discard", b"multi", b"watch", b"quit", b"reset"])
# What a client that listens to channels may say in RESP2.
_SUBSCRIBED_MAY: Final = frozenset(
    [
        b"ping",
        b"subscribe",
        b"ssubscribe",
        b"unsubscribe",
        b"sunsubscribe",
        b"psubscribe",
        b"punsubscribe",
        b"quit",
        b"reset",
    ]
)


class Session:
    """The state of one connection."""

    def __init__(
        self, engine: Engine, session_id: int, remote: str, local: str, now_us: i64, must_authenticate: bool
    ) -> None:
        self.owner: object | None = None
        self.engine: Engine = engine
        self.observer: KeyspaceObserver = engine.observer
        self.id = session_id
        self.remote = remote
        self.local = local
        self.created_us: i64 = now_us
        self.last_interaction_us: i64 = now_us
        self.db: Database = engine.databases[0]
        self.clock: Clock = engine.clock
        self.mode: i64 = LOCKED if must_authenticate else 0
        self.resp3 = False
        self.name: bytes = b""
        self.library_name: bytes = b""
        self.library_version: bytes = b""
        self.is_closing = False
        self.is_over_limit = False  # closing, because of one: what it is owed is not sent
        self.is_privileged = False  # of the control socket, for one
        self.is_no_evict = False
        self.is_no_touch = False
        self.can_redirect = False  # as Valkey's clients say
        self.debug_mode: i64 = NO_DEBUG
        self.dialogue: Dialogue | None = None  # while a script is debugged: gets the input
        self.touching: i64 = engine.touching  # for Clock.touching
        self.last_command: Command | None = None
        self.commands_executed: i64 = 0
        self.bytes_in: i64 = 0
        self.bytes_out: i64 = 0
        self.waiting: Waiting | None = None
        self.subscriptions: Subscriptions | None = None
        self.tracked: Tracked | None = None
        self.replica: ReplicaState | None = None  # what REPLCONF said
        self.watched: list[WatchedKey] = []
        self.queued: list[tuple[Command, list[bytes]]] = []
        self.queued_flags: i64 = 0  # those of all queued commands together
        self.parser = RequestParser(engine.max_bulk)
        self.parser.is_restricted = must_authenticate
        self._kept: deque[bytes] | None = None
        self.kept_bytes: i64 = 0
        self.queued_bytes: i64 = 0  # of the requests in `queued`
        self.unsent_bytes: i64 = 0  # of replies taken, that the owner could not send yet
        self.over_soft_since_us: i64 = 0  # the soft limit of the output, 0 when below
        self.counted_bytes: i64 = 0  # what `maxmemory-clients` has counted this one as
        self._commands: dict[bytes, Command] = engine.registry.by_spelling
        # The latest command, and its name as the object that it was: the parser gives the same object for the
        # same name, as long as it keeps it.
        self._latest_name: bytes = b""
        self._latest: Command | None = None
        self._replies = ReplyBuffer()
        self._withheld: ReplyBuffer | None = None  # of an EXEC that may be interrupted

    def __repr__(self) -> str:
        return (
            f"Session(id={self.id}, remote={self.remote!r}, db={self.db.index}, is_closing={self.is_closing})"
        )

    @property
    def is_parked(self) -> bool:
        """Waiting inside a command: what is received is kept, and comes to `kept_bytes`."""
        return self.mode & PARKED != 0

    @property
    def must_authenticate(self) -> bool:
        return self.mode & LOCKED != 0

    def set_authenticated(self, authenticated: bool) -> None:
        if authenticated:
            self.mode &= ~LOCKED
        else:
            self.mode |= LOCKED
        self.parser.is_restricted = not authenticated

    def set_no_touch(self, is_no_touch: bool) -> None:
        """CLIENT NO-TOUCH: whether the keys that this session looks up stay as they are."""
        self.is_no_touch = is_no_touch
        self.follow_touching()

    def follow_touching(self) -> None:
        """The policy of `maxmemory`, or NO-TOUCH, may have changed."""
        self.touching = TOUCH_NOT if self.is_no_touch else self.engine.touching

    def add_commands(self, commands: list[Command]) -> None:
        """Give this session commands that others do not have; in one of the two common spellings."""
        mine = dict(self._commands)
        for command in commands:
            mine[command.name] = command
            mine[command.name.upper()] = command
        self._commands = mine
        self._latest_name = b""
        self._latest = None

    # Input ----------------------------------------------------------------------------------------

    def data_received(self, data: bytes, now_us: i64, start: i64 = 0) -> None:
        """Execute every request that is whole with these bytes, or keep them while the session is parked.

        Args:
            data: the next bytes of the stream, cut anywhere.
            now_us: wall clock, Unix microseconds.
            start: where in `data` they begin; what is before is somebody else's.
        """
        count: i64 = len(data) - start
        if self.is_closing or count <= 0:
            return
        self.clock.set_us(now_us)
        self.clock.touching = self.touching
        self.last_interaction_us = now_us
        self.bytes_in += count
        if self.mode & (PARKED | BEHIND) != 0:
            dialogue = self.dialogue
            if dialogue is not None:
                dialogue.feed(data if start == 0 else data[start:])
                return
            self._keep(data if start == 0 else data[start:])
            if count >= _LARGE_PIECE:
                self.engine.client_limits.check_query(self)
            if self.engine.mode & CLIENTS_LIMITED:
                self.engine.client_limits.count(self)
            return
        parser = self.parser
        if parser.is_in_bulk() or self.queued_bytes != 0:
            # What these bytes make whole counts before it is executed.
            if not self.engine.client_limits.takes(self, count):
                return
        parser.feed(data, start)
        self._execute_all(parser)
        if count >= _LARGE_PIECE:
            self.engine.client_limits.check_query(self)

    def _keep(self, data: bytes) -> None:
        if self._kept is None:
            self._kept = deque()
        self._kept.append(data)
        self.kept_bytes += len(data)
        if self.mode & PARKED == 0:
            self.go_on()

    def go_on(self) -> None:
        """Execute what came while the session was parked, until it is parked again."""
        self.clock.touching = self.touching
        self._execute_all(self.parser)
        kept = self._kept
        while kept is not None and len(kept) > 0 and self.mode & PARKED == 0 and not self.is_closing:
            data = kept.popleft()
            self.kept_bytes -= len(data)
            self.parser.feed(data)
            self._execute_all(self.parser)
        if self.mode & PARKED == 0:
            self._kept = None
            self.kept_bytes = 0
            self.mode &= ~BEHIND

    def _execute_all(self, parser: RequestParser) -> None:
        engine = self.engine
        while True:
            if self.mode | engine.mode == 0:
                if engine.is_direct and parser.is_between_requests():
                    parser.pos = serve_direct(self, parser.data, parser.pos)
            elif engine.mode & _STOPPING != 0 and self._must_stop():
                return
            args = parser.next_request()
            if args is None:
                break
            self.execute(args)
            if self.is_closing or self.mode & PARKED != 0:
                return
        error = parser.error
        if error is not None:
            self.engine.count_error(error)
            self._append(SimpleError(b"ERR " + error))
            self.is_closing = True

    def _must_stop(self) -> bool:
        """Before the next request, in an engine in a special state: whether it must not be executed now."""
        engine = self.engine
        if engine.mode & REPLIES_LIMITED:
            engine.client_limits.check_output(self, self.clock.now_us)
        if engine.mode & CLIENTS_LIMITED:
            engine.client_limits.count(self)
        if self.is_closing:
            return True
        if engine.mode & STALLED and not self.is_privileged:
            engine.holding.hold(self, [])
            return True
        return False

    def executed_direct(
        self, gets: i64, sets: i64, is_last_set: bool, replies: bytes, started_ns: i64
    ) -> None:
        """Count what `serve_direct` has done, and append the replies.

        Args:
            started_ns: what the stopwatch read when it began, or NOT_TIMED.
        """
        engine = self.engine
        self.last_command = engine.set_command if is_last_set else engine.get_command
        self.commands_executed += gets + sets
        engine.commands_executed += gets + sets
        engine.dirty += sets
        engine.get_command.calls += gets
        engine.set_command.calls += sets
        self._replies.block(replies)
        if started_ns == NOT_TIMED:
            engine.get_command.pass_untimed(gets)
            engine.set_command.pass_untimed(sets)
            return
        took_ns = (i64(engine.stopwatch()) - started_ns) // (gets + sets)
        if gets > 0:
            engine.timing.took_direct(engine.get_command, took_ns)
        if sets > 0:
            engine.timing.took_direct(engine.set_command, took_ns)

    def execute(self, args: list[bytes]) -> None:
        """Execute one request and append its reply."""
        name = args[0]
        command = self._latest
        if command is None or name is not self._latest_name:
            command = self._commands.get(name)
            if command is None or command.subcommands is not None:
                command = self._resolve(args)
                if command is None:
                    return
            else:
                self._latest = command
                self._latest_name = name
        if not command.accepts(len(args)):
            self.reject(command, errors.wrong_arity(command.full_name))
            return
        engine = self.engine
        if self.mode | engine.mode != 0 and not self._is_admitted(command, args):
            return
        reply = self._run(command, args)
        if self.mode | engine.mode == 0:
            self._replies.reply(reply, self.resp3)
        else:
            self._finish(command, args, reply)
        if engine.attention != 0:
            engine.settle(self)

    def _run(self, command: Command, args: list[bytes]) -> object:
        """Run a command that may run now, counted and timed; its reply, an error included."""
        self.last_command = command
        self.commands_executed += 1
        self.engine.commands_executed += 1
        command.calls += 1
        try:
            left = command.untimed
            if left == 0 or len(args) > command.most_quick_arguments:
                return self._timed(command, args)
            command.untimed = left - 1
            return command.function(self, args)
        except CommandError as error:
            command.failed_calls += 1
            return self._failure(error.message)

    def _timed(self, command: Command, args: list[bytes]) -> object:
        """Run a command with a look at the stopwatch before and after."""
        engine = self.engine
        start: i64 = engine.stopwatch()
        try:
            return command.function(self, args)
        finally:
            # One that waits has not been, and is counted when it is answered.
            took_ns: i64 = engine.stopwatch() - start
            waiting = self.waiting
            if self.mode & PARKED == 0:
                engine.timing.took(self, command, args, took_ns)
            elif waiting is not None:
                waiting.took_ns += took_ns

    def _finish(self, command: Command, args: list[bytes], reply: object) -> None:
        """After a command, when the session or the engine is in a special state now."""
        engine = self.engine
        if engine.mode & TRACKING:
            engine.tracking.executed(command, args)
            tracked = self.tracked
            if tracked is not None and self.mode & IN_MULTI == 0 and not _is_about_clients(command):
                tracked.caching = False
        if engine.mode & MONITORED and command.flags & (SKIP_MONITOR | ADMIN) == 0:
            engine.monitors.feed(self, args)
        if self.mode & PARKED == 0:
            self._append(reply)
            return
        waiting = self.waiting
        if waiting is not None and len(waiting.args) == 0:
            waiting.args = args

    def call(self, command: Command, args: list[bytes]) -> object:
        """Run a command that has passed all checks, for EXEC and for commands tried again; its reply."""
        reply = self._run(command, args)
        if self.engine.mode & TRACKING:
            self.engine.tracking.executed(command, args)
        return reply

    def _resolve(self, args: list[bytes]) -> Command | None:
        """The slow way to the command: other spellings, subcommands, errors."""
        own = self._commands.get(args[0].lower())
        if own is not None and own.subcommands is None:
            return own
        try:
            command = self.engine.registry.resolve(args)
        except CommandError as error:
            self.reject(None, error.message)
            return None
        if command.is_protected and command.accepts(len(args)):
            parameter = "enable-debug-command" if command.name == b"debug" else "enable-module-command"
            if not self._may_use_protected(parameter):
                self.reject(command, errors.protected_command(parameter))
                return None
        return command

    def _is_admitted(self, command: Command, args: list[bytes]) -> bool:
        """Whether a session in a special state, or an engine in one, lets the command run now.

        If not, it has been answered: refused, or queued for EXEC.
        """
        mode = self.mode
        if self.engine.mode & SCRIPT_BUSY and not self.engine.scripts.admits(self, command, args):
            return False
        if mode & IN_MULTI and command.flags & NO_MULTI:
            self.reject(command, b"ERR Command not allowed inside a transaction")
            return False
        if mode & LOCKED and command.flags & NO_AUTH == 0:
            self.reject(command, errors.NO_AUTH)
            return False
        if self.engine.mode & TRACKING:
            self.engine.tracking.begin(self)
        if self.engine.mode & MEMORY_LIMITED and not self.engine.has_room():
            if self.engine.attention != 0:
                self.engine.settle(self)  # what was told of keys that went, now that no reply follows
            # EXEC is as good as what it will execute.
            flags = command.flags | (self.queued_flags if command.name == b"exec" else 0)
            if flags & DENYOOM:
                self.reject(command, errors.OUT_OF_MEMORY)
                return False
        if mode & SUBSCRIBED and not self.resp3 and command.full_name not in _SUBSCRIBED_MAY:
            self.reject(
                command,
                b"ERR Can't execute '"
                + command.full_name
                + b"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed "
                + b"in this context",
            )
            return False
        if mode & (MONITORING | REPLICA) and command.flags & (WRITE | READONLY | MAY_REPLICATE):
            self.reject(command, b"ERR Replica can't interact with the keyspace")
            return False
        if self.engine.mode & PAUSED:
            flags = command.flags | (self.queued_flags if command.name == b"exec" else 0)
            is_exempt = self.is_privileged or mode & MONITORING != 0
            if self.engine.holding.must_wait(flags, is_exempt):
                self.engine.holding.hold(self, args)
                return False
        if mode & IN_MULTI and command.full_name not in _UNQUEUED:
            self.last_command = command
            self.queued.append((command, args))
            for argument in args:
                self.queued_bytes += len(argument)
            self.queued_flags |= command.flags
            self._append(QUEUED)
            return False
        if self.engine.mode & MONITORED and command.flags & SKIP_MONITOR:
            # A script is shown before what it calls.
            self.engine.monitors.feed(self, args)
        return True

    def reject(self, command: Command | None, message: bytes) -> None:
        """Refuse a request before it runs; after MULTI this also dooms the EXEC."""
        self.last_command = command
        if command is not None:
            command.rejected_calls += 1
            if command.name == b"exec":
                self.discard_transaction()
                message = b"EXECABORT Transaction discarded because of: " + message.removeprefix(b"ERR ")
        if self.mode & IN_MULTI:
            self.mode |= ABORTED
        elif self.tracked is not None and (command is None or not _is_about_clients(command)):
            self.tracked.caching = False
        self._append(self._failure(message))

    # Services to handlers -------------------------------------------------------------------------

    def changed(self, key: bytes, count: i64 = 1) -> None:
        """The value at `key` of the selected database was changed by the command being executed.

        Args:
            key: also when it is gone now.
            count: changes to count towards the next save, as redis-server's `dirty`.
        """
        engine = self.engine
        engine.dirty += count
        if engine.interest != 0:
            engine.key_changed(self.db.index, key)

    def drop(self, key: bytes) -> bool:
        """Delete a key and tell of it, as DEL does; whether it was there."""
        if not self.db.delete(key):
            return False
        self.changed(key)
        self.notify(NOTIFY_GENERIC, b"del", key)
        return True

    def count_changes(self, count: i64 = 1) -> None:
        """Count changes towards the next save that leave the key what it was for WATCH (XACK)."""
        self.engine.dirty += count

    def wake(self, key: bytes) -> None:
        """Let those who wait for the key look again, though for WATCH it has not changed (XGROUP DESTROY)."""
        engine = self.engine
        if engine.interest != 0:
            engine.key_ready(self.db.index, key)

    def wrote(self, key: bytes, event_class: i64, event: bytes) -> None:
        """`changed` by one and `notify` in one go, for the commands that are most of the traffic."""
        self.engine.dirty += 1
        if self.engine.interest != 0:
            self.engine.key_changed(self.db.index, key)
            self.notify(event_class, event, key)

    def changed_in(self, database: Database, key: bytes, count: i64 = 1) -> None:
        """`changed` for a key of any database (MOVE, COPY DB)."""
        engine = self.engine
        engine.dirty += count
        if engine.interest != 0:
            engine.key_changed(database.index, key)

    def notify(self, event_class: i64, event: bytes, key: bytes) -> None:
        """Publish a keyspace event (a class of `notifications`) of the selected database."""
        observer = self.observer
        if observer.event_classes & event_class != 0:
            observer.event(self.db.index, event_class, event, key)

    def notify_in(self, database: Database, event_class: i64, event: bytes, key: bytes) -> None:
        """`notify` for a key of any database."""
        observer = self.observer
        if observer.event_classes & event_class != 0:
            observer.event(database.index, event_class, event, key)

    @property
    def denies_blocking(self) -> bool:
        """Inside EXEC or a script, where no command may wait."""
        return self.mode & NO_BLOCKING != 0

    def block(
        self,
        keys: list[bytes],
        timeout_us: i64,
        timeout_reply: object,
        wanted_type: bytes,
        args: list[bytes] | None = None,
        wakes_when_deleted: bool = False,
    ) -> object:
        """Wait until one of the keys holds what the command wants; a handler returns what this returns.

        When a key was changed and holds a value of the wanted type, the handler runs again with the same
        arguments. If it still cannot be served it calls this again: the deadline stays.

        Args:
            keys: of the selected database; none for a command that waits for time alone (WAIT).
            timeout_us: from now on, 0 for ever (see `arguments.timeout_argument`). Of no account when the
                command is being tried again.
            timeout_reply: what the client gets when the time is up, or at once where nothing may block. Where
                the two differ the handler asks `denies_blocking` first.
            wanted_type: as TYPE says it: `b"list"`.
            args: the request to try again with, where it is not the one that came (XREAD's `$`).
            wakes_when_deleted: also try again when the key went, or became another type (XREADGROUP).
        """
        if self.mode & NO_BLOCKING:
            return timeout_reply
        engine = self.engine
        command = self.last_command
        assert command is not None
        waiting = self.waiting
        is_first = waiting is None
        if waiting is None:
            deadline_us: i64 = NEVER_US
            if 0 < timeout_us < NEVER_US - self.clock.now_us:
                deadline_us = self.clock.now_us + timeout_us
            # Without `args` the request itself is put there when the handler has returned.
            waiting = Waiting(self, command, args if args is not None else [], deadline_us)
            self.waiting = waiting
        elif args is not None:
            waiting.args = args
        waiting.keys = keys
        waiting.database = self.db.index
        waiting.wanted_type = wanted_type
        waiting.timeout_reply = timeout_reply
        waiting.wakes_when_deleted = wakes_when_deleted
        self.mode |= PARKED | BEHIND
        # It counts when it has been answered.
        self.commands_executed -= 1
        self.engine.commands_executed -= 1
        command.calls -= 1
        engine.blocked.park(waiting)
        if is_first:
            engine.blocked.set_deadline(waiting)
        return NO_REPLY

    def _may_use_protected(self, parameter: str) -> bool:
        """Whether `enable-debug-command`, or `enable-module-command`, allows its command to this client."""
        allowed = self.engine.configuration.text(parameter)
        if allowed == b"local":
            return self.is_privileged or self.remote.startswith(("127.", "[::1]", "/"))
        return allowed == b"yes"

    def park(self) -> None:
        """Execute nothing more until `unpark` or `execute_held`."""
        self.mode |= PARKED | BEHIND

    def unpark(self, reply: object) -> None:
        """Answer what this session was parked in, and go on."""
        self.mode &= ~PARKED
        self._append(reply)
        self.engine.mark_pending(self)

    def end_silently(self) -> None:
        """The server is about to end: execute nothing any more, and keep to yourself what was not taken."""
        self._replies.clear()
        if self._withheld is not None:
            self._withheld.clear()
        self.park()

    def execute_held(self, args: list[bytes]) -> None:
        """Execute the request that this session was parked with, if any, and what it has sent since."""
        self.mode &= ~PARKED
        if len(args) > 0:
            self.execute(args)
        if self.mode & PARKED == 0 and not self.is_closing:
            self.go_on()
        self.engine.mark_pending(self)

    def hold_dialogue(self, dialogue: Dialogue) -> None:
        """Execute nothing more: what the client says from now on is for `dialogue`, until `end_dialogue`."""
        self.dialogue = dialogue
        self.park()

    def end_dialogue(self) -> None:
        """All is said: close, once it is sent."""
        self.dialogue = None
        self.is_closing = True
        self.engine.mark_pending(self)

    def discard_transaction(self) -> None:
        """Leave MULTI, if in it, and watch nothing any more."""
        self.queued = []
        self.queued_bytes = 0
        self.queued_flags = 0
        self.mode &= ~(IN_MULTI | ABORTED | SPOILED)
        if len(self.watched) > 0:
            self.engine.watches.unwatch(self)

    def spoil_transaction(self) -> None:
        """A key this session watches was touched."""
        self.mode |= SPOILED

    def withhold(self) -> None:
        """Nothing of what is emitted from now on leaves before `let_out`: the command may be interrupted."""
        self._withheld = ReplyBuffer()

    def let_out(self) -> None:
        """What was withheld follows what is there already."""
        withheld = self._withheld
        assert withheld is not None
        self._withheld = None
        for part in withheld.take():
            self._replies.raw(part)

    def _emitted(self) -> ReplyBuffer:
        withheld = self._withheld
        return self._replies if withheld is None else withheld

    def emit(self, reply: object) -> None:
        """Append one of several replies of the command being executed, unless CLIENT REPLY says not to."""
        if self.mode & (REPLY_OFF | REPLY_SKIP) == 0:
            self.emit_push(reply)

    def emit_push(self, reply: object) -> None:
        """The same for a reply that is a push, which CLIENT REPLY does not suppress."""
        if self.mode & REPLICA:
            self._answered_beside_snapshot()
        else:
            self._emitted().reply(reply, self.resp3)

    def emit_array_header(self, count: int) -> None:
        """Append the head of an array whose items follow by `emit`."""
        if self.mode & REPLICA:
            self._answered_beside_snapshot()
        elif self.mode & (REPLY_OFF | REPLY_SKIP) == 0:
            self._emitted().raw(b"*%d\r\n" % count)

    def unsubscribe_all(self) -> None:
        """Listen to nothing any more, without a word to the client."""
        subscriptions = self.subscriptions
        if subscriptions is None:
            return
        pubsub = self.engine.pubsub
        for channel in subscriptions.channels:
            remove_listener(pubsub.channels, channel, self)
        for pattern in subscriptions.patterns:
            remove_listener(pubsub.patterns, pattern, self)
        for channel in subscriptions.shard_channels:
            remove_listener(pubsub.shard_channels, channel, self)
        self.set_subscriptions(None)

    def stop_observing(self) -> None:
        """Be told no more of what others do."""
        if self.mode & MONITORING:
            self.mode &= ~MONITORING
            self.engine.monitors.remove(self)
        self.engine.tracking.disable(self)

    def set_tracked(self, tracked: Tracked | None) -> None:
        """None: its reads are not tracked."""
        self.tracked = tracked
        if tracked is None:
            self.mode &= ~TRACKED
        else:
            self.mode |= TRACKED

    def set_subscriptions(self, subscriptions: Subscriptions | None) -> None:
        """None, once it listens to nothing."""
        self.subscriptions = subscriptions
        if subscriptions is None:
            self.mode &= ~SUBSCRIBED
            self.engine.pubsub.listeners.pop(self.id, None)
        else:
            self.mode |= SUBSCRIBED
            self.engine.pubsub.listeners[self.id] = self

    # Services to the engine -----------------------------------------------------------------------

    def push(self, wire: bytes) -> None:
        """Append a message; CLIENT REPLY does not suppress those."""
        if self.mode & REPLICA:
            if not self.is_closing:
                self._answered_beside_snapshot()
        elif not self.is_closing:
            self._replies.raw(wire)
            if len(wire) >= _LARGE_PIECE:
                self.engine.client_limits.check_output(self, self.clock.now_us)

    def push_snapshot(self, wire: bytes) -> None:
        """Append a part of the snapshot that this session gets."""
        if not self.is_closing:
            self._replies.raw(wire)

    def try_again(self, waiting: Waiting) -> None:
        """A key this parked session waits for is ready, and it has left its queues: run its command again."""
        self.mode &= ~PARKED
        clock = self.clock
        touching = clock.touching
        clock.touching = self.touching
        engine = self.engine
        current = engine.tracking.current
        engine.tracking.current = self
        reply = self.call(waiting.command, waiting.args)
        engine.tracking.tell_current()
        engine.tracking.current = current
        clock.touching = touching
        if self.mode & PARKED == 0:
            self._answered(reply)

    def give_up(self, reply: object) -> None:
        """Answer a parked session that waits in vain: its time is up, or CLIENT UNBLOCK says so."""
        waiting = self.waiting
        assert waiting is not None
        self.engine.blocked.remove(waiting)
        self.mode &= ~PARKED
        self.commands_executed += 1
        self.engine.commands_executed += 1
        waiting.command.calls += 1
        self.engine.timing.took(self, waiting.command, waiting.args, waiting.took_ns)
        self._answered(reply)

    def unblock_with_error(self) -> None:
        """CLIENT UNBLOCK ERROR."""
        waiting = self.waiting
        assert waiting is not None
        waiting.command.failed_calls += 1
        self.give_up(self._failure(b"UNBLOCKED client unblocked via CLIENT UNBLOCK"))

    def script_over(self, reply: object, error: CommandError | None) -> None:
        """The script, or the MIGRATE, this session has been parked for is over: its reply, or its error.

        A session that is closing gets it only if the end of a dialogue is why.
        """
        self.mode &= ~PARKED
        if error is not None:
            command = self.last_command
            if command is not None:
                command.failed_calls += 1
            reply = self._failure(error.message)
        if not self.is_closing or self.dialogue is not None:
            self.dialogue = None
            self._append(reply)
            self.engine.mark_pending(self)

    def _answered(self, reply: object) -> None:
        waiting = self.waiting
        assert waiting is not None
        self.engine.blocked.forget_deadline(waiting)
        self.waiting = None
        self._append(reply)
        self.engine.mark_pending(self)

    def _failure(self, message: bytes) -> SimpleError:
        reply = SimpleError(message)
        self.engine.count_error(reply.text)
        return reply

    def _append(self, reply: object) -> None:
        """Append a reply unless CLIENT REPLY says not to; then let SKIP take effect or wear off."""
        mode = self.mode
        if mode & (REPLY_OFF | REPLY_SKIP) == 0:
            self._say(reply)
        if mode & (REPLY_SKIP | REPLY_SKIP_NEXT) != 0:
            self.mode = mode & ~(REPLY_SKIP | REPLY_SKIP_NEXT)
            if mode & REPLY_SKIP_NEXT:
                self.mode |= REPLY_SKIP

    def _say(self, reply: object) -> None:
        """Append a reply, which is the end of a session that gets a snapshot: it may not be answered."""
        if self.mode & REPLICA == 0:
            self._replies.reply(reply, self.resp3)
        elif reply is not NO_REPLY:
            self._answered_beside_snapshot()

    def _answered_beside_snapshot(self) -> None:
        self.engine.client_limits.close(self, "closing a client that was answered during its snapshot")

    def take_output(self) -> list[bytes]:
        """Reply bytes since the last call: usually one element, [] when there are none.

        Bulk strings of 16 KiB and more are elements of their own, by reference: treat all elements as
        immutable.
        """
        output = self._replies.take()
        for part in output:
            self.bytes_out += len(part)
        return output

    def has_output(self) -> bool:
        return not self._replies.is_empty()

    def query_bytes(self) -> i64:
        """Bytes of requests that are not executed yet: unfinished, kept, or queued by MULTI."""
        return self.parser.pending_bytes() + self.kept_bytes + self.queued_bytes

    def entries(self) -> i64:
        """Keys it watches, channels and patterns it listens to, prefixes it is told of."""
        count: i64 = len(self.watched)
        subscriptions = self.subscriptions
        if subscriptions is not None:
            count += subscriptions.count() + len(subscriptions.shard_channels)
        if self.tracked is not None:
            count += len(self.tracked.prefixes)
        return count

    def waiting_bytes(self) -> i64:
        """Bytes of replies that nobody has taken yet."""
        return self._replies.size()

    def output_bytes(self) -> i64:
        """Bytes of replies that have not left."""
        return self._replies.size() + self.unsent_bytes

    def refuse(self, message: bytes) -> None:
        """End the session before it begins."""
        self._replies.reply(SimpleError(message), False)
        self.is_closing = True

    def kill(self) -> None:
        """End the session from outside; replies not taken yet are dropped, as the server does."""
        if not self.is_closing:
            self._replies.clear()
            self.is_closing = True
            self._leave()
            self.engine.mark_pending(self)

    def close(self) -> None:
        """The connection is gone: unregister. Safe to call twice."""
        self.is_closing = True
        self._leave()
        self.engine.forget_session(self)

    def _leave(self) -> None:
        """Wait for nothing, watch nothing, listen to nothing."""
        if self.mode == 0 and len(self.watched) == 0:
            return
        dialogue = self.dialogue
        if dialogue is not None:
            self.dialogue = None
            dialogue.feed(b"")
        waiting = self.waiting
        if waiting is not None:
            if self.mode & PARKED:
                self.engine.blocked.remove(waiting)
            self.engine.blocked.forget_deadline(waiting)
            self.waiting = None
            self.mode &= ~PARKED
        self._kept = None
        self.kept_bytes = 0
        self.discard_transaction()
        self.unsubscribe_all()
        self.stop_observing()


def _is_about_clients(command: Command) -> bool:
    """CLIENT with any subcommand: none of them ends what CLIENT CACHING has begun."""
    return command.full_name.startswith(b"client|")
