"""Topologies on the real kernel: built, used, undone; killed, and cleaned up after."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from netns import kernel as kernel_module, ownership
from netns.build import build, build_veth
from netns.errors import MissingDevice, NameInUse, TopologyError
from netns.inside import inside, processes, spawn
from netns.kernel import Kernel
from netns.manage import down, show, up
from netns.tap import VNET_HEADER_LENGTH, open_tap, why_unusable
from netns.topology import Topology, VethTopology
from tests.support.machine import environment, fresh_name, host_links, namespaces, read_line, sh, wait_until

if TYPE_CHECKING:
    import io

pytestmark = pytest.mark.system

CLIENT_MAC = bytes.fromhex("020000000001")


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def topology(name: str) -> Topology:
    return Topology(name, "tap0", "10.66.0.1/24", mtu=1400, client_mac=CLIENT_MAC)


def client_socket(place: str, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    return inside(place, lambda: socket.socket(socket.AF_INET, kind))


@pytest.mark.parametrize(("default", "named"), [("bbr", [{"congestion": "cubic"}]), ("reno", [])])
def test_routes_of_a_link_of_ours_spare_its_clients_a_default_that_paces(
    run: str, default: str, named: list[dict[str, str]]
) -> None:
    with build(topology(fresh_name()), run_directory=run) as built:
        place = str(built.place)

        def choose() -> None:
            Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(default)

        try:
            inside(place, choose)
        except FileNotFoundError:
            pytest.skip(f"this kernel has no {default}")
        sh(f"ip -n {place} route change 10.66.0.0/24 dev tap0 proto kernel scope link src 10.66.0.1")
        sh(f"ip -n {place} route add 10.99.0.0/16 via 10.66.0.9")
        Kernel().spare_pacing(place, "tap0")
        ours, other = sorted(json.loads(sh(f"ip -n {place} -d -j route")), key=lambda route: route["dst"])
        assert ours.get("metrics", []) == named
        assert (ours["dst"], ours["prefsrc"], ours["scope"]) == ("10.66.0.0/24", "10.66.0.1", "link")
        assert (other["dst"], other["gateway"], other.get("metrics")) == ("10.99.0.0/16", "10.66.0.9", None)


@pytest.mark.usefixtures("own_host")
def test_build_makes_what_was_declared_and_close_leaves_nothing(run: str) -> None:
    name, before = fresh_name(), host_links()
    with build(topology(name), run_directory=run) as built:
        assert host_links() == before
        (link,) = [entry for entry in Kernel().links(name) if entry.name == "tap0"]
        assert (link.mac, link.mtu, link.is_up, link.kind) == (CLIENT_MAC, 1400, True, "tun")
        (facts,) = json.loads(sh(f"ip -n {name} -d -j link show tap0"))
        assert facts["txqlen"] == 10_000
        assert facts["linkinfo"]["info_data"]["vnet_hdr"] is True
        assert facts["linkinfo"]["info_data"]["persist"] is False
        assert "UP" in json.loads(sh(f"ip -n {name} -j link show lo"))[0]["flags"]
        assert not os.get_blocking(built.tap.fd)
        assert not os.get_inheritable(built.tap.fd)
    assert namespaces(name) == []
    assert host_links() == before
    assert not os.path.exists(run)
    assert built.tap.fd == -1


def test_tap_frames_come_with_the_header_and_nothing_is_said_unasked(run: str) -> None:
    name = fresh_name()
    with build(topology(name), run_directory=run) as built, client_socket(name) as client:
        assert inside(name, Path("/proc/sys/net/ipv6/conf/tap0/disable_ipv6").read_text) == "1\n"
        with pytest.raises(BlockingIOError):
            os.read(built.tap.fd, 65536)
        client.sendto(b"hello", ("10.66.0.2", 9))
        frame = os.read(built.tap.fd, 65536)[VNET_HEADER_LENGTH:]
        # An ARP request from the kernel's end for the address it was sent to.
        assert frame[:14] == b"\xff" * 6 + CLIENT_MAC + b"\x08\x06"
        assert frame[38:42] == socket.inet_aton("10.66.0.2")
        # A frame of ours arrives: the answer resolves the neighbour, so the datagram follows.
        mac = bytes.fromhex("020000000002")
        answer = bytes(VNET_HEADER_LENGTH) + CLIENT_MAC + mac + b"\x08\x06"
        answer += bytes.fromhex("0001080006040002") + mac + frame[38:42] + CLIENT_MAC + frame[28:32]
        assert os.write(built.tap.fd, answer) == len(answer)
        datagram = os.read(built.tap.fd, 65536)[VNET_HEADER_LENGTH:]
        assert datagram[:6] == mac
        assert datagram.endswith(b"hello")


def test_silence_ipv6_where_proc_is_read_only_leaves_no_link_local_address(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, mode: str = "r") -> io.TextIOWrapper:
        if "disable_ipv6" in path:
            raise OSError(errno.EROFS, "Read-only file system")
        return open(path, mode)

    monkeypatch.setattr(kernel_module, "open", refuse, raising=False)
    name = fresh_name()
    with build(topology(name), run_directory=run):
        addresses = inside(name, Path("/proc/net/if_inet6").read_text)
        assert "tap0" not in addresses
        assert inside(name, Path("/proc/sys/net/ipv6/conf/tap0/addr_gen_mode").read_text) == "1\n"


def test_build_failing_in_the_kernel_undoes_and_says_so(run: str) -> None:
    class Broken(Kernel):
        def add_address(self, *arguments: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

    name = fresh_name()
    with pytest.raises(TopologyError) as caught:
        build(topology(name), kernel=Broken(), run_directory=run)
    assert str(caught.value) == (
        "cannot give tap0 address 10.66.0.1/24: Operation not permitted; "
        f"undone: TAP tap0, namespace {name}, lock on {name}"
    )
    assert namespaces(name) == []
    assert not os.path.exists(run)


def test_netlink_refusal_is_one_line(run: str) -> None:
    """pyroute2's own exception, not ours: the address is there twice."""

    class Twice(Kernel):
        def add_address(self, *arguments: object) -> None:
            super().add_address(*arguments)  # type: ignore[arg-type]
            super().add_address(*arguments)  # type: ignore[arg-type]

    with pytest.raises(
        TopologyError, match=r"cannot give tap0 address 10\.66\.0\.1/24: File exists; undone: "
    ):
        build(topology(fresh_name()), kernel=Twice(), run_directory=run)


