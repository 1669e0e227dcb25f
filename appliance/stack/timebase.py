"""Units of time: `now` and every deadline are integer microseconds on a clock that never goes back."""

from typing import Final

__all__ = ["MILLISECOND", "NEVER", "SECOND"]

MILLISECOND: Final = 1_000
SECOND: Final = 1_000_000
# Later than any time: "no deadline". An int and not None, so that the earliest is plain min().
NEVER: Final = 1 << 61
