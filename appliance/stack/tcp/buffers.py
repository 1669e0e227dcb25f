"""The send buffer, the receive buffer, and the reassembly queue before it.

Bytes are kept as the pieces they came in, by reference: a 64 MiB value that the application sends is
never copied into a buffer, only sliced into segments; a received payload is sliced once out of its frame.

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


class ReceiveBuffer:
    """Bytes in order that the application has not yet read."""

    def __init__(self) -> None:
        self.size: i64 = 0
        self._pieces: list[bytes] = []
        self._first: i64 = 0  # index of the piece with the next byte; those before it are spent
        self._skip: i64 = 0  # bytes of that piece already read

    def append(self, data: bytes) -> None:
        self._pieces.append(data)
        self.size += len(data)

    def take(self, max_bytes: i64) -> bytes:
        """Up to max_bytes from the front; b"" when there are none."""
        if self.size == 0 or max_bytes <= 0:
            return b""
        pieces = self._pieces
        if self.size <= max_bytes:
            if self._skip:
                pieces[self._first] = pieces[self._first][self._skip :]
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._first = 0
            self._skip = 0
            self.size = 0
            return data
        parts: list[bytes] = []
        missing = max_bytes
        index = self._first
        while missing > 0:
            piece = pieces[index]
            rest: i64 = len(piece) - self._skip
            if rest <= missing:
                parts.append(piece[self._skip :] if self._skip else piece)
                pieces[index] = b""
                missing -= rest
                index += 1
                self._skip = 0
            else:
                parts.append(piece[self._skip : self._skip + missing])
                self._skip += missing
                missing = 0
        self._first = index
        if index >= _COMPACT_AT and index * 2 >= len(pieces):
            del pieces[:index]
            self._first = 0
        self.size -= max_bytes
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def take_whole(self, max_bytes: i64) -> bytes:
        """Like `take`, but a large piece comes alone and uncopied, so the call may give less than there is."""
        if self.size > 0 and self._skip == 0:
            piece = self._pieces[self._first]
            length: i64 = len(piece)
            if WORTH_KEEPING_WHOLE <= length <= max_bytes and length < self.size:
                self._pieces[self._first] = b""
                self._first += 1
                self.size -= length
                return piece
        return self.take(max_bytes)


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
