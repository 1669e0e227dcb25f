"""Taking over the address of a link, as in a container: the kernel steps aside, the stack answers.

    before:   network ── eth0 (address A, MAC M) ── kernel
    after:    network ── eth0 (no address, random MAC) ── bridge ── TAP ── descriptor (address A, MAC M)

A sibling container resolves our name to A, asks for A's MAC and gets M as ever; nothing has to be announced,
and neither the engine nor the siblings notice. eth0 needs another MAC because a bridge keeps frames to the
MACs of its own ports for the kernel. What the link looked like is restored on every way out (netns.borrowed).

Source:  Linux Documentation/networking/bridge.rst; net/bridge/br_fdb.c (local entries).
Needs:   CAP_NET_ADMIN and /dev/net/tun; no namespace is made.
Note:    from inside, the kernel no longer has A, so the container cannot reach its own address; IPv6
         addresses stay on the link and are unreachable while it is a port of the bridge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netns.borrowed import (
    LinkBefore,
    lock_link,
    no_such_link,
    random_mac,
    restore_leftover,
    step_aside,
)
from netns.errors import TopologyError
from netns.kernel import Kernel
from netns.ownership import RUN_DIRECTORY, unlink_paths
from netns.undo import Built, Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netns.inside import Place
    from netns.kernel import Link
    from netns.tap import Tap
    from netns.topology import TakeoverTopology


class BuiltTakeover(Built):
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
        before: LinkBefore,
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
        kernel.require(("CAP_NET_ADMIN",) if place is None else ("CAP_NET_ADMIN", "CAP_SYS_ADMIN"))
        problem = kernel.device_problem()
        if problem is not None:
            raise problem
        notes: list[str] = []
        ownership = lock_link(steps, name, place, run_directory)
        link = kernel.find_link(place, name)
        if link is None:
            raise no_such_link(kernel, place, f"take over {name}")
        note = restore_leftover(kernel, place, bridge, link, ownership.found)
        if note:
            notes.append(note)
            link = kernel.find_link(place, name) or link
        unlink_paths(ownership.found)

        before = LinkBefore.read(kernel, place, link, notes)
        if link.master:
            raise TopologyError(f"take over {name}", "it belongs to a bridge or a bond already")
        ownership.record({"takeover": before.record(place), "paths": list(companions)})

        steps.take(
            f"create bridge {bridge}",
            lambda: kernel.create_bridge(place, bridge, random_mac()),
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
        step_aside(steps, kernel, place, name, before)
        steps.take(
            f"put {name} into {bridge}",
            lambda: kernel.set_link(place, name, master=bridge, up=True),
            f"{name} in {bridge}",
            lambda _: kernel.set_link(place, name, master=""),
        )
        steps.take(f"bring {bridge} up", lambda: kernel.set_link(place, bridge, mtu=link.mtu, up=True))
        return BuiltTakeover(steps, notes, topology, tap, link, before)


__all__ = ["BuiltTakeover", "build_takeover"]
