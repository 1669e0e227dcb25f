"""The machine as the system tests see it, and `redtap` as a process on it."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from netns.inside import enter
from tests.support.links import LINK

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
_NUMBERS = itertools.count(1)


def fresh_name(what: str = "t") -> str:
    """A name for a namespace that no other test, and no other run of the tests, uses."""
    return f"rt{what}-{os.getpid()}-{next(_NUMBERS)}"


def namespaces(part: str) -> list[str]:
    """Namespaces under /run/netns whose name contains `part`."""
    try:
        return sorted(name for name in os.listdir("/run/netns") if part in name)
    except FileNotFoundError:
        return []


def records(part: str) -> list[str]:
    """Files under /run/redtap whose name contains `part`."""
    try:
        return sorted(name for name in os.listdir("/run/redtap") if part in name)
    except FileNotFoundError:
        return []


def host_links() -> list[str]:
    """Names of the links of the namespace this thread is in."""
    return sorted(name for _, name in socket.if_nameindex())


def sh(command: str) -> str:
    """Run a shell command that has to succeed; its output."""
    done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """Ours, without settings from outside, with the tree under test on the path.

    An appliance that does not name a link gets the one of `tests.support.links`.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REDTAP_", "REDIS", "XDG_RUNTIME_DIR")) or name == "REDTAP_PURE"
    }
    if LINK != "tap":
        kept["REDTAP_LINK"] = LINK
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def redtap(
    *arguments: str, prefix: tuple[str, ...] = (), stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `redtap` to its end."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "appliance", *arguments],
        env=environment(),
        cwd="/",
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


class Running:
    """A `redtap` in the background; `ready` is its first line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ready = read_line(process)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait; exit status and standard error."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, err


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line of its standard output, or an AssertionError with its standard error."""
    assert process.stdout is not None
    assert process.stderr is not None
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    line = process.stdout.readline() if readable else ""
    if not line:
        process.kill()
        raise AssertionError(f"no line from {process.args}: {process.stderr.read()}")
    return line.rstrip("\n")


@contextmanager
def running(*arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[Running]:
    """`redtap` in the background, ready; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "appliance", *arguments],
        env=environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Running(process)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()


# An ordinary user that no other run of the tests is at the same time, since each has a directory in /tmp.
NOBODY_ID = 2_000_000 + os.getpid()
NOBODY = ("setpriv", f"--reuid={NOBODY_ID}", f"--regid={NOBODY_ID}", "--clear-groups")


def why_nobody_cannot_run_python() -> str | None:
    """A reason to skip: the interpreter, or the tree under test, may lie where only root can read."""
    done = subprocess.run(
        [*NOBODY, sys.executable, "-c", "import appliance, netns.rootless"],
        env=environment(),
        cwd="/",
        capture_output=True,
        timeout=PATIENCE_S,
    )
    return None if done.returncode == 0 else f"an ordinary user cannot run {sys.executable} in {ROOT}"


@contextmanager
def network_namespace() -> Iterator[str]:
    """A namespace of the test's own, loopback up."""
    name = fresh_name("ns")
    sh(f"ip netns add {name}; ip -n {name} link set lo up")
    try:
        yield name
    finally:
        sh(f"ip netns del {name}")


@contextmanager
def another_host() -> Iterator[None]:
    """For the length of the block this thread, and what it starts, has a namespace of its own for the host's.

    For tests that look at all there is: nobody else makes links there.
    """
    with network_namespace() as name, open("/proc/thread-self/ns/net", "rb") as here:
        enter(name)
        try:
            yield
        finally:
            enter(f"/proc/self/fd/{here.fileno()}")


def wait_until(condition: object, what: str) -> None:
    """Poll something the kernel does in its own time (removal of a dead process's link, carrier)."""
    assert callable(condition)
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"still waiting: {what}")
        time.sleep(0.01)
