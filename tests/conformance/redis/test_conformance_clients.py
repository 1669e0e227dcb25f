"""CLIENT LIST, INFO and KILL: fields in the server's order, filters, and what each field says of a client's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.redis.replies import Verbatim
from tests.support.redis_pair import OurClient, encode_request, parse_one, read_value

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

# Numbers of the server's own buffers, of the process, and names of addresses.
OTHER = {"id", "addr", "laddr", "fd", "age", "idle", "qbuf", "qbuf-free", "rbs", "rbp", "obl", "tot-mem"}


def fields(line: str) -> dict[str, str]:
    found = dict(part.split("=", 1) for part in line.split(" "))
    # All of the server's clients here come by a unix socket.
    found["flags"] = found["flags"].replace("U", "") or "N"
    return found


def text_of(reply: object) -> str:
    text = reply.text if isinstance(reply, Verbatim) else reply
    assert isinstance(text, bytes)
    return text.decode()


class Watched:
    """A client on each side, and one on each side that looks at it."""

    def __init__(self, pair: Pair) -> None:
        self.ours = OurClient(pair.engine)
        self.theirs: socket.socket = pair.server.connect()
        self.our_viewer = OurClient(pair.engine)
        self.their_viewer: socket.socket = pair.server.connect()
        self.our_id = parse_one(self.ours.send(encode_request(("CLIENT", "ID"))))
        self.their_id = read_value(self.theirs, encode_request(("CLIENT", "ID")))

    def do(self, line: str) -> None:
        """One request on both sides; a command that waits has no reply to read."""
        request = encode_request(tuple(line.split(" ")))
        self.ours.send(request)
        if line.startswith("BLPOP"):
            self.theirs.sendall(request)
            while "flags=b" not in self.look()[1]:
                pass
        else:
            read_value(self.theirs, request)

    def look(self) -> tuple[str, str]:
        ask = ("CLIENT", "LIST", "ID")
        ours = text_of(parse_one(self.our_viewer.send(encode_request((*ask, str(self.our_id))))))
        theirs = text_of(read_value(self.their_viewer, encode_request((*ask, str(self.their_id)))))
        return ours.strip(), theirs.strip()

    def close(self) -> None:
        self.theirs.close()
        self.their_viewer.close()
        self.ours.session.close()
        self.our_viewer.session.close()


@pytest.fixture
def watched(pair: Pair) -> Iterator[Watched]:
    made = Watched(pair)
    yield made
    made.close()


STORIES = [
    "PING",
    "SELECT 3|SET a b",
    "CLIENT SETNAME me|CLIENT SETINFO lib-name it|CLIENT SETINFO lib-ver 1.2.3",
    "MULTI",
    "MULTI|SET abc def",
    "MULTI|SET abc def|SET abc " + "x" * 100,
    "MULTI|SET a b|EXEC",
    "MULTI|NOSUCH",
    "MULTI|GET",
    "WATCH a b",
    "WATCH a b|SET a 1",
    "WATCH a b|SET a 1|MULTI",
    "WATCH a b|UNWATCH",
    "SUBSCRIBE c",
    "PSUBSCRIBE p*",
    "SSUBSCRIBE s",
    "SUBSCRIBE c|RESET",
    "BLPOP nosuch 0",
    "BLPOP nosuch other 100",
    "CLIENT NO-EVICT ON",
    "CLIENT NO-TOUCH ON",
    "CLIENT NO-EVICT ON|CLIENT NO-TOUCH ON|CLIENT NO-EVICT OFF",
    "HELLO 3",
    "HELLO 3 SETNAME x",
    "NOSUCH",
    "GET",
    "OBJECT ENCODING nosuch",
]


@pytest.mark.parametrize("story", STORIES)
def test_a_client_is_shown_as_the_server_shows_it(watched: Watched, story: str) -> None:
    for line in story.split("|"):
        watched.do(line)
    ours, theirs = (fields(line) for line in watched.look())
    assert list(ours) == list(theirs)
    differing = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    # The bytes of replies differ where one holds an identifier.
    ignored = OTHER | {"tot-net-out"}
    assert {name: pair for name, pair in differing.items() if name not in ignored} == {}


def test_info_is_the_line_of_the_client_itself(pair: Pair) -> None:
    pair.same("PING")
    ours, theirs = (fields(text_of(parse_one(raw)).strip()) for raw in pair.both("CLIENT", "INFO"))
    assert list(ours) == list(theirs)
    for name in ("cmd", "argv-mem", "flags", "db", "multi", "user", "redir", "resp", "events"):
        assert ours[name] == theirs[name]


LINES = (
    """
