"""Which kind of link the system tests run over, and what differs between them for a test.

`REDTAP_TEST_LINK=packet` (tun, xdp) in the environment chooses it for every appliance that does not name one.
A test that holds for some kinds only says which, and why: `@pytest.mark.links("tap", "tun", reason="...")`.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

LINK: Final = os.environ.get("REDTAP_TEST_LINK") or "tap"
"""The kind of link."""

PEER_LINK: Final = "redtap0"
"""What the clients' end is called in their namespace."""

DEVICE: Final = "appliance0" if LINK in ("packet", "xdp") else PEER_LINK
"""What the appliance calls the device it uses."""

IS_FILTERED: Final = LINK in ("packet", "xdp")
"""The kernel turns frames away that are not for the appliance."""

ETHERNET: Final = ("tap", "packet", "xdp")
"""Kinds on which frames have an Ethernet header."""

_ETHERNET_BYTES: Final = 14


class ForgingSocket:
    """Puts Ethernet frames of our making onto the clients' end; on a TUN, the packets in them.

    It belongs to the namespace of the thread that makes it.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((PEER_LINK, 0))

    def send(self, frame: bytes) -> None:
        """Send one frame."""
        if LINK == "tun":
            frame = frame[_ETHERNET_BYTES:]
        if frame:
            self._socket.send(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
