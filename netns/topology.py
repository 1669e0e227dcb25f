"""What can be built, as values.

A topology says what there shall be, with every name and address in it; `build` makes it so. The values are
checked when they are made, so that a wrong one is refused before anything is touched.

Units:   MTU and queue lengths as the kernel counts them (bytes of IP packet, packets).
Errors:  ValueError, one line, naming the field.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MIN_MTU = 576  # RFC 791 §3.1: every host must take datagrams of this size; below it nothing useful works
MAX_MTU = 65521  # TAP: 65535 bytes of frame less the Ethernet header (drivers/net/tun.c, MAX_MTU)

# One slot for each connection the appliance may hold by default: a burst in which every one of them sends
# a segment at once is queued whole instead of being dropped by the kernel before the stack has seen it.
QUEUE_LENGTH = 10_000

DEVICE_KINDS = ("tap", "tun")
SOCKET_KINDS = ("packet", "xdp")
KINDS = DEVICE_KINDS + SOCKET_KINDS

_NAMESPACE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_LINK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ is 16 with the final NUL
_MAC_LENGTH = 6


def check_namespace_name(name: str) -> str:
    """`name`, or ValueError when it cannot name a file under /run/netns."""
    if not _NAMESPACE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a namespace name; takes 1 to 64 letters, digits, '_', '.', '-'")
    return name


def check_link_name(name: str) -> str:
    """`name`, or ValueError when the kernel would refuse it as the name of a link."""
    if not _LINK_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a link name; takes 1 to 15 letters, digits, '_', '.', '-'")
    return name


def check_mtu(mtu: int) -> int:
    """`mtu`, or ValueError when a TAP cannot have it."""
    if not MIN_MTU <= mtu <= MAX_MTU:
        raise ValueError(f"{mtu} is not an MTU; takes {MIN_MTU} to {MAX_MTU}")
    return mtu


def check_interface(text: str) -> ipaddress.IPv4Interface:
    """`text` such as `10.77.0.1/24` as a host address with its network.

    Raises:
        ValueError: not IPv4, no prefix length, or not the address of one host in that network.
    """
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length; takes ADDRESS/LENGTH such as 10.77.0.1/24")
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IPv4 address with its network; takes ADDRESS/LENGTH such as 10.77.0.1/24"
        ) from None
    network = interface.network
    if network.prefixlen > 30:
        raise ValueError(f"{text!r} leaves no room for two ends; takes a prefix length of 30 or less")
    if interface.ip in (network.network_address, network.broadcast_address):
        raise ValueError(f"{text!r} is the address of a network; takes one of a host in it")
    if interface.is_multicast or interface.is_unspecified or interface.is_reserved:
        raise ValueError(
            f"{text!r} is not the address of one host; takes ADDRESS/LENGTH such as 10.77.0.1/24"
        )
    return interface


def check_same_network(one: ipaddress.IPv4Interface, other: ipaddress.IPv4Interface) -> None:
    """ValueError unless the two are different hosts of one network."""
    if one.network != other.network:
        raise ValueError(f"{one} and {other} are not in one network")
    if one.ip == other.ip:
        raise ValueError(f"{one.ip} cannot be at both ends")


def check_mac(mac: bytes) -> bytes:
    """`mac`, or ValueError when it is not the address of one station."""
    if len(mac) != _MAC_LENGTH or mac[0] & 1 or not any(mac):
        raise ValueError(
            f"{mac.hex(':')!r} is not the MAC of one station; takes six bytes, not multicast, not zero"
        )
    return mac


def _check_kind(kind: str, known: tuple[str, ...]) -> None:
    if kind not in known:
        raise ValueError(f"{kind!r} is not a kind of link; takes {', '.join(known)}")


@dataclass(frozen=True)
class Topology:
    """A namespace with a TAP in it; the kernel's end has an address, the other end is the descriptor.

    Attributes:
        namespace: name under /run/netns.
        tap: name of the link inside the namespace.
        client_address: the kernel's end with its prefix length, `10.77.0.1/24`.
        mtu: of the TAP.
        vnet_header: frames carry a virtio_net_hdr of 10 bytes (IFF_VNET_HDR).
        offloads: the kernel may hand over partial checksums and TCP segments of up to 64 KiB;
            needs `vnet_header`.
        client_mac: MAC of the kernel's end; None leaves the random one of the kernel.
        queue_length: frames the kernel holds for us before it drops.
        kind: `tap`; `tun`, with IP packets in place of frames; or `packet`, `xdp`: the link is one end of a
            veth pair, and such a socket is on its other end, in a namespace without a name.
        address, mac: of the appliance, for the kinds that choose its frames in the kernel.
    """

    namespace: str
    tap: str
    client_address: str
    mtu: int = 1500
    vnet_header: bool = True
    offloads: bool = True
    client_mac: bytes | None = None
    queue_length: int = QUEUE_LENGTH
    kind: str = "tap"
    address: str = ""
    mac: bytes = b""

    def __post_init__(self) -> None:
        check_namespace_name(self.namespace)
        check_link_name(self.tap)
        check_interface(self.client_address)
        _check_kind(self.kind, KINDS)
        if self.kind in SOCKET_KINDS:
            check_mac(self.mac)
            ipaddress.IPv4Address(self.address)
        check_mtu(self.mtu)
        if self.offloads and not self.vnet_header:
            raise ValueError("offloads need the virtio-net header: vnet_header=True")
        if self.client_mac is not None:
            check_mac(self.client_mac)
        if self.queue_length < 1:
            raise ValueError(f"{self.queue_length} is not a queue length; takes 1 or more")


@dataclass(frozen=True)
class VethTopology:
    """Two namespaces joined by a veth pair: kernel TCP on both ends, as the peer of a comparison.

    Attributes:
        client_namespace, server_namespace: names under /run/netns.
        client_link, server_link: the two ends of the pair.
        client_address, server_address: hosts of one network, with prefix length.
        mtu: of both ends.
    """

    client_namespace: str
    server_namespace: str
    client_address: str = "10.78.0.1/24"
    server_address: str = "10.78.0.2/24"
    client_link: str = "veth-client"
    server_link: str = "veth-server"
    mtu: int = 1500

    def __post_init__(self) -> None:
        check_namespace_name(self.client_namespace)
        check_namespace_name(self.server_namespace)
        if self.client_namespace == self.server_namespace:
            raise ValueError(f"{self.client_namespace!r} cannot be both namespaces of a pair")
        check_link_name(self.client_link)
        check_link_name(self.server_link)
        check_mtu(self.mtu)
        check_same_network(check_interface(self.client_address), check_interface(self.server_address))


@dataclass(frozen=True)
class TakeoverTopology:
    """A link of ours whose address and MAC shall pass to the far side of a TAP, through a bridge.

    Attributes:
        link: the link to take over, `eth0` in a container.
        tap, bridge: names of the links to make beside it, in the same namespace.
        vnet_header, offloads, queue_length: as in `Topology`.
    """

    link: str
    tap: str = "redtap-tap"
    bridge: str = "redtap-bridge"
    vnet_header: bool = True
    offloads: bool = True
    queue_length: int = QUEUE_LENGTH

    def __post_init__(self) -> None:
        for name in (self.link, self.tap, self.bridge):
            check_link_name(name)
        if len({self.link, self.tap, self.bridge}) != 3:
            raise ValueError(f"{self.link!r}, {self.tap!r} and {self.bridge!r} must be three names")
        if self.offloads and not self.vnet_header:
            raise ValueError("offloads need the virtio-net header: vnet_header=True")


@dataclass(frozen=True)
class AttachedTopology:
    """A link that is there already, in our own namespace, and carries our frames too.

    Attributes:
        link: its name.
        kind: `tap` or `tun`, a persistent device whose far end is ours; `packet` or `xdp`, a socket on it.
        address: the appliance, dotted quad; "" takes over the link's own, and then its MAC as well.
        mac: of the appliance; b"" together with `address`.
        queue: for `xdp`: the receive queue; None for all of them.
    """

    link: str
    kind: str
    address: str = ""
    mac: bytes = b""
    queue: int | None = None

    def __post_init__(self) -> None:
        check_link_name(self.link)
        _check_kind(self.kind, KINDS)
        if self.address:
            ipaddress.IPv4Address(self.address)
            check_mac(self.mac)
        elif self.kind in DEVICE_KINDS:
            raise ValueError(f"the address of {self.link} cannot be taken over: its far end is ours")
        if self.queue is not None and (self.queue < 0 or self.kind != "xdp"):
            raise ValueError(f"{self.queue} is not a receive queue of a link of kind {self.kind}")


@dataclass(frozen=True)
class Station:
    """One host of a `BridgeTopology`; without an address the kernel has none there, and a stack may.

    Attributes:
        namespace: where its link is.
        address: of the kernel, with prefix length; "" for none.
        link: name of its link.
    """

    namespace: str
    address: str = ""
    link: str = "veth0"

    def __post_init__(self) -> None:
        check_namespace_name(self.namespace)
        check_link_name(self.link)
        if self.address:
            check_interface(self.address)


@dataclass(frozen=True)
class BridgeTopology:
    """Stations on one bridge, which has a namespace of its own: a switch with a cable to each.

    Attributes:
        namespace: of the bridge.
        stations: two or more, each in a namespace of its own.
        bridge: name of the bridge; its ports are `port0`, `port1` … in the order of the stations.
        mtu: of every link.
    """

    namespace: str
    stations: tuple[Station, ...]
    bridge: str = "bridge0"
    mtu: int = 1500

    def __post_init__(self) -> None:
        check_namespace_name(self.namespace)
        check_link_name(self.bridge)
        check_mtu(self.mtu)
        names = {self.namespace, *(station.namespace for station in self.stations)}
        if len(self.stations) < 2 or len(names) != len(self.stations) + 1:
            raise ValueError("a bridge joins two or more stations, each in a namespace of its own")
