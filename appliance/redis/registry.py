"""The command table: what the server knows about each command, declared once.

The facts lie in appliance/redis/commands/table/, one JSON file for each group, and the functions in the
modules of appliance/redis/commands, by full name (`HANDLERS`). `bind` joins the two; a row without a
function, or a function without a row, is an error of ours and stops the start. Dispatch, arity errors, HELP,
COMMAND INFO, DOCS, LIST, GETKEYS and the rest are all made from the outcome.

Source:     facts (arity, flags, key specs, arguments) as redis-server 8.2's COMMAND INFO and DOCS give them,
            under the names they have there; tests/support/command_rows.py writes them. Summaries are our own.
Invariants: names are lower case; a subcommand's full name is `container|name`; a container's own function
            runs only when it is called without a subcommand, and its subcommands have no subcommands. A row
            (`Facts`) is shared by all engines and never changes; a `Command` and its counters belong to one.
Errors:     ValueError for a table that does not fit its functions.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.integers import parse_integer
from appliance.redis.latency import Histogram
from appliance.redis.replies import Map, SetReply, SimpleString

if TYPE_CHECKING:
    from appliance.redis.session import Session

Handler = Callable[["Session", list[bytes]], object]
# The keys in a request (args[0] is the command's name), each with the flags of its use.
GetKeys = Callable[[list[bytes]], list[tuple[bytes, list[str]]]]

# One file each in commands/table, in the order in which COMMAND lists the commands.
GROUPS: Final = [
    "string",
    "bitmap",
    "list",
    "set",
    "sorted-set",
    "hash",
    "stream",
    "hyperloglog",
    "geo",
    "generic",
    "transactions",
    "pubsub",
    "scripting",
    "connection",
    "server",
    "cluster",
]

WRITE: Final = 1 << 0
READONLY: Final = 1 << 1
DENYOOM: Final = 1 << 2
ADMIN: Final = 1 << 3
PUBSUB: Final = 1 << 4
NOSCRIPT: Final = 1 << 5
BLOCKING: Final = 1 << 6
LOADING: Final = 1 << 7
STALE: Final = 1 << 8
FAST: Final = 1 << 9
NO_AUTH: Final = 1 << 10
NO_ASYNC_LOADING: Final = 1 << 11
NO_MULTI: Final = 1 << 12
MOVABLEKEYS: Final = 1 << 13
ALLOW_BUSY: Final = 1 << 14
SKIP_MONITOR: Final = 1 << 15
SKIP_SLOWLOG: Final = 1 << 16
ASKING: Final = 1 << 17
NO_MANDATORY_KEYS: Final = 1 << 18
# Not told to clients: what CLIENT PAUSE WRITE holds besides commands that write.
MAY_REPLICATE: Final = 1 << 19

FLAG_BITS: Final[dict[str, int]] = {
    "write": WRITE,
    "readonly": READONLY,
    "denyoom": DENYOOM,
    "admin": ADMIN,
    "pubsub": PUBSUB,
    "noscript": NOSCRIPT,
    "blocking": BLOCKING,
    "loading": LOADING,
    "stale": STALE,
    "fast": FAST,
    "no_auth": NO_AUTH,
    "no_async_loading": NO_ASYNC_LOADING,
    "no_multi": NO_MULTI,
    "movablekeys": MOVABLEKEYS,
    "allow_busy": ALLOW_BUSY,
    "skip_monitor": SKIP_MONITOR,
    "skip_slowlog": SKIP_SLOWLOG,
    "asking": ASKING,
    "no_mandatory_keys": NO_MANDATORY_KEYS,
}


def _simple_strings(texts: list[str], prefix: str = "") -> SetReply:
    items: list[object] = [SimpleString((prefix + text).encode()) for text in texts]
    return SetReply(items)


# Key specs ----------------------------------------------------------------------------------------


class KeySpec:
    """Where keys lie in a command's arguments, and what becomes of them.

    `begin_search` says where they start: `{"index": 1}`, `{"keyword": "STREAMS", "startfrom": 4}` (behind
    the keyword; a negative start searches backwards), or `{}` when only the command can tell. `find_keys`
    says how many there are from there: `{"lastkey": -1, "keystep": 2}` or `{"keynumidx": 0, "firstkey": 1}`
    (a count among the arguments), or `{}`. Left out, `keystep` is 1 and `limit` 0.
    https://redis.io/docs/latest/develop/reference/key-specs/
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.flags: list[str] = row["flags"]
        self.notes: str = row.get("notes", "")
        self.begin_search: dict[str, Any] = row["begin_search"]
        self.find_keys: dict[str, Any] = dict(row["find_keys"])
        if self.find_keys:
            self.find_keys.setdefault("keystep", 1)
        if "lastkey" in self.find_keys:
            self.find_keys.setdefault("limit", 0)
        self.is_key = "not_key" not in self.flags
        self.is_range = "index" in self.begin_search and "lastkey" in self.find_keys

    def _first(self, args: list[bytes]) -> int:
        """The index where the keys start; 0 when the keyword is not there, -1 when nobody knows."""
        if "index" in self.begin_search:
            return int(self.begin_search["index"])
        if "keyword" not in self.begin_search:
            return -1
        keyword = self.begin_search["keyword"].encode().upper()
        start: int = self.begin_search["startfrom"]
        where = range(start, len(args)) if start > 0 else range(len(args) + start, 0, -1)
        for at in where:
            if args[at].upper() == keyword:
                return at + 1
        return 0

    def positions(self, args: list[bytes]) -> range | None:
        """Indices of the keys in a request; None when they cannot be told from the arguments."""
        count = len(args)
        first = self._first(args)
        if first == 0:
            return range(0)
        if first < 0 or not self.find_keys or "incomplete" in self.flags:
            return None
        step: int = self.find_keys["keystep"]
        if "lastkey" in self.find_keys:
            last: int = self.find_keys["lastkey"]
            limit: int = self.find_keys["limit"]
            if last >= 0:
                last += first
            elif limit > 1:  # keys, then as many of something else
                last += first + (count - first) // limit
            else:
                last += count
        else:
            count_at: int = first + self.find_keys["keynumidx"]
            number = parse_integer(args[count_at]) if count_at < count else None
            if number is None or number <= 0:
                return None
            first += self.find_keys["firstkey"]
            last = first + (number - 1) * step
        if last >= count:
            return None
        return range(first, last + 1, step)

    def info(self) -> Map:
        flat: list[object] = []
        if self.notes:
            flat += [b"notes", self.notes.encode()]
        flat += [b"flags", _simple_strings(self.flags)]
        flat += [b"begin_search", _search_info(self.begin_search, {"index": b"index", "keyword": b"keyword"})]
        flat += [b"find_keys", _search_info(self.find_keys, {"lastkey": b"range", "keynumidx": b"keynum"})]
        return Map(flat)


