"""`redtap serve redis.conf --maxmemory 1gb`: redis-server's file and its parameters on our command line.

    redtap serve [OPTIONS] [redis.conf] [--parameter value ...] [-] [OPTIONS]

The first argument that is no option is a redis.conf; `-` is standard input, read after that file. `--name` is
one of our own options if there is one of that name (`--port`, `--databases`, `--requirepass` and
`--enable-debug-command` are the same thing in both), else a parameter of redis-server, which takes all that
follows up to the next `--` or `-`: the first value whatever it looks like. Parameters go before the files,
and both before the TOML file of `--config`; our flags and the environment go before all of them.

Errors: ConfigError, one line.
"""

from __future__ import annotations

import glob
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from appliance import __version__
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.config import Settings
    from appliance.redis.config import Configuration
    from appliance.redis.engine import EngineSettings

_MORE_WORDS: Final = ("include", "rename-command", "user", "loadmodule")
SHARED: Final = ("port", "databases", "requirepass", "enable_debug_command")
"""Settings of ours that are parameters of redis-server too."""


@dataclass
class RedisArguments:
    """What of a command line is redis-server's.

    Attributes:
        file: name of a redis.conf, None for none.
        lines: parameters, each with its values.
        reads_input: whether standard input is one more file.
        standard_input: what came by it, once it has been read: there is no second time.
    """

    file: str | None = None
    lines: list[list[str]] = field(default_factory=list)
    reads_input: bool = False
    standard_input: bytes | None = None


def split_arguments(arguments: list[str], flags: Mapping[str, bool]) -> tuple[list[str], RedisArguments]:
    """Part a command line into ours and redis-server's.

    Args:
        flags: names of our own options, such as `--mtu`, and whether a value follows.
    """
    ours: list[str] = []
    theirs = RedisArguments()
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        if argument == "--":
            ours += arguments[at - 1 :]
            break
        name = argument.split()[0].lower() if argument.strip() else argument
        if argument == "-" and not theirs.reads_input:
            theirs.reads_input = True
        elif not argument.startswith("-") or argument == "-":
            if theirs.file is None and not theirs.lines and not theirs.reads_input:
                theirs.file = argument
            else:
                ours.append(argument)
        elif argument.partition("=")[0] in flags:
            ours.append(argument)
            if "=" not in argument and flags[argument] and at < len(arguments):
                ours.append(arguments[at])
                at += 1
        elif argument.startswith("--") and _is_known(name[2:]):
            line = argument[2:].split() if name != argument.lower() else [argument[2:]]
            if len(line) == 1 and at < len(arguments) and not _ends_save(name, arguments[at]):
                line.append(arguments[at])
                at += 1
            while at < len(arguments) and not arguments[at].startswith("--") and arguments[at] != "-":
                line.append(arguments[at])
                at += 1
            theirs.lines.append(line if line != ["save"] else ["save", ""])
        else:
            ours.append(argument)
    return ours, theirs


def _ends_save(name: str, following: str) -> bool:
    """`--save --port 1`: of `save` alone the value may be left out."""
    return name == "--save" and following.startswith("--")


def _is_known(name: str) -> bool:
    from appliance.redis.parameters import load_parameters

    wanted = name.encode()
    return name in _MORE_WORDS or any(wanted in (each.name, each.alias) for each in load_parameters())


class RedisConfCommand(click.Command):
    """A command that takes redis-server's arguments beside its own; they are in `ctx.obj`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags: dict[str, bool] = {"--help": False}
        for parameter in self.params:
            if isinstance(parameter, click.Option):
                flags.update(dict.fromkeys(parameter.opts, not parameter.is_flag))
        ours, ctx.obj = split_arguments(args, flags)
        return super().parse_args(ctx, ours)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[REDIS_CONF]", "[--PARAMETER VALUE]..."]


class RedisConf:
    """What was read of redis-server's configuration."""

    def __init__(self, arguments: RedisArguments) -> None:
        """Read the file and the parameters.

        Raises:
            ConfigError: one line that names the file, the line, and what is wrong with it.
        """
        from appliance.redis.config import Configuration
        from appliance.redis.config_file import ConfigFileError, ConfigReader
        from appliance.redis.registry import load_table

        self.path: str | None = None
        self.source = "redis.conf"
        configuration = Configuration({})
        # Nothing is saved here by default. A redis-server that gets the file back shall go on saving.
        configuration.left_alone.add(b"save")
        names = [facts.full_name.encode() for facts in load_table()]
        reader = ConfigReader(configuration, _found, names)
        try:
            if arguments.file is not None:
                self.path = self.source = arguments.file
                reader.read_file(arguments.file, _content_of(arguments.file))
            if arguments.reads_input:
                name = "standard input"
                self.source = name if self.path is None else f"{self.path} or {name}"
                if arguments.standard_input is None:
                    arguments.standard_input = sys.stdin.buffer.read()
                reader.read_file(name, arguments.standard_input)
            for line in arguments.lines:
                words = [os.fsencode(word) for word in line]
                reader.read_words(words, f"--{line[0]}: '{' '.join(line[1:])}'")
        except ConfigFileError as error:
            raise ConfigError(str(error)) from None
        self.configuration: Configuration = configuration
        self.given = {name.decode() for name in reader.given}
        self.renamed = reader.renamed
        self.notices = reader.notices

    def shared(self) -> dict[str, tuple[str, str]]:
        """Values of the settings that are ours as well, with the words for where they stood."""
        named = {field: field.replace("_", "-") for field in SHARED}
        return {
            field: (os.fsdecode(self.configuration.text(name)), f"--{name} (from {self.source})")
            for field, name in named.items()
            if name in self.given
        }

    def _clients_wanted(self, settings: Settings) -> int:
        return (
            self.configuration.integer("maxclients")
            if "maxclients" in self.given
            else settings.max_connections
        )

    def notices_on(self, settings: Settings) -> list[str]:
        """What of it could not be had as it was wanted, for people."""
        wanted = self._clients_wanted(settings)
        most = settings.max_connections
        if wanted <= most:
            return self.notices
        return [*self.notices, f"maxclients {wanted} is more than --max-connections {most}: it is {most}"]

    def engine_settings(self, settings: Settings) -> EngineSettings:
        """Settings for an engine: what is shared as settled, all else as read."""
        from appliance.redis.engine import EngineSettings
        from appliance.shell.config_store import ConfigFileStore

        configuration = self.configuration
        configuration.override({"enable-debug-command": settings.enable_debug_command})
        return EngineSettings(
            redtap_version=__version__,
            port=settings.port,
            databases=settings.databases,
            requirepass=settings.requirepass,
            maxclients=min(self._clients_wanted(settings), settings.max_connections),
            maxmemory=configuration.integer("maxmemory"),
            proto_max_bulk_len=configuration.integer("proto-max-bulk-len"),
            configuration=configuration,
            config_store=None if self.path is None else ConfigFileStore(self.path),
            renamed=self.renamed,
        )


def _content_of(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror}); takes a redis.conf") from error


def _found(pattern: bytes) -> list[tuple[str, bytes]]:
    """The files that `include` names; a name that is no pattern must be there."""
    name = os.fsdecode(pattern)
    names = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
    found: list[tuple[str, bytes]] = []
    for each in names:
        with open(each, "rb") as file:
            found.append((each, file.read()))
    return found


def redis_arguments(ctx: click.Context) -> RedisArguments:
    """Those that `RedisConfCommand` has found."""
    found: Any = ctx.obj
    return found if isinstance(found, RedisArguments) else RedisArguments()
