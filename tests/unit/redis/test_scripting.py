"""Scripts that take long, eat memory or try to get out: slices, BUSY, KILL, limits. Time is a counter."""

from __future__ import annotations

import pytest

from tests.support.redis_pair import Argument, encode_request
from tests.support.script_engine import Client, Machine

BUSY = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
BUSY_FUNCTION = (
    b"-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.\r\n"
)
KILLED = b"-ERR Script killed by user with SCRIPT KILL..."
FOR_EVER = "while true do end"


@pytest.fixture
def machine() -> Machine:
    return Machine()


def start_for_ever(machine: Machine, *request: Argument, threshold_ms: int = 50) -> Client:
    """A client whose script runs for ever, and has been doing so for longer than the threshold."""
    client = machine.client()
    assert client.send("CONFIG", "SET", "busy-reply-threshold", threshold_ms) == b"+OK\r\n"
    assert client.send(*(request or ("EVAL", FOR_EVER, 0))) == b""
    machine.resume(100)
    assert client.output() == b""
    return client


def test_long_script_is_answered_when_it_is_over(machine: Machine) -> None:
    client = machine.client()
    assert client.send("EVAL", "local s = 0 for i = 1, 1e6 do s = s + i end return s", 0) == b""
    assert client.session.is_parked
    machine.resume_to_the_end()
    assert client.output() == b":500000500000\r\n"
    assert client.send("PING") == b"+PONG\r\n"


def test_requests_behind_a_long_script_are_answered_in_order(machine: Machine) -> None:
    client = machine.client()
    data = encode_request(("EVAL", "for i = 1, 1e6 do end return 1", 0)) + encode_request(("PING",))
    client.session.data_received(data, machine.now_us)
    assert client.output() == b""
    machine.resume_to_the_end()
    assert client.output() == b":1\r\n+PONG\r\n"


def test_others_wait_before_the_threshold_and_see_all_of_the_script(machine: Machine) -> None:
    client, other = machine.client(), machine.client()
    script = "redis.call('set', 'k', 1) for i = 1, 1e6 do end redis.call('set', 'k', 2)"
    assert client.send("EVAL", script, 0) == b""
    assert other.send("GET", "k") == b""
    assert other.send("PING") == b""
    machine.resume_to_the_end()
    assert other.output() == b"$1\r\n2\r\n+PONG\r\n"


def test_busy_after_the_threshold(machine: Machine) -> None:
    waiting = machine.client()
    client = start_for_ever(machine)
    other = machine.client()
    assert other.send("GET", "k") == BUSY
    assert other.send("PING") == BUSY
    assert other.send("NOSUCH").startswith(b"-ERR unknown command")
    assert other.send("MULTI") == b"+OK\r\n"
    assert other.send("GET", "k") == BUSY
    assert other.send("EXEC").startswith(b"-EXECABORT Transaction discarded because of: BUSY")
    assert other.send("HELLO").startswith(b"*14\r\n")
    assert other.send("FUNCTION", "STATS") == BUSY
    assert other.send("SHUTDOWN") == BUSY
    assert other.send("FUNCTION", "KILL") == BUSY
    assert waiting.send("SCRIPT", "KILL") == b"+OK\r\n"
    machine.resume_to_the_end()
    assert client.output().startswith(KILLED)
    assert other.send("PING") == b"+PONG\r\n"
    assert other.send("SCRIPT", "KILL") == b"-NOTBUSY No scripts in execution right now.\r\n"


def test_who_came_before_the_threshold_is_told_when_it_has_come(machine: Machine) -> None:
    client, other = machine.client(), machine.client()
    client.send("CONFIG", "SET", "busy-reply-threshold", 50)
    assert client.send("EVAL", FOR_EVER, 0) == b""
    assert other.send("GET", "k") == b""
    machine.resume(100)
    assert other.output() == BUSY


@pytest.mark.parametrize(
    "script",
    [
        FOR_EVER,
        "while true do pcall(function() while true do end end) end",
        "while true do redis.pcall('get', 'k') end",
        "while true do pcall(redis.call, 'get', 'k') end",
        "while true do xpcall(function() while true do end end, function(e) return e end) end",
        "local co = coroutine.wrap(function() while true do end end) while true do pcall(co) end",
        "while true do local co = coroutine.create(function() while true do pcall(function() while true do end"
        " end) end end) coroutine.resume(co) end",
        "local function f() return f() end f()",
        "local t = setmetatable({}, {__index = function() while true do end end}) while true do pcall(function()"
        " return t.x end) end",
        "while true do pcall(table.sort, {3, 2, 1}, function() while true do end end) end",
        "while true do pcall(string.gsub, 'abc', '.', function() while true do end end) end",
        "for i = 1, 1e9 do local ok = pcall(error, {}) end while true do end",
        "while true do pcall(coroutine.wrap(function() error('x') end)) end",
        "xpcall(function() while true do end end, function() while true do end end)\nwhile true do end",
        "coroutine.wrap(function() xpcall(function() while true do end end, function() while true do end end) end)()",
    ],
)
def test_script_kill_ends_it_whatever_it_catches(machine: Machine, script: str) -> None:
    client = start_for_ever(machine, "EVAL", script, 0)
    other = machine.client()
    assert other.send("SCRIPT", "KILL") == b"+OK\r\n"
    machine.resume_to_the_end()
    assert client.output().startswith((KILLED, b"$-1"))
    assert other.send("EVAL", "return 'alive'", 0) == b"$5\r\nalive\r\n"


