"""The only module that touches the kernel: pyroute2 and pytun behind a narrow, typed face.

`Kernel` is what `build` and `takeover` work with; they take it as an argument, so that a test can hand them
one that fails at a chosen step. A `Place` is a namespace by name or path, or None for our own.

Source:  rtnetlink(7), network_namespaces(7), Linux Documentation/networking/ip-sysctl.rst.
Errors:  OSError and pyroute2's NetlinkError as they come: the step that was being taken names them.
Why threads: see `netns.inside`; pyroute2's own helpers for other namespaces fork, which is not safe once trio
         has worker threads, and undoing happens then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pyroute2 import IPRoute, netns as kernel_netns
from pyroute2.netlink.exceptions import NetlinkError

from netns.errors import MissingPrivilege
from netns.inside import RUN_NETNS, Place, in_thread, inside, place_path
from netns.packet import PacketSocket, open_packet
from netns.routes import RTPROT_KERNEL, main_routes, name_congestion_control
from netns.tap import Tap, open_tap, why_unusable
from netns.xdp import XdpSocket, open_xdp, other_program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netns.errors import MissingDevice

_T = TypeVar("_T")

CLONE_NEWNET: Final = 0x4000_0000  # linux/sched.h

# linux/capability.h
_CAPABILITY_BITS: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21, "CAP_BPF": 39}

_XDP_FLAGS_UPDATE_IF_NOEXIST: Final = 1  # linux/if_link.h
_IN6_ADDR_GEN_MODE_NONE: Final = 1  # linux/if_link.h


@dataclass(frozen=True)
class Link:
    """What the kernel says of one link."""

    index: int
    name: str
    mac: bytes
    mtu: int
    is_up: bool
    master: int
    kind: str
    is_for_us: bool = False
    """A persistent TAP or TUN that the user may open without a privilege."""


@dataclass(frozen=True)
class Route:
    """One IPv4 route, as much of it as is needed to put it back."""

    destination: str  # "" for the default route
    prefix_length: int
    gateway: str  # "" for a route on the link
    preferred_source: str
    metric: int
    scope: int
    protocol: int
    table: int


@dataclass(frozen=True)
class Address:
    """One IPv4 address of a link."""

    address: str
    prefix_length: int
    broadcast: str
    label: str

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix_length}"


class Kernel:
    """Namespaces, links, addresses and routes of this machine."""

    def missing_capabilities(self, wanted: Sequence[str]) -> list[str]:
        """Those of `wanted` that are not in our effective set."""
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    effective = int(line.split()[1], 16)
                    return [name for name in wanted if not effective >> _CAPABILITY_BITS[name] & 1]
        return []

    def require(self, capabilities: Sequence[str]) -> None:
        """Raise MissingPrivilege unless all of them are in our effective set."""
        missing = self.missing_capabilities(capabilities)
        if missing:
            raise MissingPrivilege(missing)

    def device_problem(self) -> MissingDevice | None:
        """Why no TAP can be opened here, with the remedy; None when one can."""
        return why_unusable()

    # Namespaces

    def namespace_inode(self, name: str) -> int | None:
        """Inode of the namespace called `name`; None when there is none; 0 for a leftover plain file."""
        try:
            found = os.stat(place_path(name))
            plain = os.stat(RUN_NETNS).st_dev == found.st_dev
        except FileNotFoundError:
            return None
        return 0 if plain else found.st_ino

    def create_namespace(self, name: str) -> int:
        """Make a namespace under /run/netns and return its inode."""

        def make() -> None:
            # A thread that leaves for a new namespace is all it takes; /run/netns then holds on to it.
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            kernel_netns.attach(name, "thread-self")

        try:
            inside("/proc/self/ns/net", make)
        except BaseException:
            # The mount point may be there already, without the mount.
            if self.namespace_inode(name) == 0:
                os.unlink(place_path(name))
            raise
        inode = self.namespace_inode(name)
        if not inode:
            raise OSError(errno.ENOENT, "the namespace did not appear under /run/netns")
        return inode

    def create_unnamed_namespace(self) -> int:
        """Make a namespace that nobody else knows; it lives as long as the descriptor, or sockets in it."""

        def make() -> int:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        return in_thread(make)

    def hold_namespace(self, place: str) -> int:
        """A descriptor by which a namespace lives on when its name is taken away."""
        return os.open(place_path(place), os.O_RDONLY | os.O_CLOEXEC)

    def remove_namespace(self, name: str) -> None:
        """Take the name away; the namespace goes when nothing lives in it any more."""
        kernel_netns.remove(name)

    # Links

    def open_tap(
        self, place: Place, name: str, *, vnet_header: bool, offloads: bool, kind: str = "tap"
    ) -> Tap:
        """Open a TAP that is born inside `place`, so that nobody in ours ever sees it or its name."""
        return inside(place, lambda: open_tap(name, vnet_header=vnet_header, offloads=offloads, kind=kind))

    def open_packet(self, place: Place, name: str, *, mac: bytes, address: str) -> PacketSocket:
        """Open an AF_PACKET socket on the link `name` inside `place`."""
        return inside(place, lambda: open_packet(name, mac=mac, address=address))

    def open_xdp(
        self,
        place: Place,
        name: str,
        *,
        address: str,
        mtu: int,
        queue: int | None,
        is_veth: bool,
        before_netlink: Callable[[], None] | None = None,
    ) -> XdpSocket:
        """Open AF_XDP sockets on the link `name` inside `place`.

        `before_netlink` is called when the program has to be attached in a way that outlives the process.
        """
        opened = inside(place, lambda: open_xdp(name, address=address, mtu=mtu, queue=queue, is_veth=is_veth))
        if opened.unattached >= 0:
            try:
                if before_netlink is not None:
                    before_netlink()
                self._set_xdp(place, name, opened.unattached, _XDP_FLAGS_UPDATE_IF_NOEXIST)
            except BaseException as exc:
                opened.close()
                if exc.args[:1] == (errno.EBUSY,):
                    raise other_program(name) from exc
                raise
            opened.attached_by(lambda: self.detach_xdp(place, name))
        return opened

    def detach_xdp(self, place: Place, name: str) -> None:
        """Take away an XDP program that was attached by netlink; nothing happens when there is none."""
        self._set_xdp(place, name, -1, 0)

    def _set_xdp(self, place: Place, name: str, program_fd: int, flags: int) -> None:
        attrs = [("IFLA_XDP_FD", program_fd)]
        if flags:
            attrs.append(("IFLA_XDP_FLAGS", flags))
        self._with_routes(place, lambda ipr: ipr.link("set", index=_index(ipr, name), xdp={"attrs": attrs}))

    def find_link(self, place: Place, name: str) -> Link | None:
        """The link `name`, or None."""
        return next((link for link in self.links(place) if link.name == name), None)

    def links(self, place: Place) -> list[Link]:
        """All links in `place`."""

        def describe(message: Any) -> Link:
            info = message.get("linkinfo")
            kind = (info.get("kind") or "") if info else ""
            return Link(
                index=message["index"],
                name=message.get("ifname"),
                mac=bytes.fromhex((message.get("address") or "").replace(":", "")),
                mtu=message.get("mtu") or 0,
                is_up=bool(message["flags"] & 1),
                master=message.get("master") or 0,
                kind=kind,
                is_for_us=kind == "tun" and _may_open(info.get_attr("IFLA_INFO_DATA")),
            )

        return self._with_routes(place, lambda ipr: [describe(message) for message in ipr.get_links()])

    def set_link(
        self,
        place: Place,
        name: str,
        *,
        mac: bytes | None = None,
        mtu: int | None = None,
        queue_length: int | None = None,
        master: str | None = None,
        up: bool | None = None,
    ) -> None:
        """Change what is given of the link `name`; `master=""` takes it out of its bridge."""

        def change(ipr: Any) -> None:
            index = _index(ipr, name)
            facts: dict[str, Any] = {}
            if mac is not None:
                facts["address"] = mac.hex(":")
            if mtu is not None:
                facts["mtu"] = mtu
            if queue_length is not None:
                facts["txqlen"] = queue_length
            if facts:
                ipr.link("set", index=index, **facts)
            if master is not None:
                ipr.link("set", index=index, master=_index(ipr, master) if master else 0)
            if up is not None:
                ipr.link("set", index=index, state="up" if up else "down")

        self._with_routes(place, change)

    def silence_ipv6(self, place: Place, name: str) -> None:
        """Keep the kernel from speaking IPv6 on the link `name` by itself (DAD, router solicitation, MLD).

        Captures then hold what the clients do and nothing else. Where /proc/sys is read-only, as in a
        container, the link is at least left without a link-local address; without IPv6 nothing is needed.
        """

        def write() -> None:
            with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as switch:
                switch.write("1")

        try:
            inside(place, write)
        except FileNotFoundError:
            return
        except OSError:
            mode = ("IFLA_INET6_ADDR_GEN_MODE", _IN6_ADDR_GEN_MODE_NONE)
            spec = {"attrs": [("AF_INET6", {"attrs": [mode]})]}
            self._with_routes(place, lambda ipr: ipr.link("set", index=_index(ipr, name), IFLA_AF_SPEC=spec))

    def spare_pacing(self, place: Place, name: str) -> None:
        """Let TCP over the routes of the link `name` send without pacing, where the system's default paces.

        BBR measures a rate and spreads its segments in time, by a timer of the sender's for every 64 KiB. On
        a link in memory there is no bottleneck to find: the timers are all that is left of it, and cost more
        than the segments. So the routes of such a link name Linux's own default (RTAX_CC_ALGO,
        rtnetlink(7)). What the namespace's other links use stays as it is, and so does a default that does
        not pace. A kernel that has neither algorithm goes on as it was.
        """

        def choose() -> None:
            with open("/proc/sys/net/ipv4/tcp_congestion_control") as default:
                if not default.read().startswith(_PACING):
                    return
            with contextlib.closing(IPRoute()) as ipr:
                routes = [one for one in main_routes(ipr, _index(ipr, name)) if one["proto"] == RTPROT_KERNEL]
                for control in _NOT_PACING:
                    try:
                        name_congestion_control(ipr, routes, control)
                    except NetlinkError as error:
                        if error.code != errno.EINVAL:
                            raise
                    else:
                        return

        with contextlib.suppress(FileNotFoundError):
            inside(place, choose)

    def create_veth(self, place: Place, name: str, peer_place: Place, peer_name: str) -> None:
        """Make a veth pair, one end in each namespace."""

        def make(ipr: Any) -> None:
            path = "/proc/self/ns/net" if peer_place is None else place_path(peer_place)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                peer = {"ifname": peer_name, "net_ns_fd": descriptor}
                ipr.link("add", ifname=name, kind="veth", peer=peer)
            finally:
                os.close(descriptor)

        self._with_routes(place, make)

    def create_bridge(self, place: Place, name: str, mac: bytes | None) -> None:
        """Make a bridge that forwards from the first moment and says nothing of its own."""
        facts = {} if mac is None else {"address": mac.hex(":")}
        self._with_routes(
            place,
            lambda ipr: ipr.link(
                "add",
                ifname=name,
                kind="bridge",
                **facts,
                br_stp_state=0,
                br_forward_delay=0,
                br_mcast_snooping=0,
            ),
        )

    def delete_link(self, place: Place, name: str) -> None:
        """Remove the link `name`; nothing happens when it is gone already."""

        def delete(ipr: Any) -> None:
            found = ipr.link_lookup(ifname=name)
            if found:
                ipr.link("del", index=found[0])

        self._with_routes(place, delete)

    # Addresses and routes

    def add_address(
        self, place: Place, name: str, address: str, prefix_length: int, broadcast: str = ""
    ) -> None:
        """Give the link `name` an IPv4 address."""
        facts: dict[str, Any] = {"address": address, "prefixlen": prefix_length}
        if broadcast:
            facts["broadcast"] = broadcast
        self._with_routes(place, lambda ipr: ipr.addr("add", index=_index(ipr, name), **facts))

    def addresses(self, place: Place, name: str) -> list[Address]:
        """IPv4 addresses of the link `name`."""

        def read(ipr: Any) -> list[Address]:
            return [
                Address(
                    address=message.get("local") or message.get("address"),
                    prefix_length=message["prefixlen"],
                    broadcast=message.get("broadcast") or "",
                    label=message.get("label") or "",
                )
                for message in ipr.get_addr(family=socket.AF_INET, index=_index(ipr, name))
            ]

        return self._with_routes(place, read)

    def flush_addresses(self, place: Place, name: str) -> None:
        """Remove every IPv4 address of the link `name`; its routes go with them."""
        self._with_routes(place, lambda ipr: ipr.flush_addr(family=socket.AF_INET, index=_index(ipr, name)))

    def routes(self, place: Place, name: str) -> list[Route]:
        """IPv4 routes through the link `name` in the main table, those the kernel makes itself left out."""

        def read(ipr: Any) -> list[Route]:
            return [
                Route(
                    destination=message.get("dst") or "",
                    prefix_length=message["dst_len"],
                    gateway=message.get("gateway") or "",
                    preferred_source=message.get("prefsrc") or "",
                    metric=message.get("priority") or 0,
                    scope=message["scope"],
                    protocol=message["proto"],
                    table=message.get("table") or message["table"],
                )
                for message in main_routes(ipr, _index(ipr, name))
                if message["proto"] != RTPROT_KERNEL
            ]

        return self._with_routes(place, read)

    def add_route(self, place: Place, name: str, route: Route) -> None:
        """Put `route` back through the link `name`."""

        def add(ipr: Any) -> None:
            facts: dict[str, Any] = {
                "dst": f"{route.destination or '0.0.0.0'}/{route.prefix_length}",
                "oif": _index(ipr, name),
                "scope": route.scope,
                "proto": route.protocol,
                "table": route.table,
            }
            if route.gateway:
                facts["gateway"] = route.gateway
            if route.preferred_source:
                facts["prefsrc"] = route.preferred_source
            if route.metric:
                facts["priority"] = route.metric
            ipr.route("replace", **facts)

        self._with_routes(place, add)

    @staticmethod
    def _with_routes(place: Place, action: Callable[[Any], _T]) -> _T:
        """Run `action` with a route socket of the namespace `place`."""

        def work() -> _T:
            with contextlib.closing(IPRoute()) as ipr:
                return action(ipr)

        return inside(place, work)


_PACING: Final = "bbr"  # and its later versions, bbr2 and bbr3
_NOT_PACING: Final = ("cubic", "reno")


def _may_open(device: Any) -> bool:
    """Whether a TAP or TUN is persistent, with one queue, and ours or nobody's (drivers/net/tun.c)."""
    if not device or not device.get_attr("IFLA_TUN_PERSIST") or device.get_attr("IFLA_TUN_MULTI_QUEUE"):
        return False
    owner, group = device.get_attr("IFLA_TUN_OWNER"), device.get_attr("IFLA_TUN_GROUP")
    return owner in (None, os.geteuid()) and group in (None, os.getegid(), *os.getgroups())


def _index(ipr: Any, name: str) -> int:
    found = ipr.link_lookup(ifname=name)
    if not found:
        raise OSError(errno.ENODEV, f"no link {name}")
    return int(found[0])
