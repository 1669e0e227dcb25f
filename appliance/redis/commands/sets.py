"""Commands on sets.

The commands that store a result build it as redis-server does, member by member under the rules of
types/sets.py, so that the stored set has the same encoding and, where it is small, the same order.

Source:     https://redis.io/docs/latest/commands/?group=set; order of checks and texts from redis-server 8.2.
Errors:     CommandError: WRONGTYPE, not an integer, syntax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
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
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.integers import parse_integer
from appliance.redis.notifications import NOTIFY_SET
from appliance.redis.replies import SetReply
from appliance.redis.types.sets import HASHTABLE, INTSET, LISTPACK, Set, intset_capacity, set_for

if TYPE_CHECKING:
    from appliance.redis.entry import Entry
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session


def _as_set(value: object) -> Set:
    if isinstance(value, Set):
        return value
    raise CommandError(errors.WRONG_TYPE)


def _read(session: Session, key: bytes) -> Set | None:
    value = session.db.lookup_read(key)
    return None if value is None else _as_set(value)


def _write(session: Session, key: bytes) -> Set | None:
    entry = session.db.lookup_write(key)
    return None if entry is None else _as_set(entry.value)


# One set ------------------------------------------------------------------------------------------


def sadd(session: Session, args: list[bytes]) -> object:
    key = args[1]
    count: i64 = len(args)
    value = _write(session, key)
    if value is None:
        value = set_for(session.engine.limits, args[2], count - 2)
        session.db.add(key, value)
    else:
        value.expect(count - 2)
    added: i64 = 0
    at: i64 = 2
    while at < count:
        if value.add(args[at]):
            added += 1
        at += 1
    if added > 0:
        session.changed(key, added)
        session.notify(NOTIFY_SET, b"sadd", key)
    result: int = added
    return result


def srem(session: Session, args: list[bytes]) -> object:
    return remove_members(session, args, _write(session, args[1]), NOTIFY_SET, b"srem")


def sismember(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return 1 if value is not None and args[2] in value else 0


def smismember(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return [1 if value is not None and member in value else 0 for member in args[2:]]


def scard(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return 0 if value is None else len(value)


def smembers(session: Session, args: list[bytes]) -> object:
    value = _read(session, args[1])
    return SetReply([] if value is None else value.members())


def smove(session: Session, args: list[bytes]) -> object:
    source_key = args[1]
    target_key = args[2]
    member = args[3]
    source_entry = session.db.lookup_write(source_key)
    target_entry = session.db.lookup_write(target_key)
    if source_entry is None:
        return 0
    source = _as_set(source_entry.value)
    target: Set | None = None if target_entry is None else _as_set(target_entry.value)
    if source is target:
        return 1 if member in source else 0
    if not source.remove(member):
        return 0
    session.changed(source_key)
    session.notify(NOTIFY_SET, b"srem", source_key)
    if len(source) == 0:
        delete_empty(session, source_key)
    if target is None:
        target = set_for(session.engine.limits, member, 1)
        session.db.add(target_key, target)
    if target.add(member):
        session.changed(target_key)
        session.notify(NOTIFY_SET, b"sadd", target_key)
    return 1


# Chance -------------------------------------------------------------------------------------------


def spop(session: Session, args: list[bytes]) -> object:
    if len(args) > 2:
        return _spop_many(session, args)
    key = args[1]
    value = _write(session, key)
    if value is None:
        return None
    member = value.pop_random(session.engine.chance)
    session.changed(key)
    session.notify(NOTIFY_SET, b"spop", key)
    if len(value) == 0:
        delete_empty(session, key)
    return member


# A set of which SPOP leaves less than this part of what it takes is made anew from what is left.
_REMAINDER_FACTOR: Final = 5


def _spop_many(session: Session, args: list[bytes]) -> object:
    if len(args) > 3:
        raise CommandError(errors.SYNTAX)
    number = parse_integer(args[2])
    if number is None or number < 0:
        raise CommandError(errors.NOT_POSITIVE)
    key = args[1]
    entry = session.db.lookup_write(key)
    if entry is None:
        return SetReply([])
    value = _as_set(entry.value)
    count: i64 = number
    size: i64 = len(value)
    if count == 0:
        return SetReply([])
    if count >= size:
        session.changed(key, size)
        session.notify(NOTIFY_SET, b"spop", key)
        delete_empty(session, key)
        return SetReply(value.members())
    left = size - count
    chance = session.engine.chance
    popped: list[object] = []
    if value.encoding_id == LISTPACK:
        chosen = chosen_places(size, count, session.engine.random)
        members = value.members()
        popped = [members[place] for place in range(len(members)) if chosen[place] == 1]
        for member in popped:
            assert isinstance(member, bytes)
            value.remove(member)
    elif left * _REMAINDER_FACTOR > count:
        while count > 0:
            popped.append(value.pop_random(chance))
            count -= 1
    else:
        kept = Set(session.engine.limits, INTSET if value.encoding_id == INTSET else LISTPACK)
        while left > 0:
            kept.add(value.pop_random(chance))
            left -= 1
        popped = value.members()
        entry.value = kept
    session.changed(key, number)
    session.notify(NOTIFY_SET, b"spop", key)
    return SetReply(popped)


# Beyond this part of the set it is cheaper to look at all members than to draw until enough differ.
_DRAW_FACTOR: Final = 3


def srandmember(session: Session, args: list[bytes]) -> object:
    if len(args) == 2:
        value = _read(session, args[1])
        return None if value is None else value.random_member(session.engine.random)
    if len(args) > 3:
        raise CommandError(errors.SYNTAX)
    number = count_argument(args[2])
    value = _read(session, args[1])
    if value is None or number == 0:
        return []
    random = session.engine.random
    if number < 0:
        return _with_repetition(value, -number, session)
    size: i64 = len(value)
    if number >= size:
        return value.members()
    count: i64 = number
    if value.encoding_id == LISTPACK:
        chosen = chosen_places(size, count, random)
        members = value.members()
        return [members[place] for place in range(len(members)) if chosen[place] == 1]
    if count * _DRAW_FACTOR > size:
        members = value.members()
        chosen = drawn_places(size, count, random)
        return [members[place] for place in range(len(members)) if chosen[place] == 1]
    drawn: dict[object, None] = {}
    while len(drawn) < count:
        drawn[value.random_member(random)] = None
    return list(drawn)


def _with_repetition(value: Set, number: int, session: Session) -> object:
    check_repetitions(number)
    random = session.engine.random
    found: list[object] = []
    left: i64 = number
    if value.encoding_id == HASHTABLE:
        while left > 0:
            found.append(value.random_member(random))
            left -= 1
        return found
    members = value.members()
    total: i64 = len(members)
    while left > 0:
        drawn: i64 = random()
        found.append(members[drawn % total])
        left -= 1
    return found


def sscan(session: Session, args: list[bytes]) -> object:
    cursor = cursor_argument(args[2])
    value = _read(session, args[1])
    if value is None:
        return [b"0", []]
    options = ScanOptions(args, is_hash=False)
    if value.encoding_id == HASHTABLE:
        entries: list[Entry] = []
        cursor = scan_entries(value.table, cursor, options.count, entries)
        members: list[object] = [entry.key for entry in entries]
    else:
        cursor = 0
        members = value.members()
    pattern = options.pattern
    if pattern is not None:
        found: list[object] = []
        for member in members:
            assert isinstance(member, bytes)
            if glob_match(pattern, member):
                found.append(member)
        members = found
    return [b"%d" % cursor, members]


# Several sets -------------------------------------------------------------------------------------


def _operands(session: Session, keys: list[bytes]) -> list[Set | None]:
    """The sets at the keys, None for a key that does not exist."""
    return [_read(session, key) for key in keys]


def _store(session: Session, key: bytes, result: Set, event: bytes) -> object:
    """Put a result at a key; an empty one deletes the key."""
    size = len(result)
    if size > 0:
        session.db.set_value(key, result)
        session.changed(key)
        session.notify(NOTIFY_SET, event, key)
    else:
        session.drop(key)
    return size


def _size(value: Set) -> int:
    return len(value)


def _by_size(sets: list[Set | None]) -> list[Set] | None:
    """The operands of an intersection, the smallest first, or None when one is missing: it is empty then."""
    present: list[Set] = [value for value in sets if value is not None]
    if len(present) < len(sets):
        return None
    present.sort(key=_size)
    return present


def _intersection(sets: list[Set], limit: int) -> list[object]:
    """Members of the first set that are in all others, in the first one's order; at most `limit` unless 0."""
    first = sets[0]
    # The same set twice adds nothing.
    others = [value for value in sets[1:] if value is not first]
    if len(others) == 0:
        members = first.members()
        return members[:limit] if limit > 0 else members
    found: list[object] = []
    for member in first.members():
        assert isinstance(member, bytes)
        is_common = True
        for other in others:
            if member not in other:
                is_common = False
                break
        if is_common:
            found.append(member)
            if limit > 0 and len(found) >= limit:
                break
    return found


