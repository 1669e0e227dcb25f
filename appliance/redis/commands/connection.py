"""Commands about the connection itself.

Source:     https://redis.io/docs/latest/commands/?group=connection; order of checks and texts from
            redis-server 8.2.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import c_string, integer_argument
from appliance.redis.blocking import NEVER_US
from appliance.redis.client_filter import (
    ClientFilter,
    client_type,
    flags_of,
    is_valkeys,
    parse_filter,
    type_of,
)
from appliance.redis.errors import CommandError
from appliance.redis.integers import I64_MAX, parse_integer
from appliance.redis.replies import NO_REPLY, OK, PONG, RESET, Map, Verbatim
from appliance.redis.session import (
    IN_MULTI,
    NO_BLOCKING,
    REPLY_OFF,
    REPLY_SKIP,
    REPLY_SKIP_NEXT,
    SPOILED,
    SUBSCRIBED,
    Session,
)

if TYPE_CHECKING:
    from appliance.redis.registry import Handler

_QUEUED_BYTES: Final = 8  # of an argument of a command after MULTI, besides its text


def ping(session: Session, args: list[bytes]) -> object:
    if len(args) > 2:
        raise CommandError(errors.wrong_arity(b"ping"))
    if session.mode & SUBSCRIBED and not session.resp3:
        return [b"pong", args[1] if len(args) == 2 else b""]
    return PONG if len(args) == 1 else args[1]


def echo(session: Session, args: list[bytes]) -> object:
    return args[1]


def quit_(session: Session, args: list[bytes]) -> object:
    session.is_closing = True
    return OK


def reset(session: Session, args: list[bytes]) -> object:
    session.db = session.engine.databases[0]
    session.resp3 = False
    session.name = b""
    session.discard_transaction()
    session.unsubscribe_all()
    session.stop_observing()
    # A SKIP before it still takes effect, as with redis-server.
    session.mode &= ~(REPLY_OFF | REPLY_SKIP_NEXT)
    session.is_no_evict = False
    session.set_no_touch(False)
    session.clock.touching = session.touching
    session.set_authenticated(session.engine.configuration.requirepass == b"")
    return RESET


# Authentication -----------------------------------------------------------------------------------


def _authenticate(session: Session, user: bytes, password: bytes, args: list[bytes]) -> None:
    required = session.engine.configuration.requirepass
    # The comparison must not tell by its time how much of a guess was right.
    if user != b"default" or (required != b"" and not compare_digest(password, required)):
        engine = session.engine
        engine.counters.authentications_denied += 1
        engine.denials.add(
            b"multi" if session.mode & NO_BLOCKING else b"toplevel",
            args[0],
            user,
            client_line(session, session, args),
            int(session.clock.now_ms),
            engine.configuration.integer("acllog-max-len"),
        )
        raise CommandError(errors.WRONG_PASS)
    session.set_authenticated(True)


def auth(session: Session, args: list[bytes]) -> object:
    if len(args) > 3:
        raise CommandError(errors.SYNTAX)
    if len(args) == 2:
        if session.engine.configuration.requirepass == b"":
            raise CommandError(
                b"ERR AUTH <password> called without any password configured for the default user. "
                b"Are you sure your configuration is correct?"
            )
        _authenticate(session, b"default", args[1], args)
    else:
        _authenticate(session, args[1], args[2], args)
    return OK


def hello(session: Session, args: list[bytes]) -> object:
    version: int | None = None
    if len(args) > 1:
        version = parse_integer(args[1])
        if version is None:
            raise CommandError(b"ERR Protocol version is not an integer or out of range")
        if version not in (2, 3):
            raise CommandError(b"NOPROTO unsupported protocol version")
    user: bytes | None = None
    password = b""
    name: bytes | None = None
    at = 2
    while at < len(args):
        option = args[at].lower()
        if option == b"auth" and at + 2 < len(args):
            user, password = args[at + 1], args[at + 2]
            at += 3
        elif option == b"setname" and at + 1 < len(args):
            name = _client_name(args[at + 1])
            at += 2
        else:
            raise CommandError(b"ERR Syntax error in HELLO option '" + c_string(args[at]) + b"'")
    if user is not None:
        _authenticate(session, user, password, args)
    if session.must_authenticate:
        raise CommandError(
            b"NOAUTH HELLO must be called with the client already authenticated, otherwise the "
            b"HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
            b"select the RESP protocol version at the same time"
        )
    if name is not None:
        session.name = name
    if version is not None:
        session.resp3 = version == 3
    settings = session.engine.settings
    return Map(
        [
            b"server",
            settings.server_name.encode(),
            b"version",
            settings.version.encode(),
            b"proto",
            3 if session.resp3 else 2,
            b"id",
            session.id,
            b"mode",
            b"standalone",
            b"role",
            b"master",
            b"modules",
            [],
        ]
    )


# CLIENT -------------------------------------------------------------------------------------------


def _is_printable(text: bytes) -> bool:
    # redis-server looks at a C string: what stands behind a NUL is kept, but not looked at.
    return all(33 <= byte <= 126 for byte in text.partition(b"\0")[0])


def _client_name(text: bytes) -> bytes:
    if not _is_printable(text):
        raise CommandError(b"ERR Client names cannot contain spaces, newlines or special characters.")
    return text


def client_id(session: Session, args: list[bytes]) -> object:
    return session.id


def client_getname(session: Session, args: list[bytes]) -> object:
    return session.name or None


def client_capa(session: Session, args: list[bytes]) -> object:
    """What Valkey's clients say they can do; but for filters there is nothing here that makes use of it."""
    if any(word.lower() == b"redirect" for word in args[2:]):
        session.can_redirect = True
    return OK


