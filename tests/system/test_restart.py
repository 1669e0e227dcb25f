"""DEBUG RESTART and what crashes, as authors of clients use them: the server goes away, and what does a client do?"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry

from appliance.cli.control_client import ControlClient
from appliance.errors import HostError
from tests.support.links import ETHERNET
from tests.support.machine import (
    PATIENCE_S,
    environment,
    fresh_name,
    host_links,
    namespaces,
    records,
    redtap,
    running,
    sh,
)
from tests.support.running import (
    ADDRESS,
    PORT,
    RunningAppliance,
    ask,
    receive_to_end,
    request,
    running_appliance,
    until,
)
from tests.system.test_takeover import pair, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["pair"]

pytestmark = pytest.mark.system

DEBUG = ("--enable-debug-command", "yes")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[RunningAppliance]:
    """An appliance that may be restarted; what it has logged is looked at by the tests."""
    appliance = RunningAppliance.start(tmp_path, *DEBUG)
    try:
        yield appliance
        assert appliance.stop() == 0, appliance.log.read_text()
        appliance.assert_nothing_left()
        log = appliance.log.read_text()
        assert "Traceback" not in log
        assert "[error" not in log
    finally:
        appliance.discard()


def client(**options: Any) -> Any:
    """redis-py that tries again for as long as a test may take, and says what it met."""
    retry = Retry(ConstantBackoff(0.02), int(PATIENCE_S / 0.02))
    errors = [redis.ConnectionError, redis.TimeoutError]
    return redis.Redis(
        ADDRESS, PORT, socket_timeout=PATIENCE_S, retry=retry, retry_on_error=errors, **options
    )


def impatient() -> Any:
    """redis-py that tries once: by itself it would ask for another restart."""
    return redis.Redis(ADDRESS, PORT, socket_timeout=PATIENCE_S, retry=Retry(NoBackoff(), 0))


def end_by(connection: Any, *words: str) -> str:
    """Send what is never answered; what the client sees."""
    with pytest.raises(redis.ConnectionError) as caught:
        connection.execute_command("DEBUG", *words)
    return str(caught.value)


def run_id(connection: Any) -> str:
    return str(connection.info("server")["run_id"])


@pytest.mark.parametrize("how", ["RESTART", "CRASH-AND-RECOVER"])
@pytest.mark.parametrize("delay_ms", [0, 300])
def test_redis_py_reconnects_after_a_restart(served: RunningAppliance, how: str, delay_ms: int) -> None:
    def use() -> None:
        plain = impatient()
        plain.set("k", 1)
        with client() as steady:
            before = run_id(steady)
            seen = end_by(plain, how, str(delay_ms))
            assert ("closed by server" in seen) == (how == "RESTART"), seen
            # The connection that it had is gone; what it asks is answered all the same, by the next server.
            assert steady.get("k") is None
            assert run_id(steady) != before
            assert steady.incr("k") == 1
        plain.close()

    served.inside(use)
    pid = served.process.pid
    status = served.control_map("REDTAP", "STATUS")
    assert status["process_id"] == pid  # the same process, as of redis-server's
    until(lambda: "ready again on 10.77.0.2:6379" in served.log.read_text())
    assert f"DEBUG {how}" in served.log.read_text()


def test_who_waits_and_who_listens_is_told(served: RunningAppliance) -> None:
    """A client that waits for a list, a subscriber, and one in the midst of a transaction."""

    def use() -> None:
        seen: dict[str, object] = {}

        def wait(name: str, action: Callable[[Any], object]) -> None:
            connection = impatient()
            try:
                seen[name] = action(connection)
            except redis.ConnectionError as error:
                seen[name] = error
            connection.close()

        def listen(connection: Any) -> object:
            subscriber = connection.pubsub()
            subscriber.subscribe("c")
            assert subscriber.get_message(timeout=PATIENCE_S)["type"] == "subscribe"
            return subscriber.connection.read_response()

        threads = [
            threading.Thread(target=served.inside, args=(lambda: wait("blpop", lambda c: c.blpop("q")),)),
            threading.Thread(target=served.inside, args=(lambda: wait("listen", listen),)),
        ]
        for thread in threads:
            thread.start()
        with client() as steady:
            until(lambda: steady.info("clients")["blocked_clients"] == 1)
            until(lambda: steady.pubsub_numsub("c") == [(b"c", 1)])
            end_by(impatient(), "RESTART")
            for thread in threads:
                thread.join(PATIENCE_S)
            assert {name: type(value) for name, value in seen.items()} == {
                "blpop": redis.ConnectionError,
                "listen": redis.ConnectionError,
            }
            assert steady.info("clients")["blocked_clients"] == 0

    served.inside(use)


def test_many_restarts_under_load(served: RunningAppliance) -> None:
    """Clients that write all the time lose what was under way, and nothing else."""
    stop = threading.Event()
    counts = [0, 0]

    def load(at: int) -> None:
        with client() as steady:
            while not stop.is_set():
                pipe = steady.pipeline(transaction=True)
                pipe.incr("n").get("n")
                first, second = pipe.execute()
                assert first == int(second)
                counts[at] += 1

    threads = [
        threading.Thread(target=served.inside, args=(lambda at=at: load(at),))  # type: ignore[misc]
        for at in range(len(counts))
    ]
    for thread in threads:
        thread.start()
    try:
        for turn in range(10):
            before = counts[:]
            until(lambda before=before: all(a > b + 5 for a, b in zip(counts, before, strict=True)))  # type: ignore[misc]
            how = ("RESTART", "CRASH-AND-RECOVER")[turn % 2]
            served.inside(lambda how=how: end_by(impatient(), how))  # type: ignore[misc]
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
    served.ping()


def test_a_restart_writes_redis_conf_and_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "redis.conf"
    file.write_text("# mine\nenable-debug-command yes\nmaxmemory 64mb\nport 7001\n")
    with running_appliance(tmp_path, str(file), "--timeout", "77") as appliance:
        appliance.port = 7001
        for how, expected in (("RESTART", b"128"), ("CRASH-AND-RECOVER", b"128")):
            with appliance.connect() as connection:
                size = b"%dmb" % (128 if how == "RESTART" else 256)
                ask(connection, request("CONFIG", "SET", "maxmemory", size), b"+OK\r\n")
                connection.sendall(request("DEBUG", how))
                _ended(connection)
            until(lambda: _serves(appliance))
            # A crash writes nothing, so what was set is lost.
            with appliance.connect() as connection:
                value = b"%d" % (int(expected) << 20)
                ask(
                    connection,
                    request("CONFIG", "GET", "maxmemory", "timeout"),
                    b"*4\r\n$9\r\nmaxmemory\r\n$9\r\n%b\r\n$7\r\ntimeout\r\n$2\r\n77\r\n" % value,
                )
        assert file.read_text().startswith("# mine\nenable-debug-command yes\nmaxmemory 128mb\nport 7001\n")
        # The fixture wants a log without warnings, and there is one for each restart.
        log = appliance.log.read_text()
        assert log.count("restarting") == 2
        appliance.log.write_text(log.replace("[warning", "[notice"))


def _ended(connection: Any) -> None:
    try:
        assert receive_to_end(connection) == b""
    except ConnectionResetError:
        pass


def _serves(appliance: RunningAppliance) -> bool:
    try:
        appliance.ping()
    except OSError:
        return False
    return True


def test_a_redis_conf_that_is_wrong_by_now_ends_it_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "redis.conf"
    file.write_text("enable-debug-command yes\n")
    appliance = RunningAppliance.start(tmp_path, str(file))
    try:
        file.write_text("nosuch 1\n")
        with appliance.connect() as connection:
            connection.sendall(request("DEBUG", "CRASH-AND-RECOVER"))
            _ended(connection)
        assert appliance.wait() == 2
        appliance.assert_nothing_left()
        last = appliance.log.read_text().splitlines()[-1]
        assert last.startswith("redtap: ")
        assert "nosuch 1" in last
    finally:
        appliance.discard()


@pytest.mark.usefixtures("own_host")
@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("SEGFAULT", signal.SIGSEGV),
        ("PANIC", signal.SIGABRT),
        ("OOM", signal.SIGABRT),
        ("ASSERT", signal.SIGABRT),
    ],
)
def test_what_crashes_dies_by_the_signal_of_redis_server_and_leaves_nothing(
    tmp_path: Path, how: str, number: signal.Signals
) -> None:
    links = host_links()
    before = sorted(path.name for path in tmp_path.iterdir())
    appliance = RunningAppliance.start(tmp_path, *DEBUG)
    try:
        bystander = appliance.connect()
        ask(bystander, request("SET", "k", 1), b"+OK\r\n")
        seen = appliance.inside(lambda: end_by(impatient(), how))
        assert "reset" in seen
        with pytest.raises(ConnectionResetError):
            bystander.recv(1)
        bystander.close()
        assert appliance.wait() == -number
        appliance.assert_nothing_left()
        assert namespaces(appliance.namespace) == []
        assert records(appliance.namespace) == []
        assert host_links() == links
        left = {path.name for path in tmp_path.iterdir()} - {appliance.log.name}
        assert sorted(left) == before
        lines = appliance.log.read_text().splitlines()
        assert f"command='DEBUG {how}'" in lines[0]
        assert number.name in lines[0]
        assert lines[-1].startswith(f"redtap: ended by DEBUG {how} of 10.77.0.1:")
    finally:
        appliance.discard()


def test_the_first_process_of_a_container_restarts_and_dies_too(tmp_path: Path) -> None:
    """PID 1: no signal of its own kills it, and the status says the same as that of one that was killed."""
    name, control = fresh_name("pid1"), str(tmp_path / "control.sock")
    words = ("serve", "--netns", name, "--control", control, *DEBUG)
    with running(*words, prefix=("unshare", "--pid", "--fork", "--mount-proc")) as appliance:
        # Its namespaces are named in a mount namespace of its own; the file of the control socket is for all.
        with ControlClient(control, PATIENCE_S) as one:
            assert one.ask_map("REDTAP", "STATUS")["process_id"] == 1
            assert one.ask("SET", "k", "1") == "OK"
            with pytest.raises(HostError):
                one.ask("DEBUG", "RESTART")
        with ControlClient(control, PATIENCE_S) as one:
            assert one.ask("EXISTS", "k") == 0
            with pytest.raises(HostError):
                one.ask("DEBUG", "SEGFAULT")
        _, errors = appliance.process.communicate(timeout=PATIENCE_S)
        assert appliance.process.returncode == 128 + signal.SIGSEGV
        assert "ended by DEBUG SEGFAULT of" in errors
    assert namespaces(name) == []
    assert records(name) == []


@pytest.mark.parametrize("how", ["restart", "segfault"])
def test_a_command_of_exec_outlives_its_server(how: str) -> None:
    """As tests of a client run: the namespace stays theirs, and the status is the command's."""
    script = (
        f'redis-cli -h "$REDIS_HOST" set k 1; redis-cli -h "$REDIS_HOST" debug {how}; '
        'for _ in 1 2 3 4 5 6 7 8 9; do redis-cli -h "$REDIS_HOST" exists k && break; sleep 0.1; done; exit 7'
    )
    name = fresh_name("exec")
    environ = ("env", "REDTAP_ENABLE_DEBUG_COMMAND=yes")
    done = redtap("exec", "--netns", name, "--", "sh", "-c", script, prefix=environ)
    lines = done.stdout.split()
    if how == "restart":
        assert (done.returncode, lines[0], lines[-1]) == (7, "OK", "0"), done
    else:
        assert done.returncode == 7 or done.returncode > 128, done  # it is given two seconds, then ended
        assert lines[0] == "OK"
        assert "redtap: ended by DEBUG SEGFAULT of" in done.stderr
    assert namespaces(name) == records(name) == []


