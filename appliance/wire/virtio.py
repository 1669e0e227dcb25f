"""The virtio-net header that stands before each frame on a TAP opened with IFF_VNET_HDR.

Source: virtio 1.2 §5.1.6; Linux include/uapi/linux/virtio_net.h (legacy layout, 10 bytes, little endian).

    flags(1) gso_type(1) hdr_len(2) gso_size(2) csum_start(2) csum_offset(2)

csum_start counts from the first byte of the Ethernet header; with NEEDS_CSUM the TCP checksum field
holds the folded pseudo-header sum and whoever puts the frame on a real wire completes it.
"""

from typing import Final

from mypy_extensions import i64

from appliance.errors import WireError
from appliance.wire.checksum import fold
from appliance.wire.fields import BytesWriter, put_u16_le, read_u16_le, sum_words

__all__ = [
    "FLAG_DATA_VALID",
    "FLAG_NEEDS_CSUM",
    "GSO_ECN",
    "GSO_NONE",
    "GSO_TCPV4",
    "HEADER_LENGTH",
    "PLAIN",
    "build",
    "complete_checksum",
]

HEADER_LENGTH: Final = 10
FLAG_NEEDS_CSUM: Final = 1
FLAG_DATA_VALID: Final = 2
GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_ECN: Final = 0x80  # CWR is set: only the first segment of the cut may carry it
# What stands before a frame that is complete as it is.
PLAIN: Final = b"\0\0\0\0\0\0\0\0\0\0"


def build(
    flags: i64, gso_type: i64, header_length: i64, gso_size: i64, csum_start: i64, csum_offset: i64
) -> bytes:
    writer = BytesWriter()
    writer.append(int(flags))
    writer.append(int(gso_type))
    put_u16_le(writer, header_length)
    put_u16_le(writer, gso_size)
    put_u16_le(writer, csum_start)
    put_u16_le(writer, csum_offset)
    return writer.getvalue()


def complete_checksum(frame: bytes) -> bytes:
    """The Ethernet frame behind the virtio-net header, with a partial checksum filled in.

    For captures: what a real wire would carry. Raises WireError when the header does not fit the frame.
    """
    if len(frame) < HEADER_LENGTH:
        raise WireError("frame shorter than a virtio-net header")
    body = frame[HEADER_LENGTH:]
    if not frame[0] & FLAG_NEEDS_CSUM:
        return body
    start = read_u16_le(frame, 6)
    field = start + read_u16_le(frame, 8)
    length: i64 = len(body)
    if field + 2 > length:
        raise WireError("virtio-net checksum offsets lie outside the frame")
    # The field already holds the pseudo-header's share of the sum, so summing over it includes that.
    value = fold(sum_words(body, start, length)) ^ 0xFFFF
    writer = BytesWriter()
    writer.write(body[:field])
    writer.append(int(value >> 8))
    writer.append(int(value & 0xFF))
    writer.write(body[field + 2 :])
    return writer.getvalue()
