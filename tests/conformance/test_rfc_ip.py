"""IPv4: headers, identification, reassembly (RFC 791, 815, 1122, 1858, 3128, 5722, 6864, 8900)."""

from __future__ import annotations

from itertools import permutations

import pytest

from appliance.stack.ip_config import IpConfig
from tests.support import packets as pk
from tests.support.packets import BROADCAST_MAC, PEER, STACK, ip
from tests.support.peer import MS, Peer, S, established
from tests.support.wire import (
    DONT,
    ECHO,
    ICMP,
    MORE,
    PARAMETER_PROBLEM,
    TCP,
    TIME_EXCEEDED,
    UDP,
    Wire,
    datagram,
    fragments,
    udp,
    whole,
)

ECHO_3000 = pk.icmp(ECHO, 0, 0x0042_0001, bytes(index % 251 for index in range(2992)))


def echo(data: bytes = b"hello") -> bytes:
    return pk.icmp(ECHO, 0, 0x0042_0001, data)


def silent_about(whole_datagram: bytes, **frame: bytes) -> Wire:
    wire = Wire()
    wire.raw(whole_datagram, **frame)
    assert wire.is_silent()
    assert wire.answers_echo()
    return wire


# -- header ------------------------------------------------------------------------------------------------


@pytest.mark.row("R791-1")
@pytest.mark.parametrize("version", [0, 5, 6, 15])
def test_version_other_than_4_is_dropped(version: int) -> None:
    silent_about(pk.ipv4(echo(), ICMP, version=version))


@pytest.mark.row("R791-1")
@pytest.mark.parametrize("ihl", [0, 1, 4])
def test_header_length_below_five_words_is_dropped(ihl: int) -> None:
    silent_about(pk.ipv4(echo(), ICMP, ihl=ihl))


@pytest.mark.row("R791-1")
@pytest.mark.parametrize("length", [0, 1, 10, 19])
def test_header_beyond_the_frame_is_dropped(length: int) -> None:
    silent_about(pk.ipv4(echo(), ICMP)[:length])


@pytest.mark.row("R791-1", "R791-3")
def test_header_length_beyond_total_length_is_dropped() -> None:
    silent_about(pk.ipv4(b"", ICMP, ihl=15))


@pytest.mark.row("R791-2")
@pytest.mark.parametrize("error", [1, 0xFFFE, 0x0100])
def test_wrong_header_checksum_is_dropped(error: int) -> None:
    good = pk.ipv4(echo(), ICMP)
    checksum = (int.from_bytes(good[10:12], "big") + error) & 0xFFFF
    wire = silent_about(pk.ipv4(echo(), ICMP, checksum=checksum))
    assert wire.counter("dropped_malformed") == 1


@pytest.mark.row("R791-3")
@pytest.mark.parametrize("length", [0, 19, 34, 65535])
def test_total_length_that_does_not_fit_is_dropped(length: int) -> None:
    """Shorter than the header, or longer than what came (33 bytes)."""
    silent_about(pk.ipv4(echo(), ICMP, total_length=length))


@pytest.mark.row("R791-3", "R894-1")
def test_bytes_behind_total_length_are_trimmed() -> None:
    wire = Wire()
    wire.raw(pk.ipv4(echo(b"abc"), ICMP) + b"padding")
    (reply,) = wire.take()
    assert reply.data == b"abc"


@pytest.mark.row("R791-4")
@pytest.mark.parametrize("protocol", [ICMP, TCP, UDP, 200])
@pytest.mark.parametrize("address", ["10.77.0.3", "10.77.1.2", "192.0.2.7"])
def test_datagram_for_another_host_is_dropped(address: str, protocol: int) -> None:
    payload = {ICMP: echo(), TCP: pk.tcp("S", seq=1, destination=ip(address))}.get(protocol, udp())
    silent_about(pk.ipv4(payload, protocol, destination=ip(address)))


BAD_SOURCES = ["255.255.255.255", "10.77.0.255", "224.0.0.1", "239.1.2.3", "240.0.0.1", "127.0.0.1",
               "0.0.0.0", "0.1.2.3", "10.77.0.2"]  # fmt: skip


