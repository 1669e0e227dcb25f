"""BZPOPMIN and its kin with several clients, and what is told of changes: as by redis-server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_crowd import Crowd

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair, RealServer

pytestmark = pytest.mark.conformance

# Steps separated by bars; before the colon stands the client that speaks.
SCRIPTS = {
    "nothing to wait for": "w:ZADD k 1 a 2 b 3 c 4 d|a:BZPOPMIN k 0|a:BZPOPMAX none k 0|a:BZMPOP 0 1 k MIN|w:ZCARD k",
    "first come, first served": "a:BZPOPMIN k 0|b:BZPOPMAX k 0|w:ZADD k 1 a|w:ZADD k 2 b|w:EXISTS k",
    "several served at once": "a:BZPOPMIN k 0|b:BZPOPMAX k 0|c:BZPOPMIN k 0|w:ZADD k 1 a 2 b 3 c 4 d|w:ZRANGE k 0 -1",
    "more waiting than there is": "a:BZPOPMIN k 0|b:BZPOPMIN k 0|w:ZADD k 1 a|w:ZADD k 2 b",
    "several keys": "a:BZPOPMIN x y z 0|w:ZADD z 1 a|a:BZPOPMAX x y x 0|w:ZADD y 2 b|w:ZADD x 3 c|w:ZRANGE x 0 -1",
    "woken when EXEC is over": "a:BZPOPMIN k 0|w:MULTI|w:ZADD k 2 b|w:ZADD k 1 a|w:EXEC|w:ZRANGE k 0 -1",
    "taken back inside EXEC": "a:BZPOPMIN k 0|w:MULTI|w:ZADD k 1 a|w:DEL k|w:EXEC|w:ZADD k 2 b",
    "woken by ZINCRBY": "a:BZPOPMIN k 0|w:ZINCRBY k 5 a",
    "woken by stores": "a:BZPOPMIN k 0|w:ZADD j 1 a 2 b|w:ZUNIONSTORE k 1 j|w:ZRANGE k 0 -1",
    "woken by ZRANGESTORE": "a:BZMPOP 0 1 k MAX COUNT 5|w:ZADD j 1 a 2 b|w:ZRANGESTORE k j 0 -1|w:EXISTS k",
    "woken by GEOADD": "a:BZPOPMIN k 0|w:GEOADD k 1 1 a",
    "woken by GEOSEARCHSTORE": "a:BZPOPMAX k 0|w:GEOADD j 1 1 a|w:GEOSEARCHSTORE k j FROMLONLAT 1 1 BYRADIUS 1 km",
    "filled by RENAME": "a:BZPOPMIN k 0|w:ZADD j 1 a|w:RENAME j k|w:EXISTS j k",
    "another type does not wake": "a:BZPOPMIN k 0|w:SADD k a|w:DEL k|w:RPUSH k a|w:DEL k|w:ZADD k 1 a",
    "BZMPOP takes what there is": "a:BZMPOP 0 2 x y MIN COUNT 2|b:BZMPOP 0 1 y MAX COUNT 10|w:ZADD y 1 a 2 b 3 c 4 d",
    "in MULTI nothing waits": "a:MULTI|a:BZPOPMIN k 0|a:BZPOPMAX k 0|a:BZMPOP 0 1 k MIN|a:EXEC",
    "in MULTI what is there is served": "w:ZADD k 1 a 2 b|a:MULTI|a:BZPOPMIN k 0|a:BZMPOP 0 1 k MIN|a:EXEC",
    "pipelined behind": "a:BZPOPMIN k 0|a:PING|a:ZCARD k|w:ZADD k 1 a 2 b",
    "watched key of a served client": "b:WATCH k|a:BZPOPMIN k 0|w:ZADD k 1 a|b:MULTI|b:PING|b:EXEC",
    "a watched key that does not change": "w:ZADD k 1 a|b:WATCH k|w:ZADD k 1 a|w:ZADD k NX 2 a|w:ZREM k z|b:MULTI|b:PING|b:EXEC",
    "a watched key that changes": "w:ZADD k 1 a|b:WATCH k|w:ZADD k 2 a|b:MULTI|b:PING|b:EXEC",
    "errors": "a:BZPOPMIN k x|a:BZPOPMIN k -1|a:BZPOPMIN k|a:BZMPOP x 1 k MIN|a:BZMPOP x 0 k MIN|a:BZMPOP x 1 k UP|a:BZMPOP 0 2 k MIN|a:BZMPOP 0 1 k MIN COUNT 0|a:BZMPOP x 1 k MIN COUNT|a:SET s 1|a:BZPOPMIN s 0|a:BZPOPMAX none s 0|a:BZMPOP 0 1 s MIN|a:BZPOPMIN k 1e400|a:BZPOPMIN k nan|a:PING",
}  # fmt: skip

# Which events each command makes, and in which order; `e` listens.
EVENTS = [
    "ZADD k 1 a 2 b|ZADD k 1 a|ZADD k 3 a|ZADD k INCR 1 a|ZADD k NX 1 a|ZADD k XX CH 9 a|ZINCRBY k 1 b",
    "ZADD k 1 a 2 b 3 c|ZREM k a x|ZREM k x|ZREM k b c|ZREM k a",
    "ZADD k 1 a 2 b 3 c 4 d|ZPOPMIN k|ZPOPMAX k|ZPOPMIN k 0|ZPOPMIN k 5|ZPOPMAX k",
    "ZADD k 1 a 2 b|ZMPOP 2 j k MIN|ZMPOP 1 k MAX COUNT 9|ZADD k 1 a|BZPOPMIN k 0|ZADD k 1 a|BZMPOP 0 1 k MAX",
    "ZADD k 1 a 2 b 3 c|ZREMRANGEBYRANK k 0 0|ZREMRANGEBYRANK k 7 8|ZREMRANGEBYSCORE k 2 2|ZREMRANGEBYLEX k - +",
    "ZADD k 1 a 2 b|ZUNIONSTORE d 1 k|ZINTERSTORE d 2 k d|ZDIFFSTORE d 1 k|ZDIFFSTORE d 1 none|ZDIFFSTORE d 1 none",
    "ZADD k 1 a 2 b|ZRANGESTORE d k 0 0|ZRANGESTORE d k 5 6|ZRANGESTORE d k 5 6|ZRANGESTORE k k 0 0",
    "GEOADD k 1 1 a|GEOADD k 1 1 a|GEOADD k 2 1 a|GEORADIUS k 1 1 900 km STORE d|GEORADIUS k 1 1 1 m STORE d",
    "GEOADD k 1 1 a|GEORADIUSBYMEMBER k a 1 km STOREDIST d|GEOSEARCHSTORE d k FROMMEMBER a BYBOX 1 1 km",
    "GEOADD k 1 1 a|SET d x|GEOSEARCHSTORE d none FROMMEMBER a BYBOX 1 1 km|GEORADIUS none 1 1 1 m STORE d",
]


@pytest.mark.parametrize("resp3", ["", "a c"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_script(real_server: RealServer, script: str, resp3: str) -> None:
    with Crowd(real_server, resp3=resp3) as crowd:
        for step in script.split("|"):
            name, _, line = step.partition(":")
            crowd.send(name, line.encode() + b"\r\n")


@pytest.mark.parametrize("script", EVENTS)
def test_events(real_server: RealServer, script: str) -> None:
    with Crowd(real_server, resp3="") as crowd:
        crowd.send("w", b"CONFIG SET notify-keyspace-events EA\r\n")
        try:
            crowd.send("e", b"PSUBSCRIBE __keyevent@*\r\n")
            for line in script.split("|"):
                crowd.send("w", line.encode() + b"\r\n")
        finally:
            crowd.send("w", b'CONFIG SET notify-keyspace-events ""\r\n')


def test_client_unblock_answers_as_when_the_time_is_up(real_server: RealServer) -> None:
    with Crowd(real_server, resp3="b") as crowd:
        crowd.introduce("a", "b", "w")
        for name in "ab":
            for request in (("BZPOPMIN", "k", 0), ("BZPOPMAX", "k", "j", 0), ("BZMPOP", 0, 1, "k", "MIN")):
                for reason in ("TIMEOUT", "ERROR"):
                    crowd.say(name, *request)
                    assert crowd.is_parked(name)
                    crowd.say_about("w", name, "CLIENT", "UNBLOCK", "@", reason)
                    assert not crowd.is_parked(name)


def test_the_reply_when_the_time_is_up(pair: Pair) -> None:
    for request in (
        ("BZPOPMIN", "k", "0.001"),
        ("BZPOPMAX", "k", "j", "1e-5"),
        ("BZMPOP", "0.01", 1, "k", "MIN"),
    ):
        ours, theirs = pair.both(*request)
        assert ours == b""
        pair.engine.handle_timeouts(pair.engine.next_timeout_us())
        assert b"".join(pair.ours.session.take_output()) == theirs
