"""What can be set about IPv4, ICMP and ARP. Units in the names; each default says whose it is."""

from appliance.stack.timebase import SECOND

__all__ = ["IpConfig", "NeighborConfig"]


class IpConfig:
    """Settings of the Internet layer of an interface; read-only once the interface is made.

    Attributes:
        reassembly_timeout_us: how long fragments of a datagram are kept, from the first one that comes
            (RFC 1122 §3.3.2: a fixed time of 60 to 120 s).
        reassembly_limit_bytes: memory for all incomplete datagrams (Linux: 4 MiB).
        reassembly_limit_bytes_per_source: the share of one source address.
        path_mtu_timeout_us: how long an estimate below the link's MTU is believed (RFC 1191 §6.3: 10 min).
        icmp_errors_per_second, icmp_error_burst: ICMP errors that we send (RFC 1812 §4.3.2.8).
        echo_replies_per_second, echo_reply_burst: a limit of their own, so that a flood of pings cannot
            silence the errors, nor the other way round.
    """

    def __init__(
        self,
        *,
        reassembly_timeout_us: int = 60 * SECOND,
        reassembly_limit_bytes: int = 4 * 1024 * 1024,
        reassembly_limit_bytes_per_source: int = 1024 * 1024,
        path_mtu_timeout_us: int = 600 * SECOND,
        icmp_errors_per_second: int = 100,
        icmp_error_burst: int = 50,
        echo_replies_per_second: int = 10_000,
        echo_reply_burst: int = 10_000,
    ) -> None:
        self.reassembly_timeout_us = reassembly_timeout_us
        self.reassembly_limit_bytes = reassembly_limit_bytes
        self.reassembly_limit_bytes_per_source = reassembly_limit_bytes_per_source
        self.path_mtu_timeout_us = path_mtu_timeout_us
        self.icmp_errors_per_second = icmp_errors_per_second
        self.icmp_error_burst = icmp_error_burst
        self.echo_replies_per_second = echo_replies_per_second
        self.echo_reply_burst = echo_reply_burst


class NeighborConfig:
    """Settings of ARP; read-only once the interface is made.

    Attributes:
        reachable_us: how long a MAC address is used without verifying it (RFC 1122 §2.3.2.1: about a minute).
        stale_us: an entry that nobody uses is forgotten when it was not confirmed for so long.
        request_interval_us: between two requests for one address (RFC 1122 §2.3.2.1: at most one a second).
        max_requests: requests without an answer after which the address counts as FAILED.
        failed_hold_us: how long datagrams to a FAILED address are dropped before it is asked for again.
        max_queued_frames: frames kept for an address while it is asked for; the latest are kept.
        max_neighbors: entries that no connection uses, at most.
        only_mac: the MAC of everybody on a link without ARP, as a TUN is; b"" where ARP finds it.
        probe_address: `Interface.bring_up` probes the address before it is used (RFC 5227 §2.1).
        probe_wait_us, probe_count, probe_min_us, probe_max_us, announce_wait_us, announce_count,
            announce_interval_us, defend_interval_us: RFC 5227 §1.1, with its values.
    """

    def __init__(
        self,
        *,
        reachable_us: int = 60 * SECOND,
        stale_us: int = 600 * SECOND,
        request_interval_us: int = 1 * SECOND,
        max_requests: int = 3,
        failed_hold_us: int = 3 * SECOND,
        max_queued_frames: int = 16,
        max_neighbors: int = 1024,
        only_mac: bytes = b"",
        probe_address: bool = False,
        probe_wait_us: int = 1 * SECOND,
        probe_count: int = 3,
        probe_min_us: int = 1 * SECOND,
        probe_max_us: int = 2 * SECOND,
        announce_wait_us: int = 2 * SECOND,
        announce_count: int = 2,
        announce_interval_us: int = 2 * SECOND,
        defend_interval_us: int = 10 * SECOND,
    ) -> None:
        self.reachable_us = reachable_us
        self.stale_us = stale_us
        self.request_interval_us = request_interval_us
        self.max_requests = max_requests
        self.failed_hold_us = failed_hold_us
        self.max_queued_frames = max_queued_frames
        self.max_neighbors = max_neighbors
        self.only_mac = only_mac
        self.probe_address = probe_address
        self.probe_wait_us = probe_wait_us
        self.probe_count = probe_count
        self.probe_min_us = probe_min_us
        self.probe_max_us = probe_max_us
        self.announce_wait_us = announce_wait_us
        self.announce_count = announce_count
        self.announce_interval_us = announce_interval_us
        self.defend_interval_us = defend_interval_us
