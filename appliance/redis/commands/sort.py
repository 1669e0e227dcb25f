"""SORT and SORT_RO: the elements of a list, set or sorted set in order, or what other keys say of each.

The weight of an element is the element, or with BY the string (or field of a hash) at a key made from it. A
pattern without `*` means: do not sort. Numbers that are equal are put in the order of the elements' bytes, so
the result is one and the same however the elements came.

Source:     https://redis.io/docs/latest/commands/sort/; order of checks and texts from redis-server 8.2.
Errors:     CommandError: WRONGTYPE, syntax, not an integer (LIMIT), a weight that is no number.
Not here:   locales: ALPHA compares bytes, as redis-server does in the locale C.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.arguments import c_string, integer_argument
from appliance.redis.commands.hashes import live_field
from appliance.redis.errors import CommandError
from appliance.redis.integers import parse_integer
from appliance.redis.notifications import NOTIFY_LIST
from appliance.redis.types.hashes import Hash
from appliance.redis.types.lists import ListValue
from appliance.redis.types.sets import Set
from appliance.redis.types.sorted_sets import SortedSet
from appliance.redis.values import is_string, string_text

if TYPE_CHECKING:
    from appliance.redis.registry import GetKeys, Handler
    from appliance.redis.session import Session

_NOT_A_NUMBER: Final = b"ERR One or more scores can't be converted into double"

# What the server's reader of doubles takes: neither spaces nor hexadecimal; out of range is 0 or infinity.
_NUMBER: Final = re.compile(
    rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity)", re.IGNORECASE
)


class _Order:
    """What is asked for."""

    def __init__(self) -> None:
        self.descending = False
        self.alpha = False
        self.start = 0
        self.count = -1
        self.by: bytes | None = None
        self.is_sorting = True
        self.get: list[bytes] = []
        self.store: bytes | None = None


def _parse(args: list[bytes], may_store: bool) -> _Order:
    order = _Order()
    at = 2
    end = len(args)
    while at < end:
        word = args[at].lower()
        left = end - at - 1
        if word == b"asc":
            order.descending = False
        elif word == b"desc":
            order.descending = True
        elif word == b"alpha":
            order.alpha = True
        elif word == b"limit" and left >= 2:
            order.start = integer_argument(args[at + 1])
            order.count = integer_argument(args[at + 2])
            at += 2
        elif word == b"store" and left >= 1 and may_store:
            at += 1
            order.store = args[at]
        elif word == b"by" and left >= 1:
            at += 1
            order.by = args[at]
            if b"*" not in c_string(args[at]):
                order.is_sorting = False
        elif word == b"get" and left >= 1:
            at += 1
            order.get.append(args[at])
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    return order


class _Pattern:
    """A pattern of BY or GET, taken apart once: prefix, `*`, suffix, and the field of a hash behind `->`."""

    def __init__(self, text: bytes) -> None:
        seen = c_string(text)
        self.is_element = seen == b"#"
        star = seen.find(b"*")
        self.is_constant = star < 0
        self.prefix = text[:star]
        self.suffix = text[star + 1 :]
        self.field = b""
        arrow = seen.find(b"->", star + 1)
        if star >= 0 and 0 <= arrow < len(seen) - 2:
            self.field = text[arrow + 2 :]
            self.suffix = text[star + 1 : arrow]

    def lookup(self, session: Session, element: bytes) -> bytes | None:
        """The string that the pattern leads to from an element."""
        if self.is_element:
            return element
        if self.is_constant:
            return None
        key = self.prefix + element + self.suffix
        value = session.db.lookup_read(key)
        if value is None:
            return None
        if len(self.field) > 0:
            return live_field(session, key, value, self.field) if isinstance(value, Hash) else None
        return string_text(value) if is_string(value) else None


def sort(session: Session, args: list[bytes]) -> object:
    return _sort(session, args, True)


def sort_ro(session: Session, args: list[bytes]) -> object:
    return _sort(session, args, False)


def _sort(session: Session, args: list[bytes], may_store: bool) -> object:
    order = _parse(args, may_store)
    value = session.db.lookup_read(args[1])
    chosen = _chosen(session, value, order)
    if len(order.get) > 0:
        patterns = [_Pattern(text) for text in order.get]
        found: list[object] = []
        for element in chosen:
            found.extend([pattern.lookup(session, element) for pattern in patterns])
        if order.store is None:
            return found
        chosen = [item if isinstance(item, bytes) else b"" for item in found]
    elif order.store is None:
        return chosen
    _store(session, order.store, chosen)
    return len(chosen)


def _store(session: Session, key: bytes, elements: list[bytes]) -> None:
    if len(elements) > 0:
        value = ListValue(session.engine.limits)
        value.load(elements)
        session.db.set_value(key, value)
        session.changed(key, len(elements))
        session.notify(NOTIFY_LIST, b"sortstore", key)
    else:
        session.drop(key)


def _chosen(session: Session, value: object, order: _Order) -> list[bytes]:
    """The elements that are asked for, in order."""
    if value is None:
        return []
    if isinstance(value, SortedSet):
        value.is_listpack = False  # the server turns it into a skiplist before it looks at it
    elif isinstance(value, Set):
        if not order.is_sorting and order.store is not None:
            # What is stored must not depend on the order within a hash table.
            order.is_sorting = True
            order.alpha = True
            order.by = None
    elif not isinstance(value, ListValue):
        raise CommandError(errors.WRONG_TYPE)
    length = len(value)
    first = min(max(order.start, 0), length)
    last = length if order.count < 0 else min(first + order.count, length)
    if order.is_sorting:
        return _sorted(session, _elements(value, 0, length), order)[first:last]
    if first >= last:
        return []
    if not order.descending or isinstance(value, Set):
        return _elements(value, first, last)
    backwards = _elements(value, length - last, length - first)
    backwards.reverse()
    return backwards


def _elements(value: object, first: int, last: int) -> list[bytes]:
    """The elements from a position on and before another, in the order of the value itself."""
    if first >= last:
        return []
    if isinstance(value, ListValue):
        return value.elements(first, last - 1)
    if isinstance(value, SortedSet):
        return [member.name for member in value.slice(first, last)]
    assert isinstance(value, Set)
    return [member for member in value.members()[first:last] if isinstance(member, bytes)]


def _sorted(session: Session, elements: list[bytes], order: _Order) -> list[bytes]:
    pattern = None if order.by is None else _Pattern(order.by)
    if order.alpha:
        return _sorted_by_text(session, elements, order, pattern)
    scores: list[float] = []
    is_wrong = False
    for element in elements:
        text = element if pattern is None else pattern.lookup(session, element)
        if text is None:
            scores.append(0.0)
            continue
        number = parse_integer(text)
        if number is not None:
            scores.append(float(number))
            continue
        text = c_string(text)
        if len(text) == 0:
            scores.append(0.0)
        elif _NUMBER.fullmatch(text) is not None:
            scores.append(float(text))
        else:
            is_wrong = True
    # All keys of BY have been looked up, which counts as use of each.
    if is_wrong:
        raise CommandError(_NOT_A_NUMBER)
    places = sorted(range(len(elements)), key=scores.__getitem__, reverse=order.descending)
    result = [elements[place] for place in places]
    # Where scores are equal, the bytes decide.
    length: i64 = len(places)
    at: i64 = 0
    while at < length:
        score = scores[places[at]]
        end = at + 1
        while end < length and scores[places[end]] == score:
            end += 1
        if end > at + 1:
            result[at:end] = sorted(result[at:end], reverse=order.descending)
        at = end
    return result


def _sorted_by_text(
    session: Session, elements: list[bytes], order: _Order, pattern: _Pattern | None
) -> list[bytes]:
    # What is stored is compared as bytes, what is shown as C strings.
    keys: list[bytes] = []
    for element in elements:
        text = element if pattern is None else pattern.lookup(session, element)
        if text is None:
            keys.append(b"")  # before every text
        else:
            keys.append(b"=" + (text if order.store is not None else c_string(text)))
    places = sorted(range(len(elements)), key=keys.__getitem__, reverse=order.descending)
    return [elements[place] for place in places]


def sort_keys(args: list[bytes]) -> list[tuple[bytes, list[str]]]:
    """The keys of SORT whose names are in the request: what is sorted, and where the result goes."""
    keys = [(args[1], ["RO", "access"])]
    store: bytes | None = None
    at = 2
    while at < len(args):
        word = args[at].lower()
        if word == b"limit":
            at += 2
        elif word in (b"get", b"by"):
            at += 1
        elif word == b"store" and at + 1 < len(args):
            at += 1
            store = args[at]
        at += 1
    if store is not None:
        keys.append((store, ["OW", "update"]))
    return keys


def sort_ro_keys(args: list[bytes]) -> list[tuple[bytes, list[str]]]:
    """The key itself: those that patterns name cannot be told from the arguments."""
    return [(args[1], ["RO", "access"])]


GET_KEYS: Final[dict[str, GetKeys]] = {"sort": sort_keys, "sort_ro": sort_ro_keys}

HANDLERS: Final[dict[str, Handler]] = {
    "sort": sort,
    "sort_ro": sort_ro,
}
