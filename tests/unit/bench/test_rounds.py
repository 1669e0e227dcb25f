"""From rounds with peers that are none to the tables, the targets and the picture."""

from __future__ import annotations

import json
import math
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from appliance.bench.cases import SETS, Case, case_named
from appliance.bench.command import measure_cases, tables
from appliance.bench.load import CpuTime, Measurement
from appliance.bench.machine import machine_facts
from appliance.bench.measure import measure_rounds, participants
from appliance.bench.peers import Peer
from appliance.bench.report import case_row, ratio
from appliance.bench.targets import TARGETS, check
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GET = case_named("GET -c 50 -P 1")
MANY = case_named("GET -c 5000 -P 1")


def run(rps: float, p50: float = 0.2, p99: float = 0.5) -> Measurement:
    return Measurement(rps, p50, (p50, p50, p99, 1.0, 2.0), 3.0, CpuTime(2.0, 3.0), CpuTime(4.0, 5.0))


class FakePeer(Peer):
    """Answers from a list, or always alike, and writes down that it was asked."""

    def __init__(
        self, name: str, rates: list[float] | float, log: list[tuple[str, str, int]], **facts: Any
    ) -> None:
        super().__init__(name, "1", "", 0, lambda *_, **__: None, "", 0, **facts)  # type: ignore[arg-type,return-value]
        object.__setattr__(self, "rates", rates if isinstance(rates, list) else None)
        object.__setattr__(self, "always", rates)
        object.__setattr__(self, "log", log)

    def prepare(self, case: Case, requests: int) -> None:
        self.log.append(("prepare", self.name, requests))

    def measure(self, case: Case, requests: int) -> Measurement:
        self.log.append(("measure", self.name, requests))
        return run(self.rates.pop(0) if self.rates is not None else self.always)


class Steady:
    """A machine that is always at full speed."""

    waits = 0

    def wait(self) -> None:
        self.waits += 1


def silence(_text: str) -> None:
    pass


def test_rounds_go_in_turn_and_another_one_begins_each() -> None:
    log: list[tuple[str, str, int]] = []
    peers = [FakePeer(name, 1000.0, log) for name in ("a", "b", "c")]
    steady = Steady()
    requests, measured = measure_rounds(
        GET, peers, rounds=4, seconds=1.0, steadiness=steady, progress=silence
    )
    order = [name for what, name, _ in log if what == "measure"]
    assert order[:3] == ["a", "b", "c"]  # the trials
    assert "".join(order[3:]) == "abc" + "bca" + "cab" + "abc"
    assert steady.waits == 4
    assert requests == {"a": 1000, "b": 1000, "c": 1000}
    assert {name: len(runs) for name, runs in measured.items()} == {"a": 4, "b": 4, "c": 4}


def test_each_peer_runs_as_long_as_was_asked_and_is_prepared_for_it() -> None:
    log: list[tuple[str, str, int]] = []
    peers = [FakePeer("fast", 100_000.0, log), FakePeer("slow", 2_000.0, log)]
    requests, _ = measure_rounds(GET, peers, rounds=1, seconds=0.5, steadiness=Steady(), progress=silence)
    assert requests == {"fast": 50_000, "slow": 1_000}
    assert log[-4:] == [
        ("prepare", "fast", 50_000),
        ("measure", "fast", 50_000),
        ("prepare", "slow", 1_000),
        ("measure", "slow", 1_000),
    ]


def test_a_trial_too_quick_to_be_timed_is_made_longer() -> None:
    log: list[tuple[str, str, int]] = []
    peers = [FakePeer("a", [math.inf, math.inf, 1000.0, 900.0], log)]
    requests, measured = measure_rounds(
        GET, peers, rounds=1, seconds=0.1, steadiness=Steady(), progress=silence
    )
    asked = [count for what, _, count in log if what == "measure"]
    assert asked[1:3] == [asked[0] * 10, asked[0] * 100]
    assert requests == {"a": 100}
    assert [run.rps for run in measured["a"]] == [900.0]


