"""Flags made from the list of settings.

click parses no value: every flag arrives as text and goes to `appliance.config`, which knows where else a
value may come from and says in one line what is wrong with it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from appliance.config import OPTIONS, Settings, load, option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_F = TypeVar("_F", bound="Callable[..., Any]")

ALL: Final = tuple(entry.field for entry in OPTIONS)
CONTROL: Final = ("netns", "control", "config")
TOPOLOGY: Final = ("netns", "tap", "client_address", "mtu", "config")


def _shown_default(field: str) -> str | None:
    value = getattr(Settings(), field)
    return None if value in (None, "") else str(value)


def setting_options(fields: tuple[str, ...] = ALL) -> Callable[[_F], _F]:
    """A decorator that gives a command the flags of `fields`; they arrive as keywords of those names."""

    def decorate(function: _F) -> _F:
        for field in reversed(fields):
            entry = option(field)
            default = _shown_default(field)
            function = click.option(
                entry.flag,
                field,
                metavar=entry.metavar,
                type=str,
                default=None,
                help=entry.help + (f" [{default}]" if default else ""),
            )(function)
        return function

    return decorate


def settle(flags: dict[str, str | None], redis: Mapping[str, tuple[str, str]] | None = None) -> Settings:
    """The settings of this process, from the flags that a command got and what a redis.conf says."""
    return load(flags, os.environ, redis)
