"""redis-benchmark's output, and processor time."""

from __future__ import annotations

import math
import os
import time

import pytest

from appliance.bench.load import PERCENTILES, CpuTime, parse_output, process_cpu
from appliance.errors import HostError

NOTHING = CpuTime(0.0, 0.0)

OUTPUT = """\
WARNING: something
 GET: rps=0.0 (overall: -nan) avg_msec=-nan\r====== GET ======
  20000 requests completed in 0.15 seconds
  20 parallel clients

Latency by percentile distribution:
0.000% <= 0.023 milliseconds (cumulative count 5)
50.000% <= 0.087 milliseconds (cumulative count 11088)
75.000% <= 0.111 milliseconds (cumulative count 16778)
87.500% <= 0.119 milliseconds (cumulative count 17484)
93.750% <= 0.127 milliseconds (cumulative count 19166)
99.219% <= 0.223 milliseconds (cumulative count 19846)
99.902% <= 2.831 milliseconds (cumulative count 19979)
99.951% <= 2.863 milliseconds (cumulative count 19991)
99.988% <= 2.983 milliseconds (cumulative count 19998)
100.000% <= 3.231 milliseconds (cumulative count 20000)
100.000% <= 3.231 milliseconds (cumulative count 20000)

Cumulative distribution of latencies:
74.530% <= 0.103 milliseconds (cumulative count 14906)
100.000% <= 4.103 milliseconds (cumulative count 20000)

Summary:
  throughput summary: 131578.95 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.094     0.016     0.087     0.127     0.199     3.231
"""


def test_a_percentile_is_the_first_step_with_as_many_requests() -> None:
    got = parse_output(OUTPUT, NOTHING, NOTHING)
    assert got.rps == 131578.95
    assert got.average_ms == 0.094
    assert got.max_ms == 3.231
    # 90 % are 18000: not 17484 yet. 99.9 % are 19980: one more than the step at 99.902 % has.
    assert dict(zip(PERCENTILES, got.percentiles_ms, strict=True)) == {
        50.0: 0.087,
        90.0: 0.127,
        99.0: 0.223,
        99.9: 2.863,
        99.99: 2.983,
    }
    assert (got.p50_ms, got.p99_ms, got.p999_ms) == (0.087, 0.223, 2.863)


def test_a_run_of_no_milliseconds_has_no_rate() -> None:
    assert parse_output(OUTPUT.replace("131578.95", "inf"), NOTHING, NOTHING).rps == math.inf


def test_of_several_tests_the_last_counts() -> None:
    first = OUTPUT.replace("131578.95", "7.00").replace("0.087", "9.999").replace("GET", "LPUSH (needed)")
    assert parse_output(first + OUTPUT, NOTHING, NOTHING) == parse_output(OUTPUT, NOTHING, NOTHING)


@pytest.mark.parametrize("text", ["", "Could not connect to Redis\n", OUTPUT[:900]])
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not an output"):
        parse_output(text, NOTHING, NOTHING)


def test_processor_time_of_a_process_grows_with_its_work() -> None:
    before = process_cpu(os.getpid())
    while time.process_time() < before.user + before.system + 0.1:
        pass
    spent = process_cpu(os.getpid()).since(before)
    assert spent.user + spent.system > 0.02


def test_processor_time_of_nobody_is_an_error() -> None:
    with pytest.raises(HostError, match="is gone"):
        process_cpu(2**22 + 1)


def test_seconds_become_microseconds_a_request() -> None:
    assert CpuTime(3.0, 1.0).since(CpuTime(1.0, 0.5)).per_request_us(1000) == CpuTime(2000.0, 500.0)
