"""DEBUG, compared with redis-server: digests, a reload, values of every protocol type, how values look."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.redis_pair import OurClient, encode_request, make_engine

if TYPE_CHECKING:
    from appliance.redis.process_end import ProcessEnd
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

VALUES = [
    "SET s abc",
    "SET empty ",
    "SET i 123",
    "SET expiring x EX 1000",
    "APPEND grown abc",
    "RPUSH l 1 2 three",
    "RPUSH quick " + " ".join(["x" * 100] * 200),
    "SADD ints 3 1 2",
    "SADD words b a 1",
    "SADD many " + " ".join(map(str, range(600))),
    "ZADD z 1 a 2.5 b -inf c +inf d 0.1 e 1e300 f 3.0000000000000004 g 100000000000000000000 h -0.0 i",
    "ZADD skip " + " ".join(f"{n}.25 m{n}" for n in range(200)),
    "HSET h a 1 b 2",
    "HSET timed a 1 b 2",
    "HEXPIRE timed 1000 FIELDS 1 a",
    "XADD x 1-1 a b c d",
    "XADD x 2-5 e f",
    "XDEL x 1-1",
    "PFADD hll a b c",
]

KEYS = [line.split(" ")[1] for line in VALUES]


def fill(pair: Pair) -> None:
    for line in VALUES:
        pair.same(*line.split(" "))
    pair.same("SELECT", 3)
    pair.same("SET", "elsewhere", 1)
    pair.same("SELECT", 0)


def test_digests_agree(pair: Pair) -> None:
    pair.same("DEBUG", "DIGEST")
    pair.same("DEBUG", "DIGEST-VALUE")
    fill(pair)
    for key in [*KEYS, "missing"]:
        pair.same("DEBUG", "DIGEST-VALUE", key)
    pair.same("DEBUG", "DIGEST-VALUE", *KEYS)
    pair.same("DEBUG", "DIGEST")


@pytest.mark.parametrize("request_", ["RELOAD", "RELOAD MERGE", "RELOAD NOSAVE NOFLUSH MERGE"])
def test_a_reload_changes_nothing(pair: Pair, request_: str) -> None:
    fill(pair)
    before = pair.same("DEBUG", "DIGEST")
    pair.same("DEBUG", "RELOAD")
    pair.same("DEBUG", *request_.split(" "))
    assert pair.same("DEBUG", "DIGEST") == before
    for key in KEYS:
        pair.same("OBJECT", "ENCODING", key)
        pair.same("TYPE", key)
    pair.same("DBSIZE")
    pair.same("HGETALL", "timed")
    for database in pair.engine.databases:
        database.check_invariants()


def test_a_reload_spoils_transactions_and_caches(pair: Pair) -> None:
    pair.same("SET", "k", 1)
    pair.same("WATCH", "k")
    pair.same("DEBUG", "RELOAD")
    pair.same("MULTI")
    pair.same("EXEC")


def test_objects_look_alike(pair: Pair) -> None:
    fill(pair)
    for key in KEYS:
        if key in ("i", "quick"):
            continue  # shared there; compressed there
        ours, theirs = pair.both("DEBUG", "OBJECT", key)
        shown = [
            re.sub(rb"0x[0-9a-f]+|lru:\d+|idle:\d+|serializedlength:\d+", b"", each)
            for each in (ours, theirs)
        ]
        assert shown[0] == shown[1]


@pytest.mark.parametrize(
    "line",
    [
        "PROTOCOL string", "PROTOCOL integer", "PROTOCOL double", "PROTOCOL bignum", "PROTOCOL null", "PROTOCOL array",
        "PROTOCOL set", "PROTOCOL map", "PROTOCOL attrib", "PROTOCOL verbatim",
        "PROTOCOL true", "PROTOCOL false", "PROTOCOL nosuch", "PROTOCOL", "SET-ACTIVE-EXPIRE", "SET-ACTIVE-EXPIRE 1",
        "SET-ACTIVE-EXPIRE 1 2", "QUICKLIST-PACKED-THRESHOLD 1k", "QUICKLIST-PACKED-THRESHOLD x",
        "QUICKLIST-PACKED-THRESHOLD -1", "QUICKLIST-PACKED-THRESHOLD 4gb", "QUICKLIST-PACKED-THRESHOLD 0",
        "QUICKLIST-PACKED-THRESHOLD", "ERROR foo", "ERROR", "LOG x", "LOG", "CHANGE-REPL-ID", "CHANGE-REPL-ID x",
        "DIGEST x", "RELOAD x", "POPULATE", "POPULATE x", "POPULATE -1", "POPULATE 3", "POPULATE 3 p", "POPULATE 3 pp 10",
        "POPULATE 3 a b c", "SLEEP", "SLEEP 0", "SLEEP -1", "SLEEP x", "OBJECT", "OBJECT missing", "OBJECT a b", "NOSUCH",
        "STRINGMATCH-LEN a b", "JMAP", "ZIPLIST l",
        "AOF-FLUSH-SLEEP x", "AOF-FLUSH-SLEEP", "DICT-RESIZING 0", "DICT-RESIZING 1", "DICT-RESIZING",
        "DROP-CLUSTER-PACKET-FILTER x", "DROP-CLUSTER-PACKET-FILTER -1", "KEYSIZES-HIST-ASSERT 0",
        "KEYSIZES-HIST-ASSERT x", "KEYSIZES-HIST-ASSERT", "MARK-INTERNAL-CLIENT", "MARK-INTERNAL-CLIENT unmark",
        "MARK-INTERNAL-CLIENT x", "INTERNAL_SECRET", "CLUSTERLINK KILL all x", "CLUSTERLINK KILL", "REPL-PAUSE clear",
        "REPL-PAUSE x", "REPL-PAUSE", "REPLICATE x", "REPLICATE", "REPLYBUFFER PEAK-RESET-TIME reset",
        "REPLYBUFFER PEAK-RESET-TIME x", "REPLYBUFFER PEAK-RESET-TIME", "REPLYBUFFER RESIZING 1", "REPLYBUFFER x 1",
        "SCRIPT LIST", "SCRIPT", "SCRIPT x", "SCRIPT ffffffffffffffffffffffffffffffffffffffff", "CLIENT-EVICTION",
        "CLIENT-EVICTION x", "HTSTATS 99", "HTSTATS -1", "HTSTATS x", "HTSTATS", "HTSTATS 5 full", "HTSTATS-KEY",
        "HTSTATS-KEY missing", "SDSLEN missing", "SDSLEN", "LISTPACK missing", "LISTPACK", "QUICKLIST missing",
        "QUICKLIST", "QUICKLIST l 1 2", "SET-SKIP-CHECKSUM-VALIDATION 0", "PAUSE-CRON 0",
    ],
)  # fmt: skip
def test_replies_agree(pair: Pair, line: str) -> None:
    pair.same("DEBUG", *line.split(" "))
    pair.same("DEBUG", "DIGEST")
    pair.same("DBSIZE")


def test_errors_may_hold_anything(pair: Pair) -> None:
    for text in ("ERR foo\r\nbar", "MY own", "", "\r\n", "-x"):
        pair.same("DEBUG", "ERROR", text)


@pytest.mark.parametrize("threshold", ["10", "100", "0"])
def test_elements_may_have_nodes_of_their_own(pair: Pair, threshold: str) -> None:
    pair.same("DEBUG", "QUICKLIST-PACKED-THRESHOLD", threshold)
    for size in (5, 20, 50, 200, 3000, 9000):
        pair.same("RPUSH", "l", *["x" * size, "y"] * 4)
        pair.same("LPUSH", "l", "z" * size)
    ours, theirs = pair.both("DEBUG", "OBJECT", "l")
    nodes = [re.findall(rb"ql_nodes:\d+ ql_avg_node:[\d.]+", each) for each in (ours, theirs)]
    assert nodes[0] == nodes[1]
    pair.same("LSET", "l", 3, "w" * 30)
    pair.same("LINSERT", "l", "BEFORE", "y", "v" * 150)
    pair.same("LREM", "l", 2, "y")
    pair.same("LRANGE", "l", 0, -1)
    pair.same("DEBUG", "QUICKLIST-PACKED-THRESHOLD", 0)


def test_a_push_follows_the_reply(pair: Pair) -> None:
    if pair.same("DEBUG", "PROTOCOL", "null") == b"_\r\n":
        ours, theirs = pair.exchange(b"DEBUG PROTOCOL push\r\nPING\r\n", 3)
        assert ours == theirs
    else:
        pair.same("DEBUG", "PROTOCOL", "push")


def test_without_the_checksum_a_dump_is_still_looked_at(pair: Pair) -> None:
    pair.same("SET", "k", "v")
    ours, theirs = pair.both("DUMP", "k")
    assert ours == theirs
    payload = bytearray(ours.split(b"\r\n", 1)[1][:-2])
    payload[-1] ^= 1
    for skip in (1, 0):
        pair.same("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", skip)
        pair.same("RESTORE", f"k{skip}", 0, bytes(payload))
        pair.same("RESTORE", "short", 0, b"abc")


@pytest.mark.parametrize("view", ["LISTPACK", "QUICKLIST"])
def test_the_log_is_told_what_values_are_made_of(pair: Pair, view: str) -> None:
    fill(pair)
    lines: list[bytes] = []
    pair.engine.on_script_log = lambda _level, text: lines.append(text)
    told = 0
    for key in KEYS:
        if b"printed" in pair.same("DEBUG", view, key):
            told += 1
            assert lines.pop().startswith(f"DEBUG {view}: ".encode())
    assert told > 0
    assert lines == []


def test_strings_tell_their_length(pair: Pair) -> None:
    fill(pair)
    for key in KEYS:
        replies = pair.both("DEBUG", "SDSLEN", key)
        ours, theirs = (re.sub(rb"(avail:|zmalloc: )\d+", rb"\1", each) for each in replies)
        assert ours == theirs


@pytest.mark.parametrize("full", [[], ["full"], ["x"]])
def test_tables_are_described_in_the_form_of_the_reference(pair: Pair, full: list[str]) -> None:
    fill(pair)
    requests = [("DEBUG", "HTSTATS", "0", *full)]
    requests += [("DEBUG", "HTSTATS-KEY", key, *full) for key in KEYS]
    for request in requests:
        forms = []
        for reply in pair.both(*request):
            text = re.sub(rb"[$=]\d+", b"", reply)
            # How many places there are, and the second table of one that grows, are each side's own.
            text = re.sub(rb"Hash table 1.*?(?=\[|$)", b"", text, flags=re.DOTALL)
            text = re.sub(rb"(   \d+: .*\n)+", b"distribution\n", text)
            forms.append(re.sub(rb"\d[\d.]*", b"n", text.rstrip()))
        assert forms[0] == forms[1], request


def test_clients_stand_in_pools_by_size(pair: Pair) -> None:
    pair.same("CONFIG", "SET", "maxmemory-clients", "10mb")
    try:
        replies = pair.both("DEBUG", "CLIENT-EVICTION")
        shown = [re.sub(rb"tot-mem: +\d+, clients: \d+", b"", reply) for reply in replies]
        assert shown[0] == shown[1]
    finally:
        pair.same("CONFIG", "SET", "maxmemory-clients", "0")


# The process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "STRUCTSIZE", "STRUCTSIZE x", "LEAK", "LEAK x", "LEAK x y", "STRINGMATCH-TEST", "STRINGMATCH-TEST x",
        "STRINGMATCH-LEN 10 a", "MALLCTL", "MALLCTL nosuch", "MALLCTL nosuch x", "MALLCTL nosuch 1", "MALLCTL nosuch 1 2",
        "MALLCTL-STR", "MALLCTL-STR nosuch", "MALLCTL-STR nosuch x", "MALLCTL-STR nosuch x y",
        "SET-DISABLE-DENY-SCRIPTS", "SET-DISABLE-DENY-SCRIPTS x", "SET-DISABLE-DENY-SCRIPTS 1 2",
        "CONFIG-REWRITE-FORCE-ALL", "CONFIG-REWRITE-FORCE-ALL x", "RESTART x", "RESTART x y",
        "RESTART 99999999999999999999", "CRASH-AND-RECOVER x", "CRASH-AND-RECOVER 1.5",
    ],
)  # fmt: skip
def test_what_is_about_the_process_is_answered_alike(pair: Pair, line: str) -> None:
    pair.same("DEBUG", *line.split(" "))


@pytest.mark.parametrize(
    "call",
    [
        "'debug','sleep','0'", "'debug','object','k'", "'debug','nosuch'", "'debug','set-active-expire','1'",
        "'config','get','hz'", "'config','set','hz','20'", "'config','set','hz','x'", "'config','resetstat'",
        "'function','list'", "'script','exists','x'", "'latency','latest'", "'latency','history','x'",
        "'acl','users'", "'acl','getuser','nobody'",
    ],
)  # fmt: skip
def test_scripts_call_what_is_denied_to_them_when_debug_says_so(pair: Pair, call: str) -> None:
    script = f"return redis.pcall({call})"
    for value in (0, 1, 0):
        pair.same("DEBUG", "SET-DISABLE-DENY-SCRIPTS", value)
        pair.same("EVAL", script, 0)
        pair.same("SCRIPT", "FLUSH")  # which does not take it back


@pytest.mark.parametrize("call", ["'eval','return 1',0", "'multi'", "'monitor'", "'debug','restart'"])
def test_scripts_never_call_what_would_crash_the_reference(call: str) -> None:
    client = OurClient(make_engine())
    client.engine.on_process_end = lambda _end: None
    assert client.send(b"DEBUG SET-DISABLE-DENY-SCRIPTS 1\r\n") == b"+OK\r\n"
    script = f"return redis.pcall({call})"
    reply = client.send(encode_request(("EVAL", script, 0)))
    assert reply.startswith(b"-ERR ")
    assert client.send(b"PING\r\n") == b"+PONG\r\n"


ENDINGS = ["SEGFAULT", "SEGFAULT x", "PANIC", "OOM", "ASSERT", "RESTART", "RESTART 10", "CRASH-AND-RECOVER"]


@pytest.mark.parametrize("line", ENDINGS)
def test_what_ends_the_process_is_refused_by_name_where_it_is_not_ours(line: str) -> None:
    client = OurClient(make_engine())
    reply = client.send(f"DEBUG {line}\r\n".encode())
    assert reply == f"-ERR DEBUG {line.split()[0]} is not available here\r\n".encode()
    assert client.send(b"PING\r\n") == b"+PONG\r\n"


@pytest.mark.parametrize("line", ENDINGS)
def test_nothing_follows_what_ends_the_process(line: str) -> None:
    """No reply, also none of before that had not left yet, and no other request of anybody."""
    engine = make_engine()
    wishes: list[ProcessEnd] = []
    engine.on_process_end = wishes.append
    client, other = OurClient(engine), OurClient(engine)
    assert client.send(f"SET a 1\r\nDEBUG {line}\r\nSET b 1\r\n".encode()) == b""
    assert other.send(b"PING\r\n") == b""
    assert len(engine.databases[0]) == 1
    assert len(wishes) == 1
    assert wishes[0].how == f"DEBUG {line.split()[0]}"
    assert wishes[0].asked_by == "127.0.0.1:1 (id 1)"
    assert wishes[0].delay_ms == (10 if line == "RESTART 10" else 0)
    assert wishes[0].is_orderly == line.startswith("RESTART")
    expected = "SIGSEGV" if line.startswith("SEGFAULT") else "" if line[0] in "RC" else "SIGABRT"
    assert wishes[0].signal == expected


def test_nothing_follows_a_restart_inside_exec() -> None:
    engine = make_engine()
    wishes: list[ProcessEnd] = []
    engine.on_process_end = wishes.append
    client = OurClient(engine)
    for line in (b"MULTI", b"SET a 1", b"DEBUG RESTART -5", b"SET b 1"):
        client.send(line + b"\r\n")
    assert client.send(b"EXEC\r\nPING\r\n") == b""
    assert len(wishes) == 1
    assert wishes[0].delay_ms == 0
    assert len(engine.databases[0]) == 1


class _Store:
    """A config file that is written, or cannot be."""

    path = "redis.conf"

    def __init__(self, error: OSError | None) -> None:
        self.error = error
        self.content = b"timeout 5\n"

    def read(self) -> bytes:
        return self.content

    def write(self, content: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.content = content


def test_a_restart_writes_the_config_file_and_a_crash_does_not() -> None:
    for line, expected in (("RESTART", b"timeout 7\n"), ("CRASH-AND-RECOVER", b"timeout 5\n")):
        engine = make_engine()
        engine.on_process_end = lambda _end: None
        engine.config_store = store = _Store(None)
        client = OurClient(engine)
        assert client.send(b"CONFIG SET timeout 7\r\n") == b"+OK\r\n"
        assert client.send(f"DEBUG {line}\r\n".encode()) == b""
        assert store.content.startswith(expected)


def test_without_a_config_file_written_there_is_no_restart() -> None:
    engine = make_engine()
    wishes: list[ProcessEnd] = []
    engine.on_process_end = wishes.append
    engine.config_store = _Store(PermissionError(1, "Operation not permitted"))
    client = OurClient(engine)
    # Word for word what redis-server 8.2.3 says when its directory is immutable.
    reply = b"-ERR failed to restart the server. Check server logs.\r\n"
    assert client.send(b"DEBUG RESTART\r\n") == reply
    assert client.send(b"PING\r\n") == b"+PONG\r\n"
    assert wishes == []
    reply = b"-ERR CONFIG-REWRITE-FORCE-ALL failed: Operation not permitted\r\n"
    assert client.send(b"DEBUG CONFIG-REWRITE-FORCE-ALL\r\n") == reply
