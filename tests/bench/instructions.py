"""Instructions per request on the hot path, counted by valgrind: the same on a busy machine as on an idle one.

    .venv/bin/python -m tests.bench.instructions                      the table, beside the budgets
    .venv/bin/python -m tests.bench.instructions --profile 'get -P 1' where they go, function by function
    .venv/bin/python -m tests.bench.instructions --update             what is counted now is the budget

What runs is in `replay.py`. All cases run in one process under callgrind, which is told to write down its
count whenever the program calls getpriority(2), which nothing else here does. Each case is counted over two
lengths, after a warm-up, and the difference divided by the difference in requests: neither the marks nor
anything else that happens once is in it. Not counted is the kernel's work, which is not ours.

The count depends on the interpreter and on the C compiler, so the budgets (`budgets.json`) say which they are
for, and elsewhere the tolerance is wider. libc copies what is larger than 2 KiB by `rep movsb`, which counts as
one instruction a byte: in the cases with large values the count is nearly that of the copied bytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from appliance._build import build_kind
from tests.bench.replay import LOADS, Conversation, Load, record, replay

__all__ = ["BUDGETS", "count", "environment", "exceeded", "unavailable"]

BUDGETS: Final = Path(__file__).with_name("budgets.json")

_WARM_UP: Final = 40  # rounds: past slow start, and whatever is made once is made
_SHORT: Final = 20
_LONG: Final = 80
_ROUNDS: Final = _WARM_UP + _SHORT + _LONG
_MARKS: Final = (_WARM_UP, _WARM_UP + _SHORT, _ROUNDS)
_PARTS: Final = len(_MARKS)
_TIMEOUT_S: Final = 300
_ROOT: Final = Path(__file__).resolve().parents[2]


def unavailable() -> str:
    """Why nothing can be counted here; empty when it can."""
    if build_kind() != "compiled":
        return "instructions are counted on the compiled build"
    return "" if shutil.which("valgrind") else "valgrind is not installed"


def environment() -> str:
    """What the count depends on besides our code."""
    return f"{platform.machine()}, CPython {platform.python_version()}, {platform.python_compiler()}"


def _child(path: str) -> None:
    """Under valgrind: replay all that is in the file."""
    conversations: list[Conversation] = pickle.loads(Path(path).read_bytes())
    for conversation in conversations:
        gc.collect()
        replay(conversation, _MARKS, _mark)


def _mark() -> None:
    os.getpriority(os.PRIO_PROCESS, 0)


def count(loads: list[Load], directory: str) -> dict[str, float]:
    """Instructions per request of each load; callgrind's files stay in `directory`."""
    recorded = Path(directory, "conversations")
    recorded.write_bytes(pickle.dumps([record(load, _ROUNDS) for load in loads]))
    out = Path(directory, "callgrind.out")
    valgrind = shutil.which("valgrind")
    assert valgrind is not None
    argv = [valgrind, "--tool=callgrind", "--dump-before=getpriority", f"--callgrind-out-file={out}"]
    argv += [sys.executable, "-m", "tests.bench.instructions", "--child", str(recorded)]
    # Nothing of the caller's environment: its length moves the stack, a hash seed the order of sets.
    variables = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(_ROOT), "PATH": "/usr/bin:/bin"}
    if build_kind() == "pure":
        variables["REDTAP_PURE"] = "1"
    done = subprocess.run(
        argv, cwd=_ROOT, env=variables, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"under valgrind the replay failed:\n{done.stdout}{done.stderr}")
    counted = {}
    for number, load in enumerate(loads):
        short, long = (_total(part) for part in _parts(out, number))
        counted[load.name] = (long - short) / ((_LONG - _SHORT) * load.requests_per_batch)
    return counted


def _parts(out: Path, number: int) -> tuple[Path, Path]:
    """The files of the short and the long run of load `number`; the part before is what lies between loads."""
    first = number * _PARTS + 2
    return out.with_name(f"{out.name}.{first}"), out.with_name(f"{out.name}.{first + 1}")


def _total(part: Path) -> int:
    found = re.search(r"^totals: (\d+)$", part.read_text(), re.MULTILINE)
    assert found is not None, f"no total in {part}"
    return int(found[1])


