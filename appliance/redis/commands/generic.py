"""Commands on keys, whatever they hold, and on whole databases.

Source:     https://redis.io/docs/latest/commands/?group=generic; order of checks and texts from
            redis-server 8.2.
Units:      expire times are absolute milliseconds inside; seconds are rounded to the nearest on the way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.arguments import integer_argument, range_argument
from appliance.redis.commands.sampling import cursor_argument
from appliance.redis.entry import NO_EXPIRY, PACKED, Entry, idle_s
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match, is_literal
from appliance.redis.integers import I64_MAX
from appliance.redis.notifications import NOTIFY_GENERIC
from appliance.redis.replies import OK, SimpleString
from appliance.redis.values import copied, encoding_name, type_name

if TYPE_CHECKING:
    from appliance.redis.keyspace import Database
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_INT_MIN: Final = -(1 << 31)
_INT_MAX: Final = (1 << 31) - 1


def _int_argument(text: bytes, message: bytes | None = None) -> int:
    """A C int."""
    return range_argument(text, _INT_MIN, _INT_MAX, message)


def _database(session: Session, index: int) -> Database:
    if not 0 <= index < len(session.engine.databases):
        raise CommandError(errors.DB_INDEX_RANGE)
    return session.engine.databases[index]


# Keys ---------------------------------------------------------------------------------------------


def delete(session: Session, args: list[bytes]) -> object:
    db = session.db
    deleted: i64 = 0
    at: i64 = 1
    count: i64 = len(args)
    while at < count:
        if db.delete(args[at]):
            deleted += 1
            session.changed(args[at])
            session.notify(NOTIFY_GENERIC, b"del", args[at])
        at += 1
    result: int = deleted
    return result


def exists(session: Session, args: list[bytes]) -> object:
    found = 0
    for key in args[1:]:
        if session.db.peek_value(key) is not None:
            found += 1
    return found


def type_(session: Session, args: list[bytes]) -> object:
    value = session.db.peek_value(args[1])
    return SimpleString(b"none" if value is None else type_name(value))


def touch(session: Session, args: list[bytes]) -> object:
    session.clock.touching = session.engine.touching  # what NO-TOUCH forbids is what this command is for
    found = 0
    for key in args[1:]:
        if session.db.lookup_read(key) is not None:
            found += 1
    session.clock.touching = session.touching
    return found


_EXPIRE_NX: Final = 1
_EXPIRE_XX: Final = 2
_EXPIRE_GT: Final = 4
_EXPIRE_LT: Final = 8


def _expire_conditions(args: list[bytes]) -> int:
    flags = 0
    for option in args[3:]:
        word = option.lower()
        if word == b"nx":
            flags |= _EXPIRE_NX
        elif word == b"xx":
            flags |= _EXPIRE_XX
        elif word == b"gt":
            flags |= _EXPIRE_GT
        elif word == b"lt":
            flags |= _EXPIRE_LT
        else:
            raise CommandError(b"ERR Unsupported option " + errors.quoted(option, len(option)))
    if flags & _EXPIRE_NX and flags != _EXPIRE_NX:
        raise CommandError(b"ERR NX and XX, GT or LT options at the same time are not compatible")
    if flags & _EXPIRE_GT and flags & _EXPIRE_LT:
        raise CommandError(b"ERR GT and LT options at the same time are not compatible")
    return flags


def _expire(session: Session, args: list[bytes], base_ms: int, seconds: bool, name: bytes) -> object:
    conditions = _expire_conditions(args)
    when = integer_argument(args[2])
    if seconds:
        # C divides towards zero: -(2**63) / 1000 is -9223372036854775.
        if not -(I64_MAX // 1000) <= when <= I64_MAX // 1000:
            raise CommandError(errors.invalid_expire(name))
        when *= 1000
    if when > I64_MAX - base_ms:
        raise CommandError(errors.invalid_expire(name))
    when += base_ms
    db = session.db
    entry = db.lookup_write(args[1])
    if entry is None or not _expire_condition_holds(conditions, entry, when):
        return 0
    if when <= session.clock.now_ms:
        session.drop(args[1])
    else:
        db.set_expiry(entry, when)
        session.changed(args[1])
        session.notify(NOTIFY_GENERIC, b"expire", args[1])
    return 1


def _expire_condition_holds(conditions: int, entry: Entry, when: int) -> bool:
    """Whether NX, XX, GT and LT allow the new time; never to expire counts as expiring infinitely late."""
    current: int = entry.expire_at_ms
    if conditions & _EXPIRE_NX and current != NO_EXPIRY:
        return False
    if conditions & _EXPIRE_XX and current == NO_EXPIRY:
        return False
    if conditions & _EXPIRE_GT and (current == NO_EXPIRY or when <= current):
        return False
    return not (conditions & _EXPIRE_LT and current != NO_EXPIRY and when >= current)


def expire(session: Session, args: list[bytes]) -> object:
    return _expire(session, args, session.clock.now_ms, True, b"expire")


def pexpire(session: Session, args: list[bytes]) -> object:
    return _expire(session, args, session.clock.now_ms, False, b"pexpire")


def expireat(session: Session, args: list[bytes]) -> object:
    return _expire(session, args, 0, True, b"expireat")


def pexpireat(session: Session, args: list[bytes]) -> object:
    return _expire(session, args, 0, False, b"pexpireat")


def _time_left(session: Session, key: bytes) -> int:
    """Milliseconds left, -1 without an expire time, -2 without the key."""
    when = session.db.expire_time(key)
    if when < 0:
        return when
    left: int = when - session.clock.now_ms
    return max(0, left)


def ttl(session: Session, args: list[bytes]) -> object:
    left = _time_left(session, args[1])
    return left if left < 0 else (left + 500) // 1000


def pttl(session: Session, args: list[bytes]) -> object:
    return _time_left(session, args[1])


def expiretime(session: Session, args: list[bytes]) -> object:
    when = pexpiretime(session, args)
    assert isinstance(when, int)
    return when if when < 0 else (when + 500) // 1000


def pexpiretime(session: Session, args: list[bytes]) -> object:
    when: int = session.db.expire_time(args[1])
    return when  # NO_EXPIRY is the reply's -1


def persist(session: Session, args: list[bytes]) -> object:
    entry = session.db.lookup_write(args[1])
    if entry is None or entry.expire_at_ms == NO_EXPIRY:
        return 0
    session.db.clear_expiry(entry)
    session.changed(args[1])
    session.notify(NOTIFY_GENERIC, b"persist", args[1])
    return 1


def _rename(session: Session, args: list[bytes], only_if_free: bool) -> bool:
    db = session.db
    entry = db.lookup_write(args[1])
    if entry is None:
        raise CommandError(errors.NO_KEY)
    if args[1] == args[2]:
        return not only_if_free
    replaced = db.lookup_write(args[2])
    if only_if_free and replaced is not None:
        return False
    old = None
    if replaced is not None:
        old = replaced.value
        db.delete(args[2])
    moved = db.take(args[1])
    assert moved is not None
    renamed = db.add(args[2], moved.value)
    session.engine.field_schedules[db.index].note(args[2], moved.value)
    if moved.expire_at_ms != NO_EXPIRY:
        db.set_expiry(renamed, moved.expire_at_ms)
    session.changed(args[1])
    session.changed(args[2], 0)
    session.notify(NOTIFY_GENERIC, b"rename_from", args[1])
    session.notify(NOTIFY_GENERIC, b"rename_to", args[2])
    if old is not None:
        db.tell_overwritten(args[2], old, moved.value)
    return True


def rename(session: Session, args: list[bytes]) -> object:
    _rename(session, args, only_if_free=False)
    return OK


def renamenx(session: Session, args: list[bytes]) -> object:
    return 1 if _rename(session, args, only_if_free=True) else 0


def copy(session: Session, args: list[bytes]) -> object:
    target = session.db
    replace = False
    at = 3
    while at < len(args):
        option = args[at].lower()
        if option == b"replace":
            replace = True
        elif option == b"db" and at + 1 < len(args):
            at += 1
            target = _database(session, _int_argument(args[at]))
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    if target is session.db and args[1] == args[2]:
        raise CommandError(errors.SAME_OBJECT)
    entry = session.db.read_entry(args[1])
    if entry is None:
        return 0
    replaced = target.lookup_write(args[2])
    old = None
    if replaced is not None:
        if not replace:
            return 0
        old = replaced.value
    value = copied(entry.value)
    expire_at_ms = entry.expire_at_ms
    if old is not None:
        target.delete(args[2])
    made = target.add(args[2], value)
    session.engine.field_schedules[target.index].note(args[2], value)
    if expire_at_ms != NO_EXPIRY:
        target.set_expiry(made, expire_at_ms)
    session.changed_in(target, args[2])
    session.notify_in(target, NOTIFY_GENERIC, b"copy_to", args[2])
    if old is not None:
        target.tell_overwritten(args[2], old, value)
    return 1


def move(session: Session, args: list[bytes]) -> object:
    target = _database(session, _int_argument(args[2]))
    if target is session.db:
        raise CommandError(errors.SAME_OBJECT)
    entry = session.db.lookup_write(args[1])
    if entry is None or target.find(args[1]) is not None:
        return 0
    moved = target.add(args[1], entry.value)
    session.engine.field_schedules[target.index].note(args[1], entry.value)
    taken = session.db.take(args[1])
    assert taken is not None
    if taken.expire_at_ms != NO_EXPIRY:
        target.set_expiry(moved, taken.expire_at_ms)
    session.changed(args[1])
    session.changed_in(target, args[1], 0)
    session.notify(NOTIFY_GENERIC, b"move_from", args[1])
    session.notify_in(target, NOTIFY_GENERIC, b"move_to", args[1])
    return 1


def randomkey(session: Session, args: list[bytes]) -> object:
    return session.db.random_key(session.engine.random)


def keys(session: Session, args: list[bytes]) -> object:
    db = session.db
    pattern = args[1]
    everything = pattern == b"*"
    if not everything and is_literal(pattern):
        only = db.peek_raw(pattern)
        is_there = only is not None and not db.is_expired(only)
        return [pattern] if is_there else []
    found: list[object] = [key for key in db.live_keys() if everything or glob_match(pattern, key)]
    return found


# The types a SCAN may ask for; those that no key can have here simply match nothing.
_TYPES: Final = (b"string", b"list", b"set", b"zset", b"hash", b"stream")


def scan(session: Session, args: list[bytes]) -> object:
    cursor = cursor_argument(args[1])
    pattern: bytes | None = None
    wanted_type: bytes | None = None
    count = 10
    at = 2
    while at < len(args):
        option = args[at].lower()
        if option == b"novalues":
            raise CommandError(b"ERR NOVALUES option can only be used in HSCAN")
        if at + 1 >= len(args):
            raise CommandError(errors.SYNTAX)
        if option == b"count":
            count = integer_argument(args[at + 1])
            if count < 1:
                raise CommandError(errors.SYNTAX)
        elif option == b"match":
            pattern = None if args[at + 1] == b"*" else args[at + 1]
        elif option == b"type":
            wanted_type = args[at + 1].lower()
        else:
            raise CommandError(errors.SYNTAX)
        at += 2
    db = session.db
    entries: list[Entry] = []
    without_packed = wanted_type is not None and wanted_type != b"string"
    # As many home slots as COUNT asks for entries, and some more when the table is sparse.
    steps = min(count, I64_MAX // 10) * 10
    while True:
        cursor = db.scan(cursor, entries, without_packed)
        steps -= 1
        if cursor == 0 or steps <= 0 or len(entries) >= count:
            break
    found: list[object] = []
    for entry in entries:
        if entry is PACKED:
            continue
        if pattern is not None and not glob_match(pattern, entry.key):
            continue
        if wanted_type is not None and type_name(entry.value) != wanted_type:
            continue
        if not db.is_expired(entry) or db.find_value(entry.key) is not None:  # which removes an expired one
            found.append(entry.key)
    return [b"%d" % cursor, found]


# Databases ----------------------------------------------------------------------------------------


def dbsize(session: Session, args: list[bytes]) -> object:
    return len(session.db)


def _flush_mode(args: list[bytes]) -> None:
    """ASYNC and SYNC are the same here: either way the keys are let go of a piece at a time."""
    if len(args) > 2 or (len(args) == 2 and args[1].lower() not in (b"async", b"sync")):
        raise CommandError(errors.SYNTAX)


def flushdb(session: Session, args: list[bytes]) -> object:
    _flush_mode(args)
    session.engine.database_replaced(session.db.index, None)
    session.engine.dirty += session.db.clear()
    _tell_of_flush(session, args)
    return OK


def _tell_of_flush(session: Session, args: list[bytes]) -> None:
    tracking = session.engine.tracking
    if tracking.is_interested:
        tracking.flushed()
        if not session.denies_blocking and (len(args) == 1 or args[1].lower() != b"async"):
            # There the client waits for a thread that does it, so the message comes before the reply.
            tracking.tell_current()
            session.engine.settle(session)


def flushall(session: Session, args: list[bytes]) -> object:
    _flush_mode(args)
    for database in session.engine.databases:
        session.engine.database_replaced(database.index, None)
        session.engine.dirty += database.clear()
    _tell_of_flush(session, args)
    return OK


def select(session: Session, args: list[bytes]) -> object:
    session.db = _database(session, _int_argument(args[1]))
    return OK


def swapdb(session: Session, args: list[bytes]) -> object:
    first = _int_argument(args[1], b"ERR invalid first DB index")
    second = _int_argument(args[2], b"ERR invalid second DB index")
    one = _database(session, first)
    other = _database(session, second)
    if one is not other:
        session.engine.database_replaced(first, other)
        session.engine.database_replaced(second, one)
        one.swap_with(other)
        schedules = session.engine.field_schedules
        schedules[first].swap_with(schedules[second])
    session.engine.dirty += 1
    return OK


# OBJECT -------------------------------------------------------------------------------------------

_LFU_NOTE: Final = (
    b" Please note that when switching between policies at runtime LRU and LFU data will take some "
    b"time to adjust."
)


def object_encoding(session: Session, args: list[bytes]) -> object:
    value = session.db.find_value(args[2])
    if value is None:
        return None
    return encoding_name(args[2], value, session.db.find_expire_time(args[2]) != NO_EXPIRY)


def object_refcount(session: Session, args: list[bytes]) -> object:
    return None if session.db.find_value(args[2]) is None else 1


def object_idletime(session: Session, args: list[bytes]) -> object:
    if session.db.find_value(args[2]) is None:
        return None
    if session.clock.is_counting:
        raise CommandError(b"ERR An LFU maxmemory policy is selected, idle time not tracked." + _LFU_NOTE)
    return idle_s(session.clock.now_s, session.db.access_clock(args[2]))


def object_freq(session: Session, args: list[bytes]) -> object:
    if session.db.find_value(args[2]) is None:
        return None
    clock = session.clock
    if not clock.is_counting:
        raise CommandError(
            b"ERR An LFU maxmemory policy is not selected, access frequency not tracked." + _LFU_NOTE
        )
    return clock.frequency.counter(session.db.access_clock(args[2]), clock.now_s)


HANDLERS: Final[dict[str, Handler]] = {
    "copy": copy,
    "dbsize": dbsize,
    "del": delete,
    "exists": exists,
    "expire": expire,
    "expireat": expireat,
    "expiretime": expiretime,
    "flushall": flushall,
    "flushdb": flushdb,
    "keys": keys,
    "move": move,
    "object|encoding": object_encoding,
    "object|freq": object_freq,
    "object|idletime": object_idletime,
    "object|refcount": object_refcount,
    "persist": persist,
    "pexpire": pexpire,
    "pexpireat": pexpireat,
    "pexpiretime": pexpiretime,
    "pttl": pttl,
    "randomkey": randomkey,
    "rename": rename,
    "renamenx": renamenx,
    "scan": scan,
    "select": select,
    "swapdb": swapdb,
    "touch": touch,
    "ttl": ttl,
    "type": type_,
    "unlink": delete,
}
