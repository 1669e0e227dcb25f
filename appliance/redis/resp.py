"""RESP, incrementally: requests as a server reads them, and values as a client reads them.

A request is an array of bulk strings, or one inline line split by the quoting rules of the Redis shell:

    *2 CR LF $3 CR LF GET CR LF $3 CR LF key CR LF          array form
    GET "a key" CR LF                                        inline form

Source:     https://redis.io/docs/latest/develop/reference/protocol-spec/; limits, error texts and the order
            of the checks as redis-server 8.2 shows them
            (tests/conformance/redis/test_conformance_protocol.py).
Invariants: any split of the stream gives the same requests and the same error. A sender of n bytes costs
            O(n) whatever the split: a line that is not complete is searched only where new bytes came, and a
            bulk string that is not complete collects its chunks and joins them once.
Errors:     a request stream that breaks the protocol sets `error`; no request follows. ValueParser raises
            RespError (a WireError).
Not here:   replies (replies.py).
"""

from __future__ import annotations

from typing import Final

from librt.strings import read_i32_le, read_i64_le
from mypy_extensions import i64

from appliance.errors import WireError
from appliance.redis.integers import parse_integer
from appliance.redis.replies import BigNumber, Map, Push, SetReply, SimpleError, SimpleString, Verbatim

# PROTO_INLINE_MAX_SIZE: the longest line, be it inline request or length.
MAX_LINE: Final = 64 * 1024
# The server keeps the number of arguments in an int.
MAX_MULTIBULK: Final = (1 << 31) - 1
# proto-max-bulk-len, the configurable default.
DEFAULT_MAX_BULK: Final = 512 * 1024 * 1024
# What a client that must authenticate first may send.
MAX_MULTIBULK_UNAUTHENTICATED: Final = 10
MAX_BULK_UNAUTHENTICATED: Final = 16384

_LF: Final = 10
_CR: Final = 13
_DOLLAR: Final = 36
_STAR: Final = 42
_ZERO: Final = 48
_NINE: Final = 57

_WAIT_NOTHING: Final = 0  # the buffer begins with a request, or with more of a split one
_WAIT_LINE: Final = 1  # _chunks hold a line whose end has not come
_WAIT_BULK: Final = 2  # _chunks hold the first bytes of a bulk string of _bulk_length bytes

_BAD_LENGTH: Final = -(1 << 62)

# Headers of bulk strings as integers of four bytes, low byte first, without their digits.
_ONE_DIGIT: Final = 0x0A0D_0024  # b"$?\r\n"
_ONE_DIGIT_MASK: Final = 0xFFFF_00FF
_TWO_DIGITS: Final = 0x0D00_0024  # b"$??\r"
_TWO_DIGITS_MASK: Final = 0xFF00_00FF


# The names of commands that came lately, as objects to use again: a new one would have to be made and hashed
# for every request. A name's place is made from its bytes; whoever comes to it last stays.
_LONGEST_KEPT_NAME: Final = 8
_names: Final[list[bytes]] = [b""] * 256
_words: Final[list[bytes]] = [bytes(_LONGEST_KEPT_NAME)] * 256  # the same names, filled up with zeros
_IS_COMPILED: Final = not __file__.endswith(".py")  # interpreted, a slice costs less than all this


def _name(data: bytes, pos: i64, length: i64) -> bytes:
    """data[pos : pos + length], as the same object for the same name; at least one byte."""
    place = (i64(data[pos]) ^ (i64(data[pos + length - 1]) << 3) ^ (length << 5)) & 255
    kept = _names[place]
    if len(kept) == length:
        if pos + _LONGEST_KEPT_NAME <= len(data):
            # All bytes at once: those behind the name do not count.
            differs = read_i64_le(data, pos) ^ read_i64_le(_words[place], 0)
            if differs << (64 - 8 * length) == 0:
                return kept
        elif data[pos : pos + length] == kept:
            return kept
    kept = data[pos : pos + length]
    _names[place] = kept
    _words[place] = kept.ljust(_LONGEST_KEPT_NAME, b"\0")
    return kept


