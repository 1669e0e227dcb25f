"""The cycle collector, told what it need not look at, and memory given back to the system.

Python's collector starts when there are some hundred more containers than before, and now and then it visits
every container there is: 50 ms with a million keys, in the middle of a request. Nothing that is made for a
request or for a connection is part of a cycle (tests/shell/test_memory.py holds us to it), so reference
counts free all of it, and the collector has next to nothing to do (ADR 0016):

    - what the start has made is frozen: never visited again;
    - the collector does not start by itself; housekeeping lets it visit what has come since, when that is
      much, and freezes what is still in use. So each container is visited once in its life, and a look costs
      as much as a tenth of a second's new connections, not as much as the keyspace;
    - in an hour in which nobody asked for anything for a moment, it visits all, in that moment.

The C library keeps freed memory in its heap when something above it is in use: a table that has grown leaves
half its size behind. `give_back` returns such pages; it takes a millisecond, after a resize or a FLUSHALL.

A large value passes through blocks of 64 KiB and more that live for microseconds. glibc gives such memory
back to the kernel at once and takes it again for the next one, and every page of it is cleared and faulted in
anew: a quarter of the time of a SET of 64 KiB went there. `keep_freed_memory` has it kept.

Source:     mallopt(3), malloc_trim(3).
Errors:     none.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from appliance.shell.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Collector", "give_back", "keep_freed_memory", "settle_again", "settled"]

_MANY_NEW: Final = 5_000
"""Containers made and not freed since the last look, before there is another."""

_FULL_LOOK_US: Final = 3600 * 1_000_000

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Freed memory at the end of the heap that is kept for the next value; more than that goes back."""

_LARGEST_FROM_HEAP: Final = 4 * 1024 * 1024
"""Larger blocks are mapped one by one, so that they leave no holes when they are freed."""

_log = get_logger("memory")


class Collector:
    """Looks when housekeeping says so."""

    def __init__(self, now_us: int) -> None:
        self.looks = 0
        self._next_full_us = now_us + _FULL_LOOK_US

    def look(self, now_us: int, is_idle: bool) -> None:
        """To be called about ten times a second.

        Args:
            now_us: any clock that does not go back.
            is_idle: nobody would notice a pause.
        """
        if is_idle and now_us >= self._next_full_us:
            self._next_full_us = now_us + _FULL_LOOK_US
            gc.unfreeze()
            self._collect()
        elif gc.get_count()[0] >= _MANY_NEW:
            self._collect()

    def _collect(self) -> None:
        found = gc.collect()
        gc.freeze()
        self.looks += 1
        if found:
            _log.debug("cyclic garbage", objects=found)


@contextmanager
def settled() -> Iterator[None]:
    """What has been made so far stays; the collector does not start by itself within the block."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def settle_again() -> None:
    """Within `settled`: what was made at the start has been replaced. Free it; its successor stays."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None  # not glibc
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int

    def call(pad: int) -> int:
        return int(trim(pad))

    return call


_trim: Final = _malloc_trim()


def give_back() -> bool:
    """Return free pages to the system, where the C library can; whether there were any."""
    return _trim is not None and _trim(0) == 1


def keep_freed_memory() -> None:
    """Ask the C library to keep what large values leave behind; where it knows no such thing, nothing."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
