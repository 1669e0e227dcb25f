"""Building what a topology declares, and taking it down again to the last trace.

Every step that changes the kernel is paired with its undo (`netns.undo`); whatever ends the building — an
error in a step, Ctrl-C, SIGTERM — takes back what was done, last first, and the error says what. What is
built is a context manager that does the same on the way out. A process that is killed leaves a namespace
(its TAP goes with the descriptor) and a record; the next start finds the record without an owner, cleans up
and says so in `notes`.

Order of the steps of a `Topology`, with what each leaves to undo:
    1. lock the name, note the intent                   -> unlock, forget
    2. namespace under /run/netns, note its inode       -> remove it
    3. loopback up                                       (goes with the namespace)
    4. TAP inside the namespace                         -> close the descriptor, which removes the link
    5. MAC, MTU, queue; no IPv6 of its own; address; up; no pacing  (go with the TAP)

A namespace made by `redtap netns up` is marked as kept: it is used and left standing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from netns.errors import NameInUse, TopologyError
from netns.inside import Place, spawn
from netns.kernel import Kernel
from netns.ownership import RUN_DIRECTORY, Ownership, acquire, dead_owner, orphans, unlink_paths
from netns.topology import SOCKET_KINDS
from netns.undo import Built, Steps

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from netns.packet import PacketSocket
    from netns.tap import Tap
    from netns.topology import BridgeTopology, Station, Topology, VethTopology
    from netns.xdp import XdpSocket

    Device = Tap | PacketSocket | XdpSocket

# setns(2), unshare(2) and mount(2) ask for the one, links and addresses for the other.
_NAMESPACE_CAPABILITIES: Final = ("CAP_NET_ADMIN", "CAP_SYS_ADMIN")


class BuiltTopology(Built):
    """A `Topology` that stands.

    Attributes:
        topology: what was asked for.
        device: the open TAP or TUN, or the socket; it is for the stack.
        place: where the kernel's end is: a namespace name, or None when it is our own (`build_private`).
        notes: sentences on what was found left over, for people.
    """

    def __init__(
        self,
        steps: Steps,
        notes: list[str],
        topology: Topology,
        device: Device,
        place: Place,
        owned: _OwnedNamespace | None = None,
    ) -> None:
        super().__init__(steps, notes)
        self.topology = topology
        self.device = device
        self.place = place
        self._owned = owned

    @property
    def tap(self) -> Tap:
        """The device, of a topology that has a TAP or TUN."""
        assert self.topology.kind not in SOCKET_KINDS
        return self.device  # type: ignore[return-value]

    @property
    def is_kept(self) -> bool:
        """Whether the namespace outlives `close`."""
        return self._owned is not None and self._owned.kept

    def spawn(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program beside the kernel's end; see `netns.inside.spawn`."""
        return spawn(self.place, argv, **options)


