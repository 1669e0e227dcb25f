r"""Random sequences of commands to our engine and to a redis-server: every reply and the final state are the same.

A group of commands says what to draw; the machine does the rest. A whole test:

    MACHINE = Machine(
        "lists",
        [
            command("lpush", KEY, some(VALUE)),
            command("lrange", KEY, INDEX, INDEX),
            command("set", KEY, VALUE, weight=0.2),          # drawn more seldom: makes WRONGTYPE
            command("sinter", some(KEY), compare=unordered),  # no order: both sides are sorted
        ],
        configs=[{}, {"list-max-listpack-size": "3"}],        # one is chosen for each example
    )

    @pytest.mark.machine
    def test_any_sequence_is_answered_as_the_server_does(real_server: RealServer) -> None:
        MACHINE.run(real_server)

**How it runs.** An example is some hundreds of commands. The server gets them in one pipeline; our engine (sans-IO,
no thread, no socket) gets them one by one and each raw reply is compared, in RESP2 in one half of the examples and in
RESP3 in the other. In one half of them keyspace events are on, and both sides must tell the same ones in the same order;
in all of them the number of changes to save must agree. Then the state: the keys of all databases, and of each its type, encoding, expire time and contents
(`PROBES`). Each example draws from another subset of the commands (swarm testing: it gets deeper than an even mixture),
and now and then an argument is dropped, doubled or replaced by something nasty. What differs without being an error
stands in `tests/support/redis_differences.py`, with its reason.

**How much.** `run` goes on until `wanted_commands()` have been compared: 20,000, or 200,000 with the hypothesis profile
`fuzz` (`make fuzz`), or REDTAP_MACHINE_COMMANDS.

**When it fails**, the sequence is shortened (commands, then arguments, then their values) and printed as lines for
redis-cli, with the seed: REDTAP_MACHINE_SEED=… runs that one example again. The profile `ci` has fixed seeds.

**What to draw.** A part of a command is a word (`"NX"`, `5`, `b"\0"`), a list of words, or a function from
`random.Random` to a list of arguments; `one`, `some`, `maybe`, `options`, `numbers`, `words` make such functions. Why
not hypothesis' strategies: they cost about 100 µs a draw, twenty times what a whole command takes here, and cut an
example off at a few hundred draws.

**What to compare.** `compare=` takes a function of a `Step`; there are `exact` (the default), `unordered`,
`unordered_if_hashtable`, `unordered_pairs`, `same_scan`, `same_kind` (for random replies) and `near(n)` (for times).
A random command that changes something (SPOP) must be drawn such that chance has nothing to choose; commands that
may block must not be drawn so that they do. `mutate=False` keeps nasty arguments away from a command that they would
make block, or make random, or take a gigabyte.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import settings

from appliance.redis.engine_modes import SCRIPT_BUSY
from appliance.redis.replies import BigNumber, Map, Push, SetReply, SimpleError, SimpleString, Verbatim
from appliance.redis.types.collection import Collection
from tests.support.redis_differences import EXPLAINED, comparable_events
from tests.support.redis_pair import OurClient, make_engine, now_us, parse_one

if TYPE_CHECKING:
    from appliance.redis import Engine, Session
    from tests.support.redis_pair import RealServer

USUAL_COMMANDS = 20_000
FUZZ_COMMANDS = 200_000
EXAMPLE_LENGTH = 300
# Shrinking ends after so many tries; a script of some lines is short enough.
SHRINK_TRIES = 3000

Request = tuple[bytes, ...]
Draw = Callable[[Random], list[bytes]]
Shorten = Callable[[Request], Iterable[Request]]
Part = Draw | bytes | str | int | float | Sequence["Part"]


# What to draw -------------------------------------------------------------------------------------


def drawn(part: Part) -> Draw:
    """A part as a function; a sequence is its elements one after the other."""
    if callable(part):
        return part
    if isinstance(part, (str, bytes, int, float)):
        constant = [_word(part)]
        return lambda _random: constant
    parts = [drawn(each) for each in part]
    return lambda random: [word for draw in parts for word in draw(random)]


def _word(value: bytes | str | float) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def one(*parts: Part) -> Draw:
    """One of the parts."""
    choices = [drawn(part) for part in parts]
    return lambda random: choices[int(random.random() * len(choices))](random)


def words(*values: bytes | str | float) -> Draw:
    """One of these words."""
    texts = [[_word(value)] for value in values]
    return lambda random: texts[int(random.random() * len(texts))]


def numbers(low: int, high: int) -> Draw:
    """An integer from low to high."""
    return lambda random: [b"%d" % random.randint(low, high)]


def some(part: Part, low: int = 1, high: int = 3) -> Draw:
    """The part several times, drawn anew each time."""
    draw = drawn(part)
    return lambda random: [word for _ in range(random.randint(low, high)) for word in draw(random)]


def counted(part: Part, low: int = 1, high: int = 3) -> Draw:
    """How many, and then that many times the part: `numkeys key [key ...]`."""
    draw = drawn(part)

    def counted_parts(random: Random) -> list[bytes]:
        count = random.randint(low, high)
        return [b"%d" % count, *(word for _ in range(count) for word in draw(random))]

    return counted_parts


def maybe(*parts: Part, chance: float = 0.5) -> Draw:
    """All of the parts, or nothing."""
    draw = drawn(parts)
    return lambda random: draw(random) if random.random() < chance else []


def options(*parts: Part, most: int = 3) -> Draw:
    """Up to `most` of the parts in any order, mostly few, sometimes one twice."""
    choices = [drawn(part) for part in parts]

    def chosen(random: Random) -> list[bytes]:
        count = min(random.choice((0, 0, 1, 1, 2, 3)), most)
        return [word for draw in random.choices(choices, k=count) for word in draw(random)]

    return chosen


KEYS = ["a", "b", "c", "key:1", ""]
KEY = words(*KEYS)
VALUE = one(
    words("a", "b", "c", "1", "2", "10", "-5", "", "hello world", "3.5"),
    words("x" * 50, "y" * 65, "\x00\xff\r\n", "12345678901234567890", "007", "9223372036854775807"),
)
INDEX = one(numbers(-6, 6), numbers(-6, 6), numbers(-6, 6), words(0, -1, 100, -100, 2**63 - 1, -(2**63)))
COUNT = one(numbers(0, 4), numbers(0, 4), words(-1, 100, 2**31, 2**63 - 1, 2**63, "x"))
# Far enough that nothing expires while a test runs, near enough that both sides round alike.
SECONDS = words(100_000, 200_000, 300_000)

_NASTY = [
    b"", b"0", b"1", b"-1", b"2", b"4294967296", b"9223372036854775807", b"-9223372036854775808",
    b"9223372036854775808", b"18446744073709551616", b"1.5", b"1e3", b"abc", b"-0", b"+1", b" 1", b"01",
    b"nan", b"inf", b"-inf", b"(1", b"[a", b"-", b"+", b"*", b"$", b"0x10", b"\x00", b"COUNT", b"NX", b"WITHSCORES",
]  # fmt: skip


# What to compare ----------------------------------------------------------------------------------


class Step:
    """One command, both raw replies, our session as it is right after it, and for how long the example has run."""

    def __init__(
        self, request: Request, ours: bytes, theirs: bytes, session: Session, elapsed_s: float = 0.0
    ) -> None:
        self.elapsed_s = elapsed_s
        self.request = request
        self.ours = ours
        self.theirs = theirs
        self.session = session

    def values(self) -> tuple[Any, Any]:
        """Both replies as plain data: (ours, theirs)."""
        return plain(parse_one(self.ours)), plain(parse_one(self.theirs))

    def encoding(self, at: int = 1) -> bytes:
        """Our encoding of the key that is argument `at`; b"" for strings and where there is no key."""
        entry = self.session.db.find(self.request[at]) if len(self.request) > at else None
        return entry.value.encoding() if entry is not None and isinstance(entry.value, Collection) else b""


Compare = Callable[[Step], bool]


def plain(value: object) -> Any:
    """A parsed reply as data that compares and prints; the kinds of RESP stay apart."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, Map):
        return {"map": [plain(each) for each in value.flat]}
    if isinstance(value, SetReply):
        return {"set": [plain(each) for each in value.items]}
    if isinstance(value, Push):
        return {"push": [plain(each) for each in value.items]}
    if isinstance(value, (SimpleString, SimpleError)):
        return f"{'-' if isinstance(value, SimpleError) else '+'}{value.text.decode('latin-1')}"
    if isinstance(value, Verbatim):
        return {"verbatim": value.text}
    if isinstance(value, BigNumber):
        return {"big": value.value}
    return value


