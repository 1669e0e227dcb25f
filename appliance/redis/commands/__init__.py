"""The commands, one module per group: `HANDLERS` names the command of each function, `GET_KEYS` finds keys.

What else is known of a command, from its arity to its documentation, lies in table/, a JSON file per group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.redis.commands import (
    acl,
    bitmaps,
    connection,
    debug,
    dump,
    functions,
    generic,
    geo,
    hashes,
    hyperloglog,
    info,
    lists,
    memory,
    migrate,
    observing,
    pubsub,
    replication,
    scripting,
    server,
    sets,
    sort,
    sorted_sets,
    standalone,
    streams,
    strings,
    tracking,
    transactions,
    waiting,
)
from appliance.redis.registry import bind

if TYPE_CHECKING:
    from appliance.redis.registry import Command, GetKeys, Handler

__all__ = ["all_commands", "all_get_keys", "all_handlers"]

_MODULES = (
    acl,
    bitmaps,
    connection,
    debug,
    dump,
    functions,
    generic,
    geo,
    hashes,
    hyperloglog,
    info,
    lists,
    memory,
    migrate,
    observing,
    pubsub,
    replication,
    scripting,
    server,
    sets,
    sort,
    sorted_sets,
    standalone,
    streams,
    strings,
    tracking,
    transactions,
    waiting,
)


def all_handlers() -> dict[str, Handler]:
    """The function of every command, by full name (`get`, `client|kill`).

    Raises:
        ValueError: two modules claim the same command.
    """
    found: dict[str, Handler] = {}
    for module in _MODULES:
        twice = found.keys() & module.HANDLERS.keys()
        if twice:
            raise ValueError(f"{module.__name__}: handlers of another module: {sorted(twice)}")
        found.update(module.HANDLERS)
    return found


def all_get_keys() -> dict[str, GetKeys]:
    """The functions that find keys where no key spec can, by full name."""
    found: dict[str, GetKeys] = {}
    for module in _MODULES:
        found.update(getattr(module, "GET_KEYS", {}))
    return found


def all_commands() -> list[Command]:
    """Every command, as fresh entries: their counters belong to one engine."""
    return bind(all_handlers(), all_get_keys())
