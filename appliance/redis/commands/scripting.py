"""EVAL and its kin, and SCRIPT.

Source:     https://redis.io/docs/latest/develop/programmability/eval-intro/; order of checks and texts from
            redis-server 8.2. What runs the scripts is appliance/redis/scripting.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.replies import OK
from appliance.redis.session import DEBUG_FORKED, DEBUG_HERE, NO_DEBUG

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_SHA_LENGTH: Final = 40
_DEBUG_MODES: Final = {b"no": NO_DEBUG, b"sync": DEBUG_HERE, b"yes": DEBUG_FORKED}


def check_key_count(args: list[bytes]) -> None:
    """Whether args[2] can be the number of keys of a script.

    Raises:
        CommandError: it cannot.
    """
    text = args[2]
    if text == b"0":
        return
    count = integer_argument(text)
    if count > len(args) - 3:
        raise CommandError(b"ERR Number of keys can't be greater than number of args")
    if count < 0:
        raise CommandError(b"ERR Number of keys can't be negative")


def _eval(session: Session, args: list[bytes]) -> object:
    check_key_count(args)
    return session.engine.scripts.evaluate(session, args, False, False)


def _evalsha(session: Session, args: list[bytes]) -> object:
    check_key_count(args)
    return session.engine.scripts.evaluate(session, args, True, False)


def _eval_ro(session: Session, args: list[bytes]) -> object:
    check_key_count(args)
    return session.engine.scripts.evaluate(session, args, False, True)


def _evalsha_ro(session: Session, args: list[bytes]) -> object:
    check_key_count(args)
    return session.engine.scripts.evaluate(session, args, True, True)


def _run(function: Handler, session: Session, args: list[bytes]) -> object:
    """Call one of the above so that it can be interrupted."""
    scripts = session.engine.scripts
    if session.debug_mode != NO_DEBUG:
        return scripts.debug(function, session, args)
    return scripts.pausable(function, session, args)


def _run_cached(function: Handler, session: Session, args: list[bytes]) -> object:
    """The same for a script that the client did not send, and the debugger does not show."""
    if session.debug_mode != NO_DEBUG:
        if len(args[1]) != _SHA_LENGTH:
            raise CommandError(errors.NO_SCRIPT)
        raise CommandError(b"ERR Please use EVAL instead of EVALSHA for debugging")
    return session.engine.scripts.pausable(function, session, args)


def eval_(session: Session, args: list[bytes]) -> object:
    return _run(_eval, session, args)


def evalsha(session: Session, args: list[bytes]) -> object:
    return _run_cached(_evalsha, session, args)


def eval_ro(session: Session, args: list[bytes]) -> object:
    return _run(_eval_ro, session, args)


def evalsha_ro(session: Session, args: list[bytes]) -> object:
    return _run_cached(_evalsha_ro, session, args)


def load(session: Session, args: list[bytes]) -> object:
    sha = hashlib.sha1(args[2], usedforsecurity=False).hexdigest().encode()
    session.engine.scripts.load(args[2], sha, True)
    return sha


def exists(session: Session, args: list[bytes]) -> object:
    cached = session.engine.scripts.cached
    return [1 if sha in cached or sha.lower() in cached else 0 for sha in args[2:]]


def show(session: Session, args: list[bytes]) -> object:
    """Valkey's: the text of a script in the cache."""
    script = session.engine.scripts.cached.get(args[2].lower())
    if script is None:
        raise CommandError(b"NOSCRIPT No matching script.")
    return script.body


def flush(session: Session, args: list[bytes]) -> object:
    if len(args) > 3 or (len(args) == 3 and args[2].lower() not in (b"sync", b"async")):
        raise CommandError(b"ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    session.engine.scripts.flush()
    return OK


def kill(session: Session, args: list[bytes]) -> object:
    session.engine.scripts.kill(False)
    return OK


def debug(session: Session, args: list[bytes]) -> object:
    if session.output_bytes() > 0 or session.denies_blocking:
        raise CommandError(b"ERR SCRIPT DEBUG must be called outside a pipeline")
    mode = _DEBUG_MODES.get(args[2].lower())
    if mode is None:
        raise CommandError(b"ERR Use SCRIPT DEBUG YES/SYNC/NO")
    session.debug_mode = mode
    return OK


HANDLERS: Final[dict[str, Handler]] = {
    "eval": eval_,
    "eval_ro": eval_ro,
    "evalsha": evalsha,
    "evalsha_ro": evalsha_ro,
    "script|debug": debug,
    "script|exists": exists,
    "script|flush": flush,
    "script|kill": kill,
    "script|load": load,
}
