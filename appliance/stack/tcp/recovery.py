"""What an acknowledgment says about loss and congestion, and what follows from it.

Source:     RFC 8985 (RACK-TLP), RFC 6675 §5 and RFC 6582 (recovery with and without SACK), RFC 9937 (PRR),
            RFC 2883 and RFC 3522 (D-SACK, timestamps: was it spurious?), RFC 5682 (F-RTO), RFC 3168 §6.1.2.
Units:      bytes, microseconds; positions as in `scoreboard`.
Invariants: in OPEN and CWR nothing is presumed lost; RECOVERY and LOSS end when the position that was SND.NXT
            at their start is acknowledged.

The states, each an episode with one reduction of cwnd:
    OPEN      nothing wrong; cwnd belongs to the congestion control
    RECOVERY  losses found by RACK, by three duplicates, or by a partial acknowledgment; cwnd is PRR's
    CWR       the network marked a segment (ECN): cwnd falls like in RECOVERY, but nothing is sent again
    LOSS      the retransmission timer fired: slow start from one segment
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from appliance.stack.tcp.rack import DUPLICATE_ACK_THRESHOLD
from appliance.stack.tcp.tcb import CWR, LOSS, OPEN, RECOVERY
from appliance.stack.timebase import NEVER
from appliance.wire.seqnum import seq_diff, seq_lt
from appliance.wire.tcp import ECE

if TYPE_CHECKING:
    from appliance.stack.tcp.scoreboard import SentSegment
    from appliance.stack.tcp.tcb import Tcb
    from appliance.wire.tcp import Segment

__all__ = ["acknowledgment_arrives", "enter_loss", "reordering_timer_fired"]


def acknowledgment_arrives(tcb: Tcb, seg: Segment, acked: i64, now: i64) -> None:
    """An acceptable ACK, SND.UNA <= SEG.ACK <= SND.NXT, with data in flight; `acked` is how much is new.

    The scoreboard still stands at the old SND.UNA; afterwards at the new one.
    """
    board = tcb.scoreboard
    outstanding_before = board.outstanding()
    sacked_before = board.sacked_bytes
    lost_before = board.lost_bytes
    tcb.rack.on_acknowledgment()
    is_duplicate_reported = False
    newly_sacked: i64 = 0
    if tcb.is_sack_permitted and seg.has_options and seg.sack_blocks:
        is_duplicate_reported = _is_duplicate_report(seg)
        newly_sacked = _take_sack_blocks(tcb, seg, is_duplicate_reported, now)
    delivered = newly_sacked
    rtt_us: i64 = 0
    is_original_delivered = newly_sacked > 0
    if acked > 0:
        position = board.una + acked
        segment = board.pop_acknowledged(position)
        while segment is not None:
            if not segment.is_sacked:
                delivered += segment.end - segment.start
                if segment.retransmissions == 0:
                    is_original_delivered = True
                    if rtt_us == 0:
                        rtt_us = max(now - segment.sent_at, 1)
                _tell_rack(tcb, seg, segment, now)
            segment = board.pop_acknowledged(position)
        if rtt_us > 0:
            tcb.rtt.sample(rtt_us)
        elif tcb.has_timestamps and seg.has_timestamps and seg.ts_ecr != 0:
            # Only what was sent again was acknowledged; the echo tells which transmission (R7323 §4.1).
            elapsed = (tcb.timestamp(now) - seg.ts_ecr) & 0xFFFF_FFFF
            if elapsed < 0x8000_0000:
                tcb.rtt.sample(elapsed * 1000)
        _check_reneging(tcb)
    if not tcb.is_sack_permitted:
        delivered = _count_duplicates(tcb, seg, acked, delivered)
    if is_duplicate_reported:
        tcb.rack.on_duplicate_reported(board.una, board.end)
    is_reducing = tcb.recovery == RECOVERY or tcb.recovery == CWR
    if tcb.recovery == RECOVERY or tcb.recovery == LOSS:
        _check_spurious(tcb, seg, acked, is_duplicate_reported, is_original_delivered)
    if tcb.tlp_end >= 0 and board.una >= tcb.tlp_end:
        _probe_answered(tcb, is_duplicate_reported, outstanding_before, now)
    _detect_losses(tcb, acked, now)
    if tcb.recovery != OPEN and board.una >= tcb.recovery_point and acked > 0:
        _end_recovery(tcb)
    if tcb.has_ecn:
        if not seg.flags & ECE:
            tcb.is_held_by_ecn = False
        elif board.una > tcb.cwr_point:
            _on_ecn_echo(tcb, outstanding_before, now)
    if board.lost_bytes > 0 and (tcb.recovery == OPEN or tcb.recovery == CWR):
        _enter_recovery(tcb, outstanding_before, sacked_before, now)
    if tcb.recovery == RECOVERY or tcb.recovery == CWR:
        _reduce_proportionally(tcb, delivered, acked, board.lost_bytes > lost_before)
    elif acked > 0 and not is_reducing:
        # (The ACK that ends a recovery leaves cwnd at ssthresh: RFC 9937 §6.4, RFC 6582 §3.2.)
        congestion = tcb.congestion
        # A flight that cwnd cut short was limited by it, whatever was sent since (as Linux has it).
        was_limited = (
            tcb.is_cwnd_limited
            or board.una - acked < tcb.cwnd_limited_end
            or (congestion.cwnd < congestion.ssthresh and outstanding_before * 2 >= congestion.cwnd)
        )
        congestion.on_ack(acked, board.una, board.end, rtt_us, now, was_limited)
        if tcb.recovery == OPEN:
            congestion.is_after_timeout = False  # not before: this ACK may stand for a whole window


def enter_loss(tcb: Tcb, now: i64) -> None:
    """The retransmission timer fired: what is old enough is lost, and cwnd is one segment (RFC 8985 §6.3)."""
    board = tcb.scoreboard
    # In RECOVERY cwnd has been reduced for this congestion already, as Linux sees it too; and what is
    # outstanding then, SACKed data included, measures nothing.
    is_first = tcb.recovery != LOSS and tcb.recovery != RECOVERY
    congestion = tcb.congestion
    congestion.on_timeout(min(board.outstanding(), congestion.cwnd), now, is_first)
    if is_first:
        _prepare_undo(tcb)
    tcb.recovery = LOSS
    tcb.recovery_point = board.end
    tcb.must_resend_first = True
    tcb.duplicate_acks = 0
    tcb.duplicate_bytes = 0
    tcb.tlp_end = -1
    tcb.reorder_deadline = NEVER
    if not tcb.is_sack_permitted:
        board.mark_all_lost()
        return
    segments = board.in_flight()
    if segments and segments[0].is_sacked:
        board.forget_sacks()  # reneged: it holds data behind a SACKed left edge and does not acknowledge it
        segments = board.in_flight()
    age = tcb.rack.rtt_us + tcb.rack.reordering_window_us(board, tcb.smss, tcb.rtt.srtt_us, True)
    is_left_edge = True
    for segment in segments:
        if is_left_edge or segment.sent_at + age <= now:
            board.mark_lost(segment)
        is_left_edge = False


def reordering_timer_fired(tcb: Tcb, now: i64) -> None:
    """Nothing more was heard within the reordering window: look again (RFC 8985 §6.2 step 5)."""
    board = tcb.scoreboard
    outstanding = board.outstanding()
    sacked = board.sacked_bytes
    tcb.reorder_deadline = NEVER
    _detect_losses(tcb, 0, now)
    if board.lost_bytes > 0 and (tcb.recovery == OPEN or tcb.recovery == CWR):
        _enter_recovery(tcb, outstanding, sacked, now)
    if board.lost_bytes > 0 and tcb.recovery == RECOVERY:
        _reduce_proportionally(tcb, 0, 0, True)


# -- SACK ------------------------------------------------------------------------------------------------


def _is_duplicate_report(seg: Segment) -> bool:
    """RFC 2883 §5: the first block is a D-SACK when it lies below the ACK or inside the second block."""
    left, right = seg.sack_blocks[0]
    if seq_lt(left, seg.ack) and seq_diff(right, seg.ack) <= 0:
        return True
    if len(seg.sack_blocks) > 1:
        outer_left, outer_right = seg.sack_blocks[1]
        return seq_diff(left, outer_left) >= 0 and seq_diff(right, outer_right) <= 0
    return False


def _take_sack_blocks(tcb: Tcb, seg: Segment, is_first_duplicate: bool, now: i64) -> i64:
    """Mark what is newly SACKed; returns its bytes. Blocks that make no sense are ignored."""
    board = tcb.scoreboard
    newly: i64 = 0
    for left_seq, right_seq in seg.sack_blocks[1:] if is_first_duplicate else seg.sack_blocks:
        left = board.una + seq_diff(left_seq, tcb.snd_una)
        right = board.una + seq_diff(right_seq, tcb.snd_una)
        if left >= right or left < board.una or right > board.end:
            continue
        for segment in board.mark_sacked(left, right):
            newly += segment.end - segment.start
            _tell_rack(tcb, seg, segment, now)
    return newly


def _tell_rack(tcb: Tcb, seg: Segment, segment: SentSegment, now: i64) -> None:
    """`segment` was delivered; where it was sent more than once, the echo may tell which one it was."""
    is_ambiguous = False
    if segment.retransmissions > 0 and seg.has_timestamps and tcb.has_timestamps:
        is_ambiguous = _is_echo_older(seg, tcb.timestamp(segment.sent_at))
    tcb.rack.on_delivered(segment, now, is_ambiguous)


def _is_echo_older(seg: Segment, ts_val: i64) -> bool:
    return seg.ts_ecr != 0 and seq_lt(seg.ts_ecr, ts_val)


def _check_reneging(tcb: Tcb) -> None:
    """The cumulative ACK stops right before something that was SACKed: the receiver threw it away."""
    board = tcb.scoreboard
    if board.sacked_bytes > 0 and board.segments[board.first].is_sacked:
        board.forget_sacks()
        board.mark_all_lost()


# -- without SACK --------------------------------------------------------------------------------------------


def _count_duplicates(tcb: Tcb, seg: Segment, acked: i64, delivered: i64) -> i64:
    """RFC 5681 §2's duplicates; each says that one segment has left the network. Returns bytes delivered."""
    board = tcb.scoreboard
    smss = tcb.smss
    if acked > 0:
        # What the duplicates stood for is acknowledged now, but for the one segment that was missing.
        known = min(tcb.duplicate_bytes, max(acked - smss, 0))
        tcb.duplicate_bytes -= known
        tcb.duplicate_acks = 0
        if tcb.recovery != RECOVERY:
            tcb.duplicate_bytes = 0
        tcb.duplicate_bytes = min(tcb.duplicate_bytes, max(board.outstanding() - board.lost_bytes, 0))
        return max(delivered - known, 0)
    if seg.length != 0 or seg.window << tcb.snd_wind_shift != tcb.snd_wnd:
        return 0
    if tcb.recovery == LOSS:
        return 0  # a copy from before the timeout, and all of that is presumed lost (RFC 6582 §3.2 step 4)
    tcb.duplicate_acks += 1
    if tcb.duplicate_acks == 1:
        tcb.limited_transmit_start = board.end
    room = board.outstanding() - board.lost_bytes - tcb.duplicate_bytes
    tcb.duplicate_bytes += max(min(smss, room), 0)
    return smss


