"""Ethernet and ARP (RFC 826, RFC 894, RFC 1122 §2.3, RFC 5227)."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from appliance.errors import LocalProtocolError
from appliance.stack.ip_config import NeighborConfig
from tests.support import packets as pk
from tests.support.packets import BROADCAST_MAC, PEER, PEER_MAC, STACK, STACK_MAC, Packet, ip
from tests.support.peer import MS, Peer, S, established
from tests.support.wire import Wire

NEW_MAC = bytes.fromhex("02005e1000aa")
RIVAL_MAC = bytes.fromhex("02005e1000bb")
OTHER = ip("10.77.0.9")


def silent_peer(**settings: object) -> Peer:
    """A peer that the stack does not know and that answers no ARP."""
    peer = Peer(resolve=False, **settings)  # type: ignore[arg-type]
    peer.answers_arp = False
    return peer


def known(end: Peer | Wire) -> dict[int, tuple[bytes, str]]:
    end.flush()  # tells the stack what time it is
    return {address: (mac, state) for address, mac, state in end.interface.neighbors()}


def is_announcement(packet: Packet) -> bool:
    return (
        packet.op == 1
        and packet.destination_mac == BROADCAST_MAC
        and packet.source == packet.destination == STACK
        and packet.sha == STACK_MAC
    )


def is_probe(packet: Packet) -> bool:
    return (
        packet.op == 1
        and packet.destination_mac == BROADCAST_MAC
        and packet.source == 0
        and packet.destination == STACK
        and packet.sha == STACK_MAC
        and packet.tha == bytes(6)
    )


# -- RFC 826 -----------------------------------------------------------------------------------------------


@pytest.mark.row("R826-1")
@pytest.mark.parametrize("destination", [BROADCAST_MAC, STACK_MAC])
@pytest.mark.parametrize("vnet_header", [True, False])
def test_request_for_our_address_gets_a_unicast_reply(destination: bytes, vnet_header: bool) -> None:
    wire = Wire(vnet_header=vnet_header)
    wire.arp(1, PEER_MAC, PEER, STACK, to=destination)
    (reply,) = wire.take_arps()
    assert reply.op == 2
    assert (reply.sha, reply.source) == (STACK_MAC, STACK)
    assert (reply.tha, reply.destination) == (PEER_MAC, PEER)
    assert (reply.destination_mac, reply.source_mac) == (PEER_MAC, STACK_MAC)


@pytest.mark.row("R826-2")
@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 0x0006), (2, 0x86DD), (2, 0x0806), (4, 0x0806), (4, 0x0604 + 1), (4, 0), (6, 0), (6, 3), (6, 8)],
    ids=["hardware", "IPv6", "ARP", "hln 8", "pln 5", "no lengths", "op 0", "RARP", "InARP"],
)
def test_arp_for_something_else_is_dropped(offset: int, value: int) -> None:
    packet = pk.arp(1, PEER_MAC, PEER, bytes(6), STACK)
    packet = packet[:offset] + struct.pack("!H", value) + packet[offset + 2 :]
    wire = Wire()
    wire.frame(pk.ethernet(packet, 0x0806, destination=BROADCAST_MAC))
    assert wire.is_silent()
    assert known(wire) == {}
    assert wire.counter("dropped_malformed") == 1


@pytest.mark.row("R826-2")
@pytest.mark.parametrize("length", [0, 1, 7, 8, 27])
def test_truncated_arp_is_dropped(length: int) -> None:
    wire = Wire()
    wire.frame(pk.ethernet(pk.arp(1, PEER_MAC, PEER, bytes(6), STACK)[:length], 0x0806))
    assert wire.is_silent()
    assert known(wire) == {}


@pytest.mark.row("R826-2")
@pytest.mark.parametrize("sha", [BROADCAST_MAC, bytes.fromhex("01005e000001"), bytes(6)])
def test_sender_without_an_address_of_its_own_is_dropped(sha: bytes) -> None:
    wire = Wire()
    wire.frame(pk.ethernet(pk.arp(1, sha, PEER, bytes(6), STACK), 0x0806))
    assert wire.is_silent()
    assert known(wire) == {}


@pytest.mark.row("R826-3")
def test_who_has_for_another_host_makes_no_entry() -> None:
    wire = Wire()
    wire.arp(1, PEER_MAC, PEER, OTHER)
    assert known(wire) == {}


@pytest.mark.row("R826-3")
@pytest.mark.parametrize("op", [1, 2])
@pytest.mark.parametrize("target", [STACK, OTHER, PEER], ids=["us", "another", "gratuitous"])
def test_known_sender_with_a_new_mac_is_updated_by_any_packet(op: int, target: int) -> None:
    peer = established()
    packet = pk.arp(op, NEW_MAC, PEER, bytes(6), target)
    peer.frame(pk.ethernet(packet, 0x0806, source=NEW_MAC, destination=BROADCAST_MAC))
    peer.send(b"x")
    assert peer.expect(".", data=b"x").destination_mac == NEW_MAC


@pytest.mark.row("R826-3")
@pytest.mark.parametrize("sender", ["192.0.2.1", "10.77.0.255", "10.77.0.0", "255.255.255.255", "224.0.0.1"])
def test_sender_that_cannot_be_a_neighbour_is_not_kept(sender: str) -> None:
    wire = Wire()
    wire.arp(1, PEER_MAC, ip(sender), STACK)
    assert known(wire) == {}


@pytest.mark.row("R826-4")
@pytest.mark.parametrize("target", ["10.77.0.3", "10.77.0.1", "10.77.0.255", "255.255.255.255", "0.0.0.0"])
def test_request_for_another_address_is_not_answered(target: str) -> None:
    wire = Wire()
    wire.arp(1, PEER_MAC, PEER, ip(target))
    assert wire.is_silent()


@pytest.mark.row("R826-4")
def test_reply_is_not_answered() -> None:
    wire = Wire()
    wire.arp(2, PEER_MAC, PEER, STACK, tha=STACK_MAC, to=STACK_MAC)
    assert wire.is_silent()


@pytest.mark.row("R826-5")
def test_answer_to_an_unknown_peer_waits_for_its_address() -> None:
    peer = silent_peer()
    peer.listen()
    peer.inject("S", seq=0, options=pk.mss_option(1000))
    peer.expect_nothing()
    (request,) = peer.other
    assert (request.op, request.destination_mac, request.destination) == (1, BROADCAST_MAC, PEER)
    assert (request.source, request.sha, request.tha) == (STACK, STACK_MAC, bytes(6))
    peer.resolve()
    assert peer.expect("S.", seq=0, ack=1).destination_mac == PEER_MAC


@pytest.mark.row("R826-6")
def test_dead_address_is_asked_for_at_most_once_a_second() -> None:
    peer = silent_peer()
    asked: list[int] = []
    for index in range(100):
        peer.interface.connect(PEER, 1000 + index, peer.now, 7000)
        peer.flush()
        peer.advance(30 * MS)
    asked = [packet.at for packet in peer.other if packet.kind == "arp"]
    assert len(asked) <= 4
    assert all(later - earlier >= 1 * S for earlier, later in pairwise(asked))


@pytest.mark.row("R826-6")
def test_many_suspicions_make_one_request_a_second() -> None:
    """Connections that retransmit at once each have a reason to verify the same neighbour."""
    peer = established()
    for _ in range(20):
        peer.interface._neighbors.suspect(peer.connection.neighbor)
        peer.send(b"x")
        peer.drain()
        peer.inject(".")
        peer.advance(10 * MS)
    assert peer.counter("arp_out") == 2, "the reply to `resolve`, and one request"


@pytest.mark.row("R826-7")
def test_old_entry_is_verified_by_unicast_when_it_is_used() -> None:
    peer = established()
    peer.answers_arp = False
    peer.advance(61 * S)
    assert known(peer)[PEER] == (PEER_MAC, "STALE")
    peer.send(b"x")
    (probe,) = peer.other
    assert (probe.op, probe.destination_mac, probe.destination) == (1, PEER_MAC, PEER)
    assert peer.expect(".", data=b"x").destination_mac == PEER_MAC


@pytest.mark.row("R826-7")
@pytest.mark.parametrize("reachable", [5 * S, 120 * S])
def test_time_of_belief_is_settable(reachable: int) -> None:
    for more, requests in ((0, []), (1, [1])):
        peer = established(neighbor=NeighborConfig(reachable_us=reachable))
        peer.answers_arp = False
        peer.advance(reachable + more)
        peer.send(b"x")
        assert [packet.op for packet in peer.other] == requests


@pytest.mark.row("R826-7")
def test_peer_that_moved_without_a_word_is_found_by_broadcast() -> None:
    peer = established()
    peer.answers_arp = False
    peer.advance(61 * S)
    peer.send(b"hello")
    peer.drain()
    start = peer.now
    peer.advance(3 * S)
    requests = [(packet.at - start, packet.destination_mac) for packet in peer.other]
    assert requests == [(0, PEER_MAC), (S, PEER_MAC), (2 * S, PEER_MAC), (3 * S, BROADCAST_MAC)]
    peer.frame(pk.ethernet(pk.arp(2, NEW_MAC, PEER, STACK_MAC, STACK), 0x0806, source=NEW_MAC))
    peer.advance(10 * S)
    assert peer.drain()[-1].destination_mac == NEW_MAC


@pytest.mark.row("R826-7")
def test_entry_that_nobody_used_for_long_is_flushed() -> None:
    wire = Wire(neighbor=NeighborConfig(stale_us=100 * S))
    wire.arp(1, PEER_MAC, PEER, STACK)
    wire.advance(99 * S)
    assert known(wire) == {PEER: (PEER_MAC, "STALE")}
    wire.advance(2 * S)
    wire.arp(1, NEW_MAC, OTHER, STACK)
    assert known(wire) == {OTHER: (NEW_MAC, "REACHABLE")}


@pytest.mark.row("R826-8")
def test_off_link_peer_is_reached_through_the_gateway() -> None:
    gateway, remote = ip("10.77.0.254"), ip("192.0.2.1")
    peer = silent_peer(gateway=gateway)
    peer.listen()
    segment = pk.tcp("S", seq=1, source=remote, destination_port=6379)
    peer.datagram(segment, source=remote)
    (request,) = peer.other
    assert request.destination == gateway
    peer.resolve(NEW_MAC, gateway)
    answer = peer.expect("S.")
    assert (answer.destination, answer.destination_mac) == (remote, NEW_MAC)


# -- RFC 5227 ----------------------------------------------------------------------------------------------


@pytest.mark.row("R5227-1")
def test_probe_for_our_address_is_answered_and_not_cached() -> None:
    wire = Wire()
    wire.arp(1, PEER_MAC, 0, STACK)
    (reply,) = wire.take_arps()
    assert (reply.op, reply.destination_mac, reply.source, reply.sha) == (2, PEER_MAC, STACK, STACK_MAC)
    assert known(wire) == {}
    assert wire.counter("address_conflicts") == 0, "it asks; it does not claim"


@pytest.mark.row("R5227-2")
def test_start_probes_three_times_and_announces_twice() -> None:
    wire = Wire(neighbor=NeighborConfig(probe_address=True))
    wire.interface.listen(6379)
    start = wire.now
    wire.interface.bring_up(wire.now)
    wire.flush()
    assert wire.interface.address_state() == "PROBING"
    wire.advance(30 * S)
    packets = wire.take_arps()
    assert [is_probe(packet) for packet in packets] == [True, True, True, False, False]
    assert [is_announcement(packet) for packet in packets] == [False, False, False, True, True]
    at = [packet.at for packet in packets]
    assert 0 <= at[0] - start <= 1 * S
    assert all(1 * S <= later - earlier <= 2 * S for earlier, later in pairwise(at[:3]))
    assert at[3] - at[2] == 2 * S
    assert at[4] - at[3] == 2 * S
    assert wire.interface.address_state() == "READY"
    assert wire.answers_echo()


@pytest.mark.row("R5227-2")
def test_address_is_not_used_while_it_is_probed() -> None:
    wire = Wire(neighbor=NeighborConfig(probe_address=True))
    wire.interface.listen(6379)
    wire.interface.bring_up(wire.now)
    wire.arp(1, PEER_MAC, PEER, STACK)
    wire.echo(b"x")
    wire.datagram(pk.tcp("S", seq=1), 6)
    assert wire.sent == []
    assert [packet for packet in wire.take_arps() if packet.op == 2] == []
    with pytest.raises(LocalProtocolError):
        wire.interface.connect(PEER, 80, wire.now)
    wire.advance(10 * S)
    assert wire.answers_echo()
    wire.interface.connect(PEER, 80, wire.now)


@pytest.mark.row("R5227-2")
def test_without_probing_the_start_is_two_announcements() -> None:
    wire = Wire()
    start = wire.now
    wire.interface.bring_up(wire.now)
    wire.flush()
    wire.advance(30 * S)
    packets = wire.take_arps()
    assert all(map(is_announcement, packets))
    assert [packet.at - start for packet in packets] == [0, 2 * S]


@pytest.mark.row("R5227-2", "R5227-3")
@pytest.mark.parametrize(
    ("op", "spa", "tpa"),
    [(1, STACK, OTHER), (2, STACK, OTHER), (1, STACK, STACK), (1, 0, STACK)],
    ids=["request", "reply", "announcement", "probe"],
)
def test_conflict_while_probing_gives_the_address_up(op: int, spa: int, tpa: int) -> None:
    wire = Wire(neighbor=NeighborConfig(probe_address=True))
    wire.interface.bring_up(wire.now)
    wire.advance(1 * S)
    wire.take_arps()
    wire.arp(op, RIVAL_MAC, spa, tpa)
    assert wire.interface.address_state() == "ABANDONED"
    wire.advance(60 * S)
    wire.arp(1, PEER_MAC, PEER, STACK)
    wire.arp(1, RIVAL_MAC, STACK, STACK)
    wire.echo(b"x")
    assert wire.is_silent()
    wire.interface.probe(wire.now)
    wire.advance(20 * S)
    assert wire.interface.address_state() == "READY", "one can try again"


@pytest.mark.row("R5227-2")
def test_our_own_probe_coming_back_is_no_conflict() -> None:
    wire = Wire(neighbor=NeighborConfig(probe_address=True))
    wire.interface.bring_up(wire.now)
    wire.arp(1, STACK_MAC, 0, STACK)
    wire.advance(20 * S)
    wire.arp(1, STACK_MAC, STACK, STACK)
    assert wire.interface.address_state() == "READY"
    assert wire.counter("address_conflicts") == 0


@pytest.mark.row("R5227-2")
def test_address_in_use_is_not_probed() -> None:
    peer = established()
    with pytest.raises(LocalProtocolError):
        peer.interface.probe(peer.now)
    peer.send(b"x")
    peer.expect(".", data=b"x")


@pytest.mark.row("R5227-3")
@pytest.mark.parametrize(("op", "tpa"), [(1, STACK), (1, OTHER), (2, STACK), (2, PEER)])
def test_conflict_is_defended_once_in_ten_seconds(op: int, tpa: int) -> None:
    wire = Wire()
    wire.arp(op, RIVAL_MAC, STACK, tpa)
    (defence,) = wire.take_arps()
    assert is_announcement(defence)
    for _ in range(4):
        wire.advance(2 * S)
        wire.arp(op, RIVAL_MAC, STACK, tpa)
    assert wire.take_arps() == []
    wire.advance(2 * S)
    wire.arp(op, RIVAL_MAC, STACK, tpa)
    assert [is_announcement(packet) for packet in wire.take_arps()] == [True]
    assert wire.counter("address_conflicts") == 6
    assert known(wire) == {}, "the rival is not believed"
    assert wire.answers_echo()


# -- Ethernet ----------------------------------------------------------------------------------------------


@pytest.mark.row("R894-1")
@pytest.mark.parametrize("mac", ["02005e100003", "000000000000", "02005e100102"])
def test_frame_to_another_host_is_dropped(mac: str) -> None:
    wire = Wire()
    wire.raw(pk.ipv4(pk.icmp(8, 0, 1), 1), destination_mac=bytes.fromhex(mac))
    wire.arp(1, PEER_MAC, PEER, STACK, to=bytes.fromhex(mac))
    assert wire.is_silent()
    assert wire.counter("dropped_not_for_us") == 2


@pytest.mark.row("R894-1")
@pytest.mark.parametrize("ethertype", [0x86DD, 0x8100, 0x88CC, 0x002E, 0x0805, 0xFFFF])
def test_unknown_ethertype_is_dropped(ethertype: int) -> None:
    wire = Wire()
    wire.frame(pk.ethernet(pk.ipv4(pk.icmp(8, 0, 1), 1), ethertype))
    assert wire.is_silent()
    assert wire.counter("dropped_unknown_ethertype") == 1


@pytest.mark.row("R894-1")
@pytest.mark.parametrize("length", range(14))
def test_runt_is_dropped(length: int) -> None:
    wire = Wire()
    wire.frame(pk.ethernet(b"")[:length])
    assert wire.is_silent()
    assert wire.counter("dropped_malformed") == 1


@pytest.mark.row("R894-1")
def test_padding_of_a_minimum_frame_is_no_data() -> None:
    peer = established()
    segment = peer.segment(".")
    assert len(segment) == 20
    peer.frame(pk.ethernet(pk.ipv4(segment) + b"\xee" * 6))
    assert peer.connection.receivable() == 0
    peer.advance(1 * S)
    peer.expect_nothing()
    assert peer.connection.info()["rcv_nxt"] == (peer.iss + 1) & 0xFFFF_FFFF
