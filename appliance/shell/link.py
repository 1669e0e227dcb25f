"""Links: where frames come from and go to.

A link moves whole frames in batches and knows nothing of what is in them. The pump asks it to wait once,
then to read until nothing is left, and hands over all output of a batch at once, so a link is free to use
whatever the kernel offers for batches (a ring of AF_PACKET or AF_XDP) behind the same four methods.

Invariants: `read_batch` and `write_batch` never block and never await.
Errors:     `HostError`, one line, when the device is gone for good. Anything passing (queue full, link
            down) is a dropped frame and is counted, as on any network: TCP repeats it.
Units:      a frame is `virtio_net_hdr + Ethernet` when `vnet_header`, else bare Ethernet.
"""

from __future__ import annotations

import errno
import os
import select
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio
from mypy_extensions import mypyc_attr

from appliance.errors import HostError
from appliance.shell.waiting import Waiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from appliance.stack.interface import Frame

__all__ = ["Link", "MemoryLink", "TapLink", "memory_link_pair"]

_MAX_FRAME: Final = 10 + 14 + 65_535
"""virtio_net_hdr, Ethernet header, the largest IPv4 packet: what GSO may hand over in one read."""

_SELECT_LIMIT: Final = 1024
"""FD_SETSIZE: select(2) takes no descriptor from here on."""

