"""Fragments of IPv4 datagrams to us, put together again.

Source:     RFC 791 §3.2; RFC 815 (any order); RFC 1122 §3.3.2 (time, Time Exceeded); RFC 5722 §4 (overlap:
            IPv6's rule, which RFC 8900 §3.7 shows the reason for); RFC 1858, RFC 3128 (tiny fragments);
            RFC 3168 §5.3 (congestion marks); RFC 6274 §3.5.2.2 (memory).
Units:      bytes of payload behind the IP header; microseconds.
Invariants: the pieces of a datagram are in order and do not overlap, so it is whole exactly when their bytes
            add up to its length: RFC 815's list of holes is not needed. Memory, reckoned with an overhead
            for each piece, is at most the limit, for each source and in all.
Errors:     none: a fragment that does not fit is counted, and it or its datagram is dropped.

When memory is short the oldest datagrams go, as in Linux, not the one that comes: whoever floods us with
first fragments pushes out his own.
"""

from typing import Final

from mypy_extensions import i64

from appliance.stack.counters import Counters
from appliance.stack.ip_config import IpConfig
from appliance.stack.timebase import NEVER
from appliance.wire import ipv4
from appliance.wire.checksum import PROTOCOL_TCP, fold
from appliance.wire.fields import BytesWriter, put_u16, read_u16, sum_words

__all__ = ["Reassembler"]

_MAX_DATAGRAM: Final = 65535
# What Python needs around the payload, roughly; without it 8-byte fragments would be nearly free.
_DATAGRAM_OVERHEAD: Final = 768
_PIECE_OVERHEAD: Final = 128
_LINK_HEADER: Final = 14
_MIN_TCP_HEADER: Final = 20  # RFC 1858 §3.3 asks for 16, RFC 3128 §2 for all that is inspected

# ECN codepoints as bits of a set (RFC 3168 §5).
_SAW_NOT_ECT: Final = 1 << 0
_SAW_CE: Final = 1 << 3


class _Partial:
    """One incomplete datagram. starts[i]: where pieces[i] begins in the payload, ascending."""

    def __init__(self, key: bytes, source: i64, deadline: i64) -> None:
        self.key = key
        self.source = source
        self.deadline = deadline
        self.starts: list[int] = []
        self.pieces: list[bytes] = []
        self.received: i64 = 0  # sum of the lengths of pieces
        self.length: i64 = -1  # of the whole payload, known when the last fragment came
        self.charge: i64 = _DATAGRAM_OVERHEAD
        self.is_condemned: bool = False  # an overlap was seen: kept only to catch the rest
        self.ecn_seen: i64 = 0
        self.link_header: bytes = b""  # of the first fragment
        self.ip_header: bytes = b""  # of the first fragment, b"" until it came


class _Source:
    def __init__(self) -> None:
        self.charge: i64 = 0
        self.keys: dict[bytes, None] = {}  # the oldest first


