"""The link over AF_XDP: frames in and out of rings that are shared with the kernel.

A frame received is copied once, out of its chunk, and the chunk goes back; a frame to send is copied once,
into a chunk, and the chunk comes back when the kernel is done with it. The only system call is the one that
says that there is something to send, once for a batch, and waiting. Every touch of a ring costs as much as
half a frame, so descriptors go in and out as the bytes of a whole batch, and chunks are handed back when some
dozens are due or before somebody sleeps: until then the kernel calls the socket readable.

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
from typing import TYPE_CHECKING, Any, Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i64_le
from mypy_extensions import i64, mypyc_attr

from appliance.shell.link import DescriptorLink
from appliance.wire import virtio
from appliance.wire.checksum import PROTOCOL_TCP, fold, pseudo_header_sum
from appliance.wire.fields import read_u16, read_u32

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from appliance.shell.link import Link
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

_MSG_DONTWAIT: Final = 0x40
"""As a number: the socket module's is an enumeration's member, looked up and converted each time."""

_TRIES: Final = 256
"""Calls for one batch, where each sends 32 frames."""

_AT_ONCE: Final = 64
"""Chunks that are handed back together: each time costs as much as a frame."""

_FLOWS: Final = 65_536
"""Peers' addresses and ports of which the queue is remembered."""

_DESCRIPTOR: Final = 16
_ADDRESS: Final = 8
"""Bytes of an entry: in the rings of descriptors, and in those of addresses."""

_TCP_START: Final = 34
_TCP_CHECKSUM: Final = 16
"""Of a TCP segment in an IPv4 packet without options, the only one that leaves with a partial checksum."""

_UDP_CHECKSUM: Final = 6
_PROTOCOL_UDP: Final = 17

_TCP_PLACE: Final = 0x2200_1000
"""Both as they stand in a virtio-net header, read in network byte order."""

_PLAIN: Final = bytes(_VNET_HEADER)
_PARTIAL: Final = bytes((virtio.FLAG_NEEDS_CSUM, 0, 0, 0, 0, 0, _TCP_START, 0, _TCP_CHECKSUM, 0))
"""Stands before a TCP segment whose checksum was left to the wire that it never saw."""

_IPV4_START: Final = _VNET_HEADER + 14

