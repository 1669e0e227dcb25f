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
from appliance.stack.tcp.tcb import OPEN, RECOVERY, TIMESTAMPS_LENGTH
from appliance.stack.timebase import MILLISECOND, NEVER, SECOND
from appliance.wire import virtio
from appliance.wire.checksum import PROTOCOL_TCP, fold
from appliance.wire.fields import BytesWriter, put_u16, put_u32, sum_words
from appliance.wire.ipv4 import DONT_FRAGMENT, ECT_0
from appliance.wire.seqnum import seq_add, seq_gt
from appliance.wire.tcp import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    RST,
    SYN,
    TIMESTAMPS_PREFIX,
    build_options,
    build_sack_option,
)

if TYPE_CHECKING:
    from appliance.stack.tcp.scoreboard import SentSegment
    from appliance.stack.tcp.tcb import Tcb

__all__ = ["output", "schedule_tail_loss_probe", "send_probe", "send_reset", "send_tail_loss_probe"]

_IP_HEADER: Final = 20
_TCP_HEADER: Final = 20
_LINK_HEADER: Final = 14
_MAX_OPTIONS: Final = 40
_MAX_DATAGRAM: Final = 65535
_MAX_ACK_DELAY_US: Final = 200 * MILLISECOND  # RFC 8985 §7.2: what a peer may wait before it acknowledges
# On a link of microseconds 2·SRTT would be over before the peer's process has run (Linux: two ticks).
_MIN_PROBE_US: Final = 10 * MILLISECOND
_CORK_US: Final = 200 * MILLISECOND  # how long a cork holds a short segment back (Linux: tcp(7), TCP_CORK)
# From this size on a payload goes to the link as parts; for fewer bytes a copy costs less than another part.
_GATHER_FROM: Final = 8192
_MAX_PARTS: Final = 256
_UNRESOLVED_LINK_HEADER: Final = b"\0\0\0\0\0\0\0\0\0\0\0\0\x08\x00"

# Of the frame being built, used again for the next: nothing is built while another one is.
_writer: Final = BytesWriter()


def output(tcb: Tcb, now: i64) -> None:
    """Send what the connection has to say at this moment: SYN, retransmissions, data, FIN, at last an ACK."""
    state = tcb.state
    if state >= st.ESTABLISHED:
        if state != st.FIN_WAIT_2 and state != st.TIME_WAIT:
            if tcb.scoreboard.lost_bytes > 0:
                _retransmit_lost(tcb, now)
            _send_data(tcb, now)
        if tcb.must_ack_now or _is_window_update_due(tcb):
            _emit(tcb, tcb.snd_nxt, _ack_flags(tcb), b"", b"", now)
    elif state == st.SYN_SENT or state == st.SYN_RECEIVED:
        if tcb.must_send_syn:
            _send_syn(tcb, now)
        elif tcb.must_ack_now and state == st.SYN_RECEIVED:
            _emit(tcb, tcb.snd_nxt, ACK, b"", b"", now)


def send_probe(tcb: Tcb, now: i64) -> None:
    """A segment without data just below the window: the peer must answer with an ACK (SHLD-12, MUST-36)."""
    _emit(tcb, seq_add(tcb.snd_una, -1), ACK, b"", b"", now)


def send_tail_loss_probe(tcb: Tcb, now: i64) -> None:
    """One segment, new if there is any and the peer has room, else the highest again (RFC 8985 §7.3)."""
    board = tcb.scoreboard
    offset = board.outstanding()
    available = tcb.send_buffer.size - offset
    count = min(available, tcb.snd_wnd - offset, tcb.smss)
    if count > 0:
        is_last = count == available
        flags: i64 = ACK | PSH if is_last else ACK
        if is_last and tcb.is_fin_queued:
            flags |= FIN
        _send_new(tcb, flags, offset, count, now)
        tcb.is_tlp_retransmission = False
    else:
        _retransmit(tcb, board.last(tcb.smss), now)
        tcb.is_tlp_retransmission = True
    tcb.tlp_end = board.end


def send_reset(tcb: Tcb, now: i64) -> None:
    """RST for a connection that we end (RFC 9293 §3.10.5)."""
    tcb.host.counters.resets_out += 1
    _emit(tcb, tcb.snd_nxt, RST | ACK, b"", b"", now)


