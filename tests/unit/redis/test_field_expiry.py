"""What happens when fields of a hash expire, under a clock of the test's own: reads, writes, housekeeping, memory."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from appliance.redis import Engine, EngineSettings
from appliance.redis.field_expiry import FieldSchedule
from appliance.redis.resp import ValueParser
from appliance.redis.types.collection import EncodingLimits
from appliance.redis.types.hashes import NEVER, Hash
from tests.support.redis_pair import encode_request

START_US = 1_800_000_000_000_000
START_MS = START_US // 1000


class Server:
    """An engine, a session and a clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        random = Random(7)
        self.engine = Engine(EngineSettings(), random.randbytes)
        self.now_us = START_US
        self.session = self.engine.create_session(remote="a:1", local="b:2", now_us=self.now_us)

    def ask(self, line: str) -> object:
        self.session.data_received(encode_request(tuple(line.split(" "))), self.now_us)
        parser = ValueParser()
        parser.feed(b"".join(self.session.take_output()))
        return parser.next_value()

    def sleep_ms(self, milliseconds: int) -> None:
        self.now_us += milliseconds * 1000

    def cron(self) -> None:
        self.engine.cron(self.now_us)


@pytest.fixture
def server() -> Server:
    return Server()


def expired_hash(server: Server, encoding: str) -> None:
    """`k` with a (expired), b and c; in a hashtable also `big`."""
    server.ask("HSET k a 1 b 2 c 3")
    if encoding == "hashtable":
        server.ask(f"HSET k big {'x' * 100}")
    server.ask("HPEXPIRE k 10 FIELDS 1 a")
    assert server.ask("OBJECT ENCODING k") == encoding.encode()
    server.sleep_ms(11)


# Each of these was asked of redis-server with active expiry switched off: command, reply, HLEN afterwards relative to
# the hash with its expired field.
READS = [
    ("HLEN k", None, 0),
    ("HGET k a", None, -1),
    ("HMGET k a b", [None, b"2"], -1),
    ("HEXISTS k a", 0, -1),
    ("HSTRLEN k a", 0, -1),
    ("HTTL k FIELDS 1 a", [-2], 0),
    ("HPERSIST k FIELDS 1 a", [-2], 0),
    ("HDEL k a", 1, -1),
    ("HSET k a 9", 0, 0),
    ("HSETNX k a 9", 1, 0),
    ("HINCRBY k a 5", 5, 0),
    ("HINCRBYFLOAT k a 5", b"5", 0),
    ("HGETEX k FIELDS 1 a", [None], -1),
    ("HGETDEL k FIELDS 2 a b", [None, b"2"], -2),
    ("HSETEX k FNX FIELDS 1 a 5", 1, 0),
    ("HSETEX k FXX FIELDS 1 a 5", 0, -1),
    ("HSETEX k KEEPTTL FIELDS 1 a 5", 1, 0),
    ("HPEXPIRE k 100000 NX FIELDS 1 a", [0], 0),
    ("HPEXPIRE k 100000 FIELDS 1 a", [1], 0),
    ("HPEXPIRE k 0 FIELDS 1 a", [2], -1),
]


@pytest.mark.parametrize("encoding", ["listpackex", "hashtable"])
@pytest.mark.parametrize(("line", "reply", "change"), READS, ids=[line for line, _, _ in READS])
def test_command_on_an_expired_field(
    server: Server, encoding: str, line: str, reply: object, change: int
) -> None:
    expired_hash(server, encoding)
    size = 3 if encoding == "listpackex" else 4
    answered = server.ask(line)
    assert answered == (size if line == "HLEN k" else reply)
    assert server.ask("HLEN k") == size + change


@pytest.mark.parametrize("encoding", ["listpackex", "hashtable"])
def test_commands_that_give_everything_pass_over_expired_fields(server: Server, encoding: str) -> None:
    expired_hash(server, encoding)
    names = [b"b", b"c"] if encoding == "listpackex" else [b"b", b"big", b"c"]
    for line in ("HKEYS k", "HRANDFIELD k 10"):
        reply = server.ask(line)
        assert isinstance(reply, list)
        assert sorted(reply) == names
    items = server.ask("HGETALL k")
    scanned = server.ask("HSCAN k 0 COUNT 100 NOVALUES")
    assert isinstance(items, list)
    assert isinstance(scanned, list)
    assert sorted(items[::2]) == sorted(scanned[1]) == names


