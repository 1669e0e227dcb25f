"""The floor's frames, as a client of our own stack and scapy see them."""

from __future__ import annotations

import random
import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether

from appliance.bench.canned import Canned
from appliance.errors import WireError
from appliance.stack.interface import Interface, InterfaceConfig
from appliance.stack.tcp import state
from appliance.wire.virtio import complete_checksum

CLIENT, SERVER = 0x0A4C0001, 0x0A4C0002
MAC = b"\x02\x52\0\0\0\x0f"
REPLY = b"$3\r\nxxx\r\n"
GET = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
PREFIX = bytes(10)


def canned() -> Canned:
    return Canned(MAC, SERVER, REPLY)


class Client:
    """A client on a wire to the floor."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.floor = canned()
        self.stack = Interface(
            InterfaceConfig(
                mac=b"\x02\x52\0\0\0\x01",
                address=CLIENT,
                prefix_length=24,
                random_bytes=random.Random(1).randbytes,
            )
        )
        self.connection = self.stack.connect(SERVER, 6379, self.now)
        self.exchange()

    def exchange(self) -> None:
        while frames := self.stack.frames_to_send(self.now):
            for frame in frames:
                reply = self.floor.answer(frame)
                if reply:
                    self.stack.receive_frame(reply, self.now)
            self.now += 10


def test_it_takes_connections_answers_every_request_and_says_goodbye() -> None:
    client = Client()
    assert client.connection.state == state.ESTABLISHED
    for depth in (1, 1, 16, 1):
        client.connection.send(GET * depth)
        client.exchange()
        assert client.connection.receive(10_000) == REPLY * depth
    client.connection.close()
    client.exchange()
    assert client.connection.state in (state.TIME_WAIT, state.CLOSED)
    assert client.stack.counters.as_dict()["dropped_malformed"] == 0


def test_the_load_s_questions_about_the_configuration_get_arrays() -> None:
    client = Client()
    client.connection.send(b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$4\r\nsave\r\n")
    client.exchange()
    assert client.connection.receive(100) == b"*0\r\n"


def test_checksums_and_fields_as_scapy_computes_them() -> None:
    request = (
        Ether(dst=MAC, src="02:52:00:00:00:01")
        / IP(src="10.76.0.1", dst="10.76.0.2")
        / TCP(sport=4000, dport=6379, seq=0xFFFF_FFF0, ack=77, flags="PA")
        / GET
    )
    reply = complete_checksum(canned().answer(PREFIX + bytes(request)))
    got = Ether(reply)
    assert (got.dst, got[IP].src, got[IP].dst) == ("02:52:00:00:00:01", "10.76.0.2", "10.76.0.1")
    assert (got[TCP].seq, got[TCP].ack, str(got[TCP].flags)) == (77, (0xFFFF_FFF0 + len(GET)) % 2**32, "PA")
    assert bytes(got[TCP].payload) == REPLY
    checksums = got[IP].chksum, got[TCP].chksum
    del got[IP].chksum, got[TCP].chksum
    again = Ether(bytes(got))
    assert (again[IP].chksum, again[TCP].chksum) == checksums


def test_arp_for_our_address_is_answered_and_no_other() -> None:
    def ask(address: str) -> bytes:
        request = Ether(dst="ff:ff:ff:ff:ff:ff", src="02:52:00:00:00:01") / ARP(
            hwsrc="02:52:00:00:00:01", psrc="10.76.0.1", pdst=address
        )
        return canned().answer(PREFIX + bytes(request))

    reply = Ether(ask("10.76.0.2")[10:])
    assert (reply[ARP].op, reply[ARP].hwsrc, reply[ARP].psrc) == (2, MAC.hex(":"), "10.76.0.2")
    assert ask("10.76.0.3") == b""


@pytest.mark.parametrize(
    "frame",
    [
        Ether(dst=MAC) / IP(src="10.76.0.1", dst="10.76.0.2", proto=17) / b"12345678",
        Ether(dst=MAC) / IP(src="10.76.0.1", dst="10.76.0.9") / TCP(flags="S"),
        Ether(dst=MAC) / IP(src="10.76.0.1", dst="10.76.0.2") / TCP(flags="R"),
        Ether(dst=MAC) / IP(src="10.76.0.1", dst="10.76.0.2") / TCP(flags="A"),
        Ether(dst=MAC, type=0x86DD) / (b"\x60" + bytes(60)),
    ],
    ids=["udp", "not ours", "rst", "pure ack", "ipv6"],
)
def test_what_needs_no_answer_gets_none(frame: Ether) -> None:
    assert canned().answer(PREFIX + bytes(frame)) == b""


def test_frames_cut_short_end_in_errors_that_the_loop_expects() -> None:
    whole = PREFIX + bytes(Ether(dst=MAC) / IP(src="10.76.0.1", dst="10.76.0.2") / TCP(flags="PA") / GET)
    for end in range(len(whole)):
        try:
            canned().answer(whole[:end])
        except (WireError, IndexError, ValueError, struct.error):
            continue
