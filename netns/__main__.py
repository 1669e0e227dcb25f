"""`python -m netns up|down|show`: the topology alone, with nothing of `appliance` installed or imported."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from netns.errors import TopologyError
from netns.manage import down, show, up
from netns.topology import Topology

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
    options = parser.parse_args(argv)
    try:
        if options.command == "up":
            topology = Topology(options.namespace, options.tap, options.client_address, options.mtu)
            lines = [*up(topology), f"namespace {options.namespace} is up"]
        elif options.command == "down":
            lines = [down(options.namespace)]
        else:
            lines = [json.dumps(shown.as_dict()) for shown in show()]
    except (TopologyError, ValueError) as exc:
        sys.stderr.write(f"netns: {exc}\n")
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
