"""The interface around TCP: what it drops and counts, ICMP, listeners, the pool, ports, and its contract."""

from __future__ import annotations

import pytest

from appliance.errors import LocalProtocolError, Refused
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import State
from appliance.stack.timebase import NEVER
from tests.support import packets as pk
from tests.support.packets import (
    BROADCAST_MAC,
    PEER,
    PEER_MAC,
    STACK,
    ethernet,
    icmp,
    ip,
    ipv4,
    mss_option,
    tcp,
)
from tests.support.peer import MS, Peer, S, established, make_interface, syn_received, syn_sent, time_wait

ECHO = icmp(8, 0, 0x12340001, b"payload")
UDP = bytes.fromhex("0fa00009000a0000") + b"hi"  # to port 9, without a checksum
LISTENING = 6379


def listening(**settings: object) -> Peer:
    peer = Peer(**settings)  # type: ignore[arg-type]
    peer.listen()
    return peer


def silence(peer: Peer) -> None:
    peer.expect_nothing()
    assert peer.other == []


def syn(**more: object) -> bytes:
    return tcp("S", seq=1, **more)  # type: ignore[arg-type]


# -- Ethernet ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vnet_header", [True, False])
@pytest.mark.parametrize("length", range(24))
def test_runt_is_counted_as_malformed(vnet_header: bool, length: int) -> None:
    interface = make_interface(vnet_header=vnet_header)
    frame = (bytes(10) if vnet_header else b"") + ethernet(b"")
    if length < len(frame):
        interface.receive_frame(frame[:length], 0)
        assert interface.counters.as_dict()["dropped_malformed"] == 1
    assert interface.frames_to_send(0) == []


def test_frame_to_another_mac_is_dropped() -> None:
    peer = listening()
    peer.frame(ethernet(ipv4(syn()), destination=bytes.fromhex("02005e1000ff")))
    silence(peer)
    assert peer.counter("dropped_not_for_us") == 1


def test_unknown_ethertype_is_dropped() -> None:
    peer = listening()
    peer.frame(ethernet(b"\0" * 46, 0x86DD))
    silence(peer)
    assert peer.counter("dropped_unknown_ethertype") == 1


@pytest.mark.parametrize(
    "what",
    [ipv4(syn(destination_port=9)), ipv4(ECHO, 1), ipv4(b"x" * 8, 200)],
    ids=["tcp", "echo", "protocol"],
)
def test_frame_from_a_group_mac_is_never_answered(what: bytes) -> None:
    peer = listening()
    peer.frame(ethernet(what, source=bytes.fromhex("01005e000001")))
    silence(peer)
    assert peer.counter("dropped_bad_source") == 1


# -- IPv4 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "datagram",
    [
        ipv4(syn(), version=6),
        ipv4(syn(), ihl=4),
        ipv4(syn(), ihl=15),
        ipv4(syn(), total_length=19),
        ipv4(syn(), total_length=41),
        ipv4(syn(), checksum=0x1234),
        ipv4(syn())[:19],
        ipv4(b"", total_length=20, ihl=6),
    ],
    ids=[
        "version",
        "ihl below 5",
        "ihl beyond",
        "total below header",
        "total beyond",
        "checksum",
        "short",
        "ihl beyond total",
    ],
)
def test_malformed_datagram_is_counted_and_dropped(datagram: bytes) -> None:
    peer = listening()
    peer.frame(ethernet(datagram))
    silence(peer)
    assert peer.counter("dropped_malformed") == 1


def test_padding_behind_the_datagram_is_no_data() -> None:
    peer = established()
    peer.frame(ethernet(ipv4(peer.segment("."))) + b"\xaa" * 6)
    silence(peer)
    assert peer.connection.receivable() == 0


@pytest.mark.rfc("9293", "MUST-50")
def test_ip_options_are_skipped() -> None:
    peer = established()
    peer.datagram(peer.segment(".", data=b"abc"), options=b"\x01\x01\x44\x04\x05\x00\x82\x02")
    assert peer.connection.receive(10) == b"abc"