def _send_syn(tcb: Tcb, now: i64) -> None:
    config = tcb.host.config
    is_answer = tcb.state == st.SYN_RECEIVED
    flags: i64 = SYN
    shift: i64 = -1
    is_sack_permitted = config.sack
    ts_val: i64 = -1
    if is_answer:
        # RFC 7323 §2.2, §3.2; RFC 2018 §2: in SYN,ACK only what the peer's SYN had.
        flags |= ACK
        if tcb.is_window_scaled:
            shift = tcb.host.receive_shift
        is_sack_permitted = tcb.is_sack_permitted
        if tcb.has_timestamps:
            ts_val = tcb.timestamp(now)
        if tcb.has_ecn:
            flags |= ECE
    else:
        if config.window_scale:
            shift = tcb.host.receive_shift
        if config.timestamps:
            ts_val = tcb.timestamp(now)
        if config.ecn_request and tcb.retransmissions == 0:
            flags |= ECE | CWR
    options = build_options(tcb.rmss, shift, is_sack_permitted, ts_val, tcb.ts_recent if is_answer else 0)
    tcb.must_send_syn = False
    tcb.syn_sent_at = now if tcb.snd_nxt == tcb.iss else NEVER
    _emit(tcb, tcb.iss, flags, b"", options, now)
    tcb.snd_nxt = seq_add(tcb.iss, 1)
    if tcb.retransmission_deadline == NEVER:
        tcb.retransmission_deadline = now + tcb.rtt.rto_us


def _ack_flags(tcb: Tcb) -> i64:
    """ACK, with the echo of congestion marks while the peer has not heard of them (RFC 3168 §6.1.3)."""
    if tcb.must_echo_ecn:
        return ACK | ECE
    return ACK


def _retransmit_lost(tcb: Tcb, now: i64) -> None:
    """Send again what is presumed lost, oldest first, as far as cwnd lets it."""
    board = tcb.scoreboard
    smss = tcb.smss
    while True:
        allowed = tcb.congestion.cwnd - tcb.pipe()
        segment = board.next_lost(smss)
        if segment is None:
            return
        if allowed < segment.end - segment.start and allowed < smss and not tcb.must_resend_first:
            return
        # RFC 6298 (5.4): after a timeout the first one goes, also when younger ones still fill the pipe.
        tcb.must_resend_first = False
        _retransmit(tcb, segment, now)


def _retransmit(tcb: Tcb, segment: SentSegment, now: i64) -> None:
    board = tcb.scoreboard
    offset = segment.start - board.una
    count = segment.end - segment.start
    flags = _ack_flags(tcb)
    if offset + count > tcb.send_buffer.size:
        flags |= FIN
        count -= 1
    if offset + count == tcb.send_buffer.size:
        flags |= PSH
    if tcb.first_retransmission_ts < 0 and tcb.undo_retransmissions == 0:
        tcb.first_retransmission_ts = tcb.timestamp(now)
    if tcb.undo_retransmissions >= 0:
        tcb.undo_retransmissions += 1
    tcb.total_retransmissions += 1
    tcb.host.counters.segments_retransmitted += 1
    board.on_retransmitted(segment, now)
    tcb.prr_out += segment.end - segment.start
    _emit_data(tcb, seq_add(tcb.snd_una, offset), flags, offset, count, now)
    if tcb.retransmission_deadline == NEVER or (offset == 0 and tcb.recovery == RECOVERY):
        # RFC 6298 §5: no segment is sent again within one timeout of its last transmission (RFC 6675 §6).
        tcb.retransmission_deadline = now + tcb.rtt.rto_us