@pytest.mark.row("R791-5")
@pytest.mark.parametrize("protocol", [ICMP, TCP, UDP, 200])
@pytest.mark.parametrize("source", BAD_SOURCES)
def test_source_that_is_no_other_host_is_dropped(source: str, protocol: int) -> None:
    payload = {ICMP: echo(), TCP: pk.tcp("S", seq=1, source=ip(source))}.get(protocol, udp())
    wire = Wire()
    wire.interface.listen(6379)
    wire.datagram(payload, protocol, source=ip(source))
    assert wire.is_silent()
    assert wire.interface.connections() == []
    assert wire.counter("dropped_bad_source") == 1


NOP4 = b"\x01\x01\x01\x01"
ROUTER_ALERT = b"\x94\x04\x00\x00"
UNKNOWN = b"\x5e\x06abcd\x01\x00"


@pytest.mark.row("R791-6", "MUST-50")
@pytest.mark.parametrize(
    "options",
    [NOP4, ROUTER_ALERT, UNKNOWN, b"\x00\xff\xff\xff", b"\x44\x08\x05\x00\0\0\0\0", NOP4 * 10],
    ids=["NOP", "router alert", "unknown", "junk behind the end", "timestamp", "forty bytes"],
)
def test_options_are_skipped_by_their_length(options: bytes) -> None:
    wire = Wire()
    wire.echo(b"hello", options=options)
    (reply,) = wire.take()
    assert reply.data == b"hello"


@pytest.mark.row("MUST-50")
@pytest.mark.parametrize("options", [NOP4, ROUTER_ALERT, UNKNOWN], ids=["NOP", "router alert", "unknown"])
def test_data_behind_ip_options_is_delivered(options: bytes) -> None:
    peer = established()
    segment = peer.segment("P.", data=b"payload")
    peer.frame(pk.ethernet(pk.ipv4(segment, options=options)))
    assert peer.receive() == b"payload"
    peer.advance(1 * S)
    peer.expect(".", ack=8)


@pytest.mark.row("R791-6")
@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        (b"\x94\x00\x00\x00", 21),
        (b"\x94\x01\x00\x00", 21),
        (b"\x94\x05\x00\x00", 21),
        (b"\x01\x5e\xff\x00", 22),
        (b"\x01\x01\x01\x5e", 23),
    ],
    ids=["length 0", "length 1", "past the header", "far past the header", "no length"],
)
def test_malformed_option_is_reported_and_the_datagram_dropped(options: bytes, pointer: int) -> None:
    wire = Wire()
    wrong = datagram(echo(), options=options)
    wire.raw(wrong)
    (report,) = wire.take()
    assert report.icmp == (PARAMETER_PROBLEM, 0)
    assert report.rest >> 24 == pointer
    assert report.data == wrong
    assert wire.counter("dropped_bad_options") == 1
    assert wire.answers_echo()


@pytest.mark.row("MUST-54", "R791-6")
@pytest.mark.parametrize("kind", [131, 137], ids=["loose", "strict"])
def test_source_routed_datagram_is_dropped_silently(kind: int) -> None:
    route = bytes((kind, 7, 4)) + ip("192.0.2.1").to_bytes(4, "big") + b"\x00"
    wire = Wire()
    wire.interface.listen(6379)
    wire.echo(b"hello", options=route)
    wire.datagram(pk.tcp("S", seq=1), TCP, options=route)
    assert wire.is_silent()
    assert wire.interface.connections() == []
    assert wire.counter("dropped_source_route") == 2


@pytest.mark.row("R791-7")
@pytest.mark.parametrize("ttl", [0, 1])
def test_small_ttl_is_received_and_ours_is_not(ttl: int) -> None:
    wire = Wire(ttl=33)
    wire.echo(b"hello", ttl=ttl)
    (reply,) = wire.take()
    assert reply.ttl == 33


