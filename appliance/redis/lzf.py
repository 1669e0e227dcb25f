"""LZF, the compression of strings inside of dumps.

    000lllll                      l + 1 bytes follow as they are
    lllooooo oooooooo             l + 2 bytes (l: 1 .. 6) from o + 1 bytes back
    111ooooo llllllll oooooooo    l + 9 bytes from o + 1 bytes back

Which matches are found is the compressor's affair. This one finds those that redis-server finds, so that
equal values have equal dumps: one candidate for each hash of three bytes, the latest; after a match only the
last two places in it become candidates.

Source:     http://oldhome.schmorp.de/marc/liblzf.html; the choice of matches from the dumps of redis-server.
Units:      bytes.
Errors:     `decompress_untrusted` raises LzfError for what no compressor made.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i32_be, read_i64_le
from librt.vecs import vec
from mypy_extensions import i64

from appliance.errors import ApplianceError
from appliance.redis.slices import copy_part

_HASH_BITS: Final = 16
_HASH_MASK: Final = (1 << _HASH_BITS) - 1
_HASH_SHIFT: Final = 24 - _HASH_BITS
_THREE_BYTES: Final = 0xFF_FFFF
_FARTHEST: Final = 1 << 13
_SHORTEST_BEFORE: Final = 8  # what `copy_part` wants of its input
_LONGEST_MATCH: Final = (1 << 8) + (1 << 3)
_LONGEST_LITERAL: Final = 1 << 5
_IN_ONE_GO: Final = 16
# No three bytes stand for more than this many.
_BEST_RATIO: Final = _LONGEST_MATCH


class _Places:
    """Where each slot's three bytes were last seen, by all that was compressed so far, end to end.

    So nothing has to be cleared: what is before the beginning of a string is no place in it.
    """

    def __init__(self) -> None:
        self.table: vec[i64] = vec[i64]([0] * (_HASH_MASK + 1))
        self.next: i64 = 1  # where the next string begins


_PLACES: Final = _Places()


class LzfError(ApplianceError):
    """Bytes that are no LZF."""


def _three_bytes(padded: bytes, at: i64) -> i64:
    """The number that three bytes make, the first the highest; a fourth one is read."""
    return (i64(read_i32_be(padded, at)) >> 8) & _THREE_BYTES


def _slot(window: i64) -> i64:
    """Where three bytes have their candidate."""
    return ((window >> _HASH_SHIFT) - window * 5) & _HASH_MASK


def compress(data: bytes, limit: i64) -> bytes | None:
    """The compressed form, or None when it does not fit into about `limit` bytes."""
    size: i64 = len(data)
    if size == 0 or limit <= 0:
        return None
    places = _PLACES.table
    start = _PLACES.next
    _PLACES.next = start + size
    padded = data + b"\0"  # so that four bytes can be read where there are three
    out = BytesWriter()
    literal_at: i64 = 0  # literals from here on are not in `out` yet
    # Where the server's compressor would write next, the mark of the literals under way included. It is
    # cautious at the end of its room, and that decides whether a short string is compressed at all.
    room_used: i64 = 1
    at: i64 = 0
    last = size - 2
    while at < last:
        three = _three_bytes(padded, at)
        slot = _slot(three)
        found = places[slot] - start
        places[slot] = start + at
        # The very first place is never a candidate.
        if found <= 0 or at - found - 1 >= _FARTHEST or _three_bytes(padded, found) != three:
            if room_used >= limit:
                return None
            room_used += 1
            at += 1
            if at - literal_at == _LONGEST_LITERAL:
                _write_literals(out, data, literal_at, at)
                literal_at = at
                room_used += 1
            continue
        if at == literal_at:
            room_used -= 1
        else:
            _write_literals(out, data, literal_at, at)
        if room_used + 4 >= limit:
            return None
        length = _match_length(data, found, at, min(size - at - 2, _LONGEST_MATCH))
        offset = at - found - 1
        coded = length - 2
        if coded < 7:
            out.append(offset >> 8 | coded << 5)
            room_used += 3
        else:
            out.append(offset >> 8 | 7 << 5)
            out.append(coded - 7)
            room_used += 4
        out.append(offset & 0xFF)
        at += length
        literal_at = at
        if at >= last:
            break
        place = at - 2
        while place < at:
            places[_slot(_three_bytes(padded, place))] = start + place
            place += 1
    if room_used + 3 > limit:
        return None
    while literal_at < size:
        stop = min(literal_at + _LONGEST_LITERAL, size)
        _write_literals(out, data, literal_at, stop)
        literal_at = stop
    return out.getvalue()


def _match_length(data: bytes, found: i64, at: i64, longest: i64) -> i64:
    """How many bytes are alike at two places, of which three are known to be.

    The server compares the first sixteen after these in one go if `longest` is more than that, and so may
    find up to two more than `longest`.
    """
    most = max(longest, _IN_ONE_GO + 3) if longest > _IN_ONE_GO else longest
    length: i64 = 3
    while length + 8 <= most:
        difference = read_i64_le(data, found + length) ^ read_i64_le(data, at + length)
        if difference != 0:
            while difference & 0xFF == 0:
                difference >>= 8
                length += 1
            return length
        length += 8
    while length < most and data[found + length] == data[at + length]:
        length += 1
    return length


def _write_literals(out: BytesWriter, data: bytes, start: i64, stop: i64) -> None:
    out.append(stop - start - 1)
    if stop < _SHORTEST_BEFORE:
        out.write(data[start:stop])
    else:
        copy_part(out, data, start, stop)


def decompress_untrusted(data: bytes, size: int) -> bytes:
    """The `size` bytes that `data` stands for.

    Raises:
        LzfError: it does not stand for that many.
    """
    end: i64 = len(data)
    if size > end * _BEST_RATIO:
        raise LzfError("a length that cannot be")
    wanted: i64 = size
    out = BytesWriter()
    at: i64 = 0
    length: i64 = 0
    while at < end:
        control: i64 = data[at]
        at += 1
        if control < _LONGEST_LITERAL:
            length = control + 1
            if at + length > end or len(out) + length > wanted:
                raise LzfError("literals beyond the end")
            out.write(data[at : at + length])
            at += length
            continue
        length = control >> 5
        if at + (2 if length == 7 else 1) > end:
            raise LzfError("a match cut short")
        if length == 7:
            more: i64 = data[at]
            length += more
            at += 1
        length += 2
        low: i64 = data[at]
        at += 1
        source = len(out) - ((control & 0x1F) << 8 | low) - 1
        if source < 0 or len(out) + length > wanted:
            raise LzfError("a match of what is not there")
        while length > 0:
            out.append(out[source])
            source += 1
            length -= 1
    if len(out) != wanted:
        raise LzfError("another length than said")
    return out.getvalue()
