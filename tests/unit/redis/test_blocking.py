"""Sessions that wait inside a command, with a command of the test's own: it takes a string away.

`TAKE key [key …] timeout` is to strings what BLPOP is to lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.redis.arguments import timeout_argument, timeout_ms_argument
from appliance.redis.blocking import NEVER_US
from appliance.redis.errors import CommandError
from appliance.redis.registry import private_command
from appliance.redis.replies import NULL_ARRAY
from tests.support.redis_client import START_US, Client, make_engine

if TYPE_CHECKING:
    from appliance.redis import Engine, Session

SECOND = 1_000_000


def take(session: Session, args: list[bytes]) -> object:
    timeout_us = timeout_argument(args[-1], session.clock.now_ms)
    for key in args[1:-1]:
        value = session.db.lookup_read(key)
        if isinstance(value, (bytes, int)):
            session.db.delete(key)
            session.changed(key)
            return [key, str(value).encode() if isinstance(value, int) else value]
    return session.block(args[1:-1], timeout_us, NULL_ARRAY, b"string")


def see(session: Session, args: list[bytes]) -> object:
    """SEE key timeout: wait for a change of the key, or for its end."""
    value = session.db.lookup_read(args[1])
    if value is None and session.waiting is not None:
        return b"gone"
    if value == b"open":
        return b"opened"
    return session.block([args[1]], timeout_argument(args[2], 0), NULL_ARRAY, b"", wakes_when_deleted=True)


def client(engine: Engine, remote: str = "10.77.0.1:1") -> Client:
    made = Client(engine, remote)
    made.session.add_commands([private_command("take", -3, take, []), private_command("see", 3, see, [])])
    return made


def taken(key: str, value: str) -> bytes:
    return f"*2\r\n${len(key)}\r\n{key}\r\n${len(value)}\r\n{value}\r\n".encode()


def output(one: Client) -> bytes:
    one.engine.take_pending_sessions()
    return b"".join(one.session.take_output())


def check(engine: Engine) -> None:
    engine.blocked.check_invariants(list(engine.sessions.values()))


def test_what_is_there_is_taken_without_waiting() -> None:
    engine = make_engine()
    one = client(engine)
    one.send("SET", "b", "x")
    assert one.send("TAKE", "a", "b", 0) == taken("b", "x")
    assert not one.session.is_parked
    assert engine.next_timeout_us() == NEVER_US


def test_sessions_are_served_in_the_order_of_their_coming() -> None:
    engine = make_engine()
    waiting = [client(engine) for _ in range(3)]
    for each in waiting:
        assert each.send("TAKE", "a", 0) == b""
        check(engine)
    other = client(engine)
    assert other.info("clients")["blocked_clients"] == "3"
    for number, each in enumerate(waiting):
        assert other.send("SET", "a", f"v{number}") == b"+OK\r\n"
        check(engine)
        assert engine.take_pending_sessions() == [each.session]
        assert output(each) == taken("a", f"v{number}")
    assert other.send("EXISTS", "a") == b":0\r\n"
    assert other.info("clients")["total_blocking_keys"] == "0"


def test_a_change_that_does_not_help_leaves_the_queue_as_it_is() -> None:
    engine = make_engine()
    first, second = client(engine), client(engine)
    first.send("TAKE", "a", "b", 0)
    second.send("TAKE", "b", 0)
    client(engine).send("DEL", "a", "b")
    check(engine)
    client(engine).send("SET", "b", "1")
    assert output(first) == taken("b", "1")
    assert output(second) == b""


def test_several_keys_are_left_together() -> None:
    engine = make_engine()
    one = client(engine)
    one.send("TAKE", "a", "b", "a", 0)
    check(engine)
    other = client(engine)
    other.send("SET", "b", "1")
    assert output(one) == taken("b", "1")
    other.send("SET", "a", "2")
    assert other.send("GET", "a") == b"$1\r\n2\r\n"
    assert engine.interest == 0


def test_nobody_is_served_before_the_transaction_is_over() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    one.send("TAKE", "a", 0)
    other.raw(b"MULTI\r\nSET a 1\r\nDEL a\r\nSET a 2\r\n")
    assert output(one) == b""
    assert other.raw(b"EXEC\r\n") == b"*3\r\n+OK\r\n:1\r\n+OK\r\n"
    assert output(one) == taken("a", "2")


def test_what_a_transaction_takes_back_wakes_nobody() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    one.send("TAKE", "a", 0)
    other.raw(b"MULTI\r\nSET a 1\r\nDEL a\r\nEXEC\r\n")
    assert output(one) == b""
    assert one.session.is_parked


def test_nothing_waits_inside_a_transaction() -> None:
    engine = make_engine()
    one = client(engine)
    assert one.raw(b"MULTI\r\nTAKE a 0\r\nSET a 1\r\nTAKE a 0\r\nEXEC\r\n").endswith(
        b"*3\r\n*-1\r\n+OK\r\n" + taken("a", "1")
    )
    assert not one.session.is_parked


def test_served_by_another_served_session() -> None:
    """A chain: what serving one changes makes another key ready, which is served in the same go."""

    def hand_on(session: Session, args: list[bytes]) -> object:
        reply = take(session, [args[0], args[1], b"0"])
        if isinstance(reply, list):
            session.db.set_value(args[2], reply[1])
            session.changed(args[2])
        return reply

    engine = make_engine()
    clients = []
    for source, target in ("bc", "ab", "za"):
        one = client(engine)
        one.session.add_commands([private_command("handon", 3, hand_on, [])])
        assert one.send("HANDON", source, target) == b""
        clients.append(one)
    client(engine).send("SET", "z", "1")
    check(engine)
    assert {session.id for session in engine.take_pending_sessions()} == {1, 2, 3}
    assert [output(one) for one in clients] == [taken("b", "1"), taken("a", "1"), taken("z", "1")]
    assert client(engine).send("GET", "c") == b"$1\r\n1\r\n"


def test_input_behind_a_waiting_command_is_kept_and_goes_on() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    assert one.raw(b"ECHO 1\r\nTAKE a 0\r\nECHO 2\r\nECH") == b"$1\r\n1\r\n"
    assert one.raw(b"O 3\r\nTAKE b 0\r\n") == b""
    assert one.raw(b"ECHO 4\r\n") == b""
    assert one.session.kept_bytes > 0
    other.send("SET", "a", "x")
    assert output(one) == taken("a", "x") + b"$1\r\n2\r\n$1\r\n3\r\n"
    assert one.session.is_parked
    other.send("SET", "b", "y")
    assert output(one) == taken("b", "y") + b"$1\r\n4\r\n"
    assert one.session.kept_bytes == 0
    assert one.send("ECHO", 5) == b"$1\r\n5\r\n"


def test_new_input_before_the_kept_is_executed_stays_behind_it() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    one.raw(b"TAKE a 0\r\nECHO 1\r\n")
    other.send("SET", "a", "x")
    assert one.raw(b"ECHO 2\r\n") == taken("a", "x") + b"$1\r\n1\r\n$1\r\n2\r\n"


def test_protocol_error_behind_a_waiting_command_comes_in_its_turn() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    one.raw(b"TAKE a 0\r\n*x\r\n")
    assert not one.session.is_closing
    other.send("SET", "a", "x")
    assert output(one) == taken("a", "x") + b"-ERR Protocol error: invalid multibulk length\r\n"
    assert one.session.is_closing


# ---- time


def test_time_is_up_at_the_deadline_and_not_before() -> None:
    engine = make_engine()
    one = client(engine)
    one.send("TAKE", "a", "1.5")
    assert engine.next_timeout_us() == START_US + 1_500_000
    engine.handle_timeouts(START_US + 1_499_999)
    assert output(one) == b""
    engine.handle_timeouts(START_US + 1_500_000)
    check(engine)
    assert engine.take_pending_sessions() == [one.session]
    assert output(one) == b"*-1\r\n"
    assert engine.next_timeout_us() == NEVER_US
    assert engine.interest == 0


def test_the_earliest_deadline_is_told() -> None:
    engine = make_engine()
    told: list[int] = []
    engine.on_earlier_timeout = lambda: told.append(engine.next_timeout_us() - START_US)
    for seconds in (5, 7, 3, 3):
        client(engine).send("TAKE", "a", seconds)
    assert told == [5 * SECOND, 3 * SECOND]
    engine.handle_timeouts(START_US + 3 * SECOND)
    assert engine.next_timeout_us() == START_US + 5 * SECOND
    check(engine)


def test_a_deadline_outlives_a_try_in_vain_and_no_reply() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    one.send("SEE", "a", 2)
    one.now_us = other.now_us = START_US + SECOND
    other.send("SET", "a", "x")  # the command looks and waits on
    assert engine.next_timeout_us() == START_US + 2 * SECOND
    other.send("SET", "a", "open")
    assert output(one) == b"$6\r\nopened\r\n"
    one.send("SEE", "b", 5)
    engine.handle_timeouts(START_US + 2 * SECOND)  # the stale one
    assert output(one) == b""
    assert engine.next_timeout_us() == START_US + 6 * SECOND


def test_many_that_are_served_before_their_time_leave_nothing_behind() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    for _ in range(1000):
        one.send("TAKE", "a", 1000)
        other.send("SET", "a", "x")
        output(one)
    assert len(engine.blocked._deadlines) < 200
    check(engine)


def test_deleting_or_expiring_the_key_wakes_those_who_ask_for_that() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    other.send("SET", "a", "x", "PX", 100)
    one.send("SEE", "a", 0)
    assert other.info("clients")["total_blocking_keys_on_nokey"] == "1"
    engine.cron(START_US + SECOND)
    assert output(one) == b"$4\r\ngone\r\n"
    for request in (("DEL", "a"), ("FLUSHDB",), ("FLUSHALL",), ("SWAPDB", 0, 1), ("RENAME", "a", "b")):
        other.send("SET", "a", "x")
        one.send("SEE", "a", 0)
        other.send(*request)
        check(engine)
        assert output(one) == b"$4\r\ngone\r\n", request


@pytest.mark.parametrize(
    "makes_a",
    [
        (("SET", "a", "x"),),
        (("SET", "q", "x"), ("RENAME", "q", "a")),
        (("SET", "q", "x"), ("COPY", "q", "a")),
        (("SELECT", 3), ("SET", "a", "x"), ("MOVE", "a", 0)),
        (("SELECT", 3), ("SET", "q", "x"), ("COPY", "q", "a", "DB", 0)),
        (("SELECT", 3), ("SET", "a", "x"), ("SWAPDB", 0, 3)),
        (("MSET", "q", "1", "a", "x"),),
        (("APPEND", "a", "x"),),
    ],
)
def test_every_way_for_a_key_to_appear_wakes(makes_a: tuple[tuple[str | int, ...], ...]) -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    one.send("TAKE", "a", 0)
    for request in makes_a:
        assert not other.send(*request).startswith(b"-")
    got = output(one)
    # APPEND's value is no plain text to the command of this test, which waits on.
    assert got == (b"" if makes_a[0][0] == "APPEND" and got == b"" else taken("a", "x"))
    check(engine)


# ---- ends


def test_client_unblock() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    assert other.send("CLIENT", "UNBLOCK", one.session.id) == b":0\r\n"
    one.raw(b"TAKE a 5\r\nECHO on\r\n")
    assert other.send("CLIENT", "UNBLOCK", one.session.id) == b":1\r\n"
    assert output(one) == b"*-1\r\n$2\r\non\r\n"
    one.send("TAKE", "a", 5)
    assert other.send("CLIENT", "UNBLOCK", one.session.id, "ERROR") == b":1\r\n"
    assert output(one) == b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"
    assert other.info("errorstats") == {"errorstat_UNBLOCKED": "count=1"}
    assert other.send("CLIENT", "UNBLOCK", one.session.id) == b":0\r\n"
    check(engine)


@pytest.mark.parametrize("how", ["close", "kill"])
def test_a_session_that_ends_leaves_its_queues(how: str) -> None:
    engine = make_engine()
    one, next_one, other = client(engine), client(engine), client(engine)
    one.raw(b"TAKE a b 5\r\nECHO never\r\n")
    next_one.send("TAKE", "a", 0)
    if how == "close":
        one.session.close()
    else:
        other.send("CLIENT", "KILL", "ID", one.session.id)
        one.session.close()
    check(engine)
    assert engine.blocked.timed_count == 0
    other.send("SET", "a", "x")
    assert output(one) == b""
    assert output(next_one) == taken("a", "x")
    engine.handle_timeouts(START_US + 10 * SECOND)
    assert output(one) == b""


def test_client_list_shows_who_waits() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    one.send("TAKE", "a", 0)
    lines = str(other.ask("CLIENT", "LIST"), "ascii").splitlines()  # type: ignore[call-overload]
    assert [line.split("flags=")[1].split()[0] for line in lines] == ["b", "N"]


def test_a_waiting_command_counts_when_it_is_answered() -> None:
    engine = make_engine()
    one, other = client(engine), client(engine)
    one.send("TAKE", "a", 0)
    assert one.session.commands_executed == 0
    other.send("SET", "a", "x")
    assert one.session.commands_executed == 1


def test_wait_without_replicas_waits_for_its_time() -> None:
    engine = make_engine()
    one = client(engine)
    assert one.send("WAIT", 0, 0) == b":0\r\n"
    assert one.send("WAIT", 1, 100) == b""
    assert engine.next_timeout_us() == START_US + 100_000
    engine.handle_timeouts(START_US + 100_000)
    assert output(one) == b":0\r\n"
    assert one.send("WAITAOF", 0, 1, 100) == b""
    engine.handle_timeouts(START_US + 200_000)
    assert output(one) == b"*2\r\n:0\r\n:0\r\n"
    assert one.raw(b"MULTI\r\nWAIT 1 0\r\nWAITAOF 0 1 0\r\nEXEC\r\n").endswith(
        b"*2\r\n:0\r\n*2\r\n:0\r\n:0\r\n"
    )


# ---- timeouts as arguments

NOW_MS = START_US // 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", 0),
        (b"1", 1_000_000),
        (b"+1", 1_000_000),
        (b"0.1", 100_000),
        (b"0.0001", 1000),
        (b"1e-9", 1000),
        (b"0x10", 16_000_000),
        (b"-0", 0),
        (b"-0.00001", 0),
        (b"1e15", 1 << 62),
        (b"-1", "timeout is negative"),
        (b"-0.001", 0),
        (b"-0.01", "timeout is negative"),
        (b"-inf", "timeout is negative"),
        (b"x", "timeout is not a float or out of range"),
        (b"", "timeout is not a float or out of range"),
        (b"nan", "timeout is not a float or out of range"),
        (b" 1", "timeout is not a float or out of range"),
        (b"inf", "timeout is out of range"),
        (b"1e400", "timeout is out of range"),
        (b"9223372036854775", "timeout is out of range"),
        (b"9223372036854775807", "timeout is out of range"),
        (b"9.3e15", "timeout is out of range"),
    ],
)
def test_timeout_in_seconds(text: bytes, expected: int | str) -> None:
    if isinstance(expected, int):
        assert timeout_argument(text, NOW_MS) == expected
    else:
        with pytest.raises(CommandError, match=f"^ERR {expected}$"):
            timeout_argument(text, NOW_MS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", 0),
        (b"20", 20_000),
        (b"-1", "timeout is negative"),
        (b"1.5", "timeout is not an integer or out of range"),
        (b"9999999999999999999999", "timeout is not an integer or out of range"),
        (b"9223372036854775807", "timeout is out of range"),
    ],
)
def test_timeout_in_milliseconds(text: bytes, expected: int | str) -> None:
    if isinstance(expected, int):
        assert timeout_ms_argument(text, NOW_MS) == expected
    else:
        with pytest.raises(CommandError, match=f"^ERR {expected}$"):
            timeout_ms_argument(text, NOW_MS)
