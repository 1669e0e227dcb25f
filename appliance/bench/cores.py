"""Which core runs the server and which one the client: the same two for every peer.

Left to itself the scheduler puts a client and a server that wake each other now on one core and now on two,
and stays with it for a run. With one client that decides the figure: on one core a wake-up is a switch, on
two it is an interrupt between cores, and in a virtual machine the end of an idle core's sleep; redis-server's
round trip was 15 us or 63 us. So a ratio told where the runs had landed. What is started here stays where it
was put: a thread and a process have the affinity of the thread that made them (sched_setaffinity(2)).

The two are cores of their own where the machine has such, not threads of one core, and of one package. A
machine with one core has no choice, and nothing is pinned.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_T = TypeVar("_T")

__all__ = ["Cores", "choose", "described", "on_core", "placed"]

_TOPOLOGY: Final = "/sys/devices/system/cpu"


@dataclass(frozen=True)
class Cores:
    """Numbers of logical processors, as the kernel counts them."""

    server: int
    client: int


def choose(allowed: Iterable[int] | None = None, topology: str = _TOPOLOGY) -> Cores | None:
    """Two of the cores that this process may use; None where there is only one.

    Args:
        allowed: the cores to choose from; by default all that this process may use.
        topology: where the kernel tells which logical processors are one core's.
    """
    cores = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    if len(cores) < 2:
        return None
    first, *others = cores

    def distance(other: int) -> tuple[bool, bool, int]:
        here, there = _place(topology, first), _place(topology, other)
        return here == there, here[0] != there[0], other

    return Cores(first, min(others, key=distance))


def _place(topology: str, core: int) -> tuple[str, str]:
    """The package and the core within it; each logical processor is by itself where nothing is told."""
    directory = Path(topology, f"cpu{core}", "topology")
    try:
        return tuple((directory / name).read_text().strip() for name in ("physical_package_id", "core_id"))  # type: ignore[return-value]
    except OSError:
        return "", str(core)


def described(cores: Cores | None) -> str:
    """For the head of a table."""
    if cores is None:
        return "nothing is pinned to a core"
    return f"servers on core {cores.server}, clients on core {cores.client}"


@contextmanager
def placed(core: int | None) -> Iterator[None]:
    """What this thread starts within the block runs on `core`; None leaves it to the scheduler."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def on_core(core: int | None, start: Callable[..., _T]) -> Callable[..., _T]:
    """`start`, which starts a program, so that the program runs on `core`."""

    @wraps(start)
    def run(*arguments: object, **options: object) -> _T:
        with placed(core):
            return start(*arguments, **options)

    return run
