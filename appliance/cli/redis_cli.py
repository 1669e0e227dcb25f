"""`redtap cli`: become redis-cli inside the running appliance's namespace."""

from __future__ import annotations

import os
import shutil
from typing import Any

import click

from appliance.cli.control_client import ControlClient, control_socket
from appliance.cli.options import CONTROL, setting_options, settle
from appliance.errors import HostError


@click.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
@setting_options(CONTROL)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def cli(arguments: tuple[str, ...], **flags: str | None) -> None:
    """redis-cli inside the running appliance's namespace; ARGUMENTS are its own.

    Our options come first: redtap cli --netns NAME get a
    """
    settings = settle(flags)
    with ControlClient(control_socket(settings)) as client:
        facts = client.ask_map("REDTAP", "STATUS")
    program = shutil.which("redis-cli")
    if program is None:
        raise HostError("redis-cli: not installed: apt-get install redis-tools")
    _move_beside(facts)
    host = str(facts["address"]).partition("/")[0]
    environment = dict(os.environ)
    if settings.requirepass:
        environment.setdefault("REDISCLI_AUTH", settings.requirepass)
    os.execve(program, ["redis-cli", "-h", host, "-p", str(facts["port"]), *arguments], environment)


def _move_beside(facts: dict[str, Any]) -> None:
    """Enter the namespace that clients of this appliance are in.

    Raises:
        HostError: it cannot be entered, or there is none.
    """
    mode, pid = facts.get("mode"), facts.get("process_id")
    if mode == "takeover":
        raise HostError(
            "the appliance answers for this machine's own address, which cannot be reached from here: "
            "run redis-cli on a neighbour (docker compose run --rm cli redis-cli -h appliance)"
        )
    path = f"/run/netns/{facts['namespace']}" if mode == "namespace" else f"/proc/{pid}/ns/net"
    try:
        there, here = os.stat(path), os.stat("/proc/self/ns/net")
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            return  # started by `redtap exec`: already inside
        from netns.inside import enter, enter_user_namespace

        if mode == "rootless":
            enter_user_namespace(f"/proc/{pid}/ns/user", path)
        else:
            enter(path)
    except OSError as exc:
        raise HostError(
            f"cannot enter the appliance's namespace ({exc.strerror}): ask as the user who runs the appliance"
        ) from exc
