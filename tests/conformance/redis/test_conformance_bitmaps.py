"""Commands on bits: our raw replies, and what they leave behind, are redis-server's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_machine import (
    KEY,
    VALUE,
    Machine,
    command,
    maybe,
    numbers,
    one,
    options,
    some,
    words,
)

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair, RealServer

pytestmark = pytest.mark.conformance

MAX_OFFSET = 2**32 - 1

SCRIPTS = {
    "setbit": """
        SETBIT k 7 1|GET k|SETBIT k 7 0|SETBIT k 100 0|STRLEN k|SETBIT k -1 1|SETBIT k 4294967296 1|SETBIT k x 1
        SETBIT k 1 2|SETBIT k 1 -1|SETBIT k 1 x|SETBIT k 1|SETBIT n 0 0|EXISTS n|OBJECT ENCODING n
        SET i 12|SETBIT i 2 1|OBJECT ENCODING i|GET i|SETBIT i 7 1|GET i|LPUSH l a|SETBIT l 1 1|SETBIT l x 1
        SETBIT k 9223372036854775808 1|SETBIT k #1 1|SETBIT k 01 1""",
    "getbit": """
        SET k ab|GETBIT k 0|GETBIT k 1|GETBIT k 15|GETBIT k 16|GETBIT k 4294967295|GETBIT k 4294967296|GETBIT k -1
        GETBIT k x|GETBIT no 1|GETBIT no x|SET i 12|GETBIT i 2|GETBIT i 16|LPUSH l a|GETBIT l 1|GETBIT l x""",
    "bitcount": """
        SET k foobar|BITCOUNT k|BITCOUNT k 0 0|BITCOUNT k 1 1|BITCOUNT k 0 -1|BITCOUNT k -2 -1|BITCOUNT k -1 -2
        BITCOUNT k 5 30 BIT|BITCOUNT k 1 1 BYTE|BITCOUNT k 1 1 bit|BITCOUNT k 6 6|BITCOUNT k 100 200|BITCOUNT k 3 1
        BITCOUNT k 0|BITCOUNT k 0 x|BITCOUNT k x 0|BITCOUNT k 0 0 FOO|BITCOUNT k 0 0 BIT x|BITCOUNT no|BITCOUNT no 0 x
        BITCOUNT no 0 1 FOO|LPUSH l a|BITCOUNT l|BITCOUNT l 0 x|BITCOUNT k -100 -1|BITCOUNT k -100 -50|SET e ""
        BITCOUNT e|BITCOUNT e 0 -1|BITCOUNT e 0 0 BIT|BITCOUNT k 9223372036854775807 9223372036854775807
        BITCOUNT k -9223372036854775808 9223372036854775807 BIT|BITCOUNT k 0 -9223372036854775808|BITCOUNT k 0 47 BIT
        BITCOUNT k 7 8 BIT|BITCOUNT k 47 47 BIT|BITCOUNT k 48 50 BIT|BITCOUNT k -1 -1 BIT|SET n 12|BITCOUNT n""",
    "bitpos": """
        SETBIT k 20 1|BITPOS k 1|BITPOS k 0|BITPOS k 1 3|BITPOS k 0 0 0|BITPOS k 1 2 2|BITPOS k 1 20 20 BIT|BITPOS k 1 21 30 BIT
        BITPOS k 1 0 19 BIT|BITPOS k 1 -1|BITPOS k 1 -4 -3 BIT|BITPOS k 2|BITPOS k -1|BITPOS k x|BITPOS k 1 x|BITPOS k 1 0 x
        BITPOS k 1 0 0 FOO|BITPOS k 1 x 0 FOO|BITPOS k 1 0 x FOO|BITPOS k 1 0 0 BIT x|BITPOS no 0|BITPOS no 1|BITPOS no 1 0 0
        BITPOS no 0 5|BITPOS no x|SET o \xff\xff|BITFIELD f SET u16 0 65535|BITPOS f 0|BITPOS f 0 0|BITPOS f 0 1|BITPOS f 0 2
        BITPOS f 0 0 -1|BITPOS f 0 0 -1 BIT|BITPOS f 0 -1 -2|BITPOS f 1 -1 -2|BITPOS f 1 5 3|LPUSH l a|BITPOS l 1|BITPOS l 2
        SET e ""|BITPOS e 0|BITPOS e 1|BITPOS e 0 0|BITPOS e 0 0 0|BITPOS f 0 9223372036854775807|BITPOS f 1 -9223372036854775808
        BITPOS f 0 16 20 BIT|BITPOS f 0 -100 -50""",
    "bitop": """
        BITOP|BITOP AND|BITOP AND d|BITOP foo d a|BITOP NOT d a b|BITOP DIFF d a|BITOP diff1 d a|BITOP ANDOR d a|BITOP ONE d a
        SET a foobar|SET b abcdefgh|SET c \x00\x01|BITOP AND d a b|GET d|BITOP OR d a b c|GET d|BITOP XOR d a b|GET d
        BITOP NOT d a|GET d|BITOP NOT d c|GET d|BITOP DIFF d a b c|GET d|BITOP DIFF1 d a b c|GET d|BITOP ANDOR d a b c|GET d
        BITOP ONE d a b c|GET d|BITOP one d a a|GET d|BITOP AND d a no|GET d|BITOP OR d no a|GET d|BITOP DIFF d no a|GET d
        BITOP DIFF d a no|GET d|BITOP AND d no nope|EXISTS d|BITOP AND d no|BITOP NOT a a|GET a|OBJECT ENCODING a
        SET d x EX 100|BITOP OR d b|TTL d|LPUSH l x|BITOP AND d a l|BITOP AND l a|TYPE l|BITOP AND d l foo|SET i 12|BITOP OR d i
        GET d|OBJECT ENCODING d|BITOP AND a a|BITOP ONE d no a no b|GET d|BITOP XOR d a a|GET d|LPUSH m x|BITOP OR m no|EXISTS m""",
    "bitfield": """
        BITFIELD k|EXISTS k|BITFIELD k GET u8 0|EXISTS k|BITFIELD k SET i8 0 -1|BITFIELD k GET u8 0 GET i8 0 GET u4 #1
        BITFIELD k INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1 INCRBY u2 102 5|BITFIELD k OVERFLOW FAIL INCRBY u2 102 1
        BITFIELD k OVERFLOW FAIL SET u2 102 9 GET u2 102|BITFIELD k OVERFLOW SAT SET u2 102 9 GET u2 102 SET i2 4 -9 GET i2 4
        BITFIELD k SET u8 0 -1 GET u8 0|BITFIELD k OVERFLOW SAT SET u8 0 -1 GET u8 0|BITFIELD k SET u8 0 256 GET u8 0
        BITFIELD k SET i64 3 9223372036854775807 INCRBY i64 3 1 GET i64 3|BITFIELD k SET i64 3 9223372036854775808
        BITFIELD k OVERFLOW SAT INCRBY i64 3 -9223372036854775808 INCRBY i64 3 -9223372036854775808
        BITFIELD k OVERFLOW FAIL INCRBY i64 3 -9223372036854775808|BITFIELD k SET u63 0 9223372036854775807 INCRBY u63 0 1
        BITFIELD k GET u64 0|BITFIELD k GET i65 0|BITFIELD k GET u0 0|BITFIELD k GET x8 0|BITFIELD k GET U8 0|BITFIELD k GET u 0
        BITFIELD k GET u8 x|BITFIELD k GET u8 -1|BITFIELD k GET u8 #-1|BITFIELD k GET u8 4294967296|BITFIELD k GET u8 4294967295
        BITFIELD k GET u8 #536870911|BITFIELD k GET u8 #536870912|BITFIELD k GET u8 #2305843009213693952
        BITFIELD k GET u63 #9223372036854775807|BITFIELD k GET i64 #9223372036854775807|BITFIELD k GET u8 ##1|BITFIELD k GET u8 #
        BITFIELD k GET u8|BITFIELD k SET u8 0|BITFIELD k INCRBY u8 0|BITFIELD k OVERFLOW|BITFIELD k OVERFLOW foo|BITFIELD k foo
        BITFIELD k SET u8 0 x|BITFIELD k SET u8 0 1.5|BITFIELD k OVERFLOW WRAP|BITFIELD k OVERFLOW FAIL OVERFLOW sat INCRBY u2 0 9
        BITFIELD_RO k GET u8 0 GET i4 2|BITFIELD_RO k SET u8 0 1|BITFIELD_RO k OVERFLOW FAIL GET u8 0|BITFIELD_RO k INCRBY u8 0 1
        BITFIELD_RO k|BITFIELD_RO no GET u8 0|BITFIELD_RO no SET u8 0 1|EXISTS no|LPUSH l a|BITFIELD l GET u8 0|BITFIELD l SET u8 0 1
        BITFIELD_RO l GET u8 0|BITFIELD l SET u8 x 1|SET i 12|BITFIELD i GET u8 0|OBJECT ENCODING i|BITFIELD i SET u8 0 49
        OBJECT ENCODING i|BITFIELD k OVERFLOW SAT SET i8 0 -9223372036854775808 GET i8 0 SET i8 0 -9223372036854775000 GET i8 0|BITFIELD new OVERFLOW FAIL SET u2 100 5|STRLEN new|BITFIELD k SET u8 7 85 GET u8 0 GET u8 8 GET u8 7""",
    "keys": """
        COMMAND GETKEYSANDFLAGS BITFIELD k GET u8 0|COMMAND GETKEYSANDFLAGS BITFIELD k GET u8 0 SET u8 0 1
        COMMAND GETKEYSANDFLAGS BITFIELD k OVERFLOW SAT GET u8 0|COMMAND GETKEYSANDFLAGS BITFIELD k|COMMAND GETKEYS BITOP AND d a b
        COMMAND GETKEYSANDFLAGS BITFIELD k foo|COMMAND GETKEYSANDFLAGS BITFIELD k OVERFLOW SAT|COMMAND GETKEYSANDFLAGS BITFIELD_RO k""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_replies_are_the_servers(pair: Pair, name: str) -> None:
    differences: list[str] = []
    for line in SCRIPTS[name].replace("\n", "|").split("|"):
        request = [b"" if word == '""' else word.encode("latin-1") for word in line.split()]
        if request and not (request[0] == b"LPUSH" and _has_no_lists(pair)):
            ours, theirs = pair.both(*request)
            if ours != theirs:
                differences.append(f"{line.strip()!r}: ours {ours!r}, redis-server {theirs!r}")
    assert not differences, "\n".join(differences)


def _has_no_lists(pair: Pair) -> bool:
    return b"lpush" not in pair.engine.registry.commands


@pytest.mark.parametrize("operation", ["AND", "OR", "XOR", "NOT", "DIFF", "DIFF1", "ANDOR", "ONE"])
def test_long_strings_are_combined_alike(pair: Pair, operation: str) -> None:
    texts = [
        bytes((at * factor + at // 251) % 256 for at in range(70_000 + 5000 * factor)) for factor in (1, 3, 7)
    ]
    for key, text in zip("abc", texts, strict=True):
        pair.same("SET", key, text)
    keys = ["a"] if operation == "NOT" else ["a", "b", "c", "b"]
    for count in range(1 if len(keys) == 1 else 2, len(keys) + 1):
        pair.same("BITOP", operation, "d", *keys[:count])
        pair.same("GET", "d")
        for start, end in ((0, -1), (1, 69_999), (65_530, 65_545), (12_345, 560_000)):
            pair.same("BITCOUNT", "d", start, end)
            pair.same("BITCOUNT", "d", start, end, "BIT")
            pair.same("BITPOS", "d", 1, start, end, "BIT")
            pair.same("BITPOS", "d", 0, start, end, "BIT")


def test_the_first_bit_of_a_long_string_is_found_alike(pair: Pair) -> None:
    for at in (0, 7, 8, 4095, 4096, 32_767, 32_768, 40_000, 799_999):
        pair.same("DEL", "k")
        pair.same("SETBIT", "k", 800_000, 0)
        pair.same("SETBIT", "k", at, 1)
        pair.same("BITPOS", "k", 1)
        pair.same("BITPOS", "k", 1, at // 8)
        pair.same("BITPOS", "k", 1, at + 1, -1, "BIT")
        pair.same("BITOP", "NOT", "n", "k")
        pair.same("BITPOS", "n", 0)
        pair.same("BITPOS", "n", 0, at + 1, -1, "BIT")
        pair.same("BITPOS", "n", 0, at // 8 + 1)


def test_the_last_offsets_take_as_long_as_a_string_of_zeros_takes(pair: Pair) -> None:
    begun = time.process_time()
    pair.same("SETBIT", "k", MAX_OFFSET, 1)
    pair.same("GETBIT", "k", MAX_OFFSET)
    pair.same("STRLEN", "k")
    pair.same("SETBIT", "k", MAX_OFFSET + 1, 1)
    pair.same("BITFIELD", "k", "GET", "u8", MAX_OFFSET - 7, "GET", "u8", MAX_OFFSET)
    pair.same("BITPOS", "k", 1, -1)
    pair.same("BITCOUNT", "k", -5, -1)
    pair.same("FLUSHALL")
    assert time.process_time() - begun < 5


OFFSET = one(numbers(0, 70), numbers(0, 70), words(200, 1000, 8, 7, -1, 2**32, "x", "", 2**63 - 1))
FIELD_OFFSET = one(OFFSET, words("#0", "#1", "#2", "#9", "#-1", "#x", "#2305843009213693952"))
WIDTH = one(
    words("u1", "i1", "u2", "i3", "u8", "i8", "u16", "i16", "u31", "i33"), words("u63", "i64", "i63", "u7")
)
NUMBER = one(numbers(-5, 5), numbers(-300, 300), words(2**31, 2**63 - 1, -(2**63), -(2**62), 2**63, "x"))
BOUND = one(numbers(-9, 9), numbers(-70, 70), words(2**63 - 1, -(2**63), "x"))
UNIT = words("BIT", "BYTE", "bit", "byte", "BIT", "BYTE", "foo")
GET = ["GET", one(WIDTH, WIDTH, words("u64", "i65", "u0", "x")), FIELD_OFFSET]
STEP = one(
    GET, GET,
    ["SET", WIDTH, FIELD_OFFSET, NUMBER],
    ["INCRBY", WIDTH, FIELD_OFFSET, NUMBER],
    ["OVERFLOW", words("WRAP", "SAT", "FAIL", "sat", "x")],
)  # fmt: skip

# A mutated offset stays small or is beyond the limit: nothing here allocates half a gigabyte.
MACHINE = Machine(
    "bitmaps",
    [
        command("setbit", KEY, OFFSET, words(0, 1, 1, 1, 2, "x"), weight=3),
        command("getbit", KEY, OFFSET, weight=2),
        command("bitcount", KEY, one([], [BOUND, BOUND], [BOUND, BOUND, UNIT]), weight=2),
        command("bitpos", KEY, words(0, 1, 1, 0, 2), one([], BOUND, [BOUND, BOUND], [BOUND, BOUND, UNIT]), weight=2),
        command("bitop", words("AND", "or", "XOR", "DIFF", "diff1", "ANDOR", "ONE", "x"), KEY, some(KEY, 1, 4), weight=3),
        command("bitop", "NOT", KEY, KEY),
        command("bitfield", KEY, some(STEP, 0, 4), weight=4),
        command("bitfield_ro", KEY, some(one(GET, GET, GET, STEP), 0, 3)),
        command("set", KEY, VALUE, weight=0.7),
        command("append", KEY, VALUE, weight=0.5),
        command("setrange", KEY, numbers(0, 30), VALUE, weight=0.5),
        command("incr", KEY, weight=0.5),
        command("expire", KEY, 100_000, weight=0.3),
        command("getrange", KEY, numbers(-9, 9), numbers(-9, 9)),
        command("strlen", KEY),
        command("object", "encoding", KEY),
        command("del", KEY, weight=0.3),
        command("copy", KEY, KEY, maybe("REPLACE"), weight=0.3),
        command("command", "GETKEYSANDFLAGS", "BITFIELD", KEY, options(STEP)),
    ],
)  # fmt: skip


@pytest.mark.machine
def test_any_sequence_is_answered_as_the_server_does(real_server: RealServer) -> None:
    MACHINE.run(real_server)
