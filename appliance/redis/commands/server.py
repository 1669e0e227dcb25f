"""Commands about the server: CONFIG, COMMAND, TIME, SHUTDOWN.

Source:     https://redis.io/docs/latest/commands/?group=server; order of checks and texts from redis-server
            8.2.
Not here:   INFO (info.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.config_file import rewritten
from appliance.redis.engine_modes import SCRIPT_BUSY
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.replies import NO_REPLY, OK, Map, SetReply, SimpleString, Verbatim

if TYPE_CHECKING:
    from appliance.redis.registry import Command, Handler
    from appliance.redis.session import Session


# CONFIG -------------------------------------------------------------------------------------------


def config_get(session: Session, args: list[bytes]) -> object:
    flat: list[object] = []
    for name, value in session.engine.configuration.matching(args[2:]):
        flat.append(name)
        flat.append(value)
    return Map(flat)


def config_set(session: Session, args: list[bytes]) -> object:
    if len(args) % 2:
        raise CommandError(errors.SYNTAX)
    session.engine.configuration.set_many([(args[at], args[at + 1]) for at in range(2, len(args), 2)])
    session.engine.configuration_changed()
    return OK


def config_resetstat(session: Session, args: list[bytes]) -> object:
    session.engine.reset_stats()
    command = session.last_command
    if command is not None:
        command.calls = 1  # this one is the first
    return OK


def config_rewrite(session: Session, args: list[bytes]) -> object:
    engine = session.engine
    store = engine.config_store
    if store is None:
        raise CommandError(b"ERR The server is running without a config file")
    try:
        store.write(rewritten(store.read(), engine.configuration))
    except OSError as error:
        reason = (error.strerror or str(error)).encode()
        raise CommandError(b"ERR Rewriting config file: " + reason) from None
    return OK


# COMMAND ------------------------------------------------------------------------------------------


def command(session: Session, args: list[bytes]) -> object:
    return [each.facts.info() for each in session.engine.registry.commands.values()]


def _named(session: Session, name: bytes) -> Command | None:
    """The command `name`, or the subcommand of `container|name`."""
    registry = session.engine.registry
    container_name, mark, subcommand = name.partition(b"|")
    found = registry.find(container_name)
    if found is None or not mark:
        return found
    return None if found.subcommands is None else found.subcommands.get(subcommand.lower())


def command_count(session: Session, args: list[bytes]) -> object:
    return len(session.engine.registry.commands)


def command_info(session: Session, args: list[bytes]) -> object:
    if len(args) == 2:
        return command(session, args)
    found: list[object] = []
    for name in args[2:]:
        named = _named(session, name)
        found.append(None if named is None else named.facts.info())
    return found


def command_docs(session: Session, args: list[bytes]) -> object:
    flat: list[object] = []
    if len(args) == 2:
        for each in session.engine.registry.commands.values():
            flat += [each.full_name, each.facts.docs()]
    for name in args[2:]:
        named = _named(session, name)
        if named is not None:
            flat += [named.full_name, named.facts.docs()]
    return Map(flat)


def command_list(session: Session, args: list[bytes]) -> object:
    every = session.engine.registry.every()
    if len(args) == 2:
        return SetReply([each.full_name for each in every])
    if len(args) != 5 or args[2].lower() != b"filterby":
        raise CommandError(errors.SYNTAX)
    kind = args[3].lower()
    if kind == b"module":
        every = []
    elif kind == b"aclcat":
        wanted = args[4].lower().decode("latin-1")
        every = [each for each in every if wanted in each.facts.categories]
    elif kind == b"pattern":
        every = [each for each in every if glob_match(args[4], each.full_name, ignore_case=True)]
    else:
        raise CommandError(errors.SYNTAX)
    return [each.full_name for each in every]


def _keys_of_request(session: Session, args: list[bytes]) -> list[tuple[bytes, list[str]]]:
    request = args[2:]
    try:
        named = session.engine.registry.resolve(request)
    except CommandError:
        raise CommandError(b"ERR Invalid command specified") from None
    if not named.facts.has_keys and named.get_keys is None:
        raise CommandError(b"ERR The command has no key arguments")
    if not named.accepts(len(request)):
        raise CommandError(b"ERR Invalid number of arguments specified for command")
    return named.keys_of(request)


def command_getkeys(session: Session, args: list[bytes]) -> object:
    return [key for key, _ in _keys_of_request(session, args)]


def command_getkeysandflags(session: Session, args: list[bytes]) -> object:
    found: list[object] = []
    for key, names in _keys_of_request(session, args):
        flags: list[object] = [SimpleString(name.encode()) for name in names]
        found.append([key, SetReply(flags)])
    return found


# The rest -----------------------------------------------------------------------------------------


def time(session: Session, args: list[bytes]) -> object:
    now_us: int = session.clock.now_us
    return [b"%d" % (now_us // 1_000_000), b"%d" % (now_us % 1_000_000)]


def shutdown(session: Session, args: list[bytes]) -> object:
    words = [word.lower() for word in args[1:]]
    if any(word not in (b"save", b"nosave", b"now", b"force", b"abort") for word in words):
        raise CommandError(errors.SYNTAX)
    if (b"abort" in words and any(word != b"abort" for word in words)) or (
        b"save" in words and b"nosave" in words
    ):
        raise CommandError(errors.SYNTAX)
    if b"abort" in words:
        raise CommandError(b"ERR No shutdown in progress.")
    if session.engine.mode & SCRIPT_BUSY and b"nosave" not in words:
        raise CommandError(session.engine.scripts.busy_text())
    if b"save" in words and b"force" not in words:
        # There is nowhere to save to; a client that insists on it must not lose its data unawares.
        raise CommandError(b"ERR Errors trying to SHUTDOWN. Check logs.")
    session.engine.shutdown_requested = True
    session.is_closing = True
    return NO_REPLY


def role(session: Session, args: list[bytes]) -> object:
    """A master without replicas, at offset 0 of a stream that nobody follows."""
    followers: list[object] = []
    return [b"master", 0, followers]


def lastsave(session: Session, args: list[bytes]) -> object:
    """When the data was last safe: there is nothing to save to, so that was at the start."""
    return session.engine.started_us // 1_000_000


def lolwut(session: Session, args: list[bytes]) -> object:
    if len(args) > 2 and args[1].lower() == b"version":
        integer_argument(args[2])
    settings = session.engine.settings
    picture = "~~~ o ~~~ every segment was ours ~~~ o ~~~\n"
    return Verbatim(f"{picture}{settings.server_name} ver. {settings.version}\n".encode())


HANDLERS: Final[dict[str, Handler]] = {
    "command": command,
    "command|count": command_count,
    "command|docs": command_docs,
    "command|getkeys": command_getkeys,
    "command|getkeysandflags": command_getkeysandflags,
    "command|info": command_info,
    "command|list": command_list,
    "config|get": config_get,
    "config|resetstat": config_resetstat,
    "config|rewrite": config_rewrite,
    "config|set": config_set,
    "lastsave": lastsave,
    "lolwut": lolwut,
    "role": role,
    "shutdown": shutdown,
    "time": time,
}
