"""FUNCTION and FCALL.

Source:     https://redis.io/docs/latest/develop/programmability/functions-intro/; order of checks and texts
            from redis-server 8.2. The libraries are kept by appliance/redis/scripting/libraries.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import dump as dumps, errors
from appliance.redis.arguments import c_string
from appliance.redis.errors import CommandError
from appliance.redis.glob import glob_match
from appliance.redis.integers import parse_integer
from appliance.redis.replies import OK, Map, SetReply, SimpleString

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.scripting.libraries import Library
    from appliance.redis.session import Session


def _fcall(session: Session, args: list[bytes]) -> object:
    return _call_function(session, args, False)


def _fcall_ro(session: Session, args: list[bytes]) -> object:
    return _call_function(session, args, True)


def _call_function(session: Session, args: list[bytes], is_read_only: bool) -> object:
    scripts = session.engine.scripts
    name = args[1]
    functions = scripts.libraries.functions
    function = functions.get(name)
    if function is None:
        function = functions.get(name.lower())
        if function is None:
            raise CommandError(b"ERR Function not found")
    count = parse_integer(args[2])
    if count is None:
        raise CommandError(b"ERR Bad number of keys provided")
    if count > len(args) - 3:
        raise CommandError(b"ERR Number of keys can't be greater than number of args")
    if count < 0:
        raise CommandError(b"ERR Number of keys can't be negative")
    context = scripts.prepare(session, function.name, function.flags, is_read_only)
    return scripts.run(session, context, True, function.callback, count, args)


def fcall(session: Session, args: list[bytes]) -> object:
    return session.engine.scripts.pausable(_fcall, session, args)


def fcall_ro(session: Session, args: list[bytes]) -> object:
    return session.engine.scripts.pausable(_fcall_ro, session, args)


def _load(session: Session, args: list[bytes]) -> object:
    is_replacing = False
    for option in args[2:-1]:
        if option.lower() != b"replace":
            raise CommandError(b"ERR Unknown option given: " + c_string(option))
        is_replacing = True
    return session.engine.scripts.libraries.load(args[-1], is_replacing)


def load(session: Session, args: list[bytes]) -> object:
    return session.engine.scripts.pausable(_load, session, args)


def delete(session: Session, args: list[bytes]) -> object:
    session.engine.scripts.libraries.delete(args[2])
    return OK


def flush(session: Session, args: list[bytes]) -> object:
    if len(args) > 3:
        raise CommandError(errors.unknown_subcommand_or_arity(b"function", args[1]))
    if len(args) == 3 and args[2].lower() not in (b"sync", b"async"):
        raise CommandError(b"ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
    session.engine.scripts.libraries.flush()
    return OK


def kill(session: Session, args: list[bytes]) -> object:
    session.engine.scripts.kill(True)
    return OK


def stats(session: Session, args: list[bytes]) -> object:
    scripts = session.engine.scripts
    running = scripts.running
    libraries = scripts.libraries
    current: object = None
    if running is not None:
        if not running.is_function:
            raise CommandError(scripts.busy_text())
        command: list[object] = list(running.args)
        current = Map(
            [
                b"name",
                running.context.name,
                b"command",
                command,
                b"duration_ms",
                scripts.running_for_ns() // 1000000,
            ]
        )
    counts: list[object] = [b"libraries_count", len(libraries.by_name)]
    counts += [b"functions_count", len(libraries.functions)]
    return Map([b"running_script", current, b"engines", Map([b"LUA", Map(counts)])])


def list_(session: Session, args: list[bytes]) -> object:
    pattern: bytes | None = None
    has_code = False
    at = 2
    while at < len(args):
        word = args[at].lower()
        if word == b"withcode" and not has_code:
            has_code = True
        elif word == b"libraryname" and pattern is None:
            at += 1
            if at >= len(args):
                raise CommandError(b"ERR library name argument was not given")
            pattern = args[at]
        else:
            raise CommandError(b"ERR Unknown argument " + c_string(args[at]))
        at += 1
    found: list[object] = []
    for name, library in session.engine.scripts.libraries.by_name.items():
        if pattern is None or glob_match(pattern, name, ignore_case=True):
            found.append(_described(library, has_code))
    return found


def _described(library: Library, has_code: bool) -> Map:
    functions: list[object] = []
    for function in library.functions.values():
        flags: list[object] = [SimpleString(flag) for flag in function.flag_names]
        functions.append(
            Map([b"name", function.name, b"description", function.description, b"flags", SetReply(flags)])
        )
    flat: list[object] = [b"library_name", library.name, b"engine", b"LUA", b"functions", functions]
    if has_code:
        flat += [b"library_code", library.code]
    return Map(flat)


def dump(session: Session, args: list[bytes]) -> object:
    libraries = session.engine.scripts.libraries.by_name.values()
    return dumps.dump_functions([library.code for library in libraries])


def _restore(session: Session, args: list[bytes]) -> object:
    if len(args) > 4:
        raise CommandError(errors.unknown_subcommand_or_arity(b"function", args[1]))
    policy = args[3].lower() if len(args) > 3 else b"append"
    if policy not in (b"flush", b"append", b"replace"):
        raise CommandError(
            b"ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
        )
    payload = args[2]
    if not dumps.is_intact(payload):
        raise CommandError(b"ERR DUMP payload version or checksum are wrong")
    try:
        codes = dumps.restore_functions(payload)
    except dumps.PayloadError as error:
        raise CommandError(b"ERR " + str(error).encode()) from None
    session.engine.scripts.libraries.restore(codes, policy)
    return OK


def restore(session: Session, args: list[bytes]) -> object:
    return session.engine.scripts.pausable(_restore, session, args)


HANDLERS: Final[dict[str, Handler]] = {
    "fcall": fcall,
    "fcall_ro": fcall_ro,
    "function|delete": delete,
    "function|dump": dump,
    "function|flush": flush,
    "function|kill": kill,
    "function|list": list_,
    "function|load": load,
    "function|restore": restore,
    "function|stats": stats,
}
