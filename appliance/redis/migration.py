"""MIGRATE: keys that go to another server, and what the two say to each other.

    MIGRATE -> Migrations.move -> port.start: connects, sends `next_output`, gives `receive` the replies
            -> Migrations.over: the keys that the target has taken are deleted, the client is answered

The engine has no sockets. What is said, and what the answers mean, is here; the port of the shell has the
connection, the time limits and the connections that are kept for the next MIGRATE.

While keys are under way nothing may change them, or a client would be told of a value that is deleted without
having been sent. So commands that write wait, as for CLIENT PAUSE WRITE, and nothing expires (`Holding`);
reading goes on. In EXEC and in scripts everybody waits, as for a script that is interrupted. See ADR 0025.

Source:     what redis-server 8.2 sends, retries and answers, seen with targets that misbehave.
Units:      microseconds for the time limit, milliseconds for expire times.
Invariants: a key is deleted only if the target has acknowledged it, and only once the talk is over; there is
            one migration at a time.
Errors:     CommandError: the target's own words, or which part of the talk failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from appliance.redis import dump
from appliance.redis.engine_modes import SCRIPT_BUSY
from appliance.redis.entry import NO_EXPIRY
from appliance.redis.errors import CommandError
from appliance.redis.notifications import NOTIFY_GENERIC
from appliance.redis.replies import NO_REPLY, OK

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.keyspace import Clock, Database
    from appliance.redis.session import Session

CONNECTING: Final = b"connecting to the client"
WRITING: Final = b"writing to target instance"
READING: Final = b"reading to target instance"

UNSELECTED: Final = -1
"""The database of a connection on which none was selected yet, or nobody knows which."""

PIECE: Final = 64 * 1024
"""Bytes after which `next_output` stops; each piece may take the whole time limit."""

_LONGEST_LINE: Final = 1023  # of a reply, as much as is repeated to the client


class MigrationPort(Protocol):
    """What the shell gives the engine."""

    @property
    def cached_connections(self) -> int:
        """Connections to targets that are kept for a while."""

    def start(self, migration: Migration) -> None:
        """Carry it out; then `Migrations.over`, unless it was done before this returns."""


class Migration:
    """The keys of one MIGRATE on their way: what to say to the target, and what it has answered.

    The port makes one attempt after the other. Each begins with `begin`, goes on with `next_output` until
    there is none and `receive` until `is_answered`, and ends there or with `failed`.
    """

    def __init__(
        self,
        clock: Clock,
        database: Database,
        keys: list[bytes],
        *,
        host: bytes,
        port: int,
        timeout_us: int,
        target_database: int,
        auth: list[bytes],
        is_copy: bool,
        is_replacing: bool,
    ) -> None:
        """Nothing said yet.

        Args:
            clock: the engine's.
            database: where the keys are.
            keys: all there; one named twice is sent twice.
            host: as the client wrote it.
            port: TCP port.
            timeout_us: how long the target may take to let us connect, to take a piece, to say something.
            target_database: where they go.
            auth: arguments of AUTH, none for no password.
            is_copy: they stay here as well.
            is_replacing: and replace what the target has under their names.
        """
        self._clock = clock
        self.database = database
        self.keys = keys
        self.host = host
        self.port = port
        self.timeout_us = timeout_us
        self.target_database = target_database
        self.auth = auth
        self.is_copy = is_copy
        self.is_replacing = is_replacing
        self.is_over = False
        self.taken: list[bytes] = []
        """Keys that the target has acknowledged."""
        self._failure = b""  # CONNECTING, WRITING or READING
        self._refusal: bytes | None = None  # the first error of the target's
        self._has_retried = False
        # Of this attempt.
        self._preamble: list[list[bytes]] = []
        self._preamble_answers = 0
        self._shut_out: bytes | None = None  # the preamble was refused with this error
        self._sent: list[bytes] = []
        self._next_key = 0
        self._has_said_preamble = False
        self._key_answers = 0
        self._line = b""
        self._has_surplus = False  # more answers than requests

    # One attempt ----------------------------------------------------------------------------------

    def begin(self, selected: int) -> None:
        """Start anew, on a connection where the database `selected` is the current one."""
        self._preamble = []
        if self.auth:
            self._preamble.append([b"AUTH", *self.auth])
        if selected != self.target_database:
            self._preamble.append([b"SELECT", b"%d" % self.target_database])
        self._preamble_answers = 0
        self._shut_out = None
        self._sent = []
        self._next_key = 0
        self._has_said_preamble = False
        self._key_answers = 0
        self._line = b""
        self._has_surplus = False

    def next_output(self) -> bytes:
        """The next bytes for the target: PIECE and one key, or less; b"" at the end."""
        parts: list[bytes] = []
        size = 0
        if not self._has_said_preamble:
            self._has_said_preamble = True
            parts = [_request(each) for each in self._preamble]
        # Dumped when they are due, so that many keys take neither memory nor one long pause.
        while size < PIECE and self._next_key < len(self.keys):
            key = self.keys[self._next_key]
            self._next_key += 1
            request = self._restore(key)
            if request is not None:
                self._sent.append(key)
                parts.append(_request(request))
                size += len(parts[-1])
        return b"".join(parts)

    def _restore(self, key: bytes) -> list[bytes] | None:
        """What carries a key; None if its time has come since."""
        database = self.database
        clock = self._clock
        keeps_expired = clock.keeps_expired
        clock.keeps_expired = True
        try:
            value = database.find_value(key)
            expire_at_ms = database.find_expire_time(key)
        finally:
            clock.keeps_expired = keeps_expired
        if value is None:
            return None
        ttl_ms = 0 if expire_at_ms == NO_EXPIRY else max(1, expire_at_ms - clock.now_ms)
        request = [b"RESTORE", key, b"%d" % ttl_ms, dump.dump(value)]
        if self.is_replacing:
            request.append(b"REPLACE")
        return request

    def receive(self, data: bytes) -> None:
        """Bytes of the target's, cut anywhere: a line for each request, of which the first letter counts."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = (self._line + line).removesuffix(b"\r")
            self._line = b""
            self._answered(whole[:_LONGEST_LINE])
        self._line = (self._line + rest)[: _LONGEST_LINE + 1]

    def _answered(self, line: bytes) -> None:
        error = line[1:] if line.startswith(b"-") else None
        if self._preamble_answers < len(self._preamble):
            self._preamble_answers += 1
            if self._shut_out is None:
                self._shut_out = error
        elif self._key_answers < len(self._sent):
            # What was restored all the same may be in another database: it stays here too.
            if self._shut_out is not None:
                error = self._shut_out
            if error is None:
                self.taken.append(self._sent[self._key_answers])
            elif self._refusal is None:
                self._refusal = error
            self._key_answers += 1
        else:
            self._has_surplus = True

    @property
    def is_answered(self) -> bool:
        """Whether the target has answered all that was said."""
        return self._preamble_answers == len(self._preamble) and self._key_answers == len(self._sent)

    def failed(self, part: bytes, *, timed_out: bool = False) -> bool:
        """The attempt has come to nothing at CONNECTING, WRITING or READING.

        Returns:
            Whether to make another one: a connection that was kept may just be closed at the other end. Not
            when time was up, nor when the target has begun to answer about keys.
        """
        if not timed_out and not self._has_retried and self._key_answers == 0:
            self._has_retried = True
            return True
        self._failure = part
        return False

    # The end --------------------------------------------------------------------------------------

    @property
    def selected(self) -> int:
        """The database of the connection now, as far as one can tell."""
        return self.target_database if self._refusal is None else UNSELECTED

    @property
    def is_reusable(self) -> bool:
        """Whether the connection has nothing left that belongs to this migration."""
        return self._failure == b"" and self._line == b"" and not self._has_surplus

    @property
    def error(self) -> bytes:
        """The error line for the client, empty when all went well."""
        if self._refusal is not None:
            return b"ERR Target instance replied with error: " + self._refusal
        if self._failure:
            return b"IOERR error or timeout " + self._failure
        return b""


