"""The command table: rows and functions fit, key specs find keys, HELP and DOCS come from the rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.redis.commands import all_commands, all_get_keys, all_handlers
from appliance.redis.errors import CommandError
from appliance.redis.registry import (
    FLAG_BITS,
    GROUPS,
    Command,
    Facts,
    KeySpec,
    Registry,
    bind,
    load_table,
    usage,
)
from appliance.redis.replies import SimpleString
from tests.support.command_page import PAGE, REFERENCE, TITLES, ours, page
from tests.support.command_rows import TABLE, table_json
from tests.support.redis_client import Client, make_engine

Row = dict[str, object]


def row(**fields: object) -> Row:
    return {
        "summary": "Does something.",
        "since": "1.0.0",
        "complexity": "O(1)",
        "arity": -2,
        "flags": ["readonly"],
        "categories": ["read"],
    } | fields


def spec(begin_search: Row, find_keys: Row, *flags: str) -> KeySpec:
    return KeySpec({"flags": ["RO", *flags], "begin_search": begin_search, "find_keys": find_keys})


def nothing(session: object, args: list[bytes]) -> object:
    return None


def command(*specs: Row, flags: tuple[str, ...] = ()) -> Command:
    return Command(Facts("c", "generic", row(key_specs=list(specs), flags=list(flags))), nothing)


INDEX_1 = {"index": 1}


@pytest.mark.parametrize(
    ("begin_search", "find_keys", "request_", "positions"),
    [
        (INDEX_1, {"lastkey": 0}, "get a", [1]),
        (INDEX_1, {"lastkey": -1}, "del a b c", [1, 2, 3]),
        (INDEX_1, {"lastkey": -1, "keystep": 2}, "mset a 1 b 2", [1, 3]),
        (INDEX_1, {"lastkey": 1}, "lcs a b LEN", [1, 2]),
        (INDEX_1, {"lastkey": -2}, "blpop a b 0", [1, 2]),
        ({"index": 2}, {"lastkey": 0}, "object encoding a", [2]),
        (INDEX_1, {"lastkey": 1}, "lcs a", None),
        (
            {"keyword": "STREAMS", "startfrom": 1},
            {"lastkey": -1, "limit": 2},
            "xread streams a b 0 0",
            [2, 3],
        ),
        ({"keyword": "STREAMS", "startfrom": 1}, {"lastkey": -1, "limit": 2}, "xread COUNT 1", []),
        ({"keyword": "KEYS", "startfrom": -2}, {"lastkey": -1}, "migrate KEYS a keys b c", [4, 5]),
        ({"keyword": "KEYS", "startfrom": -2}, {"lastkey": -1}, "migrate a b c KEYS", []),
        (INDEX_1, {"keynumidx": 0, "firstkey": 1}, "zunion 2 a b WEIGHTS", [2, 3]),
        (INDEX_1, {"keynumidx": 0, "firstkey": 1}, "zunion 0 a", None),
        (INDEX_1, {"keynumidx": 0, "firstkey": 1}, "zunion 3 a b", None),
        (INDEX_1, {"keynumidx": 0, "firstkey": 1}, "zunion x a b", None),
        (INDEX_1, {"keynumidx": 0, "firstkey": 1}, "zunion -1 a b", None),
        (INDEX_1, {"keynumidx": 0, "firstkey": 1}, "zunion", None),
        (INDEX_1, {"keynumidx": 0, "firstkey": 1}, "zunion 9223372036854775807 a b", None),
        ({}, {}, "sort a", None),
    ],
)
def test_key_spec_positions(begin_search: Row, find_keys: Row, request_: str, positions: list[int]) -> None:
    found = spec(begin_search, find_keys).positions([word.encode() for word in request_.split(" ")])
    assert (None if found is None else list(found)) == positions


def test_an_incomplete_spec_names_no_keys() -> None:
    assert spec(INDEX_1, {"lastkey": 0}, "incomplete").positions([b"c", b"a"]) is None


def test_keys_of_joins_the_specs_and_leaves_out_what_is_no_key() -> None:
    range_of = {"lastkey": 0}
    made = command(
        {"flags": ["OW"], "begin_search": INDEX_1, "find_keys": range_of},
        {"flags": ["RO"], "begin_search": {"index": 2}, "find_keys": {"keynumidx": 0, "firstkey": 1}},
        {"flags": ["RW", "not_key"], "begin_search": INDEX_1, "find_keys": range_of},
    )
    assert made.keys_of([b"c", b"to", b"1", b"from"]) == [(b"to", ["OW"]), (b"from", ["RO"])]
    with pytest.raises(CommandError, match="Invalid arguments specified"):
        made.keys_of([b"c", b"to", b"2", b"from"])


def test_a_command_may_have_no_mandatory_keys() -> None:
    keys = {"flags": ["RO"], "begin_search": {"index": 2}, "find_keys": {"keynumidx": 0, "firstkey": 1}}
    assert command(keys, flags=("no_mandatory_keys",)).keys_of([b"c", b"script", b"0"]) == []


@pytest.mark.parametrize(
    ("specs", "legacy"),
    [
        ([], (0, 0, 0)),
        ([(INDEX_1, {"lastkey": 0})], (1, 1, 1)),
        ([(INDEX_1, {"lastkey": -1, "keystep": 2})], (1, -1, 2)),
        ([(INDEX_1, {"lastkey": 0}), ({"index": 2}, {"lastkey": 0})], (1, 2, 1)),
        ([(INDEX_1, {"lastkey": 0}), ({"index": 2}, {"lastkey": -1})], (1, -1, 1)),
        ([(INDEX_1, {"lastkey": 0}), ({"index": 3}, {"lastkey": 0})], (1, 1, 1)),
        ([(INDEX_1, {"lastkey": 0}), ({"index": 2}, {"keynumidx": 0, "firstkey": 1})], (1, 1, 1)),
        ([({"keyword": "KEYS", "startfrom": -2}, {"lastkey": -1})], (0, 0, 0)),
    ],
)
def test_legacy_range(specs: list[tuple[Row, Row]], legacy: tuple[int, int, int]) -> None:
    rows = [{"flags": ["RO"], "begin_search": begin, "find_keys": find} for begin, find in specs]
    assert Facts("c", "generic", row(key_specs=rows)).legacy_range() == legacy


def argument(name: str, type_: str = "string", **fields: object) -> Row:
    return {"name": name, "type": type_} | fields


@pytest.mark.parametrize(
    ("arguments", "syntax"),
    [
        ([argument("key", "key"), argument("value")], "<key> <value>"),
        ([argument("key", "key", flags=["multiple"])], "<key> [<key> ...]"),
        ([argument("get", "pattern", token="GET", flags=["optional", "multiple", "multiple_token"])],
         "[GET <get> [GET <get> ...]]"),
        ([argument("w", "integer", token="WEIGHTS", flags=["optional", "multiple"])], "[WEIGHTS <w> [<w> ...]]"),
        ([argument("mode", "oneof", arguments=[
            argument("a", "pure-token", token="A"), argument("b", "pure-token", token="B")])], "<A | B>"),
        ([argument("x", "oneof", flags=["optional"], arguments=[
            argument("a", "integer", token="EX"), argument("b", "pure-token", token="PERSIST")])],
         "[EX <a> | PERSIST]"),
        ([argument("l", "block", token="LIMIT", flags=["optional"], arguments=[
            argument("offset", "integer"), argument("count", "integer")])], "[LIMIT <offset> <count>]"),
        ([argument("clientid", display_text="client-id")], "<client-id>"),
    ],
)  # fmt: skip
def test_usage(arguments: list[Row], syntax: str) -> None:
    assert usage(arguments) == syntax


def test_help_lists_the_subcommands_and_itself_last() -> None:
    rows = {"help": row(summary="Explains."), "zap": row(summary="Zaps.", arguments=[argument("id")])}
    lines = Facts("box", "generic", row(subcommands=rows)).help()
    assert [line.text for line in lines if isinstance(line, SimpleString)] == [
        b"BOX <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        b"ZAP <id>",
        b"    Zaps.",
        b"HELP",
        b"    Explains.",
    ]


def test_the_whole_table_is_bound() -> None:
    registry = Registry(all_commands())
    assert len(registry.every()) > 60


def test_a_row_without_a_function_stops_the_start() -> None:
    handlers = all_handlers()
    del handlers["get"], handlers["client|kill"]
    with pytest.raises(ValueError, match="without a function: get"):
        bind(handlers, all_get_keys())


def test_a_function_without_a_row_stops_the_start() -> None:
    with pytest.raises(ValueError, match=r"not in the command table: client\|zap, nosuch, nosuch: GET_KEYS"):
        bind(
            all_handlers() | {"nosuch": nothing, "client|zap": nothing},
            all_get_keys() | {"nosuch": lambda _args: []},
        )


def test_registry_finds_names_in_any_case() -> None:
    registry = Registry([Command(Facts("get", "string", row()), nothing)])
    assert registry.find(b"GeT") is registry.find(b"get") is registry.find(b"GET")
    assert registry.find(b"got") is None


@pytest.mark.parametrize("group", GROUPS)
def test_rows_are_written_out(group: str) -> None:
    path = TABLE / f"{group}.json"
    rows = json.loads(path.read_text())
    assert path.read_text() == table_json(rows) + "\n", "write it with tests/support/command_rows.py"
    assert list(rows) == sorted(rows)
    for facts in load_table():
        for each in [facts, *facts.subcommands]:
            if each.group == group:
                assert each.summary.endswith("."), f"{each.full_name}: no summary, or no full stop"
                assert len(each.summary) <= 100, each.full_name
                assert set(each.flag_names) <= set(FLAG_BITS)


def test_valkeys_client_capa_is_accepted_and_listed_nowhere() -> None:
    client = Client(make_engine())
    assert client.send("CLIENT", "CAPA", "redirect", "whatever") == b"+OK\r\n"
    assert client.send("client", "capa", "x") == b"+OK\r\n"
    wrong = b"-ERR wrong number of arguments for 'client|capa' command\r\n"
    assert client.send("CLIENT", "CAPA") == wrong
    assert client.send("CLIENT", "FOO").startswith(b"-ERR unknown subcommand 'FOO'")
    assert client.ask("COMMAND", "INFO", "client|capa") == [None]
    assert b"capa" not in client.send("COMMAND", "LIST")
    assert b"CAPA" not in client.send("CLIENT", "HELP")


def test_every_file_of_the_table_is_a_group() -> None:
    assert {path.stem for path in Path(TABLE).iterdir()} == set(GROUPS)


def test_the_page_of_commands_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "python -m tests.support.command_page writes it"


def test_each_command_of_ours_is_one_of_the_servers() -> None:
    reference = json.loads(REFERENCE.read_text())
    every = {name: group for group, names in reference.items() for name in names}
    assert {name: facts.group for name, facts in ours().items()}.items() <= every.items()
    assert set(TITLES) == set(reference) >= set(GROUPS)
