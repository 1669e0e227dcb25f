"""A client of an engine under a clock that the test sets, and a fixed source of randomness."""

from __future__ import annotations

import hashlib

from appliance.redis import Engine, EngineSettings, Session
from appliance.redis.resp import ValueParser

START_US = 1_700_000_000_000_000


class CountedBytes:
    """Bytes that look random and are the same on every run."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, size: int) -> bytes:
        self._calls += 1
        return hashlib.shake_128(b"%d" % self._calls).digest(size)


def make_engine(**settings: object) -> Engine:
    return Engine(EngineSettings(**settings), CountedBytes())  # type: ignore[arg-type]


class Client:
    """One session; `now_us` is the time of everything it does."""

    def __init__(self, engine: Engine, remote: str = "10.77.0.1:4711", now_us: int = START_US) -> None:
        self.engine = engine
        self.now_us = now_us
        self.session: Session = engine.create_session(remote=remote, local="10.77.0.2:6379", now_us=now_us)

    def raw(self, data: bytes) -> bytes:
        """All that is answered to these bytes."""
        self.session.data_received(data, self.now_us)
        return b"".join(self.session.take_output())

    def send(self, *args: bytes | str | int) -> bytes:
        """The raw answer to one request."""
        texts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
        request = b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)
        return self.raw(request)

    def ask(self, *args: bytes | str | int) -> object:
        """The value answered to one request."""
        parser = ValueParser()
        parser.feed(self.send(*args))
        return parser.next_value()

    def info(self, section: str) -> dict[str, str]:
        """A section of INFO."""
        text = self.ask("INFO", section)
        assert isinstance(text, bytes)
        lines = [line for line in text.decode().split("\r\n") if ":" in line]
        return dict(line.split(":", 1) for line in lines)
