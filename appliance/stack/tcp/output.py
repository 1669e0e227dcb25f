"""What a connection sends, and the frames it becomes.

Source:     RFC 9293 §3.8.4 - §3.8.6 (windows, silly window syndrome, probes), §3.7.4 (Nagle);
            RFC 5681 (what the congestion window allows); virtio 1.2 §5.1.6 (segmentation offload).
Invariants: after `output`, either everything that may be sent was sent, or a deadline or an expected ACK
            will bring us back; every segment carries the latest RCV.NXT and window.

`output` runs once per flush and connection, so an ACK rides on the reply that the same batch produced,
replies of one batch leave as one segment (up to 64 KiB where the link segments for us), and at most one
pure ACK is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.stack.neighbor import FORGOTTEN, REACHABLE, REACHABLE_US
from appliance.stack.tcp import state as st
from appliance.stack.timebase import NEVER
from appliance.wire import virtio
from appliance.wire.checksum import PROTOCOL_TCP, fold
from appliance.wire.fields import BytesWriter, put_u16, put_u32, sum_words
from appliance.wire.ipv4 import DONT_FRAGMENT
from appliance.wire.seqnum import seq_add, seq_diff, seq_gt, seq_lt
from appliance.wire.tcp import ACK, FIN, PSH, RST, SYN, build_options

if TYPE_CHECKING:
    from appliance.stack.tcp.tcb import Tcb

__all__ = ["output", "send_probe", "send_reset"]

_IP_HEADER: Final = 20
_TCP_HEADER: Final = 20
_LINK_HEADER: Final = 14
_MAX_DATAGRAM: Final = 65535
_UNRESOLVED_LINK_HEADER: Final = b"\0\0\0\0\0\0\0\0\0\0\0\0\x08\x00"


def output(tcb: Tcb, now: i64) -> None:
    """Send what the connection has to say at this moment: SYN, data, FIN, retransmissions, at last an ACK."""
    state = tcb.state
    if state >= st.ESTABLISHED:
        if tcb.must_retransmit_first:
            tcb.must_retransmit_first = False
            _retransmit_first(tcb, now)
        if state != st.FIN_WAIT_2 and state != st.TIME_WAIT:
            _send_data(tcb, now)
        if tcb.must_ack_now or _is_window_update_due(tcb):
            _emit(tcb, tcb.snd_max, ACK, b"", b"", now)
    elif state == st.SYN_SENT or state == st.SYN_RECEIVED:
        if tcb.snd_nxt == tcb.iss:
            _send_syn(tcb, now)
        elif tcb.must_ack_now and state == st.SYN_RECEIVED:
            _emit(tcb, tcb.snd_max, ACK, b"", b"", now)


def send_probe(tcb: Tcb, now: i64) -> None:
    """A segment without data just below the window: the peer must answer with an ACK (SHLD-12, MUST-36)."""
    _emit(tcb, seq_add(tcb.snd_una, -1), ACK, b"", b"", now)


def send_reset(tcb: Tcb, now: i64) -> None:
    """RST for a connection that we end (RFC 9293 §3.10.5)."""
    tcb.host.counters.resets_out += 1
    _emit(tcb, tcb.snd_max, RST | ACK, b"", b"", now)


def _send_syn(tcb: Tcb, now: i64) -> None:
    is_answer = tcb.state == st.SYN_RECEIVED
    shift: i64 = -1
    # RFC 7323 §2.2: offered in SYN; in SYN,ACK only when the peer's SYN had it.
    if not is_answer or tcb.is_window_scaled:
        shift = tcb.host.receive_shift
    options = build_options(tcb.rmss, shift)
    if tcb.snd_max == tcb.iss:
        tcb.timed_at = now
        tcb.timed_seq = seq_add(tcb.iss, 1)
    _emit(tcb, tcb.iss, (SYN | ACK) if is_answer else SYN, b"", options, now)
    tcb.snd_nxt = seq_add(tcb.iss, 1)
    tcb.snd_max = tcb.snd_nxt
    if tcb.retransmission_deadline == NEVER:
        tcb.retransmission_deadline = now + tcb.rtt.rto_us


def _send_data(tcb: Tcb, now: i64) -> None:
    send_buffer = tcb.send_buffer
    offset = seq_diff(tcb.snd_nxt, tcb.snd_una)
    available = send_buffer.size - offset
    is_fin_queued = tcb.is_fin_queued
    if available < 0 or (available == 0 and not is_fin_queued):
        return  # nothing, or nothing behind a FIN that is out already
    if offset == 0 and tcb.snd_max == tcb.snd_una and now - tcb.last_sent_at > tcb.rtt.rto_us:
        tcb.congestion.on_idle(tcb.host.config.initial_window)
    in_flight = seq_diff(tcb.snd_max, tcb.snd_una)
    if tcb.is_fin_sent:
        in_flight -= 1
    smss = tcb.smss
    window = min(tcb.congestion.cwnd, tcb.snd_wnd)
    largest = smss
    if tcb.host.may_use_gso:
        largest = _MAX_DATAGRAM - _IP_HEADER - _TCP_HEADER
        largest -= largest % smss
    while True:
        count = window - offset
        if count > available:
            count = available
        elif count < 0:
            count = 0
        if tcb.is_forced:
            # After a retransmission timeout: a segment that was out already, even beyond a shrunk window (MAY-7).
            # After the override timeout: what the window takes, silly or not (MUST-38). New data never beyond it.
            sent_before = in_flight - offset
            if sent_before > smss:
                sent_before = smss
            if count < sent_before:
                count = sent_before
        elif count < smss:
            if count < available:
                # The window leaves room for less than a segment: MUST-38, send only if it is at least
                # half of the largest window the peer ever had; else the persist timer overrides.
                if count == 0 or count * 2 < tcb.max_snd_wnd:
                    break
            elif offset > 0 and not tcb.is_nodelay and not is_fin_queued:
                break  # Nagle (SHLD-7)
        elif (
            count > smss
            and count == available
            and offset + count > 0
            and not tcb.is_nodelay
            and not is_fin_queued
        ):
            count -= count % smss  # Nagle again: the short tail waits for the ACK
        if count > largest:
            count = largest
        elif count > smss and count < available:
            count -= count % smss
        is_last = count == available
        flags: i64 = ACK
        payload = b""
        if count > 0:
            payload = send_buffer.peek(offset, count)
            if is_last:
                flags |= PSH
        if is_last and is_fin_queued:
            flags |= FIN
        elif count == 0:
            break
        _send_segment(tcb, flags, payload, count, now)
        tcb.is_forced = False
        offset += count
        available -= count
        if available == 0:
            break
    if tcb.snd_max != tcb.snd_una:
        tcb.persist_deadline = NEVER
        if tcb.retransmission_deadline == NEVER:
            tcb.retransmission_deadline = now + tcb.rtt.rto_us
    elif available > 0 and tcb.persist_deadline == NEVER:
        tcb.persist_deadline = now + tcb.rtt.rto_us


def _send_segment(tcb: Tcb, flags: i64, payload: bytes, count: i64, now: i64) -> None:
    """Data and FIN at SND.NXT, which moves on."""
    seq = tcb.snd_nxt
    end = seq_add(seq, count + 1 if flags & FIN else count)
    if seq_lt(seq, tcb.snd_max):
        tcb.timed_at = NEVER  # Karn: a retransmission is never timed
        tcb.total_retransmissions += 1
        tcb.host.counters.segments_retransmitted += 1
    elif tcb.timed_at == NEVER:
        tcb.timed_at = now
        tcb.timed_seq = end
    _emit(tcb, seq, flags, payload, b"", now)
    tcb.snd_nxt = end
    if seq_gt(end, tcb.snd_max):
        tcb.snd_max = end
        if flags & FIN:
            tcb.is_fin_sent = True


def _retransmit_first(tcb: Tcb, now: i64) -> None:
    """One segment from SND.UNA; SND.NXT stays (fast retransmit, partial acknowledgment)."""
    outstanding = tcb.flight_size()
    if outstanding == 0:
        return
    count = tcb.send_buffer.size
    if count > outstanding:
        count = outstanding
    if count > tcb.smss:
        count = tcb.smss
    flags: i64 = ACK
    # The segment reaches the FIN when it takes all data that are out and more than data is out.
    if tcb.is_fin_sent and count == tcb.send_buffer.size and outstanding == count + 1:
        flags |= FIN
    payload = tcb.send_buffer.peek(0, count) if count > 0 else b""
    tcb.timed_at = NEVER
    tcb.total_retransmissions += 1
    tcb.host.counters.segments_retransmitted += 1
    _emit(tcb, tcb.snd_una, flags, payload, b"", now)


def _is_window_update_due(tcb: Tcb) -> bool:
    """Whether the application has read enough to tell the peer without waiting for its next segment."""
    if tcb.state > st.FIN_WAIT_2 or tcb.is_fin_received:
        return False
    opened = tcb.receive_space() - tcb.rcv_wnd()
    if opened < tcb.rmss and opened < tcb.receive_limit >> 1:
        return False
    return tcb.rcv_wnd() < tcb.rmss or opened >= tcb.receive_limit >> 2


def _take_window_field(tcb: Tcb, is_syn: bool) -> i64:
    """The window to advertise; remembers the right edge, which never moves left (SHLD-14).

    MUST-39: the edge moves right only by at least a segment or half of the buffer.
    """
    space = tcb.receive_space()
    window = tcb.rcv_wnd()
    opened = space - window
    if opened >= tcb.rmss or opened >= tcb.receive_limit >> 1:
        window = space
    shift: i64 = 0 if is_syn else tcb.rcv_wind_shift
    field = window >> shift
    if field > 65535:
        field = 65535
    # Rounding may take back up to 2**shift - 1 bytes in the peer's eyes; we go on accepting them.
    edge = seq_add(tcb.rcv_nxt, field << shift)
    if seq_gt(edge, tcb.rcv_adv):
        tcb.rcv_adv = edge
    return field


def _emit(tcb: Tcb, seq: i64, flags: i64, payload: bytes, options: bytes, now: i64) -> None:
    """Build the frame for one segment and hand it to the link, or to ARP when the neighbour is unknown."""
    host = tcb.host
    neighbor = tcb.neighbor
    if tcb.frame_head_for is not neighbor.link_header or not tcb.frame_head:
        _cache_frame_head(tcb)
    payload_length: i64 = len(payload)
    tcp_length = _TCP_HEADER + len(options) + payload_length
    total_length = _IP_HEADER + tcp_length
    host.identification = (host.identification + 1) & 0xFFFF
    ack: i64 = tcb.rcv_nxt if flags & ACK else 0
    offset_flags = ((_TCP_HEADER + len(options)) << 10) | flags
    window = _take_window_field(tcb, flags & SYN != 0)
    writer = BytesWriter()
    if host.has_vnet_header and payload_length > tcb.smss:
        writer.write(
            virtio.build(
                virtio.FLAG_NEEDS_CSUM,
                virtio.GSO_TCPV4,
                _LINK_HEADER + _IP_HEADER + _TCP_HEADER + len(options),
                tcb.smss,
                _LINK_HEADER + _IP_HEADER,
                16,
            )
        )
        writer.write(tcb.frame_head[virtio.HEADER_LENGTH :])
    else:
        writer.write(tcb.frame_head)
    put_u16(writer, total_length)
    put_u32(writer, (host.identification << 16) | DONT_FRAGMENT)
    put_u16(writer, (host.ttl << 8) | PROTOCOL_TCP)
    put_u16(writer, fold(tcb.ip_sum + total_length + host.identification) ^ 0xFFFF)
    writer.write(tcb.addresses_and_ports)
    put_u32(writer, seq)
    put_u32(writer, ack)
    put_u16(writer, offset_flags)
    put_u16(writer, window)
    if host.has_vnet_header:
        put_u16(writer, fold(tcb.tcp_sum + tcp_length))
    else:
        total = tcb.tcp_sum + tcb.local_port + tcb.remote_port + tcp_length
        total += (seq >> 16) + (seq & 0xFFFF) + (ack >> 16) + (ack & 0xFFFF) + offset_flags + window
        total += sum_words(options, 0, len(options)) + sum_words(payload, 0, payload_length)
        put_u16(writer, fold(total) ^ 0xFFFF)
    put_u16(writer, 0)
    if options:
        writer.write(options)
    writer.write(payload)
    frame = writer.getvalue()
    if neighbor.state == REACHABLE and now - neighbor.confirmed_at <= REACHABLE_US:
        host.neighbors.frames.append(frame)
    else:
        if neighbor.state == FORGOTTEN:
            # The cache gave this entry up, but the connection lives on: it must learn from the new one.
            neighbor = host.neighbors.get(neighbor.address)
            tcb.neighbor = neighbor
        host.neighbors.send(neighbor, frame, now)
    host.counters.segments_out += 1
    tcb.bytes_out += payload_length
    if flags & ACK:
        tcb.must_ack_now = False
        tcb.unacked_bytes = 0
        tcb.ack_deadline = NEVER
    if payload_length > 0:
        tcb.last_sent_at = now


def _cache_frame_head(tcb: Tcb) -> None:
    """The parts of our frames that stay the same while the neighbour's MAC address does."""
    host = tcb.host
    link_header = tcb.neighbor.link_header
    tcb.frame_head_for = link_header
    writer = BytesWriter()
    if host.has_vnet_header:
        writer.write(
            virtio.build(virtio.FLAG_NEEDS_CSUM, virtio.GSO_NONE, 0, 0, _LINK_HEADER + _IP_HEADER, 16)
        )
    writer.write(link_header or _UNRESOLVED_LINK_HEADER)
    put_u16(writer, 0x4500)
    tcb.frame_head = writer.getvalue()
    writer = BytesWriter()
    put_u32(writer, tcb.local_address)
    put_u32(writer, tcb.remote_address)
    put_u16(writer, tcb.local_port)
    put_u16(writer, tcb.remote_port)
    tcb.addresses_and_ports = writer.getvalue()
    addresses = (
        (tcb.local_address >> 16)
        + (tcb.local_address & 0xFFFF)
        + (tcb.remote_address >> 16)
        + (tcb.remote_address & 0xFFFF)
    )
    tcb.ip_sum = addresses + 0x4500 + DONT_FRAGMENT + ((host.ttl << 8) | PROTOCOL_TCP)
    tcb.tcp_sum = addresses + PROTOCOL_TCP
