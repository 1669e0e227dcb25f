"""The command of `redtap exec`, in our own namespace: its status, its signals, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import trio

from appliance.cli import children
from appliance.cli.children import exit_status, run_child

ENV = dict(os.environ)


async def status_of(argv: list[str], env: dict[str, str] | None = None) -> int:
    reported: list[int] = []
    await run_child(None, argv, env or ENV, reported.append)
    (status,) = reported
    return status


@pytest.mark.parametrize(("returncode", "status"), [(0, 0), (7, 7), (255, 255), (-9, 137), (-15, 143)])
def test_exit_status_is_a_shells(returncode: int, status: int) -> None:
    assert exit_status(returncode) == status


async def test_run_child_returns_the_status() -> None:
    assert await status_of(["sh", "-c", "exit 7"]) == 7
    assert await status_of(["sh", "-c", "kill -USR1 $$"]) == 128 + signal.SIGUSR1
    assert await status_of(["sh", "-c", 'test "$A" = b'], {**ENV, "A": "b"}) == 0


async def test_run_child_that_cannot_start_raises() -> None:
    with pytest.raises(FileNotFoundError):
        await status_of(["/no/such/program"])
    with pytest.raises(PermissionError):
        await status_of(["/dev/null"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
async def test_run_child_gets_our_signals(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    """The child tells that its trap is set by signalling us, so that nothing has to sleep."""
    script = f"trap 'exit 5' {number.name[3:]}; kill -WINCH $PPID; while :; do sleep 0.01; done"
    status = []

    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGWINCH) as ready:

            async def run() -> None:
                status.append(await status_of(["sh", "-c", script]))

            nursery.start_soon(run)
            await anext(aiter(ready))
            signal.raise_signal(number)
    assert status == [5]


async def test_run_child_of_an_ignored_signal_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        assert await status_of(["sh", "-c", "kill -USR1 $$; exit 3"]) == 3
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
async def test_run_child_cancelled_leaves_no_process(trap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_GRACE_S", 0.01)
    monkeypatch.setattr(children, "_TERM_S", 0.01)
    started: list[subprocess.Popen[bytes]] = []
    reported: list[int] = []
    real = children.spawn

    def spawn(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(real(*arguments, **options))  # type: ignore[arg-type]
        return started[0]

    monkeypatch.setattr(children, "spawn", spawn)
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGWINCH) as ready:
            script = f"{trap}kill -WINCH $PPID; while :; do sleep 0.01; done"
            nursery.start_soon(run_child, None, ["sh", "-c", script], ENV, reported.append)
            await anext(aiter(ready))
            nursery.cancel_scope.cancel()
    expected = signal.SIGKILL if trap else signal.SIGTERM
    assert started[0].returncode == -expected
    assert reported == [128 + expected]


async def test_run_child_that_ends_by_itself_after_a_cancellation_reports_its_status() -> None:
    """Its last request may have been SHUTDOWN: it is not to be punished for that."""
    reported: list[int] = []
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGWINCH) as ready:
            script = "trap 'exit 4' USR2; kill -WINCH $PPID; while :; do sleep 0.01; done"
            nursery.start_soon(run_child, None, ["sh", "-c", script], ENV, reported.append)
            await anext(aiter(ready))
            nursery.cancel_scope.cancel()
            signal.raise_signal(signal.SIGUSR2)
    assert reported == [4]


def test_in_foreground_is_false_without_a_terminal() -> None:
    program = "from appliance.cli.children import _in_foreground; raise SystemExit(_in_foreground())"
    done = subprocess.run([sys.executable, "-c", program], start_new_session=True, timeout=60)
    assert done.returncode == 0
