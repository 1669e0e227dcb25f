"""The command table: COMMAND INFO, DOCS and GETKEYS of every command are redis-server's.

Sets and the order of subcommands have no order there: both sides are sorted. The summaries are our own, and of the
complexity we say the first sentence.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.redis.commands import all_commands
from appliance.redis.errors import CommandError
from appliance.redis.registry import Command, Facts, Registry
from appliance.redis.replies import Map, SetReply, SimpleError, SimpleString
from tests.support.command_page import REFERENCE, reference_commands
from tests.support.command_rows import first_sentence, reference_rows
from tests.support.redis_pair import Pair, RealServer, encode_request, parse_one

pytestmark = pytest.mark.conformance

NAMES = [command.full_name.decode() for command in Registry(all_commands()).every()]
CONTAINERS = [command.name.decode() for command in all_commands() if command.subcommands is not None]


def all_commands_by_name() -> dict[str, Command]:
    return {command.full_name.decode(): command for command in all_commands()}


def plain(value: object) -> Any:
    """A reply as Python data that compares: text for strings, dict, and sorted lists for what has no order."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (SimpleString, SimpleError)):
        return "+" + value.text.decode()
    if isinstance(value, Map):
        return {plain(key): plain(each) for key, each in zip(value.flat[::2], value.flat[1::2], strict=True)}
    if isinstance(value, SetReply):
        return ["set", *sorted((plain(each) for each in value.items), key=repr)]
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


@pytest.fixture
def pair(real_server: RealServer) -> Any:
    made = Pair(real_server)
    made.reset(resp3=True)
    yield made
    made.close()


@pytest.mark.parametrize("name", NAMES)
def test_command_info_is_the_servers(pair: Pair, name: str) -> None:
    ours, theirs = (plain(parse_one(raw))[0] for raw in pair.both("COMMAND", "INFO", name))
    assert ours[:9] == theirs[:9]
    parts = {part[0]: part for part in theirs[9]}
    assert ours[9] == ([parts[part[0]] for part in ours[9]] if ours[9] != ["set"] else ["set"])


def without_prose(docs: Any, known: Any) -> Any:
    """COMMAND DOCS less the summaries, and less subcommands that are not `known`."""
    kept = {field: value for field, value in docs.items() if field != "summary"}
    if "complexity" in kept:
        kept["complexity"] = first_sentence(kept["complexity"])
    if "subcommands" in kept:
        names = known.get("subcommands", {})
        parts = {
            name: without_prose(each, names[name])
            for name, each in kept.pop("subcommands").items()
            if name in names
        }
        if parts:
            kept["subcommands"] = parts
    return kept


@pytest.mark.parametrize("name", NAMES)
def test_command_docs_are_the_servers(pair: Pair, name: str) -> None:
    ours, theirs = (plain(parse_one(raw))[name] for raw in pair.both("COMMAND", "DOCS", name))
    assert without_prose(ours, ours) == without_prose(theirs, ours)
    assert [*ours] == [field for field in theirs if field in ours]  # in the server's order


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("name", ["set", "getset", "ping", "object|encoding", "persist", "hello"])
def test_docs_and_info_have_the_servers_wire_form(pair: Pair, name: str, resp: int) -> None:
    pair.reset(resp3=resp == 3)
    pair.same("COMMAND", "INFO", name)
    ours, theirs = pair.both("COMMAND", "DOCS", name)
    summary, written = (raw.split(b"\r\n$7\r\nsummary\r\n")[1].split(b"\r\n")[:2] for raw in (theirs, ours))
    assert ours.replace(b"\r\n".join(written), b"\r\n".join(summary), 1) == theirs


@pytest.mark.parametrize("name", CONTAINERS)
def test_help_has_the_servers_heading_and_syntax(pair: Pair, name: str) -> None:
    texts = []
    for raw in pair.both(name, "HELP"):
        lines = plain(parse_one(raw))
        if isinstance(lines, str):  # an error: no cluster
            lines = []
        # A syntax may go on in a second line, far to the right.
        text = "\n".join(lines).replace("\n+         ", " ")
        texts.append([line for line in text.split("\n") if line and not line.startswith("+    ")])
    ours, theirs = texts
    parts = all_commands_by_name()[name].subcommands
    assert parts is not None
    words = [line.lstrip("+").split()[0].lower().encode() for line in theirs]
    known = [line for line, word in zip(theirs, words, strict=True) if word in parts or word == b"(no"]
    assert ours == theirs[:1] + known


def test_counts_and_lists_agree_with_each_other(pair: Pair) -> None:
    ask = pair.ours.send
    every = plain(parse_one(ask(encode_request(("COMMAND",)))))
    docs = plain(parse_one(ask(encode_request(("COMMAND", "DOCS")))))
    names = plain(parse_one(ask(encode_request(("COMMAND", "LIST")))))
    assert plain(parse_one(ask(encode_request(("COMMAND", "COUNT"))))) == len(every) == len(docs)
    assert sorted(names[1:]) == sorted(NAMES)


# What no handler of ours is needed for: the reading of key specs, on all rows of the server.

