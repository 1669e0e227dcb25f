"""The rings of AF_XDP, with a test in the kernel's place: nothing is lost, nothing is in two places."""

from __future__ import annotations

import mmap
import random
import socket
import struct
from typing import TYPE_CHECKING, cast

import pytest

from appliance.shell.xdp_link import QueueRings, XdpLink, _head_of
from appliance.wire.checksum import fold
from appliance.wire.fields import sum_words

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

CHUNK = 2048
CHUNKS = 8
VNET = 10
HEADROOM = 256
PLAIN = bytes(VNET)


class Ring:
    """As `netns.xdp.Ring`: two indices and flags, then the entries."""

    def __init__(self, size: int, words: int) -> None:
        self.area, self.first = mmap.mmap(-1, 64 + size * words * 8), 64
        view = memoryview(self.area)
        self.memory = view.cast("I")
        self.producer, self.consumer, self.flags = 0, 1, 2
        self.memory[self.flags] = 1  # XDP_RING_NEED_WAKEUP
        self.entries = view[64:].cast("Q")
        self.size = size
        self.words = words

    def put(self, *entry: int) -> None:
        at = self.memory[self.producer]
        first = at % self.size * self.words
        for number, word in enumerate(entry):
            self.entries[first + number] = word
        self.memory[self.producer] = (at + 1) & 0xFFFF_FFFF

    def take(self) -> tuple[int, ...] | None:
        at = self.memory[self.consumer]
        if at == self.memory[self.producer]:
            return None
        first = at % self.size * self.words
        self.memory[self.consumer] = (at + 1) & 0xFFFF_FFFF
        return tuple(self.entries[first : first + self.words])


class KernelSide:
    """A queue, and what the kernel does at its other side."""

    def __init__(self, *, has_metadata: bool = True) -> None:
        self.socket, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.umem = mmap.mmap(-1, 2 * CHUNKS * CHUNK)
        self.chunk_bytes = CHUNK
        self.rx_chunks = self.tx_chunks = CHUNKS
        self.has_metadata = has_metadata
        self.rx, self.tx = Ring(CHUNKS, 2), Ring(CHUNKS, 2)
        self.fill, self.completion = Ring(CHUNKS, 1), Ring(CHUNKS, 1)

    def deliver(self, frame: bytes) -> bool:
        """A frame arrives; False when there is no chunk for it."""
        taken = self.fill.take()
        if taken is None:
            return False
        address = taken[0] // CHUNK * CHUNK + HEADROOM  # the kernel masks what it gets
        self.umem[address : address + len(frame)] = frame
        self.rx.put(address, len(frame))
        return True

    def transmit(self) -> list[tuple[bytes, bytes]]:
        """All frames that were sent, each with its metadata or b""."""
        frames = []
        while (entry := self.tx.take()) is not None:
            address, second = entry
            length, options = second & 0xFFFF_FFFF, second >> 32
            metadata = bytes(self.umem[address - 24 : address]) if options == 2 else b""
            assert address // CHUNK == (address + length - 1) // CHUNK
            frames.append((bytes(self.umem[address : address + length]), metadata))
            self.completion.put(address)
        return frames


@pytest.fixture
def kernel() -> Iterator[KernelSide]:
    side = KernelSide()
    yield side
    side.socket.close()
    side.far.close()


def test_frames_arrive_in_order_through_many_turns_of_the_ring(kernel: KernelSide) -> None:
    rings = QueueRings(kernel, False)
    chance = random.Random(7)
    sent, got = [], []
    for number in range(500):
        frame = number.to_bytes(4, "big") * chance.randint(4, 300)
        if kernel.deliver(frame):
            sent.append(frame)
        if chance.random() < 0.4:
            frames: list[bytes] = []
            rings.receive(frames, chance.randint(1, 12))
            got += [bytes(frame) for frame in frames]
    frames = []
    rings.receive(frames, 100)
    got += frames
    assert len(sent) > 200
    assert [frame[VNET:] for frame in got] == sent
    assert {bytes(frame[:VNET]) for frame in got} == {PLAIN}
    assert not rings.has_frames()


