"""Libraries of functions: FUNCTION LOAD and what becomes of it.

A library is the code of one FUNCTION LOAD. Its first line names the engine and the library, and running it
once registers its functions. A change that fails leaves everything as it was.

Source:     redis-server 8.2: order of checks, texts, the form of DUMP.
Invariants: names of functions are unique over all libraries, in any case of letters (within one the case
            counts); a library has at least one function.
Errors:     CommandError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.errors import CommandError
from appliance.redis.resp import split_arguments
from appliance.redis.scripting.runtime import FLAG_NAMES

if TYPE_CHECKING:
    from appliance.redis.scripting.scripts import Scripts

_LOADING_LIMIT_NS: Final = 500_000_000
_NAME_LETTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_BAD_NAME: Final = (
    b"ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one "
    b"character long"
)


class Function:
    """A function of a library."""

    def __init__(self, name: bytes, description: bytes | None, flags: int, flag_names: list[bytes]) -> None:
        self.name = name
        self.description = description
        self.flags = flags
        self.flag_names = flag_names
        self.callback: object = None


class Library:
    """A library and its functions, by name."""

    def __init__(self, name: bytes, code: bytes, functions: dict[bytes, Function]) -> None:
        self.name = name
        self.code = code
        self.functions = functions


def _is_name(name: bytes) -> bool:
    return len(name) > 0 and all(letter in _NAME_LETTERS for letter in name)


def parse_metadata(code: bytes) -> tuple[bytes, int]:
    """The name of a library and the length of its first line.

    Raises:
        CommandError: that line is none of a library.
    """
    if not code.startswith(b"#!"):
        raise CommandError(b"ERR Missing library metadata")
    end = code.find(b"\n")
    if end < 0 or b"\0" in code[:end]:
        raise CommandError(b"ERR Invalid library metadata")
    words = split_arguments(code[:end])
    if words is None:
        raise CommandError(b"ERR Invalid library metadata")
    engine = words[0][2:]
    name: bytes | None = None
    for word in words[1:]:
        if not word.startswith(b"name="):
            raise CommandError(b"ERR Invalid metadata value given: " + word)
        if name is not None:
            raise CommandError(b"ERR Invalid metadata value, name argument was given multiple times")
        name = word[len(b"name=") :]
    if name is None:
        raise CommandError(b"ERR Library name was not given")
    if not _is_name(name):
        raise CommandError(_BAD_NAME)
    if engine.lower() != b"lua":
        raise CommandError(b"ERR Engine '" + engine + b"' not found")
    return name, end


class Libraries:
    """All libraries of an engine."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts
        self.by_name: dict[bytes, Library] = {}
        self.functions: dict[bytes, Function] = {}
        self._registered: list[Function] = []
        self._loading_since_ns: i64 = 0

    # Called by Lua while a library is being loaded -------------------------------------------------

    def register(self, name: bytes, description: object, flags: bytes) -> bytes | None:
        """redis.register_function: the text of an error, or None."""
        if not _is_name(name):
            return _BAD_NAME
        for other in self._registered:
            if other.name == name:
                return b"ERR Function already exists in the library"
        bits = 0
        names: list[bytes] = []
        for flag in flags.split():
            bits |= FLAG_NAMES[flag]
        for flag, bit in FLAG_NAMES.items():
            if bits & bit:
                names.append(flag)
        text = description if isinstance(description, bytes) else None
        self._registered.append(Function(name, text, bits, names))
        return None

    def tick(self) -> bytes | None:
        """Lua asks whether to go on with loading."""
        if self.scripts.engine.stopwatch() - self._loading_since_ns > _LOADING_LIMIT_NS:
            return b"ERR FUNCTION LOAD timeout"
        return None

    # Changes --------------------------------------------------------------------------------------

    def load(self, code: bytes, is_replacing: bool) -> bytes:
        """Add a library; its name.

        Raises:
            CommandError: it is none, or collides with others.
        """
        name, start = parse_metadata(code)
        if not is_replacing and name in self.by_name:
            raise CommandError(b"ERR Library '" + name + b"' already exists")
        library = self._made(name, code, start)
        old = self.by_name.get(name)
        for function in library.functions.values():
            found = self.functions.get(function.name.lower())
            if found is not None and (old is None or found not in old.functions.values()):
                raise CommandError(b"ERR Function " + function.name + b" already exists")
        if old is not None:
            self._remove(old)
        self._add(library)
        return name

    def _made(self, name: bytes, code: bytes, start: i64) -> Library:
        """Run a library's code."""
        runtime = self.scripts.runtime
        self._registered = []
        self._loading_since_ns = self.scripts.engine.stopwatch()
        callbacks = runtime.load_library(code[start:])
        functions: dict[bytes, Function] = {}
        index = 0
        for function in self._registered:
            index += 1
            function.callback = runtime.callback(callbacks, index)
            functions[function.name] = function
        self._registered = []
        if index == 0:
            raise CommandError(b"ERR No functions registered")
        return Library(name, code, functions)

    def _add(self, library: Library) -> None:
        self.by_name[library.name] = library
        for function in library.functions.values():
            # Of two that differ in case alone, which a library may have, the first one is called.
            self.functions.setdefault(function.name.lower(), function)

    def _remove(self, library: Library) -> None:
        del self.by_name[library.name]
        for function in library.functions.values():
            self.functions.pop(function.name.lower(), None)

    def delete(self, name: bytes) -> None:
        """FUNCTION DELETE.

        Raises:
            CommandError: there is no such library.
        """
        library = self.by_name.get(name)
        if library is None:
            raise CommandError(b"ERR Library not found")
        self._remove(library)

    def flush(self) -> None:
        """Forget all libraries."""
        self.by_name = {}
        self.functions = {}

    def restore(self, codes: list[bytes], policy: bytes) -> None:
        """FUNCTION RESTORE.

        Args:
            codes: of the libraries.
            policy: `flush`, `append` or `replace`.

        Raises:
            CommandError: one of them is no library, or collides; then all is as before.
        """
        libraries: dict[bytes, Library] = {}
        functions: dict[bytes, Function] = {}
        for code in codes:
            name, start = parse_metadata(code)
            if name in libraries:
                raise CommandError(b"ERR Library '" + name + b"' already exists")
            library = self._made(name, code, start)
            for function in library.functions.values():
                if function.name.lower() in functions:
                    raise CommandError(b"ERR Function " + function.name + b" already exists")
            libraries[name] = library
            for function in library.functions.values():
                functions.setdefault(function.name.lower(), function)
        if policy == b"flush":
            self.flush()
        gone: set[bytes] = set()
        for name in libraries:
            old = self.by_name.get(name)
            if old is not None:
                if policy != b"replace":
                    raise CommandError(b"ERR Library " + name + b" already exists")
                gone.update([name.lower() for name in old.functions])
        for lower, function in functions.items():
            if lower in self.functions and lower not in gone:
                raise CommandError(b"ERR Function " + function.name + b" already exists")
        for library in libraries.values():
            old = self.by_name.get(library.name)
            if old is not None:
                self._remove(old)
        for library in libraries.values():
            self._add(library)

    def memory(self) -> int:
        """Bytes of the libraries, beside what Lua has of them."""
        return sum([len(library.code) + 200 for library in self.by_name.values()])
