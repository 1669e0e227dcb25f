"""Keyspace events: which, in which order and with which letters, compared with redis-server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_crowd import Crowd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_pair import Pair, RealServer

pytestmark = pytest.mark.conformance

# Every line on the database that the lines before it have left.
SCRIPT = """
SET a 1
SET a 2
SET a 3 EX 100
SET a 4 KEEPTTL
SET a 5 XX GET
SET b 5 GET
SET b 6 EX 100 GET NX
SET none 5 XX
GET nosuch
GETEX nosuch
GETEX a EX 50
GETEX a PERSIST
GETEX a PERSIST
GETEX a EXAT 1
GETDEL b
GETDEL nosuch
GETSET g 1
GETSET g 2
SETNX g 1
SETNX h 1
SETEX s 100 v
PSETEX s 100000 v
APPEND s x
APPEND n x
SETRANGE n 0 yy
SETRANGE n2 0 yy
SETRANGE n3 0 ""
INCR cnt
INCR cnt
DECRBY cnt 3
INCR g2x
INCR s
INCRBYFLOAT cnt 1.5
INCRBYFLOAT cnt2 1.5
MSET m1 1 m2 2 m1 3
MSETNX m1 1 m9 1
MSETNX m8 1 m9 1 m8 2
MGET m1 nosuch nosuch
STRLEN nosuch
GETRANGE nosuch 0 1
LCS m1 nosuch
EXISTS nosuch m1
TOUCH nosuch m1
TYPE nosuch
TTL nosuch
PEXPIRETIME nosuch
OBJECT ENCODING nosuch
OBJECT FREQ nosuch
DEL m1 nosuch m1
UNLINK m2
EXPIRE m8 100
EXPIRE m8 100 NX
EXPIRE m8 -1
PEXPIREAT m9 1
EXPIRE nosuch 100
PERSIST g
EXPIRE g 100
PERSIST g
RENAME g g2
RENAME g2 cnt
RENAME cnt cnt
RENAME nosuch x
RENAMENX cnt q
RENAMENX q s
EXPIRE q 100
COPY q q2
COPY q q2
COPY q q2 REPLACE
COPY q q2 DB 1
COPY nosuch zz
MOVE q 1
MOVE q2 1
MOVE nosuch 1
SWAPDB 0 1
FLUSHDB
RANDOMKEY
SELECT 3
SET a 1
SELECT 0
FLUSHALL
""".strip().splitlines()


@pytest.fixture
def crowd(real_server: RealServer) -> Iterator[Crowd]:
    with Crowd(real_server, resp3="three") as made:
        yield made
        made.say("me", "CONFIG", "SET", "notify-keyspace-events", "")


@pytest.mark.parametrize("letters", ["AKEmnoc", "Km", "Eno", "K$", "Eg", "KEc", "KExe", "mnoc"])
def test_events_of_commands(crowd: Crowd, letters: str) -> None:
    crowd.say("listener", "PSUBSCRIBE", "__key*")
    crowd.say("me", "CONFIG", "SET", "notify-keyspace-events", letters)
    for line in SCRIPT:
        crowd.send("me", line.encode() + b"\r\n")


def test_events_come_behind_the_own_reply_in_resp3(crowd: Crowd) -> None:
    crowd.say("three", "PSUBSCRIBE", "__key*")
    crowd.say("three", "CONFIG", "SET", "notify-keyspace-events", "AKE")
    crowd.send("three", b"SET a 1\r\nGET a\r\nDEL a\r\n")
    crowd.send("three", b"MULTI\r\nSET a 1\r\nDEL a\r\nEXEC\r\nPING\r\n")


LETTERS = [
    "", "AKE", "KEA", "KEAmn", "AKEmnoc", "Kg$lszhxetd", "KEg", "xE", "g", "A", "gK$", "m", "mKE", "KElxn",
    "AKEd", "oK", "cE", "E$lshzxetdg", "KEmocn", "q", "KEq", "K E", "ke", "KEKE",
]  # fmt: skip


def test_letters(pair: Pair) -> None:
    for letters in LETTERS:
        pair.same("CONFIG", "SET", "notify-keyspace-events", letters)
        pair.same("CONFIG", "GET", "notify-keyspace-events")
    pair.same("CONFIG", "SET", "notify-keyspace-events", "")
