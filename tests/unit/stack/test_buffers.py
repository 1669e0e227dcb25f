"""The buffers against plain models: a bytearray, and a dictionary of positions."""

from __future__ import annotations

import itertools

from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.stack.tcp.buffers import Reassembly, ReceiveBuffer, SendBuffer

SIZES = st.one_of(st.integers(0, 20), st.integers(0, 9000))


_PERIOD = bytes(index * 7 % 251 for index in range(251)) * 40


def pattern(start: int, length: int) -> bytes:
    return _PERIOD[start % 251 :][:length]


class SendBufferAgainstBytearray(RuleBasedStateMachine):
    @initialize()
    def empty(self) -> None:
        self.buffer = SendBuffer()
        self.model = bytearray()
        self.written = 0

    @rule(length=SIZES)
    def append(self, length: int) -> None:
        data = pattern(self.written, length)
        self.written += length
        self.buffer.append(data)
        self.model += data

    @rule(count=st.integers(1, 100))
    def append_many_small(self, count: int) -> None:
        for _ in range(count):
            self.append(3000)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, len(self.model)))
        self.buffer.advance(count)
        del self.model[:count]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def peek(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(0, len(self.model) - 1))
        count = data.draw(st.integers(1, len(self.model) - offset))
        assert self.buffer.peek(offset, count) == self.model[offset : offset + count]
        parts: list[bytes | memoryview] = []
        self.buffer.peek_into(parts, offset, count)
        assert b"".join(parts) == self.model[offset : offset + count]

    @precondition(lambda self: self.model)
    @rule(step=st.integers(1, 3000))
    def peek_along(self, step: int) -> None:
        """As the sender does: segment after segment, so that the cursor moves."""
        for offset in range(0, min(len(self.model), 20 * step), step):
            count = min(step, len(self.model) - offset)
            assert self.buffer.peek(offset, count) == self.model[offset : offset + count]

    @invariant()
    def size_agrees(self) -> None:
        if hasattr(self, "buffer"):
            assert self.buffer.size == len(self.model)


class ReceiveBufferAgainstBytearray(RuleBasedStateMachine):
    @initialize()
    def empty(self) -> None:
        self.buffer = ReceiveBuffer()
        self.model = bytearray()
        self.written = 0

    @rule(length=st.integers(1, 3000), start=st.integers(0, 80))
    def append(self, length: int, start: int = 0) -> None:
        data = pattern(self.written, length)
        self.written += length
        self.buffer.append(bytes(start) + data, start)
        self.model += data

    @rule(count=st.integers(1, 200), start=st.integers(0, 80))
    def append_many_small(self, count: int, start: int) -> None:
        for _ in range(count):
            self.append(2, start)

    @rule(max_bytes=SIZES)
    def take(self, max_bytes: int) -> None:
        taken = self.buffer.take(max_bytes)
        assert taken == self.model[:max_bytes]
        del self.model[:max_bytes]

    @rule(length=st.integers(10_000, 40_000), start=st.integers(0, 80))
    def append_large(self, length: int, start: int) -> None:
        self.append(length, start)

    @rule(max_bytes=st.integers(0, 50_000))
    def take_piece(self, max_bytes: int) -> None:
        piece = self.buffer.take_piece(max_bytes)
        taken = piece[self.buffer.piece_start :]
        assert bool(taken) == bool(self.model and max_bytes)
        assert len(taken) <= max_bytes
        assert taken == self.model[: len(taken)]
        del self.model[: len(taken)]

    @invariant()
    def size_agrees(self) -> None:
        if hasattr(self, "buffer"):
            assert self.buffer.size == len(self.model)


TestSendBuffer = SendBufferAgainstBytearray.TestCase
TestReceiveBuffer = ReceiveBufferAgainstBytearray.TestCase


def test_send_buffer_keeps_large_pieces_by_reference() -> None:
    buffer = SendBuffer()
    big = bytes(100_000)
    buffer.append(big)
    assert buffer.peek(0, len(big)) is big