# Where a frame has them, after a virtio-net header and without options of IP.
_SOURCE: Final = 36
_DESTINATION: Final = 40
_SOURCE_PORT: Final = 44
_DESTINATION_PORT: Final = 46


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
        self._rx_area: Any = rx.area
        self._rx_first: i64 = rx.first
        self._rx_entries: Any = rx.entries
        self._rx_size: i64 = rx.size
        self._tx_words: Any = tx.memory
        self._tx_producer: i64 = tx.producer
        self._tx_consumer: i64 = tx.consumer
        self._tx_flags: i64 = tx.flags
        self._tx_area: Any = tx.area
        self._tx_first: i64 = tx.first
        self._tx_size: i64 = tx.size
        self._fill_words: Any = fill.memory
        self._fill_producer: i64 = fill.producer
        self._fill_entries: Any = fill.entries
        self._completion_words: Any = completion.memory
        self._completion_producer: i64 = completion.producer
        self._completion_consumer: i64 = completion.consumer
        self._completion_area: Any = completion.area
        self._completion_first: i64 = completion.first
        self._completion_size: i64 = completion.size
        self._rx_seen: i64 = 0
        self._rx_returned: i64 = 0
        self._tx_put: i64 = 0
        self._completion_seen: i64 = 0
        self._needs_fence: bool = platform.machine() not in ("x86_64", "AMD64")
        self._fence_lock = threading.Lock()
        self.is_sending: bool = False
        """Whether frames lie in the transmit ring that the kernel has not taken; as of the latest `kick`."""
        first_sent: i64 = queue.rx_chunks
        last_sent: i64 = first_sent + queue.tx_chunks
        self._free: list[int] = [
            number * self._chunk_bytes + _TX_HEADROOM for number in range(first_sent, last_sent)
        ]
        self._reap_below: i64 = queue.tx_chunks - min(_AT_ONCE, queue.tx_chunks // 4)
        # Metadata is the same for all TCP segments and lies before the virtio-net header, but for its end,
        # which means nothing here: so it is written once, and not for every frame.
        self._is_uniform: bool = self.has_metadata
        if self.has_metadata:
            for address in self._free:
                self._umem[address - _METADATA : address] = _metadata_of(_TCP_START, _TCP_CHECKSUM)
        # The fill ring gets all that it has room for, and from then on what the receive ring gave: so an
        # entry goes back to the place in the one that it had in the other.
        self._rx_chunks: i64 = queue.rx_chunks
        assert rx.size == fill.size == queue.rx_chunks
        for number in range(queue.rx_chunks):
            self._fill_entries[number] = number * queue.chunk_bytes
        self._return_at: i64 = min(_AT_ONCE, queue.rx_chunks // 4)
        self._return_chunks()

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
        umem = self._umem
        while count > 0:
            first = self._rx_seen & (self._rx_size - 1)
            run = count if first + count <= self._rx_size else self._rx_size - first
            start = self._rx_first + first * _DESCRIPTOR
            descriptors: bytes = self._rx_area[start : start + run * _DESCRIPTOR]
            at: i64 = 0
            while at < run * _DESCRIPTOR:
                address: i64 = read_i64_le(descriptors, at)
                length: i64 = i64(read_i32_le(descriptors, at + 8)) & _U32
                frame: bytes = umem[address - _VNET_HEADER : address + length]
                if self._has_partial_checksums:
                    # The header stays in the chunk: what comes into it next is most likely of the same kind.
                    head = _head_of(frame)
                    if head is _PARTIAL:
                        if frame[0] == 0:
                            umem[address - _VNET_HEADER : address] = _PARTIAL
                            frame = _PARTIAL + frame[_VNET_HEADER:]
                    elif head is not _PLAIN or frame[0] != 0:
                        frame = head + frame[_VNET_HEADER:]
                frames.append(frame)
                at += _DESCRIPTOR
            self._rx_seen = (self._rx_seen + run) & _U32
            count -= run
        if (self._rx_seen - self._rx_returned) & _U32 >= self._return_at:
            self._return_chunks()

    def send(self, frames: Sequence[Frame]) -> int:
        """Send frames, each after a virtio-net header; how many were dropped for want of a chunk."""
        free = self._free
        if len(free) < self._reap_below:
            self._reap()
        descriptors = BytesWriter()
        dropped = 0
        for frame in frames:
            if len(free) == 0:
                self._publish(descriptors.getvalue())
                descriptors = BytesWriter()
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
            write_i64_le(descriptors, address)
            write_i64_le(descriptors, second)
        self._publish(descriptors.getvalue())
        if self.is_sending:
            self.kick()
        return dropped

    def kick(self) -> None:
        """Have the kernel take what lies in the transmit ring, unless its driver looks by itself."""
        if not int(self._tx_words[self._tx_flags]) & _NEED_WAKEUP:
            self.is_sending = False
            return
        before: i64 = -1
        for _ in range(_TRIES):
            try:
                self.socket.send(b"", _MSG_DONTWAIT)
            except BlockingIOError:
                pass  # its share of this call is used up
            except OSError as error:
                if error.errno == errno.EBUSY or error.errno == errno.ENOBUFS:
                    self._reap()
                elif error.errno != errno.ENETDOWN:
                    raise
            taken: i64 = self._tx_words[self._tx_consumer]
            if taken == self._tx_put:
                self.is_sending = False
                return
            if taken == before:
                return  # no more for now: the next batch, or the next look, tries again
            before = taken

    def statistics(self) -> dict[str, int]:
        """What the kernel counted on this queue (struct xdp_statistics)."""
        raw = self.socket.getsockopt(_SOL_XDP, _XDP_STATISTICS, 48)
        return {
            name: int.from_bytes(raw[at : at + 8], "little")
            for name, at in zip(_STATISTICS, range(0, 48, 8), strict=True)
        }

    def _put(self, frame: Frame, address: i64) -> i64:
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
            return size - _VNET_HEADER
        if not self._is_uniform or read_u32(head, 6) != _TCP_PLACE:
            self._is_uniform = False
            umem[address - _METADATA : address] = _metadata_of(head[6] | head[7] << 8, head[8] | head[9] << 8)
        return (size - _VNET_HEADER) | _OPTION_METADATA

    def _publish(self, descriptors: bytes) -> None:
        """Put descriptors into the transmit ring."""
        size: i64 = len(descriptors)
        if size == 0:
            return
        start = (self._tx_put & (self._tx_size - 1)) * _DESCRIPTOR
        fitting = self._tx_size * _DESCRIPTOR - start
        area = self._tx_area
        first = self._tx_first
        if size <= fitting:
            area[first + start : first + start + size] = descriptors
        else:
            area[first + start : first + start + fitting] = descriptors[:fitting]
            area[first : first + size - fitting] = descriptors[fitting:]
        self._tx_put = (self._tx_put + size // _DESCRIPTOR) & _U32
        self.is_sending = True
        self._fence()
        self._tx_words[self._tx_producer] = self._tx_put

    def settle(self) -> None:
        """To be called before waiting: until what was received is given back, the socket is readable."""
        if self._rx_seen != self._rx_returned:
            self._return_chunks()

    def _return_chunks(self) -> None:
        """Let the kernel have the entries and the chunks of the frames that were received."""
        left = (self._rx_seen - self._rx_returned) & _U32
        while left > 0:
            first = self._rx_returned & (self._rx_size - 1)
            run = left if first + left <= self._rx_size else self._rx_size - first
            # An address inside of the chunk: the kernel looks for where it begins.
            self._fill_entries[first : first + run] = self._rx_entries[2 * first : 2 * (first + run) : 2]
            self._rx_returned = (self._rx_returned + run) & _U32
            left -= run
        self._fence()
        self._rx_words[self._rx_consumer] = self._rx_returned
        self._fill_words[self._fill_producer] = (self._rx_returned + self._rx_chunks) & _U32

    def _reap(self) -> None:
        """Take back the chunks of frames that were sent."""
        put: i64 = self._completion_words[self._completion_producer]
        count = (put - self._completion_seen) & _U32
        if count == 0:
            return
        self._fence()
        free = self._free
        while count > 0:
            first = self._completion_seen & (self._completion_size - 1)
            run = count if first + count <= self._completion_size else self._completion_size - first
            start = self._completion_first + first * _ADDRESS
            addresses: bytes = self._completion_area[start : start + run * _ADDRESS]
            at: i64 = 0
            while at < run * _ADDRESS:
                free.append(read_i64_le(addresses, at))
                at += _ADDRESS
            self._completion_seen = (self._completion_seen + run) & _U32
            count -= run
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


def _head_of(frame: bytes) -> bytes:
    """The virtio-net header for a frame from the far end of a veth pair.

    It says that the checksum is partial if the field of a TCP segment or a UDP datagram holds no more than
    the pseudo header's sum.
    """
    start: i64 = _IPV4_START
    if len(frame) < start + 28 or read_u16(frame, start - 2) != 0x0800:
        return _PLAIN
    header_length: i64 = (read_u16(frame, start) >> 8 & 15) * 4
    segment = start + header_length
    protocol: i64 = read_u16(frame, start + 8) & 0xFF
    field: i64
    if protocol == PROTOCOL_TCP:
        field = _TCP_CHECKSUM
    elif protocol == _PROTOCOL_UDP:
        field = _UDP_CHECKSUM
    else:
        return _PLAIN
    if header_length < 20 or segment + field + 2 > len(frame):
        return _PLAIN
    length = read_u16(frame, start + 2) - header_length
    total = pseudo_header_sum(read_u32(frame, start + 12), read_u32(frame, start + 16), protocol, length)
    if read_u16(frame, segment + field) != fold(total):
        return _PLAIN
    if header_length == 20 and field == _TCP_CHECKSUM:
        return _PARTIAL
    return bytes([virtio.FLAG_NEEDS_CSUM, 0, 0, 0, 0, 0, 14 + header_length, 0, field, 0])


def _flow_of(frame: bytes, address: i64, port: i64) -> int:
    """Whom a frame comes from or goes to, as a number; what is not TCP or UDP gets one as well."""
    if len(frame) < port + 2:
        return -1
    return int(read_u32(frame, address) << 16 | read_u16(frame, port))


@mypyc_attr(allow_interpreted_subclasses=True)
class XdpLink(DescriptorLink):
    """One link's queues together.

    With several, what is sent goes out by the queue that its peer's latest frame came in by, as the card
    that chose that queue would have it; what goes to somebody unheard of, by the first.

    Args:
        queues: As `netns.xdp.XdpQueue` describes them; they stay the caller's to close.
        has_partial_checksums: The link is an end of a veth pair.
        beside: Hears the ARP that the kernel gets and that concerns us too.
    """

    def __init__(
        self,
        queues: Sequence[Any],
        *,
        name: str,
        mtu: int,
        has_partial_checksums: bool = False,
        beside: Link | None = None,
    ) -> None:
        self._rings: list[QueueRings] = [QueueRings(queue, has_partial_checksums) for queue in queues]
        first = self._rings[0]
        self._turn: i64 = 0
        self._queues_of_flows: dict[int, int] = {}
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
        self.beside = beside

    def counters(self) -> dict[str, int]:
        counters = {"frames_dropped": self.frames_dropped}
        if self._fd >= 0:
            for rings in self._rings:
                for name, count in rings.statistics().items():
                    counters[name] = counters.get(name, 0) + count
        return counters

    def wait_readable(self) -> Awaitable[None]:
        for rings in self._rings:
            rings.settle()
            number = rings.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise self._gone("waiting", OSError(number, os.strerror(number)))
        return super().wait_readable()

    def nap(self, wait_us: int) -> bool:
        if self._has_frames():
            return True
        for rings in self._rings:
            rings.settle()
        return super().nap(wait_us)

    def spin(self, wait_us: int) -> bool:
        ends = time.perf_counter() + wait_us / 1_000_000
        while not self._has_frames():
            if time.perf_counter() >= ends:
                return False
        return True

    def read_batch(self, limit: int) -> list[bytes]:
        frames: list[bytes] = []
        if len(self._rings) > 1:
            self._read_queues(frames, limit)
            return frames
        rings = self._rings[0]
        if rings.is_sending:
            rings.kick()
        rings.receive(frames, limit)
        return frames

    def write_batch(self, frames: list[Frame]) -> None:
        try:
            if len(self._rings) > 1:
                self._write_queues(frames)
            else:
                self.frames_dropped += self._rings[0].send(frames)
        except OSError as error:
            raise self._gone("writing", error) from error

    def _read_queues(self, frames: list[bytes], limit: i64) -> None:
        """Each queue in its turn, so that one that is never empty does not keep the others waiting."""
        flows = self._queues_of_flows
        count: i64 = len(self._rings)
        for number in range(count):
            queue: i64 = (self._turn + number) % count
            rings = self._rings[queue]
            if rings.is_sending:
                rings.kick()
            before: i64 = len(frames)
            if before < limit:
                rings.receive(frames, limit - before)
            for at in range(before, len(frames)):
                flow = _flow_of(frames[at], _SOURCE, _SOURCE_PORT)
                if len(flows) >= _FLOWS and flow not in flows:
                    flows.clear()
                flows[flow] = queue
        self._turn = (self._turn + 1) % count

    def _write_queues(self, frames: list[Frame]) -> None:
        flows = self._queues_of_flows
        shares: list[list[Frame]] = [[] for _ in self._rings]
        for frame in frames:
            head = frame if isinstance(frame, bytes) else bytes(frame[0])
            shares[flows.get(_flow_of(head, _DESTINATION, _DESTINATION_PORT), 0)].append(frame)
        for rings, share in zip(self._rings, shares, strict=True):
            if len(share) > 0:
                self.frames_dropped += rings.send(share)

    def close(self) -> None:
        super().close()
        if self._epoll is not None:
            self._epoll.close()
        if self.beside is not None:
            self.beside.close()

    def _has_frames(self) -> bool:
        return any([rings.has_frames() for rings in self._rings])  # noqa: C419 - a list compiles better
