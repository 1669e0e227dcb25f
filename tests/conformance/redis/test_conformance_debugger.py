"""The Lua debugger, compared with redis-server: what each command of a session is answered.

In sync mode, where the script runs in the server itself; the other mode says the same from a copy of it
(tests/system/test_debugger.py). The help is in our own words. What makes redis-server 8.2 crash, evaluating a
`redis.call` that fails, is in tests/unit/redis/test_debugger.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from appliance.redis.engine_modes import SCRIPT_BUSY
from appliance.redis.resp import ValueParser
from tests.support.redis_pair import OurClient, encode_request, make_engine, now_us

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from tests.support.redis_pair import Argument, RealServer

pytestmark = pytest.mark.conformance

FUNCTIONS = """local a = 1
local t = {1, 2, {x = 'y', [3] = true}}
local f = function(n)
  local inner = n + a
  return inner
end
local r = redis.call('SET', KEYS[1], 'v')
redis.debug('hello', a, t, nil)
redis.breakpoint()
local s = f(4)
local e = redis.pcall('LPUSH', KEYS[1], 'x')
for i = 1, 2 do
  s = s + i
end
return {s, r.ok, e.err, ARGV[1]}

"""
CALLS = """local x = redis.pcall('LPUSH', 1)
x = redis.error_reply('FOO bar')
x = redis.error_reply('-FOO bar')
x = redis.error_reply({})
x = redis.status_reply()
x = pcall(redis.sha1hex)
x = redis.pcall()
x = redis.pcall({})
x = redis.call('set', 'k', 1, 'ex', 100)
x = redis.pcall('set', 'k', 1, 'b', 2, 3, 4, 5, 6, 7, 8, 9, 10)
return x"""
TAIL_CALLS = """local x = 1
local function g(n)
  local y = n
  if n == 0 then return 0 end
  return g(n - 1)
end
local function h(...)
  local q = {...}
  local z = g(2)
  return z
end
local r = pcall(h, 5)
return r"""
COROUTINE = """local c = coroutine.wrap(function(a)
  local b = a
  coroutine.yield(b)
  return 2
end)
local x = c(1)
local y = c()
return x"""
LOOPS = """for i = 1, 3 do
  local a = i
  local b = a
end
local ok = pcall(function()
  local q = 1
end)
for k, v in pairs({x = 1}) do
  local z = k
