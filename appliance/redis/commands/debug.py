"""DEBUG: what test suites of clients and servers use it for.

Allowed when `enable-debug-command` says so, which by default it does not, as with redis-server.

What is about parts that do not exist here (replicas, a cluster, a file) is checked, answered and changes
nothing: suites switch such things on and off around their tests. HELP says of which that is so.

What ends the process, or begins the server in it anew, is a wish to whoever runs the engine
(`process_end.py`); where it is part of somebody else's process it is refused by name.

Source:     order of checks, texts and forms from redis-server 8.2.
Not here:   LOADAOF does what RELOAD does: there is no file to load from. MALLCTL asks jemalloc, which is not
            here: it knows no name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.redis import dump, errors, reload
from appliance.redis.arguments import integer_argument
from appliance.redis.config_file import rewritten
from appliance.redis.digest import data_digest, value_digest
from appliance.redis.entry import idle_s
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.integers import parse_integer
from appliance.redis.parameters import parse_memory
from appliance.redis.process_end import ABORT, SEGMENTATION_FAULT, ProcessEnd
from appliance.redis.replies import (
    CRLF,
    NO_REPLY,
    OK,
    BigNumber,
    Bulk,
    Map,
    SetReply,
    SimpleString,
    Verbatim,
)
from appliance.redis.types.collection import Collection
from appliance.redis.types.hashes import Hash
from appliance.redis.types.lists import ListValue
from appliance.redis.types.sets import Set
from appliance.redis.values import StringBuffer, encoding_name

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_FOOTER: Final = 11  # of a dump, with the byte of the type
_MOST_PACKED: Final = 1 << 32
_LONGEST_SLEEP_S: Final = 1e9
_LOG_WARNING: Final = 3
_SHA_LENGTH: Final = 40
# CLIENT-EVICTION shows clients in pools by the power of two below their size.
_SMALLEST_POOL: Final = 15
_POOLS: Final = 19

_HELP: Final = (
    ("AOF-FLUSH-SLEEP <microseconds>", "Taken: there is no file to flush."),
    ("ASSERT", "End as by a failed assertion: SIGABRT."),
    ("CHANGE-REPL-ID", "Draw another replication id."),
    ("CLIENT-EVICTION", "How much memory clients take, by size (maxmemory-clients)."),
    ("CONFIG-REWRITE-FORCE-ALL", "CONFIG REWRITE, with all parameters that are not in the file as well."),
    ("CRASH-AND-RECOVER [<milliseconds>]", "Reset all connections, and begin anew after that time."),
    ("DICT-RESIZING <0|1>", "Taken: tables change their size in small steps in any case."),
    ("DIGEST", "A digest of all data."),
    ("DIGEST-VALUE <key> [<key> ...]", "A digest of what each key holds."),
    ("DROP-CLUSTER-PACKET-FILTER <type>", "Taken: there is no cluster."),
    ("ERROR <string>", "Answer with that error."),
    ("HTSTATS <dbid> [full]", "How large the hash tables of a database are."),
    ("HTSTATS-KEY <key> [full]", "The same of a value."),
    ("KEYSIZES-HIST-ASSERT <0|1>", "Taken: sizes are counted when they are asked for."),
    ("LEAK <string>", "Taken: the string is freed."),
    ("LISTPACK <key>", "Write to the log what a listpack holds."),
    ("LOADAOF", "The same as RELOAD here."),
    ("LOG <message>", "Write a line to the log."),
    ("MALLCTL <key> [<val>]", "There is no jemalloc here, so no key is known."),
    ("MALLCTL-STR <key> [<val>]", "The same."),
    ("MARK-INTERNAL-CLIENT [UNMARK]", "Taken: there are no commands for such clients alone."),
    ("OBJECT <key>", "How a value is represented."),
    ("OOM", "End as one whose memory is used up: SIGABRT."),
    ("PANIC", "End as one that found itself in an impossible state: SIGABRT."),
    ("PAUSE-CRON <0|1>", "Stop housekeeping, or go on with it."),
    ("POPULATE <count> [<prefix>] [<size>]", "Make that many strings, those that exist left as they are."),
    ("PROTOCOL <type>", "Answer with a value of that type."),
    ("QUICKLIST <key> [<0|1>]", "Write to the log what a quicklist is made of."),
    ("QUICKLIST-PACKED-THRESHOLD <size>", "From which size on an element of a list has a node of its own."),
    ("RELOAD [option ...]", "Write all values in Redis's format, and build them anew from it."),
    ("REPL-PAUSE <clear|...>", "Taken: there are no replicas."),
    ("REPLICATE <string>", "Taken: there are no replicas."),
    ("REPLYBUFFER <PEAK-RESET-TIME time|RESIZING 0|1>", "Taken: replies need no buffer of a size."),
    ("RESTART [<milliseconds>]", "CONFIG REWRITE, close all connections, and begin anew after that time."),
    ("SCRIPT <LIST|sha>", "Write the scripts in the cache to the log, or one of them."),
    ("SDSLEN <key>", "How long a key and its string are."),
    ("SEGFAULT", "End as by a segmentation fault: SIGSEGV."),
    ("SET-ACTIVE-EXPIRE <0|1>", "Remove keys that are past their time by themselves, or only when met."),
    ("SET-DISABLE-DENY-SCRIPTS <0|1>", "Let scripts call what is denied to them, or not."),
    ("SET-SKIP-CHECKSUM-VALIDATION <0|1>", "Let RESTORE take what has a wrong checksum."),
    ("SLEEP <seconds>", "Execute nothing for that long."),
    ("STRINGMATCH-TEST", "Match random patterns against random strings."),
    ("STRUCTSIZE", "How large Redis's structures are."),
    ("HELP", "This text."),
)  # fmt: skip

# Sizes of Redis's structures as 64-bit builds have them: there are none of them here, and they are no news.
_STRUCTURES: Final = b"bits:64 robj:16 dictentry:24 sdshdr5:1 sdshdr8:3 sdshdr16:5 sdshdr32:9 sdshdr64:17 "
# STRINGMATCH-TEST: random patterns and texts of up to so many bytes, so many times.
_MATCHES: Final = 20_000
_LONGEST_MATCH: Final = 32


def help_(session: Session, args: list[bytes]) -> object:
    lines: list[object] = [SimpleString(b"DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")]
    for syntax, text in _HELP:
        lines += [SimpleString(syntax.encode()), SimpleString(b"    " + text.encode())]
    return lines


def _sleep(session: Session, args: list[bytes]) -> object:
    # As C's atof reads it: what is no number is 0.
    number = re.match(rb"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", args[2])
    span_us = int(min(float(number.group()), _LONGEST_SLEEP_S) * 1_000_000) if number else 0
    if span_us > 0 and session.engine.holding.sleep(session, args, span_us):
        return NO_REPLY
    return OK


def _object(session: Session, args: list[bytes]) -> object:
    entry = session.db.find(args[2])
    if entry is None:
        raise CommandError(errors.NO_KEY)
    value = entry.value
    access = session.db.access_clock(args[2])
    idle = 0 if session.clock.is_counting else idle_s(session.clock.now_s, access)
    encoding = encoding_name(args[2], value, entry.expire_index >= 0).decode()
    size = len(dump.dump(value)) - _FOOTER
    text = (
        f"Value at:{id(value):#x} refcount:1 encoding:{encoding} serializedlength:{size} "
        f"lru:{access} lru_seconds_idle:{idle}"
    )
    if isinstance(value, ListValue) and encoding == "quicklist":
        nodes = value.node_count()
        limits = value.limits
        text += (
            f" ql_nodes:{nodes} ql_avg_node:{len(value) / nodes:.2f}"
            f" ql_listpack_max:{limits.list_max_listpack_size}"
            f" ql_compressed:{int(limits.list_compress_depth != 0)} ql_uncompressed_size:{value.nodes_size()}"
        )
    return SimpleString(text.encode())


def _digest(session: Session, args: list[bytes]) -> object:
    return SimpleString(data_digest(session.engine.databases, session.clock.now_ms).hex().encode())


def _digest_value(session: Session, args: list[bytes]) -> object:
    now_ms = session.clock.now_ms
    return [SimpleString(value_digest(session.db.find(key), now_ms).hex().encode()) for key in args[2:]]


def _protocol(session: Session, args: list[bytes]) -> object:
    kind = args[2].lower()
    if kind == b"string":
        return b"Hello World"
    if kind == b"integer":
        return 12345
    if kind == b"double":
        return 3.141
    if kind == b"null":
        return None
    if kind == b"array":
        return [0, 1, 2]
    if kind == b"set":
        return SetReply([0, 1, 2])
    if kind == b"map":
        return Map([0, False, 1, True, 2, False])
    if kind in (b"true", b"false"):
        return kind == b"true"
    if kind == b"verbatim":
        return Verbatim(b"This is a verbatim\nstring")
    if kind == b"bignum":
        return BigNumber(1234567999999999999999999999999999999)
    if kind == b"attrib":
        real = b"$39\r\nSome real reply following the attribute\r\n"
        attribute = b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n"
        return Bulk(attribute + real if session.resp3 else real)
    if kind == b"push":
        if not session.resp3:
            raise CommandError(b"ERR RESP2 is not supported by this command")
        real = b"$40\r\nSome real reply following the push reply\r\n"
        return Bulk(real + b">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n")
    raise CommandError(
        b"ERR Wrong protocol type name. Please use one of the following: "
        b"string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false"
    )


def _set_active_expire(session: Session, args: list[bytes]) -> object:
    session.engine.expires_actively = _is_one(args[2])
    return OK


def _pause_cron(session: Session, args: list[bytes]) -> object:
    session.engine.is_cron_paused = _is_one(args[2])
    return OK


def _set_skip_checksum(session: Session, args: list[bytes]) -> object:
    session.engine.checks_dumps = not _is_one(args[2])
    return OK


def _is_one(text: bytes) -> bool:
    """As C's atoi reads a flag: what is no number is 0."""
    return (parse_integer(text) or 0) != 0


