"""What `redtap bench` makes of its options, before anything is started."""

from __future__ import annotations

import pytest

from appliance.bench import command
from appliance.bench.cases import CASES, SETS
from appliance.bench.command import _plan, _possible, bench, known_commands
from appliance.errors import ConfigError


@pytest.fixture(autouse=True)
def everybody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "why_unavailable", lambda _: "")


def test_a_set_decides_cases_and_peers() -> None:
    cases, chosen, names, notes = _plan("targets", (), ())
    assert chosen is SETS["targets"]
    assert names == list(SETS["targets"].peers)
    assert {case.name for case in cases} == set(SETS["targets"].names)
    assert notes == []


def test_cases_or_peers_that_are_named_are_all_asked() -> None:
    cases, chosen, names, _ = _plan("targets", ("incr",), ("floor", "redtap"))
    assert chosen is None
    assert names == ["floor", "redtap"]
    assert {case.command for case in cases} == {"incr"}


def test_a_peer_that_is_missing_is_told_and_one_asked_for_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "why_unavailable", lambda name: "gone" if name == "uvloop" else "")
    _, _, names, notes = _plan("quick", (), ())
    assert "uvloop" not in names
    assert notes == ["uvloop: gone"]
    with pytest.raises(ConfigError, match="--peers uvloop: gone"):
        _plan("quick", (), ("redtap", "uvloop"))


def test_cases_whose_commands_are_missing_are_told() -> None:
    possible, notes = _possible(CASES, {"get", "set"})
    assert {case.command for case in possible} == {"get", "set"}
    assert "LPOP: our engine has no lpop nor lpush yet" in notes


def test_names_that_nothing_has_are_one_line() -> None:
    with pytest.raises(ConfigError, match="--peers: no such peer: nobody"):
        _plan("quick", (), ("nobody",))
    with pytest.raises(ConfigError, match="--cases: nothing matches; the cases are 'GET -c 50 -P 1'"):
        _plan("quick", ("nonsense",), ())


def test_our_commands_are_known() -> None:
    assert {"get", "set", "incr", "mset", "ping", "client|id"} <= known_commands()


def test_lists_may_be_written_with_commas() -> None:
    parsed = bench.make_context(
        "bench", ["--cases", "get, 64 KiB", "--case", "incr", "--peers", "redtap,floor"]
    )
    assert parsed.params["wanted"] == ("get", "64 KiB", "incr")
    assert parsed.params["peer_names"] == ("redtap", "floor")
