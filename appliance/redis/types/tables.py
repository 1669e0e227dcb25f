"""What sets and hashes too big for a small encoding share: a Table of hash_table.py, and its size.

Units:      bytes, as CPython on a 64-bit machine allocates them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

if TYPE_CHECKING:
    from appliance.redis.entry import Entry
    from appliance.redis.hash_table import Table

OBJECT_BYTES: Final = 240  # a collection with its own empty containers
TABLE_SLOT_BYTES: Final = 16  # tag and record
ENTRY_BYTES: Final = 80
DICT_ENTRY_BYTES: Final = 40  # hash, key, value, and a share of the index
_BYTES_HEADER: Final = 33
_BLOCK: Final = 16


def bytes_size(text: bytes) -> i64:
    """What a bytes object takes."""
    length: i64 = len(text)
    return (_BYTES_HEADER + length + _BLOCK - 1) & -_BLOCK


def sample_of(table: Table, count: int) -> list[Entry]:
    """At least `count` entries along the table (0: all of them), fewer when it has fewer."""
    if count == 0 or count >= len(table):
        return table.entries()
    found: list[Entry] = []
    cursor = 0
    while True:
        cursor = table.scan(cursor, found)
        if cursor == 0 or len(found) >= count:
            return found


def table_size(table: Table, samples: int) -> int:
    """The bytes that a table of bytes keys, and of bytes values or none, takes."""
    sampled = sample_of(table, samples)
    held: i64 = 0
    for entry in sampled:
        held += ENTRY_BYTES + bytes_size(entry.key)
        value = entry.value
        if isinstance(value, bytes):
            held += bytes_size(value)
    total = table.slots_allocated() * TABLE_SLOT_BYTES
    if len(sampled) > 0:
        total += int(held) * len(table) // len(sampled)
    return total
