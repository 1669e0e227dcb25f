"""What is in flight: every segment that was sent and not yet cumulatively acknowledged.

Source:     RFC 6675 §3 (pipe), RFC 8985 §5 (what is kept per segment), RFC 2018 §8 (SACK is advice: data stay
            until cumulatively acknowledged).
Units:      positions are distances from the first data byte that we sent, and never wrap; FIN takes one.
Invariants: the segments cover una .. end without gap or overlap, in order; sacked_bytes and lost_bytes are
            the sums of their flags; no segment is both; pipe() >= 0.

A segment here is one transmission: where the link segments for us it may be 64 KiB. SACK blocks and partial
acknowledgments split it.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

__all__ = ["Scoreboard", "SentSegment"]

_COMPACT_AT: Final = 64


class SentSegment:
    """start, end: positions. sent_at: of the latest transmission."""

    def __init__(self, start: i64, end: i64, sent_at: i64) -> None:
        self.start: i64 = start
        self.end: i64 = end
        self.sent_at: i64 = sent_at
        self.retransmissions: i64 = 0
        self.is_sacked: bool = False
        self.is_lost: bool = False  # presumed lost, and not sent again since


class Scoreboard:
    def __init__(self) -> None:
        self.segments: list[SentSegment] = []
        self.first: i64 = 0  # index of the segment at `una`; those before it are done with
        self.una: i64 = 0
        self.end: i64 = 0
        self.sacked_bytes: i64 = 0
        self.lost_bytes: i64 = 0
        self.sacked_segments: i64 = 0
        self.highest_sacked: i64 = 0

    def pipe(self) -> i64:
        """Bytes believed to be in the network: neither acknowledged, nor SACKed, nor presumed lost."""
        return self.end - self.una - self.sacked_bytes - self.lost_bytes

    def outstanding(self) -> i64:
        return self.end - self.una

    def in_flight(self) -> list[SentSegment]:
        """The segments, oldest first."""
        return self.segments[self.first :]

    def add(self, count: i64, now: i64) -> None:
        """`count` new positions were sent."""
        self.segments.append(SentSegment(self.end, self.end + count, now))
        self.end += count

    def pop_acknowledged(self, position: i64) -> SentSegment | None:
        """Advance `una` to `position` by one segment; None when it is there.

        Call it until it gives None. A segment that is covered in part is split first, so what comes back is
        always wholly acknowledged.
        """
        if self.una >= position:
            return None
        segment = self.segments[self.first]
        if segment.end > position:
            segment = self._split(self.first, position)
        self.first += 1
        self.una = segment.end
        length = segment.end - segment.start
        if segment.is_sacked:
            self.sacked_bytes -= length
            self.sacked_segments -= 1
        elif segment.is_lost:
            self.lost_bytes -= length
        count: i64 = len(self.segments)
        if self.first == count:
            if count == 1:
                self.segments.pop()  # half the price of clear()
            else:
                self.segments.clear()
            self.first = 0
        elif self.first >= _COMPACT_AT and self.first * 2 >= count:
            del self.segments[: self.first]
            self.first = 0
        return segment

    def mark_sacked(self, left: i64, right: i64) -> list[SentSegment]:
        """The segments within left .. right that were not SACKed before; they are now."""
        newly: list[SentSegment] = []
        index = self.first
        while index < len(self.segments):
            segment = self.segments[index]
            if segment.start >= right:
                break
            if segment.end > left and not segment.is_sacked:
                if segment.start < left:
                    self._split(index, left)
                    index += 1
                    segment = self.segments[index]
                if segment.end > right:
                    segment = self._split(index, right)
                length = segment.end - segment.start
                if segment.is_lost:
                    segment.is_lost = False
                    self.lost_bytes -= length
                segment.is_sacked = True
                self.sacked_bytes += length
                self.sacked_segments += 1
                newly.append(segment)
            index += 1
        if newly and right > self.highest_sacked:
            self.highest_sacked = right
        return newly

    def mark_lost(self, segment: SentSegment) -> None:
        if not segment.is_lost and not segment.is_sacked:
            segment.is_lost = True
            self.lost_bytes += segment.end - segment.start

    def mark_first_lost(self, smss: i64) -> bool:
        """Presume one segment's worth at `una` lost; False when it was already."""
        if self.una >= self.end:
            return False
        segment = self.segments[self.first]
        if segment.is_lost or segment.is_sacked:
            return False
        if segment.end - segment.start > smss:
            segment = self._split(self.first, segment.start + smss)
        self.mark_lost(segment)
        return True

    def mark_longer_lost(self, smss: i64) -> bool:
        """Presume lost what was sent in segments longer than `smss`; True when there was any."""
        before = self.lost_bytes
        for segment in self.in_flight():
            if segment.end - segment.start > smss:
                self.mark_lost(segment)
        return self.lost_bytes > before

    def mark_all_lost(self) -> None:
        for segment in self.in_flight():
            self.mark_lost(segment)

    def forget_losses(self) -> None:
        """The losses were a mistake (a spurious timeout): everything is in flight again."""
        for segment in self.in_flight():
            segment.is_lost = False
        self.lost_bytes = 0

    def forget_sacks(self) -> None:
        """The receiver took back what it had selectively acknowledged (RFC 2018 §8)."""
        for segment in self.in_flight():
            segment.is_sacked = False
        self.sacked_bytes = 0
        self.sacked_segments = 0
        self.highest_sacked = 0

    def next_lost(self, largest: i64) -> SentSegment | None:
        """The first segment to be sent again, at most `largest` bytes of it; None when there is none."""
        if self.lost_bytes == 0:
            return None
        for index in range(self.first, len(self.segments)):
            segment = self.segments[index]
            if segment.is_lost:
                if segment.end - segment.start > largest:
                    segment = self._split(index, segment.start + largest)
                return segment
        return None

    def last(self, largest: i64) -> SentSegment:
        """The highest segment in flight, at most `largest` bytes of it."""
        index: i64 = len(self.segments) - 1
        segment = self.segments[index]
        if segment.end - segment.start > largest:
            self._split(index, segment.end - largest)
            segment = self.segments[index + 1]
        return segment

    def on_retransmitted(self, segment: SentSegment, now: i64) -> None:
        """It is in flight again."""
        if segment.is_lost:
            segment.is_lost = False
            self.lost_bytes -= segment.end - segment.start
        segment.sent_at = now
        segment.retransmissions += 1

    def _split(self, index: i64, position: i64) -> SentSegment:
        """Split one segment in two at `position`; returns the front one."""
        segment = self.segments[index]
        assert segment.start < position < segment.end
        rest = SentSegment(position, segment.end, segment.sent_at)
        rest.retransmissions = segment.retransmissions
        rest.is_sacked = segment.is_sacked
        rest.is_lost = segment.is_lost
        if segment.is_sacked:
            self.sacked_segments += 1
        segment.end = position
        self.segments.insert(index + 1, rest)
        return segment

    def check_invariants(self) -> None:
        """Raise AssertionError when the sums or the cover are wrong."""
        position = self.una
        sacked: i64 = 0
        sacked_segments: i64 = 0
        lost: i64 = 0
        for segment in self.in_flight():
            assert segment.start == position, "gap or overlap in the scoreboard"
            assert segment.end > segment.start, "empty segment in the scoreboard"
            assert not (segment.is_sacked and segment.is_lost), "both SACKed and lost"
            position = segment.end
            if segment.is_sacked:
                sacked += segment.end - segment.start
                sacked_segments += 1
            if segment.is_lost:
                lost += segment.end - segment.start
        assert position == self.end, "the scoreboard does not reach SND.NXT"
        assert sacked == self.sacked_bytes, "sacked_bytes is wrong"
        assert sacked_segments == self.sacked_segments, "sacked_segments is wrong"
        assert lost == self.lost_bytes, "lost_bytes is wrong"
        assert self.pipe() >= 0, "pipe below zero"