class Reassembler:
    def __init__(self, config: IpConfig, counters: Counters) -> None:
        self._timeout_us: i64 = config.reassembly_timeout_us
        self._limit: i64 = config.reassembly_limit_bytes
        self._limit_per_source: i64 = config.reassembly_limit_bytes_per_source
        self._counters = counters
        self._partials: dict[bytes, _Partial] = {}  # the oldest first, so in the order of their deadlines
        self._sources: dict[int, _Source] = {}
        self._charge: i64 = 0

    def fragment_arrives(self, frame: bytes, datagram: ipv4.Ipv4Header, now: i64) -> bytes:
        """Take one fragment. Returns the whole datagram behind an Ethernet header when this completed it,
        else b""; its checksums are the sender's, and nobody has verified them."""
        counters = self._counters
        counters.fragments_in += 1
        word = read_u16(frame, datagram.start + 6)
        start = (word & 0x1FFF) << 3
        is_last = word & ipv4.MORE_FRAGMENTS == 0
        payload_start = datagram.payload_start
        count = datagram.payload_end - payload_start
        end = start + count
        if (
            count == 0
            or (not is_last and count & 7)
            or payload_start - datagram.start + end > _MAX_DATAGRAM
            or (
                datagram.protocol == PROTOCOL_TCP and ((start == 0 and count < _MIN_TCP_HEADER) or start == 8)
            )
        ):
            counters.dropped_bad_fragment += 1
            return b""
        header = datagram.start
        key = (
            frame[header + 12 : header + 20]
            + frame[header + 4 : header + 6]
            + frame[header + 9 : header + 10]
        )
        partial = self._partials.get(key)
        if partial is None:
            partial = self._begin(key, datagram.source, now)
        elif partial.is_condemned:
            counters.dropped_bad_fragment += 1
            return b""
        if not self._insert(partial, start, end, is_last, frame[payload_start : datagram.payload_end]):
            return b""
        partial.ecn_seen |= 1 << (datagram.tos & 3)
        if start == 0:
            partial.link_header = frame[header - _LINK_HEADER : header]
            partial.ip_header = frame[header:payload_start]
        if partial.received == partial.length:
            self._remove(partial)
            return self._whole(partial)
        self._make_room(partial)
        return b""

    def _begin(self, key: bytes, source: i64, now: i64) -> _Partial:
        partial = _Partial(key, source, now + self._timeout_us)
        self._partials[key] = partial
        share = self._sources.get(source)
        if share is None:
            share = _Source()
            self._sources[source] = share
        share.keys[key] = None
        share.charge += partial.charge
        self._charge += partial.charge
        return partial

    def _insert(self, partial: _Partial, start: i64, end: i64, is_last: bool, data: bytes) -> bool:
        """Put one piece in its place. False: it was there already, or the datagram is condemned now."""
        starts = partial.starts
        pieces = partial.pieces
        # The first piece that begins behind `start`; most fragments come in order.
        low: i64 = 0
        high: i64 = len(starts)
        if high > 0 and starts[high - 1] <= start:
            low = high
        while low < high:
            middle = (low + high) >> 1
            if starts[middle] <= start:
                low = middle + 1
            else:
                high = middle
        if low > 0:
            before: i64 = starts[low - 1]
            if before == start and pieces[low - 1] == data and (not is_last or partial.length == end):
                return False  # the same once more (RFC 5722 §4 lets it be ignored, RFC 8200 §4.5 too)
            if before + len(pieces[low - 1]) > start:
                self._condemn(partial)
                return False
        furthest: i64 = starts[-1] + len(pieces[-1]) if starts else 0
        if (
            (low < len(starts) and starts[low] < end)
            or (is_last and (partial.length >= 0 or furthest > end))
            or (partial.length >= 0 and end > partial.length)
        ):
            self._condemn(partial)
            return False
        starts.insert(low, start)
        pieces.insert(low, data)
        partial.received += end - start
        if is_last:
            partial.length = end
        self._charge_for(partial, end - start + _PIECE_OVERHEAD)
        return True

    def _condemn(self, partial: _Partial) -> None:
        """Drop what came, and what will come: which of two overlapping pieces counts would be the attacker's
        choice. The entry stays until its time is over, without its pieces."""
        self._counters.reassembly_overlaps += 1
        partial.is_condemned = True
        partial.starts = []
        partial.pieces = []
        partial.ip_header = b""
        self._charge_for(partial, _DATAGRAM_OVERHEAD - partial.charge)

    def _charge_for(self, partial: _Partial, bytes_: i64) -> None:
        partial.charge += bytes_
        self._charge += bytes_
        self._sources[partial.source].charge += bytes_

    def _whole(self, partial: _Partial) -> bytes:
        """The datagram as if it had come in one piece: the first fragment's header (RFC 791 §3.2)."""
        header = partial.ip_header
        header_length: i64 = len(header)
        first = read_u16(header, 0)
        if partial.ecn_seen & _SAW_CE:
            if partial.ecn_seen & _SAW_NOT_ECT:
                self._counters.dropped_bad_fragment += 1  # RFC 3168 §5.3: the mark must not be lost
                return b""
            first |= 3
        total_length = header_length + partial.length
        if total_length > _MAX_DATAGRAM:
            self._counters.dropped_bad_fragment += 1
            return b""
        rest = sum_words(header, 4, 6) + sum_words(header, 8, 10) + sum_words(header, 12, header_length)
        writer = BytesWriter()
        writer.write(partial.link_header)
        put_u16(writer, first)
        put_u16(writer, total_length)
        writer.write(header[4:6])
        put_u16(writer, 0)
        writer.write(header[8:10])
        put_u16(writer, fold(first + total_length + rest) ^ 0xFFFF)
        writer.write(header[12:])
        writer.write(b"".join(partial.pieces))
        self._counters.datagrams_reassembled += 1
        return writer.getvalue()

    # -- memory and time ---------------------------------------------------------------------------------

    def _make_room(self, newest: _Partial) -> None:
        """Evict the oldest of this source, or of all, down to three quarters of the limit that was hit: not
        one at a time, because a dict looks for its first entry from where the first ever was."""
        share = self._sources[newest.source]
        if share.charge > self._limit_per_source:
            low = self._limit_per_source - (self._limit_per_source >> 2)
            for key in list(share.keys):
                if share.charge <= low:
                    break
                self._evict(self._partials[key])
        if self._charge > self._limit:
            low = self._limit - (self._limit >> 2)
            for partial in list(self._partials.values()):
                if self._charge <= low:
                    break
                self._evict(partial)

    def _evict(self, partial: _Partial) -> None:
        self._counters.reassembly_evicted += 1
        self._remove(partial)

    def _remove(self, partial: _Partial) -> None:
        del self._partials[partial.key]
        self._charge -= partial.charge
        share = self._sources[partial.source]
        share.charge -= partial.charge
        del share.keys[partial.key]
        if not share.keys:
            del self._sources[partial.source]

    def next_deadline(self) -> int:
        for partial in self._partials.values():
            return partial.deadline
        return NEVER

    def handle_deadline(self, now: i64) -> list[tuple[bytes, bytes]]:
        """Give up the datagrams whose time is over.

        Returns, for those whose first fragment came, its Ethernet header and the beginning of it from the IP
        header on: what a Time Exceeded has to quote.
        """
        overdue: list[_Partial] = []
        for partial in self._partials.values():
            if partial.deadline > now:
                break
            overdue.append(partial)
        reports: list[tuple[bytes, bytes]] = []
        for partial in overdue:
            self._remove(partial)
            if not partial.is_condemned:
                self._counters.reassembly_timeouts += 1
                if partial.ip_header:
                    reports.append((partial.link_header, partial.ip_header + partial.pieces[0]))
        return reports

    def memory(self) -> int:
        """Bytes held, as the limits reckon them."""
        return self._charge

    def check_invariants(self) -> None:
        """Raise AssertionError when the books do not balance."""
        total: i64 = 0
        shares: dict[int, int] = {}
        for partial in self._partials.values():
            expected: i64 = _DATAGRAM_OVERHEAD
            received: i64 = 0
            previous: i64 = 0
            for start, piece in zip(partial.starts, partial.pieces, strict=True):
                assert start >= previous, "pieces overlap"
                previous = start + len(piece)
                received += len(piece)
                expected += len(piece) + _PIECE_OVERHEAD
            assert partial.charge == expected, "a datagram's charge"
            assert partial.is_condemned or partial.received == received, "a datagram's bytes"
            total += expected
            shares[partial.source] = shares.get(partial.source, 0) + int(expected)
        assert total == self._charge, "the charge of all"
        assert self._charge <= self._limit, "over the limit"
        assert shares == {source: share.charge for source, share in self._sources.items()}, "the shares"
