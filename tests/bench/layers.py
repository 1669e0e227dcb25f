"""What is timed layer by layer: each operation by itself, without a kernel and without a network.

    make bench-micro                                     the compiled build
    REDTAP_PURE=1 make bench-micro ARGS='-k keyspace'    the pure one, and only some

pytest-benchmark runs them (`bench_layers.py`); compare lines of one run, or runs in turn, never with a number
from another day. Each operation checks what it did, so that the tests can run all of them once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis.engine import Engine, EngineSettings
from appliance.redis.hash_table import Table
from appliance.redis.replies import ReplyBuffer
from appliance.redis.resp import RequestParser
from appliance.stack.interface import Interface, InterfaceConfig
from appliance.wire import ethernet, ipv4, tcp, virtio
from appliance.wire.checksum import PROTOCOL_TCP, checksum
from tests.bench.replay import LOADS, command, record, replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.tcp.connection import Connection

__all__ = ["OPERATIONS", "Pair"]

CLIENT, SERVER = 0x0A4D0001, 0x0A4D0002
PORT = 7
KEYS: Final = 100_000


def fixed_bytes(length: int) -> bytes:
    """Stands for randomness: the same connection on every run."""
    return bytes(number * 7 % 251 + 1 for number in range(length))


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


# ---- wire


def parse_headers() -> Callable[[], object]:
    frame = record(LOADS[0], 2).batches[-1][0]
    datagram, segment = ipv4.Ipv4Header(), tcp.Segment()

    def run() -> None:
        start = virtio.HEADER_LENGTH
        assert ethernet.ethertype_of(frame, start) == ethernet.ETHERTYPE_IPV4
        ipv4.parse_into(datagram, frame, start + ethernet.HEADER_LENGTH)
        tcp.parse_into(segment, frame, datagram.payload_start, datagram.payload_end)
        assert segment.length == len(LOADS[0].request)

    return run


def build_ip_header() -> Callable[[], object]:
    def run() -> None:
        assert len(ipv4.build_header(SERVER, CLIENT, PROTOCOL_TCP, 40, 1, 64)) == ipv4.HEADER_LENGTH

    return run


def sum_of(length: int) -> Callable[[], object]:
    data = bytes(range(256)) * (length // 256 + 1)

    def run() -> None:
        assert checksum(data, 0, length) >= 0

    return run


# ---- stack


def round_trip() -> Callable[[], object]:
    pair = Pair(gso=True)
    return lambda: pair.round_trip(b"q" * 30, b"r" * 30)


def transfer(*, gso: bool) -> Callable[[], object]:
    pair = Pair(gso=gso)
    data = bytes(1 << 20)
    return lambda: pair.transfer(data)


# ---- redis


def parse_requests(request: bytes, depth: int) -> Callable[[], object]:
    parser = RequestParser()
    data = request * depth

    def run() -> None:
        parser.feed(data)
        for _ in range(depth):
            assert parser.next_request()
        assert parser.next_request() is None

    return run


def parse_bulk(length: int) -> Callable[[], object]:
    """A large value as it comes over a TAP, in pieces of up to 64 KiB."""
    request = command(b"SET", b"key", bytes(length))
    pieces = [request[start : start + 65_160] for start in range(0, len(request), 65_160)]
    parser = RequestParser()

    def run() -> None:
        got = None
        for piece in pieces:
            assert got is None
            parser.feed(piece)
            got = parser.next_request()
        assert got is not None
        assert len(got[2]) == length
        assert parser.next_request() is None

    return run


def write_replies(value: object, depth: int) -> Callable[[], object]:
    buffer = ReplyBuffer()

    def run() -> None:
        for _ in range(depth):
            buffer.reply(value, False)
        assert buffer.take()

    return run


def through_session(request: bytes, depth: int) -> Callable[[], object]:
    engine = Engine(EngineSettings(), fixed_bytes)
    session = engine.create_session(remote="10.77.0.1:4711", local="10.77.0.2:6379", now_us=1)
    session.data_received(command(b"SET", b"key:1", b"xxx"), 1)
    session.take_output()
    data = request * depth

    def run() -> None:
        session.data_received(data, 1)
        assert not session.take_output()[0].startswith(b"-")

    return run


def _keys(prefix: bytes) -> list[bytes]:
    return [b"%b:%012d" % (prefix, number * 7919 % KEYS) for number in range(KEYS)]


def keyspace(what: str, kind: str) -> Callable[[], object]:
    """A thousand hits, misses or replacements among KEYS keys, in our table or in a dict."""
    present, absent = _keys(b"key"), _keys(b"not")[:1000]
    wanted = present[:1000]
    if kind == "dict":
        entries: dict[bytes, object] = dict.fromkeys(present)
        if what == "hits":
            return lambda: [entries[key] for key in wanted]
        if what == "misses":
            return lambda: [entries.get(key) for key in absent]

        def replace_in_dict() -> None:
            for key in wanted:
                del entries[key]
                entries[key] = None

        return replace_in_dict
    table = Table(fixed_bytes(8))
    for key in present:
        table.insert(key, None)
    while table.is_resizing:
        table.work(10_000)
    if what in ("hits", "misses"):
        asked = wanted if what == "hits" else absent
        return lambda: [table.find(key) for key in asked]

    def replace() -> None:
        for key in wanted:
            table.remove(key)
            table.insert(key, None)

    return replace


# ---- all of it


def whole_pass(name: str) -> Callable[[], object]:
    """A hundred rounds of requests from frame to reply frame, with the connections' beginning and end."""
    conversation = record(next(load for load in LOADS if load.name == name), 100)
    return lambda: replay(conversation)


GET: Final = command(b"GET", b"key:1")
SET: Final = command(b"SET", b"key:1", b"xxx")

OPERATIONS: Final[dict[str, Callable[[], Callable[[], object]]]] = {
    "wire: parse Ethernet, IPv4 and TCP": parse_headers,
    "wire: build an IPv4 header": build_ip_header,
    "wire: checksum of 1460 B": lambda: sum_of(1460),
    "wire: checksum of 64 KiB": lambda: sum_of(65_536),
    "stack: request and reply of 30 B, both ends": round_trip,
    "stack: 1 MiB one way, segments up to 64 KiB": lambda: transfer(gso=True),
    "stack: 1 MiB one way, MTU-sized, checksums": lambda: transfer(gso=False),
    "resp: parse GET": lambda: parse_requests(GET, 1),
    "resp: parse 16 SET": lambda: parse_requests(SET, 16),
    "resp: parse SET of 1 MiB": lambda: parse_bulk(1 << 20),
    "resp: write 16 bulk replies": lambda: write_replies(b"xxx", 16),
    "resp: write 16 integers": lambda: write_replies(12_345, 16),
    "session: PING": lambda: through_session(command(b"PING"), 1),
    "session: GET": lambda: through_session(GET, 1),
    "session: 16 GET": lambda: through_session(GET, 16),
    "session: SET": lambda: through_session(SET, 1),
    "session: 16 SET": lambda: through_session(SET, 16),
    "session: 16 INCR": lambda: through_session(command(b"INCR", b"counter"), 16),
    **{
        f"keyspace: 1000 {what}, {kind}": lambda what=what, kind=kind: keyspace(what, kind)
        for what in ("hits", "misses", "replacements")
        for kind in ("ours", "dict")
    },
    "whole pass: 1600 GET, -P 1": lambda: whole_pass("get -P 1"),
    "whole pass: 1600 SET, -P 1": lambda: whole_pass("set -P 1"),
    "whole pass: 25600 GET, -P 16": lambda: whole_pass("get -P 16"),
}
