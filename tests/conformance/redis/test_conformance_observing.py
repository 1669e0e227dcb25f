"""MONITOR, SLOWLOG and LATENCY, compared with redis-server in all but times and addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.conformance.redis.test_conformance_tracking import play
from tests.support.redis_crowd import Crowd
from tests.support.redis_pair import parse_one

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair, RealServer

pytestmark = pytest.mark.conformance

# What the crowd itself says; when, and who: `lua` stays.
MASK: Final = rb"\+[^\n]*crowd-settles[^\n]*\n|\+\d+\.\d{6}|unix:[^\]]*|127\.0\.0\.1:\d+"

MONITOR: Final = {
    "what is shown": "b:MONITOR|SET k v|GET k|GET|NOSUCH x|LPUSH k x|SELECT 3|GET k|SELECT 99|CLIENT SETNAME x|CLIENT LIST|CONFIG GET hz"
    "|CONFIG SET hz 10|SLOWLOG RESET|DEBUG SLEEP 0|AUTH x|AUTH u p|AUTH a b c|PING|ECHO x|RESET|WATCH k|UNWATCH|LATENCY LATEST",
    "transactions": "b:MONITOR|MULTI|SET k 1|GET k|NOSUCH|EXEC|MULTI|SET k 1|GET k|EXEC|MULTI|DISCARD|WATCH k|c:SET k 2|MULTI|GET k|EXEC|EXEC",
    "scripts": "b:MONITOR|SET k 1|EVAL return(redis.call('get','k')) 0|EVAL redis.call('set',KEYS[1],1)redis.pcall('nosuch')return(1) 1 k|MULTI|EVAL return(redis.call('get','k')) 0|GET k|EXEC"
    "|EVAL_RO return(redis.call('get','k')) 0|EVAL bad( 0|EVAL return(1) x|SCRIPT LOAD return(1)|EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0|EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
    "waiting": "b:MONITOR|BLPOP q 0|c:RPUSH q 1|BLPOP q 0|c:MULTI|c:RPUSH q 1|c:BLPOP r 0|c:EXEC",
    "several": "b:MONITOR|c:MONITOR|SET k 1|b:PING|b:GET k|b:SET k 1|b:EVAL return(1) 0|b:PUBLISH c m|b:PFCOUNT h|b:MONITOR|b:CLIENT GETNAME|b:MULTI|b:PING|b:GET k|b:EXEC|b:RESET|SET k 2|b:GET k|b:QUIT|c:SUBSCRIBE x|PUBLISH x m|SET k 3",
    "inside a transaction": "MULTI|MONITOR|SET k 1|EXEC|b:SET k 1",
    "subscribed": "b:SUBSCRIBE x|b:MONITOR|a:SUBSCRIBE x|a:MONITOR|b:RESET|b:SET k 1|b:PUBLISH x m",
}  # fmt: skip


@pytest.mark.parametrize("name", MONITOR)
def test_monitors_are_told_the_same(real_server: RealServer, name: str) -> None:
    with Crowd(real_server, resp3="a", mask=MASK) as crowd:
        # CLIENT LIST differs, and is of no interest here.
        play(crowd, [line for line in MONITOR[name].split("|") if line != "CLIENT LIST"])


def test_monitors_see_any_bytes(real_server: RealServer) -> None:
    with Crowd(real_server, mask=MASK) as crowd:
        crowd.introduce("a", "b")
        crowd.say("b", "MONITOR")
        crowd.say("a", "ECHO", bytes(range(256)))
        crowd.say("a", "SET", b"a b\r\n", b'"quoted\\"')
        crowd.say("a", "ECHO", "")


def slowlog(raw: bytes) -> list[object]:
    """The arguments and the client's name of each entry, oldest first."""
    value = parse_one(raw)
    assert isinstance(value, list)
    return [[entry[3], entry[5]] for entry in reversed(value)]