def test_datagram_for_another_host_is_dropped() -> None:
    peer = listening()
    for protocol, payload in ((6, syn(destination=ip("10.77.0.3"))), (1, ECHO), (17, b"12345678")):
        peer.datagram(payload, protocol, destination=ip("10.77.0.3"))
    silence(peer)
    assert peer.counter("dropped_not_for_us") == 3


@pytest.mark.rfc("9293", "MUST-57")
@pytest.mark.parametrize("destination", ["255.255.255.255", "10.77.0.255", "224.0.0.1"])
def test_segment_to_a_broadcast_address_is_dropped_silently(destination: str) -> None:
    peer = listening()
    payload = syn(destination=ip(destination))
    peer.frame(ethernet(ipv4(payload, destination=ip(destination)), destination=BROADCAST_MAC))
    silence(peer)


def test_unicast_segment_in_a_broadcast_frame_is_dropped() -> None:
    peer = listening()
    peer.frame(ethernet(ipv4(syn()), destination=BROADCAST_MAC))
    silence(peer)
    assert peer.counter("dropped_broadcast_segment") == 1


@pytest.mark.rfc("9293", "MUST-63")
@pytest.mark.parametrize(
    "source",
    [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "10.77.0.255",
        "10.77.0.2",
    ],
)
@pytest.mark.parametrize("protocol", [1, 6, 17])
def test_source_that_is_no_other_host_is_dropped(source: str, protocol: int) -> None:
    peer = listening()
    payload = {1: ECHO, 6: syn(source=ip(source)), 17: b"12345678"}[protocol]
    peer.datagram(payload, protocol, source=ip(source))
    silence(peer)
    assert peer.counter("dropped_bad_source") == 1
    assert len(peer.interface.neighbors()) == 1


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x2001])
def test_fragment_alone_opens_nothing(fragment: int) -> None:
    peer = listening()
    peer.datagram(syn(), fragment=fragment)
    silence(peer)
    assert peer.counter("fragments_in") == 1
    assert peer.interface.connections() == []


def test_dont_fragment_is_no_fragment_and_low_ttl_no_matter() -> None:
    peer = listening()
    peer.datagram(ECHO, 1, fragment=0x4000, ttl=1)
    assert peer.other[0].icmp_type == 0


def test_off_link_source_without_gateway_opens_nothing() -> None:
    peer = listening()
    source = ip("192.0.2.1")
    peer.datagram(syn(source=source), source=source)
    silence(peer)
    assert peer.interface.connections() == []


def test_point_to_point_prefix_has_no_broadcast_address() -> None:
    """RFC 3021: in a /31 both addresses are hosts."""
    peer = Peer(prefix_length=31, address=ip("10.77.0.3"), resolve=False)
    peer.frame(ethernet(ipv4(ECHO, 1, source=ip("10.77.0.2"), destination=ip("10.77.0.3"))))
    assert peer.other[0].icmp_type == 0


# -- checksums -----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9293", "MUST-3")
@pytest.mark.parametrize("vnet_header", [True, False])
def test_bad_checksum_is_dropped_in_every_role(vnet_header: bool) -> None:
    peer = established(vnet_header=vnet_header)
    peer.inject(".", seq=1, data=b"abc", checksum_error=1)
    peer.inject("R", seq=1, checksum_error=1)
    peer.inject("S", seq=0, source_port=40001, checksum_error=1)
    silence(peer)
    assert peer.connection.receivable() == 0
    assert peer.state == State.ESTABLISHED
    assert peer.counter("dropped_bad_checksum") == 3


@pytest.mark.parametrize(("flags", "accepted"), [(0, False), (1, True), (2, True), (3, True), (4, False)])
def test_link_may_vouch_for_the_checksum(flags: int, accepted: bool) -> None:
    peer = established()
    payload = peer.segment(".", data=b"abc", checksum_error=7)
    peer.frame(ethernet(ipv4(payload)), pk.vnet_header(flags, 0, 0, 0, 34, 16))
    assert peer.connection.receivable() == (3 if accepted else 0)


