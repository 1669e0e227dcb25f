"""The keyspace: a Robin Hood hash table per database, and the times at which keys expire.

Open addressing, linear probing. A record sits at or behind its home slot `hash & mask`, and along a run the
homes never decrease; an insertion takes the place of the first record that is nearer to its home (Celis,
"Robin Hood Hashing", 1986) and a deletion shifts the rest of the run back by one, so there are no tombstones
and a lookup may stop at the first record nearer to its home than the key would be.

A slot is two words in two flat arrays (ADR 0015):

    tag     62 bits: hash (32), access clock (24), length of a packed key (6; 63: it is an Entry); 0: empty
    record  the key and its short value packed into one bytes object, or an Entry

A probe reads tags alone, one cache line for eight slots, and touches a record only when all 32 bits of the
hash agree. Packing saves the two or three objects that a key, a value and their Entry would be: 130 bytes a
key instead of 240 at a million keys of 16 bytes with values of 32. What cannot be packed (a collection, an
integer, a long string, a key that expires) has an Entry. So has, for a while, a packed key whose Entry a
handler asked for: `find` unpacks it in place, and `work` packs it again.

A packed record is what a SET has on the wire, from the key to the end: `key CR LF $5 CR LF value CR LF`. So
SET cuts its record out of the request in one piece (`put_part`), and GET's reply is a part of the record.

Resizing is incremental. The arrays come in segments of 16384 slots: those of the next size are made one after
another while writes go on (PREPARING), then every write moves a bounded number of slots over (MOVING), and
the old segments are given back one by one as they drain. So neither allocation nor release of a large array
ever happens at once. While moving, new records go to the new segments and lookups try both.

The old segments are drained downwards, from the end of a run: its last record can leave without shifting any
other.

SCAN walks *home slots* in reversed-binary order (Pieter Noordhuis's cursor in Redis): a cursor is a home
slot with its bits carried from the top down, so growing and shrinking split and merge home slots the walk
has either wholly passed or wholly before it. All records of a home slot lie in one run, in order, so they
are found in O(run).

Hash:       32 bits of SipHash-1-3 under a secret key, of a part of the bytes that hold the key
            (`slices.keyed_hash`).
Units:      milliseconds of the wall clock for expiry (int, Unix time); the access clock is 24 bits, seconds
            of Unix time modulo 2**24 as redis-server keeps them (194 days; `idle_s` takes the difference).
            Under an -lfu policy the same bits are a counter of uses (frequency.py).
Invariants: `Table.check_invariants`, `Database.check_invariants`. A key is bytes and never changes.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from librt.strings import BytesWriter
from librt.vecs import vec
from mypy_extensions import i64, mypyc_attr

from appliance.redis.frequency import Frequency
from appliance.redis.notifications import (
    NOTIFY_EVICTED,
    NOTIFY_EXPIRED,
    NOTIFY_KEY_MISS,
    NOTIFY_NEW,
    NOTIFY_OVERWRITTEN,
    NOTIFY_TYPE_CHANGED,
    NOTIFY_WRITTEN,
)
from appliance.redis.replies import BULK_HEADERS, CRLF, Bulk
from appliance.redis.slices import HashKey, copy_part, is_part_equal, keyed_hash
from appliance.redis.types.collection import Collection
from appliance.redis.values import type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.chance import Chance

MIN_SLOTS: Final = 16
SEGMENT_SLOTS: Final = 1 << 14
_SHIFT: Final = 14
_INNER: Final = (1 << 14) - 1
# Up to here the next size is made in one go.
_AT_ONCE: Final = 1024
# Slots prepared per write: growing starts at 5/8 full; 2n slots are ready after n/32 writes, at 21/32.
_PREPARE_PER_WRITE: Final = 64
# Old slots visited per write while moving: n writes / 16, by when the new arrays are less than half full.
_MOVE_PER_WRITE: Final = 16

# The tag of a slot; 0 is an empty one.
_HASH: Final = 0xFFFF_FFFF
_CLOCK_SHIFT: Final = 32
CLOCK_MASK: Final = 0xFF_FFFF
_CLOCK: Final = 0xFF_FFFF << 32
_LENGTH_SHIFT: Final = 56  # 6 bits; with a seventh a tag would need a boxed integer
_ENTRY: Final = 63  # in place of a length: the record is an Entry
_ENTRY_TAG: Final = 63 << 56

LONGEST_PACKED_KEY: Final = 62
# A packed value is copied when it is read; from about here on that costs more than an object saves.
LONGEST_PACKED_VALUE: Final = 128

# What `reply_part` says.
FOUND: Final = 1
ABSENT: Final = 0
UNKNOWN: Final = -1

_WRITER: Final = BytesWriter()

NO_EXPIRY: Final = -1

# Clock.touching: a key that is looked up stays as it was (CLIENT NO-TOUCH), gets the time, or is counted
# (-lfu).
TOUCH_NOT: Final = 0
TOUCH_CLOCK: Final = 1
TOUCH_COUNT: Final = 2

# A sum of as many times to live as a cron samples must stay within 64 bits.
_LONGEST_AVERAGED_MS: Final = 1 << 48
# Unpacked keys that wait for `work`: beyond, the next command that asks for an entry packs some.
_MANY_UNPACKED: Final = 4096
_PACK_PER_COMMAND: Final = 1024


@mypyc_attr(acyclic=True)
class Entry:
    """One key with its value. Never hold one across commands: the key may have gone, or been packed.

    One that came from `scan`, `entries` or `random_entry` is for reading only: it may be a copy.
    """

    def __init__(self, key: bytes, value: object) -> None:
        self.key = key
        self.value = value
        self.expire_at_ms: i64 = NO_EXPIRY
        self.expire_index: i64 = -1  # place in Database._expiring
        self.access: i64 = 0  # the access clock, or what frequency.py keeps: 24 bits

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {self.value!r})"


PACKED: Final = Entry(b"", None)
"""Stands for an entry that is packed, where what it holds is not asked for."""


def idle_s(now_s: i64, access: i64) -> i64:
    """Seconds since a key was used, from its access clock; right up to 194 days."""
    return (now_s - access) & CLOCK_MASK


class TableWalk:
    """Somebody who goes over the keys of a table in pieces, as they were when he began (snapshot.py)."""

    def changing(self, key: bytes) -> None:
        """The key, in the table or not, is about to change, to come or to go."""

    def reading(self, key: bytes, value: object) -> None:
        """The value, no string, is looked up for a command that reads: some change a little even so."""


class _Segment:
    """A stretch of the two arrays."""

    def __init__(self, size: i64) -> None:
        self.tags: vec[i64] = vec[i64]([0] * size)
        self.records: list[object] = [None] * size


def is_packable(key_length: i64, value: object) -> bool:
    """Whether a key that does not expire has no Entry, but is one object with its value."""
    return (
        isinstance(value, bytes)
        and 0 < key_length <= LONGEST_PACKED_KEY
        and len(value) <= LONGEST_PACKED_VALUE
    )


def _copied_segments(segments: list[_Segment], is_shared: bool) -> list[_Segment]:
    copied: list[_Segment] = []
    for segment in segments:
        other = _Segment(0)
        other.tags = segment.tags[:]
        other.records = segment.records.copy()
        copied.append(other)
        if is_shared:
            continue
        records = other.records
        at: i64 = 0
        size: i64 = len(records)
        while at < size:
            record = records[at]
            if isinstance(record, Entry):
                made = Entry(record.key, record.value)
                made.expire_at_ms = record.expire_at_ms
                made.expire_index = record.expire_index
                made.access = record.access
                records[at] = made
            at += 1
    return copied


class Table:
    """The hash table alone: no expiry, no clock.

    Two ways to use it, which may be mixed: values (`get`, `put`, `has`, `discard`) in the smallest form, and
    entries (`find`, `insert`, `remove`), whose value may be changed in place.
    """

    def __init__(self, secret: bytes) -> None:
        """An empty table.

        Args:
            secret: 16 random bytes; the key of the hash.
        """
        self._hash_key = HashKey(secret)
        self._segments: list[_Segment] = [_Segment(MIN_SLOTS)]
        self._mask: i64 = MIN_SLOTS - 1
        self._used: i64 = 0  # records in _segments
        # While moving: the segments being drained. They had _old_mask + 1 slots and lose their tail.
        self._is_moving = False
        self._old: list[_Segment] = []
        self._old_mask: i64 = 0
        self._old_length: i64 = 0  # slots that are left
        self._old_used: i64 = 0
        self._head: i64 = -1  # slots _head, _head - 1 … 0 of the old ones are drained first
        # While preparing: the segments to come.
        self._next_size: i64 = 0
        self._next: list[_Segment] = []
        self._next_credit: i64 = 0  # slots that writes have paid for
        self._unpacked: list[Entry] = []  # by `find`, and not looked at since
        self.walk: TableWalk | None = None  # to be told of keys before they change

    def __len__(self) -> int:
        return self._used + self._old_used

    def hash_of(self, key: bytes) -> i64:
        """32 bits, keyed."""
        return keyed_hash(key, 0, len(key), self._hash_key)

    # Finding --------------------------------------------------------------------------------------

    def _locate(self, key: bytes, h: i64) -> i64:
        """The slot of key; `-2 - slot` when it is an old one, -1 when there is none."""
        segments = self._segments
        mask = self._mask
        at = h & mask
        segment = segments[at >> _SHIFT]
        tags = segment.tags
        distance: i64 = 0
        while True:
            tag = tags[at & _INNER]
            if tag & _HASH == h and tag != 0:
                length = tag >> _LENGTH_SHIFT
                if length == _ENTRY:
                    if cast("Entry", segment.records[at & _INNER]).key == key:
                        return at
                elif length == len(key) and cast("bytes", segment.records[at & _INNER]).startswith(key):
                    return at
            elif tag == 0:
                break
            if (at - tag) & mask < distance:
                break
            at = (at + 1) & mask
            distance += 1
            if at & _INNER == 0:
                segment = segments[at >> _SHIFT]
                tags = segment.tags
        if self._is_moving:
            at = self._locate_old(key, h)
            if at >= 0:
                return -2 - at
        return -1

    def _locate_old(self, key: bytes, h: i64) -> i64:
        """The old slot that holds key, or -1."""
        old = self._old
        mask = self._old_mask
        length = self._old_length
        at = h & mask
        distance: i64 = 0
        while at < length:
            segment = old[at >> _SHIFT]
            tag = segment.tags[at & _INNER]
            if tag == 0:
                break
            if tag & _HASH == h:
                record = segment.records[at & _INNER]
                key_length = tag >> _LENGTH_SHIFT
                if key_length == _ENTRY:
                    if cast("Entry", record).key == key:
                        return at
                elif key_length == len(key) and cast("bytes", record).startswith(key):
                    return at
            if (at - tag) & mask < distance:
                break
            # Once the tail is gone the run cannot go on at 0: slots 0 … _head were drained before it.
            at = (at + 1) & mask if length > mask else at + 1
            distance += 1
        return -1

    def _segment_of(self, at: i64) -> _Segment:
        """Where a slot that `_locate` gave is."""
        if at >= 0:
            return self._segments[at >> _SHIFT]
        return self._old[(-2 - at) >> _SHIFT]

    def read(self, key: bytes, clock: i64, as_reply: bool = False) -> object:
        """What there is of key, without unpacking it: its value, its Entry if it has one, or None.

        Args:
            key: of any length.
            clock: the access clock of a packed key becomes this; -1 leaves it. An Entry's is the caller's.
            as_reply: a packed value comes as a `Bulk`.
        """
        # `_locate` once more, for the sake of GET: its answer would have to be taken apart again.
        h = self.hash_of(key)
        key_length: i64 = len(key)
        segments = self._segments
        mask = self._mask
        at = h & mask
        inner = at & _INNER
        segment = segments[at >> _SHIFT]
        tags = segment.tags
        distance: i64 = 0
        while True:
            tag = tags[inner]
            if tag & _HASH == h and tag != 0:
                length = tag >> _LENGTH_SHIFT
                if length == _ENTRY:
                    entry = cast("Entry", segment.records[inner])
                    if entry.key == key:
                        return entry
                elif length == key_length:
                    record = cast("bytes", segment.records[inner])
                    if record.startswith(key):
                        if clock >= 0:
                            tags[inner] = tag ^ ((tag ^ (clock << _CLOCK_SHIFT)) & _CLOCK)
                        if as_reply:
                            return Bulk(record[length + 2 :])
                        return _value_of(record, length)
            elif tag == 0:
                break
            if (at - tag) & mask < distance:
                break
            at = (at + 1) & mask
            distance += 1
            inner = at & _INNER
            if inner == 0:
                segment = segments[at >> _SHIFT]
                tags = segment.tags
        if self._is_moving:
            at = self._locate_old(key, h)
            if at >= 0:
                segment = self._old[at >> _SHIFT]
                inner = at & _INNER
                tag = segment.tags[inner]
                length = tag >> _LENGTH_SHIFT
                if length == _ENTRY:
                    return segment.records[inner]
                if clock >= 0:
                    segment.tags[inner] = tag ^ ((tag ^ (clock << _CLOCK_SHIFT)) & _CLOCK)
                record = cast("bytes", segment.records[inner])
                return Bulk(record[length + 2 :]) if as_reply else _value_of(record, length)
        return None

    def reply_part(self, data: bytes, start: i64, length: i64, clock: i64, out: BytesWriter) -> i64:
        """Append the reply to a GET of the key data[start : start + length] to `out`, if it is packed.

        Args:
            length: at least 1, at most LONGEST_PACKED_KEY.
            clock: as for `read`.

        Returns:
            FOUND or ABSENT; UNKNOWN when only `read` can tell.
        """
        h = keyed_hash(data, start, length, self._hash_key)
        segments = self._segments
        mask = self._mask
        at = h & mask
        segment = segments[at >> _SHIFT]
        tags = segment.tags
        distance: i64 = 0
        while True:
            inner = at & _INNER
            tag = tags[inner]
            if tag & _HASH == h and tag != 0:
                key_length = tag >> _LENGTH_SHIFT
                if key_length == _ENTRY:
                    return UNKNOWN
                if key_length == length:
                    record = cast("bytes", segment.records[inner])
                    if is_part_equal(record, data, start, length):
                        if clock >= 0:
                            tags[inner] = tag ^ ((tag ^ (clock << _CLOCK_SHIFT)) & _CLOCK)
                        copy_part(out, record, length + 2, len(record))
                        return FOUND
            if tag == 0 or (at - tag) & mask < distance:
                return UNKNOWN if self._is_moving else ABSENT
            at = (at + 1) & mask
            distance += 1
            if at & _INNER == 0:
                segment = segments[at >> _SHIFT]
                tags = segment.tags

    def has(self, key: bytes) -> bool:
        return self._locate(key, self.hash_of(key)) != -1

    def get(self, key: bytes) -> object:
        """The value of key, or None."""
        found = self.read(key, -1)
        return found.value if isinstance(found, Entry) else found

    def access_clock(self, key: bytes) -> int:
        """The access clock of key, -1 when it is not there."""
        at = self._locate(key, self.hash_of(key))
        if at == -1:
            return -1
        segment = self._segment_of(at)
        if at < 0:
            at = -2 - at
        tag = segment.tags[at & _INNER]
        if tag >> _LENGTH_SHIFT == _ENTRY:
            return cast("Entry", segment.records[at & _INNER]).access
        return (tag >> _CLOCK_SHIFT) & CLOCK_MASK

    def set_access_clock(self, key: bytes, clock: i64) -> None:
        """Set the access clock of key, if it is there."""
        found = self.read(key, clock)
        if isinstance(found, Entry):
            found.access = clock

    def find(self, key: bytes) -> Entry | None:
        """The entry of key, or None. A packed key is unpacked; `work` packs it again."""
        at = self._locate(key, self.hash_of(key))
        if at == -1:
            return None
        segment = self._segment_of(at)
        if at < 0:
            at = -2 - at
        at &= _INNER
        tag = segment.tags[at]
        record = segment.records[at]
        if tag >> _LENGTH_SHIFT == _ENTRY:
            return cast("Entry", record)
        entry = _view(tag, record)
        segment.tags[at] = _ENTRY_TAG | (tag & (_CLOCK | _HASH))
        segment.records[at] = entry
        self._unpacked.append(entry)
        return entry

    # Changing -------------------------------------------------------------------------------------

    def put(self, key: bytes, value: object, clock: i64) -> Entry | None:
        """Give key a value, whether or not it had one, in the smallest form.

        Args:
            key: of any length.
            value: not an Entry, not None.
            clock: its access clock, 24 bits.

        Returns:
            The entry the key had before, if it had one. Its expire time, if it has one, is the caller's to
            take off. A value that is neither bytes nor int is still in it; otherwise it may stay in use.
        """
        h = self.hash_of(key)
        key_length: i64 = len(key)
        # `_locate` once more, for the sake of SET.
        segments = self._segments
        mask = self._mask
        at = h & mask
        inner = at & _INNER
        segment = segments[at >> _SHIFT]
        tags = segment.tags
        distance: i64 = 0
        while True:
            tag = tags[inner]
            if tag & _HASH == h and tag != 0:
                length = tag >> _LENGTH_SHIFT
                if length == _ENTRY:
                    if cast("Entry", segment.records[inner]).key == key:
                        return _put_over(segment, inner, h, key, value, clock)
                elif length == key_length and cast("bytes", segment.records[inner]).startswith(key):
                    if isinstance(value, bytes) and len(value) <= LONGEST_PACKED_VALUE:
                        tags[inner] = tag ^ ((tag ^ (clock << _CLOCK_SHIFT)) & _CLOCK)
                        segment.records[inner] = _packed(key, value)
                        return None
                    return _put_over(segment, inner, h, key, value, clock)
            elif tag == 0:
                break
            if (at - tag) & mask < distance:
                break
            at = (at + 1) & mask
            distance += 1
            inner = at & _INNER
            if inner == 0:
                segment = segments[at >> _SHIFT]
                tags = segment.tags
        if self._is_moving:
            at = self._locate_old(key, h)
            if at >= 0:
                return _put_over(self._old[at >> _SHIFT], at & _INNER, h, key, value, clock)
        self._make_room()
        if (
            isinstance(value, bytes)
            and len(value) <= LONGEST_PACKED_VALUE
            and key_length > 0
            and key_length <= LONGEST_PACKED_KEY
        ):
            self._place(_packed_tag(h, key_length, clock), _packed(key, value))
        else:
            self._place(_ENTRY_TAG | h, _entry(key, value, clock))
        return None

    def put_part(self, data: bytes, start: i64, length: i64, end: i64, clock: i64) -> bool:
        """`put` of what is in wire form: data[start:end] is `key CR LF $n CR LF value CR LF`.

        Args:
            length: of the key: at least 1, at most LONGEST_PACKED_KEY.
            end: behind a value that is kept as bytes, at most LONGEST_PACKED_VALUE.
            clock: the key's access clock, 24 bits.

        Returns:
            False when only `put` can do it: the key has an entry, or may have.
        """
        h = keyed_hash(data, start, length, self._hash_key)
        segments = self._segments
        mask = self._mask
        at = h & mask
        segment = segments[at >> _SHIFT]
        tags = segment.tags
        distance: i64 = 0
        while True:
            inner = at & _INNER
            tag = tags[inner]
            if tag & _HASH == h and tag != 0:
                key_length = tag >> _LENGTH_SHIFT
                if key_length == _ENTRY:
                    return False
                if key_length == length and is_part_equal(
                    cast("bytes", segment.records[inner]), data, start, length
                ):
                    tags[inner] = tag ^ ((tag ^ (clock << _CLOCK_SHIFT)) & _CLOCK)
                    segment.records[inner] = data[start:end]
                    return True
            if tag == 0 or (at - tag) & mask < distance:
                break
            at = (at + 1) & mask
            distance += 1
            if at & _INNER == 0:
                segment = segments[at >> _SHIFT]
                tags = segment.tags
        if self._is_moving:
            return False
        self._make_room()
        self._place(_packed_tag(h, length, clock), data[start:end])
        return True

    def insert(self, key: bytes, value: object) -> Entry:
        """Add a key that is not in the table, as an entry."""
        entry = Entry(key, value)
        self._make_room()
        self._place(_ENTRY_TAG | self.hash_of(key), entry)
        return entry

    def pack_later(self, entry: Entry) -> None:
        """Let `work` look whether the key of this entry can be packed."""
        if is_packable(len(entry.key), entry.value):
            self._unpacked.append(entry)

    def pack(self, count: i64) -> None:
        """Pack up to `count` of the keys that were unpacked. Nobody may hold their entries."""
        unpacked = self._unpacked
        while count > 0 and len(unpacked) > 0:
            count -= 1
            entry = unpacked.pop()
            value = entry.value
            if entry.expire_at_ms != NO_EXPIRY or not is_packable(len(entry.key), value):
                continue
            h = self.hash_of(entry.key)
            at = self._locate(entry.key, h)
            if at == -1:
                continue
            segment = self._segment_of(at)
            if at < 0:
                at = -2 - at
            at &= _INNER
            if segment.records[at] is entry:
                segment.tags[at] = _packed_tag(h, len(entry.key), entry.access)
                segment.records[at] = _packed(entry.key, cast("bytes", value))

    def has_many_unpacked(self) -> bool:
        return len(self._unpacked) > _MANY_UNPACKED

    def _make_room(self) -> None:
        """Before one more record is placed: the share of a resize under way, or its beginning."""
        if self._is_moving or self._next_size != 0:
            self._work(_MOVE_PER_WRITE)
            # Never seen, by the arithmetic at the constants; the table stays correct if it is wrong.
            while self._is_moving and (self._used + 1) * 8 > (self._mask + 1) * 7:
                self._move(self._mask + 1)
            if (self._used + 1) * 8 > (self._mask + 1) * 7:
                self._prepare((self._mask + 1) * 2)
                while self._next_size != 0:
                    self._work(_MOVE_PER_WRITE)
        elif (self._used + 1) * 8 > (self._mask + 1) * 5:
            self._prepare((self._mask + 1) * 2)

    def _place(self, tag: i64, record: object) -> None:
        segments = self._segments
        mask = self._mask
        at = tag & mask
        segment = segments[at >> _SHIFT]
        tags = segment.tags
        distance: i64 = 0
        self._used += 1
        while True:
            other = tags[at & _INNER]
            if other == 0:
                tags[at & _INNER] = tag
                segment.records[at & _INNER] = record
                return
            if (at - other) & mask < distance:
                break
            at = (at + 1) & mask
            distance += 1
            if at & _INNER == 0:
                segment = segments[at >> _SHIFT]
                tags = segment.tags
        # The rest of the run moves back by one.
        carried = record
        while True:
            other = tags[at & _INNER]
            tags[at & _INNER] = tag
            if other == 0:
                segment.records[at & _INNER] = carried
                return
            displaced = segment.records[at & _INNER]
            segment.records[at & _INNER] = carried
            carried = displaced
            tag = other
            at = (at + 1) & mask
            if at & _INNER == 0:
                segment = segments[at >> _SHIFT]
                tags = segment.tags

    def take(self, key: bytes) -> object:
        """Take the key out; its Entry or its packed form, or None when there was none."""
        at = self._locate(key, self.hash_of(key))
        return None if at == -1 else self._take_at(at)

    def _take_at(self, at: i64) -> object:
        """Take out what is in a slot that is not empty, as `_locate` gives it."""
        segment = self._segment_of(at)
        if at >= 0:
            record = segment.records[at & _INNER]
            self._close_gap(at)
            self._used -= 1
        else:
            at = -2 - at
            record = segment.records[at & _INNER]
            self._close_old_gap(at)
            self._old_used -= 1
        if self._is_moving or self._next_size != 0:
            self._work(_MOVE_PER_WRITE)
        else:
            self._shrink_if_sparse()
        return record

    def discard(self, key: bytes) -> bool:
        """Take the key out; whether it was there."""
        return self.take(key) is not None

    def remove(self, key: bytes) -> Entry | None:
        """Take the key out; its entry, or None when there was none."""
        record = self.take(key)
        if record is None or isinstance(record, Entry):
            return record
        return Entry(key, _value_of(cast("bytes", record), len(key)))

    def _close_gap(self, at: i64) -> None:
        segments = self._segments
        mask = self._mask
        segment = segments[at >> _SHIFT]
        while True:
            following = (at + 1) & mask
            next_segment = segment
            if following & _INNER == 0:
                next_segment = segments[following >> _SHIFT]
            tag = next_segment.tags[following & _INNER]
            if tag == 0 or (following - tag) & mask == 0:
                segment.tags[at & _INNER] = 0
                segment.records[at & _INNER] = None
                return
            segment.tags[at & _INNER] = tag
            segment.records[at & _INNER] = next_segment.records[following & _INNER]
            at = following
            segment = next_segment

    def _close_old_gap(self, at: i64) -> None:
        old = self._old
        mask = self._old_mask
        length = self._old_length
        while True:
            segment = old[at >> _SHIFT]
            following = (at + 1) & mask if length > mask else at + 1
            tag: i64 = 0
            if following < length:
                tag = old[following >> _SHIFT].tags[following & _INNER]
            if tag == 0 or (following - tag) & mask == 0:
                segment.tags[at & _INNER] = 0
                segment.records[at & _INNER] = None
                return
            segment.tags[at & _INNER] = tag
            segment.records[at & _INNER] = old[following >> _SHIFT].records[following & _INNER]
            at = following

    # Resizing -------------------------------------------------------------------------------------

    @property
    def is_resizing(self) -> bool:
        return self._is_moving or self._next_size != 0

    def has_work(self) -> bool:
        """Whether `work` would do anything."""
        return (
            self._is_moving
            or self._next_size != 0
            or len(self._unpacked) > 0
            or (self._mask >= MIN_SLOTS and self._used * 8 < self._mask + 1)
        )

    def work(self, slots: int) -> bool:
        """Do a bounded piece of what can wait, a resize or packing, begun here if the table is sparse.

        Returns:
            Whether there is more to do.
        """
        left: i64 = slots
        if len(self._unpacked) > 0:
            before: i64 = len(self._unpacked)
            self.pack(left // 8 + 1)
            left -= (before - len(self._unpacked)) * 8
        if self._next_size == 0 and not self._is_moving:
            self._shrink_if_sparse()
        while left > 0 and self._next_size != 0:
            self._work(_MOVE_PER_WRITE)
            left -= _PREPARE_PER_WRITE
        if left > 0 and self._is_moving:
            self._move(left)
        return self._is_moving or self._next_size != 0 or len(self._unpacked) > 0

    def _work(self, slots: i64) -> None:
        if self._next_size != 0:
            self._next_credit += _PREPARE_PER_WRITE
            size = min(self._next_size, SEGMENT_SLOTS)
            if self._next_credit >= size:
                self._next_credit -= size
                self._next.append(_Segment(size))
                if len(self._next) * size >= self._next_size:
                    self._begin_move()
        elif self._is_moving:
            self._move(slots)

    def _shrink_if_sparse(self) -> None:
        """Begin to shrink a table less than 1/8 full, to a quarter at most.

        A larger step could let the new slots fill up before the old ones are drained; as it is, at most
        1/8 + 1/16 of the old size comes into a new one of 1/4. What is still too large shrinks again.
        """
        current = self._mask + 1
        if current <= MIN_SLOTS or self._used * 8 >= current:
            return
        size: i64 = MIN_SLOTS
        while size < self._used * 2 or size * 4 < current:
            size *= 2
        self._prepare(size)

    def _prepare(self, size: i64) -> None:
        self._next_size = size
        self._next_credit = 0
        if size <= _AT_ONCE:
            self._next = [_Segment(size)]
            self._begin_move()
        else:
            self._next = []

    def _begin_move(self) -> None:
        size = self._next_size
        incoming = self._next
        self._next_size = 0
        self._next = []
        self._old = self._segments
        self._old_mask = self._mask
        self._old_length = self._mask + 1
        self._old_used = self._used
        self._segments = incoming
        self._mask = size - 1
        self._used = 0
        self._is_moving = True
        # A run that wraps round the end goes on in slots 0 … _head.
        old = self._old
        mask = self._old_mask
        head: i64 = -1
        while head < mask:
            tag = old[(head + 1) >> _SHIFT].tags[(head + 1) & _INNER]
            if tag == 0 or (head + 1 - tag) & mask == 0:
                break
            head += 1
        self._head = head

    def _move(self, slots: i64) -> None:
        """Drain up to `slots` old slots into the new ones."""
        old = self._old
        left = slots
        while left > 0 and self._old_used > 0:
            # The head first, then from the end downwards.
            if self._head >= 0:
                at = self._head
                self._head -= 1
            else:
                at = self._old_length - 1
                self._old_length = at
            segment = old[at >> _SHIFT]
            tag = segment.tags[at & _INNER]
            if tag != 0:
                record = segment.records[at & _INNER]
                segment.tags[at & _INNER] = 0
                segment.records[at & _INNER] = None
                self._old_used -= 1
                self._place(tag, record)
            if at & _INNER == 0 and self._old_length == at:
                old.pop()
            left -= 1
        if self._old_used == 0 and left > 0:
            # What is left is empty: give it back in pieces too.
            while left > 0 and len(old) > 0:
                old.pop()
                left -= SEGMENT_SLOTS // 64
            if len(old) > 0:
                self._old_length = min(self._old_length, len(old) * SEGMENT_SLOTS)
            else:
                self._old_length = 0
                self._is_moving = False
                self._head = -1

    # Looking at everything ------------------------------------------------------------------------

    def copy(self, is_shared: bool) -> Table:
        """An equal table, with the same key of the hash: slots are copied, and nothing is placed anew.

        Args:
            is_shared: both tables refer to the same entries, which must never be changed from then on.
        """
        other = Table(bytes(16))
        other._hash_key = self._hash_key
        other._segments = _copied_segments(self._segments, is_shared)
        other._mask = self._mask
        other._used = self._used
        other._is_moving = self._is_moving
        other._old = _copied_segments(self._old, is_shared)
        other._old_mask = self._old_mask
        other._old_length = self._old_length
        other._old_used = self._old_used
        other._head = self._head
        return other  # one that was preparing to grow begins anew

    def entries(self) -> list[Entry]:
        """All entries, in no order; for reading only."""
        found: list[Entry] = []
        for segment in self._segments:
            _append_views(segment, found)
        for segment in self._old:
            _append_views(segment, found)
        return found

    def live_keys(self, now_ms: i64) -> list[bytes]:
        """The keys that have not expired at that time, in no order."""
        found: list[bytes] = []
        for segment in self._segments:
            _append_live_keys(segment, found, now_ms)
        for segment in self._old:
            _append_live_keys(segment, found, now_ms)
        return found

    def random_entry(self, random: Callable[[], int]) -> Entry | None:
        """An entry chosen uniformly, for reading only: about two slots are drawn.

        Args:
            random: gives a non-negative int below 2**31 or larger at each call.
        """
        if self._used + self._old_used == 0:
            return None
        size = self._mask + 1
        total = size + self._old_length
        while True:
            drawn: i64 = random()
            at = drawn % total
            if at < size:
                segment = self._segments[at >> _SHIFT]
            else:
                at -= size
                segment = self._old[at >> _SHIFT]
            tag = segment.tags[at & _INNER]
            if tag != 0:
                return _view(tag, segment.records[at & _INNER])

    def take_random(self, chance: Chance) -> Entry | None:
        """Take out an entry chosen uniformly: the one that `random_entry` would have given."""
        if self._used + self._old_used == 0:
            return None
        size = self._mask + 1
        total = size + self._old_length
        while True:
            at = chance.draw() % total
            if at < size:
                segment = self._segments[at >> _SHIFT]
                place = at & _INNER
            else:
                place = (at - size) & _INNER
                segment = self._old[(at - size) >> _SHIFT]
                at = size - 2 - at
            tag = segment.tags[place]
            if tag != 0:
                entry = _view(tag, segment.records[place])
                self._take_at(at)
                return entry

    def scan(self, cursor: int, out: list[Entry], without_packed: bool = False) -> int:
        """Append the entries of one step of a SCAN to out, for reading only; the next cursor, 0 at the end.

        An entry that is in the table from the step with cursor 0 to the step that gives 0 is seen at
        least once.

        Args:
            cursor: 0, or what the step before gave.
            out: gets the entries.
            without_packed: give PACKED instead of each that is packed, and so a string.
        """
        state: i64 = cursor & 0xFFFF_FFFF
        mask = self._mask
        if not self._is_moving:
            self._emit_home(state & mask, out, without_packed)
            return _advance(state & mask, mask)
        small = mask
        large = self._old_mask
        small_is_new = mask <= self._old_mask
        if not small_is_new:
            small = self._old_mask
            large = mask
        if small_is_new:
            self._emit_home(state & small, out, without_packed)
        else:
            self._emit_old_home(state & small, out, without_packed)
        state &= large
        # Every home of the larger table that the smaller one folds into the one just seen.
        while True:
            if small_is_new:
                self._emit_old_home(state, out, without_packed)
            else:
                self._emit_home(state, out, without_packed)
            state = _advance(state, large)
            if state & (small ^ large) == 0:
                return state

    def _emit_home(self, home: i64, out: list[Entry], without_packed: bool) -> None:
        segments = self._segments
        mask = self._mask
        at = home
        distance: i64 = 0
        while True:
            segment = segments[at >> _SHIFT]
            tag = segment.tags[at & _INNER]
            if tag == 0:
                return
            actual = (at - tag) & mask
            if actual < distance:
                return
            if actual == distance:
                if without_packed and tag >> _LENGTH_SHIFT != _ENTRY:
                    out.append(PACKED)
                else:
                    out.append(_view(tag, segment.records[at & _INNER]))
            at = (at + 1) & mask
            distance += 1

    def _emit_old_home(self, home: i64, out: list[Entry], without_packed: bool) -> None:
        old = self._old
        mask = self._old_mask
        length = self._old_length
        at = home
        distance: i64 = 0
        while at < length:
            segment = old[at >> _SHIFT]
            tag = segment.tags[at & _INNER]
            if tag == 0:
                return
            actual = (at - tag) & mask
            if actual < distance:
                return
            if actual == distance:
                if without_packed and tag >> _LENGTH_SHIFT != _ENTRY:
                    out.append(PACKED)
                else:
                    out.append(_view(tag, segment.records[at & _INNER]))
            at = (at + 1) & mask if length > mask else at + 1
            distance += 1

    def dismantle(self, budget: int, leaving: Callable[[object], None]) -> int:
        """Drop up to `budget` slots of a table that nobody uses any more.

        Args:
            budget: slots to look at.
            leaving: called with each value that is neither bytes nor int; it may be large itself.

        Returns:
            Slots left.
        """
        self._unpacked = []
        self._next = []
        self._next_size = 0
        left = _dismantle(self._old, budget, leaving)
        if left > 0:
            _dismantle(self._segments, left, leaving)
        return self.slots_allocated()

    def release(self, slots: int) -> int:
        """As `dismantle`, for values that are small; how many slots are left."""
        return self.dismantle(slots, _let_go)

    def slots_allocated(self) -> int:
        """Slots of all segments, for INFO and tests."""
        total = 0
        for segment in self._segments:
            total += len(segment.records)
        for segment in self._old:
            total += len(segment.records)
        for segment in self._next:
            total += len(segment.records)
        return total

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        mask = self._mask
        assert sum(len(segment.records) for segment in self._segments) == mask + 1
        assert (mask + 1) & mask == 0
        used: i64 = 0
        at: i64 = 0
        while at <= mask:
            segment = self._segments[at >> _SHIFT]
            tag = segment.tags[at & _INNER]
            record = segment.records[at & _INNER]
            assert (tag == 0) == (record is None)
            if tag != 0:
                used += 1
                distance = (at - tag) & mask
                previous = self._segments[((at - 1) & mask) >> _SHIFT].tags[(at - 1) & mask & _INNER]
                if distance > 0:
                    assert previous != 0, "a gap between a record and its home"
                    assert (at - 1 - previous) & mask >= distance - 1, "homes decrease along a run"
                assert self._locate(_view(tag, record).key, tag & _HASH) == at
                assert self.hash_of(_view(tag, record).key) == tag & _HASH
            at += 1
        assert used == self._used
        old_used: i64 = 0
        at = 0
        while at < self._old_length:
            segment = self._old[at >> _SHIFT]
            tag = segment.tags[at & _INNER]
            record = segment.records[at & _INNER]
            assert (tag == 0) == (record is None)
            if tag != 0:
                old_used += 1
                assert self._locate(_view(tag, record).key, tag & _HASH) == -2 - at
            at += 1
        assert old_used == self._old_used
        assert self._is_moving or (self._old_used == 0 and len(self._old) == 0)
        assert not (self._is_moving and self._next_size != 0)


def _put_over(segment: _Segment, inner: i64, h: i64, key: bytes, value: object, clock: i64) -> Entry | None:
    """Give the key in a slot another value; the entry it had."""
    previous: Entry | None = None
    if segment.tags[inner] >> _LENGTH_SHIFT == _ENTRY:
        previous = cast("Entry", segment.records[inner])
    length: i64 = len(key)
    if is_packable(length, value):
        segment.tags[inner] = _packed_tag(h, length, clock)
        segment.records[inner] = _packed(key, cast("bytes", value))
    elif previous is not None and isinstance(previous.value, (bytes, int)):
        previous.value = value
        previous.access = clock
    else:
        segment.tags[inner] = _ENTRY_TAG | h
        segment.records[inner] = _entry(key, value, clock)
    return previous


def _packed(key: bytes, value: bytes) -> bytes:
    writer = _WRITER
    writer.truncate(0)
    writer.write(key)
    writer.write(CRLF)
    writer.write(BULK_HEADERS[len(value)])
    writer.write(value)
    writer.write(CRLF)
    return writer.getvalue()


def _value_of(record: bytes, key_length: i64) -> bytes:
    """The value in a packed record."""
    size: i64 = len(record)
    rest = size - key_length - 2  # `$n CR LF`, n bytes, CR LF; n has one digit, two or three
    start = key_length + (6 if rest < 16 else 7 if rest < 107 else 8)
    return record[start : size - 2]


def _packed_tag(h: i64, length: i64, clock: i64) -> i64:
    return length << _LENGTH_SHIFT | (clock & CLOCK_MASK) << _CLOCK_SHIFT | h


def _entry(key: bytes, value: object, clock: i64) -> Entry:
    entry = Entry(key, value)
    entry.access = clock
    return entry


def _view(tag: i64, record: object) -> Entry:
    """The Entry of a slot, or a copy of what is packed there."""
    length = tag >> _LENGTH_SHIFT
    if length == _ENTRY:
        return cast("Entry", record)
    packed = cast("bytes", record)
    entry = Entry(packed[:length], _value_of(packed, length))
    entry.access = (tag >> _CLOCK_SHIFT) & CLOCK_MASK
    return entry


def _append_views(segment: _Segment, out: list[Entry]) -> None:
    tags = segment.tags
    records = segment.records
    at: i64 = 0
    size: i64 = len(records)
    while at < size:
        tag = tags[at]
        if tag != 0:
            out.append(_view(tag, records[at]))
        at += 1


def _append_live_keys(segment: _Segment, out: list[bytes], now_ms: i64) -> None:
    tags = segment.tags
    records = segment.records
    at: i64 = 0
    size: i64 = len(records)
    while at < size:
        tag = tags[at]
        if tag != 0:
            length = tag >> _LENGTH_SHIFT
            if length == _ENTRY:
                entry = cast("Entry", records[at])
                if entry.expire_at_ms == NO_EXPIRY or entry.expire_at_ms >= now_ms:
                    out.append(entry.key)
            else:
                out.append(cast("bytes", records[at])[:length])
        at += 1


def _let_go(_value: object) -> None:
    """Nobody else has to."""


def _dismantle(segments: list[_Segment], slots: i64, leaving: Callable[[object], None]) -> i64:
    """Take slots away from the end; how many of the budget are left."""
    while slots > 0 and len(segments) > 0:
        records = segments[len(segments) - 1].records
        size: i64 = len(records)
        keep = max(size - slots, 0)
        at = keep
        while at < size:
            record = records[at]
            if isinstance(record, Entry) and not isinstance(record.value, (bytes, int)):
                leaving(record.value)
            at += 1
        del records[keep:]
        slots -= size - keep
        if keep == 0:
            segments.pop()
    return slots


def _advance(state: i64, mask: i64) -> i64:
    """Add one to the bits of `state` under `mask`, carrying from the highest bit down."""
    bit = (mask + 1) >> 1
    while state & bit != 0:
        state ^= bit
        bit >>= 1
    return state | bit


def _one() -> int:
    """A random number for a clock without an engine."""
    return 1


class Clock:
    """The time of the command being executed; every database of an engine shares one.

    Invariant: fixed while a command runs, so that a key cannot expire between two looks of one command.
    """

    def __init__(self) -> None:
        self.now_us: i64 = 0
        self.now_ms: i64 = 0
        self.now_s: i64 = 0
        self.keeps_expired = False  # CLIENT PAUSE: what is past its time is not seen, but stays
        # What becomes of the keys that the command being executed looks up.
        self.touching: i64 = TOUCH_CLOCK
        # An -lfu policy is on, and its rules, which are there in any case.
        self.is_counting = False
        self.frequency = Frequency(_one)

    def set_us(self, now_us: i64) -> None:
        self.now_us = now_us
        self.now_ms = now_us // 1000
        self.now_s = now_us // 1_000_000

    def made(self) -> i64:
        """The 24 bits of access of a key made now."""
        return self.frequency.made(self.now_s) if self.is_counting else self.now_s & CLOCK_MASK

    def used(self, access: i64) -> i64:
        """The 24 bits of access of a key that the command being executed uses."""
        if self.touching == TOUCH_CLOCK:
            return self.now_s & CLOCK_MASK
        return self.frequency.used(access, self.now_s) if self.touching == TOUCH_COUNT else access


class KeyspaceStats:
    """Counters of INFO's stats section that the keyspace itself keeps."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.hits: i64 = 0
        self.misses: i64 = 0
        self.expired_keys: i64 = 0
        self.expired_lazily: i64 = 0
        self.evicted_keys: i64 = 0
        self.expired_fields: i64 = 0


