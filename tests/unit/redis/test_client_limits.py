"""Limits of single clients, as the engine sees them: who is closed, when, and what counts it."""

from __future__ import annotations

import pytest

from appliance.redis.client_limits import SESSION_BYTES
from tests.support.redis_client import START_US, Client, make_engine

SECOND = 1_000_000


def test_an_idle_client_is_closed_after_its_timeout_and_not_before() -> None:
    engine = make_engine()
    closed: list[str] = []
    engine.client_limits.on_close = lambda session, reason: closed.append(f"{session.remote} {reason}")
    idle = Client(engine, "10.77.0.1:1")
    assert idle.raw(b"CONFIG SET timeout 30\r\n") == b"+OK\r\n"
    engine.cron(START_US + 30 * SECOND)
    assert not idle.session.is_closing
    engine.cron(START_US + 30 * SECOND + 1)
    assert idle.session.is_closing
    assert engine.take_pending_sessions() == [idle.session]
    assert closed == ["10.77.0.1:1 closing an idle client"]


def test_clients_that_wait_or_listen_or_hold_the_control_socket_do_not_idle() -> None:
    engine = make_engine()
    waiting, listening, watching, busy = Client(engine), Client(engine), Client(engine), Client(engine)
    control = engine.create_session(remote="c", local="c", now_us=START_US, is_privileged=True)
    busy.raw(b"CONFIG SET timeout 1\r\n")
    waiting.raw(b"BLPOP l 0\r\n")
    listening.raw(b"SUBSCRIBE c\r\n")
    watching.raw(b"MONITOR\r\n")
    engine.cron(START_US + 100 * SECOND)
    spared = [waiting.session, listening.session, watching.session, control]
    assert [session.is_closing for session in spared] == [False] * 4
    assert busy.session.is_closing


def test_every_client_has_its_turn_within_a_second() -> None:
    engine = make_engine()
    clients = [Client(engine, f"10.77.0.1:{port}") for port in range(1000)]
    clients[0].raw(b"CONFIG SET timeout 5\r\n")
    for tick in range(10):
        engine.cron(START_US + 6 * SECOND + tick * 100_000)
        assert sum(client.session.is_closing for client in clients) == (tick + 1) * 100


def test_an_unfinished_request_above_the_limit_ends_the_client() -> None:
    engine = make_engine()
    client = Client(engine)
    client.raw(b"CONFIG SET client-query-buffer-limit 1mb\r\n")
    client.raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3000000\r\n")
    piece = bytes(64 * 1024)
    for _ in range(15):
        client.raw(piece)
        assert not client.session.is_closing
    client.raw(piece)
    client.raw(piece)
    assert client.session.is_closing
    assert engine.client_limits.query_buffer_disconnections == 1


def test_a_slow_unfinished_request_is_ended_at_the_limit() -> None:
    engine = make_engine()
    client = Client(engine)
    client.raw(b"CONFIG SET client-query-buffer-limit 1mb\r\n")
    client.raw(b"*2\r\n$4\r\nECHO\r\n$3000000\r\n")
    for _ in range(1048):
        client.raw(bytes(1000))
    assert not client.session.is_closing
    client.raw(bytes(1000))
    assert client.session.is_closing


def test_what_waits_behind_a_command_is_found_in_turn() -> None:
    engine = make_engine()
    client = Client(engine)
    client.raw(b"CONFIG SET client-query-buffer-limit 1mb\r\n")
    client.raw(b"BLPOP l 0\r\n")
    for _ in range(1100):
        client.raw(bytes(1000))
    assert not client.session.is_closing
    engine.cron(START_US)
    assert client.session.is_closing


def test_what_multi_has_queued_counts_as_unfinished() -> None:
    engine = make_engine()
    client = Client(engine)
    client.raw(b"CONFIG SET client-query-buffer-limit 1mb\r\nMULTI\r\n")
    assert client.send("SET", "a", bytes(900_000)) == b"+QUEUED\r\n"
    assert client.session.query_bytes() == 900_004
    client.send("SET", "a", bytes(900_000))
    assert client.session.is_closing
    other = Client(engine)
    other.raw(b"MULTI\r\n")
    other.send("SET", "a", bytes(900_000))
    other.raw(b"EXEC\r\n")
    assert other.session.query_bytes() == 0


