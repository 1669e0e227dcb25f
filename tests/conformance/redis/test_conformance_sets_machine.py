"""Random sequences of commands on sets: after any history our raw replies are redis-server's.

A hashtable has no order, and a listpack that was made from one keeps whatever order that had. So there are two
machines: one whose sets never become hashtables, where every order is compared, and one of small limits, where only
that of intsets is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_machine import (
    KEY,
    KEYS,
    VALUE,
    Compare,
    DrawnCommand,
    Machine,
    Part,
    Probe,
    Step,
    command,
    counted,
    exact,
    maybe,
    numbers,
    one,
    options,
    same_kind,
    same_scan,
    some,
    unordered,
    words,
)

if TYPE_CHECKING:
    from tests.support.redis_pair import RealServer

pytestmark = [pytest.mark.conformance, pytest.mark.machine]

SHORT = one(
    words("a", "b", "c", "d", "e", "hello", "", "007", "-0", "\x00"),
    numbers(-4, 6),
    words(2**63 - 1, -(2**63), 2**63),
)
ANY = one(SHORT, SHORT, numbers(-4, 6), words("longer than five", "x" * 65), VALUE)


def all_intsets(step: Step) -> bool:
    """Whether all the arguments that are keys of ours are intsets: then the server's order is that of numbers."""
    encodings = [step.encoding(at) for at in range(1, len(step.request))]
    return not any(encoding in (b"listpack", b"hashtable") for encoding in encodings)


def unordered_unless_intsets(step: Step) -> bool:
    return not all_intsets(step) and unordered(step)


def random_members(step: Step) -> bool:
    """Both sides give members of the (same) set, and as many; without repetition if the count is positive."""
    ours, theirs = step.values()
    if not isinstance(ours, list) or not isinstance(theirs, list) or len(ours) != len(theirs):
        return not isinstance(ours, (list, str)) and same_kind(step)
    entry = step.session.db.find(step.request[1])
    assert entry is not None
    members = entry.value.members()
    is_positive = not step.request[2].startswith(b"-")
    for reply in (ours, theirs):
        if not set(reply) <= set(members):
            return False
        if is_positive and len(set(reply)) != len(reply):
            return False
    return True


def random_members_in_order(step: Step) -> bool:
    """The same, and what a listpack gives without repetition is in its order."""
    if not random_members(step):
        return False
    if step.encoding() != b"listpack" or step.request[2].startswith(b"-"):
        return True
    entry = step.session.db.find(step.request[1])
    assert entry is not None
    members = entry.value.members()
    ours, theirs = step.values()
    return all(sorted(reply, key=members.index) == reply for reply in (ours, theirs))


def sets(member: Part, in_order: Compare, chosen: Compare) -> list[DrawnCommand]:
    everything = words(100, 2**31, 2**63 - 1)
    return [
        command("sadd", KEY, some(member, 1, 4), weight=4),
        command("sadd", KEY, some(member, 4, 12), weight=1),
        command("srem", KEY, some(member)),
        command("sismember", KEY, member),
        command("smismember", KEY, some(member)),
        command("scard", KEY),
        command("smembers", KEY, compare=in_order),
        command("smove", KEY, KEY, member),
        command(
            "spop",
            KEY,
            one(everything, words(0, -1, "x", "1.5", "")),
            compare=unordered,
            mutate=False,
            weight=0.4,
        ),
        command("srandmember", KEY, compare=same_kind, mutate=False, weight=0.5),
        command(
            "srandmember",
            KEY,
            one(everything, numbers(-5, 5), words("x", -(2**63), 2**63)),
            compare=chosen,
            mutate=False,
        ),
        command("sinter", some(KEY), compare=in_order),
        command("sinterstore", KEY, some(KEY)),
        command(
            "sintercard",
            one(counted(KEY), [numbers(-1, 3), some(KEY)]),
            options(["LIMIT", numbers(-1, 4)], "LIMIT", "foo", most=2),
        ),
        command("sunion", some(KEY), compare=unordered_unless_intsets),
        command("sunionstore", KEY, some(KEY)),
        command("sdiff", some(KEY), compare=unordered_unless_intsets),
        command("sdiffstore", KEY, some(KEY)),
        command(
            "sscan",
            KEY,
            0,
            "COUNT",
            1000,
            maybe("MATCH", words("*", "[a-c]*", "1*")),
            compare=same_scan,
            mutate=False,
        ),
        command(
            "sscan",
            KEY,
            one("x", "-1", 2**64, [0, one("foo", ["COUNT", "0"], "COUNT", "NOVALUES")]),
            mutate=False,
        ),
        command("object", "encoding", KEY),
        command("copy", KEY, KEY, maybe("REPLACE")),
        command("rename", KEY, KEY, weight=0.5),
        command("set", KEY, VALUE, weight=0.2),
        command("del", KEY, weight=0.3),
    ]


OPENING = [command("sadd", key, some(SHORT, 1, 6)) for key in KEYS]
# An intset must hold what a listpack holds: else the encoding of what is stored from a hashtable depends on its order.
SMALL = {"set-max-intset-entries": "6", "set-max-listpack-entries": "4", "set-max-listpack-value": "5"}
NO_LISTPACK = {"set-max-listpack-entries": "0", "set-max-intset-entries": "8"}
NO_SMALL = {"set-max-listpack-entries": "0", "set-max-intset-entries": "0"}

ORDERED = Machine("sets in order", sets(SHORT, exact, random_members_in_order), opening=OPENING)
MACHINE = Machine(
    "sets",
    sets(ANY, unordered_unless_intsets, random_members),
    opening=OPENING,
    configs=[SMALL, NO_LISTPACK, NO_SMALL],
    probes={b"set": [Probe(b"SMEMBERS", compare=unordered_unless_intsets)]},
)


@pytest.mark.parametrize("machine", [ORDERED, MACHINE], ids=["ordered", "small"])
def test_any_sequence_is_answered_as_the_server_does(machine: Machine, real_server: RealServer) -> None:
    outcome = machine.run(real_server)
    assert set(outcome.by_name) == {each.name.decode() for each in machine.commands}
