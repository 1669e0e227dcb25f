"""Taking over the address of a link, as in a container: the kernel steps aside, the stack answers.

    before:   network ── eth0 (address A, MAC M) ── kernel
    after:    network ── eth0 (no address, random MAC) ── bridge ── TAP ── descriptor (address A, MAC M)

A sibling container resolves our name to A, asks for A's MAC and gets M as ever; nothing has to be announced,
and neither the engine nor the siblings notice. eth0 needs another MAC because a bridge keeps frames to the
MACs of its own ports for the kernel. What the link looked like is read first, written down before anything
is touched, and restored on every way out; after a kill it is restored from the record at the next start.

Source:  Linux Documentation/networking/bridge.rst; net/bridge/br_fdb.c (local entries).
Needs:   CAP_NET_ADMIN and /dev/net/tun; no namespace is made.
Note:    from inside, the kernel no longer has A, so the container cannot reach its own address; IPv6
         addresses stay on the link and are unreachable while it is a port of the bridge.
"""

from __future__ import annotations

import errno
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from netns.build import _Built, _died, _require, _unlink_all
from netns.errors import NameInUse, TopologyError
from netns.inside import Place, place_path
from netns.kernel import Address, Kernel, Link, Route
from netns.ownership import RUN_DIRECTORY, acquire
from netns.undo import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netns.tap import Tap
    from netns.topology import TakeoverTopology

_LOCALLY_ADMINISTERED: Final = 0x02
_MULTICAST: Final = 0x01


class BuiltTakeover(_Built):
    """A link taken over.

    Attributes:
        topology: what was asked for.
        tap: the open TAP; its descriptor is for the stack.
        address: what the stack shall answer for, with prefix length.
        gateway: of the default route, dotted quad; "" without one.
        mac: what the stack shall use: the link's own until now.
        mtu: of the link.
        notes: sentences for people.
    """

    def __init__(
        self,
        steps: Steps,
        notes: list[str],
        topology: TakeoverTopology,
        tap: Tap,
        link: Link,
        before: _Before,
    ) -> None:
        super().__init__(steps, notes)
        self.topology = topology
        self.tap = tap
        self.address = str(before.addresses[0])
        self.gateway = before.gateway()
        self.mac = before.mac
        self.mtu = link.mtu

    @property
    def device(self) -> Tap:
        """The TAP, by the name that the other builders' results have for what the stack gets."""
        return self.tap


class _Before:
    """How a link was before it was taken over: enough to put it back."""

    def __init__(self, index: int, mac: bytes, addresses: list[Address], routes: list[Route]) -> None:
        self.index = index
        self.mac = mac
        self.addresses = addresses
        self.routes = routes

    def gateway(self) -> str:
        """Of the default route with the best metric."""
        defaults = [route for route in self.routes if route.prefix_length == 0 and route.gateway]
        return min(defaults, key=lambda route: route.metric).gateway if defaults else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "mac": self.mac.hex(),
            "addresses": [asdict(address) for address in self.addresses],
            "routes": [asdict(route) for route in self.routes],
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> _Before:
        return cls(
            facts["index"],
            bytes.fromhex(facts["mac"]),
            [Address(**address) for address in facts["addresses"]],
            [Route(**route) for route in facts["routes"]],
        )

    def restore_addresses(self, kernel: Kernel, place: Place, link: str) -> None:
        """Addresses, then routes: a gateway must be on a network we have. Those present are left alone."""
        present = {(entry.address, entry.prefix_length) for entry in kernel.addresses(place, link)}
        for entry in self.addresses:
            if (entry.address, entry.prefix_length) not in present:
                kernel.add_address(place, link, entry.address, entry.prefix_length, entry.broadcast)
        # Routes on the link before those through a gateway that such a route leads to.
        for route in sorted(self.routes, key=lambda entry: bool(entry.gateway)):
            kernel.add_route(place, link, route)


def _random_mac() -> bytes:
    mac = bytearray(os.urandom(6))
    mac[0] = mac[0] & ~_MULTICAST | _LOCALLY_ADMINISTERED
    return bytes(mac)


def _set_mac(kernel: Kernel, place: Place, link: str, mac: bytes) -> None:
    try:
        kernel.set_link(place, link, mac=mac)
    except Exception as exc:
        if exc.args[:1] != (errno.EBUSY,):
            raise
        # Some drivers change the MAC of a link only while it is down.
        kernel.set_link(place, link, up=False)
        kernel.set_link(place, link, mac=mac)
        kernel.set_link(place, link, up=True)


def _namespace_inode(place: Place) -> int:
    return os.stat("/proc/self/ns/net" if place is None else place_path(place)).st_ino


