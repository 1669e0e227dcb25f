"""GET and SET in their simplest form, answered straight from the bytes they came in.

The ordinary way of a request (parser, list of arguments, command table, handler, typed reply) makes eight
objects for a GET. Here it makes none: the request is recognised by its first bytes, the key is looked up
where it lies, the reply is copied from the record in the table to the bytes that will be sent. A SET makes
one, its record.

Taken are the requests that need no question asked:

    GET key          of a key that is packed (hash_table.py), or that is not there
    SET key value    of a new key or a packed one, with a value that is kept packed and is no integer

in array form, with the name in any mixture of cases, and whole. The first request that is anything else ends
it and goes the ordinary way, with all its checks and errors; so does what follows, up to the next look here.

Commands are timed as everywhere (timing.py), but all that is executed at once by one look at the stopwatch.

Invariants: replies, counters and the state of the keyspace are what the ordinary way would have made
            (tests/unit/redis/test_direct.py has both do the same work). The caller has seen that neither
            session nor engine is in a special state.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i32_le
from mypy_extensions import i32, i64

from appliance.redis.hash_table import ABSENT, LONGEST_PACKED_KEY, LONGEST_PACKED_VALUE, UNKNOWN
from appliance.redis.replies import NULL_RESP2, NULL_RESP3
from appliance.redis.values import INTEGER_TEXT_LIMIT

if TYPE_CHECKING:
    from appliance.redis.session import Session

IS_FASTER: Final = not __file__.endswith(".py")
"""Interpreted, a request costs more here than the ordinary way."""

# As integers of eight and four bytes, low byte first.
_ARRAY_OF_2: Final = 0x0A0D_3324_0A0D_322A  # b"*2\r\n$3\r\n"
_ARRAY_OF_3: Final = 0x0A0D_3324_0A0D_332A  # b"*3\r\n$3\r\n"
_UPPER_CASE: Final = 0xFFDF_DFDF  # of three letters
_GET: Final = 0x0D54_4547  # b"GET\r"
_SET: Final = 0x0D54_4553  # b"SET\r"
_OK: Final = 0x0D4B_4F2B  # b"+OK\r"

_LF: Final = 10
_CR: Final = 13
_DOLLAR: Final = 36
_MINUS: Final = 45
_ZERO: Final = 48
_NINE: Final = 57

_KEY_HEADER: Final = 13  # where it is in a request
_SHORTEST_BULK: Final = 6  # `$0 CR LF CR LF`
_NO_HEADER: Final = -1

NOT_TIMED: Final = -1
"""In place of a reading of the stopwatch."""

_writer: Final = BytesWriter()


def serve_direct(session: Session, data: bytes, pos: i64) -> i64:
    """Execute the simple requests that data[pos:] begins with, and append their replies.

    Returns:
        Where the first request begins that is not one.
    """
    end: i64 = len(data)
    if pos + _KEY_HEADER + _SHORTEST_BULK > end:
        return pos
    head = read_i64_le(data, pos)
    if head != _ARRAY_OF_2 and head != _ARRAY_OF_3:
        return pos  # most of what is neither GET nor SET
    engine = session.engine
    database = session.db
    writer = _writer
    writer.truncate(0)
    started: i64 = NOT_TIMED
    gets: i64 = 0
    sets: i64 = 0
    is_last_set = False
    while pos + _KEY_HEADER + _SHORTEST_BULK <= end:
        head = read_i64_le(data, pos)
        name = i64(read_i32_le(data, pos + 8)) & _UPPER_CASE
        if head == _ARRAY_OF_2 and name == _GET:
            is_set = False
        elif head == _ARRAY_OF_3 and name == _SET and engine.interest == 0:
            is_set = True
        else:
            break
        header = _bulk_header(data, pos + _KEY_HEADER)
        if header == _NO_HEADER or data[pos + 12] != _LF:
            break
        length = header >> 3
        start = pos + _KEY_HEADER + (header & 7)
        at = start + length
        if length == 0 or length > LONGEST_PACKED_KEY or at + 2 > end:
            break
        if gets + sets == 0 and (engine.set_command if is_set else engine.get_command).untimed == 0:
            started = engine.stopwatch()
        if not is_set:
            found = database.reply_part(data, start, length, writer)
            if found == UNKNOWN:
                break
            if found == ABSENT:
                writer.write(NULL_RESP3 if session.resp3 else NULL_RESP2)
            gets += 1
            is_last_set = False
            pos = at + 2
            continue
        at = _end_of_value(data, at, end)
        if at < 0 or not database.put_part(data, start, length, at):
            break
        write_i32_le(writer, i32(_OK))
        writer.append(_LF)
        sets += 1
        is_last_set = True
        pos = at
    if gets + sets > 0:
        session.executed_direct(gets, sets, is_last_set, writer.getvalue(), started)
    return pos


def _bulk_header(data: bytes, at: i64) -> i64:
    """The header `$n CR LF` of a bulk string, n as one would write it and below 1000.

    Args:
        at: where it begins, six bytes at least from the end.

    Returns:
        n * 8 + the length of the header, or _NO_HEADER.
    """
    if data[at] != _DOLLAR:
        return _NO_HEADER
    number: i64 = i64(data[at + 1]) - _ZERO
    if number < 0 or number > 9:
        return _NO_HEADER
    size: i64 = 4
    byte: i64 = data[at + 2]
    while byte != _CR:
        if size == 6 or number == 0 or byte < _ZERO or byte > _NINE:
            return _NO_HEADER
        number = number * 10 + byte - _ZERO
        byte = data[at + size - 1]
        size += 1
    if data[at + size - 1] != _LF:
        return _NO_HEADER
    return number << 3 | size


def _end_of_value(data: bytes, at: i64, end: i64) -> i64:
    """Where a SET ends whose key ends at `at`, if its value is kept as the bytes it came in; else -1."""
    if at + 2 + _SHORTEST_BULK > end or data[at] != _CR or data[at + 1] != _LF:
        return -1
    header = _bulk_header(data, at + 2)
    if header == _NO_HEADER:
        return -1
    length = header >> 3
    start = at + 2 + (header & 7)
    at = start + length + 2
    if length > LONGEST_PACKED_VALUE or at > end or data[at - 2] != _CR or data[at - 1] != _LF:
        return -1
    if 0 < length <= INTEGER_TEXT_LIMIT:
        first: i64 = data[start]
        if first == _MINUS or _ZERO <= first <= _NINE:
            return -1
    return at
