"""INFO: what the server knows about itself, section after section.

`FIELDS` is the law: the sections and, in each, the fields of redis-server in its order. A value is counted
(here, from plain attributes of those who count), told by the shell (`Engine.set_info_provider`: process,
memory, CPU, the network), or it stands in `CONSTANTS`, because what it is about does not exist here. Sections
with one line for each command, error or database have no list. A provider's fields that redis-server does not
have follow behind; sections that only a provider or this project knows come last.

Source:     https://redis.io/docs/latest/commands/info/; names, order and number formats of redis-server 8.2.
            appliance/docs/info.md is made from this module.
Invariants: every field of `FIELDS` is either computed or in `CONSTANTS`, never both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis.commands.memory import MemoryReport, memory_report
from appliance.redis.crc64 import crc64
from appliance.redis.keysizes import KINDS, bin_name, count_sizes
from appliance.redis.replies import Verbatim

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

Facts = dict[str, "str | int"]

FIELDS: Final[dict[str, list[str]]] = {
    name: text.split()
    for name, text in {
        "server": """
redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits monotonic_clock
multiplexing_api atomicvar_api gcc_version process_id process_supervised run_id tcp_port server_time_usec
uptime_in_seconds uptime_in_days hz configured_hz lru_clock executable config_file io_threads_active""",
        "clients": """
connected_clients cluster_connections maxclients client_recent_max_input_buffer
client_recent_max_output_buffer blocked_clients tracking_clients pubsub_clients watching_clients
clients_in_timeout_table total_watched_keys total_blocking_keys total_blocking_keys_on_nokey""",
        "memory": """
used_memory used_memory_human used_memory_rss used_memory_rss_human used_memory_peak used_memory_peak_human
used_memory_peak_time used_memory_peak_perc used_memory_overhead used_memory_startup used_memory_dataset
used_memory_dataset_perc allocator_allocated allocator_active allocator_resident allocator_muzzy
total_system_memory total_system_memory_human used_memory_lua used_memory_vm_eval used_memory_lua_human
used_memory_scripts_eval number_of_cached_scripts number_of_functions number_of_libraries
used_memory_vm_functions used_memory_vm_total used_memory_vm_total_human used_memory_functions
used_memory_scripts used_memory_scripts_human maxmemory maxmemory_human maxmemory_policy allocator_frag_ratio
allocator_frag_bytes allocator_rss_ratio allocator_rss_bytes rss_overhead_ratio rss_overhead_bytes
mem_fragmentation_ratio mem_fragmentation_bytes mem_not_counted_for_evict mem_replication_backlog
mem_total_replication_buffers mem_replica_full_sync_buffer mem_clients_slaves mem_clients_normal
mem_cluster_links mem_aof_buffer mem_allocator mem_overhead_db_hashtable_rehashing active_defrag_running
lazyfree_pending_objects lazyfreed_objects""",
        "persistence": """
loading async_loading current_cow_peak current_cow_size current_cow_size_age current_fork_perc
current_save_keys_processed current_save_keys_total rdb_changes_since_last_save rdb_bgsave_in_progress
rdb_last_save_time rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_saves
rdb_last_cow_size rdb_last_load_keys_expired rdb_last_load_keys_loaded aof_enabled aof_rewrite_in_progress
aof_rewrite_scheduled aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_bgrewrite_status
aof_rewrites aof_rewrites_consecutive_failures aof_last_write_status aof_last_cow_size module_fork_in_progress
module_fork_last_cow_size""",
        "threads": "io_thread_0",
        "stats": """
