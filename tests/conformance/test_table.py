"""The conformance table is complete and up to date; and its own checks can fail."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conformance import conformance_table as table
from tests.conformance.conformance_table import Requirement, Waivers

ONE = [Requirement("R1-1", "RFC 1", "MUST", "2", "something | other")]
REASON = "a reason that an expert would accept"


def test_every_row_has_a_test_or_a_waiver_and_the_document_is_current() -> None:
    options = ["--collect-only", "-p", "no:cacheprovider", "-m", "row", "--conformance-table=check"]
    redis = ["--ignore", str(table.HERE / "redis")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(table.HERE), *redis, *options],
        cwd=table.HERE.parents[1],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    _, _, summary = done.stdout.partition("conformance table")
    assert done.returncode == 0, summary or done.stdout + done.stderr


def test_all_requirements_are_there_once() -> None:
    rows = [requirement.id for requirement in table.load_requirements()]
    assert len(rows) == len(set(rows)) == 303


def test_row_without_test_or_waiver_is_a_problem() -> None:
    assert table.problems_of(ONE, Waivers(), {}) == ["R1-1: neither a test nor a waiver"]
    assert table.problems_of(ONE, Waivers({"R1-1": REASON}), {}) == []
    assert table.problems_of(ONE, Waivers(not_yet=("R1-1",)), {}) == []
    assert table.problems_of(ONE, Waivers(), {"R1-1": {"t": "passed"}}) == []


def test_unknown_row_is_a_problem_wherever_it_stands() -> None:
    shown = {"R1-1": {"t": "passed"}}
    assert table.problems_of(ONE, Waivers(), {**shown, "R1-2": {"u": "passed"}}) == [
        "R1-2: marked by u, but no such row"
    ]
    assert len(table.problems_of(ONE, Waivers({"R1-2": REASON}), shown)) == 1
    assert len(table.problems_of(ONE, Waivers(not_yet=("R1-2",)), shown)) == 1


def test_excuse_for_a_row_with_a_test_is_a_problem() -> None:
    shown = {"R1-1": {"t": "passed"}}
    assert table.problems_of(ONE, Waivers(not_yet=("R1-1",)), shown) == ["R1-1: in `not_yet`, but t shows it"]
    assert len(table.problems_of(ONE, Waivers({"R1-1": REASON}), shown)) == 1


def test_thirteenth_waiver_is_a_problem() -> None:
    many = [Requirement(f"R1-{n}", "RFC 1", "MUST", "2", "x") for n in range(13)]
    waived = {requirement.id: REASON for requirement in many}
    assert table.problems_of(many, Waivers(waived), {}) == ["13 waivers, more than 12"]
    del waived["R1-12"]
    assert table.problems_of(many[:12], Waivers(waived), {}) == []
    assert table.problems_of(ONE, Waivers({"R1-1": "no"}), {}) == ["R1-1: waived without a reason"]


def test_table_shows_the_worst_outcome_and_escapes_bars() -> None:
    text = table.render(ONE, Waivers(), {"R1-1": {"a": "passed", "b": "failed"}})
    assert "| R1-1 | MUST | 2 | something \\| other | `a`<br>`b` | failed |" in text
    assert "Of 1 rows: 1 failed." in text
    assert "| no test yet |" in table.render(ONE, Waivers(), {})


def test_writing_takes_shown_rows_out_of_not_yet_only() -> None:
    text = '# why\nnot_yet = [\n    "R1-1", "R1-2",\n    "R2-1",\n]\n\n[waived]\n"R3-1" = "R1-1 does it"\n'
    assert table.without_shown(text, {"R1-1": {}, "R3-1": {}}) == text.replace('"R1-1", "R1-2"', '"R1-2"')
    assert table.without_shown(text, {"R1-1": {}, "R1-2": {}, "R2-1": {}}) == (
        '# why\nnot_yet = []\n\n[waived]\n"R3-1" = "R1-1 does it"\n'
    )
