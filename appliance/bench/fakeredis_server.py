"""fakeredis's TCP server, as its documentation starts it: the other Redis in Python.

python -m appliance.bench.fakeredis_server --host 127.0.0.1 --port 6400
"""

from __future__ import annotations

import argparse
import signal
import socketserver
import sys
from typing import TYPE_CHECKING

from fakeredis import TcpFakeServer

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; it runs until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m appliance.bench.fakeredis_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Five, the default, makes clients that come together wait a second for their SYN to be repeated.
    socketserver.TCPServer.request_queue_size = 1024
    server = TcpFakeServer((options.host, options.port))
    server.daemon_threads = True
    sys.stdout.write(f"fakeredis: ready on {options.host}:{options.port}\n")
    sys.stdout.flush()
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
