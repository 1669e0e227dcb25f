"""What one client may cost before it is disconnected: time, unfinished requests, unsent replies, memory.

| parameter | looked at |
|---|---|
| client-query-buffer-limit | before each piece of a large argument or a transaction, and in turns |
| client-output-buffer-limit | when replies cannot leave at once, with each large message, and in turns |
| the same, `normal` limited | as well before each request, and after the last of those that came together |
| timeout | in turns |
| maxmemory-clients | before each request, when replies cannot leave at once, and at each `cron` |

"In turns": each `cron` looks at a tenth of the clients (at `hz 10`), so each is seen once a second. What is
done for each request is done only while the limit is set (`engine_modes`): by default no request pays for it.

Unsent is what the session has not handed over, and what the send buffer of the connection has not taken
(`Session.unsent_bytes`, kept by whoever owns the session). The send buffer is here what the kernel's is to
redis-server, so a reply counts as there from when it is made until that buffer has taken it. Up to 16 KB that
have not been handed over do not count: there they are in a buffer of fixed size.

`total` is the sum of what all clients were counted as, each when it was looked at last. When it passes the
limit all are counted anew before one is disconnected.

Source:     limits and their order are redis-server 8.2's; so are the names of the counters.
Units:      bytes; microseconds of Unix time.
Invariants: a session that is over a limit is killed once, with `is_over_limit` set: what it was owed goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.engine_modes import CLIENTS_LIMITED, REPLIES_LIMITED
from appliance.redis.parameters import buffer_limits
from appliance.redis.session import LOCKED, MONITORING, PARKED, REPLICA, SUBSCRIBED

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.config import Configuration
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session

SESSION_BYTES: Final = 3000
"""A session with its parser and reply buffer, when nothing is under way."""

_ENTRY_BYTES: Final = 100  # a key that is watched, a channel, a prefix
_LEAST_MEMORY: Final = 128 * 1024  # with less than this for all clients nobody could set it right
_FIXED_BUFFER: Final = 16 * 1024
_LEAST_IN_TURN: Final = 5
_SECOND_US: Final = 1_000_000
_REMEMBERED_S: Final = 8
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
        self.total: i64 = 0  # what they take, kept while `memory` is set
        self._evict_at: i64 = 0  # a total at which it is worth while to look at all of them
        self.hz: i64 = 10
        # By class (parameters.CLIENT_CLASSES): bytes at once, bytes for a time, that time.
        self._hard: list[int] = [0, 0, 0]
        self._soft: list[int] = [0, 0, 0]
        self._soft_us: list[int] = [0, 0, 0]
        self._turn: list[Session] = []
        # For INFO. What clients were seen with in their turns, by second.
        self._second = 0
        self._slot = 0
        self._largest_input: list[int] = [0] * _REMEMBERED_S
        self._largest_output: list[int] = [0] * _REMEMBERED_S
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
        if 0 < self.memory < _LEAST_MEMORY:
            self.memory = _LEAST_MEMORY
        limits = buffer_limits(configuration.text("client-output-buffer-limit"))
        self._hard = [limit[0] for limit in limits]
        self._soft = [limit[1] for limit in limits]
        self._soft_us = [limit[2] * _SECOND_US for limit in limits]
        self.engine.set_mode(REPLIES_LIMITED, self._hard[_NORMAL] != 0 or self._soft[_NORMAL] != 0)
        self.engine.set_mode(CLIENTS_LIMITED, self.memory != 0)
        if self.memory != 0:
            self._count_all()

    def reset_stats(self) -> None:
        """CONFIG RESETSTAT."""
        self.query_buffer_disconnections = 0
        self.output_buffer_disconnections = 0
        self.evicted_clients = 0

    # Single clients -------------------------------------------------------------------------------

    def check_query(self, session: Session) -> None:
        """Disconnect a client whose unfinished requests are too much."""
        self._check_query(session, session.query_bytes())

    def takes(self, session: Session, count: i64) -> bool:
        """The same before the next `count` bytes are read: a request may be too much when it is whole."""
        parser = session.parser
        arriving = parser.bulk_bytes_with(count) if parser.is_in_bulk() else parser.pending_bytes() + count
        self._check_query(session, session.queued_bytes + arriving)
        return not session.is_closing

    def _check_query(self, session: Session, size: i64) -> None:
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
        waiting: i64 = session.waiting_bytes()
        size = int(session.unsent_bytes + (waiting if waiting > _FIXED_BUFFER else 0))
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
        if self.memory != 0:
            self.count(session)

    def _check_idle(self, session: Session, now_us: i64) -> None:
        if self.timeout_us == 0 or now_us - session.last_interaction_us <= self.timeout_us:
            return
        if session.mode & (PARKED | SUBSCRIBED | MONITORING | REPLICA) == 0 and not session.is_privileged:
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
        self._begin_second(now_us // _SECOND_US)
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
        size: i64 = session.query_bytes()
        if size != 0:
            self.check_query(session)
            if size > self._largest_input[self._slot]:
                self._largest_input[self._slot] = size
        size = session.output_bytes()
        if size > self._largest_output[self._slot]:
            self._largest_output[self._slot] = size

    def _begin_second(self, second: int) -> None:
        """What was seen in this second eight seconds ago, or longer, counts no more."""
        while self._second < second:
            self._second = max(self._second + 1, second - _REMEMBERED_S)
            self._slot = self._second % _REMEMBERED_S
            self._largest_input[self._slot] = 0
            self._largest_output[self._slot] = 0

    def largest_input(self) -> int:
        """Most bytes of unfinished requests that one client was seen with lately."""
        return max(self._largest_input)

    def largest_output(self) -> int:
        """Most bytes of unsent replies that one client was seen with lately."""
        return max(self._largest_output)

    def memory_of(self, session: Session) -> i64:
        """Bytes that a client takes (CLIENT LIST's tot-mem)."""
        entries = session.entries() * _ENTRY_BYTES
        return SESSION_BYTES + entries + session.query_bytes() + session.output_bytes()

    def memory_of_all(self) -> int:
        """Bytes of all clients (INFO's mem_clients_normal)."""
        total: i64 = 0
        for session in self.engine.sessions.values():
            total += self.memory_of(session)
        return int(total)

    def count(self, session: Session) -> None:
        """Note what a client takes now, while `maxmemory-clients` is set; that may be the end of some."""
        size: i64 = 0 if session.is_closing else self.memory_of(session)
        self.total += size - session.counted_bytes
        session.counted_bytes = size
        if self.total >= self._evict_at:
            self._evict()

    def forget(self, session: Session) -> None:
        """A client is gone."""
        self.total -= session.counted_bytes
        session.counted_bytes = 0

    def _count_all(self) -> None:
        self.total = 0
        for session in self.engine.sessions.values():
            session.counted_bytes = 0 if session.is_closing else self.memory_of(session)
            self.total += session.counted_bytes
        self._evict_at = self.memory

    def _evict(self) -> None:
        """Disconnect the biggest until all together are below their limit."""
        self._count_all()
        if self.total < self.memory:
            return
        sizes = [
            (int(session.counted_bytes), session.id)
            for session in self.engine.sessions.values()
            if not (
                session.is_closing or session.is_no_evict or session.is_privileged or session.mode & REPLICA
            )
        ]
        sizes.sort()
        while len(sizes) > 0 and self.total >= self.memory:
            session = self.engine.sessions[sizes.pop()[1]]
            self.forget(session)
            self.evicted_clients += 1
            self.close(session, "evicting a client")
        if self.total >= self.memory:  # the rest may not go: do not look for them with each request
            self._evict_at = self.total + self.memory // 16
