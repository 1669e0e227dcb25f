"""coredis, a client on anyio, under trio: the data types, pipelines and many tasks at once, in RESP3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import coredis
import pytest
import trio
from coredis import PureToken

from tests.support.running import ADDRESS, PORT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system


@pytest.fixture
def session(appliance: RunningAppliance) -> Callable[..., None]:
    """`session(fn)` runs fn with a `coredis.Redis` that lives in the namespace, on an empty database."""

    def run(action: Callable[[Any], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            with trio.fail_after(60):
                async with coredis.Redis(ADDRESS, PORT, **options) as client:
                    await client.flushall()
                    await action(client)

        appliance.inside(lambda: trio.run(main))

    return run


def test_lists_hashes_and_sets(session: Callable[..., None]) -> None:
    async def use(client: Any) -> None:
        assert await client.rpush("l", ["a", "b", "c"]) == 3
        assert await client.lrange("l", 0, -1) == [b"a", b"b", b"c"]
        assert await client.linsert("l", PureToken.BEFORE, "c", "x") == 4
        assert await client.lpop("l", count=2) == [b"a", b"b"]
        assert await client.object_encoding("l") == b"listpack"
        assert await client.hset("h", {"a": "1", "b": "2"}) == 2
        assert await client.hgetall("h") == {b"a": b"1", b"b": b"2"}
        assert await client.hexpire("h", 1000, ["a", "nosuch"]) == (1, -2)
        assert 500 < (await client.httl("h", ["a"]))[0] <= 1000
        assert await client.hrandfield("h", count=5, withvalues=True) == {b"a": b"1", b"b": b"2"}
        assert await client.sadd("s", ["1", "2"]) == 2
        assert await client.smembers("s") == {b"1", b"2"}
        assert await client.smismember("s", ["1", "9"]) == (True, False)

    session(use)


def test_sorted_sets_and_geo(session: Callable[..., None]) -> None:
    async def use(client: Any) -> None:
        assert await client.zadd("z", {"a": 1, "b": 2.5}) == 2
        members = await client.zrange("z", 0, -1, withscores=True)
        assert [(each.member, each.score) for each in members] == [(b"a", 1.0), (b"b", 2.5)]
        assert await client.zmscore("z", ["b", "nosuch"]) == (2.5, None)
        assert await client.zrank("z", "b") == 1
        assert await client.zcount("z", 1, 2) == 1
        assert await client.geoadd("geo", [(13.361389, 38.115556, "Palermo")]) == 1
        (place,) = await client.geopos("geo", ["Palermo"])
        assert abs(place.longitude - 13.361389) < 0.0001

    session(use)


def test_streams_and_groups(session: Callable[..., None]) -> None:
    async def use(client: Any) -> None:
        for number in range(5):
            assert await client.xadd("st", {"n": str(number)}, identifier=f"{number + 1}-0")
        assert len(await client.xrange("st", start="2", end="4")) == 3
        assert await client.xgroup_create("st", "g", "0") is True
        read = await client.xreadgroup("g", "alice", {"st": ">"}, count=3)
        assert [entry.identifier for entry in read[b"st"]] == [b"1-0", b"2-0", b"3-0"]
        assert await client.xack("st", "g", ["1-0"]) == 1
        pending = await client.xpending("st", "g")
        assert (pending.pending, pending.minimum_identifier) == (2, b"2-0")
        facts = await client.xinfo_stream("st", full=True)
        assert facts["length"] == 5
        assert facts["groups"][0][b"pel-count"] == 2

    session(use)


def test_keys_bits_and_counts(session: Callable[..., None]) -> None:
    async def use(client: Any) -> None:
        for number in range(300):
            await client.set(f"key:{number}", str(number))
        assert {key async for key in client.scan_iter(count=50)} == {f"key:{n}".encode() for n in range(300)}
        assert await client.pfadd("p", *map(str, range(100)))
        assert 97 <= await client.pfcount(["p"]) <= 103
        assert await client.setbit("bits", 9, 1) == 0
        assert await client.bitcount("bits") == 1
        assert await client.bitpos("bits", 1) == 9
        assert await client.expire("bits", 1000)
        assert 500 < await client.ttl("bits") <= 1000
        assert await client.type("p") == b"string"
        dumped = await client.dump("p")
        assert await client.restore("again", 0, dumped) is True
        assert await client.get("again") == await client.get("p")
        with pytest.raises(coredis.exceptions.ResponseError, match="not an integer"):
            await client.incr("p")

    session(use)


def test_the_server_is_as_it_expects(session: Callable[..., None]) -> None:
    async def use(client: Any) -> None:
        assert (await client.info())["redis_version"].startswith("8.2")
        assert await client.command_count() == len(await client.command())
        assert "summary" in (await client.command_docs("get"))[b"get"] or await client.command_docs("get")
        assert (await client.config_get(["maxmemory"]))[b"maxmemory"] == b"0"
        assert await client.client_id() > 0

    session(use, client_name="coredis-test")


def test_fifty_tasks_share_a_pool(session: Callable[..., None]) -> None:
    async def use(client: Any) -> None:
        async def count(task: int) -> None:
            for _ in range(20):
                await client.incr("counter")
                await client.rpush(f"list:{task}", ["x"])

        async with trio.open_nursery() as nursery:
            for task in range(50):
                nursery.start_soon(count, task)
        assert await client.get("counter") == b"1000"
        assert [await client.llen(f"list:{task}") for task in range(50)] == [20] * 50

    session(use)
