-- What a script may see and do: the globals of scripts and of functions, the `redis` table, conversion of what a
-- script returns into wire form, and the entries that Python calls. Loaded once for each Lua state, by runtime.py.
--
-- Scripts run on Lua 5.1 as it is, without redis-server's read-only tables. So a script sees an empty stand-in for
-- each library, whose metatable reads the real one and refuses writes, and the functions that look past metatables
-- (next, pairs, rawget, rawset, setmetatable, getmetatable, table.insert) are taught about stand-ins.
--
-- This chunk is named "=[C]": what it defines is C to redis-server, and has no line of its own in an error.

local host, libraries = ...

local error, type, tostring, tonumber, select, unpack = error, type, tostring, tonumber, select, unpack
local rawget, rawset, rawequal, next, pairs, ipairs = rawget, rawset, rawequal, next, pairs, ipairs
local getmetatable, setmetatable = getmetatable, setmetatable
local pcall, xpcall, loadstring, setfenv = pcall, xpcall, loadstring, setfenv
local getinfo, sethook = debug.getinfo, debug.sethook
local concat, insert, format, floor = table.concat, table.insert, string.format, math.floor
local gsub, sub, byte, find, dump = string.gsub, string.sub, string.byte, string.find, string.dump
local gcinfo, collectgarbage = gcinfo, collectgarbage
local co_create, co_resume = coroutine.create, coroutine.resume

local READONLY = "Attempt to modify a readonly table"

-- Lua's own, which runtime.py removes once this chunk has run; for debugger.lua, which comes later.
local lua_globals = {}
for name, value in pairs(_G) do
    lua_globals[name] = value
end

-- Errors -------------------------------------------------------------------------------------------

-- As luaL_argerror: raised for the wrapper that calls this.
local function bad_argument(number, message)
    local info = getinfo(2, "n")
    error("bad argument #" .. number .. " to '" .. (info.name or "?") .. "' (" .. message .. ")", 3)
end

local function type_name(count, value)
    return count == 0 and "no value" or type(value)
end

local on_failure -- told of errors of ours, while a script is debugged

local function tell(message)
    if on_failure then
        on_failure((gsub(message, "^ERR ", "")))
    end
end

-- An error of a function of ours, as redis-server raises it: no position, but for the handler's.
local function fail(message)
    tell(message)
    error({err = message}, 0)
end

local function ours(info)
    return info and info.source == "=[C]" and info.what ~= "C"
end

-- Where an error came from. A function written in C stands for its caller; so does one of this chunk, with the
-- `error` it calls.
local function locate(level)
    local info = getinfo(level, "Sl")
    if ours(getinfo(level + 1, "S")) and info and (info.what == "C" or ours(info)) then
        repeat level = level + 1 until not ours(getinfo(level + 1, "S"))
        info = getinfo(level + 1, "Sl")
        if info and info.what == "tail" then
            return nil -- the script is not there any more
        end
        return info
    end
    if ours(info) or info and info.what == "C" then
        return getinfo(level + 1, "Sl")
    end
    return info
end

local function described(err, info)
    if type(err) ~= "table" then
        err = {err = "ERR " .. tostring(err)}
    elseif host.real_of[err] then
        -- The server's handler fails, and handles that.
        err = {err = "ERR err_handler_def:10: " .. READONLY}
        info = info and {source = "@err_handler_def", currentline = 10}
    end
    if info and info.source ~= "=[C]" then
        err.source = info.source
        err.line = info.currentline
    end
    return err
end

local function on_error(err)
    return described(err, locate(3))
end

-- The position of level `level` of the callers of who calls this, as luaL_where gives it. A function of this chunk
-- and what it calls are one level.
local function where(level)
    local at = 2
    repeat
        at = at + 1
        local frame, caller = getinfo(at, "S"), getinfo(at + 1, "S")
        if not ours(caller) or frame.what ~= "C" and not ours(frame) then
            level = level - 1
        end
    until level <= 0 or not caller
    local info = level <= 0 and getinfo(at, "Sl")
    if info and info.currentline > 0 and not ours(info) then
        return info.short_src .. ":" .. info.currentline .. ": "
    end
    return ""
end

local function lua_error(...)
    local err, level = ...
    if level == nil then
        level = 1
    else
        local number = tonumber(level)
        if not number or type(level) ~= "number" and type(level) ~= "string" then
            bad_argument(2, "number expected, got " .. type(level))
        end
        level = number < 0 and -floor(-number) or floor(number)
        level = number == number and level >= -2 ^ 63 and level < 2 ^ 63 and level % 2 ^ 32 or 0
    end
    if (type(err) == "string" or type(err) == "number") and level > 0 and level < 2 ^ 31 then
        err = where(level) .. err
    end
    error(err, 0)
