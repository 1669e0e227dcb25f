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
from appliance.stack.tcp.congestion import DUPLICATE_ACK_THRESHOLD
from appliance.stack.tcp.tcb import EVENT_PEER_CLOSED, EVENT_READABLE, EVENT_WRITABLE
from appliance.stack.timebase import NEVER
from appliance.wire.seqnum import in_window, seq_add, seq_diff, seq_ge, seq_gt, seq_le, seq_lt
from appliance.wire.tcp import ACK, FIN, RST, SYN

if TYPE_CHECKING:
    from appliance.stack.tcp.tcb import Tcb
    from appliance.wire.tcp import Segment

__all__ = ["DONE", "IS_NEW_CONNECTION", "NEEDS_RESET", "segment_arrives"]

DONE: Final = 0
# The connection has no say: answer the segment with the RST of RFC 9293 §3.10.7.1.
NEEDS_RESET: Final = 1
# A SYN that may take over a connection in TIME-WAIT: forget this one and treat the SYN as new.
IS_NEW_CONNECTION: Final = 2


def segment_arrives(tcb: Tcb, seg: Segment, now: i64) -> i64:
    """Process one segment whose checksum is right. Returns DONE, NEEDS_RESET or IS_NEW_CONNECTION."""
    if not tcb.is_touched:
        tcb.touch()
    if tcb.state == st.SYN_SENT:
        return _syn_sent(tcb, seg, now)
    if tcb.state == st.TIME_WAIT and _may_reopen(tcb, seg):
        return IS_NEW_CONNECTION
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
    # Sixth: urgent. The data are delivered in line; the pointer moves nothing.
    # Seventh: the text. Eighth: FIN.
    if seg.data_end > seg.data_start or seg.flags & FIN:
        _process_text(tcb, seg, now)
        if tcb.fin_position >= 0:
            _process_fin(tcb, now)
    return DONE


# -- SYN-SENT: §3.10.7.3 ---------------------------------------------------------------------------------


def _syn_sent(tcb: Tcb, seg: Segment, now: i64) -> i64:
    has_ack = seg.flags & ACK != 0
    if has_ack and (seq_le(seg.ack, tcb.iss) or seq_gt(seg.ack, tcb.snd_max)):
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
    tcb.use_peer_options(seg.mss, seg.window_shift)
    # The window in a SYN is not scaled (RFC 7323 §2.2).
    _set_send_window(tcb, seg, seg.window)
    if has_ack:
        _sample_rtt(tcb, seg.ack, now)
        tcb.snd_una = seg.ack
        tcb.snd_nxt = tcb.snd_max
        tcb.retransmission_deadline = NEVER
        tcb.established(now)
        tcb.rtt.reset_back_off()
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
    tcb.snd_nxt = tcb.iss
    tcb.timed_at = NEVER  # Karn: an ACK could be for either of the two
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
    if seg.length > 0 and not seg.flags & SYN:
        tcb.last_received_at = now
        tcb.must_ack_now = True
    elif tcb.may_send_challenge_ack(now):
        # Without text it may be an ACK for an ACK of ours that the peer found as wrong: no endless game of that.
        tcb.must_ack_now = True
    return False


def _may_reopen(tcb: Tcb, seg: Segment) -> bool:
    """RFC 9293 §3.6.1: a SYN beyond the old connection's sequence numbers may open a new one."""
    return seg.flags & (SYN | ACK | RST | FIN) == SYN and seq_gt(seg.seq, tcb.rcv_nxt)


# -- second: RST -------------------------------------------------------------------------------------------


def _check_reset(tcb: Tcb, seg: Segment, now: i64) -> None:
    """RFC 9293 §3.10.7.4 second check (RFC 5961 §3): only the exact number resets; others are challenged."""
    if seg.seq != tcb.rcv_nxt:
        _challenge(tcb, now)
        return
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
    tcb.snd_nxt = tcb.iss
    tcb.timed_at = NEVER


def _challenge(tcb: Tcb, now: i64) -> None:
    if tcb.may_send_challenge_ack(now):
        tcb.host.counters.challenge_acks += 1
        tcb.must_ack_now = True


# -- fifth: ACK --------------------------------------------------------------------------------------------


def _check_ack_of_syn(tcb: Tcb, seg: Segment, now: i64) -> bool:
    """SYN-RECEIVED: does the segment acknowledge our SYN? Then ESTABLISHED, else RST."""
    if not (seq_lt(tcb.snd_una, seg.ack) and seq_le(seg.ack, tcb.snd_max)):
        return False
    _sample_rtt(tcb, seg.ack, now)
    tcb.snd_una = seq_add(tcb.iss, 1)
    if seq_lt(tcb.snd_nxt, tcb.snd_una):
        tcb.snd_nxt = tcb.snd_una
    tcb.retransmission_deadline = NEVER
    _set_send_window(tcb, seg, seg.window << tcb.snd_wind_shift)
    tcb.established(now)
    tcb.rtt.reset_back_off()
    return True