end
return 1"""
CAUGHT = """local ok, e = pcall(function()
  local q = 1
end)
return {tostring(ok), e}"""

# A script, or a request in place of EVAL, and what the client says once it has stopped: lines of words, and then `s` to the end.
SESSIONS: dict[str, tuple[str | tuple[Argument, ...], str]] = {
    "step": (("EVAL", FUNCTIONS, 1, "k", "arg"), "s|S|n|next|STEP"),
    "look": (
        ("EVAL", FUNCTIONS, 1, "k", "arg"),
        "p|s|s|p|p t|p f|p KEYS|p nosuch|p ARGV|p a b|print t|s|s|s|c|t|s|t|p|p a|p n|s|l|l 3|l 3 1|w|trace",
    ),
    "break": (
        ("EVAL", FUNCTIONS, 1, "k", "arg"),
        "b|b 14|b 99|b x|b -3|b|break 5|b 5|b -14|b|c|t|l|b 0|b|b 1 -1 7 0 8",
    ),
    "evaluate": (
        "return 1",
        "e 1+1|e return 2|e x +|e error('boom')|e redis.call('GET','k')|e print|e {1,nil,3}|e {}|e {{},{a={}}}|"
        "e a=1|e '\\1\\0\\255\\n\"\\\\\\a'|e 1e100|e 0.1|e -0|e 1/0|e -1/0|e 123456789|e 2^53|e {[1.5]=1}|"
        "e coroutine.create(function() end)|e local t={} t[1]=t return t|e return 1,2|e true|e nil|"
        "e local s = 'x' for i=1,3 do s = s..s end return s|e KEYS|eval #ARGV|e",
    ),
    "evaluated yield": ("return 1", "e coroutine.yield(1)"),
    "commands": (
        "return 1",
        "r SET k v|r TYPE k|redis MGET k nokey|r GET nokey|r NOPE|r LPUSH k 1|r HGETALL zz|r HELLO 3|r DEL k|"
        "r CONFIG GET maxmemory|r EVAL x 0|r BLPOP x 0|r MULTI|r GET|r PING a|r ECHO \\|r",
    ),
    "commands in RESP3": (
        "return 1",
        "e redis.setresp(3)|r SMEMBERS s|r SADD s 1|r SMEMBERS s|r ZADD z 1.5 a|r ZSCORE z a|r GET nokey|"
        "r ZRANGE z 0 -1 WITHSCORES|r HSET h a b|r HGETALL h|r XADD x 1-1 a b|r XRANGE x - +|e redis.setresp(2)|"
        "r HGETALL h",
    ),
    "maxlen": (
        "return 1",
        "m|m 10|m 100|maxlen 60|e string.rep('x',300)|e string.rep('x',300)|m 0|e string.rep('x',300)|m x|m -5|"
        "m 1 2",
    ),
    "the first cut has a hint": ("return 1", "e string.rep('x',300)|e string.rep('x',300)"),
    "lists": ("return 1\n\n\n", "l 0|l -3|l x|l 2 x|l 1 2 3|b 1|l|b 1|b 9223372036854775807|b -1 5 0|w x|t x|s x"),
    "unknown": ("return 1", "zzz|r|stepp|c x"),
    "abort": ("return 1", "a"),
    "abort is caught": (CAUGHT, "s|s|s|abort"),
    "abort in a function": (LOOPS, "b 2 3|c|p|c|b -2|c|a"),
    "errors": (CALLS, ""),
    "loops": (LOOPS, "b 9|s|s|s|s|p|c|p|p (for"),
    "tail calls": (TAIL_CALLS, "s|t|p x|p y|p|s|t|s|s|s|t|s|s|s|s|s|t"),
    "coroutine": (COROUTINE, "s|s|s|s|t|p|s|s|s|s|t"),
    "error": ("\n\nerror('x')\n", ""),
    "failing call": ("redis.call('nosuch')\nreturn 1", ""),
    "without arguments": ("redis.call()\nreturn 1", ""),
    "no Lua": ("return {", ""),
    "empty": ("", ""),
    "empty lines": ("\n\n", ""),
    "carriage returns": ("return #KEYS\r\n-- x\r\n", "w"),
    "one line": ("redis.debug('a') redis.breakpoint() redis.debug()", ""),
    "loaded": ("local f = loadstring('local a = 1\\nreturn a')\nreturn f()", "s|e return x"),
    "no number of keys": (("EVAL", "return 1", "x"), ""),
    "too many keys": (("EVAL", "return 1", 5), ""),
    "read-only": (("EVAL_RO", "return redis.call('SET','a','b')", 0), ""),
    "flags": ("#!lua flags=no-writes\nreturn redis.call('SET','a','b')", "w"),
    "wrong flags": ("#!lua flags=nosuch\nreturn 1", ""),
}  # fmt: skip


def plain(value: object) -> object:
    """A reply with the addresses in it hidden."""
    return re.sub(r"@(0x)?[0-9a-f]{6,}", "@0x", repr(value))


def is_end(value: object) -> bool:
    return "<endsession>" in repr(value)


class Ours:
    """A client of our engine that debugs."""

    def __init__(self) -> None:
        self._client = OurClient(make_engine())
        self._parser = ValueParser()
        self.send(encode_request(("SCRIPT", "DEBUG", "SYNC")))

    def send(self, data: bytes) -> list[object]:
        engine = self._client.engine
        session = self._client.session
        session.data_received(data, now_us())
        while engine.mode & SCRIPT_BUSY and not engine.scripts.is_waiting:
            engine.handle_timeouts(now_us())
            engine.take_pending_sessions()
        self._parser.feed(b"".join(session.take_output()))
        values: list[object] = []
        while True:
            value = self._parser.next_value()
            if not self._parser.has_value:
                return values
            values.append(value)


class Theirs:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._parser = ValueParser()
        self.send(encode_request(("SCRIPT", "DEBUG", "SYNC")))

    def _next(self) -> object:
        while True:
            value = self._parser.next_value()
            if self._parser.has_value:
                return value
            data = self._connection.recv(1 << 16)
            assert data, "the server has gone"
            self._parser.feed(data)

    def send(self, data: bytes) -> list[object]:
        self._connection.sendall(data)
        values = [self._next()]
        if is_end(values[0]):
            values.append(self._next())
            assert self._connection.recv(1) == b""
        return values


@pytest.fixture
def theirs(real_server: RealServer) -> Iterator[Theirs]:
    real_server.put_right()
    with real_server.connect() as connection:
        yield Theirs(connection)


@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_are_as_with_redis_server(theirs: Theirs, name: str) -> None:
    script, lines = SESSIONS[name]
    request = encode_request(("EVAL", script, 0) if isinstance(script, str) else script)
    ours = Ours()
    said: list[object] = []
    both = ours.send(request), theirs.send(request)
    left = lines.split("|") if lines else []
    said.append(both[0])
    while plain(both[0]) == plain(both[1]) and not is_end(both[0]):
        line = left.pop(0) if left else "s"
        request = encode_request(tuple(line.split(" ")))
        both = ours.send(request), theirs.send(request)
        said.append((line, both[0]))
    assert plain(both[0]) == plain(both[1]), said
    assert not left, said


@pytest.mark.parametrize(
    "pieces",
    [
        (b"PING\r\n",),
        (b"*1\r\n$0\r\n\r\n",),
        (b"*0\r\n",),
        (b"*1025\r\n",),
        (b"*1\r\n$1025\r\n",),
        (b"*1\r\n:1\r\n",),
        (b"*1\r\n$1\r\nlxx",),
        (b"noise*1\r\n$1\r\nl\r\n", b"*1\r\n$1\r\nc\r\n"),
        (b"*1\r\n$1\r\nl\r\n*1\r\n$1\r\ns\r\n", b"*1\r\n$1\r\nc\r\n"),
        (b"*+1x\r\n$ 1x\r\nl\r\n", b"*1\r\n$1\r\nc\r\n"),
    ],
)
def test_broken_requests_are_taken_as_redis_server_does(theirs: Theirs, pieces: tuple[bytes, ...]) -> None:
    ours = Ours()
    request = encode_request(("EVAL", "return 1", 0))
    assert plain(ours.send(request)) == plain(theirs.send(request))
    for piece in pieces:
        assert plain(ours.send(piece)) == plain(theirs.send(piece))


def test_a_script_that_takes_too_long_is_stopped(theirs: Theirs, real_server: RealServer) -> None:
    ours = Ours()
    ours._client.engine.configuration.override({"busy-reply-threshold": "50"})
    with real_server.connect() as other:
        other.sendall(encode_request(("CONFIG", "SET", "busy-reply-threshold", 50)))
        assert other.recv(100) == b"+OK\r\n"
    for request in [("EVAL", "while true do end", 0), ("c",), ("c",), ("a",)]:
        data = encode_request(request)  # type: ignore[arg-type]
        assert plain(ours.send(data)) == plain(theirs.send(data))


def test_when_the_mode_can_be_chosen(real_server: RealServer) -> None:
    real_server.put_right()
    ours = OurClient(make_engine())
    with real_server.connect() as theirs:
        parser = ValueParser()
        for requests in [
            [("PING",), ("SCRIPT", "DEBUG", "YES")],
            [("SCRIPT", "DEBUG", "foo")],
            [("SCRIPT", "DEBUG", "yes"), ("SCRIPT", "DEBUG", "no")],
            [("MULTI",)],
            [("SCRIPT", "DEBUG", "SYNC")],
            [("EXEC",)],
            [("SCRIPT", "DEBUG", "sync")],
            [("EVALSHA", "a" * 40, 0)],
            [("EVALSHA_RO", "a" * 40, 0)],
            [("EVALSHA", "a", 0)],
            [("SCRIPT", "DEBUG", "NO")],
            [("EVAL", "return {redis.breakpoint(), redis.debug(1)}", 0)],
        ]:
            data = b"".join(encode_request(request) for request in requests)
            theirs.sendall(data)
            parser_ours = ValueParser()
            parser_ours.feed(ours.send(data))
            for _ in requests:
                value = parser.next_value()
                while not parser.has_value:
                    parser.feed(theirs.recv(1 << 16))
                    value = parser.next_value()
                assert repr(parser_ours.next_value()) == repr(value)
