"""The trials can be started: their figures stand in an ADR and somebody may want them of another machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine import environment

HERE = Path(__file__).parent / "trials"
TRIALS = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "__init__")


def test_there_are_trials() -> None:
    assert {"interpreters", "packet_ring", "tap_calls", "tap_queues", "trio_costs"} <= set(TRIALS)


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_says_what_it_takes(name: str) -> None:
    argv = [sys.executable, "-m", f"tests.bench.trials.{name}", "--help"]
    root = HERE.parents[2]
    done = subprocess.run(argv, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.system
def test_every_way_to_read_and_write_a_tap_is_timed() -> None:
    argv = [sys.executable, "-m", "tests.bench.trials.tap_calls", "--rounds", "1"]
    root = HERE.parents[2]
    done = subprocess.run(
        argv, cwd=root, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    if "Operation not permitted" in done.stderr or "Function not implemented" in done.stderr:
        pytest.skip("io_uring is not to be had here")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.endswith("ns a frame")]
    assert sum(line.startswith("write: io_uring, ") for line in lines) == 4
    assert sum(line.startswith("read: io_uring, ") for line in lines) == 4
    assert all(float(line.split()[-4]) > 0 for line in lines)
