"""Packets for tests, built and read without the code under test.

Everything here is plain `struct`, so that a mistake in `appliance.wire` cannot hide behind the same mistake
in the test. Flags are written as tcpdump does: `"S"`, `"S."`, `"."`, `"P."`, `"F."`, `"R"`; `"-"` is none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

FLAG_BITS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, ".": 0x10, "U": 0x20, "E": 0x40, "W": 0x80}

STACK_MAC = bytes.fromhex("02005e100002")
PEER_MAC = bytes.fromhex("02005e100001")
BROADCAST_MAC = b"\xff" * 6
VNET_LENGTH = 10


def ip(text: str) -> int:
    return int.from_bytes(bytes(int(part) for part in text.split(".")), "big")


STACK = ip("10.77.0.2")
PEER = ip("10.77.0.1")


def flag_bits(flags: str) -> int:
    bits = 0
    for letter in flags.replace("-", ""):
        bits |= FLAG_BITS[letter]
    return bits


def flag_text(bits: int) -> str:
    return "".join(letter for letter in "FSRPUEW." if bits & FLAG_BITS[letter]) or "-"


def internet_checksum(data: bytes) -> int:
    """RFC 1071, the slow way."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo_header(source: int, destination: int, protocol: int, length: int) -> bytes:
    return struct.pack("!IIBBH", source, destination, 0, protocol, length)


# -- building ------------------------------------------------------------------------------------


def vnet_header(
    flags: int = 0, gso_type: int = 0, header: int = 0, size: int = 0, start: int = 0, offset: int = 0
) -> bytes:
    return struct.pack("<BBHHHH", flags, gso_type, header, size, start, offset)


def ethernet(
    payload: bytes, ethertype: int = 0x0800, *, source: bytes = PEER_MAC, destination: bytes = STACK_MAC
) -> bytes:
    return destination + source + struct.pack("!H", ethertype) + payload


def arp(op: int, sha: bytes, spa: int, tha: bytes, tpa: int) -> bytes:
    return struct.pack("!HHBBH6sI6sI", 1, 0x0800, 6, 4, op, sha, spa, tha, tpa)


def ipv4(
    payload: bytes,
    protocol: int = 6,
    *,
    source: int = PEER,
    destination: int = STACK,
    ttl: int = 64,
    tos: int = 0,
    options: bytes = b"",
    identification: int = 1,
    fragment: int = 0,
    version: int = 4,
    ihl: int | None = None,
    total_length: int | None = None,
    checksum: int | None = None,
) -> bytes:
    """A datagram; what is given explicitly is used even when it is wrong."""
    if ihl is None:
        ihl = 5 + len(options) // 4
    if total_length is None:
        total_length = 20 + len(options) + len(payload)

    def header(value: int) -> bytes:
        return (
            struct.pack(
                "!BBHHHBBHII",
                (version << 4) | ihl,
                tos,
                total_length,
                identification,
                fragment,
                ttl,
                protocol,
                value,
                source,
                destination,
            )
            + options
        )

    return header(internet_checksum(header(0)) if checksum is None else checksum) + payload


def tcp(
    flags: str,
    *,
    seq: int,
    ack: int = 0,
    source_port: int = 40000,
    destination_port: int = 6379,
    window: int = 65535,
    options: bytes = b"",
    data: bytes = b"",
    urgent: int = 0,
    reserved: int = 0,
    data_offset: int | None = None,
    source: int = PEER,
    destination: int = STACK,
    partial: bool = False,
    checksum_error: int = 0,
) -> bytes:
    """A segment. `partial`: the checksum field holds the pseudo-header's sum only. NOPs pad the options."""
    options += b"\x01" * (-len(options) % 4)
    if data_offset is None:
        data_offset = 5 + len(options) // 4

    def segment(value: int) -> bytes:
        return (
            struct.pack(
                "!HHIIHHHH",
                source_port,
                destination_port,
                seq & 0xFFFF_FFFF,
                ack & 0xFFFF_FFFF,
                (data_offset << 12) | (reserved << 8) | flag_bits(flags),
                window,
                value,
                urgent,
            )
            + options
            + data
        )

    plain = segment(0)
    pseudo = pseudo_header(source, destination, 6, len(plain))
    if partial:
        return segment(internet_checksum(pseudo) ^ 0xFFFF)
    return segment((internet_checksum(pseudo + plain) + checksum_error) & 0xFFFF)


def icmp(kind: int, code: int, rest: int = 0, data: bytes = b"", checksum_error: int = 0) -> bytes:
    def message(value: int) -> bytes:
        return struct.pack("!BBHI", kind, code, value, rest) + data

    return message((internet_checksum(message(0)) + checksum_error) & 0xFFFF)


def mss_option(mss: int) -> bytes:
    return struct.pack("!BBH", 2, 4, mss)


def window_scale_option(shift: int) -> bytes:
    return bytes((3, 3, shift))


SACK_PERMITTED = b"\x04\x02"
NOP = b"\x01"


def timestamps_option(value: int, echo: int) -> bytes:
    return struct.pack("!BBII", 8, 10, value, echo)


def sack_option(*blocks: tuple[int, int]) -> bytes:
    return bytes((5, 2 + 8 * len(blocks))) + b"".join(struct.pack("!II", *block) for block in blocks)


# -- reading -------------------------------------------------------------------------------------