def test_a_field_lives_through_its_last_millisecond(server: Server) -> None:
    server.ask("HSET k a 1")
    server.ask("HPEXPIRE k 10 FIELDS 1 a")
    server.sleep_ms(10)
    assert server.ask("HGET k a") == b"1"
    assert server.ask("HPTTL k FIELDS 1 a") == [0]
    server.sleep_ms(1)
    assert server.ask("HGET k a") is None
    assert server.ask("EXISTS k") == 0


@pytest.mark.parametrize(
    "line", ["HGET k a", "HMGET k a b", "HEXISTS k a", "HRANDFIELD k", "HGETDEL k FIELDS 1 a"]
)
def test_a_read_that_removes_the_last_field_removes_the_key(server: Server, line: str) -> None:
    server.ask("HSET k a 1")
    server.ask("HPEXPIRE k 10 FIELDS 1 a")
    server.sleep_ms(11)
    assert server.ask("EXISTS k") == 1
    server.ask(line)
    assert server.ask("EXISTS k") == 0


@pytest.mark.parametrize(
    "line", ["HINCRBY k a 1", "HINCRBYFLOAT k a 1", "HSETNX k a 1", "HSETEX k FNX FIELDS 1 a 1"]
)
def test_a_write_to_the_last_field_after_its_time_makes_it_anew(server: Server, line: str) -> None:
    server.ask("HSET k a 7")
    server.ask("HPEXPIRE k 10 FIELDS 1 a")
    server.sleep_ms(11)
    server.ask(line)
    assert server.ask("HGETALL k") == [b"a", b"1"]
    assert server.ask("HTTL k FIELDS 1 a") == [-1]


# Housekeeping


def test_cron_removes_what_has_expired_and_the_key_with_the_last_field(server: Server) -> None:
    server.ask("HSET k a 1 b 2 c 3")
    server.ask("HPEXPIRE k 10 FIELDS 1 a")
    server.ask("HPEXPIRE k 20 FIELDS 2 b c")
    for milliseconds, size in ((10, 3), (1, 2), (9, 2), (1, 0)):
        server.sleep_ms(milliseconds)
        server.cron()
        assert server.ask("HLEN k") == size
    assert server.ask("EXISTS k") == 0
    assert len(server.engine.field_schedules[0]) == 0


@pytest.mark.parametrize(
    ("lines", "key", "database"),
    [
        (["RENAME k other"], "other", 0),
        (["COPY k other"], "other", 0),
        (["COPY k other DB 3"], "other", 3),
        (["MOVE k 3"], "k", 3),
        (["SWAPDB 0 3"], "k", 3),
        (["HSET k x 1", "HDEL k b"], "k", 0),
        (["HPEXPIRE k 5 FIELDS 1 b", "HPERSIST k FIELDS 1 b"], "k", 0),
        (["HPEXPIRE k 5000 FIELDS 1 a", "HPEXPIRE k 10 FIELDS 1 a"], "k", 0),
        (["DEL k", "HSETEX k PX 3 FIELDS 1 a 1"], "k", 0),
    ],
)
def test_cron_finds_the_field_wherever_its_hash_went(
    server: Server, lines: list[str], key: str, database: int
) -> None:
    server.ask("HSET k a 1 b 2")
    server.ask("HPEXPIRE k 10 FIELDS 1 a")
    for line in lines:
        server.ask(line)
    server.sleep_ms(11)
    server.cron()
    server.ask(f"SELECT {database}")
    fields = server.ask(f"HKEYS {key}")
    assert isinstance(fields, list)
    assert b"a" not in fields
    assert server.ask(f"HLEN {key}") == len(fields)


def test_cron_removes_a_bounded_number_at_a_time(server: Server) -> None:
    fields = [f"f{number}" for number in range(50_000)]
    server.ask("HSET k " + " ".join(f"{field} 1" for field in fields))
    server.ask(f"HPEXPIRE k 10 FIELDS {len(fields)} " + " ".join(fields))
    server.sleep_ms(11)
    begun_us = server.now_us
    sizes = [50_000]
    server.cron()
    while server.ask("EXISTS k") == 1:
        sizes.append(server.ask("HLEN k"))
        # The next piece follows soon, not with the next cron.
        server.now_us = server.engine.next_timeout_us()
        server.engine.handle_timeouts(server.now_us)
    assert all(0 < before - after <= 300 for before, after in pairwise(sizes))
    assert server.now_us - begun_us < 1_000_000
    assert len(server.engine.field_schedules[0]) == 0