def _packed_threshold(session: Session, args: list[bytes]) -> object:
    size = parse_memory(args[2])
    if size is None or size >= _MOST_PACKED:
        raise CommandError(b"ERR argument must be a memory value bigger than 1 and smaller than 4gb")
    session.engine.limits.quicklist_packed_threshold = size
    return OK


def _error(session: Session, args: list[bytes]) -> object:
    text = args[2].replace(b"\r", b" ").replace(b"\n", b" ")
    return Bulk(b"-" + text + CRLF)


def _log(session: Session, args: list[bytes]) -> object:
    _write_log(session, b"DEBUG LOG: " + args[2])
    return OK


def _write_log(session: Session, text: bytes) -> None:
    log = session.engine.on_script_log
    if log is not None:
        log(_LOG_WARNING, text)


# The end of the process ----------------------------------------------------------------------------


def _restart(session: Session, args: list[bytes]) -> object:
    delay_ms = max(0, integer_argument(args[2])) if len(args) > 2 else 0
    is_orderly = args[1].lower() == b"restart"
    engine = session.engine
    if is_orderly and engine.on_process_end is not None and engine.config_store is not None:
        try:
            _rewrite(engine, False)
        except OSError as error:
            reason = error.strerror or str(error)
            _write_log(session, f"cannot restart: rewriting the config file failed: {reason}".encode())
            raise CommandError(b"ERR failed to restart the server. Check server logs.") from None
    return _end(session, args, is_orderly=is_orderly, delay_ms=delay_ms)


