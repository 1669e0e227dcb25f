"""The MUST rows of RFC 9293 Appendix B, each shown on the wire (see tests/support/est.py for EST).

MUST-50, MUST-55 and MUST-56 are with IP and ICMP. Source routes (MUST-51, MUST-52, MUST-53) are waived: what
is tested is that nothing follows one.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from appliance.errors import LocalProtocolError, Refused, Reset, TimedOut
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import (
    EVENT_ADVICE,
    EVENT_CLOSED,
    EVENT_OPENED,
    EVENT_PEER_CLOSED,
    EVENT_URGENT,
)
from appliance.stack.tcp.state import State
from appliance.stack.timebase import NEVER
from tests.support import packets as pk
from tests.support.est import HOUR, Est, est, pattern, plain, sum_of, ts
from tests.support.packets import BROADCAST_MAC, PEER, PEER_MAC, STACK, STACK_MAC, ip, mss_option
from tests.support.peer import MS, S, counting_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.packets import Packet

SYN_OPTIONS = mss_option(1000) + pk.SACK_PERMITTED + pk.window_scale_option(7)


def listening(**settings: object) -> Est:
    peer = Est(**settings)
    peer.listen()
    return peer


def opens(peer: Est) -> bool:
    """Whether the listener still takes a connection, from a port that nobody has used."""
    assert peer.listener is not None
    peer.datagram(pk.tcp("S", seq=77, source_port=50_999))
    return bool(peer.other) and peer.other.pop().flags == "S."


# -- §3.1, §3.2: the header ----------------------------------------------------------------------------


@pytest.mark.row("MUST-1")
def test_window_field_is_unsigned() -> None:
    peer = plain(window=40_000)
    data = pattern(200_000)
    taken = peer.send(data)
    acked, most = 1, 0
    while acked <= len(data):
        most = max(most, peer.seen - acked)
        assert peer.seen > acked, "stalled"
        acked = peer.seen
        taken += peer.connection.send(data, taken)
        peer.inject(".")
    assert 32_767 < most <= 40_000
    assert b"".join(packet.data for packet in peer.drain()) == data


@pytest.mark.row("MUST-2")
def test_every_segment_has_a_right_checksum() -> None:
    peer = listening()
    peer.inject("S", seq=0, options=SYN_OPTIONS)
    peer.inject(".")
    connection = peer.listener.accept()
    connection.send(b"odd")
    peer.flush()
    peer.inject(".", data=b"12345")
    peer.advance(S)
    peer.inject("F.")
    peer.call("shutdown")
    peer.inject("S", seq=70_000, source_port=peer.peer_port, destination_port=81)  # nobody listens there
    sent = peer.drain() + [packet for packet in peer.other if packet.kind == "tcp"]
    assert {"S.", ".", "F.", "R."} <= {packet.flags for packet in sent}
    assert any(len(packet.data) % 2 for packet in sent)
    for packet in sent:
        assert sum_of(packet.raw) == 0xFFFF
    # The pseudo-header is part of it: with another address the sum is wrong.
    raw = bytearray(sent[0].raw)
    raw[14 + 12] ^= 1
    assert sum_of(bytes(raw)) != 0xFFFF


@pytest.mark.row("MUST-3")
@pytest.mark.parametrize("error", [1, 0x0100, 0xFFFE])
def test_wrong_checksum_is_dropped(error: int) -> None:
    peer = est()
    peer.datagram(peer.segment("P.", data=b"hello", checksum_error=error))
    peer.datagram(peer.segment("R", checksum_error=error))
    peer.datagram(pk.tcp("S", seq=5, source_port=41_000, checksum_error=error))
    assert peer.advance(S) == []
    assert peer.other == []
    assert peer.connection.receivable() == 0
    assert peer.state == State.ESTABLISHED
    assert peer.counter("dropped_bad_checksum") == 3
    peer.inject("P.", data=b"hello")
    assert peer.receive() == b"hello"


@pytest.mark.row("MUST-4")
def test_eol_nop_and_mss_are_understood() -> None:
    peer = listening()
    peer.inject("S", seq=0, options=b"\x01\x01" + mss_option(900) + b"\x00\xff\x02\x04\x00\x40")
    peer.expect("S.", seq=0, ack=1)
    peer.inject(".")
    peer.listener.accept()
    peer.send(pattern(5_000))
    assert peer.take() == [(1 + 900 * index, 900) for index in range(5)], "900, and the rest waits (Nagle)"


@pytest.mark.row("MUST-5")
def test_options_are_accepted_in_any_segment() -> None:
    peer = est()
    nops = b"\x01\x01\x01\x01"
    peer.send(b"12345")
    peer.drain()
    peer.inject(".", options=nops)
    assert peer.connection.unsent_and_unacked() == 0
    peer.inject(".", data=b"hello", options=nops)
    assert peer.receive() == b"hello"
    peer.inject("F.", options=nops)
    assert peer.connection.at_eof()


@pytest.mark.row("MUST-6")
@pytest.mark.parametrize("kind", [9, 30, 34, 69, 253, 254])
def test_unknown_option_is_skipped_by_its_length(kind: int) -> None:
    unknown = bytes((kind, 6)) + b"\x02\x04\x00\x40"  # inside it something that looks like an MSS of 64
    peer = listening()
    peer.inject("S", seq=0, options=unknown + mss_option(900))
    peer.expect("S.", seq=0, ack=1)
    peer.inject(".")
    peer.listener.accept()
    peer.inject(".", data=b"hello", options=unknown)
    assert peer.receive() == b"hello"
    peer.drain()
    peer.send(pattern(900))
    assert peer.take() == [(1, 900)]


@pytest.mark.row("MUST-7")
@pytest.mark.parametrize(
    "options",
    [
        b"\x02\x00\x01\x01",
        b"\x02\x01\x01\x01",
        b"\x08\xff\x01\x01",
        b"\x01\x01\x01\x02",
        b"\xfd\x00",
        b"\xfd",
    ],
    ids=["length 0", "length 1", "past the header", "no length", "unknown, length 0", "a lone kind"],
)
def test_illegal_option_length_is_survived(options: bytes) -> None:
    options = options.rjust(4, b"\x01")
    peer = est()
    peer.datagram(pk.tcp("S", seq=5, source_port=41_000, options=options))
    assert peer.other == []
    peer.datagram(peer.segment("P.", data=b"hello", options=options))
    peer.expect_nothing()
    assert peer.connection.receivable() == 0
    assert peer.counter("dropped_malformed") == 2
    peer.inject("P.", data=b"hello")
    assert peer.receive() == b"hello"
    assert opens(peer)


@pytest.mark.row("MUST-64")
def test_options_need_no_alignment() -> None:
    """None of the four stands where a word begins but the first, and no NOP is between them."""
    peer = Est()
    peer.listen()
    stamp = pk.timestamps_option(0x0102_0304, 0)
    peer.inject("S", seq=0, options=mss_option(900) + pk.window_scale_option(5) + pk.SACK_PERMITTED + stamp)
    answer = peer.expect("S.", seq=0, ack=1)
    assert answer.options.keys() >= {2, 3, 4, 8}
    assert answer.options[8][4:] == b"\x01\x02\x03\x04"
    peer.inject(".", window=300, options=b"\x01" + pk.timestamps_option(0x0102_0305, 0) + b"\x01")
    peer.listener.accept()
    assert peer.connection.info()["snd_wnd"] == 300 << 5
    peer.send(pattern(888))
    assert peer.take() == [(1, 888)]


@pytest.mark.row("MUST-65")
def test_mss_belongs_to_syn_alone() -> None:
    peer = est()
    peer.inject(".", data=b"hello", options=mss_option(100))
    assert peer.receive() == b"hello"
    peer.send(pattern(3_000))
    peer.inject(".")
    peer.call("shutdown")
    sent = peer.drain()
    assert [len(packet.data) for packet in sent if packet.data] == [1000, 1000, 1000]
    assert all(packet.mss is None for packet in sent)


@pytest.mark.row("MUST-68", "MUST-69")
@pytest.mark.parametrize("options", range(16))
def test_our_options_end_where_the_header_does(options: int) -> None:
    """Every combination that a peer can offer; walked by hand: kind, length, value, and zeros behind EOL."""
    chosen = [mss_option(1000), pk.window_scale_option(7), pk.SACK_PERMITTED, pk.timestamps_option(9, 0)]
    peer = listening()
    offered = b"".join(one for index, one in enumerate(chosen) if options >> index & 1)
    peer.inject("S", seq=0, options=offered)
    peer.inject(".", options=pk.timestamps_option(9, 0) if options & 8 else b"")
    peer.listener.accept()
    peer.has_timestamps = bool(options & 8)
    peer.inject(".", seq=1001, data=bytes(1000), ack=1)  # for a SACK block
    peer.send(b"x")
    peer.call("shutdown")
    for packet in peer.drain():
        segment = packet.raw[34:]
        end = (segment[12] >> 4) * 4
        assert 20 <= end <= 60
        index = 20
        while index < end and segment[index] != 0:
            if segment[index] == 1:
                index += 1
                continue
            assert segment[index + 1] >= 2
            index += segment[index + 1]
        assert index == end or not any(segment[index:end])


@pytest.mark.row("MUST-69")
def test_junk_behind_eol_is_ignored() -> None:
    peer = listening()
    peer.inject("S", seq=0, options=mss_option(900) + b"\x00\x03\x03\x07" + pk.SACK_PERMITTED + b"\x08\x00")
    answer = peer.expect("S.", seq=0, ack=1)
    assert answer.options.keys() == {2}


# -- §3.4.1: the initial sequence number ---------------------------------------------------------------


@pytest.mark.row("MUST-8")
def test_isn_has_a_clock_of_4_us() -> None:
    peer = listening()
    peer.inject("S", seq=0)
    first = peer.expect("S.", seq=0).seq
    peer.inject("R", seq=1)
    peer.advance(10 * S)
    assert peer.interface.connections() == []
    peer.datagram(peer.segment("S", seq=9_000))
    (second,) = peer.drain()
    assert (second.seq - first) & 0xFFFF_FFFF == 2_500_000


def recorded(seed: int, chunks: list[bytes]) -> Callable[[int], bytes]:
    """A source of random bytes that writes down what it gave."""
    source = counting_bytes(seed)

    def random_bytes(count: int) -> bytes:
        chunks.append(source(count))
        return chunks[-1]

    return random_bytes


@pytest.mark.row("MUST-9")
def test_isn_is_keyed_by_a_secret_that_never_leaves() -> None:
    numbers = []
    for seed in range(1, 9):
        chunks: list[bytes] = []
        peer = listening(random_bytes=recorded(seed, chunks))
        peer.inject("S", seq=0, options=SYN_OPTIONS + pk.timestamps_option(1, 0))
        syn_ack = peer.expect("S.", seq=0)
        numbers.append(syn_ack.seq)
        secrets = [chunk for chunk in chunks if len(chunk) >= 16]
        assert secrets, "no secret of 128 bits was asked for"
        for secret in secrets:
            assert not any(secret[index : index + 4] in syn_ack.raw for index in range(len(secret) - 3))
    # Same 4-tuple, same clock, other secret: eight numbers that have nothing to do with each other.
    assert len({number >> 24 for number in numbers}) >= 6
    distances = {(b - a) & 0xFFFF_FFFF for a, b in pairwise(numbers)}
    assert len(distances) == 7


# -- §3.5, §3.6: opening and closing -------------------------------------------------------------------


def connecting(**settings: object) -> Est:
    peer = Est(**settings)
    peer.connect()
    return peer


@pytest.mark.row("MUST-10")
@pytest.mark.parametrize("flags", [".", "S."])
def test_simultaneous_open(flags: str) -> None:
    peer = connecting()
    peer.expect("S", seq=0)
    peer.inject("S", seq=0, options=mss_option(1000))
    peer.expect("S.", seq=0, ack=1)
    assert peer.state == State.SYN_RECEIVED
    peer.inject(flags, seq=0 if "S" in flags else 1, ack=1, options=mss_option(1000) if "S" in flags else b"")
    assert peer.state == State.ESTABLISHED
    assert peer.events() & EVENT_OPENED
    peer.drain()
    peer.send(b"hello")
    peer.expect(".", seq=1, ack=1, data=b"hello")


@pytest.mark.row("MUST-11")
def test_reset_returns_a_passive_syn_received_to_listen() -> None:
    peer = listening()
    peer.inject("S", seq=0)
    peer.expect("S.")
    connection = peer.connection
    peer.inject("R", seq=1)
    assert connection.is_closed
    assert connection.failure() is None
    assert not connection.take_events() & EVENT_OPENED
    assert peer.listener.accept() is None
    assert opens(peer)


@pytest.mark.row("MUST-11")
def test_reset_refuses_an_active_syn_received() -> None:
    peer = connecting()
    peer.inject("S", seq=0)
    assert peer.state == State.SYN_RECEIVED
    peer.inject("R", seq=1)
    assert peer.connection.is_closed
    assert isinstance(peer.connection.failure(), Refused)
    assert peer.events() & EVENT_CLOSED


@pytest.mark.row("MUST-12")
def test_application_tells_a_close_from_an_abort() -> None:
    closed, aborted = est(), est()
    closed.inject("F.")
    assert closed.events() & (EVENT_PEER_CLOSED | EVENT_CLOSED) == EVENT_PEER_CLOSED
    assert closed.connection.at_eof()
    assert closed.connection.failure() is None
    assert closed.send(b"still") == 5
    aborted.inject("R.")
    assert aborted.events() & (EVENT_PEER_CLOSED | EVENT_CLOSED) == EVENT_CLOSED
    assert not aborted.connection.at_eof()
    assert isinstance(aborted.connection.failure(), Reset)
    with pytest.raises(LocalProtocolError):
        aborted.connection.send(b"more")


@pytest.mark.row("MUST-13")
def test_active_closer_waits_two_msl() -> None:
    peer = est()
    peer.call("shutdown")
    peer.expect("F.", seq=1, ack=1)
    peer.inject("F.", ack=2)
    peer.expect(".", seq=2, ack=2)
    assert peer.state == State.TIME_WAIT
    peer.advance(60 * S - 1)
    assert peer.state == State.TIME_WAIT
    peer.inject("F.", seq=1)
    peer.expect(".", seq=2, ack=2)
    peer.advance(60 * S)
    assert peer.connection.is_closed
    assert peer.interface.connections() == []
    peer.inject("F.", seq=1, ack=2)
    peer.expect("R", seq=2)


# -- §3.7: segments ------------------------------------------------------------------------------------


@pytest.mark.row("MUST-14")
@pytest.mark.parametrize("mss", [536, 900, 1460])
def test_mss_is_sent_and_honoured(mss: int) -> None:
    peer = listening()
    peer.inject("S", seq=0, options=mss_option(mss))
    assert peer.expect("S.").mss == 1460
    peer.inject(".")
    peer.listener.accept()
    peer.send(pattern(4 * mss))
    assert [length for _, length in peer.take()] == [mss] * 4
    client = connecting()
    assert client.expect("S").mss == 1460
    client.inject("S.", seq=0, ack=1, options=mss_option(mss))
    client.drain()
    client.send(pattern(4 * mss))
    assert [length for _, length in client.take()] == [mss] * 4


@pytest.mark.row("MUST-15")
def test_without_mss_option_536_is_the_limit() -> None:
    peer = est(mss=None, sack=False, shift=None)
    peer.send(pattern(5_000))
    sizes = [length for _, length in peer.take()]
    assert sizes == [536] * 9, "and the 176 bytes behind wait (Nagle)"


@pytest.mark.row("MUST-16")
@pytest.mark.parametrize(
    ("mss", "timestamps", "mtu", "size"),
    [(9000, False, 1500, 1460), (9000, True, 1500, 1448), (500, True, 1500, 488), (9000, True, 4000, 3948)],
)
def test_effective_mss(mss: int, timestamps: bool, mtu: int, size: int) -> None:
    peer = est(mss=mss, timestamps=timestamps, mtu=mtu)
    peer.send(pattern(3 * size))
    sent = peer.drain()
    assert [len(packet.data) for packet in sent] == [size] * 3
    assert all(len(packet.raw) - 14 <= mtu for packet in sent)


@pytest.mark.row("MUST-16")
def test_sack_blocks_come_off_the_data() -> None:
    """The effective MSS counts the options of this very segment: a SACK block makes the data shorter."""
    peer = est(mss=1460)
    peer.inject(".", seq=1001, data=bytes(10))
    peer.drain()
    peer.send(pattern(5_000))
    sent = peer.drain()
    assert sent[0].options[5]
    assert all(len(packet.raw) - 14 <= 1500 for packet in sent)


@pytest.mark.row("MUST-67")
@pytest.mark.parametrize(("mtu", "mss"), [(1500, 1460), (9000, 8960), (576, 536), (68, 28)])
@pytest.mark.parametrize("options", [b"", SYN_OPTIONS + pk.timestamps_option(1, 0)])
def test_mss_that_we_send_is_the_mtu_less_forty(mtu: int, mss: int, options: bytes) -> None:
    peer = listening(mtu=mtu)
    peer.inject("S", seq=0, options=options)
    assert peer.expect("S.").mss == mss


@pytest.mark.row("MUST-17")
def test_nagle_can_be_turned_off_for_one_connection() -> None:
    peer = est()
    peer.call("set_nodelay", True)
    for _ in range(3):
        peer.send(pattern(10))
    assert peer.take() == [(1, 10), (11, 10), (21, 10)]
    other = peer.open_second(41_000)
    for _ in range(3):
        other.send(pattern(10))
        peer.flush()
    assert [len(packet.data) for packet in peer.other] == [10], "the other one still waits for its ACK"
    peer.call("set_nodelay", False)
    peer.send(pattern(10))
    peer.expect_nothing()


# -- §3.8.1 - §3.8.3: retransmission -------------------------------------------------------------------


@pytest.mark.row("MUST-18")
@pytest.mark.parametrize(("rtt", "rto"), [(100 * MS, 300 * MS), (400 * MS, 1200 * MS), (MS, 201 * MS)])
def test_timeout_is_srtt_and_four_deviations(rtt: int, rto: int) -> None:
    """RFC 6298: R + max(4·R/2, 200 ms) after the first sample R, and twice as long after each timeout."""
    peer = plain(rtt=rtt)
    peer.send(b"hello")
    at = peer.expect(".", seq=1, data=b"hello").at
    for timeout in (rto, 2 * rto, 4 * rto):
        peer.advance(timeout)
        at = peer.expect(".", seq=1, data=b"hello", at=at + timeout).at
        peer.expect_nothing()


@pytest.mark.row("MUST-18")
def test_no_sample_of_what_was_sent_twice() -> None:
    """Karn: the ACK of a retransmitted segment tells nothing about the RTT, and the back-off stays."""
    peer = plain(rtt=100 * MS)
    peer.send(b"hello")
    peer.advance(310 * MS)
    assert peer.take() == [(1, 5), (1, 5)]
    peer.advance(90 * MS)
    peer.inject(".")
    assert peer.connection.info()["srtt_us"] == 100 * MS
    peer.send(b"again")
    at = peer.expect(".", seq=6).at
    peer.advance(600 * MS)
    peer.expect(".", seq=6, at=at + 600 * MS)
    peer.inject(".")
    peer.send(b"third")
    peer.drain()
    peer.inject(".", ack=16)
    peer.advance(100 * MS)


def flight(peer: Est) -> int:
    """The segments that came since the last time; all that was seen is acknowledged a round trip later."""
    count = len([packet for packet in peer.drain() if packet.data])
    peer.advance(100 * MS)
    peer.connection.send(pattern(60_000))
    peer.inject(".")
    return count


@pytest.mark.row("MUST-19")
def test_slow_start_back_off_and_congestion_avoidance() -> None:
    peer = plain(rtt=100 * MS, tcp=TcpConfig(congestion_control="newreno"))
    peer.send(pattern(60_000))
    assert [flight(peer), flight(peer)] == [10, 20], "slow start doubles"
    lost = peer.take()
    assert len(lost) == 40
    acked = peer.connection.info()["snd_una"]
    times = [packet.at for packet in peer.advance(4 * S)]
    gaps = [b - a for a, b in pairwise(times)]
    assert len(gaps) == 2
    peer.drain()
    assert all(second == 2 * first for first, second in pairwise(gaps)), "backed off"
    info = peer.connection.info()
    assert (info["snd_una"], info["cwnd"], info["ssthresh"]) == (acked, 1000, 20_000)
    # What was lost arrives after all.
    flights = [flight(peer) for _ in range(25)]
    assert flights[:6] == [0, 2, 4, 8, 16, 20], "slow start again, from one segment"
    assert flights[5:] == list(range(20, 40)), "and above ssthresh a segment a round trip"


@pytest.mark.row("MUST-20")
def test_at_r1_ip_is_told_and_at_r2_the_connection_ends() -> None:
    peer = plain(rtt=100 * MS)
    asked = peer.counter("arp_out")
    peer.send(b"hello")
    peer.advance(300 * MS + 600 * MS)
    assert len(peer.drain()) == 3
    assert peer.counter("arp_out") == asked
    peer.advance(1200 * MS)
    assert len(peer.drain()) == 1
    assert peer.counter("arp_out") == asked + 1, "the neighbour is verified at the third retransmission"
    assert peer.events() & (EVENT_ADVICE | EVENT_CLOSED) == EVENT_ADVICE
    peer.advance(HOUR)
    resent = [packet for packet in peer.drain() if packet.data]
    assert len(resent) == 15 - 3
    assert peer.connection.is_closed
    assert isinstance(peer.connection.failure(), TimedOut)
    assert peer.events() & EVENT_CLOSED
    peer.inject(".")
    peer.expect("R", seq=6)


@pytest.mark.row("MUST-21")
def test_application_sets_r2_shorter() -> None:
    peer = plain(rtt=100 * MS)
    peer.call("set_user_timeout", 5 * S)
    start = peer.now
    peer.send(b"hello")
    peer.advance(5 * S - 1)
    assert peer.state == State.ESTABLISHED
    peer.advance(1)
    assert peer.now == start + 5 * S
    assert peer.connection.is_closed
    assert isinstance(peer.connection.failure(), TimedOut)


@pytest.mark.row("MUST-21")
def test_application_sets_r2_longer() -> None:
    peer = plain(rtt=100 * MS)
    peer.call("set_user_timeout", NEVER)
    peer.send(b"hello")
    peer.advance(24 * HOUR)
    assert peer.state == State.ESTABLISHED
    peer.drain()
    peer.advance(121 * S)
    assert peer.take() == [(1, 5)], "and it is still sent again"


@pytest.mark.row("MUST-22")
def test_syn_ack_is_given_up_after_r2() -> None:
    peer = listening()
    peer.inject("S", seq=0)
    start = peer.expect("S.").at
    connection = peer.connection
    peer.advance(HOUR)
    again = [packet for packet in peer.drain() if packet.flags == "S."]
    assert [packet.at - start for packet in again] == [1 * S, 3 * S, 7 * S, 15 * S, 31 * S]
    assert connection.is_closed
    assert peer.interface.connections() == []
    assert opens(peer)


@pytest.mark.row("MUST-22", "MUST-23")
def test_syn_is_sent_again_for_three_minutes_and_then_the_application_is_told() -> None:
    peer = connecting()
    start = peer.expect("S", seq=0).at
    peer.advance(190 * S)
    assert not peer.connection.is_closed
    assert peer.events() & EVENT_ADVICE, "R1 counts for a SYN as well"
    peer.advance(HOUR)
    again = [packet.at - start for packet in peer.drain() if packet.flags == "S"]
    assert again[:7] == [1 * S, 3 * S, 7 * S, 15 * S, 31 * S, 63 * S, 127 * S]
    assert again[-1] >= 180 * S
    assert peer.connection.is_closed
    assert isinstance(peer.connection.failure(), TimedOut)
    assert peer.events() & EVENT_CLOSED


# -- §3.8.4: keep-alive --------------------------------------------------------------------------------


@pytest.mark.row("MUST-24")
def test_keepalive_is_per_connection() -> None:
    peer = est(tcp=TcpConfig(keepalive_idle_us=10 * S))
    peer.open_second(41_000)
    peer.call("set_keepalive", True)
    peer.advance(10 * S)
    peer.expect(".", seq=0, length=0)
    assert [packet for packet in peer.other if packet.kind == "tcp"] == []
    peer.inject(".")
    peer.call("set_keepalive", False)
    peer.advance(HOUR)
    peer.expect_nothing()
    assert [packet for packet in peer.other if packet.kind == "tcp"] == []


@pytest.mark.row("MUST-25")
def test_keepalive_is_off_by_default() -> None:
    peer = est()
    assert peer.advance(3 * HOUR) == []
    peer.expect_nothing()
    assert peer.state == State.ESTABLISHED


@pytest.mark.row("MUST-26")
def test_no_probe_while_the_peer_is_heard_or_data_is_outstanding() -> None:
    peer = plain()
    peer.call("set_keepalive", True, 10 * S)
    for _ in range(10):
        peer.advance(9 * S)
        peer.inject(".", data=b"x")
        peer.receive()
    # Only delayed ACKs were sent: a probe has the number before the next one.
    assert [(packet.seq - peer.stack_iss) & 0xFFFF_FFFF for packet in peer.drain()] == [1] * 9
    peer.advance(S)
    peer.drain()
    peer.send(b"hello")
    peer.advance(60 * S)
    assert peer.state == State.ESTABLISHED
    sent = peer.drain()
    assert len(sent) > 5
    assert all(packet.data == b"hello" for packet in sent), "nothing but retransmissions"


@pytest.mark.row("MUST-27")
def test_keepalive_interval_is_configurable() -> None:
    peer = est()
    start = peer.now
    peer.call("set_keepalive", True, 10 * S, 3 * S, 2)
    peer.advance(60 * S)
    sent = peer.drain()
    assert [(packet.at - start, packet.flags) for packet in sent] == [
        (10 * S, "."),
        (13 * S, "."),
        (16 * S, "R."),
    ]
    assert isinstance(peer.connection.failure(), TimedOut)
    everywhere = est(tcp=TcpConfig(keepalive_idle_us=20 * S))
    everywhere.call("set_keepalive", True)
    everywhere.advance(20 * S - 1)
    everywhere.expect_nothing()
    everywhere.advance(1)
    everywhere.expect(".", seq=0, length=0)


@pytest.mark.row("MUST-28")
def test_keepalive_waits_two_hours_by_default() -> None:
    peer = est()
    peer.call("set_keepalive", True)
    start = peer.now
    peer.advance(2 * HOUR - 1)
    peer.expect_nothing()
    peer.advance(S)
    assert peer.expect(".", seq=0, length=0).at >= start + 7200 * S


@pytest.mark.row("MUST-29")
def test_one_lost_probe_is_not_death() -> None:
    peer = est()
    peer.call("set_keepalive", True, 10 * S, 5 * S)
    for _ in range(20):
        peer.advance(10 * S)
        peer.expect(".", seq=0, length=0)
        peer.advance(5 * S)
        peer.expect(".", seq=0, length=0)
        peer.inject(".")
    assert peer.state == State.ESTABLISHED
    peer.inject(".", data=b"alive")
    assert peer.receive() == b"alive"


# -- §3.8.5: urgent data -------------------------------------------------------------------------------


@pytest.mark.row("MUST-30", "MUST-62")
def test_urgent_data_is_delivered_in_line_up_to_the_pointer() -> None:
    peer = est()
    peer.inject("PU.", data=b"0123456789", urgent=5)
    assert peer.events() & EVENT_URGENT
    assert peer.connection.urgent_pending() == 5, "the pointer names the octet behind the urgent data"
    assert peer.receive(4) == b"0123"
    assert peer.connection.urgent_pending() == 1
    assert peer.receive(1) == b"4"
    assert peer.connection.urgent_pending() == 0
    assert peer.receive() == b"56789"
    assert peer.state == State.ESTABLISHED


@pytest.mark.row("MUST-31")
def test_urgent_data_may_be_longer_than_a_segment() -> None:
    peer = est()
    data = pattern(3_500)
    peer.inject("U.", data=data[:1000], urgent=3_000)
    for start in (1000, 2000, 3000):
        peer.inject(".", data=data[start : start + 1000])
    assert peer.connection.urgent_pending() == 3_000
    assert peer.receive(2_999) == data[:2_999]
    assert peer.connection.urgent_pending() == 1
    assert peer.receive() == data[2_999:]
    assert peer.connection.urgent_pending() == 0


@pytest.mark.row("MUST-32")
def test_application_is_told_when_the_pointer_is_new_or_moves() -> None:
    peer = est()
    told = []
    for pointer in (10, 10, 15, 12):
        peer.inject("U.", urgent=pointer)
        told.append(bool(peer.events() & EVENT_URGENT))
    assert told == [True, False, True, False]


@pytest.mark.row("MUST-33")
def test_application_can_ask_how_much_urgent_data_remains() -> None:
    peer = est()
    assert peer.connection.urgent_pending() == 0
    peer.inject("U.", urgent=10)
    assert peer.connection.urgent_pending() == 10, "though none of it has come yet"
    peer.inject(".", data=pattern(20))
    assert peer.connection.urgent_pending() == 10
    peer.receive(5)
    assert peer.connection.urgent_pending() == 5


# -- §3.8.6: windows -----------------------------------------------------------------------------------


@pytest.mark.row("MUST-34")
def test_shrunk_window_is_survived() -> None:
    peer = plain(rtt=100 * MS)
    data = pattern(8_000)
    peer.send(data[:4_000])
    assert peer.take() == [(1, 1000), (1001, 1000), (2001, 1000), (3001, 1000)]
    peer.window = 1024
    peer.inject(".", ack=1)
    peer.send(data[4_000:])
    peer.expect_nothing()
    peer.advance(S)
    assert set(peer.take()) <= {(1, 1000)}, "nothing beyond the edge but what was sent before"
    got = {}
    peer.window = 65535
    for _ in range(20):
        peer.inject(".")
        peer.advance(10 * MS)
        got |= {(packet.seq - peer.stack_iss) & 0xFFFF_FFFF: packet.data for packet in peer.drain()}
    assert peer.connection.unsent_and_unacked() == 0
    assert got[4_001] == data[4_000:5_000]
    assert peer.seen == 8_001


@pytest.mark.row("MUST-35")
def test_window_shrunk_to_zero_is_probed() -> None:
    peer = plain(rtt=100 * MS)
    peer.send(pattern(4_000))
    peer.drain()
    peer.window = 0
    peer.inject(".", ack=1)
    start = peer.now
    for _ in range(20):
        sent = peer.advance(121 * S)
        assert sent, "the probing has stopped"
        assert all((packet.seq - peer.stack_iss) & 0xFFFF_FFFF <= 1 for packet in sent)
        peer.inject(".", ack=1)
    assert peer.now - start > 2400 * S
    assert peer.state == State.ESTABLISHED
    assert peer.drain()[0].at <= start + 301 * MS
    peer.window = 65535
    peer.inject(".", ack=4_001)
    assert peer.connection.unsent_and_unacked() == 0


@pytest.mark.row("MUST-36", "SHLD-29")
def test_zero_window_is_probed_after_one_timeout() -> None:
    peer = plain(rtt=100 * MS)
    peer.send(pattern(1_000))
    peer.drain()
    peer.window = 0
    peer.advance(100 * MS)
    peer.inject(".")
    closed_at = peer.now
    rto = peer.connection.info()["rto_us"]
    peer.send(pattern(100))
    peer.expect_nothing()
    peer.advance(rto)
    peer.expect(".", seq=1_000, length=0, at=closed_at + rto)  # below the window: it draws an ACK


@pytest.mark.row("MUST-37")
def test_zero_window_is_held_open_while_probes_are_answered() -> None:
    peer = plain(window=0)
    peer.send(pattern(100))
    end = peer.now + HOUR
    probes = 0
    while peer.now < end:
        peer.advance(min(peer.time_to_deadline(), end - peer.now))
        if peer.drain():
            probes += 1
            peer.inject(".", ack=1)
    assert probes >= 30
    assert peer.state == State.ESTABLISHED
    peer.window = 65535
    peer.inject(".", ack=1)
    peer.expect(".", seq=1, length=100, at=end)


@pytest.mark.row("MUST-38")
def test_sender_avoids_silly_windows() -> None:
    peer = plain(window=10_000, rtt=100 * MS)
    peer.send(pattern(40_000))
    assert len(peer.take()) == 10
    peer.window = 0
    peer.inject(".")
    start = peer.now
    for window in (200, 400, 600, 800):
        peer.window = window
        peer.inject(".")
        peer.expect_nothing()
        peer.advance(10 * MS)
        peer.expect_nothing()
    peer.window = 1000
    peer.inject(".")
    assert peer.take() == [(10_001, 1000)], "a full segment"
    assert peer.now - start < 100 * MS
    # The override timeout: a window that stays small is used in the end.
    peer.window = 200
    peer.inject(".")
    small_at = peer.now
    peer.expect_nothing()
    peer.advance(S)
    first = peer.expect(".", seq=11_001, length=200)
    assert 100 * MS <= first.at - small_at <= S


@pytest.mark.row("MUST-38")
def test_half_of_the_largest_window_is_worth_a_segment() -> None:
    peer = plain(window=1_200)
    peer.send(pattern(10_000))
    assert peer.take() == [(1, 1000)]
    peer.window = 599
    peer.inject(".")
    peer.expect_nothing()
    peer.window = 600
    peer.inject(".")
    assert peer.take() == [(1001, 600)]


@pytest.mark.row("MUST-39")
def test_receiver_avoids_silly_windows() -> None:
    peer = plain(tcp=TcpConfig(receive_buffer_initial=4_000, receive_buffer_limit=4_000))
    for _ in range(4):
        peer.inject(".", data=pattern(1_000))
    peer.advance(S)
    assert peer.drain()[-1].window == 0
    updates = []
    for read in range(1, 2_921):
        peer.receive(1)
        updates += [(read, packet.ack - peer.iss, packet.window) for packet in peer.drain()]
    # A segment of ours is 1460 bytes, less than half of the buffer.
    assert updates == [(1460, 4001, 1460), (2920, 4001, 2920)]


@pytest.mark.row("MUST-39")
def test_small_buffer_opens_by_halves() -> None:
    peer = plain(tcp=TcpConfig(receive_buffer_initial=1_000, receive_buffer_limit=1_000))
    peer.inject(".", data=pattern(1_000))
    peer.advance(S)
    peer.expect(".", ack=1_001, window=0)
    peer.receive(499)
    peer.expect_nothing()
    peer.receive(1)
    peer.expect(".", ack=1_001, window=500)


@pytest.mark.row("MUST-40", "SHLD-18")
@pytest.mark.parametrize("length", [1, 100, 1000])
def test_ack_of_one_segment_is_delayed_but_less_than_half_a_second(length: int) -> None:
    peer = est()
    arrived = peer.now
    peer.inject("P.", data=pattern(length))
    peer.expect_nothing()
    peer.advance(S)
    delay = peer.expect(".", seq=1, ack=1 + length, length=0).at - arrived
    assert 40 * MS <= delay <= 200 * MS
    peer.expect_nothing()
    peer.inject("P.", data=pattern(length))
    peer.advance(10 * MS)
    peer.send(b"reply")
    peer.expect(".", ack=1 + 2 * length, data=b"reply")
    peer.inject(".")
    peer.advance(S)
    peer.expect_nothing()  # the reply carried the ACK


@pytest.mark.row("MUST-58", "MUST-59")
def test_batch_of_segments_draws_one_ack() -> None:
    peer = est()
    for index in range(8):
        peer.inject(".", data=pattern(1000), flush=index == 7)
    peer.expect(".", seq=1, ack=8_001, length=0)
    peer.advance(S)
    peer.expect_nothing()
    for index in range(8):
        peer.inject(".", data=pattern(1000), flush=index == 7)
    peer.send(b"reply")
    assert all((packet.ack - peer.iss) == 16_001 for packet in peer.drain())


# -- §3.9.1: the user's calls --------------------------------------------------------------------------


@pytest.mark.row("MUST-41")
def test_passive_open_leaves_connections_alone() -> None:
    peer = est()
    with pytest.raises(LocalProtocolError):
        peer.interface.listen(peer.port)
    peer.inject(".", data=b"one")
    assert peer.receive() == b"one"
    peer.listener.close()
    peer.interface.listen(peer.port)
    peer.inject(".", data=b"two")
    assert peer.receive() == b"two"
    peer.drain()
    peer.send(b"three")
    peer.expect(".", data=b"three")


@pytest.mark.row("MUST-42")
def test_half_open_connection_does_not_block_its_port() -> None:
    peer = listening()
    peer.inject("S", seq=0)
    peer.expect("S.")
    assert peer.state == State.SYN_RECEIVED
    other = peer.open_second(41_000)
    assert other.state == State.ESTABLISHED
    assert peer.state == State.SYN_RECEIVED


@pytest.mark.row("MUST-42")
def test_connecting_from_a_port_does_not_block_listening_on_it() -> None:
    peer = connecting()
    peer.expect("S")
    assert peer.state == State.SYN_SENT
    peer.listen()
    assert peer.open_second(41_000).state == State.ESTABLISHED
    assert peer.state == State.SYN_SENT


@pytest.mark.row("MUST-43")
def test_local_address_of_an_open_can_be_given() -> None:
    """An interface has one address: that one is taken, any other refused, and none other is answered."""
    peer = Est()
    other = ip("10.77.0.9")
    with pytest.raises(LocalProtocolError):
        peer.interface.listen(peer.port, other)
    with pytest.raises(LocalProtocolError):
        peer.interface.connect(PEER, 1234, peer.now, 0, other)
    peer.listener = peer.interface.listen(peer.port, STACK)
    peer.datagram(pk.tcp("S", seq=5, source_port=41_000, destination=other), destination=other)
    assert (peer.other, peer.interface.connections()) == ([], [])
    assert peer.open_second(41_000).local_address == STACK
    assert peer.interface.connect(PEER, 1234, peer.now, 0, STACK).local_address == STACK


@pytest.mark.row("MUST-44")
@pytest.mark.parametrize("remote", ["10.77.0.1", "192.0.2.7"])
def test_active_syn_comes_from_the_address_of_the_interface(remote: str) -> None:
    peer = Est(gateway=PEER)
    connection = peer.interface.connect(ip(remote), 1234, peer.now)
    peer.flush()
    syn = peer.other[-1]
    assert (syn.flags, syn.source, syn.destination) == ("S", STACK, ip(remote))
    assert syn.destination_mac == PEER_MAC
    assert connection.local_address == STACK


@pytest.mark.row("MUST-45")
def test_one_local_address_for_the_whole_connection() -> None:
    peer = listening()
    peer.inject("S", seq=0)
    peer.inject(".")
    peer.listener.accept()
    peer.send(b"hello")
    peer.advance(S)
    peer.inject(".", data=b"hello")
    peer.receive()
    peer.call("shutdown")
    peer.inject("F.")
    peer.advance(100 * S)
    peer.inject(".")
    sent = peer.drain()
    assert {"S.", ".", "F.", "R"} <= {packet.flags for packet in sent}
    assert {(packet.source, packet.destination) for packet in sent} == {(STACK, PEER)}


@pytest.mark.row("MUST-46")
@pytest.mark.parametrize("remote", ["255.255.255.255", "10.77.0.255", "224.0.0.1", "239.1.2.3", "0.0.0.0"])
def test_open_to_a_group_is_refused(remote: str) -> None:
    peer = Est(gateway=PEER)
    with pytest.raises(LocalProtocolError):
        peer.interface.connect(ip(remote), 1234, peer.now)
    assert peer.flush() == []
    assert (peer.other, peer.interface.connections()) == ([], [])


@pytest.mark.row("MUST-47", "SHLD-25")
@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [(3, 0, "ICMP type 3 code 0"), (3, 1, "ICMP type 3 code 1"), (11, 0, "ICMP type 11 code 0")],
)
def test_soft_error_is_told_to_the_application(kind: int, code: int, text: str) -> None:
    peer = est()
    peer.send(b"hello")
    peer.report(kind, code, seq=1)
    assert peer.connection in peer.interface.take_ready()
    assert peer.events() & (EVENT_ADVICE | EVENT_CLOSED) == EVENT_ADVICE
    assert peer.connection.soft_error == text
    assert peer.connection.failure() is None
    peer.inject(".")
    assert peer.connection.unsent_and_unacked() == 0
    assert peer.state == State.ESTABLISHED


@pytest.mark.row("MUST-48", "SHLD-22")
@pytest.mark.parametrize("dscp", [0, 1, 10, 46, 63])
def test_application_sets_the_dscp(dscp: int) -> None:
    peer = est()
    peer.call("set_dscp", dscp)
    peer.send(b"hello")
    peer.advance(S)
    peer.inject(".", data=b"x")
    peer.inject(".", data=b"y", seq=100)
    peer.call("shutdown")
    sent = peer.drain()
    assert len(sent) >= 3
    assert {packet.tos >> 2 for packet in sent} == {dscp}


@pytest.mark.row("MUST-49")
def test_ttl_is_configurable() -> None:
    for ttl, settings in ((64, {}), (7, {"ttl": 7})):
        peer = listening(**settings)
        peer.inject("S", seq=0)
        peer.inject(".")
        peer.listener.accept()
        peer.send(b"hello")
        assert [packet.ttl for packet in peer.drain()] == [ttl, ttl]
        peer.call("set_ttl", 200)
        peer.inject(".")
        peer.send(b"again")
        assert peer.expect(".").ttl == 200


@pytest.mark.parametrize("kind", [131, 137], ids=["LSRR", "SSRR"])
def test_source_routed_syn_is_dropped(kind: int) -> None:
    """MUST-53 is waived: RFC 7126 §4.3, §4.4 drop what has a source route, so no return route is kept."""
    peer = listening()
    route = bytes((kind, 7, 4)) + ip("10.77.0.7").to_bytes(4, "big") + b"\x00"
    peer.datagram(peer.segment("S", seq=0), options=route)
    assert (peer.advance(5 * S), peer.other, peer.interface.connections()) == ([], [], [])
    peer.open()
    peer.datagram(peer.segment(".", data=b"hello"), options=route)
    assert peer.connection.receivable() == 0
    assert peer.counter("dropped_source_route") == 2


# -- §3.9.2: the lower layers --------------------------------------------------------------------------


@pytest.mark.row("MUST-54")
def test_icmp_error_reaches_the_connection_that_it_quotes_alone() -> None:
    peer = est()
    other = peer.open_second(41_000)
    peer.send(b"hello")
    other.send(b"hello")
    peer.flush()
    other.take_events()
    peer.report(3, 1, seq=1)
    assert peer.events() & EVENT_ADVICE
    assert not other.take_events() & EVENT_ADVICE
    assert other.soft_error == ""


@pytest.mark.row("MUST-57")
@pytest.mark.parametrize(
    ("destination", "mac"),
    [
        ("255.255.255.255", BROADCAST_MAC),
        ("255.255.255.255", STACK_MAC),
        ("10.77.0.255", BROADCAST_MAC),
        ("10.77.0.255", STACK_MAC),
        ("224.0.0.1", bytes.fromhex("01005e000001")),
        ("224.0.0.1", STACK_MAC),
        ("10.77.0.2", BROADCAST_MAC),
    ],
)
@pytest.mark.parametrize("flags", ["S", ".", "F.", "R"])
def test_segment_to_a_group_is_dropped_silently(destination: str, mac: bytes, flags: str) -> None:
    peer = est()
    to = ip(destination)
    for port in (peer.port, 81):
        segment = pk.tcp(
            flags, seq=5, ack=6, source_port=41_000, destination_port=port, destination=to, data=b"x"
        )
        peer.frame(pk.ethernet(pk.ipv4(segment, destination=to), destination=mac))
    assert (peer.advance(S), peer.other) == ([], [])
    assert len(peer.interface.connections()) == 1


@pytest.mark.row("MUST-63")
@pytest.mark.parametrize(
    "source",
    ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.77.0.255", "10.77.0.2", "240.0.0.1"],
)
def test_syn_from_an_invalid_source_is_ignored(source: str) -> None:
    peer = listening(gateway=PEER)
    asked = peer.counter("arp_out")
    for port in (peer.port, 81):
        syn = pk.tcp("S", seq=5, source_port=41_000, destination_port=port, source=ip(source))
        peer.datagram(syn, source=ip(source))
    assert (peer.advance(10 * S), peer.other, peer.interface.connections()) == ([], [], [])
    assert peer.counter("arp_out") == asked
    assert opens(peer)


# -- §3.9.1.2: SEND without PUSH -----------------------------------------------------------------------


@pytest.mark.row("MUST-60")
def test_small_write_is_sent_at_once() -> None:
    peer = est()
    for _ in range(3):
        peer.send(pattern(10))
        peer.expect(".", length=10, at=peer.now)
        peer.inject(".")


@pytest.mark.row("MUST-61")
def test_last_segment_of_a_write_has_push() -> None:
    peer = est()
    peer.call("set_nodelay", True)
    peer.send(pattern(2_500))
    assert [(len(packet.data), packet.has_push) for packet in peer.drain()] == [
        (1000, False),
        (1000, False),
        (500, True),
    ]


# -- §3.4: the zero window -----------------------------------------------------------------------------


def full(**more: object) -> Est:
    """The receive buffer is full: our window is zero."""
    peer = plain(tcp=TcpConfig(receive_buffer_initial=4_000, receive_buffer_limit=4_000), **more)
    for _ in range(4):
        peer.inject(".", data=pattern(1_000))
    peer.advance(S)
    assert peer.drain()[-1].window == 0
    return peer


@pytest.mark.row("MUST-66")
def test_reset_counts_at_zero_window() -> None:
    peer = full()
    peer.inject("R")
    assert isinstance(peer.connection.failure(), Reset)


@pytest.mark.row("MUST-66")
def test_urgent_pointer_counts_at_zero_window() -> None:
    peer = full()
    peer.events()
    peer.inject("U.", urgent=10)
    assert peer.events() & EVENT_URGENT
    assert peer.connection.urgent_pending() == 4_000 + 10


@pytest.mark.row("MUST-66")
@pytest.mark.parametrize("data", [b"", b"x"])
def test_acknowledgment_counts_at_zero_window(data: bytes) -> None:
    peer = full()
    peer.send(b"hello")
    peer.drain()
    peer.datagram(peer.segment(".", data=data))
    assert peer.connection.unsent_and_unacked() == 0
    assert peer.connection.receivable() == 4_000


def last_words(packet: Packet) -> tuple[str, int]:
    return packet.flags, struct.unpack_from("!H", packet.raw, 14 + 20 + 14)[0]


@pytest.mark.row("MUST-40")
def test_delayed_ack_shows_the_window_of_its_moment() -> None:
    peer = ts()
    peer.inject("P.", data=pattern(100))
    peer.receive()
    peer.advance(S)
    (packet,) = peer.drain()
    assert last_words(packet) == (".", packet.window)
    assert (packet.ack - peer.iss) == 101
