"""Logs: form, level, and nothing done below the level."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
import structlog

from appliance.shell.logs import configure_logs, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _defaults_afterwards() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_is_one_object_a_line_with_area_and_values() -> None:
    stream = io.StringIO()
    log = get_logger("redis")
    configure_logs("info", "json", stream)
    log.info("accepted", remote="10.0.0.1:5")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "accepted", "level": "info", "area": "redis", "remote": "10.0.0.1:5"}


def test_text_names_level_event_and_values() -> None:
    stream = io.StringIO()
    configure_logs("warning", "text", stream)
    get_logger("redis").warning("odd", value=3)
    assert "warning" in stream.getvalue()
    assert "odd" in stream.getvalue()
    assert "value=3" in stream.getvalue()


def test_exception_has_its_traceback_in_both_forms() -> None:
    for log_format in ("text", "json"):
        stream = io.StringIO()
        configure_logs("info", log_format, stream)
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            get_logger("redis").exception("failed")
        assert "ZeroDivisionError" in stream.getvalue()


def test_below_the_level_nothing_is_formatted() -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise AssertionError("formatted")

    stream = io.StringIO()
    configure_logs("warning", "json", stream)
    get_logger("redis").info("quiet", value=Unprintable())
    get_logger("redis").debug("quiet", value=Unprintable())
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("level", "log_format"), [("loud", "text"), ("info", "xml")])
def test_unknown_level_or_form_is_an_error(level: str, log_format: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        configure_logs(level, log_format)