def test_nothing_that_was_measured_is_dropped() -> None:
    rates = [1.0, 5.0, 0.001, 7.0]
    peers = [FakePeer("redtap", [*rates], []), FakePeer("redis-server", [1.0, 1.0, 1.0, 1.0], [])]
    (row,) = measure_cases([GET], peers, None, rounds=3, seconds=1.0, steadiness=Steady(), progress=silence)
    assert [one["rps"] for one in row["rounds"]["redtap"]] == rates[1:]
    assert row["ratios"]["redis-server"]["rps"]["rounds"] == rates[1:]
    assert row["ratios"]["redis-server"]["rps"]["least"] == 0.001


def test_who_takes_part() -> None:
    log: list[tuple[str, str, int]] = []
    floor = FakePeer("floor", 1.0, log, commands=("get",))
    thousand = FakePeer("fakeredis", 1.0, log, max_clients=1000)
    assert participants(GET, [floor, thousand], None) == [floor, thousand]
    assert participants(MANY, [floor, thousand], None) == [floor]
    assert participants(case_named("GET 64 KiB"), [floor, thousand], None) == [thousand]
    assert participants(case_named("SET -c 1"), [floor, thousand], SETS["targets"]) == [thousand]


def test_ratios_are_of_rounds_and_of_the_best() -> None:
    one = ratio([10.0, 30.0, 20.0], [10.0, 10.0, 40.0], best=max)
    assert one["rounds"] == [1.0, 3.0, 0.5]
    assert (one["median"], one["least"], one["greatest"]) == (1.0, 0.5, 3.0)
    assert one["best"] == 0.75
    logs = [math.log(value) for value in (1.0, 3.0, 0.5)]
    mean = sum(logs) / 3
    assert one["scatter_percent"] == pytest.approx(100 * math.sqrt(sum((x - mean) ** 2 for x in logs) / 3))


def test_latencies_below_the_step_of_the_clock_do_not_divide_by_nothing() -> None:
    assert ratio([0.0], [0.0], best=min)["median"] == 1.0


def summary_of(rates: dict[str, tuple[float, float]], memory: float = 5000.0) -> dict[str, Any]:
    """Two cases, GET with 50 and with 5000 clients, in which each peer answers at two rates."""
    log: list[tuple[str, str, int]] = []
    rows = []
    for number, case in enumerate((GET, MANY)):
        peers = [FakePeer(name, pair[number], log) for name, pair in rates.items()]
        rows += measure_cases(
            [case], peers, None, rounds=3, seconds=0.1, steadiness=Steady(), progress=silence
        )
    summary: dict[str, Any] = {
        "redtap": "0.0, compiled build",
        "machine": machine_facts(),
        "rounds": 3,
        "seconds": 0.1,
        "congestion_control": "cubic",
        "pinned": "servers on core 0, clients on core 1",
        "cores": {"server": 0, "client": 1},
        "waited_for_the_machine_s": 0.0,
        "peers": dict.fromkeys(rates, "1"),
        "labels": dict.fromkeys(rates, ""),
        "cases": rows,
        "memory": [
            {"case": "idle connection, of 10", "count": 10, "bytes": {"redtap": memory, "redis-server": 2e4}}
        ],
        "set": "targets",
        "not_measured": [],
    }
    summary["targets"] = check(summary)
    return summary


SUMMARY = summary_of({"redtap": (900.0, 500.0), "redis-server": (1000.0, 500.0), "kernel": (400.0, 1.0)})


def found(summary: dict[str, Any], row: str) -> dict[str, Any]:
    return next(one for one in summary["targets"] if one["row"] == row)


def test_targets_that_hold_and_that_do_not() -> None:
    assert found(SUMMARY, "GET -c 50 -P 1")["holds"] == "no"
    assert found(SUMMARY, "GET -c 50 -P 1")["median"] == pytest.approx(0.9)
    assert found(SUMMARY, "GET -c 50 -P 1, p99")["holds"] == "yes"
    trio = found(SUMMARY, "GET -c 50 -P 1, engine under trio")
    assert (trio["peer"], trio["holds"], trio["median"]) == ("kernel", "yes", pytest.approx(2.25))
    assert found(SUMMARY, "idle connection")["holds"] == "yes"


