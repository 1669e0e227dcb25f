"""`python -m netns wire`: two kernels joined by an impaired wire, and our sender on one beside the kernel's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from appliance.bench.wire_bench import WireCase, measure_wire
from netns.inside import RUN_NETNS, inside
from tests.support.machine import environment, fresh_name
from tests.support.running import receive_exactly, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

_RIGHT = "10.79.0.2"


@pytest.fixture
def wire() -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    left, right = fresh_name("left"), fresh_name("right")
    argv = [sys.executable, "-m", "netns", "wire", left, right, "--rate", "20M", "--delay", "15ms"]
    argv += ["--queue", "75000", "--drop-every", "100", "--seed", "3"]
    process = subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield left, right, process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        process.stdout.close()


def test_wire_joins_two_kernels_delays_loses_and_leaves_nothing(
    wire: tuple[str, str, subprocess.Popen[bytes]],
) -> None:
    left, right, process = wire
    data = os.urandom(500_000)
    got: list[bytes] = []
    with inside(right, lambda: socket.create_server((_RIGHT, 7000))) as server:
        server.settimeout(60)

        def receive() -> None:
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(60)
                got.append(receive_exactly(accepted, len(data)))

        receiver = threading.Thread(target=receive)
        receiver.start()
        began = time.monotonic()
        with inside(left, lambda: socket.create_connection((_RIGHT, 7000), 60)) as client:
            assert time.monotonic() - began >= 0.030  # SYN there, SYN,ACK back
            client.sendall(data)
            receiver.join(60)
    assert got == [data]
    assert time.monotonic() - began >= 0.2  # half a megabyte at 20 Mbit/s
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stdout is not None
    counts = json.loads(process.stdout.read())
    assert counts["forth"]["lost"] >= 3
    assert counts["back"]["lost"] == 0
    for name in (left, right):
        until(lambda name=name: not os.path.exists(f"{RUN_NETNS}/{name}"))  # type: ignore[misc]


def test_our_sender_keeps_up_with_the_kernels_where_every_tenth_frame_is_late() -> None:
    """Only that both get through; how fast is for `redtap bench --wire`."""
    cases = [
        WireCase("bulk", 20, 0.01, 0.1, 5),
        WireCase("replies", 20, 0.02, is_replies=True),
    ]
    summary = measure_wire(cases, seeds=1, seconds=2.0, jobs=1, progress=lambda _: None)
    bulk, replies = summary["cases"]
    assert all(runs[0] > 0 for runs in bulk["goodput_mbps"].values())
    assert all(found["replies"] > 0 for found in replies["completion_ms"].values())
    assert all(20 <= found["p50"] <= found["p99"] for found in replies["completion_ms"].values())