def _search_info(facts: dict[str, Any], kinds: dict[str, bytes]) -> Map:
    kind = b"unknown"
    flat: list[object] = []
    for name, value in facts.items():
        kind = kinds.get(name, kind)
        flat += [name.encode(), value.encode() if isinstance(value, str) else value]
    return Map([b"type", kind, b"spec", Map(flat)])


# Arguments ----------------------------------------------------------------------------------------

# The fields of an argument in COMMAND DOCS, in its order.
_ARGUMENT_FIELDS: Final = [
    "name",
    "type",
    "display_text",
    "key_spec_index",
    "token",
    "summary",
    "since",
    "deprecated_since",
]


def _argument_docs(row: dict[str, Any]) -> Map:
    flat: list[object] = []
    for field in _ARGUMENT_FIELDS:
        value: Any = row.get(field)
        if field == "display_text" and value is None and row["type"] not in ("oneof", "block"):
            value = row["name"]
        if value is not None:
            flat += [field.encode(), value if isinstance(value, int) else value.encode()]
    if "flags" in row:
        flat += [b"flags", _simple_strings(row["flags"])]
    if "arguments" in row:
        nested: list[object] = [_argument_docs(each) for each in row["arguments"]]
        flat += [b"arguments", nested]
    return Map(flat)


def usage(arguments: list[dict[str, Any]]) -> str:
    """The syntax of arguments, in the notation of HELP: `key [EX seconds | PERSIST] value [value ...]`."""
    return " ".join([_argument_usage(each) for each in arguments])


