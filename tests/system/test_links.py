"""Every kind of link: the same appliance, the same clients, and a machine that is left as it was found."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from netns.build import build_bridge, build_veth
from netns.inside import inside
from netns.topology import BridgeTopology, Station, VethTopology
from tests.support import forged
from tests.support.machine import (
    NOBODY_ID,
    environment,
    fresh_name,
    namespaces,
    records,
    redtap,
    running as serving,
    sh,
    wait_until,
)
from tests.support.running import (
    ADDRESS,
    PORT,
    RunningAppliance,
    ask,
    needs_program,
    receive_exactly,
    request,
    running_appliance,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SERVE: Final = (sys.executable, "-m", "appliance", "serve")
_WITHOUT_CAPABILITIES: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
KINDS: Final = ("tun", "packet", "xdp")
SOCKET_KINDS: Final = ("packet", "xdp")
BULK_BYTES: Final = 8_000_000

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="needs /dev/net/tun"),
]


def assert_echo(address: str) -> None:
    """Whoever has the address answers an ICMP echo request (RFC 792)."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(60)
        head, body = struct.pack("!BBHHH", 8, 0, 0, 77, 1), bytes(1000)
        total = sum(struct.unpack(f"!{(len(head) + len(body)) // 2}H", head + body))
        total = (total & 0xFFFF) + (total >> 16)
        sock.sendto(head[:2] + struct.pack("!H", total ^ 0xFFFF) + head[4:] + body, (address, 0))
        while True:
            packet, (source, _) = sock.recvfrom(4096)
            if source == address and packet[20] == 0 and packet[28:] == body:
                return


@pytest.fixture(scope="module", params=KINDS)
def linked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningAppliance]:
    """An appliance on each kind of link that is made for it; it must leave nothing."""
    with running_appliance(tmp_path_factory.mktemp("link"), "--link", request.param) as running:
        yield running
        counters = running.counters()
        assert {name: counters[name] for name in counters if "checksum" in name or "malformed" in name} == {
            "dropped_bad_checksum": 0,
            "dropped_malformed": 0,
        }
        assert counters["link_frames_dropped"] == 0


@pytest.mark.skipif(needs_program("redis-cli") != "", reason=needs_program("redis-cli"))
def test_redis_cli_session(linked: RunningAppliance) -> None:
    commands = ["set k v", "get k", "rpush l a b c", "lrange l 0 -1", "hset h f 1", "incrby n 41", "strlen k"]
    script = "\n".join(commands)
    told = linked.run("sh", "-c", f"printf '{script}\n' | redis-cli -h {ADDRESS}")
    assert told.split() == ["OK", "v", "3", "a", "b", "c", "1", "41", "1"]


@pytest.mark.skipif(needs_program("redis-benchmark") != "", reason=needs_program("redis-benchmark"))
def test_redis_benchmark_list(linked: RunningAppliance) -> None:
    told = linked.run("redis-benchmark", "-h", ADDRESS, "-n", "500", "-c", "20", "-q", "-P", "4")
    lines = [line for line in told.replace("\r", "\n").splitlines() if "requests per second" in line]
    assert len({line.partition(":")[0] for line in lines}) >= 18
    assert "rror" not in told


def test_bulk_both_ways(linked: RunningAppliance) -> None:
    value = os.urandom(BULK_BYTES)
    with linked.connect() as client:
        ask(client, request("SET", "bulk", value), b"+OK\r\n")
        client.sendall(request("GET", "bulk"))
        head = b"$%d\r\n" % len(value)
        assert receive_exactly(client, len(head)) == head
        got = receive_exactly(client, len(value))
        assert hashlib.sha256(got).digest() == hashlib.sha256(value).digest()
        assert receive_exactly(client, 2) == b"\r\n"


def test_ping_and_refused_port(linked: RunningAppliance) -> None:
    linked.inside(lambda: assert_echo(ADDRESS))
    with pytest.raises(ConnectionRefusedError):
        linked.connect(port=1)