def test_without_virtio_header_nothing_vouches() -> None:
    """The first bytes of a bare frame are a MAC address, whatever bits it has."""
    peer = established(vnet_header=False, mac=bytes.fromhex("030000000000")[:0] + pk.STACK_MAC)
    assert pk.STACK_MAC[0] & 2
    peer.inject(".", data=b"abc", checksum_error=1)
    assert peer.connection.receivable() == 0


# -- ICMP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 56, 1472])
def test_echo_is_answered_with_the_same_data(size: int) -> None:
    peer = Peer()
    data = bytes(index & 0xFF for index in range(size))
    peer.datagram(icmp(8, 0, 0xABCD0007, data), 1)
    (reply,) = peer.other
    assert (reply.icmp_type, reply.icmp_code, reply.rest, reply.data) == (0, 0, 0xABCD0007, data)
    assert (reply.source, reply.destination) == (STACK, PEER)
    assert reply.destination_mac == PEER_MAC


def test_echo_with_a_bad_checksum_is_malformed() -> None:
    peer = Peer()
    peer.datagram(icmp(8, 0, 1, b"x", checksum_error=1), 1)
    silence(peer)
    assert peer.counter("dropped_malformed") == 1


@pytest.mark.parametrize("message", [ECHO[:7], b""])
def test_short_icmp_is_malformed(message: bytes) -> None:
    peer = Peer()
    peer.datagram(message, 1)
    silence(peer)
    assert peer.counter("dropped_malformed") == 1


@pytest.mark.parametrize("kind", [0, 4, 5, 13, 17, 99])
def test_other_icmp_draws_nothing(kind: int) -> None:
    peer = established()
    peer.datagram(icmp(kind, 0, 0, bytes(28)), 1)
    silence(peer)
    assert peer.state == State.ESTABLISHED


@pytest.mark.parametrize("destination", ["255.255.255.255", "10.77.0.255"])
def test_broadcast_echo_is_ignored(destination: str) -> None:
    peer = Peer()
    peer.frame(ethernet(ipv4(ECHO, 1, destination=ip(destination)), destination=BROADCAST_MAC))
    silence(peer)


@pytest.mark.parametrize(("protocol", "code"), [(17, 3), (200, 2), (132, 2)])
def test_unserved_protocol_gets_unreachable_with_a_quote(protocol: int, code: int) -> None:
    peer = Peer()
    datagram = ipv4(UDP, protocol)
    peer.frame(ethernet(datagram))
    (error,) = peer.other
    assert (error.icmp_type, error.icmp_code, error.rest) == (3, code, 0)
    assert error.data == datagram


@pytest.mark.parametrize("protocol", [17, 200])
def test_no_icmp_error_about_a_broadcast(protocol: int) -> None:
    peer = Peer()
    peer.frame(
        ethernet(ipv4(b"0123456789", protocol, destination=ip("10.77.0.255")), destination=BROADCAST_MAC)
    )
    peer.frame(ethernet(ipv4(b"0123456789", protocol), destination=BROADCAST_MAC))
    silence(peer)


def test_icmp_errors_are_rate_limited_and_echo_is_not() -> None:
    peer = Peer()
    for _ in range(300):
        peer.datagram(UDP, 17)
    assert len(peer.other) == 50
    assert peer.counter("icmp_rate_limited") == 250
    peer.datagram(ECHO, 1)
    assert peer.other[-1].icmp_type == 0
    peer.now += S
    peer.datagram(UDP, 17)
    assert peer.other[-1].icmp_type == 3


