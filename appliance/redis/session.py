"""One client of the engine: request bytes in, reply bytes out.

The session is driven by three things: `data_received`, another session's command (CLIENT KILL; such sessions
come out of `Engine.take_pending_sessions`), and `close`. It never waits and does no I/O.

    request -> command table -> arity -> authentication -> handler -> typed reply -> reply buffer

Source:     the order of the checks is redis-server's.
Units:      microseconds of Unix time (now_us).
Invariants: replies leave in the order of their requests; after `is_closing` no request is executed.
Errors:     a CommandError of a handler becomes an error reply; any other exception is a bug and passes
            through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.registry import NO_AUTH, Command
from appliance.redis.replies import ReplyBuffer, SimpleError
from appliance.redis.resp import RequestParser

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.keyspace import Clock, Database

# CLIENT REPLY: OFF until ON; SKIP is "not this reply", SKIP_NEXT "not the one after".
REPLY_OFF: Final = 1
REPLY_SKIP: Final = 2
REPLY_SKIP_NEXT: Final = 4


class Session:
    """The state of one connection."""

    def __init__(
        self, engine: Engine, session_id: int, remote: str, local: str, now_us: i64, must_authenticate: bool
    ) -> None:
        self.owner: object | None = None
        self.engine: Engine = engine
        self.id = session_id
        self.remote = remote
        self.local = local
        self.created_us: i64 = now_us
        self.last_interaction_us: i64 = now_us
        self.db: Database = engine.databases[0]
        self.clock: Clock = engine.clock
        self.resp3 = False
        self.must_authenticate = must_authenticate
        self.name: bytes = b""
        self.library_name: bytes = b""
        self.library_version: bytes = b""
        self.is_closing = False
        self.is_no_evict = False
        self.is_no_touch = False
        self.last_command: Command | None = None
        self.commands_executed: i64 = 0
        self.bytes_in: i64 = 0
        self.bytes_out: i64 = 0
        self.reply_mode: i64 = 0
        self.parser = RequestParser(engine.max_bulk)
        self.parser.is_restricted = must_authenticate
        self._by_spelling: dict[bytes, Command] = engine.registry.by_spelling
        self._replies = ReplyBuffer()

    def __repr__(self) -> str:
        return (
            f"Session(id={self.id}, remote={self.remote!r}, db={self.db.index}, is_closing={self.is_closing})"
        )

    def data_received(self, data: bytes, now_us: i64, start: i64 = 0) -> None:
        """Execute every request that is whole with these bytes.

        Args:
            data: the next bytes of the stream, cut anywhere.
            now_us: wall clock, Unix microseconds.
            start: where in `data` they begin; what is before is somebody else's.
        """
        count: i64 = len(data) - start
        if self.is_closing or count <= 0:
            return
        self.clock.set_us(now_us)
        self.clock.is_touching = not self.is_no_touch
        self.last_interaction_us = now_us
        self.bytes_in += count
        self.parser.feed(data, start)
        self._execute_all(self.parser)

    def _execute_all(self, parser: RequestParser) -> None:
        while True:
            args = parser.next_request()
            if args is None:
                break
            self.execute(args)
            if self.is_closing:
                return
        error = parser.error
        if error is not None:
            self.engine.count_error(b"ERR")
            self._append(SimpleError(b"ERR " + error))
            self.is_closing = True

    def execute(self, args: list[bytes]) -> None:
        """Execute one request and append its reply."""
        command = self._by_spelling.get(args[0])
        if command is None or command.subcommands is not None:
            command = self._resolve(args)
            if command is None:
                return
        if not command.accepts(len(args)):
            self._reject(command, errors.wrong_arity(command.full_name))
            return
        if self.must_authenticate and command.flags & NO_AUTH == 0:
            self._reject(command, errors.NO_AUTH)
            return
        self.last_command = command
        self.commands_executed += 1
        command.calls += 1
        try:
            reply = command.function(self, args)
        except CommandError as error:
            command.failed_calls += 1
            reply = self._failure(error.message)
        if self.reply_mode == 0:
            self._replies.reply(reply, self.resp3)
        else:
            self._append(reply)

    def _resolve(self, args: list[bytes]) -> Command | None:
        """The slow way to the command: other spellings, subcommands, errors."""
        try:
            return self.engine.registry.resolve(args)
        except CommandError as error:
            self._reject(None, error.message)
            return None

    def _reject(self, command: Command | None, message: bytes) -> None:
        if command is not None:
            command.rejected_calls += 1
        self._append(self._failure(message))

    # Services to handlers -------------------------------------------------------------------------

    def changed(self, key: bytes, count: i64 = 1) -> None:
        """The value at `key` of the selected database was changed by the command being executed.

        Args:
            key: also when it is gone now.
            count: changes to count towards the next save, as redis-server's `dirty`.
        """
        self.engine.dirty += count

    def notify(self, event_class: i64, event: bytes, key: bytes) -> None:
        """Publish a keyspace event (a class of `notifications`) of the selected database."""

    def _failure(self, message: bytes) -> SimpleError:
        reply = SimpleError(message)
        self.engine.count_error(reply.text.split(b" ", 1)[0])
        return reply

    def _append(self, reply: object) -> None:
        """Append a reply unless CLIENT REPLY says not to; then let SKIP take effect or wear off."""
        if self.reply_mode & (REPLY_OFF | REPLY_SKIP) == 0:
            self._replies.reply(reply, self.resp3)
        mode = self.reply_mode & REPLY_OFF
        if self.reply_mode & REPLY_SKIP_NEXT:
            mode |= REPLY_SKIP
        self.reply_mode = mode

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

    def kill(self) -> None:
        """End the session from outside; replies not taken yet are dropped, as the server does."""
        if not self.is_closing:
            self._replies.clear()
            self.is_closing = True
            self.engine.mark_pending(self)

    def close(self) -> None:
        """The connection is gone: unregister. Safe to call twice."""
        self.is_closing = True
        self.engine.forget_session(self)
