"""Commands on streams and their consumer groups.

Source:     https://redis.io/docs/latest/commands/?group=stream; order of checks and texts from redis-server
            8.2, whose NOGROUP errors quote names up to their first NUL.
Units:      milliseconds of Unix time; BLOCK takes milliseconds.
Invariants: what changes entries goes through `Session.changed`; what changes only groups counts as a change
            but leaves WATCH alone, as in redis-server.
Errors:     CommandError: WRONGTYPE, NOGROUP, BUSYGROUP, invalid IDs, syntax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.arguments import integer_argument, timeout_ms_argument
from appliance.redis.errors import CommandError
from appliance.redis.integers import I64_MAX, U64_MAX, parse_integer
from appliance.redis.notifications import NOTIFY_STREAM
from appliance.redis.replies import NULL_ARRAY, OK, Map, integer_text
from appliance.redis.types.streams import (
    DELETE_REFERENCES,
    KEEP_REFERENCES,
    MAX_ID,
    ONLY_ACKNOWLEDGED,
    TRIM_MAXLEN,
    TRIM_MINID,
    TRIM_NONE,
    UNKNOWN_READ,
    Consumer,
    Group,
    Nack,
    Stream,
    Trim,
    id_text,
    make_id,
)

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_INVALID_ID: Final = b"ERR Invalid stream ID specified as stream command argument"
_TOO_SMALL: Final = b"ERR The ID specified in XADD is equal or smaller than the target stream top item"
_TWO_STRATEGIES: Final = b"ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
_KEY_MUST_EXIST: Final = (
    b"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the "
    b"MKSTREAM option to create an empty stream automatically."
)
_LONGEST_ID: Final = 127
# Without LIMIT, approximate trimming deletes the entries of at most a hundred full nodes.
_TRIMMED_NODES: Final = 100
_TRIM_LIMIT_UNKNOWN: Final = 10_000
_TRIM_LIMIT_HIGHEST: Final = 1_000_000
# XAUTOCLAIM looks at ten entries for each that it may claim.
_ATTEMPTS_FACTOR: Final = 10
_HIGHEST_COUNT: Final = I64_MAX // 16
_PIECE: Final = 512

# What XDELEX and XACKDEL say of an ID.
_NOT_FOUND: Final = -1
_DELETED: Final = 1
_NOT_DELETED: Final = 2


_ZERO: Final = 48
_NINE: Final = 57
_DASH: Final = 45
_SHORT_DIGITS: Final = 18

# Arguments ----------------------------------------------------------------------------------------


def _unsigned(text: bytes) -> int:
    """An unsigned 64-bit integer; -1 for anything else."""
    number = parse_integer(text)
    if number is not None:
        return number if number >= 0 else -1
    if 19 <= len(text) <= 20 and text.isdigit() and not text.startswith(b"0"):
        value = int(text)
        if value <= U64_MAX:
            return value
    # strtoull, to which the server falls back, takes more than the canonical form.
    stripped = text.lstrip(b" \t\n\v\f\r")
    if stripped[:1] == b"+":
        stripped = stripped[1:]
    if stripped.isdigit():
        value = int(stripped)
        if value <= U64_MAX:
            return value
    return -1


def _digits_end(text: bytes, at: i64) -> i64:
    """Where the digits that begin at `at` end; at most as many as make 64 bits for certain."""
    end: i64 = min(len(text), at + _SHORT_DIGITS)
    while at < end:
        digit: i64 = text[at]
        if not _ZERO <= digit <= _NINE:
            break
        at += 1
    return at


def _short_number(text: bytes, at: i64, end: i64) -> int:
    """What a few digits spell."""
    number: i64 = 0
    while at < end:
        digit: i64 = text[at]
        number = number * 10 + (digit - _ZERO)
        at += 1
    return number


def _parse_id(text: bytes, missing_seq: int) -> int:
    """`ms-seq` or `ms`, the sequence then being `missing_seq`."""
    size: i64 = len(text)
    at = _digits_end(text, 0)
    if 0 < at < size and text[at] == _DASH:
        end = _digits_end(text, at + 1)
        if at + 1 < end and end == size:  # as we have written it ourselves: mostly
            return _short_number(text, 0, at) << 64 | _short_number(text, at + 1, end)
    if len(text) > _LONGEST_ID:
        raise CommandError(_INVALID_ID)
    head = text.split(b"\0", 1)[0]
    dash: i64 = head.find(b"-")
    if dash < 0:
        ms = _unsigned(head)
        seq = missing_seq
    else:
        ms = _unsigned(head[:dash])
        seq = _unsigned(head[dash + 1 :])
    if ms < 0 or seq < 0:
        raise CommandError(_INVALID_ID)
    return make_id(ms, seq)


def _strict_id(text: bytes) -> int:
    """An ID that a client has to give as such: neither `-` nor `+`."""
    return _parse_id(text, 0)


def _range_id(text: bytes, missing_seq: int) -> int:
    if text == b"-":
        return 0
    if text == b"+":
        return MAX_ID
    return _parse_id(text, missing_seq)


def _interval_start(text: bytes) -> int:
    """The first ID of an interval, `(` before it meaning the one after."""
    if len(text) > 1 and text[0] == 40:
        start = _parse_id(text[1:], 0)
        if start == MAX_ID:
            raise CommandError(b"ERR invalid start ID for the interval")
        return start + 1
    return _range_id(text, 0)


def _interval_end(text: bytes) -> int:
    """The last ID of an interval, `(` before it meaning the one before."""
    if len(text) > 1 and text[0] == 40:
        end = _parse_id(text[1:], U64_MAX)
        if end == 0:
            raise CommandError(b"ERR invalid end ID for the interval")
        return end - 1
    return _range_id(text, U64_MAX)


def _c_text(text: bytes) -> bytes:
    return errors.quoted(text, len(text))


def _stream_read(session: Session, key: bytes) -> Stream | None:
    return _stream_in(session.db.lookup_read(key))


def _stream_in(value: object) -> Stream | None:
    if value is None:
        return None
    if not isinstance(value, Stream):
        raise CommandError(errors.WRONG_TYPE)
    return value


def _stream_write(session: Session, key: bytes) -> Stream | None:
    entry = session.db.lookup_write(key)
    if entry is None:
        return None
    value = entry.value
    if not isinstance(value, Stream):
        raise CommandError(errors.WRONG_TYPE)
    return value


def _no_group(key: bytes, group: bytes) -> CommandError:
    return CommandError(
        b"NOGROUP No such key '" + _c_text(key) + b"' or consumer group '" + _c_text(group) + b"'"
    )


def _group_named(stream: Stream, key: bytes, name: bytes) -> Group:
    """The group of that name, for XGROUP and XINFO."""
    group = stream.groups.get(name)
    if group is None:
        raise CommandError(
            b"NOGROUP No such consumer group '" + _c_text(name) + b"' for key name '" + _c_text(key) + b"'"
        )
    return group


def _reference_option(word: bytes) -> i64:
    """KEEPREF, DELREF or ACKED in lower case; -1 for another word."""
    if word == b"keepref":
        return KEEP_REFERENCES
    if word == b"delref":
        return DELETE_REFERENCES
    if word == b"acked":
        return ONLY_ACKNOWLEDGED
    return -1


class _AddArguments:
    """The options of XADD and XTRIM."""

    def __init__(self) -> None:
        self.trim = Trim()
        self.may_create = True
        self.position: i64 = 2  # of the ID, or one past the arguments
        self.id_given = False
        self.seq_given = True
        self.ms = 0
        self.seq = 0
        self.has_limit = False
        self.has_references = False


def _parse_add(session: Session, args: list[bytes], is_add: bool) -> _AddArguments:
    parsed = _AddArguments()
    trim = parsed.trim
    count: i64 = len(args)
    at: i64 = 2
    while at < count:
        option = args[at]
        more = count - 1 - at
        if is_add and option == b"*":
            break
        word = option.lower()
        if (word == b"maxlen" or word == b"minid") and more > 0:
            if trim.strategy != TRIM_NONE:
                raise CommandError(_TWO_STRATEGIES)
            trim.is_approximate = False
            if more >= 2 and (args[at + 1] == b"~" or args[at + 1] == b"="):
                trim.is_approximate = args[at + 1] == b"~"
                at += 1
            at += 1
            if word == b"maxlen":
                trim.maxlen = integer_argument(args[at])
                if trim.maxlen < 0:
                    raise CommandError(b"ERR The MAXLEN argument must be >= 0.")
                trim.strategy = TRIM_MAXLEN
            else:
                trim.minid = _strict_id(args[at])
                trim.strategy = TRIM_MINID
        elif word == b"limit" and more > 0:
            at += 1
            trim.limit = integer_argument(args[at])
            if trim.limit < 0:
                raise CommandError(b"ERR The LIMIT argument must be >= 0.")
            parsed.has_limit = True
        elif is_add and word == b"nomkstream":
            parsed.may_create = False
        elif not parsed.has_references and _reference_option(word) >= 0:
            trim.references = _reference_option(word)
            parsed.has_references = True
        elif is_add:
            _parse_new_id(parsed, option)
            break
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    parsed.position = at
    if trim.limit != 0 and trim.strategy == TRIM_NONE:
        raise CommandError(b"ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
    if not is_add and trim.strategy == TRIM_NONE:
        raise CommandError(b"ERR syntax error, XTRIM must be called with a trimming strategy")
    if parsed.has_limit:
        if not trim.is_approximate:
            raise CommandError(b"ERR syntax error, LIMIT cannot be used without the special ~ option")
    elif trim.is_approximate:
        limit = _TRIMMED_NODES * min(session.engine.limits.stream_node_max_entries, _TRIM_LIMIT_HIGHEST)
        trim.limit = _TRIM_LIMIT_UNKNOWN if limit <= 0 else min(limit, _TRIM_LIMIT_HIGHEST)
    return parsed


def _parse_new_id(parsed: _AddArguments, text: bytes) -> None:
    """The ID of XADD, which may be `ms-*`."""
    parsed.id_given = True
    if text.endswith(b"-*") and text.find(b"-") == len(text) - 2 and len(text) <= _LONGEST_ID:
        parsed.seq_given = False
        parsed.ms = _unsigned(text[:-2])
        if parsed.ms < 0 or b"\0" in text:
            raise CommandError(_INVALID_ID)
        return
    entry_id = _strict_id(text)
    parsed.ms = entry_id >> 64
    parsed.seq = entry_id & U64_MAX


# Adding -------------------------------------------------------------------------------------------


def xadd(session: Session, args: list[bytes]) -> object:
    count: i64 = len(args)
    if args[2] == b"*":  # no option at all: most requests
        if count < 5 or count & 1 == 0:
            raise CommandError(errors.wrong_arity(b"xadd"))
        stream = _stream_write(session, args[1])
        if stream is None:
            stream = Stream(session.engine.limits)
            session.db.add(args[1], stream)
        return _append(session, stream, args, None)
    parsed = _parse_add(session, args, True)
    first = parsed.position + 1
    if count - first < 2 or (count - first) & 1:
        raise CommandError(errors.wrong_arity(b"xadd"))
    if parsed.id_given and parsed.seq_given and parsed.ms == 0 and parsed.seq == 0:
        raise CommandError(b"ERR The ID specified in XADD must be greater than 0-0")
    key = args[1]
    stream = _stream_write(session, key)
    if stream is None:
        if not parsed.may_create:
            return None
        stream = Stream(session.engine.limits)
        session.db.add(key, stream)
    return _append(session, stream, args, parsed)


class _Time:
    """A time as it stands in an ID; many entries in turn have the same."""

    def __init__(self) -> None:
        self.ms = -1
        self.text = b""


_latest_time: Final = _Time()


def _append(session: Session, stream: Stream, args: list[bytes], parsed: _AddArguments | None) -> object:
    """Add the entry of an XADD.

    Args:
        stream: where.
        args: the request.
        parsed: what its options say; None when there are none and the ID is `*`.
    """
    last_ms = stream.last_ms
    last_seq = stream.last_seq
    if last_seq == U64_MAX and last_ms == U64_MAX:
        raise CommandError(b"ERR The stream has exhausted the last possible ID, unable to add more items")
    first: i64 = 3
    if parsed is None or not parsed.id_given:
        ms: int = session.clock.now_ms
        seq = 0
        if ms <= last_ms:
            ms = last_ms
            seq = last_seq + 1
            if seq > U64_MAX:
                ms += 1
                seq = 0
    else:
        ms = parsed.ms
        seq = parsed.seq
        if not parsed.seq_given and ms == last_ms:
            seq = last_seq + 1
            if seq > U64_MAX:
                raise CommandError(_TOO_SMALL)
        if ms < last_ms or (ms == last_ms and seq <= last_seq):
            raise CommandError(_TOO_SMALL)
    if parsed is not None:
        first = parsed.position + 1
    key = args[1]
    if not stream.append(ms, seq, args, first):
        if stream.is_unused():
            session.db.delete(key)
        raise CommandError(b"ERR Elements are too large to be stored")
    if parsed is None or parsed.trim.strategy == TRIM_NONE:
        session.wrote(key, NOTIFY_STREAM, b"xadd")
    else:
        trimmed = _trim(session, stream, parsed.trim)
        session.changed(key)
        session.notify(NOTIFY_STREAM, b"xadd", key)
        if trimmed > 0:
            session.notify(NOTIFY_STREAM, b"xtrim", key)
    latest = _latest_time
    if ms != latest.ms:
        latest.ms = ms
        latest.text = integer_text(ms) + b"-"
    return latest.text + integer_text(seq)


def _trim(session: Session, stream: Stream, trim: Trim) -> i64:
    """Trim, and leave to the queue what would take long to let go of."""
    deleted = stream.trim(trim)
    if trim.discarded is not None:
        session.observer.released(trim.discarded)
    return deleted


def xtrim(session: Session, args: list[bytes]) -> object:
    parsed = _parse_add(session, args, False)
    key = args[1]
    stream = _stream_write(session, key)
    if stream is None:
        return 0
    deleted = _trim(session, stream, parsed.trim)
    if deleted > 0:
        session.changed(key, deleted)
        session.notify(NOTIFY_STREAM, b"xtrim", key)
    result: int = deleted
    return result


def xsetid(session: Session, args: list[bytes]) -> object:
    last_id = _strict_id(args[2])
    max_deleted_id = 0
    entries_added = -1
    at = 3
    while at < len(args):
        word = args[at].lower()
        if word == b"entriesadded" and at + 1 < len(args):
            entries_added = integer_argument(args[at + 1])
            if entries_added < 0:
                raise CommandError(b"ERR entries_added must be positive")
        elif word == b"maxdeletedid" and at + 1 < len(args):
            max_deleted_id = _strict_id(args[at + 1])
            if last_id < max_deleted_id:
                raise CommandError(
                    b"ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id"
                )
        else:
            raise CommandError(errors.SYNTAX)
        at += 2
    key = args[1]
    stream = _stream_write(session, key)
    if stream is None:
        raise CommandError(errors.NO_KEY)
    if last_id < stream.max_deleted_id:
        raise CommandError(b"ERR The ID specified in XSETID is smaller than current max_deleted_entry_id")
    if stream.length > 0:
        if last_id < stream.last_living():
            raise CommandError(b"ERR The ID specified in XSETID is smaller than the target stream top item")
        if entries_added != -1 and stream.length > entries_added:
            raise CommandError(
                b"ERR The entries_added specified in XSETID is smaller than the target stream length"
            )
    stream.last_id = last_id
    if entries_added != -1:
        stream.entries_added = entries_added
    if max_deleted_id != 0:
        stream.max_deleted_id = max_deleted_id
    session.count_changes()
    session.notify(NOTIFY_STREAM, b"xsetid", key)
    return OK


# Deleting -----------------------------------------------------------------------------------------


def _ids(args: list[bytes], first: int) -> list[int]:
    found: list[int] = []
    for text in args[first:]:
        found.append(_strict_id(text))  # noqa: PERF401 - a comprehension is no faster when compiled
    return found


def xdel(session: Session, args: list[bytes]) -> object:
    key = args[1]
    stream = _stream_write(session, key)
    if stream is None:
        return 0
    ids = _ids(args, 2)
    deleted = 0
    is_first_gone = False
    for entry_id in ids:
        if stream.delete(entry_id):
            if stream.deleted(entry_id):
                is_first_gone = True
            deleted += 1
    if deleted:
        _after_deleting(session, stream, key, deleted, is_first_gone)
    return deleted


def _after_deleting(session: Session, stream: Stream, key: bytes, count: int, is_first_gone: bool) -> None:
    if is_first_gone or stream.length == 0:
        stream.refresh_first()
    session.changed(key, count)
    session.notify(NOTIFY_STREAM, b"xdel", key)


class _IdList:
    """`[KEEPREF | DELREF | ACKED] IDS numids id ...` of XDELEX and XACKDEL."""

    def __init__(self) -> None:
        self.references: i64 = KEEP_REFERENCES
        self.first: i64 = 0
        self.count: i64 = 0


def _parse_id_list(args: list[bytes], first: i64) -> _IdList:
    parsed = _IdList()
    has_references = False
    count: i64 = len(args)
    at = first
    while at < count:
        word = args[at].lower()
        references = _reference_option(word)
        if references >= 0 and not has_references:
            parsed.references = references
            has_references = True
            at += 1
        elif word == b"ids" and at + 1 < count:
            number = parse_integer(args[at + 1])
            if number is None or not 1 <= number <= I64_MAX:
                raise CommandError(b"ERR Number of IDs must be a positive integer")
            if number > count - at - 2:
                raise CommandError(b"ERR The `numids` parameter must match the number of arguments")
            parsed.first = at + 2
            parsed.count = number
            at += 2 + parsed.count
        else:
            raise CommandError(errors.SYNTAX)
    if parsed.count == 0:
        raise CommandError(errors.SYNTAX)
    return parsed


def _not_found(count: i64) -> object:
    replies: list[object] = []
    while count > 0:
        replies.append(_NOT_FOUND)
        count -= 1
    return replies


def xdelex(session: Session, args: list[bytes]) -> object:
    key = args[1]
    stream = _stream_write(session, key)
    parsed = _parse_id_list(args, 2)
    if stream is None:
        return _not_found(parsed.count)
    ids = _ids(args[: parsed.first + parsed.count], parsed.first)
    replies: list[object] = []
    deleted = 0
    is_first_gone = False
    for entry_id in ids:
        outcome = _delete_one(stream, entry_id, parsed.references)
        replies.append(outcome)
        if outcome == _DELETED:
            deleted += 1
            if stream.deleted(entry_id):
                is_first_gone = True
    if deleted:
        _after_deleting(session, stream, key, deleted, is_first_gone)
    return replies


def _delete_one(stream: Stream, entry_id: int, references: i64) -> int:
    if references == ONLY_ACKNOWLEDGED and stream.is_referenced(entry_id):
        return _NOT_DELETED
    if references == DELETE_REFERENCES:
        stream.delete_references(entry_id)
    return _DELETED if stream.delete(entry_id) else _NOT_FOUND


def xackdel(session: Session, args: list[bytes]) -> object:
    key = args[1]
    stream = _stream_read(session, key)
    parsed = _parse_id_list(args, 3)
    group = None if stream is None else stream.groups.get(args[2])
    if stream is None or group is None:
        return _not_found(parsed.count)
    ids = _ids(args[: parsed.first + parsed.count], parsed.first)
    replies: list[object] = []
    acknowledged = 0
    deleted = 0
    is_first_gone = False
    for entry_id in ids:
        if not group.acknowledge(entry_id):
            replies.append(_NOT_FOUND)
            continue
        acknowledged += 1
        outcome = _delete_one(stream, entry_id, parsed.references)
        # Acknowledged is what matters: an entry that was deleted before counts as deleted.
        replies.append(_NOT_DELETED if outcome == _NOT_DELETED else _DELETED)
        if outcome == _DELETED:
            deleted += 1
            if stream.deleted(entry_id):
                is_first_gone = True
    if deleted:
        _after_deleting(session, stream, key, acknowledged, is_first_gone)
    else:
        session.count_changes(acknowledged)
    return replies


# Reading ------------------------------------------------------------------------------------------


def xlen(session: Session, args: list[bytes]) -> object:
    stream = _stream_read(session, args[1])
    if stream is None:
        return 0
    length: int = stream.length
    return length


def xrange(session: Session, args: list[bytes]) -> object:
    return _range(session, args, False)


def xrevrange(session: Session, args: list[bytes]) -> object:
    return _range(session, args, True)


def _range(session: Session, args: list[bytes], is_reversed: bool) -> object:
    start = _interval_start(args[3 if is_reversed else 2])
    end = _interval_end(args[2 if is_reversed else 3])
    limit = -1
    at = 4
    while at < len(args):
        if args[at].lower() != b"count" or at + 1 >= len(args):
            raise CommandError(errors.SYNTAX)
        limit = max(integer_argument(args[at + 1]), 0)
        at += 2
    stream = _stream_read(session, args[1])
    found: list[object] = []
    if stream is None:
        return found
    if limit == 0:
        return NULL_ARRAY
    count: i64 = max(limit, 0)
    if is_reversed:
        stream.range_reversed(start, end, count, found)
    else:
        stream.range(start, end, count, found)
    return found


class _ReadArguments:
    """The options of XREAD and XREADGROUP."""

    def __init__(self) -> None:
        self.is_blocking = False
        self.timeout_us: i64 = 0  # 0: for ever
        self.count: i64 = 0
        self.first_key: i64 = 0
        self.streams: i64 = 0
        self.has_group = False
        self.group: bytes = b""
        self.consumer: bytes = b""
        self.is_noack = False


def _parse_read(session: Session, args: list[bytes], is_group: bool) -> _ReadArguments:
    parsed = _ReadArguments()
    count: i64 = len(args)
    at: i64 = 1
    while at < count:
        word = args[at].lower()
        more = count - at - 1
        if word == b"block" and more > 0:
            at += 1
            parsed.timeout_us = timeout_ms_argument(args[at], session.clock.now_ms)
            parsed.is_blocking = True
        elif word == b"count" and more > 0:
            at += 1
            parsed.count = max(integer_argument(args[at]), 0)
        elif word == b"streams" and more > 0:
            parsed.first_key = at + 1
            if more & 1:
                raise CommandError(
                    b"ERR Unbalanced '"
                    + (b"xreadgroup" if is_group else b"xread")
                    + b"' list of streams: for each stream key an ID"
                    + (b" or '>'" if is_group else b", '+', or '$'")
                    + b" must be specified."
                )
            parsed.streams = more >> 1
            break
        elif word == b"group" and more >= 2:
            if not is_group:
                raise CommandError(
                    b"ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead."
                )
            parsed.has_group = True
            parsed.group = args[at + 1]
            parsed.consumer = args[at + 2]
            at += 2
        elif word == b"noack":
            if not is_group:
                raise CommandError(
                    b"ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead."
                )
            parsed.is_noack = True
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    if parsed.first_key == 0:
        raise CommandError(errors.SYNTAX)
    if is_group and not parsed.has_group:
        raise CommandError(b"ERR Missing GROUP option for XREADGROUP")
    return parsed


def xread(session: Session, args: list[bytes]) -> object:
    parsed = _parse_read(session, args, False)
    after: list[int] = []  # for each stream, the ID after which to read
    resolved: list[bytes] | None = None
    at = parsed.first_key
    last_key = parsed.first_key + parsed.streams
    while at < last_key:
        stream = _stream_read(session, args[at])
        text = args[at + parsed.streams]
        if text == b"$":
            last_id = 0 if stream is None else stream.last_id
            after.append(last_id)
            if parsed.is_blocking:
                if resolved is None:
                    resolved = args.copy()
                resolved[at + parsed.streams] = id_text(last_id)
        elif text == b"+":
            # The last entry: whatever comes after the ID before it.
            after.append(0 if stream is None or stream.length == 0 else stream.last_living() - 1)
        elif text == b">":
            raise CommandError(
                b"ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> "
                b"<consumer> option."
            )
        else:
            after.append(_strict_id(text))
        at += 1
    replies: list[object] = []
    index: i64 = 0
    while index < parsed.streams:
        # The server looks each key up a second time: seen in its counts of hits and misses, and in `keymiss`.
        stream = _stream_read(session, args[parsed.first_key + index])
        start = after[index]
        if stream is not None and stream.length > 0 and start < MAX_ID and stream.last_living() > start:
            found: list[object] = []
            stream.range(start + 1, MAX_ID, parsed.count, found)
            _add_stream(session, replies, args[parsed.first_key + index], found)
        index += 1
    return _read_reply(session, args if resolved is None else resolved, parsed, replies, resolved is not None)


def _add_stream(session: Session, replies: list[object], key: bytes, found: list[object]) -> None:
    if session.resp3:
        replies.append(key)
        replies.append(found)
    else:
        replies.append([key, found])


def _read_reply(
    session: Session, args: list[bytes], parsed: _ReadArguments, replies: list[object], resolved: bool
) -> object:
    """What was found; if nothing, wait for it, or say so.

    Args:
        session: whose request it is.
        args: the request to try again with.
        parsed: its options.
        replies: what was found.
        resolved: whether `args` is another request than came, because `$` means the last entry of now.
    """
    if len(replies) > 0:
        return Map(replies) if session.resp3 else replies
    if not parsed.is_blocking:
        return NULL_ARRAY
    return session.block(
        args[parsed.first_key : parsed.first_key + parsed.streams],
        parsed.timeout_us,
        NULL_ARRAY,
        b"stream",
        args if resolved else None,
        # A consumer of a group is told when the group goes, with its key or without.
        wakes_when_deleted=parsed.has_group,
    )


_MEANINGLESS: Final = (
    b" ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by "
    b"specifying a proper ID, or use the > ID to get new messages. The "
)
_EMPTY_RESULT: Final = b" ID would just return an empty result set."


def xreadgroup(session: Session, args: list[bytes]) -> object:
    parsed = _parse_read(session, args, True)
    after: list[int] = []  # for each stream, the ID after which to read; -1: `>`
    streams: list[Stream] = []
    groups: list[Group] = []
    at = parsed.first_key
    last_key = parsed.first_key + parsed.streams
    while at < last_key:
        key = args[at]
        stream = _stream_read(session, key)
        group = None if stream is None else stream.groups.get(parsed.group)
        if stream is None or group is None:
            raise CommandError(
                b"NOGROUP No such key '"
                + _c_text(key)
                + b"' or consumer group '"
                + _c_text(parsed.group)
                + b"' in XREADGROUP with GROUP option"
            )
        streams.append(stream)
        groups.append(group)
        text = args[at + parsed.streams]
        if text == b">":
            after.append(-1)
        elif text == b"$" or text == b"+":
            raise CommandError(b"ERR The " + text + _MEANINGLESS + text + _EMPTY_RESULT)
        else:
            after.append(_strict_id(text))
        at += 1
    replies: list[object] = []
    index: i64 = 0
    while index < parsed.streams:
        key = args[parsed.first_key + index]
        stream = streams[index]
        group = groups[index]
        start = after[index]
        session.db.lookup_read(key)  # once more, as XREAD
        consumer = _consumer(session, group, parsed.consumer, key)
        if 0 <= start < MAX_ID:
            _add_stream(
                session, replies, key, _history(session, stream, group, consumer, start, parsed.count)
            )
        elif stream.length > 0 and stream.last_living() > group.last_id:
            found = _read_new(session, stream, group, consumer, parsed)
            _add_stream(session, replies, key, found)
            session.count_changes()
        index += 1
    return _read_reply(session, args, parsed, replies, False)


def _consumer(session: Session, group: Group, name: bytes, key: bytes) -> Consumer:
    """The consumer of that name, made if need be, seen now."""
    consumer = group.consumers.get(name)
    if consumer is None:
        consumer = _create_consumer(session, group, name, key)
    consumer.seen_ms = session.clock.now_ms
    return consumer


def _create_consumer(session: Session, group: Group, name: bytes, key: bytes) -> Consumer:
    consumer = Consumer(name, session.clock.now_ms)
    group.consumers[name] = consumer
    session.count_changes()
    session.notify(NOTIFY_STREAM, b"xgroup-createconsumer", key)
    return consumer


def _read_new(
    session: Session, stream: Stream, group: Group, consumer: Consumer, parsed: _ReadArguments
) -> list[object]:
    """Entries that the group has not read yet; they become pending unless NOACK."""
    found: list[object] = []
    ids: list[int] = []
    stream.range(group.last_id + 1, MAX_ID, parsed.count, found, ids)
    now_ms: int = session.clock.now_ms
    for entry_id in ids:
        group.advance(stream, entry_id)
        if not parsed.is_noack:
            group.deliver(entry_id, consumer, now_ms)
            consumer.active_ms = now_ms
    return found


def _history(
    session: Session, stream: Stream, group: Group, consumer: Consumer, after: int, count: i64
) -> list[object]:
    """What is pending with a consumer after an ID; entries deleted since have null fields."""
    found: list[object] = []
    now_ms: int = session.clock.now_ms
    start = after + 1
    while True:
        left: i64 = _PIECE
        if count > 0:
            left = min(left, count - len(found))
        keys, _ = consumer.pending.piece(start, left)
        if len(keys) == 0:
            return found
        for entry_id in keys:
            entry = stream.entry(entry_id)
            if entry is None:
                found.append([id_text(entry_id), NULL_ARRAY])
                continue
            found.append(entry)
            nack = group.nack(entry_id)
            if nack is not None:
                nack.delivery_ms = now_ms
                nack.delivery_count += 1
        start = keys[len(keys) - 1] + 1


# Groups -------------------------------------------------------------------------------------------


def _group_arguments(session: Session, args: list[bytes]) -> Stream:
    """The stream whose groups XGROUP is to change, after the options have been looked at."""
    stream = _stream_write(session, args[2])
    if stream is None:
        raise CommandError(_KEY_MUST_EXIST)
    return stream


def _entries_read_argument(text: bytes) -> int:
    entries_read = integer_argument(text)
    if entries_read < 0 and entries_read != UNKNOWN_READ:
        raise CommandError(b"ERR value for ENTRIESREAD must be positive or -1")
    return entries_read


def xgroup_create(session: Session, args: list[bytes]) -> object:
    may_create = False
    entries_read = UNKNOWN_READ
    at = 5
    while at < len(args):
        word = args[at].lower()
        if word == b"mkstream":
            may_create = True
            at += 1
        elif word == b"entriesread" and at + 1 < len(args):
            entries_read = _entries_read_argument(args[at + 1])
            at += 2
        else:
            raise CommandError(errors.unknown_subcommand_or_arity(b"xgroup", args[1]))
    key = args[2]
    stream = _stream_write(session, key)
    if stream is None and not may_create:
        raise CommandError(_KEY_MUST_EXIST)
    if len(args) > 8:
        raise CommandError(errors.unknown_subcommand_or_arity(b"xgroup", args[1]))
    if args[4] == b"$":
        last_id = 0 if stream is None else stream.last_id
    else:
        last_id = _strict_id(args[4])
    if stream is None:
        stream = Stream(session.engine.limits)
        session.db.add(key, stream)
        session.changed(key, 0)
    if args[3] in stream.groups:
        raise CommandError(b"BUSYGROUP Consumer Group name already exists")
    stream.add_group(args[3], Group(last_id, min(entries_read, stream.entries_added)))
    session.count_changes()
    session.notify(NOTIFY_STREAM, b"xgroup-create", key)
    return OK


def xgroup_setid(session: Session, args: list[bytes]) -> object:
    entries_read = UNKNOWN_READ
    at = 5
    while at < len(args):
        if args[at].lower() != b"entriesread" or at + 1 >= len(args):
            raise CommandError(errors.unknown_subcommand_or_arity(b"xgroup", args[1]))
        entries_read = _entries_read_argument(args[at + 1])
        at += 2
    key = args[2]
    stream = _group_arguments(session, args)
    group = _group_named(stream, key, args[3])
    if len(args) not in (5, 7):
        raise CommandError(errors.unknown_subcommand_or_arity(b"xgroup", args[1]))
    stream.move_group(group, stream.last_id if args[4] == b"$" else _range_id(args[4], 0))
    group.entries_read = min(entries_read, stream.entries_added)
    session.count_changes()
    session.notify(NOTIFY_STREAM, b"xgroup-setid", key)
    return OK


def xgroup_destroy(session: Session, args: list[bytes]) -> object:
    key = args[2]
    stream = _group_arguments(session, args)
    group = stream.groups.pop(args[3], None)
    if group is None:
        return 0
    session.count_changes()
    session.notify(NOTIFY_STREAM, b"xgroup-destroy", key)
    session.wake(key)
    return 1


def xgroup_createconsumer(session: Session, args: list[bytes]) -> object:
    stream = _group_arguments(session, args)
    group = _group_named(stream, args[2], args[3])
    if args[4] in group.consumers:
        return 0
    _create_consumer(session, group, args[4], args[2])
    return 1


def xgroup_delconsumer(session: Session, args: list[bytes]) -> object:
    stream = _group_arguments(session, args)
    group = _group_named(stream, args[2], args[3])
    consumer = group.consumers.get(args[4])
    if consumer is None:
        return 0
    pending = group.delete_consumer(consumer)
    session.count_changes()
    session.notify(NOTIFY_STREAM, b"xgroup-delconsumer", args[2])
    return pending


# Pending entries ----------------------------------------------------------------------------------


def xack(session: Session, args: list[bytes]) -> object:
    stream = _stream_read(session, args[1])
    group = None if stream is None else stream.groups.get(args[2])
    if group is None:
        return 0
    acknowledged = 0
    for entry_id in _ids(args, 3):
        if group.acknowledge(entry_id):
            acknowledged += 1
    session.count_changes(acknowledged)
    return acknowledged


def xpending(session: Session, args: list[bytes]) -> object:
    count: i64 = len(args)
    if count != 3 and not 6 <= count <= 9:
        raise CommandError(errors.SYNTAX)
    start = 0
    end = 0
    limit: i64 = 0
    min_idle = 0
    consumer_name: bytes | None = None
    if count >= 6:
        at: i64 = 3
        if args[3].lower() == b"idle":
            min_idle = integer_argument(args[4])
            if count < 8:
                raise CommandError(errors.SYNTAX)
            at = 5
        limit = max(integer_argument(args[at + 2]), 0)
        start = _interval_start(args[at])
        end = _interval_end(args[at + 1])
        if at + 3 < count:
            consumer_name = args[at + 3]
    stream = _stream_read(session, args[1])
    group = None if stream is None else stream.groups.get(args[2])
    if group is None:
        raise _no_group(args[1], args[2])
    if count == 3:
        return _pending_summary(group)
    return _pending_range(session, group, start, end, limit, min_idle, consumer_name)


def _pending_summary(group: Group) -> object:
    if len(group.pending) == 0:
        return [0, None, None, NULL_ARRAY]
    consumers: list[object] = []
    for name in group.names():
        pending = len(group.consumers[name].pending)
        if pending > 0:
            consumers.append([name, integer_text(pending)])
    return [
        len(group.pending),
        id_text(group.pending.first_key()),
        id_text(group.pending.last_key()),
        consumers,
    ]


def _pending_range(
    session: Session,
    group: Group,
    start: int,
    end: int,
    limit: i64,
    min_idle: int,
    consumer_name: bytes | None,
) -> object:
    pending = group.pending
    found: list[object] = []
    if consumer_name is not None:
        consumer = group.consumers.get(consumer_name)
        if consumer is None:
            return found
        pending = consumer.pending
    now_ms: int = session.clock.now_ms
    while limit > 0:
        keys, nacks = pending.piece(start, _PIECE if min_idle else min(limit, _PIECE))
        if len(keys) == 0:
            break
        for index in range(len(keys)):
            entry_id = keys[index]
            if entry_id > end or limit == 0:
                return found
            nack = nacks[index] if consumer_name is None else group.nack(entry_id)
            if not isinstance(nack, Nack) or (min_idle and now_ms - nack.delivery_ms < min_idle):
                continue
            limit -= 1
            idle = max(now_ms - nack.delivery_ms, 0)
            found.append([id_text(entry_id), nack.consumer.name, idle, nack.delivery_count])
        start = keys[len(keys) - 1] + 1
    return found


class _ClaimArguments:
    """The options of XCLAIM."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.delivery_ms = -1
        self.retry_count = -1
        self.last_id = 0
        self.is_forced = False
        self.just_id = False