def _send_data(tcb: Tcb, now: i64) -> None:
    """New data and FIN, as far as the peer's window and cwnd let them."""
    board = tcb.scoreboard
    offset = board.outstanding()
    available = tcb.send_buffer.size - offset
    is_fin_queued = tcb.is_fin_queued
    if available < 0 or (available == 0 and (not is_fin_queued or tcb.is_fin_sent)):
        return  # nothing, or nothing behind a FIN that is out already
    congestion = tcb.congestion
    if offset == 0 and now - tcb.last_sent_at > tcb.rtt.rto_us:
        congestion.on_idle(now)
    if board.lost_bytes > 0:
        return  # what was lost goes first, and cwnd had no room for all of it
    if tcb.is_held_by_ecn:
        if not tcb.is_forced:
            if offset == 0 and tcb.persist_deadline == NEVER:
                tcb.persist_deadline = now + tcb.rtt.rto_us
            return
        tcb.is_held_by_ecn = False
    smss = tcb.smss
    largest: i64 = 0
    if tcb.host.may_use_gso:
        largest = _MAX_DATAGRAM - _IP_HEADER - _TCP_HEADER - _MAX_OPTIONS
        largest -= largest % smss  # 0 on a link whose MTU is nearly a datagram: nothing to offload there
    if largest == 0:
        largest = smss
        if tcb.reassembly is not None or tcb.duplicate_start >= 0:
            largest -= len(_sack_option(tcb))  # RFC 6691 §2: options come off the data
    tcb.is_cwnd_limited = False
    while True:
        by_peer = tcb.snd_wnd - offset
        by_cwnd = congestion.cwnd - tcb.pipe()
        count = min(available, min(by_peer, by_cwnd))  # of three at once it would make objects
        if count < 0:
            count = 0
        if count < available and by_cwnd < by_peer:
            tcb.is_cwnd_limited = True
        if tcb.is_forced and count < smss:
            count = min(available, smss, max(0, by_peer))
        elif count < smss:
            if count < available:
                # A window leaves room for less than a segment: MUST-38, send only if it is at least half
                # of the largest window the peer ever had; else the persist timer overrides.
                if by_peer > by_cwnd or count == 0 or count * 2 < tcb.max_snd_wnd:
                    break
            elif not is_fin_queued and ((offset > 0 and not tcb.is_nodelay) or tcb.is_corked):
                break  # Nagle (SHLD-7)
        elif count > smss and count == available and not is_fin_queued:
            if not tcb.is_nodelay or tcb.is_corked:
                count -= count % smss  # Nagle again: the short tail waits
        if count > largest:
            count = largest
        elif count > smss and count < available:
            count -= count % smss
        is_last = count == available
        flags = _ack_flags(tcb)
        if count > 0 and is_last:
            flags |= PSH
        if is_last and is_fin_queued:
            flags |= FIN
        elif count == 0:
            break
        if tcb.must_send_cwr and count > 0:
            tcb.must_send_cwr = False
            flags |= CWR
        _send_new(tcb, flags, offset, count, now)
        tcb.is_forced = False
        offset += count
        available -= count
        if available == 0:
            if not tcb.is_cwnd_limited:
                congestion.on_application_limited(now)
            break
    if tcb.is_cwnd_limited or congestion.cwnd - tcb.pipe() < smss:
        # Also when the last of the data just filled it: another segment would have found no room.
        tcb.cwnd_limited_end = board.end
    if board.outstanding() > 0:
        tcb.persist_deadline = NEVER
        schedule_tail_loss_probe(tcb, now)
    elif available > 0 and tcb.persist_deadline == NEVER:
        tcb.persist_deadline = now + (_CORK_US if tcb.is_corked and tcb.snd_wnd > 0 else tcb.rtt.rto_us)


def _send_new(tcb: Tcb, flags: i64, offset: i64, count: i64, now: i64) -> None:
    """Data and FIN at SND.NXT, which lies `offset` bytes into the send buffer and moves on."""
    seq = tcb.snd_nxt
    length = count + 1 if flags & FIN else count
    if flags & FIN:
        tcb.is_fin_sent = True
    if tcb.scoreboard.outstanding() == 0:
        tcb.unacked_since = now
    tcb.scoreboard.add(length, now)
    tcb.snd_nxt = seq_add(seq, length)
    tcb.prr_out += length
    if tcb.retransmission_deadline == NEVER:
        tcb.retransmission_deadline = now + tcb.rtt.rto_us
    # RFC 3168 §6.1.4 - §6.1.6: only new data are ECN-capable.
    _emit_data(tcb, seq, flags, offset, count, now, ECT_0 if tcb.has_ecn and count > 0 else 0)


def _emit_data(tcb: Tcb, seq: i64, flags: i64, offset: i64, count: i64, now: i64, ecn: i64 = 0) -> None:
    """A segment with `count` bytes that lie `offset` bytes into the send buffer."""
    host = tcb.host
    if count < _GATHER_FROM or not host.may_gather or not _is_reachable(tcb, now):
        payload = tcb.send_buffer.peek(offset, count) if count > 0 else b""
        _emit(tcb, seq, flags, payload, b"", now, ecn)
        return
    parts: list[bytes | memoryview] = [b""]
    tcb.send_buffer.peek_into(parts, offset, count)
    if len(parts) > _MAX_PARTS:
        parts = [b"", b"".join(parts)]
    parts[0] = _build(tcb, seq, flags, b"", count, b"", now, ecn)
    host.neighbors.frames.append(parts)
    _was_sent(tcb, flags, count, now)


