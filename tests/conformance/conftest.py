"""The pytest option that writes or checks the conformance table; see `conformance_table`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance import conformance_table as table

if TYPE_CHECKING:
    from pathlib import Path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--conformance-table",
        nargs="?",
        const="write",
        choices=["write", "check"],
        help="write appliance/docs/conformance.md from the outcomes, or check it against the tests collected",
    )


def pytest_configure(config: pytest.Config) -> None:
    mode = config.getoption("--conformance-table")
    if mode is not None:
        config.pluginmanager.register(ConformanceTable(mode, config.rootpath), "conformance-table")


class ConformanceTable:
    """Gathers which tests show which rows, and what became of them."""

    def __init__(self, mode: str, root: Path) -> None:
        self.mode = mode
        self.root = root
        self.rows: dict[str, list[str]] = {}  # node id -> row ids
        self.names: dict[str, str] = {}  # node id -> name in the table
        self.outcomes: dict[str, str] = {}
        self.problems: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            rows = [row for marker in item.iter_markers("row") for row in marker.args]
            if rows:
                self.rows[item.nodeid] = rows
                path = item.path.relative_to(table.HERE)
                name = item.nodeid.partition("::")[2].partition("[")[0]
                self.names[item.nodeid] = f"{path}::{name}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != table.PASSED:
            self.outcomes[report.nodeid] = report.outcome
        elif report.when == "call":
            self.outcomes.setdefault(report.nodeid, table.PASSED)

    def tests(self) -> dict[str, dict[str, str]]:
        """Row id -> name of the test -> outcome; of the cases of one test the worst counts."""
        tests: dict[str, dict[str, str]] = {}
        for node, rows in self.rows.items():
            # Only collected: as if it passed, so a table that says otherwise differs.
            outcome = self.outcomes.get(node, "not run" if self.mode == "write" else table.PASSED)
            for row in rows:
                of_row = tests.setdefault(row, {})
                name = self.names[node]
                if of_row.get(name, table.PASSED) == table.PASSED:
                    of_row[name] = outcome
        return tests

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        tests = self.tests()
        if self.mode == "write":
            text = table.WAIVERS.read_text(encoding="utf-8")
            table.WAIVERS.write_text(table.without_shown(text, tests), encoding="utf-8")
        requirements, waivers = table.load_requirements(), table.load_waivers()
        self.problems = table.problems_of(requirements, waivers, tests)
        rendered = table.render(requirements, waivers, tests)
        if self.mode == "write":
            table.TABLE.write_text(rendered, encoding="utf-8")
        elif not table.TABLE.exists() or table.TABLE.read_text(encoding="utf-8") != rendered:
            self.problems.append(f"{table.TABLE.relative_to(self.root)} is stale: run `make conformance`")
        if self.problems:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("conformance table")
        for problem in self.problems:
            terminalreporter.write_line(problem)
        if not self.problems:
            terminalreporter.write_line("complete, but for what waivers.toml names")
