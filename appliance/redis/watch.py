"""WATCH: which sessions want to know that a key was touched.

A watched key that is changed, expires or goes with its database spoils the transaction of every session that
watches it: EXEC answers null. A key that had expired already when it was watched, but was still there, is as
good as missing: its removal changes nothing.

Source:     redis-server 8.2.
Invariants: a session's list of watched keys and the registry agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.redis.entry import NO_EXPIRY

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.keyspace import Database
    from appliance.redis.session import Session


class WatchedKey:
    """One key that one session watches."""

    def __init__(self, session: Session, database: int, key: bytes, was_expired: bool) -> None:
        self.session = session
        self.database = database
        self.key = key
        self.was_expired = was_expired


class WatchRegistry:
    """All watched keys of an engine."""

    def __init__(self, engine: Engine, databases: int) -> None:
        self.engine = engine
        self.sessions: dict[int, Session] = {}
        self._keys: list[dict[bytes, dict[int, WatchedKey]]] = [{} for _ in range(databases)]

    def watch(self, session: Session, key: bytes) -> None:
        """Watch a key of the database the session has selected; once is enough."""
        database: int = session.db.index
        watchers = self._keys[database].get(key)
        if watchers is None:
            watchers = {}
            self._keys[database][key] = watchers
            self.engine.interest += 1
        elif session.id in watchers:
            return
        watched = WatchedKey(session, database, key, _is_expired(session.db, key))
        watchers[session.id] = watched
        session.watched.append(watched)
        self.sessions[session.id] = session

    def unwatch(self, session: Session) -> None:
        """Forget all keys of a session."""
        for watched in session.watched:
            watchers = self._keys[watched.database][watched.key]
            del watchers[session.id]
            if len(watchers) == 0:
                del self._keys[watched.database][watched.key]
                self.engine.interest -= 1
        session.watched = []
        self.sessions.pop(session.id, None)

    def has_expired(self, session: Session) -> bool:
        """Whether a key expired while the session watched it, though nobody has removed it yet."""
        databases = self.engine.databases
        for watched in session.watched:
            if not watched.was_expired and _is_expired(databases[watched.database], watched.key):
                return True
        return False

    def key_changed(self, database: int, key: bytes) -> None:
        """Spoil the transactions of those who watch the key."""
        watchers = self._keys[database].get(key)
        if watchers is None:
            return
        for watched in watchers.values():
            if watched.was_expired:
                watched.was_expired = False
                if self.engine.databases[database].peek_raw(key) is None:
                    continue
            watched.session.spoil_transaction()

    def database_replaced(self, database: int, new: Database | None) -> None:
        """All keys of a database go, before they do; those of `new` (which may be None) take their place."""
        old = self.engine.databases[database]
        for key, watchers in self._keys[database].items():
            is_there = old.peek_raw(key) is not None
            comes = new is not None and new.peek_raw(key) is not None
            if not is_there and not comes:
                continue
            comes_expired = new is not None and comes and _is_expired(new, key)
            for watched in watchers.values():
                if watched.was_expired:
                    if not comes:
                        watched.was_expired = False
                        continue
                    if comes_expired:
                        continue
                elif not is_there and comes_expired:
                    watched.was_expired = True
                    continue
                watched.session.spoil_transaction()

    def keys_count(self) -> int:
        """Watched keys, each counted once per database."""
        return sum([len(keys) for keys in self._keys])


def _is_expired(database: Database, key: bytes) -> bool:
    entry = database.peek_raw(key)
    return entry is not None and entry.expire_at_ms != NO_EXPIRY and database.is_expired(entry)
