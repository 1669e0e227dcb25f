"""Copies of the process in which scripts are debugged (SCRIPT DEBUG YES).

A copy has all data as it was when the EVAL came, and what it writes goes with it. It has one socket, to here.
The client's connection stays here, where its TCP is: what the client says goes on to the copy, and what the
copy says to the client.

    client <-> session (a Dialogue here) <-> socket <-> the copy: Lua, debugger.py

In the copy nothing of the event loop ever runs: it executes the script, says its reply and exits. It dies
with this process, and when its client goes.

Errors: OSError where the system has no room for a copy.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from appliance.shell.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.engine import Engine
    from appliance.redis.session import Session

__all__ = ["DebugForks"]

_READ_SIZE: Final = 65_536
_SET_PARENT_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG of prctl(2)

_log = get_logger("debug")


class _Copy:
    """In the copy: the client's terminal. See `ForkedTerminal`."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def read(self) -> bytes:
        try:
            return self._channel.recv(_READ_SIZE)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        with suppress(OSError):
            self._channel.sendall(data)

    def exit(self, failure: BaseException | None) -> None:
        if failure is not None:
            _log.error("debugging a script failed", exc_info=failure)
        os._exit(0 if failure is None else 1)


class _Original:
    """Here: between the client's session and the copy. See `Dialogue`."""

    def __init__(self, session: Session, pid: int, stream: trio.SocketStream) -> None:
        self.session = session
        self.pid = pid
        self.stream = stream
        self._to_send, self._to_copy = trio.open_memory_channel[bytes](1 << 20)

    def feed(self, data: bytes) -> None:
        if data == b"":
            # It would run on for nobody, and what it writes is lost in any case.
            os.kill(self.pid, signal.SIGKILL)
        else:
            with suppress(trio.WouldBlock):
                self._to_send.send_nowait(data)

    async def run(self, after: Callable[[], None]) -> None:
        """Carry bytes both ways until the copy has ended; it is no zombie then."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                with suppress(trio.BrokenResourceError):
                    async for data in self.stream:
                        self.session.push(bytes(data))
                        self.session.engine.mark_pending(self.session)
                        after()
                nursery.cancel_scope.cancel()
        finally:
            self.stream.socket.close()
            os.kill(self.pid, signal.SIGKILL)  # if it has not ended: we are being stopped
            if self.session.dialogue is self:
                self.session.end_dialogue()
                after()
            # From here on nobody calls `feed`: the number is not ours any more once it has been waited for.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(os.waitpid, self.pid, 0)

    async def _send(self) -> None:
        with suppress(trio.BrokenResourceError):
            async for data in self._to_copy:
                await self.stream.send_all(data)


class DebugForks:
    """Makes the copies that one engine wants, until `run` ends.

    Args:
        engine: Whose scripts.
        after: Called when sessions may have something to say.
    """

    def __init__(self, engine: Engine, after: Callable[[], None]) -> None:
        self._engine = engine
        self._after = after
        self._nursery: trio.Nursery | None = None
        # A client may be quicker than the task that `run` is in.
        self._early: list[_Original] = []
        engine.scripts.fork = self._fork

    async def run(self) -> None:
        """Serve until cancelled; the copies end then."""
        try:
            async with trio.open_nursery() as self._nursery:
                for original in self._early:
                    self._nursery.start_soon(original.run, self._after)
                self._early.clear()
                await trio.sleep_forever()
        finally:
            self._engine.scripts.fork = None

    def _fork(self, session: Session) -> _Copy | None:
        """The client's terminal in the copy, None here.

        Raises:
            OSError: there is no copy.
        """
        here, there = socket.socketpair()
        try:
            with warnings.catch_warnings():
                # Python warns where there are other threads. The copy has none, and waits for none.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
        except OSError:
            here.close()
            there.close()
            raise
        if pid == 0:
            try:
                here.close()
                _become_copy(there.fileno())
                return _Copy(there)
            except BaseException:
                os._exit(1)  # whatever happens, the event loop must not go on twice
        there.close()
        here.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(here))
        original = _Original(session, pid, stream)
        session.hold_dialogue(original)
        if self._nursery is None:
            self._early.append(original)
        else:
            self._nursery.start_soon(original.run, self._after, name=f"debug copy {pid}")
        _log.info("a script is debugged in a copy of the process", pid=pid, client=session.remote)
        return None


def _become_copy(channel: int) -> None:
    """Be no appliance any more: no signals, no link, no sockets but one."""
    for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ours, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    # The death of this process is ours: a script may be in the middle of a loop without an end.
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor not in (0, 1, 2, channel):
            with suppress(OSError):  # the listing's own
                os.close(descriptor)
    # Nothing is finalised here that is somebody else's, and no page is copied for the collector's sake.
    gc.freeze()