_GONE: Final = frozenset({errno.ENODEV, errno.ENXIO, errno.EBADF, errno.EBADFD, errno.EFAULT})
"""What a TAP says once its device or namespace is removed: drivers/net/tun.c answers EBADFD when detached
and EFAULT to a read after shutdown."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Link(ABC):
    """One end of a wire."""

    def __init__(self, *, vnet_header: bool, mtu: int, gathers: bool = False) -> None:
        self.vnet_header = vnet_header
        self.gathers = gathers
        """Whether a frame may come in parts, to be gathered by the device."""
        self.mtu = mtu
        self.frames_dropped = 0
        """Frames given to `write_batch` that the device did not take."""

    @abstractmethod
    def wait_readable(self) -> Awaitable[None]:
        """Await it: returns when `read_batch` may give something; a checkpoint, always."""

    def nap(self, wait_us: int) -> bool:
        """Wait in the thread, without trio, up to that long; whether `read_batch` may give something."""
        return False

    def spin(self, wait_us: int) -> bool:
        """The same without sleeping: ask again and again."""
        return False

    @abstractmethod
    def read_batch(self, limit: int) -> list[bytes]:
        """Up to `limit` frames that have arrived; empty when there are none."""

    @abstractmethod
    def write_batch(self, frames: list[Frame]) -> None:
        """Send frames in order; what the device refuses is dropped and counted.

        A frame in parts (a list) comes only to a link that `gathers`.
        """

    @abstractmethod
    def close(self) -> None:
        """Close; idempotent."""


@mypyc_attr(allow_interpreted_subclasses=True)
class TapLink(Link):
    """Frames through a non-blocking file descriptor that keeps their boundaries, as a TAP does.

    Args:
        fd: Non-blocking; owned by the link from here on, unless `owns_fd` is False.
        name: Of the device, for error texts.
    """

    def __init__(
        self, fd: int, *, name: str, mtu: int, vnet_header: bool = True, owns_fd: bool = True
    ) -> None:
        super().__init__(vnet_header=vnet_header, mtu=mtu, gathers=True)
        os.set_blocking(fd, False)
        self._fd = fd
        self._owns_fd = owns_fd
        self.name = name

    def wait_readable(self) -> Awaitable[None]:
        return trio.lowlevel.wait_readable(self._fd)  # noqa: ASYNC105 - the caller awaits it

    def nap(self, wait_us: int) -> bool:
        if self._fd >= _SELECT_LIMIT:
            return False  # poll(2) could, but counts in milliseconds: longer than a nap
        try:
            return len(select.select([self._fd], (), (), wait_us / 1_000_000)[0]) > 0
        except (OSError, ValueError):
            return True  # closed, or gone: reading tells

    def spin(self, wait_us: int) -> bool:
        ends = time.perf_counter() + wait_us / 1_000_000
        while not self.nap(0):
            if time.perf_counter() >= ends:
                return False
        return True

    def read_batch(self, limit: int) -> list[bytes]:
        frames: list[bytes] = []
        append = frames.append
        read = os.read
        fd = self._fd
        try:
            for _ in range(limit):
                append(read(fd, _MAX_FRAME))
        except BlockingIOError:
            return frames
        except OSError as error:
            # What came before is still delivered: the next read reports the error again.
            if frames:
                return frames
            raise self._gone("reading", error) from error
        if frames and not frames[-1]:
            raise self._gone("reading", OSError(errno.ENODEV, os.strerror(errno.ENODEV)))
        return frames

    def write_batch(self, frames: list[Frame]) -> None:
        write = os.write
        fd = self._fd
        for frame in frames:
            try:
                if isinstance(frame, bytes):
                    write(fd, frame)
                else:
                    os.writev(fd, frame)
            except OSError as error:
                # EAGAIN, ENOBUFS: its queue is full. EIO: the link is down, and may come up again.
                if error.errno in _GONE:
                    raise self._gone("writing", error) from error
                self.frames_dropped += 1

    def close(self) -> None:
        if self._fd >= 0 and self._owns_fd:
            # Outside trio.run nobody can be waiting on it, and there is nobody to tell.
            with suppress(RuntimeError):
                trio.lowlevel.notify_closing(self._fd)
            os.close(self._fd)
        self._fd = -1

    def _gone(self, doing: str, error: OSError) -> HostError:
        return HostError(
            f"the network device {self.name} is gone: {doing} gave {os.strerror(error.errno or 0)}"
        )


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryLink(Link):
    """One end of a wire in memory; `memory_link_pair` makes both.

    `on_write` sees each frame before the wire does and returns what goes on it: `[frame]`, `[]` to lose it,
    twice the same to duplicate it, an altered one to corrupt it.
    """

    def __init__(self, *, vnet_header: bool, mtu: int, capacity: int) -> None:
        super().__init__(vnet_header=vnet_header, mtu=mtu)
        self._inbox: deque[bytes] = deque()
        self._readable = Waiter()
        self._peer: MemoryLink | None = None
        self._is_closed = False
        self.capacity = capacity
        self.on_write: Callable[[bytes], list[bytes]] | None = None

    def wait_readable(self) -> Awaitable[None]:
        if self._inbox or self._is_closed:
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - the caller awaits it
        return self._readable.wait()

    def read_batch(self, limit: int) -> list[bytes]:
        if self._is_closed:
            raise HostError("the network device memory is gone: it was closed")
        inbox = self._inbox
        return [inbox.popleft() for _ in range(min(limit, len(inbox)))]

    def write_batch(self, frames: list[Frame]) -> None:
        if self._is_closed:
            raise HostError("the network device memory is gone: it was closed")
        peer = self._peer
        if peer is None or peer._is_closed:
            self.frames_dropped += len(frames)
            return
        for frame in frames:
            assert isinstance(frame, bytes)
            for passed in (frame,) if self.on_write is None else self.on_write(frame):
                if len(peer._inbox) >= peer.capacity:
                    self.frames_dropped += 1
                else:
                    peer._inbox.append(passed)
        if peer._inbox:
            peer._readable.wake()

    def close(self) -> None:
        self._is_closed = True
        self._inbox.clear()
        self._readable.wake()


def memory_link_pair(
    *, mtu: int = 1500, vnet_header: bool = True, capacity: int = 4096
) -> tuple[MemoryLink, MemoryLink]:
    """Two links joined by a wire without delay; it holds `capacity` frames each way and drops more."""
    a = MemoryLink(vnet_header=vnet_header, mtu=mtu, capacity=capacity)
    b = MemoryLink(vnet_header=vnet_header, mtu=mtu, capacity=capacity)
    a._peer, b._peer = b, a
    return a, b
