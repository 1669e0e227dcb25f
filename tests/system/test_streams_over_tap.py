"""`TcpStream` and `TcpListener` over a TAP with the kernel's TCP as the peer: trio's world runs on our stack.

The stack runs in the test; what the kernel's end does runs in a thread or a process in the namespace.
"""

from __future__ import annotations

import http.client
import os
import random
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import h11
import pytest
import trio

from appliance.shell.addresses import parse_address
from appliance.shell.link import TapLink
from appliance.shell.network import Network, open_network
from appliance.stack.interface import InterfaceConfig
from netns.build import build
from netns.inside import inside, spawn
from netns.topology import Topology
from tests.support.machine import ROOT, fresh_name
from tests.support.running import ADDRESS, CLIENT_ADDRESS, needs_program, receive_to_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from appliance.shell.tcp_stream import TcpStream

pytestmark = pytest.mark.system

_T = TypeVar("_T")


class Wire:
    """A network of ours on a TAP, and the namespace that is its other end."""

    def __init__(self, namespace: str, network: Network, nursery: trio.Nursery) -> None:
        self.namespace = namespace
        self.network = network
        self.nursery = nursery

    async def inside(self, action: Callable[[], _T]) -> _T:
        """Run blocking client code in the namespace, in a thread."""
        return await trio.to_thread.run_sync(inside, self.namespace, action)

    def serve(self, handler: Callable[[Any], Any], port: int) -> None:
        """Serve `port` until the end of the test."""
        self.nursery.start_soon(trio.serve_listeners, handler, [self.network.listen_tcp(port)])


class BadTap(TapLink):
    """A TAP whose wire loses, repeats and reorders frames of both directions."""

    def __init__(self, fd: int, *, mtu: int, vnet_header: bool, loss: float) -> None:
        super().__init__(fd, name="tap0", mtu=mtu, vnet_header=vnet_header, owns_fd=False)
        self.chance = random.Random(1)
        self.loss = loss
        self.lost = self.duplicated = self.reordered = 0
        self.gathers = loss == 0  # what is passed on twice, or later, is easier to keep whole

    def spoil(self, frames: list[Any]) -> list[Any]:
        passed: list[Any] = []
        for frame in frames:
            draw = self.chance.random()
            if draw < self.loss:
                self.lost += 1
            elif draw < self.loss * 1.5:
                self.duplicated += 1
                passed += (frame, frame)
            elif draw < self.loss * 2 and passed:
                self.reordered += 1
                passed.insert(len(passed) - 1, frame)
            else:
                passed.append(frame)
        return passed

    def read_batch(self, limit: int) -> list[bytes]:
        return self.spoil(super().read_batch(limit))

    def write_batch(self, frames: list[Any]) -> None:
        super().write_batch(self.spoil(frames))


@asynccontextmanager
async def wire(
    *, mtu: int = 1500, vnet_header: bool = True, offloads: bool = True, loss: float = 0
) -> AsyncIterator[Wire]:
    namespace = fresh_name("wire")
    topology = Topology(
        namespace=namespace,
        tap="tap0",
        client_address=f"{CLIENT_ADDRESS}/24",
        mtu=mtu,
        vnet_header=vnet_header,
        offloads=offloads,
    )
    config = InterfaceConfig(
        mac=b"\x02\x52\x0a\x4d\x00\x02",
        address=parse_address(ADDRESS),
        prefix_length=24,
        mtu=mtu,
        vnet_header=vnet_header,
        gso=offloads,
        random_bytes=os.urandom,
    )
    with build(topology) as built:
        link = BadTap(built.tap.fd, mtu=mtu, vnet_header=vnet_header, loss=loss)
        with trio.fail_after(120):
            async with open_network(link, config) as network, trio.open_nursery() as nursery:
                yield Wire(namespace, network, nursery)
                nursery.cancel_scope.cancel()


