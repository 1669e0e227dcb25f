"""Packets by hand, so that any field can be wrong: the tests' own code, independent of `appliance.wire`.

Checksums are right unless a test says otherwise, so that a frame is refused for the one reason it is about.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from tests.support.packets import internet_checksum

SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
FIN: Final = 0x01


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    return destination + source + struct.pack("!H", ethertype) + payload


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    version: int = 4,
    header_words: int | None = None,
    total_length: int | None = None,
    fragment: int = 0x4000,
    ttl: int = 64,
    options: bytes = b"",
    header_checksum: int | None = None,
) -> bytes:
    words = 5 + len(options) // 4 if header_words is None else header_words
    length = 20 + len(options) + len(payload) if total_length is None else total_length
    fixed = struct.pack("!BBHHHBB", version << 4 | words, 0, length, 1, fragment, ttl, protocol)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    right = internet_checksum(fixed + b"\0\0" + addresses + options)
    value = right if header_checksum is None else header_checksum
    return fixed + struct.pack("!H", value) + addresses + options + payload


def tcp(
    source: str,
    destination: str,
    source_port: int,
    destination_port: int,
    flags: int,
    *,
    seq: int = 1000,
    ack: int = 0,
    window: int = 65535,
    options: bytes = b"",
    payload: bytes = b"",
    data_offset: int | None = None,
    cut_to: int | None = None,
    checksum_error: int = 0,
) -> bytes:
    """A segment. `cut_to` keeps that many bytes of it and checksums those; options are padded to 4 bytes."""
    options += b"\0" * (-len(options) % 4)
    words = 5 + len(options) // 4 if data_offset is None else data_offset
    segment = struct.pack(
        "!HHIIBBHHH", source_port, destination_port, seq, ack, words << 4, flags, window, 0, 0
    )
    segment = (segment + options + payload)[:cut_to]
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!HH", 6, len(segment))
    if len(segment) >= 18:
        value = (internet_checksum(pseudo + segment) + checksum_error) & 0xFFFF
        segment = segment[:16] + struct.pack("!H", value) + segment[18:]
    return segment


def icmp(kind: int, code: int, rest: bytes, payload: bytes = b"", *, checksum_error: int = 0) -> bytes:
    value = internet_checksum(bytes((kind, code, 0, 0)) + rest + payload) ^ checksum_error
    return struct.pack("!BBH", kind, code, value) + rest + payload
