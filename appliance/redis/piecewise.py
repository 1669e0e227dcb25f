"""Values written into a file a piece at a time, as they were when that began, while others change them.

    small values                     at once, by dump.py
    long strings                     in slices, without compression
    lists                            node by node, from a copy, which shares what neither has changed
    sets, hashes, sorted sets        element by element, in SCAN's order
    streams                          node by node, then what is pending

An element's place in SCAN's order is its hash with the bits reversed, whatever size the table has; the walk
remembers how far it has come. A collection whose `walk` is set tells of each element before it changes, comes
or goes. If its place is ahead, it is written then, and passed over later; one that is new is passed over too.
So the number of elements, which comes first in the file, is the one at the beginning.

What is told before the turn of a value has come is kept (`ahead`), since nothing may come between the
elements of the value whose turn it is.

A stream's nodes are listed at the beginning; one that is about to change is packed then. Its groups are
written last. Until then a command that looks the stream up has them written at once (`settle`).

Source:     the format is dump.py's.
Units:      a step costs about as much as so many elements looked at or written.
Invariants: as much comes out as was said at the beginning. `walk` of a collection is set from `piecewise` to
            `close`.
Errors:     none.
Not here:   which value comes when: snapshot.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, write_f64_le, write_i64_le
from mypy_extensions import i64

from appliance.redis.dump import (
    TYPE_HASH,
    TYPE_HASH_EXPIRING,
    TYPE_LIST_QUICKLIST_2,
    TYPE_SET,
    TYPE_STREAM_3,
    TYPE_STRING,
    TYPE_ZSET_2,
    write_block,
    write_consumer,
    write_facts,
    write_group,
    write_id,
    write_length,
    write_node,
    write_pending,
    write_string,
    write_type,
)
from appliance.redis.types.collection import Collection, ElementWalk
from appliance.redis.types.hashes import HASHTABLE as HASH_HASHTABLE, NEVER, Hash
from appliance.redis.types.lists import ListValue, Node
from appliance.redis.types.sets import HASHTABLE as SET_HASHTABLE, Set
from appliance.redis.types.sorted_sets import Member, MemberIndex, SortedSet
from appliance.redis.types.streams import Block, Group, Stream
from appliance.redis.values import StringBuffer

if TYPE_CHECKING:
    from appliance.redis.entry import Entry
    from appliance.redis.hash_table import Table

WORTH_PIECES: Final = 1024
"""Elements from which on a value is written in pieces."""

LONG_STRING: Final = 256 * 1024
"""Bytes from which on a string is, and so is not compressed."""

_SLICE: Final = 64 * 1024
_PENDING_AT_ONCE: Final = 256
_NODE_COST: Final = 64
_END_OF_WALK: Final = 1 << 32


def reversed_bits(number: i64) -> i64:
    """32 bits, the last one first."""
    x = number
    x = (x & 0x5555_5555) << 1 | (x >> 1) & 0x5555_5555
    x = (x & 0x3333_3333) << 2 | (x >> 2) & 0x3333_3333
    x = (x & 0x0F0F_0F0F) << 4 | (x >> 4) & 0x0F0F_0F0F
    x = (x & 0x00FF_00FF) << 8 | (x >> 8) & 0x00FF_00FF
    return (x & 0xFFFF) << 16 | x >> 16


class Piecewise(ElementWalk):
    """One value on its way.

    Use: `begin` when its turn has come, `step` until `is_over`, `close` in any case.
    """

    def __init__(self, value: Collection | None) -> None:
        super().__init__()
        self.ahead = BytesWriter()  # what had to be written before its turn
        self.is_over = False
        self._value = value
        self._out: BytesWriter = self.ahead
        if value is not None:
            value.walk = self

    def begin(self, out: BytesWriter, key: bytes) -> None:
        """Write what comes first, and from now on to `out`."""
        self.write_head(out, key)
        out.write(self.ahead.getvalue())
        self.ahead.truncate(0)
        self._out = out

    def write_head(self, out: BytesWriter, key: bytes) -> None:
        """The type, the key, and how much follows."""
        raise NotImplementedError

    def step(self) -> i64:
        """Write some more; what it has cost."""
        raise NotImplementedError

    def settle(self) -> None:
        """The key is being looked up."""

    def close(self) -> Collection | None:
        """Nothing more is wanted. Gives a value whose key has gone meanwhile, to be released."""
        value = self._value
        self._value = None
        if value is None:
            return None
        value.walk = None
        return value if self.is_let_go else None


def piecewise(value: object) -> Piecewise | None:
    """The value as it is now, to be written in pieces; None when it is not worth while."""
    if isinstance(value, Collection):
        if isinstance(value, Stream):
            return _StreamWriter(value) if _weight(value) > WORTH_PIECES else None
        if len(value) <= WORTH_PIECES:
            return None
        if isinstance(value, ListValue):
            return _ListWriter(value)
        if isinstance(value, Set):
            return _SetWriter(value) if value.encoding_id == SET_HASHTABLE else None
        if isinstance(value, Hash):
            return _HashWriter(value) if value.encoding_id == HASH_HASHTABLE else None
        if isinstance(value, SortedSet):
            return None if value.is_listpack else _SortedSetWriter(value)
    elif isinstance(value, bytes):
        return _StringWriter(value) if len(value) > LONG_STRING else None
    elif isinstance(value, StringBuffer) and len(value.data) > LONG_STRING:
        return _StringWriter(bytes(value.data))
    return None


def _weight(value: Stream) -> i64:
    count: i64 = len(value)
    for group in value.groups.values():
        count += len(group.pending)
    return count


class _StringWriter(Piecewise):
    def __init__(self, text: bytes) -> None:
        super().__init__(None)
        self._text = text
        self._at: i64 = 0

    def write_head(self, out: BytesWriter, key: bytes) -> None:
        write_type(out, TYPE_STRING, key)
        write_length(out, len(self._text))

    def step(self) -> i64:
        at = self._at
        self._out.write(self._text[at : at + _SLICE])
        self._at = at + _SLICE
        self.is_over = self._at >= len(self._text)
        return 1


class _ListWriter(Piecewise):
    def __init__(self, value: ListValue) -> None:
        super().__init__(None)
        copy = value.copy()
        self._nodes: list[Node] = copy.nodes()
        self._at: i64 = 0

    def write_head(self, out: BytesWriter, key: bytes) -> None:
        write_type(out, TYPE_LIST_QUICKLIST_2, key)
        write_length(out, len(self._nodes))

    def step(self) -> i64:
        node = self._nodes[self._at]
        write_node(self._out, node)
        self._at += 1
        self.is_over = self._at == len(self._nodes)
        return 1 + (node.count() >> 2)


# Elements by name ---------------------------------------------------------------------------------


class _TableWriter(Piecewise):
    """Of a set or a hash."""

    def __init__(self, value: Collection, table: Table) -> None:
        super().__init__(value)
        self._table = table
        self._count = len(table)
        self._cursor: i64 = 0
        self._place: i64 = 0
        self._passed_over: set[bytes] = set()

    def write_element(self, entry: Entry) -> None:
        raise NotImplementedError

    def _is_behind(self, name: bytes) -> bool:
        """Whether an element has been written or is passed over; from now on it is."""
        if reversed_bits(self._table.hash_of(name)) < self._place or name in self._passed_over:
            return True
        self._passed_over.add(name)
        return False

    def changing(self, name: bytes) -> None:
        if not self._is_behind(name):
            entry = self._table.find(name)
            if entry is not None:
                self.write_element(entry)

    def step(self) -> i64:
        found: list[Entry] = []
        table = self._table
        self._cursor = table.scan(self._cursor, found)
        place = self._place
        for entry in found:
            # After the table has shrunk a step sees elements again.
            if reversed_bits(table.hash_of(entry.key)) >= place and entry.key not in self._passed_over:
                self.write_element(entry)
        self._place = _END_OF_WALK if self._cursor == 0 else reversed_bits(self._cursor)
        self.is_over = self._cursor == 0
        count: i64 = len(found)
        return 1 + count


class _SetWriter(_TableWriter):
    def __init__(self, value: Set) -> None:
        super().__init__(value, value.table)

    def write_head(self, out: BytesWriter, key: bytes) -> None:
        write_type(out, TYPE_SET, key)
        write_length(out, self._count)

    def write_element(self, entry: Entry) -> None:
        write_string(self._out, entry.key)

    def gone(self, name: bytes) -> None:
        if not self._is_behind(name):
            write_string(self._out, name)


class _HashWriter(_TableWriter):
    def __init__(self, value: Hash) -> None:
        super().__init__(value, value.table)
        self._earliest: i64 = value.next_expiry_ms

    def write_head(self, out: BytesWriter, key: bytes) -> None:
        if self._earliest == NEVER:
            write_type(out, TYPE_HASH, key)
        else:
            write_type(out, TYPE_HASH_EXPIRING, key)
            write_i64_le(out, self._earliest)
        write_length(out, self._count)

    def write_element(self, entry: Entry) -> None:
        out = self._out
        if self._earliest != NEVER:
            write_length(out, 0 if entry.expire_index < 0 else entry.expire_at_ms - self._earliest + 1)
        write_string(out, entry.key)
        value = entry.value
        assert isinstance(value, bytes)
        write_string(out, value)


class _SortedSetWriter(Piecewise):
    def __init__(self, value: SortedSet) -> None:
        super().__init__(value)
        self._index: MemberIndex = value.index
        self._count = len(value)
        self._cursor = 0
        self._place: i64 = 0
        self._passed_over: set[bytes] = set()

    def write_head(self, out: BytesWriter, key: bytes) -> None:
        write_type(out, TYPE_ZSET_2, key)
        write_length(out, self._count)

    def _write(self, member: Member) -> None:
        write_string(self._out, member.name)
        write_f64_le(self._out, member.score)

    def changing(self, name: bytes) -> None:
        if name in self._passed_over:
            return
        member = self._index.find(name)
        if member is None:
            self._passed_over.add(name)  # it comes: a place behind us would do no harm
        elif reversed_bits(member.hash) >= self._place:
            self._passed_over.add(name)
            self._write(member)

    def step(self) -> i64:
        found: list[Member] = []
        self._cursor = self._index.scan(self._cursor, found)
        place = self._place
        for member in found:
            if reversed_bits(member.hash) >= place and member.name not in self._passed_over:
                self._write(member)
        self._place = _END_OF_WALK if self._cursor == 0 else reversed_bits(self._cursor)
        self.is_over = self._cursor == 0
        count: i64 = len(found)
        return 1 + count


# Streams ------------------------------------------------------------------------------------------


class _StreamWriter(Piecewise):
    def __init__(self, value: Stream) -> None:
        super().__init__(value)
        self._blocks = value.nodes()
        self._at: i64 = 0
        self._next_id = self._blocks[0].first_id() if len(self._blocks) > 0 else 0
        self._last_id = self._blocks[len(self._blocks) - 1].first_id() if len(self._blocks) > 0 else -1
        self._packed: dict[int, bytes] = {}
        # What follows the blocks. Groups go aside one part after the other, so that they can be hurried.
        self._facts = BytesWriter()
        write_facts(self._facts, value)
        self._groups: list[bytes] = sorted(value.groups)
        self._stream: Stream | None = value
        self._aside = BytesWriter()
        self._group: Group | None = None
        self._consumers: list[bytes] | None = (
            None  # that are still to come, of the group; None before its pending
        )
        self._consumer = b""
        self._from_id = 0

    def write_head(self, out: BytesWriter, key: bytes) -> None:
        write_type(out, TYPE_STREAM_3, key)
        write_length(out, len(self._blocks))

    def changing_node(self, node: object) -> None:
        assert isinstance(node, Block)
        first_id = node.first_id()
        if self._at < len(self._blocks) and self._next_id <= first_id <= self._last_id:
            if first_id not in self._packed:
                self._packed[first_id] = node.to_listpack()

    def settle(self) -> None:
        while self._stream is not None:
            self._step_groups(self._aside)

    def step(self) -> i64:
        out = self._out
        if self._at < len(self._blocks):
            block = self._blocks[self._at]
            first_id = block.first_id()
            packed = self._packed.pop(first_id, None)
            write_block(out, first_id, block.to_listpack() if packed is None else packed)
            self._at += 1
            if self._at < len(self._blocks):
                self._next_id = self._blocks[self._at].first_id()
            return _NODE_COST
        if len(self._facts) > 0:
            out.write(self._facts.getvalue())
            self._facts.truncate(0)
        if len(self._aside) > 0:
            out.write(self._aside.getvalue())
            self._aside.truncate(0)
        self._step_groups(out)
        self.is_over = self._stream is None
        return _PENDING_AT_ONCE

    def _step_groups(self, out: BytesWriter) -> None:
        """Write the next part of what is pending."""
        stream = self._stream
        if stream is None:
            return
        group = self._group
        if group is None:
            if len(self._groups) == 0:
                self._stream = None
                return
            name = self._groups.pop(0)
            group = stream.groups[name]
            self._group = group
            self._consumers = None
            self._from_id = 0
            write_group(out, name, group)
        consumers = self._consumers
        if consumers is None:
            keys, _ = group.pending.piece(self._from_id, _PENDING_AT_ONCE)
            if len(keys) > 0:
                write_pending(out, group, keys)
                self._from_id = keys[len(keys) - 1] + 1
                return
            write_length(out, len(group.consumers))
            self._consumers = group.names()
            self._consumer = b""
            self._begin_consumer(out)
            return
        if len(consumers) == 0:
            self._group = None
            return
        keys, _ = group.consumers[consumers[0]].pending.piece(self._from_id, _PENDING_AT_ONCE)
        if len(keys) > 0:
            for entry_id in keys:
                write_id(out, entry_id)
            self._from_id = keys[len(keys) - 1] + 1
            return
        consumers.pop(0)
        self._begin_consumer(out)

    def _begin_consumer(self, out: BytesWriter) -> None:
        group = self._group
        consumers = self._consumers
        assert group is not None
        assert consumers is not None
        self._from_id = 0
        if len(consumers) > 0:
            write_consumer(out, group.consumers[consumers[0]])
