"""TCP header and options.

Source: RFC 9293 §3.1, §3.2; RFC 7323 §2, §3 (window scale, timestamps); RFC 2018 §2, §3 (SACK).

    source port(2) destination port(2) sequence number(4) acknowledgment number(4)
    data offset(4 bits) reserved(4 bits) CWR ECE URG ACK PSH RST SYN FIN
    window(2) checksum(2) urgent pointer(2) [options]

Errors: WireError for a header that does not fit, an option whose length is illegal (RFC 9293 MUST-7).
"""

from typing import Final

from mypy_extensions import i64

from appliance.errors import WireError
from appliance.wire.fields import BytesWriter, put_u16, put_u32, read_u16, read_u32

__all__ = [
    "ACK",
    "CWR",
    "ECE",
    "FIN",
    "HEADER_LENGTH",
    "MAX_WINDOW_SHIFT",
    "PSH",
    "RST",
    "SYN",
    "TIMESTAMPS_PREFIX",
    "URG",
    "Segment",
    "build_options",
    "build_sack_option",
    "parse_into",
]

HEADER_LENGTH: Final = 20

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80

OPTION_EOL: Final = 0
OPTION_NOP: Final = 1
OPTION_MSS: Final = 2
OPTION_WINDOW_SCALE: Final = 3
OPTION_SACK_PERMITTED: Final = 4
OPTION_SACK: Final = 5
OPTION_TIMESTAMPS: Final = 8

MAX_WINDOW_SHIFT: Final = 14  # RFC 7323 §2.3: a larger one counts as 14
NO_OPTION: Final = -1
TIMESTAMPS_PREFIX: Final = 0x0101_080A  # NOP, NOP, kind 8, length 10
_TIMESTAMPS_ONLY_LENGTH: Final = 32


class Segment:
    """One reusable record: `parse_into` fills it for each segment (the RFC's SEG.* variables).

    length counts SYN and FIN (SEG.LEN); the data are frame[data_start:data_end]. mss, window_shift:
    NO_OPTION (-1) when absent. has_options: there are others than timestamps. sack_blocks: left and right
    edges in the order received.
    """

    def __init__(self) -> None:
        self.frame: bytes = b""
        self.source_port: i64 = 0
        self.destination_port: i64 = 0
        self.seq: i64 = 0
        self.ack: i64 = 0
        self.flags: i64 = 0
        self.window: i64 = 0
        self.urgent_pointer: i64 = 0
        self.length: i64 = 0
        self.data_start: i64 = 0
        self.data_end: i64 = 0
        self.mss: i64 = NO_OPTION
        self.window_shift: i64 = NO_OPTION
        self.is_sack_permitted: bool = False
        self.has_timestamps: bool = False
        self.ts_val: i64 = 0
        self.ts_ecr: i64 = 0
        self.sack_blocks: list[tuple[int, int]] = []
        self.has_options: bool = False
        self.is_ce: bool = False  # the datagram was marked "congestion experienced" (RFC 3168); the caller's

    def data(self) -> bytes:
        return self.frame[self.data_start : self.data_end]


def parse_into(segment: Segment, frame: bytes, start: i64, end: i64) -> None:
    """Parse the segment at frame[start:end]; the checksum is the caller's (it needs the addresses).

    Raises WireError.
    """
    if end - start < HEADER_LENGTH or end > len(frame):
        raise WireError("TCP header too short")
    offset_flags = read_u16(frame, start + 12)
    data_start = start + ((offset_flags >> 12) << 2)
    if data_start < start + HEADER_LENGTH or data_start > end:
        raise WireError("TCP data offset does not fit")
    flags = offset_flags & 0xFF
    segment.frame = frame
    segment.source_port = read_u16(frame, start)
    segment.destination_port = read_u16(frame, start + 2)
    segment.seq = read_u32(frame, start + 4)
    segment.ack = read_u32(frame, start + 8)
    segment.flags = flags
    segment.window = read_u16(frame, start + 14)
    segment.urgent_pointer = read_u16(frame, start + 18)
    length = end - data_start
    if flags & SYN:
        length += 1
    if flags & FIN:
        length += 1
    segment.length = length
    segment.data_start = data_start
    segment.data_end = end
    segment.has_timestamps = False
    if segment.has_options:
        _forget_options(segment)
    if data_start > start + HEADER_LENGTH:
        if (
            data_start == start + _TIMESTAMPS_ONLY_LENGTH
            and read_u32(frame, start + HEADER_LENGTH) == TIMESTAMPS_PREFIX
        ):
            # What nearly every segment of a connection with timestamps has (RFC 7323 appendix A).
            segment.has_timestamps = True
            segment.ts_val = read_u32(frame, start + HEADER_LENGTH + 4)
            segment.ts_ecr = read_u32(frame, start + HEADER_LENGTH + 8)
        else:
            _parse_options(segment, frame, start + HEADER_LENGTH, data_start)


