"""The page of results from the JSON of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from appliance.bench.document import BEGIN, END, PAGE, filled, main, render
from tests.unit.bench.test_rounds import SUMMARY

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_in_the_repository_has_its_marks() -> None:
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_everything_that_was_measured_is_in_the_tables() -> None:
    text = render(SUMMARY)
    assert "### Targets: 5 of 6 hold" in text
    assert "| GET -c 50 -P 1 | redis-server | ≥ 1.0× | 0.90× | 0.90× | **no** |" in text
    assert "| GET -c 5000 -P 1 | kernel 1 | 1 |  | 500.00 (500.00 – 500.00, ±0 %) | 500.00 |" in text
    assert "| idle connection, of 10 | 5,000 | 20,000 |" in text
    assert "compiled build" in text
    assert "![" not in text
    for line in text.splitlines():
        if line.startswith("|---"):
            assert set(line) <= set("|-:")


def test_each_table_has_as_many_cells_in_every_row() -> None:
    counts: list[set[int]] = [set()]
    for line in render(SUMMARY).splitlines():
        if line.startswith("|"):
            counts[-1].add(line.count("|"))
        elif counts[-1]:
            counts.append(set())
    assert [len(one) for one in counts if one] == [1, 1, 1]


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = filled(page, "new\n")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert filled(once, "new\n") == once
    with pytest.raises(ValueError, match="no marks"):
        filled("nothing", "new")


def test_the_command_fills_a_page_and_shows_a_picture_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(
        json.dumps({**SUMMARY, "not_measured": ["LPOP: our engine has none yet"]})
    )
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")
    (tmp_path / "performance.png").write_bytes(b"")
    assert main([str(tmp_path / "bench.json"), "--page", str(page)]) == 0
    text = page.read_text()
    assert "](performance.png)" in text
    assert "Not measured: LPOP: our engine has none yet." in text


def test_a_file_that_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench.json").write_text("{}")
    assert main([str(tmp_path / "bench.json"), "--page", str(PAGE)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
