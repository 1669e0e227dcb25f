"""Typed replies and their encoding in RESP2 and RESP3.

A handler returns a value whose *type* says what goes on the wire; nothing is guessed from its text:

    value a handler returns      RESP2                RESP3
    bytes, Bulk                  bulk string          bulk string
    int                          integer              integer
    None                         $-1                  _
    bool                         :1 / :0              #t / #f
    float                        bulk string          , double
    list, tuple                  array                array
    SimpleString, SimpleError    + / -                + / -
    NullArray                    *-1                  _
    Map, SetReply, Push          flat array           % / ~ / >
    Verbatim, BigNumber          bulk string          = / (
    NoReply                      nothing              nothing

Source:     https://redis.io/docs/latest/develop/reference/protocol-spec/ and the server's own replies.
Invariants: a ReplyBuffer gets whole replies; a bulk string of BIG_BULK bytes or more
            is appended by reference and never copied here.
Errors:     TypeError for a value of another type: a handler's bug.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, mypyc_attr

from appliance.redis.doubles import double_text

CRLF: Final = b"\r\n"
# From here on a copy into the joined output costs more than one more element for the shell to send.
BIG_BULK: Final = 16 * 1024

_PREBUILT: Final = 1024
INTEGERS: Final[list[bytes]] = [b":%d\r\n" % n for n in range(_PREBUILT)]
BULK_HEADERS: Final[list[bytes]] = [b"$%d\r\n" % n for n in range(_PREBUILT)]
DIGITS: Final[list[bytes]] = [b"%d" % n for n in range(_PREBUILT)]
# An integer of up to six or seven digits goes out as two prebuilt pieces: `:123` and `456 CR LF`.
_INTEGER_HEADS: Final[list[bytes]] = [b":%d" % n for n in range(_PREBUILT)]
_INTEGER_TAILS: Final[list[bytes]] = [b"%03d\r\n" % n for n in range(1000)]
_THREE_DIGITS: Final[list[bytes]] = [b"%03d" % n for n in range(1000)]
_TWO_PIECES: Final = _PREBUILT * 1000

_ARRAY: Final = b"*"
_PREBUILT_ARRAYS: Final = 64
_ARRAY_HEADERS: Final[list[bytes]] = [b"*%d\r\n" % n for n in range(_PREBUILT_ARRAYS)]

# Arrays from this length on are written into one block as they are walked over: 9 ns per short bulk string
# instead of 30 with a list of pieces, once the block is made.
_BLOCK_LENGTH: Final = 4


class SimpleString:
    """`+text`; `text` holds no CR or LF. The wire form is built once."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.wire: bytes = b"+" + text + CRLF

    def __repr__(self) -> str:
        return f"SimpleString({self.text!r})"


class SimpleError:
    """`-text`; CR and LF inside become spaces, at the end they are dropped."""

    def __init__(self, text: bytes) -> None:
        self.text = text.strip(CRLF).replace(b"\r", b" ").replace(b"\n", b" ")
        self.wire: bytes = b"-" + self.text + CRLF

    def __repr__(self) -> str:
        return f"SimpleError({self.text!r})"


@mypyc_attr(acyclic=True)
class Bulk:
    """A bulk string that is in wire form already: `$3 CR LF foo CR LF`."""

    def __init__(self, wire: bytes) -> None:
        self.wire = wire


class NullArray:
    """A null where RESP2 clients expect an array."""


class NoReply:
    """The handler has answered already, or there is nothing to answer."""


class Map:
    """Pairs in order, flat: key, value, key, value …"""

    def __init__(self, flat: list[object]) -> None:
        self.flat = flat


class SetReply:
    """An unordered collection."""

    def __init__(self, items: list[object]) -> None:
        self.items = items


class Push:
    """Out of band data; RESP2 clients see an array."""

    def __init__(self, items: list[object]) -> None:
        self.items = items


class Verbatim:
    """Text that a client shows as it is; `kind` is three bytes, `txt` or `mkd`."""

    def __init__(self, text: bytes, kind: bytes = b"txt") -> None:
        self.text = text
        self.kind = kind


class BigNumber:
    """An integer beyond 64 bits."""

    def __init__(self, value: int) -> None:
        self.value = value


OK: Final = SimpleString(b"OK")
PONG: Final = SimpleString(b"PONG")
RESET: Final = SimpleString(b"RESET")
QUEUED: Final = SimpleString(b"QUEUED")
NULL_ARRAY: Final = NullArray()
NO_REPLY: Final = NoReply()

