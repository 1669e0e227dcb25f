"""ARP: the states of an entry, its timeouts, the queue, and what is believed (RFC 826, RFC 1122 §2.3.2)."""

from __future__ import annotations

import pytest

from appliance.stack.ip_config import NeighborConfig
from appliance.stack.tcp.config import TcpConfig
from tests.support import packets as pk
from tests.support.packets import BROADCAST_MAC, PEER, PEER_MAC, STACK, STACK_MAC, arp, ethernet, ip
from tests.support.peer import Peer, S, established, make_interface

NEW_MAC = bytes.fromhex("02005e1000aa")
MAX_NEIGHBORS = NeighborConfig().max_neighbors
MAX_QUEUED_FRAMES = NeighborConfig().max_queued_frames


def silent(**settings: object) -> Peer:
    """A peer that the stack does not know and that answers no ARP."""
    peer = Peer(resolve=False, **settings)  # type: ignore[arg-type]
    peer.answers_arp = False
    return peer


def state_of(peer: Peer, address: int = PEER) -> str:
    return {entry[0]: entry[2] for entry in peer.interface.neighbors()}.get(address, "none")


def reply_from(peer: Peer, mac: bytes = PEER_MAC, address: int = PEER) -> None:
    peer.frame(ethernet(arp(2, mac, address, STACK_MAC, STACK), 0x0806, source=mac))


@pytest.mark.parametrize("vnet_header", [True, False])
def test_request_for_our_address_gets_a_unicast_reply(vnet_header: bool) -> None:
    peer = silent(vnet_header=vnet_header)
    peer.frame(ethernet(arp(1, PEER_MAC, PEER, bytes(6), STACK), 0x0806, destination=BROADCAST_MAC))
    (reply,) = peer.other
    assert (reply.kind, reply.op) == ("arp", 2)
    assert reply.destination_mac == reply.tha == PEER_MAC
    assert reply.source_mac == reply.sha == STACK_MAC
    assert (reply.source, reply.destination) == (STACK, PEER)
    assert state_of(peer) == "REACHABLE"


def test_request_for_another_address_is_ignored_and_learns_nothing() -> None:
    peer = silent()
    peer.frame(ethernet(arp(1, PEER_MAC, PEER, bytes(6), ip("10.77.0.9")), 0x0806, destination=BROADCAST_MAC))
    assert peer.other == []
    assert peer.interface.neighbors() == []


def test_any_packet_of_a_known_sender_updates_its_mac() -> None:
    peer = established()
    peer.frame(ethernet(arp(1, NEW_MAC, PEER, bytes(6), ip("10.77.0.9")), 0x0806, destination=BROADCAST_MAC))
    peer.send(b"x")
    assert peer.expect(".", data=b"x").destination_mac == NEW_MAC


def test_probe_from_address_zero_is_answered_and_not_cached() -> None:
    peer = silent()
    peer.frame(ethernet(arp(1, PEER_MAC, 0, bytes(6), STACK), 0x0806, destination=BROADCAST_MAC))
    (reply,) = peer.other
    assert reply.destination_mac == PEER_MAC
    assert peer.interface.neighbors() == []


def test_reply_draws_no_answer() -> None:
    peer = silent()
    reply_from(peer)
    assert peer.other == []


@pytest.mark.parametrize(
    ("sha", "spa"),
    [(bytes.fromhex("01005e000001"), PEER), (BROADCAST_MAC, PEER), (bytes(6), PEER)],
    ids=["multicast sender", "broadcast sender", "no sender"],
)
def test_sender_that_cannot_be_is_not_believed(sha: bytes, spa: int) -> None:
    peer = silent()
    peer.frame(ethernet(arp(1, sha, spa, bytes(6), STACK), 0x0806))
    assert peer.other == []
    assert peer.interface.neighbors() == []
    assert peer.counter("dropped_bad_source") == 1


def test_unknown_peer_is_asked_for_and_the_segment_follows_the_reply() -> None:
    peer = silent()
    peer.connect()
    (request,) = peer.other
    assert (request.op, request.destination_mac) == (1, BROADCAST_MAC)
    assert (request.source, request.destination) == (STACK, PEER)
    peer.expect_nothing()
    reply_from(peer)
    assert peer.expect("S").destination_mac == PEER_MAC


def test_requests_come_once_a_second_three_times_then_the_entry_fails() -> None:
    peer = silent()
    peer.connect()
    start = peer.now
    peer.advance(20 * S)
    assert [packet.at - start for packet in peer.other] == [0, S, 2 * S]
    assert peer.counter("arp_failures") == 1


def test_failed_entry_drops_for_a_while_and_is_then_forgotten() -> None:
    peer = silent()
    peer.connect()
    peer.advance(int(3.5 * S))
    assert state_of(peer) == "FAILED"
    peer.advance(3 * S)
    assert state_of(peer) == "none"


def test_established_connection_finds_a_peer_that_comes_back() -> None:
    """An entry that failed leaves the cache; the connection that still holds it must find the new one."""
    peer = established()
    peer.answers_arp = False
    peer.send(b"hello")
    peer.drain()
    peer.advance(60 * S)
    peer.drain()
    peer.answers_arp = True
    peer.advance(120 * S)
    assert peer.expect(".", data=b"hello").destination_mac == PEER_MAC


