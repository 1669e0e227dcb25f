"""The command table: what the server knows about each command, declared once.

Dispatch, arity errors, COMMAND INFO, DOCS, LIST, GETKEYS and the rest are all made from these entries.

Source:     the shape of valkey's src/commands/*.json; facts (arity, flags, key specs) as redis-server 8.2's
            COMMAND INFO gives them.
Invariants: names are lower case; a subcommand's full name is `container|name`; a container has no function of
            its own that runs, and its subcommands have no subcommands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.replies import Map, SetReply, SimpleString

if TYPE_CHECKING:
    from appliance.redis.session import Session

Handler = Callable[["Session", list[bytes]], object]

# Flags, in the order in which COMMAND INFO lists them.
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

FLAG_NAMES: Final[list[tuple[int, str]]] = [
    (WRITE, "write"),
    (READONLY, "readonly"),
    (DENYOOM, "denyoom"),
    (ADMIN, "admin"),
    (PUBSUB, "pubsub"),
    (NOSCRIPT, "noscript"),
    (BLOCKING, "blocking"),
    (LOADING, "loading"),
    (STALE, "stale"),
    (FAST, "fast"),
    (NO_AUTH, "no_auth"),
    (NO_ASYNC_LOADING, "no_async_loading"),
    (NO_MULTI, "no_multi"),
    (MOVABLEKEYS, "movablekeys"),
    (ALLOW_BUSY, "allow_busy"),
]
_FLAG_BITS: Final[dict[str, int]] = {name: bit for bit, name in FLAG_NAMES}

# ACL categories, in the order in which COMMAND INFO lists them.
CATEGORIES: Final = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
]


class KeySpec:
    """Where keys lie in a command's arguments: from `begin`, every `step`-th up to `last`.

    `flags` are those of Redis's key specifications (`RW access update`); `last` counts from `begin`, or
    from the end of the arguments when negative.
    """

    def __init__(self, flags: str, begin: int = 1, last: int = 0, step: int = 1, notes: str = "") -> None:
        self.flags = flags.split()
        self.begin = begin
        self.last = last
        self.step = step
        self.notes = notes

    def positions(self, argument_count: int) -> range:
        """Indices of the keys in a request of that many arguments."""
        last = self.begin + self.last if self.last >= 0 else argument_count + self.last
        return range(self.begin, min(last, argument_count - 1) + 1, self.step)

    def info(self) -> Map:
        flat: list[object] = []
        if self.notes:
            flat += [b"notes", self.notes.encode()]
        flags: list[object] = [SimpleString(flag.encode()) for flag in self.flags]
        flat += [b"flags", SetReply(flags)]
        begin = Map([b"type", b"index", b"spec", Map([b"index", self.begin])])
        keys = Map([b"lastkey", self.last, b"keystep", self.step, b"limit", 0])
        flat += [b"begin_search", begin, b"find_keys", Map([b"type", b"range", b"spec", keys])]
        return Map(flat)


class Command:
    """One command or subcommand, and how often it ran."""

    def __init__(
        self,
        name: str,
        arity: int,
        function: Handler,
        *,
        flags: str = "",
        group: str = "generic",
        categories: str = "",
        keys: list[KeySpec] | None = None,
        tips: str = "",
        since: str = "1.0.0",
        complexity: str = "O(1)",
        summary: str = "",
        subcommands: list[Command] | None = None,
        deprecated_since: str = "",
        replaced_by: str = "",
        get_keys: Callable[[list[bytes]], list[tuple[bytes, list[str]]]] | None = None,
    ) -> None:
        """Declare a command.

        Args:
            name: lower case, without the container's name.
            arity: number of arguments, the name included; negative: at least that many.
            function: called with the session and the whole request; returns a reply or raises CommandError.
            flags: names of FLAG_NAMES, separated by spaces.
            group: the group of COMMAND DOCS.
            categories: ACL categories beyond those that follow from the flags.
            keys: where the keys are.
            get_keys: for a command whose keys or key flags depend on its arguments.
        """
        self.name: bytes = name.encode()
        self.full_name: bytes = self.name
        self.arity: i64 = arity
        self.function: Handler = function
        self.flags: i64 = 0
        for flag in flags.split():
            self.flags |= _FLAG_BITS[flag]
        self.group = group
        self.key_specs: list[KeySpec] = keys if keys is not None else []
        self.tips = tips.split()
        self.since = since
        self.complexity = complexity
        self.summary = summary
        self.deprecated_since = deprecated_since
        self.replaced_by = replaced_by
        self.get_keys = get_keys
        self.own_categories = categories.split()
        self.subcommands: dict[bytes, Command] | None = None
        if subcommands is not None:
            self.subcommands = {}
            for command in subcommands:
                command.full_name = self.name + b"|" + command.name
                self.subcommands[command.name] = command
        self.calls: i64 = 0
        self.rejected_calls: i64 = 0
        self.failed_calls: i64 = 0

    def __repr__(self) -> str:
        return f"Command({self.full_name.decode()})"

    def accepts(self, argument_count: i64) -> bool:
        """Whether the arity allows that many arguments."""
        arity = self.arity
        return argument_count == arity if arity > 0 else argument_count >= -arity

    def categories(self) -> list[str]:
        """All ACL categories, in the server's order."""
        names = set(self.own_categories)
        if self.flags & WRITE:
            names.add("write")
        if self.flags & READONLY:
            names.add("read")
        if self.flags & ADMIN:
            names.update(("admin", "dangerous"))
        if self.flags & PUBSUB:
            names.add("pubsub")
        if self.flags & BLOCKING:
            names.add("blocking")
        names.add("fast" if self.flags & FAST else "slow")
        return [name for name in CATEGORIES if name in names]

    def legacy_range(self) -> tuple[int, int, int]:
        """First key, last key and step as COMMAND gave them before there were key specs."""
        if not self.key_specs:
            return 0, 0, 0
        first = self.key_specs[0].begin
        last = first
        step = self.key_specs[0].step
        for spec in self.key_specs:
            last = spec.begin + spec.last if spec.last >= 0 else spec.last
        return first, last, step

    def info(self) -> list[object]:
        """The entry of COMMAND INFO."""
        first, last, step = self.legacy_range()
        flags: list[object] = [SimpleString(name.encode()) for bit, name in FLAG_NAMES if self.flags & bit]
        categories: list[object] = [SimpleString(b"@" + name.encode()) for name in self.categories()]
        tips: list[object] = [tip.encode() for tip in self.tips]
        specs: list[object] = [spec.info() for spec in self.key_specs]
        subcommands: object = SetReply([])
        if self.subcommands is not None:
            subcommands = [command.info() for command in self.subcommands.values()]
        arity: int = self.arity
        return [
            self.full_name,
            arity,
            SetReply(flags),
            first,
            last,
            step,
            SetReply(categories),
            SetReply(tips),
            SetReply(specs),
            subcommands,
        ]

    def docs(self) -> Map:
        """The entry of COMMAND DOCS."""
        flat: list[object] = [b"summary", self.summary.encode(), b"since", self.since.encode()]
        flat += [b"group", self.group.encode(), b"complexity", self.complexity.encode()]
        if self.deprecated_since:
            flat += [b"doc_flags", SetReply([SimpleString(b"deprecated")])]
            flat += [b"deprecated_since", self.deprecated_since.encode()]
            flat += [b"replaced_by", self.replaced_by.encode()]
        if self.subcommands is not None:
            nested: list[object] = []
            for command in self.subcommands.values():
                nested += [command.full_name, command.docs()]
            flat += [b"subcommands", Map(nested)]
        return Map(flat)

    def keys_of(self, args: list[bytes]) -> list[tuple[bytes, list[str]]]:
        """The keys in a request with this command, each with the flags of its use.

        Raises:
            CommandError: the arguments do not fit the command.
        """
        if self.get_keys is not None:
            return self.get_keys(args)
        found: list[tuple[bytes, list[str]]] = []
        for spec in self.key_specs:
            found += [(args[index], spec.flags) for index in spec.positions(len(args))]
        return found


class Registry:
    """The commands of one engine, by name."""

    def __init__(self, commands: list[Command]) -> None:
        self.commands: dict[bytes, Command] = {}
        # Dispatch looks the bytes up as the client sent them, in one of the two common spellings.
        self.by_spelling: dict[bytes, Command] = {}
        for command in commands:
            self.commands[command.name] = command
            self.by_spelling[command.name] = command
            self.by_spelling[command.name.upper()] = command

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


def container(session: Session, args: list[bytes]) -> object:
    """The function of a container: reached only with too few arguments, which the arity check has refused."""
    raise CommandError(errors.wrong_arity(args[0].lower()))
