"""Commands to look at a server at work: MONITOR, SLOWLOG, LATENCY.

Source:     https://redis.io/docs/latest/commands/?group=server; order of checks, texts and forms from
            redis-server 8.2. The advice of LATENCY DOCTOR is in our own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.redis import errors
from appliance.redis.errors import CommandError
from appliance.redis.integers import parse_integer
from appliance.redis.replies import NO_REPLY, OK, Map, Verbatim
from appliance.redis.session import MONITORING

if TYPE_CHECKING:
    from appliance.redis.latency import Samples
    from appliance.redis.registry import Command, Handler
    from appliance.redis.session import Session


def monitor(session: Session, args: list[bytes]) -> object:
    if session.denies_blocking:
        # In a transaction it would have to listen to itself.
        raise CommandError(b"ERR MONITOR isn't allowed for DENY BLOCKING client")
    if session.mode & MONITORING:
        return NO_REPLY  # as there
    session.mode |= MONITORING
    session.engine.monitors.add(session)
    return OK


# SLOWLOG ------------------------------------------------------------------------------------------


def slowlog_get(session: Session, args: list[bytes]) -> object:
    count = 10
    if len(args) > 3:
        raise CommandError(errors.unknown_subcommand_or_arity(b"slowlog", args[1]))
    if len(args) == 3:
        number = parse_integer(args[2])
        if number is None or number < -1:
            raise CommandError(b"ERR count should be greater than or equal to -1")
        count = number
    entries = list(session.engine.timing.slowlog.entries)
    if count >= 0:
        entries = entries[:count]
    return [
        [each.number, each.now_s, each.took_us, list(each.args), each.remote, each.name] for each in entries
    ]


def slowlog_len(session: Session, args: list[bytes]) -> object:
    return len(session.engine.timing.slowlog.entries)


def slowlog_reset(session: Session, args: list[bytes]) -> object:
    session.engine.timing.slowlog.clear()
    return OK


# LATENCY ------------------------------------------------------------------------------------------


def latency_latest(session: Session, args: list[bytes]) -> object:
    found: list[object] = []
    for event, samples in session.engine.timing.latency.events.items():
        now_s, took_ms = samples.moments[-1]
        found.append([event, now_s, took_ms, samples.longest_ms])
    return found


def latency_history(session: Session, args: list[bytes]) -> object:
    samples = session.engine.timing.latency.events.get(args[2])
    if samples is None:
        return []
    return [[now_s, took_ms] for now_s, took_ms in samples.moments]


def latency_reset(session: Session, args: list[bytes]) -> object:
    return session.engine.timing.latency.forget(args[2:])


def latency_histogram(session: Session, args: list[bytes]) -> object:
    registry = session.engine.registry
    flat: list[object] = []
    if len(args) == 2:
        for command in registry.every():
            _append_histogram(flat, command)
        return Map(flat)
    for name in args[2:]:
        container, mark, subcommand = name.lower().partition(b"|")
        found = registry.commands.get(container)
        if found is not None and mark:
            found = None if found.subcommands is None else found.subcommands.get(subcommand)
        if found is None:
            continue
        _append_histogram(flat, found)
        if found.subcommands is not None:
            for each in found.subcommands.values():
                _append_histogram(flat, each)
    return Map(flat)


def _append_histogram(flat: list[object], command: Command) -> None:
    histogram = command.histogram()
    if histogram is None:
        return
    pairs: list[object] = []
    for limit_us, count in histogram.cumulative():
        pairs += [limit_us, count]
    flat += [command.full_name, Map([b"calls", int(histogram.total), b"histogram_usec", Map(pairs)])]


# The picture: a column for each sample, each row of characters cut into three heights.
_COLUMNS: Final = 80
_ROWS: Final = 4
_HEIGHTS: Final = "_o#"
_FILLED: Final = "|"


def _age(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def picture(values: list[int], labels: list[str]) -> str:
    """Columns of the heights of the values, each over its label, which is written downwards."""
    low = min(values)
    span = max(values) - low or 1
    steps = _ROWS * len(_HEIGHTS)
    lines: list[str] = []
    for start in range(0, len(values), _COLUMNS):
        if start > 0:
            lines.append("")
        heights = [
            min((value - low) * steps // span, steps - 1) for value in values[start : start + _COLUMNS]
        ]
        for row in range(_ROWS - 1, -1, -1):
            line = ""
            for height in heights:
                at = height - row * len(_HEIGHTS)
                line += " " if at < 0 else _HEIGHTS[at] if at < len(_HEIGHTS) else _FILLED
            lines.append(line)
        lines.append(" " * len(heights))
        below = labels[start : start + _COLUMNS]
        deepest = max([len(label) for label in below])
        lines += ["".join([label[depth : depth + 1] or " " for label in below]) for depth in range(deepest)]
    return "\n".join(lines) + "\n"


def latency_graph(session: Session, args: list[bytes]) -> object:
    event = args[2]
    samples = session.engine.timing.latency.events.get(event)
    if samples is None:
        raise CommandError(b"ERR No samples available for event '" + errors.quoted(event, len(event)) + b"'")
    now_s = session.clock.now_s
    values = [took_ms for _, took_ms in samples.moments]
    labels = [_age(max(0, now_s - when_s)) for when_s, _ in samples.moments]
    head = f"high {max(values)} ms, low {min(values)} ms (all time high {samples.longest_ms} ms)"
    return Verbatim(event + b" - " + f"{head}\n{'-' * _COLUMNS}\n{picture(values, labels)}".encode())


_ADVICE: Final = {
    b"command": "SLOWLOG GET names the slow commands.",
    b"fast-command": "A command that is O(1) took long: look for a busy machine, or very long arguments.",
    b"expire-cycle": "Many keys expire at once: spread their times.",
    b"eviction-cycle": "Making room for writes takes long: raise maxmemory, or look for very large values.",
}


def _spell(event: bytes, samples: Samples) -> str:
    values = [took_ms for _, took_ms in samples.moments]
    average = sum(values) // len(values)
    deviation = sum([abs(value - average) for value in values]) // len(values)
    span_s = samples.moments[-1][0] - samples.moments[0][0]
    period = span_s / (len(values) - 1) if len(values) > 1 else 0.0
    return (
        f"{event.decode('latin-1')}: {len(values)} latency spikes (average {average}ms, mean deviation "
        f"{deviation}ms, period {period:.2f} sec). Worst all time event {samples.longest_ms}ms."
    )


def latency_doctor(session: Session, args: list[bytes]) -> object:
    timing = session.engine.timing
    latency = timing.latency
    if len(latency.events) == 0:
        if latency.threshold_ms == 0:
            return Verbatim(
                b"The latency monitor is off. "
                b"CONFIG SET latency-monitor-threshold <milliseconds> switches it on.\n"
            )
        return Verbatim(b"Nothing has taken as long as latency-monitor-threshold. All is well.\n")
    lines = [f"{at}. {_spell(event, each)}" for at, (event, each) in enumerate(latency.events.items(), 1)]
    advice: list[str] = []
    threshold_us = timing.slowlog.threshold_us
    if b"command" in latency.events and not 0 <= threshold_us <= latency.threshold_ms * 1000:
        advice.append(
            "SLOWLOG keeps less than the latency monitor sees: CONFIG SET slowlog-log-slower-than "
            f"{latency.threshold_ms * 1000}"
        )
    advice += [text for event, text in _ADVICE.items() if event in latency.events]
    text = "\n".join(lines) + "\n"
    if advice:
        text += "\n" + "\n".join([f"- {each}" for each in advice]) + "\n"
    return Verbatim(text.encode())


HANDLERS: Final[dict[str, Handler]] = {
    "latency|doctor": latency_doctor,
    "latency|graph": latency_graph,
    "latency|histogram": latency_histogram,
    "latency|history": latency_history,
    "latency|latest": latency_latest,
    "latency|reset": latency_reset,
    "monitor": monitor,
    "slowlog|get": slowlog_get,
    "slowlog|len": slowlog_len,
    "slowlog|reset": slowlog_reset,
}
