"""What a frame costs on a TAP by each way that the kernel offers to read and write it: nanoseconds, best of rounds.

    python -m tests.bench.trials.tap_calls [--rounds 7]

Frames are small ones of an Ethernet type that nobody has, so the kernel drops what is written at once and all
that is seen is the way through the call and tun. io_uring is driven through its rings as memory, the entries
are made once, and only tails move and `io_uring_enter` is called: what a binding costs per entry is told
apart. Needs root; makes a namespace of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import re
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from netns.build import build
from netns.inside import inside
from netns.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 64
FRAME = b"\0" * 10 + b"\xff" * 6 + b"\x02\x52\0\0\0\x11" + b"\x88\xb5" + b"x" * 60
MAX_FRAME = 10 + 14 + 65_535

# linux/io_uring.h
SETUP, ENTER = 425, 426  # x86-64, and arm64 too
IORING_OFF_SQ_RING, IORING_OFF_SQES = 0, 0x10000000
IORING_SETUP_SQPOLL, IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_DEFER_TASKRUN = 1 << 1, 1 << 12, 1 << 13
IORING_ENTER_GETEVENTS, IORING_ENTER_SQ_WAKEUP = 1, 2
IORING_SQ_NEED_WAKEUP = 1
IORING_OP_READ, IORING_OP_WRITE = 22, 23

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall


class Ring:
    """An io_uring whose submission entries are laid out once and used again and again."""

    def __init__(self, entries: int, flags: int) -> None:
        params = bytearray(120)
        struct.pack_into("<IIII", params, 0, 0, 0, flags, 0)
        if flags & IORING_SETUP_SQPOLL:
            struct.pack_into("<I", params, 16, 1000)  # sq_thread_idle, ms
        holder = (ctypes.c_char * 120).from_buffer(params)
        self.fd = _syscall(SETUP, entries, holder)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.entries = entries
        sq = struct.unpack_from("<IIIIIII", params, 40)  # head tail mask entries flags dropped array
        cq = struct.unpack_from("<IIIIII", params, 80)  # head tail mask entries overflow cqes
        size = max(sq[6] + entries * 4, cq[5] + cq[3] * 16)
        shared = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._rings = mmap.mmap(self.fd, size, shared, offset=IORING_OFF_SQ_RING)
        self.sqes = mmap.mmap(self.fd, entries * 64, shared, offset=IORING_OFF_SQES)
        words = memoryview(self._rings).cast("I")
        for number in range(entries):
            words[sq[6] // 4 + number] = number
        self.words = words
        self.sq_tail, self.sq_flags = sq[1] // 4, sq[4] // 4
        self.cq_head, self.cq_tail = cq[0] // 4, cq[1] // 4

    def entry(self, number: int, op: int, fd: int, address: int, length: int) -> None:
        struct.pack_into(
            "<BBHiQQIIQ", self.sqes, number * 64, op, 0, 0, fd, (1 << 64) - 1, address, length, 0, number
        )

    def run(self, count: int, enters: bool = True) -> None:
        """Let the next `count` entries be done and take their completions."""
        words = self.words
        words[self.sq_tail] = (words[self.sq_tail] + count) & 0xFFFF_FFFF
        done = (words[self.cq_head] + count) & 0xFFFF_FFFF
        if enters:
            _syscall(ENTER, self.fd, count, count, IORING_ENTER_GETEVENTS, None, 0)
        elif words[self.sq_flags] & IORING_SQ_NEED_WAKEUP:
            _syscall(ENTER, self.fd, 0, 0, IORING_ENTER_SQ_WAKEUP, None, 0)
        while words[self.cq_tail] != done:
            pass
        words[self.cq_head] = done


def best(rounds: int, prepare: Callable[[], None], action: Callable[[], Any], frames: int) -> float:
    """Nanoseconds a frame in the quickest of `rounds` times 50."""
    least = 1e18
    for _ in range(rounds * 50):
        prepare()
        begin = time.perf_counter_ns()
        action()
        least = min(least, (time.perf_counter_ns() - begin) / frames)
    return least


def measure(fd: int, fill: Callable[[], None], rounds: int) -> None:
    memory = bytearray(BATCH * 2048)
    base = ctypes.addressof((ctypes.c_char * len(memory)).from_buffer(memory))
    view = memoryview(memory)

    def nothing() -> None:
        pass

    def show(what: str, ns: float) -> None:
        print(f"{what:72}{ns:8.0f} ns a frame", flush=True)

    def plain_writes() -> None:
        write = os.write
        for _ in range(BATCH):
            write(fd, FRAME)

    def gathered_writes() -> None:
        writev, parts = os.writev, [FRAME[:76], FRAME[76:]]
        for _ in range(BATCH):
            writev(fd, parts)

    def system_calls() -> None:
        call = os.getppid
        for _ in range(BATCH):
            call()

    show("a system call that does nothing (getppid)", best(rounds, nothing, system_calls, BATCH))
    show("write: os.write", best(rounds, nothing, plain_writes, BATCH))
    show("write: os.writev of two parts", best(rounds, nothing, gathered_writes, BATCH))
    for number in range(BATCH):
        start = number * 2048
        memory[start : start + len(FRAME)] = FRAME
    flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
    for batch in (1, 4, 16, BATCH):
        ring = Ring(batch, flags)
        for number in range(batch):
            ring.entry(number, IORING_OP_WRITE, fd, base + number * 2048, len(FRAME))
        rings = [ring] * (BATCH // batch)
        show(
            f"write: io_uring, {batch} a call",
            best(rounds, nothing, lambda rings=rings, batch=batch: [one.run(batch) for one in rings], BATCH),
        )
    ring = Ring(BATCH, IORING_SETUP_SQPOLL)
    for number in range(BATCH):
        ring.entry(number, IORING_OP_WRITE, fd, base + number * 2048, len(FRAME))
    show(
        "write: io_uring with a kernel thread on another core (SQPOLL), until done",
        best(rounds, nothing, lambda: ring.run(BATCH, enters=False), BATCH),
    )

    def plain_reads() -> None:
        read = os.read
        for _ in range(BATCH):
            read(fd, MAX_FRAME)

    def short_reads() -> None:
        read = os.read
        for _ in range(BATCH):
            read(fd, 2048)

    def reads_into() -> None:
        readv, parts = os.readv, [view[:2048]]
        for _ in range(BATCH):
            bytes(view[: readv(fd, parts)])

    def failing_reads() -> None:
        read = os.read
        for _ in range(BATCH):
            try:
                read(fd, MAX_FRAME)
            except BlockingIOError:
                pass

    def empty_selects() -> None:
        for _ in range(BATCH):
            select.select([fd], (), (), 0)

    def ring_reads(ring: Ring, batch: int) -> None:
        for _ in range(BATCH // batch):
            ring.run(batch)
            for number in range(batch):
                bytes(view[number * 2048 : number * 2048 + len(FRAME)])

    show("read: os.read of up to 64 KiB", best(rounds, fill, plain_reads, BATCH))
    show("read: os.read of up to 2 KiB", best(rounds, fill, short_reads, BATCH))
    show("read: os.readv into one buffer, copied out", best(rounds, fill, reads_into, BATCH))
    for batch in (1, 4, 16, BATCH):
        ring = Ring(batch, flags)
        for number in range(batch):
            ring.entry(number, IORING_OP_READ, fd, base + number * 2048, 2048)
        show(
            f"read: io_uring, {batch} a call, copied out",
            best(rounds, fill, lambda ring=ring, batch=batch: ring_reads(ring, batch), BATCH),
        )
    show("read: that finds nothing (an exception)", best(rounds, nothing, failing_reads, BATCH))
    show("select: that finds nothing", best(rounds, nothing, empty_selects, BATCH))
    show_binding(show, rounds, fd)


def show_binding(show: Callable[[str, float], None], rounds: int, fd: int) -> None:
    """What the package `liburing` asks for an entry, the call apart."""
    try:
        import liburing
    except ImportError:
        print("liburing is not installed: pip install liburing")
        return
    ring = liburing.Ring()
    liburing.io_uring_queue_init(BATCH, ring)

    def writes() -> None:
        get, prepare = liburing.io_uring_get_sqe, liburing.io_uring_prep_write
        for _ in range(BATCH):
            sqe = get(ring)
            prepare(sqe, fd, FRAME)
        liburing.io_uring_submit_and_wait(ring, BATCH)
        liburing.io_uring_cq_advance(ring, BATCH)

    show(f"write: io_uring through liburing, {BATCH} a call", best(rounds, lambda: None, writes, BATCH))
    liburing.io_uring_queue_exit(ring)


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    place = f"tapcalls-{os.getpid()}"
    with build(Topology(place, "calls0", "10.75.0.1/24")) as built:
        os.set_blocking(built.tap.fd, False)
        sender = inside(place, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        sender.bind(("calls0", 0))
        fd = built.tap.fd

        def fill() -> None:
            try:
                while True:
                    os.read(fd, MAX_FRAME)
            except BlockingIOError:
                pass
            for _ in range(BATCH):
                sender.send(FRAME[10:])

        measure(fd, fill, options.rounds)
        sender.close()


if __name__ == "__main__":
    main()
