"""The whole pass from request frame to reply frame, repeatable to the instruction.

A client of our own stack talks to the service once, under a clock that only the script moves, and the frames
that it sends are kept. Replayed to a new server of the same seeds they give the same replies, bit for bit, and
now nothing else runs: no client, no kernel, no waiting. What runs is what `redtap serve` runs: pump, interface,
connection, session, dispatch, output; the link alone is ours, with frames in lists instead of system calls.

Units:      the virtual clock is in microseconds; a request "arrives" every `_REQUEST_US`.
Invariants: a replay that answers anything else than the recording is an AssertionError.
"""

from __future__ import annotations

import os
import random
import select
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from appliance.redis.engine import Engine, EngineSettings
from appliance.shell.clock import Clock
from appliance.shell.link import Link
from appliance.shell.network import open_network
from appliance.shell.redis_service import RedisService
from appliance.stack.interface import Interface, InterfaceConfig
from appliance.stack.tcp.state import ESTABLISHED

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.tcp.connection import Connection

__all__ = ["LOADS", "Conversation", "Load", "command", "record", "replay"]

CLIENT: Final = 0x0A4D0001
SERVER: Final = 0x0A4D0002
PORT: Final = 6379
_FIRST_CLIENT_PORT: Final = 40_000
_EPOCH_US: Final = 1_700_000_000_000_000
_REQUEST_US: Final = 10


def command(*words: bytes) -> bytes:
    """A RESP request."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@dataclass(frozen=True)
class Load:
    """What the clients ask, again and again.

    Attributes:
        name: for tables and budgets.
        request: one, as it goes over the wire; `reply` is what comes back.
        clients: connections that ask in one batch, one frame each.
        depth: requests in that frame, redis-benchmark's -P.
        before: requests that are run first, to put there what is read.
        idle: connections that are opened before and never ask.
    """

    name: str
    request: bytes
    reply: bytes
    clients: int = 16
    depth: int = 1
    before: bytes = b""
    idle: int = 0

    @property
    def requests_per_batch(self) -> int:
        return self.clients * self.depth


_KEY: Final = b"key:__rand_int__"  # redis-benchmark's without -r
_SET: Final = command(b"SET", _KEY, b"xxx")
_GET: Final = command(b"GET", _KEY)
_GOT: Final = b"$3\r\nxxx\r\n"
_OK: Final = b"+OK\r\n"
_LARGE: Final = b"x" * 16_384
_OPEN_AT_ONCE: Final = 64

LOADS: Final = (
    Load("get -P 1", _GET, _GOT, before=_SET),
    Load("set -P 1", _SET, _OK),
    Load("get -P 16", _GET, _GOT, depth=16, before=_SET),
    Load("set -P 16", _SET, _OK, depth=16),
    Load("get -c 1", _GET, _GOT, clients=1, before=_SET),
    Load("set -c 1", _SET, _OK, clients=1),
    Load("get 16 KiB", _GET, b"$16384\r\n" + _LARGE + b"\r\n", before=command(b"SET", _KEY, _LARGE)),
    Load("set 16 KiB", command(b"SET", _KEY, _LARGE), _OK),
    Load("get, 2000 idle", _GET, _GOT, before=_SET, idle=2000),
)


@dataclass
class Conversation:
    """What the clients of `load` sent.

    Attributes:
        batches: frames that arrive together, in order.
        first: number of the first batch of requests; handshakes and preparations come before.
        last_replies: what the server answered to the last batch.
    """

    load: Load
    batches: list[list[bytes]] = field(default_factory=list)
    first: int = 0
    last_replies: list[bytes] = field(default_factory=list)


def _config(address: int) -> InterfaceConfig:
    return InterfaceConfig(
        mac=b"\x02\x52" + address.to_bytes(4, "big"),
        address=address,
        prefix_length=24,
        random_bytes=random.Random(address).randbytes,
    )


class _VirtualClock(trio.abc.Clock):
    """Stands still but for the script."""

    def __init__(self) -> None:
        self.now_us = 1_000_000

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.now_us / 1_000_000

    def deadline_to_sleep_time(self, deadline: float) -> float:
        # No deadline ever comes by waiting; 0 for those that the script has passed.
        return 0.0 if deadline <= self.current_time() else 3600.0


class _ScriptedLink(Link):
    """Frames from a script, a batch whenever the one before is answered.

    The clients of a busy server are quick: the next batch is there when the last reply has gone. A single
    client needs its time: the link is found empty once, and then the pump waits, on a real descriptor.
    """

    def __init__(self, clock: _VirtualClock, load: Load) -> None:
        super().__init__(vnet_header=True, mtu=1500, gso=True)
        self._clock = clock
        self._pauses = load.clients == 1
        self._is_paused = False
        self._pending: list[bytes] = []
        self._always_readable = os.eventfd(1, os.EFD_NONBLOCK)
        self.finished = trio.Event()
        self.written: list[bytes] = []
        """Replies to the batch before."""

    def next_batch(self) -> list[bytes]:
        """The script; empty at its end."""
        raise NotImplementedError

    def nap(self, wait_us: int) -> bool:
        self._is_paused = False
        if self.finished.is_set():
            return False
        return len(select.select([self._always_readable], (), (), wait_us / 1_000_000)[0]) > 0

    def spin(self, wait_us: int) -> bool:
        return self.nap(wait_us)

    async def wait_readable(self) -> None:
        if self.finished.is_set():
            await trio.sleep_forever()
        self._is_paused = False
        await trio.lowlevel.wait_readable(self._always_readable)

    def read_batch(self, limit: int) -> list[bytes]:
        frames = self._pending
        if not frames:
            if self._is_paused or self.finished.is_set():
                return []
            frames = self.next_batch()
            self.written = []
            self._is_paused = self._pauses
            if not frames:
                self.finished.set()
                return []
            self._clock.now_us += _REQUEST_US * len(frames)
        self._pending = frames[limit:]
        return frames[:limit]

    def write_batch(self, frames: list[bytes]) -> None:
        self.written += frames

    def close(self) -> None:
        os.close(self._always_readable)


class _RecordingLink(_ScriptedLink):
    """The script is what live clients do."""

    def __init__(self, clock: _VirtualClock, load: Load, rounds: int) -> None:
        super().__init__(clock, load)
        self.conversation = Conversation(load)
        self._left = rounds
        self._expected: list[bytes] = [b""] * load.clients
        self._interface = Interface(_config(CLIENT))
        self._ports = iter(range(_FIRST_CLIENT_PORT, _FIRST_CLIENT_PORT + load.idle + load.clients))
        self._opened: list[Connection] = []
        self._is_prepared = not load.before
        self._is_open = False

    def next_batch(self) -> list[bytes]:
        interface, now = self._interface, self._clock.now_us
        replies = self.written
        for frame in replies:
            interface.receive_frame(frame, now)
        interface.take_ready()
        frames = interface.frames_to_send(now)
        if not self._is_open and not frames:
            self._is_open = not self._open_some()
            frames = interface.frames_to_send(now)
        if self._is_open and not self._is_awaiting():
            if self._left == 0:
                self.conversation.last_replies = replies
                return []
            self._ask()
            frames += interface.frames_to_send(now)
        assert frames, "the clients wait and so does the server"
        self.conversation.batches.append(frames)
        return frames

    def _open_some(self) -> bool:
        """Connect, not more at once than wait in a listener's queue; whether there were any left."""
        # One alone at first: few frames wait for the neighbour's address to be resolved.
        ports = list(islice(self._ports, _OPEN_AT_ONCE if self._opened else 1))
        for port in ports:
            connection = self._interface.connect(SERVER, PORT, self._clock.now_us, port)
            connection.set_nodelay(True)
            self._opened.append(connection)
        return len(ports) > 0

    @property
    def _connections(self) -> list[Connection]:
        """Those that ask."""
        return self._opened[self.conversation.load.idle :]

    def _is_awaiting(self) -> bool:
        """Take what has come; whether any reply is not whole yet."""
        for number, connection in enumerate(self._connections):
            while data := connection.receive(1 << 20):
                expected = self._expected[number]
                assert expected.startswith(data), f"expected {expected[:80]!r}, got {data[:80]!r}"
                self._expected[number] = expected[len(data) :]
        return any(self._expected)

    def _ask(self) -> None:
        load = self.conversation.load
        if not self._is_prepared:
            self._is_prepared = True
            self._send(0, load.before, b"+OK\r\n")
            return
        if not self.conversation.first:
            self.conversation.first = len(self.conversation.batches)
            assert all(connection.state == ESTABLISHED for connection in self._opened)
        self._left -= 1
        for number in range(load.clients):
            self._send(number, load.request * load.depth, load.reply * load.depth)

    def _send(self, number: int, request: bytes, reply: bytes) -> None:
        assert self._connections[number].send(request) == len(request)
        self._expected[number] = reply