def test_the_slowest_thousandth_is_a_target() -> None:
    slow, quick = (run(1.0), run(1.0))
    object.__setattr__(slow, "percentiles_ms", (0.2, 0.2, 0.5, 3.1, 3.1))
    row = case_row(GET, {"redtap": 1, "redis-server": 1}, {"redtap": [slow], "redis-server": [quick]})
    target = found({**SUMMARY, "targets": check({"cases": [row], "memory": []})}, "GET -c 50 -P 1, p99.9")
    assert (target["wanted"], target["median"], target["holds"]) == ("≤ 3.0×", pytest.approx(3.1), "no")


def test_the_fall_is_a_ratio_of_falls() -> None:
    # Ours fall to 500/900, theirs to 500/1000: ours fall less.
    fall = found(SUMMARY, "GET, fall from -c 50 to -c 5000")
    assert fall["median"] == pytest.approx((500 / 900) / (500 / 1000))
    assert fall["holds"] == "yes"


def test_a_target_that_only_one_figure_reaches_says_so() -> None:
    summary = json.loads(json.dumps(SUMMARY))
    summary["cases"][0]["ratios"]["redis-server"]["rps"]["best"] = 1.01
    assert {one["row"]: one["holds"] for one in check(summary)}["GET -c 50 -P 1"] == "best"


def test_memory_beyond_the_bound_does_not_hold() -> None:
    rows = check({**SUMMARY, "memory": [{"case": "idle connection, of 10", "bytes": {"redtap": 6145.0}}]})
    assert {one["row"]: one["holds"] for one in rows}["idle connection"] == "no"


def test_targets_that_were_not_measured_are_not_shown() -> None:
    rows = {one["row"] for one in SUMMARY["targets"]}
    assert "SET 1 MiB, MB/s" not in rows
    assert "GET -c 50 -P 1, engine under asyncio+uvloop" not in rows


def test_every_target_is_in_the_set_of_targets() -> None:
    targets = SETS["targets"]
    for target in TARGETS:
        if target.quantity == "bytes":
            continue
        for name in filter(None, (target.case, target.against)):
            assert name in targets.names
            assert target.peer in targets.peers
            assert targets.wants(case_named(name), target.peer)
    assert set(targets.names) == {
        name for target in TARGETS for name in (target.case, target.against) if name in targets.names
    }


def test_tables_have_every_case_peer_and_target() -> None:
    text = StringIO()
    console = Console(file=text, width=240)
    for one in tables(SUMMARY):
        console.print(one)
    shown = text.getvalue()
    for word in (
        "GET -c 5000 -P 1",
        "redis-server 1",
        "kernel 1",
        "0.90 (0.90 – 0.90, ±0 %)",
        "targets: 5 of 6",
        "servers on core 0, clients on core 1",
    ):
        assert word in shown
    assert "2.0+3.0 + 9.0" in shown
    assert "0.200 0.200 0.500 1 2" in shown


def test_the_summary_is_json() -> None:
    assert json.loads(json.dumps(SUMMARY)) == SUMMARY


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from appliance.bench.picture import check_picture, draw

    path = tmp_path / "picture.png"
    check_picture(str(path))
    draw(SUMMARY, str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000


def test_a_picture_of_ours_alone_is_drawn_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from appliance.bench.picture import draw

    path = tmp_path / "picture.svg"
    draw(summary_of({"redtap": (900.0, 500.0)}), str(path))
    assert b"<svg" in path.read_bytes()


def test_a_picture_that_cannot_be_drawn_is_one_line_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.bench import picture

    with pytest.raises(ConfigError, match=r"should end in one of \.png"):
        picture.check_picture("picture.gif")
    with pytest.raises(ConfigError, match="no directory"):
        picture.check_picture(str(tmp_path / "missing" / "a.png"))
    monkeypatch.setattr(picture.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"matplotlib is not installed: pip install 'redtap\[bench\]'"):
        picture.check_picture(str(tmp_path / "a.png"))
