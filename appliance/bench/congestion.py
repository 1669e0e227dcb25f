"""Which congestion control the kernels of the benchmark use: one and the same for every peer.

A system's default may pace (BBR does): then the tail of a large request waits for a timer of the client's
kernel, which says nothing of the server. So the routes of the benchmark's namespaces name Linux's own
default, cubic, which a route may do where the sysctl of a namespace may not (RTAX_CC_ALGO, rtnetlink(7)).
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from appliance.errors import HostError
from netns.inside import inside

__all__ = ["DEFAULT", "SYSTEM", "pin"]

DEFAULT: Final = "cubic"
SYSTEM: Final = "system"
_MAIN: Final = 254
_IPV4: Final = 2


def pin(place: str, name: str) -> None:
    """Let connections over every route of the namespace `place` use the congestion control `name`.

    Args:
        name: `SYSTEM` leaves it as it is.

    Raises:
        HostError: the kernel has none of that name, or refuses.
    """
    if name == SYSTEM:
        return

    def change() -> None:
        with closing(IPRoute()) as kernel:
            for route in kernel.get_routes(family=_IPV4, table=_MAIN):
                kernel.route(
                    "change",
                    family=_IPV4,
                    dst=f"{route.get_attr('RTA_DST')}/{route['dst_len']}",
                    oif=route.get_attr("RTA_OIF"),
                    prefsrc=route.get_attr("RTA_PREFSRC"),
                    scope=route["scope"],
                    proto=route["proto"],
                    table=_MAIN,
                    metrics={"cc_algo": name},
                )

    try:
        # Not IPRoute's own way into a namespace: that forks.
        inside(place, change)
    except (OSError, NetlinkError) as error:
        raise HostError(f"--congestion {name}: the kernel refuses it: {error}") from error
