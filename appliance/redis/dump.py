"""DUMP and RESTORE: a value as bytes, in the form in which Redis keeps it in its files.

    type (1 byte)   value   version (2 bytes, low first)   CRC-64 of all before (8 bytes, low first)

A number is written in one byte (below 64), two (below 16384), five or nine; the two highest bits of the first
byte say which, and 11 says that a string is kept in a special way: as an integer of 8, 16 or 32 bits, or
compressed (lzf.py). Small collections are one string, a listpack or an intset; big ones a number of strings.

We write the types that redis-server 8.2 writes, byte for byte where the order of the elements is defined, and
read all that it reads: also those of Redis 2 to 7, with ziplists, zipmaps and scores as text.

Source:     https://rdb.fnordig.de/file_format.html for the older types; the dumps of redis-server for the
            others. Restoring is what tests/conformance/redis/test_conformance_dump.py compares.
Units:      milliseconds of Unix time, 64 bits, low byte first.
Errors:     PayloadError for what cannot be restored; nothing else, whatever the bytes.
Not here:   modules' values (types 6 and 7), which are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import (
    BytesWriter,
    read_f64_le,
    read_i16_le,
    read_i32_be,
    read_i32_le,
    read_i64_be,
    read_i64_le,
    write_f64_le,
    write_i16_le,
    write_i32_be,
    write_i32_le,
    write_i64_be,
    write_i64_le,
)
from librt.vecs import vec  # noqa: TC002 - compiled code needs it
from mypy_extensions import i16, i32, i64

from appliance.errors import ApplianceError
from appliance.redis import listpack as lp
from appliance.redis.crc64 import crc64
from appliance.redis.doubles import double_text
from appliance.redis.entry import NO_EXPIRY
from appliance.redis.integers import U64_MAX, parse_integer
from appliance.redis.lzf import LzfError, compress, decompress_untrusted
from appliance.redis.replies import integer_text
from appliance.redis.types.hashes import HASHTABLE as HASH_HASHTABLE, LISTPACK as HASH_LISTPACK, Hash
from appliance.redis.types.lists import ListValue, Node
from appliance.redis.types.sets import (
    HASHTABLE as SET_HASHTABLE,
    INTSET as SET_INTSET,
    LISTPACK as SET_LISTPACK,
    Set,
    intset_capacity,
)
from appliance.redis.types.sorted_sets import SortedSet
from appliance.redis.types.streams import (
    DELETED,
    SAME_FIELDS,
    UNKNOWN_READ,
    Block,
    Consumer,
    Group,
    Nack,
    Stream,
    make_id,
)
from appliance.redis.values import StringBuffer, string_value

if TYPE_CHECKING:
    from appliance.redis.types.collection import EncodingLimits

VERSION: Final = 12  # what redis-server 8.2 writes

TYPE_STRING: Final = 0
_LIST: Final = 1
TYPE_SET: Final = 2
_ZSET: Final = 3
TYPE_HASH: Final = 4
TYPE_ZSET_2: Final = 5
_HASH_ZIPMAP: Final = 9
_LIST_ZIPLIST: Final = 10
_SET_INTSET: Final = 11
_ZSET_ZIPLIST: Final = 12
_HASH_ZIPLIST: Final = 13
_LIST_QUICKLIST: Final = 14
_STREAM: Final = 15
_HASH_LISTPACK: Final = 16
_ZSET_LISTPACK: Final = 17
TYPE_LIST_QUICKLIST_2: Final = 18
_STREAM_2: Final = 19
_SET_LISTPACK: Final = 20
TYPE_STREAM_3: Final = 21
_HASH_EXPIRING_RC: Final = 22  # of the release candidates of 7.4: times are absolute
_HASH_LISTPACK_EX_RC: Final = 23
VALKEY_HASH: Final = 1022  # Valkey's 22: the times of fields are absolute, and -1 for none
TYPE_HASH_EXPIRING: Final = 24
_HASH_LISTPACK_EX: Final = 25
FUNCTION: Final = 245

FOOTER: Final = 10
_INT8: Final = 0xC0
_INT16: Final = 0xC1
_INT32: Final = 0xC2
_LZF: Final = 0xC3
# A shorter string is never compressed, a longer one never written as an integer.
_COMPRESSED_FROM: Final = 21
_INTEGER_UP_TO: Final = 11

_PLAIN_NODE: Final = 1
_PACKED_NODE: Final = 2

_ID_SIZE: Final = 16
_FAR_FROM_LONG: Final = 1 << 61
_SMALL_ELEMENT: Final = 2  # bytes of a small integer in a listpack

_PIECE: Final = 1 << 16

_BEYOND: Final = 1 << 62  # more bytes than there can be


class PayloadError(ApplianceError):
    """Bytes that are no dump of a value."""


# Writing ------------------------------------------------------------------------------------------


def write_length(out: BytesWriter, length: int) -> None:
    if length < 1 << 6:
        out.append(length)
    elif length < 1 << 14:
        out.append(0x40 | length >> 8)
        out.append(length & 0xFF)
    elif length < 1 << 32:
        out.append(0x80)
        narrow: i64 = length
        write_i32_be(out, i32(narrow if narrow < 1 << 31 else narrow - (1 << 32)))
    else:
        out.append(0x81)
        wide: i64 = length if length < 1 << 63 else length - (1 << 64)
        write_i64_be(out, wide)


def write_string(out: BytesWriter, text: bytes) -> None:
    size: i64 = len(text)
    if size <= _INTEGER_UP_TO:
        number = parse_integer(text)
        if number is not None and -(1 << 31) <= number < 1 << 31:
            _write_integer(out, number)
            return
    if size >= _COMPRESSED_FROM:
        packed = compress(text, size - 4)
        if packed is not None:
            out.append(_LZF)
            write_length(out, len(packed))
            write_length(out, size)
            out.write(packed)
            return
    write_length(out, size)
    out.write(text)


def _write_integer(out: BytesWriter, number: i64) -> None:
    if -128 <= number <= 127:
        out.append(_INT8)
        out.append(number & 0xFF)
    elif -32768 <= number <= 32767:
        out.append(_INT16)
        write_i16_le(out, i16(number))
    else:
        out.append(_INT32)
        write_i32_le(out, i32(number))


class Sink:
    """Where values are written to. What is written goes aside a piece at a time.

    One buffer that grows would be copied again and again, each time into memory that is new to the processor.
    """

    def __init__(self) -> None:
        self.out = BytesWriter()
        self._pieces: list[bytes] = []
        self._aside: i64 = 0  # bytes in them
        self._crc: i64 = 0

    def size(self) -> i64:
        """Bytes written and not taken."""
        return self._aside + len(self.out)

    def settle(self) -> None:
        """To be called now and then."""
        if len(self.out) >= _PIECE:
            self._set_aside()

    def _set_aside(self) -> None:
        piece = self.out.getvalue()
        self._crc = crc64(piece, len(piece), self._crc)
        self._pieces.append(piece)
        self._aside += len(piece)
        self.out.truncate(0)

    def checksum(self) -> i64:
        """Of all that was written, also of what has been taken."""
        self._set_aside()
        return self._crc

    def take(self) -> bytes:
        """What was written since the last call."""
        self._set_aside()
        pieces = self._pieces
        self._pieces = []
        self._aside = 0
        return b"".join(pieces)

    def finish(self) -> bytes:
        """All that was written, with the footer of a dump."""
        write_i16_le(self.out, VERSION)
        write_i64_le(self.out, self.checksum())
        return b"".join([*self._pieces, self.out.getvalue()])


def dump(value: object) -> bytes:
    """The dump of the value of a key.

    Raises:
        TypeError: it is no value of a key.
    """
    sink = Sink()
    write_value(sink, value, None)
    return sink.finish()


def write_value(sink: Sink, value: object, key: bytes | None) -> None:
    """Append the type of a value, the key if one is given, and the value.

    Raises:
        TypeError: it is no value of a key.
    """
    out = sink.out
    if isinstance(value, bytes):
        write_type(out, TYPE_STRING, key)
        write_string(out, value)
    elif isinstance(value, int):
        write_type(out, TYPE_STRING, key)
        write_string(out, integer_text(value))
    elif isinstance(value, StringBuffer):
        write_type(out, TYPE_STRING, key)
        write_string(out, bytes(value.data))
    elif isinstance(value, ListValue):
        _write_list(sink, value, key)
    elif isinstance(value, Set):
        _write_set(out, value, key)
    elif isinstance(value, SortedSet):
        _write_sorted_set(out, value, key)
    elif isinstance(value, Hash):
        _write_hash(out, value, key)
    elif isinstance(value, Stream):
        _write_stream(sink, value, key)
    else:
        raise TypeError(f"{type(value).__name__} is no value of a key")


def write_type(out: BytesWriter, kind: i64, key: bytes | None) -> None:
    """The beginning of a value: its type, and the key in a file."""
    out.append(kind)
    if key is not None:
        write_string(out, key)


def dump_functions(codes: list[bytes]) -> bytes:
    """The dump of libraries of functions (FUNCTION DUMP)."""
    sink = Sink()
    for code in codes:
        write_function(sink.out, code)
    return sink.finish()


def write_function(out: BytesWriter, code: bytes) -> None:
    """Append a library of functions."""
    out.append(FUNCTION)
    write_string(out, code)


def restore_functions(payload: bytes) -> list[bytes]:
    """The code of the libraries whose dump this is, for which `is_intact` holds.

    Raises:
        PayloadError: it is something else's.
    """
    reader = PayloadReader(payload, len(payload) - FOOTER)
    codes: list[bytes] = []
    while reader.at < reader.end:
        if reader.byte() != FUNCTION:
            raise PayloadError("given type is not a function")
        try:
            codes.append(reader.string())
        except PayloadError:
            raise PayloadError("Failed loading library code") from None
    return codes


def _write_list(sink: Sink, value: ListValue, key: bytes | None) -> None:
    out = sink.out
    write_type(out, TYPE_LIST_QUICKLIST_2, key)
    nodes = value.nodes()
    write_length(out, len(nodes))
    for node in nodes:
        write_node(out, node)
        sink.settle()


def write_node(out: BytesWriter, node: Node) -> None:
    """A node of a list."""
    if node.is_plain:
        write_length(out, _PLAIN_NODE)
        write_string(out, node.items[node.start])
    else:
        write_length(out, _PACKED_NODE)
        write_string(out, lp.pack(node.items, node.start))


def _write_set(out: BytesWriter, value: Set, key: bytes | None) -> None:
    members = value.members()
    if value.encoding_id == SET_INTSET:
        write_type(out, _SET_INTSET, key)
        write_string(out, _intset(members))
        return
    if value.encoding_id == SET_LISTPACK:
        write_type(out, _SET_LISTPACK, key)
        write_string(out, _packed(members))
        return
    write_type(out, TYPE_SET, key)
    write_length(out, len(members))
    for member in members:
        assert isinstance(member, bytes)
        write_string(out, member)


def _packed(items: list[object]) -> bytes:
    texts: list[bytes] = []
    for item in items:
        assert isinstance(item, bytes)
        texts.append(item)
    return lp.pack(texts)


def _intset(members: list[object]) -> bytes:
    """An intset: bytes per member, number of members, members in order; each low byte first."""
    numbers: list[int] = []
    width = 2
    for member in members:
        assert isinstance(member, bytes)
        number = int(member)
        numbers.append(number)
        if not -(1 << 31) <= number < 1 << 31:
            width = 8
        elif width == 2 and not -(1 << 15) <= number < 1 << 15:
            width = 4
    out = BytesWriter()
    write_i32_le(out, width)
    count: i64 = len(numbers)
    write_i32_le(out, i32(count))
    for number in numbers:
        wide: i64 = number
        if width == 2:
            write_i16_le(out, i16(wide))
        elif width == 4:
            write_i32_le(out, i32(wide))
        else:
            write_i64_le(out, wide)
    return out.getvalue()


def _write_sorted_set(out: BytesWriter, value: SortedSet, key: bytes | None) -> None:
    members = value.slice(0, len(value))
    if value.is_listpack:
        write_type(out, _ZSET_LISTPACK, key)
        texts: list[bytes] = []
        for member in members:
            texts.append(member.name)
            texts.append(double_text(member.score))
        write_string(out, lp.pack(texts))
        return
    write_type(out, TYPE_ZSET_2, key)
    at: i64 = len(members)
    write_length(out, at)
    while at > 0:  # from the highest score down
        at -= 1
        write_string(out, members[at].name)
        write_f64_le(out, members[at].score)


def _write_hash(out: BytesWriter, value: Hash, key: bytes | None) -> None:
    items = value.items(NO_EXPIRY)  # at that time nothing has expired
    if value.encoding_id == HASH_LISTPACK:
        write_type(out, _HASH_LISTPACK, key)
        write_string(out, _packed(items))
        return
    earliest = 0
    times: list[int] = []
    for at in range(0, len(items), 2):
        field = items[at]
        assert isinstance(field, bytes)
        when: int = value.expiry_of(field)
        if when == NO_EXPIRY:
            when = 0
        elif earliest == 0 or when < earliest:
            earliest = when
        times.append(when)
    if value.encoding_id != HASH_HASHTABLE:
        write_type(out, _HASH_LISTPACK_EX, key)
        write_i64_le(out, earliest)
        texts: list[bytes] = []
        for at, when in enumerate(times):
            for item in items[2 * at : 2 * at + 2]:
                assert isinstance(item, bytes)
                texts.append(item)
            texts.append(integer_text(when))
        write_string(out, lp.pack(texts))
        return
    if earliest == 0:
        write_type(out, TYPE_HASH, key)
    else:
        write_type(out, TYPE_HASH_EXPIRING, key)
        write_i64_le(out, earliest)
    write_length(out, len(times))
    for at, when in enumerate(times):
        if earliest != 0:
            write_length(out, 0 if when == 0 else when - earliest + 1)
        for item in items[2 * at : 2 * at + 2]:
            assert isinstance(item, bytes)
            write_string(out, item)


def write_id(out: BytesWriter, entry_id: int) -> None:
    """The ID of an entry that is pending."""
    out.write(entry_id.to_bytes(_ID_SIZE, "big"))


def _write_id_lengths(out: BytesWriter, entry_id: int) -> None:
    write_length(out, entry_id >> 64)
    write_length(out, entry_id & U64_MAX)


def _write_stream(sink: Sink, value: Stream, key: bytes | None) -> None:
    out = sink.out
    write_type(out, TYPE_STREAM_3, key)
    write_length(out, len(value.blocks))
    for block in value.nodes():
        write_block(out, block.first_id(), block.to_listpack())
        sink.settle()
    write_facts(out, value)
    for name in sorted(value.groups):
        group = value.groups[name]
        write_group(out, name, group)
        write_pending(out, group, group.pending.keys())
        write_length(out, len(group.consumers))
        for consumer_name in group.names():
            consumer = group.consumers[consumer_name]
            write_consumer(out, consumer)
            for entry_id in consumer.pending.keys():  # noqa: SIM118 - not a dict
                write_id(out, entry_id)


def write_block(out: BytesWriter, first_id: int, packed: bytes) -> None:
    """A node of a stream."""
    write_string(out, first_id.to_bytes(_ID_SIZE, "big"))
    write_string(out, packed)


def write_facts(out: BytesWriter, value: Stream) -> None:
    """What follows the nodes of a stream, up to its groups."""
    write_length(out, value.length)
    _write_id_lengths(out, value.last_id)
    _write_id_lengths(out, value.first_id)
    _write_id_lengths(out, value.max_deleted_id)
    write_length(out, value.entries_added)
    write_length(out, len(value.groups))


def write_group(out: BytesWriter, name: bytes, group: Group) -> None:
    """A group of a stream, up to what is pending."""
    write_string(out, name)
    _write_id_lengths(out, group.last_id)
    write_length(out, group.entries_read & U64_MAX)
    write_length(out, len(group.pending))


def write_pending(out: BytesWriter, group: Group, entry_ids: list[int]) -> None:
    """Some of the entries that are pending in a group."""
    for entry_id in entry_ids:
        nack = group.nack(entry_id)
        assert nack is not None
        write_id(out, entry_id)
        write_i64_le(out, nack.delivery_ms)
        write_length(out, nack.delivery_count)


def write_consumer(out: BytesWriter, consumer: Consumer) -> None:
    """A consumer of a group, up to what is pending with it."""
    write_string(out, consumer.name)
    write_i64_le(out, consumer.seen_ms)
    write_i64_le(out, consumer.active_ms)
    write_length(out, len(consumer.pending))


# Reading ------------------------------------------------------------------------------------------


class PayloadReader:
    """The bytes of a value, read from the front. Every read checks that there is enough left."""

    def __init__(self, data: bytes, end: i64) -> None:
        self.data = data
        self.at: i64 = 0
        self.end: i64 = end

    def take(self, size: i64) -> i64:
        """Where the next `size` bytes begin."""
        at = self.at
        if size > self.end - at:
            raise PayloadError("cut short")
        self.at = at + size
        return at

    def byte(self) -> int:
        return self.data[self.take(1)]

    def length(self) -> int:
        """A number; never the mark of a special string."""
        first = self.byte()
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte()
        if first == 0x80:
            at = self.take(4)
            narrow = i64(read_i32_be(self.data, at)) & 0xFFFF_FFFF
            return narrow
        if first == 0x81:
            at = self.take(8)
            wide: int = read_i64_be(self.data, at)
            return wide & U64_MAX
        raise PayloadError("no length")

    def _size(self) -> i64:
        """A length that has to fit into what there is; one beyond all measure is as good as any too large."""
        length = self.length()
        return min(_BEYOND, length)

    def count(self) -> int:
        """A number of things to come, of which there must be one, each of at least a byte."""
        count = self._size()
        if count == 0 or count > self.end - self.at:
            raise PayloadError("nothing, or more than there is")
        return count

    def string(self) -> bytes:
        data = self.data
        if self.at < self.end and data[self.at] >= 0xC0:
            mark = self.byte()
            if mark == _INT8:
                number = self.byte()
                return integer_text(number - 256 if number >= 128 else number)
            if mark == _INT16:
                return integer_text(i64(read_i16_le(data, self.take(2))))
            if mark == _INT32:
                return integer_text(i64(read_i32_le(data, self.take(4))))
            if mark != _LZF:
                raise PayloadError("a string kept in a way that is none")
            packed_size = self._size()
            size = self._size()
            if packed_size > self.end - self.at:
                raise PayloadError("cut short")
            at = self.take(packed_size)
            try:
                return decompress_untrusted(data[at : self.at], size)
            except LzfError as error:
                raise PayloadError(str(error)) from None
        size = self._size()
        if size > self.end - self.at:
            raise PayloadError("cut short")
        at = self.take(size)
        return data[at : self.at]

    def time_ms(self) -> int:
        """A signed 64-bit integer."""
        return read_i64_le(self.data, self.take(8))

    def double(self) -> float:
        return read_f64_le(self.data, self.take(8))

    def text_double(self) -> float:
        """A score of old: a length, and that many digits; three lengths mean what has no digits."""
        size = self.byte()
        if size == 255:
            return float("-inf")
        if size == 254:
            return float("inf")
        if size == 253:
            raise PayloadError("a score that is no number")
        at = self.take(size)
        return _score(self.data[at : self.at])

    def raw_id(self) -> int:
        at = self.take(_ID_SIZE)
        return int.from_bytes(self.data[at : self.at], "big")

    def id_lengths(self) -> int:
        ms = self.length()
        return make_id(ms, self.length())


def _score(text: bytes) -> float:
    """A score from its text."""
    try:
        score = float(text)
    except ValueError:
        raise PayloadError("a score that is no number") from None
    if score != score or b"_" in text:
        raise PayloadError("a score that is no number")
    return score


def is_intact(payload: bytes) -> bool:
    """Whether version and CRC at the end are right; what is in between may still be anything."""
    size: i64 = len(payload)
    if size < FOOTER:
        return False
    version = i64(read_i16_le(payload, size - FOOTER)) & 0xFFFF
    return version <= VERSION and read_i64_le(payload, size - 8) == crc64(payload, size - 8)


def restore(payload: bytes, limits: EncodingLimits, now_ms: int) -> object:
    """The value whose dump this is.

    Args:
        payload: for which `is_intact` holds.
        limits: for the encodings of the new value.
        now_ms: when consumers of old dumps were last seen, as far as we know.

    Raises:
        PayloadError: it is the dump of no value.
    """
    reader = PayloadReader(payload, len(payload) - FOOTER)
    return read_value(reader, reader.byte(), limits)


def read_value(reader: PayloadReader, kind: int, limits: EncodingLimits) -> object:
    """The value that comes next, of which the type has been read.

    Raises:
        PayloadError: there is none.
    """
    try:
        if kind == TYPE_STRING:
            return string_value(reader.string())
        if kind in (_LIST, _LIST_ZIPLIST, _LIST_QUICKLIST, TYPE_LIST_QUICKLIST_2):
            return _restore_list(reader, kind, limits)
        if kind in (TYPE_SET, _SET_INTSET, _SET_LISTPACK):
            return _restore_set(reader, kind, limits)
        if kind in (_ZSET, TYPE_ZSET_2, _ZSET_ZIPLIST, _ZSET_LISTPACK):
            return _restore_sorted_set(reader, kind, limits)
        if kind in (_STREAM, _STREAM_2, TYPE_STREAM_3):
            return _StreamReader(reader, kind, limits).stream()
        if kind in (TYPE_HASH, _HASH_ZIPMAP, _HASH_ZIPLIST, _HASH_LISTPACK):
            return _restore_hash(reader, kind, limits)
        if kind in (TYPE_HASH_EXPIRING, _HASH_EXPIRING_RC, _HASH_LISTPACK_EX, _HASH_LISTPACK_EX_RC):
            return _restore_expiring_hash(reader, kind, limits)
        if kind == VALKEY_HASH:
            return _restore_valkey_hash(reader, limits)
    except lp.ListpackError as error:
        raise PayloadError(str(error)) from None
    raise PayloadError("a type that is none, or a module's")


def _restore_list(reader: PayloadReader, kind: int, limits: EncodingLimits) -> ListValue:
    value = ListValue(limits)
    if kind == _LIST:
        elements: list[bytes] = []
        left = reader.count()
        while left > 0:
            elements.append(reader.string())
            left -= 1
        value.load(elements)
        return value
    if kind == _LIST_ZIPLIST:  # stays a quicklist, however short
        elements = _ziplist(reader.string())
        if len(elements) > 0:
            value.load_node(elements[:1], False)
            for element in elements[1:]:
                value.push_tail(element)
    else:
        left = reader.count()
        while left > 0:
            left -= 1
            container = _PACKED_NODE if kind == _LIST_QUICKLIST else reader.length()
            text = reader.string()
            if len(text) == 0 or container not in (_PACKED_NODE, _PLAIN_NODE):
                raise PayloadError("a node that is none")
            if container == _PLAIN_NODE:
                value.load_node([text], True)
                continue
            if kind == _LIST_QUICKLIST:
                elements = _ziplist(text)
                if len(elements) > 0:
                    value.load_node(elements, False)
                continue
            unpacked = lp.unpacked_untrusted(text)
            if len(unpacked.strings) > 0:
                value.load_node(unpacked.strings, False, len(text) if unpacked.is_usual else 0)
        value.finish_loading()
    if len(value) == 0:
        raise PayloadError("an empty list")
    return value


def _restore_set(reader: PayloadReader, kind: int, limits: EncodingLimits) -> Set:
    members: list[bytes] = []
    encoding: i64 = SET_INTSET
    if kind == _SET_INTSET:
        return _restore_intset(reader.string(), limits)
    if kind == _SET_LISTPACK:
        members = lp.unpack_untrusted(reader.string())
        encoding = SET_LISTPACK
    else:
        left = reader.count()
        if left > intset_capacity(limits):
            encoding = SET_HASHTABLE
        while left > 0:
            members.append(reader.string())
            left -= 1
    value = Set(limits, encoding)
    for member in members:
        is_new = value.load(member) if kind == _SET_LISTPACK else value.add(member)
        if not is_new:
            raise PayloadError("a member twice")
    if len(value) == 0:
        raise PayloadError("an empty set")
    return value


def _restore_intset(data: bytes, limits: EncodingLimits) -> Set:
    size: i64 = len(data)
    if size < 8:
        raise PayloadError("an intset without a header")
    width = i64(read_i32_le(data, 0))
    count = i64(read_i32_le(data, 4)) & 0xFFFF_FFFF
    if width not in (2, 4, 8) or count == 0 or size != 8 + count * width:
        raise PayloadError("an intset of another length than it says")
    value = Set(limits, SET_INTSET)
    previous: i64 = 0
    at: i64 = 8
    while at < size:
        if width == 2:
            number = i64(read_i16_le(data, at))
        elif width == 4:
            number = i64(read_i32_le(data, at))
        else:
            number = read_i64_le(data, at)
        if at > 8 and number <= previous:
            raise PayloadError("an intset out of order")
        previous = number
        value.add(integer_text(number))
        at += width
    return value


def _restore_sorted_set(reader: PayloadReader, kind: int, limits: EncodingLimits) -> SortedSet:
    value = SortedSet(limits)
    if kind in (_ZSET, TYPE_ZSET_2):
        left = reader.count()
        while left > 0:
            left -= 1
            name = reader.string()
            _add_member(value, name, reader.double() if kind == TYPE_ZSET_2 else reader.text_double())
        return value
    text = reader.string()
    items = lp.unpack_untrusted(text) if kind == _ZSET_LISTPACK else _ziplist(text)
    if len(items) == 0 or len(items) & 1:
        raise PayloadError("an empty sorted set, or half a member")
    for at in range(0, len(items), 2):
        _add_member(value, items[at], _score(items[at + 1]) + 0.0)  # -0 becomes 0
    # A listpack is taken over whatever the length of its strings.
    value.is_listpack = len(value) <= limits.zset_max_listpack_entries
    return value


def _add_member(value: SortedSet, name: bytes, score: float) -> None:
    if score != score or value.find(name) is not None:
        raise PayloadError("a member twice, or a score that is no number")
    value.add(name, score)


def _restore_hash(reader: PayloadReader, kind: int, limits: EncodingLimits) -> Hash:
    value = Hash(limits)
    if kind == TYPE_HASH:
        left = reader.count()
        if left > limits.hash_max_listpack_entries:
            value.convert()
        while left > 0:
            left -= 1
            field = reader.string()
            if not value.set(field, reader.string()):
                raise PayloadError("a field twice")
        return value
    text = reader.string()
    if kind == _HASH_ZIPMAP:
        items = _zipmap(text)
    else:
        items = lp.unpack_untrusted(text) if kind == _HASH_LISTPACK else _ziplist(text)
    if len(items) == 0 or len(items) & 1:
        raise PayloadError("an empty hash, or half a field")
    for at in range(0, len(items), 2):
        # A zipmap is looked at in every respect, a listpack only at its number of fields.
        field = items[at]
        content = items[at + 1]
        if not (value.set(field, content) if kind == _HASH_ZIPMAP else value.load(field, content)):
            raise PayloadError("a field twice")
    return value


def _restore_expiring_hash(reader: PayloadReader, kind: int, limits: EncodingLimits) -> Hash:
    earliest = 0
    if kind in (TYPE_HASH_EXPIRING, _HASH_LISTPACK_EX):
        earliest = reader.time_ms()
    value = Hash(limits)
    fields: list[bytes] = []
    times: list[int] = []
    if kind in (_HASH_LISTPACK_EX, _HASH_LISTPACK_EX_RC):
        items = lp.unpack_untrusted(reader.string())
        if len(items) == 0 or len(items) % 3:
            raise PayloadError("an empty hash, or part of a field")
        for at in range(0, len(items), 3):
            when = parse_integer(items[at + 2])
            if when is None:
                raise PayloadError("a time that is none")
            if not value.load(items[at], items[at + 1]):
                raise PayloadError("a field twice")
            fields.append(items[at])
            times.append(when)
        value.allow_expiry()
    else:
        left = reader.count()
        if left > limits.hash_max_listpack_entries:
            value.convert()
        while left > 0:
            left -= 1
            when = reader.length()
            if when != 0 and kind == TYPE_HASH_EXPIRING:
                when += earliest - 1
            field = reader.string()
            if not value.set(field, reader.string()):
                raise PayloadError("a field twice")
            fields.append(field)
            times.append(when)
        value.allow_expiry()
    # Of equal times the latest set comes first, so set them backwards.
    for at in range(len(fields) - 1, -1, -1):
        when = times[at]
        if not 0 <= when < 1 << 48:
            raise PayloadError("a time that is none")
        if when != 0:
            value.set_expiry(fields[at], when)
    return value


def _restore_valkey_hash(reader: PayloadReader, limits: EncodingLimits) -> Hash:
    value = Hash(limits)
    left = reader.count()
    if left > limits.hash_max_listpack_entries:
        value.convert()
    fields: list[bytes] = []
    times: list[int] = []
    while left > 0:
        left -= 1
        field = reader.string()
        if not value.set(field, reader.string()):
            raise PayloadError("a field twice")
        when = reader.time_ms()
        if not -1 <= when < 1 << 48:
            raise PayloadError("a time that is none")
        if when >= 0:
            fields.append(field)
            times.append(when)
    if len(fields) > 0:
        value.allow_expiry()
    for at in range(len(fields) - 1, -1, -1):
        value.set_expiry(fields[at], times[at])
    return value


class _StreamReader:
    """Reads a stream: nodes, then what is known of the whole, then groups."""

    def __init__(self, reader: PayloadReader, kind: int, limits: EncodingLimits) -> None:
        self.reader = reader
        self.kind = kind
        self.value = Stream(limits)

    def stream(self) -> Stream:
        reader = self.reader
        value = self.value
        left = reader.length()
        previous = -1
        while left > 0:
            left -= 1
            key = reader.string()
            if len(key) != _ID_SIZE:
                raise PayloadError("an ID of another length")
            first_id = int.from_bytes(key, "big")
            if first_id <= previous:
                raise PayloadError("IDs out of order")
            previous = self._node(first_id, reader.string())
        length = reader.length()
        value.last_id = reader.id_lengths()
        if length != value.length or value.last_id < previous:
            raise PayloadError("another length, or a last ID before the last entry")
        if self.kind == _STREAM:
            value.entries_added = value.length
        else:
            reader.id_lengths()  # the first ID, which follows from the entries
            value.max_deleted_id = reader.id_lengths()
            value.entries_added = reader.length()
        value.refresh_first()
        left = reader.length()
        while left > 0:
            left -= 1
            self._group()
        return value

    def _node(self, first_id: int, data: bytes) -> int:
        """A node; gives the ID of its last entry."""
        positions = lp.elements_untrusted(data)
        total: i64 = len(positions)
        if total < 4:
            raise PayloadError("a node without a master entry")
        live = _element_integer(data, positions[0])
        deleted = _element_integer(data, positions[1])
        master_fields = _element_integer(data, positions[2])
        if not 0 <= master_fields <= total - 4 or live < 0 or deleted < 0:
            raise PayloadError("a master entry cut short")
        at: i64 = 3 + master_fields
        if _element_integer(data, positions[at]) != 0:
            raise PayloadError("a master entry without an end")
        fields: list[bytes] = []
        place: i64 = 3
        while place < at:
            fields.append(lp.string_at(data, positions[place]))
            place += 1
        at += 1
        begin = positions[at] if at < total else len(data) - 1
        block = Block(first_id >> 64, first_id & U64_MAX, fields, data[positions[2] : begin])
        last_ms = block.ms
        last_seq = block.seq - 1
        while at < total:
            if at + 4 > total:
                raise PayloadError("an entry cut short")
            ms = _unsigned(block.ms + _element_integer(data, positions[at + 1]))
            seq = _unsigned(block.seq + _element_integer(data, positions[at + 2]))
            if ms < last_ms or (ms == last_ms and seq <= last_seq):
                raise PayloadError("IDs out of order")
            last_ms = ms
            last_seq = seq
            at = self._entry(block, data, positions, at)
        if len(block.entries) == 0 or block.live != live or block.deleted != deleted:
            raise PayloadError("another number of entries than the node says")
        self.value.add_block(block)
        self.value.length += block.live
        return last_ms << 64 | last_seq

    def _entry(self, block: Block, data: bytes, positions: vec[i64], at: i64) -> i64:
        """An entry of a node, which has four elements at least; gives the element after it."""
        total: i64 = len(positions)
        flags = _element_integer(data, positions[at])
        if flags & SAME_FIELDS:
            elements: i64 = 3 + len(block.fields)
        else:
            fields = _element_integer(data, positions[at + 3])
            if not 0 <= fields <= total:
                raise PayloadError("an entry cut short")
            elements = 4 + 2 * fields
        end = at + elements
        if end >= total or _element_integer(data, positions[end]) != elements:
            raise PayloadError("an entry of another length than it says")
        stop: i64 = len(data) - 1
        if end + 1 < total:
            stop = positions[end + 1]
        begin = positions[at]
        after_flags = positions[at + 1]
        if 0 <= flags <= DELETED | SAME_FIELDS and after_flags - begin == _SMALL_ELEMENT:
            entry = data[begin:stop]
        else:
            entry = bytes((flags & (DELETED | SAME_FIELDS), 1)) + data[after_flags:stop]
        block.entries.append(entry)
        size: i64 = len(entry)
        block.entries_size += size
        if flags & DELETED:
            block.deleted += 1
        else:
            block.live += 1
        return end + 1

    def _group(self) -> None:
        reader = self.reader
        value = self.value
        name = reader.string()
        if name in value.groups:
            raise PayloadError("a group twice")
        last_id = reader.id_lengths()
        if self.kind == _STREAM:
            entries_read = value.entries_up_to(last_id)
        else:
            entries_read = reader.length()
            if entries_read >= 1 << 63:
                entries_read = UNKNOWN_READ
        group = Group(last_id, entries_read)
        value.add_group(name, group)
        nobody = Consumer(b"", 0)
        left = reader.length()
        while left > 0:
            left -= 1
            entry_id = reader.raw_id()
            delivery_ms = reader.time_ms()
            nack = Nack(nobody, delivery_ms, reader.length())
            if not group.pending.set(entry_id, nack):
                raise PayloadError("an entry pending twice")
        owned = 0
        left = reader.length()
        while left > 0:
            left -= 1
            owned += self._consumer(group, nobody)
        if owned != len(group.pending):
            raise PayloadError("an entry pending with nobody")

    def _consumer(self, group: Group, nobody: Consumer) -> int:
        """A consumer; gives how many entries are pending with it."""
        reader = self.reader
        name = reader.string()
        if name in group.consumers:
            raise PayloadError("a consumer twice")
        consumer = Consumer(name, reader.time_ms())
        consumer.active_ms = reader.time_ms() if self.kind == TYPE_STREAM_3 else consumer.seen_ms
        group.consumers[name] = consumer
        left = reader.length()
        while left > 0:
            left -= 1
            entry_id = reader.raw_id()
            nack = group.nack(entry_id)
            if nack is None or nack.consumer is not nobody:
                raise PayloadError("an entry that is not pending, or with two")
            nack.consumer = consumer
            consumer.pending.set(entry_id, None)
        return len(consumer.pending)


def _unsigned(number: int) -> int:
    """A sum of 64-bit integers, as the 64 bits that are left of it."""
    # Nearly all are far from the ends, and long integers are slow.
    return number if 0 <= number < _FAR_FROM_LONG else number & U64_MAX


def _element_integer(data: bytes, at: i64) -> int:
    if not lp.is_integer_at(data, at):
        raise PayloadError("a text where an integer should be")
    return lp.integer_at(data, at)


# What Redis used before listpacks -----------------------------------------------------------------


def _ziplist(data: bytes) -> list[bytes]:
    """The strings of a ziplist.

        bytes in all:32  offset of the last entry:32  number of entries:16  entries  0xFF

    An entry is the length of the one before (a byte, or 0xFE and 32 bits), an encoding, and data.
    """
    size: i64 = len(data)
    if size < 11 or i64(read_i32_le(data, 0)) & 0xFFFF_FFFF != size or data[size - 1] != 0xFF:
        raise PayloadError("a ziplist of another length than it says")
    count = i64(read_i16_le(data, 8)) & 0xFFFF
    items: list[bytes] = []
    reader = PayloadReader(data, size - 1)
    reader.at = 10
    previous: i64 = 0
    last: i64 = 10
    while reader.at < reader.end:
        begin = reader.at
        last = begin
        back: i64 = reader.byte()
        if back == 0xFE:
            back = i64(read_i32_le(data, reader.take(4))) & 0xFFFF_FFFF
        if back != previous:
            raise PayloadError("an entry that does not know the one before")
        items.append(_ziplist_entry(reader))
        previous = reader.at - begin
    if i64(read_i32_le(data, 4)) & 0xFFFF_FFFF != last:
        raise PayloadError("a ziplist that does not know its last entry")
    if count != 0xFFFF and count != len(items):
        raise PayloadError("another number of entries than the header says")
    return items


def _ziplist_entry(reader: PayloadReader) -> bytes:
    """Encoding and data of an entry."""
    data = reader.data
    mark: i64 = reader.byte()
    length: i64 = -1
    if mark < 0x40:
        length = mark
    elif mark < 0x80:
        low: i64 = reader.byte()
        length = (mark & 0x3F) << 8 | low
    elif mark < 0xC0:
        length = i64(read_i32_be(data, reader.take(4))) & 0xFFFF_FFFF
    if length >= 0:
        at = reader.take(length)
        return data[at : reader.at]
    if mark == 0xC0:
        return integer_text(i64(read_i16_le(data, reader.take(2))))
    if mark == 0xD0:
        return integer_text(i64(read_i32_le(data, reader.take(4))))
    if mark == 0xE0:
        return integer_text(read_i64_le(data, reader.take(8)))
    if mark == 0xF0:
        at = reader.take(3)
        return integer_text(int.from_bytes(data[at : reader.at], "little", signed=True))
    if mark == 0xFE:
        number = reader.byte()
        return integer_text(number - 256 if number >= 128 else number)
    if 0xF1 <= mark <= 0xFD:
        return integer_text(mark - 0xF1)
    raise PayloadError("an encoding that is none")


def _zipmap(data: bytes) -> list[bytes]:
    """Fields and values of a zipmap, in turn.

    number of fields (254: count them)  length field  length unused-bytes value unused ...  0xFF
    """
    size: i64 = len(data)
    if size < 2 or data[size - 1] != 0xFF:
        raise PayloadError("a zipmap without an end")
    items: list[bytes] = []
    reader = PayloadReader(data, size - 1)
    count = reader.byte()
    while reader.at < reader.end:
        length = _zipmap_length(reader)
        at = reader.take(length)
        items.append(data[at : reader.at])
        length = _zipmap_length(reader)
        unused = reader.byte()
        at = reader.take(length)
        items.append(data[at : reader.at])
        reader.take(unused)
    if count < 254 and count * 2 != len(items):
        raise PayloadError("another number of fields than the header says")
    return items


def _zipmap_length(reader: PayloadReader) -> i64:
    first: i64 = reader.byte()
    if first < 254:
        return first
    if first == 255:
        raise PayloadError("an end in between")
    return i64(read_i32_le(reader.data, reader.take(4))) & 0xFFFF_FFFF


__all__ = [
    "FOOTER",
    "FUNCTION",
    "VALKEY_HASH",
    "VERSION",
    "PayloadError",
    "PayloadReader",
    "Sink",
    "dump",
    "dump_functions",
    "is_intact",
    "read_value",
    "restore",
    "restore_functions",
    "write_function",
    "write_length",
    "write_string",
    "write_value",
]
