"""The pump: frames in, whoever became ready runs, frames out.

Everything that happens to an interface happens in one synchronous step here: feed what arrived with one
`now`, call the handlers of the connections that became ready, write all output at once, look whose
deadline moved. Nothing in a step awaits, so no task ever sees a half-done one. Three things start a step:
frames (`run`), a deadline (`keep_time`), and a task that used a stream (`flush`, `flush_soon`).

Why handlers are called and not woken: a trio task wake-up measured 2.7 µs, more than a whole compiled
Redis request. A stream's handler wakes its task; the Redis service does its work inside the call.

Timers: each connection has one child task, which owns its earliest deadline and does what is due. The
deadlines lie in one heap, and one task, the keeper, sleeps until the first of them. A deadline that moves
later is left alone: when its entry comes up the keeper looks, and puts it back or wakes the child. So the
restart of a retransmission timer by every ACK costs nothing, and a look costs 1 µs and no task switch
(ADR 0012). When the connection is closed its child ends.

Before anything is declared due the keeper empties the link: an ACK that waits in its queue came before
the deadline, and under load a retransmission in its stead would only add to the load.

Invariants: after a step every connection with a deadline has an entry no later than it:
            `Connection.armed_deadline`, which `Interface.take_rescheduled` moves earlier and `rearm` later.
            An entry with another deadline is stale. No step runs inside another.
Fairness:   a batch is bounded, and so is the time spent re-reading without a scheduler round (`_TURN_US`);
            when a step woke a task, the task gets its turn before the next batch.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, Protocol

import trio

from appliance.shell.clock import trio_time
from appliance.shell.waiting import Waiter
from appliance.stack.timebase import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from appliance.shell.clock import Clock
    from appliance.shell.link import Link
    from appliance.stack.interface import Interface
    from appliance.stack.tcp.connection import Connection

__all__ = ["DETACHED", "ConnectionPort", "Handler", "ListenerOwner", "Pump"]

_BATCH_FRAMES: Final = 256
"""Frames read before anything is answered: enough for a full TAP queue's worth of small requests, few
enough that the first of them does not wait long."""

_TURN_US: Final = 2_000
"""How long the pump goes on re-reading before timers and other tasks get a scheduler round."""

_TURN_BEFORE_TIMERS_US: Final = 500_000
"""The same for the keeper, so that no timer fires for an ACK that is already there. It lies behind a full TAP
queue of 10,000 requests at worst, when as many clients ask at once: with 20 ms, ten thousand pings in one go
caused 4,500 needless retransmission timeouts compiled and 31,000 pure, with 200 ms 3,600 and 20,000, with
500 ms a handful and none. Only a queue that never empties takes all of it."""


_SMALL_HEAP: Final = 1024
"""Entries below which nobody counts the stale ones."""


class Handler(Protocol):
    """Who deals with the events of a connection."""

    def on_events(self, connection: Connection) -> None:
        """Called inside a step. Must not await; may use the connection freely; must not call `flush`."""


class ListenerOwner(Protocol):
    """What the shell puts into `Listener.owner`."""

    def on_opened(self, port: ConnectionPort) -> None:
        """A connection of this listener is ESTABLISHED: `accept` gives it. Called inside a step."""


class _Unclaimed:
    """Handler of connections that nobody has accepted yet."""

    __slots__ = ()

    def on_events(self, connection: Connection) -> None:
        # The events stay untaken: whoever accepts the connection looks at its state first. Telling the
        # owner again when data follows the handshake costs little, and it may have missed nothing.
        listener = connection.listener
        if listener is not None and not listener.is_closed and not connection.is_closed:
            owner: ListenerOwner | None = listener.owner  # type: ignore[assignment]
            if owner is not None:
                owner.on_opened(connection.owner)  # type: ignore[arg-type]


class _Detached:
    """Handler of connections whose user has let go: they finish by themselves."""

    __slots__ = ()

    def on_events(self, connection: Connection) -> None:
        connection.take_events()


_UNCLAIMED: Final = _Unclaimed()
DETACHED: Final = _Detached()


class ConnectionPort:
    """What the shell knows of one connection; `Connection.owner` points to it."""

    __slots__ = ("_sleeper", "connection", "handler")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.handler: Handler = _UNCLAIMED
        self._sleeper: trio.lowlevel.Task | None = None

    async def sleep(self) -> None:
        """For the child: until `wake`."""
        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_sleep)

    def wake(self) -> None:
        """End the child's sleep, if it sleeps; else it is about to look anyway."""
        sleeper = self._sleeper
        if sleeper is not None:
            self._sleeper = None
            trio.lowlevel.reschedule(sleeper)

    def _abort_sleep(self, _raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED


class Pump:
    """Moves one interface; see the module's text.

    Args:
        nursery: Gets one child per connection.
    """

    def __init__(self, link: Link, interface: Interface, clock: Clock, nursery: trio.Nursery) -> None:
        self.link = link
        self.interface = interface
        self.clock = clock
        self.nursery = nursery
        self.now = clock.now()
        """Of the current or the latest step."""
        self.unix_now = clock.unix_now()
        """The same on the wall clock."""
        self.has_woken = False
        """A handler sets it when it has made a task runnable: the task then runs before the next batch."""
        self.steps = 0
        self.timer_tasks = 0
        """Children alive, one per connection that is not closed."""
        self._step_hooks: list[Callable[[], None]] = []
        self._is_stepping = False
        self._flusher = Waiter()
        self._flush_wanted = False
        self._deadlines: list[tuple[int, int, ConnectionPort]] = []
        """A heap; the second item keeps equal deadlines in the order of their coming."""
        self._entries = 0
        self._keeper = Waiter()
        self._keeper_nap: trio.CancelScope | None = None
        self._keeper_wakes_at = 0

    def add_step_hook(self, hook: Callable[[], None]) -> None:
        """Call `hook` in every step that ran a handler, after the handlers and before the output is built."""
        self._step_hooks.append(hook)

    def remove_step_hook(self, hook: Callable[[], None]) -> None:
        """Undo `add_step_hook`."""
        self._step_hooks.remove(hook)

    # ---- the three ways into a step

    async def run(self) -> None:
        """Read and step for ever.

        Raises:
            HostError: The link is gone.
        """
        wait_readable = self.link.wait_readable
        while True:
            await wait_readable()
            while self._drain(_TURN_US):
                await trio.lowlevel.checkpoint()

    def _drain(self, turn_us: int) -> bool:
        """Read and step until the link is empty, a handler woke a task, or the turn is over.

        Returns:
            Whether there may be more to read.
        """
        read_batch = self.link.read_batch
        frames = read_batch(_BATCH_FRAMES)
        if not frames:
            return False
        receive_frame = self.interface.receive_frame
        clock_now = self.clock.now
        step = self._step
        turn_ends = 0
        while True:
            now = clock_now()
            for frame in frames:
                receive_frame(frame, now)
            step(now)
            if not turn_ends:
                turn_ends = now + turn_us
            if self.has_woken or now >= turn_ends:
                self.has_woken = False
                return True
            # The answer to what was just written is often there already: look before sleeping.
            frames = read_batch(_BATCH_FRAMES)
            if not frames:
                return False

    def flush(self) -> None:
        """Do a step now, unless one is under way, which then carries the output."""
        if not self._is_stepping:
            self._step(self.clock.now())

    def flush_soon(self) -> None:
        """A step at the next scheduler round: for what may wait for more, as the ACK of data just read."""
        if not self._is_stepping and not self._flush_wanted:
            self._flush_wanted = True
            self._flusher.wake()

    async def run_flusher(self) -> None:
        """Serve `flush_soon`."""
        while True:
            if not self._flush_wanted:
                await self._flusher.wait()
            if self._flush_wanted:
                self.flush()

    async def run_keeper(self) -> None:
        """Sleep until the first deadline of all; wake the children whose time has come."""
        interface = self.interface
        while True:
            deadline = interface.link_deadline()
            if self._deadlines and self._deadlines[0][0] < deadline:
                deadline = self._deadlines[0][0]
            self._keeper_wakes_at = deadline
            with trio.CancelScope(deadline=trio_time(deadline)) as self._keeper_nap:
                await self._keeper.wait()
            self._keeper_wakes_at = 0
            self._drain(_TURN_BEFORE_TIMERS_US)
            now = self.clock.now()
            self._look(now)
            if interface.link_deadline() <= now:
                interface.handle_link_deadline(now)
                self.flush()

    def _look(self, now: int) -> None:
        """Wake the children of due connections; put back those whose deadline has moved later."""
        heap = self._deadlines
        while heap and heap[0][0] <= now:
            deadline, _, port = heapq.heappop(heap)
            connection = port.connection
            if not self._is_current(deadline, connection):
                continue
            if connection.next_deadline() <= now:
                port.wake()
            else:
                self._schedule(port, connection.rearm())

    @staticmethod
    def _is_current(deadline: int, connection: Connection) -> bool:
        return deadline == connection.armed_deadline and not connection.is_closed

    def _schedule(self, port: ConnectionPort, deadline: int) -> None:
        if deadline >= NEVER:
            return
        heap = self._deadlines
        if len(heap) > _SMALL_HEAP and len(heap) > 4 * self.timer_tasks:
            # Entries of dead connections and stale ones, with deadlines far away.
            heap[:] = [one for one in heap if self._is_current(one[0], one[2].connection)]
            heapq.heapify(heap)
        self._entries += 1
        heapq.heappush(heap, (deadline, self._entries, port))
        if deadline < self._keeper_wakes_at and self._keeper_nap is not None:
            self._keeper_wakes_at = deadline
            self._keeper_nap.deadline = trio_time(deadline)

    async def keep_time(self, port: ConnectionPort) -> None:
        """The child of one connection: do what is due whenever something is, until it is closed."""
        connection = port.connection
        try:
            while True:
                now = self.clock.now()
                if connection.next_deadline() <= now:
                    connection.handle_deadline(now)
                    # Many deadlines may fall into one scheduler round: one step carries what they all cause.
                    self.flush_soon()
                if connection.is_closed:
                    break
                self._schedule(port, connection.rearm())
                await port.sleep()
        finally:
            self.timer_tasks -= 1

    # ---- the step

    def port_of(self, connection: Connection) -> ConnectionPort:
        """The port of a connection; made, with its child task, when the connection is new."""
        port: ConnectionPort | None = connection.owner  # type: ignore[assignment]
        if port is None:
            port = ConnectionPort(connection)
            connection.owner = port
            self.timer_tasks += 1
            self.nursery.start_soon(self.keep_time, port, name="tcp timer")
        return port

    def _step(self, now: int) -> None:
        interface = self.interface
        self._is_stepping = True
        self._flush_wanted = False
        self.now = now
        self.unix_now = now + self.clock.unix_offset
        self.steps += 1
        try:
            port: ConnectionPort | None
            ready = interface.take_ready()
            while ready:
                for connection in ready:
                    port = connection.owner  # type: ignore[assignment]
                    if port is None:
                        port = self.port_of(connection)
                    port.handler.on_events(connection)
                    if connection.is_closed:
                        port.wake()
                for hook in self._step_hooks:
                    hook()
                # A handler may have ended a connection (ABORT), its own or another one: that is an event too.
                ready = interface.take_ready()
            frames = interface.frames_to_send(now)
            if frames:
                self.link.write_batch(frames)
            for connection in interface.take_rescheduled():
                port = connection.owner  # type: ignore[assignment]
                if port is None:
                    # New, and its child will look for itself.
                    self.port_of(connection)
                else:
                    self._schedule(port, connection.armed_deadline)
            deadline = interface.link_deadline()
            if deadline < self._keeper_wakes_at and self._keeper_nap is not None:
                self._keeper_wakes_at = deadline
                self._keeper_nap.deadline = trio_time(deadline)
        finally:
            self._is_stepping = False
