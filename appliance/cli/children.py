"""The command that `redtap exec` runs: started beside the kernel's end, given our signals, waited for.

Invariants: when `run_child` returns or raises, the command has ended and was waited for. When
            `end_leftovers` has returned, nothing that the command started lives in the namespace any more.
Signals:    SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGINT and SIGQUIT are passed on. Ctrl-C and Ctrl-\\ are not:
            the terminal sends them to the whole foreground process group, the command included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

import trio

from netns.inside import Place, processes, spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

_FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)

# How long a command may go on when its appliance has gone (SHUTDOWN may have been its last request), and how
# long after SIGTERM.
_GRACE_S: Final = 2.0
_TERM_S: Final = 3.0


async def run_child(
    place: Place, argv: Sequence[str], env: Mapping[str, str], report: Callable[[int], None]
) -> None:
    """Run `argv` in `place` until it ends; `report` gets its exit status, 128 + n when signal n ended it.

    Cancelled, it lets the command finish for a moment, then sends SIGTERM, then SIGKILL; the status is
    reported then as well.

    Raises:
        OSError: it cannot be started.
    """
    # Those that we were told to ignore, as by nohup, stay ignored, for the command too.
    forwarded = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    with trio.open_signal_receiver(*forwarded) as signals:
        child = await trio.to_thread.run_sync(lambda: spawn(place, argv, env=env))
        forwarding = trio.CancelScope(shield=True)  # as long as the command lives, cancelled or not
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_forward, signals, child, forwarding)
            try:
                await _wait(child)
            finally:
                with trio.CancelScope(shield=True):
                    await _end(child)
                report(exit_status(child.returncode))
                forwarding.cancel()


def exit_status(returncode: int) -> int:
    """The status a shell would report for a child: its own, or 128 + n when signal n ended it."""
    return 128 - returncode if returncode < 0 else returncode


async def _forward(
    signals: AsyncIterator[int], child: subprocess.Popen[bytes], scope: trio.CancelScope
) -> None:
    with scope:
        async for number in signals:
            if number in _FROM_TERMINAL and _in_foreground():
                continue
            child.send_signal(number)


def _in_foreground() -> bool:
    """Whether the terminal's keys reach our process group, and with it the command."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


async def _wait(child: subprocess.Popen[bytes]) -> None:
    try:
        descriptor = os.pidfd_open(child.pid)
    except OSError:  # a kernel before 5.3, or a sandbox that knows no such call
        await trio.to_thread.run_sync(child.wait, abandon_on_cancel=True)
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    child.wait()


async def _end(child: subprocess.Popen[bytes]) -> None:
    for number, patience_s in ((None, _GRACE_S), (signal.SIGTERM, _TERM_S), (signal.SIGKILL, float("inf"))):
        if child.poll() is not None:
            return
        if number is not None:
            child.send_signal(number)
        with trio.move_on_after(patience_s):
            await _wait(child)


def end_leftovers(place: Place) -> int:
    """End what the command left running in `place`, SIGTERM first; how many there were.

    Only for a namespace of our own: nobody else has business in there.
    """
    left = processes(place)
    count = len(left)
    for number, patience_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        give_up_at = time.monotonic() + patience_s
        while left and time.monotonic() < give_up_at:
            time.sleep(0.01)
            left = [pid for pid in processes(place) if not _is_zombie(pid)]
        if not left:
            break
    return count


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return True
