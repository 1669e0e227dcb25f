"""From runs over kinds of link to their table, without a link."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from rich.console import Console

from appliance.bench.cases import case_named
from appliance.bench.links_bench import LINK_CASES, links_row, links_table, measure_links
from appliance.bench.load import CpuTime, Measurement
from appliance.errors import HostError

GET = case_named("GET -c 50 -P 1")


def run(rps: float) -> Measurement:
    return Measurement(rps, 0.2, (0.2, 0.3, 0.5, 1.0, 2.0), 3.0, CpuTime(2.0, 3.0), CpuTime(4.0, 5.0))


class FakePeers:
    """Starts one peer that answers at a rate of its own, or cannot be started."""

    RATES: ClassVar = {"redtap": 1000.0, "redtap-tun": 1100.0, "redtap-packet": 500.0}

    def __init__(self, names: list[str], congestion: str, cores: object) -> None:
        (self.name,) = names
        assert congestion == "cubic"

    def __enter__(self) -> Any:
        if self.name not in self.RATES:
            raise HostError("no such thing here")
        peer = SimpleNamespace(
            name=self.name,
            prepare=lambda *_: None,
            measure=lambda *_: run(self.RATES[self.name]),
        )
        return SimpleNamespace(peers=[peer])

    def __exit__(self, *_: object) -> None:
        pass


def measure(rounds: int = 2) -> dict[str, Any]:
    return measure_links(
        [GET],
        rounds=rounds,
        seconds=0.1,
        congestion="cubic",
        cores=None,
        progress=lambda _: None,
        peers_named=FakePeers,  # type: ignore[arg-type]
    )


def test_each_kind_is_compared_with_the_tap() -> None:
    summary = measure()
    (row,) = summary["links"]
    assert row["ratios"]["tun"]["median"] == pytest.approx(1.1)
    assert row["ratios"]["packet"]["rounds"] == [0.5, 0.5]
    assert "tap" not in row["ratios"]


def test_a_kind_that_cannot_be_had_is_left_out_and_told() -> None:
    summary = measure()
    assert summary["not_measured"] == ["xdp: no such thing here"]
    assert set(summary["links"][0]["rounds"]) == {"tap", "tun", "packet"}


def test_without_a_tap_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePeers, "RATES", {"redtap-tun": 1.0})
    with pytest.raises(HostError, match="no such thing here"):
        measure()


def test_the_table_has_every_case_and_kind() -> None:
    text = StringIO()
    Console(file=text, width=200).print(links_table(measure()))
    shown = text.getvalue()
    for word in (
        "GET -c 50 -P 1",
        "packet",
        "1.10 (1.10 – 1.10, ±0 %)",
        "2.0+3.0 + 9.0",
        "nothing is pinned",
    ):
        assert word in shown


def test_no_case_is_there_twice() -> None:
    names = [case.name for case in LINK_CASES]
    assert len(set(names)) == len(names)
    assert links_row(GET, {"tap": [run(2.0)]})["ratios"] == {}
