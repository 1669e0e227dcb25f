"""Whatever bytes come: parsers return or raise WireError, the interface raises nothing and counts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from appliance.errors import WireError
from appliance.wire import arp, ethernet, icmp, ipv4, tcp, virtio
from tests.support import packets as pk
from tests.support.packets import PEER, PEER_MAC, STACK, ethernet as frame_of
from tests.support.peer import IN_STATE, Peer, in_state

STATES = list(IN_STATE)
BYTES = st.binary(max_size=200)


@given(data=BYTES, start=st.integers(0, 40))
def test_fuzz_wire_parsers_return_or_raise_wire_error(data: bytes, start: int) -> None:
    header, segment = ipv4.Ipv4Header(), tcp.Segment()
    for parse in (
        lambda: ethernet.ethertype_of(data, start),
        lambda: arp.parse(data, start),
        lambda: ipv4.parse_into(header, data, start),
        lambda: icmp.parse(data, start, len(data)),
        lambda: tcp.parse_into(segment, data, start, len(data)),
        lambda: virtio.complete_checksum(data),
    ):
        try:
            parse()
        except WireError:
            pass


@given(options=st.binary(max_size=40), flags=st.integers(0, 255), data=st.binary(max_size=20))
def test_fuzz_tcp_options_never_escape_the_header(options: bytes, flags: int, data: bytes) -> None:
    options += bytes(-len(options) % 4)
    raw = pk.tcp("-", seq=1, options=options, data=data)
    raw = raw[:13] + bytes((flags,)) + raw[14:]
    segment = tcp.Segment()
    try:
        tcp.parse_into(segment, raw, 0, len(raw))
    except WireError:
        return
    assert segment.data() == data
    assert segment.window_shift <= 14
    assert all(0 <= edge < 1 << 32 for block in segment.sack_blocks for edge in block)
    # The record is used again: nothing of this segment may stay behind.
    plain = pk.tcp(".", seq=2)
    tcp.parse_into(segment, plain, 0, len(plain))
    assert (segment.mss, segment.window_shift, segment.sack_blocks) == (-1, -1, [])
    assert not segment.has_timestamps
    assert not segment.is_sack_permitted


@given(header=st.binary(min_size=10, max_size=10), body=st.binary(max_size=80))
def test_fuzz_virtio_checksum_completion_keeps_the_length(header: bytes, body: bytes) -> None:
    try:
        completed = virtio.complete_checksum(header + body)
    except WireError:
        return
    assert len(completed) == len(body)


def feed(peer: Peer, frame: bytes) -> None:
    """Raises if anything goes wrong inside; answers must be well formed (`flush` parses them)."""
    peer.interface.receive_frame(frame, peer.now)
    peer.flush()


@given(frame=BYTES, vnet_header=st.booleans())
def test_fuzz_interface_takes_any_bytes(frame: bytes, vnet_header: bool) -> None:
    peer = Peer(vnet_header=vnet_header)
    feed(peer, frame)
    counters = peer.interface.counters.as_dict()
    assert counters["frames_in"] == 2
    if len(frame) < 14 + (10 if vnet_header else 0):
        assert counters["dropped_malformed"] == 1


@given(body=BYTES, ethertype=st.sampled_from([0x0800, 0x0806]), broadcast=st.booleans())
def test_fuzz_interface_takes_any_payload_for_it(body: bytes, ethertype: int, broadcast: bool) -> None:
    peer = in_state(STATES[2])
    destination = pk.BROADCAST_MAC if broadcast else pk.STACK_MAC
    feed(peer, pk.vnet_header() + frame_of(body, ethertype, destination=destination))


@given(payload=BYTES, protocol=st.sampled_from([1, 6, 17, 200]), flags=st.integers(0, 3))
def test_fuzz_interface_takes_any_datagram_payload(payload: bytes, protocol: int, flags: int) -> None:
    peer = in_state(STATES[2])
    feed(peer, pk.vnet_header(flags) + frame_of(pk.ipv4(payload, protocol)))


@given(state=st.sampled_from(STATES), data=st.data())
def test_fuzz_mutated_segment_in_every_state(state: object, data: st.DataObject) -> None:
    """A good segment with some bytes changed, the checksum vouched for by the link."""
    peer = in_state(state)  # type: ignore[arg-type]
    frame = bytearray(
        pk.vnet_header(2)
        + frame_of(
            pk.ipv4(
                peer.segment(
                    data.draw(st.sampled_from([".", "F.", "S", "R", "S.", "P."])),
                    data=b"x" * data.draw(st.integers(0, 20)),
                )
            )
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        # Behind the IP header mostly: its checksum would stop the rest.
        index = data.draw(st.integers(44, len(frame) - 1))
        frame[index] = data.draw(st.integers(0, 255))
    feed(peer, bytes(frame))
    peer.advance(1_000_000)


def valid_frames() -> list[bytes]:
    peer = in_state(STATES[2])
    segment = peer.segment(
        ".", data=b"hello", options=pk.timestamps_option(1, 2) + pk.sack_option((1, 2), (3, 4))
    )
    return [
        frame_of(pk.ipv4(segment)),
        frame_of(pk.ipv4(segment, options=b"\x94\x04\x00\x00")),
        frame_of(
            pk.ipv4(
                pk.tcp(
                    "S", seq=1, options=pk.mss_option(1460) + pk.SACK_PERMITTED + pk.window_scale_option(7)
                )
            )
        ),
        frame_of(pk.ipv4(pk.icmp(8, 0, 1, b"ping"), 1)),
        frame_of(pk.ipv4(pk.icmp(3, 3, 0, pk.ipv4(pk.tcp("S", seq=1), source=STACK, destination=PEER)), 1)),
        frame_of(pk.ipv4(b"12345678", 17)),
        frame_of(pk.arp(1, PEER_MAC, PEER, bytes(6), STACK), 0x0806),
        frame_of(pk.arp(2, PEER_MAC, PEER, pk.STACK_MAC, STACK), 0x0806),
    ]


@pytest.mark.parametrize("vnet_header", [True, False])
@pytest.mark.parametrize("which", range(8))
def test_truncated_frame_at_every_length_is_survived(which: int, vnet_header: bool) -> None:
    whole = (pk.vnet_header() if vnet_header else b"") + valid_frames()[which]
    for length in range(len(whole)):
        peer = Peer(vnet_header=vnet_header)
        peer.listen()
        feed(peer, whole[:length])
        assert peer.interface.connections() == []
        assert peer.counter("dropped_malformed") == 1, f"{length} of {len(whole)} bytes"


@pytest.mark.parametrize("which", range(8))
def test_every_single_bit_error_is_survived_and_none_reaches_tcp(which: int) -> None:
    whole = pk.vnet_header() + valid_frames()[which]
    for bit in range(80, len(whole) * 8):
        frame = bytearray(whole)
        frame[bit // 8] ^= 1 << (bit % 8)
        peer = in_state(STATES[2])
        feed(peer, bytes(frame))
        if which < 3 and bit >= 8 * (48 if which == 1 else 44):  # behind the IP header
            assert peer.counter("dropped_bad_checksum") == 1
            assert peer.connection.receivable() == 0


@given(seed=st.integers(0, 1 << 32))
def test_fuzz_random_segments_for_a_while(seed: int) -> None:
    """Segments near the window, in any order, with time passing and an application that does as it likes."""
    rng = random.Random(seed)
    peer = in_state(
        rng.choice(STATES), stack_iss=rng.choice([None, 0xFFFF_FFF0]), iss=rng.choice([1000, 0xFFFF_FFF0])
    )
    connection = peer.connection
    for _ in range(40):
        if connection.is_closed:
            assert connection.next_deadline() > 1 << 60
            break
        choice = rng.random()
        if choice < 0.6:
            flags = (
                rng.choice([".", ".", ".", "P.", "F.", "-", "S", "S.", "R", "R.", "FSRPUEW."])
                if rng.random() < 0.5
                else "."
            )
            base = peer.next + rng.choice([0, 0, 0, -1, 1, 5, 100, -100, 65535, 70000])
            ack = peer.seen + rng.choice([0, 0, 0, -1, 1, -5, 100, 100_000])
            peer.datagram(
                pk.tcp(
                    flags,
                    seq=peer.iss + base,
                    ack=peer.stack_iss + ack,
                    source_port=peer.peer_port,
                    destination_port=peer.port,
                    window=rng.choice([0, 1, 500, 65535]),
                    data=bytes(rng.choice([0, 0, 1, 10, 200, 1460])),
                    options=rng.choice([b"", b"", pk.mss_option(1), pk.timestamps_option(1, 2)]),
                )
            )
            connection = peer._connection or connection
        elif choice < 0.75:
            peer.advance(rng.choice([1, 1000, 50_000, 1_000_000, 70_000_000]))
        elif choice < 0.85 and connection.state in (4, 7) and not connection.is_fin_queued:
            peer.interface.take_ready()
            connection.send(bytes(rng.choice([1, 100, 3000, 70_000])))
            peer.flush()
        elif choice < 0.95:
            connection.receive(rng.choice([1, 100, 100_000]))
            peer.flush()
        else:
            getattr(connection, rng.choice(["shutdown", "close", "abort"]))()
            peer.flush()
        peer.drain()
