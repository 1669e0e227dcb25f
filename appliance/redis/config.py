"""Configuration parameters: what CONFIG GET shows and CONFIG SET takes.

Source:     names, kinds, limits and error texts of redis-server 8.2's CONFIG.
Invariants: a value is kept as the text CONFIG GET gives; `set_many` applies all of its pairs or none.
Errors:     CommandError with the server's text.
Not here:   parameters of parts this engine lacks (replication, cluster, TLS, modules). Persistence exists
            neither: `save` and `appendonly` are there, as clients ask for them, and refuse to be switched
            on.
"""

from __future__ import annotations

from typing import Final

from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.integers import I64_MAX, parse_integer
from appliance.redis.notifications import event_classes, event_letters

_UNITS: Final[dict[bytes, int]] = {
    b"": 1,
    b"b": 1,
    b"k": 1000,
    b"kb": 1024,
    b"m": 1000**2,
    b"mb": 1024**2,
    b"g": 1000**3,
    b"gb": 1024**3,
}

_POLICIES: Final = (
    "volatile-lru volatile-lfu volatile-random volatile-ttl allkeys-lru allkeys-lfu allkeys-random noeviction"
)


class _Parameter:
    """One parameter: its kind says which texts it takes."""

    def __init__(
        self,
        name: str,
        kind: str,
        default: str,
        low: int = 0,
        high: int = I64_MAX,
        *,
        choices: str = "",
        immutable: bool = False,
        only: str | None = None,
        alias: str = "",
    ) -> None:
        self.name: bytes = name.encode()
        self.kind = kind
        self.default: bytes = default.encode()
        self.low = low
        self.high = high
        self.choices: list[bytes] = choices.encode().split()
        self.immutable = immutable
        self.alias: bytes = alias.encode()
        # The one value a parameter may have because the part it governs does not exist here.
        self.only: bytes | None = None if only is None else only.encode()

    def normalized(self, text: bytes) -> bytes:
        """The text as CONFIG GET will show it.

        Raises:
            ValueError: with the reason, in the server's words.
        """
        if self.kind == "string":
            value = text
        elif self.kind == "events":
            value = event_letters(event_classes(text.decode("latin-1"))).encode()
        elif self.kind == "bool":
            value = text.lower()
            if value not in (b"yes", b"no"):
                raise ValueError("argument must be 'yes' or 'no'")
        elif self.kind == "enum":
            value = text.lower()
            if value not in self.choices:
                raise ValueError(
                    "argument(s) must be one of the following: " + b", ".join(self.choices).decode()
                )
        else:
            value = self._number(text)
        if self.only is not None and value != self.only:
            raise ValueError("this server keeps its data in memory only")
        return value

    def _number(self, text: bytes) -> bytes:
        if self.kind == "memory":
            digits = text.rstrip(b"bBkKmMgG")
            unit = _UNITS.get(text[len(digits) :].lower())
            number = parse_integer(digits)
            if unit is None or number is None or number < 0:
                raise ValueError("argument must be a memory value")
            number *= unit
        else:
            number = parse_integer(text)
            if number is None:
                raise ValueError("argument couldn't be parsed into an integer")
        if self.kind == "unsigned" and number < 0:
            raise ValueError("argument must be greater or equal to 0")
        if not self.low <= number <= self.high:
            raise ValueError(f"argument must be between {self.low} and {self.high} inclusive")
        return b"%d" % number


