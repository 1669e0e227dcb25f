"""ACL with one user, and what a server without disk, replicas, cluster and modules answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.redis.replies import Map
from tests.support.redis_pair import OurClient, encode_request, make_engine, parse_one

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

LINES = (
    """
ACL|ACL WHOAMI|ACL WHOAMI x|ACL USERS|ACL LIST|ACL GETUSER default|ACL GETUSER nosuch|ACL GETUSER|ACL CAT|ACL CAT foo
ACL CAT geo x|ACL GENPASS 0|ACL GENPASS -1|ACL GENPASS x|ACL GENPASS 4097|ACL GENPASS 1 2|ACL LOG|ACL LOG 0|ACL LOG -1
ACL LOG RESET|ACL LOG x|ACL LOG 1 2|ACL LOAD|ACL SAVE|ACL SETUSER|ACL SETUSER default
ACL SETUSER default on nopass ~* &* +@all|ACL SETUSER default foo|ACL SETUSER default -foo
ACL SETUSER default +nosuch|ACL SETUSER default allkeys allchannels allcommands|ACL SETUSER default -@nosuch
ACL DELUSER default|ACL DELUSER nosuch|ACL DELUSER nosuch default|ACL DELUSER
ACL DRYRUN default get a|ACL DRYRUN default get|ACL DRYRUN default nosuch|ACL DRYRUN nosuch get a
ACL DRYRUN default client foo|ACL DRYRUN default client kill|ACL DRYRUN default acl|ACL DRYRUN default|ACL foo
SAVE x|BGSAVE x|BGSAVE SCHEDULE x|BGREWRITEAOF x|READONLY|READONLY x|READWRITE|ASKING|ASKING x|CLUSTER|CLUSTER INFO
CLUSTER foo|CLUSTER KEYSLOT|CLUSTER KEYSLOT a|CLUSTER MYID x|CLUSTER NODES|CLUSTER SLOTS|CLUSTER SHARDS|CLUSTER HELP
CLUSTER RESET|CLUSTER MYID|REPLICAOF NO ONE|REPLICAOF no one|REPLICAOF NO TWO|REPLICAOF|REPLICAOF a b
REPLICAOF a 70000|REPLICAOF a -1|SLAVEOF NO ONE|SLAVEOF no|SLAVEOF NO x|FAILOVER|FAILOVER ABORT|FAILOVER TO a
FAILOVER TO a 1|FAILOVER TO a 70000|FAILOVER TO a 1 FORCE|FAILOVER TIMEOUT 5|FAILOVER TIMEOUT x|FAILOVER TIMEOUT -1
FAILOVER FORCE|FAILOVER foo|FAILOVER ABORT x|FAILOVER TO a x|FAILOVER TIMEOUT 5 TIMEOUT 6|FAILOVER TIMEOUT
FAILOVER TO a 1 TIMEOUT 10 FORCE|FAILOVER FORCE TIMEOUT 10 TO a 1|FAILOVER FORCE FORCE|FAILOVER TIMEOUT 0
FAILOVER TO a 1 ABORT|MODULE|MODULE LIST x|MODULE LOAD x|MODULE LOAD|MODULE UNLOAD x|MODULE UNLOAD|MODULE LOADEX x
MODULE foo|WAITAOF 0 0 10|WAITAOF 1 0 10
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize("line", LINES)
def test_replies_are_the_servers(pair: Pair, line: str) -> None:
    pair.same("ACL", "LOG", "RESET")  # earlier tests may have been denied something
    pair.same(*line.split(" "))


@pytest.mark.parametrize("category", ["geo", "hyperloglog", "string", "transaction", "FAST", "bitmap"])
def test_categories_hold_the_servers_commands(pair: Pair, category: str) -> None:
    ours, theirs = (parse_one(raw) for raw in pair.both("ACL", "CAT", category))
    assert isinstance(ours, list)
    assert isinstance(theirs, list)
    known = {command.full_name for command in pair.engine.registry.every()}
    assert set(ours) == set(theirs) & known


