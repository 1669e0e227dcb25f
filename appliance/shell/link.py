"""Links: where frames come from and go to.

A link moves whole frames in batches and knows nothing of what is in them. The pump asks it to wait once,
then to read until nothing is left, and hands over all output of a batch at once, so a link is free to use
whatever the kernel offers for batches (the rings of AF_XDP) behind the same few methods. What a link can
take off the stack's hands it says in `vnet_header`, `gso` and `gathers`; nobody above asks for its kind.

    TapLink     a TAP, or anything else that gives and takes one frame per read and write
    PacketLink  an AF_PACKET socket on a link of the kernel's
    TunLink     a TUN: IP packets, behind an Ethernet header that never leaves the process
    XdpLink     rings of AF_XDP (xdp_link.py)
    MemoryLink  a wire in memory, for tests

Invariants: `read_batch` and `write_batch` never block and never await.
Errors:     `HostError`, one line, when the device is gone for good. Anything passing (queue full, link
            down) is a dropped frame and is counted, as on any network: TCP repeats it.
Units:      a frame is `virtio_net_hdr + Ethernet` when `vnet_header`, else bare Ethernet.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
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
    import socket
    from collections.abc import Awaitable, Callable

    from appliance.stack.interface import Frame

__all__ = ["DescriptorLink", "Link", "MemoryLink", "PacketLink", "TapLink", "TunLink", "memory_link_pair"]

_MAX_PACKET: Final = 65_535
_MAX_FRAME: Final = 10 + 14 + _MAX_PACKET
"""virtio_net_hdr, Ethernet header, the largest IPv4 packet: what GSO may hand over in one read."""

_SELECT_LIMIT: Final = 1024
"""FD_SETSIZE: select(2) takes no descriptor from here on."""

_VNET_HEADER: Final = 10
_ETHERTYPE_IPV4: Final = b"\x08\x00"
_ETHERTYPE_IPV6: Final = b"\x86\xdd"

_SOL_PACKET: Final = 263  # linux/if_packet.h
_PACKET_STATISTICS: Final = 6
_SIOCGIFINDEX: Final = 0x8933  # linux/sockios.h
_IFREQ_BYTES: Final = 40

_GONE: Final = frozenset({errno.ENODEV, errno.ENXIO, errno.EBADF, errno.EBADFD, errno.EFAULT})
"""What a TAP says once its device or namespace is removed: drivers/net/tun.c answers EBADFD when detached
and EFAULT to a read after shutdown."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Link(ABC):
    """One end of a wire."""

    def __init__(self, *, vnet_header: bool, mtu: int, gathers: bool = False, gso: bool = False) -> None:
        self.vnet_header = vnet_header
        """Whether virtio_net_hdr stands before each frame, both ways: checksums may be left partial."""
        self.gso = gso and vnet_header
        """Whether a segment may be larger than the MTU, for the device to cut."""
        self.gathers = gathers
        """Whether a frame may come in parts, to be gathered by the device."""
        self.mtu = mtu
        self.frames_dropped = 0
        """Frames given to `write_batch` that the device did not take."""
        self.beside: Link | None = None
        """Another way in, for the few frames that do not come by this one; nothing is written to it."""

    def counters(self) -> dict[str, int]:
        """What the link has counted itself, and what the kernel has for it; for people."""
        return {"frames_dropped": self.frames_dropped}

    def fileno(self) -> int:
        """A descriptor that is readable when `read_batch` may give something; -1 when there is none."""
        return -1

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
class DescriptorLink(Link):
    """A link with a descriptor to wait on.

    Args:
        fd: Non-blocking; owned by the link from here on, unless `owns_fd` is False.
        name: Of the device, for error texts.
    """

    def __init__(
        self, fd: int, *, name: str, mtu: int, vnet_header: bool, gathers: bool, gso: bool, owns_fd: bool
    ) -> None:
        super().__init__(vnet_header=vnet_header, mtu=mtu, gathers=gathers, gso=gso)
        os.set_blocking(fd, False)
        self._fd = fd
        self._owns_fd = owns_fd
        self.name = name

    def fileno(self) -> int:
        return self._fd

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
class TapLink(DescriptorLink):
    """Frames through a non-blocking file descriptor that keeps their boundaries, as a TAP does."""

    def __init__(
        self,
        fd: int,
        *,
        name: str,
        mtu: int,
        vnet_header: bool = True,
        gso: bool = True,
        owns_fd: bool = True,
    ) -> None:
        super().__init__(
            fd, name=name, mtu=mtu, vnet_header=vnet_header, gathers=True, gso=gso, owns_fd=owns_fd
        )

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
            if not frames:
                self._read_failed(error)
            return frames
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
                self._write_failed(error)

    def _read_failed(self, error: OSError) -> None:
        """Raise what a failed read means, or return when it means nothing yet."""
        raise self._gone("reading", error) from error

    def _write_failed(self, error: OSError) -> None:
        # EAGAIN, ENOBUFS: its queue is full. EIO: the link is down, and may come up again.
        if error.errno in _GONE:
            raise self._gone("writing", error) from error
        self.frames_dropped += 1


