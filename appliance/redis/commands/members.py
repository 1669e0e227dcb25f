"""Elements that leave a collection: what hashes, sets and sorted sets tell of it.

The key of a collection that became empty goes, and with it goes an event of its own, behind that of the
command.

Source:     HDEL, SREM and ZREM of redis-server 8.2.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from appliance.redis.notifications import NOTIFY_GENERIC

if TYPE_CHECKING:
    from appliance.redis.session import Session
    from appliance.redis.types.collection import Collection, MemberCollection


def remove_members(
    session: Session, args: list[bytes], value: MemberCollection | None, event_class: i64, event: bytes
) -> object:
    """Remove the members that a request names from its third word on; the reply: how many there were.

    Args:
        value: what is at the request's key; None when nothing is.
    """
    if value is None:
        return 0
    removed: i64 = 0
    at: i64 = 2
    count: i64 = len(args)
    while at < count and len(value) > 0:
        if value.remove(args[at]):
            removed += 1
        at += 1
    if removed > 0:
        elements_removed(session, args[1], value, removed, event_class, event)
    result: int = removed
    return result


def elements_removed(
    session: Session, key: bytes, value: Collection, count: i64, event_class: i64, event: bytes
) -> None:
    """Tell that a command has removed `count` elements; the key of an empty value goes."""
    is_empty = len(value) == 0
    if is_empty:
        session.db.delete(key)
    session.changed(key, count)
    session.notify(event_class, event, key)
    if is_empty:
        session.notify(NOTIFY_GENERIC, b"del", key)


def delete_empty(session: Session, key: bytes) -> None:
    """A collection that became empty does not stay."""
    session.db.delete(key)
    session.notify(NOTIFY_GENERIC, b"del", key)
