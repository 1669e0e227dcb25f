"""IdMap does what a sorted dictionary does, and moves little at a time."""

from __future__ import annotations

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.redis.types.id_map import IdMap

keys = st.one_of(st.integers(0, 60), st.integers(0, 2**128 - 1))


class IdMapMachine(RuleBasedStateMachine):
    """The map beside a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.map = IdMap()
        self.model: dict[int, object] = {}

    @rule(key=keys, value=st.integers())
    def set(self, key: int, value: int) -> None:
        assert self.map.set(key, value) is (key not in self.model)
        self.model[key] = value

    @rule(first=keys, count=st.integers(1, 1500))
    def set_many(self, first: int, count: int) -> None:
        for key in range(first, first + count):
            self.map.set(key, key)
            self.model[key] = key

    @rule(key=keys)
    def remove(self, key: int) -> None:
        if key in self.model:
            assert self.map.remove(key) == self.model.pop(key)
        else:
            with pytest.raises(KeyError):
                self.map.remove(key)

    @rule(data=st.data(), count=st.integers(1, 700))
    def remove_many(self, data: st.DataObject, count: int) -> None:
        present = sorted(self.model)
        if present:
            at = data.draw(st.integers(0, len(present) - 1))
            for key in present[at : at + count]:
                assert self.map.remove(key) == self.model.pop(key)

    @rule(key=keys)
    def look(self, key: int) -> None:
        assert self.map.get(key) == self.model.get(key)
        assert self.map.contains(key) is (key in self.model)
        below = [each for each in self.model if each <= key]
        assert self.map.floor_value(key) == (self.model[max(below)] if below else None)

    @rule(key=keys, limit=st.integers(1, 600))
    def walk(self, key: int, limit: int) -> None:
        found: list[int] = []
        start = key
        while True:
            piece, values = self.map.piece(start, limit)
            assert len(piece) <= limit
            assert values == [self.model[each] for each in piece]
            if not piece:
                break
            found += piece
            start = piece[-1] + 1
        assert found == sorted(each for each in self.model if each >= key)
        backwards: list[int] = []
        end = key
        while True:
            piece, values = self.map.piece_before(end)
            assert values == [self.model[each] for each in piece]
            if not piece:
                break
            backwards = piece + backwards
            end = piece[0] - 1
        assert backwards == sorted(each for each in self.model if each <= key)

    @invariant()
    def is_sound(self) -> None:
        self.map.check_invariants()
        assert len(self.map) == len(self.model)
        assert self.map.keys() == sorted(self.model)
        if self.model:
            assert self.map.first_key() == min(self.model)
            assert self.map.last_key() == max(self.model)
            assert self.map.last_value() == self.model[max(self.model)]
        else:
            assert self.map.last_value() is None


TestIdMap = IdMapMachine.TestCase
TestIdMap.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_drop_chunk_lets_go_of_a_bounded_number() -> None:
    ids = IdMap()
    for key in range(5000):
        ids.set(key, None)
    dropped = []
    while len(ids) > 0:
        dropped.append(ids.drop_chunk())
        ids.check_invariants()
    assert sum(dropped) == 5000
    assert max(dropped) <= 512
    assert ids.drop_chunk() == 0
    assert ids.memory_usage() < 1000


@pytest.mark.parametrize("keys", [1, 512, 513, 3000])
def test_take_up_to_parts_the_map_in_two(keys: int) -> None:
    for key in (-1, 0, 10, 511, 512, 513, keys - 1, keys, keys + 10):
        whole = map_of(keys)
        taken = whole.take_up_to(key)
        taken.check_invariants()
        whole.check_invariants()
        assert taken.keys() == list(range(min(max(key + 1, 0), keys)))
        assert taken.keys() + whole.keys() == list(range(keys))
        assert [whole.get(kept) for kept in whole.keys()] == whole.keys()  # noqa: SIM118 - not a dict


@pytest.mark.parametrize("step", [1, 2, 3, 700])
@pytest.mark.parametrize("keys", [1, 512, 3000])
def test_remove_all_takes_out_what_it_is_told(keys: int, step: int) -> None:
    for first in (0, 100, 600):
        whole = map_of(keys)
        gone = list(range(first, keys, step))
        whole.remove_all(gone)
        whole.check_invariants()
        assert whole.keys() == sorted(set(range(keys)) - set(gone))
        assert [whole.get(kept) for kept in whole.keys()] == whole.keys()  # noqa: SIM118 - not a dict
    whole.remove_all(whole.keys())
    assert len(whole) == 0
    whole.check_invariants()


def map_of(keys: int) -> IdMap:
    """A map of the numbers below that, each with itself."""
    made = IdMap()
    for key in range(keys):
        made.set(key, key)
    return made
