"""What the passing of time does to a connection.

Source:     RFC 6298 §5 (retransmission), RFC 8985 §6.2, §7 (reordering, tail loss probe), RFC 9293 §3.8.3
            (R1, R2), §3.8.4 (keep-alive), §3.8.6.1 (zero-window probes), §3.8.6.3 (delayed ACK), §3.6.1
            (TIME-WAIT); RFC 5482 (user timeout).
Invariants: `next_deadline` is the least of the timers that `handle_deadline` looks at, so after
            handle_deadline(t) and a flush the next deadline lies behind t, or something was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from appliance.errors import TimedOut, Unreachable
from appliance.stack.neighbor import FAILED
from appliance.stack.tcp import output as out, state as st
from appliance.stack.tcp.recovery import enter_loss, reordering_timer_fired
from appliance.stack.tcp.tcb import OPEN
from appliance.stack.timebase import NEVER

if TYPE_CHECKING:
    from appliance.stack.tcp.tcb import Tcb

__all__ = ["handle_deadline", "next_deadline"]


def next_deadline(tcb: Tcb) -> i64:
    earliest = tcb.retransmission_deadline
    if tcb.ack_deadline < earliest:
        earliest = tcb.ack_deadline
    if tcb.probe_deadline < earliest:
        earliest = tcb.probe_deadline
    if tcb.reorder_deadline < earliest:
        earliest = tcb.reorder_deadline
    if tcb.persist_deadline < earliest:
        earliest = tcb.persist_deadline
    if tcb.time_wait_deadline < earliest:
        earliest = tcb.time_wait_deadline
    if tcb.keepalive_deadline < earliest:
        earliest = tcb.keepalive_deadline
    return earliest


def handle_deadline(tcb: Tcb, now: i64) -> None:
    """Do all that is due; before its time this is a no-op. Output follows with the next flush."""
    if tcb.time_wait_deadline <= now:
        tcb.end(None)
        return
    if tcb.reorder_deadline <= now:
        reordering_timer_fired(tcb, now)
        tcb.touch()
    if tcb.retransmission_deadline <= now:
        _on_retransmission_timeout(tcb, now)
    if tcb.probe_deadline <= now:
        _on_probe_timeout(tcb, now)
    if tcb.persist_deadline <= now:
        _on_persist_timeout(tcb, now)
    if tcb.ack_deadline <= now:
        tcb.ack_deadline = NEVER
        tcb.must_ack_now = True
        tcb.touch()
    if tcb.keepalive_deadline <= now:
        _on_keepalive_timeout(tcb, now)


def _on_retransmission_timeout(tcb: Tcb, now: i64) -> None:
    config = tcb.host.config
    if tcb.state == st.SYN_SENT and tcb.neighbor.state == FAILED:
        # Nobody on the link has that address: the host is not there, not slow (Linux: EHOSTUNREACH).
        tcb.soft_error = "no answer to ARP"
        tcb.end(Unreachable)
        return
    limit: i64 = config.r2
    is_held_open = False
    if tcb.state == st.SYN_SENT:
        limit = config.syn_retries
    elif tcb.state == st.SYN_RECEIVED:
        limit = config.syn_ack_retries
    elif tcb.snd_wnd == 0 and not tcb.is_reading_ended and now - tcb.last_received_at < 2 * config.rto_max_us:
        # SHLD-17: the peer answers, it just has no room for what it had room for before.
        is_held_open = True
    is_established = tcb.state >= st.ESTABLISHED
    if is_held_open:
        is_over = False
    elif is_established and tcb.user_timeout_us > 0:
        # MUST-21: the application's own R2, shorter or longer than ours.
        is_over = now - tcb.unacked_since >= tcb.user_timeout_us
    else:
        is_over = tcb.retransmissions >= limit
    if is_over:
        if tcb.state != st.SYN_SENT:
            out.send_reset(tcb, now)
        tcb.end(TimedOut)
        return
    tcb.host.counters.retransmission_timeouts += 1
    tcb.retransmissions += 1
    if tcb.retransmissions == config.r1:
        tcb.host.neighbors.suspect(tcb.neighbor)
        tcb.advise("the peer does not answer")
    tcb.rtt.back_off()
    if is_established:
        enter_loss(tcb, now)
        if tcb.retransmissions >= config.r1 and tcb.scoreboard.outstanding() >= tcb.smss and not is_held_open:
            # Full-sized segments vanish and nobody says why: perhaps they are too long (RFC 4821 §7.7).
            paths = tcb.host.path_mtus
            if paths.on_black_hole_suspected(tcb.remote_address, now):
                tcb.path_mtu_changed(paths.get(tcb.remote_address))
    else:
        tcb.must_send_syn = True
        tcb.total_retransmissions += 1
        tcb.host.counters.segments_retransmitted += 1
    tcb.probe_deadline = NEVER
    tcb.retransmission_deadline = now + tcb.rtt.rto_us
    if is_established and tcb.user_timeout_us > 0:
        tcb.retransmission_deadline = min(
            tcb.retransmission_deadline, max(tcb.unacked_since + tcb.user_timeout_us, now + 1)
        )
    tcb.touch()


def _on_probe_timeout(tcb: Tcb, now: i64) -> None:
    """The tail of what was sent may be lost: ask, earlier than the retransmission timer would."""
    tcb.probe_deadline = NEVER
    if tcb.scoreboard.outstanding() == 0 or tcb.recovery != OPEN or tcb.tlp_end >= 0:
        return
    if tcb.scoreboard.sacked_bytes > 0:
        return  # RFC 8985 §7.2: the reordering timer does the asking
    tcb.host.counters.tail_loss_probes += 1
    out.send_tail_loss_probe(tcb, now)
    tcb.retransmission_deadline = now + tcb.rtt.rto_us  # RFC 8985 §7.3
    tcb.touch()


def _on_persist_timeout(tcb: Tcb, now: i64) -> None:
    tcb.touch()
    if tcb.snd_wnd > 0:
        # Silly window avoidance has waited long enough (MUST-38, the override timeout).
        tcb.persist_deadline = NEVER
        tcb.is_forced = True
        return
    config = tcb.host.config
    # MUST-37 keeps a zero window open while the peer answers; but when our side is closed, nobody is left to
    # give up, and the peer could hold the memory for ever (Linux limits such orphans as well).
    if tcb.unanswered_probes >= config.r2 or (tcb.is_reading_ended and tcb.persist_shift >= config.r2):
        out.send_reset(tcb, now)
        tcb.end(TimedOut)
        return
    tcb.unanswered_probes += 1
    tcb.host.counters.zero_window_probes += 1
    out.send_probe(tcb, now)
    # SHLD-30: the interval doubles.
    if tcb.persist_shift < 16:
        tcb.persist_shift += 1
    interval = tcb.rtt.rto_us << tcb.persist_shift
    if interval > config.rto_max_us:
        interval = config.rto_max_us
    tcb.persist_deadline = now + interval


def _on_keepalive_timeout(tcb: Tcb, now: i64) -> None:
    due: i64 = tcb.last_received_at + tcb.keepalive_idle_us
    if tcb.state < st.ESTABLISHED or tcb.state == st.TIME_WAIT:
        tcb.keepalive_deadline = now + tcb.keepalive_idle_us
    elif now < due:
        # Heard of the peer since: a deadline that moves later costs nothing until it comes.
        tcb.keepalive_deadline = due
    elif tcb.snd_nxt != tcb.snd_una or tcb.persist_deadline != NEVER:
        tcb.keepalive_deadline = now + tcb.keepalive_interval_us  # MUST-26: other timers do the asking
    elif tcb.unanswered_probes >= tcb.keepalive_probes:
        out.send_reset(tcb, now)
        tcb.end(TimedOut)
    else:
        tcb.unanswered_probes += 1
        out.send_probe(tcb, now)
        tcb.keepalive_deadline = now + tcb.keepalive_interval_us
