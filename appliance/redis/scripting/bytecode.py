"""Chunks of Lua whose calls of library functions are no tail calls.

`return redis.call(...)` is a tail call. To redis-server's library functions, written in C, Lua makes it as
any other call, and the script's line is there when the function fails; some of ours are written in Lua,
take the place of the script's frame, and its line is lost. So calls of what came out of a global or a field
are made ordinary ones, also by way of a local (`local call = redis.call`), of the same function or of one
around it. Those of a script's own functions, and of arguments, stay as they are: recursion there may be as
deep as it wants.

What a register holds is taken to be what the instruction nearest before has put there. Where a script
branches that may be wrong, which costs no more than a line in an error, or depth.

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
_GETUPVAL: Final = 4
_GETGLOBAL: Final = 5
_GETTABLE: Final = 6
_CALL: Final = 28
_TAILCALL: Final = 29
_CLOSURE: Final = 36
# What sets no register, so that field A is something else: SETGLOBAL, SETUPVAL, SETTABLE, JMP, EQ, LT, LE,
# TEST, RETURN, SETLIST, CLOSE.
_SETS_NOTHING: Final = frozenset([7, 8, 9, 22, 23, 24, 25, 26, 30, 34, 35])

# What gives library functions when it is called: `coroutine.wrap`, `string.gmatch`.
_MAKERS: Final = frozenset([b"wrap\0", b"gmatch\0", b"gfind\0"])
_OTHER: Final = 0
_LIBRARY: Final = 1
_MAKER: Final = 2

_NIL: Final = 0
_BOOLEAN: Final = 1
_NUMBER: Final = 3


class _Function:
    """One function of a dump."""

    def __init__(self, start: int, instructions: tuple[int, ...], upvalues: int) -> None:
        self.start = start  # where its instructions are
        self.instructions = instructions
        self.makers: set[int] = set()  # the constants that name one
        self.upvalues = upvalues
        self.inner: list[_Function] = []


class _Chunk:
    """A dumped chunk, read from its front."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.at = len(_HEADER)

    def _integer(self) -> int:
        value: int = struct.unpack_from("<i", self.code, self.at)[0]
        self.at += 4
        return value

    def _skip_string(self) -> None:
        size: int = struct.unpack_from("<Q", self.code, self.at)[0]
        self.at += 8 + size

    def function(self) -> _Function:
        """The function that is next, and those inside of it."""
        self._skip_string()
        self.at += 4 + 4  # its lines
        upvalues = self.code[self.at]
        self.at += 4  # with parameters, varargs, registers
        count = self._integer()
        found = _Function(self.at, struct.unpack_from(f"<{count}I", self.code, self.at), upvalues)
        self.at += 4 * count
        for constant in range(self._integer()):
            kind = self.code[self.at]
            self.at += 1
            if kind == _BOOLEAN:
                self.at += 1
            elif kind == _NUMBER:
                self.at += 8
            elif kind != _NIL:
                before = self.at + 8
                self._skip_string()
                if self.code[before : self.at] in _MAKERS:
                    found.makers.add(constant)
        for _ in range(self._integer()):
            found.inner.append(self.function())
        lines = self._integer()
        self.at += 4 * lines
        for _ in range(self._integer()):
            self._skip_string()
            self.at += 8
        for _ in range(self._integer()):
            self._skip_string()
        return found


def _change(function: _Function, upvalues: list[int], code: bytearray) -> None:
    """Make the tail calls of library functions ordinary ones, here and in the functions inside.

    Args:
        function: which.
        upvalues: what each holds.
        code: the dump.
    """
    holds = [_OTHER] * 512  # of each register; field B may also name a constant
    i = -1
    while i + 1 < len(function.instructions):
        i += 1
        instruction = function.instructions[i]
        operation = instruction & 0x3F
        a = instruction >> 6 & 0xFF
        b = instruction >> 23 & 0x1FF
        if operation == _TAILCALL:
            if holds[a]:
                place = function.start + 4 * i
                code[place] = code[place] & 0xC0 | _CALL
            holds[a] = _OTHER
        elif operation == _CALL:
            holds[a] = _LIBRARY if holds[a] == _MAKER else _OTHER
        elif operation == _CLOSURE:
            holds[a] = _OTHER
            inner = function.inner[instruction >> 14]
            captured: list[int] = []
            for _ in range(inner.upvalues):  # behind it stands where each is, in the form of an instruction
                i += 1
                source = function.instructions[i] >> 23 & 0x1FF
                is_local = function.instructions[i] & 0x3F == _MOVE
                captured.append(holds[source] if is_local else upvalues[source])
            _change(inner, captured, code)
        elif operation == _MOVE:
            holds[a] = holds[b]
        elif operation == _GETUPVAL:
            holds[a] = upvalues[b]
        elif operation not in _SETS_NOTHING:
            holds[a] = _LIBRARY if operation in (_GETGLOBAL, _GETTABLE) else _OTHER
            # Field C of GETTABLE, from 256 on a constant.
            if operation == _GETTABLE and (instruction >> 14 & 0x1FF) - 256 in function.makers:
                holds[a] = _MAKER


def without_library_tail_calls(code: bytes) -> bytes:
    """The dump of a chunk, changed as the module says."""
    if not code.startswith(_HEADER):
        return code
    changed = bytearray(code)
    _change(_Chunk(code).function(), [], changed)
    return bytes(changed)
