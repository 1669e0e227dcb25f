"""`redtap top`: a live view of a running appliance, drawn with rich from three questions a second."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import click

from appliance.cli.control_client import ClosedError, ControlClient, control_socket
from appliance.cli.options import CONTROL, setting_options, settle
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

_MIN_INTERVAL_S: Final = 0.1
_MAX_INTERVAL_S: Final = 3600.0
_HEADER_LINES: Final = 10

# What is shown of the counters: label, name. A rate beside each.
_RATES: Final = (
    ("frames in", "frames_in"),
    ("frames out", "frames_out"),
    ("bytes in", "bytes_in"),
    ("bytes out", "bytes_out"),
    ("retransmitted", "segments_retransmitted"),
    ("resets sent", "resets_out"),
)


@click.command()
@click.option("--interval", metavar="SECONDS", default="1", help="Between two looks. [1]")
@click.option("--count", metavar="N", default=None, help="Stop after N looks. [never]")
@setting_options(CONTROL)
def top(interval: str, count: str | None, **flags: str | None) -> None:
    """A live view: rates, counters, and the busiest connections. Ctrl-C ends it."""
    interval_s = _interval(interval)
    looks = None if count is None else _looks(count)
    settings = settle(flags)

    from rich.console import Console
    from rich.live import Live

    console = Console()
    path = control_socket(settings)
    with contextlib.ExitStack() as clients:
        client = clients.enter_context(ControlClient(path))
        view = View()
        live_view = Live(console=console, auto_refresh=False, screen=console.is_terminal)
        with contextlib.suppress(KeyboardInterrupt), live_view as live:
            while looks is None or looks > 0:
                try:
                    view.look(client, time.monotonic())
                except ClosedError:
                    # DEBUG RESTART ends the clients of this socket too; the appliance goes on.
                    clients.close()
                    client = clients.enter_context(ControlClient(path))
                    view.look(client, time.monotonic())
                live.update(view.render(max(console.height - _HEADER_LINES, 5)), refresh=True)
                if looks is not None:
                    looks -= 1
                    if looks == 0:
                        break
                time.sleep(interval_s)


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not _MIN_INTERVAL_S <= value <= _MAX_INTERVAL_S:
        raise ConfigError(
            f"--interval: {text!r} is not a time; takes {_MIN_INTERVAL_S:g} to {_MAX_INTERVAL_S:g} seconds"
        )
    return value


def _looks(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--count: {text!r} is not a whole number; takes 1 or more")
    return int(text)


class View:
    """Two looks at the counters and what lies between them."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.connections: list[dict[str, Any]] = []
        self.counters: dict[str, int] = {}
        self.rates: dict[str, float] = {}
        self._looked_at = 0.0

    def look(self, client: ControlClient, now: float) -> None:
        """Ask for everything; `now` is in seconds."""
        before, elapsed = self.counters, now - self._looked_at
        self.status = client.ask_map("REDTAP", "STATUS")
        counters = client.ask_map("REDTAP", "COUNTERS")
        self.counters = {name: value for name, value in counters.items() if isinstance(value, int)}
        self.connections = client.ask_maps("REDTAP", "CONNS")
        self._looked_at = now
        if before and elapsed > 0:
            self.rates = {
                name: (value - before.get(name, 0)) / elapsed for name, value in self.counters.items()
            }

    def render(self, rows: int) -> RenderableType:
        """Everything as one picture with up to `rows` connections, those with most bytes first."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        status = self.status
        head = Text(
            f"redtap {status.get('name', '')}  {status.get('address', '')}:{status.get('port', '')}  "
            f"{status.get('build', '')} build  up {status.get('uptime_s', 0)} s  "
            f"connections {status.get('connections', 0)} of {status.get('max_connections', 0)}",
            style="bold",
        )
        rates = Table.grid(padding=(0, 2))
        for label, name in _RATES:
            rates.add_row(label, f"{self.counters.get(name, 0):,}", f"{self.rates.get(name, 0.0):,.0f}/s")
        dropped = sum(value for name, value in self.counters.items() if "dropped" in name)
        rates.add_row("dropped", f"{dropped:,}", "")

        table = Table(box=None, header_style="bold")
        for title in ("REMOTE", "STATE"):
            table.add_column(title, no_wrap=True)
        for title in ("IN", "OUT", "CWND", "SRTT µs", "RETRANS"):
            table.add_column(title, justify="right", no_wrap=True)
        busiest = sorted(
            self.connections,
            key=lambda entry: _number(entry, "bytes_in") + _number(entry, "bytes_out"),
            reverse=True,
        )
        for entry in busiest[:rows]:
            table.add_row(
                str(entry.get("remote", "")),
                str(entry.get("state", "")),
                *(
                    f"{_number(entry, name):,}"
                    for name in ("bytes_in", "bytes_out", "cwnd", "srtt_us", "retransmissions")
                ),
            )
        hidden = len(busiest) - rows
        foot = Text(f"and {hidden:,} more" if hidden > 0 else "", style="dim")
        return Group(head, rates, table, foot)


def _number(entry: dict[str, Any], name: str) -> int:
    value = entry.get(name, 0)
    return value if isinstance(value, int) else 0