def _claim_integer(text: bytes, name: bytes) -> int:
    value = parse_integer(text)
    if value is None:
        raise CommandError(b"ERR Invalid " + name + b" option argument for XCLAIM")
    return value


def _parse_claim(session: Session, args: list[bytes]) -> _ClaimArguments:
    parsed = _ClaimArguments()
    now_ms: int = session.clock.now_ms
    at: i64 = 5
    count: i64 = len(args)
    while at < count:
        try:
            parsed.ids.append(_strict_id(args[at]))
        except CommandError:  # perhaps an option
            break
        at += 1
    while at < count:
        word = args[at].lower()
        has_more = at + 1 < count
        if word == b"force":
            parsed.is_forced = True
        elif word == b"justid":
            parsed.just_id = True
        elif word == b"idle" and has_more:
            at += 1
            parsed.delivery_ms = now_ms - _claim_integer(args[at], b"IDLE")
        elif word == b"time" and has_more:
            at += 1
            parsed.delivery_ms = _claim_integer(args[at], b"TIME")
        elif word == b"retrycount" and has_more:
            at += 1
            parsed.retry_count = _claim_integer(args[at], b"RETRYCOUNT")
        elif word == b"lastid" and has_more:
            at += 1
            parsed.last_id = _strict_id(args[at])
        else:
            raise CommandError(b"ERR Unrecognized XCLAIM option '" + _c_text(args[at]) + b"'")
        at += 1
    # A time that cannot be is no error: clients do their sums with clocks of their own.
    if parsed.delivery_ms < 0 or parsed.delivery_ms > now_ms:
        parsed.delivery_ms = now_ms
    return parsed


