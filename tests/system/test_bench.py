"""`redtap bench` with everybody it knows: that it measures and tidies up, not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from appliance.bench.cores import choose
from appliance.bench.echo_bench import measure_echo, why_no_pytcp
from appliance.bench.memory import measure_memory
from appliance.bench.peers import LABELS, LINK_PEERS, Peers, why_unavailable
from appliance.config import LINKS
from appliance.errors import HostError
from netns.inside import RUN_NETNS
from tests.support.machine import environment
from tests.support.running import needs_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        bool(needs_program("redis-cli", "redis-benchmark")),
        reason=needs_program("redis-cli", "redis-benchmark"),
    ),
]

OTHER_LINKS = [name for kind, name in LINK_PEERS.items() if kind != "tap"]
EVERYBODY = [name for name in LABELS if not why_unavailable(name) and name not in OTHER_LINKS]


def test_everybody_is_measured_in_one_run_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    argv = [sys.executable, "-m", "appliance", "bench", "--rounds", "2", "--seconds", "0.05"]
    argv += ["--cases", "GET -c 50 -P 1,connect", "--peers", ",".join(EVERYBODY), "--json", str(path)]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err.decode()
    assert b"targets:" in out
    summary = json.loads(path.read_text())
    get, churn = summary["cases"]
    assert set(get["rounds"]) == set(EVERYBODY)
    several = len(os.sched_getaffinity(0)) > 1
    assert summary["pinned"].startswith("servers on core" if several else "nothing")
    assert (summary["cores"] is not None) == several
    assert set(churn["rounds"]) == set(EVERYBODY) - {"floor"}
    for case in (get, churn):
        for runs in case["rounds"].values():
            assert len(runs) == 2
            assert all(run["rps"] > 0 and run["percentiles_ms"]["50"] > 0 for run in runs)
            assert all(sum(run["load_us"].values()) > 0 for run in runs)
        assert set(case["ratios"]) == set(case["rounds"]) - {"redtap"}
    left = os.listdir(RUN_NETNS) if os.path.isdir(RUN_NETNS) else []
    assert not [name for name in left if f"bench{process.pid}x" in name]


def test_memory_is_measured_on_servers_of_its_own() -> None:
    rows = measure_memory(
        ["redtap", "redis-server"], connections=300, keys=20_000, settle_s=0.2, progress=lambda _: None
    )
    idle, key = (row["bytes"] for row in rows)
    # Wide bounds: whether it counts the right thing, not whether it is little.
    assert 200 < idle["redtap"] < 100_000
    assert 200 < idle["redis-server"] < 100_000
    assert 40 < key["redtap"] < 2000
    assert 40 < key["redis-server"] < 2000


def test_the_floor_keeps_many_clients_apart() -> None:
    with Peers(["floor"]) as started:
        (floor,) = started.peers
        argv = ["redis-benchmark", "-h", floor.host, "-t", "get", "-c", "200", "-n", "4000", "-P", "4", "-q"]
        process = floor.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert b"requests per second" in out


def test_kernels_of_every_peer_use_the_congestion_control_that_was_asked_for() -> None:
    with Peers(["redtap", "redis-server"], "cubic") as started:
        for peer in started.peers:
            process = peer.run(["ip", "route"], stdout=subprocess.PIPE)
            assert b"congctl cubic" in process.communicate(timeout=60)[0]
    with pytest.raises(HostError, match="--congestion nonsense: the kernel refuses it"):
        with Peers(["redis-server"], "nonsense"):
            pass


@pytest.mark.skipif(choose() is None, reason="a machine with one core")
def test_every_server_runs_on_one_core_and_every_client_on_another() -> None:
    cores = choose()
    assert cores is not None
    argv = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
    with Peers(["redtap", "redis-server"], cores=cores) as started:
        for peer in started.peers:
            for thread in os.listdir(f"/proc/{peer.pid}/task"):
                assert os.sched_getaffinity(int(thread)) == {cores.server}
            process = peer.run(argv, stdout=subprocess.PIPE)
            assert process.communicate(timeout=60)[0].split() == [str(cores.client).encode()]


def test_kinds_of_link_are_compared_with_the_tap(tmp_path: Path) -> None:
    path = tmp_path / "links.json"
    argv = [sys.executable, "-m", "appliance", "bench", "--links", "--rounds", "1", "--seconds", "0.05"]
    argv += ["--cases", "GET -c 50 -P 1,SET 64", "--json", str(path)]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err.decode()
    assert b"ratios are to the TAP's" in out
    summary = json.loads(path.read_text())
    assert [row["case"] for row in summary["links"]] == ["GET -c 50 -P 1", "GET -c 50 -P 16", "SET 64 KiB"]
    absent = {note.partition(":")[0] for note in summary["not_measured"]}
    assert "tun" not in absent
    assert "packet" not in absent
    for row in summary["links"]:
        assert set(row["rounds"]) == set(LINKS) - absent
        assert set(row["ratios"]) == set(row["rounds"]) - {"tap"}
        assert all(run["rps"] > 0 for runs in row["rounds"].values() for run in runs)
    left = os.listdir(RUN_NETNS) if os.path.isdir(RUN_NETNS) else []
    assert not [name for name in left if f"bench{process.pid}x" in name]


def test_echo_services_echo() -> None:
    summary = measure_echo(rounds=1, seconds=0.05, progress=lambda _: None)
    assert [row["bytes"] for row in summary["echo"]] == [64, 16_384]
    for row in summary["echo"]:
        assert set(row["rounds"]) == ({"redtap"} if why_no_pytcp() else {"redtap", "pytcp"})
        assert all(run["rps"] > 0 for runs in row["rounds"].values() for run in runs)
