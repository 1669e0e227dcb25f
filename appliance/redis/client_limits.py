"""What one client may cost before it is disconnected: time, unfinished requests, unsent replies, memory.

| parameter | looked at |
|---|---|
| client-query-buffer-limit | with each large piece of input, and in turns |
| client-output-buffer-limit | when replies cannot leave at once, and in turns |
| timeout | in turns |
| maxmemory-clients | at each `cron`, over all clients, when it is set |

"In turns": each `cron` looks at a tenth of the clients (at `hz 10`), so each is seen once a second. A request
of an ordinary client pays for none of this.

Unsent is what the send buffer of the connection has not taken (`Session.unsent_bytes`, kept by whoever owns
the session) together with what the session still has. As the send buffer is here what the kernel's is to
redis-server, a client's replies count as they do there, except that a reply which the send buffer takes whole
never counts.

Source:     limits and their order are redis-server 8.2's; so are the names of the counters.
Units:      bytes; microseconds of Unix time.
Invariants: a session that is over a limit is killed once, with `is_over_limit` set: what it was owed goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.parameters import buffer_limits
from appliance.redis.session import LOCKED, PARKED, REPLICA, SUBSCRIBED

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.config import Configuration
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session

SESSION_BYTES: Final = 3000
"""A session with its parser and reply buffer, when nothing is under way."""

_LEAST_IN_TURN: Final = 5
_SECOND_US: Final = 1_000_000
# Who has not authenticated gets no more room than this for a request.
_STRANGERS_QUERY: Final = 1024 * 1024
_NORMAL: Final = 0
_PUBSUB: Final = 2


class ClientLimits:
    """The limits of one engine's clients, and what became of those who passed one."""

    def __init__(self, engine: Engine) -> None:
        self.engine: Engine = engine
        self.on_close: Callable[[Session, str], None] | None = None  # told of each that is closed, and why
        self.query_buffer: i64 = 1 << 30
        self.timeout_us: i64 = 0  # 0 for never
        self.keepalive_us: i64 = 0  # 0 for off
        self.memory: i64 = 0  # of all clients, 0 for any
        self.hz: i64 = 10
        # By class (parameters.CLIENT_CLASSES): bytes at once, bytes for a time, that time.
        self._hard: list[int] = [0, 0, 0]
        self._soft: list[int] = [0, 0, 0]
        self._soft_us: list[int] = [0, 0, 0]
        self._turn: list[Session] = []
        # For INFO.
        self.query_buffer_disconnections: i64 = 0
        self.output_buffer_disconnections: i64 = 0
        self.evicted_clients: i64 = 0

    def configure(self, configuration: Configuration) -> None:
        """Follow what CONFIG SET says."""
        self.query_buffer = configuration.integer("client-query-buffer-limit")
        self.timeout_us = configuration.integer("timeout") * _SECOND_US
        self.keepalive_us = configuration.integer("tcp-keepalive") * _SECOND_US
        self.hz = configuration.integer("hz")
        text = configuration.text("maxmemory-clients")
        if text.endswith(b"%"):
            self.memory = configuration.integer("maxmemory") * int(text[:-1]) // 100
        else:
            self.memory = int(text)
        limits = buffer_limits(configuration.text("client-output-buffer-limit"))
        self._hard = [limit[0] for limit in limits]
        self._soft = [limit[1] for limit in limits]
        self._soft_us = [limit[2] * _SECOND_US for limit in limits]

    def reset_stats(self) -> None:
        """CONFIG RESETSTAT."""
        self.query_buffer_disconnections = 0
        self.output_buffer_disconnections = 0
        self.evicted_clients = 0

    # Single clients -------------------------------------------------------------------------------

    def check_query(self, session: Session) -> None:
        """Disconnect a client whose unfinished requests are too much."""
        size: i64 = session.query_bytes()
        if size <= self.query_buffer and (session.mode & LOCKED == 0 or size <= _STRANGERS_QUERY):
            return
        if not session.is_closing:
            self.query_buffer_disconnections += 1
            self.close(session, "closing a client that reached the limit of its query buffer")

    def check_output(self, session: Session, now_us: i64) -> None:
        """Disconnect a client that leaves too much of its replies unread."""
        if session.mode & REPLICA:
            return  # a snapshot waits for its client, see snapshot.py
        kind = _PUBSUB if session.mode & SUBSCRIBED else _NORMAL
        size = int(session.output_bytes())
        hard = self._hard[kind]
        soft = self._soft[kind]
        is_over = hard != 0 and size >= hard
        if soft != 0 and size >= soft:
            if session.over_soft_since_us == 0:
                session.over_soft_since_us = now_us
            elif now_us - session.over_soft_since_us > self._soft_us[kind]:
                is_over = True
        else:
            session.over_soft_since_us = 0
        if is_over and not session.is_closing:
            self.output_buffer_disconnections += 1
            self.close(session, "closing a client that overcame the limits of its output buffer")

    def _check_idle(self, session: Session, now_us: i64) -> None:
        if self.timeout_us == 0 or now_us - session.last_interaction_us <= self.timeout_us:
            return
        if session.mode & (PARKED | SUBSCRIBED) == 0 and not session.is_privileged:
            self.close(session, "closing an idle client")

    def close(self, session: Session, reason: str) -> None:
        """Disconnect a client that is over a limit, and say why."""
        if self.on_close is not None:
            self.on_close(session, reason)
        session.is_over_limit = True
        session.kill()

    # All of them ----------------------------------------------------------------------------------

    def cron(self, now_us: i64) -> None:
        """Look at those whose turn it is, and at the memory of all if that is limited."""
        sessions = self.engine.sessions
        left: i64 = len(sessions) // self.hz
        if left < _LEAST_IN_TURN:
            left = _LEAST_IN_TURN
        is_new = False
        while left > 0:
            left -= 1
            if len(self._turn) == 0:
                if is_new or len(sessions) == 0:
                    break
                is_new = True
                self._turn = list(sessions.values())
            session = self._turn.pop()
            if not session.is_closing:
                self._look_at(session, now_us)
        if self.memory != 0:
            self._evict()

    def _look_at(self, session: Session, now_us: i64) -> None:
        self._check_idle(session, now_us)
        if session.unsent_bytes != 0 or session.has_output() or session.over_soft_since_us != 0:
            self.check_output(session, now_us)
        if session.parser.pending_bytes() != 0:
            self.check_query(session)

    def memory_of(self, session: Session) -> int:
        """Bytes that a client takes (CLIENT LIST's tot-mem)."""
        return int(SESSION_BYTES + session.query_bytes() + session.output_bytes())

    def memory_of_all(self) -> int:
        """Bytes of all clients (INFO's mem_clients_normal)."""
        total = 0
        for session in self.engine.sessions.values():
            total += self.memory_of(session)
        return total

    def _evict(self) -> None:
        """Disconnect the biggest until all together are below their limit."""
        total = 0
        sizes: list[tuple[int, int]] = []
        for session in self.engine.sessions.values():
            if session.is_closing:
                continue
            size = self.memory_of(session)
            total += size
            if not (session.is_no_evict or session.is_privileged or session.mode & REPLICA):
                sizes.append((size, session.id))
        if total < self.memory:
            return
        sizes.sort()
        while len(sizes) > 0 and total >= self.memory:
            size, session_id = sizes.pop()
            total -= size
            self.evicted_clients += 1
            self.close(self.engine.sessions[session_id], "evicting a client")
