"""Writes appliance/docs/commands.md: every core command of redis-server 8.2, and whether we have it.

    python -m tests.support.command_page              from the command table and the stored list of the server's commands
    python -m tests.support.command_page --reference  the same, after the list was asked of a running redis-server

The list lies in reference_commands.json beside this file: name and version of each command and subcommand, by group.
What a command of ours lacks stands in its row of the command table (`missing`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from appliance.redis.registry import Facts, load_table
from tests.support.redis_pair import RealServer

PAGE = Path(__file__).parents[2] / "appliance" / "docs" / "commands.md"
REFERENCE = Path(__file__).with_name("reference_commands.json")

Reference = dict[str, dict[str, str]]

TITLES = {
    "string": "Strings",
    "bitmap": "Bitmaps",
    "list": "Lists",
    "set": "Sets",
    "sorted-set": "Sorted sets",
    "hash": "Hashes",
    "stream": "Streams",
    "hyperloglog": "HyperLogLog",
    "geo": "Geo",
    "generic": "Keys",
    "transactions": "Transactions",
    "pubsub": "Pub/sub",
    "connection": "Connection",
    "server": "Server",
    "scripting": "Scripts and functions",
    "cluster": "Cluster",
}

HEAD = """\
# Commands

Made by `python -m tests.support.command_page` from the command table (`appliance/redis/commands/table/`) and from
the commands of redis-server 8.2, as its own `COMMAND DOCS` lists them without modules: do not edit.

*yes* means all of it: every option, RESP2 and RESP3, error texts to the letter, compared with redis-server by
`tests/conformance/redis`. Where replies may differ all the same, and why, is at the end. *partly* says what is
missing. Not planned here: a cluster of our own.

Of what Valkey 9.1 has beyond Redis these are taken, though no list shows them, and answered as there: `CLIENT CAPA`;
`CLIENT IMPORT-SOURCE`, as by a server that is not in import mode; the filters of `CLIENT LIST` and `CLIENT KILL` (`NAME`,
`FLAGS`, `IDLE`, `DB`, `IP`, `CAPA`, `LIB-NAME`, `LIB-VER`, `TYPE PRIMARY`, and `NOT-…`), together with Redis's as soon as
one of them is there; `SCRIPT SHOW`. Not here: `CLUSTERSCAN`, `COMMANDLOG`, `DELIFEQ`, `MSETEX`, `CLUSTER`'s subcommands for
moving slots; `SET … IFEQ`, `HSETEX … NX|XX`, `ZSCAN … NOSCORES`, `GEOSEARCH … BYPOLYGON`, `BGSAVE CANCEL`, `SHUTDOWN
SAFE|FAILOVER`, an engine behind `SCRIPT DEBUG`; and what its parameters do (`import-mode`, `commandlog-*`,
`availability-zone` and others).
"""


def reference_commands(server: RealServer) -> Reference:
    """The server's commands and subcommands, each with the version that brought it, by group."""
    from tests.support.command_rows import reference_rows

    found: Reference = {}
    for group, rows in sorted(reference_rows(server).items()):
        names = found.setdefault(group, {})
        for name, row in rows.items():
            names[name] = row["since"]
            names |= {f"{name}|{part}": facts["since"] for part, facts in row.get("subcommands", {}).items()}
    return found


def ours() -> dict[str, Facts]:
    """Our rows, by full name."""
    found: dict[str, Facts] = {}
    for facts in load_table():
        for each in [facts, *facts.subcommands]:
            found[each.full_name] = each
    return found


def page() -> str:
    """The whole text."""
    from tests.support.redis_differences import EXPLAINED, NOT_DRAWN

    reference: Reference = json.loads(REFERENCE.read_text())
    rows = ours()
    text = HEAD
    for group, title in TITLES.items():
        names = reference[group]
        have = sum(name in rows for name in names)
        text += (
            f"\n## {title}\n\n{have} of {len(names)}.\n\n| command | since | ours | |\n|---|---|---|---|\n"
        )
        for name, since in names.items():
            facts = rows.get(name)
            answer, remark = "no", ""
            if facts is not None:
                answer = "partly" if facts.missing else "yes"
                remark = f"Missing: {facts.missing}" if facts.missing else facts.summary
            text += f"| {name.replace('|', ' ').upper()} | {since} | {answer} | {remark} |\n"
    text += "\n## Differences that are explained\n\n"
    text += "The random tests compare all replies byte for byte; these are let pass.\n\n"
    text += "".join(f"- **{each.name}.** {each.reason}\n" for each in EXPLAINED)
    text += "\nThese are not drawn:\n\n"
    return text + "".join(f"- **{what}.** {why}\n" for what, why in NOT_DRAWN)


def write_page() -> None:
    PAGE.write_text(page())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write appliance/docs/commands.md.")
    parser.add_argument("--reference", action="store_true", help="ask a redis-server for its commands first")
    if parser.parse_args().reference:
        with RealServer.for_a_tool() as server:
            REFERENCE.write_text(json.dumps(reference_commands(server), indent=1) + "\n")
    write_page()
    print(PAGE)


if __name__ == "__main__":
    main()
