"""Settings: where they come from, and one line for each wrong one."""

from __future__ import annotations

import ipaddress
from dataclasses import FrozenInstanceError, fields
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from appliance.config import OPTIONS, Settings, load, option, runtime_directory
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def complaint(flags: dict[str, str | None] | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, environ or {})
    text = str(caught.value)
    assert "\n" not in text
    return text


def written(directory: Path, text: str) -> str:
    path = directory / "redtap.toml"
    path.write_text(text)
    return str(path)


WRONG = [
    ("netns", "a/b", "'a/b' is not a namespace name; takes 1 to 64 letters, digits, '_', '.', '-'"),
    ("tap", "much-too-long-name", "is not a link name; takes 1 to 15 letters, digits, '_', '.', '-'"),
    ("address", "10.77.0.2", "'10.77.0.2' has no prefix length; takes ADDRESS/LENGTH such as 10.77.0.1/24"),
    ("address", "::1/64", "'::1/64' is not an IPv4 address with its network; takes ADDRESS/LENGTH"),
    ("address", "10.77.0.255/24", "'10.77.0.255/24' is the address of a network; takes one of a host in it"),
    ("client_address", "ten", "'ten' has no prefix length; takes ADDRESS/LENGTH"),
    (
        "client_address",
        "10.88.0.1/24",
        "is not in the network of --address; takes an address in 10.77.0.0/24",
    ),
    ("client_address", "10.77.0.2/24", "is --address already; takes another address in 10.77.0.0/24"),
    ("gateway", "router", "'router' is not an IPv4 address; takes one such as 10.77.0.1"),
    ("gateway", "10.99.0.1", "'10.99.0.1' is not near 10.77.0.2/24; takes a host in 10.77.0.0/24"),
    ("gateway", "10.77.0.2", "'10.77.0.2' is not near 10.77.0.2/24; takes a host in 10.77.0.0/24"),
    ("mac", "02:00", "'02:00' is not a MAC address; takes one such as 02:00:00:00:00:01"),
    ("mac", "01:00:00:00:00:01", "'01:00:00:00:00:01' is not the MAC of one station; takes six bytes"),
    ("port", "0", "'0' is out of range; takes 1 to 65535"),
    ("port", "65536", "'65536' is out of range; takes 1 to 65535"),
    ("port", "redis", "'redis' is not a whole number; takes 1 to 65535"),
    ("mtu", "1500.0", "'1500.0' is not a whole number; takes 576 to 65521"),
    ("mtu", "1_500", "'1_500' is not a whole number; takes 576 to 65521"),
    ("mtu", "575", "'575' is out of range; takes 576 to 65521"),
    ("mtu", "", "'' is not a whole number; takes 576 to 65521"),
    ("link", "carrier-pigeon", "'carrier-pigeon' is not known; takes one of tap, tun, packet, xdp"),
    ("link", "packet:", "'' is not a link name; takes 1 to 15"),
    ("link", "packet:eth0:1", "'packet:eth0:1' has a queue, which only xdp has; takes packet:eth0"),
    ("link", "xdp:eth0:one", "'one' is not a whole number; takes 0 to 4095"),
    ("link", "xdp:eth0", "'xdp:eth0' says no address; takes --address with it, or --takeover eth0"),
    ("link", "tap:tap7", "'tap:tap7' says no address; takes --address with it"),
    ("capture", "", "'' is not a path; takes the name of a file"),
    ("seed", "-1", "'-1' is out of range; takes 0 to 18446744073709551615"),
    ("log_level", "loud", "'loud' is not known; takes one of debug, info, warning, error, critical"),
    ("log_format", "xml", "'xml' is not known; takes one of text, json"),
    ("max_connections", "0", "'0' is out of range; takes 1 to 1000000"),
    ("busy_poll", "1000001", "'1000001' is out of range; takes 0 to 1000000"),
    ("control", "x" * 108, "cannot name a unix socket; takes a path of 1 to 107 bytes"),
    ("databases", "0", "'0' is out of range; takes 1 to 65536"),
    ("enable_debug_command", "perhaps", "'perhaps' is not known; takes one of no, yes, local"),
    ("takeover", "eth 0", "'eth 0' is not a link name; takes 1 to 15"),
]


