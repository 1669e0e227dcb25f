"""A TAP or TUN device: a file descriptor that gives and takes Ethernet frames, or IP packets.

Source:  Linux Documentation/networking/tuntap.rst; virtio 1.2 §5.1.6 for the header in front of each frame.
Frames:  with `vnet_header`, virtio_net_hdr (10 bytes, TUNSETVNETHDRSZ left alone) + Ethernet; else Ethernet.
         A TUN's have the IP packet in place of the Ethernet frame.
         A write that is not a whole frame fails with EINVAL; a read gives one whole frame.
Life:    unless it is persistent, the link disappears when the last descriptor is closed: a process that is
         killed leaves none behind.
Errors:  OSError from the system; `netns.errors` for a device that is missing or not ours to open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Any, Final

import pytun

from netns.errors import MissingDevice

TUN_DEVICE: Final = "/dev/net/tun"

# linux/if_tun.h. _IOW('T', 208, unsigned int); the argument is the flags themselves.
TUNSETOFFLOAD: Final = 0x400454D0
TUN_F_CSUM: Final = 0x01  # we take frames whose checksum is partial
TUN_F_TSO4: Final = 0x02  # … and TCP segments larger than the MTU, for IPv4
TUN_F_TSO6: Final = 0x04  # … and for IPv6

VNET_HEADER_LENGTH: Final = 10
"""Bytes of `struct virtio_net_hdr` before each frame."""


class Tap:
    """An open TAP. `fd` is non-blocking and close-on-exec; it is -1 once closed.

    The device object is kept because it closes the descriptor when it is collected.
    """

    def __init__(
        self, device: Any, name: str, *, vnet_header: bool, offloads: bool, kind: str = "tap"
    ) -> None:
        self.kind = kind
        """`tap` or `tun`."""
        self._device = device
        self.fd: int = device.fileno()
        self.name = name
        self.vnet_header = vnet_header
        self.offloads = offloads

    def __repr__(self) -> str:
        return f"<{self.kind.capitalize()} {self.name} fd={self.fd}>"

    def set_persistent(self, on: bool) -> None:
        """Whether the link outlives this descriptor."""
        self._device.persist(on)

    def close(self) -> None:
        """Close the descriptor; a link that is not persistent goes with it. Safe to call again."""
        if self.fd >= 0:
            self.fd = -1
            self._device.close()


def why_unusable(path: str = TUN_DEVICE) -> MissingDevice | None:
    """The reason why this process cannot open `path`, with the remedy; None when it can."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISCHR(mode):
            return MissingDevice(path, "is not a device", "remove it and load the driver: modprobe tun")
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        return _explain(path, exc)
    return None


def _explain(path: str, exc: OSError) -> MissingDevice:
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        return MissingDevice(path, "missing", "modprobe tun, or give a container --device /dev/net/tun")
    if exc.errno in (errno.ENXIO, errno.ENODEV):
        return MissingDevice(path, "has no driver behind it", "modprobe tun on the host")
    if exc.errno in (errno.EACCES, errno.EPERM):
        who = os.geteuid()
        return MissingDevice(
            path,
            f"user {who} may not open it",
            f"as root: chmod 0666 {path} (the kernel still asks for CAP_NET_ADMIN), or run redtap as root",
        )
    return MissingDevice(path, exc.strerror or str(exc), "see `ls -l` of it")


def open_tap(
    name: str, *, vnet_header: bool, offloads: bool, path: str = TUN_DEVICE, kind: str = "tap"
) -> Tap:
    """Open the TAP `name` in the caller's network namespace; it is made unless a persistent one is there.

    Args:
        name: of the link.
        vnet_header: IFF_VNET_HDR.
        offloads: TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6; needs `vnet_header`.
        path: the clone device.
        kind: `tap` or `tun`.

    Raises:
        MissingDevice: `path` cannot be opened.
        OSError: the kernel refuses the name or the flags (EBUSY: somebody has it open).
    """
    problem = why_unusable(path)
    if problem is not None:
        raise problem
    layer = pytun.IFF_TUN if kind == "tun" else pytun.IFF_TAP
    flags = layer | pytun.IFF_NO_PI | (pytun.IFF_VNET_HDR if vnet_header else 0)
    device = pytun.TunTapDevice(name, flags, path)
    tap = Tap(device, name, vnet_header=vnet_header, offloads=offloads, kind=kind)
    try:
        os.set_inheritable(tap.fd, False)
        os.set_blocking(tap.fd, False)
        # Always set: a persistent TAP keeps what its last user asked for.
        fcntl.ioctl(tap.fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 if offloads else 0)
    except BaseException:
        tap.close()
        raise
    return tap
