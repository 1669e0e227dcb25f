"""An appliance that runs as people run it, `redtap serve` in a process of its own, and its clients' side.

Every one has a namespace, a control socket and a log of its own, so that tests may run beside each other and
beside an appliance of yours. Nothing fails because the machine is slow: what is waited for is waited for
until `PATIENCE_S`, which says that it hangs and not that it is late. What is asked of a client (`ask`, `connect`, `inside`) happens in the namespace
and through the kernel's TCP.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from appliance.cli.control_client import ControlClient
from netns.inside import RUN_NETNS, inside, spawn
from tests.support.machine import environment, fresh_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from appliance.cli.control_client import Reply

_T = TypeVar("_T")

ADDRESS: Final = "10.77.0.2"
CLIENT_ADDRESS: Final = "10.77.0.1"
PORT: Final = 6379
PATIENCE_S: Final = 60.0


def until(condition: Callable[[], bool], seconds: float = PATIENCE_S, what: str = "") -> None:
    """Wait until `condition()` holds; looks again every few milliseconds and gives up after `seconds`."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.005)


def request(*words: bytes | str | int) -> bytes:
    """A RESP request."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def receive_exactly(client: socket.socket, size: int) -> bytes:
    """`size` bytes; fails when the peer ends sooner."""
    data = bytearray()
    while len(data) < size:
        chunk = client.recv(min(size - len(data), 1 << 20))
        assert chunk, f"end of stream after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


def receive_to_end(client: socket.socket) -> bytes:
    """Everything up to the peer's FIN."""
    data = bytearray()
    while chunk := client.recv(1 << 20):
        data += chunk
    return bytes(data)


def ask(client: socket.socket, sent: bytes, reply: bytes) -> None:
    """Send `sent` and expect exactly `reply`."""
    client.sendall(sent)
    assert receive_exactly(client, len(reply)) == reply


