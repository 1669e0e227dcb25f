"""A passive OPEN: the LISTEN state, which never turns into a connection but makes them.

Source: RFC 9293 §3.10.7.2, MUST-41, MUST-42. The backlog counts connections that are half open or that
nobody has accepted yet; beyond it a SYN is answered by a cookie (`syn_cookies`), or dropped where those are
switched off, and the peer's next try may find room.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mypy_extensions import i64

from appliance.stack.tcp import state as st

if TYPE_CHECKING:
    from appliance.stack.tcp.connection import Connection
    from appliance.stack.tcp.tcb import Tcb

__all__ = ["Listener"]


class Listener:
    """address 0 stands for every address of the interface."""

    def __init__(self, address: i64, port: i64, backlog: i64) -> None:
        self.address = address
        self.port = port
        self.backlog = backlog
        self.owner: object | None = None
        self.is_closed: bool = False
        self.last_cookie_at: i64 = -1  # when a SYN was last answered by a cookie; -1: never
        self._half_open: dict[bytes, Tcb] = {}
        self._opened: deque[Tcb] = deque()

    def has_room(self) -> bool:
        return len(self._half_open) + len(self._opened) < self.backlog

    def can_open(self) -> bool:
        """Whether a connection may become ESTABLISHED that was not counted as half open (SYN cookies)."""
        return len(self._opened) < self.backlog

    def accept(self) -> Connection | None:
        """The connection that has been open longest and was not accepted yet, or None."""
        while self._opened:
            connection: Connection = self._opened.popleft()  # type: ignore[assignment]
            connection.listener = None
            if connection.state != st.CLOSED:
                return connection
        return None

    def close(self) -> None:
        """Stop listening; connections that nobody has accepted are reset."""
        if self.is_closed:
            return
        self.is_closed = True
        waiting: list[Tcb] = list(self._half_open.values()) + list(self._opened)
        self._half_open.clear()
        self._opened.clear()
        for tcb in waiting:
            tcb.listener = None
            connection: Connection = tcb  # type: ignore[assignment]
            connection.abort()

    # -- from the connections ----------------------------------------------------------------------------

    def add(self, tcb: Tcb) -> None:
        """A SYN arrived: tcb is half open."""
        tcb.listener = self
        self._half_open[tcb.four_tuple] = tcb

    def opened(self, tcb: Tcb) -> None:
        """tcb reached ESTABLISHED."""
        self._half_open.pop(tcb.four_tuple, None)
        self._opened.append(tcb)

    def forget(self, tcb: Tcb, was_half_open: bool) -> None:
        """tcb ended before it was accepted."""
        if was_half_open:
            self._half_open.pop(tcb.four_tuple, None)
        elif tcb in self._opened:
            self._opened.remove(tcb)  # or the dead would fill the backlog
        tcb.listener = None
