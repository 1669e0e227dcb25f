"""SEGMENT ARRIVES for a connection that exists.

Source:     RFC 9293 §3.10.7.3 (SYN-SENT) and §3.10.7.4 (all other states), in the order of its checks: one
            function per check, states are branches inside. RFC 5961 §3 - §5 where 9293 points to it.
Errors:     none: whatever arrives is an outcome. What needs an answer sets `must_ack_now` or sends a RST.

A check returns False when the segment goes no further. Output is not made here but by the next flush.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.errors import Refused, Reset
from appliance.stack.tcp import output as out, state as st
from appliance.stack.tcp.buffers import Reassembly
from appliance.stack.tcp.recovery import acknowledgment_arrives
from appliance.stack.tcp.tcb import (
    EVENT_PEER_CLOSED,
    EVENT_READABLE,
    EVENT_URGENT,
    EVENT_WRITABLE,
    TIMESTAMPS_LENGTH,
)
from appliance.stack.timebase import NEVER, SECOND
from appliance.wire.seqnum import in_window, seq_add, seq_diff, seq_ge, seq_gt, seq_le, seq_lt
from appliance.wire.tcp import ACK, CWR, ECE, FIN, RST, SYN, URG

if TYPE_CHECKING:
    from appliance.stack.tcp.tcb import Tcb
    from appliance.wire.tcp import Segment

__all__ = ["DONE", "NEEDS_RESET", "may_reopen", "segment_arrives"]

DONE: Final = 0
# The connection has no say: answer the segment with the RST of RFC 9293 §3.10.7.1.
NEEDS_RESET: Final = 1

_TS_RECENT_VALID_US: Final = 24 * 86_400 * SECOND  # RFC 7323 §5.5


def segment_arrives(tcb: Tcb, seg: Segment, now: i64) -> i64:
    """Process one segment whose checksum is right. Returns DONE or NEEDS_RESET."""
    if not tcb.is_touched:
        tcb.touch()
    if tcb.state == st.SYN_SENT:
        return _syn_sent(tcb, seg, now)
    if tcb.has_timestamps and not _check_timestamps(tcb, seg, now):
        return DONE
    # First: the sequence number. The usual segment is the next one and fits.
    if (seg.seq != tcb.rcv_nxt or seg.length > tcb.rcv_wnd()) and not _check_sequence(tcb, seg, now):
        return DONE
    # Second, third (security: not used), fourth.
    if seg.flags & (RST | SYN) != 0:
        if seg.flags & RST:
            _check_reset(tcb, seg, now)
        else:
            _check_syn(tcb, seg, now)
        return DONE
    # Fifth: the acknowledgment.
    if not seg.flags & ACK:
        return DONE
    tcb.last_received_at = now
    tcb.unanswered_probes = 0
    if tcb.state == st.SYN_RECEIVED and not _check_ack_of_syn(tcb, seg, now):
        return NEEDS_RESET
    if not _check_ack(tcb, seg, now):
        return DONE
    if tcb.has_timestamps and seq_le(seg.seq, tcb.last_ack_sent) and seq_ge(seg.ts_val, tcb.ts_recent):
        # RFC 7323 §4.3: the segment that the next ACK answers to.
        tcb.ts_recent = seg.ts_val
        tcb.ts_recent_at = now
    # Sixth: urgent data are delivered in line; the pointer is news for the application.
    if seg.flags & URG:
        _check_urgent(tcb, seg)
    # Seventh: the text. Eighth: FIN.
    if seg.data_end > seg.data_start or seg.flags & FIN:
        _process_text(tcb, seg, now)
        if tcb.fin_position >= 0:
            _process_fin(tcb, now)
    return DONE


# -- SYN-SENT: §3.10.7.3 ---------------------------------------------------------------------------------


def _syn_sent(tcb: Tcb, seg: Segment, now: i64) -> i64:
    has_ack = seg.flags & ACK != 0
    if has_ack and (seq_le(seg.ack, tcb.iss) or seq_gt(seg.ack, tcb.snd_nxt)):
        return DONE if seg.flags & RST else NEEDS_RESET
    if seg.flags & RST:
        if has_ack:
            tcb.host.counters.resets_in += 1
            tcb.end(Refused)
        return DONE
    if not seg.flags & SYN:
        return DONE
    tcb.last_received_at = now
    tcb.irs = seg.seq
    tcb.rcv_nxt = seq_add(seg.seq, 1)
    tcb.rcv_adv = tcb.rcv_nxt
    tcb.use_peer_options(seg, now)
    # RFC 3168 §6.1.1: agreed to by ECE without CWR.
    config = tcb.host.config
    tcb.has_ecn = config.ecn_request and seg.flags & (ECE | CWR) == ECE and tcb.retransmissions == 0
    # The window in a SYN is not scaled (RFC 7323 §2.2).
    _set_send_window(tcb, seg, seg.window)
    if has_ack:
        tcb.snd_una = seg.ack
        _syn_acknowledged(tcb, seg, now)
        # The SYN's own window limits what its text may be: all that fits in our buffer.
        tcb.rcv_adv = seq_add(tcb.rcv_nxt, min(65535, tcb.receive_space()))
        tcb.must_ack_now = True
        if seg.data_end > seg.data_start or seg.flags & FIN:
            _process_text(tcb, seg, now)
            if tcb.fin_position >= 0:
                _process_fin(tcb, now)
        return DONE
    # Simultaneous open (MUST-10): answer with SYN,ACK from the same ISS.
    tcb.set_state(st.SYN_RECEIVED)
    tcb.must_send_syn = True
    tcb.syn_sent_at = NEVER  # Karn: an ACK could be for either of the two
    return DONE


# -- first: sequence number --------------------------------------------------------------------------------


def _check_sequence(tcb: Tcb, seg: Segment, now: i64) -> bool:
    """Table 6 of RFC 9293: does any of the segment lie in the window?"""
    window = tcb.rcv_wnd()
    seq = seg.seq
    if seg.length == 0:
        if seq == tcb.rcv_nxt or in_window(seq, tcb.rcv_nxt, window):
            return True
    elif window == 0:
        # MUST-66: at a zero window the ACK and RST of a segment at RCV.NXT still count; its text is cut off.
        if seq == tcb.rcv_nxt:
            tcb.must_ack_now = True
            return True
    elif in_window(seq, tcb.rcv_nxt, window) or in_window(seq_add(seq, seg.length - 1), tcb.rcv_nxt, window):
        return True
    if seg.flags & RST:
        return False
    if (
        tcb.state == st.SYN_RECEIVED
        and not tcb.is_passive
        and seg.flags & (SYN | ACK) == SYN | ACK
        and seq == tcb.irs
    ):
        # Simultaneous open (MUST-10): the peer's SYN,ACK repeats its SYN, which we have; the ACK is news.
        seg.seq = tcb.rcv_nxt
        seg.flags &= ~SYN
        seg.length -= 1
        seg.window >>= tcb.snd_wind_shift  # a window beside SYN is not scaled, and will be
        tcb.must_ack_now = True
        return True
    tcb.host.counters.segments_unacceptable += 1
    if tcb.state == st.SYN_RECEIVED and seg.flags & SYN and seq == tcb.irs:
        _repeat_syn_ack(tcb)
        return False
    if tcb.state == st.TIME_WAIT and seg.flags & FIN:
        # Our last ACK was lost (§3.10.7.4, eighth, TIME-WAIT): acknowledge and restart the wait.
        tcb.time_wait_deadline = now + 2 * tcb.host.config.msl_us
    if seg.data_end > seg.data_start:
        tcb.host.counters.segments_duplicate += 1
        if seq_lt(seq, tcb.rcv_nxt):
            tcb.duplicate_start = seq  # for D-SACK
            tcb.duplicate_end = seq_add(seq, seg.data_end - seg.data_start)
    if seg.length > 0 and not seg.flags & SYN:
        tcb.last_received_at = now
        tcb.must_ack_now = True
    elif tcb.may_send_challenge_ack(now):
        # Without text it may be an ACK for an ACK of ours that the peer found wrong: no endless game of that.
        tcb.must_ack_now = True
    return False


def _check_timestamps(tcb: Tcb, seg: Segment, now: i64) -> bool:
    """PAWS (RFC 7323 §5.3), before the sequence number; RST is exempt (§5.2)."""
    if seg.flags & RST:
        return True
    if not seg.has_timestamps:
        if not tcb.host.config.drop_missing_timestamps:
            seg.ts_val = tcb.ts_recent
            return True
        tcb.host.counters.dropped_without_timestamps += 1
        return False
    if seq_ge(seg.ts_val, tcb.ts_recent):
        return True
    if now - tcb.ts_recent_at > _TS_RECENT_VALID_US:
        tcb.ts_recent = seg.ts_val  # §5.5: idle for so long that the clock may have wrapped
        tcb.ts_recent_at = now
        return True
    if tcb.state == st.SYN_RECEIVED and seg.flags & SYN:
        return True  # the peer's SYN again
    tcb.host.counters.dropped_paws += 1
    tcb.must_ack_now = True
    return False


def may_reopen(tcb: Tcb, seg: Segment) -> bool:
    """RFC 6191 §2, RFC 9293 §3.6.1: a SYN with later timestamps, or else beyond the old sequence numbers."""
    if seg.flags & (SYN | ACK | RST | FIN) != SYN:
        return False
    if tcb.has_timestamps and seg.has_timestamps and seg.ts_val != tcb.ts_recent:
        return seq_gt(seg.ts_val, tcb.ts_recent)
    return seq_gt(seg.seq, tcb.rcv_nxt)


# -- second: RST -------------------------------------------------------------------------------------------


def _check_reset(tcb: Tcb, seg: Segment, now: i64) -> None:
    """RFC 9293 §3.10.7.4 second check (RFC 5961 §3): only the exact number resets; others are challenged."""
    if seg.seq != tcb.rcv_nxt:
        _challenge(tcb, now)
        return
    if tcb.state == st.TIME_WAIT and tcb.host.config.time_wait_ignores_reset:
        return  # RFC 1337: it may be an old one, and would open the door to old data
    tcb.host.counters.resets_in += 1
    if tcb.state == st.SYN_RECEIVED:
        # MUST-11: a passive one returns to LISTEN, silently; an active one was refused.
        tcb.end(None if tcb.is_passive else Refused)
    elif tcb.state == st.CLOSING or tcb.state == st.LAST_ACK or tcb.state == st.TIME_WAIT:
        tcb.end(None)
    else:
        tcb.end(Reset)


# -- fourth: SYN -------------------------------------------------------------------------------------------


def _check_syn(tcb: Tcb, seg: Segment, now: i64) -> None:
    """A SYN inside the window: back to LISTEN from a passive SYN-RECEIVED, else challenged (RFC 5961 §4)."""
    if tcb.state == st.SYN_RECEIVED and seg.seq == tcb.irs:
        _repeat_syn_ack(tcb)  # the SYN that we have, in the window by the text it carries
    elif tcb.state == st.SYN_RECEIVED and tcb.is_passive:
        tcb.end(None)
    else:
        _challenge(tcb, now)


def _repeat_syn_ack(tcb: Tcb) -> None:
    """The peer repeats its SYN, so our SYN,ACK was lost. Repeat that; an ACK would not help it."""
    tcb.must_send_syn = True
    tcb.syn_sent_at = NEVER


def _challenge(tcb: Tcb, now: i64) -> None:
    if tcb.may_send_challenge_ack(now):
        tcb.host.counters.challenge_acks += 1
        tcb.must_ack_now = True


# -- fifth: ACK --------------------------------------------------------------------------------------------


def _check_ack_of_syn(tcb: Tcb, seg: Segment, now: i64) -> bool:
    """SYN-RECEIVED: does the segment acknowledge our SYN? Then ESTABLISHED, else RST."""
    if not (seq_lt(tcb.snd_una, seg.ack) and seq_le(seg.ack, tcb.snd_nxt)):
        return False
    tcb.snd_una = seq_add(tcb.iss, 1)
    _set_send_window(tcb, seg, seg.window << tcb.snd_wind_shift)
    _syn_acknowledged(tcb, seg, now)
    return True


def _syn_acknowledged(tcb: Tcb, seg: Segment, now: i64) -> None:
    if tcb.syn_sent_at != NEVER:
        tcb.rtt.sample(now - tcb.syn_sent_at)
        tcb.rack.on_handshake(now - tcb.syn_sent_at, now)
        tcb.syn_sent_at = NEVER
    elif tcb.has_timestamps and seg.has_timestamps and seg.ts_ecr != 0:
        # It was sent more than once; the echo tells which one arrived (RFC 7323 §4.1, RFC 6298 §3).
        elapsed = (tcb.timestamp(now) - seg.ts_ecr) & 0xFFFF_FFFF
        if elapsed < 0x8000_0000:
            tcb.rtt.sample(elapsed * 1000)
    tcb.retransmission_deadline = NEVER
    tcb.must_send_syn = False
    tcb.established(now)


def _check_ack(tcb: Tcb, seg: Segment, now: i64) -> bool:
    ack = seg.ack
    acked = seq_diff(ack, tcb.snd_una)
    if acked > 0:
        if seq_gt(ack, tcb.snd_nxt):
            # It acknowledges something not yet sent.
            _challenge(tcb, now)
            return False
        _acknowledge(tcb, seg, acked, now)
        if tcb.state == st.CLOSED:
            return False
    elif acked == 0:
        if tcb.scoreboard.una < tcb.scoreboard.end:
            acknowledgment_arrives(tcb, seg, 0, now)
    elif -acked > tcb.max_snd_wnd:
        # RFC 5961 §5.2: older than any ACK that can still be under way.
        _challenge(tcb, now)
        return False
    # SND.WL1, SND.WL2 keep old segments from moving the window back.
    if acked >= 0 and (seq_lt(tcb.snd_wl1, seg.seq) or (tcb.snd_wl1 == seg.seq and seq_le(tcb.snd_wl2, ack))):
        _set_send_window(tcb, seg, seg.window << tcb.snd_wind_shift)
    return True


def _acknowledge(tcb: Tcb, seg: Segment, acked: i64, now: i64) -> None:
    """SND.UNA < SEG.ACK =< SND.NXT: something new was acknowledged."""
    is_fin_acked = tcb.is_fin_sent and seg.ack == tcb.snd_nxt
    acknowledgment_arrives(tcb, seg, acked, now)
    tcb.send_buffer.advance(acked - 1 if is_fin_acked else acked)
    tcb.snd_una = seg.ack
    tcb.unacked_since = now
    # The timeout stays backed off until a segment that was sent once gives a sample (Karn, RFC 6298 §5.7):
    # were it to fall back here, a path slower than the timeout would be sent everything twice, and never be
    # measured.
    tcb.retransmissions = 0
    tcb.persist_shift = 0
    tcb.host.neighbors.confirm(tcb.neighbor, now)
    if tcb.snd_una == tcb.snd_nxt:
        tcb.retransmission_deadline = NEVER
        tcb.probe_deadline = NEVER
        tcb.reorder_deadline = NEVER
    else:
        tcb.retransmission_deadline = now + tcb.rtt.rto_us  # RFC 6298 (5.3)
        out.schedule_tail_loss_probe(tcb, now)
    _grow_send_buffer(tcb)
    if tcb.is_send_short and (tcb.send_limit - tcb.send_buffer.size) * 3 >= tcb.send_limit:
        tcb.is_send_short = False
        tcb.post(EVENT_WRITABLE)
    if is_fin_acked:
        if tcb.state == st.FIN_WAIT_1:
            tcb.set_state(st.FIN_WAIT_2)
            if tcb.is_reading_ended:
                tcb.time_wait_deadline = now + tcb.host.config.fin_wait_2_us
        elif tcb.state == st.CLOSING:
            _enter_time_wait(tcb, now)
        elif tcb.state == st.LAST_ACK:
            tcb.end(None)


def _set_send_window(tcb: Tcb, seg: Segment, window: i64) -> None:
    if window > 0 and tcb.snd_wnd == 0:
        # A window that opens ends the probing; output arms the timer anew when it is still too small.
        # One that was open before leaves the timer alone: it may be the override of MUST-38.
        tcb.persist_shift = 0
        tcb.persist_deadline = NEVER
    tcb.snd_wnd = window
    tcb.snd_wl1 = seg.seq
    tcb.snd_wl2 = seg.ack
    if window > tcb.max_snd_wnd:
        tcb.max_snd_wnd = window


def _grow_send_buffer(tcb: Tcb) -> None:
    """Room for two congestion windows: one in flight, one waiting (as Linux does)."""
    if not tcb.may_tune_send_buffer:
        return
    wanted = tcb.congestion.cwnd * 2
    limit: i64 = tcb.host.config.send_buffer_limit
    if wanted > limit:
        wanted = limit
    if wanted > tcb.send_limit:
        tcb.send_limit = wanted


# -- sixth: URG ------------------------------------------------------------------------------------------


def _check_urgent(tcb: Tcb, seg: Segment) -> None:
    """RFC 9293 §3.8.5: the pointer names the first byte behind the urgent data (MUST-62)."""
    if tcb.is_fin_received:
        return
    end = tcb.received + seq_diff(seg.seq, tcb.rcv_nxt) + seg.urgent_pointer
    if end > tcb.urgent_end and end > tcb.received:
        tcb.urgent_end = end
        tcb.post(EVENT_URGENT)


# -- seventh: text -----------------------------------------------------------------------------------------


def _process_text(tcb: Tcb, seg: Segment, now: i64) -> None:
    """Take what of the segment lies in the window; deliver what is in order, keep what is not."""
    if tcb.is_fin_received:
        return  # §3.10.7.4: after the peer's FIN there should be no text; ignore it
    begin = seg.data_start
    end = seg.data_end
    seq = seg.seq
    if seg.flags & SYN:
        seq = seq_add(seq, 1)
    ahead = seq_diff(seq, tcb.rcv_nxt)  # how far the text lies ahead of RCV.NXT; negative: partly old
    window = tcb.rcv_wnd()
    if seg.flags & FIN and ahead + (end - begin) <= window:
        tcb.fin_position = tcb.received + ahead + (end - begin)
    if tcb.has_ecn:
        _note_congestion_marks(tcb, seg)
    if ahead < 0:
        if end > begin:
            tcb.duplicate_start = seq  # for D-SACK: the part that we have
            tcb.duplicate_end = tcb.rcv_nxt
        begin -= ahead
        ahead = 0
        tcb.must_ack_now = True
    elif ahead > 0:
        tcb.must_ack_now = (
            True  # RFC 5681 §4.2: at once, for the peer's fast retransmit; for a bare FIN as well
        )
    if ahead + (end - begin) > window:
        end = begin + window - ahead
        tcb.must_ack_now = True
    if begin >= end:
        return
    if tcb.is_reading_ended:
        # SHLD-3: nobody will read it, and the peer must learn that.
        out.send_reset(tcb, now)
        tcb.end(None)
        return
    reassembly = tcb.reassembly
    if ahead > 0:
        tcb.host.counters.segments_out_of_order += 1
        if reassembly is None:
            reassembly = Reassembly()
            tcb.reassembly = reassembly
        host = tcb.host
        if (
            len(reassembly) >= host.config.reassembly_limit
            or host.reassembly_bytes + (end - begin) > host.config.reassembly_total_bytes
        ):
            tcb.host.counters.dropped_reassembly_full += 1
            return
        _note_overlap(tcb, reassembly, tcb.received + ahead, end - begin)
        host.reassembly_bytes += reassembly.add(tcb.received + ahead, seg.frame[begin:end])
        return
    if reassembly is None or len(reassembly) == 0:
        frame = seg.frame
        if end == len(frame):
            _deliver(tcb, frame, begin)
        else:
            _deliver(tcb, frame[begin:end], 0)  # padding, or what lies beyond the window
    else:
        # Through the queue, so that bytes which came before stay as they were (its overlap policy).
        if tcb.duplicate_start < 0:
            _note_overlap(tcb, reassembly, tcb.received, end - begin)
        kept = reassembly.size
        reassembly.add(tcb.received, seg.frame[begin:end])
        for piece in reassembly.take_at(tcb.received):
            _deliver(tcb, piece, 0)
        tcb.host.reassembly_bytes += reassembly.size - kept
        tcb.must_ack_now = True  # RFC 5681 §4.2: a gap was filled, wholly or in part
    tcb.post(EVENT_READABLE)
    if tcb.unacked_bytes >= 2 * tcb.rmss:
        tcb.must_ack_now = True  # SHLD-19
    elif tcb.quick_acks > 0 and end - begin >= tcb.rmss - TIMESTAMPS_LENGTH:
        tcb.quick_acks -= 1
        tcb.must_ack_now = True
    elif tcb.ack_deadline == NEVER:
        tcb.ack_deadline = now + tcb.host.config.delayed_ack_us


def _note_overlap(tcb: Tcb, reassembly: Reassembly, position: i64, count: i64) -> None:
    """RFC 2883 §4: of `count` bytes at `position`, report the first part that was kept already."""
    duplicate = reassembly.overlap(position, position + count)
    if duplicate is not None:
        start, end = duplicate
        tcb.duplicate_start = seq_add(tcb.rcv_nxt, start - tcb.received)
        tcb.duplicate_end = seq_add(tcb.rcv_nxt, end - tcb.received)


def _note_congestion_marks(tcb: Tcb, seg: Segment) -> None:
    """RFC 3168 §6.1.3: echo a CE mark until the peer says by CWR that it has heard."""
    if seg.flags & CWR:
        tcb.must_echo_ecn = False
    if seg.is_ce:
        tcb.must_echo_ecn = True
        tcb.must_ack_now = True


def _deliver(tcb: Tcb, data: bytes, start: i64) -> None:
    """Hand data[start:] over to the reader, and acknowledge it some time."""
    count: i64 = len(data) - start
    tcb.receive_buffer.append(data, start)
    tcb.received += count
    tcb.bytes_in += count
    tcb.rcv_nxt = seq_add(tcb.rcv_nxt, count)
    tcb.unacked_bytes += count


# -- eighth: FIN -------------------------------------------------------------------------------------------


def _process_fin(tcb: Tcb, now: i64) -> None:
    """The peer's FIN was seen; it takes effect once RCV.NXT has reached it."""
    if tcb.is_fin_received or tcb.received != tcb.fin_position or tcb.state == st.CLOSED:
        return
    tcb.is_fin_received = True
    tcb.rcv_nxt = seq_add(tcb.rcv_nxt, 1)
    if seq_lt(tcb.rcv_adv, tcb.rcv_nxt):
        tcb.rcv_adv = tcb.rcv_nxt
    tcb.must_ack_now = True
    tcb.post(EVENT_PEER_CLOSED)
    if tcb.state == st.ESTABLISHED:
        tcb.set_state(st.CLOSE_WAIT)
    elif tcb.state == st.FIN_WAIT_1:
        # Our FIN is not acknowledged, or the check before would have moved us to FIN-WAIT-2.
        tcb.set_state(st.CLOSING)
    elif tcb.state == st.FIN_WAIT_2:
        _enter_time_wait(tcb, now)


def _enter_time_wait(tcb: Tcb, now: i64) -> None:
    tcb.set_state(st.TIME_WAIT)
    tcb.stop_timers()
    tcb.time_wait_deadline = now + 2 * tcb.host.config.msl_us
    tcb.host.time_wait[tcb.four_tuple] = tcb
