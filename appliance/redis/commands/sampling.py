"""Random elements and cursors: what sets and hashes have in common.

Every choice is uniform. From a small encoding a choice without repetition keeps the encoding's order, as
redis-server's does; from a hashtable it comes in no order.

Source:     SRANDMEMBER, SPOP, HRANDFIELD, SSCAN and HSCAN of redis-server 8.2.
Errors:     CommandError: a count or a cursor that is none, a reply beyond all reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from appliance.redis import errors
from appliance.redis.arguments import integer_argument
from appliance.redis.errors import CommandError
from appliance.redis.integers import I64_MAX, I64_MIN, U64_MAX, parse_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.entry import Entry
    from appliance.redis.hash_table import Table

_OUT_OF_RANGE: Final = b"ERR value is out of range, value must between %d and %d" % (-I64_MAX, I64_MAX)
_FLIPPED: Final = bytes([1, 0]) + bytes(254)
# Beyond, the server would fill its memory with one reply.
_MOST_REPEATED: Final = 1 << 26


def count_argument(text: bytes) -> int:
    """How many elements to choose; negative: with repetition.

    Raises:
        CommandError: no such number, or so many repetitions that no reply could hold them.
    """
    count = integer_argument(text)
    if count == I64_MIN:
        raise CommandError(_OUT_OF_RANGE)
    return count


def check_repetitions(count: int) -> None:
    """Refuse what redis-server would try to answer until its memory is full.

    Raises:
        CommandError: `count` elements are too many for one reply.
    """
    if count > _MOST_REPEATED:
        raise CommandError(b"ERR Insufficient memory, the reply would be too long")


def chosen_places(total: i64, count: i64, random: Callable[[], int]) -> bytearray:
    """Which `count` of `total` places a choice without repetition falls on: a 1 for each, else 0.

    Each choice has the same probability: Knuth, The Art of Computer Programming, 3.4.2, algorithm S.
    """
    chosen = bytearray(total)
    needed = count
    place: i64 = 0
    while needed > 0:
        drawn: i64 = random()
        if drawn % (total - place) < needed:
            chosen[place] = 1
            needed -= 1
        place += 1
    return chosen


def drawn_places(total: i64, count: i64, random: Callable[[], int]) -> bytearray:
    """As `chosen_places`, by drawing places until enough are taken, or left out, whichever are fewer.

    That are at most 0.7 draws for each of the `total` places, and few when `count` is near 0 or `total`.
    """
    is_leaving_out = count * 2 > total
    chosen = bytearray(total)
    needed = total - count if is_leaving_out else count
    while needed > 0:
        drawn: i64 = random()
        place = drawn % total
        if chosen[place] == 0:
            chosen[place] = 1
            needed -= 1
    return chosen.translate(_FLIPPED) if is_leaving_out else chosen


def cursor_argument(text: bytes) -> int:
    """The cursor of a SCAN, an unsigned 64-bit integer.

    What is not canonical is read by C's strtoull in the server, which takes a minus and counts from 2**64.
    """
    number = parse_integer(text)
    digits = text[1:] if text[:1] in (b"+", b"-") else text
    if number is not None and number >= 0:
        return number
    if number is not None or not digits.isdigit() or len(digits) > 40 or int(digits) > U64_MAX:
        raise CommandError(errors.INVALID_CURSOR)
    return -int(digits) & U64_MAX if text.startswith(b"-") else int(digits)


class ScanOptions:
    """What follows the cursor of SSCAN and HSCAN."""

    def __init__(self, args: list[bytes], is_hash: bool) -> None:
        """Read the arguments from the fourth on.

        Raises:
            CommandError: syntax.
        """
        self.count = 10
        self.pattern: bytes | None = None  # None: everything matches
        self.no_values = False
        at = 3
        while at < len(args):
            word = args[at].lower()
            more = len(args) - at >= 2
            if word == b"count" and more:
                self.count = integer_argument(args[at + 1])
                if self.count < 1:
                    raise CommandError(errors.SYNTAX)
                at += 2
            elif word == b"match" and more:
                self.pattern = None if args[at + 1] == b"*" else args[at + 1]
                at += 2
            elif word == b"novalues":
                if not is_hash:
                    raise CommandError(b"ERR NOVALUES option can only be used in HSCAN")
                self.no_values = True
                at += 1
            else:
                raise CommandError(errors.SYNTAX)


def scan_entries(table: Table, cursor: int, count: int, out: list[Entry]) -> int:
    """Collect about `count` entries of a table from a cursor on; the next cursor."""
    # As many home slots as COUNT asks for entries, and some more when the table is sparse.
    steps = min(count, I64_MAX // 10) * 10
    while True:
        cursor = table.scan(cursor, out)
        steps -= 1
        if cursor == 0 or steps <= 0 or len(out) >= count:
            return cursor
