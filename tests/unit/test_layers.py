"""The arrows between the layers, where import-linter cannot see them.

`make check` holds the arrows between packages and whole distributions (pyproject.toml). This file walks every
import statement, those inside functions and under TYPE_CHECKING too, for rules that name a module inside a
distribution, and for the one that says who may import trio.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ("wire", "stack", "redis")

# What would bring a clock, chance or I/O into the core; `librt` is allowed, two of its modules are not.
FORBIDDEN_IN_CORE = {
    "asyncio", "datetime", "fcntl", "os", "random", "secrets", "select", "socket", "subprocess", "threading",
    "time", "trio", "uuid", "librt.random", "librt.threading", "librt.time",
}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """Dotted names of all modules that the file imports; `from a import b` counts as `a` and as `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def reaches(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def sources(*parts: str) -> list[Path]:
    return sorted(ROOT.joinpath(*parts).rglob("*.py"))


def offences(paths: list[Path], forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in sorted(imports_of(path))
        if any(reaches(name, module) for module in forbidden)
    ]


def test_walker_sees_imports_in_functions_and_from_packages(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def f() -> None:\n    from librt import time\n    import os.path\n")
    assert imports_of(source) == {"librt", "librt.time", "os.path"}
    assert any(reaches(name, "os") for name in imports_of(source))
    assert not any(reaches(name, "o") for name in imports_of(source))


@pytest.mark.parametrize("layer", CORE)
def test_core_imports_no_clock_no_chance_no_io(layer: str) -> None:
    paths = sources("appliance", layer)
    assert paths
    assert offences(paths, FORBIDDEN_IN_CORE) == []


@pytest.mark.parametrize(
    ("layer", "others"),
    [
        ("wire", {"appliance.stack", "appliance.redis", "appliance.shell", "netns"}),
        ("stack", {"appliance.redis", "appliance.shell", "netns"}),
        ("redis", {"appliance.wire", "appliance.stack", "appliance.shell", "netns"}),
    ],
)
def test_core_layer_imports_no_layer_above_or_beside(layer: str, others: set[str]) -> None:
    assert offences(sources("appliance", layer), others) == []


def test_netns_imports_nothing_of_the_appliance() -> None:
    assert offences(sources("netns"), {"appliance", "trio"}) == []


def test_only_the_shell_and_the_command_line_import_trio() -> None:
    outside = [
        path
        for path in sources("appliance")
        if path.relative_to(ROOT / "appliance").parts[0] not in ("shell", "cli", "__main__.py", "bench")
    ]
    assert offences(outside, {"trio"}) == []