# A part of a bulk string is kept as a view of the frame it came in, unless a copy is cheaper.
_VIEW_FROM: Final = 4096
_JOIN_CHUNKS: Final = 256


def _view(data: bytes, start: i64, length: i64) -> bytes | memoryview:
    """data[start : start + length], without a copy where that pays."""
    if length < _VIEW_FROM:
        return data[start : start + length]
    if start == 0 and length == len(data):
        return data
    return memoryview(data)[start : start + length]


class RequestParser:
    """Turns the bytes of one client into requests.

    Use: `feed(data)`, then `next_request()` until it gives None; then look at `error`.
    """

    def __init__(self, max_bulk: int = DEFAULT_MAX_BULK) -> None:
        # What is being parsed, and how far; whoever takes requests out of it by himself moves `pos`.
        self.data: bytes = b""
        self.pos: i64 = 0
        self._args: list[bytes] = []
        self._remaining: i64 = 0  # bulk strings still to come for _args
        self._bulk_length: i64 = -1  # of the bulk string being read; -1: its header has not come
        self._skip: i64 = 0  # bytes of the CR LF after a bulk string that have not come
        self._waiting: i64 = _WAIT_NOTHING
        self._chunks: list[bytes | memoryview] = []
        self._chunks_length: i64 = 0
        self._small_chunks: i64 = 0  # how many at the end of _chunks are small
        self._saw_cr = False  # the incomplete line has its CR already
        self.max_bulk: i64 = max_bulk
        self.is_restricted = False  # the client has not authenticated yet and must
        self.error: bytes | None = None  # b"Protocol error: …"

    def is_between_requests(self) -> bool:
        """Whether what is at `pos` of `data` begins a request, or nothing is there."""
        return self._remaining == 0 and self._waiting == _WAIT_NOTHING and self.error is None

    def pending_bytes(self) -> int:
        """Bytes received that no request was made of yet (the server's qbuf)."""
        return len(self.data) - self.pos + self._chunks_length

    def pending_arguments(self) -> int:
        """Bytes of the arguments that are whole, of a request that is not (the server's argv-mem)."""
        if self._remaining == 0:
            return 0
        return sum([len(argument) for argument in self._args])

    def is_in_bulk(self) -> bool:
        """Whether a bulk string has come in part."""
        return self._waiting == _WAIT_BULK

    def bulk_bytes_with(self, count: i64) -> i64:
        """What will be there of the bulk string that has come in part, with `count` bytes more."""
        have = self._chunks_length + count
        return have if have < self._bulk_length else self._bulk_length + 2

    def feed(self, data: bytes, start: i64 = 0) -> None:
        """Take the next bytes of the stream: data[start:].

        Every request of the bytes before must have been taken.
        """
        if self._waiting == _WAIT_NOTHING:
            self.data = data
            self.pos = start
        elif self._waiting == _WAIT_LINE:
            self._feed_line(data[start:])
        else:
            self._feed_bulk(data, start)

    def _feed_line(self, data: bytes) -> None:
        self._chunks.append(data)
        self._chunks_length += len(data)
        is_inline = self._remaining == 0 and self._chunks[0][0] != _STAR
        complete = self._saw_cr
        if not complete:
            complete = data.find(b"\n" if is_inline else b"\r") >= 0
        # Without its end a line too long is an error, which next_request() finds when it sees the bytes.
        if complete or self._chunks_length > MAX_LINE:
            self.data = b"".join(self._chunks)
            self.pos = 0
            self._chunks = []
            self._chunks_length = 0
            self._saw_cr = False
            self._waiting = _WAIT_NOTHING

    def _feed_bulk(self, data: bytes, start: i64) -> None:
        missing: i64 = self._bulk_length - self._chunks_length
        length: i64 = len(data) - start
        if length < missing:
            self._keep_chunk(data, start, length)
            return
        self._chunks.append(_view(data, start, missing))
        self._args.append(b"".join(self._chunks))
        self._chunks = []
        self._chunks_length = 0
        self._small_chunks = 0
        self._waiting = _WAIT_NOTHING
        self._bulk_length = -1
        self._skip = 2
        self.data = data
        self.pos = start + missing

    def _keep_chunk(self, data: bytes, start: i64, length: i64) -> None:
        """Keep a part of a bulk string; many small ones are joined, so that they weigh no more than it."""
        self._chunks.append(_view(data, start, length))
        self._chunks_length += length
        if length >= _VIEW_FROM:
            self._small_chunks = 0
            return
        self._small_chunks += 1
        if self._small_chunks == _JOIN_CHUNKS:
            self._chunks[-_JOIN_CHUNKS:] = [b"".join(self._chunks[-_JOIN_CHUNKS:])]
            self._small_chunks = 0

    def next_request(self) -> list[bytes] | None:
        """The next whole request, never empty; None until more bytes come, or for ever if `error`."""
        data = self.data
        pos: i64 = self.pos
        end: i64 = len(data)
        if self._remaining == 0:
            while True:
                if pos >= end:
                    self.data = b""
                    self.pos = 0
                    return None
                if self.error is not None or self._waiting != _WAIT_NOTHING:
                    return None
                if data[pos] != _STAR:
                    request = self._inline(data, pos)
                    if request is None:
                        return None
                    pos = self.pos
                    if len(request) > 0:
                        return request
                    continue
                # The common header is one digit: "*2\r\n".
                count: i64
                if pos + 3 < end and data[pos + 2] == _CR and _ZERO < data[pos + 1] <= _NINE:
                    count = data[pos + 1] - _ZERO
                    pos += 4
                else:
                    newline: i64 = data.find(b"\r", pos)
                    if newline < 0 or newline + 1 >= end:
                        self._keep_line(pos, newline >= 0, b"too big mbulk count string")
                        return None
                    if newline - pos > MAX_LINE:
                        self._fail(b"too big mbulk count string")
                        return None
                    count = _length(data, pos + 1, newline)
                    if count == _BAD_LENGTH or count > MAX_MULTIBULK:
                        self._fail(b"invalid multibulk length")
                        return None
                    if count > MAX_MULTIBULK_UNAUTHENTICATED and self.is_restricted:
                        self._fail(b"unauthenticated multibulk length")
                        return None
                    pos = newline + 2
                if count > 0:
                    self._remaining = count
                    self._args = []
                    break
        elif self._skip != 0 and not self._skip_crlf():
            return None
        else:
            pos = self.pos
        return self._bulks(data, pos, end)

    def _skip_crlf(self) -> bool:
        """Pass over what has come of the two bytes after a bulk string; the server ignores them too."""
        available: i64 = len(self.data) - self.pos
        if available < self._skip:
            self.pos += available
            self._skip -= available
            return False
        self.pos += self._skip
        self._skip = 0
        self._remaining -= 1
        return True

    def _bulks(self, data: bytes, pos: i64, end: i64) -> list[bytes] | None:
        args = self._args
        remaining: i64 = self._remaining
        length: i64
        while remaining > 0:
            # The common header, `$` and one to four digits without a leading zero, is read right here.
            digits: i64 = 0
            length = 0
            if pos + 6 < end:
                if _IS_COMPILED:
                    head: i64 = i64(read_i32_le(data, pos))
                    length = (head >> 8 & 255) - _ZERO
                    if head & _ONE_DIGIT_MASK == _ONE_DIGIT:
                        if 0 <= length <= 9:
                            digits = 1
                    elif head & _TWO_DIGITS_MASK == _TWO_DIGITS and 0 < length <= 9:
                        ones = (head >> 16 & 255) - _ZERO
                        if 0 <= ones <= 9:
                            length = length * 10 + ones
                            digits = 2
            if digits == 0 and pos + 6 < end and data[pos] == _DOLLAR:
                length = data[pos + 1] - _ZERO
                if 0 <= length <= 9:
                    digits = 1
                    digit: i64 = data[pos + 2] - _ZERO
                    while digits < 4 and 0 <= digit <= 9 and length > 0:
                        length = length * 10 + digit
                        digits += 1
                        digit = data[pos + 1 + digits] - _ZERO
                    if data[pos + 1 + digits] != _CR:
                        digits = 0
            if digits > 0:
                pos += digits + 3
            else:
                self._remaining = remaining
                if self._waiting != _WAIT_NOTHING or self.error is not None:
                    return None
                if not self._bulk_header(data, pos, end):
                    return None
                length = self._bulk_length
                pos = self.pos
            if pos + length + 2 > end:
                self._remaining = remaining
                self._keep_bulk(data, pos, end, length)
                return None
            if _IS_COMPILED and 0 < length <= _LONGEST_KEPT_NAME and len(args) == 0:
                args.append(_name(data, pos, length))
            else:
                args.append(data[pos : pos + length])
            pos += length + 2
            remaining -= 1
        self._remaining = 0
        self._bulk_length = -1
        self.pos = pos
        return args

    def _bulk_header(self, data: bytes, pos: i64, end: i64) -> bool:
        """Read `$<length> CR LF` at pos: sets _bulk_length and _pos, or keeps the line, or fails."""
        newline: i64 = data.find(b"\r", pos)
        if newline < 0 or newline + 1 >= end:
            self._keep_line(pos, newline >= 0, b"too big bulk count string")
            return False
        if newline - pos > MAX_LINE:
            self._fail(b"too big bulk count string")
            return False
        if data[pos] != _DOLLAR:
            # C's %c prints the byte as it is; error_reply makes CR and LF spaces.
            self._fail(b"expected '$', got '" + data[pos : pos + 1] + b"'")
            return False
        length = _length(data, pos + 1, newline)
        if length < 0 or length > self.max_bulk:
            self._fail(b"invalid bulk length")
            return False
        if length > MAX_BULK_UNAUTHENTICATED and self.is_restricted:
            self._fail(b"unauthenticated bulk length")
            return False
        self._bulk_length = length
        self.pos = newline + 2
        return True

    def _keep_line(self, pos: i64, saw_cr: bool, too_long: bytes) -> None:
        """The line at pos has no end yet: keep it and wait, unless it is too long already."""
        rest = self.data[pos:]
        if len(rest) > MAX_LINE + (1 if saw_cr else 0):
            self._fail(too_long)
            return
        self.data = b""
        self.pos = 0
        if len(rest) > 0:
            self._chunks = [rest]
            self._chunks_length = len(rest)
            self._saw_cr = saw_cr
            self._waiting = _WAIT_LINE

    def _keep_bulk(self, data: bytes, pos: i64, end: i64, length: i64) -> None:
        """The bulk string at pos is not whole: keep what is there and wait for the rest."""
        available: i64 = end - pos
        if available >= length:  # only the CR LF after it is missing
            self._args.append(data[pos : pos + length])
            self._bulk_length = -1
            self._skip = length + 2 - available
        else:
            self._bulk_length = length
            self._chunks_length = 0
            self._keep_chunk(data, pos, available)
            self._waiting = _WAIT_BULK
        self.data = b""
        self.pos = 0

    def _inline(self, data: bytes, pos: i64) -> list[bytes] | None:
        """Read the inline request at pos: [] for a blank line, None when it is not whole, or bad."""
        newline: i64 = data.find(b"\n", pos)
        if newline < 0:
            self._keep_line(pos, False, b"too big inline request")
            return None
        if newline - pos > MAX_LINE:
            self._fail(b"too big inline request")
            return None
        stop = newline
        if newline > pos and data[newline - 1] == _CR:
            stop = newline - 1
        args = split_arguments(data[pos:stop])
        if args is None:
            self._fail(b"unbalanced quotes in request")
            return None
        self.pos = newline + 1
        return args

    def _fail(self, text: bytes) -> None:
        self.error = b"Protocol error: " + text
        self.data = b""
        self.pos = 0
        self._args = []
        self._remaining = 0


