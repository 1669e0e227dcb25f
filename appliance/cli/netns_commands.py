"""`redtap netns up|down|show`: the topology alone."""

from __future__ import annotations

import json

import click

from appliance.cli.options import TOPOLOGY, setting_options, settle


@click.group()
def netns() -> None:
    """The topology alone, without an appliance on it.

    What `up` makes stays until `down`; a `redtap serve` of the same name uses it and leaves it standing.
    """


@netns.command("up")
@setting_options(TOPOLOGY)
def up(**flags: str | None) -> None:
    """Make the namespace with its TAP, so that it stays."""
    settings = settle(flags)
    from netns.manage import up as build_and_keep
    from netns.topology import Topology

    topology = Topology(
        namespace=settings.netns,
        tap=settings.tap,
        client_address=str(settings.client_address),
        mtu=settings.mtu,
    )
    for note in build_and_keep(topology):
        click.echo(note)
    click.echo(f"namespace {settings.netns} is up: {settings.tap} has {settings.client_address}")


@netns.command("down")
@setting_options(("netns", "config"))
def down(**flags: str | None) -> None:
    """Remove the namespace, kept or left behind."""
    settings = settle(flags)
    from netns.manage import down as remove

    click.echo(remove(settings.netns))


@netns.command("show")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def show(as_json: bool) -> None:
    """Every namespace of ours, with its links."""
    from netns.manage import show as find

    found = find()
    if as_json:
        click.echo(json.dumps([entry.as_dict() for entry in found]))
        return
    for entry in found:
        click.echo(f"{entry.name}  {entry.state}" + (f"  pid {entry.pid}" if entry.pid else ""))
        for link, addresses in entry.links:
            state = "up" if link.is_up else "down"
            click.echo(f"  {link.name}  {state}  mtu {link.mtu}  {link.mac.hex(':')}  {' '.join(addresses)}")
