"""What is not Redis: ICMP, ports and protocols nobody listens on, and frames no sane peer would send.

The kernel asks through raw sockets; broken frames are put on the link by AF_PACKET, beside a client that must
notice nothing.
"""

from __future__ import annotations

import errno
import random
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.support import forged
from tests.support.forged import ACK, FIN, PSH, RST, SYN
from tests.support.links import ETHERNET, IS_FILTERED, LINK, PEER_LINK, ForgingSocket
from tests.support.running import ADDRESS, CLIENT_ADDRESS, PORT, ask, request, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

_OUR_MAC = b"\x02\x52" + socket.inet_aton(ADDRESS)
_PEER_MAC = b"\x02\0\0\0\0\x01"
_BROADCAST = b"\xff" * 6
_IPV4 = 0x0800
_ARP = 0x0806


def _raw(protocol: int) -> Callable[[], socket.socket]:
    def work() -> socket.socket:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
        raw.settimeout(60)
        return raw

    return work


# -- what a host must answer -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 56, 1472, 3000, 65_000])  # the last two come and go in fragments
def test_icmp_echo_is_answered_with_the_same_data(appliance: RunningAppliance, size: int) -> None:
    data = random.Random(size).randbytes(size)
    rest = struct.pack("!HH", 0x4D52, size)
    with appliance.inside(_raw(socket.IPPROTO_ICMP)) as raw:
        raw.sendto(forged.icmp(8, 0, rest, data), (ADDRESS, 0))
        while True:
            datagram, sender = raw.recvfrom(65_535)
            message = datagram[20:]
            if message[4:8] == rest and message[0] == 0:
                break
    assert sender[0] == ADDRESS
    assert message == forged.icmp(0, 0, rest, data)
    assert datagram[8] == 64  # TTL


def test_udp_to_a_closed_port_is_refused(appliance: RunningAppliance) -> None:
    with appliance.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp:
        udp.settimeout(60)
        udp.connect((ADDRESS, 9))
        udp.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            udp.recv(100)


def test_tcp_to_a_closed_port_is_refused(appliance: RunningAppliance) -> None:
    with pytest.raises(ConnectionRefusedError):
        appliance.connect(PORT + 1)


def test_unknown_protocol_gets_icmp_protocol_unreachable(appliance: RunningAppliance) -> None:
    # 253 is for experiments (RFC 3692): nobody speaks it.
    with appliance.inside(_raw(253)) as raw:
        raw.connect((ADDRESS, 0))
        raw.send(b"sixteen bytes...")
        with pytest.raises(OSError) as caught:
            raw.recv(100)
    assert caught.value.errno == errno.ENOPROTOOPT


@pytest.mark.links(*ETHERNET, reason="there is no ARP on a TUN")
def test_arp_request_for_us_is_answered_with_our_mac(appliance: RunningAppliance) -> None:
    def ask_twice() -> bytes:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as link:
            link.bind((PEER_LINK, _ARP))
            link.settimeout(60)
            question = struct.pack("!HHBBH", 1, _IPV4, 6, 4, 1) + _PEER_MAC + socket.inet_aton("10.77.0.77")
            question += bytes(6) + socket.inet_aton(ADDRESS)
            link.send(forged.ethernet(_BROADCAST, _PEER_MAC, _ARP, question))
            while True:
                frame = link.recv(2048)
                if frame[20:22] == b"\0\2":
                    return frame

    frame = appliance.inside(ask_twice)
    assert frame[:6] == _PEER_MAC
    assert frame[22:28] == _OUR_MAC
    assert frame[28:32] == socket.inet_aton(ADDRESS)
    assert frame[32:38] == _PEER_MAC


# -- what no sane peer sends ---------------------------------------------------------------------------------


def _ip(protocol: int, payload: bytes, **fields: int) -> bytes:
    return forged.ethernet(
        _OUR_MAC, _PEER_MAC, _IPV4, forged.ipv4(CLIENT_ADDRESS, ADDRESS, protocol, payload, **fields)
    )


def _tcp(flags: int = SYN, *, options: bytes = b"", **fields: int) -> bytes:
    segment = forged.tcp(CLIENT_ADDRESS, ADDRESS, 4711, PORT, flags, options=options, **fields)
    return _ip(socket.IPPROTO_TCP, segment)