total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes
total_net_output_bytes total_net_repl_input_bytes total_net_repl_output_bytes instantaneous_input_kbps
instantaneous_output_kbps instantaneous_input_repl_kbps instantaneous_output_repl_kbps rejected_connections
sync_full sync_partial_ok sync_partial_err expired_subkeys expired_keys expired_stale_perc
expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys evicted_clients evicted_scripts
total_eviction_exceeded_time current_eviction_exceeded_time keyspace_hits keyspace_misses pubsub_channels
pubsub_patterns pubsubshard_channels latest_fork_usec total_forks migrate_cached_sockets
slave_expires_tracked_keys active_defrag_hits active_defrag_misses active_defrag_key_hits
active_defrag_key_misses total_active_defrag_time current_active_defrag_time tracking_total_keys
tracking_total_items tracking_total_prefixes unexpected_error_replies total_error_replies
dump_payload_sanitizations total_reads_processed total_writes_processed io_threaded_reads_processed
io_threaded_writes_processed io_threaded_total_prefetch_batches io_threaded_total_prefetch_entries
client_query_buffer_limit_disconnections client_output_buffer_limit_disconnections reply_buffer_shrinks
reply_buffer_expands eventloop_cycles eventloop_duration_sum eventloop_duration_cmd_sum
instantaneous_eventloop_cycles_per_sec instantaneous_eventloop_duration_usec acl_access_denied_auth
acl_access_denied_cmd acl_access_denied_key acl_access_denied_channel""",
        "replication": """
role connected_slaves master_failover_state master_replid master_replid2 master_repl_offset second_repl_offset
repl_backlog_active repl_backlog_size repl_backlog_first_byte_offset repl_backlog_histlen""",
        "cpu": """
used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children used_cpu_sys_main_thread
used_cpu_user_main_thread""",
        "modules": "",
        "commandstats": "",
        "errorstats": "",
        "latencystats": "",
        "cluster": "cluster_enabled",
        "keyspace": "",
        "keysizes": "",
        "debug": """
