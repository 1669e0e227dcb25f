"""HyperLogLogs: replies, errors and every byte of the strings are redis-server's."""

from __future__ import annotations

import shlex
from random import Random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.redis_pair import Pair

pytestmark = pytest.mark.conformance

# Each script runs on empty databases; every reply must be the same.
SCRIPTS: dict[str, list[str]] = {
    "arguments": [
        "PFADD h a b c",
        "PFDEBUG ENCODING h",
        "PFDEBUG DECODE h",
        "PFDEBUG TODENSE h",
        "PFDEBUG TODENSE h",
        "PFDEBUG DECODE h",
        "PFDEBUG encoding h",
        "PFDEBUG GETREG none",
        "PFDEBUG FOO h",
        "PFDEBUG FOO none",
        "PFDEBUG",
        "PFDEBUG ENCODING",
        "PFDEBUG ENCODING h x",
        "PFDEBUG SIMD ON",
        "PFDEBUG SIMD OFF",
        "PFDEBUG SIMD ON",
        "PFDEBUG GETREG h h",
        "PFDEBUG help",
        "PFDEBUG HELP h",
        "PFSELFTEST",
        "PFSELFTEST x",
        "SET s foo",
        "PFADD s a",
        "PFCOUNT s",
        "PFMERGE s",
        "PFMERGE d s",
        "PFDEBUG ENCODING s",
        "SET n 12345678901234567",
        "PFCOUNT n",
        "SET s HYLL",
        "PFCOUNT s",
        "PFCOUNT s",
        "PFCOUNT s",
    ],
    "wrong_types": [
        "SADD l a",
        "PFADD l a",
        "PFCOUNT l",
        "PFADD h a",
        "PFCOUNT h l",
        "PFMERGE l h",
        "PFMERGE h l",
        "PFDEBUG GETREG l",
    ],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_replies_are_those_of_redis_server(pair: Pair, name: str) -> None:
    for line in SCRIPTS[name]:
        pair.same(*shlex.split(line))


@pytest.mark.parametrize("length", [*range(34), 100])
def test_elements_of_any_length_hash_alike(pair: Pair, length: int) -> None:
    for element in (b"a" * length, b"\0" * length, b"\xff" * length, bytes(range(128 - length, 128))):
        pair.same("PFADD", "k", element)
        pair.same("PFDEBUG", "DECODE", "k")


def test_the_string_is_the_same_at_every_size(pair: Pair) -> None:
    random = Random(1)
    count = 0
    while count < 30_000:
        batch = 1 + count // 20
        pair.same("PFADD", "k", *[b"%d" % random.getrandbits(64) for _ in range(batch)])
        pair.same("GET", "k")
        pair.same("PFCOUNT", "k")
        count += batch


def test_many_elements_in_one_request_are_the_same(pair: Pair) -> None:
    random = Random(3)
    for size in (3000, 1024, 1025, 20_000, 1023, 5000):  # sparse at first
        elements = [b"%d" % random.getrandbits(random.choice((8, 64))) for _ in range(size)]
        for _ in range(2):
            pair.same("PFADD", "k", *elements)
            pair.same("GET", "k")
            pair.same("PFCOUNT", "k")


def test_merges_of_sparse_and_dense_are_the_same(pair: Pair) -> None:
    random = Random(2)
    sizes = {"a": 10, "b": 400, "c": 1500, "d": 20_000}
    for key, size in sizes.items():
        for _ in range(0, size, 500):
            pair.same("PFADD", key, *[b"%d" % random.getrandbits(64) for _ in range(min(size, 500))])
    for sources in ("a b", "b c", "a b c", "d a", "a d", "c c"):
        keys = sources.split()
        pair.same("DEL", "to")
        pair.same("PFMERGE", "to", *keys)
        pair.same("GET", "to")
        pair.same("PFCOUNT", *keys)
        pair.same("PFCOUNT", "to")
        pair.same("PFMERGE", keys[0], *keys)
        pair.same("GET", keys[0])


def test_only_the_first_of_two_errors_is_sent(pair: Pair) -> None:
    """redis-server answers PFDEBUG SIMD with a wrong word twice, which would shift every reply after it."""
    pair.both("PFDEBUG", "SIMD", "OFF")
    ours = pair.ours.send(b"PFDEBUG SIMD x\r\n")
    theirs = pair.exchange(b"PFDEBUG SIMD x\r\n", 2)[1]
    assert theirs == ours + b"+disabled\r\n"
    pair.both("PFDEBUG", "SIMD", "ON")
