"""The loads and their sets."""

from __future__ import annotations

import pytest

from appliance.bench.cases import CASES, SETS, Case, case_named, missing_commands, select
from appliance.bench.peers import LABELS


def names(set_name: str, *wanted: str) -> list[str]:
    return [case.name for case in select(set_name, wanted)]


def test_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_set_names_cases_and_peers_that_exist() -> None:
    known = {case.name for case in CASES}
    for one in SETS.values():
        assert set(one.names) <= known
        assert set(one.peers) <= set(LABELS)
        for peer, some in one.only_with:
            assert peer in one.peers
            assert set(some) <= set(one.names)


def test_full_has_every_case() -> None:
    assert select("full", ()) == list(CASES)


def test_a_command_chooses_its_cases_only() -> None:
    chosen = select("quick", ["set"])
    assert {case.command for case in chosen} == {"set"}
    assert len(chosen) > 8


def test_words_of_names_are_whole_words() -> None:
    assert names("quick", "-P 16") == [case.name for case in CASES if case.name.endswith("-P 16")]
    assert names("quick", "GET -c 50 -p 1") == ["GET -c 50 -P 1"]
    assert names("quick", "64 kib") == ["GET 64 KiB", "SET 64 KiB"]
    assert names("quick", "lrange")[:4] == ["LRANGE_100", "LRANGE_300", "LRANGE_500", "LRANGE_600"]
    assert names("quick", "nonsense") == []


@pytest.mark.parametrize(
    ("seconds", "rps", "requests"),
    [(1.0, None, 60_000), (0.1, 20_000.0, 1600), (0.001, 1000.0, 800), (1.0, 1230.0, 1600)],
)
def test_requests_are_whole_pipelines_of_all_clients(
    seconds: float, rps: float | None, requests: int
) -> None:
    case = Case("x", "get", clients=50, pipeline=16, nominal_rps=60_000)
    assert case.requests(seconds, rps) == requests


def test_many_clients_ask_often_enough_that_connecting_is_not_what_is_measured() -> None:
    many = case_named("SET -c 5000 -P 1")
    assert many.requests(0.25, 90_000.0) == 50 * 5000
    assert many.requests(10.0, 90_000.0) == 180 * 5000


def test_arguments_of_redis_benchmark() -> None:
    assert case_named("SET 64 KiB").arguments(500) == [
        "-t",
        "set",
        "-c",
        "50",
        "-P",
        "1",
        "-n",
        "500",
        "-d",
        "65536",
    ]
    assert case_named("connect PING close").arguments(9)[-2:] == ["-k", "0"]
    xadd = case_named("XADD").arguments(50)
    assert "-t" not in xadd
    assert xadd[-8:] == ["XADD", "mystream", "MAXLEN", "~", "100000", "*", "myfield", "xxx"]


def test_every_data_type_is_there_at_both_depths() -> None:
    full = {case.name: case for case in select("full", ())}
    for name in ("LPUSH", "LPOP", "LRANGE_600", "SADD", "SPOP", "HSET", "ZADD", "ZPOPMIN", "XADD"):
        assert (full[name].pipeline, full[f"{name} -P 16"].pipeline) == (1, 16)
        assert full[name].before == full[f"{name} -P 16"].before
        assert "-P 16" in " ".join(full[f"{name} -P 16"].arguments(50))


def test_preparations_know_the_number_of_requests() -> None:
    runs = case_named("LPOP").preparations(1234)
    assert runs[0][-2:] == ["DEL", "mylist"]
    assert runs[1] == ["-t", "lpush", "-P", "100", "-c", "10", "-n", "1234"]
    assert case_named("GET 1 MiB").preparations(5) == [["-t", "set", "-n", "1", "-c", "1", "-d", "1048576"]]


def test_megabytes_only_for_values_that_fill_them() -> None:
    assert case_named("SET 1 MiB").megabytes_per_request == pytest.approx(1.048576)
    assert case_named("SET -c 1").megabytes_per_request == 0


def test_what_the_engine_lacks() -> None:
    assert missing_commands(case_named("LPOP"), {"lpop", "get"}) == ["lpush"]
    assert missing_commands(case_named("GET -c 1"), {"get"}) == []


def test_targets_ask_the_others_only_where_they_are_compared() -> None:
    targets = SETS["targets"]
    assert targets.wants(case_named("GET -c 50 -P 1"), "uvloop")
    assert not targets.wants(case_named("GET 64 KiB"), "uvloop")
    assert targets.wants(case_named("GET 64 KiB"), "redis-server")