def test_namespace_of_somebody_else_is_left_alone(run: str) -> None:
    name = fresh_name()
    sh(f"ip netns add {name}")
    try:
        with pytest.raises(NameInUse, match="exists and is not redtap's"):
            build(topology(name), run_directory=run)
        assert namespaces(name) == [name]
    finally:
        sh(f"ip netns del {name}")


# A process that builds, says so, and waits to be ended.
BUILDER = """
import signal, sys
from netns.build import build
from netns.topology import Topology
with build(Topology(sys.argv[1], "tap0", "10.66.0.1/24"), run_directory=sys.argv[2]) as built:
    print(*built.notes, "built", sep="; ", flush=True)
    signal.pause()
"""


def builder(name: str, run: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, name, run],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_process_ended_by_a_signal_leaves_nothing(run: str, number: signal.Signals) -> None:
    name = fresh_name()
    with builder(name, run) as process:
        assert read_line(process) == "built"
        assert namespaces(name) == [name]
        process.send_signal(number)
        process.communicate(timeout=60)
        if number is signal.SIGINT:  # the others have no handler in this little program: as good as a kill
            assert namespaces(name) == []
            assert not os.path.exists(run)
        else:
            assert process.returncode == -number
            with build(topology(name), run_directory=run) as built:
                assert len(built.notes) == 1
    assert namespaces(name) == []


def test_killed_process_leaves_a_namespace_that_the_next_start_replaces_and_names(run: str) -> None:
    name = fresh_name()
    with builder(name, run) as process:
        read_line(process)
        process.kill()
        process.wait()
        assert namespaces(name) == [name]
        wait_until(lambda: Kernel().find_link(name, "tap0") is None, "the TAP of a dead process")
        assert [(entry.name, entry.state) for entry in show(run_directory=run)] == [(name, "left behind")]
        with build(topology(name), run_directory=run) as built:
            assert built.notes == [
                f"removed namespace {name}, left behind by a redtap that died (pid {process.pid})"
            ]
    assert namespaces(name) == []
    assert not os.path.exists(run)


def test_killed_process_is_cleaned_up_after_by_a_start_of_another_name(run: str) -> None:
    name = fresh_name()
    with builder(name, run) as process:
        read_line(process)
        process.kill()
        process.wait()
        with build(topology(fresh_name()), run_directory=run) as built:
            assert [note.split(",")[0] for note in built.notes] == [f"removed namespace {name}"]
            assert namespaces(name) == []


