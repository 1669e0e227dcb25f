"""Writes rows of the command table with the facts of a running redis-server.

    python -m tests.support.command_rows list            rows of the group `list` for the handlers there are
    python -m tests.support.command_rows --all           every group

A row is written for each command of the group that has a handler (`HANDLERS` in appliance/redis/commands), and for
the container of a subcommand that has one; a row whose handler is gone goes too. Everything in it comes from COMMAND
INFO and COMMAND DOCS (of the complexity the first sentence) but two fields that are ours and are kept: `summary`, left
empty in a new row (tests fail until it is written), and `missing`, what our command lacks, if anything. The page
appliance/docs/commands.md is written too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from appliance.redis.commands import all_handlers
from appliance.redis.registry import GROUPS
from tests.support.redis_pair import RealServer, encode_request, read_value

TABLE = Path(__file__).parents[2] / "appliance" / "redis" / "commands" / "table"
WIDTH = 110

Row = dict[str, Any]


# Reading the server -------------------------------------------------------------------------------


def _plain(value: object) -> Any:
    """A reply with text instead of bytes."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    text = getattr(value, "text", None)  # a simple string
    return text.decode() if isinstance(text, bytes) else value


def _pairs(flat: list[Any]) -> Row:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _key_spec(flat: list[Any]) -> Row:
    facts = _pairs(flat)
    row: Row = {"notes": facts["notes"]} if "notes" in facts else {}
    row["flags"] = facts["flags"]
    for part in ("begin_search", "find_keys"):
        row[part] = _pairs(_pairs(facts[part])["spec"])
    for name, usual in (("keystep", 1), ("limit", 0)):
        if row["find_keys"].get(name) == usual:
            del row["find_keys"][name]
    return row


def _argument(flat: list[Any]) -> Row:
    row = _pairs(flat)
    if row.get("display_text") == row["name"]:
        del row["display_text"]
    if "arguments" in row:
        row["arguments"] = [_argument(each) for each in row["arguments"]]
    return row


def first_sentence(complexity: str) -> str:
    """The bound itself; what the server's documentation explains beyond it is its own prose."""
    return complexity.partition(". ")[0].removesuffix(".")


def _row(info: list[Any], docs: Row) -> Row:
    row: Row = {
        "summary": "",
        "since": docs["since"],
        "complexity": first_sentence(docs.get("complexity", "")),
    }
    row |= {"arity": info[1], "flags": info[2], "categories": [name.removeprefix("@") for name in info[6]]}
    if info[7]:
        row["tips"] = info[7]
    if info[8]:
        row["key_specs"] = [_key_spec(each) for each in info[8]]
    for name in ("doc_flags", "deprecated_since", "replaced_by", "history"):
        if name in docs:
            row[name] = docs[name]
    if "arguments" in docs:
        row["arguments"] = [_argument(each) for each in docs["arguments"]]
    if info[9]:
        sub_docs = _pairs(docs["subcommands"])
        parts = {each[0].partition("|")[2]: _row(each, _pairs(sub_docs[each[0]])) for each in info[9]}
        row["subcommands"] = {name: parts[name] for name in sorted(parts)}
    return row


def reference_rows(server: RealServer) -> dict[str, dict[str, Row]]:
    """Every command of the server that no module brought: rows by name, in the order of names, by group."""
    with server.connect() as connection:
        info = _plain(read_value(connection, encode_request(("COMMAND",))))
        docs = _pairs(_plain(read_value(connection, encode_request(("COMMAND", "DOCS")))))
    groups: dict[str, dict[str, Row]] = {}
    for each in sorted(info, key=lambda entry: entry[0]):
        facts = _pairs(docs[each[0]])
        if "module" not in facts:
            groups.setdefault(facts["group"], {})[each[0]] = _row(each, facts)
    return groups


# Writing ------------------------------------------------------------------------------------------


def bound_rows(rows: dict[str, Row], handlers: set[str]) -> dict[str, Row]:
    """The rows that have a handler, containers with those of their subcommands that have one."""
    kept: dict[str, Row] = {}
    for name, row in rows.items():
        parts = {
            part: facts
            for part, facts in row.get("subcommands", {}).items()
            if f"{name}|{part}" in handlers or part == "help"
        }
        if parts and (name in handlers or any(f"{name}|{part}" in handlers for part in parts)):
            kept[name] = row | {"subcommands": parts}
        elif name in handlers:
            kept[name] = {field: value for field, value in row.items() if field != "subcommands"}
    return kept


def keep_ours(rows: dict[str, Row], written: dict[str, Row]) -> None:
    """Take over from the rows there were what no server says."""
    for name, row in rows.items():
        before = written.get(name, {})
        row["summary"] = before.get("summary", "")
        if "missing" in before:
            rows[name] = row = {"summary": row["summary"], "missing": before["missing"]} | row
        if not row["summary"] and name == "help":
            row["summary"] = "Explains the subcommands."
        keep_ours(row.get("subcommands", {}), before.get("subcommands", {}))


def table_json(value: object, indent: int = 0, used: int = 0) -> str:
    """JSON on as few lines as fit into WIDTH, for eyes and for diffs."""
    flat = json.dumps(value, ensure_ascii=False)
    is_table = isinstance(value, dict) and "summary" in value
    if not isinstance(value, (dict, list)) or (not is_table and indent + used + len(flat) < WIDTH):
        return flat
    inner = indent + 1
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {table_json(each, inner, len(key) + 5)}" for key, each in value.items()]
    else:
        lines = [table_json(each, inner, 1) for each in value]
    left, right = ("{", "}") if isinstance(value, dict) else ("[", "]")
    pad = "\n" + " " * inner
    return f"{left}{pad}{(',' + pad).join(lines)}\n{' ' * indent}{right}"


def write_group(group: str, rows: dict[str, Row]) -> list[str]:
    """Write one file; returns the names of rows without a summary."""
    path = TABLE / f"{group}.json"
    written = json.loads(path.read_text()) if path.exists() else {}
    kept = bound_rows(rows, set(all_handlers()))
    keep_ours(kept, written)
    path.write_text(table_json(kept) + "\n")
    empty = [name for name, row in kept.items() if not row["summary"]]
    for name, row in kept.items():
        empty += [
            f"{name}|{part}" for part, each in row.get("subcommands", {}).items() if not each["summary"]
        ]
    return empty


def main() -> None:
    parser = argparse.ArgumentParser(description="Write rows of the command table from redis-server's facts.")
    parser.add_argument("group", nargs="*", help=f"as COMMAND DOCS names it: {', '.join(GROUPS)}")
    parser.add_argument("--all", action="store_true", help="every group")
    chosen = parser.parse_args()
    groups = GROUPS if chosen.all else chosen.group
    if not groups or not set(groups) <= set(GROUPS):
        parser.error(f"choose from: {', '.join(GROUPS)}, --all")
    with RealServer.for_a_tool() as server:
        reference = reference_rows(server)
    for group in groups:
        empty = write_group(group, reference[group])
        print(f"{group}: {TABLE / f'{group}.json'}")
        if empty:
            print(f"  write the summary of: {', '.join(empty)}")
    # In a new process: this one may have loaded the table as it was.
    subprocess.run([sys.executable, "-m", "tests.support.command_page"], check=True)


if __name__ == "__main__":
    main()