# -- losses --------------------------------------------------------------------------------------------


def _detect_losses(tcb: Tcb, acked: i64, now: i64) -> None:
    board = tcb.scoreboard
    if tcb.is_sack_permitted:
        if board.sacked_bytes > 0 or tcb.recovery != OPEN:
            is_recovering = tcb.recovery == RECOVERY or tcb.recovery == LOSS
            window = tcb.rack.reordering_window_us(board, tcb.smss, tcb.rtt.srtt_us, is_recovering)
            tcb.reorder_deadline = tcb.rack.detect_losses(board, window, now)
        else:
            tcb.reorder_deadline = NEVER
    elif tcb.recovery == RECOVERY:
        if acked > 0 and board.una < tcb.recovery_point:
            board.mark_first_lost(tcb.smss)  # a partial acknowledgment shows the next hole (RFC 6582 §3.2)
    elif tcb.recovery == OPEN and tcb.duplicate_acks >= DUPLICATE_ACK_THRESHOLD:
        # RFC 6582 §3.2 step 2: not for duplicates of what the last recovery itself sent.
        if board.una >= tcb.recovery_point:
            board.mark_first_lost(tcb.smss)


def _enter_recovery(tcb: Tcb, outstanding_before: i64, sacked_before: i64, now: i64) -> None:
    board = tcb.scoreboard
    is_reduced_already = tcb.recovery == CWR
    tcb.recovery = RECOVERY
    tcb.recovery_point = board.end
    tcb.host.counters.fast_retransmits += 1
    _prepare_undo(tcb)
    tcb.tlp_end = -1
    if not is_reduced_already:
        if tcb.duplicate_acks > 0:
            # RFC 5681 §3.2 step 2: what limited transmit added does not count.
            outstanding_before -= board.end - tcb.limited_transmit_start
        _reduce(tcb, outstanding_before, now, False)
        _begin_reduction(tcb, outstanding_before - sacked_before)


