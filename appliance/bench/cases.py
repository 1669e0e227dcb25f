"""What is measured: the loads, and the sets of them that have names.

A load is one call of redis-benchmark, so both sides meet the same client in C. What a command needs before it
can be measured (a value to read, a list to pop from) is put there by another call before each run, untimed.

    quick    the usual requests at three depths, and large values: to see where one stands
    targets  what the project promises, no more; a few minutes
    full     every command, number of clients, depth and size; an hour
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["CASES", "SETS", "Case", "case_named", "missing_commands", "select"]

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_RANDOM_KEYS: Final = 1_000_000

MAIN_PEERS: Final = ("redtap", "redis-server", "kernel", "uvloop")
EVERYBODY: Final = ("redtap", "redis-server", "redtap-pure", "kernel", "uvloop", "fakeredis", "floor")


@dataclass(frozen=True)
class Case:
    """One load.

    Attributes:
        name: for tables, pictures and `--cases`.
        command: redis-benchmark's name for the test (`-t`), or of the command in `words`.
        clients, pipeline: redis-benchmark's -c and -P.
        value_bytes: size of the value.
        nominal_rps: about what a fast server does here; only scales the first, short run, from which each
            peer's number of requests is taken.
        is_churn: every request has a connection of its own (-k 0).
        words: a command in full, where redis-benchmark has no test of that name.
        needs: commands that the server must have.
        before: arguments for redis-benchmark runs that prepare; `{n}` is the number of requests to come.
        least_each: pipelines of each client in a run, however short it is to be.
    """

    name: str
    command: str
    clients: int = 50
    pipeline: int = 1
    value_bytes: int = 3
    nominal_rps: int = 60_000
    is_churn: bool = False
    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    before: tuple[tuple[str, ...], ...] = ()
    least_each: int = 1

    def requests(self, seconds: float, rps: float | None = None) -> int:
        """How many requests take about `seconds` at `rps`; `least_each` or more pipelines of each client."""
        unit = self.clients * self.pipeline
        whole = round((self.nominal_rps if rps is None else rps) * seconds / unit)
        return max(self.least_each, whole) * unit

    def arguments(self, requests: int) -> list[str]:
        """redis-benchmark's arguments, without host and port."""
        arguments = [] if self.words else ["-t", self.command]
        arguments += ["-c", str(self.clients), "-P", str(self.pipeline), "-n", str(requests)]
        arguments += ["-d", str(self.value_bytes)]
        if self.is_churn:
            arguments += ["-k", "0"]
        return arguments + list(self.words)

    def preparations(self, requests: int) -> list[list[str]]:
        """Arguments of the runs that go before one of `requests`."""
        return [[word.replace("{n}", str(requests)) for word in run] for run in self.before]

    @property
    def megabytes_per_request(self) -> float:
        """Payload; 0 for small values, where megabytes say nothing."""
        return self.value_bytes / 1e6 if self.value_bytes >= _KIB and not self.is_churn else 0.0


def _size(count: int) -> str:
    if count >= _MIB:
        return f"{count // _MIB} MiB"
    return f"{count // _KIB} KiB" if count >= _KIB else f"{count} B"


def _filled(size: int) -> tuple[tuple[str, ...], ...]:
    """What GET reads."""
    return (("-t", "set", "-n", "1", "-c", "1", "-d", str(size)),)


_NOMINAL_BY_DEPTH: Final = {1: 60_000, 16: 400_000, 100: 600_000}
_NOMINAL_BY_SIZE: Final = {_KIB: 60_000, 16 * _KIB: 25_000, 64 * _KIB: 8_000, _MIB: 700}
# Opening a connection costs about what ten requests do, and redis-benchmark times it with them: in a short
# run 5,000 clients would ask five times each, and connecting, which has a case of its own, would be measured.
_MANY_CLIENTS: Final = 1000
_LEAST_OF_MANY: Final = 50
_MANY: Final = ("-P", "100", "-c", "10", "-n", "{n}")


def _plain(command: str, clients: int = 50, pipeline: int = 1) -> Case:
    name = f"{command.upper()} -c {clients}" + (f" -P {pipeline}" if clients != 1 else "")
    nominal = 15_000 if clients == 1 else _NOMINAL_BY_DEPTH[pipeline]
    before = _filled(3) if command == "get" else ()
    least = _LEAST_OF_MANY if clients >= _MANY_CLIENTS else 1
    return Case(
        name,
        command,
        clients,
        pipeline,
        nominal_rps=nominal,
        needs=(command,),
        before=before,
        least_each=least,
    )


def _sized(command: str, size: int) -> Case:
    return Case(
        f"{command.upper()} {_size(size)}",
        command,
        value_bytes=size,
        nominal_rps=_NOMINAL_BY_SIZE[size],
        needs=(command,),
        before=_filled(size) if command == "get" else (),
    )