def _from(source: str) -> bytes:
    segment = forged.tcp(source, ADDRESS, 4711, PORT, SYN)
    return forged.ethernet(_OUR_MAC, _PEER_MAC, _IPV4, forged.ipv4(source, ADDRESS, 6, segment))


def _to(destination: str, link_destination: bytes = _BROADCAST) -> bytes:
    segment = forged.tcp(CLIENT_ADDRESS, destination, 4711, PORT, SYN)
    datagram = forged.ipv4(CLIENT_ADDRESS, destination, 6, segment)
    return forged.ethernet(link_destination, _PEER_MAC, _IPV4, datagram)


def _arp(body: bytes) -> bytes:
    return forged.ethernet(_BROADCAST, _PEER_MAC, _ARP, body)


_ADDRESSES = _PEER_MAC + socket.inet_aton(CLIENT_ADDRESS) + bytes(6) + socket.inet_aton(ADDRESS)

_BROKEN = {
    # name: (frame, the counter it adds one to)
    "ipv4 without a header": (forged.ethernet(_OUR_MAC, _PEER_MAC, _IPV4, b""), "dropped_malformed"),
    "ipv4 header cut": (_ip(6, b"")[: 14 + 19], "dropped_malformed"),
    "ipv4 version 6": (_ip(6, b"x" * 20, version=6), "dropped_malformed"),
    "ipv4 header of 4 words": (_ip(6, b"x" * 20, header_words=4), "dropped_malformed"),
    "ipv4 header of 15 words": (_ip(6, b"x" * 8, header_words=15), "dropped_malformed"),
    "ipv4 total length beyond the frame": (_ip(6, b"x" * 20, total_length=1000), "dropped_malformed"),
    "ipv4 total length below the header": (_ip(6, b"x" * 20, total_length=19), "dropped_malformed"),
    "ipv4 wrong checksum": (_ip(6, b"x" * 20, header_checksum=0xBAD), "dropped_malformed"),
    "ipv4 first fragment of no multiple of eight": (
        _ip(6, b"x" * 41, fragment=0x2000),
        "dropped_bad_fragment",
    ),
    "ipv4 fragment inside the TCP header": (_ip(6, b"x" * 40, fragment=0x0001), "dropped_bad_fragment"),
    "ipv4 from ourselves": (_from(ADDRESS), "dropped_bad_source"),
    "ipv4 from loopback": (_from("127.0.0.1"), "dropped_bad_source"),
    "ipv4 from multicast": (_from("224.0.0.1"), "dropped_bad_source"),
    "ipv4 from broadcast": (_from("255.255.255.255"), "dropped_bad_source"),
    "ipv4 from the subnet's broadcast": (_from("10.77.0.255"), "dropped_bad_source"),
    "ipv4 from nobody": (_from("0.0.0.0"), "dropped_bad_source"),
    "ipv4 to somebody else": (_to("10.77.0.3", _OUR_MAC), "dropped_not_for_us"),
    "tcp to the limited broadcast": (_to("255.255.255.255"), "dropped_broadcast_segment"),
    "tcp to the subnet's broadcast": (_to("10.77.0.255"), "dropped_broadcast_segment"),
    "tcp to us in a link broadcast": (_to(ADDRESS), "dropped_broadcast_segment"),
    "tcp header cut at 19": (_tcp(cut_to=19), "dropped_malformed"),
    "tcp data offset 4": (_tcp(data_offset=4), "dropped_malformed"),
    "tcp data offset beyond the segment": (_tcp(data_offset=15), "dropped_malformed"),
    "tcp wrong checksum": (_tcp(checksum_error=1), "dropped_bad_checksum"),
    "tcp no bytes at all": (_tcp(cut_to=0), "dropped_bad_checksum"),
    "tcp option without a length": (_tcp(options=b"\1\1\1\x02"), "dropped_malformed"),
    "tcp option of length 0": (_tcp(options=b"\xfd\0\1\1"), "dropped_malformed"),
    "tcp option of length 1": (_tcp(options=b"\xfd\1\1\1"), "dropped_malformed"),
    "tcp option beyond the header": (_tcp(options=b"\xfd\x20\0\0"), "dropped_malformed"),
    "tcp MSS of length 3": (_tcp(options=b"\x02\x03\x05\1"), "dropped_malformed"),
    "tcp window scale of length 4": (_tcp(options=b"\x03\x04\x07\x07"), "dropped_malformed"),
    "tcp SACK-permitted of length 3": (_tcp(options=b"\x04\x03\0\1"), "dropped_malformed"),
    "tcp SACK of length 7": (_tcp(options=b"\x05\x07\0\0\0\0\0\1"), "dropped_malformed"),
    "tcp timestamps of length 6": (_tcp(options=b"\x08\x06\0\0\0\0\1\1"), "dropped_malformed"),
    "icmp cut": (_ip(1, b"\x08\0\xf7"), "dropped_malformed"),
    "icmp wrong checksum": (_ip(1, forged.icmp(8, 0, b"\0\0\0\0", checksum_error=1)), "dropped_malformed"),
    "arp cut": (_arp(b"\0\1\x08\0\x06\x04\0\1"), "dropped_malformed"),
    "arp of another hardware": (_arp(b"\0\x06\x08\0\x06\x04\0\1" + _ADDRESSES), "dropped_malformed"),
    "arp with long addresses": (_arp(b"\0\1\x08\0\xff\xff\0\1" + _ADDRESSES), "dropped_malformed"),
    "arp of unknown operation": (_arp(b"\0\1\x08\0\x06\x04\0\x09" + _ADDRESSES), "dropped_malformed"),
    "ipv6": (forged.ethernet(_OUR_MAC, _PEER_MAC, 0x86DD, b"\x60" + bytes(60)), "dropped_unknown_ethertype"),
    "vlan tag": (
        forged.ethernet(_OUR_MAC, _PEER_MAC, 0x8100, b"\0\1\x08\0" + bytes(40)),
        "dropped_unknown_ethertype",
    ),
    "frame for another station": (
        forged.ethernet(b"\x02\0\0\0\0\x99", _PEER_MAC, _IPV4, bytes(40)),
        "dropped_not_for_us",
    ),
}

