"""A scripted peer: what it injects and what it expects, in virtual time.

    peer = Peer()
    peer.listen()
    peer.inject("S", options=mss_option(1000))
    peer.expect("S.", seq=0, ack=1)
    peer.inject(".")

Sequence numbers are relative: 0 is the SYN of whoever counts, 1 its first byte. `inject` uses the peer's next
number and acknowledges all it has seen, unless told otherwise. Whatever the stack sends waits in `peer.sent`
until an `expect` takes it; `expect_nothing` says that there is nothing left. ARP is answered by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.stack.interface import Interface, InterfaceConfig
from appliance.stack.tcp.state import State
from appliance.stack.timebase import NEVER
from tests.support import packets as pk
from tests.support.packets import PEER, PEER_MAC, STACK, STACK_MAC, Packet, mss_option, window_scale_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.stack.listener import Listener
    from appliance.stack.tcp.config import TcpConfig
    from appliance.stack.tcp.connection import Connection

MASK = 0xFFFF_FFFF
MS = 1_000
S = 1_000_000
PORT = 6379
PEER_PORT = 40000


def counting_bytes(seed: int = 1) -> Callable[[int], bytes]:
    """A source of "random" bytes that is the same on every run."""
    state = seed

    def random_bytes(count: int) -> bytes:
        nonlocal state
        out = bytearray()
        for _ in range(count):
            state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFF_FFFF_FFFF_FFFF
            out.append(state >> 56)
        return bytes(out)

    return random_bytes


def make_interface(*, tcp: TcpConfig | None = None, seed: int = 1, **settings: Any) -> Interface:
    """An interface at 10.77.0.2/24; any argument of InterfaceConfig can be given."""
    arguments: dict[str, Any] = {
        "mac": STACK_MAC,
        "address": STACK,
        "prefix_length": 24,
        "random_bytes": counting_bytes(seed),
        "tcp": tcp,
    }
    arguments.update(settings)
    return Interface(InterfaceConfig(**arguments))


class Peer:
    """The other end of the link, played by the test.

    Args:
        iss: the peer's own initial sequence number. stack_iss: force that of the stack, by choosing the time
            at which the clock starts. port, peer_port: of the connection spoken about.
        tcp: settings of the stack's TCP; more keyword arguments go to InterfaceConfig.
    """

    def __init__(
        self,
        *,
        iss: int = 1_000_000,
        stack_iss: int | None = None,
        start: int = 1_000 * S,
        tcp: TcpConfig | None = None,
        vnet_header: bool = True,
        gso: bool = True,
        partial: bool = False,
        resolve: bool = True,
        port: int = PORT,
        peer_port: int = PEER_PORT,
        **settings: Any,
    ) -> None:
        self.vnet = vnet_header
        self.partial = partial
        self.interface = make_interface(tcp=tcp, vnet_header=vnet_header, gso=gso, **settings)
        self.port = port
        self.peer_port = peer_port
        self.iss = iss
        self.stack_iss = 0
        self.now = start
        if stack_iss is not None:
            self.now = self._time_for_iss(stack_iss)
        self.next = 0  # the peer's next number, relative
        self.seen = 0  # behind the last number seen of the stack, relative
        self.window_shift = 0  # the peer's, once agreed
        self.stack_window_shift = 0
        self.sent: list[Packet] = []
        self.other: list[Packet] = []  # ICMP and ARP of the stack
        self.answers_arp = True
        self.listener: Listener | None = None
        self._connection: Connection | None = None
        if resolve:
            self.resolve()

    def _time_for_iss(self, iss: int) -> int:
        """When the clock part of RFC 6528 makes the stack choose `iss`."""
        four_tuple = (
            PEER.to_bytes(4, "big")
            + STACK.to_bytes(4, "big")
            + self.peer_port.to_bytes(2, "big")
            + self.port.to_bytes(2, "big")
        )
        keyed = self.interface._host.initial_numbers(four_tuple, 0)[0]
        return (((iss - keyed) & MASK) << 2) + (1 << 34)

    # -- frames ----------------------------------------------------------------------------------

    def resolve(self, mac: bytes = PEER_MAC, address: int = PEER) -> None:
        """Let the stack learn the peer's MAC by the peer asking for the stack's."""
        self.frame(pk.ethernet(pk.arp(1, mac, address, bytes(6), STACK), 0x0806, source=mac))
        self.other.clear()

    def frame(self, frame: bytes, header: bytes | None = None, *, flush: bool = True) -> None:
        """Hand an Ethernet frame to the stack (a virtio-net header is put before it)."""
        if self.vnet:
            frame = (pk.vnet_header() if header is None else header) + frame
        self.interface.receive_frame(frame, self.now)
        if flush:
            self.flush()

    def datagram(self, payload: bytes, protocol: int = 6, *, flush: bool = True, **ip: Any) -> None:
        self.frame(pk.ethernet(pk.ipv4(payload, protocol, **ip)), flush=flush)

    def flush(self) -> list[Packet]:
        """Take what the stack has to send; returns it, and files it for `expect`."""
        new: list[Packet] = []
        for frame in self.interface.frames_to_send(self.now):
            packet = pk.parse(frame, self.vnet, self.now)
            if (
                packet.kind == "tcp"
                and packet.source_port == self.port
                and packet.destination_port == self.peer_port
            ):
                if packet.bits & pk.FLAG_BITS["S"] and not self.seen:
                    self.stack_iss = packet.seq
                end = (packet.seq - self.stack_iss + packet.segment_length) & MASK
                if not packet.bits & pk.FLAG_BITS["R"] and end < 1 << 31:
                    self.seen = max(self.seen, end)
                self.sent.append(packet)
                new.append(packet)
            else:
                self.other.append(packet)
                if (
                    packet.kind == "arp"
                    and packet.op == 1
                    and packet.destination == PEER
                    and self.answers_arp
                ):
                    self.interface.receive_frame(
                        (pk.vnet_header() if self.vnet else b"")
                        + pk.ethernet(pk.arp(2, PEER_MAC, PEER, STACK_MAC, STACK), 0x0806),
                        self.now,
                    )
                    self.other.remove(packet)
                    new += self.flush()
        self.interface.check_invariants()
        return new

    # -- segments --------------------------------------------------------------------------------

    def segment(self, flags: str, *, seq: int | None = None, ack: int | None = None, **more: Any) -> bytes:
        bits = pk.flag_bits(flags)
        seq = self.next if seq is None else seq
        ack = (self.seen if ack is None else ack) if bits & pk.FLAG_BITS["."] else None
        if "window" in more and not bits & pk.FLAG_BITS["S"]:
            more["window"] >>= self.window_shift
        more.setdefault("source_port", self.peer_port)
        more.setdefault("destination_port", self.port)
        return pk.tcp(
            flags,
            seq=self.iss + seq,
            ack=0 if ack is None else self.stack_iss + ack,
            partial=self.partial,
            **more,
        )

    def inject(
        self,
        flags: str,
        *,
        seq: int | None = None,
        ack: int | None = None,
        data: bytes = b"",
        flush: bool = True,
        **more: Any,
    ) -> None:
        """Send a segment to the stack. window is in bytes (scaled here); more goes to `packets.tcp`."""
        payload = self.segment(flags, seq=seq, ack=ack, data=data, **more)
        bits = pk.flag_bits(flags)
        end = (self.next if seq is None else seq) + len(data) + bool(bits & 1) + bool(bits & 2)
        if not bits & pk.FLAG_BITS["R"] and end - self.next < 1 << 31:
            self.next = max(self.next, end)
        header = pk.vnet_header(1, 0, 0, 0, 34, 16) if self.partial else None
        self.frame(pk.ethernet(pk.ipv4(payload)), header, flush=flush)

    def expect(
        self,
        flags: str,
        *,
        seq: int | None = None,
        ack: int | None = None,
        length: int | None = None,
        data: bytes | None = None,
        window: int | None = None,
        raw_seq: int | None = None,
        raw_ack: int | None = None,
        at: int | None = None,
    ) -> Packet:
        """The next segment of the stack, which must look like this; numbers are relative, window in bytes."""
        assert self.sent, f"expected {flags!r}, the stack sent nothing"
        packet = self.sent.pop(0)
        text = self.describe(packet)
        assert packet.flags == pk.flag_text(pk.flag_bits(flags)), text
        if seq is not None:
            assert (packet.seq - self.stack_iss) & MASK == seq & MASK, f"{text}, not seq {seq}"
        if ack is not None:
            assert (packet.ack - self.iss) & MASK == ack & MASK, f"{text}, not ack {ack}"
        if raw_seq is not None:
            assert packet.seq == raw_seq & MASK, text
        if raw_ack is not None:
            assert packet.ack == raw_ack & MASK, text
        if length is not None:
            assert len(packet.data) == length, f"{text}, not length {length}"
        if data is not None:
            assert packet.data == data, text
        if window is not None:
            shift = 0 if packet.bits & 2 else self.stack_window_shift
            assert packet.window << shift == window, f"{text}, not window {window}"
        if at is not None:
            assert packet.at == at, f"{text}, not at {at}"
        return packet

    def expect_nothing(self) -> None:
        assert not self.sent, "unexpected: " + "; ".join(map(self.describe, self.sent))

    def drain(self) -> list[Packet]:
        """All segments that wait for an `expect`."""
        waiting, self.sent = self.sent, []
        return waiting

    def describe(self, packet: Packet) -> str:
        seq = (packet.seq - self.stack_iss) & MASK
        ack = (packet.ack - self.iss) & MASK
        return f"[{packet.at}] {packet.flags} {seq}:{seq + len(packet.data)} ack {ack} win {packet.window}"

    # -- time ------------------------------------------------------------------------------------

    def advance(self, microseconds: int) -> list[Packet]:
        """Let time pass, deadline by deadline; returns the segments that were sent meanwhile."""
        target = self.now + microseconds
        sent: list[Packet] = []
        while (deadline := self.interface.next_deadline()) <= target:
            before = self.now
            self.now = max(self.now, deadline)
            others = len(self.other)
            self.interface.handle_deadline(self.now)
            new = self.flush()
            sent += new
            after = self.interface.next_deadline()
            assert after > self.now or new or len(self.other) > others or before < self.now, (
                "time stands still"
            )
        self.now = target
        return sent

    def time_to_deadline(self) -> int:
        deadline = self.interface.next_deadline()
        return NEVER if deadline >= NEVER else deadline - self.now

    # -- the stack's side ------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The connection spoken about, the same object even after it ended."""
        for connection in self.interface.connections():
            if connection.local_port == self.port and connection.remote_port == self.peer_port:
                self._connection = connection
        assert self._connection is not None, "there is no connection"
        return self._connection

    @property
    def state(self) -> State:
        return State(self.connection.state)

    def counter(self, name: str) -> int:
        return self.interface.counters.as_dict()[name]

    def listen(self, backlog: int = 512) -> Listener:
        self.listener = self.interface.listen(self.port, backlog=backlog)
        return self.listener

    def send(self, data: bytes) -> int:
        """The application sends, and the stack is flushed."""
        taken = self.connection.send(data)
        self.flush()
        return taken

    def receive(self, max_bytes: int = 1 << 30) -> bytes:
        data = self.connection.receive(max_bytes)
        self.flush()
        return data

    def call(self, method: str, *arguments: Any) -> None:
        """A call of the application (`"close"`, `"shutdown"`, `"abort"` …), and a flush."""
        getattr(self.connection, method)(*arguments)
        self.flush()

    # -- openings --------------------------------------------------------------------------------

    def syn_options(self, mss: int | None, shift: int | None) -> bytes:
        return (b"" if mss is None else mss_option(mss)) + (
            b"" if shift is None else window_scale_option(shift)
        )

    def agree(self, packet: Packet, shift: int | None) -> None:
        """Note the window scaling of a handshake whose SYN or SYN,ACK from the stack is `packet`."""
        if shift is not None and packet.window_shift is not None:
            self.window_shift = min(14, shift)
            self.stack_window_shift = packet.window_shift

    def open_passive(
        self, *, window: int = 65535, mss: int | None = 1000, shift: int | None = None, rtt: int = 0
    ) -> Connection:
        """The peer connects to a listener of the stack: ESTABLISHED, accepted, nothing left in `sent`.

        `rtt` passes between the SYN,ACK and its ACK, so it is the first sample; 0 still counts as one.
        """
        if self.listener is None:
            self.listen()
        assert self.listener is not None
        self.inject("S", seq=0, window=min(window, 65535), options=self.syn_options(mss, shift))
        self.agree(self.expect("S.", seq=0, ack=1), shift)
        if rtt:
            self.advance(rtt)
            assert not self.sent
        self.inject(".", window=window)
        self.expect_nothing()
        connection = self.listener.accept()
        assert connection is not None
        connection.take_events()
        self.interface.take_ready()
        self._connection = connection
        return connection

    def connect(self) -> Connection:
        """The stack connects to the peer: SYN-SENT, its SYN waits in `sent`."""
        self._connection = self.interface.connect(PEER, self.peer_port, self.now, self.port)
        self.flush()
        return self._connection


