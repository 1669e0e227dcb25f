"""DUMP and RESTORE.

Source:     https://redis.io/docs/latest/commands/restore/; order of checks and texts from redis-server 8.2.
Units:      milliseconds; IDLETIME in seconds.
Errors:     CommandError: BUSYKEY, values out of range, payloads that are no dump.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import dump as dumps, errors
from appliance.redis.arguments import integer_argument
from appliance.redis.entry import CLOCK_MASK
from appliance.redis.errors import CommandError
from appliance.redis.integers import I64_MAX
from appliance.redis.notifications import NOTIFY_GENERIC
from appliance.redis.replies import OK

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_HIGHEST_FREQUENCY: Final = 255


def dump(session: Session, args: list[bytes]) -> object:
    value = session.db.lookup_read(args[1])
    return None if value is None else dumps.dump(value)


class _RestoreArguments:
    """The options of RESTORE."""

    def __init__(self) -> None:
        self.is_replacing = False
        self.is_absolute = False
        self.idle_s = -1
        self.frequency = -1


def _parse_restore(args: list[bytes]) -> _RestoreArguments:
    parsed = _RestoreArguments()
    at = 4
    while at < len(args):
        word = args[at].lower()
        if word == b"replace":
            parsed.is_replacing = True
        elif word == b"absttl":
            parsed.is_absolute = True
        elif word == b"idletime" and at + 1 < len(args) and parsed.frequency < 0:
            at += 1
            parsed.idle_s = integer_argument(args[at])
            if parsed.idle_s < 0:
                raise CommandError(b"ERR Invalid IDLETIME value, must be >= 0")
        elif word == b"freq" and at + 1 < len(args) and parsed.idle_s < 0:
            at += 1
            parsed.frequency = integer_argument(args[at])
            if not 0 <= parsed.frequency <= _HIGHEST_FREQUENCY:
                raise CommandError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    return parsed


def restore(session: Session, args: list[bytes]) -> object:
    parsed = _parse_restore(args)
    db = session.db
    key = args[1]
    if not parsed.is_replacing and db.lookup_write(key) is not None:
        raise CommandError(b"BUSYKEY Target key name already exists.")
    ttl_ms = integer_argument(args[2])
    if ttl_ms < 0:
        raise CommandError(b"ERR Invalid TTL value, must be >= 0")
    payload = args[3]
    checks = session.engine.checks_dumps or len(payload) < dumps.FOOTER
    if checks and not dumps.is_intact(payload):
        raise CommandError(b"ERR DUMP payload version or checksum are wrong")
    now_ms: int = session.clock.now_ms
    try:
        value = dumps.restore(payload, session.engine.limits, now_ms)
    except dumps.PayloadError:
        raise CommandError(b"ERR Bad data format") from None
    was_there = parsed.is_replacing and db.delete(key)
    if ttl_ms != 0:
        expire_at_ms = ttl_ms if parsed.is_absolute else ttl_ms + now_ms
        # A sum beyond 64 bits wraps to a time long past, as the server's does.
        if expire_at_ms <= now_ms or expire_at_ms > I64_MAX:
            if was_there:
                session.changed(key)
                session.notify(NOTIFY_GENERIC, b"del", key)
            return OK
        entry = db.add(key, value)
        db.set_expiry(entry, expire_at_ms)
    else:
        entry = db.add(key, value)
    session.engine.field_schedules[db.index].note(key, value)
    clock = session.clock
    if clock.is_counting:
        if parsed.frequency >= 0:
            entry.access = clock.frequency.made(clock.now_s, parsed.frequency)
    elif parsed.idle_s >= 0:
        entry.access = (clock.now_s - parsed.idle_s) & CLOCK_MASK
    session.changed(key)
    session.notify(NOTIFY_GENERIC, b"restore", key)
    return OK


HANDLERS: Final[dict[str, Handler]] = {
    "dump": dump,
    "restore": restore,
    "restore-asking": restore,
}
