"""An echo server on a TAP, on our TCP or on PyTCP's: `redtap bench --echo` starts both.

    python -m appliance.bench.echo_server own --netns echo-1
    python -O -m appliance.bench.echo_server pytcp --netns echo-2

It makes the namespace and the TAP; ours with offloads, as `redtap serve` has it, PyTCP's without, which it
does not know. PyTCP logs every packet unless Python runs with -O. Ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from appliance.errors import ApplianceError
from appliance.shell.addresses import parse_address
from appliance.shell.link import TapLink
from appliance.shell.network import open_network
from appliance.stack.interface import InterfaceConfig
from netns.build import build
from netns.errors import TopologyError
from netns.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ADDRESS", "PORT", "main"]

ADDRESS: Final = "10.75.0.2"
PORT: Final = 7
_CLIENT: Final = "10.75.0.1/24"
_MAC: Final = b"\x02\x52\0\0\0\x07"
_MTU: Final = 1500


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


async def _echo(stream: trio.abc.HalfCloseableStream) -> None:
    with suppress(trio.BrokenResourceError):
        async with stream:
            while data := await stream.receive_some(65_536):
                await stream.send_all(data)


async def _serve_own(fd: int) -> None:
    link = TapLink(fd, name="echo0", mtu=_MTU, owns_fd=False)
    config = InterfaceConfig(
        mac=_MAC, address=parse_address(ADDRESS), prefix_length=24, mtu=_MTU, random_bytes=os.urandom
    )
    async with open_network(link, config) as network:
        listener = network.listen_tcp(PORT)
        _ready()
        await trio.serve_listeners(_echo, [listener])


def _serve_pytcp(fd: int) -> None:
    """As PyTCP's own examples start a stack and a service; each client has a thread."""
    from pytcp import config
    from pytcp.lib import socket, stack
    from pytcp.lib.ip4_address import Ip4Host
    from pytcp.lib.mac_address import MacAddress

    os.set_blocking(fd, True)
    config.LOG_CHANEL = set()
    config.IP6_SUPPORT = False
    stack.packet_handler.assign_mac_address(MacAddress(_MAC.hex(":")))
    stack.packet_handler.assign_ip4_address(Ip4Host(f"{ADDRESS}/24"))
    stack.timer.start()
    stack.arp_cache.start()
    stack.rx_ring.start(fd)
    stack.tx_ring.start(fd)
    stack.packet_handler.start()
    stack.packet_handler.acquire_ip4_addresses()
    listener = socket.socket(socket.AF_INET4, socket.SOCK_STREAM)
    listener.bind((ADDRESS, PORT))
    listener.listen()
    _ready()
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_echo_pytcp, args=(client,), daemon=True).start()


def _echo_pytcp(client: Any) -> None:
    with suppress(OSError):
        while data := client.recv():
            # It takes what its window leaves room for.
            client.send(bytes(data))
        client.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; it runs until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m appliance.bench.echo_server", description=__doc__)
    parser.add_argument("stack", choices=("own", "pytcp"))
    parser.add_argument("--netns", required=True)
    options = parser.parse_args(arguments)
    is_own = options.stack == "own"
    try:
        with build(Topology(options.netns, "echo0", _CLIENT, vnet_header=is_own, offloads=is_own)) as built:

            def end(*_: object) -> None:
                built.close()
                os._exit(0)  # PyTCP's threads would not end by themselves

            signal.signal(signal.SIGTERM, end)
            if is_own:
                trio.run(_serve_own, built.tap.fd)
            else:
                _serve_pytcp(built.tap.fd)
    except (ApplianceError, TopologyError) as error:
        sys.stderr.write(f"echo: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
