"""Congestion control: how large the congestion window may be.

Source:     RFC 5681 §3.1, §4.1; RFC 6928 (initial window); RFC 9438 (CUBIC); RFC 9406 (HyStart++).
Units:      bytes, microseconds.
Invariants: cwnd >= smss; ssthresh >= 2·smss once a loss has set it.
Not here:   what is lost (rack, recovery), what is sent in recovery (PRR, in recovery).

`CongestionControl` is the interface and at the same time slow start and NewReno's avoidance; an algorithm
overrides `_avoid` (growth above ssthresh), `_reduced` (what a loss leaves) and what it wants to be told.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

__all__ = ["CongestionControl", "Cubic", "NewReno", "initial_window", "make_congestion_control"]

_INFINITE: Final = 1 << 40


def initial_window(smss: i64, segments: i64) -> i64:
    """RFC 6928 §2: min(10·MSS, max(2·MSS, 14600)) for the default of ten segments."""
    return min(segments * smss, max(2 * smss, 1460 * segments))


class CongestionControl:
    """Slow start, and growth by one segment a round trip above ssthresh."""

    def __init__(self, smss: i64, initial_window_segments: i64) -> None:
        self.smss: i64 = smss
        self.initial_segments: i64 = initial_window_segments
        self.cwnd: i64 = initial_window(smss, initial_window_segments)
        self.ssthresh: i64 = _INFINITE
        self.target: i64 = _INFINITE  # where a recovery leaves cwnd: ssthresh, but less after an ECN echo
        self._prior_cwnd: i64 = 0
        self._prior_ssthresh: i64 = 0
        self._acked_in_avoidance: i64 = 0
        # The timer fired, and SND.UNA has not yet passed what was out then.
        self.is_after_timeout: bool = False

    def name(self) -> str:
        return "newreno"

    def on_ack(self, acked: i64, una: i64, end: i64, rtt_us: i64, now: i64, was_limited: bool) -> None:
        """New data was acknowledged outside recovery.

        una, end: positions of SND.UNA after it and of SND.NXT. rtt_us: latest sample, 0 for none.
        was_limited: cwnd, and not the application or the peer, held us back.
        """
        if not was_limited:
            return  # RFC 7661: a window that was not used proves nothing
        if self.cwnd < self.ssthresh:
            acked = self._slow_start(acked)
        if acked > 0:
            self._avoid(acked, rtt_us, now)

    def on_congestion(self, flight_size: i64, now: i64, is_marked: bool) -> None:
        """A loss or an ECN echo (is_marked) began a recovery: ssthresh falls. cwnd is the recovery's to move.

        RFC 9438 §4.6, RFC 3168 §6.1.2: ssthresh stays at two segments or more; cwnd may go down to one upon a
        mark, which costs no retransmission.
        """
        self._remember()
        reduced = self._reduced(flight_size, now)
        self.ssthresh = max(reduced, 2 * self.smss)
        self.target = max(reduced, self.smss) if is_marked else self.ssthresh
        self._acked_in_avoidance = 0

    def on_timeout(self, flight_size: i64, now: i64, is_first: bool) -> None:
        """The retransmission timer fired (RFC 5681 §3.1 end): one segment; ssthresh falls once per loss."""
        if is_first:
            self.on_congestion(flight_size, now, False)
        self.cwnd = self.smss
        self.is_after_timeout = True
        self._acked_in_avoidance = 0

    def on_spurious(self) -> None:
        """The congestion was none: back to where it was (RFC 4015 §3.2, Linux's undo)."""
        if self._prior_cwnd > self.cwnd:
            self.cwnd = self._prior_cwnd
        if self._prior_ssthresh > self.ssthresh:
            self.ssthresh = self._prior_ssthresh

    def on_idle(self, now: i64) -> None:
        """Nothing was sent for more than one RTO (RFC 5681 §4.1): restart from the initial window."""
        self.cwnd = min(self.cwnd, initial_window(self.smss, self.initial_segments))

    def on_application_limited(self, now: i64) -> None:
        """Sending paused because there was nothing to send (RFC 9438 §5.8)."""

    def change_smss(self, smss: i64) -> None:
        """The path takes smaller segments. cwnd stays in bytes, but is at least one segment."""
        self.smss = smss
        self.cwnd = max(self.cwnd, smss)

    def _slow_start(self, acked: i64) -> i64:
        """Grow up to ssthresh; returns the acknowledged bytes that count for avoidance.

        RFC 5681 (2) allows smss per ACK and RFC 3465 twice that, written for peers that acknowledge every
        second segment; an ACK of a 64 KiB super-segment stands for dozens, so bytes are counted.
        """
        if self.is_after_timeout:
            # An ACK may stand for a whole window that had arrived long before: L=1 of RFC 3465.
            acked = min(acked, self.smss)
        growth = min(acked, self.ssthresh - self.cwnd)
        self.cwnd += growth
        return acked - growth

    def _avoid(self, acked: i64, rtt_us: i64, now: i64) -> None:
        self._acked_in_avoidance += acked
        if self._acked_in_avoidance >= self.cwnd:
            self._acked_in_avoidance = min(self._acked_in_avoidance - self.cwnd, self.cwnd)
            self.cwnd += self.smss

    def _reduced(self, flight_size: i64, now: i64) -> i64:
        return flight_size >> 1

    def _remember(self) -> None:
        self._prior_cwnd = self.cwnd
        self._prior_ssthresh = self.ssthresh


class NewReno(CongestionControl):
    """RFC 5681 as it stands."""


# HyStart++ (RFC 9406 §4.3).
_MIN_RTT_THRESHOLD_US: Final = 4_000
_MAX_RTT_THRESHOLD_US: Final = 16_000
_MIN_RTT_DIVISOR: Final = 8
_RTT_SAMPLES: Final = 8
_CSS_GROWTH_DIVISOR: Final = 4
_CSS_ROUNDS: Final = 5
_NO_RTT: Final = 1 << 60

# CUBIC (RFC 9438 §4.1, §4.6).
_C: Final = 0.4
_BETA: Final = 0.7
_ALPHA: Final = 3.0 * (1.0 - 0.7) / (1.0 + 0.7)


class Cubic(CongestionControl):
    """RFC 9438, with HyStart++ in slow start. Windows inside are in segments, as in the RFC's formulas."""

    def __init__(self, smss: i64, initial_window_segments: i64) -> None:
        super().__init__(smss, initial_window_segments)
        self._w_max: float = 0.0
        self._k: float = 0.0
        self._epoch_at: i64 = -1  # -1: the next ACK in avoidance begins an epoch
        self._w_est: float = 0.0
        self._cwnd_prior: float = 0.0
        self._is_first_after_timeout: bool = False
        self._paused_at: i64 = -1
        self._fraction: float = 0.0  # of a byte, that cwnd still has to grow
        # HyStart++ rounds.
        self._round_ends: i64 = 0
        self._round_min_rtt_us: i64 = _NO_RTT
        self._last_round_min_rtt_us: i64 = _NO_RTT
        self._round_samples: i64 = 0
        self._css_baseline_us: i64 = _NO_RTT
        self._css_rounds: i64 = 0
        self._is_css: bool = False

    def name(self) -> str:
        return "cubic"

    def on_ack(self, acked: i64, una: i64, end: i64, rtt_us: i64, now: i64, was_limited: bool) -> None:
        if self._paused_at >= 0:
            # Time in which nobody asked for more is not part of t.
            if self._epoch_at >= 0 and was_limited:
                self._epoch_at += now - self._paused_at
                self._paused_at = -1
        if self.cwnd < self.ssthresh:
            self._hystart(una, end, rtt_us)
        super().on_ack(acked, una, end, rtt_us, now, was_limited)

    def on_application_limited(self, now: i64) -> None:
        if self._paused_at < 0 and self._epoch_at >= 0:
            self._paused_at = now

    def on_timeout(self, flight_size: i64, now: i64, is_first: bool) -> None:
        super().on_timeout(flight_size, now, is_first)
        # §4.8: the first epoch after a timeout has K = 0 and W_max = cwnd.
        self._is_first_after_timeout = True
        self._epoch_at = -1
        self._end_slow_start_round()

    def on_spurious(self) -> None:
        super().on_spurious()
        self._epoch_at = -1
        self._w_max = max(self._w_max, self._in_segments(self.cwnd))
        self._is_first_after_timeout = False

    def on_idle(self, now: i64) -> None:
        super().on_idle(now)
        self._epoch_at = -1

    def _reduced(self, flight_size: i64, now: i64) -> i64:
        window = self._in_segments(self.cwnd)
        # Fast convergence (§4.7): make room for newcomers.
        self._w_max = window * (1.0 + _BETA) / 2.0 if window < self._w_max else window
        self._cwnd_prior = window
        self._epoch_at = -1
        self._is_first_after_timeout = False
        # §4.6 allows cwnd in place of FlightSize where cwnd does not grow unused, as in `on_ack`. A reply
        # that fills half the window says nothing against the other half (Linux does the same).
        return int(float(self.cwnd) * _BETA)

    def _avoid(self, acked: i64, rtt_us: i64, now: i64) -> None:
        window = self._in_segments(self.cwnd)
        if self._epoch_at < 0:
            self._begin_epoch(window, now)
        t = float(now - self._epoch_at) / 1_000_000.0
        # §4.2: the target is the curve one round trip from now, not below cwnd and not above 1.5 cwnd.
        ahead = t + float(rtt_us) / 1_000_000.0 - self._k
        target = _C * ahead * ahead * ahead + self._w_max
        if target < window:
            target = window
        elif target > 1.5 * window:
            target = 1.5 * window
        # §4.3: what Reno with CUBIC's factor would have; as fast as Reno once past the old window.
        alpha = 1.0 if self._w_est >= self._cwnd_prior else _ALPHA
        segments = self._in_segments(acked)
        self._w_est += alpha * segments / window
        here = t - self._k
        curve = _C * here * here * here + self._w_max
        if curve < self._w_est:
            grown = max(self._w_est - window, 0.0)
        else:
            grown = (target - window) / window * segments
        exact = grown * float(self.smss) + self._fraction
        whole = int(exact)
        self._fraction = exact - whole
        self.cwnd += whole

    def _in_segments(self, count: i64) -> float:
        return float(count) / float(self.smss)

    def _begin_epoch(self, window: float, now: i64) -> None:
        self._epoch_at = now
        self._paused_at = -1
        self._w_est = window
        self._fraction = 0.0
        if self._is_first_after_timeout or self._w_max <= window:
            self._w_max = window
            self._k = 0.0
            self._is_first_after_timeout = False
        else:
            self._k = ((self._w_max - window) / _C) ** (1.0 / 3.0)

    # -- HyStart++ ---------------------------------------------------------------------------------------

    def _slow_start(self, acked: i64) -> i64:
        if self._is_css:
            # Conservative slow start: a quarter of the growth.
            slower = max(acked // _CSS_GROWTH_DIVISOR, 1)
            self.cwnd = min(self.cwnd + slower, self.ssthresh)
            return 0
        return super()._slow_start(acked)

    def _hystart(self, una: i64, end: i64, rtt_us: i64) -> None:
        """RFC 9406 §4.2: leave slow start when the RTT rises over a round trip."""
        if rtt_us > 0:
            self._round_min_rtt_us = min(self._round_min_rtt_us, rtt_us)
            self._round_samples += 1
        if self._round_samples >= _RTT_SAMPLES and self._last_round_min_rtt_us != _NO_RTT:
            threshold = self._last_round_min_rtt_us // _MIN_RTT_DIVISOR
            threshold = max(_MIN_RTT_THRESHOLD_US, min(threshold, _MAX_RTT_THRESHOLD_US))
            if not self._is_css:
                if self._round_min_rtt_us >= self._last_round_min_rtt_us + threshold:
                    self._is_css = True
                    self._css_baseline_us = self._round_min_rtt_us
                    self._css_rounds = 0
            elif self._round_min_rtt_us < self._css_baseline_us:
                self._is_css = False  # it was noise
                self._css_baseline_us = _NO_RTT
        if una >= self._round_ends:
            self._round_ends = end
            self._last_round_min_rtt_us = self._round_min_rtt_us
            self._round_min_rtt_us = _NO_RTT
            self._round_samples = 0
            if self._is_css:
                self._css_rounds += 1
                if self._css_rounds >= _CSS_ROUNDS:
                    self.ssthresh = self.cwnd
                    self._w_max = self._in_segments(self.cwnd)
                    self._end_slow_start_round()

    def _end_slow_start_round(self) -> None:
        self._is_css = False
        self._css_rounds = 0
        self._css_baseline_us = _NO_RTT
        self._round_min_rtt_us = _NO_RTT
        self._last_round_min_rtt_us = _NO_RTT
        self._round_samples = 0


def make_congestion_control(name: str, smss: i64, initial_window_segments: i64) -> CongestionControl:
    """The algorithm called `name`: `"cubic"` or `"newreno"`. Raises ValueError for another."""
    if name == "cubic":
        return Cubic(smss, initial_window_segments)
    if name == "newreno":
        return NewReno(smss, initial_window_segments)
    raise ValueError(f"{name!r} is not a congestion control: cubic or newreno")