def _reduce(tcb: Tcb, outstanding_before: i64, now: i64, is_marked: bool) -> None:
    """One reduction for one episode of congestion. is_marked: ECN said so, nothing was lost.

    An ACK that ends a recovery acknowledges all that was SACKed meanwhile: what lay between SND.UNA and
    SND.NXT before it is up to two windows, and half of that would be no reduction. cwnd is what was in use at
    most.
    """
    congestion = tcb.congestion
    congestion.on_congestion(min(outstanding_before, congestion.cwnd), now, is_marked)


def _begin_reduction(tcb: Tcb, flight: i64) -> None:
    tcb.recover_flight = max(flight, tcb.smss)
    tcb.prr_delivered = 0
    tcb.prr_out = 0


def _reduce_proportionally(tcb: Tcb, delivered: i64, acked: i64, has_new_loss: bool) -> None:
    """PRR (RFC 9937 §6.2): let out as much as comes in, in proportion, until pipe reaches ssthresh."""
    congestion = tcb.congestion
    ssthresh = congestion.target
    pipe = tcb.pipe()
    tcb.prr_delivered += delivered
    if pipe > ssthresh:
        allowed = (tcb.prr_delivered * ssthresh + tcb.recover_flight - 1) // tcb.recover_flight - tcb.prr_out
    else:
        allowed = max(tcb.prr_delivered - tcb.prr_out, delivered)
        if acked > 0 and not has_new_loss:
            allowed += tcb.smss
        allowed = min(allowed, ssthresh - pipe)
    if tcb.prr_out == 0 and tcb.recovery == RECOVERY:
        allowed = max(allowed, tcb.smss)  # the first one always goes
    congestion.cwnd = max(pipe + max(allowed, 0), tcb.smss)


