"""IPv4 header. Source: RFC 791 §3.1.

version/ihl(1) tos(1) total length(2) identification(2) flags/fragment(2)
ttl(1) protocol(1) header checksum(2) source(4) destination(4) [options]
"""

from typing import Final

from mypy_extensions import i64

from appliance.errors import WireError
from appliance.wire.checksum import fold
from appliance.wire.fields import BytesWriter, put_u16, put_u32, read_u16, read_u32, sum_words

__all__ = [
    "DONT_FRAGMENT",
    "ECN_CE",
    "ECT_0",
    "HEADER_LENGTH",
    "MORE_FRAGMENTS",
    "Ipv4Header",
    "build_header",
    "format_address",
    "parse_address",
    "parse_into",
]

HEADER_LENGTH: Final = 20
DONT_FRAGMENT: Final = 0x4000
ECT_0: Final = 0b10  # RFC 3168 §5, the low bits of the TOS byte
ECN_CE: Final = 0b11
MORE_FRAGMENTS: Final = 0x2000
_MORE_FRAGMENTS_AND_OFFSET: Final = 0x3FFF


class Ipv4Header:
    """One reusable record: `parse_into` fills it for each datagram.

    payload_start, payload_end: offsets into the frame; what lies behind payload_end is link padding.
    """

    def __init__(self) -> None:
        self.start: i64 = 0
        self.tos: i64 = 0
        self.identification: i64 = 0
        self.is_fragment: bool = False
        self.ttl: i64 = 0
        self.protocol: i64 = 0
        self.source: i64 = 0
        self.destination: i64 = 0
        self.has_options: bool = False
        self.payload_start: i64 = 0
        self.payload_end: i64 = 0


def parse_into(header: Ipv4Header, frame: bytes, start: i64) -> None:
    """Parse and check the header at `start`.

    Raises WireError: short, not version 4, lengths that do not fit, bad checksum.
    """
    length: i64 = len(frame)
    if length - start < HEADER_LENGTH:
        raise WireError("IPv4 header too short")
    first = read_u16(frame, start)
    if first >> 12 != 4:
        raise WireError("IP version is not 4")
    header_length = ((first >> 8) & 0x0F) * 4
    total_length = read_u16(frame, start + 2)
    if header_length < HEADER_LENGTH or total_length < header_length or start + total_length > length:
        raise WireError("IPv4 lengths do not fit")
    if fold(sum_words(frame, start, start + header_length)) != 0xFFFF:
        raise WireError("IPv4 header checksum")
    header.start = start
    header.tos = first & 0xFF
    header.identification = read_u16(frame, start + 4)
    header.is_fragment = read_u16(frame, start + 6) & _MORE_FRAGMENTS_AND_OFFSET != 0
    ttl_protocol = read_u16(frame, start + 8)
    header.ttl = ttl_protocol >> 8
    header.protocol = ttl_protocol & 0xFF
    header.source = read_u32(frame, start + 12)
    header.destination = read_u32(frame, start + 16)
    header.has_options = header_length > HEADER_LENGTH
    header.payload_start = start + header_length
    header.payload_end = start + total_length


def build_header(
    source: i64,
    destination: i64,
    protocol: i64,
    payload_length: i64,
    identification: i64,
    ttl: i64,
    flags: i64 = 0,
    tos: i64 = 0,
) -> bytes:
    """A 20-byte header with its checksum. `flags` is the flags/fragment word."""
    total_length = HEADER_LENGTH + payload_length
    total = (
        (0x4500 | tos)
        + total_length
        + identification
        + flags
        + ((ttl << 8) | protocol)
        + (source >> 16)
        + (source & 0xFFFF)
        + (destination >> 16)
        + (destination & 0xFFFF)
    )
    writer = BytesWriter()
    put_u16(writer, 0x4500 | tos)
    put_u16(writer, total_length)
    put_u16(writer, identification)
    put_u16(writer, flags)
    put_u16(writer, (ttl << 8) | protocol)
    put_u16(writer, fold(total) ^ 0xFFFF)
    put_u32(writer, source)
    put_u32(writer, destination)
    return writer.getvalue()


def format_address(address: i64) -> str:
    return f"{address >> 24 & 0xFF}.{address >> 16 & 0xFF}.{address >> 8 & 0xFF}.{address & 0xFF}"


def parse_address(text: str) -> i64:
    """`"10.77.0.2"` to an int. Raises ValueError."""
    parts = text.split(".")
    if len(parts) != 4:
        raise ValueError("an IPv4 address has four parts")
    address: i64 = 0
    for part in parts:
        if not part.isdecimal() or not part.isascii() or len(part) > 3 or int(part) > 255:
            raise ValueError("each part of an IPv4 address is a number from 0 to 255")
        address = address << 8 | int(part)
    return address
