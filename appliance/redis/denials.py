"""What was denied, for ACL LOG: here only wrong names and passwords can be.

Denials that differ in nothing but the moment and the client, within a minute of each other, are one entry
with a count; the latest comes first.

Source:     https://redis.io/docs/latest/commands/acl-log/; grouping and fields from redis-server 8.2.
Units:      milliseconds of Unix time.
"""

from __future__ import annotations

from typing import Final

_GROUPED_FOR_MS: Final = 60_000


class Denial:
    """One entry."""

    def __init__(self, number: int, context: bytes, command: bytes, user: bytes, now_ms: int) -> None:
        self.number = number
        self.context = context
        self.command = command
        self.user = user
        self.created_ms = now_ms
        self.updated_ms = now_ms
        self.count = 0
        self.client: bytes = b""


class Denials:
    """The latest entries, up to `limit` (acllog-max-len)."""

    def __init__(self) -> None:
        self.entries: list[Denial] = []
        self._next_number = 0

    def add(
        self, context: bytes, command: bytes, user: bytes, client: bytes, now_ms: int, limit: int
    ) -> None:
        """A name or a password was wrong.

        Args:
            context: `toplevel`, `multi` or `script`.
            command: as the client wrote it.
            user: whom it claimed to be.
            client: its line of CLIENT LIST.
            now_ms: wall clock.
            limit: entries kept.
        """
        found: Denial | None = None
        for entry in self.entries:
            is_same = (entry.context, entry.command, entry.user) == (context, command, user)
            if is_same and now_ms - entry.updated_ms <= _GROUPED_FOR_MS:
                found = entry
                break
        if found is None:
            found = Denial(self._next_number, context, command, user, now_ms)
            self._next_number += 1
        else:
            self.entries.remove(found)
        found.count += 1
        found.updated_ms = now_ms
        found.client = client
        self.entries.insert(0, found)
        del self.entries[limit:]
