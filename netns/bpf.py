"""What of bpf(2) an XDP link needs: a map of sockets, a program of two dozen instructions, and its place.

    IPv4 to our address, ARP that asks for it or claims it -> the socket of the queue they came by
    all else                                               -> the kernel, as if nobody were here

A neighbour that announces itself is among the rest: it concerns the kernel too (netns.xdp hears a copy).

Source:  bpf(2); Linux include/uapi/linux/bpf.h; Documentation/bpf/standardization/instruction-set.rst,
         Documentation/bpf/map_xskmap.rst.
Life:    a program that is attached by a link of bpf (Linux 5.9) leaves its place when the link's last
         descriptor is closed, whatever ended the process. The older way, by netlink, has to be undone.
Errors:  OSError; that of a refused program ends with what the verifier said.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import platform
import struct
import sys
from typing import Final

# Numbers of bpf(2) in the tables of <asm/unistd.h>; machines after 2012 share one table.
_SYSCALL: Final = {"x86_64": 321, "i386": 357, "i686": 357, "armv7l": 386, "ppc64le": 361, "s390x": 351}.get(
    platform.machine(), 280
)
_ATTR_BYTES: Final = 128

_MAP_CREATE: Final = 0
_MAP_UPDATE_ELEM: Final = 2
_PROG_LOAD: Final = 5
_LINK_CREATE: Final = 28

_MAP_TYPE_XSKMAP: Final = 17
_PROG_TYPE_XDP: Final = 6
_ATTACH_XDP: Final = 37
_LOG_BYTES: Final = 65536

XDP_FLAGS_SKB_MODE: Final = 2
XDP_FLAGS_DRV_MODE: Final = 4

# Instructions: code, (destination, source), offset, immediate.
_LOAD_U16: Final = 0x69
_LOAD_U32: Final = 0x61
_LOAD_MAP: Final = 0x18
_MOVE: Final = 0xBF
_MOVE_IMMEDIATE: Final = 0xB7
_ADD_IMMEDIATE: Final = 0x07
_JUMP: Final = 0x05
_JUMP_GREATER: Final = 0x2D
_JUMP_EQUAL_IMMEDIATE: Final = 0x15
_JUMP_OTHER_IMMEDIATE: Final = 0x55
_JUMP_EQUAL_IMMEDIATE_32: Final = 0x16
_JUMP_OTHER_IMMEDIATE_32: Final = 0x56
_CALL: Final = 0x85
_EXIT: Final = 0x95
_PSEUDO_MAP_FD: Final = 1
_REDIRECT_MAP: Final = 51
_XDP_PASS: Final = 2

# struct xdp_md
_DATA: Final = 0
_DATA_END: Final = 4
_RX_QUEUE_INDEX: Final = 16

_SHORTEST: Final = 42  # Ethernet and ARP, or Ethernet, IPv4 and the shortest thing in it that is for us


def _native16(value: int) -> int:
    """How a field in network byte order looks when it is loaded."""
    return int.from_bytes(value.to_bytes(2, "big"), sys.byteorder)


def _native32(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "big"), sys.byteorder, signed=True)


def xdp_program(map_fd: int, address: str) -> bytes:
    """Instructions that redirect what is for the IPv4 `address` into the map of sockets, and pass the rest.

    The map's key is the queue; a queue without a socket passes too.
    """
    host = _native32(int(ipaddress.IPv4Address(address)))
    # (code, destination, source, offset or label, immediate); a str in place of a row is a label.
    rows: list[tuple[int, int, int, int | str, int] | str] = [
        (_LOAD_U32, 2, 1, _DATA, 0),
        (_LOAD_U32, 3, 1, _DATA_END, 0),
        (_MOVE, 4, 2, 0, 0),
        (_ADD_IMMEDIATE, 4, 0, 0, _SHORTEST),
        (_JUMP_GREATER, 4, 3, "pass", 0),
        (_LOAD_U16, 5, 2, 12, 0),
        (_JUMP_EQUAL_IMMEDIATE, 5, 0, "arp", _native16(0x0806)),
        (_JUMP_OTHER_IMMEDIATE, 5, 0, "pass", _native16(0x0800)),
        (_LOAD_U32, 5, 2, 30, 0),
        (_JUMP, 0, 0, "compare", 0),
        "arp",
        # ar$spa: an answer to a probe has no other trace of the address (RFC 5227 section 2.1.1).
        (_LOAD_U32, 5, 2, 28, 0),
        (_JUMP_EQUAL_IMMEDIATE_32, 5, 0, "take", host),
        (_LOAD_U32, 5, 2, 38, 0),
        "compare",
        (_JUMP_OTHER_IMMEDIATE_32, 5, 0, "pass", host),
        "take",
        (_LOAD_U32, 2, 1, _RX_QUEUE_INDEX, 0),
        (_LOAD_MAP, 1, _PSEUDO_MAP_FD, 0, map_fd),
        (0, 0, 0, 0, 0),  # the upper half of what _LOAD_MAP loads
        (_MOVE_IMMEDIATE, 3, 0, 0, _XDP_PASS),
        (_CALL, 0, 0, 0, _REDIRECT_MAP),
        (_EXIT, 0, 0, 0, 0),
        "pass",
        (_MOVE_IMMEDIATE, 0, 0, 0, _XDP_PASS),
        (_EXIT, 0, 0, 0, 0),
    ]
    labels: dict[str, int] = {}
    instructions: list[tuple[int, int, int, int | str, int]] = []
    for row in rows:
        if isinstance(row, str):
            labels[row] = len(instructions)
        else:
            instructions.append(row)
    little = sys.byteorder == "little"
    return b"".join(
        struct.pack(
            "=BBhi",
            code,
            source << 4 | destination if little else destination << 4 | source,
            labels[offset] - at - 1 if isinstance(offset, str) else offset,
            immediate,
        )
        for at, (code, destination, source, offset, immediate) in enumerate(instructions)
    )


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    held = ctypes.create_string_buffer(attributes, _ATTR_BYTES)
    result: int = libc.syscall(ctypes.c_long(_SYSCALL), ctypes.c_int(command), held, _ATTR_BYTES)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def create_socket_map(entries: int) -> int:
    """A map from queues to AF_XDP sockets; its descriptor."""
    return _bpf(_MAP_CREATE, struct.pack("=IIIII", _MAP_TYPE_XSKMAP, 4, 4, entries, 0))


def put_socket(map_fd: int, queue: int, socket_fd: int) -> None:
    """Let the frames of `queue` go to the socket."""
    key, value = ctypes.c_uint32(queue), ctypes.c_uint32(socket_fd)
    _bpf(
        _MAP_UPDATE_ELEM,
        struct.pack("=IIQQQ", map_fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0),
    )


def load_xdp(program: bytes) -> int:
    """Load a program; its descriptor."""
    instructions = ctypes.create_string_buffer(program, len(program))
    license_text = ctypes.create_string_buffer(b"MIT")
    log = ctypes.create_string_buffer(_LOG_BYTES)

    def attributes(log_level: int) -> bytes:
        return struct.pack(
            "=IIQQIIQII16s",
            _PROG_TYPE_XDP,
            len(program) // 8,
            ctypes.addressof(instructions),
            ctypes.addressof(license_text),
            log_level,
            _LOG_BYTES if log_level else 0,
            ctypes.addressof(log) if log_level else 0,
            0,
            0,
            b"redtap",
        )

    try:
        return _bpf(_PROG_LOAD, attributes(0))
    except OSError as exc:
        if exc.errno == errno.EPERM:
            raise
        try:
            return _bpf(_PROG_LOAD, attributes(1))
        except OSError as again:
            said = log.value.decode(errors="replace").strip().splitlines()
            raise OSError(again.errno, f"{again.strerror}: {said[-1] if said else ''}") from exc


def attach_xdp(program_fd: int, interface: int, *, may_be_generic: bool = True) -> int:
    """Attach a program to a link of the caller's namespace until the returned descriptor is closed.

    In the driver where it can, else in the kernel's receive path.

    Args:
        may_be_generic: the receive path will do.

    Raises:
        OSError: EBUSY or EEXIST: another program is there; EINVAL: the kernel knows no such links;
            ERANGE: the MTU is too large for the driver.
    """

    def attach(flags: int) -> int:
        return _bpf(_LINK_CREATE, struct.pack("=IIII", program_fd, interface, _ATTACH_XDP, flags))

    try:
        return attach(XDP_FLAGS_DRV_MODE)
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.ERANGE) or not may_be_generic:
            raise
        return attach(XDP_FLAGS_SKB_MODE)


__all__ = ["attach_xdp", "create_socket_map", "load_xdp", "put_socket", "xdp_program"]
