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

from appliance.errors import LocalProtocolError, Refused, WireError
from appliance.stack.counters import Counters
from appliance.stack.listener import Listener
from appliance.stack.neighbor import STATE_NAMES, Neighbor, NeighborCache
from appliance.stack.tcp import state as st, timers
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.connection import Connection
from appliance.stack.tcp.host import TcpHost
from appliance.stack.tcp.output import output
from appliance.stack.tcp.segment_arrives import DONE, may_reopen, segment_arrives
from appliance.stack.timebase import NEVER, SECOND
from appliance.wire import arp, ethernet, icmp, ipv4, tcp, virtio
from appliance.wire.checksum import PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, fold, pseudo_header_sum
from appliance.wire.fields import BytesWriter, put_u16, put_u32, read_u16, read_u32, sum_words
from appliance.wire.seqnum import seq_lt

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.tcp.tcb import Tcb

__all__ = ["Interface", "InterfaceConfig"]

_FIRST_EPHEMERAL_PORT: Final = 49152  # RFC 6335 §6
_EPHEMERAL_PORTS: Final = 65536 - 49152
_ICMP_ERRORS_PER_SECOND: Final = 100
_LOOPBACK: Final = 127
_BEYOND_OLD_CONNECTION: Final = 65537  # Linux's distance: more than an unscaled window
_LIMITED_BROADCAST: Final = 0xFFFF_FFFF


