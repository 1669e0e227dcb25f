"""Commands on hashes, and on the times at which their fields expire.

A field whose time is past is no longer seen by reads. Those that look at single fields remove it as they meet
it (event `hexpired`, and `del` when it was the last); those that give everything pass over it; HLEN, HSET,
HDEL and the HEXPIRE family take it as still there, until housekeeping has removed it. All that is as in
redis-server.

Source:     https://redis.io/docs/latest/commands/?group=hash; order of checks and texts from redis-server
            8.2.
Units:      milliseconds of Unix time; seconds are rounded up on the way out.
Errors:     CommandError: WRONGTYPE, not an integer or float, overflow, expire times, syntax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.arguments import (
    EX,
    EXAT,
    KEEPTTL,
    PERSIST,
    PX,
    PXAT,
    RELATIVE,
    SECONDS,
    integer_argument,
)
from appliance.redis.commands.members import delete_empty, remove_members
from appliance.redis.commands.sampling import (
    ScanOptions,
    check_repetitions,
    chosen_places,
    count_argument,
    cursor_argument,
    drawn_places,
    scan_entries,
)
from appliance.redis.entry import NO_EXPIRY, Entry
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.integers import I64_MAX, I64_MIN, parse_integer
from appliance.redis.longdouble import LongDouble, parse_long_double
from appliance.redis.notifications import NOTIFY_HASH
from appliance.redis.replies import OK, Map, integer_text
from appliance.redis.types.hashes import HASHTABLE, Hash

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

# Expire times of fields have 46 bits in the server.
_LATEST_EXPIRY: Final = (1 << 46) - 1


def _as_hash(value: object) -> Hash:
    if isinstance(value, Hash):
        return value
    raise CommandError(errors.WRONG_TYPE)


def _read(session: Session, key: bytes) -> Hash | None:
    value = session.db.lookup_read(key)
    return None if value is None else _as_hash(value)


def _write(session: Session, key: bytes) -> Hash | None:
    entry = session.db.lookup_write(key)
    return None if entry is None else _as_hash(entry.value)


def _write_or_create(session: Session, key: bytes) -> Hash:
    entry = session.db.lookup_write(key)
    if entry is not None:
        return _as_hash(entry.value)
    value = Hash(session.engine.limits)
    session.db.add(key, value)
    return value


def _expired(session: Session, key: bytes, count: i64) -> None:
    """Fields of the hash were found expired and have been removed."""
    session.engine.stats.expired_fields += count
    session.changed(key, 0)
    session.notify(NOTIFY_HASH, b"hexpired", key)


def live_field(session: Session, key: bytes, value: Hash, field: bytes) -> bytes | None:
    """What a command that looks at one field sees; an expired one goes, and with the last the hash."""
    found = value.get(field)
    if found is None or not value.is_expired(field, session.clock.now_ms):
        return found
    value.remove(field)
    _expired(session, key, 1)
    if len(value) == 0:
        delete_empty(session, key)
    return None


# Single fields ------------------------------------------------------------------------------------


def _set_pairs(session: Session, args: list[bytes], name: bytes) -> i64:
    """Set field value …; how many fields are new."""
    count: i64 = len(args)
    if count & 1 == 1:
        raise CommandError(errors.wrong_arity(name))
    key = args[1]
    value = _write_or_create(session, key)
    value.expect(args, 2, count - 1)
    created: i64 = 0
    at: i64 = 2
    while at < count:
        if value.set(args[at], args[at + 1]):
            created += 1
        at += 2
    session.changed(key, (count - 2) >> 1)
    session.notify(NOTIFY_HASH, b"hset", key)
    return created


def hset(session: Session, args: list[bytes]) -> object:
    created: int = _set_pairs(session, args, b"hset")
    return created


def hmset(session: Session, args: list[bytes]) -> object:
    _set_pairs(session, args, b"hmset")
    return OK


def hsetnx(session: Session, args: list[bytes]) -> object:
    key = args[1]
    value = _write(session, key)
    if value is not None and live_field(session, key, value, args[2]) is not None:
        return 0
    if value is None or len(value) == 0:
        value = _write_or_create(session, key)
    value.expect(args, 2, 3)
    value.set(args[2], args[3])
    session.changed(key)
    session.notify(NOTIFY_HASH, b"hset", key)
    return 1


def hget(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return None if value is None else live_field(session, args[1], value, args[2])


def hexists(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return 0 if value is None or live_field(session, args[1], value, args[2]) is None else 1


def hstrlen(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    if value is None:
        return 0
    found = live_field(session, args[1], value, args[2])
    return 0 if found is None else len(found)


def _fields(session: Session, key: bytes, value: Hash | None, fields: list[bytes]) -> list[object]:
    """What is at several fields; expired ones are removed, but not the hash."""
    if value is None:
        return [None for _ in fields]
    found: list[object] = []
    now_ms = session.clock.now_ms
    expired: i64 = 0
    for field in fields:
        if value.is_expired(field, now_ms):
            value.remove(field)
            expired += 1
            found.append(None)
        else:
            found.append(value.get(field))
    if expired > 0:
        _expired(session, key, expired)
    return found


def hmget(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    found = _fields(session, args[1], value, args[2:])
    if value is not None and len(value) == 0:
        delete_empty(session, args[1])
    return found


def hdel(session: Session, args: list[bytes]) -> object:
    return remove_members(session, args, _write(session, args[1]), NOTIFY_HASH, b"hdel")


# What the sum of two machine words is compared with first: a comparison of long integers is slower.
_SMALL: Final = 1 << 60


def hincrby(session: Session, args: list[bytes]) -> object:
    amount = integer_argument(args[3])
    key = args[1]
    field = args[2]
    value = _write_or_create(session, key)
    text = live_field(session, key, value, field)
    number = 0
    if text is not None:
        parsed = parse_integer(text)
        if parsed is None:
            raise CommandError(b"ERR hash value is not an integer")
        number = parsed
    elif len(value) == 0:  # as new, or its last field has just expired
        value = _write_or_create(session, key)
    number += amount
    if not -_SMALL < number < _SMALL and (number > I64_MAX or number < I64_MIN):
        raise CommandError(errors.OVERFLOW)
    value.set(field, integer_text(number), keep_time=True)
    session.changed(key)
    session.notify(NOTIFY_HASH, b"hincrby", key)
    return number


def _long_double(text: bytes, message: bytes) -> LongDouble:
    try:
        return parse_long_double(text)
    except ValueError:
        raise CommandError(message) from None


def hincrbyfloat(session: Session, args: list[bytes]) -> object:
    amount = _long_double(args[3], errors.NOT_A_FLOAT)
    if amount.is_infinite:
        raise CommandError(b"ERR value is NaN or Infinity")
    key = args[1]
    field = args[2]
    value = _write(session, key)
    text = None if value is None else live_field(session, key, value, field)
    result = amount
    if text is not None:
        result = _long_double(text, b"ERR hash value is not a float").plus(amount)
        if result.is_infinite:
            raise CommandError(errors.NAN_OR_INFINITY)
    if value is None or len(value) == 0:
        value = _write_or_create(session, key)
    sum_text = result.text()
    value.set(field, sum_text, keep_time=True)
    session.changed(key)
    session.notify(NOTIFY_HASH, b"hincrbyfloat", key)
    return sum_text


# All fields ---------------------------------------------------------------------------------------


def hlen(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return 0 if value is None else len(value)


def hgetall(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return Map([] if value is None else value.items(session.clock.now_ms))


def hkeys(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return [] if value is None else value.fields(session.clock.now_ms)


def hvals(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return [] if value is None else value.values(session.clock.now_ms)


def hscan(session: Session, args: list[bytes]) -> object:
    cursor = cursor_argument(args[2])
    value = _read(session, args[1])
    if value is None:
        return [b"0", []]
    options = ScanOptions(args, is_hash=True)
    now_ms = session.clock.now_ms
    found: list[object] = []
    pattern = options.pattern
    if value.encoding_id == HASHTABLE:
        entries: list[Entry] = []
        cursor = scan_entries(value.table, cursor, options.count, entries)
        for entry in entries:
            if entry.expire_at_ms != NO_EXPIRY and entry.expire_at_ms < now_ms:
                continue
            if pattern is None or glob_match(pattern, entry.key):
                found.append(entry.key)
                if not options.no_values:
                    found.append(entry.value)
        return [b"%d" % cursor, found]
    items = value.items(now_ms)
    for at in range(0, len(items), 2):
        field = items[at]
        assert isinstance(field, bytes)
        if pattern is None or glob_match(pattern, field):
            found.append(field)
            if not options.no_values:
                found.append(items[at + 1])
    return [b"0", found]


# Beyond this part of the hash it is cheaper to look at all fields than to draw until enough differ.
_DRAW_FACTOR: Final = 3


def hrandfield(session: Session, args: list[bytes]) -> object:
    key = args[1]
    if len(args) == 2:
        value = _live_hash(session, key)
        if value is None:
            return None
        random = session.engine.random
        if value.encoding_id == HASHTABLE:
            return value.random_entry(random).key
        fields = value.fields(session.clock.now_ms)
        drawn: i64 = random()
        return fields[drawn % len(fields)]
    count = count_argument(args[2])
    if len(args) > 4 or (len(args) == 4 and args[3].lower() != b"withvalues"):
        raise CommandError(errors.SYNTAX)
    with_values = len(args) == 4
    if with_values and not -(I64_MAX // 2) <= count <= I64_MAX // 2:
        raise CommandError(b"ERR value is out of range")
    value = _live_hash(session, key)
    if value is None or count == 0:
        return []
    if not with_values and count > 0 and value.encoding_id == HASHTABLE:
        return _random_fields(session, value, count)
    flat = _random_pairs(session, value, count)
    if not with_values:
        return flat[0::2]
    if not session.resp3:
        return flat
    return [flat[at : at + 2] for at in range(0, len(flat), 2)]


def _live_hash(session: Session, key: bytes) -> Hash | None:
    """A hash of which no field is expired; it may go in the course of that."""
    value = _read(session, key)
    if value is None or session.clock.now_ms <= value.next_expiry_ms:
        return value
    expired = value.pop_expired(session.clock.now_ms, I64_MAX)
    if expired > 0:
        _expired(session, key, expired)
        if len(value) == 0:
            delete_empty(session, key)
            return None
    return value


def _random_fields(session: Session, value: Hash, number: int) -> list[object]:
    """The fields of a random choice from a hashtable, without repetition: no values are gathered for it."""
    size: i64 = len(value)
    if number >= size:
        return list(value.fields(session.clock.now_ms))
    count: i64 = number
    random = session.engine.random
    if count * _DRAW_FACTOR > size:
        chosen = drawn_places(size, count, random)
        entries = value.table.entries()
        return [entries[place].key for place in range(len(entries)) if chosen[place] == 1]
    taken: dict[object, None] = {}
    while len(taken) < count:
        taken[value.random_entry(random).key] = None
    return list(taken)


def _random_pairs(session: Session, value: Hash, number: int) -> list[object]:
    """Field, value, … of a random choice from a hash that is not empty; negative: with repetition."""
    random = session.engine.random
    now_ms = session.clock.now_ms
    size: i64 = len(value)
    if number >= size:
        return value.items(now_ms)
    is_small = value.encoding_id != HASHTABLE
    found: list[object] = []
    if number < 0:
        check_repetitions(-number)
        left: i64 = -number
        if is_small:
            items = value.items(now_ms)
            while left > 0:
                drawn: i64 = random()
                place = drawn % size
                found.append(items[place * 2])
                found.append(items[place * 2 + 1])
                left -= 1
            return found
        while left > 0:
            entry = value.random_entry(random)
            found.append(entry.key)
            found.append(entry.value)
            left -= 1
        return found
    count: i64 = number
    if is_small:
        items = value.items(now_ms)
        chosen = chosen_places(size, count, random)
        for at in range(len(chosen)):
            if chosen[at] == 1:
                found.append(items[at * 2])
                found.append(items[at * 2 + 1])
        return found
    if count * _DRAW_FACTOR > size:
        chosen = drawn_places(size, count, random)
        entries = value.table.entries()
        for place in range(len(entries)):
            if chosen[place] == 1:
                entry = entries[place]
                found.append(entry.key)
                found.append(entry.value)
        return found
    taken: dict[bytes, object] = {}
    while len(taken) < count:
        entry = value.random_entry(random)
        taken[entry.key] = entry.value
    for name, content in taken.items():
        found.append(name)
        found.append(content)
    return found


# Expire times -------------------------------------------------------------------------------------

_NO_FIELDS: Final = b"ERR Mandatory argument FIELDS is missing or not at the right position"
_FIELD_COUNT: Final = b"ERR Number of fields must be a positive integer"
_FIELD_COUNT_OF_EXPIRE: Final = b"ERR Parameter `numFields` should be greater than 0"
_FIELD_COUNT_MISMATCH: Final = b"ERR The `numfields` parameter must match the number of arguments"


def _named_fields(args: list[bytes], at: int, bad_count: bytes) -> list[bytes]:
    """The fields of `FIELDS count field …`, which is all that is left of the request from `at` on."""
    if at + 1 >= len(args) or args[at].lower() != b"fields":
        raise CommandError(_NO_FIELDS)
    count = parse_integer(args[at + 1])
    if count is None or count < 1:
        raise CommandError(bad_count)
    if count != len(args) - at - 2:
        raise CommandError(_FIELD_COUNT_MISMATCH)
    return args[at + 2 :]


def _expire_time(session: Session, text: bytes, unit: int, name: bytes) -> int:
    """An expire time of a field as absolute milliseconds; 0 is allowed, and past."""
    value = integer_argument(text)
    if value < 0:
        raise CommandError(b"ERR invalid expire time, must be >= 0")
    if unit & SECONDS:
        value *= 1000
    if unit & RELATIVE:
        now_ms: int = session.clock.now_ms  # as int: the sum may be beyond 64 bits
        value += now_ms
    if value > _LATEST_EXPIRY:
        raise CommandError(errors.invalid_expire(name))
    return value


def _schedule(session: Session, key: bytes, value: Hash) -> None:
    """Tell housekeeping when the first field of the hash expires."""
    session.engine.field_schedules[session.db.index].note(key, value)


def _set_time(session: Session, value: Hash, field: bytes, when: int) -> bool:
    """Let a field that is there expire; False when that is past already and the field is gone."""
    if when <= session.clock.now_ms:
        value.remove(field)
        return False
    value.set_expiry(field, when)
    return True


_NX: Final = 1
_XX: Final = 2
_GT: Final = 3
_LT: Final = 4
_CONDITIONS: Final[dict[bytes, int]] = {b"nx": _NX, b"xx": _XX, b"gt": _GT, b"lt": _LT}


def _condition_holds(condition: int, current: int, when: int) -> bool:
    """Whether the condition lets `when` replace the current expire time (NO_EXPIRY: none)."""
    if condition == _NX:
        return current == NO_EXPIRY
    if condition == _XX:
        return current != NO_EXPIRY
    if condition == _GT:
        return current != NO_EXPIRY and when > current
    if condition == _LT:
        return current == NO_EXPIRY or when < current
    return True


def _expire(session: Session, args: list[bytes], unit: int, name: bytes) -> object:
    key = args[1]
    value = _write(session, key)
    when = _expire_time(session, args[2], unit, name)
    condition = _CONDITIONS.get(args[3].lower(), 0)
    fields = _named_fields(args, 4 if condition else 3, _FIELD_COUNT_OF_EXPIRE)
    if value is None:
        return [-2 for _ in fields]
    value.allow_expiry()
    results: list[object] = []
    deleted = updated = 0
    for field in fields:
        if value.get(field) is None:
            results.append(-2)
        elif not _condition_holds(condition, value.expiry_of(field), when):
            results.append(0)
        elif _set_time(session, value, field, when):
            updated += 1
            results.append(1)
        else:
            deleted += 1
            results.append(2)
    if deleted + updated > 0:
        session.changed(key, deleted + updated)
        session.notify(NOTIFY_HASH, b"hdel" if deleted > 0 else b"hexpire", key)
        if len(value) == 0:
            delete_empty(session, key)
        else:
            _schedule(session, key, value)
    return results


def hexpire(session: Session, args: list[bytes]) -> object:
    return _expire(session, args, EX, b"hexpire")


def hpexpire(session: Session, args: list[bytes]) -> object:
    return _expire(session, args, PX, b"hpexpire")


def hexpireat(session: Session, args: list[bytes]) -> object:
    return _expire(session, args, EXAT, b"hexpireat")


def hpexpireat(session: Session, args: list[bytes]) -> object:
    return _expire(session, args, PXAT, b"hpexpireat")


def _times(session: Session, args: list[bytes], origin_ms: int, divisor: int) -> object:
    """Expire times from `origin_ms` on, in units of `divisor` ms, rounded up; -1: none, -2: no field."""
    value = _read(session, args[1])
    fields = _named_fields(args, 2, _FIELD_COUNT)
    if value is None:
        return [-2 for _ in fields]
    now_ms = session.clock.now_ms
    results: list[object] = []
    for field in fields:
        if value.get(field) is None or value.is_expired(field, now_ms):
            results.append(-2)
            continue
        when: int = value.expiry_of(field)
        results.append(-1 if when == NO_EXPIRY else (when - origin_ms + divisor - 1) // divisor)
    return results


def httl(session: Session, args: list[bytes]) -> object:
    return _times(session, args, session.clock.now_ms, 1000)


def hpttl(session: Session, args: list[bytes]) -> object:
    return _times(session, args, session.clock.now_ms, 1)


def hexpiretime(session: Session, args: list[bytes]) -> object:
    return _times(session, args, 0, 1000)


def hpexpiretime(session: Session, args: list[bytes]) -> object:
    return _times(session, args, 0, 1)


def hpersist(session: Session, args: list[bytes]) -> object:
    key = args[1]
    value = _write(session, key)
    fields = _named_fields(args, 2, _FIELD_COUNT)
    if value is None:
        return [-2 for _ in fields]
    now_ms = session.clock.now_ms
    results: list[object] = []
    persisted = 0
    for field in fields:
        if value.get(field) is None or value.is_expired(field, now_ms):
            results.append(-2)
        elif value.clear_expiry(field):
            persisted += 1
            results.append(1)
        else:
            results.append(-1)
    if persisted > 0:
        session.changed(key)
        session.notify(NOTIFY_HASH, b"hpersist", key)
    return results


# Reading and writing together ---------------------------------------------------------------------

_EXPIRE_OPTIONS: Final = EX | PX | EXAT | PXAT
_EXPIRE_WORDS: Final[dict[bytes, int]] = {b"ex": EX, b"px": PX, b"exat": EXAT, b"pxat": PXAT}


def hgetdel(session: Session, args: list[bytes]) -> object:
    key = args[1]
    value = _write(session, key)
    fields = _named_fields(args, 2, _FIELD_COUNT)
    if value is None:
        return [None for _ in fields]
    now_ms = session.clock.now_ms
    found: list[object] = []
    expired = deleted = 0
    for field in fields:
        is_expired = value.is_expired(field, now_ms)
        content = value.get(field)
        if content is not None:
            value.remove(field)
            if is_expired:
                content = None
                expired += 1
            else:
                deleted += 1
        found.append(content)
    if expired > 0:
        _expired(session, key, expired)
    if deleted > 0:
        session.changed(key, deleted)
        session.notify(NOTIFY_HASH, b"hdel", key)
    if len(value) == 0:
        delete_empty(session, key)
    return found


def hgetex(session: Session, args: list[bytes]) -> object:
    key = args[1]
    value = _write(session, key)
    word = args[2].lower()
    unit = _EXPIRE_WORDS.get(word, 0)
    when = 0
    at = 2
    if unit != 0:
        when = _expire_time(session, args[3], unit, b"hgetex")
        at = 4
        if len(args) == 5:
            raise CommandError(errors.wrong_arity(b"hgetex"))
    elif word == b"persist":
        unit = PERSIST
        at = 3
    fields = _named_fields(args, at, _FIELD_COUNT)
    if value is None:
        return [None for _ in fields]
    if unit != 0:
        value.allow_expiry()
    now_ms = session.clock.now_ms
    found: list[object] = []
    expired = deleted = updated = persisted = 0
    for field in fields:
        content = value.get(field)
        if content is not None and value.is_expired(field, now_ms):
            value.remove(field)
            expired += 1
            content = None
        found.append(content)
        if content is None or unit == 0:
            continue
        if unit == PERSIST:
            if value.clear_expiry(field):
                persisted += 1
        elif _set_time(session, value, field, when):
            updated += 1
        else:
            deleted += 1
    if expired > 0:
        _expired(session, key, expired)
    if deleted + updated + persisted > 0:
        event = b"hdel" if deleted > 0 else (b"hexpire" if updated > 0 else b"hpersist")
        session.changed(key, deleted + updated + persisted)
        session.notify(NOTIFY_HASH, event, key)
    if len(value) == 0:
        delete_empty(session, key)
    elif updated > 0:
        _schedule(session, key, value)
    return found


_FNX: Final = 1
_FXX: Final = 2


class _SetOptions:
    """What stands between the key of HSETEX and its fields."""

    def __init__(self, session: Session, args: list[bytes]) -> None:
        self.unit = 0
        self.when = 0
        self.condition = 0
        self.first = 0  # place of the first field
        at = 2
        count = len(args)
        while at < count:
            word = args[at].lower()
            if word in (b"fnx", b"fxx"):
                if self.condition != 0:
                    raise CommandError(b"ERR Only one of FXX or FNX arguments can be specified")
                self.condition = _FNX if word == b"fnx" else _FXX
            elif word == b"keepttl" or word in _EXPIRE_WORDS:
                if self.unit != 0:
                    raise CommandError(
                        b"ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
                    )
                self.unit = _EXPIRE_WORDS.get(word, KEEPTTL)
                if self.unit != KEEPTTL:
                    at += 1
                    if at == count:
                        raise CommandError(errors.wrong_arity(b"hsetex"))
                    self.when = _expire_time(session, args[at], self.unit, b"hsetex")
            elif word == b"fields":
                self._read_count(args, at)
                return
            else:
                raise CommandError(b"ERR unknown argument: " + errors.quoted(args[at], len(args[at])))
            at += 1
        raise CommandError(errors.wrong_arity(b"hsetex"))

    def _read_count(self, args: list[bytes], at: int) -> None:
        if len(args) - at < 4:
            raise CommandError(errors.wrong_arity(b"hsetex"))
        pairs = parse_integer(args[at + 1])
        if pairs is None or not 1 <= pairs < 1 << 31:
            raise CommandError(b"ERR invalid number of fields")
        if pairs * 2 != len(args) - at - 2:
            raise CommandError(errors.wrong_arity(b"hsetex"))
        self.first = at + 2


def _fields_allow(
    session: Session, key: bytes, value: Hash | None, args: list[bytes], options: _SetOptions
) -> bool:
    """Whether FNX (no field is there) or FXX (all are) holds; expired fields met on the way are removed."""
    if value is None:
        return options.condition == _FNX
    now_ms = session.clock.now_ms
    expired: i64 = 0
    holds = True
    for at in range(options.first, len(args), 2):
        field = args[at]
        is_there = value.get(field) is not None
        if is_there and value.is_expired(field, now_ms):
            value.remove(field)
            expired += 1
            is_there = False
        if is_there != (options.condition == _FXX):
            holds = False
            break
    if expired > 0:
        _expired(session, key, expired)
    return holds


def hsetex(session: Session, args: list[bytes]) -> object:
    key = args[1]
    options = _SetOptions(session, args)
    value = _write(session, key)
    if options.condition != 0 and not _fields_allow(session, key, value, args, options):
        if value is not None and len(value) == 0:
            delete_empty(session, key)
        return 0
    if value is None:
        value = _write_or_create(session, key)
    count = len(args)
    value.expect(args, options.first, count - 1)
    sets_time = options.unit & _EXPIRE_OPTIONS != 0
    if sets_time:
        value.allow_expiry()
    deleted = updated = 0
    for at in range(options.first, count, 2):
        field = args[at]
        value.set(field, args[at + 1], keep_time=options.unit == KEEPTTL)
        if sets_time:
            if _set_time(session, value, field, options.when):
                updated += 1
            else:
                deleted += 1
    session.changed(key, (count - options.first) // 2)
    session.notify(NOTIFY_HASH, b"hset", key)
    if sets_time:
        session.notify(NOTIFY_HASH, b"hdel" if deleted > 0 else b"hexpire", key)
    if len(value) == 0:
        delete_empty(session, key)
    elif updated > 0:
        _schedule(session, key, value)
    return 1


HANDLERS: Final[dict[str, Handler]] = {
    "hdel": hdel,
    "hexists": hexists,
    "hexpire": hexpire,
    "hexpireat": hexpireat,
    "hexpiretime": hexpiretime,
    "hget": hget,
    "hgetall": hgetall,
    "hgetdel": hgetdel,
    "hgetex": hgetex,
    "hincrby": hincrby,
    "hincrbyfloat": hincrbyfloat,
    "hkeys": hkeys,
    "hlen": hlen,
    "hmget": hmget,
    "hmset": hmset,
    "hpersist": hpersist,
    "hpexpire": hpexpire,
    "hpexpireat": hpexpireat,
    "hpexpiretime": hpexpiretime,
    "hpttl": hpttl,
    "hrandfield": hrandfield,
    "hscan": hscan,
    "hset": hset,
    "hsetex": hsetex,
    "hsetnx": hsetnx,
    "hstrlen": hstrlen,
    "httl": httl,
    "hvals": hvals,
}
