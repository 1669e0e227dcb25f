-- The library `bit`: 32-bit operations on Lua numbers, as http://bitop.luajit.org/ defines them.
-- Numbers come in rounded to the nearest integer and modulo 2^32, and go out signed.

local host = ...
local error, type, tonumber, select, getinfo = error, type, tonumber, select, debug.getinfo
local floor, frexp, abs, format, upper, sub = math.floor, math.frexp, math.abs, string.format, string.upper, string.sub
local bit_and, bit_or, bit_xor = host.bit_and, host.bit_or, host.bit_xor

local TWO_32, TWO_31 = 2 ^ 32, 2 ^ 31
-- Added to a double, this leaves its integer part in the low bits of the mantissa.
local BIAS = 6755399441055744.0

-- 0 .. 2^32 - 1 for argument `number` of the function that calls this, or its error.
local function unsigned(count, number, value)
    local x = value
    if type(x) == "string" then
        x = tonumber(x)
    end
    if type(x) ~= "number" then
        local info = getinfo(2, "n")
        local given = number > count and "no value" or type(value)
        error("bad argument #" .. number .. " to '" .. (info.name or "?") .. "' (number expected, got "
            .. given .. ")", 3)
    end
    if x >= 0 and x < TWO_32 and x % 1 == 0 then
        return x + 0 -- of -0, 0
    end
    if x - x ~= 0 then
        return 0
    end
    local y = x + BIAS
    if abs(x) < 2 ^ 51 then
        return (y - BIAS) % TWO_32
    end
    return frexp(abs(y)) * 2 ^ 53 % TWO_32
end

local function signed(x)
    return x >= TWO_31 and x - TWO_32 or x
end

local bit = {}

function bit.tobit(...)
    local x = unsigned(select("#", ...), 1, (...))
    return signed(x)
end

function bit.bnot(...)
    local x = unsigned(select("#", ...), 1, (...))
    return signed(TWO_32 - 1 - x)
end

function bit.band(...)
    local count = select("#", ...)
    local x = unsigned(count, 1, (...))
    for i = count, 2, -1 do
        local y = unsigned(count, i, (select(i, ...)))
        x = bit_and(x, y)
    end
    return signed(x)
end

function bit.bor(...)
    local count = select("#", ...)
    local x = unsigned(count, 1, (...))
    for i = count, 2, -1 do
        local y = unsigned(count, i, (select(i, ...)))
        x = bit_or(x, y)
    end
    return signed(x)
end

function bit.bxor(...)
    local count = select("#", ...)
    local x = unsigned(count, 1, (...))
    for i = count, 2, -1 do
        local y = unsigned(count, i, (select(i, ...)))
        x = bit_xor(x, y)
    end
    return signed(x)
end

local function left(x, n)
    return x % 2 ^ (32 - n) * 2 ^ n
end

local function right(x, n)
    return floor(x / 2 ^ n)
end

function bit.lshift(...)
    local count = select("#", ...)
    local x, n = ...
    x = unsigned(count, 1, x)
    n = unsigned(count, 2, n)
    return signed(left(x, n % 32))
end

function bit.rshift(...)
    local count = select("#", ...)
    local x, n = ...
    x = unsigned(count, 1, x)
    n = unsigned(count, 2, n)
    return signed(right(x, n % 32))
end

function bit.arshift(...)
    local count = select("#", ...)
    local x, n = ...
    x = unsigned(count, 1, x)
    n = unsigned(count, 2, n)
    return floor(signed(x) / 2 ^ (n % 32))
end

local function rotate(x, n)
    n = n % 32
    return signed(n == 0 and x or left(x, n) + right(x, 32 - n))
end

function bit.rol(...)
    local count = select("#", ...)
    local x, n = ...
    x = unsigned(count, 1, x)
    n = unsigned(count, 2, n)
    return rotate(x, n)
end

function bit.ror(...)
    local count = select("#", ...)
    local x, n = ...
    x = unsigned(count, 1, x)
    n = unsigned(count, 2, n)
    return rotate(x, 32 - n % 32)
end

function bit.bswap(...)
    local x = unsigned(select("#", ...), 1, (...))
    local a, b, c, d = x % 256, right(x, 8) % 256, right(x, 16) % 256, right(x, 24)
    return signed(((a * 256 + b) * 256 + c) * 256 + d)
end

function bit.tohex(...)
    local count = select("#", ...)
    local x, n = ...
    x = unsigned(count, 1, x)
    if count < 2 then
        n = 8
    else
        n = unsigned(count, 2, n)
        n = signed(n)
    end
    local text = format("%08x", x)
    if n < 0 then
        text, n = upper(text), -n
    end
    return n >= 8 and text or sub(text, 9 - n)
end

return bit