@pytest.mark.parametrize(("field", "value", "says"), WRONG)
def test_flag_wrong_value_names_the_flag_and_what_it_takes(field: str, value: str, says: str) -> None:
    text = complaint({field: value})
    assert text.startswith(option(field).flag + ": ")
    assert says in text


@pytest.mark.parametrize(("field", "value", "says"), [wrong for wrong in WRONG if wrong[1]])
def test_variable_wrong_value_names_flag_and_variable(field: str, value: str, says: str) -> None:
    text = complaint({}, {option(field).variable: value})
    assert text.startswith(f"{option(field).flag} (from {option(field).variable}): ")
    assert says in text


@pytest.mark.parametrize(("field", "value", "says"), WRONG)
def test_file_wrong_value_names_flag_and_file(field: str, value: str, says: str, tmp_path: Path) -> None:
    path = written(tmp_path, f'{field} = "{value}"\n')
    text = complaint({"config": path})
    assert text.startswith(f"{option(field).flag} (from {path}): ")
    assert says in text


def test_every_option_but_free_text_has_a_wrong_value_in_these_tests() -> None:
    assert {entry.field for entry in OPTIONS} - {field for field, _, _ in WRONG} == {"config", "requirepass"}


def test_options_and_settings_are_the_same_list() -> None:
    assert {entry.field for entry in OPTIONS} == {field.name for field in fields(Settings)} - {"given"}


def test_nothing_given_gives_the_defaults() -> None:
    settings = load({"mtu": None}, {"REDTAP_MTU": "", "PATH": "/bin"})
    assert settings == Settings()
    assert str(settings.address) == "10.77.0.2/24"
    assert str(settings.client_address) == "10.77.0.1/24"
    with pytest.raises(FrozenInstanceError):
        settings.mtu = 9000  # type: ignore[misc]


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    path = written(tmp_path, "mtu = 1000\nport = 1000\nseed = 1000\n")
    environ = {"REDTAP_CONFIG": path, "REDTAP_MTU": "2000", "REDTAP_PORT": "2000"}
    settings = load({"mtu": "3000"}, environ)
    assert (settings.mtu, settings.port, settings.seed, settings.databases) == (3000, 2000, 1000, 16)
    assert settings.config == path


def test_value_that_somebody_gave_is_told_from_the_default(tmp_path: Path) -> None:
    path = written(tmp_path, 'netns = "redtap"\n')
    settings = load({"mtu": "1500"}, {"REDTAP_CONFIG": path, "REDTAP_PORT": "6379"})
    assert settings == load({"config": path}, {})
    assert settings.given == {"netns", "mtu", "port", "config"}


def test_value_that_is_overridden_is_not_judged(tmp_path: Path) -> None:
    assert load({"mtu": "3000"}, {"REDTAP_MTU": "nonsense"}).mtu == 3000


