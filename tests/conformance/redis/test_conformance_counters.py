"""What commands that fail leave in INFO: errorstats, and calls, refusals and failures of each command.

Each is called directly, in EXEC, and in scripts and functions, by `redis.call` and by `redis.pcall`: an error
counts once, whichever way it goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.redis.replies import Verbatim
from tests.support.redis_pair import OurClient, make_engine, parse_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

LIBRARY = """#!lua name=lib
redis.register_function('f', function(k,a) return redis.call('lpush','str',1) end)
redis.register_function('g', function(k,a) return redis.error_reply('MY own') end)
redis.register_function('p', function(k,a) return redis.pcall('lpush','str',1) end)
redis.register_function('w', function(k,a) return redis.call('set','k','v') end)
redis.register_function('own', function(k,a) error('mine') end)
redis.register_function('any', function(k,a) return redis.call(unpack(a)) end)
redis.register_function('any_pcall', function(k,a) return redis.pcall(unpack(a)) end)
"""

# Words are apart by one space; \x20 is a space in a word.
LINES = r"""
SET
SET k v NX XX
SET k v EX 0
SET k v EX x
GET
GET a b
NOSUCH
NOSUCH a b
INCR str
INCR list
LPUSH str x
GET list
HGET str f
HSET h a
CONFIG
CONFIG NOSUCH
CONFIG GET
CONFIG SET nosuch 1
CONFIG SET maxmemory x
CLIENT
CLIENT NOSUCH
CLIENT KILL 1:1
CLIENT LIST TYPE x
OBJECT ENCODING
OBJECT NOSUCH k
OBJECT ENCODING missing
XADD x 0-0 a b
XREADGROUP GROUP g c STREAMS x >
XGROUP CREATE missing g 0
SUBSCRIBE
SPUBLISH
EVAL
EVAL return
EVAL return 1
EVAL return -1
EVAL return x
EVAL err! 0
EVAL error('x') 0
EVAL return\x20{err='MY\x20own'} 0
EVAL return\x20redis.error_reply('MY\x20own') 0
EVAL return\x20redis.call('get') 0
EVAL return\x20redis.pcall('get') 0
EVAL return\x20redis.call('lpush','str',1) 0
EVAL return\x20redis.pcall('lpush','str',1) 0
EVAL redis.pcall('lpush','str',1);\x20return\x201 0
EVAL return\x20redis.call('nosuch') 0
EVAL return\x20redis.pcall('nosuch') 0
EVAL return\x20redis.call() 0
EVAL return\x20redis.call({}) 0
EVAL return\x20redis.pcall({}) 0
EVAL return\x20redis.call('subscribe','c') 0
EVAL return\x20redis.call('eval','return\x201','0') 0
EVAL return\x20redis.call('config','nosuch') 0
EVAL return\x20redis.call('config') 0
EVAL return\x20redis.call('object','encoding') 0
EVAL return\x20redis.call('multi') 0
EVAL local\x20e=redis.pcall('lpush','str',1);error(e) 0
EVAL local\x20e=redis.pcall('lpush','str',1);error(e.err) 0
EVAL local\x20e=redis.pcall('lpush','str',1);return\x20{err=e.err} 0
EVAL error({err='MY\x20own'}) 0
EVAL error({err='-MY\x20own'}) 0
EVAL error({}) 0
EVAL error(nil) 0
EVAL error() 0
EVAL x=1 0
EVAL return\x20y 0
EVAL return\x20{1,{err='A\x20b'}} 0
EVAL_RO return\x20redis.call('set','k','v') 0
EVAL_RO return\x20redis.pcall('set','k','v') 0
EVALSHA x 0
EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
SCRIPT
SCRIPT NOSUCH
SCRIPT LOAD
SCRIPT LOAD err!
SCRIPT FLUSH x
FUNCTION LOAD x
FUNCTION DELETE x
FUNCTION NOSUCH
FUNCTION RESTORE x
FCALL
FCALL nosuch 0
FCALL f 0
FCALL f x
FCALL f 9
FCALL g 0
FCALL p 0
FCALL w 0
FCALL_RO w 0
FCALL own 0
EVAL return\x20{1,{err='A\x20b'},{err='C\x20d'}} 0
EVAL return\x20{1,redis.pcall('lpush','str',1)} 0
EVAL local\x20e=redis.pcall('lpush','str',1)\x20return\x20{e,e,e} 0
EVAL local\x20e=redis.pcall('lpush','str',1)\x20return\x20{{err='A\x20b'},e,{err='A\x20b'},e} 0
EVAL return\x20{1,redis.error_reply('nospace')} 0
EVAL return\x20{err='nospace'} 0
EVAL return\x20redis.error_reply('nospace') 0
EVAL return\x20{map={a={err='IN\x20map'}}} 0
EVAL return\x20{err='A\x20b\\nc'} 0
DEBUG ERROR nospace
EVAL return\x20{err='\x20x'} 0
EVAL return\x20{err='aaaaaaaaaabbbbbbbbbbcccccccccc\x20x'} 0
EVAL return\x20{err='aaaaaaaaaabbbbbbbbbbccccccccccd\x20x'} 0
EVAL return\x20{err='a:b#c\x20d'} 0
EVAL return\x20{err=''} 0
EVAL return\x20{1,{err=''}} 0
EVAL return\x20{1,{err='a:b#c\x20d'}} 0
DEBUG ERROR MY\x20err
DEBUG NOSUCH
MULTI
EXEC
DISCARD
WATCH
WATCH k
UNWATCH x
AUTH x
AUTH a b c
HELLO 9
HELLO 3 SETNAME
HELLO x
SELECT 99
SELECT x
ZADD z x a
ZADD z 1
RESTORE k 0 x
SORT str
SORT l BY x
GEOADD g 1 2
BITOP x d a
BITFIELD k SET x
PFADD str x
PFCOUNT str list
LATENCY RESET x
LATENCY NOSUCH
MEMORY USAGE
MEMORY NOSUCH
SLOWLOG GET x
ACL WHOAMI x
ACL NOSUCH
COMMAND NOSUCH
COMMAND INFO nosuch
COMMAND GETKEYS
COMMAND GETKEYS get
COMMAND GETKEYS nosuch
COMMAND GETKEYS ping
MOVE k 0
MOVE k 99
COPY a a
RENAME missing x
BLPOP str 0
BLPOP l x
BLPOP l -1
WAIT x 0
WAITAOF 1 0 0
SWAPDB 0 99
EXPIRE k x
SCAN x
HSCAN str 0
LMPOP 0 a LEFT
ZMPOP 0 a MIN
SINTERCARD 0 a
SUBSCRIBE
PUBLISH c
XCLAIM x g c
XINFO STREAM missing
XINFO NOSUCH
REPLICAOF a b
FAILOVER
CLUSTER INFO
CLUSTER NOSUCH
ASKING
READONLY
MODULE LOAD x
MODULE NOSUCH
SHUTDOWN x
DEBUG
PING a b
ECHO
OBJECT HELP x
""".strip("\n").split("\n")

CALL = "return redis.call(unpack(ARGV))"
PCALL = "return redis.pcall(unpack(ARGV))"


def words_of(line: str) -> list[str]:
    return [word.replace(r"\x20", " ") for word in line.split(" ")]


def direct(pair: Pair, words: list[str]) -> None:
    if words != ["MULTI"]:
        pair.same(*words)


def in_transaction(pair: Pair, words: list[str]) -> None:
    if words[0] in ("EXEC", "DISCARD"):
        return
    pair.same("MULTI")
    pair.same(*words)
    pair.same("EXEC")


def script_in_transaction(pair: Pair, words: list[str]) -> None:
    pair.same("MULTI")
    pair.same("EVAL", CALL, 0, *words)
    pair.same("EXEC")


WAYS: dict[str, Callable[[Pair, list[str]], object]] = {
    "direct": direct,
    "exec": in_transaction,
    "call": lambda pair, words: pair.same("EVAL", CALL, 0, *words),
    "pcall": lambda pair, words: pair.same("EVAL", PCALL, 0, *words),
    "read-only": lambda pair, words: pair.same("EVAL_RO", CALL, 0, *words),
    "fcall": lambda pair, words: pair.same("FCALL", "any", 0, *words),
    "fcall-pcall": lambda pair, words: pair.same("FCALL", "any_pcall", 0, *words),
    "eval-in-exec": script_in_transaction,
}


def counters(raw: bytes) -> dict[str, str]:
    """Field -> value of the fields that count calls and errors, without times."""
    reply = parse_one(raw)
    text = reply.text if isinstance(reply, Verbatim) else reply
    assert isinstance(text, bytes)
    found: dict[str, str] = {}
    for line in text.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.startswith("cmdstat_"):
            parts = [part for part in value.split(",") if not part.startswith("usec")]
            found[name] = ",".join(parts)
        elif name.startswith("errorstat_") or name in ("total_error_replies", "total_commands_processed"):
            found[name] = value
    return found


@pytest.mark.parametrize("way", WAYS)
def test_errors_are_counted_as_the_reference_counts_them(pair: Pair, way: str) -> None:
    pair.both("FUNCTION", "FLUSH")
    pair.both("SCRIPT", "FLUSH")
    pair.same("FUNCTION", "LOAD", LIBRARY)
    pair.same("CONFIG", "RESETSTAT")
    for line in LINES:
        pair.both("FLUSHALL")
        pair.both("SET", "str", "s")
        pair.both("RPUSH", "list", "x")
        WAYS[way](pair, words_of(line))
        ours, theirs = (counters(raw) for raw in pair.both("INFO", "commandstats", "errorstats", "stats"))
        assert ours == theirs, line


@pytest.mark.parametrize("request_", ["DEBUG DIGEST", "MODULE LOAD x", "MODULE LOADEX x", "MODULE UNLOAD x"])
def test_what_a_parameter_forbids_is_rejected_before_it_is_called(request_: str) -> None:
    engine = make_engine()
    engine.configuration.override({"enable-debug-command": "no"})
    client = OurClient(engine)
    refusal = client.send(f"{request_}\r\n".encode())
    assert refusal.startswith(
        b"-ERR " + request_.split(" ")[0].encode() + b" command not allowed. If the enable-"
    )
    assert client.send(b"MULTI\r\n" + f"{request_}\r\n".encode()) == b"+OK\r\n" + refusal
    assert client.send(b"EXEC\r\n").startswith(b"-EXECABORT")
    info = client.send(b"INFO commandstats\r\n")
    name = "|".join(request_.lower().split(" ")[: 1 + request_.startswith("MODULE")])
    assert (
        f"cmdstat_{name}:calls=0,usec=0,usec_per_call=0.00,rejected_calls=2,failed_calls=0".encode() in info
    )


def test_an_info_does_not_count_itself(pair: Pair) -> None:
    pair.same("CONFIG", "RESETSTAT")
    for _ in range(2):
        ours, theirs = (counters(raw) for raw in pair.both("INFO", "commandstats", "stats"))
        assert ours == theirs


# What runs an INFO inside of something else, as lines of words apart by |.
INSIDE = {
    "exec": ["MULTI", "INFO|commandstats|stats", "EXEC"],
    "eval": ["EVAL|return redis.call('info','commandstats','stats')|0"],
    "eval_ro": ["EVAL_RO|redis.call('ping') return redis.call('info','commandstats','stats')|0"],
    "fcall": ["FCALL|any|0|info|commandstats|stats"],
    "eval in exec": ["MULTI", "EVAL|return redis.call('info','commandstats','stats')|0", "PING", "EXEC"],
    "reset in exec": ["MULTI", "PING", "CONFIG|RESETSTAT", "PING", "INFO|commandstats|stats", "EXEC"],
    "long": ["EVAL|for i = 1, 3000000 do end return redis.call('info','commandstats','stats')|0"],
}


@pytest.mark.parametrize("way", INSIDE)
def test_an_info_does_not_count_what_it_is_part_of(pair: Pair, way: str) -> None:
    pair.same("FUNCTION", "LOAD", LIBRARY)
    pair.same("CONFIG", "RESETSTAT")
    for _ in range(2):
        for line in INSIDE[way]:
            words = line.split("|")
            ours, theirs = (raw[raw.find(b"# Stats") :] for raw in pair.both(*words))
        assert b"cmdstat_" in ours
        assert fields(ours) == fields(theirs)
        ours, theirs = pair.both("INFO", "commandstats", "stats")
        assert counters(ours) == counters(theirs)


def fields(text: bytes) -> dict[str, str]:
    """The same of a text that begins and ends in the midst of a reply."""
    return counters(b"$%d\r\n%b\r\n" % (len(text), text))
