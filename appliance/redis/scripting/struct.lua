-- The library `struct`: packing and unpacking of binary data, as http://www.inf.puc-rio.br/~roberto/struct/ 0.2
-- defines it, with the sizes of 64-bit Linux.

local host = ...
local error, type, tonumber, tostring, select, getinfo = error, type, tonumber, tostring, select, debug.getinfo
local floor, ceil = math.floor, math.ceil
local byte, char, sub, find, rep, reverse = string.byte, string.char, string.sub, string.find, string.rep, string.reverse
local concat, unpack = table.concat, unpack
local bit_and, pack_float, unpack_float = host.bit_and, host.pack_float, host.unpack_float

local MAX_INTEGER, MAX_ALIGNMENT, INT_MAX = 32, 8, 2147483647
local SIZES = {b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, f = 4, d = 8, x = 1, s = 0, [" "] = 0, ["<"] = 0,
    [">"] = 0, ["!"] = 0}

local struct = {}

-- Errors have the place of the script's call: `level` functions out from who calls this.
local function bad_argument(level, number, message)
    local info = getinfo(level + 1, "n")
    error("bad argument #" .. number .. " to '" .. (info.name or "?") .. "' (" .. message .. ")", level + 2)
end

local function expected(number, kind, count, value)
    local given = number > count and "no value" or type(value)
    local info = getinfo(3, "n")
    error("bad argument #" .. number .. " to '" .. (info.name or "?") .. "' (" .. kind .. " expected, got "
        .. given .. ")", 4)
end

local function text_argument(count, number, value)
    if type(value) == "number" then
        return tostring(value)
    elseif type(value) ~= "string" then
        expected(number, "string", count, value)
    end
    return value
end

local function number_argument(count, number, value)
    local x = value
    if type(x) == "string" then
        x = tonumber(x)
    end
    if type(x) ~= "number" then
        expected(number, "number", count, value)
    end
    return x
end

-- The next option: letter, size, alignment of the data itself, place behind it. `state` has the format's mood.
local function option(state, at)
    local form = state.form
    local letter = sub(form, at, at)
    at = at + 1
    local size = SIZES[letter]
    if letter == "i" or letter == "I" or letter == "c" or letter == "!" then
        local digits
        local first, last = find(form, "^%d+", at)
        if first then
            local number = tonumber(sub(form, first, last))
            if number > INT_MAX then
                error("integral size overflow", 3)
            end
            digits = number
            at = last + 1
        end
        if letter == "c" then
            size = digits or 1
        elseif letter == "!" then
            state.digits = digits or MAX_ALIGNMENT
        else
            size = digits or 4
            if size > MAX_INTEGER then
                error("integral size " .. size .. " is larger than limit of " .. MAX_INTEGER, 3)
            end
        end
    end
    return letter, size or 0, at
end

-- Bytes to skip before data of `size` bytes at `position`.
local function padding(state, letter, size, position)
    if size == 0 or letter == "c" then
        return 0
    end
    local align = size > state.align and state.align or size
    if align <= 1 then
        return 0
    end
    -- Also where that is no power of two.
    return bit_and(align - bit_and(position, align - 1), align - 1)
end

local function control(state, letter)
    if letter == " " then
        return
    elseif letter == ">" then
        state.little = false
    elseif letter == "<" then
        state.little = true
    elseif letter == "!" then
        local align = state.digits
        local power = 1
        while power < align do
            power = power * 2
        end
        if align == 0 or power ~= align then
            error("alignment " .. align .. " is not a power of 2", 3)
        end
        state.align = align
    else
        bad_argument(2, 1, "invalid format option '" .. letter .. "'")
    end
end

local function new_state(form)
    return {form = form, little = true, align = 1}
end

-- `size` bytes of an integer, least significant first, in two's complement; no more than 64 bits of it.
local function integer_bytes(x, size)
    if x ~= x or x < -2 ^ 63 then
        x = -2 ^ 63
    elseif x >= 2 ^ 64 then
        x = 0
    end
    x = x < 0 and ceil(x) or floor(x)
    local low, high = x % 4294967296, floor(x / 4294967296) % 4294967296
    local bytes = {}
    for i = 1, size do
        if i == 5 then
            low = high
        end
        bytes[i] = char(i <= 8 and low % 256 or 0)
        low = floor(low / 256)
    end
    return concat(bytes)
end

