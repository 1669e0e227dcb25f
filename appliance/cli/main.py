"""The command `redtap`: its subcommands, its exit statuses, and how errors are told.

Exit status: 0; 1 when the machine lacks something or a thing failed; 2 when the command line or the
             configuration is wrong; 128 + n when signal n ended it; for `exec` that of the command it ran.
Errors:      one line on standard error, `redtap: …`. Anything else raised is a bug and shows its trace.
"""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from appliance import __version__
from appliance.errors import ApplianceError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

# name -> where it is, and the line about it in the help.
_COMMANDS: Final = {
    "serve": ("appliance.cli.serve:serve", "Run an appliance in the foreground."),
    "exec": ("appliance.cli.serve:exec_command", "Run a command beside an appliance of its own."),
    "cli": ("appliance.cli.redis_cli:cli", "redis-cli inside the running appliance's namespace."),
    "status": ("appliance.cli.inspect:status", "What runs here, with which addresses and limits."),
    "conns": ("appliance.cli.inspect:conns", "Every TCP connection of the running appliance."),
    "top": ("appliance.cli.top:top", "A live view of the running appliance."),
    "netns": ("appliance.cli.netns_commands:netns", "The topology alone: up, down, show."),
    "doctor": ("appliance.cli.doctor:doctor", "Which links this machine and user can have."),
    "bench": ("appliance.bench.command:bench", "Compare with redis-server, side by side."),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (place, _) in _COMMANDS.items() if _is_there(place)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS or not _is_there(_COMMANDS[cmd_name][0]):
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


def _is_there(place: str) -> bool:
    """Whether the module of a command is installed; found by its file, so that nothing is imported."""
    relative = place.partition(":")[0].split(".")[1:]
    base = os.path.join(os.path.dirname(os.path.dirname(__file__)), *relative)
    return os.path.exists(f"{base}.py") or os.path.exists(os.path.join(base, "__init__.py"))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from appliance._build import build_kind

    python = f"{platform.python_implementation()} {platform.python_version()}"
    click.echo(f"redtap {__version__} ({build_kind()} build, {python})")
    ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version, the build (compiled or pure) and the Python, and exit.",
)
def _redtap() -> None:
    """A virtual network appliance: Redis served by a TCP/IP stack of its own, over a TAP device."""


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM and SIGHUP unwind like SIGINT does, so that everything that was made is removed."""
    raise SystemExit(128 + number)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return the exit status. Errors are told here and nowhere else."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        status: Any = _redtap.main(list(arguments), prog_name="redtap", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        return 2
    except click.UsageError as exc:
        return _complain(f"{_uncapitalized(exc.format_message())} (see {_help_of(exc.ctx)})", 2)
    except click.ClickException as exc:
        return _complain(exc.format_message(), 1)
    except ConfigError as exc:
        return _complain(str(exc), 2)
    except ApplianceError as exc:
        return _complain(str(exc), 1)
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except Exception as exc:
        if not _is_topology_error(exc):
            raise
        return _complain(str(exc), 1)
    return status if isinstance(status, int) else 0


def _is_topology_error(exc: Exception) -> bool:
    # Not imported above: most commands never load netns.
    errors = sys.modules.get("netns.errors")
    return errors is not None and isinstance(exc, errors.TopologyError)


def _complain(text: str, status: int) -> int:
    click.echo("redtap: " + " ".join(text.split()), err=True)
    return status


def _uncapitalized(text: str) -> str:
    text = text.rstrip(".")
    return text[:1].lower() + text[1:]


def _help_of(ctx: click.Context | None) -> str:
    return f"{ctx.command_path if ctx else 'redtap'} --help"
