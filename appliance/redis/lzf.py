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

from librt.strings import read_i32_be, read_i64_le
from librt.vecs import vec
from mypy_extensions import i64, u8

from appliance.errors import ApplianceError

_HASH_BITS: Final = 16
_HASH_MASK: Final = (1 << _HASH_BITS) - 1
_HASH_SHIFT: Final = 24 - _HASH_BITS
_THREE_BYTES: Final = 0xFF_FFFF
_FARTHEST: Final = 1 << 13
_LONGEST_MATCH: Final = (1 << 8) + (1 << 3)
_LONGEST_LITERAL: Final = 1 << 5
_IN_ONE_GO: Final = 16
# No three bytes stand for more than this many.
_BEST_RATIO: Final = _LONGEST_MATCH
# So that eight bytes can be read wherever there is one.
_PADDING: Final = bytes(8)
# Of the room to write in: what may be written before it is asked whether there is room.
_MARGIN: Final = 8
_ROOM_KEPT: Final = 1 << 17


class _Scratch:
    """What every compression needs, kept from one to the next.

    `places` is where each slot's three bytes were last seen, counted by all that was compressed so far, end
    to end. So nothing has to be cleared: what is before the beginning of a string is no place in it.
    """

    def __init__(self) -> None:
        self.places: vec[i64] = vec[i64]([0] * (_HASH_MASK + 1))
        self.next: i64 = 1  # where the next string begins
        self.room: vec[u8] = vec[u8]([0] * _ROOM_KEPT)


_SCRATCH: Final = _Scratch()


class LzfError(ApplianceError):
    """Bytes that are no LZF."""


def compress(data: bytes, limit: i64) -> bytes | None:
    """The compressed form, or None when it does not fit into about `limit` bytes."""
    size: i64 = len(data)
    if size == 0 or limit <= 0:
        return None
    places = _SCRATCH.places
    start = _SCRATCH.next
    _SCRATCH.next = start + size
    room = _room(limit + _MARGIN)
    padded = data + _PADDING
    # The server is cautious at the end of its room, and that decides whether a short string is compressed at
    # all: `used` is where it would write next, and it asks where it asks.
    mark: i64 = 0  # where the number of the literals under way is to stand
    used: i64 = 1
    at: i64 = 0
    last = size - 2
    while at < last:
        four: i64 = i64(read_i32_be(padded, at))
        three = (four >> 8) & _THREE_BYTES
        slot = ((three >> _HASH_SHIFT) - three * 5) & _HASH_MASK
        found = places[slot] - start
        places[slot] = start + at
        # The very first place is never a candidate.
        if (
            found <= 0
            or at - found - 1 >= _FARTHEST
            or (i64(read_i32_be(padded, found)) >> 8) & _THREE_BYTES != three
        ):
            if used >= limit:
                return None
            room[used] = u8(three >> 16)
            used += 1
            at += 1
            if used - mark > _LONGEST_LITERAL:
                room[mark] = _LONGEST_LITERAL - 1
                mark = used
                used += 1
            continue
        if used - mark == 1:
            used = mark
        else:
            room[mark] = u8(used - mark - 2)
        if used + 4 >= limit:
            return None
        # The server compares the sixteen bytes after these three in one go if there are more than that, and
        # so may find up to two more than it looks for.
        longest = max(min(size - at - 2, _LONGEST_MATCH), 3)
        if _IN_ONE_GO < longest < _IN_ONE_GO + 3:
            longest = _IN_ONE_GO + 3
        length: i64 = 3
        while length < longest:
            difference = read_i64_le(padded, found + length) ^ read_i64_le(padded, at + length)
            if difference != 0:
                if difference & 0xFFFF_FFFF == 0:
                    difference >>= 32
                    length += 4
                if difference & 0xFFFF == 0:
                    difference >>= 16
                    length += 2
                if difference & 0xFF == 0:
                    length += 1
                break
            length += 8
        if length > longest:
            length = longest
        offset = at - found - 1
        coded = length - 2
        if coded < 7:
            room[used] = u8(offset >> 8 | coded << 5)
            used += 1
        else:
            room[used] = u8(offset >> 8 | 7 << 5)
            room[used + 1] = u8(coded - 7)
            used += 2
        room[used] = u8(offset & 0xFF)
        mark = used + 1
        used += 2
        at += length
        if at >= last:
            break
        # The last two places of the match become candidates: four bytes hold the three of each.
        four = i64(read_i32_be(padded, at - 2))
        three = (four >> 8) & _THREE_BYTES
        places[((three >> _HASH_SHIFT) - three * 5) & _HASH_MASK] = start + at - 2
        three = four & _THREE_BYTES
        places[((three >> _HASH_SHIFT) - three * 5) & _HASH_MASK] = start + at - 1
    if used + 3 > limit:
        return None
    while at < size:
        room[used] = u8(data[at])
        used += 1
        at += 1
        if used - mark > _LONGEST_LITERAL:
            room[mark] = _LONGEST_LITERAL - 1
            mark = used
            used += 1
    if used - mark == 1:
        used = mark
    else:
        room[mark] = u8(used - mark - 2)
    return bytes(room[:used])


def decompress_untrusted(data: bytes, size: int) -> bytes:
    """The `size` bytes that `data` stands for.

    Raises:
        LzfError: it does not stand for that many.
    """
    end: i64 = len(data)
    if size > end * _BEST_RATIO:
        raise LzfError("a length that cannot be")
    wanted: i64 = size
    room = _room(wanted)
    used: i64 = 0
    at: i64 = 0
    while at < end:
        control: i64 = data[at]
        at += 1
        if control < _LONGEST_LITERAL:
            stop = at + control + 1
            if stop > end or used + control + 1 > wanted:
                raise LzfError("literals beyond the end")
            while at < stop:
                room[used] = u8(data[at])
                used += 1
                at += 1
            continue
        length = control >> 5
        if at + (2 if length == 7 else 1) > end:
            raise LzfError("a match cut short")
        if length == 7:
            more: i64 = data[at]
            length += more
            at += 1
        low: i64 = data[at]
        at += 1
        source = used - ((control & 0x1F) << 8 | low) - 1
        stop = used + length + 2
        if source < 0 or stop > wanted:
            raise LzfError("a match of what is not there")
        while used < stop:  # byte by byte: a match may reach into itself
            room[used] = room[source]
            used += 1
            source += 1
    if used != wanted:
        raise LzfError("another length than said")
    return bytes(room[:used])


def _room(size: i64) -> vec[u8]:
    """Room for that many bytes."""
    if size <= _ROOM_KEPT:
        return _SCRATCH.room
    count: int = size
    return vec[u8]([0] * count)