def sinter(session: Session, args: list[bytes]) -> object:
    sets = _by_size(_operands(session, args[1:]))
    return SetReply([] if sets is None else _intersection(sets, 0))


def sintercard(session: Session, args: list[bytes]) -> object:
    number = parse_integer(args[1])
    if number is None or number < 1:
        raise CommandError(b"ERR numkeys should be greater than 0")
    if number > len(args) - 2:
        raise CommandError(b"ERR Number of keys can't be greater than number of args")
    limit = 0
    at = 2 + number
    while at < len(args):
        if args[at].lower() != b"limit" or at + 1 >= len(args):
            raise CommandError(errors.SYNTAX)
        given = parse_integer(args[at + 1])
        if given is None or given < 0:
            raise CommandError(b"ERR LIMIT can't be negative")
        limit = given
        at += 2
    sets = _by_size(_operands(session, args[2 : 2 + number]))
    return 0 if sets is None else len(_intersection(sets, limit))


def sinterstore(session: Session, args: list[bytes]) -> object:
    limits = session.engine.limits
    sets = _by_size(_operands(session, args[2:]))
    if sets is None:
        return _store(session, args[1], Set(limits, INTSET), b"sinterstore")
    result = Set(limits, INTSET if sets[0].encoding_id == INTSET else LISTPACK)
    is_numeric = True
    for member in _intersection(sets, 0):
        assert isinstance(member, bytes)
        result.add(member)
        if is_numeric and parse_integer(member) is None:
            is_numeric = False
    if is_numeric and result.encoding_id != INTSET and len(result) <= intset_capacity(limits):
        result.convert(INTSET)
    return _store(session, args[1], result, b"sinterstore")