def schedule_tail_loss_probe(tcb: Tcb, now: i64) -> None:
    """RFC 8985 §7.2: a probe earlier than the retransmission timer, when the tail may have been lost."""
    if (
        tcb.recovery != OPEN
        or tcb.tlp_end >= 0
        or not tcb.is_sack_permitted
        or tcb.scoreboard.sacked_bytes > 0
    ):
        return
    if not tcb.host.config.tail_loss_probe:
        return
    timeout: i64 = SECOND
    if tcb.rtt.srtt_us > 0:
        timeout = 2 * tcb.rtt.srtt_us
        if timeout < _MIN_PROBE_US:
            timeout = _MIN_PROBE_US
        if tcb.scoreboard.outstanding() <= tcb.smss:
            timeout += _MAX_ACK_DELAY_US
    deadline = now + timeout
    tcb.probe_deadline = deadline if deadline < tcb.retransmission_deadline else NEVER


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
    shift = tcb.rcv_wind_shift
    if is_syn:
        shift = 0
    field = window >> shift
    if field > 65535:
        field = 65535
    # Rounding may take back up to 2**shift - 1 bytes in the peer's eyes; we go on accepting them.
    edge = seq_add(tcb.rcv_nxt, field << shift)
    if seq_gt(edge, tcb.rcv_adv):
        tcb.rcv_adv = edge
    return field


def _sack_option(tcb: Tcb) -> bytes:
    """What the peer should know of gaps and duplicates (RFC 2018 §4, RFC 2883 §4); b"" for nothing."""
    if not tcb.is_sack_permitted:
        return b""
    blocks: list[tuple[int, int]] = []
    if tcb.duplicate_start >= 0:
        blocks.append((tcb.duplicate_start, tcb.duplicate_end))
    reassembly = tcb.reassembly
    if reassembly is not None and len(reassembly) > 0:
        for start, end in reassembly.islands():
            blocks.append(
                (seq_add(tcb.rcv_nxt, start - tcb.received), seq_add(tcb.rcv_nxt, end - tcb.received))
            )
    return build_sack_option(blocks[: 3 if tcb.has_timestamps else 4])


def _emit(tcb: Tcb, seq: i64, flags: i64, payload: bytes, options: bytes, now: i64, ecn: i64 = 0) -> None:
    """Build the frame for one segment and hand it to the link, or to ARP when the neighbour is unknown."""
    frame = _build(tcb, seq, flags, payload, len(payload), options, now, ecn)
    neighbors = tcb.host.neighbors
    if _is_reachable(tcb, now):
        neighbors.frames.append(frame)
    else:
        if tcb.neighbor.state == FORGOTTEN:
            # The cache gave this entry up, but the connection lives on: it must learn from the new one.
            tcb.neighbor = neighbors.get(tcb.neighbor.address)
        neighbors.send(tcb.neighbor, frame, now)
    _was_sent(tcb, flags, len(payload), now)


def _is_reachable(tcb: Tcb, now: i64) -> bool:
    """Whether frames may go to the neighbour without asking ARP first."""
    neighbor = tcb.neighbor
    return neighbor.state == REACHABLE and now - neighbor.confirmed_at <= REACHABLE_US


