"""CLIENT PAUSE WRITE, compared with redis-server: which commands wait, and in which order they go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.redis.test_conformance_tracking import play
from tests.support.redis_crowd import Crowd

if TYPE_CHECKING:
    from tests.support.redis_pair import RealServer

pytestmark = pytest.mark.conformance

SCRIPTS = {
    "order": "CLIENT PAUSE 100000 WRITE|b:SET k 1|c:SET k 2|d:GET k|b:GET k|CLIENT UNPAUSE|d:GET k|CLIENT UNPAUSE",
    "in MULTI": "b:MULTI|b:SET k 1|c:MULTI|c:GET k|d:MULTI|CLIENT PAUSE 100000 WRITE|b:EXEC|c:EXEC|d:SET k 2|CLIENT UNPAUSE|d:EXEC",
    "by a transaction": "MULTI|SET k 1|CLIENT PAUSE 100000 WRITE|SET k 2|EXEC|b:GET k|b:SET k 3|CLIENT UNPAUSE|GET k",
    "again": "CLIENT PAUSE 100000 WRITE|b:SET k 1|CLIENT PAUSE 10 WRITE|CLIENT UNPAUSE|CLIENT PAUSE 100000 WRITE|b:SET k 2|CLIENT UNPAUSE",
    "no time": "CLIENT PAUSE 0 WRITE|SET k 1|CLIENT PAUSE 0|SET k 2",
    "unblocking": "CLIENT PAUSE 100000 WRITE|b:SET k 1|CLIENT UNBLOCK 1|c:BLPOP q 0|CLIENT UNPAUSE|d:RPUSH q 1",
    "a client that goes": "CLIENT PAUSE 100000 WRITE|b:SET k 1|c:SET k 2|CLIENT UNPAUSE|GET k",
    "expired": "DEBUG SET-ACTIVE-EXPIRE 0|SET k 1 PX 1|SET l 1|wait|CLIENT PAUSE 100000 WRITE|GET k|EXISTS k l|TTL k|TYPE k|DBSIZE"
    "|CLIENT UNPAUSE|GET k|DBSIZE",
    "errors": "CLIENT PAUSE 100000 WRITE|b:NOSUCH|b:SET k|b:LPUSH|c:INCR|CLIENT UNPAUSE",
    "published": "b:SUBSCRIBE x|CLIENT PAUSE 100000 WRITE|c:PUBLISH x 1|d:SPUBLISH x 1|CLIENT UNPAUSE",
    "watched": "b:WATCH k|b:MULTI|b:GET k|c:SET k 1|CLIENT PAUSE 100000 WRITE|b:EXEC|CLIENT UNPAUSE",
}  # fmt: skip

REQUESTS = [
    "GET k", "SET k 1", "EVAL return(1) 0", "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", "EVAL_RO return(1) 0",
    "FCALL f 0", "FCALL_RO f 0", "SCRIPT LOAD return(1)", "SCRIPT FLUSH", "FUNCTION FLUSH", "PFCOUNT h", "PFADD h a",
    "PUBLISH c m", "SPUBLISH c m", "SUBSCRIBE c", "SPOP s", "SRANDMEMBER s", "GETEX k", "GETDEL k", "SORT l", "SORT_RO l",
    "XREAD STREAMS s 0", "XREADGROUP GROUP g c STREAMS s >", "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "CONFIG SET hz 10",
    "SELECT 1", "EXPIRE k 10", "PERSIST k", "TOUCH k", "COPY k l", "RENAME k l", "RESTORE r 0 x", "DUMP k", "BLPOP q 0.001",
    "GEORADIUS g 0 0 1 m", "GEORADIUS_RO g 0 0 1 m", "BITFIELD k", "BITFIELD_RO k", "WATCH k", "UNWATCH", "MULTI", "PING",
    "ECHO x", "OBJECT ENCODING k", "DEBUG SLEEP 0", "SCAN 0", "KEYS *", "UNLINK k", "LATENCY RESET", "SLOWLOG RESET", "MONITOR",
    "CLIENT GETNAME", "CLIENT TRACKING ON", "AUTH x", "TIME_IS_NO_COMMAND", "RESET", "GETSET k v", "MSETNX k v", "LMPOP 1 l LEFT",
]  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_agrees(real_server: RealServer, name: str) -> None:
    with Crowd(real_server) as crowd:
        try:
            play(crowd, SCRIPTS[name].split("|"))
        finally:
            crowd.say("unpausing", "CLIENT", "UNPAUSE")


def test_the_same_commands_wait(real_server: RealServer) -> None:
    with Crowd(real_server, mask=rb"\+\d+\.\d{6} \[[^\n]*\n") as crowd:
        crowd.introduce("a", *[f"c{number}" for number in range(len(REQUESTS))])
        crowd.say("a", "CLIENT", "PAUSE", 100_000, "WRITE")
        try:
            for number, request in enumerate(REQUESTS):
                crowd.say(f"c{number}", *request.split(" "))
                if request == "MONITOR":
                    crowd.close(f"c{number}")
        finally:
            crowd.say("a", "CLIENT", "UNPAUSE")