def exact(step: Step) -> bool:
    return step.ours == step.theirs


def _sorted(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value, key=repr)
    if isinstance(value, dict):
        return {kind: sorted(items, key=repr) if kind == "set" else items for kind, items in value.items()}
    return value


def unordered(step: Step) -> bool:
    """An array or set in any order."""
    ours, theirs = step.values()
    return bool(_sorted(ours) == _sorted(theirs))


def unordered_if_hashtable(step: Step) -> bool:
    """In any order once the key (the first argument) is a hash table; before that the order is the server's."""
    return step.encoding() == b"hashtable" and unordered(step)


def pairs_of(value: Any) -> Any:
    """Name and value pairs (a map, an array of pairs or a flat one), sorted."""
    items = value["map"] if isinstance(value, dict) and "map" in value else value
    if not isinstance(items, list):
        return value
    if not any(isinstance(item, list) for item in items):
        items = [items[at : at + 2] for at in range(0, len(items), 2)]
    return [type(value).__name__, sorted(items, key=repr)]


def unordered_pairs(step: Step) -> bool:
    """Pairs (HGETALL, HRANDFIELD WITHVALUES) in any order, if the key is a hash table."""
    ours, theirs = step.values()
    return step.encoding() == b"hashtable" and bool(pairs_of(ours) == pairs_of(theirs))