@pytest.mark.parametrize("body", ["error(x)", "while true do end", "return x"])
def test_the_error_of_a_script_runs_nothing_of_it(machine: Machine, body: str) -> None:
    client = machine.client()
    script = (
        f"error(setmetatable({{}}, {{__index = function(x) {body} end, __tostring = function() {body} end}}))"
    )
    assert client.send("EVAL", script, 0).startswith(b"-ERR unknown error")
    assert client.send("FUNCTION", "LOAD", "#!lua name=l\nlocal t = {} " + script).startswith(
        b"-ERR Error registering"
    )
    named = script.replace("{}", "{err = 'e', source = setmetatable({}, {__tostring = error})}", 1)
    assert client.send("EVAL", named, 0).startswith(b"-e")
    assert client.send("EVAL", "return 'alive'", 0) == b"$5\r\nalive\r\n"


def test_script_that_wrote_is_unkillable(machine: Machine) -> None:
    client = machine.client()
    client.send("CONFIG", "SET", "busy-reply-threshold", 50)
    script = "redis.call('set', 'k', 1) while redis.call('get', 'stop') == false do end return 1"
    assert client.send("EVAL", script, 0) == b""
    machine.resume(100)
    other = machine.client()
    assert other.send("SCRIPT", "KILL").startswith(b"-UNKILLABLE")
    assert other.send("SHUTDOWN", "NOSAVE") == b""
    assert machine.engine.shutdown_requested


def test_function_kill_and_stats(machine: Machine) -> None:
    client = machine.client()
    code = "#!lua name=l\nredis.register_function('forever', function() while true do end end)"
    assert client.send("FUNCTION", "LOAD", code) == b"$1\r\nl\r\n"
    client = start_for_ever(machine, "FCALL", "forever", 0)
    other = machine.client()
    assert other.send("GET", "k") == BUSY_FUNCTION
    assert other.send("SCRIPT", "KILL") == BUSY_FUNCTION
    assert b"running_script\r\n*6\r\n$4\r\nname\r\n$7\r\nforever\r\n" in other.send("FUNCTION", "STATS")
    assert other.send("FUNCTION", "KILL") == b"+OK\r\n"
    machine.resume_to_the_end()
    assert client.output().startswith(KILLED + b" script: forever, on @user_function:2.")


def test_long_script_in_exec(machine: Machine) -> None:
    client, other = machine.client(), machine.client()
    client.send("MULTI")
    client.send("SET", "k", 1)
    client.send("EVAL", "for i = 1, 1e6 do end return redis.call('incr', 'k')", 0)
    client.send("GET", "k")
    started = client.send("EXEC")
    assert other.send("GET", "k") == b""
    machine.resume_to_the_end()
    assert started + client.output() == b"*3\r\n+OK\r\n:2\r\n$1\r\n2\r\n"
    assert other.output() == b"$1\r\n2\r\n"
    assert client.send("GET", "k") == b"$1\r\n2\r\n"


def test_keys_do_not_expire_under_a_script(machine: Machine) -> None:
    client = machine.client()
    client.send("SET", "k", "v", "PX", 10)
    script = "local a = redis.call('get', 'k') for i = 1, 1e6 do end return {a, redis.call('get', 'k')}"
    assert client.send("EVAL", script, 0) == b""
    machine.now_us += 60_000_000
    machine.engine.cron(machine.now_us)
    other = machine.client()  # which sets the clock
    machine.resume_to_the_end()
    assert client.output() == b"*2\r\n$1\r\nv\r\n$1\r\nv\r\n"
    assert other.send("GET", "k") == b"$-1\r\n"


def test_waiting_clients_are_served_after_the_script(machine: Machine) -> None:
    client, waiting = machine.client(), machine.client()
    assert waiting.send("BLPOP", "l", 0) == b""
    script = "redis.call('rpush', 'l', 'a') for i = 1, 1e6 do end return redis.call('llen', 'l')"
    assert client.send("EVAL", script, 0) == b""
    machine.resume(3)
    assert waiting.output() == b""
    machine.resume_to_the_end()
    assert client.output() == b":1\r\n"
    assert waiting.output() == b"*2\r\n$1\r\nl\r\n$1\r\na\r\n"


