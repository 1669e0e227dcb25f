"""Doing something inside another network namespace without leaving ours.

A network namespace belongs to a thread (setns(2)): a fresh thread goes there, works, and ends, and the
rest of the process never notices. Sockets and TAPs opened there stay there; a process started there lives
there. No fork is involved, so this is safe while other threads run, as they do once trio has worker threads.

Namespaces are named by a `Place`: a name under /run/netns, a path, or None for the one we are in.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar

from pyroute2 import netns as kernel_netns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")

RUN_NETNS = "/run/netns"

_CLONE_NEWUSER = 0x1000_0000  # linux/sched.h
_CLONE_NEWNET = 0x4000_0000

Place: TypeAlias = "str | None"


def place_path(place: str) -> str:
    """The file that stands for the namespace `place`."""
    return place if "/" in place else f"{RUN_NETNS}/{place}"


def inside(place: Place, action: Callable[[], _T]) -> _T:
    """Run `action()` in the network namespace `place` and return what it returns.

    The call lasts as long as the action, a KeyboardInterrupt notwithstanding: it is raised afterwards.

    Raises:
        OSError: there is no such namespace, or CAP_SYS_ADMIN is missing.
        BaseException: whatever `action` raises.
    """
    if place is None:
        return action()

    def work() -> _T:
        enter(place)
        return action()

    return in_thread(work)


def in_thread(action: Callable[[], _T]) -> _T:
    """Run `action()` in a fresh thread, which may go to another namespace for it, as `inside` does."""
    results: list[_T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(action())
        except BaseException as exc:
            failures.append(exc)

    worker = threading.Thread(target=work, name="inside")
    worker.start()
    interrupted: KeyboardInterrupt | None = None
    while worker.is_alive():
        try:
            worker.join()
        except KeyboardInterrupt as exc:
            interrupted = exc
    if failures:
        raise failures[0]
    if interrupted is not None:
        raise interrupted
    return results[0]


def spawn(
    place: Place,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` inside `place`: a child inherits the namespace of the thread that starts it.

    The caller waits for it and ends it. The arguments are those of `subprocess.Popen`.

    Raises:
        OSError: no such program, no such namespace.
    """
    return inside(
        place,
        lambda: subprocess.Popen(list(argv), env=env, stdin=stdin, stdout=stdout, stderr=stderr),
    )


def enter(place: str) -> None:
    """Move this thread into `place` for good; meant to be followed by an exec."""
    descriptor = os.open(place_path(place), os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel_netns.setns(descriptor)
    finally:
        os.close(descriptor)


def enter_user_namespace(user_path: str, net_path: str) -> None:
    """Move this process into a user namespace and the network namespace it owns; needs a single thread.

    Raises:
        OSError: the two are another user's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Both are opened first: from inside the user namespace /proc would be looked at with other eyes.
    with open(user_path, "rb") as user, open(net_path, "rb") as net:
        for descriptor, kind in ((user.fileno(), _CLONE_NEWUSER), (net.fileno(), _CLONE_NEWNET)):
            if libc.setns(descriptor, kind) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))


def processes(place: Place) -> list[int]:
    """Ids of the processes that live in `place`, without ourselves and those we may not look at."""
    wanted = os.stat("/proc/self/ns/net" if place is None else place_path(place))
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            here = os.stat(f"/proc/{entry}/ns/net")
        except OSError:  # it has ended, or it is somebody else's
            continue
        if (here.st_dev, here.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry))
    return found
