"""ICMP as a host (RFC 792, RFC 1122 §3.2.2, RFC 1812 §4.3.2, RFC 5927, RFC 6633)."""

from __future__ import annotations

import struct

import pytest

from appliance.stack.ip_config import IpConfig
from appliance.stack.tcp.state import State
from tests.support import packets as pk
from tests.support.packets import BROADCAST_MAC, PEER, PEER_MAC, STACK, ip
from tests.support.peer import MS, PEER_PORT, PORT, Peer, S, established, syn_sent
from tests.support.wire import (
    DONT,
    ECHO,
    ECHO_REPLY,
    ICMP,
    MORE,
    PARAMETER_PROBLEM,
    REDIRECT,
    SOURCE_QUENCH,
    TCP,
    TIME_EXCEEDED,
    UDP,
    UNREACHABLE,
    Wire,
    datagram,
    fragments,
    udp,
    whole,
)

PATTERN = bytes(index % 251 for index in range(65_507))


# -- echo --------------------------------------------------------------------------------------------------


@pytest.mark.row("R792-1")
@pytest.mark.parametrize("size", [0, 1, 56, 524, 525, 1472])
@pytest.mark.parametrize("vnet_header", [True, False])
def test_echo_is_answered_with_its_data(size: int, vnet_header: bool) -> None:
    wire = Wire(vnet_header=vnet_header)
    wire.echo(PATTERN[:size], rest=0xABCD_0102, tos=0x2B)
    (reply,) = wire.take()
    assert reply.icmp == (ECHO_REPLY, 0)
    assert (reply.source, reply.destination, reply.destination_mac) == (STACK, PEER, PEER_MAC)
    assert (reply.rest, reply.data) == (0xABCD_0102, PATTERN[:size])
    assert reply.tos == 0x28, "the DSCP comes back, the ECN bits do not (RFC 1349 §5.1)"
    assert reply.word in (0, DONT)


