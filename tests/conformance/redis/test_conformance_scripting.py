"""Scripts, compared with redis-server: what they see, what they get, what becomes of what they return.

The cases lie in scripts/, one a line: a script for EVAL without keys (`\\n` in it is a line feed), or after `!` a
request with its arguments between bars. Each file is run from its beginning to its end, in RESP2 and in RESP3.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.redis_pair import Argument, Pair

pytestmark = pytest.mark.conformance

_CASES = Path(__file__).parent / "scripts"


def _addresses_hidden(reply: bytes) -> bytes:
    return re.sub(rb"0x[0-9a-f]+", b"0x", reply)


def _request(line: str) -> tuple[Argument, ...]:
    if line.startswith("!"):
        return tuple(line[1:].replace("\\0", "\0").split("|"))
    return ("EVAL", line.replace("\\n", "\n"), 0)


def _cases(name: str) -> list[str]:
    return [line for line in (_CASES / f"{name}.txt").read_text().split("\n") if line.strip()]


@pytest.mark.parametrize("name", sorted(path.stem for path in _CASES.glob("*.txt")))
def test_scripts_answer_as_redis_server(pair: Pair, name: str) -> None:
    pair.same("SCRIPT", "FLUSH")
    pair.same("FUNCTION", "FLUSH")
    wrong = []
    for line in _cases(name):
        ours, theirs = pair.both(*_request(line))
        if _addresses_hidden(ours) != _addresses_hidden(theirs):
            wrong.append(f"{line}\n  ours   {ours!r}\n  theirs {theirs!r}")
    assert not wrong, "\n".join(wrong[:20])


def test_there_are_many_cases() -> None:
    scripts = [
        line for path in _CASES.glob("*.txt") for line in _cases(path.stem) if not line.startswith("!")
    ]
    assert len(set(scripts)) >= 450
