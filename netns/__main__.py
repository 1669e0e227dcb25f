"""`python -m netns up|down|show|wire`: the topology alone, without `appliance`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from netns.build import build
from netns.errors import TopologyError
from netns.manage import down, show, up
from netns.topology import Topology, check_interface, check_same_network
from netns.wire import Impairments, carry

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 1 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m netns", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down"):
        command = commands.add_parser(name)
        command.add_argument("namespace")
        if name == "up":
            command.add_argument("--tap", default="redtap0")
            command.add_argument("--client-address", default="10.77.0.1/24")
            command.add_argument("--mtu", type=int, default=1500)
    commands.add_parser("show")
    _add_wire_arguments(commands.add_parser("wire", help="join two namespaces by an impaired wire"))
    options = parser.parse_args(argv)
    try:
        if options.command == "up":
            topology = Topology(options.namespace, options.tap, options.client_address, options.mtu)
            lines = [*up(topology), f"namespace {options.namespace} is up"]
        elif options.command == "down":
            lines = [down(options.namespace)]
        elif options.command == "wire":
            lines = [_wire(options)]
        else:
            lines = [json.dumps(shown.as_dict()) for shown in show()]
    except (TopologyError, ValueError) as exc:
        sys.stderr.write(f"netns: {exc}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _add_wire_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Make two namespaces, each with a TAP, and carry frames between the TAPs until SIGINT or SIGTERM. "
        "Rate, delay and queue hold both ways, the faults for frames from the first to the second."
    )
    command.add_argument("left", help="namespace whose frames suffer the faults")
    command.add_argument("right", help="namespace at the other end")
    command.add_argument("--left-address", default="10.79.0.1/24")
    command.add_argument("--right-address", default="10.79.0.2/24")
    command.add_argument("--mtu", type=int, default=1500)
    command.add_argument("--rate", type=_rate, default=0, metavar="BITS", help="bit/s: 800k, 50M, 1G")
    command.add_argument(
        "--delay", type=_duration, default=0, metavar="TIME", help="one way: 300us, 10ms, 1s"
    )
    command.add_argument("--queue", type=int, default=0, metavar="BYTES", help="that may wait for the line")
    command.add_argument("--loss", type=float, default=0.0, metavar="P", help="probability, 0 to 1")
    command.add_argument(
        "--burst", type=float, nargs=3, metavar=("TO_BAD", "TO_GOOD", "LOSS"), help="Gilbert-Elliott"
    )
    command.add_argument("--drop-every", type=int, default=0, metavar="N", help="lose every n-th frame")
    command.add_argument("--reorder", type=float, default=0.0, metavar="P", help="hold a frame back")
    command.add_argument("--reorder-by", type=_duration, default=0, metavar="TIME", help="for so long")
    command.add_argument("--duplicate", type=float, default=0.0, metavar="P")
    command.add_argument("--seed", type=int, default=0)


def _rate(text: str) -> int:
    number, scale = (text[:-1], _SCALES[text[-1]]) if text[-1:] in _SCALES else (text, 1)
    return round(float(number) * scale)


def _duration(text: str) -> int:
    for suffix, scale in (("us", 1), ("ms", 1_000), ("s", 1_000_000)):
        if text.endswith(suffix):
            return round(float(text[: -len(suffix)]) * scale)
    raise ValueError(text)


_SCALES = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def _wire(options: argparse.Namespace) -> str:
    """Build, carry, undo; the counts as JSON."""
    back = Impairments(rate_bps=options.rate, delay_us=options.delay, queue_bytes=options.queue)
    forth = replace(
        back,
        loss=options.loss,
        burst=tuple(options.burst) if options.burst else None,
        drop_every=options.drop_every,
        reorder=options.reorder,
        reorder_us=options.reorder_by,
        duplicate=options.duplicate,
    )
    ends = [
        Topology(name, "wire0", address, options.mtu, vnet_header=False, offloads=False)
        for name, address in ((options.left, options.left_address), (options.right, options.right_address))
    ]
    check_same_network(*(check_interface(end.client_address) for end in ends))
    with build(ends[0]) as left, build(ends[1]) as right:
        return json.dumps(carry(left.tap.fd, right.tap.fd, forth, back, options.seed))


if __name__ == "__main__":
    sys.exit(main())
