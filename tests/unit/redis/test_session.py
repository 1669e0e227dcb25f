"""Sessions: pipelines, closing, killing, silence, what the shell sees."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from appliance.redis.replies import BIG_BULK
from tests.support.redis_client import START_US, Client, make_engine


def test_pipeline_is_answered_in_order_in_one_piece() -> None:
    client = Client(make_engine())
    client.session.data_received(b"SET a 1\r\nINCR a\r\nGET a\r\nFOO\r\n" * 2, START_US)
    once = b"+OK\r\n:2\r\n$1\r\n2\r\n-ERR unknown command 'FOO', with args beginning with: \r\n"
    assert client.session.take_output() == [once * 2]
    assert client.session.take_output() == []


@given(st.lists(st.integers(0, 200), max_size=8))
def test_any_split_gives_the_same_answers(cuts: list[int]) -> None:
    stream = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nab\r\nc\r\nGET k\r\n"
    stream += b"*2\r\n$6\r\nSTRLEN\r\n$1\r\nk\r\nPING\r\n*x\r\n"
    whole = Client(make_engine()).raw(stream)
    client = Client(make_engine())
    places = sorted({cut % len(stream) for cut in cuts} | {0, len(stream)})
    answers = [client.raw(stream[start:stop]) for start, stop in itertools.pairwise(places)]
    assert b"".join(answers) == whole
    assert client.session.is_closing


def test_big_value_goes_out_by_reference() -> None:
    client = Client(make_engine())
    value = b"x" * BIG_BULK
    client.send("SET", "k", value)
    client.session.data_received(b"PING\r\nGET k\r\nGET k\r\nPING\r\n", START_US)
    output = client.session.take_output()
    assert [len(part) for part in output] == [15, BIG_BULK, 10, BIG_BULK, 9]
    assert output[1] is output[3]


def test_quit_answers_and_closes_and_drops_the_rest() -> None:
    client = Client(make_engine())
    assert client.raw(b"PING\r\nQUIT\r\nSET a 1\r\n") == b"+PONG\r\n+OK\r\n"
    assert client.session.is_closing
    assert client.raw(b"SET a 1\r\n") == b""
    assert Client(client.engine).ask("EXISTS", "a") == 0


def test_protocol_error_answers_and_closes_and_drops_the_rest() -> None:
    client = Client(make_engine())
    assert (
        client.raw(b"PING\r\n*x\r\nSET a 1\r\n")
        == b"+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"
    )
    assert client.session.is_closing
    assert Client(client.engine).ask("EXISTS", "a") == 0


def test_nothing_received_is_nothing_done() -> None:
    client = Client(make_engine())
    assert client.raw(b"") == b""
    assert not client.session.is_closing


def test_client_kill_reaches_the_other_session_once() -> None:
    engine = make_engine()
    victim = Client(engine, remote="10.77.0.1:1000")
    killer = Client(engine, remote="10.77.0.1:1001")
    assert killer.ask("CLIENT", "KILL", "ID", victim.session.id) == 1
    assert victim.session.is_closing
    assert engine.take_pending_sessions() == [victim.session]
    assert engine.take_pending_sessions() == []
    assert not killer.session.is_closing
    assert victim.raw(b"PING\r\n") == b""


def test_client_kill_of_oneself_answers_first() -> None:
    engine = make_engine()
    client = Client(engine, remote="10.77.0.1:1000")
    assert client.raw(b"CLIENT KILL 10.77.0.1:1000\r\nPING\r\n") == b"+OK\r\n"
    assert client.session.is_closing
    assert engine.take_pending_sessions() == []


@pytest.mark.parametrize(
    ("conditions", "killed"),
    [
        (["ADDR", "10.77.0.1:1"], [1]),
        (["LADDR", "10.77.0.2:6379"], [1, 2]),
        (["TYPE", "normal"], [1, 2]),
        (["TYPE", "normal", "SKIPME", "no"], [1, 2, 3]),
        (["TYPE", "pubsub"], []),
        (["USER", "default", "ADDR", "10.77.0.1:2"], [2]),
        (["MAXAGE", "5"], [1]),
        (["ID", "3"], []),
        (["ID", "3", "SKIPME", "no"], [3]),
    ],
)
def test_client_kill_filters(conditions: list[str], killed: list[int]) -> None:
    engine = make_engine()
    clients = [
        Client(engine, remote="10.77.0.1:1", now_us=START_US - 10_000_000),
        Client(engine, remote="10.77.0.1:2"),
        Client(engine, remote="10.77.0.1:3"),
    ]
    assert clients[2].ask("CLIENT", "KILL", *conditions) == len(killed)
    assert [client.session.id for client in clients if client.session.is_closing] == killed


def test_client_list_shows_every_session_and_forgets_closed_ones() -> None:
    engine = make_engine()
    one = Client(engine, remote="10.77.0.1:1", now_us=START_US - 7_000_000)
    other = Client(engine, remote="10.77.0.1:2")
    other.send("CLIENT", "SETNAME", "me")
    other.send("SELECT", "3")
    lines = str(other.ask("CLIENT", "LIST"), "ascii").splitlines()  # type: ignore[call-overload]
    fields = [dict(word.split("=", 1) for word in line.split(" ")) for line in lines]
    assert [(f["id"], f["addr"], f["age"], f["db"], f["name"]) for f in fields] == [
        ("1", "10.77.0.1:1", "7", "0", ""),
        ("2", "10.77.0.1:2", "0", "3", "me"),
    ]
    assert (fields[0]["cmd"], fields[1]["cmd"], fields[1]["resp"]) == ("NULL", "client|list", "2")
    one.session.close()
    one.session.close()
    assert len(str(other.ask("CLIENT", "LIST"), "ascii").splitlines()) == 1  # type: ignore[call-overload]


def test_client_reply_off_is_silent_until_on() -> None:
    client = Client(make_engine())
    assert client.raw(b"CLIENT REPLY OFF\r\nSET a 1\r\nFOO\r\nGET\r\n") == b""
    assert client.raw(b"CLIENT REPLY ON\r\nGET a\r\n") == b"+OK\r\n$1\r\n1\r\n"


def test_reset_puts_everything_back() -> None:
    client = Client(make_engine())
    client.raw(b"HELLO 3\r\nSELECT 4\r\nCLIENT SETNAME x\r\nCLIENT NO-TOUCH on\r\nCLIENT NO-EVICT on\r\n")
    assert client.raw(b"RESET\r\n") == b"+RESET\r\n"
    session = client.session
    assert (session.resp3, session.db.index, session.name) == (False, 0, b"")
    assert (session.is_no_touch, session.is_no_evict) == (False, False)


def test_requirepass_locks_new_sessions_only_until_they_authenticate() -> None:
    engine = make_engine(requirepass="sesame")
    client = Client(engine)
    assert client.raw(b"GET a\r\n") == b"-NOAUTH Authentication required.\r\n"
    assert client.raw(b"AUTH open\r\n").startswith(b"-WRONGPASS ")
    assert client.raw(b"AUTH sesame\r\nGET a\r\nRESET\r\nGET a\r\n") == (
        b"+OK\r\n$-1\r\n+RESET\r\n-NOAUTH Authentication required.\r\n"
    )
    assert client.raw(b"HELLO 3 AUTH default sesame\r\n").startswith(b"%7\r\n")


def test_password_taken_away_unlocks_waiting_sessions() -> None:
    engine = make_engine(requirepass="sesame")
    locked, admin = Client(engine), Client(engine)
    admin.raw(b"AUTH sesame\r\nCONFIG SET requirepass ''\r\n")
    assert locked.raw(b"PING\r\n") == b"+PONG\r\n"


def test_no_touch_leaves_the_access_time_alone() -> None:
    engine = make_engine()
    client = Client(engine)
    client.send("SET", "k", "v")
    client.now_us += 60_000_000
    client.raw(b"CLIENT NO-TOUCH on\r\nGET k\r\n")
    assert client.ask("OBJECT", "IDLETIME", "k") == 60
    client.raw(b"TOUCH k\r\n")
    assert client.ask("OBJECT", "IDLETIME", "k") == 0
    client.now_us += 60_000_000
    client.raw(b"CLIENT NO-TOUCH off\r\nGET k\r\n")
    assert client.ask("OBJECT", "IDLETIME", "k") == 0


def test_shutdown_asks_the_shell_and_closes_without_an_answer() -> None:
    engine = make_engine()
    client = Client(engine)
    assert client.raw(b"SHUTDOWN SAVE\r\n").startswith(b"-ERR ")
    before = engine.shutdown_requested
    assert client.raw(b"SHUTDOWN NOSAVE\r\nPING\r\n") == b""
    assert (before, engine.shutdown_requested) == (False, True)
    assert client.session.is_closing


def test_value_of_another_type_is_wrongtype_for_string_commands() -> None:
    """No command makes other types yet; a later one's values must be refused by these."""
    engine = make_engine()
    client = Client(engine)
    for request in (
        b"GET",
        b"STRLEN",
        b"INCR",
        b"GETDEL",
        b"GETEX",
        b"INCRBYFLOAT k",
        b"APPEND k",
        b"GETRANGE k 0",
    ):
        engine.databases[0].set_value(b"k", [b"a list"])
        name, *rest = request.split(b" ")
        line = b" ".join([name, *(rest or [b"k"])]) + (b" 1" if rest else b"")
        assert client.raw(line + b"\r\n").startswith(b"-WRONGTYPE Operation against a key"), request
    for request in (b"SETRANGE k 0 x", b"GETSET k x", b"SET k x GET"):
        assert client.raw(request + b"\r\n").startswith(b"-WRONGTYPE "), request
    assert client.raw(b"LCS k other\r\n") == b"-ERR The specified keys must contain string values\r\n"
    assert client.raw(b"MGET k\r\n") == b"*1\r\n$-1\r\n"
    assert client.raw(b"SET k x\r\nGET k\r\n") == b"+OK\r\n$1\r\nx\r\n"


def test_failed_command_changes_nothing_and_counts() -> None:
    client = Client(make_engine())
    client.raw(b"SET k abc\r\n")
    before = client.engine.dirty
    client.raw(b"INCR k\r\nGET\r\nFOO\r\n")
    assert client.engine.dirty == before
    assert client.info("errorstats") == {"errorstat_ERR": "count=3"}
    stats = client.info("commandstats")
    for name, calls, outcome in (
        ("incr", "calls=1,", ",rejected_calls=0,failed_calls=1"),
        ("get", "calls=0,", ",rejected_calls=1,failed_calls=0"),
    ):
        assert stats[f"cmdstat_{name}"].startswith(calls)
        assert stats[f"cmdstat_{name}"].endswith(outcome)
