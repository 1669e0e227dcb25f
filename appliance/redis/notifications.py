"""Keyspace events: their classes, and the letters by which notify-keyspace-events chooses among them.

Source:     https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/; order of the letters and the
            error text as redis-server 8.2's CONFIG has them.
Errors:     ValueError for a letter that names no class.
"""

from __future__ import annotations

from typing import Final

NOTIFY_KEYSPACE: Final = 1 << 0  # K
NOTIFY_KEYEVENT: Final = 1 << 1  # E
NOTIFY_GENERIC: Final = 1 << 2  # g
NOTIFY_STRING: Final = 1 << 3  # $
NOTIFY_LIST: Final = 1 << 4  # l
NOTIFY_SET: Final = 1 << 5  # s
NOTIFY_HASH: Final = 1 << 6  # h
NOTIFY_ZSET: Final = 1 << 7  # z
NOTIFY_EXPIRED: Final = 1 << 8  # x
NOTIFY_EVICTED: Final = 1 << 9  # e
NOTIFY_STREAM: Final = 1 << 10  # t
NOTIFY_KEY_MISS: Final = 1 << 11  # m
NOTIFY_MODULE: Final = 1 << 13  # d
NOTIFY_NEW: Final = 1 << 14  # n
NOTIFY_OVERWRITTEN: Final = 1 << 15  # o
NOTIFY_TYPE_CHANGED: Final = 1 << 16  # c

# What the letter A stands for: key misses, new, overwritten and type-changed keys must be asked for.
NOTIFY_ALL: Final = (
    NOTIFY_GENERIC
    | NOTIFY_STRING
    | NOTIFY_LIST
    | NOTIFY_SET
    | NOTIFY_HASH
    | NOTIFY_ZSET
    | NOTIFY_EXPIRED
    | NOTIFY_EVICTED
    | NOTIFY_STREAM
    | NOTIFY_MODULE
)
# Events of keys that a command writes as a whole, whatever their type.
NOTIFY_WRITTEN: Final = NOTIFY_NEW | NOTIFY_OVERWRITTEN | NOTIFY_TYPE_CHANGED

# In the order in which CONFIG GET gives them.
_CLASSES: Final[list[tuple[str, int]]] = [
    ("g", NOTIFY_GENERIC),
    ("$", NOTIFY_STRING),
    ("l", NOTIFY_LIST),
    ("s", NOTIFY_SET),
    ("h", NOTIFY_HASH),
    ("z", NOTIFY_ZSET),
    ("x", NOTIFY_EXPIRED),
    ("e", NOTIFY_EVICTED),
    ("t", NOTIFY_STREAM),
    ("d", NOTIFY_MODULE),
    ("n", NOTIFY_NEW),
    ("o", NOTIFY_OVERWRITTEN),
    ("c", NOTIFY_TYPE_CHANGED),
]
_PLACES: Final[list[tuple[str, int]]] = [
    ("K", NOTIFY_KEYSPACE),
    ("E", NOTIFY_KEYEVENT),
    ("m", NOTIFY_KEY_MISS),
]
_BITS: Final[dict[str, int]] = {"A": NOTIFY_ALL, **dict(_CLASSES), **dict(_PLACES)}


def event_classes(letters: str) -> int:
    """The classes that a value of notify-keyspace-events asks for, as bits.

    Raises:
        ValueError: a letter is unknown.
    """
    flags = 0
    for letter in letters:
        bit = _BITS.get(letter)
        if bit is None:
            raise ValueError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
        flags |= bit
    return flags


def event_letters(flags: int) -> str:
    """The letters for some classes, in the server's order: once A is there, n, o and c are not shown."""
    if flags & NOTIFY_ALL == NOTIFY_ALL:
        letters = "A"
    else:
        letters = "".join([letter for letter, bit in _CLASSES if flags & bit])
    return letters + "".join([letter for letter, bit in _PLACES if flags & bit])