def xclaim(session: Session, args: list[bytes]) -> object:
    key = args[1]
    stream = _stream_read(session, key)
    group = None if stream is None else stream.groups.get(args[2])
    if stream is None or group is None:
        raise _no_group(key, args[2])
    min_idle = parse_integer(args[4])
    if min_idle is None:
        raise CommandError(b"ERR Invalid min-idle-time argument for XCLAIM")
    parsed = _parse_claim(session, args)
    is_moved = parsed.last_id > group.last_id
    if is_moved:
        stream.move_group(group, parsed.last_id)
    consumer = _consumer(session, group, args[3], key)
    now_ms: int = session.clock.now_ms
    replies: list[object] = []
    changes = 0
    for entry_id in parsed.ids:
        nack = group.nack(entry_id)
        entry = stream.entry(entry_id)
        if entry is None:
            if nack is not None:  # deleted meanwhile
                group.acknowledge(entry_id)
                changes += 1
            continue
        if nack is None:
            if not parsed.is_forced:
                continue
            nack = group.add_pending(entry_id, consumer, now_ms)
        elif min_idle > 0 and now_ms - nack.delivery_ms < min_idle:
            continue
        group.assign(entry_id, nack, consumer)
        nack.delivery_ms = parsed.delivery_ms
        if parsed.retry_count >= 0:
            nack.delivery_count = parsed.retry_count
        elif not parsed.just_id:
            nack.delivery_count += 1
        replies.append(entry[0] if parsed.just_id else entry)
        consumer.active_ms = now_ms
        changes += 1
    if changes == 0 and is_moved:
        changes = 1
    session.count_changes(changes)
    return replies