def _lrange(count: int, pipeline: int) -> Case:
    # redis-benchmark fills the list itself, as a test of its own before this one.
    return _typed(f"lrange_{count}", pipeline, ("lrange", "lpush", "del"), nominal_rps=3_000_000 // count)


def _typed(
    command: str,
    pipeline: int,
    needs: tuple[str, ...],
    *before: tuple[str, ...],
    words: tuple[str, ...] = (),
    nominal_rps: int | None = None,
) -> Case:
    """A command of one of the data types."""
    return Case(
        command.upper() + (f" -P {pipeline}" if pipeline != 1 else ""),
        command,
        pipeline=pipeline,
        nominal_rps=nominal_rps or _NOMINAL_BY_DEPTH[pipeline],
        words=words,
        needs=needs,
        before=before,
    )


def _typed_cases(pipeline: int) -> tuple[Case, ...]:
    random_keys = ("-r", str(_RANDOM_KEYS), *_MANY)
    xadd = ("XADD", "mystream", "MAXLEN", "~", "100000", "*", "myfield", "xxx")
    return (
        _typed("lpush", pipeline, ("lpush",), _EMPTY_LIST),
        _typed("lpop", pipeline, ("lpop", "lpush"), _EMPTY_LIST, ("-t", "lpush", *_MANY)),
        *(_lrange(count, pipeline) for count in (100, 300, 500, 600)),
        _typed("sadd", pipeline, ("sadd",)),
        _typed("spop", pipeline, ("spop", "sadd"), ("-t", "sadd", *random_keys)),
        _typed("hset", pipeline, ("hset",)),
        _typed("zadd", pipeline, ("zadd",)),
        _typed("zpopmin", pipeline, ("zpopmin", "zadd"), ("-t", "zadd", *random_keys)),
        _typed("xadd", pipeline, ("xadd",), words=xadd),
    )


def _script() -> Case:
    """A script of one call, by its hash."""
    text = "return redis.call('GET', KEYS[1])"
    # What SCRIPT LOAD answers: the name of a script is its SHA-1.
    name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    load = ("-n", "1", "-c", "1", "SCRIPT", "LOAD", text)
    words = ("EVALSHA", name, "1", "key:__rand_int__")
    return Case("EVALSHA", "evalsha", words=words, needs=("evalsha", "script"), before=(load, *_filled(3)))


_EMPTY_LIST: Final = ("-n", "1", "-c", "1", "DEL", "mylist")

CASES: Final[tuple[Case, ...]] = (
    *(_plain(command, 50, depth) for depth in (1, 16, 100) for command in ("get", "set")),
    *(_plain(command, 1) for command in ("get", "set")),
    *(_plain(command, 500) for command in ("get", "set")),
    *(_plain(command, 5000) for command in ("get", "set")),
    *(_sized(command, size) for size in _NOMINAL_BY_SIZE for command in ("get", "set")),
    Case("connect PING close", "ping_mbulk", nominal_rps=12_000, is_churn=True, needs=("ping",)),
    _plain("incr", 50, 1),
    _plain("incr", 50, 16),
    _plain("mset", 50, 1),
    _plain("mset", 50, 16),
    *_typed_cases(1),
    *_typed_cases(16),
    _script(),
)

_TARGETS: Final = (
    *(f"{command} -c 50 -P {depth}" for depth in (1, 16, 100) for command in ("GET", "SET")),
    *("GET -c 1", "SET -c 1"),
    *(f"{command} {size}" for size in ("64 KiB", "1 MiB") for command in ("GET", "SET")),
    "connect PING close",
    "EVALSHA",
    *("GET -c 5000 -P 1", "SET -c 5000 -P 1"),
)
_QUICK: Final = (
    *(f"{command} -c 50 -P {depth}" for depth in (1, 16, 100) for command in ("GET", "SET")),
    *("GET -c 1", "SET -c 1", "INCR -c 50 -P 1", "GET 64 KiB", "SET 64 KiB"),
)


@dataclass(frozen=True)
class CaseSet:
    """A named choice of cases.

    Attributes:
        names: of cases; empty means all.
        peers: who takes part when `--peers` says nothing.
        has_memory: memory per connection and per key are measured too.
        only_with: peers of which only these cases are asked, the others being what they are compared in.
    """

    names: tuple[str, ...]
    peers: tuple[str, ...]
    has_memory: bool
    only_with: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def wants(self, case: Case, peer: str) -> bool:
        """Whether `peer` takes part in `case`."""
        chosen = dict(self.only_with).get(peer)
        return chosen is None or case.name in chosen


_DEPTH_ONE: Final = ("GET -c 50 -P 1", "SET -c 50 -P 1")

SETS: Final = {
    "quick": CaseSet(_QUICK, MAIN_PEERS, has_memory=False),
    "targets": CaseSet(
        _TARGETS, MAIN_PEERS, has_memory=True, only_with=(("kernel", _DEPTH_ONE), ("uvloop", _DEPTH_ONE))
    ),
    "full": CaseSet((), EVERYBODY, has_memory=True),
}


def case_named(name: str) -> Case:
    """The case of that name."""
    return next(case for case in CASES if case.name == name)


def select(set_name: str, wanted: Sequence[str]) -> list[Case]:
    """The cases of a set, or those of all that `wanted` names.

    Args:
        wanted: commands (`get`, `lrange`), or whole words of names (`64 KiB`, `-c 1`); case does not matter.
    """
    if not wanted:
        names = SETS[set_name].names
        return [case for case in CASES if not names or case.name in names]
    return [case for case in CASES if any(_is_named(case, word.lower()) for word in wanted)]


def _is_named(case: Case, wanted: str) -> bool:
    if wanted in (case.command, case.command.partition("_")[0]):
        return True
    # Whole words: `-P 1` is not `-P 16`. And `set` is the command, not SET among HSET and MSET.
    return f" {wanted} " in f" {case.name.lower()} "


def missing_commands(case: Case, known: Collection[str]) -> list[str]:
    """What the case needs of our engine and is not there yet."""
    return [command for command in case.needs if command not in known]