def profile(load: Load, directory: str, lines: int, *, inclusive: bool) -> str:
    """The functions that take most of the only load counted in `directory`: instructions per request.

    Args:
        inclusive: with all that they call; else what is their own.
    """
    _, part = _parts(Path(directory, "callgrind.out"), 0)
    argv = ["callgrind_annotate", "--auto=no", "--threshold=100", "--show-percs=no"]
    argv += ["--inclusive=yes"] * inclusive + [str(part)]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    total = _total(part)
    shown = []
    for digits, name, thing in re.findall(r"^\s*([\d,]+)\s+(\S.*?)(?: \[(.*)\])?$", text, re.MULTILINE):
        cost = int(digits.replace(",", ""))
        # What was being called when counting began has all of it: main, the event loop.
        if cost < total:
            where = Path(thing).name.partition(".")[0]
            shown.append(
                f"{cost / (_LONG * load.requests_per_batch):12,.1f}  {name.rpartition('/')[2]}  {where}"
            )
    return "\n".join(shown[:lines])


def budgets() -> dict[str, Any]:
    """The stored budgets."""
    stored: dict[str, Any] = json.loads(BUDGETS.read_text())
    return stored


def exceeded(counted: dict[str, float], stored: dict[str, Any], here: str) -> list[str]:
    """One line for each load that is further from its budget than the tolerance, in either direction.

    A count far below its budget is a budget to be lowered: what was won could be lost again unseen.
    """
    tolerance = stored["tolerance"] if stored["environment"] == here else stored["tolerance_elsewhere"]
    lines = []
    for name, instructions in counted.items():
        budget = stored["instructions_per_request"].get(name)
        if budget is None:
            lines.append(f"{name}: {instructions:,.0f} instructions per request and no budget")
        elif instructions > budget * (1 + tolerance):
            lines.append(
                f"{name}: {instructions:,.0f} instructions per request, "
                f"{instructions / budget - 1:+.1%} on the budget of {budget:,} (tolerance {tolerance:.0%})"
            )
        elif stored["environment"] == here and instructions < budget * (1 - 4 * tolerance):
            lines.append(
                f"{name}: {instructions:,.0f} instructions per request, {instructions / budget - 1:+.1%} on "
                f"the budget of {budget:,}: lower the budget (--update)"
            )
    return lines


def _update(counted: dict[str, float]) -> None:
    stored = budgets() if BUDGETS.exists() else {"tolerance": 0.05, "tolerance_elsewhere": 0.3}
    stored["environment"] = environment()
    known = stored.setdefault("instructions_per_request", {})
    known.update({name: round(instructions) for name, instructions in counted.items()})
    BUDGETS.write_text(json.dumps(stored, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.instructions", description=__doc__)
    parser.add_argument("--case", action="append", default=[], help="only loads whose name contains this")
    parser.add_argument("--profile", metavar="CASE", help="where the instructions of one load go")
    parser.add_argument("--inclusive", action="store_true", help="--profile counts with callees")
    parser.add_argument("--lines", type=int, default=50, help="functions that --profile shows")
    parser.add_argument("--keep", metavar="DIRECTORY", help="keep callgrind's files (for kcachegrind)")
    parser.add_argument("--update", action="store_true", help="make what was counted the budgets")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child)
        return 0
    if not shutil.which("valgrind"):
        print("valgrind is not installed: apt-get install valgrind", file=sys.stderr)
        return 1
    wanted = [options.profile] if options.profile else options.case
    loads = [load for load in LOADS if not wanted or any(part in load.name for part in wanted)]
    if not loads:
        print("no such case; there are: " + ", ".join(load.name for load in LOADS), file=sys.stderr)
        return 2
    if options.profile:
        loads = [next((load for load in loads if load.name == options.profile), loads[0])]
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.keep or scratch
        Path(directory).mkdir(parents=True, exist_ok=True)
        counted = count(loads, directory)
        if options.profile:
            print(profile(loads[0], directory, options.lines, inclusive=options.inclusive))
    if options.update:
        _update(counted)
    known = budgets()["instructions_per_request"] if BUDGETS.exists() else {}
    print(f"instructions per request, {build_kind()} build, {environment()}")
    for name, instructions in counted.items():
        budget = known.get(name)
        beside = "" if budget is None or build_kind() == "pure" else f"{instructions / budget - 1:+8.1%}"
        print(f"  {name:14}{instructions:12,.0f} {beside}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
