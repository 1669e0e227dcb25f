"""Commands on positions: members of a sorted set whose scores are cells of a grid over the globe.

Source:     https://redis.io/docs/latest/commands/?group=geo; order of checks and texts from redis-server 8.2.
Units:      degrees; distances in the unit that the command names.
Errors:     CommandError: WRONGTYPE, a position off the map, not a number, an unknown unit, syntax.
"""

from __future__ import annotations

from functools import cmp_to_key
from typing import TYPE_CHECKING, Final

from appliance.redis import errors, geohash
from appliance.redis.arguments import integer_argument
from appliance.redis.commands.sorted_sets import CH, NX, XX, add_scored, conditions, read_set, store_members
from appliance.redis.doubles import parse_double
from appliance.redis.errors import CommandError
from appliance.redis.geohash import Shape
from appliance.redis.partial_sort import sort_range
from appliance.redis.replies import NULL_ARRAY
from appliance.redis.types.sorted_sets import Member, ScoreRange, SortedSet

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_UNITS: Final[dict[bytes, float]] = {b"m": 1.0, b"km": 1000.0, b"ft": 0.3048, b"mi": 1609.34}
_NO_MEMBER: Final = b"ERR could not decode requested zset member"


def _number(text: bytes, message: bytes) -> float:
    value = parse_double(text)
    if value != value:
        raise CommandError(message)
    return value


def _position(args: list[bytes], at: int) -> tuple[float, float]:
    longitude = _number(args[at], errors.NOT_A_FLOAT)
    latitude = _number(args[at + 1], errors.NOT_A_FLOAT)
    if (
        not geohash.LONGITUDE_MIN <= longitude <= geohash.LONGITUDE_MAX
        or not geohash.LATITUDE_MIN <= latitude <= geohash.LATITUDE_MAX
    ):
        raise CommandError(b"ERR invalid longitude,latitude pair %f,%f" % (longitude, latitude))
    return longitude, latitude


def _unit(text: bytes) -> float:
    """The metres of a unit."""
    metres = _UNITS.get(text.lower())
    if metres is None:
        raise CommandError(b"ERR unsupported unit provided. please use M, KM, FT, MI")
    return metres


def _distance_text(value: float) -> bytes:
    """A distance with four decimals."""
    return b"%.4f" % (round(value * 10_000.0) / 10_000.0)


def geoadd(session: Session, args: list[bytes]) -> object:
    flags, at = conditions(args, NX | XX | CH)
    rest = len(args) - at
    if rest == 0 or rest % 3 != 0 or (flags & NX and flags & XX):
        raise CommandError(errors.SYNTAX)
    scores: list[float] = []
    names: list[bytes] = []
    for index in range(at, len(args), 3):
        longitude, latitude = _position(args, index)
        scores.append(float(geohash.encoded(longitude, latitude)))
        names.append(args[index + 2])
    return add_scored(session, args[1], scores, names, flags)


def _score_of(zset: SortedSet | None, name: bytes) -> Member | None:
    return None if zset is None else zset.find(name)


def geodist(session: Session, args: list[bytes]) -> object:
    metres = 1.0
    if len(args) == 5:
        metres = _unit(args[4])
    elif len(args) > 5:
        raise CommandError(errors.SYNTAX)
    zset = read_set(session, args[1])
    one = _score_of(zset, args[2])
    other = _score_of(zset, args[3])
    if one is None or other is None:
        return None
    longitude_1, latitude_1 = geohash.decoded(one.score)
    longitude_2, latitude_2 = geohash.decoded(other.score)
    return _distance_text(geohash.distance(longitude_1, latitude_1, longitude_2, latitude_2) / metres)


def geopos(session: Session, args: list[bytes]) -> object:
    zset = read_set(session, args[1])
    positions: list[object] = []
    for name in args[2:]:
        member = _score_of(zset, name)
        positions.append(NULL_ARRAY if member is None else list(geohash.decoded(member.score)))
    return positions


def geohash_(session: Session, args: list[bytes]) -> object:
    zset = read_set(session, args[1])
    texts: list[object] = []
    for name in args[2:]:
        member = _score_of(zset, name)
        texts.append(None if member is None else geohash.text(member.score))
    return texts


# Searching ----------------------------------------------------------------------------------------

