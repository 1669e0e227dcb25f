"""Commands on sorted sets and positions: our raw replies, and what they leave behind, are redis-server's."""

from __future__ import annotations

import random
import struct
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

SCRIPTS = {
    "scores": """
        ZADD z 0x10 a|ZADD z "" a|ZADD z +1 a|ZADD z +inf a|ZADD z Infinity b|ZADD z INF b
        ZADD z infinit b|ZADD z nan b|ZADD z -nan b|ZADD z nan(1) b|ZADD z 1e400 c|ZADD z -1e400 c
        ZADD z 1e-400 c|ZADD z 1. c|ZADD z .5 c|ZADD z . c|ZADD z 1e c|ZADD z 1e+ c|ZADD z 1e5 c
        ZADD z 1E5 c|ZADD z -0 d|ZSCORE z d|ZSCORE z d|ZADD z 1d5 c|ZADD z 4.9e-324 e|ZSCORE z e
        ZADD z 2e-324 e|ZSCORE z e|ZADD z 1_0 c|ZADD z 00012 f|ZADD z -00012 f
        ZADD z 00000000000000000000000000000000000000000000000000000000000000000000000000000000001 f
        ZADD z 1e99999999999999999999 f|ZADD z 0e99999999999999999999 f|ZADD z --1 f|ZADD z +-1 f
        ZADD z -+1 f|ZADD z 123456789012345678901234567890 g|ZSCORE z g|ZRANGE z 0 -1 WITHSCORES
        ZRANGE z 0 -1 WITHSCORES|ZCOUNT z "" 5|ZCOUNT z 0x0 5|ZCOUNT z ( 5|ZCOUNT z (0x10 5|ZCOUNT z nan 5
        ZCOUNT z -inf +inf|ZCOUNT z -infinity (+INFINITY|ZCOUNT z 1e400 5|ZCOUNT z ((1 5|ZCOUNT z 1e-400 5
        ZCOUNT z + 5|ZCOUNT z +1 5|ZCOUNT z .e 5|ZADD z 0x b|ZADD z 0x1p3 a|ZADD z 0x.8 a
        ZADD z 0x1.8p-1 a|ZADD z 0xg a|ZADD z -0x1p3 a|ZADD z 0x1p9999 a|ZADD z 0x1p-9999 a|ZADD z 0x1p a
        ZADD z 0X1P+3 a|ZADD z 0x1p+ a|ZCOUNT z 1. 5|ZCOUNT z .5 5|ZCOUNT z -.5 5|ZCOUNT z 1e 5
        ZCOUNT z 1e+ 5|ZCOUNT z - 5|ZCOUNT z -+1 5|ZCOUNT z +-1 5|ZCOUNT z ++1 5|ZCOUNT z +inf 5
        ZCOUNT z inf 5|ZCOUNT z infinit 5|ZCOUNT z infx 5|ZCOUNT z -nan 5|ZCOUNT z nan( 5
        ZCOUNT z 00001e00001 5|ZCOUNT z 1e99999999999999999999999 5|ZCOUNT z 1e-99999999999999999999999 5
        CONFIG SET zset-max-listpack-entries 0|ZADD s -0 a|ZSCORE s a|ZSCORE s a|ZADD s 0 a|ZSCORE s a
        ZADD s 1 a|ZADD s -0 a|ZSCORE s a|ZINCRBY s -0 a|ZADD s INCR -0 new|ZRANGE s 0 -1 WITHSCORES
        ZADD s 3 u|CONFIG SET zset-max-listpack-entries 128|ZUNIONSTORE t 1 s WEIGHTS -1
        ZRANGE t 0 -1 WITHSCORES|ZUNION 1 s WEIGHTS -1 WITHSCORES|OBJECT ENCODING t|ZADD lp INCR -0 a
        ZADD lp INCR -0 a|ZADD lp 1 b|ZADD lp INCR -1 b|ZINCRBY lp -0 c|ZRANGE lp 0 -1 WITHSCORES""",
    "commands": """
        SET s x|ZADD z 1 a 2 b 3 c|ZADD z|ZADD z 1|ZADD z NX|ZADD z NX XX 1 a|ZADD z NX GT 1 a
        ZADD z GT LT 1 a|ZADD z LT NX XX 1 a|ZADD z INCR 1 a 2 b|ZADD z 1 a 2|ZADD z 1 a x b
        ZADD s NX XX 1 a|ZADD s x a|ZADD s 1 a|ZADD z XX INCR 1 nosuch|ZADD z XX INCR 1 nosuch
        ZADD z NX INCR 1 a|ZADD z INCR inf a|ZADD z INCR -inf a|ZINCRBY z -inf a|ZINCRBY z x a
        ZINCRBY s 1 a|ZINCRBY z NX a|ZINCRBY z ch incr|ZINCRBY z 1 nx|ZADD z 1 a|ZADD z CH 5 a 6 b 7 d|ZADD z ch nx 5 a 6 b 7 e|ZADD nokey XX 1 a
        EXISTS nokey|ZPOPMIN s 0|ZPOPMIN s|ZPOPMIN z 0|ZPOPMIN z -1|ZPOPMIN z x|ZPOPMIN z 1 2
        ZPOPMIN nokey|ZPOPMIN nokey 2|ZPOPMIN nokey|ZPOPMIN nokey 2|ZPOPMIN z|ZADD z 1 a 1 b|ZPOPMIN z
        ZPOPMIN z 2|ZADD z 1 a 2 b 3 c 4 d|ZPOPMAX z 1|ZPOPMAX z 9999999999999999999|ZMPOP 0 z MIN
        ZMPOP x z MIN|ZMPOP 1 z|ZMPOP 2 z MIN|ZMPOP 1 z FOO|ZMPOP 1 z MIN COUNT|ZMPOP 1 z MIN COUNT 0
        ZMPOP 1 z MIN COUNT x|ZMPOP 1 z MIN COUNT 1 COUNT 1|ZMPOP 1 s MIN|ZMPOP 1 nokey MIN
        ZMPOP 1 nokey MIN|ZMPOP 2 nokey z MIN COUNT 2|ZADD z 1 a 2 b 3 c 4 d|ZMPOP 2 nokey z MAX COUNT 2
        ZADD z 1 a 2 b 3 c 4 d|ZRANK z a|ZADD z 1 a 2 b 3 c 4 d|ZRANK z a WITHSCORE|ZRANK z b WITHSCORE
        ZRANK z b WITHSCORES|ZRANK z b WITHSCORE x|ZRANK z nokey WITHSCORE|ZRANK z nokey WITHSCORE
        ZRANK nokey a WITHSCORE|ZRANK nokey a|ZREVRANK z a|ZMSCORE z a x|ZMSCORE z a x|ZMSCORE nokey a x
        ZMSCORE s a x|ZSCORE nokey a|ZRANGE z 0 -1 LIMIT 0 -1|ZRANGE z 0 -1 LIMIT 0 1
        ZRANGE z 0 -1 LIMIT 1|ZRANGE z 0 -1 LIMIT a b|ZRANGE z 0 -1 BYLEX WITHSCORES
        ZRANGE z 0 -1 BYLEX BYSCORE|ZRANGE z 0 -1 REV REV|ZRANGE z 0 -1 REV WITHSCORES|ZRANGE z 0 -1 foo
        ZRANGE z (1 5 BYSCORE LIMIT 1 1|ZRANGE z 5 (1 BYSCORE REV LIMIT 1 -1
        ZRANGE z 1 5 BYSCORE LIMIT -1 2|ZRANGE z a b|ZRANGE s a b|ZRANGE s 0 1|ZRANGE z a b BYSCORE
        ZRANGE z a b BYLEX|ZRANGE z [a (c BYLEX|ZRANGE z - + BYLEX|ZRANGE z + - BYLEX|ZRANGE z +a - BYLEX
        ZRANGE z "" - BYLEX|ZREVRANGEBYLEX z [c [a LIMIT 1 1|ZREVRANGEBYSCORE z 3 1 WITHSCORES LIMIT 0 2
        ZREVRANGEBYSCORE z 3 1 WITHSCORES LIMIT 0 2|ZRANGEBYSCORE z 3 1 foo|ZRANGEBYSCORE z 1 3 BYSCORE
        ZRANGEBYLEX z - + WITHSCORES|ZREVRANGE z 0 -1 LIMIT 0 1|ZREVRANGE z 0 -1 REV
        ZRANGE z 9999999999999999999 1|ZRANGE z 0 9223372036854775807
        ZRANGE z -9223372036854775808 9223372036854775807|ZRANGESTORE d z 0 -1 WITHSCORES
        ZRANGESTORE d z 0 1|ZRANGESTORE d s 0 1|ZRANGESTORE d nokey 0 1|EXISTS d
        ZRANGESTORE z z 1 2 BYSCORE|ZRANGE z 0 -1|ZRANGESTORE s z 0 -1|TYPE s|SET s x
        ZREMRANGEBYRANK z a b|ZREMRANGEBYSCORE z a b|ZREMRANGEBYLEX z a b|ZREMRANGEBYRANK s 0 1
        ZREMRANGEBYLEX s - +|ZREM s a|ZREM z a b zz|ZREM nokey a|ZCOUNT s x y|ZCOUNT s 1 2|ZLEXCOUNT s x y
        ZLEXCOUNT s - +""",
    "several": """
        SET s x|SADD set a b c|ZADD z 1 a 2 b 3 c|ZADD y 10 a 20 d|ZUNION 0 z|ZUNION x z|ZUNION -1 z
        ZUNION 2 z|ZUNION 1 z FOO|ZUNION 2 z s|ZUNION 2 z s FOO|ZUNION 2 z y WEIGHTS 1
        ZUNION 2 z y WEIGHTS 1 x|ZUNION 2 z y WEIGHTS 1 nan|ZUNION 2 z y WEIGHTS 2 3 WITHSCORES
        ZUNION 2 z y WEIGHTS 2 3 WITHSCORES|ZUNION 2 z y AGGREGATE|ZUNION 2 z y AGGREGATE foo
        ZUNION 2 z y AGGREGATE MIN WITHSCORES AGGREGATE max|ZUNION 2 z set WITHSCORES
        ZINTER 2 z set WITHSCORES|ZDIFF 2 z y WITHSCORES|ZDIFF 2 z y WEIGHTS 1 1|ZDIFF 2 z y AGGREGATE SUM
        ZUNIONSTORE d 0 z|ZINTERSTORE d 0 z|ZDIFFSTORE d 0 z|ZDIFF 0 z|ZINTER 0 z|ZINTERCARD 0 z
        ZUNIONSTORE d 2 z y WITHSCORES|ZUNIONSTORE d 2 z y|ZINTERSTORE d 2 z nokey|EXISTS d
        ZINTERCARD 2 z y|ZINTERCARD 2 z y LIMIT|ZINTERCARD 2 z y LIMIT -1|ZINTERCARD 2 z y LIMIT x
        ZINTERCARD 2 z y LIMIT 0|ZINTERCARD 2 z z LIMIT 2|ZINTERCARD 2 z z WITHSCORES|ZINTERCARD x z
        ZINTERCARD 3 z y|ZUNIONSTORE d x z|ZRANDMEMBER z x|ZRANDMEMBER nokey x|ZRANDMEMBER s
        ZRANDMEMBER nokey|ZRANDMEMBER nokey 1|ZRANDMEMBER z 0|ZRANDMEMBER z 3 WITHSCORES
        ZRANDMEMBER z 3 WITHSCORES|ZRANDMEMBER z 10|ZRANDMEMBER z 3 FOO|ZRANDMEMBER z 3 WITHSCORES x
        ZRANDMEMBER z 9223372036854775807|ZRANDMEMBER z 9223372036854775807 WITHSCORES
        ZRANDMEMBER nokey -9223372036854775808|ZRANDMEMBER nokey -4611686018427387904 WITHSCORES
        ZRANDMEMBER nokey -4611686018427387903 WITHSCORES|ZRANDMEMBER nokey -9223372036854775807|ZSCAN z 0
        ZSCAN z 0|ZSCAN z 0 COUNT 1|ZSCAN z 0 COUNT 0|ZSCAN z 0 COUNT x|ZSCAN z 0 MATCH [ab]
        ZSCAN z 0 TYPE zset|ZSCAN z 0 NOVALUES|ZSCAN z 0 NOSCORES|ZSCAN z x|ZSCAN nokey x
        ZSCAN nokey 0 FOO|ZSCAN s 0|ZSCAN s x|ZSCAN z 5|ZSCAN z 0 MATCH
        CONFIG SET zset-max-listpack-entries 0|ZADD big 1 a 2 b 3 c|ZRANDMEMBER big 3 WITHSCORES
        ZSCAN big 0|CONFIG SET zset-max-listpack-entries 128|ZUNIONSTORE|ZUNIONSTORE d 2 z
        ZUNIONSTORE d 9999999999999 z""",
    "positions": """
        SET s x|GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania|GEOADD g 200 10 x
        GEOADD g 10 86 x|GEOADD g inf 86 x|GEOADD g x 86 x|GEOADD g NX XX 1 1 a|GEOADD g NX CH XX
        GEOADD g NX CH 1|GEOADD g 1 1 a 2|GEOADD s x 1 a|GEOADD s 1 1 a|GEODIST g Palermo Catania
        GEODIST g Palermo Catania km|GEODIST g Palermo Catania mi|GEODIST g Palermo Catania FT
        GEODIST g Palermo Palermo|GEODIST g Palermo Catania x|GEODIST g Palermo Catania km x
        GEODIST g Palermo nope|GEODIST g Palermo nope|GEODIST nokey a b|GEODIST nokey a b x|GEODIST s a b
        GEOPOS g Palermo nope Catania|GEOPOS g Palermo nope Catania|GEOPOS nokey a b|GEOPOS nokey a b
        GEOPOS g|GEOPOS nokey|GEOHASH g Palermo nope Catania|GEOHASH g nope|GEOHASH nokey a|GEOHASH g
        GEORADIUS g 15 37 200 km WITHDIST WITHCOORD WITHHASH
        GEORADIUS g 15 37 200 km WITHDIST WITHCOORD WITHHASH|GEORADIUS g 15 37 x km
        GEORADIUS g 15 37 -1 km|GEORADIUS g 15 37 1 x|GEORADIUS g 15 x 1 km|GEORADIUS g 15 370 1 km
        GEORADIUS g 15 37 200 km COUNT 0|GEORADIUS g 15 37 200 km COUNT x|GEORADIUS g 15 37 200 km COUNT
        GEORADIUS g 15 37 200 km ANY|GEORADIUS g 15 37 200 km COUNT 1|GEORADIUS g 15 37 200 km COUNT 1 ANY
        GEORADIUS g 15 37 200 km STORE d WITHDIST|GEORADIUS g 15 37 200 km STORE d STOREDIST e
        ZRANGE d 0 -1 WITHSCORES|ZRANGE e 0 -1 WITHSCORES|GEORADIUS_RO g 15 37 200 km STORE d
        GEORADIUS nokey 15 37 200 km STORE e|EXISTS e|GEORADIUSBYMEMBER g nope 100 km
        GEORADIUSBYMEMBER g Palermo 200 km DESC|GEORADIUSBYMEMBER nokey nope x y
        GEORADIUSBYMEMBER nokey nope x y FOO|GEORADIUSBYMEMBER_RO g Palermo 200 km STORE x
        GEORADIUS s 15 370 1 km|GEOSEARCH g|GEOSEARCH g FROMMEMBER Palermo BYRADIUS 200 km
        GEOSEARCH g FROMMEMBER Palermo|GEOSEARCH g BYRADIUS 200 km ASC WITHDIST
        geosearch g FROMLONLAT 15 37 ASC WITHDIST WITHHASH
        GEOSEARCH g FROMLONLAT 15 37 FROMMEMBER Palermo BYRADIUS 200 km
        GEOSEARCH g FROMMEMBER Palermo FROMLONLAT 15 37 BYRADIUS 200 km
        GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km BYBOX 1 1 km
        GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km DESC WITHCOORD
        GEOSEARCH g FROMLONLAT 15 37 BYBOX x 400 km|GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 x km
        GEOSEARCH g FROMLONLAT 15 37 BYBOX -1 1 km|GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 1 z
        GEOSEARCH g FROMLONLAT 15 37 BYPOLYGON 3 1 1 2 2 3 3|GEOSEARCH nokey FROMMEMBER x BYRADIUS 200 km
        GEOSEARCH g FROMMEMBER nope BYRADIUS 200 km
        GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km STOREDIST
        GEOSEARCHSTORE d g FROMLONLAT 15 37 BYBOX 400 400 km STOREDIST
        GEOSEARCHSTORE d g FROMLONLAT 15 37 BYBOX 400 400 km WITHDIST|ZRANGE d 0 -1 WITHSCORES
        GEOSEARCHSTORE d g FROMLONLAT 15 37 BYBOX 1 1 km|EXISTS d|GEOSEARCHSTORE d g FROMLONLAT 15 37
        GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ANY
        ZADD w -5 neg 1.5 frac 1e300 big inf inf 18446744073709551615 u -1e300 nb 9223372036854775808 q
        GEOPOS w neg frac big inf u nb q|GEOHASH w neg frac big inf u nb q|GEODIST w neg frac
        GEORADIUS g 0 0 0 m|GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 22000 km WITHHASH
        GEOADD big 180 85.05112878 ne -180 -85.05112878 sw 180 -85.05112878 se 0 0 c|GEOPOS big ne sw se c
        GEOHASH big ne sw se c|GEOSEARCH big FROMLONLAT 180 85 BYRADIUS 100 km""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_replies_are_the_servers(pair: Pair, name: str) -> None:
    differences: list[str] = []
    for line in SCRIPTS[name].replace("\n", "|").split("|"):
        request = [b"" if word == '""' else word.encode("latin-1") for word in line.split()]
        if request and request[:2] != [b"ZSCAN", b"big"]:  # a skiplist, which has no order
            ours, theirs = pair.both(*request)
            if ours != theirs:
                differences.append(f"{line.strip()!r}: ours {ours!r}, redis-server {theirs!r}")
    pair.same("CONFIG", "SET", "zset-max-listpack-entries", 128)
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize(
    "text",
    [b" 1", b"1 ", b"\t1", b"\n1", b"1\0", b"\0", b"", b"\xa01", b"1\r", b"0x", b"0x1p", b"0x1p+", b"0X1P+3"],
)
def test_odd_texts_of_numbers_are_read_alike(pair: Pair, text: bytes) -> None:
    pair.same("ZADD", "z", 0, "a", 1, "b")
    pair.same("ZADD", "z", text, "c")
    pair.same("ZINCRBY", "z", text, "a")
    pair.same("ZCOUNT", "z", text, "+inf")
    pair.same("ZCOUNT", "z", b"(" + text, "+inf")
    pair.same("ZUNION", 1, "z", "WEIGHTS", text, "WITHSCORES")
    pair.same("ZRANGE", "z", 0, -1, "WITHSCORES")
    pair.same("GEOADD", "g", text, 1, "m")


def doubles(count: int) -> list[float]:
    """Doubles of every kind, from a fixed seed."""
    source = random.Random(20)
    values: list[float] = []
    while len(values) < count:
        value = (
            struct.unpack("<d", source.randbytes(8))[0],
            round(source.uniform(-1000, 1000), source.randrange(6)),
            source.random(),
            source.randrange(1 << 52) * 2.0 ** source.randrange(-1074, -1020),
            source.randrange(-(10**17), 10**17) / 10 ** source.randrange(25),
            2.0 ** source.randrange(-1074, 1024),
            float(source.randrange(1 << source.randrange(1, 64))),
            float(f"{source.randrange(1000)}e{source.randrange(-30, 30)}"),
        )[len(values) % 8]
        if value == value:
            values.append(value)
    return values


def test_scores_have_the_servers_digits(pair: Pair) -> None:
    values = doubles(4000)
    for start in range(0, len(values), 100):
        some = values[start : start + 100]
        pair.same("ZADD", "z", *(item for at, value in enumerate(some) for item in (repr(value), at)))
        pair.same("ZRANGE", "z", 0, -1, "WITHSCORES")
        pair.same("ZMSCORE", "z", *range(100))


@pytest.mark.parametrize(("limit", "value"), [("entries", 3), ("value", 3)])
def test_every_way_into_a_skiplist(pair: Pair, limit: str, value: int) -> None:
    def encodings() -> None:
        for key in "abcde":
            pair.same("OBJECT", "ENCODING", key)

    pair.same("CONFIG", "SET", f"zset-max-listpack-{limit}", value)
    try:
        pair.same("ZADD", "a", 1, "m1", 2, "m2", 3, "m3")
        encodings()
        pair.same("ZADD", "a", "XX", 4, "m1", 4, "m2", 4, "m3", 4, "m4")
        encodings()
        pair.same("DEL", "a")
        pair.same("ZADD", "a", "-0", "m1", 1, "long name")
        pair.same("ZRANGE", "a", 0, -1, "WITHSCORES")
        encodings()
        pair.same("ZADD", "a", 2, "m2", 3, "m3")
        pair.same("ZINCRBY", "a", "-0", "m4")
        encodings()
        for store in (("ZRANGESTORE", "b", "a", 0, 2), ("ZRANGESTORE", "b", "a", "-inf", "inf", "BYSCORE")):
            pair.same(*store)
            encodings()
            pair.same("ZRANGE", "b", 0, -1, "WITHSCORES")
        pair.same("ZUNIONSTORE", "c", 2, "a", "b")
        pair.same("ZINTERSTORE", "d", 2, "a", "b")
        pair.same("ZDIFFSTORE", "e", 2, "a", "b")
        encodings()
        pair.same("ZREM", "a", "m1", "m2", "m3", "long name")
        pair.same("COPY", "a", "e", "REPLACE")
        encodings()
    finally:
        pair.same("CONFIG", "SET", f"zset-max-listpack-{limit}", {"entries": 128, "value": 64}[limit])


def test_equally_distant_members_come_in_the_servers_order(pair: Pair) -> None:
    source = random.Random(3)
    places = [(source.uniform(-1, 1), source.uniform(-1, 1)) for _ in range(12)]
    for at in range(500):
        longitude, latitude = places[source.randrange(len(places))]
        pair.same("GEOADD", "g", repr(longitude), repr(latitude), f"m{at}")
    for count in (1, 5, 7, 40, 41, 100, 250, 499, 500, 501):
        for order in ("ASC", "DESC"):
            pair.same("GEOSEARCH", "g", "FROMLONLAT", 0, 0, "BYRADIUS", 400, "km", order, "COUNT", count)
        pair.same("GEOSEARCH", "g", "FROMMEMBER", "m1", "BYBOX", 100, 300, "km", "COUNT", count, "WITHDIST")
        pair.same("GEORADIUS", "g", 0, 0, 100, "km", "COUNT", count, "ANY")


def test_absurd_arguments_cost_nothing(pair: Pair) -> None:
    pair.same("ZADD", "z", *(item for at in range(200) for item in (at, f"m{at}")))
    begun = time.process_time()
    for huge in (2**31, 2**63 - 1, -(2**63), 2**63, 10**30):
        pair.same("ZRANGE", "z", huge, -1)
        pair.same("ZRANGE", "z", 0, huge)
        pair.same("ZRANGE", "z", "-inf", "+inf", "BYSCORE", "LIMIT", 0, huge)
        pair.same("ZRANGE", "z", "-inf", "+inf", "BYSCORE", "LIMIT", huge, 1)
        pair.same("ZRANGE", "z", "+", "-", "BYLEX", "REV", "LIMIT", huge, huge)
        pair.same("ZREVRANGE", "z", huge, huge)
        pair.same("ZREMRANGEBYRANK", "z", huge, huge)
        pair.same("ZUNION", huge, "z")
        pair.same("ZINTERCARD", huge, "z")
        pair.same("ZINTERCARD", 1, "z", "LIMIT", huge)
        pair.same("ZMPOP", huge, "z", "MIN")
        pair.same("ZMPOP", 1, "no", "MIN", "COUNT", huge)
        pair.same("ZRANDMEMBER", "no", huge)
        pair.same("ZRANDMEMBER", "no", huge, "WITHSCORES")
        pair.same("ZPOPMIN", "no", huge)
        pair.same("GEOSEARCH", "z", "FROMLONLAT", 0, 0, "BYRADIUS", huge, "mi", "COUNT", huge)
        pair.same("GEOSEARCH", "z", "FROMLONLAT", 0, 0, "BYBOX", "1e308", huge, "km", "ASC")
    assert time.process_time() - begun < 5


def test_random_members_are_of_the_set_and_distinct(pair: Pair) -> None:
    names = {f"m{at}".encode() for at in range(300)}
    pair.ours.send(b"")
    pair.same("ZADD", "z", *(item for name in sorted(names) for item in (1, name)))
    for count in (1, 10, 150, 299, 300, 5000):
        ours, theirs = pair.both("ZRANDMEMBER", "z", count)
        for reply in (ours, theirs):
            found = [word for word in reply.split(b"\r\n") if word.startswith(b"m")]
            assert len(found) == len(set(found)) == min(count, 300)
            assert set(found) <= names
    ours, theirs = pair.both("ZRANDMEMBER", "z", -1000, "WITHSCORES")
    assert ours.count(b"m") == theirs.count(b"m") == 1000
    assert len({word for word in ours.split(b"\r\n") if word.startswith(b"m")}) > 200