def _length(data: bytes, start: i64, stop: i64) -> i64:
    """The integer between start and stop, or _BAD_LENGTH."""
    value = parse_integer(data[start:stop])
    if value is None:
        return _BAD_LENGTH
    # Beyond 2**61 every limit is exceeded alike, and _BAD_LENGTH must stay apart.
    if value > 1 << 61:
        return 1 << 61
    if value < -1:
        return -1
    return value


_SPACES: Final = b" \t\n\v\f\r"
_HEX: Final = b"0123456789abcdefABCDEF"
_ESCAPES: Final[dict[int, int]] = {
    ord("n"): 10,
    ord("r"): 13,
    ord("t"): 9,
    ord("b"): 8,
    ord("a"): 7,
}


def split_arguments(line: bytes) -> list[bytes] | None:
    """Split an inline request into arguments.

    Words are separated by white space. Inside "double quotes" `\\xHH`, `\\n`, `\\r`, `\\t`, `\\b` and
    `\\a` are escapes and a backslash makes any other byte literal; inside 'single quotes' only `\\'` is one.
    A closing quote must be followed by white space or the end. A NUL is a byte like others; the server,
    whose C strings end there, would wait for ever.

    Returns:
        The arguments, [] for a blank line, None when quotes are unbalanced.
    """
    args: list[bytes] = []
    pos = 0
    end = len(line)
    while True:
        while pos < end and line[pos] in _SPACES:
            pos += 1
        if pos >= end:
            return args
        word = bytearray()
        while pos < end:
            byte = line[pos]
            if byte == 34:
                pos = _double_quoted(line, pos + 1, word)
            elif byte == 39:
                pos = _single_quoted(line, pos + 1, word)
            elif byte in _SPACES:
                break
            else:
                word.append(byte)
                pos += 1
                continue
            # A quoted part has just ended: the argument ends with it.
            if pos < 0:
                return None
            break
        args.append(bytes(word))


