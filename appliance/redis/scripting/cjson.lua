-- The library `cjson`: JSON, with the choices, the settings and the error texts of lua-cjson 2.1.0, and its way to
-- cut the text into tokens, on which the texts depend.

local error, type, tonumber, tostring, select, pcall = error, type, tonumber, tostring, select, pcall
local floor, concat, format, next = math.floor, table.concat, string.format, next
local byte, char, sub, find, gsub, lower = string.byte, string.char, string.sub, string.find, string.gsub, string.lower
local getinfo, getmetatable, newproxy, rawequal = debug.getinfo, getmetatable, newproxy, rawequal
local host = ...
local real_of = host.real_of

-- redis-server's is a null pointer as light userdata.
local null = newproxy(true)
getmetatable(null).__tostring = function()
    return "userdata: (nil)"
end

local ESCAPES = {['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\t"] = "\\t", ["\n"] = "\\n",
    ["\f"] = "\\f", ["\r"] = "\\r", ["\127"] = "\\u007f"}
for code = 0, 31 do
    local letter = char(code)
    ESCAPES[letter] = ESCAPES[letter] or format("\\u%04x", code)
end
local UNESCAPES = {['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", t = "\t", n = "\n", f = "\f", r = "\r"}
local SPACE = "[ \t\n\r]"

local function bad_argument(level, number, message)
    local info = getinfo(level, "n")
    error("bad argument #" .. number .. " to '" .. (info.name or "?") .. "' (" .. message .. ")", level + 1)
end

local function quoted(text)
    return '"' .. gsub(text, '[%z\1-\31"\\/\127]', ESCAPES) .. '"'
end

local function new()
    local settings = {
        sparse_convert = false, sparse_ratio = 2, sparse_safe = 10,
        encode_max_depth = 1000, decode_max_depth = 1000,
        precision = "%.14g", precision_digits = 14, keep_buffer = true,
        encode_invalid = false, decode_invalid = true,
    }
    local cjson = {_NAME = "cjson", _VERSION = "2.1.0", null = null, new = new}

    -- Encoding --------------------------------------------------------------------------------------

    local function number_text(x)
        if x - x ~= 0 then
            if settings.encode_invalid == false then
                error({"Cannot serialise number: must not be NaN or Inf"})
            elseif settings.encode_invalid == "null" then
                return "null"
            elseif x ~= x then
                return "nan"
            end
            return x > 0 and "inf" or "-inf"
        end
        return format(settings.precision, x)
    end

    -- As an array: its highest index. Nil as an object.
    local function array_length(t)
        local highest, count = 0, 0
        for key in next, t do
            if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then
                return nil
            end
            if key > highest then
                highest = key
            end
            count = count + 1
        end
        if settings.sparse_ratio > 0 and highest > count * settings.sparse_ratio
            and highest > settings.sparse_safe then
            if not settings.sparse_convert then
                error({"Cannot serialise table: excessively sparse array"})
            end
            return nil
        end
        return highest
    end

    local encode

    local function encode_table(parts, n, t, depth)
        t = real_of[t] or t
        depth = depth + 1
        if depth > settings.encode_max_depth then
            error({format("Cannot serialise, excessive nesting (%d)", depth)})
        end
        local length = array_length(t)
        if length and length > 0 then
            n = n + 1
            parts[n] = "["
            for i = 1, length do
                if i > 1 then
                    n = n + 1
                    parts[n] = ","
                end
                n = encode(parts, n, t[i], depth)
            end
            n = n + 1
            parts[n] = "]"
            return n
        end
        n = n + 1
        parts[n] = "{"
        local is_first = true
        for key, value in next, t do
            if not is_first then
                n = n + 1
                parts[n] = ","
            end
            is_first = false
            local kind = type(key)
            n = n + 1
            if kind == "string" then
                parts[n] = quoted(key) .. ":"
            elseif kind == "number" then
                parts[n] = '"' .. number_text(key) .. '":'
            else
                error({"Cannot serialise " .. kind .. ": table key must be a number or string"})
            end
            n = encode(parts, n, value, depth)
        end
        n = n + 1
        parts[n] = "}"
        return n
    end

    function encode(parts, n, value, depth)
        local kind = type(value)
        if kind == "table" then
            return encode_table(parts, n, value, depth)
        elseif kind == "string" then
            parts[n + 1] = quoted(value)
        elseif kind == "number" then
            parts[n + 1] = number_text(value)
        elseif kind == "boolean" then
            parts[n + 1] = value and "true" or "false"
        elseif kind == "nil" or rawequal(value, null) then
            parts[n + 1] = "null"
        else
            error({"Cannot serialise " .. kind .. ": type not supported"})
        end
        return n + 1
    end

    local function encoded(value)
        local parts = {}
        encode(parts, 0, value, 0)
        return concat(parts)
    end

    function cjson.encode(...)
        if select("#", ...) ~= 1 then
            bad_argument(2, 1, "expected 1 argument")
        end
        local ok, text = pcall(encoded, (...))
        if ok then
            return text
        end
        error(type(text) == "table" and text[1] or text, type(text) == "table" and 2 or 0)
    end

    -- Decoding --------------------------------------------------------------------------------------

    local function fail(expected, found, at)
        error({"Expected " .. expected .. " but found " .. found .. " at character " .. at})
    end

    local PUNCTUATION = {["{"] = "T_OBJ_BEGIN", ["}"] = "T_OBJ_END", ["["] = "T_ARR_BEGIN", ["]"] = "T_ARR_END",
        [","] = "T_COMMA", [":"] = "T_COLON"}

    local function utf8(code)
        if code < 0x80 then
            return char(code)
        elseif code < 0x800 then
            return char(0xC0 + floor(code / 64), 0x80 + code % 64)
        elseif code < 0x10000 then
            return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
        end
        return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64,
            0x80 + code % 64)
    end

    -- A \uXXXX at `at`, with the other half of a surrogate pair: its bytes and the place behind, or nil.
    local function unicode_escape(text, at)
        local digits = sub(text, at + 2, at + 5)
        if not find(digits, "^%x%x%x%x$") then
            return nil
        end
        local code = tonumber(digits, 16)
        at = at + 6
        if code >= 0xD800 and code < 0xE000 then
            if code >= 0xDC00 then
                return nil
            end
            digits = sub(text, at + 2, at + 5)
            if sub(text, at, at + 1) ~= "\\u" or not find(digits, "^%x%x%x%x$") then
                return nil
            end
            local low = tonumber(digits, 16)
            if low < 0xDC00 or low >= 0xE000 then
                return nil
            end
            code = (code - 0xD800) * 1024 + low - 0xDC00 + 0x10000
            at = at + 6
        end
        return utf8(code), at
    end

    -- Each token is kind, value, where it begins, where the next may begin. An error's kind is its text.
    local function string_token(text, start)
        local at = start + 1
        local stop = find(text, '["\\%z]', at)
        if stop and byte(text, stop) == 34 then
            return "T_STRING", sub(text, at, stop - 1), start, stop + 1
        end
        local parts, n = {}, 0
        while true do
            if not stop or byte(text, stop) == 0 then
                return "unexpected end of string", nil, stop or #text + 1, 0
            end
            n = n + 1
            parts[n] = sub(text, at, stop - 1)
            if byte(text, stop) == 34 then
                return "T_STRING", concat(parts), start, stop + 1
            end
            local letter = sub(text, stop + 1, stop + 1)
            local piece = UNESCAPES[letter]
            if piece then
                at = stop + 2
            elseif letter == "u" then
                piece, at = unicode_escape(text, stop)
                if not piece then
                    return "invalid unicode escape code", nil, stop, 0
                end
            else
                return "invalid escape code", nil, stop, 0
            end
            n = n + 1
            parts[n] = piece
            stop = find(text, '["\\%z]', at)
        end
    end

    -- Whether what begins here is none of JSON's numbers, but one that strtod knows, perhaps.
    local function is_invalid_number(text, at)
        if byte(text, at) == 43 then
            return true
        end
        if byte(text, at) == 45 then
            at = at + 1
        end
        local digit = byte(text, at) or 0
        if digit == 48 then
            return find(text, "^[xX0-9]", at + 1) ~= nil
        elseif digit <= 57 then
            return false
        end
        local word = lower(sub(text, at, at + 2))
        return word == "inf" or word == "nan"
    end

    local function number_token(text, at)
        -- What strtod takes: hexadecimal, infinity, nan, decimal.
        local start = at
        local sign, last = 1, nil
        local first = byte(text, at)
        if first == 45 then
            sign, at = -1, at + 1
        elseif first == 43 then
            at = at + 1
        end
        local value
        local word = lower(sub(text, at, at + 7))
        if sub(word, 1, 3) == "inf" then
            value, last = 1 / 0, word == "infinity" and at + 7 or at + 2
        elseif sub(word, 1, 3) == "nan" then
            value, last = 0 / 0, at + 2 -- which has its sign set
            sign = -sign
        elseif find(text, "^0[xX]%x", at) or find(text, "^0[xX]%.%x", at) then
            local _, whole_end, digits = find(text, "^(%x*)", at + 2)
            value = 0
            for i = 1, #digits do
                value = value * 16 + tonumber(sub(digits, i, i), 16)
            end
            last = whole_end
            local _, fraction_end, fraction = find(text, "^%.(%x*)", last + 1)
            if fraction_end then
                local scale = 1
                for i = 1, #fraction do
                    scale = scale / 16
                    value = value + tonumber(sub(fraction, i, i), 16) * scale
                end
                last = fraction_end
            end
            local _, exponent_end, exponent = find(text, "^[pP]([+-]?%d+)", last + 1)
            if exponent_end then
                value = value * 2 ^ tonumber(exponent)
                last = exponent_end
            end
        else
            _, last = find(text, "^%d+%.?%d*", at)
            if not last then
                _, last = find(text, "^%.%d+", at)
            end
            if last then
                local _, exponent_end = find(text, "^[eE][+-]?%d+", last + 1)
                last = exponent_end or last
                value = tonumber(sub(text, at, last))
            end
        end
        if not value then
            return "invalid number", nil, start, 0
        end
        if sign < 0 then
            value = -value
        end
        return "T_NUMBER", value, start, last + 1
    end

    local function token(text, at)
        at = find(text, "[^ \t\n\r]", at)
        if not at then
            return "T_END", nil, #text + 1, #text + 1
        end
        local letter = sub(text, at, at)
        local kind = PUNCTUATION[letter]
        if kind then
            return kind, nil, at, at + 1
        elseif letter == '"' then
            return string_token(text, at)
        elseif find(letter, "[-0-9]") then
            if not settings.decode_invalid and is_invalid_number(text, at) then
                return "invalid number", nil, at, 0
            end
            return number_token(text, at)
        elseif sub(text, at, at + 3) == "true" then
            return "T_BOOLEAN", true, at, at + 4
        elseif sub(text, at, at + 4) == "false" then
            return "T_BOOLEAN", false, at, at + 5
        elseif sub(text, at, at + 3) == "null" then
            return "T_NULL", null, at, at + 4
        elseif settings.decode_invalid and find(letter, "[+iInN]") and is_invalid_number(text, at) then
            return number_token(text, at)
        elseif letter == "\0" then
            return "T_END", nil, at, at
        end
        return "invalid token", nil, at, 0
    end

    local value_of

    local function descend(depth, at)
        depth = depth + 1
        if depth > settings.decode_max_depth then
            error({format("Found too many nested data structures (%d) at character %d", depth, at - 1)})
        end
        return depth
    end

    local function object(text, at, depth)
        depth = descend(depth, at)
        local t = {}
        local kind, value, where
        kind, value, where, at = token(text, at)
        if kind == "T_OBJ_END" then
            return t, at
        end
        while true do
            if kind ~= "T_STRING" then
                fail("object key string", kind, where)
            end
            local key = value
            kind, value, where, at = token(text, at)
            if kind ~= "T_COLON" then
                fail("colon", kind, where)
            end
            kind, value, where, at = token(text, at)
            value, at = value_of(text, kind, value, where, at, depth)
            t[key] = value
            kind, value, where, at = token(text, at)
            if kind == "T_OBJ_END" then
                return t, at
            elseif kind ~= "T_COMMA" then
                fail("comma or object end", kind, where)
            end
            kind, value, where, at = token(text, at)
        end
    end

    local function array(text, at, depth)
        depth = descend(depth, at)
        local t = {}
        local kind, value, where
        kind, value, where, at = token(text, at)
        if kind == "T_ARR_END" then
            return t, at
        end
        local i = 0
        while true do
            i = i + 1
            t[i], at = value_of(text, kind, value, where, at, depth)
            kind, value, where, at = token(text, at)
            if kind == "T_ARR_END" then
                return t, at
            elseif kind ~= "T_COMMA" then
                fail("comma or array end", kind, where)
            end
            kind, value, where, at = token(text, at)
        end
    end

    function value_of(text, kind, value, where, at, depth)
        if kind == "T_STRING" or kind == "T_NUMBER" or kind == "T_BOOLEAN" or kind == "T_NULL" then
            return value, at
        elseif kind == "T_OBJ_BEGIN" then
            return object(text, at, depth)
        elseif kind == "T_ARR_BEGIN" then
            return array(text, at, depth)
        end
        fail("value", kind, where)
    end

    local function decoded(text)
        if #text >= 2 and (byte(text, 1) == 0 or byte(text, 2) == 0) then
            error({"JSON parser does not support UTF-16 or UTF-32"})
        end
        local kind, value, where, at = token(text, 1)
        value, at = value_of(text, kind, value, where, at, 0)
        kind, _, where = token(text, at)
        if kind ~= "T_END" then
            fail("the end", kind, where)
        end
        return value
    end

    function cjson.decode(...)
        local text = ...
        if select("#", ...) ~= 1 then
            bad_argument(2, 1, "expected 1 argument")
        elseif type(text) == "number" then
            text = tostring(text)
        elseif type(text) ~= "string" then
            bad_argument(2, 1, "string expected, got " .. type(text))
        end
        local ok, value = pcall(decoded, text)
        if ok then
            return value
        end
        error(type(value) == "table" and value[1] or value, type(value) == "table" and 2 or 0)
    end

    -- Settings --------------------------------------------------------------------------------------

    local function integer_option(count, number, value, least, most)
        if value == nil then
            return nil
        end
        local x = tonumber(value)
        if type(value) ~= "number" and type(value) ~= "string" or not x then
            bad_argument(3, number, "number expected, got " .. type(value))
        end
        x = x < 0 and -floor(-x) or floor(x)
        if x < least or x > most then
            bad_argument(3, 1, format("expected integer between %d and %d", least, most))
        end
        return x
    end

    local function at_most(count, most)
        if count > most then
            bad_argument(3, most + 1, "found too many arguments")
        end
    end

    local function switch(value, words)
        if type(value) == "boolean" then
            return value
        end
        for i = 1, #words do
            if value == words[i] then
                if value == "on" then
                    return true
                elseif value == "off" then
                    return false
                end
                return value
            end
        end
        if type(value) ~= "string" and type(value) ~= "number" then
            bad_argument(3, 1, "string expected, got " .. type(value))
        end
        bad_argument(3, 1, "invalid option '" .. tostring(value) .. "'")
    end

    function cjson.encode_sparse_array(...)
        local count = select("#", ...)
        at_most(count, 3)
        local convert, ratio, safe = ...
        if convert ~= nil then
            settings.sparse_convert = switch(convert, {"off", "on"})
        end
        ratio = integer_option(count, 2, ratio, 0, 2147483647)
        settings.sparse_ratio = ratio or settings.sparse_ratio
        safe = integer_option(count, 3, safe, 0, 2147483647)
        settings.sparse_safe = safe or settings.sparse_safe
        return settings.sparse_convert, settings.sparse_ratio, settings.sparse_safe
    end

    function cjson.encode_max_depth(...)
        at_most(select("#", ...), 1)
        local depth = integer_option(1, 1, (...), 1, 2147483647)
        settings.encode_max_depth = depth or settings.encode_max_depth
        return settings.encode_max_depth
    end

    function cjson.decode_max_depth(...)
        at_most(select("#", ...), 1)
        local depth = integer_option(1, 1, (...), 1, 2147483647)
        settings.decode_max_depth = depth or settings.decode_max_depth
        return settings.decode_max_depth
    end

    function cjson.encode_number_precision(...)
        at_most(select("#", ...), 1)
        local digits = integer_option(1, 1, (...), 1, 14)
        if digits then
            settings.precision_digits = digits
            settings.precision = "%." .. digits .. "g"
        end
        return settings.precision_digits
    end

    function cjson.encode_keep_buffer(...)
        at_most(select("#", ...), 1)
        if (...) ~= nil then
            settings.keep_buffer = switch((...), {"off", "on"})
        end
        return settings.keep_buffer
    end

    function cjson.encode_invalid_numbers(...)
        at_most(select("#", ...), 1)
        if (...) ~= nil then
            settings.encode_invalid = switch((...), {"off", "on", "null"})
        end
        return settings.encode_invalid
    end

    function cjson.decode_invalid_numbers(...)
        at_most(select("#", ...), 1)
        if (...) ~= nil then
            settings.decode_invalid = switch((...), {"off", "on"})
        end
        return settings.decode_invalid
    end

    return cjson
end

return new()
