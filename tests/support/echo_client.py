"""A program for a client's namespace: sends bytes to an echo service and checks what comes back.

Usage: echo_client.py HOST PORT MEBIBYTES

It writes and reads at once, half-closes after the last byte, reads to the peer's FIN, and prints the SHA-256
of what it sent and of what it received. A process of its own, so that it takes no turn of the stack's.
"""

from __future__ import annotations

import hashlib
import random
import socket
import sys
import threading

_CHUNK = 1 << 20


def main() -> None:
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    generator = random.Random(count)
    chunks = [generator.randbytes(_CHUNK) for _ in range(8)]
    sent, received = hashlib.sha256(), hashlib.sha256()
    total = 0
    with socket.create_connection((host, port), timeout=120) as client:

        def write() -> None:
            for number in range(count):
                # It carries its number: a chunk that is lost, repeated or out of place changes the hash.
                chunk = number.to_bytes(4, "big") + chunks[number % len(chunks)][4:]
                sent.update(chunk)
                client.sendall(chunk)
            client.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        while data := client.recv(_CHUNK):
            total += len(data)
            received.update(data)
        writer.join()
    print(total, sent.hexdigest(), received.hexdigest())


if __name__ == "__main__":
    main()
