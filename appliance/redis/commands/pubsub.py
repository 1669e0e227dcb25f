"""Commands to publish and to subscribe.

Source:     https://redis.io/docs/latest/commands/?group=pubsub; order and form of the confirmations from
            redis-server 8.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.pubsub import Subscriptions, add_listener, remove_listener
from appliance.redis.replies import NO_REPLY, Push

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session


def publish(session: Session, args: list[bytes]) -> object:
    return session.engine.pubsub.publish(args[1], args[2])


def spublish(session: Session, args: list[bytes]) -> object:
    return session.engine.pubsub.publish_to_shard(args[1], args[2])


# Subscribing --------------------------------------------------------------------------------------


def _subscriptions(session: Session) -> Subscriptions:
    subscriptions = session.subscriptions
    if subscriptions is None:
        subscriptions = Subscriptions()
        session.set_subscriptions(subscriptions)
    return subscriptions


def _subscribe(
    session: Session,
    args: list[bytes],
    mine: dict[bytes, None],
    listening: dict[bytes, dict[int, Session]],
) -> object:
    """Listen to some channels or patterns; each is confirmed, also one that was listened to already."""
    word = args[0].lower()
    is_shard = word == b"ssubscribe"
    for name in args[1:]:
        if name not in mine:
            mine[name] = None
            add_listener(listening, name, session)
        session.emit_push(Push([word, name, _listening_to(session.subscriptions, is_shard)]))
    return NO_REPLY


def subscribe(session: Session, args: list[bytes]) -> object:
    return _subscribe(session, args, _subscriptions(session).channels, session.engine.pubsub.channels)


def psubscribe(session: Session, args: list[bytes]) -> object:
    return _subscribe(session, args, _subscriptions(session).patterns, session.engine.pubsub.patterns)


def ssubscribe(session: Session, args: list[bytes]) -> object:
    return _subscribe(
        session, args, _subscriptions(session).shard_channels, session.engine.pubsub.shard_channels
    )


def _unsubscribe(
    session: Session,
    args: list[bytes],
    word: bytes,
    mine: dict[bytes, None],
    listening: dict[bytes, dict[int, Session]],
) -> object:
    """Leave some channels, or all; each is confirmed, and so is having had none."""
    subscriptions = session.subscriptions
    is_shard = word == b"sunsubscribe"
    names = args[1:] if len(args) > 1 else list(mine)
    for name in names:
        if name in mine:
            del mine[name]
            remove_listener(listening, name, session)
        session.emit_push(Push([word, name, _listening_to(subscriptions, is_shard)]))
    if len(names) == 0:
        session.emit_push(Push([word, None, _listening_to(subscriptions, is_shard)]))
    if subscriptions is not None and subscriptions.is_empty():
        session.set_subscriptions(None)
    return NO_REPLY


def _listening_to(subscriptions: Subscriptions | None, is_shard: bool) -> int:
    """The count that a confirmation tells."""
    if subscriptions is None:
        return 0
    return len(subscriptions.shard_channels) if is_shard else subscriptions.count()


def unsubscribe(session: Session, args: list[bytes]) -> object:
    subscriptions = session.subscriptions
    mine = {} if subscriptions is None else subscriptions.channels
    return _unsubscribe(session, args, b"unsubscribe", mine, session.engine.pubsub.channels)


def punsubscribe(session: Session, args: list[bytes]) -> object:
    subscriptions = session.subscriptions
    mine = {} if subscriptions is None else subscriptions.patterns
    return _unsubscribe(session, args, b"punsubscribe", mine, session.engine.pubsub.patterns)


def sunsubscribe(session: Session, args: list[bytes]) -> object:
    subscriptions = session.subscriptions
    mine = {} if subscriptions is None else subscriptions.shard_channels
    return _unsubscribe(session, args, b"sunsubscribe", mine, session.engine.pubsub.shard_channels)


# PUBSUB -------------------------------------------------------------------------------------------


def _channels(args: list[bytes], listening: dict[bytes, dict[int, Session]]) -> object:
    if len(args) > 3:
        raise CommandError(errors.unknown_subcommand_or_arity(b"pubsub", args[1]))
    found: list[object] = [channel for channel in listening if len(args) == 2 or glob_match(args[2], channel)]
    return found


def pubsub_channels(session: Session, args: list[bytes]) -> object:
    return _channels(args, session.engine.pubsub.channels)


def pubsub_shardchannels(session: Session, args: list[bytes]) -> object:
    return _channels(args, session.engine.pubsub.shard_channels)


def _listeners(args: list[bytes], listening: dict[bytes, dict[int, Session]]) -> object:
    flat: list[object] = []
    for channel in args[2:]:
        sessions = listening.get(channel)
        flat += [channel, 0 if sessions is None else len(sessions)]
    return flat


def pubsub_numsub(session: Session, args: list[bytes]) -> object:
    return _listeners(args, session.engine.pubsub.channels)


def pubsub_shardnumsub(session: Session, args: list[bytes]) -> object:
    return _listeners(args, session.engine.pubsub.shard_channels)


def pubsub_numpat(session: Session, args: list[bytes]) -> object:
    return len(session.engine.pubsub.patterns)


HANDLERS: Final[dict[str, Handler]] = {
    "psubscribe": psubscribe,
    "publish": publish,
    "punsubscribe": punsubscribe,
    "spublish": spublish,
    "ssubscribe": ssubscribe,
    "subscribe": subscribe,
    "sunsubscribe": sunsubscribe,
    "unsubscribe": unsubscribe,
    "pubsub|channels": pubsub_channels,
    "pubsub|numpat": pubsub_numpat,
    "pubsub|numsub": pubsub_numsub,
    "pubsub|shardchannels": pubsub_shardchannels,
    "pubsub|shardnumsub": pubsub_shardnumsub,
}
