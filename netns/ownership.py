"""Who made what: a locked record for every namespace (or link taken over) of ours.

A record is a file `<run directory>/<name>.lock`. Its owner holds an flock on it for life, so the kernel
itself says whether the owner lives: a lock that can be had has no living owner, whatever became of it,
and a record found behind such a lock tells what is left over. A live owner's things are never touched.

The record is written *before* the thing is made and completed after, so that a death in between leaves a
name rather than a riddle. Facts in it:
    pid        of the owner, for messages only; it decides nothing
    namespace  name of the namespace made
    inode      of the namespace, so that another one that took the name later is not mistaken for ours
    kept       True when it shall outlive its maker (`redtap netns up`)
    paths      files to unlink once the owner is dead (a control socket)
    takeover   what a taken-over link looked like before (netns.takeover)
    xdp        namespace and index of a link with a program that outlives its owner (netns.attach)

Invariant: the file under the lock is the file under the name (a file may be unlinked between open and flock).
Errors:    NameInUse, one line; OSError when the directory cannot be written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

from netns.errors import NameInUse

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_DIRECTORY: Final = "/run/redtap"
_SUFFIX: Final = ".lock"

# Someone who sweeps holds each lock for an instant; a live owner holds it for good. Waiting this long tells
# them apart.
_PATIENCE_S: Final = 0.5
_RETRY_S: Final = 0.01


class Ownership:
    """The lock on one name, held until `release`. `found` is what a dead owner had written, or {}."""

    def __init__(self, name: str, path: str, descriptor: int, found: dict[str, Any]) -> None:
        self.name = name
        self.path = path
        self.found = found
        self._descriptor = descriptor

    def record(self, facts: dict[str, Any]) -> None:
        """Replace the record by `facts` and our pid."""
        text = json.dumps({"pid": os.getpid(), **facts}).encode()
        # One write over the old text, then cut: a reader sees either JSON or, for an instant, JSON with a
        # tail, which reads as no record; it never decides over a live owner anyway.
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def release(self, *, keep: bool = False) -> None:
        """Give the name up; with `keep` the record stays for the next one. Safe to call again."""
        if self._descriptor < 0:
            return
        if not keep:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = -1
        with contextlib.suppress(OSError):  # others live there, or it is not ours to remove
            os.rmdir(os.path.dirname(self.path))


def _lock(path: str) -> int | None:
    """A descriptor of the locked file at `path`, made if need be; None while somebody else holds it."""
    while True:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            continue  # the last owner of anything removed the directory in between
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.stat(path).st_ino == os.fstat(descriptor).st_ino
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            same = False
        if same:
            return descriptor
        os.close(descriptor)  # its owner unlinked it in between: take the new one


def _parse(text: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def dead_owner(found: dict[str, Any]) -> str:
    """Who left behind what the record speaks of, for messages."""
    return f"a redtap that died (pid {found.get('pid', 'unknown')})"


def unlink_paths(found: dict[str, Any]) -> None:
    """Unlink the files of an owner that is dead."""
    for path in found.get("paths") or ():
        if isinstance(path, str):
            with contextlib.suppress(OSError):
                os.unlink(path)


def read_record(name: str, run_directory: str = RUN_DIRECTORY) -> dict[str, Any]:
    """The record of `name` as it is now, {} without one. For showing; holds nothing."""
    try:
        with open(os.path.join(run_directory, name + _SUFFIX), "rb") as file:
            return _parse(file.read())
    except OSError:
        return {}


def is_owned(name: str, run_directory: str = RUN_DIRECTORY) -> bool:
    """Whether a living process owns `name` at this moment."""
    path = os.path.join(run_directory, name + _SUFFIX)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def acquire(name: str, run_directory: str = RUN_DIRECTORY) -> Ownership:
    """Become the owner of `name`.

    Raises:
        NameInUse: a living process is.
        OSError: the directory cannot be made or written.
    """
    path = os.path.join(run_directory, name + _SUFFIX)
    give_up_at = time.monotonic() + _PATIENCE_S
    while (descriptor := _lock(path)) is None:
        if time.monotonic() >= give_up_at:
            pid = read_record(name, run_directory).get("pid", "unknown")
            raise NameInUse(
                f"the name {name} is in use by a running redtap (pid {pid})",
                "stop it, or choose another --netns",
            )
        time.sleep(_RETRY_S)
    return Ownership(name, path, descriptor, _parse(os.pread(descriptor, 1 << 20, 0)))


def orphans(run_directory: str = RUN_DIRECTORY) -> Iterator[Ownership]:
    """Every record whose owner is dead, locked while the caller looks at it.

    The caller releases each. Records of living owners are passed over.
    """
    try:
        names = sorted(entry for entry in os.listdir(run_directory) if entry.endswith(_SUFFIX))
    except OSError:
        return
    for entry in names:
        path = os.path.join(run_directory, entry)
        try:
            descriptor = _lock(path)
        except OSError:  # not a file of ours to open
            continue
        if descriptor is not None:
            found = _parse(os.pread(descriptor, 1 << 20, 0))
            yield Ownership(entry.removesuffix(_SUFFIX), path, descriptor, found)
