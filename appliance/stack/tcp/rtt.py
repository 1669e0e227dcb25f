"""Retransmission timeout.

Source:     RFC 6298 §2 (estimate), §5.5 (back-off); Linux for the floor.
Units:      microseconds (int).
Invariants: rto_min_us <= rto_us <= rto_max_us; no sample spans a retransmission (Karn), which is the
            caller's to keep.
Errors:     none; a sample below zero is a caller's bug (assert).

RFC 6298 §2.4 asks for a floor of 1 s; like Linux we put a floor of 200 ms under the variance term
instead: RTO = SRTT + max(4·RTTVAR, rto_min_us). On a link of microseconds a lost segment then costs a
fifth of a second. A delayed ACK (at most 200 ms in use) still cannot outlast it.
"""

from mypy_extensions import i64

__all__ = ["RttEstimator"]


class RttEstimator:
    def __init__(self, rto_initial_us: i64, rto_min_us: i64, rto_max_us: i64) -> None:
        self.srtt_us: i64 = 0  # 0: no sample yet
        self.rttvar_us: i64 = 0
        self.rto_us: i64 = rto_initial_us
        self._rto_initial_us: i64 = rto_initial_us
        self._rto_min_us: i64 = rto_min_us
        self._rto_max_us: i64 = rto_max_us

    def sample(self, rtt_us: i64) -> None:
        assert rtt_us >= 0
        if rtt_us == 0:
            rtt_us = 1
        if self.srtt_us == 0:
            self.srtt_us = rtt_us
            self.rttvar_us = rtt_us >> 1
        else:
            error = self.srtt_us - rtt_us
            if error < 0:
                error = -error
            # alpha = 1/8, beta = 1/4 (§2.3); RTTVAR is taken before SRTT moves.
            self.rttvar_us += (error - self.rttvar_us) >> 2
            self.srtt_us += (rtt_us - self.srtt_us) >> 3
            if self.srtt_us < 1:
                self.srtt_us = 1
        variance = self.rttvar_us << 2
        if variance < self._rto_min_us:
            variance = self._rto_min_us
        rto = self.srtt_us + variance
        self.rto_us = min(self._rto_max_us, rto)

    def back_off(self) -> None:
        """Double the timeout (§5.5), up to the limit."""
        rto = self.rto_us << 1
        self.rto_us = min(self._rto_max_us, rto)

    def use_fallback(self, rto_us: i64) -> None:
        """§5.7: the SYN was retransmitted, so data starts with this timeout until a sample is taken."""
        if self.srtt_us == 0 and self._rto_initial_us < rto_us:
            self.rto_us = rto_us
