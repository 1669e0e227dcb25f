"""The Lua state in which scripts and functions run.

What a script sees is made in sandbox.lua; this module loads it, runs compiled scripts, and carries out their
`redis.call`: arguments to a request, the command's typed reply to Lua values.

    EVALSHA -> entries.run(chunk, keys ...) -> Lua -> redis.call -> Runtime.call -> Session.call -> reply

Lua is lupa's build of Lua 5.1, of which redis-server's is a descendant (ADR 0023). Lua unwinds by longjmp,
and Python objects do not survive that: so nothing here raises into Lua, no table or function of Lua is
handed to Python by a script, and no value is handed to Lua unless there is room for it below the memory
limit.

Source:     types and texts as redis-server 8.2 has them (tests/conformance/redis/scripts).
Units:      bytes; nanoseconds of `Engine.stopwatch`.
Invariants: one script runs at a time. The Python callables that scripts can reach through Lua closures are
            never visible to them as values.
Errors:     none of a script's: they are values. What is raised by a bug of ours inside `redis.call` is kept
            in `crash`, ends the script, and is raised when Lua has been left.
"""

from __future__ import annotations

import hashlib
import math
import pkgutil
import struct
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.doubles import double_text
from appliance.redis.engine_modes import MEMORY_LIMITED, MONITORED
from appliance.redis.errors import CommandError
from appliance.redis.registry import ADMIN, DENYOOM, MAY_REPLICATE, NOSCRIPT, SKIP_MONITOR, WRITE
from appliance.redis.replies import (
    BigNumber,
    Bulk,
    Map,
    NullArray,
    Push,
    SetReply,
    SimpleError,
    SimpleString,
    Verbatim,
)
from appliance.redis.scripting.bytecode import without_library_tail_calls
from appliance.redis.session import NO_BLOCKING, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.engine import Engine
    from appliance.redis.scripting.debugger import Debugger

# Flags of a script or function.
NO_WRITES: Final = 1 << 0
ALLOW_OOM: Final = 1 << 1
ALLOW_STALE: Final = 1 << 2
NO_CLUSTER: Final = 1 << 3
ALLOW_CROSS_SLOT_KEYS: Final = 1 << 4
COMPATIBLE: Final = 1 << 5  # a script without a shebang, as before Redis 7

FLAG_NAMES: Final[dict[bytes, int]] = {
    b"no-writes": NO_WRITES,
    b"allow-oom": ALLOW_OOM,
    b"allow-stale": ALLOW_STALE,
    b"no-cluster": NO_CLUSTER,
    b"allow-cross-slot-keys": ALLOW_CROSS_SLOT_KEYS,
}

# Python hands nothing to Lua when Lua has more than two thirds of its memory: each string may be the one with
# which the table of all strings doubles, and with many short strings that takes half of what there is.
_SMALLEST_HEADROOM: Final = 2 * 1024 * 1024
# A reply that may take more than this asks for room first.
_SMALL_REPLY: Final = 64 * 1024
_TABLE_ENTRY: Final = 64  # bytes of Lua's for each element of a table, at most, and the table's share
# Arguments of a script that are pushed one by one; more go in tables.
_FEW_ARGUMENTS: Final = 40
# Calls of commands between two looks at the time.
_CALLS_PER_LOOK: Final = 64

# The second value of `call`, as sandbox.lua knows it.
_STATUS: Final = 1
_ERROR: Final = 2
_KILLED: Final = 3
_NO_MEMORY: Final = 4
_UNCOUNTED: Final = 5  # an error that is in no statistics yet

_WRONG_ARGUMENT: Final = b"ERR Lua redis lib command arguments must be strings or integers"
_NO_ARGUMENT: Final = b"ERR Please specify at least one argument for this redis lib call"

# Numbers further from 0 are floating point to redis-server when they become arguments.
_INTEGER_LIMIT: Final = 1 << 62

_I64_MIN: Final = -(1 << 63)
_I64_LIMIT: Final = float(1 << 63)


