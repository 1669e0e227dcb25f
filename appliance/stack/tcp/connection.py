"""A connection as its user sees it: the calls of RFC 9293 §3.9.1, without waiting.

Driven by four things: received segments (`segment_arrives`), time (`handle_deadline`), the flush
(`output`), and the user's calls here. No call blocks and none does I/O; what a call causes to be sent is
built by the next `Interface.frames_to_send`.
"""

from __future__ import annotations

from mypy_extensions import i64

from appliance.errors import ConnectionFailed, LocalProtocolError
from appliance.stack.tcp import output as out, state as st, timers
from appliance.stack.tcp.tcb import (
    EVENT_ADVICE,
    EVENT_CLOSED,
    EVENT_OPENED,
    EVENT_PEER_CLOSED,
    EVENT_READABLE,
    EVENT_URGENT,
    EVENT_WRITABLE,
    RECOVERY_NAMES,
    Tcb,
)
from appliance.stack.timebase import NEVER
from appliance.wire.ipv4 import format_address

__all__ = [
    "EVENT_ADVICE",
    "EVENT_CLOSED",
    "EVENT_OPENED",
    "EVENT_PEER_CLOSED",
    "EVENT_READABLE",
    "EVENT_URGENT",
    "EVENT_WRITABLE",
    "Connection",
]


