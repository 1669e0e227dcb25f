"""What the package is made of: which modules are compiled, and that one environment can run both builds."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ["requirements.lock", "requirements-build.lock", "requirements-dev.lock"]


def compiled_patterns() -> list[str]:
    """All patterns of the constant GROUPS of setup.py, read without running it: it would build."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GROUPS":
            groups = ast.literal_eval(node.value)
            return [pattern for patterns in groups.values() for pattern in patterns]
    raise AssertionError("setup.py has no GROUPS")


@pytest.mark.parametrize("pattern", compiled_patterns())
def test_each_pattern_of_compiled_modules_names_a_module(pattern: str) -> None:
    """A module that was renamed must not silently go back to being interpreted."""
    assert [path for path in ROOT.glob(pattern) if path.name != "__init__.py"]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_each_package_with_hashes_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "file:" not in text
    requirements = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    assert requirements
    for line in requirements:
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==[^ ]+ .*\\$", line), line


def test_lock_has_every_declared_dependency() -> None:
    def names(requirements: list[str]) -> set[str]:
        found = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
        return {match.group().lower().replace("_", "-") for match in found if match} - {"redtap"}

    def locked(lock: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9.-]+)(?:\[.*\])?==", (ROOT / lock).read_text("utf-8"), re.MULTILINE))

    project = PYPROJECT["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    assert names(project["dependencies"]) <= locked("requirements.lock")
    assert names(project["dependencies"] + extras) <= locked("requirements-dev.lock")
    assert names(PYPROJECT["build-system"]["requires"]) <= locked("requirements-build.lock")


def test_locks_agree_with_each_other() -> None:
    """A name may have several versions, for several Pythons; all locks take theirs from the same ones."""

    def pins(lock: str) -> set[tuple[str, str]]:
        text = (ROOT / lock).read_text(encoding="utf-8")
        return set(re.findall(r"^([a-z0-9.-]+)(?:\[.*\])?==(\S+)", text, re.MULTILINE))

    everything = pins("requirements-dev.lock")
    names = {name for name, _ in everything}
    for lock in LOCKS:
        assert {pin for pin in pins(lock) if pin[0] in names} <= everything


@pytest.mark.parametrize("dependency", PYPROJECT["project"]["dependencies"])
def test_dependency_has_a_lower_bound_and_no_upper_one(dependency: str) -> None:
    assert ">=" in dependency
    assert "<" not in dependency


def test_redtap_pure_loads_every_module_from_its_source() -> None:
    """Also where compiled modules lie beside the sources: then nothing else keeps them apart."""
    program = (
        "import sys, appliance.stack.interface, appliance.redis.engine\n"
        "ours = [module for name, module in sys.modules.items() if name.startswith('appliance.')]\n"
        "print([module.__file__ for module in ours if not module.__file__.endswith('.py')])\n"
        "print('redtap__mypyc' in sys.modules or 'redtap_types__mypyc' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "REDTAP_PURE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_pure_wheel_from_the_source_distribution_is_whole(tmp_path: Path) -> None:
    """What an index would carry, without a compiler: every module of ours, nothing else, for any machine."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for package in ("appliance", "netns"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))

    def run(*command: str) -> None:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tree,
            env={**os.environ, "REDTAP_PURE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("setup.py", "--quiet", "sdist", "--dist-dir", str(tmp_path))
    (archive,) = tmp_path.glob("redtap-*.tar.gz")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    run("-m", "pip", "wheel", *options, str(archive))
    (wheel,) = tmp_path.glob("redtap-*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")

    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in ("appliance", "netns")
        for path in ROOT.glob(f"{package}/**/*")
        if path.suffix in (".py", ".json", ".lua")
    }
    assert inside == expected | {"appliance/py.typed", "netns/py.typed"}
