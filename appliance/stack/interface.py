"""One network interface with its host: the frame's way in, the table of connections, the way out.

Source:     RFC 1122 (host requirements), RFC 826, RFC 791, RFC 792, RFC 9293 §3.10.7.1, §3.10.7.2.
Units:      now and deadlines are microseconds of one clock that never goes back; addresses are ints.
Invariants: a connection is in the table under the bytes of its 4-tuple as they arrive (source address,
            destination address, source port, destination port) exactly while it is not CLOSED.
Errors:     `receive_frame` raises nothing, whatever the frame: what is wrong is counted and dropped.
Not here:   I/O, waiting, clocks. A link's frames come in, frames for the link come out.

The table's key is a `bytes`: hashing it is SipHash with a key of the process, so nobody outside can
choose 4-tuples that collide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from mypy_extensions import i64

from appliance.errors import LocalProtocolError, WireError
from appliance.stack.address_guard import GUARD_STATE_NAMES, AddressGuard
from appliance.stack.counters import Counters
from appliance.stack.icmp_host import IcmpHost
from appliance.stack.identification import Identifications
from appliance.stack.ip_config import IpConfig, NeighborConfig
from appliance.stack.ip_options import ACCEPTABLE, SOURCE_ROUTED, check_options
from appliance.stack.ip_output import IpOutput
from appliance.stack.ip_reassembly import Reassembler
from appliance.stack.listener import Listener
from appliance.stack.neighbor import STATE_NAMES, Frame, Neighbor, NeighborCache
from appliance.stack.path_mtu import PathMtuCache
from appliance.stack.syn_cookies import LIFETIME_PERIODS, PERIOD_US, options_from, options_into
from appliance.stack.tcp import state as st, timers
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import Connection
from appliance.stack.tcp.host import TcpHost
from appliance.stack.tcp.output import output
from appliance.stack.tcp.segment_arrives import DONE, may_reopen, segment_arrives
from appliance.stack.tcp.tcb import DEFAULT_MSS
from appliance.stack.timebase import NEVER
from appliance.wire import arp, ethernet, icmp, ipv4, tcp, virtio
from appliance.wire.checksum import PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, fold, pseudo_header_sum
from appliance.wire.fields import BytesWriter, put_u16, put_u32, read_u16, read_u32, sum_words
from appliance.wire.seqnum import seq_lt

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.tcp.tcb import Tcb

__all__ = ["Frame", "Interface", "InterfaceConfig"]

_FIRST_EPHEMERAL_PORT: Final = 49152  # RFC 6335 §6
_EPHEMERAL_PORTS: Final = 65536 - 49152
_LOOPBACK: Final = 127
_BEYOND_OLD_CONNECTION: Final = 65537  # Linux's distance: more than an unscaled window
_LIMITED_BROADCAST: Final = 0xFFFF_FFFF
_NO_ADDRESS: Final = -1  # equals no destination: while our address is probed nothing is for us
_UDP_HEADER: Final = 8
_MIN_MTU: Final = 68  # RFC 791 §3.2


class InterfaceConfig:
    """Addresses and limits of one interface; read-only once the interface is made.

    Args:
        mac: our 6 bytes. address, gateway: IPv4 as ints, gateway 0 for none. prefix_length: 0 .. 32.
        mtu: bytes of IP in a frame. vnet_header: a virtio-net header stands before every frame.
        gso: segments of up to 64 KiB may be handed to the link (needs vnet_header).
        max_connections: size of the pool; a SYN beyond it is answered by RST.
        random_bytes: n -> n unpredictable bytes, for ISNs, ports and identifications.
        ip, neighbor: settings of IPv4 with ICMP, and of ARP.
    """

    def __init__(
        self,
        *,
        mac: bytes,
        address: int,
        prefix_length: int,
        random_bytes: Callable[[int], bytes],
        gateway: int = 0,
        mtu: int = 1500,
        vnet_header: bool = True,
        gso: bool = True,
        max_connections: int = 10_000,
        ttl: int = 64,
        tcp: TcpConfig | None = None,
        ip: IpConfig | None = None,
        neighbor: NeighborConfig | None = None,
    ) -> None:
        self.mac = mac
        self.address = address
        self.prefix_length = prefix_length
        self.gateway = gateway
        self.mtu = mtu
        self.vnet_header = vnet_header
        self.gso = gso
        self.max_connections = max_connections
        self.ttl = ttl
        self.tcp: TcpConfig = TcpConfig() if tcp is None else tcp
        self.ip: IpConfig = IpConfig() if ip is None else ip
        self.neighbor: NeighborConfig = NeighborConfig() if neighbor is None else neighbor
        self.random_bytes = random_bytes


class Interface:
    def __init__(self, config: InterfaceConfig, gathers: bool = False) -> None:
        """An interface without connections.

        Args:
            gathers: the link takes a frame as a list of its parts. Without a virtio header nobody would sum
                the parts, so then it is not used.
        """
        self.config: InterfaceConfig = config
        self.counters: Counters = Counters()
        self._has_vnet_header: bool = config.vnet_header
        self._frame_prefix: bytes = virtio.PLAIN if config.vnet_header else b""
        self._ethernet_start: i64 = len(self._frame_prefix)
        self._mac: bytes = config.mac
        self._mac_high: i64 = read_u32(config.mac, 0)
        self._mac_low: i64 = read_u16(config.mac, 4)
        self._address: i64 = config.address
        self._mask: i64 = (0xFFFF_FFFF << (32 - config.prefix_length)) & 0xFFFF_FFFF
        self._subnet_broadcast: i64 = (self._address & self._mask) | (self._mask ^ 0xFFFF_FFFF)
        self._has_subnet_broadcast: bool = config.prefix_length < 31  # RFC 3021
        self._gateway: i64 = config.gateway
        self._max_connections: i64 = config.max_connections
        self._neighbors: NeighborCache = NeighborCache(
            config.mac,
            config.address,
            config.vnet_header,
            self.counters,
            config.neighbor,
            self._mask,
            config.gateway,
        )
        self._guard: AddressGuard = AddressGuard(
            config.mac, config.address, config.neighbor, config.random_bytes, self._neighbors, self.counters
        )
        self._path_mtus: PathMtuCache = PathMtuCache(config.mtu, config.ip.path_mtu_timeout_us, self.counters)
        self._host: TcpHost = TcpHost(
            config=config.tcp,
            counters=self.counters,
            neighbors=self._neighbors,
            path_mtus=self._path_mtus,
            random_bytes=config.random_bytes,
            mtu=config.mtu,
            ttl=config.ttl,
            has_vnet_header=config.vnet_header,
            may_use_gso=config.vnet_header and config.gso,
            may_gather=config.vnet_header and gathers,
        )
        self._connections: dict[bytes, Connection] = {}
        self._listeners: dict[int, list[Listener]] = {}
        self._rescheduled: list[Tcb] = []
        # Reused for every frame: nothing outlives the call.
        self._datagram: ipv4.Ipv4Header = ipv4.Ipv4Header()
        self._segment: tcp.Segment = tcp.Segment()
        self._ip_output: IpOutput = IpOutput(
            config.mac,
            config.address,
            config.ttl,
            self._frame_prefix,
            self._neighbors,
            self._path_mtus,
            Identifications(config.random_bytes),
            self.counters,
        )
        self._icmp: IcmpHost = IcmpHost(
            config.ip, self.counters, self._ip_output, self._path_mtus, self._connections
        )
        self._reassembler: Reassembler = Reassembler(config.ip, self.counters)

    # -- the frame's way in ------------------------------------------------------------------------------

    def receive_frame(self, frame: bytes, now: i64) -> None:
        """Process one frame from the link; `now` is when it was read."""
        counters = self.counters
        counters.frames_in += 1
        counters.bytes_in += len(frame)
        self._host.now = now
        try:
            self._receive_ethernet(frame, now)
        except WireError:
            counters.dropped_malformed += 1

    def _receive_ethernet(self, frame: bytes, now: i64) -> None:
        start = self._ethernet_start
        ethertype = ethernet.ethertype_of(frame, start)
        is_broadcast = False
        if read_u32(frame, start) != self._mac_high or read_u16(frame, start + 4) != self._mac_low:
            if not frame[start] & 1:
                self.counters.dropped_not_for_us += 1
                return
            is_broadcast = True
        if ethertype == ethernet.ETHERTYPE_IPV4:
            self._receive_ipv4(frame, start + ethernet.HEADER_LENGTH, is_broadcast, now)
        elif ethertype == ethernet.ETHERTYPE_ARP:
            self._arp_arrives(arp.parse(frame, start + ethernet.HEADER_LENGTH), now)
        else:
            self.counters.dropped_unknown_ethertype += 1

    def _arp_arrives(self, packet: arp.ArpPacket, now: i64) -> None:
        self.counters.arp_in += 1
        self._guard.packet_arrives(packet, now)
        if self._guard.is_usable():
            self._neighbors.packet_arrives(packet, now)

    def _receive_ipv4(self, frame: bytes, start: i64, is_link_broadcast: bool, now: i64) -> None:
        datagram = self._datagram
        ipv4.parse_into(datagram, frame, start)
        destination = datagram.destination
        is_broadcast = is_link_broadcast
        if destination != self._address:
            if destination != _LIMITED_BROADCAST and not (
                self._has_subnet_broadcast and destination == self._subnet_broadcast
            ):
                self.counters.dropped_not_for_us += 1
                return
            is_broadcast = True
        if not self._is_valid_source(datagram.source):
            self.counters.dropped_bad_source += 1
            return
        if datagram.has_options and not self._are_options_acceptable(frame, datagram, is_broadcast, now):
            return
        if datagram.is_fragment:
            self._fragment_arrives(frame, datagram, is_broadcast, now)
            return
        protocol = datagram.protocol
        if protocol == PROTOCOL_TCP:
            if is_broadcast:
                self.counters.dropped_broadcast_segment += 1  # MUST-57: silently
                return
            self._receive_tcp(frame, datagram, now)
        elif protocol == PROTOCOL_ICMP:
            self._icmp.message_arrives(self._sender_of(frame), frame, datagram, is_broadcast, now)
            if self._host.closed:
                self._remove_closed()
        elif not is_broadcast:
            # RFC 1122 §3.2.2.1: nobody here speaks that protocol, or listens on that port.
            code: i64 = icmp.CODE_PROTOCOL_UNREACHABLE
            if protocol == PROTOCOL_UDP:
                if not self._is_udp_intact(frame, datagram):
                    self.counters.dropped_bad_checksum += 1
                    return
                code = icmp.CODE_PORT_UNREACHABLE
            self._send_icmp_error(icmp.TYPE_DESTINATION_UNREACHABLE, code, 0, frame, datagram, now)

    def _is_valid_source(self, source: i64) -> bool:
        """RFC 1122 §3.2.1.3, MUST-63: a source is one host, elsewhere (ours would be a LAND attack)."""
        return not (
            source == self._address
            or source >> 24 == _LOOPBACK
            or source >> 24 == 0
            or source >> 28 >= 0xE
            or (self._has_subnet_broadcast and source == self._subnet_broadcast)
        )

    def _are_options_acceptable(
        self, frame: bytes, datagram: ipv4.Ipv4Header, is_broadcast: bool, now: i64
    ) -> bool:
        found = check_options(
            frame, datagram.start, datagram.start + ipv4.HEADER_LENGTH, datagram.payload_start
        )
        if found == ACCEPTABLE:
            return True
        if found == SOURCE_ROUTED:
            self.counters.dropped_source_route += 1  # RFC 7126 §4.3, §4.4
            return False
        self.counters.dropped_bad_options += 1
        if not is_broadcast:
            self._send_icmp_error(icmp.TYPE_PARAMETER_PROBLEM, 0, found << 24, frame, datagram, now)
        return False

    def _fragment_arrives(
        self, frame: bytes, datagram: ipv4.Ipv4Header, is_broadcast: bool, now: i64
    ) -> None:
        if is_broadcast:
            self.counters.dropped_fragment += 1  # nobody here takes a broadcast datagram, so none is built
            return
        whole = self._reassembler.fragment_arrives(frame, datagram, now)
        if whole:
            # As if it had come in one piece; with a plain virtio-net header nobody vouches for checksums.
            start = self._ethernet_start + ethernet.HEADER_LENGTH
            self._receive_ipv4(self._frame_prefix + whole, start, False, now)

    def _send_icmp_error(
        self, kind: i64, code: i64, rest: i64, frame: bytes, datagram: ipv4.Ipv4Header, now: i64
    ) -> None:
        quote = frame[datagram.start : datagram.payload_end]
        self._icmp.send_error(kind, code, rest, self._sender_of(frame), quote, now)

    def _sender_of(self, frame: bytes) -> bytes:
        """The MAC address that a frame came from."""
        start = self._ethernet_start
        return frame[start + 6 : start + 12]

    def _is_udp_intact(self, frame: bytes, datagram: ipv4.Ipv4Header) -> bool:
        """Whether this is a datagram to complain about: RFC 1122 §4.1.3.4 drops a damaged one silently."""
        start = datagram.payload_start
        if datagram.payload_end - start < _UDP_HEADER:
            return False
        end = start + read_u16(frame, start + 4)
        if end - start < _UDP_HEADER or end > datagram.payload_end:
            return False
        if read_u16(frame, start + 6) == 0 or self._is_checksum_vouched_for(frame):
            return True
        total = pseudo_header_sum(datagram.source, datagram.destination, PROTOCOL_UDP, end - start)
        return fold(total + sum_words(frame, start, end)) == 0xFFFF

    # -- TCP -----------------------------------------------------------------------------------------------

    def _receive_tcp(self, frame: bytes, datagram: ipv4.Ipv4Header, now: i64) -> None:
        counters = self.counters
        counters.segments_in += 1
        start = datagram.payload_start
        end = datagram.payload_end
        if not self._is_checksum_vouched_for(frame):
            total = pseudo_header_sum(datagram.source, datagram.destination, PROTOCOL_TCP, end - start)
            if fold(total + sum_words(frame, start, end)) != 0xFFFF:
                counters.dropped_bad_checksum += 1
                return
        segment = self._segment
        tcp.parse_into(segment, frame, start, end)
        segment.is_ce = datagram.tos & ipv4.ECN_CE == ipv4.ECN_CE
        if datagram.has_options:
            four_tuple = frame[datagram.start + 12 : datagram.start + 20] + frame[start : start + 4]
        else:
            four_tuple = frame[start - 8 : start + 4]
        if self._host.closed:
            self._remove_closed()  # the user ended one since the last flush: segments must not find it
        connection = self._connections.get(four_tuple)
        if connection is not None:
            if (
                connection.state == st.TIME_WAIT
                and self._listener_for(datagram.destination, segment.destination_port) is not None
                and may_reopen(connection, segment)
            ):
                self._reopen(connection, frame, datagram, segment, now)
                return
            connection.received_tos = datagram.tos
            outcome = segment_arrives(connection, segment, now)
            if self._host.closed:
                self._remove_closed()
            if outcome == DONE:
                return
            self._answer_with_reset(frame, datagram, segment)
            return
        self._segment_without_connection(frame, datagram, segment, four_tuple, now)

    def _reopen(
        self, old: Connection, frame: bytes, datagram: ipv4.Ipv4Header, segment: tcp.Segment, now: i64
    ) -> None:
        """A SYN takes over a connection in TIME-WAIT (RFC 9293 §3.6.1, MAY-2).

        Our numbers must go on beyond those of the old connection, or what of it is still under way could be
        taken for the new one's; the ISN's clock alone is slower than a fast connection.
        """
        four_tuple = old.four_tuple
        beyond = (old.snd_nxt + _BEYOND_OLD_CONNECTION) & 0xFFFF_FFFF
        old.end(None)
        self._remove_closed()
        self._segment_without_connection(frame, datagram, segment, four_tuple, now)
        connection = self._connections.get(four_tuple)
        if connection is not None and seq_lt(connection.iss, beyond):
            self._start_at(connection, beyond)

    def _is_checksum_vouched_for(self, frame: bytes) -> bool:
        """Whether the link says that the checksum is right, or is still to be filled in (same machine)."""
        return self._has_vnet_header and frame[0] & (virtio.FLAG_NEEDS_CSUM | virtio.FLAG_DATA_VALID) != 0

    def _segment_without_connection(
        self, frame: bytes, datagram: ipv4.Ipv4Header, segment: tcp.Segment, four_tuple: bytes, now: i64
    ) -> None:
        """RFC 9293 §3.10.7.2 where somebody listens, §3.10.7.1 where nobody does."""
        if segment.flags & tcp.RST:
            return
        listener = self._listener_for(datagram.destination, segment.destination_port)
        if listener is None or segment.flags & tcp.ACK:
            if listener is None or not self._open_by_cookie(listener, datagram, segment, four_tuple, now):
                self._answer_with_reset(frame, datagram, segment)
            return
        if not segment.flags & tcp.SYN:
            return
        if segment.flags & tcp.FIN:
            return  # SYN with FIN is no opening of anything
        if not listener.has_room():
            if self.config.tcp.syn_cookies and listener.can_open():
                self._answer_with_cookie(listener, frame, datagram, segment, four_tuple, now)
            else:
                self.counters.dropped_backlog_full += 1
            return
        if not self._make_room():
            self.counters.connections_refused_pool_full += 1
            self._answer_with_reset(frame, datagram, segment)
            return
        # RFC 3168 §6.1.1: both flags ask for ECN, one alone does not.
        is_ecn_asked = segment.flags & (tcp.ECE | tcp.CWR) == tcp.ECE | tcp.CWR
        connection = self._half_open(listener, datagram, segment, four_tuple, segment.seq, is_ecn_asked, now)
        if connection is not None:
            self._choose_iss(connection, now)
            connection.snd_wnd = segment.window
            connection.max_snd_wnd = segment.window
            connection.must_send_syn = True
            connection.touch()

    def _half_open(
        self,
        listener: Listener,
        datagram: ipv4.Ipv4Header,
        segment: tcp.Segment,
        four_tuple: bytes,
        irs: i64,
        is_ecn_asked: bool,
        now: i64,
    ) -> Connection | None:
        """A new connection in SYN-RECEIVED, without its ISS; `segment` has the options of the peer's SYN.

        None when there is no way back to the peer.
        """
        hop = self._next_hop(datagram.source)
        if hop == 0:
            self.counters.dropped_bad_source += 1
            return None
        connection = Connection(
            self._host,
            self._neighbors.get(hop),
            datagram.destination,
            segment.destination_port,
            datagram.source,
            segment.source_port,
            four_tuple,
            True,
        )
        connection.irs = irs
        connection.rcv_nxt = (irs + 1) & 0xFFFF_FFFF
        connection.rcv_adv = connection.rcv_nxt
        connection.use_peer_options(segment, now)
        connection.has_ecn = is_ecn_asked and self.config.tcp.ecn
        connection.snd_wl1 = irs
        connection.last_received_at = now
        connection.received_tos = datagram.tos
        connection.set_state(st.SYN_RECEIVED)
        listener.add(connection)
        self._connections[four_tuple] = connection
        self.counters.connections_accepted += 1
        return connection

    # -- SYN cookies ---------------------------------------------------------------------------------------

    def _answer_with_cookie(
        self,
        listener: Listener,
        frame: bytes,
        datagram: ipv4.Ipv4Header,
        segment: tcp.Segment,
        four_tuple: bytes,
        now: i64,
    ) -> None:
        """SYN,ACK whose ISN is all that we remember of the SYN (RFC 4987 §3.6)."""
        config = self.config.tcp
        listener.last_cookie_at = now
        self.counters.syn_cookies_sent += 1
        mss: i64 = self.config.mtu - ipv4.HEADER_LENGTH - tcp.HEADER_LENGTH
        peer_mss = segment.mss if segment.mss >= 0 else DEFAULT_MSS
        cookie = self._host.cookies.seal(four_tuple, segment.seq, peer_mss, now)
        flags: i64 = tcp.SYN | tcp.ACK
        options = tcp.build_options(mss)
        if segment.has_timestamps and config.timestamps:
            is_ecn = segment.flags & (tcp.ECE | tcp.CWR) == tcp.ECE | tcp.CWR and config.ecn
            if is_ecn:
                flags |= tcp.ECE
            ts_offset: i64 = self._host.initial_numbers(four_tuple, now)[1]
            ts_val = options_into((now // 1000 + ts_offset) & 0xFFFF_FFFF, segment, is_ecn)
            shift: i64 = self._host.receive_shift if segment.window_shift >= 0 and config.window_scale else -1
            is_sack_permitted = segment.is_sack_permitted and config.sack
            options = tcp.build_options(mss, shift, is_sack_permitted, ts_val, segment.ts_val)
        ack = (segment.seq + 1) & 0xFFFF_FFFF
        self._send_stateless(frame, datagram, segment, cookie, ack, flags, 65535, options)

    def _open_by_cookie(
        self, listener: Listener, datagram: ipv4.Ipv4Header, segment: tcp.Segment, four_tuple: bytes, now: i64
    ) -> bool:
        """Whether an ACK for no connection answers a cookie of ours; then there is a connection now."""
        if segment.flags & (tcp.SYN | tcp.RST) or listener.last_cookie_at < 0:
            return False
        # R4987-6: nobody can make a connection out of nothing while cookies are not in use.
        if now - listener.last_cookie_at > (LIFETIME_PERIODS + 1) * PERIOD_US or not listener.can_open():
            return False
        irs = (segment.seq - 1) & 0xFFFF_FFFF
        cookie = (segment.ack - 1) & 0xFFFF_FFFF
        mss = self._host.cookies.open(four_tuple, irs, cookie, now)
        if mss < 0 or not self._make_room():
            self.counters.syn_cookies_refused += 1
            return False
        segment.has_options = True  # so that the next segment forgets what is put here
        segment.mss = mss
        segment.window_shift = -1
        segment.is_sack_permitted = False
        is_ecn = segment.has_timestamps and options_from(segment.ts_ecr, segment)
        connection = self._half_open(listener, datagram, segment, four_tuple, irs, is_ecn, now)
        if connection is None:
            return False
        connection.ts_offset = self._host.initial_numbers(four_tuple, now)[1]
        self._start_at(connection, cookie)
        connection.snd_nxt = (cookie + 1) & 0xFFFF_FFFF
        connection.rcv_adv = (connection.rcv_nxt + 65535) & 0xFFFF_FFFF  # what the cookie's SYN,ACK offered
        connection.last_ack_sent = connection.rcv_nxt
        self.counters.syn_cookies_accepted += 1
        if segment_arrives(connection, segment, now) != DONE:
            connection.end(None)
        if self._host.closed:
            self._remove_closed()
        return True

    def _choose_iss(self, connection: Connection, now: i64) -> None:
        iss, connection.ts_offset = self._host.initial_numbers(connection.four_tuple, now)
        self._start_at(connection, iss)

    def _start_at(self, connection: Connection, iss: i64) -> None:
        connection.iss = iss
        connection.snd_una = iss
        connection.snd_nxt = iss
        connection.snd_wl2 = iss

    def _make_room(self) -> bool:
        """Whether the pool has room for one more; the oldest TIME-WAIT gives way when it has not."""
        if len(self._connections) < self._max_connections:
            return True
        for tcb in self._host.time_wait.values():
            tcb.end(None)
            self._remove_closed()
            return True
        return False

    def _remove_closed(self) -> None:
        for tcb in self._host.closed:
            self._connections.pop(tcb.four_tuple, None)
            if self._host.time_wait:
                self._host.time_wait.pop(tcb.four_tuple, None)
        self._host.closed.clear()

    def _listener_for(self, address: i64, port: i64) -> Listener | None:
        listeners = self._listeners.get(port)
        if listeners is None:
            return None
        for listener in listeners:
            if not listener.is_closed and (listener.address == 0 or listener.address == address):
                return listener
        return None

    def _next_hop(self, address: i64) -> i64:
        """The neighbour that gets a datagram for `address`; 0 when there is no way to it."""
        if (address & self._mask) == (self._address & self._mask):
            return address
        return self._gateway

    def _answer_with_reset(self, frame: bytes, datagram: ipv4.Ipv4Header, segment: tcp.Segment) -> None:
        """RFC 9293 §3.10.7.1: <SEQ=SEG.ACK><RST>, or <SEQ=0><ACK=SEG.SEQ+SEG.LEN><RST,ACK>."""
        self.counters.resets_out += 1
        seq: i64 = 0
        ack: i64 = 0
        flags: i64 = tcp.RST
        if segment.flags & tcp.ACK:
            seq = segment.ack
        else:
            flags |= tcp.ACK
            ack = (segment.seq + segment.length) & 0xFFFF_FFFF
        self._send_stateless(frame, datagram, segment, seq, ack, flags, 0, b"")

    def _send_stateless(
        self,
        frame: bytes,
        datagram: ipv4.Ipv4Header,
        segment: tcp.Segment,
        seq: i64,
        ack: i64,
        flags: i64,
        window: i64,
        options: bytes,
    ) -> None:
        """Answer a segment with one of no connection."""
        self.counters.segments_out += 1
        length = tcp.HEADER_LENGTH + len(options)
        offset_flags = (length << 10) | flags
        total = pseudo_header_sum(datagram.destination, datagram.source, PROTOCOL_TCP, length)
        total += segment.source_port + segment.destination_port + offset_flags + window
        total += (seq >> 16) + (seq & 0xFFFF) + (ack >> 16) + (ack & 0xFFFF)
        total += sum_words(options, 0, len(options))
        writer = BytesWriter()
        put_u16(writer, segment.destination_port)
        put_u16(writer, segment.source_port)
        put_u32(writer, seq)
        put_u32(writer, ack)
        put_u16(writer, offset_flags)
        put_u16(writer, window)
        put_u16(writer, fold(total) ^ 0xFFFF)
        put_u16(writer, 0)
        writer.write(options)
        self._ip_output.answer(
            self._sender_of(frame), datagram.source, PROTOCOL_TCP, writer.getvalue(), 0, self._host.now
        )

    # -- the user's calls ----------------------------------------------------------------------------------

    def listen(self, port: int, address: int = 0, backlog: int = 512) -> Listener:
        """Passive OPEN. address 0: any of ours. Raises LocalProtocolError when somebody listens there."""
        if not 0 < port < 65536:
            raise LocalProtocolError(f"port {port} is not between 1 and 65535")
        if address not in (0, self.config.address):
            raise LocalProtocolError(f"{ipv4.format_address(address)} is not an address of this interface")
        others = [listener for listener in self._listeners.get(port, []) if not listener.is_closed]
        for other in others:
            if other.address == address or other.address == 0 or address == 0:
                raise LocalProtocolError(f"port {port} is listened on already")
        listener = Listener(address, port, backlog)
        others.append(listener)
        self._listeners[port] = others
        return listener

    def connect(
        self, remote_address: int, remote_port: int, now: int, local_port: int = 0, local_address: int = 0
    ) -> Connection:
        """Active OPEN: a connection in SYN-SENT. local_port 0: an ephemeral one at random.

        local_address 0: the one on the way there (MUST-43, MUST-44). Raises LocalProtocolError: address is no
        single host's (MUST-46) or not ours, no way to it, port taken, pool full.
        """
        if local_address not in (0, self.config.address):
            raise LocalProtocolError(
                f"{ipv4.format_address(local_address)} is not an address of this interface"
            )
        for port, lowest in ((remote_port, 1), (local_port, 0)):
            if not lowest <= port < 65536:
                raise LocalProtocolError(f"port {port} is not between {lowest} and 65535")
        if (
            remote_address >> 28 >= 0xE
            or remote_address >> 24 == 0
            or remote_address >> 24 == _LOOPBACK
            or remote_address == self.config.address
            or (self._has_subnet_broadcast and remote_address == self._subnet_broadcast)
        ):
            raise LocalProtocolError(f"cannot connect to {ipv4.format_address(remote_address)}")
        self._remove_closed()
        if not self._guard.is_usable():
            raise LocalProtocolError("our address is not in use: it is being probed, or somebody else has it")
        hop = self._next_hop(remote_address)
        if hop == 0:
            raise LocalProtocolError(f"no route to {ipv4.format_address(remote_address)}")
        if not self._make_room():
            raise LocalProtocolError(f"the pool of {self.config.max_connections} connections is full")
        four_tuple = self._choose_local_port(remote_address, remote_port, local_port)
        self._host.now = now
        connection = Connection(
            self._host,
            self._neighbors.get(hop),
            self._address,
            read_u16(four_tuple, 10),
            remote_address,
            remote_port,
            four_tuple,
            False,
        )
        self._choose_iss(connection, now)
        connection.must_send_syn = True
        connection.set_state(st.SYN_SENT)
        self._connections[four_tuple] = connection
        self.counters.connections_opened += 1
        connection.touch()
        return connection

    def _choose_local_port(self, remote_address: i64, remote_port: i64, local_port: i64) -> bytes:
        """The 4-tuple, as it will arrive, of a connection to be opened (RFC 6056 §3.3.1: random ports)."""
        if local_port != 0:
            four_tuple = self._four_tuple(remote_address, remote_port, local_port)
            if four_tuple in self._connections:
                raise LocalProtocolError(f"local port {local_port} is in use to that address and port")
            return four_tuple
        offset = int.from_bytes(self.config.random_bytes(2), "big")
        for index in range(_EPHEMERAL_PORTS):
            port = _FIRST_EPHEMERAL_PORT + (offset + index) % _EPHEMERAL_PORTS
            four_tuple = self._four_tuple(remote_address, remote_port, port)
            if four_tuple not in self._connections and port not in self._listeners:
                return four_tuple
        raise LocalProtocolError("no ephemeral port is free")

    def _four_tuple(self, remote_address: i64, remote_port: i64, local_port: i64) -> bytes:
        writer = BytesWriter()
        put_u32(writer, remote_address)
        put_u32(writer, self._address)
        put_u16(writer, remote_port)
        put_u16(writer, local_port)
        return writer.getvalue()

    def announce(self, now: int) -> None:
        """Tell the link our address and MAC (gratuitous ARP), now and once more a little later."""
        self._host.now = now
        self._guard.announce(now)
        self._address = self.config.address

    def probe(self, now: int) -> None:
        """Find out whether somebody else has our address before we use it (RFC 5227 §2.1).

        Until that is known, some seconds later, nothing is received or sent but ARP; see `address_state`.
        Raises LocalProtocolError when there are connections: their address is in use.
        """
        if self._connections:
            raise LocalProtocolError("the address cannot be probed while connections use it")
        self._host.now = now
        self._guard.probe(now)
        self._address = _NO_ADDRESS

    def bring_up(self, now: int) -> None:
        """Begin to use the address: `probe` where the configuration asks for it, else `announce`."""
        if self.config.neighbor.probe_address:
            self.probe(now)
        else:
            self.announce(now)

    def address_state(self) -> str:
        """`"PROBING"`, `"ANNOUNCING"`, `"READY"`; `"ABANDONED"`: probing found another host with it."""
        return GUARD_STATE_NAMES[self._guard.state]

    def set_mtu(self, mtu: int) -> None:
        """The link carries datagrams of up to `mtu` bytes from now on; new connections offer its MSS.

        RFC 9293 SHLD-6. Raises LocalProtocolError outside 68 .. 65535.
        """
        if not _MIN_MTU <= mtu <= 65535:
            raise LocalProtocolError(f"an MTU of {mtu} bytes is not between {_MIN_MTU} and 65535")
        self._host.mtu = mtu
        self._path_mtus.set_link_mtu(mtu)
        for connection in self._connections.values():
            connection.path_mtu_changed(self._path_mtus.get(connection.remote_address))

    def path_mtus(self) -> list[tuple[int, int]]:
        """(destination, bytes) of every path that is known to be narrower than the link."""
        return self._path_mtus.estimates()

    def _tell_path_mtus(self) -> None:
        """Estimates have changed: every connection to those destinations learns of it (RFC 1191 §6.1)."""
        changed = set(self._path_mtus.changed)
        self._path_mtus.changed = []
        for connection in self._connections.values():
            if connection.remote_address in changed:
                connection.path_mtu_changed(self._path_mtus.get(connection.remote_address))

    # -- the way out, time, and who needs attention ----------------------------------------------------------

    def frames_to_send(self, now: i64) -> list[Frame]:
        """Build what every touched connection has to send; returns all frames for the link, in order.

        Each is bytes, or where the link gathers a list of the parts that make it up.
        """
        host = self._host
        host.now = now
        if self._path_mtus.changed:
            self._tell_path_mtus()
        while host.touched:
            touched = host.touched
            host.touched = []
            for tcb in touched:
                tcb.is_touched = False
                if tcb.state != st.CLOSED:
                    output(tcb, now)
                    deadline = timers.next_deadline(tcb)
                    if deadline < tcb.armed_deadline:
                        tcb.armed_deadline = deadline
                        self._rescheduled.append(tcb)
        if host.closed:
            self._remove_closed()
        frames = self._neighbors.frames
        if not frames:
            return []
        self._neighbors.frames = []
        counters = self.counters
        counters.frames_out += len(frames)
        for frame in frames:
            if isinstance(frame, bytes):
                counters.bytes_out += len(frame)
            else:
                for part in frame:
                    counters.bytes_out += len(part)
        return frames

    def take_ready(self) -> list[Connection]:
        """The connections with events since the last call, each once."""
        ready = self._host.ready
        self._host.ready = []
        for tcb in ready:
            tcb.is_ready = False
        return cast("list[Connection]", ready)

    def take_rescheduled(self) -> list[Connection]:
        """The connections whose deadline moved earlier than the one they were armed for, each at least once.

        A deadline that moves later, the usual case, is not reported: whoever sleeps for the old one wakes,
        looks (`Connection.rearm`) and sleeps on.
        """
        rescheduled = self._rescheduled
        self._rescheduled = []
        return cast("list[Connection]", rescheduled)

    def link_deadline(self) -> int:
        """The deadline of what belongs to no connection: ARP, reassembly, the age of path MTUs."""
        deadline = self._neighbors.next_deadline()
        other = self._guard.next_deadline()
        if other < deadline:
            deadline = other
        other = self._reassembler.next_deadline()
        if other < deadline:
            deadline = other
        other = self._path_mtus.next_deadline()
        return min(deadline, other)

    def handle_link_deadline(self, now: int) -> None:
        self._host.now = now
        self._neighbors.handle_deadline(now)
        if self._guard.next_deadline() <= now:
            self._guard.handle_deadline(now)
            if self._guard.is_usable():
                self._address = self.config.address
        if self._reassembler.next_deadline() <= now:
            for link_header, quote in self._reassembler.handle_deadline(now):
                self._icmp.send_error(
                    icmp.TYPE_TIME_EXCEEDED,
                    icmp.CODE_REASSEMBLY_TIME_EXCEEDED,
                    0,
                    link_header[6:12],
                    quote,
                    now,
                )
        if self._path_mtus.next_deadline() <= now:
            self._path_mtus.handle_deadline(now)

    def next_deadline(self) -> int:
        """The earliest deadline of all, connections included; NEVER when nothing is due, ever."""
        earliest: i64 = self.link_deadline()
        for connection in self._connections.values():
            deadline = timers.next_deadline(connection)
            if deadline < earliest:
                earliest = deadline
        return earliest

    def handle_deadline(self, now: int) -> None:
        """Do all that is due, in the order of its deadlines' owners; `frames_to_send` follows."""
        self.handle_link_deadline(now)
        for connection in list(self._connections.values()):
            if timers.next_deadline(connection) <= now:
                connection.handle_deadline(now)
        if self._host.closed:
            self._remove_closed()

    # -- for people ------------------------------------------------------------------------------------------

    def connections(self) -> list[Connection]:
        """Every connection that is not CLOSED, TIME-WAIT included."""
        return list(self._connections.values())

    def listeners(self) -> list[Listener]:
        return [x for listeners in self._listeners.values() for x in listeners if not x.is_closed]

    def neighbors(self) -> list[tuple[int, bytes, str]]:
        """(address, MAC or b"", state) of every neighbour known."""
        entries: list[Neighbor] = self._neighbors.entries(self._host.now)
        return [(entry.address, entry.mac, STATE_NAMES[entry.state]) for entry in entries]

    def check_invariants(self) -> None:
        """Raise AssertionError when any connection contradicts itself; for simulations."""
        for connection in self._connections.values():
            connection.check_invariants()
            assert timers.next_deadline(connection) <= NEVER
        for four_tuple, tcb in self._host.time_wait.items():
            assert tcb.state == st.TIME_WAIT or tcb.state == st.CLOSED
            assert four_tuple in self._connections, "a TIME-WAIT that the table does not know"
        self._reassembler.check_invariants()
        queued: i64 = 0
        for connection in self._connections.values():
            if connection.reassembly is not None:
                queued += connection.reassembly.size
        assert queued == self._host.reassembly_bytes, "bytes out of order that nobody counts"
