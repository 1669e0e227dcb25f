"""What a client is told when a command cannot be carried out.

Source:     the replies of redis-server 8.2, compared byte for byte by tests/conformance/redis.
Invariants: an error text never holds CR or LF: `error_reply` turns them into spaces, as Redis does.
Errors:     `CommandError` is the one exception a handler raises on purpose; the session makes a reply of it.
"""

from __future__ import annotations

from typing import Final

from appliance.errors import ApplianceError


class CommandError(ApplianceError):
    """A command failed; `message` is the whole error line without the leading `-` (`ERR syntax error`)."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message.decode("latin-1"))
        self.message = message


WRONG_TYPE: Final = b"WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX: Final = b"ERR syntax error"
NO_KEY: Final = b"ERR no such key"
SAME_OBJECT: Final = b"ERR source and destination objects are the same"
DB_INDEX_RANGE: Final = b"ERR DB index is out of range"
NOT_AN_INTEGER: Final = b"ERR value is not an integer or out of range"
NOT_POSITIVE: Final = b"ERR value is out of range, must be positive"
NOT_A_FLOAT: Final = b"ERR value is not a valid float"
NAN_OR_INFINITY: Final = b"ERR increment would produce NaN or Infinity"
OVERFLOW: Final = b"ERR increment or decrement would overflow"
DECREMENT_OVERFLOW: Final = b"ERR decrement would overflow"
STRING_TOO_LONG: Final = b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"
OFFSET_RANGE: Final = b"ERR offset is out of range"
INVALID_CURSOR: Final = b"ERR invalid cursor"
NO_SCRIPT: Final = b"NOSCRIPT No matching script. Please use EVAL."
NO_AUTH: Final = b"NOAUTH Authentication required."
WRONG_PASS: Final = b"WRONGPASS invalid username-password pair or user is disabled."
OUT_OF_MEMORY: Final = b"OOM command not allowed when used memory > 'maxmemory'."

# sdscatprintf("%.*s") in the server: how much of a name, and of all arguments together, an error repeats.
_QUOTED_LENGTH: Final = 128


def wrong_arity(name: bytes) -> bytes:
    return b"ERR wrong number of arguments for '" + name + b"' command"


def protected_command(parameter: str) -> bytes:
    """What DEBUG and MODULE answer where `parameter` does not allow them."""
    name = parameter.split("-")[1].upper()
    return (
        f'ERR {name} command not allowed. If the {parameter} option is set to "local", you can run it from a '
        "local connection, otherwise you need to set this option in the configuration file, and then restart "
        "the server."
    ).encode()


def invalid_expire(name: bytes) -> bytes:
    return b"ERR invalid expire time in '" + name + b"' command"


def quoted(text: bytes, limit: int = _QUOTED_LENGTH) -> bytes:
    """What C's `%.*s` prints of `text`: up to `limit` bytes, and none from the first NUL on."""
    return text[:limit].split(b"\0", 1)[0]


def unknown_command(args: list[bytes]) -> bytes:
    shown = b""
    for argument in args[1:]:
        if len(shown) >= _QUOTED_LENGTH:
            break
        shown += b"'" + quoted(argument, _QUOTED_LENGTH - len(shown)) + b"' "
    return b"ERR unknown command '" + quoted(args[0]) + b"', with args beginning with: " + shown


def unknown_subcommand(container: bytes, subcommand: bytes) -> bytes:
    return b"ERR unknown subcommand '" + quoted(subcommand) + b"'. Try " + container.upper() + b" HELP."


def unknown_subcommand_or_arity(container: bytes, subcommand: bytes) -> bytes:
    """A handler met a form of its subcommand that it does not know."""
    return (
        b"ERR unknown subcommand or wrong number of arguments for '"
        + quoted(subcommand)
        + b"'. Try "
        + container.upper()
        + b" HELP."
    )
