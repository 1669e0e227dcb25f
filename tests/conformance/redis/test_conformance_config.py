"""CONFIG GET and SET: every parameter of redis-server 8.2, good and bad values, the same replies.

Both get the same CONFIG SET and then say by CONFIG GET what came of it. Parameters whose values depend on the machine
or on what is not here (`DIFFERENT`) are compared by name alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.redis.parameters import load_parameters
from appliance.redis.replies import Map
from tests.support.redis_pair import parse_one

if TYPE_CHECKING:
    from appliance.redis.parameters import Parameter
    from tests.support.redis_pair import Pair

# How the reference was started, where it is, and what is off here because nothing would come of it.
DEFAULTS_DIFFER = {"dir", "port", "protected-mode", "unixsocket"}
# Setting these has consequences there (it listens elsewhere, logs in to the kernel, saves, wants certificates).
NOT_TRIED = {
    "activedefrag", "appendonly", "bind", "oom-score-adj", "port", "tls-cluster", "tls-port", "tls-replication",
}  # fmt: skip
NUMBERS = [
    "", "zz", "-1", "0", "1", "2", "5", "64", "65", "99", "100", "101", "500", "501", "1000", "1001", "65535", "65536", "1048575",
    "1048576", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "9223372036854775807",
    "9223372036854775808", "-9223372036854775808", "-99999999999999999999", "99999999999999999999999", "007", "+5", "5 ", " 5",
    "-0", "00", "1e3", "0x1", "1.5", "yes", "1kb", "1 2", "5\x00",
]  # fmt: skip
SIZES = [
    *NUMBERS, "1b", "1B", "1K", "1kB", "2mb", "2M", "3gb", "3G", "1tb", "1 kb", "kb", "b", "mB", "1mbb", "1.0mb", "1kib", "-1kb", "-",
    "9223372036854775807kb", "18446744073709551615", "18446744073709551616", "9999999999999999999", "17179869184gb", "1" * 127,
    "1" * 128, "9007199254740992kb", "%", "1%", "100%", "101%", "0%", "-1%", "1.5%", "50 %",
]  # fmt: skip
TEXTS = {
    "bool": ["yes", "no", "YES", "No", "", "no ", "on", "1", "true"],
    "flags": [
        "", "save", "nosave", "now", "force", "default", "save now", "now save force", "save nosave", "SAVE", "default now", "now now",
        "now  force", "nosave force now", "x", "default",
    ],
    "save points": [
        "900 1 300 10", "900", "900 0", "0 1", "-1 1", "900  1", "a b", "900 1 ", "900 1 x 1", "60 -1", "+5 007", "1 2 3", " ", "",
    ],
    "buffer limits": [
        "", "normal 1 2", "normal 1mb 512kb 5", "pubsub 1 1 1 normal 2 2 2", "slave 1 2 3", "replica 4 5 6", "REPLICA 1 1 1",
        "bogus 1 1 1", "master 1 1 1", "normal a 1 1", "normal 1 1 -1", "normal -1 1 1", "normal 1 1 a", "normal 1 1 1 normal 2 2 2",
        "normal 1 1 99999999999", "normal 1 1 3000000000", "normal 18446744073709551615 0 0", "normal 1 0 0 ", "normal 1  1", "normal 0 0 0",
        "pubsub 1kb 1x 1", "slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    ],
    "scores": [
        "1 2 3", "1 2", "1 2 3 4", "-1 0 1", "a b c", "-3000 0 1", "3 2 1", "1001 1002 1003", "2001 1 1", "1  2", "-2001 0 0", "+1 007 -0",
        "2000 -2000 0", "0 200 800",
    ],
    "percentiles": [
        "", "50 99.9", "101", "-1", "a", "50 a", "50 50", "0 100", "1e1", "nan", "50.123456789012", "  ", ".5", "50 ", "0x10", "inf",
        "99.99999999999999999", "-0", "100.0", "1_0", "50 99 99.9",
    ],
    "events": ["", "A", "KEA", "Kg$lshzxe", "zz", "K E", " ", "q", "KEAmn", "Ex", "x", "AKE", "gxE", "Egd", "KEnoc", "t", ""],
}  # fmt: skip
STRINGS = [
    "",
    "x",
    "a b",
    "-1",
    "0",
    "a/b",
    "{title}",
    "{nonsense}",
    "a{",
    "}",
    "{port} {x}",
    "\xe4",
    "a_b",
    "a.b-c",
    "y" * 255,
    "z" * 256,
    "a\0b",
    "\0",
    "a,b",
    "a:b",
    "é",
    "C",
    "POSIX",
]

TITLES = [
    "", "{title}", "{port}", "{title", "a}", "{", "}", "{{title}}", "{{", "{server-mode}", "{listen-addr}", "{tls-port}", "{config-file}",
    "x\0{b}", "{config-file} {tls-port}", "{TITLE} x", "{ port}", "{}", "{title}{title}", "{title} ",
]  # fmt: skip


def values_to_try(name: str, kind: str, choices: list[bytes]) -> list[str]:
    if kind == "enum":
        names = [choice.decode() for choice in choices]
        return [*names, *[name.upper() for name in names], "", "x", " ".join(names), names[0] + " "]
    if kind == "string" and name == "proc-title-template":
        return TITLES
    if name == "maxclients":  # how many there may be at once depends on the machine
        return [number for number in NUMBERS if not number.isdigit() or not 1000 < int(number) < 1 << 32]
    if name == "timeout":  # a client that has said nothing for so few seconds would be closed
        return [number for number in NUMBERS if number not in ("1", "2", "5", "007", "+5")]
    if kind in ("integer", "unsigned"):
        return NUMBERS
    if kind in ("memory", "signed memory"):
        return SIZES
    return TEXTS.get(kind, STRINGS)


def everything(pair: Pair, *patterns: str) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Names and values as ours and theirs give them."""
    both = []
    for raw in pair.both("CONFIG", "GET", *patterns):
        reply = parse_one(raw)
        flat: list[bytes] = reply.flat if isinstance(reply, Map) else reply  # type: ignore[assignment]
        both.append(dict(zip(flat[::2], flat[1::2], strict=True)))
    return both[0], both[1]


