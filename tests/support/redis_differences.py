"""Where our replies may differ from redis-server's, and why: the one list that the random tests consult.

A difference belongs here if the server's answer depends on something that a client cannot know or rely on. All
others are errors of ours.
"""

from __future__ import annotations

import re
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


def _sorted_by_equal_texts(step: Step) -> bool:
    words = [word.lower() for word in step.request]
    if words[0] not in (b"sort", b"sort_ro") or b"by" not in words or b"alpha" not in words:
        return False
    ours, theirs = step.values()
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return False
    if b"limit" in words:
        return len(ours) == len(theirs)
    return step.encoding() in (b"listpack", b"skiplist") and sorted(ours, key=repr) == sorted(
        theirs, key=repr
    )


def _broken_line(step: Step) -> bool:
    # Ours has a space for each end of a line.
    return (
        step.theirs.startswith(b"-")
        and step.ours == re.sub(rb"[\r\n](?=.)", b" ", step.theirs[:-2], flags=re.DOTALL) + b"\r\n"
    )


def _position_in_c(step: Step) -> bool:
    end = re.search(rb" script: [0-9a-f]{40}, on =\[C\]:-1\.\r\n$", step.theirs)
    return end is not None and step.ours == step.theirs[: end.start()] + b"\r\n"


EXPLAINED = [
    Explained(
        "embstr or raw",
        "The server decides between embstr and raw by the room left in a block of 64 bytes when the string is made,"
        " and keeps the form when the key is renamed, copied or given an expire time; ours is worked out when it is"
        " asked for.",
        _embstr_or_raw,
    ),
    Explained(
        "SORT BY … ALPHA among equal weights",
        "Among elements whose weights are the same text, members of a sorted set come as they lie in the server's hash"
        " table; and with LIMIT its partial quicksort leaves equal elements in an order of its own, of any type.",
        _sorted_by_equal_texts,
    ),
    Explained(
        "ends of lines in the error of a script",
        "The server sends them as they are, and a CR LF ends the reply in the middle of its text; ours are spaces, as"
        " they are in error tables on both sides.",
        _broken_line,
    ),
    Explained(
        "on =[C]:-1",
        "What is raised inside the server's own pcall, when it looks for the text in an error that is the table of"
        " globals, has a place that is none. Ours has none.",
        _position_in_c,
    ),
]

# What no test draws, for the same reason: (what, why).
NOT_DRAWN = [
    (
        "RANDOMKEY where a key may have expired (after SET … EXAT with a time that has passed)",
        "It deletes those that it happens to meet, and tells so; which these are is chance.",
    ),
    (
        "a HyperLogLog whose last run lacks its second byte",
        "The server reads, and writes, what happens to lie behind the string.",
    ),
    (
        "GET with SORT BY … ALPHA LIMIT",
        "Which of several elements of equal weight are within the limit is left open (see EXPLAINED); GET would show them all.",
    ),
    (
        "ranges of names (BYLEX, ZLEXCOUNT, …) in a skiplist of different scores",
        "The server says that they are unspecified: it skips by the levels of its nodes, which are drawn at random.",
    ),
    (
        "SORT … STORE onto a value of another type while clients wait for a list there",
        "The server does not look for them; ours serves them, as it does after every other way to make the list.",
    ),
]


def comparable_events(messages: list[bytes]) -> list[bytes]:
    """Keyspace events as both sides must tell them.

    SORT BY and GET look the elements of a sorted set up as they lie in the server's hash table, so what they miss comes
    in any order: each run of `keymiss` is sorted.
    """
    told: list[bytes] = []
    run: list[bytes] = []
    for message in messages:
        if message.endswith(b"\r\nkeymiss\r\n"):
            run.append(message)
            continue
        told += [*sorted(run), message]
        run = []
    return told + sorted(run)
