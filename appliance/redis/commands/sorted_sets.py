"""Commands on sorted sets.

Source:     https://redis.io/docs/latest/commands/?group=sorted-set; order of checks and texts from
            redis-server 8.2.
Units:      ranks count from 0; ranges of ranks are half open once they are parsed.
Errors:     CommandError: WRONGTYPE, not a float, not a range, a sum that is a NaN, syntax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument, timeout_argument
from appliance.redis.commands.members import elements_removed, remove_members
from appliance.redis.commands.sampling import ScanOptions, check_repetitions, count_argument, cursor_argument
from appliance.redis.doubles import NAN, double_text, parse_bound, parse_double
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.integers import I64_MAX, parse_integer
from appliance.redis.notifications import NOTIFY_GENERIC, NOTIFY_ZSET
from appliance.redis.replies import NULL_ARRAY
from appliance.redis.types.sets import Set
from appliance.redis.types.sorted_sets import (
    A_NAME,
    GREATEST,
    LEAST,
    Member,
    NameRange,
    ScoreRange,
    SortedSet,
    sorted_set_of,
)

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_NAN_SCORE: Final = b"ERR resulting score is not a number (NaN)"
_NO_SCORE_BOUND: Final = b"ERR min or max is not a float"
_NO_NAME_BOUND: Final = b"ERR min or max not valid string range item"
_OPEN: Final = 40  # "("
_CLOSED: Final = 91  # "["
_MINUS: Final = 45
_PLUS: Final = 43


def read_set(session: Session, key: bytes) -> SortedSet | None:
    """The sorted set at key for a command that reads it.

    Raises:
        CommandError: WRONGTYPE.
    """
    value = session.db.lookup_read(key)
    if value is None or isinstance(value, SortedSet):
        return value
    raise CommandError(errors.WRONG_TYPE)


def write_set(session: Session, key: bytes) -> SortedSet | None:
    """The same for a command that will change it."""
    entry = session.db.lookup_write(key)
    if entry is None:
        return None
    value = entry.value
    if isinstance(value, SortedSet):
        return value
    raise CommandError(errors.WRONG_TYPE)


def _remove_ranks(session: Session, key: bytes, zset: SortedSet, start: int, stop: int, event: bytes) -> int:
    """Remove members by rank; how many.

    A set that would be empty is dropped as it is, to be released in pieces.
    """
    count = stop - start
    if count > 0 and start == 0 and stop == len(zset):
        session.db.delete(key)
        session.changed(key, stop)
        session.notify(NOTIFY_ZSET, event, key)
        session.notify(NOTIFY_GENERIC, b"del", key)
    elif count > 0:
        zset.remove_slice(start, stop)
        elements_removed(session, key, zset, count, NOTIFY_ZSET, event)
    return count


def members_reply(session: Session, members: list[Member], with_scores: bool) -> list[object]:
    """Members in order: names, or names and scores, which RESP3 pairs."""
    out: list[object] = []
    if not with_scores:
        out.extend([member.name for member in members])
    elif session.resp3:
        out.extend([[member.name, member.score] for member in members])
    else:
        for member in members:
            out.append(member.name)
            out.append(double_text(member.score))
    return out


def _pairs_reply(session: Session, members: list[Member]) -> list[object]:
    """Names and scores, paired in both protocols."""
    return [[member.name, member.score] for member in members]


# Adding -------------------------------------------------------------------------------------------

# Conditions of ZADD.
NX: Final = 1
XX: Final = 2
GT: Final = 4
LT: Final = 8
CH: Final = 16
INCR: Final = 32
_CONDITIONS: Final[dict[bytes, int]] = {b"nx": NX, b"xx": XX, b"gt": GT, b"lt": LT, b"ch": CH, b"incr": INCR}


def conditions(args: list[bytes], allowed: int) -> tuple[int, int]:
    """The conditions behind the key of ZADD and GEOADD, and where the first argument behind them is."""
    flags = 0
    at = 2
    while at < len(args):
        flag = _CONDITIONS.get(args[at].lower(), 0) & allowed
        if flag == 0:
            break
        flags |= flag
        at += 1
    return flags, at


def zadd(session: Session, args: list[bytes]) -> object:
    if len(args) == 4:
        score = parse_double(args[2])
        if score == score:
            return _zadd_one(session, args[1], score, args[3])
    return _add(session, args, 0)


def zincrby(session: Session, args: list[bytes]) -> object:
    return _add(session, args, INCR)


def _add(session: Session, args: list[bytes], flags: int) -> object:
    """ZADD, and ZINCRBY, which looks for conditions as well: its increment cannot be spelled like one."""
    given, at = conditions(args, NX | XX | GT | LT | CH | INCR)
    flags |= given
    rest = len(args) - at
    if rest == 0 or rest % 2 != 0:
        raise CommandError(errors.SYNTAX)
    if flags & NX and flags & XX:
        raise CommandError(b"ERR XX and NX options at the same time are not compatible")
    if flags & (NX | GT | LT) not in (0, NX, GT, LT):
        raise CommandError(b"ERR GT, LT, and/or NX options at the same time are not compatible")
    if flags & INCR and rest > 2:
        raise CommandError(b"ERR INCR option supports a single increment-element pair")
    return _add_pairs(session, args, at, flags)


def _zadd_one(session: Session, key: bytes, score: float, name: bytes) -> object:
    zset = write_set(session, key)
    if zset is None:
        zset = SortedSet(session.engine.limits)
        session.db.add(key, zset)
        zset.add(name, score)
    else:
        member = zset.find(name)
        if member is not None:
            if member.score != score:
                zset.set_score(member, score)
                session.changed(key, 1)
                session.notify(NOTIFY_ZSET, b"zadd", key)
            return 0
        zset.add(name, score)
    session.changed(key, 1)
    session.notify(NOTIFY_ZSET, b"zadd", key)
    return 1


def _add_pairs(session: Session, args: list[bytes], at: int, flags: int) -> object:
    """Add the pairs of score and name from `at` on."""
    scores: list[float] = []
    for index in range(at, len(args), 2):
        score = parse_double(args[index])
        if score != score:
            raise CommandError(errors.NOT_A_FLOAT)
        scores.append(score)
    return add_scored(session, args[1], scores, args[at + 1 :: 2], flags)


def add_scored(session: Session, key: bytes, scores: list[float], names: list[bytes], flags: int) -> object:
    """Add members to the set at key, as ZADD does; its reply.

    Args:
        scores: as many as names.
        flags: NX, XX, GT, LT, CH and INCR as bits.
    """
    zset = write_set(session, key)
    is_incr = flags & INCR != 0
    if zset is None:
        if flags & XX:
            return None if is_incr else 0
        # The request alone may show, by its length or its first name, that the set will not be small.
        limits = session.engine.limits
        is_small = len(names) <= limits.zset_max_listpack_entries
        zset = SortedSet(limits, is_small and len(names[0]) <= limits.zset_max_listpack_value)
        session.db.add(key, zset)
    elif len(names) > zset.limits.zset_max_listpack_entries:
        zset.is_listpack = False
    added = 0
    updated = 0
    result: object = None
    for at, name in enumerate(names):
        score = scores[at]
        member = zset.find(name)
        if member is None:
            if flags & XX:
                continue
            zset.add(name, score)
            added += 1
            result = score
            continue
        if flags & NX:
            continue
        current = member.score
        if is_incr:
            score += current
            if score != score:
                raise CommandError(_NAN_SCORE)
        if (flags & LT and score >= current) or (flags & GT and score <= current):
            continue
        result = score
        if score != current:
            zset.set_score(member, score)
            updated += 1
    if added + updated > 0:
        session.changed(key, added + updated)
        session.notify(NOTIFY_ZSET, b"zincr" if is_incr else b"zadd", key)
    if is_incr:
        return result
    return added + updated if flags & CH else added


# Removing -----------------------------------------------------------------------------------------


def zrem(session: Session, args: list[bytes]) -> object:
    return remove_members(session, args, write_set(session, args[1]), NOTIFY_ZSET, b"zrem")


def zremrangebyrank(session: Session, args: list[bytes]) -> object:
    start = integer_argument(args[2])
    end = integer_argument(args[3])
    zset = write_set(session, args[1])
    if zset is None:
        return 0
    start, stop = _rank_range(start, end, len(zset))
    return _remove_ranks(session, args[1], zset, start, stop, b"zremrangebyrank")


def zremrangebyscore(session: Session, args: list[bytes]) -> object:
    wanted = _score_range(args[2], args[3])
    zset = write_set(session, args[1])
    if zset is None:
        return 0
    start, stop = zset.ranks_of_scores(wanted)
    return _remove_ranks(session, args[1], zset, start, stop, b"zremrangebyscore")


def zremrangebylex(session: Session, args: list[bytes]) -> object:
    wanted = _name_range(args[2], args[3])
    zset = write_set(session, args[1])
    if zset is None:
        return 0
    start, stop = zset.ranks_of_names(wanted)
    return _remove_ranks(session, args[1], zset, start, stop, b"zremrangebylex")


# Reading ------------------------------------------------------------------------------------------


def zcard(session: Session, args: list[bytes]) -> object:
    zset = read_set(session, args[1])
    return 0 if zset is None else len(zset)


def zscore(session: Session, args: list[bytes]) -> object:
    zset = read_set(session, args[1])
    if zset is None:
        return None
    member = zset.find(args[2])
    return None if member is None else member.score


def zmscore(session: Session, args: list[bytes]) -> object:
    zset = read_set(session, args[1])
    scores: list[object] = []
    for name in args[2:]:
        member = None if zset is None else zset.find(name)
        scores.append(None if member is None else member.score)
    return scores


def zcount(session: Session, args: list[bytes]) -> object:
    wanted = _score_range(args[2], args[3])
    zset = read_set(session, args[1])
    if zset is None:
        return 0
    start, stop = zset.ranks_of_scores(wanted)
    return stop - start


def zlexcount(session: Session, args: list[bytes]) -> object:
    wanted = _name_range(args[2], args[3])
    zset = read_set(session, args[1])
    if zset is None:
        return 0
    start, stop = zset.ranks_of_names(wanted)
    return stop - start


def _zrank(session: Session, args: list[bytes], backwards: bool) -> object:
    with_score = False
    if len(args) > 4:
        raise CommandError(errors.wrong_arity(args[0].lower()))
    if len(args) == 4:
        if args[3].lower() != b"withscore":
            raise CommandError(errors.SYNTAX)
        with_score = True
    zset = read_set(session, args[1])
    member = None if zset is None else zset.find(args[2])
    if zset is None or member is None:
        return NULL_ARRAY if with_score else None
    rank = zset.rank(member)
    if backwards:
        rank = len(zset) - 1 - rank
    return [rank, member.score] if with_score else rank


def zrank(session: Session, args: list[bytes]) -> object:
    return _zrank(session, args, False)


def zrevrank(session: Session, args: list[bytes]) -> object:
    return _zrank(session, args, True)


# Ranges -------------------------------------------------------------------------------------------

_AUTO: Final = 0
_BY_RANK: Final = 1
_BY_SCORE: Final = 2
_BY_LEX: Final = 3


def _score_bound(text: bytes) -> tuple[float, bool]:
    is_open = len(text) > 0 and text[0] == _OPEN
    score = parse_bound(text[1:] if is_open else text)
    if score != score:
        raise CommandError(_NO_SCORE_BOUND)
    return score, is_open


def _score_range(low_text: bytes, high_text: bytes) -> ScoreRange:
    low, low_is_open = _score_bound(low_text)
    high, high_is_open = _score_bound(high_text)
    return ScoreRange(low, low_is_open, high, high_is_open)


def _name_bound(text: bytes) -> tuple[int, bytes, bool]:
    first = text[0] if len(text) > 0 else 0
    if first in (_OPEN, _CLOSED):
        return A_NAME, text[1:], first == _OPEN
    # What comes behind a NUL the server does not see.
    if first in (_MINUS, _PLUS) and (len(text) == 1 or text[1] == 0):
        return LEAST if first == _MINUS else GREATEST, b"", False
    raise CommandError(_NO_NAME_BOUND)


def _name_range(low_text: bytes, high_text: bytes) -> NameRange:
    low_kind, low, low_is_open = _name_bound(low_text)
    high_kind, high, high_is_open = _name_bound(high_text)
    return NameRange(low_kind, low, low_is_open, high_kind, high, high_is_open)


def _rank_range(start: int, end: int, total: int) -> tuple[int, int]:
    """Ranks as a client gives them (from the end when negative, the last one included), half open."""
    if start < 0:
        start = max(0, start + total)
    if end < 0:
        end += total
    if start > end or start >= total:
        return 0, 0
    return start, min(end, total - 1) + 1


class _RangeOptions:
    """What ZRANGE and its kin say beyond the key."""

    def __init__(self, kind: int, is_reverse: bool) -> None:
        self.kind = kind
        self.is_reverse = is_reverse
        self.with_scores = False
        self.offset = 0
        self.limit = -1
        self.start = 0
        self.end = 0
        self.scores: ScoreRange | None = None
        self.names: NameRange | None = None


def _range_options(args: list[bytes], at: int, kind: int, is_reverse: bool, is_store: bool) -> _RangeOptions:
    """Parse the range at `at` and the options behind it.

    Args:
        kind: _AUTO for the commands that let the client say it.
        is_store: WITHSCORES is not allowed.
    """
    options = _RangeOptions(kind, is_reverse)
    is_auto = kind == _AUTO
    next_ = at + 2
    while next_ < len(args):
        word = args[next_].lower()
        if word == b"withscores" and not is_store:
            options.with_scores = True
        elif word == b"limit" and next_ + 2 < len(args):
            options.offset = integer_argument(args[next_ + 1])
            options.limit = integer_argument(args[next_ + 2])
            next_ += 2
        elif word == b"rev" and is_auto and not options.is_reverse:
            options.is_reverse = True
        elif word == b"bylex" and options.kind == _AUTO:
            options.kind = _BY_LEX
        elif word == b"byscore" and options.kind == _AUTO:
            options.kind = _BY_SCORE
        else:
            raise CommandError(errors.SYNTAX)
        next_ += 1
    if options.kind == _AUTO:
        options.kind = _BY_RANK
    if options.kind == _BY_RANK and options.limit != -1:
        raise CommandError(
            b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
        )
    if options.kind == _BY_LEX and options.with_scores:
        raise CommandError(b"ERR syntax error, WITHSCORES not supported in combination with BYLEX")
    low = args[at]
    high = args[at + 1]
    if options.kind == _BY_RANK:
        options.start = integer_argument(low)
        options.end = integer_argument(high)
    else:
        if options.is_reverse:
            low, high = high, low
        if options.kind == _BY_SCORE:
            options.scores = _score_range(low, high)
        else:
            options.names = _name_range(low, high)
    return options


def _select(zset: SortedSet, options: _RangeOptions) -> list[Member]:
    """The members of a range, in the order of the reply."""
    total = len(zset)
    if options.kind == _BY_RANK:
        start, stop = _rank_range(options.start, options.end, total)
        if options.is_reverse:
            start, stop = total - stop, total - start
    else:
        if options.offset < 0:
            return []
        offset = options.offset
        scores = options.scores
        names = options.names
        if scores is not None:
            start, stop = zset.ranks_of_scores(scores)
        else:
            assert names is not None
            start, stop = zset.ranks_of_names(names, options.is_reverse, offset)
            offset = 0
        wanted = max(0, stop - start - offset)
        if 0 <= options.limit < wanted:
            wanted = options.limit
        if options.is_reverse:
            stop -= offset
            start = stop - wanted
        else:
            start += offset
            stop = start + wanted
        if wanted == 0:
            return []
    members = zset.slice(start, stop)
    if options.is_reverse:
        members.reverse()
    return members


def _zrange(session: Session, args: list[bytes], kind: int, is_reverse: bool) -> object:
    options = _range_options(args, 2, kind, is_reverse, False)
    zset = read_set(session, args[1])
    if zset is None:
        return []
    return members_reply(session, _select(zset, options), options.with_scores)


def zrange(session: Session, args: list[bytes]) -> object:
    return _zrange(session, args, _AUTO, False)


def zrevrange(session: Session, args: list[bytes]) -> object:
    return _zrange(session, args, _BY_RANK, True)


def zrangebyscore(session: Session, args: list[bytes]) -> object:
    return _zrange(session, args, _BY_SCORE, False)


def zrevrangebyscore(session: Session, args: list[bytes]) -> object:
    return _zrange(session, args, _BY_SCORE, True)


def zrangebylex(session: Session, args: list[bytes]) -> object:
    return _zrange(session, args, _BY_LEX, False)


def zrevrangebylex(session: Session, args: list[bytes]) -> object:
    return _zrange(session, args, _BY_LEX, True)


def zrangestore(session: Session, args: list[bytes]) -> object:
    options = _range_options(args, 3, _AUTO, False, True)
    zset = read_set(session, args[2])
    members: list[Member] = []
    if zset is not None:
        members = [Member(member.name, member.score) for member in _select(zset, options)]
        # Of ranks the server knows the number in advance; others go into a listpack as long as they fit.
        if options.kind != _BY_RANK or len(members) <= session.engine.limits.zset_max_listpack_entries:
            _through_listpack(session, members)
    return store_members(session, args[1], members, b"zrangestore")


def _through_listpack(session: Session, members: list[Member]) -> None:
    """Do to scores what a listpack does to those that come before it is full: -0 becomes 0."""
    limits = session.engine.limits
    fits = limits.zset_max_listpack_entries
    for member in members:
        if fits <= 0 or len(member.name) > limits.zset_max_listpack_value:
            return
        member.score += 0.0
        fits -= 1


def store_members(
    session: Session, key: bytes, members: list[Member], event: bytes, changes: int = 1
) -> object:
    """Make key a sorted set of these members, or delete it when there are none; the reply is their number.

    Storing them counts as `changes` towards the next save.
    """
    count = len(members)
    if count > 0:
        session.db.set_value(key, sorted_set_of(session.engine.limits, members))
        session.changed(key, changes)
        session.notify(NOTIFY_ZSET, event, key)
    else:
        session.drop(key)
    return count


# Popping ------------------------------------------------------------------------------------------


def _pop(session: Session, key: bytes, zset: SortedSet, is_max: bool, count: int) -> list[Member]:
    """Remove up to count members from one end; they come in the order in which they are popped."""
    total = len(zset)
    event = b"zpopmax" if is_max else b"zpopmin"
    if count == 1 and total > 1:
        member = zset.pop(is_max)
        session.changed(key, 1)
        session.notify(NOTIFY_ZSET, event, key)
        return [member]
    count = min(count, total)
    start = total - count if is_max else 0
    members = zset.slice(start, start + count)
    if is_max:
        members.reverse()
    if count > 0:
        _remove_ranks(session, key, zset, start, start + count, event)
    return members


def _count_argument(text: bytes, message: bytes, least: int) -> int:
    value = parse_integer(text)
    if value is None or value < least:
        raise CommandError(message)
    return value


def _zpop(session: Session, args: list[bytes], is_max: bool) -> object:
    if len(args) > 3:
        raise CommandError(errors.SYNTAX)
    count = 1
    if len(args) == 3:
        count = _count_argument(args[2], errors.NOT_POSITIVE, 0)
    zset = write_set(session, args[1])
    if zset is None:
        return []
    members = _pop(session, args[1], zset, is_max, count)
    if len(args) == 3:
        return members_reply(session, members, True)
    return [members[0].name, members[0].score]


def zpopmin(session: Session, args: list[bytes]) -> object:
    return _zpop(session, args, False)


def zpopmax(session: Session, args: list[bytes]) -> object:
    return _zpop(session, args, True)


class _MultiPop:
    """The arguments of ZMPOP and BZMPOP."""

    def __init__(self, keys: list[bytes], is_max: bool, count: int) -> None:
        self.keys = keys
        self.is_max = is_max
        self.count = count


def _parse_multi_pop(args: list[bytes], at: int) -> _MultiPop:
    """Parse `numkeys key … MIN|MAX [COUNT n]` at `at`."""
    key_count = _count_argument(args[at], b"ERR numkeys should be greater than 0", 1)
    where = at + 1 + key_count
    if where >= len(args):
        raise CommandError(errors.SYNTAX)
    side = args[where].lower()
    if side not in (b"min", b"max"):
        raise CommandError(errors.SYNTAX)
    count = -1
    next_ = where + 1
    while next_ < len(args):
        if count != -1 or args[next_].lower() != b"count" or next_ + 1 == len(args):
            raise CommandError(errors.SYNTAX)
        count = _count_argument(args[next_ + 1], b"ERR count should be greater than 0", 1)
        next_ += 2
    return _MultiPop(args[at + 1 : where], side == b"max", 1 if count == -1 else count)


def _multi_pop(session: Session, wanted: _MultiPop) -> object:
    """Pop from the first set there is; None when there is none."""
    for key in wanted.keys:
        zset = write_set(session, key)
        if zset is not None:
            return [key, _pairs_reply(session, _pop(session, key, zset, wanted.is_max, wanted.count))]
    return None


def zmpop(session: Session, args: list[bytes]) -> object:
    popped = _multi_pop(session, _parse_multi_pop(args, 1))
    return NULL_ARRAY if popped is None else popped


# Waiting for members ------------------------------------------------------------------------------


def _bzpop(session: Session, args: list[bytes], is_max: bool) -> object:
    timeout_us = timeout_argument(args[-1], session.clock.now_ms)
    keys = args[1:-1]
    for key in keys:
        zset = write_set(session, key)
        if zset is not None:
            member = _pop(session, key, zset, is_max, 1)[0]
            return [key, member.name, member.score]
    return session.block(keys, timeout_us, NULL_ARRAY, b"zset")


def bzpopmin(session: Session, args: list[bytes]) -> object:
    return _bzpop(session, args, False)


def bzpopmax(session: Session, args: list[bytes]) -> object:
    return _bzpop(session, args, True)


def bzmpop(session: Session, args: list[bytes]) -> object:
    wanted = _parse_multi_pop(args, 2)
    timeout_us = timeout_argument(args[1], session.clock.now_ms)
    popped = _multi_pop(session, wanted)
    return session.block(wanted.keys, timeout_us, NULL_ARRAY, b"zset") if popped is None else popped


# Sets of several keys -----------------------------------------------------------------------------

_UNION: Final = 0
_INTER: Final = 1
_DIFF: Final = 2
_SUM: Final = 0
_MIN: Final = 1
_MAX: Final = 2


class _Source:
    """One of the keys of ZUNION and its kin: a sorted set, a set whose members count 1, or nothing."""

    def __init__(self, zset: SortedSet | None, plain: Set | None) -> None:
        self.zset = zset
        self.plain = plain
        self.weight = 1.0

    def __len__(self) -> int:
        if self.plain is not None:
            return len(self.plain)
        return 0 if self.zset is None else len(self.zset)

    def members(self) -> list[Member]:
        """All members; not to be changed or kept."""
        plain = self.plain
        if plain is not None:
            made: list[Member] = []
            for name in plain.members():
                assert isinstance(name, bytes)
                made.append(Member(name, 1.0))
            return made
        zset = self.zset
        return [] if zset is None else zset.slice(0, len(zset))

    def score(self, name: bytes) -> float:
        """The score of a member, a NaN if there is none."""
        plain = self.plain
        if plain is not None:
            return 1.0 if name in plain else NAN
        zset = self.zset
        member = None if zset is None else zset.find(name)
        return NAN if member is None else member.score

    def has(self, name: bytes) -> bool:
        score = self.score(name)
        return score == score


def _source(session: Session, key: bytes) -> _Source:
    value = session.db.lookup_read(key)
    if value is None or isinstance(value, SortedSet):
        return _Source(value, None)
    if isinstance(value, Set):
        return _Source(None, value)
    raise CommandError(errors.WRONG_TYPE)


class _SetOperation:
    """The arguments of ZUNION and its kin."""

    def __init__(self, sources: list[_Source]) -> None:
        self.sources = sources
        self.aggregate = _SUM
        self.with_scores = False
        self.limit = 0


def _parse_operation(
    session: Session, args: list[bytes], at: int, operation: int, is_store: bool, is_card: bool
) -> _SetOperation:
    """Parse `numkeys key … options` at `at`. Keys are looked up before the options are looked at."""
    key_count = integer_argument(args[at])
    if key_count < 1:
        name = args[0].lower()
        raise CommandError(b"ERR at least 1 input key is needed for '" + name + b"' command")
    if key_count > len(args) - at - 1:
        raise CommandError(errors.SYNTAX)
    at += 1
    parsed = _SetOperation([_source(session, key) for key in args[at : at + key_count]])
    at += key_count
    while at < len(args):
        word = args[at].lower()
        left = len(args) - at - 1
        if word == b"weights" and operation != _DIFF and not is_card and left >= key_count:
            for source in parsed.sources:
                at += 1
                source.weight = parse_double(args[at])
                if source.weight != source.weight:
                    raise CommandError(b"ERR weight value is not a float")
        elif word == b"aggregate" and operation != _DIFF and not is_card and left >= 1:
            at += 1
            how = args[at].lower()
            if how == b"sum":
                parsed.aggregate = _SUM
            elif how == b"min":
                parsed.aggregate = _MIN
            elif how == b"max":
                parsed.aggregate = _MAX
            else:
                raise CommandError(errors.SYNTAX)
        elif word == b"withscores" and not is_store and not is_card:
            parsed.with_scores = True
        elif word == b"limit" and is_card and left >= 1:
            at += 1
            parsed.limit = _count_argument(args[at], b"ERR LIMIT can't be negative", 0)
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    return parsed


def _weighted(weight: float, score: float) -> float:
    product = weight * score
    return product if product == product else 0.0  # nothing of infinity is nothing


def _aggregated(how: int, one: float, other: float) -> float:
    if how == _SUM:
        total = one + other
        return total if total == total else 0.0
    # Comparisons with a NaN, and of zeros, leave what was there.
    if how == _MIN:
        if other < one:
            return other
    elif other > one:
        return other
    return one


def _by_size(sources: list[_Source]) -> list[_Source]:
    return sorted(sources, key=len)


def _union(parsed: _SetOperation) -> list[Member]:
    sources = _by_size(parsed.sources)
    found: dict[bytes, Member] = {}
    for source in sources:
        weight = source.weight
        for member in source.members():
            score = _weighted(weight, member.score)
            seen = found.get(member.name)
            if seen is None:
                found[member.name] = Member(member.name, score)
            else:
                seen.score = _aggregated(parsed.aggregate, seen.score, score)
    return list(found.values())


def _inter(parsed: _SetOperation) -> list[Member]:
    sources = _by_size(parsed.sources)
    smallest = sources[0]
    others = sources[1:]
    result: list[Member] = []
    for member in smallest.members():
        score = _weighted(smallest.weight, member.score)
        is_everywhere = True
        for source in others:
            other = source.score(member.name)
            if other != other:
                is_everywhere = False
                break
            score = _aggregated(parsed.aggregate, score, source.weight * other)
        if is_everywhere:
            result.append(Member(member.name, score))
    return result


def _diff(parsed: _SetOperation) -> list[Member]:
    others = parsed.sources[1:]
    result: list[Member] = []
    for member in parsed.sources[0].members():
        is_elsewhere = False
        for source in others:
            if source.has(member.name):
                is_elsewhere = True
                break
        if not is_elsewhere:
            result.append(Member(member.name, member.score))
    return result


def _members_of(parsed: _SetOperation, operation: int) -> list[Member]:
    if operation == _UNION:
        return _union(parsed)
    return _inter(parsed) if operation == _INTER else _diff(parsed)


def _combine(session: Session, args: list[bytes], operation: int) -> object:
    parsed = _parse_operation(session, args, 1, operation, False, False)
    members = _members_of(parsed, operation)
    members.sort()
    return members_reply(session, members, parsed.with_scores)


def _combine_and_store(session: Session, args: list[bytes], operation: int, event: bytes) -> object:
    parsed = _parse_operation(session, args, 2, operation, True, False)
    return store_members(session, args[1], _members_of(parsed, operation), event)


def zunion(session: Session, args: list[bytes]) -> object:
    return _combine(session, args, _UNION)


def zinter(session: Session, args: list[bytes]) -> object:
    return _combine(session, args, _INTER)


def zdiff(session: Session, args: list[bytes]) -> object:
    return _combine(session, args, _DIFF)


def zunionstore(session: Session, args: list[bytes]) -> object:
    return _combine_and_store(session, args, _UNION, b"zunionstore")


def zinterstore(session: Session, args: list[bytes]) -> object:
    return _combine_and_store(session, args, _INTER, b"zinterstore")


def zdiffstore(session: Session, args: list[bytes]) -> object:
    return _combine_and_store(session, args, _DIFF, b"zdiffstore")


def zintercard(session: Session, args: list[bytes]) -> object:
    parsed = _parse_operation(session, args, 1, _INTER, False, True)
    sources = _by_size(parsed.sources)
    others = sources[1:]
    count = 0
    for member in sources[0].members():
        is_everywhere = True
        for source in others:
            if not source.has(member.name):
                is_everywhere = False
                break
        if is_everywhere:
            count += 1
            if count == parsed.limit:
                break
    return count


# Chance and SCAN ----------------------------------------------------------------------------------


def zrandmember(session: Session, args: list[bytes]) -> object:
    if len(args) == 2:
        zset = read_set(session, args[1])
        return None if zset is None else zset.at_rank(session.engine.random() % len(zset)).name
    count = count_argument(args[2])
    if len(args) > 4 or (len(args) == 4 and args[3].lower() != b"withscores"):
        raise CommandError(errors.SYNTAX)
    with_scores = len(args) == 4
    if with_scores and not -(I64_MAX // 2) <= count <= I64_MAX // 2:
        raise CommandError(b"ERR value is out of range")
    zset = read_set(session, args[1])
    if zset is None or count == 0:
        return []
    return members_reply(session, _random_members(session, zset, count), with_scores)


def _random_members(session: Session, zset: SortedSet, count: int) -> list[Member]:
    """Members chosen by chance: distinct ones, or with repetitions when count is negative."""
    total = len(zset)
    if count >= total:
        members = zset.slice(0, total)
        members.reverse()
        return members
    random = session.engine.random
    if count < 0:
        check_repetitions(-count)
        return [zset.at_rank(random() % total) for _ in range(-count)]
    # Floyd: each time one more may be drawn, and stands for one that was drawn before.
    chosen: set[int] = set()
    for last in range(total - count, total):
        drawn = random() % (last + 1)
        chosen.add(last if drawn in chosen else drawn)
    if count * 8 > total:
        members = zset.slice(0, total)
        return [members[rank] for rank in chosen]
    return [zset.at_rank(rank) for rank in chosen]


def zscan(session: Session, args: list[bytes]) -> object:
    cursor = cursor_argument(args[2])
    zset = read_set(session, args[1])
    if zset is None:
        return [b"0", []]
    options = ScanOptions(args, is_hash=False)
    members: list[Member] = []
    if zset.is_listpack:
        members = zset.slice(0, len(zset))
        cursor = 0
    else:
        # As many buckets as COUNT asks for members, and some more when they are sparse.
        steps = min(options.count, I64_MAX // 10) * 10
        while True:
            cursor = zset.scan(cursor, members)
            steps -= 1
            if cursor == 0 or steps <= 0 or len(members) >= options.count:
                break
    pattern = options.pattern
    found: list[object] = []
    for member in members:
        if pattern is None or glob_match(pattern, member.name):
            found.append(member.name)
            # Of a skiplist the server shows 17 digits, of a listpack those it stored.
            found.append(double_text(member.score) if zset.is_listpack else b"%.17g" % member.score)
    return [b"%d" % cursor, found]


HANDLERS: Final[dict[str, Handler]] = {
    "bzmpop": bzmpop,
    "bzpopmax": bzpopmax,
    "bzpopmin": bzpopmin,
    "zadd": zadd,
    "zcard": zcard,
    "zcount": zcount,
    "zdiff": zdiff,
    "zdiffstore": zdiffstore,
    "zincrby": zincrby,
    "zinter": zinter,
    "zintercard": zintercard,
    "zinterstore": zinterstore,
    "zlexcount": zlexcount,
    "zmpop": zmpop,
    "zmscore": zmscore,
    "zpopmax": zpopmax,
    "zpopmin": zpopmin,
    "zrandmember": zrandmember,
    "zrange": zrange,
    "zrangebylex": zrangebylex,
    "zrangebyscore": zrangebyscore,
    "zrangestore": zrangestore,
    "zrank": zrank,
    "zrem": zrem,
    "zremrangebylex": zremrangebylex,
    "zremrangebyrank": zremrangebyrank,
    "zremrangebyscore": zremrangebyscore,
    "zrevrange": zrevrange,
    "zrevrangebylex": zrevrangebylex,
    "zrevrangebyscore": zrevrangebyscore,
    "zrevrank": zrevrank,
    "zscan": zscan,
    "zscore": zscore,
    "zunion": zunion,
    "zunionstore": zunionstore,
}