# Where the centre and the shape are said, and what may be done with the result.
_FROM_POSITION: Final = 1
_FROM_MEMBER: Final = 2
_BY_OPTIONS: Final = 4
_MAY_STORE: Final = 8
_MUST_STORE: Final = 16

_UNSORTED: Final = 0
_ASC: Final = 1
_DESC: Final = 2


class _Found:
    """A member within the shape."""

    def __init__(self, member: Member, away_m: float, longitude: float, latitude: float) -> None:
        self.member = member
        self.away_m = away_m
        self.longitude = longitude
        self.latitude = latitude


def _nearer(one: _Found, other: _Found) -> int:
    if one.away_m > other.away_m:
        return 1
    return 0 if one.away_m == other.away_m else -1


def _farther(one: _Found, other: _Found) -> int:
    return -_nearer(one, other)


class _Search:
    """The arguments of a search."""

    def __init__(self) -> None:
        self.shape = Shape()
        self.with_distance = False
        self.with_hash = False
        self.with_position = False
        self.order = _UNSORTED
        self.count = 0
        self.any = False
        self.store_key: bytes | None = None
        self.store_distance = False


def _radius(shape: Shape, args: list[bytes], at: int) -> None:
    radius = _number(args[at], b"ERR need numeric radius")
    if radius < 0:
        raise CommandError(b"ERR radius cannot be negative")
    shape.metres = _unit(args[at + 1])
    shape.radius = radius


def _box(shape: Shape, args: list[bytes], at: int) -> None:
    width = _number(args[at], b"ERR need numeric width")
    height = _number(args[at + 1], b"ERR need numeric height")
    if width < 0 or height < 0:
        raise CommandError(b"ERR height or width cannot be negative")
    shape.metres = _unit(args[at + 2])
    shape.is_box = True
    shape.width = width
    shape.height = height


def _centre_at_member(shape: Shape, zset: SortedSet, name: bytes) -> None:
    member = zset.find(name)
    if member is None:
        raise CommandError(_NO_MEMBER)
    shape.longitude, shape.latitude = geohash.decoded(member.score)


def _parse_search(zset: SortedSet | None, args: list[bytes], kind: int) -> _Search:
    """Parse everything behind the source key. Without a source no member is looked up."""
    search = _Search()
    shape = search.shape
    by_options = kind & _BY_OPTIONS != 0
    at = 2
    if kind & _FROM_POSITION:
        shape.longitude, shape.latitude = _position(args, 2)
        _radius(shape, args, 4)
        at = 6
    elif kind & _FROM_MEMBER:
        if zset is not None:
            _centre_at_member(shape, zset, args[2])
            _radius(shape, args, 3)
        at = 5
    elif kind & _MUST_STORE:
        search.store_key = args[1]
        at = 3
    from_member = False
    from_position = False
    by_radius = False
    by_box = False
    while at < len(args):
        word = args[at].lower()
        left = len(args) - at - 1
        if word == b"withdist":
            search.with_distance = True
        elif word == b"withhash":
            search.with_hash = True
        elif word == b"withcoord":
            search.with_position = True
        elif word == b"any":
            search.any = True
        elif word == b"asc":
            search.order = _ASC
        elif word == b"desc":
            search.order = _DESC
        elif word == b"count" and left >= 1:
            search.count = integer_argument(args[at + 1])
            if search.count <= 0:
                raise CommandError(b"ERR COUNT must be > 0")
            at += 1
        elif word in (b"store", b"storedist") and left >= 1 and kind & _MAY_STORE:
            search.store_key = args[at + 1]
            search.store_distance = word == b"storedist"
            at += 1
        elif word == b"frommember" and left >= 1 and by_options and not from_position:
            if zset is not None:
                _centre_at_member(shape, zset, args[at + 1])
            from_member = True
            at += 1
        elif word == b"fromlonlat" and left >= 2 and by_options and not from_member:
            shape.longitude, shape.latitude = _position(args, at + 1)
            from_position = True
            at += 2
        elif word == b"byradius" and left >= 2 and by_options and not by_box:
            _radius(shape, args, at + 1)
            by_radius = True
            at += 2
        elif word == b"bybox" and left >= 3 and by_options and not by_radius:
            _box(shape, args, at + 1)
            by_box = True
            at += 3
        elif word == b"storedist" and kind & _MUST_STORE:
            search.store_distance = True
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    if search.store_key is not None and (search.with_distance or search.with_hash or search.with_position):
        what = b"GEOSEARCHSTORE" if kind & _MUST_STORE else b"STORE option in GEORADIUS"
        raise CommandError(
            b"ERR " + what + b" is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
        )
    if by_options and not (from_member or from_position):
        raise CommandError(
            b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for " + errors.quoted(args[0])
        )
    if by_options and not (by_radius or by_box):
        raise CommandError(
            b"ERR exactly one of BYRADIUS and BYBOX can be specified for " + errors.quoted(args[0])
        )
    if search.any and search.count == 0:
        raise CommandError(b"ERR the ANY argument requires COUNT argument")
    # The nearest so many can only be told by sorting.
    if search.count != 0 and search.order == _UNSORTED and not search.any:
        search.order = _ASC
    return search


