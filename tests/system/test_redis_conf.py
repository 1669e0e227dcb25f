"""`redtap serve redis.conf --parameter value`, as people run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.running import ask, request, running_appliance

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system


def _values(reply: object) -> dict[str, str]:
    if isinstance(reply, dict):
        return reply
    assert isinstance(reply, list)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def test_a_redis_conf_is_served_and_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "redis.conf"
    file.write_text(
        '# ours\nmaxmemory 64mb\nport 7001\nappendonly yes\nrename-command FLUSHALL ""\nsave 60 1\n'
    )
    with running_appliance(
        tmp_path, str(file), "--maxmemory-policy", "allkeys-lru", "--save", ""
    ) as appliance:
        client = appliance.connect(port=7001)
        ask(client, request("SET", "a", 1), b"+OK\r\n")
        client.close()
        asked = ("maxmemory", "maxmemory-policy", "port", "appendonly", "save")
        assert _values(appliance.control("CONFIG", "GET", *asked)) == {
            "maxmemory": str(64 << 20),
            "maxmemory-policy": "allkeys-lru",
            "port": "7001",
            "appendonly": "no",
            "save": "",
        }
        assert appliance.control("CONFIG", "SET", "timeout", "5") == "OK"
        assert appliance.control("CONFIG", "REWRITE") == "OK"
    lines = file.read_text().splitlines()
    assert lines[:5] == [
        "# ours",
        "maxmemory 64mb",
        "port 7001",
        "appendonly yes",
        'rename-command FLUSHALL ""',
    ]
    assert lines[5] == 'save ""'
    assert {"timeout 5", "maxmemory-policy allkeys-lru"} <= set(lines)
