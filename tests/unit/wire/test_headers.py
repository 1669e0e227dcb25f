"""Each header: what is read, what is built, and by name each way in which it can be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.errors import WireError
from appliance.wire import arp, checksum, ethernet, fields, icmp, ipv4, tcp, virtio
from tests.support import packets as pk
from tests.support.packets import PEER, PEER_MAC, STACK, STACK_MAC

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFF_FFFF)
MACS = st.binary(min_size=6, max_size=6)


# -- fields --------------------------------------------------------------------------------------


@given(value=U32, before=st.binary(max_size=5))
def test_fields_read_back_what_was_put(value: int, before: bytes) -> None:
    writer = fields.BytesWriter()
    writer.write(before)
    fields.put_u32(writer, value)
    fields.put_u16(writer, value & 0xFFFF)
    fields.put_u16_le(writer, value & 0xFFFF)
    data = writer.getvalue()
    start = len(before)
    assert data[start:] == value.to_bytes(4, "big") + (value & 0xFFFF).to_bytes(2, "big") + (
        value & 0xFFFF
    ).to_bytes(2, "little")
    assert fields.read_u32(data, start) == value
    assert fields.read_u16(data, start + 4) == value & 0xFFFF
    assert fields.read_u16_le(data, start + 6) == value & 0xFFFF


# -- checksum ------------------------------------------------------------------------------------


@given(data=st.binary(max_size=300), start=st.integers(0, 20))
def test_checksum_agrees_with_the_slow_way(data: bytes, start: int) -> None:
    start = min(start, len(data))
    assert checksum.checksum(data, start, len(data)) == pk.internet_checksum(data[start:])


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff" * 7, b"\xff" * 65535, b"\0" * 65535, bytes(range(256)) * 256], ids=len
)
def test_checksum_of_the_extremes(data: bytes) -> None:
    assert checksum.checksum(data, 0, len(data)) == pk.internet_checksum(data)


@given(data=st.binary(min_size=2, max_size=100))
def test_data_with_its_checksum_sums_to_ffff(data: bytes) -> None:
    if len(data) % 2:
        data += b"\0"
    whole = data + checksum.checksum(data, 0, len(data)).to_bytes(2, "big")
    assert checksum.fold(fields.sum_words(whole, 0, len(whole))) == 0xFFFF


def test_rfc_1071_example() -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert checksum.fold(fields.sum_words(data, 0, 8)) == 0xDDF2


@given(source=U32, destination=U32, length=U16)
def test_pseudo_header_sum_is_that_of_its_bytes(source: int, destination: int, length: int) -> None:
    raw = pk.pseudo_header(source, destination, 6, length)
    assert (
        checksum.fold(checksum.pseudo_header_sum(source, destination, 6, length))
        == pk.internet_checksum(raw) ^ 0xFFFF
    )


# -- Ethernet ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(14))
def test_ethernet_runt_is_an_error(length: int) -> None:
    with pytest.raises(WireError):
        ethernet.ethertype_of(bytes(length), 0)
    with pytest.raises(WireError):
        ethernet.ethertype_of(bytes(10 + length), 10)


@given(destination=MACS, source=MACS, ethertype=U16)
def test_ethernet_header_is_read_back(destination: bytes, source: bytes, ethertype: int) -> None:
    header = ethernet.header(destination, source, ethertype)
    assert header == destination + source + ethertype.to_bytes(2, "big")
    assert ethernet.ethertype_of(header, 0) == ethertype


def test_mac_text() -> None:
    assert ethernet.format_mac(STACK_MAC) == "02:00:5e:10:00:02"
    assert ethernet.parse_mac("02:00:5e:10:00:02") == STACK_MAC
    for text in ("", "02:00:5e:10:00", "02:00:5e:10:00:02:03", "zz:00:5e:10:00:02"):
        with pytest.raises(ValueError):
            ethernet.parse_mac(text)


# -- ARP -----------------------------------------------------------------------------------------


@given(op=st.sampled_from([1, 2]), sha=MACS, spa=U32, tha=MACS, tpa=U32, start=st.integers(0, 30))
def test_arp_is_read_back(op: int, sha: bytes, spa: int, tha: bytes, tpa: int, start: int) -> None:
    raw = arp.build(op, sha, spa, tha, tpa)
    assert raw == pk.arp(op, sha, spa, tha, tpa)
    packet = arp.parse(bytes(start) + raw + b"padding", start)
    assert (packet.op, packet.sha, packet.spa, packet.tha, packet.tpa) == (op, sha, spa, tha, tpa)


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, 1), (1, 6), (2, 9), (3, 6), (4, 8), (5, 16), (6, 1), (7, 0), (7, 3)],
    ids=["hrd high", "hrd", "pro", "pro low", "hln", "pln", "op high", "op 0", "op 3"],
)
def test_arp_with_a_wrong_field_is_an_error(index: int, value: int) -> None:
    raw = bytearray(pk.arp(1, PEER_MAC, PEER, STACK_MAC, STACK))
    raw[index] = value
    with pytest.raises(WireError):
        arp.parse(bytes(raw), 0)


@pytest.mark.parametrize("length", range(28))
def test_arp_truncated_is_an_error(length: int) -> None:
    with pytest.raises(WireError):
        arp.parse(pk.arp(1, PEER_MAC, PEER, STACK_MAC, STACK)[:length], 0)


# -- IPv4 ----------------------------------------------------------------------------------------


@given(
    source=U32,
    destination=U32,
    protocol=st.integers(0, 255),
    identification=U16,
    ttl=st.integers(0, 255),
    flags=st.sampled_from([0, 0x4000]),
    tos=st.integers(0, 255),
    payload=st.binary(max_size=50),
)
def test_ipv4_is_read_back(
    source: int,
    destination: int,
    protocol: int,
    identification: int,
    ttl: int,
    flags: int,
    tos: int,
    payload: bytes,
) -> None:
    raw = ipv4.build_header(source, destination, protocol, len(payload), identification, ttl, flags, tos)
    assert pk.internet_checksum(raw) == 0
    header = ipv4.Ipv4Header()
    frame = bytes(14) + raw + payload + b"padding"
    ipv4.parse_into(header, frame, 14)
    assert (header.source, header.destination, header.protocol) == (source, destination, protocol)
    assert (header.identification, header.ttl, header.tos) == (identification, ttl, tos)
    assert not header.is_fragment
    assert not header.has_options
    assert frame[header.payload_start : header.payload_end] == payload


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [(0, False), (0x4000, False), (0x8000, False), (0x2000, True), (1, True), (0x1FFF, True)],
)
def test_ipv4_fragments_are_recognized(fragment: int, expected: bool) -> None:
    header = ipv4.Ipv4Header()
    ipv4.parse_into(header, pk.ipv4(b"x", fragment=fragment), 0)
    assert header.is_fragment == expected


def test_ipv4_options_move_the_payload() -> None:
    header = ipv4.Ipv4Header()
    frame = pk.ipv4(b"payload", options=bytes(40))
    ipv4.parse_into(header, frame, 0)
    assert header.has_options
    assert frame[header.payload_start : header.payload_end] == b"payload"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        pk.ipv4(b"")[:19],
        pk.ipv4(b"x", version=5),
        pk.ipv4(b"x", version=6),
        pk.ipv4(b"x", ihl=0),
        pk.ipv4(b"x", ihl=4),
        pk.ipv4(b"x", ihl=15),
        pk.ipv4(b"x", total_length=0),
        pk.ipv4(b"x", total_length=19),
        pk.ipv4(b"x", total_length=22),
        pk.ipv4(b"x", total_length=65535),
        pk.ipv4(b"x", checksum=0),
        pk.ipv4(b"x", checksum=0xFFFF),
    ],
    ids=[
        "empty",
        "short",
        "version 5",
        "version 6",
        "ihl 0",
        "ihl 4",
        "ihl 15",
        "total 0",
        "total 19",
        "total 22",
        "total max",
        "sum 0",
        "sum ffff",
    ],
)
def test_ipv4_that_does_not_fit_is_an_error(datagram: bytes) -> None:
    with pytest.raises(WireError):
        ipv4.parse_into(ipv4.Ipv4Header(), datagram, 0)


@pytest.mark.parametrize("text", ["0.0.0.0", "10.77.0.2", "255.255.255.255"])
def test_address_text(text: str) -> None:
    assert ipv4.format_address(ipv4.parse_address(text)) == text
    assert ipv4.parse_address(text) == pk.ip(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.2.3.-4",
        "1.2.3.x",
        "1..3.4",
        "1.2.3.4 ",
        "1.2.3.٤",
        "0001.2.3.4",
    ],
)
def test_address_text_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        ipv4.parse_address(text)


# -- ICMP ----------------------------------------------------------------------------------------


@given(
    kind=st.integers(0, 255),
    code=st.integers(0, 255),
    rest=U32,
    data=st.binary(max_size=60),
    start=st.integers(0, 30),
)
def test_icmp_is_read_back(kind: int, code: int, rest: int, data: bytes, start: int) -> None:
    raw = icmp.build(kind, code, rest, data)
    assert raw == pk.icmp(kind, code, rest, data)
    message = icmp.parse(bytes(start) + raw + b"pad", start, start + len(raw))
    assert (message.type, message.code, message.rest, message.data) == (kind, code, rest, data)


@pytest.mark.parametrize("length", range(8))
def test_icmp_truncated_is_an_error(length: int) -> None:
    with pytest.raises(WireError):
        icmp.parse(bytes(length), 0, length)
    with pytest.raises(WireError):
        icmp.parse(bytes(length), 0, 8)


def test_icmp_checksum_is_verified() -> None:
    raw = pk.icmp(8, 0, 1, b"data", checksum_error=1)
    with pytest.raises(WireError):
        icmp.parse(raw, 0, len(raw))


# -- TCP -----------------------------------------------------------------------------------------


def parsed(raw: bytes) -> tcp.Segment:
    segment = tcp.Segment()
    tcp.parse_into(segment, bytes(34) + raw + b"pad", 34, 34 + len(raw))
    return segment


@given(
    seq=U32,
    ack=U32,
    ports=st.tuples(U16, U16),
    bits=st.integers(0, 255),
    window=U16,
    urgent=U16,
    data=st.binary(max_size=50),
)
def test_tcp_header_is_read(
    seq: int, ack: int, ports: tuple[int, int], bits: int, window: int, urgent: int, data: bytes
) -> None:
    segment = parsed(
        pk.tcp(
            pk.flag_text(bits),
            seq=seq,
            ack=ack,
            source_port=ports[0],
            destination_port=ports[1],
            window=window,
            urgent=urgent,
            data=data,
        )
    )
    assert (segment.seq, segment.ack, segment.window, segment.urgent_pointer) == (seq, ack, window, urgent)
    assert (segment.source_port, segment.destination_port) == ports
    assert segment.flags == bits
    assert segment.data() == data
    assert segment.length == len(data) + bool(bits & tcp.SYN) + bool(bits & tcp.FIN)


@pytest.mark.parametrize("length", range(20))
def test_tcp_truncated_is_an_error(length: int) -> None:
    raw = pk.tcp("S", seq=1)[:length]
    with pytest.raises(WireError):
        tcp.parse_into(tcp.Segment(), raw, 0, length)
    with pytest.raises(WireError):
        tcp.parse_into(tcp.Segment(), raw, 0, 20)


@pytest.mark.parametrize("offset", [0, 1, 4, 6, 15])
def test_tcp_data_offset_that_does_not_fit_is_an_error(offset: int) -> None:
    with pytest.raises(WireError):
        parsed(pk.tcp("S", seq=1, data_offset=offset))


ILLEGAL_OPTIONS = {
    "MSS length 0": b"\x02\x00",
    "MSS length 1": b"\x02\x01",
    "MSS length 3": b"\x02\x03\x05",
    "MSS length 5": b"\x02\x05\x05\xb4\x00",
    "window scale length 2": b"\x03\x02",
    "window scale length 4": b"\x03\x04\x07\x00",
    "SACK-permitted length 3": b"\x04\x03\x00",
    "SACK without a block": b"\x05\x02",
    "SACK of half a block": b"\x05\x06\0\0\0\1",
    "timestamps length 9": b"\x08\x09" + bytes(7),
    "unknown length 0": b"\xfd\x00",
    "unknown length 1": b"\xfd\x01",
    "length beyond the header": b"\xfd\x09",
    "kind without length": b"\x01\x01\x01\xfd",
}


@pytest.mark.rfc("9293", "MUST-7")
@pytest.mark.parametrize("options", ILLEGAL_OPTIONS.values(), ids=ILLEGAL_OPTIONS.keys())
def test_tcp_option_with_an_illegal_length_is_an_error(options: bytes) -> None:
    # Behind NOPs, so that the option's own bytes are the header's last.
    with pytest.raises(WireError):
        parsed(pk.tcp("S", seq=1, options=b"\x01" * (-len(options) % 4) + options))


@pytest.mark.rfc("9293", "MUST-68")
def test_tcp_options_are_read() -> None:
    segment = parsed(
        pk.tcp(
            "S",
            seq=1,
            options=pk.mss_option(1460)
            + pk.window_scale_option(20)
            + pk.SACK_PERMITTED
            + pk.timestamps_option(0xFFFF_FFFF, 7),
        )
    )
    assert segment.mss == 1460
    assert segment.window_shift == 14
    assert segment.is_sack_permitted
    assert (segment.has_timestamps, segment.ts_val, segment.ts_ecr) == (True, 0xFFFF_FFFF, 7)


def test_tcp_sack_blocks_are_read_in_order() -> None:
    blocks = [(1, 2), (0xFFFF_FFFF, 5), (7, 8), (9, 10)]
    assert parsed(pk.tcp(".", seq=1, options=pk.sack_option(*blocks))).sack_blocks == blocks


@pytest.mark.rfc("9293", "MUST-69")
def test_tcp_options_behind_eol_are_ignored() -> None:
    assert parsed(pk.tcp("S", seq=1, options=b"\x00" + b"\x02\x00\xff")).mss == -1


@pytest.mark.rfc("9293", "MUST-65")
def test_tcp_handshake_options_count_only_with_syn() -> None:
    segment = parsed(
        pk.tcp(".", seq=1, options=pk.mss_option(100) + pk.window_scale_option(3) + pk.SACK_PERMITTED)
    )
    assert (segment.mss, segment.window_shift, segment.is_sack_permitted) == (-1, -1, False)


def test_tcp_record_forgets_the_options_of_the_segment_before() -> None:
    segment = tcp.Segment()
    first = pk.tcp(
        "S",
        seq=1,
        options=pk.mss_option(1) + pk.SACK_PERMITTED + pk.sack_option((1, 2)) + pk.timestamps_option(1, 2),
    )
    tcp.parse_into(segment, first, 0, len(first))
    bad = pk.tcp("S", seq=1, options=pk.mss_option(9) + b"\xfd\x00\x00\x00")
    with pytest.raises(WireError):
        tcp.parse_into(segment, bad, 0, len(bad))
    plain = pk.tcp(".", seq=2)
    tcp.parse_into(segment, plain, 0, len(plain))
    assert (segment.mss, segment.is_sack_permitted, segment.has_timestamps, segment.sack_blocks) == (
        -1,
        False,
        False,
        [],
    )


@given(
    mss=st.none() | U16,
    shift=st.none() | st.integers(0, 14),
    sack=st.booleans(),
    stamps=st.none() | st.tuples(U32, U32),
)
def test_tcp_options_built_are_read_back(
    mss: int | None, shift: int | None, sack: bool, stamps: tuple[int, int] | None
) -> None:
    raw = tcp.build_options(
        -1 if mss is None else mss,
        -1 if shift is None else shift,
        sack,
        -1 if stamps is None else stamps[0],
        stamps[1] if stamps else 0,
    )
    assert len(raw) % 4 == 0
    segment = parsed(pk.tcp("S", seq=1, options=raw))
    assert segment.mss == (-1 if mss is None else mss)
    assert segment.window_shift == (-1 if shift is None else shift)
    assert segment.is_sack_permitted == sack
    assert (segment.ts_val, segment.ts_ecr) == stamps if stamps else not segment.has_timestamps


@given(blocks=st.lists(st.tuples(U32, U32), max_size=6))
def test_tcp_sack_option_built_is_read_back(blocks: list[tuple[int, int]]) -> None:
    raw = tcp.build_sack_option(blocks)
    assert len(raw) % 4 == 0
    assert parsed(pk.tcp(".", seq=1, options=raw)).sack_blocks == blocks[:4]


# -- virtio-net ----------------------------------------------------------------------------------


@given(values=st.tuples(st.integers(0, 255), st.integers(0, 255), U16, U16, U16, U16))
def test_virtio_header_layout(values: tuple[int, int, int, int, int, int]) -> None:
    assert virtio.build(*values) == pk.vnet_header(*values)


@pytest.mark.parametrize("data", [b"", b"x", b"odd", b"\xff" * 1460, bytes(40_000)], ids=len)
def test_virtio_partial_checksum_is_completed(data: bytes) -> None:
    frame = pk.ethernet(pk.ipv4(pk.tcp("P.", seq=1, ack=2, data=data, partial=True)))
    completed = virtio.complete_checksum(pk.vnet_header(1, 0, 0, 0, 34, 16) + frame)
    assert completed == pk.ethernet(pk.ipv4(pk.tcp("P.", seq=1, ack=2, data=data)))


def test_virtio_complete_frame_is_left_alone() -> None:
    frame = pk.ethernet(b"anything")
    assert virtio.complete_checksum(virtio.PLAIN + frame) == frame


@pytest.mark.parametrize(("start", "offset"), [(34, 1000), (65535, 65535), (53, 0), (0, 53), (54, 0)])
def test_virtio_offsets_beyond_the_frame_are_an_error(start: int, offset: int) -> None:
    frame = pk.ethernet(pk.ipv4(pk.tcp(".", seq=1)))
    assert len(frame) == 54
    with pytest.raises(WireError):
        virtio.complete_checksum(pk.vnet_header(1, 0, 0, 0, start, offset) + frame)


@pytest.mark.parametrize("length", range(10))
def test_virtio_header_truncated_is_an_error(length: int) -> None:
    with pytest.raises(WireError):
        virtio.complete_checksum(bytes(length))