def test_no_chunk_is_ever_lost(kernel: KernelSide) -> None:
    rings = QueueRings(kernel, False)
    for _ in range(50):
        while kernel.deliver(b"x" * 60):
            pass
        frames: list[bytes] = []
        rings.receive(frames, 100)
        assert len(frames) == CHUNKS
        assert rings.send([PLAIN + b"y" * 60] * CHUNKS) == 0
        assert len(kernel.transmit()) == CHUNKS


def test_frames_leave_whole_in_parts_and_with_metadata(kernel: KernelSide) -> None:
    rings = QueueRings(kernel, False)
    partial = struct.pack("<BBHHHH", 1, 0, 54, 0, 34, 16)
    assert rings.send([PLAIN + b"a" * 100, [partial + b"b" * 54, b"c" * 10, memoryview(b"d" * 20)]]) == 0
    whole, parts = kernel.transmit()
    assert whole == (b"a" * 100, b"")
    # struct xsk_tx_metadata: flags with XDP_TXMD_FLAGS_CHECKSUM, csum_start, csum_offset.
    frame, metadata = parts
    assert frame == b"b" * 54 + b"c" * 10 + b"d" * 20
    assert metadata[:12] == struct.pack("<QHH", 2, 34, 16)


def test_checksum_at_another_place_has_metadata_of_its_own(kernel: KernelSide) -> None:
    rings = QueueRings(kernel, False)
    usual = struct.pack("<BBHHHH", 1, 0, 54, 0, 34, 16) + b"u" * 60
    other = struct.pack("<BBHHHH", 1, 0, 58, 0, 38, 16) + b"o" * 60
    for _ in range(CHUNKS):
        assert rings.send([usual, other, usual, PLAIN + b"p" * 60]) == 0
        sent = [(frame[:1], metadata[:12]) for frame, metadata in kernel.transmit()]
        assert sent == [
            (b"u", struct.pack("<QHH", 2, 34, 16)),
            (b"o", struct.pack("<QHH", 2, 38, 16)),
            (b"u", struct.pack("<QHH", 2, 34, 16)),
            (b"p", b""),
        ]


def test_without_a_free_chunk_frames_are_dropped_and_come_again_when_some_are_done(
    kernel: KernelSide,
) -> None:
    rings = QueueRings(kernel, False)
    assert rings.send([PLAIN + b"a" * 60] * (CHUNKS + 3)) == 3
    assert len(kernel.transmit()) == CHUNKS
    assert rings.send([PLAIN + b"b" * 60] * 2) == 0
    assert [frame for frame, _ in kernel.transmit()] == [b"b" * 60] * 2


def test_frame_larger_than_a_chunk_is_dropped_and_costs_no_chunk(kernel: KernelSide) -> None:
    rings = QueueRings(kernel, False)
    for _ in range(3 * CHUNKS):
        assert rings.send([PLAIN + bytes(CHUNK)]) == 1
        assert rings.send([[PLAIN + bytes(100), bytes(CHUNK)]]) == 1
    assert kernel.transmit() == []
    assert rings.send([PLAIN + bytes(CHUNK - 64)]) == 0


def segment(payload: bytes = b"hello") -> bytearray:
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 1, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    tcp = struct.pack("!HHIIBBHHH", 1000, 6379, 1, 1, 0x50, 0x18, 1000, 0, 0)
    return bytearray(bytes(12) + b"\x08\0" + ip + tcp + payload)


def pseudo(frame: bytearray) -> int:
    length = struct.pack("!HH", 6, len(frame) - 34)
    return fold(sum_words(bytes(frame[26:34]) + length, 0, 12))


def with_checksum(frame: bytearray, value: int) -> bytes:
    return bytes(frame[:50]) + value.to_bytes(2, "big") + bytes(frame[52:])


def test_without_metadata_the_checksum_is_summed_here() -> None:
    kernel = KernelSide(has_metadata=False)
    try:
        rings = QueueRings(kernel, False)
        frame = segment()
        partial = struct.pack("<BBHHHH", 1, 0, 54, 0, 34, 16) + with_checksum(frame, pseudo(frame))
        rings.send([partial, [partial[:64], memoryview(partial)[64:]]])
        one, other = kernel.transmit()
        assert one == other
        assert one[1] == b""
        whole = one[0]
        assert fold(pseudo(bytearray(whole)) + sum_words(whole, 34, len(whole))) == 0xFFFF
    finally:
        kernel.socket.close()
        kernel.far.close()


