"""ARP for IPv4 over Ethernet. Source: RFC 826; field names are the RFC's.

hrd(2)=1 pro(2)=0x0800 hln(1)=6 pln(1)=4 op(2) sha(6) spa(4) tha(6) tpa(4)    28 bytes
"""

from typing import Final

from mypy_extensions import i64

from appliance.errors import WireError
from appliance.wire.ethernet import ETHERTYPE_IPV4
from appliance.wire.fields import BytesWriter, put_u16, put_u32, read_u16, read_u32

__all__ = ["LENGTH", "OP_REPLY", "OP_REQUEST", "ArpPacket", "build", "parse"]

LENGTH: Final = 28
OP_REQUEST: Final = 1
OP_REPLY: Final = 2
_HRD_ETHERNET: Final = 1


class ArpPacket:
    """op: 1 request, 2 reply; sha, tha: 6 bytes; spa, tpa: IPv4 addresses as ints."""

    def __init__(self, op: i64, sha: bytes, spa: i64, tha: bytes, tpa: i64) -> None:
        self.op = op
        self.sha = sha
        self.spa = spa
        self.tha = tha
        self.tpa = tpa


def parse(frame: bytes, start: i64) -> ArpPacket:
    """Parse the ARP packet at `start`. Raises WireError when short or not IPv4 over Ethernet."""
    if len(frame) - start < LENGTH:
        raise WireError("ARP packet too short")
    if read_u16(frame, start) != _HRD_ETHERNET or read_u16(frame, start + 2) != ETHERTYPE_IPV4:
        raise WireError("ARP not for IPv4 over Ethernet")
    if read_u16(frame, start + 4) != 0x0604:
        raise WireError("ARP with odd address lengths")
    op = read_u16(frame, start + 6)
    if op != OP_REQUEST and op != OP_REPLY:
        raise WireError("ARP with unknown operation")
    return ArpPacket(
        op,
        frame[start + 8 : start + 14],
        read_u32(frame, start + 14),
        frame[start + 18 : start + 24],
        read_u32(frame, start + 24),
    )


def build(op: i64, sha: bytes, spa: i64, tha: bytes, tpa: i64) -> bytes:
    writer = BytesWriter()
    put_u16(writer, _HRD_ETHERNET)
    put_u16(writer, ETHERTYPE_IPV4)
    put_u16(writer, 0x0604)
    put_u16(writer, op)
    writer.write(sha)
    put_u32(writer, spa)
    writer.write(tha)
    put_u32(writer, tpa)
    return writer.getvalue()
