"""redis-py, as people use it, over the kernel's TCP against the appliance; RESP2 and RESP3."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.cache import CacheConfig

from tests.support.running import ADDRESS, CLIENT_ADDRESS, PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.running import RunningAppliance

pytestmark = pytest.mark.system


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def session(request: pytest.FixtureRequest, appliance: RunningAppliance) -> Callable[..., Any]:
    """`session(fn)` gives fn a `redis.Redis` that lives in the namespace, on an empty database."""

    def run(action: Callable[[Any], Any], **options: Any) -> Any:
        def work() -> Any:
            options.setdefault("protocol", request.param)
            with redis.Redis(ADDRESS, PORT, socket_timeout=60, **options) as client:
                client.flushall()
                return action(client)

        return appliance.inside(work)

    return run


def test_redis_py_strings_and_counters(session: Callable[..., Any]) -> None:
    def use(client: Any) -> None:
        assert client.ping() is True
        assert client.set("name", "value") is True
        assert client.get("name") == b"value"
        assert client.set("name", "other", nx=True) is None
        assert client.set("name", "other", xx=True, get=True) == b"value"
        assert client.getset("name", "third") == b"other"
        assert client.append("name", "-more") == 10
        assert client.getrange("name", 0, 4) == b"third"
        assert client.setrange("name", 5, "+") == 10
        assert client.strlen("name") == 10
        assert [client.incr("n"), client.incrby("n", 41), client.decrby("n", 2), client.decr("n")] == [
            1,
            42,
            40,
            39,
        ]
        assert client.incrbyfloat("n", 0.5) == 39.5
        assert client.mset({"a": 1, "b": b"\0\r\n\xff", "c": ""}) is True
        assert client.mget("a", "b", "missing", "c") == [b"1", b"\0\r\n\xff", None, b""]
        assert not client.msetnx({"a": 2, "d": 3})
        assert client.getdel("a") == b"1"
        assert client.exists("a", "b", "c", "b") == 3
        assert client.delete("b", "c", "missing") == 2
        with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
            client.incr("name")

    session(use)


def test_redis_py_expiry(session: Callable[..., Any]) -> None:
    def use(client: Any) -> None:
        client.set("k", "v", ex=1000)
        assert 500 < client.ttl("k") <= 1000
        assert client.persist("k") == 1
        assert client.ttl("k") == -1
        assert client.ttl("missing") == -2
        assert client.expire("k", 5000, nx=True)
        assert not client.expire("k", 6000, nx=True)
        assert client.expiretime("k") > 1_700_000_000
        assert client.getex("k", persist=True) == b"v"
        assert client.ttl("k") == -1
        client.set("soon", "v", px=1)
        # It is gone once its millisecond has passed, whoever looks first.
        for _ in range(10_000):
            if client.get("soon") is None:
                break
        else:
            raise AssertionError("a key of 1 ms still there after 10,000 round trips")

    session(use)


def test_redis_py_scan_iter_gives_every_key_once(session: Callable[..., Any]) -> None:
    def use(client: Any) -> None:
        names = [f"key:{number}" for number in range(2_000)]
        pipe = client.pipeline(transaction=False)
        for name in names:
            pipe.set(name, name)
        assert pipe.execute() == [True] * len(names)
        assert client.dbsize() == len(names)
        assert sorted(client.scan_iter(count=100)) == sorted(name.encode() for name in names)
        assert sorted(client.scan_iter(match="key:19*", count=500)) == sorted(
            name.encode() for name in names if name.startswith("key:19")
        )
        assert client.randomkey().startswith(b"key:")
        assert client.type("key:1") == b"string"
        assert client.rename("key:1", "renamed") is True
        assert client.get("renamed") == b"key:1"
        assert client.copy("renamed", "again") == 1
        assert client.touch("renamed", "again", "key:1") == 2
        assert client.unlink("renamed", "again") == 2

    session(use)


def test_redis_py_client_commands(session: Callable[..., Any]) -> None:
    def use(client: Any) -> None:
        assert client.client_setname("tester") is True
        assert client.client_getname() in (b"tester", "tester")
        own = client.client_id()
        info = client.client_info()
        assert int(info["id"]) == own
        assert info["addr"].startswith(f"{CLIENT_ADDRESS}:")
        assert info["laddr"] == f"{ADDRESS}:{PORT}"
        assert info["lib-name"].startswith("redis-py")
        listed = {int(one["id"]): one for one in client.client_list()}
        assert listed[own]["name"] == "tester"
        with redis.Redis(ADDRESS, PORT, socket_timeout=60) as victim:
            number = victim.client_id()
            assert client.client_kill_filter(_id=number) == 1
            assert number not in {int(one["id"]) for one in client.client_list()}

    session(use, client_name="made", single_connection_client=True)


def test_redis_py_server_commands(session: Callable[..., Any]) -> None:
    def use(client: Any) -> None:
        client.set("k", "v")
        info = client.info()
        assert info["redis_version"]
        assert info["tcp_port"] == PORT
        assert info["connected_clients"] >= 1
        assert info["db0"]["keys"] == 1
        assert info["used_memory"] > 0
        assert client.info("stack")["segments_in"] > 0
        assert client.config_get("databases") == {"databases": "16"}
        assert client.config_set("maxmemory-policy", "noeviction") is True
        assert client.command_count() > 50
        seconds, microseconds = client.time()
        assert seconds > 1_700_000_000
        assert 0 <= microseconds < 1_000_000
        assert client.echo("hello") == b"hello"
        with pytest.raises(redis.ResponseError, match="unknown command 'NOSUCH'"):
            client.execute_command("NOSUCH", "x")
        with pytest.raises(redis.ResponseError, match="wrong number of arguments for 'get' command"):
            client.execute_command("GET")

    session(use)


def test_redis_py_databases_are_apart(session: Callable[..., Any]) -> None:
    def use(client: Any) -> None:
        client.set("k", "zero")
        with redis.Redis(ADDRESS, PORT, db=3, socket_timeout=60) as other:
            assert other.get("k") is None
            other.set("k", "three")
            assert client.swapdb(0, 3) is True
            assert client.get("k") == b"three"
            assert other.get("k") == b"zero"
            assert other.flushdb() is True
            assert client.dbsize() == 1

    session(use)


@pytest.mark.parametrize("size", [1, 1459, 1460, 1461, 65_535, 65_536, 1_000_003], ids=str)
def test_redis_py_value_of_any_size_comes_back(session: Callable[..., Any], size: int) -> None:
    value = random.Random(size).randbytes(size)

    def use(client: Any) -> None:
        assert client.set("big", value) is True
        assert client.strlen("big") == size
        assert client.get("big") == value

    session(use)


def test_redis_py_deep_pipeline_with_large_replies(session: Callable[..., Any], is_compiled: bool) -> None:
    count = 20_000 if is_compiled else 2_000

    def use(client: Any) -> None:
        client.set("block", b"x" * 1_000)
        pipe = client.pipeline(transaction=False)
        for number in range(count):
            pipe.get("block").set(f"n{number}", number)
        replies = pipe.execute()
        assert replies == [b"x" * 1_000, True] * count
        assert client.dbsize() == count + 1

    session(use)


def test_redis_py_64_mib_value_in_and_out_same_hash(session: Callable[..., Any]) -> None:
    value = random.Random(64).randbytes(64 * 1024 * 1024)

    def use(client: Any) -> None:
        assert client.set("huge", value) is True
        assert client.strlen("huge") == len(value)
        back = client.get("huge")
        assert hashlib.sha256(back).digest() == hashlib.sha256(value).digest()
        assert client.delete("huge") == 1

    session(use)


def test_redis_py_caches_what_it_reads_until_it_changes(appliance: RunningAppliance) -> None:
    def work() -> None:
        options: dict[str, Any] = {"protocol": 3, "socket_timeout": 30}
        with (
            redis.Redis(ADDRESS, PORT, cache_config=CacheConfig(max_size=100), **options) as client,
            redis.Redis(ADDRESS, PORT, **options) as other,
        ):
            other.flushall()
            other.config_resetstat()
            for value in range(20):
                other.set("k", value)
                # The message is on its way when the writer has its reply: it may take a look or two.
                while client.get("k") != str(value).encode():
                    pass
                before = other.info("commandstats").get("cmdstat_get", {}).get("calls", 0)
                for _ in range(10):
                    assert client.get("k") == str(value).encode()
                assert other.info("commandstats")["cmdstat_get"]["calls"] == before
            assert other.info("clients")["tracking_clients"] >= 1
            cache = client.get_cache()
            assert cache is not None
            assert cache.size == 1
            other.flushall()
            while client.get("k") is not None:
                pass

    appliance.inside(work)
