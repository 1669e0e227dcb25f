"""Somebody who knows the four-tuple, and sees nothing, throws segments at a live connection (RFC 5961)."""

from __future__ import annotations

import random
import socket

import pytest

from appliance.stack.tcp.config import TcpConfig
from appliance.stack.timebase import MILLISECOND, SECOND
from tests.support import forged
from tests.support.simulation import ADDRESSES, LinkFaults, Simulation, Transfer

KINDS = {
    "rst": forged.RST,
    "rst-ack": forged.RST | forged.ACK,
    "syn": forged.SYN,
    "syn-ack": forged.SYN | forged.ACK,
    "ack": forged.ACK,
    "data": forged.ACK | forged.PSH,
    "fin": forged.ACK | forged.FIN,
}
EVIL = b"forged" * 20


@pytest.mark.parametrize("timestamps", [True, False], ids=["timestamps", "no timestamps"])
@pytest.mark.rfc("5961", "3")
def test_sim_100000_forged_segments_leave_a_connection_unharmed(timestamps: bool) -> None:
    """Spread evenly over the sequence space, and some near the mark, to both ends while bytes flow both ways."""
    count, rounds = 100_000 if not timestamps else 20_000, 500
    # At 200 kB/s the megabyte takes longer than the attack.
    link = LinkFaults(delay_us=5 * MILLISECOND, rate=1_000_000)
    sim = Simulation(11, link, tcp=TcpConfig(timestamps=timestamps))
    client, server = sim.connect()
    data = random.Random(2).randbytes(1_000_000)
    one = Transfer(sim, client, data, write_chunk=16_384)
    two = Transfer(sim, server, data[::-1], write_chunk=16_384)
    names = [socket.inet_ntoa(address.to_bytes(4, "big")) for address in ADDRESSES]
    ports = (client.local_port, server.local_port)
    chance = random.Random(3)
    thrown = 0

    def throw() -> None:
        nonlocal thrown
        for _ in range(count // rounds):
            side = thrown % 2
            flags = list(KINDS.values())[thrown // 2 % len(KINDS)]
            seq = (thrown * ((1 << 32) // count) + chance.randrange(1 << 16)) & 0xFFFF_FFFF
            if thrown % 11 == 0:
                # Luckier than chance allows: inside the window, though not at its edge.
                seq = ((client, server)[side].rcv_nxt + chance.randrange(1, 50_000)) & 0xFFFF_FFFF
            segment = forged.tcp(
                names[1 - side],
                names[side],
                ports[1 - side],
                ports[side],
                flags,
                seq=seq,
                ack=chance.getrandbits(32),
                payload=EVIL if flags & forged.PSH else b"",
            )
            mac, source = (bytes((2, 0, 0, 0, 0, number + 1)) for number in (side, 1 - side))
            packet = forged.ipv4(names[1 - side], names[side], 6, segment)
            sim.stacks[side].receive_frame(forged.ethernet(mac, source, 0x0800, packet), sim.now)
            thrown += 1

    for index in range(rounds):
        sim.at(sim.now + (index + 1) * MILLISECOND, throw)
    sim.run(until=lambda: thrown >= count)
    assert not client.is_closed
    assert not server.is_closed
    sim.run(until=sim.finished, limit_us=60 * SECOND)
    assert one.failure is None
    assert two.failure is None
    assert two.received == data
    assert one.received == data[::-1]
    challenged = sum(stack.counters.as_dict()["challenge_acks"] for stack in sim.stacks)
    seconds = sim.now // SECOND + 1
    assert challenged <= 2 * 10 * (seconds // 5 + 2)
    if not timestamps:
        assert challenged > 0, "nothing came near the window: the test proves nothing"
