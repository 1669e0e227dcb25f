"""A target for MIGRATE that misbehaves as it is told, on the kernel's loopback; and a way there for our engine."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

from appliance.redis.migration import CONNECTING, READING, UNSELECTED, WRITING, Migration
from appliance.redis.resp import RequestParser

if TYPE_CHECKING:
    from types import TracebackType

OK = b"+OK\r\n"
SILENCE = b""
CLOSE = None

Script = list["bytes | None"]


class MigrationTarget:
    """Listens, writes down what it is told, and answers by a script for each connection in turn.

    One item for each request: what to say, SILENCE, or CLOSE. After the end of a script everything is OK. A script of
    CLOSE alone closes at the first request.
    """

    def __init__(self, *scripts: Script) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._scripts = list(scripts)
        self._told: list[list[bytes]] = []
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> MigrationTarget:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._connections):
            # To wake who waits in it.
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()
        for thread in self._threads:
            thread.join(60)

    def told(self) -> list[list[bytes]]:
        """The requests so far, after [b"connection"] for each of those."""
        return list(self._told)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._told.append([b"connection"])
            self._connections.append(connection)
            script = self._scripts.pop(0) if self._scripts else []
            thread = threading.Thread(target=self._serve, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        parser = RequestParser(1 << 30)
        answers = list(script)
        try:
            while data := connection.recv(1 << 16):
                parser.feed(data)
                while (request := parser.next_request()) is not None:
                    self._told.append(request)
                    answer = answers.pop(0) if answers else OK
                    if answer is CLOSE:
                        # FIN rather than RST, whatever else has come.
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(1 << 16):
                            pass
                        return
                    connection.sendall(answer)
        except OSError:
            pass
        finally:
            connection.close()


class KernelPort:
    """`Engine.migrations.port` over the kernel's sockets: done when `start` returns."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, int], tuple[socket.socket, int]] = {}

    @property
    def cached_connections(self) -> int:
        return len(self._kept)

    def close(self) -> None:
        for connection, _ in self._kept.values():
            connection.close()

    def start(self, migration: Migration) -> None:
        while True:
            part, timed_out = self._attempt(migration)
            if not part or not migration.failed(part, timed_out=timed_out):
                break
        migration.is_over = True

    def _attempt(self, migration: Migration) -> tuple[bytes, bool]:
        name = (migration.host, migration.port)
        timeout_s = min(migration.timeout_us / 1_000_000, 60)
        part = CONNECTING
        kept = self._kept.pop(name, None)
        connection: socket.socket | None = None
        try:
            if kept is None:
                try:
                    connection = socket.create_connection(
                        (migration.host.decode(), migration.port), timeout_s
                    )
                except ConnectionRefusedError:
                    return WRITING, False
                except OSError:
                    return CONNECTING, True
                selected = UNSELECTED
            else:
                connection, selected = kept
                connection.settimeout(timeout_s)
            migration.begin(selected)
            part = WRITING
            while output := migration.next_output():
                connection.sendall(output)
            part = READING
            while not migration.is_answered:
                data = connection.recv(1 << 16)
                if not data:
                    return READING, False
                migration.receive(data)
            if migration.is_reusable:
                self._kept[name] = (connection, migration.selected)
                connection = None
            return b"", False
        except OSError as error:
            return part, isinstance(error, TimeoutError)
        finally:
            if connection is not None:
                connection.close()
