"""A link that was there before us: the lock on it, the kernel's stepping aside, and the way back.

Taking over a link's address begins and ends alike for all ways of using the link (netns.takeover puts it into
a bridge, netns.attach opens a socket on it): what the link looked like is read, written down in a record
before anything is touched, and put back on every way out; after a kill the next start does it, from the
record.

Errors:  TopologyError, NameInUse: one line with the remedy.
"""

from __future__ import annotations

import errno
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from netns.errors import NameInUse, TopologyError
from netns.inside import Place, place_path
from netns.kernel import Address, Kernel, Link, Route
from netns.ownership import Ownership, acquire, dead_owner

if TYPE_CHECKING:
    from netns.undo import Steps

_LOCALLY_ADMINISTERED: Final = 0x02
_MULTICAST: Final = 0x01


class LinkBefore:
    """How a link was before it was taken over: enough to put it back."""

    def __init__(self, index: int, mac: bytes, addresses: list[Address], routes: list[Route]) -> None:
        self.index = index
        self.mac = mac
        self.addresses = addresses
        self.routes = routes

    @classmethod
    def read(cls, kernel: Kernel, place: Place, link: Link, notes: list[str]) -> LinkBefore:
        """How `link` is now. What of it nobody will answer for goes into `notes`.

        Raises:
            TopologyError: it has no address to take over.
        """
        name = link.name
        before = cls(link.index, link.mac, kernel.addresses(place, name), kernel.routes(place, name))
        if not before.addresses:
            raise TopologyError(f"take over {name}", "it has no IPv4 address")
        if len(before.addresses) > 1:
            others = ", ".join(map(str, before.addresses[1:]))
            notes.append(f"{name} has more addresses than one: {others} will not answer")
        return before

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
    def from_json(cls, facts: dict[str, Any]) -> LinkBefore:
        return cls(
            facts["index"],
            bytes.fromhex(facts["mac"]),
            [Address(**address) for address in facts["addresses"]],
            [Route(**route) for route in facts["routes"]],
        )

    def record(self, place: Place) -> dict[str, Any]:
        """What the record of the link says of it."""
        return {**self.as_json(), "inode": namespace_inode(place)}

    def restore_addresses(self, kernel: Kernel, place: Place, link: str) -> None:
        """Addresses, then routes: a gateway must be on a network we have. Those present are left alone."""
        present = {(entry.address, entry.prefix_length) for entry in kernel.addresses(place, link)}
        for entry in self.addresses:
            if (entry.address, entry.prefix_length) not in present:
                kernel.add_address(place, link, entry.address, entry.prefix_length, entry.broadcast)
        # Routes on the link before those through a gateway that such a route leads to.
        for route in sorted(self.routes, key=lambda entry: bool(entry.gateway)):
            kernel.add_route(place, link, route)


def random_mac() -> bytes:
    """A locally administered one."""
    mac = bytearray(os.urandom(6))
    mac[0] = mac[0] & ~_MULTICAST | _LOCALLY_ADMINISTERED
    return bytes(mac)


def namespace_inode(place: Place) -> int:
    """Which namespace that is."""
    return os.stat("/proc/self/ns/net" if place is None else place_path(place)).st_ino


def lock_link(steps: Steps, name: str, place: Place, run_directory: str) -> Ownership:
    """Become the owner of the link `name` inside `place`, until the steps are undone."""
    lock_name = f"takeover-{name}" if place is None else f"takeover-{place.replace('/', '_')}-{name}"
    return steps.take(
        f"lock {name}",
        lambda: acquire(lock_name, run_directory),
        f"lock on {name}",
        lambda held: held.release(),
    )


def no_such_link(kernel: Kernel, place: Place, doing: str) -> TopologyError:
    """The link is missing; says which there are."""
    others = ", ".join(entry.name for entry in kernel.links(place) if entry.name != "lo")
    return TopologyError(doing, f"no such link; there is {others or 'none'}")


def step_aside(steps: Steps, kernel: Kernel, place: Place, name: str, before: LinkBefore) -> None:
    """Take the link's addresses from the kernel and give it another MAC, so that ours is nobody else's."""
    # Noted before it is done: a flush that fails half-way is put right as well.
    steps.undo.push(f"addresses of {name}", lambda: before.restore_addresses(kernel, place, name))
    steps.take(f"flush {name}", lambda: kernel.flush_addresses(place, name))
    steps.undo.push(f"MAC of {name}", lambda: _set_mac(kernel, place, name, before.mac))
    steps.take(f"change the MAC of {name}", lambda: _set_mac(kernel, place, name, random_mac()))


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


def restore_leftover(kernel: Kernel, place: Place, bridge: str, link: Link, found: dict[str, Any]) -> str:
    """Put the link back as a dead owner found it; a sentence when there was something to do, else "".

    Args:
        bridge: name of the one that the owner may have put the link into.
        found: the record it left.

    Raises:
        NameInUse: there is such a bridge, and the record does not speak of it.
    """
    taken = found.get("takeover")
    there = kernel.find_link(place, bridge)
    if not isinstance(taken, dict) or taken.get("inode") != namespace_inode(place):
        if there is not None:
            raise NameInUse(f"link {bridge} exists and is not ours", "remove it: ip link del")
        return ""
    before = LinkBefore.from_json(taken)
    if before.index != link.index:
        return ""
    if there is not None:
        kernel.delete_link(place, bridge)
    _set_mac(kernel, place, link.name, before.mac)
    kernel.set_link(place, link.name, up=True)
    before.restore_addresses(kernel, place, link.name)
    return f"restored {link.name}, taken over by {dead_owner(found)}"
