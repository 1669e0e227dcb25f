"""Sequence numbers: arithmetic modulo 2**32, compared while less than 2**31 apart (RFC 9293 §3.4)."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.wire.seqnum import (
    in_window,
    seq_add,
    seq_diff,
    seq_ge,
    seq_gt,
    seq_le,
    seq_lt,
    seq_max,
)

EDGES = [0, 1, 2, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFE, 0xFFFF_FFFF]
SEQ = st.sampled_from(EDGES) | st.integers(0, 0xFFFF_FFFF)
STEP = st.sampled_from([0, 1, 2, 1460, 65535, 0x7FFF_FFFF]) | st.integers(0, 0x7FFF_FFFF)


@given(seq=SEQ, step=STEP)
def test_a_number_ahead_is_greater_across_the_wrap(seq: int, step: int) -> None:
    ahead = seq_add(seq, step)
    assert ahead == (seq + step) % 2**32
    assert seq_diff(ahead, seq) == step
    assert seq_diff(seq, ahead) == -step
    assert seq_le(seq, ahead)
    assert seq_ge(ahead, seq)
    assert seq_lt(seq, ahead) == (step > 0)
    assert seq_gt(ahead, seq) == (step > 0)
    assert not seq_lt(ahead, seq)
    assert not seq_gt(seq, ahead)
    assert seq_max(seq, ahead) == seq_max(ahead, seq) == ahead


@given(seq=SEQ, step=st.integers(-(1 << 31), (1 << 31) - 1))
def test_negative_steps_go_back(seq: int, step: int) -> None:
    assert seq_diff(seq_add(seq, step), seq) == step


@given(first=SEQ, size=st.integers(0, 1 << 30), offset=st.integers(-(1 << 30), 1 << 30))
def test_window_holds_its_first_and_not_its_end(first: int, size: int, offset: int) -> None:
    assert in_window(seq_add(first, offset), first, size) == (0 <= offset < size)


@pytest.mark.parametrize("first", EDGES)
def test_empty_window_holds_nothing(first: int) -> None:
    assert not in_window(first, first, 0)
    assert in_window(first, first, 1)


@given(a=SEQ, b=SEQ)
def test_exactly_one_order_holds(a: int, b: int) -> None:
    if (a - b) % 2**32 != 1 << 31:
        assert seq_lt(a, b) + seq_gt(a, b) + (a == b) == 1
    assert seq_le(a, b) == (not seq_gt(a, b))
    assert seq_ge(a, b) == (not seq_lt(a, b))
    assert seq_max(a, b) in (a, b)
