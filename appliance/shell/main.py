"""Assembly: one link, one interface, one engine, and everything that serves them, as one trio task tree.

DEBUG RESTART and CRASH-AND-RECOVER end the engine and its clients, and another engine takes its place. The
link, the stack, the control socket and what runs beside stay, as the machine does when a redis-server on it
starts anew: who connects meanwhile is refused, and clients inside the namespace still have one.

Invariants: whatever `serve` opened is closed when it returns or raises: connections, listeners, tasks, the
            control socket's file, the capture. The link stays the caller's: who opened it closes it.
Errors:     `HostError` when the control socket or the capture cannot be made, or the link vanishes.
Not here:   argv, environment and files (the command line), namespaces and devices (`netns`).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from appliance import __version__
from appliance._build import build_kind
from appliance.redis.commands.info import human_bytes
from appliance.redis.engine import Engine
from appliance.shell.addresses import format_address
from appliance.shell.capture import CapturedLink, CaptureWriter
from appliance.shell.clock import Clock
from appliance.shell.control import ControlServer, bound_control_socket
from appliance.shell.groups import ungrouped
from appliance.shell.logs import get_logger
from appliance.shell.memory import give_back, settle_again, settled
from appliance.shell.network import open_network
from appliance.shell.redis_service import RedisService, dispatch_pending, run_cron

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

    from appliance.redis.engine import EngineSettings
    from appliance.redis.process_end import ProcessEnd
    from appliance.redis.release import ReleaseQueue
    from appliance.shell.link import Link
    from appliance.shell.network import Network
    from appliance.shell.tcp_stream import TcpStream
    from appliance.stack.interface import InterfaceConfig

__all__ = ["Ready", "serve"]

# Elements of an engine's data freed at once, about half a millisecond's worth, and how soon the next follow.
_RELEASE_BUDGET: Final = 2_000
_RELEASE_EVERY_S: Final = 0.0015

_log = get_logger("appliance")
_script_log = get_logger("script")


def _log_of_script(level: int, text: bytes) -> None:
    """redis.log: its levels are debug, verbose, notice and warning."""
    line = text.decode("utf-8", "backslashreplace")
    if level <= 1:
        _script_log.debug(line)
    elif level == 2:
        _script_log.info(line)
    else:
        _script_log.warning(line)


@dataclass(frozen=True, slots=True)
class Ready:
    """What `serve` tells when clients can connect."""

    name: str
    address: str
    """Dotted quad of the appliance."""
    port: int
    control_path: str
    capture_path: str | None = None

    def line(self) -> str:
        """The ready line: one line for people and for scripts that wait for it."""
        return f"redtap: ready on {self.address}:{self.port}, control socket {self.control_path}"


async def serve(
    link: Link,
    interface_config: InterfaceConfig,
    engine_settings: EngineSettings,
    *,
    name: str = "redtap",
    port: int = 6379,
    echo_port: int = 0,
    control_path: str | os.PathLike[str],
    capture_path: str | os.PathLike[str] | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
    grace_s: float = 2.0,
    busy_poll_us: int = 0,
    catch_signals: bool = True,
    facts: Mapping[str, str | int] | None = None,
    on_ready: Callable[[Ready], None] | None = None,
    beside: Callable[[Ready], Awaitable[None]] | None = None,
    renew: Callable[[], EngineSettings] | None = None,
) -> ProcessEnd | None:
    """Run the appliance on `link` until it is told to stop, then shut down gracefully.

    It stops on SIGINT or SIGTERM (when `catch_signals`), on SHUTDOWN from a client, on REDTAP STOP over the
    control socket, when `beside` returns or raises, or when the caller cancels. Stopping means: no new
    connections, FIN to every client after its queued replies, up to `grace_s` seconds for the peers to
    finish, RST to the rest. A second signal ends the grace at once. DEBUG SEGFAULT and the like reset all
    connections.

    Args:
        link: An open link; it is not closed here.
        interface_config: Addresses, MTU and limits; `vnet_header` must be the link's.
        engine_settings: For the Redis engine, which is made here.
        name: Of this appliance, for people.
        port: TCP port of the Redis service.
        echo_port: TCP port of an echo service beside it; 0 for none.
        control_path: Unix socket, made here and removed at the end.
        capture_path: A pcapng file to write every frame to; None for none.
        random_bytes: For the engine (hash keys, sampling); a seeded one makes a run repeatable.
        grace_s: Seconds between FIN and RST at shutdown.
        busy_poll_us: How long the link is asked again and again before the pump sleeps; 0 not at all.
        catch_signals: Needs the main thread; switch it off in tests and when the caller has its own.
        facts: Shown as they are by REDTAP STATUS (namespace, TAP name …).
        on_ready: Called synchronously when clients can connect, again after a restart: print the ready line
            here.
        beside: Run as a task after `on_ready` (`redtap exec` runs its command here); an exception of it
            passes out of `serve` after the shutdown.
        renew: Gives the settings of the engine that DEBUG RESTART begins with. Whoever gives this also ends
            the process as the result says. None: the process is not DEBUG's to end.

    Returns:
        How the process is to end, when DEBUG ended it.

    Raises:
        HostError: One line for people.
    """
    clock = Clock()
    engine = _new_engine(engine_settings, random_bytes)
    path = os.fspath(control_path)
    capture = os.fspath(capture_path) if capture_path is not None else None
    ready = Ready(name, format_address(interface_config.address), port, path, capture)
    stop = trio.Event()
    with ungrouped(), ExitStack() as resources:
        server = resources.enter_context(bound_control_socket(path))
        if capture is not None:
            writer = CaptureWriter(capture, interface_name=name)
            resources.callback(writer.close)
            link = CapturedLink(link, writer, clock)
        resources.enter_context(settled())
        async with trio.open_nursery() as outer:
            # The caller's cancellation reaches `outer` at once and tells `running` to stop; what has to go on
            # through the grace, the pump first of all, is shielded from it.
            running = _Running(ready, link, engine, stop, facts or {}, random_bytes, renew)
            outer.start_soon(_set_when_cancelled, stop)
            with trio.CancelScope(shield=True):
                async with open_network(
                    link, interface_config, clock=clock, busy_poll_us=busy_poll_us
                ) as network:
                    await running.run(
                        network,
                        server,
                        outer,
                        echo_port=echo_port,
                        grace_s=grace_s,
                        catch_signals=catch_signals,
                        on_ready=on_ready,
                        beside=beside,
                    )
            outer.cancel_scope.cancel()
    return running.end


def _new_engine(settings: EngineSettings, random_bytes: Callable[[int], bytes]) -> Engine:
    engine = Engine(settings, random_bytes)
    engine.stopwatch = time.perf_counter_ns
    engine.on_script_log = _log_of_script
    return engine


async def _set_when_cancelled(stop: trio.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        stop.set()


class _Running:
    """The services of one appliance on an open network."""

    service: RedisService

    def __init__(
        self,
        ready: Ready,
        link: Link,
        engine: Engine,
        stop: trio.Event,
        facts: Mapping[str, str | int],
        random_bytes: Callable[[int], bytes],
        renew: Callable[[], EngineSettings] | None,
    ) -> None:
        self.ready = ready
        self.link = link
        self.engine = engine
        self.stop = stop
        self.facts = dict(facts)
        self.random_bytes = random_bytes
        self.renew = renew
        self.started = trio.current_time()
        self.end: ProcessEnd | None = None
        self._engine_ended = trio.CancelScope()  # round the wait for `stop`
        self._cron_scope = trio.CancelScope()
        self._service_scope = trio.CancelScope()

    async def run(
        self,
        network: Network,
        server: socket.socket,
        outer: trio.Nursery,
        *,
        echo_port: int,
        grace_s: float,
        catch_signals: bool,
        on_ready: Callable[[Ready], None] | None,
        beside: Callable[[Ready], Awaitable[None]] | None,
    ) -> None:
        """Serve until `stop`, then drain."""
        control = ControlServer(
            network, self.engine, status=partial(self.status, network), on_stop=self.stop.set
        )
        self._adopt(network)
        self.service = RedisService(network, self.engine, self.ready.port)
        beside_scope = trio.CancelScope()
        grace_scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            if catch_signals:
                await nursery.start(self._watch_signals, grace_scope)
            self._start_engine(network, nursery)
            nursery.start_soon(control.serve, server, name="control socket")
            if isinstance(self.link, CapturedLink):
                nursery.start_soon(self.link.run_flusher, name="capture")
            async with trio.open_nursery() as echo_nursery:
                if echo_port:
                    echo = network.listen_tcp(echo_port)
                    echo_nursery.start_soon(trio.serve_listeners, _echo, [echo])
                if on_ready is not None:
                    on_ready(self.ready)
                if beside is not None:
                    outer.start_soon(self._run_beside, beside, beside_scope)
                await self._wait_for_end()
                while self.end is not None and self.end.is_restart:
                    await self._begin_anew(network, nursery, control, self.end)
                    if self.stop.is_set():
                        break
                    if on_ready is not None:
                        on_ready(self.ready)
                    await self._wait_for_end()
                _log.info("stopping", grace_s=grace_s)
                beside_scope.cancel()
                if self.end is None:
                    self.service.stop()
                else:
                    self.service.crash()
                # Cancelled streams close themselves: FIN after what they have sent.
                echo_nursery.cancel_scope.cancel()
            with grace_scope:
                await network.drain(grace_s if self.end is None else 0)
            nursery.cancel_scope.cancel()

    def _adopt(self, network: Network) -> None:
        """Give the engine what it cannot know or do itself."""
        self._provide_info(network)
        if self.renew is not None:
            self.engine.on_process_end = self._on_process_end

    def _start_engine(self, network: Network, nursery: trio.Nursery) -> None:
        self._cron_scope = trio.CancelScope()
        self._service_scope = trio.CancelScope()
        nursery.start_soon(self._run_cron, self.engine, network.clock, self._cron_scope, name="cron")
        nursery.start_soon(self._run_service, self.service, self._service_scope, name="redis service")

    def _on_process_end(self, end: ProcessEnd) -> None:
        """The engine executes nothing any more. We are inside its command: the rest comes after that."""
        self.end = end
        self._engine_ended.cancel()

    async def _wait_for_end(self) -> None:
        """Of the appliance, or of the engine: `end` says which."""
        if self.end is None:
            with trio.CancelScope() as self._engine_ended:
                await self.stop.wait()
        end = self.end
        if end is not None:
            what = "restarting" if end.is_restart else f"ending by {end.signal}"
            _log.warning(what, command=end.how, client=end.asked_by, delay_ms=end.delay_ms)

    async def _begin_anew(
        self, network: Network, nursery: trio.Nursery, control: ControlServer, end: ProcessEnd
    ) -> None:
        """End the engine with all its clients, wait, and serve another one; none when told to stop."""
        assert self.renew is not None
        old, old_service = self.engine, self.service
        if end.is_orderly:
            old_service.stop()
        else:
            old_service.crash()
        self._cron_scope.cancel()
        old_service.detach()
        old.close()
        dispatch_pending(old)  # the clients of the control socket
        settings = self.renew()
        self.engine = _new_engine(settings, self.random_bytes)
        self.end = None
        self._adopt(network)
        control.engine = self.engine
        if end.delay_ms > 0:
            with trio.move_on_after(end.delay_ms / 1000):
                await self.stop.wait()
        if not self.stop.is_set():
            self._service_scope.cancel()
            if old.releases.is_empty():
                settle_again()
            else:
                # With all that data it would take long, and somebody waits for us.
                nursery.start_soon(_let_go, old.releases, name="old data")
            self.ready = replace(self.ready, port=settings.port)
            self.service = RedisService(network, self.engine, settings.port, lingering=old_service.lingering)
            self._start_engine(network, nursery)

    def status(self, network: Network) -> dict[str, str | int]:
        """REDTAP STATUS."""
        config = network.interface.config
        connections = network.interface.connections()
        return {
            "name": self.ready.name,
            "version": __version__,
            "build": build_kind(),
            "process_id": os.getpid(),
            "uptime_s": int(trio.current_time() - self.started),
            "address": f"{self.ready.address}/{config.prefix_length}",
            "port": self.ready.port,
            "mac": config.mac.hex(":"),
            "mtu": config.mtu,
            "control_socket": self.ready.control_path,
            "capture": self.ready.capture_path or "",
            "connections": len(connections),
            "max_connections": config.max_connections,
            "timer_tasks": network.pump.timer_tasks,
            "is_stopping": int(self.stop.is_set()),
            **self.facts,
        }

    def _provide_info(self, network: Network) -> None:
        """What the engine, which knows no process and no network, cannot say itself."""
        interface = network.interface

        def server_facts() -> dict[str, str | int]:
            system = os.uname()
            return {
                "os": f"{system.sysname} {system.release} {system.machine}",
                "multiplexing_api": "epoll",
                "process_id": os.getpid(),
                "tcp_port": self.engine.settings.port,
                "executable": sys.executable,
                "listener0": f"name=tcp,bind={self.ready.address},port={self.engine.settings.port}",
            }

        startup, _ = _memory_bytes()
        peak = 0  # of what was seen: nobody looks at /proc but for an INFO
        peak_at = 0

        def memory_facts() -> dict[str, str | int]:
            nonlocal peak, peak_at
            used, resident = _memory_bytes()
            if used > peak:
                peak = used
                peak_at = network.clock.unix_now() // 1_000_000
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            return {
                "used_memory": used,
                "used_memory_rss": resident,
                "used_memory_peak": peak,
                "used_memory_peak_time": peak_at,
                "used_memory_startup": startup,
                "total_system_memory": total,
                "total_system_memory_human": human_bytes(total),
            }

        def cpu_facts() -> dict[str, str | int]:
            facts: dict[str, str | int] = {}
            for name, who in (("", resource.RUSAGE_SELF), ("_children", resource.RUSAGE_CHILDREN)):
                usage = resource.getrusage(who)
                facts[f"used_cpu_sys{name}"] = f"{usage.ru_stime:.6f}"
                facts[f"used_cpu_user{name}"] = f"{usage.ru_utime:.6f}"
            usage = resource.getrusage(resource.RUSAGE_THREAD)
            facts["used_cpu_sys_main_thread"] = f"{usage.ru_stime:.6f}"
            facts["used_cpu_user_main_thread"] = f"{usage.ru_utime:.6f}"
            return facts

        pump = network.pump
        cycles = _Cycles(network.clock.now())

        def loop_facts() -> dict[str, str | int]:
            cycles.look(pump.steps, network.clock.now())
            return {
                "total_reads_processed": pump.reads,
                "total_writes_processed": pump.writes,
                "eventloop_cycles": pump.steps,
                "eventloop_duration_sum": cycles.busy_us,
                "instantaneous_eventloop_cycles_per_sec": cycles.per_second,
                "instantaneous_eventloop_duration_usec": cycles.duration_us,
            }

        def thread_facts() -> dict[str, str | int]:
            clients = len(interface.connections())
            return {"io_thread_0": f"clients={clients},reads={pump.reads},writes={pump.writes}"}

        def stack_facts() -> dict[str, str | int]:
            facts: dict[str, str | int] = {"stack_connections": len(interface.connections())}
            facts.update(interface.counters.as_dict())
            facts.update({f"link_{name}": count for name, count in network.link.counters().items()})
            return facts

        self.engine.set_info_provider("server", server_facts)
        self.engine.set_info_provider("memory", memory_facts)
        self.engine.set_info_provider("cpu", cpu_facts)
        self.engine.set_info_provider("stats", loop_facts)
        self.engine.set_info_provider("threads", thread_facts)
        self.engine.set_info_provider("stack", stack_facts)

    async def _watch_signals(
        self, grace_scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self.stop.is_set():
                    grace_scope.cancel()
                _log.info("signal", signal=signal.Signals(number).name)
                self.stop.set()

    async def _run_cron(self, engine: Engine, clock: Clock, scope: trio.CancelScope) -> None:
        with scope:
            await run_cron(engine, clock)
            # SHUTDOWN. Housekeeping has nothing to wait for during the grace.
            self.stop.set()

    async def _run_service(self, service: RedisService, scope: trio.CancelScope) -> None:
        with scope:
            await service.run()

    async def _run_beside(self, beside: Callable[[Ready], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            with scope:
                await beside(self.ready)
        finally:
            self.stop.set()


async def _echo(stream: TcpStream) -> None:
    with suppress(trio.BrokenResourceError):
        async for chunk in stream:
            await stream.send_all(chunk)
        await stream.send_eof()


async def _let_go(releases: ReleaseQueue) -> None:
    """Free what an engine has left, a piece at a time."""
    # Others have their turn between two pieces; there is nothing to wait for.
    while releases.work(_RELEASE_BUDGET):  # noqa: ASYNC110
        await trio.sleep(_RELEASE_EVERY_S)
    settle_again()
    give_back()


def _memory_bytes() -> tuple[int, int]:
    """What the process has made for itself, and that with its share of files, both as they are in memory.

    redis-server's `used_memory` is what its allocator gave out. Python has several of those, and pages that
    back no file are what all of them took together.
    """
    with open("/proc/self/statm", "rb") as file:
        _, resident, shared, *_ = file.read().split()
    page = os.sysconf("SC_PAGE_SIZE")
    return (int(resident) - int(shared)) * page, int(resident) * page


class _Cycles:
    """The event loop's rates: between two looks that are at least a second apart.

    A cycle is a step of the pump. Its time is not taken, which would cost each request a look at the clock:
    the process does nothing but its loop, so CPU time is the sum.
    """

    def __init__(self, now_us: int) -> None:
        self.per_second = 0
        self.duration_us = 0
        self._cycles = 0
        self._now_us = now_us
        self.busy_us = self._cpu_us()
        self._busy_us = self.busy_us

    @staticmethod
    def _cpu_us() -> int:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return int((usage.ru_utime + usage.ru_stime) * 1_000_000)

    def look(self, cycles: int, now_us: int) -> None:
        self.busy_us = self._cpu_us()
        elapsed_us = now_us - self._now_us
        if elapsed_us >= 1_000_000:
            done = cycles - self._cycles
            self.per_second = done * 1_000_000 // elapsed_us
            self.duration_us = (self.busy_us - self._busy_us) // done if done else 0
            self._cycles, self._now_us, self._busy_us = cycles, now_us, self.busy_us