def _parameters() -> list[_Parameter]:
    int_max = (1 << 31) - 1
    return [
        _Parameter("activedefrag", "bool", "no", only="no"),
        _Parameter("active-expire-effort", "integer", "1", 1, 10),
        _Parameter("activerehashing", "bool", "yes"),
        _Parameter("appendfsync", "enum", "everysec", choices="everysec always no"),
        _Parameter("appendonly", "bool", "no", only="no"),
        _Parameter("bind", "string", "", immutable=True),
        _Parameter("busy-reply-threshold", "integer", "5000"),
        _Parameter("client-query-buffer-limit", "memory", "1073741824", 1024 * 1024),
        _Parameter("cluster-enabled", "bool", "no", immutable=True),
        _Parameter("daemonize", "bool", "no", immutable=True),
        _Parameter("databases", "integer", "16", 1, int_max, immutable=True),
        _Parameter("dbfilename", "string", "dump.rdb", immutable=True),
        _Parameter("dir", "string", "", immutable=True),
        _Parameter("hash-max-listpack-entries", "unsigned", "512", alias="hash-max-ziplist-entries"),
        _Parameter("hash-max-listpack-value", "memory", "64", alias="hash-max-ziplist-value"),
        _Parameter("hll-sparse-max-bytes", "memory", "3000"),
        _Parameter("hz", "integer", "10", 0, int_max),
        _Parameter("io-threads", "integer", "1", 1, 128, immutable=True),
        _Parameter("latency-tracking", "bool", "no"),
        _Parameter("lazyfree-lazy-eviction", "bool", "no"),
        _Parameter("lazyfree-lazy-expire", "bool", "no"),
        _Parameter("lazyfree-lazy-server-del", "bool", "no"),
        _Parameter("lazyfree-lazy-user-del", "bool", "no"),
        _Parameter("lazyfree-lazy-user-flush", "bool", "no"),
        _Parameter("lfu-decay-time", "integer", "1", 0, int_max),
        _Parameter("lfu-log-factor", "integer", "10", 0, int_max),
        _Parameter("list-compress-depth", "integer", "0", 0, int_max),
        _Parameter(
            "list-max-listpack-size",
            "integer",
            "-2",
            -(1 << 31),
            int_max,
            alias="list-max-ziplist-size",
        ),
        _Parameter("logfile", "string", "", immutable=True),
        _Parameter("loglevel", "enum", "notice", choices="debug verbose notice warning nothing"),
        _Parameter("lua-time-limit", "integer", "5000"),
        _Parameter("maxclients", "integer", "10000", 1, (1 << 32) - 1),
        _Parameter("maxmemory", "memory", "0"),
        _Parameter("maxmemory-eviction-tenacity", "integer", "10", 0, 100),
        _Parameter("maxmemory-policy", "enum", "noeviction", choices=_POLICIES),
        _Parameter("maxmemory-samples", "integer", "5", 1, 64),
        _Parameter("notify-keyspace-events", "events", ""),
        _Parameter("port", "integer", "6379", 0, 65535, immutable=True),
        _Parameter("proto-max-bulk-len", "memory", "536870912", 1024 * 1024),
        _Parameter("protected-mode", "bool", "no"),
        _Parameter("requirepass", "string", ""),
        _Parameter("save", "string", "", only=""),
        _Parameter("set-max-intset-entries", "unsigned", "512"),
        _Parameter("set-max-listpack-entries", "unsigned", "128"),
        _Parameter("set-max-listpack-value", "unsigned", "64"),
        _Parameter("slowlog-log-slower-than", "integer", "10000", -1),
        _Parameter("slowlog-max-len", "integer", "128"),
        _Parameter("stop-writes-on-bgsave-error", "bool", "yes"),
        _Parameter("stream-node-max-bytes", "memory", "4096"),
        _Parameter("stream-node-max-entries", "integer", "100"),
        _Parameter("tcp-backlog", "integer", "511", 0, int_max, immutable=True),
        _Parameter("tcp-keepalive", "integer", "300", 0, int_max),
        _Parameter("timeout", "integer", "0", 0, int_max),
        _Parameter("unixsocket", "string", "", immutable=True),
        _Parameter("zset-max-listpack-entries", "unsigned", "128", alias="zset-max-ziplist-entries"),
        _Parameter("zset-max-listpack-value", "memory", "64", alias="zset-max-ziplist-value"),
    ]


class Configuration:
    """The parameters of one engine and their values."""

    def __init__(self, overrides: dict[str, str]) -> None:
        """Defaults, changed by `overrides`, which may set immutable parameters too.

        Raises:
            ValueError: a value its parameter does not take.
        """
        self._parameters: dict[bytes, _Parameter] = {}
        self._values: dict[bytes, bytes] = {}
        # Names of older servers: each sets and shows the parameter it became.
        self._aliases: dict[bytes, _Parameter] = {}
        for parameter in _parameters():
            self._parameters[parameter.name] = parameter
            self._values[parameter.name] = parameter.default
            if parameter.alias:
                self._aliases[parameter.alias] = parameter
        for name, text in overrides.items():
            parameter = self._parameters[name.encode()]
            self._values[parameter.name] = parameter.normalized(text.encode())
        self.requirepass: bytes = self._values[b"requirepass"]
        # What notify-keyspace-events was set to: its text does not show all of it.
        self.event_flags: int = event_classes(self._values[b"notify-keyspace-events"].decode())

    def integer(self, name: str) -> int:
        return int(self._values[name.encode()])

    def text(self, name: str) -> bytes:
        return self._values[name.encode()]

    def matching(self, patterns: list[bytes]) -> list[tuple[bytes, bytes]]:
        """Names and values of all parameters that one of the glob patterns matches, each once."""
        found: dict[bytes, bytes] = {}
        every = dict(self._values)
        for alias, parameter in self._aliases.items():
            every[alias] = self._values[parameter.name]
        for pattern in patterns:
            if not any(mark in pattern for mark in (b"*", b"?", b"[")):
                # A plain name comes back in the spelling it was asked for.
                if pattern.lower() in every:
                    found[pattern] = every[pattern.lower()]
                continue
            matching = [name for name in every if glob_match(pattern, name, ignore_case=True)]
            found.update({name: every[name] for name in matching})
        return list(found.items())

    def set_many(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Set all pairs, or none when one of them is wrong.

        Raises:
            CommandError: naming the first argument that is wrong.
        """
        accepted: dict[bytes, bytes] = {}
        known: list[tuple[_Parameter, bytes, bytes]] = []
        for name, text in pairs:
            parameter = self._parameters.get(name.lower())
            if parameter is None:
                parameter = self._aliases.get(name.lower())
            if parameter is None:
                raise CommandError(
                    b"ERR Unknown option or number of arguments for CONFIG SET - '" + name + b"'"
                )
            if parameter.immutable:
                raise CommandError(_failed(name, "can't set immutable config"))
            if any(parameter is other for other, _, _ in known):
                raise CommandError(_failed(name, "duplicate parameter"))
            known.append((parameter, name, text))
        events = self.event_flags
        for parameter, name, text in known:
            try:
                accepted[parameter.name] = parameter.normalized(text)
            except ValueError as error:
                raise CommandError(_failed(name, str(error))) from None
            if parameter.kind == "events":
                events = event_classes(text.decode("latin-1"))
        self._values.update(accepted)
        self.event_flags = events
        self.requirepass = self._values[b"requirepass"]


def _failed(name: bytes, reason: str) -> bytes:
    return b"ERR CONFIG SET failed (possibly related to argument '" + name + b"') - " + reason.encode()
