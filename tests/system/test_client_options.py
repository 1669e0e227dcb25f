"""The kernel's TCP as others set it up: MTUs, buffers, options left out, offloads switched off."""

from __future__ import annotations

import itertools
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.links import PEER_LINK
from tests.support.running import needs_program, receive_exactly, request, running_appliance, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system


def _check_session(appliance: RunningAppliance, client: socket.socket, size: int) -> None:
    """A value in and out, many small requests in one go, and one at a time."""
    value = os.urandom(size)
    client.sendall(request("SET", "k", value))
    assert receive_exactly(client, 5) == b"+OK\r\n"
    client.sendall(request("GET", "k"))
    head = b"$%d\r\n" % size
    assert receive_exactly(client, len(head)) == head
    assert receive_exactly(client, size) == value
    assert receive_exactly(client, 2) == b"\r\n"
    client.sendall(request("PING") * 3_000)
    assert receive_exactly(client, 21_000) == b"+PONG\r\n" * 3_000
    for number in range(200):
        client.sendall(request("ECHO", number))
        reply = b"$%d\r\n%d\r\n" % (len(str(number)), number)
        assert receive_exactly(client, len(reply)) == reply


def _check_quiet(appliance: RunningAppliance, before: dict[str, int]) -> None:
    """A link that loses nothing gives no reason to repeat or to drop anything.

    But for the timers: the kernel's ACK may be late on a machine that has other things to do.
    """
    after = appliance.counters()
    assert after["fast_retransmits"] == before["fast_retransmits"]
    if all(after[name] == before[name] for name in ("retransmission_timeouts", "tail_loss_probes")):
        assert after["segments_retransmitted"] == before["segments_retransmitted"]
    for name in after:
        # The kernel's multicast and IPv6 chatter is dropped with good reason.
        if name.startswith("dropped_") and name not in ("dropped_not_for_us", "dropped_unknown_ethertype"):
            assert after[name] == before[name], name
    assert after["link_frames_dropped"] == before["link_frames_dropped"]


_LARGE_MTU = pytest.mark.links("tap", "tun", "packet", reason="a frame of AF_XDP lies in one page")


@pytest.mark.parametrize(
    "mtu",
    [576, 1280, 3400, pytest.param(9000, marks=_LARGE_MTU), pytest.param(65_521, marks=_LARGE_MTU)],
)
def test_mtu(tmp_path: Path, mtu: int) -> None:
    with running_appliance(tmp_path, "--mtu", str(mtu)) as appliance:
        before = appliance.counters()
        with appliance.connect() as client:
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= mtu - 40
            _check_session(appliance, client, 3_000_000)
        _check_quiet(appliance, before)


@pytest.mark.parametrize("sysctl", ["tcp_window_scaling", "tcp_timestamps", "tcp_sack"])
def test_kernel_without_option(own_appliance: RunningAppliance, sysctl: str) -> None:
    own_appliance.set_sysctl(f"net/ipv4/{sysctl}", "0")
    before = own_appliance.counters()
    with own_appliance.connect() as client:
        _check_session(own_appliance, client, 3_000_000)
    _check_quiet(own_appliance, before)


@pytest.mark.parametrize(
    ("window_scaling", "timestamps", "sack", "ecn"), list(itertools.product((0, 1), repeat=4))
)
def test_every_combination_of_options_is_agreed_on_and_works(
    own_appliance: RunningAppliance, window_scaling: int, timestamps: int, sack: int, ecn: int
) -> None:
    own_appliance.set_sysctl("net/ipv4/tcp_window_scaling", str(window_scaling))
    own_appliance.set_sysctl("net/ipv4/tcp_timestamps", str(timestamps))
    own_appliance.set_sysctl("net/ipv4/tcp_sack", str(sack))
    own_appliance.set_sysctl("net/ipv4/tcp_ecn", str(ecn))
    with own_appliance.connect() as client:
        _check_session(own_appliance, client, 300_000)
        (one,) = own_appliance.connections()
        assert (int(one["timestamps"]), int(one["sack_permitted"]), int(one["ecn"])) == (
            timestamps,
            sack,
            ecn,
        )
        assert (int(one["rcv_wind_shift"]) > 0) == bool(window_scaling)


