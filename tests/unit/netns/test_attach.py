"""Using a link that is there, against a kernel of dictionaries: it is always left as it was found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netns.attach import build_attached
from netns.build import sweep
from netns.errors import MissingPrivilege, NameInUse, TopologyError
from netns.kernel import Address, Route
from netns.packet import filter_program
from netns.takeover import build_takeover
from netns.topology import AttachedTopology, TakeoverTopology
from tests.support.fake_kernel import FakeKernel

MAC = bytes.fromhex("0242ac1e0002")
OURS = bytes.fromhex("02520a010005")
GIVEN = AttachedTopology("eth0", "packet", "172.30.0.77", OURS)
TAKEN = AttachedTopology("eth0", "packet")
DEFAULT = Route("", 0, "172.30.0.1", "", 0, 0, 3, 254)


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def machine(fail_at: str | int | None = None, missing: tuple[str, ...] = ("CAP_SYS_ADMIN",)) -> FakeKernel:
    kernel = FakeKernel(fail_at, missing)
    eth0 = kernel.add(None, "eth0", "veth", MAC)
    eth0.update(
        mtu=1450,
        up=True,
        addresses=[Address("172.30.0.2", 16, "172.30.255.255", "")],
        routes=[DEFAULT],
    )
    return kernel


def test_given_address_leaves_the_link_alone(run: str) -> None:
    kernel = machine(missing=("CAP_SYS_ADMIN", "CAP_NET_ADMIN"))
    before = kernel.picture()
    with build_attached(GIVEN, kernel=kernel, run_directory=run) as built:
        assert (built.address, built.gateway, built.mac, built.mtu) == ("", "", OURS, 1450)
        assert kernel.sockets == {"eth0"}
        assert kernel.steps == ["open_packet"]
    assert kernel.picture() == before
    assert not os.path.exists(run)


def test_taken_address_is_the_links_and_comes_back(run: str) -> None:
    kernel = machine()
    before = kernel.picture()
    with build_attached(TAKEN, kernel=kernel, run_directory=run) as built:
        assert (built.address, built.gateway, built.mac) == ("172.30.0.2/16", "172.30.0.1", MAC)
        eth0 = kernel.links_of[None]["eth0"]
        assert eth0["addresses"] == []
        assert eth0["mac"] != MAC
        assert eth0["master"] == ""
    assert kernel.picture() == before
    assert not os.path.exists(run)


def test_taking_over_and_failing_at_any_step_puts_it_back(run: str) -> None:
    for step in ("open_packet", "flush_addresses", "set_link"):
        kernel = machine(step)
        before = kernel.picture()
        with pytest.raises(TopologyError, match="Operation not permitted; undone: "):
            build_attached(TAKEN, kernel=kernel, run_directory=run)
        assert kernel.picture() == before


@pytest.mark.parametrize("dead", [TAKEN, TakeoverTopology("eth0")])
def test_what_a_dead_owner_took_is_put_back_first(
    run: str, dead: AttachedTopology | TakeoverTopology
) -> None:
    kernel = machine()
    before = kernel.picture()
    if isinstance(dead, AttachedTopology):
        build_attached(dead, kernel=kernel, run_directory=run)
    else:
        build_takeover(dead, kernel=kernel, run_directory=run)
    record = Path(run, "takeover-eth0.lock").read_bytes()
    # As if it had been killed: the socket and the TAP go with the process, the record and the rest stay.
    kernel.sockets.clear()
    kernel.remove(None, "redtap-tap")
    Path(run, "takeover-eth0.lock").unlink()
    Path(run, "takeover-eth0.lock").write_bytes(record)
    with build_attached(TAKEN, kernel=kernel, run_directory=run) as built:
        assert [note.partition(",")[0] for note in built.notes] == ["restored eth0"]
        assert built.mac == MAC
    assert kernel.picture() == before


def test_program_of_a_dead_owner_is_detached_first(run: str) -> None:
    kernel = machine()
    before = kernel.picture()
    kernel.is_old = True
    xdp = AttachedTopology("eth0", "xdp", "172.30.0.77", OURS)
    build_attached(xdp, kernel=kernel, run_directory=run)
    record = Path(run, "takeover-eth0.lock").read_bytes()
    with pytest.raises(NameInUse, match="in use by a running redtap"):
        build_attached(xdp, kernel=kernel, run_directory=run)
    kernel.sockets.clear()
    Path(run, "takeover-eth0.lock").unlink()
    Path(run, "takeover-eth0.lock").write_bytes(record)
    assert sweep(kernel, run) == []
    with build_attached(xdp, kernel=kernel, run_directory=run) as built:
        assert [note.partition(",")[0] for note in built.notes] == ["detached the XDP program of eth0"]
    assert kernel.picture() == before


def test_address_of_the_kernel_is_refused_in_one_line(run: str) -> None:
    kernel = machine()
    with pytest.raises(NameInUse) as caught:
        build_attached(
            AttachedTopology("eth0", "packet", "172.30.0.2", OURS), kernel=kernel, run_directory=run
        )
    assert str(caught.value) == (
        "the kernel itself has 172.30.0.2 on eth0: add --takeover eth0, or give another --address"
    )
    assert kernel.steps == []


@pytest.mark.parametrize(
    ("topology", "says"),
    [
        (
            AttachedTopology("eth9", "packet", "10.0.0.1", OURS),
            "cannot use eth9: no such link; there is eth0",
        ),
        (AttachedTopology("lo", "packet", "10.0.0.1", OURS), "the loopback carries what the kernel says"),
        (AttachedTopology("eth0", "tap", "10.0.0.1", OURS), "it is no TAP, but of kind veth"),
        (AttachedTopology("tap9", "tap", "10.0.0.1", OURS), "ip tuntap add dev tap9 mode tap user NAME"),
    ],
)
def test_link_that_is_not_fit_is_refused(topology: AttachedTopology, says: str, run: str) -> None:
    kernel = machine()
    with pytest.raises(TopologyError) as caught:
        build_attached(topology, kernel=kernel, run_directory=run)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kernel.steps == []


def test_link_that_is_down_is_refused(run: str) -> None:
    kernel = machine()
    kernel.links_of[None]["eth0"]["up"] = False
    with pytest.raises(TopologyError, match="it is down: ip link set eth0 up"):
        build_attached(GIVEN, kernel=kernel, run_directory=run)


def test_missing_privilege_is_named(run: str) -> None:
    kernel = machine(missing=("CAP_NET_RAW", "CAP_NET_ADMIN"))
    with pytest.raises(MissingPrivilege, match=r"^missing CAP_NET_RAW: "):
        build_attached(GIVEN, kernel=kernel, run_directory=run)
    with pytest.raises(MissingPrivilege, match=r"^missing CAP_NET_RAW and CAP_NET_ADMIN: "):
        build_attached(TAKEN, kernel=kernel, run_directory=run)


def run_filter(program: bytes, frame: bytes, vlan_tag: int = 0) -> int:
    """What the kernel's interpreter of socket filters would return (networking/filter.rst)."""
    rows = [program[at : at + 8] for at in range(0, len(program), 8)]
    a = x = at = 0
    while True:
        code = int.from_bytes(rows[at][:2], "little")
        then, other = rows[at][2], rows[at][3]
        k = int.from_bytes(rows[at][4:], "little")
        at += 1
        if code in (0x20, 0x28):
            size = 4 if code == 0x20 else 2
            if k == 0xFFFF_F030:
                a = vlan_tag
            elif k + size > len(frame):
                return 0
            else:
                a = int.from_bytes(frame[k : k + size], "big")
        elif code in (0x15, 0x1D):
            at += then if a == (k if code == 0x15 else x) else other
        elif code == 0x07:
            x = a
        else:
            assert code == 0x06
            return k