def test_redis_py_session(linked: RunningAppliance) -> None:
    def session() -> None:
        with redis.Redis(ADDRESS, PORT, socket_timeout=60, protocol=3) as client:
            with client.pipeline(transaction=False) as pipe:
                for number in range(2_000):
                    pipe.rpush("ordered", number)
                assert pipe.execute() == list(range(1, 2_001))
            assert client.lrange("ordered", 0, -1) == [b"%d" % number for number in range(2_000)]
            with client.pipeline() as pipe:
                pipe.set("n", 1)
                pipe.incr("n")
                assert pipe.execute() == [True, 2]
            with redis.Redis(ADDRESS, PORT, socket_timeout=60).pubsub() as heard:
                heard.subscribe("news")
                assert heard.get_message(timeout=60)["type"] == "subscribe"  # type: ignore[index]
                assert client.publish("news", b"x" * 100_000) == 1
                assert heard.get_message(timeout=60)["data"] == b"x" * 100_000  # type: ignore[index]
            waiting = threading.Thread(target=lambda: got.append(other.blpop(["later"], 60)))
            got: list[Any] = []
            other = redis.Redis(ADDRESS, PORT, socket_timeout=120)
            with other:
                other.ping()
                waiting.start()
                client.rpush("later", b"now")
                waiting.join(120)
            assert got == [(b"later", b"now")]

    linked.inside(session)


def test_deep_pipelines_of_many_clients_are_answered_in_order(linked: RunningAppliance) -> None:
    depth = 500
    clients = [linked.connect(timeout=60) for _ in range(20)]
    try:
        for number, client in enumerate(clients):
            client.sendall(b"".join(request("ECHO", f"{number}-{at}") for at in range(depth)))
        for number, client in enumerate(clients):
            words = [f"{number}-{at}" for at in range(depth)]
            expected = "".join(f"${len(word)}\r\n{word}\r\n" for word in words).encode()
            assert receive_exactly(client, len(expected)) == expected
    finally:
        for client in clients:
            client.close()


