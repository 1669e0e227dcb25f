"""A wire in user space: frames in at one end, out at the other, later, fewer, or in another order.

    python -m netns wire left right --rate 50M --delay 10ms --loss 0.01 --seed 7

joins two namespaces; `Wire` joins any two descriptors that keep frames whole: TAPs, or `frame_pipe`. No
kernel module is needed, and whether the n-th frame of a direction is lost, held back or doubled depends on
nothing but the seed and n, so two senders can be sent through the same weather.

Source:     netem's parameters (tc-netem(8)); Gilbert-Elliott: Elliott 1963, as tc-netem(8) writes it down.
Units:      bits per second, bytes of Ethernet frame, microseconds; inside, nanoseconds, monotonic.
Invariants: without reordering a direction is first in, first out; the line never carries more than its rate,
            however late this process is woken.
Errors:     ValueError for impairments that make no sense; OSError when a descriptor is gone.
Not here:   what a frame means. ARP alone is known by its type, so that it can be spared: a lost ARP
            request costs a second and says nothing about TCP.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from netns.inside import Place, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

__all__ = ["Direction", "Impairments", "Wire", "frame_pipe", "run_wire"]

_MAX_FRAME: Final = 65_600
_BATCH: Final = 64  # frames read from one end before the other end and the clock get their turn
_ARP: Final = b"\x08\x06"
_SECOND_NS: Final = 1_000_000_000
_PIPE_FRAMES: Final = 10_000  # like the queue of a TAP
_STOP_S: Final = 5.0


@dataclass(frozen=True)
class Impairments:
    """What one direction of a wire does to frames.

    Attributes:
        rate_bps: of the line; 0 is no limit.
        delay_us: from the end of a frame's transmission to its arrival.
        queue_bytes: what may wait for the line; a frame that finds it full is dropped; 0 is no limit.
        loss: probability that a frame is lost.
        burst: Gilbert-Elliott, as (probability to turn bad, probability to turn good again, probability of a
            loss while bad), drawn for each frame; None for none. While good, `loss` applies.
        drop_every: every n-th frame is lost; 0 for none.
        reorder: probability that a frame is held back by `reorder_us`, so that later ones overtake it.
        reorder_us: how long.
        duplicate: probability that a frame arrives twice.
        spares_arp: ARP frames are delayed, and nothing else happens to them.
    """

    rate_bps: int = 0
    delay_us: int = 0
    queue_bytes: int = 0
    loss: float = 0.0
    burst: tuple[float, float, float] | None = None
    drop_every: int = 0
    reorder: float = 0.0
    reorder_us: int = 0
    duplicate: float = 0.0
    spares_arp: bool = True

    def __post_init__(self) -> None:
        for name in ("rate_bps", "delay_us", "queue_bytes", "drop_every", "reorder_us"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; takes 0 or more")
        for name, value in (("loss", self.loss), ("reorder", self.reorder), ("duplicate", self.duplicate)):
            _check_probability(name, value)
        for value in self.burst or ():
            _check_probability("burst", value)
        if self.queue_bytes and not self.rate_bps:
            raise ValueError("queue_bytes needs rate_bps: a line without a rate has no queue")


def _check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value}; takes a probability from 0 to 1")


class Direction:
    """One direction, without a clock or a descriptor of its own.

    Attributes:
        counts: frames `taken`, `delivered`, `lost`, `dropped_queue_full`, `reordered`, `duplicated`.
    """

    def __init__(self, impairments: Impairments, seed: int, name: str) -> None:
        self.impairments = impairments
        self.counts = dict.fromkeys(
            ("taken", "delivered", "lost", "dropped_queue_full", "reordered", "duplicated"), 0
        )
        self._random = random.Random(f"{seed} {name}").random
        self._is_bad = False
        self._numbered = 0
        self._line_free_at = 0
        self._pushed = 0
        self._waiting: list[tuple[int, int, bytes]] = []

    def take(self, frame: bytes, now_ns: int) -> None:
        """A frame enters at `now_ns`."""
        counts, what = self.counts, self.impairments
        counts["taken"] += 1
        if what.spares_arp and frame[12:14] == _ARP:
            self._push(now_ns + what.delay_us * 1000, frame)
            return
        self._numbered += 1
        # All draws are made for every frame: the fate of one does not depend on what became of others.
        chance = self._random
        lost, reordered, duplicated = chance(), chance(), chance()
        if self._is_lost(lost):
            counts["lost"] += 1
            return
        when = now_ns
        if what.rate_bps:
            begin = max(now_ns, self._line_free_at)
            waiting = (begin - now_ns) * what.rate_bps // (8 * _SECOND_NS)
            if what.queue_bytes and waiting and waiting + len(frame) > what.queue_bytes:
                counts["dropped_queue_full"] += 1
                return
            when = self._line_free_at = begin + len(frame) * 8 * _SECOND_NS // what.rate_bps
        when += what.delay_us * 1000
        if reordered < what.reorder:
            counts["reordered"] += 1
            when += what.reorder_us * 1000
        self._push(when, frame)
        if duplicated < what.duplicate:
            counts["duplicated"] += 1
            self._push(when, frame)

    def due(self, now_ns: int) -> list[bytes]:
        """The frames that have arrived by `now_ns`, in the order of their arrival."""
        waiting = self._waiting
        arrived = []
        while waiting and waiting[0][0] <= now_ns:
            arrived.append(heapq.heappop(waiting)[2])
        self.counts["delivered"] += len(arrived)
        return arrived

    def next_at(self) -> int | None:
        """When the next frame arrives; None when none is under way."""
        return self._waiting[0][0] if self._waiting else None

    def _push(self, when: int, frame: bytes) -> None:
        self._pushed += 1  # keeps frames of one instant in their order
        heapq.heappush(self._waiting, (when, self._pushed, frame))

    def _is_lost(self, chance: float) -> bool:
        what = self.impairments
        limit = what.loss
        if what.burst is not None:
            turns_bad, turns_good, loss_while_bad = what.burst
            self._is_bad = self._random() >= turns_good if self._is_bad else self._random() < turns_bad
            if self._is_bad:
                limit = loss_while_bad
        if what.drop_every and self._numbered % what.drop_every == 0:
            return True
        return chance < limit


def run_wire(
    left: int, right: int, directions: tuple[Direction, Direction], should_stop: Callable[[], bool]
) -> None:
    """Carry frames between two non-blocking descriptors until `should_stop()`.

    It is asked after every wake-up; a signal's handler or a deadline may set what it looks at.

    Args:
        directions: left to right, right to left.

    Raises:
        OSError: a descriptor is gone.
    """
    forth, back = directions
    clock = time.monotonic_ns
    ways = ((left, right, forth), (right, left, back))
    readable: Sequence[int] = (left, right)
    while not should_stop():
        for source, _, direction in ways:
            if source in readable:
                for frame in _read(source):
                    direction.take(frame, clock())
        now = clock()
        next_at: int | None = None
        for _, target, direction in ways:
            for frame in direction.due(now):
                # A full queue behind the wire loses the frame, as any network does.
                with contextlib.suppress(BlockingIOError):
                    os.write(target, frame)
            at = direction.next_at()
            if at is not None and (next_at is None or at < next_at):
                next_at = at
        # select(2) sleeps to the microsecond; epoll_wait(2) would round to the millisecond.
        pause = 0.2 if next_at is None else max(0.0, min(0.2, (next_at - clock()) / _SECOND_NS))
        readable = select.select((left, right), (), (), pause)[0]


def _read(descriptor: int) -> list[bytes]:
    frames: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        for _ in range(_BATCH):
            frame = os.read(descriptor, _MAX_FRAME)
            if not frame:
                raise BrokenPipeError(f"descriptor {descriptor} has ended")
            frames.append(frame)
    return frames


def frame_pipe(place: Place) -> tuple[socket.socket, socket.socket]:
    """Two ends between which frames stay whole and 10,000 may wait, for a stack that is not the kernel's.

    Args:
        place: a namespace of the caller's own: how many messages a Unix socket queues is a setting of its
            namespace, and is changed there for sockets made later. None leaves it at what it is here.
    """

    def make() -> tuple[socket.socket, socket.socket]:
        if place is not None:
            with open("/proc/sys/net/unix/max_dgram_qlen", "w") as setting:
                setting.write(str(_PIPE_FRAMES))
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    ends = inside(place, make)
    for end in ends:
        end.setblocking(False)
        # Counted with what the kernel adds to each message; "force" is for root and passes the usual limit.
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _PIPE_FRAMES * 2304)
    return ends


_SO_SNDBUFFORCE: Final = 32  # asm-generic/socket.h


class Wire:
    """A wire in a process of its own between two descriptors, which stay the caller's.

    A context manager: the wire is cut on the way out. Frames left over from an earlier wire are thrown away.

    Args:
        left, right: descriptors of TAPs without virtio header, or ends of a `frame_pipe`.
        forth, back: what happens from left to right, and back.
        seed: of all that is random.

    Attributes:
        counts: after `close`, for `forth` and `back` what `Direction.counts` says; None before.
    """

    def __init__(
        self, left: int, right: int, forth: Impairments, back: Impairments | None = None, *, seed: int = 0
    ) -> None:
        self.counts: dict[str, dict[str, int]] | None = None
        for descriptor in (left, right):
            while _read(descriptor):
                pass
        spec = {"forth": asdict(forth), "back": asdict(back or Impairments()), "seed": seed}
        argv = [sys.executable, "-m", "netns.wire", str(left), str(right), json.dumps(spec)]
        self._process = subprocess.Popen(
            argv, pass_fds=(left, right), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self._process.wait()
            raise OSError("the wire did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut the wire. Safe to call again."""
        process = self._process
        if process.stdout is None or process.stdout.closed:
            return
        process.terminate()
        try:
            out, _ = process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        if out:
            self.counts = json.loads(out)


