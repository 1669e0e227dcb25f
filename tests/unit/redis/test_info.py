"""INFO: every field has one origin, sections are chosen as asked, and what is counted is true."""

from __future__ import annotations

import re

import pytest

from appliance.redis.commands.info import CONSTANTS, FIELDS, human_bytes, section
from appliance.redis.keysizes import COUNTED_KEYS, bin_name
from tests.support.info_page import PAGE, page
from tests.support.redis_client import Client, make_engine


def titles(client: Client, *words: str) -> list[str]:
    text = client.ask("INFO", *words)
    assert isinstance(text, bytes)
    return re.findall(r"^# (\w+)\r$", text.decode(), re.MULTILINE)


def test_each_field_is_computed_or_constant_and_each_constant_is_a_field() -> None:
    engine = make_engine()
    fields = [name for names in FIELDS.values() for name in names]
    constants = [name for _, facts in CONSTANTS for name in facts]
    assert len(set(fields)) == len(fields)
    assert len(set(constants)) == len(constants)
    assert set(constants) <= set(fields)
    for name, names in FIELDS.items():
        assert list(section(engine, name))[: len(names)] == names


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.support.info_page"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("server", "clients"), ["Server", "Clients"]),
        (("CLIENTS", "server"), ["Server", "Clients"]),
        (("nosuch",), []),
        (("debug",), ["Debug"]),
        (("cluster", "nosuch", "CPU"), ["CPU", "Cluster"]),
    ],
)
def test_sections_come_in_their_order_however_they_are_asked_for(
    words: tuple[str, ...], expected: list[str]
) -> None:
    assert titles(Client(make_engine()), *words) == expected


def test_default_leaves_out_statistics_of_commands_and_debug() -> None:
    client = Client(make_engine())
    by_default = titles(client)
    assert by_default == titles(client, "default")
    assert set(titles(client, "everything")) - set(by_default) == {"Commandstats", "Latencystats"}
    assert titles(client, "all") == titles(client, "everything")
    assert set(titles(client, "all", "debug")) - set(titles(client, "all")) == {"Debug"}


def test_a_provider_fills_a_field_in_its_place_and_adds_others_behind() -> None:
    engine = make_engine()
    engine.set_info_provider("cpu", lambda: {"more": 7, "used_cpu_user": "1.5"})
    cpu = Client(engine).info("cpu")
    assert cpu["used_cpu_user"] == "1.5"
    assert list(cpu) == [*FIELDS["cpu"], "more"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00K"),
        (1536 * 1024, "1.50M"),
        (23 << 30, "23.00G"),
        (1 << 62, "4096.00P"),
    ],
)
def test_sizes_are_written_for_people(size: int, text: str) -> None:
    assert human_bytes(size) == text


def test_names_of_bins() -> None:
    assert [bin_name(at) for at in (0, 1, 2, 10, 11, 12, 21, 31)] == [
        "0",
        "1",
        "2",
        "512",
        "1K",
        "2K",
        "1M",
        "1G",
    ]


def test_bins_of_a_large_database_are_scaled_to_all_keys() -> None:
    client = Client(make_engine())
    keys = COUNTED_KEYS * 3
    for number in range(keys):
        client.session.data_received(
            b"SET k%d %s\r\n" % (number, b"x" * (4 if number % 4 else 40)), client.now_us
        )
    client.session.take_output()
    bins = dict(part.split("=") for part in client.info("keysizes")["db0_distrib_strings_sizes"].split(","))
    assert set(bins) == {"4", "32"}
    assert int(bins["4"]) + int(bins["32"]) == pytest.approx(keys, abs=2)
    assert int(bins["32"]) == pytest.approx(keys / 4, rel=0.15)


