"""Where our replies may differ from redis-server's, and why: the one list that the random tests consult.

A difference belongs here if the server's answer depends on something that a client cannot know or rely on. All
others are errors of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_machine import Step


@dataclass(frozen=True)
class Explained:
    """A difference that is none of ours to remove."""

    name: str
    reason: str
    applies: Callable[[Step], bool]


def _embstr_or_raw(step: Step) -> bool:
    words = [word.lower() for word in step.request[:2]]
    return words == [b"object", b"encoding"] and {step.ours, step.theirs} == {
        b"$6\r\nembstr\r\n",
        b"$3\r\nraw\r\n",
    }


EXPLAINED = [
    Explained(
        "embstr or raw",
        "The server decides between embstr and raw by the room left in a block of 64 bytes when the string is made,"
        " and keeps the form when the key is renamed, copied or given an expire time; ours is worked out when it is"
        " asked for.",
        _embstr_or_raw,
    ),
]