def _argument_usage(row: dict[str, Any]) -> str:
    kind: str = row["type"]
    token: str = row.get("token", "")
    flags: list[str] = row.get("flags", [])
    if kind == "pure-token":
        text = token
    elif kind == "oneof":
        text = " | ".join([_argument_usage(each) for each in row["arguments"]])
        if "optional" not in flags or token:
            text = f"<{text}>"
    elif kind == "block":
        text = usage(row["arguments"])
    else:
        text = f"<{row.get('display_text', row['name'])}>"
    if token and kind != "pure-token":
        text = f"{token} {text}"
    if "multiple" in flags:
        again = text
        if token and "multiple_token" not in flags:
            again = text[len(token) + 1 :]
        text = f"{text} [{again} ...]"
    return f"[{text}]" if "optional" in flags else text


# Commands -----------------------------------------------------------------------------------------


class Facts:
    """One row of the table: what is the same in every engine."""

    def __init__(self, name: str, group: str, row: dict[str, Any], parent: str = "") -> None:
        self.name = name
        self.full_name = f"{parent}|{name}" if parent else name
        self.group = group
        self.summary: str = row["summary"]
        self.missing: str = row.get("missing", "")  # for appliance/docs/commands.md
        self.since: str = row["since"]
        self.complexity: str = row["complexity"]
        self.arity: int = row["arity"]
        self.flag_names: list[str] = row["flags"]
        self.flags: i64 = 0
        for flag in self.flag_names:
            self.flags |= FLAG_BITS[flag]
        self.categories: list[str] = row["categories"]
        self.tips: list[str] = row.get("tips", [])
        self.doc_flags: list[str] = row.get("doc_flags", [])
        self.deprecated_since: str = row.get("deprecated_since", "")
        self.replaced_by: str = row.get("replaced_by", "")
        self.history: list[list[str]] = row.get("history", [])
        self.arguments: list[dict[str, Any]] = row.get("arguments", [])
        self.key_specs: list[KeySpec] = [KeySpec(each) for each in row.get("key_specs", [])]
        self.has_keys = any(spec.is_key for spec in self.key_specs)
        subcommands: dict[str, dict[str, Any]] = row.get("subcommands", {})
        self.subcommands: list[Facts] = [
            Facts(each, group, facts, name) for each, facts in subcommands.items()
        ]

    def legacy_range(self) -> tuple[int, int, int]:
        """First key, last key and step, as COMMAND gave them before there were key specs.

        Of several specs those count that follow each other without a gap and name plain ranges.
        """
        specs = self.key_specs
        if len(specs) == 1 and specs[0].is_range:
            first: int = specs[0].begin_search["index"]
            last: int = specs[0].find_keys["lastkey"]
            return first, last + first if last >= 0 else last, specs[0].find_keys["keystep"]
        first = last = 0
        for spec in specs:
            if not spec.is_range or spec.find_keys["keystep"] != 1:
                continue
            begin: int = spec.begin_search["index"]
            if last != 0 and begin != last + 1:
                continue
            if first == 0:
                first = begin
            last = spec.find_keys["lastkey"]
            if last >= 0:
                last += begin
        return (first, last, 1) if first else (0, 0, 0)

    def info(self) -> list[object]:
        """The entry of COMMAND INFO."""
        first, last, step = self.legacy_range()
        tips: list[object] = [tip.encode() for tip in self.tips]
        specs: list[object] = [spec.info() for spec in self.key_specs]
        subcommands: object = SetReply([])
        if self.subcommands:
            subcommands = [each.info() for each in self.subcommands]
        return [
            self.full_name.encode(),
            self.arity,
            _simple_strings(self.flag_names),
            first,
            last,
            step,
            _simple_strings(self.categories, "@"),
            SetReply(tips),
            SetReply(specs),
            subcommands,
        ]

    def docs(self) -> Map:
        """The entry of COMMAND DOCS."""
        flat: list[object] = [b"summary", self.summary.encode(), b"since", self.since.encode()]
        flat += [b"group", self.group.encode()]
        if self.complexity:
            flat += [b"complexity", self.complexity.encode()]
        if self.doc_flags:
            flat += [b"doc_flags", _simple_strings(self.doc_flags)]
        if self.deprecated_since:
            flat += [b"deprecated_since", self.deprecated_since.encode()]
        if self.replaced_by:
            flat += [b"replaced_by", self.replaced_by.encode()]
        if self.history:
            changes: list[object] = [[version.encode(), text.encode()] for version, text in self.history]
            flat += [b"history", SetReply(changes)]
        if self.arguments:
            arguments: list[object] = [_argument_docs(each) for each in self.arguments]
            flat += [b"arguments", arguments]
        if self.subcommands:
            nested: list[object] = []
            for each in self.subcommands:
                nested += [each.full_name.encode(), each.docs()]
            flat += [b"subcommands", Map(nested)]
        return Map(flat)

    def help(self) -> list[object]:
        """What HELP answers for a container."""
        title = self.name.upper() + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
        lines: list[object] = [SimpleString(title.encode())]
        syntax = help_syntax().get(self.name)
        if syntax is not None:
            parts = {each.name: each for each in self.subcommands}
            for line in syntax:
                part = parts.get(line.split(maxsplit=1)[0].lower())
                if part is None and line.startswith("("):
                    part = self  # without a subcommand
                if part is not None:
                    lines += [SimpleString(each.encode()) for each in line.split("\n")]
                    lines.append(SimpleString(b"    " + part.summary.encode()))
            return lines
        own: Facts | None = None
        for each in self.subcommands:
            if each.name == "help":
                own = each
            else:
                lines += each.help_lines()
        if own is not None:
            lines += own.help_lines()
        return lines

    def help_lines(self) -> list[object]:
        syntax = f"{self.name.upper()} {usage(self.arguments)}".rstrip()
        return [SimpleString(syntax.encode()), SimpleString(b"    " + self.summary.encode())]


