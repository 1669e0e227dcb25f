"""The command line as people meet it: help, version, one line for each mistake, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from appliance import __version__
from appliance.cli import children, serve as serve_module
from appliance.cli.main import run
from appliance.cli.redis_cli import _move_beside
from appliance.cli.serve import _client_environment
from appliance.cli.top import _RATES
from appliance.config import OPTIONS, Settings
from appliance.errors import HostError
from appliance.stack.counters import Counters
from netns import rootless
from netns.build import BuiltTopology, build
from netns.topology import Topology
from tests.support.control_server import answering, request
from tests.support.fake_kernel import FakeKernel

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> object:
    """No settings from outside, and the signal handlers that `run` sets are taken back."""
    for name in list(os.environ):
        if name.startswith("REDTAP_") and name != "REDTAP_PURE":
            monkeypatch.delenv(name)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    assert run(arguments) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("\n")
    assert len(said.err.splitlines()) == 1
    return said.err.rstrip("\n")


def test_help_loads_neither_trio_nor_pyroute2_nor_the_stack() -> None:
    program = (
        "import sys; from appliance.cli.main import run; status = run(['--help']);"
        "heavy = {'trio', 'pyroute2', 'pytun', 'rich', 'structlog', 'appliance.stack', 'appliance.config'};"
        "print(sorted(heavy & set(sys.modules)), status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    *text, last = done.stdout.splitlines()
    assert last == "[] 0"
    for name in ("serve", "exec", "cli", "status", "conns", "top", "netns"):
        assert any(line.startswith(f"  {name} ") for line in text)


def test_version_says_version_build_and_python(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"redtap {__version__} (")
    assert "compiled build" in said or "pure build" in said
    assert sys.version.split()[0] in said


def test_every_setting_is_a_flag_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    said = capsys.readouterr().out
    for entry in OPTIONS:
        assert f"  {entry.flag} {entry.metavar}" in said


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Usage: redtap" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frob"], "redtap: no such command 'frob'"),
        (["--frob"], "redtap: no such option '--frob'"),
        (["serve", "--frob"], "redtap: no such option '--frob'"),
        (["serve", "--mtu"], "redtap: option '--mtu' requires an argument"),
        (["serve", "-", "extra"], "redtap: got unexpected extra argument (extra)"),
        (
            ["serve", "no.conf"],
            "redtap: no.conf: cannot be read (No such file or directory); takes a redis.conf",
        ),
        (["serve", "--maxmemory", "1x"], "redtap: --maxmemory: '1x': argument must be a memory value"),
        (["serve", "--hz", "1", "2"], "redtap: --hz: '1 2': wrong number of arguments"),
        (["exec"], "redtap: missing argument 'COMMAND...'"),
        (["netns", "sideways"], "redtap: no such command 'sideways'"),
        (["serve", "--mtu", "x"], "redtap: --mtu: 'x' is not a whole number; takes 576 to 65521"),
        (["serve", "--port=0"], "redtap: --port: '0' is out of range; takes 1 to 65535"),
        (["exec", "--link", "wet", "true"], "redtap: --link: 'wet' is not known; takes one of tap, tun"),
        (["exec", "--takeover", "eth0", "true"], "redtap: no such option '--takeover'"),
        (["status", "--netns", "a/b"], "redtap: --netns: 'a/b' is not a namespace name; takes 1 to 64"),
        (["conns", "--control", ""], "redtap: --control: '' cannot name a unix socket; takes"),
        (
            ["netns", "up", "--client-address", "x"],
            "redtap: --client-address: 'x' has no prefix length; takes",
        ),
        (["netns", "down", "--mtu", "1"], "redtap: no such option '--mtu'"),
        (
            ["top", "--interval", "soon"],
            "redtap: --interval: 'soon' is not a time; takes 0.1 to 3600 seconds",
        ),
        (["top", "--interval", "nan"], "redtap: --interval: 'nan' is not a time"),
        (["top", "--count", "0"], "redtap: --count: '0' is not a whole number; takes 1 or more"),
    ],
)
def test_wrong_command_line_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert complaint(capsys, *arguments).startswith(says)


def test_wrong_variable_and_wrong_file_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REDTAP_PORT", "no")
    assert complaint(capsys, "status").startswith(
        "redtap: --port (from REDTAP_PORT): 'no' is not a whole number"
    )
    monkeypatch.delenv("REDTAP_PORT")
    file = tmp_path / "redtap.toml"
    file.write_text("frob = 1")
    assert complaint(capsys, "serve", "--config", str(file)).startswith(
        f"redtap: {file}: unknown key 'frob'; takes"
    )


def test_takeover_from_a_variable_is_refused_by_exec(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDTAP_TAKEOVER", "eth0")
    assert complaint(capsys, "exec", "true") == "redtap: --takeover: not for exec; takes effect in serve only"


@pytest.mark.parametrize("command", [["status"], ["conns"], ["top"], ["cli", "get", "a"]])
def test_nobody_running_is_one_line_and_status_1(
    capsys: pytest.CaptureFixture[str], command: list[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "none.sock")
    said = complaint(capsys, command[0], "--control", path, *command[1:], status=1)
    assert said == f"redtap: no appliance is running behind {path}: start one with redtap serve"


STATUS = request("REDTAP", "STATUS")
COUNTERS = request("REDTAP", "COUNTERS")
CONNS = request("REDTAP", "CONNS")
ONE_CONNECTION = (
    b"*1\r\n*12\r\n+remote\r\n+10.77.0.1:4711\r\n+local\r\n+10.77.0.2:6379\r\n+state\r\n+ESTABLISHED\r\n"
    b"+cwnd\r\n:14600\r\n+bytes_in\r\n:12345\r\n+retransmissions\r\n:3\r\n"
)


def test_status_prints_lines_or_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    with answering(path, {STATUS: b"*4\r\n+name\r\n+redtap\r\n+port\r\n:6379\r\n"}):
        assert run(["status", "--control", path]) == 0
        assert capsys.readouterr().out == "name  redtap\nport  6379\n"
        assert run(["status", "--json", "--control", path]) == 0
        assert json.loads(capsys.readouterr().out) == {"name": "redtap", "port": 6379}


def test_conns_prints_a_table_or_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    with answering(path, {CONNS: ONE_CONNECTION}):
        assert run(["conns", "--control", path]) == 0
        header, row = capsys.readouterr().out.splitlines()
        assert header.split()[:3] == ["REMOTE", "LOCAL", "STATE"]
        assert row.split() == [
            *("10.77.0.1:4711", "10.77.0.2:6379", "ESTABLISHED"),
            *("14600", "-", "-", "12345", "-", "3"),
        ]
        # Numbers stand right under the end of their title.
        assert header.index("BYTES-IN") + len("BYTES-IN") == row.index("12345") + len("12345")
        assert run(["conns", "--json", "--control", path]) == 0
        assert json.loads(capsys.readouterr().out)[0]["bytes_in"] == 12345


def test_top_shows_rates_and_the_busiest_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    replies = {
        STATUS: b"*4\r\n+name\r\n+redtap\r\n+connections\r\n:1\r\n",
        COUNTERS: b"*4\r\n+frames_in\r\n:1234\r\n+dropped_checksum\r\n:7\r\n",
        CONNS: ONE_CONNECTION,
    }
    with answering(path, replies) as seen:
        assert run(["top", "--count", "2", "--interval", "0.1", "--control", path]) == 0
    assert seen == [STATUS, COUNTERS, CONNS] * 2
    said = capsys.readouterr().out
    assert {name for _, name in _RATES} <= set(Counters().as_dict())
    assert "frames in" in said
    assert "1,234" in said
    assert "10.77.0.1:4711" in said
    assert "12,345" in said


def test_exec_environment_has_host_port_url_and_control_socket() -> None:
    assert _client_environment(Settings(control="/c.sock")) == {
        "REDIS_HOST": "10.77.0.2",
        "REDIS_PORT": "6379",
        "REDIS_URL": "redis://10.77.0.2:6379/0",
        "REDTAP_CONTROL_SOCKET": "/c.sock",
    }
    secret = _client_environment(Settings(control="/c.sock", requirepass="p@ss/word"))
    assert secret["REDIS_URL"] == "redis://:p%40ss%2Fword@10.77.0.2:6379/0"
    assert secret["REDISCLI_AUTH"] == "p@ss/word"


def test_cli_of_a_takeover_says_where_to_ask_instead() -> None:
    with pytest.raises(HostError, match="run redis-cli on a neighbour"):
        _move_beside({"mode": "takeover", "process_id": 1})


def test_cli_namespace_that_is_gone_is_one_line() -> None:
    with pytest.raises(HostError, match="cannot enter the appliance's namespace"):
        _move_beside({"mode": "namespace", "namespace": "redtap-no-such", "process_id": 1})


def test_cli_inside_the_namespace_already_stays_there() -> None:
    _move_beside({"mode": "rootless", "namespace": "", "process_id": os.getpid()})


def test_cli_without_redis_cli_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tmp_path / "c.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    with answering(path, {STATUS: b"*2\r\n+mode\r\n+namespace\r\n"}):
        said = complaint(capsys, "cli", "--control", path, "get", "a", status=1)
    assert said == "redtap: redis-cli: not installed: apt-get install redis-tools"


def test_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "appliance", "--help"]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_building_ends_before_anything_runs(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Between the last step of building and the first task there is no moment in which it would be lost."""
    kernel, directory = FakeKernel(), str(tmp_path / "run")

    def build_and_be_told(settings: Settings, rootless: bool) -> BuiltTopology:
        built = build(Topology("ns", "tap", "10.77.0.1/24"), kernel=kernel, run_directory=directory)
        signal.raise_signal(number)
        return built

    monkeypatch.setattr(serve_module, "_build_for_exec", build_and_be_told)
    monkeypatch.setattr(children, "end_leftovers", lambda _: 0)
    try:
        status = run(["exec", "--control", str(tmp_path / "c.sock"), "touch", str(tmp_path / "ran")])
    except SystemExit as exc:  # what `python -m appliance` ends with
        status = exc.code  # type: ignore[assignment]
    assert status == 128 + number
    assert not (tmp_path / "ran").exists()
    assert kernel.namespaces == {}
    assert not os.path.exists(directory)


@pytest.mark.parametrize(
    "arguments",
    [("exec", "--rootless", "true"), ("serve", "--link", "tap:rt-none", "--address", "10.7.0.2/24")],
)
def test_start_of_an_ordinary_user_that_is_refused_leaves_no_directory(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        assert os.stat(base).st_mode & 0o777 == 0o700
        raise HostError("not possible here")

    base = f"/tmp/redtap-test-{os.getpid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", base)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(rootless, "enter", refuse)
    monkeypatch.setattr(serve_module, "_build_for_serve", refuse)
    assert complaint(capsys, *arguments, status=1) == "redtap: not possible here"
    assert not os.path.exists(base)
