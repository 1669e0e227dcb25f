"""What traffic that is not for us costs, on a link that we share with the kernel.

    .venv/bin/python -m tests.bench.foreign_bench [--rate 16667] [--seconds 20] [--rounds 3]

Two stations on a bridge; the appliance is on one station's link, beside that station's kernel, by a packet
socket and then by AF_XDP. The other station sends numbered datagrams to the kernel, 1,000,000 a minute. Told are,
for each kind: how many of them reached the kernel's socket and whether in order, what share of a core the
appliance's process took, beside its share when nothing comes, how often it was woken, and how many frames its
stack saw. What the kernel does for the filter, or for the program, is done in whoever sends or is interrupted: it
is in `sender`, which `none`, a run without an appliance, has as well.
"""

from __future__ import annotations

import argparse
import resource
import socket
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netns.build import build_bridge
from netns.inside import inside
from netns.topology import BridgeTopology, Station
from tests.support.machine import fresh_name
from tests.support.running import RunningAppliance

_KINDS: Final = ("none", "packet", "xdp")
_HOST: Final = "10.78.0.2"
_PORT: Final = 9999
_SO_RCVBUFFORCE: Final = 33
_SLICE: Final = 200
"""Datagrams between two looks at the clock."""


@dataclass(frozen=True)
class Cost:
    """One run; times are in seconds."""

    sent: int
    arrived: int
    in_order: bool
    took: float
    sender: float
    process: float
    idle: float
    woken: int
    frames_in: int


def running_seconds(pid: int) -> float:
    """Processor time of all threads, to the nanosecond, of which /proc/PID/stat counts ticks only."""
    paths = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e9


def times_slept(pid: int) -> int:
    """How often its threads have gone to sleep by themselves."""
    paths = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(int(path.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0]) for path in paths)


def _sender_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _send(source: socket.socket, sink: socket.socket, count: int, rate: float) -> list[int]:
    """Send at that rate; the numbers that have arrived, in their order."""
    arrived: list[int] = []
    began = time.monotonic()
    for number in range(count):
        source.send(struct.pack("!I", number))
        if number % _SLICE == 0:
            ahead = began + number / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
    try:
        while len(arrived) < count:
            arrived.append(struct.unpack("!I", sink.recv(16))[0])
    except BlockingIOError:
        pass
    return arrived


def measure(kind: str, count: int, rate: float, directory: Path) -> Cost:
    """One run with an appliance on a link of that kind, or with none."""
    middle, client, server = fresh_name("fb"), fresh_name("fc"), fresh_name("fs")
    stations = (Station(client, "10.78.0.1/24"), Station(server, f"{_HOST}/24"))
    running: RunningAppliance | None = None
    with build_bridge(BridgeTopology(middle, stations)):
        try:
            idle = 0.0
            if kind != "none":
                flags = ("--link", f"{kind}:veth0", "--address", "10.78.0.5/24")
                running = RunningAppliance.start(directory, *flags, place=server, clients=client)
                running.address = "10.78.0.5"
                running.ping()
                time.sleep(1.0)
                before = running_seconds(running.process.pid)
                time.sleep(2.0)
                idle = (running_seconds(running.process.pid) - before) / 2.0
            sink = inside(server, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            source = inside(client, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with sink, source:
                sink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 30)
                sink.bind((_HOST, _PORT))
                sink.setblocking(False)
                source.connect((_HOST, _PORT))
                frames = running.counters()["frames_in"] if running else 0
                pid = running.process.pid if running else 0
                spent, slept = (running_seconds(pid), times_slept(pid)) if running else (0.0, 0)
                sender, began = _sender_seconds(), time.monotonic()
                arrived = _send(source, sink, count, rate)
                took = time.monotonic() - began
                sender = _sender_seconds() - sender
                if running:
                    spent, slept = running_seconds(pid) - spent, times_slept(pid) - slept
                    frames = running.counters()["frames_in"] - frames
                    running.ping()
                    assert running.stop() == 0
            is_whole = arrived == sorted(set(arrived))
            return Cost(count, len(arrived), is_whole, took, sender, spent, idle, slept, frames)
        finally:
            if running:
                running.discard()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=1_000_000 / 60, help="datagrams a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count = int(options.rate * options.seconds)
    print(f"{count:,} datagrams at {options.rate:,.0f} a second", flush=True)
    for _ in range(options.rounds):
        for kind in _KINDS:
            with tempfile.TemporaryDirectory() as place:
                cost = measure(kind, count, options.rate, Path(place))
            order = "in order" if cost.in_order else "out of order"
            print(
                f"{kind:7} arrived {cost.arrived:,} of {cost.sent:,}, {order};"
                f" process {cost.process / cost.took:7.3%} of a core (idle {cost.idle:.3%}),"
                f" woken {cost.woken}, frames seen {cost.frames_in};"
                f" sender {1e6 * cost.sender / cost.sent:.2f} us a datagram",
                flush=True,
            )


if __name__ == "__main__":
    main()
