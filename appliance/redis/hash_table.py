"""A Robin Hood hash table that is resized a little at a time: the keyspace, and large sets and hashes.

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
Units:      slots; the access clock as in entry.py.
Invariants: `Table.check_invariants`. A key is bytes and never changes.
Errors:     none.
Not here:   a clock, and what becomes of keys that have expired (keyspace.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from librt.strings import BytesWriter
from librt.vecs import vec
from mypy_extensions import i64

from appliance.redis.entry import CLOCK_MASK, NO_EXPIRY, PACKED, Entry
from appliance.redis.replies import BULK_HEADERS, CRLF, Bulk
from appliance.redis.slices import HashKey, copy_part, is_part_equal, keyed_hash

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

# Unpacked keys that wait for `work`: beyond, the keyspace has some packed before (`has_many_unpacked`).
_MANY_UNPACKED: Final = 4096

_WRITER: Final = BytesWriter()


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
            return next_cursor(state & mask, mask)
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
            state = next_cursor(state, large)
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


def next_cursor(state: i64, mask: i64) -> i64:
    """One SCAN step: add one to the bits of `state` under `mask`, carrying from the highest bit down."""
    bit = (mask + 1) >> 1
    while state & bit != 0:
        state ^= bit
        bit >>= 1
    return state | bit
