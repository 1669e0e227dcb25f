"""Which congestion control the kernels of the benchmark use: one and the same for every peer.

A system's default may pace (BBR does): then the tail of a large request waits for a timer of the client's
kernel, which says nothing of the server. So the routes of the benchmark's namespaces name Linux's own
default, cubic (`netns/routes.py`).
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from appliance.errors import HostError
from netns.inside import inside
from netns.routes import main_routes, name_congestion_control

__all__ = ["DEFAULT", "SYSTEM", "pin"]

DEFAULT: Final = "cubic"
SYSTEM: Final = "system"


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
            name_congestion_control(kernel, main_routes(kernel), name)

    try:
        # Not IPRoute's own way into a namespace: that forks.
        inside(place, change)
    except (OSError, NetlinkError) as error:
        raise HostError(f"--congestion {name}: the kernel refuses it: {error}") from error
