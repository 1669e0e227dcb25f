"""Reassembly: whatever the cuts, the order and the repetitions, the datagram comes out, once, or not at all."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, strategies as st

from appliance.stack.counters import Counters
from appliance.stack.ip_config import IpConfig
from appliance.stack.ip_reassembly import Reassembler
from appliance.wire import ipv4
from tests.support import packets as pk
from tests.support.peer import S
from tests.support.wire import MORE, UDP, datagram


def feed(reassembler: Reassembler, whole_datagram: bytes, now: int = 0) -> bytes:
    frame = pk.ethernet(whole_datagram)
    header = ipv4.Ipv4Header()
    ipv4.parse_into(header, frame, 14)
    result = reassembler.fragment_arrives(frame, header, now)
    reassembler.check_invariants()
    return result


@st.composite
def cut_datagrams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    payload = draw(st.binary(min_size=9, max_size=400))
    units = (len(payload) - 1) // 8
    cuts = sorted(draw(st.sets(st.integers(1, units), min_size=1, max_size=12)))
    edges = [0, *(cut * 8 for cut in cuts), len(payload)]
    pieces = [
        datagram(
            payload[start:end], protocol=UDP, fragment=(start >> 3) | (MORE if end < len(payload) else 0)
        )
        for start, end in pairwise(edges)
    ]
    return payload, pieces


@given(cut_datagrams(), st.data())
def test_any_cut_in_any_order_with_repetitions_gives_the_datagram_once(
    cut: tuple[bytes, list[bytes]], data: st.DataObject
) -> None:
    payload, pieces = cut
    order = data.draw(st.permutations(pieces))
    reassembler = Reassembler(IpConfig(), Counters())
    results: list[bytes] = []
    for index, piece in enumerate(order):
        results.append(feed(reassembler, piece))
        if index + 1 < len(order):
            repeated = data.draw(st.lists(st.sampled_from(order[: index + 1]), max_size=3))
            results.extend(feed(reassembler, again) for again in repeated)
    assert [result for result in results if result] == [results[-1]]
    expected = pk.ethernet(pk.ipv4(payload, UDP))
    assert results[-1] == expected
    assert reassembler.memory() == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 60), st.integers(0, 64), st.booleans(), st.integers(0, 40 * S)
        ),
        max_size=80,
    )
)
def test_any_fragments_leave_the_books_balanced_and_nothing_that_was_not_sent(
    steps: list[tuple[int, int, int, bool, int]],
) -> None:
    """Every byte says where in the datagram it belongs, so whatever comes out must be in its place."""
    reassembler = Reassembler(
        IpConfig(reassembly_limit_bytes=6_000, reassembly_limit_bytes_per_source=4_000), Counters()
    )
    pattern = bytes(range(256)) * 3
    now = 0
    for which, offset, length, more, gap in steps:
        now += gap
        reassembler.handle_deadline(now)
        start = offset * 8
        piece = datagram(
            pattern[start : start + length],
            protocol=UDP,
            source=0x0A4D_0010 + which,
            fragment=offset | (MORE if more else 0),
        )
        if offset == 0 and not more:
            continue  # a whole datagram never gets here
        result = feed(reassembler, piece, now)
        if result:
            payload = result[14 + 20 :]
            assert payload == pattern[: len(payload)]
            assert pk.internet_checksum(result[14:34]) == 0
    reassembler.handle_deadline(now + 61 * S)
    reassembler.check_invariants()
    assert reassembler.memory() == 0
