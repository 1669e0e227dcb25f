"""The estimator and the window by themselves, against the RFCs' arithmetic in fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from appliance.stack.tcp.congestion import CongestionControl, make_congestion_control
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


CONTROLS = ["newreno", "cubic"]


def on_ack(control: CongestionControl, acked: int, *, was_limited: bool = True, now: int = 0) -> None:
    control.on_ack(acked, 0, 0, 10 * MS, now, was_limited)


@pytest.mark.parametrize("name", CONTROLS)
def test_slow_start_stops_at_ssthresh(name: str) -> None:
    control = make_congestion_control(name, 1000, 10)
    control.ssthresh = 12_000
    on_ack(control, 10_000)
    assert 12_000 <= control.cwnd <= 13_000


@given(acks=st.lists(st.integers(1, 65_000), min_size=1, max_size=200), ssthresh=st.integers(2000, 100_000))
def test_growth_never_exceeds_a_segment_per_window_beyond_ssthresh(acks: list[int], ssthresh: int) -> None:
    reno = make_congestion_control("newreno", 1000, 10)
    reno.ssthresh = ssthresh
    for acked in acks:
        before = reno.cwnd
        on_ack(reno, acked)
        assert before <= reno.cwnd <= max(before, min(before + acked, ssthresh)) + reno.smss


EVENTS = st.sampled_from(["ack", "congestion", "timeout", "again", "spurious", "idle", "limited", "smss"])


@given(
    name=st.sampled_from(CONTROLS),
    events=st.lists(st.tuples(EVENTS, st.integers(1, 100_000), st.integers(0, 100 * S)), max_size=60),
)
def test_invariants_hold_whatever_happens(name: str, events: list[tuple[str, int, int]]) -> None:
    control = make_congestion_control(name, 1460, 10)
    now = 0
    for event, amount, elapsed in events:
        now += elapsed
        before = control.cwnd
        if event == "ack":
            control.on_ack(amount, amount, 2 * amount, elapsed % S, now, amount % 5 != 0)
            assert before <= control.cwnd <= before + max(amount, control.smss) + before
        elif event == "congestion":
            control.on_congestion(amount, now, False)
            assert control.ssthresh <= max(amount, before, 2 * control.smss)
        elif event in ("timeout", "again"):
            control.on_timeout(amount, now, event == "timeout")
            assert control.cwnd == control.smss
        elif event == "spurious":
            control.on_spurious()
            assert control.cwnd >= before
        elif event == "idle":
            control.on_idle(now)
            assert control.cwnd <= max(before, 14_600)
        elif event == "limited":
            control.on_application_limited(now)
        else:
            control.change_smss(500 + amount % 1000)
        assert control.cwnd >= control.smss
        assert control.ssthresh >= 1000


@pytest.mark.parametrize("name", CONTROLS)
def test_unused_window_does_not_grow(name: str) -> None:
    control = make_congestion_control(name, 1460, 10)
    on_ack(control, 1460, was_limited=False)
    assert control.cwnd == 14_600


def test_unknown_control_is_an_error() -> None:
    with pytest.raises(ValueError):
        make_congestion_control("vegas", 1460, 10)
