"""The clock under trio's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from appliance.shell.clock import Clock, trio_time
from appliance.stack.timebase import NEVER

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_sleeper_sees_its_deadline_as_reached(autojump_clock: MockClock) -> None:
    """For many deadlines, at an offset where doubles are coarse: woken early it would spin for ever."""
    autojump_clock.jump(987_654.321)
    clock = Clock(0)
    deadline = clock.now()
    for step in range(1, 3000):
        deadline += step
        with trio.CancelScope(deadline=trio_time(deadline)):
            await trio.sleep_forever()
        assert clock.now() >= deadline


async def test_never_is_never(autojump_clock: MockClock) -> None:
    assert trio_time(NEVER) == trio_time(NEVER + 1) == float("inf")


async def test_fixed_wall_clock_advances_with_trios(autojump_clock: MockClock) -> None:
    clock = Clock(1_000_000)
    await trio.sleep(2.5)
    clock.resync()
    assert clock.unix_now() == pytest.approx(3_500_000, abs=1)


async def test_resync_follows_a_stepped_wall_clock(autojump_clock: MockClock) -> None:
    wall = 5_000_000
    clock = Clock(lambda: wall)
    assert clock.unix_now() == pytest.approx(5_000_000, abs=1)
    wall = 9_000_000
    assert clock.unix_now() == pytest.approx(5_000_000, abs=1)
    clock.resync()
    assert clock.unix_now() == pytest.approx(9_000_000, abs=1)
