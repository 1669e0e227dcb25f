-- SCRIPT DEBUG, as far as only Lua can do it: stop before lines, look at variables, evaluate. What is said to the
-- client, and when to stop, is in debugger.py. Loaded for each session of debugging, by sandbox.lua.
--
--     hook -> host.stops -> converse: host.next_action -> print, evaluate ... -> go on
--
-- While the hook runs Lua calls no hooks. So what the client has evaluated runs in a coroutine, whose own hook
-- lets others have their turn, and ends it when it takes too much.

local host, sandbox = ...

local debug, format, gsub, find, byte = debug, string.format, string.gsub, string.find, string.byte
local concat, unpack, select, next, type, tostring, rawget = table.concat, unpack, select, next, type, tostring, rawget
local pcall, error, co_create, co_resume, co_status =
    pcall, error, coroutine.create, coroutine.resume, coroutine.status
local getinfo, getlocal, sethook = debug.getinfo, debug.getlocal, debug.sethook

local SOURCE = "@user_script"
local DEEPEST = 10
local MOST_VALUES = 100000      -- of one value shown: a table may hold itself many times

-- Values -------------------------------------------------------------------------------------------

local ESCAPES = {["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\a"] = "\\a",
    ["\b"] = "\\b"}

local function escaped(character)
    return ESCAPES[character] or format("\\x%02x", byte(character))
end

local function is_array(t)
    local expected = 1
    for key in next, t do
        if key ~= expected then
            return false
        end
        expected = expected + 1
    end
    return true
end

-- Appends the pieces of what `value` looks like to `parts`, which counts the values in `left`.
local function represent(parts, value, depth)
    local kind = type(value)
    parts.left = parts.left - 1
    if depth == DEEPEST then
        parts[#parts + 1] = "<max recursion level reached! Nested table?>"
    elseif parts.left < 0 then
        parts[#parts + 1] = "..."
    elseif kind == "string" then
        parts[#parts + 1] = '"' .. gsub(value, '[%c"\\\127-\255]', escaped) .. '"'
    elseif kind == "number" then
        parts[#parts + 1] = format("%g", value)
    elseif kind == "boolean" or kind == "nil" then
        parts[#parts + 1] = tostring(value)
    elseif kind == "table" then
        local real = sandbox.real_of[value] or value
        local bare, separator = is_array(real), ""
        parts[#parts + 1] = "{"
        for key, item in next, real do
            if parts.left < 0 then
                parts[#parts + 1] = separator .. "..."
                break
            elseif bare then
                parts[#parts + 1] = separator
            else
                parts[#parts + 1] = separator .. "["
                represent(parts, key, depth + 1)
                parts[#parts + 1] = "]="
            end
            represent(parts, item, depth + 1)
            separator = "; "
        end
        parts[#parts + 1] = "}"
    else
        parts[#parts + 1] = '"' .. kind .. "@" .. gsub(tostring(value), "^.*: ", "") .. '"'
    end
end

local function text_of(value)
    local parts = {left = MOST_VALUES}
    local ok, problem = pcall(represent, parts, value, 0)
    if not ok then
        return "<" .. tostring(problem) .. ">" -- there is no memory for it
    end
    return concat(parts)
end

-- What the client asks for ------------------------------------------------------------------------

-- All of these are called by `converse`, which the hook has called for the script: level 1 is here.
local SCRIPT_LEVEL = 4

-- The first variable of that name, from the innermost frame on.
local function print_variable(name)
    local level = SCRIPT_LEVEL
    local info = getinfo(level, "S")
    while info do
        if not sandbox.ours(info) then
            local i = 1
            local local_name, value = getlocal(level, i)
            while local_name do
                if local_name == name then
                    host.log_value("<value> ", text_of(value))
                    return
                end
                i = i + 1
                local_name, value = getlocal(level, i)
            end
        end
        level = level + 1
        info = getinfo(level, "S")
    end
    if name == "KEYS" or name == "ARGV" then
        host.log_value("<value> ", text_of(rawget(sandbox.globals, name)))
    else
        host.log("No such variable.")
    end
end

local function print_variables()
    local i, count = 1, 0
    local name, value = getlocal(SCRIPT_LEVEL, i)
    while name do
        if not find(name, "(*temporary)", 1, true) then
            host.log_value("<value> " .. name .. " = ", text_of(value))
            count = count + 1
        end
        i = i + 1
        name, value = getlocal(SCRIPT_LEVEL, i)
    end
    if count == 0 then
        host.log("No local variables in the current context.")
    end
end

local function trace()
    local level, word = SCRIPT_LEVEL, "In "
    local info = getinfo(level, "Snl")
    while info do
        if info.source == SOURCE then
            host.log(word .. (info.name or "top level") .. ":")
            host.log_line(info.currentline)
            word = "From "
        end
        level = level + 1
        info = getinfo(level, "Snl")
    end
end

local function evaluate(code)
    local chunk, problem = sandbox.load("return " .. code, "@ldb_eval")
    if not chunk then
        chunk, problem = sandbox.load(code, "@ldb_eval")
        if not chunk then
            host.log("<error> " .. tostring(problem))
            return
        end
    end
    local thread = co_create(chunk)
    sethook(thread, sandbox.on_count, "", sandbox.hook_count)
    local ok, value = co_resume(thread)
    if not ok then
        if type(value) == "table" then
            value = rawget(value, "err") or text_of(value)
        end
        host.log("<error> " .. tostring(value))
    elseif co_status(thread) == "suspended" then
        host.log("<error> attempt to yield across metamethod/C-call boundary")
    else
        host.log_value("<retval> ", text_of(value))
    end
end

local ACTIONS = {print = print_variable, print_all = print_variables, trace = trace, eval = evaluate}

local function converse(stopped)
    while true do
        sandbox.look_after(stopped) -- SCRIPT KILL may have come in what was evaluated, or while we waited
        local name, argument = host.next_action()
        local action = ACTIONS[name]
        if action then
            action(argument)
        elseif name == "fail" then
            error({err = argument}, 0)
        else
            sandbox.look_after(stopped)
            return
        end
    end
end

-- Stopping -----------------------------------------------------------------------------------------

local redis = sandbox.redis

function redis.breakpoint()
    host.stop_soon()
    return true
end

function redis.debug(...)
    local texts = {}
    for i = 1, select("#", ...) do
        texts[i] = text_of((select(i, ...)))
    end
    host.log_debug(concat(texts, ", "))
end

return function(event, line)
    local info = getinfo(2, "Slf")
    if event == "count" then
        sandbox.look_after(info.func)
    end
    if info.source == SOURCE and host.stops(event == "count", info.currentline) then
        converse(info.func)
    end
end