def same_scan(step: Step) -> bool:
    """A SCAN that was asked for everything at once: cursor 0, and the same elements in any order."""
    ours, theirs = step.values()
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return False
    if step.request[0].lower() in (b"hscan", b"zscan") and b"novalues" not in [
        word.lower() for word in step.request
    ]:
        return bool(ours[0] == theirs[0] and pairs_of(ours[1]) == pairs_of(theirs[1]))
    return bool(ours[0] == theirs[0] and _sorted(ours[1]) == _sorted(theirs[1]))


def same_kind(step: Step) -> bool:
    """Any values, of the same type and number: for what chance decides."""
    ours, theirs = step.values()
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs)
    return type(ours) is type(theirs) and not isinstance(ours, str)


def near(distance: int) -> Compare:
    """Positive integers (or arrays of them) that are no further apart: for times.

    Args:
        distance: Three seconds in the unit of the reply; so many more as the example has taken.
    """

    def is_near(step: Step) -> bool:
        ours, theirs = step.values()
        one_side, other = (each if isinstance(each, list) else [each] for each in (ours, theirs))
        if len(one_side) != len(other) or isinstance(ours, list) is not isinstance(theirs, list):
            return False
        allowed = distance + int(distance * step.elapsed_s / 3)
        return all(_near(a, b, allowed) for a, b in zip(one_side, other, strict=True))

    return is_near


def _near(ours: Any, theirs: Any, distance: int) -> bool:
    if isinstance(ours, int) and isinstance(theirs, int) and ours > 0 and theirs > 0:
        return abs(ours - theirs) <= distance
    return bool(ours == theirs)


@dataclass(frozen=True)
class DrawnCommand:
    """A command that a machine draws."""

    name: bytes
    draw: Draw
    compare: Compare
    weight: float
    mutate: bool
    shorten: Shorten | None = None


def command(
    name: str,
    *parts: Part,
    compare: Compare = exact,
    weight: float = 1.0,
    mutate: bool = True,
    shorten: Shorten | None = None,
) -> DrawnCommand:
    """A command and what its arguments are drawn from.

    Args:
        name: lower case; a subcommand is the first of the parts.
        parts: see the module's docstring.
        compare: asked only about replies that are not the same bytes.
        weight: how often it is drawn, beside the others' 1.
        mutate: whether an argument may be replaced, dropped or doubled now and then.
        shorten: simpler forms of a request, to try when a failing example is shortened; unless given, arguments are
            dropped and cut (not where `mutate` is off).
    """
    return DrawnCommand(name.encode(), drawn(parts), compare, weight, mutate, shorten)


