"""Commands that have to wait until the server lets them: CLIENT PAUSE, DEBUG SLEEP, somebody's MIGRATE.

    CLIENT PAUSE ms WRITE   commands that write wait, and EXEC if one of its commands does
    CLIENT PAUSE ms ALL     all commands wait, CLIENT UNPAUSE among them
    MIGRATE                 while it is under way commands that write wait; no CLIENT UNPAUSE ends that
    DEBUG SLEEP s           nothing at all is executed, as if the server slept; the pump, packets, timers of
                            connections and the control socket go on

Whoever must wait is parked with its request, and when the time has come the requests are executed as if they
had just arrived, in the order of their coming. While clients are paused no key expires and none is evicted:
one that is past its time is not seen, and stays.

Source:     redis-server 8.2.
Units:      microseconds of Unix time.
Invariants: a session that waits here is PARKED and has no `waiting`.
Errors:     none.
Not here:   how an EXEC with a DEBUG SLEEP gives the thread back in its midst (scripting/scripts.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from appliance.redis.blocking import NEVER_US
from appliance.redis.engine_modes import PAUSED, STALLED
from appliance.redis.registry import MAY_REPLICATE, WRITE
from appliance.redis.replies import OK

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session


class Holding:
    """The requests of one engine that wait for time alone."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_migrating = False
        self.is_paused = False
        self.paused_until_us: i64 = 0
        self.pauses_all = False
        self._stalled_until_us: i64 = 0
        self._slept_ns: i64 = 0
        self._sleeper: Session | None = None
        self._is_exec_asleep = False
        self._sleepers_args: list[bytes] = []
        # Without a request: what it was about to execute is still in its parser.
        self._held: list[tuple[Session, list[bytes]]] = []

    @property
    def next_us(self) -> i64:
        """When `handle_timeouts` has something to do."""
        if self.engine.mode & STALLED:
            return self._stalled_until_us
        return self.paused_until_us if self.is_paused else NEVER_US

    # CLIENT PAUSE ---------------------------------------------------------------------------------

    def pause(self, until_us: i64, pauses_all: bool) -> None:
        """Begin a pause, or make one longer or stricter."""
        engine = self.engine
        if self.is_paused:
            pauses_all = pauses_all or self.pauses_all
            until_us = max(until_us, self.paused_until_us)
        if until_us <= engine.clock.now_us:
            return
        self.paused_until_us = until_us
        self.pauses_all = pauses_all
        self.is_paused = True
        engine.set_mode(PAUSED, True)
        engine.timeout_came_earlier()

    def unpause(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self._resume()

    def begin_migration(self) -> None:
        """Commands that write wait until `end_migration`."""
        self.is_migrating = True
        self.engine.set_mode(PAUSED, True)

    def end_migration(self) -> None:
        self.is_migrating = False
        self._resume()

    def _resume(self) -> None:
        """One reason less to wait: whoever has another one will be held again, in the same order."""
        engine = self.engine
        engine.set_mode(PAUSED, self.is_paused or self.is_migrating)
        if engine.mode & PAUSED == 0:
            engine.clock.keeps_expired = False
        if engine.mode & STALLED == 0:
            self._let_go()

    def must_wait(self, flags: i64, is_exempt: bool) -> bool:
        """Whether a command has to wait now.

        Args:
            flags: the command's, with those of a transaction's commands.
            is_exempt: CLIENT PAUSE is not for this session.
        """
        # Who may go on does not see keys that are past their time; only who may write removes them.
        self.engine.clock.keeps_expired = flags & WRITE == 0 and not (is_exempt and not self.is_migrating)
        writes = flags & (WRITE | MAY_REPLICATE) != 0
        if self.is_migrating and writes:
            return True
        return self.is_paused and not is_exempt and (self.pauses_all or writes)

    # DEBUG SLEEP ----------------------------------------------------------------------------------

    def sleep(self, session: Session, args: list[bytes], span_us: i64) -> bool:
        """Execute nothing for a while; whether the session is parked and will be answered by us.

        Inside EXEC it returns when the time is over.
        """
        engine = self.engine
        # Behind another one of the same EXEC, for which time stands still.
        self._stalled_until_us = max(self._stalled_until_us, engine.clock.now_us) + span_us
        engine.set_mode(STALLED, True)
        engine.timeout_came_earlier()
        if session.denies_blocking:
            self._is_exec_asleep = True
            engine.scripts.wait()
            return False
        self._sleeper = session
        self._sleepers_args = args
        self._slept_ns = span_us * 1000
        session.park()
        return True

    def stall_for_ever(self) -> None:
        """Execute nothing any more."""
        self._sleeper = None
        self._stalled_until_us = NEVER_US
        self.engine.set_mode(STALLED, True)

    # Waiting --------------------------------------------------------------------------------------

    def hold(self, session: Session, args: list[bytes]) -> None:
        """Park a session with its request, or with none if it is still in the parser."""
        self._held.append((session, args))
        session.park()

    def handle_timeouts(self, now_us: i64) -> None:
        """What is over by now is over."""
        engine = self.engine
        if engine.mode & STALLED and self._stalled_until_us <= now_us:
            engine.set_mode(STALLED, False)
            sleeper = self._sleeper
            self._sleeper = None
            if sleeper is not None and not sleeper.is_closing:
                sleeper.unpark(OK)
                command = sleeper.last_command
                if command is not None:
                    engine.timing.took(sleeper, command, self._sleepers_args, self._slept_ns)
                sleeper.go_on()
            if self._is_exec_asleep:
                self._is_exec_asleep = False
                engine.scripts.wake(now_us)  # it may fall asleep again
            if engine.mode & STALLED == 0:
                self._let_go()
        if self.is_paused and self.paused_until_us <= now_us and engine.mode & STALLED == 0:
            self.unpause()

    def _let_go(self) -> None:
        held = self._held
        self._held = []
        for session, args in held:
            if not session.is_closing:
                session.execute_held(args)
