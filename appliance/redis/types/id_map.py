"""An ordered map whose keys are integers: entries of streams by their IDs.

Keys lie in chunks of bounded length, so inserting and removing move a bounded number of pointers, and a key
is found by two binary searches: one among the largest keys of the chunks, one inside a chunk. IDs nearly
always arrive in order, which is the way with the least work: the last chunk is filled and a new one begun.

No hash is involved: IDs are chosen by clients, and Python's hash of an integer is not keyed.

Invariants: `check_invariants`. A chunk is never empty.
Errors:     KeyError from `remove` of a key that is not there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from mypy_extensions import i64

# A chunk is cut in halves when it outgrows this.
_CHUNK: Final = 512


class Chunk:
    """Neighbouring keys and their values."""

    def __init__(self, keys: list[int], values: list[object]) -> None:
        self.keys = keys
        self.values = values


class IdMap:
    """Integers in order, each with a value."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._largest: list[int] = []  # of each chunk
        self._length: i64 = 0

    def __len__(self) -> int:
        return self._length

    def _find_chunk(self, key: int) -> i64:
        """The chunk that holds the first key not below `key`; one past the last when there is none."""
        return bisect_left(self._largest, key)

    def get(self, key: int) -> object:
        """The value of a key, or None."""
        at = self._find_chunk(key)
        if at == len(self._chunks):
            return None
        chunk = self._chunks[at]
        index: i64 = bisect_left(chunk.keys, key)
        return chunk.values[index] if chunk.keys[index] == key else None

    def contains(self, key: int) -> bool:
        at = self._find_chunk(key)
        if at == len(self._chunks):
            return False
        keys = self._chunks[at].keys
        return keys[bisect_left(keys, key)] == key

    def set(self, key: int, value: object) -> bool:
        """Give a key a value; whether the key is new."""
        count: i64 = len(self._chunks)
        at = count
        if count > 0 and key <= self._largest[count - 1]:
            at = self._find_chunk(key)
            chunk = self._chunks[at]
            index: i64 = bisect_left(chunk.keys, key)
            if chunk.keys[index] == key:
                chunk.values[index] = value
                return False
            chunk.keys.insert(index, key)
            chunk.values.insert(index, value)
            if len(chunk.keys) > _CHUNK:
                self._split(at)
        elif count > 0 and len(self._chunks[count - 1].keys) < _CHUNK:
            chunk = self._chunks[count - 1]
            chunk.keys.append(key)
            chunk.values.append(value)
            self._largest[count - 1] = key
        else:
            self._chunks.append(Chunk([key], [value]))
            self._largest.append(key)
        self._length += 1
        return True

    def _split(self, at: i64) -> None:
        chunk = self._chunks[at]
        half: i64 = len(chunk.keys) // 2
        rest = Chunk(chunk.keys[half:], chunk.values[half:])
        chunk.keys = chunk.keys[:half]
        chunk.values = chunk.values[:half]
        self._chunks.insert(at + 1, rest)
        self._largest.insert(at, chunk.keys[half - 1])

    def remove(self, key: int) -> object:
        """Take a key out and give its value.

        Raises:
            KeyError: it is not there.
        """
        before = self._length
        value = self.discard(key)
        if self._length == before:
            raise KeyError(key)
        return value

    def discard(self, key: int) -> object:
        """Take a key out if it is there and give its value, else None."""
        at = self._find_chunk(key)
        if at == len(self._chunks):
            return None
        chunk = self._chunks[at]
        index: i64 = bisect_left(chunk.keys, key)
        if chunk.keys[index] != key:
            return None
        value = chunk.values[index]
        del chunk.keys[index]
        del chunk.values[index]
        left: i64 = len(chunk.keys)
        if left == 0:
            del self._chunks[at]
            del self._largest[at]
        elif index == left:
            self._largest[at] = chunk.keys[left - 1]
        self._length -= 1
        return value

    def remove_all(self, keys: list[int]) -> None:
        """Take out keys that are there, in ascending order. O(n) of the chunks that have some of them."""
        count: i64 = len(keys)
        done: i64 = 0
        chunks: list[Chunk] = []
        largest: list[int] = []
        for chunk in self._chunks:
            if done < count and keys[done] <= chunk.keys[len(chunk.keys) - 1]:
                kept: i64 = 0
                at: i64 = 0
                size: i64 = len(chunk.keys)
                while at < size:
                    if done < count and chunk.keys[at] == keys[done]:
                        done += 1
                    else:
                        chunk.keys[kept] = chunk.keys[at]
                        chunk.values[kept] = chunk.values[at]
                        kept += 1
                    at += 1
                if kept == 0:
                    continue
                del chunk.keys[kept:]
                del chunk.values[kept:]
            chunks.append(chunk)
            largest.append(chunk.keys[len(chunk.keys) - 1])
        self._chunks = chunks
        self._largest = largest
        self._length -= done

    def first_key(self) -> int:
        """The smallest key of a map that is not empty."""
        return self._chunks[0].keys[0]

    def last_key(self) -> int:
        """The largest key of a map that is not empty."""
        return self._largest[len(self._largest) - 1]

    def last_value(self) -> object:
        """The value of the largest key; None when empty."""
        count: i64 = len(self._chunks)
        if count == 0:
            return None
        values = self._chunks[count - 1].values
        return values[len(values) - 1]

    def piece(self, start: int, limit: i64 = _CHUNK) -> tuple[list[int], list[object]]:
        """Some keys from `start` on, in order, with their values: a copy, so the map may change meanwhile.

        To go through the map, go on from the last key + 1, until a piece is empty.

        Args:
            start: no key is smaller.
            limit: no more keys than this (there may be fewer although more follow).
        """
        at = self._find_chunk(start)
        if at == len(self._chunks):
            return [], []
        chunk = self._chunks[at]
        index: i64 = bisect_left(chunk.keys, start)
        return chunk.keys[index : index + limit], chunk.values[index : index + limit]

    def piece_before(self, end: int) -> tuple[list[int], list[object]]:
        """As piece, backwards: keys up to `end`, still in ascending order. Go on from the first key - 1."""
        at = self._find_chunk(end)
        if at == len(self._chunks):
            if at == 0:
                return [], []
            at -= 1
        chunk = self._chunks[at]
        index: i64 = bisect_right(chunk.keys, end)
        if index == 0:
            if at == 0:
                return [], []
            chunk = self._chunks[at - 1]
            index = len(chunk.keys)
        return chunk.keys[:index], chunk.values[:index]

    def floor_value(self, key: int) -> object:
        """The value of the largest key not above `key`; None when all are above."""
        at = self._find_chunk(key)
        if at == len(self._chunks):
            return self.last_value()
        chunk = self._chunks[at]
        index: i64 = bisect_right(chunk.keys, key)
        if index > 0:
            return chunk.values[index - 1]
        if at == 0:
            return None
        values = self._chunks[at - 1].values
        return values[len(values) - 1]

    def keys(self) -> list[int]:
        """All keys. O(n)."""
        found: list[int] = []
        for chunk in self._chunks:
            found.extend(chunk.keys)
        return found

    def take_up_to(self, key: int) -> IdMap:
        """Take the keys up to `key`, and their values, out and into a map of their own. O(chunks)."""
        taken = IdMap()
        at = self._find_chunk(key + 1)  # the first chunk of which something stays
        if at < len(self._chunks):
            chunk = self._chunks[at]
            index: i64 = bisect_right(chunk.keys, key)
            if index > 0:
                self._chunks.insert(at, Chunk(chunk.keys[:index], chunk.values[:index]))
                self._largest.insert(at, chunk.keys[index - 1])
                del chunk.keys[:index]
                del chunk.values[:index]
                at += 1
        taken._chunks = self._chunks[:at]
        taken._largest = self._largest[:at]
        del self._chunks[:at]
        del self._largest[:at]
        for chunk in taken._chunks:
            taken._length += len(chunk.keys)
        self._length -= taken._length
        return taken

    def drop_chunk(self) -> i64:
        """Let go of the last chunk; how many keys it had. For releasing a large map piece by piece."""
        if len(self._chunks) == 0:
            return 0
        self._largest.pop()
        dropped: i64 = len(self._chunks.pop().keys)
        self._length -= dropped
        return dropped

    def memory_usage(self) -> int:
        """Bytes of keys and pointers, without the values."""
        return 120 + 240 * len(self._chunks) + 64 * self._length

    def check_invariants(self) -> None:
        """Raise AssertionError when the structure is broken. O(n): tests only."""
        keys = self.keys()
        assert len(keys) == self._length
        assert all(keys[i] < keys[i + 1] for i in range(len(keys) - 1))
        assert self._largest == [chunk.keys[-1] for chunk in self._chunks]
        assert all(len(chunk.keys) == len(chunk.values) <= _CHUNK for chunk in self._chunks)
