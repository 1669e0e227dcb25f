"""The documents against the repository: what they tell people to type or to open must be there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("appliance/docs/**/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_of(text: str) -> list[str]:
    """Everything that is set as code: the fenced blocks, and the spans outside of them."""
    return [block for _, block in FENCE.findall(text)] + SPAN.findall(FENCE.sub("", text))


def commands_of(text: str) -> set[str]:
    """Words after `redtap` where it is the command and not a namespace (`ip netns exec redtap …`)."""
    found: set[str] = set()
    for code in code_of(text):
        found.update(re.findall(r"(?<!exec )\bredtap ([a-z]+)", code))
    return found


def test_commands_are_told_from_namespaces() -> None:
    text = "`redtap serve --port 1`\n```sh\nip netns exec redtap ping\n# .venv/bin/redtap cli get a\n```\n"
    assert commands_of(text) == {"serve", "cli"}


def test_every_command_in_the_documents_exists() -> None:
    commands = set().union(*(commands_of(read(name)) for name in NAMES))
    assert {"serve", "exec", "cli", "status", "netns", "bench"} <= commands
    unknown = []
    for command in sorted(commands):
        done = subprocess.run(
            [sys.executable, "-m", "appliance", command, "--help"],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # `redtap cli` hands all arguments to redis-cli, whose own help exits with 0 or 1.
        if done.returncode != 0 and command != "cli":
            unknown.append((command, done.stderr))
    assert unknown == []


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named: set[str] = set()
    for name in NAMES:
        for code in code_of(read(name)):
            named.update(re.findall(r"^(?:[#$] )?(?:[A-Z_]+=\S+ )*make ([a-z-]+)", code, re.MULTILINE))
    assert {"up", "test", "check", "bench"} <= named
    assert named - targets == set()


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", read(name)))
    missing = [
        link for link in links if "://" not in link and not (ROOT / name).parent.joinpath(link).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_files_and_folders_named_in_code_exist(name: str) -> None:
    """`appliance/…` and `tests/…` from the root; a bare `module.py` anywhere in the packages."""
    known = {
        path.name
        for folder in ("appliance", "netns", "tests")
        for path in ROOT.joinpath(folder).rglob("*.py")
    }
    known.add("setup.py")
    missing = []
    for span in SPAN.findall(FENCE.sub("", read(name))):
        if re.fullmatch(r"(appliance|netns|tests)/[\w/.-]*", span):
            if not (ROOT / span).exists():
                missing.append(span)
        elif re.fullmatch(r"[\w/]+\.py", span) and Path(span).name not in known:
            missing.append(span)
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_python_in_the_documents_compiles(name: str) -> None:
    for language, block in FENCE.findall(read(name)):
        if language == "python":
            compile(block, name, "exec")


def test_no_two_decisions_share_a_number_and_those_cited_exist() -> None:
    """Modules cite them as `ADR 0001`."""
    numbers = [path.name[:4] for path in ROOT.glob("appliance/docs/adr/*.md")]
    assert len(numbers) == len(set(numbers))
    sources = [path for folder in ("appliance", "netns") for path in ROOT.joinpath(folder).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in [*DOCUMENTS, *sources]]
    cited = {number for text in texts for number in re.findall(r"\bADR (\d{4})\b", text)}
    assert cited <= set(numbers)
