"""The list structure: against a plain Python list, its encodings, its time, its end in pieces."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

from appliance.redis.types.collection import NOTHING_LEFT, EncodingLimits
from appliance.redis.types.lists import ListValue, entry_size
from tests.support.redis_client import Client, make_engine


def made(*values: bytes, fill: int = -2) -> ListValue:
    limits = EncodingLimits()
    limits.list_max_listpack_size = fill
    value = ListValue(limits)
    push(value, *values)
    return value


def push(value: ListValue, *elements: bytes, at_head: bool = False) -> None:
    value.push_arguments([b"", b"", *elements], 2, at_head)


@pytest.mark.parametrize(
    ("element", "size"),
    [
        (b"", 2),
        (b"a", 3),
        (b"0", 2),
        (b"127", 2),
        (b"128", 3),
        (b"-1", 3),
        (b"4095", 3),
        (b"-4096", 3),
        (b"4096", 4),
        (b"32767", 4),
        (b"32768", 5),
        (b"8388607", 5),
        (b"8388608", 6),
        (b"2147483647", 6),
        (b"2147483648", 10),
        (b"-9223372036854775808", 10),
        (b"9223372036854775808", 21),
        (b"007", 5),
        (b"+1", 4),
        (b"-", 3),
        (b"x" * 63, 65),
        (b"x" * 64, 67),
        (b"x" * 125, 128),
        (b"x" * 126, 130),
        (b"x" * 4095, 4099),
        (b"x" * 4096, 4103),
        (b"x" * 16377, 16384),
        (b"x" * 16378, 16386),
    ],
)
def test_an_element_takes_what_the_listpack_format_says(element: bytes, size: int) -> None:
    assert entry_size(element) == size


elements = st.one_of(
    st.sampled_from([b"a", b"b", b"", b"1", b"-300"]),
    st.builds(
        lambda letter, n: letter * n, st.sampled_from([b"x", b"y"]), st.sampled_from([40, 700, 5000, 9000])
    ),
)
positions = st.integers(-30, 30)
operations = st.one_of(
    st.tuples(st.just("push"), st.booleans(), st.lists(elements, min_size=1, max_size=12)),
    st.tuples(st.just("pop"), st.booleans()),
    st.tuples(st.just("set"), positions, elements),
    st.tuples(st.just("insert"), elements, elements, st.booleans()),
    st.tuples(st.just("remove"), elements, st.integers(1, 5), st.booleans()),
    st.tuples(st.just("cut"), st.integers(0, 20), st.integers(0, 20)),
    st.tuples(st.just("copy")),
)


@given(st.sampled_from([-5, -2, -1, 0, 1, 2, 5, 100]), st.lists(operations, max_size=40))
@settings(max_examples=3 * settings().max_examples)
def test_any_history_leaves_the_elements_a_plain_list_would_have(
    fill: int, history: list[tuple[object, ...]]
) -> None:
    value = made(fill=fill)
    model: list[bytes] = []
    copies: list[tuple[ListValue, list[bytes]]] = []
    for name, *rest in history:
        if name == "push":
            at_head, new = rest
            push(value, *new, at_head=at_head)  # type: ignore[misc, arg-type]
            model = [*reversed(new), *model] if at_head else [*model, *new]  # type: ignore[call-overload, misc]
        elif name == "pop" and model:
            assert (value.pop_head() if rest[0] else value.pop_tail()) == model.pop(0 if rest[0] else -1)
            value.after_removal()
        elif name == "set" and model:
            index = int(rest[0]) % len(model)  # type: ignore[call-overload]
            value.before_growth(len(rest[1]), 1)  # type: ignore[arg-type]
            value.set(index, rest[1])  # type: ignore[arg-type]
            value.after_removal()
            model[index] = rest[1]  # type: ignore[call-overload]
        elif name == "insert":
            pivot, new_one, after = rest
            value.before_growth(len(new_one), 1)  # type: ignore[arg-type]
            assert value.insert(pivot, new_one, after) == (pivot in model)  # type: ignore[arg-type]
            if pivot in model:
                model.insert(model.index(pivot) + bool(after), new_one)  # type: ignore[arg-type]
        elif name == "remove":
            unwanted, limit, from_tail = rest
            there = [index for index, item in enumerate(model) if item == unwanted]
            gone = there[-limit:] if from_tail else there[:limit]  # type: ignore[operator, misc]
            assert value.remove(unwanted, limit, from_tail) == len(gone)  # type: ignore[arg-type]
            model = [item for index, item in enumerate(model) if index not in gone]
            if gone:
                value.after_removal()
        elif name == "cut" and model:
            start = int(rest[0]) % len(model)  # type: ignore[call-overload]
            count = min(int(rest[1]), len(model) - start)  # type: ignore[call-overload]
            value.delete_range(start, count)
            del model[start : start + count]
            value.after_removal()
        elif name == "copy":
            copies.append((value, list(model)))  # it stays as it is; the copy goes on
            value = value.copy()
        if not model:
            value = made(fill=fill)  # the key would be gone
        value.check_invariants()
        assert len(value) == len(model)
        assert value.everything() == model
        for index in {0, len(model) // 2, len(model) - 1} & set(range(len(model))):
            assert value.get(index) == model[index]
        for item in (b"a", b"x" * 40):
            there = [index for index, other_item in enumerate(model) if other_item == item]
            assert value.positions(item, 0, 1 << 40, 1 << 40, False) == there
            assert value.positions(item, 1, 2, 1 << 40, True) == there[::-1][1:3]
            assert value.positions(item, 0, 1 << 40, 3, True) == [
                i for i in there[::-1] if i >= len(model) - 3
            ]
    for value, model in copies:
        value.check_invariants()
        assert value.everything() == model


def test_every_slice_is_that_of_a_plain_list() -> None:
    model = [b"%d" % n * (n % 9) for n in range(60)]
    value = made(*model, fill=7)
    assert value.node_count() > 5
    for start in range(60):
        for stop in range(start, 60):
            assert value.elements(start, stop) == model[start : stop + 1]


def test_a_list_becomes_a_quicklist_past_the_limit_and_a_listpack_again_at_half_of_it() -> None:
    value = made(*[b"x" * 62] * 127)
    assert value.encoding() == b"listpack"
    push(value, b"x" * 62)
    assert value.encoding() == b"quicklist"
    while len(value) > 64:
        value.pop_tail()
        value.after_removal()
        assert value.encoding() == b"quicklist"
    value.pop_tail()
    value.after_removal()
    assert value.encoding() == b"listpack"
    value.check_invariants()


def test_release_frees_no_more_than_its_budget_and_a_node() -> None:
    value = made(*[b"element:%d" % n for n in range(50_000)])
    left = len(value)
    steps = 0
    while left != NOTHING_LEFT:
        before = left
        left = value.release(1000)
        assert before - left <= 1000 + 3000
        steps += 1
    assert steps >= 15


def test_a_copy_shares_nothing_that_changes() -> None:
    value = made(*[b"%d" % n for n in range(5000)])
    other = value.copy()
    value.set(0, b"changed")
    value.pop_tail()
    push(value, b"head", at_head=True)
    assert other.everything() == [b"%d" % n for n in range(5000)]
    other.check_invariants()
    for _ in range(5000):
        other.pop_head()
    assert value.everything() == [b"head", b"changed", *[b"%d" % n for n in range(1, 4999)]]
    value.check_invariants()


def test_memory_usage_grows_with_what_is_held_and_sampling_comes_near() -> None:
    value = made(*[b"x" * 100] * 10_000)
    exact = value.memory_usage(0)
    assert 10_000 * 133 < exact < 10_000 * 200
    assert abs(value.memory_usage(5) - exact) < exact // 10
    assert made(b"a").memory_usage(5) < 1000


def test_a_queue_that_is_always_full_does_not_grow_inside() -> None:
    value = made(*[b"x"] * 1000)
    for n in range(20_000):
        push(value, b"%d" % n)
        value.pop_head()
        value.after_removal()
    value.check_invariants()
    assert value.memory_usage(0) < 200_000
    for n in range(20_000):
        push(value, b"%d" % n, at_head=True)
        value.pop_tail()
        value.after_removal()
    value.check_invariants()
    assert value.memory_usage(0) < 200_000


def test_large_elements_have_nodes_of_their_own_and_ends_stay_fast() -> None:
    value = made()
    chooser = random.Random(1)
    model: list[bytes] = []
    for n in range(3000):
        element = b"%d" % n + b"x" * chooser.choice([9000, 10])
        at_head = chooser.random() < 0.5
        push(value, element, at_head=at_head)
        model.insert(0 if at_head else len(model), element)
    assert value.everything() == model
    value.check_invariants()
    while model:
        at_head = chooser.random() < 0.5
        assert (value.pop_head() if at_head else value.pop_tail()) == model.pop(0 if at_head else -1)
    assert len(value) == 0


@pytest.mark.parametrize("request_", [("DEL", "k"), ("LTRIM", "k", 0, 9), ("LTRIM", "k", 1, 0)])
def test_a_big_list_that_goes_is_let_go_of_in_pieces(request_: tuple[str | int, ...]) -> None:
    engine = make_engine()
    client = Client(engine)
    for start in range(0, 200_000, 20_000):
        client.send("RPUSH", "k", *range(start, start + 20_000))
    client.send(*request_)
    pieces = 0
    while not engine.releases.is_empty():
        engine.handle_timeouts(engine.next_timeout_us())
        pieces += 1
    assert pieces > 10
    assert client.send("LLEN", "k") == (b":10\r\n" if request_[-1] == 9 else b":0\r\n")
