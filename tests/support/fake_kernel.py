"""A kernel of dictionaries for `netns.build` and `netns.takeover`, failing at a step of the test's choice.

It has the face of `netns.kernel.Kernel` and keeps what a kernel would: namespaces with inodes, links with
addresses and routes. A test compares `picture()` before and after.
"""

from __future__ import annotations

import errno
import itertools
import os
from typing import TYPE_CHECKING, Any

from netns.kernel import Address, Kernel, Link, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netns.errors import MissingDevice
    from netns.inside import Place
    from netns.packet import PacketSocket
    from netns.tap import Tap
    from netns.xdp import XdpSocket


class FakeTap:
    """What `Kernel.open_tap` returns here: closing it removes the link unless it is persistent."""

    def __init__(self, kernel: FakeKernel, place: Place, name: str) -> None:
        self._kernel, self._place = kernel, place
        self.name = name
        self.fd = 99
        self.persistent = False
        self.vnet_header = self.offloads = True

    def set_persistent(self, on: bool) -> None:
        self.persistent = on

    def close(self) -> None:
        if self.fd >= 0:
            self.fd = -1
            if not self.persistent:
                self._kernel.remove(self._place, self.name)


class FakeSocket:
    """What `Kernel.open_packet` and `open_xdp` return here."""

    def __init__(self, kernel: FakeKernel, name: str, kind: str = "packet") -> None:
        self._kernel = kernel
        self.kind = kind
        self.name = name
        self.queues = [self]
        self.has_metadata = True

    def close(self) -> None:
        self._kernel.sockets.discard(self.name)
        self._kernel.programs.discard(self.name)


