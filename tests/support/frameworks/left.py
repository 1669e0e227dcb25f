"""What a program has left on a server, in a form that is the same however it was scheduled."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import redis

# What differs from run to run in the names of keys: UUIDs and other long hexadecimal numbers, times.
_CHANCE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{24,}|[0-9]{9,}")
_SIZES = {"list": "LLEN", "set": "SCARD", "zset": "ZCARD", "hash": "HLEN", "stream": "XLEN"}


def left_by(url: str, ignore: str = r"(?!)") -> dict[str, int]:
    """Number of keys of each sort: name, type, encoding, number of elements, whether it will expire.

    Args:
        ignore: what in names of keys is not looked at; keys that only differ in it are of one sort.
    """
    client: Any = redis.Redis.from_url(url, decode_responses=True, encoding_errors="backslashreplace")
    sorts: Counter[str] = Counter()
    for database in range(4):
        client.execute_command("SELECT", database)
        for key in client.scan_iter(count=1000):
            kind = client.type(key)
            size = client.execute_command(_SIZES[kind], key) if kind in _SIZES else ""
            lives = "" if client.ttl(key) < 0 else " expires"
            name = re.sub(ignore, "*", _CHANCE.sub("*", key))
            sorts[f"{database} {name}: {kind} {client.object('ENCODING', key)} {size}{lives}"] += 1
        client.connection_pool.disconnect()
    return dict(sorts)