def _double_quoted(line: bytes, pos: int, word: bytearray) -> int:
    """Append the rest of a double quoted part; the position behind its quote, -1 when unbalanced."""
    end = len(line)
    while pos < end:
        byte = line[pos]
        if (
            byte == 92
            and pos + 3 < end
            and line[pos + 1] == 120
            and line[pos + 2] in _HEX
            and line[pos + 3] in _HEX
        ):
            word.append(int(line[pos + 2 : pos + 4], 16))
            pos += 4
        elif byte == 92 and pos + 1 < end:
            word.append(_ESCAPES.get(line[pos + 1], line[pos + 1]))
            pos += 2
        elif byte == 34:
            pos += 1
            return pos if pos == end or line[pos] in _SPACES else -1
        else:
            word.append(byte)
            pos += 1
    return -1


def _single_quoted(line: bytes, pos: int, word: bytearray) -> int:
    """Append the rest of a single quoted part; the position behind its quote, -1 when unbalanced."""
    end = len(line)
    while pos < end:
        byte = line[pos]
        if byte == 92 and pos + 1 < end and line[pos + 1] == 39:
            word.append(39)
            pos += 2
        elif byte == 39:
            pos += 1
            return pos if pos == end or line[pos] in _SPACES else -1
        else:
            word.append(byte)
            pos += 1
    return -1


