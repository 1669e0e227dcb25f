"""Libraries of functions, compared with redis-server; dumps go both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import parse_one

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

LIB = "#!lua name=lib\n"
NOTHING = "function() end"

# Each with no library before it.
LOADS = [
    "return 1",
    "#!lua\nreturn 1",
    "#!lua name=\n",
    "#!lua name=a-b\nreturn",
    "#!lua foo=x\n",
    "#!lua name=a name=b\n",
    "#!foo name=lib\n",
    "#!lua 'name=lib'\n",
    "#!lua \"name=lib\"\nredis.register_function('a', function() end)",
    '#!lua "name=lib\n',
    "#!lua name=lib \0\n",
    "#!LUA name=lib\nredis.register_function('a', function() end)",
    "#!lua name=lib",
    "#!lua name=lib flags=no-writes\n",
    LIB,
    LIB + "return 1",
    LIB + "x = 1",
    LIB + "return x",
    LIB + "redis.call('get', 'a')",
    LIB + "local p = pairs",
    LIB + "+",
    LIB + "error('x')",
    LIB + "math.foo()",
    LIB + "redis.register_function()",
    LIB + "redis.register_function('a')",
    LIB + "redis.register_function('a', 'b')",
    LIB + f"redis.register_function('a-b', {NOTHING})",
    LIB + f"redis.register_function('', {NOTHING})",
    LIB + f"redis.register_function(1, {NOTHING})",
    LIB + f"redis.register_function('a', {NOTHING}, 1)",
    LIB + f"redis.register_function('a', {NOTHING}) redis.register_function('a', {NOTHING})",
    LIB + "redis.register_function({}, {})",
    LIB + "redis.register_function{function_name='a'}",
    LIB + f"redis.register_function{{callback={NOTHING}}}",
    LIB + "redis.register_function{function_name='a', callback=1}",
    LIB + f"redis.register_function{{function_name='a', callback={NOTHING}, foo=1}}",
    LIB + f"redis.register_function{{function_name='a', callback={NOTHING}, flags=1}}",
    LIB + f"redis.register_function{{function_name='a', callback={NOTHING}, flags={{'bad'}}}}",
    LIB + f"redis.register_function{{function_name='a', callback={NOTHING}, flags={{1}}}}",
    LIB + f"redis.register_function{{function_name='a', callback={NOTHING}, description=1}}",
    LIB + f"redis.register_function{{function_name=1, callback={NOTHING}}}",
    LIB + "redis.register_function{1, 2}",
    LIB + "redis.register_function('a', redis.log)",
    LIB + f"redis.log(redis.LOG_WARNING, 'x') redis.register_function('a', {NOTHING})",
]

LIBRARY = (
    LIB
    + """
