"""Assembly: one link, one interface, one engine, and everything that serves them, as one trio task tree.

Invariants: whatever `serve` opened is closed when it returns or raises: connections, listeners, tasks, the
            control socket's file, the capture. The link stays the caller's: who opened it closes it.
Errors:     `HostError` when the control socket or the capture cannot be made, or the link vanishes.
Not here:   argv, environment and files (the command line), namespaces and devices (`netns`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from appliance.redis.engine import EngineSettings
    from appliance.shell.link import Link
    from appliance.stack.interface import InterfaceConfig

__all__ = ["Ready", "serve"]


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
    control_path: str | os.PathLike[str] | None = None,
    capture_path: str | os.PathLike[str] | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
    grace_s: float = 2.0,
    catch_signals: bool = True,
    facts: Mapping[str, str | int] | None = None,
    on_ready: Callable[[Ready], None] | None = None,
    beside: Callable[[Ready], Awaitable[None]] | None = None,
) -> None:
    """Run the appliance on `link` until it is told to stop, then shut down gracefully.

    It stops on SIGINT or SIGTERM (when `catch_signals`), on SHUTDOWN from a client, on REDTAP STOP over the
    control socket, when `beside` returns or raises, or when the caller cancels. Stopping means: no new
    connections, FIN to every client after its queued replies, up to `grace_s` seconds for the peers to
    finish, RST to the rest. A second signal ends the grace at once.

    Args:
        link: An open link; it is not closed here.
        interface_config: Addresses, MTU and limits; `vnet_header` must be the link's.
        engine_settings: For the Redis engine, which is made here.
        name: Of this appliance; it names the default control socket.
        port: TCP port of the Redis service.
        echo_port: TCP port of an echo service beside it; 0 for none.
        control_path: Unix socket; None is `control.default_control_path(name)`.
        capture_path: A pcapng file to write every frame to; None for none.
        random_bytes: For the engine (hash keys, sampling); a seeded one makes a run repeatable.
        grace_s: Seconds between FIN and RST at shutdown.
        catch_signals: Needs the main thread; switch it off in tests and when the caller has its own.
        facts: Shown as they are by REDTAP STATUS (namespace, TAP name …).
        on_ready: Called once, synchronously, when clients can connect: print the ready line here.
        beside: Run as a task after `on_ready` (`redtap exec` runs its command here); an exception of it
            passes out of `serve` after the shutdown.

    Raises:
        HostError: One line for people.
    """
    raise NotImplementedError
