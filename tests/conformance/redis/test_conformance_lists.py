"""Every list command and SORT, their options and errors, encodings and events: all as redis-server has them."""

from __future__ import annotations

import pytest

from tests.support.redis_pair import Pair, encode_request, parse_one

pytestmark = pytest.mark.conformance

# Each script runs on empty databases; every reply must be the same.
SCRIPTS: dict[str, list[str]] = {
    "ends": [
        "SET s x",
        "RPUSH k a b c a b c 1 2",
        "LPUSH s a",
        "LPUSH s",
        "LPUSHX s a",
        "LPOP s",
        "LPOP s 0",
        "LPOP s -1",
        "LPOP s x",
        "LPOP none 0",
        "LPOP none x",
        "LPOP none 1",
        "LPOP none",
        "LPOP k 0",
        "LPOP k 1 1",
        "RPOP k 1 1",
        "RPOP k -9223372036854775808",
        "LPOP",
        "LLEN s",
        "LLEN none",
        "EXISTS k",
        "RPUSHX none a",
        "LPUSHX none a",
        "EXISTS none",
        "RPUSHX k a b",
        "LRANGE k 0 -1",
        "RPOP k 3",
        "LPOP k 100",
        "EXISTS k",
        "LPUSH",
        "RPUSH k",
        "LLEN",
        "RPOP k",
        "RPOP k 1",
        "lpush k ",
        "LRANGE k 0 -1",
    ],
    "reading": [
        "SET s x",
        "RPUSH k a b c a b c 1 2",
        "LINDEX s x",
        "LINDEX none x",
        "LINDEX k x",
        "LINDEX k 9223372036854775807",
        "LINDEX k -9223372036854775808",
        "LINDEX k 9223372036854775808",
        "LRANGE s a b",
        "LRANGE s 0 b",
        "LRANGE s 0 -1",
        "LRANGE none 0 b",
        "LRANGE none 0 -1",
        "LRANGE k -9223372036854775808 9223372036854775807",
        "LRANGE k 9223372036854775807 -9223372036854775808",
        "LRANGE k 5 3",
        "LRANGE k -1 0",
        "LRANGE k -100 2",
        "LINDEX k -1",
        "LINDEX k 0",
        "LINDEX k 8",
        "LINDEX k -9",
        "LRANGE k 2 2",
        "LRANGE k -3 -2",
        "LRANGE k 7 100",
        "LRANGE k 8 100",
        "LRANGE k 0",
        "LINDEX k",
    ],
    "changing": [
        "SET s x",
        "RPUSH k a b c a b c 1 2",
        "LSET s 0 a",
        "LSET s x a",
        "LSET none x a",
        "LSET none 0 a",
        "LSET k x a",
        "LSET k 100 a",
        "LSET k -100 a",
        "LSET k 9223372036854775807 a",
        "LSET k -9223372036854775808 a",
        "LINSERT s BEFORE a b",
        "LINSERT none BEFORE a b",
        "LINSERT none FOO a b",
        "LINSERT s FOO a b",
        "LINSERT k before zz b",
        "LINSERT k aFteR a b",
        "LINSERT k before a",
        "LREM s 0 a",
        "LREM s x a",
        "LREM none x a",
        "LREM none 0 a",
        "LREM k -9223372036854775808 a",
        "LREM k -9223372036854775807 a",
        "LREM k 9223372036854775807 b",
        "LREM k 9223372036854775808 b",
        "LRANGE k 0 -1",
        "LSET k 4294967296 first",
        "LSET k 4294967297 second",
        "LSET k 2147483648 none",
        "LSET k -2147483649 none",
        "LRANGE k 0 -1",
        "LREM k 2 b",
        "LREM k -1 1",
        "LRANGE k 0 -1",
        "LINSERT k BEFORE first ",
        "LINSERT k AFTER  x",
        "LRANGE k 0 -1",
        "RPUSH one a a",
        "LREM one 0 a",
        "EXISTS one",
    ],
    "trimming": [
        "SET s x",
        "RPUSH k a b c a b c 1 2",
        "LTRIM s a b",
        "LTRIM s 0 b",
        "LTRIM s 0 -1",
        "LTRIM none 0 b",
        "LTRIM none 0 -1",
        "LTRIM k -9223372036854775808 9223372036854775807",
        "LTRIM k 9223372036854775807 -9223372036854775808",
        "EXISTS k",
        "RPUSH k a b c d e f",
        "LTRIM k 0 -1",
        "LTRIM k 1 -2",
        "LRANGE k 0 -1",
        "LTRIM k -3 100",
        "LRANGE k 0 -1",
        "LTRIM k 1 1",
        "LRANGE k 0 -1",
        "LTRIM k 1 2",
        "EXISTS k",
        "LTRIM k 0",
    ],
    "lpos": [
        "SET s x",
        "RPUSH k a b c a b c 1 2 a",
        "LPOS k a",
        "LPOS k a RANK",
        "LPOS k a RANK 0",
        "LPOS k a RANK x",
        "LPOS k a RANK -9223372036854775808",
        "LPOS k a RANK -9223372036854775807",
        "LPOS k a RANK 9223372036854775807",
        "LPOS k a COUNT -1",
        "LPOS k a COUNT x",
        "LPOS k a COUNT 9223372036854775808",
        "LPOS k a COUNT 9223372036854775807",
        "LPOS k a MAXLEN -1",
        "LPOS k a MAXLEN x",
        "LPOS k a FOO 1",
        "LPOS k a FOO",
        "LPOS s a",
        "LPOS s a RANK 0",
        "LPOS none a",
        "LPOS none a COUNT 1",
        "LPOS k zz COUNT 0",
        "LPOS k zz",
        "LPOS k a COUNT 0 RANK 2 MAXLEN 4",
        "LPOS k a rank -1 count 2 maxlen 100",
        "LPOS k a COUNT 1 COUNT 2",
        "LPOS k a MAXLEN 0",
        "LPOS k a RANK -1 COUNT 0",
    ],
    "moving": [
        "SET s x",
        "RPUSH k a b c a b c 1 2 a",
        "LMOVE k",
        "LMOVE k d LEFT",
        "LMOVE k d LEFT UP",
        "LMOVE k d UP LEFT",
        "LMOVE none d LEFT RIGHT",
        "LMOVE none s LEFT RIGHT",
        "LMOVE s d LEFT RIGHT",
        "LMOVE k s LEFT RIGHT",
        "LMOVE none d LEFT UP",
        "LMOVE k k LEFT RIGHT",
        "LMOVE k d left right",
        "RPOPLPUSH k s",
        "RPOPLPUSH s k",
        "RPOPLPUSH none s",
        "RPOPLPUSH k k",
        "RPOPLPUSH k",
        "LRANGE k 0 -1",
        "LRANGE d 0 -1",
        "RPUSH one x",
        "LMOVE one one LEFT RIGHT",
        "LMOVE one two LEFT RIGHT",
        "EXISTS one",
        "LRANGE two 0 -1",
    ],
    "lmpop": [
        "SET s x",
        "RPUSH k a b c a b c 1 2 a",
        "LMPOP 0 k LEFT",
        "LMPOP -1 k LEFT",
        "LMPOP x k LEFT",
        "LMPOP 1 k",
        "LMPOP 2 k LEFT",
        "LMPOP 1 k LEFT COUNT",
        "LMPOP 1 k LEFT COUNT 0",
        "LMPOP 1 k LEFT COUNT x",
        "LMPOP 1 k LEFT COUNT -1",
        "LMPOP 1 k LEFT COUNT 1 COUNT 1",
        "LMPOP 1 k LEFT FOO 1",
        "LMPOP 1 k UP",
        "LMPOP 1 s LEFT",
        "LMPOP 2 none s LEFT",
        "LMPOP 2 k s LEFT",
        "LMPOP 1 none LEFT",
        "LMPOP 2 none k RIGHT COUNT 3",
        "LMPOP 1 k LEFT COUNT 100 x",
        "LMPOP 1000 k LEFT",
        "LMPOP 4294967297 k LEFT",
        "LMPOP 1 k RIGHT COUNT 9223372036854775807",
        "EXISTS k",
        "LMPOP 9223372036854775807 k LEFT",
        "LMPOP 9223372036854775806 k LEFT",
    ],
    "sort": [
        "SET s x",
        "SORT none",
        "SORT s",
        "SORT s BY",
        "SORT s LIMIT a b",
        "RPUSH k 3 1 2 10 -5 2.5 1e1 inf -inf",
        "SORT k",
        "SORT k DESC",
        "SORT k ALPHA",
        "SORT k ALPHA DESC",
        "SORT k LIMIT 0 2",
        "SORT k LIMIT 2 -1",
        "SORT k LIMIT -5 3",
        "SORT k LIMIT 100 1",
        "SORT k LIMIT 0 0",
        "SORT k LIMIT 9223372036854775807 9223372036854775807",
        "SORT k LIMIT 1 9223372036854775807",
        "SORT k LIMIT x 1",
        "SORT k LIMIT 1 x",
        "SORT k LIMIT 1",
        "SORT k FOO",
        "SORT k asc desc",
        "SORT k BY nosort",
        "SORT k BY nosort DESC",
        "SORT k BY nosort DESC LIMIT 1 3",
        "SORT k BY nosort LIMIT 1 3",
        "SORT k BY nosort BY w_*",
        "SET w_3 1",
        "SET w_1 x",
        "SORT k BY w_*",
        "DEL w_1",
        "SORT k BY w_*",
        "SORT k BY w_* ALPHA",
        "SORT k BY w_* ALPHA DESC",
        "SORT k GET",
        "SORT k GET #",
        "SORT k GET # GET w_* GET w_",
        "SORT k GET w_*->f",
        "SORT k BY w_*->f",
        "SORT k BY w_*->",
        "SORT k STORE d",
        "LRANGE d 0 -1",
        "OBJECT ENCODING d",
        "SORT none STORE d",
        "EXISTS d",
        "SORT none STORE d",
        "SORT k GET w_* STORE d",
        "LRANGE d 0 -1",
        "SORT k LIMIT 0 0 STORE d",
        "EXISTS d",
        "SORT k STORE",
        "SORT k STORE s",
        "TYPE s",
        "SORT k STORE k",
        "LRANGE k 0 -1",
        "SORT_RO k",
        "SORT_RO k STORE d",
        "SORT_RO k DESC LIMIT 0 2",
        "SORT_RO",
        "SORT",
        "SORT k STORE d STORE e",
        "EXISTS d e",
    ],
    "sort_numbers": [
        "DEL n",
        "RPUSH n 3 1.5 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 +1 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 0x10 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 infinity 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 nan 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 -nan 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 1e400 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 1e-400 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 .5 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 5. 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 1e 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 abc 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 1_0 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 - 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 -0 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 . 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 INF 1e4",
        "SORT n",
        "DEL n",
        "RPUSH n 3 1e1000000000000 1e4",
        "SORT n",
    ],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_replies_are_the_servers(pair: Pair, name: str) -> None:
    differences: list[str] = []
    for line in SCRIPTS[name]:
        ours, theirs = pair.both(*line.split(" "))
        if ours != theirs:
            differences.append(f"{line!r}: ours {ours!r}, redis-server {theirs!r}")
    assert not differences, "\n".join(differences)


CHANGES = [
    "LPUSH k a b c", "LPOP k", "LPOP k 2", "RPUSH k a b c d e f", "LSET k 0 x", "LSET k 0 x", "LINSERT k before x y",
    "LINSERT k before none y", "LREM k 0 x", "LREM k 0 x", "LTRIM k 0 -1", "LTRIM k 1 2", "LMOVE k d LEFT LEFT",
    "LMOVE k d LEFT LEFT", "LMOVE d d LEFT RIGHT", "LMPOP 1 d LEFT COUNT 5", "LPUSHX k a", "RPUSH k a b", "LTRIM k 5 6",
    "LPOP none 5", "RPUSH k a", "LREM k 1 a", "RPUSH k a", "LPOP k 0", "RPUSH k 3 1 2", "SORT k ALPHA STORE d", "SORT k ALPHA GET # GET # STORE d",
    "SORT none STORE d", "SORT none STORE d", "RPOPLPUSH k k",
]  # fmt: skip


def test_every_command_counts_as_many_changes_as_the_servers(pair: Pair) -> None:
    def changes() -> tuple[int, int]:
        theirs = parse_one(pair._read_theirs(encode_request(("INFO", "persistence")), 1))
        text = getattr(theirs, "text", theirs)
        assert isinstance(text, bytes)
        return int(pair.engine.dirty), int(text.split(b"rdb_changes_since_last_save:")[1].split()[0])

    ours_before, theirs_before = changes()
    for line in CHANGES:
        pair.same(*line.split(" "))
        ours, theirs = changes()
        assert ours - ours_before == theirs - theirs_before, line


@pytest.mark.parametrize("size", [-5, -2, 0, 1, 4, 128])
def test_encodings_change_where_the_servers_do(pair: Pair, size: int) -> None:
    assert pair.both("CONFIG", "SET", "list-max-listpack-size", size) == (b"+OK\r\n", b"+OK\r\n")
    try:
        elements = [n * "x" for n in (1, 60, 64, 126, 127, 4000, 8183, 8184, 9000)] + [
            str(7**n) for n in range(25)
        ]
        for element in elements:
            for end in ("LPUSH", "RPUSH"):
                pair.both("DEL", "k")
                for _ in range(140 if len(element) < 100 else 12):
                    pair.same(end, "k", element)
                    pair.same("OBJECT", "ENCODING", "k")
                while pair.same("RPOP", "k") not in (b"$-1\r\n", b"_\r\n"):
                    pair.same("OBJECT", "ENCODING", "k")
        pair.same("RPUSH", "k", *elements)
        for index in range(len(elements)):
            pair.same("LSET", "k", index, "x" * 10_000 if index % 2 else "y")
            pair.same("OBJECT", "ENCODING", "k")
        for index in range(len(elements)):
            pair.same("LSET", "k", index, "x")
            pair.same("OBJECT", "ENCODING", "k")
        pair.same("LRANGE", "k", 0, -1)
    finally:
        pair.both("CONFIG", "SET", "list-max-listpack-size", -2)


def test_indices_beyond_32_bits_mean_what_they_mean_to_the_server(pair: Pair) -> None:
    for length in (5, 3000):
        pair.both("DEL", "k")
        pair.same("RPUSH", "k", *range(length))
        far = [
            2**31,
            2**31 - 1,
            -(2**31) - 1,
            2**32,
            2**32 + 1,
            2**32 - 1,
            -(2**32) - 1,
            2**33 + 2,
            2**62,
            2**63 - 1,
            -(2**63),
        ]
        for index in far:
            pair.same("LINDEX", "k", index)
            pair.same("LSET", "k", index, f"v{index}")
            pair.same("LRANGE", "k", 0, index)
            pair.same("LRANGE", "k", index, -1)
            for option in ("RANK", "COUNT", "MAXLEN"):
                pair.same("LPOS", "k", "3", option, index)
            pair.same("LREM", "k", index, "none")
        for index in far:
            for request in (
                ("LTRIM", "d", 0, index), ("LTRIM", "d", index, -1), ("LPOP", "d", index), ("RPOP", "d", index),
                ("LMPOP", 1, "d", "RIGHT", "COUNT", index), ("LREM", "d", index, "3"),
            ):  # fmt: skip
                pair.same("COPY", "k", "d", "REPLACE")
                pair.same(*request)
                pair.same("LRANGE", "d", 0, -1)


def test_sort_of_strings_with_nul_compares_up_to_it_unless_stored(pair: Pair) -> None:
    pair.same("RPUSH", "k", "b", "a\0z", "a\0b", "a", "c\0", "b\0")
    pair.same("SORT", "k", "ALPHA")
    pair.same("SORT", "k", "ALPHA", "DESC")
    pair.same("SORT", "k", "ALPHA", "STORE", "d")
    pair.same("LRANGE", "d", 0, -1)
    pair.same("RPUSH", "n", "2\0x", "1", "\x003")
    pair.same("SORT", "n")
    pair.same("SET", "w_1", "4")
    pair.same("SORT", "n", "BY", "w_*\0")
    pair.same("SORT", "n", "GET", "w_*", "GET", "#\0x")
    pair.same("SORT", "n", "BY", "\0*", "DESC")
