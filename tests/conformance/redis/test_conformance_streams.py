"""Commands on streams: our raw replies are redis-server's, by example and in random sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.redis_machine import (
    KEY,
    Machine,
    Step,
    command,
    maybe,
    numbers,
    one,
    options,
    some,
    words,
)
from tests.support.redis_pair import encode_request

if TYPE_CHECKING:
    from random import Random

    from tests.support.redis_machine import Draw
    from tests.support.redis_pair import Argument, Pair, RealServer

pytestmark = [pytest.mark.conformance]

LAST = "18446744073709551615-18446744073709551615"


def requests(script: str) -> list[tuple[Argument, ...]]:
    """One request per line; '' is the empty string."""
    return [
        tuple("" if word == "''" else word for word in line.split())
        for line in script.strip().splitlines()
        if line.strip()
    ]


# Every request is sent in turn and each reply compared; a case begins with no keys.
CASES = {
    "xadd ids": f"""
        XADD s 1-1 a b
        XADD s 1-1 a b
        XADD s 1-0 a b
        XADD s 0-0 a b
        XADD s 1-* a b
        XADD s 0-* a b
        XADD s 5 a b
        XADD s 5-18446744073709551615 a b
        XADD s 5-* a b
        XADD s 5-18446744073709551616 a b
        XADD s 18446744073709551616-1 a b
        XADD s -1-1 a b
        XADD s 1-1-1 a b
        XADD s +6-1 a b
        XADD s 06-1 a b
        XADD s - a b
        XADD s + a b
        XADD s -* a b
        XADD s *-1 a b
        XADD s '' a b
        XADD s x a b
        XADD s {LAST} a b
        XADD s * a b
        XADD s 18446744073709551615-* a b
        XRANGE s - +
        XINFO STREAM s
        XADD t 0-0 a b
        XADD t 0-* a b
        XADD u 0 a b
        XADD u 0-1 a b
        EXISTS s t u
    """,
    "xadd arguments": """
        XADD s * a
        XADD s 1-1 a b c
        XADD s 1-1
        XADD s
        XADD
        XADD s NOMKSTREAM 1-1 a b
        EXISTS s
        XADD s nomkstream NOMKSTREAM 1-1 a b
        XADD s 1-1 a b
        XADD s NOMKSTREAM 1-2 a b
        XADD s MAXLEN 1-3 a b
        XADD s MAXLEN x 1-3 a b
        XADD s MAXLEN -1 1-3 a b
        XADD s MAXLEN 1 MAXLEN 1 1-3 a b
        XADD s MAXLEN 1 MINID 1 1-3 a b
        XADD s MAXLEN = 1 1-3 a b
        XADD s MAXLEN ~ 1 1-4 a b
        XADD s MAXLEN ~ 1 LIMIT 1 1-5 a b
        XADD s MAXLEN 1 LIMIT 1 1-6 a b
        XADD s MAXLEN 1 LIMIT 0 1-6 a b
        XADD s LIMIT 5 1-6 a b
        XADD s LIMIT 0 1-6 a b
        XADD s LIMIT -1 1-6 a b
        XADD s LIMIT x 1-6 a b
        XADD s MINID x 1-6 a b
        XADD s MINID - 1-6 a b
        XADD s MINID 1-4 1-6 a b
        XADD s KEEPREF 1-7 a b
        XADD s DELREF 1-8 a b
        XADD s ACKED 1-9 a b
        XADD s KEEPREF ACKED 2-1 a b
        XADD s MAXLEN 2 DELREF 2-2 a b
        XADD s MAXLEN 0 2-3 a b
        XLEN s
        XINFO STREAM s
        SET str x
        XADD str 1-1 a b
        XADD str * a b
        XADD str NOMKSTREAM 1-1 a b
        XADD str 0-0 a b
    """,
    "ranges": f"""
        XRANGE s - +
        XREVRANGE s + -
        XADD s 1-1 a b
        XADD s 1-2 a b c d
        XADD s 2-1 e f
        XADD s 3-1 a b
        XRANGE s - +
        XREVRANGE s + -
        XRANGE s 1 1
        XRANGE s 1 2
        XRANGE s (1-1 (3-1
        XREVRANGE s (3-1 (1-1
        XRANGE s (1 (2
        XRANGE s + -
        XRANGE s 2-1 1-1
        XRANGE s - + COUNT 2
        XREVRANGE s + - COUNT 2
        XRANGE s - + COUNT 0
        XRANGE s - + COUNT -5
        XRANGE s - + COUNT
        XRANGE s - + COUNT x
        XRANGE s - + COUNT 1 COUNT 2
        XRANGE s - + LIMIT 1
        XRANGE s - + COUNT 9223372036854775807
        XRANGE s (- +
        XRANGE s - (+
        XRANGE s - (0-0
        XRANGE s ({LAST} +
        XRANGE s ( +
        XRANGE s x +
        XRANGE s - x
        XRANGE nokey x +
        XRANGE nokey - + COUNT 0
        XREVRANGE s - +
        XREVRANGE s 2 1
        XREVRANGE s x -
        XLEN s
        XLEN nokey
        SET str x
        XRANGE str - +
        XRANGE str - + COUNT 0
        XREVRANGE str + -
        XLEN str
    """,
    "xread": """
        XADD s 1-1 a b
        XADD s 1-2 a b
        XADD t 1-1 a b
        XREAD STREAMS s 0
        XREAD STREAMS s t 0 0
        XREAD STREAMS s t 1-2 1-1
        XREAD STREAMS s t 1-1 1-1
        XREAD COUNT 1 STREAMS s 0
        XREAD COUNT 0 STREAMS s 0
        XREAD COUNT -1 STREAMS s 0
        XREAD STREAMS s $
        XREAD STREAMS s +
        XREAD STREAMS s nokey + +
        XREAD STREAMS nokey $
        XREAD STREAMS s 18446744073709551615-18446744073709551615
        XREAD STREAMS s >
        XREAD STREAMS s -
        XREAD STREAMS s (1
        XREAD STREAMS s
        XREAD STREAMS s t 0
        XREAD COUNT 1
        XREAD COUNT x STREAMS s 0
        XREAD FOO STREAMS s 0
        XREAD GROUP g c STREAMS s 0
        XREAD NOACK STREAMS s 0
        XREAD BLOCK -1 STREAMS s $
        XREAD BLOCK x STREAMS s $
        XREAD BLOCK 1.5 STREAMS s $
        XREAD BLOCK 9223372036854775807 STREAMS s $
        XREAD BLOCK 0 COUNT 1 STREAMS s 0
        XDEL s 1-2
        XREAD STREAMS s +
        XREAD STREAMS s 1-1
        SET str x
        XREAD STREAMS str 0
        XREAD STREAMS s str 0 0
        XREAD STREAMS s str x 0
    """,
    "groups": """
        XGROUP CREATE nokey g 0
        XGROUP CREATE nokey g x MKSTREAM
        EXISTS nokey
        XGROUP CREATE s g 0 MKSTREAM
        XGROUP CREATE s g 0
        XGROUP CREATE s g x
        XGROUP CREATE s h $ ENTRIESREAD 5
        XGROUP CREATE s i $ ENTRIESREAD -2
        XGROUP CREATE s i $ ENTRIESREAD x
        XGROUP CREATE s i $ ENTRIESREAD
        XGROUP CREATE s i -
        XGROUP CREATE s i 5 MKSTREAM ENTRIESREAD 5
        XGROUP CREATE s j 5 MKSTREAM ENTRIESREAD 5 MKSTREAM
        XGROUP CREATE s i 5 FOO
        XGROUP CREATE s
        XGROUP FOO s g
        XGROUP
        XINFO GROUPS s
        XADD s 1-1 a b
        XADD s 1-2 a b
        XADD s 1-3 a b
        XINFO GROUPS s
        XREADGROUP GROUP g c STREAMS s >
        XREADGROUP GROUP g c STREAMS s >
        XREADGROUP GROUP g c STREAMS s 0
        XREADGROUP GROUP g c COUNT 1 STREAMS s 0
        XREADGROUP GROUP g d STREAMS s 0
        XREADGROUP GROUP nog c STREAMS s >
        XREADGROUP GROUP g c STREAMS nokey >
        XREADGROUP GROUP g c STREAMS s $
        XREADGROUP GROUP g c STREAMS s +
        XREADGROUP GROUP g c STREAMS s x
        XREADGROUP GROUP g c STREAMS s
        XREADGROUP STREAMS s > s >
        XREADGROUP COUNT 1 NOACK STREAMS s >
        XREADGROUP GROUP g c CLAIM 0 STREAMS s >
        XREADGROUP GROUP g c STREAMS s 18446744073709551615-18446744073709551615
        XGROUP SETID s g 1-1
        XGROUP SETID s g + ENTRIESREAD 1
        XGROUP SETID s g -
        XGROUP SETID s g $ ENTRIESREAD 2
        XGROUP SETID s g x
        XGROUP SETID s nog 0
        XGROUP SETID nokey g 0
        XGROUP SETID s g 0 ENTRIESREAD
        XINFO GROUPS s
        XGROUP CREATECONSUMER s g e
        XGROUP CREATECONSUMER s g e
        XGROUP CREATECONSUMER s nog e
        XGROUP CREATECONSUMER nokey g e
        XGROUP DELCONSUMER s g c
        XGROUP DELCONSUMER s g c
        XGROUP DELCONSUMER s nog c
        XGROUP DELCONSUMER nokey g c
        XPENDING s g
        XGROUP DESTROY s g
        XGROUP DESTROY s g
        XGROUP DESTROY nokey g
        XGROUP HELP x
        SET str x
        XGROUP CREATE str g 0
        XGROUP CREATE str g 0 MKSTREAM
        XGROUP SETID str g 0
        XGROUP DESTROY str g
        XGROUP CREATECONSUMER str g c
        XGROUP DELCONSUMER str g c
        XREADGROUP GROUP g c STREAMS str >
    """,
    "groups that come and go between questions for what is referenced": """
        XGROUP CREATE s g 0 MKSTREAM
        XADD s 1 f v
        XADD s 2 f v
        XDELEX s ACKED IDS 1 1
        XGROUP CREATE s a 1
        XGROUP DESTROY s g
        XDELEX s ACKED IDS 2 1 2
        XLEN s
        DEL s
        XGROUP CREATE s g 0 MKSTREAM
        XADD s 1 f v
        XADD s 2 f v
        XGROUP CREATE s a 1
        XDELEX s ACKED IDS 1 1
        XGROUP DESTROY s g
        XDELEX s ACKED IDS 2 1 2
        XLEN s
        DEL s
        XGROUP CREATE s g 0 MKSTREAM
        XADD s 1 f v
        XADD s 2 f v
        XTRIM s MAXLEN 0 ACKED
        XGROUP CREATE s a 2
        XGROUP DESTROY s g
        XTRIM s MAXLEN 0 ACKED
        XDELEX s ACKED IDS 2 1 2
    """,
    "acknowledging and deleting": """
        XADD s 1-1 a b
        XADD s 1-2 a b
        XADD s 1-3 a b
        XADD s 1-4 a b
        XGROUP CREATE s g 0
        XGROUP CREATE s h 0
        XREADGROUP GROUP g c COUNT 3 STREAMS s >
        XACK s g 1-1
        XACK s g 1-1 1-2 9-9
        XACK s g x
        XACK s nog x
        XACK nokey g x
        XACK s g
        XDELEX s ACKED IDS 2 1-1 1-4
        XDELEX s KEEPREF IDS 1 1-1
        XDELEX s DELREF IDS 3 1-3 1-3 9-9
        XPENDING s g
        XDELEX s IDS 2 1-2
        XDELEX s IDS 1 1-2 1-3
        XDELEX s IDS 0 1-2
        XDELEX s IDS -1 1-2
        XDELEX s IDS x 1-2
        XDELEX s IDS 99999999999999 1-2
        XDELEX s FOO IDS 1 1-2
        XDELEX s KEEPREF DELREF IDS 1 1-2
        XDELEX s IDS 1 1-2 ACKED
        XDELEX s IDS 1 x
        XDELEX s KEEPREF KEEPREF KEEPREF
        XDELEX s 1-2 1-3 1-4
        XDELEX nokey IDS 2 1-1 x
        XDELEX nokey IDS 3 1-1
        XACKDEL s g IDS 1 1-2
        XACKDEL s g KEEPREF IDS 1 1-2
        XACKDEL nokey g IDS 2 1-1 x
        XACKDEL s nog IDS 2 1-1 x
        XACKDEL s g IDS 1 x
        XACKDEL s g FOO IDS 1 1-2
        XREADGROUP GROUP g c STREAMS s >
        XREADGROUP GROUP h c STREAMS s >
        XACKDEL s g ACKED IDS 2 1-2 1-4
        XACKDEL s h ACKED IDS 2 1-2 1-4
        XINFO STREAM s FULL
        XADD s 2-1 a b
        XADD s 2-2 a b
        XADD s 2-3 a b
        XDEL s 2-1 2-1 9-9
        XDEL s x
        XDEL s 2-2 x
        XDEL nokey x
        XINFO STREAM s
        XDEL s 2-2 2-3
        XINFO STREAM s
        SET str x
        XACK str g 1-1
        XDEL str 1-1
        XDELEX str IDS 1 x
        XACKDEL str g FOO 1 x
    """,
    "trimming": """
        XTRIM s MAXLEN 0
        XADD s 1-1 a b
        XADD s 1-2 a b
        XADD s 1-3 a b
        XADD s 1-4 a b
        XADD s 2-1 a b
        XTRIM s MAXLEN 4
        XTRIM s MAXLEN = 4
        XTRIM s MAXLEN ~ 2
        XTRIM s MINID 1-3
        XTRIM s MINID ~ 2-1
        XTRIM s MINID x
        XTRIM s MAXLEN x
        XTRIM s MAXLEN -1
        XTRIM s MAXLEN
        XTRIM s FOO 1
        XTRIM s LIMIT 5
        XTRIM s LIMIT 0
        XTRIM s MAXLEN 1 LIMIT 5
        XTRIM s MAXLEN ~ 1 LIMIT -1
        XTRIM s MAXLEN ~ 1 LIMIT x
        XTRIM s MAXLEN 1 FOO
        XTRIM s MAXLEN 1 MAXLEN 1
        XTRIM s MAXLEN 1 KEEPREF DELREF
        XTRIM s ACKED MAXLEN 2
        XGROUP CREATE s g 0
        XREADGROUP GROUP g c COUNT 1 STREAMS s >
        XTRIM s MAXLEN 0 ACKED
        XINFO STREAM s FULL
        XTRIM s MAXLEN 0 DELREF
        XINFO STREAM s FULL
        XTRIM nokey MAXLEN x
        SET str x
        XTRIM str MAXLEN 0
        XTRIM str MAXLEN x
    """,
    "claiming": """
        XADD s 1-1 a b
        XADD s 1-2 a b
        XADD s 1-3 a b
        XADD s 1-4 a b
        XGROUP CREATE s g 0
        XREADGROUP GROUP g c COUNT 3 STREAMS s >
        XCLAIM s g d 0 1-1
        XCLAIM s g d 0 1-1 JUSTID
        XCLAIM s g d 0 1-4
        XCLAIM s g d 0 1-4 FORCE
        XCLAIM s g d 0 9-9 FORCE
        XCLAIM s g d 10000000 1-2
        XCLAIM s g d -5 1-2 RETRYCOUNT 7
        XCLAIM s g d 0 1-2 RETRYCOUNT x
        XCLAIM s g d 0 1-2 RETRYCOUNT -1
        XCLAIM s g d 0 1-2 IDLE x
        XCLAIM s g d 0 1-2 TIME x
        XCLAIM s g d 0 1-2 LASTID x
        XCLAIM s g d 0 1-2 LASTID 5-5
        XCLAIM s g d 0 1-2 FOO
        XCLAIM s g d 0 1-2 IDLE
        XCLAIM s g d 0 FOO
        XCLAIM s g d x 1-2
        XCLAIM s nog d 0 1-2
        XCLAIM nokey g d x 1-2
        XINFO GROUPS s
        XDEL s 1-2
        XCLAIM s g e 0 1-2 1-3
        XAUTOCLAIM s g f 0 - COUNT 1
        XAUTOCLAIM s g f 0 (1-1 COUNT 2 JUSTID
        XAUTOCLAIM s g f 0 0
        XAUTOCLAIM s g f 10000000 0
        XDEL s 1-3
        XAUTOCLAIM s g f 0 0 JUSTID
        XAUTOCLAIM s g f 0 0 COUNT 0
        XAUTOCLAIM s g f 0 0 COUNT x
        XAUTOCLAIM s g f 0 0 COUNT 576460752303423488
        XAUTOCLAIM s g f 0 0 COUNT
        XAUTOCLAIM s g f 0 0 FOO
        XAUTOCLAIM s g f x 0
        XAUTOCLAIM s g f 0 x
        XAUTOCLAIM s g f 0 +
        XAUTOCLAIM s nog f 0 0
        XAUTOCLAIM nokey g f 0 0
        XPENDING s g
        SET str x
        XCLAIM str g d x 1-1
        XAUTOCLAIM str g d 0 0
        XAUTOCLAIM str g d x 0
    """,
    "pending": """
        XADD s 1-1 a b
        XADD s 1-2 a b
        XADD s 1-3 a b
        XGROUP CREATE s g 0
        XPENDING s g
        XREADGROUP GROUP g d COUNT 1 STREAMS s >
        XREADGROUP GROUP g c STREAMS s >
        XPENDING s g
        XPENDING s g - + 0
        XPENDING s g - + -1
        XPENDING s g - + 10 nobody
        XPENDING s g IDLE 10000000 - + 10
        XPENDING s g IDLE x - + 10
        XPENDING s g IDLE 0 - +
        XPENDING s g - +
        XPENDING s g x + 10
        XPENDING s g - x 10
        XPENDING s g - + x
        XPENDING s g (18446744073709551615-18446744073709551615 + 1
        XPENDING s g - (0 1
        XPENDING s nog
        XPENDING nokey g
        XPENDING nokey g x + 10
        SET str x
        XPENDING str g
    """,
    "xinfo and xsetid": f"""
        XINFO STREAM nokey
        XADD s 1-1 a b
        XADD s 1-2 a b
        XINFO STREAM s
        XINFO STREAM s FULL
        XINFO STREAM s FULL COUNT 1
        XINFO STREAM s FULL COUNT 0
        XINFO STREAM s FULL COUNT -1
        XINFO STREAM s FULL COUNT x
        XINFO STREAM s FULL COUNT
        XINFO STREAM s FOO
        XINFO STREAM s FULL FOO 1
        XINFO GROUPS s
        XINFO GROUPS nokey
        XINFO CONSUMERS s g
        XINFO CONSUMERS nokey g
        XINFO FOO s
        XINFO
        XSETID s 1-1
        XSETID s 2-1
        XSETID s 2-1 ENTRIESADDED 1
        XSETID s 2-1 ENTRIESADDED 5 MAXDELETEDID 1-5
        XSETID s 2-1 MAXDELETEDID 3-1
        XSETID s 1-4
        XSETID s 2-1 ENTRIESADDED -1
        XSETID s 2-1 ENTRIESADDED x
        XSETID s 2-1 ENTRIESADDED
        XSETID s 2-1 FOO
        XSETID s x
        XSETID nokey 1-1
        XSETID nokey x
        XINFO STREAM s
        XSETID s {LAST}
        XADD s * a b
        OBJECT ENCODING s
        TYPE s
        COPY s t
        XINFO STREAM t FULL
        SET str x
        XSETID str 1-1
        XINFO STREAM str
        XINFO GROUPS str
        XINFO CONSUMERS str g
    """,
}


def without_times(value: Any) -> Any:
    """A reply without what depends on the clock; -1, which says "never", stays."""
    if isinstance(value, dict):
        return {kind: without_times(items) for kind, items in value.items()}
    if not isinstance(value, list):
        return "time" if isinstance(value, int) and 10**12 < value < 2**60 else value
    kept: list[Any] = []
    for at, item in enumerate(value):
        is_time = at > 0 and value[at - 1] in (b"idle", b"inactive", b"seen-time", b"active-time")
        kept.append("time" if is_time and item != -1 else without_times(item))
    return kept


def but_for_times(step: Step) -> bool:
    ours, theirs = step.values()
    if step.request[0].lower() == b"xpending" and isinstance(ours, list) and isinstance(theirs, list):
        for row in (*ours, *theirs):
            if isinstance(row, list) and len(row) == 4:
                row[2] = "idle"
    return bool(without_times(ours) == without_times(theirs))


@pytest.mark.parametrize("name", CASES)
def test_example_is_answered_as_the_server_does(pair: Pair, name: str) -> None:
    for request in requests(CASES[name]):
        ours, theirs = pair.both(*request)
        if ours != theirs:
            words_sent = tuple(str(word).encode() for word in request)
            step = Step(words_sent, ours, theirs, pair.ours.session)
            assert but_for_times(step), f"{request!r}: ours {ours!r}, redis-server {theirs!r}"


@pytest.mark.parametrize(
    ("entries", "size"), [("100", "4096"), ("0", "0"), ("3", "0"), ("0", "200"), ("1", "1")]
)
def test_nodes_are_full_when_the_servers_are(pair: Pair, entries: str, size: str) -> None:
    """Node by node: integers of every width, strings around the lengths where a header grows."""
    configure(pair, {"stream-node-max-entries": entries, "stream-node-max-bytes": size})
    values = [
        str(sign * (2**bits + extra)) for bits in range(0, 63, 3) for extra in (-1, 0) for sign in (1, -1)
    ]
    values += [
        "x" * length for length in (0, 1, 63, 64, 120, 125, 126, 127, 128, 200, 4090, 4095, 4096, 17000)
    ]
    try:
        for at, value in enumerate(values):
            fields = ("f", value) if at % 7 else ("f", value, "g" * (at % 50), "12")
            pair.same("XADD", "s", f"{at * at + 1}-{at % 3}", *fields)
            if at % 10 == 0:
                pair.same("XINFO", "STREAM", "s")
        pair.same("DUMP", "s")
        for at in range(0, len(values), 2):
            pair.same("XDEL", "s", f"{at * at + 1}-{at % 3}")
        pair.same("XINFO", "STREAM", "s")
        pair.same("DUMP", "s")
        for count in (25, 24, 20, 12, 3, 1):
            pair.same("XTRIM", "s", "MAXLEN", "~", count)
            pair.same("XINFO", "STREAM", "s")
            pair.same("XTRIM", "s", "MAXLEN", count + 1)
            pair.same("DUMP", "s")
    finally:
        configure(pair, {"stream-node-max-entries": "100", "stream-node-max-bytes": "4096"})


def configure(pair: Pair, parameters: dict[str, str]) -> None:
    """Set sizes of nodes on both sides."""
    for name, value in parameters.items():
        pair._read_theirs(encode_request(("CONFIG", "SET", name, value)), 1)
        setattr(pair.engine.limits, name.replace("-", "_"), int(value))


def test_changes_count_as_the_server_counts_them(pair: Pair) -> None:
    def dirty() -> int:
        raw = pair._read_theirs(encode_request(("INFO", "persistence")), 1)
        return int(raw.split(b"rdb_changes_since_last_save:")[1].split(b"\r\n")[0])

    for request in requests(
        """
        XADD s 1-1 a b
        XADD s MAXLEN 1 1-2 a b
        XADD s 1-3 a b
        XADD s 1-4 a b
        XADD s 1-5 a b
        XGROUP CREATE s g 0
        XGROUP CREATECONSUMER s g c
        XGROUP CREATECONSUMER s g c
        XREADGROUP GROUP g d STREAMS s >
        XREADGROUP GROUP g d STREAMS s >
        XREADGROUP GROUP g d STREAMS s 0
        XREADGROUP GROUP g e STREAMS s 0
        XCLAIM s g f 0 1-2
        XCLAIM s g f 0 1-9 LASTID 5-5
        XAUTOCLAIM s g c 0 0
        XACK s g 1-2 1-2
        XACKDEL s g ACKED IDS 2 1-3 1-9
        XACKDEL s g IDS 1 1-3
        XDELEX s DELREF IDS 2 1-4 1-4
        XDEL s 1-2 1-3 1-3
        XTRIM s MAXLEN 0
        XTRIM s MAXLEN 0
        XSETID s 9-9
        XGROUP SETID s g 0
        XGROUP DELCONSUMER s g c
        XGROUP DELCONSUMER s g c
        XGROUP DESTROY s g
        XGROUP DESTROY s g
        """
    ):
        before_ours, before_theirs = pair.engine.dirty, dirty()
        pair.both(*request)
        assert pair.engine.dirty - before_ours == dirty() - before_theirs, request


def ascending_ids() -> Draw:
    """IDs that mostly grow, as XADD wants them, and that others can guess."""
    counter = [0]

    def draw(random: Random) -> list[bytes]:
        counter[0] += 1
        at = counter[0] % 400  # about one example; then it begins anew
        if random.random() < 0.1:
            return [b"%d-*" % (at // 4)]
        return [b"%d-%d" % (at // 4, at % 4 + 1)]

    return draw


NEW_ID = one(ascending_ids(), ascending_ids(), ascending_ids(), words("3-3", "1", "0-0", "x"))
ID = one(
    *[lambda random: [b"%d-%d" % (random.randint(0, 90), random.randint(0, 4))]] * 6,
    numbers(0, 90),
    words(
        "0", "0-0", "99-1", "18446744073709551615-18446744073709551615", "1-x", "01-1", "18446744073709551616"
    ),
)
BOUND = one(words("-"), words("+"), ID, lambda random: [b"(" + ID(random)[0]])
GROUP = words("g", "g", "h", "none")
CONSUMER = words("c", "d", "e")
REFERENCES = maybe(one("KEEPREF", "DELREF", "ACKED"), chance=0.3)
LIMIT = maybe("COUNT", words(1, 2, 5, 100, 0, -1))
ELEMENT = one(
    words("a", "b", "", "12", "-5", "300", "70000", "-9999999", "9223372036854775807", "007"),
    words("x" * 63, "x" * 64, "y" * 130, "z" * 300),
)
FIELDS = one(["f", ELEMENT], ["f", ELEMENT], ["f", ELEMENT, "g", ELEMENT], some([ELEMENT, ELEMENT]))
TRIMMED = [
    REFERENCES,
    one(
        ["MAXLEN", maybe(one("~", "=")), numbers(0, 60)],
        ["MINID", maybe(one("~", "=")), ID],
    ),
    maybe("LIMIT", words(0, 1, 10, 100), chance=0.2),
]


def counted_ids(random: Random) -> list[bytes]:
    ids = some(ID)(random)
    return [b"IDS", b"%d" % len(ids), *ids]


STREAMS = [
    # Nothing nasty in these: `*` would be an ID of the clock.
    command("xadd", KEY, NEW_ID, FIELDS, weight=10, mutate=False),
    command("xadd", KEY, TRIMMED, NEW_ID, FIELDS, weight=0.5, mutate=False),
    command("xadd", KEY, "NOMKSTREAM", NEW_ID, FIELDS, weight=0.3, mutate=False),
    command("xlen", KEY),
    command("xrange", KEY, BOUND, BOUND, LIMIT),
    command("xrevrange", KEY, BOUND, BOUND, LIMIT),
    command("xread", LIMIT, "STREAMS", KEY, one(ID, "$", "+"), mutate=False),
    command("xread", LIMIT, "STREAMS", KEY, KEY, ID, ID, mutate=False),
    command("xgroup", "CREATE", KEY, GROUP, one("0", "$", ID), maybe("MKSTREAM"), weight=2),
    command("xgroup", "SETID", KEY, GROUP, one("0", "$", ID), maybe("ENTRIESREAD", words(0, 3, -1, 1000))),
    command("xgroup", "DESTROY", KEY, GROUP, weight=0.2),
    command("xgroup", "CREATECONSUMER", KEY, GROUP, CONSUMER),
    command("xgroup", "DELCONSUMER", KEY, GROUP, CONSUMER, weight=0.3),
    command(
        "xreadgroup",
        "GROUP",
        GROUP,
        CONSUMER,
        LIMIT,
        maybe("NOACK", chance=0.1),
        "STREAMS",
        KEY,
        words(">", ">", 0),
        weight=4,
        mutate=False,
    ),
    command("xack", KEY, GROUP, some(ID, 1, 10)),
    command("xackdel", KEY, GROUP, REFERENCES, counted_ids),
    command("xdelex", KEY, REFERENCES, counted_ids),
    command("xdel", KEY, some(ID, 1, 6)),
    command("xtrim", KEY, TRIMMED, weight=0.3),
    command("xpending", KEY, GROUP, compare=but_for_times),
    command(
        "xpending",
        KEY,
        GROUP,
        maybe("IDLE", words(0, 10**9), chance=0.2),
        BOUND,
        BOUND,
        words(1, 5, 100, 0, -1),
        maybe(CONSUMER, chance=0.3),
        compare=but_for_times,
    ),
    command(
        "xclaim",
        KEY,
        GROUP,
        CONSUMER,
        words(0, 0, 0, 10**9),
        some(ID, 1, 6),
        options("FORCE", "JUSTID", ["RETRYCOUNT", words(0, 3)], ["LASTID", ID], ["IDLE", words(0, 10**10)]),
        weight=2,
    ),
    command("xautoclaim", KEY, GROUP, CONSUMER, words(0, 0, 10**9), BOUND, LIMIT, maybe("JUSTID"), weight=2),
    command("xinfo", "STREAM", KEY, maybe("FULL", LIMIT), compare=but_for_times),
    command("xinfo", "GROUPS", KEY, weight=2),
    command("xinfo", "CONSUMERS", KEY, GROUP, compare=but_for_times),
    command(
        "xsetid",
        KEY,
        one(ID, "200-1"),
        options(["ENTRIESADDED", words(0, 5, 500)], ["MAXDELETEDID", ID]),
        weight=0.2,
    ),
    command("copy", KEY, KEY, maybe("REPLACE"), weight=0.3),
    command("del", KEY, weight=0.1),
    command("set", KEY, "x", weight=0.05),
]
# When nodes are full: by entries, by bytes, or hardly ever.
NODES = [(100, 4096), (1, 0), (4, 0), (0, 150), (10, 400)]
MACHINE = Machine(
    "streams",
    STREAMS,
    opening=[command("xadd", KEY, "0-1", "f", "v")],
    configs=[
        {"stream-node-max-entries": f"{entries}", "stream-node-max-bytes": f"{size}"}
        for entries, size in NODES
    ],
)


@pytest.mark.machine
def test_any_sequence_is_answered_as_the_server_does(real_server: RealServer) -> None:
    MACHINE.run(real_server)
