"""An AF_PACKET socket on a link of the kernel's: a descriptor that gives and takes Ethernet frames.

The kernel goes on using the link; we get copies of the frames that are for us, and of no others. They are
chosen by a filter in the kernel, so that foreign traffic costs this process nothing.

Source:  packet(7); Linux net/packet/af_packet.c; networking/filter.rst for the filter's instructions.
Frames:  virtio_net_hdr (10 bytes) + Ethernet, as a TAP has them (PACKET_VNET_HDR): checksums may be partial
         and segments of up to 64 KiB pass both ways.
Life:    filter, promiscuous membership and socket end with the descriptor, whatever ends the process.
Invariant: no frame arrives that the filter has not seen: the socket is made for no protocol, which gives
         it nothing, and is bound to the link when the filter is in place.
Errors:  OSError from the system.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
from typing import Final

# linux/if_packet.h
SOL_PACKET: Final = 263
PACKET_ADD_MEMBERSHIP: Final = 1
PACKET_VNET_HDR: Final = 15
PACKET_IGNORE_OUTGOING: Final = 23
_PACKET_MR_PROMISC: Final = 1

_ETH_P_ALL: Final = 3
_SO_ATTACH_FILTER: Final = 26
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33

BUFFER_BYTES: Final = 16 * 1024 * 1024
"""What may wait in the socket either way: some thousand requests, or two hundred segments of 64 KiB."""

# linux/bpf_common.h: class, size and mode of the loads, and the jumps.
_LOAD_WORD: Final = 0x20
_LOAD_HALF: Final = 0x28
_JUMP_EQUAL: Final = 0x15
_JUMP_EQUAL_X: Final = 0x1D
_A_TO_X: Final = 0x07
_RETURN: Final = 0x06
_VLAN_TAG_PRESENT: Final = 0xFFFF_F000 + 48  # SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT

_ETHERTYPE_IPV4: Final = 0x0800
_ETHERTYPE_ARP: Final = 0x0806
_NO_MAC: Final = bytes(6)
_WHOLE: Final = 0x4_0000

_DROP: Final = "drop"
_TAKE: Final = "take"


def filter_program(mac: bytes, address: str) -> bytes:
    """Instructions (struct sock_filter) that pass what one host has to hear, untagged frames only.

    IPv4 to `address` in frames to `mac`; ARP that asks for the address, answers it, or claims it; ARP by
    which a neighbour announces itself (sender and target address alike).
    """
    host = int(ipaddress.IPv4Address(address))
    # (code, operand, where to go when equal, where to go when not); None is the next instruction.
    rows: list[tuple[int, int, str | None, str | None]] = [
        (_LOAD_WORD, _VLAN_TAG_PRESENT, None, None),
        (_JUMP_EQUAL, 0, None, _DROP),
        (_LOAD_HALF, 12, None, None),
        (_JUMP_EQUAL, _ETHERTYPE_ARP, "arp", None),
        (_JUMP_EQUAL, _ETHERTYPE_IPV4, None, _DROP),
        (_LOAD_WORD, 30, None, None),
        (_JUMP_EQUAL, host, None, _DROP),
        (_LOAD_WORD, 0, None, None),
        (_JUMP_EQUAL, int.from_bytes(mac[:4], "big"), None, _DROP),
        (_LOAD_HALF, 4, None, None),
        (_JUMP_EQUAL, int.from_bytes(mac[4:], "big"), _TAKE, _DROP),
    ]
    labels = {"arp": len(rows)}
    rows += [
        (_LOAD_WORD, 28, None, None),  # ar$spa
        (_JUMP_EQUAL, host, _TAKE, None),
        (_A_TO_X, 0, None, None),
        (_LOAD_WORD, 38, None, None),  # ar$tpa
        (_JUMP_EQUAL, host, _TAKE, None),
        (_JUMP_EQUAL_X, 0, _TAKE, _DROP),
    ]
    labels[_TAKE] = len(rows)
    labels[_DROP] = len(rows) + 1
    rows += [(_RETURN, _WHOLE, None, None), (_RETURN, 0, None, None)]
    return b"".join(
        struct.pack(
            "=HBBI",
            code,
            labels[then] - at - 1 if then else 0,
            labels[other] - at - 1 if other else 0,
            operand,
        )
        for at, (code, operand, then, other) in enumerate(rows)
    )


class PacketSocket:
    """An open AF_PACKET socket. `fd` is non-blocking and close-on-exec; it is -1 once closed."""

    kind: Final = "packet"
    vnet_header: Final = True
    offloads: Final = True

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.name = name

    def __repr__(self) -> str:
        return f"<PacketSocket {self.name} fd={self.fd}>"

    def close(self) -> None:
        """Close it. Safe to call again."""
        self.fd = -1
        self.socket.close()


def _join_promiscuous(sock: socket.socket, name: str) -> None:
    """Let frames to any MAC address reach the link `name`, for as long as the AF_PACKET socket is open."""
    membership = struct.pack("=iHH8s", socket.if_nametoindex(name), _PACKET_MR_PROMISC, 0, b"")
    sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)


def open_packet(name: str, *, mac: bytes, address: str, promiscuous: bool = True) -> PacketSocket:
    """Open a socket on the link `name` of the caller's namespace, for one host.

    Args:
        mac, address: the host, whose frames are taken and no others.
        promiscuous: the MAC is, or will be, another one than the link's.

    Raises:
        OSError: no such link, or CAP_NET_RAW is missing.
    """
    return _open(name, filter_program(mac, address), _ETH_P_ALL, promiscuous)


def open_arp(name: str, *, address: str) -> PacketSocket:
    """Open a socket that hears what a host has to hear of ARP, and nothing else; every MAC is let in.

    On a port of a bridge it hears nothing: ARP is for the bridge there.

    Raises:
        OSError: no such link, or CAP_NET_RAW is missing.
    """
    return _open(name, filter_program(_NO_MAC, address), _ETHERTYPE_ARP, True)


def _open(name: str, program: bytes, protocol: int, promiscuous: bool) -> PacketSocket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        held = ctypes.create_string_buffer(program, len(program))
        descriptor = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, descriptor)
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        for force, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
            except PermissionError:  # beyond net.core.*mem_max only with CAP_NET_ADMIN
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)
        if promiscuous:
            _join_promiscuous(sock, name)
        sock.bind((name, protocol))
    except BaseException:
        sock.close()
        raise
    return PacketSocket(sock, name)


__all__ = ["PacketSocket", "filter_program", "open_arp", "open_packet"]
