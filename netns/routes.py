"""Routes that say which congestion control the connections over them use (RTAX_CC_ALGO, rtnetlink(7)).

A route may name one where the sysctl of a namespace may not.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RTPROT_KERNEL", "main_routes", "name_congestion_control"]

_RT_TABLE_MAIN: Final = 254  # linux/rtnetlink.h
RTPROT_KERNEL: Final = 2
"""Who made a route: the kernel, for an address of the link."""


def name_congestion_control(ipr: Any, routes: Iterable[Any], control: str) -> None:
    """Change these IPv4 routes of the main table to name `control`.

    Args:
        ipr: pyroute2's IPRoute, in their namespace.

    Raises:
        NetlinkError: EINVAL where the kernel has none of that name.
    """
    for route in routes:
        ipr.route(
            "change",
            family=socket.AF_INET,
            dst=f"{route.get_attr('RTA_DST')}/{route['dst_len']}",
            oif=route.get_attr("RTA_OIF"),
            prefsrc=route.get_attr("RTA_PREFSRC"),
            scope=route["scope"],
            proto=route["proto"],
            table=_RT_TABLE_MAIN,
            metrics={"cc_algo": control},
        )


def main_routes(ipr: Any, index: int | None = None) -> list[Any]:
    """The IPv4 routes of the main table; with `index`, those through that link."""
    through = {} if index is None else {"oif": index}
    return list(ipr.get_routes(family=socket.AF_INET, table=_RT_TABLE_MAIN, **through))
