"""Links: batches, limits, and what a vanished device looks like."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from appliance.errors import HostError
from appliance.shell.link import PacketLink, TapLink, TunLink, memory_link_pair
from tests.support.peer import make_interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock


@pytest.fixture
def wire() -> Iterator[tuple[TapLink, socket.socket]]:
    """A TapLink over something that keeps frame boundaries as a TAP does, and the far end."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = TapLink(near.detach(), name="tap9", mtu=1500)
    yield link, far
    link.close()
    far.close()


async def test_tap_read_batch_gives_frames_in_order_up_to_the_limit(
    wire: tuple[TapLink, socket.socket],
) -> None:
    link, far = wire
    for number in range(5):
        far.send(bytes((number,)) * 60)
    await link.wait_readable()
    assert [frame[0] for frame in link.read_batch(3)] == [0, 1, 2]
    assert [frame[0] for frame in link.read_batch(3)] == [3, 4]
    assert link.read_batch(3) == []


async def test_tap_reads_the_largest_frame_whole(wire: tuple[TapLink, socket.socket]) -> None:
    link, far = wire
    frame = bytes(10 + 14 + 65_535)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    far.send(frame)
    assert link.read_batch(8) == [frame]


async def test_tap_write_batch_keeps_order_and_boundaries(wire: tuple[TapLink, socket.socket]) -> None:
    link, far = wire
    link.write_batch([b"a" * 60, b"b" * 1500])
    assert far.recv(4096) == b"a" * 60
    assert far.recv(4096) == b"b" * 1500


async def test_tap_write_to_a_full_queue_drops_and_counts(wire: tuple[TapLink, socket.socket]) -> None:
    link, far = wire
    link.write_batch([bytes(1000)] * 2000)
    assert 0 < link.frames_dropped < 2000
    arrived = 0
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            far.recv(2000)
            arrived += 1
    assert arrived + link.frames_dropped == 2000
    # The next one goes through again.
    link.write_batch([b"x" * 60])
    assert far.recv(2000) == b"x" * 60


async def test_tap_that_vanished_is_one_line_naming_it(wire: tuple[TapLink, socket.socket]) -> None:
    link, far = wire
    far.send(b"last")
    far.close()
    assert link.read_batch(1) == [b"last"]
    with pytest.raises(HostError) as caught:
        link.read_batch(8)
    assert "tap9 is gone" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_tap_error_after_frames_delivers_the_frames_first() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        link = TapLink(near.fileno(), name="tap9", mtu=1500, owns_fd=False)
        far.send(b"frame")
        read, self_calls = os.read, 0

        def fail_second(fd: int, size: int) -> bytes:
            nonlocal self_calls
            self_calls += 1
            if self_calls > 1:
                raise OSError(77, "File descriptor in bad state")
            return read(fd, size)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "read", fail_second)
            assert link.read_batch(8) == [b"frame"]
            with pytest.raises(HostError, match="bad state"):
                link.read_batch(8)


