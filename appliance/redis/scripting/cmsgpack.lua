-- The library `cmsgpack`: MessagePack (https://msgpack.org/), with the choices of lua-cmsgpack 0.4.0: the shortest
-- form of a number, tables whose keys are 1 .. n as arrays, no more than 16 tables within each other.

local host = ...
local real_of = host.real_of
local error, type, tonumber, tostring, select, unpack = error, type, tonumber, tostring, select, unpack
local floor, byte, char, sub, concat, next = math.floor, string.byte, string.char, string.sub, table.concat, next
local getinfo, pcall = debug.getinfo, pcall
local pack_float, unpack_float = host.pack_float, host.unpack_float

local NESTING, INT_MAX = 16, 2147483647

local function big_endian(x, size)
    local bytes = {}
    for i = size, 1, -1 do
        bytes[i] = char(x % 256)
        x = floor(x / 256)
    end
    return concat(bytes)
end

-- Two's complement. All is exact: the two halves of a double lose nothing.
local function negative(x, size)
    if size == 8 then
        return big_endian(floor(x / 4294967296) % 4294967296, 4) .. big_endian(x % 4294967296, 4)
    end
    return big_endian(x % 256 ^ size, size)
end

local function number_bytes(x)
    if x % 1 == 0 and x >= -2 ^ 63 and x < 2 ^ 63 then
        if x >= 0 then
            if x <= 127 then
                return char(x)
            elseif x <= 255 then
                return "\204" .. char(x)
            elseif x <= 65535 then
                return "\205" .. big_endian(x, 2)
            elseif x <= 4294967295 then
                return "\206" .. big_endian(x, 4)
            end
            return "\207" .. big_endian(x, 8)
        elseif x >= -32 then
            return char(256 + x)
        elseif x >= -128 then
            return "\208" .. negative(x, 1)
        elseif x >= -32768 then
            return "\209" .. negative(x, 2)
        elseif x >= -2147483648 then
            return "\210" .. negative(x, 4)
        end
        return "\211" .. negative(x, 8)
    end
    local short = pack_float(">f", x)
    if unpack_float(">f", short) == x then
        return "\202" .. short
    end
    return "\203" .. pack_float(">d", x)
end

local function string_bytes(text)
    local length = #text
    if length < 32 then
        return char(160 + length) .. text
    elseif length <= 255 then
        return "\217" .. char(length) .. text
    elseif length <= 65535 then
        return "\218" .. big_endian(length, 2) .. text
    end
    return "\219" .. big_endian(length, 4) .. text
end

-- How many elements, if the keys are 1 .. n.
local function array_length(t)
    local count, highest = 0, 0
    for key in next, t do
        if type(key) ~= "number" or key <= 0 or key % 1 ~= 0 then
            return nil
        end
        count = count + 1
        if key > highest then
            highest = key
        end
    end
    return highest == count and count or nil
end

local function encode(parts, value, level)
    local kind = type(value)
    if kind == "table" and level == NESTING then
        kind = "nil"
    end
    if kind == "string" then
        parts[#parts + 1] = string_bytes(value)
    elseif kind == "number" then
        parts[#parts + 1] = number_bytes(value)
    elseif kind == "boolean" then
        parts[#parts + 1] = value and "\195" or "\194"
    elseif kind ~= "table" then
        parts[#parts + 1] = "\192"
    else
        value = real_of[value] or value
        local length = array_length(value)
        if length then
            if length <= 15 then
                parts[#parts + 1] = char(144 + length)
            elseif length <= 65535 then
                parts[#parts + 1] = "\220" .. big_endian(length, 2)
            else
                parts[#parts + 1] = "\221" .. big_endian(length, 4)
            end
            for i = 1, length do
                encode(parts, value[i], level + 1)
            end
            return
        end
        local count = 0
        for _ in next, value do
            count = count + 1
        end
        if count <= 15 then
            parts[#parts + 1] = char(128 + count)
        elseif count <= 65535 then
            parts[#parts + 1] = "\222" .. big_endian(count, 2)
        else
            parts[#parts + 1] = "\223" .. big_endian(count, 4)
        end
        for key, item in next, value do
            encode(parts, key, level + 1)
            encode(parts, item, level + 1)
        end
    end
end

local MISSING, BAD = {}, {}

local integer

function integer(text, at, size, is_signed)
    if at + size - 1 > #text then
        error(MISSING)
    end
    if size == 8 then
        -- Also one without a sign becomes a `lua_Integer`, which has one. Two halves, to round but once.
        local high, low = integer(text, at, 4, true), integer(text, at + 4, 4, false)
        return high * 4294967296 + low, at + 8
    end
    local x = 0
    if is_signed and byte(text, at) >= 128 then
        for i = at, at + size - 1 do
            x = x * 256 + 255 - byte(text, i)
        end
        return -x - 1, at + size
    end
    for i = at, at + size - 1 do
        x = x * 256 + byte(text, i)
    end
    return x, at + size
end

local function bytes(text, at, length)
    if at + length - 1 > #text then
        error(MISSING)
    end
    return sub(text, at, at + length - 1), at + length
end

local decode

local function array(text, at, count)
    local t = {}
    for i = 1, count do
        t[i], at = decode(text, at)
    end
    return t, at
end

local function map(text, at, count)
    local t = {}
    for _ = 1, count do
        local key, value
        key, at = decode(text, at)
        value, at = decode(text, at)
        if key == nil or key ~= key then
            error(key == nil and "table index is nil" or "table index is NaN", 0)
        end
        t[key] = value
    end
    return t, at
end

function decode(text, at)
    local first = byte(text, at)
    if not first then
        error(MISSING)
    end
    at = at + 1
    if first < 128 then
        return first, at
    elseif first < 144 then
        return map(text, at, first - 128)
    elseif first < 160 then
        return array(text, at, first - 144)
    elseif first < 192 then
        return bytes(text, at, first - 160)
    elseif first >= 224 then
        return first - 256, at
    elseif first == 192 then
        return nil, at
    elseif first == 194 then
        return false, at
    elseif first == 195 then
        return true, at
    elseif first == 202 then
        local data
        data, at = bytes(text, at, 4)
        return unpack_float(">f", data), at
    elseif first == 203 then
        local data
        data, at = bytes(text, at, 8)
        return unpack_float(">d", data), at
    elseif first >= 204 and first <= 207 then
        return integer(text, at, 2 ^ (first - 204), false)
    elseif first >= 208 and first <= 211 then
        return integer(text, at, 2 ^ (first - 208), true)
    elseif first >= 217 and first <= 219 then
        local length
        length, at = integer(text, at, 2 ^ (first - 217), false)
        return bytes(text, at, length)
    elseif first == 220 or first == 221 then
        local count
        count, at = integer(text, at, first == 220 and 2 or 4, false)
        return array(text, at, count)
    elseif first == 222 or first == 223 then
        local count
        count, at = integer(text, at, first == 222 and 2 or 4, false)
        return map(text, at, count)
    end
    error(BAD)
end

local function bad_argument(number, message)
    local info = getinfo(2, "n")
    error("bad argument #" .. number .. " to '" .. (info.name or "?") .. "' (" .. message .. ")", 3)
end

local function given(count, number, value)
    return number > count and "no value" or type(value)
end

local cmsgpack = {
    _NAME = "cmsgpack",
    _VERSION = "lua-cmsgpack 0.4.0",
    _COPYRIGHT = "Copyright (C) 2012, Salvatore Sanfilippo",
    _DESCRIPTION = "MessagePack C implementation for Lua",
}

-- A number as C's `int`; nil of what is none.
local function whole(value)
    local kind = type(value)
    local x = (kind == "number" or kind == "string") and tonumber(value) or nil
    if not x then
        return nil
    elseif not (x > -2 ^ 63 and x < 2 ^ 63) then
        return 0 -- as the low half of what C makes of it
    end
    x = (x < 0 and -floor(-x) or floor(x)) % 4294967296
    return x >= 2147483648 and x - 4294967296 or x
end

function cmsgpack.pack(...)
    local count = select("#", ...)
    if count == 0 then
        bad_argument(0, "MessagePack pack needs input.")
    end
    local parts = {}
    for i = 1, count do
        encode(parts, (select(i, ...)), 0)
    end
    return concat(parts)
end

local function read(text, at)
    return decode(text, at)
end

-- Up to `limit` values from `offset` on; `values` is filled from 1 on; the next offset, how many.
-- Errors are raised for the function `level` levels out.
local function unpack_some(values, text, limit, offset, level)
    local count, at = 0, offset + 1
    while at <= #text and count < limit do
        local ok, value, next_at = pcall(read, text, at)
        if not ok then
            if value == MISSING then
                error("Missing bytes in input.", level)
            elseif value == BAD then
                error("Bad data format in input.", level)
            end
            error(value, 0)
        end
        count = count + 1
        values[count] = value
        at = next_at
    end
    return at - 1, count
end

function cmsgpack.unpack(...)
    local text = ...
    if type(text) == "number" then
        text = tostring(text)
    elseif type(text) ~= "string" then
        bad_argument(1, "string expected, got " .. given(select("#", ...), 1, text))
    end
    local values = {}
    local _, count = unpack_some(values, text, INT_MAX, 0, 3)
    return unpack(values, 1, count)
end

local function limited(text, limit, offset)
    local values = {}
    if offset < 0 or limit < 0 then
        error("Invalid request to unpack with offset of " .. offset .. " and limit of " .. #text .. ".", 3)
    elseif offset > #text then
        error("Start offset " .. offset .. " greater than input length " .. #text .. ".", 3)
    end
    local at, count = unpack_some(values, text, limit, offset, 4)
    return at >= #text and -1 or at, values, count
end

function cmsgpack.unpack_one(...)
    local count = select("#", ...)
    local text, offset = ...
    if type(text) == "number" then
        text = tostring(text)
    elseif type(text) ~= "string" then
        bad_argument(1, "string expected, got " .. given(count, 1, text))
    end
    local start = whole(offset == nil and 0 or offset)
    if not start then
        bad_argument(2, "number expected, got " .. given(count, 2, offset))
    end
    local at, values, n = limited(text, 1, start)
    return at, unpack(values, 1, n)
end

function cmsgpack.unpack_limit(...)
    local count = select("#", ...)
    local text, limit, offset = ...
    if type(text) == "number" then
        text = tostring(text)
    elseif type(text) ~= "string" then
        bad_argument(1, "string expected, got " .. given(count, 1, text))
    end
    local most = whole(limit)
    if not most then
        bad_argument(2, "number expected, got " .. given(count, 2, limit))
    end
    local start = whole(offset == nil and 0 or offset)
    if not start then
        bad_argument(3, "number expected, got " .. given(count, 3, offset))
    end
    local is_all = most == 0 and start == 0
    local at, values, n = limited(text, is_all and INT_MAX or most, start)
    if is_all then
        return unpack(values, 1, n)
    end
    return at, unpack(values, 1, n)
end

return cmsgpack
