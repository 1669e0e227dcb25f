"""A place where one task waits to be woken.

Lighter than `trio.Event` and its parking lot: one slot, no allocation while nobody waits. The caller looks
at its condition before it waits and again after it wakes; waking with nobody there does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Waiter"]


class Waiter:
    """At most one waiting task; a second one gets `trio.BusyResourceError`."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Sleep until `wake`; a checkpoint."""
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting for the same thing")
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def wake(self) -> bool:
        """Wake the waiting task; False when there is none."""
        task = self._task
        if task is None:
            return False
        self._task = None
        trio.lowlevel.reschedule(task)
        return True

    def _abort(self, _raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