def _segfault(session: Session, args: list[bytes]) -> object:
    return _end(session, args, signal=SEGMENTATION_FAULT)


def _abort(session: Session, args: list[bytes]) -> object:
    return _end(session, args, signal=ABORT)


def _end(
    session: Session, args: list[bytes], *, signal: str = "", is_orderly: bool = False, delay_ms: int = 0
) -> object:
    engine = session.engine
    how = args[1].upper()
    if engine.on_process_end is None or engine.scripts.running is not None:
        raise CommandError(b"ERR DEBUG " + how + b" is not available here")
    asked_by = f"{session.remote} (id {session.id})"
    engine.end_process(
        ProcessEnd(f"DEBUG {how.decode()}", asked_by, signal=signal, is_orderly=is_orderly, delay_ms=delay_ms)
    )
    session.end_silently()
    return NO_REPLY


def _rewrite(engine: Engine, is_whole: bool) -> None:
    """CONFIG REWRITE. OSError when that cannot be."""
    store = engine.config_store
    assert store is not None
    store.write(rewritten(store.read(), engine.configuration, is_whole))


def _rewrite_whole(session: Session, args: list[bytes]) -> object:
    reason = "Bad address"  # of no file
    if session.engine.config_store is not None:
        try:
            _rewrite(session.engine, True)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return OK
    raise CommandError(b"ERR CONFIG-REWRITE-FORCE-ALL failed: " + reason.encode())


