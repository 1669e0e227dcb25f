"""RACK: time-based loss detection; and the numbers of the tail loss probe.

Source:     RFC 8985 §6.2 (RACK_update, RACK_detect_loss, the reordering window), §7.2 (PTO).
Units:      microseconds; positions as in `scoreboard`.
Invariants: min_rtt_us is 0 (no sample) or the least of the last MIN_RTT_WINDOW_US;
            reordering_multiplier >= 1.

A segment is lost when one sent after it was delivered, and a reordering window has passed since. The window
is nothing until reordering was seen and enough was SACKed, else a quarter of the least RTT, and grows when
D-SACK shows that it was too short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.stack.timebase import NEVER, SECOND

if TYPE_CHECKING:
    from appliance.stack.tcp.scoreboard import Scoreboard, SentSegment

__all__ = ["DUPLICATE_ACK_THRESHOLD", "Rack"]

DUPLICATE_ACK_THRESHOLD: Final = 3
MIN_RTT_WINDOW_US: Final = 300 * SECOND
_PERSIST_RECOVERIES: Final = 16  # RFC 8985 §6.2 step 4: how long a widened window is kept


class Rack:
    def __init__(self) -> None:
        self.sent_at: i64 = 0  # RACK.xmit_ts
        self.end: i64 = 0  # RACK.end_seq
        self.rtt_us: i64 = 0
        self.min_rtt_us: i64 = 0
        self._min_rtt_at: i64 = 0
        self.is_reordering_seen: bool = False
        self.reordering_multiplier: i64 = 1
        self._persist: i64 = _PERSIST_RECOVERIES
        self._round_ends: i64 = -1  # D-SACKs count once until this position is acknowledged
        self.highest_delivered: i64 = 0  # RACK.fack
        self._highest_before: i64 = 0  # the same before the acknowledgment that is being looked at

    def on_handshake(self, rtt_us: i64, now: i64) -> None:
        """The SYN was delivered: the first sample of the RTT (step 1 takes every one of RFC 6298)."""
        self._update_min_rtt(rtt_us, now)
        self.rtt_us = rtt_us

    def on_acknowledgment(self) -> None:
        """Another ACK; `on_delivered` follows for what is news in it.

        One ACK tells nothing of the order among the segments that it is the first to report: a delayed ACK
        reports what came in order together with what came behind a gap.
        """
        self._highest_before = self.highest_delivered

    def on_delivered(self, segment: SentSegment, now: i64, is_ambiguous: bool) -> None:
        """Steps 1 to 3 for one newly acknowledged or SACKed segment.

        is_ambiguous: timestamps say that the acknowledgment is for an earlier transmission.
        """
        rtt = now - segment.sent_at
        if segment.retransmissions > 0:
            if is_ambiguous or rtt < self.min_rtt_us:
                return
        else:
            self._update_min_rtt(rtt, now)
            if segment.end < self._highest_before:
                # Never sent again, and delivered after something sent later (step 3).
                self.is_reordering_seen = True
        if segment.end > self.highest_delivered:
            self.highest_delivered = segment.end
        self.rtt_us = rtt
        if segment.sent_at > self.sent_at or (segment.sent_at == self.sent_at and segment.end > self.end):
            self.sent_at = segment.sent_at
            self.end = segment.end

    def on_duplicate_reported(self, una: i64, end: i64) -> None:
        """D-SACK: something was sent again for nothing; widen the window, once a round trip (step 4)."""
        if una >= self._round_ends:
            self._round_ends = end
            self.reordering_multiplier += 1
            self._persist = _PERSIST_RECOVERIES

    def on_recovery_ended(self) -> None:
        self._persist -= 1
        if self._persist <= 0:
            self.reordering_multiplier = 1
            self._persist = _PERSIST_RECOVERIES

    def reordering_window_us(self, board: Scoreboard, smss: i64, srtt_us: i64, is_recovering: bool) -> i64:
        """How long to wait for a segment that a later one has overtaken."""
        if not self.is_reordering_seen and (
            is_recovering
            or board.sacked_segments >= DUPLICATE_ACK_THRESHOLD
            or board.sacked_bytes > 2 * smss  # RFC 6675's measure, for segments longer than one MSS
        ):
            return 0
        window = self.reordering_multiplier * (self.min_rtt_us >> 2)
        return min(window, srtt_us)

    def detect_losses(self, board: Scoreboard, window_us: i64, now: i64) -> i64:
        """Mark what is lost (step 5). Returns when to look again, NEVER when nothing waits."""
        look_again: i64 = NEVER
        if self.sent_at == 0:
            return look_again
        for index in range(board.first, len(board.segments)):
            segment = board.segments[index]
            if segment.is_sacked or segment.is_lost:
                continue
            if segment.sent_at > self.sent_at:
                continue
            if segment.sent_at == self.sent_at and segment.end >= self.end:
                continue
            lost_at = segment.sent_at + self.rtt_us + window_us
            if lost_at <= now:
                board.mark_lost(segment)
            elif lost_at < look_again:
                look_again = lost_at
        return look_again

    def _update_min_rtt(self, rtt_us: i64, now: i64) -> None:
        if rtt_us <= self.min_rtt_us or self.min_rtt_us == 0 or now - self._min_rtt_at > MIN_RTT_WINDOW_US:
            self.min_rtt_us = max(rtt_us, 1)
            self._min_rtt_at = now