def quote(peer: Peer, seq: int, *, source_port: int | None = None) -> bytes:
    """The start of a segment of the stack, as an ICMP error quotes it."""
    header = tcp(
        ".",
        seq=peer.stack_iss + seq,
        source_port=peer.port if source_port is None else source_port,
        destination_port=peer.peer_port,
        source=STACK,
        destination=PEER,
    )
    return ipv4(header, source=STACK, destination=PEER)[:28]


@pytest.mark.rfc("9293", "MUST-56")
@pytest.mark.parametrize(("kind", "code"), [(3, 0), (3, 1), (3, 2), (3, 3), (3, 5), (11, 0), (12, 0)])
def test_icmp_error_never_ends_an_established_connection(kind: int, code: int) -> None:
    peer = established()
    peer.send(b"data")
    peer.drain()
    peer.datagram(icmp(kind, code, 0, quote(peer, 1)), 1)
    assert peer.state == State.ESTABLISHED
    if kind != 12:
        assert peer.connection.soft_error == f"ICMP type {kind} code {code}"  # MUST-47
    peer.advance(2 * S)
    assert peer.expect(".", seq=1).data == b"data"


@pytest.mark.parametrize("code", [2, 3])
def test_syn_sent_port_or_protocol_unreachable_refuses(code: int) -> None:
    peer = syn_sent()
    connection = peer.connection
    peer.datagram(icmp(3, code, 0, quote(peer, 0)), 1)
    assert connection.is_closed
    assert isinstance(connection.failure(), Refused)
    assert peer.interface.connections() == []


def test_syn_sent_host_unreachable_is_only_noted() -> None:
    peer = syn_sent()
    peer.datagram(icmp(3, 1, 0, quote(peer, 0)), 1)
    assert peer.state == State.SYN_SENT


def test_icmp_quote_of_a_segment_not_in_flight_is_ignored() -> None:
    peer = syn_sent()
    for seq in (-1, 2, 100_000):
        peer.datagram(icmp(3, 3, 0, quote(peer, seq)), 1)
    peer.datagram(icmp(3, 3, 0, quote(peer, 0, source_port=1)), 1)
    assert peer.state == State.SYN_SENT
    assert peer.connection.soft_error == ""


@pytest.mark.parametrize("length", range(28))
def test_icmp_truncated_quote_changes_nothing(length: int) -> None:
    peer = syn_sent()
    peer.datagram(icmp(3, 3, 0, quote(peer, 0)[:length]), 1)
    assert peer.state == State.SYN_SENT


def test_icmp_quote_with_an_odd_header_length_changes_nothing() -> None:
    peer = syn_sent()
    for first in (0x40, 0x44, 0x4F):
        peer.datagram(icmp(3, 3, 0, bytes((first,)) + quote(peer, 0)[1:]), 1)
    assert peer.state == State.SYN_SENT


def test_icmp_error_touches_only_the_connection_it_quotes() -> None:
    peer = syn_sent()
    other = peer.interface.connect(PEER, 50_000, peer.now, peer.port)
    peer.flush()
    peer.datagram(icmp(3, 3, 0, quote(peer, 0)), 1)
    assert peer.connection.is_closed
    assert other.state == State.SYN_SENT


# -- CLOSED: RFC 9293 §3.10.7.1 ------------------------------------------------------------------------------------


def reset_of(peer: Peer) -> tuple[str, int, int]:
    packet = peer.drain()[0] if peer.sent else peer.other.pop()
    return packet.flags, packet.seq, packet.ack


@pytest.mark.parametrize(
    ("flags", "seq", "ack", "data", "answer"),
    [
        ("S", 5, 0, b"", ("R.", 0, 6)),
        ("F", 5, 0, b"0123456789", ("R.", 0, 16)),
        ("-", 5, 0, b"", ("R.", 0, 5)),
        ("SF", 0xFFFF_FFFF, 0, b"", ("R.", 0, 1)),
        (".", 5, 77, b"", ("R", 77, 0)),
        ("S.", 5, 77, b"", ("R", 77, 0)),
        ("F.", 5, 0, b"x", ("R", 0, 0)),
    ],
)
def test_closed_segment_gets_rst(
    flags: str, seq: int, ack: int, data: bytes, answer: tuple[str, int, int]
) -> None:
    peer = Peer()
    peer.datagram(tcp(flags, seq=seq, ack=ack, data=data))
    assert reset_of(peer) == answer


