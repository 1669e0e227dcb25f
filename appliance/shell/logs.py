"""Structured logs: one line per event, `text` for people or `json` for machines, on standard error.

Invariants: a message below the level costs one method call that does nothing: values are passed as they
            are and formatted after the level check. Nothing on the way of a frame logs at all.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

if TYPE_CHECKING:
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["LEVELS", "LOG_FORMATS", "configure_logs", "get_logger"]

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
LOG_FORMATS: Final = ("text", "json")


def configure_logs(level: str = "info", log_format: str = "text", stream: TextIO | None = None) -> None:
    """Set level and form of all logs of the process; call it once, before the first message.

    Args:
        level: A key of `LEVELS`.
        log_format: One of `LOG_FORMATS`.
        stream: Where to; None is standard error.

    Raises:
        KeyError: No such level.
        ValueError: No such format.
    """
    if log_format not in LOG_FORMATS:
        raise ValueError(f"no log format {log_format!r}")
    out = sys.stderr if stream is None else stream
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )


def get_logger(area: str, **values: Any) -> FilteringBoundLogger:
    """A logger whose messages carry `area` and `values`; it may be made before `configure_logs`."""
    return cast("FilteringBoundLogger", structlog.get_logger(area=area, **values))
