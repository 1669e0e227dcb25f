"""The transmission control block: all that is known of one connection.

Source:     RFC 9293 §3.3.1 (the variables and their names), §3.3.2 (states).
Invariants: checked by `check_invariants`, which simulations call after every step:
            SND.UNA <= SND.NXT; the scoreboard covers exactly what lies between them; the right edge that we
            offered never moves left; the retransmission timer runs exactly while something is
            unacknowledged; one deadline per timer.

Only data and the few changes that every other module makes alike live here (a change of state, an event
for the application, the end). What segments do is in `segment_arrives`, what an acknowledgment means for
loss and congestion in `recovery`, what is sent in `output`, what time does in `timers`, what the
application may ask in `connection`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.stack.tcp import state as st
from appliance.stack.tcp.buffers import Reassembly, ReceiveBuffer, SendBuffer
from appliance.stack.tcp.congestion import CongestionControl, make_congestion_control
from appliance.stack.tcp.rack import Rack
from appliance.stack.tcp.rtt import RttEstimator
from appliance.stack.tcp.scoreboard import Scoreboard
from appliance.stack.timebase import NEVER, SECOND
from appliance.wire.seqnum import seq_add, seq_le

if TYPE_CHECKING:
    from appliance.errors import ConnectionFailed
    from appliance.stack.listener import Listener
    from appliance.stack.neighbor import Neighbor
    from appliance.stack.tcp.host import TcpHost
    from appliance.wire.tcp import Segment

__all__ = [
    "CWR",
    "DEFAULT_MSS",
    "EVENT_ADVICE",
    "EVENT_CLOSED",
    "EVENT_OPENED",
    "EVENT_PEER_CLOSED",
    "EVENT_READABLE",
    "EVENT_URGENT",
    "EVENT_WRITABLE",
    "LOSS",
    "OPEN",
    "RECOVERY",
    "RECOVERY_NAMES",
    "TIMESTAMPS_LENGTH",
    "Tcb",
]

EVENT_OPENED: Final = 1
EVENT_READABLE: Final = 2
EVENT_WRITABLE: Final = 4
EVENT_PEER_CLOSED: Final = 8
EVENT_CLOSED: Final = 16
EVENT_ADVICE: Final = 32  # `soft_error` has news: ICMP, or R1 was reached (MUST-47, SHLD-9)
EVENT_URGENT: Final = 64  # the urgent pointer is new or moved on (MUST-32)

# What the sender is in the middle of.
OPEN: Final = 0
RECOVERY: Final = 1  # losses were found and are being repaired, cwnd is PRR's
LOSS: Final = 2  # the retransmission timer fired, slow start from one segment
CWR: Final = 3  # ECN told of congestion: cwnd shrinks, nothing is lost
RECOVERY_NAMES: Final = ("open", "recovery", "loss", "cwr")

DEFAULT_MSS: Final = 536  # RFC 9293 MUST-15
_HEADERS: Final = 40  # IPv4 and TCP without options
_CHALLENGE_PERIOD_US: Final = 5 * SECOND  # RFC 5961 §7's example
TIMESTAMPS_LENGTH: Final = 12  # with the two NOPs before it
_MIN_MSS: Final = 64  # a smaller one is an attack on our CPU, not a path (Linux: TCP_MIN_MSS 88 less options)


class Tcb:
    def __init__(
        self,
        host: TcpHost,
        neighbor: Neighbor,
        local_address: i64,
        local_port: i64,
        remote_address: i64,
        remote_port: i64,
        four_tuple: bytes,
        is_passive: bool,
    ) -> None:
        config = host.config
        self.host: TcpHost = host
        self.neighbor: Neighbor = neighbor
        self.four_tuple: bytes = (
            four_tuple  # source, destination address and ports as they arrive on the wire
        )
        self.local_address: i64 = local_address
        self.local_port: i64 = local_port
        self.remote_address: i64 = remote_address
        self.remote_port: i64 = remote_port
        self.is_passive: bool = is_passive  # MUST-11
        self.listener: Listener | None = None
        self.owner: object | None = None
        self.state: i64 = st.CLOSED
        self.failure_class: type[ConnectionFailed] | None = None
        self.soft_error: str = ""  # the latest that ICMP said of this path (MUST-47)
        self.wants_advice: bool = True  # SHLD-20: the application may turn error reports off

        # Send sequence variables.
        self.iss: i64 = 0
        self.snd_una: i64 = 0
        self.snd_nxt: i64 = 0
        self.snd_wnd: i64 = 0
        self.snd_wl1: i64 = 0
        self.snd_wl2: i64 = 0
        self.snd_wind_shift: i64 = 0
        self.max_snd_wnd: i64 = 0
        self.smss: i64 = DEFAULT_MSS
        self.peer_mss: i64 = DEFAULT_MSS  # what the peer's SYN said, or MUST-15's default
        self.send_buffer: SendBuffer = SendBuffer()
        self.send_limit: i64 = config.send_buffer_initial
        self.is_send_short: bool = False  # the application was told there is no room: tell it when there is
        self.is_fin_queued: bool = False  # FIN follows the send buffer
        self.is_fin_sent: bool = False  # SND.NXT lies behind our FIN
        self.is_nodelay: bool = config.nodelay
        self.is_corked: bool = False  # the application has more to come: no short segments
        self.must_send_syn: bool = False
        self.is_forced: bool = False  # send a short segment after all (a timer asked for it)
        self.is_cwnd_limited: bool = False  # the last flush stopped at cwnd
        self.cwnd_limited_end: i64 = 0  # what was in flight when one last did ends here

        # Loss recovery.
        self.scoreboard: Scoreboard = Scoreboard()
        self.rack: Rack = Rack()
        self.recovery: i64 = OPEN
        self.recovery_point: i64 = 0  # position of SND.NXT when it began (RFC 6582's "recover")
        self.must_resend_first: bool = False  # the timer fired: one segment goes, whatever cwnd and pipe say
        self.duplicate_acks: i64 = 0
        self.limited_transmit_start: i64 = 0  # SND.NXT's position at the first of them
        self.duplicate_bytes: i64 = 0  # of a peer without SACK: what its duplicates say has left the network
        self.prr_delivered: i64 = 0
        self.prr_out: i64 = 0
        self.recover_flight: i64 = 0  # PRR's RecoverFS
        self.undo_retransmissions: i64 = -1  # not yet reported as duplicates; -1: there is nothing to undo
        self.first_retransmission_ts: i64 = -1  # TSval of the first one of this recovery (Eifel)
        self.tlp_end: i64 = -1  # the tail loss probe's end position while it is unanswered
        self.is_tlp_retransmission: bool = False
        self.unacked_since: i64 = 0  # when what is at SND.UNA was first left waiting (user timeout)
        self.user_timeout_us: i64 = config.user_timeout_us  # 0: none (R2 alone)

        # Receive sequence variables.
        self.irs: i64 = 0
        self.rcv_nxt: i64 = 0
        self.rcv_adv: i64 = 0  # the right edge: RCV.NXT + RCV.WND as last advertised
        self.rcv_wind_shift: i64 = 0
        self.is_window_scaled: bool = False  # both SYNs had the option; a shift may still be 0
        self.rmss: i64 = host.mtu - _HEADERS
        self.receive_buffer: ReceiveBuffer = ReceiveBuffer()
        self.receive_limit: i64 = config.receive_buffer_initial
        self.reassembly: Reassembly | None = None  # made when the first segment comes out of order
        self.received: i64 = 0  # bytes in order since the start: RCV.NXT's distance, which never wraps
        self.duplicate_start: i64 = -1  # a duplicate to report by D-SACK once: sequence numbers
        self.duplicate_end: i64 = -1
        self.urgent_end: i64 = -1  # position behind the latest urgent data; -1: there was none
        self.fin_position: i64 = -1  # where the peer's FIN stands in the stream, once it was seen
        self.is_fin_received: bool = False  # and RCV.NXT lies behind it
        self.is_reading_ended: bool = False  # closed by the application: later data draws a RST (SHLD-3)
        self.may_tune_receive_buffer: bool = True
        self.may_tune_send_buffer: bool = True
        self._tuning_since: i64 = 0
        self._challenge_period: i64 = 0
        self._challenges: i64 = 0
        self._tuning_received: i64 = 0

        # Acknowledging.
        self.must_ack_now: bool = False
        self.quick_acks: i64 = config.quick_acks  # full-sized segments still to be acknowledged at once
        self.unacked_bytes: i64 = 0  # received since the last segment that we sent

        # Round-trip time: samples come from the scoreboard, never from what was sent twice (Karn).
        self.rtt: RttEstimator = RttEstimator(config.rto_initial_us, config.rto_min_us, config.rto_max_us)
        self.syn_sent_at: i64 = NEVER  # NEVER: not out, or sent again (Karn)
        self.congestion: CongestionControl = make_congestion_control(
            config.congestion_control, DEFAULT_MSS, config.initial_window
        )
        self.last_sent_at: i64 = 0
        self.last_received_at: i64 = 0

        # Options that both SYNs agreed on.
        self.is_sack_permitted: bool = False
        self.has_timestamps: bool = False
        self.ts_offset: i64 = 0
        self.ts_recent: i64 = 0
        self.ts_recent_at: i64 = 0
        self.last_ack_sent: i64 = 0
        self.has_ecn: bool = False
        self.must_echo_ecn: bool = False  # CE was seen: ECE on every ACK until the peer's CWR
        self.must_send_cwr: bool = False
        self.is_held_by_ecn: bool = False  # ECE came at a cwnd of one segment: the timer sends the next one
        self.cwr_point: i64 = -1  # ECE counts again when this position is acknowledged

        # Timers: one deadline each; NEVER when stopped.
        self.retransmission_deadline: i64 = NEVER
        self.probe_deadline: i64 = NEVER  # tail loss probe
        self.reorder_deadline: i64 = NEVER  # RACK: when an overtaken segment counts as lost
        self.persist_deadline: i64 = NEVER
        self.ack_deadline: i64 = NEVER
        self.time_wait_deadline: i64 = NEVER  # 2 MSL, and the limit on FIN-WAIT-2 once fully closed
        self.keepalive_deadline: i64 = NEVER
        self.keepalive_idle_us: i64 = config.keepalive_idle_us
        self.keepalive_interval_us: i64 = config.keepalive_interval_us
        self.keepalive_probes: i64 = config.keepalive_probes
        self.retransmissions: i64 = 0  # timeouts in a row
        self.persist_shift: i64 = 0
        self.unanswered_probes: i64 = 0  # of either kind: zero window, keep-alive
        # The earliest deadline that whoever keeps the time knows of; see Interface.take_rescheduled.
        self.armed_deadline: i64 = NEVER

        # IP fields that the application may set.
        self.tos: i64 = 0
        self.ttl: i64 = host.ttl
        self.received_tos: i64 = 0  # of the latest segment (MAY-9)
        # Cached start of our frames, made for the neighbour's present link header.
        self.frame_head: bytes = b""
        self.frame_head_for: bytes = b""
        self.addresses_and_ports: bytes = b""
        self.address_sum: i64 = 0  # of the 16-bit words of both addresses

        self.events: i64 = 0
        self.is_ready: bool = False
        self.is_touched: bool = False

        # For people.
        self.bytes_in: i64 = 0
        self.bytes_out: i64 = 0
        self.total_retransmissions: i64 = 0

    # -- changes that several modules make ---------------------------------------------------------

    def set_state(self, state: i64) -> None:
        """The only writer of `state`."""
        assert state in st.TRANSITIONS[self.state], (
            f"{st.rfc_name(self.state)} -> {st.rfc_name(state)} is not in RFC 9293 Figure 5"
        )
        self.state = state

    def post(self, event: i64) -> None:
        """Leave an event for the application."""
        self.events |= event
        if not self.is_ready:
            self.is_ready = True
            self.host.ready.append(self)

    def advise(self, text: str) -> None:
        """A soft error: the connection lives on, and the application may want to know (RFC 9293 §3.9.1.8)."""
        if self.wants_advice:
            self.soft_error = text
            self.post(EVENT_ADVICE)

    def touch(self) -> None:
        """Something may have to be sent, or a deadline has changed: look at it before the next flush."""
        if not self.is_touched:
            self.is_touched = True
            self.host.touched.append(self)

    def end(self, failure: type[ConnectionFailed] | None) -> None:
        """The connection is over: CLOSED, every timer stopped, the TCB given back."""
        if self.state == st.CLOSED:
            return
        if self.listener is not None:
            self.listener.forget(self, self.state == st.SYN_RECEIVED)
        self.set_state(st.CLOSED)
        self.failure_class = failure
        self.stop_timers()
        self.send_buffer = SendBuffer()
        if self.reassembly is not None:
            self.host.reassembly_bytes -= self.reassembly.size
            self.reassembly = None
        self.host.closed.append(self)
        self.post(EVENT_CLOSED)

    def stop_timers(self) -> None:
        self.retransmission_deadline = NEVER
        self.probe_deadline = NEVER
        self.reorder_deadline = NEVER
        self.persist_deadline = NEVER
        self.ack_deadline = NEVER
        self.time_wait_deadline = NEVER
        self.keepalive_deadline = NEVER

    def established(self, now: i64) -> None:
        """Enter ESTABLISHED and tell who waits for it; a close that was asked for before takes effect."""
        self.set_state(st.ESTABLISHED)
        if self.retransmissions > 0:
            self.rtt.use_fallback(3 * SECOND)
            if self.retransmissions > 1:
                self.congestion.cwnd = self.smss  # RFC 6928 §2: a path that lost two SYNs gets one segment
            self.retransmissions = 0
        if self.listener is not None:
            self.listener.opened(self)
        self.post(EVENT_OPENED)
        if self.keepalive_deadline != NEVER:
            self.keepalive_deadline = now + self.keepalive_idle_us
        if self.is_fin_queued:
            self.set_state(st.FIN_WAIT_1)

    def use_peer_options(self, seg: Segment, now: i64) -> None:
        """Agree on options: what the peer's SYN has, of what we offer ourselves."""
        config = self.host.config
        self.is_window_scaled = seg.window_shift >= 0 and config.window_scale
        if self.is_window_scaled:
            self.snd_wind_shift = seg.window_shift
            self.rcv_wind_shift = self.host.receive_shift
        else:
            self.snd_wind_shift = 0
            self.rcv_wind_shift = 0
            self.receive_limit = min(self.receive_limit, 65535)
        self.is_sack_permitted = seg.is_sack_permitted and config.sack
        self.has_timestamps = seg.has_timestamps and config.timestamps
        if self.has_timestamps:
            self.ts_recent = seg.ts_val
            self.ts_recent_at = now
        self.peer_mss = seg.mss if seg.mss >= 0 else DEFAULT_MSS
        self.smss = self.smss_for(self.host.path_mtus.get(self.remote_address))
        self.congestion = make_congestion_control(config.congestion_control, self.smss, config.initial_window)

    def may_send_challenge_ack(self, now: i64) -> bool:
        """RFC 5961 §7: limit them, so that forged segments cannot make us a reflector.

        Per connection and not per host: who can watch one connection of his own run out of a shared allowance
        learns whether his guesses at another one were right (CVE-2016-5696).
        """
        period = now // _CHALLENGE_PERIOD_US
        if period != self._challenge_period:
            self._challenge_period = period
            self._challenges = 0
        self._challenges += 1
        return self._challenges <= self.host.config.challenge_acks

    def timestamp(self, now: i64) -> i64:
        """TSval: milliseconds with an offset of the connection's own (RFC 7323 §5.4)."""
        return (now // 1000 + self.ts_offset) & 0xFFFF_FFFF

    def path_mtu_changed(self, mtu: i64) -> None:
        """Datagrams of up to `mtu` bytes reach the peer from now on, as far as is known (RFC 1191 §6.4).

        What was sent in larger ones did not arrive and is sent again at once, in smaller ones. cwnd stays
        what it is in bytes (RFC 1191 §6.4, RFC 4821 §4): a smaller path is no congestion, a larger one no
        more room.
        """
        if self.state == st.CLOSED or self.state == st.SYN_SENT:
            return  # the peer's MSS is not known yet: `use_peer_options` will look at the path
        smss = self.smss_for(mtu)
        if smss == self.smss or smss > self.congestion.cwnd:
            return
        is_smaller = smss < self.smss
        self.smss = smss
        self.congestion.change_smss(smss)
        self.touch()
        if is_smaller and self.scoreboard.mark_longer_lost(smss) and self.recovery != RECOVERY:
            self.recovery = LOSS
            self.recovery_point = self.scoreboard.end

    def smss_for(self, mtu: i64) -> i64:
        """MUST-16: what the peer takes, but not more than a path of `mtu` bytes carries, less our options."""
        smss = max(min(self.peer_mss, mtu - _HEADERS), _MIN_MSS)
        return smss - TIMESTAMPS_LENGTH if self.has_timestamps else smss

    # -- predicates ----------------------------------------------------------------------------------

    def flight_size(self) -> i64:
        """Bytes sent and not acknowledged, SYN and FIN counted."""
        return (self.snd_nxt - self.snd_una) & 0xFFFF_FFFF

    def pipe(self) -> i64:
        """Bytes believed to be in the network (RFC 6675 §4, RFC 9937's inflight)."""
        pipe = self.scoreboard.pipe() - self.duplicate_bytes
        return max(pipe, 0)

    def receive_space(self) -> i64:
        """Bytes that fit beyond RCV.NXT."""
        space = self.receive_limit - self.receive_buffer.size
        return max(0, space)

    def rcv_wnd(self) -> i64:
        """RCV.WND: what the peer may still send, by what we told it."""
        return (self.rcv_adv - self.rcv_nxt) & 0xFFFF_FFFF

    def tune_receive_buffer(self, count: i64, now: i64) -> None:
        """The application read `count` bytes. Double the buffer while it drains more than half of it a
        round-trip: the window and not the network is then the limit (the idea of dynamic right-sizing)."""
        if not self.may_tune_receive_buffer:
            return
        self._tuning_received += count
        interval = self.rtt.srtt_us
        if interval < 1000:
            interval = 1000
        if now - self._tuning_since >= interval:
            self._tuning_since = now
            self._tuning_received = count
        if self._tuning_received * 2 >= self.receive_limit:
            limit: i64 = self.host.config.receive_buffer_limit
            if self.rcv_wind_shift == 0 and limit > 65535:
                limit = 65535
            doubled = self.receive_limit * 2
            if doubled > limit:
                doubled = limit
            if doubled > self.receive_limit:
                self.receive_limit = doubled
            self._tuning_received = 0

    def check_invariants(self) -> None:
        """Raise AssertionError when the block contradicts itself."""
        assert seq_le(self.snd_una, self.snd_nxt), "SND.UNA > SND.NXT"
        if self.state == st.CLOSED:
            return
        outstanding = self.flight_size() > 0
        if self.state != st.TIME_WAIT and not self.is_touched:
            assert outstanding == (self.retransmission_deadline != NEVER), (
                "retransmission timer and flight disagree"
            )
            assert not (outstanding and self.persist_deadline != NEVER), "persist timer beside data in flight"
        assert seq_le(self.rcv_nxt, self.rcv_adv) or self.is_fin_received, (
            "RCV.NXT beyond the window we offered"
        )
        assert self.congestion.cwnd >= self.congestion.smss, "cwnd below one segment"
        self.scoreboard.check_invariants()
        if self.state >= st.ESTABLISHED:
            assert self.scoreboard.outstanding() == self.flight_size(), "scoreboard and SND.NXT disagree"
            assert self.scoreboard.outstanding() <= self.send_buffer.size + 1, "more in flight than there is"
        assert self.recovery != OPEN or self.scoreboard.lost_bytes == 0, "losses that nobody repairs"
        if self.reassembly is not None:
            previous: i64 = self.received
            for start, end in self.reassembly.blocks():
                assert start >= previous, "reassembly pieces overlap or lie below RCV.NXT"
                previous = end
        assert seq_add(self.irs, self.received + 1 + (1 if self.is_fin_received else 0)) == self.rcv_nxt or (
            self.state == st.SYN_SENT
        ), "RCV.NXT and the count of bytes disagree"
