"""WATCH and keys that expire: a key that expires after WATCH spoils the EXEC, one that had expired before does not.

The server's clock cannot be set, so these wait, with its active expiry off: what comes before `wait` is done while
the key lives (`while_it_lives`), or, in "had expired", is the key alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import OurClient, Pair, RealServer, encode_request, while_it_lives

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

pytestmark = pytest.mark.conformance

MADE = "SET k v PX span"
EXEC = ["MULTI", "PING", "EXEC"]
SPOILED = b"*-1\r\n"
DONE = b"*1\r\n+PONG\r\n"

SCRIPTS: dict[str, tuple[list[str], bytes]] = {
    "expires after WATCH": ([MADE, "WATCH k", "wait", *EXEC], SPOILED),
    "expires after MULTI": ([MADE, "WATCH k", "MULTI", "PING", "wait", "EXEC"], SPOILED),
    "expires, and is looked at": ([MADE, "WATCH k", "wait", "b:GET k", *EXEC], SPOILED),
    "expires, unwatched": ([MADE, "WATCH k", "wait", "UNWATCH", *EXEC], DONE),
    "had expired": ([MADE, "wait", "WATCH k", *EXEC], DONE),
    "had expired, and is looked at": ([MADE, "wait", "WATCH k", "b:GET k", *EXEC], DONE),
    "had expired, and is deleted": ([MADE, "wait", "WATCH k", "b:DEL k", *EXEC], DONE),
    "had expired, and is made anew": ([MADE, "wait", "WATCH k", "b:SET k 1", *EXEC], SPOILED),
    "had expired, and all is flushed": ([MADE, "wait", "WATCH k", "b:FLUSHALL", *EXEC], DONE),
    "had expired, and is swapped away": ([MADE, "wait", "WATCH k", "b:SWAPDB 0 1", *EXEC], DONE),
    "expires, and all is flushed": ([MADE, "WATCH k", "wait", "b:FLUSHALL", *EXEC], SPOILED),
    "expires, and is swapped away": ([MADE, "WATCH k", "wait", "b:SWAPDB 0 1", *EXEC], SPOILED),
    "expires, and is pushed to": (
        ["RPUSH k 1", "PEXPIRE k span", "WATCH k", "wait", "b:RPUSH k 2", *EXEC],
        SPOILED,
    ),
    "a field expires": (["HSET k f v", "HPEXPIRE k span FIELDS 1 f", "WATCH k", "wait", *EXEC], DONE),
    "a field expires, and is looked at": (
        ["HSET k f v", "HPEXPIRE k span FIELDS 1 f", "WATCH k", "wait", "b:HGET k f", *EXEC],
        SPOILED,
    ),
}


@pytest.fixture
def passive(real_server: RealServer) -> Iterator[Pair]:
    pair = Pair(real_server)
    pair.reset()
    pair.same("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    yield pair
    pair.close()


@pytest.mark.parametrize(("script", "outcome"), SCRIPTS.values(), ids=SCRIPTS)
def test_watched_key_that_expires(passive: Pair, script: list[str], outcome: bytes) -> None:
    our_other = OurClient(passive.engine)

    def run(lines: list[str], their_other: socket.socket, span_ms: int = 0) -> bytes:
        ours = b""
        for line in lines:
            if line.startswith("b:"):
                request = encode_request(tuple(line[2:].split()))
                their_other.sendall(request)
                ours, theirs = our_other.send(request), their_other.recv(4096)
            else:
                ours, theirs = passive.both(*line.replace("span", str(span_ms)).split())
            assert ours == theirs, line
        return ours

    at = script.index("wait")
    with passive.server.connect() as their_other:

        def begin(span_ms: int) -> None:
            passive.reset()
            run(script[:at], their_other, span_ms)

        while_it_lives(begin)
        assert run(script[at + 1 :], their_other) == outcome