def test_head_of_a_veth_is_told_from_whole_and_damaged_ones(kernel: KernelSide) -> None:
    frame = segment()
    partial = with_checksum(frame, pseudo(frame))
    right = fold(pseudo(frame) + sum_words(bytes(frame), 34, len(frame))) ^ 0xFFFF
    assert _head_of(PLAIN + partial) == struct.pack("<BBHHHH", 1, 0, 0, 0, 34, 16)
    assert _head_of(PLAIN + with_checksum(frame, right)) == PLAIN
    assert _head_of(PLAIN + with_checksum(frame, pseudo(frame) ^ 0x0100)) == PLAIN
    for end in range(len(partial)):
        _head_of(PLAIN + partial[:end])  # whatever comes, no exception
    rings = QueueRings(kernel, True)
    kernel.deliver(partial)
    kernel.deliver(with_checksum(frame, right))
    frames: list[bytes] = []
    rings.receive(frames, 8)
    assert [one[0] for one in frames] == [1, 0]
    assert frames[0][VNET:] == partial


def test_partial_checksum_of_udp_and_behind_ip_options(kernel: KernelSide) -> None:
    addresses = b"\x0a\0\0\1\x0a\0\0\2"

    def frame_of(protocol: int, options: bytes, segment: bytes, field: int) -> bytes:
        total = fold(sum_words(addresses + struct.pack("!HH", protocol, len(segment)), 0, 12))
        segment = segment[:field] + total.to_bytes(2, "big") + segment[field + 2 :]
        length = 20 + len(options) + len(segment)
        head = struct.pack("!BBHIBBH", 0x40 | (5 + len(options) // 4), 0, length, 0, 64, protocol, 0)
        return bytes(12) + b"\x08\0" + head + addresses + options + segment

    frames = [
        (frame_of(17, b"", struct.pack("!HHHH", 1, 2, 8, 0), 6), 34, 6),
        (frame_of(17, b"\1\1\1\0", struct.pack("!HHHH", 1, 2, 11, 0) + b"abc", 6), 38, 6),
        (frame_of(6, b"\1\1\1\0", bytes(segment()[34:]), 16), 38, 16),
        (frame_of(6, b"", bytes(segment()[34:]), 16), 34, 16),
    ]
    rings = QueueRings(kernel, True)
    for frame, start, offset in frames * 5:
        kernel.deliver(frame)
        got: list[bytes] = []
        rings.receive(got, 8)
        assert got == [struct.pack("<BBHHHH", 1, 0, 0, 0, start, offset) + frame]


def test_chunk_that_held_a_partial_checksum_may_hold_anything_next(kernel: KernelSide) -> None:
    rings = QueueRings(kernel, True)
    frame = segment()
    partial = with_checksum(frame, pseudo(frame))
    whole = with_checksum(frame, pseudo(frame) ^ 0x0100)
    chance = random.Random(11)
    for _ in range(40):
        sent = [chance.choice([partial, whole, b"\xff" * 60]) for _ in range(CHUNKS)]
        for one in sent:
            assert kernel.deliver(one)
        frames: list[bytes] = []
        rings.receive(frames, CHUNKS)
        assert [one[VNET:] for one in frames] == sent
        assert [one[0] for one in frames] == [one is partial for one in sent]
        assert all(one[:VNET] == PLAIN for one in frames if not one[0])


def test_who_waits_has_given_everything_back(kernel: KernelSide) -> None:
    # The socket is readable for as long as the kernel sees entries in its receive ring.
    link = XdpLink([kernel], name="eth9", mtu=1500)
    try:
        for wait in (
            lambda: link.nap(0),
            lambda: cast("Coroutine[None, None, None]", link.wait_readable()).close(),
        ):
            kernel.deliver(b"a" * 60)
            assert len(link.read_batch(8)) == 1
            wait()
            assert kernel.rx.memory[kernel.rx.consumer] == kernel.rx.memory[kernel.rx.producer]
            assert (
                kernel.fill.memory[kernel.fill.producer] - kernel.fill.memory[kernel.fill.consumer]
            ) == CHUNKS
    finally:
        link.close()


def test_what_the_kernel_did_not_take_is_asked_for_again(kernel: KernelSide) -> None:
    link = XdpLink([kernel], name="eth9", mtu=1500)
    try:
        link.write_batch([PLAIN + b"a" * 60])
        asked = _asked(kernel)
        assert asked > 0
        assert link.read_batch(8) == []
        assert _asked(kernel) > 0
        kernel.transmit()
        assert link.read_batch(8) == []
        _asked(kernel)
        assert link.read_batch(8) == []
        assert _asked(kernel) == 0
    finally:
        link.close()


def _asked(kernel: KernelSide) -> int:
    """How often the process has called since the last look."""
    count = 0
    kernel.far.setblocking(False)
    while True:
        try:
            kernel.far.recv(1)
        except BlockingIOError:
            return count
        count += 1


def test_several_queues_are_one_link_and_all_are_heard() -> None:
    sides = [KernelSide(), KernelSide()]
    link = XdpLink(sides, name="eth9", mtu=1500)
    try:
        assert (link.vnet_header, link.gso, link.gathers) == (True, False, True)
        assert link.read_batch(8) == []
        assert not link.spin(0)
        sides[1].deliver(b"one" * 20)
        sides[0].deliver(b"two" * 20)
        assert link.nap(0)
        assert {frame[VNET : VNET + 3] for frame in link.read_batch(8)} == {b"two", b"one"}
        sides[0].deliver(b"three" * 20)
        sides[1].deliver(b"four" * 20)
        assert len(link.read_batch(1)) == 1
        assert len(link.read_batch(8)) == 1
        link.write_batch([PLAIN + b"out" * 20])
        assert sides[0].transmit() == [(b"out" * 20, b"")]
    finally:
        link.close()
        link.close()
        for side in sides:
            side.socket.close()
            side.far.close()


def between(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """A TCP segment without a virtio-net header."""
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    return (
        bytes(12)
        + b"\x08\0\x45"
        + bytes(11)
        + addresses
        + struct.pack("!HH", source[1], destination[1])
        + bytes(40)
    )


def test_with_several_queues_an_answer_leaves_by_the_queue_of_its_question() -> None:
    sides = [KernelSide(), KernelSide(), KernelSide()]
    link = XdpLink(sides, name="eth9", mtu=1500)
    server = ("10.0.0.2", 6379)
    clients = [("10.0.0.1", port) for port in (1000, 1001, 1002)] + [("10.0.0.3", 1000)]
    try:
        queues = [2, 0, 1, 1]
        for client, queue in zip(clients, queues, strict=True):
            assert sides[queue].deliver(between(client, server))
        assert len(link.read_batch(8)) == 4
        stranger = between(server, ("10.0.0.9", 9))
        answers = [between(server, client) for client in clients]
        parts = [PLAIN + answers[0], b"tail"]
        link.write_batch(
            [PLAIN + answers[3], parts, PLAIN + answers[1], PLAIN + stranger, PLAIN + answers[2]]
        )
        sent = [[frame for frame, _ in side.transmit()] for side in sides]
        assert sent == [[answers[1], stranger], [answers[3], answers[2]], [answers[0] + b"tail"]]
        # Whoever now comes in by another queue is answered there.
        sides[0].deliver(between(clients[0], server))
        assert len(link.read_batch(8)) == 1
        link.write_batch([PLAIN + answers[0]])
        assert [len(side.transmit()) for side in sides] == [1, 0, 0]
        link.write_batch([PLAIN + bytes(14)])  # too short to be anybody's
        assert [len(side.transmit()) for side in sides] == [1, 0, 0]
    finally:
        link.close()
        for side in sides:
            side.socket.close()
            side.far.close()


def test_queue_that_is_never_empty_does_not_keep_the_others_waiting() -> None:
    sides = [KernelSide(), KernelSide()]
    link = XdpLink(sides, name="eth9", mtu=1500)
    try:
        sides[1].deliver(b"one" * 20)
        got = []
        for _ in range(2):
            sides[0].deliver(b"two" * 20)
            got += [frame[VNET : VNET + 3] for frame in link.read_batch(1)]
        assert sorted(got) == [b"one", b"two"]
    finally:
        link.close()
        for side in sides:
            side.socket.close()
            side.far.close()
