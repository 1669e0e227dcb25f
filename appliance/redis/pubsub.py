"""Publish and subscribe: who listens to which channel, and what they are sent.

A message is encoded once for each protocol, however many receive it. It goes out when the command that
caused it is over, behind that command's own reply.

Source:     redis-server 8.2: counts, order of channel and pattern messages, shard channels apart.
Invariants: a session's `Subscriptions` and the registry agree; channels without listeners are not kept.
Not here:   limits on what a slow listener may leave unread: the shell holds the bytes, and knows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.redis.glob import glob_match
from appliance.redis.replies import Push, encode_reply

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.session import Session


class Subscriptions:
    """What one session listens to, each in the order of subscription."""

    def __init__(self) -> None:
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}

    def count(self) -> int:
        """Channels and patterns; shard channels are counted apart."""
        return len(self.channels) + len(self.patterns)

    def is_empty(self) -> bool:
        return len(self.channels) == 0 and len(self.patterns) == 0 and len(self.shard_channels) == 0


class _Message:
    """One message on its way, in the forms that somebody needs."""

    def __init__(self, items: list[object]) -> None:
        self._push = Push(items)
        self._resp2: bytes = b""
        self._resp3: bytes = b""

    def wire(self, resp3: bool) -> bytes:
        if resp3:
            if len(self._resp3) == 0:
                self._resp3 = encode_reply(self._push, True)
            return self._resp3
        if len(self._resp2) == 0:
            self._resp2 = encode_reply(self._push, False)
        return self._resp2


class PubSub:
    """All subscriptions of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.channels: dict[bytes, dict[int, Session]] = {}
        self.patterns: dict[bytes, dict[int, Session]] = {}
        self.shard_channels: dict[bytes, dict[int, Session]] = {}
        self.listeners: dict[int, Session] = {}

    def publish(self, channel: bytes, text: bytes) -> int:
        """Send a message to all who listen; how many times it is sent."""
        receivers = 0
        listening = self.channels.get(channel)
        if listening is not None:
            self._send(listening, [b"message", channel, text])
            receivers = len(listening)
        if len(self.patterns) > 0:
            for pattern, sessions in self.patterns.items():
                if glob_match(pattern, channel):
                    self._send(sessions, [b"pmessage", pattern, channel, text])
                    receivers += len(sessions)
        return receivers

    def publish_to_shard(self, channel: bytes, text: bytes) -> int:
        """The same for shard channels, which no pattern matches."""
        listening = self.shard_channels.get(channel)
        if listening is None:
            return 0
        self._send(listening, [b"smessage", channel, text])
        return len(listening)

    def _send(self, sessions: dict[int, Session], items: list[object]) -> None:
        message = _Message(items)
        engine = self.engine
        for session in sessions.values():
            engine.push(session, message.wire(session.resp3))


def add_listener(listening: dict[bytes, dict[int, Session]], name: bytes, session: Session) -> None:
    """Enter a session under a channel or a pattern."""
    sessions = listening.get(name)
    if sessions is None:
        listening[name] = {session.id: session}
    else:
        sessions[session.id] = session


def remove_listener(listening: dict[bytes, dict[int, Session]], name: bytes, session: Session) -> None:
    """Undo `add_listener`."""
    sessions = listening[name]
    del sessions[session.id]
    if len(sessions) == 0:
        del listening[name]
