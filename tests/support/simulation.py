"""Two stacks, a link that misbehaves by seed, and a clock that jumps from event to event.

    sim = Simulation(seed=7, link=LinkFaults(loss=0.05, duplicate=0.02, reorder=0.1))
    a, b = sim.connect()
    Transfer(sim, a, b"x" * 1_000_000); Transfer(sim, b, b"")
    sim.run()

After every step the invariants of both stacks are checked. Everything that could differ between two runs
comes from one `random.Random(seed)`, so a seed is a failing test's whole description, and `trace` is a hash
of every frame and its time.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.errors import LocalProtocolError
from appliance.stack.interface import Interface, InterfaceConfig
from appliance.stack.tcp import connection as cn
from appliance.stack.timebase import MILLISECOND, NEVER, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.tcp.config import TcpConfig
    from appliance.stack.tcp.connection import Connection

ADDRESSES = (0x0A4D0001, 0x0A4D0002)
PORT = 6379


@dataclass(frozen=True)
class LinkFaults:
    """What the link does to frames. Probabilities 0 .. 1; times in microseconds; rate in bytes/s, or 0.

    A reordered frame is held back for up to `reorder_us` more; `jitter_us` is evenly spread. ARP is spared
    unless `faults_arp`. `burst_begins` and `burst_ends` are the two chances of Gilbert and Elliott: in a burst
    every frame is lost. `lose_numbers` and `lose_numbers_back` lose the n-th frames (from 0, ARP not counted) of
    side 0 and 1. With a rate, a frame that would have to wait behind more than `queue_bytes` is dropped.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay_us: int = 5 * MILLISECOND
    jitter_us: int = 0
    reorder_us: int = 20 * MILLISECOND
    rate: int = 0
    faults_arp: bool = True
    burst_begins: float = 0.0
    burst_ends: float = 1.0
    lose_numbers: frozenset[int] = frozenset()
    lose_numbers_back: frozenset[int] = frozenset()
    queue_bytes: int = 0


PERFECT = LinkFaults()
ROUGH = LinkFaults(loss=0.05, duplicate=0.02, reorder=0.1, jitter_us=2 * MILLISECOND)


