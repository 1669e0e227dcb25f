"""An engine that runs scripts without the shell: its stopwatch is a counter, and `resume` is the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.redis import Engine, EngineSettings, Session
from appliance.redis.engine_modes import SCRIPT_BUSY
from tests.support.redis_pair import encode_request

if TYPE_CHECKING:
    from tests.support.redis_pair import Argument


class Machine:
    """An engine and its stopwatch, which goes on by a millisecond with each look at it."""

    def __init__(self, memory: int = 64 << 20) -> None:
        self.engine = Engine(EngineSettings(script_memory=memory), lambda count: bytes(range(1, count + 1)))
        self.now_us = 1_700_000_000_000_000
        self.ns = 0
        self.engine.stopwatch = self._look

    def _look(self) -> int:
        self.ns += 1_000_000
        return self.ns

    def client(self) -> Client:
        return Client(self)

    def resume(self, times: int = 1) -> None:
        """What the shell does when `next_timeout_us` has come."""
        for _ in range(times):
            if self.engine.mode & SCRIPT_BUSY:
                assert self.engine.next_timeout_us() <= self.now_us
            self.now_us += 100
            self.engine.handle_timeouts(self.now_us)
            self.engine.take_pending_sessions()

    def resume_to_the_end(self) -> None:
        for _ in range(10_000):
            if not self.engine.mode & SCRIPT_BUSY:
                return
            self.resume()
        raise AssertionError("the script does not end")


class Client:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.session: Session = machine.engine.create_session(
            remote="127.0.0.1:1", local="127.0.0.1:2", now_us=machine.now_us
        )

    def send(self, *args: Argument) -> bytes:
        self.session.data_received(encode_request(args), self.machine.now_us)
        return self.output()

    def output(self) -> bytes:
        return b"".join(self.session.take_output())