class RespError(WireError):
    """The bytes are no RESP value."""


MAX_DEPTH: Final = 128


class _Frame:
    """An aggregate whose items are still coming."""

    def __init__(self, mark: int, missing: int) -> None:
        self.mark = mark
        self.missing = missing
        self.items: list[object] = []


class ValueParser:
    """Turns bytes into RESP values, as a client (or a test) reads replies: RESP2 and RESP3.

    bulk string -> bytes, integer -> int, null of any kind -> None, array -> list, boolean -> bool, double
    -> float; SimpleString, SimpleError, Map, SetReply, Push, Verbatim and BigNumber as in replies.py. A
    blob error is a SimpleError. An attribute is read and dropped.

    Use: `feed(data)`, then `next_value()` until `has_value` is False.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.pos = 0
        self._searched = 0  # no CR LF begins before this position
        self._stack: list[_Frame] = []
        self._blob_mark = 0
        self._blob_length = -1
        self.has_value = False  # whether the last next_value() gave one (which may be None)

    def feed(self, data: bytes) -> None:
        if self.pos > 0 and self.pos == len(self._buffer):
            self._buffer.clear()
            self.pos = 0
            self._searched = 0
        self._buffer += data

    def next_value(self) -> object:
        """The next whole value; look at `has_value`, as a null is None too.

        Raises:
            RespError: the bytes are no RESP value; the parser is of no use any more.
        """
        self.has_value = False
        while True:
            if self._blob_length >= 0:
                if len(self._buffer) - self.pos < self._blob_length + 2:
                    return None
                value = self._take_blob()
            else:
                line = self._take_line()
                if line is None:
                    return None
                if len(line) == 0:
                    raise RespError("empty line where a value should begin")
                mark = line[0]
                rest = line[1:]
                if mark in b"$=!":
                    length = _size(rest, allow_null=mark == 36)
                    if length >= 0:
                        self._blob_mark = mark
                        self._blob_length = length
                        continue
                    value = None
                elif mark in b"*%~>|":
                    count = _size(rest, allow_null=mark == 42)
                    if count >= 0:
                        frame = _Frame(mark, count * 2 if mark in b"%|" else count)
                        if count > 0 or mark == 124:
                            if len(self._stack) >= MAX_DEPTH:
                                raise RespError("nested too deeply")
                            if count > 0:
                                self._stack.append(frame)
                            continue
                        value = _aggregate(frame)
                    else:
                        value = None
                else:
                    value = _scalar(mark, rest)
            # A value is whole: hand it out, or put it where it belongs, closing every aggregate it completes.
            whole = True
            while self._stack:
                top = self._stack[-1]
                top.items.append(value)
                top.missing -= 1
                if top.missing > 0:
                    whole = False
                    break
                self._stack.pop()
                if top.mark == 124:  # an attribute describes the value after it
                    whole = False
                    break
                value = _aggregate(top)
            if whole:
                self.has_value = True
                self._compact()
                return value

    def _take_line(self) -> bytes | None:
        found = self._buffer.find(b"\r\n", max(self.pos, self._searched))
        if found < 0:
            # The last byte may be the CR of the pair.
            self._searched = max(self.pos, len(self._buffer) - 1)
            return None
        line = bytes(self._buffer[self.pos : found])
        self.pos = found + 2
        self._searched = self.pos
        return line

    def _take_blob(self) -> object:
        stop = self.pos + self._blob_length
        text = bytes(memoryview(self._buffer)[self.pos : stop])
        if self._buffer[stop] != _CR or self._buffer[stop + 1] != _LF:
            raise RespError("no CR LF behind a bulk string")
        self.pos = stop + 2
        self._searched = self.pos
        self._blob_length = -1
        if self._blob_mark == 61:
            if len(text) < 4 or text[3] != 58:
                raise RespError("verbatim string without its kind")
            return Verbatim(text[4:], text[:3])
        if self._blob_mark == 33:
            return SimpleError(text)
        return text

    def _compact(self) -> None:
        """Drop what was read once it is more than half of the buffer: each byte moves O(1) times."""
        if self.pos > 4096 and self.pos * 2 > len(self._buffer):
            del self._buffer[: self.pos]
            self._searched = max(0, self._searched - self.pos)
            self.pos = 0


def _size(text: bytes, allow_null: bool) -> int:
    value = parse_integer(text)
    if value is None or value < (-1 if allow_null else 0):
        raise RespError(f"bad length {text[:20]!r}")
    return value


def _aggregate(frame: _Frame) -> object:
    if frame.mark == 37:
        return Map(frame.items)
    if frame.mark == 126:
        return SetReply(frame.items)
    if frame.mark == 62:
        return Push(frame.items)
    return frame.items


def _scalar(mark: int, rest: bytes) -> object:
    if mark == 43:
        return SimpleString(rest)
    if mark == 45:
        return SimpleError(rest)
    if mark == 58:
        value = parse_integer(rest[1:] if rest.startswith(b"+") else rest)
        if value is None:
            raise RespError(f"bad integer {rest[:20]!r}")
        return value
    if mark == 95 and rest == b"":
        return None
    if mark == 35 and rest in (b"t", b"f"):
        return rest == b"t"
    try:
        if mark == 44:
            return float(rest)
        if mark == 40:
            return BigNumber(int(rest))
    except ValueError:
        pass
    raise RespError(f"no RESP value begins with {bytes([mark]) + rest[:20]!r}")
