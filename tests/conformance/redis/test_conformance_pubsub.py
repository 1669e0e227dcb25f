"""Publish, subscribe and commands that wait, with several clients, compared with redis-server step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_crowd import Crowd

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair, RealServer

pytestmark = pytest.mark.conformance

# Lines of one client, `a`; a line that begins with a name and a colon is another client's.
SCRIPTS = {
    "modes": "UNSUBSCRIBE|PUNSUBSCRIBE|SUNSUBSCRIBE|UNSUBSCRIBE x y|SUBSCRIBE|PING|SUBSCRIBE x y x|PSUBSCRIBE x* y?"
    "|SSUBSCRIBE s1 s2|PING|PING z|PING z z|GET k|CLIENT GETNAME|MULTI|EXEC|WATCH k|NOSUCH|GET|CLIENT|SUBSCRIBE"
    "|b:PUBLISH x m|b:PUBLISH xy m2|b:SPUBLISH s1 m3|b:SPUBLISH x m4|b:PUBLISH s1 m|UNSUBSCRIBE y zz|UNSUBSCRIBE"
    "|PUNSUBSCRIBE y? x*|PING|SUNSUBSCRIBE s1|PING|SUNSUBSCRIBE|PING|GET k|SUBSCRIBE q|RESET|PING|GET k|b:PUBLISH q m",
    "oneself": "SUBSCRIBE x|PUBLISH x 1|PSUBSCRIBE *|PUBLISH x 2|UNSUBSCRIBE x|PUBLISH x 3|RESET|QUIT",
    "oneself inside exec": "MULTI|SUBSCRIBE x|PUBLISH x 1|PING|PUBLISH x 2|UNSUBSCRIBE x|PUBLISH x 3|EXEC|PING",
    "others inside exec": "b:SUBSCRIBE x|MULTI|PUBLISH x 1|SET k v|PUBLISH x 2|EXEC",
    "reply off": "CLIENT REPLY OFF|SUBSCRIBE x|b:PUBLISH x 1|PUBLISH x 2",
    "reply skip": "CLIENT REPLY SKIP|SUBSCRIBE x|b:PUBLISH x 1",
    "a client that goes": "b:SUBSCRIBE x|c:SUBSCRIBE x|PUBLISH x 1|b:QUIT|PUBLISH x 2|c:UNSUBSCRIBE|PUBLISH x 3",
    "looking": "b:SUBSCRIBE x|b:PSUBSCRIBE p*|c:PSUBSCRIBE p*|c:SSUBSCRIBE s|PUBSUB CHANNELS|PUBSUB CHANNELS x"
    "|PUBSUB CHANNELS y*|PUBSUB NUMSUB x y|PUBSUB NUMSUB|PUBSUB NUMPAT|PUBSUB SHARDCHANNELS|PUBSUB SHARDCHANNELS s*"
    "|PUBSUB SHARDNUMSUB s x|PUBSUB NOSUCH|PUBSUB|PUBSUB CHANNELS x y|PUBSUB NUMPAT x|PUBSUB SHARDCHANNELS x y",
    "two protocols": "b:HELLO 3 x|c:SUBSCRIBE x|a:SUBSCRIBE x|b:PUBLISH x 1|b:SUBSCRIBE x|b:PUBLISH x 2",
    "first come, first served": "BLPOP l 0|b:BRPOP l 0|c:BLPOP l 0|d:RPUSH l 1 2|d:RPUSH l 3|d:LLEN l",
    "several keys": "BLPOP l m 0|b:BLPOP m 0|d:RPUSH m 1|d:RPUSH m 2|d:RPUSH l 3|d:EXISTS l m",
    "one push for all": "BLPOP l 0|b:BLPOP l 0|d:RPUSH l 1 2 3|d:LRANGE l 0 -1",
    "nothing half": "BLPOP l 0|d:MULTI|d:RPUSH l 1|d:DEL l|d:RPUSH l 2|d:EXEC",
    "taken back": "BLPOP l 0|d:MULTI|d:RPUSH l 1|d:DEL l|d:EXEC|d:RPUSH l 2",
    "of another type": "BLPOP l 0|b:BZPOPMIN l 0|d:SET l x|d:DEL l|d:ZADD l 1 m|d:RPUSH l x",
    "a chain": "BLMOVE k l LEFT LEFT 0|b:BLMOVE l m LEFT LEFT 0|c:BLPOP m 0|d:RPUSH k x",
    "a circle": "BLMOVE k l LEFT LEFT 0|b:BLMOVE l k LEFT LEFT 0|d:RPUSH k x|d:EXISTS k l",
    "onto the wrong type": "SET l x|BLMOVE k l LEFT LEFT 0|b:BLPOP k 0|d:RPUSH k x",
    "renamed": "BLPOP l 0|d:RPUSH k x|d:RENAME k l",
    "copied": "BLPOP l 0|d:RPUSH k x|d:COPY k l",
    "moved": "BLPOP l 0|d:SELECT 1|d:RPUSH l x|d:MOVE l 0",
    "swapped": "BLPOP l 0|d:SELECT 1|d:RPUSH l x|d:SWAPDB 0 1",
    "sorted into": "BLPOP l 0|d:RPUSH k 2 1|d:SORT k STORE l",
    "behind": "BLPOP l 0|PING|ECHO 1|BLPOP l 0|ECHO 2|d:RPUSH l x|d:RPUSH l y",
    "watched": "b:WATCH l|BLPOP l 0|d:RPUSH l x|b:MULTI|b:EXEC",
    "sorted sets": "BZPOPMIN z 0|b:BZPOPMAX z 0|c:BZMPOP 0 1 z MIN COUNT 2|d:ZADD z 1 a 2 b 3 c 4 d|d:ZRANGE z 0 -1",
    "many from a list": "BLMPOP 0 2 k l LEFT COUNT 2|b:BLMPOP 0 1 l RIGHT|d:RPUSH l 1 2 3|d:LRANGE l 0 -1",
    "in the wrong order": "BLPOP l|BLPOP l x|BLPOP l -1|BLMOVE l k LEFT LEFT x|BLPOP l 1e400|BZPOPMIN z nan",
    "wrong type at once": "SET l x|BLPOP l 0|BLPOP k l 0",
    "client reply off": "CLIENT REPLY OFF|BLPOP l 0|PING|d:RPUSH l x|CLIENT REPLY ON|PING",
    "client reply skip": "CLIENT REPLY SKIP|BLPOP l 0|d:RPUSH l x|PING",
}  # fmt: skip


@pytest.mark.parametrize("resp3", ["", "a b c"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_script(real_server: RealServer, script: str, resp3: str) -> None:
    with Crowd(real_server, resp3=resp3) as crowd:
        crowd.play(script)


def test_client_unblock(real_server: RealServer) -> None:
    with Crowd(real_server, resp3="b") as crowd:
        crowd.introduce("a", "b", "c")
        for name in "ab":
            crowd.say_about("c", name, "CLIENT", "UNBLOCK", "@")
            for reason in ([], ["TIMEOUT"], ["ERROR"]):
                crowd.send(name, b"BLPOP l 0\r\nPING\r\n")
                assert crowd.is_parked(name)
                crowd.say_about("c", name, "CLIENT", "UNBLOCK", "@", *reason)
            crowd.send(name, b"WAIT 1 0\r\n")
            crowd.say_about("c", name, "CLIENT", "UNBLOCK", "@")
        crowd.say("c", "CLIENT", "UNBLOCK", "x")
        crowd.say("c", "CLIENT", "UNBLOCK", "99999")
        crowd.say("c", "CLIENT", "UNBLOCK", "1", "SOON")
        crowd.say("c", "CLIENT", "UNBLOCK", "1", "ERROR", "x")


def test_a_client_that_closes_while_it_waits_takes_nothing(real_server: RealServer) -> None:
    with Crowd(real_server) as crowd:
        crowd.say("a", "BLPOP", "l", 0)
        crowd.say("b", "BLPOP", "l", 0)
        crowd.close("a")
        assert set(crowd.say("d", "RPUSH", "l", "x")) == {"b", "d"}


def test_wait_and_waitaof(pair: Pair) -> None:
    for request in (
        ("WAIT", 0, 0), ("WAIT", -1, 50), ("WAIT", 1, -1), ("WAIT", "x", 1), ("WAIT", 1, "x"), ("WAIT", 1, "1.5"),
        ("WAITAOF", 0, 0, 0), ("WAITAOF", 1, 0, 0), ("WAITAOF", 0, 0, -1), ("WAITAOF", 2, 0, 0),
        ("WAITAOF", -1, 0, 0), ("WAITAOF", 0, -1, 0), ("WAITAOF", "x", 0, 0), ("WAITAOF", 0, 0, "x"),
    ):  # fmt: skip
        pair.same(*request)
