"""The estimator and the window by themselves, against the RFCs' arithmetic in fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from appliance.stack.tcp.congestion import NewReno
from appliance.stack.tcp.rtt import RttEstimator

MS, S = 1_000, 1_000_000


def estimator() -> RttEstimator:
    return RttEstimator(S, 200 * MS, 120 * S)


@given(samples=st.lists(st.integers(0, 10 * S), min_size=1, max_size=50))
def test_estimate_follows_rfc_6298_within_rounding(samples: list[int]) -> None:
    rtt = estimator()
    srtt = rttvar = Fraction(0)
    for index, sample in enumerate(samples):
        rtt.sample(sample)
        value = Fraction(max(sample, 1))
        if index == 0:
            srtt, rttvar = value, value / 2
        else:
            rttvar = rttvar * 3 / 4 + abs(srtt - value) / 4
            srtt = srtt * 7 / 8 + value / 8
        assert abs(rtt.srtt_us - srtt) <= 9
        assert abs(rtt.rttvar_us - rttvar) <= 9
        assert rtt.rto_us == min(120 * S, rtt.srtt_us + max(200 * MS, 4 * rtt.rttvar_us))


@given(samples=st.lists(st.integers(0, 1000 * S), max_size=5), back_offs=st.integers(0, 40))
def test_timeout_stays_in_its_bounds(samples: list[int], back_offs: int) -> None:
    rtt = estimator()
    for sample in samples:
        rtt.sample(sample)
    for _ in range(back_offs):
        before = rtt.rto_us
        rtt.back_off()
        assert rtt.rto_us == min(120 * S, 2 * before)
    assert 200 * MS <= rtt.rto_us <= 120 * S


def test_before_the_first_sample_it_is_the_initial_one() -> None:
    assert estimator().rto_us == S


def test_sample_below_zero_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        estimator().sample(-1)


def test_fallback_only_counts_without_a_sample() -> None:
    rtt = estimator()
    rtt.use_fallback(3 * S)
    assert rtt.rto_us == 3 * S
    rtt.sample(10 * MS)
    rtt.use_fallback(3 * S)
    assert rtt.rto_us < S


def test_back_off_ends_with_a_sample() -> None:
    rtt = estimator()
    rtt.sample(100 * MS)
    base = rtt.rto_us
    rtt.back_off()
    rtt.back_off()
    assert rtt.rto_us == 4 * base
    rtt.sample(100 * MS)
    assert rtt.rto_us <= base


def test_slow_start_stops_at_ssthresh_exactly() -> None:
    reno = NewReno(1000, 10)
    reno.ssthresh = 12_000
    reno.on_ack(10_000, True)
    assert reno.cwnd == 12_000 or reno.cwnd == 13_000
    assert reno.cwnd <= reno.ssthresh + reno.smss


@given(acks=st.lists(st.integers(1, 65_000), min_size=1, max_size=200), ssthresh=st.integers(2000, 100_000))
def test_growth_never_exceeds_a_segment_per_window_beyond_ssthresh(acks: list[int], ssthresh: int) -> None:
    reno = NewReno(1000, 10)
    reno.ssthresh = ssthresh
    for acked in acks:
        before = reno.cwnd
        reno.on_ack(acked, True)
        assert before <= reno.cwnd <= max(before, min(before + acked, ssthresh)) + reno.smss


EVENTS = st.sampled_from(["ack", "duplicates", "partial", "full", "timeout", "idle"])


@given(events=st.lists(st.tuples(EVENTS, st.integers(1, 100_000)), max_size=60))
def test_invariants_hold_whatever_happens(events: list[tuple[str, int]]) -> None:
    reno = NewReno(1460, 10)
    for event, amount in events:
        if event == "ack" and not reno.in_recovery:
            reno.on_ack(amount, True)
        elif event == "duplicates":
            if reno.in_recovery:
                reno.on_duplicate_in_recovery()
            else:
                reno.on_fast_retransmit(amount, 12345)
        elif event == "partial" and reno.in_recovery:
            reno.on_partial_ack(amount)
        elif event == "full" and reno.in_recovery:
            reno.on_full_ack(amount)
            assert reno.cwnd <= reno.ssthresh
        elif event == "timeout":
            reno.on_timeout(amount, 12345, amount % 2 == 0)
            assert reno.cwnd == reno.smss
        elif event == "idle":
            reno.on_idle(10)
            assert reno.cwnd <= 14_600
        assert reno.cwnd >= reno.smss
        assert reno.ssthresh >= 2 * reno.smss


def test_unused_window_does_not_grow() -> None:
    reno = NewReno(1460, 10)
    reno.on_ack(1460, False)
    assert reno.cwnd == 14_600