@pytest.mark.row("R792-1", "R815-1")
@pytest.mark.parametrize("vnet_header", [True, False])
@pytest.mark.parametrize("size", [1473, 3000, 65_507])
def test_large_echo_is_reassembled_and_answered_in_fragments(size: int, vnet_header: bool) -> None:
    wire = Wire(vnet_header=vnet_header)
    message = pk.icmp(ECHO, 0, 0x0001_0002, PATTERN[:size])
    for piece in fragments(message, *range(1480, len(message), 1480)):
        wire.raw(piece)
    replies = wire.take()
    assert len(replies) == -(-(size + 8) // 1480)
    assert all(len(reply.raw) <= 1500 for reply in replies)
    payload = whole(replies)
    assert pk.internet_checksum(payload) == 0
    assert payload[0] == ECHO_REPLY
    assert payload[4:] == message[4:]


@pytest.mark.row("R792-1")
def test_fragments_fit_a_small_mtu() -> None:
    wire = Wire(mtu=576)
    message = pk.icmp(ECHO, 0, 7, PATTERN[:1400])
    for piece in fragments(message, 552, 1104):
        wire.raw(piece)
    replies = wire.take()
    assert all(len(reply.raw) <= 576 for reply in replies)
    assert whole(replies)[8:] == PATTERN[:1400]


@pytest.mark.row("R792-1")
@pytest.mark.parametrize("destination", ["255.255.255.255", "10.77.0.255"])
def test_broadcast_echo_is_dropped(destination: str) -> None:
    """RFC 1122 §3.2.2.6 lets us choose; answering makes a host an amplifier."""
    wire = Wire()
    wire.raw(datagram(pk.icmp(ECHO, 0, 1), destination=ip(destination)), destination_mac=BROADCAST_MAC)
    wire.raw(datagram(pk.icmp(ECHO, 0, 1)), destination_mac=BROADCAST_MAC)
    assert wire.is_silent()
    assert wire.counter("dropped_broadcast_icmp") == 2


@pytest.mark.row("R792-1")
@pytest.mark.parametrize("mac", [BROADCAST_MAC, bytes.fromhex("01005e000001")])
def test_nothing_is_sent_to_a_sender_with_a_group_address(mac: bytes) -> None:
    wire = Wire()
    wire.raw(datagram(pk.icmp(ECHO, 0, 1)), source_mac=mac)
    wire.raw(datagram(udp(), protocol=UDP), source_mac=mac)
    wire.raw(datagram(pk.tcp("S", seq=1), protocol=TCP), source_mac=mac)
    assert wire.is_silent()


# -- what is dropped ---------------------------------------------------------------------------------------


@pytest.mark.row("R792-2")
@pytest.mark.parametrize("error", [1, 0x0100, 0xFFFE])
def test_wrong_icmp_checksum_is_dropped(error: int) -> None:
    wire = Wire()
    wire.datagram(pk.icmp(ECHO, 0, 1, b"x", checksum_error=error), ICMP)
    assert wire.is_silent()
    assert wire.answers_echo()


@pytest.mark.row("R792-2")
@pytest.mark.parametrize("length", range(8))
def test_message_shorter_than_its_header_is_dropped(length: int) -> None:
    wire = Wire()
    wire.datagram(pk.icmp(ECHO, 0, 1)[:length], ICMP)
    assert wire.is_silent()


@pytest.mark.row("R792-3")
@pytest.mark.parametrize("kind", [0, 1, 2, 6, 7, 9, 10, 13, 14, 15, 16, 17, 18, 30, 40, 99, 255])
def test_type_that_is_not_ours_to_answer_is_dropped(kind: int) -> None:
    wire = Wire()
    wire.datagram(pk.icmp(kind, 0, 1, bytes(40)), ICMP)
    assert wire.is_silent()


# -- errors that we send -----------------------------------------------------------------------------------


@pytest.mark.row("R792-5")
@pytest.mark.parametrize("protocol", [2, 41, 47, 50, 132, 200, 255])
def test_unknown_protocol_is_unreachable(protocol: int) -> None:
    wire = Wire()
    wire.datagram(b"payload!", protocol)
    (report,) = wire.take()
    assert report.icmp == (UNREACHABLE, 2)


@pytest.mark.row("R792-5")
def test_udp_port_without_a_listener_is_unreachable() -> None:
    wire = Wire()
    wire.datagram(udp(b"x"), UDP)
    (report,) = wire.take()
    assert report.icmp == (UNREACHABLE, 3)


@pytest.mark.row("R792-5")
def test_udp_checksum_decides_whether_there_is_something_to_report() -> None:
    plain = udp(b"data", checksum=0)
    right = pk.internet_checksum(pk.pseudo_header(PEER, STACK, UDP, len(plain)) + plain)
    wire = Wire()
    wire.datagram(udp(b"data", checksum=right), UDP)
    assert [report.icmp for report in wire.take()] == [(UNREACHABLE, 3)]
    wire.datagram(udp(b"data", checksum=right ^ 1), UDP)
    wire.datagram(b"short", UDP)
    wire.datagram(udp(b"data")[:-1], UDP)
    wire.datagram(udp()[:4] + bytes(4), UDP)
    assert wire.is_silent()


@pytest.mark.row("R792-5")
def test_segment_to_a_closed_port_gets_a_reset_and_no_icmp() -> None:
    wire = Wire()
    wire.datagram(pk.tcp("S", seq=1, destination_port=9), TCP)
    (reset,) = wire.take()
    assert reset.protocol == TCP
    assert reset.payload[13] & pk.FLAG_BITS["R"]


@pytest.mark.row("R792-4")
@pytest.mark.parametrize(
    "kind", [UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM, ECHO_REPLY]
)
def test_no_error_about_an_error(kind: int) -> None:
    quote = datagram(udp(), source=STACK, destination=PEER, protocol=UDP)
    malformed = b"\x94\x00\x00\x00"
    wire = Wire()
    wire.datagram(pk.icmp(kind, 0, 0, quote), ICMP)
    if kind != ECHO_REPLY:
        wire.datagram(pk.icmp(kind, 0, 0, quote), ICMP, options=malformed)
        wire.raw(fragments(pk.icmp(kind, 0, 0, quote + bytes(100)), 64)[0])
    wire.advance(100 * S)
    assert wire.is_silent()


@pytest.mark.row("R792-4")
def test_no_error_about_a_fragment_that_is_not_the_first() -> None:
    wire = Wire()
    wire.datagram(b"payload!", 200, fragment=1 | MORE)
    wire.datagram(b"payload!", 200, fragment=2)
    wire.datagram(b"payload!", 200, fragment=3, options=b"\x94\x00\x00\x00")
    wire.advance(100 * S)
    assert wire.is_silent()


@pytest.mark.row("R792-4")
@pytest.mark.parametrize(
    ("destination", "mac"),
    [
        ("255.255.255.255", BROADCAST_MAC),
        ("10.77.0.255", BROADCAST_MAC),
        ("224.0.0.1", bytes.fromhex("01005e000001")),
        ("10.77.0.2", BROADCAST_MAC),
        ("10.77.0.2", bytes.fromhex("01005e000001")),
    ],
)
@pytest.mark.parametrize("options", [b"", b"\x94\x00\x00\x00"])
def test_no_error_about_a_broadcast(destination: str, mac: bytes, options: bytes) -> None:
    wire = Wire()
    for protocol, payload in ((200, b"payload!"), (UDP, udp())):
        wire.raw(
            datagram(payload, protocol=protocol, destination=ip(destination), options=options),
            destination_mac=mac,
        )
    assert wire.is_silent()


@pytest.mark.row("R792-4")
@pytest.mark.parametrize("source", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.77.0.255"])
def test_no_error_to_a_source_that_is_no_host(source: str) -> None:
    wire = Wire()
    wire.datagram(b"payload!", 200, source=ip(source))
    assert wire.is_silent()


@pytest.mark.row("R792-6")
@pytest.mark.parametrize("size", [0, 4, 8, 100, 528, 529, 1400])
@pytest.mark.parametrize("options", [b"", b"\x01\x01\x01\x01"])
def test_error_quotes_as_much_as_fits_in_576_bytes(size: int, options: bytes) -> None:
    wire = Wire()
    offending = datagram(PATTERN[:size], protocol=200, tos=0xB9, options=options, identification=0x1234)
    wire.raw(offending)
    (report,) = wire.take()
    assert report.data == offending[: 576 - 28]
    assert len(report.raw) <= 576
    assert (report.tos, report.rest) == (0, 0)
    assert report.destination == PEER


@pytest.mark.row("R792-7")
def test_errors_are_limited_and_echoes_have_a_limit_of_their_own() -> None:
    wire = Wire()
    for index in range(1_000):
        wire.datagram(udp(source_port=4000 + index), UDP)
        wire.now += 1 * MS
    errors = len(wire.take())
    assert 100 <= errors <= 150
    assert wire.counter("icmp_rate_limited") == 1_000 - errors
    assert wire.answers_echo()
    wire.now += 1 * S
    wire.datagram(udp(), UDP)
    assert len(wire.take()) == 1, "a second later there is room again"


@pytest.mark.row("R792-7")
def test_limits_are_tunable() -> None:
    config = IpConfig(
        icmp_errors_per_second=2, icmp_error_burst=3, echo_replies_per_second=5, echo_reply_burst=7
    )
    wire = Wire(ip=config)
    for _ in range(50):
        wire.datagram(udp(), UDP)
        wire.echo(b"")
    assert len([reply for reply in wire.take() if reply.icmp[0] == UNREACHABLE]) == 3
    assert wire.counter("echo_rate_limited") == 43
    wire.now += 1 * S
    for _ in range(50):
        wire.datagram(udp(), UDP)
        wire.echo(b"")
    kinds = [reply.icmp[0] for reply in wire.take()]
    assert (kinds.count(UNREACHABLE), kinds.count(ECHO_REPLY)) == (2, 5)


# -- what others report ------------------------------------------------------------------------------------


def quote_of(peer: Peer, *, seq: int, length: int = 8, peer_port: int = PEER_PORT, port: int = PORT) -> bytes:
    """The beginning of a datagram of the stack, as a router would quote it. seq is relative."""
    segment = pk.tcp(
        ".", seq=peer.stack_iss + seq, source_port=port, destination_port=peer_port, data=bytes(1000),
        source=STACK, destination=PEER,
    )  # fmt: skip
    return pk.ipv4(segment, source=STACK, destination=PEER, fragment=DONT)[: 20 + length]


def report(peer: Peer, kind: int, code: int, quote: bytes, rest: int = 0) -> None:
    peer.datagram(pk.icmp(kind, code, rest, quote), ICMP, source=ip("10.77.0.254"))


SOFT_ERRORS = [(UNREACHABLE, code) for code in (0, 1, 2, 3, 5, 6, 7, 9, 10, 13)] + [
    (TIME_EXCEEDED, 0), (TIME_EXCEEDED, 1), (PARAMETER_PROBLEM, 0),
]  # fmt: skip


@pytest.mark.row("MUST-56")
@pytest.mark.parametrize(("kind", "code"), SOFT_ERRORS)
def test_error_about_data_in_flight_does_not_end_the_connection(kind: int, code: int) -> None:
    peer = established()
    peer.send(b"hello")
    peer.expect(".", data=b"hello")
    report(peer, kind, code, quote_of(peer, seq=1))
    assert peer.state == State.ESTABLISHED
    peer.advance(3 * S)
    assert peer.expect(".", seq=1).data == b"hello", "and the data is still retransmitted"
    peer.drain()
    peer.inject(".", ack=6)
    assert peer.connection.unsent_and_unacked() == 0


@pytest.mark.row("MUST-54")
def test_error_reaches_the_connection_that_it_quotes() -> None:
    peer = established()
    other = peer.interface.connect(PEER, 7777, peer.now, 8888)
    peer.flush()
    syn = peer.other[-1]
    quote = pk.ipv4(
        pk.tcp("S", seq=syn.seq, source_port=8888, destination_port=7777), source=STACK, destination=PEER
    )
    report(peer, UNREACHABLE, 3, quote[:28])
    assert other.is_closed
    assert type(other.failure()).__name__ == "Refused"
    assert peer.state == State.ESTABLISHED


@pytest.mark.row("MUST-54")
@pytest.mark.parametrize("code", [0, 1, 5])
def test_soft_error_about_a_syn_says_why_it_failed_in_the_end(code: int) -> None:
    peer = syn_sent()
    report(peer, UNREACHABLE, code, quote_of(peer, seq=0))
    assert peer.state == State.SYN_SENT
    assert f"ICMP type 3 code {code}" in peer.connection.soft_error


@pytest.mark.row("MUST-55")
def test_source_quench_is_ignored() -> None:
    peer = established()
    peer.send(bytes(500))
    before = peer.connection.info()
    report(peer, SOURCE_QUENCH, 0, quote_of(peer, seq=1))
    assert peer.connection.info() == before
    assert peer.counter("dropped_source_quench") == 1


@pytest.mark.row("R792-8")
@pytest.mark.parametrize("code", range(4))
def test_redirect_changes_nothing(code: int) -> None:
    gateway, other = ip("10.77.0.254"), ip("10.77.0.253")
    remote = ip("192.0.2.1")
    peer = Peer(gateway=gateway)
    peer.resolve(bytes.fromhex("02005e1000fe"), gateway)
    peer.resolve(bytes.fromhex("02005e1000fd"), other)
    quote = pk.ipv4(pk.tcp("S", seq=1), source=STACK, destination=remote)[:28]
    peer.datagram(pk.icmp(REDIRECT, code, other, quote), ICMP, source=gateway)
    peer.interface.connect(remote, 80, peer.now)
    peer.flush()
    assert peer.other[-1].destination_mac == bytes.fromhex("02005e1000fe")
    assert peer.counter("dropped_redirect") == 1


@pytest.mark.row("R792-9")
@pytest.mark.parametrize("kind", [UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM])
def test_truncated_quote_changes_nothing(kind: int) -> None:
    peer = syn_sent()
    before = peer.connection.info()
    whole_quote = quote_of(peer, seq=0, length=8)
    for length in range(len(whole_quote)):
        for code in (0, 3, 4):
            report(peer, kind, code, whole_quote[:length], 100)
    assert peer.connection.info() == before
    assert peer.connection.soft_error == ""
    assert peer.state == State.SYN_SENT


def changed(quote: bytes, index: int, value: int) -> bytes:
    return quote[:index] + bytes((value,)) + quote[index + 1 :]


@pytest.mark.row("R792-9")
@pytest.mark.parametrize(
    ("index", "value"),
    [(0, 0x40), (0, 0x44), (0, 0x4F), (0, 0x65), (6, 0x00), (9, UDP), (12, 11), (16, 11), (20, 0), (22, 0)],
    ids=[
        "IHL 0",
        "IHL 4",
        "IHL 15",
        "version",
        "no DF",
        "protocol",
        "source",
        "destination",
        "port",
        "port 2",
    ],
)
def test_inconsistent_quote_changes_nothing(index: int, value: int) -> None:
    peer = syn_sent()
    before = peer.connection.info()
    quote = changed(quote_of(peer, seq=0), index, value)
    if index == 6:
        quote = changed(quote, 7, 5)  # a fragment's offset: what follows is no header
    report(peer, UNREACHABLE, 3, quote)
    report(peer, UNREACHABLE, 4, quote, 1000)
    assert peer.connection.info() == before
    assert peer.state == State.SYN_SENT
    assert peer.interface.path_mtus() == []


@pytest.mark.row("R792-9", "MUST-54")
@pytest.mark.parametrize("seq", [0, 6, 7, 100_000, -1, 1 << 31])
def test_quote_of_what_is_not_in_flight_changes_nothing(seq: int) -> None:
    peer = established()
    peer.send(b"hello")  # 1:6 is in flight
    report(peer, UNREACHABLE, 1, quote_of(peer, seq=seq))
    assert peer.connection.soft_error == ""
    assert peer.counter("icmp_errors_not_believed") == 1


@pytest.mark.row("R792-9")
def test_error_with_quoted_options_is_understood() -> None:
    peer = established()
    peer.send(b"hello")
    segment = pk.tcp(".", seq=peer.stack_iss + 1, source_port=PORT, destination_port=PEER_PORT)
    quote = pk.ipv4(segment, source=STACK, destination=PEER, options=b"\x01" * 12)[: 32 + 8]
    report(peer, UNREACHABLE, 1, quote)
    assert peer.connection.soft_error == "ICMP type 3 code 1"
    assert struct.unpack_from("!H", quote, 32)[0] == PORT