local calls = 0
local function f(name, callback) redis.register_function(name, callback) end
f('echo', function(keys, args) return {keys, args, #keys, #args} end)
f('err', function() return redis.call('nope') end)
f('err2', function() error('x') end)
f('err3', function() error({err = 'x'}) end)
f('err4', function() error() end)
f('unknown', function() return x end)
f('set', function() x = 1 end)
f('keys', function() return KEYS end)
f('register', function() return redis.register_function('q', function() end) end)
f('caught', function() local a, b = pcall(redis.call, 'nope') return {type(b), tostring(b)} end)
f('write', function() redis.call('set', 'x', 1) return redis.call('get', 'x') end)
f('load', function() return loadstring('return x')() end)
f('count', function() calls = calls + 1 return calls end)
f('globals', function() local t = {} for k in pairs(_G) do t[#t + 1] = k end table.sort(t) return t end)
f('redis', function() local t = {} for k in pairs(redis) do t[#t + 1] = k end table.sort(t) return t end)
f('map', function() redis.setresp(3) return {map = {a = {double = 1.5}}} end)
redis.register_function{function_name='ro', callback=function() return redis.call('set', 'x', 1) end,
    flags={'no-writes'}, description='d'}
redis.register_function{function_name='ro2', callback=function() return redis.call('get', 'x') end,
    flags={'no-writes', 'allow-stale'}}
"""
)

CALLS = """echo 0|ECHO 0|echo 1 a b|echo x|echo -1|echo 2 a|err 0|err2 0|err3 0|err4 0|unknown 0|set 0|keys 0|register 0
caught 0|write 0|load 0|count 0|count 0|globals 0|redis 0|map 0|ro 0|ro2 0|nope 0|nope x"""


def _fresh(pair: Pair) -> None:
    pair.same("FUNCTION", "FLUSH")


@pytest.mark.parametrize("code", LOADS)
def test_load(pair: Pair, code: str) -> None:
    _fresh(pair)
    pair.same("FUNCTION", "LOAD", code)
    pair.same("FUNCTION", "LIST", "WITHCODE")
    pair.same("FUNCTION", "LOAD", "REPLACE", code)
    pair.same("FUNCTION", "STATS")


def test_collisions(pair: Pair) -> None:
    _fresh(pair)
    other = "#!lua name=other\n"
    for request in (
        ("LOAD", LIB + f"redis.register_function('a', {NOTHING})"),
        ("LOAD", LIB + f"redis.register_function('b', {NOTHING})"),
        ("LOAD", other + f"redis.register_function('a', {NOTHING})"),
        ("LOAD", "REPLACE", other + f"redis.register_function('a', {NOTHING})"),
        ("LOAD", other + f"redis.register_function('b', {NOTHING})"),
        ("LOAD", "REPLACE", LIB + f"redis.register_function('b', {NOTHING})"),
        ("LOAD", "REPLACE", LIB + "bad"),
        ("LOAD", "FOO", LIB),
        ("LIST", "LIBRARYNAME", "LI*"),
        ("LIST", "LIBRARYNAME", "x*"),
        ("LIST", "LIBRARYNAME"),
        ("LIST", "WITHCODE", "WITHCODE"),
        ("LIST", "LIBRARYNAME", "a", "LIBRARYNAME", "b"),
        ("LIST", "FOO"),
        ("DELETE", "nope"),
        ("DELETE", "other"),
        ("STATS",),
        ("KILL",),
        ("FLUSH", "x"),
        ("FLUSH", "sync", "async"),
        ("FLUSH", "async"),
        ("LIST",),
    ):
        pair.same("FUNCTION", *request)


def test_calls(pair: Pair) -> None:
    _fresh(pair)
    pair.same("FUNCTION", "LOAD", LIBRARY)
    for line in CALLS.replace("\n", "|").split("|"):
        pair.same("FCALL", *line.split())
    pair.same("FUNCTION", "LOAD", "#!lua name=c\nredis.register_function('log', redis.log)")
    pair.same("FCALL", "log", 1, "a")  # raised by a function without lines, called by nobody
    for line in ("write 0", "ro 0", "ro2 0", "echo 1 a b"):
        pair.same("FCALL_RO", *line.split())


def test_dumps_go_both_ways(pair: Pair) -> None:
    _fresh(pair)
    empty = pair.same("FUNCTION", "DUMP")
    assert empty
    pair.same("FUNCTION", "LOAD", LIBRARY)  # long enough to be compressed
    ours, theirs = pair.both("FUNCTION", "DUMP")
    for dump in (parse_one(ours), parse_one(theirs)):
        assert isinstance(dump, bytes)
        for policy in ((), ("APPEND",), ("REPLACE",), ("FLUSH",), ("FOO",), ("FLUSH", "x")):
            pair.same("FUNCTION", "RESTORE", dump, *policy)
        pair.same("FUNCTION", "DELETE", "lib")
        pair.same("FUNCTION", "RESTORE", dump)
        pair.same("FCALL", "echo", 1, "a", "b")
        pair.same("FUNCTION", "STATS")
        for damaged in (dump[:-1], dump[:-1] + bytes([dump[-1] ^ 1]), b"", b"x"):
            pair.same("FUNCTION", "RESTORE", damaged)


def test_dump_of_a_key_is_no_dump_of_functions(pair: Pair) -> None:
    pair.same("SET", "k", "v")
    dump = parse_one(pair.same("DUMP", "k"))
    assert isinstance(dump, bytes)
    pair.same("FUNCTION", "RESTORE", dump)
