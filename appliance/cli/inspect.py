"""`redtap status` and `redtap conns`: questions to a running appliance."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from appliance.cli.control_client import ControlClient, control_socket
from appliance.cli.options import CONTROL, setting_options, settle

# The columns of `conns`: header, key in the reply. The rest is in --json.
_COLUMNS: Final = (
    ("REMOTE", "remote"),
    ("LOCAL", "local"),
    ("STATE", "state"),
    ("CWND", "cwnd"),
    ("SRTT-US", "srtt_us"),
    ("RTO-US", "rto_us"),
    ("BYTES-IN", "bytes_in"),
    ("BYTES-OUT", "bytes_out"),
    ("RETRANS", "retransmissions"),
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@setting_options(CONTROL)
def status(as_json: bool, **flags: str | None) -> None:
    """What runs here, since when, with which addresses and limits. Exit 1 when nothing answers."""
    with ControlClient(control_socket(settle(flags))) as client:
        facts = client.ask_map("REDTAP", "STATUS")
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name:{width}}  {value}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array, with everything known of each.")
@setting_options(CONTROL)
def conns(as_json: bool, **flags: str | None) -> None:
    """Every TCP connection, with its state, windows, round-trip time and counters."""
    with ControlClient(control_socket(settle(flags))) as client:
        found = client.ask_maps("REDTAP", "CONNS")
    click.echo(json.dumps(found) if as_json else table(found))


def table(connections: list[dict[str, Any]]) -> str:
    """The connections as aligned text, text to the left and numbers to the right."""
    rows = [[str(entry.get(key, "-")) for _, key in _COLUMNS] for entry in connections]
    header = [title for title, _ in _COLUMNS]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