def test_a_stranger_gets_no_room_for_large_requests() -> None:
    engine = make_engine(requirepass="sesame")
    client = Client(engine)
    # The parser itself refuses what a stranger may not send in one piece; many pieces are the limit's business.
    client.raw(b"*10\r\n")
    for _ in range(9):
        client.raw(b"$16384\r\n" + bytes(16384) + b"\r\n")
    assert not client.session.is_closing


@pytest.mark.parametrize("limits", ["pubsub 1mb 0 0", "pubsub 0 1mb 0"])
def test_messages_not_taken_end_a_subscriber_above_its_limit(limits: str) -> None:
    engine = make_engine()
    listener, speaker = Client(engine), Client(engine)
    speaker.send("CONFIG", "SET", "client-output-buffer-limit", limits)
    listener.raw(b"SUBSCRIBE c\r\n")
    for _ in range(10):
        speaker.send("PUBLISH", "c", bytes(100_000))
    engine.cron(START_US)
    assert not listener.session.is_closing
    speaker.send("PUBLISH", "c", bytes(100_000))
    engine.cron(START_US + 1)
    engine.cron(START_US + 2)
    assert listener.session.is_closing
    assert listener.session.take_output() == []
    assert speaker.send("PUBLISH", "c", "x") == b":0\r\n"
    assert engine.client_limits.output_buffer_disconnections == 1


def test_the_soft_limit_counts_time_above_it_without_a_break() -> None:
    engine = make_engine()
    client = Client(engine)
    client.raw(b"CONFIG SET client-output-buffer-limit 'normal 0 1mb 10'\r\n")
    limits = engine.client_limits
    client.session.unsent_bytes = 1 << 20
    limits.check_output(client.session, START_US)
    client.session.unsent_bytes = 1000
    limits.check_output(client.session, START_US + 9 * SECOND)
    client.session.unsent_bytes = 2 << 20
    limits.check_output(client.session, START_US + 10 * SECOND)
    limits.check_output(client.session, START_US + 20 * SECOND)
    assert not client.session.is_closing
    limits.check_output(client.session, START_US + 20 * SECOND + 1)
    assert client.session.is_closing


def test_the_biggest_clients_go_when_all_together_are_too_much() -> None:
    engine = make_engine()
    clients = [Client(engine, f"10.77.0.1:{port}") for port in range(6)]
    spared = clients[5]
    spared.raw(b"CLIENT NO-EVICT on\r\n")
    for count, client in enumerate(clients):
        client.session.unsent_bytes = count * 100_000
    clients[0].send("CONFIG", "SET", "maxmemory-clients", 1_200_000 + 6 * SESSION_BYTES)
    engine.cron(START_US)
    assert [client.session.is_closing for client in clients] == [False, False, False, False, True, False]
    clients[0].send("CONFIG", "SET", "maxmemory", "200mb", "maxmemory-clients", "1%")
    engine.cron(START_US)
    assert [client.session.is_closing for client in clients] == [False, False, False, False, True, False]
    clients[0].send("CONFIG", "SET", "maxmemory", "50mb")
    engine.cron(START_US)
    assert [client.session.is_closing for client in clients] == [False, True, True, True, True, False]
    assert engine.client_limits.evicted_clients == 4
    clients[0].raw(b"CONFIG RESETSTAT\r\n")
    assert engine.client_limits.evicted_clients == 0


def test_hz_says_how_often_housekeeping_is_due() -> None:
    engine = make_engine()
    assert engine.cron_period_us() == 100_000
    Client(engine).raw(b"CONFIG SET hz 100\r\n")
    assert engine.cron_period_us() == 10_000


def test_clients_go_as_soon_as_they_are_too_much() -> None:
    engine = make_engine()
    admin, big, other = Client(engine), Client(engine), Client(engine)
    admin.send("CONFIG", "SET", "maxmemory-clients", "1mb")
    big.raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000000\r\n" + bytes(600_000))
    assert not big.session.is_closing
    other.raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000000\r\n" + bytes(500_000))
    assert [client.session.is_closing for client in (admin, big, other)] == [False, True, False]
    assert engine.client_limits.evicted_clients == 1


