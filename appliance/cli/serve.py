"""`redtap serve` and `redtap exec`: build the topology, run an appliance on it, take everything down.

The topology is built before trio runs and undone after it has ended. Between the two, signals belong to the
tasks: `serve` stops on SIGINT, SIGTERM and SIGHUP; `exec` passes them to its command and ends with it. From
before the building until after the undoing no signal tears anything: one that no task listens to is kept by
`held_signals`, ends what has not begun, and acts when all is undone.

DEBUG RESTART changes nothing of that: the topology stays, and the server on it begins anew. DEBUG SEGFAULT
and its kin end `serve` as SIGTERM does, and when all is undone the process dies by their signal; `exec` ends
with the status of its command, as always.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import secrets
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import click

from appliance.cli.options import ALL, setting_options, settle
from appliance.cli.redis_conf import (
    SHARED,
    RedisArguments,
    RedisConf,
    RedisConfCommand,
    redis_arguments,
)
from appliance.config import LINKS, runtime_directory
from appliance.errors import ConfigError, HostError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from appliance.config import Settings
    from appliance.redis.engine import EngineSettings
    from appliance.redis.process_end import ProcessEnd
    from appliance.shell.link import Link
    from appliance.shell.main import Ready
    from netns.attach import BuiltAttached
    from netns.build import BuiltTopology, Device
    from netns.takeover import BuiltTakeover
    from netns.topology import AttachedTopology, Topology


@click.command(cls=RedisConfCommand)
@setting_options(ALL)
@click.pass_context
def serve(ctx: click.Context, /, **flags: str | None) -> None:
    """Run an appliance in the foreground: namespace, TAP, TCP and Redis.

    One ready line on standard output says where it is. Ctrl-C or SIGTERM removes everything it made.

    REDIS_CONF is read as redis-server reads it (- for standard input), and so is every --PARAMETER of
    redis-server that is no option below.
    """
    arguments = redis_arguments(ctx)
    conf = RedisConf(arguments)
    settings = settle(flags, conf.shared())
    _configure_logs(settings)
    for notice in conf.notices_on(settings):
        _say(notice)
    from netns.undo import held_signals

    with (
        _control_directory(settings.control_path(), is_private=os.geteuid() != 0),
        held_signals() as arrived,
        _build_for_serve(settings) as built,
    ):
        for note in built.notes:
            _say(note)
        found = _as_found(built)
        if found is not None:
            settings = _settings_of(found, settings)
        if settings.takeover:
            place, mode = f"taken over from {settings.takeover}", "takeover"
        elif found is not None:
            place, mode = f"on {settings.link_name}", "attached"
        else:
            place, mode = f"in namespace {settings.netns}", "namespace"

        is_known = False

        def on_ready(ready: Ready) -> None:
            from appliance._build import build_kind

            nonlocal is_known
            if is_known:  # after DEBUG RESTART; who read the line may have gone
                _say(f"ready again on {ready.address}:{ready.port}")
                return
            is_known = True
            click.echo(
                f"redtap: ready on {ready.address}:{ready.port}, {place}, {build_kind()} build, "
                f"control socket {ready.control_path}"
            )

        facts: dict[str, str | int] = {
            "mode": mode,
            "namespace": "" if found else settings.netns,
            "tap": built.device.name,
            "link": built.device.kind,
        }

        def renew() -> EngineSettings:
            again = RedisConf(arguments)
            now = settle(flags, again.shared())
            changed = {name: getattr(now, name) for name in SHARED}
            return again.engine_settings(replace(settings, **changed))

        end = _run(
            settings,
            built.device,
            facts,
            arrived,
            on_ready=on_ready,
            beside=_until_told,
            settings_of_engine=conf.engine_settings(settings),
            renew=renew,
        )
    if end is not None:
        _die(end)


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.option("--rootless", is_flag=True, help="As an ordinary user, in a new user and network namespace.")
@setting_options(tuple(field for field in ALL if field != "takeover"))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(rootless: bool, command: tuple[str, ...], **flags: str | None) -> int:
    """Run COMMAND beside an appliance of its own, and exit with its status.

    COMMAND finds the appliance by REDIS_HOST, REDIS_PORT and REDIS_URL, inside a namespace with a name of
    its own unless --netns gives one. Nothing is left behind, programs that COMMAND left running included.
    Write -- before a COMMAND with options.
    """
    settings = settle(flags)
    if settings.takeover is not None:
        raise ConfigError("--takeover: not for exec; takes effect in serve only")
    if settings.link_name:
        raise ConfigError(f"--link: '{settings.link}' is not for exec; takes {', '.join(LINKS)}")
    if rootless and settings.link_kind == "xdp":
        # bpf(2) asks for its capability outside of any user namespace.
        raise ConfigError("--link: 'xdp' is not for exec --rootless; takes tap, tun, packet")
    if "netns" not in settings.given:
        settings = replace(settings, netns=f"redtap-{os.getpid()}-{secrets.token_hex(3)}")
    # Asked before the user changes: inside a user namespace everybody is root.
    control_path = settings.control_path()
    settings = replace(settings, control=control_path)
    if "log_level" not in settings.given:
        settings = replace(settings, log_level="warning")  # standard error is the command's
    _configure_logs(settings)
    with _control_directory(control_path, is_private=rootless):
        if rootless:
            from netns.rootless import enter

            enter(needs_device=settings.link_kind in ("tap", "tun"))
        return _run_command(settings, rootless, command)


def _run_command(settings: Settings, rootless: bool, command: tuple[str, ...]) -> int:
    """Run `command` beside an appliance; its exit status."""
    status = 1
    from netns.undo import held_signals

    with held_signals() as arrived, _build_for_exec(settings, rootless) as built:
        for note in built.notes:
            _say(note)
        env = {**os.environ, **_client_environment(settings)}

        def report(command_status: int) -> None:
            nonlocal status
            status = command_status

        async def run_command(ready: Ready) -> None:
            from appliance.cli.children import run_child

            try:
                await run_child(built.place, command, env, report)
            except (FileNotFoundError, NotADirectoryError):
                report(127)
                _say(f"{command[0]}: no such command")
            except PermissionError:
                report(126)
                _say(f"{command[0]}: may not be run")

        facts: dict[str, str | int] = {
            "mode": "rootless" if rootless else "namespace",
            "namespace": "" if rootless else settings.netns,
            "tap": built.device.name,
            "link": built.device.kind,
        }

        def renew() -> EngineSettings:
            return _plain_engine_settings(settings)

        try:
            end = _run(
                settings,
                built.device,
                facts,
                arrived,
                beside=run_command,
                catch_signals=False,
                settings_of_engine=renew(),
                renew=renew,
            )
            if end is not None:
                _say(f"ended by {end.how} of {end.asked_by}")
        finally:
            if rootless or not built.is_kept:
                from appliance.cli.children import end_leftovers

                count = end_leftovers(built.place)
                if count:
                    _say(
                        f"ended {count} process{'es' if count > 1 else ''} that {command[0]} had left running"
                    )
    return status


def _plain_engine_settings(settings: Settings) -> EngineSettings:
    return RedisConf(RedisArguments()).engine_settings(settings)


def _die(end: ProcessEnd) -> NoReturn:
    """End as redis-server would have: whoever started us is to see that signal."""
    number = signal.Signals[end.signal]
    _say(f"ended by {end.how} of {end.asked_by}")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # An image of this process would explain nothing, and would be left behind.
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    # Still here: no signal of its own kills the first process of a container. This status says the same.
    os._exit(128 + number)


def _say(text: str) -> None:
    click.echo(f"redtap: {text}", err=True)


def _configure_logs(settings: Settings) -> None:
    from appliance.shell.logs import configure_logs

    configure_logs(settings.log_level, settings.log_format)


def _client_environment(settings: Settings) -> dict[str, str]:
    from appliance.cli.control_client import CONTROL_VARIABLE

    host, port = str(settings.address.ip), str(settings.port)
    login = f":{quote(settings.requirepass, safe='')}@" if settings.requirepass else ""
    environment = {
        "REDIS_HOST": host,
        "REDIS_PORT": port,
        "REDIS_URL": f"redis://{login}{host}:{port}/0",
        CONTROL_VARIABLE: settings.control_path(),
    }
    if settings.requirepass:
        environment["REDISCLI_AUTH"] = settings.requirepass
    return environment


@contextlib.contextmanager
def _control_directory(control_path: str, *, is_private: bool) -> Iterator[None]:
    """Where the control socket will lie: gone after the block unless in use, however the block ends.

    Args:
        is_private: the directory may have to be made below /tmp, where it could be another user's trap:
            theirs are the sockets in it, then.
    """
    if not is_private:
        yield
        return
    directory = os.path.dirname(control_path)
    outer = os.path.dirname(directory)
    try:
        for path in (outer, directory):
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                if path.startswith("/tmp/"):
                    os.mkdir(path, 0o700)
                continue
            if path.startswith("/tmp/") and found.st_uid != os.geteuid():
                raise HostError(f"{path}: belongs to another user: set XDG_RUNTIME_DIR, or give --control")
        yield
    finally:
        for path in (directory, outer):
            if os.path.basename(path).startswith("redtap"):
                with contextlib.suppress(OSError):
                    os.rmdir(path)


def _topology(settings: Settings) -> Topology:
    from netns.topology import Topology

    return Topology(
        namespace=settings.netns,
        tap=settings.tap,
        client_address=str(settings.client_address),
        mtu=settings.mtu,
        kind=settings.link_kind,
        address=str(settings.address.ip),
        mac=settings.mac_or_default(),
    )


def _build_for_serve(settings: Settings) -> BuiltTopology | BuiltTakeover | BuiltAttached:
    companions = [settings.control_path()]
    if settings.link_name or (settings.takeover and settings.link_kind != "tap"):
        from netns.attach import build_attached

        return build_attached(_attached(settings), run_directory=runtime_directory(), companions=companions)
    if settings.takeover is None:
        from netns.build import build

        return build(_topology(settings), companions=companions)
    from netns.takeover import build_takeover
    from netns.topology import TakeoverTopology

    tap = settings.tap if "tap" in settings.given else TakeoverTopology.tap
    topology = TakeoverTopology(settings.takeover, tap=tap)
    return build_takeover(topology, run_directory=runtime_directory(), companions=companions)


def _attached(settings: Settings) -> AttachedTopology:
    from netns.topology import AttachedTopology

    return AttachedTopology(
        link=settings.takeover or settings.link_name,
        kind=settings.link_kind,
        address="" if settings.takeover else str(settings.address.ip),
        mac=b"" if settings.takeover else settings.mac_or_default(),
        queue=settings.link_queue,
    )


def _build_for_exec(settings: Settings, rootless: bool) -> BuiltTopology:
    from netns.build import build, build_private

    if rootless:
        return build_private(_topology(settings))
    return build(_topology(settings), companions=[settings.control_path()])


def _as_found(
    built: BuiltTopology | BuiltTakeover | BuiltAttached,
) -> BuiltTakeover | BuiltAttached | None:
    from netns.build import BuiltTopology

    return None if isinstance(built, BuiltTopology) else built


def _settings_of(found: BuiltTakeover | BuiltAttached, settings: Settings) -> Settings:
    """The settings with what the link has in place of what one of ours would have."""
    import ipaddress

    mtu_given = "mtu" in settings.given
    if mtu_given and settings.mtu > found.mtu:
        name = settings.takeover or settings.link_name
        raise ConfigError(f"--mtu: '{settings.mtu}' is more than {name} carries; takes up to {found.mtu}")
    settings = replace(settings, mac=found.mac, mtu=settings.mtu if mtu_given else found.mtu)
    if not found.address:
        return settings
    return replace(
        settings,
        address=ipaddress.IPv4Interface(found.address),
        gateway=ipaddress.IPv4Address(found.gateway) if found.gateway else None,
    )


_PEER_MAC = b"\x02\x52\0\0\0\1"
"""Stands for everybody at the other end of a TUN; it is never on any wire."""


def _open_link(settings: Settings, device: Device) -> Link:
    """The link over a device; the device stays the builder's to close."""
    from appliance.shell.link import PacketLink, TapLink, TunLink
    from netns.packet import PacketSocket
    from netns.xdp import XdpSocket

    name, mtu = device.name, settings.mtu
    if isinstance(device, PacketSocket):
        return PacketLink(device.socket, name=name, mtu=mtu)
    if isinstance(device, XdpSocket):
        from appliance.shell.xdp_link import XdpLink

        arp = None if device.arp is None else PacketLink(device.arp.socket, name=name, mtu=mtu)
        is_veth = device.has_partial_checksums
        return XdpLink(device.queues, name=name, mtu=mtu, has_partial_checksums=is_veth, beside=arp)
    if device.kind == "tun":
        mac = settings.mac_or_default()
        return TunLink(device.fd, name=name, mtu=mtu, mac=mac, peer_mac=_PEER_MAC, owns_fd=False)
    return TapLink(
        device.fd,
        name=name,
        mtu=mtu,
        vnet_header=device.vnet_header,
        gso=device.offloads,
        owns_fd=False,
    )


