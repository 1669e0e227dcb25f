"""The step: frames in, handlers, frames out; the part of the pump that never waits.

Everything here is synchronous and compiled, because every frame passes through it; the tasks round it are
in pump.py. A step feeds what arrived with one `now`, calls the handlers of the connections that became
ready, writes all output at once, and looks whose deadline moved.

Batches: to learn that a link is empty costs a system call that gives nothing, two thirds of a small
            request's read. So a batch ends where the batch before it ended; when it was filled the next
            may be twice as long, when the link ran dry first the next is that much shorter.

Invariants: no step runs inside another; after a step every connection with a deadline has an entry in the
            heap no later than it: `Connection.armed_deadline`, which `Interface.take_rescheduled` moves
            earlier and `rearm` later. An entry with another deadline is stale.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, cast

import trio
from mypy_extensions import i64, mypyc_attr

from appliance.stack.timebase import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.shell.clock import Clock
    from appliance.shell.link import Link
    from appliance.stack.interface import Interface
    from appliance.stack.tcp.connection import Connection

__all__ = ["BATCH_FRAMES", "DETACHED", "ConnectionPort", "StepHandler", "Stepper"]

BATCH_FRAMES: Final = 256
"""Frames read before anything is answered: enough for a full TAP queue's worth of small requests, few
enough that the first of them does not wait long."""

_SMALL_HEAP: Final = 1024
"""Entries below which nobody looks for stale ones."""


class StepHandler:
    """A compiled handler of events (`pump.Handler`): the step calls it without looking its method up."""

    def on_events(self, connection: Connection) -> None:
        raise NotImplementedError


class _Unclaimed(StepHandler):
    """Handler of connections that nobody has accepted yet."""

    def on_events(self, connection: Connection) -> None:
        # The events stay untaken: whoever accepts the connection looks at its state first. Telling the
        # owner again when data follows the handshake costs little, and it may have missed nothing.
        listener = connection.listener
        if listener is not None and not listener.is_closed and not connection.is_closed:
            owner: Any = listener.owner
            if owner is not None:
                owner.on_opened(connection.owner)


class _Detached(StepHandler):
    """Handler of connections whose user has let go: they finish by themselves."""

    def on_events(self, connection: Connection) -> None:
        connection.take_events()


_UNCLAIMED: Final = _Unclaimed()
DETACHED: Final = _Detached()
"""The handler of a connection whose user has let go."""


class ConnectionPort:
    """What the shell knows of one connection; `Connection.owner` points to it.

    Invariant: it does not point back, so that a dead connection is freed without the collector's help.
    """

    def __init__(self) -> None:
        self.handler: Any = _UNCLAIMED
        """A `pump.Handler`."""
        self.has_child: bool = False
        """There is a task that keeps this connection's time."""
        self.sleeper: trio.lowlevel.Task | None = None
        """That task, while it sleeps."""

    def wake(self) -> None:
        """End the child's sleep, if it sleeps; else it is about to look anyway."""
        sleeper = self.sleeper
        if sleeper is not None:
            self.sleeper = None
            trio.lowlevel.reschedule(sleeper)

    def abort_sleep(self, _raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        """The child is cancelled."""
        self.sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED


@mypyc_attr(allow_interpreted_subclasses=True)
class Stepper:
    """One interface and its link, moved by steps; `pump.Pump` adds the tasks."""

    def __init__(self, link: Link, interface: Interface, clock: Clock) -> None:
        self.link: Link = link
        self.interface: Interface = interface
        self.clock: Clock = clock
        # Bound once: looking them up would cost more than some of what they do.
        self._clock_now: Callable[[], int] = clock.now
        self.now: i64 = clock.now()
        """Of the current or the latest step."""
        self.unix_now: i64 = clock.unix_now()
        """The same on the wall clock."""
        self.has_woken: bool = False
        """A handler sets it when it has made a task runnable; the pump clears it and lets the task run."""
        self.steps: i64 = 0
        self.reads: i64 = 0
        """Times a handler was called because its connection had something for it."""
        self.writes: i64 = 0
        """Frames given to the link."""
        self.timer_tasks: int = 0
        """Children alive: one per open connection whose first deadline has come up."""
        self.is_stepping: bool = False
        self.is_flush_wanted: bool = False
        self.keeper_wakes_at: i64 = 0
        """Until when the keeper sleeps; 0 while it does not."""
        self._hooks: list[Callable[[], None]] = []
        self._batch: i64 = 1
        # A heap of (deadline, number, connection); the number keeps equal deadlines in order of their coming.
        self._deadlines: list[tuple[int, int, Connection]] = []
        self._entries: i64 = 0
        self._clean_from: i64 = _SMALL_HEAP  # entries from which on stale ones are looked for

    # ---- what the tasks do

    def start_child(self, port: ConnectionPort, connection: Connection) -> None:
        """Give a connection the task that keeps its time."""
        raise NotImplementedError

    def wake_keeper_at(self, deadline: i64) -> None:
        """The keeper sleeps for something later: let it wake at `deadline`."""
        raise NotImplementedError

    # ---- the step

    def add_step_hook(self, hook: Callable[[], None]) -> None:
        """Call `hook` in every step that ran a handler, after the handlers and before the output is built."""
        self._hooks.append(hook)

    def remove_step_hook(self, hook: Callable[[], None]) -> None:
        """Undo `add_step_hook`."""
        self._hooks.remove(hook)

    def drain(self, turn_us: i64) -> bool:
        """Read and step until the link is empty, a handler woke a task, or the turn is over.

        Returns:
            Whether there may be more to read.
        """
        link = self.link
        interface = self.interface
        turn_ends: i64 = 0
        while True:
            limit = self._batch
            frames = link.read_batch(limit)
            count: i64 = len(frames)
            if count == 0:
                # The answer to what was just written is often there already, so one look was worth it.
                self._batch = 1
                return False
            now: i64 = self._clock_now()
            for frame in frames:
                interface.receive_frame(frame, now)
            self.step(now)
            if turn_ends == 0:
                turn_ends = now + turn_us
            if self.has_woken or now >= turn_ends:
                return True
            if count < limit:
                self._batch = count
            elif limit < BATCH_FRAMES:
                self._batch = limit * 2

    def flush(self) -> None:
        """Do a step now, unless one is under way, which then carries the output."""
        if not self.is_stepping:
            self.step(self._clock_now())

    def step(self, now: i64) -> None:
        """Call whoever became ready, write the output, take note of deadlines."""
        interface = self.interface
        self.is_stepping = True
        self.is_flush_wanted = False
        self.now = now
        self.unix_now = now + self.clock.unix_offset
        self.steps += 1
        try:
            ready = interface.take_ready()
            while len(ready) > 0:
                self.reads += len(ready)
                for connection in ready:
                    port = self.port_of(connection)
                    handler: Any = port.handler
                    if isinstance(handler, StepHandler):
                        handler.on_events(connection)
                    else:
                        handler.on_events(connection)
                    if connection.is_closed:
                        port.wake()
                for hook in self._hooks:
                    hook()
                # A handler may have ended a connection (ABORT), its own or another one: that is an event too.
                ready = interface.take_ready()
            frames = interface.frames_to_send(now)
            if len(frames) > 0:
                self.link.write_batch(frames)
                self.writes += len(frames)
            for connection in interface.take_rescheduled():
                self.schedule(connection, connection.armed_deadline)
            if self.keeper_wakes_at > 0:
                deadline: i64 = interface.link_deadline()
                if deadline < self.keeper_wakes_at:
                    self.keeper_wakes_at = deadline
                    self.wake_keeper_at(deadline)
        finally:
            self.is_stepping = False

    # ---- ports

    def port_of(self, connection: Connection) -> ConnectionPort:
        """The port of a connection, made when it is new."""
        owner = connection.owner
        if owner is not None:
            return cast("ConnectionPort", owner)
        port = ConnectionPort()
        connection.owner = port
        return port

    # ---- deadlines

    def first_deadline(self) -> int:
        """When the keeper has to look again; NEVER when nothing is due, ever."""
        deadline: i64 = self.interface.link_deadline()
        if len(self._deadlines) > 0:
            first: i64 = self._deadlines[0][0]
            if first < deadline:
                deadline = first
        return deadline

    def look(self, now: i64) -> None:
        """Wake the children of due connections; put back those whose deadline has moved later.

        A connection that has no child yet gets one, which then looks for itself.
        """
        heap = self._deadlines
        while len(heap) > 0:
            deadline: i64 = heap[0][0]
            if deadline > now:
                return
            connection: Connection = heapq.heappop(heap)[2]
            if not _is_current(deadline, connection):
                continue
            port = self.port_of(connection)
            if not port.has_child:
                self.start_child(port, connection)
            elif connection.next_deadline() <= now:
                port.wake()
            else:
                self.schedule(connection, connection.rearm())

    def schedule(self, connection: Connection, deadline: i64) -> None:
        """See to it that the keeper looks at the connection at `deadline`."""
        if deadline >= NEVER:
            return
        heap = self._deadlines
        if len(heap) >= self._clean_from:
            # Entries of dead connections and stale ones, with deadlines far away.
            heap[:] = [one for one in heap if _is_current(one[0], one[2])]
            heapq.heapify(heap)
            self._clean_from = max(_SMALL_HEAP, 2 * len(heap))
        self._entries += 1
        heapq.heappush(heap, (deadline, self._entries, connection))
        if deadline < self.keeper_wakes_at:
            self.keeper_wakes_at = deadline
            self.wake_keeper_at(deadline)


def _is_current(deadline: i64, connection: Connection) -> bool:
    return deadline == connection.armed_deadline and not connection.is_closed
