"""CLIENT TRACKING with several clients, compared with redis-server step by step: who is told what, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.redis_crowd import Crowd
from tests.support.redis_pair import while_it_lives

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.redis_pair import Pair, RealServer

pytestmark = pytest.mark.conformance

# Lines of one client, `a`; a line that begins with a name and a colon is another client's. `@b` is b's number.
# `a`, `c` and `e` speak RESP3.
SCRIPTS: Final = {
    "what was read": "CLIENT TRACKING ON|GET k|b:SET k 1|b:SET k 2|GET k|GET k|b:DEL k|b:SET k 3|MGET k l m|b:MSET l 1 m 1",
    "one's own changes": "CLIENT TRACKING ON|GET k|SET k 1|SET k 2|GET k|INCR k|MGET k l|MSET k 1 l 2",
    "in EXEC at the end": "CLIENT TRACKING ON|GET k|GET l|MULTI|SET k 1|GET k|SET k 2|SET l 2|EXEC|GET k|b:MULTI|b:SET k 3"
    "|b:PING|b:SET k 4|b:EXEC|MULTI|GET m|GET n|EXEC|b:SET m 1|b:SET n 1",
    "beside publications": "CLIENT TRACKING ON|SUBSCRIBE x|GET k|MULTI|SET k 1|PUBLISH x 1|SET k 2|PUBLISH x 2|EXEC",
    "no loop": "CLIENT TRACKING ON NOLOOP|GET k|SET k 1|SET k 2|GET k|b:SET k 1|GET k|MULTI|SET k 1|EXEC|b:SET k 1",
    "opt in": "CLIENT TRACKING ON OPTIN|GET k|b:SET k 1|CLIENT CACHING YES|GET k|b:SET k 2|GET k|b:SET k 3"
    "|CLIENT CACHING YES|CLIENT ID|GET k|b:SET k 4|CLIENT CACHING YES|PING|GET k|b:SET k 5|CLIENT CACHING YES|MULTI"
    "|GET k|GET l|EXEC|b:MSET k 1 l 1|CLIENT CACHING YES|GET|GET k|b:SET k 1|CLIENT CACHING YES|NOSUCH|GET k|b:SET k 1"
    "|CLIENT CACHING NO|CLIENT TRACKING ON OPTOUT|CLIENT TRACKING ON|GET k|b:SET k 1",
    "opt out": "CLIENT TRACKING ON OPTOUT|GET k|b:SET k 1|CLIENT CACHING NO|GET k|b:SET k 2|GET k|b:SET k 3|CLIENT CACHING YES"
    "|CLIENT CACHING NO|CLIENT TRACKINGINFO|CLIENT TRACKINGINFO|PING|CLIENT TRACKINGINFO|CLIENT TRACKING ON OPTIN",
    "broadcast": "CLIENT TRACKING ON BCAST|b:SET k 1|b:SET k 2|SET k 3|b:MSET z 1 a 2 m 3|GET k|b:DEL k nosuch|b:FLUSHALL|b:FLUSHDB",
    "broadcast of prefixes": "CLIENT TRACKING ON BCAST PREFIX user: PREFIX obj:|b:MSET obj:2 1 user:1 1 x 1 obj:1 1 user 1|CLIENT TRACKINGINFO"
    "|CLIENT TRACKING ON BCAST PREFIX user:1|CLIENT TRACKING ON BCAST PREFIX z|CLIENT TRACKINGINFO|b:MSET z1 1 user:5 1|c:CLIENT TRACKING ON BCAST PREFIX z"
    "|b:SET z2 1|CLIENT TRACKING OFF|CLIENT TRACKINGINFO|b:SET z3 1|CLIENT TRACKING ON|CLIENT TRACKING ON BCAST",
    "broadcast without loop": "CLIENT TRACKING ON BCAST NOLOOP|c:CLIENT TRACKING ON BCAST|SET k 1|b:SET k 1|MSET k 1 l 1|c:SET k 1",
    "broadcast of EXEC": "CLIENT TRACKING ON BCAST|b:MULTI|b:SET k 1|b:SET b 1|b:DEL k|b:EXEC|MULTI|SET k 1|SET l 1|EXEC",
    "to another": "CLIENT TRACKING ON REDIRECT @b|CLIENT GETREDIR|CLIENT TRACKINGINFO|GET k|d:SET k 1|b:SUBSCRIBE __redis__:invalidate|d:SET k 2|GET k"
    "|d:SET k 3|GET k|SET k 4|GET k|d:FLUSHALL|FLUSHALL|FLUSHDB ASYNC|b:UNSUBSCRIBE|GET k|d:SET k 1|b:PSUBSCRIBE x|GET k|d:SET k 1|CLIENT TRACKING ON|CLIENT GETREDIR",
    "to another of RESP3": "b:CLIENT TRACKING ON REDIRECT @a|b:GET k|d:SET k 1|b:GET k|b:SET k 2|b:GET k|SET k 3|d:FLUSHALL|FLUSHALL"
    "|b:MULTI|b:GET k|b:SET k 1|b:EXEC|b:GET k|MULTI|SET k 1|GET k|EXEC",
    "broadcast to another": "b:SUBSCRIBE __redis__:invalidate|d:CLIENT TRACKING ON BCAST REDIRECT @b PREFIX k|SET k1 1|d:MSET k2 1 k1 1 l 1|d:FLUSHALL"
    "|a:CLIENT TRACKING ON BCAST NOLOOP REDIRECT @b|MSET k2 1 k1 1 l 1|d:SET k1 1",
    "to one that goes": "CLIENT TRACKING ON REDIRECT @b|GET k|b:QUIT|CLIENT TRACKINGINFO|GET k|d:SET k 1|CLIENT TRACKINGINFO|GET k|SET k 1|d:FLUSHALL|FLUSHALL|FLUSHALL ASYNC"
    "|CLIENT TRACKING ON|CLIENT TRACKINGINFO|GET k|d:SET k 1",
    "RESP2 to one that goes": "d:CLIENT TRACKING ON REDIRECT @b|d:GET k|b:QUIT|SET k 1|d:CLIENT TRACKINGINFO|d:CLIENT TRACKING ON BCAST|d:CLIENT TRACKING OFF",
    "RESP2 alone": "b:CLIENT TRACKING ON|b:GET k|SET k 1|b:GET k|b:SET k 1|b:FLUSHALL|b:PING",
    "flush": "CLIENT TRACKING ON|b:FLUSHALL|FLUSHALL|FLUSHDB|FLUSHALL ASYNC|FLUSHALL SYNC|MULTI|SET k 1|FLUSHALL|FLUSHDB|EXEC|GET k|FLUSHALL|b:SET k 1"
    "|c:CLIENT TRACKING ON|c:SELECT 3|c:GET k|SELECT 3|SET k 1|SWAPDB 0 3|GET k|SWAPDB 0 3|b:SET k 1",
    "any database": "CLIENT TRACKING ON|GET k|b:SELECT 1|b:SET k 1|GET k|MULTI|SELECT 2|SET k 1|GET k|EXEC|b:SET k 1",
    "what reads": "SET s abc|RPUSH l 1|HSET h f 1|CLIENT TRACKING ON|STRLEN s|b:SET s 1|LRANGE l 0 -1|b:RPUSH l 2|HGETALL h|b:HSET h f 2"
    "|TTL s|b:EXPIRE s 1000|EXISTS s t|b:SET t 1|b:SET s 1|TYPE s|b:SET s 1|GETRANGE s 0 1|b:APPEND s x|INCR s|GETDEL t|b:SET t 1|SINTER x y|b:SADD y 1|b:SADD x 1"
    "|ZUNION 2 z1 z2|b:ZADD z2 1 a|b:ZADD z1 1 a|DBSIZE|b:SET s 1|GET l|b:RPUSH l 1|XREAD STREAMS x1 x2 0 0|b:XADD x2 1-1 a b|OBJECT ENCODING s|b:SET s 1"
    "|GETEX s|b:SET s 1|SORT_RO l|b:RPUSH l 1|DUMP s|b:SET s 1|TOUCH s|b:SET s 1|BITCOUNT s|b:SETBIT s 1 1",
    "what changes": "MSET k 1 l 2|CLIENT TRACKING ON BCAST|b:SETNX k 1|b:EXPIRE k 100|b:PERSIST k|b:PERSIST k|b:RENAME k m|b:COPY m n|b:MOVE n 1|b:SINTERSTORE x y|b:SADD s 1 2|b:SADD s 1"
    "|b:SMOVE s s2 1|b:LPUSH list 1 2|b:LPOP list|b:LMOVE list list2 LEFT LEFT|b:DEL list2|b:UNLINK s|b:HSET h f 1|b:HDEL h f|b:ZADD z 1 a|b:ZADD z 1 a|b:ZADD z XX CH 1 a|b:GETDEL m"
    "|b:SET e 1 EX 100|b:GETEX e PERSIST|b:GETEX e|b:EXPIRE e -1|b:XADD x 1-1 a b|b:PFADD hll a|b:PFADD hll a|b:PFCOUNT hll|b:SETRANGE r 0 a|b:APPEND r b|b:INCRBYFLOAT f 1|b:RESTORE q 0 x",
    "a blocked client": "CLIENT TRACKING ON BCAST|b:BLPOP q 0|c:RPUSH q 1|b:BLMOVE q r LEFT LEFT 0|d:RPUSH q 1 2|c:CLIENT TRACKING ON|c:XREAD BLOCK 0 STREAMS s $|b:XADD s 1-1 a b|b:XADD s 1-2 a b",
    "a blocked client that tracks": "CLIENT TRACKING ON|GET q|BLPOP q 0|b:RPUSH q 1|GET r|BLMOVE q r LEFT LEFT 0|b:RPUSH q 1",
    "the end": "CLIENT TRACKING ON|GET k|CLIENT TRACKING OFF|b:SET k 1|GET k|CLIENT TRACKING ON|b:SET k 1|GET k|RESET|b:SET k 2|CLIENT TRACKINGINFO",
    "to another mode": "CLIENT TRACKING ON|GET k|GET l|CLIENT TRACKING OFF|CLIENT TRACKING ON BCAST PREFIX x|b:SET k 1|CLIENT TRACKING OFF|CLIENT TRACKING ON|b:SET l 1",
    "reply off": "CLIENT TRACKING ON|GET k|CLIENT REPLY OFF|b:SET k 1|GET k|SET k 1|CLIENT REPLY SKIP|CLIENT REPLY ON|GET k|CLIENT REPLY SKIP|SET k 1",
    "inside EXEC": "MULTI|CLIENT TRACKING ON|GET k|SET k 1|EXEC|b:SET k 2|GET k|MULTI|CLIENT TRACKING OFF|SET k 1|EXEC|MULTI|CLIENT TRACKING ON OPTIN|CLIENT CACHING YES|GET k|GET l|EXEC|b:MSET k 1 l 1",
    "wrong": "CLIENT CACHING YES|CLIENT CACHING NO|CLIENT CACHING x|CLIENT TRACKING|CLIENT TRACKING x|CLIENT TRACKING x y|CLIENT TRACKING OFF PREFIX|CLIENT TRACKING OFF OPTIN"
    "|CLIENT TRACKING ON REDIRECT|CLIENT TRACKING ON REDIRECT x|CLIENT TRACKING ON REDIRECT 99999999|CLIENT TRACKING ON REDIRECT 0|CLIENT TRACKING ON REDIRECT -1"
    "|CLIENT TRACKING ON REDIRECT @b REDIRECT @b|CLIENT TRACKING ON PREFIX a|CLIENT TRACKING ON BCAST OPTIN|CLIENT TRACKING ON OPTIN OPTOUT|CLIENT TRACKING ON BCAST PREFIX"
    "|CLIENT TRACKING ON BCAST PREFIX a PREFIX ab|CLIENT TRACKING ON BCAST PREFIX ab PREFIX a|CLIENT TRACKING ON BCAST PREFIX a PREFIX a|CLIENT TRACKING ON BCAST PREFIX foo PREFIX bar"
    "|CLIENT TRACKING ON BCAST PREFIX fo|CLIENT TRACKING ON BCAST PREFIX food|CLIENT TRACKING ON|CLIENT TRACKING ON BCAST OPTOUT|CLIENT TRACKING ON BCAST|CLIENT TRACKINGINFO"
    "|CLIENT TRACKING OFF|CLIENT TRACKING ON|CLIENT CACHING YES|CLIENT CACHING NO|CLIENT CACHING x|CLIENT CACHING|CLIENT TRACKING ON BCAST|CLIENT TRACKING ON OPTOUT|CLIENT TRACKINGINFO x|CLIENT GETREDIR x",
    "oneself as the other, subscribed": "b:CLIENT TRACKING ON REDIRECT @b|b:GET k|b:SUBSCRIBE x|SET k 1|SET k 2|b:RESET"
    "|b:CLIENT TRACKING ON BCAST REDIRECT @b|SET k 3|b:SUBSCRIBE x|SET k 4|b:PUBLISH x 1|b:UNSUBSCRIBE|SET k 5",
    "oneself as the other": "CLIENT TRACKING ON REDIRECT @a|GET k|b:SET k 1|GET k|SET k 1|CLIENT GETREDIR|b:CLIENT TRACKING ON REDIRECT @b|b:SUBSCRIBE x|b:PING",
}  # fmt: skip


def play(crowd: Crowd, lines: Iterable[str]) -> None:
    """Say the lines, each by its client; at `wait` ten milliseconds go by."""
    crowd.introduce(*"abcd")
    for line in lines:
        if line == "wait":
            crowd.wait_us(10_000)
            continue
        name, mark, rest = line.partition(":")
        if not mark or len(name) != 1:
            name, rest = "a", line
        words = rest.split(" ")
        about = [word[1:] for word in words if word.startswith("@")]
        if about:
            crowd.say_about(name, about[0], *["@" if word.startswith("@") else word for word in words])
        else:
            crowd.say(name, *words)
        crowd.engine.tracking.check_invariants()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_agrees(real_server: RealServer, name: str) -> None:
    with Crowd(real_server, resp3="a c e") as crowd:
        play(crowd, SCRIPTS[name].split("|"))


def test_pipelined_changes_are_broadcast_in_one_message(real_server: RealServer) -> None:
    with Crowd(real_server, resp3="a c") as crowd:
        crowd.say("a", "CLIENT", "TRACKING", "ON", "BCAST")
        told = crowd.send("b", b"SET k2 1\r\nSET k1 1\r\nPING\r\nSET k3 1\r\nDEL k2\r\n")
        assert told["a"].count(b"invalidate") == 1
        crowd.send("a", b"SET k2 1\r\nGET k2\r\nSET k1 1\r\n")


def test_an_expired_key_is_told_of(real_server: RealServer) -> None:
    with Crowd(real_server, resp3="a c") as crowd:
        crowd.say("a", "CLIENT", "TRACKING", "ON")
        crowd.say("c", "CLIENT", "TRACKING", "ON", "BCAST")
        crowd.say("b", "DEBUG", "SET-ACTIVE-EXPIRE", 0)

        def track_it(span_ms: int) -> None:
            crowd.say("b", "DEL", "k")
            crowd.say("b", "SET", "k", 1, "PX", span_ms)
            assert crowd.say("a", "GET", "k") == {"a": b"$1\r\n1\r\n"}

        for reader in "ab":
            while_it_lives(track_it)
            crowd.say(reader, "GET", "k")


def test_keys_beyond_the_limit_are_let_go(pair: Pair) -> None:
    for limit in (3, 0, 10):
        pair.reset(resp3=True)
        pair.same("CONFIG", "SET", "tracking-table-max-keys", limit)
        pair.same("CLIENT", "TRACKING", "ON")
        pair.same("MGET", *[f"k{number}" for number in range(8)])
        # The messages come before the reply, and which keys they name is a matter of chance.
        ours, theirs = pair.exchange(b"PING\r\nPING\r\n", 7 if limit == 3 else 2)
        assert len(ours) == len(theirs)
        assert ours.count(b"invalidate") == (5 if limit == 3 else 0)
        assert pair.engine.tracking.total_keys == (3 if limit == 3 else 8)
    pair.same("CONFIG", "SET", "tracking-table-max-keys", 1_000_000)


KEYS: Final = st.sampled_from(["k", "l", "ka", "kb", "m"])
NAMES: Final = st.sampled_from(["a", "b", "c", "d"])
MODES: Final = st.sampled_from(
    ["ON", "ON NOLOOP", "ON OPTIN", "ON OPTOUT", "ON BCAST", "ON BCAST PREFIX k", "ON BCAST PREFIX ka PREFIX m NOLOOP",
     "ON REDIRECT @a", "ON REDIRECT @b NOLOOP", "ON BCAST REDIRECT @b", "OFF"]
)  # fmt: skip
STEPS: Final = st.one_of(
    st.builds("{}:CLIENT TRACKING {}".format, NAMES, MODES),
    st.builds("{}:CLIENT CACHING {}".format, NAMES, st.sampled_from(["YES", "NO"])),
    st.builds("{}:{} {}".format, NAMES, st.sampled_from(["GET", "STRLEN", "EXISTS"]), KEYS),
    st.builds("{}:MGET {} {}".format, NAMES, KEYS, KEYS),
    st.builds("{}:SET {} 1".format, NAMES, KEYS),
    st.builds("{}:MSET {} 1 {} 2".format, NAMES, KEYS, KEYS),
    st.builds("{}:DEL {} {}".format, NAMES, KEYS, KEYS),
    st.builds("{}:{}".format, NAMES, st.sampled_from(["MULTI", "EXEC", "EXEC", "DISCARD", "PING", "RESET", "FLUSHDB"])),
    st.builds("{}:{}".format, NAMES, st.sampled_from(["SUBSCRIBE x", "UNSUBSCRIBE", "PUBLISH x m", "SELECT 1", "SELECT 0"])),
    st.builds("{}:{}".format, NAMES, st.sampled_from(["HELLO 3", "CLIENT TRACKINGINFO"])),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(lines=st.lists(STEPS, min_size=10, max_size=40))
def test_any_lines_agree(real_server: RealServer, lines: list[str]) -> None:
    with Crowd(real_server, resp3="a c") as crowd:
        # The server's HELLO names its modules and its number.
        play(crowd, [line for line in lines if "HELLO" not in line])
