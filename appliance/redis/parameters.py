"""The configuration parameters: names, kinds and limits, and how a value is read.

The table is parameters.json, section by section as redis.conf has them. `effect` of a row says what a value
does here: `yes`, `part` (it is checked, or counts in part) or `no`; `summary` says what it is for.
appliance/docs/configuration.md is made from it.

A value comes as arguments: the words of a line of redis.conf, or what CONFIG SET was given (kinds in `_LISTS`
take it apart at each space). It is kept as the text that CONFIG GET shows.

Source:     names, kinds, limits and error texts of redis-server 8.2, asked of the server itself.
Invariants: `read` of a parameter's own text gives that text.
Errors:     ValueError with the server's text.
"""

from __future__ import annotations

import json
import pkgutil
from typing import Any, Final

from appliance.redis.doubles import parse_double
from appliance.redis.integers import I64_MAX, I64_MIN, U64_MAX, parse_integer
from appliance.redis.notifications import event_classes, event_letters

CLIENT_CLASSES: Final = (b"normal", b"slave", b"pubsub")
"""Of client-output-buffer-limit, in the order in which it is shown; the second is also called replica."""

_UNITS: Final[dict[bytes, int]] = {
    b"": 1,
    b"b": 1,
    b"k": 1000,
    b"kb": 1024,
    b"m": 1000**2,
    b"mb": 1024**2,
    b"g": 1000**3,
    b"gb": 1024**3,
}
_DIGITS: Final = b"0123456789"
_MOST_DIGITS: Final = 127  # of a memory value
_LISTS: Final = frozenset(["addresses", "buffer limits", "flags", "percentiles", "save points", "scores"])
_MOST_ADDRESSES: Final = 16
_MOST_HOST_NAME: Final = 255
_SCORE: Final = 2000
# What proc-title-template may speak of, and whether it comes to any text.
_TITLE_WORDS: Final = {
    b"title": False,
    b"listen-addr": True,
    b"server-mode": False,
    b"port": True,
    b"tls-port": True,
    b"unixsocket": False,
    b"config-file": True,
}
# Those that sort as SORT ALPHA does here, by bytes.
_LOCALES: Final = frozenset([b"", b"C", b"POSIX", b"C.UTF-8", b"C.utf8"])
# Numbers and these are read to their end; every other text ends at a NUL, as in C.
_BINARY: Final = frozenset(["requirepass", "masterauth", "cluster-announce-human-nodename"])
_BINARY_KINDS: Final = frozenset(["integer", "unsigned", "percentiles"])
_NOT_IN_A_NODE_NAME: Final = b"!#$%&()*+:;<>?@[]{|}~\0"
_FILE_NAMES: Final = frozenset(["dbfilename", "appendfilename", "appenddirname"])


