"""Congestion control: slow start, congestion avoidance, fast retransmit and fast recovery.

Source:     RFC 5681 §3.1, §3.2; RFC 6582 §3.2 (NewReno: partial acknowledgments); RFC 6928 (initial window).
Units:      bytes.
Invariants: cwnd >= smss; ssthresh >= 2·smss once a loss has set it.
Not here:   which segment to send (output.py); SACK-based recovery.
"""

from typing import Final

from mypy_extensions import i64

__all__ = ["DUPLICATE_ACK_THRESHOLD", "NewReno"]

DUPLICATE_ACK_THRESHOLD: Final = 3
_INFINITE: Final = 1 << 40


class NewReno:
    def __init__(self, smss: i64, initial_window_segments: i64) -> None:
        self.smss: i64 = smss
        self.cwnd: i64 = initial_window(smss, initial_window_segments)
        self.ssthresh: i64 = _INFINITE
        self.duplicate_acks: i64 = 0
        self.in_recovery: bool = False
        self.recover: i64 = (
            0  # SND.MAX when recovery began, or when the timer last fired (RFC 6582 §3.2 step 1)
        )
        self.is_after_timeout: bool = False  # the timer fired, and what was out then is not all acknowledged
        self._bytes_acked: i64 = 0  # in congestion avoidance, towards the next smss of cwnd

    def on_ack(self, acked: i64, was_cwnd_limited: bool) -> None:
        """New data was acknowledged outside recovery."""
        self.duplicate_acks = 0
        if not was_cwnd_limited:
            return  # RFC 7661's reason: a window that was not used proves nothing
        if self.cwnd < self.ssthresh:
            # RFC 5681 (2) allows smss per ACK; RFC 3465's L=2 suits a peer that acknowledges every second
            # segment, but an ACK of a 64 KiB super-segment stands for dozens: count bytes.
            # After a timeout an ACK may stand for a whole window that had arrived long before: smss, as L=1.
            if self.is_after_timeout and acked > self.smss:
                acked = self.smss
            growth = min(acked, self.ssthresh - self.cwnd)
            self.cwnd += growth
            acked -= growth
            if acked == 0:
                return
        self._bytes_acked += acked
        if self._bytes_acked >= self.cwnd:
            self._bytes_acked -= self.cwnd
            if self._bytes_acked > self.cwnd:
                self._bytes_acked = self.cwnd
            self.cwnd += self.smss

    def on_fast_retransmit(self, flight_size: i64, snd_max: i64) -> None:
        """The third duplicate (RFC 6582 §3.2 step 2, 3)."""
        self.ssthresh = self._half(flight_size)
        self.recover = snd_max
        self.in_recovery = True
        self.cwnd = self.ssthresh + DUPLICATE_ACK_THRESHOLD * self.smss

    def on_duplicate_in_recovery(self) -> None:
        """Another segment has left the network (RFC 5681 §3.2 step 4)."""
        self.cwnd += self.smss

    def on_partial_ack(self, acked: i64) -> None:
        """Step 3 of RFC 6582 §3.2: deflate by what was acknowledged, add back one segment."""
        self.cwnd -= acked
        if acked >= self.smss:
            self.cwnd += self.smss
        if self.cwnd < self.smss:
            self.cwnd = self.smss

    def on_full_ack(self, flight_size: i64) -> None:
        """Recovery is over: option 1 of RFC 6582 §3.2 step 3, which avoids a burst."""
        floor = max(self.smss, flight_size)
        window = floor + self.smss
        self.cwnd = min(window, self.ssthresh)
        self.in_recovery = False
        self.duplicate_acks = 0
        self._bytes_acked = 0

    def on_timeout(self, flight_size: i64, snd_max: i64, is_first: bool) -> None:
        """The retransmission timer fired (RFC 5681 §3.1 end); ssthresh falls once per loss, not per try."""
        if is_first:
            self.ssthresh = self._half(flight_size)
        self.cwnd = self.smss
        self.recover = snd_max
        self.in_recovery = False
        self.is_after_timeout = True
        self.duplicate_acks = 0
        self._bytes_acked = 0

    def on_idle(self, initial_window_segments: i64) -> None:
        """Nothing was sent for more than one RTO (RFC 5681 §4.1): restart from the initial window."""
        restart = initial_window(self.smss, initial_window_segments)
        if self.cwnd > restart:
            self.cwnd = restart

    def _half(self, flight_size: i64) -> i64:
        half = flight_size >> 1
        return max(2 * self.smss, half)


def initial_window(smss: i64, segments: i64) -> i64:
    """RFC 6928 §2: min(10·MSS, max(2·MSS, 14600)) for the default of ten segments."""
    window = segments * smss
    floor = 1460 * segments
    if floor < 2 * smss:
        floor = 2 * smss
    return min(floor, window)