def test_slowlogs_keep_the_same(pair: Pair) -> None:
    # All that is said between is logged too.
    pair.same("CLIENT", "SETNAME", "me")
    pair.same("CONFIG", "SET", "slowlog-log-slower-than", 0)
    pair.same("SLOWLOG", "RESET")
    for line in (
        "SET k v", "GET k", "GET", "NOSUCH", "LPUSH k x", "MULTI", "GET k", "SET k 1", "EXEC", "AUTH u p", "CLIENT GETNAME",
        "BLPOP q 0.01", "EVAL return(redis.call('get','k')) 0", "SETEX e 10 v", "GETEX e EX 1", "SLOWLOG LEN", "PING",
        "CONFIG SET requirepass x requirepass x", "INCRBYFLOAT f 1", "EXPIRE e 10",
    ):  # fmt: skip
        if line.startswith("BLPOP"):
            continue  # the pair's engine has no clock of its own
        pair.same(*line.split(" "))
    pair.same("MSET", *["x" * 200] * 40)
    pair.same("MSET", *["y" * 128] * 30, "z" * 129, "v")
    ours, theirs = pair.both("SLOWLOG", "GET", -1)
    assert slowlog(ours) == slowlog(theirs)
    pair.same("CONFIG", "SET", "slowlog-max-len", 2)
    pair.same("PING")
    pair.same("SLOWLOG", "LEN")
    pair.same("CONFIG", "SET", "slowlog-max-len", 128, "slowlog-log-slower-than", -1)
    pair.same("SLOWLOG", "RESET")
    pair.same("PING")
    pair.same("SLOWLOG", "GET")
    pair.same("CONFIG", "SET", "slowlog-log-slower-than", 10000)


@pytest.mark.parametrize(
    "line",
    ["SLOWLOG GET x", "SLOWLOG GET -2", "SLOWLOG GET 1 2", "SLOWLOG NOSUCH", "SLOWLOG", "SLOWLOG LEN x", "LATENCY",
     "LATENCY NOSUCH", "LATENCY GRAPH", "LATENCY GRAPH nosuch", "LATENCY HISTORY nosuch", "LATENCY HISTORY",
     "LATENCY LATEST x", "LATENCY RESET", "LATENCY RESET x y", "LATENCY HISTOGRAM nosuch", "LATENCY HISTOGRAM config|nosuch",
     "CLIENT PAUSE", "CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 0 x", "CLIENT PAUSE 0 WRITE x",
     "CLIENT PAUSE 99999999999999999999", "CLIENT PAUSE 9223372036854775807", "CLIENT UNPAUSE", "CLIENT UNPAUSE x",
     "CLIENT PAUSE 0", "CLIENT PAUSE 0 write"],
)  # fmt: skip
def test_replies_agree(pair: Pair, line: str) -> None:
    pair.same(*line.split(" "))


def test_histograms_count_each_call(pair: Pair) -> None:
    pair.same("CONFIG", "RESETSTAT")
    for _ in range(100):
        pair.same("SET", "k", "v")
    pair.same("GET", "k")
    pair.same("LPUSH", "k", "x")
    pair.same("CLIENT", "GETNAME")
    counts = [
        re.findall(rb"\$\d+\r\n([a-z|]+)\r\n[*%]\d\r\n\$5\r\ncalls\r\n:(\d+)", raw)
        for raw in pair.both("LATENCY", "HISTOGRAM", "set", "GET", "lpush", "client", "client|getname")
    ]
    assert counts[0] == counts[1]
    assert counts[0][0] == (b"set", b"100")
    shown = [re.findall(rb"cmdstat_(set|get|lpush|client\|getname):calls=(\d+),usec=\d+,usec_per_call=\d+\.\d\d,"
                        rb"rejected_calls=0,failed_calls=(\d+)", each) for each in pair.both("INFO", "commandstats")]  # fmt: skip
    assert sorted(shown[0]) == sorted(shown[1])
    assert len(shown[0]) == 4
    names = [sorted(re.findall(rb"latency_percentiles_usec_([a-z|]+):p50=\d+\.\d{3},p99=[\d.]+,p99\.9=[\d.]+\r\n", each))
             for each in pair.both("INFO", "latencystats")]  # fmt: skip
    assert names[0] == names[1]
    assert b"set" in names[0]


def test_percentiles_are_shown_as_they_were_asked_for(pair: Pair) -> None:
    pair.same("CONFIG", "SET", "latency-tracking-info-percentiles", "0 50 100 99.99 12.345678")
    pair.same("PING")
    shapes = [re.search(rb"usec_ping:(.*)\r\n", each) for each in pair.both("INFO", "latencystats")]
    assert shapes[0] is not None
    assert shapes[1] is not None
    assert re.sub(rb"=[\d.]+", b"", shapes[0][1]) == re.sub(rb"=[\d.]+", b"", shapes[1][1])
    pair.same("CONFIG", "SET", "latency-tracking-info-percentiles", "50 99 99.9")