# The state at the end -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """What to ask about each key of a type in the end; the arguments follow the key."""

    name: bytes
    arguments: tuple[bytes, ...] = ()
    compare: Compare = exact
    before: tuple[bytes, ...] = ()

    def request(self, key: bytes) -> Request:
        return (self.name, *self.before, key, *self.arguments)


def _stream_facts(step: Step) -> bool:
    """XINFO STREAM FULL, without the times of day and the shape of the server's radix tree."""
    dropped = (b"seen-time", b"active-time", b"radix-tree-keys", b"radix-tree-nodes")

    def without_times(value: Any) -> Any:
        if isinstance(value, dict):
            return {kind: without_times(items) for kind, items in value.items()}
        if not isinstance(value, list):
            return value
        kept: list[Any] = []
        at = 0
        while at < len(value):
            if value[at] in dropped and at + 1 < len(value):
                at += 2
                continue
            item = value[at]
            # An entry of a pending list is [id, (consumer,) time of delivery, count].
            if (
                isinstance(item, list)
                and len(item) in (3, 4)
                and isinstance(item[-1], int)
                and isinstance(item[-2], int)
            ):
                item = [*item[:-2], item[-1]]
            kept.append(without_times(item))
            at += 1
        return kept

    ours, theirs = step.values()
    return bool(without_times(ours) == without_times(theirs))


PROBES: dict[bytes, list[Probe]] = {
    b"string": [Probe(b"GET")],
    b"list": [Probe(b"LRANGE", (b"0", b"-1"))],
    b"set": [Probe(b"SMEMBERS", compare=unordered_if_hashtable)],
    b"zset": [Probe(b"ZRANGE", (b"0", b"-1", b"WITHSCORES"))],
    b"hash": [Probe(b"HGETALL", compare=unordered_pairs)],
    b"stream": [
        Probe(b"XRANGE", (b"-", b"+")),
        Probe(b"XINFO", (b"FULL", b"COUNT", b"0"), compare=_stream_facts, before=(b"STREAM",)),
    ],
}  # fmt: skip

_EXPIRY_TOLERANCE_MS = 3000
_ABOUT_KEY = (
    Probe(b"TYPE"),
    Probe(b"OBJECT", before=(b"ENCODING",)),
    Probe(b"PEXPIRETIME", compare=near(_EXPIRY_TOLERANCE_MS)),
)


# The machine --------------------------------------------------------------------------------------


def wanted_commands() -> int:
    """How many commands a run has to compare."""
    asked = os.environ.get("REDTAP_MACHINE_COMMANDS")
    if asked:
        return int(asked)
    return FUZZ_COMMANDS if settings().max_examples >= 1000 else USUAL_COMMANDS


Planned = tuple[Request, DrawnCommand]

_ALL_EVENTS = "KAmnoc"


@dataclass
class Example:
    """A sequence of commands, and how it is run."""

    resp3: bool
    config: dict[str, str]
    steps: list[Planned]
    # Whether keyspace events of all classes are on. Without them the engine takes other ways.
    has_events: bool = False

    def script(self) -> str:
        """The lines to type into redis-cli."""
        lines = [
            cli_line((b"CONFIG", b"SET", name.encode(), value.encode()))
            for name, value in self.config.items()
        ]
        lines += [f"CONFIG SET notify-keyspace-events {_ALL_EVENTS}"] if self.has_events else []
        lines += ["HELLO 3"] if self.resp3 else []
        return "\n".join([*lines, *(cli_line(request) for request, _ in self.steps)])


@dataclass
class Difference:
    """Where the two sides parted."""

    at: int  # index of the step; the number of steps for the state at the end
    text: str
    what: bytes  # the command's name; shrinking must not end at another's difference


@dataclass
class Outcome:
    """What a run did; for assertions and for the curious."""

    commands: int = 0
    examples: int = 0
    errors: int = 0
    seconds: float = 0.0
    by_name: dict[str, int] = field(default_factory=dict)


