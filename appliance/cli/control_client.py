"""Asking a running appliance over its control socket: RESP on a unix socket, blocking, with a time limit.

Errors: `HostError`, one line: nobody listens there, it may not be opened, no answer in time, an error reply.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from appliance.errors import HostError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from appliance.config import Settings

# Set by `redtap exec` for the command it runs, so that `redtap status` in there finds its appliance.
CONTROL_VARIABLE: Final = "REDTAP_CONTROL_SOCKET"

_PATIENCE_S: Final = 5.0
_MAX_DEPTH: Final = 16

Reply: TypeAlias = "str | int | list[Any] | dict[str, Any] | None"


class ErrorReply(HostError):
    """The appliance answered with an error."""


class ClosedError(HostError):
    """The appliance has closed the connection."""


def control_socket(settings: Settings) -> str:
    """The control socket the settings point to."""
    from appliance.config import Settings as Defaults

    if settings.control is None and settings.netns == Defaults.netns and os.environ.get(CONTROL_VARIABLE):
        return os.environ[CONTROL_VARIABLE]
    return settings.control_path()


class ControlClient:
    """One connection to a control socket; a context manager."""

    def __init__(self, path: str, patience_s: float = _PATIENCE_S) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience_s)
        try:
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            self._socket.close()
            raise HostError(f"no appliance is running behind {path}: start one with redtap serve") from None
        except OSError as exc:
            self._socket.close()
            raise HostError(
                f"{path}: {exc.strerror or exc}: ask as the user who runs the appliance"
            ) from None
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        self._socket.close()

    def ask(self, *words: str) -> Reply:
        """Send one request and return its reply.

        Raises:
            ErrorReply: the reply is an error.
            HostError: there is none.
        """
        request = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word.encode()
            request.append(b"$%d\r\n%b\r\n" % (len(data), data))
        try:
            self._socket.sendall(b"".join(request))
            return self._read(0)
        except TimeoutError:
            raise HostError(f"{self.path}: no answer within {_PATIENCE_S:g} s") from None
        except ConnectionError as exc:
            raise ClosedError(f"{self.path}: {exc.strerror or exc}") from None
        except OSError as exc:
            raise HostError(f"{self.path}: {exc.strerror or exc}") from None

    def ask_map(self, *words: str) -> dict[str, Any]:
        """`ask` for a reply that is a map, which RESP2 sends as a flat array."""
        reply = self.ask(*words)
        return reply if isinstance(reply, dict) else _pairs(reply)

    def ask_maps(self, *words: str) -> list[dict[str, Any]]:
        """`ask` for a reply that is an array of maps."""
        reply = self.ask(*words)
        if not isinstance(reply, list):
            raise HostError(f"{self.path}: not an array: {reply!r}")
        return [entry if isinstance(entry, dict) else _pairs(entry) for entry in reply]

    def _line(self) -> bytes:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ClosedError(f"{self.path}: the appliance closed the connection")
        return line[:-2]

    def _read(self, depth: int) -> Reply:
        if depth > _MAX_DEPTH:
            raise HostError(f"{self.path}: a reply nested too deeply")
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode(errors="replace")
        if kind == b"-":
            raise ErrorReply(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"_" or (kind in (b"$", b"*") and rest == b"-1"):
            return None
        if kind == b"$":
            data = self._reader.read(int(rest) + 2)
            return data[:-2].decode(errors="replace")
        if kind == b"*":
            return [self._read(depth + 1) for _ in range(int(rest))]
        if kind == b"%":
            return {str(self._read(depth + 1)): self._read(depth + 1) for _ in range(int(rest))}
        raise HostError(f"{self.path}: what answers there is no appliance ({line[:20]!r})")


def _pairs(reply: Reply) -> dict[str, Any]:
    if not isinstance(reply, list) or len(reply) % 2:
        raise HostError(f"not a map: {reply!r}")
    return {str(key): value for key, value in zip(reply[::2], reply[1::2], strict=True)}
