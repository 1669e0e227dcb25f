"""Several clients of our engine and as many of a real redis-server, in step: who is told what, and when.

A step is one client's bytes; after it everything that every client got is compared, raw. A client may have
been told nothing (it waits inside a command), or several may have been told something.

How the server is known to have finished: bytes written to a unix socket lie in its queue at once, and it
writes the replies of one turn of its loop before it begins the next. So when a third party has had two
answers, the step is over.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from tests.support.redis_pair import Argument, OurClient, RealServer, encode_request, make_engine, now_us

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from appliance.redis import Engine

_TIME_PASSES: Final = "time passes"
# How long, and how often, to look again where the sides differ.
_PATIENCE_S: Final = 2.0
_ROUNDS: Final = 1000


class Crowd:
    """Clients by name, made when they are first spoken of.

    Args:
        server: Is emptied.
        resp3: Names of the clients that speak RESP3.
        mask: What to take out of replies before they are compared: a pattern, as of `re`.
    """

    def __init__(self, server: RealServer, resp3: str = "", mask: bytes = b"") -> None:
        self.server = server
        self._mask = re.compile(mask) if mask else None
        self.resp3 = resp3.split()
        self.engine: Engine = make_engine()
        self._ours: dict[str, OurClient] = {}
        self._theirs: dict[str, socket.socket] = {}
        self._numbers: dict[str, tuple[int, int]] = {}
        server.put_right()
        self._control = server.connect()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._theirs.values():
            connection.close()
        self._settle()
        self._control.close()

    def say(self, name: str, *args: Argument) -> dict[str, bytes]:
        """One client's request; what each client got, which is the same on both sides.

        Clients that got nothing are left out.
        """
        return self.send(name, encode_request(args))

    def send(self, name: str, data: bytes) -> dict[str, bytes]:
        """The same with raw bytes."""
        if name not in self._ours:
            self._make(name)
        self._theirs[name].sendall(data)
        self._settle()
        self._ours[name].session.data_received(data, now_us())
        return self._compare(f"{name}: {data!r}")

    def play(self, script: str) -> None:
        """Send the lines of a script, `b:GET k|SET k 1`: each by the client named, or by `a`."""
        for line in script.split("|"):
            name, mark, rest = line.partition(":")
            if not mark or not name.islower():
                name, rest = "a", line
            self.send(name, rest.encode() + b"\r\n")

    def close(self, name: str) -> dict[str, bytes]:
        """One client goes away."""
        self._theirs.pop(name).close()
        self._ours.pop(name).session.close()
        self._settle()
        return self._compare(f"{name} closes")

    def say_about(self, name: str, about: str, *args: Argument) -> dict[str, bytes]:
        """As `say`; `@` among the arguments stands for another client's number, which differs by side.

        The other client must have been introduced by `introduce`.
        """
        ours, theirs = self._numbers[about]
        self._theirs[name].sendall(encode_request(tuple(theirs if arg == "@" else arg for arg in args)))
        self._settle()
        request = encode_request(tuple(ours if arg == "@" else arg for arg in args))
        self._ours[name].session.data_received(request, now_us())
        return self._compare(f"{name}: {args!r}")

    def introduce(self, *names: str) -> None:
        """Make clients and ask for their numbers, while they can still answer."""
        for name in names:
            if name not in self._ours:
                self._make(name)
            theirs = self._theirs[name]
            theirs.sendall(b"CLIENT ID\r\n")
            self._numbers[name] = (self._ours[name].session.id, int(theirs.recv(64)[1:]))

    def time_passes(self) -> dict[str, bytes]:
        """Nothing is said; what is due by now is done on both sides."""
        self._settle()
        self.engine.handle_timeouts(now_us())
        return self._compare(_TIME_PASSES)

    def wait_us(self, span_us: int) -> None:
        """Let real time pass; what is due then is not done before the next step."""
        time.sleep(span_us / 1_000_000)

    def is_parked(self, name: str) -> bool:
        return self._ours[name].session.is_parked

    def _make(self, name: str) -> None:
        self._theirs[name] = self.server.connect()
        # The same number on both sides, since some replies tell it.
        self._theirs[name].sendall(b"CLIENT ID\r\n")
        number = self._theirs[name].recv(64)
        if number.startswith(b":"):  # else it has to authenticate first
            self.engine.number_sessions_from(int(number[1:]))
        self._ours[name] = OurClient(self.engine)
        if name in self.resp3:
            self._theirs[name].sendall(b"HELLO 3\r\n")
            self._settle()
            self._theirs[name].recv(1 << 16)
            self._ours[name].send(b"HELLO 3\r\n")

    def _masked(self, got: dict[str, bytes]) -> dict[str, bytes]:
        mask = self._mask
        return got if mask is None else {name: mask.sub(b"", data) for name, data in got.items()}

    def _ask_control(self, data: bytes) -> None:
        self._control.sendall(data)
        self._control.recv(1 << 16)

    def _settle(self) -> None:
        for _ in range(3):
            self._ask_control(b"ECHO crowd-settles\r\n")

    def _compare(self, step: str) -> dict[str, bytes]:
        self.engine.take_pending_sessions()
        ours = {name: b"".join(client.session.take_output()) for name, client in self._ours.items()}
        theirs = {name: _received(connection) for name, connection in self._theirs.items()}
        # A flush is answered by a thread of the server's own, some time later; and time passes for the one side
        # while the other is being looked at.
        # Rounds count too: after a time in which this process stood still, the server's thread still gets its turn.
        deadline = time.monotonic() + _PATIENCE_S
        rounds = 0
        while self._masked(ours) != self._masked(theirs) and (
            rounds < _ROUNDS or time.monotonic() < deadline
        ):
            rounds += 1
            if len(b"".join(theirs.values())) > len(b"".join(ours.values())):
                if step != _TIME_PASSES and not any(map(self.is_parked, self._ours)):
                    break
                self.engine.handle_timeouts(now_us())
                self.engine.take_pending_sessions()
            self._settle()
            for name, client in self._ours.items():
                ours[name] += b"".join(client.session.take_output())
            for name, connection in self._theirs.items():
                theirs[name] += _received(connection)
        ours = self._masked(ours)
        theirs = self._masked(theirs)
        assert ours == theirs, f"{step}\nours         {ours!r}\nredis-server {theirs!r}"
        for client in self._ours.values():
            if client.session.is_closing:
                client.session.close()
        self.engine.tracking.check_invariants()
        self.engine.blocked.check_invariants(list(self.engine.sessions.values()))
        return {name: data for name, data in ours.items() if data}


def _received(connection: socket.socket) -> bytes:
    """What has come, without waiting."""
    received = b""
    connection.setblocking(False)
    try:
        while True:
            chunk = connection.recv(1 << 20)
            if not chunk:
                break
            received += chunk
    except BlockingIOError:
        pass
    finally:
        connection.settimeout(20)
    return received
