"""Path MTU discovery and the MSS (RFC 1191, RFC 4821, RFC 5927 §7, RFC 6691)."""

from __future__ import annotations

import pytest

from appliance.errors import LocalProtocolError
from appliance.stack.ip_config import IpConfig
from tests.support import packets as pk
from tests.support.packets import PEER, STACK, ip
from tests.support.peer import PEER_PORT, PORT, Peer, S, established
from tests.support.wire import DONT, ICMP, UNREACHABLE, Wire, fragments

ROUTER = ip("10.77.0.254")


def too_big(peer: Peer, mtu: int, *, seq: int = 1, length: int = 1460, **more: int) -> None:
    """Fragmentation needed and DF set, about the stack's segment seq:seq+length."""
    quote = quote_of(peer, seq=seq, length=length, **more)
    peer.datagram(pk.icmp(UNREACHABLE, 4, mtu, quote), ICMP, source=ROUTER)


def quote_of(peer: Peer, *, seq: int, length: int, peer_port: int = PEER_PORT, port: int = PORT) -> bytes:
    segment = pk.tcp(
        ".", seq=peer.stack_iss + seq, source_port=port, destination_port=peer_port, data=bytes(length),
        source=STACK, destination=PEER,
    )  # fmt: skip
    return pk.ipv4(segment, source=STACK, destination=PEER, fragment=DONT)[:28]


def with_flight(segments: int = 1, mss: int = 1460, **settings: object) -> Peer:
    """A connection with so many full segments in flight; they were taken from `sent`."""
    peer = established(mss=mss, **settings)  # type: ignore[arg-type]
    peer.send(bytes(segments * mss))
    assert sum(len(packet.data) for packet in peer.drain()) == segments * mss
    return peer


def smss(peer: Peer) -> int:
    value = peer.connection.info()["smss"]
    assert isinstance(value, int)
    return value


def second_connection(peer: Peer) -> tuple[Peer, pk.Packet]:
    """Another connection of the same peer; returns it and the SYN,ACK."""
    peer.inject(".", ack=peer.seen)
    peer.peer_port += 1
    peer.next = peer.seen = 0
    peer.stack_iss = 0
    peer.drain()
    peer.inject("S", seq=0, options=pk.mss_option(1460))
    answer = peer.expect("S.")
    peer.stack_iss = answer.seq
    peer.seen = 1
    peer.inject(".")
    return peer, answer


def largest_wire_segment(peer: Peer) -> int:
    """The largest segment among what was sent; one for segmentation offload is as large as its pieces."""
    return max(packet.gso_size or len(packet.data) for packet in peer.drain())


@pytest.mark.row("R1191-1")
@pytest.mark.parametrize("vnet_header", [True, False])
def test_segments_carry_df(vnet_header: bool) -> None:
    peer = established(mss=1460, vnet_header=vnet_header)
    peer.send(bytes(20_000))
    assert all(packet.dont_fragment for packet in peer.drain())


@pytest.mark.row("R1191-2")
@pytest.mark.parametrize("vnet_header", [True, False])
def test_fragmentation_needed_lowers_the_size_of_what_follows(vnet_header: bool) -> None:
    peer = with_flight(1, vnet_header=vnet_header)
    too_big(peer, 1200)
    assert peer.interface.path_mtus() == [(PEER, 1200)]
    assert smss(peer) == 1160
    peer.send(bytes(10_000))
    peer.advance(5 * S)
    peer.inject(".", ack=1461)
    sent = peer.sent[:]
    assert largest_wire_segment(peer) <= 1160
    assert {(packet.seq - peer.stack_iss) for packet in sent} >= {1}, "what was lost is sent again"
    peer.advance(60 * S)
    assert largest_wire_segment(peer) <= 1160


@pytest.mark.row("R1191-2")
def test_what_was_too_big_is_resent_at_once() -> None:
    peer = with_flight(1)
    too_big(peer, 1200)
    peer.expect(".", seq=1, length=1160)
    peer.expect(".", seq=1161, length=300)
    peer.expect_nothing()


@pytest.mark.row("R1191-3")
@pytest.mark.parametrize("mtu", [1, 20, 67, 68, 551])
def test_estimate_has_a_floor(mtu: int) -> None:
    """552 as in Linux: below that a message is more likely forged than true. RFC 1191's own floor is 68."""
    peer = with_flight()
    too_big(peer, mtu)
    assert peer.interface.path_mtus() == [(PEER, 552)]
    assert smss(peer) == 512