def test_the_schedule_forgets_keys_that_are_gone(server: Server) -> None:
    """Sessions that come and go, each with a field that would expire in a day."""
    for number in range(1000):
        server.ask(f"HSETEX session:{number} EX 86400 FIELDS 1 token x")
        server.ask(f"DEL session:{number}")
    for _ in range(20):
        server.sleep_ms(100)
        server.cron()
    assert len(server.engine.field_schedules[0]) == 0


def test_flushed_and_overwritten_keys_leave_the_schedule(server: Server) -> None:
    server.ask("HSETEX a PX 10 FIELDS 1 f v")
    server.ask("HSETEX b PX 10 FIELDS 1 f v")
    server.ask("SET a string")
    server.sleep_ms(11)
    server.cron()
    assert server.ask("GET a") == b"string"
    assert server.ask("EXISTS b") == 0
    server.ask("HSETEX c PX 10 FIELDS 1 f v")
    server.ask("FLUSHALL")
    server.sleep_ms(11)
    server.cron()
    assert len(server.engine.field_schedules[0]) == 0


def events(server: Server, lines: list[str]) -> list[bytes]:
    """The events that these commands, or housekeeping (an empty line), cause."""
    listener = server.engine.create_session(remote="c:3", local="b:2", now_us=server.now_us)
    listener.data_received(b"PSUBSCRIBE __keyevent@0__:*\r\n", server.now_us)
    listener.take_output()
    for line in lines:
        if line:
            server.ask(line)
        else:
            server.cron()
    names: list[bytes] = []
    parser = ValueParser()
    parser.feed(b"".join(listener.take_output()))
    while True:
        message = parser.next_value()
        if not parser.has_value:
            return names
        assert isinstance(message, list)
        names.append(message[2].partition(b":")[2])


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("", [b"hexpired"]),
        ("HGET k a", [b"hexpired"]),
        ("HMGET k a b", [b"hexpired"]),
        ("HGETDEL k FIELDS 3 a b c", [b"hexpired", b"hdel", b"del"]),
        ("HGETEX k PX 5000 FIELDS 3 a b c", [b"hexpired", b"hexpire"]),
        ("HGETEX k PERSIST FIELDS 3 a b c", [b"hexpired"]),
        ("HSETEX k FNX PX 1000 FIELDS 2 a 1 q 1", [b"hexpired", b"hset", b"hexpire"]),
        ("HSETNX k a 9", [b"hexpired", b"hset"]),
        ("HINCRBY k a 1", [b"hexpired", b"hincrby"]),
        ("HRANDFIELD k -3", [b"hexpired"]),
        ("HDEL k a", [b"hdel"]),
        ("HGETALL k", []),
    ],
)
def test_events_when_one_field_has_expired(server: Server, line: str, names: list[bytes]) -> None:
    server.ask("CONFIG SET notify-keyspace-events EA")
    expired_hash(server, "listpackex")
    assert events(server, [line]) == names


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("", [b"hexpired", b"del"]),
        ("HGET k a", [b"hexpired", b"del"]),
        ("HRANDFIELD k", [b"hexpired", b"del"]),
        ("HSETEX k FXX FIELDS 1 a 1", [b"hexpired", b"del"]),
        ("HSETEX k FNX FIELDS 1 a 1", [b"hexpired", b"hset"]),
        ("HINCRBY k a 1", [b"hexpired", b"del", b"hincrby"]),
        ("HSETNX k a 1", [b"hexpired", b"del", b"hset"]),
        ("HPEXPIREAT k 1 FIELDS 1 a", [b"hdel", b"del"]),
    ],
)
def test_events_when_the_only_field_has_expired(server: Server, line: str, names: list[bytes]) -> None:
    server.ask("CONFIG SET notify-keyspace-events EA")
    server.ask("HSET k a 1")
    server.ask("HPEXPIRE k 10 FIELDS 1 a")
    server.sleep_ms(11)
    assert events(server, [line]) == names