# What scripts may call after DEBUG SET-DISABLE-DENY-SCRIPTS, of what is denied to them: not what is about a
# client, who is none of theirs, nor what runs scripts, of which there cannot be two.
_ABOUT_SERVER: Final = frozenset(
    [
        b"acl|cat",
        b"acl|genpass",
        b"acl|getuser",
        b"acl|list",
        b"acl|users",
        b"config|get",
        b"config|resetstat",
        b"config|set",
        b"debug",
        b"function|dump",
        b"function|list",
        b"latency|histogram",
        b"latency|history",
        b"latency|latest",
        b"latency|reset",
        b"role",
        b"script|exists",
    ]
)


class Context:
    """How one script or function is being run."""

    def __init__(self, name: bytes, flags: int, is_read_only: bool, resp3: bool) -> None:
        self.name = name
        self.is_read_only = is_read_only
        self.may_exceed_memory = flags & ALLOW_OOM != 0 or (
            flags & COMPATIBLE == 0 and flags & NO_WRITES != 0
        )
        self.resp3 = resp3
        self.has_written = False
        self.is_out_of_memory = False


def number_text(number: float) -> bytes:
    """A Lua number that is no integer of 64 bits, as an argument of a command."""
    if number != number:
        return b"-nan" if math.copysign(1.0, number) < 0 else b"nan"
    return double_text(number)


def as_integer(number: float) -> int:
    """What C makes of a double that becomes a `long long` on x86-64."""
    if -_I64_LIMIT <= number < _I64_LIMIT:
        return int(number)
    return _I64_MIN


def _no_attributes(_owner: object, _name: object, _is_setting: bool) -> object:
    raise AttributeError("not for scripts")


def _source(name: str) -> bytes:
    data = pkgutil.get_data("appliance.redis.scripting", name)
    if data is None:
        raise ValueError(f"{name} cannot be read")
    return data