@pytest.mark.row("R1191-3")
@pytest.mark.parametrize("mtu", [1500, 1501, 9000, 65535])
def test_estimate_is_never_raised_by_icmp(mtu: int) -> None:
    peer = with_flight()
    too_big(peer, mtu)
    assert peer.interface.path_mtus() == []
    too_big(peer, 1200)
    too_big(peer, mtu)
    too_big(peer, 1300)
    assert peer.interface.path_mtus() == [(PEER, 1200)]
    assert smss(peer) == 1160


@pytest.mark.row("R1191-4")
@pytest.mark.parametrize(
    ("quoted", "expected"),
    [(1500, 1492), (1493, 1492), (1492, 1006), (1007, 1006), (1006, 552), (600, 552), (68, 552), (40, 552)],
)
def test_router_without_an_mtu_moves_us_to_the_plateau_below_the_quoted_length(
    quoted: int, expected: int
) -> None:
    peer = with_flight()
    too_big(peer, 0, length=quoted - 40)
    assert peer.interface.path_mtus() == [(PEER, expected)]


@pytest.mark.row("R1191-4")
def test_plateaus_of_a_large_link() -> None:
    peer = with_flight(mss=9000 - 40, mtu=9000)
    seen = []
    for _ in range(8):
        too_big(peer, 0, length=9000 - 40)
        seen.append(peer.interface.path_mtus()[0][1])
    assert seen == [8166, 4352, 2002, 1492, 1006, 552, 552, 552], (
        "a quoted length above the estimate is an old one"
    )


@pytest.mark.row("R1191-5")
@pytest.mark.parametrize("seq", [0, 1461, 2000, 1 << 31])
def test_quote_of_what_is_not_in_flight_is_ignored(seq: int) -> None:
    peer = with_flight()
    too_big(peer, 1200, seq=seq)
    assert peer.interface.path_mtus() == []
    assert peer.counter("icmp_errors_not_believed") == 1


@pytest.mark.row("R1191-5")
@pytest.mark.parametrize("ports", [(PEER_PORT + 1, PORT), (PEER_PORT, PORT + 1)])
def test_quote_of_another_connection_is_ignored(ports: tuple[int, int]) -> None:
    peer = with_flight()
    too_big(peer, 1200, peer_port=ports[0], port=ports[1])
    assert peer.interface.path_mtus() == []
    assert smss(peer) == 1460


@pytest.mark.row("R1191-5")
def test_quote_of_what_was_acknowledged_is_ignored() -> None:
    peer = with_flight()
    peer.inject(".", ack=1461)
    too_big(peer, 1200)
    assert peer.interface.path_mtus() == []


@pytest.mark.row("R1191-6")
def test_several_messages_for_one_flight_keep_cwnd() -> None:
    peer = with_flight(5)
    cwnd = peer.connection.info()["cwnd"]
    for index in range(5):
        too_big(peer, 1200, seq=1 + 1460 * index)
    assert peer.connection.info()["cwnd"] == cwnd
    assert peer.counter("path_mtu_lowered") == 1


@pytest.mark.row("R1191-6")
def test_several_messages_for_one_flight_make_one_resend() -> None:
    peer = with_flight(5)
    for index in range(5):
        too_big(peer, 1200, seq=1 + 1460 * index)
    resent = [0] * (5 * 1460 + 1)
    for packet in peer.drain():
        start = packet.seq - peer.stack_iss
        for position in range(start, start + len(packet.data)):
            resent[position] += 1
    assert resent == [0] + [1] * (5 * 1460)


@pytest.mark.row("R1191-7", "R1191-8")
def test_estimate_serves_the_next_connection_but_not_the_mss_that_we_offer() -> None:
    peer = with_flight()
    too_big(peer, 1200)
    _, answer = second_connection(peer)
    assert answer.mss == 1460
    peer.send(bytes(5_000))
    assert largest_wire_segment(peer) == 1160


