"""The transmission control block: all that is known of one connection.

Source:     RFC 9293 §3.3.1 (the variables and their names), §3.3.2 (states).
Invariants: checked by `check_invariants`, which simulations call after every step:
            SND.UNA <= SND.NXT <= SND.MAX; the right edge that we offered never moves left; the
            retransmission timer runs exactly while something is unacknowledged; one deadline per timer.

Only data and the few changes that every other module makes alike live here (a change of state, an event
for the application, the end). What segments do is in `segment_arrives`, what is sent in `output`, what
time does in `timers`, what the application may ask in `connection`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.stack.tcp import state as st
from appliance.stack.tcp.buffers import Reassembly, ReceiveBuffer, SendBuffer
from appliance.stack.tcp.congestion import NewReno
from appliance.stack.tcp.rtt import RttEstimator
from appliance.stack.timebase import NEVER, SECOND
from appliance.wire.seqnum import seq_add, seq_diff, seq_le

if TYPE_CHECKING:
    from appliance.errors import ConnectionFailed
    from appliance.stack.listener import Listener
    from appliance.stack.neighbor import Neighbor
    from appliance.stack.tcp.host import TcpHost

__all__ = [
    "DEFAULT_MSS",
    "EVENT_CLOSED",
    "EVENT_OPENED",
    "EVENT_PEER_CLOSED",
    "EVENT_READABLE",
    "EVENT_WRITABLE",
    "Tcb",
]

EVENT_OPENED: Final = 1
EVENT_READABLE: Final = 2
EVENT_WRITABLE: Final = 4
EVENT_PEER_CLOSED: Final = 8
EVENT_CLOSED: Final = 16

DEFAULT_MSS: Final = 536  # RFC 9293 MUST-15
_HEADERS: Final = 40  # IPv4 and TCP without options
_CHALLENGE_PERIOD_US: Final = 5 * SECOND  # RFC 5961 §7's example
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

        # Send sequence variables.
        self.iss: i64 = 0
        self.snd_una: i64 = 0
        self.snd_nxt: i64 = 0  # falls back to snd_una when the retransmission timer fires
        self.snd_max: i64 = 0  # highest snd_nxt ever
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
        self.is_fin_sent: bool = False  # SND.MAX lies behind our FIN
        self.is_nodelay: bool = config.nodelay
        self.must_retransmit_first: bool = False  # one segment from SND.UNA, beside the normal course
        self.is_forced: bool = False  # send one segment whatever the window says (a timer asked for it)

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
        self.fin_position: i64 = -1  # where the peer's FIN stands in the stream, once it was seen
        self.is_fin_received: bool = False  # and RCV.NXT lies behind it
        self.is_reading_ended: bool = False  # closed by the application: later data draws a RST (SHLD-3)
        self._tuning_since: i64 = 0
        self._tuning_received: i64 = 0

        # Acknowledging.
        self.must_ack_now: bool = False
        self.unacked_bytes: i64 = 0  # received since the last segment that we sent

        # Round-trip time: one segment timed at a time (RFC 6298 §3, Karn).
        self.rtt: RttEstimator = RttEstimator(config.rto_initial_us, config.rto_min_us, config.rto_max_us)
        self.timed_at: i64 = NEVER
        self.timed_seq: i64 = 0  # its last sequence number + 1
        self.congestion: NewReno = NewReno(DEFAULT_MSS, config.initial_window)
        self.last_sent_at: i64 = 0
        self.last_received_at: i64 = 0

        # Timers: one deadline each; NEVER when stopped.
        self.retransmission_deadline: i64 = NEVER
        self.persist_deadline: i64 = NEVER
        self.ack_deadline: i64 = NEVER
        self.time_wait_deadline: i64 = NEVER  # 2 MSL, and the limit on FIN-WAIT-2 once fully closed
        self.keepalive_deadline: i64 = NEVER
        self.retransmissions: i64 = 0  # in a row, of the segment at SND.UNA
        self.persist_shift: i64 = 0
        self.unanswered_probes: i64 = 0  # of either kind: zero window, keep-alive
        # The earliest deadline that whoever keeps the time knows of; see Interface.take_rescheduled.
        self.armed_deadline: i64 = NEVER

        # Cached start of our frames, made for the neighbour's present link header.
        self.frame_head: bytes = b""
        self.frame_head_for: bytes = b""
        self.addresses_and_ports: bytes = b""
        self.ip_sum: i64 = 0
        self.tcp_sum: i64 = 0

        self.events: i64 = 0
        self.is_ready: bool = False
        self.is_touched: bool = False

        # For people.
        self.bytes_in: i64 = 0
        self.bytes_out: i64 = 0
        self.total_retransmissions: i64 = 0

        self._challenge_period: i64 = 0
        self._challenges: i64 = 0

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
        self.reassembly = None
        self.host.closed.append(self)
        self.post(EVENT_CLOSED)

    def stop_timers(self) -> None:
        self.retransmission_deadline = NEVER
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
            self.keepalive_deadline = now + self.host.config.keepalive_idle_us
        if self.is_fin_queued:
            self.set_state(st.FIN_WAIT_1)

    def use_peer_options(self, mss: i64, window_shift: i64) -> None:
        """Take over what the peer's SYN said; -1 where it said nothing."""
        if mss < 0:
            mss = DEFAULT_MSS
        self.peer_mss = mss
        self.smss = self.smss_for(self.host.path_mtus.get(self.remote_address))
        self.is_window_scaled = window_shift >= 0
        if self.is_window_scaled:
            self.snd_wind_shift = window_shift
            self.rcv_wind_shift = self.host.receive_shift
        else:
            self.snd_wind_shift = 0
            self.rcv_wind_shift = 0
            if self.receive_limit > 65535:
                self.receive_limit = 65535
        self.congestion = NewReno(self.smss, self.host.config.initial_window)
        self.congestion.recover = self.iss

    def smss_for(self, mtu: i64) -> i64:
        """MUST-16: what the peer takes, but not more than a path of `mtu` bytes carries."""
        smss = min(self.peer_mss, mtu - _HEADERS)
        return max(_MIN_MSS, smss)

    # -- predicates ----------------------------------------------------------------------------------

    def flight_size(self) -> i64:
        """Bytes sent and not acknowledged, SYN and FIN counted."""
        return (self.snd_max - self.snd_una) & 0xFFFF_FFFF

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

    def check_invariants(self) -> None:
        """Raise AssertionError when the block contradicts itself."""
        assert seq_le(self.snd_una, self.snd_nxt), "SND.UNA > SND.NXT"
        assert seq_le(self.snd_nxt, self.snd_max), "SND.NXT > SND.MAX"
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
        if self.state >= st.ESTABLISHED and self.state != st.TIME_WAIT:
            in_flight_data = seq_diff(self.snd_max, self.snd_una) - (1 if self.is_fin_sent else 0)
            if self.is_fin_sent and self.snd_una == self.snd_max:
                in_flight_data = 0
            assert in_flight_data <= self.send_buffer.size, "more in flight than the buffer holds"
        if self.reassembly is not None:
            previous: i64 = self.received
            for start, end in self.reassembly.blocks():
                assert start >= previous, "reassembly pieces overlap or lie below RCV.NXT"
                previous = end
        assert seq_add(self.irs, self.received + 1 + (1 if self.is_fin_received else 0)) == self.rcv_nxt or (
            self.state == st.SYN_SENT
        ), "RCV.NXT and the count of bytes disagree"
