"""Running scripts and functions: the cache of scripts, and scripts that take long.

Whatever runs a script (EVAL, FCALL, EXEC) does it in a greenlet of the engine's own. Every few thousand
instructions Lua asks `tick`, and when the script has had its slice the greenlet gives the thread back in
the middle of it: the session is parked, as for a command that blocks, and the engine enters SCRIPT_BUSY.
The shell goes on with packets, timers and other work, and `resume` gives the script its next slice, as soon
as the shell comes to it.

    EVAL -> pausable() -> greenlet: Lua ... tick (slice over) -> parked; shell ... resume() -> Lua ... reply

While it is so no other command runs: requests wait (`admits`) until the script ends, or until it has run for
`busy-reply-threshold`; from then on they are answered BUSY, but for the few that may run. Nothing expires and
no waiting client is served, so the script sees what it saw when it began: for it, time stands still.

A single call of a library function is not interrupted, as in redis-server: a pattern that takes for ever
(`string.find` with many `-`) holds up everything.

Source:     redis-server 8.2: what is refused, with which text, in which order; ADR 0023 for the greenlet.
Units:      nanoseconds of `Engine.stopwatch` for slices, microseconds of Unix time for the engine.
Invariants: `job` is set exactly while SCRIPT_BUSY is.
Errors:     CommandError for scripts that cannot run; those of scripts themselves are CommandError too.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.blocking import NEVER_US
from appliance.redis.engine_modes import MEMORY_LIMITED, SCRIPT_BUSY
from appliance.redis.errors import CommandError
from appliance.redis.registry import ALLOW_BUSY
from appliance.redis.replies import NO_REPLY, ReplyBuffer, SimpleError
from appliance.redis.resp import split_arguments
from appliance.redis.scripting.debugger import ClientTerminal, Debugger
from appliance.redis.scripting.libraries import Libraries
from appliance.redis.scripting.runtime import (
    ALLOW_OOM,
    COMPATIBLE,
    FLAG_NAMES,
    NO_WRITES,
    Context,
    CountedError,
    Runtime,
)
from appliance.redis.session import BEHIND, DEBUG_FORKED, NO_DEBUG, PARKED

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.engine import Engine
    from appliance.redis.registry import Command, Handler
    from appliance.redis.scripting.debugger import ForkedTerminal, Terminal
    from appliance.redis.session import Session

_SLICE_NS: Final = 2_000_000
_EVALUATED_LIMIT: Final = 500  # scripts that came by EVAL and that nobody has loaded

_BUSY_SCRIPT: Final = (
    b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
)
_BUSY_FUNCTION: Final = (
    b"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
)
_NO_FORK: Final = b"ERR Fork() failed: can't run EVAL in debugging mode: "
_NOT_BUSY: Final = b"NOTBUSY No scripts in execution right now."
_UNKILLABLE: Final = (
    b"UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait "
    b"the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)
# What may have to be interrupted: an EXEC with one of these is. MIGRATE waits for another server, DEBUG SLEEP
# for time.
PAUSABLE_COMMANDS: Final = frozenset(
    [
        b"debug",
        b"eval",
        b"evalsha",
        b"eval_ro",
        b"evalsha_ro",
        b"fcall",
        b"fcall_ro",
        b"function|load",
        b"function|restore",
        b"migrate",
    ]
)


class Script:
    """A script in the cache."""

    def __init__(self, sha: bytes, body: bytes, flags: int, chunk: object) -> None:
        self.sha = sha
        self.body = body
        self.flags = flags
        self.chunk = chunk
        self.is_loaded = False  # by SCRIPT LOAD: it is not dropped for others


class Job:
    """A command that runs scripts, and what came of it."""

    def __init__(self, function: Handler, session: Session, args: list[bytes]) -> None:
        self.function = function
        self.session = session
        self.args = args
        self.command = session.last_command
        self.reply: object = None
        self.error: BaseException | None = None
        self.is_done = False
        self.started_ns: i64 = session.engine.stopwatch()


class Running:
    """The script or function that is being run."""

    def __init__(self, context: Context, is_function: bool, args: list[bytes], started_ns: i64) -> None:
        self.context = context
        self.is_function = is_function
        self.args = args
        self.started_ns: i64 = started_ns
        self.kill_text: bytes | None = None


def parse_shebang(body: bytes) -> tuple[int, int]:
    """The flags of a script, and how many bytes its first line takes if that is a shebang.

    Raises:
        CommandError: a shebang that is none of ours.
    """
    if not body.startswith(b"#!"):
        return COMPATIBLE, 0
    end = body.find(b"\n")
    if end < 0 or b"\0" in body[:end]:
        raise CommandError(b"ERR Invalid script shebang")
    words = split_arguments(body[:end])
    if words is None:
        raise CommandError(b"ERR Invalid engine in script shebang")
    if words[0] != b"#!lua":
        raise CommandError(b"ERR Unexpected engine in script shebang: " + words[0])
    flags = 0
    for word in words[1:]:
        if not word.startswith(b"flags="):
            raise CommandError(b"ERR Unknown lua shebang option: " + word)
        names = word[len(b"flags=") :]
        for name in names.split(b",") if names != b"" else []:
            flag = FLAG_NAMES.get(name)
            if flag is None:
                raise CommandError(b"ERR Unexpected flag in script shebang: " + name)
            flags |= flag
    return flags, end


class Scripts:
    """All that an engine knows of Lua. Lua itself is not there before it is needed."""

    def __init__(self, engine: Engine, memory_limit: int) -> None:
        """Nothing loaded.

        Args:
            engine: whose commands scripts call.
            memory_limit: bytes that Lua may take.
        """
        self.engine = engine
        self.memory_limit = memory_limit
        self.libraries = Libraries(self)
        self.cached: dict[bytes, Script] = {}
        self.evicted_scripts: i64 = 0
        self._evaluated: OrderedDict[bytes, Script] = OrderedDict()
        self._runtime: Runtime | None = None
        self.fork: Callable[[Session], ForkedTerminal | None] | None = None
        """The shell's: copy the process to debug a script in the copy, for this client.

        Returns twice, as fork does: in the copy with the client's terminal; here with None, when the session
        has been given a dialogue and is parked.

        Raises:
            OSError: there is no copy.
        """
        # Of the script that is being run.
        self.running: Running | None = None
        self._slice_started_ns: i64 = 0
        # Of one that has been interrupted.
        self.job: Job | None = None
        self.resume_at_us: i64 = 0
        self.is_waiting = False  # for something outside: see `wait`
        self.is_busy = False  # for longer than busy-reply-threshold
        self._clock_us: i64 = 0
        self._touching: i64 = 0
        self._postponed: list[tuple[Session, list[bytes]]] = []
        # Greenlets: ours, the one that gave us the thread, and the function that tells which one runs.
        self._worker: Any = None
        self._home: Any = None
        self._current: Callable[[], object] | None = None
        self._greenlets: Any = None

    @property
    def runtime(self) -> Runtime:
        """Lua, started if need be."""
        runtime = self._runtime
        if runtime is None:
            runtime = Runtime(self.engine, self.memory_limit, self.tick, self.libraries.register)
            self._runtime = runtime
        return runtime

    def memory_used(self) -> int:
        """Bytes Lua has."""
        return 0 if self._runtime is None else self._runtime.memory_used()

    def scripts_memory(self) -> int:
        """Bytes of the scripts in the cache, beside what Lua has of them."""
        return sum([len(script.body) + 100 for script in self.cached.values()])

    # The cache ------------------------------------------------------------------------------------

    def load(self, body: bytes, sha: bytes, by_load: bool) -> Script:
        """Put a script into the cache.

        Raises:
            CommandError: it does not compile.
        """
        script = self.cached.get(sha)
        if script is None:
            flags, start = parse_shebang(body)
            # The line stays, so that errors name the right one.
            script = Script(sha, body, flags, self.runtime.compile(body[start:]))
            self.cached[sha] = script
            if not by_load:
                self._evaluated[sha] = script
                if len(self._evaluated) > _EVALUATED_LIMIT:
                    oldest, _ = self._evaluated.popitem(last=False)
                    del self.cached[oldest]
                    self.evicted_scripts += 1
        if by_load and not script.is_loaded:
            script.is_loaded = True
            self._evaluated.pop(sha, None)
        return script

    def flush(self) -> None:
        """Forget all scripts."""
        self.cached = {}
        self._evaluated = OrderedDict()
        if len(self.libraries.by_name) == 0:
            self._runtime = None  # all of its memory

    # Running --------------------------------------------------------------------------------------

    def evaluate(self, session: Session, args: list[bytes], by_sha: bool, is_read_only: bool) -> object:
        """EVAL and its kin, once the number of keys has been looked at."""
        count = int(args[2])
        if by_sha:
            sha = args[1]
            found = self.cached.get(sha)
            if found is None:
                found = self.cached.get(sha.lower())
                if found is None:
                    raise CommandError(errors.NO_SCRIPT)
            script = found
        else:
            sha = hashlib.sha1(args[1], usedforsecurity=False).hexdigest().encode()
            found = self.cached.get(sha)
            script = self.load(args[1], sha, False) if found is None else found
        if not script.is_loaded:
            self._evaluated.move_to_end(script.sha)
        context = self.prepare(session, script.sha, script.flags, is_read_only)
        return self.run(session, context, False, script.chunk, count, args)

    def prepare(self, session: Session, name: bytes, flags: int, is_read_only: bool) -> Context:
        """How to run a script with these flags.

        Raises:
            CommandError: not at all.
        """
        if flags & COMPATIBLE == 0:
            if is_read_only and flags & NO_WRITES == 0:
                raise CommandError(b"ERR Can not execute a script with write flag using *_ro command.")
            engine = self.engine
            if (
                engine.mode & MEMORY_LIMITED
                and flags & (NO_WRITES | ALLOW_OOM) == 0
                and not engine.has_room()
            ):
                raise CommandError(
                    b"OOM allow-oom flag is not set on the script, "
                    b"can not run it when used memory > 'maxmemory'"
                )
        return Context(name, flags, is_read_only or flags & NO_WRITES != 0, session.resp3)

    def run(
        self,
        session: Session,
        context: Context,
        is_function: bool,
        chunk: object,
        count: i64,
        args: list[bytes],
    ) -> object:
        """Run a script or function; its reply. To be called inside `pausable`."""
        runtime = self.runtime
        now = self.engine.stopwatch()
        self._slice_started_ns = now
        self.running = Running(context, is_function, args, now)
        own = session.last_command
        assert own is not None
        enclosing = self.engine.enclosing
        enclosing.append(own)
        try:
            if is_function:
                reply = runtime.run_function(chunk, context, session, 3, count, args)
            else:
                reply = runtime.run(chunk, context, session, 3, count, args)
            if runtime.has_inner_error or runtime.inner_failures != 0:
                _count_failures(session, runtime.has_inner_error + runtime.inner_failures)
            return reply
        except CountedError as error:
            _count_failures(session, 1)
            return error.reply()
        finally:
            self.running = None
            enclosing.pop()

    # Debugging ------------------------------------------------------------------------------------

    def debug(self, function: Handler, session: Session, args: list[bytes]) -> object:
        """Call a handler that evaluates the script args[1] with a debugger, as SCRIPT DEBUG has told.

        Raises:
            CommandError: there can be no debugging here.
        """
        if session.denies_blocking:
            raise CommandError(b"ERR a script cannot be debugged inside MULTI")
        if session.debug_mode == DEBUG_FORKED:
            return self._debug_in_copy(function, session, args)
        terminal = ClientTerminal(session, self)
        session.dialogue = terminal

        def debugged(session: Session, args: list[bytes]) -> object:
            try:
                return self._debugged(function, session, args, terminal)
            finally:
                session.is_closing = True  # after the reply

        return self.pausable(debugged, session, args)

    def _debug_in_copy(self, function: Handler, session: Session, args: list[bytes]) -> object:
        session.debug_mode = NO_DEBUG
        if self.fork is None:
            raise CommandError(_NO_FORK + b"this server cannot copy itself")
        engine = self.engine
        started_ns: i64 = engine.stopwatch()
        try:
            terminal = self.fork(session)
        except OSError as error:
            raise CommandError(_NO_FORK + (error.strerror or "").encode()) from None
        if terminal is None:
            took_us: i64 = (i64(engine.stopwatch()) - started_ns) // 1000
            engine.counters.forks += 1
            engine.counters.last_fork_us = took_us
            engine.timing.latency.note(b"fork", session.clock.now_s, took_us // 1000)
            return NO_REPLY
        # In the copy, which must not get beyond this function.
        failure: BaseException | None = None
        try:
            try:
                reply = self._debugged(function, session, args, terminal)
            except CommandError as error:
                reply = SimpleError(error.message)
            buffer = ReplyBuffer()
            buffer.reply(reply, session.resp3)
            terminal.write(b"".join(buffer.take()))
        except BaseException as error:
            failure = error
        terminal.exit(failure)
        return NO_REPLY

    def _debugged(self, function: Handler, session: Session, args: list[bytes], terminal: Terminal) -> object:
        patience_ms = self.engine.configuration.integer("busy-reply-threshold")
        debugger = Debugger(terminal, args[1], self.engine.stopwatch, patience_ms)
        runtime = self.runtime
        runtime.start_debugging(debugger)
        try:
            return function(session, args)
        finally:
            runtime.stop_debugging()
            debugger.end()

    def wait_for_input(self) -> bool:
        """Inside `pausable`: give the thread back until `wake_soon`. False: the engine goes away."""
        try:
            self.wait()
        except CommandError:
            return False
        running = self.running
        if running is not None:
            running.started_ns = self.engine.stopwatch()  # what the client needed to think does not count
        return True

    def wake_soon(self) -> None:
        """What `wait_for_input` waits for is there."""
        if self.is_waiting:
            self.is_waiting = False
            self.resume_at_us = self.engine.clock.now_us
            self.engine.timeout_came_earlier()

    # Slices ---------------------------------------------------------------------------------------

    def tick(self) -> bytes | None:
        """Lua asks whether to go on: the text with which to end the script, or None."""
        running = self.running
        if running is None:
            return self._tick_of_loading()
        if running.kill_text is None and self._worker is not None:
            now = self.engine.stopwatch()
            if now - self._slice_started_ns >= _SLICE_NS and self._current is not None:
                if self._current() is self._worker:
                    self._pause()
                self._slice_started_ns = self.engine.stopwatch()
        return running.kill_text

    def _tick_of_loading(self) -> bytes | None:
        return self.libraries.tick()

    def _pause(self) -> None:
        try:
            self._home.switch(None)
        except BaseException:
            # The engine goes away: the script must not catch this.
            running = self.running
            if running is not None:
                running.kill_text = b"ERR the server is shutting down"

    def wait(self) -> None:
        """Inside `pausable`: give the thread back until `wake`: a command waits for the shell (MIGRATE).

        Raises:
            CommandError: the engine goes away.
        """
        assert self._current is not None
        assert self._current() is self._worker
        self.is_waiting = True
        self._pause()
        if self.is_waiting:
            self.is_waiting = False
            raise CommandError(b"ERR the server is shutting down")

    def wake(self, now_us: i64) -> None:
        """What `wait` waits for is there: go on."""
        if self.is_waiting:
            self.is_waiting = False
            self.resume(now_us)
            if self.job is not None:
                self.engine.timeout_came_earlier()

    def pausable(self, function: Handler, session: Session, args: list[bytes]) -> object:
        """Call a handler that runs scripts so that they can be interrupted; its reply, or none yet."""
        current = self._current
        if current is None:
            self._greenlets = import_module("greenlet")
            self._current = current = self._greenlets.getcurrent
        here = current()
        if here is self._worker:
            return function(session, args)
        job = Job(function, session, args)
        self._home = here
        worker = self._worker
        if worker is None or worker.dead:
            worker = self._new_worker()
        worker.switch(job)
        if job.is_done:
            if job.error is not None:
                raise job.error
            return job.reply
        self._interrupted(job)
        return NO_REPLY

    def _new_worker(self) -> Any:
        self._worker = self._greenlets.greenlet(self._serve)
        return self._worker

    def _serve(self, job: Job) -> None:
        """The greenlet: one job after the other."""
        while True:
            try:
                job.reply = job.function(job.session, job.args)
            except CommandError as error:
                job.error = error
            except Exception as error:
                job.error = error
            job.is_done = True
            # Not to keep anything alive while there is nothing to do.
            home = self._home
            self._home = None
            job = home.switch(None)

    def _interrupted(self, job: Job) -> None:
        engine = self.engine
        clock = engine.clock
        self.job = job
        self._clock_us = clock.now_us
        self._touching = clock.touching
        self.is_busy = False
        engine.set_mode(SCRIPT_BUSY, True)
        job.session.mode |= PARKED | BEHIND
        self._count(job, -1)  # until it has been answered
        self.resume_at_us = self._resume_time(clock.now_us)
        engine.timeout_came_earlier()

    def resume(self, now_us: i64) -> None:
        """Let the interrupted script go on for a slice."""
        job = self.job
        if job is None or self.is_waiting:
            return
        engine = self.engine
        clock = engine.clock
        if not self.is_busy and self._is_over_time():
            self.is_busy = True
            self._go_on_postponed()
        clock.set_us(self._clock_us)
        clock.touching = self._touching
        engine.tracking.script_goes_on(job.session)
        current = self._current
        assert current is not None
        self._home = current()
        self._slice_started_ns = engine.stopwatch()
        self._worker.switch(None)
        clock.set_us(now_us)
        self.resume_at_us = self._resume_time(now_us)
        if job.is_done:
            self._finished(job)

    def _resume_time(self, now_us: i64) -> i64:
        return NEVER_US if self.is_waiting else now_us

    def _finished(self, job: Job) -> None:
        engine = self.engine
        self.job = None
        self.is_busy = False
        engine.set_mode(SCRIPT_BUSY, False)
        session = job.session
        session.last_command = job.command
        self._count(job, 1)
        if job.command is not None:
            engine.timing.took(session, job.command, job.args, engine.stopwatch() - job.started_ns)
        error = job.error
        if error is not None and not isinstance(error, CommandError):
            raise error
        session.script_over(job.reply, error)
        if engine.attention != 0:
            engine.settle(session)
        engine.migrations.script_over()
        self._go_on_postponed()

    def _count(self, job: Job, change: i64) -> None:
        if job.command is not None:
            job.command.calls += change
        job.session.commands_executed += change
        self.engine.commands_executed += change

    def _is_over_time(self) -> bool:
        running = self.running
        threshold = self.engine.configuration.integer("busy-reply-threshold")
        if running is None or threshold == 0:
            return False
        return self.engine.stopwatch() - running.started_ns >= threshold * 1_000_000

    def close(self) -> None:
        """End what is being run, and the greenlet: nothing else sees what is kept alive by its stack."""
        current = self._current
        while self._worker is not None and not self._worker.dead and current is not None:
            self._home = current()
            self._worker.throw()
        self._worker = None
        self._runtime = None

    # Others, meanwhile ----------------------------------------------------------------------------

    def admits(self, session: Session, command: Command, args: list[bytes]) -> bool:
        """Whether a command may run while a script is interrupted. If not it has been answered, or waits."""
        if session.is_privileged and command.flags & ALLOW_BUSY:
            return True  # who looks after the server need not wait
        if not self.is_busy:
            self._postponed.append((session, args))
            session.mode |= PARKED | BEHIND
            return False
        if command.flags & ALLOW_BUSY:
            return True
        session.reject(command, self.busy_text())
        return False

    def busy_text(self) -> bytes:
        running = self.running
        return _BUSY_FUNCTION if running is not None and running.is_function else _BUSY_SCRIPT

    def _go_on_postponed(self) -> None:
        postponed = self._postponed
        self._postponed = []
        for session, args in postponed:
            if session.is_closing:
                continue
            session.mode &= ~PARKED
            session.execute(args)
            self.engine.mark_pending(session)

    def kill(self, is_function: bool) -> None:
        """SCRIPT KILL and FUNCTION KILL.

        Raises:
            CommandError: there is nothing to kill, or it cannot be killed.
        """
        running = self.running
        if running is None or self.job is None:
            raise CommandError(_NOT_BUSY)
        if running.context.has_written:
            raise CommandError(_UNKILLABLE)
        if running.is_function != is_function:
            raise CommandError(self.busy_text())
        running.kill_text = b"ERR Script killed by user with SCRIPT KILL..."
        if self.job.session.dialogue is not None:
            self.wake_soon()

    def running_for_ns(self) -> int:
        """How long the current script has been running."""
        running = self.running
        return 0 if running is None else self.engine.stopwatch() - running.started_ns


def _count_failures(session: Session, count: i64) -> None:
    command = session.last_command
    if command is not None:
        command.failed_calls += count
