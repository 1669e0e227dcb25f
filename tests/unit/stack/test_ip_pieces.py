"""The small parts of the Internet layer, each by itself: buckets, identifications, options, path MTUs."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.stack.counters import Counters
from appliance.stack.identification import EXHAUSTED, LIFETIME_US, Identifications
from appliance.stack.ip_options import ACCEPTABLE, SOURCE_ROUTED, check_options
from appliance.stack.path_mtu import BLACK_HOLE_SIZES, MIN_PATH_MTU, PLATEAUS, PathMtuCache
from appliance.stack.timebase import NEVER
from appliance.stack.token_bucket import TokenBucket
from tests.support.peer import S, counting_bytes, established

# -- token bucket ------------------------------------------------------------------------------------------


def test_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(10, 3)
    now = 5 * S
    assert [bucket.take(now) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(now + 99_999)
    assert bucket.take(now + 100_000)
    assert not bucket.take(now + 100_000)


def test_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(10_000, 4)
    bucket.take(0)
    assert sum(bucket.take(1 << 60) for _ in range(10)) == 4, "and so long a time does not overflow"


def test_bucket_that_is_nearly_full_overflows() -> None:
    bucket = TokenBucket(10, 3)
    bucket.take(5 * S)
    assert [bucket.take(5 * S + 250_000) for _ in range(4)] == [True, True, True, False]


def test_bucket_without_a_rate_is_empty_after_its_burst() -> None:
    bucket = TokenBucket(0, 2)
    assert [bucket.take(now * S) for now in range(4)] == [True, True, False, False]


@given(st.lists(st.integers(0, 3 * S), max_size=200), st.integers(1, 1000), st.integers(1, 50))
def test_bucket_over_any_schedule_keeps_to_rate_and_burst(gaps: list[int], rate: int, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    now = passed = 0
    for gap in gaps:
        now += gap
        passed += bucket.take(now)
    assert passed <= burst + now * rate // S + 1
    if all(gap >= S for gap in gaps):
        assert passed == len(gaps)


# -- identification ----------------------------------------------------------------------------------------


@pytest.mark.rfc("6864", "§4.3")
def test_every_identification_comes_once_before_any_comes_twice() -> None:
    source = Identifications(counting_bytes(7))
    assert sorted(source.take(0) for _ in range(65_536)) == list(range(65_536))
    assert source.take(LIFETIME_US - 1) == EXHAUSTED
    assert source.take(LIFETIME_US) != EXHAUSTED


@pytest.mark.rfc("6864", "§4.3")
def test_identification_is_free_again_two_minutes_after_its_use() -> None:
    source = Identifications(counting_bytes(7))
    used: dict[int, int] = {}
    now = 0
    exhausted = 0
    for _ in range(200_000):
        now += 1_500  # 667 a second, more than there are
        value = source.take(now)
        if value == EXHAUSTED:
            exhausted += 1
            continue
        assert now - used.get(value, -LIFETIME_US) >= LIFETIME_US
        used[value] = now
    assert exhausted > 0


def test_identifications_of_two_interfaces_differ() -> None:
    one, two = Identifications(counting_bytes(1)), Identifications(counting_bytes(2))
    assert [one.take(0) for _ in range(10)] != [two.take(0) for _ in range(10)]


# -- options -----------------------------------------------------------------------------------------------


@given(st.binary(max_size=40))
def test_any_options_are_walked_to_an_end(options: bytes) -> None:
    header = bytes(20) + options
    found = check_options(b"\xee" * 24 + header, 24, 44, 44 + len(options))
    assert found in (ACCEPTABLE, SOURCE_ROUTED) or 20 <= found < 20 + len(options)


def test_source_route_behind_the_end_of_the_list_is_none() -> None:
    header = bytes(20) + b"\x01\x00\x83\x03"
    assert check_options(header, 0, 20, 24) == ACCEPTABLE


# -- path MTU ----------------------------------------------------------------------------------------------

THERE = 0xC000_0201


def cache(link_mtu: int = 1500) -> PathMtuCache:
    return PathMtuCache(link_mtu, 600 * S, Counters())


def test_plateaus_descend_to_the_floor() -> None:
    assert list(PLATEAUS) == sorted(PLATEAUS, reverse=True)
    assert PLATEAUS[-1] == BLACK_HOLE_SIZES[-1] == MIN_PATH_MTU


@pytest.mark.rfc("4821", "§7.7")
def test_black_hole_goes_down_in_two_steps_and_then_says_no() -> None:
    paths = cache()
    assert paths.on_black_hole_suspected(THERE, 0)
    assert paths.get(THERE) == 1200
    assert paths.on_black_hole_suspected(THERE, 0)
    assert paths.get(THERE) == 552
    assert not paths.on_black_hole_suspected(THERE, 0)
    assert paths.get(THERE) == 552


@pytest.mark.rfc("4821", "§7.7")
@pytest.mark.parametrize(("link_mtu", "sizes"), [(1200, [552]), (900, [552]), (552, []), (300, [])])
def test_black_hole_of_a_small_link(link_mtu: int, sizes: list[int]) -> None:
    paths = cache(link_mtu)
    found = []
    while paths.on_black_hole_suspected(THERE, 0):
        found.append(paths.get(THERE))
    assert found == sizes


def test_black_hole_estimate_ages_and_connections_are_told() -> None:
    paths = cache()
    assert paths.next_deadline() == NEVER
    paths.on_black_hole_suspected(THERE, 5 * S)
    assert paths.changed == [THERE]
    assert paths.next_deadline() == 605 * S
    paths.handle_deadline(605 * S - 1)
    assert paths.get(THERE) == 1200
    paths.changed = []
    paths.handle_deadline(605 * S)
    assert paths.get(THERE) == 1500
    assert paths.changed == [THERE]
    assert paths.next_deadline() == NEVER


@pytest.mark.rfc("4821", "§7.7")
def test_black_hole_makes_a_connection_send_smaller_segments() -> None:
    peer = established(mss=1460)
    cwnd = peer.connection.info()["cwnd"]
    host = peer.interface._host
    host.path_mtus.on_black_hole_suspected(peer.connection.remote_address, peer.now)
    peer.flush()
    assert peer.connection.info()["smss"] == 1160
    assert peer.connection.info()["cwnd"] == cwnd


def test_estimates_are_bounded_and_the_oldest_goes() -> None:
    paths = cache()
    for index in range(3_000):
        paths.too_big(THERE + index, 1000, 1500, index)
    assert len(paths.estimates()) == 1024
    assert paths.get(THERE) == 1500
    assert paths.get(THERE + 2_999) == 1000
    assert paths.next_deadline() == 600 * S + 3_000 - 1024


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 700 * S)),
        max_size=60,
    ),
    st.sampled_from([300, 552, 1500, 9000, 65535]),
)
def test_estimates_only_fall_until_they_age(steps: list[tuple[int, int, int, int]], link_mtu: int) -> None:
    paths = cache(link_mtu)
    now = 0
    for which, mtu, quoted, gap in steps:
        now += gap
        paths.handle_deadline(now)
        before = paths.get(which)
        if mtu % 7 == 0:
            assert paths.on_black_hole_suspected(which, now) == (paths.get(which) < before)
        else:
            paths.too_big(which, mtu, quoted, now)
        assert min(552, link_mtu) <= paths.get(which) <= before <= link_mtu
        assert now < paths.next_deadline()
        deadlines = [paths.next_deadline()]
        assert min(deadlines) <= now + 600 * S or paths.estimates() == []


def test_link_mtu_makes_larger_estimates_pointless() -> None:
    paths = cache(9000)
    paths.too_big(1, 1400, 9000, 0)
    paths.too_big(2, 4000, 9000, 0)
    paths.set_link_mtu(1500)
    assert [paths.get(which) for which in (1, 2, 3)] == [1400, 1500, 1500]