@mypyc_attr(allow_interpreted_subclasses=True)
class PacketLink(TapLink):
    """An AF_PACKET socket with PACKET_VNET_HDR, bound to one link of the kernel's.

    Frames cost a system call each, as on a TAP, and look the same. A link that is down is a wire cut, not
    the end: only when it has been removed is it gone.
    """

    def __init__(self, packet_socket: socket.socket, *, name: str, mtu: int) -> None:
        super().__init__(packet_socket.fileno(), name=name, mtu=mtu, owns_fd=False)
        self._socket = packet_socket
        self._kernel_drops = 0

    def counters(self) -> dict[str, int]:
        if self._fd >= 0:
            # struct tpacket_stats: packets, drops since the last time it was asked.
            statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
            self._kernel_drops += int.from_bytes(statistics[4:8], sys.byteorder)
        return {"frames_dropped": self.frames_dropped, "frames_dropped_by_kernel": self._kernel_drops}

    def _read_failed(self, error: OSError) -> None:
        if error.errno != errno.ENETDOWN or not self._is_there():
            raise self._gone("reading", error) from error

    def _is_there(self) -> bool:
        try:
            request = self.name.encode().ljust(_IFREQ_BYTES, b"\0")
            fcntl.ioctl(self._fd, _SIOCGIFINDEX, request)
        except OSError:
            return False
        return True


_TUN_START: Final = _VNET_HEADER + 14
"""Where the packet is in a frame."""

_TUN_ETHERTYPE: Final = slice(_TUN_START - 2, _TUN_START)

_TUN_HEADS: Final = 1024
"""Virtio headers remembered; with a thousand sizes of segment there are not many more."""


