"""Taking over an eth0: a veth pair in a namespace, as a container has it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from netns.inside import inside
from netns.kernel import Kernel
from netns.takeover import build_takeover
from netns.tap import VNET_HEADER_LENGTH
from netns.topology import TakeoverTopology
from tests.support.links import ETHERNET, LINK
from tests.support.machine import (
    environment,
    fresh_name,
    network_namespace,
    read_line,
    redtap,
    running,
    sh,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

ETH0 = TakeoverTopology("eth0")
MAC = "02:42:ac:1e:00:02"


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "run")


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """A container's namespace with eth0, and its sibling's."""
    with network_namespace() as container, network_namespace() as sibling:
        sh(
            f"ip -n {container} link add eth0 mtu 1400 type veth peer name eth0 netns {sibling};"
            f"ip -n {container} link set eth0 address {MAC};"
            f"ip -n {sibling} link set eth0 mtu 1400 up;"
            f"ip -n {sibling} addr add 172.30.0.1/16 dev eth0;"
            f"ip -n {container} link set eth0 up;"
            f"ip -n {container} addr add 172.30.0.2/16 brd + dev eth0;"
            f"ip -n {container} route add default via 172.30.0.1 metric 7;"
            f"ip -n {container} route add 9.0.0.0/8 via 172.30.0.1 src 172.30.0.2"
        )
        yield container, sibling


def picture(container: str) -> object:
    """Links with MAC, MTU and master, IPv4 addresses and routes."""
    links = json.loads(sh(f"ip -n {container} -j link"))
    return (
        [(link["ifname"], link["address"], link["mtu"], link.get("master")) for link in links],
        sh(f"ip -n {container} -4 -o addr"),
        sorted(sh(f"ip -n {container} route").splitlines()),
    )


def test_takeover_moves_address_and_mac_to_the_tap_and_back(pair: tuple[str, str], run: str) -> None:
    container, sibling = pair
    before = picture(container)
    with build_takeover(ETH0, run_directory=run, place=container) as taken:
        assert (taken.address, taken.gateway, taken.mac.hex(":"), taken.mtu) == (
            *("172.30.0.2/16", "172.30.0.1"),
            *(MAC, 1400),
        )
        eth0 = Kernel().find_link(container, "eth0")
        assert eth0 is not None
        assert eth0.mac.hex(":") != MAC
        assert sh(f"ip -n {container} -4 -o addr show dev eth0") == ""
        # The sibling asks who has the address: the question reaches the TAP, the kernel stays silent.
        with inside(sibling, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.sendto(b"hello", ("172.30.0.2", 9))
            frames: list[bytes] = []

            def asked() -> bool:
                try:
                    frames.append(os.read(taken.tap.fd, 65536)[VNET_HEADER_LENGTH:])
                except BlockingIOError:
                    return False
                return frames[-1][12:14] == b"\x08\x06"

            wait_until(asked, "ARP from the sibling")
            request = frames[-1]
            assert request[38:42] == socket.inet_aton("172.30.0.2")
            theirs = request[6:12]
            answer = bytes(VNET_HEADER_LENGTH) + theirs + taken.mac + b"\x08\x06"
            answer += bytes.fromhex("0001080006040002") + taken.mac + request[38:42] + theirs + request[28:32]
            os.write(taken.tap.fd, answer)
            wait_until(lambda: os.read(taken.tap.fd, 65536).endswith(b"hello"), "the datagram")
        assert MAC in sh(f"ip -n {sibling} neigh show 172.30.0.2")
    assert picture(container) == before
    assert not os.path.exists(run)


def test_takeover_failing_in_the_kernel_puts_everything_back(pair: tuple[str, str], run: str) -> None:
    container, _ = pair

    class Broken(Kernel):
        def flush_addresses(self, *arguments: object) -> None:
            super().flush_addresses(*arguments)  # type: ignore[arg-type]
            raise OSError(1, "Operation not permitted")

    before = picture(container)
    with pytest.raises(
        Exception, match="cannot flush eth0: Operation not permitted; undone: addresses of eth0"
    ):
        build_takeover(ETH0, kernel=Broken(), run_directory=run, place=container)
    assert picture(container) == before
    assert not os.path.exists(run)


TAKER = """
import signal, sys
from netns.takeover import build_takeover
from netns.topology import TakeoverTopology
with build_takeover(TakeoverTopology("eth0"), run_directory=sys.argv[2], place=sys.argv[1]):
    print("built", flush=True)
    signal.pause()
