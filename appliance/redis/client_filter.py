"""Which clients CLIENT LIST and CLIENT KILL are about.

Redis 8.2 has few filters for either, and in CLIENT LIST one at a time. Valkey 9 has more, any number of them
together, for both, and the contrary of most (`NOT-NAME x`). What Redis takes is taken as there; what it does
not know goes by Valkey's rules.

Source:     redis-server 8.2.3, valkey-server 9.1.2: order of checks and texts.
Units:      seconds for ages.
Errors:     CommandError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.integers import parse_integer
from appliance.redis.session import IN_MULTI, MONITORING, PARKED, REPLICA, SPOILED, SUBSCRIBED

if TYPE_CHECKING:
    from appliance.redis.session import Session

_TYPES: Final = (b"normal", b"master", b"replica", b"slave", b"pubsub")
_VALKEYS_TYPES: Final = (*_TYPES, b"primary")
# Those that have a contrary with `not-` before it.
_REVERSIBLE: Final = tuple(b"id type user addr laddr ip flags name lib-name lib-ver db capa".split())
_REDISS_NAMES: Final = frozenset([b"id", b"type", b"user", b"addr", b"laddr", b"maxage", b"skipme"])
_VALKEYS_NAMES: Final = (
    frozenset([*_REVERSIBLE, *[b"not-" + name for name in _REVERSIBLE], b"idle"]) - _REDISS_NAMES
)
_FLAGS: Final = frozenset(b"bcdeirtuxABEIMNOPRSTU")
_CAPABILITIES: Final = frozenset(b"r")
_MOST_C_INT: Final = (1 << 31) - 1


def flags_of(session: Session) -> str:
    """As CLIENT LIST shows them, in the order in which the server puts them."""
    flags = ""
    tracked = session.tracked
    if session.mode & REPLICA:
        flags += "S"
    if session.mode & MONITORING:
        flags += "O"
    if session.mode & SUBSCRIBED:
        flags += "P"
    if session.mode & IN_MULTI:
        flags += "x"
    if session.mode & (PARKED | REPLICA) == PARKED:
        flags += "b"
    if tracked is not None:
        flags += "t" + ("R" if tracked.is_broken else "") + ("B" if tracked.is_broadcast else "")
    if session.mode & SPOILED:
        flags += "d"
    if session.is_closing:
        flags += "A"
    if session.is_privileged:
        flags += "U"
    if session.is_no_evict:
        flags += "e"
    if session.is_no_touch:
        flags += "T"
    return flags or "N"


def type_of(session: Session) -> bytes:
    if session.mode & REPLICA:
        return b"replica"
    return b"pubsub" if session.mode & SUBSCRIBED else b"normal"


def client_type(text: bytes, names: tuple[bytes, ...] = _TYPES) -> bytes:
    """The type that is meant."""
    wanted = text.lower()
    if wanted not in names:
        raise CommandError(b"ERR Unknown client type '" + errors.quoted(text, len(text)) + b"'")
    return b"replica" if wanted == b"slave" else b"master" if wanted == b"primary" else wanted


class ClientFilter:
    """What the options of a request ask for; all of them must hold."""

    def __init__(self, skip_me: bool) -> None:
        self.skip_me = skip_me
        self.wanted: dict[bytes, bytes] = {}  # by option, in lower case; the last of each counts
        self.ids: set[int] = set()
        self.other_ids: set[int] = set()
        self.has_ids = False
        self.max_age_s = 0
        self.idle_s = 0

    def matches(self, session: Session, me: Session) -> bool:
        """Whether a client is meant; `me` is who asks."""
        if self.skip_me and session is me:
            return False
        if (self.has_ids and session.id not in self.ids) or session.id in self.other_ids:
            return False
        now_us = session.clock.now_us
        if (now_us - session.created_us) // 1_000_000 < self.max_age_s:
            return False
        if (now_us - session.last_interaction_us) // 1_000_000 < self.idle_s:
            return False
        for option, value in self.wanted.items():
            is_contrary = option.startswith(b"not-")
            if _has(session, option.removeprefix(b"not-"), value) == is_contrary:
                return False
        return True


def _has(session: Session, option: bytes, value: bytes) -> bool:
    if option == b"addr":
        return session.remote.encode() == value
    if option == b"laddr":
        return session.local.encode() == value
    if option == b"ip":
        return session.remote.rpartition(":")[0].encode() == value
    if option == b"type":
        return type_of(session) == value
    if option == b"name":
        return session.name == value
    if option == b"lib-name":
        return session.library_name == value
    if option == b"lib-ver":
        return session.library_version == value
    if option == b"db":
        return session.db.index == int(value)
    if option == b"capa":
        return session.can_redirect or not value
    if option == b"flags":
        return set(value) <= set(flags_of(session).encode())
    return True  # the user: there is only one


def parse_filter(session: Session, args: list[bytes], skip_me: bool) -> ClientFilter:
    """The options of CLIENT LIST or CLIENT KILL.

    Args:
        session: who asks.
        args: the request; the options begin at 2.
        skip_me: unless SKIPME says otherwise.
    """
    chosen = ClientFilter(skip_me)
    may_be_many = is_valkeys(args)
    at = 2
    while at < len(args):
        option = args[at].lower()
        if at + 1 >= len(args):
            raise CommandError(errors.SYNTAX)
        value = args[at + 1]
        at += 2
        if option in (b"id", b"not-id"):
            ids = chosen.ids if option == b"id" else chosen.other_ids
            chosen.has_ids = chosen.has_ids or option == b"id"
            ids.add(_id(value))
            while may_be_many and at < len(args) and parse_integer(args[at]) is not None:
                ids.add(_id(args[at]))
                at += 1
        elif option == b"skipme":
            word = value.lower()
            if word not in (b"yes", b"no"):
                raise CommandError(errors.SYNTAX)
            chosen.skip_me = word == b"yes"
        elif option == b"maxage":
            chosen.max_age_s = _seconds(b"maxage", value)
        elif option == b"idle":
            chosen.idle_s = _seconds(b"idle", value)
        elif option in _VALKEYS_NAMES or option in _REDISS_NAMES:
            chosen.wanted[option] = _checked(session, option, value)
        else:
            raise CommandError(errors.SYNTAX)
    return chosen


def _checked(session: Session, option: bytes, value: bytes) -> bytes:
    """The value of an option, in the form in which it is compared."""
    name = option.removeprefix(b"not-")
    if name == b"type":
        return client_type(value, _VALKEYS_TYPES)
    if name == b"user" and value != b"default":
        raise CommandError(b"ERR No such user '" + errors.quoted(value, len(value)) + b"'")
    if name == b"db":
        number = parse_integer(value)
        if number is None or abs(number) > _MOST_C_INT:
            raise CommandError(b"ERR DB is not an integer or out of range")
        last = len(session.engine.databases) - 1
        if not 0 <= number <= last:
            raise CommandError(b"ERR DB number should be between 0 and %d" % last)
    letters = _FLAGS if name == b"flags" else _CAPABILITIES if name == b"capa" else None
    if letters is not None and not letters.issuperset(value):
        where = option.upper() if option != name else b"provided"
        shown = errors.quoted(value, len(value))
        raise CommandError(b"ERR Unknown " + name + b" found in the " + where + b" filter: " + shown)
    return value


def _id(text: bytes) -> int:
    number = parse_integer(text)
    if number is None or number < 1:
        raise CommandError(b"ERR client-id should be greater than 0")
    return number


def _seconds(name: bytes, text: bytes) -> int:
    number = parse_integer(text)
    if number is None:
        raise CommandError(b"ERR " + name + b" is not an integer or out of range")
    if number <= 0:
        raise CommandError(b"ERR " + name + b" should be greater than 0")
    return number


def is_valkeys(args: list[bytes]) -> bool:
    """Whether a request has an option that Redis does not know, and Valkey does."""
    step = 1 if b"id" in (args[2].lower(), args[2].lower().removeprefix(b"not-")) else 2
    for at in range(2, len(args), step):
        option = args[at].lower()
        if option in _VALKEYS_NAMES:
            return True
        if option == b"type" and at + 1 < len(args) and args[at + 1].lower() == b"primary":
            return True
    return False