@pytest.mark.parametrize("flags", ["R", "R.", "SR", "RF."])
def test_closed_rst_is_never_answered(flags: str) -> None:
    peer = Peer()
    peer.datagram(tcp(flags, seq=5, ack=9))
    silence(peer)


# -- LISTEN: RFC 9293 §3.10.7.2 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["R", "R.", "SR", "-", "F", "P", "SF"])
def test_listen_what_opens_nothing_is_dropped(flags: str) -> None:
    peer = listening()
    peer.datagram(tcp(flags, seq=5, ack=9))
    silence(peer)
    assert peer.interface.connections() == []


@pytest.mark.parametrize("flags", [".", "S.", "F.", "P."])
def test_listen_ack_gets_rst(flags: str) -> None:
    peer = listening()
    peer.datagram(tcp(flags, seq=5, ack=9))
    assert reset_of(peer) == ("R", 9, 0)


def test_listen_syn_gets_syn_ack() -> None:
    peer = listening()
    peer.inject("S", seq=0, options=mss_option(900))
    packet = peer.expect("S.", seq=0, ack=1)
    assert packet.mss == 1460
    assert packet.window_shift is None
    assert packet.dont_fragment
    assert peer.state == State.SYN_RECEIVED


@pytest.mark.rfc("9293", "MUST-41")
def test_listening_twice_is_an_error_and_disturbs_nothing() -> None:
    peer = established()
    for address in (0, STACK):
        with pytest.raises(LocalProtocolError):
            peer.interface.listen(LISTENING, address)
    peer.inject(".", data=b"x")
    assert peer.receive() == b"x"


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_listen_on_an_impossible_port_is_an_error(port: int) -> None:
    with pytest.raises(LocalProtocolError):
        make_interface().listen(port)


def test_listen_on_a_strange_address_is_an_error() -> None:
    with pytest.raises(LocalProtocolError):
        make_interface().listen(80, ip("10.77.0.9"))


def test_closed_listener_frees_its_port_and_refuses() -> None:
    peer = listening()
    assert peer.listener is not None
    peer.listener.close()
    peer.listener.close()
    assert peer.interface.listeners() == []
    peer.inject("S", seq=0)
    peer.expect("R.", raw_seq=0, ack=1)
    peer.listen()


def test_closing_a_listener_resets_who_was_not_accepted() -> None:
    peer = listening()
    assert peer.listener is not None
    peer.inject("S", seq=0)
    peer.expect("S.")
    peer.inject(".")
    peer.datagram(syn(source_port=40001))
    peer.other.clear()
    peer.listener.close()
    peer.flush()
    peer.expect("R.", seq=1, ack=1)
    assert [packet.flags for packet in peer.other] == ["R."]
    assert peer.interface.connections() == []


def test_backlog_bounds_what_is_not_accepted() -> None:
    peer = Peer()
    peer.listen(backlog=2)
    for port in (1, 2, 3):
        peer.datagram(syn(source_port=port))
    # The third is answered from a cookie: nothing is kept of it.
    assert [packet.flags for packet in peer.other] == ["S.", "S.", "S."]
    assert len(peer.interface.connections()) == 2


def test_accept_makes_room_in_the_backlog() -> None:
    peer = Peer()
    listener = peer.listen(backlog=1)
    peer.open_passive()
    peer.datagram(syn(source_port=2))
    assert peer.other[-1].flags == "S."
    assert listener.accept() is None