# The process itself --------------------------------------------------------------------------------


def _structure_sizes(session: Session, args: list[bytes]) -> object:
    return _STRUCTURES


def _malloc_option(session: Session, args: list[bytes]) -> object:
    if args[1].lower() == b"mallctl" and len(args) > 3:
        integer_argument(args[3])
    raise CommandError(b"ERR No such file or directory")


def _test_matching(session: Session, args: list[bytes]) -> object:
    random = session.engine.random
    letters = b"*?[]^-\\abc\x00\xff"
    for _ in range(_MATCHES):
        pattern, text = (
            bytes([letters[random() % len(letters)] for _ in range(random() % _LONGEST_MATCH)])
            for _ in range(2)
        )
        glob_match(pattern, text, ignore_case=random() % 2 == 0)
    return SimpleString(b"Apparently Redis did not crash: test passed")


def _allow_denied(session: Session, args: list[bytes]) -> object:
    session.engine.allows_denied = _is_one(args[2])
    return OK


# What values and tables look like ------------------------------------------------------------------


def _found(session: Session, key: bytes) -> tuple[object, bytes]:
    """A value and its encoding."""
    entry = session.db.find(key)
    if entry is None:
        raise CommandError(errors.NO_KEY)
    return entry.value, encoding_name(key, entry.value, entry.expire_index >= 0)


def _listpack(session: Session, args: list[bytes]) -> object:
    value, encoding = _found(session, args[2])
    if encoding not in (b"listpack", b"listpackex"):
        raise CommandError(b"ERR Not a listpack encoded object.")
    _write_log(session, b"DEBUG LISTPACK: " + _sizes(value))
    return SimpleString(b"Listpack structure printed on stdout")


def _quicklist(session: Session, args: list[bytes]) -> object:
    value, encoding = _found(session, args[2])
    if encoding != b"quicklist" or not isinstance(value, ListValue):
        raise CommandError(b"ERR Not a quicklist encoded object.")
    _write_log(session, b"DEBUG QUICKLIST: %d nodes, %b" % (value.node_count(), _sizes(value)))
    return SimpleString(b"Quicklist structure printed on stdout")


def _sizes(value: object) -> bytes:
    count = len(value) if isinstance(value, Collection) else 0
    return b"%d elements, %d bytes" % (count, len(dump.dump(value)) - _FOOTER)


def _sds_length(session: Session, args: list[bytes]) -> object:
    value, encoding = _found(session, args[2])
    if encoding not in (b"raw", b"embstr"):
        raise CommandError(b"ERR Not an sds encoded string.")
    key_length = len(args[2])
    length = (
        len(value.data) if isinstance(value, StringBuffer) else len(value) if isinstance(value, bytes) else 0
    )
    return SimpleString(
        b"key_sds_len:%d, key_sds_avail:0, key_zmalloc: %d, val_sds_len:%d, val_sds_avail:0, val_zmalloc: %d"
        % (key_length, key_length, length, length)
    )


def _table_text(slots: int, elements: int, is_full: bool) -> str:
    """One table. Each slot holds one element, so there are no chains."""
    if elements == 0:
        return ""
    text = f"Hash table 0 stats (main hash table):\n table size: {slots}\n number of elements: {elements}\n"
    if is_full:
        free = slots - elements
        text += (
            f" different slots: {elements}\n max chain length: 1\n avg chain length (counted): 1.00\n"
            " avg chain length (computed): 1.00\n Chain length distribution:\n"
            f"   0: {free} ({free / slots:.2%})\n   1: {elements} ({elements / slots:.2%})\n"
        )
    return text


def _is_full(args: list[bytes]) -> bool:
    return len(args) > 3 and args[3].lower() == b"full"


def _table_stats(session: Session, args: list[bytes]) -> object:
    index = integer_argument(args[2])
    databases = session.engine.databases
    if not 0 <= index < len(databases):
        raise CommandError(b"ERR Out of range database")
    database = databases[index]
    is_full = _is_full(args)
    keys = _table_text(database.slots_allocated(), len(database), is_full)
    # What expires stands in a list of its own, without a free place.
    expiring = int(database.expiring_count)
    times = _table_text(expiring, expiring, is_full)
    return Verbatim(f"[Dictionary HT]\n{keys}[Expires HT]\n{times}".encode())


