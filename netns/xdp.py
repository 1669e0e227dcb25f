"""AF_XDP sockets on a link: frames through rings in memory that kernel and process share.

Per queue there is one socket with an area of chunks (UMEM) and four rings: the process puts free chunks into
the fill ring and finds frames in the receive ring; it puts frames into the transmit ring and finds chunks
that are done with in the completion ring. Moving a frame costs no system call; what does it is
appliance/shell/xdp_link.py. Only what is for our address comes here (netns.bpf); the kernel has the rest.
Of that, ARP by which neighbours announce themselves concerns both: a packet socket beside the rings hears a
copy, and lets frames to any MAC address in.

Source:  Linux Documentation/networking/af_xdp.rst, xsk-tx-metadata.rst; include/uapi/linux/if_xdp.h.
Frames:  Ethernet. Received ones are complete, but a frame from the far end of a veth pair, which never was
         on a wire, has its TCP checksum partial. Sent ones may be partial where the kernel knows transmit
         metadata (Linux 6.11). A frame fits a chunk: no segments larger than the MTU.
Life:    socket, program and membership end with their descriptors, whatever ends the process.
Errors:  OSError from the system; `netns.errors` where it has a remedy.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import socket
import struct
from typing import TYPE_CHECKING, Final

from netns.bpf import attach_xdp, create_socket_map, load_xdp, put_socket, xdp_program
from netns.errors import NameInUse
from netns.packet import PacketSocket, open_arp

if TYPE_CHECKING:
    from collections.abc import Callable

AF_XDP: Final = 44

# linux/if_xdp.h
_SOL_XDP: Final = 283
_MMAP_OFFSETS: Final = 1
_RX_RING: Final = 2
_TX_RING: Final = 3
_UMEM_REG: Final = 4
_FILL_RING: Final = 5
_COMPLETION_RING: Final = 6
_OPTIONS: Final = 8
_MAX_TX_BUDGET: Final = 9
_PAGE_OFFSETS: Final = {
    _RX_RING: 0,
    _TX_RING: 0x8000_0000,
    _FILL_RING: 0x1_0000_0000,
    _COMPLETION_RING: 0x1_8000_0000,
}
_BIND_NEED_WAKEUP: Final = 8
_UMEM_TX_METADATA_LEN: Final = 4
_OPTIONS_ZEROCOPY: Final = 1

METADATA_BYTES: Final = 24
"""struct xsk_tx_metadata, before a frame to send."""

RX_CHUNKS: Final = 4096
TX_CHUNKS: Final = 4096
_KERNEL_HEADROOM: Final = 256  # XDP_PACKET_HEADROOM
_ETHERNET: Final = 14

MAX_MTU: Final = 4096 - _KERNEL_HEADROOM - _ETHERNET
"""A frame fits a chunk, and a chunk a page."""

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GCHANNELS: Final = 0x3C


class Ring:
    """One ring as it lies in memory.

    Attributes:
        memory: the whole of it, as words of 32 bits.
        producer, consumer, flags: which of these words they are.
        area: the same memory, as bytes; the entries begin at `first`.
        entries: as words of 64 bits: one per entry, two in the rings of descriptors.
        size: entries, a power of two.
    """

    def __init__(
        self, area: mmap.mmap, offsets: tuple[int, int, int, int], size: int, words_per_entry: int
    ) -> None:
        producer, consumer, first, flags = offsets
        view = memoryview(area)
        self.memory = view.cast("I")
        self.producer = producer // 4
        self.consumer = consumer // 4
        self.flags = flags // 4
        self.area = area
        self.first = first
        self.entries = view[first : first + size * words_per_entry * 8].cast("Q")
        self.size = size


class XdpQueue:
    """One socket with its rings.

    Attributes:
        socket: bound to one queue of the link.
        umem: the chunks: the first `rx_chunks` are for the fill ring, the others for frames to send.
        chunk_bytes: of each.
        rx, tx, fill, completion: the rings.
        has_metadata: frames to send may have METADATA_BYTES before them (XDP_TX_METADATA).
        is_zero_copy: the driver itself works on the chunks.
    """

    def __init__(self, interface: int, queue: int, mtu: int) -> None:
        self.queue = queue
        self.chunk_bytes = 2048 if mtu + _ETHERNET + _KERNEL_HEADROOM <= 2048 else 4096
        self.rx_chunks = RX_CHUNKS
        self.tx_chunks = TX_CHUNKS
        self.umem = mmap.mmap(-1, (RX_CHUNKS + TX_CHUNKS) * self.chunk_bytes)
        self.socket = socket.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        try:
            self.has_metadata = self._register_umem()
            for option, size in (
                (_FILL_RING, RX_CHUNKS),
                (_COMPLETION_RING, TX_CHUNKS),
                (_RX_RING, RX_CHUNKS),
                (_TX_RING, TX_CHUNKS),
            ):
                self.socket.setsockopt(_SOL_XDP, option, size)
            with contextlib.suppress(OSError):  # Linux 6.17; else 32 frames for each system call
                self.socket.setsockopt(_SOL_XDP, _MAX_TX_BUDGET, TX_CHUNKS)
            layout = struct.unpack("=16Q", self.socket.getsockopt(_SOL_XDP, _MMAP_OFFSETS, 128))
            self.rx = self._map(_RX_RING, layout[0:4], RX_CHUNKS, 2)
            self.tx = self._map(_TX_RING, layout[4:8], TX_CHUNKS, 2)
            self.fill = self._map(_FILL_RING, layout[8:12], RX_CHUNKS, 1)
            self.completion = self._map(_COMPLETION_RING, layout[12:16], TX_CHUNKS, 1)
            self._bind(interface)
            options = self.socket.getsockopt(_SOL_XDP, _OPTIONS, 4)
            self.is_zero_copy = bool(struct.unpack("=I", options)[0] & _OPTIONS_ZEROCOPY)
            # A driver that takes chunks as they are may not know metadata, and says so to nobody.
            self.has_metadata = self.has_metadata and not self.is_zero_copy
        except BaseException:
            self.socket.close()
            raise

    def _register_umem(self) -> bool:
        held = ctypes.c_char.from_buffer(self.umem)
        address = ctypes.addressof(held)
        del held  # the address stays; what is left would keep the area from being closed
        for flags, metadata in ((_UMEM_TX_METADATA_LEN, METADATA_BYTES), (0, 0)):
            area = struct.pack("=QQIIII", address, len(self.umem), self.chunk_bytes, 0, flags, metadata)
            try:
                self.socket.setsockopt(_SOL_XDP, _UMEM_REG, area)
            except OSError as exc:
                if exc.errno != errno.EINVAL or not metadata:
                    raise
            else:
                return metadata > 0
        raise AssertionError("the loop ends")

    def _map(self, option: int, offsets: tuple[int, ...], size: int, words: int) -> Ring:
        producer, consumer, first, flags = offsets
        length = first + size * words * 8
        area = mmap.mmap(
            self.socket.fileno(),
            length,
            mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0),
            mmap.PROT_READ | mmap.PROT_WRITE,
            offset=_PAGE_OFFSETS[option],
        )
        return Ring(area, (producer, consumer, first, flags), size, words)

    def _bind(self, interface: int) -> None:
        """Bind; the kernel takes zero-copy where the driver has it, else copies."""
        libc = ctypes.CDLL(None, use_errno=True)
        where = struct.pack("=HHIII", AF_XDP, _BIND_NEED_WAKEUP, interface, self.queue, 0)
        if libc.bind(self.socket.fileno(), where, len(where)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Close the socket; the areas go when nobody looks at them any more."""
        self.socket.close()


