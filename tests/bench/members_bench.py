"""What commands cost on big values: ours beside redis-server's, for every command that looks at all of a value.

    .venv/bin/python -m tests.bench.members_bench [--members 1000000] [--only WORD ...] [--rounds 3]

Both sides hold the same values of that many members (elements, fields, entries, bits). Each command runs some times
in turn on both; the least counts. Ours is timed in this process, from the request's bytes to the reply's; the server
says itself how long it took (commandstats), also without the sending. A command that changes its value runs on a
fresh COPY each time. The last column is ours / theirs; above 3 it is marked.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from appliance._build import build_kind
from tests.support.redis_pair import (
    OurClient,
    RealServer,
    encode_request,
    find_redis_server,
    make_engine,
    now_us,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

WORST = 3.0
BATCH = 1000
DATABASE = "database 1"  # what is shown as the key of commands on a database of so many keys
SETTINGS = {"proto-max-bulk-len": "2gb", "client-output-buffer-limit": "normal 0 0 0"}


def batches(head: list[str], members: Iterator[list[str]]) -> Iterator[tuple[str, ...]]:
    """Requests of some hundred members each."""
    request = list(head)
    for member in members:
        request += member
        if len(request) > BATCH:
            yield tuple(request)
            request = list(head)
    if len(request) > len(head):
        yield tuple(request)


def values(count: int) -> dict[str, Iterator[tuple[str, ...]]]:
    """The requests that make each key."""
    numbers = range(count)
    stream = (("XADD", "stream", f"{number + 1}-1", "field", f"value:{number}") for number in numbers)
    return {
        "list": batches(["RPUSH", "list"], ([f"element:{number}"] for number in numbers)),
        "numbers": batches(["RPUSH", "numbers"], ([f"{number * 7919 % count}"] for number in numbers)),
        "set": batches(["SADD", "set"], ([f"member:{number}"] for number in numbers)),
        "half": batches(["SADD", "half"], ([f"member:{number}"] for number in range(count // 2, count + count // 2))),
        "hash": batches(["HSET", "hash"], ([f"field:{number}", f"value:{number}"] for number in numbers)),
        "zset": batches(["ZADD", "zset"], ([f"{number * 7919 % count}", f"member:{number}"] for number in numbers)),
        "names": batches(["ZADD", "names"], (["0", f"member:{number:08}"] for number in numbers)),
        "places": batches(
            ["GEOADD", "places"],
            ([f"{number * 7919 % 359 - 179}.{number % 997}", f"{number * 31 % 160 - 80}.{number % 991}", f"p{number}"]
             for number in numbers),
        ),
        "stream": stream,
        "grouped": itertools.chain(
            (("XADD", "grouped", f"{number + 1}-1", "field", f"value:{number}") for number in numbers),
            [("XGROUP", "CREATE", "grouped", "group", "0"),
             ("XREADGROUP", "GROUP", "group", "one", "COUNT", str(count), "STREAMS", "grouped", ">")],
        ),
        DATABASE: itertools.chain(
            [("SELECT", "1")],
            batches(["MSET"], ([f"key:{number}", f"value:{number}"] for number in numbers)),
            [("SELECT", "0")],
        ),
        "sketch": batches(["PFADD", "sketch"], ([f"element:{number}"] for number in numbers)),
        "string": iter([("SETRANGE", "string", str(count * 16), "x"), ("SETBIT", "string", "5", "1")]),
    }  # fmt: skip


# Command, and the key that it changes.
def commands(count: int) -> list[tuple[str, str]]:
    half = count // 2
    some = count // 10
    read = [
        "LRANGE list 0 -1", f"LRANGE list {half} {half + 10}", "LPOS list none", f"LINDEX list {half}",
        "SORT numbers LIMIT 0 10", "SORT numbers", "SORT list ALPHA LIMIT 0 10", "DUMP list",
        "MEMORY USAGE list SAMPLES 0",
        "SMEMBERS set", f"SSCAN set 0 COUNT {count * 2}", f"SSCAN set 0 MATCH *99 COUNT {count * 2}",
        f"SRANDMEMBER set {some}", f"SRANDMEMBER set {count - 1}", f"SRANDMEMBER set -{some}", "SINTER set half",
        "SUNION set half", "SDIFF set half", "SINTERCARD 2 set half", "DUMP set", "SORT set ALPHA LIMIT 0 10",
        "MEMORY USAGE set SAMPLES 0",
        "HGETALL hash", "HKEYS hash", "HVALS hash", f"HSCAN hash 0 COUNT {count * 2}",
        f"HSCAN hash 0 COUNT {count * 2} NOVALUES", f"HRANDFIELD hash {some}", f"HRANDFIELD hash {count - 1}",
        f"HRANDFIELD hash -{some} WITHVALUES", f"HRANDFIELD hash {some} WITHVALUES", "DUMP hash",
        "MEMORY USAGE hash SAMPLES 0",
        "ZRANGE zset 0 -1", "ZRANGE zset 0 -1 WITHSCORES", "ZRANGE zset 0 -1 REV", "ZRANGE zset -inf +inf BYSCORE",
        "ZRANGE names - + BYLEX", "ZRANGEBYSCORE zset -inf +inf WITHSCORES", f"ZRANGE zset -inf +inf BYSCORE LIMIT {half} 10",
        "ZCOUNT zset -inf +inf", "ZLEXCOUNT names - +", f"ZSCAN zset 0 COUNT {count * 2}", f"ZRANDMEMBER zset {some}",
        f"ZRANDMEMBER zset {count - 1}", f"ZRANDMEMBER zset -{some} WITHSCORES", "ZUNION 2 zset names", "ZINTER 2 zset set",
        "ZDIFF 2 zset half", "ZINTERCARD 2 zset set", "DUMP zset", "SORT zset ALPHA LIMIT 0 10",
        "MEMORY USAGE zset SAMPLES 0",
        "GEOSEARCH places FROMLONLAT 10 10 BYRADIUS 1000 km", "GEOSEARCH places FROMLONLAT 10 10 BYRADIUS 20000 km",
        "GEOSEARCH places FROMLONLAT 10 10 BYRADIUS 20000 km COUNT 10", "GEOSEARCH places FROMLONLAT 10 10 BYBOX 5000 5000 km ASC",
        "GEOSEARCH places FROMLONLAT 10 10 BYRADIUS 3000 km WITHDIST WITHCOORD WITHHASH",
        "XRANGE stream - +", "XREVRANGE stream + -", "XREAD STREAMS stream 0", "XINFO STREAM stream FULL COUNT 0",
        "DUMP stream", "MEMORY USAGE stream SAMPLES 0",
        "BITCOUNT string", "BITPOS string 1 1", "GETRANGE string 0 -1", "STRLEN string", "DUMP string",
        "MEMORY USAGE string",
        "LPOS list none COUNT 0", "LPOS list none RANK -1", "SORT numbers DESC LIMIT 0 10", "SORT numbers BY nosort",
        f"SMISMEMBER set member:#{some}", f"HMGET hash field:#{some}", f"HTTL hash FIELDS {some} field:#{some}",
        f"ZMSCORE zset member:#{some}", "ZRANGE zset +inf -inf BYSCORE REV", "ZRANGE names + - BYLEX REV",
        f"GEOPOS places p#{some}", f"GEOHASH places p#{some}",
        "XPENDING grouped group", f"XPENDING grouped group - + {count}", "XINFO STREAM grouped FULL COUNT 0",
        "DUMP grouped", "PFCOUNT sketch", f"GETRANGE string {half} -{half}",
    ]  # fmt: skip
    database = [
        "KEYS *", "KEYS *99", "KEYS none", f"SCAN 0 COUNT {count * 2}", f"SCAN 0 MATCH *99 COUNT {count * 2}",
        f"SCAN 0 TYPE list COUNT {count * 2}", "RANDOMKEY", "DBSIZE", f"MGET key:#{some}", f"EXISTS key:#{some}",
        f"TOUCH key:#{some}", f"MSET key:#|value:#{some}",
    ]  # fmt: skip
    changing = {
        "grouped": [f"XAUTOCLAIM {{}} group two 0 0 COUNT {count}", f"XACK {{}} group #-1{some}",
                    f"XREADGROUP GROUP group one COUNT {count} STREAMS {{}} 0", "XGROUP DELCONSUMER {} group one",
                    "XGROUP DESTROY {} group", f"XTRIM {{}} MAXLEN {some} DELREF"],
        "sketch": ["PFMERGE {} sketch", f"PFADD {{}} other:#{some}"],
        "list": [f"RPUSH {{}} x#{some}", f"LPUSH {{}} x#{some}", "RENAME {} other", "LREM {} -1 none", f"LTRIM {{}} {half} {half}",
                 "RESTORE {} 0 DUMP(list) REPLACE", "EXPIRE {} 100",
                 "LREM {} 0 none", "LREM {} 1 element:" + str(count - 1), f"LINSERT {{}} BEFORE element:{count - 1} x",
                 f"LSET {{}} {half} x", f"LTRIM {{}} {some} -{some}", f"LPOP {{}} {half}", f"LMPOP 1 {{}} LEFT COUNT {count}"],
        "numbers": ["SORT {} STORE {}"],
        "set": [f"SADD {{}} other:#{some}", f"SREM {{}} member:#{some}", "RESTORE {} 0 DUMP(set) REPLACE", "RENAME {} other",
                f"SPOP {{}} {some}", f"SPOP {{}} {count - 1}", "SINTERSTORE {} {} half", "SUNIONSTORE {} {} half", "SDIFFSTORE {} {} half"],
        "hash": ["HDEL {} field:1", f"HDEL {{}} field:#{some}", f"HSET {{}} other:#|value:#{some}",
                 f"HEXPIRE {{}} 1000 FIELDS {some} field:#{some}", f"HGETDEL {{}} FIELDS {some} field:#{some}",
                 "RESTORE {} 0 DUMP(hash) REPLACE", "RENAME {} other"],
        "zset": [f"ZADD {{}} #|other:#{some}", f"ZREM {{}} member:#{some}", "RESTORE {} 0 DUMP(zset) REPLACE", "RENAME {} other",
                 f"ZREMRANGEBYRANK {{}} {some} -{some}", "ZREMRANGEBYSCORE {} -inf +inf", f"ZPOPMIN {{}} {half}",
                 f"ZMPOP 1 {{}} MAX COUNT {half}", "ZUNIONSTORE {} 2 {} names", "ZINTERSTORE {} 2 {} set", "ZDIFFSTORE {} 2 {} half",
                 f"ZRANGESTORE {{}} {{}} {some} -{some}"],
        "names": ["ZREMRANGEBYLEX {} - +"],
        "places": ["GEORADIUS {} 10 10 20000 km STORE changed", "GEOSEARCHSTORE {} {} FROMLONLAT 10 10 BYRADIUS 20000 km"],
        "stream": ["RESTORE {} 0 DUMP(stream) REPLACE", "RENAME {} other", f"XDEL {{}} #-1{some}", f"XTRIM {{}} MINID {half}-1",
                   f"XTRIM {{}} MAXLEN {some}", f"XTRIM {{}} MAXLEN ~ {some}", f"XDEL {{}} {half}-1", "XGROUP CREATE {} group 0"],
        "string": ["RESTORE {} 0 DUMP(string) REPLACE", "BITOP ONE {} {} string", f"SETRANGE {{}} {count * 32} x", "BITOP NOT {} {}", "BITOP AND {} {} string", "BITOP DIFF {} {} string", "APPEND {} x", "SETRANGE {} 5 x"],
    }  # fmt: skip
    listed = [(line, "") for line in read] + [(line, DATABASE) for line in database]
    for key, lines in changing.items():
        listed += [(line.format(*["changed"] * 2), key) for line in lines]
        listed += [("COPY changed other REPLACE", key), ("UNLINK changed", key), ("DEL changed", key)]
    return listed


def words_of(line: str, dumps: dict[str, bytes]) -> tuple[str | bytes, ...]:
    """A line as a request: `a:#|b:#3` is `a:0 b:0 a:1 b:1 a:2 b:2`, and DUMP(key) the dump of that key."""
    request: list[str | bytes] = []
    for word in line.split():
        many = re.fullmatch(r"(.*#\D*?(?:-1)?)(\d+)", word)
        if many is not None:
            parts = many[1].split("|")
            request += [part.replace("#", str(number)) for number in range(int(many[2])) for part in parts]
        elif word.startswith("DUMP("):
            request.append(dumps[word[5:-1]])
        else:
            request.append(word)
    return tuple(request)


class Theirs:
    """The server, and its own clock."""

    def __init__(self, server: RealServer) -> None:
        self.connection = server.connect()
        self.connection.settimeout(120)

    def ask(self, data: bytes, replies: int = 1) -> bytes:
        """The last bytes of that many replies, which may be of any size."""
        mark = b"$12\r\nend of reply\r\n"
        self.connection.sendall(data + encode_request(("ECHO", "end of reply")))
        kept = b""
        while not kept.endswith(mark):
            chunk = self.connection.recv(1 << 20)
            assert chunk
            kept = (kept + chunk)[-4096:]
        return kept[: -len(mark)]

    def timed(self, request: tuple[str | bytes, ...]) -> float:
        self.ask(encode_request(("CONFIG", "RESETSTAT")))
        reply = self.ask(encode_request(request))
        assert not reply.startswith(b"-"), reply
        stats = self.ask(encode_request(("INFO", "commandstats"))).decode()
        name = str(request[0]).lower()
        total = sum(
            int(usec) for usec in re.findall(rf"cmdstat_{name}(?:\|[a-z]+)?:calls=\d+,usec=(\d+)", stats)
        )
        return total / 1e6


class Ours:
    """Our engine, and this process's clock."""

    def __init__(self) -> None:
        self.engine = make_engine()
        self.client = OurClient(self.engine)

    def ask(self, data: bytes) -> list[bytes]:
        self.client.session.data_received(data, now_us())
        return self.client.session.take_output()

    def timed(self, request: tuple[str | bytes, ...]) -> float:
        data = encode_request(request)
        at = now_us()
        begun = time.perf_counter()
        self.client.session.data_received(data, at)
        output = self.client.session.take_output()
        took = time.perf_counter() - begun
        assert not output[0].startswith(b"-"), output
        return took

    def settle(self) -> None:
        """Let what is to be freed go, and what is to be resized be."""
        while self.engine.releases.work(100_000):
            pass
        while self.engine.work(now_us()):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument(
        "--only", nargs="*", default=[], help="keys or commands that contain one of these words"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    binary = find_redis_server()
    if binary is None:
        raise SystemExit("needs a redis-server 8.2")
    gc.disable()
    wanted = [
        (line, key)
        for line, key in commands(options.members)
        if not options.only or any(word in f"{line} {key}" for word in options.only)
    ]
    with tempfile.TemporaryDirectory() as place:
        server = RealServer(binary, Path(place))
        try:
            compare(server, options.members, options.rounds, wanted)
        finally:
            server.close()


def compare(server: RealServer, members: int, rounds: int, wanted: list[tuple[str, str]]) -> None:
    ours = Ours()
    theirs = Theirs(server)
    used = {word for line, key in wanted for word in [*re.split(r"[ ()]", line), key]}
    for key, requests in values(members).items():
        if key not in used:
            continue
        for request in requests:
            ours.ask(encode_request(request))
            theirs.ask(encode_request(request))
    ours.settle()
    dumps = {}
    for name in used & {"list", "set", "hash", "zset", "stream", "string"}:
        if any(f"DUMP({name})" in line for line, _ in wanted):
            reply = ours.ask(encode_request(("DUMP", name)))
            dumps[name] = b"".join(reply).split(b"\r\n", 1)[1][:-2]
    print(f"{build_kind()} build, {members:,} members, least of {rounds}")
    print(f"{'command':68} {'ours ms':>10} {'theirs ms':>10} {'ratio':>7}")
    for line, key in wanted:
        asked = words_of(line, dumps)
        best = [1e9, 1e9]
        for _ in range(rounds):
            for side, which in ((ours, 0), (theirs, 1)):
                if key == DATABASE:
                    side.ask(encode_request(("SELECT", "1")))
                elif key:
                    side.ask(encode_request(("COPY", key, "changed", "REPLACE")))
                    ours.settle()
                best[which] = min(best[which], side.timed(asked))
                side.ask(encode_request(("SELECT", "0")))
            ours.ask(encode_request(("UNLINK", "changed", "other")))
            theirs.ask(encode_request(("UNLINK", "changed", "other")))
            ours.settle()
        mine, other = (max(each, 1e-6) for each in best)
        ratio = mine / other
        # Below a millisecond nobody waits, whatever the ratio.
        mark = " <--" if ratio > WORST and mine > 0.001 else ""
        shown = f"{line} ({key})" if key else line
        print(f"{shown:68} {mine * 1e3:10.2f} {other * 1e3:10.2f} {ratio:7.2f}{mark}", flush=True)


if __name__ == "__main__":
    main()
