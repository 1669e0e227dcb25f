"""The wish that the process ends, or that the server in it begins anew: DEBUG RESTART, SEGFAULT and the like.

The engine has no process. It stops executing, so that nothing follows the command as nothing would follow a
crash, and tells the shell (`Engine.on_process_end`), which does the rest: it closes the connections or resets
them, and makes another engine, or takes all down and dies. Where nobody has put a callback there, as where
the engine is used as a library, the command is refused by name.

Source:     redis-server 8.2: by which signal it dies.
Units:      milliseconds.
Not here:   names of signals as numbers (the shell).
"""

from __future__ import annotations

from typing import Final

# What dies of a fault, and what of `abort`.
SEGMENTATION_FAULT: Final = "SIGSEGV"
ABORT: Final = "SIGABRT"


class ProcessEnd:
    """How it is to end, and who wants that."""

    def __init__(
        self, how: str, asked_by: str, *, signal: str = "", is_orderly: bool = False, delay_ms: int = 0
    ) -> None:
        """A wish.

        Args:
            how: the command, for the log: `DEBUG SEGFAULT`.
            asked_by: the client as CLIENT LIST shows it.
            signal: by which to die; empty when the server is to begin anew.
            is_orderly: clients get what they are owed, and FIN; otherwise their connections are reset.
            delay_ms: between the end and the new beginning.
        """
        self.how = how
        self.asked_by = asked_by
        self.signal = signal
        self.is_orderly = is_orderly
        self.delay_ms = delay_ms

    @property
    def is_restart(self) -> bool:
        return self.signal == ""