US, THEM, THIRD = (bytes((10, 0, 0, last)) for last in (5, 6, 7))
NOBODY = bytes(4)


def ip_frame(destination: bytes, mac: bytes = OURS) -> bytes:
    return mac + MAC + b"\x08\0" + bytes(12) + THEM + destination + b" " * 20


def arp_frame(sender: bytes, target: bytes) -> bytes:
    return b"\xff" * 6 + MAC + b"\x08\x06" + bytes(14) + sender + bytes(6) + target


@pytest.mark.parametrize(
    ("frame", "passes"),
    [
        (ip_frame(US), True),
        (ip_frame(THIRD), False),
        (ip_frame(US, MAC), False),
        (ip_frame(US, OURS[:5] + b"\x06"), False),
        (ip_frame(b"\xff" * 4, b"\xff" * 6), False),
        (arp_frame(THEM, US), True),
        (arp_frame(THEM, THIRD), False),
        (arp_frame(US, THIRD), True),  # somebody else claims our address
        (arp_frame(NOBODY, US), True),  # or wants to
        (arp_frame(THEM, THEM), True),  # a neighbour announces itself
        (OURS + MAC + b"\x86\xdd" + bytes(60), False),
        (OURS + MAC + b"\x08\0", False),
        (b"", False),
    ],
)
def test_filter_passes_what_one_host_must_hear_and_nothing_else(frame: bytes, passes: bool) -> None:
    program = filter_program(OURS, "10.0.0.5")
    assert (run_filter(program, frame) > 0) == passes
    assert run_filter(program, frame, vlan_tag=1) == 0