@pytest.mark.skipif(needs_program("tshark") != "", reason=needs_program("tshark"))
@pytest.mark.parametrize("kind", KINDS)
def test_capture_of_the_appliance_is_whole(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.pcapng"
    with running_appliance(tmp_path, "--link", kind, "--capture", str(path)) as running:
        with running.connect() as client:
            ask(client, request("SET", "a", b"x" * 50_000), b"+OK\r\n")
            ask(client, request("GET", "a"), b"$50000\r\n" + b"x" * 50_000 + b"\r\n")
        running.inside(lambda: assert_echo(ADDRESS))
        frames = running.counters()["frames_in"]
    rows = _checksums(path, f"ip.addr == {ADDRESS}")
    assert len(rows) > frames
    assert {row[1] for row in rows if row[1]} == {"1"}
    assert {row[2] for row in rows if row[2]} == {"1"}


# ---- on links that are there already


class Pair:
    """A veth pair; the kernel has .1 at the client's end and .2 at the server's, where ours will be .5."""

    def __init__(self, topology: VethTopology) -> None:
        self.client = topology.client_namespace
        self.server = topology.server_namespace
        self.link = topology.server_link
        self.peer = topology.client_link

    def state(self) -> Any:
        """All that is set on the server's link."""
        told = json.loads(sh(f"ip -n {self.server} -j -d addr show dev {self.link}"))[0]
        routes = sh(f"ip -n {self.server} -j route show")
        return {key: value for key, value in told.items() if not key.startswith("stats")}, routes

    @contextmanager
    def appliance(self, directory: Path, kind: str, *flags: str) -> Iterator[RunningAppliance]:
        flags = flags or ("--address", "10.78.0.5/24")
        running = RunningAppliance.start(
            directory, "--link", f"{kind}:{self.link}", *flags, place=self.server, clients=self.client
        )
        running.address = "10.78.0.2" if "--takeover" in flags else "10.78.0.5"
        try:
            yield running
            if running.process.poll() is None:
                assert running.stop() == 0, running.log.read_text()
            assert not os.path.exists(running.control_path)
        finally:
            running.discard()


@pytest.fixture
def pair() -> Iterator[Pair]:
    topology = VethTopology(fresh_name("lc"), fresh_name("ls"))
    with build_veth(topology):
        yield Pair(topology)


@pytest.mark.parametrize("kind", SOCKET_KINDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_given_address_shares_the_link_and_changes_nothing(
    pair: Pair, kind: str, number: int, tmp_path: Path
) -> None:
    before = pair.state()
    with pair.appliance(tmp_path, kind) as running:
        running.ping()
        running.inside(lambda: assert_echo("10.78.0.2"))  # the kernel beside us
        assert pair.state() != before  # promiscuous, and with a program
        assert running.stop(number) == 0
        running.assert_no_complaints()
    assert pair.state() == before


@pytest.mark.parametrize("kind", SOCKET_KINDS)
def test_neighbour_that_announces_another_mac_is_heard_by_us_and_by_the_kernel(
    pair: Pair, kind: str, tmp_path: Path
) -> None:
    """A gratuitous ARP request (RFC 5227 section 2.3) is no frame of ours, but concerns whoever knows the sender."""
    mac = bytes.fromhex("0200000000aa")
    address, capture = socket.inet_aton("10.78.0.1"), str(tmp_path / "c.pcapng")
    announcement = b"\0\1\x08\0\6\4\0\1" + mac + address + bytes(6) + address
    frame = forged.ethernet(b"\xff" * 6, mac, 0x0806, announcement + bytes(18))

    def announce() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((pair.peer, 0))
            sock.send(frame)

    with pair.appliance(tmp_path, kind, "--address", "10.78.0.5/24", "--capture", capture) as running:
        running.ping()
        running.inside(lambda: assert_echo("10.78.0.2"))  # the kernel knows the peer, too
        inside(pair.client, announce)
        until(lambda: [one["mac"] for one in running.neighbors()] == [mac.hex(":")], what="our cache")
        known = json.loads(sh(f"ip -n {pair.server} -j neigh show 10.78.0.1"))
        assert [one["lladdr"] for one in known] == [mac.hex(":")]
        assert running.stop() == 0
        running.assert_no_complaints()
    assert Path(capture).read_bytes().count(announcement) == 1


@pytest.mark.parametrize("kind", SOCKET_KINDS)
def test_address_of_the_kernel_is_refused(pair: Pair, kind: str, tmp_path: Path) -> None:
    with (
        pytest.raises(
            AssertionError, match=r"the kernel itself has 10\.78\.0\.2 on veth-server: add --takeover"
        ),
        pair.appliance(tmp_path, kind, "--address", "10.78.0.2/24"),
    ):
        pass


@pytest.mark.parametrize("kind", SOCKET_KINDS)
def test_takeover_killed_and_started_again_puts_everything_back(
    pair: Pair, kind: str, tmp_path: Path
) -> None:
    sh(f"ip -n {pair.server} route add default via 10.78.0.1")
    before = pair.state()
    with pair.appliance(tmp_path, kind, "--takeover", pair.link) as running:
        running.ping()
        assert json.loads(sh(f"ip -n {pair.server} -j addr show dev {pair.link}"))[0]["addr_info"] == []
        running.process.kill()
        running.wait()
        os.unlink(running.control_path)
    killed, _ = pair.state()
    assert "xdp" not in killed
    assert killed["promiscuity"] == 0
    with pair.appliance(tmp_path, kind, "--takeover", pair.link) as running:
        assert f"restored {pair.link}" in running.log.read_text()
        running.ping()
    assert pair.state() == before


# ---- killed


class Restarted:
    """One `serve` after another in the same place, with the same name and the same control socket."""

    def __init__(self, directory: Path, place: str | None, clients: str, address: str, *flags: str) -> None:
        self.place, self.clients, self.address = place, clients, address
        self.control_path = str(directory / "again.sock")
        self.log = directory / "again.log"
        self.flags = [*flags, "--control", self.control_path]

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it and wait for nothing."""
        with self.log.open("ab") as errors:
            return inside(
                self.place,
                lambda: subprocess.Popen(
                    [*_SERVE, *self.flags],
                    env=environment(),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                ),
            )

    def is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until it is ready or has ended."""
        assert process.stdout is not None
        return b"ready on" in process.stdout.readline()

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, whatever it is doing."""
        process.kill()
        process.communicate()

    def connect(self) -> socket.socket:
        """A client; it gives up soon, as servers are killed here."""
        return inside(self.clients, lambda: socket.create_connection((self.address, PORT), 60))

    def hammer(self, client: socket.socket) -> None:
        """Requests and replies of all sizes, until somebody ends it."""
        client.settimeout(0.5)
        asked = request("SET", "k", b"v" * 20_000) + request("GET", "k") + request("PING") * 20
        with contextlib.suppress(OSError):
            while True:
                client.sendall(asked)
                if not client.recv(1 << 20):
                    return


_MOMENTS: Final = ("start", "traffic", "stop", "start")


def _kill_at_many_moments(serve: Restarted, chance: random.Random, after_kill: Callable[[], None]) -> None:
    """Start it again and again and kill it somewhere between its first instruction and its last."""
    began = time.monotonic()
    process = serve.spawn()
    try:
        assert serve.is_ready(process), serve.log.read_text()
        a_start = time.monotonic() - began
        serve.kill(process)
        after_kill()
        for moment in _MOMENTS:
            process = serve.spawn()
            if moment == "start":
                time.sleep(chance.uniform(0.2, 1.0) * a_start)  # wherever it is by then
                serve.kill(process)
            else:
                assert serve.is_ready(process), serve.log.read_text()
                with serve.connect() as client:
                    ask(client, request("PING"), b"+PONG\r\n")
                    load = threading.Thread(target=serve.hammer, args=(client,))
                    load.start()
                    time.sleep(chance.uniform(0.0, 0.2))
                    if moment == "stop":
                        process.terminate()
                        time.sleep(chance.uniform(0.0, 0.1))
                    serve.kill(process)
                    load.join()
            after_kill()
        process = serve.spawn()
        assert serve.is_ready(process), serve.log.read_text()
        with serve.connect() as client:
            ask(client, request("PING"), b"+PONG\r\n")
        process.terminate()
        assert process.wait(60) == 0, serve.log.read_text()
        assert not os.path.exists(serve.control_path)
        assert "Traceback" not in serve.log.read_text()
    finally:
        serve.kill(process)


@pytest.mark.parametrize("kind", ["tap", *KINDS])
def test_killed_at_any_moment_a_namespace_is_made_anew(kind: str, tmp_path: Path) -> None:
    name = fresh_name("lk")

    def after_kill() -> None:
        # Devices go with their descriptors; at most the name is left, for the next start to remove.
        if namespaces(name):
            wait_until(lambda: "redtap0" not in sh(f"ip -n {name} link || true"), "the device is gone")

    serve = Restarted(tmp_path, None, name, ADDRESS, "--link", kind, "--netns", name)
    _kill_at_many_moments(serve, random.Random(f"made {kind}"), after_kill)
    assert (namespaces(name), records(name)) == ([], [])


@pytest.mark.parametrize("kind", SOCKET_KINDS)
def test_killed_at_any_moment_a_shared_link_is_as_it_was(pair: Pair, kind: str, tmp_path: Path) -> None:
    before = pair.state()

    def after_kill() -> None:
        wait_until(lambda: pair.state() == before, "the link as it was")
        inside(pair.client, lambda: assert_echo("10.78.0.2"))

    flags = ("--link", f"{kind}:{pair.link}", "--address", "10.78.0.5/24", "--netns", fresh_name("lk"))
    serve = Restarted(tmp_path, pair.server, pair.client, "10.78.0.5", *flags)
    _kill_at_many_moments(serve, random.Random(f"shared {kind}"), after_kill)
    after_kill()


@pytest.mark.parametrize("kind", SOCKET_KINDS)
def test_killed_at_any_moment_a_link_taken_over_is_usable_and_put_back(
    pair: Pair, kind: str, tmp_path: Path
) -> None:
    before = pair.state()

    def is_let_go() -> bool:
        state, _ = pair.state()
        return "xdp" not in state and state["promiscuity"] == 0

    def after_kill() -> None:
        wait_until(is_let_go, "nobody holds the link")
        # Until the next start puts its address back the kernel may have another. Its MAC is a new one each time.
        sh(f"ip -n {pair.client} neigh flush all; ip -n {pair.server} addr add 10.78.0.9/24 dev {pair.link}")
        try:
            inside(pair.client, lambda: assert_echo("10.78.0.9"))
        finally:
            sh(f"ip -n {pair.server} addr del 10.78.0.9/24 dev {pair.link}")

    flags = ("--link", f"{kind}:{pair.link}", "--takeover", pair.link, "--netns", fresh_name("lk"))
    serve = Restarted(tmp_path, pair.server, pair.client, "10.78.0.2", *flags)
    _kill_at_many_moments(serve, random.Random(f"taken {kind}"), after_kill)
    assert "restored veth-server" in serve.log.read_text()
    wait_until(lambda: pair.state() == before, "the link as it was")
    inside(pair.client, lambda: assert_echo("10.78.0.2"))


# ---- what the peer sees


def _checksums(path: Path, which: str) -> list[list[str]]:
    """Of each frame of a capture: its length, and whether its checksums of TCP and of IP are good ("1")."""
    fields = "-T fields -e frame.len -e tcp.checksum.status -e ip.checksum.status"
    checks = "-o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE"
    told = sh(f"tshark -r {path} {checks} -Y '{which}' {fields} 2>/dev/null")
    return [line.split("\t") for line in told.splitlines()]


def assert_good_checksums(path: Path, source: str) -> None:
    """In a capture of `move_300_kb`, frames fit an MTU of 1500 and no checksum is bad."""
    rows = _checksums(path, f"ip.src == {source}")
    assert len(rows) > 200
    assert {row[1] for row in rows if row[1]} == {"1"}
    assert {row[2] for row in rows if row[2]} == {"1"}
    assert max(int(row[0]) for row in rows) <= 1514


def move_300_kb(running: RunningAppliance) -> None:
    """There and back."""
    with running.connect() as client:
        ask(client, request("SET", "a", b"x" * 300_000), b"+OK\r\n")
        ask(client, request("GET", "a"), b"$300000\r\n" + b"x" * 300_000 + b"\r\n")


@contextmanager
def captured(place: str, link: str, path: Path) -> Iterator[None]:
    """tshark on a link while the block runs; at least 300 kB have to come."""
    capture = inside(
        place,
        lambda: subprocess.Popen(
            ["tshark", "-n", "-q", "-i", link, "-w", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ),
    )
    try:
        assert capture.stderr is not None
        while b"Capturing" not in (line := capture.stderr.readline()):
            assert line, "tshark has ended"
        wait_until(path.exists, "the capture to start")
        yield
        wait_until(lambda: path.stat().st_size > 300_000, "the frames in the file")
        time.sleep(0.3)  # dumpcap writes in its own time; what is looked for is absent anyway
        capture.send_signal(signal.SIGINT)
    except BaseException:
        capture.kill()
        raise
    finally:
        capture.communicate(timeout=60)


@pytest.mark.skipif(needs_program("tshark", "ethtool") != "", reason=needs_program("tshark", "ethtool"))
@pytest.mark.parametrize("kind", SOCKET_KINDS)
def test_peer_sees_no_bad_checksum(pair: Pair, kind: str, tmp_path: Path) -> None:
    # As a network card without offloads: what leaves is cut to the MTU and has its checksums.
    sh(f"ip netns exec {pair.server} ethtool -K {pair.link} tx off gso off tso off")
    path = tmp_path / "peer.pcapng"
    with pair.appliance(tmp_path, kind) as running, captured(pair.client, pair.peer, path):
        running.ping()
        move_300_kb(running)
    assert_good_checksums(path, "10.78.0.5")


@pytest.mark.skipif(needs_program("tshark", "ethtool") != "", reason=needs_program("tshark", "ethtool"))
@pytest.mark.parametrize("kind", ["tap", *KINDS])
def test_host_behind_a_router_sees_no_bad_checksum(kind: str, tmp_path: Path) -> None:
    """On the appliance's own link checksums are left to whoever puts a frame on a wire: here a second link."""
    host = fresh_name("lh")
    running = RunningAppliance.start(tmp_path, "--link", kind, "--gateway", "10.77.0.1")
    try:
        router = running.namespace
        sh(
            f"ip netns add {host}; ip -n {router} link add hop0 type veth peer name hop1 netns {host};"
            f"ip -n {router} addr add 10.78.0.1/24 dev hop0; ip -n {host} addr add 10.78.0.9/24 dev hop1;"
            f"ip -n {router} link set hop0 up; ip -n {host} link set hop1 up;"
            f"ip -n {host} route add 10.77.0.0/24 via 10.78.0.1;"
            f"ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1;"
            f"ip netns exec {router} ethtool -K hop0 tx off gso off tso off"
        )
        path = tmp_path / "host.pcapng"
        with captured(host, "hop1", path):
            running.namespace = host
            running.ping()
            move_300_kb(running)
        running.namespace = router
        assert running.stop() == 0
        assert_good_checksums(path, ADDRESS)
    finally:
        running.discard()
        sh(f"ip netns del {host} || true")


@pytest.mark.parametrize("kind", SOCKET_KINDS)
@pytest.mark.parametrize("end", ["ours", "theirs"])
def test_frames_lost_doubled_and_out_of_order_are_made_good(kind: str, end: str, tmp_path: Path) -> None:
    """A wire in user space beyond the link, which harms what we send, or what the client sends."""
    client, server = fresh_name("lc"), fresh_name("ls")
    ends, host = ([server, client], "10.79.0.1") if end == "ours" else ([client, server], "10.79.0.2")
    weather = ["--delay", "1ms", "--drop-every", "20", "--reorder", "0.05", "--reorder-by", "3ms"]
    weather += ["--duplicate", "0.02", "--seed", "7"]
    argv = [sys.executable, "-m", "netns", "wire", *ends, *weather]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE) as wire:
        assert wire.stdout is not None
        try:
            assert wire.stdout.readline() == b"ready\n"
            flags = ("--link", f"{kind}:wire0", "--address", "10.79.0.5/24")
            running = RunningAppliance.start(tmp_path, *flags, place=server, clients=client)
            running.address = "10.79.0.5"
            try:
                value = random.Random(host).randbytes(400_000)
                with running.connect(timeout=60) as one:
                    ask(one, request("SET", "a", value), b"+OK\r\n")
                    ask(one, request("GET", "a"), b"$400000\r\n" + value + b"\r\n")
                    counts = b"".join(b":%d\r\n" % number for number in range(1, 501))
                    ask(one, request("INCR", "n") * 500, counts)
                repeated = running.counters()["segments_retransmitted"]
                assert running.stop() == 0
            finally:
                running.discard()
            wire.send_signal(signal.SIGINT)
            harmed = json.loads(wire.stdout.read())["forth"]
            assert harmed["lost"] > 5
            if end == "ours":
                assert repeated > 5
        finally:
            wire.kill()


FOREIGN_FRAMES: Final = 50_000
FOREIGN_SECONDS: Final = 3.0
"""A million a minute."""
FOREIGN_BURST: Final = 100


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _times_slept(pid: int) -> int:
    """How often its threads have gone to sleep."""
    return sum(
        int(path.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
        for path in Path(f"/proc/{pid}/task").glob("*/status")
    )


@pytest.mark.parametrize("kind", SOCKET_KINDS)
def test_foreign_traffic_costs_next_to_nothing_and_passes_unharmed(kind: str, tmp_path: Path) -> None:
    middle, client, server = fresh_name("lb"), fresh_name("lc"), fresh_name("ls")
    stations = (Station(client, "10.78.0.1/24"), Station(server, "10.78.0.2/24"))
    with build_bridge(BridgeTopology(middle, stations)):
        running = RunningAppliance.start(
            tmp_path, "--link", f"{kind}:veth0", "--address", "10.78.0.5/24", place=server, clients=client
        )
        running.address = "10.78.0.5"
        try:
            running.ping()
            sink = inside(server, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            source = inside(client, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with sink, source:
                sink.settimeout(60)
                sink.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE: a burst is not lost here
                sink.bind(("10.78.0.2", 9999))
                source.connect(("10.78.0.2", 9999))
                before, counters = _cpu_seconds(running.process.pid), running.counters()
                slept = _times_slept(running.process.pid)
                started = time.monotonic()
                got: list[int] = []
                # No more at a time than the queues of the bridge hold, when the machine lets them wait.
                for first in range(0, FOREIGN_FRAMES, FOREIGN_BURST):
                    for number in range(first, first + FOREIGN_BURST):
                        source.send(struct.pack("!I", number))
                    got += [struct.unpack("!I", sink.recv(16))[0] for _ in range(FOREIGN_BURST)]
                    ahead = started + FOREIGN_SECONDS * first / FOREIGN_FRAMES - time.monotonic()
                    if ahead > 0:
                        time.sleep(ahead)
                took = time.monotonic() - started
                spent = _cpu_seconds(running.process.pid) - before
                woken = _times_slept(running.process.pid) - slept
            assert got == list(range(FOREIGN_FRAMES))
            assert running.counters()["frames_in"] - counters["frames_in"] < 10
            # Nobody woke it: it slept no more often than its own timers want, and did not look all the time either.
            assert woken < FOREIGN_FRAMES / 10, f"{woken} times in {took:.2f} s"
            assert spent < 0.2 * took + 0.1, f"{spent:.2f} s of CPU in {took:.2f} s"
            running.ping()
            assert running.stop() == 0
        finally:
            running.discard()


# ---- several queues


_QUEUE: Final = 0xFFFF_F000 + 24  # linux/filter.h: SKF_AD_OFF + SKF_AD_QUEUE


def _watch_queue(link: str, queue: int) -> socket.socket:
    """A socket that sees the frames that leave `link` by `queue` or have come by it."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    rows = [(0x20, 0, 0, _QUEUE), (0x15, 0, 1, queue), (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0)]
    program = b"".join(struct.pack("=HBBI", *row) for row in rows)
    held = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxP", len(rows), ctypes.addressof(held)))
    sock.bind((link, 3))  # ETH_P_ALL
    sock.settimeout(0.2)
    return sock


def _flows(sock: socket.socket) -> tuple[set[int], set[int]]:
    """Ports of the clients in the TCP segments that were seen: asking, and being answered."""
    asking, answered = set(), set()
    with contextlib.suppress(TimeoutError):
        while True:
            frame = sock.recv(2048)
            if frame[12:14] == b"\x08\0" and frame[23] == socket.IPPROTO_TCP:
                source, destination = struct.unpack_from("!HH", frame, 34)
                if destination == PORT:
                    asking.add(source)
                else:
                    answered.add(destination)
    return asking, answered


@pytest.mark.skipif(needs_program("ethtool") != "", reason=needs_program("ethtool"))
def test_xdp_on_several_queues_hears_all_and_answers_by_the_same(tmp_path: Path) -> None:
    client, server = fresh_name("lc"), fresh_name("ls")
    sh(
        f"ip netns add {client}; ip netns add {server};"
        f"ip -n {client} link add wide0 numtxqueues 2 numrxqueues 2 type veth"
        f" peer name wide1 netns {server} numtxqueues 2 numrxqueues 2;"
        f"ip netns exec {client} ethtool -L wide0 tx 2 rx 2;"
        f"ip netns exec {server} ethtool -L wide1 tx 2 rx 2;"
        f"ip -n {client} addr add 10.78.0.1/24 dev wide0; ip -n {client} link set wide0 up;"
        f"ip -n {server} link set wide1 up"
    )
    try:
        running = RunningAppliance.start(
            tmp_path, "--link", "xdp:wide1", "--address", "10.78.0.5/24", place=server, clients=client
        )
        running.address = "10.78.0.5"
        try:
            with contextlib.ExitStack() as stack:
                watchers = [
                    stack.enter_context(inside(client, lambda queue=queue: _watch_queue("wide0", queue)))
                    for queue in range(3)
                ]
                for number in range(32):
                    with running.connect() as one:
                        value = b"%d" % number * 500
                        ask(one, request("SET", "k", value), b"+OK\r\n")
                        ask(one, request("GET", "k"), b"$%d\r\n%b\r\n" % (len(value), value))
                seen = [_flows(watcher) for watcher in watchers]
            for asking, answered in seen:
                assert asking == answered
            assert len(seen[0][0]) > 0
            assert len(seen[1][0]) > 0
            assert seen[2] == (set(), set())
            assert running.stop() == 0
        finally:
            running.discard()
    finally:
        sh(f"ip netns del {client}; ip netns del {server}")


def test_xdp_queue_that_is_not_there_is_one_line(pair: Pair, tmp_path: Path) -> None:
    running = None
    with pytest.raises(AssertionError, match="veth-server has no queue 7"):
        running = RunningAppliance.start(
            tmp_path, "--link", f"xdp:{pair.link}:7", "--address", "10.78.0.5/24", place=pair.server
        )
    assert running is None


def test_xdp_on_a_pair_with_too_large_an_mtu_is_one_line(tmp_path: Path) -> None:
    done = redtap("serve", "--link", "xdp", "--mtu", "3800", "--netns", fresh_name("lm"))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "XDP on a veth pair carries an MTU of some 3,500, and that of appliance0 is larger" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_kept_namespace_has_a_tap_and_says_so(kind: str) -> None:
    name = fresh_name("lk")
    assert redtap("netns", "up", "--netns", name).returncode == 0
    try:
        done = redtap("serve", "--link", kind, "--netns", name)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert f"namespace {name} is kept with a TAP: add --link tap, or another --netns" in done.stderr
    finally:
        assert redtap("netns", "down", "--netns", name).returncode == 0


@pytest.mark.parametrize("kind", SOCKET_KINDS)
def test_socket_on_a_pair_needs_no_device(kind: str) -> None:
    hide = 'mount --make-rprivate /; mount -t tmpfs none /dev/net; exec "$@"'
    prefix = ("unshare", "-m", "sh", "-ec", hide, "sh")
    done = redtap("exec", "--link", kind, "--", "sh", "-c", 'redis-cli -h "$REDIS_HOST" ping', prefix=prefix)
    assert (done.returncode, done.stdout) == (0, "PONG\n"), done.stderr


def test_rootless_over_xdp_is_refused_in_one_line() -> None:
    done = redtap("exec", "--rootless", "--link", "xdp", "true")
    said = "redtap: --link: 'xdp' is not for exec --rootless; takes tap, tun, packet\n"
    assert (done.returncode, done.stderr) == (2, said)


# ---- persistent devices


@contextmanager
def persistent_device(kind: str, user: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A namespace with the device `mine`, which belongs to `user`, and the words that run a program in there.

    What runs sees /dev/net/tun as most systems have it: open to everybody.
    """
    script = """
        mount --make-rprivate /; mount -t tmpfs none /mnt; mknod -m 0666 /mnt/tun c 10 200
        mount --bind /mnt/tun /dev/net/tun; exec "$@"
    """
    place = fresh_name("lp")
    sh(
        f"ip netns add {place}; ip -n {place} tuntap add dev mine mode {kind} user {user};"
        f"ip -n {place} addr add 10.78.0.1/24 dev mine; ip -n {place} link set mine up"
    )
    try:
        yield place, ("nsenter", f"--net=/run/netns/{place}", "unshare", "-m", "sh", "-ec", script, "sh")
        assert json.loads(sh(f"ip -n {place} -j link show mine"))[0]["ifname"] == "mine"
    finally:
        sh(f"ip netns del {place}")


def serve_without_privilege(place: str, prefix: tuple[str, ...], kind: str) -> None:
    """Serve on the device, answer a client, end; and meanwhile leave it to nobody else."""
    control = f"/tmp/{place}.sock"
    flags = ("--link", f"{kind}:mine", "--address", "10.78.0.5/24")
    with serving("serve", *flags, "--control", control, prefix=prefix) as appliance:
        assert appliance.ready.startswith("redtap: ready on 10.78.0.5:6379, on mine, ")
        with inside(place, lambda: socket.create_connection(("10.78.0.5", PORT), 60)) as client:
            ask(client, request("SET", "a", b"x" * 200_000), b"+OK\r\n")
            ask(client, request("GET", "a"), b"$200000\r\n" + b"x" * 200_000 + b"\r\n")
        second = redtap("serve", *flags, "--control", f"{control}.2", prefix=prefix)
        assert second.stderr == "redtap: cannot use mine: another process has it open\n"
        assert appliance.end()[0] == 0
    assert not os.path.exists(control)


@pytest.mark.skipif(needs_program("setpriv") != "", reason=needs_program("setpriv"))
@pytest.mark.parametrize("kind", ["tap", "tun"])
def test_persistent_device_needs_no_capability_and_stays(kind: str) -> None:
    with persistent_device(kind, os.geteuid()) as (place, prefix):
        serve_without_privilege(place, (*prefix, *_WITHOUT_CAPABILITIES), kind)


@pytest.mark.parametrize("kind", ["tap", "tun"])
def test_persistent_device_serves_an_ordinary_user(kind: str, nobody: tuple[str, ...]) -> None:
    with persistent_device(kind, NOBODY_ID) as (place, prefix):
        told = redtap("doctor", "--json", prefix=(*prefix, *nobody))
        assert told.returncode == 0, told.stderr
        found = {finding["link"]: finding for finding in json.loads(told.stdout)}
        mine = found["tap:NAME, tun:NAME"]
        assert (mine["is_usable"], mine["text"]) == (True, "there is mine; use it with --address")
        for link, capability in (
            ("tap", "NET_ADMIN"),
            ("tun", "NET_ADMIN"),
            ("packet", "NET_RAW"),
            ("xdp", "BPF"),
        ):
            assert not found[link]["is_usable"]
            assert f"CAP_{capability}" in found[link]["text"]
        serve_without_privilege(place, (*prefix, *nobody), kind)


def test_persistent_device_of_another_user_is_refused_in_one_line(nobody: tuple[str, ...]) -> None:
    with persistent_device("tap", 0) as (_, prefix):
        done = redtap("serve", "--link", "tap:mine", "--address", "10.78.0.5/24", prefix=(*prefix, *nobody))
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "cannot use mine: it belongs to another user" in done.stderr
        told = json.loads(redtap("doctor", "--json", prefix=(*prefix, *nobody)).stdout)
        (mine,) = [finding for finding in told if finding["link"] == "tap:NAME, tun:NAME"]
        assert not mine["is_usable"]
        assert mine["text"].endswith(f"make it as root: ip tuntap add dev NAME mode tap user {NOBODY_ID}")


def test_doctor_finds_every_link_here_and_leaves_nothing() -> None:
    # A machine of its own, where nobody else makes links and namespaces.
    script = 'mkdir -p /run/netns; mount -t tmpfs none /run/netns; "$@"; ip -br link; ls /run/netns'
    done = redtap("doctor", "--json", prefix=("unshare", "-n", "-m", "sh", "-ec", script, "sh"))
    assert done.returncode == 0, done.stderr
    findings, length = json.JSONDecoder().raw_decode(done.stdout)
    usable = {finding["link"]: finding["is_usable"] for finding in findings}
    assert {kind: usable[kind] for kind in ("tap", *KINDS)} == dict.fromkeys(("tap", *KINDS), True)
    assert [line.split()[0] for line in done.stdout[length:].splitlines() if line] == ["lo"]