def _search(session: Session, args: list[bytes], kind: int) -> object:
    zset = read_set(session, args[2 if kind & _MUST_STORE else 1])
    search = _parse_search(zset, args, kind)
    found: list[_Found] = []
    if zset is not None:
        found = _members_within(zset, search.shape, search.count if search.any else 0)
        count = len(found) if search.count == 0 else min(search.count, len(found))
        if search.order != _UNSORTED:
            compare = _nearer if search.order == _ASC else _farther
            if count == len(found):
                found.sort(key=cmp_to_key(compare))
            else:
                sort_range(found, compare, 0, count - 1)
        found = found[:count]
    metres = search.shape.metres
    if search.store_key is not None:
        event = b"geosearchstore" if kind & _BY_OPTIONS else b"georadiusstore"
        members = [
            Member(one.member.name, one.away_m / metres if search.store_distance else one.member.score)
            for one in found
        ]
        return store_members(session, search.store_key, members, event, len(members))
    return [_found_reply(search, one, metres) for one in found]


def _found_reply(search: _Search, one: _Found, metres: float) -> object:
    if not (search.with_distance or search.with_hash or search.with_position):
        return one.member.name
    reply: list[object] = [one.member.name]
    if search.with_distance:
        reply.append(_distance_text(one.away_m / metres))
    if search.with_hash:
        reply.append(int(one.member.score))
    if search.with_position:
        reply.append([one.longitude, one.latitude])
    return reply


def _members_within(zset: SortedSet, shape: Shape, limit: int) -> list[_Found]:
    """The members within a shape, cell by cell; no more than limit, if that is not 0."""
    found: list[_Found] = []
    for cell in shape.cells():
        low, high = cell.scores()
        start, stop = zset.ranks_of_scores(ScoreRange(low, False, high, True))
        for member in zset.slice(start, stop):
            longitude, latitude = geohash.decoded(member.score)
            away_m = shape.distance_within(longitude, latitude)
            if not away_m < 0.0:
                found.append(_Found(member, away_m, longitude, latitude))
                if len(found) == limit:
                    return found
    return found


def georadius(session: Session, args: list[bytes]) -> object:
    return _search(session, args, _FROM_POSITION | _MAY_STORE)


def georadius_ro(session: Session, args: list[bytes]) -> object:
    return _search(session, args, _FROM_POSITION)


def georadiusbymember(session: Session, args: list[bytes]) -> object:
    return _search(session, args, _FROM_MEMBER | _MAY_STORE)


def georadiusbymember_ro(session: Session, args: list[bytes]) -> object:
    return _search(session, args, _FROM_MEMBER)


def geosearch(session: Session, args: list[bytes]) -> object:
    return _search(session, args, _BY_OPTIONS)


def geosearchstore(session: Session, args: list[bytes]) -> object:
    return _search(session, args, _BY_OPTIONS | _MUST_STORE)


HANDLERS: Final[dict[str, Handler]] = {
    "geoadd": geoadd,
    "geodist": geodist,
    "geohash": geohash_,
    "geopos": geopos,
    "georadius": georadius,
    "georadius_ro": georadius_ro,
    "georadiusbymember": georadiusbymember,
    "georadiusbymember_ro": georadiusbymember_ro,
    "geosearch": geosearch,
    "geosearchstore": geosearchstore,
}
