"""The send buffer, the receive buffer, and the reassembly queue before it.

Bytes are kept as the pieces they came in, by reference. A 64 MiB value that the application sends is never
copied into a buffer: a link that gathers gets views of it, others slices. A received payload stays in its
frame until somebody reads it.

Units:      bytes; reassembly keys are distances from the start of the stream, so they never wrap.
Invariants: SendBuffer.size is the sum of its pieces; its first byte is SND.UNA. Pieces of Reassembly are
            sorted and do not overlap, and all lie above RCV.NXT.
"""

from typing import Final

from mypy_extensions import i64

__all__ = ["WORTH_KEEPING_WHOLE", "Reassembly", "ReceiveBuffer", "SendBuffer"]

# Small writes are joined up to this size, so that a thousand 10-byte sends are not a thousand pieces.
_JOIN_BELOW: Final = 4096
# Spent pieces at the front of a list are removed in one go when there are this many.
_COMPACT_AT: Final = 64
# Making a view costs as much as copying this many bytes.
_VIEW_FROM: Final = 2048
# A smaller payload is taken out of its frame when it has to wait behind another one: a peer that sends single
# bytes to a slow reader must not make us keep whole frames.
_SLICE_BELOW: Final = 4096
# Below this, joining pieces costs less than handing over each by itself.
WORTH_KEEPING_WHOLE: Final = 16_384
# More than the blocks that fit in a SACK option, because several positions may lie in one island.
_RECENT_ISLANDS: Final = 8


class SendBuffer:
    """Bytes from SND.UNA on: in flight first, then not yet sent."""

    def __init__(self) -> None:
        self.size: i64 = 0
        self._pieces: list[bytes] = []
        self._first: i64 = 0  # index of the piece with the first byte; those before it are spent
        self._skip: i64 = 0  # bytes of that piece already acknowledged
        # Where the last read ended, so that sending on is O(1): piece index and its first byte's offset.
        self._cursor: i64 = 0
        self._cursor_offset: i64 = 0

    def append(self, data: bytes) -> None:
        length: i64 = len(data)
        if length == 0:
            return
        pieces = self._pieces
        count: i64 = len(pieces)
        if length < _JOIN_BELOW and count > self._first:
            last = pieces[count - 1]
            if len(last) + length <= _JOIN_BELOW:
                pieces[count - 1] = last + data
                self.size += length
                return
        pieces.append(data)
        self.size += length

    def advance(self, count: i64) -> None:
        """Drop `count` bytes from the front: they were acknowledged."""
        assert 0 <= count <= self.size
        self.size -= count
        if self.size == 0:
            # Most replies end here: sent whole, acknowledged whole.
            if len(self._pieces) == 1:
                self._pieces.pop()  # half the price of clear()
            else:
                self._pieces.clear()
            self._first = 0
            self._skip = 0
            self._cursor = 0
            self._cursor_offset = 0
            return
        pieces = self._pieces
        rest = count + self._skip
        index = self._first
        length: i64 = len(pieces[index])
        while rest >= length:
            rest -= length
            pieces[index] = b""  # release it now, the list is compacted later
            index += 1
            length = len(pieces[index])
        self._first = index
        self._skip = rest
        if self._cursor < index:
            self._cursor = index
            self._cursor_offset = -rest
        else:
            self._cursor_offset -= count
        if index >= _COMPACT_AT and index * 2 >= len(pieces):
            del pieces[:index]
            self._first = 0
            self._cursor -= index

    def peek(self, offset: i64, count: i64) -> bytes:
        """The `count` bytes that lie `offset` bytes behind SND.UNA."""
        assert offset >= 0
        assert offset + count <= self.size
        pieces = self._pieces
        index = self._cursor
        start = self._cursor_offset  # offset of the piece's first byte, relative to SND.UNA
        if index < self._first or offset < start:
            index = self._first
            start = -self._skip
        piece = pieces[index]
        length: i64 = len(piece)
        while offset >= start + length:
            start += length
            index += 1
            piece = pieces[index]
            length = len(piece)
        self._cursor = index
        self._cursor_offset = start
        begin = offset - start
        if begin + count <= length:
            if begin == 0 and count == length:
                return piece
            return piece[begin : begin + count]
        parts = [piece[begin:]]
        missing = count - (length - begin)
        while missing > 0:
            index += 1
            piece = pieces[index]
            length = len(piece)
            if length > missing:
                parts.append(piece[:missing])
                break
            parts.append(piece)
            missing -= length
        return b"".join(parts)

    def peek_into(self, frame: list[bytes | memoryview], offset: i64, count: i64) -> None:
        """Append to `frame`, as views, the bytes that `peek` would give."""
        pieces = self._pieces
        index = self._cursor
        start = self._cursor_offset
        if index < self._first or offset < start:
            index = self._first
            start = -self._skip
        length: i64 = len(pieces[index])
        while offset >= start + length:
            start += length
            index += 1
            length = len(pieces[index])
        self._cursor = index
        self._cursor_offset = start
        begin = offset - start
        while True:
            piece = pieces[index]
            end: i64 = len(piece)
            if end - begin > count:
                end = begin + count
            if begin == 0 and end == len(piece):
                frame.append(piece)
            elif end - begin < _VIEW_FROM:
                frame.append(piece[begin:end])
            else:
                frame.append(memoryview(piece)[begin:end])
            count -= end - begin
            if count == 0:
                return
            index += 1
            begin = 0