def test_config_get_star_has_the_names_and_the_defaults_of_the_reference(pair: Pair) -> None:
    ours, theirs = everything(pair, "*")
    assert sorted(ours) == sorted(theirs)
    different = {name.decode() for name in ours if ours[name] != theirs[name]}
    assert different == DEFAULTS_DIFFER


@pytest.mark.parametrize(
    "pattern",
    ["*max*", "h?", "[a-c]*", "PORT", "hash-max-*-VALUE", "*slave*", "watchdog*", "?", "po\\rt", "port]"],
)
def test_config_get_finds_by_pattern_what_the_reference_finds(pair: Pair, pattern: str) -> None:
    ours, theirs = everything(pair, pattern)
    assert sorted(ours) == sorted(theirs)


@pytest.mark.parametrize(
    "patterns",
    [
        ["hz", "HZ", "h?"], ["Hz", "h?"], ["lua-time-limit", "busy-reply-threshold"], ["watchdog-period"], ["nosuch", "timeout"],
        ["key-load-delay", "key-*"], ["timeout", "timeout"],
    ],
)  # fmt: skip
def test_config_get_of_several(pair: Pair, patterns: list[str]) -> None:
    ours, theirs = everything(pair, *patterns)
    assert ours == theirs


@pytest.mark.parametrize("parameter", load_parameters(), ids=lambda parameter: parameter.name.decode())
def test_config_set_takes_and_refuses_what_the_reference_does(pair: Pair, parameter: Parameter) -> None:
    name = parameter.name.decode()
    if name in NOT_TRIED:
        pytest.skip("consequences on the machine")
    names = [name] if not parameter.alias else [name, parameter.alias.decode()]
    before = everything(pair, name)[1][parameter.name]
    try:
        for each in names:
            for value in values_to_try(name, parameter.kind, parameter.choices):
                pair.same("CONFIG", "SET", each, value)
                if not parameter.is_immutable and not parameter.is_protected:
                    pair.same("CONFIG", "GET", each)
    finally:
        if not parameter.is_immutable and not parameter.is_protected:
            # A password would lock the next test out.
            pair.both("CONFIG", "SET", name, before)


@pytest.mark.parametrize(
    "arguments",
    [
        ["slave-priority", 1, "replica-priority", 2], ["MAXMEMORY-samples", "abc"], ["Databases", 3], ["NoNo", 3, "timeout", "a"],
        ["databases", 1, "nono", 2], ["hz", 5, "hz", 6], ["hz", 5, "HZ", 6], ["hz", 5, "x"], ["hz"], [], ["hz", 7, "timeout", "x"],
        ["timeout", "x", "nosuch", 1], ["dir", "/tmp", "hz", 1], ["hz", 5, "hz", "x", "nosuch", 1], ["hz", "a", "timeout", "b"],
        ["maxmemory", "5mb", "maxmemory-policy", "allkeys-lru", "maxmemory-samples", "99"], ["lua-time-limit", "x"],
        ["HASH-max-ziplist-entries", "x"], ["lua-time-limit", 7, "busy-reply-threshold", 8], ["slave-priority", "1", "SLAVE-priority", 2],
        ["hz", 0], ["hz", 10],
    ],
)  # fmt: skip
def test_config_set_of_several_is_all_or_nothing(pair: Pair, arguments: list[str | int]) -> None:
    fresh: list[str | int] = [
        "timeout",
        0,
        "maxmemory",
        0,
        "maxmemory-policy",
        "noeviction",
        "maxmemory-samples",
        5,
        "hz",
        10,
    ]
    pair.same("CONFIG", "SET", *fresh, "replica-priority", 100, "lua-time-limit", 5000)
    pair.same("CONFIG", "SET", *arguments)
    watched = [
        "hz",
        "timeout",
        "maxmemory",
        "maxmemory-policy",
        "maxmemory-samples",
        "replica-priority",
        "lua-time-limit",
    ]
    ours, theirs = everything(pair, *watched)
    assert ours == theirs