CLIENT LIST ID|CLIENT LIST ID x|CLIENT LIST ID 1 2 x|CLIENT LIST ID 999999|CLIENT LIST ID 0 -1|CLIENT LIST foo
CLIENT LIST TYPE|CLIENT LIST TYPE foo|CLIENT LIST TYPE master|CLIENT LIST TYPE replica|CLIENT LIST TYPE slave
CLIENT LIST TYPE pubsub|CLIENT LIST TYPE normal ID 1|CLIENT LIST ID 1 TYPE normal|CLIENT LIST USER default
CLIENT LIST ADDR 1.2.3.4:5|CLIENT LIST MAXAGE 10|CLIENT LIST foo bar|CLIENT INFO x
CLIENT KILL|CLIENT KILL ID 0|CLIENT KILL ID -1|CLIENT KILL ID x|CLIENT KILL ID 1 2|CLIENT KILL ID 1 2 x
CLIENT KILL ID 999999|CLIENT KILL ID 999999 ID 999998|CLIENT KILL 1.1.1.1:1|CLIENT KILL addr
CLIENT KILL ADDR 1.1.1.1:1|CLIENT KILL ADDR 1 ADDR|CLIENT KILL LADDR 1.1.1.1:1|CLIENT KILL USER nosuch
CLIENT KILL USER default ID 999999|CLIENT KILL TYPE foo|CLIENT KILL TYPE master|CLIENT KILL TYPE slave
CLIENT KILL TYPE replica|CLIENT KILL TYPE pubsub|CLIENT KILL MAXAGE 0|CLIENT KILL MAXAGE -5|CLIENT KILL MAXAGE x
CLIENT KILL MAXAGE 100000|CLIENT KILL SKIPME foo|CLIENT KILL SKIPME yes MAXAGE 100000|CLIENT KILL foo bar
CLIENT KILL SKIPME no MAXAGE 100000 TYPE normal USER default|CLIENT KILL ID 5 foo bar|CLIENT KILL TYPE|CLIENT
CLIENT NO-EVICT|CLIENT NO-EVICT foo|CLIENT NO-EVICT on|CLIENT NO-EVICT OFF x|CLIENT NO-TOUCH foo|CLIENT NO-TOUCH OFF
CLIENT REPLY|CLIENT REPLY foo|CLIENT REPLY ON|CLIENT REPLY on x|CLIENT FOO|CLIENT LIST ID 1 1 999999
CLIENT SETINFO lib-name|CLIENT SETINFO foo bar|CLIENT SETNAME|CLIENT GETNAME|CLIENT GETNAME x|CLIENT ID x
CLIENT UNBLOCK|CLIENT UNBLOCK 999999|CLIENT UNBLOCK x|CLIENT UNBLOCK 999999 foo|CLIENT UNBLOCK 1 ERROR x
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize("line", LINES)
def test_filters_and_their_errors_are_the_servers(pair: Pair, line: str) -> None:
    pair.same(*line.split(" "))


@pytest.mark.parametrize(
    "words", ["TYPE normal", "TYPE pubsub", "USER default", "LADDR 127.0.0.1:2", "MAXAGE 5"]
)
def test_filters_choose_whom_to_kill(pair: Pair, words: str) -> None:
    victim = OurClient(pair.engine)
    victim.session.created_us -= 10_000_000
    if "pubsub" in words:
        victim.send(b"SUBSCRIBE c\r\n")
    killer = OurClient(pair.engine)
    pair.ours.session.close()
    assert killer.send(encode_request(("CLIENT", "KILL", *words.split()))) == b":1\r\n"
    assert victim.session.is_closing
    assert not killer.session.is_closing