@pytest.mark.parametrize(("bits", "digits"), [((), 64), ((5,), 2), ((4096,), 1024), ((1,), 1), ((16,), 4)])
def test_generated_passwords_have_the_servers_length(pair: Pair, bits: tuple[int, ...], digits: int) -> None:
    ours, theirs = (parse_one(raw) for raw in pair.both("ACL", "GENPASS", *bits))
    assert isinstance(ours, bytes)
    assert isinstance(theirs, bytes)
    assert len(ours) == len(theirs) == digits
    int(ours, 16)
    again = parse_one(pair.ours.send(encode_request(("ACL", "GENPASS", *bits))))
    assert digits < 16 or again != ours


def test_the_password_is_shown_as_its_hash(pair: Pair) -> None:
    try:
        pair.same("CONFIG", "SET", "requirepass", "secret")
        pair.same("ACL", "LIST")
        pair.same("ACL", "GETUSER", "default")
    finally:
        pair.same("CONFIG", "SET", "requirepass", "")


DENIALS = [
    "AUTH nobody x",
    "AUTH nobody x|AUTH nobody y",
    "AUTH nobody x|AUTH other y|AUTH nobody z",
    "AUTH nobody x|hello 3 AUTH zz y|auth nobody x",
    "AUTH nobody x|ACL LOG RESET|AUTH other x",
]


@pytest.mark.parametrize("story", DENIALS)
@pytest.mark.parametrize("count", [(), (1,), (0,), (-1,), (100,)])
def test_the_log_of_denials_is_the_servers(pair: Pair, story: str, count: tuple[int, ...]) -> None:
    pair.same("ACL", "LOG", "RESET")
    for line in story.split("|"):
        pair.same(*line.split(" "))
    shown = []
    for raw in pair.both("ACL", "LOG", *count):
        entries = parse_one(raw)
        assert isinstance(entries, list)
        facts = []
        for entry in entries:
            flat = entry.flat if isinstance(entry, Map) else entry
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            assert 0 <= float(fields.pop(b"age-seconds")) < 60
            assert fields.pop(b"client-info").startswith(b"id=")
            assert fields.pop(b"timestamp-created") <= fields.pop(b"timestamp-last-updated")
            fields.pop(b"entry-id")  # goes on after a reset
            facts.append((*fields.items(), *flat[::2]))
        shown.append(facts)
    assert shown[0] == shown[1]


REFUSED = [
    "ACL SETUSER bob on >secret ~* +@all",
    "ACL SETUSER default off",
    "ACL SETUSER default -@dangerous",
    "ACL SETUSER default >secret",
    "ACL SETUSER default ~app:*",
    "ACL SETUSER default resetkeys",
    "SAVE",
    "BGSAVE",
    "BGSAVE SCHEDULE",
    "BGREWRITEAOF",
    "REPLICAOF 10.0.0.1 6379",
    "SLAVEOF 10.0.0.1 6379",
]


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_here_is_refused_in_one_sentence(line: str) -> None:
    engine = make_engine()
    client = OurClient(engine)
    assert client.send(encode_request(tuple(line.split(" ")))).startswith(b"-ERR ")
    assert client.send(b"PING\r\n") == b"+PONG\r\n"
    user = parse_one(client.send(encode_request(("ACL", "GETUSER", "default"))))
    flat = user.flat if isinstance(user, Map) else user
    assert isinstance(flat, list)
    assert b"+@all" in flat


@pytest.mark.parametrize("rules", ["+get +@read +client", "resetpass nopass", "ON ~* %RW~*"])
def test_rules_that_change_nothing_are_accepted(rules: str) -> None:
    client = OurClient(make_engine())
    before = client.send(b"ACL LIST\r\n")
    assert client.send(encode_request(("ACL", "SETUSER", "default", *rules.split()))) == b"+OK\r\n"
    assert client.send(b"ACL LIST\r\n") == before


def test_no_modules_are_loaded() -> None:
    assert OurClient(make_engine()).send(b"MODULE LIST\r\n") == b"*0\r\n"
