"""Client-side caching: which clients hold which keys, and telling them when a key changes.

A client that switches tracking on is told of changes in one of two ways:

- by default, of the keys it has read, once each: `_keys` remembers the readers of every key, whatever its
  database, and forgets a key when it tells of it. With OPTIN only what is read behind CLIENT CACHING YES is
  remembered, with OPTOUT all but what is read behind CLIENT CACHING NO;
- with BCAST, of every key that begins with one of its prefixes, read or not. These keys are gathered, and
  told of in one message per prefix when the turn of the event loop is over.

Messages go to the client itself (RESP3), or to another one that it names: as a push, or in RESP2 as messages
of the channel `__redis__:invalidate` if that one has subscribed to anything. What a client is told of its own
changes comes behind the reply of the command that made them, behind the whole EXEC or script.

Source:     https://redis.io/docs/latest/develop/reference/client-side-caching/; forms and order of messages
            from redis-server 8.2, keys of a broadcast in the order of their bytes included.
Invariants: `Engine.mode` has TRACKING while, and only while, `clients` is not empty, and `Engine.interest`
            counts one while there are clients or keys; `_items` is the number of readers of all keys. Readers
            that are gone, or have switched tracking off, stay with their keys until these are told of.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.engine_modes import SCRIPT_BUSY, TRACKING
from appliance.redis.errors import CommandError
from appliance.redis.registry import PUBSUB, READONLY
from appliance.redis.replies import NULL_RESP2, NULL_RESP3, Push, encode_reply

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.registry import Command
    from appliance.redis.session import Session

CHANNEL: Final = b"__redis__:invalidate"

# Keys let go at once when there are too many of them, the first time; more each time that it was not enough.
_EVICTED_AT_ONCE: Final = 100

_READ_BY_WHAT_THEY_CALL: Final = frozenset([b"eval_ro", b"evalsha_ro", b"fcall_ro"])


class Tracked:
    """How one session's reads are tracked."""

    def __init__(self) -> None:
        self.redirect: i64 = 0  # the id of the session that is told; 0: this one
        self.is_broadcast = False
        self.opts_in = False
        self.opts_out = False
        self.no_loop = False
        self.is_broken = False  # the session that was to be told is gone
        self.caching = False  # CLIENT CACHING was the last command
        self.prefixes: dict[bytes, None] = {}


class _Prefix:
    """Those who want to hear of a prefix, and what they will hear."""

    def __init__(self) -> None:
        self.sessions: dict[int, Session] = {}
        # Each key with the id of the session that changed it first; 0 if it was none.
        self.keys: dict[bytes, int] = {}