def _restore_leftover(
    kernel: Kernel, place: Place, topology: TakeoverTopology, link: Link, found: dict[str, Any]
) -> str:
    """Put the link back as a dead owner found it; a sentence when there was something to do, else ""."""
    taken = found.get("takeover")
    bridge = kernel.find_link(place, topology.bridge)
    if not isinstance(taken, dict) or taken.get("inode") != _namespace_inode(place):
        if bridge is not None:
            raise NameInUse(f"link {topology.bridge} exists and is not ours", "remove it: ip link del")
        return ""
    before = _Before.from_json(taken)
    if before.index != link.index:
        return ""
    if bridge is not None:
        kernel.delete_link(place, topology.bridge)
    _set_mac(kernel, place, link.name, before.mac)
    kernel.set_link(place, link.name, up=True)
    before.restore_addresses(kernel, place, link.name)
    return f"restored {link.name}, taken over by {_died(found)}"


def build_takeover(
    topology: TakeoverTopology,
    *,
    kernel: Kernel | None = None,
    run_directory: str = RUN_DIRECTORY,
    companions: Sequence[str] = (),
    place: Place = None,
) -> BuiltTakeover:
    """Take over `topology.link` in our own namespace, or in `place`.

    Raises:
        MissingPrivilege, MissingDevice, NameInUse: one line with the remedy; nothing has changed.
        TopologyError: no such link, no address on it, or a step failed; it says what was undone.
    """
    kernel = kernel or Kernel()
    name, tap_name, bridge = topology.link, topology.tap, topology.bridge
    with Steps() as steps:
        _require(kernel, ("CAP_NET_ADMIN",) if place is None else ("CAP_NET_ADMIN", "CAP_SYS_ADMIN"))
        problem = kernel.device_problem()
        if problem is not None:
            raise problem
        notes: list[str] = []
        lock_name = f"takeover-{name}" if place is None else f"takeover-{place.replace('/', '_')}-{name}"
        ownership = steps.take(
            f"lock {name}",
            lambda: acquire(lock_name, run_directory),
            f"lock on {name}",
            lambda held: held.release(),
        )
        link = kernel.find_link(place, name)
        if link is None:
            others = ", ".join(entry.name for entry in kernel.links(place) if entry.name != "lo")
            raise TopologyError(f"take over {name}", f"no such link; there is {others or 'none'}")
        note = _restore_leftover(kernel, place, topology, link, ownership.found)
        if note:
            notes.append(note)
            link = kernel.find_link(place, name) or link
        _unlink_all(ownership.found.get("paths") or ())

        before = _Before(link.index, link.mac, kernel.addresses(place, name), kernel.routes(place, name))
        if not before.addresses:
            raise TopologyError(f"take over {name}", "it has no IPv4 address")
        if link.master:
            raise TopologyError(f"take over {name}", "it belongs to a bridge or a bond already")
        if len(before.addresses) > 1:
            others = ", ".join(map(str, before.addresses[1:]))
            notes.append(f"{name} has more addresses than one: {others} will not answer")
        taken = {**before.as_json(), "inode": _namespace_inode(place)}
        ownership.record({"takeover": taken, "paths": list(companions)})

        steps.take(
            f"create bridge {bridge}",
            lambda: kernel.create_bridge(place, bridge, _random_mac()),
            f"bridge {bridge}",
            lambda _: kernel.delete_link(place, bridge),
        )
        tap = steps.take(
            f"open TAP {tap_name}",
            lambda: kernel.open_tap(
                place, tap_name, vnet_header=topology.vnet_header, offloads=topology.offloads
            ),
            f"TAP {tap_name}",
            lambda opened: opened.close(),
        )
        steps.take(f"silence IPv6 on {bridge}", lambda: kernel.silence_ipv6(place, bridge))
        steps.take(f"silence IPv6 on {tap_name}", lambda: kernel.silence_ipv6(place, tap_name))
        steps.take(
            f"set up TAP {tap_name}",
            lambda: kernel.set_link(
                place, tap_name, mtu=link.mtu, queue_length=topology.queue_length, master=bridge, up=True
            ),
        )
        # Noted before it is done: a flush that fails half-way is put right as well.
        steps.undo.push(f"addresses of {name}", lambda: before.restore_addresses(kernel, place, name))
        steps.take(f"flush {name}", lambda: kernel.flush_addresses(place, name))
        steps.undo.push(f"MAC of {name}", lambda: _set_mac(kernel, place, name, before.mac))
        steps.take(f"change the MAC of {name}", lambda: _set_mac(kernel, place, name, _random_mac()))
        steps.take(
            f"put {name} into {bridge}",
            lambda: kernel.set_link(place, name, master=bridge, up=True),
            f"{name} in {bridge}",
            lambda _: kernel.set_link(place, name, master=""),
        )
        steps.take(f"bring {bridge} up", lambda: kernel.set_link(place, bridge, mtu=link.mtu, up=True))
        return BuiltTakeover(steps, notes, topology, tap, link, before)


__all__ = ["BuiltTakeover", "build_takeover"]
