"""Limits of single clients over sockets: both close whom they close, and count it."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
import time
from typing import TYPE_CHECKING

import pytest

from appliance.redis.replies import Verbatim
from tests.support.redis_pair import PATIENCE_S, OurClient, encode_request, make_engine, parse_one, read_value

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from tests.support.redis_pair import RealServer

COUNTERS = ("client_query_buffer_limit_disconnections", "client_output_buffer_limit_disconnections")


def text_of(reply: object) -> bytes:
    raw = reply.text if isinstance(reply, Verbatim) else reply
    assert isinstance(raw, bytes)
    return raw


def counters(text: object) -> list[int]:
    raw = text_of(text)
    return [int(raw.split(name.encode() + b":")[1].split()[0]) for name in COUNTERS]


def send_until_closed(connection: socket.socket, data: bytes, asking: socket.socket) -> bool:
    """Whether the server closes before it has taken all, or answers nothing to it."""
    try:
        connection.sendall(data)
        unread = 1
        while unread:
            unread = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]
        for _ in range(3):  # what it does about what it has read, it has done before it answers others twice
            read_value(asking, encode_request(("PING",)))
        connection.settimeout(0)
        while connection.recv(1 << 16):
            pass
        return True
    except (BrokenPipeError, ConnectionResetError):
        return True
    except BlockingIOError:
        connection.settimeout(PATIENCE_S)
        return False


@pytest.mark.parametrize("pieces", [8, 15, 17, 40])
def test_an_unfinished_request_is_borne_up_to_the_limit(real_server: RealServer, pieces: int) -> None:
    limit = encode_request(("CONFIG", "SET", "client-query-buffer-limit", 1 << 20))
    begin = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000000\r\n"
    piece = bytes(64 * 1024)
    engine = make_engine()
    admin, ours = OurClient(engine), OurClient(engine)
    with real_server.connect() as asking, real_server.connect() as theirs:
        read_value(asking, encode_request(("CONFIG", "RESETSTAT")))
        read_value(asking, limit)
        try:
            is_closed = send_until_closed(theirs, begin + piece * pieces, asking)
            their_counters = counters(read_value(asking, encode_request(("INFO", "stats"))))
        finally:
            read_value(asking, encode_request(("CONFIG", "SET", "client-query-buffer-limit", 1 << 30)))
    admin.send(limit)
    ours.send(begin)
    for _ in range(pieces):
        ours.send(piece)
    assert ours.session.is_closing == is_closed
    assert counters(parse_one(admin.send(encode_request(("INFO", "stats"))))) == their_counters


MIB = 1 << 20
LARGE = {
    "as large as may be": [encode_request(("SET", "a", bytes(MIB - 2)))],
    "one byte more": [encode_request(("SET", "a", bytes(MIB - 1)))],
    "with CR LF too large": [encode_request(("SET", "a", bytes(MIB)))],
    "ends in a small piece": [encode_request(("SET", "a", bytes(MIB + 40)))],
    "many arguments": [encode_request(("SADD", "a", *[f"{number:0100}" for number in range(20_000)]))],
    "a pipeline": [encode_request(("SET", "a", bytes(9_000))) * 200],
    "a transaction at the limit": [b"MULTI\r\n", *[encode_request(("SET", "a", bytes(60_000)))] * 17],
    "a transaction above it": [b"MULTI\r\n", *[encode_request(("SET", "a", bytes(60_000)))] * 18],
    "a large transaction and its end": [
        b"MULTI\r\n",
        encode_request(("SET", "a", bytes(700_000))),
        encode_request(("SET", "a", bytes(300_000))),
        encode_request(("SET", "a", bytes(100_000))),
        b"EXEC\r\n",
    ],
}


@pytest.mark.parametrize("what", LARGE)
def test_a_request_counts_before_it_is_executed(real_server: RealServer, what: str) -> None:
    real_server.put_right()
    engine = make_engine()
    admin, ours = OurClient(engine), OurClient(engine)
    with real_server.connect() as asking, real_server.connect() as theirs:
        for line in (("CONFIG", "SET", "client-query-buffer-limit", MIB), ("DEL", "a")):
            admin.send(encode_request(line))
            read_value(asking, encode_request(line))
        for data in LARGE[what]:
            for at in range(0, len(data), 1 << 16):
                ours.send(data[at : at + (1 << 16)])
            is_closed = send_until_closed(theirs, data, asking)
            assert ours.session.is_closing == is_closed
            if is_closed:
                break
        for line in (("DEBUG", "DIGEST-VALUE", "a"), ("LLEN", "a")):
            request = encode_request(line)
            assert repr(parse_one(admin.send(request))) == repr(read_value(asking, request))
        info = encode_request(("INFO", "stats"))
        assert counters(parse_one(admin.send(info))) == counters(read_value(asking, info))
        read_value(asking, encode_request(("CONFIG", "SET", "client-query-buffer-limit", 1 << 30)))


@pytest.mark.parametrize(
    "begun",
    [
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10\r\nabc",
        b"*3\r\n$3\r\nSET\r\n",
        b"GET a",
        b"*2\r\n$5\r\nab",
        b"MULTI\r\nGET abc\r\n",
    ],
)
def test_an_unfinished_request_is_listed(both: Both, begun: bytes) -> None:
    both.open("one")
    both.send("one", begun)
    fields = ("qbuf", "argv-mem", "multi-mem", "multi", "omem", "oll", "cmd")
    both.listed_alike("one", fields)


class Both:
    """Clients by name on both sides; what one sends is processed before the next is looked at."""

    made = 0

    def __init__(self, server: RealServer) -> None:
        server.put_right()
        Both.made += 1
        self.number = Both.made
        self.server = server
        self.engine = make_engine()
        self.ours: dict[str, OurClient] = {}
        self.theirs: dict[str, socket.socket] = {}
        self.admin(("CONFIG", "RESETSTAT"))

    def open(self, *names: str) -> None:
        for name in names:
            self.ours[name] = OurClient(self.engine)
            self.theirs[name] = self.server.connect()
            self.ask(name, ("CLIENT", "SETNAME", f"{name}-{self.number}"))

    def ask(self, name: str, request: tuple[str | int | bytes, ...]) -> None:
        """A request that is answered."""
        assert parse_one(self.ours[name].send(encode_request(request))) is not None
        read_value(self.theirs[name], encode_request(request))

    def admin(self, request: tuple[str | int | bytes, ...]) -> None:
        if "admin" not in self.ours:
            self.open("admin")
            self.ask("admin", ("CLIENT", "NO-EVICT", "on"))
        self.ask("admin", request)

    def send(self, name: str, data: bytes) -> None:
        """Bytes that may not be answered, or end the client."""
        for at in range(0, len(data), 1 << 16):
            self.ours[name].send(data[at : at + (1 << 16)])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.theirs[name].sendall(data)

    def survivors(self) -> set[str]:
        """Who is still there, on both sides."""
        request = encode_request(("CLIENT", "LIST"))
        for client in self.ours.values():  # as the shell does it
            if client.session.is_closing:
                client.session.close()
        ours = self._names(parse_one(self.ours["admin"].send(request)))
        deadline = time.monotonic() + 60
        while True:  # it may not have read yet what was sent last
            theirs = self._names(read_value(self.theirs["admin"], request))
            if theirs == ours or time.monotonic() > deadline:
                assert theirs == ours
                return ours

    def listed_alike(self, name: str, fields: tuple[str, ...]) -> None:
        """What CLIENT LIST says of one, once the server has read what was sent to it."""
        request = encode_request(("CLIENT", "LIST"))

        def said(reply: object) -> list[bytes]:
            mark = f" name={name}-{self.number} ".encode()
            line = next(line for line in text_of(reply).splitlines() if mark in line)
            facts = dict(word.split(b"=", 1) for word in line.split(b" "))
            return [facts[field.encode()] for field in fields]

        ours = said(parse_one(self.ours["admin"].send(request)))
        deadline = time.monotonic() + PATIENCE_S
        while (theirs := said(read_value(self.theirs["admin"], request))) != ours:
            assert time.monotonic() < deadline, (ours, theirs)

    def _names(self, reply: object) -> set[str]:
        listed = text_of(reply)
        return {name for name in self.ours if f" name={name}-{self.number} ".encode() in listed}

    def info(self, field: str) -> tuple[int, int]:
        request = b"INFO stats\r\n"
        replies = parse_one(self.ours["admin"].send(request)), read_value(self.theirs["admin"], request)
        found = [int(text_of(reply).split(field.encode() + b":")[1].split()[0]) for reply in replies]
        return found[0], found[1]

    def close(self) -> None:
        self.admin(("CONFIG", "SET", "maxmemory-clients", 0))
        self.admin(("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0 pubsub 33554432 8388608 60"))
        for connection in self.theirs.values():
            connection.close()


@pytest.fixture
def both(real_server: RealServer) -> Iterator[Both]:
    made = Both(real_server)
    yield made
    made.close()


BIG = b"x" * 3_000_000
WHAT_TAKES_MEMORY = {
    "an unfinished argument": b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000000\r\n" + BIG,
    "a line without an end": b"*2\r\n$3\r\nGET\r\n$9000000\r\n" + BIG,
    "a transaction": b"MULTI\r\n" + encode_request(("SET", "k", b"x" * 100_000)) * 30,
    "a large transaction": b"MULTI\r\n" + encode_request(("SET", "k", BIG)),
    "channels": encode_request(("SUBSCRIBE", *[f"channel{number}" for number in range(30_000)])),
    "watched keys": encode_request(("WATCH", *[f"key{number}" for number in range(16_000)])),
}


@pytest.mark.parametrize("what", WHAT_TAKES_MEMORY)
def test_the_client_that_takes_most_is_evicted_at_once(both: Both, what: str) -> None:
    both.admin(("CONFIG", "SET", "maxmemory-clients", "500kb"))
    both.open("small", "big", "other")
    both.send("big", WHAT_TAKES_MEMORY[what])
    both.ask("small", ("PING",))
    both.ask("other", ("PING",))
    assert both.survivors() == {"admin", "small", "other"}
    assert both.info("evicted_clients") == (1, 1)


def test_a_limit_that_is_set_later_evicts_as_well(both: Both) -> None:
    both.open("small", "big", "spared", "other")
    both.ask("spared", ("CLIENT", "NO-EVICT", "on"))
    for name in ("big", "spared"):
        both.send(name, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000010\r\n" + b"x" * 1_000_000)
    both.ask("small", ("PING",))
    both.admin(("CONFIG", "SET", "maxmemory-clients", "1500kb"))
    both.ask("small", ("PING",))
    assert both.survivors() == {"admin", "small", "spared", "other"}
    assert both.info("evicted_clients") == (1, 1)


@pytest.mark.parametrize(
    ("limit", "size", "is_over"),
    [
        (50_000, 100_000, True),
        (150_000, 100_000, False),
        (1_000_000, 2_000_000, True),
        (500, 1_000, False),
        (0, 2_000_000, False),
    ],
)
def test_a_reply_counts_before_it_is_written(both: Both, limit: int, size: int, is_over: bool) -> None:
    both.admin(("SET", "k", b"x" * size))
    both.admin(("CONFIG", "SET", "client-output-buffer-limit", f"normal {limit} 0 0"))
    both.open("reader", "other")
    both.send("reader", b"GET k\r\n")
    both.ask("other", ("PING",))
    assert ("reader" not in both.survivors()) == is_over
    assert both.info("client_output_buffer_limit_disconnections") == (is_over, is_over)


@pytest.mark.parametrize(("limit", "is_over"), [(50_000, True), (150_000, False)])
def test_a_message_counts_before_it_is_written(both: Both, limit: int, is_over: bool) -> None:
    both.admin(("CONFIG", "SET", "client-output-buffer-limit", f"pubsub {limit} 0 0"))
    both.open("listener")
    both.ask("listener", ("SUBSCRIBE", "c"))
    both.admin(("PUBLISH", "c", b"x" * 100_000))
    both.admin(("PING",))
    assert ("listener" not in both.survivors()) == is_over
