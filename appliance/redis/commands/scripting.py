"""EVAL and its kin, and SCRIPT.

Source:     https://redis.io/docs/latest/develop/programmability/eval-intro/; order of checks and texts from
            redis-server 8.2. What runs the scripts is appliance/redis/scripting.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.integers import parse_integer
from appliance.redis.replies import OK

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session


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


def _may_run(session: Session, args: list[bytes]) -> None:
    """Check the number of keys, and that the client does not want to run the script line by line.

    Who asked for that (`redis-cli --ldb`) believes that what the script writes will be taken back. There is
    no debugger here, so the script must not run.
    """
    check_key_count(args)
    if session.wants_debugger:
        raise CommandError(b"ERR there is no debugger here. Use SCRIPT DEBUG NO to run scripts.")


def _eval(session: Session, args: list[bytes]) -> object:
    return session.engine.scripts.evaluate(session, args, False, False)


def _evalsha(session: Session, args: list[bytes]) -> object:
    return session.engine.scripts.evaluate(session, args, True, False)


def _eval_ro(session: Session, args: list[bytes]) -> object:
    return session.engine.scripts.evaluate(session, args, False, True)


def _evalsha_ro(session: Session, args: list[bytes]) -> object:
    return session.engine.scripts.evaluate(session, args, True, True)


def eval_(session: Session, args: list[bytes]) -> object:
    _may_run(session, args)
    return session.engine.scripts.pausable(_eval, session, args)


def evalsha(session: Session, args: list[bytes]) -> object:
    _may_run(session, args)
    return session.engine.scripts.pausable(_evalsha, session, args)


def eval_ro(session: Session, args: list[bytes]) -> object:
    _may_run(session, args)
    return session.engine.scripts.pausable(_eval_ro, session, args)


def evalsha_ro(session: Session, args: list[bytes]) -> object:
    _may_run(session, args)
    return session.engine.scripts.pausable(_evalsha_ro, session, args)


def keys_of_script(args: list[bytes]) -> list[tuple[bytes, list[str]]]:
    """The keys of EVAL and FCALL, which say how many they are."""
    count = parse_integer(args[2]) if len(args) > 2 else None
    if count is None or count < 0 or count > len(args) - 3:
        raise CommandError(b"ERR Invalid arguments specified for command")
    return [(key, ["RW", "access", "update"]) for key in args[3 : 3 + count]]


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
    if args[2].lower() not in (b"yes", b"sync", b"no"):
        raise CommandError(b"ERR Use SCRIPT DEBUG YES/SYNC/NO")
    session.wants_debugger = args[2].lower() != b"no"
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
