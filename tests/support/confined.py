"""An engine in a process of its own that may take no more than so much memory, on standard input and output.

    python -m tests.support.confined 1024        MiB of address space beyond what the process starts with

Requests come in and replies go out as on a connection. A command that wants more memory ends the process with
a MemoryError on standard error, where a redis-server would be killed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from appliance.redis.resp import ValueParser
from tests.support.redis_pair import OurClient, make_engine, now_us

_ROOT = Path(__file__).parents[2]


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def serve(limit_mib: int) -> None:
    client = OurClient(make_engine())
    limit = _address_space() + limit_mib * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while data := os.read(0, 1 << 20):
        for part in _output(client, data):
            view = memoryview(part)
            while len(view):
                view = view[os.write(1, view) :]


def _output(client: OurClient, data: bytes) -> list[bytes]:
    client.engine.handle_timeouts(now_us())  # what was deleted is let go of
    client.session.data_received(data, now_us())
    return client.session.take_output()


class Confined:
    """The other end: starts the process and asks it."""

    def __init__(self, limit_mib: int) -> None:
        command = [sys.executable, "-m", "tests.support.confined", str(limit_mib)]
        self.process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def ask(self, data: bytes, replies: int) -> bytes:
        """The raw replies to raw requests.

        Raises:
            AssertionError: the process has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()
        parser = ValueParser()
        received: list[bytes] = []
        while replies > 0:
            chunk = os.read(self.process.stdout.fileno(), 1 << 20)
            if not chunk:
                raise AssertionError(f"the engine has ended: {self._last_words()}")
            received.append(chunk)
            parser.feed(chunk)
            parser.next_value()
            while parser.has_value:
                replies -= 1
                parser.next_value()
        return b"".join(received)

    def processor_time(self) -> float:
        """Seconds of processor time that the process has taken: waiting for its turn is none of it."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _last_words(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()[-2000:].decode(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
