"""Build script: compiles the hot modules with mypyc, or builds pure Python.

What the package is stands in pyproject.toml; this file only decides which modules become C. The pure build is
made when the environment says `REDTAP_PURE=1`, or when mypyc, a C compiler or Python's headers are missing;
standard error says which. Everything else that goes wrong is an error: a type mistake must not turn into a
slow build without a word.
"""

from __future__ import annotations

import glob
import os
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup

# Patterns, relative to this file, in groups that are one C file each. Within a group calls are C calls, and
# small functions are inlined. What each frame and each simple request passes through is in the first; in one
# file with the rest the C compiler took minutes and more than a gigabyte. A module belongs to the first group
# that names it.
GROUPS = {
    "redtap": [
        "appliance/bench/canned.py",
        "appliance/wire/*.py",
        "appliance/stack/**/*.py",
        "appliance/redis/arguments.py",
        "appliance/redis/chance.py",
        "appliance/redis/client_limits.py",
        "appliance/redis/commands/connection.py",
        "appliance/redis/commands/generic.py",
        "appliance/redis/commands/server.py",
        "appliance/redis/commands/strings.py",
        "appliance/redis/direct.py",
        "appliance/redis/counters.py",
        "appliance/redis/denials.py",
        "appliance/redis/doubles.py",
        "appliance/redis/engine.py",
        "appliance/redis/entry.py",
        "appliance/redis/frequency.py",
        "appliance/redis/glob.py",
        "appliance/redis/hash_table.py",
        "appliance/redis/holding.py",
        "appliance/redis/integers.py",
        "appliance/redis/keyspace.py",
        "appliance/redis/latency.py",
        "appliance/redis/monitor.py",
        "appliance/redis/notifications.py",
        "appliance/redis/quoting.py",
        "appliance/redis/registry.py",
        "appliance/redis/replies.py",
        "appliance/redis/resp.py",
        "appliance/redis/session.py",
        "appliance/redis/slowlog.py",
        "appliance/redis/timing.py",
        "appliance/redis/tracking.py",
        "appliance/redis/slices.py",
        "appliance/redis/types/collection.py",
        "appliance/redis/values.py",
        "appliance/shell/addresses.py",
        "appliance/shell/link.py",
        "appliance/shell/redis_connection.py",
        "appliance/shell/stepper.py",
        "appliance/shell/xdp_link.py",
    ],
    "redtap_types": [
        "appliance/redis/bits.py",
        "appliance/redis/client_filter.py",
        "appliance/redis/commands/*.py",
        "appliance/redis/crc64.py",
        "appliance/redis/dump.py",
        "appliance/redis/field_expiry.py",
        "appliance/redis/geohash.py",
        "appliance/redis/keysizes.py",
        "appliance/redis/listpack.py",
        "appliance/redis/lzf.py",
        "appliance/redis/partial_sort.py",
        "appliance/redis/piecewise.py",
        "appliance/redis/rdb.py",
        "appliance/redis/reload.py",
        "appliance/redis/scripting/*.py",
        "appliance/redis/snapshot.py",
        "appliance/redis/types/*.py",
    ],
}
# Without semantic interposition functions of one file may be inlined into each other, and without a PLT calls
# of the interpreter cost one jump less: together 3 % of a request's instructions. Overflow must wrap round
# for the hashes in slices.py and types/hyperloglog.py; CPython's own flags say so as well, but need not
# for ever.
C_FLAGS = ["-fwrapv", "-fno-semantic-interposition", "-fno-plt"]
# A package's `__init__` only re-exports, and as source keeps its path plain; the others are for the pure
# build.
NOT_COMPILED = {"__init__.py", "_fields_struct.py", "_slices_pure.py"}


def compiled_sources() -> dict[str, list[str]]:
    """The files of each group that exist, sorted so that every machine builds the same."""
    groups: dict[str, list[str]] = {}
    seen = set()
    for name, patterns in GROUPS.items():
        found = {path for pattern in patterns for path in glob.glob(pattern, recursive=True)}
        groups[name] = sorted(path for path in found - seen if Path(path).name not in NOT_COMPILED)
        seen |= found
    return {name: paths for name, paths in groups.items() if paths}


def why_not_compiled() -> str | None:
    """The reason for a pure build, or None when this machine can compile."""
    if os.environ.get("REDTAP_PURE", "0") not in ("", "0"):
        return "REDTAP_PURE is set"
    try:
        import mypyc.build  # noqa: F401
    except ImportError:
        return "mypyc is not installed"
    return _why_c_does_not_compile()


def _why_c_does_not_compile() -> str | None:
    import sysconfig

    from setuptools._distutils.ccompiler import new_compiler
    from setuptools._distutils.errors import CCompilerError, DistutilsError
    from setuptools._distutils.sysconfig import customize_compiler

    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "probe.c")
        source.write_text("#include <Python.h>\n")
        compiler = new_compiler()
        customize_compiler(compiler)
        paths = sysconfig.get_paths()
        try:
            compiler.compile(
                [str(source)], output_dir=scratch, include_dirs=[paths["include"], paths["platinclude"]]
            )
        except (CCompilerError, DistutilsError, OSError):
            return "no C compiler, or no Python headers (Debian: gcc, python3-dev)"
    return None


def extensions() -> list[Extension]:
    sources = compiled_sources()
    reason = why_not_compiled() if sources else "there is nothing to compile"
    if reason is not None:
        print(f"redtap: pure Python build: {reason}", file=sys.stderr)
        return []
    from mypyc.build import mypycify

    # The shared part of a group is the module `<group>__mypyc`.
    # No configuration file: what `make check` is strict about is no reason to refuse a build. Nor is a
    # package that is needed to run and not to build, as trio in the isolated environment of a wheel's build.
    paths = [path for group in sources.values() for path in group]
    print(f"redtap: compiling {len(paths)} modules", file=sys.stderr)
    try:
        compiled: list[Extension] = mypycify(
            ["--config-file=", "--ignore-missing-imports", *paths],
            opt_level="3",
            debug_level="0",
            separate=[(group, name) for name, group in sources.items()],
        )
    except SystemExit:
        print("redtap: mypyc refused the sources, see above; REDTAP_PURE=1 goes without", file=sys.stderr)
        raise
    for extension in compiled:
        extension.extra_compile_args.extend(C_FLAGS)
    return compiled


def building() -> bool:
    """True for the commands that put modules somewhere; metadata and sdists need no compiler."""
    return any(
        argument.startswith(("build", "bdist", "install", "develop", "editable")) for argument in sys.argv
    )


setup(ext_modules=extensions() if building() else [])
