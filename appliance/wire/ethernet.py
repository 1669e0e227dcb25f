"""Ethernet II header: destination (6), source (6), EtherType (2). Source: IEEE 802.3, RFC 894."""

from typing import Final

from mypy_extensions import i64

from appliance.errors import WireError
from appliance.wire.fields import BytesWriter, put_u16, read_u16

__all__ = [
    "BROADCAST",
    "ETHERTYPE_ARP",
    "ETHERTYPE_IPV4",
    "HEADER_LENGTH",
    "ethertype_of",
    "format_mac",
    "header",
    "parse_mac",
]

HEADER_LENGTH: Final = 14
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
BROADCAST: Final = b"\xff\xff\xff\xff\xff\xff"


def ethertype_of(frame: bytes, start: i64) -> i64:
    """The EtherType of the frame that begins at `start`. Raises WireError for a runt."""
    if len(frame) - start < HEADER_LENGTH:
        raise WireError("frame shorter than an Ethernet header")
    return read_u16(frame, start + 12)


def header(destination: bytes, source: bytes, ethertype: i64) -> bytes:
    writer = BytesWriter()
    writer.write(destination)
    writer.write(source)
    put_u16(writer, ethertype)
    return writer.getvalue()


def format_mac(mac: bytes) -> str:
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    """`"02:00:5e:10:00:02"` to 6 bytes. Raises ValueError."""
    mac = bytes.fromhex(text.replace(":", ""))
    if len(mac) != 6:
        raise ValueError("a MAC address has 6 bytes")
    return mac
