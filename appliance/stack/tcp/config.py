"""What can be set about TCP. Units in the names; each default says whose it is."""

from appliance.stack.timebase import MILLISECOND, SECOND

__all__ = ["TcpConfig"]


class TcpConfig:
    """Settings for all connections of an interface; read-only once the interface is made.

    Attributes:
        rto_initial_us: before the first RTT sample (RFC 6298 §2.1: 1 s).
        rto_min_us: floor of the variance term of the timeout (Linux: 200 ms).
        rto_max_us: ceiling of the timeout and of the interval of zero-window probes (Linux: 120 s).
        syn_retries: retransmissions of SYN before an active open fails (Linux: 6, the last after 63 s).
            RFC 9293 MUST-23: sent again for 3 minutes at least; the eighth goes out after 247 s.
        syn_ack_retries: retransmissions of SYN,ACK before the half-open connection is dropped (Linux: 5).
        r1: retransmissions of data after which the neighbour is verified again (RFC 9293 SHLD-10: 3).
        r2: retransmissions of data before the connection is given up (Linux: 15, over 100 s; SHLD-11).
        msl_us: maximum segment lifetime; TIME-WAIT lasts twice that (Linux: 2 MSL = 60 s).
        fin_wait_2_us: how long a fully closed connection waits for the peer's FIN (Linux: 60 s).
        delayed_ack_us: longest delay of an ACK (RFC 9293 MUST-40: below 500 ms; Linux: 40 ms).
        quick_acks: full-sized segments at the start of a connection that are acknowledged at once, so that
            the peer's slow start does not wait for the delayed ACK (Linux: up to 16).
        initial_window: segments in the first flight (RFC 6928: 10).
        send_buffer_initial, send_buffer_limit: bytes; grows with cwnd.
        receive_buffer_initial, receive_buffer_limit: bytes; grows while the application keeps up.
        reassembly_limit: segments kept out of order, per connection: about what the largest window has of
            1460 bytes.
        reassembly_total_bytes: kept out of order by all connections together; beyond it what comes out of
            order is dropped, and the peer sends it again.
        congestion_control: "cubic" (RFC 9438) or "newreno" (RFC 5681).
        window_scale, sack, timestamps: whether to use the option when the peer does (RFC 7323, RFC 2018).
        ecn: whether to agree to ECN (RFC 3168) when the peer asks; ecn_request: whether to ask (Linux: 1, 0).
        drop_missing_timestamps: drop a segment without timestamps where they were agreed on (RFC 7323 §3.2;
            Linux takes it).
        tail_loss_probe: RFC 8985 §7.
        user_timeout_us: give up when data stay unacknowledged this long, instead of after r2
            retransmissions; 0 leaves it to r2 (RFC 5482).
        time_wait_ignores_reset: RFC 1337 §3 against RFC 9293, which lets a RST end TIME-WAIT.
        syn_cookies: answer without state when the backlog is full (RFC 4987 §3.6).
        nodelay: whether Nagle's algorithm is off from the start.
        keepalive_idle_us, keepalive_interval_us, keepalive_probes: for connections that turn it on
            (RFC 9293 MUST-28: 2 h; Linux: 75 s, 9).
        challenge_acks: of one connection in any 5 s (RFC 5961 §7's example: 10).
    """

    def __init__(
        self,
        *,
        rto_initial_us: int = 1 * SECOND,
        rto_min_us: int = 200 * MILLISECOND,
        rto_max_us: int = 120 * SECOND,
        syn_retries: int = 8,
        syn_ack_retries: int = 5,
        r1: int = 3,
        r2: int = 15,
        msl_us: int = 30 * SECOND,
        fin_wait_2_us: int = 60 * SECOND,
        delayed_ack_us: int = 40 * MILLISECOND,
        quick_acks: int = 16,
        initial_window: int = 10,
        send_buffer_initial: int = 64 * 1024,
        send_buffer_limit: int = 4 * 1024 * 1024,
        receive_buffer_initial: int = 64 * 1024,
        receive_buffer_limit: int = 6 * 1024 * 1024,
        reassembly_limit: int = 4096,
        reassembly_total_bytes: int = 64 * 1024 * 1024,
        congestion_control: str = "cubic",
        window_scale: bool = True,
        sack: bool = True,
        timestamps: bool = True,
        ecn: bool = True,
        ecn_request: bool = False,
        drop_missing_timestamps: bool = True,
        tail_loss_probe: bool = True,
        user_timeout_us: int = 0,
        time_wait_ignores_reset: bool = True,
        syn_cookies: bool = True,
        nodelay: bool = False,
        keepalive_idle_us: int = 7200 * SECOND,
        keepalive_interval_us: int = 75 * SECOND,
        keepalive_probes: int = 9,
        challenge_acks: int = 10,
    ) -> None:
        self.rto_initial_us = rto_initial_us
        self.rto_min_us = rto_min_us
        self.rto_max_us = rto_max_us
        self.syn_retries = syn_retries
        self.syn_ack_retries = syn_ack_retries
        self.r1 = r1
        self.r2 = r2
        self.msl_us = msl_us
        self.fin_wait_2_us = fin_wait_2_us
        self.delayed_ack_us = delayed_ack_us
        self.quick_acks = quick_acks
        self.initial_window = initial_window
        self.send_buffer_initial = send_buffer_initial
        self.send_buffer_limit = send_buffer_limit
        self.receive_buffer_initial = receive_buffer_initial
        self.receive_buffer_limit = receive_buffer_limit
        self.reassembly_limit = reassembly_limit
        self.reassembly_total_bytes = reassembly_total_bytes
        self.congestion_control = congestion_control
        self.window_scale = window_scale
        self.sack = sack
        self.timestamps = timestamps
        self.ecn = ecn
        self.ecn_request = ecn_request
        self.drop_missing_timestamps = drop_missing_timestamps
        self.tail_loss_probe = tail_loss_probe
        self.user_timeout_us = user_timeout_us
        self.time_wait_ignores_reset = time_wait_ignores_reset
        self.syn_cookies = syn_cookies
        self.nodelay = nodelay
        self.keepalive_idle_us = keepalive_idle_us
        self.keepalive_interval_us = keepalive_interval_us
        self.keepalive_probes = keepalive_probes
        self.challenge_acks = challenge_acks
