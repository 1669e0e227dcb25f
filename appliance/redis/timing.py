"""What becomes of the time a command took: counters, histogram, SLOWLOG and the latency monitor.

    stopwatch - handler - stopwatch --took()--> Command.took (commandstats, latencystats)
                                                LatencyMonitor.note ("command", "fast-command")
                                                Slowlog.add

Quick commands (`Command.is_quick`) are timed once in 64 calls, unless a threshold is so low that one of them
could reach it: then all are, at some cost (`_EXACT_BELOW_US`). A request that makes a long command of a quick
one (SADD of a thousand members, LPOP with a count) is timed, and stands for no other.

Source:     redis-server 8.2: what is logged and under which names. There every command is timed.
Units:      nanoseconds (took_ns), microseconds (took_us).
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis.engine_modes import EXACT_TIMES
from appliance.redis.latency import LatencyMonitor
from appliance.redis.registry import FAST, SAMPLED_OF, SKIP_SLOWLOG
from appliance.redis.slowlog import Slowlog

if TYPE_CHECKING:
    from appliance.redis.config import Configuration
    from appliance.redis.engine import Engine
    from appliance.redis.registry import Command
    from appliance.redis.session import Session

# A quick command takes some microseconds; with a value of megabytes, some hundreds.
_EXACT_BELOW_US: Final = 1000

_REDACTED: Final = b"(redacted)"


def shown_arguments(args: list[bytes], configuration: Configuration) -> list[bytes]:
    """A request as a log shows it: without the passwords in it."""
    name = args[0].lower()
    if name == b"auth":
        if len(args) not in (2, 3):
            return args
        return [args[0]] + [_REDACTED] * (len(args) - 1)
    if name == b"hello":
        at = 2
        while at < len(args):
            option = args[at].lower()
            if option == b"auth" and at + 2 < len(args):
                return [*args[: at + 1], _REDACTED, _REDACTED, *args[at + 3 :]]
            at += 2 if option == b"setname" else 1
        return args
    if name == b"migrate":
        return _shown_migrate(args)
    if name == b"config" and len(args) > 3 and args[1].lower() == b"set":
        shown = list(args)
        for at in range(2, len(args) - 1, 2):
            parameter = configuration.find(args[at])
            if parameter is not None and parameter.is_sensitive:
                shown[at + 1] = _REDACTED
        return shown
    return args


def _shown_migrate(args: list[bytes]) -> list[bytes]:
    shown = list(args)
    at = 6
    while at < len(args):
        option = args[at].lower()
        if option == b"auth" and at + 1 < len(args):
            at += 1
            shown[at] = _REDACTED
        elif option == b"auth2" and at + 2 < len(args):
            shown[at + 1] = shown[at + 2] = _REDACTED
            at += 2
        elif option not in (b"copy", b"replace"):
            break
        at += 1
    return shown


def _trimmed(number: float) -> str:
    """Up to six decimals."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


class Timing:
    """Where the times of one engine's commands go."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.slowlog = Slowlog()
        self.latency = LatencyMonitor()
        self.with_histograms = True
        self.percentiles: list[float] = []
        self._interval: i64 = SAMPLED_OF - 1  # calls of a quick command between two that are timed

    def configure(self, configuration: Configuration) -> None:
        """Follow CONFIG SET."""
        threshold_us = configuration.integer("slowlog-log-slower-than")
        self.slowlog.configure(threshold_us, configuration.integer("slowlog-max-len"))
        self.latency.threshold_ms = configuration.integer("latency-monitor-threshold")
        self.percentiles = [
            float(text) for text in configuration.text("latency-tracking-info-percentiles").split()
        ]
        self.with_histograms = configuration.is_on("latency-tracking")
        is_exact = 0 <= threshold_us < _EXACT_BELOW_US
        if is_exact != (self._interval == 0):
            self._interval = 0 if is_exact else SAMPLED_OF - 1
            for command in self.engine.registry.every():
                command.untimed = 0
        self.engine.set_mode(EXACT_TIMES, is_exact)

    def took(self, session: Session, command: Command, args: list[bytes], took_ns: i64) -> None:
        """A command has run."""
        if not command.is_quick:
            command.took(took_ns, self.with_histograms)
        elif len(args) > command.most_quick_arguments:
            command.took_alone(took_ns, self.with_histograms)
        else:
            command.untimed = self._interval
            command.took(took_ns, self.with_histograms)
        took_us = took_ns // 1000
        if self.latency.threshold_ms != 0:
            event = b"fast-command" if command.flags & FAST else b"command"
            self.latency.note(event, session.clock.now_s, took_us // 1000)
        threshold_us = self.slowlog.threshold_us
        if 0 <= threshold_us <= took_us and command.flags & SKIP_SLOWLOG == 0:
            shown = shown_arguments(args, self.engine.configuration)
            self.slowlog.add(session.clock.now_s, took_us, shown, session.remote.encode(), session.name)

    def took_direct(self, command: Command, took_ns: i64) -> None:
        """A quick command has run the short way (direct.py), too short for any log."""
        command.untimed = self._interval
        command.took(took_ns, self.with_histograms)

    def latency_facts(self) -> dict[str, str]:
        """INFO's section `latencystats`."""
        facts: dict[str, str] = {}
        if not self.with_histograms:
            return facts
        for command in self.engine.registry.every():
            histogram = command.histogram()
            if histogram is not None:
                facts[f"latency_percentiles_usec_{command.full_name.decode()}"] = ",".join(
                    [
                        f"p{_trimmed(each)}={histogram.percentile(each) / 1000:.3f}"
                        for each in self.percentiles
                    ]
                )
        return facts

    def event(self, event: bytes, took_ns: i64) -> None:
        """Something other than a command (`expire-cycle`) took its time."""
        if self.latency.threshold_ms != 0:
            self.latency.note(event, self.engine.clock.now_s, took_ns // 1_000_000)
