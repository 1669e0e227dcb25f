"""ICMP as a host speaks it: echo, errors about what came, and what errors say about what we sent.

Source:     RFC 792; RFC 1122 §3.2.2; RFC 1812 §4.3.2 (what to quote, how often); RFC 9293 §3.9.2.2;
            RFC 5927 §4 (whom to believe); RFC 6633 (Source Quench); RFC 1191 §4 (next-hop MTU).
Units:      bytes; microseconds.
Errors:     a malformed message raises WireError, which the interface counts. A quote inside a message is
            somebody else's claim: when it does not add up, it is ignored.

An error counts only when it quotes a segment that is in flight right now; and then it is advice: it lowers a
path's MTU, says why a connection failed that failed for another reason, and ends only a SYN's hopes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.errors import Refused
from appliance.stack.tcp import state as st
from appliance.stack.token_bucket import TokenBucket
from appliance.wire import icmp, ipv4
from appliance.wire.checksum import PROTOCOL_ICMP, PROTOCOL_TCP
from appliance.wire.fields import read_u16, read_u32

if TYPE_CHECKING:
    from appliance.stack.counters import Counters
    from appliance.stack.ip_config import IpConfig
    from appliance.stack.ip_output import IpOutput
    from appliance.stack.path_mtu import PathMtuCache
    from appliance.stack.tcp.connection import Connection

__all__ = ["MAX_QUOTE", "IcmpHost"]

# RFC 1812 §4.3.2.3: as much as fits in a datagram of 576 bytes.
MAX_QUOTE: Final = 576 - ipv4.HEADER_LENGTH - icmp.HEADER_LENGTH
_MIN_QUOTED_PAYLOAD: Final = 8  # RFC 792: enough for the ports and, of TCP, the sequence number
_DSCP: Final = 0xFC


class IcmpHost:
    """`connections` is the interface's own table, keyed by the 4-tuple as it arrives."""

    def __init__(
        self,
        config: IpConfig,
        counters: Counters,
        ip_output: IpOutput,
        path_mtus: PathMtuCache,
        connections: dict[bytes, Connection],
    ) -> None:
        self._counters = counters
        self._output = ip_output
        self._path_mtus = path_mtus
        self._connections = connections
        self._errors: TokenBucket = TokenBucket(config.icmp_errors_per_second, config.icmp_error_burst)
        self._echoes: TokenBucket = TokenBucket(config.echo_replies_per_second, config.echo_reply_burst)

    # -- what comes ----------------------------------------------------------------------------------------

    def message_arrives(
        self, mac: bytes, frame: bytes, datagram: ipv4.Ipv4Header, is_broadcast: bool, now: i64
    ) -> None:
        """`mac`: where an answer goes. May end connections: the interface looks after `host.closed`."""
        counters = self._counters
        counters.icmp_in += 1
        message = icmp.parse(frame, datagram.payload_start, datagram.payload_end)
        kind = message.type
        if is_broadcast:
            # RFC 1122 §3.2.2.6: an echo to a broadcast address may be ignored, and is (smurf).
            counters.dropped_broadcast_icmp += 1
        elif kind == icmp.TYPE_ECHO:
            if message.code == 0:
                self._answer_echo(mac, datagram, message, now)
        elif (
            kind == icmp.TYPE_DESTINATION_UNREACHABLE
            or kind == icmp.TYPE_TIME_EXCEEDED
            or kind == icmp.TYPE_PARAMETER_PROBLEM
        ):
            self._error_arrives(message, now)
        elif kind == icmp.TYPE_REDIRECT:
            # RFC 1122 §3.2.2.2 wants them obeyed from the first-hop gateway; anybody can claim to be that,
            # and a host with one gateway has no choice to make (so does Linux's secure_redirects, nearly).
            counters.dropped_redirect += 1
        elif kind == icmp.TYPE_SOURCE_QUENCH:
            counters.dropped_source_quench += 1  # MUST-55, RFC 6633 §3
        # RFC 1122 §3.2.2: what is unknown is dropped silently.

    def _answer_echo(
        self, mac: bytes, datagram: ipv4.Ipv4Header, message: icmp.IcmpMessage, now: i64
    ) -> None:
        if not self._echoes.take(now):
            self._counters.echo_rate_limited += 1
            return
        self._counters.icmp_out += 1
        reply = icmp.build(icmp.TYPE_ECHO_REPLY, 0, message.rest, message.data)
        # RFC 1349 §5.1: the reply has the request's TOS; the ECN bits are no part of that any more.
        self._output.answer(mac, datagram.source, PROTOCOL_ICMP, reply, datagram.tos & _DSCP, now)

    def _error_arrives(self, message: icmp.IcmpMessage, now: i64) -> None:
        """RFC 9293 §3.9.2.2, RFC 5927 §4: only what quotes a segment in flight counts, and only as advice."""
        quote = message.data
        if len(quote) < ipv4.HEADER_LENGTH or quote[0] >> 4 != 4 or quote[9] != PROTOCOL_TCP:
            return
        header_length: i64 = (i64(quote[0]) & 0x0F) * 4
        if header_length < ipv4.HEADER_LENGTH or len(quote) < header_length + _MIN_QUOTED_PAYLOAD:
            return
        if read_u16(quote, 6) & 0x1FFF:
            return  # not the first fragment: what follows is no TCP header (and we never cut segments)
        # The quote is ours: its destination is the connection's remote end.
        four_tuple = (
            quote[16:20]
            + quote[12:16]
            + quote[header_length + 2 : header_length + 4]
            + quote[header_length : header_length + 2]
        )
        connection = self._connections.get(four_tuple)
        if connection is None:
            return
        seq = read_u32(quote, header_length + 4)
        # RFC 5927 §4.1: SND.UNA =< SEG.SEQ < SND.NXT.
        if ((seq - connection.snd_una) & 0xFFFF_FFFF) >= connection.flight_size():
            self._counters.icmp_errors_not_believed += 1
            return
        kind = message.type
        code = message.code
        if kind == icmp.TYPE_DESTINATION_UNREACHABLE and code == icmp.CODE_FRAGMENTATION_NEEDED:
            self._path_mtus.too_big(connection.remote_address, message.rest & 0xFFFF, read_u16(quote, 2), now)
            return
        connection.advise(f"ICMP type {kind} code {code}")
        is_refusal = kind == icmp.TYPE_DESTINATION_UNREACHABLE and (
            code == icmp.CODE_PROTOCOL_UNREACHABLE or code == icmp.CODE_PORT_UNREACHABLE
        )
        if is_refusal and connection.state < st.ESTABLISHED:
            # SHLD-26, RFC 5927 §5.2: hard while nothing is agreed; a passive one returns to LISTEN, silently.
            connection.end(None if connection.is_passive else Refused)

    # -- what we say ---------------------------------------------------------------------------------------

    def send_error(self, kind: i64, code: i64, rest: i64, mac: bytes, quote: bytes, now: i64) -> None:
        """Report on a datagram to its source, if one may (RFC 1122 §3.2.2).

        mac: where it came from. quote: the datagram from its IP header on, whole or its beginning. The caller
        has made sure that it was sent to us alone, and that its source is a host.
        """
        if read_u16(quote, 6) & 0x1FFF or not _may_be_reported(quote):
            return
        if not self._errors.take(now):
            self._counters.icmp_rate_limited += 1
            return
        self._counters.icmp_out += 1
        if len(quote) > MAX_QUOTE:
            quote = quote[:MAX_QUOTE]
        self._output.answer(
            mac, read_u32(quote, 12), PROTOCOL_ICMP, icmp.build(kind, code, rest, quote), 0, now
        )


def _may_be_reported(quote: bytes) -> bool:
    """No error about an error. Of ICMP only an echo is known not to be one."""
    if quote[9] != PROTOCOL_ICMP:
        return True
    start: i64 = (i64(quote[0]) & 0x0F) * 4
    return start < len(quote) and quote[start] in (icmp.TYPE_ECHO, icmp.TYPE_ECHO_REPLY)
