"""Chunks of Lua whose calls of library functions are no tail calls.

`return redis.call(...)` is a tail call. To redis-server's library functions, written in C, Lua makes it as
any other call, and the script's line is there when the function fails; some of ours are written in Lua,
take the place of the script's frame, and its line is lost. So calls of what came out of a global or a field
are made ordinary ones, also by way of a local (`local call = redis.call`), of the same function or of one
around it. Those of a script's own functions stay as they are: recursion there may be as deep as it wants.

Of an argument, or of what a call gave back, nobody knows what it is. It is taken to be a library function in
a chunk that hands one to somebody (`retry(redis.call, ...)`, `{redis.call}`), and else for the script's own.

What a register holds is taken to be what the instruction nearest before has put there. Where a script
branches that may be wrong, which costs no more than a line in an error, or depth. Nor does it cost more to
leave very long functions as they are, with those inside of them.

Source:     Lua 5.1's lopcodes.h (fields of an instruction) and ldump.c (form of a dumped chunk).
Invariants: the code comes from `string.dump` of the same Lua, never from a client.
Errors:     none: a dump of another form is given back as it is.
"""

from __future__ import annotations

import struct
from typing import Final

# Version 5.1, format 0, little endian, sizes of int, size_t, instruction and number, numbers are doubles.
_HEADER: Final = b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"

_MOVE: Final = 0
_LOADNIL: Final = 3
_GETUPVAL: Final = 4
_GETGLOBAL: Final = 5
_GETTABLE: Final = 6
_SETUPVAL: Final = 8
_SETTABLE: Final = 9
_JMP: Final = 22
_CALL: Final = 28
_TAILCALL: Final = 29
_RETURN: Final = 30
_TFORLOOP: Final = 33
_SETLIST: Final = 34
_CLOSURE: Final = 36
_VARARG: Final = 37
# What sets no register, so that field A is something else: SETGLOBAL, SETUPVAL, SETTABLE, JMP, EQ, LT, LE,
# TEST, RETURN, TFORLOOP (its variables were set before), SETLIST, CLOSE.
_SETS_NOTHING: Final = frozenset([7, 8, 9, 22, 23, 24, 25, 26, 30, 33, 34, 35])

_NO_WAY: Final = (1 << 17) - 1  # the field of a jump to the instruction behind it

# What a register holds, as far as it matters: nothing to call, or a function of the script's own; an argument
# or a result; what came out of a field; a library function for certain; a table of them.
_OWN: Final = 0
_UNKNOWN: Final = 1
_FIELD: Final = 2
_LIBRARY: Final = 3
_TABLE: Final = 4
_MAKER: Final = 5  # a library function that gives back another

_TABLES: Final = frozenset(b"redis server string table math os coroutine bit cjson cmsgpack struct".split())
_MAKERS: Final = frozenset([b"wrap", b"gmatch", b"gfind"])
_DATA: Final = frozenset([b"KEYS", b"ARGV", b"_G"])

_TAILCALL_BYTES: Final = (b"\x1d", b"\x5d", b"\x9d", b"\xdd")
# Instructions of a function that is looked into: nothing can be done meanwhile, and longer ones are data.
_LONGEST: Final = 100_000

_NIL: Final = 0
_BOOLEAN: Final = 1
_NUMBER: Final = 3


class _Function:
    """One function of a dump."""

    def __init__(self, start: int, instructions: tuple[int, ...], upvalues: int, parameters: int) -> None:
        self.start = start  # where its instructions are
        self.instructions = instructions
        self.upvalues = upvalues
        self.parameters = parameters
        self.constants: list[bytes] = []  # the strings; of others nothing
        self.inner: list[_Function] = []