class FakeKernel(Kernel):
    def __init__(self, fail_at: str | int | None = None, missing: Sequence[str] = ()) -> None:
        self.fail_at = fail_at
        self.missing = list(missing)
        self.device: MissingDevice | None = None
        self.namespaces: dict[str, int] = {}
        self.links_of: dict[Place, dict[str, dict[str, Any]]] = {None: {}}
        self.sockets: set[str] = set()
        self.programs: set[str] = set()
        self.is_old = False
        """Whether an XDP program outlives who attached it."""
        self.steps: list[str] = []
        self._numbers = itertools.count(1000)
        self.add(None, "lo", "")

    def picture(self) -> object:
        """All there is, to compare."""
        return (
            sorted(self.namespaces),
            {
                place: repr(sorted(links.items()))
                for place, links in self.links_of.items()
                if place is None or "/" not in place
            },
            sorted(self.sockets),
            sorted(self.programs),
        )

    def add(self, place: Place, name: str, kind: str, mac: bytes = b"\x02\0\0\0\0\1") -> dict[str, Any]:
        link = {
            "index": len(self.links_of[place]) + 1,
            "kind": kind,
            "mac": mac,
            "mtu": 1500,
            "up": False,
            "master": "",
            "addresses": [],
            "routes": [],
        }
        self.links_of[place][name] = link
        return link

    def remove(self, place: Place, name: str) -> None:
        self.links_of.get(place, {}).pop(name, None)

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if self.fail_at in (name, len(self.steps)):
            self.fail_at = None  # once: undoing must find a kernel that works
            raise OSError(errno.EPERM, "Operation not permitted")

    def missing_capabilities(self, wanted: Sequence[str]) -> list[str]:
        return [name for name in wanted if name in self.missing]

    def device_problem(self) -> MissingDevice | None:
        return self.device

    def namespace_inode(self, name: str) -> int | None:
        return self.namespaces.get(name)

    def create_namespace(self, name: str) -> int:
        self._step("create_namespace")
        self.namespaces[name] = next(self._numbers)
        self.links_of[name] = {}
        self.add(name, "lo", "")
        return self.namespaces[name]

    def remove_namespace(self, name: str) -> None:
        self._step("remove_namespace")
        del self.namespaces[name], self.links_of[name]

    def create_unnamed_namespace(self) -> int:
        self._step("create_unnamed_namespace")
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self.links_of[f"/proc/self/fd/{descriptor}"] = {}
        return descriptor

    def hold_namespace(self, place: str) -> int:
        self._step("hold_namespace")
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self.links_of[f"/proc/self/fd/{descriptor}"] = self.links_of[place]
        return descriptor

    def open_packet(self, place: Place, name: str, *, mac: bytes, address: str) -> PacketSocket:
        self._step("open_packet")
        assert name in self.links_of[place]
        assert len(mac) == 6
        assert address
        self.sockets.add(name)
        return FakeSocket(self, name)  # type: ignore[return-value]

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
        self._step("open_xdp")
        if self.is_old and before_netlink is not None:
            before_netlink()
            self.programs.add(name)
        assert mtu == self.links_of[place][name]["mtu"]
        assert is_veth == (self.links_of[place][name]["kind"] == "veth")
        self.sockets.add(name)
        return FakeSocket(self, name, "xdp")  # type: ignore[return-value]

    def detach_xdp(self, place: Place, name: str) -> None:
        self._step("detach_xdp")
        self.programs.discard(name)

    def open_tap(
        self, place: Place, name: str, *, vnet_header: bool, offloads: bool, kind: str = "tap"
    ) -> Tap:
        self._step("open_tap")
        if name not in self.links_of[place]:
            self.add(place, name, "tun")
        return FakeTap(self, place, name)  # type: ignore[return-value]

    def links(self, place: Place) -> list[Link]:
        names = {name: link["index"] for name, link in self.links_of[place].items()}
        return [
            Link(
                index=link["index"],
                name=name,
                mac=link["mac"],
                mtu=link["mtu"],
                is_up=link["up"],
                master=names.get(link["master"], 0),
                kind=link["kind"],
                is_for_us=link.get("is_for_us", link["kind"] == "tun"),
            )
            for name, link in self.links_of[place].items()
        ]

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
        self._step("set_link")
        link = self.links_of[place][name]
        for key, value in (("mac", mac), ("mtu", mtu), ("master", master), ("up", up)):
            if value is not None:
                link[key] = value

    def silence_ipv6(self, place: Place, name: str) -> None:
        self._step("silence_ipv6")
        assert name in self.links_of[place]

    def spare_pacing(self, place: Place, name: str) -> None:
        self._step("spare_pacing")
        assert self.links_of[place][name]["up"]

    def create_veth(self, place: Place, name: str, peer_place: Place, peer_name: str) -> None:
        self._step("create_veth")
        self.add(place, name, "veth")
        self.add(peer_place, peer_name, "veth")

    def create_bridge(self, place: Place, name: str, mac: bytes | None) -> None:
        self._step("create_bridge")
        self.add(place, name, "bridge", mac)

    def delete_link(self, place: Place, name: str) -> None:
        self._step("delete_link")
        self.remove(place, name)
        for link in self.links_of[place].values():
            if link["master"] == name:
                link["master"] = ""

    def add_address(
        self, place: Place, name: str, address: str, prefix_length: int, broadcast: str = ""
    ) -> None:
        self._step("add_address")
        self.links_of[place][name]["addresses"].append(Address(address, prefix_length, broadcast, ""))

    def addresses(self, place: Place, name: str) -> list[Address]:
        return list(self.links_of[place][name]["addresses"])

    def flush_addresses(self, place: Place, name: str) -> None:
        self._step("flush_addresses")
        self.links_of[place][name].update(addresses=[], routes=[])

    def routes(self, place: Place, name: str) -> list[Route]:
        return list(self.links_of[place][name]["routes"])

    def add_route(self, place: Place, name: str, route: Route) -> None:
        self._step("add_route")
        routes = self.links_of[place][name]["routes"]
        if route not in routes:
            routes.append(route)
