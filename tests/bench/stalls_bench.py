"""What a client waits for its PING while another one's big key goes: end to end, over a TAP.

    .venv/bin/python -m tests.bench.stalls_bench [--members 1000000] [--seconds 1.0]

A key of each type with that many members is deleted, unlinked, expires, is overwritten, is cut off but for one member,
is read by steps of its SCAN, is in a snapshot (SYNC), as it is and while it changes, and goes with its database. Meanwhile a second connection sends PING, waits for the answer and sends the next, and the longest
answer counts, in milliseconds. `idle` is the same without anything going on: what this machine's scheduler does by
itself.
"""

from __future__ import annotations

import argparse
import select
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from appliance._build import build_kind
from tests.bench.members_bench import values
from tests.support.running import receive_exactly, request, running_appliance

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.support.running import RunningAppliance

_KEYS = ("list", "set", "hash", "zset", "stream")
_SCANS = {"set": "SSCAN", "hash": "HSCAN", "zset": "ZSCAN"}
# What leaves next to nothing of a key without looking at all of it.
_CUTS = {"list": [["LTRIM", "copy", "0", "0"]], "stream": [["XTRIM", "copy", "MAXLEN", "1"]]}
_PONG = b"+PONG\r\n"


def longest_answer(prober: socket.socket, seconds: float, step: Callable[[], None] | None = None) -> float:
    """The longest round trip of a PING in that many seconds; `step` is called between two of them."""
    longest = 0.0
    end = time.perf_counter() + seconds
    while True:
        begun = time.perf_counter()
        if begun >= end:
            return longest
        prober.sendall(request("PING"))
        assert receive_exactly(prober, len(_PONG)) == _PONG
        longest = max(longest, time.perf_counter() - begun)
        if step is not None:
            step()


class Scan:
    """Reads a key through by its SCAN, a step whenever there is an answer; begins anew at the end."""

    def __init__(self, client: socket.socket, command: str, key: str) -> None:
        self._client = client
        self._command, self._key = command, key
        self._received = b""
        self.steps = 0
        self._ask(b"0")

    def _ask(self, cursor: bytes) -> None:
        # Its end is seen by the answer to a PING behind it.
        self._client.sendall(request(self._command, self._key, cursor, "COUNT", "1000") + request("PING"))

    def go_on(self) -> None:
        """Ask for the next step if this one has been answered."""
        if select.select([self._client], [], [], 0)[0]:
            self._received += self._client.recv(1 << 20)
        if self._received.endswith(_PONG):
            cursor = self._received.split(b"\r\n", 3)[2]
            self._received = b""
            self.steps += 1
            self._ask(cursor)

    def finish(self) -> None:
        """Wait for the answer that is under way."""
        while not self._received.endswith(_PONG):
            self._received += self._client.recv(1 << 20)


# Changes of some of the members, all over the value.
_CHANGES = {
    "list": lambda n: [["LSET", "list", str(n), "changed"], ["RPUSH", "list", "new"], ["LPOP", "list"]],
    "set": lambda n: [["SREM", "set", f"member:{n}"], ["SADD", "set", f"new:{n}"], ["SPOP", "set"]],
    "hash": lambda n: [["HSET", "hash", f"field:{n}", "changed"], ["HDEL", "hash", f"field:{n // 2}"]],
    "zset": lambda n: [["ZADD", "zset", str(n), f"member:{n}"], ["ZPOPMIN", "zset"]],
    "stream": lambda n: [["XADD", "stream", "*", "f", "v"], ["XDEL", "stream", f"{n + 1}-1"]],
}


class Snapshot:
    """Takes a snapshot, one part whenever there is one."""

    def __init__(self, client: socket.socket, writer: socket.socket, changes: str = "") -> None:
        self._client = client
        self._writer = writer
        self._changes = changes
        self._at = 0
        self.bytes = 0
        self.is_over = False
        client.sendall(request("REPLCONF", "rdb-only", "1", "capa", "eof"))
        assert receive_exactly(client, 5) == b"+OK\r\n"
        client.sendall(request("SYNC"))

    def go_on(self) -> None:
        """Read what there is; let the writer change something."""
        if self.is_over:
            return
        if select.select([self._client], [], [], 0)[0]:
            part = self._client.recv(1 << 20)
            self.bytes += len(part)
            self.is_over = part == b""
        if self._changes:
            self._at = (self._at + 7919) % 900_000
            for words in _CHANGES[self._changes](self._at):
                self._writer.sendall(request(*words))
            self._writer.recv(1 << 20)


def snapshot_line(appliance: RunningAppliance, prober: socket.socket, key: str, is_changing: bool) -> None:
    """Print the longest answer to a PING beside a snapshot from its first byte to its last."""
    with appliance.connect() as client, appliance.connect() as writer:
        snapshot = Snapshot(client, writer, key if is_changing else "")
        longest = 0.0
        while not snapshot.is_over:
            longest = max(longest, longest_answer(prober, 0.05, snapshot.go_on))
        way = "SYNC, changing" if is_changing else "SYNC"
        print(f"{key:10} {1e3 * longest:8.2f}  {way}, {snapshot.bytes:,} bytes", flush=True)


def answered(client: socket.socket, *words: str) -> bytes:
    """The line that answers a request."""
    client.sendall(request(*words))
    line = b""
    while not line.endswith(b"\r\n"):
        line += client.recv(1)
    return line


def fill(client: socket.socket, key: str, members: int) -> None:
    """Make the key."""
    client.sendall(request("CLIENT", "REPLY", "OFF"))
    for words in values(members)[key]:
        client.sendall(request(*words))
    client.sendall(request("CLIENT", "REPLY", "ON"))
    assert receive_exactly(client, 5) == b"+OK\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, running_appliance(Path(place)) as appliance:
        client, prober = appliance.connect(), appliance.connect()
        client.settimeout(120)
        print(f"{build_kind()} build, {options.members:,} members; longest answer to a PING, ms")
        print(f"{'idle':10} {1e3 * longest_answer(prober, 2 * options.seconds):8.2f}", flush=True)
        for key in _KEYS:
            fill(client, key, options.members)
            if key in _SCANS:
                scan = Scan(client, _SCANS[key], key)
                longest = longest_answer(prober, 2 * options.seconds, scan.go_on)
                scan.finish()
                print(
                    f"{key:10} {1e3 * longest:8.2f}  {_SCANS[key]} COUNT 1000, {scan.steps} steps", flush=True
                )
            for is_changing in (False, True):
                snapshot_line(appliance, prober, key, is_changing)
            ends = [["DEL", "copy"], ["UNLINK", "copy"], ["PEXPIRE", "copy", "1"], ["SET", "copy", "x"]]
            for words in [*ends, *_CUTS.get(key, []), ["FLUSHALL"]]:
                answered(client, "COPY", key, "copy", "REPLACE")
                longest_answer(prober, options.seconds)  # COPY makes work of its own
                client.sendall(request(*words))
                longest = longest_answer(prober, options.seconds)
                assert client.recv(100)
                print(f"{key:10} {1e3 * longest:8.2f}  {' '.join(words)}", flush=True)
        client.close()
        prober.close()


if __name__ == "__main__":
    main()
