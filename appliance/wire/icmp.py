"""ICMP messages that a host handles. Source: RFC 792; RFC 1122 §3.2.2.

type(1) code(1) checksum(2) rest-of-header(4) data
"""

from typing import Final

from mypy_extensions import i64

from appliance.errors import WireError
from appliance.wire.checksum import checksum, fold
from appliance.wire.fields import BytesWriter, put_u16, put_u32, read_u16, read_u32, sum_words

__all__ = [
    "CODE_FRAGMENTATION_NEEDED",
    "CODE_PORT_UNREACHABLE",
    "CODE_PROTOCOL_UNREACHABLE",
    "CODE_REASSEMBLY_TIME_EXCEEDED",
    "HEADER_LENGTH",
    "TYPE_DESTINATION_UNREACHABLE",
    "TYPE_ECHO",
    "TYPE_ECHO_REPLY",
    "TYPE_PARAMETER_PROBLEM",
    "TYPE_REDIRECT",
    "TYPE_SOURCE_QUENCH",
    "TYPE_TIME_EXCEEDED",
    "IcmpMessage",
    "build",
    "parse",
]

HEADER_LENGTH: Final = 8
TYPE_ECHO_REPLY: Final = 0
TYPE_DESTINATION_UNREACHABLE: Final = 3
TYPE_SOURCE_QUENCH: Final = 4
TYPE_REDIRECT: Final = 5
TYPE_ECHO: Final = 8
TYPE_TIME_EXCEEDED: Final = 11
TYPE_PARAMETER_PROBLEM: Final = 12
CODE_PROTOCOL_UNREACHABLE: Final = 2
CODE_PORT_UNREACHABLE: Final = 3
CODE_FRAGMENTATION_NEEDED: Final = 4  # and DF set; the MTU is in the low half of `rest` (RFC 1191 §4)
CODE_REASSEMBLY_TIME_EXCEEDED: Final = 1


class IcmpMessage:
    """type, code; rest: the 32 bits behind the checksum; data: what follows."""

    def __init__(self, type: i64, code: i64, rest: i64, data: bytes) -> None:  # noqa: A002  RFC 792's word
        self.type = type
        self.code = code
        self.rest = rest
        self.data = data


def parse(frame: bytes, start: i64, end: i64) -> IcmpMessage:
    """Parse frame[start:end]. Raises WireError: short, bad checksum."""
    if end - start < HEADER_LENGTH or end > len(frame):
        raise WireError("ICMP message too short")
    if fold(sum_words(frame, start, end)) != 0xFFFF:
        raise WireError("ICMP checksum")
    type_code = read_u16(frame, start)
    return IcmpMessage(type_code >> 8, type_code & 0xFF, read_u32(frame, start + 4), frame[start + 8 : end])


def build(type: i64, code: i64, rest: i64, data: bytes) -> bytes:  # noqa: A002  RFC 792's word
    type_code = (type << 8) | code
    total = type_code + (rest >> 16) + (rest & 0xFFFF)
    writer = BytesWriter()
    put_u16(writer, type_code)
    put_u16(writer, checksum(data, 0, len(data), total))
    put_u32(writer, rest)
    writer.write(data)
    return writer.getvalue()
