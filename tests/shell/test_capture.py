"""Captures, as the format says and as tshark reads them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
import structlog.testing
import trio

from appliance.errors import HostError
from appliance.shell.capture import INBOUND, OUTBOUND, CapturedLink, CaptureWriter
from appliance.shell.clock import Clock
from appliance.shell.link import memory_link_pair
from appliance.shell.network import open_network
from tests.shell.support import EPOCH_US, SERVER, interface_config, receive_exactly

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """(type, body) of each block; checks both lengths."""
    found = []
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from("<II", data, position)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, position + size - 4) == (size,)
        found.append((kind, data[position + 8 : position + size - 4]))
        position += size
    return found


def tshark(path: Path, *arguments: str) -> str:
    command = ["tshark", "-n", "-r", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("size", [60, 61, 62, 63])
def test_packet_block_carries_time_direction_and_padding(tmp_path: Path, size: int) -> None:
    writer = CaptureWriter(tmp_path / "x.pcapng", interface_name="tap0")
    frame = bytes(range(size))
    writer.write(frame, EPOCH_US + 1, OUTBOUND)
    writer.close()
    (section, _), (interface, _), (packet, body) = blocks((tmp_path / "x.pcapng").read_bytes())
    assert (section, interface, packet) == (0x0A0D0D0A, 1, 6)
    assert struct.unpack_from("<IIIII", body) == (
        0,
        (EPOCH_US + 1) >> 32,
        (EPOCH_US + 1) & 0xFFFF_FFFF,
        size,
        size,
    )
    assert body[20 : 20 + size] == frame
    assert body[20 + size :] == bytes(-size & 3) + struct.pack("<HHIHH", 2, 4, OUTBOUND, 0, 0)


@needs_tshark
def test_tshark_shows_comment_interface_and_time(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    writer = CaptureWriter(path, interface_name="tap0")
    writer.write(bytes(60), EPOCH_US + 250_000, INBOUND, comment="dropped: wrong colour")
    writer.write(bytes(61), EPOCH_US + 500_000, OUTBOUND)
    writer.close()
    fields = ["-T", "fields", "-E", "separator=|", "-e", "frame.time_epoch", "-e", "frame.interface_name"]
    lines = tshark(path, *fields, "-e", "frame.len", "-e", "frame.comment").splitlines()
    assert lines == [
        "1700000000.250000000|tap0|60|dropped: wrong colour",
        "1700000000.500000000|tap0|61|",
    ]


@needs_tshark
@pytest.mark.parametrize("vnet_header", [True, False])
async def test_conversation_is_captured_both_ways_with_good_checksums(
    autojump_clock: MockClock, tmp_path: Path, vnet_header: bool
) -> None:
    path = tmp_path / "x.pcapng"
    near, far = memory_link_pair(vnet_header=vnet_header)
    clock = Clock(EPOCH_US)
    writer = CaptureWriter(path, interface_name="tap0")
    captured = CapturedLink(far, writer, clock)
    size = 300_000
    ours, theirs = (interface_config(number, vnet_header=vnet_header) for number in (1, 2))
    async with open_network(near, ours, clock=clock) as client:
        async with open_network(captured, theirs, clock=clock) as server:
            listener = server.listen_tcp(7)
            stream = await client.open_tcp_stream(SERVER, 7)
            accepted = await listener.accept()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accepted.send_all, bytes(size))
                assert len(await receive_exactly(stream, size)) == size
            await stream.aclose()
            await accepted.aclose()
            await trio.sleep(1)
    writer.close()
    checked = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    bad = "tcp.checksum.status == 0 or ip.checksum.status == 0 or _ws.malformed"
    assert tshark(path, *checked, "-Y", bad) == ""
    assert "1" in tshark(path, *checked, "-Y", "tcp.checksum.status == 1")
    fields = tshark(path, "-Y", "tcp", "-T", "fields", "-e", "ip.src", "-e", "tcp.len", "-e", "tcp.flags.fin")
    rows = [line.split("\t") for line in fields.splitlines()]
    assert sum(int(length) for source, length, _ in rows if source == SERVER) == size
    assert {source for source, _, fin in rows if fin in ("1", "True")} == {"10.0.0.1", SERVER}


def test_capture_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file or directory"):
        CaptureWriter(tmp_path / "missing" / "x.pcapng", interface_name="tap0")


def test_full_disk_ends_the_capture_and_nothing_else() -> None:
    with structlog.testing.capture_logs() as logs:
        writer = CaptureWriter("/dev/full", interface_name="tap0")
        for _ in range(1000):
            writer.write(bytes(1500), EPOCH_US, INBOUND)
        writer.close()
    assert [entry["reason"] for entry in logs] == ["No space left on device"]


async def test_frame_with_impossible_offsets_is_shown_as_it_came(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    near, far = memory_link_pair()
    path = tmp_path / "x.pcapng"
    writer = CaptureWriter(path, interface_name="tap0")
    captured = CapturedLink(far, writer, Clock(EPOCH_US))
    frame = struct.pack("<BBHHHH", 1, 0, 0, 0, 5000, 16) + bytes(60)
    near.write_batch([frame])
    assert captured.read_batch(1) == [frame]
    writer.close()
    assert blocks(path.read_bytes())[2][1][20:80] == bytes(60)
