"""MULTI, EXEC, WATCH with several clients, compared with redis-server step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, strategies as st

from tests.support.redis_crowd import Crowd

if TYPE_CHECKING:
    from tests.support.redis_pair import RealServer

pytestmark = pytest.mark.conformance

# Lines of one client, `a`; a line that begins with a name and a colon is another client's.
SCRIPTS = {
    "nesting and nothing": "MULTI|MULTI|SET a 1|EXEC|EXEC|DISCARD|MULTI x|EXEC x|DISCARD x|WATCH|UNWATCH x|UNWATCH",
    "unknown command": "MULTI|NOSUCH|SET a 1|EXEC|GET a",
    "wrong arity": "MULTI|GET|SET a 1|EXEC|GET a",
    "exec of wrong arity inside": "MULTI|SET a 1|EXEC x|EXEC|GET a",
    "watch inside": "MULTI|WATCH a|SET a 1|EXEC",
    "unknown subcommand": "MULTI|CLIENT NOSUCH|EXEC",
    "no subcommand": "MULTI|CLIENT|EXEC",
    "reply off inside": "MULTI|CLIENT REPLY OFF|PING|CLIENT REPLY ON|PING|EXEC|PING",
    "reply off to the end": "MULTI|PING|CLIENT REPLY OFF|PING|EXEC|PING|CLIENT REPLY ON|PING",
    "reply skip inside": "MULTI|CLIENT REPLY SKIP|PING|PING|EXEC|PING|PING",
    "reply skip before": "CLIENT REPLY SKIP|MULTI|PING|EXEC|PING",
    "reply skip before queued": "MULTI|CLIENT REPLY SKIP|EXEC|PING|PING",
    "not inside": "MULTI|SHUTDOWN|EXEC",
    "quit": "MULTI|SET a 1|QUIT",
    "reset": "MULTI|SET a 1|RESET|EXEC|GET a",
    "hello inside": "MULTI|GET nosuch|HELLO 3 x|GET nosuch|EXEC",
    "errors inside": "MULTI|SET l x|INCR l|GET l|APPEND l|EXEC|GET l|MULTI|SET l 1|INCR l|INCRBY l x|EXEC|GET l",
    "select inside": "MULTI|SELECT 1|SET one 1|EXEC|GET one|SELECT 0",
    "flush inside": "SET a 1|MULTI|FLUSHALL|DBSIZE|EXEC",
    "discard": "MULTI|SET a 1|DISCARD|GET a|MULTI|DISCARD|MULTI|EXEC",
    "touched": "SET a 1|WATCH a|b:SET a 2|MULTI|GET a|EXEC|GET a|MULTI|GET a|EXEC",
    "touched by oneself": "WATCH a|SET a 3|MULTI|PING|EXEC",
    "touched inside exec": "SET a 1|WATCH a|MULTI|SET a 2|EXEC|MULTI|PING|EXEC",
    "touched, then aborted": "WATCH a|b:SET a 2|MULTI|NOSUCH|EXEC",
    "touched, nothing queued": "WATCH a|b:SET a 2|MULTI|EXEC",
    "unwatched in time": "WATCH a|b:SET a 2|UNWATCH|MULTI|EXEC",
    "unwatch inside": "WATCH a|MULTI|UNWATCH|b:SET a 2|EXEC",
    "unwatch inside, late": "WATCH a|b:SET a 2|MULTI|UNWATCH|EXEC|MULTI|PING|EXEC",
    "discard unwatches": "WATCH a|MULTI|DISCARD|b:SET a 2|MULTI|PING|EXEC",
    "watch again": "WATCH a|b:SET a 2|WATCH a b|MULTI|EXEC|MULTI|EXEC",
    "flushed": "SET a 1|WATCH a|b:FLUSHALL|MULTI|EXEC",
    "flushed, absent": "WATCH a|b:FLUSHALL|MULTI|PING|EXEC",
    "flushed elsewhere": "SET a 1|WATCH a|b:SELECT 2|b:FLUSHDB|MULTI|PING|EXEC",
    "swapped away": "SET a 1|WATCH a|b:SWAPDB 0 1|MULTI|PING|EXEC",
    "swapped in": "WATCH a|b:SELECT 1|b:SET a 1|b:SWAPDB 0 1|MULTI|PING|EXEC",
    "swapped, absent in both": "WATCH a|b:SWAPDB 0 1|MULTI|PING|EXEC",
    "swapped with itself": "SET a 1|WATCH a|b:SWAPDB 0 0|MULTI|PING|EXEC",
    "expire set": "SET a 1|WATCH a|b:EXPIRE a 100|MULTI|PING|EXEC",
    "only read": "SET a 1|WATCH a|b:TOUCH a|b:GET a|b:PERSIST a|b:SET a 2 NX|b:DEL nosuch|MULTI|PING|EXEC",
    "persisted": "SET a 1 EX 100|WATCH a|b:PERSIST a|MULTI|PING|EXEC",
    "getex that changes nothing": "SET a 1|WATCH a|b:GETEX a|b:GETEX a PERSIST|MULTI|PING|EXEC",
    "getex": "SET a 1|WATCH a|b:GETEX a EX 100|MULTI|PING|EXEC",
    "renamed away": "SET a 1|WATCH a|b:RENAME a c|MULTI|PING|EXEC",
    "renamed onto": "SET c 1|WATCH a|b:RENAME c a|MULTI|PING|EXEC",
    "renamed onto itself": "SET a 1|WATCH a|b:RENAME a a|MULTI|PING|EXEC",
    "copied from": "SET a 1|WATCH a|b:COPY a c|MULTI|PING|EXEC",
    "copied onto": "SET c 1|WATCH a|b:COPY c a|MULTI|PING|EXEC",
    "copied elsewhere": "SET c 1|WATCH a|b:COPY c a DB 1|MULTI|PING|EXEC",
    "moved away": "SET a 1|WATCH a|b:MOVE a 1|MULTI|PING|EXEC",
    "moved in": "WATCH a|b:SELECT 1|b:SET a 1|b:MOVE a 0|MULTI|PING|EXEC",
    "same key elsewhere": "WATCH a|b:SELECT 1|b:SET a 1|MULTI|PING|EXEC",
    "watched in two databases": "WATCH a|SELECT 1|WATCH a|b:SET a 1|MULTI|PING|EXEC|SELECT 0",
    "overwritten by the same": "SET a 1|WATCH a|b:SET a 1|MULTI|PING|EXEC",
    "created and deleted": "WATCH a|b:SET a 1|b:DEL a|MULTI|PING|EXEC",
    "in another's exec": "WATCH a|b:MULTI|b:SET a 1|MULTI|PING|EXEC|b:EXEC|WATCH a|b:MULTI|b:SET a 2|b:EXEC|MULTI|EXEC",
    "subscribe inside": "MULTI|SUBSCRIBE c|PING|SUBSCRIBE d e|PUBLISH c m|PUBLISH d n|EXEC|PING|GET a|RESET",
    "wait inside": "MULTI|WAIT 1 0|WAITAOF 0 1 0|WAITAOF 1 0 0|EXEC",
    "client info inside": "MULTI|SET a 1|CLIENT GETNAME|EXEC",
    "no auth needed": "MULTI|AUTH x|PING|EXEC",
    "object and type": "MULTI|SET a 1|OBJECT ENCODING a|TYPE a|EXEC",
    "empty": "MULTI|EXEC",
    "auth": "b:CONFIG SET requirepass sesame|c:MULTI|c:EXEC|c:EXEC x|c:NOSUCH|c:AUTH sesame|c:MULTI|c:EXEC|b:CONFIG SET requirepass ''",
    "out of memory": "SET a 1|MULTI|SET a 2|GET a|b:CONFIG SET maxmemory 1|EXEC|MULTI|SET a 3|EXEC|MULTI|GET a|EXEC|SET a 4|DEL a|b:CONFIG SET maxmemory 0|SET a 5",
}


@pytest.mark.parametrize("resp3", ["", "a b"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_script(real_server: RealServer, script: str, resp3: str) -> None:
    with Crowd(real_server, resp3=resp3) as crowd:
        crowd.play(script)


names = st.sampled_from("ab")
keys = st.sampled_from(["x", "y"])
lines = st.one_of(
    st.sampled_from(
        ["MULTI", "EXEC", "EXEC", "DISCARD", "UNWATCH", "FLUSHDB", "SWAPDB 0 1", "SELECT 1", "SELECT 0"]
    ),
    st.builds("WATCH {}".format, keys),
    st.builds("SET {} 1".format, keys),
    st.builds("GET {}".format, keys),
    st.builds("INCR {}".format, keys),
    st.builds("DEL {}".format, keys),
    st.builds("RENAME {} {}".format, keys, keys),
    st.builds("COPY {} {} REPLACE".format, keys, keys),
    st.builds("MOVE {} 1".format, keys),
    st.builds("EXPIRE {} 100".format, keys),
    st.builds("PERSIST {}".format, keys),
    st.sampled_from(["NOSUCH", "GET", "CLIENT REPLY OFF", "CLIENT REPLY ON", "CLIENT REPLY SKIP", "RESET"]),
)


@example(steps=[("a", "CLIENT REPLY SKIP"), ("a", "RESET"), ("a", "GET x")])
@given(steps=st.lists(st.tuples(names, lines), max_size=25))
def test_any_history(real_server: RealServer, steps: list[tuple[str, str]]) -> None:
    with Crowd(real_server) as crowd:
        for name, line in steps:
            crowd.send(name, line.encode() + b"\r\n")