def test_housekeeping_tells_those_who_watch_the_key(server: Server) -> None:
    server.ask("HSETEX k PX 10 FIELDS 1 a 1")
    server.ask("WATCH k")
    server.sleep_ms(11)
    server.cron()
    server.ask("MULTI")
    server.ask("PING")
    assert server.ask("EXEC") is None


def test_a_restored_hash_expires_its_fields(server: Server) -> None:
    server.ask("HSET k a 1 b 2")
    server.ask("HPEXPIRE k 10 FIELDS 1 a")
    payload = server.ask("DUMP k")
    assert isinstance(payload, bytes)
    server.session.data_received(encode_request(("RESTORE", "other", 0, payload)), server.now_us)
    server.session.take_output()
    server.sleep_ms(11)
    server.cron()
    assert server.ask("HKEYS other") == [b"b"]


# The structures against models


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "keep", "delete", "time", "clear", "pop"]),
            st.integers(0, 30),
            st.integers(1, 40),
        ),
        max_size=150,
    ),
    st.integers(0, 12),
)
def test_hash_agrees_with_a_dict_of_values_and_times(steps: list[tuple[str, int, int]], most: int) -> None:
    limits = EncodingLimits()
    limits.hash_max_listpack_entries = most
    value = Hash(limits)
    value.allow_expiry()
    model: dict[bytes, bytes] = {}
    times: dict[bytes, int] = {}
    now_ms = 0
    for kind, number, argument in steps:
        field = b"f%d" % number
        if kind in ("set", "keep"):
            content = b"%d" % argument
            assert value.set(field, content, kind == "keep") == (field not in model)
            model[field] = content
            if kind == "set":
                times.pop(field, None)
        elif kind == "delete":
            assert value.remove(field) == (model.pop(field, None) is not None)
            times.pop(field, None)
        elif kind == "time" and field in model:
            value.set_expiry(field, now_ms + argument)
            times[field] = now_ms + argument
        elif kind == "clear" and field in model:
            assert value.clear_expiry(field) == (times.pop(field, None) is not None)
        elif kind == "pop":
            now_ms += argument // 4
            due = sorted(when for when in times.values() if when < now_ms)
            assert value.pop_expired(now_ms, 3) == min(3, len(due))
            gone = [field for field in model if value.get(field) is None]
            assert sorted(times.pop(each) for each in gone) == due[: len(gone)]
            for each in gone:
                del model[each]
        value.check_invariants()
        items = value.items(0)
        assert dict(zip(items[::2], items[1::2], strict=True)) == model
        assert value.expiring_count() == len(times)
        live = {each for each in model if each not in times or times[each] >= now_ms}
        assert set(value.fields(now_ms)) == live
    copied = value.copy()
    assert isinstance(copied, Hash)
    copied.check_invariants()
    assert copied.fields(0) == value.fields(0) or value.encoding() == b"hashtable"
    assert copied.expiring_count() == value.expiring_count()


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.one_of(st.just(NEVER), st.integers(0, 50)), st.booleans()),
        max_size=80,
    )
)
def test_schedule_agrees_with_a_dict(steps: list[tuple[int, int, bool]]) -> None:
    schedule = FieldSchedule()
    model: dict[bytes, int] = {}
    for number, due_ms, is_new in steps:
        key = b"%d" % number
        if is_new and due_ms != NEVER:
            schedule.schedule(key, due_ms)
            model[key] = min(due_ms, model.get(key, due_ms))
        else:
            schedule.reschedule(key, due_ms)
            if due_ms == NEVER:
                model.pop(key, None)
            elif key in model:
                model[key] = due_ms
        assert len(schedule) == len(model)
        first = min(model.values(), default=None)
        due = schedule.first_due(1000)
        assert (due is None) if first is None else (due is not None and model[due] == first)


@pytest.mark.parametrize("fields", [5, 5000])
def test_a_dead_hash_is_let_go_of_in_pieces(fields: int) -> None:
    value = Hash(EncodingLimits())
    value.allow_expiry()
    for number in range(fields):
        value.set(b"f%d" % number, b"v")
        value.set_expiry(b"f%d" % number, number)
    left = [value.release(1000)]
    while left[-1] > 0:
        left.append(value.release(1000))
        assert left[-1] < left[-2]
    assert len(left) >= fields // 1000
