"""`up`, `down` and `show`: the topology alone, without an appliance on it.

What `up` makes is kept: the namespace and a persistent TAP in it stand when the command has ended, clients
and captures in the namespace survive restarts of the appliance, and a `redtap serve` of the same name uses
them and leaves them standing. `down` is the only thing that removes them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from netns.build import belongs_to, build
from netns.errors import TopologyError
from netns.kernel import Kernel, Link
from netns.ownership import RUN_DIRECTORY, acquire, is_owned, read_record
from netns.topology import Topology, check_namespace_name


@dataclass(frozen=True)
class Shown:
    """One namespace of ours, for showing.

    Attributes:
        name: under /run/netns.
        state: `in use` (an owner lives), `kept` (made by `up`), `left behind` (its owner died).
        pid: of the owner, living or dead; None when unknown.
        links: the links in it, loopback left out, each with its addresses; empty when they cannot be read.
    """

    name: str
    state: str
    pid: int | None
    links: list[tuple[Link, list[str]]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "state": self.state,
            "pid": self.pid,
            "links": [
                {
                    "name": link.name,
                    "kind": link.kind,
                    "mac": link.mac.hex(":"),
                    "mtu": link.mtu,
                    "up": link.is_up,
                    "addresses": addresses,
                }
                for link, addresses in self.links
            ],
        }


def up(topology: Topology, *, kernel: Kernel | None = None, run_directory: str = RUN_DIRECTORY) -> list[str]:
    """Build `topology` so that it stays. Doing it again changes nothing.

    Returns:
        Notes on what was found, as `BuiltTopology.notes`.

    Raises:
        TopologyError: as `netns.build.build`.
    """
    with build(topology, kernel=kernel, run_directory=run_directory, keep=True) as built:
        return built.notes


def down(name: str, *, kernel: Kernel | None = None, run_directory: str = RUN_DIRECTORY) -> str:
    """Remove the namespace `name`, kept or left behind.

    Returns:
        A sentence saying what was removed.

    Raises:
        NameInUse: its owner lives, or it is not ours.
        TopologyError: there is none, or it could not be removed.
    """
    kernel = kernel or Kernel()
    check_namespace_name(name)
    kernel.require(("CAP_SYS_ADMIN",))
    try:
        ownership = acquire(name, run_directory)
    except OSError as exc:
        raise TopologyError(f"lock the name {name}", exc) from exc
    found = ownership.found
    inode = kernel.namespace_inode(name)
    if inode is None or not belongs_to(found, inode):
        ownership.release(keep=inode is not None and bool(found))
        why = "there is no such namespace" if inode is None else "it is not redtap's; see: ip netns del"
        raise TopologyError(f"take down {name}", why)
    try:
        # The persistent TAP goes first: a process that still lives in the namespace would keep it alive.
        for link in kernel.links(name) if inode else []:
            if link.kind == "tun":
                kernel.delete_link(name, link.name)
        kernel.remove_namespace(name)
    except Exception as exc:
        ownership.release(keep=True)
        raise TopologyError(f"take down {name}", exc) from exc
    ownership.release()
    return f"removed namespace {name}"


def show(*, kernel: Kernel | None = None, run_directory: str = RUN_DIRECTORY) -> list[Shown]:
    """Every namespace of ours on this machine."""
    kernel = kernel or Kernel()
    shown: list[Shown] = []
    try:
        names = sorted(e.removesuffix(".lock") for e in os.listdir(run_directory) if e.endswith(".lock"))
    except OSError:
        return shown
    readable = not kernel.missing_capabilities(("CAP_SYS_ADMIN",))
    for name in names:
        found = read_record(name, run_directory)
        inode = kernel.namespace_inode(name)
        if inode is None or not belongs_to(found, inode):
            continue
        if is_owned(name, run_directory):
            state = "in use"
        else:
            state = "kept" if found.get("kept") else "left behind"
        links = []
        if readable and inode:
            links = [
                (link, [str(address) for address in kernel.addresses(name, link.name)])
                for link in kernel.links(name)
                if link.name != "lo"
            ]
        pid = found.get("pid")
        shown.append(Shown(name, state, pid if isinstance(pid, int) else None, links))
    return shown