def test_what_has_left_does_not_count_any_more() -> None:
    engine = make_engine()
    clients = [Client(engine) for _ in range(20)]
    clients[0].send("CONFIG", "SET", "maxmemory-clients", "1mb")
    clients[0].send("SET", "k", bytes(200_000))
    for _ in range(3):
        for client in clients:
            client.raw(b"GET k\r\n")  # taken at once
    limits = engine.client_limits
    for client in clients:
        limits.count(client.session)
    assert limits.total == sum(limits.memory_of(client.session) for client in clients)
    assert limits.evicted_clients == 0
    clients.pop().session.close()
    assert limits.total == sum(limits.memory_of(client.session) for client in clients)


def test_clients_that_may_not_go_are_not_counted_with_each_request() -> None:
    engine = make_engine()
    spared = Client(engine)
    spared.raw(b"CLIENT NO-EVICT on\r\nCONFIG SET maxmemory-clients 1mb\r\n")
    spared.raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000000\r\n" + bytes(2_000_000))
    assert engine.client_limits.total > 1 << 20
    other = Client(engine)
    other.raw(b"PING\r\n")
    assert not spared.session.is_closing
    assert not other.session.is_closing  # it came after: that much is left between two looks at all
    engine.cron(START_US)
    assert other.session.is_closing


def test_no_limit_costs_no_request_anything() -> None:
    engine = make_engine()
    client = Client(engine)
    assert engine.mode == 0
    client.raw(b"CONFIG SET maxmemory-clients 1mb client-output-buffer-limit 'normal 1mb 0 0'\r\n")
    assert engine.mode != 0
    client.raw(b"CONFIG SET maxmemory-clients 0 client-output-buffer-limit 'normal 0 0 0'\r\n")
    assert engine.mode == 0


def test_small_limits_are_raised_to_one_that_can_be_lived_with() -> None:
    engine = make_engine()
    client = Client(engine)
    client.raw(b"CONFIG SET maxmemory-clients 1\r\n")
    engine.cron(START_US)
    assert not client.session.is_closing


def test_a_soft_limit_passed_by_each_reply_ends_a_client_only_after_its_time() -> None:
    engine = make_engine()
    client = Client(engine)
    client.raw(b"CONFIG SET client-output-buffer-limit 'normal 0 1000 10'\r\nSET k " + b"x" * 2000 + b"\r\n")
    for second in range(30):
        client.now_us = START_US + second * SECOND
        client.raw(b"GET k\r\n")
        engine.cron(START_US + second * SECOND + SECOND // 2)  # it has been written: below again
        assert not client.session.is_closing
    client.session.unsent_bytes = 2000
    for second in range(30, 42):
        engine.cron(START_US + second * SECOND)
        assert client.session.is_closing == (second > 40), second


def test_the_largest_buffers_are_remembered_for_eight_seconds() -> None:
    engine = make_engine()
    admin, big = Client(engine), Client(engine)

    def seen() -> list[int]:
        text = admin.raw(b"INFO clients\r\n").decode()
        names = ("client_recent_max_input_buffer", "client_recent_max_output_buffer")
        return [int(text.split(f"{name}:")[1].split()[0]) for name in names]

    engine.cron(START_US)
    assert seen() == [0, 0]
    big.raw(b"*2\r\n$4\r\nECHO\r\n$5000\r\n" + bytes(3000))
    big.session.unsent_bytes = 700
    engine.cron(START_US + SECOND)
    assert seen() == [3000, 700]
    big.raw(bytes(2002))
    big.session.unsent_bytes = 0
    for second in range(2, 9):
        engine.cron(START_US + second * SECOND)
        assert seen() == [3000, 700], second
    engine.cron(START_US + 9 * SECOND)
    assert seen() == [0, 0]
    big.raw(b"GET a")
    engine.cron(START_US + 10 * SECOND)
    assert seen() == [5, 0]
    engine.cron(START_US + 1000 * SECOND)
    assert seen() == [5, 0]  # it is still there
    big.raw(b"\r\n")
    engine.cron(START_US + 2000 * SECOND)
    assert seen() == [0, 0]