def _end_recovery(tcb: Tcb) -> None:
    if tcb.recovery != LOSS:
        tcb.congestion.cwnd = max(tcb.congestion.target, tcb.smss)
    tcb.recovery = OPEN
    tcb.duplicate_acks = 0
    tcb.duplicate_bytes = 0
    tcb.rack.on_recovery_ended()
    if tcb.scoreboard.lost_bytes > 0 and not tcb.is_sack_permitted:
        tcb.scoreboard.forget_losses()


# -- was it a mistake? ---------------------------------------------------------------------------------


def _prepare_undo(tcb: Tcb) -> None:
    """An episode begins.

    What an earlier one sent again may still be under way: its acknowledgments echo times before this one's
    first retransmission, its duplicates are reported too, and neither says anything of this one (Linux:
    retrans_stamp, undo_retrans).
    """
    count: i64 = 0
    oldest: i64 = NEVER
    for segment in tcb.scoreboard.in_flight():
        if segment.retransmissions > 0 and not segment.is_sacked:
            count += 1
            oldest = min(oldest, segment.sent_at)
    tcb.undo_retransmissions = count
    tcb.first_retransmission_ts = tcb.timestamp(oldest) if count > 0 else -1


def _check_spurious(
    tcb: Tcb, seg: Segment, acked: i64, is_duplicate_reported: bool, is_original_delivered: bool
) -> None:
    """Undo the reduction when what was sent again had arrived the first time."""
    if tcb.undo_retransmissions < 0:
        return
    is_spurious = False
    if is_duplicate_reported and tcb.undo_retransmissions > 0:
        # Every one of them was reported as a duplicate (RFC 2883 §4, as Linux undoes).
        tcb.undo_retransmissions -= 1
        is_spurious = tcb.undo_retransmissions == 0
    if acked > 0 and tcb.has_timestamps and seg.has_timestamps and tcb.first_retransmission_ts >= 0:
        # Eifel (RFC 3522 §3.2): the ACK echoes a time before we sent anything again.
        if _is_echo_older(seg, tcb.first_retransmission_ts):
            is_spurious = True
        else:
            tcb.first_retransmission_ts = -1  # only the first acceptable ACK can tell
    elif tcb.recovery == LOSS and tcb.is_sack_permitted and acked > 0 and is_original_delivered:
        # F-RTO (RFC 5682 §3.1): something that was sent once, before the timeout, arrives now.
        if tcb.scoreboard.una < tcb.recovery_point and tcb.retransmissions == 1:
            is_spurious = True
    if is_spurious:
        tcb.host.counters.spurious_recoveries += 1
        tcb.scoreboard.forget_losses()
        tcb.congestion.on_spurious()
        tcb.congestion.is_after_timeout = False
        tcb.recovery = OPEN
        tcb.undo_retransmissions = -1
        tcb.first_retransmission_ts = -1
        tcb.duplicate_bytes = 0


