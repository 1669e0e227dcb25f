"""Streams: entries in the order of their IDs, and groups of consumers that share them out.

An ID is a pair of unsigned 64-bit integers, milliseconds and sequence; here it is one integer,
`ms << 64 | seq`, so IDs compare, and the next ID is one more.

    Stream -> IdMap of Block (by the ID of its first entry) -> entries, each a run of listpack elements
    Stream -> Group -> IdMap of Nack (the pending entries list), Consumer -> IdMap of IDs

Redis keeps entries in nodes of limited size, each a listpack: first a master entry (how many entries live,
how many are deleted, the fields of the first one), then the entries, their IDs as differences to the first
ID, and without the fields when these are the master's. What is approximate about `MAXLEN ~` is that only
whole nodes leave, and a node is full by its size in bytes: so the size of the listpack has to be known
exactly, and a Block keeps the very bytes, one element run per entry. DUMP only joins them.

    entry:  flags, ms - first ms, seq - first seq, [number of fields], [field,] value ..., number of elements

A deleted entry is flagged and stays until the last living one of its block is deleted.

Source:     https://redis.io/docs/latest/develop/data-types/streams/; the shape of nodes and the moment at
            which they are full from the dumps and XINFO of redis-server 8.2.
Units:      milliseconds of Unix time (delivery, seen, active).
Invariants: `check_invariants`. No block is without an entry, living or deleted. A Nack is in the map of its
            group, its ID in the map of its consumer: consumers refer to no Nack, so there is no cycle.
Errors:     none; the commands check what clients send.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from appliance.redis.integers import U64_MAX
from appliance.redis.listpack import (
    HEADER_SIZE,
    element_size,
    integer_at,
    integer_size,
    listpack,
    string_at,
    write_integer,
    write_string,
)
from appliance.redis.replies import integer_text
from appliance.redis.types.collection import Collection, EncodingLimits
from appliance.redis.types.id_map import IdMap

MAX_ID: Final = (1 << 128) - 1
# No node is larger than this, whatever stream-node-max-bytes says; nor are the strings of one entry together.
MAX_NODE_BYTES: Final = 1 << 30
# Group.entries_read: not known.
UNKNOWN_READ: Final = -1

DELETED: Final = 1
SAME_FIELDS: Final = 2

_SMALL_INTEGERS: Final = 128
_FLAG_SIZE: Final = 2  # flags are below 128: an element of two bytes
_DASH: Final = b"-"
# The ends of most IDs, and integers that compiled code compares without looking inside.
_ENDINGS: Final = [b"-%d" % number for number in range(64)]
_SHORT: Final = (1 << 61) - 1

# What XDELEX, XACKDEL and trimming do about groups that know of a deleted entry.
KEEP_REFERENCES: Final = 0
DELETE_REFERENCES: Final = 1
ONLY_ACKNOWLEDGED: Final = 2

TRIM_NONE: Final = 0
TRIM_MAXLEN: Final = 1
TRIM_MINID: Final = 2

_OUT: Final = BytesWriter()

# Trimming frees so many entries on the spot; more are left to whoever asked for it.
_WORTH_DISCARDING: Final = 1000


def make_id(ms: int, seq: int) -> int:
    return ms << 64 | seq


def id_text(entry_id: int) -> bytes:
    """`ms-seq`."""
    seq = entry_id & U64_MAX
    if seq < len(_ENDINGS):
        return integer_text(entry_id >> 64) + _ENDINGS[seq]
    return integer_text(entry_id >> 64) + _DASH + integer_text(seq)


def _signed(difference: int) -> int:
    """A difference of unsigned 64-bit integers as the signed one with the same bits."""
    if -0x8000_0000_0000_0000 <= difference <= 0x7FFF_FFFF_FFFF_FFFF:
        return difference
    difference &= U64_MAX
    return difference - (1 << 64) if difference >> 63 else difference


class Block:
    """One node: entries with neighbouring IDs."""

    def __init__(self, ms: int, seq: int, fields: list[bytes], master: bytes) -> None:
        """A block without entries.

        Args:
            ms: of the first ID.
            seq: of the first ID.
            fields: the master entry's.
            master: the elements of the master entry from the number of fields on.
        """
        self.ms = ms
        self.seq = seq
        self.fields = fields
        self.master = master
        self.entries: list[bytes] = []
        self.live: i64 = 0
        self.deleted: i64 = 0
        self.entries_size: i64 = 0

    def first_id(self) -> int:
        """The key of the block; the entry of that ID may be deleted."""
        return self.ms << 64 | self.seq

    def listpack_size(self) -> i64:
        counts = integer_size(self.live) + integer_size(self.deleted)
        size: i64 = len(self.master)
        return HEADER_SIZE + counts + size + self.entries_size + 1

    def id_at(self, index: i64) -> int:
        """The ID of an entry, dead or alive."""
        entry = self.entries[index]
        at: i64 = _FLAG_SIZE
        ms = integer_at(entry, at)
        seq = integer_at(entry, at + element_size(entry, at))
        return ((self.ms + ms) & U64_MAX) << 64 | ((self.seq + seq) & U64_MAX)

    def index_of(self, entry_id: int) -> i64:
        """The index of the first entry whose ID is not below."""
        low: i64 = 0
        high: i64 = len(self.entries)
        while low < high:
            middle = (low + high) >> 1
            if self.id_at(middle) < entry_id:
                low = middle + 1
            else:
                high = middle
        return low

    def is_deleted(self, index: i64) -> bool:
        flags: i64 = self.entries[index][0]
        return flags & DELETED != 0

    def mark_deleted(self, index: i64) -> None:
        entry = self.entries[index]
        flags: i64 = entry[0]
        self.entries[index] = bytes((flags | DELETED,)) + entry[1:]
        self.live -= 1
        self.deleted += 1

    def reply_at(self, index: i64) -> list[object]:
        """An entry as XRANGE gives it: its ID, and fields and values in turn."""
        entry = self.entries[index]
        flags: i64 = entry[0]
        at: i64 = _FLAG_SIZE
        ms = self.ms
        seq = self.seq
        small: i64 = entry[at]
        if small < _SMALL_INTEGERS:  # mostly: an element of two bytes
            ms += small
            at += 2
        else:
            ms += integer_at(entry, at)
            at += element_size(entry, at)
        small = entry[at]
        if small < _SMALL_INTEGERS:
            seq += small
            at += 2
        else:
            seq += integer_at(entry, at)
            at += element_size(entry, at)
        pairs: list[object]
        if flags & SAME_FIELDS:
            fields = self.fields
            count: i64 = len(fields)
            if count == 1:
                pairs = [fields[0], string_at(entry, at)]
            else:
                pairs = []
                place: i64 = 0
                while place < count:
                    pairs.append(fields[place])
                    pairs.append(string_at(entry, at))
                    at += element_size(entry, at)
                    place += 1
        else:
            pairs = []
            count = integer_at(entry, at) * 2
            at += element_size(entry, at)
            while count > 0:
                pairs.append(string_at(entry, at))
                at += element_size(entry, at)
                count -= 1
        if not 0 <= ms <= _SHORT:
            ms &= U64_MAX
        if 0 <= seq < len(_ENDINGS):
            return [integer_text(ms) + _ENDINGS[seq], pairs]
        return [integer_text(ms) + _DASH + integer_text(seq & U64_MAX), pairs]

    def to_listpack(self) -> bytes:
        """The node as DUMP writes it."""
        out = _OUT
        out.truncate(0)
        write_integer(out, self.live)
        write_integer(out, self.deleted)
        usual: i64 = 4 + len(self.fields)
        elements = usual
        for entry in self.entries:
            if entry[0] & SAME_FIELDS:
                elements += usual
            else:
                at: i64 = _FLAG_SIZE
                at += element_size(entry, at)
                at += element_size(entry, at)
                elements += 5 + 2 * integer_at(entry, at)
        return listpack(b"".join([out.getvalue(), self.master, *self.entries]), elements)

    def copy(self) -> Block:
        other = Block(self.ms, self.seq, self.fields, self.master)
        other.entries = self.entries.copy()
        other.live = self.live
        other.deleted = self.deleted
        other.entries_size = self.entries_size
        return other


def master_entry(fields: list[bytes]) -> bytes:
    """The elements of a master entry from the number of fields on."""
    out = BytesWriter()
    write_integer(out, len(fields))
    for field in fields:
        write_string(out, field)
    write_integer(out, 0)
    return out.getvalue()


class Consumer:
    """One consumer of a group."""

    def __init__(self, name: bytes, now_ms: int) -> None:
        self.name = name
        self.seen_ms = now_ms  # last attempt to do something
        self.active_ms = -1  # last time it was given an entry; -1: never
        self.pending = IdMap()  # IDs alone: the group has the Nacks


class Nack:
    """An entry that was delivered and not acknowledged."""

    def __init__(self, consumer: Consumer, delivery_ms: int, delivery_count: int) -> None:
        self.consumer = consumer
        self.delivery_ms = delivery_ms
        self.delivery_count = delivery_count


class Group:
    """A consumer group: how far it has read, and what is pending with whom."""

    def __init__(self, last_id: int, entries_read: int) -> None:
        self.last_id = last_id
        self.entries_read = entries_read
        self.pending = IdMap()
        self.consumers: dict[bytes, Consumer] = {}

    def knows_read(self, stream: Stream) -> bool:
        """Whether its count of entries read still holds: not if entries it had to read were trimmed."""
        return self.entries_read != UNKNOWN_READ and self.last_id >= stream.first_id

    def advance(self, stream: Stream, entry_id: int) -> None:
        """The next entry is delivered for the first time."""
        if self.knows_read(stream) and not stream.has_tombstones_after(self.last_id):
            self.entries_read += 1
        elif stream.entries_added > 0:
            self.entries_read = stream.entries_up_to(entry_id)
        stream.move_group(self, entry_id)

    def nack(self, entry_id: int) -> Nack | None:
        found = self.pending.get(entry_id)
        return found if isinstance(found, Nack) else None

    def acknowledge(self, entry_id: int) -> bool:
        """Forget a pending entry; whether it was one."""
        nack = self.pending.discard(entry_id)
        if not isinstance(nack, Nack):
            return False
        nack.consumer.pending.remove(entry_id)
        return True

    def assign(self, entry_id: int, nack: Nack, consumer: Consumer) -> None:
        """Give a pending entry to another consumer (or to the same)."""
        if nack.consumer is not consumer:
            nack.consumer.pending.remove(entry_id)
            consumer.pending.set(entry_id, None)
            nack.consumer = consumer

    def add_pending(self, entry_id: int, consumer: Consumer, now_ms: int) -> Nack:
        """A new pending entry, delivered once, now."""
        nack = Nack(consumer, now_ms, 1)
        self.pending.set(entry_id, nack)
        consumer.pending.set(entry_id, None)
        return nack

    def deliver(self, entry_id: int, consumer: Consumer, now_ms: int) -> None:
        """An entry goes to a consumer as new, although the group may have delivered it to another before."""
        nack = self.nack(entry_id)
        if nack is None:
            self.add_pending(entry_id, consumer, now_ms)
            return
        self.assign(entry_id, nack, consumer)
        nack.delivery_ms = now_ms
        nack.delivery_count = 1

    def delete_consumer(self, consumer: Consumer) -> int:
        """Forget a consumer and what is pending with it; how many entries that were."""
        pending = consumer.pending.keys()
        self.pending.remove_all(pending)
        del self.consumers[consumer.name]
        return len(pending)

    def names(self) -> list[bytes]:
        """The names of the consumers, in order."""
        return sorted(self.consumers)

    def copy(self) -> Group:
        other = Group(self.last_id, self.entries_read)
        for name in self.names():
            consumer = self.consumers[name]
            twin = Consumer(name, consumer.seen_ms)
            twin.active_ms = consumer.active_ms
            for entry_id in consumer.pending.keys():  # noqa: SIM118 - not a dict
                twin.pending.set(entry_id, None)
            other.consumers[name] = twin
        for entry_id in self.pending.keys():  # noqa: SIM118
            nack = self.nack(entry_id)
            if nack is not None:
                owner = other.consumers[nack.consumer.name]
                other.pending.set(entry_id, Nack(owner, nack.delivery_ms, nack.delivery_count))
        return other


class Trim:
    """What MAXLEN and MINID ask for."""

    def __init__(self) -> None:
        self.strategy: i64 = TRIM_NONE
        self.is_approximate = False
        self.maxlen: i64 = 0
        self.minid = 0
        self.limit: i64 = 0  # entries; 0: none
        self.references: i64 = KEEP_REFERENCES
        self.discarded: Stream | None = (
            None  # what was cut off, when it is much: to be released without haste
        )


class Stream(Collection):
    """The value of a stream key."""

    def __init__(self, limits: EncodingLimits) -> None:
        super().__init__(limits)
        self.length: i64 = 0
        self.last_ms = 0
        self.last_seq = 0
        self.first_id = 0  # of the first living entry; 0 when there is none
        self.max_deleted_id = 0
        self.entries_added = 0
        self.blocks = IdMap()
        self.groups: dict[bytes, Group] = {}
        self._tail: Block | None = None  # the last block
        self._slowest_id = 0  # the smallest last ID of the groups: see is_referenced
        self._slowest_is_known = False

    def __len__(self) -> int:
        return self.length

    def __repr__(self) -> str:
        return f"Stream({self.length} entries, {len(self.groups)} groups)"

    def type_name(self) -> bytes:
        return b"stream"

    def encoding(self) -> bytes:
        return b"stream"

    @property
    def last_id(self) -> int:
        """The largest ID ever given."""
        return self.last_ms << 64 | self.last_seq

    @last_id.setter
    def last_id(self, entry_id: int) -> None:
        self.last_ms = entry_id >> 64
        self.last_seq = entry_id & U64_MAX

    # Adding ---------------------------------------------------------------------------------------

    def is_unused(self) -> bool:
        """Whether nothing was ever put into it."""
        return self.last_ms == 0 and self.last_seq == 0 and len(self.groups) == 0

    def append(self, ms: int, seq: int, args: list[bytes], first: i64) -> bool:
        """Add an entry whose ID is larger than any before; False if it is too large for a stream.

        Args:
            ms: of the ID.
            seq: of the ID.
            args: the request.
            first: from here on it is fields and values in turn.
        """
        count: i64 = len(args)
        strings: i64 = 0
        at = first
        while at < count:
            length: i64 = len(args[at])
            strings += length
            at += 1
        if strings > MAX_NODE_BYTES:
            return False
        block = self._tail
        if block is None or self._is_full(block, strings):
            block = self._new_block(ms, seq, args, first)
            same = True
        else:
            if self.walk is not None:
                self.walk.changing_node(block)
            same = _same_fields(block.fields, args, first)
        out = _OUT
        out.truncate(0)
        out.append(SAME_FIELDS if same else 0)
        out.append(1)
        write_integer(out, _signed(ms - block.ms))
        write_integer(out, _signed(seq - block.seq))
        fields = (count - first) >> 1
        if same:
            at = first + 1
            while at < count:
                write_string(out, args[at])
                at += 2
            write_integer(out, fields + 3)
        else:
            write_integer(out, fields)
            at = first
            while at < count:
                write_string(out, args[at])
                at += 1
            write_integer(out, 2 * fields + 4)
        entry = out.getvalue()
        block.entries.append(entry)
        block.live += 1
        size: i64 = len(entry)
        block.entries_size += size
        self.length += 1
        self.entries_added += 1
        self.last_ms = ms
        self.last_seq = seq
        if self.length == 1:
            self.first_id = ms << 64 | seq
        return True

    def _is_full(self, block: Block, strings: i64) -> bool:
        """Whether an entry with strings of that many bytes in all begins a new block."""
        limit = self.limits.stream_node_max_bytes
        if limit == 0 or limit > MAX_NODE_BYTES:
            limit = MAX_NODE_BYTES
        if block.listpack_size() + strings >= limit:
            return True
        entries = self.limits.stream_node_max_entries
        return entries != 0 and block.live + block.deleted >= entries

    def _new_block(self, ms: int, seq: int, args: list[bytes], first: i64) -> Block:
        fields = args[first::2]
        last = self._tail
        if last is not None and last.fields == fields:  # share them: a stream's entries are mostly alike
            block = Block(ms, seq, last.fields, last.master)
        else:
            block = Block(ms, seq, fields, master_entry(fields))
        self.add_block(block)
        return block

    def add_block(self, block: Block) -> None:
        """Put a block at the end."""
        self.blocks.set(block.first_id(), block)
        self._tail = block

    def nodes(self) -> list[Block]:
        """All blocks in order. O(n), for what looks at all of them anyway."""
        found: list[Block] = []
        start = 0
        while True:
            keys, blocks = self.blocks.piece(start)
            if len(keys) == 0:
                return found
            for block in blocks:
                assert isinstance(block, Block)
                found.append(block)
            start = keys[len(keys) - 1] + 1

    # Reading --------------------------------------------------------------------------------------

    def _block_of(self, entry_id: int) -> Block | None:
        """The block in which an entry of that ID would be."""
        found = self.blocks.floor_value(entry_id)
        return found if isinstance(found, Block) else None

    def find(self, entry_id: int) -> tuple[Block, i64] | None:
        """Where a living entry is."""
        if self.length == 0:
            return None
        block = self._block_of(entry_id)
        if block is None:
            return None
        index = block.index_of(entry_id)
        if index == len(block.entries) or block.id_at(index) != entry_id or block.is_deleted(index):
            return None
        return block, index

    def contains(self, entry_id: int) -> bool:
        return self.find(entry_id) is not None

    def entry(self, entry_id: int) -> list[object] | None:
        """A living entry as XRANGE gives it."""
        found = self.find(entry_id)
        return None if found is None else found[0].reply_at(found[1])

    def range(
        self, start: int, end: int, count: i64, out: list[object], ids: list[int] | None = None
    ) -> None:
        """Append the living entries from `start` to `end`, both included, as XRANGE gives them.

        Args:
            start: the first ID.
            end: the last ID.
            count: no more than this; 0: all.
            out: gets the replies.
            ids: gets their IDs, if wanted.
        """
        if start > end or self.length == 0:
            return
        block = self._block_of(start)
        next_start = start if block is None else block.first_id()
        limit: i64 = 2 if 0 < count <= 10 else 64
        left = count
        is_first = True
        while True:
            keys, blocks = self.blocks.piece(next_start, limit)
            if len(keys) == 0:
                return
            for item in blocks:
                if not isinstance(item, Block):
                    continue
                size: i64 = len(item.entries)
                index: i64 = 0
                if is_first:
                    index = item.index_of(start)
                    is_first = False
                stop = size if end == MAX_ID else item.index_of(end + 1)
                while index < stop:
                    if not item.is_deleted(index):
                        out.append(item.reply_at(index))
                        if ids is not None:
                            ids.append(item.id_at(index))
                        if left > 0:
                            left -= 1
                            if left == 0:
                                return
                    index += 1
                if stop < size:
                    return
            next_start = keys[len(keys) - 1] + 1

    def range_reversed(self, start: int, end: int, count: i64, out: list[object]) -> None:
        """As range, from `end` down to `start`."""
        if start > end or self.length == 0:
            return
        next_end = end
        left = count
        while True:
            keys, blocks = self.blocks.piece_before(next_end)
            at: i64 = len(keys)
            if at == 0:
                return
            while at > 0:
                at -= 1
                item = blocks[at]
                if not isinstance(item, Block):
                    continue
                size: i64 = len(item.entries)
                index = size if end == MAX_ID else item.index_of(end + 1)
                stop = item.index_of(start)
                while index > stop:
                    index -= 1
                    if not item.is_deleted(index):
                        out.append(item.reply_at(index))
                        if left > 0:
                            left -= 1
                            if left == 0:
                                return
                if stop > 0:
                    return
            next_end = keys[0] - 1

    def first_living(self) -> int:
        """The ID of the first living entry; 0 when there is none."""
        if self.length == 0:
            return 0
        start = 0
        while True:
            keys, blocks = self.blocks.piece(start, 1)
            block = blocks[0]
            assert isinstance(block, Block)
            if block.live > 0:
                index: i64 = 0
                while block.is_deleted(index):
                    index += 1
                return block.id_at(index)
            start = keys[0] + 1

    def last_living(self) -> int:
        """The ID of the last living entry; 0 when there is none."""
        block = self._tail
        if block is None or self.length == 0:
            return 0
        while block.live == 0:
            found = self.blocks.floor_value(block.first_id() - 1)
            assert isinstance(found, Block)
            block = found
        index: i64 = len(block.entries) - 1
        while block.is_deleted(index):
            index -= 1
        return block.id_at(index)

    # Deleting -------------------------------------------------------------------------------------

    def delete(self, entry_id: int) -> bool:
        """Delete an entry; whether it was there. The caller sees to `first_id` and `max_deleted_id`."""
        found = self.find(entry_id)
        if found is None:
            return False
        block, index = found
        if block.live == 1:
            self._remove_block(block)
        else:
            if self.walk is not None:
                self.walk.changing_node(block)
            block.mark_deleted(index)
        self.length -= 1
        return True

    def _remove_block(self, block: Block) -> None:
        self.blocks.remove(block.first_id())
        if block is self._tail:
            last = self.blocks.last_value()
            self._tail = last if isinstance(last, Block) else None

    def deleted(self, entry_id: int) -> bool:
        """Book a deletion by a client; whether the first entry is another one now (see refresh_first)."""
        if entry_id > self.max_deleted_id:
            self.max_deleted_id = entry_id
        return entry_id == self.first_id

    def refresh_first(self) -> None:
        """Look anew which entry is the first."""
        self.first_id = self.first_living()

    def is_referenced(self, entry_id: int) -> bool:
        """Whether a group has still to read an entry, or to acknowledge it.

        What the slowest group has read is remembered from one question to the next, as in redis-server: also
        when that group has been destroyed meanwhile, until a new one is created.
        """
        if len(self.groups) == 0:
            return False
        if not self._slowest_is_known:
            self._slowest_id = min([group.last_id for group in self.groups.values()])
            self._slowest_is_known = True
        if entry_id > self._slowest_id:
            return True
        return any(group.pending.contains(entry_id) for group in self.groups.values())

    def add_group(self, name: bytes, group: Group) -> None:
        """Put in a new group."""
        self.groups[name] = group
        self._slowest_is_known = False

    def move_group(self, group: Group, last_id: int) -> None:
        """Say that a group has read up to an ID."""
        if self._slowest_is_known:
            if group.last_id == self._slowest_id:
                self._slowest_is_known = False
            elif last_id < self._slowest_id:
                self._slowest_id = last_id
        group.last_id = last_id

    def delete_references(self, entry_id: int) -> None:
        """Let every group forget that an entry is pending."""
        for group in self.groups.values():
            group.acknowledge(entry_id)

    def trim(self, trim: Trim) -> i64:
        """Delete entries from the front, as far as asked for; how many."""
        deleted: i64 = 0
        if trim.references == KEEP_REFERENCES:
            deleted = self._cut_blocks(trim)
        if not trim.is_approximate:
            deleted += self._trim_blocks(trim)
        if deleted > 0:
            self.refresh_first()
        return deleted

    def _goes_whole(self, block: Block, length: i64, trim: Trim) -> bool:
        """Whether all entries of the first block are to go, when the stream has that many."""
        if trim.strategy == TRIM_MAXLEN:
            return length > trim.maxlen and length - block.live >= trim.maxlen
        return block.id_at(len(block.entries) - 1) < trim.minid

    def _cut_blocks(self, trim: Trim) -> i64:
        """Take whole blocks off the front, as far as asked for; how many living entries they had."""
        length = self.length
        deleted: i64 = 0
        entries: i64 = 0
        last: Block | None = None
        start = 0
        limit: i64 = 1  # mostly one block goes, or none
        is_done = False
        while not is_done:
            keys, blocks = self.blocks.piece(start, limit)
            if len(keys) == 0:
                break
            for block in blocks:
                assert isinstance(block, Block)
                if trim.limit != 0 and deleted + block.live > trim.limit:
                    is_done = True
                    break
                if not self._goes_whole(block, length, trim):
                    is_done = True
                    break
                length -= block.live
                deleted += block.live
                entries += len(block.entries)
                last = block
            start = keys[len(keys) - 1] + 1
            limit = 64
        if last is None:
            return 0
        self.length = length
        if entries <= _WORTH_DISCARDING:
            while entries > 0:
                first = self.blocks.piece(0, 1)[1][0]
                assert isinstance(first, Block)
                entries -= len(first.entries)
                self._remove_block(first)
            return deleted
        discarded = Stream(self.limits)
        discarded.blocks = self.blocks.take_up_to(last.first_id())
        discarded.length = entries
        trim.discarded = discarded
        if last is self._tail:
            self._tail = None
        return deleted

    def _trim_blocks(self, trim: Trim) -> i64:
        """Delete entries inside of the first blocks, as far as asked for; how many."""
        deleted: i64 = 0
        next_start = 0
        while trim.strategy != TRIM_MAXLEN or self.length > trim.maxlen:
            _, blocks = self.blocks.piece(next_start, 1)
            if len(blocks) == 0:
                break
            block = blocks[0]
            assert isinstance(block, Block)
            next_start = block.first_id() + 1
            is_whole = self._goes_whole(block, self.length, trim)
            deleted += self._trim_inside(block, trim)
            if not is_whole:
                break  # also if nothing in it lives any more: the reference leaves such a node, and so do we
            if block.live == 0:
                self._remove_block(block)
        return deleted

    def _trim_inside(self, block: Block, trim: Trim) -> i64:
        """Delete entries of one block, as far as asked for; how many."""
        deleted: i64 = 0
        index: i64 = 0
        size: i64 = len(block.entries)
        while index < size:
            entry_id = block.id_at(index)
            if trim.strategy == TRIM_MAXLEN:
                if self.length <= trim.maxlen:
                    break
            elif entry_id >= trim.minid:
                break
            if not block.is_deleted(index):
                if trim.references == ONLY_ACKNOWLEDGED and self.is_referenced(entry_id):
                    index += 1
                    continue
                if trim.references == DELETE_REFERENCES:
                    self.delete_references(entry_id)
                if self.walk is not None:
                    self.walk.changing_node(block)
                block.mark_deleted(index)
                self.length -= 1
                deleted += 1
            index += 1
        return deleted

    # Counting -------------------------------------------------------------------------------------

    def has_tombstones_after(self, entry_id: int) -> bool:
        """Whether an entry with this ID or a larger one was deleted by a client, as far as is known."""
        if self.length == 0 or self.max_deleted_id == 0 or self.first_id > self.max_deleted_id:
            return False
        return entry_id <= self.max_deleted_id

    def entries_up_to(self, entry_id: int) -> int:
        """How many entries were ever added up to this ID; UNKNOWN_READ when that cannot be told."""
        if self.entries_added == 0:
            return 0
        last = self.last_id
        if self.length == 0 and entry_id <= last:
            return self.entries_added
        if entry_id == last:
            return self.entries_added
        if entry_id > last:
            return UNKNOWN_READ
        if self.max_deleted_id == 0 or self.max_deleted_id < self.first_id:
            if entry_id < self.first_id:
                return self.entries_added - self.length
            if entry_id == self.first_id:
                return self.entries_added - self.length + 1
        return UNKNOWN_READ

    def lag(self, group: Group) -> int | None:
        """Entries that a group has still to read; None when that cannot be told."""
        if self.entries_added == 0 or self.length == 0:
            return 0
        if group.knows_read(self) and not self.has_tombstones_after(group.last_id):
            return self.entries_added - group.entries_read
        read = self.entries_up_to(group.last_id)
        return None if read == UNKNOWN_READ else self.entries_added - read

    def radix_tree_nodes(self) -> int:
        """Nodes of the radix tree in which redis-server would keep our blocks.

        Its keys are the 16 bytes of IDs. A node is a leaf, a branch, or a run of bytes without a branch; so
        the count follows from how many bytes neighbouring keys have in common. O(blocks).
        """
        keys = self.blocks.keys()
        if len(keys) == 0:
            return 1
        nodes = 0
        open_branches: list[int] = []  # depths of the branches above the key before, the deepest last
        previous = -1
        for key in keys:
            if previous < 0:
                previous = key
                continue
            common = _common_bytes(previous, key)
            previous = key
            # What lies deeper than this branch is closed: below the deepest there is the last key's own run.
            below = 16
            while len(open_branches) > 0 and open_branches[len(open_branches) - 1] > common:
                depth = open_branches.pop()
                nodes += 1 + (1 if below > depth + 1 else 0)
                below = depth
            nodes += 1 if below > common + 1 else 0
            if len(open_branches) == 0 or open_branches[len(open_branches) - 1] < common:
                open_branches.append(common)
        below = 16
        while len(open_branches) > 0:
            depth = open_branches.pop()
            nodes += 1 + (1 if below > depth + 1 else 0)
            below = depth
        return nodes + (1 if below > 0 else 0) + len(keys)

    # As a collection ------------------------------------------------------------------------------

    def copy(self) -> Stream:
        other = Stream(self.limits)
        other.length = self.length
        other.last_ms = self.last_ms
        other.last_seq = self.last_seq
        other.first_id = self.first_id
        other.max_deleted_id = self.max_deleted_id
        other.entries_added = self.entries_added
        for block in self.nodes():
            other.add_block(block.copy())
        for name, group in self.groups.items():
            other.groups[name] = group.copy()
        return other

    def memory_usage(self, samples: int) -> int:
        total = 200 + self.blocks.memory_usage()
        size = 0
        looked = 0
        start = 0
        wanted = len(self.blocks) if samples == 0 else samples
        while looked < wanted:
            keys, blocks = self.blocks.piece(start, min(wanted - looked, 512))
            if len(keys) == 0:
                break
            for block in blocks:
                if isinstance(block, Block):
                    size += 200 + len(block.master) + block.entries_size + 48 * len(block.entries)
                    looked += 1
            start = keys[len(keys) - 1] + 1
        if looked > 0:
            total += size * len(self.blocks) // looked
        for name, group in self.groups.items():
            total += 250 + len(name) + group.pending.memory_usage() + 72 * len(group.pending)
            for consumer in group.consumers.values():
                total += 250 + len(consumer.name) + consumer.pending.memory_usage()
        return total

    def release(self, budget: int) -> int:
        left: i64 = budget
        while left > 0 and len(self.blocks) > 0:
            last = self.blocks.last_value()
            if isinstance(last, Block):
                left -= len(last.entries)
                self.blocks.remove(last.first_id())
        self._tail = None
        while left > 0 and len(self.groups) > 0:
            name = next(iter(self.groups))
            group = self.groups[name]
            left -= release_group(group, left)
            if len(group.pending) == 0 and len(group.consumers) == 0:
                del self.groups[name]
        if left > 0:
            self.length = 0
            return 0
        remaining = len(self.blocks) * 100 + 1
        for group in self.groups.values():
            remaining += len(group.pending)
            for consumer in group.consumers.values():
                remaining += len(consumer.pending) + 1
        return remaining

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        self.blocks.check_invariants()
        living = 0
        previous = -1
        tail: Block | None = None
        for key in self.blocks.keys():  # noqa: SIM118
            block = self.blocks.get(key)
            assert isinstance(block, Block)
            tail = block
            assert block.first_id() == key
            assert block.entries
            assert block.live + block.deleted == len(block.entries)
            assert block.entries_size == sum(len(entry) for entry in block.entries)
            assert block.listpack_size() == len(block.to_listpack())
            dead = 0
            for index in range(len(block.entries)):
                assert previous < block.id_at(index) <= self.last_id
                previous = block.id_at(index)
                dead += block.is_deleted(index)
            assert dead == block.deleted
            living += block.live
        assert self._tail is tail
        assert living == self.length
        assert self.first_id == self.first_living()
        for group in self.groups.values():
            group.pending.check_invariants()
            owned = 0
            for name, consumer in group.consumers.items():
                assert consumer.name == name
                consumer.pending.check_invariants()
                owned += len(consumer.pending)
                for entry_id in consumer.pending.keys():  # noqa: SIM118
                    nack = group.nack(entry_id)
                    assert nack is not None
                    assert nack.consumer is consumer
            assert owned == len(group.pending)


def release_group(group: Group, budget: i64) -> i64:
    """Let go of about that many pending entries of a group that is gone; of how many."""
    released: i64 = 0
    while released < budget and len(group.pending) > 0:
        released += group.pending.drop_chunk()
    while released < budget and len(group.consumers) > 0:
        name = next(iter(group.consumers))
        consumer = group.consumers[name]
        released += 1 + consumer.pending.drop_chunk()
        if len(consumer.pending) == 0:
            del group.consumers[name]
    return released


def _same_fields(fields: list[bytes], args: list[bytes], first: i64) -> bool:
    count: i64 = len(fields)
    if first + 2 * count != len(args):
        return False
    index: i64 = 0
    while index < count:
        if fields[index] != args[first + 2 * index]:
            return False
        index += 1
    return True


def _common_bytes(one: int, other: int) -> int:
    """How many leading bytes the 16 bytes of two different IDs have in common."""
    return 16 - ((one ^ other).bit_length() + 7) // 8
