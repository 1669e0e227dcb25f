"""MEMORY USAGE beside what the process really grows by."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEMBERS = 100_000
GROWTH = """
import gc, sys
from tests.support.redis_client import Client, make_engine

def resident():
    # Pages of its own, in memory or swapped out; the kernel drops those of files when others want memory.
    with open("/proc/self/status") as file:
        facts = dict(line.split(":", 1) for line in file)
    return sum(int(facts[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap"))

client = Client(make_engine())
client.send("PING")
template = sys.argv[1].split()
gc.collect()
before = resident()
for number in range(int(sys.argv[2])):
    client.send(*[word.replace("#", str(number)) for word in template])
while client.engine.work(client.now_us):
    pass
gc.collect()
grown = resident() - before
said = 0
for number in range(int(sys.argv[3])):
    said += int(client.send("MEMORY", "USAGE", template[1].replace("#", str(number)), "SAMPLES", "0")[1:])
print(grown, said)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("template", "keys"),
    [
        ("RPUSH k element:#", 1),
        ("SADD k member:#", 1),
        ("HSET k field:# value:#", 1),
        ("ZADD k # member:#", 1),
        ("XADD k * f value:#", 1),
        ("SET key:# value:#", MEMBERS),
        ("RPUSH key:# element:#", MEMBERS),
    ],
)
def test_memory_usage_is_near_the_growth_of_the_process(template: str, keys: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, template, str(MEMBERS), str(keys)],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, said = map(int, done.stdout.split())
    assert 0.45 < said / grown < 1.8, f"{said / grown:.2f}"
