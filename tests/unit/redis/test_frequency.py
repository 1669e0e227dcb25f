"""Counters of use: how they grow, how they decay, and which keys the -lfu policies let go of."""

from __future__ import annotations

import pytest

from appliance.redis.frequency import FRESH, HIGHEST, Frequency
from tests.support.redis_client import START_US, Client, make_engine

MINUTE = 60
NOW = 1_700_000_000
# The most and the least that chance can say.
NEVER = (1 << 32) - 1
ALWAYS = 1


def rules(drawn: int, log_factor: int = 10, decay_minutes: int = 1) -> Frequency:
    made = Frequency(lambda: drawn)
    made.log_factor = log_factor
    made.decay_minutes = decay_minutes
    return made


def test_a_new_key_has_a_counter_of_5_and_the_first_use_always_counts() -> None:
    frequency = rules(NEVER)
    access = frequency.made(NOW)
    assert frequency.counter(access, NOW) == FRESH == 5
    assert frequency.counter(frequency.used(access, NOW), NOW) == 6


@pytest.mark.parametrize(("counter", "odds"), [(6, 11), (10, 51), (100, 951), (254, 2491)])
def test_the_higher_the_counter_the_less_a_use_counts(counter: int, odds: int) -> None:
    highest_draw = ((1 << 32) - 1) // odds
    access = rules(ALWAYS).made(NOW, counter)
    assert rules(highest_draw).used(access, NOW) & HIGHEST == counter + 1
    assert rules(highest_draw + 1).used(access, NOW) & HIGHEST == counter


def test_the_counter_stays_at_255_and_below_5_grows_each_time() -> None:
    frequency = rules(NEVER)
    assert frequency.used(frequency.made(NOW, 255), NOW) & HIGHEST == 255
    assert frequency.used(frequency.made(NOW, 0), NOW) & HIGHEST == 1


@pytest.mark.parametrize("factor", [1 << 31, (1 << 31) - 1])
def test_a_huge_factor_is_no_overflow(factor: int) -> None:
    frequency = rules(NEVER, log_factor=factor)
    assert frequency.used(frequency.made(NOW, 254), NOW) & HIGHEST == 254


def test_the_counter_decays_by_one_for_each_period_and_not_below_zero() -> None:
    frequency = rules(ALWAYS, decay_minutes=3)
    access = frequency.made(NOW, 100)
    assert frequency.counter(access, NOW + 2 * MINUTE) == 100
    assert frequency.counter(access, NOW + 9 * MINUTE) == 97
    assert frequency.counter(access, NOW + 2000 * MINUTE) == 0
    assert rules(ALWAYS, decay_minutes=0).counter(access, NOW + 2000 * MINUTE) == 100


def test_the_minutes_wrap() -> None:
    before_the_wrap = ((NOW // MINUTE >> 16) + 1 << 16) * MINUTE - MINUTE
    frequency = rules(ALWAYS)
    access = frequency.made(before_the_wrap, 50)
    assert frequency.counter(access, before_the_wrap + 5 * MINUTE) == 45


def frequency_of(client: Client, key: str) -> int:
    return int(client.send("OBJECT", "FREQ", key)[1:])


def test_object_freq_of_packed_keys_and_of_entries() -> None:
    client = Client(make_engine())
    client.send("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu", "lfu-log-factor", 0)
    client.send("SET", "packed", "v")
    client.send("RPUSH", "entry", 1)
    for _ in range(10):
        client.send("GET", "packed")
        client.send("LLEN", "entry")
    assert (frequency_of(client, "packed"), frequency_of(client, "entry")) == (15, 15)
    client.now_us = START_US + 4 * MINUTE * 1_000_000
    assert (frequency_of(client, "packed"), frequency_of(client, "entry")) == (11, 11)
    client.engine.databases[0].check_invariants()


def test_sessions_follow_a_change_of_policy_except_those_that_do_not_touch() -> None:
    client = Client(make_engine())
    quiet = Client(client.engine)
    quiet.send("CLIENT", "NO-TOUCH", "ON")
    quiet.send("CONFIG", "SET", "maxmemory-policy", "volatile-lfu", "lfu-log-factor", 0)
    client.send("SET", "k", "v")
    quiet.send("GET", "k")
    assert frequency_of(client, "k") == 5
    client.send("GET", "k")
    assert frequency_of(client, "k") == 6
    quiet.send("TOUCH", "k")
    assert frequency_of(client, "k") == 7
    client.send("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    client.send("GET", "k")
    assert client.send("OBJECT", "IDLETIME", "k") == b":0\r\n"
    assert b"not selected" in client.send("OBJECT", "FREQ", "k")


def test_the_least_used_go_first() -> None:
    client = Client(make_engine())
    client.send("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu", "maxmemory", 1_000_000 + 250_000)
    for number in range(100):
        client.send("SET", f"used{number}", "x" * 1000)
        for _ in range(50):
            client.send("GET", f"used{number}")
    for number in range(400):
        client.now_us += 1000
        client.send("SET", f"once{number}", "x" * 1000)
    assert sum(client.send("EXISTS", f"used{number}") == b":1\r\n" for number in range(100)) >= 90


@pytest.mark.parametrize(("tenacity", "at_once"), [(0, 16), (10, 62), (30, 1022), (100, 1 << 40)])
def test_tenacity_bounds_what_goes_for_one_command_and_housekeeping_does_the_rest(
    tenacity: int, at_once: int
) -> None:
    client = Client(make_engine())
    for number in range(3000):
        client.send("SET", f"k{number}", "x" * 100)
    client.send("CONFIG", "SET", "maxmemory-eviction-tenacity", tenacity)
    client.send("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", 1_100_000)
    engine = client.engine
    assert client.send("SET", "one", "more") == b"+OK\r\n"
    evicted = engine.stats.evicted_keys
    assert evicted <= at_once
    assert evicted == at_once or engine.memory.used() <= 1_101_000
    for _ in range(1000):
        if engine.next_timeout_us() > client.now_us + 10_000_000:
            break
        client.now_us = engine.next_timeout_us()
        engine.handle_timeouts(client.now_us)
    assert not engine.memory.is_behind
    assert engine.memory.used() <= 1_101_000
