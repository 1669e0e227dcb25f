"""The control client: RESP replies in, values or one line out."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from appliance.cli.control_client import CONTROL_VARIABLE, ControlClient, ErrorReply, control_socket
from appliance.config import Settings
from appliance.errors import HostError
from tests.support.control_server import answering, request

if TYPE_CHECKING:
    from pathlib import Path


def ask(tmp_path: Path, reply: bytes) -> object:
    path = str(tmp_path / "c.sock")
    with answering(path, {request("REDTAP", "STATUS"): reply}), ControlClient(path) as client:
        return client.ask("REDTAP", "STATUS")


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        (b"+OK\r\n", "OK"),
        (b":-7\r\n", -7),
        (b"$5\r\nhello\r\n", "hello"),
        (b"$2\r\n\r\n\r\n", "\r\n"),
        (b"$0\r\n\r\n", ""),
        (b"$-1\r\n", None),
        (b"_\r\n", None),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b"*2\r\n:1\r\n*1\r\n+a\r\n", [1, ["a"]]),
        (b"%1\r\n+a\r\n:1\r\n", {"a": 1}),
    ],
)
def test_ask_reply_becomes_a_value(tmp_path: Path, reply: bytes, value: object) -> None:
    assert ask(tmp_path, reply) == value


def test_ask_error_reply_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ErrorReply, match="ERR unknown"):
        ask(tmp_path, b"-ERR unknown\r\n")


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n", b"\r\n"])
def test_ask_something_else_answers_is_one_line(tmp_path: Path, reply: bytes) -> None:
    with pytest.raises(HostError, match="what answers there is no appliance"):
        ask(tmp_path, reply)


def test_ask_reply_nested_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="nested too deeply"):
        ask(tmp_path, b"*1\r\n" * 100)


def test_ask_connection_closed_without_a_reply_is_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    with (
        answering(path, {}),
        ControlClient(path) as client,
        pytest.raises(HostError, match="closed the connection"),
    ):
        client.ask("REDTAP", "STATUS")


def test_ask_maps_takes_flat_arrays_and_maps(tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    replies = {
        request("A"): b"*2\r\n+a\r\n:1\r\n",
        request("B"): b"*2\r\n*2\r\n+a\r\n:1\r\n%1\r\n+b\r\n:2\r\n",
        request("C"): b"*1\r\n:1\r\n",
        request("D"): b":1\r\n",
    }
    with answering(path, replies), ControlClient(path) as client:
        assert client.ask_map("A") == {"a": 1}
        assert client.ask_maps("B") == [{"a": 1}, {"b": 2}]
        with pytest.raises(HostError, match="not a map"):
            client.ask_map("C")
        with pytest.raises(HostError, match="not an array"):
            client.ask_maps("D")


def test_connect_nobody_there_says_how_to_start_one(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    with pytest.raises(HostError) as caught:
        ControlClient(path)
    assert str(caught.value) == f"no appliance is running behind {path}: start one with redtap serve"
    # The socket of one that was killed: the file is there, nobody listens.
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(path)
    dead.close()
    with pytest.raises(HostError, match="no appliance is running behind"):
        ControlClient(path)


def test_connect_no_answer_in_time_is_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "mute.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        with (
            ControlClient(path, patience_s=0.01) as client,
            pytest.raises(HostError, match="no answer within"),
        ):
            client.ask("PING")


def test_control_socket_of_exec_is_found_unless_another_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONTROL_VARIABLE, "/exec.sock")
    assert control_socket(Settings()) == "/exec.sock"
    assert control_socket(Settings(control="/mine.sock")) == "/mine.sock"
    assert control_socket(Settings(netns="blue")).endswith("/blue.sock")