class Machine:
    """The commands of one group and how to draw sequences of them."""

    def __init__(
        self,
        name: str,
        commands: list[DrawnCommand],
        *,
        opening: list[DrawnCommand] | None = None,
        first: list[DrawnCommand] | None = None,
        configs: list[dict[str, str]] | None = None,
        databases: Iterable[int] = (0,),
        length: int = EXAMPLE_LENGTH,
        probes: dict[bytes, list[Probe]] | None = None,
    ) -> None:
        """Declare a machine.

        Args:
            name: of the group, for messages and for the fixed seeds of the profile `ci`.
            commands: what to draw from.
            opening: commands of which some begin each example, so that there are keys to work on.
            first: commands with which every example begins.
            configs: configuration parameters; each example runs under one of them.
            databases: whose keys the end compares.
            length: commands in an example.
            probes: what the end asks about keys of a type, instead of `PROBES`.
        """
        self.name = name
        self.commands = commands
        self.opening = opening or []
        self.first = first or []
        self.configs = configs or [{}]
        self.databases = list(databases)
        self.length = length
        self.probes = PROBES | (probes or {})

    # Drawing

    def example(self, seed: int) -> Example:
        """The example of a seed."""
        random = Random(f"{self.name}:{seed}")
        # At least a quarter of the commands, and the whole range of mixtures.
        share = random.choice((0.25, 0.5, 0.75, 1.0))
        chosen = [each for each in self.commands if random.random() < share] or self.commands
        weights = list(itertools.accumulate(each.weight * random.choice((0.3, 1, 1, 3)) for each in chosen))
        nastiness = random.choice((0, 0.01, 0.05))
        beginning = self.first + [each for each in self.opening if random.random() < 0.5]
        steps: list[Planned] = [((each.name, *each.draw(random)), each) for each in beginning]
        for each in random.choices(chosen, cum_weights=weights, k=self.length):
            arguments = each.draw(random)
            if each.mutate and random.random() < nastiness:
                arguments = _mutated(arguments, random)
            name = each.name if random.random() < 0.9 else each.name.swapcase()
            steps.append(((name, *arguments), each))
        config = self.configs[seed // 2 % len(self.configs)]
        return Example(seed % 2 == 1, config, steps, random.random() < 0.5)

    # Running

    def run(
        self, server: RealServer, at_least: int | None = None, *, engine: Engine | None = None
    ) -> Outcome:
        """Draw and compare until enough commands were compared.

        Args:
            server: the reference.
            at_least: the number of commands; `wanted_commands()` unless given.
            engine: ours; a new one unless given.

        Raises:
            AssertionError: the sides differ; the message holds the shortest script found.
        """
        wanted = wanted_commands() if at_least is None else at_least
        outcome = Outcome()
        begun = time.perf_counter()
        runner = Runner(server, self, make_engine() if engine is None else engine)
        try:
            for seed in self._seeds():
                example = self.example(seed)
                difference = runner.run(example)
                if difference is not None:
                    raise AssertionError(runner.explain(seed, example, difference))
                outcome.commands += len(example.steps)
                outcome.examples += 1
                for request, _ in example.steps:
                    name = request[0].lower().decode()
                    outcome.by_name[name] = outcome.by_name.get(name, 0) + 1
                if outcome.commands >= wanted:
                    break
        finally:
            runner.close()
        outcome.errors = runner.errors
        outcome.seconds = time.perf_counter() - begun
        if "REDTAP_MACHINE_SEED" not in os.environ:
            assert outcome.commands >= wanted
        # A machine that only ever sees errors shows nothing.
        assert outcome.errors < outcome.commands * 0.7, (
            f"{outcome.errors} of {outcome.commands} replies are errors"
        )
        return outcome

    def _seeds(self) -> Iterable[int]:
        asked = os.environ.get("REDTAP_MACHINE_SEED")
        if asked:
            return [int(asked)]
        first = 0 if settings().derandomize else int.from_bytes(os.urandom(6), "big") * 2
        return itertools.count(first)


def _mutated(arguments: list[bytes], random: Random) -> list[bytes]:
    """The arguments with something wrong."""
    changed = list(arguments)
    at = random.randrange(len(changed)) if changed else 0
    kind = random.randrange(6)
    if kind == 0 and changed:
        del changed[at]
    elif kind == 1 and changed:
        changed.insert(at, changed[at])
    elif kind == 2:
        changed.append(random.choice(_NASTY))
    elif changed:
        changed[at] = random.choice(_NASTY)
    return changed


_MARK = b"-- the end of the pipeline --"
_MARK_REQUEST = b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(_MARK), _MARK)
_MARK_REPLY = b"$%d\r\n%s\r\n" % (len(_MARK), _MARK)
_MARK_CHANNEL = b"__keyspace@0__:the end of the example"
_LISTEN: Request = (b"PSUBSCRIBE", b"__keyspace@*")
_MARK_MESSAGE = _MARK_CHANNEL + b"\r\n" + _MARK_REPLY


