"""Commands about the server: INFO, CONFIG, COMMAND, TIME, SHUTDOWN.

Source:     https://redis.io/docs/latest/commands/?group=server; order of checks and texts from redis-server
            8.2.
Not here:   facts of the process (pid, memory, CPU): the shell gives them through Engine.set_info_provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.replies import NO_REPLY, OK, Map, SetReply, SimpleString, Verbatim

if TYPE_CHECKING:
    from appliance.redis.registry import Command, Handler
    from appliance.redis.session import Session

Facts = dict[str, "str | int"]

# INFO without arguments gives these, in this order; `all` adds _EXTRA.
_DEFAULT: Final = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "errorstats",
    "cluster",
    "keyspace",
]
_EXTRA: Final = ["commandstats"]


# INFO ---------------------------------------------------------------------------------------------


def _server(session: Session) -> Facts:
    engine = session.engine
    settings = engine.settings
    now_us = session.clock.now_us
    uptime_s = max(0, now_us - engine.started_us) // 1_000_000
    return {
        f"{settings.server_name}_version": settings.version,
        "redis_mode": "standalone",
        "arch_bits": 64,
        "run_id": engine.run_id,
        "tcp_port": settings.port,
        "server_time_usec": now_us,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86400,
        "hz": 10,
        "configured_hz": engine.configuration.integer("hz"),
        "config_file": "",
    }


def _clients(session: Session) -> Facts:
    engine = session.engine
    largest_input = 0
    for each in engine.sessions.values():
        largest_input = max(largest_input, each.parser.pending_bytes())
    return {
        "connected_clients": len(engine.sessions),
        "maxclients": engine.configuration.integer("maxclients"),
        "peak_connected_clients": engine.peak_sessions,
        "client_recent_max_input_buffer": largest_input,
        "blocked_clients": engine.blocked.count,
        "tracking_clients": len(engine.tracking.clients),
        "pubsub_clients": len(engine.pubsub.listeners),
        "watching_clients": len(engine.watches.sessions),
        "clients_in_timeout_table": engine.blocked.timed_count,
        "total_watched_keys": engine.watches.keys_count(),
        "total_blocking_keys": engine.blocked.keys_count(),
        "total_blocking_keys_on_nokey": engine.blocked.keys_watched_for_deletion(),
    }


def _memory(session: Session) -> Facts:
    engine = session.engine
    return {
        "maxmemory": engine.configuration.integer("maxmemory"),
        "maxmemory_policy": engine.configuration.text("maxmemory-policy").decode(),
        "keyspace_slots": sum(database.slots_allocated() for database in engine.databases),
        "mem_allocator": "python",
        "lazyfree_pending_objects": len(engine.releases),
    }


def _persistence(session: Session) -> Facts:
    return {
        "loading": 0,
        "async_loading": 0,
        "rdb_changes_since_last_save": session.engine.dirty,
        "rdb_bgsave_in_progress": 0,
        "aof_enabled": 0,
        "aof_rewrite_in_progress": 0,
    }


def _stats(session: Session) -> Facts:
    engine = session.engine
    stats = engine.stats
    return {
        "total_connections_received": engine.connections_received,
        "total_commands_processed": engine.commands_processed() - engine.reset_commands,
        "instantaneous_ops_per_sec": engine.ops_per_second,
        "total_net_input_bytes": engine.total_bytes_in() - engine.reset_bytes_in,
        "total_net_output_bytes": engine.total_bytes_out() - engine.reset_bytes_out,
        "expired_subkeys": stats.expired_fields,
        "rejected_connections": engine.rejected_connections,
        "expired_keys": stats.expired_keys,
        "evicted_keys": stats.evicted_keys,
        "keyspace_hits": stats.hits,
        "keyspace_misses": stats.misses,
        "pubsub_channels": len(engine.pubsub.channels),
        "pubsub_patterns": len(engine.pubsub.patterns),
        "pubsubshard_channels": len(engine.pubsub.shard_channels),
        "tracking_total_keys": engine.tracking.total_keys,
        "tracking_total_items": engine.tracking.total_items,
        "tracking_total_prefixes": engine.tracking.total_prefixes,
        "total_error_replies": sum(engine.error_counts.values()),
    }


def _replication(session: Session) -> Facts:
    return {
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": session.engine.run_id,
        "master_replid2": "0" * 40,
        "master_repl_offset": 0,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
    }


def _keyspace(session: Session) -> Facts:
    facts: Facts = {}
    for database in session.engine.databases:
        if len(database):
            scheduled = len(session.engine.field_schedules[database.index])
            facts[f"db{database.index}"] = (
                f"keys={len(database)},expires={database.expiring_count},avg_ttl={database.average_ttl_ms},"
                f"subexpiry={scheduled}"
            )
    return facts


def _error_stats(session: Session) -> Facts:
    counts = session.engine.error_counts
    return {f"errorstat_{code.decode('latin-1')}": f"count={counts[code]}" for code in sorted(counts)}


def _command_stats(session: Session) -> Facts:
    facts: Facts = {}
    for command in session.engine.registry.every():
        if command.calls or command.rejected_calls or command.failed_calls:
            facts[f"cmdstat_{command.full_name.decode()}"] = (
                f"calls={command.calls},rejected_calls={command.rejected_calls},failed_calls={command.failed_calls}"
            )
    return facts


def _section(session: Session, name: str) -> Facts:
    """The engine's own facts of a section, then those of the providers."""
    facts: Facts = {}
    if name == "server":
        facts = _server(session)
    elif name == "clients":
        facts = _clients(session)
    elif name == "memory":
        facts = _memory(session)
    elif name == "persistence":
        facts = _persistence(session)
    elif name == "stats":
        facts = _stats(session)
    elif name == "replication":
        facts = _replication(session)
    elif name == "errorstats":
        facts = _error_stats(session)
    elif name == "cluster":
        facts = {"cluster_enabled": 0}
    elif name == "keyspace":
        facts = _keyspace(session)
    elif name == "commandstats":
        facts = _command_stats(session)
    facts.update(session.engine.provided_info(name))
    return facts


_TITLES: Final = {"cpu": "CPU"}


def info(session: Session, args: list[bytes]) -> object:
    provided = [name for name in session.engine.provided_sections() if name not in _DEFAULT]
    known = _DEFAULT + [name for name in provided if name not in _EXTRA] + _EXTRA
    wanted: set[str] = set()
    for text in args[1:] or [b"default"]:
        name = text.decode("latin-1").lower()
        if name in ("all", "everything"):
            wanted.update(known)
        elif name == "default":
            wanted.update(known[: -len(_EXTRA)])
        else:
            wanted.add(name)
    blocks: list[str] = []
    for name in known:
        if name in wanted:
            lines = [f"{field}:{value}\r\n" for field, value in _section(session, name).items()]
            blocks.append(f"# {_TITLES.get(name, name.capitalize())}\r\n" + "".join(lines))
    return Verbatim("\r\n".join(blocks).encode("utf-8"))


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
    return OK


def config_rewrite(session: Session, args: list[bytes]) -> object:
    raise CommandError(b"ERR The server is running without a config file")


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
    "info": info,
    "lastsave": lastsave,
    "lolwut": lolwut,
    "role": role,
    "shutdown": shutdown,
    "time": time,
}
