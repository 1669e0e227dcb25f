"""How large keys are: INFO's section `keysizes`.

For each type a histogram over powers of two: bin 0 counts sizes of 0, bin n those from 2**(n-1) up to 2**n.
A string's size are its bytes, a collection's its elements.

redis-server keeps the histograms in step with every command. Here a database of up to `COUNTED_KEYS` keys is
counted when INFO asks; of a larger one that many random keys are looked at, and what they show is scaled up
to all keys: exact bins would cost every write something, and a walk over millions of keys would stall
clients. Streams are in no bin, as in the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis.types.collection import Collection
from appliance.redis.values import string_length

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.keyspace import Database

COUNTED_KEYS: Final = 2048

KINDS: Final = ("strings_sizes", "lists_items", "sets_items", "zsets_items", "hashes_items")
_TYPES: Final[dict[bytes, int]] = {b"string": 0, b"list": 1, b"set": 2, b"zset": 3, b"hash": 4}
_BINS: Final = 64


def bin_name(index: int) -> str:
    """The smallest size in a bin, as INFO writes it: 0, 1, 512, 1K, 1M."""
    if index == 0:
        return "0"
    exponent = index - 1
    return f"{1 << exponent % 10}{'KMGTPE'[exponent // 10 - 1] if exponent >= 10 else ''}"


def count_sizes(database: Database, random: Callable[[], int]) -> list[list[int]]:
    """A list of bins for each of KINDS."""
    counts = [[0] * _BINS for _ in KINDS]
    keys = len(database)
    if keys <= COUNTED_KEYS:
        for entry in database.entries():
            _count(counts, entry.value)
        return counts
    seen = 0
    for _ in range(COUNTED_KEYS):
        drawn = database.random_entry(random)
        if drawn is not None:
            _count(counts, drawn.value)
            seen += 1
    return [[(count * keys + seen // 2) // seen for count in bins] if seen else bins for bins in counts]


def _count(counts: list[list[int]], value: object) -> None:
    if isinstance(value, Collection):
        kind = _TYPES.get(value.type_name(), -1)
        size = len(value)
    else:
        kind = 0
        size = string_length(value)
    if kind >= 0:
        counts[kind][size.bit_length()] += 1
