"""Limits of single clients over sockets: both close whom they close, and count it."""

from __future__ import annotations

import fcntl
import struct
import termios
from typing import TYPE_CHECKING

import pytest

from appliance.redis.replies import Verbatim
from tests.support.redis_pair import OurClient, encode_request, make_engine, parse_one, read_value

if TYPE_CHECKING:
    import socket

    from tests.support.redis_pair import RealServer

COUNTERS = ("client_query_buffer_limit_disconnections", "client_output_buffer_limit_disconnections")


def counters(text: object) -> list[int]:
    raw = text.text if isinstance(text, Verbatim) else text
    assert isinstance(raw, bytes)
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
        return connection.recv(1) == b""
    except (BrokenPipeError, ConnectionResetError):
        return True
    except BlockingIOError:
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