def test_errors_are_told_apart_up_to_a_number_of_codes_then_not_at_all() -> None:
    engine = make_engine()
    client = Client(engine)
    for number in range(128):
        engine.count_error(b"E%d x" % number)
    engine.count_error(b"E5 x")
    assert len(client.info("errorstats")) == 128
    assert client.info("errorstats")["errorstat_E5"] == "count=2"
    engine.count_error(b"ONEMORE x")
    engine.count_error(b"E5 x")
    assert client.info("errorstats") == {"errorstat_ERRORSTATS_DISABLED": "count=1"}
    assert client.info("stats")["total_error_replies"] == "131"
    client.send("CONFIG", "RESETSTAT")
    client.send("NOSUCH")
    assert client.info("errorstats") == {"errorstat_ERR": "count=1"}
    assert client.info("stats")["total_error_replies"] == "1"


def test_rates_of_bytes_are_measured_about_once_a_second() -> None:
    client = Client(make_engine())
    client.engine.cron(client.now_us)
    client.send("ECHO", "x" * (2048 - 29))
    client.now_us += 2_000_000
    client.engine.cron(client.now_us)
    stats = client.info("stats")
    assert 0.9 < float(stats["instantaneous_input_kbps"]) < 1.1
    assert 0.9 < float(stats["instantaneous_output_kbps"]) < 1.1


def test_wrong_passwords_are_counted() -> None:
    client = Client(make_engine(requirepass="secret"))
    client.send("AUTH", "wrong")
    client.send("AUTH", "default", "wrong")
    client.send("AUTH", "secret")
    assert client.info("stats")["acl_access_denied_auth"] == "2"


def test_time_in_which_memory_was_short_is_counted() -> None:
    client = Client(make_engine())
    client.send("SET", "a", "1")
    client.send("CONFIG", "SET", "maxmemory", 1)
    assert client.send("SET", "a", "2").startswith(b"-OOM")
    client.now_us += 3_000_000
    stats = client.info("stats")
    assert (stats["current_eviction_exceeded_time"], stats["total_eviction_exceeded_time"]) == (
        "3000",
        "3000",
    )
    client.send("CONFIG", "SET", "maxmemory", "1gb")
    client.send("SET", "a", "3")
    client.now_us += 1_000_000
    stats = client.info("stats")
    assert (stats["current_eviction_exceeded_time"], stats["total_eviction_exceeded_time"]) == ("0", "3000")


def test_stale_keys_are_a_share_of_those_that_were_looked_at() -> None:
    client = Client(make_engine())
    for number in range(40):
        client.send("SET", f"k{number}", "v", "PX", 50)
    client.now_us += 1_000_000
    client.engine.cron(client.now_us)
    assert float(client.info("stats")["expired_stale_perc"]) == pytest.approx(5.0)
    assert client.info("stats")["expired_keys"] == "40"


def test_scripts_and_functions_are_counted_and_weighed() -> None:
    client = Client(make_engine())
    assert client.info("memory")["used_memory_vm_total"] == "0"
    client.send("EVAL", "return 1", 0)
    client.send("SCRIPT", "LOAD", "return 2")
    client.send("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)")
    memory = client.info("memory")
    assert memory["number_of_cached_scripts"] == "2"
    assert (memory["number_of_libraries"], memory["number_of_functions"]) == ("1", "1")
    assert int(memory["used_memory_vm_total"]) > 10_000
    texts = int(memory["used_memory_scripts_eval"]) + int(memory["used_memory_functions"])
    assert int(memory["used_memory_scripts"]) == texts > 0


def test_values_let_go_of_in_the_background_are_counted() -> None:
    client = Client(make_engine())
    for key in ("one", "two"):
        client.send("RPUSH", key, *range(500))
        client.send("DEL", key)
    assert client.info("memory")["lazyfree_pending_objects"] == "2"
    while client.engine.is_busy:
        client.engine.handle_timeouts(client.engine.next_timeout_us())
    memory = client.info("memory")
    assert (memory["lazyfree_pending_objects"], memory["lazyfreed_objects"]) == ("0", "2")