@pytest.mark.row("R791-8", "R1191-1")
@pytest.mark.parametrize("vnet_header", [True, False])
def test_segments_are_never_fragments_and_carry_df(vnet_header: bool) -> None:
    """`packets.parse` asserts that no frame of the stack is a fragment."""
    peer = Peer(vnet_header=vnet_header)
    peer.listen()
    peer.inject("S", seq=0, options=pk.mss_option(1460))
    packets = [peer.expect("S.")]
    peer.inject(".")
    peer.send(bytes(9000))
    packets += peer.drain()
    peer.inject("F.")
    peer.call("abort")
    packets += peer.drain()
    peer.inject("S", seq=5000, source_port=9999, destination_port=9)
    packets += [packet for packet in peer.other if packet.kind == "tcp"]
    assert {flag for packet in packets for flag in packet.flags} >= {"S", ".", "R"}
    assert all(packet.dont_fragment for packet in packets)
    assert {packet.source for packet in packets} == {STACK}


@pytest.mark.row("R791-9")
def test_identifications_of_fragmented_datagrams_do_not_repeat_within_two_minutes() -> None:
    wire = Wire(ip=IpConfig(echo_replies_per_second=10**6, echo_reply_burst=10**6))
    seen: dict[int, int] = {}
    request = pk.icmp(ECHO, 0, 1, bytes(1000))
    for _ in range(3_000):
        wire.datagram(request, ICMP)
        wire.now += 50 * MS
        for reply in wire.take():
            assert reply.word == 0
            before = seen.get(reply.identification)
            assert before is None or reply.at - before >= 120 * S
            seen[reply.identification] = reply.at
    assert len(seen) == 3_000
    assert len({identification >> 8 for identification in seen}) > 200, "they look like a counter"


@pytest.mark.row("R791-9", "R791-8")
def test_when_identifications_run_out_answers_are_atomic() -> None:
    """65,536 in two minutes is all there is: more than that goes out with DF, which needs none."""
    wire = Wire(ip=IpConfig(echo_replies_per_second=10**6, echo_reply_burst=10**6))
    request = pk.icmp(ECHO, 0, 1, bytes(600))
    frame = pk.vnet_header() + pk.ethernet(datagram(request, protocol=ICMP))
    fragmentable: list[int] = []
    for _ in range(65_540):
        wire.interface.receive_frame(frame, wire.now)
        (reply,) = wire.interface.frames_to_send(wire.now)
        word = int.from_bytes(reply[10 + 14 + 6 : 10 + 14 + 8], "big")
        if word == 0:
            fragmentable.append(int.from_bytes(reply[10 + 14 + 4 : 10 + 14 + 6], "big"))
        else:
            assert word == DONT
    assert len(fragmentable) == len(set(fragmentable)) == 65_536
    for piece in fragments(ECHO_3000, 1480):
        wire.raw(piece)
    assert wire.take() == []
    assert wire.counter("dropped_no_identification") == 1
    wire.now += 120 * S
    wire.raw(frame[24:])
    (late,) = wire.take()
    assert late.word == 0


# -- reassembly --------------------------------------------------------------------------------------------


@pytest.mark.row("R815-1")
@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("vnet_header", [True, False])
def test_segment_in_three_fragments_is_delivered_in_any_order(
    order: tuple[int, ...], vnet_header: bool
) -> None:
    peer = established(vnet_header=vnet_header)
    data = bytes(index % 253 for index in range(1000))
    segment = peer.segment("P.", data=data)
    peer.next += len(data)
    pieces = fragments(segment, 400, 800, protocol=TCP, identification=77)
    for index in order:
        peer.frame(pk.ethernet(pieces[index]))
    assert peer.receive() == data
    assert peer.counter("datagrams_reassembled") == 1
    peer.advance(1 * S)
    peer.expect(".", ack=1001)
    peer.expect_nothing()


@pytest.mark.row("R815-1")
def test_reassembled_segment_with_a_wrong_checksum_is_dropped() -> None:
    """Even when the link vouches for the fragments: it cannot know about the whole."""
    peer = established()
    segment = peer.segment("P.", data=bytes(100), checksum_error=1)
    vouched = pk.vnet_header(flags=2)
    for piece in fragments(segment, 56, protocol=TCP):
        peer.frame(pk.ethernet(piece), vouched)
    assert peer.receive() == b""
    assert peer.counter("dropped_bad_checksum") == 1