class _Chunk:
    """A dumped chunk, read from its front."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.at = len(_HEADER)
        self.has_tail_calls = False

    def _integer(self) -> int:
        value: int = struct.unpack_from("<i", self.code, self.at)[0]
        self.at += 4
        return value

    def _string(self) -> bytes:
        size: int = struct.unpack_from("<Q", self.code, self.at)[0]
        self.at += 8 + size
        return self.code[self.at - size : max(self.at - 1, self.at - size)]

    def function(self) -> _Function:
        """The function that is next, and those inside of it."""
        self._string()
        self.at += 4 + 4  # its lines
        upvalues, parameters = self.code[self.at], self.code[self.at + 1]
        self.at += 4  # with varargs, registers
        count = self._integer()
        # The operation is in the lowest bits of a word, whose first byte that is.
        lowest = self.code[self.at : self.at + 4 * count : 4]
        self.has_tail_calls = self.has_tail_calls or any(mark in lowest for mark in _TAILCALL_BYTES)
        code: tuple[int, ...] = ()
        if count <= _LONGEST:
            code = struct.unpack_from(f"<{count}I", self.code, self.at)
        found = _Function(self.at, code, upvalues, parameters)
        self.at += 4 * count
        for _ in range(self._integer()):
            found.constants.append(self._constant())
        for _ in range(self._integer()):
            found.inner.append(self.function())
        lines = self._integer()
        self.at += 4 * lines
        for _ in range(self._integer()):
            self._string()
            self.at += 8
        for _ in range(self._integer()):
            self._string()
        return found

    def _constant(self) -> bytes:
        kind = self.code[self.at]
        self.at += 1
        if kind == _BOOLEAN:
            self.at += 1
        elif kind == _NUMBER:
            self.at += 8
        elif kind != _NIL:
            return self._string()
        return b""


class _Change:
    """One chunk's dump on its way to be another."""

    def __init__(self, code: bytes) -> None:
        self.code = bytearray(code)
        self.doubtful: list[int] = []  # places of tail calls of what nobody knows
        self.is_handing_out = False  # library functions, to whom they are arguments or results

    def change(self, function: _Function, upvalues: list[int]) -> None:
        """Make the tail calls of library functions ordinary ones, here and in the functions inside.

        Args:
            function: which.
            upvalues: what each holds.
        """
        holds = [_UNKNOWN] * function.parameters
        holds += [_OWN] * (512 - len(holds))  # field B may also name a constant
        open_at = 0  # where values of an unknown number begin
        i = -1
        while i + 1 < len(function.instructions):
            i += 1
            instruction = function.instructions[i]
            operation = instruction & 0x3F
            a = instruction >> 6 & 0xFF
            b = instruction >> 23 & 0x1FF
            c = instruction >> 14 & 0x1FF
            if operation in (_CALL, _TAILCALL):
                self._hand_out(holds, a + 1, a + b if b > 0 else open_at)
                if operation == _TAILCALL:
                    place = function.start + 4 * i
                    if holds[a] == _UNKNOWN:
                        self.doubtful.append(place)
                    elif holds[a] != _OWN:
                        self.make_ordinary(place)
                is_made = holds[a] == _MAKER
                for at in range(a, a + max(c - 1, 1)):
                    holds[at] = _UNKNOWN
                if is_made:
                    holds[a] = _LIBRARY
                open_at = a
            elif operation == _CLOSURE:
                holds[a] = _OWN
                inner = function.inner[instruction >> 14]
                captured: list[int] = []
                for _ in range(inner.upvalues):  # behind it stands where each is, as an instruction
                    i += 1
                    source = function.instructions[i] >> 23 & 0x1FF
                    is_local = function.instructions[i] & 0x3F == _MOVE
                    captured.append(holds[source] if is_local else upvalues[source])
                self.change(inner, captured)
            elif operation == _MOVE:
                holds[a] = holds[b]
            elif operation == _GETUPVAL:
                holds[a] = upvalues[b]
            elif operation == _GETGLOBAL:
                name = function.constants[instruction >> 14]
                holds[a] = _TABLE if name in _TABLES else _FIELD if name in _DATA else _LIBRARY
            elif operation == _GETTABLE:
                is_maker = holds[b] == _TABLE and c >= 256 and function.constants[c - 256] in _MAKERS
                holds[a] = _MAKER if is_maker else _LIBRARY if holds[b] == _TABLE else _FIELD
            elif operation == _VARARG:
                for at in range(a, a + max(b - 1, 1)):
                    holds[at] = _UNKNOWN
                open_at = a
            elif operation == _JMP:
                # What a loop's variables get stands at its end, to which it goes first.
                target = i + 1 + (instruction >> 14) - _NO_WAY
                loop = function.instructions[target] if i < target < len(function.instructions) else 0
                if loop & 0x3F == _TFORLOOP:
                    first = (loop >> 6 & 0xFF) + 3
                    for at in range(first, first + (loop >> 14 & 0x1FF)):
                        holds[at] = _UNKNOWN
            elif operation == _SETTABLE:
                self._hand_out(holds, c, c + 1)
            elif operation == _SETUPVAL:
                self._hand_out(holds, a, a + 1)
            elif operation == _SETLIST:
                self._hand_out(holds, a + 1, a + 1 + b if b > 0 else open_at)
                if c == 0:
                    i += 1  # of a long list the next word is a number, no instruction
            elif operation == _RETURN:
                self._hand_out(holds, a, a + b - 1 if b > 0 else open_at)
            elif operation == _LOADNIL:
                before = function.instructions[i - 1] if i > 0 else 0
                if before & 0x3F != _JMP or before >> 14 != _NO_WAY + 1:  # `x or nil` is what x is
                    for at in range(a, b + 1):
                        holds[at] = _OWN
            elif operation not in _SETS_NOTHING:
                holds[a] = _OWN

    def _hand_out(self, holds: list[int], start: int, end: int) -> None:
        if _LIBRARY in holds[start:end] or _MAKER in holds[start:end]:
            self.is_handing_out = True

    def make_ordinary(self, place: int) -> None:
        """Of the tail call there."""
        self.code[place] = self.code[place] & 0xC0 | _CALL


def without_library_tail_calls(code: bytes) -> bytes:
    """The dump of a chunk, changed as the module says."""
    if not code.startswith(_HEADER):
        return code
    chunk = _Chunk(code)
    function = chunk.function()
    if not chunk.has_tail_calls:
        return code
    changed = _Change(code)
    changed.change(function, [])
    if changed.is_handing_out:
        for place in changed.doubtful:
            changed.make_ordinary(place)
    return bytes(changed.code)
