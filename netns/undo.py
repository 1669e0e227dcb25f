"""One undo per step, and signals that wait until a step is whole.

Building a topology is a row of steps, each of which changes the kernel. A step and the entry that takes
it back must not be torn apart, so signals that would raise an exception in the middle are held until the
step and its undo are both in place (`held_signals`). Undoing is held as a whole: it runs to its end.

Invariant: `UndoStack.run` calls every entry exactly once, last first, whatever the others do.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from netns.errors import TopologyError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

_T = TypeVar("_T")

_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextmanager
def held_signals() -> Iterator[list[int]]:
    """Put off SIGINT, SIGTERM, SIGHUP and SIGQUIT until the block is left, then let them act as before.

    One that would have ended the process at once (no handler) becomes `SystemExit(128 + n)`, so that the
    caller's own clean-up still runs. Ignored ones stay ignored. Outside the main thread this does nothing,
    since Python delivers signals to the main thread only. The value is the list of those that have arrived.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    arrived: list[int] = []

    def hold(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)

    before = {}
    for signum in _HELD:
        handler = signal.getsignal(signum)
        if handler is not signal.SIG_IGN and handler is not None:
            before[signum] = handler
    try:
        for signum in before:
            signal.signal(signum, hold)
        yield arrived
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        for number in arrived:
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, None)
            else:
                raise SystemExit(128 + number)


class UndoStack:
    """The steps taken so far, each with the way back."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, Callable[[], None]]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, what: str, undo: Callable[[], None]) -> None:
        """Remember that `what` was done and that `undo()` takes it back."""
        self._entries.append((what, undo))

    def run(self) -> tuple[list[str], list[str]]:
        """Take everything back, last first.

        Returns:
            What was undone, and for each failure a short sentence.
        """
        undone: list[str] = []
        failed: list[str] = []
        with held_signals():
            while self._entries:
                what, undo = self._entries.pop()
                try:
                    undo()
                except Exception as exc:  # the other steps must be undone all the same
                    failed.append(f"{what} ({one_line(exc)})")
                else:
                    undone.append(what)
        return undone, failed


class Steps:
    """Runs steps one by one and keeps the way back from each.

    As a context manager it spans the whole of a building: an exception that leaves the block takes
    everything back. Ours (`TopologyError`) are told what was undone; others are wrapped in one; what is no
    `Exception` (KeyboardInterrupt, SystemExit) passes through after the undoing.
    """

    def __init__(self) -> None:
        self.undo = UndoStack()
        self._doing = "start"

    def take(
        self,
        doing: str,
        action: Callable[[], _T],
        done: str = "",
        undo: Callable[[_T], None] | None = None,
    ) -> _T:
        """Run `action()` and remember `undo(result)` as the way back from it.

        Args:
            doing: completes "cannot …" in an error.
            action: the step.
            done: a noun for what there is now, for the list of things undone.
            undo: the way back; None when another step's undo covers this one.

        Returns:
            What `action` returned.
        """
        with held_signals():
            self._doing = doing
            result = action()
            if undo is not None:
                self.undo.push(done, partial(undo, result))
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            return
        undone, failed = self.undo.run()
        if isinstance(exc, TopologyError):
            exc.undone += undone
            exc.not_undone += failed
        elif isinstance(exc, Exception):
            raise TopologyError(self._doing, exc, undone, failed) from exc


class Built:
    """What was built, and the way back."""

    def __init__(self, steps: Steps, notes: list[str]) -> None:
        self._undo = steps.undo
        self.notes = notes

    def close(self) -> None:
        """Undo everything, last first. Safe to call again.

        Raises:
            TopologyError: something could not be removed; everything else was.
        """
        undone, failed = self._undo.run()
        if failed:
            raise TopologyError("remove everything", "some steps could not be undone", undone, failed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except TopologyError as failure:
            if exc is None:
                raise
            exc.add_note(str(failure))  # the first error is the one to show