class Runtime:
    """One Lua state."""

    def __init__(
        self, engine: Engine, memory_limit: int, tick: Callable[[], object], register: Callable[..., object]
    ) -> None:
        """Start Lua and load the sandbox.

        Args:
            engine: whose commands scripts call.
            memory_limit: bytes that Lua may have in all.
            tick: called every so many instructions and calls; gives the text with which to kill the script,
                or None.
            register: what redis.register_function calls with name, description (or False) and flags; gives
                the text of an error, or None.
        """
        lua51 = import_module("lupa.lua51")  # not before the first script: 0.6 MB
        self.engine = engine
        self.session = Session(engine, 0, "", "", engine.clock.now_us, False)
        self.session.mode = NO_BLOCKING
        self.context = Context(b"", 0, False, False)
        self.crash: BaseException | None = None
        self._debugger: Debugger | None = None
        # Errors inside the reply of the script: there is one that it made, so many are of commands.
        self.has_inner_error = False
        self.inner_failures: i64 = 0
        self._tick = tick
        self._calls_to_look: i64 = _CALLS_PER_LOOK
        self._staged: list[object] = []
        self._hard_limit: i64 = memory_limit
        self._limit: i64 = (memory_limit - _SMALLEST_HEADROOM) * 2 // 3
        self._is_extended = False
        self.lua: Any = lua51.LuaRuntime(
            encoding=None,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_filter=_no_attributes,
            max_memory=memory_limit,
        )
        self._memory_used: Callable[[], int] = self.lua.get_memory_used
        self._table: Callable[..., object] = self.lua.table_from
        version = engine.settings.version
        parts = [int(part) for part in version.split(".")[:3]]
        host: dict[bytes, object] = {
            b"call": self.call,
            b"stage": self.stage,
            b"tick": self.tick,
            b"sha1hex": self.sha1hex,
            b"log": self.log,
            b"setresp": self.set_protocol,
            b"acl_check_cmd": self.check_command,
            b"double_text": self.text_of_double,
            b"name": self.name,
            b"untail": self.untail,
            b"register": register,
            b"is_flag": self.is_flag,
            b"version": version.encode(),
            b"version_number": (parts[0] << 16) | (parts[1] << 8) | parts[2],
            b"bit_and": self.bit_and,
            b"bit_or": self.bit_or,
            b"bit_xor": self.bit_xor,
            b"pack_float": self.pack_float,
            b"unpack_float": self.unpack_float,
            b"count_error": self.count_error,
            b"real_of": self._table({}),  # of a stand-in, what it stands for
        }
        table = self._table(host)
        libraries: dict[bytes, object] = {}
        for name in ("bit", "cjson", "cmsgpack", "struct"):
            libraries[name.encode()] = self.lua.execute(_source(f"{name}.lua"), table, name=b"=[C]")
        self.entries: Any = self.lua.execute(
            _source("sandbox.lua"), table, self._table(libraries), name=b"=[C]"
        )
        self._run: Callable[..., object] = self.entries[b"run"]
        self._run_with_tables: Callable[..., object] = self.entries[b"run_with_tables"]
        self._run_function: Callable[..., object] = self.entries[b"run_function"]
        self._compile: Callable[[bytes], object] = self.entries[b"compile"]
        self._load_library: Callable[[bytes], object] = self.entries[b"load_library"]
        self._callback: Callable[[object, int], object] = self.entries[b"callback"]
        self.entries[b"set_memory_limit"](self._limit // 1024)
        # Nothing of Lua's own, nor of lupa's, is to be found by a script that finds the real globals.
        self.lua.execute(
            b"local globals = _G for name in pairs(globals) do globals[name] = nil end", name=b"=[C]"
        )

    # Memory ---------------------------------------------------------------------------------------

    def memory_used(self) -> int:
        return self._memory_used()

    def has_room(self, size: i64) -> bool:
        """Whether Lua may take that many bytes more, after a collection if need be."""
        if self._memory_used() + size < self._limit:
            return True
        self.lua.gccollect()
        # Well below the limit, or the next call would collect again.
        return self._memory_used() + size < self._limit - self._limit // 20

    def _may_push(self) -> bool:
        """Whether a small value may be handed to Lua, in the middle of a script that has used up its memory.

        The first time it does, it gets some more, up to its end.
        """
        if not self._is_extended:
            if self.has_room(0):
                return True
            self._is_extended = True
            self.lua.set_max_memory(2 * self._hard_limit)
        # From here on without collecting each time: the count hook will, and end the script.
        return self._memory_used() < self._hard_limit

    # Debugging ------------------------------------------------------------------------------------

    def start_debugging(self, debugger: Debugger) -> None:
        """Let `debugger` watch the next script, until `stop_debugging`."""
        debugger.call = self.call
        self._debugger = debugger
        self.entries[b"start_debugging"](_source("debugger.lua"), self._table(debugger.services()))

    def stop_debugging(self) -> None:
        self._debugger = None
        self.entries[b"stop_debugging"]()

    # Compiling and running ------------------------------------------------------------------------

    def compile(self, body: bytes) -> object:
        """A script as a Lua function.

        Raises:
            CommandError: it is no Lua, or there is no room for it.
        """
        if not self.has_room(8 * len(body)):
            raise CommandError(b"ERR Error compiling script (new function): not enough memory")
        outcome = self._compile(body)
        if isinstance(outcome, tuple):
            message = outcome[1] if isinstance(outcome[1], bytes) else b""
            raise CommandError(b"ERR Error compiling script (new function): " + message)
        return outcome

    def load_library(self, body: bytes) -> object:
        """Run a library's code, which calls `register`; its callbacks, for `callback`.

        Raises:
            CommandError: with the message of Lua, of the library or of `register`.
        """
        if not self.has_room(8 * len(body)):
            raise CommandError(b"ERR Error compiling function: not enough memory")
        outcome = self._load_library(body)
        self._raise_crash()
        if isinstance(outcome, tuple):
            message = outcome[1] if isinstance(outcome[1], bytes) else b""
            raise CommandError(b"ERR " + message)
        return outcome

    def callback(self, callbacks: object, index: int) -> object:
        """The callback that was registered as number `index` (from 1)."""
        return self._callback(callbacks, index)

    def run(
        self, chunk: object, context: Context, caller: Session, keys_at: i64, count: i64, args: list[bytes]
    ) -> object:
        """Run a compiled script; the reply.

        Args:
            chunk: from `compile`.
            context: how.
            caller: in whose database.
            keys_at: the index of the first key in `args`.
            count: how many keys.
            args: the request.
        """
        self._enter(context, caller)
        resp = 3 if caller.resp3 else 2
        given: i64 = len(args) - keys_at
        if given <= _FEW_ARGUMENTS:
            size: i64 = 0
            for argument in args:
                size += len(argument)
            if size > _SMALL_REPLY and not self.has_room(size):
                raise CommandError(b"ERR not enough memory")
            if given == 0:
                outcome = self._run(chunk, resp, 0)
            elif given == 1:
                outcome = self._run(chunk, resp, count, args[keys_at])
            else:
                outcome = self._run(chunk, resp, count, *args[keys_at:])
        else:
            keys, arguments = self._tables(keys_at, count, args)
            outcome = self._run_with_tables(chunk, resp, keys, arguments)
        return self._reply(outcome)

    def run_function(
        self, callback: object, context: Context, caller: Session, keys_at: i64, count: i64, args: list[bytes]
    ) -> object:
        """Run a function; the reply. Arguments as `run`."""
        self._enter(context, caller)
        keys, arguments = self._tables(keys_at, count, args)
        return self._reply(self._run_function(callback, 3 if caller.resp3 else 2, keys, arguments))

    def _tables(self, keys_at: i64, count: i64, args: list[bytes]) -> tuple[object, object]:
        size: i64 = _TABLE_ENTRY * len(args)
        for argument in args:
            size += len(argument)
        if not self.has_room(size):
            raise CommandError(b"ERR not enough memory")
        return self._table(args[keys_at : keys_at + count]), self._table(args[keys_at + count :])

    def _enter(self, context: Context, caller: Session) -> None:
        if self._is_extended:
            self._is_extended = False
            self.lua.gccollect()
            self.lua.set_max_memory(self._hard_limit)
        if not self.has_room(0):
            raise CommandError(b"ERR not enough memory")
        self.context = context
        self.has_inner_error = False
        self.inner_failures = 0
        session = self.session
        session.db = caller.db
        session.resp3 = False
        engine = self.engine
        if engine.mode & MEMORY_LIMITED:
            context.is_out_of_memory = not engine.has_room()

    def _raise_crash(self) -> None:
        crash = self.crash
        debugger = self._debugger
        if crash is None and debugger is not None:
            crash = debugger.crash
        if crash is not None:
            self.crash = None
            raise crash

    def _reply(self, outcome: object) -> object:
        if isinstance(outcome, bytes):
            return outcome
        if isinstance(outcome, tuple):
            self._raise_crash()
            text: bytes = outcome[0]
            kind: int = outcome[1]
            if kind == 0:
                return Bulk(text)
            if kind == 1:
                raise CommandError(text)
            if kind == 3:
                raise CommandError(text)
            raise CountedError(text)
        if isinstance(outcome, float):
            return as_integer(outcome)
        return outcome

    # Services to scripts --------------------------------------------------------------------------

    def tick(self) -> object:
        """From Lua's count hook."""
        try:
            reason = self._tick()
            if reason is not None:
                self._may_push()
            return reason
        except BaseException as error:
            self.crash = error
            return b"ERR internal error"

    def stage(self, *arguments: object) -> None:
        """Arguments for the next `call`, which has none then."""
        self._staged.extend(arguments)

    def call(self, *arguments: object) -> object:
        """redis.call and redis.pcall: the value, or a tuple of text and kind."""
        try:
            self._calls_to_look -= 1
            if self._calls_to_look <= 0:
                self._calls_to_look = _CALLS_PER_LOOK
                reason = self._tick()
                if reason is not None:
                    return reason, _KILLED
            return self._call(arguments)
        except BaseException as error:
            self.crash = error
            return b"ERR internal error", _KILLED

    def _request(self, arguments: tuple[object, ...]) -> list[bytes] | None:
        """Arguments from Lua as those of a command; None when one cannot be one."""
        args: list[bytes] = []
        for argument in arguments:
            if isinstance(argument, bytes):
                args.append(argument)
            elif isinstance(argument, bool):
                return None
            elif isinstance(argument, int):
                is_integer = -_INTEGER_LIMIT <= argument <= _INTEGER_LIMIT
                args.append(b"%d" % argument if is_integer else double_text(float(argument)))
            elif isinstance(argument, float):
                args.append(number_text(argument))
            else:
                return None
        return args

    def _fail(self, message: bytes) -> object:
        self.engine.count_error(message)
        if self._debugger is not None:
            self._debugger.log_error(message.removeprefix(b"ERR "))
        return message, _ERROR

    def _call(self, arguments: tuple[object, ...]) -> object:
        if len(self._staged) > 0:
            arguments = tuple(self._staged)
            self._staged = []
        if len(arguments) == 0:
            return _NO_ARGUMENT, _UNCOUNTED
        args = self._request(arguments)
        if args is None:
            return _WRONG_ARGUMENT, _UNCOUNTED
        if self._debugger is not None:
            self._debugger.log_request(args)
        registry = self.engine.registry
        command = registry.by_spelling.get(args[0])
        if command is None or command.subcommands is not None:
            try:
                command = registry.resolve(args)
            except CommandError:
                return self._fail(b"ERR Unknown Redis command called from script")
        if not command.accepts(len(args)):
            command.rejected_calls += 1
            return self._fail(b"ERR Wrong number of args calling Redis command from script")
        flags = command.flags
        context = self.context
        if context.is_read_only and flags & (WRITE | MAY_REPLICATE) and flags & NOSCRIPT == 0:
            command.rejected_calls += 1
            return self._fail(b"ERR Write commands are not allowed from read-only scripts.")
        if flags & (NOSCRIPT | WRITE | DENYOOM):
            if flags & NOSCRIPT and not (self.engine.allows_denied and command.full_name in _ABOUT_SERVER):
                command.rejected_calls += 1
                return self._fail(b"ERR This Redis command is not allowed from script")
            if (
                context.is_out_of_memory
                and flags & DENYOOM
                and not context.may_exceed_memory
                and not context.has_written
            ):
                command.rejected_calls += 1
                return self._fail(errors.OUT_OF_MEMORY)
            if flags & WRITE:
                context.has_written = True
        reply = self.session.call(command, args)
        if self.engine.mode & MONITORED and command.flags & (SKIP_MONITOR | ADMIN) == 0:
            self.engine.monitors.feed(self.session, args, b"lua")
        if self._debugger is not None:
            self._debugger.log_reply(reply, self.session.resp3)
        if isinstance(reply, bytes):
            if len(reply) > _SMALL_REPLY and not self.has_room(len(reply)):
                return b"not enough memory", _NO_MEMORY
            return reply
        if isinstance(reply, SimpleString):
            return reply.text, _STATUS
        if isinstance(reply, SimpleError):
            return reply.text, _ERROR
        if isinstance(reply, int) and not isinstance(reply, bool):
            return reply
        if reply is None:
            return None if self.session.resp3 else False
        size = self._size(reply)
        if size > _SMALL_REPLY and not self.has_room(size):
            return b"not enough memory", _NO_MEMORY
        return self._value(reply, self.session.resp3)

    def _size(self, reply: object) -> i64:
        """Bytes that a reply may take in Lua, at most."""
        if isinstance(reply, bytes):
            return _TABLE_ENTRY + len(reply)
        size: i64 = _TABLE_ENTRY
        if isinstance(reply, Bulk):
            size += len(reply.wire)
        elif isinstance(reply, (list, tuple)):
            for item in reply:
                size += self._size(item)
        elif isinstance(reply, Map):
            for item in reply.flat:
                size += self._size(item)
        elif isinstance(reply, (SetReply, Push)):
            for item in reply.items:
                size += self._size(item)
        elif isinstance(reply, Verbatim):
            size += 4 * _TABLE_ENTRY + len(reply.text)
        return 2 * size

    def _value(self, reply: object, resp3: bool) -> object:
        """A typed reply as a value for Lua."""
        if isinstance(reply, bytes):
            return reply
        if isinstance(reply, Bulk):
            wire = reply.wire
            return wire[wire.index(b"\n") + 1 : -2]
        if reply is None or isinstance(reply, NullArray):
            return None if resp3 else False
        if isinstance(reply, bool):
            return reply if resp3 else int(reply)
        if isinstance(reply, int):
            return reply
        if isinstance(reply, SimpleString):
            return self._table({b"ok": reply.text})
        if isinstance(reply, SimpleError):
            return self._table({b"err": reply.text})
        if isinstance(reply, (list, tuple)):
            return self._array(list(reply), resp3)
        if isinstance(reply, Map):
            flat = reply.flat
            if not resp3:
                return self._array(flat, resp3)
            pairs: dict[object, object] = {}
            for at in range(0, len(flat) - 1, 2):
                pairs[self._value(flat[at], resp3)] = self._value(flat[at + 1], resp3)
            return self._table({b"map": self._table(pairs)})
        if isinstance(reply, SetReply):
            if not resp3:
                return self._array(reply.items, resp3)
            members: dict[object, object] = {self._value(item, resp3): True for item in reply.items}
            return self._table({b"set": self._table(members)})
        if isinstance(reply, float):
            if not resp3:
                return double_text(reply)
            return self._table({b"double": reply})
        if isinstance(reply, Verbatim):
            if not resp3:
                return reply.text
            text = self._table({b"format": reply.kind, b"string": reply.text})
            return self._table({b"verbatim_string": text})
        if isinstance(reply, BigNumber):
            digits = str(reply.value).encode()
            return self._table({b"big_number": digits}) if resp3 else digits
        if isinstance(reply, Push):
            return self._array(reply.items, resp3)
        raise TypeError(f"a handler returned {type(reply).__name__}, which is no reply")

    def _array(self, items: list[object], resp3: bool) -> object:
        values: list[object] = []
        for item in items:
            if isinstance(item, bytes):
                values.append(item)
            else:
                values.append(self._value(item, resp3))
        return self._table(values)

    def name(self) -> object:
        return self.context.name if self._may_push() else None

    def sha1hex(self, text: bytes) -> object:
        if not self._may_push():
            return None
        return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()

    def log(self, level: int, text: bytes) -> None:
        log = self.engine.on_script_log
        if log is not None:
            try:
                log(level, text)
            except Exception as error:
                self.crash = error

    def set_protocol(self, version: int) -> None:
        self.session.resp3 = version == 3

    def check_command(self, *arguments: object) -> object:
        """redis.acl_check_cmd. Everybody may do everything that exists."""
        if len(arguments) == 0:
            return _NO_ARGUMENT, _UNCOUNTED
        args = self._request(arguments)
        if args is None:
            return _WRONG_ARGUMENT, _UNCOUNTED
        try:
            self.engine.registry.resolve(args)
        except CommandError:
            return b"ERR Invalid command passed to redis.acl_check_cmd()", _UNCOUNTED
        return True

    def count_error(self, message: bytes, is_counted: bool) -> None:
        """An error stands inside the reply of the script; it may be one of a command, which is counted."""
        if is_counted:
            self.inner_failures += 1
        else:
            self.has_inner_error = True
            self.engine.count_error(message)

    def text_of_double(self, number: float) -> object:
        return double_text(float(number)) if self._may_push() else None

    def untail(self, code: bytes) -> object:
        if not self.has_room(len(code)):
            return None
        return without_library_tail_calls(code)

    def is_flag(self, name: object) -> bool:
        return isinstance(name, bytes) and name in FLAG_NAMES

    # What the libraries cannot do in Lua. Arguments have been checked there.

    def bit_and(self, one: int, other: int) -> int:
        return one & other

    def bit_or(self, one: int, other: int) -> int:
        return one | other

    def bit_xor(self, one: int, other: int) -> int:
        return one ^ other

    def pack_float(self, form: bytes, number: float) -> object:
        if not self._may_push():
            return None
        try:
            return struct.pack(form, number)
        except OverflowError:
            return struct.pack(form, math.copysign(math.inf, number))

    def unpack_float(self, form: bytes, data: bytes) -> object:
        number: float = struct.unpack(form, data)[0]
        return number


class CountedError(CommandError):
    """An error of a script that is in the statistics already: that of a command it called."""

    def reply(self) -> SimpleError:
        return SimpleError(self.message)