eventloop_duration_aof_sum eventloop_duration_cron_sum eventloop_duration_max eventloop_cmd_per_cycle_max
allocator_allocated_lua allocator_active_lua allocator_resident_lua allocator_frag_bytes_lua""",
    }.items()
}

OUTSIDE: Final = (
    "An engine without an appliance round it cannot know: only `redtap serve` tells, and there they are real."
)
CONSTANTS: Final[list[tuple[str, Facts]]] = [
    (
        "Redtap is Python: no commit of redis-server's, and no compiler, allocator or atomic type of C.",
        {
            "redis_git_sha1": "00000000",
            "redis_git_dirty": 0,
            "atomicvar_api": "gil",
            "gcc_version": "0.0.0",
            "mem_allocator": "python",
            "allocator_muzzy": 0,
            "allocator_frag_ratio": "1.00",
            "allocator_frag_bytes": 0,
            "active_defrag_running": 0,
            "active_defrag_hits": 0,
            "active_defrag_misses": 0,
            "active_defrag_key_hits": 0,
            "active_defrag_key_misses": 0,
            "total_active_defrag_time": 0,
            "current_active_defrag_time": 0,
            "allocator_allocated_lua": 0,
            "allocator_active_lua": 0,
            "allocator_resident_lua": 0,
            "allocator_frag_bytes_lua": 0,
        },
    ),
    (
        "One thread does everything.",
        {
            "io_threads_active": 0,
            "io_threaded_reads_processed": 0,
            "io_threaded_writes_processed": 0,
            "io_threaded_total_prefetch_batches": 0,
            "io_threaded_total_prefetch_entries": 0,
        },
    ),
    (
        "Nothing is written to disk: no snapshot, no append-only file.",
        {
            "loading": 0,
            "async_loading": 0,
            "current_cow_peak": 0,
            "current_cow_size": 0,
            "current_cow_size_age": 0,
            "current_fork_perc": "0.00",
            "current_save_keys_processed": 0,
            "current_save_keys_total": 0,
            "rdb_bgsave_in_progress": 0,
            "rdb_last_bgsave_status": "ok",
            "rdb_last_bgsave_time_sec": -1,
            "rdb_current_bgsave_time_sec": -1,
            "rdb_saves": 0,
            "rdb_last_cow_size": 0,
            "rdb_last_load_keys_expired": 0,
            "rdb_last_load_keys_loaded": 0,
            "aof_enabled": 0,
            "aof_rewrite_in_progress": 0,
            "aof_rewrite_scheduled": 0,
            "aof_last_rewrite_time_sec": -1,
            "aof_current_rewrite_time_sec": -1,
            "aof_last_bgrewrite_status": "ok",
            "aof_rewrites": 0,
            "aof_rewrites_consecutive_failures": 0,
            "aof_last_write_status": "ok",
            "aof_last_cow_size": 0,
            "mem_aof_buffer": 0,
            "eventloop_duration_aof_sum": 0,
        },
    ),
    (
        "There are no replicas, no master above this one, and no cluster.",
        {
            "redis_mode": "standalone",
            "cluster_connections": 0,
            "cluster_enabled": 0,
            "mem_cluster_links": 0,
            "role": "master",
            "master_failover_state": "no-failover",
            "master_replid2": "0" * 40,
            "master_repl_offset": 0,
            "second_repl_offset": -1,
            "repl_backlog_active": 0,
            "repl_backlog_size": 1048576,
            "repl_backlog_first_byte_offset": 0,
            "repl_backlog_histlen": 0,
            "mem_replication_backlog": 0,
            "mem_total_replication_buffers": 0,
            "mem_replica_full_sync_buffer": 0,
            "mem_clients_slaves": 0,
            "mem_not_counted_for_evict": 0,
            "total_net_repl_input_bytes": 0,
            "total_net_repl_output_bytes": 0,
            "instantaneous_input_repl_kbps": "0.00",
            "instantaneous_output_repl_kbps": "0.00",
            "sync_partial_ok": 0,
            "slave_expires_tracked_keys": 0,
            "unexpected_error_replies": 0,
        },
    ),
    (
        "Scripts and functions share one Lua, whose memory stands under the scripts.",
        {"used_memory_vm_functions": 0},
    ),
    (
        "There are no modules.",
        {"module_fork_in_progress": 0, "module_fork_last_cow_size": 0},
    ),
    (
        "The one user may do everything; only a wrong password is denied.",
        {"acl_access_denied_cmd": 0, "acl_access_denied_key": 0, "acl_access_denied_channel": 0},
    ),
    (
        "Replies are collected in a list, not in a buffer of some size, and a table that is resized has no "
        "second one of full size; payloads of RESTORE are always checked whole.",
        {
            "reply_buffer_shrinks": 0,
            "reply_buffer_expands": 0,
            "mem_overhead_db_hashtable_rehashing": 0,
            "dump_payload_sanitizations": 0,
        },
    ),
    ("Nobody supervises by the protocol of upstart or systemd.", {"process_supervised": "no"}),
    (
        "Nobody takes the time of each step, and steps are not the same thing as the server's cycles.",
        {"eventloop_duration_max": 0, "eventloop_cmd_per_cycle_max": 0},
    ),
    (
        OUTSIDE,
        {
            "os": "",
            "monotonic_clock": "POSIX clock_gettime",
            "multiplexing_api": "epoll",
            "process_id": 0,
            "executable": "",
            "io_thread_0": "clients=0,reads=0,writes=0",
            "used_memory_peak_time": 0,
            "total_system_memory": 0,
            "total_system_memory_human": "0B",
            "total_reads_processed": 0,
            "total_writes_processed": 0,
            "eventloop_cycles": 0,
            "eventloop_duration_sum": 0,
            "instantaneous_eventloop_cycles_per_sec": 0,
            "instantaneous_eventloop_duration_usec": 0,
            "eventloop_duration_cron_sum": 0,
            "used_cpu_sys": "0.000000",
            "used_cpu_user": "0.000000",
            "used_cpu_sys_children": "0.000000",
            "used_cpu_user_children": "0.000000",
            "used_cpu_sys_main_thread": "0.000000",
            "used_cpu_user_main_thread": "0.000000",
        },
    ),
]

_ALWAYS: Final[Facts] = {name: value for _, facts in CONSTANTS for name, value in facts.items()}

# What `default` leaves out, and what only its own name brings.
_NOT_BY_DEFAULT: Final = ("commandstats", "latencystats")
_NEVER_WITH_OTHERS: Final = ("debug",)
_TITLES: Final = {"cpu": "CPU"}


def human_bytes(size: int) -> str:
    """A size as INFO writes it: 1.50M."""
    if size < 1024:
        return f"{size}B"
    step = min((size.bit_length() - 1) // 10, 5)
    return f"{size / (1 << 10 * step):.2f}{'KMGTP'[step - 1]}"


def _share(part: int, whole: int) -> str:
    return f"{100.0 * part / whole if whole else 0.0:.2f}%"


# The sections -------------------------------------------------------------------------------------


def _server(engine: Engine) -> Facts:
    settings = engine.settings
    now_us = engine.clock.now_us
    uptime_s = max(0, now_us - engine.started_us) // 1_000_000
    version = settings.redtap_version.encode()
    return {
        "redis_version": settings.version,
        "redis_build_id": f"{int(crc64(version, len(version))) & 0xFFFF_FFFF_FFFF_FFFF:016x}",
        "arch_bits": 64,
        "run_id": engine.run_id,
        "tcp_port": settings.port,
        "server_time_usec": now_us,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86400,
        "hz": int(engine.client_limits.hz),
        "configured_hz": engine.configuration.integer("hz"),
        "lru_clock": now_us // 1_000_000 & 0xFF_FFFF,
        "config_file": "" if engine.config_store is None else engine.config_store.path,
    }


def _clients(engine: Engine) -> Facts:
    limits = engine.client_limits
    return {
        "connected_clients": len(engine.sessions) - len(engine.snapshots.replicas()),
        "maxclients": engine.configuration.integer("maxclients"),
        "client_recent_max_input_buffer": limits.largest_input(),
        "client_recent_max_output_buffer": limits.largest_output(),
        "blocked_clients": engine.blocked.count,
        "tracking_clients": len(engine.tracking.clients),
        "pubsub_clients": len(engine.pubsub.listeners),
        "watching_clients": len(engine.watches.sessions),
        "clients_in_timeout_table": engine.blocked.timed_count,
        "total_watched_keys": engine.watches.keys_count(),
        "total_blocking_keys": engine.blocked.keys_count(),
        "total_blocking_keys_on_nokey": engine.blocked.keys_watched_for_deletion(),
    }


def _memory(engine: Engine) -> Facts:
    report: MemoryReport = memory_report(engine)
    limit = engine.configuration.integer("maxmemory")
    ratio = report.resident / report.used if report.used else 1.0
    extra = report.resident - report.used
    scripts = engine.scripts
    lua = scripts.memory_used()
    cached = scripts.scripts_memory()
    libraries = scripts.libraries
    return {
        "used_memory": report.used,
        "used_memory_human": human_bytes(report.used),
        "used_memory_rss": report.resident,
        "used_memory_rss_human": human_bytes(report.resident),
        "used_memory_peak": report.peak,
        "used_memory_peak_human": human_bytes(report.peak),
        "used_memory_peak_perc": _share(report.used, report.peak),
        "used_memory_overhead": report.overhead,
        "used_memory_startup": report.startup,
        "used_memory_dataset": report.dataset,
        "used_memory_dataset_perc": _share(report.dataset, report.used - report.startup),
        "allocator_allocated": report.used,
        "allocator_active": report.used,
        "allocator_resident": report.resident,
        "used_memory_lua": lua,
        "used_memory_vm_eval": lua,
        "used_memory_lua_human": human_bytes(lua),
        "used_memory_scripts_eval": cached,
        "number_of_cached_scripts": len(scripts.cached),
        "number_of_functions": len(libraries.functions),
        "number_of_libraries": len(libraries.by_name),
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": lua,
        "used_memory_vm_total_human": human_bytes(lua),
        "used_memory_functions": libraries.memory(),
        "used_memory_scripts": cached + libraries.memory(),
        "used_memory_scripts_human": human_bytes(cached + libraries.memory()),
        "maxmemory": limit,
        "maxmemory_human": human_bytes(limit),
        "maxmemory_policy": engine.configuration.text("maxmemory-policy").decode(),
        "allocator_rss_ratio": f"{ratio:.2f}",
        "allocator_rss_bytes": extra,
        "rss_overhead_ratio": "1.00",
        "rss_overhead_bytes": 0,
        "mem_fragmentation_ratio": f"{ratio:.2f}",
        "mem_fragmentation_bytes": extra,
        "mem_clients_normal": report.clients,
        "lazyfree_pending_objects": len(engine.releases),
        "lazyfreed_objects": engine.releases.freed,
    }


def _persistence(engine: Engine) -> Facts:
    return {
        "rdb_changes_since_last_save": engine.dirty,
        "rdb_last_save_time": engine.started_us // 1_000_000,
    }


def _stats(engine: Engine) -> Facts:
    stats = engine.stats
    counters = engine.counters
    limits = engine.client_limits
    pubsub = engine.pubsub
    refusing_us = 0
    if counters.refusing_since_us != 0:
        refusing_us = engine.clock.now_us - counters.refusing_since_us
    return {
        "total_connections_received": engine.connections_received,
        "total_commands_processed": engine.commands_processed() - engine.reset_commands,
        "instantaneous_ops_per_sec": engine.ops_per_second,
        "total_net_input_bytes": engine.total_bytes_in() - engine.reset_bytes_in,
        "total_net_output_bytes": engine.total_bytes_out() - engine.reset_bytes_out,
        "instantaneous_input_kbps": f"{engine.traffic.input_kbps:.2f}",
        "instantaneous_output_kbps": f"{engine.traffic.output_kbps:.2f}",
        "rejected_connections": engine.rejected_connections,
        "sync_full": counters.snapshots_sent,
        "sync_partial_err": counters.resumptions_refused,
        "latest_fork_usec": counters.last_fork_us,
        "total_forks": counters.forks,
        "expired_subkeys": stats.expired_fields,
        "expired_keys": stats.expired_keys,
        "expired_stale_perc": f"{counters.stale_share * 100:.2f}",
        "expired_time_cap_reached_count": counters.expire_budget_reached,
        "expire_cycle_cpu_milliseconds": counters.expiring_ns // 1_000_000,
        "evicted_keys": stats.evicted_keys,
        "evicted_clients": limits.evicted_clients,
        "evicted_scripts": engine.scripts.evicted_scripts,
        "migrate_cached_sockets": engine.migrations.cached_connections,
        "total_eviction_exceeded_time": (counters.refusing_us + refusing_us) // 1000,
        "current_eviction_exceeded_time": refusing_us // 1000,
        "keyspace_hits": stats.hits,
        "keyspace_misses": stats.misses,
        "pubsub_channels": len(pubsub.channels),
        "pubsub_patterns": len(pubsub.patterns),
        "pubsubshard_channels": len(pubsub.shard_channels),
        "tracking_total_keys": engine.tracking.total_keys,
        "tracking_total_items": engine.tracking.total_items,
        "tracking_total_prefixes": engine.tracking.total_prefixes,
        "total_error_replies": counters.error_replies,
        "client_query_buffer_limit_disconnections": limits.query_buffer_disconnections,
        "client_output_buffer_limit_disconnections": limits.output_buffer_disconnections,
        "eventloop_duration_cmd_sum": sum([command.total_us for command in engine.registry.every()]),
        "acl_access_denied_auth": counters.authentications_denied,
    }


def _replication(engine: Engine) -> Facts:
    """Who gets a snapshot is a replica for as long as that takes."""
    lines = [each.line() for each in engine.snapshots.replicas()]
    facts: Facts = {"connected_slaves": len(lines), "master_replid": engine.replication_id}
    facts.update({f"slave{at}": line for at, line in enumerate(lines)})
    return facts


def _command_stats(engine: Engine) -> Facts:
    facts: Facts = {}
    for command in engine.registry.every():
        if command.calls or command.rejected_calls or command.failed_calls:
            took_us = command.total_us
            facts[f"cmdstat_{command.full_name.decode()}"] = (
                f"calls={command.calls},usec={took_us},"
                f"usec_per_call={took_us / max(1, int(command.calls)):.2f},"
                f"rejected_calls={command.rejected_calls},failed_calls={command.failed_calls}"
            )
    return facts


# Scripts choose codes of errors: what would end a name, or a line, may not be in one.
_NAME_BYTES: Final = bytes.maketrans(b"#:\n\r", b"____")


def _error_stats(engine: Engine) -> Facts:
    counts = engine.error_counts
    facts: Facts = {}
    for code in sorted(counts):
        name = code.translate(_NAME_BYTES).decode("latin-1")
        facts[f"errorstat_{name}"] = f"count={counts[code]}"
    return facts


def _latency_stats(engine: Engine) -> Facts:
    facts: Facts = {}
    facts.update(engine.timing.latency_facts())
    return facts


def _keyspace(engine: Engine) -> Facts:
    facts: Facts = {}
    for database in engine.databases:
        if len(database):
            scheduled = len(engine.field_schedules[database.index])
            facts[f"db{database.index}"] = (
                f"keys={len(database)},expires={database.expiring_count},avg_ttl={database.average_ttl_ms},"
                f"subexpiry={scheduled}"
            )
    return facts


def _keysizes(engine: Engine) -> Facts:
    facts: Facts = {}
    for database in engine.databases:
        if len(database) == 0:
            continue
        for kind, counts in zip(KINDS, count_sizes(database, engine.random), strict=True):
            shown = [f"{bin_name(at)}={count}" for at, count in enumerate(counts) if count]
            if shown:
                facts[f"db{database.index}_distrib_{kind}"] = ",".join(shown)
    return facts


def _redtap(engine: Engine) -> Facts:
    """What redis-server has no name for."""
    return {
        "redtap_version": engine.settings.redtap_version,
        "peak_connected_clients": engine.peak_sessions,
        "keyspace_slots": sum(database.slots_allocated() for database in engine.databases),
        "expired_lazily": engine.stats.expired_lazily,
    }


def _computed(engine: Engine, name: str) -> Facts:
    if name == "server":
        return _server(engine)
    if name == "clients":
        return _clients(engine)
    if name == "memory":
        return _memory(engine)
    if name == "persistence":
        return _persistence(engine)
    if name == "stats":
        return _stats(engine)
    if name == "replication":
        return _replication(engine)
    if name == "commandstats":
        return _command_stats(engine)
    if name == "errorstats":
        return _error_stats(engine)
    if name == "latencystats":
        return _latency_stats(engine)
    if name == "keyspace":
        return _keyspace(engine)
    if name == "keysizes":
        return _keysizes(engine)
    if name == "redtap":
        return _redtap(engine)
    return {}


def section(engine: Engine, name: str) -> Facts:
    """The fields of a section and their values, in the order in which INFO shows them."""
    found = _computed(engine, name)
    found.update(engine.provided_info(name))
    facts: Facts = {}
    for field in FIELDS.get(name, []):
        value = found.pop(field, None)
        facts[field] = _ALWAYS[field] if value is None else value
        if field == "connected_slaves":
            for at in range(int(facts[field])):
                facts[f"slave{at}"] = found.pop(f"slave{at}")
    facts.update(found)
    return facts


def section_names(engine: Engine) -> list[str]:
    """Every section there is, in order."""
    return [*FIELDS, "redtap", *[name for name in engine.provided_sections() if name not in FIELDS]]


def info(session: Session, args: list[bytes]) -> object:
    # What is being executed has not been counted in what it shows, there.
    engine = session.engine
    command = session.last_command
    assert command is not None
    counted = [command, *engine.commands_under_way()]
    for each in counted:
        each.calls -= 1
    engine.commands_executed -= len(counted)
    try:
        return _shown(engine, args)
    finally:
        for each in counted:
            each.calls += 1
        engine.commands_executed += len(counted)


def _shown(engine: Engine, args: list[bytes]) -> Verbatim:
    known = section_names(engine)
    wanted: set[str] = set()
    for text in args[1:] or [b"default"]:
        name = text.decode("latin-1").lower()
        if name in ("all", "everything"):
            wanted.update([each for each in known if each not in _NEVER_WITH_OTHERS])
        elif name == "default":
            left_out = _NEVER_WITH_OTHERS + _NOT_BY_DEFAULT
            wanted.update([each for each in known if each not in left_out])
        else:
            wanted.add(name)
    blocks: list[str] = []
    for name in known:
        if name in wanted:
            lines = [f"{field}:{value}\r\n" for field, value in section(engine, name).items()]
            blocks.append(f"# {_TITLES.get(name, name.capitalize())}\r\n" + "".join(lines))
    return Verbatim("\r\n".join(blocks).encode("utf-8"))


HANDLERS: Final[dict[str, Handler]] = {"info": info}
