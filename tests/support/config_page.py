"""Writes appliance/docs/configuration.md: every parameter of redis-server 8.2, and what it does here.

python -m tests.support.config_page
"""

from __future__ import annotations

from pathlib import Path

from appliance.redis.parameters import Parameter, load_parameters

PAGE = Path(__file__).parents[2] / "appliance" / "docs" / "configuration.md"

EFFECTS = {"yes": "yes", "part": "in part", "no": "no"}
TITLES = {"tls": "TLS", "lazyfree": "Freeing", "scripting": "Scripts"}

HEAD = """\
# Configuration

Made by `python -m tests.support.config_page` from `appliance/redis/parameters.json`: do not edit.

Redtap has two kinds of settings. Its own (namespace, link, addresses, log …) are flags, variables of the environment
and keys of a TOML file (`redtap serve --help`). Those of Redis are parameters, as redis-server has them, and all of
redis-server 8.2's are known:

```sh
redtap serve redis.conf --maxmemory 1gb --save ""     # as redis-server takes it
redtap serve redis.conf --maxmemory 1gb - < more.conf # - is standard input, read after the file
redtap serve --mtu 1400 --maxmemory 1gb               # ours and theirs together
```

- A `--name` that is one of ours is ours; `--port`, `--databases`, `--requirepass` and `--enable-debug-command` are the
  same thing in both. Any other `--name` must be a parameter, which takes all values up to the next `--`.
- Who wins: our flags, then `REDTAP_…` variables, then parameters of the command line, then redis.conf, then the TOML
  file, then defaults. Without `maxclients`, as many clients as `--max-connections` allows.
- redis.conf: quotes, `include` with patterns, `rename-command`, several `save` lines and the names of older servers are
  read as there. A wrong line is told with file and line number, exit status 2. A file that redis-server has
  rewritten, with the line of its default user, is one. So is a valkey.conf: what only Valkey has is told on standard
  error if it is not at its default, has no effect, and stays as it is. There are no users but that one, no modules and no Sentinel: lines that want them are wrong.
- `CONFIG GET`, `SET`, `REWRITE` and `RESETSTAT` are redis-server's: patterns, all-or-nothing, units, refusals, error
  texts (`tests/conformance/redis/test_conformance_config.py` compares every parameter with it, good values and
  bad). `CONFIG REWRITE` keeps comments and order; it writes no lines of `user`, and
  none of `save` where neither the file nor a client has set it.
- What would promise something that does not exist here (`appendonly yes`, TLS, a cluster, a master) is refused by
  `CONFIG SET`, in the words of a server that fails at it. In a redis.conf it is told on standard error, has no effect,
  and `CONFIG REWRITE` leaves the line as it is.

Limits of clients count what the connection's send buffer has not taken, as redis-server counts what the kernel's has
not: a reply counts from when it is made until that buffer has taken it. So `client-output-buffer-limit` closes a
subscriber that never reads, and a client that asks for a reply larger than its limit. `maxmemory-clients` disconnects
before the next request is executed. Beside it there is back-pressure that redis-server lacks: with 64 MiB of replies
waiting, no more requests of that client are read. `timeout` and limits that are passed slowly are noticed within a
second. The control socket's clients neither idle nor get evicted.

*Effect* is what a value does here: *no* means it is checked, kept and shown, so that files and tools work.
"""


def kind(parameter: Parameter) -> str:
    """What it takes, in a few words."""
    name = parameter.kind
    if parameter.choices:
        return ", ".join(choice.decode() for choice in parameter.choices)
    if name == "bool":
        return "yes, no"
    if name in ("integer", "unsigned"):
        return f"{_number(parameter.low)} … {_number(parameter.high)}"
    if name in ("memory", "signed memory"):
        least = f", from {parameter.low}" if parameter.low > 0 else ""
        return f"bytes{' or percent' if parameter.is_percent else ''}{least}"
    return {"string": "text", "events": "letters", "octal": "octal number"}.get(name, name)


def _number(value: int) -> str:
    for power in (31, 32, 63):
        if value == (1 << power) - 1:
            return f"2^{power}-1"
        if value == -(1 << power):
            return f"-2^{power}"
    return str(value)


def page() -> str:
    """The whole text."""
    text = HEAD
    section = ""
    for parameter in load_parameters():
        if parameter.section != section:
            section = parameter.section
            text += f"\n## {TITLES.get(section, section.capitalize())}\n\n"
            text += "| parameter | takes | default | effect | |\n|---|---|---|---|---|\n"
        name = f"`{parameter.name.decode()}`"
        if parameter.alias:
            name += f", `{parameter.alias.decode()}`"
        notes = [parameter.summary]
        if parameter.is_immutable:
            notes.append("Fixed at the start.")
        if parameter.is_protected:
            notes.append("CONFIG SET needs `enable-protected-configs`.")
        if parameter.is_hidden:
            notes.append("No pattern of CONFIG GET finds it.")
        default = f"`{parameter.default.decode()}`" if parameter.default else ""
        effect = EFFECTS[parameter.effect]
        text += f"| {name} | {kind(parameter)} | {default} | {effect} | {' '.join(notes)} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