def established(
    *, window: int = 65535, mss: int | None = 1000, shift: int | None = None, rtt: int = 0, **settings: Any
) -> Peer:
    """A peer in a connection that it opened to port 6379; the stack is in ESTABLISHED."""
    peer = Peer(**settings)
    peer.open_passive(window=window, mss=mss, shift=shift, rtt=rtt)
    return peer


def syn_sent(**settings: Any) -> Peer:
    peer = Peer(**settings)
    peer.connect()
    peer.expect("S", seq=0)
    return peer


def syn_received(**settings: Any) -> Peer:
    peer = Peer(**settings)
    peer.listen()
    peer.inject("S", seq=0, options=mss_option(1000))
    peer.expect("S.", seq=0, ack=1)
    return peer


def syn_received_active(**settings: Any) -> Peer:
    """Crossing SYNs: SYN-RECEIVED that came from an active open."""
    peer = syn_sent(**settings)
    peer.inject("S", seq=0, options=mss_option(1000))
    peer.expect("S.", seq=0, ack=1)
    return peer


def fin_wait_1(**settings: Any) -> Peer:
    peer = established(**settings)
    peer.call("shutdown")
    peer.expect("F.", seq=1, ack=1)
    return peer


def fin_wait_2(**settings: Any) -> Peer:
    peer = fin_wait_1(**settings)
    peer.inject(".", ack=2)
    peer.expect_nothing()
    return peer