class RunningAppliance:
    """One `redtap serve`, from its ready line to its end."""

    def __init__(
        self, namespace: str, control_path: str, process: subprocess.Popen[bytes], log: Path
    ) -> None:
        self.namespace = namespace
        self.control_path = control_path
        self.process = process
        self.log = log
        self.address = ADDRESS
        self.port = PORT

    @classmethod
    def start(
        cls,
        directory: Path,
        *flags: str,
        env: Mapping[str, str] | None = None,
        place: str | None = None,
        clients: str = "",
    ) -> Self:
        """Start it with `flags` and wait for the ready line; logs go to a file in `directory`.

        Args:
            place: The namespace that the process itself is in.
            clients: That of the clients, when it uses a link that is there already.
        """
        namespace = fresh_name("serve")
        control_path = str(directory / f"{namespace}.sock")
        log = directory / f"{namespace}.log"
        with log.open("wb") as errors:
            words = ["serve", "--netns", namespace, "--control", control_path, *flags]
            process = inside(
                place,
                lambda: subprocess.Popen(
                    [sys.executable, "-m", "appliance", *words],
                    cwd="/",
                    env={**environment(), **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                ),
            )
        running = cls(clients or namespace, control_path, process, log)
        try:
            running._wait_ready(PATIENCE_S)
        except BaseException:
            running.discard()
            raise
        return running

    def _wait_ready(self, seconds: float) -> None:
        assert self.process.stdout is not None
        give_up_at = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            left = give_up_at - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            chunk = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            assert chunk, f"no ready line: {line!r}\n{self.log.read_text()}"
            line += chunk
        assert b"ready on" in line, line

    # ---- the clients' side

    def inside(self, action: Callable[[], _T]) -> _T:
        """Run `action` in a thread that is in the namespace."""
        return inside(self.namespace, action)

    def connect(
        self,
        port: int | None = None,
        *,
        timeout: float = PATIENCE_S,
        receive_buffer: int = 0,
        send_buffer: int = 0,
        mss: int = 0,
    ) -> socket.socket:
        """A kernel TCP socket connected to the appliance; the options are set before the handshake."""

        def work() -> socket.socket:
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                client.settimeout(timeout)
                if receive_buffer:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
                if send_buffer:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
                if mss:
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
                client.connect((self.address, port or self.port))
            except BaseException:
                client.close()
                raise
            return client

        return self.inside(work)

    def ping(self) -> None:
        """A new client is served."""
        with self.connect() as client:
            ask(client, request("PING"), b"+PONG\r\n")

    def run(
        self,
        *argv: str,
        seconds: float = 2 * PATIENCE_S,
        stdin: Any = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a program in the namespace; its standard output. Fails when its status is not 0."""
        process = spawn(
            self.namespace,
            argv,
            env=env,
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, errors = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        assert process.returncode == 0, (
            f"{argv} exited with {process.returncode}\n{out.decode()}\n{errors.decode()}"
        )
        return out.decode()

    def set_sysctl(self, name: str, value: str) -> None:
        """Set `net/ipv4/…` of the namespace."""
        self.inside(lambda: Path("/proc/sys", name).write_text(value))

    # ---- what the appliance says of itself

    def control(self, *words: str) -> Reply:
        """One request over the control socket."""
        with ControlClient(self.control_path, PATIENCE_S) as client:
            return client.ask(*words)

    def control_map(self, *words: str) -> dict[str, Any]:
        """One request over the control socket whose reply is a map."""
        with ControlClient(self.control_path, PATIENCE_S) as client:
            return client.ask_map(*words)

    def counters(self) -> dict[str, int]:
        """REDTAP COUNTERS."""
        return self.control_map("REDTAP", "COUNTERS")

    def connections(self) -> list[dict[str, Any]]:
        """REDTAP CONNS."""
        with ControlClient(self.control_path, PATIENCE_S) as client:
            return client.ask_maps("REDTAP", "CONNS")

    def neighbors(self) -> list[dict[str, Any]]:
        """REDTAP NEIGHBORS."""
        with ControlClient(self.control_path, PATIENCE_S) as client:
            return client.ask_maps("REDTAP", "NEIGHBORS")

    def resident_bytes(self) -> int:
        """What the process has in memory of its own (RssAnon)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon in /proc/PID/status")

    # ---- its end

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Wait for it to end by itself; its exit status."""
        return self.process.wait(seconds)

    def stop(self, number: int = signal.SIGTERM, seconds: float = PATIENCE_S) -> int:
        """End it with a signal; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(seconds)

    def discard(self) -> None:
        """Kill it when it still runs, and close what was open to it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def assert_nothing_left(self) -> None:
        """The process has ended, and took everything that it had made with it."""
        assert self.process.poll() is not None
        assert not os.path.exists(f"{RUN_NETNS}/{self.namespace}"), "the namespace is still there"
        assert not os.path.exists(self.control_path), "the control socket is still there"

    def assert_no_complaints(self) -> None:
        """Nothing in the log is worse than information: an exception inside would be there."""
        complaints = [
            line
            for line in self.log.read_text(errors="replace").splitlines()
            if "Traceback" in line or "[error" in line or "[warning" in line or "[critical" in line
        ]
        assert not complaints, self.log.read_text(errors="replace")


@contextmanager
def running_appliance(
    directory: Path, *flags: str, env: Mapping[str, str] | None = None
) -> Iterator[RunningAppliance]:
    """An appliance for the length of the block. It must end well, leave nothing, and have logged no error."""
    running = RunningAppliance.start(directory, *flags, env=env)
    try:
        yield running
        assert running.stop() == 0, running.log.read_text(errors="replace")
        running.assert_nothing_left()
        running.assert_no_complaints()
    finally:
        running.discard()


def needs_program(*names: str) -> str:
    """The reason to skip when one of these programs is not installed, else ""."""
    missing = [name for name in names if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else ""