function struct.pack(...)
    local count = select("#", ...)
    local state = new_state(text_argument(count, 1, (...)))
    count = count + 1 -- there is a nil behind the arguments
    local parts, total, at, number = {}, 0, 1, 2
    local length = #state.form
    while at <= length do
        local letter, size
        letter, size, at = option(state, at)
        local skip = padding(state, letter, size, total)
        if skip > 0 then
            parts[#parts + 1] = rep("\0", skip)
            total = total + skip
        end
        local data
        if find(letter, "[bBhHlLTiI]") then
            local x = number_argument(count, number, (select(number, ...)))
            number = number + 1
            data = integer_bytes(x, size)
            if not state.little then
                data = reverse(data)
            end
        elseif letter == "x" then
            data = "\0"
        elseif letter == "f" or letter == "d" then
            local x = number_argument(count, number, (select(number, ...)))
            number = number + 1
            if x == 0 and 1 / x < 0 then -- its sign gets lost on the way to the host
                data = rep("\0", size - 1) .. "\128"
                data = state.little and data or reverse(data)
            else
                data = pack_float((state.little and "<" or ">") .. letter, x)
            end
        elseif letter == "c" or letter == "s" then
            local text = text_argument(count, number, (select(number, ...)))
            number = number + 1
            if size == 0 then
                size = #text
            end
            if #text < size then
                bad_argument(1, number, "string too short")
            end
            data = sub(text, 1, size)
            if letter == "s" then
                data = data .. "\0"
            end
        else
            control(state, letter)
            data = ""
        end
        parts[#parts + 1] = data
        total = total + #data
    end
    return concat(parts)
end

-- Of more than eight bytes the last eight count. Two halves, to round but once.
local function integer_from(data, size, signed, little)
    if not little then
        data = reverse(data)
    end
    local low, high, used = 0, 0, size < 8 and size or 8
    for i = used, 1, -1 do
        if i > 4 then
            high = high * 256 + byte(data, i)
        else
            low = low * 256 + byte(data, i)
        end
    end
    if signed and used > 0 then
        -- All from the place of the sign on becomes sign; that place is taken modulo 64, as a shift in C does.
        local sign = (size * 8 - 1) % 64
        if sign >= 32 then
            local weight = 2 ^ (sign - 32)
            high = high >= weight and high % weight - weight or high
        elseif high > 0 or low >= 2 ^ sign then
            high, low = 0, low % 2 ^ sign - 2 ^ sign
        end
    end
    return high * 4294967296 + low
end

function struct.unpack(...)
    local count = select("#", ...)
    local form, data, start = ...
    local state = new_state(text_argument(count, 1, form))
    data = text_argument(count, 2, data)
    local position = 0
    if start ~= nil then
        position = number_argument(count, 3, start)
        position = (position < 0 and ceil(position) or floor(position)) - 1
        if position == -1 then
            bad_argument(1, 3, "offset must be 1 or greater")
        end
    end
    local values, n, at = {}, 0, 1
    local length, available = #state.form, #data
    while at <= length do
        local letter, size
        letter, size, at = option(state, at)
        if position < 0 then
            bad_argument(1, 2, "data string too short")
        end
        position = position + padding(state, letter, size, position)
        if position > available or size > available - position then
            bad_argument(1, 2, "data string too short")
        end
        if find(letter, "[bBhHlLTiI]") then
            n = n + 1
            values[n] = integer_from(sub(data, position + 1, position + size), size, find(letter, "[bhli]") ~= nil,
                state.little)
        elseif letter == "f" or letter == "d" then
            n = n + 1
            values[n] = unpack_float((state.little and "<" or ">") .. letter, sub(data, position + 1, position + size))
        elseif letter == "c" then
            if size == 0 then
                if n == 0 or type(values[n]) ~= "number" then
                    error("format 'c0' needs a previous size", 2)
                end
                size = floor(values[n])
                values[n] = nil
                n = n - 1
                if size < 0 or size > available - position then
                    bad_argument(1, 2, "data string too short")
                end
            end
            n = n + 1
            values[n] = sub(data, position + 1, position + size)
        elseif letter == "s" then
            local stop = find(data, "\0", position + 1, true)
            if not stop then
                error("unfinished string in data", 2)
            end
            n = n + 1
            values[n] = sub(data, position + 1, stop - 1)
            size = stop - position
        elseif letter ~= "x" then
            control(state, letter)
        end
        position = position + size
    end
    n = n + 1
    values[n] = position + 1
    return unpack(values, 1, n)
end

function struct.size(...)
    local count = select("#", ...)
    local state = new_state(text_argument(count, 1, (...)))
    local position, at = 0, 1
    local length = #state.form
    while at <= length do
        local letter, size
        letter, size, at = option(state, at)
        position = position + padding(state, letter, size, position)
        if letter == "s" then
            bad_argument(1, 1, "option 's' has no fixed size")
        elseif letter == "c" and size == 0 then
            bad_argument(1, 1, "option 'c0' has no fixed size")
        end
        if find(letter, "%W") then
            control(state, letter)
        end
        position = position + size
        if position > INT_MAX then
            error("format result too large", 2)
        end
    end
    return position
end

return struct