class Tracking:
    """All that an engine remembers for client-side caches."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.clients: dict[int, Session] = {}
        self.current: Session | None = None  # whose command is being executed
        self.is_interested = False  # in changes of keys
        self.max_keys: i64 = 0
        self._keys: dict[bytes, dict[int, None]] = {}
        self._items: i64 = 0
        self._prefixes: dict[bytes, _Prefix] = {}
        # Told of when the command is over, with who made the change; None: everything.
        self._own: list[tuple[Session, bytes | None]] = []
        self.has_broadcasts = False  # to be sent when the turn of the loop is over
        self._rounds_over: i64 = 0

    # Switching ------------------------------------------------------------------------------------

    def enable(self, session: Session, wanted: Tracked) -> None:
        """Track a session; prefixes it had already stay."""
        before = session.tracked
        if before is None:
            self.clients[session.id] = session
        else:
            wanted.caching = before.caching
            added = wanted.prefixes
            wanted.prefixes = before.prefixes
            wanted.prefixes.update(added)
        session.set_tracked(wanted)
        self.current = session
        self._follow()
        for prefix in wanted.prefixes:
            listening = self._prefixes.get(prefix)
            if listening is None:
                listening = _Prefix()
                self._prefixes[prefix] = listening
            listening.sessions[session.id] = session

    def disable(self, session: Session) -> None:
        """Track a session no more; what it has read is forgotten as it changes."""
        tracked = session.tracked
        if tracked is None:
            return
        for prefix in tracked.prefixes:
            listening = self._prefixes[prefix]
            listening.sessions.pop(session.id, None)
            if len(listening.sessions) == 0:
                del self._prefixes[prefix]
        session.set_tracked(None)
        del self.clients[session.id]
        if self.current is session:
            self.current = None
        self._follow()

    def _follow(self) -> None:
        """Have the engine call when, and only when, there is somebody to tell."""
        self.engine.set_mode(TRACKING, len(self.clients) > 0)
        is_interested = len(self.clients) > 0 or len(self._keys) > 0
        if is_interested != self.is_interested:
            self.is_interested = is_interested
            self.engine.interest += 1 if is_interested else -1

    # Reading --------------------------------------------------------------------------------------

    def begin(self, session: Session) -> None:
        """A session's command is about to be executed."""
        self.current = session
        if self.max_keys > 0 and len(self._keys) > self.max_keys:
            self._limit()
            self.engine.settle(session)
        else:
            self._rounds_over = 0

    def executed(self, command: Command, args: list[bytes]) -> None:
        """A command has been executed, by `current` or in its name: remember the keys that were read."""
        session = self.current
        if session is None or command.flags & READONLY == 0:
            return
        tracked = session.tracked
        if tracked is None or tracked.is_broadcast:
            return
        if (tracked.opts_in and not tracked.caching) or (tracked.opts_out and tracked.caching):
            return
        if command.flags & PUBSUB or command.full_name in _READ_BY_WHAT_THEY_CALL:
            return
        if not command.facts.has_keys and command.get_keys is None:
            return
        try:
            keys = command.keys_of(args)
        except CommandError:
            return
        for key, _ in keys:
            readers = self._keys.get(key)
            if readers is None:
                readers = {}
                # A copy where the key is a view of a larger request.
                self._keys[bytes(key)] = readers
            if session.id not in readers:
                readers[session.id] = None
                self._items += 1

    # Telling --------------------------------------------------------------------------------------

    def key_changed(self, key: bytes) -> None:
        """The value of a key has changed, or is gone: tell whoever may have kept it."""
        if len(self._prefixes) > 0:
            changer = 0 if self.current is None else self.current.id
            for prefix, listening in self._prefixes.items():
                if key.startswith(prefix):
                    listening.keys.setdefault(key, changer)
                    self.has_broadcasts = True
        if key in self._keys:
            self._tell_readers(key)

    def _tell_readers(self, key: bytes) -> None:
        readers = self._keys.pop(key)
        self._items -= len(readers)
        if len(self._keys) == 0:
            self._follow()
        current = self.current
        for reader in readers:
            session = self.clients.get(reader)
            if session is None:
                continue
            tracked = session.tracked
            if tracked is None or tracked.is_broadcast:
                continue
            if session is not current:
                self._send(session, tracked, _keys_reply([key]))
            elif not tracked.no_loop:
                self._own.append((session, key))
                self.engine.attend()

    def flushed(self) -> None:
        """Databases have been emptied: nothing that anybody has kept is true any more."""
        for session in self.clients.values():
            tracked = session.tracked
            if tracked is None:
                continue
            if session is self.current:
                self._own.append((session, None))
                self.engine.attend()
            else:
                self._send(session, tracked, _null(session))
        self._keys = {}
        self._items = 0
        self._follow()

    def tell_current(self) -> None:
        """The command is over, though not if it is a script that was interrupted: tell of its own changes."""
        own = self._own
        if len(own) == 0 or self.engine.mode & SCRIPT_BUSY:
            return
        self._own = []
        for session, key in own:
            if session.tracked is not None:
                what = _null(session) if key is None else _keys_reply([key])
                self._send(session, session.tracked, what)

    def script_goes_on(self, session: Session) -> None:
        """A script that had been interrupted is executed again: what it does is its client's."""
        self.current = session
        if len(self._own) > 0:
            self.engine.attend()

    def broadcast(self) -> None:
        """Send what has been gathered for the prefixes, when no command is being executed."""
        self.has_broadcasts = False
        for prefix in sorted(self._prefixes):
            listening = self._prefixes[prefix]
            if len(listening.keys) == 0:
                continue
            changed = listening.keys
            listening.keys = {}
            keys = sorted(changed)
            everything = _keys_reply(keys)
            for session in listening.sessions.values():
                tracked = session.tracked
                if tracked is None:
                    continue
                if not tracked.no_loop:
                    self._send(session, tracked, everything)
                    continue
                others = [key for key in keys if changed[key] != session.id]
                if len(others) > 0:
                    self._send(session, tracked, _keys_reply(others))

    def _send(self, session: Session, tracked: Tracked, what: bytes) -> None:
        """Send one message to a session, or to the one it has named."""
        target = session
        if tracked.redirect != 0:
            named = self.engine.sessions.get(tracked.redirect)
            if named is None or named.is_closing:
                tracked.is_broken = True
                if session.resp3:
                    push = Push([b"tracking-redir-broken", tracked.redirect])
                    self.engine.push(session, encode_reply(push, True))
                return
            target = named
        if target.resp3:
            self.engine.push(target, b">2\r\n$10\r\ninvalidate\r\n" + what)
        elif tracked.redirect != 0 and target.subscriptions is not None:  # it may have named itself
            head = b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n" % (len(CHANNEL), CHANNEL)
            self.engine.push(target, head + what)

    # Limits and looking ---------------------------------------------------------------------------

    def _limit(self) -> None:
        """There are more keys than tracking-table-max-keys allows: let some go, as if they had changed."""
        current = self.current
        # It has not begun yet: what it is told now comes before its reply.
        self.current = None
        left = _EVICTED_AT_ONCE * (self._rounds_over + 1)
        for key in list(self._sampled(left)):
            self._tell_readers(key)
            if len(self._keys) <= self.max_keys:
                self._rounds_over = 0
                break
        else:
            self._rounds_over += 1
        self.current = current

    def _sampled(self, count: i64) -> list[bytes]:
        """Some of the keys: those remembered for the longest time."""
        found: list[bytes] = []
        for key in self._keys:
            if len(found) >= count:
                break
            found.append(key)
        return found

    @property
    def total_keys(self) -> int:
        return len(self._keys)

    @property
    def total_items(self) -> int:
        return self._items

    @property
    def total_prefixes(self) -> int:
        return len(self._prefixes)

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables disagree. O(n): tests only."""
        assert self._items == sum([len(readers) for readers in self._keys.values()])
        assert self.is_interested == (len(self.clients) > 0 or len(self._keys) > 0)
        assert (len(self.clients) > 0) == (self.engine.mode & TRACKING != 0)
        for session_id, session in self.clients.items():
            assert session.id == session_id
            assert session.tracked is not None
            for prefix in session.tracked.prefixes:
                assert self._prefixes[prefix].sessions[session_id] is session
        for prefix, listening in self._prefixes.items():
            assert len(listening.sessions) > 0
            for session in listening.sessions.values():
                assert session.tracked is not None
                assert prefix in session.tracked.prefixes


def _keys_reply(keys: list[bytes]) -> bytes:
    items: list[object] = list(keys)
    return encode_reply(items)


def _null(session: Session) -> bytes:
    # In the form of the session that is tracked, whoever is told.
    return NULL_RESP3 if session.resp3 else NULL_RESP2