async def echo(stream: TcpStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send_all(chunk)
        await stream.send_eof()


async def _echo_mebibytes(line: Wire, count: int) -> None:
    line.serve(echo, 7)
    client = await trio.to_thread.run_sync(
        partial(
            spawn,
            line.namespace,
            [sys.executable, str(ROOT / "tests/support/echo_client.py"), ADDRESS, "7", str(count)],
            stdout=subprocess.PIPE,
        )
    )
    try:
        out, _ = await trio.to_thread.run_sync(client.communicate, abandon_on_cancel=True)
    finally:
        if client.poll() is None:
            client.kill()
    assert client.returncode == 0
    total, sent, received = out.split()
    assert int(total) == count << 20
    assert sent == received


async def test_echo_200_mib_each_way_same_hash(is_compiled: bool) -> None:
    async with wire() as line:
        await _echo_mebibytes(line, 200)


@pytest.mark.parametrize(
    ("vnet_header", "offloads"), [(True, False), (False, False)], ids=["no-offloads", "bare-frames"]
)
async def test_echo_without_the_kernels_help_same_hash(
    vnet_header: bool, offloads: bool, is_compiled: bool
) -> None:
    # Every segment fits the MTU then, and in bare frames every checksum is computed here and verified here.
    async with wire(vnet_header=vnet_header, offloads=offloads) as line:
        await _echo_mebibytes(line, 32 if is_compiled else 8)
        counters = line.network.interface.counters
        assert counters.dropped_bad_checksum == 0
        assert counters.dropped_malformed == 0


@pytest.mark.parametrize("mtu", [576, 9000])
async def test_echo_other_mtu_same_hash(mtu: int, is_compiled: bool) -> None:
    async with wire(mtu=mtu) as line:
        await _echo_mebibytes(line, 32 if is_compiled else 8)


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads", "no-offloads"])
async def test_echo_over_a_bad_wire_same_hash(offloads: bool) -> None:
    # Each frame of up to 64 KiB is lost at a time with offloads: less of them for as much loss.
    async with wire(offloads=offloads, loss=0.02) as line:
        await _echo_mebibytes(line, 4 if offloads else 1)
        link = line.network.link
        assert isinstance(link, BadTap)
        assert link.lost > 0
        assert line.network.interface.counters.segments_retransmitted > 0


async def test_half_close_lets_the_other_half_finish() -> None:
    async with wire() as line:

        async def count(stream: TcpStream) -> None:
            async with stream:
                total = 0
                async for chunk in stream:
                    total += len(chunk)
                # The client's half has ended; ours has not begun.
                await stream.send_all(b"got %d" % total)

        line.serve(count, 1000)

        def client() -> bytes:
            with socket.create_connection((ADDRESS, 1000), timeout=60) as kernel:
                kernel.sendall(b"x" * 300_000)
                kernel.shutdown(socket.SHUT_WR)
                return receive_to_end(kernel)

        assert await line.inside(client) == b"got 300000"


async def test_we_half_close_first_and_go_on_reading() -> None:
    async with wire() as line:
        received = bytearray()
        done = trio.Event()

        async def greet(stream: TcpStream) -> None:
            async with stream:
                await stream.send_all(b"your turn")
                await stream.send_eof()
                async for chunk in stream:
                    received.extend(chunk)
            done.set()

        line.serve(greet, 1000)

        def client() -> None:
            with socket.create_connection((ADDRESS, 1000), timeout=60) as kernel:
                assert receive_to_end(kernel) == b"your turn"
                kernel.sendall(b"y" * 300_000)

        await line.inside(client)
        await done.wait()
        assert received == b"y" * 300_000


async def test_open_tcp_stream_to_a_kernel_server() -> None:
    async with wire() as line:

        def listen() -> socket.socket:
            server = socket.create_server((CLIENT_ADDRESS, 0))
            server.settimeout(60)
            return server

        with await line.inside(listen) as server:
            peers: list[tuple[str, int]] = []

            def serve_one() -> None:
                kernel, peer = server.accept()
                peers.append(peer)
                with kernel:
                    kernel.settimeout(60)
                    kernel.sendall(b"seen " + receive_to_end(kernel))

            port = server.getsockname()[1]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, serve_one)
                stream = await line.network.open_tcp_stream(CLIENT_ADDRESS, port)
                async with stream:
                    await stream.send_all(b"z" * 200_000)
                    await stream.send_eof()
                    answer = b"".join([bytes(chunk) async for chunk in stream])
            assert answer == b"seen " + b"z" * 200_000
            assert peers[0] == stream.local
            assert stream.remote == (CLIENT_ADDRESS, port)


async def test_open_tcp_stream_to_a_closed_port_is_refused() -> None:
    async with wire() as line:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await line.network.open_tcp_stream(CLIENT_ADDRESS, 9)
        assert type(caught.value.__cause__).__name__ == "Refused"