@pytest.mark.parametrize(("code", "is_fatal"), [(5, False), (105, False), (77, True), (19, True)])
async def test_tap_write_errors_are_drops_unless_the_device_is_gone(
    wire: tuple[TapLink, socket.socket], monkeypatch: pytest.MonkeyPatch, code: int, is_fatal: bool
) -> None:
    link, _far = wire

    def fail(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", fail)
    if is_fatal:
        with pytest.raises(HostError):
            link.write_batch([b"x"])
    else:
        link.write_batch([b"x", b"y"])
        assert link.frames_dropped == 2


async def test_tap_close_is_idempotent_and_closes_the_fd() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far:
        fd = near.detach()
        link = TapLink(fd, name="tap9", mtu=1500)
        link.close()
        link.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


async def test_memory_link_carries_both_ways_and_wakes_the_reader(autojump_clock: MockClock) -> None:
    near, far = memory_link_pair()
    got: list[list[bytes]] = []

    async def read_one() -> None:
        await far.wait_readable()
        got.append(far.read_batch(10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_one)
        await wait_all_tasks_blocked()
        near.write_batch([b"1", b"2"])
    assert got == [[b"1", b"2"]]
    far.write_batch([b"3"])
    await near.wait_readable()
    assert near.read_batch(10) == [b"3"]


async def test_memory_link_hook_loses_and_doubles(autojump_clock: MockClock) -> None:
    near, far = memory_link_pair()
    near.on_write = lambda frame: [] if frame == b"lost" else [frame, frame]
    near.write_batch([b"lost", b"twice"])
    assert far.read_batch(10) == [b"twice", b"twice"]


async def test_memory_link_beyond_its_capacity_drops_and_counts(autojump_clock: MockClock) -> None:
    near, far = memory_link_pair(capacity=2)
    near.write_batch([b"1", b"2", b"3"])
    assert (far.read_batch(10), near.frames_dropped) == ([b"1", b"2"], 1)


async def test_links_say_what_they_take_off_the_stack_and_what_to_wait_on(
    wire: tuple[TapLink, socket.socket],
) -> None:
    link, _far = wire
    assert (link.vnet_header, link.gso, link.gathers) == (True, True, True)
    assert select.select([link.fileno()], [], [], 0) == ([], [], [])
    assert link.counters() == {"frames_dropped": 0}
    near, _ = memory_link_pair()
    assert (near.gso, near.gathers, near.fileno()) == (True, False, -1)
    bare, _ = memory_link_pair(vnet_header=False)
    assert not bare.gso  # nobody could say where to cut


IPV4 = bytes.fromhex("4500001400000000400600000a4d00010a4d0002")
MAC, PEER = b"\x02\0\0\0\0\x0a", b"\x02\0\0\0\0\x0b"
ETHERNET_IN = MAC + PEER + b"\x08\0"
ETHERNET_OUT = PEER + MAC + b"\x08\0"


@pytest.fixture
def tunnel() -> Iterator[tuple[TunLink, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = TunLink(near.detach(), name="tun9", mtu=1500, mac=MAC, peer_mac=PEER)
    yield link, far
    link.close()
    far.close()


def vnet(flags: int, gso: int, header_length: int, gso_size: int, start: int, offset: int) -> bytes:
    return struct.pack("<BBHHHH", flags, gso, header_length, gso_size, start, offset)


async def test_tun_packets_get_an_ethernet_header_and_lose_it(tunnel: tuple[TunLink, socket.socket]) -> None:
    link, far = tunnel
    far.send(vnet(0, 0, 0, 0, 0, 0) + IPV4)
    far.send(vnet(0, 0, 0, 0, 0, 0) + b"\x60" + bytes(39))
    far.send(vnet(1, 1, 40, 1460, 20, 16) + IPV4)
    assert link.read_batch(8) == [
        bytes(10) + ETHERNET_IN + IPV4,
        bytes(10) + ETHERNET_IN[:12] + b"\x86\xdd\x60" + bytes(39),
        # Offsets count from the start of the Ethernet frame, as on a TAP.
        vnet(1, 1, 54, 1460, 34, 16) + ETHERNET_IN + IPV4,
    ]
    link.write_batch(
        [
            bytes(10) + ETHERNET_OUT + IPV4,
            bytes(10) + b"\xff" * 6 + MAC + b"\x08\x06" + bytes(28),  # ARP
            [vnet(1, 1, 54, 1460, 34, 16) + ETHERNET_OUT + IPV4, b"one", memoryview(b"two")],
        ]
    )
    assert far.recv(4096) == bytes(10) + IPV4
    assert far.recv(4096) == vnet(1, 1, 40, 1460, 20, 16) + IPV4 + b"onetwo"
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.recv(4096)


async def test_tun_packets_that_are_no_ipv4_are_counted_by_the_stack(
    tunnel: tuple[TunLink, socket.socket],
) -> None:
    link, far = tunnel
    interface = make_interface(mac=MAC, vnet_header=True)
    for packet in (b"\x60" + bytes(39), b"", b"\x44" + bytes(30), bytes(40)):
        far.send(bytes(10) + packet)
    for frame in link.read_batch(8):
        interface.receive_frame(frame, 0)
    counters = interface.counters
    assert (counters.dropped_unknown_ethertype, counters.dropped_malformed) == (1, 3)


async def test_tun_packets_of_any_length_come_whole_and_the_end_is_told(
    tunnel: tuple[TunLink, socket.socket],
) -> None:
    link, far = tunnel
    packets = [
        b"\x45" + bytes([number]) * (length - 1) for number, length in enumerate((65_535, 1, 40, 9000))
    ]
    for number, packet in enumerate(packets):
        far.send((vnet(1, 1, 40, 1460, 20, 16) if number % 2 else bytes(10)) + packet)
    heads = [bytes(10), vnet(1, 1, 54, 1460, 34, 16)]
    frames = [heads[number % 2] + ETHERNET_IN + packet for number, packet in enumerate(packets)]
    assert link.read_batch(3) == frames[:3]
    far.close()
    assert link.read_batch(3) == frames[3:]
    with pytest.raises(HostError, match="the network device tun9 is gone: reading"):
        link.read_batch(3)


async def test_packet_link_that_is_down_waits_and_one_that_is_removed_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        link = PacketLink(near, name="eth9", mtu=1500)

        def fail(fd: int, size: int) -> bytes:
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))

        monkeypatch.setattr(os, "read", fail)
        monkeypatch.setattr(fcntl, "ioctl", lambda *_: b"")
        assert link.read_batch(4) == []

        def missing(*_: object) -> bytes:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

        monkeypatch.setattr(fcntl, "ioctl", missing)
        with pytest.raises(HostError, match="the network device eth9 is gone: reading gave Network is down"):
            link.read_batch(4)