async def _until_told(ready: Ready) -> None:
    """Stop on SIGHUP (the terminal is gone) and SIGQUIT too: what was made must not stay."""
    import trio

    # Ignored ones stay ignored, as nohup wants it.
    wanted = [n for n in (signal.SIGHUP, signal.SIGQUIT) if signal.getsignal(n) is not signal.SIG_IGN]
    if not wanted:  # `nohup redtap serve &` in a script: its shell has SIGQUIT ignored
        await trio.sleep_forever()
    with trio.open_signal_receiver(*wanted) as signals:
        async for _ in signals:
            return


def _run(
    settings: Settings,
    device: Device,
    facts: dict[str, str | int],
    arrived: list[int],
    *,
    beside: Callable[[Ready], Awaitable[None]],
    on_ready: Callable[[Ready], None] | None = None,
    catch_signals: bool = True,
    settings_of_engine: EngineSettings,
    renew: Callable[[], EngineSettings],
) -> ProcessEnd | None:
    """Run the appliance on `device` until it ends; not at all when a signal is in `arrived` already.

    Returns:
        How the process is to end, when DEBUG has ended it.
    """
    import trio

    from appliance.shell.main import serve as serve_appliance
    from appliance.shell.memory import keep_freed_memory
    from appliance.stack.interface import InterfaceConfig
    from appliance.stack.ip_config import NeighborConfig

    link = _open_link(settings, device)
    random_bytes = os.urandom if settings.seed is None else random.Random(settings.seed).randbytes
    interface_config = InterfaceConfig(
        mac=settings.mac_or_default(),
        address=int(settings.address.ip),
        prefix_length=settings.address.network.prefixlen,
        gateway=int(settings.gateway) if settings.gateway is not None else 0,
        mtu=settings.mtu,
        vnet_header=link.vnet_header,
        gso=link.gso,
        max_connections=settings.max_connections,
        random_bytes=random_bytes,
        neighbor=NeighborConfig(only_mac=_PEER_MAC) if device.kind == "tun" else None,
    )
    keep_freed_memory()
    is_running = False

    async def beside_unless_stopped(ready: Ready) -> None:
        nonlocal is_running
        if not arrived:
            is_running = True
            await beside(ready)

    async def main() -> ProcessEnd | None:
        return await serve_appliance(
            link,
            interface_config,
            settings_of_engine,
            name=settings.netns,
            port=settings.port,
            control_path=settings.control_path(),
            capture_path=settings.capture,
            random_bytes=random_bytes,
            busy_poll_us=settings.busy_poll,
            catch_signals=catch_signals,
            facts=facts,
            on_ready=on_ready,
            beside=beside_unless_stopped,
            renew=renew,
        )

    end: ProcessEnd | None = None
    if not arrived:
        end = trio.run(main)
        if is_running and catch_signals:
            # It has ended, by a signal or otherwise: one more, as impatient people send them, changes
            # nothing, and the exit status must not depend on whether it came just before the end or after.
            arrived.clear()
    return end