def test_kernel_without_any_option(own_appliance: RunningAppliance) -> None:
    for sysctl in ("tcp_window_scaling", "tcp_timestamps", "tcp_sack"):
        own_appliance.set_sysctl(f"net/ipv4/{sysctl}", "0")
    before = own_appliance.counters()
    with own_appliance.connect() as client:
        _check_session(own_appliance, client, 3_000_000)
        # No scale was offered, so neither side may use one.
        (one,) = own_appliance.connections()
        assert int(one["snd_wnd"]) <= 65_535
    _check_quiet(own_appliance, before)


@pytest.mark.parametrize("congestion_control", ["reno", "cubic"])
def test_kernel_congestion_control(own_appliance: RunningAppliance, congestion_control: str) -> None:
    with own_appliance.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion_control.encode())
        _check_session(own_appliance, client, 3_000_000)


@pytest.mark.parametrize("size", [256, 2_048, 4_096, 16_384])
def test_tiny_receive_buffer(appliance: RunningAppliance, size: int) -> None:
    with appliance.connect(receive_buffer=size) as client:
        _check_session(appliance, client, 500_000)


@pytest.mark.parametrize("size", [256, 4_608])
def test_tiny_send_buffer(appliance: RunningAppliance, size: int) -> None:
    with appliance.connect(send_buffer=size) as client:
        _check_session(appliance, client, 500_000)


@pytest.mark.parametrize("mss", [88, 536, 1_000])
def test_small_mss_of_the_kernel(appliance: RunningAppliance, mss: int) -> None:
    before = appliance.counters()
    with appliance.connect(mss=mss) as client:
        _check_session(appliance, client, 500_000)
    _check_quiet(appliance, before)


def test_nodelay_and_quickack_every_byte_its_own_segment(appliance: RunningAppliance) -> None:
    with appliance.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        for byte in request("SET", "slow", "sender") + request("GET", "slow"):
            client.send(bytes((byte,)))
        assert receive_exactly(client, 17) == b"+OK\r\n$6\r\nsender\r\n"
        _check_session(appliance, client, 500_000)


def test_cork_and_urgent_data_are_delivered_in_line(appliance: RunningAppliance) -> None:
    with appliance.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        client.send(b"*1\r\n$4\r\n")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        # RFC 9293 §3.8.5, as RFC 6093 wants applications to have it: urgent data is data.
        client.send(b"PIN", socket.MSG_OOB)
        client.send(b"G\r\n")
        assert receive_exactly(client, 7) == b"+PONG\r\n"


def test_keepalive_probes_of_the_kernel_are_answered(appliance: RunningAppliance) -> None:
    with appliance.connect() as client:
        client.sendall(request("PING"))
        assert receive_exactly(client, 7) == b"+PONG\r\n"
        before = appliance.counters()["segments_in"]
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 100)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Nobody says anything but the kernel: the ACK of the reply, perhaps, and then a probe each second.
        until(lambda: appliance.counters()["segments_in"] >= before + 3, what="two probes")
        # struct tcp_info, tcpi_probes: those without an answer since the last.
        until(lambda: client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 4)[3] == 0, what="an answer")
        client.sendall(request("PING"))
        assert receive_exactly(client, 7) == b"+PONG\r\n"


def test_fast_open_falls_back_to_a_plain_handshake(appliance: RunningAppliance) -> None:
    def open_with_data() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.sendto(request("PING"), socket.MSG_FASTOPEN, (appliance.address, appliance.port))
            client.settimeout(60)
            return receive_exactly(client, 7)

    assert appliance.inside(open_with_data) == b"+PONG\r\n"


@pytest.mark.skipif(bool(needs_program("ethtool")), reason=needs_program("ethtool"))
def test_offloads_switched_off_by_ethtool(own_appliance: RunningAppliance) -> None:
    own_appliance.run("ethtool", "-K", PEER_LINK, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
    before = own_appliance.counters()
    with own_appliance.connect() as client:
        _check_session(own_appliance, client, 3_000_000)
    _check_quiet(own_appliance, before)