REQUESTS = (
    """
get a|mset a 1 b 2|mset a 1 b|lcs a b|copy a b|rename a b|object encoding a|del a b c
blpop a b 0|blmpop 0 2 a b LEFT|blmpop 0 3 a b LEFT|lmpop 1 a LEFT|lmpop x a LEFT
zunionstore to 2 a b|zunionstore to 3 a b|zunionstore to 0 a|zinter 2 a b WITHSCORES|zdiff -1 a
xread COUNT 1 STREAMS a b 0 0|xread STREAMS a b 0 0|xread BLOCK 0 streams a 0|xread COUNT 1 a b c
xreadgroup GROUP g c STREAMS a b > >|xreadgroup GROUP STREAMS c STREAMS a 0|xread streams a 0 1
georadius a 1 1 1 m|georadius a 1 1 1 m STORE b|georadius a 1 1 1 m COUNT 1 STOREDIST b
eval script 2 a b c|eval script 0|eval script x|evalsha_ro s 1 a|fcall f 1 a b|fcall f 0
migrate host 1 key 0 10|bitop AND to a b|pfmerge to a b|pfcount a b|sintercard 2 a b LIMIT 1
spublish channel x|publish c x|memory usage a|xinfo stream a|xgroup create a g 0|smove a b c|config get a
hello|ping|client kill a|nosuch a b|hexpire a 1 FIELDS 1 f|bzmpop 0 1 a MIN|lmove a b LEFT RIGHT|get
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.fixture(scope="module")
def reference_facts(real_server: RealServer) -> dict[str, Facts]:
    rows = reference_rows(real_server)
    return {name: Facts(name, group, row) for group, found in rows.items() for name, row in found.items()}


def test_legacy_ranges_are_the_servers(pair: Pair, reference_facts: dict[str, Facts]) -> None:
    for facts in reference_facts.values():
        entry = plain(parse_one(pair.both("COMMAND", "INFO", facts.name)[1]))[0]
        assert list(facts.legacy_range()) == entry[3:6], facts.name
        parts = {part[0]: part for part in entry[9] if part != "set"}
        for each in facts.subcommands:
            assert list(each.legacy_range()) == parts[each.full_name][3:6], each.full_name


def test_the_stored_list_of_commands_is_the_servers(real_server: RealServer) -> None:
    assert json.loads(REFERENCE.read_text()) == reference_commands(real_server)


@pytest.mark.parametrize("request_", REQUESTS)
def test_keys_are_the_servers(pair: Pair, reference_facts: dict[str, Facts], request_: str) -> None:
    words = request_.split(" ")
    theirs = plain(parse_one(pair.both("COMMAND", "GETKEYSANDFLAGS", *words)[1]))
    assert _keys(reference_facts, [word.encode() for word in words]) == theirs


def _keys(table: dict[str, Facts], args: list[bytes]) -> Any:
    facts = table.get(args[0].decode())
    if facts is None:
        return "+ERR Invalid command specified"
    for part in facts.subcommands:
        if len(args) > 1 and part.name == args[1].decode():
            facts = part
    command = Command(facts, lambda _session, _args: None)
    if not facts.has_keys:
        return "+ERR The command has no key arguments"
    if not command.accepts(len(args)):
        return "+ERR Invalid number of arguments specified for command"
    try:
        found = command.keys_of(args)
    except CommandError as error:
        return "+" + error.message.decode()
    return [
        [key.decode(), ["set", *sorted(("+" + flag for flag in flags), key=repr)]] for key, flags in found
    ]


LINES = (
    """
COMMAND LIST FILTERBY|COMMAND LIST FOO|COMMAND LIST FILTERBY FOO x|COMMAND LIST FILTERBY MODULE nosuch
COMMAND LIST FILTERBY ACLCAT nosuch|COMMAND LIST FILTERBY ACLCAT geo|COMMAND LIST FILTERBY ACLCAT @geo
COMMAND LIST FILTERBY PATTERN nosuch|COMMAND LIST FILTERBY PATTERN z*|COMMAND LIST FILTERBY PATTERN object*
COMMAND LIST FILTERBY pattern Z?DD|COMMAND LIST FILTERBY ACLCAT STREAM|COMMAND LIST FILTERBY PATTERN a b
COMMAND LIST x y|COMMAND INFO nosuch get nosuch|COMMAND COUNT x|COMMAND DOCS nosuch|COMMAND GETKEYS|COMMAND FOO
COMMAND GETKEYS get|COMMAND GETKEYS nosuch a|COMMAND GETKEYS ping|COMMAND GETKEYS object encoding a
COMMAND GETKEYSANDFLAGS set a b|COMMAND GETKEYSANDFLAGS|COMMAND GETKEYS sort a store b|COMMAND GETKEYS client list
OBJECT FOO a|OBJECT ENCODING|OBJECT|MEMORY FOO|MEMORY|CONFIG FOO|CLIENT
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("line", LINES)
def test_questions_about_commands_are_answered_alike(pair: Pair, line: str, resp: int) -> None:
    pair.reset(resp3=resp == 3)
    ours, theirs = (plain(parse_one(raw)) for raw in pair.both(*line.split(" ")))
    if "FILTERBY" in line and isinstance(ours, list):  # in the order of a hash table
        ours, theirs = sorted(ours), sorted(theirs)
    assert ours == theirs
