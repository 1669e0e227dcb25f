"""Window scaling, timestamps, PAWS (RFC 7323)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from appliance.stack.tcp.config import TcpConfig
from tests.support import packets as pk
from tests.support.peer import MASK, MS, S
from tests.support.talker import MSS, Talker, start_of

if TYPE_CHECKING:
    from tests.support.packets import Packet

RTT = 100 * MS
DAY = 86_400 * S
TS = 8


def val(packet: Packet) -> int:
    return int.from_bytes(packet.options[TS][:4], "big")


def ecr(packet: Packet) -> int:
    return int.from_bytes(packet.options[TS][4:], "big")


def with_ts(**more: object) -> Talker:
    return Talker(ts=True, mss=MSS + 12, rtt=RTT, **more)  # type: ignore[arg-type]


# -- window scale ----------------------------------------------------------------------------------------


@pytest.mark.row("R7323-1")
def test_without_the_option_windows_are_not_scaled_either_way() -> None:
    talker = Talker(shift=None, is_open=False, window=5000)
    talker.syn()
    answer = talker.syn_ack()
    assert answer.window_shift is None
    talker.finish(answer)
    assert len(talker.write(20_000)) == 5
    assert talker.taken[-1].window == 65535


@pytest.mark.row("R7323-1")
def test_switched_off_the_option_is_not_answered() -> None:
    talker = Talker(shift=7, is_open=False, tcp=TcpConfig(window_scale=False))
    talker.syn()
    assert talker.syn_ack().window_shift is None


@pytest.mark.row("R7323-2")
def test_window_of_the_handshake_is_not_scaled() -> None:
    talker = Talker(is_open=False)
    talker.syn()
    answer = talker.syn_ack()
    shift = answer.window_shift
    assert shift is not None
    assert shift > 0
    assert answer.window == 65535
    talker.finish(answer)
    talker.write(10)
    assert talker.taken[-1].window in (65535 >> shift, 65536 >> shift)


@pytest.mark.row("R7323-2")
def test_window_of_the_peers_syn_is_not_scaled() -> None:
    talker = Talker(is_open=False, shift=7, window=2000)
    talker.syn()
    talker.agree(talker.syn_ack(), 7)
    assert talker.connection.info()["snd_wnd"] == 2000


@pytest.mark.row("R7323-3")
def test_windows_are_shifted_by_the_count_of_their_sender() -> None:
    talker = Talker(shift=7, window=10 << 7)
    sent = talker.write(20_000)
    talker.wait(300 * MS)
    assert sent
    assert talker.seen - 1 <= 1280
    free = talker.info("rcv_wnd")
    talker.inject(".", seq=1, data=bytes(3000), window=1 << 20)
    packet = next(p for p in talker.drain() if p.ack == talker.iss + 3001)
    assert packet.window << talker.stack_window_shift <= free


@pytest.mark.row("R7323-4")
def test_shift_above_14_is_taken_as_14() -> None:
    talker = Talker(shift=20)
    assert talker.info("snd_wind_shift") == 14
    talker.inject(".", ack=1, window=3 << 14)
    assert talker.info("snd_wnd") == 3 << 14


@pytest.mark.row("R7323-5")
def test_window_scale_on_data_is_ignored() -> None:
    talker = Talker(shift=7)
    talker.inject(".", ack=1, data=b"x" * 10, window=5 << 7, options=pk.window_scale_option(1))
    talker.advance(S)
    talker.drain()
    assert talker.receive() == b"x" * 10
    assert talker.info("snd_wind_shift") == 7
    assert talker.info("snd_wnd") == 5 << 7


@pytest.mark.row("R7323-6")
def test_data_up_to_any_edge_ever_advertised_are_taken() -> None:
    talker = Talker()
    talker.inject(".", seq=1, data=bytes(3000))
    edge = 0
    position = 3001
    while True:  # odd sizes: rounding would take back up to 2**shift - 1 bytes
        for packet in talker.drain():
            edge = max(edge, packet.ack - talker.iss + (packet.window << talker.stack_window_shift))
        if edge - position < 1999:
            break
        talker.inject(".", seq=position, data=bytes(1999))
        talker.advance(50 * MS)
        position += 1999
    talker.inject(".", seq=position, data=bytes(edge - position))
    talker.advance(50 * MS)
    assert talker.drain()[-1].ack == talker.iss + edge
    assert len(talker.receive()) == edge - 1


# -- timestamps ------------------------------------------------------------------------------------------


@pytest.mark.row("R7323-7")
@pytest.mark.parametrize("offered", [True, False])
def test_timestamps_are_in_the_answer_only_if_they_were_in_the_syn(offered: bool) -> None:
    talker = Talker(ts=offered, is_open=False)
    talker.syn()
    answer = talker.syn_ack()
    assert (TS in answer.options) is offered
    if offered:
        assert ecr(answer) == talker.clock()


@pytest.mark.row("R7323-7")
def test_switched_off_timestamps_are_not_answered() -> None:
    talker = Talker(ts=True, is_open=False, tcp=TcpConfig(timestamps=False))
    talker.syn()
    assert TS not in talker.syn_ack().options


@pytest.mark.row("R7323-8")
def test_every_segment_has_timestamps() -> None:
    talker = with_ts(sack=True)
    talker.write(5000)
    talker.wait(5 * S)  # retransmissions
    talker.ack(5001)
    talker.inject(".", seq=1001, data=bytes(500))  # a duplicate ACK with SACK
    talker.inject(".", seq=1, data=bytes(1000))
    talker.call("shutdown")
    talker.advance(S)
    talker.call("abort")
    packets = talker.taken + talker.drain()
    kinds = {packet.flags for packet in packets}
    assert kinds >= {".", "F.", "R."}
    assert all(TS in packet.options for packet in packets)


@pytest.mark.row("R7323-9")
def test_segment_without_timestamps_is_dropped_silently() -> None:
    talker = with_ts()
    talker.inject(".", data=b"x" * 100, without_ts=True)
    talker.advance(S)
    talker.expect_nothing()
    assert talker.receive() == b""
    assert not talker.connection.is_closed
    talker.inject(".", seq=1, data=b"y" * 100)
    assert talker.receive() == b"y" * 100


@pytest.mark.row("R7323-9")
def test_segment_without_timestamps_is_taken_where_it_was_set_so() -> None:
    talker = with_ts(tcp=TcpConfig(drop_missing_timestamps=False))
    talker.inject(".", data=b"x" * 100, without_ts=True)
    assert talker.receive() == b"x" * 100


@pytest.mark.row("R7323-10")
def test_timestamps_that_were_not_agreed_on_are_ignored() -> None:
    talker = Talker()
    talker.inject(".", data=b"x" * 100, options=pk.timestamps_option(77, 88))
    assert talker.receive() == b"x" * 100
    talker.inject(".", data=b"y" * 100, options=pk.timestamps_option(5, 88))  # PAWS would drop it
    assert talker.receive() == b"y" * 100
    talker.write(100)
    assert all(TS not in packet.options for packet in talker.taken)


@pytest.mark.row("R7323-11")
def test_echo_with_delayed_acks_is_of_the_earliest() -> None:
    # §4.3: segments A, B, C with TSval 1, 2, 3; one ACK for all of them echoes 1.
    talker = with_ts()
    base = talker.clock()
    for number, name in enumerate("ABC"):
        talker.inject("." if name != "C" else "P.", data=bytes(100), ts=(base + 1 + number, talker.stack_ts))
    talker.advance(S)
    (answer,) = talker.drain()
    assert answer.ack == talker.iss + 301
    assert ecr(answer) - base == 1
    talker.inject(".", data=bytes(100), ts=(base + 9, talker.stack_ts))
    talker.advance(S)
    assert ecr(talker.drain()[-1]) - base == 9


@pytest.mark.row("R7323-11")
def test_echo_while_segments_come_out_of_order() -> None:
    # §4.3: A, C, B, E, D with TSval 1 to 5 in that order of sending (A=1, B=2, C=3, D=4, E=5).
    talker = with_ts(sack=True, tcp=TcpConfig(delayed_ack_us=1))
    base = talker.clock()
    echoes = []
    for name in "ACBED":
        number = "ABCDE".index(name) + 1
        talker.inject(".", seq=start_of(number), data=bytes(MSS), ts=(base + number, talker.stack_ts))
        talker.advance(1 * MS)
        (answer,) = talker.drain()
        echoes.append(ecr(answer) - base)
    assert echoes == [1, 1, 2, 2, 4]


@pytest.mark.row("R7323-12")
def test_out_of_order_segment_is_not_echoed() -> None:
    talker = with_ts()
    recent = talker.clock()
    talker.inject(".", data=bytes(10), ts=(recent, talker.stack_ts))
    talker.advance(S)
    talker.drain()
    talker.inject(".", seq=5001, data=bytes(1000), ts=(recent + 500, talker.stack_ts))
    assert ecr(talker.expect(".")) == recent


@pytest.mark.row("R7323-12")
def test_segment_with_an_unacceptable_ack_is_not_echoed() -> None:
    talker = with_ts()
    recent = talker.clock()
    talker.inject(".", data=bytes(10), ts=(recent, talker.stack_ts))
    talker.advance(S)
    talker.drain()
    talker.inject(".", ack=900_000, ts=(recent + 500, talker.stack_ts))
    assert ecr(talker.expect(".")) == recent
    # The high TSval was not kept: a normal segment passes PAWS.
    talker.inject(".", data=bytes(10), ts=(recent + 1, talker.stack_ts))
    assert len(talker.receive()) == 20


@pytest.mark.row("R7323-13")
def test_data_of_the_peer_after_a_pause_are_no_sample() -> None:
    talker = with_ts()
    talker.write(1000)
    talker.advance(RTT)
    talker.ack(1001)
    rto, srtt = talker.info("rto_us"), talker.info("srtt_us")
    echo = talker.stack_ts
    talker.advance(60 * S)
    talker.inject(".", data=bytes(100), ts=(talker.clock(), echo))  # echoes what is a minute old
    assert (talker.info("rto_us"), talker.info("srtt_us")) == (rto, srtt)


# -- PAWS ------------------------------------------------------------------------------------------------


@pytest.mark.row("R7323-14")
@pytest.mark.parametrize("offset", [-1000, -1, -(1 << 31) + 1])
def test_older_timestamp_is_acknowledged_and_dropped(offset: int) -> None:
    talker = with_ts()
    recent = talker.clock()
    talker.inject(".", data=bytes(10), ts=(recent, talker.stack_ts))
    talker.receive()
    talker.advance(S)
    talker.drain()
    talker.inject(".", data=b"old" * 10, ts=(recent + offset, talker.stack_ts))
    talker.expect(".", seq=1, ack=11, length=0)
    talker.expect_nothing()
    assert talker.receive() == b""
    assert not talker.connection.is_closed


@pytest.mark.row("R7323-14")
def test_paws_comes_before_the_window() -> None:
    talker = with_ts()
    talker.inject(".", seq=9_000_000, data=bytes(10), ts=(talker.clock() - 1000, talker.stack_ts))
    talker.expect(".", seq=1, ack=1)
    assert talker.counter("dropped_paws") == 1


@pytest.mark.row("R7323-14")
def test_equal_and_wrapped_timestamps_are_no_older() -> None:
    talker = with_ts()
    talker.inject(".", data=b"a", ts=(talker.clock(), talker.stack_ts))
    talker.advance(S)
    talker.inject(".", data=b"b", ts=(talker.clock() - 1000, talker.stack_ts))  # the same as before
    talker.advance(S)
    talker.inject(".", data=b"c", ts=(talker.clock() + (1 << 31) - 10_000, talker.stack_ts))
    assert talker.receive() == b"abc"


@pytest.mark.row("R7323-15")
def test_exact_rst_resets_whatever_its_timestamp() -> None:
    for ts in (True, False):
        talker = with_ts()
        talker.inject("R", ts=(talker.clock() - 100_000, 0), without_ts=not ts)
        assert talker.connection.is_closed


@pytest.mark.row("R7323-15")
def test_rst_that_does_not_reset_leaves_the_timestamps_alone() -> None:
    talker = with_ts()
    talker.inject("R", seq=100, ts=(talker.clock() + 500_000, 0))
    talker.drain()
    talker.inject(".", seq=1, data=b"x")
    assert talker.receive() == b"x"


@pytest.mark.row("R7323-15")
def test_rst_for_a_segment_echoes_its_timestamp() -> None:
    talker = with_ts()
    talker.call("close")
    talker.inject(".", ack=2)
    talker.drain()
    # Data for nobody (SHLD-3): the RST is of a connection, and has timestamps.
    talker.inject(".", data=b"x" * 10)
    packet = talker.expect("R.")
    assert ecr(packet) == talker.clock()


@pytest.mark.row("R7323-16")
def test_after_24_idle_days_any_timestamp_is_valid() -> None:
    talker = with_ts()
    recent = talker.clock()
    talker.inject(".", data=b"a", ts=(recent, talker.stack_ts))
    talker.advance(25 * DAY)
    talker.inject(".", data=b"b", ts=((recent + (3 << 30)) & MASK, talker.stack_ts))
    assert talker.receive() == b"ab"


@pytest.mark.row("R7323-16")
def test_before_24_idle_days_it_is_not() -> None:
    talker = with_ts()
    recent = talker.clock()
    talker.inject(".", data=b"a", ts=(recent, talker.stack_ts))
    talker.advance(20 * DAY)
    talker.inject(".", data=b"b", ts=((recent + (3 << 30)) & MASK, talker.stack_ts))
    assert talker.receive() == b"a"


@pytest.mark.row("R7323-17")
def test_clock_runs_steadily_from_an_offset_of_each_connection() -> None:
    offsets = set()
    for port in (40000, 40001, 40002):
        talker = with_ts(peer_port=port)
        talker.write(10)
        first = val(talker.taken[-1])
        offsets.add(first)
        values = [first]
        for _ in range(10):
            talker.advance(1 * S)
            talker.ack(talker.seen)
            talker.write(10)
            values.append(val(talker.taken[-1]))
        ticks = (values[-1] - values[0]) & MASK
        assert 10 <= ticks <= 10_000  # 1 s to 1 ms a tick
        steps = {(b - a) & MASK for a, b in pairwise(values)}
        assert max(steps) - min(steps) <= 1
    assert len(offsets) == 3


@pytest.mark.row("R7323-18")
def test_segments_with_timestamps_have_df_and_follow_the_path_mtu() -> None:
    talker = Talker(ts=True, mss=1460, rtt=RTT)
    talker.write(1448)
    packet = talker.taken[-1]
    assert packet.dont_fragment
    assert len(packet.data) == 1448
    quote = pk.ipv4(
        pk.tcp(
            ".", seq=packet.seq, source_port=talker.port, destination_port=talker.peer_port, data=bytes(1460)
        ),
        source=pk.STACK,
        destination=pk.PEER,
    )[:28]
    talker.datagram(pk.icmp(3, 4, 1200, quote), 1)
    packets = talker.drain()
    assert [len(p.data) for p in packets] == [1148, 300]
    assert all(p.dont_fragment for p in packets)
