"""The eleven states of a connection and the ways between them, as data.

Source: RFC 9293 §3.3.2, Figure 5, with what the text adds to it: ABORT, RST and time-outs lead to CLOSED
from everywhere; a RST or SYN returns a passive SYN-RECEIVED to LISTEN, which here is the listener's own
state, so the connection goes to CLOSED.

The states are plain ints on the hot path (an Enum member costs a dictionary look-up when compiled);
`State` is the same numbers for people.
"""

from enum import IntEnum
from typing import Final

__all__ = [
    "CLOSED",
    "CLOSE_WAIT",
    "CLOSING",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "LAST_ACK",
    "LISTEN",
    "SYN_RECEIVED",
    "SYN_SENT",
    "TIME_WAIT",
    "TRANSITIONS",
    "State",
    "rfc_name",
]

CLOSED: Final = 0
LISTEN: Final = 1
SYN_SENT: Final = 2
SYN_RECEIVED: Final = 3
ESTABLISHED: Final = 4
FIN_WAIT_1: Final = 5
FIN_WAIT_2: Final = 6
CLOSE_WAIT: Final = 7
CLOSING: Final = 8
LAST_ACK: Final = 9
TIME_WAIT: Final = 10


class State(IntEnum):
    CLOSED = 0
    LISTEN = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    ESTABLISHED = 4
    FIN_WAIT_1 = 5
    FIN_WAIT_2 = 6
    CLOSE_WAIT = 7
    CLOSING = 8
    LAST_ACK = 9
    TIME_WAIT = 10


def rfc_name(state: int) -> str:
    """`"SYN-RECEIVED"` for SYN_RECEIVED: the RFC's spelling, for logs and people."""
    return State(state).name.replace("_", "-")


TRANSITIONS: Final[dict[int, tuple[int, ...]]] = {
    CLOSED: (SYN_SENT, SYN_RECEIVED),
    LISTEN: (),
    SYN_SENT: (SYN_RECEIVED, ESTABLISHED, CLOSED),
    SYN_RECEIVED: (ESTABLISHED, FIN_WAIT_1, CLOSE_WAIT, CLOSED),
    ESTABLISHED: (FIN_WAIT_1, CLOSE_WAIT, CLOSED),
    FIN_WAIT_1: (FIN_WAIT_2, CLOSING, TIME_WAIT, CLOSED),
    FIN_WAIT_2: (TIME_WAIT, CLOSED),
    CLOSE_WAIT: (LAST_ACK, CLOSED),
    CLOSING: (TIME_WAIT, CLOSED),
    LAST_ACK: (CLOSED,),
    TIME_WAIT: (CLOSED,),
}
