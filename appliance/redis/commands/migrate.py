"""MIGRATE: the arguments. What becomes of the keys is in `appliance/redis/migration.py`.

Source:     https://redis.io/docs/latest/commands/migrate/; order of checks and texts from redis-server 8.2.
Units:      milliseconds in requests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.migration import Migration
from appliance.redis.replies import SimpleString

if TYPE_CHECKING:
    from appliance.redis.registry import GetKeys, Handler
    from appliance.redis.session import Session

_FIRST_OPTION: Final = 6
_DEFAULT_TIMEOUT_MS: Final = 1000
_LEADING_NUMBER: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]{1,18})")
_NO_KEY: Final = SimpleString(b"NOKEY")
_BOTH_WAYS: Final = b"ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"


class _Options:
    """What follows the timeout."""

    def __init__(self) -> None:
        self.is_copy = False
        self.is_replacing = False
        self.auth: list[bytes] = []
        self.keys: list[bytes] = []


def _parse(args: list[bytes]) -> _Options:
    options = _Options()
    options.keys = [args[3]]
    at = _FIRST_OPTION
    while at < len(args):
        word = args[at].lower()
        if word == b"copy":
            options.is_copy = True
        elif word == b"replace":
            options.is_replacing = True
        elif word == b"auth" and at + 1 < len(args):
            options.auth = [args[at + 1]]
            at += 1
        elif word == b"auth2" and at + 2 < len(args):
            options.auth = [args[at + 1], args[at + 2]]
            at += 2
        elif word == b"keys":
            if len(args[3]) > 0:
                raise CommandError(_BOTH_WAYS)
            options.keys = args[at + 1 :]
            break
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    return options


def _port(text: bytes) -> int:
    """As C's atoi reads it, and as 16 bits hold it."""
    found = _LEADING_NUMBER.match(text)
    return int(found.group(1)) & 0xFFFF if found is not None else 0


def migrate(session: Session, args: list[bytes]) -> object:
    options = _parse(args)
    timeout_ms = integer_argument(args[5])
    target_database = integer_argument(args[4])
    db = session.db
    keys = [key for key in options.keys if db.lookup_read(key) is not None]
    if len(keys) == 0:
        return _NO_KEY
    migration = Migration(
        session.clock,
        db,
        keys,
        host=args[1],
        port=_port(args[2]),
        timeout_us=(timeout_ms if timeout_ms > 0 else _DEFAULT_TIMEOUT_MS) * 1000,
        target_database=target_database,
        auth=options.auth,
        is_copy=options.is_copy,
        is_replacing=options.is_replacing,
    )
    return session.engine.migrations.move(session, migration, args)


def migrate_keys(args: list[bytes]) -> list[tuple[bytes, list[str]]]:
    """The one key, or those after KEYS: a word of that name may also be a password."""
    keys = [args[3]]
    at = _FIRST_OPTION
    while at < len(args):
        word = args[at].lower()
        if word == b"keys" and at + 1 < len(args):
            if len(args[3]) > 0:
                return []
            keys = args[at + 1 :]
            break
        at += {b"auth": 2, b"auth2": 3}.get(word, 1)
    return [(key, ["RW", "access", "delete"]) for key in keys]


GET_KEYS: Final[dict[str, GetKeys]] = {"migrate": migrate_keys}

HANDLERS: Final[dict[str, Handler]] = {"migrate": migrate}
