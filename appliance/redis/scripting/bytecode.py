"""Chunks of Lua whose calls of library functions are no tail calls.

`return redis.call(...)` is a tail call. To redis-server's library functions, written in C, Lua makes it as
any other call, and the script's line is there when the function fails; some of ours are written in Lua,
take the place of the script's frame, and its line is lost. So calls through a global or a field are made
ordinary ones. Those of a script's own functions, by local name, stay as they are: recursion there may be as
deep as it wants.

Source:     Lua 5.1's lopcodes.h (fields of an instruction) and ldump.c (form of a dumped chunk).
Invariants: the code comes from `string.dump` of the same Lua, never from a client.
Errors:     none: a dump of another form is given back as it is.
"""

from __future__ import annotations

import struct
from typing import Final

# Version 5.1, format 0, little endian, sizes of int, size_t, instruction and number, numbers are doubles.
_HEADER: Final = b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"

_GETGLOBAL: Final = 5
_GETTABLE: Final = 6
_CALL: Final = 28
_TAILCALL: Final = 29
# What sets no register, so that field A is something else: SETGLOBAL, SETUPVAL, SETTABLE, JMP, EQ, LT, LE,
# TEST, RETURN, SETLIST, CLOSE.
_SETS_NOTHING: Final = frozenset([7, 8, 9, 22, 23, 24, 25, 26, 30, 34, 35])

_NIL: Final = 0
_BOOLEAN: Final = 1
_NUMBER: Final = 3


class _Chunk:
    """A dumped chunk, walked through from its front and changed in place."""

    def __init__(self, code: bytes) -> None:
        self.code = bytearray(code)
        self.at = len(_HEADER)

    def _integer(self) -> int:
        value: int = struct.unpack_from("<i", self.code, self.at)[0]
        self.at += 4
        return value

    def _skip_string(self) -> None:
        size: int = struct.unpack_from("<Q", self.code, self.at)[0]
        self.at += 8 + size

    def function(self) -> None:
        """One function and those inside of it."""
        self._skip_string()
        self.at += 4 + 4 + 4  # its lines; upvalues, parameters, varargs, registers
        count = self._integer()
        self._instructions(self.at, count)
        self.at += 4 * count
        for _ in range(self._integer()):
            kind = self.code[self.at]
            self.at += 1
            if kind == _BOOLEAN:
                self.at += 1
            elif kind == _NUMBER:
                self.at += 8
            elif kind != _NIL:
                self._skip_string()
        for _ in range(self._integer()):
            self.function()
        lines = self._integer()
        self.at += 4 * lines
        for _ in range(self._integer()):
            self._skip_string()
            self.at += 8
        for _ in range(self._integer()):
            self._skip_string()

    def _instructions(self, start: int, count: int) -> None:
        code = self.code
        instructions = struct.unpack_from(f"<{count}I", code, start)
        for i, instruction in enumerate(instructions):
            if instruction & 0x3F != _TAILCALL:
                continue
            register = instruction >> 6 & 0xFF
            # Arguments lie above the function: the last one that set its register loaded it.
            for before in range(i - 1, -1, -1):
                loader = instructions[before]
                if loader >> 6 & 0xFF == register and loader & 0x3F not in _SETS_NOTHING:
                    if loader & 0x3F in (_GETGLOBAL, _GETTABLE):
                        code[start + 4 * i] = code[start + 4 * i] & 0xC0 | _CALL
                    break


def without_library_tail_calls(code: bytes) -> bytes:
    """The dump of a chunk, changed as the module says."""
    if not code.startswith(_HEADER):
        return code
    chunk = _Chunk(code)
    chunk.function()
    return bytes(chunk.code)