@pytest.mark.row("R815-1")
@pytest.mark.parametrize("size", [576, 1500, 3000, 20_000, 65_507 + 28])
def test_datagrams_of_any_size_are_reassembled(size: int) -> None:
    message = pk.icmp(ECHO, 0, 7, bytes(size - 28))
    wire = Wire()
    for piece in (
        fragments(message, *range(1480, len(message), 1480)) if size > 1500 else fragments(message, 256)
    ):
        wire.raw(piece)
    sent = wire.take()
    payload = whole(sent) if len(sent) > 1 else sent[0].payload
    assert payload[8:] == message[8:]


@pytest.mark.row("R815-1", "R791-6")
def test_options_of_the_first_fragment_stay() -> None:
    wire = Wire()
    first, second = fragments(echo(bytes(100)), 56)
    wire.raw(datagram(first[20:], protocol=ICMP, fragment=MORE, options=NOP4))
    wire.raw(second)
    (reply,) = wire.take()
    assert reply.data == bytes(100)


@pytest.mark.row("R815-2")
@pytest.mark.parametrize("field", ["source", "protocol", "identification"])
def test_sets_that_differ_in_one_field_are_not_mixed(field: str) -> None:
    wire = Wire()
    one = {"source": PEER, "protocol": ICMP, "identification": 5}
    other = one | {field: {"source": ip("10.77.0.9"), "protocol": UDP, "identification": 6}[field]}
    mine = fragments(echo(b"a" * 100), 56, **one)
    theirs = fragments(echo(b"b" * 100), 56, **other)
    wire.raw(mine[0])
    wire.raw(theirs[1])
    assert wire.is_silent()
    wire.raw(mine[1])
    (reply,) = wire.take()
    assert reply.data == b"a" * 100
    wire.raw(theirs[0])
    assert wire.counter("datagrams_reassembled") == 2


@pytest.mark.row("R815-2")
def test_fragments_to_another_destination_do_not_complete_ours() -> None:
    wire = Wire()
    mine = fragments(echo(bytes(100)), 56)
    theirs = fragments(echo(bytes(100)), 56, destination=ip("10.77.0.255"))
    wire.raw(mine[0])
    wire.raw(theirs[1], destination_mac=BROADCAST_MAC)
    assert wire.is_silent()
    assert wire.counter("dropped_fragment") == 1
    wire.raw(mine[1])
    assert len(wire.take()) == 1


@pytest.mark.row("R815-3", "R792-6")
def test_first_fragment_alone_draws_time_exceeded_after_a_minute() -> None:
    wire = Wire()
    first, _, last = fragments(ECHO_3000, 1480, 2000)
    wire.raw(first)
    start = wire.now
    wire.advance(30 * S)
    wire.raw(last)  # does not extend the time
    wire.advance(30 * S - 1)
    assert wire.is_silent()
    wire.advance(60 * S)
    (report,) = wire.take()
    assert report.at == start + 60 * S
    assert report.icmp == (TIME_EXCEEDED, 1)
    assert report.data == first[:548]
    assert wire.interface.link_deadline() > wire.now + 1000 * S, "the buffer is freed"
    assert wire.counter("reassembly_timeouts") == 1


@pytest.mark.row("R815-3")
def test_last_fragment_alone_is_forgotten_silently() -> None:
    wire = Wire()
    _, last = fragments(ECHO_3000, 1480)
    wire.raw(last)
    wire.advance(200 * S)
    assert wire.is_silent()
    assert wire.counter("reassembly_timeouts") == 1


@pytest.mark.row("R815-3")
def test_rest_that_comes_after_the_time_does_not_complete_it() -> None:
    wire = Wire()
    first, last = fragments(ECHO_3000, 1480)
    wire.raw(first)
    wire.advance(61 * S)
    wire.take()
    wire.raw(last)
    assert wire.is_silent()


