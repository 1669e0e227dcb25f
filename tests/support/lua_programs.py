"""Random programs for EVAL: what a script may say, with odd arguments, and all that came of it as text.
    lua_program(random) -> the words of `EVAL program numkeys key ... arg ...` behind the command
**Form.** A program's first line defines `P`, which calls a function in protected mode and renders its results as text
(kinds, numbers to the last digit, tables sorted); every other line is a statement that stands alone. So a program goes
on after an error, the texts of all errors are compared with their positions, and lines can be dropped one by one when
a failing program is shortened (`shorter`). Now and then the program ends with a bare value or an error instead, for what
becomes of those in a reply.
**Types.** Expressions are drawn by the kind that is wanted there, so that most calls do something; one in ten is of any
kind, and one call in ten has an argument less or more.
What is not drawn, since it is not the same between two runs of one server either: addresses (they are masked),
tables or functions as keys, what lies in the tables of the libraries in which order, `os.clock`, `collectgarbage("count")`, random numbers without a seed; and `string.dump`
(our compiled code differs). Nor CR LF in a string: redis-server sends it as it is in the text of an error, where it
ends the reply.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from random import Random

Request = tuple[bytes, ...]


def _listed(text: str, between: str | None = None) -> list[str]:
    return text.split(between)


# Rendering: `R` makes text of any values, `P` of what a function gives or raises. On one line: the others' numbers
# stand in the errors.
_RENDER = """local O={} local T=tostring local function V(v,d) local k=type(v)
if k=='number' then return string.format('%.17g',v) elseif k=='string' then return string.format('%q',v)
elseif k=='table' then if d>4 then return '...' end local r={} for x,y in pairs(v) do r[#r+1]=V(x,d+1)..'='..V(y,d+1) end
table.sort(r) return '{'..table.concat(r,',')..'}' elseif k=='function' or k=='thread' or k=='userdata' then return k
else return T(v) end end local function R(...) local r={} for i=1,select('#',...) do r[i]=V((select(i,...)),0) end
return table.concat(r,' ') end local function P(f,...) O[#O+1]=R(pcall(f,...)) end
local a,b,c,t,u,f,g,s,n,co=1,'x',nil,{3,1,2},{x=1,y={2}},function(...) return ... end,nil,'abc',5,nil""".replace(
    "\n", " "
)
_END = "return O"
_NUMBERS = _listed(
    "0 1 2 3 -1 -2 7 10 0.5 1.5 -0.5 2.9 -3.1 255 256 65535 65536 2^31 2^31-1 -2^31 2^32 2^53 2^53+2 -2^53 2^63 -2^63 "
    "1e15 1e16 1e17 1e100 1e308 -1e308 1e-5 1e-310 0.1 1/3 1/0 -1/0 0/0 -0 100 1000 31 32 33 64 -32 1e14 123456789012 "
    "3.14159265358979 1e21 5e-324 4294967295 0x10 0xff 2^52 99999999999999999999"
)
_SMALL = _listed("0 1 2 3 4 5 -1 -2 -3 10 1.5 -0")
_STRINGS = _listed(
    r"'' 'a' 'x' 'abc' 'hello world' '10' ' 10 ' '0x1F' '1e3' '-5' '3.5' 'nan' 'inf' '\0' 'a\0b' '\255\254' 'A%d' '%' "
    r"'a.b' 'a\nb' 'a\rb' '\\' '\"' '[' ']' 'é' 'foo bar  baz' 'key=value, k2=v2' 'THE (quick) fox' ' ' '0' '-0' '1 ' "
    r"'9007199254740993' '12345678901234567890' 'true' 'nil' 'null' '\1\2\3\4\5\6\7\8' '\127\128' 'ERR x' '-ERR x' "
    r"string.rep('x',40) string.rep('ab',100) '/' 'a\tb'",
    " ",
)
_STRINGS = [text for text in _STRINGS if text.count("'") != 1] + ["'hello world'", "' 10 '", "'a b'", "' '"]
_PATTERNS = _listed(
    "'a' 'b' '.' '%a' '%d+' '%s*' '(%w+)' '(.)(.)' '^a' 'c$' '.-' 'a*' '[a-c]' '[^a]' '[]]' '[^]]' '%b()' '%f[%w]' '()' "
    "'(a' 'a)' '[a' '%' '%1' '(.)%1' '%b' '%f' '%z' '[%a_][%w_]*' '%D' '[a-]' '[%]' '^' '$' '' '(%w+)=(%w+)' 'x?' 'l+' "
    "'((a)(b))' '%g' '%x' '[%d.]' '(()' '%2' '[a-%z]' '[z-a]' '^^a' 'a$b' '(.-)%s' '.+' '(.*)' '%.' '[[]' '%%' '(.)(.)%2%1'"
)
_REPLACEMENTS = _listed(
    "'' 'X' '%1' '%0%0' '%2' '%' '%%' '<%1>' '%9' '%a' {a='A',x=1,b=false} f tostring nil 5 true"
)
_FORMATS = _listed(
    "'%d' '%i' '%5d' '%-5d|' '%05d' '%+d' '% d' '%x' '%X' '%#x' '%o' '%u' '%c' '%e' '%E' '%f' '%.3f' '%g' '%G' '%.17g' "
    "'%10.2f' '%s' '%10s' '%-10s|' '%.2s' '%q' '%%' '%' '%y' '%d %s' '%s %s %s' '%5%' '%.99f' '%.100f' '%99d' '%100d' "
    "'%ld' '%a' '%p' '%n' '%#o' '%--5d' '%000005d' '%      d' '%1$d' '%.f' '%.0f' '%5.1s|' '%*d' '%.d' '%+.3e' '%#g'",
    " '",
)
_FORMATS = [text if text.startswith("'") else "'" + text for text in _FORMATS]
_TABLES = _listed(
    "{} {1} {1,2,3} {3,1,2} {'b','a'} {x=1} {x=1,y=2} {1,nil,3} {1,2,x=3} {{}} {{1},{2,{3}}} {[0]=1} {[1.5]=1} {[3]=1} {n=2} "
    "{true,false} {'a',1,true} t u {[1]=1,[2]=2,[4]=4} {1,'2',3.5} {ok='fine'} {err='bad'} {err='x',ok='y'} {1,{err='in'}} "
    "{[-1]=1} {'a','b','c','d','e','f','g','h','i','j'} {double=1.5} {map={a=1}} {set={a=true}} {big_number='12'} "
    "{verbatim_string={string='v',format='txt'}} {verbatim_string='x'} {double='x'} {map=1} {[true]=1} {a={b={c={}}}}",
    " ",
)
_FUNCTIONS = _listed(
    "f print tostring tonumber type error string.len redis.call redis.pcall math.max function()end function(...)return(...)end "
    "next rawget unpack string.upper coroutine.yield pcall select function(x)error(x)end function(x)return-x,1.5,nil",
    " ",
)
_FUNCTIONS[-1] = "function(x)return x,nil end"
_FUNCTIONS = [text.replace("end", " end").replace("return", " return ") for text in _FUNCTIONS]
_COMPARISONS = [
    "function(x,y) return x>y end", "function(x,y) return true end", "function(x,y) error('cmp') end", "nil",
    "function(x,y) return tostring(x)<tostring(y) end", "f", "5", "function(x,y) return nil end", "math.max",
]  # fmt: skip
_JSON = _listed(
    r"""'[1,2,3]' '{"a":1}' '{"a":[{"b":null}],"c":"d"}' 'null' 'true' '"x"' '1.5e3' '-0' '[]' '{}' '[1,' '{"a"' '{"a":}' """
    r"""'nan' '0x10' '1e999' '"\\u0041"' '"\\ud83d\\ude00"' '"\\ud83d"' '[1]x' '' '[[[[1]]]]' '{"1":2}' '{"a":1,"a":2}' """
    r"""'"\\q"' '"a' '[01]' '[-]' '[1e]' '[.5]' '[5.]' 'Infinity' '-inf' '[nul]' '"\0"' '"\\u0000"' '\255' '"\255"' '[1 2]' """
    r"""'{1:2}' '{"a" 1}' '{,}' '[,1]' '1,2' '123456789012345678901234567890' '[1.0,1e2,-1.5E-2]' '{"a":{"b":{"c":[]}}}' '[]]' """
    r"""'[+1]' '[0x1p3]' '"\\uD8zz"' '"\\u12"' '/**/1' '\t[\n1\r]' '[tru' '[true,false]' '{"":""}' '[""]' '"\\/\\b\\f\\n\\r\\t\\""'""",
    " ",
)
_PACKED = [
    r"'\1'", r"'\147\1\2\3'", r"'\129\161a\1'", r"'\192'", r"'\193'", r"'\203\63\248\0\0\0\0\0\0'", r"'\202\63\192\0\0'",
    r"'\207\255\255\255\255\255\255\255\255'", r"'\211\128\0\0\0\0\0\0\0'", r"'\217\3abc'", r"'\196\2ab'", r"'\220\0\2\1\2'",
    r"'\222\0\1\1\2'", r"'\221\0\0\0\1\5'", r"'\223\0\0\0\1\161k\161v'", r"'\220\255\255'", r"'\221\255\255\255\255'", r"''",
    r"'\1\2\3'", r"'\162a'", r"'\212\1\2'", r"'\199\1\5x'", r"'\129\192\1'", r"'\129\203\127\248\0\0\0\0\0\0\1'", r"'\204'", r"'\224\255'",
    r"'\195\194'", r"'\208\128\209\128\0\210\128\0\0\0'", r"'\218\0\1x\219\0\0\0\1y'", r"'\160'", r"'\144\128'", r"'\223\255\255\255\255'",
]  # fmt: skip
_STRUCTS = _listed(
    "'b' 'B' 'h' 'H' 'l' 'L' 'i' 'I' 'i2' 'I3' 'i8' 'I8' 'f' 'd' 's' 'c3' 'c0' 'x' '<i' '>i' '=i' '!bi' '!4bl' '!8bd' '>I4I2' 'bc0' "
    "'Bs' 'bbb' 'z' '' ' ' 'b b' 'i16' 'i9' '>i12' 'i33' 'i0' '!3b' '>!4i3i' 'sb' 'T' 'c' 'c99' 'hH' 'iii' 'dd' 'ff' 'xxb' '<>b' 'I1' 'ssss' '!' '!16d' 'c1c1'"
)
_NAMES = _listed(
    "string table math bit struct cjson cmsgpack redis os coroutine _G _VERSION KEYS ARGV tostring pairs print dofile loadfile require "
    "module package io debug getfenv setfenv newproxy rawequal rawlen load loadstring nosuch x unpack select "
    "xpcall __index next assert error"
)
_KEYS = ["'k'", "'l'", "'h'", "'z'", "'s'", "KEYS[1]", "KEYS[2]", "'nosuch'", "'x'"]
_NULL_INVALID = "encode_invalid_numbers('null')"

Expression = Callable[[Random, int], str]


def _pick(random: Random, choices: list[str]) -> str:
    return choices[int(random.random() * len(choices))]


def _any(random: Random, depth: int) -> str:
    kind = random.randrange(9)
    if kind == 0:
        return _pick(
            random, ["nil", "true", "false", "a", "b", "c", "g", "co", "n", "s", "O", "cjson.null", "..."]
        )
    if kind == 1:
        return _pick(random, _FUNCTIONS)
    return (_number, _string, _table, _number, _string, _table, _call)[kind - 2](random, depth)


def _number(random: Random, depth: int) -> str:
    kind = random.randrange(10)
    if kind < 5 or depth <= 0:
        return _pick(random, _NUMBERS if kind < 3 else _SMALL)
    if kind == 5:
        return "#" + _pick(random, ["t", "s", "O", "'abc'", "u", "{1,2,nil}", "KEYS", "ARGV"])
    if kind == 6:
        return _pick(random, ["n", "a", "t[1]", "t[2]", "u.x", "tonumber(s)", "select('#',...)", "-n", "t.n"])
    if kind < 9:
        operator = _pick(random, ["+", "-", "*", "/", "%", "^"])
        return f"({_typed(random, _number, depth - 1)}{operator} {_typed(random, _number, depth - 1)})"
    return _call(random, depth - 1)


def _small(random: Random, _depth: int) -> str:
    return _pick(random, _SMALL)


def _string(random: Random, depth: int) -> str:
    kind = random.randrange(8)
    if kind < 5 or depth <= 0:
        return _pick(random, _STRINGS)
    if kind == 5:
        return _pick(random, ["s", "b", "KEYS[1]", "ARGV[1]", "u.z", "tostring(n)", "type(t)"])
    if kind == 6:
        return f"({_typed(random, _string, depth - 1)}..{_typed(random, _string, depth - 1)})"
    return _call(random, depth - 1)


def _table(random: Random, depth: int) -> str:
    kind = random.randrange(6)
    if kind < 4 or depth <= 0:
        return _pick(random, _TABLES)
    if kind == 4:
        return "{" + ",".join([_any(random, depth - 1) for _ in range(random.randrange(4))]) + "}"
    key = _pick(random, ["x", "[1]", "[2]", "ok", "err", "map", "set", "double", "y", "[0]", "['a b']", "n"])
    if key[0] != "[":
        return f"{{{key}={_any(random, depth - 1)}}}"
    return f"{{{key}={_any(random, depth - 1)},{_any(random, depth - 1)}}}"


def _constant(choices: list[str]) -> Expression:
    return lambda random, _depth: _pick(random, choices)


_function = _constant(_FUNCTIONS)
_pattern = _constant(_PATTERNS)
_boolean = _constant(["true", "false", "nil", "1", "'on'", "'off'", "'null'"])
_key = _constant(_KEYS)
_name = _constant([f"'{name}'" for name in _NAMES])
_repeat = _constant(_listed("0 1 2 3 -1 1.9 '2' 17"))
# name -> what its arguments are drawn from. A name may be there twice, with other arguments.
_CALLS: list[tuple[str, list[Expression]]] = [
    ("string.byte", [_string, _small, _small]), ("string.byte", [_string]), ("string.char", [_small, _number, _small]),
    ("string.char", [_constant(["65", "0", "255", "256", "-1", "'66'", "1e10"])]),
    ("string.find", [_string, _pattern]), ("string.find", [_string, _pattern, _small, _boolean]), ("string.match", [_string, _pattern, _small]),
    ("string.match", [_string, _pattern]), ("string.gsub", [_string, _pattern, _constant(_REPLACEMENTS)]),
    ("string.gsub", [_string, _pattern, _constant(_REPLACEMENTS), _small]), ("string.len", [_string]), ("string.lower", [_string]),
    ("string.upper", [_string]), ("string.rep", [_string, _repeat]), ("string.reverse", [_string]), ("string.sub", [_string, _small, _small]),
    ("string.sub", [_string, _number]), ("string.format", [_constant(_FORMATS), _any]), ("string.format", [_constant(_FORMATS), _number]),
    ("string.format", [_constant(_FORMATS), _string, _number, _any]), ("string.gmatch", [_string, _pattern]), ("string.gfind", [_string, _pattern]),
    ("table.concat", [_table]), ("table.concat", [_table, _string, _small, _small]), ("table.insert", [_table, _any]),
    ("table.insert", [_table, _small, _any]), ("table.remove", [_table]), ("table.remove", [_table, _small]), ("table.getn", [_table]),
    ("table.setn", [_table, _small]), ("table.maxn", [_table]), ("table.sort", [_table, _constant(_COMPARISONS)]), ("table.sort", [_table]),
    ("table.foreach", [_table, _function]), ("table.foreachi", [_table, _function]),
    *[(f"math.{name}", [_number]) for name in _listed("abs acos asin atan ceil cos cosh deg exp floor frexp log log10 modf rad sin sinh sqrt tan tanh")],
    *[(f"math.{name}", [_number, _number]) for name in _listed("atan2 fmod mod pow max min ldexp")], ("math.max", [_number]), ("math.ldexp", [_number, _small]),
    ("math.randomseed", [_number]),
    *[(f"bit.{name}", [_number]) for name in _listed("tobit bnot bswap tohex band bor bxor")],
    *[(f"bit.{name}", [_number, _number]) for name in _listed("band bor bxor lshift rshift arshift rol ror")], ("bit.tohex", [_number, _small]), ("bit.band", [_number] * 4),
    ("struct.pack", [_constant(_STRUCTS), _number, _number, _number]), ("struct.pack", [_constant(_STRUCTS), _string, _string]), ("struct.size", [_constant(_STRUCTS)]),
    ("struct.pack", [_constant(_STRUCTS), _number, _string]),
    ("struct.unpack", [_constant(_STRUCTS), _constant(_PACKED)]), ("struct.unpack", [_constant(_STRUCTS), _string, _small]),
    ("cjson.encode", [_any]), ("cjson.encode", [_table]), ("cjson.decode", [_constant(_JSON)]), ("cjson.decode", [_string]),
    ("C.encode", [_any]), ("C.decode", [_constant(_JSON)]), ("C.encode_sparse_array", [_boolean, _small, _small]), ("C.encode_max_depth", [_small]),
    ("C.decode_max_depth", [_small]), ("C.encode_number_precision", [_constant(_listed("1 3 14 15 0 16 'x' 3.7 '5'"))]), ("C.encode_invalid_numbers", [_boolean]),
    ("C.decode_invalid_numbers", [_boolean]), ("C.encode_keep_buffer", [_boolean]), ("C.decode_array_with_array_mt", [_boolean]),
    ("cmsgpack.pack", [_any]), ("cmsgpack.pack", [_table, _number, _string]), ("cmsgpack.unpack", [_constant(_PACKED)]), ("cmsgpack.unpack", [_string]),
    ("cmsgpack.unpack_one", [_constant(_PACKED), _small]), ("cmsgpack.unpack_limit", [_constant(_PACKED), _small, _small]), ("cmsgpack.unpack_one", [_constant(_PACKED)]),
    ("tostring", [_any]), ("tonumber", [_string]), ("tonumber", [_string, _constant(_listed("2 8 10 16 36 37 1 0 -1 'x' 16.9"))]), ("type", [_any]),
    ("select", [_small, _any, _any]), ("select", [_constant(["'#'", "'x'", "-1", "0"]), _any]), ("unpack", [_table]), ("unpack", [_table, _small, _small]),
    ("next", [_table]), ("next", [_table, _small]), ("rawget", [_table, _any]), ("rawset", [_table, _any, _any]), ("rawequal", [_any, _any]), ("ipairs", [_table]), ("pairs", [_table]),
    ("assert", [_any, _any]), ("assert", [_any]), ("error", [_any]), ("error", [_any, _small]), ("pcall", [_function, _any]), ("xpcall", [_function, _function]),
    ("setmetatable", [_table, _table]), ("getmetatable", [_any]), ("loadstring", [_constant(["'return 1'", "'return ...'", "'x='", "'return x'", "''", "'error(1)'", "'\\27Lua'"]), _string]),
    ("loadstring", [_string]), ("load", [_function, _string]), ("collectgarbage", [_constant(["'collect'", "'x'", "'stop'", "nil", "1"])]),
    ("coroutine.create", [_function]), ("coroutine.wrap", [_function]), ("coroutine.status", [_any]), ("coroutine.resume", [_any, _any]), ("coroutine.running", []), ("coroutine.yield", [_any]),
    ("redis.sha1hex", [_any]), ("redis.error_reply", [_string]), ("redis.status_reply", [_string]), ("redis.error_reply", [_any]), ("redis.status_reply", [_any]),
    ("redis.log", [_small, _string]), ("redis.setresp", [_constant(["2", "3", "'3'", "3.5", "4", "0", "nil", "{}"])]), ("redis.set_repl", [_small]), ("redis.acl_check_cmd", [_constant(["'get'", "'nosuch'", "'client'", "'config|get'"]), _string]),
    ("redis.replicate_commands", []), ("redis.breakpoint", []), ("redis.debug", [_any]), ("redis.nosuch", [_any]), ("redis.register_function", [_string, _function]),
    ("string.dump", [_constant(["print", "5", "tostring"])]), ("_G[N]", [_any]), ("rawget", [_constant(["_G", "redis", "string"]), _name]),
    ("rawset", [_constant(["_G", "redis", "string"]), _name, _any]), ("setmetatable", [_constant(["_G", "redis", "string", "''"]), _table]), ("table.insert", [_constant(["_G", "redis", "string", "KEYS"]), _any]),
    ("next", [_constant(["{}", "KEYS", "nil"])]), ("f", [_any, _any]), ("g", [_any]), ("co", [_any]), ("s:upper", []), ("s:rep", [_small]), ("s:find", [_pattern]), ("n:foo", []), ("t.x.y", []), ("t.insert", [_any]),
]  # fmt: skip
_redis_words = {
    "set": [_key, _any], "get": [_key], "incr": [_key], "incrbyfloat": [_key, _number], "del": [_key], "type": [_key], "mget": [_key, _key], "mset": [_key, _string, _key, _number],
    "append": [_key, _any], "strlen": [_key], "getrange": [_key, _small, _small], "lpush": [_constant(["'l'", "'k'", "KEYS[1]"]), _any, _number], "rpop": [_constant(["'l'", "'k'"])],
    "lrange": [_constant(["'l'", "'k'"]), _small, _small], "hset": [_constant(["'h'", "'k'"]), _string, _any], "hgetall": [_constant(["'h'", "'nosuch'"])], "hmget": [_constant(["'h'"]), _string, _string],
    "zadd": [_constant(["'z'", "'k'"]), _number, _string], "zscore": [_constant(["'z'"]), _string], "zrange": [_constant(["'z'"]), _small, _small, _constant(["'withscores'", "'rev'"])], "zrange ": [_constant(["'z'"]), _small, _small],
    "sadd": [_constant(["'s'", "'k'"]), _small], "smembers": [_constant(["'nosuch'", "'k'"])], "sismember": [_constant(["'s'"]), _small], "expire": [_key, _constant(["100000", "'x'", "2^70"])], "exists": [_key, _key],
    "ping": [], "ping ": [_any], "echo": [_any], "select": [_small], "nosuch": [_any], "": [], "eval": [_string, _small], "multi": [], "blpop": [_key, _small], "subscribe": [_string], "config": [_constant(["'get'", "'set'", "'x'"]), _string],
    "object": [_constant(["'encoding'", "'x'", "'refcount'"]), _key], "client": [_constant(["'getname'", "'x'", "'no-evict'"])], "script": [_constant(["'exists'", "'flush'", "'x'"]), _string], "hello": [_small], "xadd": [_constant(["'x'"]), _constant(["'1-1'", "'0-0'", "'*x'"]), _string, _string],
    "xrange": [_constant(["'x'"]), _constant(["'-'"]), _constant(["'+'"])], "debug": [_constant(["'sleep'"]), _constant(["0"])], "debug ": [_constant(["'protocol'"]), _constant([_listed("'string' 'integer' 'double' 'null' 'array' 'set' 'map' 'attrib' 'push' 'verbatim' 'true' 'false' 'bignum' 'x'")][0])],
    "lcs": [_key, _key, _constant(["'idx'", "'len'"])], "setnx": [_key, _any], "wait": [_constant(["0"]), _constant(["0"])], "publish": [_string, _any], "sort": [_key, _constant(["'alpha'"])], "zincrby": [_constant(["'z'"]), _number, _string], "geoadd": [_key, _number, _number, _string],
    "hincrby": [_constant(["'h'"]), _string, _number], "lpos": [_constant(["'l'"]), _any], "bitcount": [_key], "setbit": [_key, _small, _small], "pfadd": [_constant(["'p'", "'k'"]), _string], "pfcount": [_constant(["'p'", "'k'"])], "zmscore": [_constant(["'z'"]), _string, _string], "acl": [_constant(["'whoami'", "'x'"])],
    "function": [_constant(["'list'", "'x'"])], "copy": [_key, _key], "rename": [_key, _key], "flushall": [],
}  # fmt: skip


_STRICT = frozenset(["string.rep", "s:rep", "table.insert"])


def _call(random: Random, depth: int) -> str:
    if random.random() < 0.2:
        return _redis_call(random, depth)
    name, arguments = _CALLS[int(random.random() * len(_CALLS))]
    if name == "_G[N]":
        name = _pick(random, _NAMES)
    if name in _STRICT:  # with a number of any size they would take gigabytes, or minutes
        return f"{name}({','.join([argument(random, 0) for argument in arguments])})"
    drawn = [_typed(random, argument, depth - 1) for argument in arguments]
    return f"{name}({','.join(_jittered(random, drawn))})"


def _redis_call(random: Random, depth: int) -> str:
    name = _pick(random, list(_redis_words))
    drawn = [_typed(random, argument, depth - 1) for argument in _redis_words[name]]
    words = [f"'{name.strip()}'"] if name else []
    how = "redis.pcall" if random.random() < 0.4 else "redis.call"
    return f"{how}({','.join(_jittered(random, words + drawn))})"


def _typed(random: Random, wanted: Expression, depth: int) -> str:
    return _any(random, depth) if random.random() < 0.08 else wanted(random, depth)


def _jittered(random: Random, drawn: list[str]) -> list[str]:
    chance = random.random()
    if chance < 0.05 and drawn:
        return drawn[:-1]
    if chance < 0.09:
        return [*drawn, _any(random, 0)]
    return drawn


def _condition(random: Random, depth: int) -> str:
    operator = _pick(random, ["==", "~=", "<", ">", "<=", ">="])
    kind = random.choice((_number, _string, _any))
    return f"{_typed(random, kind, depth)}{operator}{_typed(random, kind, depth)}"


def _value(random: Random) -> str:
    """An expression of any kind, rather a call."""
    kind = random.randrange(8)
    if kind < 5:
        return _call(random, 2)
    if kind == 5:
        return _condition(random, 1)
    return _any(random, 2)


_STATEMENTS: list[Callable[[Random], str]] = [
    *[lambda r: f"P(function(...) return {_value(r)} end,{_any(r, 0)})"] * 12,
    *[lambda r: f"P(function() local v={_value(r)} return v end)"] * 3,
    lambda r: f"P({_pick(r, _FUNCTIONS)},{_any(r, 1)},{_any(r, 1)})",
    lambda r: f"P(function() {_pick(r, ['a', 'b', 't', 's', 'n', 'u', 'c'])}={_value(r)} end)",
    lambda r: f"P(function() for i={_small(r, 0)},{_small(r, 0)},{_pick(r, ['1', '2', '-1', '0.5'])} do c={_value(r)} end return c end)",
    lambda r: f"P(function() for k,v in {_pick(r, ['pairs', 'ipairs', 'next,', ''])}({_typed(r, _table, 1)}) do a,b=k,v break end return a,b end)",
    lambda r: f"P(function() local x={_table(r, 1)} x[{_any(r, 0)}]={_any(r, 1)} return x,#x end)",
    lambda r: f"P(function() return (function(...) return select('#',...),{_value(r)} end)({_any(r, 0)},{_any(r, 0)}) end)",
    lambda r: f"P(function() local co=coroutine.create(function(x) local y=coroutine.yield({_any(r, 1)}) {_pick(r, ['return y', 'error(y)', 'return ' + _value(r)])} end) return R(coroutine.resume(co,{_any(r, 0)})),R(coroutine.resume(co,{_any(r, 0)})),R(coroutine.resume(co)),coroutine.status(co) end)",
    lambda r: f"P(function() local w=coroutine.wrap(function(...) coroutine.yield(...) {_pick(r, ['', 'error(' + _any(r, 0) + ')', 'return ' + _value(r)])} end) return R(w({_any(r, 0)})),R(w()),R(w()) end)",
    lambda r: f"P(function() local m=setmetatable({_table(r, 0)},{{__{_pick(r, ['index', 'newindex', 'add', 'sub', 'mul', 'div', 'mod', 'pow', 'unm', 'concat', 'len', 'eq', 'lt', 'le', 'call', 'tostring', 'metatable', 'gc', 'mode'])}={_pick(r, _FUNCTIONS + _TABLES + ['5'])}}}) return {_pick(r, ['m+1', '1-m', 'm..s', '-m', '#m', 'm()', 'm(1,2)', 'm.zz', 'm<m', 'm<=1', 'm==m', 'tostring(m)', 'm*m', 'm%2', 'm^2', 'm/2', 'getmetatable(m)', 'm.x.y.z', 'cjson.encode(m)', 'cmsgpack.pack(m)', 'redis.call(m)', 'setmetatable(m,nil)', 'rawequal(m,m)', 'm:x()', 'next(m)', 'unpack(m)', 'table.concat(m)', 'table.sort(m)', 'redis.sha1hex(m)'])} end)",
    lambda r: f"P(function() return xpcall(function() {_pick(r, ['error(', 'local x=(', 'return ('])}{_value(r)}) end,{_pick(r, ['function(e) return R(e) end', 'tostring', 'function(e) error(e) end', 'nil', 'f', 'function() return 1,2 end', '__redis__err__handler', 'redis.error_reply'])}) end)",
    lambda r: f"P(function() local function r(k) if k<1 then {_pick(r, ['error', 'f', 'return f', 'redis.call', 'return redis.call', 'assert'])}({_any(r, 1)},{_small(r, 0)}) end if k<0 then return k end {_pick(r, ['return r(k-1)', 'local v=r(k-1) return v', 'return (r(k-1))', 'r(k-1)'])} end return r({_pick(r, ['0', '1', '3', '20'])}) end)",
    lambda r: f"P(function() {_pick(r, _NAMES)}={_any(r, 0)} end)",
    lambda r: f"P(function() {_pick(r, ['string', 'table', 'math', 'redis', 'cjson', '_G', 'KEYS', 'ARGV', 'bit'])}.{_pick(r, ['x', 'foo', 'call', 'format', 'null', 'pi'])}={_any(r, 0)} end)",
    lambda r: f"P(function() return {_pick(r, ['string', 'table', 'math', 'redis', 'cjson', '_G', 'KEYS', 'ARGV', 'bit', 'struct', 'cmsgpack', 'os', 'coroutine', 'nil', 's', 'n'])}.{_pick(r, ['x', 'foo', 'call', 'format', 'null', 'pi', 'setresp', 'time', 'clock', '_NAME', '_VERSION', '_DESCRIPTION', '_COPYRIGHT', 'LOG_DEBUG', 'REDIS_VERSION', 'REPL_ALL', 'huge', 'n'])} end)",
    lambda r: f"P(loadstring({_quoted('return ' + _value(r))},{_pick(r, ['nil', repr('@x'), repr('=y'), repr('a chunk'), repr('@user_script')])}))",
    lambda r: f"P(function() return loadstring({_quoted(_pick(r, _SNIPPETS))}{_pick(r, ['', ',s', ',n'])}) end)",
    lambda r: f"P(loadstring({_quoted(_pick(r, _SNIPPETS))}) or f)",
    lambda r: f"P(function() if {_condition(r, 1)} then return {_any(r, 0)} else return {_value(r)} end end)",
    lambda r: f"P(function() return {_any(r, 1)} {_pick(r, ['and', 'or'])} {_any(r, 1)},not {_any(r, 0)} end)",
    lambda r: f"P(function() local r={{}} for w,x in string.gmatch({_string(r, 1)},{_pattern(r, 0)}) do r[#r+1]=w r[#r+1]=x or '-' if #r>20 then break end end return r end)",
    lambda r: f"P(function() local r={_redis_call(r, 1)} return r{_pick(r, ['', '.err', '.ok', '[1]', '.map', '.set', '.double', ' and #r'])} end)",
    lambda r: f"P(redis.{_pick(r, ['call', 'pcall'])},{_pick(r, list(map(repr, _redis_words)))},{_any(r, 0)},{_any(r, 0)})",
    lambda r: f"P(function() redis.setresp(3) local x=R({_redis_call(r, 1)}) redis.setresp(2) return x end)",
    lambda r: f"C=nil local C=cjson.new() P(C.{_pick(r, ['encode', 'decode', 'encode_max_depth', 'encode_sparse_array', 'encode_number_precision'])},{_any(r, 1)})",
    lambda r: f"local C=cjson.new() P(function() return {_call(r, 1)} end) P(function() C.{_pick(r, ['encode_sparse_array(true)', 'encode_max_depth(2)', 'decode_max_depth(2)', 'encode_number_precision(3)', 'encode_invalid_numbers(true)', 'decode_invalid_numbers(false)', _NULL_INVALID])} return C.encode({_any(r, 1)}),C.decode({_pick(r, _JSON)}) end)",
    lambda r: f"P(function() return cjson.encode(cjson.decode({_pick(r, _JSON)})) end)",
    lambda r: f"P(function() return cmsgpack.unpack(cmsgpack.pack({_any(r, 2)},{_any(r, 1)})) end)",
    lambda r: f"P(function() local p={_pick(r, _STRUCTS)} return struct.unpack(p,struct.pack(p,{_any(r, 0)},{_number(r, 0)},{_string(r, 0)})) end)",
    lambda r: f"math.randomseed({_pick(r, ['1', '2^33', '-5', '0.5'])}) P(math.random,{_small(r, 0)},{_pick(r, ['10', '2^31', '-1', '5.5', 'nil'])}) P(math.random)",
]  # fmt: skip
_SNIPPETS = [
    "return 1", "x=1", "x=", "return", "return return", "for", "for i=1", "if x then", "local function", "end", "a.b.c=1", "f()", "'abc", '"abc\n"', "[[abc", "--[[abc", "1=2",
    "local x<const>=1", "goto x", "return 1//2", "return 1&2", "return 0x", "return 1e", "return 3x", "return '\\x41'", "return '\\400'", "return '\\z'", "break", "return ... ", "function f() return ... end",
    "return function() return ... end", "local a <- 1", "return #", "return {1,2", "return {,}", "return {1;2;;}", "::x::", "return a.1", "return a:b", "return ''..1 ..2", "return 1..2", "f\n()", "return [==[x]==]", "return [=x",
    "\\", "?", "@", "return \0", "return '\0'", "\255", "local end=1", "return not", "return -", "return 1 2", "x y", "x.y", "x:y", "x+1", "()", "(f)()", "(f)", "repeat until", "while do end", "while true do", "do", "do end", "return 5,", "local", "local 1",
    "local a,=1", "for a b in c do end", "for a,b = 1,2 do end", "for i=1,2,3,4 do end", "function a.b:c.d() end", "function() end", "if then end", "else", "elseif", "nil=1", "true()", "'x'()", "{}", "{}.x=1", "return {[1]}", "return {a=}", "return {a.b=1}", "a,b=1", "a,f()=1", "f()=1", "a.b,c[1]=1,2 return c",
    "#!lua\nreturn 1", "# comment\nreturn 1", "return 08", "return 0xg", "return .5", "return 5.", "return 1.2.3", "return ~1", "return 1~=2", "return a!=b", "return a~b", "local x x=x.x", "return '\\\n'", "return '\n'", "error('a',2)", "error({err='x'})", "return redis.call('get')", "return #{" + "f()," * 3 + "1," * 26000 + "f()}", "return nosuch", "nosuch=1", "local function r() return r() end",
]  # fmt: skip


def _quoted(text: str) -> str:
    special = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\0": "\\0"}
    return "'" + "".join([special.get(letter, letter) for letter in text]) + "'"


_LASTS: list[Callable[[Random], str]] = [
    *[lambda _: _END] * 10,
    lambda r: f"return {_any(r, 2)}",
    lambda r: f"return {_table(r, 3)}",
    lambda r: f"return {_value(r)}",
    lambda r: f"return {{{_any(r, 2)},{_any(r, 2)},{_any(r, 2)}}}",
    lambda r: f"redis.setresp(3) return {_pick(r, ['', 'redis.pcall(' + repr('debug') + ',' + repr('protocol') + ',' + _pick(r, [repr(x) for x in _listed('string integer double null array set map attrib verbatim true false bignum')]) + ') or '])}{_any(r, 2)}",
    lambda r: f"error({_any(r, 1)},{_pick(r, ['0', '1', '2', '3', 'nil'])})",
    lambda r: f"return {_redis_call(r, 1)}",
    lambda r: f"local v={_redis_call(r, 1)} return v",
    lambda r: f"local function z() {_pick(r, ['return', 'local v=', 'return 1,'])} {_value(r)} end return z()",
    lambda r: f"return {{map={{a={_any(r, 1)}}}}}",
    lambda r: f"return {{set={{[{_pick(r, _STRINGS + _SMALL)}]={_any(r, 0)}}}}}",
    lambda r: f"return {{double={_any(r, 1)},big_number={_any(r, 0)},verbatim_string={_any(r, 0)}}}",
    lambda r: f"return {{err={_any(r, 1)},ok={_any(r, 0)}}}",
    lambda r: _pick(r, _SNIPPETS),
    lambda r: f"return coroutine.wrap(function() return {_value(r)} end)()",
    lambda r: f"return loadstring({_quoted('return ' + _value(r))})()",
    lambda r: f"return coroutine.yield({_any(r, 0)})",
]  # fmt: skip
_SHEBANGS = [
    b"#!lua", b"#!lua flags=no-writes", b"#!lua flags=allow-oom,allow-stale", b"#!lua flags=no-cluster", b"#!lua flags=nosuch", b"#!lua name=x",
    b"#!LUA", b"#!lua flags=", b"#!lua flags=,,no-writes,", b"#!python", b"#!", b"#!lua  flags=no-writes ", b"#!lua flags=no-writes flags=allow-oom", b"#! lua", b"#!lua\r", b"#!lua x", b"#!lua flags=allow-cross-slot-keys", b"#!lua flags",
]  # fmt: skip


def lua_program(random: Random) -> list[bytes]:
    """The words behind EVAL: a program, the number of keys, keys and arguments."""
    lines = [_RENDER]
    lines += [_pick_statement(random) for _ in range(random.choice((1, 3, 8, 15)))]
    lines.append(random.choice(_LASTS)(random))
    body = "\n".join(lines).encode("latin-1")
    if random.random() < 0.06:
        body = random.choice(_SHEBANGS) + b"\n" + body
    keys = random.choice(([], [b"k"], [b"k"], [b"k", b"l"], [b"", b"z", b"h"]))
    arguments = random.choice(([], [], [b"1"], [b"a", b"b"], [b"\0", b"", b"3.5"]))
    return [body, b"%d" % len(keys), *keys, *arguments]


def _pick_statement(random: Random) -> str:
    return _STATEMENTS[int(random.random() * len(_STATEMENTS))](random)


def shorter(request: Request) -> Iterable[Request]:
    """The request of a program with a line less, for each line but the first; then without arguments."""
    lines = request[1].split(b"\n")
    for at in range(len(lines) - 1, 0, -1):
        yield (request[0], b"\n".join(lines[:at] + lines[at + 1 :]), *request[2:])
    if len(request) > 3:
        yield (*request[:2], b"0")


def addresses_hidden(reply: bytes) -> bytes:
    """A reply without the addresses of tables and functions, and without what depends on their length."""
    hidden = re.sub(rb"\$[0-9]+\r\n([^\r]*0x[0-9a-f]{6,})", rb"$\r\n\1", reply)
    return re.sub(rb"0x[0-9a-f]{6,}", b"0x", hidden)
