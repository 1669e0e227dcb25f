"""The Internet checksum.

Source: RFC 1071; RFC 9293 §3.1 (pseudo-header). A checksum field holds the one's complement of the
one's complement sum; data with a right checksum in it sums to 0xFFFF.
"""

from typing import Final

from mypy_extensions import i64

from appliance.wire.fields import sum_words

__all__ = ["PROTOCOL_ICMP", "PROTOCOL_TCP", "PROTOCOL_UDP", "checksum", "fold", "pseudo_header_sum"]

PROTOCOL_ICMP: Final = 1
PROTOCOL_TCP: Final = 6
PROTOCOL_UDP: Final = 17


def fold(total: i64) -> i64:
    """Fold a sum of 16-bit words to 16 bits with end-around carry."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes, start: i64, end: i64, initial: i64 = 0) -> i64:
    """The checksum field for data[start:end], whose field holds zero; `initial` is a sum to add."""
    return fold(sum_words(data, start, end) + initial) ^ 0xFFFF


def pseudo_header_sum(source: i64, destination: i64, protocol: i64, length: i64) -> i64:
    """Unfolded sum of the TCP or UDP pseudo-header over IPv4."""
    return (
        (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF) + protocol + length
    )