def _check_ack(tcb: Tcb, seg: Segment, now: i64) -> bool:
    ack = seg.ack
    if ack == tcb.snd_una:
        _note_duplicate(tcb, seg)
    elif seq_gt(ack, tcb.snd_una):
        if seq_gt(ack, tcb.snd_max):
            # It acknowledges something not yet sent.
            _challenge(tcb, now)
            return False
        _acknowledge(tcb, seg, now)
        if tcb.state == st.CLOSED:
            return False
    elif seq_diff(tcb.snd_una, ack) > tcb.max_snd_wnd:
        # RFC 5961 §5.2: older than any ACK that can still be under way.
        _challenge(tcb, now)
        return False
    # SND.WL1, SND.WL2 keep old segments from moving the window back.
    if seq_ge(ack, tcb.snd_una) and (
        seq_lt(tcb.snd_wl1, seg.seq) or (tcb.snd_wl1 == seg.seq and seq_le(tcb.snd_wl2, ack))
    ):
        _set_send_window(tcb, seg, seg.window << tcb.snd_wind_shift)
    return True


def _acknowledge(tcb: Tcb, seg: Segment, now: i64) -> None:
    """SND.UNA < SEG.ACK =< SND.MAX: something new was acknowledged."""
    ack = seg.ack
    flight_before = tcb.flight_size()
    acked = seq_diff(ack, tcb.snd_una)
    _sample_rtt(tcb, ack, now)
    is_fin_acked = tcb.is_fin_sent and ack == tcb.snd_max
    tcb.send_buffer.advance(acked - 1 if is_fin_acked else acked)
    tcb.snd_una = ack
    if seq_lt(tcb.snd_nxt, ack):
        tcb.snd_nxt = ack
    congestion = tcb.congestion
    if congestion.in_recovery:
        if seq_ge(ack, congestion.recover):
            congestion.on_full_ack(tcb.flight_size())
        else:
            congestion.on_partial_ack(acked)
            tcb.must_retransmit_first = True
    else:
        if congestion.is_after_timeout and seq_ge(ack, congestion.recover):
            congestion.is_after_timeout = False
        congestion.on_ack(acked, flight_before * 2 >= congestion.cwnd)
    # The timeout stays backed off until a segment that was sent once gives a sample (Karn, RFC 6298 §5.7): were
    # it to fall back here, a path slower than the timeout would be sent everything twice, and never be measured.
    tcb.retransmissions = 0
    tcb.persist_shift = 0
    tcb.host.neighbors.confirm(tcb.neighbor, now)
    if tcb.snd_una == tcb.snd_max:
        tcb.retransmission_deadline = NEVER
    else:
        tcb.retransmission_deadline = now + tcb.rtt.rto_us  # RFC 6298 (5.3)
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


def _note_duplicate(tcb: Tcb, seg: Segment) -> None:
    """RFC 5681 §2's duplicate acknowledgment, and what the third one starts (RFC 6582)."""
    if tcb.snd_max == tcb.snd_una or seg.length != 0 or seg.window << tcb.snd_wind_shift != tcb.snd_wnd:
        return
    congestion = tcb.congestion
    if congestion.in_recovery:
        congestion.on_duplicate_in_recovery()
        return
    congestion.duplicate_acks += 1
    if congestion.duplicate_acks == DUPLICATE_ACK_THRESHOLD and seq_gt(tcb.snd_una, congestion.recover):
        congestion.on_fast_retransmit(tcb.flight_size(), tcb.snd_max)
        tcb.host.counters.fast_retransmits += 1
        tcb.must_retransmit_first = True


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


def _sample_rtt(tcb: Tcb, ack: i64, now: i64) -> None:
    if tcb.timed_at != NEVER and seq_ge(ack, tcb.timed_seq):
        tcb.rtt.sample(now - tcb.timed_at)
        tcb.timed_at = NEVER


def _grow_send_buffer(tcb: Tcb) -> None:
    """Room for two congestion windows: one in flight, one waiting (as Linux does)."""
    wanted = tcb.congestion.cwnd * 2
    limit: i64 = tcb.host.config.send_buffer_limit
    if wanted > limit:
        wanted = limit
    if wanted > tcb.send_limit:
        tcb.send_limit = wanted


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
    if ahead < 0:
        begin -= ahead
        ahead = 0
        tcb.must_ack_now = True
    elif ahead > 0:
        tcb.must_ack_now = True  # RFC 5681 §4.2: at once, for the peer's fast retransmit; for a bare FIN as well
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
        if len(reassembly) >= tcb.host.config.reassembly_limit:
            tcb.host.counters.dropped_reassembly_full += 1
            return
        reassembly.add(tcb.received + ahead, seg.frame[begin:end])
        return
    if reassembly is None or len(reassembly) == 0:
        _deliver(tcb, seg.frame[begin:end])
    else:
        # Through the queue, so that bytes which came before stay as they were (its overlap policy).
        reassembly.add(tcb.received, seg.frame[begin:end])
        for piece in reassembly.take_at(tcb.received):
            _deliver(tcb, piece)
        tcb.must_ack_now = True  # RFC 5681 §4.2: a gap was filled, wholly or in part
    tcb.post(EVENT_READABLE)
    if tcb.unacked_bytes >= 2 * tcb.rmss:
        tcb.must_ack_now = True  # SHLD-19
    elif tcb.ack_deadline == NEVER:
        tcb.ack_deadline = now + tcb.host.config.delayed_ack_us


def _deliver(tcb: Tcb, data: bytes) -> None:
    count: i64 = len(data)
    tcb.receive_buffer.append(data)
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
