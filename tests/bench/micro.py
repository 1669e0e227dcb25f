"""What the core costs without a kernel: two stacks joined in memory, and a Redis session fed with bytes.

    .venv/bin/python -m tests.bench.micro                  the compiled build
    REDTAP_PURE=1 .venv/bin/python -m tests.bench.micro    the pure one

Each line is the best of several rounds, which on a busy machine says more than a mean; compare lines of one
run, or runs in turn, never with a number from another day. `redtap bench` measures the whole appliance.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance._build import build_kind
from appliance.redis.engine import Engine, EngineSettings
from appliance.stack.interface import Interface, InterfaceConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.tcp.connection import Connection

ROUNDS = 7
ROUND_S = 0.15
CLIENT, SERVER = 0x0A4D0001, 0x0A4D0002
PORT = 7


def fixed_bytes(length: int) -> bytes:
    """Stands for randomness: the same connection on every run."""
    return bytes(range(1, length + 1))


class Pair:
    """A client's and a server's stack on one perfect wire, with one open connection."""

    def __init__(self, *, gso: bool) -> None:
        self.now = 1_000_000
        self.client = Interface(self._config(CLIENT, gso))
        self.server = Interface(self._config(SERVER, gso))
        self.server.listen(PORT)
        self.near: Connection = self.client.connect(SERVER, PORT, self.now)
        self.near.set_nodelay(True)
        self.exchange()
        (ready,) = self.server.take_ready()
        assert ready.listener is not None
        self.far: Connection = ready
        assert ready.listener.accept() is ready
        self.far.set_nodelay(True)

    @staticmethod
    def _config(address: int, gso: bool) -> InterfaceConfig:
        mac = b"\x02\x52" + address.to_bytes(4, "big")
        return InterfaceConfig(
            mac=mac,
            address=address,
            prefix_length=24,
            # Without the header nobody vouches for checksums: they are computed, and verified.
            vnet_header=gso,
            gso=gso,
            random_bytes=fixed_bytes,
        )

    def exchange(self) -> None:
        """Carry frames to and fro until both are silent."""
        while True:
            self.now += 10
            there = self.client.frames_to_send(self.now)
            for frame in there:
                self.server.receive_frame(frame, self.now)
            back = self.server.frames_to_send(self.now)
            for frame in back:
                self.client.receive_frame(frame, self.now)
            if not there and not back:
                return

    def round_trip(self, request: bytes, reply: bytes) -> None:
        """One request, one reply: four segments' work at most, ACKs riding on data."""
        self.now += 10
        self.near.send(request)
        for frame in self.client.frames_to_send(self.now):
            self.server.receive_frame(frame, self.now)
        assert len(self.far.receive(65_536)) == len(request)
        self.far.send(reply)
        for frame in self.server.frames_to_send(self.now):
            self.client.receive_frame(frame, self.now)
        assert len(self.near.receive(65_536)) == len(reply)
        self.server.take_ready()
        self.client.take_ready()

    def transfer(self, data: bytes) -> None:
        """All of `data` from client to server."""
        sent = received = 0
        while received < len(data):
            sent += self.near.send(data, sent)
            self.exchange()
            received += len(self.far.receive(len(data)))
        self.exchange()


def best_of(operation: Callable[[], object]) -> float:
    """Seconds of one operation: the best round's mean."""
    operation()
    count = 1
    while True:
        begin = time.perf_counter()
        for _ in range(count):
            operation()
        took = time.perf_counter() - begin
        if took > ROUND_S / 4:
            break
        count *= 2
    best = took / count
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(count):
            operation()
        best = min(best, (time.perf_counter() - begin) / count)
    return best


def stack_lines() -> None:
    pair = Pair(gso=True)
    small = best_of(lambda: pair.round_trip(b"q" * 30, b"r" * 30))
    print(f"{'request and reply of 30 bytes, both stacks':50} {small * 1e6:9.2f} us")
    data = bytes(1 << 20)
    for gso, what in ((True, "segments up to 64 KiB"), (False, "MTU-sized segments, checksums")):
        pair = Pair(gso=gso)
        took = best_of(lambda: pair.transfer(data))  # noqa: B023  called within this turn of the loop only
        print(f"{'1 MiB one way, ' + what:50} {len(data) / took / 1e6:9.0f} MB/s")


def session_lines() -> None:
    engine = Engine(EngineSettings(), fixed_bytes)
    session = engine.create_session(remote="10.77.0.1:4711", local="10.77.0.2:6379", now_us=1)
    requests = {
        "PING": b"*1\r\n$4\r\nPING\r\n",
        "SET": b"*3\r\n$3\r\nSET\r\n$5\r\nkey:1\r\n$3\r\nxxx\r\n",
        "GET": b"*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n",
        "INCR": b"*2\r\n$4\r\nINCR\r\n$7\r\ncounter\r\n",
    }
    for name, request in requests.items():
        for depth in (1, 16):
            data = request * depth

            def run(data: bytes = data) -> None:
                session.data_received(data, 1)
                session.take_output()

            print(f"{f'{name} through a session, depth {depth}':50} {best_of(run) / depth * 1e6:9.2f} us")


def main() -> None:
    print(f"redtap, {build_kind()} build")
    stack_lines()
    session_lines()


if __name__ == "__main__":
    main()
