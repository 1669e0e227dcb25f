"""The special states of an engine, bits of `Engine.mode`.

`mode` is zero in an engine in no special state, which is what nearly all requests meet: `Session.execute`
looks at it once, together with the session's own `mode`, and asks about each state only when it is not.
"""

from __future__ import annotations

from typing import Final

MEMORY_LIMITED: Final = 1 << 0  # `maxmemory`: ask for room before each command
PAUSED: Final = 1 << 1  # CLIENT PAUSE, or a MIGRATE under way
SCRIPT_BUSY: Final = 1 << 2  # a script is under way and has let go of the thread: no other command may run
MONITORED: Final = 1 << 3  # somebody runs MONITOR
TRACKING: Final = 1 << 4  # somebody's reads are tracked (CLIENT TRACKING)
EXACT_TIMES: Final = 1 << 5  # every command is timed, quick ones too
STALLED: Final = 1 << 6  # DEBUG SLEEP: nothing is executed
CLIENTS_LIMITED: Final = 1 << 7  # `maxmemory-clients`: count what a client takes before each of its requests
REPLIES_LIMITED: Final = 1 << 8  # ordinary clients have a limit on unsent replies