def test_file_takes_hyphens_underscores_strings_and_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, 'log-level = "debug"\nmax_connections = 7\nport = "7000"\n')
    settings = load({"config": path}, {})
    assert (settings.log_level, settings.max_connections, settings.port) == ("debug", 7, 7000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "unknown key 'prot'; takes netns, tap, address"),
        ('config = "other.toml"', "unknown key 'config'"),
        ("[redtap]\nport = 1", "unknown key 'redtap'"),
        ("port = [1]", "a list is not a value for it; takes a string or a whole number"),
        ("port = true", "True is not a value for it"),
        ("port = 1.5", "1.5 is not a value for it"),
        ("[port]\na = 1", "a table is not a value for it"),
        ("log-level = 'info'\nlog_level = 'info'", "given twice; takes one value"),
        ("port = ", "is not TOML"),
    ],
)
def test_file_that_is_wrong_is_named(text: str, says: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    said = complaint({"config": path})
    assert path in said
    assert says in said


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    assert complaint({"config": missing}) == (
        f"--config: '{missing}' cannot be read (No such file or directory); takes a TOML file"
    )
    said = complaint({}, {"REDTAP_CONFIG": str(tmp_path)})
    assert said.startswith("--config (from REDTAP_CONFIG): ")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "is not TOML" in complaint({"config": str(binary)})


def test_address_moved_alone_blames_the_address() -> None:
    assert complaint({"address": "10.9.0.2/24"}) == (
        "--address: '10.9.0.2/24' is not in the network of --client-address; takes an address in 10.77.0.0/24"
    )
    settings = load({"address": "10.9.0.2/24", "client_address": "10.9.0.1/24"}, {})
    assert settings.address.network == ipaddress.IPv4Network("10.9.0.0/24")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", "10.77.0.2/24"),
        ("client_address", "10.77.0.1/24"),
        ("gateway", "10.77.0.1"),
        ("mac", "02:00:00:00:00:01"),
    ],
)
def test_takeover_with_what_it_takes_over_is_refused(field: str, value: str) -> None:
    said = complaint({"takeover": "eth0", field: value})
    assert said == f"{option(field).flag}: not together with --takeover; takes what eth0 has"


def test_mac_default_is_locally_administered_and_follows_the_address() -> None:
    assert Settings().mac_or_default() == bytes.fromhex("02520a4d0002")
    assert load({"mac": "02:00:00:00:00:0A"}, {}).mac_or_default() == bytes.fromhex("02000000000a")


def test_control_path_is_given_or_made_from_the_name() -> None:
    assert load({"control": "/x/y.sock"}, {}).control_path() == "/x/y.sock"
    assert load({"netns": "blue"}, {}).control_path() == f"{runtime_directory()}/blue.sock"


@given(st.sampled_from(OPTIONS), st.text(max_size=40))
def test_any_text_is_a_value_or_one_line(entry: object, text: str) -> None:
    field = entry.field  # type: ignore[attr-defined]
    said = None
    try:
        load({field: text}, {})
    except ConfigError as exc:
        said = str(exc)
    if said is not None:
        assert said.startswith(option(field).flag + ": ")
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            {"link": "tun", "takeover": "eth0"},
            "--link: not together with --takeover; takes tap, packet or xdp",
        ),
        ({"link": "tap:eth0", "takeover": "eth0"}, "--link: not together with --takeover; takes tap, packet"),
        (
            {"link": "xdp:eth1", "takeover": "eth0"},
            "--link: not together with --takeover eth0; takes xdp:eth0",
        ),
        (
            {"link": "packet:eth0", "address": "10.1.0.5/16", "client_address": "10.1.0.1/16"},
            "--client-address: not together with --link packet:eth0; takes what eth0 has",
        ),
        (
            {"link": "packet:eth0", "address": "10.1.0.5/16", "gateway": "10.2.0.1"},
            "--gateway: '10.2.0.1' is not near 10.1.0.5/16; takes a host in 10.1.0.0/16",
        ),
    ],
)
def test_link_that_does_not_go_with_another_option(flags: dict[str, str], says: str) -> None:
    assert complaint(flags).startswith(says)


def test_link_names_a_kind_a_link_and_a_queue() -> None:
    def parts(**flags: str) -> tuple[str, str, int | None]:
        settings = load(flags, {})
        return settings.link_kind, settings.link_name, settings.link_queue

    assert parts() == ("tap", "", None)
    assert parts(link="tun") == ("tun", "", None)
    assert parts(link="tap:mine", address="10.1.0.5/16") == ("tap", "mine", None)
    assert parts(link="packet", takeover="eth0") == ("packet", "", None)
    assert parts(link="xdp:eth0:3", takeover="eth0") == ("xdp", "eth0", 3)