@mypyc_attr(allow_interpreted_subclasses=True)
class TunLink(TapLink):
    """A TUN: IP packets without Ethernet.

    The stack's frames have an Ethernet header; here it is put before each packet that comes and taken off
    each frame that goes. Nobody on such a link asks for a MAC address: the stack is told the peer's. What
    comes and is not IPv4 is the stack's to turn away and to count, as on every link.

    Args:
        mac, peer_mac: of the stack and of whoever is at the other end; any two.
    """

    def __init__(
        self, fd: int, *, name: str, mtu: int, mac: bytes, peer_mac: bytes, owns_fd: bool = True
    ) -> None:
        super().__init__(fd, name=name, mtu=mtu, owns_fd=owns_fd)
        self._ethernet = mac + peer_mac + _ETHERTYPE_IPV4
        # virtio_net_hdr, the Ethernet header that is always the same, the packet.
        self._buffer = bytearray(_VNET_HEADER) + self._ethernet + bytes(_MAX_PACKET)
        self._whole = memoryview(self._buffer)
        self._parts = [self._whole[:_VNET_HEADER], self._whole[_TUN_START:]]
        self._heads_in: dict[bytes, bytes] = {}
        self._heads_out: dict[bytes, bytes] = {}

    def read_batch(self, limit: int) -> list[bytes]:
        """As a TAP's; the packet is read behind the header that it lacks, and the whole is copied once."""
        frames: list[bytes] = []
        buffer = self._buffer
        whole = self._whole
        parts = self._parts
        readv = os.readv
        fd = self._fd
        try:
            for _ in range(limit):
                count = readv(fd, parts)
                if count == 0:
                    if not frames:
                        raise self._gone("reading", OSError(errno.ENODEV, os.strerror(errno.ENODEV)))
                    break
                if buffer[0] or buffer[1]:
                    self._move_head()
                if buffer[_TUN_START] >> 4 == 6 and count > _VNET_HEADER:
                    frames.append(self._as_ipv6(count))
                    continue
                frames.append(whole[: count + _TUN_START - _VNET_HEADER].tobytes())
        except BlockingIOError:
            return frames
        except OSError as error:
            if not frames:
                self._read_failed(error)
        return frames

    def _as_ipv6(self, count: int) -> bytes:
        """The frame in the buffer with the Ethernet type of what it carries."""
        buffer = self._buffer
        buffer[_TUN_ETHERTYPE] = _ETHERTYPE_IPV6
        frame = self._whole[: count + _TUN_START - _VNET_HEADER].tobytes()
        buffer[_TUN_ETHERTYPE] = _ETHERTYPE_IPV4
        return frame

    def _move_head(self) -> None:
        """Let the virtio header in the buffer count from the Ethernet header."""
        heads = self._heads_in
        found = bytes(self._buffer[:_VNET_HEADER])
        head = heads.get(found)
        if head is None:
            head = _moved(found, _TUN_START - _VNET_HEADER)
            _remember(heads, found, head)
        self._buffer[:_VNET_HEADER] = head

    def write_batch(self, frames: list[Frame]) -> None:
        heads = self._heads_out
        start = _VNET_HEADER + len(self._ethernet)
        packets: list[Frame] = []
        for frame in frames:
            first = frame if isinstance(frame, bytes) else bytes(frame[0])
            if first[start - 2 : start] != _ETHERTYPE_IPV4:
                continue  # ARP, which has nobody to hear it
            found = first[:_VNET_HEADER]
            head = heads.get(found)
            if head is None:
                head = _moved(found, -len(self._ethernet))
                _remember(heads, found, head)
            parts: list[bytes | memoryview] = [head, memoryview(first)[start:]]
            if not isinstance(frame, bytes):
                parts += frame[1:]
            packets.append(parts)
        super().write_batch(packets)


def _moved(head: bytes, distance: int) -> bytes:
    """A virtio-net header for a packet that starts so many bytes later."""
    if not head[0] and not head[1]:
        return head
    header_length = int.from_bytes(head[2:4], "little")
    start = int.from_bytes(head[6:8], "little")
    return (
        head[:2]
        + max(header_length + distance, 0).to_bytes(2, "little")
        + head[4:6]
        + max(start + distance, 0).to_bytes(2, "little")
        + head[8:]
    )


def _remember(heads: dict[bytes, bytes], found: bytes, head: bytes) -> None:
    if len(heads) >= _TUN_HEADS:
        heads.clear()
    heads[found] = head


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryLink(Link):
    """One end of a wire in memory; `memory_link_pair` makes both.

    `on_write` sees each frame before the wire does and returns what goes on it: `[frame]`, `[]` to lose it,
    twice the same to duplicate it, an altered one to corrupt it.
    """

    def __init__(self, *, vnet_header: bool, mtu: int, capacity: int) -> None:
        super().__init__(vnet_header=vnet_header, mtu=mtu, gso=True)
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