def _number_of(member: object) -> int:
    assert isinstance(member, bytes)
    return int(member)


def _are_intsets(sets: list[Set | None]) -> bool:
    return all(value is None or value.encoding_id == INTSET for value in sets)


def sunion(session: Session, args: list[bytes]) -> object:
    sets = _operands(session, args[1:])
    members: dict[object, None] = {}
    for value in sets:
        if value is not None:
            members.update(dict.fromkeys(value.members()))
    if _are_intsets(sets):
        return SetReply(sorted(members, key=_number_of))
    return SetReply(list(members))


def sunionstore(session: Session, args: list[bytes]) -> object:
    result = Set(session.engine.limits, INTSET)
    for value in _operands(session, args[2:]):
        if value is not None:
            result.add_all(value)
    return _store(session, args[1], result, b"sunionstore")


def _subtract_at_once(sets: list[Set | None], first: Set) -> bool:
    """Whether to look each member of the first set up in the others, rather than take theirs out of it.

    The server's own estimate of the work; it decides which encoding a stored difference has.
    """
    one: i64 = 0
    two: i64 = 0
    for value in sets:
        if value is not None:
            one += len(first)
            two += len(value)
    return one // 2 <= two


def _difference(sets: list[Set | None], first: Set) -> list[object]:
    """Members of the first set that are in none of the others, in the first one's order."""
    others = [value for value in sets[1:] if value is not None]
    members = first.members()
    if len(others) == 0:
        return members
    if _subtract_at_once(sets, first):
        found: list[object] = []
        for member in members:
            assert isinstance(member, bytes)
            is_elsewhere = False
            for other in others:
                if member in other:
                    is_elsewhere = True
                    break
            if not is_elsewhere:
                found.append(member)
        return found
    kept: dict[object, None] = dict.fromkeys(members)
    for other in others:
        for member in other.members():
            kept.pop(member, None)
    return list(kept)


def _first_alone(sets: list[Set | None]) -> Set | None:
    """The first set, or None when there is none or it is among those to subtract."""
    first = sets[0]
    if first is None:
        return None
    for other in sets[1:]:
        if other is first:
            return None
    return first


def sdiff(session: Session, args: list[bytes]) -> object:
    sets = _operands(session, args[1:])
    first = _first_alone(sets)
    return SetReply([] if first is None else _difference(sets, first))


def sdiffstore(session: Session, args: list[bytes]) -> object:
    result = Set(session.engine.limits, INTSET)
    sets = _operands(session, args[2:])
    first = _first_alone(sets)
    if first is not None:
        if _subtract_at_once(sets, first):
            for member in _difference(sets, first):
                assert isinstance(member, bytes)
                result.add(member)
        else:
            result.add_all(first)
            for other in sets[1:]:
                if other is not None:
                    for member in other.members():
                        assert isinstance(member, bytes)
                        result.remove(member)
    return _store(session, args[1], result, b"sdiffstore")


HANDLERS: Final[dict[str, Handler]] = {
    "sadd": sadd,
    "scard": scard,
    "sdiff": sdiff,
    "sdiffstore": sdiffstore,
    "sinter": sinter,
    "sintercard": sintercard,
    "sinterstore": sinterstore,
    "sismember": sismember,
    "smembers": smembers,
    "smismember": smismember,
    "smove": smove,
    "spop": spop,
    "srandmember": srandmember,
    "srem": srem,
    "sscan": sscan,
    "sunion": sunion,
    "sunionstore": sunionstore,
}