end

-- Stand-ins ----------------------------------------------------------------------------------------

local real_of = host.real_of -- stand-in -> the table it shows
local metatable_of = {}     -- stand-in -> what getmetatable says

local function refuse()
    error(READONLY, 2)
end

local function show(real, metatable)
    local stand_in = {}
    real_of[stand_in] = real
    metatable_of[stand_in] = metatable
    setmetatable(stand_in, {__index = real, __newindex = refuse})
    return stand_in
end

local function refuse_unknown(_, name)
    local level = ours(getinfo(2, "S")) and 0 or 2
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", level)
end

local function lua_next(...)
    local t, key = ...
    if type(t) ~= "table" then
        bad_argument(1, "table expected, got " .. type_name(select("#", ...), t))
    end
    local ok, k, v = pcall(next, real_of[t] or t, key)
    if not ok then
        error("invalid key to 'next'", 0)
    elseif k == nil then
        return nil
    end
    return k, v
end

local function lua_pairs(...)
    local t = ...
    if type(t) ~= "table" then
        bad_argument(1, "table expected, got " .. type_name(select("#", ...), t))
    end
    local real = real_of[t]
    if real then
        -- Over a copy: who walks must not get hold of the real table.
        local copy = {}
        for k, v in next, real do
            copy[k] = v
        end
        return next, copy, nil
    end
    return next, t, nil
end

local function lua_rawget(...)
    local t, key = ...
    if type(t) ~= "table" then
        bad_argument(1, "table expected, got " .. type_name(select("#", ...), t))
    elseif select("#", ...) < 2 then
        bad_argument(2, "value expected")
    end
    return rawget(real_of[t] or t, key)
end

local function lua_rawset(...)
    local t, key, value = ...
    if type(t) ~= "table" then
        bad_argument(1, "table expected, got " .. type_name(select("#", ...), t))
    elseif select("#", ...) < 3 then
        bad_argument(select("#", ...) + 1, "value expected")
    elseif real_of[t] then
        error(READONLY, 0)
    elseif key == nil then
        error("table index is nil", 0)
    elseif key ~= key then
        error("table index is NaN", 0)
    end
    return rawset(t, key, value)
end

local function lua_setmetatable(...)
    local t, metatable = ...
    if type(t) ~= "table" then
        bad_argument(1, "table expected, got " .. type_name(select("#", ...), t))
    elseif type(metatable) ~= "table" and (metatable ~= nil or select("#", ...) < 2) then
        bad_argument(2, "nil or table expected")
    elseif real_of[t] then
        error(READONLY, 0)
    end
    local old = getmetatable(t)
    if old ~= nil and type(old) ~= "table" or type(old) == "table" and rawget(old, "__metatable") ~= nil then
        error("cannot change a protected metatable", 2)
    end
    local ok, message = pcall(setmetatable, t, metatable)
    if not ok then
        error(message, 2)
    end
    return t
end

local function table_insert(...)
    local count = select("#", ...)
    local t, place, value = ...
    if type(t) ~= "table" then
        bad_argument(1, "table expected, got " .. type_name(count, t))
    elseif count ~= 2 and count ~= 3 then
        error("wrong number of arguments to 'insert'", 2)
    elseif count == 3 and not tonumber(place) then
        bad_argument(2, "number expected, got " .. type(place))
    elseif real_of[t] then
        error(READONLY, 0)
    elseif count == 2 then
        insert(t, place)
    else
        insert(t, place, value)
    end
end

local function string_dump(...)
    local f = ...
    if type(f) ~= "function" then
        bad_argument(1, "function expected, got " .. type_name(select("#", ...), f))
    elseif getinfo(f, "S").source == "=[C]" then
        error("unable to dump given function", 2)
    end
    return dump(f)
end

local string_metatable

local function lua_getmetatable(...)
    local value = ...
    if select("#", ...) == 0 then
        bad_argument(1, "value expected")
    elseif type(value) == "string" then
        return string_metatable
    elseif real_of[value] then
        return metatable_of[value]
    elseif value == libraries.cjson.null then
        return nil
    end
    return getmetatable(value)
end

