"""The wire without namespaces: what becomes of each frame, and frames through a process of its own."""

from __future__ import annotations

import itertools
import os
import select
from typing import TYPE_CHECKING

import pytest

from netns.wire import Direction, Impairments, Wire, frame_pipe

if TYPE_CHECKING:
    import socket

MS = 1_000_000  # ns


def numbered(count: int, size: int = 1000) -> list[bytes]:
    """Frames of IPv4 that tell themselves apart."""
    return [
        b"\0" * 12 + b"\x08\x00" + number.to_bytes(4, "big") + b"\0" * (size - 18) for number in range(count)
    ]


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[14:18], "big")


def fates(direction: Direction, frames: list[bytes], every_ns: int = MS) -> list[int]:
    """Numbers of the frames that arrive, in order, when one enters every `every_ns`."""
    arrived = []
    for index, frame in enumerate(frames):
        direction.take(frame, index * every_ns)
        arrived += direction.due(index * every_ns)
    while (at := direction.next_at()) is not None:
        arrived += direction.due(at)
    return [number_of(frame) for frame in arrived]


def test_delay_and_rate_give_the_time_of_arrival() -> None:
    direction = Direction(Impairments(rate_bps=8_000_000, delay_us=10_000), 0, "forth")
    first, second = numbered(2)
    direction.take(first, 0)
    direction.take(second, 0)
    # 1000 bytes at 1 MB/s take 1 ms, and the second waits for the first.
    assert direction.next_at() == 11 * MS
    assert direction.due(11 * MS - 1) == []
    assert direction.due(11 * MS) == [first]
    assert direction.next_at() == 12 * MS
    assert direction.due(12 * MS) == [second]
    assert direction.next_at() is None


def test_line_is_never_faster_than_its_rate_when_the_clock_jumps() -> None:
    direction = Direction(Impairments(rate_bps=8_000_000), 0, "forth")
    for frame in numbered(100):
        direction.take(frame, 5 * MS)
    assert len(direction.due(55 * MS)) == 50


def test_queue_limit_drops_the_tail() -> None:
    direction = Direction(Impairments(rate_bps=8_000_000, queue_bytes=3_000), 0, "forth")
    arrived = fates(direction, numbered(10), every_ns=0)
    # The first is on the line, which a byte count takes for waiting as well, three kB in all.
    assert arrived == [0, 1, 2]
    assert direction.counts["dropped_queue_full"] == 7


def test_every_nth_is_lost() -> None:
    direction = Direction(Impairments(drop_every=3), 0, "forth")
    assert fates(direction, numbered(9)) == [0, 1, 3, 4, 6, 7]


def test_loss_has_its_probability_and_its_seed() -> None:
    frames = numbered(10_000, 60)
    one, again, other = (
        fates(Direction(Impairments(loss=0.03), seed, "forth"), frames) for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    assert 9_600 < len(one) < 9_800


def test_fate_of_a_frame_does_not_depend_on_queue_or_rate() -> None:
    frames = numbered(2_000, 60)
    free = fates(Direction(Impairments(loss=0.1), 5, "forth"), frames)
    shaped = fates(Direction(Impairments(loss=0.1, rate_bps=10_000_000, delay_us=7), 5, "forth"), frames)
    assert free == shaped


def test_burst_losses_come_in_runs() -> None:
    direction = Direction(Impairments(burst=(0.01, 0.25, 1.0)), 3, "forth")
    arrived = set(fates(direction, numbered(20_000, 60)))
    lost = [number for number in range(20_000) if number not in arrived]
    runs = sum(1 for number in lost if number - 1 in arrived or number == 0)
    assert 0.02 < len(lost) / 20_000 < 0.06  # 0.01 / (0.01 + 0.25)
    assert 3.0 < len(lost) / runs < 5.0  # 1 / 0.25


def test_reordered_frame_is_overtaken() -> None:
    direction = Direction(Impairments(reorder=0.1, reorder_us=5_000), 1, "forth")
    arrived = fates(direction, numbered(1_000))
    assert sorted(arrived) == list(range(1_000))
    assert arrived != sorted(arrived)
    late = [one - other for one, other in itertools.pairwise(arrived) if one > other + 1]
    assert late
    assert max(late) <= 6


def test_duplicate_arrives_twice() -> None:
    direction = Direction(Impairments(duplicate=1.0), 1, "forth")
    assert fates(direction, numbered(3)) == [0, 0, 1, 1, 2, 2]


def test_arp_is_spared() -> None:
    direction = Direction(Impairments(loss=1.0, delay_us=1), 1, "forth")
    arp = b"\xff" * 6 + b"\2" * 6 + b"\x08\x06" + b"\0" * 28
    direction.take(arp, 0)
    assert direction.due(1000) == [arp]


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.1}, {"delay_us": -1}, {"queue_bytes": 5}, {"burst": (0.1, 2.0, 0.1)}]
)
def test_impairments_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Impairments(**wrong)  # type: ignore[arg-type]


def _receive(end: socket.socket, count: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        assert select.select([end], [], [], 60)[0], f"{len(frames)} of {count} frames"
        frames.append(end.recv(2000))
    return frames


def test_wire_in_its_process_carries_both_ways_and_counts() -> None:
    left, left_end = frame_pipe(None)
    right, right_end = frame_pipe(None)
    with left, left_end, right, right_end:
        left.send(b"from before the wire")
        with Wire(left_end.fileno(), right_end.fileno(), Impairments(drop_every=2), seed=1) as wire:
            frames = numbered(8)
            for frame in frames:
                left.send(frame)
            assert _receive(right, 4) == frames[::2]
            right.send(frames[0])
            assert _receive(left, 1) == frames[:1]
        assert wire.counts is not None
        assert wire.counts["forth"]["taken"] == 8
        assert wire.counts["forth"]["lost"] == 4
        assert wire.counts["back"]["delivered"] == 1
        wire.close()
        os.fstat(left_end.fileno())  # the descriptors stay ours