class XdpSocket:
    """AF_XDP sockets on the queues of one link, with the program that feeds them.

    Attributes:
        queues: one or more.
        arp: hears what the program leaves to the kernel of ARP that concerns us too.
        name: of the link.
        has_partial_checksums: it is an end of a veth pair, so frames may never have had a whole one.
    """

    kind: Final = "xdp"
    vnet_header: Final = True
    offloads: Final = False

    def __init__(self, name: str, queues: list[XdpQueue], descriptors: list[int], has_partial: bool) -> None:
        self.name = name
        self.queues = queues
        self.has_partial_checksums = has_partial
        self.arp: PacketSocket | None = None
        self.unattached = -1
        """Descriptor of the program when the kernel knows no links of bpf, until `attached_by`."""
        self._detach: Callable[[], None] | None = None
        self._descriptors = descriptors

    def __repr__(self) -> str:
        return f"<XdpSocket {self.name} queues={[one.queue for one in self.queues]}>"

    def close(self) -> None:
        """Detach the program, then close the sockets. Safe to call again."""
        if self._detach is not None:
            detach, self._detach = self._detach, None
            detach()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        for queue in self.queues:
            queue.close()
        if self.arp is not None:
            self.arp.close()

    def attached_by(self, detach: Callable[[], None]) -> None:
        """Somebody has attached `unattached`; `detach` takes it away again."""
        self._detach = detach
        self.unattached = -1


