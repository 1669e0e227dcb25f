"""TCP streams are trio streams: trio's own checks, trio's own servers, and a protocol library on top."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import h11
import pytest
import trio
from trio.testing import check_half_closeable_stream, check_two_way_stream, wait_all_tasks_blocked

from appliance.errors import LocalProtocolError, Refused, Reset, TimedOut
from appliance.shell.link import memory_link_pair
from appliance.stack.tcp.config import TcpConfig
from tests.shell.support import SERVER, connect, lose_all, receive_exactly, two_networks, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

    from appliance.shell.tcp_stream import TcpStream

    Maker = Callable[[], Awaitable[tuple[TcpStream, TcpStream]]]


@asynccontextmanager
async def makers(*, vnet_header: bool) -> AsyncIterator[tuple[Maker, Maker]]:
    """Makers of connected pairs and of pairs whose first stream cannot send any more."""
    async with two_networks(vnet_header=vnet_header) as (client, server):
        listener = server.listen_tcp(7)

        async def make() -> tuple[TcpStream, TcpStream]:
            return await connect(client, server, listener)

        async def make_clogged() -> tuple[TcpStream, TcpStream]:
            near, far = await make()
            # TCP tells a waiting sender of space only when a third of the buffer is free, so what a big write
            # leaves free has to be filled by small ones.
            for stream in (near, far):
                for size in (65536, 512, 1):
                    with trio.move_on_after(1):
                        while True:
                            await stream.send_all(bytes(size))
            return near, far

        yield make, make_clogged


@pytest.mark.parametrize("vnet_header", [True, False])
async def test_stream_passes_trios_half_closeable_check(autojump_clock: MockClock, vnet_header: bool) -> None:
    async with makers(vnet_header=vnet_header) as (make, make_clogged):
        await check_half_closeable_stream(make, make_clogged)


async def test_stream_passes_trios_two_way_check(autojump_clock: MockClock) -> None:
    async with makers(vnet_header=True) as (make, make_clogged):
        await check_two_way_stream(make, make_clogged)


async def test_serve_listeners_echo_returns_what_was_sent(autojump_clock: MockClock) -> None:
    async def echo(stream: TcpStream) -> None:
        async for chunk in stream:
            await stream.send_all(chunk)

    payload = bytes(range(256)) * 4096
    async with two_networks() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, [server.listen_tcp(7)])
        async with await client.open_tcp_stream(SERVER, 7) as stream, trio.open_nursery() as both:

            async def send() -> None:
                await stream.send_all(payload)
                await stream.send_eof()

            both.start_soon(send)
            received = b"".join([chunk async for chunk in stream])
        assert received == payload
        nursery.cancel_scope.cancel()


async def test_h11_page_is_served_over_our_tcp(autojump_clock: MockClock) -> None:
    async def serve_page(stream: TcpStream) -> None:
        http = h11.Connection(h11.SERVER)
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.EndOfMessage):
                break
        body = b"<h1>hello</h1>"
        headers = [("content-length", str(len(body))), ("connection", "close")]
        await stream.send_all(http.send(h11.Response(status_code=200, headers=headers)) or b"")
        await stream.send_all(http.send(h11.Data(data=body)) or b"")
        await stream.send_all(http.send(h11.EndOfMessage()) or b"")
        await stream.aclose()

    async with two_networks() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve_page, [server.listen_tcp(80)])
        browser = h11.Connection(h11.CLIENT)
        async with await client.open_tcp_stream(SERVER, 80) as stream:
            request = h11.Request(method="GET", target="/", headers=[("host", SERVER)])
            await stream.send_all(browser.send(request) or b"")
            await stream.send_all(browser.send(h11.EndOfMessage()) or b"")
            status, body = 0, b""
            while True:
                event = browser.next_event()
                if event is h11.NEED_DATA:
                    browser.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
        assert (status, body) == (200, b"<h1>hello</h1>")
        nursery.cancel_scope.cancel()


async def test_open_nobody_listens_is_broken_by_refusal(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, _server):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.open_tcp_stream(SERVER, 9)
        assert isinstance(caught.value.__cause__, Refused)


async def test_open_no_answer_times_out_after_the_syn_retries(autojump_clock: MockClock) -> None:
    near, far = memory_link_pair()
    async with two_networks(links=(near, far), tcp=TcpConfig(syn_retries=2)) as (client, server):
        server.listen_tcp(7)
        stream = await client.open_tcp_stream(SERVER, 7)
        stream.abort()
        far.on_write = lose_all
        started = trio.current_time()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.open_tcp_stream(SERVER, 7)
        assert isinstance(caught.value.__cause__, TimedOut)
        # RFC 6298 §5: 1 s, 2 s, 4 s.
        assert trio.current_time() - started == pytest.approx(7.0, abs=0.01)


async def test_open_cancelled_aborts_the_attempt(autojump_clock: MockClock) -> None:
    near, far = memory_link_pair()
    async with two_networks(links=(near, far)) as (client, server):
        server.listen_tcp(7)
        (await client.open_tcp_stream(SERVER, 7)).abort()
        near.on_write = lose_all
        with trio.move_on_after(0.5) as scope:
            await client.open_tcp_stream(SERVER, 7)
        assert scope.cancelled_caught
        assert client.interface.connections() == []
        await until(lambda: client.pump.timer_tasks == 0)


async def test_send_after_reset_is_broken_and_keeps_the_cause(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))
        far.abort()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await near.receive_some()
        assert isinstance(caught.value.__cause__, Reset)
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")


async def test_abort_wakes_both_waiting_tasks(autojump_clock: MockClock) -> None:
    async def expect_closed(wait: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await wait()

    async with makers(vnet_header=True) as (_make, make_clogged):
        near, far = await make_clogged()
        # Empty what the far end holds, so that receiving waits; sending waits as long as nobody reads.
        with trio.move_on_after(1):
            while True:
                await near.receive_some()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_closed, near.receive_some)
            nursery.start_soon(expect_closed, lambda: near.send_all(bytes(1 << 23)))
            await wait_all_tasks_blocked()
            near.abort()
        far.abort()


async def test_accept_several_tasks_get_one_connection_each(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        listener = server.listen_tcp(7)
        accepted: list[TcpStream] = []

        async def accept_one() -> None:
            accepted.append(await listener.accept())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(accept_one)
            streams = [await client.open_tcp_stream(SERVER, 7) for _ in range(3)]
        assert {stream.local for stream in streams} == {stream.remote for stream in accepted}


async def test_listener_aclose_wakes_accept_and_resets_the_unaccepted(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        listener = server.listen_tcp(7)
        stream = await client.open_tcp_stream(SERVER, 7)
        await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        other = server.listen_tcp(7)  # the port is free again

        async def expect_closed() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await other.accept()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_closed)
            await wait_all_tasks_blocked()
            await other.aclose()


async def test_listen_taken_port_is_a_local_error(autojump_clock: MockClock) -> None:
    async with two_networks() as (_client, server):
        server.listen_tcp(7)
        with pytest.raises(LocalProtocolError):
            server.listen_tcp(7)


async def test_data_before_accept_waits_for_the_accepter(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        listener = server.listen_tcp(7)
        near = await client.open_tcp_stream(SERVER, 7)
        await near.send_all(b"early")
        await near.send_eof()
        await trio.sleep(1)
        far = await listener.accept()
        assert await far.receive_some() == b"early"
        assert await far.receive_some() == b""


async def test_bytearray_changed_after_send_all_is_sent_as_it_was(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))
        data = bytearray(b"before")
        await near.send_all(data)
        data[:] = b"after!"
        assert await receive_exactly(far, 6) == b"before"


async def test_statistics_and_names_tell_the_connection(autojump_clock: MockClock) -> None:
    async with two_networks() as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))
        near.set_nodelay(True)
        await near.send_all(b"x" * 1000)
        await receive_exactly(far, 1000)
        assert near.remote == (SERVER, 7) == far.local
        assert near.local == far.remote
        facts = far.statistics()
        assert (facts["state"], facts["bytes_in"]) == ("ESTABLISHED", 1000)
        assert "ESTABLISHED" in repr(near)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_lost_and_doubled_frames_leave_the_stream_whole(autojump_clock: MockClock, seed: int) -> None:
    near_link, far_link = memory_link_pair(vnet_header=False)
    chance = random.Random(seed)

    def lose_or_double(frame: bytes) -> list[bytes]:
        x = chance.random()
        return [] if x < 0.1 else [frame, frame] if x < 0.2 else [frame]

    near_link.on_write = far_link.on_write = lose_or_double
    payload = bytes(range(251)) * 1000
    async with two_networks(links=(near_link, far_link), vnet_header=False) as (client, server):
        near, far = await connect(client, server, server.listen_tcp(7))

        async def send() -> None:
            await near.send_all(payload)
            await near.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received = b"".join([chunk async for chunk in far])
    assert received == payload