# Commands that take no time to speak of and are most of the traffic: two looks at a clock (0.1 µs) would be a
# good part of what they cost. Only one call in 64 is timed, and stands for those before it.
_QUICK_NAMES: Final = (
    "append decr decrby echo exists expire get getdel getset hdel hexists hget hincrby hlen hset incr incrby "
    "llen lpop lpush pexpire ping publish pttl rpop rpush sadd scard select set setex setnx sismember spop "
    "srem strlen ttl type xadd xlen zadd zcard zincrby zpopmax zpopmin zrem zscore"
)
_QUICK: Final = frozenset(_QUICK_NAMES.split())
# A request with more words than these is not quick, whatever its command.
_MOST_QUICK: Final = 64
_QUICK_WITHOUT_COUNT: Final = frozenset(["lpop", "rpop", "spop", "zpopmax", "zpopmin"])
SAMPLED_OF: Final = 64

# A parameter says who may use them: looked up the slow way, so that no other command asks.
_PROTECTED: Final = frozenset(["debug", "module|load", "module|loadex", "module|unload"])
_MAY_REPLICATE: Final = frozenset(["eval", "evalsha", "fcall", "pfcount", "publish", "spublish"])


class Command:
    """One command or subcommand of an engine, how often it ran and how long that took."""

    def __init__(self, facts: Facts, function: Handler, get_keys: GetKeys | None = None) -> None:
        """Bind a row to its function.

        Args:
            facts: the row.
            function: called with the session and the whole request; returns a reply or raises CommandError.
            get_keys: for a command whose keys, or the flags of their use, no key spec can tell.
        """
        self.facts = facts
        self.name: bytes = facts.name.encode()
        self.full_name: bytes = facts.full_name.encode()
        self.arity: i64 = facts.arity
        self.flags: i64 = facts.flags
        if facts.full_name in _MAY_REPLICATE:
            self.flags |= MAY_REPLICATE
        self.function: Handler = function
        self.get_keys = get_keys
        self.subcommands: dict[bytes, Command] | None = {} if facts.subcommands else None
        self.calls: i64 = 0
        self.rejected_calls: i64 = 0
        self.failed_calls: i64 = 0
        self.is_quick = facts.full_name in _QUICK
        # A quick command with more words than these is timed like any other.
        self.most_quick_arguments: i64 = 2 if facts.full_name in _QUICK_WITHOUT_COUNT else _MOST_QUICK
        self.is_protected = facts.full_name in _PROTECTED
        self.untimed: i64 = 0  # calls from now on that are not timed
        # Up to the last call that was timed: each stands for the calls since the one before.
        self._timed_calls: i64 = 0
        self._timed_ns: i64 = 0
        self._last_ns: i64 = 0
        self._histogram: Histogram | None = None

    def __repr__(self) -> str:
        return f"Command({self.full_name.decode()})"

    def accepts(self, argument_count: i64) -> bool:
        """Whether the arity allows that many arguments."""
        arity = self.arity
        return argument_count == arity if arity > 0 else argument_count >= -arity

    def pass_untimed(self, calls: i64) -> None:
        """So many calls, counted already, have not been timed."""
        left = self.untimed - calls
        self.untimed = left if left > 0 else i64(0)

    def took(self, took_ns: i64, with_histogram: bool) -> None:
        """A call, counted already, has been timed, and stands for those before it that were not."""
        count = self.calls - self._timed_calls
        if count <= 0:
            return
        self._timed_calls = self.calls
        self._last_ns = took_ns
        self._record(took_ns, count, with_histogram)

    def took_alone(self, took_ns: i64, with_histogram: bool) -> None:
        """A call of a quick command that is not like the others has been timed, and stands for itself."""
        count = self.calls - self._timed_calls
        if count <= 0:
            return
        self._timed_calls = self.calls
        if count > 1:
            self._record(self._last_ns, count - 1, with_histogram)
        self._record(took_ns, 1, with_histogram)

    def _record(self, took_ns: i64, count: i64, with_histogram: bool) -> None:
        self._timed_ns += took_ns * count
        if with_histogram:
            if self._histogram is None:
                self._histogram = Histogram()
            self._histogram.record(took_ns // 1000, count)

    @property
    def total_us(self) -> int:
        """What all calls took; those that were not timed as long as the one before them."""
        left = self.calls - self._timed_calls
        return (self._timed_ns + self._last_ns * left) // 1000

    def histogram(self) -> Histogram | None:
        """How long calls took, all of them in the same sense; None while there has been none."""
        left = self.calls - self._timed_calls
        if self._histogram is None or left <= 0:
            return self._histogram
        made = self._histogram.copy()
        made.record(self._last_ns // 1000, left)
        return made

    def reset_counters(self) -> None:
        """CONFIG RESETSTAT."""
        self.calls = 0
        self.rejected_calls = 0
        self.failed_calls = 0
        self.untimed = 0
        self._timed_calls = 0
        self._timed_ns = 0
        self._last_ns = 0
        self._histogram = None

    def keys_of(self, args: list[bytes]) -> list[tuple[bytes, list[str]]]:
        """The keys in a request with this command, each with the flags of its use.

        Raises:
            CommandError: the arguments do not fit the command.
        """
        found: list[tuple[bytes, list[str]]] = []
        if self.get_keys is not None:
            found = self.get_keys(args)
        else:
            for spec in self.facts.key_specs:
                if spec.is_key:
                    positions = spec.positions(args)
                    if positions is None:
                        found = []
                        break
                    found += [(args[at], spec.flags) for at in positions]
        if not found and not self.flags & NO_MANDATORY_KEYS:
            raise CommandError(b"ERR Invalid arguments specified for command")
        return found


def container(session: Session, args: list[bytes]) -> object:
    """The function of a container: reached only with too few arguments, which the arity check has refused."""
    raise CommandError(errors.wrong_arity(args[0].lower()))


def container_help(session: Session, args: list[bytes]) -> object:
    """The function of every `HELP` that has none of its own."""
    return session.engine.registry.commands[args[0].lower()].facts.help()


# Loading ------------------------------------------------------------------------------------------

# Filled by the first engine; the files cannot change while the process runs.
_loaded: list[Facts] = []
_help_syntax: dict[str, list[str]] = {}


def table_text(group: str) -> bytes:
    """The JSON of one group."""
    return _data(f"table/{group}.json")


def _data(path: str) -> bytes:
    """Data of this package, as much a part of it as its modules."""
    data = pkgutil.get_data("appliance.redis.commands", path)
    if data is None:
        raise ValueError(f"{path} cannot be read")
    return data


def load_table() -> list[Facts]:
    """All rows, group after group."""
    if not _loaded:
        for group in GROUPS:
            rows: dict[str, dict[str, Any]] = json.loads(table_text(group))
            _loaded.extend([Facts(name, group, row) for name, row in rows.items()])
    return _loaded


def help_syntax() -> dict[str, list[str]]:
    """The syntax in HELP of each of the server's containers, line by line; what it does says our table."""
    if not _help_syntax:
        _help_syntax.update(json.loads(_data("help.json")))
    return _help_syntax


def private_command(name: str, arity: int, function: Handler, flags: list[str]) -> Command:
    """A command that is in no table, for `Session.add_commands`."""
    row: dict[str, Any] = {
        "summary": "",
        "since": "",
        "complexity": "",
        "arity": arity,
        "flags": flags,
        "categories": [],
    }
    return Command(Facts(name, "", row), function)


def bind(handlers: dict[str, Handler], get_keys: dict[str, GetKeys]) -> list[Command]:
    """The commands of one engine: each row with its function.

    Args:
        handlers: functions by full name, `get`, `client|kill`. A container needs one only if it can be called
            alone, a `HELP` only if it says more than the table.
        get_keys: the functions that find keys, by full name.

    Raises:
        ValueError: a row without a function, or a function without a row.
    """
    left = set(handlers) | {f"{name}: GET_KEYS" for name in get_keys}
    commands = [_bound(facts, handlers, get_keys, left) for facts in load_table()]
    if left:
        raise ValueError(f"not in the command table: {', '.join(sorted(left))}")
    return commands


def _bound(
    facts: Facts, handlers: dict[str, Handler], get_keys: dict[str, GetKeys], left: set[str]
) -> Command:
    name = facts.full_name
    function = handlers.get(name)
    if function is None:
        if facts.subcommands:
            function = container
        elif name.endswith("|help"):
            function = container_help
        else:
            raise ValueError(f"in the command table, but without a function: {name}")
    left.discard(name)
    left.discard(f"{name}: GET_KEYS")
    command = Command(facts, function, get_keys.get(name))
    if command.subcommands is not None:
        for each in facts.subcommands:
            command.subcommands[each.name.encode()] = _bound(each, handlers, get_keys, left)
    return command


class Registry:
    """The commands of one engine, by name."""

    def __init__(self, commands: list[Command]) -> None:
        self.commands: dict[bytes, Command] = {}
        # Dispatch looks the bytes up as the client sent them, in one of the two common spellings.
        self.by_spelling: dict[bytes, Command] = {}
        for command in commands:
            self.commands[command.name] = command
            self._spell(command, command.name)
        # Subcommands of other servers that are accepted and listed nowhere, by full name.
        self._unlisted: dict[bytes, Command] = {}

    def add_unlisted(self, full_name: str, arity: int, function: Handler, flags: list[str]) -> None:
        """Accept a subcommand that is in no table, and that nobody is told of."""
        self._unlisted[full_name.encode()] = private_command(full_name, arity, function, flags)

    def rename(self, name: bytes, new_name: bytes) -> None:
        """Call a command otherwise from now on; without a new name there is none any more.

        Raises:
            ValueError: there is no such command, or another one of the new name.
        """
        command = self.commands.get(name.lower())
        if command is None:
            raise ValueError("No such command in rename-command")
        if new_name.lower() in self.commands:
            raise ValueError("Target command name already exists")
        for each in (name.lower(), name.upper()):
            self.by_spelling.pop(each, None)
        self.commands.pop(name.lower())
        if new_name:
            self.commands[new_name.lower()] = command
            self._spell(command, new_name)

    def _spell(self, command: Command, name: bytes) -> None:
        """Let dispatch find a command at once; not those that have to be allowed first."""
        if not command.is_protected:
            self.by_spelling[name.lower()] = command
            self.by_spelling[name.upper()] = command

    def find(self, name: bytes) -> Command | None:
        """The command, in any mixture of cases."""
        command = self.by_spelling.get(name)
        if command is None:
            command = self.commands.get(name.lower())
        return command

    def resolve(self, args: list[bytes]) -> Command:
        """The command or subcommand a request names.

        Raises:
            CommandError: there is none.
        """
        command = self.find(args[0])
        if command is None:
            raise CommandError(errors.unknown_command(args))
        if command.subcommands is not None and len(args) > 1:
            subcommand = command.subcommands.get(args[1].lower())
            if subcommand is None:
                subcommand = self._unlisted.get(command.name + b"|" + args[1].lower())
            if subcommand is None:
                raise CommandError(errors.unknown_subcommand(command.name, args[1]))
            return subcommand
        return command

    def every(self) -> list[Command]:
        """All commands and subcommands."""
        found: list[Command] = []
        for command in self.commands.values():
            found.append(command)
            if command.subcommands is not None:
                found.extend(command.subcommands.values())
        return found