@pytest.mark.row("R815-3")
def test_time_is_settable() -> None:
    wire = Wire(ip=IpConfig(reassembly_timeout_us=5 * S))
    wire.raw(fragments(ECHO_3000, 1480)[0])
    wire.advance(5 * S)
    assert [report.icmp for report in wire.take()] == [(TIME_EXCEEDED, 1)]


OVERLAPS = {
    "into the one before": [(0, 56), (48, 108)],
    "into the one behind": [(56, 108), (0, 64)],
    "inside another": [(0, 80), (8, 16)],
    "around another": [(8, 16), (0, 80)],
    "same start, longer": [(0, 56), (0, 64)],
}


@pytest.mark.row("R815-4")
@pytest.mark.parametrize("name", OVERLAPS)
def test_overlap_drops_the_whole_datagram_and_what_follows(name: str) -> None:
    message = echo(bytes(100))
    wire = Wire()
    for start, end in OVERLAPS[name]:
        more = MORE if end < len(message) else 0
        wire.datagram(message[start:end], ICMP, fragment=(start >> 3) | more)
    for piece in fragments(message, 56):
        wire.raw(piece)
    assert wire.is_silent()
    assert wire.counter("reassembly_overlaps") == 1
    wire.advance(100 * S)
    assert wire.is_silent(), "no ICMP either"
    assert wire.counter("reassembly_timeouts") == 0
    for piece in fragments(message, 56):
        wire.raw(piece)
    assert len(wire.take()) == 1, "after its time the identification is as good as any"


@pytest.mark.row("R815-4")
def test_exact_duplicate_is_ignored() -> None:
    wire = Wire()
    first, second, third = fragments(echo(b"x" * 200), 56, 112)
    for piece in (second, first, second, first, third):
        wire.raw(piece)
    (reply,) = wire.take()
    assert reply.data == b"x" * 200


@pytest.mark.row("R815-4")
def test_duplicate_with_other_bytes_is_an_overlap() -> None:
    wire = Wire()
    first, second = fragments(echo(b"x" * 100), 56)
    forged, _ = fragments(echo(b"y" * 100), 56)
    for piece in (first, forged, second):
        wire.raw(piece)
    assert wire.is_silent()
    assert wire.counter("reassembly_overlaps") == 1


@pytest.mark.row("R815-5")
@pytest.mark.parametrize(
    ("offset", "length", "more"),
    [
        (65_528, 8, False),
        (65_512, 8, False),
        (64_000, 1536, True),
        (0, 57, True),
        (8, 1, True),
        (16, 0, False),
    ],
    ids=["beyond", "just beyond", "far beyond", "not of eight", "one byte", "empty"],
)
def test_fragment_that_cannot_be_is_dropped(offset: int, length: int, more: bool) -> None:
    wire = Wire()
    wire.datagram(bytes(length), UDP, fragment=(offset >> 3) | (MORE if more else 0))
    assert wire.is_silent()
    assert wire.counter("dropped_bad_fragment") == 1
    assert wire.interface.link_deadline() > wire.now + 1000 * S, "nothing is kept of it"


@pytest.mark.row("R815-5")
def test_largest_datagram_is_not_beyond() -> None:
    wire = Wire()
    wire.datagram(bytes(3), UDP, fragment=65_512 >> 3)
    assert wire.counter("dropped_bad_fragment") == 0


@pytest.mark.row("R815-5")
@pytest.mark.parametrize("ends", [(100, 140), (140, 100)])
def test_two_different_ends_drop_the_datagram(ends: tuple[int, int]) -> None:
    message = echo(bytes(200))
    wire = Wire()
    for end in ends:
        wire.datagram(message[64:end], ICMP, fragment=64 >> 3)
    wire.datagram(message[:64], ICMP, fragment=MORE)
    assert wire.is_silent()


@pytest.mark.row("R815-5")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_fragment_behind_the_last_drops_the_datagram(order: tuple[int, int]) -> None:
    message = echo(bytes(200))
    wire = Wire()
    pieces = [datagram(message[64:100], protocol=ICMP, fragment=8),
              datagram(message[104:112], protocol=ICMP, fragment=13 | MORE)]  # fmt: skip
    for index in order:
        wire.raw(pieces[index])
    wire.datagram(message[:64], ICMP, fragment=MORE)
    assert wire.is_silent()
    assert wire.counter("reassembly_overlaps") == 1