class _ReplayLink(_ScriptedLink):
    """The script is a recording."""

    def __init__(
        self,
        clock: _VirtualClock,
        conversation: Conversation,
        marks: tuple[int, ...],
        on_mark: Callable[[], None],
    ) -> None:
        super().__init__(clock, conversation.load)
        self.last_replies: list[bytes] = []
        self._batches = iter(conversation.batches)
        self._marks = iter([conversation.first + mark for mark in marks])
        self._next_mark = next(self._marks, -1)
        self._on_mark = on_mark
        self._position = 0

    def next_batch(self) -> list[bytes]:
        if self._position == self._next_mark:
            self._next_mark = next(self._marks, -1)
            self._on_mark()
        self._position += 1
        batch = next(self._batches, [])
        if not batch:
            self.last_replies = self.written
        return batch


async def _serve(link: _ScriptedLink) -> None:
    """Run a new server until the script ends."""
    try:
        engine = Engine(EngineSettings(), random.Random(SERVER).randbytes)
        async with open_network(link, _config(SERVER), clock=Clock(_EPOCH_US)) as network:
            RedisService(network, engine, PORT)
            await link.finished.wait()
    finally:
        link.close()


def record(load: Load, rounds: int) -> Conversation:
    """Let the clients of `load` ask `rounds` times each, and keep what they sent."""
    clock = _VirtualClock()
    link = _RecordingLink(clock, load, rounds)
    trio.run(_serve, link, clock=clock)
    return link.conversation


def replay(
    conversation: Conversation, marks: tuple[int, ...] = (), on_mark: Callable[[], None] = lambda: None
) -> None:
    """Feed the frames to a new server.

    Args:
        marks: `on_mark` is called before these rounds, ascending; the number of rounds means after the last.
    """
    clock = _VirtualClock()
    link = _ReplayLink(clock, conversation, marks, on_mark)
    trio.run(_serve, link, clock=clock)
    assert link.last_replies == conversation.last_replies, (
        "the server answered otherwise than when this was recorded"
    )