@pytest.mark.links(*ETHERNET, reason="a TUN has no address of Ethernet's to take over")
def test_an_address_that_was_taken_over_is_kept_in_a_restart_and_given_back_after_a_crash(
    pair: tuple[str, str],
) -> None:
    container, sibling = pair
    before = picture(container)
    name = fresh_name("t")
    prefix = ("ip", "netns", "exec", container)
    with running("serve", "--takeover", "eth0", "--netns", name, *DEBUG, prefix=prefix) as appliance:
        cli = f"ip netns exec {sibling} redis-cli -h 172.30.0.2"
        neighbour = sh(f"{cli} set a 1; ip -n {sibling} neigh show 172.30.0.2").split()[5]
        assert "refused" in sh(f"{cli} debug restart 500 2>&1 || true; {cli} ping 2>&1 || true")
        until(lambda: "PONG" in sh(f"{cli} ping 2>&1 || true"))
        assert sh(f"{cli} exists a").strip() == "0"
        assert neighbour in sh(f"ip -n {sibling} neigh show 172.30.0.2")
        sh(f"{cli} debug panic 2>&1 || true")
        assert appliance.process.wait(PATIENCE_S) == -signal.SIGABRT
    assert picture(container) == before


def test_a_live_view_goes_on_after_a_restart(served: RunningAppliance) -> None:
    command = [
        sys.executable, "-m", "appliance", "top", "--control", served.control_path, "--count", "3", "--interval", "0.5",
    ]  # fmt: skip
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as top:
        until(
            lambda: served.control("INFO", "clients") != "" and _clients_of(served) > 1,
            what="it has connected",
        )
        served.inside(lambda: end_by(impatient(), "RESTART"))
        out, errors = top.communicate(timeout=PATIENCE_S)
    assert (top.returncode, errors) == (0, b"")
    assert b"redtap" in out


def _clients_of(appliance: RunningAppliance) -> int:
    reply = appliance.control("CLIENT", "LIST")
    assert isinstance(reply, str)
    return reply.count("addr=control:0")