@pytest.mark.row("R815-6")
@pytest.mark.parametrize("first", [8, 16])
def test_tiny_first_fragment_of_a_segment_is_dropped(first: int) -> None:
    wire = Wire()
    wire.interface.listen(6379)
    segment = pk.tcp("S", seq=1, options=pk.mss_option(1000))
    for piece in fragments(segment, first, protocol=TCP):
        wire.raw(piece)
    assert wire.is_silent()
    assert wire.interface.connections() == []
    assert wire.counter("dropped_bad_fragment") >= 1


@pytest.mark.row("R815-6")
def test_fragment_of_a_segment_at_offset_one_is_dropped() -> None:
    """It could overwrite the flags of a first fragment that a filter has let through."""
    wire = Wire()
    wire.interface.listen(6379)
    wire.datagram(pk.tcp("S", seq=1)[8:], TCP, fragment=1)
    assert wire.counter("dropped_bad_fragment") == 1
    wire.advance(100 * S)
    assert wire.is_silent()


@pytest.mark.row("R815-7")
@pytest.mark.parametrize("same_source", [True, False])
def test_flood_of_first_fragments_is_bounded_and_a_datagram_still_passes(same_source: bool) -> None:
    config = IpConfig(reassembly_limit_bytes=1 << 20, reassembly_limit_bytes_per_source=1 << 18)
    wire = Wire(ip=config)
    payload = bytes(1480)
    for index in range(10_000):
        source = ip("192.0.2.1") if same_source else ip("172.16.0.0") + index
        frame = datagram(payload, protocol=UDP, source=source, identification=index, fragment=MORE)
        wire.interface.receive_frame(pk.vnet_header() + pk.ethernet(frame), wire.now)
        if index % 500 == 0:
            wire.interface.check_invariants()  # the limit, and that the books balance
    assert wire.counter("reassembly_evicted") > 9_000
    source = ip("192.0.2.1") if same_source else PEER
    for piece in fragments(ECHO_3000, 1480, source=source):
        wire.raw(piece)
    assert whole(wire.take())[8:] == ECHO_3000[8:]
    wire.advance(61 * S)
    assert len(wire.take()) <= 50, "and the end of the flood is no flood of ICMP"


@pytest.mark.row("R815-7")
def test_one_source_cannot_push_out_another() -> None:
    config = IpConfig(reassembly_limit_bytes=1 << 20, reassembly_limit_bytes_per_source=1 << 18)
    wire = Wire(ip=config)
    first, last = fragments(echo(bytes(2000)), 1480)
    wire.raw(first)
    for index in range(2_000):
        wire.datagram(bytes(1480), UDP, source=ip("192.0.2.1"), identification=index, fragment=MORE)
    wire.raw(last)
    assert wire.counter("datagrams_reassembled") == 1


@pytest.mark.row("R815-7")
def test_datagram_of_tiny_fragments_is_bounded_too() -> None:
    wire = Wire(ip=IpConfig(reassembly_limit_bytes_per_source=1 << 18))
    for index in range(4_000, 0, -1):
        wire.datagram(bytes(8), UDP, fragment=index | MORE)
    assert wire.counter("reassembly_evicted") >= 1
    assert wire.answers_echo()


@pytest.mark.rfc("3168", "§5.3")
@pytest.mark.parametrize(
    ("marks", "passes"), [((2, 3), True), ((3, 1), True), ((0, 0), True), ((0, 3), False), ((3, 0), False)]
)
def test_congestion_mark_of_a_fragment_is_not_lost(marks: tuple[int, int], passes: bool) -> None:
    wire = Wire()
    message = echo(bytes(100))
    wire.datagram(message[:56], ICMP, fragment=MORE, tos=marks[0])
    wire.datagram(message[56:], ICMP, fragment=7, tos=marks[1])
    assert len(wire.take()) == passes