async def test_kernel_reset_breaks_the_stream() -> None:
    async with wire() as line:
        outcome: list[BaseException] = []
        done = trio.Event()

        async def read(stream: TcpStream) -> None:
            async with stream:
                try:
                    await stream.send_all(b"!")
                    async for _ in stream:
                        pass
                except trio.BrokenResourceError as exc:
                    outcome.append(exc)
                finally:
                    done.set()

        line.serve(read, 1000)

        def client() -> None:
            with socket.create_connection((ADDRESS, 1000), timeout=60) as kernel:
                # Reset before it is accepted, a connection is never seen by anyone.
                assert kernel.recv(1) == b"!"
                kernel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        await line.inside(client)
        with trio.fail_after(60):
            await done.wait()
        assert type(outcome[0].__cause__).__name__ == "Reset"


async def test_leaving_the_network_resets_the_kernels_connections() -> None:
    with trio.fail_after(60):
        async with wire() as line:
            line.serve(echo, 7)

            def connect() -> socket.socket:
                kernel = socket.create_connection((ADDRESS, 7), timeout=60)
                kernel.sendall(b"hello")
                assert kernel.recv(100) == b"hello"
                return kernel

            client = await line.inside(connect)
    with client, suppress(ConnectionResetError):
        # FIN when the handler was told first, RST otherwise: either way it is not left waiting.
        assert client.recv(100) == b""


async def test_h11_page_fetched_by_http_client() -> None:
    page = b"<p>served by a TCP of its own</p>\n" * 20_000

    async def serve_page(stream: TcpStream) -> None:
        http11 = h11.Connection(h11.SERVER)
        async with stream:
            while True:
                event = http11.next_event()
                if event is h11.NEED_DATA:
                    http11.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Request):
                    target = event.target
                elif isinstance(event, h11.EndOfMessage):
                    headers = [("content-length", str(len(page))), ("x-target", target.decode())]
                    answer = h11.Response(status_code=200, headers=headers)
                    for part in (answer, h11.Data(data=page), h11.EndOfMessage()):
                        await stream.send_all(http11.send(part) or b"")
                    http11.start_next_cycle()
                else:
                    return

    async with wire() as line:
        line.serve(serve_page, 80)

        def fetch() -> list[tuple[int, str | None, bytes]]:
            client = http.client.HTTPConnection(ADDRESS, 80, timeout=60)
            try:
                pages = []
                for path in ("/first", "/second"):  # on one connection: keep-alive
                    client.request("GET", path)
                    response = client.getresponse()
                    pages.append((response.status, response.getheader("x-target"), response.read()))
                return pages
            finally:
                client.close()

        assert await line.inside(fetch) == [(200, "/first", page), (200, "/second", page)]


@pytest.mark.skipif(bool(needs_program("openssl")), reason=needs_program("openssl"))
async def test_tls_over_tcp_stream_with_a_kernel_client(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-days", "2", "-subj", "/CN=appliance", "-addext", f"subjectAltName=IP:{ADDRESS}"]
    make += ["-keyout", str(key), "-out", str(certificate)]
    await trio.to_thread.run_sync(partial(subprocess.run, make, check=True, capture_output=True, timeout=30))
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate, key)
    client_context = ssl.create_default_context(cafile=str(certificate))
    payload = os.urandom(2_000_000)

    async def serve_tls(stream: TcpStream) -> None:
        async with trio.SSLStream(stream, server_context, server_side=True) as secure:
            received = bytearray()
            while len(received) < len(payload):
                received += await secure.receive_some(65_536)
            await secure.send_all(bytes(received[::-1]))

    async with wire() as line:
        line.serve(serve_tls, 443)

        def talk() -> tuple[str | None, bytes]:
            with (
                socket.create_connection((ADDRESS, 443), timeout=60) as plain,
                client_context.wrap_socket(plain, server_hostname=ADDRESS) as secure,
            ):
                secure.sendall(payload)
                back = bytearray()
                while len(back) < len(payload):
                    back += secure.recv(65_536)
                return secure.version(), bytes(back)

        version, back = await line.inside(talk)
        assert version == "TLSv1.3"
        assert back == payload[::-1]


async def test_thousand_streams_leave_no_task_behind() -> None:
    async with wire() as line:
        line.serve(echo, 7)

        def talk() -> None:
            for _ in range(1_000):
                with socket.create_connection((ADDRESS, 7), timeout=60) as kernel:
                    kernel.sendall(b"hello")
                    assert kernel.recv(100) == b"hello"

        await line.inside(talk)
        network = line.network
        # A connection that lives shortly never has a task, so the last may still be closing without one.
        with trio.fail_after(60):
            while network.pump.timer_tasks or network.interface.connections():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.005)