class Parameter:
    """One parameter, as its row says.

    Attributes:
        name, alias: as they are written; an alias is the name of older servers, or b"".
        kind: which texts it takes.
        default: as CONFIG GET shows it.
        low, high: of a number.
        choices: of an enumeration.
        effect, summary: for the docs.
        section: of redis.conf.
    """

    def __init__(self, section: str, row: dict[str, Any]) -> None:
        flags: list[str] = row.get("flags", [])
        self.section = section
        self.name: bytes = row["name"].encode()
        self.alias: bytes = row.get("alias", "").encode()
        self.kind: str = row["kind"]
        self.default: bytes = row["default"].encode()
        self.low: int = row.get("low", I64_MIN)
        self.high: int = row.get("high", I64_MAX)
        self.choices: list[bytes] = [choice.encode() for choice in row.get("choices", [])]
        self.is_immutable = "immutable" in flags  # fixed at the start
        self.is_protected = "protected" in flags  # likewise, unless enable-protected-configs
        self.is_hidden = "hidden" in flags  # no pattern matches it
        self.is_sensitive = "sensitive" in flags  # must not be shown in logs
        self.is_percent = "percent" in flags  # takes a percentage too
        self.effect: str = row["effect"]
        self.summary: str = row["summary"]

    @property
    def is_list(self) -> bool:
        """Whether a value is several words."""
        return self.kind in _LISTS

    def words(self, text: bytes) -> list[bytes]:
        """The arguments that a text given to CONFIG SET stands for."""
        if not self.is_list:
            return [text]
        return text.split(b" ") if text else []

    def read(self, words: list[bytes], current: bytes) -> bytes:
        """The value as CONFIG GET will show it.

        Args:
            words: the arguments.
            current: the value so far, which some kinds only amend.

        Raises:
            ValueError: with the reason, in the server's words.
        """
        kind = self.kind
        if kind not in _BINARY_KINDS and self.name.decode() not in _BINARY:
            words = [word.partition(b"\0")[0] for word in words]
        if kind == "save points":
            return _save_points(words)
        if kind == "buffer limits":
            return _buffer_limits(words, current)
        if kind == "scores":
            return _scores(words)
        if kind == "percentiles":
            return _percentiles(words)
        if kind == "addresses":
            return _addresses(words)
        if kind == "flags":
            return self._flags(words)
        if kind == "master":
            return _master(words)
        if len(words) != 1:
            raise ValueError("wrong number of arguments")
        text = words[0]
        if kind == "string":
            self._check_string(text)
            return text
        if kind == "events":
            return event_letters(event_classes(text.decode("latin-1"))).encode()
        if kind == "bool":
            value = text.lower()
            if value not in (b"yes", b"no"):
                raise ValueError("argument must be 'yes' or 'no'")
            return value
        if kind == "enum":
            return self._choice(text)
        return self._number(text)

    def _choice(self, text: bytes) -> bytes:
        value = text.lower()
        if value not in self.choices:
            raise ValueError("argument(s) must be one of the following: " + b", ".join(self.choices).decode())
        return value

    def _flags(self, words: list[bytes]) -> bytes:
        """Several of the choices, of which the first means none."""
        chosen = [self._choice(word) for word in words or [b""]]
        found = [choice for choice in self.choices[1:] if choice in chosen]
        if b"save" in found and b"nosave" in found:
            raise ValueError("shutdown options SAVE and NOSAVE can't be used simultaneously")
        return b" ".join(found) if found else self.choices[0]

    def _number(self, text: bytes) -> bytes:
        kind = self.kind
        number: int | None
        if kind in ("memory", "signed memory"):
            if self.is_percent and text.endswith(b"%"):
                return self._percent(text[:-1])
            number = parse_memory(text)
            if number is None:
                raise ValueError(
                    "argument must be a memory or percent value"
                    if self.is_percent
                    else "argument must be a memory value"
                )
            # The server's variable is signed, and a percentage is kept as a negative number.
            if number > I64_MAX:
                number -= U64_MAX + 1
            if self.is_percent and number < 0:
                return self._percentage(-number)
        elif kind == "octal":
            number = int(text, 8) if text and not text.strip(b"01234567") else None
            if text.startswith(b"-") and not text[1:].strip(_DIGITS):
                number = -1
            if number is None or number > U64_MAX:
                raise ValueError("argument couldn't be parsed as an octal number")
        else:
            number = parse_integer(text)
            if number is None:
                raise ValueError("argument couldn't be parsed into an integer")
        if kind in ("unsigned", "memory", "octal") and number < 0:
            raise ValueError("argument must be greater or equal to 0")
        if not self.low <= number <= self.high:
            if kind == "octal":
                raise ValueError(f"argument must be between {self.low:o} and {self.high:o} inclusive")
            raise ValueError(f"argument must be between {self.low} and {self.high} inclusive")
        return b"%o" % number if kind == "octal" else b"%d" % number

    def _percent(self, text: bytes) -> bytes:
        number = parse_integer(text)
        if number is None or number < 0:
            raise ValueError("argument must be a memory or percent value")
        return self._percentage(number)

    @staticmethod
    def _percentage(number: int) -> bytes:
        if number > 100:
            raise ValueError("percentage argument must be less or equal to 100")
        return b"%d%%" % number if number else b"0"

    def _check_string(self, text: bytes) -> None:
        name = self.name.decode()
        if name in ("appendfilename", "appenddirname") and not text:
            raise ValueError(f"{name} can't be empty")
        if name in _FILE_NAMES and b"/" in text:
            kind = "dirname" if name == "appenddirname" else "filename"
            raise ValueError(f"{name} can't be a path, just a {kind}")
        if name == "proc-title-template":
            _check_title(text)
        elif name == "cluster-announce-hostname":
            _check_host_name(text)
        elif name == "cluster-announce-human-nodename":
            if any(byte in _NOT_IN_A_NODE_NAME for byte in text):
                raise ValueError("Announced human node name contained invalid character")
        elif name == "locale-collate" and text not in _LOCALES:
            raise ValueError("Invalid locale name")


def parse_memory(text: bytes) -> int | None:
    """A size such as `64mb`, modulo 2**64 as in the server; None if it is none."""
    digits = text[: len(text) - len(text.lstrip(_DIGITS))]
    unit = _UNITS.get(text[len(digits) :].lower())
    if unit is None or len(digits) > _MOST_DIGITS:
        return None
    return (min(int(digits or b"0"), U64_MAX) * unit) & U64_MAX


def _save_points(words: list[bytes]) -> bytes:
    if words == [b""]:
        return b""
    if len(words) % 2:
        raise ValueError("Invalid save parameters")
    shown: list[bytes] = []
    for at in range(0, len(words), 2):
        seconds, changes = _c_integer(words[at]), _c_integer(words[at + 1])
        if seconds is None or changes is None or seconds < 1 or changes < 0:
            raise ValueError("Invalid save parameters")
        shown.append(b"%d %d" % (seconds, changes))
    return b" ".join(shown)