class Simulation:
    """`stacks[0]` and `stacks[1]` on one link. `tcp`: settings for both, or one each."""

    def __init__(
        self,
        seed: int,
        link: LinkFaults = PERFECT,
        *,
        tcp: TcpConfig | tuple[TcpConfig, TcpConfig] | None = None,
        vnet_header: bool = False,
        start: int = 0,
        **settings: Any,
    ) -> None:
        self.seed = seed
        self.link = link
        self.vnet = vnet_header
        self.random = random.Random(seed)
        self.now = start
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._line_free_at = [start, start]
        self._in_burst = [False, False]
        self._numbers = [0, 0]
        self.frames = 0
        self.lost = 0
        self.apps: list[Transfer] = []
        self._app_of: dict[int, Transfer] = {}
        self.accepted: list[Connection] = []
        self.stacks: list[Interface] = []
        for side in (0, 1):
            config = tcp[side] if isinstance(tcp, tuple) else tcp
            arguments: dict[str, Any] = {
                "mac": bytes((2, 0, 0, 0, 0, side + 1)),
                "address": ADDRESSES[side],
                "prefix_length": 24,
                "vnet_header": vnet_header,
                "tcp": config,
                "random_bytes": self.random.randbytes,
            }
            arguments.update(settings)
            self.stacks.append(Interface(InterfaceConfig(**arguments)))

    @property
    def trace(self) -> str:
        """Changes with any byte, order or time of any frame that was sent."""
        return self._hash.hexdigest()

    # -- the link --------------------------------------------------------------------------------

    def at(self, when: int, action: Callable[[], None]) -> None:
        """Run `action` at virtual time `when`, behind whatever is already due then."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, action))

    def _transmit(self, side: int, frame: bytes) -> None:
        self._hash.update(b"%d %d %d " % (self.now, side, len(frame)))
        self._hash.update(frame)
        self.frames += 1
        link, chance = self.link, self.random.random
        start = 10 if self.vnet else 0
        is_arp = frame[start + 12 : start + 14] == b"\x08\x06"
        if is_arp and not link.faults_arp:
            self._arrive_at(self.now + link.delay_us, side, frame)
            return
        if self._is_lost(side, is_arp) or chance() < link.loss:
            self.lost += 1
            return
        for _ in range(2 if chance() < link.duplicate else 1):
            when = self.now + link.delay_us
            if link.rate:
                begin = max(self.now, self._line_free_at[side])
                if link.queue_bytes and (begin - self.now) * link.rate > link.queue_bytes * SECOND:
                    self.lost += 1
                    return
                self._line_free_at[side] = begin + len(frame) * SECOND // link.rate
                when = self._line_free_at[side] + link.delay_us
            if link.jitter_us:
                when += self.random.randrange(link.jitter_us)
            if chance() < link.reorder:
                when += self.random.randrange(1, link.reorder_us)
            copy = frame
            if chance() < link.corrupt:
                index = self.random.randrange(start, len(frame))
                copy = (
                    frame[:index]
                    + bytes((frame[index] ^ (1 << self.random.randrange(8)),))
                    + frame[index + 1 :]
                )
            self._arrive_at(when, side, copy)

    def _is_lost(self, side: int, is_arp: bool) -> bool:
        """Whether a burst or the frame's number says so; draws nothing on links that have no bursts."""
        link = self.link
        if link.burst_begins:
            chance = link.burst_ends if self._in_burst[side] else link.burst_begins
            if self.random.random() < chance:
                self._in_burst[side] = not self._in_burst[side]
            if self._in_burst[side]:
                return True
        if is_arp:
            return False
        number = self._numbers[side]
        self._numbers[side] += 1
        return number in (link.lose_numbers_back if side else link.lose_numbers)

    def _arrive_at(self, when: int, side: int, frame: bytes) -> None:
        self.at(when, lambda: self.stacks[1 - side].receive_frame(frame, self.now))

    # -- time ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let applications react and both stacks send, until neither has more to say at this instant."""
        while True:
            is_quiet = True
            for side, stack in enumerate(self.stacks):
                for frame in stack.frames_to_send(self.now):
                    self._transmit(side, frame)
                    is_quiet = False
                for connection in stack.take_ready():
                    is_quiet = False
                    self._on_ready(connection)
            if is_quiet:
                break
        for stack in self.stacks:
            stack.check_invariants()

    def _on_ready(self, connection: Connection) -> None:
        events = connection.take_events()
        if connection.listener is not None and events & cn.EVENT_OPENED:
            accepted = connection.listener.accept()
            assert accepted is not None
            self.accepted.append(accepted)
        app = self._app_of.get(id(connection))
        if app is not None:
            app.on_events(events)

    def step(self) -> bool:
        """Go to the next event or deadline and do what is due. False when nothing is ever due again."""
        when = self._events[0][0] if self._events else NEVER
        for stack in self.stacks:
            when = min(when, stack.next_deadline())
        if when >= NEVER:
            return False
        assert when >= self.now or not self._events or self._events[0][0] >= self.now
        self.now = max(self.now, when)
        for stack in self.stacks:
            if stack.next_deadline() <= self.now:
                stack.handle_deadline(self.now)
        while self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()
        self.settle()
        return True

    def run(
        self,
        until: Callable[[], bool] | None = None,
        limit_us: int = 3600 * SECOND,
        max_steps: int = 2_000_000,
    ) -> None:
        """Run until `until()` holds, or without it until nothing is due any more.

        Fails when virtual time passes the limit, or when time stands still.
        """
        self.settle()
        end = self.now + limit_us
        steps, last, stuck = 0, self.now, 0
        while not (until is not None and until()):
            if not self.step():
                assert until is None, (
                    f"seed {self.seed}: nothing is due, and it is not done: {self.describe()}"
                )
                return
            steps += 1
            stuck = stuck + 1 if self.now == last else 0
            last = self.now
            assert stuck < 10_000, f"seed {self.seed}: time stands still at {self.now}"
            assert self.now <= end, f"seed {self.seed}: not done after {limit_us} us: {self.describe()}"
            assert steps < max_steps, f"seed {self.seed}: {max_steps} steps: {self.describe()}"

    def describe(self) -> str:
        return "; ".join(
            str(connection.info()) for stack in self.stacks for connection in stack.connections()
        )

    # -- connections -----------------------------------------------------------------------------

    def open(self, port: int = PORT, client: int = 0) -> Connection:
        """Start an active open from one stack to a listener on the other, which is made when missing."""
        server = self.stacks[1 - client]
        if not any(listener.port == port for listener in server.listeners()):
            server.listen(port)
        return self.stacks[client].connect(ADDRESSES[1 - client], port, self.now)

    def connect(self, port: int = PORT) -> tuple[Connection, Connection]:
        """A connection in ESTABLISHED on both sides: the client's end and the server's."""
        client = self.open(port)
        self.run(until=lambda: bool(self.accepted))
        return client, self.accepted.pop()

    def finished(self) -> bool:
        """Every application got and sent all it should."""
        return all(app.is_done for app in self.apps)

    def check_all_gone(self) -> None:
        """Run until nothing is due; then neither stack may hold anything but listeners."""
        self.run()
        for stack in self.stacks:
            assert stack.connections() == [], f"seed {self.seed}: {self.describe()}"
            assert not stack._host.time_wait
            assert not stack._host.closed
            assert not stack._host.touched
            for listener in stack.listeners():
                assert listener.accept() is None
                assert not listener._half_open


