"""SYNC, PSYNC and REPLCONF, as far as a client goes that wants a snapshot and nothing after it.

That is what `redis-cli --rdb` and `--functions-rdb` say: `REPLCONF rdb-only 1`, and perhaps which part they
want (`rdb-filter-only`), then SYNC. A replica that would follow from there on gets an error in place of its
snapshot, so that nobody believes a copy to be kept up to date that is not.

Source:     order of checks and texts from redis-server 8.2, for a master without replicas.
Errors:     CommandError; the refusal of replicas is ours.
Not here:   the snapshot itself: see snapshot.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.replies import NO_REPLY, OK
from appliance.redis.resp import split_arguments
from appliance.redis.session import MONITORING, REPLICA
from appliance.redis.snapshot import ReplicaState

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_NO_REPLICAS: Final = b"this server has no replicas, only a snapshot after REPLCONF rdb-only 1"
_LONGEST_ADDRESS: Final = 255


def sync(session: Session, args: list[bytes]) -> object:
    return _sync(session, args, False)


def psync(session: Session, args: list[bytes]) -> object:
    return _sync(session, args, True)


def _sync(session: Session, args: list[bytes], is_partial: bool) -> object:
    if session.mode & (MONITORING | REPLICA):
        return NO_REPLY  # as there
    if is_partial and len(args) > 3 and args[3].lower() == b"failover":
        raise CommandError(b"ERR PSYNC FAILOVER can't be sent to a master.")
    if session.output_bytes() > 0:
        raise CommandError(b"ERR SYNC and PSYNC are invalid with pending output")
    wanted = session.replica
    if wanted is None:
        wanted = ReplicaState()
    if not (wanted.takes_marks or (wanted.wants_data and wanted.wants_functions)):
        raise CommandError(b"ERR Filtered replica requires EOF capability")
    if is_partial:
        integer_argument(args[2])
    if not wanted.is_snapshot_only or wanted.is_channel:
        # With this word a replica waits for a second before it tries again; with ERR it tries without end.
        raise CommandError((b"NOMASTERLINK " if is_partial else b"ERR ") + _NO_REPLICAS)
    engine = session.engine
    engine.counters.snapshots_sent += 1
    if is_partial:
        if args[1] != b"?":
            engine.counters.resumptions_refused += 1
        session.push(b"+FULLRESYNC %b 0\r\n" % engine.replication_id.encode())
    engine.snapshots.add(session, wanted)
    return NO_REPLY


def replconf(session: Session, args: list[bytes]) -> object:
    if len(args) % 2 == 0:
        raise CommandError(errors.SYNTAX)
    state = session.replica
    if state is None:
        state = ReplicaState()
        session.replica = state
    for at in range(1, len(args), 2):
        option = args[at].lower()
        value = args[at + 1]
        if option == b"listening-port":
            state.port = integer_argument(value)
        elif option == b"ip-address":
            if len(value) > _LONGEST_ADDRESS:
                raise CommandError(
                    b"ERR REPLCONF ip-address provided by replica instance is too long: %d bytes" % len(value)
                )
            state.address = value
        elif option == b"capa":
            if value.lower() == b"eof":
                state.takes_marks = True
        elif option in (b"ack", b"getack"):
            return NO_REPLY  # between a master and its replicas
        elif option == b"rdb-only":
            state.is_snapshot_only = _flag(value)
        elif option == b"rdb-filter-only":
            _filter(state, value)
        elif option == b"rdb-channel":
            state.is_channel = _flag(value)
        elif option == b"main-ch-client-id":
            raise CommandError(b"ERR Unrecognized RDB client id: %d" % integer_argument(value))
        else:
            raise CommandError(b"ERR Unrecognized REPLCONF option: " + args[at])
    return OK


def _flag(value: bytes) -> bool:
    number = integer_argument(value)
    if not 0 <= number <= 1:
        raise CommandError(b"ERR value is out of range, value must between 0 and 1")
    return number == 1


def _filter(state: ReplicaState, value: bytes) -> None:
    """Leave out of the snapshot all that is not named."""
    words = split_arguments(value)
    if words is None:
        raise CommandError(b"ERR Missing rdb-filter-only values")
    state.wants_data = False
    state.wants_functions = False
    for word in words:
        if word.lower() != b"functions":
            raise CommandError(b"ERR Unsupported rdb-filter-only option: " + word)
        state.wants_functions = True


HANDLERS: Final[dict[str, Handler]] = {
    "psync": psync,
    "replconf": replconf,
    "sync": sync,
}
