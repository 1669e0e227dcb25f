"""Where servers and clients are put."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from appliance.bench.cores import Cores, choose, described, on_core, placed

if TYPE_CHECKING:
    from pathlib import Path


def topology(root: Path, *places: tuple[int, int]) -> str:
    """A directory as the kernel has it: for each logical processor its package and its core."""
    for number, (package, core) in enumerate(places):
        directory = root / f"cpu{number}" / "topology"
        directory.mkdir(parents=True)
        (directory / "physical_package_id").write_text(f"{package}\n")
        (directory / "core_id").write_text(f"{core}\n")
    return str(root)


def test_one_core_is_no_choice() -> None:
    assert choose([3]) is None
    assert described(None) == "nothing is pinned to a core"


def test_two_cores_are_both_taken(tmp_path: Path) -> None:
    assert choose([0, 1], topology(tmp_path, (0, 0), (0, 1))) == Cores(0, 1)
    assert described(Cores(0, 1)) == "servers on core 0, clients on core 1"


def test_threads_of_one_core_are_apart_where_there_are_others(tmp_path: Path) -> None:
    assert choose(range(4), topology(tmp_path, (0, 0), (0, 0), (0, 1), (0, 1))) == Cores(0, 2)


def test_a_core_of_the_same_package_is_nearer(tmp_path: Path) -> None:
    assert choose(range(3), topology(tmp_path, (0, 0), (1, 0), (0, 1))) == Cores(0, 2)


def test_threads_of_one_core_are_taken_where_there_is_nothing_else(tmp_path: Path) -> None:
    assert choose([0, 1], topology(tmp_path, (0, 0), (0, 0))) == Cores(0, 1)


def test_a_kernel_that_tells_nothing(tmp_path: Path) -> None:
    assert choose([2, 5, 7], str(tmp_path)) == Cores(2, 5)


def affinity_of_a_child() -> set[int]:
    """Of a process that another thread starts, as those in namespaces are."""
    found: list[set[int]] = []

    def ask() -> None:
        argv = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        found.append({int(word) for word in said.split()})

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


def test_what_is_started_within_stays_there_and_the_starter_does_not() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with placed(core):
        assert affinity_of_a_child() == {core}
    assert os.sched_getaffinity(0) == before
    assert on_core(core, affinity_of_a_child)() == {core}
    assert os.sched_getaffinity(0) == before


def test_without_a_core_nothing_changes() -> None:
    with placed(None):
        assert affinity_of_a_child() == os.sched_getaffinity(0)


def test_the_starter_is_back_after_a_failure() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), placed(min(before)):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before
