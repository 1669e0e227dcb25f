"""The page for experimenters says what is true: its code runs, in order, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.errors import LocalProtocolError
from appliance.stack.tcp.socket_options import OPTION_NAMES, get_option, set_option
from tests.support.peer import S, established

PAGE = Path(__file__).parents[3] / "appliance/docs/experiments.md"


def test_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 4
    # With TcpConfig's tail loss probe the first deadline is the probe's where SACK was agreed on; it was not here.
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {"__name__": "page"})


def test_every_option_can_be_read() -> None:
    connection = established().connection
    for name in OPTION_NAMES:
        assert isinstance(get_option(connection, name), int)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IP_TOS", 0xB8),
        ("IP_TTL", 7),
        ("SO_KEEPALIVE", 1),
        ("SO_RCVBUF", 10_000),
        ("SO_SNDBUF", 10_000),
        ("TCP_CORK", 1),
        ("TCP_KEEPCNT", 3),
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 5),
        ("TCP_NODELAY", 1),
        ("TCP_USER_TIMEOUT", 5_000),
    ],
)
def test_option_that_was_set_is_read_back(name: str, value: int) -> None:
    connection = established().connection
    set_option(connection, name, value)
    assert get_option(connection, name) == value


@pytest.mark.parametrize(
    ("name", "value"), [("TCP_NODELAY", 2), ("IP_TTL", 0), ("SO_LINGER", 1), ("TCP_MAXSEG", 9)]
)
def test_wrong_option_is_refused_by_name(name: str, value: int) -> None:
    connection = established().connection
    with pytest.raises(LocalProtocolError, match=name):
        set_option(connection, name, value)


def test_unknown_option_cannot_be_read() -> None:
    with pytest.raises(LocalProtocolError, match="SO_LINGER"):
        get_option(established().connection, "SO_LINGER")


def test_send_buffer_that_was_set_does_not_grow() -> None:
    peer = established()
    set_option(peer.connection, "SO_SNDBUF", 5_000)
    assert peer.send(bytes(20_000)) == 5_000
    for _ in range(5):
        peer.inject(".")
        peer.advance(1 * S)
    assert get_option(peer.connection, "SO_SNDBUF") == 5_000


def test_receive_buffer_that_was_set_bounds_what_waits() -> None:
    peer = established()
    set_option(peer.connection, "SO_RCVBUF", 3_000)
    for _ in range(200):
        peer.inject(".", data=bytes(1_000))
    # What was offered before is taken, and no more is offered.
    assert peer.connection.receivable() <= 65_535
    assert peer.connection.info()["rcv_wnd"] == 0
