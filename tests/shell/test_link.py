"""Links: batches, limits, and what a vanished device looks like."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from appliance.errors import HostError
from appliance.shell.link import TapLink, memory_link_pair

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
