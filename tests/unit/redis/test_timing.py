"""How commands are timed, and what becomes of it: counters, histograms, the slow log, the latency monitor."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.redis import Engine, EngineSettings, Session
from appliance.redis.commands.observing import picture
from appliance.redis.latency import HISTORY_LENGTH, Histogram, LatencyMonitor, Samples, bucket_of, largest_in
from appliance.redis.quoting import quote
from appliance.redis.slowlog import trimmed

NOW_US = 1_700_000_000_000_000


class Timed:
    """One client of an engine whose stopwatch goes on by `step_ns` each time that it is looked at."""

    def __init__(self) -> None:
        self.engine = Engine(EngineSettings(), lambda count: bytes(range(count)))
        self.engine.is_direct = False
        self.step_ns = 5_000
        self.looks = 0
        self._ns = 0
        self.engine.stopwatch = self._look
        self.session: Session = self.engine.create_session(remote="10.0.0.1:1", local="", now_us=NOW_US)

    def _look(self) -> int:
        self.looks += 1
        self._ns += self.step_ns
        return self._ns

    def say(self, text: str) -> bytes:
        self.session.data_received(text.encode() + b"\r\n", NOW_US)
        return b"".join(self.session.take_output())

    def facts(self, name: str) -> str:
        lines = self.say("INFO everything").decode().split("\r\n")
        return next((line.partition(":")[2] for line in lines if line.startswith(name + ":")), "")


@pytest.fixture
def timed() -> Timed:
    return Timed()


def test_a_slow_command_is_timed_each_time(timed: Timed) -> None:
    for _ in range(10):
        timed.say("LRANGE l 0 -1")
    assert timed.looks == 20
    assert timed.facts("cmdstat_lrange").startswith("calls=10,usec=50,usec_per_call=5.00")


def test_a_quick_command_is_timed_once_in_64_and_stands_for_the_others(timed: Timed) -> None:
    for _ in range(640):
        timed.say("GET k")
    assert timed.looks == 20
    assert timed.facts("cmdstat_get").startswith("calls=640,usec=3200,usec_per_call=5.00")
    assert b":640\r\n" in timed.say("LATENCY HISTOGRAM get")


def test_each_call_weighs_like_the_last_one_that_was_timed(timed: Timed) -> None:
    timed.step_ns = 1_000
    timed.say("GET k")
    timed.step_ns = 100_000
    for _ in range(64):
        timed.say("GET k")
    # The first took 1 µs; the 65th 100 µs, and it stands for the 63 before it.
    assert timed.facts("cmdstat_get").startswith("calls=65,usec=6401,")


def test_a_long_request_of_a_quick_command_is_timed_and_stands_for_itself(timed: Timed) -> None:
    members = " ".join(f"m{number}" for number in range(200))
    timed.step_ns = 1_000
    timed.say("SADD s m0 m1 m2")
    timed.say("SPOP s")
    looks = timed.looks
    for _ in range(20):
        timed.say("SADD s m")
        timed.say("SPOP s")
    assert timed.looks == looks
    timed.step_ns = 100_000
    timed.say("SADD s " + members)
    timed.say("SPOP s 50")
    assert timed.looks == looks + 4
    # 21 short ones of 1 µs each, and a long one.
    assert timed.facts("cmdstat_sadd").startswith("calls=22,usec=121,")
    assert timed.facts("cmdstat_spop").startswith("calls=22,usec=121,")
    looks = timed.looks
    for _ in range(43):
        timed.say("SADD s m")
    assert timed.looks == looks
    timed.say("SADD s m")
    assert timed.looks == looks + 2


def test_a_low_threshold_has_every_call_timed(timed: Timed) -> None:
    timed.say("GET k")
    timed.say("CONFIG SET slowlog-log-slower-than 999")
    looks = timed.looks
    for _ in range(10):
        timed.say("GET k")
    assert timed.looks - looks == 20
    timed.say("CONFIG SET slowlog-log-slower-than 1000")
    looks = timed.looks
    for _ in range(64):
        timed.say("GET k")
    assert timed.looks - looks == 2


def test_what_takes_long_is_in_the_slow_log_and_an_event(timed: Timed) -> None:
    timed.say("CONFIG SET latency-monitor-threshold 10")
    timed.step_ns = 20_000_000
    timed.say("KEYS *")
    assert b":20000\r\n*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n$10\r\n10.0.0.1:1\r\n$0\r\n" in timed.say("SLOWLOG GET")
    assert b"$7\r\ncommand\r\n:1700000000\r\n:20\r\n:20\r\n" in timed.say("LATENCY LATEST")
    assert b"command - high 20 ms, low 20 ms (all time high 20 ms)\n----" in timed.say(
        "LATENCY GRAPH command"
    )
    assert timed.say("LATENCY RESET") == b":1\r\n"


def test_a_command_that_waits_is_counted_when_it_is_answered(timed: Timed) -> None:
    timed.say("CONFIG SET slowlog-log-slower-than 0")
    timed.say("SLOWLOG RESET")
    timed.say("BLPOP q 1")
    timed.engine.handle_timeouts(NOW_US + 1_000_000)
    timed.engine.take_pending_sessions()
    assert timed.session.take_output() == [b"*-1\r\n"]
    assert timed.facts("cmdstat_blpop").startswith("calls=1,usec=5,")
    assert b":5\r\n*3\r\n$5\r\nBLPOP\r\n" in timed.say("SLOWLOG GET")


def test_without_latency_tracking_there_are_no_histograms(timed: Timed) -> None:
    timed.say("CONFIG SET latency-tracking no")
    timed.say("LLEN l")
    assert timed.say("LATENCY HISTOGRAM llen") == b"*0\r\n"
    assert timed.facts("cmdstat_llen").startswith("calls=1,usec=5,")


def test_passwords_are_in_no_log(timed: Timed) -> None:
    timed.say("CONFIG SET slowlog-log-slower-than 0")
    for line in (
        "AUTH secret",
        "AUTH user secret",
        "HELLO 3 SETNAME x AUTH user secret",
        "CONFIG SET masterauth secret",
    ):
        timed.say(line)
    assert b"secret" not in timed.say("SLOWLOG GET -1")


# Histograms ---------------------------------------------------------------------------------------


@given(value=st.integers(0, 1_000_000_000))
def test_a_bucket_is_no_wider_than_a_128th(value: int) -> None:
    bucket = bucket_of(value)
    largest = largest_in(bucket)
    assert value <= largest <= value + max(0, value // 128)
    assert bucket_of(largest) == bucket
    assert bucket_of(largest + 1) == bucket + 1 or largest + 1 == 1 << (largest + 1).bit_length() - 1


@given(values=st.lists(st.integers(0, 3_000_000), min_size=1))
def test_percentiles_and_sums_are_those_of_the_sorted_values(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value, 1)
    capped = sorted([min(max(value * 1000, 1), 1_000_000_000) for value in values])
    assert histogram.percentile(100.0) == largest_in(bucket_of(capped[-1]))
    middle = capped[max(1, int(len(capped) / 2 + 0.5)) - 1]
    assert histogram.percentile(50.0) == largest_in(bucket_of(middle))
    pairs = histogram.cumulative()
    assert pairs[-1][1] == len(values)
    assert [count for _, count in pairs] == sorted({count for _, count in pairs})
    for limit_us, count in pairs:
        assert count == len([value for value in capped if value // 1000 <= limit_us])


def test_samples_keep_the_worst_of_a_second_and_no_more_than_their_number() -> None:
    samples = Samples()
    for took_ms in (5, 9, 7):
        samples.add(100, took_ms)
    assert list(samples.moments) == [(100, 9)]
    for now_s in range(101, 101 + HISTORY_LENGTH):
        samples.add(now_s, 1)
    assert len(samples.moments) == HISTORY_LENGTH
    assert samples.longest_ms == 9


def test_the_monitor_notes_what_reaches_its_threshold() -> None:
    monitor = LatencyMonitor()
    monitor.note(b"command", 1, 1000)
    assert monitor.events == {}
    monitor.threshold_ms = 10
    monitor.note(b"command", 1, 9)
    monitor.note(b"command", 1, 10)
    assert list(monitor.events) == [b"command"]
    assert monitor.forget([b"nosuch"]) == 0
    assert monitor.forget([]) == 1


def test_the_picture_is_as_high_as_its_values() -> None:
    assert picture([2, 10, 30], ["3s", "2s", "1s"]) == "  #\n  |\n _|\n_||\n   \n321\nsss\n"
    assert picture([5], ["12m"]) == " \n \n \n_\n \n1\n2\nm\n"


# What logs show -----------------------------------------------------------------------------------


def test_an_entry_keeps_so_many_arguments_of_such_a_length() -> None:
    assert trimmed([b"x" * 128] * 32) == [b"x" * 128] * 32
    shown = trimmed([b"x" * 129] * 33)
    assert len(shown) == 32
    assert shown[0] == b"x" * 128 + b"... (1 more bytes)"
    assert shown[-1] == b"... (2 more arguments)"


def test_quoted_text_has_no_byte_that_a_terminal_minds() -> None:
    assert quote(b'a"\\\r\n\t\a\b\0\xff ~') == b'"a\\"\\\\\\r\\n\\t\\a\\b\\x00\\xff ~"'