def test_connection_that_died_before_accept_leaves_the_backlog() -> None:
    peer = Peer()
    listener = peer.listen(backlog=1)
    for turn in range(3):
        peer.iss += 100_000
        peer.next = peer.seen = 0
        peer.inject("S", seq=0)
        peer.expect("S.")
        peer.inject(".")
        peer.inject("R", seq=1)
        assert peer.interface.connections() == [], turn
    assert listener.accept() is None


def test_half_open_connections_that_expire_leave_the_backlog() -> None:
    peer = Peer()
    peer.listen(backlog=1)
    peer.inject("S", seq=0)
    peer.advance(200 * S)
    assert peer.interface.connections() == []
    peer.datagram(syn(source_port=2))
    assert peer.other[-1].flags == "S."


def test_accept_gives_the_oldest_first_and_each_once() -> None:
    peer = listening()
    assert peer.listener is not None
    for port in (1, 2, 3):
        peer.datagram(syn(source_port=port))
    for port, packet in ((2, peer.other[1]), (3, peer.other[2]), (1, peer.other[0])):
        peer.datagram(tcp(".", seq=2, ack=packet.seq + 1, source_port=port))
    accepted = [peer.listener.accept() for _ in range(3)]
    assert [connection and connection.remote_port for connection in accepted] == [2, 3, 1]
    assert peer.listener.accept() is None


@pytest.mark.rfc("9293", "MUST-42")
def test_half_open_connection_does_not_block_the_port() -> None:
    peer = syn_received()
    peer.datagram(syn(source_port=50_000))
    assert peer.other[-1].flags == "S."


# -- the pool ------------------------------------------------------------------------------------------------------


def test_syn_beyond_the_pool_gets_rst() -> None:
    peer = listening(max_connections=2)
    for port in (1, 2, 3):
        peer.datagram(syn(source_port=port))
    assert [packet.flags for packet in peer.other] == ["S.", "S.", "R."]
    assert peer.counter("connections_refused_pool_full") == 1
    assert len(peer.interface.connections()) == 2


def test_full_pool_gives_up_the_oldest_time_wait() -> None:
    peer = time_wait(max_connections=1)
    old = peer.connection
    peer.datagram(syn(source_port=2))
    assert peer.other[-1].flags == "S."
    assert old.is_closed
    peer.interface.check_invariants()


def test_connect_beyond_the_pool_is_an_error() -> None:
    peer = established(max_connections=1)
    with pytest.raises(LocalProtocolError):
        peer.interface.connect(PEER, 80, peer.now)


# -- connect -------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9293", "MUST-46")
@pytest.mark.parametrize(
    "address",
    ["255.255.255.255", "10.77.0.255", "224.0.0.1", "0.0.0.0", "127.0.0.1", "10.77.0.2", "192.0.2.1"],
)
def test_connect_to_no_single_reachable_host_is_an_error(address: str) -> None:
    peer = Peer()
    with pytest.raises(LocalProtocolError):
        peer.interface.connect(ip(address), 80, peer.now)
    silence(peer)


@pytest.mark.parametrize(("remote", "local"), [(0, 0), (65536, 0), (-1, 0), (80, 65536), (80, -1)])
def test_connect_with_an_impossible_port_is_an_error(remote: int, local: int) -> None:
    with pytest.raises(LocalProtocolError):
        make_interface().connect(PEER, remote, 0, local)


def test_connect_twice_from_one_port_is_an_error() -> None:
    peer = syn_sent()
    with pytest.raises(LocalProtocolError):
        peer.interface.connect(PEER, peer.peer_port, peer.now, peer.port)


def test_connect_again_right_after_abort_is_possible() -> None:
    peer = syn_sent()
    peer.connection.abort()
    peer.interface.connect(PEER, peer.peer_port, peer.now, peer.port)
    peer.flush()
    peer.expect("S")
    assert len(peer.interface.connections()) == 1


def test_ephemeral_ports_differ_and_are_in_range() -> None:
    interface = make_interface()
    ports = {interface.connect(PEER, 80, 0).local_port for _ in range(500)}
    assert len(ports) == 500
    assert min(ports) >= 49152
    assert max(ports) <= 65535


