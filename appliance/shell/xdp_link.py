"""The link over AF_XDP: frames in and out of rings that are shared with the kernel.

A frame received is copied once, out of its chunk, and the chunk goes back; a frame to send is copied once,
into a chunk, and the chunk comes back when the kernel is done with it. The only system call is the one that
says that there is something to send, once for a batch, and waiting.

    ring      producer   consumer   entries
    rx        kernel     we         descriptors: address, length
    fill      we         kernel     addresses of chunks for frames to come
    tx        we         kernel     descriptors: address, length, options
    completion kernel    we         addresses of chunks that were sent

To the stack it looks like a TAP: a virtio-net header stands before each frame. On the way in it is the
ten bytes of headroom before the frame, which nobody else writes; on the way out it becomes the transmit
metadata by which the kernel knows where a checksum is to be put.

Source:     Linux Documentation/networking/af_xdp.rst, xsk-tx-metadata.rst; include/uapi/linux/if_xdp.h.
Units:      indices count entries modulo 2**32 and are masked for their place; addresses are bytes into UMEM.
Invariants: a chunk is at one place: the kernel's, in a ring, or in `_free`; an index is published after what
            it stands for was written or read. x86-64 keeps that order by itself; elsewhere a lock that
            nobody else takes is the fence.
Errors:     `HostError` when the device is gone. Without a free chunk a frame is dropped and counted.
Not here:   making sockets, rings and the program (netns.xdp).
"""

from __future__ import annotations

import errno
import os
import platform
import select
import socket
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64, mypyc_attr

from appliance.shell.link import DescriptorLink
from appliance.wire import virtio
from appliance.wire.checksum import PROTOCOL_TCP, fold, pseudo_header_sum
from appliance.wire.fields import read_u16, read_u32

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from appliance.stack.interface import Frame

__all__ = ["QueueRings", "XdpLink"]

_U32: Final = 0xFFFF_FFFF
_VNET_HEADER: Final = 10
_METADATA: Final = 24
_TX_HEADROOM: Final = 64
"""Before a frame to send: metadata, or the virtio-net header until that has taken its place."""

_OPTION_METADATA: Final = 2 << 32  # XDP_TX_METADATA, in the upper half of the descriptor's second word
_METADATA_CHECKSUM: Final = 2  # XDP_TXMD_FLAGS_CHECKSUM
_NEED_WAKEUP: Final = 1

_SOL_XDP: Final = 283
_XDP_STATISTICS: Final = 7
_STATISTICS: Final = (
    "rx_dropped",
    "rx_invalid_descs",
    "tx_invalid_descs",
    "rx_ring_full",
    "rx_fill_ring_empty",
    "tx_ring_empty",
)

_TRIES: Final = 256
"""Calls for one batch, where each sends 32 frames."""

_FEW: Final = 4
"""Entries that are sooner moved one by one than by a slice."""

_TCP_START: Final = 34
_TCP_CHECKSUM: Final = 16
"""Of a TCP segment in an IPv4 packet without options, the only one that leaves with a partial checksum."""

_TCP_PLACE: Final = bytes((_TCP_START, 0, _TCP_CHECKSUM, 0))

_PARTIAL: Final = bytes((virtio.FLAG_NEEDS_CSUM, 0, 0, 0, 0, 0, _TCP_START, 0, _TCP_CHECKSUM, 0))
"""Stands before a TCP segment whose checksum was left to the wire that it never saw."""

_IPV4_TCP_START: Final = _VNET_HEADER + 14


