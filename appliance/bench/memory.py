"""What a connection costs that says nothing, and what a key costs: growth of the server's own memory.

Both are measured on servers started for it: memory that was used and freed before would be used again and
seem to cost nothing. What counts is RssAnon, pages of the process that no file backs. It is all that a
connection of ours costs. What the kernel keeps for a socket of redis-server (some KiB of slab) is in no
process and not counted.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final

from appliance.bench.peers import Peers, raise_file_limit
from appliance.errors import HostError
from netns.inside import inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from appliance.bench.peers import Peer

__all__ = ["CONNECTIONS", "KEYS", "measure_memory", "requests_for_keys"]

CONNECTIONS: Final = 10_000
KEYS: Final = 1_000_000
KEY_BYTES: Final = 16
VALUE_BYTES: Final = 32

_CHUNK: Final = 10_000
_TIMEOUT_S: Final = 60.0
_SETTLE_S: Final = 4.0  # redis-server shrinks the buffers of clients that are idle for two seconds
_SPARE_FILES: Final = 200
_PING: Final = b"*1\r\n$4\r\nPING\r\n"
_PONG: Final = b"+PONG\r\n"
_OK: Final = b"+OK\r\n"


def requests_for_keys(first: int, count: int) -> bytes:
    """SETs of keys of KEY_BYTES, numbered from `first`, with values of VALUE_BYTES."""
    return b"".join(
        b"*3\r\n$3\r\nSET\r\n$%d\r\nkey:%012d\r\n$%d\r\n%032d\r\n" % (KEY_BYTES, number, VALUE_BYTES, number)
        for number in range(first, first + count)
    )


def _connect(peer: Peer) -> socket.socket:
    client = socket.create_connection((peer.host, peer.port), _TIMEOUT_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _receive_exactly(client: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            raise HostError("the server ended a connection")
        data += part
    return bytes(data)


def _open_idle(peer: Peer, count: int) -> list[socket.socket]:
    """Connections that have asked once, so that nothing is put off until the first request."""
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            client = _connect(peer)
            clients.append(client)
            client.sendall(_PING)
            if _receive_exactly(client, len(_PONG)) != _PONG:
                raise HostError(f"{peer.name} did not answer PING")
    except BaseException:
        for client in clients:
            client.close()
        raise
    return clients


def _idle(peer: Peer, count: int, settle_s: float) -> float:
    """Bytes per idle connection."""
    # One first: what is made with the first connection is not what a connection costs.
    clients = inside(peer.place, lambda: _open_idle(peer, 1))
    try:
        before = peer.resident_bytes()
        clients += inside(peer.place, lambda: _open_idle(peer, count))
        time.sleep(settle_s)
        return (peer.resident_bytes() - before) / count
    finally:
        for client in clients:
            client.close()


def _fill(peer: Peer, count: int) -> None:
    with _connect(peer) as client:
        for first in range(0, count, _CHUNK):
            number = min(_CHUNK, count - first)
            client.sendall(requests_for_keys(first, number))
            if _receive_exactly(client, len(_OK) * number) != _OK * number:
                raise HostError(f"{peer.name} refused a SET")


def _keys(peer: Peer, count: int, settle_s: float) -> float:
    """Bytes per key with its value."""
    before = peer.resident_bytes()
    inside(peer.place, lambda: _fill(peer, count))
    time.sleep(settle_s)
    return (peer.resident_bytes() - before) / count


def measure_memory(
    names: Sequence[str],
    *,
    connections: int = CONNECTIONS,
    keys: int = KEYS,
    settle_s: float = _SETTLE_S,
    progress: Callable[[str], None],
    start: Callable[[Sequence[str]], AbstractContextManager[Peers]] = Peers,
) -> list[dict[str, Any]]:
    """Bytes per idle connection and per key of the servers `names`, each newly started.

    Raises:
        HostError: a server fails, or this process may not open so many files.
    """
    limit = raise_file_limit(connections + _SPARE_FILES)
    if limit < connections + _SPARE_FILES:
        raise HostError(
            f"{connections} connections need as many open files, and the limit is {limit}: ulimit -n"
        )
    rows = []
    for title, measure, count in (
        (f"idle connection, of {connections:,}", _idle, connections),
        (f"key of {KEY_BYTES} B with {VALUE_BYTES} B, of {keys:,}", _keys, keys),
    ):
        row: dict[str, Any] = {"case": title, "count": count, "bytes": {}}
        for name in names:
            progress(f"{title}: {name}")
            with start([name]) as started:
                row["bytes"][name] = measure(started.peers[0], count, settle_s)
        rows.append(row)
    return rows
