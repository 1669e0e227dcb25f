"""Configuration: the parameters' values, what CONFIG GET shows and CONFIG SET takes.

A value is kept as the text CONFIG GET gives. Whoever cares for a parameter reads it when
`Engine.configuration_changed` comes (`_follow_configuration`), or, if it can refuse a value, asks to be told
by `on_change`.

Source:     order of checks and error texts of redis-server 8.2's CONFIG.
Invariants: `set_many` applies all of its pairs or none.
Errors:     CommandError with the server's text.
Not here:   the parameters themselves (parameters.py) and redis.conf (config_file.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis.arguments import c_string
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.notifications import event_classes
from appliance.redis.parameters import Parameter, load_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

_MIN_HZ: Final = 1
_MAX_HZ: Final = 500
_MIN_BACKLOG: Final = 16 * 1024
_HZ_PERIODS: Final = 2000  # milliseconds of two periods at 1 Hz: the watchdog's least time
# A parameter name without one of these is no pattern.
_MARKS: Final = (b"*", b"?", b"[")


class Configuration:
    """The parameters of one engine and their values."""

    def __init__(self, overrides: dict[str, str]) -> None:
        """Defaults, changed by `overrides`, which may set immutable parameters too.

        Raises:
            ValueError: a value its parameter does not take.
            KeyError: no parameter of that name.
        """
        # By lower-case name; aliases too, each leading to the parameter it became.
        self._parameters: dict[bytes, Parameter] = {}
        self._values: dict[bytes, bytes] = {}
        self._followers: dict[bytes, Callable[[bytes], None]] = {}
        for parameter in load_parameters():
            self._parameters[parameter.name] = parameter
            if parameter.alias:
                self._parameters[parameter.alias] = parameter
            self._values[parameter.name] = parameter.default
        # Names of parameters whose lines in redis.conf say what cannot be here: CONFIG REWRITE leaves them.
        self.left_alone: set[bytes] = set()
        self.requirepass: bytes = b""
        # What notify-keyspace-events was set to: its text does not show all of it.
        self.event_flags: int = 0
        self.override(overrides)

    def override(self, values: dict[str, str]) -> None:
        """Set parameters at the start, immutable ones too.

        Raises:
            ValueError: a value its parameter does not take.
            KeyError: no parameter of that name.
        """
        for name, text in values.items():
            parameter = self._parameters[name.encode()]
            self._values[parameter.name] = self._read(parameter, parameter.words(text.encode()))
            if parameter.kind == "events":
                self.event_flags = event_classes(text)
        self.requirepass = self._values[b"requirepass"]

    def set_from_file(self, parameter: Parameter, words: list[bytes]) -> bool:
        """Set a parameter from a line of redis.conf; whether it took the value.

        One that would promise something that is not there keeps its default.

        Raises:
            ValueError: it does not take that value.
        """
        value = self._read(parameter, words)
        try:
            _check_possible(parameter, value)
        except ValueError:
            self._values[parameter.name] = parameter.default
            self.left_alone.add(parameter.name)
            return False
        self._values[parameter.name] = value
        self.left_alone.discard(parameter.name)
        if parameter.kind == "events":
            self.event_flags = event_classes(words[0].decode("latin-1"))
        self.requirepass = self._values[b"requirepass"]
        return True

    # Values ---------------------------------------------------------------------------------------

    def integer(self, name: str) -> int:
        return int(self._values[name.encode()])

    def text(self, name: str) -> bytes:
        return self._values[name.encode()]

    def is_on(self, name: str) -> bool:
        """Of a parameter that is yes or no."""
        return self._values[name.encode()] == b"yes"

    def parameters(self) -> list[Parameter]:
        """All of them, each once, in the order of redis.conf."""
        return [self._parameters[name] for name in self._values]

    def find(self, name: bytes) -> Parameter | None:
        """The parameter of that name or alias, in any case."""
        return self._parameters.get(name.lower())

    def on_change(self, name: str, callback: Callable[[bytes], None]) -> None:
        """Have `callback` called with the new value whenever CONFIG SET changes a parameter.

        It may refuse the value by a ValueError, whose text the client gets; then nothing is changed.
        """
        self._followers[name.encode()] = callback

    def matching(self, patterns: list[bytes]) -> list[tuple[bytes, bytes]]:
        """Names and values of all parameters that one of the glob patterns matches, each once."""
        found: dict[bytes, bytes] = {}
        seen: set[bytes] = set()
        for pattern in patterns:
            if not any(mark in pattern for mark in _MARKS):
                # A plain name comes back in the spelling it was asked for, and hidden ones come too.
                parameter = self.find(pattern)
                if parameter is not None and pattern.lower() not in seen:
                    seen.add(pattern.lower())
                    found[pattern] = self._values[parameter.name]
                continue
            for name, parameter in self._parameters.items():
                if (
                    not parameter.is_hidden
                    and name not in seen
                    and glob_match(pattern, name, ignore_case=True)
                ):
                    seen.add(name)
                    found[name] = self._values[parameter.name]
        return list(found.items())

    # Changes --------------------------------------------------------------------------------------

    def set_many(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Set all pairs, or none when one of them is wrong.

        Raises:
            CommandError: naming the first argument that is wrong.
        """
        known = self._known(pairs)
        before = dict(self._values)
        events = self.event_flags
        try:
            for name, parameter, text in known:
                words = parameter.words(text)
                try:
                    self._values[parameter.name] = self._read(parameter, words)
                except ValueError as error:
                    raise CommandError(_failed(name, str(error))) from None
                if parameter.kind == "events":
                    # As `read` has taken it: up to a NUL. From the value some classes cannot be told.
                    events = event_classes(c_string(text).decode("latin-1"))
            self._tell(known, before)
        except CommandError:
            self._values = before
            raise
        self.event_flags = events
        self.requirepass = self._values[b"requirepass"]
        self.left_alone.difference_update(parameter.name for _, parameter, _ in known)

    def _known(self, pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, Parameter, bytes]]:
        """Name as the parameter or its alias is written, parameter, and text, of each pair.

        Raises:
            CommandError: one is not known, may not be changed, or is there twice.
        """
        known: dict[bytes, tuple[bytes, Parameter, bytes]] = {}
        for name, text in pairs:
            parameter = self.find(name)
            if parameter is None:
                raise CommandError(
                    b"ERR Unknown option or number of arguments for CONFIG SET - '" + c_string(name) + b"'"
                )
            if parameter.is_immutable:
                raise CommandError(_failed(name, "can't set immutable config"))
            if parameter.is_protected and self._values[b"enable-protected-configs"] == b"no":
                raise CommandError(_failed(name, "can't set protected config"))
            # A parameter and its alias are two, also for the server.
            if name.lower() in known:
                raise CommandError(_failed(name, "duplicate parameter"))
            known[name.lower()] = (name.lower(), parameter, text)
        return list(known.values())

    def _read(self, parameter: Parameter, words: list[bytes]) -> bytes:
        value = parameter.read(words, self._values[parameter.name])
        # What the server puts right instead of refusing it.
        if parameter.name == b"hz":
            return b"%d" % max(_MIN_HZ, min(_MAX_HZ, int(value)))
        if parameter.name == b"repl-backlog-size":
            return b"%d" % max(_MIN_BACKLOG, int(value))
        if parameter.name == b"watchdog-period" and value != b"0":
            return b"%d" % max(_HZ_PERIODS // int(self._values[b"hz"]), int(value))
        return value

    def _tell(self, known: list[tuple[bytes, Parameter, bytes]], before: dict[bytes, bytes]) -> None:
        """Tell those who asked for it; if one refuses, tell them of the old values and fail."""
        told: list[bytes] = []
        for name, parameter, _ in known:
            value = self._values[parameter.name]
            if value == before[parameter.name]:
                continue
            try:
                _check_possible(parameter, value)
                follower = self._followers.get(parameter.name)
                if follower is not None:
                    follower(value)
                    told.append(parameter.name)
            except ValueError as error:
                for other in told:
                    self._followers[other](before[other])
                raise CommandError(_failed(name, str(error))) from None


def _check_possible(parameter: Parameter, value: bytes) -> None:
    """Refuse what would promise something that is not there, in the words of a server that fails at it.

    Raises:
        ValueError: with those words.
    """
    if parameter.name == b"appendonly" and value == b"yes":
        raise ValueError("Unable to turn on AOF. Check server logs.")
    if (parameter.name == b"tls-port" and value != b"0") or (
        parameter.name in (b"tls-replication", b"tls-cluster") and value == b"yes"
    ):
        raise ValueError("Unable to update TLS configuration. Check server logs.")
    if (parameter.name == b"cluster-enabled" and value == b"yes") or (
        parameter.name == b"replicaof" and value
    ):
        raise ValueError("can't set immutable config")  # they are: only a file can ask for it


def _failed(name: bytes, reason: str) -> bytes:
    return b"ERR CONFIG SET failed (possibly related to argument '" + name + b"') - " + reason.encode()