class _Stop:
    """Whether SIGTERM or SIGINT has come; with a parent, also whether that is gone."""

    def __init__(self, parent: int | None) -> None:
        self.has_come = False
        self._parent = parent

    def __call__(self) -> bool:
        return self.has_come or (self._parent is not None and os.getppid() != self._parent)

    def on_signal(self, *_: object) -> None:
        self.has_come = True


def carry(
    left: int, right: int, forth: Impairments, back: Impairments, seed: int, *, parent: int | None = None
) -> dict[str, Any]:
    """Carry frames in this process until SIGTERM or SIGINT; gives the counts of both directions.

    Prints `ready` once it carries. Runs ahead of other processes where the system lets it: a wire that waits
    for its turn is a wire with jitter.

    Args:
        parent: stop as well when this process is no longer our parent.
    """
    stop = _Stop(parent)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop.on_signal)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    directions = Direction(forth, seed, "forth"), Direction(back, seed, "back")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    run_wire(left, right, directions, stop)
    return {"forth": directions[0].counts, "back": directions[1].counts}


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m netns.wire", description="The process behind `Wire`.")
    parser.add_argument("left", type=int)
    parser.add_argument("right", type=int)
    parser.add_argument("spec", type=json.loads)
    options = parser.parse_args(argv)
    ways = []
    for way in ("forth", "back"):
        fields = options.spec[way]
        fields["burst"] = tuple(fields["burst"]) if fields["burst"] else None
        ways.append(Impairments(**fields))
    seed = options.spec["seed"]
    counts = carry(options.left, options.right, ways[0], ways[1], seed, parent=os.getppid())
    sys.stdout.write(json.dumps(counts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
