"""How long a lone frame waits in a TPACKET_V3 receive ring, beside a plain read of the packet socket.

    .venv/bin/python -m tests.bench.trials.packet_ring [--frames 500]

Frames go one by one over a veth pair in a namespace of the trial's own. The ring hands over a block when it is
full or when its timer ends (PACKET_RX_RING with tp_retire_blk_tov, in milliseconds, 1 at least); a lone frame fills
none. Told is the median time from send(2) to the frame in our hands, in microseconds, waiting by poll(2) both times.
"""

from __future__ import annotations

import argparse
import mmap
import os
import select
import socket
import statistics
import struct
import time
from typing import TYPE_CHECKING, Final

from netns.inside import inside
from netns.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Callable

_SOL_PACKET: Final = 263
_RX_RING: Final = 5
_VERSION: Final = 10
_TPACKET_V3: Final = 2
_ETH_P_ALL: Final = 3
_BLOCK: Final = 1 << 18
_BLOCKS: Final = 8
_STATUS: Final = 8
"""Offset of block_status in struct tpacket_block_desc; the number of frames follows."""

_FRAME: Final = b"\xff" * 6 + b"\x02\0\0\0\0\1" + b"\x88\xb5" + bytes(60)


def _socket(link: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    sock.bind((link, _ETH_P_ALL))
    return sock


def _with_ring(link: str, timeout_ms: int) -> tuple[socket.socket, mmap.mmap]:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    sock.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
    request = struct.pack("=7I", _BLOCK, _BLOCKS, 2048, _BLOCK * _BLOCKS // 2048, timeout_ms, 0, 0)
    sock.setsockopt(_SOL_PACKET, _RX_RING, request)
    ring = mmap.mmap(sock.fileno(), _BLOCK * _BLOCKS, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    sock.bind((link, _ETH_P_ALL))
    return sock, ring


def _median_us(sender: socket.socket, receive: Callable[[], int], frames: int) -> float:
    taken = []
    for _ in range(frames):
        time.sleep(0.0005)
        began = time.perf_counter()
        sender.send(_FRAME)
        while receive() == 0:
            pass
        taken.append(time.perf_counter() - began)
    return 1e6 * statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=500)
    options = parser.parse_args()
    kernel = Kernel()
    descriptor = kernel.create_unnamed_namespace()
    place = f"/proc/self/fd/{descriptor}"
    try:
        kernel.create_veth(place, "ring0", place, "ring1")
        for name in ("ring0", "ring1"):
            kernel.silence_ipv6(place, name)
            kernel.set_link(place, name, up=True)
        sender = inside(place, lambda: _socket("ring0"))
        plain = inside(place, lambda: _socket("ring1"))
        poll = select.poll()
        poll.register(plain, select.POLLIN)

        def read() -> int:
            poll.poll(1000)
            return len(plain.recv(2048))

        print(f"read(2):                  {_median_us(sender, read, options.frames):8.1f} us a lone frame")
        plain.close()
        for timeout_ms in (1, 4):
            ringed, ring = inside(place, lambda wait=timeout_ms: _with_ring("ring1", wait))
            ring_poll = select.poll()
            ring_poll.register(ringed, select.POLLIN)
            block = 0

            def take(ring: mmap.mmap = ring, ring_poll: select.poll = ring_poll) -> int:
                nonlocal block
                at = block * _BLOCK + _STATUS
                status, count = struct.unpack_from("=II", ring, at)
                if not status & 1:
                    ring_poll.poll(1000)
                    return 0
                struct.pack_into("=I", ring, at, 0)
                block = (block + 1) % _BLOCKS
                return int(count)

            waited = _median_us(sender, take, options.frames)
            print(f"TPACKET_V3, timer {timeout_ms} ms:    {waited:8.1f} us a lone frame")
            ringed.close()
        sender.close()
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
