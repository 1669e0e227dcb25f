"""A bare end of the link: raw datagrams in, raw datagrams out, in virtual time.

    wire = Wire()
    wire.datagram(icmp(8, 0, 7, b"x"), protocol=1)
    (reply,) = wire.take()

`peer.Peer` speaks TCP; this one speaks IPv4 below it, fragments and wrong headers included. What the stack sends is
checked on its way in: lengths, header checksum, nothing but IPv4 and ARP.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.support import packets as pk
from tests.support.packets import BROADCAST_MAC, PEER, PEER_MAC, STACK, STACK_MAC, Packet
from tests.support.peer import S, make_interface

ICMP, TCP, UDP = 1, 6, 17
ECHO_REPLY, UNREACHABLE, SOURCE_QUENCH, REDIRECT, ECHO, TIME_EXCEEDED, PARAMETER_PROBLEM = (
    0,
    3,
    4,
    5,
    8,
    11,
    12,
)
MORE = 0x2000
DONT = 0x4000


@dataclass
class Datagram:
    """One IPv4 datagram that the stack sent. word: flags and fragment offset as they stand in the header."""

    at: int
    destination_mac: bytes
    tos: int
    identification: int
    word: int
    ttl: int
    protocol: int
    source: int
    destination: int
    payload: bytes
    raw: bytes

    @property
    def is_fragment(self) -> bool:
        return bool(self.word & 0x3FFF)

    @property
    def icmp(self) -> tuple[int, int]:
        """ICMP type and code."""
        assert self.protocol == ICMP
        assert pk.internet_checksum(self.payload) == 0, "ICMP checksum"
        return self.payload[0], self.payload[1]

    @property
    def rest(self) -> int:
        return int.from_bytes(self.payload[4:8], "big")

    @property
    def data(self) -> bytes:
        """What stands behind the ICMP header."""
        return self.payload[8:]


def datagram(payload: bytes, *, protocol: int = ICMP, tos: int = 0, **more: Any) -> bytes:
    """`packets.ipv4` with a TOS byte."""
    whole = pk.ipv4(payload, protocol, **more)
    if tos == 0:
        return whole
    length = (whole[0] & 15) * 4
    header = whole[:1] + bytes((tos,)) + whole[2:10] + b"\0\0" + whole[12:length]
    return header[:10] + struct.pack("!H", pk.internet_checksum(header)) + header[12:] + whole[length:]


def fragments(payload: bytes, *cuts: int, **more: Any) -> list[bytes]:
    """The payload cut at these offsets (multiples of 8), as datagrams in order."""
    edges = [0, *cuts, len(payload)]
    return [
        datagram(payload[start:end], fragment=(start >> 3) | (MORE if end < len(payload) else 0), **more)
        for start, end in pairwise(edges)
    ]


def udp(data: bytes = b"", *, source_port: int = 4000, destination_port: int = 9, checksum: int = 0) -> bytes:
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(data), checksum) + data


class Wire:
    """The link with everybody on it but the stack. Keyword arguments go to InterfaceConfig."""

    def __init__(self, *, now: int = 1_000 * S, vnet_header: bool = True, **settings: Any) -> None:
        self.vnet = vnet_header
        self.now = now
        self.interface = make_interface(vnet_header=vnet_header, **settings)
        self.sent: list[Datagram] = []
        self.arps: list[Packet] = []

    def frame(self, frame: bytes, header: bytes | None = None) -> None:
        """Hand an Ethernet frame to the stack; what it sends waits in `sent` and `arps`."""
        if self.vnet:
            frame = (pk.vnet_header() if header is None else header) + frame
        self.interface.receive_frame(frame, self.now)
        self.flush()

    def raw(self, whole: bytes, *, source_mac: bytes = PEER_MAC, destination_mac: bytes = STACK_MAC) -> None:
        """A datagram as it is."""
        self.frame(pk.ethernet(whole, source=source_mac, destination=destination_mac))

    def datagram(self, payload: bytes, protocol: int, **more: Any) -> None:
        self.raw(datagram(payload, protocol=protocol, **more))

    def arp(
        self, op: int, sha: bytes, spa: int, tpa: int, *, tha: bytes = bytes(6), to: bytes = BROADCAST_MAC
    ) -> None:
        self.frame(pk.ethernet(pk.arp(op, sha, spa, tha, tpa), 0x0806, source=sha, destination=to))

    def echo(self, data: bytes, *, rest: int = 0x1234_0001, **more: Any) -> None:
        self.datagram(pk.icmp(ECHO, 0, rest, data), ICMP, **more)

    def flush(self) -> None:
        for frame in self.interface.frames_to_send(self.now):
            body = frame[pk.VNET_LENGTH :] if self.vnet else frame
            if body[12:14] == b"\x08\x06":
                self.arps.append(pk.parse(frame, self.vnet, self.now))
                continue
            assert body[12:14] == b"\x08\x00"
            assert body[6:12] == STACK_MAC
            self.sent.append(self._parse(body))
        self.interface.check_invariants()

    def _parse(self, body: bytes) -> Datagram:
        packet = body[14:]
        first, tos, length, identification, word, ttl, protocol = struct.unpack_from("!BBHHHBB", packet)
        source, target = struct.unpack_from("!II", packet, 12)
        assert first == 0x45
        assert length == len(packet)
        assert pk.internet_checksum(packet[:20]) == 0, "IPv4 header checksum"
        assert source == STACK
        assert ttl >= 1
        return Datagram(
            self.now, body[:6], tos, identification, word, ttl, protocol, source, target, packet[20:], packet
        )

    def advance(self, microseconds: int) -> None:
        """Let time pass, deadline by deadline."""
        target = self.now + microseconds
        for _ in range(100_000):
            deadline = self.interface.next_deadline()
            if deadline > target:
                break
            self.now = max(self.now, deadline)
            self.interface.handle_deadline(self.now)
            self.flush()
        else:
            raise AssertionError("time stands still")
        self.now = target

    def take(self) -> list[Datagram]:
        """What was sent since the last time."""
        sent, self.sent = self.sent, []
        return sent

    def take_arps(self) -> list[Packet]:
        arps, self.arps = self.arps, []
        return arps

    def counter(self, name: str) -> int:
        return self.interface.counters.as_dict()[name]

    def is_silent(self) -> bool:
        """Nothing was sent, and nothing is waiting to be."""
        return not self.sent and not self.arps

    def answers_echo(self) -> bool:
        """Whether the stack still works."""
        before = len(self.sent)
        self.echo(b"alive?", rest=0x7777_0001)
        return len(self.sent) == before + 1 and self.sent.pop().rest == 0x7777_0001


def whole(pieces: list[Datagram]) -> bytes:
    """The payload of fragments that the stack sent, which must make one datagram exactly."""
    (identification,) = {piece.identification for piece in pieces}
    (_,) = {(piece.source, piece.destination, piece.protocol) for piece in pieces}
    assert identification is not None
    pieces = sorted(pieces, key=lambda piece: piece.word & 0x1FFF)
    payload = b""
    for piece in pieces:
        assert (piece.word & 0x1FFF) * 8 == len(payload)
        assert bool(piece.word & MORE) == (piece is not pieces[-1])
        assert not piece.word & DONT
        payload += piece.payload
    return payload


__all__ = [
    "DONT",
    "ECHO",
    "ECHO_REPLY",
    "ICMP",
    "MORE",
    "PARAMETER_PROBLEM",
    "PEER",
    "REDIRECT",
    "SOURCE_QUENCH",
    "TCP",
    "TIME_EXCEEDED",
    "UDP",
    "UNREACHABLE",
    "Datagram",
    "Wire",
    "datagram",
    "fragments",
    "udp",
    "whole",
]
