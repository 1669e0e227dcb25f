"""IPv4 options of datagrams to us: walked, for the most part ignored.

Source: RFC 791 §3.1; RFC 1122 §3.2.1.8 (MUST ignore what is not known), §3.2.2.5 (Parameter Problem);
        RFC 7126 §4.3, §4.4 (datagrams with a source route are dropped).

Nothing is taken from an option: Record Route and Timestamp are not filled in, an echo's are not returned.
"""

from typing import Final

from mypy_extensions import i64

__all__ = ["ACCEPTABLE", "SOURCE_ROUTED", "check_options"]

# Results of check_options that are no offset: an offset of an option is at least 20.
ACCEPTABLE: Final = 0
SOURCE_ROUTED: Final = 1

_END_OF_OPTIONS: Final = 0
_NO_OPERATION: Final = 1
_LOOSE_SOURCE_ROUTE: Final = 131
_STRICT_SOURCE_ROUTE: Final = 137


def check_options(frame: bytes, header_start: i64, start: i64, end: i64) -> i64:
    """Walk the options frame[start:end] of the header that begins at header_start.

    Returns ACCEPTABLE, SOURCE_ROUTED, or the offset into the header of the byte that is wrong: the pointer
    of a Parameter Problem.
    """
    index = start
    while index < end:
        kind: i64 = frame[index]
        if kind == _END_OF_OPTIONS:
            return ACCEPTABLE
        if kind == _NO_OPERATION:
            index += 1
            continue
        if kind in (_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE):
            return SOURCE_ROUTED
        if index + 1 >= end:
            return index - header_start
        length: i64 = frame[index + 1]
        if length < 2 or index + length > end:
            return index + 1 - header_start
        index += length
    return ACCEPTABLE
