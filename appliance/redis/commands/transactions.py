"""MULTI and EXEC, and the commands that wait for nothing but time.

Source:     https://redis.io/docs/latest/develop/using-commands/transactions/; order of checks and texts from
            redis-server 8.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis.engine_modes import MONITORED
from appliance.redis.errors import CommandError
from appliance.redis.registry import ADMIN, SKIP_MONITOR
from appliance.redis.replies import NO_REPLY, NULL_ARRAY, OK
from appliance.redis.scripting.scripts import PAUSABLE_COMMANDS
from appliance.redis.session import ABORTED, IN_MULTI, NO_BLOCKING, SPOILED

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session


def multi(session: Session, args: list[bytes]) -> object:
    if session.mode & IN_MULTI:
        raise CommandError(b"ERR MULTI calls can not be nested")
    session.mode |= IN_MULTI
    return OK


def discard(session: Session, args: list[bytes]) -> object:
    if session.mode & IN_MULTI == 0:
        raise CommandError(b"ERR DISCARD without MULTI")
    session.discard_transaction()
    return OK


def exec_(session: Session, args: list[bytes]) -> object:
    if session.mode & IN_MULTI == 0:
        raise CommandError(b"ERR EXEC without MULTI")
    if len(session.watched) > 0 and session.engine.watches.has_expired(session):
        session.mode |= SPOILED
    mode = session.mode
    if mode & (ABORTED | SPOILED):
        session.discard_transaction()
        if mode & ABORTED:
            raise CommandError(b"EXECABORT Transaction discarded because of previous errors.")
        return NULL_ARRAY
    if len(session.watched) > 0:
        # First of all: otherwise our own commands would look whether we watch what they touch.
        session.engine.watches.unwatch(session)
    for command, _ in session.queued:
        if command.full_name in PAUSABLE_COMMANDS:
            return session.engine.scripts.pausable(_run_withheld, session, args)
    return _run_queued(session, args)


def _run_withheld(session: Session, args: list[bytes]) -> object:
    """However long it takes, its reply comes as a whole."""
    session.withhold()
    try:
        return _run_queued(session, args)
    finally:
        session.let_out()


def _run_queued(session: Session, args: list[bytes]) -> object:
    queued = session.queued
    own = session.last_command
    engine = session.engine
    monitored = engine.mode & MONITORED != 0
    session.mode |= NO_BLOCKING
    assert own is not None
    engine.enclosing.append(own)
    session.emit_array_header(len(queued))
    for command, request in queued:
        if monitored and command.flags & SKIP_MONITOR:
            engine.monitors.feed(session, request)
        session.emit(session.call(command, request))
        if engine.process_end is not None:
            break  # DEBUG RESTART: nothing comes after it
        if monitored and command.flags & (SKIP_MONITOR | ADMIN) == 0:
            engine.monitors.feed(session, request)
    engine.enclosing.pop()
    session.mode &= ~NO_BLOCKING
    session.last_command = own
    session.discard_transaction()
    return NO_REPLY


def watch(session: Session, args: list[bytes]) -> object:
    if session.mode & IN_MULTI:
        raise CommandError(b"ERR WATCH inside MULTI is not allowed")
    if session.mode & SPOILED == 0:  # else EXEC fails anyway
        for key in args[1:]:
            session.engine.watches.watch(session, key)
    return OK


def unwatch(session: Session, args: list[bytes]) -> object:
    if len(session.watched) > 0:
        session.engine.watches.unwatch(session)
    session.mode &= ~SPOILED
    return OK


HANDLERS: Final[dict[str, Handler]] = {
    "discard": discard,
    "exec": exec_,
    "multi": multi,
    "unwatch": unwatch,
    "watch": watch,
}