class Connection(Tcb):
    def __repr__(self) -> str:
        return (
            f"<Connection {format_address(self.local_address)}:{self.local_port} "
            f"{format_address(self.remote_address)}:{self.remote_port} {st.rfc_name(self.state)}>"
        )

    # -- what happened -------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """CLOSED: nothing further will happen. A connection in TIME-WAIT is not closed yet."""
        return self.state == st.CLOSED

    def state_name(self) -> str:
        """The RFC's spelling: `"SYN-RECEIVED"`."""
        return st.rfc_name(self.state)

    def failure(self) -> ConnectionFailed | None:
        """Why the connection ended; None while it lives and after a normal end."""
        if self.failure_class is None:
            return None
        peer = f"{format_address(self.remote_address)}:{self.remote_port}"
        return self.failure_class(f"{peer}: {self.soft_error}" if self.soft_error else peer)

    def take_events(self) -> int:
        """The EVENT_* bits since the last call."""
        events = self.events
        self.events = 0
        return events

    # -- RECEIVE ---------------------------------------------------------------------------------------

    def receivable(self) -> int:
        """Bytes in order, ready to be received."""
        return self.receive_buffer.size

    def receive(self, max_bytes: i64) -> bytes:
        """Up to max_bytes of what came in order; b"" when there is nothing (now, or ever: see at_eof)."""
        data = self.receive_buffer.take(max_bytes)
        self._was_read(len(data))
        return data

    def receive_piece(self, max_bytes: i64) -> bytes:
        """`receive` for whoever takes pieces as they come: the data are the result from `piece_start()` on.

        They lie in the frame that brought them, without a copy. May give less than there is; call it until
        it gives b"".
        """
        buffer = self.receive_buffer
        before = buffer.size
        data = buffer.take_piece(max_bytes)
        self._was_read(before - buffer.size)
        return data

    def piece_start(self) -> i64:
        """Where the data begin in what `receive_piece` gave last."""
        return self.receive_buffer.piece_start

    def _was_read(self, count: i64) -> None:
        if count > 0:
            self.tune_receive_buffer(count, self.last_received_at)
            self.touch()  # the window may have opened

    def at_eof(self) -> bool:
        """Whether the peer has closed and everything it sent was received."""
        return self.is_fin_received and self.receive_buffer.size == 0

    # -- SEND ------------------------------------------------------------------------------------------

    def send_space(self) -> int:
        """Bytes that `send` would take now; zero or less when it would take none."""
        return self.send_limit - self.send_buffer.size

    def unsent_and_unacked(self) -> int:
        """Bytes taken by `send` that the peer has not acknowledged."""
        return self.send_buffer.size

    def send(self, data: bytes, offset: i64 = 0) -> int:
        """Queue data[offset:] as far as there is room, by reference; returns how many bytes were taken.

        After a short count EVENT_WRITABLE follows when a third of the buffer is free again.
        Raises LocalProtocolError after shutdown, close or abort, and before the connection is open.
        """
        state = self.state
        if state != st.ESTABLISHED and state != st.CLOSE_WAIT:
            raise LocalProtocolError(f"cannot send in state {st.rfc_name(state)}")
        count: i64 = len(data) - offset
        space = self.send_limit - self.send_buffer.size
        if count > space:
            self.is_send_short = True
            if space <= 0:
                return 0
            count = space
        if offset == 0 and count == len(data):
            self.send_buffer.append(data)
        else:
            self.send_buffer.append(data[offset : offset + count])
        self.touch()
        return count

    # -- CLOSE, ABORT ----------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """RFC 9293's CLOSE: no more data from us, FIN after what is queued; receiving goes on."""
        if self.is_fin_queued or self.state == st.CLOSED or self.state == st.TIME_WAIT:
            return
        if self.state == st.SYN_SENT:
            self.end(None)
            return
        self.is_fin_queued = True
        if self.state == st.ESTABLISHED:
            self.set_state(st.FIN_WAIT_1)
        elif self.state == st.CLOSE_WAIT:
            self.set_state(st.LAST_ACK)
        # In SYN-RECEIVED the change of state waits for ESTABLISHED.
        self.touch()

    def close(self) -> None:
        """Close both ways. Unread data, now or later, draw a RST: the peer must learn of it (SHLD-3)."""
        if self.state == st.CLOSED:
            return
        self.is_reading_ended = True
        if self.receive_buffer.size > 0 and self.state >= st.ESTABLISHED and self.state != st.TIME_WAIT:
            # In CLOSING and LAST-ACK too, where ABORT would say nothing: the peer must learn of it.
            out.send_reset(self, self.host.now)
            self.end(None)
            return
        self.shutdown()
        if self.state == st.FIN_WAIT_2:
            self.time_wait_deadline = self.host.now + self.host.config.fin_wait_2_us
            self.touch()

    def abort(self) -> None:
        """End at once with a RST (RFC 9293 §3.10.5); what was queued is lost."""
        state = self.state
        if state == st.CLOSED:
            return
        if state == st.SYN_RECEIVED or (st.ESTABLISHED <= state <= st.CLOSE_WAIT):
            out.send_reset(self, self.host.now)
        self.end(None)

    # -- options -------------------------------------------------------------------------------------------

    def set_nodelay(self, on: bool) -> None:
        """Turn Nagle's algorithm off or on (MUST-17)."""
        self.is_nodelay = on
        self.touch()

    def set_keepalive(self, on: bool, idle_us: int = 0, interval_us: int = 0, probes: int = 0) -> None:
        """Turn keep-alive on or off (MUST-24).

        idle_us: silence before the first probe; interval_us: between probes; probes: how many may stay
        unanswered. 0 leaves what was set before, at first the interface's (MUST-27, MUST-28).
        """
        if self.state == st.CLOSED or self.state == st.TIME_WAIT:
            return
        if idle_us > 0:
            self.keepalive_idle_us = idle_us
        if interval_us > 0:
            self.keepalive_interval_us = interval_us
        if probes > 0:
            self.keepalive_probes = probes
        self.keepalive_deadline = self.host.now + self.keepalive_idle_us if on else NEVER
        self.touch()

    def set_cork(self, on: bool) -> None:
        """Hold short segments back while more is to come; at most 200 ms (Linux: TCP_CORK)."""
        self.is_corked = on
        self.touch()

    def set_user_timeout(self, timeout_us: int) -> None:
        """Give up when data stay unacknowledged this long, and not before; 0 leaves it to R2.

        This is the connection's own R2 (MUST-21, RFC 5482); timebase.NEVER is a patience without end.
        """
        self.user_timeout_us = timeout_us

    def set_error_reports(self, on: bool) -> None:
        """Whether soft errors (ICMP, R1) are told by EVENT_ADVICE and `soft_error` (SHLD-20); on at first."""
        self.wants_advice = on

    def set_ttl(self, ttl: int) -> None:
        """TTL of our datagrams (MUST-49), 1 .. 255."""
        self.ttl = ttl

    def set_dscp(self, dscp: int) -> None:
        """Differentiated services code point of our datagrams (MUST-48), 0 .. 63."""
        self.tos = dscp << 2

    def set_receive_buffer(self, size: int) -> None:
        """Bytes that may wait to be received; from now on it does not grow by itself.

        A window that was offered is kept: a smaller buffer closes it only as data arrive (SHLD-14).
        """
        self.receive_limit = size
        self.may_tune_receive_buffer = False
        self.touch()

    def set_send_buffer(self, size: int) -> None:
        """Bytes that `send` takes before the peer has acknowledged them; from now on it does not grow."""
        self.send_limit = size
        self.may_tune_send_buffer = False

    def received_dscp(self) -> int:
        """Differentiated services code point of the peer's latest segment (MAY-9)."""
        return self.received_tos >> 2

    def urgent_pending(self) -> int:
        """Bytes up to the end of the peer's urgent data that were not received yet (MUST-33)."""
        return max(self.urgent_end - (self.received - self.receive_buffer.size), 0)

    # -- time ----------------------------------------------------------------------------------------------

    def next_deadline(self) -> int:
        """When `handle_deadline` wants to be called; NEVER when nothing is due."""
        return timers.next_deadline(self)

    def handle_deadline(self, now: int) -> None:
        """Do what is due; too early is a no-op. `Interface.frames_to_send` follows."""
        self.host.now = now
        if self.state != st.CLOSED:
            timers.handle_deadline(self, now)

    def rearm(self) -> int:
        """The next deadline, remembered as the one that the keeper of this connection's time sleeps for.

        From then on the connection is in `Interface.take_rescheduled` only when its deadline moved earlier.
        """
        self.armed_deadline = timers.next_deadline(self)
        return self.armed_deadline

    # -- the path ------------------------------------------------------------------------------------------

    # -- STATUS --------------------------------------------------------------------------------------------

    def info(self) -> dict[str, int | str]:
        """What there is to know (RFC 9293 §3.9.1 STATUS, Linux's tcp_info). Bytes, microseconds."""
        return {
            "local": f"{format_address(self.local_address)}:{self.local_port}",
            "remote": f"{format_address(self.remote_address)}:{self.remote_port}",
            "state": st.rfc_name(self.state),
            "cwnd": self.congestion.cwnd,
            "ssthresh": self.congestion.ssthresh,
            "smss": self.smss,
            "srtt_us": self.rtt.srtt_us,
            "rttvar_us": self.rtt.rttvar_us,
            "rto_us": self.rtt.rto_us,
            "congestion_control": self.congestion.name(),
            "recovery": RECOVERY_NAMES[self.recovery],
            "min_rtt_us": self.rack.min_rtt_us,
            "pipe": self.pipe(),
            "sacked": self.scoreboard.sacked_bytes,
            "lost": self.scoreboard.lost_bytes,
            "reordering_seen": int(self.rack.is_reordering_seen),
            "delivered": self.scoreboard.una,
            "snd_una": self.snd_una,
            "snd_nxt": self.snd_nxt,
            "snd_wnd": self.snd_wnd,
            "rcv_nxt": self.rcv_nxt,
            "rcv_wnd": self.rcv_wnd(),
            "snd_wind_shift": self.snd_wind_shift,
            "rcv_wind_shift": self.rcv_wind_shift,
            "timestamps": int(self.has_timestamps),
            "sack_permitted": int(self.is_sack_permitted),
            "ecn": int(self.has_ecn),
            "flight_size": self.flight_size(),
            "send_buffer_bytes": self.send_buffer.size,
            "receive_buffer_bytes": self.receive_buffer.size,
            "reassembly_bytes": 0 if self.reassembly is None else self.reassembly.size,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "retransmissions": self.total_retransmissions,
            "timeouts": self.retransmissions,
            "pacing_rate": 0,  # bursts are cwnd's; nothing is paced
        }
