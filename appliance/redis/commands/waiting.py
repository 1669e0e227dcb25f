"""WAIT and WAITAOF: this engine has neither replicas nor a log, so there is nothing that could be waited for.

A client that wants more than nothing waits until its time is up, as it would with redis-server.

Source:     https://redis.io/docs/latest/commands/wait/ and waitaof; order of checks and texts from
            redis-server 8.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis.arguments import integer_argument, timeout_ms_argument
from appliance.redis.errors import CommandError

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session


def wait(session: Session, args: list[bytes]) -> object:
    replicas = integer_argument(args[1])
    timeout_us = timeout_ms_argument(args[2], session.clock.now_ms)
    if replicas <= 0:
        return 0
    return session.block([], timeout_us, 0, b"")


def waitaof(session: Session, args: list[bytes]) -> object:
    local = integer_argument(args[1])
    if not 0 <= local <= 1:
        raise CommandError(b"ERR value is out of range, value must between 0 and 1")
    replicas = integer_argument(args[2])
    if replicas < 0:
        raise CommandError(b"ERR value is out of range, must be positive")
    timeout_us = timeout_ms_argument(args[3], session.clock.now_ms)
    if local:
        raise CommandError(b"ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
    reply: list[object] = [0, 0]
    if replicas == 0:
        return reply
    return session.block([], timeout_us, reply, b"")


HANDLERS: Final[dict[str, Handler]] = {
    "wait": wait,
    "waitaof": waitaof,
}
