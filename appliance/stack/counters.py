"""What the stack counted. Plain ints; names are what the metrics and `redtap status` show."""

from mypy_extensions import i64

__all__ = ["Counters"]


class Counters:
    def __init__(self) -> None:
        self.frames_in: i64 = 0
        self.frames_out: i64 = 0
        self.bytes_in: i64 = 0
        self.bytes_out: i64 = 0
        # Ethernet and ARP
        self.dropped_malformed: i64 = 0
        self.dropped_not_for_us: i64 = 0
        self.dropped_unknown_ethertype: i64 = 0
        self.arp_in: i64 = 0
        self.arp_out: i64 = 0
        self.arp_failures: i64 = 0
        self.address_conflicts: i64 = 0
        self.dropped_unresolved: i64 = 0
        # IPv4 and ICMP
        self.dropped_bad_source: i64 = 0
        self.dropped_fragment: i64 = 0
        self.dropped_bad_checksum: i64 = 0
        self.icmp_in: i64 = 0
        self.icmp_out: i64 = 0
        self.icmp_rate_limited: i64 = 0
        self.dropped_bad_fragment: i64 = 0
        self.dropped_bad_options: i64 = 0
        self.dropped_source_route: i64 = 0
        self.dropped_no_identification: i64 = 0
        self.dropped_broadcast_icmp: i64 = 0
        self.dropped_redirect: i64 = 0
        self.dropped_source_quench: i64 = 0
        self.echo_rate_limited: i64 = 0
        self.icmp_errors_not_believed: i64 = 0
        self.fragments_in: i64 = 0
        self.fragments_out: i64 = 0
        self.datagrams_reassembled: i64 = 0
        self.reassembly_timeouts: i64 = 0
        self.reassembly_overlaps: i64 = 0
        self.reassembly_evicted: i64 = 0
        self.path_mtu_lowered: i64 = 0
        self.path_mtu_black_holes: i64 = 0
        # TCP
        self.segments_in: i64 = 0
        self.segments_out: i64 = 0
        self.segments_retransmitted: i64 = 0
        self.segments_out_of_order: i64 = 0
        self.segments_duplicate: i64 = 0
        self.segments_unacceptable: i64 = 0
        self.dropped_broadcast_segment: i64 = 0
        self.dropped_reassembly_full: i64 = 0
        self.resets_in: i64 = 0
        self.resets_out: i64 = 0
        self.challenge_acks: i64 = 0
        self.fast_retransmits: i64 = 0
        self.retransmission_timeouts: i64 = 0
        self.zero_window_probes: i64 = 0
        self.tail_loss_probes: i64 = 0
        self.spurious_recoveries: i64 = 0
        self.dropped_paws: i64 = 0
        self.dropped_without_timestamps: i64 = 0
        self.syn_cookies_sent: i64 = 0
        self.syn_cookies_accepted: i64 = 0
        self.syn_cookies_refused: i64 = 0
        self.connections_opened: i64 = 0
        self.connections_accepted: i64 = 0
        self.connections_refused_pool_full: i64 = 0
        self.dropped_backlog_full: i64 = 0

    def as_dict(self) -> dict[str, int]:
        """Every counter by its name."""
        return {
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "dropped_malformed": self.dropped_malformed,
            "dropped_not_for_us": self.dropped_not_for_us,
            "dropped_unknown_ethertype": self.dropped_unknown_ethertype,
            "arp_in": self.arp_in,
            "arp_out": self.arp_out,
            "arp_failures": self.arp_failures,
            "address_conflicts": self.address_conflicts,
            "dropped_unresolved": self.dropped_unresolved,
            "dropped_bad_source": self.dropped_bad_source,
            "dropped_fragment": self.dropped_fragment,
            "dropped_bad_checksum": self.dropped_bad_checksum,
            "icmp_in": self.icmp_in,
            "icmp_out": self.icmp_out,
            "icmp_rate_limited": self.icmp_rate_limited,
            "dropped_bad_fragment": self.dropped_bad_fragment,
            "dropped_bad_options": self.dropped_bad_options,
            "dropped_source_route": self.dropped_source_route,
            "dropped_no_identification": self.dropped_no_identification,
            "dropped_broadcast_icmp": self.dropped_broadcast_icmp,
            "dropped_redirect": self.dropped_redirect,
            "dropped_source_quench": self.dropped_source_quench,
            "echo_rate_limited": self.echo_rate_limited,
            "icmp_errors_not_believed": self.icmp_errors_not_believed,
            "fragments_in": self.fragments_in,
            "fragments_out": self.fragments_out,
            "datagrams_reassembled": self.datagrams_reassembled,
            "reassembly_timeouts": self.reassembly_timeouts,
            "reassembly_overlaps": self.reassembly_overlaps,
            "reassembly_evicted": self.reassembly_evicted,
            "path_mtu_lowered": self.path_mtu_lowered,
            "path_mtu_black_holes": self.path_mtu_black_holes,
            "segments_in": self.segments_in,
            "segments_out": self.segments_out,
            "segments_retransmitted": self.segments_retransmitted,
            "segments_out_of_order": self.segments_out_of_order,
            "segments_duplicate": self.segments_duplicate,
            "segments_unacceptable": self.segments_unacceptable,
            "dropped_broadcast_segment": self.dropped_broadcast_segment,
            "dropped_reassembly_full": self.dropped_reassembly_full,
            "resets_in": self.resets_in,
            "resets_out": self.resets_out,
            "challenge_acks": self.challenge_acks,
            "fast_retransmits": self.fast_retransmits,
            "retransmission_timeouts": self.retransmission_timeouts,
            "zero_window_probes": self.zero_window_probes,
            "tail_loss_probes": self.tail_loss_probes,
            "spurious_recoveries": self.spurious_recoveries,
            "dropped_paws": self.dropped_paws,
            "dropped_without_timestamps": self.dropped_without_timestamps,
            "syn_cookies_sent": self.syn_cookies_sent,
            "syn_cookies_accepted": self.syn_cookies_accepted,
            "syn_cookies_refused": self.syn_cookies_refused,
            "connections_opened": self.connections_opened,
            "connections_accepted": self.connections_accepted,
            "connections_refused_pool_full": self.connections_refused_pool_full,
            "dropped_backlog_full": self.dropped_backlog_full,
        }
