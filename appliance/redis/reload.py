"""All data of an engine as one file of Redis, and back: DEBUG RELOAD.

Source:     what redis-server 8.2 writes in SAVE and takes over at its start, RDB version 12.
Errors:     PayloadError for what is no file, or has a key twice; then part of it may have been loaded.
Not here:   the same file in pieces, while others write: see snapshot.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.redis.dump import PayloadError
from appliance.redis.entry import CLOCK_MASK, NO_EXPIRY, idle_s
from appliance.redis.errors import CommandError
from appliance.redis.rdb import END, KEY, LIBRARY, UNKNOWN, RdbReader, RdbWriter

if TYPE_CHECKING:
    from appliance.redis.engine import Engine


def file_of(engine: Engine) -> bytes:
    """Everything as it is now, in one go."""
    clock = engine.clock
    policy = engine.configuration.text("maxmemory-policy")
    writer = RdbWriter()
    for library in engine.scripts.libraries.by_name.values():
        writer.library(library.code)
    for database in engine.databases:
        if len(database) == 0:
            continue
        writer.select(database.index)
        writer.sizes(len(database), database.expiring_count)
        for entry in database.entries():
            if database.is_expired(entry):
                continue
            idle = idle_s(clock.now_s, entry.access) if policy.endswith(b"-lru") else UNKNOWN
            frequency = UNKNOWN
            if policy.endswith(b"-lfu"):
                frequency = clock.frequency.counter(entry.access, clock.now_s)
            writer.key(entry.key, entry.value, entry.expire_at_ms, idle, frequency)
    writer.end()
    return writer.take()


def load(engine: Engine, data: bytes) -> None:
    """Add what is in a file, of which no key is there yet; libraries take the place of their namesakes.

    Raises:
        PayloadError: it is no file, or there are two of a key.
    """
    clock = engine.clock
    reader = RdbReader(data)
    codes: list[bytes] = []
    while True:
        found = reader.next()
        if found == END:
            break
        if found == LIBRARY:
            codes.append(reader.text)
        if found != KEY:
            continue
        if reader.database >= len(engine.databases):
            raise PayloadError("more databases than there are")
        database = engine.databases[reader.database]
        key = reader.key
        value = reader.value(engine.limits)
        when = reader.expire_at_ms
        if when != NO_EXPIRY and when < clock.now_ms:
            continue
        if database.find_value(key) is not None:
            raise PayloadError("a key twice")
        entry = database.add(key, value)
        if when != NO_EXPIRY:
            database.set_expiry(entry, when)
        engine.field_schedules[database.index].note(key, value)
        if clock.is_counting:
            if reader.frequency != UNKNOWN:
                entry.access = clock.frequency.made(clock.now_s, reader.frequency)
        elif reader.idle_s != UNKNOWN:
            entry.access = (clock.now_s - reader.idle_s) & CLOCK_MASK
    try:
        engine.scripts.libraries.restore(codes, b"replace")
    except CommandError as error:
        raise PayloadError(error.message.decode("latin-1")) from None
