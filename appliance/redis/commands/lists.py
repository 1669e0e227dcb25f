"""Commands on lists.

Source:     https://redis.io/docs/latest/commands/?group=list; order of checks, texts and events from
            redis-server 8.2.
Units:      timeouts are microseconds inside.
Errors:     CommandError: WRONGTYPE, not an integer, out of range, syntax, no such key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.arguments import (
    integer_argument,
    positive_argument,
    range_argument,
    timeout_argument,
)
from appliance.redis.errors import CommandError
from appliance.redis.integers import I64_MAX, parse_integer
from appliance.redis.notifications import NOTIFY_GENERIC, NOTIFY_LIST
from appliance.redis.replies import NULL_ARRAY, OK
from appliance.redis.types.lists import ListValue

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_RANK_ZERO: Final = (
    b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to "
    b"start from the end of the list"
)


def _read(session: Session, key: bytes) -> ListValue | None:
    value = session.db.lookup_read(key)
    if value is None:
        return None
    if not isinstance(value, ListValue):
        raise CommandError(errors.WRONG_TYPE)
    return value


def _write(session: Session, key: bytes) -> ListValue | None:
    entry = session.db.lookup_write(key)
    if entry is None:
        return None
    value = entry.value
    if not isinstance(value, ListValue):
        raise CommandError(errors.WRONG_TYPE)
    return value


def _is_left(text: bytes) -> bool:
    """Whether an argument that must be LEFT or RIGHT is LEFT."""
    word = text.lower()
    if word == b"left":
        return True
    if word == b"right":
        return False
    raise CommandError(errors.SYNTAX)


# Ends ---------------------------------------------------------------------------------------------


def lpush(session: Session, args: list[bytes]) -> object:
    return _push(session, args, True, False)


def rpush(session: Session, args: list[bytes]) -> object:
    return _push(session, args, False, False)


def lpushx(session: Session, args: list[bytes]) -> object:
    return _push(session, args, True, True)


def rpushx(session: Session, args: list[bytes]) -> object:
    return _push(session, args, False, True)


def _push(session: Session, args: list[bytes], at_head: bool, only_existing: bool) -> object:
    key = args[1]
    value = _write(session, key)
    if value is None:
        if only_existing:
            return 0
        value = ListValue(session.engine.limits)
        session.db.add(key, value)
    value.push_arguments(args, 2, at_head)
    session.changed(key, len(args) - 2)
    session.notify(NOTIFY_LIST, b"lpush" if at_head else b"rpush", key)
    length: int = value.length
    return length


def lpop(session: Session, args: list[bytes]) -> object:
    return _pop(session, args, True)


def rpop(session: Session, args: list[bytes]) -> object:
    return _pop(session, args, False)


def _pop(session: Session, args: list[bytes], at_head: bool) -> object:
    key = args[1]
    if len(args) == 2:
        value = _write(session, key)
        if value is None:
            return None
        element = value.pop_head() if at_head else value.pop_tail()
        _removed(session, key, value, b"lpop" if at_head else b"rpop", 1)
        return element
    if len(args) > 3:
        raise CommandError(errors.wrong_arity(b"lpop" if at_head else b"rpop"))
    count = positive_argument(args[2])
    value = _write(session, key)
    if value is None:
        return NULL_ARRAY
    return _pop_many(session, key, value, at_head, count)


def _pop_many(session: Session, key: bytes, value: ListValue, at_head: bool, count: i64) -> list[object]:
    """Take up to `count` elements; they are in the order in which single pops would give them."""
    length = value.length
    count = min(count, length)
    if count == 0:
        return []
    start: i64 = 0 if at_head else length - count
    taken: list[object] = list(value.elements(start, start + count - 1))
    if not at_head:
        taken.reverse()
    if count < length:
        value.delete_range(start, count)
    else:
        value.length = 0
    _removed(session, key, value, b"lpop" if at_head else b"rpop", count)
    return taken


def _removed(session: Session, key: bytes, value: ListValue, event: bytes, count: i64) -> None:
    """Elements were taken out: what follows from that."""
    if value.length == 0:
        session.db.delete(key)
        session.changed(key, count)
        session.notify(NOTIFY_LIST, event, key)
        session.notify(NOTIFY_GENERIC, b"del", key)
    else:
        value.after_removal()
        session.changed(key, count)
        session.notify(NOTIFY_LIST, event, key)


# Reading ------------------------------------------------------------------------------------------


def llen(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return 0 if value is None else len(value)


def lindex(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    if value is None:
        return None
    index = integer_argument(args[2])
    if index < 0:
        index += len(value)
    return value.get(index) if 0 <= index < len(value) else None


def lrange(session: Session, args: list[bytes]) -> object:
    start = integer_argument(args[2])
    stop = integer_argument(args[3])
    value = _read(session, args[1])
    if value is None:
        return []
    length = len(value)
    if start < 0:
        start = max(0, start + length)
    if stop < 0:
        stop += length
    stop = min(stop, length - 1)
    return value.elements(start, stop) if start <= stop else []


def lpos(session: Session, args: list[bytes]) -> object:
    rank = 1
    count = -1
    scan = 0
    at = 3
    last = len(args) - 1
    while at <= last:
        option = args[at].lower()
        if at == last:
            raise CommandError(errors.SYNTAX)
        at += 1
        if option == b"rank":
            rank = range_argument(args[at], -I64_MAX, I64_MAX)
            if rank == 0:
                raise CommandError(_RANK_ZERO)
        elif option == b"count":
            count = positive_argument(args[at], b"ERR COUNT can't be negative")
        elif option == b"maxlen":
            scan = positive_argument(args[at], b"ERR MAXLEN can't be negative")
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    value = _read(session, args[1])
    if value is None:
        return None if count < 0 else []
    wanted = 1 if count < 0 else count
    if wanted == 0:
        wanted = len(value)
    if scan == 0:
        scan = len(value)
    found = value.positions(args[2], abs(rank) - 1, wanted, scan, rank < 0)
    if count >= 0:
        return found
    return found[0] if len(found) > 0 else None


# The middle ---------------------------------------------------------------------------------------


def lset(session: Session, args: list[bytes]) -> object:
    key = args[1]
    value = _write(session, key)
    if value is None:
        raise CommandError(errors.NO_KEY)
    index = integer_argument(args[2])
    # The server makes room before it looks whether the index is in range, and it shows in the encoding.
    value.before_growth(len(args[3]), 1)
    # It keeps the index as a C int, so 2**32 is 0 and 2**63 - 1 is the last.
    index = ((index + (1 << 31)) & 0xFFFF_FFFF) - (1 << 31)
    if index < 0:
        index += len(value)
    if not 0 <= index < len(value):
        raise CommandError(b"ERR index out of range")
    value.set(index, args[3])
    value.after_removal()
    session.changed(key, 1)
    session.notify(NOTIFY_LIST, b"lset", key)
    return OK


def linsert(session: Session, args: list[bytes]) -> object:
    where = args[2].lower()
    if where not in (b"before", b"after"):
        raise CommandError(errors.SYNTAX)
    key = args[1]
    value = _write(session, key)
    if value is None:
        return 0
    # As with LSET, before it is known whether the pivot exists.
    value.before_growth(len(args[4]), 1)
    if not value.insert(args[3], args[4], where == b"after"):
        return -1
    session.changed(key, 1)
    session.notify(NOTIFY_LIST, b"linsert", key)
    return len(value)


def lrem(session: Session, args: list[bytes]) -> object:
    count = range_argument(args[2], -I64_MAX, I64_MAX)
    key = args[1]
    value = _write(session, key)
    if value is None:
        return 0
    removed = value.remove(args[3], abs(count) if count != 0 else I64_MAX, count < 0)
    if removed == 0:
        return 0
    _removed(session, key, value, b"lrem", removed)
    return removed


def ltrim(session: Session, args: list[bytes]) -> object:
    start = integer_argument(args[2])
    stop = integer_argument(args[3])
    key = args[1]
    value = _write(session, key)
    if value is None:
        return OK
    length = len(value)
    if start < 0:
        start = max(0, start + length)
    if stop < 0:
        stop += length
    stop = min(stop, length - 1)
    if start > stop:
        session.db.delete(key)
        session.changed(key, length)
        session.notify(NOTIFY_LIST, b"ltrim", key)
        session.notify(NOTIFY_GENERIC, b"del", key)
        return OK
    discarded = ListValue(session.engine.limits)
    value.delete_range(stop + 1, length - stop - 1, discarded)
    value.delete_range(0, start, discarded)
    session.observer.released(discarded)
    value.after_removal()
    session.changed(key, length - (stop - start + 1))
    session.notify(NOTIFY_LIST, b"ltrim", key)
    return OK


# From one list to another -------------------------------------------------------------------------


def lmove(session: Session, args: list[bytes]) -> object:
    from_head = _is_left(args[3])
    to_head = _is_left(args[4])
    return _move(session, args[1], args[2], from_head, to_head)


def rpoplpush(session: Session, args: list[bytes]) -> object:
    return _move(session, args[1], args[2], False, True)


def _move(session: Session, source: bytes, destination: bytes, from_head: bool, to_head: bool) -> object:
    value = _write(session, source)
    if value is None:
        return None
    target = _write(session, destination)
    element = value.pop_head() if from_head else value.pop_tail()
    if target is None:
        target = ListValue(session.engine.limits)
        session.db.add(destination, target)
    # An integer counts for nothing when the server asks whether the listpack would grow too long.
    target.before_growth(0 if parse_integer(element) is not None else len(element), 1)
    if to_head:
        target.push_head(element)
    else:
        target.push_tail(element)
    pushed = b"lpush" if to_head else b"rpush"
    if target is value:
        value.after_removal()
        session.changed(source, 1)
        session.notify(NOTIFY_LIST, pushed, source)
        session.notify(NOTIFY_LIST, b"lpop" if from_head else b"rpop", source)
        return element
    session.changed(destination, 0)
    session.notify(NOTIFY_LIST, pushed, destination)
    _removed(session, source, value, b"lpop" if from_head else b"rpop", 1)
    return element


# Of several lists ---------------------------------------------------------------------------------


class _PopArguments:
    """What LMPOP and BLMPOP are asked to do."""

    def __init__(self, keys: list[bytes], at_head: bool, count: int) -> None:
        self.keys = keys
        self.at_head = at_head
        self.count = count


def _pop_arguments(args: list[bytes], at: int) -> _PopArguments:
    """Read `numkeys key [key ...] LEFT|RIGHT [COUNT count]` from `at` on."""
    key_count = range_argument(args[at], 1, I64_MAX, b"ERR numkeys should be greater than 0")
    where = at + key_count + 1
    if where >= len(args):
        raise CommandError(errors.SYNTAX)
    at_head = _is_left(args[where])
    count = 0
    rest = where + 1
    if rest < len(args):
        if args[rest].lower() != b"count" or rest + 1 == len(args):
            raise CommandError(errors.SYNTAX)
        count = range_argument(args[rest + 1], 1, I64_MAX, b"ERR count should be greater than 0")
        if rest + 2 < len(args):
            raise CommandError(errors.SYNTAX)
    return _PopArguments(args[at + 1 : where], at_head, max(count, 1))


def lmpop(session: Session, args: list[bytes]) -> object:
    asked = _pop_arguments(args, 1)
    found = _pop_first(session, asked)
    return NULL_ARRAY if found is None else found


def _pop_first(session: Session, asked: _PopArguments) -> list[object] | None:
    """Pop from the first of the keys that holds a list."""
    for key in asked.keys:
        value = _write(session, key)
        if value is not None:
            return [key, _pop_many(session, key, value, asked.at_head, asked.count)]
    return None


# Waiting ------------------------------------------------------------------------------------------


def blpop(session: Session, args: list[bytes]) -> object:
    return _blocking_pop(session, args, True)


def brpop(session: Session, args: list[bytes]) -> object:
    return _blocking_pop(session, args, False)


def _blocking_pop(session: Session, args: list[bytes], at_head: bool) -> object:
    timeout_us = timeout_argument(args[len(args) - 1], session.clock.now_ms)
    keys = args[1:-1]
    for key in keys:
        value = _write(session, key)
        if value is not None:
            element = value.pop_head() if at_head else value.pop_tail()
            _removed(session, key, value, b"lpop" if at_head else b"rpop", 1)
            return [key, element]
    return session.block(keys, timeout_us, NULL_ARRAY, b"list")


def blmove(session: Session, args: list[bytes]) -> object:
    from_head = _is_left(args[3])
    to_head = _is_left(args[4])
    return _blocking_move(session, args, from_head, to_head, args[5])


def brpoplpush(session: Session, args: list[bytes]) -> object:
    return _blocking_move(session, args, False, True, args[3])


def _blocking_move(
    session: Session, args: list[bytes], from_head: bool, to_head: bool, timeout: bytes
) -> object:
    timeout_us = timeout_argument(timeout, session.clock.now_ms)
    element = _move(session, args[1], args[2], from_head, to_head)
    if element is not None:
        return element
    if session.denies_blocking:  # in EXEC it is LMOVE, with LMOVE's null
        return None
    return session.block([args[1]], timeout_us, NULL_ARRAY, b"list")


def blmpop(session: Session, args: list[bytes]) -> object:
    asked = _pop_arguments(args, 2)
    timeout_us = timeout_argument(args[1], session.clock.now_ms)
    found = _pop_first(session, asked)
    if found is not None:
        return found
    return session.block(asked.keys, timeout_us, NULL_ARRAY, b"list")


HANDLERS: Final[dict[str, Handler]] = {
    "blmove": blmove,
    "blmpop": blmpop,
    "blpop": blpop,
    "brpop": brpop,
    "brpoplpush": brpoplpush,
    "lindex": lindex,
    "linsert": linsert,
    "llen": llen,
    "lmove": lmove,
    "lmpop": lmpop,
    "lpop": lpop,
    "lpos": lpos,
    "lpush": lpush,
    "lpushx": lpushx,
    "lrange": lrange,
    "lrem": lrem,
    "lset": lset,
    "ltrim": ltrim,
    "rpop": rpop,
    "rpoplpush": rpoplpush,
    "rpush": rpush,
    "rpushx": rpushx,
}
