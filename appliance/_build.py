"""Which build runs: compiled (mypyc) or pure Python.

The compiled modules lie beside their sources, and Python prefers them. With `REDTAP_PURE=1` in the
environment this finder comes first and loads every module of `appliance` from its source, so one
installation can run, test and benchmark both builds.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_PACKAGE = "appliance"


class _SourceOnlyFinder:
    """A meta path finder that sees sources and no extension modules, for our package alone."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not fullname.startswith(_PACKAGE + "."):
            return None
        for entry in path:
            spec = FileFinder(entry, (SourceFileLoader, [".py"])).find_spec(fullname, target)
            if spec is not None:
                return spec
        return None


def prefer_sources_if_asked() -> None:
    """Install the source-only finder when the environment says `REDTAP_PURE=1`."""
    if os.environ.get("REDTAP_PURE", "0") not in ("", "0"):
        sys.meta_path.insert(0, _SourceOnlyFinder)


def build_kind() -> str:
    """`"compiled"` or `"pure"`: how the TCP connection, the heart of the hot path, was loaded."""
    from appliance.stack.tcp import connection

    return "pure" if (connection.__file__ or "").endswith(".py") else "compiled"
