"""Round trips to an echo service, and what is said where PyTCP is missing."""

from __future__ import annotations

import importlib.util
import socket
import threading
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from appliance.bench import echo_bench
from appliance.bench.echo_bench import _row, echo_table, round_trips, why_no_pytcp
from appliance.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def answered_by(answer: Callable[[bytes], bytes]) -> Iterator[socket.socket]:
    """One end of a pair whose other end sends `answer` of all it receives, and closes at an empty one."""
    client, server = socket.socketpair()

    def serve() -> None:
        with server:
            while data := server.recv(1000):
                back = answer(data)
                if not back:
                    return
                server.sendall(back)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client:
            yield client
    finally:
        thread.join()


def test_round_trips_are_timed_after_a_warm_up() -> None:
    asked: list[bytes] = []

    def answer(data: bytes) -> bytes:
        asked.append(data)
        return data

    with answered_by(answer) as client:
        times = round_trips(client, 64, 0.0)
    assert len(times) == 1
    assert times[0] > 0
    assert len(asked) == 21


def test_echoes_in_pieces_are_put_together() -> None:
    with answered_by(lambda data: data) as client:
        assert round_trips(client, 16_384, 0.0)


def test_a_false_echo_and_an_end_are_errors() -> None:
    with answered_by(lambda data: bytes(len(data))) as client:
        with pytest.raises(HostError, match="not what was sent"):
            round_trips(client, 64, 0.0)
    with answered_by(lambda _: b"") as client:
        with pytest.raises(HostError, match="ended the connection"):
            round_trips(client, 64, 0.0)


def test_missing_pytcp_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert why_no_pytcp() == "PyTCP is not installed: pip install 'PyTCP<3'"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "pytcp" else None)
    assert "another interface" in why_no_pytcp()


def runs(*rates: float) -> list[dict[str, float]]:
    return [{"rps": rate, "p50_ms": 0.5, "p99_ms": 1.0} for rate in rates]


def test_ratio_and_table() -> None:
    row = _row(64, {"redtap": runs(300.0, 400.0), "pytcp": runs(100.0, 200.0)})
    assert row["ratio"]["rounds"] == [3.0, 2.0]
    alone = _row(64, {"redtap": runs(1.0)})
    assert alone["ratio"] is None
    summary: dict[str, Any] = {"rounds": 2, "echo": [row, alone]}
    text = StringIO()
    Console(file=text, width=150).print(echo_table(summary))
    assert "2.50 (2.00 – 3.00, ±20 %)" in text.getvalue()


def test_ours_alone_is_measured_without_pytcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo_bench, "why_no_pytcp", lambda: "gone")
    monkeypatch.setattr(echo_bench, "_start", lambda _stack, name: name)
    monkeypatch.setattr(echo_bench, "_run", lambda *_: runs(5.0)[0])
    got = echo_bench.measure_echo(rounds=2, seconds=1.0, progress=lambda _: None)
    assert got["not_measured"] == ["pytcp: gone"]
    assert [list(row["rounds"]) for row in got["echo"]] == [["redtap"], ["redtap"]]