_FILTERED_BY_BOTH = {
    "ipv4 without a header",
    "ipv4 header cut",
    "ipv4 to somebody else",
    "tcp to the limited broadcast",
    "tcp to the subnet's broadcast",
    "arp cut",
    "ipv6",
    "vlan tag",
    "frame for another station",
}
_FILTERED = {
    # kind of link: what its kernel turns away, so that it costs the process nothing
    "packet": _FILTERED_BY_BOTH | {"tcp to us in a link broadcast"},
    "xdp": _FILTERED_BY_BOTH | {"tcp no bytes at all", "icmp cut"},
}

_WITHOUT_ETHERNET = {
    "ipv4 without a header",
    "tcp to us in a link broadcast",
    "arp cut",
    "arp of another hardware",
    "arp with long addresses",
    "arp of unknown operation",
    "vlan tag",
    "frame for another station",
    "ipv4 version 6",
}
"""What is wrong with these is in the Ethernet header, or in the four bits that stand for its type on a TUN."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.links(*ETHERNET, reason="packets have no Ethernet header"))
        if name in _WITHOUT_ETHERNET
        else name
        for name in _BROKEN
    ],
)
def test_broken_frame_is_counted_and_changes_nothing(appliance: RunningAppliance, name: str) -> None:
    frame, counter = _BROKEN[name]
    # One that no filter turns away: when it has been counted, those before it have been, too.
    last, last_counter = _BROKEN["tcp wrong checksum"]
    with appliance.connect() as client, appliance.inside(ForgingSocket) as link:
        ask(client, request("PING"), b"+PONG\r\n")
        before = appliance.counters()
        link.send(frame)
        link.send(last)
        is_filtered = name in _FILTERED.get(LINK, ())
        is_last = counter == last_counter and not is_filtered
        until(
            lambda: appliance.counters()[last_counter] == before[last_counter] + 1 + is_last,
            what="the frames have arrived",
        )
        after = appliance.counters()
        dropped = {
            key: after[key] - before[key]
            for key in after
            if key.startswith("dropped_") and after[key] != before[key]
        }
        expected = {last_counter: 1}
        if not is_filtered:
            expected[counter] = expected.get(counter, 0) + 1
        assert dropped == expected
        assert after["connections_accepted"] == before["connections_accepted"]
        assert after["resets_out"] == before["resets_out"]
        ask(client, request("PING"), b"+PONG\r\n")


def test_syn_with_unknown_options_opens_a_connection(appliance: RunningAppliance) -> None:
    before = appliance.counters()["connections_accepted"]
    options = (
        b"\xfd\x06\xab\xcd\xef\x01" + b"\x02\x04\x05\xb4" + b"\x1e\x03\0" + b"\x03\x03\xff" + b"\0\xff\xff"
    )
    with appliance.inside(ForgingSocket) as link:
        link.send(_tcp(options=options))
    until(lambda: appliance.counters()["connections_accepted"] == before + 1, what="the SYN was taken")
    # The kernel knows of no such connection and answers our SYN,ACK with RST.
    until(lambda: all(one["state"] != "SYN-RECEIVED" for one in appliance.connections()))


def test_segments_with_any_flags_leave_the_service_whole(appliance: RunningAppliance) -> None:
    before = appliance.counters()["segments_in"]
    with appliance.connect() as client, appliance.inside(ForgingSocket) as link:
        ask(client, request("PING"), b"+PONG\r\n")
        for flags in range(256):
            # By a 4-tuple that nobody has, and into the middle of a live connection.
            port = client.getsockname()[1]
            for source_port, seq in ((4711, 1000), (port, flags << 24)):
                segment = forged.tcp(
                    CLIENT_ADDRESS,
                    ADDRESS,
                    source_port,
                    PORT,
                    flags,
                    seq=seq,
                    ack=flags << 20,
                    payload=b"x" * 9,
                )
                link.send(_ip(socket.IPPROTO_TCP, segment))
        until(lambda: appliance.counters()["segments_in"] >= before + 512, what="all have arrived")
        # A blind attacker's guesses: none of them lay in the window, or RFC 5961 had them challenged.
        ask(client, request("PING"), b"+PONG\r\n")
    appliance.ping()


def test_blind_reset_inside_the_window_is_challenged_and_harmless(appliance: RunningAppliance) -> None:
    def sequence_number(port: int) -> int:
        for one in appliance.connections():
            if one["remote"] == f"{CLIENT_ADDRESS}:{port}":
                return int(one["rcv_nxt"])
        raise AssertionError("no such connection")

    with appliance.connect() as client, appliance.inside(ForgingSocket) as link:
        ask(client, request("PING"), b"+PONG\r\n")
        port = client.getsockname()[1]
        before = appliance.counters()["challenge_acks"]
        rcv_nxt = sequence_number(port)
        for distance in (100, 1):
            seq = (rcv_nxt + distance) & 0xFFFF_FFFF
            segment = forged.tcp(CLIENT_ADDRESS, ADDRESS, port, PORT, RST, seq=seq)
            link.send(_ip(socket.IPPROTO_TCP, segment))
        until(lambda: appliance.counters()["challenge_acks"] >= before + 2, what="both were challenged")
        ask(client, request("PING"), b"+PONG\r\n")


def test_noise_is_counted_and_the_service_goes_on(appliance: RunningAppliance, is_compiled: bool) -> None:
    count = 20_000 if is_compiled else 5_000
    chance = random.Random(1)
    valid = [_tcp(SYN), _tcp(ACK | PSH), _tcp(FIN | ACK), _ip(1, forged.icmp(8, 0, b"\0\0\0\0", b"x" * 56))]
    valid += [_arp(b"\0\1\x08\0\x06\x04\0\1" + _PEER_MAC + socket.inet_aton("10.77.0.78") + _ADDRESSES[10:])]
    before = appliance.counters()
    with appliance.connect() as client, appliance.inside(ForgingSocket) as link:
        for number in range(count):
            if number % 3 == 0:
                kind = chance.choice([_IPV4, _ARP, 0x86DD])
                frame = forged.ethernet(_OUR_MAC, _PEER_MAC, kind, chance.randbytes(chance.randrange(1400)))
            else:
                frame_bytes = bytearray(chance.choice(valid))
                for _ in range(chance.randrange(1, 6)):
                    frame_bytes[chance.randrange(12, len(frame_bytes))] = chance.randrange(256)
                frame = bytes(frame_bytes[: chance.randrange(14, len(frame_bytes) + 1)])
            link.send(frame)
            if number % 500 == 0:
                ask(client, request("PING"), b"+PONG\r\n")
        ask(client, request("PING"), b"+PONG\r\n")
        # The socket's queue to the link may overflow under such a flood; what arrived was counted. Of noise
        # in the headers, a filter in the kernel lets a quarter as much through.
        part = 4 if IS_FILTERED else 1
        after = appliance.counters()
        assert after["frames_in"] - before["frames_in"] > count // 4 // part
        assert after["dropped_malformed"] - before["dropped_malformed"] > count // 20 // part
    appliance.ping()