def queue_count(name: str) -> int:
    """Receive queues of the link `name` that are in use."""
    values = ctypes.create_string_buffer(struct.pack("=9I", _ETHTOOL_GCHANNELS, *[0] * 8), 36)
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(values))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:  # the driver knows of one only
            return 1
    # struct ethtool_channels: command, four limits, then received, sent, other and combined.
    received, _sent, _other, combined = struct.unpack_from("=4I", values, 20)
    return max(int(received) + int(combined), 1)


def other_program(name: str) -> NameInUse:
    """The link has an XDP program already."""
    return NameInUse(f"link {name} has another XDP program", f"detach it: ip link set {name} xdp off")


def open_xdp(
    name: str, *, address: str, mtu: int, queue: int | None = None, is_veth: bool = False
) -> XdpSocket:
    """Open AF_XDP sockets on the link `name` of the caller's namespace and send our traffic there.

    Args:
        address: whose traffic it is.
        mtu: of the link.
        queue: one receive queue; None for all.
        is_veth: frames may come with partial checksums.

    Returns:
        The sockets; the program is attached but before Linux 5.9, where `unattached` is left to the caller.

    Raises:
        NameInUse: the link has another XDP program.
        OSError: no such link or queue, or a privilege is missing.
    """
    interface = socket.if_nametoindex(name)
    if mtu > MAX_MTU:
        raise OSError(errno.EMSGSIZE, f"AF_XDP carries an MTU of up to {MAX_MTU}, and {name} has {mtu}")
    with contextlib.suppress(ValueError, OSError):  # memory of UMEM is locked; CAP_IPC_LOCK would do as well
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    numbers = [queue] if queue is not None else list(range(queue_count(name)))
    opened = XdpSocket(name, [], [], is_veth)
    to_close: list[int] = []
    try:
        map_fd = create_socket_map(max(numbers) + 1)
        to_close.append(map_fd)
        program_fd = load_xdp(xdp_program(map_fd, address))
        to_close.append(program_fd)
        for number in numbers:
            try:
                bound = XdpQueue(interface, number, mtu)
            except OSError as exc:
                if exc.errno == errno.EBUSY:
                    raise NameInUse(
                        f"queue {number} of link {name} has another AF_XDP socket", "give another queue"
                    ) from exc
                if exc.errno == errno.EINVAL and number >= queue_count(name):
                    raise OSError(errno.EINVAL, f"{name} has no queue {number}") from exc
                raise
            opened.queues.append(bound)
            put_socket(map_fd, number, bound.socket.fileno())
        opened.arp = open_arp(name, address=address)
        try:
            # Beyond the driver the far end of a veth pair would go on sending segments of up to 64 KiB.
            opened._descriptors.append(attach_xdp(program_fd, interface, may_be_generic=not is_veth))
        except OSError as exc:
            if exc.errno == errno.ERANGE:
                why = f"XDP on a veth pair carries an MTU of some 3,500, and that of {name} is larger"
                raise OSError(errno.EMSGSIZE, why) from exc
            if exc.errno in (errno.EBUSY, errno.EEXIST):
                raise other_program(name) from exc
            if exc.errno != errno.EINVAL:
                raise
            opened.unattached = os.dup(program_fd)
            opened._descriptors.append(opened.unattached)
    except BaseException:
        opened.close()
        raise
    finally:
        for descriptor in to_close:  # the attached program keeps them
            os.close(descriptor)
    return opened


__all__ = [
    "METADATA_BYTES",
    "Ring",
    "XdpQueue",
    "XdpSocket",
    "open_xdp",
    "other_program",
    "queue_count",
]