def encoded(request: Request) -> bytes:
    return b"*%d\r\n%s" % (len(request), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in request]))


class Runner:
    """Both sides of a run."""

    def __init__(self, server: RealServer, machine: Machine, engine: Engine) -> None:
        server.put_right()
        self.machine = machine
        self.engine = engine
        self._begun = time.monotonic()
        self.ours = OurClient(self.engine)
        self.theirs = server.connect()
        self.their_listener = server.connect()
        self.our_listener = OurClient(engine)
        for answer in (self._ask_listener(_LISTEN), self.our_listener.send(encoded(_LISTEN))):
            assert answer.startswith(b"*3\r\n$10\r\npsubscribe\r\n"), answer
        self.errors = 0
        names = sorted({name for config in machine.configs for name in config} | {"notify-keyspace-events"})
        self._defaults: dict[str, str] = {}
        for name in names:
            raw = self._pipeline([(b"CONFIG", b"GET", name.encode())])
            value = parse_one(raw)
            assert isinstance(value, list)
            self._defaults[name] = value[1].decode()

        # What has expired goes when it is looked at, on both sides, and not when the server happens to wake up.
        self._pipeline([(b"DEBUG", b"SET-ACTIVE-EXPIRE", b"0")])

    def close(self) -> None:
        self._configure({})
        self._pipeline([(b"DEBUG", b"SET-ACTIVE-EXPIRE", b"1")])
        self.theirs.close()
        self.their_listener.close()
        self.our_listener.session.close()

    def _ask_listener(self, request: Request) -> bytes:
        self.their_listener.sendall(encoded(request))
        return self.their_listener.recv(1 << 16)

    def _messages(self) -> tuple[list[bytes], list[bytes]]:
        """The keyspace events since the last call, in wire form: (ours, theirs)."""
        mark: Request = (b"PUBLISH", _MARK_CHANNEL, _MARK)
        self._pipeline([mark])
        theirs = b""
        while not theirs.endswith(_MARK_MESSAGE):
            chunk = self.their_listener.recv(1 << 20)
            assert chunk, "redis-server has closed the listening connection"
            theirs += chunk
        self._ask_ours(mark)
        self.engine.take_pending_sessions()
        ours = b"".join(self.our_listener.session.take_output())
        head = b"*4\r\n$8\r\npmessage\r\n"
        return ours.split(head)[1:-1], theirs.split(head)[1:-1]

    def _changes(self) -> tuple[int, int]:
        """What both sides would have to save, counted from their starts: (ours, theirs)."""
        request: Request = (b"INFO", b"persistence")
        found = [
            re.search(rb"rdb_changes_since_last_save:(\d+)", raw)
            for raw in (self._ask_ours(request), self._pipeline([request]))
        ]
        assert found[0] is not None
        assert found[1] is not None
        return int(found[0][1]), int(found[1][1])

    def _pipeline(self, requests: list[Request]) -> bytes:
        """All that the server answers, end to end."""
        self.theirs.sendall(b"".join([encoded(request) for request in requests]) + _MARK_REQUEST)
        chunks: list[bytes] = []
        tail = b""
        while not tail.endswith(_MARK_REPLY):
            chunk = self.theirs.recv(1 << 20)
            assert chunk, "redis-server has closed the connection"
            chunks.append(chunk)
            tail = (tail + chunk)[-len(_MARK_REPLY) :]
        return b"".join(chunks)[: -len(_MARK_REPLY)]

    def _ask_ours(self, request: Request) -> bytes:
        return self.ours.send(encoded(request))

    def _configure(self, config: dict[str, str]) -> None:
        for name, value in (self._defaults | config).items():
            request = (b"CONFIG", b"SET", name.encode(), value.encode())
            theirs = self._pipeline([request])
            assert theirs == b"+OK\r\n", f"{name}: {theirs!r}"
            ours = self._ask_ours(request)
            assert ours == b"+OK\r\n", f"{name}: ours {ours!r}"

    def _begin(self, example: Example) -> None:
        """Both sides empty, and a connection as new."""
        self._begun = time.monotonic()
        self._pipeline([(b"RESET",), (b"FLUSHALL",)])
        self.ours.session.close()
        self.ours = OurClient(self.engine)
        self._ask_ours((b"FLUSHALL",))
        self._configure(
            example.config | ({"notify-keyspace-events": _ALL_EVENTS} if example.has_events else {})
        )
        if example.resp3:
            self._pipeline([(b"HELLO", b"3")])
            self._ask_ours((b"HELLO", b"3"))

    def run(self, example: Example) -> Difference | None:
        """Run an example on both sides; None when they agree."""
        self._begin(example)
        before = self._changes()
        found, at = self._compare([(request, planned.compare) for request, planned in example.steps])
        ours, theirs = map(comparable_events, self._messages())
        if found is not None:
            return Difference(at, found, example.steps[at][1].name)
        after = self._changes()
        if after[0] - before[0] != after[1] - before[1]:
            text = f"changes to save: ours {after[0] - before[0]}, redis-server {after[1] - before[1]}"
            return Difference(len(example.steps), text, b"changes")
        if ours != theirs:
            return Difference(len(example.steps), _different_events(ours, theirs), b"events")
        found = self._compare_state()
        for database in self.engine.databases:
            database.check_invariants()
        return None if found is None else Difference(len(example.steps), f"in the end: {found}", b"")

    def _compare(self, steps: list[tuple[Request, Compare]]) -> tuple[str | None, int]:
        # RESET ends whatever the steps have begun: MULTI, a subscription, RESP3.
        theirs = self._pipeline([*(request for request, _ in steps), (b"RESET",)])
        session = self.ours.session
        now = now_us()
        position = 0
        for at, (request, compare) in enumerate(steps):
            session.data_received(encoded(request), now)
            if self.engine.mode & SCRIPT_BUSY:
                self.ours.finish_script()
            output = session.take_output()
            ours = output[0] if len(output) == 1 else b"".join(output)
            # A reply delimits itself: if theirs goes on with ours, it is ours.
            if ours and theirs.startswith(ours, position):
                position += len(ours)
                if ours[0] == 45:
                    self.errors += 1
                continue
            end = reply_end(theirs, position)
            elapsed_s = time.monotonic() - self._begun
            step = Step(request, ours, theirs[position:end], session, elapsed_s)
            position = end
            if not ours or not (compare(step) or any(each.applies(step) for each in EXPLAINED)):
                return f"{cli_line(request)}\n  ours:         {ours!r}\n  redis-server: {step.theirs!r}", at
        assert theirs[position:] == self._ask_ours((b"RESET",)) == b"+RESET\r\n"
        return None, len(steps)

    def _compare_state(self) -> str | None:
        """Keys, types, encodings, expire times and contents on both sides."""
        for index in self.machine.databases:
            select: tuple[Request, Compare] = ((b"SELECT", b"%d" % index), exact)
            found, _ = self._compare([select, ((b"KEYS", b"*"), unordered)])
            if found is not None:
                return f"database {index}: {found}"
            self._ask_ours(select[0])
            keys = plain(parse_one(self._ask_ours((b"KEYS", b"*"))))
            types = [parse_one(self._ask_ours((b"TYPE", key))) for key in keys]
            steps = [select]
            for key, kind in zip(keys, types, strict=True):
                assert isinstance(kind, SimpleString)
                steps += [
                    (probe.request(key), probe.compare)
                    for probe in (*_ABOUT_KEY, *self.machine.probes[kind.text])
                ]
            found, _ = self._compare(steps)
            if found is not None:
                return f"database {index}: {found}"
        return None

    # Shrinking

    def explain(self, seed: int, example: Example, difference: Difference) -> str:
        """Shorten the example and say what differs."""
        if self.run(example) is None:
            last = replace(example, steps=example.steps[: difference.at + 1][-20:])
            return (
                f"{self.machine.name}: ours differed from redis-server once, but not again with the same commands"
                f" (seed {seed}): time or chance is in it. The last of them:\n\n{last.script()}\n\n{difference.text}"
            )
        shorter, difference = self._shrink(example, difference)
        head = f"{self.machine.name}: ours differs from redis-server, after {len(shorter.steps)} commands"
        again = f"(REDTAP_MACHINE_SEED={seed} runs the whole example again)"
        return f"{head} {again}\n\n{shorter.script()}\n\n{difference.text}"

    def _shrink(self, example: Example, difference: Difference) -> tuple[Example, Difference]:
        steps = example.steps[: difference.at + 1]
        best = replace(example, steps=steps)
        tries = 0

        def fails(candidate: list[Planned], **changes: Any) -> bool:
            nonlocal best, difference, tries
            tries += 1
            attempt = replace(best, steps=candidate, **changes)
            found = self.run(attempt) if tries <= SHRINK_TRIES else None
            if found is None or found.what != difference.what:
                return False
            best, difference = attempt, found
            return True

        if not fails(steps):
            return example, difference
        if best.config:
            fails(best.steps, config={})
        if best.resp3:
            fails(best.steps, resp3=False)
        if best.has_events:
            fails(best.steps, has_events=False)
        size = len(best.steps) // 2
        while size > 0:
            at = 0
            while at < len(best.steps):
                if not fails(best.steps[:at] + best.steps[at + size :]):
                    at += size
            size = min(size // 2, len(best.steps) // 2) if size > 1 else 0
        progress = True
        while progress and tries < SHRINK_TRIES:
            progress = False
            for at in range(len(best.steps) - 1, -1, -1):
                if self._simpler(best, at, fails):
                    progress = True
            for at in range(len(best.steps) - 1, -1, -1):
                if at < len(best.steps) and fails(best.steps[:at] + best.steps[at + 1 :]):
                    progress = True
        return best, difference

    @staticmethod
    def _simpler(best: Example, at: int, fails: Callable[..., bool]) -> bool:
        """Drop and shorten the arguments of one command as long as the example fails."""
        if at >= len(best.steps):
            return False
        steps = list(best.steps)
        request, planned = steps[at]
        if planned.shorten is not None:
            return any(
                fails([*steps[:at], (each, planned), *steps[at + 1 :]]) for each in planned.shorten(request)
            )
        if not planned.mutate:
            return False
        changed = False
        position = len(request) - 1
        while position > 0:
            word = request[position]
            shorter = [] if len(word) < 2 else [b"a", b"1", word[: len(word) // 2]]
            for candidate in [request[:position] + request[position + 1 :]] + [
                (*request[:position], text, *request[position + 1 :]) for text in shorter if text != word
            ]:
                if fails([*steps[:at], (candidate, planned), *steps[at + 1 :]]):
                    request = candidate
                    changed = True
                    break
            position -= 1
        return changed


def _different_events(ours: list[bytes], theirs: list[bytes]) -> str:
    """Where two lists of messages part."""
    same = next((at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    at = min(len(ours), len(theirs)) if same is None else same
    return f"event {at}\n  ours:         {ours[at : at + 3]}\n  redis-server: {theirs[at : at + 3]}"


def reply_end(data: bytes, position: int) -> int:
    """Where the reply that begins at `position` ends."""
    line_end = data.index(b"\r\n", position) + 2
    mark = data[position]
    if mark in b"$=!":
        length = int(data[position + 1 : line_end - 2])
        return line_end if length < 0 else line_end + length + 2
    if mark in b"*~>%|":
        count = int(data[position + 1 : line_end - 2])
        if mark in b"%|":
            count *= 2
        for _ in range(count):
            line_end = reply_end(data, line_end)
        return reply_end(data, line_end) if mark == 124 else line_end
    return line_end


def cli_line(request: Request) -> str:
    """A request as a line for redis-cli."""
    return " ".join([_quoted(word) for word in request])


def _quoted(word: bytes) -> str:
    if word and all(33 <= byte < 127 and byte not in b"\"'\\" for byte in word):
        return word.decode()
    special = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}
    return '"' + "".join([special.get(b, chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in word]) + '"'