def test_deadline_of_a_forgotten_entry_does_not_stay_behind() -> None:
    peer = silent()
    peer.connect()
    peer.call("abort")
    peer.advance(10 * S)
    assert peer.interface.link_deadline() > peer.now
    assert peer.time_to_deadline() > 100 * S


def test_queue_keeps_the_latest_frames() -> None:
    peer = silent(peer_port=40000)
    for port in range(1000, 1000 + MAX_QUEUED_FRAMES + 5):
        peer.interface.connect(PEER, port, peer.now, 7000)
        peer.flush()
    assert peer.counter("dropped_unresolved") == 5
    peer.other.clear()
    reply_from(peer)
    ports = [packet.destination_port for packet in peer.other]
    assert ports == list(range(1005, 1000 + MAX_QUEUED_FRAMES + 5))


def test_a_hundred_frames_to_a_dead_address_ask_once_a_second() -> None:
    peer = silent(tcp=TcpConfig(rto_initial_us=30_000, rto_max_us=30_000, syn_retries=1000))
    peer.connect()
    peer.advance(int(2.9 * S))
    assert len(peer.other) == 3


def test_reachable_entry_is_probed_by_unicast_after_a_minute_and_still_used() -> None:
    peer = established()
    peer.answers_arp = False
    peer.advance(61 * S)
    peer.send(b"x")
    (probe,) = peer.other
    assert probe.destination_mac == PEER_MAC
    assert state_of(peer) == "PROBE"
    assert peer.expect(".", data=b"x").destination_mac == PEER_MAC


def test_acknowledgment_confirms_the_neighbour() -> None:
    peer = established()
    peer.answers_arp = False
    peer.advance(61 * S)
    peer.send(b"x")
    assert state_of(peer) == "PROBE"
    peer.inject(".")
    assert state_of(peer) == "REACHABLE"
    peer.other.clear()
    peer.advance(10 * S)
    assert peer.other == []


def test_busy_connection_never_asks() -> None:
    peer = established()
    peer.answers_arp = False
    for _ in range(20):
        peer.advance(30 * S)
        peer.send(b"x")
        peer.inject(".")
    assert peer.other == []


@pytest.mark.rfc("9293", "MUST-20")
def test_three_retransmissions_verify_the_neighbour() -> None:
    peer = established()
    peer.answers_arp = False
    peer.send(b"x")
    start = peer.now
    peer.advance(3 * S)
    first = peer.other[0]
    assert first.destination_mac == PEER_MAC
    retransmissions = [packet for packet in peer.sent[1:] if packet.at <= first.at]
    assert len(retransmissions) == 3
    assert first.at > start


def test_announcement_is_a_broadcast_request_for_ourselves() -> None:
    interface = make_interface()
    interface.announce(5)
    (frame,) = interface.frames_to_send(5)
    packet = pk.parse(frame)
    assert (packet.op, packet.destination_mac) == (1, BROADCAST_MAC)
    assert packet.source == packet.destination == STACK
    assert packet.sha == STACK_MAC


def test_cache_is_bounded_and_gives_up_the_entry_confirmed_longest_ago() -> None:
    peer = silent(prefix_length=8)
    for index in range(MAX_NEIGHBORS + 10):
        peer.now += 1
        address = ip("10.1.0.0") + index
        peer.frame(ethernet(arp(1, PEER_MAC, address, bytes(6), STACK), 0x0806))
    known = [entry[0] for entry in peer.interface.neighbors()]
    assert len(known) == MAX_NEIGHBORS
    assert known[0] == ip("10.1.0.0") + 10


def test_connection_survives_the_eviction_of_its_neighbour() -> None:
    peer = established(prefix_length=8)
    for index in range(MAX_NEIGHBORS):
        peer.now += 1
        peer.frame(ethernet(arp(1, NEW_MAC, ip("10.1.0.0") + index, bytes(6), STACK), 0x0806))
    assert state_of(peer) == "none"
    peer.send(b"x")
    assert peer.expect(".", data=b"x").destination_mac == PEER_MAC
    assert state_of(peer) == "REACHABLE"


def test_off_link_peer_is_reached_through_the_gateway() -> None:
    gateway = ip("10.77.0.254")
    peer = silent(gateway=gateway)
    peer.interface.connect(ip("192.0.2.1"), 80, peer.now)
    peer.flush()
    (request,) = peer.other
    assert request.destination == gateway
    reply_from(peer, NEW_MAC, gateway)
    syn = peer.other[-1]
    assert syn.destination_mac == NEW_MAC
    assert syn.destination == ip("192.0.2.1")


def test_link_without_arp_sends_everything_to_the_one_mac_and_never_asks() -> None:
    peer = silent(neighbor=NeighborConfig(only_mac=NEW_MAC))
    peer.connect()
    peer.advance(int(0.1 * S))
    assert peer.sent[0].destination_mac == NEW_MAC
    peer.advance(200 * S)  # retransmissions cast no doubt on it, and no age
    assert len(peer.sent) > 3
    assert {packet.destination_mac for packet in peer.sent} == {NEW_MAC}
    assert peer.other == []
    assert state_of(peer) in ("REACHABLE", "none")
