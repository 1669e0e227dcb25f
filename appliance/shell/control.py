"""The control socket: a unix socket that speaks RESP and never depends on the data path.

It serves every Redis command, on a session of its own, and `REDTAP …`, which clients over TCP do not have:

    REDTAP STATUS | COUNTERS          a map
    REDTAP CONNS | LISTENERS | NEIGHBORS   an array of maps
    REDTAP STOP                       graceful shutdown
    REDTAP HELP

`redis-cli -s PATH` works on it; the health check and the other subcommands of `redtap` use it. It is served
by the kernel's unix sockets and a task of its own, so it answers while every packet is being dropped.

Invariants: the socket and its directory are the owner's alone (0600, 0700). The file is there exactly while
            somebody listens on it, except after a kill -9: the next start with that name replaces it.
Errors:     `HostError` when the socket cannot be made, or a living process serves it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from appliance.errors import HostError
from appliance.redis.registry import private_command
from appliance.redis.replies import Map, SimpleError, SimpleString
from appliance.shell.addresses import format_address, format_endpoint
from appliance.shell.redis_service import serve_session
from appliance.stack.tcp.state import rfc_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from appliance.redis.engine import Engine
    from appliance.redis.session import Session
    from appliance.shell.network import Network
    from appliance.stack.tcp.connection import Connection

__all__ = [
    "ControlServer",
    "bound_control_socket",
    "encode_request",
]


_HELP: Final = (
    "REDTAP <subcommand>. Subcommands are:",
    "STATUS -- what runs here, since when, with which addresses and limits.",
    "CONNS -- every TCP connection with its state, windows, round-trip time and counters.",
    "COUNTERS -- everything the stack counts.",
    "LISTENERS -- the ports that are listened on.",
    "NEIGHBORS -- the ARP cache.",
    "STOP -- shut down gracefully.",
    "HELP -- this text.",
)


def encode_request(arguments: list[bytes]) -> bytes:
    """A request as clients send it: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


@contextmanager
def bound_control_socket(path: str | os.PathLike[str]) -> Iterator[socket.socket]:
    """A listening unix socket at `path` for the length of the block; the file is removed after it.

    Raises:
        HostError: It cannot be made, or a living process listens there.
    """
    target = os.fspath(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            os.makedirs(os.path.dirname(target) or ".", mode=0o700, exist_ok=True)
            _remove_stale(target)
            # Between bind and a later chmod anybody could connect.
            umask = os.umask(0o177)
            try:
                server.bind(target)
            finally:
                os.umask(umask)
            server.listen(64)
        except OSError as error:
            reason = "the path is too long for a unix socket" if error.errno is None else error.strerror
            raise HostError(f"cannot make the control socket {target}: {reason}") from error
        made = os.stat(target)
        try:
            yield server
        finally:
            # Somebody may have put another one there meanwhile: leave that alone.
            with suppress(OSError):
                found = os.stat(target)
                if (found.st_dev, found.st_ino) == (made.st_dev, made.st_ino):
                    os.unlink(target)
    finally:
        server.close()


def _remove_stale(target: str) -> None:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise HostError(f"cannot make the control socket {target}: something else has that name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(target)
        except ConnectionRefusedError:
            # Its process is dead: nobody listens.
            os.unlink(target)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        else:
            raise HostError(f"an appliance is already running with the control socket {target}")


class ControlServer:
    """Answers on the control socket.

    Args:
        status: The facts of REDTAP STATUS.
        on_stop: Called by REDTAP STOP.
    """

    def __init__(
        self,
        network: Network,
        engine: Engine,
        *,
        status: Callable[[], Mapping[str, str | int]],
        on_stop: Callable[[], None],
    ) -> None:
        self._network = network
        self.engine = engine
        """Of clients that connect from now on."""
        self._status = status
        self._on_stop = on_stop

    async def serve(self, server: socket.socket) -> None:
        """Serve clients of a listening unix socket until cancelled."""
        server.setblocking(False)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(server))
        await trio.serve_listeners(self._serve_client, [listener])

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        clock = self._network.clock
        engine = self.engine
        session = engine.create_session(
            remote="control:0", local="control:0", now_us=clock.unix_now(), is_privileged=True
        )
        session.add_commands([private_command("redtap", -1, self._redtap, ["no_auth", "allow_busy"])])
        await serve_session(session, engine, stream, clock)

    def _redtap(self, _session: Session, request: list[bytes]) -> object:
        return self.answer(request)

    def answer(self, request: list[bytes]) -> object:
        """The reply to one REDTAP request, as the engine's reply types."""
        subcommand = request[1].upper() if len(request) > 1 else b"HELP"
        if len(request) > 2:
            return SimpleError(
                b"ERR wrong number of arguments for 'redtap|%b' command" % subcommand.lower()[:64]
            )
        interface = self._network.interface
        if subcommand == b"STATUS":
            return _map(self._status())
        if subcommand == b"COUNTERS":
            counters = dict(interface.counters.as_dict())
            counters["link_frames_dropped"] = self._network.link.frames_dropped
            return _map(counters)
        if subcommand == b"CONNS":
            return [self._describe(connection) for connection in interface.connections()]
        if subcommand == b"LISTENERS":
            return [
                _map({"address": format_address(one.address), "port": one.port, "backlog": one.backlog})
                for one in interface.listeners()
            ]
        if subcommand == b"NEIGHBORS":
            return [
                _map({"address": format_address(address), "mac": mac.hex(":"), "state": state})
                for address, mac, state in interface.neighbors()
            ]
        if subcommand == b"STOP":
            self._on_stop()
            return SimpleString(b"OK")
        if subcommand == b"HELP":
            return [SimpleString(line.encode()) for line in _HELP]
        return SimpleError(b"ERR unknown subcommand '%b'. Try REDTAP HELP." % request[1][:128])

    @staticmethod
    def _describe(connection: Connection) -> Map:
        facts: dict[str, str | int] = {
            "local": format_endpoint(connection.local_address, connection.local_port),
            "remote": format_endpoint(connection.remote_address, connection.remote_port),
        }
        facts.update(connection.info())
        # The number is for programs of ours; people and scripts get the RFC's name.
        facts["state"] = rfc_name(connection.state)
        return _map(facts)


def _map(facts: Mapping[str, str | int]) -> Map:
    flat: list[object] = []
    for name, value in facts.items():
        flat.append(name.encode())
        flat.append(value if isinstance(value, int) else value.encode())
    return Map(flat)