class BuiltVeth(Built):
    """A `VethTopology` that stands."""

    def __init__(self, steps: Steps, notes: list[str], topology: VethTopology) -> None:
        super().__init__(steps, notes)
        self.topology = topology

    def spawn_client(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program in the client's namespace; see `netns.inside.spawn`."""
        return spawn(self.topology.client_namespace, argv, **options)

    def spawn_server(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program in the server's namespace; see `netns.inside.spawn`."""
        return spawn(self.topology.server_namespace, argv, **options)


class _OwnedNamespace:
    """A namespace whose record we hold. `kept`: it is to outlive us."""

    def __init__(self, name: str, companions: Sequence[str]) -> None:
        self.name = name
        self.companions = list(companions)
        self.kept = False
        self.was_there = False
        self.inode: int | None = None

    def record(self, ownership: Ownership) -> None:
        """Write down what there is now."""
        ownership.record(
            {"namespace": self.name, "inode": self.inode, "kept": self.kept, "paths": self.companions}
        )

    def remove(self, kernel: Kernel, inode: int) -> None:
        """Remove it, unless it is kept or another one has taken the name since."""
        if not self.kept and kernel.namespace_inode(self.name) == inode:
            kernel.remove_namespace(self.name)

    def give_up(self, ownership: Ownership) -> None:
        """Forget it, or note that it is kept and that nobody uses it."""
        if self.kept:
            self.companions = []
            self.record(ownership)
        ownership.release(keep=self.kept)


def belongs_to(found: dict[str, Any], inode: int) -> bool:
    """Whether the namespace with this inode is the one the record speaks of.

    A record without an inode is an intent: its owner had seen that the name was free and died at once.
    Inode 0 is the bare mount point, which only a death between two calls leaves behind.
    """
    return bool(found) and (found.get("inode") in (None, inode) or inode == 0)


def sweep(kernel: Kernel, run_directory: str = RUN_DIRECTORY, *, except_for: Sequence[str] = ()) -> list[str]:
    """Remove what dead owners left, under any name but `except_for`. Kept namespaces stay.

    Returns:
        A sentence for each thing removed.
    """
    notes: list[str] = []
    for orphan in orphans(run_directory):
        found = orphan.found
        if orphan.name in except_for or found.get("takeover") or found.get("xdp"):
            orphan.release(keep=True)
            continue
        name = found.get("namespace")
        inode = kernel.namespace_inode(name) if isinstance(name, str) else None
        if isinstance(name, str) and inode is not None and belongs_to(found, inode):
            if found.get("kept"):
                orphan.release(keep=True)
                continue
            kernel.remove_namespace(name)
            notes.append(f"removed namespace {name}, left behind by {dead_owner(found)}")
        unlink_paths(found)
        orphan.release()
    return notes


def _own_namespace(
    steps: Steps, kernel: Kernel, name: str, run_directory: str, companions: Sequence[str], notes: list[str]
) -> _OwnedNamespace:
    """Steps 1 to 3: the name is ours and there is a namespace behind it, new or kept."""
    owned = _OwnedNamespace(name, companions)
    ownership = steps.take(
        f"lock the name {name}", lambda: acquire(name, run_directory), f"lock on {name}", owned.give_up
    )
    found = ownership.found
    inode = kernel.namespace_inode(name)
    if inode is not None:
        if not belongs_to(found, inode):
            raise NameInUse(
                f"namespace {name} exists and is not redtap's",
                f"choose another --netns, or remove it: ip netns del {name}",
            )
        if found.get("kept"):
            owned.kept = owned.was_there = True
            owned.inode = inode
            notes.append(f"using namespace {name}, kept by `redtap netns up`")
        else:
            steps.take(f"remove the stale namespace {name}", lambda: kernel.remove_namespace(name))
            notes.append(f"removed namespace {name}, left behind by {dead_owner(found)}")
    unlink_paths(found)
    owned.record(ownership)
    if not owned.was_there:
        owned.inode = steps.take(
            f"create namespace {name}",
            lambda: kernel.create_namespace(name),
            f"namespace {name}",
            lambda made: owned.remove(kernel, made),
        )
        owned.record(ownership)
    steps.take("bring the loopback up", lambda: kernel.set_link(name, "lo", up=True))
    return owned


def _add_device(steps: Steps, kernel: Kernel, topology: Topology, place: Place, *, was_there: bool) -> Device:
    """Steps 4 and 5."""
    name = topology.tap
    what = "veth pair" if topology.kind in SOCKET_KINDS else topology.kind.upper()
    device: Device
    far_place: Place = None
    if topology.kind in SOCKET_KINDS:
        far_place = _add_far_namespace(steps, kernel)
        held = place if place is None else _hold(steps, kernel, place)
        steps.take(
            f"make {what} {name}",
            lambda: kernel.create_veth(place, name, far_place, FAR_LINK),
            f"{what} {name}",
            lambda _: kernel.delete_link(held, name),
        )
    else:
        device = steps.take(
            f"open {what} {name}",
            lambda: kernel.open_tap(
                place,
                name,
                vnet_header=topology.vnet_header,
                offloads=topology.offloads,
                kind=topology.kind,
            ),
            f"{what} {name}",
            lambda opened: opened.close(),
        )
    mac = None if topology.kind == "tun" else topology.client_mac
    steps.take(
        f"set up {what} {name}",
        lambda: kernel.set_link(place, name, mac=mac, mtu=topology.mtu, queue_length=topology.queue_length),
    )
    steps.take(f"silence IPv6 on {name}", lambda: kernel.silence_ipv6(place, name))
    address, _, length = topology.client_address.partition("/")
    present = [str(entry) for entry in kernel.addresses(place, name)] if was_there else []
    if present and present != [topology.client_address]:
        raise TopologyError(
            f"use {what} {name}", f"it has address {', '.join(present)}, not {topology.client_address}"
        )
    if not present:
        steps.take(
            f"give {name} address {topology.client_address}",
            lambda: kernel.add_address(place, name, address, int(length)),
        )
    if topology.kind in SOCKET_KINDS:
        device = _open_far_end(steps, kernel, topology, far_place)
    steps.take(f"bring {name} up", lambda: kernel.set_link(place, name, up=True))
    steps.take(f"spare the clients of {name} from pacing", lambda: kernel.spare_pacing(place, name))
    return device


FAR_LINK: Final = "appliance0"
"""The appliance's end of a veth pair, in a namespace without a name."""


def _add_far_namespace(steps: Steps, kernel: Kernel) -> Place:
    """A namespace for the appliance's end: what is in it is gone when the process is, however it ends."""
    descriptor = steps.take(
        "create a namespace for the appliance's end",
        kernel.create_unnamed_namespace,
        "the appliance's namespace",
        os.close,
    )
    return f"/proc/self/fd/{descriptor}"


def _hold(steps: Steps, kernel: Kernel, place: str) -> Place:
    """Keep the clients' namespace when its name is taken away, as a TAP does: our end goes with theirs."""
    descriptor = steps.take(
        f"hold namespace {place}", lambda: kernel.hold_namespace(place), "hold on the namespace", os.close
    )
    return f"/proc/self/fd/{descriptor}"


def _open_far_end(steps: Steps, kernel: Kernel, topology: Topology, place: Place) -> Device:
    steps.take(f"silence IPv6 on {FAR_LINK}", lambda: kernel.silence_ipv6(place, FAR_LINK))
    steps.take(f"bring {FAR_LINK} up", lambda: kernel.set_link(place, FAR_LINK, mtu=topology.mtu, up=True))

    def open_socket() -> Device:
        if topology.kind == "packet":
            return kernel.open_packet(place, FAR_LINK, mac=topology.mac, address=topology.address)
        return kernel.open_xdp(
            place, FAR_LINK, address=topology.address, mtu=topology.mtu, queue=None, is_veth=True
        )

    return steps.take(
        f"open a socket on {FAR_LINK}",
        open_socket,
        f"socket on {FAR_LINK}",
        lambda opened: opened.close(),
    )


def build(
    topology: Topology,
    *,
    kernel: Kernel | None = None,
    run_directory: str = RUN_DIRECTORY,
    companions: Sequence[str] = (),
    keep: bool = False,
) -> BuiltTopology:
    """Build `topology`; everything is undone by `close`, or here when a step fails.

    Args:
        topology: what there shall be.
        kernel: does the steps; the default is the real one.
        run_directory: where the records lie.
        companions: paths to unlink if this process dies without undoing (its control socket).
        keep: make the namespace and the TAP so that they outlive `close`, until `netns.manage.down`.

    Raises:
        MissingPrivilege, MissingDevice, NameInUse: one line with the remedy.
        TopologyError: a step failed; it says what was undone.
    """
    kernel = kernel or Kernel()
    with Steps() as steps:
        kernel.require(_NAMESPACE_CAPABILITIES)
        problem = None if topology.kind in SOCKET_KINDS else kernel.device_problem()
        if problem is not None:
            raise problem
        name = topology.namespace
        notes = sweep(kernel, run_directory, except_for=[name])
        owned = _own_namespace(steps, kernel, name, run_directory, companions, notes)
        if owned.was_there and topology.kind != "tap":
            raise NameInUse(f"namespace {name} is kept with a TAP", "add --link tap, or another --netns")
        device = _add_device(steps, kernel, topology, name, was_there=owned.was_there)
        built = BuiltTopology(steps, notes, topology, device, name, owned)
        if keep:
            steps.take("make the TAP persistent", lambda: built.tap.set_persistent(True))
            owned.kept = True
        return built


def build_private(topology: Topology, *, kernel: Kernel | None = None) -> BuiltTopology:
    """Build all but the namespace, in the one this process is in (see `netns.rootless`).

    Nothing is recorded: what is built lives and dies with the process.
    """
    kernel = kernel or Kernel()
    with Steps() as steps:
        kernel.require(("CAP_NET_ADMIN",))
        steps.take("bring the loopback up", lambda: kernel.set_link(None, "lo", up=True))
        device = _add_device(steps, kernel, topology, None, was_there=False)
        return BuiltTopology(steps, [], topology, device, None)


def _set_up_end(steps: Steps, kernel: Kernel, place: str, link: str, address: str, mtu: int) -> None:
    host, _, length = address.partition("/")
    steps.take(f"set up {link}", lambda: kernel.set_link(place, link, mtu=mtu))
    steps.take(f"silence IPv6 on {link}", lambda: kernel.silence_ipv6(place, link))
    steps.take(f"give {link} address {address}", lambda: kernel.add_address(place, link, host, int(length)))
    steps.take(f"bring {link} up", lambda: kernel.set_link(place, link, up=True))


def build_veth(
    topology: VethTopology, *, kernel: Kernel | None = None, run_directory: str = RUN_DIRECTORY
) -> BuiltVeth:
    """Build two namespaces joined by a veth pair; undone as in `build`."""
    kernel = kernel or Kernel()
    with Steps() as steps:
        kernel.require(_NAMESPACE_CAPABILITIES)
        names = [topology.client_namespace, topology.server_namespace]
        notes = sweep(kernel, run_directory, except_for=names)
        for name in names:
            owned = _own_namespace(steps, kernel, name, run_directory, (), notes)
            if owned.was_there:
                raise NameInUse(f"namespace {name} is kept by `redtap netns up`", "choose another name")
        client, server = names
        steps.take(
            f"join {client} and {server}",
            lambda: kernel.create_veth(client, topology.client_link, server, topology.server_link),
            f"veth pair {topology.client_link}",
            lambda _: kernel.delete_link(client, topology.client_link),
        )
        _set_up_end(steps, kernel, client, topology.client_link, topology.client_address, topology.mtu)
        _set_up_end(steps, kernel, server, topology.server_link, topology.server_address, topology.mtu)
        return BuiltVeth(steps, notes, topology)


def build_bridge(
    topology: BridgeTopology, *, kernel: Kernel | None = None, run_directory: str = RUN_DIRECTORY
) -> Built:
    """Build a bridge with a station on each of its ports; undone as in `build`."""
    kernel = kernel or Kernel()
    with Steps() as steps:
        kernel.require(_NAMESPACE_CAPABILITIES)
        middle = topology.namespace
        names = [middle, *(station.namespace for station in topology.stations)]
        notes = sweep(kernel, run_directory, except_for=names)
        for name in names:
            if _own_namespace(steps, kernel, name, run_directory, (), notes).was_there:
                raise NameInUse(f"namespace {name} is kept by `redtap netns up`", "choose another name")
        bridge = topology.bridge
        # What is made from here on goes with the namespaces.
        steps.take(f"create bridge {bridge}", lambda: kernel.create_bridge(middle, bridge, None))
        for number, station in enumerate(topology.stations):
            _plug_in(steps, kernel, topology, station, f"port{number}")
        steps.take(f"bring {bridge} up", lambda: kernel.set_link(middle, bridge, mtu=topology.mtu, up=True))
        return Built(steps, notes)


def _plug_in(steps: Steps, kernel: Kernel, topology: BridgeTopology, station: Station, port: str) -> None:
    place, link, middle = station.namespace, station.link, topology.namespace
    steps.take(f"join {port} and {place}", lambda: kernel.create_veth(middle, port, place, link))
    if station.address:
        _set_up_end(steps, kernel, place, link, station.address, topology.mtu)
    else:
        steps.take(f"silence IPv6 on {link}", lambda: kernel.silence_ipv6(place, link))
        steps.take(f"bring {link} up", lambda: kernel.set_link(place, link, mtu=topology.mtu, up=True))
    steps.take(f"silence IPv6 on {port}", lambda: kernel.silence_ipv6(middle, port))
    steps.take(
        f"put {port} into {topology.bridge}",
        lambda: kernel.set_link(middle, port, mtu=topology.mtu, master=topology.bridge, up=True),
    )
