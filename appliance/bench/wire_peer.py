"""A sender of bytes, on our TCP or on the kernel's: `redtap bench --wire` starts one for each end of a wire.

    python -m appliance.bench.wire_peer kernel --address 10.79.0.2 --port 7000
    python -m appliance.bench.wire_peer own --address 10.79.0.2 --port 7000 --fd 5

A client asks with a line that holds a number and gets so many bytes, as often as it likes. Both transports
run the same code above the stream. Ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from appliance.shell.addresses import parse_address
from appliance.shell.link import TapLink
from appliance.shell.network import open_network
from appliance.stack.interface import InterfaceConfig
from appliance.stack.tcp.config import TcpConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_CHUNK: Final = b"\xa5" * 262_144
_MAC: Final = b"\x02\x52\0\0\0\x02"
_MTU: Final = 1500


async def answer(stream: trio.abc.HalfCloseableStream) -> None:
    """Serve one client until its end, or until it resets the connection."""
    asked = b""
    try:
        async with stream:
            while data := await stream.receive_some(4096):
                asked += data
                while b"\n" in asked:
                    line, _, asked = asked.partition(b"\n")
                    left = int(line)
                    while left > 0:
                        count = min(left, len(_CHUNK))
                        await stream.send_all(_CHUNK[:count])
                        left -= count
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


async def _serve_kernel(host: str, port: int) -> None:
    listeners = await trio.open_tcp_listeners(port, host=host)
    for listener in listeners:
        # Accepted sockets inherit it. The sysctl of a namespace may refuse it, a socket of root's does not.
        listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, answer, listeners))
        _ready()


async def _serve_own(host: str, port: int, descriptor: int) -> None:
    link = TapLink(descriptor, name="wire", mtu=_MTU, vnet_header=False)
    config = InterfaceConfig(
        mac=_MAC,
        address=parse_address(host),
        prefix_length=24,
        mtu=_MTU,
        vnet_header=False,
        gso=False,
        tcp=TcpConfig(nodelay=True),  # trio switches Nagle's algorithm off on the kernel's sockets too
        random_bytes=os.urandom,
    )
    async with open_network(link, config) as network, trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, answer, [network.listen_tcp(port)]))
        _ready()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; it runs until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m appliance.bench.wire_peer", description=__doc__)
    parser.add_argument("transport", choices=("own", "kernel"))
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fd", type=int, default=-1)
    options = parser.parse_args(arguments)
    if options.transport == "own":
        trio.run(_serve_own, options.address, options.port, options.fd)
    else:
        trio.run(_serve_kernel, options.address, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
