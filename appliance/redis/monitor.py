"""MONITOR: every command, as it is executed, told to those who asked for it.

    +1795379828.631325 [0 10.77.0.1:4711] "SET" "a" "1"

The number behind the bracket is the database after the command. A command of a script comes from `lua`.

Source:     redis-server 8.2: which commands are shown and when (behind the command, EXEC behind what it
            executed, a script before what it calls), and how arguments are quoted.
Invariants: a session is in `sessions` while its mode says MONITORING.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.redis.engine_modes import MONITORED
from appliance.redis.quoting import quote
from appliance.redis.timing import shown_arguments

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session


class Monitors:
    """The sessions that are told of all commands."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.sessions: dict[int, Session] = {}

    def add(self, session: Session) -> None:
        self.sessions[session.id] = session
        self.engine.set_mode(MONITORED, True)

    def remove(self, session: Session) -> None:
        self.sessions.pop(session.id, None)
        self.engine.set_mode(MONITORED, len(self.sessions) > 0)

    def feed(self, session: Session, args: list[bytes], address: bytes = b"") -> None:
        """Tell of a command that a session has executed.

        Args:
            session: whose database is shown.
            args: the request.
            address: who it was, if not the session's peer (`lua`).
        """
        now_us: int = session.clock.now_us
        who = address if len(address) > 0 else session.remote.encode()
        request = b" ".join([quote(each) for each in shown_arguments(args, self.engine.configuration)])
        when = b"%d.%06d" % (now_us // 1_000_000, now_us % 1_000_000)
        line = b"+%b [%d %b] %b\r\n" % (when, session.db.index, who, request)
        for monitor in self.sessions.values():
            self.engine.push(monitor, line)