def _probe_answered(tcb: Tcb, is_duplicate_reported: bool, outstanding_before: i64, now: i64) -> None:
    """The tail loss probe was acknowledged (RFC 8985 §7.4): did it repair a loss?"""
    tcb.tlp_end = -1
    if tcb.is_tlp_retransmission and not is_duplicate_reported and tcb.recovery == OPEN:
        _reduce(tcb, outstanding_before, now, False)
        congestion = tcb.congestion
        congestion.cwnd = max(min(congestion.cwnd, congestion.ssthresh), tcb.smss)


def _on_ecn_echo(tcb: Tcb, outstanding_before: i64, now: i64) -> None:
    """RFC 3168 §6.1.2: like a loss, but once a round trip and with nothing to repair."""
    board = tcb.scoreboard
    tcb.must_send_cwr = True
    tcb.cwr_point = board.end
    if tcb.recovery == OPEN:
        # §6.1.2: at one segment, only the retransmission timer lets the next one go.
        tcb.is_held_by_ecn = tcb.congestion.cwnd <= tcb.smss
        _reduce(tcb, outstanding_before, now, True)
        tcb.recovery = CWR
        tcb.recovery_point = board.end
        tcb.undo_retransmissions = -1
        _begin_reduction(tcb, outstanding_before)