def xautoclaim(session: Session, args: list[bytes]) -> object:
    key = args[1]
    found = session.db.lookup_read(key)  # a miss is told even of a request that is wrong
    min_idle = parse_integer(args[4])
    if min_idle is None:
        raise CommandError(b"ERR Invalid min-idle-time argument for XAUTOCLAIM")
    start = _interval_start(args[5])
    count = 100
    just_id = False
    at = 6
    while at < len(args):
        word = args[at].lower()
        if word == b"count" and at + 1 < len(args):
            at += 1
            number = parse_integer(args[at])
            if number is None or not 1 <= number <= _HIGHEST_COUNT:
                raise CommandError(b"ERR COUNT must be > 0")
            count = number
        elif word == b"justid":
            just_id = True
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    stream = _stream_in(found)
    group = None if stream is None else stream.groups.get(args[2])
    if stream is None or group is None:
        raise _no_group(key, args[2])
    consumer = _consumer(session, group, args[3], key)
    now_ms: int = session.clock.now_ms
    claimed: list[object] = []
    deleted: list[object] = []
    attempts = count * _ATTEMPTS_FACTOR
    changes = 0
    keys, _ = group.pending.piece(start, min(attempts, _PIECE))
    while len(keys) > 0 and attempts > 0 and count > 0:
        for entry_id in keys:
            if attempts == 0 or count == 0:
                break
            attempts -= 1
            start = entry_id + 1
            nack = group.nack(entry_id)
            if nack is None:
                continue
            entry = stream.entry(entry_id)
            if entry is None:
                group.acknowledge(entry_id)
                deleted.append(id_text(entry_id))
                changes += 1
                count -= 1
                continue
            if min_idle > 0 and now_ms - nack.delivery_ms < min_idle:
                continue
            group.assign(entry_id, nack, consumer)
            nack.delivery_ms = now_ms
            if not just_id:
                nack.delivery_count += 1
            claimed.append(entry[0] if just_id else entry)
            consumer.active_ms = now_ms
            changes += 1
            count -= 1
        keys, _ = group.pending.piece(start, _PIECE)
    keys, _ = group.pending.piece(start, 1)
    session.count_changes(changes)
    return [id_text(keys[0] if len(keys) > 0 else 0), claimed, deleted]