def _request(words: list[bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts += [b"$%d\r\n" % len(word), word, b"\r\n"]
    return b"".join(parts)


class Migrations:
    """The migrations of one engine: one at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.port: MigrationPort | None = None
        self._current: Migration | None = None
        self._session: Session | None = None
        self._args: list[bytes] = []
        self._started_ns = 0

    @property
    def cached_connections(self) -> int:
        return 0 if self.port is None else self.port.cached_connections

    def move(self, session: Session, migration: Migration, args: list[bytes]) -> object:
        """Carry out a migration: its reply, or none yet if the session was parked.

        Raises:
            CommandError: it came to nothing, in whole or in part.
        """
        engine = self.engine
        port = self.port
        if port is None:
            raise CommandError(b"IOERR error or timeout " + CONNECTING)
        if session.denies_blocking:
            port.start(migration)
            while not migration.is_over:
                engine.scripts.wait()
            return self._finish(session, migration)
        self._started_ns = engine.stopwatch()
        port.start(migration)
        if migration.is_over:
            return self._finish(session, migration)
        self._current = migration
        self._session = session
        self._args = args
        engine.holding.begin_migration()
        session.park()
        return NO_REPLY

    def over(self, migration: Migration, now_us: int) -> None:
        """The port has done what it could; call it once. Some sessions may have something to say then."""
        migration.is_over = True
        if migration is not self._current:
            self.engine.scripts.wake(now_us)
        elif self.engine.mode & SCRIPT_BUSY == 0:
            self.engine.clock.set_us(now_us)
            self._answer(migration)
        # Else somebody's reading script is under way, and sees no key go.

    def script_over(self) -> None:
        """No script is under way any more."""
        migration = self._current
        if migration is not None and migration.is_over:
            self._answer(migration)

    def _answer(self, migration: Migration) -> None:
        """Finish what a session is parked for, and let the others go on."""
        engine = self.engine
        session = self._session
        assert session is not None
        self._current = None
        self._session = None
        current = engine.tracking.current
        engine.tracking.current = session
        reply: object = NO_REPLY
        failure: CommandError | None = None
        try:
            reply = self._finish(session, migration)
        except CommandError as error:
            failure = error
        command = session.last_command
        if command is not None:
            engine.timing.took(session, command, self._args, engine.stopwatch() - self._started_ns)
        self._args = []
        session.script_over(reply, failure)
        if engine.attention != 0:
            engine.settle(session)
        engine.tracking.current = current
        engine.holding.end_migration()

    def _finish(self, session: Session, migration: Migration) -> object:
        """Delete what has been taken; the reply."""
        database = migration.database
        if not migration.is_copy:
            for key in migration.taken:
                # A key named twice is deleted twice, for all who are told of it.
                database.delete(key)
                session.changed_in(database, key)
                session.notify_in(database, NOTIFY_GENERIC, b"del", key)
        error = migration.error
        if error:
            raise CommandError(error)
        return OK