# -- ISN -----------------------------------------------------------------------------------------------------------


def isn(seed: int = 1, port: int = 40000, now: int = 0) -> int:
    peer = Peer(seed=seed, start=now, peer_port=port)
    peer.connect()
    return peer.expect("S").seq


@pytest.mark.rfc("9293", "MUST-8")
def test_isn_ticks_every_four_microseconds() -> None:
    assert (isn(now=10 * S) - isn(now=0)) & 0xFFFF_FFFF == 2_500_000


@pytest.mark.rfc("9293", "MUST-9")
def test_isn_depends_on_the_secret() -> None:
    assert isn(seed=1) != isn(seed=2)


@pytest.mark.rfc("9293", "SHLD-1")
def test_isns_of_neighbouring_ports_look_random() -> None:
    numbers = [isn(port=port) for port in range(40000, 40100)]
    assert len({number >> 24 for number in numbers}) > 50
    assert len(set(numbers)) == 100


# -- the contract with who drives it ---------------------------------------------------------------------------------


def test_ended_connection_is_not_found_by_segments_before_the_flush() -> None:
    """The user aborts, and a segment of the same batch arrives before anybody flushes."""
    peer = established()
    peer.send(b"abc")
    peer.drain()
    peer.connection.abort()
    peer.inject(".", data=b"late", flush=False)
    frames = [pk.parse(frame) for frame in peer.interface.frames_to_send(peer.now)]
    assert [packet.flags for packet in frames] == ["R.", "R"]


def test_results_are_the_callers_own_lists() -> None:
    peer = Peer()
    peer.interface.frames_to_send(0).append(b"mine")
    assert peer.interface.frames_to_send(0) == []
    mine = peer.interface.take_ready()
    peer.listen()
    peer.inject("S", seq=0)
    peer.inject(".")
    assert mine == []
    assert len(peer.interface.take_ready()) == 1
    assert peer.interface.take_ready() == []


def test_take_rescheduled_reports_only_deadlines_that_moved_earlier() -> None:
    peer = established(tcp=TcpConfig(delayed_ack_us=40 * MS))
    interface, connection = peer.interface, peer.connection
    connection.rearm()
    interface.take_rescheduled()
    assert connection.next_deadline() >= NEVER
    peer.send(b"x")  # retransmission timer: never -> some time
    assert interface.take_rescheduled() == [connection]
    assert connection.rearm() == connection.next_deadline() < NEVER
    peer.advance(100)
    peer.inject(".")  # all acknowledged: later (never), not reported
    assert interface.take_rescheduled() == []
    peer.send(b"y")  # still later than what is armed
    assert interface.take_rescheduled() == []
    peer.inject(".", ack=2, data=b"z")  # delayed ACK: earlier than what is armed
    assert interface.take_rescheduled() == [connection]


def test_deadline_before_its_time_is_a_no_op() -> None:
    peer = established()
    peer.send(b"x")
    peer.drain()
    peer.interface.handle_deadline(peer.now)
    peer.connection.handle_deadline(peer.now)
    assert peer.flush() == []


def test_next_deadline_is_never_when_all_is_quiet() -> None:
    assert established().interface.next_deadline() == NEVER
    assert make_interface().next_deadline() == NEVER


def test_owner_and_listener_are_kept_for_the_shell() -> None:
    peer = listening()
    assert peer.listener is not None
    peer.inject("S", seq=0)
    peer.inject(".")
    (connection,) = peer.interface.take_ready()
    assert connection.listener is peer.listener
    assert peer.listener.accept() is connection
    assert connection.listener is None
    connection.owner = peer
    assert peer.connection.owner is peer


def test_every_counter_is_reported() -> None:
    counters = make_interface().counters
    names = [name for name in dir(counters) if not name.startswith("_") and name != "as_dict"]
    assert sorted(counters.as_dict()) == sorted(names)