def _forget_options(segment: Segment) -> None:
    segment.has_options = False
    segment.mss = NO_OPTION
    segment.window_shift = NO_OPTION
    segment.is_sack_permitted = False
    segment.sack_blocks = []


def _parse_options(segment: Segment, frame: bytes, start: i64, end: i64) -> None:
    segment.has_options = True
    index: i64 = start
    while index < end:
        kind: i64 = frame[index]
        if kind == OPTION_EOL:
            return  # what follows is padding (MUST-69: ignored whatever it holds)
        if kind == OPTION_NOP:
            index += 1
            continue
        if index + 1 >= end:
            raise WireError("TCP option without a length")
        length: i64 = frame[index + 1]
        if length < 2 or index + length > end:
            raise WireError("TCP option with an illegal length")
        if kind == OPTION_MSS:
            if length != 4:
                raise WireError("TCP MSS option with a wrong length")
            # MSS belongs to SYN alone (MUST-65).
            if segment.flags & SYN:
                segment.mss = read_u16(frame, index + 2)
        elif kind == OPTION_WINDOW_SCALE:
            if length != 3:
                raise WireError("TCP window scale option with a wrong length")
            if segment.flags & SYN:
                shift: i64 = frame[index + 2]
                segment.window_shift = min(MAX_WINDOW_SHIFT, shift)
        elif kind == OPTION_SACK_PERMITTED:
            if length != 2:
                raise WireError("TCP SACK-permitted option with a wrong length")
            if segment.flags & SYN:
                segment.is_sack_permitted = True
        elif kind == OPTION_TIMESTAMPS:
            if length != 10:
                raise WireError("TCP timestamps option with a wrong length")
            segment.has_timestamps = True
            segment.ts_val = read_u32(frame, index + 2)
            segment.ts_ecr = read_u32(frame, index + 6)
        elif kind == OPTION_SACK:
            if (length - 2) % 8 != 0 or length == 2:
                raise WireError("TCP SACK option with a wrong length")
            edge = index + 2
            while edge < index + length:
                segment.sack_blocks.append((int(read_u32(frame, edge)), int(read_u32(frame, edge + 4))))
                edge += 8
        # Any other kind is skipped by its length (MUST-6).
        index += length


def build_options(
    mss: i64 = NO_OPTION,
    window_shift: i64 = NO_OPTION,
    is_sack_permitted: bool = False,
    ts_val: i64 = NO_OPTION,
    ts_ecr: i64 = 0,
) -> bytes:
    """The options given, padded with NOP in front of each so that all stay aligned to 4 bytes."""
    writer = BytesWriter()
    if mss >= 0:
        put_u16(writer, (OPTION_MSS << 8) | 4)
        put_u16(writer, mss)
    if window_shift >= 0:
        put_u16(writer, (OPTION_NOP << 8) | OPTION_WINDOW_SCALE)
        put_u16(writer, (3 << 8) | window_shift)
    if is_sack_permitted:
        put_u16(writer, (OPTION_NOP << 8) | OPTION_NOP)
        put_u16(writer, (OPTION_SACK_PERMITTED << 8) | 2)
    if ts_val >= 0:
        put_u16(writer, (OPTION_NOP << 8) | OPTION_NOP)
        put_u16(writer, (OPTION_TIMESTAMPS << 8) | 10)
        put_u32(writer, ts_val)
        put_u32(writer, ts_ecr)
    return writer.getvalue()


def build_sack_option(blocks: list[tuple[int, int]]) -> bytes:
    """A SACK option with up to four blocks (RFC 2018 §3), aligned by two NOPs; b"" for none."""
    if not blocks:
        return b""
    writer = BytesWriter()
    count: i64 = min(len(blocks), 4)
    put_u16(writer, (OPTION_NOP << 8) | OPTION_NOP)
    put_u16(writer, (OPTION_SACK << 8) | (2 + 8 * count))
    for left, right in blocks[:4]:
        put_u32(writer, left)
        put_u32(writer, right)
    return writer.getvalue()