def test_living_process_is_never_robbed(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_PATIENCE_S", 0.0)
    name = fresh_name()
    with builder(name, run) as process:
        read_line(process)
        with pytest.raises(NameInUse, match=f"in use by a running redtap \\(pid {process.pid}\\)"):
            build(topology(name), run_directory=run)
        with pytest.raises(NameInUse):
            down(name, run_directory=run)
        with build(topology(fresh_name()), run_directory=run) as built:
            assert built.notes == []
        assert Kernel().find_link(name, "tap0") is not None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert namespaces(name) == []


def test_up_stands_alone_is_used_and_goes_down(run: str) -> None:
    name = fresh_name()
    assert up(topology(name), run_directory=run) == []
    try:
        link = Kernel().find_link(name, "tap0")
        assert link is not None
        with build(topology(name), run_directory=run) as built, client_socket(name) as client:
            assert built.is_kept
            assert [entry.state for entry in show(run_directory=run)] == ["in use"]
            client.sendto(b"hello", ("10.66.0.2", 9))
            assert len(os.read(built.tap.fd, 65536)) >= VNET_HEADER_LENGTH + 42
        assert [entry.state for entry in show(run_directory=run)] == ["kept"]
        same = Kernel().find_link(name, "tap0")
        assert same is not None
        assert same.index == link.index
        (shown,) = show(run_directory=run)
        assert shown.as_dict()["links"][0]["addresses"] == ["10.66.0.1/24"]
    finally:
        assert down(name, run_directory=run) == f"removed namespace {name}"
    assert namespaces(name) == []
    assert not os.path.exists(run)


@pytest.mark.usefixtures("own_host")
def test_veth_pair_carries_kernel_tcp_and_is_removed(run: str) -> None:
    client_name, server_name, before = fresh_name("c"), fresh_name("s"), host_links()
    with build_veth(VethTopology(client_name, server_name), run_directory=run) as built:
        with client_socket(server_name, socket.SOCK_STREAM) as server:
            server.bind(("10.78.0.2", 0))
            server.listen()
            with client_socket(client_name, socket.SOCK_STREAM) as client:
                client.settimeout(60)
                client.connect(server.getsockname())
                accepted, (address, _) = server.accept()
                with accepted:
                    assert address == "10.78.0.1"
        child = built.spawn_server(["ip", "-br", "addr"], stdout=subprocess.PIPE)
        assert b"10.78.0.2/24" in child.communicate(timeout=60)[0]
        assert built.spawn_client(["sh", "-c", "exit 3"]).wait(60) == 3
    assert namespaces(client_name) == namespaces(server_name) == []
    assert host_links() == before


def test_inside_leaves_our_own_thread_where_it_was(run: str) -> None:
    name, here = fresh_name(), os.stat("/proc/self/ns/net").st_ino
    with build(topology(name), run_directory=run):
        assert inside(name, lambda: os.stat("/proc/thread-self/ns/net").st_ino) != here
        assert os.stat("/proc/thread-self/ns/net").st_ino == here
        with pytest.raises(ZeroDivisionError):
            inside(name, lambda: 1 // 0)
        with pytest.raises(FileNotFoundError):
            inside("no-such-namespace", lambda: None)
        child = spawn(name, ["sleep", "1000"])
        assert processes(name) == [child.pid]
        child.kill()
        child.wait()
        assert processes(name) == []


def test_tap_device_that_is_missing_or_forbidden_is_one_line_each(tmp_path: Path) -> None:
    missing = why_unusable(str(tmp_path / "tun"))
    assert str(missing) == (
        f"{tmp_path}/tun: missing: modprobe tun, or give a container --device /dev/net/tun"
    )
    (tmp_path / "tun").touch()
    assert "is not a device" in str(why_unusable(str(tmp_path / "tun")))
    os.mknod(tmp_path / "node", 0o600 | 0o020000, os.makedev(10, 254))
    assert "has no driver behind it" in str(why_unusable(str(tmp_path / "node")))
    with pytest.raises(MissingDevice):
        open_tap("tap0", vnet_header=True, offloads=True, path=str(tmp_path / "none"))
    assert why_unusable() is None


def test_module_commands_work_without_the_appliance() -> None:
    name = fresh_name()
    run_module = [sys.executable, "-c", "import sys; from netns.__main__ import main; sys.exit(main())"]

    def netns(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*run_module, *arguments], env=environment(), capture_output=True, text=True, timeout=60
        )

    assert netns("up", name, "--mtu", "1300").stdout == f"namespace {name} is up\n"
    assert f'"name": "{name}", "state": "kept"' in netns("show").stdout
    assert netns("down", name).stdout == f"removed namespace {name}\n"
    again = netns("down", name)
    assert (again.returncode, again.stderr) == (
        1,
        f"netns: cannot take down {name}: there is no such namespace\n",
    )
    assert netns("up", name, "--mtu", "1").stderr == "netns: 1 is not an MTU; takes 576 to 65521\n"
