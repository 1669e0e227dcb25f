"""The conformance table: every requirement, the tests that show it, and what came of them.

    make conformance                                                  run the tests, write the table anew
    pytest tests/conformance -m row --conformance-table               the same
    pytest tests/conformance -m row --conformance-table=check --collect-only

`requirements.toml` lists the rows. A test names those that it shows with `@pytest.mark.row(id, ...)`.
`waivers.toml` names the rows without a test: waived for a reason, or not there yet. The second list can only
get shorter: a row in it that has a test is an error, and writing the table takes it out.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.toml"
WAIVERS = HERE / "waivers.toml"
TABLE = HERE.parents[1] / "appliance" / "docs" / "conformance.md"
MAX_WAIVERS = 12

PASSED = "passed"
WAIVED = "waived"
NO_TEST = "no test yet"

HEAD = """# What the TCP/IP stack conforms to

Made by `make conformance` from the tests under `tests/conformance`: do not edit. Each row is one requirement
of an RFC in short words; the ids of RFC 9293 are those of its Appendix B, `R<rfc>-<n>` are ours. The tests
inject segments through the public interface, in virtual time, and look at what the stack sends.
"""


@dataclass(frozen=True)
class Requirement:
    """One row. group: the heading it stands under; level: the RFC's word for it; section: of the RFC."""

    id: str
    group: str
    level: str
    section: str
    text: str


@dataclass(frozen=True)
class Waivers:
    """The rows without a test: id -> reason, and those whose test is still to be written."""

    waived: Mapping[str, str] = field(default_factory=dict)
    not_yet: tuple[str, ...] = ()


def load_requirements(path: Path = REQUIREMENTS) -> list[Requirement]:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Requirement(row, group, level, section, text)
        for group, rows in document.items()
        for row, (level, section, text) in rows.items()
    ]


def load_waivers(path: Path = WAIVERS) -> Waivers:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return Waivers(document["waived"], tuple(document["not_yet"]))


def problems_of(
    requirements: list[Requirement], waivers: Waivers, tests: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """What is wrong, a line each. tests: row id -> name of the test -> outcome."""
    known = {requirement.id for requirement in requirements}
    problems = [
        f"{row}: marked by {', '.join(sorted(tests[row]))}, but no such row" for row in tests.keys() - known
    ]
    for name, rows in (("waived", set(waivers.waived)), ("not_yet", set(waivers.not_yet))):
        problems += [f"{row}: in `{name}`, but no such row" for row in rows - known]
        problems += [f"{row}: in `{name}`, but {min(tests[row])} shows it" for row in rows & tests.keys()]
    problems += [
        f"{row}: both waived and not there yet" for row in set(waivers.waived) & set(waivers.not_yet)
    ]
    excused = set(waivers.waived) | set(waivers.not_yet)
    problems += [f"{row}: neither a test nor a waiver" for row in known - tests.keys() - excused]
    problems += [
        f"{row}: waived without a reason" for row, reason in waivers.waived.items() if len(reason) < 20
    ]
    if len(waivers.waived) > MAX_WAIVERS:
        problems.append(f"{len(waivers.waived)} waivers, more than {MAX_WAIVERS}")
    return sorted(problems)


def outcome_of(outcomes: Mapping[str, str]) -> str:
    """Of a row with several tests: the worst."""
    for outcome in outcomes.values():
        if outcome != PASSED:
            return outcome
    return PASSED


def render(requirements: list[Requirement], waivers: Waivers, tests: Mapping[str, Mapping[str, str]]) -> str:
    """The whole document."""
    rows: list[tuple[Requirement, str, str]] = []
    for requirement in requirements:
        row = requirement.id
        if row in tests:
            names = "<br>".join(f"`{name}`" for name in sorted(tests[row]))
            rows.append((requirement, names, outcome_of(tests[row])))
        elif row in waivers.waived:
            rows.append((requirement, waivers.waived[row], WAIVED))
        else:
            rows.append((requirement, "", NO_TEST))
    counts: dict[str, int] = {}
    for _, _, outcome in rows:
        counts[outcome] = counts.get(outcome, 0) + 1
    summary = ", ".join(
        f"{count} {outcome}" for outcome, count in sorted(counts.items(), key=lambda item: -item[1])
    )
    lines = [HEAD, f"Of {len(rows)} rows: {summary}."]
    group = ""
    for requirement, tests_of_row, outcome in rows:
        if requirement.group != group:
            group = requirement.group
            lines += [
                "",
                f"## {group}",
                "",
                "| id | level | § | requirement | test | outcome |",
                "|---|---|---|---|---|---|",
            ]
        cells = (
            requirement.id, requirement.level, requirement.section, requirement.text, tests_of_row, outcome,
        )  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def without_shown(text: str, tests: Mapping[str, Mapping[str, str]]) -> str:
    """waivers.toml with the rows that have a test taken out of `not_yet`; all else stays as it is."""
    before, bracket, rest = text.partition("not_yet = [")
    body, end, after = rest.partition("]")
    rows = [row for row in re.findall(r'"([^"]+)"', body) if row not in tests]
    lines: list[str] = []
    family = ""
    for row in rows:
        prefix = row.rpartition("-")[0]
        if prefix == family and len(lines[-1]) + len(row) < 110:
            lines[-1] += f' "{row}",'
        else:
            lines.append(f'    "{row}",')
        family = prefix
    return before + bracket + "".join("\n" + line for line in lines) + ("\n" if lines else "") + end + after