-- pcall gives the text of an error table; beside a table without one it gives what is there instead.
local function plain(ok, ...)
    if ok then
        return ok, ...
    end
    local err = ...
    if type(err) ~= "table" then
        return ok, err
    end
    local text = err.err
    if type(text) == "string" or type(text) == "number" then
        return ok, text
    end
    return ok, err, text
end

local function lua_pcall(...)
    if select("#", ...) == 0 then
        return false, "attempt to call a boolean value" -- as it is there, for a reason of its own
    end
    return plain(pcall(...))
end

-- Loading ------------------------------------------------------------------------------------------

local scripts, functions    -- the globals of either, made below
local current               -- one of the two

local function load_text(text, name)
    -- Compiled code is not loaded: behind a space it is a text that is wrong.
    local chunk, message = loadstring(byte(text, 1) == 27 and " " .. text or text, name)
    if not chunk then
        return nil, message
    end
    local code = host.untail(dump(chunk))
    if not code then
        return nil, "not enough memory"
    end
    chunk = loadstring(code, name)
    setfenv(chunk, current)
    return chunk
end

-- The name of a chunk: argument 2 of who calls this, which may be missing.
local function chunk_name(name)
    if name == nil or type(name) == "string" then
        return name
    elseif type(name) == "number" then
        return tostring(name)
    end
    local info = getinfo(2, "n")
    error("bad argument #2 to '" .. (info.name or "?") .. "' (string expected, got " .. type(name) .. ")", 3)
end

local function lua_loadstring(...)
    local text, name = ...
    if type(text) == "number" then
        text = tostring(text)
    elseif type(text) ~= "string" then
        bad_argument(1, "string expected, got " .. type_name(select("#", ...), text))
    end
    return load_text(text, chunk_name(name) or text)
end

