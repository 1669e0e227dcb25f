"""Taking over a link against a kernel of dictionaries: it is always put back as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netns.errors import MissingPrivilege, NameInUse, TopologyError
from netns.kernel import Address, Route
from netns.ownership import acquire, read_record
from netns.takeover import build_takeover
from netns.topology import TakeoverTopology
from tests.support.fake_kernel import FakeKernel

TOPOLOGY = TakeoverTopology("eth0")
MAC = bytes.fromhex("0242ac1e0002")
DEFAULT = Route("", 0, "172.30.0.1", "", 0, 0, 3, 254)
WORSE = Route("", 0, "172.30.0.9", "", 50, 0, 3, 254)
ON_LINK = Route("9.9.9.9", 32, "", "", 0, 253, 3, 254)


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def container(fail_at: str | int | None = None) -> FakeKernel:
    kernel = FakeKernel(fail_at, missing=["CAP_SYS_ADMIN"])
    eth0 = kernel.add(None, "eth0", "veth", MAC)
    eth0.update(
        mtu=1450,
        up=True,
        addresses=[Address("172.30.0.2", 16, "172.30.255.255", "eth0")],
        routes=[ON_LINK, WORSE, DEFAULT],
    )
    return kernel


def test_takeover_hands_over_what_the_link_had_and_puts_it_back(run: str) -> None:
    kernel = container()
    with build_takeover(TOPOLOGY, kernel=kernel, run_directory=run) as taken:
        assert (taken.address, taken.gateway, taken.mac, taken.mtu) == (
            "172.30.0.2/16",
            "172.30.0.1",
            MAC,
            1450,
        )
        eth0, tap = kernel.links_of[None]["eth0"], kernel.links_of[None]["redtap-tap"]
        assert eth0["mac"] != MAC
        assert eth0["mac"][0] & 3 == 2  # locally administered, one station
        assert eth0["addresses"] == []
        assert eth0["master"] == tap["master"] == "redtap-bridge"
        assert (tap["mtu"], tap["up"]) == (1450, True)
    after = kernel.links_of[None]
    assert sorted(after) == ["eth0", "lo"]
    assert after["eth0"]["mac"] == MAC
    assert after["eth0"]["master"] == ""
    assert [str(address) for address in after["eth0"]["addresses"]] == ["172.30.0.2/16"]
    assert set(after["eth0"]["routes"]) == {ON_LINK, WORSE, DEFAULT}
    assert not os.path.exists(run)


def test_takeover_failing_at_any_step_puts_the_link_back(run: str) -> None:
    whole = container()
    build_takeover(TOPOLOGY, kernel=whole, run_directory=run).close()
    for number in range(1, 10):
        kernel = container(fail_at=number)
        with pytest.raises(TopologyError, match="Operation not permitted; undone: "):
            build_takeover(TOPOLOGY, kernel=kernel, run_directory=run)
        links = kernel.links_of[None]
        assert sorted(links) == ["eth0", "lo"], kernel.steps
        assert links["eth0"]["mac"] == MAC
        assert links["eth0"]["master"] == ""
        assert [address.address for address in links["eth0"]["addresses"]] == ["172.30.0.2"]
        assert set(links["eth0"]["routes"]) == {ON_LINK, WORSE, DEFAULT}
        assert not os.path.exists(run)


def test_takeover_after_a_kill_restores_from_the_record_first(run: str) -> None:
    kernel = container()
    build_takeover(TOPOLOGY, kernel=kernel, run_directory=run)
    # The process dies: its lock and its TAP go, all else stays.
    record = Path(run, "takeover-eth0.lock").read_bytes()
    Path(run, "takeover-eth0.lock").unlink()
    Path(run, "takeover-eth0.lock").write_bytes(record)
    kernel.remove(None, "redtap-tap")
    with build_takeover(TOPOLOGY, kernel=kernel, run_directory=run) as taken:
        assert taken.notes == [f"restored eth0, taken over by a redtap that died (pid {os.getpid()})"]
        assert (taken.address, taken.gateway, taken.mac) == ("172.30.0.2/16", "172.30.0.1", MAC)


def test_takeover_record_of_another_namespace_is_not_believed(run: str) -> None:
    """A container that is restarted keeps its files and gets a new eth0."""
    owner = acquire("takeover-eth0", run)
    owner.record({"takeover": {"inode": 1, "index": 2, "mac": "02ffffffffff", "addresses": [], "routes": []}})
    owner.release(keep=True)
    kernel = container()
    with build_takeover(TOPOLOGY, kernel=kernel, run_directory=run) as taken:
        assert taken.mac == MAC
        assert taken.notes == []
        assert read_record("takeover-eth0", run)["takeover"]["mac"] == MAC.hex()


def test_takeover_second_address_is_told_and_restored(run: str) -> None:
    kernel = container()
    kernel.add_address(None, "eth0", "172.30.0.3", 16)
    with build_takeover(TOPOLOGY, kernel=kernel, run_directory=run) as taken:
        assert taken.notes == ["eth0 has more addresses than one: 172.30.0.3/16 will not answer"]
    assert len(kernel.links_of[None]["eth0"]["addresses"]) == 2


def test_takeover_refusals_are_one_line_and_change_nothing(run: str) -> None:
    kernel = container()
    with pytest.raises(TopologyError, match="cannot take over eth7: no such link; there is eth0"):
        build_takeover(TakeoverTopology("eth7"), kernel=kernel, run_directory=run)
    kernel.flush_addresses(None, "eth0")
    with pytest.raises(TopologyError, match="it has no IPv4 address"):
        build_takeover(TOPOLOGY, kernel=kernel, run_directory=run)
    kernel = container()
    kernel.add(None, "br0", "bridge")
    kernel.links_of[None]["eth0"]["master"] = "br0"
    with pytest.raises(TopologyError, match="belongs to a bridge"):
        build_takeover(TOPOLOGY, kernel=kernel, run_directory=run)
    kernel = container()
    kernel.add(None, "redtap-bridge", "bridge")
    with pytest.raises(NameInUse, match="link redtap-bridge exists and is not ours"):
        build_takeover(TOPOLOGY, kernel=kernel, run_directory=run)
    kernel = container()
    kernel.missing = ["CAP_NET_ADMIN"]
    with pytest.raises(MissingPrivilege, match="--cap-add NET_ADMIN,"):
        build_takeover(TOPOLOGY, kernel=kernel, run_directory=run)
    assert kernel.steps == []
    assert not os.path.exists(run)