def test_client_that_goes_leaves_its_script_running(machine: Machine) -> None:
    client, other = machine.client(), machine.client()
    assert client.send("EVAL", "for i = 1, 1e6 do end redis.call('set', 'k', 1)", 0) == b""
    client.session.close()
    assert other.send("GET", "k") == b""
    machine.resume_to_the_end()
    assert other.output() == b"$1\r\n1\r\n"


def test_postponed_client_that_goes_is_forgotten(machine: Machine) -> None:
    client, other = machine.client(), machine.client()
    assert client.send("EVAL", "for i = 1, 1e6 do end return redis.call('exists', 'k')", 0) == b""
    assert other.send("SET", "k", 1) == b""
    other.session.close()
    machine.resume_to_the_end()
    assert client.output() == b":0\r\n"
    assert client.send("EXISTS", "k") == b":0\r\n"


def test_engine_may_go_in_the_middle_of_a_script() -> None:
    machine = Machine()
    start_for_ever(machine, "EVAL", "while true do pcall(function() while true do end end) end", 0)
    del machine  # nothing hangs


@pytest.mark.parametrize(
    "script",
    [
        "return #string.rep('x', 512 * 1024 * 1024)",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} for i = 1, 1e9 do t[i] = 'key' .. i end",
        "local t = {} while true do t = {t} end",
        "local t = {} for i = 1, 1e9 do t[i] = redis.call('get', 'big') .. i end",
        "local t = {} for i = 1, 1e9 do t[i] = redis.call('lrange', 'l', 0, -1) end",
        "local t = {} for i = 1, 1e9 do t[i] = redis.pcall('echo', i) end",
        "local t = {} for i = 1, 1e9 do t[i] = redis.pcall('no' .. i) end",
        "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(function() end) end",
        "local t = {} for i = 1, 1e9 do t[i] = cjson.decode('[1,2,3,{\"a\":4}]') end",
        "local t = {} for i = 1, 1e9 do t[i] = redis.sha1hex(i) .. i end",
        "return {xpcall(function() local t = {} while true do t[#t + 1] = {} end end, function() while true do end end)}",
        "local t = {} for i = 1, 1e9 do t[i] = struct.pack('d', i) .. cmsgpack.pack(i + 0.1) end",
    ],
)
def test_memory_limit_ends_the_script_and_nothing_else(script: str) -> None:
    machine = Machine(memory=16 << 20)
    client = machine.client()
    client.send("SET", "big", b"x" * 100_000)
    for _ in range(10):
        client.send("RPUSH", "l", *[b"y" * 50] * 100)
    reply = client.send("EVAL", script, 0)
    machine.resume_to_the_end()
    reply += client.output()
    assert b"not enough memory" in reply, reply
    assert machine.engine.scripts.memory_used() <= 16 << 20
    assert client.send("EVAL", "return redis.call('get', 'nokey') or 'fine'", 0) == b"$4\r\nfine\r\n"


def test_garbage_beyond_the_limit_is_collected() -> None:
    machine = Machine(memory=16 << 20)
    client = machine.client()
    script = "local n = 0 for i = 1, 2e5 do n = n + #('garbage of a script ' .. i .. string.rep('x', 500)) end return n"
    reply = client.send("EVAL", script, 0)
    machine.resume_to_the_end()
    assert (reply + client.output()).startswith(b":")


def test_reply_that_does_not_fit_is_an_error() -> None:
    machine = Machine(memory=16 << 20)
    client = machine.client()
    client.send("SET", "big", b"x" * (20 << 20))
    assert b"not enough memory" in client.send("EVAL", "return #redis.call('get', 'big')", 0)
    assert b"not enough memory" in client.send("EVAL", "return 1", 0, b"x" * (20 << 20))
    assert b"not enough memory" in client.send("EVAL", "return '" + "x" * (20 << 20) + "'", 0)
    assert client.send("EVAL", "return 1", 0) == b":1\r\n"


@pytest.mark.parametrize(
    "script",
    [
        "return tostring(python)",
        "return tostring(_G.python)",
        "return tostring(getmetatable(redis.call))",
        "return tostring(getfenv)",
        "return tostring(debug)",
        "return tostring(require)",
        "return tostring(package)",
        "return tostring(io)",
    ],
)
def test_nothing_of_the_host_is_there(machine: Machine, script: str) -> None:
    reply = machine.client().send("EVAL", script, 0)
    assert reply.startswith((b"-ERR user_script:1: Script attempted to access nonexistent", b"$3\r\nnil"))


