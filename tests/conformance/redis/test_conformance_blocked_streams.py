"""XREAD and XREADGROUP that wait, with several clients, compared with redis-server step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_crowd import Crowd

if TYPE_CHECKING:
    from tests.support.redis_pair import RealServer

pytestmark = pytest.mark.conformance

# Each line is a client's name and its request; after it what every client got is compared.
SCRIPTS = {
    "new entries": """
        a XREAD BLOCK 0 STREAMS s $
        b XADD s 1-1 f v
        a XREAD BLOCK 0 STREAMS s 1-1
        b XADD s 1-2 f v
        a XREAD BLOCK 0 STREAMS s $
        b XADD s 1-3 f v
        a PING
    """,
    "the last entry of then": """
        b XADD s 1-1 f v
        a XREAD BLOCK 0 STREAMS s t $ $
        c XREAD BLOCK 0 COUNT 1 STREAMS s $
        b XADD t 5-5 g w
        b XADD s 1-2 f v
        a XREAD BLOCK 0 STREAMS s t $ $
        b MULTI
        b XADD t 5-6 g w
        b XADD t 5-7 g w
        b XADD s 1-3 f v
        b EXEC
    """,
    "plus": """
        a XREAD BLOCK 0 STREAMS s +
        b MULTI
        b XADD s 1-1 f v
        b XADD s 1-2 f v
        b EXEC
        a XREAD BLOCK 0 STREAMS s +
        b XDEL s 1-1 1-2
        a XREAD BLOCK 0 STREAMS s +
        b XADD s 1-3 f v
    """,
    "all who read get it": """
        a XREAD BLOCK 0 STREAMS s 0
        b XREAD BLOCK 0 STREAMS t s 0 0
        c XREAD BLOCK 0 STREAMS s 5
        d XADD s 1-1 f v
        d XADD s 6-1 f v
    """,
    "an entry that goes at once": """
        a XREAD BLOCK 0 STREAMS s 0
        b MULTI
        b XADD s 1-1 f v
        b XDEL s 1-1
        b EXEC
        b XADD s MAXLEN 0 1-2 f v
        b XADD s 1-3 f v
    """,
    "no stream": """
        a XREAD BLOCK 0 STREAMS s 0
        b SET s x
        b DEL s
        b RPUSH s x
        b DEL s
        b XGROUP CREATE s g 0 MKSTREAM
        b XADD s 1-1 f v
    """,
    "inside MULTI": """
        a MULTI
        a XREAD BLOCK 0 STREAMS s $
        a EXEC
        a XGROUP CREATE s g 0 MKSTREAM
        a MULTI
        a XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        a EXEC
    """,
    "a group in order": """
        b XGROUP CREATE s g 0 MKSTREAM
        a XREADGROUP GROUP g one BLOCK 0 COUNT 1 STREAMS s >
        c XREADGROUP GROUP g two BLOCK 0 COUNT 1 STREAMS s >
        d XREADGROUP GROUP g three BLOCK 0 STREAMS s >
        b XADD s 1-1 f v
        a XREADGROUP GROUP g one BLOCK 0 COUNT 1 STREAMS s >
        b MULTI
        b XADD s 1-2 f v
        b XADD s 1-3 f v
        b XADD s 1-4 f v
        b EXEC
        b XADD s 1-5 f v
        b XPENDING s g
        b XINFO GROUPS s
    """,
    "without acknowledgment": """
        b XGROUP CREATE s g 0 MKSTREAM
        a XREADGROUP GROUP g one NOACK BLOCK 0 STREAMS s >
        b XADD s 1-1 f v
        b XPENDING s g
    """,
    "history does not wait": """
        b XGROUP CREATE s g 0 MKSTREAM
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s 0
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s 18446744073709551615-18446744073709551615
        b XADD s 1-1 f v
    """,
    "group destroyed": """
        b XGROUP CREATE s g 0 MKSTREAM
        b XGROUP CREATE s h 0
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        c XREADGROUP GROUP h one BLOCK 0 STREAMS s >
        d XREAD BLOCK 0 STREAMS s 0
        b WATCH s
        b XGROUP DESTROY s g
        b MULTI
        b PING
        b EXEC
        b XADD s 1-1 f v
    """,
    "key deleted": """
        b XGROUP CREATE s g 0 MKSTREAM
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        c XREAD BLOCK 0 STREAMS s 0
        b DEL s
        b XADD s 1-1 f v
    """,
    "key deleted and back": """
        b XGROUP CREATE s g 0 MKSTREAM
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        b MULTI
        b DEL s
        b XGROUP CREATE s g 0 MKSTREAM
        b EXEC
        b XADD s 1-1 f v
    """,
    "another type": """
        b XGROUP CREATE s g 0 MKSTREAM
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        c XREAD BLOCK 0 STREAMS s 0
        b SET s x
        b DEL s
        b XADD s 1-1 f v
    """,
    "flushed": """
        b XGROUP CREATE s g 0 MKSTREAM
        b XGROUP CREATE t g 0 MKSTREAM
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s t > >
        b FLUSHALL
        b XADD s 1-1 f v
    """,
    "renamed onto": """
        b XADD t 1-1 f v
        b XGROUP CREATE t g 0
        b XGROUP CREATE s g $ MKSTREAM
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        c XREAD BLOCK 0 STREAMS s $
        b RENAME t s
    """,
    "restored": """
        b XADD t 1-1 f v
        a XREAD BLOCK 0 STREAMS s 0
        b COPY t s
    """,
    "set back": """
        b XADD s 1-1 f v
        b XGROUP CREATE s g $
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        b XGROUP SETID s g 0
        b XADD s 1-2 f v
    """,
    "other changes": """
        b XADD s 1-1 f v
        b XGROUP CREATE s g $
        a XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        b XDEL s 1-1
        b XSETID s 5-5
        b XTRIM s MAXLEN 0
        b XGROUP DELCONSUMER s g one
        b XINFO GROUPS s
        b XADD s 6-1 f v
        b XPENDING s g
    """,
    "unblocked": """
        a XREAD BLOCK 0 STREAMS s $
        b XGROUP CREATE s g 0 MKSTREAM
        c XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        b CLIENT UNBLOCK @a
        b CLIENT UNBLOCK @c ERROR
        b XADD s 1-1 f v
        a PING
    """,
}


@pytest.mark.parametrize("resp3", ["", "a c d"], ids=["resp2", "resp3"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_who_waits_is_answered_as_by_the_server(real_server: RealServer, name: str, resp3: str) -> None:
    with Crowd(real_server, resp3) as crowd:
        crowd.introduce("a", "b", "c", "d")
        for line in SCRIPTS[name].strip().splitlines():
            who, *words = line.split()
            about = [word for word in words if word in ("@a", "@c")]
            if about:
                words = ["@" if word in about else word for word in words]
                crowd.say_about(who, about[0][1:], *words)
            else:
                crowd.say(who, *words)


@pytest.mark.parametrize("command", ["XREAD", "XREADGROUP GROUP g c"])
def test_time_that_is_up_gives_nothing(real_server: RealServer, command: str) -> None:
    with Crowd(real_server) as crowd:
        crowd.say("b", "XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
        last = ">" if "GROUP" in command else "$"
        got = crowd.say("a", *command.split(), "BLOCK", 1, "STREAMS", "s", last)
        while not got:
            got = crowd.time_passes()
        assert got == {"a": b"*-1\r\n"}
