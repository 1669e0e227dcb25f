"""Exception groups: nurseries raise them even for one failure, and one failure is what a caller can catch."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ungrouped"]


@contextmanager
def ungrouped() -> Iterator[None]:
    """Let an exception out bare when it is the only one of its group, or when all are our own errors.

    Of several errors of ours the first speaks for all: tasks that meet the same trouble (the link is gone)
    each raise it. A group with a bug in it stays whole.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = _leaves(group)
        if len(leaves) > 1 and not all(isinstance(leaf, ApplianceError) for leaf in leaves):
            raise
    else:
        return
    raise leaves[0]


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
