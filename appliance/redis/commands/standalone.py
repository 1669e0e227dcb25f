"""Commands about what a single server in memory has not: disk, replicas, a cluster, modules.

What redis-server answers without them is answered here; what would need them is refused in one sentence, so
that nobody believes a copy of the data to be where there is none.

Source:     order of checks and texts from redis-server 8.2, without a cluster and with the configuration it
            comes with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.integers import parse_integer
from appliance.redis.replies import OK

if TYPE_CHECKING:
    from appliance.redis.registry import Handler
    from appliance.redis.session import Session

_NO_CLUSTER: Final = b"ERR This instance has cluster support disabled"
_IN_MEMORY: Final = b"ERR this server keeps its data in memory only"
_NOT_LOADED: Final = b"ERR Error loading the extension. Please check the server logs."
_LAST_PORT: Final = 65535

_CLUSTER: Final = [
    "addslots",
    "addslotsrange",
    "bumpepoch",
    "count-failure-reports",
    "countkeysinslot",
    "delslots",
    "delslotsrange",
    "failover",
    "flushslots",
    "forget",
    "getkeysinslot",
    "help",
    "info",
    "keyslot",
    "links",
    "meet",
    "myid",
    "myshardid",
    "nodes",
    "replicas",
    "replicate",
    "reset",
    "saveconfig",
    "set-config-epoch",
    "setslot",
    "shards",
    "slaves",
    "slot-stats",
    "slots",
]


def no_cluster(session: Session, args: list[bytes]) -> object:
    raise CommandError(_NO_CLUSTER)


def save(session: Session, args: list[bytes]) -> object:
    """SAVE and BGREWRITEAOF."""
    raise CommandError(_IN_MEMORY)


def bgsave(session: Session, args: list[bytes]) -> object:
    if len(args) > 2 or (len(args) == 2 and args[1].lower() != b"schedule"):
        raise CommandError(errors.SYNTAX)
    raise CommandError(_IN_MEMORY)


def replicaof(session: Session, args: list[bytes]) -> object:
    """NO ONE changes nothing; a master is refused."""
    if args[1].lower() == b"no" and args[2].lower() == b"one":
        return OK
    port = parse_integer(args[2])
    if port is None or not 0 <= port <= _LAST_PORT:
        raise CommandError(b"ERR Invalid master port")
    raise CommandError(b"ERR this server follows no master")


def failover(session: Session, args: list[bytes]) -> object:
    options = [arg.lower() for arg in args]
    if len(args) == 2 and options[1] == b"abort":
        raise CommandError(b"ERR No failover in progress.")
    seen: set[bytes] = set()
    at = 1
    while at < len(args):
        option = options[at]
        if option in seen:
            raise CommandError(errors.SYNTAX)
        seen.add(option)
        if option == b"timeout" and at + 1 < len(args):
            if integer_argument(args[at + 1]) <= 0:
                raise CommandError(b"ERR FAILOVER timeout must be greater than 0")
            at += 2
        elif option == b"to" and at + 2 < len(args):
            integer_argument(args[at + 2])
            at += 3
        elif option == b"force":
            at += 1
        else:
            raise CommandError(errors.SYNTAX)
    raise CommandError(b"ERR FAILOVER requires connected replicas.")


def module_list(session: Session, args: list[bytes]) -> object:
    return []


def module_load(session: Session, args: list[bytes]) -> object:
    """MODULE LOAD and LOADEX: nothing can be loaded into this process."""
    raise CommandError(_NOT_LOADED)


def module_unload(session: Session, args: list[bytes]) -> object:
    raise CommandError(b"ERR Error unloading module: no such module with that name")


HANDLERS: Final[dict[str, Handler]] = {
    "asking": no_cluster,
    "bgrewriteaof": save,
    "bgsave": bgsave,
    "failover": failover,
    "module|list": module_list,
    "module|load": module_load,
    "module|loadex": module_load,
    "module|unload": module_unload,
    "readonly": no_cluster,
    "readwrite": no_cluster,
    "replicaof": replicaof,
    "save": save,
    "slaveof": replicaof,
    **{f"cluster|{name}": no_cluster for name in _CLUSTER},
}