def test_receive_buffer_hands_a_large_piece_over_uncopied() -> None:
    buffer = ReceiveBuffer()
    big = bytes(20_000)
    buffer.append(big)
    buffer.append(b"more")
    assert buffer.take_piece(65_536) is big
    assert buffer.take_piece(65_536) == b"more"


def test_receive_buffer_hands_a_lone_piece_over_in_its_frame() -> None:
    buffer = ReceiveBuffer()
    frame = b"headers" + b"payload"
    buffer.append(frame, 7)
    assert buffer.take_piece(65_536) is frame
    assert buffer.piece_start == 7
    assert buffer.size == 0
    assert buffer.take_piece(65_536) == b""


def test_receive_buffer_does_not_keep_frames_for_a_few_bytes() -> None:
    buffer = ReceiveBuffer()
    for _ in range(100):
        buffer.append(bytes(1000), 999)
    assert sum(map(len, buffer._pieces)) == 99


def test_send_buffer_gives_views_of_large_pieces() -> None:
    buffer = SendBuffer()
    big = bytes(100_000)
    buffer.append(b"$100000\r\n")
    buffer.append(big)
    parts: list[bytes | memoryview] = []
    buffer.peek_into(parts, 0, 60_000)
    assert isinstance(parts[1], memoryview)
    assert parts[1].obj is big
    parts = []
    buffer.peek_into(parts, 9, 100_000)
    assert parts[0] is big


def test_send_buffer_gives_back_what_was_acknowledged() -> None:
    buffer = SendBuffer()
    for _ in range(1000):
        buffer.append(bytes(5000))
    buffer.advance(999 * 5000)
    assert len(buffer._pieces) < 200
    assert sum(map(len, buffer._pieces)) == 5000


def test_receive_buffer_gives_back_what_was_read() -> None:
    buffer = ReceiveBuffer()
    for _ in range(1000):
        buffer.append(bytes(5000))
    buffer.take(999 * 5000)
    assert len(buffer._pieces) < 200
    assert len(buffer._head) + sum(map(len, buffer._pieces)) == 5000


@given(
    segments=st.lists(st.tuples(st.integers(0, 120), st.integers(1, 40), st.integers(0, 255)), max_size=30),
    positions=st.lists(st.integers(0, 150), max_size=5),
)
def test_reassembly_first_byte_stays_whatever_the_overlap(
    segments: list[tuple[int, int, int]], positions: list[int]
) -> None:
    queue = Reassembly()
    model: dict[int, int] = {}
    taken_up_to = 0
    waiting = sorted(positions)
    for index, (start, length, value) in enumerate(segments):
        if start < taken_up_to:
            continue
        queue.add(start, bytes((value,)) * length)
        for position in range(start, start + length):
            model.setdefault(position, value)
        check(queue, model)
        if waiting and index % 6 == 5:
            position = max(waiting.pop(0), taken_up_to)
            got = b"".join(queue.take_at(position))
            expected = bytearray()
            while position + len(expected) in model:
                expected.append(model[position + len(expected)])
            assert got == expected
            taken_up_to = position + len(expected)
            model = {where: value for where, value in model.items() if where >= taken_up_to}
            check(queue, model)


def check(queue: Reassembly, model: dict[int, int]) -> None:
    assert queue.size == len(model)
    blocks = queue.blocks()
    assert len(queue) == len(blocks)
    assert all(start < end for start, end in blocks)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(blocks))
    assert {position for start, end in blocks for position in range(start, end)} == set(model)


def test_reassembly_take_at_trims_what_is_old() -> None:
    queue = Reassembly()
    queue.add(10, b"abcdef")
    queue.add(20, b"xyz")
    assert queue.take_at(5) == []
    assert queue.take_at(13) == [b"def"]
    assert queue.take_at(30) == []
    assert len(queue) == 0
    assert queue.size == 0


def test_reassembly_clear_forgets_all() -> None:
    queue = Reassembly()
    queue.add(10, b"abc")
    queue.clear()
    assert queue.blocks() == []
    assert queue.size == 0