def test_bytecode_is_refused(machine: Machine) -> None:
    client = machine.client()
    assert client.send("EVAL", b"\x1bLua\x51\x00", 0).startswith(b"-ERR Error compiling script")
    assert client.send("EVAL", "return loadstring(string.dump(function() end))", 0) == b"$-1\r\n"
    given = (
        "local d, n = string.dump(function() end), 0 return load(function() n = n + 1 return d:sub(n, n) end)"
    )
    assert client.send("EVAL", given, 0) == b"$-1\r\n"


def test_a_script_leaves_nothing_to_the_next(machine: Machine) -> None:
    client = machine.client()
    for script in ("table.insert(redis, 1)", "rawset(string, 'x', 1)", "string.x = 1", "x = 1", "KEYS.x = 1"):
        client.send("EVAL", script, 0)
    looks = "return {rawget(redis, 1), rawget(string, 'x'), rawget(_G, 'x'), KEYS.x}"
    assert client.send("EVAL", looks, 0) == b"*0\r\n"


def test_tail_calls_of_own_functions_stay(machine: Machine) -> None:
    script = "local function f(n) if n == 0 then return 'done' end return f(n - 1) end return f(200000)"
    client = machine.client()
    reply = client.send("EVAL", script, 0)
    machine.resume_to_the_end()
    assert reply + client.output() == b"$4\r\ndone\r\n"


def test_many_arguments_of_a_command(machine: Machine) -> None:
    client = machine.client()
    script = "local t = {} for i = 1, 5000 do t[i] = i end return redis.call('rpush', 'l', unpack(t))"
    assert client.send("EVAL", script, 0) == b":5000\r\n"
    assert client.send("LINDEX", "l", -1) == b"$4\r\n5000\r\n"
    keys = [str(i) for i in range(1000)]
    assert client.send("EVAL", "return {#KEYS, #ARGV, KEYS[999], ARGV[1]}", 999, *keys) == (
        b"*4\r\n:999\r\n:1\r\n$3\r\n998\r\n$3\r\n999\r\n"
    )


def test_evaluated_scripts_are_evicted_and_loaded_ones_stay(machine: Machine) -> None:
    client = machine.client()
    loaded = client.send("SCRIPT", "LOAD", "return 'loaded'").split(b"\r\n")[1]
    for i in range(510):
        client.send("EVAL", f"return {i}", 0)
    assert len(machine.engine.scripts.cached) == 501
    assert machine.engine.scripts.evicted_scripts == 10
    assert client.send("EVALSHA", loaded, 0) == b"$6\r\nloaded\r\n"
    info = client.send("INFO", "memory", "stats")
    assert b"number_of_cached_scripts:501\r\n" in info
    assert b"evicted_scripts:10\r\n" in info


def test_out_of_memory_before_and_after_the_first_write(machine: Machine) -> None:
    client = machine.client()
    client.send("SET", "k", "v")
    client.send("CONFIG", "SET", "maxmemory", 1)
    assert client.send("EVAL", "return redis.call('set', 'x', 1)", 0).startswith(b"-OOM command not allowed")
    assert client.send("EVAL", "redis.call('del', 'k') return redis.call('set', 'x', 1)", 0) == b"+OK\r\n"
    assert client.send("EVAL", "return redis.call('get', 'x')", 0) == b"$1\r\n1\r\n"
    assert client.send("EVAL", "#!lua\nreturn 1", 0).startswith(
        b"-OOM allow-oom flag is not set on the script"
    )
    assert client.send("EVAL", "#!lua flags=no-writes\nreturn 1", 0) == b":1\r\n"
    assert client.send("EVAL", "#!lua flags=allow-oom\nreturn redis.call('set', 'y', 1)", 0) == b"+OK\r\n"


def test_own_database_of_a_script(machine: Machine) -> None:
    client = machine.client()
    client.send("EVAL", "redis.call('select', 3) redis.call('set', 'k', 1)", 0)
    assert client.send("EXISTS", "k") == b":0\r\n"
    client.send("SELECT", 3)
    assert client.send("EVAL", "return redis.call('get', 'k')", 0) == b"$1\r\n1\r\n"


def test_log_goes_to_the_engine(machine: Machine) -> None:
    lines: list[tuple[int, bytes]] = []
    machine.engine.on_script_log = lambda level, text: lines.append((level, text))
    machine.client().send("EVAL", "redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b')", 0)
    assert lines == [(3, b"a 1 b")]


def test_lua_is_not_there_before_it_is_needed(machine: Machine) -> None:
    client = machine.client()
    assert client.send("SCRIPT", "EXISTS", "x") == b"*1\r\n:0\r\n"
    assert client.send("FUNCTION", "LIST") == b"*0\r\n"
    assert machine.engine.scripts.memory_used() == 0