class QueueRings:
    """The rings of one queue; see the module's text.

    Args:
        queue: As `netns.xdp.XdpQueue` describes it.
        has_partial_checksums: Frames may come with the TCP checksum left partial.
    """

    def __init__(self, queue: Any, has_partial_checksums: bool) -> None:
        self.socket: socket.socket = queue.socket
        self._umem: Any = queue.umem
        self._chunk_bytes: i64 = queue.chunk_bytes
        self.has_metadata: bool = queue.has_metadata
        self._has_partial_checksums = has_partial_checksums
        rx, tx, fill, completion = queue.rx, queue.tx, queue.fill, queue.completion
        self._rx_words: Any = rx.memory
        self._rx_producer: i64 = rx.producer
        self._rx_consumer: i64 = rx.consumer
        self._rx_entries: Any = rx.entries
        self._rx_size: i64 = rx.size
        self._tx_words: Any = tx.memory
        self._tx_producer: i64 = tx.producer
        self._tx_consumer: i64 = tx.consumer
        self._tx_flags: i64 = tx.flags
        self._tx_entries: Any = tx.entries
        self._tx_size: i64 = tx.size
        self._fill_words: Any = fill.memory
        self._fill_producer: i64 = fill.producer
        self._fill_entries: Any = fill.entries
        self._fill_size: i64 = fill.size
        self._completion_words: Any = completion.memory
        self._completion_producer: i64 = completion.producer
        self._completion_consumer: i64 = completion.consumer
        self._completion_entries: Any = completion.entries
        self._completion_size: i64 = completion.size
        self._rx_seen: i64 = 0
        self._fill_put: i64 = 0
        self._tx_put: i64 = 0
        self._completion_seen: i64 = 0
        self._needs_fence: bool = platform.machine() not in ("x86_64", "AMD64")
        self._fence_lock = threading.Lock()
        first_sent: i64 = queue.rx_chunks
        last_sent: i64 = first_sent + queue.tx_chunks
        self._free: list[int] = [
            number * self._chunk_bytes + _TX_HEADROOM for number in range(first_sent, last_sent)
        ]
        # Metadata is the same for all TCP segments and lies before the virtio-net header, but for its end,
        # which means nothing here: so it is written once, and not for every frame.
        self._is_uniform: bool = self.has_metadata
        if self.has_metadata:
            for address in self._free:
                self._umem[address - _METADATA : address] = _metadata_of(_TCP_START, _TCP_CHECKSUM)
        self._give([number * self._chunk_bytes for number in range(queue.rx_chunks)])

    def has_frames(self) -> bool:
        """Whether `receive` would give something; no system call."""
        seen: i64 = self._rx_words[self._rx_producer]
        return seen != self._rx_seen

    def receive(self, frames: list[bytes], limit: i64) -> None:
        """Append up to `limit` frames that have arrived to `frames`, each after a virtio-net header."""
        put: i64 = self._rx_words[self._rx_producer]
        count = (put - self._rx_seen) & _U32
        if count == 0:
            return
        self._fence()
        if count > limit:
            count = limit
        words: list[int] = _taken(
            self._rx_entries, self._rx_seen & (self._rx_size - 1), count, self._rx_size, 2
        )
        umem = self._umem
        chunks: list[int] = []
        at: i64 = 0
        while at < 2 * count:
            address: i64 = words[at]
            length: i64 = words[at + 1] & _U32
            frame: bytes = umem[address - _VNET_HEADER : address + length]
            if self._has_partial_checksums and _is_partial(frame):
                frame = _PARTIAL + frame[_VNET_HEADER:]
            frames.append(frame)
            chunks.append(address)
            at += 2
        self._rx_seen = (self._rx_seen + count) & _U32
        self._fence()
        self._rx_words[self._rx_consumer] = self._rx_seen
        self._give(chunks)

    def send(self, frames: Sequence[Frame]) -> int:
        """Send frames, each after a virtio-net header; how many were dropped for want of a chunk."""
        self._reap()
        free = self._free
        words: list[int] = []
        dropped = 0
        for frame in frames:
            if len(free) == 0:
                self._publish(words)
                words = []
                self.kick()
                self._reap()
                if len(free) == 0:
                    dropped += 1
                    continue
            address: i64 = free.pop()
            second = self._put(frame, address)
            if second == 0:
                free.append(address)
                dropped += 1
                continue
            words.append(address)
            words.append(second)
        self._publish(words)
        self.kick()
        return dropped

    def is_sending(self) -> bool:
        """Whether frames lie in the transmit ring that the kernel has not taken."""
        taken: i64 = self._tx_words[self._tx_consumer]
        return taken != self._tx_put

    def kick(self) -> None:
        """Have the kernel take what lies in the transmit ring, unless its driver looks by itself."""
        if not int(self._tx_words[self._tx_flags]) & _NEED_WAKEUP:
            return
        before: i64 = -1
        for _ in range(_TRIES):
            taken: i64 = self._tx_words[self._tx_consumer]
            if taken == self._tx_put or taken == before:
                return  # all, or no more for now: the next batch, or the next look, tries again
            before = taken
            try:
                self.socket.send(b"", socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass  # its share of this call is used up
            except OSError as error:
                if error.errno == errno.EBUSY or error.errno == errno.ENOBUFS:
                    self._reap()
                elif error.errno != errno.ENETDOWN:
                    raise

    def statistics(self) -> dict[str, int]:
        """What the kernel counted on this queue (struct xdp_statistics)."""
        raw = self.socket.getsockopt(_SOL_XDP, _XDP_STATISTICS, 48)
        return {
            name: int.from_bytes(raw[at : at + 8], "little")
            for name, at in zip(_STATISTICS, range(0, 48, 8), strict=True)
        }

    def _put(self, frame: Frame, address: i64) -> int:
        """Copy a frame into the chunk at `address`; its descriptor's second word, 0 when it does not fit."""
        umem = self._umem
        room = self._chunk_bytes - _TX_HEADROOM + _VNET_HEADER
        if not self.has_metadata:
            # Nobody behind us completes a checksum.
            whole = virtio.complete_checksum(frame if isinstance(frame, bytes) else b"".join(frame))
            if len(whole) > room - _VNET_HEADER:
                return 0
            umem[address : address + len(whole)] = whole
            return len(whole)
        at = address - _VNET_HEADER
        size: i64
        head: bytes
        if isinstance(frame, bytes):
            head = frame
            size = len(frame)
            if size > room:
                return 0
            umem[at : at + size] = frame
        else:
            head = bytes(frame[0])
            size = 0
            for part in frame:
                length: i64 = len(part)
                if size + length > room:
                    return 0
                umem[at + size : at + size + length] = part
                size += length
        if not head[0] & virtio.FLAG_NEEDS_CSUM:
            return int(size - _VNET_HEADER)
        if self._is_uniform and head[6:10] == _TCP_PLACE:
            return int(size - _VNET_HEADER) | _OPTION_METADATA
        self._is_uniform = False
        umem[address - _METADATA : address] = _metadata_of(head[6] | head[7] << 8, head[8] | head[9] << 8)
        return int(size - _VNET_HEADER) | _OPTION_METADATA

    def _publish(self, words: list[int]) -> None:
        count: i64 = len(words) // 2
        if count == 0:
            return
        _place(self._tx_entries, self._tx_put & (self._tx_size - 1), words, self._tx_size, 2)
        self._tx_put = (self._tx_put + count) & _U32
        self._fence()
        self._tx_words[self._tx_producer] = self._tx_put

    def _give(self, chunks: list[int]) -> None:
        _place(self._fill_entries, self._fill_put & (self._fill_size - 1), chunks, self._fill_size, 1)
        self._fill_put = (self._fill_put + len(chunks)) & _U32
        self._fence()
        self._fill_words[self._fill_producer] = self._fill_put

    def _reap(self) -> None:
        """Take back the chunks of frames that were sent."""
        put: i64 = self._completion_words[self._completion_producer]
        count = (put - self._completion_seen) & _U32
        if count == 0:
            return
        self._fence()
        first = self._completion_seen & (self._completion_size - 1)
        self._free += _taken(self._completion_entries, first, count, self._completion_size, 1)
        self._completion_seen = put
        self._fence()
        self._completion_words[self._completion_consumer] = put

    def _fence(self) -> None:
        if self._needs_fence:
            self._fence_lock.acquire()
            self._fence_lock.release()


def _metadata_of(start: i64, offset: i64) -> bytes:
    """struct xsk_tx_metadata: flags, csum_start, csum_offset, and what is not asked for."""
    return (
        _METADATA_CHECKSUM.to_bytes(8, "little")
        + int(start).to_bytes(2, "little")
        + int(offset).to_bytes(2, "little")
        + bytes(12)
    )


def _taken(entries: Any, first: i64, count: i64, size: i64, width: i64) -> list[int]:
    """`count` entries of a ring from `first` on, as words."""
    words: list[int]
    at = first * width
    if count <= _FEW:
        words = []
        last = at + count * width
        while at < last:
            words.append(entries[at if at < size * width else at - size * width])
            at += 1
    elif first + count <= size:
        words = entries[at : at + count * width].tolist()
    else:
        words = entries[at:].tolist()
        words += entries[: (first + count - size) * width].tolist()
    return words


def _place(entries: Any, first: i64, words: list[int], size: i64, width: i64) -> None:
    """Write entries into a ring from `first` on."""
    count: i64 = len(words)
    at = first * width
    if count <= _FEW * width:
        for word in words:
            entries[at if at < size * width else at - size * width] = word
            at += 1
    elif at + count <= size * width:
        entries[at : at + count] = array("Q", words)
    else:
        fitting = size * width - at
        entries[at:] = array("Q", words[:fitting])
        entries[: count - fitting] = array("Q", words[fitting:])


def _is_partial(frame: bytes) -> bool:
    """Whether the TCP checksum field holds no more than the pseudo header's sum."""
    start: i64 = _IPV4_TCP_START
    if len(frame) < start + 40 or read_u16(frame, start - 2) != 0x0800 or frame[start + 9] != PROTOCOL_TCP:
        return False
    header_length: i64 = (frame[start] & 15) * 4
    segment = start + header_length
    if header_length < 20 or segment + 20 > len(frame):
        return False
    length = read_u16(frame, start + 2) - header_length
    total = pseudo_header_sum(read_u32(frame, start + 12), read_u32(frame, start + 16), PROTOCOL_TCP, length)
    return read_u16(frame, segment + 16) == fold(total)


@mypyc_attr(allow_interpreted_subclasses=True)
class XdpLink(DescriptorLink):
    """One link's queues together; what is sent goes out by the first of them.

    Args:
        queues: As `netns.xdp.XdpQueue` describes them; they stay the caller's to close.
        has_partial_checksums: The link is an end of a veth pair.
    """

    def __init__(
        self, queues: Sequence[Any], *, name: str, mtu: int, has_partial_checksums: bool = False
    ) -> None:
        self._rings: list[QueueRings] = [QueueRings(queue, has_partial_checksums) for queue in queues]
        first = self._rings[0]
        self._epoll: select.epoll | None = None
        descriptor = first.socket.fileno()
        if len(self._rings) > 1:
            self._epoll = select.epoll()
            for rings in self._rings:
                self._epoll.register(rings.socket.fileno(), select.EPOLLIN)
            descriptor = self._epoll.fileno()
        super().__init__(
            descriptor,
            name=name,
            mtu=mtu,
            vnet_header=True,
            gathers=first.has_metadata,
            gso=False,
            owns_fd=False,
        )

    def counters(self) -> dict[str, int]:
        counters = {"frames_dropped": self.frames_dropped}
        if self._fd >= 0:
            for rings in self._rings:
                for name, count in rings.statistics().items():
                    counters[name] = counters.get(name, 0) + count
        return counters

    def wait_readable(self) -> Awaitable[None]:
        for rings in self._rings:
            number = rings.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise self._gone("waiting", OSError(number, os.strerror(number)))
        return super().wait_readable()

    def nap(self, wait_us: int) -> bool:
        return self._has_frames() or super().nap(wait_us)

    def spin(self, wait_us: int) -> bool:
        ends = time.perf_counter() + wait_us / 1_000_000
        while not self._has_frames():
            if time.perf_counter() >= ends:
                return False
        return True

    def read_batch(self, limit: int) -> list[bytes]:
        frames: list[bytes] = []
        left: i64 = limit
        for rings in self._rings:
            if rings.is_sending():
                rings.kick()
            rings.receive(frames, left)
            left = limit - len(frames)
            if left <= 0:
                break
        return frames

    def write_batch(self, frames: list[Frame]) -> None:
        try:
            self.frames_dropped += self._rings[0].send(frames)
        except OSError as error:
            raise self._gone("writing", error) from error

    def close(self) -> None:
        super().close()
        if self._epoll is not None:
            self._epoll.close()

    def _has_frames(self) -> bool:
        return any([rings.has_frames() for rings in self._rings])  # noqa: C419 - a list compiles better
