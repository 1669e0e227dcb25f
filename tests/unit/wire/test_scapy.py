"""A second opinion: what we build scapy reads with right checksums, what scapy builds we read."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, strategies as st

from appliance.wire import arp, icmp, ipv4, tcp, virtio
from tests.support import packets as pk
from tests.support.packets import PEER_MAC, STACK, STACK_MAC
from tests.support.peer import Peer, established

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.l2 import ARP, Ether
    from scapy.packet import Raw

STACK_TEXT, PEER_TEXT = "10.77.0.2", "10.77.0.1"
STACK_MAC_TEXT, PEER_MAC_TEXT = STACK_MAC.hex(":"), PEER_MAC.hex(":")
DATA = st.binary(max_size=100)


def checked(frame: bytes) -> Ether:
    """scapy's reading of a frame; recomputing its checksums and lengths must change nothing."""
    packet = Ether(frame)
    again = packet.copy()
    for layer in (IP, TCP, ICMP, UDP):
        if again.haslayer(layer):
            del again[layer].chksum
    if again.haslayer(IP):
        del again[IP].len
    assert bytes(again) == frame
    return packet


def frames(peer: Peer) -> list[bytes]:
    return [virtio.complete_checksum(frame) for frame in peer.interface.frames_to_send(peer.now)]


@given(data=st.binary(min_size=1, max_size=3000))
def test_scapy_reads_our_segments(data: bytes) -> None:
    peer = established(mss=1460)
    peer.connection.send(data)
    for frame in frames(peer):
        packet = checked(frame)
        assert (packet[IP].src, packet[IP].dst) == (STACK_TEXT, PEER_TEXT)
        assert (packet[TCP].sport, packet[TCP].dport) == (peer.port, peer.peer_port)
        assert data.startswith(bytes(packet[TCP].payload))


def test_scapy_reads_our_super_segment() -> None:
    peer = established(mss=1000)
    peer.connection.send(bytes(9000))
    (frame,) = frames(peer)
    assert len(checked(frame)[TCP].payload) == 9000


def test_scapy_reads_our_handshake_options() -> None:
    peer = Peer()
    peer.interface.connect(pk.PEER, 80, peer.now)
    (frame,) = frames(peer)
    options = dict(option for option in checked(frame)[TCP].options if option[0] != "NOP")
    assert options.pop("Timestamp")[1] == 0
    assert options == {"MSS": 1460, "WScale": 7, "SAckOK": b""}


# Of other types scapy wants more than the header.
@given(
    kind=st.sampled_from([0, 8, 99, 255]),
    code=st.integers(0, 255),
    rest=st.integers(0, 0xFFFF_FFFF),
    data=DATA,
)
def test_scapy_agrees_on_icmp_checksums(kind: int, code: int, rest: int, data: bytes) -> None:
    raw = icmp.build(kind, code, rest, data)
    packet = ICMP(raw)
    assert (packet.type, packet.code) == (kind, code)
    assert pk.internet_checksum(raw) == 0


def test_scapy_reads_our_echo_reply_and_errors() -> None:
    peer = Peer()
    request = (
        Ether(src=PEER_MAC_TEXT, dst=STACK_MAC_TEXT)
        / IP(src=PEER_TEXT, dst=STACK_TEXT)
        / ICMP(id=7, seq=9)
        / Raw(b"ping")
    )
    peer.interface.receive_frame(virtio.PLAIN + bytes(request), 0)
    reply = checked(frames(peer)[0])
    assert (reply[ICMP].type, reply[ICMP].id, reply[ICMP].seq, bytes(reply[Raw])) == (0, 7, 9, b"ping")
    probe = (
        Ether(src=PEER_MAC_TEXT, dst=STACK_MAC_TEXT)
        / IP(src=PEER_TEXT, dst=STACK_TEXT)
        / UDP(sport=5, dport=6)
        / Raw(b"x" * 30)
    )
    peer.interface.receive_frame(virtio.PLAIN + bytes(probe), 0)
    error = Ether(frames(peer)[0])
    assert (error[ICMP].type, error[ICMP].code) == (3, 3)
    assert error[ICMP].payload.sport == 5


