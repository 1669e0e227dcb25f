"""The smallest of many, in order, and equal ones in the server's order.

redis-server sorts only the part of an array that is asked for (GEOSEARCH with COUNT, SORT with LIMIT): a
quicksort that leaves alone whatever lies outside. It is not stable, so which of several equal elements comes
first, and which are left out, depends on its every exchange; clients see that, so it is done alike here.

Source:     J. L. Bentley, M. D. McIlroy, "Engineering a sort function", Software: Practice and Experience
            23 (1993): a split in three with the equal elements collected at both ends, the pivot a median of
            three, or of three medians.
Errors:     none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_INSERTION: Final = 7
_NINTHER: Final = 40


def sort_range(items: list[T], compare: Callable[[T, T], int], first: int, last: int) -> None:
    """Bring items into order so far that those from index first to last are in their places.

    Args:
        compare: negative, 0 or positive, as the first is less than, equal to or greater than the second.
    """
    start = 0
    size = len(items)
    pending: list[tuple[int, int]] = [(start, size)]
    while pending:
        start, size = pending.pop()
        end = start + size - 1
        if size < 2 or (end < first or start > last):
            continue
        if size < _INSERTION:
            _insertion_sort(items, compare, start, end)
            continue
        less, greater = _split(items, compare, start, size)
        pending.append((end + 1 - greater, greater))
        pending.append((start, less))


def _insertion_sort(items: list[T], compare: Callable[[T, T], int], start: int, end: int) -> None:
    for at in range(start + 1, end + 1):
        place = at
        while place > start and compare(items[place - 1], items[place]) > 0:
            items[place - 1], items[place] = items[place], items[place - 1]
            place -= 1


def _median(items: list[T], compare: Callable[[T, T], int], a: int, b: int, c: int) -> int:
    if compare(items[a], items[b]) < 0:
        if compare(items[b], items[c]) < 0:
            return b
        return c if compare(items[a], items[c]) < 0 else a
    if compare(items[b], items[c]) > 0:
        return b
    return a if compare(items[a], items[c]) < 0 else c


def _split(items: list[T], compare: Callable[[T, T], int], start: int, size: int) -> tuple[int, int]:
    """Bring what is less than a pivot to the start and what is greater to the end; how many of each."""
    end = start + size - 1
    pivot = start + size // 2
    if size > _INSERTION:
        low, high = start, end
        if size > _NINTHER:
            step = size // 8
            low = _median(items, compare, low, low + step, low + 2 * step)
            pivot = _median(items, compare, pivot - step, pivot, pivot + step)
            high = _median(items, compare, high - 2 * step, high - step, high)
        pivot = _median(items, compare, low, pivot, high)
    items[start], items[pivot] = items[pivot], items[start]
    # Equal ones gather before `low_equal` and behind `high_equal` until all have been looked at.
    low_equal = up = start + 1
    high_equal = down = end
    while True:
        while up <= down:
            result = compare(items[up], items[start])
            if result > 0:
                break
            if result == 0:
                items[low_equal], items[up] = items[up], items[low_equal]
                low_equal += 1
            up += 1
        while up <= down:
            result = compare(items[down], items[start])
            if result < 0:
                break
            if result == 0:
                items[down], items[high_equal] = items[high_equal], items[down]
                high_equal -= 1
            down -= 1
        if up > down:
            break
        items[up], items[down] = items[down], items[up]
        up += 1
        down -= 1
    _exchange(items, start, up, min(low_equal - start, up - low_equal))
    _exchange(items, up, end + 1, min(high_equal - down, end - high_equal))
    return up - low_equal, high_equal - down


def _exchange(items: list[T], start: int, end: int, count: int) -> None:
    """Exchange `count` items from start on with as many before end."""
    for at in range(count):
        one, other = start + at, end - count + at
        items[one], items[other] = items[other], items[one]
