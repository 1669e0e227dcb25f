"""Keyspace events of sets, hashes, their fields and HyperLogLogs: which, and in which order, as redis-server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_crowd import Crowd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.redis_pair import RealServer

pytestmark = pytest.mark.conformance

# Every line on the database that the lines before it have left. A far time is absolute.
SCRIPT = """
HSET k a 1 b 2
HSET k a 1
HSETNX k a 1
HSETNX k q 1
HMSET k a 1
HINCRBY k a 1
HINCRBYFLOAT k a 1
HDEL k zz
HDEL k a q
HDEL k b
HSET k a 1 b 2 c 3
HPEXPIRE k 1000000 FIELDS 2 a b
HPEXPIRE k 1000000 NX FIELDS 2 a b
HPEXPIREAT k 1 FIELDS 1 a
HSET k a 1
HPEXPIRE k 1000000 FIELDS 2 b zz
HPEXPIRE k 1000000 FIELDS 1 zz
HPEXPIREAT k 1 FIELDS 3 a b c
HSET k a 1 b 2 c 3
HPERSIST k FIELDS 1 a
HPEXPIRE k 1000000 FIELDS 2 a b
HPERSIST k FIELDS 1 a
HGETEX k FIELDS 1 a
HGETEX k PERSIST FIELDS 2 a b
HGETEX k PERSIST FIELDS 2 a b
HGETEX k PX 1000000 FIELDS 2 a b
HGETEX k PX 1000000 FIELDS 1 zz
HGETEX k PXAT 1 FIELDS 2 a zz
HGETEX k PXAT 1 FIELDS 2 b c
HSETEX k FIELDS 2 a 1 b 2
HSETEX k PX 1000000 FIELDS 2 a 1 b 2
HSETEX k KEEPTTL FIELDS 2 a 1 b 2
HSETEX k FIELDS 2 a 1 b 2
HSETEX k PXAT 1 FIELDS 2 a 1 c 2
HSETEX k PXAT 1 FIELDS 2 a 1 b 2
HSETEX k2 PXAT 1 FIELDS 2 a 1 b 2
HSETEX k3 FXX FIELDS 1 a 1
HSETEX k3 FNX FIELDS 1 a 1
HSETEX k3 FNX FIELDS 1 a 1
HGETDEL k3 FIELDS 1 zz
HGETDEL k3 FIELDS 1 a
HSET k4 a 1 b 2
HGETDEL k4 FIELDS 1 a
SADD k 1 2
SADD k 1
SREM k 1 5
SREM k 9
SREM k 2
SADD k 1 2 3 4
SPOP k 0
SPOP k 5
SADD k 1
SPOP k
SPOP k
SADD a 1 2 3
SADD b 2 3
SINTERSTORE d a b
SINTERSTORE d none
SINTERSTORE d none
SUNIONSTORE d a b
SUNIONSTORE d none
SDIFFSTORE d a b
SDIFFSTORE d b a
SMOVE b c 2
SMOVE b c 3
SMOVE a c 3
SMOVE a a 1
SMOVE a c 99
SET s v
SUNIONSTORE s a
SINTERSTORE a a
PFADD hll a
PFADD hll a
PFADD hll
PFCOUNT hll
PFMERGE hll2 hll
PFMERGE hll2
PFADD empty
SMEMBERS none
HGET none a
HGETEX none FIELDS 1 a
SMOVE none k 1
SPOP none
SINTERCARD 2 none a
PFCOUNT none
""".strip().splitlines()


@pytest.fixture
def crowd(real_server: RealServer) -> Iterator[Crowd]:
    with Crowd(real_server, resp3="three") as made:
        yield made
        made.say("me", "CONFIG", "SET", "notify-keyspace-events", "")


@pytest.mark.parametrize("letters", ["AKE", "AKEmnoc", "Eh", "Ks"])
def test_events_of_commands(crowd: Crowd, letters: str) -> None:
    crowd.say("listener", "PSUBSCRIBE", "__key*")
    crowd.say("me", "CONFIG", "SET", "notify-keyspace-events", letters)
    for line in SCRIPT:
        crowd.send("me", line.encode() + b"\r\n")
