"""Frames of a TCP that remembers nothing: what answers in the benchmark's floor.

Source:     RFC 9293 §3.10.7 as far as a client that loses nothing can tell; RFC 826 for ARP.
Invariants: the answer depends on the frame alone. Its acknowledgment number is the segment's end, its
            sequence number what the segment acknowledges, so the numbers of both ends always fit.
Not here:   everything else that makes a TCP. On a wire that loses, this stalls for ever.

Compiled, like what it is compared with: what is left is the kernel's share.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from appliance.wire import arp, ethernet, ipv4, virtio
from appliance.wire.checksum import PROTOCOL_TCP, fold, pseudo_header_sum
from appliance.wire.fields import BytesWriter, put_u16, put_u32, read_u16, read_u32

__all__ = ["Canned"]

_VNET: Final = virtio.HEADER_LENGTH
_IP: Final = _VNET + ethernet.HEADER_LENGTH
_FIN: Final = 1
_SYN: Final = 2
_RST: Final = 4
_PSH: Final = 8
_ACK: Final = 16
_WINDOW: Final = 65_535
_TTL: Final = 64
_INITIAL: Final = 1_000_000
# struct virtio_net_hdr: NEEDS_CSUM, no GSO, the checksum begins with the TCP header and lies at its byte 16.
_HEADER: Final = b"\x01\x00\x00\x00\x00\x00\x22\x00\x10\x00"
_MSS_OPTION: Final = b"\x02\x04\x05\xb4"
_TEXT_OF_REQUEST: Final = b"*"
_CONFIG: Final = b"CONFIG"
_EMPTY_ARRAY: Final = b"*0\r\n"


class Canned:
    """Answers every request with the same reply.

    Args:
        mac, address: ours.
        reply: to a request; a frame with n requests gets n of them in one frame.
    """

    def __init__(self, mac: bytes, address: int, reply: bytes) -> None:
        self._mac = mac
        self._address: i64 = address
        self._reply = reply
        self._identification: i64 = 0

    def answer(self, frame: bytes) -> bytes:
        """The frame to send for `frame`; empty for none.

        Raises:
            WireError, IndexError, struct.error: it is cut short.
        """
        ethertype = ethernet.ethertype_of(frame, _VNET)
        if ethertype == ethernet.ETHERTYPE_ARP:
            return self._answer_arp(frame)
        if ethertype != ethernet.ETHERTYPE_IPV4 or frame[_IP + 9] != PROTOCOL_TCP:
            return b""
        if read_u32(frame, _IP + 16) != self._address:
            return b""
        start: i64 = _IP + (frame[_IP] & 15) * 4
        end: i64 = _IP + read_u16(frame, _IP + 2)
        data: i64 = start + (frame[start + 12] >> 4) * 4
        flags: i64 = frame[start + 13]
        after: i64 = read_u32(frame, start + 4) + end - data
        if flags & _RST:
            return b""
        if flags & _SYN:
            return self._segment(frame, start, _INITIAL, after + 1, _SYN | _ACK, _MSS_OPTION, b"")
        sequence = read_u32(frame, start + 8)
        if flags & _FIN:
            return self._segment(frame, start, sequence, after + 1, _FIN | _ACK, b"", b"")
        if data == end:
            return b""
        return self._segment(frame, start, sequence, after, _PSH | _ACK, b"", self._replies(frame, data, end))

    def _replies(self, frame: bytes, data: i64, end: i64) -> bytes:
        # The load asks for the configuration before it begins, and wants arrays.
        if frame.find(_CONFIG, data, end) >= 0:
            return _EMPTY_ARRAY * frame.count(_CONFIG, data, end)
        requests: i64 = frame.count(_TEXT_OF_REQUEST, data, end)
        return self._reply if requests == 1 else self._reply * requests

    def _segment(
        self,
        frame: bytes,
        start: i64,
        sequence: i64,
        acknowledged: i64,
        flags: i64,
        options: bytes,
        data: bytes,
    ) -> bytes:
        source = read_u32(frame, _IP + 12)
        length: i64 = 20 + len(options) + len(data)
        self._identification = (self._identification + 1) & 0xFFFF
        writer = BytesWriter()
        writer.write(_HEADER)
        writer.write(frame[_VNET + 6 : _VNET + 12])
        writer.write(self._mac)
        put_u16(writer, ethernet.ETHERTYPE_IPV4)
        writer.write(
            ipv4.build_header(
                self._address,
                source,
                PROTOCOL_TCP,
                length,
                self._identification,
                _TTL,
                ipv4.DONT_FRAGMENT,
            )
        )
        put_u16(writer, read_u16(frame, start + 2))
        put_u16(writer, read_u16(frame, start))
        put_u32(writer, sequence & 0xFFFF_FFFF)
        put_u32(writer, acknowledged & 0xFFFF_FFFF)
        put_u16(writer, ((20 + len(options)) << 10) | flags)
        put_u16(writer, _WINDOW)
        # Partial: the pseudo-header's sum; whoever needs the whole adds the rest (virtio's NEEDS_CSUM).
        put_u16(writer, fold(pseudo_header_sum(self._address, source, PROTOCOL_TCP, length)))
        put_u16(writer, 0)
        writer.write(options)
        writer.write(data)
        return writer.getvalue()

    def _answer_arp(self, frame: bytes) -> bytes:
        packet = arp.parse(frame, _IP)
        if packet.op != arp.OP_REQUEST or packet.tpa != self._address:
            return b""
        reply = arp.build(arp.OP_REPLY, self._mac, packet.tpa, packet.sha, packet.spa)
        return virtio.PLAIN + ethernet.header(packet.sha, self._mac, ethernet.ETHERTYPE_ARP) + reply