def _table_stats_of_key(session: Session, args: list[bytes]) -> object:
    value, encoding = _found(session, args[2])
    if encoding not in (b"hashtable", b"skiplist") or not isinstance(value, Collection):
        raise CommandError(
            b"ERR The value stored at the specified key is not represented using an hash table"
        )
    count = len(value)
    # A sorted set's table is Python's own, which does not tell its size.
    slots = value.table.slots_allocated() if isinstance(value, (Hash, Set)) else 1 << count.bit_length()
    return Verbatim(_table_text(slots, count, _is_full(args)).encode())


def _client_eviction(session: Session, args: list[bytes]) -> object:
    limits = session.engine.client_limits
    if limits.memory == 0:
        raise CommandError(b"ERR maxmemory-clients is disabled.")
    pools = [[0, 0] for _ in range(_POOLS)]
    for each in session.engine.sessions.values():
        if not each.is_no_evict:
            size = int(limits.memory_of(each))
            pool = pools[min(max(size.bit_length() - _SMALLEST_POOL, 0), _POOLS - 1)]
            pool[0] += size
            pool[1] += 1
    text = ""
    for at, (total, count) in enumerate(pools):
        least = 1 << (_SMALLEST_POOL + at - 1) if at > 0 else 0
        most = f"+{'':12}" if at == _POOLS - 1 else f" - {(1 << (_SMALLEST_POOL + at)) - 1:10d}"
        text += f"bucket {least:10d}{most}: tot-mem: {total:10d}, clients: {count}\n"
    return Verbatim(text.encode())


# What changes nothing here -------------------------------------------------------------------------


def _taken(session: Session, args: list[bytes]) -> object:
    return OK


def _taken_number(session: Session, args: list[bytes]) -> object:
    integer_argument(args[2])
    return OK


def _reply_buffer(session: Session, args: list[bytes]) -> object:
    option = args[2].lower()
    if option == b"peak-reset-time":
        if args[3].lower() not in (b"never", b"reset"):
            integer_argument(args[3])
        return OK
    if option == b"resizing":
        return OK
    raise CommandError(errors.unknown_subcommand_or_arity(b"debug", args[1]))


def _replication_pause(session: Session, args: list[bytes]) -> object:
    if args[2].lower() in (b"clear", b"after-fork", b"before-rdb-channel", b"on-streaming-repl-buf"):
        return OK
    raise CommandError(errors.unknown_subcommand_or_arity(b"debug", args[1]))


def _mark_internal(session: Session, args: list[bytes]) -> object:
    if len(args) > 2 and args[2].lower() != b"unmark":
        raise CommandError(errors.unknown_subcommand_or_arity(b"debug", args[1]))
    return OK


def _cluster_link(session: Session, args: list[bytes]) -> object:
    raise CommandError(b"ERR Debug option only available for cluster mode enabled setup!")


def _internal_secret(session: Session, args: list[bytes]) -> object:
    raise CommandError(b"ERR Internal secret is missing")


def _script(session: Session, args: list[bytes]) -> object:
    cached = session.engine.scripts.cached
    if args[2].lower() == b"list":
        scripts = list(cached.values())
    else:
        found = cached.get(args[2].lower())
        if found is None:
            if len(args[2]) != _SHA_LENGTH:
                raise CommandError(errors.unknown_subcommand_or_arity(b"debug", args[1]))
            raise CommandError(errors.NO_SCRIPT)
        scripts = [found]
    for script in scripts:
        _write_log(session, b"DEBUG SCRIPT: " + script.sha + b": " + script.body)
    return OK


def _change_repl_id(session: Session, args: list[bytes]) -> object:
    engine = session.engine
    engine.replication_id = engine.random_bytes(20).hex()
    return OK


def _populate(session: Session, args: list[bytes]) -> object:
    count = _positive(args[2])
    prefix = args[3] if len(args) > 3 else b"key"
    size = _positive(args[4]) if len(args) > 4 else 0
    session.clock.keeps_expired = False  # this is no command that writes, and yet it does
    for number in range(count):
        key = b"%b:%d" % (prefix, number)
        if session.db.find(key) is not None:
            continue
        value = b"value:%d" % number
        session.db.add(key, value[:size].ljust(size, b"\0") if size > 0 else value)
        session.changed(key)
    return OK


