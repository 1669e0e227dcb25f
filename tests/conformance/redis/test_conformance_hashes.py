"""Hashes and the expire times of their fields: replies, errors, their order and the encodings are redis-server's.

Times are absolute and far away; what happens when a field expires is in tests/unit/redis/test_field_expiry.py, with
a clock of its own and the replies that redis-server gave.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import parse_one

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

# Each script runs on empty databases; every reply must be the same.
SCRIPTS: dict[str, list[str]] = {
    "arguments": [
        "HSET",
        "HSET k a",
        "HSET k a 1 b",
        "HMSET k a 1 b",
        "HMSET k a 1",
        "HSET k a 1 b 2 c 3",
        "HGETALL none",
        "HKEYS none",
        "HSETNX k a 2",
        "HSETNX k d 4 5",
        "HINCRBY k a x",
        "HINCRBY k d 5",
        "HSET k s abc",
        "HINCRBY k s 1",
        "HINCRBYFLOAT k s 1",
        "HINCRBYFLOAT k a x",
        "HINCRBYFLOAT k a inf",
        "HINCRBYFLOAT k a nan",
        "HINCRBYFLOAT k a 1.5",
        "HSET k i inf",
        "HINCRBYFLOAT k i 1",
        "HSET k i 1e4000",
        "HINCRBYFLOAT k i 1",
        'HSET k e ""',
        "HINCRBYFLOAT k e 1",
        "HINCRBY k e 1",
        'HSET k e " 5"',
        "HINCRBY k e 1",
        "HINCRBYFLOAT k e 1",
        "HSET k i 9223372036854775807",
        "HINCRBY k i 1",
        "HINCRBY none x abc",
        "HINCRBYFLOAT none x abc",
        "EXISTS none",
        "HRANDFIELD k x",
        "HRANDFIELD k 1 foo",
        "HRANDFIELD k 1 WITHVALUES foo",
        "HRANDFIELD k -9223372036854775808",
        "HRANDFIELD k 4611686018427387904 WITHVALUES",
        "HRANDFIELD k -4611686018427387904 WITHVALUES",
        "HRANDFIELD k 0 WITHVALUES",
        "HRANDFIELD none",
        "HRANDFIELD none 1",
        "HRANDFIELD none 1 WITHVALUES",
        "HRANDFIELD k x foo",
        "HSCAN k 0 TYPE hash",
        "HSCAN none 0 foo",
        "HSTRLEN k a",
        "HSTRLEN k zz",
        "HSTRLEN none zz",
        "HEXISTS k a",
        "HDEL k a zz",
        "HDEL none a",
        "HMGET k b zz",
        "HMGET none b zz",
        "SET s v",
        "HSET s a 1",
        "HGET s a",
        "HMGET s a",
        "HLEN s",
        "HDEL s a",
        "HINCRBY s a x",
        "HINCRBY s a 1",
        "HINCRBYFLOAT s a x",
        "HINCRBYFLOAT s a 1",
        "HRANDFIELD s",
        "HRANDFIELD s 0",
        "HRANDFIELD s x",
        "HSCAN s 0 foo",
        "HEXPIRE",
        "HEXPIRE k 10",
        "HEXPIRE k 10 FIELDS",
        "HEXPIRE k 10 FIELDS 1",
        "HEXPIRE k 10 FIELDS 0",
        "HEXPIRE k 10 FIELDS 0 a",
        "HEXPIRE k 10 FIELDS 2 a",
        "HEXPIRE k 10 FIELDS 1 a b",
        "HEXPIRE k 10 FIELDS x a",
        "HEXPIRE k 10 FIELDS -1 a",
        "HEXPIRE k 10 foo 1 a",
        "HEXPIRE k 10 NX FIELDS 1 b",
        "HEXPIRE k 10 NX XX FIELDS 1 b",
        "HEXPIRE k 10 FIELDS 1 b NX",
        "HEXPIRE k 10 FIELDS 1 b c NX",
        "HEXPIRE k x FIELDS 1 b",
        "HEXPIRE k -1 FIELDS 1 b",
        "HEXPIRE k 9223372036854775807 FIELDS 1 b",
        "HEXPIRE k 9223372036854775807 FIELDS 1 zz",
        "HEXPIRE none 10 FIELDS 2 a b",
        "HEXPIRE none x FIELDS 2 a b",
        "HEXPIRE none 10 FIELDS 2 a",
        "HEXPIRE none 10 foo FIELDS 2 a",
        "HEXPIRE s 10 FIELDS 1 a",
        "HEXPIRE s x FIELDS 1 a",
        "HEXPIRE s 10 FOO 1 a",
        "HPEXPIRE k 281474976710656 FIELDS 1 b",
        "HPEXPIREAT k 281474976710655 FIELDS 1 b",
        "HPEXPIREAT k 70368744177663 FIELDS 1 b",
        "HPEXPIREAT k 70368744177664 FIELDS 1 b",
        "HPEXPIREAT k 281474976710656 FIELDS 1 b",
        "HEXPIREAT k 281474976711 FIELDS 1 b",
        "HEXPIREAT k 281474976710 FIELDS 1 b",
        "HEXPIREAT k 70368744178 FIELDS 1 b",
        "HEXPIREAT k 70368744177 FIELDS 1 b",
        "HEXPIRETIME k FIELDS 1 b",
        "HPEXPIRETIME k FIELDS 1 b",
        "HTTL k FIELDS 1 zz",
        "HTTL k FIELDS 1",
        "HTTL k FIELDS 2 b",
        "HTTL k FOO 1 b",
        "HTTL k FIELDS 1 b c",
        "HTTL k FIELDS x b",
        "HTTL none FIELDS x b",
        "HTTL none FIELDS 2 b",
        "HTTL none FIELDS 1 b",
        "HTTL s FIELDS 2 b",
        "HTTL s FIELDS 1 b",
        "HPERSIST k FIELDS 3 b c zz",
        "HPERSIST none FIELDS 2 a b",
        "HPERSIST none FIELDS 1 a b",
        "HPERSIST k FIELDS 0 a",
        "HEXPIRE k 0 FIELDS 1 b",
        "OBJECT ENCODING k",
    ],
    "reading_and_writing_together": [
        "HGETEX",
        "HGETEX k FIELDS 1",
        "HGETEX k FIELDS 1 a",
        "HGETEX k EX 10 FIELDS 1 a",
        "HSET k a 1 b 2 c 3 d 4",
        "HGETEX k EX FIELDS 1 a",
        "HGETEX k EX x FIELDS 1 a",
        "HGETEX k EX 0 FIELDS 1 a",
        "HGETEX k EX -1 FIELDS 1 a",
        "HGETEX k EX 10 PX 10 FIELDS 1 a",
        "HGETEX k EX 10 EX 10 FIELDS 1 a",
        "HGETEX k PERSIST EX 10 FIELDS 1 a",
        "HGETEX k PERSIST PERSIST FIELDS 1 a",
        "HGETEX k FOO FIELDS 1 a",
        "HGETEX k FIELDS 1 a FOO",
        "HGETEX k FIELDS 1 a EX 10",
        "HGETEX k FIELDS 1 a EX",
        "HGETEX k FIELDS 2 a",
        "HGETEX k FIELDS 2 a EX 10",
        "HGETEX k FIELDS 0 a",
        "HGETEX k FIELDS x a",
        "HGETEX k FIELDS -1 a",
        "HGETEX k FIELDS 9999999999 a",
        "HGETEX k FIELDS 1 a FIELDS 1 b",
        "HGETEX k EX 10",
        "HGETEX k PX 9223372036854775807 FIELDS 1 a",
        "HGETEX k PXAT 70368744177663 FIELDS 2 a zz",
        "HGETEX k PXAT 70368744177664 FIELDS 2 a zz",
        "HGETEX k EXAT 70368744178 FIELDS 2 a zz",
        "HGETEX k EXAT 9223372036854775807 FIELDS 2 a zz",
        "HPEXPIRETIME k FIELDS 2 a zz",
        "HGETEX k PERSIST FIELDS 2 a zz",
        "HPEXPIRETIME k FIELDS 2 a zz",
        "HGETEX k PXAT 1 FIELDS 2 a zz",
        "HGETALL k",
        "HGETEX k KEEPTTL FIELDS 1 b",
        "SET s v",
        "HGETEX s FOO FIELDS 1 b",
        "HGETEX s EX 10 FIELDS 1 b",
        "HGETEX s EX 0 FIELDS 1 b",
        "HGETEX none EX 0 FIELDS 2 b c",
        "HGETEX none EX 10 FIELDS 2 b c",
        "HSETEX",
        "HSETEX k FIELDS 1 a",
        "HSETEX k FIELDS 1 a 1",
        "HSETEX k FIELDS 2 a 1",
        "HSETEX k FIELDS 2 a 1 b",
        "HSETEX k FIELDS 0 a 1",
        "HSETEX k FIELDS -1 a 1",
        "HSETEX k FIELDS x a 1",
        "HSETEX k FIELDS 1 a 1 b",
        "HSETEX k FIELDS 1 a 1 EX 10",
        "HSETEX k FIELDS 1 a 1 EX 10 FNX",
        "HSETEX k FNX FIELDS 2 a 1 e 1",
        "HSETEX k FXX FIELDS 2 a 5 e 1",
        "HSETEX k FXX FNX FIELDS 2 a 5 e 1",
        "HSETEX k FXX FXX FIELDS 2 a 5 e 1",
        "HSETEX k FNX FNX FIELDS 2 a 5 e 1",
        "HSETEX k FNX EX 0 FIELDS 2 a 5 e 1",
        "HSETEX k EX 0 FIELDS 1 a 5",
        "HSETEX k EX -1 FIELDS 1 a 5",
        "HSETEX k EX x FIELDS 1 a 5",
        "HSETEX k EX 10 PX 10 FIELDS 1 a 5",
        "HSETEX k EX 10 KEEPTTL FIELDS 1 a 5",
        "HSETEX k KEEPTTL KEEPTTL FIELDS 1 a 5",
        "HSETEX k PERSIST FIELDS 1 a 5",
        "HSETEX k FIELDS 1 a 1 FIELDS 1 a 1",
        "HSETEX k PXAT 70368744177663 FIELDS 1 a 5",
        "HSETEX k PXAT 70368744177664 FIELDS 1 a 5",
        "HSETEX k KEEPTTL FIELDS 1 a 6",
        "HPEXPIRETIME k FIELDS 1 a",
        "HSETEX k FIELDS 1 a 7",
        "HPEXPIRETIME k FIELDS 1 a",
        "HSETEX k PXAT 1 FIELDS 2 a 7 n 8",
        "HGETALL k",
        "HSETEX new PXAT 1 FIELDS 2 a 7 n 8",
        "EXISTS new",
        "HSETEX new FXX FIELDS 2 a 7 n 8",
        "EXISTS new",
        "HSETEX new FNX FIELDS 2 a 7 a 8",
        "HGETALL new",
        "HSETEX s FIELDS 1 a 7",
        "HSETEX s FOO FIELDS 1 a 7",
        "HSETEX k FOO FIELDS 1 a 7",
        "HSETEX k foo",
        "HSETEX k foo bar",
        "HSETEX k foo bar baz boo",
        "HSETEX k EX 10 10 10 10",
        "HSETEX k EX",
        "HSETEX k FIELDS",
        "HSETEX k FIELDS 1",
        "HGETDEL",
        "HGETDEL k FIELDS 1",
        "HGETDEL k FIELDS 1 b",
        "HGETDEL k FIELDS 2 b",
        "HGETDEL k FIELDS 1 b c",
        "HGETDEL k FIELDS 0 b",
        "HGETDEL k FIELDS x b",
        "HGETDEL k FOO 1 b",
        "HGETDEL none FIELDS 1 b",
        "HGETDEL none FOO 1 b",
        "HGETDEL s FIELDS 1 b",
        "HGETDEL s FOO 1 b",
        "HGETDEL k FIELDS 3 c c zz",
        "HGETALL k",
        "HGETDEL k FIELDS 5 a d e n d",
        "EXISTS k",
    ],
    "order_of_fields_that_expire": [
        "HSET k a 1 b 2 c 3 d 4 e 5",
        "OBJECT ENCODING k",
        "HPEXPIREAT k 70000000000000 FIELDS 1 c",
        "OBJECT ENCODING k",
        "HKEYS k",
        "HPEXPIREAT k 70000000000000 FIELDS 1 a",
        "HKEYS k",
        "HPEXPIREAT k 60000000000000 FIELDS 1 d",
        "HKEYS k",
        "HPEXPIREAT k 70000000000000 FIELDS 1 d",
        "HKEYS k",
        "HPERSIST k FIELDS 1 a",
        "HKEYS k",
        "HSET k z 1",
        "HKEYS k",
        "HSET k c 9",
        "HKEYS k",
        "HPEXPIREAT k 70000000000000 FIELDS 2 e b",
        "HKEYS k",
        "HPEXPIREAT k 70000000000000 FIELDS 1 b",
        "HKEYS k",
        "HINCRBY k b 1",
        "HKEYS k",
        "HPEXPIREAT k 60000000000000 GT FIELDS 2 e zz",
        "HPEXPIREAT k 60000000000000 LT FIELDS 2 e a",
        "HPEXPIREAT k 60000000000000 LT FIELDS 2 e e",
        "HPEXPIREAT k 60000000000000 NX FIELDS 2 e z",
        "HPEXPIREAT k 60000000000000 XX FIELDS 2 e c",
        "HKEYS k",
        "HSETEX k PXAT 60000000000000 FIELDS 2 z1 1 z2 2",
        "HKEYS k",
        "HSETEX k PXAT 60000000000000 FIELDS 1 c 2",
        "HKEYS k",
        "HSETEX k KEEPTTL FIELDS 1 d 2",
        "HKEYS k",
        "HSET k d 2",
        "HKEYS k",
        "HSETNX k qq 2",
        "HPERSIST k FIELDS 8 e z1 z2 z d c a b",
        "HKEYS k",
        "OBJECT ENCODING k",
        "COPY k k2",
        "OBJECT ENCODING k2",
        "HPEXPIREAT k 1 GT FIELDS 1 a",
        "HPEXPIREAT k 1 LT FIELDS 1 a",
        "HPEXPIREAT k 1 XX FIELDS 1 b",
        "HPEXPIREAT k 1 NX FIELDS 1 b",
        "HKEYS k",
        "HSET m a 1",
        "HPEXPIREAT m 1 FIELDS 2 zz a",
        "EXISTS m",
        "HSET m a 1",
        "HPEXPIREAT m 1 FIELDS 3 a a b",
        "HSET m a 1",
        "HPEXPIREAT m 70000000000000 FIELDS 1 q",
        "OBJECT ENCODING m",
        "HPEXPIREAT m 1 FIELDS 1 q",
        "OBJECT ENCODING m",
        "HPERSIST m FIELDS 1 a",
        "OBJECT ENCODING m",
        "HGETEX m PXAT 70000000000000 FIELDS 1 q",
        "OBJECT ENCODING m",
        "HSETEX m FIELDS 1 q q",
        "OBJECT ENCODING m",
        "HSETEX m KEEPTTL FIELDS 1 q q",
        "OBJECT ENCODING m",
        "HSETEX m2 PXAT 70000000000000 FIELDS 1 q q",
        "OBJECT ENCODING m2",
        "HSET m3 a 1",
        "HSETEX m3 FXX PXAT 70000000000000 FIELDS 1 q q",
        "OBJECT ENCODING m3",
        "HSET m4 a 1 b 2",
        "HPEXPIREAT m4 1 FIELDS 1 a",
        "OBJECT ENCODING m4",
        "HSET m5 a 1 b 2",
        "HGETEX m5 PXAT 1 FIELDS 1 a",
        "OBJECT ENCODING m5",
        "HSETEX m5 PXAT 1 FIELDS 1 c 1",
        "OBJECT ENCODING m5",
    ],
    "order_of_checks": [
        "HSET k a 1 b 2",
        "HEXPIRE k x foo 1 a",
        "HEXPIRE k -1 foo 1 a",
        "HEXPIRE k x FIELDS 0 a",
        "HEXPIRE k x FIELDS 2 a",
        "HEXPIRE k -1 FIELDS 0 a",
        "HEXPIRE k 9223372036854775807 FIELDS 0 a",
        "HEXPIRE k 9223372036854775807 FOO 0 a",
        "HEXPIRE k 9223372036854775808 FIELDS 1 a",
        "HEXPIRE k 10 NX 1 a",
        "HEXPIRE k 10 NX FIELDS 1",
        "HEXPIRE k 10 NX FIELDS 1 a b",
        "HEXPIRE k 10 FIELDS 1 a NX",
        "HEXPIRE k 10 nx fields 1 a",
        "HEXPIRE k 10 FIELDS 2147483648 a",
        "HEXPIRE k 10 FIELDS 2147483647 a",
        "HEXPIRE k 10 FIELDS 9223372036854775808 a",
        "HTTL k FIELDS 2147483648 a",
        "HTTL k FIELDS 2147483647 a",
        "HTTL k FIELDS 9223372036854775808 a",
        "HGETDEL k FIELDS 2147483648 a",
        "HGETDEL k FIELDS 2147483647 a",
        "HGETDEL k FIELDS 9223372036854775808 a",
        "HPERSIST k FIELDS 2147483648 a",
        "HGETEX k FIELDS 2147483648 a",
        "HGETEX k FIELDS 9223372036854775808 a",
        "HGETEX k EX x FIELDS 0 a",
        "HGETEX k EX x FIELDS 2 a",
        "HGETEX k EX x FOO 1 a",
        "HGETEX k EX -1 FIELDS 2 a",
        "HGETEX k EX -1 FOO 1 a",
        "HGETEX k EX 10 FOO 1 a",
        "HGETEX k EX 10 FOO FIELDS 1 a",
        "HGETEX k EX 9223372036854775807 FIELDS 2 a",
        "HGETEX k EX 9223372036854775808 FIELDS 1 a",
        "HGETEX k EX 10 FIELDS 1",
        "HGETEX k PERSIST 1 2 3",
        "HGETEX k PX 70368744177663 FIELDS 1 a",
        "HGETEX k EX 1 2 3",
        "HGETEX k NX 1 2",
        "HGETEX none EX x FIELDS 1 a",
        "HGETEX none FOO FIELDS 1 a",
        "HGETEX none PXAT 70368744177664 FIELDS 1 a",
        "HSETEX k EX x FIELDS 0 a 1",
        "HSETEX k EX x FIELDS 1 a 1",
        "HSETEX k EX -1 FIELDS 0 a 1",
        "HSETEX k EX x FOO 1 a 1",
        "HSETEX k FOO EX x FIELDS 1 a 1",
        "HSETEX k FNX EX x FIELDS 0 a 1",
        "HSETEX k FIELDS 2147483648 a 1",
        "HSETEX k FIELDS 2147483647 a 1",
        "HSETEX k FIELDS 1073741824 a 1",
        "HSETEX k FIELDS 9223372036854775808 a 1",
        "HSETEX k EX 10 FXX FIELDS 1 a 1",
        "HSETEX k FXX EX 10 FIELDS 1 a 1",
        "HSETEX k fxx ex 10 fields 1 a 1",
        "HSETEX k EX FIELDS 1 a 1",
        "HSETEX k KEEPTTL EX 1 FIELDS 1 a 1",
        "HSETEX k FNX FXX EX x FIELDS 1 a 1",
        "HSETEX k KEEPTTL EX x FIELDS 1 a 1",
        "HSETEX k 1 2 3 4",
        "HSETEX k FNX KEEPTTL FNX KEEPTTL",
        "HSETEX k KEEPTTL FNX FIELDS 1 zz",
        "HSETEX k PX 9223372036854775807 FIELDS 1 a 1",
        "HSETEX k EX 9223372036854775807 FIELDS 1 a 1",
        "HSETEX k EX 1 FIELDS",
        "HSETEX k EX 1 FIELDS 1",
        "HSETEX k EX 1 FXX FIELDS 1",
        "HSETEX k EX 1 FXX FIELDS 1 a",
        "HSETEX k FNX EX 1 KEEPTTL",
        "HSETEX k FNX FIELDS 1 EX",
        "HSETEX k FNX KEEPTTL EX",
        "HSETEX k FNX KEEPTTL FOO",
        "HGETEX k PERSIST EX 5 6",
        "HGETEX k PERSIST KEEPTTL FIELDS 1",
        "HGETEX k EX 1 PERSIST FIELDS 1",
        "HGETEX k FIELDS 1 FIELDS",
        "HGETEX k EX 10 FIELDS 1 FIELDS",
        "HGETEX k PERSIST FIELDS 1 a b",
        "HPERSIST k FIELDS 1 a b",
        "HPERSIST k FIELDS 3 a b",
        "HEXPIREAT k 1 FIELDS 2 a a",
        "HEXPIRETIME k FIELDS 0 a",
        "HPTTL k FIELD 1 a",
        "HPTTL k fields 1 a",
        "HPTTL none foo 1 a",
    ],
    "what_is_missing": [
        "HSET k a 1",
        "HSETEX k EX 1 FIELDS x a",
        "HSETEX k EX 1 FIELDS x a b",
        "HSETEX k FNX FIELDS 1 a b c",
        "HGETEX k EX 10 FIELDS",
        "HGETEX k EX 10 x",
        "HGETEX k EX x y",
        "HGETEX k EX -1 y",
        "HSETEX k FIELDS 0 a b",
        "HSETEX k FNX FNX a",
        "HGETEX k EX FIELDS",
        "HGETEX k PERSIST FIELDS",
        "HPERSIST k FIELDS",
        "HSETEX k FIELDS 1 a b FNX",
    ],
}

# Under hash-max-listpack-entries 4, hash-max-listpack-value 5.
ENCODINGS = [
    "HSET k a 1 b 2 c 3 d 4 e 5",
    "OBJECT ENCODING k",
    "HSET m a 1 a 2 a 3 a 4 a 5",
    "OBJECT ENCODING m",
    "HSET n a 1 b 2 c 3",
    "HSET n a 1 b 2 c 3 d 4",
    "OBJECT ENCODING n",
    "HPEXPIREAT n 70000000000000 FIELDS 1 a",
    "OBJECT ENCODING n",
    "HSET n e 1",
    "OBJECT ENCODING n",
    "HPEXPIRETIME n FIELDS 5 a b c d e",
    "HSET o a 1",
    "HSETEX o FIELDS 4 a 1 b 2 c 3 d 4",
    "OBJECT ENCODING o",
    "HSETEX o FIELDS 1 f 1",
    "OBJECT ENCODING o",
    "HSET p a 1",
    "HSETEX p FIELDS 5 a 1 a 1 a 1 a 1 a 1",
    "OBJECT ENCODING p",
    "HSETEX q PXAT 70000000000000 FIELDS 5 a 1 b 1 c 1 d 1 e 1",
    "OBJECT ENCODING q",
    "HSET r a 1",
    "HSETNX r a xxxxxx",
    "OBJECT ENCODING r",
    "HSETNX r b xxxxxx",
    "OBJECT ENCODING r",
    "HSET u a 1",
    "HSETEX u FXX FIELDS 1 b xxxxxx",
    "OBJECT ENCODING u",
    "HSETEX u FXX FIELDS 1 a xxxxxx",
    "OBJECT ENCODING u",
    "HSET v a 1",
    "HINCRBY v a 123456",
    "OBJECT ENCODING v",
    "HSET w a 1",
    "HINCRBYFLOAT w a 0.12345",
    "OBJECT ENCODING w",
    "HSET x a 1",
    "HPEXPIREAT x 70000000000000 FIELDS 1 a",
    "HINCRBY x a 123456",
    "OBJECT ENCODING x",
    "HPEXPIRETIME x FIELDS 1 a",
    "HSET y xxxxxx 1",
    "OBJECT ENCODING y",
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_replies_are_those_of_redis_server(pair: Pair, name: str) -> None:
    for line in SCRIPTS[name]:
        pair.same(*shlex.split(line))


def test_encodings_change_where_the_server_changes_them(pair: Pair) -> None:
    pair.same("CONFIG", "SET", "hash-max-listpack-entries", 4)
    pair.same("CONFIG", "SET", "hash-max-listpack-value", 5)
    try:
        for line in ENCODINGS:
            pair.same(*shlex.split(line))
    finally:
        pair.same("CONFIG", "SET", "hash-max-listpack-entries", 512)
        pair.same("CONFIG", "SET", "hash-max-listpack-value", 64)


@pytest.mark.parametrize("name", ["HEXPIRE", "HPEXPIRE"])
def test_relative_times_are_near_the_servers(pair: Pair, name: str) -> None:
    pair.same("HSET", "k", "a", 1, "b", 2)
    for seconds in (100, 1000, 10**6):
        pair.same(name, "k", seconds if name == "HEXPIRE" else seconds * 1000, "FIELDS", 1, "a")
        elapsed_ms = pair.elapsed_ms()
        ours, theirs = (parse_one(reply) for reply in pair.both("HPEXPIRETIME", "k", "FIELDS", 1, "a"))
        assert isinstance(ours, list)
        assert isinstance(theirs, list)
        assert abs(ours[0] - theirs[0]) <= elapsed_ms
        pair.same("HPTTL", "k", "FIELDS", 1, "a")
        left = parse_one(pair.same("HTTL", "k", "FIELDS", 1, "a"))
        assert isinstance(left, list)
        assert seconds - 1 - pair.elapsed_ms() // 1000 <= left[0] <= seconds


@pytest.mark.parametrize("size", [40, 900])
@pytest.mark.parametrize("count", [1, 7, 13, 14, 39, 40, -1, -100])
def test_hrandfield_gives_as_many_fields_with_their_values(pair: Pair, size: int, count: int) -> None:
    pair.same("HSET", "k", *(word for number in range(size) for word in (f"f{number}", f"v{number}")))
    for reply in pair.both("HRANDFIELD", "k", count, "WITHVALUES"):
        parsed = parse_one(reply)
        assert isinstance(parsed, list)
        pairs = (
            parsed
            if isinstance(parsed[0], list)
            else [parsed[at : at + 2] for at in range(0, len(parsed), 2)]
        )
        assert len(pairs) == (-count if count < 0 else min(count, size))
        assert all(value == b"v" + field[1:] for field, value in pairs)
        fields = [field for field, _ in pairs]
        assert count < 0 or len(set(fields)) == len(fields)
        if size == 40 and count > 0:
            assert fields == sorted(fields, key=lambda field: int(field[1:]))


@pytest.mark.parametrize("option", [[], ["NOVALUES"], ["MATCH", "f1*"]])
@pytest.mark.parametrize("size", [40, 900])
def test_hscan_in_steps_gives_every_field(pair: Pair, size: int, option: list[str]) -> None:
    pair.same("HSET", "k", *(word for number in range(size) for word in (f"f{number}", f"v{number}")))
    found: list[set[bytes]] = []
    for side in (0, 1):
        seen: set[bytes] = set()
        cursor = b"0"
        while True:
            reply = parse_one(pair.both("HSCAN", "k", cursor, "COUNT", 3, *option)[side])
            assert isinstance(reply, list)
            seen.update(reply[1])
            cursor = reply[0]
            if cursor == b"0":
                break
        found.append(seen)
    assert found[0] == found[1] != set()


def test_counts_beyond_all_reason_are_refused_and_cost_nothing(pair: Pair) -> None:
    """redis-server would fill its memory with these."""
    pair.same("HSET", "k", "a", "1")
    for count in (-(2**31), 1 - 2**62):
        for more in (b"", b" WITHVALUES"):
            assert pair.ours.send(b"HRANDFIELD k %d%b\r\n" % (count, more)).startswith(
                b"-ERR Insufficient memory"
            )
    pair.same("HRANDFIELD", "k", 2**62 - 1, "WITHVALUES")
