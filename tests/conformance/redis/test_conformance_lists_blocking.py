"""BLPOP and its kin with several clients: who is served, with what, and in which order, as by redis-server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.redis_crowd import Crowd

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair, RealServer

pytestmark = pytest.mark.conformance

# Steps separated by bars; `w:` is the client that speaks.
SCRIPTS = {
    "nothing to wait for": "w:RPUSH k 1 2 3 4 5|a:BLPOP k 0|a:BRPOP none k 0|a:BLMOVE k d LEFT RIGHT 0|a:BRPOPLPUSH k d 0|a:BLMPOP 0 1 k LEFT|a:LRANGE d 0 -1",
    "first come, first served": "a:BLPOP k 0|b:BLPOP k 0|c:BLPOP k 0|w:RPUSH k 1|w:RPUSH k 2|w:RPUSH k 3",
    "several served at once": "a:BLPOP k 0|b:BRPOP k 0|c:BLPOP k 0|w:RPUSH k 1 2 3 4|w:LRANGE k 0 -1",
    "more waiting than there is": "a:BLPOP k 0|b:BLPOP k 0|c:BLPOP k 0|w:RPUSH k 1 2|w:RPUSH k 3",
    "several keys": "a:BLPOP x y z 0|w:RPUSH z 1|a:BLPOP x y x 0|w:RPUSH y 2|w:RPUSH x 3|w:LRANGE x 0 -1",
    "the first of the keys that are filled together": "a:BLPOP x y 0|w:MULTI|w:RPUSH y 1|w:RPUSH x 2|w:EXEC|w:EXISTS x y",
    "waiters of two keys": "a:BLPOP x y 0|b:BLPOP y x 0|w:MULTI|w:RPUSH x 1|w:RPUSH y 2|w:EXEC",
    "woken when EXEC is over": "a:BLPOP k 0|w:MULTI|w:RPUSH k 1|w:LPUSH k 0|w:LLEN k|w:EXEC|w:LRANGE k 0 -1",
    "taken back inside EXEC": "a:BLPOP k 0|w:MULTI|w:RPUSH k 1|w:DEL k|w:EXEC|w:RPUSH k 2",
    "replaced inside EXEC": "a:BLPOP k 0|w:MULTI|w:RPUSH k 1|w:SET k x|w:EXEC|w:DEL k|w:RPUSH k 2",
    "BLMOVE wakes another": "a:BLMOVE x y LEFT RIGHT 0|b:BLPOP y 0|w:RPUSH x 1|w:EXISTS x y",
    "a chain of four": "a:BLMOVE w x LEFT RIGHT 0|b:BLMOVE x y LEFT RIGHT 0|c:BLMOVE y z LEFT RIGHT 0|d:BLPOP z 0|w:RPUSH w 1 2|w:LRANGE w 0 -1",
    "a chain the other way round": "d:BLPOP z 0|c:BLMOVE y z LEFT RIGHT 0|b:BLMOVE x y LEFT RIGHT 0|a:BLMOVE w x LEFT RIGHT 0|w:RPUSH w 1 2",
    "a ring": "a:BRPOPLPUSH x y 0|b:BRPOPLPUSH y x 0|w:RPUSH x 1|w:LRANGE x 0 -1|w:LRANGE y 0 -1",
    "onto itself": "a:BLMOVE x x LEFT RIGHT 0|b:BLPOP x 0|w:RPUSH x 1 2|w:LRANGE x 0 -1",
    "destination of another type": "w:SET d x|a:BLMOVE k d LEFT LEFT 0|b:BLPOP k 0|w:RPUSH k 1|w:LRANGE k 0 -1",
    "destination of another type, pushed twice": "w:SET d x|a:BRPOPLPUSH k d 0|w:RPUSH k 1 2|a:PING|w:LLEN k",
    "an earlier key gets another type": "a:BLPOP x y 0|w:SET x s|w:RPUSH y 1|w:DEL x|w:RPUSH y 2",
    "filled by RENAME": "a:BLPOP k 0|w:RPUSH j 1|w:RENAME j k|w:EXISTS j k",
    "filled by COPY": "a:BLPOP k 0|w:RPUSH j 1|w:COPY j k|w:EXISTS j k",
    "filled by MOVE": "a:BLPOP k 0|w:SELECT 1|w:RPUSH k 1|w:MOVE k 0|w:EXISTS k",
    "filled by SWAPDB": "a:BLPOP k 0|w:SELECT 1|w:RPUSH k 1|w:SWAPDB 0 1|w:EXISTS k",
    "filled by SORT STORE": "a:BLPOP k 0|w:RPUSH j 3 1 2|w:SORT j STORE k|w:LRANGE k 0 -1",
    "filled by LMOVE": "a:BLPOP k 0|w:RPUSH j 1 2|w:LMOVE j k LEFT LEFT|w:RPOPLPUSH j k|w:EXISTS j k",
    "filled by LINSERT of another": "a:BLPOP k 0|w:LINSERT k BEFORE x y|w:LPUSHX k 1|w:RPUSH k 1",
    "another type does not wake": "a:BLPOP k 0|w:SET k 1|w:APPEND k 2|w:DEL k|w:RPUSH k 1",
    "another database": "a:SELECT 1|a:BLPOP k 0|w:RPUSH k 1|w:SELECT 1|w:RPUSH k 2",
    "BLMPOP takes what there is": "a:BLMPOP 0 2 x y LEFT COUNT 2|b:BLMPOP 0 1 y RIGHT COUNT 10|w:RPUSH y 1 2 3 4",
    "BLMPOP from the right": "a:BLMPOP 0 1 k RIGHT COUNT 3|w:RPUSH k 1 2 3 4|w:LRANGE k 0 -1",
    "in MULTI nothing waits": "a:MULTI|a:BLPOP k 0|a:BRPOP k 0|a:BLMOVE k d LEFT LEFT 0|a:BRPOPLPUSH k d 0|a:BLMPOP 0 1 k LEFT|a:EXEC",
    "in MULTI what is there is served": "w:RPUSH k 1 2 3 4 5|a:MULTI|a:BLPOP k 0|a:BRPOP k 0|a:BLMOVE k d LEFT LEFT 0|a:BRPOPLPUSH k d 0|a:BLMPOP 0 1 k LEFT|a:EXEC",
    "pipelined behind": "a:BLPOP k 0|a:PING|a:LLEN k|w:RPUSH k 1 2",
    "watched key of a served client": "b:WATCH k|a:BLPOP k 0|w:RPUSH k 1|b:MULTI|b:PING|b:EXEC",
    "watched destination": "b:WATCH d|a:BLMOVE k d LEFT LEFT 0|w:RPUSH k 1|b:MULTI|b:PING|b:EXEC",
    "flushed while waiting": "a:BLPOP k 0|w:FLUSHALL ASYNC|w:RPUSH k 1",
    "killed while waiting": "a:BLPOP k 0|b:BLPOP k 0|w:CLIENT KILL TYPE pubsub|w:RPUSH k 1|w:RPUSH k 2",
    "served again and again": "a:BLPOP k 0|w:RPUSH k 1|a:BLPOP k 0|b:BLPOP k 0|w:RPUSH k 2|a:BLPOP k 0|w:RPUSH k 3 4",
    "changes are counted": "a:BLPOP k 0|b:BLMOVE k d LEFT LEFT 0|w:RPUSH k 1 2|w:LRANGE d 0 -1",
    "errors": "a:BLPOP k x|a:BLPOP k -1|a:BLPOP k|a:BLPOP|a:BLMOVE k d LEFT UP x|a:BLMOVE k d LEFT LEFT x|a:BLMOVE k d LEFT LEFT|a:BRPOPLPUSH k d x|a:BRPOPLPUSH k d|a:BLMPOP x 0 k LEFT|a:BLMPOP x 1 k LEFT|a:BLMPOP 0 1 k UP|a:BLMPOP 0 2 k LEFT|a:BLMPOP 0 1 k LEFT COUNT 0|a:BLMPOP 0 1 k LEFT COUNT|a:BLMPOP 0 1|a:SET s 1|a:BLPOP s 0|a:BLPOP none s 0|a:BLMOVE s d LEFT LEFT 0|a:BLMPOP 0 1 s LEFT|a:RPUSH k 1|a:BLMOVE k s LEFT LEFT 0|a:BLPOP k 9223372036854775807|a:BLPOP k 1e400|a:BLPOP k inf|a:BLPOP k nan|a:BLPOP k 0x10|a:PING",
}  # fmt: skip


@pytest.mark.parametrize("resp3", ["", "a c"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_script(real_server: RealServer, script: str, resp3: str) -> None:
    with Crowd(real_server, resp3=resp3) as crowd:
        crowd.play(script)


def test_a_client_that_leaves_while_waiting_is_passed_over(real_server: RealServer) -> None:
    with Crowd(real_server) as crowd:
        for name in "abc":
            crowd.say(name, "BLPOP", "k", 0)
        crowd.close("a")
        assert crowd.say("w", "RPUSH", "k", "1").keys() == {"w", "b"}


def test_client_unblock_answers_as_when_the_time_is_up(real_server: RealServer) -> None:
    requests = [
        ("BLPOP", "k", 0), ("BLMOVE", "k", "d", "LEFT", "LEFT", 0), ("BRPOPLPUSH", "k", "d", 0), ("BLMPOP", 0, 1, "k", "LEFT"),
    ]  # fmt: skip
    with Crowd(real_server, resp3="b") as crowd:
        crowd.introduce("a", "b", "w")
        for name in "ab":
            for request in requests:
                for reason in ("TIMEOUT", "ERROR"):
                    crowd.say(name, *request)
                    assert crowd.is_parked(name)
                    crowd.say_about("w", name, "CLIENT", "UNBLOCK", "@", reason)
                    assert not crowd.is_parked(name)


@pytest.mark.parametrize("seconds", ["0.001", "0.01", "0.0001", "1e-5", "0x1p-8"])
def test_the_reply_when_the_time_is_up(pair: Pair, seconds: str) -> None:
    requests = [
        ("BLPOP", "k", seconds), ("BRPOP", "k", "j", seconds), ("BLMOVE", "k", "d", "LEFT", "LEFT", seconds),
        ("BRPOPLPUSH", "k", "d", seconds), ("BLMPOP", seconds, 1, "k", "LEFT"),
    ]  # fmt: skip
    for request in requests:
        ours, theirs = pair.both(*request)
        assert ours == b""
        deadline = pair.engine.next_timeout_us()
        pair.engine.handle_timeouts(deadline)
        assert b"".join(pair.ours.session.take_output()) == theirs


names = st.sampled_from("abcd")
keys = st.sampled_from(["x", "y", "z"])
sides = st.sampled_from(["LEFT", "RIGHT"])
values = st.sampled_from(["1", "2", "3 4", "5 6 7"])
waits = st.one_of(
    st.builds("BLPOP {} 0".format, keys),
    st.builds("BRPOP {} {} 0".format, keys, keys),
    st.builds("BLMOVE {} {} {} {} 0".format, keys, keys, sides, sides),
    st.builds("BRPOPLPUSH {} {} 0".format, keys, keys),
    st.builds("BLMPOP 0 2 {} {} {} COUNT {}".format, keys, keys, sides, st.integers(1, 3)),
)
# Without SORT STORE: see NOT_DRAWN in tests/support/redis_differences.py.
changes = st.one_of(
    st.builds("RPUSH {} {}".format, keys, values),
    st.builds("LPUSH {} {}".format, keys, values),
    st.builds("LMOVE {} {} {} {}".format, keys, keys, sides, sides),
    st.builds("RENAME {} {}".format, keys, keys),
    st.builds("COPY {} {} REPLACE".format, keys, keys),
    st.builds("SET {} s".format, keys),
    st.builds("DEL {}".format, keys),
    st.builds("LPOP {}".format, keys),
    st.builds("LRANGE {} 0 -1".format, keys),
    st.sampled_from(["MULTI", "EXEC", "EXEC", "DISCARD", "FLUSHALL ASYNC", "SWAPDB 0 1", "PING"]),
)
steps = st.one_of(
    st.tuples(names, waits), st.tuples(st.just("w"), changes), st.tuples(st.sampled_from("vw"), changes)
)


@settings(max_examples=2 * settings().max_examples)
@given(history=st.lists(steps, min_size=3, max_size=40))
def test_any_history_serves_the_same_clients_alike(
    real_server: RealServer, history: list[tuple[str, str]]
) -> None:
    with Crowd(real_server) as crowd:
        for name, line in history:
            crowd.send(name, line.encode() + b"\r\n")
        for key in "xyz":
            crowd.say("o", "TYPE", key)
            crowd.say("o", "LRANGE", key, 0, -1)
