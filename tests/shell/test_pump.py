"""How the pump waits for the next frame before it lets trio wait."""

from __future__ import annotations

import trio

from appliance.shell.clock import Clock
from appliance.shell.link import Link
from appliance.shell.pump import NAP_US, SPIN_US, Pump, Spins
from appliance.stack.interface import Interface
from tests.shell.support import EPOCH_US, interface_config


class WaitingLink(Link):
    """Carries nothing, and writes down how it was waited on."""

    def __init__(self, spins_find: list[bool]) -> None:
        super().__init__(vnet_header=True, mtu=1500)
        self.spins_find = spins_find
        self.waits: list[str] = []

    def spin(self, wait_us: int) -> bool:
        assert 0 < wait_us <= SPIN_US
        self.waits.append("spin")
        return self.spins_find.pop(0)

    def nap(self, wait_us: int) -> bool:
        assert 0 < wait_us <= NAP_US
        self.waits.append("nap")
        return True

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    def read_batch(self, limit: int) -> list[bytes]:
        return []

    def write_batch(self, frames: list[bytes]) -> None:
        pass

    def close(self) -> None:
        pass


async def waits(spins_find: list[bool], count: int, **options: int) -> str:
    """What the pump does to wait `count` times, in the initials."""
    link = WaitingLink(spins_find)
    clock = Clock(EPOCH_US)
    async with trio.open_nursery() as nursery:
        pump = Pump(link, Interface(interface_config(1)), clock, nursery, **options)
        for _ in range(count):
            now = clock.now()
            pump.keeper_wakes_at = now + 1_000_000
            pump._wait_in_thread(link, now + 1_000_000)
    return "".join(what[0] for what in link.waits)


async def test_the_pump_spins_as_long_as_spins_find_something() -> None:
    assert await waits([True] * 6, 6) == "ssssss"


async def test_a_spin_that_finds_nothing_is_followed_by_a_nap_and_left_out_for_a_while() -> None:
    # One wait without after the first, three after the second; what is found begins anew.
    assert await waits([False, False, True, False, True], 9) == "sn" + "n" + "sn" + "nnn" + "s" + "sn" + "n"


async def test_without_spins_the_pump_naps() -> None:
    assert await waits([], 3, spin_us=0) == "nnn"


async def test_without_naps_the_pump_does_not_spin_either() -> None:
    assert await waits([], 3, nap_us=0) == ""


def test_spins_that_never_find_anything_become_rare() -> None:
    spins = Spins()
    begun = 0
    for _ in range(10_000):
        if spins.is_next():
            begun += 1
            spins.ended(has_found=False)
    # 2, 4, 8 … 256 waits each, then one in 256.
    assert begun == 8 + (10_000 - 510) // 256 + 1


def test_one_spin_that_finds_something_makes_them_frequent_again() -> None:
    spins = Spins()
    for _ in range(1000):
        if spins.is_next():
            spins.ended(has_found=False)
    while not spins.is_next():
        pass
    spins.ended(has_found=True)
    assert spins.is_next()
    spins.ended(has_found=False)
    assert [spins.is_next() for _ in range(3)] == [False, True, True]
