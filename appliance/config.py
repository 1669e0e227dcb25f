"""The settings: where they come from, what each of them takes, and what is said of a wrong one.

A setting is looked for in the flags, in the environment (`REDTAP_` and its name), in the file named by
`--config`, and is else the default; the first that has it wins. A redis.conf, where one is given, goes before
the file of `--config`. `OPTIONS` is the only list of them: the
flags, the variables, the keys of the file and the help are all made from it.

Invariants: `Settings` is frozen and whole; every value in it has been checked, alone and against the others.
Errors:     `ConfigError`, one line that names the option, the value, where it came from, and what it takes.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ConfigError
from netns.topology import (
    MAX_MTU,
    MIN_MTU,
    check_interface,
    check_link_name,
    check_mac,
    check_mtu,
    check_namespace_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ENVIRONMENT_PREFIX: Final = "REDTAP_"
LINKS: Final = ("tap", "tun", "packet", "xdp")
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS: Final = ("text", "json")
DEBUG_CLIENTS: Final = ("no", "yes", "local")

# More than the default needs more descriptors nowhere (connections are ours), but every port of one client
# address is used up at 64,511; beyond a million the table alone takes gigabytes.
_MAX_CONNECTIONS: Final = 1_000_000
_MAX_QUEUE: Final = 4095  # linux/netdevice.h counts to 4096
_MAX_BUSY_POLL_US: Final = 1_000_000
_ADDRESS: Final = ipaddress.IPv4Interface("10.77.0.2/24")
_CLIENT_ADDRESS: Final = ipaddress.IPv4Interface("10.77.0.1/24")

_MAX_SEED: Final = 2**64 - 1
# sun_path of unix(7) is 108 bytes with the final NUL.
_MAX_SOCKET_PATH: Final = 107


@dataclass(frozen=True)
class Settings:
    """What an appliance is started with.

    Attributes:
        netns: name of the namespace, and of the appliance.
        tap: name of the link inside it.
        address: the appliance, with its network.
        client_address: the kernel's end, in the same network.
        gateway: for addresses outside of that network; None for none.
        mac: the appliance's; None for one made from the address.
        port: TCP port of the Redis service.
        mtu: bytes of an IP packet.
        link: kind of link, one of `LINKS`; with `:` and a name, on a link that is there already.
        capture: a pcapng file to write every frame to; None for none.
        seed: of every random choice of the stack and the engine; None for the system's randomness.
        config: the file that was read; None for none.
        log_level, log_format: see `appliance.shell.logs`.
        max_connections: TCP connections at once; one more gets RST.
        busy_poll: microseconds for which the link is asked again and again before the pump sleeps.
        control: path of the control socket; None for the default of `control_path`.
        databases: of Redis.
        requirepass: of Redis; "" for none.
        enable_debug_command: of Redis: who may call DEBUG, one of `DEBUG_CLIENTS`.
        takeover: link whose address and MAC become the appliance's; None for a namespace of its own.
        given: the fields that somebody chose, by flag, environment or file.
    """

    netns: str = "redtap"
    tap: str = "redtap0"
    address: ipaddress.IPv4Interface = _ADDRESS
    client_address: ipaddress.IPv4Interface = _CLIENT_ADDRESS
    gateway: ipaddress.IPv4Address | None = None
    mac: bytes | None = None
    port: int = 6379
    mtu: int = 1500
    link: str = "tap"
    capture: str | None = None
    seed: int | None = None
    config: str | None = None
    log_level: str = "info"
    log_format: str = "text"
    max_connections: int = 10_000
    busy_poll: int = 0
    control: str | None = None
    databases: int = 16
    requirepass: str = ""
    enable_debug_command: str = "no"
    takeover: str | None = None
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def link_kind(self) -> str:
        """One of `LINKS`."""
        return self.link.partition(":")[0]

    @property
    def link_name(self) -> str:
        """The link that is there already; "" when one is to be made."""
        return self.link.split(":")[1] if ":" in self.link else ""

    @property
    def link_queue(self) -> int | None:
        """The receive queue of `xdp`; None for all."""
        parts = self.link.split(":")
        return int(parts[2]) if len(parts) > 2 else None

    def control_path(self) -> str:
        """Where the control socket is."""
        return self.control or os.path.join(runtime_directory(), f"{self.netns}.sock")

    def mac_or_default(self) -> bytes:
        """`mac`, or a locally administered one that ends in the IPv4 address: the same at every start."""
        return self.mac or b"\x02\x52" + self.address.ip.packed


def runtime_directory() -> str:
    """Where control sockets lie: /run/redtap for those who may write there, else a directory of the user."""
    if os.geteuid() == 0 or os.access("/run/redtap", os.W_OK):
        return "/run/redtap"
    base = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/redtap-{os.geteuid()}"
    return os.path.join(base, "redtap")


# Parsers: text to value, or ValueError whose text says what is wrong, a semicolon, and what is taken.


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # int() alone would also take " 7", "1_000" and digits of other scripts.
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            raise ValueError(f"{text!r} is not a whole number; takes {low} to {high}")
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"{text!r} is out of range; takes {low} to {high}")
        return value

    return parse


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            what = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
            raise ValueError(f"{text!r} is not known; takes {what}")
        return text

    return parse


def _one_of_words(choices: tuple[str, ...]) -> Callable[[str], str]:
    """In any case, as redis-server takes them."""
    parse = _one_of(choices)
    return lambda text: parse(text.lower())


def _link(text: str) -> str:
    kind, colon, rest = text.partition(":")
    _one_of(LINKS)(kind)
    if not colon:
        return text
    name, colon, queue = rest.partition(":")
    check_link_name(name)
    if colon:
        if kind != "xdp":
            raise ValueError(f"{text!r} has a queue, which only xdp has; takes {kind}:{name}")
        _whole_number(0, _MAX_QUEUE)(queue)
    return text


def _mtu(text: str) -> int:
    return check_mtu(_whole_number(MIN_MTU, MAX_MTU)(text))


def _ipv4(text: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address; takes one such as 10.77.0.1") from None


def _mac(text: str) -> bytes:
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", text):
        raise ValueError(f"{text!r} is not a MAC address; takes one such as 02:00:00:00:00:01")
    return check_mac(bytes.fromhex(text.replace(":", "")))


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is not a path; takes the name of a file")
    return text


def _socket_path(text: str) -> str:
    if not text or "\0" in text or len(os.fsencode(text)) > _MAX_SOCKET_PATH:
        raise ValueError(f"{text!r} cannot name a unix socket; takes a path of 1 to {_MAX_SOCKET_PATH} bytes")
    return text


@dataclass(frozen=True)
class Option:
    """One setting as people see it.

    Attributes:
        field: name in `Settings`; the flag, the variable and the key of the file are made from it.
        metavar: stands for the value in the help.
        help: what it is for; the default is added.
        parse: text to value, or ValueError.
    """

    field: str
    metavar: str
    help: str
    parse: Callable[[str], Any]

    @property
    def flag(self) -> str:
        """`--client-address`"""
        return "--" + self.field.replace("_", "-")

    @property
    def variable(self) -> str:
        """`REDTAP_CLIENT_ADDRESS`"""
        return ENVIRONMENT_PREFIX + self.field.upper()


OPTIONS: Final = (
    Option(
        "netns", "NAME", "Network namespace of the clients, and name of the appliance.", check_namespace_name
    ),
    Option("tap", "NAME", "Link inside the namespace.", check_link_name),
    Option("address", "ADDRESS/LENGTH", "The appliance.", check_interface),
    Option("client_address", "ADDRESS/LENGTH", "The kernel's end of the link.", check_interface),
    Option("gateway", "ADDRESS", "Where packets for other networks go.", _ipv4),
    Option("mac", "MAC", "Of the appliance.", _mac),
    Option("port", "PORT", "TCP port of Redis.", _whole_number(1, 65535)),
    Option("mtu", "BYTES", "Largest IP packet.", _mtu),
    Option(
        "link",
        "KIND[:LINK]",
        f"How frames reach us: {', '.join(LINKS)}; with a name, by that link, which is there already.",
        _link,
    ),
    Option("capture", "FILE", "Write every frame to a pcapng file.", _path),
    Option("seed", "N", "Make every random choice repeatable.", _whole_number(0, _MAX_SEED)),
    Option("config", "FILE", "Read settings from a TOML file.", _path),
    Option("log_level", "LEVEL", f"One of {', '.join(LOG_LEVELS)}.", _one_of(LOG_LEVELS)),
    Option("log_format", "FORMAT", f"One of {', '.join(LOG_FORMATS)}.", _one_of(LOG_FORMATS)),
    Option("max_connections", "N", "TCP connections at once.", _whole_number(1, _MAX_CONNECTIONS)),
    Option(
        "busy_poll",
        "US",
        "Ask the link this long for more before sleeping: burns CPU.",
        _whole_number(0, 1_000_000),
    ),
    Option("control", "PATH", "Unix socket to control it.", _socket_path),
    Option("databases", "N", "Redis databases.", _whole_number(1, 65536)),
    Option("requirepass", "PASSWORD", "Redis password.", str),
    Option(
        "enable_debug_command",
        "WHO",
        "Who may call DEBUG: no, yes or local (the control socket).",
        _one_of_words(DEBUG_CLIENTS),
    ),
    Option("takeover", "LINK", "Answer for this link's address, as in a container.", check_link_name),
)

_BY_FIELD: Final = {option.field: option for option in OPTIONS}


def option(name: str) -> Option:
    """The option for the field `name` of `Settings`."""
    return _BY_FIELD[name]


@dataclass(frozen=True)
class _Given:
    """A value as text, and the words for where it stood."""

    text: str
    source: str


def _from_file(path: str, source: str) -> dict[str, _Given]:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as exc:
        raise ConfigError(f"{source}: {path!r} cannot be read ({exc.strerror}); takes a TOML file") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        reason = " ".join(str(exc).split())
        raise ConfigError(f"{source}: {path!r} is not TOML ({reason}); takes a TOML file") from exc
    given: dict[str, _Given] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in _BY_FIELD or name == "config":
            known = ", ".join(entry.field for entry in OPTIONS if entry.field != "config")
            raise ConfigError(f"{path}: unknown key {key!r}; takes {known}")
        where = f"{_BY_FIELD[name].flag} (from {path})"
        if name in given:
            raise ConfigError(f"{where}: given twice; takes one value")
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            kind = (
                "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else repr(value)
            )
            raise ConfigError(f"{where}: {kind} is not a value for it; takes a string or a whole number")
        given[name] = _Given(str(value), where)
    return given


def load(
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    redis: Mapping[str, tuple[str, str]] | None = None,
) -> Settings:
    """Settle every setting.

    Args:
        flags: by field; None or missing when the flag was not given.
        environ: of the process. An empty variable counts as not set.
        redis: by field, text and source of what stands in a redis.conf; it goes before the TOML file.

    Raises:
        ConfigError: one line.
    """
    given: dict[str, _Given] = {}
    for entry in OPTIONS:
        text = flags.get(entry.field)
        if text is not None:
            given[entry.field] = _Given(text, entry.flag)
        elif environ.get(entry.variable):
            given[entry.field] = _Given(environ[entry.variable], f"{entry.flag} (from {entry.variable})")
    from_redis = {name: _Given(text, source) for name, (text, source) in (redis or {}).items()}
    if "config" in given:
        config = given["config"]
        given = {**_from_file(_parse(option("config"), config), config.source), **from_redis, **given}
    else:
        given = {**from_redis, **given}
    values = {name: _parse(_BY_FIELD[name], value) for name, value in given.items()}
    settings = Settings(**values, given=frozenset(values))
    _check_together(settings, {name: value.source for name, value in given.items()})
    return settings


def _parse(entry: Option, given: _Given) -> Any:
    try:
        return entry.parse(given.text)
    except ValueError as exc:
        raise ConfigError(f"{given.source}: {exc}") from exc


def _check_together(settings: Settings, sources: Mapping[str, str]) -> None:
    """Complain about the one that was given: of two that do not fit, the default is not to blame."""
    if settings.takeover is not None:
        for name in ("address", "client_address", "gateway", "mac"):
            if name in sources:
                raise ConfigError(
                    f"{sources[name]}: not together with --takeover; takes what {settings.takeover} has"
                )
        if settings.link_kind == "tun" or settings.link == f"tap:{settings.link_name}":
            raise ConfigError(f"{sources['link']}: not together with --takeover; takes tap, packet or xdp")
        if settings.link_name not in ("", settings.takeover):
            raise ConfigError(
                f"{sources['link']}: not together with --takeover {settings.takeover}; "
                f"takes {settings.link_kind}:{settings.takeover}"
            )
        return
    if settings.link_name:
        if "client_address" in sources:
            raise ConfigError(
                f"{sources['client_address']}: not together with --link {settings.link}; "
                f"takes what {settings.link_name} has"
            )
        if "address" not in sources:
            remedy = "takes --address with it"
            if settings.link_kind in ("packet", "xdp"):
                remedy += f", or --takeover {settings.link_name}"
            raise ConfigError(f"{sources['link']}: '{settings.link}' says no address; {remedy}")
        _check_gateway(settings, sources)
        return
    address, client = settings.address, settings.client_address
    blame = "client_address" if "client_address" in sources else "address"
    source = sources.get(blame, option(blame).flag)
    one, other = (client, address) if blame == "client_address" else (address, client)
    other_flag = option("address" if blame == "client_address" else "client_address").flag
    if one.network != other.network:
        raise ConfigError(
            f"{source}: '{one}' is not in the network of {other_flag}; takes an address in {other.network}"
        )
    if one.ip == other.ip:
        raise ConfigError(
            f"{source}: '{one}' is {other_flag} already; takes another address in {other.network}"
        )
    _check_gateway(settings, sources)


def _check_gateway(settings: Settings, sources: Mapping[str, str]) -> None:
    address, gateway = settings.address, settings.gateway
    if gateway is not None and (gateway not in address.network or gateway == address.ip):
        raise ConfigError(
            f"{sources['gateway']}: '{gateway}' is not near {address}; takes a host in {address.network}"
        )