# XINFO --------------------------------------------------------------------------------------------


def _info_stream(session: Session, args: list[bytes]) -> Stream:
    stream = _stream_read(session, args[2])
    if stream is None:
        raise CommandError(errors.NO_KEY)
    return stream


def xinfo_stream(session: Session, args: list[bytes]) -> object:
    stream = _info_stream(session, args)
    is_full = len(args) > 3
    limit = 10
    if is_full:
        if len(args) not in (4, 6) or args[3].lower() != b"full":
            raise CommandError(errors.unknown_subcommand_or_arity(b"xinfo", args[1]))
        if len(args) == 6:
            if args[4].lower() != b"count":
                raise CommandError(errors.unknown_subcommand_or_arity(b"xinfo", args[1]))
            limit = integer_argument(args[5])
            if limit < 0:
                limit = 10
    length: int = stream.length
    facts: list[object] = [b"length", length, b"radix-tree-keys", len(stream.blocks)]
    facts += [b"radix-tree-nodes", stream.radix_tree_nodes()]
    facts += [b"last-generated-id", id_text(stream.last_id)]
    facts += [b"max-deleted-entry-id", id_text(stream.max_deleted_id)]
    facts += [b"entries-added", stream.entries_added]
    facts += [b"recorded-first-entry-id", id_text(stream.first_id)]
    entries: list[object] = []
    if is_full:
        stream.range(0, MAX_ID, limit, entries)
        groups: list[object] = [
            _full_group(stream, name, stream.groups[name], limit) for name in sorted(stream.groups)
        ]
        facts += [b"entries", entries, b"groups", groups]
        return Map(facts)
    stream.range(0, MAX_ID, 1, entries)
    stream.range_reversed(0, MAX_ID, 1, entries)
    facts += [b"groups", len(stream.groups)]
    facts += [b"first-entry", entries[0] if entries else None]
    facts += [b"last-entry", entries[1] if entries else None]
    return Map(facts)