def _c_integer(text: bytes) -> int | None:
    """As the C library's strtol reads a whole text: a sign, and nothing at all for zero."""
    digits = text.lstrip(b" \t\n\v\f\r")
    sign = -1 if digits.startswith(b"-") else 1
    if digits[:1] in (b"-", b"+"):
        digits = digits[1:]
    if digits == b"":
        return 0 if text == b"" else None
    if digits.strip(_DIGITS):
        return None
    return max(I64_MIN, min(I64_MAX, sign * int(digits)))


def buffer_limits(text: bytes) -> list[list[int]]:
    """Hard limit, soft limit and soft seconds of each class of clients, from the value of its parameter."""
    words = text.split()
    return [[int(word) for word in words[at + 1 : at + 4]] for at in range(0, len(words), 4)]


def _buffer_limits(words: list[bytes], current: bytes) -> bytes:
    if len(words) % 4:
        raise ValueError("Wrong number of arguments in buffer limit configuration.")
    limits = buffer_limits(current)
    for at in range(0, len(words), 4):
        name = words[at].lower()
        if name == b"replica":
            name = b"slave"
        if name not in CLIENT_CLASSES:
            raise ValueError("Invalid client class specified in buffer limit configuration.")
        hard, soft = parse_memory(words[at + 1]), parse_memory(words[at + 2])
        seconds = _c_integer(words[at + 3])
        if seconds is not None:
            seconds = (seconds + (1 << 31)) % (1 << 32) - (1 << 31)
        if hard is None or soft is None or seconds is None or seconds < 0:
            raise ValueError("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
        limits[CLIENT_CLASSES.index(name)] = [hard, soft, seconds]
    return b" ".join(
        b"%b %d %d %d" % (name, limit[0], limit[1], limit[2])
        for name, limit in zip(CLIENT_CLASSES, limits, strict=True)
    )


def _scores(words: list[bytes]) -> bytes:
    if len(words) != 3:
        raise ValueError("wrong number of arguments")
    scores: list[bytes] = []
    for word in words:
        score = _c_integer(word)
        if score is None or not -_SCORE <= score <= _SCORE:
            raise ValueError(
                f"Invalid oom-score-adj-values, elements must be between -{_SCORE} and {_SCORE}."
            )
        scores.append(b"%d" % score)
    return b" ".join(scores)


def _percentiles(words: list[bytes]) -> bytes:
    if words == [b""]:
        return b""
    shown: list[bytes] = []
    for word in words:
        value = parse_double(word)
        if value != value:
            raise ValueError("Invalid latency-tracking-info-percentiles parameters")
        if not 0 <= value <= 100:
            raise ValueError("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
        shown.append((f"{value:.6f}".rstrip("0").rstrip(".") or "0").encode())
    return b" ".join(shown)


def _addresses(words: list[bytes]) -> bytes:
    if words == [b""]:
        return b""
    if len(words) > _MOST_ADDRESSES:
        raise ValueError("Too many bind addresses specified.")
    return b" ".join(words)


def _master(words: list[bytes]) -> bytes:
    if len(words) != 2:
        raise ValueError("wrong number of arguments")
    if [word.lower() for word in words] == [b"no", b"one"]:
        return b""
    port = _c_integer(words[1])
    if port is None or not 0 <= port <= 65535:
        raise ValueError("Invalid master port")
    return b" ".join(words)


def _check_title(text: bytes) -> None:
    """A template: text with words in braces, of which something must be left."""
    is_empty = True
    at = 0
    while at < len(text):
        if text[at : at + 2] == b"{{":
            is_empty = False
            at += 2
        elif text[at : at + 1] == b"{":
            end = text.find(b"}", at)
            word = text[at + 1 : end] if end >= 0 else b""
            if word not in _TITLE_WORDS:
                raise ValueError("template format is invalid or contains unknown variables")
            is_empty = is_empty and not _TITLE_WORDS[word]
            at = end + 1
        else:
            is_empty = is_empty and text[at : at + 1] == b" "
            at += 1
    if is_empty:
        raise ValueError("template format is invalid or contains unknown variables")


def _check_host_name(text: bytes) -> None:
    if len(text) > _MOST_HOST_NAME:
        raise ValueError("Hostnames must be less than 256 characters")
    if text.translate(None, b"-.") != b"" and not text.translate(None, b"-.").isalnum():
        raise ValueError("Hostnames may only contain alphanumeric characters, hyphens or dots")


# Filled by the first configuration; the file cannot change while the process runs.
_loaded: list[Parameter] = []


def load_parameters() -> list[Parameter]:
    """All rows, section after section."""
    if not _loaded:
        data = pkgutil.get_data("appliance.redis", "parameters.json")
        if data is None:
            raise ValueError("the table of parameters cannot be read")
        sections: dict[str, list[dict[str, Any]]] = json.loads(data)
        _loaded.extend([Parameter(name, row) for name, rows in sections.items() for row in rows])
    return _loaded