NULL_RESP2: Final = b"$-1\r\n"
NULL_RESP3: Final = b"_\r\n"


def integer_text(value: int) -> bytes:
    """The decimal text of an integer."""
    if 0 <= value < _PREBUILT:
        return DIGITS[value]
    if 0 <= value < _TWO_PIECES:
        number: i64 = value
        return DIGITS[number // 1000] + _THREE_DIGITS[number % 1000]
    return str(value).encode("ascii")


class ReplyBuffer:
    """The replies one client has not been sent yet, as pieces to join."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._has_big = False
        # What `size` has found so far: the bytes of so many parts, so that to ask often costs little.
        self._sized_parts: i64 = 0
        self._sized_bytes: i64 = 0

    def bulk(self, value: bytes) -> None:
        """Append one bulk string: header, value (by reference), CRLF."""
        parts = self._parts
        length: i64 = len(value)
        if length < _PREBUILT:
            parts.append(BULK_HEADERS[length])
        else:
            parts.append(b"$" + str(length).encode("ascii") + CRLF)
            if length >= BIG_BULK:
                self._has_big = True
        parts.append(value)
        parts.append(CRLF)

    def size(self) -> i64:
        """Bytes that wait to be taken."""
        parts = self._parts
        count: i64 = len(parts)
        if self._sized_parts == 0:
            self._sized_bytes = 0
        while self._sized_parts < count:
            self._sized_bytes += len(parts[self._sized_parts])
            self._sized_parts += 1
        return self._sized_bytes

    def raw(self, wire: bytes) -> None:
        """Append bytes that are in wire form already."""
        self._parts.append(wire)

    def block(self, wire: bytes) -> None:
        """Append bytes that are in wire form already, and may be many."""
        self._parts.append(wire)
        if len(wire) >= BIG_BULK:
            self._has_big = True

    def _header(self, mark: bytes, count: int) -> None:
        self._parts.append(mark + integer_text(count) + CRLF)

    def reply(self, reply: object, resp3: bool) -> None:
        """Append the wire form of a reply, which may be nested.

        Args:
            reply: a value from the table in the module's docstring.
            resp3: whether the client asked for RESP3 (`HELLO 3`).
        """
        if isinstance(reply, bytes):
            self.bulk(reply)
        elif isinstance(reply, Bulk):  # noqa: SIM114 (a union of the two is slower, compiled)
            self._parts.append(reply.wire)
        elif isinstance(reply, SimpleString):
            self._parts.append(reply.wire)
        elif reply is None:
            self._parts.append(NULL_RESP3 if resp3 else NULL_RESP2)
        elif isinstance(reply, bool):  # before int: a bool is an int to Python
            if resp3:
                self._parts.append(b"#t\r\n" if reply else b"#f\r\n")
            else:
                self._parts.append(INTEGERS[1] if reply else INTEGERS[0])
        elif isinstance(reply, int):
            if 0 <= reply < _PREBUILT:
                self._parts.append(INTEGERS[reply])
            elif 0 <= reply < _TWO_PIECES:
                number: i64 = reply
                self._parts.append(_INTEGER_HEADS[number // 1000])
                self._parts.append(_INTEGER_TAILS[number % 1000])
            else:
                self._parts.append(b":" + str(reply).encode("ascii") + CRLF)
        elif isinstance(reply, list):
            self._aggregate(_ARRAY, len(reply), reply, resp3)
        elif isinstance(reply, float):
            text = double_text(reply)
            if resp3:
                self._parts.append(b"," + text + CRLF)
            else:
                self.bulk(text)
        else:
            self._rare(reply, resp3)

    def _aggregate(self, mark: bytes, count: int, items: list[object], resp3: bool) -> None:
        """Append an array or one of its kin.

        Args:
            mark: the byte that says which kind.
            count: what the header says; for a map, half of the items.
            items: all elements, in order.
            resp3: as in `reply`.
        """
        if mark is _ARRAY and count < _PREBUILT_ARRAYS:
            header = _ARRAY_HEADERS[count]
        else:
            header = mark + integer_text(count) + CRLF
        if len(items) < _BLOCK_LENGTH:
            self._parts.append(header)
            for item in items:
                self.reply(item, resp3)
            return
        block = BytesWriter()
        block.write(header)
        self._end_block(self._write_items(block, items, resp3))

    def _write_items(self, block: BytesWriter, items: list[object], resp3: bool) -> BytesWriter:
        """Write the elements of an aggregate into a block; the block in which to go on.

        Bulk strings that are not to be copied, and what is rare, end the block.
        """
        for item in items:
            if isinstance(item, bytes):
                length: i64 = len(item)
                if length < _PREBUILT:
                    block.write(BULK_HEADERS[length])
                elif length < BIG_BULK:
                    block.write(b"$" + str(length).encode("ascii") + CRLF)
                else:
                    self._end_block(block)
                    block = BytesWriter()
                    self.bulk(item)
                    continue
                block.write(item)
                block.write(CRLF)
            elif item is None:
                block.write(NULL_RESP3 if resp3 else NULL_RESP2)
            elif isinstance(item, Bulk):  # of a packed key: short
                block.write(item.wire)
            elif isinstance(item, list):
                count: i64 = len(item)
                if count < _PREBUILT_ARRAYS:
                    block.write(_ARRAY_HEADERS[count])
                else:
                    block.write(b"*" + integer_text(count) + CRLF)
                block = self._write_items(block, item, resp3)
            elif isinstance(item, int) and not isinstance(item, bool):
                if 0 <= item < _PREBUILT:
                    block.write(INTEGERS[item])
                else:
                    block.write(b":" + str(item).encode("ascii") + CRLF)
            elif isinstance(item, float):
                text = double_text(item)
                if resp3:
                    block.write(b",")
                else:
                    block.write(BULK_HEADERS[len(text)])
                block.write(text)
                block.write(CRLF)
            else:
                self._end_block(block)
                block = BytesWriter()
                self.reply(item, resp3)
        return block

    def _end_block(self, block: BytesWriter) -> None:
        size = len(block)
        if size > 0:
            self.block(block.getvalue())

    def _rare(self, reply: object, resp3: bool) -> None:
        if isinstance(reply, SimpleError):
            self._parts.append(reply.wire)
        elif isinstance(reply, tuple):
            self._aggregate(b"*", len(reply), list(reply), resp3)
        elif isinstance(reply, NullArray):
            self._parts.append(NULL_RESP3 if resp3 else b"*-1\r\n")
        elif isinstance(reply, NoReply):
            pass
        elif isinstance(reply, Map):
            if resp3:
                self._aggregate(b"%", len(reply.flat) // 2, reply.flat, True)
            else:
                self._aggregate(b"*", len(reply.flat), reply.flat, False)
        elif isinstance(reply, SetReply):
            self._aggregate(b"~" if resp3 else b"*", len(reply.items), reply.items, resp3)
        elif isinstance(reply, Push):
            self._aggregate(b">" if resp3 else b"*", len(reply.items), reply.items, resp3)
        elif isinstance(reply, Verbatim):
            if resp3:
                self._header(b"=", len(reply.text) + 4)
                self._parts.append(reply.kind + b":")
                self._parts.append(reply.text)
                self._parts.append(CRLF)
            else:
                self.bulk(reply.text)
        elif isinstance(reply, BigNumber):
            text = str(reply.value).encode("ascii")
            if resp3:
                self._parts.append(b"(" + text + CRLF)
            else:
                self.bulk(text)
        else:
            raise TypeError(f"a handler returned {type(reply).__name__}, which is no reply")

    def is_empty(self) -> bool:
        return len(self._parts) == 0

    def clear(self) -> None:
        self._parts = []
        self._sized_parts = 0
        self._has_big = False

    def take(self) -> list[bytes]:
        """All that was appended since the last call: one element, more around big bulk strings, or none."""
        parts = self._parts
        if len(parts) == 0:
            return []
        self._parts = []
        self._sized_parts = 0
        if not self._has_big:
            return [b"".join(parts)] if len(parts) > 1 else parts
        self._has_big = False
        output: list[bytes] = []
        small: list[bytes] = []
        for part in parts:
            if len(part) < BIG_BULK:
                small.append(part)
                continue
            if len(small) > 0:
                output.append(b"".join(small))
                small = []
            output.append(part)
        if len(small) > 0:
            output.append(b"".join(small))
        return output


def encode_reply(reply: object, resp3: bool = False) -> bytes:
    """The wire form of one reply."""
    buffer = ReplyBuffer()
    buffer.reply(reply, resp3)
    return b"".join(buffer.take())
