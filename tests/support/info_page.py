"""Writes appliance/docs/info.md: the sections and fields of INFO, and which of them cannot change.

python -m tests.support.info_page
"""

from __future__ import annotations

from pathlib import Path

from appliance.redis.commands.info import CONSTANTS, FIELDS, OUTSIDE

PAGE = Path(__file__).parents[2] / "appliance" / "docs" / "info.md"

HEAD = """\
# INFO

Made by `python -m tests.support.info_page` from `appliance/redis/commands/info.py`: do not edit.

Sections, fields and their order are those of redis-server 8.2 (`tests/conformance/redis/test_conformance_info.py`
compares them), and `INFO` takes the same words: names of sections in any number, `default`, `all`, `everything`.
Numbers are counted where the thing happens. Those that stand for something that does not exist here are constants,
so that dashboards find what they ask for; they are all listed below.

What is worth knowing about some:

- **used_memory**: pages of the process that back no file. Python has several allocators, and no single one knows.
- **commandstats, latencystats**: of quick commands (GET, SET, INCR, PING and their like) one call in 64 is timed, and
  stands for those before it; all others are timed each. Calls are always counted.
- **keysizes**: counted when asked, in databases of up to 2,048 keys; of larger ones that many random keys are looked
  at, and the bins are scaled to all keys.
- **total_reads_processed, total_writes_processed**: calls of a connection's handler, and frames written.
- **eventloop_cycles**: steps of the pump; **eventloop_duration_sum** is the CPU time of the process, which does
  nothing else.
- **errorstats**: up to 128 codes; after that, as in redis-server, one entry `ERRORSTATS_DISABLED`.
- **instantaneous_input_kbps, instantaneous_output_kbps**: over the last second, of what sessions read and wrote.

Sections of Redtap's own follow the server's: `redtap` (version, the most clients at once, slots of the hash tables,
keys that expired when they were looked up) and `stack` (every counter of the TCP/IP stack). `listener0` in `server`
has the server's form.
"""


def page() -> str:
    """The whole text."""
    reasons = {name: at for at, (_, facts) in enumerate(CONSTANTS) for name in facts}
    text = HEAD + "\n## Sections\n\n| section | fields | of them constant |\n|---|---|---|\n"
    for section, fields in FIELDS.items():
        fixed = sum(CONSTANTS[reasons[name]][0] != OUTSIDE for name in fields if name in reasons)
        count = str(len(fields)) if fields else "one for each item"
        text += f"| {section} | {count} | {fixed or ''} |\n"
    text += "\n## Constants\n"
    for reason, facts in CONSTANTS:
        text += f"\n{reason}\n\n"
        text += "\n".join(f"- `{name}:{value}`" for name, value in facts.items()) + "\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
