"""The commands, one module per group; each declares its table in `commands()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.redis.commands import connection, generic, pubsub, server, strings, transactions, waiting

if TYPE_CHECKING:
    from appliance.redis.registry import Command

__all__ = ["all_commands"]


def all_commands() -> list[Command]:
    """Every command, as fresh entries: their counters belong to one engine."""
    return (
        strings.commands()
        + generic.commands()
        + connection.commands()
        + server.commands()
        + transactions.commands()
        + pubsub.commands()
        + waiting.commands()
    )