def _build(
    tcb: Tcb, seq: i64, flags: i64, payload: bytes, payload_length: i64, options: bytes, now: i64, ecn: i64
) -> bytes:
    """The frame of one segment; its end is `payload`, or nothing where that is sent from elsewhere.

    options: of a SYN, all of them; those of other segments are found here. ecn: the ECN bits of the TOS byte.
    """
    host = tcb.host
    if tcb.frame_head_for is not tcb.neighbor.link_header or not tcb.frame_head:
        _cache_frame_head(tcb)
    ts_length: i64 = 0
    segment_size = tcb.smss
    if not flags & SYN:
        if tcb.has_timestamps:
            ts_length = TIMESTAMPS_LENGTH
        if (tcb.reassembly is not None or tcb.duplicate_start >= 0) and not flags & RST:
            options = _sack_option(tcb)
            segment_size -= len(options)  # whoever cuts the segment up repeats them in each piece
            tcb.duplicate_start = -1  # each duplicate is reported once
    options_length: i64 = ts_length + len(options)
    tcp_length = _TCP_HEADER + options_length + payload_length
    total_length = _IP_HEADER + tcp_length
    host.identification = (host.identification + 1) & 0xFFFF
    ack: i64 = 0
    if flags & ACK:
        ack = tcb.rcv_nxt
    offset_flags = ((_TCP_HEADER + options_length) << 10) | flags
    window = _take_window_field(tcb, flags & SYN != 0)
    tos = tcb.tos | ecn
    writer = _writer
    writer.truncate(0)
    if host.has_vnet_header and payload_length > segment_size:
        writer.write(
            virtio.build(
                virtio.FLAG_NEEDS_CSUM,
                virtio.GSO_TCPV4 | (virtio.GSO_ECN if flags & CWR else 0),
                _LINK_HEADER + _IP_HEADER + _TCP_HEADER + options_length,
                segment_size,
                _LINK_HEADER + _IP_HEADER,
                16,
            )
        )
        writer.write(tcb.frame_head[virtio.HEADER_LENGTH :])
    else:
        writer.write(tcb.frame_head)
    put_u16(writer, 0x4500 | tos)
    put_u16(writer, total_length)
    put_u32(writer, (host.identification << 16) | DONT_FRAGMENT)
    put_u16(writer, (tcb.ttl << 8) | PROTOCOL_TCP)
    ip_sum = tcb.address_sum + 0x4500 + DONT_FRAGMENT + PROTOCOL_TCP
    put_u16(writer, fold(ip_sum + (tcb.ttl << 8) + tos + total_length + host.identification) ^ 0xFFFF)
    writer.write(tcb.addresses_and_ports)
    put_u32(writer, seq)
    put_u32(writer, ack)
    put_u16(writer, offset_flags)
    put_u16(writer, window)
    ts_val: i64 = 0
    if ts_length > 0:
        ts_val = tcb.timestamp(now)
    tcp_sum = tcb.address_sum + PROTOCOL_TCP + tcp_length
    if host.has_vnet_header:
        put_u16(writer, fold(tcp_sum))
    else:
        tcp_sum += tcb.local_port + tcb.remote_port + offset_flags + window
        tcp_sum += (seq >> 16) + (seq & 0xFFFF) + (ack >> 16) + (ack & 0xFFFF)
        tcp_sum += sum_words(options, 0, len(options)) + sum_words(payload, 0, payload_length)
        if ts_length > 0:
            tcp_sum += (
                (TIMESTAMPS_PREFIX >> 16) + (TIMESTAMPS_PREFIX & 0xFFFF) + (ts_val >> 16) + (ts_val & 0xFFFF)
            )
            tcp_sum += (tcb.ts_recent >> 16) + (tcb.ts_recent & 0xFFFF)
        put_u16(writer, fold(tcp_sum) ^ 0xFFFF)
    put_u16(writer, 0)
    if ts_length > 0:
        put_u32(writer, TIMESTAMPS_PREFIX)
        put_u32(writer, ts_val)
        put_u32(writer, tcb.ts_recent)
    if options:
        writer.write(options)
    writer.write(payload)
    return writer.getvalue()


def _was_sent(tcb: Tcb, flags: i64, payload_length: i64, now: i64) -> None:
    """Take note that a segment has left."""
    host = tcb.host
    host.counters.segments_out += 1
    tcb.bytes_out += payload_length
    if flags & ACK:
        tcb.must_ack_now = False
        tcb.unacked_bytes = 0
        tcb.ack_deadline = NEVER
        tcb.last_ack_sent = tcb.rcv_nxt
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
    tcb.frame_head = writer.getvalue()
    writer = BytesWriter()
    put_u32(writer, tcb.local_address)
    put_u32(writer, tcb.remote_address)
    put_u16(writer, tcb.local_port)
    put_u16(writer, tcb.remote_port)
    tcb.addresses_and_ports = writer.getvalue()
    tcb.address_sum = (
        (tcb.local_address >> 16)
        + (tcb.local_address & 0xFFFF)
        + (tcb.remote_address >> 16)
        + (tcb.remote_address & 0xFFFF)
    )
