"""Something that answers on a control socket with prepared bytes, in a thread."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def request(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)


@contextmanager
def answering(path: str, replies: Mapping[bytes, bytes]) -> Iterator[list[bytes]]:
    """Serve `path`: a request that is a key of `replies` gets its value; any other closes the connection.

    The value of the block is the list of requests that came.
    """
    seen: list[bytes] = []
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                while data := client.recv(4096):
                    seen.append(data)
                    if data not in replies:
                        break
                    client.sendall(replies[data])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
