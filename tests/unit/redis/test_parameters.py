"""The table of parameters: what it says of itself is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.redis.config import Configuration
from appliance.redis.errors import CommandError
from appliance.redis.parameters import Parameter, load_parameters, parse_memory
from tests.support.config_page import PAGE, page

SOURCES = [
    path.read_text()
    for path in (Path(__file__).parents[3] / "appliance").rglob("*.py")
    if path.name not in ("parameters.py", "config_file.py")
]


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text() == page(), "python -m tests.support.config_page writes it"


@pytest.mark.parametrize("parameter", load_parameters(), ids=lambda parameter: parameter.name.decode())
def test_a_default_is_a_value_that_shows_as_itself(parameter: Parameter) -> None:
    words = parameter.words(parameter.default)
    if parameter.kind == "master":
        return
    if parameter.is_list and not words:
        words = [b""]
    assert parameter.read(words, parameter.default) == parameter.default
    assert parameter.effect in ("yes", "part", "no")
    assert parameter.summary.endswith(".")


def test_a_parameter_that_is_said_to_count_is_read_somewhere() -> None:
    unread = [
        parameter.name.decode()
        for parameter in load_parameters()
        if parameter.effect == "yes"
        and parameter.kind != "events"
        and not any(f'"{parameter.name.decode()}"' in source for source in SOURCES)
    ]
    assert unread == []


def test_a_follower_that_refuses_takes_all_of_it_back() -> None:
    configuration = Configuration({})
    told: list[tuple[str, bytes]] = []

    def follow(value: bytes) -> None:
        told.append(("timeout", value))

    def refuse(value: bytes) -> None:
        raise ValueError("no such port")

    configuration.on_change("timeout", follow)
    configuration.on_change("port", refuse)
    with pytest.raises(CommandError, match="no such port"):
        configuration.set_many([(b"timeout", b"5"), (b"hz", b"7"), (b"port", b"9")])
    assert told == [("timeout", b"5"), ("timeout", b"0")]
    assert [configuration.text(name) for name in ("timeout", "hz", "port")] == [b"0", b"10", b"6379"]
    # What does not change is not told.
    configuration.set_many([(b"port", b"6379"), (b"timeout", b"0")])
    assert len(told) == 2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (b"1kb", 1024),
        (b"1k", 1000),
        (b"2MB", 2 << 20),
        (b"", 0),
        (b"b", 0),
        (b"1tb", None),
        (b"-1", None),
        (b"1.5mb", None),
    ],
)
def test_sizes(text: bytes, size: int | None) -> None:
    assert parse_memory(text) == size
