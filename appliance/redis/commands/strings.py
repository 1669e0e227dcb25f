"""Commands on strings.

Source:     https://redis.io/docs/latest/commands/?group=string; order of checks and texts from redis-server
            8.2.
Errors:     CommandError: WRONGTYPE, not an integer, overflow, too long, syntax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.arguments import (
    EX,
    EXAT,
    GET,
    KEEPTTL,
    NX,
    PERSIST,
    PX,
    PXAT,
    XX,
    expire_argument,
    integer_argument,
)
from appliance.redis.errors import CommandError
from appliance.redis.integers import I64_MAX, I64_MIN, parse_integer
from appliance.redis.longdouble import LongDouble, parse_long_double
from appliance.redis.notifications import NOTIFY_GENERIC, NOTIFY_STRING
from appliance.redis.replies import OK, Bulk, Map
from appliance.redis.values import (
    StringBuffer,
    is_string,
    string_length,
    string_text,
    string_value,
    writable_buffer,
)

if TYPE_CHECKING:
    from appliance.redis.registry import GetKeys, Handler
    from appliance.redis.session import Session

_EXPIRE_OPTIONS: Final = EX | PX | EXAT | PXAT


def get(session: Session, args: list[bytes]) -> object:
    value = session.db.lookup_reply(args[1])
    if value is None or isinstance(value, Bulk):
        return value
    return string_text(value)


class _SetOptions:
    """What follows the key (and value) of SET and GETEX."""

    def __init__(self) -> None:
        self.flags = 0
        self.expire: bytes = b""


def _parse_options(args: list[bytes], start: int, allowed: int) -> _SetOptions:
    options = _SetOptions()
    flags = 0
    at = start
    while at < len(args):
        word = args[at].lower()
        bit = 0
        conflicts = 0
        if word == b"nx":
            bit, conflicts = NX, XX
        elif word == b"xx":
            bit, conflicts = XX, NX
        elif word == b"get":
            bit = GET
        elif word == b"keepttl":
            bit, conflicts = KEEPTTL, PERSIST | _EXPIRE_OPTIONS
        elif word == b"persist":
            bit, conflicts = PERSIST, KEEPTTL | _EXPIRE_OPTIONS
        elif word == b"ex":
            bit, conflicts = EX, KEEPTTL | PERSIST | PX | EXAT | PXAT
        elif word == b"px":
            bit, conflicts = PX, KEEPTTL | PERSIST | EX | EXAT | PXAT
        elif word == b"exat":
            bit, conflicts = EXAT, KEEPTTL | PERSIST | EX | PX | PXAT
        elif word == b"pxat":
            bit, conflicts = PXAT, KEEPTTL | PERSIST | EX | PX | EXAT
        if bit & allowed == 0 or flags & conflicts:
            raise CommandError(errors.SYNTAX)
        if bit & _EXPIRE_OPTIONS:
            at += 1
            if at == len(args):
                raise CommandError(errors.SYNTAX)
            options.expire = args[at]
        flags |= bit
        at += 1
    options.flags = flags
    return options


def set_(session: Session, args: list[bytes]) -> object:
    if len(args) == 3:
        session.db.put(args[1], string_value(args[2]))
        session.wrote(args[1], NOTIFY_STRING, b"set")
        return OK
    options = _parse_options(args, 3, NX | XX | GET | KEEPTTL | _EXPIRE_OPTIONS)
    flags = options.flags
    expire_at_ms = 0
    if flags & _EXPIRE_OPTIONS:
        expire_at_ms = expire_argument(options.expire, flags & _EXPIRE_OPTIONS, session.clock.now_ms, b"set")
    key = args[1]
    previous: object = None
    if flags & GET:
        previous = session.db.lookup_read(key)
        if previous is not None:
            previous = string_text(previous)
    entry = session.db.lookup_write(key)
    if (flags & NX and entry is not None) or (flags & XX and entry is None):
        return previous
    if flags & KEEPTTL and entry is not None:
        session.db.replace_value(entry, string_value(args[2]))
    elif entry is not None:
        session.db.overwrite(entry, string_value(args[2]))
    else:
        entry = session.db.add(key, string_value(args[2]))
    session.wrote(key, NOTIFY_STRING, b"set")
    if flags & _EXPIRE_OPTIONS:
        session.db.set_expiry(entry, expire_at_ms)
        session.notify(NOTIFY_GENERIC, b"expire", key)
    return previous if flags & GET else OK


def setnx(session: Session, args: list[bytes]) -> object:
    if session.db.lookup_write(args[1]) is not None:
        return 0
    session.db.put(args[1], string_value(args[2]))
    session.wrote(args[1], NOTIFY_STRING, b"set")
    return 1


def _set_with_expiry(session: Session, args: list[bytes], unit: int, name: bytes) -> object:
    expire_at_ms = expire_argument(args[2], unit, session.clock.now_ms, name)
    entry = session.db.set_value(args[1], string_value(args[3]))
    session.wrote(args[1], NOTIFY_STRING, b"set")
    session.db.set_expiry(entry, expire_at_ms)
    session.notify(NOTIFY_GENERIC, b"expire", args[1])
    return OK


def setex(session: Session, args: list[bytes]) -> object:
    return _set_with_expiry(session, args, EX, b"setex")


def psetex(session: Session, args: list[bytes]) -> object:
    return _set_with_expiry(session, args, PX, b"psetex")


def getex(session: Session, args: list[bytes]) -> object:
    options = _parse_options(args, 2, PERSIST | _EXPIRE_OPTIONS)
    flags = options.flags
    entry = session.db.read_entry(args[1])
    if entry is None:
        return None
    text = string_text(entry.value)
    if flags & _EXPIRE_OPTIONS:
        now_ms = session.clock.now_ms
        expire_at_ms = expire_argument(options.expire, flags & _EXPIRE_OPTIONS, now_ms, b"getex")
        if flags & (EXAT | PXAT) and expire_at_ms <= now_ms:
            session.drop(args[1])
        else:
            session.db.set_expiry(entry, expire_at_ms)
            session.changed(args[1])
            session.notify(NOTIFY_GENERIC, b"expire", args[1])
    elif flags & PERSIST and entry.expire_index >= 0:
        session.db.clear_expiry(entry)
        session.changed(args[1])
        session.notify(NOTIFY_GENERIC, b"persist", args[1])
    return text


def getdel(session: Session, args: list[bytes]) -> object:
    value = session.db.lookup_read(args[1])
    if value is None:
        return None
    text = string_text(value)
    session.drop(args[1])
    return text


def getset(session: Session, args: list[bytes]) -> object:
    value = session.db.lookup_read(args[1])
    previous: object = None if value is None else string_text(value)
    session.db.put(args[1], string_value(args[2]))
    session.wrote(args[1], NOTIFY_STRING, b"set")
    return previous


def getrange(session: Session, args: list[bytes]) -> object:
    start = integer_argument(args[2])
    end = integer_argument(args[3])
    value = session.db.lookup_read(args[1])
    if value is None:
        return b""
    length = string_length(value)
    if start < 0 and end < 0 and start > end:
        return b""
    start = max(0, start + length if start < 0 else start)
    end = max(0, end + length if end < 0 else end)
    end = min(end, length - 1)
    if start > end:
        return b""
    if isinstance(value, StringBuffer):
        return bytes(value.data[start : end + 1])
    return string_text(value)[start : end + 1]


def _check_length(session: Session, length: int, added: int) -> None:
    limit: int = session.engine.max_bulk  # as int: the sum may be beyond 64 bits
    if length + added > limit:
        raise CommandError(errors.STRING_TOO_LONG)


def setrange(session: Session, args: list[bytes]) -> object:
    offset = integer_argument(args[2])
    if offset < 0:
        raise CommandError(errors.OFFSET_RANGE)
    patch = args[3]
    entry = session.db.lookup_write(args[1])
    if entry is None:
        if len(patch) == 0:
            return 0
        _check_length(session, offset, len(patch))
        entry = session.db.add(args[1], StringBuffer(b""))
    else:
        length = string_length(entry.value)
        if len(patch) == 0:
            return length
        _check_length(session, offset, len(patch))
    buffer = writable_buffer(entry)
    buffer.grow(offset)
    data = buffer.data
    data[offset : offset + len(patch)] = patch
    session.wrote(args[1], NOTIFY_STRING, b"setrange")
    return len(data)


def strlen(session: Session, args: list[bytes]) -> object:
    value = session.db.lookup_read(args[1])
    return 0 if value is None else string_length(value)


def append(session: Session, args: list[bytes]) -> object:
    addition = args[2]
    entry = session.db.lookup_write(args[1])
    if entry is None:
        session.db.add(args[1], string_value(addition))
        session.wrote(args[1], NOTIFY_STRING, b"append")
        return len(addition)
    _check_length(session, string_length(entry.value), len(addition))
    data = writable_buffer(entry).data
    data.extend(addition)
    session.wrote(args[1], NOTIFY_STRING, b"append")
    return len(data)


def _integer_of(value: object) -> int:
    """The integer that a string value spells."""
    if isinstance(value, int):
        return value
    number = parse_integer(string_text(value))
    if number is None:
        raise CommandError(errors.NOT_AN_INTEGER)
    return number


_SMALL: Final = 1 << 60


def _increment(session: Session, key: bytes, amount: int) -> object:
    db = session.db
    entry = db.lookup_write(key)
    if entry is None:
        db.add(key, amount)
        session.wrote(key, NOTIFY_STRING, b"incrby")
        return amount
    value = _integer_of(entry.value) + amount
    # The first comparison is with numbers that fit a machine word, the others are with long ones.
    if not -_SMALL < value < _SMALL and (value > I64_MAX or value < I64_MIN):
        raise CommandError(errors.OVERFLOW)
    entry.value = value
    session.wrote(key, NOTIFY_STRING, b"incrby")
    return value


def incr(session: Session, args: list[bytes]) -> object:
    return _increment(session, args[1], 1)


def decr(session: Session, args: list[bytes]) -> object:
    return _increment(session, args[1], -1)


def incrby(session: Session, args: list[bytes]) -> object:
    return _increment(session, args[1], integer_argument(args[2]))


def decrby(session: Session, args: list[bytes]) -> object:
    amount = integer_argument(args[2])
    if amount == I64_MIN:
        raise CommandError(errors.DECREMENT_OVERFLOW)
    return _increment(session, args[1], -amount)


def _long_double(text: bytes) -> LongDouble:
    try:
        return parse_long_double(text)
    except ValueError:
        raise CommandError(errors.NOT_A_FLOAT) from None


def incrbyfloat(session: Session, args: list[bytes]) -> object:
    entry = session.db.lookup_write(args[1])
    current = _long_double(b"0" if entry is None else string_text(entry.value))
    result = current.plus(_long_double(args[2]))
    if result.is_infinite:
        raise CommandError(errors.NAN_OR_INFINITY)
    text = result.text()
    if entry is None:
        session.db.add(args[1], text)
    else:
        entry.value = text
    session.wrote(args[1], NOTIFY_STRING, b"incrbyfloat")
    return text


def mget(session: Session, args: list[bytes]) -> object:
    db = session.db
    values: list[object] = []
    count: i64 = len(args)
    at: i64 = 1
    while at < count:
        value = db.lookup_reply(args[at])
        if isinstance(value, Bulk):
            values.append(value)
        else:
            values.append(string_text(value) if is_string(value) else None)
        at += 1
    return values


def mset(session: Session, args: list[bytes]) -> object:
    count: i64 = len(args)
    if count % 2 == 0:
        raise CommandError(errors.wrong_arity(b"mset"))
    db = session.db
    at: i64 = 1
    while at < count:
        db.put(args[at], string_value(args[at + 1]))
        session.wrote(args[at], NOTIFY_STRING, b"set")
        at += 2
    return OK


def msetnx(session: Session, args: list[bytes]) -> object:
    if len(args) % 2 == 0:
        raise CommandError(errors.wrong_arity(b"msetnx"))
    for at in range(1, len(args), 2):
        if session.db.lookup_write(args[at]) is not None:
            return 0
    for at in range(1, len(args), 2):
        session.db.put(args[at], string_value(args[at + 1]))
        session.wrote(args[at], NOTIFY_STRING, b"set")
    return 1


# LCS keeps one byte per pair of positions to find its way back.
_LCS_TABLE_LIMIT: Final = 1 << 30


def lcs(session: Session, args: list[bytes]) -> object:
    texts: list[bytes] = []
    # Both are looked up before either is looked at: a miss of the second is told in any case.
    for value in [session.db.lookup_read(key) for key in args[1:3]]:
        if value is not None and not is_string(value):
            raise CommandError(b"ERR The specified keys must contain string values")
        texts.append(b"" if value is None else string_text(value))
    want_indices = want_length = with_match_length = False
    minimum = 0
    at = 3
    while at < len(args):
        option = args[at].lower()
        if option == b"idx":
            want_indices = True
        elif option == b"len":
            want_length = True
        elif option == b"withmatchlen":
            with_match_length = True
        elif option == b"minmatchlen" and at + 1 < len(args):
            at += 1
            minimum = max(0, integer_argument(args[at]))
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    if want_indices and want_length:
        raise CommandError(b"ERR If you want both the length and indexes, please just use IDX.")
    if (len(texts[0]) + 1) * (len(texts[1]) + 1) > _LCS_TABLE_LIMIT:
        raise CommandError(b"ERR Insufficient memory, failed allocating transient memory for LCS")
    length, moves = _lcs_table(texts[0], texts[1])
    if want_length:
        return length
    common, matches = _lcs_walk(texts[0], texts[1], moves, length, minimum, with_match_length)
    if want_indices:
        return Map([b"matches", matches, b"len", length])
    return common


_UP: Final = 1


def _lcs_table(first: bytes, second: bytes) -> tuple[int, bytearray]:
    """The length of the longest common subsequence, and where to go from each pair of positions.

    moves[i * (len(second) + 1) + j] is _UP when dropping byte i of `first` keeps more than dropping byte j
    of `second`.
    """
    rows: i64 = len(first)
    columns: i64 = len(second)
    moves = bytearray((rows + 1) * (columns + 1))
    above: list[int] = [0] * (columns + 1)
    row: i64 = 1
    while row <= rows:
        byte: i64 = first[row - 1]
        current: list[int] = [0] * (columns + 1)
        left: i64 = 0
        diagonal: i64 = 0
        column: i64 = 1
        offset = row * (columns + 1)
        while column <= columns:
            up: i64 = above[column]
            other: i64 = second[column - 1]
            if other == byte:
                left = diagonal + 1
            elif up > left:
                left = up
                moves[offset + column] = _UP
            current[column] = left
            diagonal = up
            column += 1
        above = current
        row += 1
    return above[columns], moves


def _lcs_walk(
    first: bytes, second: bytes, moves: bytearray, length: int, minimum: int, with_match_length: bool
) -> tuple[bytes, list[object]]:
    """Walk back through the table: the common bytes, and the matching ranges from the last to the first."""
    width = len(second) + 1
    common = bytearray(length)
    matches: list[object] = []
    at = length
    row = len(first)
    column = len(second)
    run = 0  # length of the matching range that begins at (row, column)
    while row > 0 and column > 0:
        if first[row - 1] == second[column - 1]:
            at -= 1
            common[at] = first[row - 1]
            row -= 1
            column -= 1
            run += 1
            continue
        if run:
            _add_match(matches, row, column, run, minimum, with_match_length)
            run = 0
        if moves[row * width + column] == _UP:
            row -= 1
        else:
            column -= 1
    if run:
        _add_match(matches, row, column, run, minimum, with_match_length)
    return bytes(common), matches


def _add_match(
    matches: list[object], row: int, column: int, run: int, minimum: int, with_match_length: bool
) -> None:
    if run < minimum:
        return
    match: list[object] = [[row, row + run - 1], [column, column + run - 1]]
    if with_match_length:
        match.append(run)
    matches.append(match)


def _set_keys(args: list[bytes]) -> list[tuple[bytes, list[str]]]:
    """SET reads its key only with the GET option."""
    for option in args[3:]:
        if option.lower() == b"get":
            return [(args[1], ["RW", "access", "update"])]
    return [(args[1], ["OW", "update"])]


HANDLERS: Final[dict[str, Handler]] = {
    "append": append,
    "decr": decr,
    "decrby": decrby,
    "get": get,
    "getdel": getdel,
    "getex": getex,
    "getrange": getrange,
    "getset": getset,
    "incr": incr,
    "incrby": incrby,
    "incrbyfloat": incrbyfloat,
    "lcs": lcs,
    "mget": mget,
    "mset": mset,
    "msetnx": msetnx,
    "psetex": psetex,
    "set": set_,
    "setex": setex,
    "setnx": setnx,
    "setrange": setrange,
    "strlen": strlen,
    "substr": getrange,
}
GET_KEYS: Final[dict[str, GetKeys]] = {"set": _set_keys}