@pytest.mark.row("R1191-7", "R1191-8")
def test_estimate_serves_an_active_open_too() -> None:
    peer = with_flight()
    too_big(peer, 1200)
    connection = peer.interface.connect(PEER, 80, peer.now, 5555)
    peer.flush()
    syn = peer.other[-1]
    assert syn.mss == 1460
    answer = pk.tcp(
        "S.", seq=1, ack=syn.seq + 1, source_port=80, destination_port=5555, options=pk.mss_option(1460)
    )
    peer.datagram(answer)
    assert connection.info()["smss"] == 1160


@pytest.mark.row("R1191-7")
@pytest.mark.parametrize("timeout", [600 * S, 60 * S])
def test_estimate_ages(timeout: int) -> None:
    peer = with_flight(ip=IpConfig(path_mtu_timeout_us=timeout))
    too_big(peer, 1200)
    peer.inject(".", ack=1461)
    peer.advance(timeout - 1)
    assert peer.interface.path_mtus() == [(PEER, 1200)]
    peer.advance(1)
    assert peer.interface.path_mtus() == []
    assert smss(peer) == 1460, "running connections try again as well"
    second_connection(peer)
    peer.send(bytes(1460))
    peer.expect(".", length=1460)


@pytest.mark.row("R1191-7")
def test_estimate_that_is_confirmed_does_not_age() -> None:
    peer = with_flight()
    too_big(peer, 1200)
    peer.inject(".", ack=1461)
    peer.advance(400 * S)
    peer.send(bytes(100))
    too_big(peer, 1200, seq=1461, length=100)
    peer.inject(".", ack=1561)
    peer.advance(400 * S)
    assert peer.interface.path_mtus() == [(PEER, 1200)]
    peer.advance(200 * S)
    assert peer.interface.path_mtus() == []


@pytest.mark.row("R1191-7")
def test_estimate_belongs_to_one_destination() -> None:
    peer = with_flight(prefix_length=8)
    too_big(peer, 1200)
    other = ip("10.78.0.1")
    peer.datagram(pk.tcp("S", seq=1, source=other, options=pk.mss_option(1460)), source=other)
    (connection,) = [each for each in peer.interface.connections() if each.remote_address == other]
    assert connection.info()["smss"] == 1460


@pytest.mark.row("R1191-7")
def test_all_connections_to_the_destination_learn_of_it() -> None:
    peer = with_flight()
    first = peer.connection
    second_connection(peer)
    peer.send(bytes(1460))
    too_big(peer, 1200, port=PORT, peer_port=peer.peer_port)
    assert first.info()["smss"] == smss(peer) == 1160


@pytest.mark.row("R4821-2")
def test_raised_estimate_does_not_raise_cwnd() -> None:
    peer = with_flight()
    too_big(peer, 1200)
    peer.inject(".", ack=1461)
    cwnd = peer.connection.info()["cwnd"]
    peer.advance(600 * S)
    assert smss(peer) == 1460
    assert peer.connection.info()["cwnd"] == cwnd


@pytest.mark.row("SHLD-6")
@pytest.mark.parametrize(("mtu", "mss"), [(1400, 1360), (576, 536), (9000, 8960)])
def test_mss_follows_the_mtu_of_the_interface(mtu: int, mss: int) -> None:
    peer = Peer()
    peer.listen()
    peer.interface.set_mtu(mtu)
    peer.inject("S", seq=0, options=pk.mss_option(65495))
    assert peer.expect("S.").mss == mss
    peer.inject(".")
    peer.send(bytes(3 * mss))
    assert largest_wire_segment(peer) == mss


@pytest.mark.row("SHLD-6")
def test_lowered_mtu_reaches_running_connections_and_answers() -> None:
    peer = established(mss=1460)
    peer.interface.set_mtu(1000)
    peer.send(bytes(5_000))
    assert largest_wire_segment(peer) == 960
    wire = Wire()
    wire.interface.set_mtu(600)
    for piece in fragments(pk.icmp(8, 0, 1, bytes(1400)), 576, 1152):
        wire.raw(piece)
    assert all(len(reply.raw) <= 600 for reply in wire.take())


@pytest.mark.row("SHLD-6")
@pytest.mark.parametrize("mtu", [-1, 0, 67, 65536])
def test_impossible_mtu_is_refused(mtu: int) -> None:
    peer = Peer()
    with pytest.raises(LocalProtocolError):
        peer.interface.set_mtu(mtu)