class ReceiveBuffer:
    """Bytes in order that the application has not yet read.

    A piece is a bytes object from some position on: a whole frame, mostly, of which the payload is the end.
    """

    def __init__(self) -> None:
        self.size: i64 = 0
        self.piece_start: i64 = 0  # where in the piece that `take_piece` gave the data begin
        self._head: bytes = b""  # the first piece, unread from _start on
        self._start: i64 = 0
        # The pieces behind it with their starts, from _first on; those before are spent.
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self._first: i64 = 0

    def append(self, data: bytes, start: i64 = 0) -> None:
        """Add data[start:], by reference where that does not keep much else alive."""
        length: i64 = len(data) - start
        if self.size == 0:
            self._head = data
            self._start = start
        elif length > 0:
            if length < _SLICE_BELOW and start > 0:
                data = data[start:]
                start = 0
            self._pieces.append(data)
            self._starts.append(start)
        self.size += length

    def take_piece(self, max_bytes: i64) -> bytes:
        """The next bytes of the stream without a copy, if they lie apart: the result from `piece_start` on.

        May give less than there is; b"" when there is nothing. Small pieces come joined, up to max_bytes.
        """
        size = self.size
        length: i64 = len(self._head) - self._start
        if size > 0 and length <= max_bytes and (length == size or length >= WORTH_KEEPING_WHOLE):
            head = self._head
            self.piece_start = self._start
            self.size = size - length
            self._next_head()
            return head
        self.piece_start = 0
        return self.take(max_bytes)

    def _next_head(self) -> None:
        """The head was read to its end."""
        index = self._first
        pieces = self._pieces
        if index >= len(pieces):
            self._head = b""
            self._start = 0
            return
        self._head = pieces[index]
        self._start = self._starts[index]
        pieces[index] = b""
        index += 1
        if index == len(pieces):
            pieces.clear()
            self._starts.clear()
            index = 0
        elif index >= _COMPACT_AT and index * 2 >= len(pieces):
            del pieces[:index]
            del self._starts[:index]
            index = 0
        self._first = index

    def take(self, max_bytes: i64) -> bytes:
        """Up to max_bytes from the front; b"" when there are none."""
        parts: list[bytes] = []
        missing = min(max_bytes, self.size)
        if missing <= 0:
            return b""
        self.size -= missing
        while missing > 0:
            head = self._head
            start = self._start
            rest: i64 = len(head) - start
            if rest <= missing:
                parts.append(head[start:] if start > 0 else head)
                missing -= rest
                self._next_head()
            else:
                parts.append(head[start : start + missing])
                self._start = start + missing
                missing = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Reassembly:
    """Segments that came before the ones in front of them (RFC 9293 SHLD-31).

    Overlap policy: the byte that arrived first stays. So nobody can rewrite data that the peer has
    already delivered, and two copies of a segment cannot disagree.
    """

    def __init__(self) -> None:
        self.size: i64 = 0
        self._starts: list[int] = []
        self._pieces: list[bytes] = []
        self._recent: list[int] = []  # a position inside the islands that grew latest, latest first

    def __len__(self) -> int:
        return len(self._starts)

    def blocks(self) -> list[tuple[int, int]]:
        """(start, end) of each piece in order."""
        return [(start, start + len(piece)) for start, piece in zip(self._starts, self._pieces, strict=True)]

    def islands(self) -> list[tuple[int, int]]:
        """(start, end) of each run without a gap, the ones that grew latest first (RFC 2018 §4)."""
        runs: list[tuple[int, int]] = []
        for start, end in self.blocks():
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((start, end))
        ordered: list[tuple[int, int]] = []
        for position in self._recent:
            for run in runs:
                if run[0] <= position < run[1]:
                    if run not in ordered:
                        ordered.append(run)
                    break
        for run in runs:
            if run not in ordered:
                ordered.append(run)
        return ordered

    def add(self, start: i64, data: bytes) -> int:
        """Keep what of `data`, which begins at position `start`, is new; returns how many bytes were."""
        before = self.size
        self._recent.insert(0, start)
        del self._recent[_RECENT_ISLANDS:]
        self._fill(start, data)
        return self.size - before

    def overlap(self, start: i64, end: i64) -> tuple[int, int] | None:
        """(start, end) of the first run without a gap that is kept within start .. end; None for none."""
        first: i64 = -1
        last: i64 = -1
        index: i64 = self._position(start)
        if index > 0:
            index -= 1
        while index < len(self._starts):
            piece_start: i64 = self._starts[index]
            piece_end: i64 = piece_start + len(self._pieces[index])
            if piece_start >= end or (first >= 0 and piece_start != last):
                break
            if piece_end > start:
                if first < 0:
                    first = max(piece_start, start)
                last = piece_end
            index += 1
        if first < 0:
            return None
        return first, min(last, end)

    def _fill(self, start: i64, data: bytes) -> None:
        starts = self._starts
        pieces = self._pieces
        end: i64 = start + len(data)
        index: i64 = self._position(start)
        # The piece before may cover our front.
        if index > 0:
            before_end: i64 = starts[index - 1] + len(pieces[index - 1])
            if before_end >= end:
                return
            if before_end > start:
                data = data[before_end - start :]
                start = before_end
        # Pieces behind: fill the gaps between them.
        while start < end:
            if index == len(starts) or i64(starts[index]) >= end:
                self._insert(index, start, data)
                return
            next_start: i64 = starts[index]
            next_end: i64 = next_start + len(pieces[index])
            if next_start > start:
                self._insert(index, start, data[: next_start - start])
                index += 1
            if next_end >= end:
                return
            data = data[next_end - start :]
            start = next_end
            index += 1

    def take_at(self, position: i64) -> list[bytes]:
        """Remove and return the pieces that continue the stream from `position`."""
        starts = self._starts
        pieces = self._pieces
        taken: list[bytes] = []
        count: i64 = 0
        for index in range(len(starts)):
            start: i64 = starts[index]
            if start > position:
                break
            piece = pieces[index]
            end: i64 = start + len(piece)
            count += 1
            self.size -= len(piece)
            if end > position:
                taken.append(piece[position - start :] if start < position else piece)
                position = end
        if count:
            del starts[:count]
            del pieces[:count]
        return taken

    def clear(self) -> None:
        self._starts.clear()
        self._pieces.clear()
        self.size = 0

    def _insert(self, index: i64, start: i64, data: bytes) -> None:
        self._starts.insert(index, start)
        self._pieces.insert(index, data)
        self.size += len(data)

    def _position(self, start: i64) -> i64:
        """Index of the first piece that begins behind `start` (a binary search)."""
        low: i64 = 0
        high: i64 = len(self._starts)
        while low < high:
            middle = (low + high) >> 1
            if i64(self._starts[middle]) <= start:
                low = middle + 1
            else:
                high = middle
        return low
