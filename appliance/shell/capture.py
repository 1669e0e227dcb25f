"""Captures: every frame of a link, both ways, into a pcapng file.

Source:     draft-ietf-opsawg-pcapng (Section Header, Interface Description, Enhanced Packet blocks).
Units:      timestamps in unix microseconds, if_tsresol 6, which is what the core's clock has.
Invariants: what is written is what a wire would carry: no virtio header, checksums filled in. A frame of
            64 KiB (GSO) is written whole, as tcpdump on the host shows it.
            A frame is in the file, in order, before the link has it: after a crash the cause is there.
Errors:     `HostError` when the file cannot be made. When the disk fills up the capture ends with one log
            line and the appliance goes on.
Why our own writer: ADR 0010.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

import trio

from appliance.errors import HostError, WireError
from appliance.shell.link import Link
from appliance.shell.logs import get_logger
from appliance.wire.virtio import HEADER_LENGTH, complete_checksum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from appliance.shell.clock import Clock
    from appliance.stack.interface import Frame

__all__ = ["INBOUND", "OUTBOUND", "CaptureWriter", "CapturedLink"]

INBOUND: Final = 1
OUTBOUND: Final = 2
"""Bits 0-1 of epb_flags: as seen from the appliance."""

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_ENHANCED_PACKET: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_LINKTYPE_ETHERNET: Final = 1

_OPT_END: Final = 0
_OPT_COMMENT: Final = 1
_SHB_USERAPPL: Final = 4
_IF_NAME: Final = 2
_IF_TSRESOL: Final = 9
_EPB_FLAGS: Final = 2

# block type, total length, interface, timestamp high and low, captured length, original length
_PACKET_HEAD: Final = struct.Struct("<IIIIIII")
# epb_flags (code, length, value), end of options, total length again
_PACKET_TAIL: Final = struct.Struct("<HHIII")
_PADDING: Final = (b"", b"\0", b"\0\0", b"\0\0\0")

_BUFFER_BYTES: Final = 256 * 1024
_FLUSH_S: Final = 0.2

_log = get_logger("capture")


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + _PADDING[-len(value) & 3]


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


class CaptureWriter:
    """Writes one pcapng section with one Ethernet interface.

    Args:
        path: Replaced when it exists.
        interface_name: As Wireshark shows it.

    Raises:
        HostError: The file cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], *, interface_name: str) -> None:
        self.path = os.fspath(path)
        try:
            self._file: BinaryIO | None = open(self.path, "wb", buffering=_BUFFER_BYTES)  # noqa: SIM115
        except OSError as error:
            raise HostError(f"cannot write the capture {self.path}: {error.strerror}") from error
        header = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
        header += _option(_SHB_USERAPPL, b"redtap") + _option(_OPT_END, b"")
        interface = struct.pack("<HHI", _LINKTYPE_ETHERNET, 0, 0)
        interface += (
            _option(_IF_NAME, interface_name.encode())
            + _option(_IF_TSRESOL, b"\x06")
            + _option(_OPT_END, b"")
        )
        self._put(_block(_SECTION_HEADER, header) + _block(_INTERFACE_DESCRIPTION, interface))

    def write(self, frame: bytes, unix_us: int, direction: int, comment: str = "") -> None:
        """Append one Ethernet frame.

        Args:
            unix_us: When it passed.
            direction: `INBOUND` or `OUTBOUND`.
            comment: Why it was sent, dropped …; Wireshark shows it with the packet (opt_comment).
        """
        size = len(frame)
        padding = _PADDING[-size & 3]
        options = _option(_OPT_COMMENT, comment.encode()) if comment else b""
        total = 28 + size + len(padding) + len(options) + 16
        self._put(
            _PACKET_HEAD.pack(_ENHANCED_PACKET, total, 0, unix_us >> 32, unix_us & 0xFFFF_FFFF, size, size)
            + frame
            + padding
            + options
            + _PACKET_TAIL.pack(_EPB_FLAGS, 4, direction, _OPT_END, total)
        )

    def flush(self) -> None:
        """Let readers of the file see all of it."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Write what is buffered and close; idempotent."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, block: bytes) -> None:
        if self._file is not None:
            try:
                self._file.write(block)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        _log.error("the capture ends here", path=self.path, reason=error.strerror)
        file, self._file = self._file, None
        assert file is not None
        # close() tries once more to write what the disk does not take; it closes the file even so.
        with suppress(OSError):
            file.close()


class CapturedLink(Link):
    """A link whose frames go through a `CaptureWriter`; without a capture nothing is in the way."""

    def __init__(self, link: Link, writer: CaptureWriter, clock: Clock) -> None:
        super().__init__(vnet_header=link.vnet_header, mtu=link.mtu, gathers=link.gathers, gso=link.gso)
        self._link = link
        self._writer = writer
        self._clock = clock
        if link.beside is not None:
            self.beside = CapturedLink(link.beside, writer, clock)

    def counters(self) -> dict[str, int]:
        return self._link.counters()

    def fileno(self) -> int:
        return self._link.fileno()

    def wait_readable(self) -> Awaitable[None]:
        return self._link.wait_readable()

    def nap(self, wait_us: int) -> bool:
        return self._link.nap(wait_us)

    def spin(self, wait_us: int) -> bool:
        return self._link.spin(wait_us)

    def read_batch(self, limit: int) -> list[bytes]:
        frames = self._link.read_batch(limit)
        if frames:
            self._record(frames, INBOUND)
        return frames

    def write_batch(self, frames: list[Frame]) -> None:
        self._record([frame if isinstance(frame, bytes) else b"".join(frame) for frame in frames], OUTBOUND)
        self._link.write_batch(frames)
        self.frames_dropped = self._link.frames_dropped

    def close(self) -> None:
        self._link.close()

    async def run_flusher(self) -> None:
        """Keep the file current for whoever watches it grow."""
        while True:
            await trio.sleep(_FLUSH_S)
            self._writer.flush()

    def _record(self, frames: list[bytes], direction: int) -> None:
        write = self._writer.write
        unix_now = self._clock.unix_now()
        if not self.vnet_header:
            for frame in frames:
                write(frame, unix_now, direction)
            return
        for frame in frames:
            try:
                body = complete_checksum(frame)
            except WireError:
                # The host gave offsets that do not fit. Show what came: that is what a capture is for.
                body = frame[HEADER_LENGTH:]
            write(body, unix_now, direction)