def client_import_source(session: Session, args: list[bytes]) -> object:
    """Valkey's, of a client that sees expired keys in a server that is being filled; this one never is."""
    if args[2].lower() != b"off":
        raise CommandError(b"ERR Server is not in import mode")
    return OK


def client_setname(session: Session, args: list[bytes]) -> object:
    session.name = _client_name(args[2])
    return OK


def client_setinfo(session: Session, args: list[bytes]) -> object:
    attribute = args[2].lower()
    if attribute not in (b"lib-name", b"lib-ver"):
        raise CommandError(b"ERR Unrecognized option '" + c_string(args[2]) + b"'")
    if not _is_printable(args[3]):
        raise CommandError(b"ERR " + args[2] + b" cannot contain spaces, newlines or special characters.")
    if attribute == b"lib-name":
        session.library_name = args[3]
    else:
        session.library_version = args[3]
    return OK


def client_line(session: Session, viewer: Session | None = None, args: list[bytes] | None = None) -> bytes:
    """One client as CLIENT LIST shows it.

    Args:
        session: whom to show.
        viewer: the session that asks.
        args: its request.
    """
    now_us = session.clock.now_us
    age = max(0, now_us - session.created_us) // 1_000_000
    idle = max(0, now_us - session.last_interaction_us) // 1_000_000
    command = session.last_command
    argv_bytes = session.parser.pending_arguments()
    if session is viewer and args is not None:
        argv_bytes = sum([len(arg) for arg in args])
    elif session.waiting is not None:
        argv_bytes = sum([len(arg) for arg in session.waiting.args])
    multi_bytes = sum([sum([_QUEUED_BYTES + len(arg) for arg in each]) for _, each in session.queued])
    unsent = int(session.unsent_bytes)
    memory = session.engine.client_limits.memory_of(session)
    pending = session.parser.pending_bytes() + session.kept_bytes
    listens = session.subscriptions
    fields = [
        f"id={session.id}",
        f"addr={session.remote}",
        f"laddr={session.local}",
        "fd=-1",
        f"name={session.name.decode('ascii')}",
        f"age={age}",
        f"idle={idle}",
        f"flags={flags_of(session)}",
        f"db={session.db.index}",
        f"sub={0 if listens is None else len(listens.channels)}",
        f"psub={0 if listens is None else len(listens.patterns)}",
        f"ssub={0 if listens is None else len(listens.shard_channels)}",
        f"multi={len(session.queued) if session.mode & IN_MULTI else -1}",
        # The server forgets what a client watches when one of the keys was touched.
        f"watch={0 if session.mode & SPOILED else len(session.watched)}",
        f"qbuf={pending}",
        "qbuf-free=0",
        f"argv-mem={argv_bytes}",
        f"multi-mem={multi_bytes}",
        "rbs=0",
        "rbp=0",
        "obl=0",
        f"oll={1 if unsent else 0}",
        f"omem={unsent}",
        f"tot-mem={memory - session.queued_bytes + argv_bytes + multi_bytes}",
        f"events={'rw' if unsent else 'r'}",
        f"cmd={'NULL' if command is None else command.full_name.decode('ascii')}",
        "user=default",
        f"redir={-1 if session.tracked is None else session.tracked.redirect}",
        f"resp={3 if session.resp3 else 2}",
        f"lib-name={session.library_name.decode('ascii')}",
        f"lib-ver={session.library_version.decode('ascii')}",
        "io-thread=0",
        f"tot-net-in={session.bytes_in}",
        f"tot-net-out={session.bytes_out}",
        # The one that asks is not counted before it is over.
        f"tot-cmds={session.commands_executed - (session is viewer)}",
    ]
    return " ".join(fields).encode("ascii", "replace")


def client_info(session: Session, args: list[bytes]) -> object:
    return Verbatim(client_line(session, session, args) + b"\n")