def test_scapy_reads_our_arp() -> None:
    packet = ARP(arp.build(2, STACK_MAC, STACK, PEER_MAC, pk.PEER))
    assert (packet.op, packet.hwsrc, packet.psrc, packet.hwdst, packet.pdst) == (
        2,
        STACK_MAC_TEXT,
        STACK_TEXT,
        PEER_MAC_TEXT,
        PEER_TEXT,
    )


@given(sha=st.binary(min_size=6, max_size=6), spa=st.integers(0, 0xFFFF_FFFF), op=st.sampled_from([1, 2]))
def test_we_read_scapys_arp(sha: bytes, spa: int, op: int) -> None:
    raw = bytes(
        ARP(op=op, hwsrc=sha.hex(":"), psrc=ipv4.format_address(spa), hwdst=STACK_MAC_TEXT, pdst=STACK_TEXT)
    )
    packet = arp.parse(raw, 0)
    assert (packet.op, packet.sha, packet.spa, packet.tpa) == (op, sha, spa, STACK)


@given(
    seq=st.integers(0, 0xFFFF_FFFF),
    flags=st.integers(0, 255),
    data=DATA,
    mss=st.integers(0, 0xFFFF),
    shift=st.integers(0, 14),
    stamps=st.tuples(st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF)),
)
def test_we_read_scapys_segments(
    seq: int, flags: int, data: bytes, mss: int, shift: int, stamps: tuple[int, int]
) -> None:
    options = [("MSS", mss), ("NOP", None), ("WScale", shift), ("SAckOK", b""), ("Timestamp", stamps)]
    raw = bytes(IP(src=PEER_TEXT, dst=STACK_TEXT) / TCP(seq=seq, flags=flags, options=options) / Raw(data))
    header, segment = ipv4.Ipv4Header(), tcp.Segment()
    ipv4.parse_into(header, raw, 0)
    tcp.parse_into(segment, raw, header.payload_start, header.payload_end)
    assert (segment.seq, segment.flags, segment.data()) == (seq, flags, data)
    has_syn = bool(flags & tcp.SYN)
    assert segment.mss == (mss if has_syn else -1)
    assert segment.window_shift == (shift if has_syn else -1)
    assert segment.is_sack_permitted == has_syn
    assert (segment.ts_val, segment.ts_ecr) == stamps


@pytest.mark.parametrize("vnet_header", [True, False])
def test_a_handshake_and_data_spoken_by_scapy(vnet_header: bool) -> None:
    peer = Peer(vnet_header=vnet_header)
    listener = peer.interface.listen(6379)
    prefix = virtio.PLAIN if vnet_header else b""
    link = Ether(src=PEER_MAC_TEXT, dst=STACK_MAC_TEXT) / IP(src=PEER_TEXT, dst=STACK_TEXT)

    def exchange(segment: TCP) -> list[Ether]:
        peer.interface.receive_frame(prefix + bytes(link / segment), peer.now)
        sent = peer.interface.frames_to_send(peer.now)
        return [checked(virtio.complete_checksum(frame) if vnet_header else frame) for frame in sent]

    (syn_ack,) = exchange(TCP(sport=5000, dport=6379, flags="S", seq=100, options=[("MSS", 1000)]))
    assert syn_ack[TCP].flags == "SA"
    assert exchange(TCP(sport=5000, dport=6379, flags="A", seq=101, ack=syn_ack[TCP].seq + 1)) == []
    connection = listener.accept()
    assert connection is not None
    assert (
        exchange(
            TCP(sport=5000, dport=6379, flags="PA", seq=101, ack=syn_ack[TCP].seq + 1) / Raw(b"PING\r\n")
        )
        == []
    )
    assert connection.receive(100) == b"PING\r\n"
