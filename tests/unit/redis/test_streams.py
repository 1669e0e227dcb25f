"""The structure of streams: blocks, trimming, groups; what a client sees is compared with redis-server elsewhere."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, strategies as st

from appliance.redis.types.collection import EncodingLimits
from appliance.redis.types.streams import (
    DELETE_REFERENCES,
    MAX_ID,
    MAX_NODE_BYTES,
    ONLY_ACKNOWLEDGED,
    TRIM_MAXLEN,
    TRIM_MINID,
    UNKNOWN_READ,
    Consumer,
    Group,
    Stream,
    Trim,
    id_text,
    make_id,
)


def stream_of(count: int, *, entries: int = 100, size: int = 4096) -> Stream:
    """A stream with entries 1-0, 2-0 … of one field."""
    limits = EncodingLimits()
    limits.stream_node_max_entries = entries
    limits.stream_node_max_bytes = size
    stream = Stream(limits)
    for ms in range(1, count + 1):
        assert stream.append(ms, 0, [b"field", b"value %d" % ms], 0)
    return stream


def ids_of(stream: Stream, start: int = 0, end: int = MAX_ID, count: int = 0) -> list[int]:
    """The milliseconds of the entries in a range, checked in both directions."""
    forward: list[object] = []
    stream.range(start, end, count, forward)
    if count == 0:
        backward: list[object] = []
        stream.range_reversed(start, end, 0, backward)
        assert backward == forward[::-1]
    return [int(entry[0].split(b"-")[0]) for entry in forward]  # type: ignore[index]


def trimming(
    strategy: int, to: int, *, approximate: bool = False, limit: int = 0, references: int = 0
) -> Trim:
    trim = Trim()
    trim.strategy = strategy
    if strategy == TRIM_MAXLEN:
        trim.maxlen = to
    else:
        trim.minid = to
    trim.is_approximate = approximate
    trim.limit = limit
    trim.references = references
    return trim


def test_append_fills_blocks_to_the_number_of_entries() -> None:
    stream = stream_of(250)
    assert (len(stream), len(stream.blocks)) == (250, 3)
    stream.check_invariants()


def test_append_fills_blocks_to_the_number_of_bytes() -> None:
    stream = stream_of(250, entries=0, size=1000)
    stream.check_invariants()
    sizes = [stream.blocks.get(key).listpack_size() for key in stream.blocks.keys()]  # type: ignore[union-attr]  # noqa: SIM118
    assert max(sizes) < 1100
    assert min(sizes[:-1]) > 950


def test_append_of_too_much_changes_nothing() -> None:
    stream = stream_of(1)
    half = b"x" * (MAX_NODE_BYTES // 2 + 1)
    assert not stream.append(2, 0, [half, half], 0)
    assert (len(stream), stream.last_id) == (1, make_id(1, 0))


@pytest.mark.parametrize("entries", [1, 3, 100])
def test_range_seeks_from_any_id_to_any_id(entries: int) -> None:
    stream = stream_of(60, entries=entries)
    for ms in (5, 6, 7, 30, 59, 60):
        assert stream.delete(make_id(ms, 0))
    alive = [ms for ms in range(1, 61) if ms not in (5, 6, 7, 30, 59, 60)]
    for start in range(0, 63, 4):
        for end in range(0, 63, 5):
            wanted = [ms for ms in alive if start <= ms <= end]
            assert ids_of(stream, make_id(start, 0), make_id(end, 0)) == wanted
            assert ids_of(stream, make_id(start, 0), make_id(end, 0), 3) == wanted[:3]


def test_extreme_ids_come_back() -> None:
    stream = Stream(EncodingLimits())
    top = (1 << 64) - 1
    wanted = [(0, 1), (0, top), (1, 0), (1 << 63, 5), (top, 0), (top, top - 1), (top, top)]
    for ms, seq in wanted:
        assert stream.append(ms, seq, [b"f", b"v"], 0)
    found: list[object] = []
    stream.range(0, MAX_ID, 0, found)
    assert [entry[0] for entry in found] == [id_text(make_id(ms, seq)) for ms, seq in wanted]  # type: ignore[index]
    assert len(stream.blocks) == 1
    stream.check_invariants()


@given(st.lists(st.tuples(st.binary(max_size=70), st.binary(max_size=70)), min_size=1, max_size=6))
def test_any_fields_and_values_come_back(pairs: list[tuple[bytes, bytes]]) -> None:
    stream = Stream(EncodingLimits())
    flat = [word for pair in pairs for word in pair]
    stream.append(1, 1, flat, 0)
    stream.append(1, 2, [*flat[:-1], b"other"], 0)
    stream.append(1, 3, [b"more", b"fields", *flat], 0)
    assert stream.entry(make_id(1, 1)) == [b"1-1", flat]
    assert stream.entry(make_id(1, 2)) == [b"1-2", [*flat[:-1], b"other"]]
    assert stream.entry(make_id(1, 3)) == [b"1-3", [b"more", b"fields", *flat]]
    stream.check_invariants()


def test_delete_of_all_entries_of_a_block_removes_it() -> None:
    stream = stream_of(30, entries=10)
    for ms in range(11, 21):
        assert stream.delete(make_id(ms, 0))
        assert not stream.delete(make_id(ms, 0))
    assert len(stream.blocks) == 2
    for ms in (*range(1, 11), *range(21, 31)):
        stream.delete(make_id(ms, 0))
    stream.refresh_first()
    stream.check_invariants()
    assert (len(stream), len(stream.blocks), stream.first_id, stream.last_living()) == (0, 0, 0, 0)
    stream.append(31, 0, [b"f", b"v"], 0)
    stream.check_invariants()


def test_trim_exactly_deletes_inside_of_a_block() -> None:
    stream = stream_of(30, entries=10)
    assert stream.trim(trimming(TRIM_MAXLEN, 15)) == 15
    assert ids_of(stream) == list(range(16, 31))
    assert stream.trim(trimming(TRIM_MINID, make_id(25, 0))) == 9
    assert ids_of(stream) == list(range(25, 31))
    assert stream.first_id == make_id(25, 0)
    stream.check_invariants()


def test_trim_approximately_removes_whole_blocks_alone() -> None:
    stream = stream_of(30, entries=10)
    assert stream.trim(trimming(TRIM_MAXLEN, 15, approximate=True)) == 10
    assert stream.trim(trimming(TRIM_MINID, make_id(25, 0), approximate=True)) == 10
    assert ids_of(stream) == list(range(21, 31))


def test_trim_stops_at_its_limit() -> None:
    stream = stream_of(30, entries=10)
    assert stream.trim(trimming(TRIM_MAXLEN, 0, approximate=True, limit=25)) == 20
    assert stream.trim(trimming(TRIM_MAXLEN, 0, approximate=True, limit=5)) == 0


@pytest.mark.parametrize("strategy", [TRIM_MAXLEN, TRIM_MINID])
@pytest.mark.parametrize("to", [5000, 4500, 1234, 7, 0])
def test_much_that_is_trimmed_is_left_to_the_caller(strategy: int, to: int) -> None:
    stream = stream_of(5000)
    trim = trimming(strategy, to if strategy == TRIM_MAXLEN else make_id(5001 - to, 0))
    assert stream.trim(trim) == 5000 - to
    assert ids_of(stream) == list(range(5001 - to, 5001))
    stream.check_invariants()
    stream.append(6000, 0, [b"field", b"value"], 0)
    stream.check_invariants()
    if to > 4000:
        assert trim.discarded is None  # little: it is gone already
        return
    assert trim.discarded is not None
    trim.discarded.blocks.check_invariants()
    assert len(trim.discarded) == (5000 - to) // 100 * 100
    while trim.discarded.release(500) > 0:
        pass
    assert len(trim.discarded.blocks) == 0


def grouped(stream: Stream, read: int, acknowledged: tuple[int, ...] = ()) -> Group:
    """A group that has read the first entries and acknowledged some."""
    group = Group(make_id(read, 0), UNKNOWN_READ)
    consumer = Consumer(b"c", 0)
    group.consumers[b"c"] = consumer
    for ms in range(1, read + 1):
        group.deliver(make_id(ms, 0), consumer, 5)
    for ms in acknowledged:
        group.acknowledge(make_id(ms, 0))
    stream.groups[b"g%d" % len(stream.groups)] = group
    return group


def test_trim_spares_what_is_not_acknowledged_by_all() -> None:
    stream = stream_of(10, entries=4)
    grouped(stream, 8, acknowledged=(1, 2, 3, 5))
    grouped(stream, 10, acknowledged=tuple(range(1, 10)))
    assert stream.trim(trimming(TRIM_MAXLEN, 0, references=ONLY_ACKNOWLEDGED)) == 4
    assert ids_of(stream) == [4, 6, 7, 8, 9, 10]
    stream.check_invariants()


def test_trim_takes_references_along() -> None:
    stream = stream_of(10, entries=4)
    group = grouped(stream, 8)
    assert stream.trim(trimming(TRIM_MAXLEN, 5, references=DELETE_REFERENCES)) == 5
    assert group.pending.keys() == [make_id(ms, 0) for ms in (6, 7, 8)]
    stream.check_invariants()


def test_copy_is_equal_and_apart() -> None:
    stream = stream_of(30, entries=7)
    stream.delete(make_id(3, 0))
    grouped(stream, 20, acknowledged=(4,))
    twin = stream.copy()
    twin.check_invariants()
    assert ids_of(twin) == ids_of(stream)
    assert twin.groups[b"g0"].pending.keys() == stream.groups[b"g0"].pending.keys()
    assert twin.last_id == stream.last_id
    twin.append(99, 0, [b"f", b"v"], 0)
    twin.delete(make_id(1, 0))
    twin.groups[b"g0"].acknowledge(make_id(5, 0))
    stream.check_invariants()
    assert len(stream) == 29
    assert stream.contains(make_id(1, 0))
    assert stream.groups[b"g0"].nack(make_id(5, 0)) is not None


def test_release_lets_go_piece_by_piece() -> None:
    stream = stream_of(5000)
    grouped(stream, 5000)
    left = stream.release(1000)
    pieces = 1
    while left > 0:
        smaller = stream.release(1000)
        assert smaller < left
        left = smaller
        pieces += 1
    assert 8 <= pieces <= 30
    assert (len(stream.blocks), len(stream.groups)) == (0, 0)


def test_memory_usage_grows_with_entries_and_groups() -> None:
    small, big = stream_of(100), stream_of(10_000)
    assert 60 < big.memory_usage(0) / 10_000 < 200
    assert abs(big.memory_usage(5) - big.memory_usage(0)) < big.memory_usage(0) * 0.2
    before = small.memory_usage(5)
    grouped(small, 100)
    assert small.memory_usage(5) > before + 100 * 100


def nodes_of_tree(keys: list[int]) -> int:
    """Nodes of a radix tree of 16-byte keys, by building it: leaves, branches and runs between them."""

    def nodes(members: list[bytes], depth: int) -> int:
        if depth == 16:
            return 1
        common = depth
        while common < 16 and len({member[common] for member in members}) == 1:
            common += 1
        run = 1 if common > depth else 0
        if common == 16:
            return run + 1
        below: dict[int, list[bytes]] = {}
        for member in members:
            below.setdefault(member[common], []).append(member)
        return run + 1 + sum(nodes(each, common + 1) for each in below.values())

    return nodes([key.to_bytes(16, "big") for key in keys], 0) if keys else 1


@given(st.lists(st.one_of(st.integers(0, 5000), st.integers(0, 2**128 - 1)), max_size=30, unique=True))
def test_radix_tree_nodes_are_those_of_a_radix_tree(keys: list[int]) -> None:
    stream = Stream(EncodingLimits())
    for key in keys:
        stream.blocks.set(key, None)
    assert stream.radix_tree_nodes() == nodes_of_tree(sorted(keys))


def test_random_work_keeps_the_structure_sound() -> None:
    random = Random(11)
    stream = stream_of(0, entries=5, size=300)
    group = grouped(stream, 0)
    consumers = [Consumer(b"%d" % at, 0) for at in range(3)]
    for consumer in consumers:
        group.consumers[consumer.name] = consumer
    model: dict[int, None] = {}
    ms = 0
    for step in range(4000):
        kind = random.random()
        if kind < 0.5:
            ms += random.randint(1, 3)
            stream.append(ms, 0, [b"f%d" % random.randint(0, 1), b"v" * random.randint(0, 90)], 0)
            model[ms] = None
        elif kind < 0.8 and model:
            victim = random.choice(list(model)[:20])
            assert stream.delete(make_id(victim, 0))
            if stream.deleted(make_id(victim, 0)) or stream.length == 0:
                stream.refresh_first()
            del model[victim]
        elif kind < 0.95 and model:
            group.deliver(make_id(random.choice(list(model)), 0), random.choice(consumers), step)
        else:
            stream.trim(trimming(TRIM_MAXLEN, random.randint(5, 60)))
            for gone in list(model)[: len(model) - len(stream)]:
                del model[gone]
        if step % 100 == 0:
            stream.check_invariants()
            assert ids_of(stream) == list(model)
    stream.check_invariants()
