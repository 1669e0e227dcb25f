"""MEMORY: what keys, clients and the whole server hold.

The numbers are those of this process: Python objects as their types say (`sys.getsizeof`), rounded up to the
16 bytes in which memory is handed out, and for the whole what the operating system says (the shell's facts
for INFO). They are of the order of redis-server's, and never its own.

Source:     https://redis.io/docs/latest/commands/memory-usage/ and memory-stats; order of checks, texts and
            field names from redis-server 8.2.
Units:      bytes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.entry import NO_EXPIRY
from appliance.redis.errors import CommandError
from appliance.redis.hash_table import is_packable
from appliance.redis.replies import OK, Map, Verbatim
from appliance.redis.types.collection import Collection
from appliance.redis.types.tables import bytes_size
from appliance.redis.values import StringBuffer

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_USUAL_SAMPLES: Final = 5
# A slot of the hash table and its share of those that are empty.
_SLOT_BYTES: Final = 32
_HEADER_BYTES: Final = 8  # `$12 CR LF` and CR LF of a packed value


def _object_bytes(value: object) -> int:
    return (sys.getsizeof(value) + 15) & ~15


def _value_bytes(value: object, samples: int) -> int:
    if isinstance(value, Collection):
        return value.memory_usage(samples)
    if isinstance(value, StringBuffer):
        return _object_bytes(value) + _object_bytes(value.data)
    return _object_bytes(value)


def memory_usage(session: Session, args: list[bytes]) -> object:
    samples = _USUAL_SAMPLES
    at = 3
    while at < len(args):
        if args[at].lower() != b"samples" or at + 1 >= len(args):
            raise CommandError(errors.SYNTAX)
        samples = integer_argument(args[at + 1])
        if samples < 0:
            raise CommandError(errors.SYNTAX)
        at += 2
    entry = session.db.find(args[2])
    if entry is None:
        return None
    value = entry.value
    if isinstance(value, bytes) and entry.expire_at_ms == NO_EXPIRY and is_packable(len(entry.key), value):
        # Key and value in wire form are one object.
        return _SLOT_BYTES + bytes_size(entry.key + value) + _HEADER_BYTES
    return _SLOT_BYTES + _object_bytes(entry) + _object_bytes(entry.key) + _value_bytes(entry.value, samples)


class MemoryReport:
    """What the whole server holds."""

    def __init__(self, used: int, peak: int, resident: int, startup: int) -> None:
        self.used = used
        self.peak = max(used, peak)
        self.resident = max(used, resident)
        self.startup = startup
        self.clients = 0
        self.keys = 0
        self.slots = 0
        # (index, slots' bytes, bytes of those that have an expire time) of databases that are not empty
        self.databases: list[tuple[int, int, int]] = []

    @property
    def overhead(self) -> int:
        """What is not data."""
        tables = sum([main + expires for _, main, expires in self.databases])
        return self.startup + self.clients + tables

    @property
    def dataset(self) -> int:
        return max(0, self.used - self.overhead)


def memory_report(engine: Engine) -> MemoryReport:
    """Look at everything: the shell's facts of the process, all sessions, all databases."""
    facts = engine.provided_info("memory")
    report = MemoryReport(
        _number(facts, "used_memory"),
        _number(facts, "used_memory_peak"),
        _number(facts, "used_memory_rss"),
        _number(facts, "used_memory_startup"),
    )
    report.clients = engine.client_limits.memory_of_all()
    for database in engine.databases:
        if len(database):
            main = database.slots_allocated() * 8
            report.keys += len(database)
            report.slots += main
            report.databases.append((database.index, main, database.expiring_count * 8))
    return report


def _number(facts: dict[str, str | int], name: str) -> int:
    """0 where the shell does not say."""
    value = facts.get(name, 0)
    return value if isinstance(value, int) else 0


def memory_stats(session: Session, args: list[bytes]) -> object:
    report = memory_report(session.engine)
    used, peak, resident, startup = report.used, report.peak, report.resident, report.startup
    flat: list[object] = [b"peak.allocated", peak, b"total.allocated", used, b"startup.allocated", startup]
    flat += [b"replication.backlog", 0, b"replica.fullsync.buffer", 0, b"clients.slaves", 0]
    flat += [b"clients.normal", report.clients, b"cluster.links", 0, b"aof.buffer", 0]
    scripts = session.engine.scripts
    flat += [b"lua.caches", scripts.scripts_memory(), b"functions.caches", scripts.libraries.memory()]
    flat += [b"script.VMs", scripts.memory_used()]
    for index, main, expires in report.databases:
        tables = Map([b"overhead.hashtable.main", main, b"overhead.hashtable.expires", expires])
        flat += [b"db.%d" % index, tables]
    keys, data = report.keys, report.dataset
    net = max(0, used - startup)
    flat += [b"overhead.db.hashtable.lut", report.slots, b"overhead.db.hashtable.rehashing", 0]
    flat += [b"overhead.total", report.overhead, b"db.dict.rehashing.count", 0]
    flat += [b"keys.count", keys, b"keys.bytes-per-key", net // keys if keys else 0]
    flat += [b"dataset.bytes", data, b"dataset.percentage", 100.0 * data / net if net else 0.0]
    flat += [b"peak.percentage", 100.0 * used / peak if peak else 0.0]
    flat += [b"allocator.allocated", used, b"allocator.active", used, b"allocator.resident", resident]
    flat += [b"allocator.muzzy", 0]
    flat += [b"allocator-fragmentation.ratio", 1.0, b"allocator-fragmentation.bytes", 0]
    ratio = resident / used if used else 1.0
    flat += [b"allocator-rss.ratio", ratio, b"allocator-rss.bytes", resident - used]
    flat += [b"rss-overhead.ratio", 1.0, b"rss-overhead.bytes", 0]
    return Map([*flat, b"fragmentation", ratio, b"fragmentation.bytes", resident - used])


def memory_doctor(session: Session, args: list[bytes]) -> object:
    used = memory_report(session.engine).used
    limit = session.engine.configuration.integer("maxmemory")
    if limit and used > limit:
        return Verbatim(b"%d bytes are in use, and maxmemory is %d." % (used, limit))
    return Verbatim(b"%d bytes are in use. Nothing about that calls for action." % used)


def memory_malloc_stats(session: Session, args: list[bytes]) -> object:
    return Verbatim(b"Python's allocator: %d blocks in use" % sys.getallocatedblocks())


def memory_purge(session: Session, args: list[bytes]) -> object:
    """Python gives empty arenas back by itself: there is nothing to hurry."""
    return OK


HANDLERS: Final[dict[str, Handler]] = {
    "memory|doctor": memory_doctor,
    "memory|malloc-stats": memory_malloc_stats,
    "memory|purge": memory_purge,
    "memory|stats": memory_stats,
    "memory|usage": memory_usage,
}