class InterfaceConfig:
    """Addresses and limits of one interface; read-only once the interface is made.

    Args:
        mac: our 6 bytes. address, gateway: IPv4 as ints, gateway 0 for none. prefix_length: 0 .. 32.
        mtu: bytes of IP in a frame. vnet_header: a virtio-net header stands before every frame.
        gso: segments of up to 64 KiB may be handed to the link (needs vnet_header).
        max_connections: size of the pool; a SYN beyond it is answered by RST.
        random_bytes: n -> n unpredictable bytes, for ISNs, ports and identifications.
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
        self.random_bytes = random_bytes


class Interface:
    def __init__(self, config: InterfaceConfig) -> None:
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
            config.mac, config.address, config.vnet_header, self.counters
        )
        self._host: TcpHost = TcpHost(
            config=config.tcp,
            counters=self.counters,
            neighbors=self._neighbors,
            random_bytes=config.random_bytes,
            mtu=config.mtu,
            ttl=config.ttl,
            has_vnet_header=config.vnet_header,
            may_use_gso=config.vnet_header and config.gso,
        )
        self._connections: dict[bytes, Connection] = {}
        self._listeners: dict[int, list[Listener]] = {}
        self._rescheduled: list[Tcb] = []
        # Reused for every frame: nothing outlives the call.
        self._datagram: ipv4.Ipv4Header = ipv4.Ipv4Header()
        self._segment: tcp.Segment = tcp.Segment()
        self._icmp_second: i64 = 0
        self._icmp_errors: i64 = 0

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
            self._neighbors.packet_arrives(arp.parse(frame, start + ethernet.HEADER_LENGTH), now)
        else:
            self.counters.dropped_unknown_ethertype += 1

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
        if datagram.is_fragment:
            self.counters.dropped_fragment += 1
            return
        protocol = datagram.protocol
        if protocol == PROTOCOL_TCP:
            if is_broadcast:
                self.counters.dropped_broadcast_segment += 1  # MUST-57: silently
                return
            self._receive_tcp(frame, datagram, now)
        elif protocol == PROTOCOL_ICMP:
            self._receive_icmp(frame, datagram, is_broadcast, now)
        elif not is_broadcast:
            # RFC 1122 §3.2.2.1: nobody here speaks that protocol, or listens on that port.
            code: i64 = (
                icmp.CODE_PORT_UNREACHABLE if protocol == PROTOCOL_UDP else icmp.CODE_PROTOCOL_UNREACHABLE
            )
            self._send_icmp_error(icmp.TYPE_DESTINATION_UNREACHABLE, code, frame, datagram, now)

    def _is_valid_source(self, source: i64) -> bool:
        """RFC 1122 §3.2.1.3, MUST-63: a source is one host, elsewhere (ours would be a LAND attack)."""
        return not (
            source == self._address
            or source >> 24 == _LOOPBACK
            or source >> 24 == 0
            or source >> 28 >= 0xE
            or (self._has_subnet_broadcast and source == self._subnet_broadcast)
        )

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
            self._answer_with_reset(frame, datagram, segment)
            return
        if not segment.flags & tcp.SYN:
            return
        if segment.flags & tcp.FIN:
            return  # SYN with FIN is no opening of anything
        if not listener.has_room():
            self.counters.dropped_backlog_full += 1
            return
        if not self._make_room():
            self.counters.connections_refused_pool_full += 1
            self._answer_with_reset(frame, datagram, segment)
            return
        hop = self._next_hop(datagram.source)
        if hop == 0:
            self.counters.dropped_bad_source += 1
            return
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
        self._choose_iss(connection, now)
        connection.irs = segment.seq
        connection.rcv_nxt = (segment.seq + 1) & 0xFFFF_FFFF
        connection.rcv_adv = connection.rcv_nxt
        connection.use_peer_options(segment, now)
        # RFC 3168 §6.1.1: both flags ask for ECN, one alone does not.
        is_ecn_asked = segment.flags & (tcp.ECE | tcp.CWR) == tcp.ECE | tcp.CWR
        connection.has_ecn = is_ecn_asked and self.config.tcp.ecn
        connection.must_send_syn = True
        connection.snd_wnd = segment.window
        connection.max_snd_wnd = segment.window
        connection.snd_wl1 = segment.seq
        connection.last_received_at = now
        connection.set_state(st.SYN_RECEIVED)
        listener.add(connection)
        self._connections[four_tuple] = connection
        self.counters.connections_accepted += 1
        connection.touch()

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
        self.counters.segments_out += 1
        seq: i64 = 0
        ack: i64 = 0
        flags: i64 = tcp.RST
        if segment.flags & tcp.ACK:
            seq = segment.ack
        else:
            flags |= tcp.ACK
            ack = (segment.seq + segment.length) & 0xFFFF_FFFF
        offset_flags = (tcp.HEADER_LENGTH << 10) | flags
        total = pseudo_header_sum(datagram.destination, datagram.source, PROTOCOL_TCP, tcp.HEADER_LENGTH)
        total += segment.source_port + segment.destination_port + offset_flags
        total += (seq >> 16) + (seq & 0xFFFF) + (ack >> 16) + (ack & 0xFFFF)
        writer = BytesWriter()
        put_u16(writer, segment.destination_port)
        put_u16(writer, segment.source_port)
        put_u32(writer, seq)
        put_u32(writer, ack)
        put_u16(writer, offset_flags)
        put_u16(writer, 0)
        put_u16(writer, fold(total) ^ 0xFFFF)
        put_u16(writer, 0)
        self._answer(frame, datagram, PROTOCOL_TCP, writer.getvalue())

    def _answer(self, frame: bytes, datagram: ipv4.Ipv4Header, protocol: i64, payload: bytes) -> None:
        """Send a datagram back to where this frame came from, on the link too: no ARP, no state."""
        host = self._host
        start = self._ethernet_start
        if frame[start + 6] & 1:
            self.counters.dropped_bad_source += (
                1  # no station sends from a group address: never answer to one
            )
            return
        host.identification = (host.identification + 1) & 0xFFFF
        self._neighbors.frames.append(
            self._frame_prefix
            + ethernet.header(frame[start + 6 : start + 12], self._mac, ethernet.ETHERTYPE_IPV4)
            + ipv4.build_header(
                self._address, datagram.source, protocol, len(payload), host.identification, self.config.ttl
            )
            + payload
        )

    # -- ICMP ----------------------------------------------------------------------------------------------

    def _receive_icmp(self, frame: bytes, datagram: ipv4.Ipv4Header, is_broadcast: bool, now: i64) -> None:
        self.counters.icmp_in += 1
        message = icmp.parse(frame, datagram.payload_start, datagram.payload_end)
        if message.type == icmp.TYPE_ECHO:
            # RFC 1122 §3.2.2.6: an echo to a broadcast address may be ignored, and is (smurf).
            if not is_broadcast and message.code == 0:
                self.counters.icmp_out += 1
                reply = icmp.build(icmp.TYPE_ECHO_REPLY, 0, message.rest, message.data)
                self._answer(frame, datagram, PROTOCOL_ICMP, reply)
        elif message.type == icmp.TYPE_DESTINATION_UNREACHABLE or message.type == icmp.TYPE_TIME_EXCEEDED:
            self._icmp_error_arrives(message)

    def _icmp_error_arrives(self, message: icmp.IcmpMessage) -> None:
        """RFC 9293 §3.9.2.2, RFC 5927 §4: only what quotes a segment in flight counts, and only as advice."""
        quote = message.data
        if len(quote) < ipv4.HEADER_LENGTH + 8 or quote[9] != PROTOCOL_TCP:
            return
        header_length: i64 = (i64(quote[0]) & 0x0F) * 4
        if header_length < ipv4.HEADER_LENGTH or len(quote) < header_length + 8:
            return
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
        if ((seq - connection.snd_una) & 0xFFFF_FFFF) > connection.flight_size():
            return
        connection.soft_error = f"ICMP type {message.type} code {message.code}"
        is_refusal = message.type == icmp.TYPE_DESTINATION_UNREACHABLE and (
            message.code == icmp.CODE_PROTOCOL_UNREACHABLE or message.code == icmp.CODE_PORT_UNREACHABLE
        )
        if is_refusal and connection.state == st.SYN_SENT:
            connection.end(Refused)  # SHLD-26
            self._remove_closed()

    def _send_icmp_error(
        self, kind: i64, code: i64, frame: bytes, datagram: ipv4.Ipv4Header, now: i64
    ) -> None:
        """RFC 1122 §3.2.2: quote the header and 8 bytes; rate-limited as RFC 1812 §4.3.2.8 has routers do."""
        second = now // SECOND
        if second != self._icmp_second:
            self._icmp_second = second
            self._icmp_errors = 0
        self._icmp_errors += 1
        if self._icmp_errors > _ICMP_ERRORS_PER_SECOND:
            self.counters.icmp_rate_limited += 1
            return
        self.counters.icmp_out += 1
        end = datagram.payload_start + 8
        if end > datagram.payload_end:
            end = datagram.payload_end
        self._answer(frame, datagram, PROTOCOL_ICMP, icmp.build(kind, code, 0, frame[datagram.start : end]))

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

    def connect(self, remote_address: int, remote_port: int, now: int, local_port: int = 0) -> Connection:
        """Active OPEN: a connection in SYN-SENT. local_port 0: an ephemeral one at random.

        Raises LocalProtocolError: address is no single host's (MUST-46), no way to it, port taken, pool full.
        """
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
        """Tell the link our address and MAC (gratuitous ARP)."""
        self._host.now = now
        self._neighbors.announce()

    # -- the way out, time, and who needs attention ----------------------------------------------------------

    def frames_to_send(self, now: i64) -> list[bytes]:
        """Build what every touched connection has to send; returns all frames for the link, in order."""
        host = self._host
        host.now = now
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
            counters.bytes_out += len(frame)
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
        """The deadline of what belongs to no connection: ARP."""
        return self._neighbors.next_deadline()

    def handle_link_deadline(self, now: int) -> None:
        self._host.now = now
        self._neighbors.handle_deadline(now)

    def next_deadline(self) -> int:
        """The earliest deadline of all, connections included; NEVER when nothing is due, ever."""
        earliest: i64 = self._neighbors.next_deadline()
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
        entries: list[Neighbor] = self._neighbors.entries()
        return [(entry.address, entry.mac, STATE_NAMES[entry.state]) for entry in entries]

    def check_invariants(self) -> None:
        """Raise AssertionError when any connection contradicts itself; for simulations."""
        for connection in self._connections.values():
            connection.check_invariants()
            assert timers.next_deadline(connection) <= NEVER
        for four_tuple, tcb in self._host.time_wait.items():
            assert tcb.state == st.TIME_WAIT or tcb.state == st.CLOSED
            assert four_tuple in self._connections, "a TIME-WAIT that the table does not know"
