"""Attacks from the appliance's own link: floods of forged SYNs, blind segments, a port scanner.

What a flood does to the speed of established clients is a figure: `redtap bench --flood` measures it. Here it
must only go on being right.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from netns.inside import spawn
from tests.support import forged
from tests.support.links import PEER_LINK, ForgingSocket
from tests.support.running import (
    ADDRESS,
    CLIENT_ADDRESS,
    PORT,
    ask,
    needs_program,
    request,
    running_appliance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

_OUR_MAC = b"\x02\x52" + socket.inet_aton(ADDRESS)
_PEER_MAC = b"\x02\0\0\0\0\x01"
_MEGABYTE = 1 << 20
_BACKLOG = 512


@contextmanager
def syn_flood(appliance: RunningAppliance, rate: int, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """Forged SYNs onto the link while the block runs; it ends by itself after `seconds`."""
    argv = [sys.executable, "-m", "appliance.bench.syn_flood", "--interface", PEER_LINK]
    argv += ["--target", ADDRESS, "--port", str(PORT)]
    argv += ["--rate", str(rate), "--seconds", str(seconds)]
    process = spawn(appliance.namespace, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.communicate()


def _survives_flood(directory: Path, rate: int, seconds: float) -> None:
    with running_appliance(directory) as appliance, appliance.connect() as established:
        value = random.Random(1).randbytes(20_000)
        ask(established, request("SET", "kept", value), b"+OK\r\n")
        bulk = b"$%d\r\n%b\r\n" % (len(value), value)
        ask(established, request("GET", "kept"), bulk)
        before = appliance.resident_bytes()
        most_connections = rounds = newcomers = 0
        with syn_flood(appliance, rate, seconds) as flood:
            while flood.poll() is None:
                ask(established, request("GET", "kept"), bulk)
                with appliance.connect() as newcomer:
                    ask(newcomer, request("PING"), b"+PONG\r\n")
                    newcomers += 1
                if rounds % 20 == 0:
                    status = appliance.control_map("REDTAP", "STATUS")
                    most_connections = max(most_connections, int(status["connections"]))
                rounds += 1
                time.sleep(0.005)
            assert flood.stdout is not None
            sent = int(flood.stdout.read().split()[0])
        grown = appliance.resident_bytes() - before
        # A slow machine floods less; more than the backlog holds is a flood.
        assert sent > _BACKLOG
        assert newcomers > 0
        # The backlog, those who were served, and their TIME-WAIT; the flood itself has no place in the table.
        assert most_connections <= _BACKLOG + newcomers + 10
        assert grown < 20 * _MEGABYTE, f"{grown} bytes more after {sent} SYNs"
        ask(established, request("GET", "kept"), bulk)
        appliance.ping()


@pytest.mark.parametrize("rate", [20_000, 50_000])
def test_syn_flood_leaves_old_and_new_clients_served(tmp_path: Path, rate: int) -> None:
    _survives_flood(tmp_path, rate, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [20_000, 50_000])
def test_syn_flood_of_20_seconds_leaves_old_and_new_clients_served(tmp_path: Path, rate: int) -> None:
    _survives_flood(tmp_path, rate, 20.0)


def test_blind_segments_at_a_live_connection_change_nothing(appliance: RunningAppliance) -> None:
    """The four-tuple is known, the numbers are not: RST, SYN, ACK, data over the whole space."""

    count = 4_000
    chance = random.Random(7)
    value = chance.randbytes(5_000)
    kinds = (forged.RST, forged.RST | forged.ACK, forged.SYN, forged.ACK, forged.ACK | forged.PSH)
    with appliance.connect() as client, appliance.inside(ForgingSocket) as link:
        ask(client, request("SET", "blind", value), b"+OK\r\n")
        port = client.getsockname()[1]
        for index in range(count):
            flags = kinds[index % len(kinds)]
            segment = forged.tcp(
                CLIENT_ADDRESS,
                ADDRESS,
                port,
                PORT,
                flags,
                seq=index * ((1 << 32) // count),
                ack=chance.getrandbits(32),
                payload=request("DEL", "blind") if flags & forged.PSH else b"",
            )
            packet = forged.ipv4(CLIENT_ADDRESS, ADDRESS, 6, segment)
            link.send(forged.ethernet(_OUR_MAC, _PEER_MAC, 0x0800, packet))
            if index % 200 == 0:
                ask(client, request("GET", "blind"), b"$%d\r\n%b\r\n" % (len(value), value))
        ask(client, request("GET", "blind"), b"$%d\r\n%b\r\n" % (len(value), value))
    appliance.ping()


@pytest.mark.skipif(shutil.which("nmap") is None, reason=needs_program("nmap"))
def test_nmap_names_the_service_and_finds_the_sequence_numbers_hard(own_appliance: RunningAppliance) -> None:
    argv = [
        "nmap",
        "-n",
        "-Pn",
        "-O",
        "-sS",
        "-sV",
        "-v",
        "-T4",
        "--max-os-tries",
        "1",
        "-p",
        f"1-20,{PORT}",
        ADDRESS,
    ]
    report = own_appliance.run(*argv, seconds=120)
    (service,) = [line for line in report.splitlines() if line.startswith(f"{PORT}/tcp")]
    assert "open" in service
    assert "redis" in service.lower()
    (difficulty,) = [line for line in report.splitlines() if "TCP Sequence Prediction" in line]
    assert "Good luck!" in difficulty, difficulty
    own_appliance.ping()
