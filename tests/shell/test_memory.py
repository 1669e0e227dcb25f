"""What is made for a request or a connection is freed by its reference counts: the collector finds nothing."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.shell.memory import Collector, give_back, settled
from tests.shell.support import ask
from tests.shell.test_redis_service import open_client, redis_at_6379, rest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from appliance.shell.network import Network

_GONE_S = 300.0
"""Virtual seconds after which TIME-WAIT is over and every timer has been looked at."""


@contextmanager
def nothing_for_the_collector() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = Counter(type(one).__name__ for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        if was_enabled:
            gc.enable()
    assert not found, f"left to the collector: {found}"


async def come_and_go(client: Network, how: str) -> None:
    for _ in range(10):
        stream = await open_client(client)
        await ask(stream, b"*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n", b"$-1\r\n")
        if how == "quit":
            await stream.send_all(b"QUIT\r\n")
            assert await rest_of(stream) == b"+OK\r\n"
        elif how == "protocol error":
            await stream.send_all(b"*1\r\n!\r\n")
            assert (await rest_of(stream)).startswith(b"-ERR Protocol error")
        elif how == "unread":
            await stream.send_all(b"PING\r\nPING\r\n")
        if how == "abort":
            stream.abort()
        else:
            await stream.aclose()
    await trio.sleep(_GONE_S)


@pytest.mark.parametrize("how", ["close", "quit", "abort", "protocol error", "unread"])
async def test_connections_that_end_leave_no_cycles(autojump_clock: MockClock, how: str) -> None:
    async with redis_at_6379() as (client, server, _service):
        await come_and_go(client, how)
        with nothing_for_the_collector():
            await come_and_go(client, how)
        assert server.interface.connections() == []


async def test_requests_leave_no_cycles(autojump_clock: MockClock) -> None:
    requests = [
        (b"SET a 1\r\n", b"+OK\r\n"),
        (b"INCR a\r\n", b":2\r\n"),
        (b"MSET b text c text\r\n", b"+OK\r\n"),
        (b"APPEND b more\r\n", b":8\r\n"),
        (b"EXPIRE c 100\r\n", b":1\r\n"),
        (b"DEL b c\r\n", b":2\r\n"),
        (b"SET a\r\n", b"-ERR wrong number of arguments for 'set' command\r\n"),
        (b"INCR\r\n", b"-ERR wrong number of arguments for 'incr' command\r\n"),
        (b"SET a x\r\nINCR a\r\n", b"+OK\r\n-ERR value is not an integer or out of range\r\n"),
        (b"ECHO x\r\n" * 100, b"$1\r\nx\r\n" * 100),
    ]

    async def ask_all() -> None:
        for request, reply in requests * 5:
            await ask(stream, request, reply)

    async with redis_at_6379() as (client, _server, _service):
        stream = await open_client(client)
        await ask_all()
        with nothing_for_the_collector():
            await ask_all()


def test_collector_looks_when_much_is_new_and_at_all_of_it_once_an_hour_when_idle() -> None:
    hour = 3600 * 1_000_000
    with settled():
        assert not gc.isenabled()
        collector = Collector(0)
        collector.look(1, True)
        assert collector.looks == 0
        kept: list[list[int]] = [[] for _ in range(6000)]
        collector.look(2, False)
        assert collector.looks == 1
        assert gc.get_count()[0] < 1000
        frozen = gc.get_freeze_count()
        assert frozen > len(kept)
        collector.look(3, False)
        collector.look(hour + 1, False)
        assert collector.looks == 1
        collector.look(hour + 2, True)
        assert collector.looks == 2
        collector.look(hour + 3, True)
        assert collector.looks == 2
    assert gc.get_freeze_count() == 0


class _Node:
    def __init__(self) -> None:
        self.itself = self


def test_collector_frees_cycles_it_has_not_seen_yet() -> None:
    with settled():
        collector = Collector(0)
        nodes = [_Node() for _ in range(6000)]
        last = weakref.ref(nodes[-1])
        del nodes
        assert last() is not None
        collector.look(1, False)
        assert last() is None


def test_giving_back_twice_is_harmless() -> None:
    give_back()
    give_back()
