"""The pump: the tasks that move one interface.

Everything that happens to an interface happens in one synchronous step (stepper.py): feed what arrived with
one `now`, call the handlers of the connections that became ready, write all output at once, look whose
deadline moved. Nothing in a step awaits, so no task ever sees a half-done one. Three things start a step:
frames (`run`, `run_beside`), a deadline (`keep_time`), and a task that used a stream (`flush`, `flush_soon`).

Why handlers are called and not woken: a trio task wake-up measured 2.7 µs, more than a whole compiled
Redis request. A stream's handler wakes its task; the Redis service does its work inside the call.

Timers: each connection has one child task, which owns its earliest deadline and does what is due. The
deadlines lie in one heap, and one task, the keeper, sleeps until the first of them. A deadline that moves
later is left alone: when its entry comes up the keeper looks, and puts it back or wakes the child. So the
restart of a retransmission timer by every ACK costs nothing, and a look costs 1 µs and no task switch
(ADR 0012). When the connection is closed its child ends. The child is started when the connection's first
deadline comes up, a second after its SYN at the latest: most connections that are closed at once never need
one, and it would be half of what they cost (ADR 0021).

Before anything is declared due the keeper empties the link: an ACK that waits in its queue came before
the deadline, and under load a retransmission in its stead would only add to the load.

Fairness:   a batch is bounded, and so is the time spent re-reading without a scheduler round (`_TURN_US`);
            when a step woke a task, the task gets its turn before the next batch. When the link is empty and
            no task was woken the pump naps on it, without trio, for as long as a busy client may take to ask
            again, and at most until its turn ends.

Spinning:   to sleep and to be woken costs about as much as a request (a core that sleeps has to be woken by
            the client's, in a virtual machine through the hypervisor). So before it naps the pump asks the
            link again and again for as long as that costs, as long as it pays (`Spins`, ADR 0022).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import trio

from appliance.errors import HostError
from appliance.shell.clock import trio_time
from appliance.shell.stepper import BATCH_FRAMES, DETACHED, ConnectionPort, Stepper
from appliance.shell.waiting import Waiter

if TYPE_CHECKING:
    from appliance.shell.clock import Clock
    from appliance.shell.link import Link
    from appliance.stack.interface import Interface
    from appliance.stack.tcp.connection import Connection

__all__ = ["DETACHED", "ConnectionPort", "Handler", "ListenerOwner", "Pump"]

_TURN_US: Final = 2_000
"""How long the pump goes on re-reading before timers and other tasks get a scheduler round."""

_TURN_BEFORE_TIMERS_US: Final = 500_000
"""The same for the keeper, so that no timer fires for an ACK that is already there. It lies behind a full TAP
queue of 10,000 requests at worst, when as many clients ask at once: with 20 ms, ten thousand pings in one go
caused 4,500 needless retransmission timeouts compiled and 31,000 pure, with 200 ms 3,600 and 20,000, with
500 ms a handful and none. Only a queue that never empties takes all of it."""


NAP_US: Final = 500
"""How long the pump waits for the next frame in the thread itself; a round trip of one client is a tenth."""

SPIN_US: Final = 25
"""How long it asks again and again before that: what a sleep and a wake-up cost."""

_MOST_MISSES: Final = 8


class Spins:
    """Whether it pays to spin: not for a while after spins that found nothing.

    After one of those in a row the next wait does without, after two the next three, after eight and more the
    next 255. So a client that never asks within a spin costs a few of them, and where client and server share
    a core, so that nothing can come while the server spins, they cost next to nothing.
    """

    __slots__ = ("_left_out", "_misses")

    def __init__(self) -> None:
        self._misses = 0
        self._left_out = 0

    def is_next(self) -> bool:
        """Whether the wait that comes should begin with a spin."""
        if self._left_out > 0:
            self._left_out -= 1
            return False
        return True

    def ended(self, has_found: bool) -> None:
        """Take note of what a spin gave."""
        if has_found:
            self._misses = 0
        else:
            self._misses = min(self._misses + 1, _MOST_MISSES)
            self._left_out = (1 << self._misses) - 1


class Handler(Protocol):
    """Who deals with the events of a connection."""

    def on_events(self, connection: Connection) -> None:
        """Called inside a step. Must not await; may use the connection freely; must not call `flush`."""


class ListenerOwner(Protocol):
    """What the shell puts into `Listener.owner`."""

    def on_opened(self, port: ConnectionPort) -> None:
        """A connection of this listener is ESTABLISHED: `accept` gives it. Called inside a step."""


class Pump(Stepper):
    """Moves one interface; see the module's text.

    Args:
        nursery: Gets one child per connection.
        nap_us: How long the pump waits for the next frame in the thread itself before it lets trio wait.
            0: not at all, and there is no spin either.
        spin_us: How long it asks the link again and again before it naps. 0: not at all.
        busy_poll_us: How long after the latest step it asks the link again and again instead. 0: not at all.
    """

    def __init__(
        self,
        link: Link,
        interface: Interface,
        clock: Clock,
        nursery: trio.Nursery,
        *,
        nap_us: int = NAP_US,
        spin_us: int = SPIN_US,
        busy_poll_us: int = 0,
    ) -> None:
        super().__init__(link, interface, clock)
        self.nursery = nursery
        self.nap_us = nap_us
        self.spin_us = spin_us
        self._spins = Spins()
        self.busy_poll_us = busy_poll_us
        self._flusher = Waiter()
        self._keeper = Waiter()
        self._keeper_nap: trio.CancelScope | None = None

    # ---- the three ways into a step

    async def run(self) -> None:
        """Read and step for ever.

        Raises:
            HostError: The link is gone.
        """
        link = self.link
        clock_now = self.clock.now
        while True:
            await link.wait_readable()
            turn_ends = clock_now() + _TURN_US
            has_woken = False
            while True:
                if self.drain(_TURN_US):
                    # A task was woken, or it is time to let the others look whether they are.
                    has_woken = self.has_woken
                    self.has_woken = False
                    await trio.lowlevel.checkpoint()
                    turn_ends = clock_now() + _TURN_US
                elif has_woken:
                    break  # the task may be at work still: to sleep here would keep it from running
                elif self._wait_in_thread(link, turn_ends):
                    continue
                elif clock_now() - self.now < self.busy_poll_us:
                    await trio.lowlevel.checkpoint()
                    turn_ends = clock_now() + _TURN_US
                else:
                    break

    async def run_beside(self, link: Link) -> None:
        """Read and step for ever, for `Link.beside`: by it come few frames, and none that is in a hurry."""
        with suppress(HostError):  # the link itself says so
            while True:
                await link.wait_readable()
                now = self.clock.now()
                for frame in link.read_batch(BATCH_FRAMES):
                    self.interface.receive_frame(frame, now)
                self.flush()

    def _wait_in_thread(self, link: Link, turn_ends: int) -> bool:
        """Wait a little in the thread itself; whether there is something to read.

        A client that asks, waits and asks again would otherwise cost trio's way into epoll and out of it per
        request. The others wait meanwhile, so this ends with the turn.
        """
        if self.is_flush_wanted:
            return False
        now = self.clock.now()
        left = min(turn_ends, self.keeper_wakes_at) - now
        if left <= 0:
            return False
        if self.busy_poll_us > 0:
            return link.spin(min(left, self.busy_poll_us))
        if self.nap_us <= 0:
            return False
        if self.spin_us > 0 and self._spins.is_next():
            has_found = link.spin(min(left, self.spin_us))
            self._spins.ended(has_found)
            if has_found:
                return True
        return link.nap(min(left, self.nap_us))

    def flush_soon(self) -> None:
        """A step at the next scheduler round: for what may wait for more, as the ACK of data just read."""
        if not self.is_stepping and not self.is_flush_wanted:
            self.is_flush_wanted = True
            self._flusher.wake()

    async def run_flusher(self) -> None:
        """Serve `flush_soon`."""
        while True:
            if not self.is_flush_wanted:
                await self._flusher.wait()
            if self.is_flush_wanted:
                self.flush()

    async def run_keeper(self) -> None:
        """Sleep until the first deadline of all; wake the children whose time has come."""
        interface = self.interface
        while True:
            deadline = self.first_deadline()
            with trio.CancelScope(deadline=trio_time(deadline)) as self._keeper_nap:
                self.keeper_wakes_at = deadline
                await self._keeper.wait()
            self.keeper_wakes_at = 0
            self._keeper_nap = None
            self.drain(_TURN_BEFORE_TIMERS_US)
            now = self.clock.now()
            self.look(now)
            if interface.link_deadline() <= now:
                interface.handle_link_deadline(now)
                self.flush()

    def wake_keeper_at(self, deadline: int) -> None:
        if self._keeper_nap is not None:
            self._keeper_nap.deadline = trio_time(deadline)

    async def keep_time(self, port: ConnectionPort, connection: Connection) -> None:
        """The child of one connection: do what is due whenever something is, until it is closed."""
        try:
            while True:
                now = self.clock.now()
                if connection.next_deadline() <= now:
                    connection.handle_deadline(now)
                    # Many deadlines may fall into one scheduler round: one step carries what they all cause.
                    self.flush_soon()
                if connection.is_closed:
                    break
                self.schedule(connection, connection.rearm())
                # Here and not in a method: a coroutine more would cost every idle connection 200 bytes.
                port.sleeper = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(port.abort_sleep)
        finally:
            self.timer_tasks -= 1

    def start_child(self, port: ConnectionPort, connection: Connection) -> None:
        port.has_child = True
        self.timer_tasks += 1
        self.nursery.start_soon(self.keep_time, port, connection, name="tcp timer")
