"""Absurd arguments: our engine, confined to little memory, answers what redis-server answers, and soon.

Every number of every template is replaced by each of `ABSURD`, one at a time, on small values of every type.
Left out is what the server itself would answer with as many elements as the number says (HRANDFIELD -2147483648):
there is no answer to compare.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.confined import Confined
from tests.support.redis_pair import RealServer, encode_request

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

pytestmark = pytest.mark.conformance

# Of address space beyond the start. Twice the largest string there may be, 512 MiB, and some.
LIMIT_MIB = 1400
# Of processor time, for a command that ought to take microseconds, or a second if it makes 512 MiB.
PATIENCE_S = 20.0

SETUP = [
    "FLUSHALL", "SET s hello", "SET n 10", "RPUSH l 1 2 3 4 5", "SADD i 1 2 3", "SADD t a b c", "HSET h f 1 g 2 i 3",
    "ZADD z 1 a 2 b 3 c", "ZADD y 1 a 5 d", "XADD x 1-1 f v", "XADD x 2-1 f v", "XGROUP CREATE x g 0",
    "XREADGROUP GROUP g c COUNT 1 STREAMS x >", "GEOADD p 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "PFADD q a b c", "SETBIT b 7 1",
]  # fmt: skip

ABSURD = [
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64,
    -(2**31), -(2**31) - 1, -(2**32), -(2**62), -(2**63) + 1, -(2**63), -(2**63) - 1,
]  # fmt: skip
ENORMOUS_DOUBLES = ["1e308", "-1e308", "1e309", "5e-324", "inf", "-inf"]

# A number alone between spaces is replaced; one behind `=` stays as it is, without the `=`.
TEMPLATES = """
GETRANGE s 0 -1
SETRANGE s 3 x
SETRANGE new 3 x
SUBSTR s 0 1
INCRBY n 5
DECRBY n 5
SETBIT b 3 1
GETBIT b 3
BITCOUNT b 0 -1
BITCOUNT b 0 -1 BIT
BITPOS b 1 0 -1
BITPOS b 1 0 -1 BIT
BITFIELD b GET u8 3 SET u4 5 7
BITFIELD b OVERFLOW FAIL INCRBY i8 0 100
BITFIELD_RO b GET u8 5
SET s x EXAT 99999999999
SETEX s 100 x
PSETEX s 100000 x
GETEX s PXAT 99999999999999
EXPIRE s 1000
PEXPIRE s 100000
EXPIREAT s 99999999999
PEXPIREAT s 99999999999999
LCS s n MINMATCHLEN 3 IDX
SCAN 0 COUNT 1000
COPY s new DB 0
MOVE s 1
SELECT 0
SWAPDB 0 1
LRANGE l 0 -1
LINDEX l 1
LSET l 1 x
LPOP l 1
RPOP l 2
LTRIM l 1 2
LREM l 1 3
LPOS l 3 RANK 1 COUNT 2 MAXLEN 3
LMPOP 1 l LEFT COUNT 2
SORT l LIMIT 0 2
SORT l LIMIT 1 2 STORE new
SORT i BY nosort LIMIT 0 10
SORT z BY nosort LIMIT 0 10
SPOP i 3
SRANDMEMBER i 3
SINTERCARD 2 i t LIMIT 1
SSCAN t 0 COUNT 100
HINCRBY h f 1
HRANDFIELD h 5
HSCAN h 0 COUNT 100
HEXPIRE h 1000 FIELDS =1 f
HPEXPIRE h 100000 FIELDS =1 f
HEXPIREAT h 99999999999 FIELDS =1 f
HPEXPIREAT h 99999999999999 FIELDS =1 f
HGETEX h EX 1000 FIELDS =1 f
HSETEX h EX 1000 FIELDS =1 f v
HGETDEL h FIELDS 1 f
HTTL h FIELDS 1 f
ZRANGE z 0 -1
ZRANGE z 0 -1 REV WITHSCORES
ZRANGE z 0 10 BYSCORE LIMIT 0 2
ZRANGE z - + BYLEX LIMIT 0 2
ZRANGEBYSCORE z 0 10 LIMIT 0 2
ZREVRANGEBYSCORE z 10 0 LIMIT 0 2
ZRANGEBYLEX z - + LIMIT 0 2
ZREVRANGE z 0 -1
ZRANGESTORE new z 0 -1
ZREMRANGEBYRANK z 1 2
ZREMRANGEBYSCORE z 1 2
ZCOUNT z 0 10
ZPOPMIN z 2
ZPOPMAX z 2
ZMPOP 1 z MIN COUNT 2
ZRANDMEMBER z 5
ZINCRBY z 1 a
ZADD z 1 a
ZADD z INCR 1 a
ZUNION 2 z y WEIGHTS 1 2
ZUNIONSTORE new 2 z y WEIGHTS 1 2
ZINTER 2 z y
ZINTERCARD 2 z y LIMIT 1
ZDIFF 2 z y
ZSCAN z 0 COUNT 100
XADD x MAXLEN 1 3-1 f v
XADD x MAXLEN ~ 1 LIMIT 10 3-1 f v
XADD x MINID 1 3-1 f v
XTRIM x MAXLEN 1
XTRIM x MINID 2
XTRIM x MAXLEN ~ 1 LIMIT 10
XRANGE x 0 10 COUNT 1
XREVRANGE x 10 0 COUNT 1
XREAD COUNT 1 STREAMS x 0
XREADGROUP GROUP g c COUNT 1 STREAMS x >
XPENDING x g - + 10
XPENDING x g IDLE 0 - + 10
XCLAIM x g d 0 1-1 JUSTID
XCLAIM x g d 0 1-1 IDLE 5 RETRYCOUNT 3 JUSTID
XAUTOCLAIM x g d 0 0 COUNT 10 JUSTID
XSETID x 5 ENTRIESADDED 10
XGROUP CREATE x k 0 ENTRIESREAD 2
XINFO STREAM x FULL COUNT 0
XDEL x 1
XACK x g 1
GEOADD p 13 38 Rome
GEOSEARCH p FROMLONLAT 15 37 BYRADIUS 200 km COUNT 2
GEOSEARCH p FROMMEMBER Palermo BYBOX 400 300 km COUNT 2 ANY
GEORADIUS p 15 37 200 km COUNT 2
GEORADIUSBYMEMBER p Palermo 200 km COUNT 1
GEOSEARCHSTORE new p FROMLONLAT 15 37 BYRADIUS 200 km COUNT 2
RESTORE new 0 x
MEMORY USAGE s SAMPLES 5
OBJECT ENCODING s
INCRBYFLOAT n 1
HINCRBYFLOAT h f 1
SET n x PX 100000 NX
SET s x EX 100 GET
GETEX s EX 100
GETSET n 5
EXPIRE s 1000 GT
EXPIRE s 1000 NX
LPOS l 3 RANK -1
LINSERT l BEFORE 3 9
LMPOP 2 l none RIGHT COUNT 1
BLMPOP 1 2 l none RIGHT COUNT 1
BZMPOP 1 1 z MIN COUNT 2
BLPOP l 1
BRPOP l 1
BLMOVE l new LEFT RIGHT 1
BRPOPLPUSH l new 1
BZPOPMIN z 1
BZPOPMAX z 1
SORT l BY w* LIMIT 0 2 GET # DESC
SORT_RO l LIMIT 0 2 ALPHA
SADD i 5
SMISMEMBER i 1 5
SINTERCARD 1 i LIMIT 0
HSET h i 5
HMGET h 1 2
HPERSIST h FIELDS 1 f
HEXPIRETIME h FIELDS 1 f
HPEXPIRETIME h FIELDS 1 f
HPTTL h FIELDS 1 f
HGETEX h PX 100000 FIELDS =1 f
HGETEX h EXAT 99999999999 FIELDS 1 f
HSETEX h FNX PXAT 99999999999999 FIELDS 1 f v
HEXPIRE h 1000 GT FIELDS =1 f
ZADD z GT CH 5 a 7 b
ZRANGE z 5 1 BYSCORE REV LIMIT 0 5
ZREVRANGEBYLEX z + - LIMIT 0 2
ZINTERSTORE new 2 z y WEIGHTS 1 2 AGGREGATE MAX
ZDIFFSTORE new 2 z y
ZRANGESTORE new z 0 5 BYSCORE LIMIT 0 2
ZMSCORE z 1
XADD x 3-1 f 1
XADD x 5 f v
XADD x MAXLEN = 1 3-1 f v
XREAD COUNT 1 STREAMS x 1
XDELEX x KEEPREF IDS 1 1-1
XACKDEL x g KEEPREF IDS 1 1-1
XGROUP SETID x g 0 ENTRIESREAD 2
XCLAIM x g d 0 1-1 TIME 5 JUSTID
XCLAIM x g d 0 1-1 LASTID 5 JUSTID
XPENDING x g 0 10 10 c
GEOSEARCH p FROMMEMBER Palermo BYRADIUS 200 km COUNT 1 ANY
GEOSEARCH p FROMLONLAT 15 37 BYBOX 200 300 km
GEORADIUS p 15 37 200 km COUNT 1 STORE new
GEORADIUS_RO p 15 37 200 km
GEORADIUSBYMEMBER_RO p Palermo 200 km COUNT 1
BITFIELD b SET u8 #3 5
BITFIELD b INCRBY i64 0 5 INCRBY i64 0 5
BITPOS b 0 1
SETBIT new 3 1
RESTORE new 5 x ABSTTL IDLETIME 5
RESTORE new 5 x FREQ 5
OBJECT FREQ 5
SLOWLOG GET 10
CLIENT UNBLOCK 999999
CLIENT NO-EVICT 5
PUBLISH 1 2
EXPIRETIME 5
""".strip().splitlines()

NUMBER = re.compile(r"(?<= )-?\d+(?= |$)")
# Negative numbers ask for that many members, one of them again and again.
REPEATING = ("SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER")
# What depends on chance, on a hash or on the time: both must fail alike, or both must not.
INCOMPARABLE = (
    "SLOWLOG",
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "SPOP",
    "SCAN",
    "XPENDING",
    "MEMORY",
    "XINFO",
)


def variants(template: str) -> list[str]:
    """The template with each of its numbers replaced by each absurd one."""
    made: list[str] = []
    values = [str(value) for value in ABSURD] + ENORMOUS_DOUBLES
    for match in NUMBER.finditer(template):
        for value in values:
            if template.startswith(REPEATING) and value.startswith("-"):
                continue
            made.append((template[: match.start()] + value + template[match.end() :]).replace("=", ""))
    return made or [template]


class Both:
    """The two sides, with the same small values before each command."""

    def __init__(self, server: RealServer) -> None:
        server.put_right()
        self.ours = Confined(LIMIT_MIB)
        self.theirs: socket.socket = server.connect()
        self.server = server
        self.setup = b"".join([encode_request(tuple(line.split())) for line in SETUP])

    def prepare(self) -> None:
        ours = self.ours.ask(encode_request(("RESET",)) + self.setup, len(SETUP) + 1)
        theirs = self._ask_server(encode_request(("RESET",)) + self.setup, len(SETUP) + 1)
        assert ours == theirs

    def ask(self, line: str) -> tuple[bytes, bytes, float]:
        """Both replies, and how many seconds of processor time ours took."""
        request = encode_request(tuple(line.split()))
        begun = self.ours.processor_time()
        ours = self.ours.ask(request, 1)
        taken = self.ours.processor_time() - begun
        return ours, self._ask_server(request, 1), taken

    def _ask_server(self, data: bytes, replies: int) -> bytes:
        # A mark behind the requests tells where the replies end.
        mark = b"$3\r\nend\r\n"
        self.theirs.sendall(data + encode_request(("ECHO", "end")))
        received = bytearray()
        while not received.endswith(mark):
            received += self.theirs.recv(1 << 20)
        return bytes(received[: -len(mark)])

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture(scope="module")
def both(real_server: RealServer) -> Iterator[Both]:
    made = Both(real_server)
    yield made
    made.close()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda line: line.replace(" ", "_")[:40])
def test_absurd_numbers(both: Both, template: str) -> None:
    differences: list[str] = []
    for line in variants(template):
        both.prepare()
        ours, theirs, taken = both.ask(line)
        failed = ours.startswith(b"-") or theirs.startswith(b"-")
        if ours != theirs and (failed or not template.startswith(INCOMPARABLE)):
            differences.append(f"{line}: ours {ours[:200]!r}, redis-server {theirs[:200]!r}")
        if taken > PATIENCE_S:
            differences.append(f"{line}: took {taken:.1f} s")
    assert not differences, "\n".join(differences)


# One after the other, each on what the one before has left: strings of half a gigabyte.
HUGE = [
    "SETRANGE k 536870911 x", "STRLEN k", "APPEND k y", "SETRANGE k 536870912 x", "GETRANGE k -3 -1", "BITCOUNT k",
    "BITPOS k 1", "SETBIT k 4294967295 1", "GETBIT k 4294967295", "BITFIELD k GET u8 4294967288",
    "BITFIELD k SET u8 4294967289 1", "OBJECT ENCODING k", "INCR k", "TYPE k", "RENAME k j", "GETBIT j 7", "DEL j",
    "SETBIT k 4294967295 1", "SETBIT k 4294967296 1", "BITOP NOT k k", "GETRANGE k 0 3", "GETRANGE k 536870911 -1", "DEL k",
]  # fmt: skip


def test_strings_of_the_largest_size(both: Both) -> None:
    both.prepare()
    for line in HUGE:
        ours, theirs, taken = both.ask(line)
        assert ours == theirs, line
        assert taken < PATIENCE_S, line


def test_repeated_members_in_great_number(both: Both) -> None:
    for line in ("SRANDMEMBER i -200000", "HRANDFIELD h -200000", "ZRANDMEMBER z -200000"):
        both.prepare()
        ours, theirs, taken = both.ask(line)
        assert ours[:9] == theirs[:9] == b"*200000\r\n"
        assert taken < PATIENCE_S
    for value in (-(2**31), -(2**62), -(2**63) + 1, -(2**63)):
        for line in ("SRANDMEMBER none", "HRANDFIELD none", "ZRANDMEMBER none"):
            ours, theirs, _ = both.ask(f"{line} {value}")
            assert ours == theirs, (line, value)


def test_the_confinement_holds(both: Both) -> None:
    """Were it without effect, nothing above would have been tested."""
    confined = Confined(100)
    try:
        with pytest.raises(AssertionError, match="MemoryError"):
            confined.ask(encode_request(("SETRANGE", "k", 400_000_000, "x")), 1)
    finally:
        confined.close()
