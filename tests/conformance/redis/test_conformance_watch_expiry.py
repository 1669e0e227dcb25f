"""WATCH and keys that expire: a key that expires after WATCH spoils the EXEC, one that had expired before does not.

The server's clock cannot be set, so these wait: 10 ms where a key has 5 to live, with its active expiry off.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import OurClient, Pair, RealServer, encode_request

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.conformance

MADE = "SET k v PX 5"
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
        ["RPUSH k 1", "PEXPIRE k 5", "WATCH k", "wait", "b:RPUSH k 2", *EXEC],
        SPOILED,
    ),
    "a field expires": (["HSET k f v", "HPEXPIRE k 5 FIELDS 1 f", "WATCH k", "wait", *EXEC], DONE),
    "a field expires, and is looked at": (
        ["HSET k f v", "HPEXPIRE k 5 FIELDS 1 f", "WATCH k", "wait", "b:HGET k f", *EXEC],
        SPOILED,
    ),
}


@pytest.fixture
def passive(real_server: RealServer) -> Iterator[Pair]:
    pair = Pair(real_server)
    pair.reset()
    pair._read_theirs(encode_request(("DEBUG", "SET-ACTIVE-EXPIRE", "0")), 1)
    yield pair
    pair._read_theirs(encode_request(("DEBUG", "SET-ACTIVE-EXPIRE", "1")), 1)
    pair.close()


@pytest.mark.parametrize(("script", "outcome"), SCRIPTS.values(), ids=SCRIPTS)
def test_watched_key_that_expires(passive: Pair, script: list[str], outcome: bytes) -> None:
    our_other = OurClient(passive.engine)
    ours = theirs = b""
    with passive.server.connect() as their_other:
        for line in script:
            if line == "wait":
                time.sleep(0.01)
                continue
            if line.startswith("b:"):
                request = encode_request(tuple(line[2:].split()))
                their_other.sendall(request)
                ours, theirs = our_other.send(request), their_other.recv(4096)
            else:
                ours, theirs = passive.both(*line.split())
            assert ours == theirs, line
    assert ours == outcome