@dataclass
class Packet:
    """One frame that the stack sent, taken apart. `kind` is "tcp", "icmp" or "arp"; `at` the virtual time."""

    kind: str
    at: int
    destination_mac: bytes
    source_mac: bytes
    source: int = 0
    destination: int = 0
    ttl: int = 0
    tos: int = 0
    identification: int = 0
    dont_fragment: bool = False
    # TCP
    source_port: int = 0
    destination_port: int = 0
    seq: int = 0
    ack: int = 0
    bits: int = 0
    window: int = 0
    urgent: int = 0
    options: dict[int, bytes] = field(default_factory=dict)
    data: bytes = b""
    gso_size: int = 0
    is_checksum_partial: bool = False
    # ICMP
    icmp_type: int = 0
    icmp_code: int = 0
    rest: int = 0
    # ARP
    op: int = 0
    raw: bytes = b""  # the Ethernet frame
    sha: bytes = b""
    tha: bytes = b""

    @property
    def flags(self) -> str:
        """The flags without PSH, in tcpdump's order and spelling."""
        return flag_text(self.bits & ~FLAG_BITS["P"])

    @property
    def has_push(self) -> bool:
        return bool(self.bits & FLAG_BITS["P"])

    @property
    def mss(self) -> int | None:
        return int.from_bytes(self.options[2], "big") if 2 in self.options else None

    @property
    def window_shift(self) -> int | None:
        return self.options[3][0] if 3 in self.options else None

    @property
    def segment_length(self) -> int:
        """SEG.LEN: SYN and FIN count."""
        return len(self.data) + bool(self.bits & FLAG_BITS["S"]) + bool(self.bits & FLAG_BITS["F"])


def parse(frame: bytes, vnet: bool = True, at: int = 0) -> Packet:
    """Take a frame of the stack apart and assert everything that must hold for any frame it sends."""
    gso_type = gso_size = vnet_flags = csum_start = csum_offset = header_length = 0
    if vnet:
        vnet_flags, gso_type, header_length, gso_size, csum_start, csum_offset = struct.unpack_from(
            "<BBHHHH", frame
        )
        frame = frame[VNET_LENGTH:]
    packet = Packet("", at, frame[:6], frame[6:12], raw=frame)
    (ethertype,) = struct.unpack_from("!H", frame, 12)
    body = frame[14:]
    if ethertype == 0x0806:
        packet.kind = "arp"
        hrd, pro, hln, pln, packet.op, packet.sha, packet.source, packet.tha, packet.destination = (
            struct.unpack("!HHBBH6sI6sI", body)
        )
        assert (hrd, pro, hln, pln) == (1, 0x0800, 6, 4)
        return packet
    assert ethertype == 0x0800
    version_ihl, packet.tos, total_length, packet.identification, fragment, packet.ttl, protocol = (
        struct.unpack_from("!BBHHHBB", body)
    )
    packet.source, packet.destination = struct.unpack_from("!II", body, 12)
    assert version_ihl == 0x45
    assert total_length == len(body), "total length is not the frame's"
    assert internet_checksum(body[:20]) == 0, "IPv4 header checksum"
    assert fragment in (0, 0x4000), "a fragment"
    packet.dont_fragment = fragment == 0x4000
    payload = body[20:]
    if protocol == 1:
        packet.kind = "icmp"
        assert internet_checksum(payload) == 0, "ICMP checksum"
        packet.icmp_type, packet.icmp_code, _, packet.rest = struct.unpack_from("!BBHI", payload)
        packet.data = payload[8:]
        return packet
    assert protocol == 6
    packet.kind = "tcp"
    pseudo = pseudo_header(packet.source, packet.destination, 6, len(payload))
    (checksum,) = struct.unpack_from("!H", payload, 16)
    if vnet_flags & 1:
        packet.is_checksum_partial = True
        assert (csum_start, csum_offset) == (34, 16)
        assert checksum == internet_checksum(pseudo) ^ 0xFFFF, "partial checksum"
    else:
        assert internet_checksum(pseudo + payload) == 0, "TCP checksum"
    (
        packet.source_port,
        packet.destination_port,
        packet.seq,
        packet.ack,
        offset_flags,
        packet.window,
        _,
        packet.urgent,
    ) = struct.unpack_from("!HHIIHHHH", payload)
    assert offset_flags & 0x0F00 == 0, "reserved bits"
    packet.bits = offset_flags & 0xFF
    header = (offset_flags >> 12) * 4
    packet.options = parse_options(payload[20:header])
    packet.data = payload[header:]
    if gso_type:
        assert gso_type == 1, "not GSO_TCPV4"
        assert header_length == 14 + 20 + header
        assert vnet_flags & 1, "GSO needs a partial checksum"
        assert 0 < gso_size < len(packet.data)
        packet.gso_size = gso_size
    return packet


def parse_options(options: bytes) -> dict[int, bytes]:
    """kind -> value. Asserts that the walk ends exactly at the end, and that EOL is followed by zeros."""
    found: dict[int, bytes] = {}
    index = 0
    while index < len(options):
        kind = options[index]
        if kind == 0:
            assert not any(options[index:]), "junk behind EOL"
            return found
        if kind == 1:
            index += 1
            continue
        length = options[index + 1]
        assert length >= 2
        assert index + length <= len(options)
        assert kind not in found, "an option twice"
        found[kind] = options[index + 2 : index + length]
        index += length
    return found