def _entries_read(group: Group) -> int | None:
    return None if group.entries_read == UNKNOWN_READ else group.entries_read


def _full_group(stream: Stream, name: bytes, group: Group, limit: int) -> Map:
    facts: list[object] = [b"name", name, b"last-delivered-id", id_text(group.last_id)]
    facts += [b"entries-read", _entries_read(group), b"lag", stream.lag(group)]
    facts += [b"pel-count", len(group.pending)]
    pending: list[object] = []
    left: int = len(group.pending) if limit == 0 else limit
    start = 0
    while left > 0:
        keys, nacks = group.pending.piece(start, min(left, _PIECE))
        if len(keys) == 0:
            break
        for at in range(len(keys)):
            nack = nacks[at]
            if isinstance(nack, Nack):
                pending.append([id_text(keys[at]), nack.consumer.name, nack.delivery_ms, nack.delivery_count])
        left -= len(keys)
        start = keys[len(keys) - 1] + 1
    consumers: list[object] = []
    for consumer_name in group.names():
        consumer = group.consumers[consumer_name]
        owned: list[object] = []
        for entry_id in _first_keys(consumer, limit):
            known = group.nack(entry_id)
            if known is not None:
                owned.append([id_text(entry_id), known.delivery_ms, known.delivery_count])
        about: list[object] = [b"name", consumer_name, b"seen-time", consumer.seen_ms]
        about += [b"active-time", consumer.active_ms, b"pel-count", len(consumer.pending)]
        about += [b"pending", owned]
        consumers.append(Map(about))
    facts += [b"pending", pending, b"consumers", consumers]
    return Map(facts)


