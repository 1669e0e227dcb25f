"""What clients do together: transactions with WATCH, publish and subscribe, and commands that wait."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import coredis
import pytest
import redis
import redis.asyncio
import trio

from tests.support.running import ADDRESS, PORT

if TYPE_CHECKING:
    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system

protocols = pytest.mark.parametrize("protocol", [2, 3])


def connect(protocol: int) -> Any:
    return redis.Redis(ADDRESS, PORT, protocol=protocol, socket_timeout=60)


def needs(appliance: RunningAppliance, *commands: str) -> None:
    """The commands are all there."""

    def missing() -> list[str]:
        with connect(2) as client:
            known = [name.lower() for name in client.command()]
            return [name for name in commands if name not in known]

    assert appliance.inside(missing) == []


@protocols
def test_redis_py_transactions(appliance: RunningAppliance, protocol: int) -> None:
    def work() -> None:
        with connect(protocol) as client, connect(protocol) as other:
            client.flushall()
            with client.pipeline(transaction=True) as pipe:
                assert pipe.set("a", 1).rpush("l", "x").hset("h", "f", "v").execute() == [True, 1, 1]
                pipe.incr("a").lpush("a", "x").get("a")
                results = pipe.execute(raise_on_error=False)
                assert (results[0], results[2]) == (2, b"2")
                assert isinstance(results[1], redis.ResponseError)
            with client.pipeline() as pipe:
                pipe.watch("a")
                other.set("a", 99)
                pipe.multi()
                pipe.set("a", 0)
                with pytest.raises(redis.WatchError):
                    pipe.execute()
            assert client.get("a") == b"99"
            assert client.transaction(lambda pipe: pipe.multi() or pipe.incr("a"), "a") == [100]

    appliance.inside(work)


@protocols
def test_redis_py_publish_and_subscribe(appliance: RunningAppliance, protocol: int) -> None:
    def work() -> None:
        with connect(protocol) as client, client.pubsub() as subscriber:
            subscriber.subscribe("news")
            subscriber.psubscribe("wea*")
            assert [subscriber.get_message(timeout=60)["type"] for _ in range(2)] == [
                "subscribe",
                "psubscribe",
            ]
            assert client.publish("news", "one") == 1
            assert client.publish("weather", b"\0\xff") == 1
            assert client.publish("nobody", "x") == 0
            first, second = (subscriber.get_message(timeout=60) for _ in range(2))
            assert (first["type"], first["channel"], first["data"]) == ("message", b"news", b"one")
            assert (second["type"], second["pattern"], second["data"]) == ("pmessage", b"wea*", b"\0\xff")
            assert client.pubsub_channels() == [b"news"]
            assert client.pubsub_numpat() == 1
            subscriber.unsubscribe()
            assert subscriber.get_message(timeout=60)["type"] == "unsubscribe"

    appliance.inside(work)


@protocols
def test_redis_py_waits_for_what_another_client_pushes(appliance: RunningAppliance, protocol: int) -> None:
    needs(appliance, "blpop", "brpop", "blmove", "bzpopmin", "xread")

    def work() -> None:
        with connect(protocol) as client, connect(protocol) as other:
            client.flushall()
            # Each command waits, on a connection of its own, until its key has something.
            waits: dict[str, Any] = {
                "blpop": lambda waiter: waiter.blpop(["l1"], 60),
                "brpop": lambda waiter: waiter.brpop(["l2"], 60),
                "blmove": lambda waiter: waiter.blmove("l3", "to", 60),
                "bzpopmin": lambda waiter: waiter.bzpopmin(["z"], 60),
                "xread": lambda waiter: waiter.xread({"st": "$"}, block=60_000),
            }
            found: dict[str, Any] = {}

            def wait(name: str) -> None:
                with connect(protocol) as waiter:
                    found[name] = waits[name](waiter)

            threads = [threading.Thread(target=wait, args=(name,)) for name in waits]
            for thread in threads:
                thread.start()
            for _ in range(100_000):
                if other.info("clients")["blocked_clients"] == len(waits):
                    break
            for key in ("l1", "l2", "l3"):
                other.rpush(key, "x")
            other.zadd("z", {"m": 2})
            other.xadd("st", {"f": "v"}, id="7-7")
            for thread in threads:
                thread.join(120)
            assert list(found["blpop"]) == [b"l1", b"x"]
            assert list(found["brpop"]) == [b"l2", b"x"]
            assert found["blmove"] == b"x"
            assert list(found["bzpopmin"]) == [b"z", b"m", 2.0]
            assert b"7-7" in repr(found["xread"]).encode()
            assert other.lrange("to", 0, -1) == [b"x"]
            assert client.blpop(["nosuch"], 0.01) is None

    appliance.inside(work)


@protocols
def test_redis_py_asyncio_counts_with_watch_from_many_tasks(
    appliance: RunningAppliance, protocol: int
) -> None:
    async def session() -> None:
        async with redis.asyncio.Redis(
            host=ADDRESS, port=PORT, protocol=protocol, socket_timeout=60
        ) as client:
            await client.set("counter", 0)

            async def count() -> None:
                for _ in range(5):
                    async with client.pipeline() as pipe:
                        while True:
                            try:
                                await pipe.watch("counter")
                                value = int(await pipe.get("counter"))
                                pipe.multi()
                                pipe.set("counter", value + 1)
                                await pipe.execute()
                                break
                            except redis.WatchError:
                                continue

            await asyncio.gather(*(count() for _ in range(6)))
            assert await client.get("counter") == b"30"

    appliance.inside(lambda: asyncio.run(session()))


def test_coredis_waits_and_is_told_under_trio(appliance: RunningAppliance) -> None:
    needs(appliance, "blpop")

    async def main() -> None:
        with trio.fail_after(60):
            async with coredis.Redis(ADDRESS, PORT) as client:
                await client.flushall()
                results: list[Any] = []

                async def wait() -> None:
                    results.append(await client.blpop(["queue"], timeout=60))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await client.rpush("queue", ["job"])
                assert [list(result) for result in results] == [[b"queue", b"job"]]
                async with client.pipeline(transaction=True) as pipe:
                    first = pipe.set("k", "v")
                    second = pipe.incr("n")
                assert (await first, await second) == (True, 1)

    appliance.inside(lambda: trio.run(main))