def client_list(session: Session, args: list[bytes]) -> object:
    sessions = list(session.engine.sessions.values())
    if len(args) == 4 and args[2].lower() == b"type" and not is_valkeys(args):
        wanted = client_type(args[3])
        sessions = [each for each in sessions if type_of(each) == wanted]
    elif len(args) > 3 and is_valkeys(args):
        chosen = parse_filter(session, args, False)
        sessions = [each for each in sessions if chosen.matches(each, session)]
    elif len(args) > 3 and args[2].lower() == b"id":
        by_id = session.engine.sessions
        sessions = []
        for text in args[3:]:
            number = parse_integer(text)
            if number is None:
                raise CommandError(b"ERR Invalid client ID")
            if number in by_id:
                sessions.append(by_id[number])
    elif len(args) != 2:
        raise CommandError(errors.SYNTAX)
    return Verbatim(b"".join([client_line(each, session, args) + b"\n" for each in sessions]))


def client_kill(session: Session, args: list[bytes]) -> object:
    old_form = len(args) == 3
    if old_form:
        chosen = ClientFilter(False)
        chosen.wanted[b"addr"] = args[2]
    else:
        chosen = parse_filter(session, args, True)
    killed = 0
    for other in list(session.engine.sessions.values()):
        if not chosen.matches(other, session):
            continue
        killed += 1
        if other is session:
            session.is_closing = True  # after this reply
        else:
            other.kill()
        if old_form:
            break
    if old_form:
        if killed == 0:
            raise CommandError(b"ERR No such client")
        return OK
    return killed


def _on_or_off(text: bytes) -> bool:
    word = text.lower()
    if word not in (b"on", b"off"):
        raise CommandError(errors.SYNTAX)
    return word == b"on"


def client_no_evict(session: Session, args: list[bytes]) -> object:
    session.is_no_evict = _on_or_off(args[2])
    return OK


def client_no_touch(session: Session, args: list[bytes]) -> object:
    session.set_no_touch(_on_or_off(args[2]))
    session.clock.touching = session.touching
    return OK


def client_reply(session: Session, args: list[bytes]) -> object:
    mode = args[2].lower()
    if mode == b"on":
        session.mode &= ~(REPLY_OFF | REPLY_SKIP | REPLY_SKIP_NEXT)
        return OK
    if mode == b"off":
        session.mode |= REPLY_OFF
    elif mode == b"skip":
        if session.mode & REPLY_OFF == 0:
            session.mode |= REPLY_SKIP_NEXT
    else:
        raise CommandError(errors.SYNTAX)
    return NO_REPLY


def client_pause(session: Session, args: list[bytes]) -> object:
    pauses_all = True
    if len(args) == 4:
        word = args[3].lower()
        if word not in (b"write", b"all"):
            raise CommandError(b"ERR CLIENT PAUSE mode must be WRITE or ALL")
        pauses_all = word == b"all"
    elif len(args) > 4:
        raise CommandError(errors.unknown_subcommand_or_arity(b"client", args[1]))
    span_ms = parse_integer(args[2])
    if span_ms is None:
        raise CommandError(b"ERR timeout is not an integer or out of range")
    if span_ms < 0:
        raise CommandError(b"ERR timeout is negative")
    if span_ms > I64_MAX - session.clock.now_ms:
        raise CommandError(b"ERR timeout is out of range")
    until_ms = min(span_ms + session.clock.now_ms, NEVER_US // 1000)
    session.engine.holding.pause(until_ms * 1000, pauses_all)
    return OK


def client_unpause(session: Session, args: list[bytes]) -> object:
    session.engine.holding.unpause()
    return OK


def client_unblock(session: Session, args: list[bytes]) -> object:
    with_error = False
    if len(args) == 4:
        reason = args[3].lower()
        if reason not in (b"timeout", b"error"):
            raise CommandError(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
        with_error = reason == b"error"
    elif len(args) > 4:
        raise CommandError(errors.unknown_subcommand_or_arity(b"client", args[1]))
    target = session.engine.sessions.get(integer_argument(args[2]))
    waiting = None if target is None else target.waiting
    if target is None or waiting is None or not target.is_parked:
        return 0
    if with_error:
        target.unblock_with_error()
    else:
        target.give_up(waiting.timeout_reply)
    return 1


HANDLERS: Final[dict[str, Handler]] = {
    "auth": auth,
    "client|getname": client_getname,
    "client|id": client_id,
    "client|info": client_info,
    "client|kill": client_kill,
    "client|list": client_list,
    "client|no-evict": client_no_evict,
    "client|no-touch": client_no_touch,
    "client|pause": client_pause,
    "client|reply": client_reply,
    "client|setinfo": client_setinfo,
    "client|setname": client_setname,
    "client|unblock": client_unblock,
    "client|unpause": client_unpause,
    "echo": echo,
    "hello": hello,
    "ping": ping,
    "quit": quit_,
    "reset": reset,
}
