"""The standard socket options by name, for programs that know sockets and want to experiment.

Source: tcp(7), ip(7), socket(7) of the Linux manual; units are theirs (seconds, milliseconds, bytes).
Errors: LocalProtocolError for a name that we do not have or a value out of range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.errors import LocalProtocolError
from appliance.stack.timebase import MILLISECOND, NEVER, SECOND

if TYPE_CHECKING:
    from appliance.stack.tcp.connection import Connection

__all__ = ["OPTION_NAMES", "get_option", "set_option"]

OPTION_NAMES: Final = (
    "IP_TOS",
    "IP_TTL",
    "SO_KEEPALIVE",
    "SO_RCVBUF",
    "SO_SNDBUF",
    "TCP_CORK",
    "TCP_KEEPCNT",
    "TCP_KEEPIDLE",
    "TCP_KEEPINTVL",
    "TCP_MAXSEG",
    "TCP_NODELAY",
    "TCP_USER_TIMEOUT",
)

# name -> least and greatest value that set_option takes
_RANGES: Final[dict[str, tuple[int, int]]] = {
    "IP_TOS": (0, 255),
    "IP_TTL": (1, 255),
    "SO_KEEPALIVE": (0, 1),
    "SO_RCVBUF": (256, 1 << 30),
    "SO_SNDBUF": (256, 1 << 30),
    "TCP_CORK": (0, 1),
    "TCP_KEEPCNT": (1, 127),
    "TCP_KEEPIDLE": (1, 32767),
    "TCP_KEEPINTVL": (1, 32767),
    "TCP_NODELAY": (0, 1),
    "TCP_USER_TIMEOUT": (0, 1 << 31),
}


def set_option(connection: Connection, name: str, value: int) -> None:
    """Set one option. SO_RCVBUF and SO_SNDBUF also end the automatic growth beyond them."""
    if name not in _RANGES:
        settable = ", ".join(sorted(_RANGES))
        raise LocalProtocolError(f"{name} cannot be set; those that can are {settable}")
    low, high = _RANGES[name]
    if not low <= value <= high:
        raise LocalProtocolError(f"{name}: {value} is out of range; takes {low} to {high}")
    if name == "IP_TOS":
        connection.set_dscp(value >> 2)  # the two low bits are ECN's
    elif name == "IP_TTL":
        connection.set_ttl(value)
    elif name == "SO_KEEPALIVE":
        connection.set_keepalive(bool(value))
    elif name == "SO_RCVBUF":
        connection.set_receive_buffer(value)
    elif name == "SO_SNDBUF":
        connection.set_send_buffer(value)
    elif name == "TCP_CORK":
        connection.set_cork(bool(value))
    elif name == "TCP_KEEPCNT":
        connection.keepalive_probes = value
    elif name == "TCP_KEEPIDLE":
        connection.keepalive_idle_us = value * SECOND
        if connection.keepalive_deadline != NEVER:
            connection.set_keepalive(True)
    elif name == "TCP_KEEPINTVL":
        connection.keepalive_interval_us = value * SECOND
    elif name == "TCP_NODELAY":
        connection.set_nodelay(bool(value))
    else:
        connection.set_user_timeout(value * MILLISECOND)


def get_option(connection: Connection, name: str) -> int:
    """The present value of one option."""
    if name == "IP_TOS":
        return connection.tos
    if name == "IP_TTL":
        return connection.ttl
    if name == "SO_KEEPALIVE":
        return int(connection.keepalive_deadline != NEVER)
    if name == "SO_RCVBUF":
        return connection.receive_limit
    if name == "SO_SNDBUF":
        return connection.send_limit
    if name == "TCP_CORK":
        return int(connection.is_corked)
    if name == "TCP_KEEPCNT":
        return connection.keepalive_probes
    if name == "TCP_KEEPIDLE":
        return connection.keepalive_idle_us // SECOND
    if name == "TCP_KEEPINTVL":
        return connection.keepalive_interval_us // SECOND
    if name == "TCP_MAXSEG":
        return connection.smss
    if name == "TCP_NODELAY":
        return int(connection.is_nodelay)
    if name == "TCP_USER_TIMEOUT":
        return connection.user_timeout_us // MILLISECOND
    raise LocalProtocolError(f"{name} is not an option; those there are: {', '.join(OPTION_NAMES)}")
