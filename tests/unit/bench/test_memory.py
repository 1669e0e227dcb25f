"""Memory per connection and per key: what is sent, and how the growth is counted."""

from __future__ import annotations

import os
import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from appliance.bench import memory
from appliance.bench.memory import measure_memory, requests_for_keys
from appliance.bench.peers import Peer
from appliance.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Handler(socketserver.StreamRequestHandler):
    """Answers PING and SET, and keeps count."""

    sets = 0
    connections = 0

    def handle(self) -> None:
        type(self).connections += 1
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            if words[0] == b"SET":
                assert (len(words[1]), len(words[2])) == (memory.KEY_BYTES, memory.VALUE_BYTES)
                type(self).sets += 1
                self.wfile.write(b"+OK\r\n")
            else:
                self.wfile.write(b"+PONG\r\n")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class Started:
    def __init__(self, peer: Peer) -> None:
        self.peers = [peer]


class Growing(Peer):
    """Whose memory is what the test says."""

    def resident_bytes(self) -> int:
        return 1000 + 500 * Handler.connections + 100 * Handler.sets


@contextmanager
def start(names: Sequence[str]) -> Iterator[Started]:
    Handler.sets = Handler.connections = 0
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        host, port = server.server_address[:2]
        try:
            yield Started(Growing(names[0], "", str(host), port, None, None, os.getpid()))  # type: ignore[arg-type]
        finally:
            server.shutdown()
            thread.join()


def test_growth_is_divided_by_what_was_made() -> None:
    told: list[str] = []
    rows = measure_memory(
        ["redtap"], connections=8, keys=25_000, settle_s=0, progress=told.append, start=start
    )
    # Of the nine connections the first is not counted; of the keys' one client, all.
    assert rows[0]["bytes"] == {"redtap": 500.0}
    assert rows[1]["bytes"] == {"redtap": pytest.approx(100 + 500 / 25_000)}
    assert Handler.sets == 25_000
    assert [row["case"].partition(",")[0] for row in rows] == ["idle connection", "key of 16 B with 32 B"]
    assert len(told) == 2


def test_requests_for_keys_are_of_the_sizes_promised() -> None:
    one = requests_for_keys(7, 1)
    assert one == b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000007\r\n$32\r\n" + b"0" * 31 + b"7\r\n"
    assert requests_for_keys(0, 3).count(b"SET") == 3


def test_too_few_open_files_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "raise_file_limit", lambda _: 256)
    with pytest.raises(HostError, match="the limit is 256: ulimit -n"):
        measure_memory(["redtap"], connections=100, keys=1, progress=print, start=start)
