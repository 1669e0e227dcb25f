"""The C heap, told what kind of program this is.

A large value passes through blocks of 64 KiB and more that live for microseconds. glibc gives such memory
back to the kernel at once and takes it again for the next one, and every page of it is cleared and faulted in
anew: a quarter of the time of a SET of 64 KiB went there. Kept, they are the same warm pages again and
again.

Source:     mallopt(3).
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Freed memory at the end of the heap that is kept for the next value; more than that goes back."""

_LARGEST_FROM_HEAP: Final = 4 * 1024 * 1024
"""Larger blocks are mapped one by one, so that they leave no holes when they are freed."""


def keep_freed_memory() -> None:
    """Ask the C library to keep what large values leave behind; where it knows no such thing, nothing."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
