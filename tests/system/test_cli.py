"""`redtap serve` and `redtap exec` as processes: what they print, how they end, and that nothing stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.links import DEVICE
from tests.support.machine import (
    NOBODY_ID,
    PATIENCE_S,
    environment,
    fresh_name,
    host_links,
    namespaces,
    network_namespace,
    read_line,
    records,
    redtap,
    running,
    sh,
    wait_until,
)

pytestmark = pytest.mark.system


def assert_nothing_left(name: str) -> None:
    assert namespaces(name) == []
    assert records(name) == []


@pytest.mark.usefixtures("own_host")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_is_ready_answers_and_leaves_nothing(number: signal.Signals) -> None:
    name, links = fresh_name(), host_links()
    with running("serve", "--netns", name) as appliance:
        assert appliance.ready.startswith(f"redtap: ready on 10.77.0.2:6379, in namespace {name}, ")
        assert "compiled build" in appliance.ready or "pure build" in appliance.ready
        assert host_links() == links
        assert redtap("cli", "--netns", name, "set", "a", "1").stdout == "OK\n"
        assert redtap("cli", "--netns", name, "-n", "0", "get", "a").stdout == "1\n"
        status = json.loads(redtap("status", "--netns", name, "--json").stdout)
        assert (status["namespace"], status["mode"], status["tap"]) == (name, "namespace", DEVICE)
        assert status["process_id"] == appliance.process.pid
        code, _ = appliance.end(number)
        assert code == 0
    assert_nothing_left(name)
    assert host_links() == links


def test_serve_in_the_background_of_a_script_ends_by_sigterm_alone() -> None:
    # `nohup redtap serve &` there: the shell has SIGINT and SIGQUIT ignored, nohup SIGHUP.
    name = fresh_name()
    script = 'trap "" HUP INT QUIT; exec "$@"'
    with running("serve", "--netns", name, prefix=("sh", "-c", script, "sh")) as appliance:
        for number in (signal.SIGHUP, signal.SIGQUIT):
            appliance.process.send_signal(number)
        assert redtap("cli", "--netns", name, "ping").stdout == "PONG\n"
        code, _ = appliance.end(signal.SIGTERM)
        assert code == 0
    assert_nothing_left(name)


def test_serve_settings_reach_the_appliance(tmp_path: Path) -> None:
    name = fresh_name()
    file = tmp_path / "redtap.toml"
    file.write_text('address = "10.91.0.2/24"\nclient-address = "10.91.0.1/24"\nport = 1\n')
    arguments = (
        "--netns",
        name,
        "--config",
        str(file),
        "--port",
        "7000",
        "--mtu",
        "1300",
        "--databases",
        "3",
    )
    with running("serve", *arguments, "--mac", "02:00:00:00:00:09", "--requirepass", "secret") as appliance:
        assert appliance.ready.startswith("redtap: ready on 10.91.0.2:7000, ")
        status = json.loads(redtap("status", "--netns", name, "--json").stdout)
        assert (status["mtu"], status["mac"]) == (1300, "02:00:00:00:00:09")
        assert "NOAUTH" in redtap("cli", "--netns", name, "get", "a").stdout
        assert (
            redtap("cli", "--netns", name, "-a", "secret", "--no-auth-warning", "select", "2").stdout
            == "OK\n"
        )
        assert "out of range" in redtap("cli", "--netns", name, "-a", "secret", "select", "3").stdout


def test_serve_twice_under_one_name_is_one_line_and_disturbs_nobody() -> None:
    name = fresh_name()
    with running("serve", "--netns", name) as appliance:
        second = redtap("serve", "--netns", name)
        assert second.returncode == 1
        assert second.stderr == (
            f"redtap: the name {name} is in use by a running redtap (pid {appliance.process.pid}): "
            "stop it, or choose another --netns\n"
        )
        assert redtap("cli", "--netns", name, "ping").stdout == "PONG\n"
    assert_nothing_left(name)


# With a /run of its own, so that no other redtap of this machine is quicker in cleaning up.
KILLED_ONCE = """
mount --make-rprivate /
mount -t tmpfs none /run
"$@" >/run/first &
until grep -q ready /run/first; do sleep 0.01; done
kill -KILL $!
wait $! || true
test -e /run/netns/"$NAME"
exec "$@"
"""


def test_serve_after_a_kill_starts_again_and_says_what_it_removed() -> None:
    name = fresh_name()
    prefix = ("unshare", "-m", "env", f"NAME={name}", "sh", "-ec", KILLED_ONCE, "sh")
    with running("serve", "--netns", name, prefix=prefix) as again:
        assert again.ready.startswith(f"redtap: ready on 10.77.0.2:6379, in namespace {name}, ")
        code, err = again.end()
    assert code == 0
    assert f"redtap: removed namespace {name}, left behind by a redtap that died (pid " in err


@pytest.mark.links("tap", reason="what `netns up` keeps is a TAP")
def test_serve_in_a_kept_namespace_leaves_it_standing() -> None:
    name = fresh_name()
    assert redtap("netns", "up", "--netns", name).returncode == 0
    try:
        for _ in range(2):
            with running("serve", "--netns", name):
                assert redtap("cli", "--netns", name, "ping").stdout == "PONG\n"
        shown = json.loads(redtap("netns", "show", "--json").stdout)
        assert [entry["state"] for entry in shown if entry["name"] == name] == ["kept"]
    finally:
        assert redtap("netns", "down", "--netns", name).stdout == f"removed namespace {name}\n"
    assert_nothing_left(name)


def test_conns_and_top_show_a_client() -> None:
    name = fresh_name()
    with running("serve", "--netns", name):
        client = subprocess.Popen(
            ["ip", "netns", "exec", name, "redis-cli", "-h", "10.77.0.2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write("ping\n")
            client.stdin.flush()
            assert client.stdout.readline() == "PONG\n"
            (connection,) = json.loads(redtap("conns", "--netns", name, "--json").stdout)
            assert connection["state"] == "ESTABLISHED"
            assert connection["remote"].startswith("10.77.0.1:")
            assert "ESTABLISHED" in redtap("conns", "--netns", name).stdout
            top = redtap("top", "--netns", name, "--count", "1").stdout
            assert connection["remote"] in top
            client.stdin.close()


def test_exec_gives_the_environment_and_the_status() -> None:
    script = 'redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT" ping; redis-cli -u "$REDIS_URL" set a 1; exit 7'
    done = redtap("exec", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (7, "PONG\nOK\n", "")


def test_exec_passes_standard_input_and_output_through() -> None:
    done = redtap("exec", "cat", stdin="hello\n")
    assert (done.returncode, done.stdout) == (0, "hello\n")


@pytest.mark.usefixtures("own_host")
def test_exec_leaves_nothing_not_even_what_the_command_left_running() -> None:
    links = host_links()
    script = "sleep 1000 & echo $!; echo $PPID"
    done = redtap("exec", "--", "sh", "-c", script)
    sleeper, owner = done.stdout.split()
    assert done.returncode == 0
    assert done.stderr == "redtap: ended 1 process that sh had left running\n"
    assert not os.path.exists(f"/proc/{sleeper}") or "Z" in Path(f"/proc/{sleeper}/stat").read_text().split()
    assert_nothing_left(f"redtap-{owner}-")
    assert host_links() == links


def test_exec_twice_at_once_have_names_of_their_own() -> None:
    script = 'echo $PPID; read line; exec redis-cli -h "$REDIS_HOST" get a'
    command = [sys.executable, "-m", "appliance", "exec", "--", "sh", "-c", script]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen(command, env=environment(), **options) as one,  # type: ignore[call-overload]
        subprocess.Popen(command, env=environment(), **options) as two,  # type: ignore[call-overload]
    ):
        owners = [read_line(one), read_line(two)]
        assert owners == [str(one.pid), str(two.pid)]
        assert [len(namespaces(f"redtap-{owner}-")) for owner in owners] == [1, 1]
        for process in (one, two):
            assert process.communicate("\n", timeout=PATIENCE_S) == ("\n", "")
    for owner in owners:
        assert_nothing_left(f"redtap-{owner}-")


@pytest.mark.parametrize(
    ("number", "trap", "status"),
    [
        (signal.SIGTERM, "", 143),
        (signal.SIGTERM, "trap 'exit 5' TERM;", 5),
        (signal.SIGINT, "trap 'exit 6' INT;", 6),
        (signal.SIGHUP, "trap 'exit 7' HUP;", 7),
        (signal.SIGUSR1, "trap 'exit 8' USR1;", 8),
    ],
)
def test_exec_forwards_signals_and_ends_with_the_command(number: int, trap: str, status: int) -> None:
    script = f"{trap} echo ready; while :; do sleep 0.01; done"
    with running("exec", "--", "sh", "-c", script) as appliance:
        assert appliance.ready == "ready"
        code, err = appliance.end(number)
        assert code == status
        assert "Traceback" not in err
    assert_nothing_left(f"redtap-{appliance.process.pid}-")


# Prints its parent, then the name and the sender (0 is the terminal) of two signals.
TELLER = """
import os, signal
wanted = {signal.SIGINT, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("parent", os.getppid(), "ready", flush=True)
for _ in range(2):
    info = signal.sigwaitinfo(wanted)
    print(signal.Signals(info.si_signo).name, "from", info.si_pid, "seen", flush=True)
if signal.sigtimedwait({signal.SIGINT}, 0.2):
    print("SIGINT again", flush=True)
print("end", flush=True)
"""


def test_exec_ctrl_c_reaches_the_command_once() -> None:
    """The terminal sends SIGINT to the whole foreground group; passing it on as well would make it two.

    SIGUSR1 goes to redtap afterwards and is passed on; a second SIGINT would come with it.
    """
    controller, terminal = os.openpty()
    tell = [sys.executable, "-c", TELLER]
    command = ["setsid", "--ctty", "--wait", sys.executable, "-m", "appliance", "exec", "--", *tell]
    with subprocess.Popen(
        command, env=environment(), stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        with open(controller, "r+b", buffering=0) as keyboard:
            seen = keyboard.read(1024)
            while b"ready" not in seen:
                seen += keyboard.read(1024)
            parent = int(seen.split()[1])
            # Stopped meanwhile: a SIGINT passed on at once could melt into the one the terminal sends.
            os.kill(parent, signal.SIGSTOP)
            wait_until(lambda: b") T " in Path(f"/proc/{parent}/stat").read_bytes(), "redtap to be stopped")
            keyboard.write(b"\x03")
            while b"seen" not in seen:
                seen += keyboard.read(1024)
            os.kill(parent, signal.SIGUSR1)
            os.kill(parent, signal.SIGCONT)
            while b"end" not in seen:
                seen += keyboard.read(1024)
            process.wait(PATIENCE_S)
    assert f"SIGUSR1 from {parent} seen".encode() in seen
    assert seen.count(b"SIGINT") == 1
    assert process.returncode == 0


def test_exec_command_ended_by_a_signal_gives_128_and_its_number() -> None:
    assert redtap("exec", "--", "sh", "-c", "kill -KILL $$").returncode == 137


def test_exec_command_that_cannot_run_is_one_line_and_a_shells_status() -> None:
    missing = redtap("exec", "no-such-program")
    assert (missing.returncode, missing.stderr) == (127, "redtap: no-such-program: no such command\n")
    refused = redtap("exec", "/dev/null")
    assert (refused.returncode, refused.stderr) == (126, "redtap: /dev/null: may not be run\n")


def test_exec_command_that_shuts_its_appliance_down_keeps_its_status() -> None:
    script = 'redis-cli -h "$REDIS_HOST" shutdown nosave; exit 3'
    assert redtap("exec", "--", "sh", "-c", script).returncode == 3


def test_exec_command_finds_its_appliance_by_status_and_cli() -> None:
    script = f"{sys.executable} -m appliance status --json; {sys.executable} -m appliance cli ping"
    done = redtap("exec", "--", "sh", "-c", script)
    status, pong = done.stdout.splitlines()
    assert json.loads(status)["name"].startswith("redtap-")
    assert pong == "PONG"


def test_exec_killed_is_cleaned_up_after_by_the_next_start() -> None:
    with running("exec", "--", "sh", "-c", "echo $$; exec sleep 1000") as appliance:
        pid = appliance.process.pid
        appliance.process.kill()
        appliance.process.wait()
    os.kill(int(appliance.ready), signal.SIGKILL)
    # Whichever redtap starts next sweeps; this one at the latest.
    assert redtap("exec", "true").returncode == 0
    assert_nothing_left(f"redtap-{pid}-")


def test_namespace_of_somebody_else_is_refused_in_one_line() -> None:
    with network_namespace() as name:
        done = redtap("serve", "--netns", name)
        assert done.returncode == 1
        assert done.stderr == (
            f"redtap: namespace {name} exists and is not redtap's: "
            f"choose another --netns, or remove it: ip netns del {name}\n"
        )
        assert records(name) == []


def test_capture_holds_the_session(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    done = redtap(
        "exec", "--capture", str(path), "--", "sh", "-c", 'redis-cli -h "$REDIS_HOST" set hello world'
    )
    assert done.returncode == 0, done.stderr
    data = path.read_bytes()
    assert data[:4] == b"\x0a\x0d\x0d\x0a"  # section header block
    assert b"hello" in data


# Rights


def test_serve_without_capabilities_is_one_line(nobody: tuple[str, ...]) -> None:
    done = redtap("serve", "--netns", fresh_name(), prefix=nobody)
    assert done.returncode == 1
    assert done.stderr.startswith("redtap: missing CAP_NET_ADMIN and CAP_SYS_ADMIN: run it as root")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("lost", "named"),
    [("net_admin", "missing CAP_NET_ADMIN:"), ("sys_admin", "missing CAP_SYS_ADMIN:")],
)
def test_serve_without_one_capability_names_it(lost: str, named: str) -> None:
    done = redtap("serve", "--netns", fresh_name(), prefix=("setpriv", f"--bounding-set=-{lost}"))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert named in done.stderr


_ROOTLESS = pytest.mark.links("tap", "tun", "packet", reason="bpf(2) wants more than a user namespace gives")

# A mount namespace of its own, with another /dev/net/tun: the machine's is never touched.
OPEN_DEVICE = """
mount --make-rprivate /
mount -t tmpfs none /mnt
mknod -m {mode} /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
exec "$@"
"""


def with_device(mode: str) -> tuple[str, ...]:
    return ("unshare", "-m", "sh", "-ec", OPEN_DEVICE.format(mode=mode), "sh")


@pytest.mark.links("tap", "tun", reason="a socket on a veth pair needs no /dev/net/tun")
def test_serve_without_the_device_is_one_line() -> None:
    script = 'mount --make-rprivate /; mount -t tmpfs none /dev/net; exec "$@"'
    done = redtap("serve", "--netns", fresh_name(), prefix=("unshare", "-m", "sh", "-ec", script, "sh"))
    assert (done.returncode, done.stderr) == (
        1,
        "redtap: /dev/net/tun: missing: modprobe tun, or give a container --device /dev/net/tun\n",
    )


@pytest.mark.usefixtures("own_host")
@_ROOTLESS
def test_rootless_runs_everything_as_an_ordinary_user(nobody: tuple[str, ...]) -> None:
    links = host_links()
    script = 'ip -br addr show redtap0; redis-cli -h "$REDIS_HOST" ping; ls "$REDTAP_CONTROL_SOCKET"; exit 9'
    done = redtap("exec", "--rootless", "--", "sh", "-c", script, prefix=(*with_device("0666"), *nobody))
    assert done.returncode == 9, done.stderr
    address, pong, control = done.stdout.splitlines()
    assert "10.77.0.1/24" in address
    assert pong == "PONG"
    assert not os.path.exists(control)
    assert not os.path.exists(f"/tmp/redtap-{NOBODY_ID}")
    assert host_links() == links
    assert done.stderr == ""


@_ROOTLESS
def test_rootless_cli_enters_from_outside(nobody: tuple[str, ...], tmp_path: Path) -> None:
    control = f"/tmp/{fresh_name()}.sock"
    arguments = ("exec", "--rootless", "--control", control, "--", "sh", "-c", "echo ready; exec sleep 1000")
    with running(*arguments, prefix=(*with_device("0666"), *nobody)) as appliance:
        assert redtap("cli", "--control", control, "ping", prefix=nobody).stdout == "PONG\n"
        assert appliance.end()[0] == 143
    assert not os.path.exists(control)


@pytest.mark.links("tap", "tun", reason="a socket on a veth pair needs no /dev/net/tun")
def test_rootless_without_the_device_says_which_of_the_two_is_missing(nobody: tuple[str, ...]) -> None:
    done = redtap("exec", "--rootless", "true", prefix=(*with_device("0600"), *nobody))
    assert done.returncode == 1
    assert done.stderr == (
        f"redtap: rootless is not possible here: /dev/net/tun: user {NOBODY_ID} may not open it "
        "(as root: modprobe tun; chmod 0666 /dev/net/tun)\n"
    )
    assert not os.path.exists(f"/tmp/redtap-{NOBODY_ID}")


@_ROOTLESS
def test_rootless_without_user_namespaces_says_which_of_the_two_is_missing() -> None:
    """A limit of 0 in a user namespace of the test's own, which holds for everybody below it."""
    limit = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    inner = ("unshare", "--user", "--map-root-user", "sh", "-ec", limit, "sh")
    done = redtap("exec", "--rootless", "true", prefix=(*with_device("0666"), *inner))
    assert done.returncode == 1
    assert done.stderr == (
        "redtap: rootless is not possible here: user namespaces: not allowed to this user "
        "(sysctl user.max_user_namespaces is 0)\n"
    )


def test_bad_flag_of_serve_touches_nothing() -> None:
    name = fresh_name()
    done = redtap("serve", "--netns", name, "--mtu", "9")
    assert (done.returncode, done.stderr) == (2, "redtap: --mtu: '9' is out of range; takes 576 to 65521\n")
    assert_nothing_left(name)
    assert sh("ip netns list").count(name) == 0
