"""SYN cookies: what they carry, who can use them, and that they keep no state."""

from __future__ import annotations

import pytest

from appliance.stack.syn_cookies import MSS_CLASSES, PERIOD_US, SynCookies
from appliance.stack.tcp.config import TcpConfig
from appliance.stack.tcp.state import State
from tests.support import packets as pk
from tests.support.packets import Packet, mss_option
from tests.support.peer import Peer

TUPLE = b"\x0a\x4d\x00\x01\x0a\x4d\x00\x02\x9c\x40\x18\xeb"
NOW = 1_000 * PERIOD_US


@pytest.mark.parametrize("mss", [64, 500, 536, 1300, 1459, 1460, 9000])
def test_cookie_gives_back_the_largest_class_below_the_mss(mss: int) -> None:
    cookies = SynCookies(b"k" * 16)
    cookie = cookies.seal(TUPLE, 7, mss, NOW)
    assert cookies.open(TUPLE, 7, cookie, NOW) == max(one for one in MSS_CLASSES if one <= mss)


def test_cookie_lives_two_periods_and_not_longer() -> None:
    cookies = SynCookies(b"k" * 16)
    cookie = cookies.seal(TUPLE, 7, 1460, NOW)
    assert cookies.open(TUPLE, 7, cookie, NOW + 2 * PERIOD_US) == 1460
    assert cookies.open(TUPLE, 7, cookie, NOW + 3 * PERIOD_US) == -1
    # The tick in the cookie wraps after 32 periods; the hash knows the whole of it.
    assert cookies.open(TUPLE, 7, cookie, NOW + 32 * PERIOD_US) == -1


@pytest.mark.parametrize("changed", ["tuple", "isn", "cookie", "key"])
def test_cookie_of_something_else_is_refused(changed: str) -> None:
    cookies = SynCookies(b"k" * 16)
    cookie = cookies.seal(TUPLE, 7, 1460, NOW)
    if changed == "key":
        cookies = SynCookies(b"l" * 16)
    four_tuple = TUPLE[:-1] + b"\xec" if changed == "tuple" else TUPLE
    isn = 8 if changed == "isn" else 7
    assert cookies.open(four_tuple, isn, cookie ^ (changed == "cookie"), NOW) == -1


def flooded(**settings: object) -> Peer:
    """A peer whose stack has a listener with a backlog of one, taken by a SYN that nobody will complete."""
    peer = Peer(**settings)  # type: ignore[arg-type]
    peer.resolve()
    peer.listen(backlog=1)
    syn(peer, port=50_000)
    take(peer)
    return peer


def send(
    peer: Peer, flags: str, *, port: int, seq: int, ack: int = 0, options: bytes = b"", data: bytes = b""
) -> None:
    peer.datagram(pk.tcp(flags, seq=seq, ack=ack, source_port=port, options=options, data=data))


def take(peer: Peer) -> list[Packet]:
    """All that the stack has sent since the last call."""
    sent, peer.other = peer.drain() + peer.other, []
    return sent


def syn(peer: Peer, *, port: int, options: bytes = b"") -> None:
    send(peer, "S", port=port, seq=1_000, options=options)


def cookie_of(peer: Peer) -> Packet:
    packets = take(peer)
    assert len(packets) == 1
    assert packets[0].flags == "S."
    return packets[0]


def test_full_backlog_is_answered_without_a_connection() -> None:
    peer = flooded()
    before = len(peer.interface.connections())
    for port in range(51_000, 51_200):
        syn(peer, port=port)
    assert len(peer.interface.connections()) == before
    assert peer.counter("syn_cookies_sent") == 200


def test_ack_of_a_cookie_opens_a_connection_with_its_mss_and_data() -> None:
    peer = flooded()
    syn(peer, port=40_001, options=mss_option(1300))
    answer = cookie_of(peer)
    send(peer, "P.", port=40_001, seq=1_001, ack=answer.seq + 1, data=b"PING")
    made = [one for one in peer.interface.connections() if one.remote_port == 40_001]
    assert [one.state for one in made] == [State.ESTABLISHED]
    assert made[0].info()["smss"] == 1300
    assert made[0].receive(100) == b"PING"
    assert peer.counter("syn_cookies_accepted") == 1


def test_options_come_back_in_the_timestamp_echo() -> None:
    peer = flooded()
    options = mss_option(1460) + pk.window_scale_option(7) + b"\x04\x02" + pk.timestamps_option(5_000, 0)
    syn(peer, port=40_001, options=options)
    answer = cookie_of(peer)
    ts_val = int.from_bytes(answer.options[8][:4], "big")
    echo = pk.timestamps_option(5_001, ts_val)
    send(peer, ".", port=40_001, seq=1_001, ack=answer.seq + 1, options=echo)
    made = next(one for one in peer.interface.connections() if one.remote_port == 40_001)
    assert made.info()["snd_wind_shift"] == 7
    assert made.is_sack_permitted
    assert made.has_timestamps


def test_without_timestamps_the_options_are_not_used() -> None:
    peer = flooded()
    syn(peer, port=40_001, options=mss_option(1460) + pk.window_scale_option(7) + b"\x04\x02")
    answer = cookie_of(peer)
    assert set(answer.options) == {2}
    send(peer, ".", port=40_001, seq=1_001, ack=answer.seq + 1)
    made = next(one for one in peer.interface.connections() if one.remote_port == 40_001)
    assert made.info()["snd_wind_shift"] == 0
    assert made.info()["rcv_wind_shift"] == 0
    assert not made.is_sack_permitted


def test_wrong_or_stale_cookie_gets_a_reset() -> None:
    peer = flooded()
    syn(peer, port=40_001)
    answer = cookie_of(peer)
    send(peer, ".", port=40_001, seq=1_001, ack=answer.seq + 2)
    assert [packet.flags for packet in take(peer)] == ["R"]
    peer.advance(600_000_000)
    take(peer)
    send(peer, ".", port=40_001, seq=1_001, ack=answer.seq + 1)
    assert [packet.flags for packet in take(peer)] == ["R"]


def test_stray_ack_to_an_idle_listener_is_reset_without_a_look() -> None:
    peer = Peer()
    peer.resolve()
    peer.listen()
    send(peer, ".", port=40_001, seq=1_001, ack=77)
    assert [packet.flags for packet in take(peer)] == ["R"]
    assert peer.counter("syn_cookies_refused") == 0


def test_cookies_switched_off_drop_the_syn() -> None:
    peer = flooded(tcp=TcpConfig(syn_cookies=False))
    syn(peer, port=40_001)
    assert take(peer) == []
    assert peer.counter("dropped_backlog_full") == 1