"""


def test_killed_process_is_made_good_by_the_next_start(pair: tuple[str, str], run: str) -> None:
    container, _ = pair
    before = picture(container)
    command = [sys.executable, "-c", TAKER, container, run]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        read_line(process)
        process.kill()
    assert picture(container) != before
    with build_takeover(ETH0, run_directory=run, place=container) as taken:
        assert taken.notes == [f"restored eth0, taken over by a redtap that died (pid {process.pid})"]
        assert (taken.address, taken.mac.hex(":")) == ("172.30.0.2/16", MAC)
    assert picture(container) == before


@pytest.mark.links(*ETHERNET, reason="a TUN has no address of Ethernet's to take over")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_takeover_answers_the_sibling_and_restores_the_link(
    pair: tuple[str, str], number: signal.Signals
) -> None:
    container, sibling = pair
    before = picture(container)
    name = fresh_name("t")
    enter = ("ip", "netns", "exec", container)
    with running("serve", "--takeover", "eth0", "--netns", name, prefix=enter) as appliance:
        assert appliance.ready.startswith("redtap: ready on 172.30.0.2:6379, taken over from eth0, ")
        assert sh(f"ip netns exec {sibling} redis-cli -h 172.30.0.2 set a 1") == "OK\n"
        assert sh(f"ip netns exec {sibling} redis-cli -h 172.30.0.2 get a") == "1\n"
        assert MAC in sh(f"ip -n {sibling} neigh show 172.30.0.2")
        status = json.loads(redtap("status", "--json", "--netns", name).stdout)
        assert (status["mode"], status["mtu"], status["mac"]) == ("takeover", 1400, MAC)
        said = redtap("cli", "--netns", name, "ping")
        assert (said.returncode, len(said.stderr.splitlines())) == (1, 1)
        assert "run redis-cli on a neighbour" in said.stderr
        assert appliance.end(number)[0] == 0
    assert picture(container) == before


# What the image's entry point makes of the container's root: a user with one capability, or what the link needs.
CAPABILITIES = "-all,+net_admin" + {"packet": ",+net_raw", "xdp": ",+net_raw,+bpf,+ipc_lock"}.get(LINK, "")
FEW_CAPABILITIES = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
    *(f"--bounding-set={CAPABILITIES}", f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}"),
)
# A mount namespace of its own, as a container has it: /dev/net/tun open to all, /run/redtap of that user,
# /proc/sys read-only.
CONTAINER = """
mount --make-rprivate /
mount -t tmpfs none /mnt
mknod -m 0666 /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
mount -t tmpfs -o mode=0755 none /run
install -d -o 65534 -g 65534 /run/redtap
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec "$@"
"""


@pytest.mark.links(*ETHERNET, reason="a TUN has no address of Ethernet's to take over")
def test_serve_takeover_needs_no_more_than_its_capabilities(
    pair: tuple[str, str], nobody: tuple[str, ...]
) -> None:
    container, sibling = pair
    before = picture(container)
    prefix = ("nsenter", f"--net=/run/netns/{container}", "unshare", "-m", "sh", "-ec", CONTAINER, "sh")
    with running("serve", "--takeover", "eth0", prefix=(*prefix, *FEW_CAPABILITIES)) as appliance:
        assert appliance.ready.startswith("redtap: ready on 172.30.0.2:6379, taken over from eth0, ")
        assert appliance.ready.endswith("control socket /run/redtap/redtap.sock")
        assert sh(f"ip netns exec {sibling} redis-cli -h 172.30.0.2 ping") == "PONG\n"
        code, err = appliance.end()
        assert code == 0, err
    assert picture(container) == before


@pytest.mark.links(*ETHERNET, reason="a TUN has no address of Ethernet's to take over")
def test_serve_takeover_mistakes_are_one_line(pair: tuple[str, str]) -> None:
    container, _ = pair
    enter = ("ip", "netns", "exec", container)
    before = picture(container)
    for arguments, status, says in (
        (("--takeover", "eth9"), 1, "redtap: cannot take over eth9: no such link; there is eth0"),
        (
            ("--takeover", "eth0", "--mtu", "1500"),
            2,
            "redtap: --mtu: '1500' is more than eth0 carries; takes",
        ),
        (
            ("--takeover", "eth0", "--address", "10.0.0.2/24"),
            2,
            "redtap: --address: not together with",
        ),
    ):
        done = redtap("serve", *arguments, prefix=enter)
        assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
        assert done.stderr.startswith(says)
    assert picture(container) == before
