"""A network namespace for an ordinary user: a user namespace owns it, and the process moves into both.

In there the process is root over its own network and over nothing else: it may make a TAP, give it an
address and bring it up. Nothing appears under /run/netns, nothing outlives the process.

Source:  user_namespaces(7), in particular "User and group ID mappings".
Needs:   permission to open /dev/net/tun, and user namespaces for ordinary users. Both differ between
         distributions, so both are tried, and the error names each that is missing.
Invariant: `enter` is called while the process has one thread (unshare(2) refuses CLONE_NEWUSER otherwise).
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from netns.errors import RootlessUnavailable, one_line
from netns.kernel import CLONE_NEWNET
from netns.tap import why_unusable

CLONE_NEWUSER: Final = 0x1000_0000  # linux/sched.h

_SWITCHES: Final = (
    # Where a distribution or an administrator switches user namespaces off, and the value that does it.
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces is 0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone is 0"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns is 1",
    ),
)


def enter(*, needs_device: bool = True) -> None:
    """Move this process into a new user namespace and a new network namespace owned by it.

    The user becomes root in there; files keep belonging to the user outside.

    Args:
        needs_device: /dev/net/tun is asked for as well.

    Raises:
        RootlessUnavailable: the system does not allow it; nothing has changed.
    """
    missing = why_not_rootless(needs_device=needs_device)
    if missing:
        raise RootlessUnavailable(missing)
    _become_root_inside()


def why_not_rootless(*, needs_device: bool = True) -> list[str]:
    """What this user lacks for `enter`, a sentence each; it is tried in a child."""
    missing = []
    device = why_unusable() if needs_device else None
    if device is not None:
        missing.append(f"{device.path}: {device.why} (as root: modprobe tun; chmod 0666 {device.path})")
    refusal = _probe()
    if refusal is not None:
        missing.append(refusal)
    return missing


def _probe() -> str | None:
    """Try it in a child, so that a refusal half-way leaves us untouched; None when it works."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            _become_root_inside()
            status = 0
        except OSError as exc:
            status = exc.errno if exc.errno and exc.errno < 255 else 254
        finally:
            os._exit(status)
    _, wait_status = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(wait_status)
    if status == 0:
        return None
    if 0 < status < 254:
        reason = one_line(OSError(status, os.strerror(status)))
    else:
        reason = "refused"
    for path, off, text in _SWITCHES:
        try:
            with open(path) as switch:
                if switch.read().strip() == off:
                    reason = text
        except OSError:
            continue
    return f"user namespaces: not allowed to this user ({reason})"


def _become_root_inside() -> None:
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # setgroups must be given up before an unprivileged gid_map is accepted.
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    # Some systems let the namespace be made and then withhold the capabilities in it.
    with open("/proc/self/status") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    if not effective >> 12 & 1:  # CAP_NET_ADMIN
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


__all__ = ["enter"]
