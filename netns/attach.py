"""Using a link that is there already: a socket on it, or the far end of a persistent TAP or TUN.

Nothing of the link is changed unless its address is taken over. Then the kernel steps aside first:

    before:   network ── eth0 (address A, MAC M) ── kernel
    after:    network ── eth0 (no address, random MAC) ── kernel
                              └── socket (address A, MAC M) ── stack

The random MAC makes the kernel ignore what we answer (it is for another station), also where it forwards;
frames to M arrive because the socket is a promiscuous one. What the link looked like is restored on every way
out (netns.borrowed).

Source:  packet(7); Linux net/packet/af_packet.c, drivers/net/tun.c.
Needs:   CAP_NET_RAW for a packet socket, CAP_NET_ADMIN and CAP_BPF too for XDP, CAP_NET_ADMIN for taking
         over; nothing for a persistent device of the user's own.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from netns.borrowed import (
    LinkBefore,
    lock_link,
    namespace_inode,
    no_such_link,
    restore_leftover,
    step_aside,
)
from netns.errors import NameInUse, TopologyError
from netns.kernel import Kernel
from netns.ownership import RUN_DIRECTORY, dead_owner, unlink_paths
from netns.topology import DEVICE_KINDS, TakeoverTopology
from netns.undo import Built, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netns.build import Device
    from netns.inside import Place
    from netns.kernel import Link
    from netns.topology import AttachedTopology

_NEEDED = {"packet": ["CAP_NET_RAW"], "xdp": ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"]}


class BuiltAttached(Built):
    """A link in use.

    Attributes:
        topology: what was asked for.
        device: the open device or socket, for the stack.
        address: what the stack shall answer for, with prefix length; "" when it was given.
        gateway: of the default route, dotted quad; "" without one, or when the address was given.
        mac: what the stack shall use.
        mtu: of the link.
        notes: sentences for people.
    """

    def __init__(
        self,
        steps: Steps,
        notes: list[str],
        topology: AttachedTopology,
        device: Device,
        link: Link,
        before: LinkBefore | None,
    ) -> None:
        super().__init__(steps, notes)
        self.topology = topology
        self.device = device
        self.address = str(before.addresses[0]) if before else ""
        self.gateway = before.gateway() if before else ""
        self.mac = before.mac if before else topology.mac
        self.mtu = link.mtu


def build_attached(
    topology: AttachedTopology,
    *,
    kernel: Kernel | None = None,
    run_directory: str = RUN_DIRECTORY,
    companions: Sequence[str] = (),
    place: Place = None,
) -> BuiltAttached:
    """Open what `topology` says on its link, in our own namespace or in `place`.

    Raises:
        MissingPrivilege, MissingDevice, NameInUse: one line with the remedy; nothing has changed.
        TopologyError: the link is not fit for it, or a step failed; it says what was undone.
    """
    kernel = kernel or Kernel()
    name, kind = topology.link, topology.kind
    notes: list[str] = []
    with Steps() as steps:
        _check_possible(kernel, topology, place)
        taken: dict[str, Any] = {}
        ownership = None
        if not topology.address or kind == "xdp":  # a link has room for one program
            ownership = lock_link(steps, name, place, run_directory)
            taken = ownership.found
        link = _find(kernel, topology, place)
        if ownership is not None:
            note = restore_leftover(kernel, place, TakeoverTopology.bridge, link, taken)
            if note:
                notes.append(note)
                link = _find(kernel, topology, place)
            if taken.get("xdp") == [namespace_inode(place), link.index]:
                steps.take(f"detach XDP from {name}", lambda: kernel.detach_xdp(place, name))
                notes.append(f"detached the XDP program of {name}, left behind by {dead_owner(taken)}")
            unlink_paths(taken)
        if topology.address:
            _refuse_shared_address(kernel, topology, place)
        if not link.is_up:
            raise TopologyError(f"use {name}", f"it is down: ip link set {name} up")

        before: LinkBefore | None = None
        address, mac = topology.address, topology.mac
        record: dict[str, Any] = {"paths": list(companions)}
        if ownership is not None and not address:
            before = LinkBefore.read(kernel, place, link, notes)
            address, mac = before.addresses[0].address, before.mac
            record["takeover"] = before.record(place)
        if ownership is not None:
            ownership.record(record)

        def note_program() -> None:
            assert ownership is not None
            ownership.record({**record, "xdp": [namespace_inode(place), link.index]})

        device = steps.take(
            f"open {kind} {name}",
            lambda: _open(kernel, topology, place, link, address, mac, note_program),
            f"{kind} {name}",
            lambda opened: opened.close(),
        )
        if before is not None:
            step_aside(steps, kernel, place, name, before)
        return BuiltAttached(steps, notes, topology, device, link, before)


def _check_possible(kernel: Kernel, topology: AttachedTopology, place: Place) -> None:
    if topology.kind in DEVICE_KINDS:
        problem = kernel.device_problem()
        if problem is not None:
            raise problem
        return
    needed = list(_NEEDED[topology.kind])
    if not topology.address and "CAP_NET_ADMIN" not in needed:
        needed.append("CAP_NET_ADMIN")
    kernel.require(needed if place is None else [*needed, "CAP_SYS_ADMIN"])


def _find(kernel: Kernel, topology: AttachedTopology, place: Place) -> Link:
    name, kind = topology.link, topology.kind
    doing = f"use {name}" if topology.address else f"take over {name}"
    link = kernel.find_link(place, name)
    if link is None:
        if kind in DEVICE_KINDS:
            remedy = f"no such link; make it as root: ip tuntap add dev {name} mode {kind} user NAME"
            raise TopologyError(doing, remedy)
        raise no_such_link(kernel, place, doing)
    if kind in DEVICE_KINDS and link.kind != "tun":
        raise TopologyError(doing, f"it is no {kind.upper()}, but of kind {link.kind or 'device'}")
    if name == "lo":
        raise TopologyError(doing, "the loopback carries what the kernel says to itself only")
    return link


def _refuse_shared_address(kernel: Kernel, topology: AttachedTopology, place: Place) -> None:
    """Two that answer for one address: the kernel would reset every connection of ours."""
    for link in kernel.links(place):
        if any(entry.address == topology.address for entry in kernel.addresses(place, link.name)):
            remedy = (
                f"add --takeover {link.name}, or give another --address"
                if topology.kind not in DEVICE_KINDS and link.name == topology.link
                else "give another --address"
            )
            raise NameInUse(f"the kernel itself has {topology.address} on {link.name}", remedy)


def _open(
    kernel: Kernel,
    topology: AttachedTopology,
    place: Place,
    link: Link,
    address: str,
    mac: bytes,
    before_netlink: Callable[[], None],
) -> Device:
    name, kind = topology.link, topology.kind
    if kind == "xdp":
        return kernel.open_xdp(
            place,
            name,
            address=address,
            mtu=link.mtu,
            queue=topology.queue,
            is_veth=link.kind == "veth",
            before_netlink=before_netlink,
        )
    if kind == "packet":
        return kernel.open_packet(place, name, mac=mac, address=address)
    try:
        return kernel.open_tap(place, name, vnet_header=True, offloads=True, kind=kind)
    except OSError as exc:
        why = {
            errno.EBUSY: "another process has it open",
            errno.EPERM: "it belongs to another user: ip tuntap add dev … user NAME",
            errno.EINVAL: f"it is not of mode {kind}, or has several queues",
        }.get(exc.errno or 0)
        if why is None:
            raise
        raise TopologyError(f"use {name}", why) from exc


__all__ = ["BuiltAttached", "build_attached"]