def close_wait(**settings: Any) -> Peer:
    peer = established(**settings)
    peer.inject("F.")
    peer.expect(".", seq=1, ack=2)
    return peer


def closing(**settings: Any) -> Peer:
    peer = fin_wait_1(**settings)
    peer.inject("F.", ack=1)
    peer.expect(".", seq=2, ack=2)
    return peer


def last_ack(**settings: Any) -> Peer:
    peer = close_wait(**settings)
    peer.call("shutdown")
    peer.expect("F.", seq=1, ack=2)
    return peer


def time_wait(**settings: Any) -> Peer:
    peer = fin_wait_2(**settings)
    peer.inject("F.")
    peer.expect(".", seq=2, ack=2)
    return peer


IN_STATE: dict[State, Callable[..., Peer]] = {
    State.SYN_SENT: syn_sent,
    State.SYN_RECEIVED: syn_received,
    State.ESTABLISHED: established,
    State.FIN_WAIT_1: fin_wait_1,
    State.FIN_WAIT_2: fin_wait_2,
    State.CLOSE_WAIT: close_wait,
    State.CLOSING: closing,
    State.LAST_ACK: last_ack,
    State.TIME_WAIT: time_wait,
}
SYNCHRONIZED = [state for state in IN_STATE if state >= State.ESTABLISHED]


def in_state(state: State, **settings: Any) -> Peer:
    """A peer whose connection on the stack's side is in `state`, with nothing left in `sent`."""
    peer = IN_STATE[state](**settings)
    assert peer.state == state
    peer.expect_nothing()
    return peer
