"""Files of Redis: what is written is read back, in pieces of any size; any other bytes are a PayloadError."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.redis.crc64 import crc64
from appliance.redis.dump import PayloadError, dump, restore
from appliance.redis.entry import NO_EXPIRY
from appliance.redis.rdb import ABOUT, END, KEY, LIBRARY, UNKNOWN, RdbReader, RdbWriter
from tests.unit.redis.test_dump import LIMITS, values

CODE = b"#!lua name=l\nredis.register_function('f', function() return 1 end)"


def sealed(body: bytes) -> bytes:
    return body + crc64(body, len(body)).to_bytes(8, "little", signed=True)


def things(data: bytes) -> list[tuple[object, ...]]:
    """All that a file says, in its order."""
    reader = RdbReader(data)
    found: list[tuple[object, ...]] = []
    while (kind := reader.next()) != END:
        if kind == ABOUT:
            found.append((reader.name, reader.text))
        elif kind == LIBRARY:
            found.append((reader.text,))
        else:
            assert kind == KEY
            value = dump(reader.value(LIMITS))
            found.append(
                (reader.database, reader.key, value, reader.expire_at_ms, reader.idle_s, reader.frequency)
            )
    return found


def example(piece_after: int) -> bytes:
    """A file with a bit of everything, taken in pieces after so many things each."""
    writer = RdbWriter()
    pieces = []
    count = 0

    def said() -> None:
        nonlocal count
        count += 1
        if count % piece_after == 0:
            pieces.append(writer.take())

    writer.about(b"redis-bits", b"64")
    said()
    writer.library(CODE)
    said()
    for database in (0, 300):
        writer.select(database)
        writer.sizes(20, 2)
        for at, value in enumerate(values()):
            expire_at_ms = 1_900_000_000_000 if at % 3 == 0 else NO_EXPIRY
            idle_s, frequency = ((UNKNOWN, UNKNOWN), (70_000, UNKNOWN), (UNKNOWN, 255))[at % 3]
            writer.key(b"%d" % at, value, expire_at_ms, idle_s, frequency)
            said()
    writer.end()
    return b"".join(pieces) + writer.take()


def test_what_was_written_is_read() -> None:
    expected: list[tuple[object, ...]] = [(b"redis-bits", b"64"), (CODE,)]
    for database in (0, 300):
        for at, value in enumerate(values()):
            expire_at_ms = 1_900_000_000_000 if at % 3 == 0 else NO_EXPIRY
            idle_s, frequency = ((UNKNOWN, UNKNOWN), (70_000, UNKNOWN), (UNKNOWN, 255))[at % 3]
            again = dump(restore(dump(value), LIMITS, 0))  # a small set becomes a listpack
            expected.append((database, b"%d" % at, again, expire_at_ms, idle_s, frequency))
    assert things(example(1)) == expected


@pytest.mark.parametrize("piece_after", [1, 2, 7, 1000])
def test_pieces_make_the_same_file(piece_after: int) -> None:
    assert example(piece_after) == example(3)


def test_bytes_are_those_of_redis_server() -> None:
    """Of a server with one library, an integer in database 0 and a string that expires in database 3."""
    writer = RdbWriter()
    for name, text in (
        ("redis-ver", "8.2.3"),
        ("redis-bits", "64"),
        ("ctime", "1795391505"),
        ("used-mem", "807240"),
        ("repl-stream-db", "0"),
        ("repl-id", "e34922e05828505faac3d30e700a7f3aaaabaea2"),
        ("repl-offset", "0"),
        ("aof-base", "0"),
    ):
        writer.about(name.encode(), text.encode())
    writer.library(b'#!lua name=l\nredis.register_function("f",function() return 1 end)')
    writer.select(0)
    writer.sizes(1, 0)
    writer.key(b"a", 1, NO_EXPIRY)
    writer.select(3)
    writer.sizes(1, 1)
    writer.key(b"b", b"hello", 1795491500060)
    writer.end()
    assert writer.take() == bytes.fromhex(
        "524544495330303132fa0972656469732d76657205382e322e33fa0a72656469732d62697473c040fa056374696d65c2"
        "1180036bfa08757365642d6d656dc248510c00fa0e7265706c2d73747265616d2d6462c000fa077265706c2d69642865"
        "333439323265303538323835303566616163336433306537303061376633616161616261656132fa0b7265706c2d6f66"
        "66736574c000fa08616f662d62617365c000f5404123216c7561206e616d653d6c0a72656469732e7265676973746572"
        "5f66756e6374696f6e282266222c66756e6374696f6e28292072657475726e203120656e6429fe00fb0100000161c001"
        "fe03fb0101fc1c10a20ba20100000001620568656c6c6fff931b9f28def72a7c"
    )


def test_without_a_checksum_there_are_zeros() -> None:
    writer = RdbWriter(has_checksum=False)
    writer.key(b"k", b"v", NO_EXPIRY)
    writer.end()
    data = writer.take()
    assert data.endswith(b"\xff" + bytes(8))
    assert len(things(data)) == 1


def test_opcodes_of_old_and_of_clusters_are_read() -> None:
    body = b"REDIS0012\xfd\x10\x00\x00\x00\xf4\x01\x02\x03\x00\x01k\x01v\xff"
    assert things(sealed(body)) == [(0, b"k", dump(b"v"), 16_000, UNKNOWN, UNKNOWN)]
    # Before version 5 there was no checksum.
    assert things(b"REDIS0003\xfe\x02\x00\x01k\x01v\xff") == [
        (2, b"k", dump(b"v"), NO_EXPIRY, UNKNOWN, UNKNOWN)
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"REDIS0012",
        b"REDIS0012\xff",
        b"REDIS0013\xff" + bytes(8),
        b"REDIS0000\xff" + bytes(8),
        b"RODIS0012\xff" + bytes(8),
        b"REDIS001x\xff" + bytes(8),
        b"REDIS0012" + bytes(8),
        b"REDIS0012\xf7\x00\xff" + bytes(8),
        b"REDIS0012\xf6\x00\xff" + bytes(8),
        b"REDIS0012\xfa\x01a\xff" + bytes(8),
        sealed(b"REDIS0012\xff")[:-1] + b"\x55",
    ],
)
def test_what_is_no_file_is_refused(data: bytes) -> None:
    with pytest.raises(PayloadError):
        things(data)


@given(st.data())
def test_any_change_ends_in_things_or_in_an_error(data: st.DataObject) -> None:
    body = bytearray(example(1)[:-8])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(9, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(9, len(body)))
    for text in (bytes(body), bytes(body[:cut])):
        try:
            things(sealed(text))
        except PayloadError:
            pass
