"""The hot path stays within its budget of instructions, and the counting counts what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.bench.instructions import LOADS, budgets, count, environment, exceeded, unavailable
from tests.bench.replay import Load, record, replay

if TYPE_CHECKING:
    from pathlib import Path

GET = LOADS[0]
STORED = {
    "environment": "here",
    "tolerance": 0.05,
    "tolerance_elsewhere": 0.3,
    "instructions_per_request": {"get -P 1": 1000},
}


@pytest.mark.skipif(bool(unavailable()), reason=unavailable())
def test_hot_path_is_within_its_budget(tmp_path: Path) -> None:
    counted = count(list(LOADS), str(tmp_path))
    over = exceeded(counted, budgets(), environment())
    assert not over, "\n".join(over) + "\nif it has to be: python -m tests.bench.instructions --update"
    # Connections that say nothing cost the others nothing.
    assert counted["get, 2000 idle"] == pytest.approx(counted["get -P 1"], rel=0.02)


@pytest.mark.parametrize(
    ("instructions", "here", "says"),
    [
        (1000, "here", ""),
        (1050, "here", ""),
        (1051, "here", "+5.1% on the budget of 1,000"),
        (801, "here", ""),
        (799, "here", "lower the budget"),
        (1299, "elsewhere", ""),
        (1301, "elsewhere", "+30.1% on the budget of 1,000 (tolerance 30%)"),
        (100, "elsewhere", ""),
    ],
)
def test_a_count_is_compared_with_its_budget(instructions: int, here: str, says: str) -> None:
    lines = exceeded({"get -P 1": instructions}, STORED, here)
    assert len(lines) == bool(says)
    assert says in "".join(lines)


def test_a_load_without_budget_is_told() -> None:
    assert exceeded({"new": 5.0}, STORED, "here") == ["new: 5 instructions per request and no budget"]


def test_every_load_has_a_budget_and_every_budget_a_load() -> None:
    assert list(budgets()["instructions_per_request"]) == [load.name for load in LOADS]
    assert json.dumps(budgets(), indent=2)


@pytest.mark.parametrize("load", LOADS, ids=[load.name for load in LOADS])
def test_a_recording_replays_to_the_same_replies(load: Load) -> None:
    conversation = record(load, 5)
    # Large replies are acknowledged apart, so that there may be more frames than requests.
    assert len(conversation.batches[-1]) >= len(conversation.last_replies) == load.clients
    marks: list[int] = []
    replay(conversation, (0, 3, 5), lambda: marks.append(len(marks)))
    assert marks == [0, 1, 2]


def test_a_server_that_answers_otherwise_is_told() -> None:
    conversation = record(GET, 3)
    other = replace(GET, request=GET.request.replace(b"key:__rand_int__", b"key:__rand_inx__"))
    conversation.batches[-1] = [
        frame.replace(GET.request, other.request) for frame in conversation.batches[-1]
    ]
    with pytest.raises(AssertionError, match="otherwise"):
        replay(conversation)


def test_a_wrong_reply_is_told_when_it_is_recorded() -> None:
    with pytest.raises(AssertionError, match=r"expected b'\$3.*got b'\$-1"):
        record(replace(GET, before=b""), 1)