local function lua_load(...)
    local reader, name = ...
    name = chunk_name(name) or "=(load)"
    if type(reader) ~= "function" then
        bad_argument(1, "function expected, got " .. type_name(select("#", ...), reader))
    end
    local pieces = {}
    while true do
        local ok, piece = pcall(reader)
        if not ok then
            return nil, piece
        elseif piece == nil or piece == "" then
            break
        elseif type(piece) == "number" then
            piece = tostring(piece)
        elseif type(piece) ~= "string" then
            return nil, where(1) .. "reader function must return a string"
        end
        pieces[#pieces + 1] = piece
    end
    return load_text(concat(pieces), name)
end

-- Time ---------------------------------------------------------------------------------------------

-- So many instructions are tens of microseconds to a few milliseconds.
local HOOK_COUNT = 20000
local DEBUG_HOOK_COUNT = 100000 -- redis-server's: how often a script that does not stop is asked to
local is_killed = false
local tick, memory_limit_kb = host.tick, 0

-- Collect when memory is short. What is left must be well below the limit, or each step would collect again.
local function make_room()
    collectgarbage()
    if gcinfo() > memory_limit_kb * 0.95 then
        error("not enough memory", 0)
    end
end

local function killed()
    error({err = is_killed}, 0)
end

-- Of a script that has been killed: none of its lines may run any more, whatever it catches. Ours may.
local function on_line()
    if not ours(getinfo(2, "S")) then
        killed()
    end
end

-- What runs with the hooks, but outside of a script: nobody would catch an error there.
local unprotected = {}

-- Now and then, while `running` runs: end what has been killed, or takes too much memory.
local function look_after(running)
    if gcinfo() > memory_limit_kb and not unprotected[running] then
        make_room()
    end
    local reason = tick()
    if reason then
        is_killed = reason
    end
    if is_killed and not unprotected[running] then
        sethook(on_line, "l")
        killed()
    end
end

local function is_in_lua(f)
    return type(f) == "function" and getinfo(f, "S").source ~= "=[C]"
end

local function on_count()
    look_after(getinfo(2, "f").func)
end

local hook, hook_events, hook_count = on_count, "", HOOK_COUNT -- others while a script is debugged

local function lua_create(...)
    local f = ...
    if not is_in_lua(f) then
        bad_argument(1, "Lua function expected")
    end
    if is_killed then
        killed()
    end
    local thread = co_create(f)
    sethook(thread, hook, hook_events, hook_count)
    return thread
end

local function packed(...)
    return {...}, select("#", ...)
end

local function lua_wrap(...)
    local f = ...
    if not is_in_lua(f) then
        bad_argument(1, "Lua function expected")
    end
    local thread = lua_create(f)
    return function(...)
        local results, count = packed(co_resume(thread, ...))
        if results[1] then
            return unpack(results, 2, count)
        end
        local err = results[2]
        if type(err) == "string" then
            -- As auxwrap does it: the position of who resumed.
            local info = getinfo(2, "Sl")
            if info and info.currentline > 0 then
                err = info.short_src .. ":" .. info.currentline .. ": " .. err
            end
        end
        error(err, 0)
    end
end

-- The redis table ----------------------------------------------------------------------------------

local call_host, stage_host = host.call, host.stage
local MANY = 60

-- A table for the error reply `text`.
local function error_table(text)
    return {err = text, ignore_error_stats_update = true}
end

-- Arguments beyond a number go in portions: to hand many at once to Python takes time by their square.
local function stage(...)
    local arguments = {...}
    local count = select("#", ...)
    for i = 1, count, MANY do
        stage_host(unpack(arguments, i, i + MANY - 1 < count and i + MANY - 1 or count))
    end
end

local function run_command(...)
    if gcinfo() > memory_limit_kb then
        make_room()
    end
    if is_killed then
        killed()
    end
    if select("#", ...) > MANY then
        stage(...)
        return call_host()
    end
    return call_host(...)
end

local function raise(text, kind)
    if kind == 3 then
        is_killed = text
        sethook(on_line, "l")
        killed()
    elseif kind == 4 then
        error(text, 0)
    elseif kind == 5 then
        fail(text)
    end
    error(error_table(text), 0)
end

local function redis_call(...)
    local value, kind = run_command(...)
    if kind == nil then
        return value
    elseif kind == 1 then
        return {ok = value}
    end
    raise(value, kind)
end

local function redis_pcall(...)
    local value, kind = run_command(...)
    if kind == nil then
        return value
    elseif kind == 1 then
        return {ok = value}
    elseif kind == 2 then
        return error_table(value)
    elseif kind == 5 then
        tell(value)
        return {err = value}
    end
    raise(value, kind)
end

local function single_line(text)
    return (gsub(text, "[\r\n]", " "))
end

-- What C's string functions see of a text.
local function c_string(text)
    local stop = find(text, "\0", 1, true)
    return stop and sub(text, 1, stop - 1) or text
end

-- In place of a reply that cannot be made.
local function wrong_arguments()
    local message = "ERR wrong number or type of arguments"
    tell(message)
    return {err = message}
end

local function redis_error_reply(...)
    local text = ...
    if select("#", ...) ~= 1 or type(text) ~= "string" then
        return wrong_arguments()
    end
    text = c_string(text)
    tell("-" .. gsub(text, "^-", ""))
    if byte(text, 1) == 45 then
        text = sub(text, 2)
        if not find(text, " ", 1, true) then
            text = "ERR " .. text
        end
    elseif not find(text, " ", 1, true) then
        text = "ERR " .. text
    end
    return {err = text}
end

local function redis_status_reply(...)
    local text = ...
    if select("#", ...) ~= 1 or type(text) ~= "string" then
        return wrong_arguments()
    end
    return {ok = text}
end

local function redis_sha1hex(...)
    local text = ...
    if select("#", ...) ~= 1 then
        fail("ERR wrong number of arguments")
    end
    if type(text) == "number" then
        text = tostring(text)
    elseif type(text) ~= "string" then
        text = ""
    end
    return host.sha1hex(text)
end

local function redis_log(...)
    local count = select("#", ...)
    if count < 2 then
        fail("ERR redis.log() requires two arguments or more.")
    end
    local level = tonumber((...))
    if not level then
        fail("ERR First argument must be a number (log level).")
    end
    level = floor(level)
    if level < 0 or level > 3 then
        fail("ERR Invalid log level.")
    end
    local words = {}
    for i = 2, count do
        local word = select(i, ...)
        if type(word) == "string" or type(word) == "number" then
            words[#words + 1] = tostring(word)
        end
    end
    host.log(level, concat(words, " "))
end

local protocol = 2

local function redis_setresp(...)
    if select("#", ...) ~= 1 then
        fail("ERR redis.setresp() requires one argument.")
    end
    local wanted = tonumber((...)) or 0
    wanted = floor(wanted)
    if wanted ~= 2 and wanted ~= 3 then
        fail("ERR RESP version must be 2 or 3.")
    end
    protocol = wanted
    host.setresp(wanted)
end

local function redis_set_repl(...)
    if select("#", ...) ~= 1 then
        fail("ERR redis.set_repl() requires one argument.")
    end
    local flags = tonumber((...)) or 0
    if flags < 0 or flags >= 4 then
        fail("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
    end
end

local function redis_acl_check_cmd(...)
    local allowed, problem = host.acl_check_cmd(...)
    if problem then
        raise(allowed, problem)
    end
    return allowed
end

-- Random numbers -----------------------------------------------------------------------------------

-- POSIX's lrand48, in 24-bit halves, so that scripts see the same numbers everywhere:
-- X' = (0x5DEECE66D X + 0xB) mod 2^48, and the number is X' / 2^17.
local TWO_24, TWO_31 = 2 ^ 24, 2 ^ 31
local MULTIPLIER_HIGH, MULTIPLIER_LOW = 0x5DE, 0xECE66D
local state_high, state_low = 0, 0x330E

local function seed(number)
    number = number % 2 ^ 32
    state_high = floor(number / 256)
    state_low = (number % 256) * 65536 + 0x330E
end

local function lrand48()
    local low = state_low * MULTIPLIER_LOW + 0xB
    local carry = floor(low / TWO_24)
    local high = state_high * MULTIPLIER_LOW % TWO_24 + state_low * MULTIPLIER_HIGH % TWO_24 + carry
    state_low = low % TWO_24
    state_high = high % TWO_24
    return state_high * 128 + floor(state_low / 131072)
end

local function number_argument(count, number, value)
    local converted = value
    if type(value) == "string" then
        converted = tonumber(value)
    end
    if type(converted) ~= "number" then
        local info = getinfo(2, "n")
        error("bad argument #" .. number .. " to '" .. (info.name or "?") .. "' (number expected, got "
            .. type_name(count >= number and 1 or 0, value) .. ")", 3)
    end
    return converted
end

-- As C's `int`.
local function whole(number)
    number = (number < 0 and -floor(-number) or floor(number)) % 4294967296
    return number >= TWO_31 and number - 4294967296 or number
end

local function math_random(...)
    local count = select("#", ...)
    local r = lrand48() % (TWO_31 - 1) / (TWO_31 - 1)
    local first, second = ...
    if count == 0 then
        return r
    elseif count == 1 then
        local upper = whole(number_argument(count, 1, first))
        if upper < 1 then
            bad_argument(1, "interval is empty")
        end
        return floor(r * upper) + 1
    elseif count == 2 then
        local lower = whole(number_argument(count, 1, first))
        local upper = whole(number_argument(count, 2, second))
        if lower > upper then
            bad_argument(2, "interval is empty")
        end
        return floor(r * (upper - lower + 1)) + lower
    end
    error("wrong number of arguments", 2)
end

local function math_randomseed(...)
    seed(whole(number_argument(select("#", ...), 1, (...))))
end

-- Globals ------------------------------------------------------------------------------------------

local function copy_of(source, names)
    local copy = {}
    for name in string.gmatch(names, "%S+") do
        copy[name] = source[name]
    end
    return copy
end

local shown = {
    string = copy_of(string, "byte char dump find format gfind gmatch gsub len lower match rep reverse sub upper"),
    table = copy_of(table, "concat foreach foreachi getn insert maxn remove setn sort"),
    math = copy_of(math, [[abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max
        min mod modf pi pow rad sin sinh sqrt tan tanh]]),
    os = copy_of(os, "clock"),
    coroutine = copy_of(coroutine, "resume running status yield"),
    bit = libraries.bit,
    cjson = libraries.cjson,
    cmsgpack = libraries.cmsgpack,
    struct = libraries.struct,
}
shown.string.dump = string_dump
shown.table.insert = table_insert
shown.math.random = math_random
shown.math.randomseed = math_randomseed
shown.coroutine.create = lua_create
shown.coroutine.wrap = lua_wrap

local function redis_table()
    return {
        call = redis_call,
        pcall = redis_pcall,
        error_reply = redis_error_reply,
        status_reply = redis_status_reply,
        sha1hex = redis_sha1hex,
        log = redis_log,
        setresp = redis_setresp,
        set_repl = redis_set_repl,
        acl_check_cmd = redis_acl_check_cmd,
        LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
        REPL_NONE = 0, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3,
        REDIS_VERSION = host.version,
        REDIS_VERSION_NUM = host.version_number,
    }
end

local function common_globals()
    local globals = copy_of(_G, [[_VERSION assert collectgarbage gcinfo ipairs rawequal select tonumber
        tostring type unpack xpcall]])
    globals.error = lua_error
    globals.getmetatable = lua_getmetatable
    globals.setmetatable = lua_setmetatable
    globals.load = lua_load
    globals.loadstring = lua_loadstring
    globals.next = lua_next
    globals.pairs = lua_pairs
    globals.pcall = lua_pcall
    globals.rawget = lua_rawget
    globals.rawset = lua_rawset
    return globals
end

local script_globals = common_globals()
local function_globals = common_globals()
for name, library in pairs(shown) do
    local stand_in = show(library)
    script_globals[name] = stand_in
    function_globals[name] = stand_in
end
string_metatable = show({__index = script_globals.string})
getmetatable("").__index = shown.string

local script_redis = redis_table()
script_redis.breakpoint = function() return false end
script_redis.debug = function() end
local undebugged = copy_of(script_redis, "breakpoint debug")
script_redis.replicate_commands = function() return true end
script_globals.redis = show(script_redis)
script_globals.KEYS = {}
script_globals.ARGV = {}
script_globals.__redis__err__handler = function(err) return described(err, locate(3)) end
function_globals.redis = show(redis_table())

local strict = {__index = refuse_unknown}
setmetatable(script_globals, strict)
setmetatable(function_globals, strict)
local shown_strict = show({__index = refuse_unknown})

scripts = show(script_globals, shown_strict)
script_globals._G = scripts
functions = show(function_globals, shown_strict)
function_globals._G = functions
current = scripts

-- While a library is being loaded its functions' globals show nothing but this.
local registered                -- what redis.register_function was called with
local load_redis = copy_of(redis_table(), [[log LOG_DEBUG LOG_VERBOSE LOG_NOTICE LOG_WARNING REDIS_VERSION
    REDIS_VERSION_NUM]])

local function text_of(value)
    if type(value) == "number" then
        value = tostring(value)
    end
    return type(value) == "string" and value or nil
end

local function named_arguments(arguments)
    local name, callback, description, flags
    for key, value in next, arguments do
        if key == "function_name" then
            name = text_of(value)
            if not name then
                fail("ERR function_name argument given to redis.register_function must be a string")
            end
        elseif key == "description" then
            description = text_of(value)
            if not description then
                fail("ERR description argument given to redis.register_function must be a string")
            end
        elseif key == "callback" then
            if type(value) ~= "function" then
                fail("ERR callback argument given to redis.register_function must be a function")
            end
            callback = value
        elseif key == "flags" then
            if type(value) ~= "table" then
                fail("ERR flags argument to redis.register_function must be a table representing function flags")
            end
            flags = {}
            for i = 1, #value do
                local flag = value[i]
                if type(flag) ~= "string" or not host.is_flag(flag) then
                    fail("ERR unknown flag given")
                end
                flags[i] = flag
            end
        else
            fail("ERR unknown argument given to redis.register_function")
        end
    end
    if not name then
        fail("ERR redis.register_function must get a function name argument")
    elseif not callback then
        fail("ERR redis.register_function must get a callback argument")
    end
    return name, callback, description, flags
end

function load_redis.register_function(...)
    local count = select("#", ...)
    local name, callback, description, flags = ...
    description, flags = nil, nil
    if count < 1 or count > 2 then
        fail("ERR wrong number of arguments to redis.register_function")
    elseif count == 1 then
        if type(name) ~= "table" then
            fail("ERR calling redis.register_function with a single argument is only applicable to Lua table "
                .. "(representing named arguments).")
        end
        name, callback, description, flags = named_arguments(name)
    else
        name = text_of(name)
        if not name then
            fail("ERR first argument to redis.register_function must be a string")
        elseif type(callback) ~= "function" then
            fail("ERR second argument to redis.register_function must be a function")
        end
    end
    local problem = host.register(name, description or false, concat(flags or {}, " "))
    if problem then
        fail(problem)
    end
    registered[#registered + 1] = callback
end

setmetatable(load_redis, strict)
local load_globals = setmetatable({redis = show(load_redis)}, strict)

-- Replies ------------------------------------------------------------------------------------------

local DEPTH = 7000 / 4          -- about where redis-server's C stack of Lua ends
local NULL = {[2] = "$-1\r\n", [3] = "_\r\n"}
local client = 2                -- the protocol of who is to read the reply

-- Invariant: `parts` gets the wire form of `value` behind its first n pieces; gives the new n.
local function encode(parts, n, value, depth)
    local kind = type(value)
    if kind == "string" then
        parts[n + 1] = "$" .. #value .. "\r\n"
        parts[n + 2] = value
        parts[n + 3] = "\r\n"
        return n + 3
    elseif kind == "number" then
        parts[n + 1] = format(":%d\r\n", value)
        return n + 1
    elseif kind == "boolean" then
        if protocol < 3 then
            parts[n + 1] = value and ":1\r\n" or NULL[client]
        elseif client < 3 then
            parts[n + 1] = value and ":1\r\n" or ":0\r\n"
        else
            parts[n + 1] = value and "#t\r\n" or "#f\r\n"
        end
        return n + 1
    elseif kind ~= "table" then
        parts[n + 1] = NULL[client]
        return n + 1
    end
    if depth > DEPTH then
        host.count_error("ERR reached lua stack limit", false)
        parts[n + 1] = "-ERR reached lua stack limit\r\n"
        return n + 1
    end
    local real = real_of[value] or value
    local field = rawget(real, "err")
    if type(field) == "string" then
        field = single_line(c_string(field))
        host.count_error(field, rawget(real, "ignore_error_stats_update") and true or false)
        parts[n + 1] = "-" .. field .. "\r\n"
        return n + 1
    end
    field = rawget(real, "ok")
    if type(field) == "string" then
        parts[n + 1] = "+" .. single_line(c_string(field)) .. "\r\n"
        return n + 1
    end
    field = rawget(real, "double")
    if type(field) == "number" then
        local text = field == 0 and 1 / field < 0 and "-0" or host.double_text(field)
        parts[n + 1] = client < 3 and "$" .. #text .. "\r\n" .. text .. "\r\n" or "," .. text .. "\r\n"
        return n + 1
    end
    field = rawget(real, "map")
    if type(field) == "table" then
        local at, count = n + 1, 0
        n = at
        for key, item in next, real_of[field] or field do
            n = encode(parts, n, key, depth + 1)
            n = encode(parts, n, item, depth + 1)
            count = count + 1
        end
        parts[at] = client < 3 and "*" .. 2 * count .. "\r\n" or "%" .. count .. "\r\n"
        return n
    end
    field = rawget(real, "set")
    if type(field) == "table" then
        local at, count = n + 1, 0
        n = at
        for key in next, real_of[field] or field do
            n = encode(parts, n, key, depth + 1)
            count = count + 1
        end
        parts[at] = (client < 3 and "*" or "~") .. count .. "\r\n"
        return n
    end
    field = rawget(real, "big_number")
    if type(field) == "string" then
        field = single_line(field)
        parts[n + 1] = client < 3 and "$" .. #field .. "\r\n" .. field .. "\r\n" or "(" .. field .. "\r\n"
        return n + 1
    end
    field = rawget(real, "verbatim_string")
    if type(field) == "table" then
        local text, form = rawget(field, "string"), rawget(field, "format")
        if type(text) == "string" and type(form) == "string" then
            if client < 3 then
                parts[n + 1] = "$" .. #text .. "\r\n" .. text .. "\r\n"
            else
                form = sub(c_string(form) .. "   ", 1, 3)
                parts[n + 1] = "=" .. #text + 4 .. "\r\n" .. form .. ":" .. text .. "\r\n"
            end
            return n + 1
        end
    end
    local at, count = n + 1, 0
    n = at
    while true do
        local item = rawget(real, count + 1)
        if item == nil then
            break
        end
        count = count + 1
        n = encode(parts, n, item, depth + 1)
    end
    parts[at] = "*" .. count .. "\r\n"
    return n
end

-- What Python makes of a result: a value as it is, or a text with a number that says what it is:
-- 0 the reply in wire form, 1 an error reply, 2 one that has been counted, 3 an error reply of a script that
-- returned it, 4 the same and it has been counted.
local function answer(value)
    local kind = type(value)
    if kind == "string" or kind == "number" then
        return value
    elseif kind == "boolean" then
        if protocol < 3 then
            return value and 1 or nil
        end
        return client < 3 and (value and 1 or 0) or value
    elseif kind ~= "table" then
        return nil
    end
    if next(value) ~= nil then
        local err = rawget(value, "err")
        if type(err) == "string" then
            return c_string(err), rawget(value, "ignore_error_stats_update") and 4 or 3
        end
    end
    local parts = {}
    encode(parts, 0, value, 1)
    return concat(parts), 0
end

local function failure(err)
    if type(err) ~= "table" then
        -- Out of memory, or an error inside of the handler itself: no handler has seen it.
        return "ERR " .. tostring(err), 1
    end
    local text = err.err
    if type(text) == "number" then
        text = tostring(text)
    elseif type(text) ~= "string" then
        text = "ERR unknown error"
    end
    text = c_string(text)
    if err.source and err.line then
        text = text .. " script: " .. host.name() .. ", on " .. tostring(err.source) .. ":"
            .. tostring(err.line) .. "."
    end
    return text, err.ignore_error_stats_update and 2 or 1
end

-- Entries ------------------------------------------------------------------------------------------

local function begin(resp)
    client, protocol, is_killed = resp, 2, false
    sethook(hook, hook_events, hook_count)
end

local function finish(ok, value)
    if not ok and gcinfo() > memory_limit_kb / 8 then
        collectgarbage() -- what the script had is garbage now, and a message takes room
    end
    if ok then
        ok, value = xpcall(function() return {answer(value)} end, on_error)
        if not ok and gcinfo() > memory_limit_kb then
            collectgarbage()
        end
        if ok then
            sethook()
            if value[2] == nil then
                return value[1]
            end
            return value[1], value[2]
        end
    end
    sethook()
    return failure(value)
end

local function finish_quickly(ok, value)
    local kind = type(value)
    if ok and (kind == "string" or kind == "number") then
        sethook()
        return value
    end
    return finish(ok, value)
end

unprotected[finish] = true
unprotected[finish_quickly] = true

local entries = {}

-- A chunk as a function, or nil and the message.
function entries.compile(body)
    current = scripts
    local ok, chunk, message = pcall(load_text, body, "@user_script")
    if ok and chunk then
        return chunk
    end
    return nil, message or tostring(chunk)
end

function entries.run(chunk, resp, key_count, ...)
    local keys, arguments
    if key_count == 0 then
        keys, arguments = {}, {...}
    elseif key_count == 1 then
        keys, arguments = {(...)}, {select(2, ...)}
    else
        keys, arguments = {}, {select(key_count + 1, ...)}
        for i = 1, key_count do
            keys[i] = (select(i, ...))
        end
    end
    script_globals.KEYS, script_globals.ARGV = keys, arguments
    current = scripts
    begin(resp)
    return finish_quickly(xpcall(chunk, on_error))
end

function entries.run_with_tables(chunk, resp, keys, arguments)
    script_globals.KEYS, script_globals.ARGV = keys, arguments
    current = scripts
    begin(resp)
    return finish_quickly(xpcall(chunk, on_error))
end

function entries.run_function(callback, resp, keys, arguments)
    current = functions
    begin(resp)
    return finish_quickly(xpcall(function() return (callback(keys, arguments)) end, on_error))
end

-- A library: the list of its callbacks (their names went to host.register), or nil and the message.
function entries.load_library(body)
    current = functions
    local ok, chunk, message = pcall(load_text, body, "@user_function")
    if not ok or not chunk then
        return nil, "Error compiling function: " .. tostring(message or chunk)
    end
    registered = {}
    local shown_globals = getmetatable(functions)
    shown_globals.__index = load_globals
    real_of[functions] = load_globals
    begin(2)
    local err
    ok, err = xpcall(chunk, on_error)
    sethook()
    shown_globals.__index = function_globals
    real_of[functions] = function_globals
    local callbacks = registered
    registered = nil
    if not ok then
        local text = failure({err = type(err) == "table" and err.err or tostring(err)})
        return nil, "Error registering functions: " .. text
    end
    return callbacks
end

unprotected[entries.load_library] = true

function entries.callback(callbacks, i)
    return callbacks[i]
end

function entries.set_memory_limit(kilobytes)
    memory_limit_kb = kilobytes
end

-- From now on scripts are watched by `source`, debugger.lua, until `stop_debugging`.
function entries.start_debugging(source, debug_host)
    on_failure = debug_host.log_error
    local watch = setfenv(loadstring(source, "=[C]"), lua_globals)
    hook, hook_events, hook_count = watch(debug_host, {
        real_of = real_of,
        ours = ours,
        globals = script_globals,
        redis = script_redis,
        load = load_text,
        look_after = look_after,
        on_count = on_count,
        hook_count = HOOK_COUNT,
    }), "l", DEBUG_HOOK_COUNT
end

function entries.stop_debugging()
    on_failure = nil
    hook, hook_events, hook_count = on_count, "", HOOK_COUNT
    for name, f in next, undebugged do
        script_redis[name] = f
    end
end

return entries
