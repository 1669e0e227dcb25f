"""The image and compose.yaml on a real container engine: a sibling container reaches our stack by name.

Everything here goes by the `docker` command, as a user does it. The project has a name of its own, so that a
compose project that a developer has up is left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
NET_ADMIN = 1 << 12  # capabilities(7)
NET_RAW = 1 << 13


class Compose:
    """`docker compose` for one project, and what is left of that project on the engine."""

    def __init__(self, project: str, file: str = "compose.yaml") -> None:
        self.project = project
        self.file = file

    def run(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("docker", "compose", "--file", self.file, "--project-name", self.project),
                *("--progress", "plain", *arguments),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def __call__(self, *arguments: str, timeout: float = 300) -> str:
        """Standard output of a command that must succeed."""
        done = self.run(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def cli(self, *command: str, timeout: float = 300) -> str:
        """What a command prints in the sibling container."""
        return self("run", "--rm", "-T", "cli", *command, timeout=timeout)

    def inspect(self, form: str) -> str:
        """One property of the appliance's container, running or not."""
        container = self("ps", "--all", "--quiet", "appliance")
        return docker("inspect", "--format", form, container)

    def left_over(self) -> dict[str, str]:
        label = f"label=com.docker.compose.project={self.project}"
        found = {
            "containers": docker("ps", "--all", "--quiet", "--filter", label),
            "networks": docker("network", "ls", "--quiet", "--filter", label),
            "volumes": docker("volume", "ls", "--quiet", "--filter", label),
            "images": docker("images", "--quiet", f"{self.project}-*"),
        }
        return {kind: ids for kind, ids in found.items() if ids}

    def remove(self) -> None:
        self("--profile", "cli", "down", "--volumes", "--remove-orphans", "--rmi", "local")


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.strip()


def _why_no_engine() -> str | None:
    if shutil.which("docker") is None:
        return "the docker command is not installed"
    try:
        docker("version", "--format", "{{.Server.Version}}")
        docker("compose", "version")
    except subprocess.SubprocessError:
        return "no container engine with compose answers"
    return None


@pytest.fixture(scope="module", params=["compose.yaml", "compose.packet.yaml"])
def compose(request: pytest.FixtureRequest) -> Iterator[Compose]:
    """The project, built and up; whatever happens in the tests, it is taken away again."""
    reason = _why_no_engine()
    if reason is not None:
        if os.environ.get("REDTAP_REQUIRE_ENGINE"):
            pytest.fail(reason)
        pytest.skip(reason)
    kind = request.param.split(".")[1]
    compose = Compose(f"redtap-test-{kind}-{os.getpid()}", request.param)
    try:
        compose("--profile", "cli", "build", timeout=1200)
        up = compose.run("up", "--detach", "--wait", "--wait-timeout", "300")
        assert up.returncode == 0, f"{up.stderr}\n{compose('logs', '--no-color')}"
        yield compose
    finally:
        compose.remove()


def test_up_appliance_is_healthy(compose: Compose) -> None:
    assert compose.inspect("{{.State.Health.Status}}") == "healthy"


def test_image_runs_the_compiled_build(compose: Compose) -> None:
    assert "compiled" in compose("exec", "-T", "appliance", "redtap", "--version")


def test_appliance_has_a_user_of_its_own_and_the_capabilities_it_needs(compose: Compose) -> None:
    status = compose("exec", "-T", "appliance", "cat", "/proc/1/status")
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in status.splitlines())}
    assert "0" not in fields["Uid"]
    assert "0" not in fields["Gid"]
    for capabilities in ("CapPrm", "CapEff", "CapBnd"):
        wanted = NET_ADMIN | NET_RAW if "packet" in compose.file else NET_ADMIN
        assert int(fields[capabilities][0], 16) == wanted, capabilities
    assert fields["NoNewPrivs"] == ["1"]


def test_sibling_pings_the_appliance_by_name(compose: Compose) -> None:
    assert compose.cli("redis-cli", "-h", "appliance", "ping") == "PONG"


def test_sibling_reads_what_another_sibling_wrote(compose: Compose) -> None:
    assert compose.cli("redis-cli", "-h", "appliance", "set", "greeting", "hello") == "OK"
    assert compose.cli("redis-cli", "-h", "appliance", "get", "greeting") == "hello"


def test_sibling_benchmark_ends_without_an_error(compose: Compose) -> None:
    options = ["-h", "appliance", "-t", "ping,set,get,incr,mset", "-n", "20000", "-P", "16", "-q"]
    out = compose.cli("redis-benchmark", *options)
    assert "GET: " in out
    assert "rror" not in out


def test_large_value_comes_back_whole(compose: Compose) -> None:
    script = (
        "head -c 8388608 /dev/urandom >/tmp/in"
        " && redis-cli -h appliance -x set large </tmp/in >/dev/null"
        " && redis-cli -h appliance --raw get large | head -c 8388608 | cmp - /tmp/in && echo same"
    )
    assert compose.cli("sh", "-c", script) == "same"


def test_no_kernel_socket_carries_the_clients(compose: Compose) -> None:
    """The kernel of the appliance's container knows no TCP socket on port 6379 (0x18EB), nor any other."""
    table = compose("exec", "-T", "appliance", "cat", "/proc/net/tcp", "/proc/net/tcp6")
    assert not [line for line in table.splitlines() if ":18EB" in line]


def test_variant_without_a_tap_has_none(compose: Compose) -> None:
    links = compose("exec", "-T", "appliance", "ls", "/sys/class/net").split()
    device = compose("exec", "-T", "appliance", "sh", "-c", "test -e /dev/net/tun && echo there || echo none")
    if "packet" in compose.file:
        assert (sorted(links), device) == (["eth0", "lo"], "none")
    else:
        assert "redtap-tap" in links


def test_stop_is_graceful_and_down_leaves_nothing(compose: Compose) -> None:
    """Last in the file: it ends the project."""
    compose("stop", "appliance")
    assert compose.inspect("{{.State.ExitCode}}") == "0", compose("logs", "--no-color", "appliance")
    compose.remove()
    assert compose.left_over() == {}