class Transfer:
    """An application on one end: sends `data`, shuts down, reads until the peer's end.

    read_chunk, read_every_us: a slow reader takes so many bytes so often; by default it takes all at once.
    write_chunk: bytes per call of send. wait_for_eof: half-close the other way round, send after the FIN.
    close: call close() when all is sent and read.
    """

    def __init__(
        self,
        sim: Simulation,
        connection: Connection,
        data: bytes,
        *,
        read_chunk: int = 0,
        read_every_us: int = 0,
        write_chunk: int = 0,
        wait_for_eof: bool = False,
        close: bool = True,
    ) -> None:
        self.sim = sim
        self.connection = connection
        self.data = data
        self.sent = 0
        self.received = bytearray()
        self.read_chunk = read_chunk
        self.read_every_us = read_every_us
        self.write_chunk = write_chunk or 1 << 30
        self.wait_for_eof = wait_for_eof
        self.closes = close
        self.is_shut_down = False
        self.has_eof = False
        self.has_ended = False
        self.failure: BaseException | None = None
        sim.apps.append(self)
        sim._app_of[id(connection)] = self
        if read_every_us:
            sim.at(sim.now + read_every_us, self._read_later)
        self.on_events(0)

    @property
    def is_done(self) -> bool:
        if self.has_ended:
            return self.failure is not None or self.connection.receivable() == 0
        return self.has_eof and self.is_shut_down

    def on_events(self, events: int) -> None:
        if events & cn.EVENT_CLOSED or self.connection.is_closed:
            self.has_ended = True
            self.failure = self.connection.failure()
        if not self.read_every_us:
            self.received += self.connection.receive(1 << 30)
        self._after_read()
        self._write()

    def _read_later(self) -> None:
        if self.is_done:
            return
        self.received += self.connection.receive(self.read_chunk)
        self._after_read()
        self._write()
        if not self.is_done:
            self.sim.at(self.sim.now + self.read_every_us, self._read_later)

    def _after_read(self) -> None:
        if self.connection.at_eof():
            self.has_eof = True
        if self.is_done and self.closes:
            self.connection.close()

    def _write(self) -> None:
        if self.is_shut_down or self.has_ended or (self.wait_for_eof and not self.has_eof):
            return
        try:
            while self.sent < len(self.data):
                piece = self.data[self.sent : self.sent + self.write_chunk]
                taken = self.connection.send(piece)
                self.sent += taken
                if taken < len(piece):
                    return
        except LocalProtocolError:
            return  # not open yet
        if self.connection.state >= 4:
            self.is_shut_down = True
            self.connection.shutdown()
            self._after_read()
