"""Which links this machine lets this user have: each is tried, in a namespace that nobody sees.

What can be found out only by doing it is done: a device opened, a program loaded, attached to one end of a
veth pair and detached. Where the user may not make a namespace, as in a container, as much as that allows.

Errors:  none; what fails is the finding.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netns.errors import RootlessUnavailable, TopologyError, one_line
from netns.kernel import Kernel
from netns.rootless import why_not_rootless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netns.inside import Place

_MAC: Final = bytes.fromhex("025200000002")
_ADDRESS: Final = "10.77.0.2"
_LINK: Final = "doctor0"
_FAR_LINK: Final = "doctor1"
_MTU: Final = 1500


@dataclass(frozen=True)
class Finding:
    """One kind of link.

    Attributes:
        link: as `--link` takes it.
        is_usable: whether this user can have it.
        text: how, or what is missing and what to do about it.
    """

    link: str
    is_usable: bool
    text: str


def examine(kernel: Kernel | None = None) -> list[Finding]:
    """A finding for each kind of link, and one for `exec --rootless`."""
    kernel = kernel or Kernel()
    return [
        _finding("tap", lambda: _try_device(kernel, "tap")),
        _finding("tun", lambda: _try_device(kernel, "tun")),
        _finding("tap:NAME, tun:NAME", lambda: _look_for_persistent(kernel)),
        _finding("packet", lambda: _try_packet(kernel)),
        _finding("xdp", lambda: _try_xdp(kernel)),
        _finding("exec --rootless", _try_rootless),
    ]


def _finding(link: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(link, True, attempt())
    except TopologyError as exc:
        plain = type(exc) is TopologyError
        return Finding(link, False, " ".join((exc.cause_text if plain else str(exc)).split()))
    except Exception as exc:
        return Finding(link, False, one_line(exc))


def _may_make_namespaces(kernel: Kernel) -> bool:
    return not kernel.missing_capabilities(["CAP_SYS_ADMIN"])


@contextmanager
def _namespace(kernel: Kernel) -> Iterator[Place]:
    descriptor = kernel.create_unnamed_namespace()
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextmanager
def _pair(kernel: Kernel) -> Iterator[Place]:
    with _namespace(kernel) as place:
        kernel.create_veth(place, _LINK, place, _FAR_LINK)
        for name in (_LINK, _FAR_LINK):
            kernel.set_link(place, name, mtu=_MTU, up=True)
        yield place


def _try_device(kernel: Kernel, kind: str) -> str:
    problem = kernel.device_problem()
    if problem is not None:
        raise problem
    kernel.require(["CAP_NET_ADMIN"])
    if not _may_make_namespaces(kernel):
        if kind == "tap":
            return "only with --takeover LINK: a namespace would need CAP_SYS_ADMIN"
        kernel.require(["CAP_SYS_ADMIN"])
    with _namespace(kernel) as place:
        kernel.open_tap(place, _LINK, vnet_header=True, offloads=True, kind=kind).close()
    return "in a namespace" + (", or with --takeover LINK" if kind == "tap" else "")


def _look_for_persistent(kernel: Kernel) -> str:
    problem = kernel.device_problem()
    if problem is not None:
        raise problem
    names = [link.name for link in kernel.links(None) if link.is_for_us]
    if names:
        return f"there is {', '.join(names)}; use it with --address"
    remedy = f"make it as root: ip tuntap add dev NAME mode tap user {os.geteuid()}"
    raise TopologyError("use a persistent device", f"there is none for user {os.geteuid()}; {remedy}")


def _try_packet(kernel: Kernel) -> str:
    kernel.require(["CAP_NET_RAW"])
    if not _may_make_namespaces(kernel):
        kernel.open_packet(None, "lo", mac=_MAC, address=_ADDRESS).close()
        return "only on a link that is there: packet:LINK with --address, or --takeover LINK"
    with _pair(kernel) as place:
        kernel.open_packet(place, _LINK, mac=_MAC, address=_ADDRESS).close()
    return "in a namespace, or packet:LINK"


def _try_xdp(kernel: Kernel) -> str:
    kernel.require(["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"])
    kernel.require(["CAP_SYS_ADMIN"])  # without it there is no trying
    with _pair(kernel) as place, ExitStack() as stack:
        opened = kernel.open_xdp(
            place, _LINK, address=_ADDRESS, mtu=_MTU, queue=None, is_veth=True, before_netlink=lambda: None
        )
        stack.callback(opened.close)
        checksums = "with" if opened.queues[0].has_metadata else "without"
        return f"in a namespace, or xdp:LINK; {checksums} checksums left to the kernel"


def _try_rootless() -> str:
    if not why_not_rootless():
        return "with tap, tun or packet"
    missing = why_not_rootless(needs_device=False)
    if missing:
        raise RootlessUnavailable(missing)
    return "with packet only: /dev/net/tun may not be opened"


__all__ = ["Finding", "examine"]
