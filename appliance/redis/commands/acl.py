"""ACL: one user, `default`, who may do everything once the password is known.

Clients and dashboards ask who they are and what they may; users of their own cannot be made here. A rule that
would leave `default` as it is is accepted, any other refused in one sentence.

Source:     https://redis.io/docs/latest/commands/?group=server; order of checks and texts from redis-server
            8.2.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.replies import OK, Map, SetReply

if TYPE_CHECKING:
    from appliance.redis.engine import Engine
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_CATEGORIES: Final = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
]

_NO_FILE: Final = (
    b"ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the "
    b"ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) "
    b"in order to store users in the Redis configuration."
)
_GENPASS_RANGE: Final = (
    b"ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to %d"
)
_LONGEST_PASSWORD: Final = 4096  # bits
_USUAL_PASSWORD: Final = 256
_USUAL_LOG: Final = 10  # entries
_ONE_USER: Final = b"there is one user here, default, who may do everything"

# Rules that leave a user who may do everything as they are.
_HARMLESS: Final = frozenset(
    [b"on", b"allkeys", b"~*", b"%rw~*", b"allchannels", b"&*", b"allcommands", b"+@all", b"sanitize-payload"]
)
_RESTRICTING: Final = frozenset(
    [
        b"off",
        b"nopass",
        b"resetpass",
        b"reset",
        b"resetkeys",
        b"resetchannels",
        b"nocommands",
        b"skip-sanitize-payload",
    ]
)


def _password_hash(engine: Engine) -> bytes:
    """As the server writes it; empty without a password."""
    password = engine.configuration.requirepass
    return sha256(password).hexdigest().encode() if password else b""


def acl_whoami(session: Session, args: list[bytes]) -> object:
    return b"default"


def acl_users(session: Session, args: list[bytes]) -> object:
    return [b"default"]


def acl_list(session: Session, args: list[bytes]) -> object:
    hashed = _password_hash(session.engine)
    words = b"sanitize-payload #" + hashed if hashed else b"nopass sanitize-payload"
    return [b"user default on " + words + b" ~* &* +@all"]


def acl_getuser(session: Session, args: list[bytes]) -> object:
    if args[2] != b"default":
        return None
    hashed = _password_hash(session.engine)
    flags: list[object] = [b"on"]
    if not hashed:
        flags.append(b"nopass")
    flags.append(b"sanitize-payload")
    passwords: list[object] = [hashed] if hashed else []
    selectors: list[object] = []
    flat: list[object] = [b"flags", SetReply(flags), b"passwords", passwords, b"commands", b"+@all"]
    return Map([*flat, b"keys", b"~*", b"channels", b"&*", b"selectors", selectors])


def acl_cat(session: Session, args: list[bytes]) -> object:
    if len(args) == 2:
        return [name.encode() for name in _CATEGORIES]
    if len(args) > 3:
        raise CommandError(errors.unknown_subcommand_or_arity(b"acl", args[1]))
    wanted = args[2].lower().decode("latin-1")
    if wanted not in _CATEGORIES:
        raise CommandError(b"ERR Unknown category '" + errors.quoted(args[2], len(args[2])) + b"'")
    every = session.engine.registry.every()
    return [each.full_name for each in every if wanted in each.facts.categories]


def acl_genpass(session: Session, args: list[bytes]) -> object:
    if len(args) > 3:
        raise CommandError(errors.unknown_subcommand_or_arity(b"acl", args[1]))
    bits = _USUAL_PASSWORD
    if len(args) == 3:
        bits = integer_argument(args[2])
        if not 0 < bits <= _LONGEST_PASSWORD:
            raise CommandError(_GENPASS_RANGE % _LONGEST_PASSWORD)
    digits = (bits + 3) // 4
    return session.engine.random_bytes((digits + 1) // 2).hex()[:digits].encode()


def acl_log(session: Session, args: list[bytes]) -> object:
    if len(args) > 3:
        raise CommandError(errors.unknown_subcommand_or_arity(b"acl", args[1]))
    engine = session.engine
    count = _USUAL_LOG
    if len(args) == 3:
        if args[2].lower() == b"reset":
            engine.denials.entries.clear()
            return OK
        count = max(0, integer_argument(args[2]))
    now_ms = int(session.clock.now_ms)
    found: list[object] = []
    for entry in engine.denials.entries[:count]:
        flat: list[object] = [b"count", entry.count, b"reason", b"auth", b"context", entry.context]
        flat += [b"object", entry.command, b"username", entry.user]
        flat += [b"age-seconds", (now_ms - entry.updated_ms) / 1000, b"client-info", entry.client]
        flat += [b"entry-id", entry.number, b"timestamp-created", int(entry.created_ms)]
        found.append(Map([*flat, b"timestamp-last-updated", int(entry.updated_ms)]))
    return found


def acl_file(session: Session, args: list[bytes]) -> object:
    """LOAD and SAVE."""
    raise CommandError(_NO_FILE)


def _is_known_rule(engine: Engine, rule: bytes) -> bool:
    """Whether `+name` names a command or a category."""
    name = rule[1:].lower()
    if name.startswith(b"@"):
        return name[1:].decode("latin-1") in _CATEGORIES or name == b"@all"
    container, mark, subcommand = name.partition(b"|")
    found = engine.registry.commands.get(container)
    if found is None or not mark:
        return found is not None
    return found.subcommands is None or subcommand in found.subcommands


def acl_setuser(session: Session, args: list[bytes]) -> object:
    if args[2] != b"default":
        raise CommandError(b"ERR " + _ONE_USER)
    engine = session.engine
    for rule in args[3:]:
        reason = b""
        if rule.lower() in _HARMLESS:
            continue
        if rule[:1] in (b"+", b"-"):
            if not _is_known_rule(engine, rule):
                reason = b"Unknown command or category name in ACL"
            elif rule[:1] == b"+":
                continue
            else:
                reason = _ONE_USER
        elif rule.lower() in (b"nopass", b"resetpass") and engine.configuration.requirepass == b"":
            continue
        elif rule.lower() in _RESTRICTING or rule[:1] in b"><#!~%&(":
            reason = _ONE_USER
        else:
            reason = b"Syntax error"
        raise CommandError(b"ERR Error in ACL SETUSER modifier '" + rule + b"': " + reason)
    return OK


def acl_deluser(session: Session, args: list[bytes]) -> object:
    if b"default" in args[2:]:
        raise CommandError(b"ERR The 'default' user cannot be removed")
    return 0


def acl_dryrun(session: Session, args: list[bytes]) -> object:
    if args[2] != b"default":
        raise CommandError(b"ERR User '" + args[2] + b"' not found")
    request = args[3:]
    try:
        command = session.engine.registry.resolve(request)
    except CommandError:
        raise CommandError(b"ERR Command '" + request[0] + b"' not found") from None
    if not command.accepts(len(request)):
        raise CommandError(errors.wrong_arity(command.full_name))
    return OK


HANDLERS: Final[dict[str, Handler]] = {
    "acl|cat": acl_cat,
    "acl|deluser": acl_deluser,
    "acl|dryrun": acl_dryrun,
    "acl|genpass": acl_genpass,
    "acl|getuser": acl_getuser,
    "acl|list": acl_list,
    "acl|load": acl_file,
    "acl|log": acl_log,
    "acl|save": acl_file,
    "acl|setuser": acl_setuser,
    "acl|users": acl_users,
    "acl|whoami": acl_whoami,
}