def _positive(text: bytes) -> int:
    number = parse_integer(text)
    if number is None or number < 0:
        raise CommandError(errors.NOT_POSITIVE)
    return number


def _reload(session: Session, args: list[bytes]) -> object:
    words = [word.lower() for word in args[2:]]
    if any(word not in (b"merge", b"noflush", b"nosave") for word in words):
        raise CommandError(b"ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    rebuild(session.engine)
    return OK


def rebuild(engine: Engine) -> None:
    """Write everything as a file of Redis and read it back, in the place of what there was."""
    data = reload.file_of(engine)
    observer = engine.observer
    classes = observer.event_classes
    for database in engine.databases:
        engine.database_replaced(database.index, None)
    observer.event_classes = 0  # what is loaded is no event
    for database in engine.databases:
        database.clear()
    reload.load(engine, data)
    observer.event_classes = classes
    if engine.tracking.is_interested:
        engine.tracking.flushed()


# By name, with the number of arguments behind it: the least and the most.
_SUBCOMMANDS: Final[dict[bytes, tuple[int, int, Handler]]] = {
    b"aof-flush-sleep": (1, 1, _taken),
    b"assert": (0, 1 << 30, _abort),
    b"change-repl-id": (0, 0, _change_repl_id),
    b"client-eviction": (0, 0, _client_eviction),
    b"clusterlink": (3, 3, _cluster_link),
    b"config-rewrite-force-all": (0, 0, _rewrite_whole),
    b"crash-and-recover": (0, 1 << 30, _restart),
    b"dict-resizing": (1, 1, _taken),
    b"digest": (0, 0, _digest),
    b"digest-value": (0, 1 << 30, _digest_value),
    b"drop-cluster-packet-filter": (1, 1, _taken_number),
    b"error": (1, 1, _error),
    b"help": (0, 0, help_),
    b"htstats": (1, 1 << 30, _table_stats),
    b"htstats-key": (1, 1 << 30, _table_stats_of_key),
    b"internal_secret": (0, 0, _internal_secret),
    b"keysizes-hist-assert": (1, 1, _taken_number),
    b"leak": (1, 1, _taken),
    b"listpack": (1, 1, _listpack),
    b"loadaof": (0, 0, _reload),
    b"log": (1, 1, _log),
    b"mallctl": (1, 1 << 30, _malloc_option),
    b"mallctl-str": (1, 1 << 30, _malloc_option),
    b"mark-internal-client": (0, 1, _mark_internal),
    b"object": (1, 1, _object),
    b"oom": (0, 1 << 30, _abort),
    b"panic": (0, 1 << 30, _abort),
    b"pause-cron": (1, 1, _pause_cron),
    b"populate": (1, 3, _populate),
    b"protocol": (1, 1, _protocol),
    b"quicklist": (1, 2, _quicklist),
    b"quicklist-packed-threshold": (1, 1, _packed_threshold),
    b"reload": (0, 1 << 30, _reload),
    b"repl-pause": (1, 1, _replication_pause),
    b"replicate": (1, 1 << 30, _taken),
    b"replybuffer": (2, 2, _reply_buffer),
    b"restart": (0, 1 << 30, _restart),
    b"script": (1, 1, _script),
    b"sdslen": (1, 1, _sds_length),
    b"segfault": (0, 1 << 30, _segfault),
    b"set-active-expire": (1, 1, _set_active_expire),
    b"set-disable-deny-scripts": (1, 1, _allow_denied),
    b"set-skip-checksum-validation": (1, 1, _set_skip_checksum),
    b"sleep": (1, 1, _sleep),
    b"stringmatch-test": (0, 0, _test_matching),
    b"structsize": (0, 0, _structure_sizes),
}


def debug(session: Session, args: list[bytes]) -> object:
    name = args[1].lower()
    found = _SUBCOMMANDS.get(name)
    if found is not None and found[0] <= len(args) - 2 <= found[1]:
        return found[2](session, args)
    raise CommandError(errors.unknown_subcommand_or_arity(b"debug", args[1]))


HANDLERS: Final[dict[str, Handler]] = {
    "debug": debug,
}