def _first_keys(consumer: Consumer, limit: int) -> list[int]:
    """The first pending IDs of a consumer; all if the limit is 0."""
    pending = consumer.pending
    if limit == 0:
        return pending.keys()
    found: list[int] = []
    start = 0
    while len(found) < limit:
        keys, _ = pending.piece(start, min(limit - len(found), _PIECE))
        if len(keys) == 0:
            break
        found.extend(keys)
        start = keys[len(keys) - 1] + 1
    return found


def xinfo_groups(session: Session, args: list[bytes]) -> object:
    stream = _info_stream(session, args)
    replies: list[object] = []
    for name in sorted(stream.groups):
        group = stream.groups[name]
        facts: list[object] = [b"name", name, b"consumers", len(group.consumers)]
        facts += [b"pending", len(group.pending), b"last-delivered-id", id_text(group.last_id)]
        facts += [b"entries-read", _entries_read(group), b"lag", stream.lag(group)]
        replies.append(Map(facts))
    return replies


def xinfo_consumers(session: Session, args: list[bytes]) -> object:
    stream = _info_stream(session, args)
    group = _group_named(stream, args[2], args[3])
    now_ms: int = session.clock.now_ms
    replies: list[object] = []
    for name in group.names():
        consumer = group.consumers[name]
        facts: list[object] = [b"name", name, b"pending", len(consumer.pending)]
        facts += [b"idle", max(now_ms - consumer.seen_ms, 0)]
        facts += [b"inactive", -1 if consumer.active_ms == -1 else now_ms - consumer.active_ms]
        replies.append(Map(facts))
    return replies


HANDLERS: Final[dict[str, Handler]] = {
    "xack": xack,
    "xackdel": xackdel,
    "xadd": xadd,
    "xautoclaim": xautoclaim,
    "xclaim": xclaim,
    "xdel": xdel,
    "xdelex": xdelex,
    "xgroup|create": xgroup_create,
    "xgroup|createconsumer": xgroup_createconsumer,
    "xgroup|delconsumer": xgroup_delconsumer,
    "xgroup|destroy": xgroup_destroy,
    "xgroup|setid": xgroup_setid,
    "xinfo|consumers": xinfo_consumers,
    "xinfo|groups": xinfo_groups,
    "xinfo|stream": xinfo_stream,
    "xlen": xlen,
    "xpending": xpending,
    "xrange": xrange,
    "xread": xread,
    "xreadgroup": xreadgroup,
    "xrevrange": xrevrange,
    "xsetid": xsetid,
    "xtrim": xtrim,
}
