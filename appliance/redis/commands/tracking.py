"""Commands for client-side caching: CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO.

Source:     https://redis.io/docs/latest/develop/reference/client-side-caching/; order of checks and texts
            from redis-server 8.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.replies import OK, Map, SetReply
from appliance.redis.tracking import Tracked

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session


def _wanted(session: Session, args: list[bytes]) -> tuple[Tracked, list[bytes]]:
    """What CLIENT TRACKING's options ask for, and the prefixes."""
    wanted = Tracked()
    prefixes: list[bytes] = []
    at = 3
    while at < len(args):
        option = args[at].lower()
        has_value = at + 1 < len(args)
        if option == b"redirect" and has_value:
            at += 1
            if wanted.redirect != 0:
                raise CommandError(b"ERR A client can only redirect to a single other client")
            wanted.redirect = integer_argument(args[at])
            if wanted.redirect not in session.engine.sessions:
                raise CommandError(b"ERR The client ID you want redirect to does not exist")
        elif option == b"bcast":
            wanted.is_broadcast = True
        elif option == b"optin":
            wanted.opts_in = True
        elif option == b"optout":
            wanted.opts_out = True
        elif option == b"noloop":
            wanted.no_loop = True
        elif option == b"prefix" and has_value:
            at += 1
            prefixes.append(args[at])
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    return wanted, prefixes


def _check_mode(before: Tracked | None, wanted: Tracked, prefixes: list[bytes]) -> None:
    if len(prefixes) > 0 and not wanted.is_broadcast:
        raise CommandError(b"ERR PREFIX option requires BCAST mode to be enabled")
    if before is not None and before.is_broadcast != wanted.is_broadcast:
        raise CommandError(
            b"ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then "
            b"re-enabling it with a different mode."
        )
    if wanted.is_broadcast and (wanted.opts_in or wanted.opts_out):
        raise CommandError(b"ERR OPTIN and OPTOUT are not compatible with BCAST")
    if wanted.opts_in and wanted.opts_out:
        raise CommandError(b"ERR You can't specify both OPTIN mode and OPTOUT mode")
    if before is not None and ((wanted.opts_in and before.opts_out) or (wanted.opts_out and before.opts_in)):
        raise CommandError(
            b"ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then "
            b"re-enabling it with a different mode."
        )


def _overlap(one: bytes, other: bytes) -> bool:
    return one.startswith(other) or other.startswith(one)


def _check_prefixes(before: Tracked | None, prefixes: list[bytes]) -> None:
    for at, prefix in enumerate(prefixes):
        for existing in sorted(before.prefixes) if before is not None else []:
            if _overlap(existing, prefix):
                raise _overlaps(prefix, b"an existing prefix", existing)
        for other in prefixes[at + 1 :]:
            if _overlap(prefix, other):
                raise _overlaps(prefix, b"another provided prefix", other)


def _overlaps(prefix: bytes, what: bytes, other: bytes) -> CommandError:
    return CommandError(
        b"ERR Prefix '%b' overlaps with %b '%b'. Prefixes for a single client must not overlap."
        % (errors.quoted(prefix, len(prefix)), what, errors.quoted(other, len(other)))
    )


def client_tracking(session: Session, args: list[bytes]) -> object:
    wanted, prefixes = _wanted(session, args)
    word = args[2].lower()
    if word == b"on":
        before = session.tracked
        _check_mode(before, wanted, prefixes)
        if wanted.is_broadcast:
            _check_prefixes(before, prefixes)
            wanted.prefixes = dict.fromkeys(prefixes if len(prefixes) > 0 else [b""])
        session.engine.tracking.enable(session, wanted)
    elif word == b"off":
        session.engine.tracking.disable(session)
    else:
        raise CommandError(errors.SYNTAX)
    return OK


def client_caching(session: Session, args: list[bytes]) -> object:
    tracked = session.tracked
    if tracked is None:
        raise CommandError(
            b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT "
            b"mode enabled"
        )
    word = args[2].lower()
    if word == b"yes":
        if not tracked.opts_in:
            raise CommandError(
                b"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
            )
    elif word == b"no":
        if not tracked.opts_out:
            raise CommandError(
                b"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
            )
    else:
        raise CommandError(errors.SYNTAX)
    tracked.caching = True
    return OK


def client_getredir(session: Session, args: list[bytes]) -> object:
    return -1 if session.tracked is None else int(session.tracked.redirect)


def client_trackinginfo(session: Session, args: list[bytes]) -> object:
    tracked = session.tracked
    flags: list[object] = [b"off" if tracked is None else b"on"]
    prefixes: list[object] = []
    redirect = -1
    if tracked is not None:
        redirect = tracked.redirect
        if tracked.is_broadcast:
            flags.append(b"bcast")
            prefixes.extend(sorted(tracked.prefixes))
        if tracked.opts_in:
            flags.append(b"optin")
            if tracked.caching:
                flags.append(b"caching-yes")
        if tracked.opts_out:
            flags.append(b"optout")
            if tracked.caching:
                flags.append(b"caching-no")
        if tracked.no_loop:
            flags.append(b"noloop")
        if tracked.is_broken:
            flags.append(b"broken_redirect")
    return Map([b"flags", SetReply(flags), b"redirect", redirect, b"prefixes", prefixes])


HANDLERS: Final[dict[str, Handler]] = {
    "client|caching": client_caching,
    "client|getredir": client_getredir,
    "client|tracking": client_tracking,
    "client|trackinginfo": client_trackinginfo,
}
