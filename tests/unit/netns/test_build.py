"""Building against a kernel of dictionaries: every step may fail, and nothing is ever left."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from netns import ownership
from netns.build import build, build_private, build_veth, sweep
from netns.errors import MissingDevice, MissingPrivilege, NameInUse, TopologyError
from netns.manage import down, show, up
from netns.ownership import acquire, read_record
from netns.topology import Topology, VethTopology
from tests.support.fake_kernel import FakeKernel

if TYPE_CHECKING:
    from pathlib import Path

TOPOLOGY = Topology("ns", "tap", "10.0.0.1/24")
VETH = VethTopology("client", "server")


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def leave_behind(run: str, kernel: FakeKernel, name: str = "ns", **facts: object) -> int:
    """A namespace and the record of an owner that died."""
    inode = kernel.create_namespace(name)
    owner = acquire(name, run)
    owner.record({"namespace": name, "inode": inode, "kept": False, **facts})
    owner.release(keep=True)
    return inode


def test_build_makes_the_topology_and_close_removes_it(run: str) -> None:
    kernel = FakeKernel()
    before = kernel.picture()
    with build(TOPOLOGY, kernel=kernel, run_directory=run) as built:
        tap = kernel.links_of["ns"]["tap"]
        assert (tap["up"], tap["mtu"], [str(a) for a in tap["addresses"]]) == (True, 1500, ["10.0.0.1/24"])
        assert kernel.links_of["ns"]["lo"]["up"]
        assert built.notes == []
        assert read_record("ns", run)["inode"] == kernel.namespaces["ns"]
    built.close()
    assert kernel.picture() == before
    assert not os.path.exists(run)


VETH_KIND = Topology("ns", "eth", "10.0.0.1/24", kind="packet", address="10.0.0.2", mac=b"\2\0\0\0\0\5")


def test_build_with_a_socket_puts_it_on_the_far_end_of_a_veth_pair(run: str) -> None:
    kernel = FakeKernel()
    before = kernel.picture()
    with build(VETH_KIND, kernel=kernel, run_directory=run) as built:
        assert built.device.kind == "packet"
        assert kernel.sockets == {"appliance0"}
        assert [str(a) for a in kernel.links_of["ns"]["eth"]["addresses"]] == ["10.0.0.1/24"]
    assert kernel.picture() == before


@pytest.mark.parametrize(
    ("topology", "first_undone", "steps"), [(TOPOLOGY, "remove_namespace", 8), (VETH_KIND, "delete_link", 13)]
)
def test_build_failing_at_any_step_undoes_the_others(
    run: str, topology: Topology, first_undone: str, steps: int
) -> None:
    whole = FakeKernel()
    build(topology, kernel=whole, run_directory=run).close()
    assert whole.steps.index(first_undone) == steps
    for number in range(1, steps + 1):
        kernel = FakeKernel(fail_at=number)
        before = kernel.picture()
        descriptors = len(os.listdir("/proc/self/fd"))
        with pytest.raises(TopologyError) as caught:
            build(topology, kernel=kernel, run_directory=run)
        assert "Operation not permitted; undone: " in str(caught.value)
        assert str(caught.value).endswith("lock on ns")
        assert ("namespace ns" in caught.value.undone) == (number > 1)
        if topology is TOPOLOGY:
            assert ("TAP tap" in caught.value.undone) == (number > 3)
        assert kernel.picture() == before
        assert not os.path.exists(run)
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_build_interrupted_at_any_step_undoes_all(run: str) -> None:
    class Interrupted(FakeKernel):
        def _step(self, name: str) -> None:
            self.steps.append(name)
            if len(self.steps) == self.fail_at:
                signal.raise_signal(signal.SIGINT)

    for number in range(1, 9):
        kernel = Interrupted(fail_at=number)
        with pytest.raises(KeyboardInterrupt):
            build(TOPOLOGY, kernel=kernel, run_directory=run)
        assert len(kernel.steps) >= number
        assert kernel.namespaces == {}
        assert not os.path.exists(run)


def test_close_failure_is_told_and_the_rest_is_still_removed(run: str) -> None:
    kernel = FakeKernel()
    built = build(TOPOLOGY, kernel=kernel, run_directory=run)
    kernel.fail_at = "remove_namespace"
    with pytest.raises(TopologyError) as caught:
        built.close()
    assert "left behind: namespace ns (Operation not permitted)" in str(caught.value)
    assert caught.value.undone == ["TAP tap", "lock on ns"]


def test_exit_failure_to_undo_does_not_hide_the_error_in_flight(run: str) -> None:
    kernel = FakeKernel()
    with pytest.raises(ZeroDivisionError) as caught:
        with build(TOPOLOGY, kernel=kernel, run_directory=run):
            kernel.fail_at = "remove_namespace"
            raise ZeroDivisionError
    assert "left behind: namespace ns" in caught.value.__notes__[0]


def test_build_without_capabilities_says_which_and_touches_nothing(run: str) -> None:
    kernel = FakeKernel(missing=["CAP_NET_ADMIN", "CAP_SYS_ADMIN"])
    with pytest.raises(MissingPrivilege) as caught:
        build(TOPOLOGY, kernel=kernel, run_directory=run)
    assert str(caught.value) == (
        "missing CAP_NET_ADMIN and CAP_SYS_ADMIN: run it as root (sudo), "
        "give a container --cap-add NET_ADMIN --cap-add SYS_ADMIN, or try `redtap exec --rootless`"
    )
    assert kernel.steps == []
    assert not os.path.exists(run)


def test_build_without_the_device_says_so_and_touches_nothing(run: str) -> None:
    kernel = FakeKernel()
    kernel.device = MissingDevice("/dev/net/tun", "missing", "modprobe tun")
    with pytest.raises(MissingDevice) as caught:
        build(TOPOLOGY, kernel=kernel, run_directory=run)
    assert str(caught.value) == "/dev/net/tun: missing: modprobe tun"
    assert kernel.steps == []


def test_build_namespace_of_somebody_else_is_left_alone(run: str) -> None:
    kernel = FakeKernel()
    kernel.create_namespace("ns")
    before = kernel.picture()
    with pytest.raises(NameInUse) as caught:
        build(TOPOLOGY, kernel=kernel, run_directory=run)
    assert str(caught.value) == (
        "namespace ns exists and is not redtap's: choose another --netns, or remove it: ip netns del ns"
    )
    assert kernel.picture() == before


def test_build_namespace_made_anew_after_the_owner_died_is_left_alone(run: str) -> None:
    kernel = FakeKernel()
    leave_behind(run, kernel)
    kernel.remove_namespace("ns")
    kernel.create_namespace("ns")  # somebody else's, with another inode
    before = kernel.picture()
    with pytest.raises(NameInUse):
        build(TOPOLOGY, kernel=kernel, run_directory=run)
    assert kernel.picture() == before


def test_build_namespace_of_a_living_owner_is_left_alone(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_PATIENCE_S", 0.0)
    kernel = FakeKernel()
    with build(TOPOLOGY, kernel=kernel, run_directory=run):
        before = kernel.picture()
        with pytest.raises(NameInUse, match="in use by a running redtap"):
            build(TOPOLOGY, kernel=kernel, run_directory=run)
        assert sweep(kernel, run) == []
        assert kernel.picture() == before


def test_build_namespace_left_by_a_dead_owner_is_replaced_and_told(run: str, tmp_path: Path) -> None:
    kernel = FakeKernel()
    socket = tmp_path / "old.sock"
    socket.touch()
    old = leave_behind(run, kernel, paths=[str(socket)])
    with build(TOPOLOGY, kernel=kernel, run_directory=run) as built:
        assert built.notes == [f"removed namespace ns, left behind by a redtap that died (pid {os.getpid()})"]
        assert kernel.namespaces["ns"] != old
        assert not socket.exists()


def test_build_intent_without_an_inode_counts_as_ours(run: str) -> None:
    """Its owner had seen that the name was free, and died before it could write what it had made."""
    kernel = FakeKernel()
    kernel.create_namespace("ns")
    owner = acquire("ns", run)
    owner.record({"namespace": "ns", "inode": None, "kept": False})
    owner.release(keep=True)
    with build(TOPOLOGY, kernel=kernel, run_directory=run) as built:
        assert len(built.notes) == 1


def test_build_sweeps_what_was_left_under_other_names(run: str) -> None:
    kernel = FakeKernel()
    leave_behind(run, kernel, "exec-1")
    leave_behind(run, kernel, "kept", kept=True)
    with build(TOPOLOGY, kernel=kernel, run_directory=run) as built:
        assert built.notes[0].startswith("removed namespace exec-1, left behind by")
        assert sorted(kernel.namespaces) == ["kept", "ns"]
    assert os.listdir(run) == ["kept.lock"]


def test_up_keeps_build_uses_down_removes(run: str) -> None:
    kernel = FakeKernel()
    before = kernel.picture()
    assert up(TOPOLOGY, kernel=kernel, run_directory=run) == []
    standing = kernel.picture()
    assert [(entry.name, entry.state) for entry in show(kernel=kernel, run_directory=run)] == [("ns", "kept")]
    with build(TOPOLOGY, kernel=kernel, run_directory=run) as built:
        assert built.is_kept
        assert built.notes == ["using namespace ns, kept by `redtap netns up`"]
        assert [entry.state for entry in show(kernel=kernel, run_directory=run)] == ["in use"]
        # A fake TAP does not know that the kernel's is persistent still.
        built.tap.set_persistent(True)
    assert kernel.picture() == standing
    assert up(TOPOLOGY, kernel=kernel, run_directory=run) == ["using namespace ns, kept by `redtap netns up`"]
    assert kernel.picture() == standing
    assert down("ns", kernel=kernel, run_directory=run) == "removed namespace ns"
    assert kernel.picture() == before
    assert not os.path.exists(run)


def test_up_failing_half_way_keeps_nothing(run: str) -> None:
    kernel = FakeKernel(fail_at="add_address")
    before = kernel.picture()
    with pytest.raises(TopologyError):
        up(TOPOLOGY, kernel=kernel, run_directory=run)
    assert kernel.picture() == before
    assert not os.path.exists(run)


def test_build_kept_namespace_with_another_address_is_refused_and_stays(run: str) -> None:
    kernel = FakeKernel()
    up(TOPOLOGY, kernel=kernel, run_directory=run)
    other = Topology("ns", "tap", "10.0.9.1/24")
    with pytest.raises(TopologyError, match=r"has address 10\.0\.0\.1/24, not 10\.0\.9\.1/24"):
        build(other, kernel=kernel, run_directory=run)
    assert "ns" in kernel.namespaces
    assert read_record("ns", run)["kept"] is True


def test_down_of_nothing_of_another_or_of_a_living_one_is_refused(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_PATIENCE_S", 0.0)
    kernel = FakeKernel()
    with pytest.raises(TopologyError, match="there is no such namespace"):
        down("none", kernel=kernel, run_directory=run)
    kernel.create_namespace("theirs")
    with pytest.raises(TopologyError, match="it is not redtap's"):
        down("theirs", kernel=kernel, run_directory=run)
    with build(TOPOLOGY, kernel=kernel, run_directory=run), pytest.raises(NameInUse):
        down("ns", kernel=kernel, run_directory=run)
    assert list(kernel.namespaces) == ["theirs"]


def test_build_private_makes_no_namespace_and_no_record() -> None:
    kernel = FakeKernel(missing=["CAP_SYS_ADMIN"])
    with build_private(TOPOLOGY, kernel=kernel) as built:
        assert built.place is None
        assert kernel.links_of[None]["tap"]["up"]
    assert "tap" not in kernel.links_of[None]
    assert kernel.namespaces == {}


def test_build_veth_joins_two_namespaces_and_removes_both(run: str) -> None:
    kernel = FakeKernel()
    before = kernel.picture()
    with build_veth(VETH, kernel=kernel, run_directory=run):
        client, server = kernel.links_of["client"]["veth-client"], kernel.links_of["server"]["veth-server"]
        assert client["up"]
        assert server["up"]
        assert [str(a) for a in server["addresses"]] == ["10.78.0.2/24"]
    assert kernel.picture() == before
    assert not os.path.exists(run)


def test_build_veth_failing_at_any_step_undoes_the_others(run: str) -> None:
    whole = FakeKernel()
    build_veth(VETH, kernel=whole, run_directory=run).close()
    for number in range(1, whole.steps.index("delete_link") + 1):
        kernel = FakeKernel(fail_at=number)
        before = kernel.picture()
        with pytest.raises(TopologyError, match="undone: "):
            build_veth(VETH, kernel=kernel, run_directory=run)
        assert kernel.picture() == before
        assert not os.path.exists(run)
