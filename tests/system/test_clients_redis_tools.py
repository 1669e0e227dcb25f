"""redis-cli and redis-benchmark, as Debian packages them, against the appliance."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from appliance.redis.rdb import ABOUT, END, KEY, LIBRARY, RdbReader
from appliance.redis.types.collection import EncodingLimits
from netns.inside import spawn
from tests.support.machine import redtap
from tests.support.running import ADDRESS, ask, needs_program, request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.running import RunningAppliance

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        bool(needs_program("redis-cli", "redis-benchmark")),
        reason=needs_program("redis-cli", "redis-benchmark"),
    ),
]

_CLI = ("redis-cli", "-h", ADDRESS)
_BENCHMARK = 'redis-benchmark -h "$REDIS_HOST" -p "$REDIS_PORT" -q '


def test_redis_cli_one_command_each(own_appliance: RunningAppliance) -> None:
    run = own_appliance.run
    assert run(*_CLI, "ping") == "PONG\n"
    assert run(*_CLI, "set", "a", "1") == "OK\n"
    assert run(*_CLI, "get", "a") == "1\n"
    assert run(*_CLI, "-3", "hello", "3").startswith("server redis\nversion ")
    assert run(*_CLI, "-n", "5", "dbsize") == "0\n"
    assert run(*_CLI, "incr", "a") == "2\n"
    assert run(*_CLI, "nosuch").startswith("ERR unknown command 'nosuch', with args beginning with:")
    assert run(*_CLI, "-r", "3", "incr", "a") == "3\n4\n5\n"


def test_redis_cli_reads_commands_from_standard_input(
    own_appliance: RunningAppliance, tmp_path: Path
) -> None:
    script = tmp_path / "commands"
    script.write_text('set greeting "hello world"\nget greeting\nstrlen greeting\nexists greeting nobody\n')
    with script.open("rb") as file:
        assert own_appliance.run(*_CLI, stdin=file) == "OK\nhello world\n11\n1\n"


def test_redis_cli_bigkeys_and_scan_walk_the_keyspace(own_appliance: RunningAppliance) -> None:
    for name in ("one", "two", "three"):
        assert own_appliance.run(*_CLI, "set", name, name * 10) == "OK\n"
    assert sorted(own_appliance.run(*_CLI, "--scan").split()) == ["one", "three", "two"]
    report = own_appliance.run(*_CLI, "--bigkeys")
    assert "Sampled 3 keys in the keyspace!" in report
    assert re.search(r"Biggest string found .*three.* has 50 bytes", report), report


# One key of each type, and what redis-cli calls the type and its elements.
_ONE_OF_EACH = [
    ("SET text hello", "string", "5 bytes"),
    ("RPUSH list a b c", "list", "3 items"),
    ("HSET hash f 1 g 2", "hash", "2 fields"),
    ("SADD set a b c d", "set", "4 members"),
    ("ZADD sorted 1 a 2 b", "zset", "2 members"),
    ("XADD stream 1-1 f v", "stream", "1 entries"),
]


def test_redis_cli_bigkeys_and_memkeys_know_every_type(own_appliance: RunningAppliance) -> None:
    run = own_appliance.run
    for line, _, _ in _ONE_OF_EACH:
        assert "ERR" not in run(*_CLI, *line.split())
    report = run(*_CLI, "--bigkeys")
    for line, kind, size in _ONE_OF_EACH:
        assert re.search(rf"Biggest +{kind} found '?\"{line.split()[1]}\"'? has {size}", report), report
    for option in ("--memkeys", "--memkeys-samples 0"):
        report = run(*_CLI, *option.split())
        for line, kind, _ in _ONE_OF_EACH:
            found = re.search(rf"Biggest +{kind} found '?\"{line.split()[1]}\"'? has (\d+) bytes", report)
            assert found is not None, report
            assert 50 < int(found[1]) < 5000
    for _, kind, _ in _ONE_OF_EACH:
        found_by_type = run(*_CLI, "scan", "0", "type", kind, "count", "100").split()
        assert found_by_type[0] == "0"
        assert len(found_by_type) == 2
    assert sorted(run(*_CLI, "--scan", "--pattern", "s*").split()) == ["set", "sorted", "stream"]


_FUNCTION_CODE = "#!lua name=l\nredis.register_function('f', function() return 1 end)"


@pytest.mark.parametrize("keys", [0, 40_000])
def test_redis_cli_rdb_and_functions_rdb_write_files_that_are_whole(
    own_appliance: RunningAppliance, tmp_path: Path, keys: int
) -> None:
    run = own_appliance.run
    for line, _, _ in _ONE_OF_EACH:
        run(*_CLI, *line.split())
    assert run(*_CLI, "function", "load", _FUNCTION_CODE) == "l\n"
    with own_appliance.connect() as client:
        sets = b"".join(request("SET", f"key:{at}", f"{at} " * 20) for at in range(keys))
        ask(client, sets, b"+OK\r\n" * keys)
    file = tmp_path / "all.rdb"
    run(*_CLI, "--rdb", str(file))
    found: dict[int, list[bytes]] = {KEY: [], LIBRARY: [], ABOUT: []}
    limits = EncodingLimits()
    limits.hash_secret = bytes(16)
    reader = RdbReader(file.read_bytes())
    while (kind := reader.next()) != END:
        if kind == KEY:
            reader.value(limits)
        found[kind].append(reader.key if kind == KEY else reader.text)
    expected = [line.split()[1].encode() for line, _, _ in _ONE_OF_EACH]
    assert sorted(found[KEY]) == sorted([*expected, *[b"key:%d" % at for at in range(keys)]])
    assert found[LIBRARY] == [_FUNCTION_CODE.encode()]
    run(*_CLI, "--functions-rdb", str(file))
    reader = RdbReader(file.read_bytes())
    while (kind := reader.next()) == ABOUT:
        pass
    assert (kind, reader.text, reader.next()) == (LIBRARY, _FUNCTION_CODE.encode(), END)


def test_redis_cli_replica_is_refused(own_appliance: RunningAppliance) -> None:
    command = spawn(
        own_appliance.namespace, [*_CLI, "--replica"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 1
    assert b"SYNC with master failed: -ERR this server has no replicas" in errors


@pytest.mark.parametrize("option", ["--latency", "--latency-history"])
def test_redis_cli_latency_samples(own_appliance: RunningAppliance, option: str) -> None:
    # What is no terminal gets one line of minimum, maximum, average and number after a second's samples.
    command = spawn(own_appliance.namespace, [*_CLI, "-i", "0.05", option], stdout=subprocess.PIPE)
    assert command.stdout is not None
    try:
        with command.stdout as lines:
            words = next(lines).split()
    finally:
        command.kill()
        command.wait()
    least, most, mean = (float(word) for word in words[:3])
    assert 0 <= least <= mean <= most
    assert int(words[3]) >= 1


def test_redis_cli_pipe_takes_commands_of_every_type(own_appliance: RunningAppliance, tmp_path: Path) -> None:
    load = tmp_path / "load"
    rounds = 500
    lines = [line.replace("1-1", "*") for line, _, _ in _ONE_OF_EACH]
    with load.open("wb") as file:
        for number in range(rounds):
            for line in lines:
                name, key, *rest = line.split()
                file.write(request(name, f"{key}:{number % 50}", *rest))
    with load.open("rb") as file:
        report = own_appliance.run(*_CLI, "--pipe", stdin=file)
    assert f"errors: 0, replies: {rounds * len(lines)}" in report
    assert own_appliance.run(*_CLI, "dbsize") == f"{50 * len(lines)}\n"
    assert own_appliance.run(*_CLI, "llen", "list:7") == "30\n"
    assert own_appliance.run(*_CLI, "xlen", "stream:7") == "10\n"


def test_redis_cli_formats_each_kind_of_reply(own_appliance: RunningAppliance) -> None:
    run = own_appliance.run
    for line, _, _ in _ONE_OF_EACH:
        run(*_CLI, *line.split())
    assert run(*_CLI, "--no-raw", "lrange", "list", "0", "-1") == '1) "a"\n2) "b"\n3) "c"\n'
    assert run(*_CLI, "-3", "--no-raw", "hgetall", "hash") == '1# "f" => "1"\n2# "g" => "2"\n'
    assert run(*_CLI, "-3", "--no-raw", "zscore", "sorted", "b") == "(double) 2\n"
    assert run(*_CLI, "-3", "--no-raw", "get", "nosuch") == "(nil)\n"
    assert run(*_CLI, "--csv", "zrange", "sorted", "0", "-1", "withscores") == '"a","1","b","2"\n'
    assert run(*_CLI, "--json", "hgetall", "hash") == '{"f":"1","g":"2"}\n'
    assert run(*_CLI, "--no-raw", "lpush", "text", "x") == (
        "(error) WRONGTYPE Operation against a key holding the wrong kind of value\n"
    )


def test_redis_cli_eval_runs_a_script_file(own_appliance: RunningAppliance, tmp_path: Path) -> None:
    script = tmp_path / "script.lua"
    script.write_text("redis.call('SET', KEYS[1], ARGV[1]); return {KEYS[1], redis.call('INCR', KEYS[1])}")
    run = own_appliance.run
    assert run(*_CLI, "--eval", str(script), "counter", ",", "41") == "counter\n42\n"
    assert run(*_CLI, "get", "counter") == "42\n"
    script.write_text("return redis.error_reply('NOPE not today')")
    assert "NOPE not today" in run(*_CLI, "--eval", str(script))


def test_redis_cli_monitor_shows_what_others_do(own_appliance: RunningAppliance) -> None:
    command = spawn(own_appliance.namespace, ["stdbuf", "-oL", *_CLI, "monitor"], stdout=subprocess.PIPE)
    assert command.stdout is not None
    try:
        with command.stdout as lines:
            assert next(lines) == b"OK\n"
            own_appliance.run(*_CLI, "set", "key", "a b")
            own_appliance.run(*_CLI, "-n", "3", "get", "key")
            shown: list[bytes] = []
            while len(shown) < 2:
                line = next(lines)
                if b'"set"' in line or b'"get"' in line:
                    shown.append(line)
    finally:
        command.kill()
        command.wait()
    assert re.fullmatch(rb'[0-9]+\.[0-9]{6} \[0 [0-9.:]+\] "set" "key" "a b"\n', shown[0]), shown
    assert re.fullmatch(rb'[0-9]+\.[0-9]{6} \[3 [0-9.:]+\] "get" "key"\n', shown[1]), shown


def test_redis_cli_latency_dist_draws_its_spectrum(own_appliance: RunningAppliance) -> None:
    command = spawn(
        own_appliance.namespace,
        ["stdbuf", "-oL", *_CLI, "-i", "0.1", "--latency-dist"],
        stdout=subprocess.PIPE,
    )
    assert command.stdout is not None
    try:
        with command.stdout as lines:
            report = b"".join(next(lines) for _ in range(3))
    finally:
        command.kill()
        command.wait()
    assert b"rror" not in report


def test_redis_cli_hotkeys_asks_for_a_policy_and_then_finds_them(own_appliance: RunningAppliance) -> None:
    run = own_appliance.run
    assert run(*_CLI, "config", "set", "maxmemory-policy", "allkeys-lfu") == "OK\n"
    run(*_CLI, "set", "cold", "x")
    run(*_CLI, "set", "hot", "x")
    run(*_CLI, "-r", "200", "get", "hot")
    report = run(*_CLI, "--hotkeys")
    assert re.search(r"hot key found with counter: +[0-9]+\tkeyname: \"?hot\"?", report), report


def test_redis_cli_help_knows_the_commands_of_the_server(own_appliance: RunningAppliance) -> None:
    assert own_appliance.run(*_CLI, "command", "count").strip().isdigit()
    assert "SET <directive> <value>" in own_appliance.run(*_CLI, "config", "help")
    assert own_appliance.run(*_CLI, "--no-raw", "acl", "whoami") == '"default"\n'


def test_redis_cli_stat_finds_what_it_shows_in_info(own_appliance: RunningAppliance) -> None:
    assert own_appliance.run(*_CLI, "set", "k", "v") == "OK\n"
    command = spawn(own_appliance.namespace, [*_CLI, "-i", "0.01", "--stat"], stdout=subprocess.PIPE)
    assert command.stdout is not None
    try:
        with command.stdout as lines:
            report = [next(lines).decode().split() for _ in range(4)]
    finally:
        command.kill()
        command.wait()
    # keys, memory, clients, blocked, requests (difference), connections
    keys, memory, clients, blocked = report[3][:4]
    assert (keys, clients, blocked) == ("1", "1", "0")
    assert re.fullmatch(r"[0-9.]+[KMG]", memory)


_PROMPT = """\
set a 1
multi
incr a
get a
exec
multi
set x
discard
exec
hello 3
hgetall hash
reset
select 3
get a
select 99
auth wrong
config set requirepass secret
get a
reset
get a
auth secret
get a
config set requirepass ""
"no closing quote
:set hints
3 incr counter
"""
_SAID = """\
OK
OK
QUEUED
QUEUED
1) (integer) 2
2) "2"
OK
(error) ERR wrong number of arguments for 'set' command
OK
(error) ERR EXEC without MULTI
1# "f" => "1"
RESET
OK
(nil)
(error) ERR DB index is out of range
(error) ERR AUTH <password> called without any password configured for the default user. Are you sure your \
configuration is correct?
OK
(nil)
RESET
(error) NOAUTH Authentication required.
OK
"2"
OK
Invalid argument(s)
(integer) 1
(integer) 2
(integer) 3
"""


def test_redis_cli_takes_a_session_of_commands(own_appliance: RunningAppliance, tmp_path: Path) -> None:
    script = tmp_path / "commands"
    script.write_text(_PROMPT)
    own_appliance.run(*_CLI, "hset", "hash", "f", "1")
    with script.open("rb") as file:
        said = own_appliance.run(*_CLI, "--no-raw", stdin=file)
    hello = re.compile(r'^1# "server".*?\n(?=1# "f")', re.DOTALL | re.MULTILINE)
    assert hello.sub("", said) == _SAID
    assert own_appliance.run(*_CLI, "ping") == "PONG\n"


@pytest.mark.parametrize("version", ["-2", "-3"])
def test_redis_cli_subscribes_and_shows_messages(own_appliance: RunningAppliance, version: str) -> None:
    command = spawn(
        own_appliance.namespace,
        ["stdbuf", "-oL", *_CLI, version, "--csv", "subscribe", "one", "two"],
        stdout=subprocess.PIPE,
    )
    assert command.stdout is not None
    try:
        with command.stdout as lines:
            while next(lines) != b'"subscribe","two",2\n':
                pass
            assert own_appliance.run(*_CLI, "publish", "two", "a b") == "1\n"
            assert next(lines) == b'"message","two","a b"\n'
    finally:
        command.kill()
        command.wait()


def test_redis_cli_shows_an_invalidation_as_it_comes(own_appliance: RunningAppliance, tmp_path: Path) -> None:
    script = tmp_path / "commands"
    script.write_text("client tracking on\nget a\nset a 5\nget a\nping\n")
    with script.open("rb") as file:
        said = own_appliance.run(*_CLI, "-3", "--no-raw", "--show-pushes", "yes", stdin=file)
    # What this client changes itself it is told of, in front of the reply or behind it.
    assert sorted(said.replace("'", '"').splitlines()) == sorted(
        ["OK", "(nil)", '-> invalidate: "a"', "OK", '"5"', "PONG"]
    ), said


def test_redis_cli_connects_by_uri_database_and_password(own_appliance: RunningAppliance) -> None:
    run = own_appliance.run
    assert run("redis-cli", "-u", f"redis://{ADDRESS}:6379/3", "set", "here", "1") == "OK\n"
    assert run(*_CLI, "-n", "3", "get", "here") == "1\n"
    assert run(*_CLI, "config", "set", "requirepass", "secret") == "OK\n"
    assert run("redis-cli", "-u", f"redis://default:secret@{ADDRESS}:6379/3", "get", "here") == "1\n"
    assert run(*_CLI, "-a", "secret", "--no-auth-warning", "ping") == "PONG\n"
    assert run(*_CLI, "--user", "default", "--pass", "secret", "ping") == "PONG\n"
    assert run(*_CLI, "ping", env={"PATH": os.environ["PATH"], "REDISCLI_AUTH": "secret"}) == "PONG\n"
    assert run(*_CLI, "ping").startswith("NOAUTH")


def test_redis_cli_takes_values_from_standard_input_and_in_quotes(
    own_appliance: RunningAppliance, tmp_path: Path
) -> None:
    value = tmp_path / "value"
    value.write_bytes(b"any\x00bytes")
    run = own_appliance.run
    with value.open("rb") as file:
        assert run(*_CLI, "-x", "set", "key", stdin=file) == "OK\n"
    with value.open("rb") as file:
        assert run(*_CLI, "-X", "here", "set", "other", "here", "get", stdin=file) == "\n"
    assert run(*_CLI, "--quoted-input", "set", r'"a\x00\n"', r'"\t"') == "OK\n"
    assert run(*_CLI, "--no-raw", "mget", "key", "other") == '1) "any\\x00bytes"\n2) "any\\x00bytes"\n'
    assert run(*_CLI, "--no-raw", "--quoted-input", "get", r'"a\x00\n"') == '"\\t"\n'
    assert run(*_CLI, "--scan", "--quoted-pattern", r'"a\x00*"') == "a\n"  # up to its NUL
    assert run(*_CLI, "-d", "|", "mget", "key", "none") == "any\0bytes|\n"


@pytest.mark.parametrize("action", ["check", "info", "fix", "rebalance", "reshard", "add-node"])
def test_redis_cli_cluster_hears_that_this_is_none(own_appliance: RunningAppliance, action: str) -> None:
    node = f"{ADDRESS}:6379"
    words = [*_CLI, "--cluster", action, node, *([node] if action == "add-node" else [])]
    command = spawn(own_appliance.namespace, words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 1
    assert b"[ERR] Node 10.77.0.2:6379 is not configured as a cluster node." in said


def test_redis_cli_lru_test_and_c_option_work_without_a_cluster(own_appliance: RunningAppliance) -> None:
    command = spawn(
        own_appliance.namespace, ["stdbuf", "-oL", *_CLI, "--lru-test", "100"], stdout=subprocess.PIPE
    )
    assert command.stdout is not None
    try:
        with command.stdout as lines:
            assert re.match(rb"[0-9]+ Gets/sec \| Hits: [0-9]+", next(lines))
    finally:
        command.kill()
        command.wait()
    assert own_appliance.run(*_CLI, "-c", "set", "a", "1") == "OK\n"
    assert own_appliance.run(*_CLI, "-c", "get", "a") == "1\n"


def test_redis_cli_keystats_finds_the_largest_keys(own_appliance: RunningAppliance) -> None:
    if (
        "--keystats"
        not in subprocess.run(["redis-cli", "--help"], capture_output=True, text=True, check=False).stdout
    ):
        pytest.skip("needs a redis-cli that has --keystats (8.0)")
    for line, _, _ in _ONE_OF_EACH:
        own_appliance.run(*_CLI, *line.split())
    own_appliance.run(*_CLI, "set", "large", "x" * 100_000)
    for words in (["--keystats"], ["--keystats-samples", "0", "--top", "3"]):
        report = own_appliance.run(*_CLI, *words)
        assert re.search(r"Keys sampled: 7", report), report
        assert re.search(r"^ +1 +9[0-9.]+K string +\"large\"", report, re.MULTILINE), report
        for _, kind, _ in _ONE_OF_EACH:
            assert re.search(rf"^{kind} +[a-z]+ is ", report, re.MULTILINE), report


def test_info_memory_and_cpu_are_real(own_appliance: RunningAppliance) -> None:
    def info(section: str) -> dict[str, str]:
        lines = own_appliance.run(*_CLI, "info", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    before = info("memory")
    assert 0 < int(before["used_memory"]) <= int(before["used_memory_rss"])
    assert re.fullmatch(r"[0-9.]+[KMG]", before["used_memory_human"])
    size = 32 * 1024 * 1024
    with own_appliance.connect() as client:
        client.sendall(request("SETRANGE", "big", size - 1, "x"))
        assert client.recv(100) == b":%d\r\n" % size
    after = info("memory")
    assert int(after["used_memory"]) - int(before["used_memory"]) >= size
    assert int(after["used_memory_peak"]) >= int(after["used_memory"])
    cpu = info("cpu")
    assert float(cpu["used_cpu_user"]) > 0
    assert float(cpu["used_cpu_sys"]) >= 0


def test_redis_cli_pipe_loads_a_million_keys(
    own_appliance: RunningAppliance, tmp_path: Path, is_compiled: bool
) -> None:
    count = 1_000_000 if is_compiled else 100_000
    load = tmp_path / "load"
    with load.open("wb") as file:
        for start in range(0, count, 10_000):
            file.write(b"".join(request("SET", b"key:%d" % n, n) for n in range(start, start + 10_000)))
    with load.open("rb") as file:
        report = own_appliance.run(*_CLI, "--pipe", stdin=file, seconds=120)
    assert f"errors: 0, replies: {count}" in report
    assert own_appliance.run(*_CLI, "dbsize") == f"{count}\n"
    assert own_appliance.run(*_CLI, "get", f"key:{count - 1}") == f"{count - 1}\n"


def _check_benchmark(arguments: str, tests: int) -> None:
    done = redtap("exec", "--", "sh", "-c", _BENCHMARK + arguments)
    report = done.stdout.replace("\r", "\n") + done.stderr
    assert done.returncode == 0, report
    rates = re.findall(r"^([A-Z_]+(?: \(10 keys\))?): ([0-9.]+) requests per second", report, re.MULTILINE)
    assert len(rates) == tests, report
    assert all(float(rate) > 0 for _, rate in rates)
    assert "rror" not in report, report
    assert done.stderr == ""


_WHOLE_LIST = [
    "PING_INLINE",
    "PING_MBULK",
    "SET",
    "GET",
    "INCR",
    "LPUSH",
    "RPUSH",
    "LPOP",
    "RPOP",
    "SADD",
    "HSET",
    "SPOP",
    "ZADD",
    "ZPOPMIN",
    "LRANGE_100",
    "LRANGE_300",
    "LRANGE_500",
    "LRANGE_600",
    "MSET",
]


@pytest.mark.parametrize("options", ["", "-P 16 -r 1000", "-3 -r 100 -d 200"])
def test_redis_benchmark_has_its_whole_list_without_an_error(options: str, is_compiled: bool) -> None:
    count = 5_000 if is_compiled else 1_000
    done = redtap("exec", "--", "sh", "-c", _BENCHMARK + f"-n {count} -c 20 {options}")
    report = done.stdout.replace("\r", "\n") + done.stderr
    assert done.returncode == 0, report
    rates = re.findall(r"^([A-Z_0-9]+)(?: \(.*\))?: ([0-9.]+) requests per second", report, re.MULTILINE)
    assert {name for name, _ in rates} >= set(_WHOLE_LIST), report
    assert all(float(rate) > 0 for _, rate in rates)
    assert "rror" not in report, report
    assert done.stderr == ""


def test_redis_benchmark_pipelined_through_exec(is_compiled: bool) -> None:
    count = 200_000 if is_compiled else 50_000
    _check_benchmark(f"-t ping,set,get,incr,mset -n {count} -P 16", tests=6)


def test_redis_benchmark_200_clients_through_exec(is_compiled: bool) -> None:
    count = 50_000 if is_compiled else 20_000
    _check_benchmark(f"-t ping,set,get,incr,mset -n {count} -P 1 -c 200", tests=6)


def test_redis_benchmark_random_keys_and_large_values_through_exec(is_compiled: bool) -> None:
    count = 20_000 if is_compiled else 4_000
    _check_benchmark(f"-t set,get -n {count} -d 65536 -r 100 -c 20 -P 4", tests=2)


_DEBUGGED = """local n = redis.call('INCR', KEYS[1])
local t = {x = ARGV[1]}
redis.call('SET', 'other', n)
return {n, t.x}
"""


@pytest.mark.parametrize(
    ("option", "kept", "last_words"),
    [
        ("--ldb", ["9", ""], "(Lua debugging session ended -- dataset changes rolled back)"),
        ("--ldb-sync-mode", ["50", "10"], "(Lua debugging session ended)"),
    ],
)
def test_redis_cli_debugs_a_script(
    own_appliance: RunningAppliance, tmp_path: Path, option: str, kept: list[str], last_words: str
) -> None:
    script = tmp_path / "script.lua"
    script.write_text(_DEBUGGED)
    commands = tmp_path / "commands"
    commands.write_text("s\np\ns\nr GET k\ne #ARGV\nr SET k 50\nl 1 1\nbreak 4\nc\nt\nc\n")
    own_appliance.run(*_CLI, "SET", "k", "9")
    with commands.open("rb") as file:
        said = own_appliance.run(*_CLI, option, "--eval", str(script), "k", ",", "hello", stdin=file)
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", said).split("\n") if line]
    assert lines[lines.index("* Stopped at 1, stop reason = step over") :] == [
        "* Stopped at 1, stop reason = step over",
        "-> 1   local n = redis.call('INCR', KEYS[1])",
        "<redis> INCR k",
        "<reply> 10",
        "* Stopped at 2, stop reason = step over",
        "-> 2   local t = {x = ARGV[1]}",
        "<value> n = 10",
        "* Stopped at 3, stop reason = step over",
        "-> 3   redis.call('SET', 'other', n)",
        "<redis> GET k",
        '<reply> "10"',
        "<retval> 1",
        "<redis> SET k 50",
        '<reply> "+OK"',
        "   1   local n = redis.call('INCR', KEYS[1])",
        "   2   local t = {x = ARGV[1]}",
        "-> 3   redis.call('SET', 'other', n)",
        "  #4   return {n, t.x}",
        "* Stopped at 4, stop reason = break point",
        "->#4   return {n, t.x}",
        "In top level:",
        "->#4   return {n, t.x}",
        "1) (integer) 10",
        '2) "hello"',
        last_words,
    ]
    assert own_appliance.run(*_CLI, "MGET", "k", "other").split("\n")[:2] == kept