class KeyspaceObserver:
    """Who hears of what happens to keys; this one ignores it. The engine's passes it on.

    Values of any size are handed to `released` when their key lets go of them: letting the last reference to
    a collection of a million elements go in one piece would stall everybody.
    """

    def __init__(self) -> None:
        # Classes of events (notifications.py) that anybody wants to hear of; 0 for none.
        self.event_classes: i64 = 0

    def event(self, database: int, event_class: i64, name: bytes, key: bytes) -> None:
        """A keyspace event of a class in `event_classes`."""

    def removed(self, database: int, key: bytes) -> None:
        """A key that expired, or had to make room, has been removed, by no command."""

    def released(self, value: object) -> None:
        """Nothing refers to this Collection any more."""

    def emptied(self, table: Table, expiring: list[Entry]) -> None:
        """Nothing refers to this table of a database and its list of keys that expire any more."""


class Database:
    """One numbered database: keys, values, expire times.

    Every lookup takes the time from the shared clock and removes the key it finds expired.
    """

    def __init__(
        self,
        index: int,
        secret: bytes,
        clock: Clock,
        stats: KeyspaceStats,
        observer: KeyspaceObserver | None = None,
    ) -> None:
        self.index = index
        self._secret = secret
        self._clock = clock
        self._stats = stats
        self._observer: KeyspaceObserver = KeyspaceObserver() if observer is None else observer
        self._table = Table(secret)
        # Entries with an expire time, dense, so that sampling is O(1); Entry.expire_index is the place.
        self._expiring: list[Entry] = []
        self.average_ttl_ms: i64 = 0
        self._found_us: i64 = -1  # the time of the command that last asked for an entry

    def __len__(self) -> int:
        return len(self._table)

    @property
    def expiring_count(self) -> int:
        return len(self._expiring)

    # Lookup ---------------------------------------------------------------------------------------

    def find(self, key: bytes) -> Entry | None:
        """The live entry of key, or None. Touches neither access time nor the hit counters."""
        table = self._table
        if self._found_us != self._clock.now_us:
            # Another command's time: nobody holds the entries that were unpacked before.
            self._found_us = self._clock.now_us
            if table.has_many_unpacked():
                table.pack(_PACK_PER_COMMAND)
        if table.walk is not None:
            table.walk.changing(key)
        entry = table.find(key)
        if entry is not None and entry.expire_at_ms != NO_EXPIRY and entry.expire_at_ms < self._clock.now_ms:
            self._expire(entry)
            self._stats.expired_lazily += 1
            return None
        return entry

    def _found(self, key: bytes) -> object:
        """As `find`, without unpacking: a value, an Entry, or None."""
        found = self._table.read(key, -1)
        if isinstance(found, Entry) and self.is_expired(found):
            self._expire(found)
            self._stats.expired_lazily += 1
            return None
        return found

    def find_value(self, key: bytes) -> object:
        """The live value of key, or None. Touches neither access time nor the hit counters."""
        found = self._found(key)
        return found.value if isinstance(found, Entry) else found

    def find_expire_time(self, key: bytes) -> i64:
        """As `expire_time`, leaving the hit counters alone."""
        found = self._found(key)
        if isinstance(found, Entry):
            return found.expire_at_ms
        return -2 if found is None else NO_EXPIRY

    def peek_value(self, key: bytes) -> object:
        """As lookup_read, for a command that asks about the key: the access time stays."""
        value = self.find_value(key)
        if value is None:
            self._missed(key)
        else:
            self._stats.hits += 1
        return value

    def expire_time(self, key: bytes) -> i64:
        """When key expires, in milliseconds; -1 (NO_EXPIRY): never; -2: there is no such key.

        Counts a hit or a miss; the access time stays.
        """
        when = self.find_expire_time(key)
        if when == -2:
            self._missed(key)
        else:
            self._stats.hits += 1
        return when

    def peek_raw(self, key: bytes) -> Entry | None:
        """The entry of key, expired or not, or None; nothing is removed, touched or counted."""
        return self._table.find(key)

    def _touch(self, entry: Entry) -> None:
        entry.access = self._clock.used(entry.access)

    def lookup_read(self, key: bytes) -> object:
        """The value of key for a command that reads, or None; counts a hit or a miss."""
        return self._lookup(key, False)

    def lookup_reply(self, key: bytes) -> object:
        """As lookup_read; a string may come as a `Bulk`, which is cheaper where it is only to be sent."""
        return self._lookup(key, True)

    def _lookup(self, key: bytes, as_reply: bool) -> object:
        clock = self._clock
        access_clock: i64 = -1
        if clock.touching == TOUCH_CLOCK:
            access_clock = clock.now_s & CLOCK_MASK
        elif clock.touching == TOUCH_COUNT:
            self._count_use(key)
        found = self._table.read(key, access_clock, as_reply)
        if isinstance(found, Entry):
            if found.expire_at_ms != NO_EXPIRY and found.expire_at_ms < clock.now_ms:
                self._expire(found)
                self._stats.expired_lazily += 1
                self._missed(key)
                return None
            self._stats.hits += 1
            if access_clock >= 0:
                found.access = access_clock
            walk = self._table.walk
            if walk is not None:
                walk.reading(key, found.value)
            return found.value
        if found is None:
            self._missed(key)
            return None
        self._stats.hits += 1
        return found

    def _count_use(self, key: bytes) -> None:
        access: i64 = self._table.access_clock(key)
        if access >= 0:
            self._table.set_access_clock(key, self._clock.used(access))

    def reply_part(self, data: bytes, start: i64, length: i64, out: BytesWriter) -> i64:
        """GET of the key data[start : start + length]: as `Table.reply_part`, counting a hit or a miss."""
        clock = self._clock
        access_clock: i64 = -1
        if clock.touching == TOUCH_CLOCK:
            access_clock = clock.now_s & CLOCK_MASK
        elif clock.touching == TOUCH_COUNT:
            return UNKNOWN
        found = self._table.reply_part(data, start, length, access_clock, out)
        if found == FOUND:
            self._stats.hits += 1
        elif found == ABSENT:
            if self._observer.event_classes & NOTIFY_KEY_MISS:
                return UNKNOWN
            self._stats.misses += 1
        return found

    def lookup_write(self, key: bytes) -> Entry | None:
        """The entry of key for a command that will change it, or None."""
        entry = self.find(key)
        if entry is not None:
            self._touch(entry)
        return entry

    def read_entry(self, key: bytes) -> Entry | None:
        """As lookup_read, giving the entry."""
        entry = self.find(key)
        if entry is None:
            self._missed(key)
            return None
        self._stats.hits += 1
        self._touch(entry)
        return entry

    def peek(self, key: bytes) -> Entry | None:
        """As read_entry, for a command that asks about the key (TTL, TYPE): the access time stays."""
        entry = self.find(key)
        if entry is None:
            self._missed(key)
            return None
        self._stats.hits += 1
        return entry

    def _missed(self, key: bytes) -> None:
        self._stats.misses += 1
        if self._observer.event_classes & NOTIFY_KEY_MISS:
            self._observer.event(self.index, NOTIFY_KEY_MISS, b"keymiss", key)

    # Change ---------------------------------------------------------------------------------------

    def set_value(self, key: bytes, value: object) -> Entry:
        """Give key a value whether or not it had one; an expire time it had is gone."""
        entry = self.find(key)
        if entry is None:
            return self.add(key, value)
        clock = self._clock
        entry.access = clock.used(entry.access) if clock.is_counting else clock.made()
        self.overwrite(entry, value)
        return entry

    def overwrite(self, entry: Entry, value: object) -> None:
        """Give the key of an entry that was looked up another value; an expire time it had is gone."""
        if entry.expire_at_ms != NO_EXPIRY:
            self.clear_expiry(entry)
        if isinstance(entry.value, bytes) and self._observer.event_classes == 0:
            entry.value = value
        else:
            old = entry.value
            entry.value = value
            self._replaced(entry.key, old, value)
        self._table.pack_later(entry)

    def put(self, key: bytes, value: object) -> None:
        """As set_value, in the smallest form: for whoever does not need the entry."""
        if self._observer.event_classes != 0:
            self.set_value(key, value)
            return
        walk = self._table.walk
        if walk is not None:
            walk.changing(key)
        clock = self._clock
        access = clock.now_s & CLOCK_MASK
        if clock.is_counting:
            access = self._put_access(key)
        previous = self._table.put(key, value, access)
        if previous is not None:
            old = previous.value
            if not isinstance(old, bytes) and isinstance(old, Collection):
                self._observer.released(old)
            if previous.expire_at_ms != NO_EXPIRY:
                is_expired = previous.expire_at_ms < self._clock.now_ms
                self._forget_expiry(previous)
                if is_expired:
                    self._stats.expired_lazily += 1
                    self._tell_expired(key)

    def put_part(self, data: bytes, start: i64, length: i64, end: i64) -> bool:
        """`put` as `Table.put_part`; False also when somebody wants to hear of it."""
        clock = self._clock
        table = self._table
        if self._observer.event_classes != 0 or clock.is_counting or table.walk is not None:
            return False
        return table.put_part(data, start, length, end, clock.now_s & CLOCK_MASK)

    def replace_value(self, entry: Entry, value: object) -> None:
        """Give the key of an entry another value; its expire time stays."""
        old = entry.value
        entry.value = value
        if not self._clock.is_counting:  # whoever looked the key up has counted that
            entry.access = self._clock.made()
        self._replaced(entry.key, old, value)

    def _put_access(self, key: bytes) -> i64:
        """While uses are counted: the access of a key that gets another value, or is made."""
        access: i64 = self._table.access_clock(key)
        if access < 0 or self._found(key) is None:
            return self._clock.made()
        return self._clock.used(access)

    def _replaced(self, key: bytes, old: object, new: object) -> None:
        if isinstance(old, Collection):
            self._observer.released(old)
        if self._observer.event_classes & NOTIFY_WRITTEN:
            self.tell_overwritten(key, old, new)

    def tell_overwritten(self, key: bytes, old: object, new: object) -> None:
        """The events of a key whose value gave way to another one as a whole."""
        observer = self._observer
        if observer.event_classes & NOTIFY_OVERWRITTEN:
            observer.event(self.index, NOTIFY_OVERWRITTEN, b"overwritten", key)
        if observer.event_classes & NOTIFY_TYPE_CHANGED and type_name(old) != type_name(new):
            observer.event(self.index, NOTIFY_TYPE_CHANGED, b"type_changed", key)

    def add(self, key: bytes, value: object) -> Entry:
        """Insert a key known to be absent."""
        walk = self._table.walk
        if walk is not None:
            walk.changing(key)
        entry = self._table.insert(key, value)
        entry.access = self._clock.made()
        if self._observer.event_classes & NOTIFY_NEW:
            self._observer.event(self.index, NOTIFY_NEW, b"new", key)
        self._table.pack_later(entry)
        return entry

    def delete(self, key: bytes) -> bool:
        """Remove the key; whether it was there (and alive)."""
        walk = self._table.walk
        if walk is not None:
            walk.changing(key)
        record = self._table.take(key)
        if isinstance(record, Entry):
            value = record.value
            if not isinstance(value, bytes) and isinstance(value, Collection):
                self._observer.released(value)
            if record.expire_at_ms != NO_EXPIRY:
                expired = record.expire_at_ms < self._clock.now_ms
                self._forget_expiry(record)
                if expired:
                    self._tell_expired(key)
                    return False
            return True
        return record is not None

    def take(self, key: bytes) -> Entry | None:
        """Remove a live key and give its entry, whose value goes on to live under another key.

        The entry's expire time is still to be read from it.
        """
        entry = self.find(key)
        if entry is None:
            return None
        expire_at_ms = entry.expire_at_ms
        self._table.take(key)
        self._forget_expiry(entry)
        entry.expire_at_ms = expire_at_ms
        return entry

    def set_expiry(self, entry: Entry, expire_at_ms: int) -> None:
        if entry.expire_index < 0:
            entry.expire_index = len(self._expiring)
            self._expiring.append(entry)
        entry.expire_at_ms = expire_at_ms

    def clear_expiry(self, entry: Entry) -> None:
        """The key lives for ever from now on."""
        self._forget_expiry(entry)
        self._table.pack_later(entry)

    def _forget_expiry(self, entry: Entry) -> None:
        at = entry.expire_index
        if at < 0:
            return
        last = self._expiring.pop()
        if last is not entry:
            self._expiring[at] = last
            last.expire_index = at
        entry.expire_index = -1
        entry.expire_at_ms = NO_EXPIRY

    def clear(self) -> int:
        """Remove everything; how many keys there were. The observer lets go of the table."""
        count = len(self._table)
        if count > 0:
            self._observer.emptied(self._table, self._expiring)
            self._table = Table(self._secret)
            self._expiring = []
        self.average_ttl_ms = 0
        return count

    def swap_with(self, other: Database) -> None:
        """Exchange all keys with another database; sessions keep the number they selected."""
        self._table, other._table = other._table, self._table
        self._expiring, other._expiring = other._expiring, self._expiring
        self.average_ttl_ms, other.average_ttl_ms = other.average_ttl_ms, self.average_ttl_ms

    # Expiry ---------------------------------------------------------------------------------------

    def _expire(self, entry: Entry) -> None:
        if self._clock.keeps_expired:
            return
        walk = self._table.walk
        if walk is not None:
            walk.changing(entry.key)
        self._forget_expiry(entry)
        self._table.take(entry.key)
        value = entry.value
        if not isinstance(value, bytes) and isinstance(value, Collection):
            self._observer.released(value)
        self._tell_expired(entry.key)

    def _tell_expired(self, key: bytes) -> None:
        self._stats.expired_keys += 1
        if self._observer.event_classes & NOTIFY_EXPIRED:
            self._observer.event(self.index, NOTIFY_EXPIRED, b"expired", key)
        self._observer.removed(self.index, key)

    def expire_sample(self, count: int, random: Callable[[], int]) -> tuple[int, int]:
        """Look at up to `count` random keys with an expire time and remove the expired ones.

        Returns:
            How many keys were looked at, and how many of them had expired.
        """
        now_ms = self._clock.now_ms
        looked: i64 = 0
        expired: i64 = 0
        ttl_sum: i64 = 0
        wanted: i64 = min(count, len(self._expiring))
        while looked < wanted and len(self._expiring) > 0:
            drawn: i64 = random()
            total: i64 = len(self._expiring)
            entry = self._expiring[drawn % total]
            looked += 1
            if entry.expire_at_ms < now_ms:
                self._expire(entry)
                expired += 1
            else:
                ttl_sum += min(entry.expire_at_ms - now_ms, _LONGEST_AVERAGED_MS)
        if looked > expired:
            average = ttl_sum // (looked - expired)
            # The server's running average: 2 % of each new sample.
            if self.average_ttl_ms == 0:
                self.average_ttl_ms = average
            else:
                self.average_ttl_ms = (self.average_ttl_ms * 49 + average) // 50
        return looked, expired

    # Everything -----------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All entries, expired ones not yet removed included, in no order."""
        return self._table.entries()

    def random_entry(self, random: Callable[[], int]) -> Entry | None:
        """An entry chosen uniformly, expired or not, or None when there is none."""
        return self._table.random_entry(random)

    def random_expiring(self, random: Callable[[], int]) -> Entry | None:
        """An entry with an expire time chosen uniformly, or None when there is none."""
        total: i64 = len(self._expiring)
        if total == 0:
            return None
        drawn: i64 = random()
        return self._expiring[drawn % total]

    def evict(self, key: bytes) -> None:
        """Remove a key to make room."""
        walk = self._table.walk
        if walk is not None:
            walk.changing(key)
        entry = self._table.remove(key)
        if entry is None:
            return
        self._forget_expiry(entry)
        value = entry.value
        if not isinstance(value, bytes) and isinstance(value, Collection):
            self._observer.released(value)
        self._stats.evicted_keys += 1
        self._observer.removed(self.index, key)
        if self._observer.event_classes & NOTIFY_EVICTED:
            self._observer.event(self.index, NOTIFY_EVICTED, b"evicted", key)

    def random_key(self, random: Callable[[], int]) -> bytes | None:
        """A live key chosen uniformly, or None when there is none."""
        while True:
            entry = self._table.random_entry(random)
            if entry is None:
                return None
            if entry.expire_at_ms == NO_EXPIRY or entry.expire_at_ms >= self._clock.now_ms:
                return entry.key
            if self._clock.keeps_expired:
                return entry.key  # there may be no other
            self._expire(entry)

    def begin_walk(self, walk: TableWalk | None) -> Table:
        """Let somebody know of keys before they change, or nobody any more; the table as it is now.

        The walk goes with the table when the database is emptied or swapped.
        """
        self._table.walk = walk
        return self._table

    def scan(self, cursor: int, out: list[Entry], without_packed: bool = False) -> int:
        """One step of a SCAN: see Table.scan. Entries may have expired."""
        return self._table.scan(cursor, out, without_packed)

    def is_expired(self, entry: Entry) -> bool:
        return entry.expire_at_ms != NO_EXPIRY and entry.expire_at_ms < self._clock.now_ms

    def live_keys(self) -> list[bytes]:
        """All live keys, in no order."""
        return self._table.live_keys(self._clock.now_ms)

    def access_clock(self, key: bytes) -> int:
        """The access clock of key, -1 when it is not there."""
        return self._table.access_clock(key)

    def set_access_clock(self, key: bytes, clock: i64) -> None:
        """Set the access clock of key, 24 bits, if it is there."""
        self._table.set_access_clock(key, clock)

    def work(self, slots: int) -> bool:
        """A bounded piece of what can wait: resizing and packing.

        To be called between commands only, since it packs entries.

        Returns:
            Whether there is more to do.
        """
        self._found_us = self._clock.now_us
        return self._table.work(slots)

    @property
    def has_work(self) -> bool:
        """Whether `work` would do anything."""
        return self._table.has_work()

    @property
    def is_resizing(self) -> bool:
        return self._table.is_resizing

    def slots_allocated(self) -> int:
        return self._table.slots_allocated()

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        self._table.check_invariants()
        with_expiry = 0
        for entry in self._table.entries():
            assert (entry.expire_at_ms == NO_EXPIRY) == (entry.expire_index < 0)
            if entry.expire_index >= 0:
                with_expiry += 1
                assert self._expiring[entry.expire_index] is entry
        assert with_expiry == len(self._expiring)
